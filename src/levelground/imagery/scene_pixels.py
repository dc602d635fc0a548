"""Decode the pixels and labels of one scene, and check them against each other and against the legend."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from levelground.errors import SceneError
from levelground.imagery.colours import pack_colour, pack_colours
from levelground.imagery.geotiff import Pixels, Window
from levelground.imagery.grids import Grid, off_grid, overlap, part_of, read_onto
from levelground.imagery.image_headers import ImageHeader, read_header
from levelground.imagery.image_pixels import (
    mask_nodata,
    read_colours,
    read_image,
    read_image_with_nodata,
    read_indices,
)
from levelground.imagery.legend import IGNORE, LabelMap, Legend, count_impure, decode_colours, refuse_guesses
from levelground.imagery.stored_values import Coding, labels_of_values
from levelground.imagery.validity import NodataMask

MIN_SIDE = 4
"""The least height and width of a scene, px: one cell of what decoders put out. Smaller files are placeholders."""

Rectangle = tuple[float, float, float, float]
"""Row, column, height and width, px."""


@dataclass(frozen=True)
class SceneFile:
    """Files of a scene's image and labels; ``window`` is a block of a large raster.

    ``zero`` says whether image pixels that are 0 in every band have no data; ``None`` as the file says. ``align`` lets
    labels lie on another grid than the image; they are read onto it by nearest neighbour. ``image_source`` and
    ``labels_source`` are the files that the two were made of, where they were made here. ``exclude`` is a raster on the
    image's grid: pixels where it is not 0 become labels without data; so do those inside ``apart``, or nearer to it
    than ``buffer_px`` along rows and columns: rectangles of the image's grid, which may lie outside it.
    """

    id: str
    image: Path
    labels: Path | None
    window: Window | None = None
    group: str = ""
    coding: Coding = "colour"
    zero: bool | None = None
    align: bool = False
    image_source: Path | None = None
    labels_source: Path | None = None
    exclude: Path | None = None
    apart: tuple[Rectangle, ...] = ()
    buffer_px: tuple[float, float] = (0.0, 0.0)


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


def check_side(path: Path, header: ImageHeader) -> None:
    """Refuse scenes of fewer than :data:`MIN_SIDE` pixels a side.

    Raises:
        SceneError: The image is one.
    """
    if min(header.height, header.width) < MIN_SIDE:
        raise SceneError(
            f"{path}: has {header.width} × {header.height} pixels, expected at least {MIN_SIDE} each way. "
            "Replace or remove the scene."
        )


def check_partners(
    image: Path, image_header: Grid, mask: Path, mask_header: ImageHeader, *, align: bool = False
) -> None:
    """Refuse a mask that does not lie on its image, pixel on pixel.

    Args:
        image: The image.
        image_header: Its header.
        mask: The mask.
        mask_header: Its header.
        align: Whether a mask on another grid is brought onto the image's; then both need a place and must overlap.
    Raises:
        SceneError: They differ in size, in coordinate system, or by more than half a pixel in place.
    """
    reason = off_grid(mask_header, image_header)
    if reason is None:
        return
    if not (mask_header.transform and image_header.transform):
        without = mask if image_header.transform else image
        remedy = (
            f"--align needs a place on the ground, and {without.name} has none. Give it one, or give both the same size"
            if align
            else "Give both the same size; resize masks by nearest neighbour only"
        )
        raise SceneError(f"{mask}: does not lie on its image {image.name}: it {reason}. {remedy}.")
    if not overlap(mask_header, image_header):
        raise SceneError(
            f"{mask}: does not lie on its image {image.name}, no pixel of it does: it {reason}. "
            "Mend the place or coordinate system that is wrong, or pair the image with its own labels."
        )
    if align:
        return
    outside = " --src-nodata 255 --dst-nodata 255" if mask_header.nodata is None else ""
    command = f"rio warp {mask} ALIGNED.tif --like {image} --resampling nearest{outside}"
    raise SceneError(
        f"{mask}: does not lie on its image {image.name}: it {reason}. Pass --align to bring it onto the "
        f"image's grid by nearest neighbour, or write it there: {command}"
    )


def _decode_labels(scene: SceneFile, legend: Legend, snap: int, nodata: NodataMask | None) -> tuple[LabelMap, int, int]:
    """Decode the mask, set pixels without image data to IGNORE, and count impure and dropped pixels."""
    if scene.labels is None:
        raise SceneError(f"{scene.image}: has no mask. Add it, or leave the scene out.")
    header = read_header(scene.labels)
    impure = dropped = 0
    stored, outside = read_mask_values(scene, int(legend.stored[0][0]) if scene.coding == "index" else 0)
    if scene.coding == "index":
        labels, dropped = _check_indices(stored, header.nodata, legend, scene)
    else:
        rgb = np.asarray(stored, np.uint8)
        if outside is not None:
            rgb[outside] = legend.classes[0].colour
        if legend.rule == "threshold" and header.image_bands == 1:
            _refuse_grey_indices(rgb[..., 0], scene.labels)
        labels = decode_colours(rgb, legend, snap=snap, source=str(scene.labels))
        if legend.rule == "threshold" or snap:  # else every colour was exact
            impure = count_impure(rgb, legend)
        if impure:
            refuse_guesses(rgb, legend, snap=snap, source=str(scene.labels))
    excluded = None if scene.exclude is None else np.asarray(read_indices(scene.exclude, scene.window) != 0)
    near = pixels_near(scene.apart, scene.buffer_px, scene.window, labels.shape) if scene.apart else None
    for missing in (nodata, outside, mask_nodata_on_image(scene), excluded, near):
        if missing is not None:
            labels[missing] = IGNORE
    return labels, impure, dropped


def pixels_near(
    rectangles: Sequence[Rectangle], buffer_px: tuple[float, float], window: Window | None, shape: tuple[int, ...]
) -> NodataMask:
    """Find the pixels whose centre lies inside one of some rectangles, or nearer to it than a distance.

    Args:
        rectangles: On the grid of the whole image.
        buffer_px: The distance along rows and along columns; in between it is that of an ellipse.
        window: The part that is looked at; ``None`` is the whole image.
        shape: Height and width of the part.
    Returns:
        ``(H, W)``.
    Example:
        >>> pixels_near([(0, 3, 2, 2)], (1, 1), (0, 0, 2, 4), (2, 4)).astype(int).tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    top, left = window[:2] if window else (0, 0)
    found = np.zeros(shape, np.bool_)
    for row, col, height, width in rectangles:
        square = np.zeros(shape)
        for axis, (first, start, length) in enumerate(((top, row, height), (left, col, width))):
            centres = first + 0.5 + np.arange(shape[axis])
            gap = np.maximum(0.0, np.maximum(start - centres, centres - start - length))
            scaled = np.divide(gap, buffer_px[axis], out=np.where(gap > 0, np.inf, 0.0), where=buffer_px[axis] > 0)
            square += np.square(scaled).reshape((-1, 1) if axis == 0 else (1, -1))
        found |= square < 1
    return found


