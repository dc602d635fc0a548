"""Polygons as labels and as exclusion layers: GeoPackage, GeoJSON and shapefiles drawn onto the grid of an image."""

import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from levelground.config import PrepareOptions
from levelground.errors import ConfigError, LegendError, SceneError, first_line
from levelground.imagery.gdal_files import check_vector, raster_errors
from levelground.imagery.geotiff import RasterInfo, raster_writer
from levelground.imagery.grids import part_of
from levelground.imagery.image_headers import ImageHeader, read_header
from levelground.imagery.layouts import VECTOR_SUFFIXES, Pairs
from levelground.imagery.legend import Legend
from levelground.imagery.legend_sources import ValueName, legend_of_values
from levelground.reading import is_whole_number
from levelground.records import sha256_file, sha256_json

FIELDS = (
    "class", "class_name", "classname", "label", "landcover", "land_cover", "lc", "lulc", "lc_name", "category",
    "type", "name", "code", "class_id", "classvalue", "value", "gridcode", "dn", "id",
)  # fmt: skip
"""Fields that hold the class where none is named: the first of these that a file has, in any case of letters."""

NO_LABEL = -(2**31)
"""What a drawn label raster stores where there is no label."""

_STRIP_PIXELS = 1 << 22
_PARTS = {4: 1, 5: 2, 6: 3}  # multi geometries and their parts, by their codes in well-known binary
_NAMES = {1: "Point", 2: "LineString", 3: "Polygon"}


class Shape(TypedDict):
    """A geometry as GeoJSON has it."""

    type: str
    coordinates: object


@dataclass(frozen=True)
class Features:
    """Geometries in the coordinate system of an image, with what one field says of each."""

    shapes: tuple[Shape, ...]
    values: tuple[object, ...]


@dataclass(frozen=True)
class VectorClasses:
    """What the polygons of a data set mean: the field, what is drawn for each of its values, and the legend.

    ``outside`` is drawn where there is no polygon.
    """

    field: str
    codes: dict[object, int]
    outside: int
    legend: Legend | None


def is_vector(path: PurePath) -> bool:
    """Tell by its name whether a file holds vectors."""
    return path.suffix.lower() in VECTOR_SUFFIXES


def vector_classes(paths: Iterable[Path], options: PrepareOptions, legend: Legend | None) -> VectorClasses:
    """Decide what the polygons of all vector files of a data set mean.

    Args:
        paths: The files.
        options: The field, and the class outside the polygons.
        legend: The legend given, if any.
    Returns:
        Numbers are drawn as they are, a class each where none is 0; names as the legend's classes, or numbered in
        alphabetical order.
    Raises:
        SceneError: A file cannot be read.
        ConfigError: No field is named and none is like a class, or the class outside is unknown.
        LegendError: A name is not in the legend.
    """
    fields = set()
    first: dict[object, Path] = {}  # each value -> the first file that holds it
    for path in paths:
        field, values = _attributes(path, options.label_field)
        fields.add(field)
        for value in {_plain(value) for value in values} - {None}:
            first.setdefault(value, path)
    field, found = min(fields), first.keys()
    numbers = all(isinstance(value, int) for value in found)
    outside = options.label_outside
    if numbers:
        codes: dict[object, int] = {value: value for value in found if isinstance(value, int)}
        around = NO_LABEL if outside is None else _number(outside, legend)
        drawn = {*codes.values(), around} - {NO_LABEL}
        own = legend_of_values(drawn, {}, name=field) if legend is None and drawn and 0 not in drawn else None
        return VectorClasses(field, codes, around, own)
    names = sorted(str(value) for value in found)
    if legend is None:
        names = sorted({*names, *([outside] if outside is not None else [])})
        table = {number: ValueName(name) for number, name in enumerate(names)}
        legend = legend_of_values(table, table, name=field)
    known = _values_by_name(legend)
    unknown = [name for name in names if name.casefold() not in known]
    if unknown:
        path = next(path for value, path in first.items() if str(value) == unknown[0])
        raise LegendError(
            f"{path}: field {field!r} holds {', '.join(map(repr, unknown[:8]))}, which the legend {legend.name!r} "
            f"lacks ({', '.join(legend.names[:12])}). Name its classes as the field does, or choose another "
            "--label-field."
        )
    codes = {name: known[name.casefold()] for name in names}
    return VectorClasses(field, codes, NO_LABEL if outside is None else _number(outside, legend), legend)


