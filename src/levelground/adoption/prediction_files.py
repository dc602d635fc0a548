"""Files of predictions as other tools leave them, read as classes of the legend or as their probabilities."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.datasets.dataset import Dataset
from levelground.errors import LabelColourError, SceneError
from levelground.imagery.class_maps import ClassMap, channel_classes
from levelground.imagery.colours import FAR, NO_MATCH, Table, look_up
from levelground.imagery.geotiff import Pixels, Window
from levelground.imagery.image_headers import ImageHeader, read_header
from levelground.imagery.image_pixels import (
    ARRAY_SUFFIXES,
    mask_nodata,
    read_array,
    read_colours,
    read_image,
    read_indices,
    used_palette,
)
from levelground.imagery.legend import IGNORE, LabelMap, Legend, decode_colours, hex_colour, refuse_guesses
from levelground.imagery.scene_pixels import MaskReader, on_scene
from levelground.imagery.stored_values import Coding, strips
from levelground.imagery.validity import NodataMask

SUM_ERROR = 0.02
"""How far the sum of a pixel's probabilities may be from 1: what float16 and eight bits round."""

NO_MAP = ClassMap()
"""Every number, colour and name means what the legend says."""


@dataclass(frozen=True)
class MaskCodings:
    """How the masks of a folder are read: those with a palette, and those with three bands.

    A single mask may not tell: one that is black all over is class 0, or the class whose colour is black.
    """

    palettes: Coding
    bands: Coding


@dataclass(frozen=True, eq=False)
class ClassProbabilities:
    """Probabilities of the classes of a scene.

    Attributes:
        values: ``(C, H, W)`` float32, which add up to 1 over C.
        outputs: Legend index of each, ``(C,)``.
        missing: Pixels without any, ``(H, W)``, where the scene has no labels; ``values`` are equal there.
    """

    values: NDArray[np.float32]
    outputs: tuple[int, ...]
    missing: NodataMask | None = None


@dataclass(frozen=True)
class ReadingRules:
    """How the predictions of a folder are read.

    Attributes:
        codings: What palettes and three bands hold; ``None`` tells it from each mask alone.
        snap: Colours that are not a class become the nearest class up to this difference in each channel, grey levels.
        class_map: What other numbers, colours and names of classes mean.
        blue_first: Whether colours are stored with blue first.
        align: Whether maps on another grid are brought onto their scene's.
    """

    codings: MaskCodings | None = None
    snap: int = 0
    class_map: ClassMap = NO_MAP
    blue_first: bool = False
    align: bool = False


PLAIN = ReadingRules()
"""The legend's own numbers and colours, each mask by itself."""


def tell_mask_codings(paths: Iterable[Path], legend: Legend, class_map: ClassMap = NO_MAP) -> MaskCodings:
    """Tell from all masks of a folder what palettes and three bands hold.

    Args:
        paths: The masks; arrays are left out.
        legend: Its colours, and the number of classes.
        class_map: Other colours and numbers that mean a class.
    Returns:
        Palettes hold colours if all that are used are the legend's. Three bands hold indices if they are equal in
        every mask, all are low (255 aside), and one at least is no grey of the legend.
    Raises:
        SceneError: A mask cannot be read.
    """
    headers = {path: read_header(path) for path in paths if path.suffix.lower() not in ARRAY_SUFFIXES}
    known = {colour for colour, _ in class_map.table(legend)}
    top = max([legend.n_classes - 1, *class_map.numbers])
    palettes = [path for path, header in headers.items() if header.palette]
    bands = [path for path, header in headers.items() if _has_bands(header)]
    greys: set[int] = set()
    for rgb in (read_colours(path, window) for path in bands for window in strips(headers[path])):
        found = _low_greys(rgb, top)
        if found is None:
            greys = set()
            break
        greys |= found
    return MaskCodings(
        palettes="colour" if all(used_palette(path) <= known for path in palettes) else "index",
        bands="index" if any((grey, grey, grey) not in known for grey in greys) else "colour",
    )


