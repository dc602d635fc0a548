"""Comparison of evaluated runs: the record, its findings and its tables."""
