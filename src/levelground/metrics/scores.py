"""Counts to scores: IoU, F1, accuracy under the three scorings. The absent-class rule lives only here.

Letters: K classes; ``counts[..., true, pred]`` in pixels, any leading axes (scenes, runs, resamples). For a class k of
the class set: TP = pixels of k predicted k, T = true pixels of k, P = pixels predicted k, all after the scoring has
left out what it leaves out. Then

    IoU = TP / (P + T - TP)      F1 = 2 TP / (P + T)      precision = TP / P      recall = TP / T

The class set is fixed by the ground truth: classes of the scoring with T > 0 in the counts at hand. A class without
true pixels has no score (NaN) and enters no mean, even where it was predicted: those pixels already are misses of true
classes. So all runs scored on the same scenes (or the same resample of them) have the same class set.

The scorings differ in the true pixels of classes that the legend does not count (DeepGlobe's unknown):

- ``official``: left out, as the challenge does; mean over the counted classes.
- ``kept``: they stay as false positives of the counted classes that they were taken for; mean over these (GLNet).
- ``all``: every class of the legend counts (the origin study).
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ConfigError, ShapeError

Scoring = Literal["official", "kept", "all"]
ClassKind = Literal["iou", "f1", "precision", "recall"]
Scores = NDArray[np.float64]
AnyCounts = NDArray[np.int64] | NDArray[np.float64]  # (..., K, K); or boundary counts (..., K, 3)
Counted = NDArray[np.bool_]  # (K,), the legend's counted classes


class Margins(NamedTuple):
    """TP, P and T of each class, of which its scores are functions; each part adds over scenes.

    Attributes:
        tp: Pixels of the class predicted as the class, ``(..., K)``.
        pred: Pixels predicted as the class, ``(..., K)``.
        true: True pixels of the class, ``(..., K)``; zero for classes outside the scoring's class set.
    """

    tp: Scores
    pred: Scores
    true: Scores


def scorings(counted: Counted) -> tuple[Scoring, ...]:
    """Return the scorings that differ: three, or only ``official`` where every class counts.

    Example:
        >>> scorings(np.array([True, True])), scorings(np.array([True, True, False]))
        (('official',), ('official', 'kept', 'all'))
    """
    return ("official",) if bool(np.all(counted)) else get_args(Scoring)


def margins(counts: AnyCounts, counted: Counted, scoring: Scoring) -> Margins:
    """Reduce confusion counts to each class's TP, P and T under a scoring.

    Args:
        counts: ``(..., K, K)``, true by predicted class.
        counted: Which classes of the legend count, ``(K,)``.
        scoring: Which true pixels stay and which classes are scored.
    Returns:
        Three ``(..., K)`` float64 arrays (exact up to 2^53 pixels), zero for classes outside the scoring.
    Raises:
        ShapeError: ``counts`` are not ``(..., K, K)`` for the K of ``counted``.
        ConfigError: ``scoring`` is not one of the three.
    """
    _check_counts(counts, counted)
    if scoring not in get_args(Scoring):
        raise ConfigError(f"scoring is {scoring!r}, expected one of {', '.join(get_args(Scoring))}.")
    members = np.ones_like(counted) if scoring == "all" else counted
    rows = counts[..., members, :] if scoring == "official" else counts
    tp = np.diagonal(counts, axis1=-2, axis2=-1)
    return Margins(
        np.where(members, tp, 0).astype(np.float64),
        np.where(members, rows.sum(axis=-2), 0).astype(np.float64),
        np.where(members, counts.sum(axis=-1), 0).astype(np.float64),
    )


def class_iou(counts: AnyCounts, counted: Counted, scoring: Scoring = "official") -> Scores:
    """Compute the intersection over union of each class, NaN outside the class set.

    Args:
        counts: ``(..., K, K)``, true by predicted class.
        counted: Which classes of the legend count, ``(K,)``.
        scoring: See the module.
    Returns:
        ``(..., K)`` fractions.
    Example:
        >>> class_iou(np.array([[3, 1, 0], [1, 1, 0], [2, 0, 0]]), np.array([True, True, False])).round(3)
        array([0.6  , 0.333,   nan])
    """
    return ratio("iou", margins(counts, counted, scoring))


def class_f1(counts: AnyCounts, counted: Counted, scoring: Scoring = "official") -> Scores:
    """Compute F1 (= Dice) of each class, ``(..., K)``, NaN outside the class set; arguments as :func:`class_iou`."""
    return ratio("f1", margins(counts, counted, scoring))


def precision(counts: AnyCounts, counted: Counted, scoring: Scoring = "official") -> Scores:
    """Compute the share of right pixels among a class's predictions, ``(..., K)``; NaN also without predictions."""
    return ratio("precision", margins(counts, counted, scoring))


