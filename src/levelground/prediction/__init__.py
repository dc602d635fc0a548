"""Prediction on images and rasters of any size: windowed reading, resumable jobs, class maps, polygons, areas."""
