"""Training: run specs, crops, losses, the step and the loop, checkpoints and exact resume."""
