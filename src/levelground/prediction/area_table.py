"""Tables of areas by class: pixels, share, and hectares where the ground is known."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ClassIndexError
from levelground.imagery.legend import IGNORE, Legend
from levelground.imagery.raster_reader import RasterReader
from levelground.prediction.ground_area import STRIP_ROWS, Basis, area_scale_factor, cell_areas
from levelground.records import atomic_path

COLUMNS = ("class", "name", "pixels", "share", "hectares", "basis")
"""Columns of a table of areas; the joint table of several inputs has ``input`` before them."""

_DISTORTED = 0.01  # beyond this departure a warning says that areas in the projection are not those on the ground


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
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
