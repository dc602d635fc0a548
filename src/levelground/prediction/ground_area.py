"""Ground coordinates of pixels and the area they cover, on a projection's plane or on the WGS84 ellipsoid."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from levelground.imagery.geotiff import RasterInfo

Floats = NDArray[np.float64]
Basis = Literal["plane", "ellipsoid", "none"]

SEMI_MAJOR_M, FLATTENING = 6378137.0, 1 / 298.257223563  # WGS84, NIMA TR8350.2, table 3.1
_ECCENTRICITY2 = FLATTENING * (2 - FLATTENING)
STRIP_ROWS = 512
"""Rows of a map that are read at a time: one row of its blocks."""
_STEP_PX = 8  # how far from the middle a projection's scale is measured


@dataclass(frozen=True)
class CellAreas:
    """Ground area of one pixel of each row.

    Attributes:
        basis: The surface: ``plane`` of the projection, ``ellipsoid`` (WGS84), or ``none``: unknown.
        row_m2: Area of one pixel of each row, ``(H,)``, in m²; ones (pixels) where it is unknown.
    """

    basis: Basis
    row_m2: Floats


def cell_areas(info: RasterInfo) -> CellAreas:
    """Compute the ground area of the pixels of each row.

    In a projected system it is the determinant of the transform times the square of its unit in metres; in a
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
    """Compute the area of the WGS84 ellipsoid from the equator to parallels, in m² per radian; negative in the south.

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


def area_scale_factor(info: RasterInfo) -> float:
    """Compute area in the projection divided by area on the ground, at the raster's middle; 1 without a projection.

    In Web Mercator it is 1 / cos² of the latitude; in UTM it lies between 0.999 and 1.002.
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
    """Convert rows and columns of the pixel grid to map coordinates; without a transform, to columns and rows."""
    a, b, c, d, e, f = info.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return a * cols + b * rows + c, d * cols + e * rows + f


def to_degrees(crs: str, xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
    """Convert map coordinates to longitudes and latitudes on WGS84, in degrees."""
    from rasterio.warp import transform

    lon, lat = transform(crs, "EPSG:4326", xs, ys)
    return np.asarray(lon, np.float64), np.asarray(lat, np.float64)
