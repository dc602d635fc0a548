"""Tile geometry: side and overlap of tiles, their defaults, their places in a scene, and how overlaps are blended.

A model has a geometry of its own, the one it was trained on. A user may ask for another tile, halo or batch
(:class:`~levelground.config.TileOptions`); :func:`choose_geometry` decides what holds then, for every command.

Neighbouring tiles share at least ``2 * halo`` pixels. Over the shared pixels the later tile takes over from the earlier
one by a smoothstep, so a pixel near a tile's border, where a network sees least, counts least. Blending is a chain of
``old + share * (new - old)``: the shares of one pixel add up to 1 by construction, and where two tiles agree the result
is theirs to the last bit.

Tiles are spread evenly, not laid at a fixed step with the last one pushed back: the overlap is then nearly the same
everywhere, which keeps the rows that have to wait for the next tiles few (``2 * halo`` and a little) in any scene of
more than a few tiles.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from levelground.config import TileOptions
from levelground.errors import ConfigError, ShapeError

MULTIPLE = 32
"""Sides of a network's input are multiples of this: five halvings, the stride of the deepest encoder feature."""

_BATCH_PIXELS = {"cpu": 2**20, "cuda": 2**23, "onnx": 2**18, "openvino": 1}
"""Pixels run at a time: more gain nothing, and cost memory. onnxruntime takes 300 CPU-ms for a tile of 512 px one at a
time as four at a time, and 280 MiB against 890; OpenVINO 37 for one of 256 px alone and 43 for one of four."""


@dataclass(frozen=True)
class TileGeometry:
    """Geometry of tiles: side, overlap, and number run at a time."""

    tile: int
    """Side of a tile, px; 0 takes a whole scene at once."""
    halo: int
    """Half the smallest overlap of neighbouring tiles, px."""
    batch: int = 1
    """Tiles run at a time; changes time and memory only."""

    def resized(self, tile: int) -> "TileGeometry":
        """Return the geometry for another tile: the same halo for the same tile, an eighth of any other tile.

        Example:
            >>> TileGeometry(512, 56).resized(256), TileGeometry(512, 56).resized(512)
            (TileGeometry(tile=256, halo=32, batch=1), TileGeometry(tile=512, halo=56, batch=1))
        """
        return self if tile == self.tile else TileGeometry(tile, tile // 8, self.batch)

    def check(self, *, multiple: int = MULTIPLE) -> None:
        """Refuse a geometry that cannot work, before anything is read.

        Args:
            multiple: What the network needs ``tile`` to be a multiple of.
        Raises:
            ConfigError: A negative value, a tile that is not a multiple, or a halo that leaves no step between tiles.
        """
        tile, halo = self.tile, self.halo
        if tile < 0 or halo < 0:
            raise ConfigError(
                f"--tile {tile} --halo {halo}: negative. Give 0 or more (tile 0 = the whole scene at once)."
            )
        if tile % multiple:
            near = max(multiple, round(tile / multiple) * multiple)
            raise ConfigError(f"--tile {tile}: the network needs a multiple of {multiple}. Pass --tile {near}.")
        if tile and 2 * halo >= tile:
            raise ConfigError(
                f"--halo {halo}: twice the halo leaves no step between tiles of {tile}. "
                f"Pass --halo {tile // 8} or less."
            )


OWN_TILES = TileOptions()
"""Nothing asked for: the model's own geometry."""


def choose_geometry(
    own: TileGeometry,
    asked: TileOptions = OWN_TILES,
    *,
    device: str = "cpu",
    multiple: int = MULTIPLE,
    shape: tuple[int, int] | None = None,
) -> TileGeometry:
    """Choose the geometry to run a model with: what is asked for, else the model's own.

    Args:
        own: The model's geometry.
        asked: What the user asks for.
        device: Kind of device, for the batch.
        multiple: What the network needs the tile to be a multiple of.
        shape: Rows and columns of the scene that the tile may be fitted to.
    Returns:
        The geometry; whole scenes have no halo.
    Raises:
        ConfigError: It cannot work.
    Example:
        >>> choose_geometry(TileGeometry(512, 56), TileOptions(tile=256))
        TileGeometry(tile=256, halo=32, batch=16)
    """
    tile = own.tile if asked.tile is None else asked.tile
    if asked.fit_tile and shape is not None and tile:
        halo = own.halo if asked.halo is None else asked.halo
        tile = fitted_tile(shape, TileGeometry(tile, halo), most_pixels=_BATCH_PIXELS.get(device, 0))
        return TileGeometry(tile, halo, asked.batch or tiles_at_once(tile, device))
    halo = own.resized(tile).halo if asked.halo is None else asked.halo
    geometry = TileGeometry(tile, halo if tile else 0, asked.batch or tiles_at_once(tile, device))
    geometry.check(multiple=multiple)
    return geometry


def fitted_tile(shape: tuple[int, int], own: TileGeometry, *, most_pixels: int) -> int:
    """Return the side of the tiles that cover a scene with the fewest pixels, the smallest of equals.

    Args:
        shape: Rows and columns of the scene.
        own: The model's tile, the smallest one considered but for a smaller scene's own size, and the halo.
        most_pixels: Pixels of the largest tile considered; at least a megapixel is.
    Example:
        >>> [fitted_tile((side, side), TileGeometry(512, 56), most_pixels=0) for side in (2448, 1024, 600, 300)]
        [896, 1024, 608, 320]
    """
    largest = math.isqrt(max(most_pixels, _BATCH_PIXELS["cpu"])) // MULTIPLE * MULTIPLE
    whole = -(-max(shape) // MULTIPLE) * MULTIPLE
    sides = [min(own.tile, whole), *range(own.tile + MULTIPLE, max(own.tile, largest) + 1, MULTIPLE)]

    def work(side: int) -> int:
        steps = [-(-max(0, length - side) // (side - 2 * own.halo)) + 1 for length in shape]
        return steps[0] * steps[1] * side * side

    return min((side for side in sides if side > 2 * own.halo), key=work, default=own.tile)


def tiles_at_once(side: int, device: str) -> int:
    """Return the number of tiles run at a time where none is asked for.

    Example:
        >>> tiles_at_once(512, "cpu"), tiles_at_once(0, "cuda"), tiles_at_once(256, "openvino")
        (4, 1, 1)
    """
    room = _BATCH_PIXELS.get(device, _BATCH_PIXELS["cpu"])
    return max(1, room // (side * side)) if side else 1


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
