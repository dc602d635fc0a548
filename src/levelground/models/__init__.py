"""Models: networks built and given weights, their metadata, and the backends that run them."""
