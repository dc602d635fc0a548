"""Scenes -> a data set that is ready: verified, grouped, split, recorded in ``dataset.json``."""
