"""Decode the pixels and labels of one scene, and check them against each other and against the legend."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from levelground.errors import SceneError
from levelground.imagery.geotiff import Pixels, Window
from levelground.imagery.image_headers import ImageHeader, read_header
from levelground.imagery.image_pixels import NodataMask, read_colours, read_image, read_image_with_nodata, read_indices
from levelground.imagery.legend import IGNORE, LabelMap, Legend, count_impure, decode_colours
from levelground.imagery.stored_values import labels_of_values

Coding = Literal["colour", "index"]
"""Whether a mask holds colours of the legend or class indices."""


@dataclass(frozen=True)
class SceneFile:
    """Files of a scene's image and labels; ``window`` is a block of a large raster."""

    id: str
    image: Path
    labels: Path | None
    window: Window | None = None
    group: str = ""
    coding: Coding = "colour"


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
    return read_image(scene.image, scene.window)


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
    may_lack_data = header.format == "tiff" or header.alpha
    nodata = read_image_with_nodata(scene.image, scene.window)[1] if may_lack_data else None
    return _decode_labels(scene, legend, snap, nodata)[0]


def read_scene(scene: SceneFile, legend: Legend, *, snap: int = 0) -> SceneArrays:
    """Decode image and labels, each file once; arguments and errors as :func:`read_pixels` and :func:`read_labels`."""
    pixels, nodata = read_image_with_nodata(scene.image, scene.window)
    if scene.labels is None:
        return SceneArrays(pixels, None)
    return SceneArrays(pixels, *_decode_labels(scene, legend, snap, nodata))


def check_partners(image: Path, image_header: ImageHeader, mask: Path, mask_header: ImageHeader) -> None:
    """Refuse a mask that does not cover its image.

    Raises:
        SceneError: They differ in size, or in their place on the ground.
    """
    sizes = [(header.width, header.height) for header in (mask_header, image_header)]
    if sizes[0] != sizes[1]:
        raise SceneError(
            f"{mask}: mask has {sizes[0][0]} × {sizes[0][1]} pixels, its image {image.name} {sizes[1][0]} × "
            f"{sizes[1][1]} (width × height). Give both the same size; resize masks by nearest neighbour only."
        )
    places = mask_header.transform, image_header.transform
    if places[0] and places[1]:
        shift = max(abs(places[0][2] - places[1][2]), abs(places[0][5] - places[1][5]))
        step = min(abs(places[1][0]) + abs(places[1][1]), abs(places[1][3]) + abs(places[1][4]))
        scale = max(
            abs(a - b) for a, b in zip(places[0], places[1], strict=True) if a not in (places[0][2], places[0][5])
        )
        if shift > 0.5 * step or scale * max(sizes[0]) > 0.5 * step:
            raise SceneError(
                f"{mask}: label raster lies {shift:.6g} map units from its image {image.name} or has another pixel "
                "size. Warp it onto the image's grid by nearest neighbour."
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
    if nodata is not None:
        labels[nodata] = IGNORE
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