def _values_by_name(legend: Legend) -> dict[str, int]:
    """Return what is drawn for each class of a legend, by its name in small letters."""
    return {one.name.casefold(): (*one.values, one.index)[0] for one in legend.classes}


def _number(outside: str, legend: Legend | None) -> int:
    """Return what is drawn outside the polygons: a value, or that of a class of the legend."""
    known = {} if legend is None else _values_by_name(legend)
    if outside.casefold() in known:
        return known[outside.casefold()]
    if is_whole_number(outside):
        return int(outside)
    raise ConfigError(f"--label-outside {outside}: is not a class of the legend. Give a name or a value that it has.")


def _plain(value: object) -> object:
    """Return what a field says as a whole number or a text; ``None`` where it says nothing."""
    if value is None or value != value:  # NaN is not itself
        return None
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return int(value) if float(value).is_integer() else str(value)
    return str(value).strip() or None


def draw_labels(path: Path, image: Path, classes: VectorClasses, *, all_touched: bool, cache: Path) -> tuple[Path, str]:
    """Draw the polygons of a file as a label raster on an image's grid, once.

    Args:
        path: The vector file.
        image: The image.
        classes: What the polygons mean.
        all_touched: Draw every pixel that a polygon touches, not only those whose centre it holds.
        cache: Folder of decoded scenes.
    Returns:
        The raster, and what there is to say of it, empty where there is nothing.
    Raises:
        SceneError: The file cannot be read, has no coordinate system, or no polygon lies on the image.
    """
    header = read_header(image)
    codes = sorted((str(value), code) for value, code in classes.codes.items())
    told = [file_sums(path), classes.field, codes, classes.outside, all_touched, grid_of(header)]
    folder, key = cache / "vectors", sha256_json(["labels", 1, *told])
    features = read_features(path, image, header, classes.field)
    kept = [(shape, classes.codes[value]) for shape, value in _pairs(features) if value in classes.codes]
    if not kept:
        raise SceneError(
            f"{path}: no polygon with a class lies on {image.name}. Mend the coordinate system that is wrong, or pair "
            "the image with its own labels."
        )
    unclassed = len(features.shapes) - len(kept)
    notes = [f"{unclassed} polygons of {path.name} have no class and are left out"] if unclassed else []
    target = next(iter(folder.glob(f"{key}-*.tif")), None) if folder.is_dir() else None
    if target is None:
        double = sum(
            int(
                (
                    draw_shapes(kept, header, rows, 0, all_touched)
                    != draw_shapes(kept[::-1], header, rows, 0, all_touched)
                ).sum()
            )
            for rows in strips_of(header)
        )
        target = folder / f"{key}-{double}.tif"
        with raster_writer(target, raster_info(header, "int32", float(NO_LABEL))) as writer:
            for rows in strips_of(header):
                writer.write(rows[0], 0, draw_shapes(kept, header, rows, classes.outside, all_touched))
    double = int(target.stem.rpartition("-")[2])
    if double:
        notes.append(
            f"{double} pixels of {image.name} lie in polygons of several classes: the last in the file is taken"
        )
    return target, "; ".join(notes)


def draw_vectors(
    pairs: Pairs, options: PrepareOptions, legend: Legend | None, cache: Path
) -> tuple[Pairs, VectorClasses | None, list[tuple[str, str, bool]]]:
    """Draw the labels of all pairs whose mask is a vector file.

    Returns:
        The pairs with the drawn rasters as masks; what the polygons mean, ``None`` where no mask is a vector file; and
        scene, text and whether it is an error for what there is to say.
    Raises:
        ConfigError: A flag for polygons is given and there are none, or no field holds a class.
        LegendError: The legend lacks a name.
        SceneError: A vector file cannot be read.
    """
    vectors = sorted({pair.mask for pair in pairs.pairs if pair.mask and is_vector(pair.mask)})
    if not vectors:
        for flag, value in (("--label-field", options.label_field), ("--label-outside", options.label_outside)):
            if value is not None:
                raise ConfigError(f"{flag} {value}: no label is a vector file. Leave the flag away.")
        return pairs, None, []
    classes = vector_classes(vectors, options, legend)
    drawn, said = [], []
    for pair in pairs.pairs:
        if pair.mask is None or not is_vector(pair.mask):
            drawn.append(pair)
            continue
        try:
            mask, note = draw_labels(pair.mask, pair.image, classes, all_touched=options.all_touched, cache=cache)
            drawn.append(replace(pair, mask=mask, mask_source=pair.mask))
            said += [(pair.id, note, False)] if note else []
        except SceneError as error:
            said.append((pair.id, str(error), True))
    return replace(pairs, pairs=tuple(drawn)), classes, said


