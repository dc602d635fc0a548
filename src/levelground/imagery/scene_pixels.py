"""Decode the pixels and labels of one scene, and check them against each other and against the legend."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from levelground.errors import SceneError
from levelground.imagery.geotiff import Pixels, Window
from levelground.imagery.image_headers import ImageHeader, read_header
from levelground.imagery.image_pixels import (
    mask_nodata,
    read_colours,
    read_image,
    read_image_with_nodata,
    read_indices,
)
from levelground.imagery.legend import IGNORE, LabelMap, Legend, count_impure, decode_colours
from levelground.imagery.stored_values import labels_of_values
from levelground.imagery.validity import NodataMask

Transform = Sequence[float]
"""GDAL's six numbers in rasterio's order (a, b, c, d, e, f)."""


def grid_distance_px(own: Transform, other: Transform, size: tuple[int, int]) -> float:
    """Return how far the corners of two grids of one size and coordinate system lie apart, in pixels of the second.

    Args:
        own: Transform of the first.
        other: Transform of the second.
        size: Width and height of both.

    Example:
        >>> grid_distance_px((10, 0, 5, 0, -10, 0), (10, 0, 0, 0, -10, 0), (4, 4))
        0.5
    """
    return _corner_distance([_on_map(own, corner) for corner in _corners(size)], other, size)


def system_distance_px(own: str, other: str, transform: Transform, size: tuple[int, int]) -> float:
    """Return how far apart the same numbers in two coordinate systems lie on the ground, in pixels.

    Two spellings of one system are 0 apart. An engineering system, which has no place on the earth, is taken at its
    word. Systems that cannot be brought together are infinitely far apart.

    Args:
        own: System of the label raster.
        other: System of the image.
        transform: Transform of both, in the image's numbers.
        size: Width and height of both.
    """
    places = tuple(_on_map(transform, corner) for corner in _corners(size))
    moved = _moved(own, other, places)
    return 0.0 if moved is None else _corner_distance(moved, transform, size)


@lru_cache(maxsize=4096)
def _moved(own: str, other: str, places: tuple[tuple[float, float], ...]) -> list[tuple[float, float]] | None:
    """Bring places from one system into another; ``None`` where one of them is not a system of the earth."""
    import rasterio
    from rasterio._err import CPLE_BaseError  # a warp lets GDAL's own errors through
    from rasterio.crs import CRS
    from rasterio.warp import transform

    try:
        first, second = CRS.from_string(own), CRS.from_string(other)
        for system in (first, second):
            if not (system.is_projected or system.is_geographic):
                return None
        if first == second:
            return list(places)
        x, y = transform(first, second, [place[0] for place in places], [place[1] for place in places])
    except (rasterio.errors.RasterioError, rasterio.errors.CRSError, CPLE_BaseError):
        return [(math.inf, math.inf)] * len(places)
    return list(zip(x, y, strict=True))


def _corners(size: tuple[int, int]) -> list[tuple[int, int]]:
    """List the corners of a grid as columns and rows."""
    return [(column, row) for column in (0, size[0]) for row in (0, size[1])]


def _on_map(transform: Transform, corner: tuple[float, float]) -> tuple[float, float]:
    """Return the place of a column and row."""
    a, b, c, d, e, f = transform
    return a * corner[0] + b * corner[1] + c, d * corner[0] + e * corner[1] + f


def _corner_distance(places: Sequence[tuple[float, float]], grid: Transform, size: tuple[int, int]) -> float:
    """Return the largest distance along rows or columns between places and the corners of a grid, in its pixels."""
    a, b, c, d, e, f = grid
    area = a * e - b * d
    worst = 0.0
    for (x, y), (column, row) in zip(places, _corners(size), strict=True):
        if not (math.isfinite(x) and math.isfinite(y) and area):
            return math.inf
        across = (e * (x - c) - b * (y - f)) / area - column
        along = (a * (y - f) - d * (x - c)) / area - row
        worst = max(worst, abs(across), abs(along))
    return round(worst, 6)


MAX_SHIFT_PX = 0.5
"""How far a mask may lie from its image, in pixels."""

Coding = Literal["colour", "index"]
"""Whether a mask holds colours of the legend or class indices."""


@dataclass(frozen=True)
class SceneFile:
    """Files of a scene's image and labels; ``window`` is a block of a large raster.

    ``zero`` says whether image pixels that are 0 in every band have no data; ``None`` as the file says.
    """

    id: str
    image: Path
    labels: Path | None
    window: Window | None = None
    group: str = ""
    coding: Coding = "colour"
    zero: bool | None = None


@dataclass(frozen=True)
class SceneArrays:
    """A decoded scene; ``impure_pixels`` have a colour that is read as a class but is not exactly one.

    ``dropped_pixels`` of the mask hold 255, which neither the file nor the legend declares to be no data.
    """

    pixels: Pixels
    labels: LabelMap | None
    impure_pixels: int = 0
    dropped_pixels: int = 0


def read_pixels(scene: SceneFile) -> Pixels:
    """Decode a scene's image, upright.

    Args:
        scene: The scene.
    Returns:
        ``(H, W, C)`` in the file's type; 0 where there are no data.
    Raises:
        SceneError: The image is damaged, too large or of a form that is not read.
    """
    return read_image(scene.image, scene.window, zero=scene.zero)


def read_labels(scene: SceneFile, legend: Legend, *, snap: int = 0) -> LabelMap:
    """Decode a scene's labels.

    Args:
        scene: The scene; it has labels.
        legend: The classes.
        snap: Colours that are not a class become the nearest where no channel differs by more than this.
    Returns:
        ``(H, W)`` class indices; :data:`~levelground.imagery.legend.IGNORE` where the mask or the image has no data.
    Raises:
        SceneError: The mask is missing, damaged, of another size or place than its image, or holds an index outside
            the legend.
        LabelColourError: The mask holds a colour that is not a class.
    """
    header = read_header(scene.image)
    may_lack_data = header.format == "tiff" or header.alpha or scene.zero
    nodata = read_image_with_nodata(scene.image, scene.window, zero=scene.zero)[1] if may_lack_data else None
    return _decode_labels(scene, legend, snap, nodata)[0]


def read_scene(scene: SceneFile, legend: Legend, *, snap: int = 0) -> SceneArrays:
    """Decode image and labels, each file once; arguments and errors as :func:`read_pixels` and :func:`read_labels`."""
    pixels, nodata = read_image_with_nodata(scene.image, scene.window, zero=scene.zero)
    if scene.labels is None:
        return SceneArrays(pixels, None)
    return SceneArrays(pixels, *_decode_labels(scene, legend, snap, nodata))


def check_partners(image: Path, image_header: ImageHeader, mask: Path, mask_header: ImageHeader) -> None:
    """Refuse a mask that does not lie on its image, pixel on pixel.

    Raises:
        SceneError: They differ in size, in coordinate system, or by more than half a pixel in place.
    """
    sizes = [(header.width, header.height) for header in (mask_header, image_header)]
    placed = bool(image_header.transform and mask_header.transform)
    outside = " --src-nodata 255 --dst-nodata 255" if mask_header.nodata is None else ""
    remedy = f"Bring it onto the image's grid: rio warp {mask} ALIGNED.tif --like {image} --resampling nearest{outside}"
    if sizes[0] != sizes[1]:
        raise SceneError(
            f"{mask}: mask has {sizes[0][0]} × {sizes[0][1]} pixels, its image {image.name} {sizes[1][0]} × "
            f"{sizes[1][1]} (width × height). "
            + (f"{remedy}." if placed else "Give both the same size; resize masks by nearest neighbour only.")
        )
    if not (image_header.transform and mask_header.transform):
        return
    apart = grid_distance_px(mask_header.transform, image_header.transform, sizes[0])
    if apart > MAX_SHIFT_PX:
        raise SceneError(
            f"{mask}: label raster lies {apart:.6g} pixels from its image {image.name}, or has another pixel size or "
            f"direction of rows. {remedy}."
        )
    systems = mask_header.crs, image_header.crs
    if systems[0] and systems[1] and systems[0] != systems[1]:
        far = system_distance_px(systems[0], systems[1], image_header.transform, sizes[0])
        if far > MAX_SHIFT_PX:
            raise SceneError(
                f"{mask}: label raster is in {systems[0][:60]}, its image {image.name} in {systems[1][:60]}: "
                f"{far:.6g} pixels apart. {remedy}; or mend the coordinate system that is wrong."
            )


def _decode_labels(scene: SceneFile, legend: Legend, snap: int, nodata: NodataMask | None) -> tuple[LabelMap, int, int]:
    """Decode the mask, set pixels without image data to IGNORE, and count impure and dropped pixels."""
    if scene.labels is None:
        raise SceneError(f"{scene.image}: has no mask. Add it, or leave the scene out.")
    header = read_header(scene.labels)
    check_partners(scene.image, read_header(scene.image), scene.labels, header)
    impure = dropped = 0
    if scene.coding == "index":
        values = read_indices(scene.labels, scene.window)
        labels, dropped = _check_indices(values, header.nodata, legend, scene)
    else:
        rgb = read_colours(scene.labels, scene.window)
        if legend.rule == "threshold" and header.image_bands == 1:
            _refuse_grey_indices(rgb[..., 0], scene.labels)
        labels = decode_colours(rgb, legend, snap=snap, source=str(scene.labels))
        if legend.rule == "threshold" or snap:  # else every colour was exact
            impure = count_impure(rgb, legend)
    for missing in (nodata, mask_nodata(scene.labels, header, scene.window)):
        if missing is not None:
            labels[missing] = IGNORE
    return labels, impure, dropped


def _check_indices(values: Pixels, nodata: float | None, legend: Legend, scene: SceneFile) -> tuple[LabelMap, int]:
    """Turn stored values into labels, and count the pixels of 255 that nothing declares."""
    labels, wrong, dropped = labels_of_values(values, legend, nodata)
    if wrong.any():
        row, column = (int(part) for part in np.argwhere(wrong)[0])
        top, left = scene.window[:2] if scene.window else (0, 0)
        known = sorted({value for value, _ in legend.stored})
        listed = ", ".join(map(str, known[:12])) + (" …" if len(known) > 12 else "")
        expected = listed if legend.classes[0].values else f"0 to {legend.n_classes - 1}"
        raise SceneError(
            f"{scene.labels}: {_pixels(int(wrong.sum()))} a value that is not a class index of {legend.name!r} (first "
            f"{values[row, column]} at row {top + row}, column {left + column}), expected {expected}, or 255 for no "
            "data. Fix the mask or the legend; its nodata = [VALUE] names further values without data."
        )
    return labels, dropped


def _pixels(n: int) -> str:
    """Return a number of pixels with its verb."""
    return "1 pixel holds" if n == 1 else f"{n} pixels hold"


def _refuse_grey_indices(grey: LabelMap, mask: Path) -> None:
    """Refuse a grey mask that binarising would read as black and white: it holds class indices."""
    odd = grey[(grey != 0) & (grey != 255)]
    if odd.size:
        raise SceneError(
            f"{mask}: grey mask with values up to {int(odd.max())}, expected colours. "
            "Pass --layout index where it holds class indices."
        )
