"""Tiles of finished maps, of the image and of the disagreement, read from overviews by rio-tiler.

A raster with a place on the ground is cut into Web Mercator tiles, which QGIS and web maps know as XYZ; one without
into tiles of its own pixels, halved from zoom to zoom. Tiles are 256 px, PNG, transparent without data.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from levelground.errors import SceneError, first_line
from levelground.imagery.gdal_files import open_raster, raster_errors
from levelground.imagery.geotiff import quietly
from levelground.imagery.legend import IGNORE

if TYPE_CHECKING:
    from rio_tiler.io import Reader

TILE = 256
"""Side of a tile, px."""

DIFFERS = (214, 40, 90)
"""Colour of pixels on which the models disagree."""

Scheme = Literal["WebMercatorQuad", "pixels"]
Colours = Mapping[int, tuple[int, int, int, int]]
"""Red, green, blue and opacity by value."""


@dataclass(frozen=True)
class TileGrid:
    """Where the tiles of a raster are.

    Attributes:
        scheme: ``WebMercatorQuad``, or ``pixels`` of the raster itself.
        min_zoom: The zoom at which the whole raster lies in few tiles.
        max_zoom: The zoom of its own resolution.
        bounds: Left, top, right and bottom in pixels of the largest zoom, from the upper left corner of tile 0/0.
    """

    scheme: Scheme
    min_zoom: int
    max_zoom: int
    bounds: tuple[float, float, float, float]


@contextmanager
def _opened(path: Path) -> "Iterator[Reader]":
    """Open a raster as rio-tiler's reader of the scheme that suits it.

    Raises:
        SceneError: It is damaged.
    """
    from rio_tiler.errors import NoOverviewWarning
    from rio_tiler.io import ImageReader, Reader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoOverviewWarning)
        try:
            with quietly(), open_raster(path) as raster:
                kind = Reader if raster.crs is not None else ImageReader
                with kind(str(path), dataset=raster) as reader:
                    yield reader
        except raster_errors() as error:
            raise SceneError(f"{path}: cannot be read ({first_line(error)}). Make the map again.") from error


def tile_grid(path: Path) -> TileGrid:
    """Return where the tiles of a raster are.

    Args:
        path: A raster that GDAL reads.
    """
    with _opened(path) as reader:
        if reader.crs is None:
            return TileGrid("pixels", 0, int(reader.maxzoom), (0.0, 0.0, float(reader.width), float(reader.height)))
        west, south, east, north = reader.get_geographic_bounds("EPSG:4326")
        size = TILE * 2.0**reader.maxzoom
        left, top = _mercator(west, north)
        right, bottom = _mercator(east, south)
        bounds = (left * size, top * size, right * size, bottom * size)
        span = max(bounds[2] - bounds[0], bounds[3] - bounds[1])
        smallest = max(0, int(reader.maxzoom) - max(0, math.ceil(math.log2(max(1.0, span / TILE)))))
        return TileGrid("WebMercatorQuad", smallest, int(reader.maxzoom), bounds)


def _mercator(longitude: float, latitude: float) -> tuple[float, float]:
    """Return a place on the square of the Web Mercator world, 0 to 1 from its upper left corner."""
    sine = math.sin(math.radians(max(-85.0511, min(85.0511, latitude))))
    return longitude / 360 + 0.5, 0.5 - math.atanh(sine) / (2 * math.pi)


def render_tile(path: Path, z: int, x: int, y: int, colours: Colours | None = None) -> bytes | None:
    """Render a tile as PNG.

    Args:
        path: The raster.
        z: Zoom.
        x: Column.
        y: Row.
        colours: Colours of the values of a class map, by the nearest pixel; ``None`` for an image of red, green, blue
            and opacity.
    Returns:
        The file, or ``None`` where the raster has no such tile.
    """
    from rio_tiler.errors import TileOutsideBounds

    with _opened(path) as reader:
        if reader.crs is None and z > reader.maxzoom:
            return None
        try:
            if colours is None:
                return bytes(_image_tile(reader, x, y, z))
            tile = reader.tile(x, y, z, tilesize=TILE, indexes=1, resampling_method="nearest")
        except TileOutsideBounds:
            return None
        known = {value: colour for value, colour in colours.items() if value != IGNORE}
        return bytes(
            tile.render(img_format="PNG", colormap={value: known.get(value, (0, 0, 0, 0)) for value in range(256)})
        )


def _image_tile(reader: "Reader", x: int, y: int, z: int) -> bytes:
    """Render three bands, transparent where the fourth is 0."""
    import numpy as np

    tile = reader.tile(x, y, z, tilesize=TILE, indexes=(1, 2, 3, 4), resampling_method="bilinear")
    pixels = np.where(tile.array.mask, 0, tile.array.data)
    tile.array = np.ma.MaskedArray(pixels[:3], np.broadcast_to(pixels[3:] < 128, pixels[:3].shape))
    return bytes(tile.render(img_format="PNG"))
