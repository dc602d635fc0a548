"""Tile geometry and sliding-window inference, in memory that does not grow with the scene."""
