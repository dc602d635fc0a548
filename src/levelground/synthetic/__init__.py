"""Synthetic land-cover scenes, generated from a seed."""