def read_prediction(
    path: Path, dataset: Dataset, scene: str, rules: ReadingRules = PLAIN
) -> LabelMap | ClassProbabilities:
    """Read the prediction of a scene, whatever the file holds.

    Args:
        path: A mask, or an array or raster of classes or of probabilities; of the scene's size, or of the raster's that
            the scene is a block of.
        dataset: Gives the scene and the legend.
        scene: The scene's id.
        rules: How it is read.
    Returns:
        Legend indices ``(H, W)`` uint8, or probabilities.
    Raises:
        SceneError: Another size, a damaged file, pixels without a class where the scene has labels, or scores that are
            not probabilities.
        LabelColourError: A colour of no class, or most colours are far from every class.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        values = _fit(path, read_array(path), dataset, scene)
        if values.ndim == 2 and not _is_fractional(values):
            return _classes_of(values, path, dataset, scene, rules.class_map)
        return _probabilities(np.atleast_3d(values.T).T, path, dataset, rules.class_map)
    header = read_header(path)
    if header.format == "tiff" and header.dtype.startswith("float") and header.bands > 1:
        probs = _reader(path, header, dataset, scene, rules)(read_image)[0]
        missing = np.asarray((probs == 0).all(axis=-1))  # what the raster leaves out or does not reach
        _check_reach(path, missing, dataset, scene)
        probs[missing] = 1 / probs.shape[-1] if probs.max() > 0 else -math.log(probs.shape[-1])
        return replace(_probabilities(np.moveaxis(probs, -1, 0), path, dataset, rules.class_map), missing=missing)
    return read_mask(path, dataset, scene, rules)


def read_mask(path: Path, dataset: Dataset, scene: str, rules: ReadingRules = PLAIN) -> LabelMap:
    """Read a mask of colours, a palette or class indices; arguments and errors as :func:`read_prediction`."""
    header = read_header(path)
    if header.image_bands not in (1, 3) and not header.palette:
        raise SceneError(
            f"{path}: has {header.image_bands} bands of {header.dtype}, expected one of class indices, three of "
            "colours, or one of float32 for each class. Save probabilities in float32, or the classes alone."
        )
    take = _reader(path, header, dataset, scene, rules)
    codings = rules.codings or tell_mask_codings([path], dataset.legend, rules.class_map)
    coding = codings.bands if _has_bands(header) else codings.palettes if header.palette else "index"
    if coding == "colour":
        stored, missing = take(read_colours)
        if missing is not None:
            stored[missing] = dataset.legend.colours[0]
        values: Pixels | LabelMap = _decode(path, header, np.asarray(stored, np.uint8), dataset.legend, rules)
    elif _has_bands(header) and header.format != "jpeg":
        stored, missing = take(read_colours)
        values = stored[..., 0]
    else:
        values, missing = take(read_indices)
    _check_reach(path, missing, dataset, scene)
    if header.masked or header.alpha:
        missing = np.asarray(take(partial(_nodata, header))[0], np.bool_)
    tag = None if coding == "colour" or header.nodata in rules.class_map.numbers else header.nodata  # of stored values
    return _classes_of(values, path, dataset, scene, rules.class_map, missing, tag)


def _fit(path: Path, values: NDArray[np.generic], dataset: Dataset, scene: str) -> NDArray[np.generic]:
    """Bring an array into ``(H, W)`` or ``(C, H, W)`` of the scene, out of its raster where it is a block of one."""
    record, sides = dataset.scene(scene), values.shape
    if values.ndim == 3 and sides[1:] != (record.height, record.width) and sides[2] < min(sides[:2]):
        values = np.moveaxis(values, -1, 0)
    height, width = values.shape[-2:]
    if (width, height) == (record.height, record.width) != (height, width):
        raise SceneError(
            f"{path}: array has {width} columns and {height} rows, scene {scene} {record.width} columns and "
            f"{record.height} rows. Exchange its last two axes: numpy.swapaxes(array, -1, -2)."
        )
    window = _find_window(path, (height, width), dataset, scene)
    if window is None:
        return values
    row, column, rows, columns = window
    return values[..., row : row + rows, column : column + columns]


def _is_fractional(values: NDArray[np.generic]) -> bool:
    """Tell whether numbers are not whole, as class indices are."""
    return values.dtype.kind == "f" and not bool((np.asarray(values, np.float64) % 1 == 0).all())


def _probabilities(
    values: NDArray[np.generic], path: Path, dataset: Dataset, class_map: ClassMap
) -> ClassProbabilities:
    """Turn the scores of channels, ``(C, H, W)``, into probabilities of classes; those of one class are added."""
    probs = np.array(values, np.float32)
    if values.dtype.kind == "u" and probs.max() > 1:
        probs /= 255 if values.dtype == np.uint8 else 65535
    if np.isnan(probs).any() or probs.max() == np.inf:
        raise SceneError(f"{path}: holds values that are not numbers (NaN or infinite). Predict the scene again.")
    stored = probs
    if len(probs) > 1 and probs.max() <= 0:  # logarithms, as of log_softmax
        probs = np.exp(probs)
    if len(probs) == 1:
        probs = np.concatenate([1 - probs, probs])
    if probs.min() < -SUM_ERROR or abs(probs.sum(axis=0) - 1).max() > SUM_ERROR:
        raise SceneError(f"{path}: {_describe_scores(stored)}")
    classes = channel_classes(len(probs), dataset.legend, class_map, source=str(path))
    outputs = tuple(sorted(set(classes)))
    merged = np.zeros((len(outputs), *probs.shape[1:]), np.float32)
    for channel, index in zip(probs, classes, strict=True):
        merged[outputs.index(index)] += np.maximum(channel, 0)
    return ClassProbabilities(merged / merged.sum(axis=0), outputs)


def _describe_scores(values: NDArray[np.float32]) -> str:
    """Say what values of channels are that are not probabilities, and how probabilities are made of them."""
    total, span = values.sum(axis=0), f"values from {values.min():.3g} to {values.max():.3g}"
    if len(values) == 1:
        return (
            f"{span} are not probabilities. Save their sigmoid (scipy.special.expit(array)), or the classes: array > 0."
        )
    if values.min() >= 0 and total.min() > 0:
        remedy = "Divide them by their sum (array / array.sum(axis=0), channels first)"
    else:
        remedy = "Save their softmax (scipy.special.softmax(array, axis=0), channels first)"
    return (
        f"{span} over {len(values)} channels add up to {total.min():.3g} to {total.max():.3g} a pixel, so they are not "
        f"probabilities. {remedy}, or the classes: array.argmax(axis=0)."
    )


def _has_bands(header: ImageHeader) -> bool:
    """Tell whether a mask has three bands of eight bits, a palette aside; others hold no colours."""
    return header.image_bands == 3 and header.dtype == "uint8" and not header.palette


def _find_window(path: Path, size: tuple[int, int], dataset: Dataset, scene: str) -> Window | None:
    """Find the part of a mask that covers a scene, ``None`` for all of it."""
    record, (height, width) = dataset.scene(scene), size
    if size == (record.height, record.width):
        return None
    if record.window is not None:
        image = _image(path, dataset, scene)
        if size == (image.height, image.width):
            return record.window
        raise SceneError(
            f"{path}: mask has {width} × {height} pixels, scene {scene} {record.width} × {record.height} and its "
            f"raster {image.width} × {image.height} (width × height). Predict at the size of one of them; resize masks "
            "by nearest neighbour only."
        )
    if (width, height) == (record.height, record.width):
        raise SceneError(
            f"{path}: mask has {width} columns and {height} rows, scene {scene} {record.width} columns and "
            f"{record.height} rows. If rows and columns are exchanged, save its transpose: array.T"
        )
    raise SceneError(
        f"{path}: mask has {width} × {height} pixels, scene {scene} {record.width} × {record.height} "
        "(width × height). Predict at the scene's own size; resize masks by nearest neighbour only."
    )


def _image(path: Path, dataset: Dataset, scene: str) -> ImageHeader:
    """Read the header of a scene's image, on which a mask is laid; refuse one that is missing or has another size."""
    record = dataset.scene(scene)
    image = dataset.data / record.image
    if not image.is_file():
        raise SceneError(
            f"{path}: cannot be laid on scene {scene}, because its image {image} is missing. Put it back, or prepare "
            "the study again with the folder that holds it."
        )
    found, (row, column, height, width) = read_header(image), record.window or (0, 0, record.height, record.width)
    rest = found.height - row - height, found.width - column - width
    if min(rest) < 0 or (record.window is None and any(rest)):
        raise SceneError(
            f"{image}: has {found.width} × {found.height} pixels, another size than when scene {scene} was prepared. "
            "Run levelground prepare again."
        )
    return found


