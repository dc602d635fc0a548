"""Run models over labelled scenes and count what they get right."""
