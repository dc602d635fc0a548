"""Tile geometry: side of a tile, overlap of neighbours, tiles run at a time, and the one rule for their defaults.

A model has a geometry of its own, the one it was trained on. A user may ask for another tile, halo or batch
(:class:`~levelground.config.TileOptions`); :func:`choose_geometry` decides what holds then, for every command.
"""

import math
from dataclasses import dataclass

from levelground.config import TileOptions
from levelground.errors import ConfigError

MULTIPLE = 32
"""Sides of a network's input are multiples of this: five halvings, the stride of the deepest encoder feature."""

_BATCH_PIXELS = {"cpu": 2**20, "cuda": 2**23, "arrays": 2**18}
"""Pixels run at a time: more gain nothing, and cost memory. Engines other than torch (``arrays``) take 300 CPU-ms for a
tile of 512 px one at a time as four at a time, and 280 MiB against 890."""


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
        >>> tiles_at_once(512, "cpu"), tiles_at_once(0, "cuda")
        (4, 1)
    """
    room = _BATCH_PIXELS.get(device, _BATCH_PIXELS["cpu"])
    return max(1, room // (side * side)) if side else 1