def _reader(
    path: Path, header: ImageHeader, dataset: Dataset, scene: str, rules: ReadingRules
) -> Callable[[MaskReader], tuple[Pixels, NodataMask | None]]:
    """Find how a file is read on the grid of its scene: by place where both have one, else by size."""
    record = dataset.scene(scene)
    image = dataset.data / record.image
    if header.transform and (image.is_file() or record.place or rules.align):  # one that is missing may have a place
        _image(path, dataset, scene)
        found = on_scene(path, image, record.window, align=rules.align)
        if found is not None:
            return found
    window = _find_window(path, (header.height, header.width), dataset, scene)
    return lambda read: (read(path, window), None)


def _nodata(header: ImageHeader, path: Path, window: Window | None) -> Pixels:
    """Read where a mask's own mask or alpha leaves pixels out."""
    found = mask_nodata(path, header, window)
    return np.zeros(window[2:] if window else (header.height, header.width), np.bool_) if found is None else found


def _check_reach(path: Path, missing: NodataMask | None, dataset: Dataset, scene: str) -> None:
    """Refuse a map that does not reach all labelled pixels of its scene."""
    holes = 0 if missing is None else int((missing & (np.asarray(dataset.open(scene).labels) != IGNORE)).sum())
    if holes:
        raise SceneError(
            f"{path}: does not reach {holes} pixels of scene {scene} that have labels. Predict the whole scene."
        )


