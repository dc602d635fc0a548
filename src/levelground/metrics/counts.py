"""Counts: pixels to confusion, confidence and boundary counts, and ``counts-<split>.npz``, which holds them by scene.

Letters: S scenes, K classes of the legend, B bins of confidence.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ClassIndexError, ConfigError, LevelgroundError, RecordError, ShapeError
from levelground.imagery.legend import LabelMap
from levelground.reading import read_arrays
from levelground.records import DAMAGED, SCHEMAS, atomic_path, check_schema

Counts = NDArray[np.int64]  # (K, K), counts[true, pred]; (S, K, K) per scene

BINS = 15
"""Bins of the confidence histogram, of equal width over [0, 1]: what Guo et al. 2017 and most later papers use."""

_CHUNK = 1 << 18
"""Pixels counted at a time: their 16-bit codes and numpy's 64-bit copy of them stay in the second-level cache."""

_ROUNDING = 1e-3
"""How far above 1 a blended float32 probability may lie: rounding of its weights, not a mistake of the caller."""


class Confidences(NamedTuple):
    """Confidence and hits of a model, by predicted class (rows) and bin of confidence (columns).

    Attributes:
        n: Pixels, ``(K, B)`` int64.
        total: Sum of the confidences of these pixels, ``(K, B)`` float64.
        correct: Those whose predicted class is the true one, ``(K, B)`` int64.
    """

    n: NDArray[np.int64]
    total: NDArray[np.float64]
    correct: NDArray[np.int64]


def count_confusion(preds: LabelMap, labels: LabelMap, *, n_classes: int, ignore: int | None = None) -> Counts:
    """Count pixels by true class (rows) and predicted class (columns).

    Args:
        preds: Predicted class of each pixel, ``(H, W)`` uint8 in ``[0, n_classes)``.
        labels: True class of each pixel, ``(H, W)`` uint8, or ``ignore``.
        n_classes: Number of classes K, at least 2.
        ignore: Label value whose pixels are left out; ``None`` counts every pixel.
    Returns:
        ``(K, K)`` int64, in pixels; the sum is the number of pixels not ignored.
    Raises:
        ShapeError: ``preds`` and ``labels`` differ in shape.
        ClassIndexError: A counted pixel lies outside ``[0, n_classes)``.
    Source: rows true, columns predicted, as scikit-learn's ``confusion_matrix``.
    Example:
        >>> count_confusion(np.uint8([[0, 1], [1, 1]]), np.uint8([[0, 0], [1, 255]]), n_classes=2, ignore=255)
        array([[1, 1],
               [0, 1]])
    """
    check_maps(preds, labels, n_classes=n_classes)
    by_value = value_table(preds, labels)
    if ignore is not None and 0 <= ignore < 256:
        by_value[ignore] = 0
    _check_range(by_value, n_classes, ignore)
    return by_value[:n_classes, :n_classes].copy()


