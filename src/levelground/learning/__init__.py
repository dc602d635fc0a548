"""Training: crops, losses' steps, the loop, exact resume, and planning what is to be trained."""
