"""Runs of a study as jobs: of this machine, of a Ray cluster, or of Slurm."""
