"""Polygons of a class map in a GeoPackage or GeoJSON file, written as they are found.

A polygon is one connected component: pixels of one class that touch by their sides (4-connected, as GDAL's polygonize
has it; components joined by corners would make polygons that touch themselves). Its border follows the pixels.
"""

import json
import math
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelground.console import Bar, progress_bar
from levelground.errors import ClassIndexError, ConfigError, DiskError, first_line
from levelground.files import set_room_aside
from levelground.imagery.gdal_files import raster_errors
from levelground.imagery.geotiff import RasterInfo, bounded_cache, quietly, raster_writer
from levelground.imagery.legend import IGNORE, LabelMap, Legend
from levelground.imagery.raster_reader import RasterReader
from levelground.prediction.areas import STRIP_ROWS, CellAreas, cell_areas, to_degrees, to_map
from levelground.prediction.styles import add_style, polygon_style, write_style
from levelground.prediction.vectorize import Components, Ring, Rings, cut_at_antimeridian, find_components
from levelground.records import atomic_path
from levelground.wording import gettext

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Fields = dict[str, NDArray[Any]]
Append = Callable[[Rings, Fields], None]

STRIP_PX = 2**21
"""Pixels that are traced at a time."""

_BREAK_PX = 64  # an edge this long, bent by another projection, leaves its chord by under a hundredth of a pixel
_LAYER, _DECIMALS = "classes", 7  # 7 decimals of a degree are 1 cm
_HELD_POINTS = 2**20  # points that are collected before they are written


@dataclass(frozen=True)
class PolygonCount:
    """Numbers of polygons written, and of components left out: too small, and without a large neighbour."""

    written: int
    left_out: int


def write_polygons(classes: Path, legend: Legend, out: Path, *, smallest: float = 0.0) -> PolygonCount:
    """Write the connected components of a class map as polygons; the file appears when it is complete.

    A GeoPackage is in the map's own coordinate system, GeoJSON in longitude and latitude on WGS84 as RFC 7946 requires;
    without a coordinate system both hold the map's own coordinates, or columns and rows. Fields: ``class``, ``name``,
    ``pixels``, and where the ground is known ``area_m2`` and ``area_ha``. Pixels without data belong to no polygon.

    Memory holds a strip of the map, the components that reach over its lower edge, and polygons that wait to be
    written; with ``smallest`` also some tens of bytes for each component.

    Args:
        classes: The class map: one band of legend indices, 255 without data.
        legend: Its classes.
        out: The file, ``.gpkg`` or ``.geojson``.
        smallest: Components smaller than this are merged into the largest of their neighbours, or left out if all of
            those are too small as well; in m², or in pixels if areas are unknown.
    Raises:
        ConfigError: The file's suffix is neither.
        ClassIndexError: The map holds a value that is no class.
        SceneError: The map is damaged.
        DiskError: The disk is full.
    """
    opened = {".gpkg": _geopackage, ".geojson": _geojson}.get(out.suffix.lower())
    if opened is None:
        raise ConfigError(f"{out}: polygons are written to .gpkg or .geojson. Give a name that ends so.")
    with RasterReader(classes) as reader:
        info, wkt = reader.info, reader.wkt
    areas = cell_areas(info)
    smallest_px = math.ceil(smallest / float(np.median(areas.row_m2)) - 1e-9)
    steps = math.ceil(info.height / STRIP_ROWS) * (2 if smallest_px > 1 else 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name[:80]}.") as folder,
        progress_bar(gettext("polygons %(name)s", name=out.name), steps) as bar,
        bounded_cache(),
    ):
        merged = None
        if smallest_px > 1:
            merged = _merge_small(classes, Path(folder), smallest_px=smallest_px, tick=bar.advance)
        with opened(out, info, wkt, legend) as append:
            found = find_components(_strips(classes, merged, bar), areas.row_m2)
            return _write_all(found, legend, areas, smallest_px, append, shown=classes)