def _pairs(features: Features) -> Iterator[tuple[Shape, object]]:
    return zip(features.shapes, features.values, strict=True)


VECTOR_ERRORS = (RuntimeError, ValueError, NameError)
"""What pyogrio raises over a file of vectors: its own errors, undecodable texts, a system without a text."""


def _attributes(path: Path, field: str | None) -> tuple[str, Sequence[object]]:
    """Return the field that holds the class, and its values."""
    from pyogrio import read_info
    from pyogrio.raw import read

    try:
        layer = _layer(path)
        fields = [str(name) for name in read_info(path, layer=layer)["fields"]]
        lower = [name.lower() for name in fields]
        wanted = [field.lower()] if field else [name for name in FIELDS if name in lower]
        if not wanted or wanted[0] not in lower:
            given = f"has no field {field!r}" if field else "has no field like a class"
            raise ConfigError(f"{path}: {given}, it has {', '.join(fields) or 'none'}. Name one with --label-field.")
        name = fields[lower.index(wanted[0])]
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # numbers that repeat
            values = read(path, layer=layer, columns=[name], read_geometry=False)[3][0]
    except VECTOR_ERRORS as error:
        raise SceneError(f"{path}: is damaged or is not a vector file ({first_line(error)}). Replace it.") from error
    return name, list(values)


def _layer(path: Path) -> str:
    """Return the one layer of a file that has geometries; tables without any, such as styles, do not count.

    Raises:
        SceneError: There is none, or there are several, or the file would make GDAL read elsewhere.
    """
    from pyogrio import list_layers

    try:
        check_vector(path)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}). Mend the file or its permissions.") from error
    except ValueError as error:
        raise SceneError(f"{path}: {error}. Save its features as a GeoPackage.") from error
    layers = [str(name) for name, kind in list_layers(path).tolist() if kind is not None]
    if len(layers) != 1:
        told = f"layers {', '.join(layers)}" if layers else "no layer with geometries"
        raise SceneError(f"{path}: holds {told}, expected one. Save the layer of the labels as a file of its own.")
    return layers[0]


def read_features(path: Path, image: Path, header: ImageHeader, field: str | None) -> Features:
    """Read the geometries near an image, in its coordinate system."""
    from pyogrio.raw import read

    if header.transform is None:
        raise SceneError(f"{image}: has no place on the ground, so {path.name} cannot be drawn on it. Give it one.")
    try:
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # numbers that repeat
            meta, _, shapes, columns = read(
                path, layer=_layer(path), columns=[] if field is None else [field], force_2d=True
            )
    except VECTOR_ERRORS as error:
        raise SceneError(f"{path}: is damaged or is not a vector file ({first_line(error)}). Replace it.") from error
    own = meta["crs"]
    if own is None and header.crs is not None:
        raise SceneError(
            f"{path}: names no coordinate system, its image {image.name} has one. Add the .prj file, or write it with "
            f"ogr2ogr -a_srs SYSTEM LABELLED.gpkg {path}."
        )
    values = [None] * len(shapes) if field is None else [_plain(value) for value in columns[0]]
    known = [(wkb, value) for wkb, value in zip(shapes, values, strict=True) if wkb is not None]
    parsed = [(shape, value) for wkb, value in known for shape in _parse(wkb)]
    try:
        placed = _to_system([shape for shape, _ in parsed], own, header.crs)
    except raster_errors() as error:
        raise SceneError(
            f"{path}: its places do not lie in {header.crs}, its image's system ({first_line(error)}). Mend its "
            "coordinates, or name its system."
        ) from error
    bounds = _bounds(header)
    near = [(shape, value) for shape, (_, value) in zip(placed, parsed, strict=True) if _touches(shape, bounds)]
    return Features(tuple(shape for shape, _ in near), tuple(value for _, value in near))


