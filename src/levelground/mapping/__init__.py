"""Whole rasters in, maps out: windowed reading, a job that survives being killed, GeoTIFF and its products."""
