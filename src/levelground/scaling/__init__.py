"""Runs of a study and maps of a prediction as jobs: of this machine, of a Ray cluster, or of Slurm."""
