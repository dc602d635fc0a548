"""Land-cover scenes made from a seed, for a machine that has no data."""