def recall(counts: AnyCounts, counted: Counted, scoring: Scoring = "official") -> Scores:
    """Compute the share of found pixels among a class's true ones, ``(..., K)``, NaN outside the class set."""
    return ratio("recall", margins(counts, counted, scoring))


def miou(counts: AnyCounts, counted: Counted, scoring: Scoring = "official") -> Scores:
    """Compute the macro mean of :func:`class_iou` over the class set, ``(...)``; NaN where the set is empty.

    Example:
        >>> counts = np.array([[3, 1, 0], [1, 1, 0], [2, 0, 0]])
        >>> [round(float(miou(counts, np.array([True, True, False]), s)), 3) for s in ("official", "kept", "all")]
        [0.467, 0.381, 0.254]
    """
    return macro(class_iou(counts, counted, scoring), axis=-1)


def mf1(counts: AnyCounts, counted: Counted, scoring: Scoring = "official") -> Scores:
    """Compute the macro mean of :func:`class_f1` over the class set, ``(...)``; NaN where the set is empty."""
    return macro(class_f1(counts, counted, scoring), axis=-1)


def pixel_accuracy(counts: AnyCounts, counted: Counted, scoring: Scoring = "official") -> Scores:
    """Compute the share of right pixels among those that enter the IoU of any class of the scoring, ``(...)``.

    ``official``: of the true pixels of counted classes. ``kept``: true pixels of other classes count as wrong where
    they were taken for a counted class, and not at all elsewhere. ``all``: of all pixels.

    Example:
        >>> counts = np.array([[3, 1, 0], [1, 1, 0], [2, 0, 4]])
        >>> [round(float(pixel_accuracy(counts, np.array([True, True, False]), s)), 3) for s in scorings(
        ...     np.array([True, True, False]))]
        [0.667, 0.5, 0.667]
    """
    right, entering = accuracy_parts(counts, counted, scoring)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(entering > 0, right / entering, np.nan))


def fwiou(counts: AnyCounts, counted: Counted, scoring: Scoring = "official") -> Scores:
    """Compute frequency-weighted IoU: the mean of :func:`class_iou` weighted by true pixels, ``(...)``.

        FWIoU = Σ T · IoU / Σ T        over the class set

    Args:
        counts: ``(..., K, K)``, true by predicted class.
        counted: Which classes of the legend count, ``(K,)``.
        scoring: See the module.
    Returns:
        Fractions; NaN where the class set is empty.
    Source: Long, Shelhamer & Darrell 2015, Fully Convolutional Networks for Semantic Segmentation, section 5,
    "frequency weighted IU". Departure: the weights are those of the class set, after the scoring has left out what it
    leaves out.
    Example:
        >>> round(float(fwiou(np.array([[6, 2], [1, 1]]), np.array([True, True]))), 4)  # (8 · 6/9 + 2 · 1/4) / 10
        0.5833
    """
    return fwiou_of(margins(counts, counted, scoring), axis=-1)


def kappa(counts: AnyCounts, counted: Counted, scoring: Scoring = "official") -> Scores:
    """Compute Cohen's kappa: agreement beyond what the class shares alone would give by chance, ``(...)``.

        κ = (p_o - p_e) / (1 - p_e),    p_o = Σ TP / N,    p_e = Σ T · P / N²,    N = Σ T

    ``official``: over the true pixels of counted classes; a prediction of a class that is not counted agrees with
    none. ``all``: over all pixels. ``kept`` has no kappa: the false positives that it adds have no true class in the
    class set, so chance agreement is not defined.

    Args:
        counts: ``(..., K, K)``, true by predicted class.
        counted: Which classes of the legend count, ``(K,)``.
        scoring: ``official`` or ``all``.
    Returns:
        From -1 to 1, 0 for chance; NaN without pixels, and where both hold one and the same class alone.
    Raises:
        ConfigError: The scoring is ``kept``.
    Source: Cohen 1960, A Coefficient of Agreement for Nominal Scales, eq. 1; for maps Congalton 1991,
    A Review of Assessing the Accuracy of Classifications of Remotely Sensed Data (there KHAT). Pontius & Millones 2011,
    Death to Kappa, say why accuracy should stand beside it.
    Example:
        >>> round(float(kappa(np.array([[45, 15], [25, 15]]), np.array([True, True]))), 4)
        0.1304
    """
    if scoring == "kept":
        raise ConfigError("kappa has no scoring 'kept', expected one of official, all.")
    return kappa_of(margins(counts, counted, scoring), axis=-1)


