"""Data sets: scenes that are verified, grouped, split and recorded in ``dataset.json``."""
