"""Statistics on counts: intervals, tests and verdicts, for runs and for architectures."""
