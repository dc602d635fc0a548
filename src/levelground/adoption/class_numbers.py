"""Signs that predictions number their classes otherwise than the legend: shifted by one, permuted, or never counted."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from levelground.imagery.legend import Legend
from levelground.metrics.scores import miou

SUSPECT_RATIO = 2.0
"""How many times as high the mean IoU must be under another numbering for a warning."""

SUSPECT_GAIN = 0.1
"""How much higher it must be at least: by chance, a permutation of six columns of noise gains some hundredths."""

SHIFT_SHARE = 0.8
"""Share of the best permutation's mean IoU from which on a shift by one is the simpler explanation."""


def doubt_class_numbers(counts: NDArray[np.int64], legend: Legend) -> str | None:
    """Say in one sentence why predictions seem to number their classes otherwise than the legend.

    Args:
        counts: True by predicted class, ``(K, K)``, pixels of all scenes.
        legend: The classes.
    Returns:
        The sentence with what to do, or ``None`` where the legend's own numbering is as good as any.

    Example:
        >>> from levelground.imagery.legend import default_legend
        >>> doubt_class_numbers(np.array([[0, 8, 0], [0, 0, 8], [0, 0, 0]]), default_legend(3))[:57]
        'the classes seem to be numbered from 1: mean IoU is 0.000'
    """
    counted = legend.counted
    judged = counts * counted[:, None]
    if not judged[:, counted].any():
        seen = ", ".join(legend.names[index] for index in np.flatnonzero(judged.sum(axis=0))) or "nothing"
        return (
            f"no counted class of {legend.name!r} occurs in the predictions, only {seen}: every score is 0. "
            "Check how the masks number or colour their classes."
        )
    own, order = _mean_iou(judged, counted), _best_order(judged, counted)
    permuted = _mean_iou(judged[:, order], counted)
    if not _is_suspect(own, permuted):
        return None
    for step, meaning, remedy in ((-1, "from 1", "Subtract 1 from"), (1, "one too low", "Add 1 to")):
        shifted = _mean_iou(np.roll(judged, step, axis=1), counted)
        if _is_suspect(own, shifted) and shifted > SHIFT_SHARE * permuted:
            return (
                f"the classes seem to be numbered {meaning}: mean IoU is {own:.3f}, and {shifted:.3f} with every class "
                f"moved by one. {remedy} each pixel of the masks, and adopt them again."
            )
    names = legend.names
    moved = [f"{names[old]} as {names[new]}" for new, old in enumerate(order) if new != old and judged[:, old].any()]
    return (
        f"the classes seem to be in another order: mean IoU is {own:.3f}, and {permuted:.3f} with "
        f"{', '.join(moved)}. Check the order of classes and, in colours, of the channels (red first)."
    )


def _is_suspect(own: float, other: float) -> bool:
    """Tell whether another numbering scores several times as high."""
    return other >= SUSPECT_RATIO * own and other - own >= SUSPECT_GAIN


def _mean_iou(counts: NDArray[np.int64], counted: NDArray[np.bool_]) -> float:
    """Compute the official mean IoU, 0 where no class has any pixel."""
    return float(np.nan_to_num(miou(counts, counted, "official")))


def _best_order(counts: NDArray[np.int64], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Find the column that each class should take for the highest sum of IoUs over counted classes."""
    true, predicted = counts.sum(axis=1, keepdims=True), counts.sum(axis=0, keepdims=True)
    union = true + predicted - counts
    iou = np.where(union > 0, counts / np.maximum(union, 1), 0.0) * counted[:, None]
    iou += 1e-9 * np.eye(len(counts))  # classes that gain nothing stay where they are
    return np.asarray(linear_sum_assignment(iou, maximize=True)[1], np.int64)