def _parse(wkb: bytes) -> list[Shape]:
    """Read well-known binary (OGC 06-103r4, 8.2) as simple geometries; empty ones and curves are left out."""
    shapes: list[Shape] = []

    def one(at: int) -> int:
        order = "<" if wkb[at] else ">"
        kind, count = struct.unpack_from(f"{order}II", wkb, at + 1)
        kind %= 1000
        if kind in _PARTS or kind == 7:
            at += 9
            for _ in range(count):
                at = one(at)
            return at
        if kind == 1:
            shapes.append({"type": "Point", "coordinates": struct.unpack_from(f"{order}2d", wkb, at + 5)})
            return at + 21
        if kind not in (2, 3):
            raise ValueError(f"geometry {kind}")
        rings, at = [], at + (9 if kind == 3 else 5)
        for _ in range(count if kind == 3 else 1):
            (n,) = struct.unpack_from(f"{order}I", wkb, at)
            rings.append(np.frombuffer(wkb, f"{order}f8", 2 * n, at + 4).reshape(n, 2).tolist())
            at += 4 + 16 * n
        if rings and rings[0]:
            shapes.append({"type": _NAMES[kind], "coordinates": rings if kind == 3 else rings[0]})
        return at

    try:
        one(0)
    except (ValueError, struct.error):  # a curve; its chord would be a guess
        return []
    return shapes


def _to_system(shapes: Sequence[Shape], own: str | None, other: str | None) -> list[Shape]:
    """Bring geometries into another coordinate system."""
    if own is None or other is None or not shapes:
        return list(shapes)
    from rasterio.crs import CRS
    from rasterio.warp import transform_geom

    first, second = CRS.from_user_input(own), CRS.from_user_input(other)
    return list(shapes) if first == second else list(transform_geom(first, second, list(shapes)))


def _points(coordinates: object) -> NDArray[np.float64]:
    """Return all points of a geometry, ``(n, 2)``."""
    found: list[object] = []

    def walk(part: object) -> None:
        if isinstance(part, list | tuple) and part and isinstance(part[0], int | float):
            found.append(part[:2])
        elif isinstance(part, list | tuple):
            for inner in part:
                walk(inner)

    walk(coordinates)
    return np.array(found, np.float64).reshape(-1, 2)


def _touches(shape: Shape, bounds: tuple[float, float, float, float]) -> bool:
    """Tell whether the bounds of a geometry meet those of an image; one that cannot be projected does not."""
    points = _points(shape["coordinates"])
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return False
    (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
    return bool(left <= bounds[2] and right >= bounds[0] and bottom <= bounds[3] and top >= bounds[1])


def _bounds(header: ImageHeader) -> tuple[float, float, float, float]:
    """Return the bounds of a raster: left, bottom, right, top."""
    a, b, c, d, e, f = header.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    x = [c + a * col + b * row for col in (0, header.width) for row in (0, header.height)]
    y = [f + d * col + e * row for col in (0, header.width) for row in (0, header.height)]
    return min(x), min(y), max(x), max(y)


def draw_shapes(
    shapes: Sequence[tuple[Shape, int]], header: ImageHeader, rows: tuple[int, int], fill: int, all_touched: bool
) -> NDArray[np.int32]:
    """Draw geometries on some rows of an image's grid; rings that cross themselves are filled by the even-odd rule."""
    from affine import Affine
    from rasterio.features import rasterize

    part = part_of(header, (rows[0], 0, rows[1], header.width))
    assert part.transform is not None
    drawn: NDArray[np.int32] = rasterize(
        list(shapes),
        out_shape=(rows[1], header.width),
        fill=fill,
        transform=Affine(*part.transform),
        all_touched=all_touched,
        dtype="int32",
        skip_invalid=True,
    )
    return drawn


def strips_of(header: ImageHeader) -> Iterator[tuple[int, int]]:
    """Yield first row and height of strips that keep memory flat."""
    high = max(256, _STRIP_PIXELS // header.width // 256 * 256)
    for row in range(0, header.height, high):
        yield row, min(high, header.height - row)


def raster_info(header: ImageHeader, dtype: str, nodata: float | None) -> RasterInfo:
    """Return the header of a raster on an image's grid."""
    place = header.transform
    return RasterInfo(
        header.height,
        header.width,
        1,
        dtype,
        nodata,
        header.crs,
        None if place is None else (place[0], place[1], place[2], place[3], place[4], place[5]),
    )


def grid_of(header: ImageHeader) -> list[object]:
    """Return what the grid of an image is, for a key."""
    return [header.height, header.width, header.crs, list(header.transform or ())]


def file_sums(path: Path) -> list[str]:
    """Hash a file, and of a shapefile those that belong to it."""
    parts = [path.with_suffix(suffix) for suffix in (".shp", ".shx", ".dbf", ".prj", ".cpg")]
    try:
        return [sha256_file(part) for part in (parts if path.suffix.lower() == ".shp" else [path]) if part.exists()]
    except OSError as error:
        raise SceneError(f"{path}: it or a file beside it cannot be read ({error.strerror}). Mend it.") from error
