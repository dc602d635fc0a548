"""Pixels and labels of image files: legends, layouts, decoding, the cache of decoded scenes."""
