"""The comparison record -> figures and the one-file page; formats and draws, never computes."""