def _low_greys(rgb: NDArray[np.uint8], top: int) -> set[int] | None:
    """Return the values of a mask whose bands are equal and hold class indices or little more, else ``None``.

    Values somewhat above the last class are no colours either: they are refused as indices, with their number.
    """
    first = rgb[..., 0]
    if not (np.array_equal(first, rgb[..., 1]) and np.array_equal(first, rgb[..., 2])):
        return None
    greys = {int(grey) for grey in np.flatnonzero(np.bincount(first.ravel(), minlength=256))}
    return greys if max(greys - {IGNORE}, default=0) < max(top + 1, FAR) else None


def _decode(path: Path, header: ImageHeader, rgb: NDArray[np.uint8], legend: Legend, rules: ReadingRules) -> LabelMap:
    """Decode colours; refuse indices among them, and those that a tolerant rule takes for a class they are far from."""
    if rules.blue_first:
        rgb = np.ascontiguousarray(rgb[..., ::-1])
    table = rules.class_map.table(legend)
    colours = {colour for colour, _ in table}
    greys = _low_greys(rgb, legend.n_classes - 1) if header.format != "jpeg" else None
    if any((grey, grey, grey) not in colours for grey in greys or ()):
        raise SceneError(
            f"{path}: mask holds class indices in three equal bands, other masks of the folder hold colours. "
            "Save them all as class indices, or all in colours."
        )
    mapped = look_up(rgb, tuple(rules.class_map.colours.items())) if rules.class_map.colours else None
    if mapped is not None:
        rgb = np.where((mapped == NO_MATCH)[..., None], rgb, legend.colours[0])
    preds = _decode_by_rule(rgb, path, header, legend, rules)
    return preds if mapped is None else np.where(mapped == NO_MATCH, preds, mapped)


def _decode_by_rule(
    rgb: NDArray[np.uint8], path: Path, header: ImageHeader, legend: Legend, rules: ReadingRules
) -> LabelMap:
    """Decode the legend's colours; say what a mask that holds others looks like."""
    known = tuple((colour, 0) for colour, _ in legend.table)
    try:
        preds = decode_colours(rgb, legend, snap=rules.snap, source=str(path))
    except LabelColourError as error:
        raise LabelColourError(_advise_on_colours(str(error), rgb, header, known, rules)) from error
    refuse_guesses(rgb, legend, snap=rules.snap, source=str(path))
    return preds


