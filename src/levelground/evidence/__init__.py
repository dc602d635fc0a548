"""Counts -> intervals, tests and verdicts, for runs and for architectures."""
