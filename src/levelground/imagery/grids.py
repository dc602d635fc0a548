"""Compare the grids of two rasters: how far apart their pixels lie on the ground, in pixels."""

import math
from collections.abc import Sequence
from functools import lru_cache

Transform = Sequence[float]
"""GDAL's six numbers in rasterio's order (a, b, c, d, e, f)."""


def grid_distance_px(own: Transform, other: Transform, size: tuple[int, int]) -> float:
    """Return how far the corners of two grids of one size and coordinate system lie apart, in pixels of the second.

    Args:
        own: Transform of the first.
        other: Transform of the second.
        size: Width and height of both.

    Example:
        >>> grid_distance_px((10, 0, 5, 0, -10, 0), (10, 0, 0, 0, -10, 0), (4, 4))
        0.5
    """
    return _corner_distance([_on_map(own, corner) for corner in _corners(size)], other, size)


def system_distance_px(own: str, other: str, transform: Transform, size: tuple[int, int]) -> float:
    """Return how far apart the same numbers in two coordinate systems lie on the ground, in pixels.

    Two spellings of one system are 0 apart. An engineering system, which has no place on the earth, is taken at its
    word. Systems that cannot be brought together are infinitely far apart.

    Args:
        own: System of the label raster.
        other: System of the image.
        transform: Transform of both, in the image's numbers.
        size: Width and height of both.
    """
    places = tuple(_on_map(transform, corner) for corner in _corners(size))
    moved = _moved(own, other, places)
    return 0.0 if moved is None else _corner_distance(moved, transform, size)


@lru_cache(maxsize=4096)
def _moved(own: str, other: str, places: tuple[tuple[float, float], ...]) -> list[tuple[float, float]] | None:
    """Bring places from one system into another; ``None`` where one of them is not a system of the earth."""
    import rasterio
    from rasterio._err import CPLE_BaseError  # a warp lets GDAL's own errors through
    from rasterio.crs import CRS
    from rasterio.warp import transform

    try:
        first, second = CRS.from_string(own), CRS.from_string(other)
        for system in (first, second):
            if not (system.is_projected or system.is_geographic):
                return None
        if first == second:
            return list(places)
        x, y = transform(first, second, [place[0] for place in places], [place[1] for place in places])
    except (rasterio.errors.RasterioError, rasterio.errors.CRSError, CPLE_BaseError):
        return [(math.inf, math.inf)] * len(places)
    return list(zip(x, y, strict=True))


def _corners(size: tuple[int, int]) -> list[tuple[int, int]]:
    """List the corners of a grid as columns and rows."""
    return [(column, row) for column in (0, size[0]) for row in (0, size[1])]


def _on_map(transform: Transform, corner: tuple[float, float]) -> tuple[float, float]:
    """Return the place of a column and row."""
    a, b, c, d, e, f = transform
    return a * corner[0] + b * corner[1] + c, d * corner[0] + e * corner[1] + f


def _corner_distance(places: Sequence[tuple[float, float]], grid: Transform, size: tuple[int, int]) -> float:
    """Return the largest distance along rows or columns between places and the corners of a grid, in its pixels."""
    a, b, c, d, e, f = grid
    area = a * e - b * d
    worst = 0.0
    for (x, y), (column, row) in zip(places, _corners(size), strict=True):
        if not (math.isfinite(x) and math.isfinite(y) and area):
            return math.inf
        across = (e * (x - c) - b * (y - f)) / area - column
        along = (a * (y - f) - d * (x - c)) / area - row
        worst = max(worst, abs(across), abs(along))
    return round(worst, 6)