def _write_all(
    found: Iterator[Components], legend: Legend, areas: CellAreas, smallest_px: int, append: Append, *, shown: Path
) -> PolygonCount:
    """Write components as they are found."""
    written = left_out = 0
    names = np.array(legend.names, np.object_)
    for complete in found:
        components = complete.take(complete.pixels >= smallest_px)
        written += len(components.label)
        left_out += len(complete.label) - len(components.label)
        if not len(components.label):
            continue
        if components.label.max() >= legend.n_classes:
            raise ClassIndexError(
                f"{shown}: holds class {components.label.max()}, which is none of {legend.name!r}, expected 0 to "
                f"{legend.n_classes - 1}. Give the legend that it was made with."
            )
        fields: Fields = {"class": components.label.astype(np.int16), "name": names[components.label]}
        fields["pixels"] = components.pixels
        if areas.basis != "none":
            fields |= {"area_m2": components.area, "area_ha": components.area / 1e4}
        append(components.rings, fields)
    return PolygonCount(written, left_out)


def _strips(classes: Path, merged: LabelMap | None, bar: Bar) -> Iterator[LabelMap]:
    """Yield the rows of a class map, or of the merged one if there is one, some at a time."""
    with RasterReader(classes) as reader:
        height, width = reader.info.height, reader.info.width
        some = max(1, STRIP_PX // width)
        for row in range(0, height, STRIP_ROWS):
            rows = slice(row, min(height, row + STRIP_ROWS))
            read = reader.read(rows, slice(0, width), [1])[..., 0] if merged is None else merged[rows]
            yield from (read[first : first + some].astype(np.uint8) for first in range(0, len(read), some))
            bar.advance()


def _merge_small(classes: Path, folder: Path, *, smallest_px: int, tick: Callable[[], None]) -> LabelMap:
    """Merge components that are too small into the largest of their neighbours, by GDAL's sieve.

    The sieve holds a few tens of bytes for each component and some rows of pixels; its result lies in a file that is
    mapped into memory, which the system writes out as it needs room. Pixels without data are not neighbours; a
    component stays if no chain of largest neighbours leads to a large one.

    Args:
        classes: A class raster.
        folder: Where the result, a byte a pixel, and a mask are written.
        smallest_px: Components of fewer pixels are merged.
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
    except raster_errors() as error:
        raise DiskError(f"{merged}: cannot be written ({first_line(error)}). Free space there.") from error
    return result


@dataclass(frozen=True)
class Polygons:
    """Polygons, each with its outer ring first; the first point of a ring is repeated at the end.

    Attributes:
        rings: Index of each polygon's first ring, ``(P + 1,)``.
        points: Index of each ring's first point, ``(R + 1,)``.
        xy: Coordinates, ``(N, 2)``.
    """

    rings: Ints
    points: Ints
    xy: Floats


def break_long(rings: Rings, longest: int) -> Rings:
    """Add points to edges longer than ``longest`` pixels.

    An edge that is straight in one projection is bent in another: its ends are where they should be, its middle is not.
    """
    count = len(rings.row)
    after = np.arange(1, count + 1)
    after[rings.first[1:] - 1] = rings.first[:-1]
    down, right = rings.row[after] - rings.row, rings.col[after] - rings.col
    parts = -(-(np.abs(down) + np.abs(right)) // longest)
    begins = np.concatenate([[0], np.cumsum(parts)])
    which = np.repeat(np.arange(count), parts)
    along = (np.arange(begins[-1]) - begins[which]) * longest
    row = rings.row[which] + np.sign(down)[which] * along
    col = rings.col[which] + np.sign(right)[which] * along
    return Rings(rings.owner, begins[rings.first], row, col)


def _make_polygons(rings: Rings, x: Floats, y: Floats, *, reverse: bool) -> Polygons:
    """Close rings and give them their direction.

    Args:
        rings: Rings of polygons 0…P−1, clockwise on the screen.
        x: Coordinate of each of their points, ``(N,)``.
        y: The other coordinate, ``(N,)``.
        reverse: Whether to reverse the order of their points.
    """
    sizes = np.diff(rings.first)
    points = np.concatenate([[0], np.cumsum(sizes + 1)])
    place = np.arange(points[-1]) - np.repeat(points[:-1], sizes + 1)
    whole = np.repeat(sizes, sizes + 1)
    place = (whole - place if reverse else place) % whole
    index = np.repeat(rings.first[:-1], sizes + 1) + place
    per_polygon = np.bincount(rings.owner)
    return Polygons(np.concatenate([[0], np.cumsum(per_polygon)]), points, np.stack([x[index], y[index]], axis=1))


def _to_wkb(polygons: Polygons) -> NDArray[np.object_]:
    """Encode each polygon as well-known binary, little-endian (OGC 06-103r4, 8.2).

    Returns:
        ``(P,)`` of bytes.
    """
    sizes = np.diff(polygons.points)
    n_rings = np.diff(polygons.rings)
    ring_starts = np.arange(len(sizes)) * 4 + polygons.points[:-1] * 16  # bytes of all rings before
    heads = np.arange(len(n_rings)) * 9 + ring_starts[polygons.rings[:-1]]
    total = 9 * len(n_rings) + 4 * len(sizes) + 16 * int(polygons.points[-1])
    content = np.zeros(total, np.uint8)
    content[heads] = 1  # little-endian
    content[heads + 1] = 3  # a polygon
    _scatter(content, heads + 5, n_rings.astype("<u4"))
    owner = np.repeat(np.arange(len(n_rings)), n_rings)
    ring_heads = ring_starts + 9 * (owner + 1)
    _scatter(content, ring_heads, sizes.astype("<u4"))
    ring = np.repeat(np.arange(len(sizes)), sizes)
    _scatter(content, np.arange(len(ring)) * 16 + 4 * (ring + 1) + 9 * (owner[ring] + 1), polygons.xy.astype("<f8"))
    stored, ends = content.tobytes(), [*heads[1:].tolist(), total]
    return np.array([stored[start:end] for start, end in zip(heads.tolist(), ends, strict=True)], np.object_)


def _to_lists(polygons: Polygons, *, decimals: int) -> list[list[list[list[float]]]]:
    """Nest each polygon's coordinates as GeoJSON does: polygon, ring, point, number."""
    xy = polygons.xy.round(decimals).tolist()
    points, rings = polygons.points.tolist(), polygons.rings.tolist()
    parts = [xy[start:end] for start, end in pairwise(points)]
    return [parts[start:end] for start, end in pairwise(rings)]


def _scatter(content: NDArray[np.uint8], at: Ints, values: NDArray[np.generic]) -> None:
    """Write each row of ``values`` into a string of bytes at the offsets given."""
    octets = np.ascontiguousarray(values).view(np.uint8).reshape(len(at), -1)
    content[at[:, None] + np.arange(octets.shape[1])] = octets


class _GeoPackage:
    """A layer of polygons, written some thousands at a time because each opening of the file takes time."""

    def __init__(self, path: Path, info: RasterInfo, wkt: str | None) -> None:
        """Begin a file at ``path``, with an empty layer."""
        self._path, self._info, self._wkt = path, info, wkt
        self._shapes: list[NDArray[np.object_]] = []
        self._points = 0
        none: Fields = {"class": np.zeros(0, np.int16), "name": np.zeros(0, np.object_), "pixels": np.zeros(0, int)}
        if cell_areas(info).basis != "none":
            none |= {"area_m2": np.zeros(0), "area_ha": np.zeros(0)}
        self._fields = [none]
        self.flush(append=False)

    def append(self, rings: Rings, fields: Fields) -> None:
        """Add polygons."""
        self._shapes.append(_to_wkb(_polygons_on_map(rings, self._info)))
        self._fields.append(fields)
        self._points += len(rings.row)
        if self._points > _HELD_POINTS:
            self.flush()

    def flush(self, *, append: bool = True) -> None:
        """Write the polygons collected."""
        from pyogrio.raw import write

        if not self._fields:
            return
        shapes = np.concatenate([np.zeros(0, np.object_), *self._shapes])
        names = list(self._fields[0])
        columns = [np.concatenate([fields[name] for fields in self._fields]) for name in names]
        layer = {"layer": _LAYER, "driver": "GPKG", "geometry_type": "Polygon", "crs": self._wkt}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            write(self._path, shapes, columns, names, append=append, **layer)
        self._shapes, self._fields, self._points = [], [], 0


@contextmanager
def _geopackage(out: Path, info: RasterInfo, wkt: str | None, legend: Legend) -> Iterator[Append]:
    """Open a GeoPackage for polygons."""
    from pyogrio import set_gdal_config_options
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

    with atomic_path(out) as temporary:
        temporary.unlink()
        try:
            set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": "OFF"})  # the whole file is synchronised at the end
            layer = _GeoPackage(temporary, info, wkt)
            yield layer.append
            layer.flush()
            add_style(temporary, _LAYER, legend)
        except (DataSourceError, DataLayerError, FeatureError, sqlite3.Error) as error:
            raise DiskError(
                f"{out}: cannot be written ({first_line(error)}). Free space or choose another --out."
            ) from error
        finally:
            set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": None})


@contextmanager
def _geojson(out: Path, info: RasterInfo, _: str | None, legend: Legend) -> Iterator[Append]:
    """Open a GeoJSON file for polygons: a line each, so that it can be written as it comes."""
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        lead = "\n"

        def append(rings: Rings, fields: Fields) -> None:
            nonlocal lead
            shapes = _to_lists(_polygons_in_degrees(rings, info), decimals=_DECIMALS)
            columns = {name: values.tolist() for name, values in fields.items()}
            for shape, *values in zip(shapes, *columns.values(), strict=True):
                feature = {
                    "type": "Feature",
                    "properties": dict(zip(columns, values, strict=True)),
                    "geometry": _geometry(shape) if info.crs else {"type": "Polygon", "coordinates": shape},
                }
                file.write(lead + json.dumps(feature, ensure_ascii=False, separators=(",", ":")))
                lead = ",\n"

        yield append
        file.write("\n]}\n")
    write_style(out, polygon_style(legend))


def _geometry(shape: list[Ring]) -> dict[str, object]:
    """Make a GeoJSON geometry of a polygon in degrees, cut at the antimeridian if it crosses it (RFC 7946, 3.1.9)."""
    longitudes = [point[0] for ring in shape for point in ring]
    jumps = any(abs(one[0] - other[0]) > 180 for ring in shape for one, other in pairwise(ring))
    if not jumps and min(longitudes) >= -180 and max(longitudes) <= 180:
        return {"type": "Polygon", "coordinates": shape}
    parts = cut_at_antimeridian(shape)
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}


def _polygons_on_map(rings: Rings, info: RasterInfo) -> Polygons:
    """Convert rings to polygons in the map's own coordinates, outer rings counter-clockwise."""
    x, y = to_map(info, rings.row, rings.col)
    return _make_polygons(rings, x, y, reverse=_mirrored(info))


def _polygons_in_degrees(rings: Rings, info: RasterInfo) -> Polygons:
    """Convert rings to polygons in longitude and latitude, if there is a coordinate system."""
    if info.crs is None:
        return _polygons_on_map(rings, info)
    rings = break_long(rings, _BREAK_PX)
    lon, lat = to_degrees(info.crs, *to_map(info, rings.row, rings.col))
    return _make_polygons(rings, lon, lat, reverse=_mirrored(info))


def _mirrored(info: RasterInfo) -> bool:
    """Tell whether the map's second axis points up while rows go down, as nearly always, which reverses the rings."""
    a, b, _, d, e, _ = info.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return a * e - b * d < 0
