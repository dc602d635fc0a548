"""Metrics by name, such as ``official.miou`` or ``kept.iou:Water``, in the form that resampling works on.

Every metric here is a macro mean over C classes of a ratio of TP, P and T (see :mod:`levelground.metrics.scores`), so
its value for any resample of scenes is a function of ``(3, C)`` sums. Resamples stand last, where arrays are
contiguous.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from levelground.errors import ConfigError
from levelground.metrics.scores import (
    AnyCounts,
    ClassKind,
    Counted,
    Margins,
    Scores,
    accuracy_parts,
    boundary_margins,
    macro,
    margins,
    ratio,
    scorings,
)

Kind = Literal["miou", "mf1", "pixel_accuracy", "iou", "f1", "precision", "recall"]
View = Literal["official", "kept", "all", "boundary"]

_PARTS: dict[Kind, ClassKind] = {
    "miou": "iou", "mf1": "f1", "pixel_accuracy": "recall", "iou": "iou", "f1": "f1", "precision": "precision",
    "recall": "recall",
}  # fmt: skip
_BOUNDARY_KINDS: tuple[Kind, ...] = ("miou", "iou")
_OF_ONE_CLASS = get_args(ClassKind)


@dataclass(frozen=True)
class Metric:
    """A score of a run, made by :func:`parse_metric`.

    Attributes:
        name: Such as ``official.miou`` or ``kept.iou:Water``.
        kind: What is computed.
        view: Its scoring; ``boundary`` for the IoU of class borders, which is computed from boundary counts.
        class_index: The one class scored, or ``None`` for all of the class set.
    """

    name: str
    kind: Kind
    view: View
    class_index: int | None = None

    def sums(self, counts: AnyCounts, counted: Counted) -> Scores:
        """Reduce counts to what the metric is a function of; the result adds over scenes.

        Args:
            counts: ``(..., K, K)``; for a ``boundary`` metric boundary counts ``(..., K, 3)``.
            counted: Which classes of the legend count, ``(K,)``.
        Returns:
            TP, P and T of the C classes scored, ``(3, C, ...)`` with the leading axes of ``counts`` last.
        Raises:
            ShapeError: ``counts`` do not fit the metric or the legend.
        """
        if self.view == "boundary":
            parts = boundary_margins(counts)
        elif self.kind == "pixel_accuracy":
            right, entering = accuracy_parts(counts, counted, self.view)
            return np.stack((right, entering, entering))[:, None]
        else:
            parts = margins(counts, counted, self.view)
        chosen = np.flatnonzero(np.ones_like(counted) if self.view == "all" else counted)
        if self.class_index is not None:
            chosen = np.array([self.class_index])
        return np.ascontiguousarray(np.stack([np.moveaxis(part, -1, 0)[chosen] for part in parts]))

    def score(self, sums: Scores) -> Scores:
        """The metric of sums ``(3, C, ...)``, in the shape of their last axes; NaN where the class set is empty.

        Example:
            >>> metric = parse_metric("official.miou", ("a", "b"), np.array([True, True]))
            >>> sums = metric.sums(np.array([[[3, 1], [1, 1]], [[0, 1], [0, 2]]]), np.array([True, True]))
            >>> metric.score(sums.sum(axis=-1)).round(3).tolist(), metric.score(sums).round(3).tolist()
            (0.5, [0.467, 0.333])
        """
        return macro(ratio(_PARTS[self.kind], Margins(*sums)), axis=0)


def parse_metric(text: str, names: Sequence[str], counted: Counted) -> Metric:
    """Read a metric's name.

    Args:
        text: ``VIEW.KIND`` or ``VIEW.KIND:CLASS``; see the example and ``docs/metrics.md``.
        names: The legend's class names by index; upper and lower case are the same.
        counted: Which classes of the legend count, ``(K,)``.
    Returns:
        The metric, its name in the legend's own spelling.
    Raises:
        ConfigError: No such view, kind or class, or a class that the view does not score.
    Example:
        >>> legend, counted = ("Urban", "Water", "Unknown"), np.array([True, True, False])
        >>> parse_metric("kept.iou:water", legend, counted)
        Metric(name='kept.iou:Water', kind='iou', view='kept', class_index=1)
        >>> parse_metric("official.pixel_accuracy", legend, counted).class_index is None
        True
    """
    head, colon, class_name = text.partition(":")
    view, _, kind = head.partition(".")
    if view not in get_args(View):
        raise ConfigError(f"metric {text!r}: no view {view!r}, expected one of {', '.join(get_args(View))}.")
    kinds = _BOUNDARY_KINDS if view == "boundary" else get_args(Kind)
    if kind not in kinds:
        raise ConfigError(f"metric {text!r}: no kind {kind!r} of {view}, expected one of {', '.join(kinds)}.")
    if (kind in _OF_ONE_CLASS) != bool(colon):
        example = f"{view}.{kind}:{names[0]}" if kind in _OF_ONE_CLASS else f"{view}.{kind}"
        raise ConfigError(f"metric {text!r}: {kind} is of {'one' if not colon else 'no one'} class. Write {example!r}.")
    if not colon:
        return Metric(f"{view}.{kind}", kind, view)  # type: ignore[arg-type]  # both were looked up just above
    index = _class_index(text, class_name, names)
    if view != "all" and not counted[index]:
        raise ConfigError(f"metric {text!r}: the legend does not count {names[index]!r}. Use 'all.{kind}:…'.")
    return Metric(f"{view}.{kind}:{names[index]}", kind, view, index)  # type: ignore[arg-type]  # as above


def mean_metrics(counted: Counted) -> tuple[Metric, ...]:
    """The metrics over all classes under every scoring that differs: the columns of the multiverse, boundaries apart.

    Example:
        >>> [metric.name for metric in mean_metrics(np.array([True, True]))]
        ['official.miou', 'official.mf1', 'official.pixel_accuracy']
    """
    kinds: tuple[Kind, ...] = ("miou", "mf1", "pixel_accuracy")
    return tuple(Metric(f"{scoring}.{kind}", kind, scoring) for scoring in scorings(counted) for kind in kinds)


def _class_index(text: str, class_name: str, names: Sequence[str]) -> int:
    """The index of a class by its name, whatever its case."""
    wanted = class_name.strip().casefold()
    for index, name in enumerate(names):
        if name.casefold() == wanted:
            return index
    raise ConfigError(f"metric {text!r}: no class {class_name!r}, expected one of {', '.join(names)}.")
