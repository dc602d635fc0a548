"""Web page and HTTP API: maps of rasters by one to four models, seen side by side (extra `serve`)."""
