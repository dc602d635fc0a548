"""Files of predictions as other tools leave them, read as classes of the legend."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.datasets.dataset import Dataset
from levelground.errors import LabelColourError, SceneError
from levelground.imagery.colours import NO_MATCH, look_up, nearest_colours
from levelground.imagery.geotiff import Pixels, Window
from levelground.imagery.image_headers import ImageHeader, read_header
from levelground.imagery.image_pixels import mask_nodata, read_colours, read_indices, used_palette
from levelground.imagery.legend import IGNORE, LabelMap, Legend, decode_colours
from levelground.imagery.scene_pixels import Coding
from levelground.imagery.validity import NodataMask

FAR = 32
"""Grey levels between a colour and the class it is read as, beyond which a tolerant rule guesses."""

MAX_FAR = 0.1
"""The largest share of such pixels in a mask: blurred borders are some per cent, another coding nearly all."""

_STRIP_PIXELS = 1 << 24


@dataclass(frozen=True)
class MaskCodings:
    """How the masks of a folder are read: those with a palette, and those with three bands.

    A single mask may not tell: one that is black all over is class 0, or the class whose colour is black.
    """

    palettes: Coding
    bands: Coding


def tell_mask_codings(paths: Iterable[Path], legend: Legend) -> MaskCodings:
    """Tell from all masks of a folder what palettes and three bands hold.

    Args:
        paths: The masks.
        legend: Its colours, and the number of classes.
    Returns:
        Palettes hold colours if all that are used are the legend's. Three bands hold indices if they are equal in
        every mask, all are low (255 aside), and one at least is no grey of the legend.
    Raises:
        SceneError: A mask cannot be read.
    """
    headers = {path: read_header(path) for path in paths}
    known = {colour for colour, _ in legend.table}
    palettes = [path for path, header in headers.items() if header.palette]
    bands = [path for path, header in headers.items() if _has_bands(header)]
    greys: set[int] = set()
    for rgb in (rgb for path in bands for rgb in _strips(path, headers[path])):
        found = _low_greys(rgb, legend)
        if found is None:
            greys = set()
            break
        greys |= found
    return MaskCodings(
        palettes="colour" if all(used_palette(path) <= known for path in palettes) else "index",
        bands="index" if any((grey, grey, grey) not in known for grey in greys) else "colour",
    )


def read_mask(
    path: Path, dataset: Dataset, scene: str, *, snap: int = 0, codings: MaskCodings | None = None
) -> LabelMap:
    """Read a predicted mask.

    Args:
        path: Colours, a palette or class indices; of the scene's size, or of the raster's that the scene is a block of.
        dataset: Gives the scene and the legend.
        scene: The scene's id.
        snap: Colours that are not a class become the nearest class up to this difference in each channel, grey levels.
        codings: How the folder's masks are read; ``None`` tells it from this one.
    Returns:
        Legend indices, ``(H, W)`` uint8.
    Raises:
        SceneError: The mask has another size, is damaged, or has pixels without a class where the scene has labels.
        LabelColourError: It holds a colour of no class, or most of its colours are far from every class.
    """
    header = read_header(path)
    window = _find_window(path, header, dataset, scene)
    codings = codings or tell_mask_codings([path], dataset.legend)
    if (codings.bands if _has_bands(header) else codings.palettes if header.palette else "index") == "colour":
        preds = _decode(path, header, window, dataset.legend, snap)
        _leave_out(preds, mask_nodata(path, header, window))
        _check_complete(preds, preds, path, dataset, scene)
        return preds
    if _has_bands(header) and header.format != "jpeg":
        values: Pixels = read_colours(path, window)[..., 0]
    else:
        values = read_indices(path, window)
    known = (values >= 0) & (values < dataset.legend.n_classes)  # type: ignore[operator]  # any real type compares
    preds = np.where(known, values, IGNORE).astype(np.uint8)
    _leave_out(preds, mask_nodata(path, header, window))
    _check_complete(preds, values, path, dataset, scene)
    return preds


def _leave_out(preds: LabelMap, missing: NodataMask | None) -> None:
    """Take the class from pixels that the raster's own mask or alpha leaves out."""
    if missing is not None:
        preds[missing] = IGNORE


def _has_bands(header: ImageHeader) -> bool:
    """Tell whether a mask has three bands or more, a palette aside."""
    return header.image_bands >= 3 and not header.palette


