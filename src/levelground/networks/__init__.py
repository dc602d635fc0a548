"""Networks: built, given weights, run over whole scenes, and counted."""