def needs_alignment(scene: SceneFile) -> bool:
    """Tell whether a scene's mask lies on another grid than its image, and may be brought onto it."""
    if not scene.align or scene.labels is None:
        return False
    return off_grid(read_header(scene.labels), read_header(scene.image)) is not None


def read_mask_values(scene: SceneFile, fill: int = 0) -> tuple[Pixels, NodataMask | None]:
    """Read what a scene's mask stores, on the grid of its image.

    Args:
        scene: The scene; it has a mask.
        fill: Value where the mask does not reach.
    Returns:
        Values ``(H, W)`` or colours ``(H, W, 3)``; and ``(H, W)``, true where the mask does not reach, ``None`` where
        the grids are equal.
    Raises:
        SceneError: The mask is damaged, or lies on another grid and ``align`` is off.
    """
    assert scene.labels is not None
    mask, read = scene.labels, read_indices if scene.coding == "index" else read_colours
    header, image = read_header(mask), read_header(scene.image)
    check_partners(scene.image, image, mask, header, align=scene.align)
    if not needs_alignment(scene):
        return read(mask, scene.window), None
    return read_onto(lambda window: read_part(mask, header, window, read), header, image, scene.window, fill)


def mask_nodata_on_image(scene: SceneFile) -> NodataMask | None:
    """Find where the mask or alpha of a label raster leaves pixels out, on the grid of its image."""
    assert scene.labels is not None
    mask, header = scene.labels, read_header(scene.labels)
    if not needs_alignment(scene) or not (header.masked or header.alpha):
        return mask_nodata(mask, header, scene.window)

    def read(window: Window) -> Pixels:
        missing = mask_nodata(mask, header, window)
        return np.zeros(window[2:], np.bool_) if missing is None else missing

    return np.asarray(read_onto(read, header, read_header(scene.image), scene.window)[0], np.bool_)