def confidence_counts(
    confidence: NDArray[np.floating],
    preds: LabelMap,
    labels: LabelMap,
    *,
    n_classes: int,
    bins: int = BINS,
    ignore: int | None = None,
) -> Confidences:
    """Count pixels, their confidence and their hits by predicted class and bin of confidence.

    Args:
        confidence: Probability of the predicted class, ``(H, W)`` in ``[0, 1]``.
        preds: Predicted class of each pixel, ``(H, W)`` uint8 in ``[0, n_classes)``.
        labels: True class of each pixel, ``(H, W)`` uint8, or ``ignore``.
        n_classes: Number of classes K, at least 2.
        bins: Number of bins B, of equal width; a bin holds its lower edge, the last one 1 too.
        ignore: Label value whose pixels are left out; ``None`` counts every pixel.
    Returns:
        Counts by predicted class and bin; the sum over classes is the usual reliability diagram.
    Raises:
        ShapeError: The three arrays differ in shape.
        ClassIndexError: A counted prediction lies outside ``[0, n_classes)``.
        LevelgroundError: A counted confidence lies outside ``[0, 1]`` or is not a number.
    Source: Guo, Pleiss, Sun & Weinberger 2017, On Calibration of Modern Neural Networks, eq. 3 and 5; theirs puts a
    value on an edge into the lower bin. By predicted class: Gupta & Ramdas 2022, Top-label Calibration.
    Example:
        >>> found = confidence_counts(np.array([[0.9, 0.6]]), np.uint8([[0, 1]]), np.uint8([[0, 0]]),
        ...                           n_classes=2, bins=2)
        >>> found.n.tolist(), found.correct.tolist()
        ([[0, 1], [0, 1]], [[0, 1], [0, 0]])
    """
    check_maps(preds, labels, n_classes=n_classes)
    if confidence.shape != labels.shape:
        raise ShapeError(f"confidence is {confidence.shape}, labels are {labels.shape}; both must be (H, W).")
    size = n_classes * bins  # one cell more gathers the ignored pixels
    n, total, correct = np.zeros(size + 1, np.int64), np.zeros(size + 1), np.zeros(size + 1, np.int64)
    flat_sure, flat_preds, flat_labels = confidence.ravel(), preds.ravel(), labels.ravel()
    for start in range(0, flat_labels.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        sure, guess, true = flat_sure[part], flat_preds[part], flat_labels[part]
        if ignore is not None:
            sure = np.where(true == ignore, 0, sure)
        _check_confidence(sure, guess if ignore is None else guess[true != ignore], n_classes)
        cell = np.minimum((sure * bins).astype(np.intp), bins - 1) + guess.astype(np.intp) * bins
        if ignore is not None:
            cell[true == ignore] = size
        n += np.bincount(cell, minlength=size + 1)
        total += np.bincount(cell, weights=sure, minlength=size + 1)
        correct += np.bincount(cell[guess == true], minlength=size + 1)
    shape = (n_classes, bins)
    return Confidences(n[:size].reshape(shape), total[:size].reshape(shape), correct[:size].reshape(shape))


def value_table(preds: LabelMap, labels: LabelMap) -> NDArray[np.int64]:
    """Count pixels by value of ``labels`` (rows) and of ``preds`` (columns), whatever the values.

    Args:
        preds: uint8 values.
        labels: uint8 values in the same shape.
    Returns:
        ``(256, 256)`` int64.
    """
    flat_preds, flat_labels = preds.ravel(), labels.ravel()
    table = np.zeros(256 * 256, np.int64)
    for start in range(0, flat_labels.size, _CHUNK):
        codes = flat_labels[start : start + _CHUNK].astype(np.uint16)
        codes <<= 8
        codes |= flat_preds[start : start + _CHUNK]
        table += np.bincount(codes, minlength=table.size)
    return table.reshape(256, 256)


def check_maps(preds: LabelMap, labels: LabelMap, *, n_classes: int) -> None:
    """Refuse two maps that cannot be compared pixel by pixel.

    Args:
        preds: Predicted classes.
        labels: True classes.
        n_classes: Number of classes K.
    Raises:
        ShapeError: The maps differ in shape or are not ``(H, W)``.
        ClassIndexError: A map is not of type uint8, or K is not from 2 to 255.
    """
    if preds.shape != labels.shape or labels.ndim != 2:
        raise ShapeError(f"preds are {preds.shape}, labels are {labels.shape}; both must be (H, W) of the same scene.")
    for name, array in (("preds", preds), ("labels", labels)):
        if array.dtype != np.uint8:
            raise ClassIndexError(f"{name} have type {array.dtype}, expected uint8 class indices. Convert them first.")
    if not 2 <= n_classes <= 255:
        raise ClassIndexError(f"n_classes is {n_classes}, expected 2 to 255.")


def _check_confidence(sure: NDArray[np.floating], guess: LabelMap, n_classes: int) -> None:
    """Refuse confidences that are not probabilities and predictions that are not classes."""
    if sure.size and not (sure.min() >= 0 and sure.max() <= 1 + _ROUNDING):
        raise LevelgroundError(
            f"confidences range from {sure.min()} to {sure.max()}, expected 0 to 1. Give probabilities, not logits."
        )
    if guess.size and guess.max() >= n_classes:
        raise ClassIndexError(f"preds hold class {guess.max()}, expected 0 to {n_classes - 1}. Map outputs to classes.")


def _check_range(by_value: NDArray[np.int64], n_classes: int, ignore: int | None) -> None:
    """Name the first class index outside the legend in a (256, 256) table of values."""
    for name, found in (("labels", by_value.sum(axis=1)), ("preds", by_value.sum(axis=0))):
        if found[n_classes:].any():
            value = n_classes + int(np.flatnonzero(found[n_classes:])[0])
            raise ClassIndexError(
                f"{name} hold class {value} at {found[value]} pixels, expected 0 to {n_classes - 1}"
                f"{'' if ignore is None else f' (or {ignore} in labels, which is ignored)'}. "
                "Check the legend, or map the outputs to its classes."
            )


def boundary_counts(
    preds: LabelMap, labels: LabelMap, *, n_classes: int, distance_px: int, ignore: int | None = None
) -> NDArray[np.int64]:
    """Count the pixels near class borders, by class: in both maps alike, in ``preds``, in ``labels``.

    A pixel belongs to the boundary of its class where another class lies at most ``distance_px`` rows and columns
    away. Ignored pixels (in either map) and the scene's edge make no boundary.

    Args:
        preds: Predicted class of each pixel, ``(H, W)`` uint8 in ``[0, n_classes)``.
        labels: True class of each pixel, ``(H, W)`` uint8, or ``ignore``.
        n_classes: Number of classes K, at least 2.
        distance_px: Reach of a border in pixels, 1 to 127.
        ignore: Label value whose pixels are left out; ``None`` counts every pixel. To leave out the classes that the
            legend does not count too, set their labels to ``ignore`` first.
    Returns:
        ``(K, 3)`` int64 in pixels: intersection, predicted boundary, true boundary. Boundary IoU of a class is
        ``intersection / (predicted + true - intersection)``.
    Raises:
        ShapeError: ``preds`` and ``labels`` differ in shape.
        ClassIndexError: A counted pixel lies outside ``[0, n_classes)``.
        ConfigError: ``distance_px`` is out of range.
    Source: Cheng, Girshick, Dollár, Berg & Kirillov 2021, Boundary IoU, eq. 2; as in their code the distance is the
    larger of rows and columns (a square of 2d + 1 pixels). Departure: theirs counts the image's edge as a border.
    Example:
        >>> preds, labels = np.uint8([[0, 0, 0, 1, 1]]), np.uint8([[0, 0, 1, 1, 1]])
        >>> boundary_counts(preds, labels, n_classes=2, distance_px=1).tolist()
        [[0, 1, 1], [0, 1, 1]]
        >>> boundary_counts(preds, labels, n_classes=2, distance_px=2).tolist()
        [[1, 2, 2], [1, 2, 2]]
    """
    check_maps(preds, labels, n_classes=n_classes)
    if not 1 <= distance_px <= 127:
        raise ConfigError(f"distance_px is {distance_px}, expected 1 to 127 pixels.")
    valid = np.ones(labels.shape, bool) if ignore is None else labels != ignore
    near = [_near_border(np.where(valid, classes, 0), valid, distance_px, n_classes) for classes in (preds, labels)]
    table = value_table(*near)
    chosen = table[:n_classes, :n_classes].diagonal(), table.sum(axis=0)[:n_classes], table.sum(axis=1)[:n_classes]
    return np.stack(chosen, axis=-1)


def _near_border(classes: LabelMap, valid: NDArray[np.bool_], distance_px: int, n_classes: int) -> LabelMap:
    """Return the class of pixels near another class, 255 elsewhere.

    A pixel is near another class where the largest or the smallest valid class in the square around it is not its own.
    """
    import cv2  # a quarter of a second that `compare`, which needs no pixels, does not pay

    if classes.size and classes.max() >= n_classes:
        raise ClassIndexError(
            f"a map holds class {classes.max()}, expected 0 to {n_classes - 1}. Check legend and ignored value."
        )
    square = np.ones((2 * distance_px + 1, 2 * distance_px + 1), np.uint8)
    highest = cv2.dilate(classes, square)
    lowest = cv2.erode(np.where(valid, classes, np.uint8(255)), square)
    return np.where(valid & ((highest != classes) | (lowest != classes)), classes, np.uint8(255))


Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Words = NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class SceneCounts:
    """One run's evaluation of one split, scene by scene; where something was not measured its pixels are 0.

    Attributes:
        scenes: Ids, ``(S,)``.
        groups: The group of each scene, the resampling unit, ``(S,)``.
        labels_sha256: Hash of each scene's labels, ``(S,)``.
        legend_sha256: Hash of the legend.
        split_sha256: Hash of the split.
        counts: ``(S, K, K)``, true by predicted class, in pixels.
        boundary: ``(S, K, 3)``: intersection, predicted and true boundary pixels.
        boundary_px: The distance that makes a pixel a boundary pixel.
        conf_n: Pixels by predicted class and bin of confidence, ``(S, K, B)``.
        conf_sum: Sum of their confidences, ``(S, K, B)``.
        conf_correct: Those of them that are right, ``(S, K, B)``.
        loss_sum: Sum over counted pixels of −log p(true class), ``(S,)``.
        loss_pixels: Their number, ``(S,)``.
        forward_s: Seconds that the model took, ``(S,)``.
        megapixels: Size of each scene, ``(S,)``.
    Raises:
        RecordError: An array has another type or shape than these, or holds a negative number.
    """

    scenes: Words
    groups: Words
    labels_sha256: Words
    legend_sha256: str
    split_sha256: str
    counts: Ints
    boundary: Ints
    boundary_px: int
    conf_n: Ints
    conf_sum: Floats
    conf_correct: Ints
    loss_sum: Floats
    loss_pixels: Ints
    forward_s: Floats
    megapixels: Floats

    def __post_init__(self) -> None:
        _check_arrays(self)

    @property
    def n_classes(self) -> int:
        """The number of classes K, uncounted ones included."""
        return int(self.counts.shape[-1])

    @property
    def loss(self) -> float:
        """Mean of −log p(true class) over the counted pixels; not a number without any."""
        pixels = int(self.loss_pixels.sum())
        return float(self.loss_sum.sum() / pixels) if pixels else math.nan

    @property
    def megapixels_per_s(self) -> float:
        """Megapixels a second of the model."""
        return float(self.megapixels.sum() / max(1e-9, float(self.forward_s.sum())))


def join_counts(parts: Sequence[SceneCounts], *, split_sha256: str) -> SceneCounts:
    """Join the counts of several sets of scenes into one record, the scenes in order of their ids.

    Args:
        parts: Counts of unlike scenes with one legend and one boundary distance.
        split_sha256: Hash of the split that all the scenes together belong to.
    Raises:
        RecordError: Two parts hold the same scene, or legends, classes or boundary distances differ.
    """
    alike = {(part.legend_sha256, part.boundary_px, part.counts.shape[1:], part.conf_n.shape[1:]) for part in parts}
    if len(alike) != 1:
        raise RecordError("counts were made with unlike legends or boundaries. Evaluate all folds again.")
    order = np.argsort(np.concatenate([part.scenes for part in parts]), kind="stable")
    joined = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in _KINDS}
    first = parts[0]
    return SceneCounts(
        legend_sha256=first.legend_sha256, split_sha256=split_sha256, boundary_px=first.boundary_px, **joined
    )