def _find_window(path: Path, header: ImageHeader, dataset: Dataset, scene: str) -> Window | None:
    """Find the part of a mask that covers a scene, ``None`` for all of it."""
    record = dataset.scene(scene)
    window = record.window
    if (header.height, header.width) == (record.height, record.width):
        return None
    if window is None or header.height < window[0] + window[2] or header.width < window[1] + window[3]:
        raise SceneError(
            f"{path}: mask has {header.width} × {header.height} pixels, scene {scene} {record.width} × {record.height} "
            "(width × height). Predict at the scene's own size; resize masks by nearest neighbour only."
        )
    return window


def _strips(path: Path, header: ImageHeader) -> Iterator[NDArray[np.uint8]]:
    """Read a colour mask whole, a raster in strips that fit."""
    if header.format != "tiff":
        yield read_colours(path)
        return
    rows = max(1, _STRIP_PIXELS // header.width)
    for top in range(0, header.height, rows):
        yield read_colours(path, (top, 0, min(rows, header.height - top), header.width))


def _low_greys(rgb: NDArray[np.uint8], legend: Legend) -> set[int] | None:
    """Return the values of a mask whose bands are equal and hold class indices or little more, else ``None``.

    Values somewhat above the last class are no colours either: they are refused as indices, with their number.
    """
    first = rgb[..., 0]
    if not (np.array_equal(first, rgb[..., 1]) and np.array_equal(first, rgb[..., 2])):
        return None
    greys = {int(grey) for grey in np.flatnonzero(np.bincount(first.ravel(), minlength=256))}
    return greys if max(greys - {IGNORE}, default=0) < max(legend.n_classes, FAR) else None


def _decode(path: Path, header: ImageHeader, window: Window | None, legend: Legend, snap: int) -> LabelMap:
    """Read colours; refuse indices among them, and colours that a tolerant rule takes for a class they are far from."""
    rgb = read_colours(path, window)
    colours = {colour for colour, _ in legend.table}
    greys = _low_greys(rgb, legend) if header.format != "jpeg" else None
    if any((grey, grey, grey) not in colours for grey in greys or ()):
        raise SceneError(
            f"{path}: mask holds class indices in three equal bands, other masks of the folder hold colours. "
            "Save them all as class indices, or all in colours."
        )
    preds = decode_colours(rgb, legend, snap=snap, source=str(path))
    if legend.rule == "exact" and snap <= FAR:
        return preds
    known = tuple((colour, 0) for colour, _ in legend.table)
    found, sizes = np.unique(rgb[look_up(rgb, known) == NO_MATCH], axis=0, return_counts=True)
    if not len(found):
        return preds
    far = nearest_colours(found, legend.table)[1] > FAR
    share = float(sizes[far].sum()) / preds.size
    if share > MAX_FAR:
        colour = tuple(found[far][sizes[far].argmax()].tolist())
        raise LabelColourError(
            f"{path}: {share:.0%} of the pixels are more than {FAR} levels from every colour of {legend.name!r}, the "
            f"commonest {colour}, and would be guessed. Save the classes' own colours as PNG, or class indices."
        )
    return preds


def _check_complete(preds: LabelMap, values: Pixels, path: Path, dataset: Dataset, scene: str) -> None:
    """Refuse a mask without a class where the scene has labels, and say what its values look like."""
    labelled = np.asarray(dataset.open(scene).labels) != IGNORE
    holes = (preds == IGNORE) & labelled
    if holes.any():
        row, column = (int(part) for part in np.argwhere(holes)[0])
        raise SceneError(
            f"{path}: {int(holes.sum())} pixels have no class of {dataset.legend.name!r} where scene {scene} has "
            f"labels (first at row {row}, column {column}). {_advise(values[labelled], dataset.legend.n_classes)}"
        )


def _advise(values: Pixels, n_classes: int) -> str:
    """Say what to do about values that are no classes: count from 0, undo a stretch for display, or predict there."""
    seen = [int(value) for value in np.unique(values) if float(value).is_integer() and value != IGNORE]
    if seen and seen[0] >= 1 and seen[-1] == n_classes:
        return f"Its classes are numbered 1 to {n_classes}: subtract 1 from each pixel."
    step = math.gcd(*seen)
    if step > 1 and seen[-1] > n_classes and seen[-1] // step < n_classes:
        return f"Its values are multiples of {step}: divide each pixel by {step}."
    return f"Predict one of 0 to {n_classes - 1} there."