def _advise_on_colours(
    error: str, rgb: NDArray[np.uint8], header: ImageHeader, known: Table, rules: ReadingRules
) -> str:
    """Put what mends predicted masks in the place of what mends a data set."""
    fault = error.split(" Fix the file or ")[0]
    if header.format == "jpeg":
        return f"{fault} JPEG blurs colours: save the masks as PNG, or the classes' numbers with numpy.save."
    if not (look_up(np.ascontiguousarray(rgb[..., ::-1]), known) == NO_MATCH).any():
        return f"{fault} With blue first every colour is a class: pass {'no ' if rules.blue_first else ''}--blue-first."
    if "pass --snap-colours" in error:
        return error.replace("Fix the file or pass", "Save the classes' own colours, or pass")
    pixels = rgb[look_up(rgb, known) == NO_MATCH]
    colours, sizes = np.unique(pixels, axis=0, return_counts=True)
    first = hex_colour(tuple(colours[sizes.argmax()].tolist()))
    return f"{fault} Save the classes' own colours, or say what it means: --class-map '#{first}=CLASS'."


def _classes_of(
    values: Pixels | NDArray[np.generic],
    path: Path,
    dataset: Dataset,
    scene: str,
    class_map: ClassMap,
    missing: NodataMask | None = None,
    tag: float | None = None,
) -> LabelMap:
    """Turn numbers of classes into classes, but where the file's own mask, alpha or nodata value leaves pixels out."""
    table = class_map.of_numbers(dataset.legend.n_classes)
    keys = np.array(sorted(table))
    at = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
    preds = np.where(keys[at] == values, np.array([table[int(key)] for key in keys], np.uint8)[at], IGNORE)
    if missing is not None:
        preds[missing] = IGNORE
    if tag is not None:
        tagged = np.asarray(values == tag)
        if (tagged & (preds != IGNORE) & (np.asarray(dataset.open(scene).labels) != IGNORE)).any():
            raise SceneError(
                f"{path}: {int(tagged.sum())} pixels hold {tag:g}, which is the file's nodata value and a class of "
                f"{dataset.legend.name!r}. If it means the class, take the tag off: rio edit-info --unset-nodata {path}"
            )
        preds[tagged] = IGNORE
    _check_complete(preds.astype(np.uint8), values, path, dataset, scene, class_map)
    return preds.astype(np.uint8)


def _check_complete(
    preds: LabelMap, values: Pixels | NDArray[np.generic], path: Path, dataset: Dataset, scene: str, class_map: ClassMap
) -> None:
    """Refuse a mask without a class where the scene has labels, and say what its values look like."""
    labelled = np.asarray(dataset.open(scene).labels) != IGNORE
    holes = (preds == IGNORE) & labelled
    if holes.any():
        row, column = (int(part) for part in np.argwhere(holes)[0])
        seen, strange = (np.unique(values[where]).tolist() for where in (labelled, holes))
        raise SceneError(
            f"{path}: {int(holes.sum())} pixels have no class of {dataset.legend.name!r} where scene {scene} has "
            f"labels (first at row {row}, column {column}). " + _advise(seen, strange, dataset.legend, class_map)
        )


def _advise(seen: Sequence[float], strange: Sequence[float], legend: Legend, class_map: ClassMap) -> str:
    """Say what to do about values that are no classes: count from 0, undo a stretch, or name what they mean."""
    n_classes = legend.n_classes
    whole = [int(value) for value in seen if float(value).is_integer() and value != IGNORE]
    several, step = not class_map.numbers and len(set(whole) - {0}) > 1, math.gcd(*whole)
    numbers: dict[int, int] = {}
    looks = ""
    stored = {value: index for value, index in legend.stored if index != IGNORE}
    if several and legend.classes[0].values and stored.keys() >= set(whole):
        looks, numbers = "Its values are those that the labels' files store", stored
    elif several and min(whole) >= 1 and max(whole) == n_classes:
        looks, numbers = f"Its classes are numbered 1 to {n_classes}", {i + 1: i for i in range(n_classes)}
    elif several and step > 1 and n_classes <= max(whole) < step * n_classes:
        looks, numbers = f"Its values are multiples of {step}", {i * step: i for i in range(n_classes)}
    if numbers:
        return f"{looks}: pass --class-map {' '.join(f'{value}={index}' for value, index in numbers.items())}"
    if not float(strange[0]).is_integer():
        return f"{strange[0]} is not a class index: save whole numbers, such as array.argmax(axis=0).astype('uint8')."
    first = int(strange[0])
    also = " too" if class_map.numbers else ""
    return f"Predict one of 0 to {n_classes - 1} there, or name what {first} means{also}: --class-map {first}=CLASS"