MaskReader = Callable[[Path, Window | None], Pixels]
"""Reads a file or a window of it, ``(H, W)`` or ``(H, W, C)``."""


def on_scene(
    path: Path, image: Path, window: Window | None, *, align: bool
) -> Callable[[MaskReader], tuple[Pixels, NodataMask | None]] | None:
    """Find how a map of a scene is read on the scene's own grid.

    Args:
        path: The map: of the scene, or of the raster that the scene is a block of.
        image: The scene's image.
        window: The block.
        align: Whether a map on another grid is brought onto the scene's by nearest neighbour.
    Returns:
        A function that reads with a reader of files, and gives the values and, where the map does not reach the whole
        scene, which pixels it leaves out; ``None`` where one of the two has no place on the ground.
    Raises:
        SceneError: The map lies on another grid and ``align`` is off, or no pixel of it lies on the scene.
    """
    header, whole = read_header(path), read_header(image)
    if header.transform is None or whole.transform is None:
        return None
    scene = whole if window is None else part_of(whole, window)
    if off_grid(header, scene) is None:
        return lambda read: (read(path, None), None)
    if window is not None and off_grid(header, whole) is None:
        return lambda read: (read_part(path, header, window, read), None)
    check_partners(image, scene, path, header, align=align)
    return lambda read: read_onto(lambda part: read_part(path, header, part, read), header, scene, None)


def read_part(path: Path, header: ImageHeader, window: Window, read: MaskReader) -> Pixels:
    """Read a window of a mask of any format; only TIFF is read in parts."""
    if header.format == "tiff":
        return read(path, window)
    row, col, height, width = window
    return read(path, None)[row : row + height, col : col + width]


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


Sides = Sequence[tuple[int, int]]
"""First pixel and length of each line of blocks."""


def labelled_blocks(scene: SceneFile, rows: Sides, columns: Sides, legend: Legend) -> tuple[tuple[Window, ...], int]:
    """Find the blocks of an image that hold a label.

    Args:
        scene: The whole image and its mask.
        rows: Lines of blocks from top to bottom.
        columns: Lines of blocks from left to right.
        legend: Classes and ignored colours of the mask.
    Returns:
        The windows that hold a label, row by row, and how many were left out.
    """
    windows: list[Window] = []
    n = 0
    image = read_header(scene.image)
    for row, height in rows:
        labelled = _has_label(replace(scene, window=(row, 0, height, image.width)), legend)
        for col, width in columns:
            n += 1
            if labelled[:, col : col + width].any():
                windows.append((row, col, height, width))
    return tuple(windows), n - len(windows)


def _has_label(scene: SceneFile, legend: Legend) -> Pixels:
    """Find the labelled pixels of a part of a label raster, ``(H, W)`` bool."""
    assert scene.labels is not None
    values, outside = read_mask_values(scene)
    if scene.coding == "index":
        found = np.asarray(labels_of_values(values, legend, read_header(scene.labels).nodata)[0] != IGNORE)
    else:
        packed = pack_colours(np.asarray(values, np.uint8))
        found = ~np.isin(packed, [pack_colour(colour) for colour in legend.ignored_colours])
    return found if outside is None else found & ~outside


def block_sides(length: int, block: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of each block along one side; a rest below half a block joins the last one."""
    n = max(1, length // block + (length % block >= block / 2))
    for number in range(n):
        start = number * block
        yield start, length - start if number == n - 1 else block
