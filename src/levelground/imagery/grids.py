"""Grids of rasters: whether two lie on each other pixel by pixel, and how one is read onto the other.

Two grids are equal if their sizes are and no corner of one lies more than half a pixel from that of the other: then the
nearest pixel is the one at the same row and column everywhere. Equal grids are read as they are, others are refused or,
where that is asked for, brought onto the image's grid by nearest neighbour.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from levelground.imagery.gdal_files import raster_errors
from levelground.imagery.geotiff import Pixels, Window

Floats = NDArray[np.float64]
Transform = Sequence[float]
"""GDAL's six numbers in rasterio's order (a, b, c, d, e, f)."""

MAX_SHIFT_PX = 0.5
"""How far two grids may lie apart, in pixels, to be read as one."""

_CHUNK_PIXELS = 1 << 20  # pixels whose places are computed together
_MAX_READ_PIXELS = 1 << 24  # pixels that are read for one chunk, unless it is one pixel
_LATTICE_PX = 16  # places are transformed at every 16th pixel, and interpolated where that is as good
_TOLERANCE_PX = 0.02
_STEP_PX = 100  # over which the ground is measured
_METRE = 0.01  # by which a map's metre may differ from the ground's
_EDGE = 1e-6  # a centre on an edge belongs to the pixel after it, whatever the last bits


class Grid(Protocol):
    """Size, place and coordinate system of a raster, as its header says them."""

    @property
    def height(self) -> int:
        """Rows."""
        ...

    @property
    def width(self) -> int:
        """Columns."""
        ...

    @property
    def transform(self) -> tuple[float, ...] | None:
        """Place; ``None`` where it is not known."""
        ...

    @property
    def crs(self) -> str | None:
        """Coordinate system; ``None`` where it is not known."""
        ...


def off_grid(own: Grid, other: Grid) -> str | None:
    """Say in what one raster does not lie on another; ``None`` where it does, pixel on pixel.

    Args:
        own: Grid of the raster in question.
        other: Grid that it should lie on.
    Returns:
        Such as ``has 8 × 6 pixels``, to follow the raster's name. Without a place only sizes are compared, without a
        coordinate system only size and place.
    """
    size = other.width, other.height
    if (own.width, own.height) != size:
        return f"has {own.width} × {own.height} pixels, not {size[0]} × {size[1]} (width × height)"
    if own.transform is None or other.transform is None:
        return None
    apart = grid_distance_px(own.transform, other.transform, size)
    if apart > MAX_SHIFT_PX:
        return f"lies {apart:.6g} pixels away, or has another pixel size or direction of rows"
    if own.crs and other.crs and own.crs != other.crs:
        far = system_distance_px(own.crs, other.crs, other.transform, size)
        if far > MAX_SHIFT_PX:
            return f"is in {own.crs[:60]}, not in {other.crs[:60]}: {far:.6g} pixels apart"
    return None


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
    return _corner_distance([on_map(own, corner) for corner in corners(size)], other, size)


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
    places = tuple(on_map(transform, corner) for corner in corners(size))
    return _corner_distance(list(moved(own, other, places)), transform, size)


@lru_cache(maxsize=4096)
def moved(own: str, other: str, places: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """Bring places from one coordinate system into another.

    Args:
        own: System of the places.
        other: The other system. Where one of the two is not a system of the earth, both are taken for one.
        places: x and y of each.
    Returns:
        The places in the other system; infinite where they cannot be brought there.
    """
    from rasterio.crs import CRS
    from rasterio.warp import transform

    try:
        first, second = CRS.from_string(own), CRS.from_string(other)
        if first == second or not (is_on_earth(own) and is_on_earth(other)):
            return places
        x, y = transform(first, second, [place[0] for place in places], [place[1] for place in places])
    except raster_errors():
        return ((math.inf, math.inf),) * len(places)
    return tuple(zip(x, y, strict=True))


def ground_distance_m(grid: Grid) -> float | None:
    """Return the ground sample distance in the middle of a raster, metres on a sphere; ``None`` without a place."""
    if grid.transform is None or grid.crs is None or not is_on_earth(grid.crs):
        return None
    column, row = grid.width / 2, grid.height / 2
    places = [on_map(grid.transform, corner) for corner in ((column, row), (column + 1, row), (column, row + 1))]
    (x, y), *others = moved(grid.crs, "EPSG:4326", tuple(places))
    if not all(map(math.isfinite, (x, y, *others[0], *others[1]))):
        return None
    metre = math.radians(1) * 6_371_009
    (a, b), (c, d) = (((there - x) * metre * math.cos(math.radians(y)), (up - y) * metre) for there, up in others)
    return abs(a * d - b * c) ** 0.5 or None


def metres_per_pixel(grid: Grid, row: float, col: float) -> tuple[float, float] | None:
    """Return how far rows and columns of an image lie apart on the WGS84 ellipsoid; ``None`` without a place.

    Where the map's metres are the ground's to a hundredth, as in UTM, they are the map's.

    Args:
        grid: The image's grid.
        row: Where to measure.
        col: Where to measure.
    """
    if grid.transform is None or grid.crs is None or not is_on_earth(grid.crs):
        return None
    corners = ((col, row), (col, row + _STEP_PX), (col + _STEP_PX, row))
    on_plane = np.array([on_map(grid.transform, corner) for corner in corners])
    places = np.array(moved(grid.crs, "EPSG:4326", tuple(map(tuple, on_plane.tolist()))), np.float64)
    if not np.isfinite(places).all():
        return None
    semi_major, e2 = 6_378_137.0, 0.006_694_379_990_14
    latitude = math.radians(float(places[0, 1]))
    bend = 1 - e2 * math.sin(latitude) ** 2
    east = semi_major / math.sqrt(bend) * math.cos(latitude)
    north = semi_major * (1 - e2) / bend**1.5
    apart = np.radians(places[1:] - places[0])
    apart[:, 0] = (apart[:, 0] + math.pi) % (2 * math.pi) - math.pi
    ground = np.hypot(apart[:, 0] * east, apart[:, 1] * north) / _STEP_PX
    own = np.hypot(*(on_plane[1:] - on_plane[0]).T) / _STEP_PX
    down, across = np.where(np.abs(own / ground - 1) < _METRE, own, ground).tolist()
    return down, across


def corners(size: tuple[int, int]) -> list[tuple[int, int]]:
    """List the corners of a grid of a width and height as columns and rows."""
    return [(column, row) for column in (0, size[0]) for row in (0, size[1])]


def on_map(transform: Transform, corner: tuple[float, float]) -> tuple[float, float]:
    """Return the place of a column and row."""
    a, b, c, d, e, f = transform
    return a * corner[0] + b * corner[1] + c, d * corner[0] + e * corner[1] + f


def inverse(transform: Transform) -> tuple[float, float, float, float, float, float]:
    """Return the transform from places to columns and rows; not a number where pixels have no area."""
    a, b, c, d, e, f = transform
    area = a * e - b * d or math.nan
    return e / area, -b / area, (b * f - e * c) / area, -d / area, a / area, (d * c - a * f) / area


def _corner_distance(places: Sequence[tuple[float, float]], grid: Transform, size: tuple[int, int]) -> float:
    """Return the largest distance along rows or columns between places and the corners of a grid, in its pixels."""
    worst, back = 0.0, inverse(grid)
    for place, (column, row) in zip(places, corners(size), strict=True):
        across, along = on_map(back, place)
        if not (math.isfinite(across) and math.isfinite(along)):
            return math.inf
        worst = max(worst, abs(across - column), abs(along - row))
    return round(worst, 6)


def overlap(own: Grid, other: Grid) -> bool:
    """Tell whether any pixel of one raster lies on another, looked at in up to 64 × 64 places."""
    assert other.transform is not None
    a, b, c, d, e, f = other.transform
    height, width = min(64, other.height), min(64, other.width)
    down, across = other.height / height, other.width / width
    lattice = _Part(height, width, (a * across, b * down, c, d * across, e * down, f), other.crs)
    rows, cols = source_pixels(own, lattice, (0, 0, height, width))
    return bool(((rows >= 0) & (rows < own.height) & (cols >= 0) & (cols < own.width)).any())


@dataclass(frozen=True)
class _Part:
    """A grid that was made of another."""

    height: int
    width: int
    transform: tuple[float, ...] | None
    crs: str | None


def part_of(grid: Grid, window: Window) -> Grid:
    """Return the grid of a window of a raster that has a place."""
    assert grid.transform is not None
    row, col, height, width = window
    a, b, _, d, e, _ = grid.transform
    x, y = on_map(grid.transform, (col, row))
    return _Part(height, width, (a, b, x, d, e, y), grid.crs)


def read_onto(
    read: Callable[[Window], Pixels], source: Grid, target: Grid, window: Window | None, fill: float = 0
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Read a raster onto the grid of another: each pixel takes the value of the one that holds its centre.

    No more is held in memory than the result and some strips of the source.

    Args:
        read: Reads a window of the source, ``(H, W)`` or ``(H, W, C)``.
        source: Grid of the source; both have a place. Without coordinate systems both are taken for one.
        target: Grid of the other raster.
        window: Row, column, height and width on the target; ``None`` is all of it.
        fill: Value where the source does not reach.
    Returns:
        Values on the target, and ``(H, W)``, true where the source does not reach.
    """
    top, left, height, width = window or (0, 0, target.height, target.width)
    sample = read((0, 0, 1, 1))
    values = np.full((height, width, *sample.shape[2:]), fill, sample.dtype)
    outside = np.ones((height, width), np.bool_)
    high = max(1, _CHUNK_PIXELS // width)
    chunks = [(top + row, left, min(high, height - row), width) for row in range(0, height, high)]
    while chunks:
        chunk = chunks.pop()
        rows, cols = source_pixels(source, target, chunk)
        inside = (rows >= 0) & (rows < source.height) & (cols >= 0) & (cols < source.width)
        if not inside.any():
            continue
        first, last = (rows[inside].min(), cols[inside].min()), (rows[inside].max(), cols[inside].max())
        part = (int(first[0]), int(first[1]), int(last[0] - first[0]) + 1, int(last[1] - first[1]) + 1)
        if part[2] * part[3] > _MAX_READ_PIXELS and chunk[2] * chunk[3] > 1:
            chunks += _halves(chunk)
            continue
        place = np.s_[chunk[0] - top : chunk[0] - top + chunk[2], chunk[1] - left : chunk[1] - left + chunk[3]]
        values[place][inside] = read(part)[rows[inside] - part[0], cols[inside] - part[1]]
        outside[place] = ~inside
    return values, outside


def _halves(chunk: Window) -> list[Window]:
    """Cut a window in two along its longer side."""
    row, col, height, width = chunk
    if height >= width:
        return [(row, col, height // 2, width), (row + height // 2, col, height - height // 2, width)]
    return [(row, col, height, width // 2), (row, col + width // 2, height, width - width // 2)]


def source_pixels(source: Grid, target: Grid, window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the pixel of one grid that holds the centre of each pixel of another.

    Args:
        source: Grid of the pixels that are looked for.
        target: Grid of the centres.
        window: Row, column, height and width on the target.
    Returns:
        Rows and columns on the source, ``(H, W)`` each; they may lie outside it. -1 where a place cannot be brought
        into its coordinate system.
    """
    assert source.transform is not None
    assert target.transform is not None
    row, col, height, width = window
    back = inverse(source.transform)
    down, across = (start + 0.5 + np.arange(n, dtype=np.float64) for start, n in ((row, height), (col, width)))
    cols, rows = np.meshgrid(across, down)
    if source.crs and target.crs and source.crs != target.crs:
        wrap = 360 / abs(source.transform[0]) if in_degrees(source.crs) and source.transform[0] else None
        x, y = _transformed(source.crs, target.crs, target.transform, back, (down, across))
        if wrap:  # the same meridian may be counted from -180 or from 0
            x = np.where((x < 0) | (x >= source.width), np.mod(x, wrap), x)
    else:
        x, y = on_grid(back, *on_grid(target.transform, cols, rows))
    found = []
    for values in (y, x):
        sound = np.isfinite(values)
        found.append(np.where(sound, np.floor(np.where(sound, values, 0) + _EDGE), -1).astype(np.int64))
    return found[0], found[1]


def on_grid(transform: Transform, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Apply a transform to many places at once, as :func:`on_map` does to one."""
    a, b, c, d, e, f = transform
    return a * x + b * y + c, d * x + e * y + f


def is_on_earth(crs: str) -> bool:
    """Tell whether a coordinate system has a place on the earth; engineering and unknown systems have none."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        system = CRS.from_string(crs)
    except CRSError:
        return False
    return bool(system.is_projected or system.is_geographic)


def in_degrees(crs: str) -> bool:
    """Tell whether a coordinate system counts degrees."""
    from rasterio.crs import CRS

    return bool(CRS.from_string(crs).is_geographic)


def _transformed(
    source: str, target: str, place: Transform, back: Transform, centres: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Return columns and rows on the source of the target's rows and columns, interpolated where that is as good."""
    down, across = centres

    def exact(rows: Floats, cols: Floats) -> Floats:
        grid = np.meshgrid(cols, rows)
        x, y = on_grid(place, *grid)
        places = moved.__wrapped__(target, source, tuple(zip(x.ravel().tolist(), y.ravel().tolist(), strict=True)))
        moved_x, moved_y = np.array(places, np.float64).reshape(*x.shape, 2).transpose(2, 0, 1)
        with np.errstate(invalid="ignore"):
            return np.stack(on_grid(back, moved_x, moved_y))

    knots = [np.unique(np.append(side[::_LATTICE_PX], side[-1])) for side in (down, across)]
    lattice = exact(*knots)
    middles = [(side[:-1] + side[1:]) / 2 if len(side) > 1 else side for side in knots]
    with np.errstate(invalid="ignore"):
        wrong = np.abs(_between(lattice, knots, middles) - exact(*middles)).max()
    x, y = _between(lattice, knots, [down, across]) if wrong <= _TOLERANCE_PX else exact(down, across)
    return x, y


def _between(lattice: Floats, knots: Sequence[Floats], wanted: Sequence[Floats]) -> Floats:
    """Interpolate values at knots, ``(2, n, m)``, bilinearly."""
    values = lattice
    for axis, (side, at) in enumerate(zip(knots, wanted, strict=True), start=1):
        if len(side) == 1:
            values = np.repeat(values, len(at), axis)
            continue
        low = np.clip(np.searchsorted(side, at, side="right") - 1, 0, len(side) - 2)
        weight = (at - side[low]) / (side[low + 1] - side[low])
        weight = weight[:, None] if axis == 1 else weight
        values = values.take(low, axis) * (1 - weight) + values.take(low + 1, axis) * weight
    return values