def boundary_iou(boundary: AnyCounts) -> Scores:
    """Compute Boundary IoU of each class from boundary counts ``(..., K, 3)``; NaN without a true boundary.

    Example:
        >>> boundary_iou(np.array([[1, 2, 3], [0, 5, 0]]))
        array([0.25,  nan])
    """
    return ratio("iou", boundary_margins(boundary))


def ratio(kind: ClassKind, parts: Margins) -> Scores:
    """Compute a class's score from its margins, NaN for a class without true pixels (the absent-class rule).

    Args:
        kind: ``iou``, ``f1``, ``precision`` or ``recall``.
        parts: TP, P and T of any one shape.
    Returns:
        The score in that shape; precision is NaN also where P = 0.
    """
    tp, pred, true = parts
    with np.errstate(divide="ignore", invalid="ignore"):
        match kind:
            case "iou":
                scores = tp / (pred + true - tp)
            case "f1":
                scores = 2 * tp / (pred + true)
            case "precision":
                scores = tp / pred
            case _:
                scores = tp / true
    absent = true <= 0
    if absent.any():
        scores = np.where(absent, np.nan, scores)
    return scores


def macro(scores: Scores, *, axis: int) -> Scores:
    """Average over the class axis the classes that have a score; NaN where none has."""
    missing = np.isnan(scores)
    if not missing.any():
        return np.asarray(scores.mean(axis=axis))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(missing, 0.0, scores).sum(axis=axis) / (~missing).sum(axis=axis))


def fwiou_of(parts: Margins, *, axis: int) -> Scores:
    """Compute :func:`fwiou` from margins whose classes lie along an axis."""
    weighted = np.where(parts.true > 0, parts.true * ratio("iou", parts), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(weighted.sum(axis=axis) / parts.true.sum(axis=axis))


def kappa_of(parts: Margins, *, axis: int) -> Scores:
    """Compute :func:`kappa` from margins whose classes lie along an axis."""
    n = parts.true.sum(axis=axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = parts.tp.sum(axis=axis) / n
        by_chance = (parts.true * parts.pred).sum(axis=axis) / n**2
        return np.asarray((observed - by_chance) / (1 - by_chance))


def accuracy_parts(counts: AnyCounts, counted: Counted, scoring: Scoring) -> tuple[Scores, Scores]:
    """Count right and entering pixels of :func:`pixel_accuracy`, ``(...)`` each; both add over scenes."""
    tp, _, true = margins(counts, counted, scoring)
    entering = true.sum(axis=-1)
    if scoring == "kept":
        entering = entering + counts[..., ~counted, :][..., counted].sum(axis=(-2, -1))
    return tp.sum(axis=-1), entering


def boundary_margins(boundary: AnyCounts) -> Margins:
    """Turn boundary counts ``(..., K, 3)`` into margins, so that Boundary IoU is an IoU like any other.

    Raises:
        ShapeError: The last axis is not of length 3.
    """
    if boundary.shape[-1:] != (3,):
        raise ShapeError(f"boundary counts are {boundary.shape}, expected (..., K, 3) as boundary_counts gives them.")
    values = boundary.astype(np.float64)
    return Margins(values[..., 0], values[..., 1], values[..., 2])


def _check_counts(counts: AnyCounts, counted: Counted) -> None:
    """Refuse counts whose last two axes are not the legend's classes."""
    if counts.ndim < 2 or counts.shape[-2:] != (counted.size, counted.size):
        raise ShapeError(
            f"counts are {counts.shape}, expected (..., {counted.size}, {counted.size}) for a legend of "
            f"{counted.size} classes. Give the counts and the legend of the same evaluation."
        )
