"""Tiles over a scene: their places, their overlaps, and the blending of their results into one scene.

Neighbouring tiles share at least ``2 * halo`` pixels. Over the shared pixels the later tile takes over from the earlier
one by a smoothstep, so a pixel near a tile's border, where a network sees least, counts least. Blending is a chain of
``old + share * (new - old)``: the shares of one pixel add up to 1 by construction, and where two tiles agree the result
is theirs to the last bit.

Tiles are spread evenly, not laid at a fixed step with the last one pushed back: the overlap is then nearly the same
everywhere, which keeps the rows that have to wait for the next tiles few (``2 * halo`` and a little) in any scene of
more than a few tiles.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ShapeError
from levelground.tile_geometry import MULTIPLE, TileGeometry

SYMMETRIES: tuple[tuple[int, bool], ...] = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""The eight symmetries of the square, quarter turns after a mirroring or none; the identity first."""


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels in a scene: its first row and column, and its size."""

    row: int
    col: int
    height: int
    width: int


@dataclass(frozen=True)
class Axis:
    """Tiles along one side of a scene.

    Attributes:
        length: Pixels of the scene along this side.
        tile: Pixels of a tile; more than ``length`` where the scene has to be padded.
        starts: First pixel of each tile, ascending.
    """

    length: int
    tile: int
    starts: tuple[int, ...]

    def extent(self, k: int) -> slice:
        """Return the pixels of the scene under tile ``k``."""
        return slice(self.starts[k], min(self.starts[k] + self.tile, self.length))

    def overlap(self, k: int) -> int:
        """Count the pixels that tile ``k`` shares with the tiles before it."""
        return self.starts[k - 1] + self.tile - self.starts[k] if k else 0

    def finished(self, k: int) -> int:
        """Count the pixels from the start of tile ``k`` that no later tile touches."""
        end = self.starts[k + 1] if k + 1 < len(self.starts) else self.length
        return end - self.starts[k]

    def first_touching(self, k: int) -> int:
        """Return the first tile that overlaps tile ``k``: pixels from tile ``k`` on depend on no earlier tile."""
        return next(first for first, start in enumerate(self.starts) if start + self.tile > self.starts[k])

    def share(self, k: int) -> NDArray[np.float32]:
        """Return the weight of tile ``k`` at each pixel of its overlap: a smoothstep from 0 to 1, ends excluded."""
        overlap = self.overlap(k)
        t = (np.arange(overlap, dtype=np.float64) + 0.5) / max(1, overlap)
        return (t * t * (3 - 2 * t)).astype(np.float32)


def tile_starts(length: int, tile: int, stride: int) -> tuple[int, ...]:
    """Spread as few tiles as ``stride`` allows evenly over ``length``.

    Args:
        length: Pixels to cover, at least 1.
        tile: Pixels of a tile, at least 1.
        stride: Largest step from one tile to the next, 1 to ``tile``.
    Returns:
        The first pixel of each tile: 0 first, ``length - tile`` last; only 0 where one tile covers all.
    Example:
        >>> tile_starts(100, 40, 32)
        (0, 30, 60)
        >>> tile_starts(30, 40, 32)
        (0,)
    """
    if min(length, tile, stride) < 1 or stride > tile:
        raise ShapeError(f"length {length}, tile {tile}, stride {stride}: expected 1 ≤ stride ≤ tile and length ≥ 1.")
    room = length - tile
    if room <= 0:
        return (0,)
    steps = -(-room // stride)
    return tuple(room * k // steps for k in range(steps + 1))


def plan_axis(length: int, geometry: TileGeometry) -> Axis:
    """Lay tiles along one side of a scene.

    Args:
        length: Pixels of the scene.
        geometry: Tile and halo; tile 0 makes one tile of the whole length, rounded up to a multiple of 32.
    Example:
        >>> plan_axis(100, TileGeometry(0, 0))
        Axis(length=100, tile=128, starts=(0,))
    """
    if geometry.tile == 0:
        return Axis(length, -(-length // MULTIPLE) * MULTIPLE, (0,))
    return Axis(length, geometry.tile, tile_starts(length, geometry.tile, geometry.tile - 2 * geometry.halo))


def windows(height: int, width: int, geometry: TileGeometry) -> list[Window]:
    """List the tiles of a scene in reading order, cropped to the scene.

    Args:
        height: Rows of the scene.
        width: Columns of the scene.
        geometry: Tile and halo.
    Example:
        >>> windows(40, 70, TileGeometry(40, 5))
        [Window(row=0, col=0, height=40, width=40), Window(row=0, col=30, height=40, width=40)]
    """
    rows, cols = (plan_axis(length, geometry) for length in (height, width))
    return [
        Window(row, col, min(rows.tile, height), min(cols.tile, width)) for row in rows.starts for col in cols.starts
    ]


def reflect_index(length: int, padded: int) -> NDArray[np.intp]:
    """Index ``length`` pixels so that they are continued by reflection to ``padded``.

    The border pixel is not repeated; a single pixel is continued by itself.

    Example:
        >>> reflect_index(4, 9).tolist(), reflect_index(1, 3).tolist()
        ([0, 1, 2, 3, 2, 1, 0, 1, 2], [0, 0, 0])
    """
    period = max(1, 2 * (length - 1))
    place = np.arange(padded) % period
    return np.minimum(place, period - place) if length > 1 else np.zeros(padded, np.intp)


def pad_tile(region: NDArray[np.generic], height: int, width: int) -> NDArray[np.generic]:
    """Continue a region by reflection, downwards and to the right, to the size of a tile.

    Args:
        region: ``(H, W, ...)``, H up to ``height`` and W up to ``width``.
        height: Rows wanted.
        width: Columns wanted.
    Returns:
        ``(height, width, ...)``; the region itself where it has that size already.
    """
    if region.shape[0] < height:
        region = region[reflect_index(region.shape[0], height)]
    if region.shape[1] < width:
        region = region[:, reflect_index(region.shape[1], width)]
    return region


def cut(scene: NDArray[np.generic], geometry: TileGeometry) -> NDArray[np.generic]:
    """Cut a scene into tiles, in reading order, small scenes padded by reflection.

    Args:
        scene: ``(H, W, ...)``.
        geometry: Tile and halo.
    Returns:
        ``(N, tile, tile, ...)``.
    """
    rows, cols = (plan_axis(length, geometry) for length in scene.shape[:2])
    regions = [scene[rows.extent(r), cols.extent(c)] for r in range(len(rows.starts)) for c in range(len(cols.starts))]
    return np.stack([pad_tile(region, rows.tile, cols.tile) for region in regions])


def stitch(tiles: NDArray[np.float32], height: int, width: int, geometry: TileGeometry) -> NDArray[np.float32]:
    """Blend tiles into the scene that :func:`cut` took them from.

    This is the plain form, for arrays in memory; :mod:`levelground.inference.sliding_window` does the same as tiles
    come in.

    Args:
        tiles: ``(N, tile, tile)`` float32, in reading order.
        height: Rows of the scene.
        width: Columns of the scene.
        geometry: Tile and halo.
    Returns:
        ``(height, width)`` float32.
    Raises:
        ShapeError: The number or size of tiles is not what this geometry gives.
    """
    rows, cols = (plan_axis(length, geometry) for length in (height, width))
    expected = (len(rows.starts) * len(cols.starts), rows.tile, cols.tile)
    if tiles.shape != expected:
        raise ShapeError(
            f"tiles are {tiles.shape}, a scene of {height} × {width} needs {expected}. Cut it with the same geometry."
        )
    grid = tiles.reshape(len(rows.starts), len(cols.starts), rows.tile, cols.tile)
    strips = [_blend([row[c].T for c in range(len(cols.starts))], cols).T for row in grid]
    return _blend(strips, rows)


def _blend(parts: list[NDArray[np.float32]], axis: Axis) -> NDArray[np.float32]:
    """Blend parts that follow each other along their first axis."""
    whole = np.empty((axis.length, *parts[0].shape[1:]), np.float32)
    for k, part in enumerate(parts):
        place, overlap = axis.extent(k), axis.overlap(k)
        old = whole[place][:overlap]
        share = axis.share(k).reshape(-1, *(1,) * (part.ndim - 1))
        mixed = old + share * (part[:overlap] - old)
        whole[place] = part[: place.stop - place.start]
        whole[place][:overlap] = mixed
    return whole
