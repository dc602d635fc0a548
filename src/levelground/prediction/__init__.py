"""Prediction on whole rasters: windowed reading, jobs that survive being killed, map files."""
