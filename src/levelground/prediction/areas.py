"""Areas on the ground: of pixels, on a projection's plane or on the WGS84 ellipsoid; of classes, and their tables."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ClassIndexError, RecordError, first_line
from levelground.escaping import csv_cell
from levelground.imagery.gdal_files import raster_errors
from levelground.imagery.geotiff import RasterInfo
from levelground.imagery.legend import IGNORE, Legend
from levelground.imagery.raster_reader import RasterReader
from levelground.reading import parse_csv, read_text
from levelground.records import atomic_path

Floats = NDArray[np.float64]
Basis = Literal["plane", "ellipsoid", "none"]

SEMI_MAJOR_M, FLATTENING = 6378137.0, 1 / 298.257223563  # WGS84, NIMA TR8350.2, table 3.1
_ECCENTRICITY2 = FLATTENING * (2 - FLATTENING)
JOINT_AREAS_FILE = "areas.csv"
"""The areas of all inputs, in the folder of outputs, where a call has several inputs."""

STRIP_ROWS = 512
"""Rows of a map that are read at a time: one row of its blocks."""
_STEP_PX = 8  # how far from the middle a projection's scale is measured

COLUMNS = ("class", "name", "pixels", "share", "hectares", "basis")
"""Columns of a table of areas; the joint table of several inputs has ``input`` before them."""

_DISTORTED = 0.01  # beyond this departure a warning says that areas in the projection are not those on the ground


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

    It is not a number where the projection does not reach the raster's middle. In Web Mercator it is
    1 / cos² of the latitude; in UTM it lies between 0.999 and 1.002.
    """
    if cell_areas(info).basis != "plane" or info.transform is None or info.crs is None:
        return 1.0
    row, col, step = info.height / 2, info.width / 2, float(_STEP_PX)
    rows, cols = np.array([row, row, row - step, row + step]), np.array([col - step, col + step, col, col])
    try:
        lon, lat = (np.radians(values) for values in to_degrees(info.crs, *to_map(info, rows, cols)))
    except raster_errors():
        return math.nan
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return math.nan
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


@dataclass(frozen=True)
class ClassAreas:
    """Areas of a class map by class.

    Attributes:
        legend: The classes.
        pixels: Pixels of each class, ``(K,)`` int64.
        nodata_pixels: Pixels without data.
        square_metres: Area of each class, ``(K,)``; ``None`` where the ground is not known.
        nodata_square_metres: Area without data; 0 where the ground is not known.
        basis: The surface that areas are measured on: ``plane`` of the projection, ``ellipsoid`` (WGS84), or ``none``.
        scale_factor: Area in the projection divided by area on the ground, at the map's middle.
    """

    legend: Legend
    pixels: NDArray[np.int64]
    nodata_pixels: int
    square_metres: NDArray[np.float64] | None
    nodata_square_metres: float
    basis: Basis
    scale_factor: float

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of each class among pixels with data, ``(K,)``; zeros where there are none."""
        return self.pixels / max(1, int(self.pixels.sum()))

    @property
    def hectares(self) -> NDArray[np.float64] | None:
        """Area of each class in hectares, ``(K,)``."""
        return None if self.square_metres is None else self.square_metres / 1e4

    def warning(self, name: str) -> str | None:
        """Return one line if areas in the projection differ from those on the ground by more than 1 %."""
        if self.basis != "plane" or abs(self.scale_factor - 1) <= _DISTORTED:
            return None
        return (
            f"{name}: its projection shows {self.scale_factor:.3g} times the ground's area, and so do the hectares. "
            "Reproject the map to UTM or an equal-area system for areas on the ground."
        )


def class_areas(classes: Path, legend: Legend) -> ClassAreas:
    """Measure the area of each class in a class map, some rows at a time.

    Args:
        classes: One band of legend indices, 255 without data.
        legend: Its classes.
    Raises:
        ClassIndexError: The map holds a value that is no class.
        SceneError: The map is damaged.
    """
    with RasterReader(classes) as reader:
        info = reader.info
        ground = cell_areas(info)
        pixels, area = np.zeros(256, np.int64), np.zeros(256)
        for first in range(0, info.height, STRIP_ROWS):
            rows = slice(first, min(info.height, first + STRIP_ROWS))
            strip = reader.read(rows, slice(0, info.width), [1])[..., 0]
            counts = np.stack([np.bincount(row, minlength=256) for row in strip])
            pixels += counts.sum(axis=0)
            area += ground.row_m2[rows] @ counts
    beyond = np.flatnonzero(pixels[legend.n_classes : IGNORE])
    if beyond.size:
        raise ClassIndexError(
            f"{classes}: holds class {legend.n_classes + beyond[0]}, which is none of {legend.name!r}, expected 0 to "
            f"{legend.n_classes - 1}. Give the legend that it was made with."
        )
    known = ground.basis != "none"
    return ClassAreas(
        legend=legend,
        pixels=pixels[: legend.n_classes],
        nodata_pixels=int(pixels[IGNORE]),
        square_metres=area[: legend.n_classes] if known else None,
        nodata_square_metres=float(area[IGNORE]) if known else 0.0,
        basis=ground.basis,
        scale_factor=area_scale_factor(info) if known else 1.0,
    )


def write_areas(path: Path, areas: ClassAreas) -> None:
    """Write one map's areas as CSV: a line for each class of the legend, and one for no data, which has no share.

    Args:
        path: The file, with the columns :data:`COLUMNS`; ``hectares`` is empty where the ground is not known.
        areas: The areas.
    Raises:
        DiskError: The disk is full.
    """
    known, hectares, shares = areas.basis != "none", areas.hectares, areas.shares
    rows: list[list[object]] = []
    for entry in areas.legend.classes:
        covered = "" if hectares is None else f"{hectares[entry.index]:.4f}"
        share = f"{shares[entry.index]:.6f}"
        rows.append([entry.index, entry.name, areas.pixels[entry.index], share, covered, areas.basis])
    covered = f"{areas.nodata_square_metres / 1e4:.4f}" if known else ""
    rows.append([IGNORE, "no data", areas.nodata_pixels, "", covered, areas.basis])
    _write(path, COLUMNS, rows)


def join_areas(path: Path, tables: Sequence[tuple[str, Path]]) -> None:
    """Join the tables of several inputs, with a first column ``input``.

    Lines of other inputs that the file holds already are kept, so that it covers all maps of its folder.

    Args:
        path: The joint file.
        tables: Name of each input, and its table as :func:`write_areas` wrote it.
    Raises:
        DiskError: The disk is full.
    """
    names = {name for name, _ in tables}
    rows: list[list[object]] = []
    if path.exists():
        rows += [list(row) for row in _read(path) if len(row) == len(COLUMNS) + 1 and row[0] not in names]
    for name, table in tables:
        rows += [[name, *row] for row in _read(table)]
    _write(path, ("input", *COLUMNS), rows)


def _read(path: Path) -> list[list[str]]:
    """Read the lines below the header."""
    try:
        return parse_csv(read_text(path))[1:]
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read ({first_line(error)}). Remove it; it is written anew.") from error


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([list(map(csv_cell, row)) for row in (header, *rows)])
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
