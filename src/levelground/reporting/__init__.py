"""Report page, figures and displays of a comparison: formats and draws, computes no statistics."""
