"""Adopt other tools' weights, predicted masks and training histories as runs."""
