"""Evaluated runs -> the comparison record, its sentences and its tables."""
