"""Where pixels lie on the ground, how much of it they cover, and GDAL's sieve.

The only module of this package that imports rasterio.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from levelground.errors import DiskError, first_line
from levelground.files import set_room_aside
from levelground.imagery.geotiff import RasterInfo, quietly, raster_writer
from levelground.imagery.legend import IGNORE, LabelMap
from levelground.imagery.raster_reader import RasterReader

Floats = NDArray[np.float64]
Basis = Literal["plane", "ellipsoid", "none"]

SEMI_MAJOR_M, FLATTENING = 6378137.0, 1 / 298.257223563  # WGS84, NIMA TR8350.2, table 3.1
_ECCENTRICITY2 = FLATTENING * (2 - FLATTENING)
STRIP_ROWS = 512
"""Rows read at a time: those of one row of blocks of a map."""
_STEP_PX = 8  # how far from the middle the stretch of a projection is measured


@dataclass(frozen=True)
class CellAreas:
    """How much ground a pixel covers.

    Attributes:
        basis: ``plane``: of the projection's plane. ``ellipsoid``: of the WGS84 ellipsoid. ``none``: unknown.
        row_m2: Area of one pixel of each row, ``(H,)``, in m²; ones (pixels) where it is unknown.
    """

    basis: Basis
    row_m2: Floats


def cell_areas(info: RasterInfo) -> CellAreas:
    """How much ground the pixels of each row cover.

    In a projected system that is the determinant of the transform times the square of its unit in metres; in a
    geographic system the area of the cell between two parallels and two meridians.

    Args:
        info: Size, coordinate system and place of a raster. Without the latter two, or with rows that do not run along
            parallels, areas are unknown.
    """
    from rasterio.crs import CRS

    unknown = CellAreas("none", np.ones(info.height))
    if info.crs is None or info.transform is None:
        return unknown
    a, b, _, d, e, f = info.transform
    system = CRS.from_string(info.crs)
    if system.is_projected:
        return CellAreas("plane", np.full(info.height, abs(a * e - b * d) * system.linear_units_factor[1] ** 2))
    if not system.is_geographic or b or d:
        return unknown
    radians = system.units_factor[1]
    edges = np.clip((f + e * np.arange(info.height + 1)) * radians, -math.pi / 2, math.pi / 2)
    return CellAreas("ellipsoid", np.abs(np.diff(zone_area(edges))) * abs(a) * radians)


def zone_area(latitudes: Floats) -> Floats:
    """Area of the WGS84 ellipsoid from the equator to parallels, in m² per radian of longitude; negative in the south.

    With a the semi-major axis, e the eccentricity and φ the geodetic latitude it is a²·q/2, where
    q = (1 − e²)·[sin φ / (1 − e²·sin² φ) + artanh(e·sin φ) / e].
    Source: Snyder 1987, *Map Projections*, USGS Professional Paper 1395, equation 3-12; his logarithm is an artanh.

    Args:
        latitudes: Geodetic latitudes in radians, ``(N,)``.

    Example:
        >>> float(4 * np.pi * zone_area(np.array([np.pi / 2]))[0] / 1e12)  # the whole earth, in million km²
        510.0656217240...
    """
    e2, e, sine = _ECCENTRICITY2, math.sqrt(_ECCENTRICITY2), np.sin(latitudes)
    q = (1 - e2) * (sine / (1 - e2 * sine**2) + np.arctanh(e * sine) / e)
    return np.asarray(SEMI_MAJOR_M**2 * q / 2)


def plane_stretch(info: RasterInfo) -> float:
    """How many times the ground's area a projection shows, at the raster's middle; 1 where there is no projection.

    Web Mercator shows 1 / cos² of the latitude times the ground; UTM between 0.999 and 1.002 times.
    """
    if cell_areas(info).basis != "plane" or info.transform is None or info.crs is None:
        return 1.0
    row, col, step = info.height / 2, info.width / 2, float(_STEP_PX)
    rows, cols = np.array([row, row, row - step, row + step]), np.array([col - step, col + step, col, col])
    lon, lat = (np.radians(values) for values in to_degrees(info.crs, *to_map(info, rows, cols)))
    turn = (lon[1] - lon[0]) * (lat[3] - lat[2]) - (lon[3] - lon[2]) * (lat[1] - lat[0])
    middle = lat.mean()
    # Radii of curvature along the meridian and across it: Snyder 1987, equations 4-18 and 4-20.
    across = SEMI_MAJOR_M / math.sqrt(1 - _ECCENTRICITY2 * math.sin(middle) ** 2)
    along = across * (1 - _ECCENTRICITY2) / (1 - _ECCENTRICITY2 * math.sin(middle) ** 2)
    ground = abs(turn) * along * across * math.cos(middle) / (2 * step) ** 2
    return float(cell_areas(info).row_m2[0] / ground) if ground > 0 else math.nan


def to_map(
    info: RasterInfo, rows: Floats | NDArray[np.int64], cols: Floats | NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Map coordinates of places on the pixel grid; without a place on the ground, columns and rows themselves."""
    a, b, c, d, e, f = info.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return a * cols + b * rows + c, d * cols + e * rows + f


def to_degrees(crs: str, xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
    """Longitudes and latitudes on WGS84, in degrees, of coordinates of another system."""
    from rasterio.warp import transform

    lon, lat = transform(crs, "EPSG:4326", xs, ys)
    return np.asarray(lon, np.float64), np.asarray(lat, np.float64)


def merge_small(classes: Path, folder: Path, *, smallest_px: int, tick: Callable[[], None] | None = None) -> LabelMap:
    """Give patches that are too small to the largest of their neighbours, by GDAL's sieve.

    The sieve holds a few tens of bytes for each patch and some rows of pixels; its result lies in a file that is mapped
    into memory, which the system writes out as it needs room. Pixels without data are neighbours of nobody; a patch
    that no chain of largest neighbours leads out of stays.

    Args:
        classes: A class raster.
        folder: Where the result, a byte a pixel, and a mask are put.
        smallest_px: Patches of fewer pixels, which touch by their sides, are merged.
        tick: Called after each strip of the mask.
    Returns:
        The merged classes, ``(H, W)``, over a file in ``folder``.
    Raises:
        DiskError: The disk is full.
    """
    import rasterio
    from rasterio import features

    mask, merged = folder / "mask.tif", folder / "merged.raw"
    with RasterReader(classes) as reader:
        info = RasterInfo(reader.info.height, reader.info.width, 1, "uint8")
        with raster_writer(mask, info, tile=512) as writer:
            for row in range(0, info.height, STRIP_ROWS):
                strip = slice(row, min(info.height, row + STRIP_ROWS))
                writer.write(row, 0, (reader.read(strip, slice(0, info.width), [1]) != IGNORE).astype(np.uint8))
                if tick:
                    tick()
    try:
        with merged.open("wb") as file:
            set_room_aside(file, info.height * info.width)
        result = np.memmap(merged, np.uint8, "r+", shape=(info.height, info.width))
        with quietly():
            source, known = rasterio.open(classes), rasterio.open(mask)
        with source, known:
            size = min(smallest_px, info.height * info.width)  # rasterio refuses more
            features.sieve(rasterio.band(source, 1), size, out=result, mask=rasterio.band(known, 1), connectivity=4)
    except (OSError, rasterio.errors.RasterioError) as error:
        raise DiskError(f"{merged}: cannot be written ({first_line(error)}). Free space there.") from error
    return result
