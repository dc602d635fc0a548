"""levelground compares land-cover segmentation models on level ground.

Pixels flow one way: imagery → tiles → model → confusion counts → comparison → report. Each arrow is a record on disk,
so any stage can be repeated, inspected or replaced. The commands live in :mod:`levelground.commands`.
"""

__version__ = "0.1.0"
