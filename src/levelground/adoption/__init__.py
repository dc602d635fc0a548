"""Make runs of what other tools left: weights, predicted masks, training histories."""
