"""Files on disk -> pixels and labels: legends, layouts, decoding, the cache of decoded scenes."""