_KINDS = {
    "scenes": "U", "groups": "U", "labels_sha256": "U", "counts": "i", "boundary": "i", "conf_n": "i",
    "conf_sum": "f", "conf_correct": "i", "loss_sum": "f", "loss_pixels": "i", "forward_s": "f", "megapixels": "f",
}  # fmt: skip


def write_counts(path: Path, counts: SceneCounts) -> None:
    """Write a record of counts atomically.

    Args:
        path: The file, ``counts-<split>.npz`` in a run folder.
        counts: The record.
    Raises:
        DiskError: The file cannot be written.
    """
    arrays = {field.name: np.asarray(getattr(counts, field.name)) for field in fields(counts)}
    arrays |= {"schema": np.array(SCHEMAS["counts"]), "kind": np.array("counts")}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_counts(path: str | PathLike[str]) -> SceneCounts:
    """Read a record of counts and check it; arrays that it does not know are left alone.

    Args:
        path: A file that :func:`write_counts` wrote.
    Returns:
        The record.
    Raises:
        RecordError: The file is missing or damaged, of another kind or schema, or its arrays do not fit together.
    """
    path = Path(path)
    arrays = _load(path)
    if str(arrays.get("kind")) != "counts":
        raise RecordError(
            f"{path}: is not a counts record. Give a counts-<split>.npz that `levelground evaluate` wrote."
        )
    schema = arrays.get("schema", np.array(0))
    check_schema(path, int(schema) if schema.shape == () and schema.dtype.kind in "iu" else str(schema), kind="counts")
    missing = [field.name for field in fields(SceneCounts) if field.name not in arrays]
    if missing:
        raise RecordError(f"{path}: {', '.join(missing)} missing. Run `levelground evaluate` again.")
    values: dict[str, object] = {field.name: arrays[field.name] for field in fields(SceneCounts)}
    for name in ("legend_sha256", "split_sha256"):
        values[name] = str(arrays[name])
    try:
        values["boundary_px"] = int(arrays["boundary_px"])
        return SceneCounts(**values)  # type: ignore[arg-type]  # every array was checked by name just above
    except (RecordError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: {error}") from error


def _load(path: Path) -> dict[str, NDArray[np.generic]]:
    """Load the known arrays of an npz file; refuse objects (pickles)."""
    names = ("schema", "kind", *(field.name for field in fields(SceneCounts)))
    try:
        return read_arrays(path, names, _check_header)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such counts. Run `levelground evaluate` on this run first.") from error
    except DAMAGED as error:
        raise RecordError(f"{path}: unreadable counts ({error}). Run `levelground evaluate` again.") from error


def _check_header(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Refuse an array that no record of counts holds before its values are read: 255 classes are the most."""
    widest = {"counts": 255 * 255, "boundary": 255 * 3}.get(name, 255 * 100 if name.startswith("conf") else 1)
    if math.prod(shape[1:]) > widest or dtype.itemsize > 4 * 4096:
        raise ValueError(f"{name}: shape {shape} of {dtype}")


_MOST = 1e15
"""The largest number in a record: more pixels than any scene has; sums of larger ones would overflow."""


def _check_arrays(record: SceneCounts) -> None:
    """Refuse a record whose arrays do not fit together."""
    if record.counts.ndim != 3 or record.conf_n.ndim != 3:
        raise RecordError(
            f"counts have shape {record.counts.shape} and conf_n {record.conf_n.shape}, expected (S, K, K) and "
            "(S, K, B). Evaluate the run again."
        )
    n_scenes, n_classes, bins = record.counts.shape[0], record.counts.shape[-1], record.conf_n.shape[-1]
    shapes: dict[str, tuple[int, ...]] = {
        "counts": (n_scenes, n_classes, n_classes),
        "boundary": (n_scenes, n_classes, 3),
        **dict.fromkeys(("conf_n", "conf_sum", "conf_correct"), (n_scenes, n_classes, bins)),
    }
    for name, kind in _KINDS.items():
        array, shape = getattr(record, name), shapes.get(name, (n_scenes,))
        if array.shape != shape:
            raise RecordError(f"{name} have shape {array.shape}, expected {shape}. Evaluate the run again.")
        if array.dtype.kind != kind or (kind != "U" and array.dtype.itemsize != 8):
            expected = {"U": "text", "i": "int64", "f": "float64"}[kind]
            raise RecordError(f"{name} have type {array.dtype}, expected {expected}. Evaluate the run again.")
        if kind != "U" and not (array >= 0).all():
            raise RecordError(f"{name} hold a negative number or none at all. Evaluate the run again.")
        if kind != "U" and name != "loss_sum" and not (array <= _MOST).all():  # a loss may be infinite
            raise RecordError(f"{name} hold a number above {_MOST:g}. Evaluate the run again.")
    for name, most in (("conf_correct", 1.0), ("conf_sum", 1.02)):  # confidences are at most 1, but for rounding
        if (getattr(record, name) > record.conf_n * most).any():
            raise RecordError(f"{name} hold more than the pixels in conf_n. Evaluate the run again.")
    if len(set(record.scenes.tolist())) != n_scenes:
        raise RecordError("a scene is listed twice. Evaluate the run again.")
