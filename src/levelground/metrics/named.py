"""Named metrics, such as ``official.miou`` or ``kept.iou:Water``: one entry each, read by tables, page, card and flag.

:data:`METRICS` is the only list of metrics. An entry says what its metric is called, under which scorings it exists,
its range, where it is shown, and its formula in two steps: a reduction of counts to sums that add over scenes, and the
score as a function of these sums. Resampling works on the sums (see :mod:`levelground.statistics.resampling`), so any
such pair of functions has intervals, a permutation test and a place in every table. Resamples stand last, where arrays
are contiguous. In every metric higher is better: an error rate would enter as one minus itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ConfigError
from levelground.metrics.scores import (
    AnyCounts,
    ClassKind,
    Counted,
    Margins,
    Scores,
    Scoring,
    accuracy_parts,
    boundary_margins,
    fwiou_of,
    kappa_of,
    macro,
    margins,
    ratio,
    scorings,
)

View = Literal["official", "kept", "all", "boundary"]
"""What a metric is computed from: confusion counts under one of the three scorings, or boundary counts."""

Classes = NDArray[np.intp]  # (C,), indices of the classes scored
Reduction = Callable[[AnyCounts, Counted, View, Classes], Scores]
Formula = Callable[[Scores], Scores]

_SCORINGS: tuple[View, ...] = get_args(Scoring)


@dataclass(frozen=True)
class MetricKind:
    """One kind of metric: everything that any part of the program needs to know of it.

    Attributes:
        name: As ``--metric`` and JSON keys spell it, such as ``miou``.
        words: As tables, page and prose print it, such as ``mIoU``.
        reduce: Counts ``(..., K, K)``, or boundary counts ``(..., K, 3)``, to sums ``(L, C, ...)`` that add over
            scenes; both leading axes are the metric's own.
        formula: Sums ``(L, C, ...)`` to scores ``(...)``; NaN where the metric does not exist.
        views: Where the metric exists.
        of_class: Whether it is of one class, written ``VIEW.KIND:CLASS``.
        range: The least and the greatest value.
        column: Whether score tables, page, model card and the table of metric sensitivity show it without being asked.
        in_history: Whether each validation writes it into the run's history, as ``val_NAME``.
    """

    name: str
    words: str
    reduce: Reduction
    formula: Formula
    views: tuple[View, ...] = _SCORINGS
    of_class: bool = False
    range: tuple[float, float] = (0.0, 1.0)
    column: bool = False
    in_history: bool = False


def class_sums(counts: AnyCounts, counted: Counted, view: View, classes: Classes) -> Scores:
    """Reduce counts to TP, P and T of the classes scored, ``(3, C, ...)``."""
    parts = boundary_margins(counts) if view == "boundary" else margins(counts, counted, view)
    return np.ascontiguousarray(np.stack([np.moveaxis(part, -1, 0)[classes] for part in parts]))


def accuracy_sums(counts: AnyCounts, counted: Counted, view: View, classes: Classes) -> Scores:
    """Reduce counts to right, entering and entering pixels, ``(3, 1, ...)``: a recall of all classes together."""
    assert view != "boundary"  # no entry with this reduction has the view
    right, entering = accuracy_parts(counts, counted, view)
    return np.stack((right, entering, entering))[:, None]


def _mean_of(kind: ClassKind) -> Formula:
    """Make the formula of a macro mean over classes of a ratio of TP, P and T."""

    def formula(sums: Scores) -> Scores:
        return macro(ratio(kind, Margins(*sums)), axis=0)

    return formula


def _entries() -> dict[str, MetricKind]:
    """Make all entries, in the order of tables."""
    every: tuple[View, ...] = get_args(View)
    entries = (
        MetricKind("miou", "mIoU", class_sums, _mean_of("iou"), every, column=True, in_history=True),
        MetricKind("mf1", "mean F1", class_sums, _mean_of("f1"), column=True),
        MetricKind("pixel_accuracy", "pixel accuracy", accuracy_sums, _mean_of("recall"), column=True, in_history=True),
        MetricKind("fwiou", "FWIoU", class_sums, lambda sums: fwiou_of(Margins(*sums), axis=0)),
        MetricKind(
            "kappa",
            "Cohen's kappa",
            class_sums,
            lambda sums: kappa_of(Margins(*sums), axis=0),
            views=("official", "all"),  # with the rows that `kept` adds, chance agreement has no agreed definition
            range=(-1.0, 1.0),
        ),
        MetricKind("iou", "IoU", class_sums, _mean_of("iou"), every, of_class=True),
        MetricKind("f1", "F1", class_sums, _mean_of("f1"), of_class=True),
        MetricKind("precision", "precision", class_sums, _mean_of("precision"), of_class=True),
        MetricKind("recall", "recall", class_sums, _mean_of("recall"), of_class=True),
    )
    return {entry.name: entry for entry in entries}


METRICS: dict[str, MetricKind] = _entries()
"""Every metric by name. To add one, add its entry here and its line to ``docs/metrics.md``."""


@dataclass(frozen=True)
class Metric:
    """A score of a run, made by :func:`parse_metric`.

    Attributes:
        name: Such as ``official.miou`` or ``kept.iou:Water``.
        kind: What is computed, a name in :data:`METRICS`.
        view: Its scoring; ``boundary`` for the IoU of class borders, which is computed from boundary counts.
        class_index: The one class scored, or ``None`` for all of the class set.
    """

    name: str
    kind: str
    view: View
    class_index: int | None = None

    def sums(self, counts: AnyCounts, counted: Counted) -> Scores:
        """Reduce counts to what the metric is a function of; the result adds over scenes.

        Args:
            counts: ``(..., K, K)``; for a ``boundary`` metric boundary counts ``(..., K, 3)``.
            counted: Which classes of the legend count, ``(K,)``.
        Returns:
            ``(L, C, ...)``: the metric's own axes, then the leading axes of ``counts``; of most metrics the L = 3
            are TP, P and T of the C classes scored.
        Raises:
            ShapeError: ``counts`` do not fit the metric or the legend.
        """
        chosen = np.flatnonzero(np.ones_like(counted) if self.view == "all" else counted)
        if self.class_index is not None:
            chosen = np.array([self.class_index])
        return METRICS[self.kind].reduce(counts, counted, self.view, chosen)

    def score(self, sums: Scores) -> Scores:
        """Compute the metric from sums ``(L, C, ...)``, in the shape of their last axes; NaN where it does not exist.

        Example:
            >>> metric = parse_metric("official.miou", ("a", "b"), np.array([True, True]))
            >>> sums = metric.sums(np.array([[[3, 1], [1, 1]], [[0, 1], [0, 2]]]), np.array([True, True]))
            >>> metric.score(sums.sum(axis=-1)).round(3).tolist(), metric.score(sums).round(3).tolist()
            (0.5, [0.467, 0.333])
        """
        return METRICS[self.kind].formula(sums)


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
    kinds = [name for name, entry in METRICS.items() if view in entry.views]
    if kind not in kinds:
        raise ConfigError(f"metric {text!r}: no kind {kind!r} of {view}, expected one of {', '.join(kinds)}.")
    of_class = METRICS[kind].of_class
    if of_class != bool(colon):
        example = f"{view}.{kind}:{names[0]}" if of_class else f"{view}.{kind}"
        raise ConfigError(f"metric {text!r}: {kind} is of {'one' if not colon else 'no one'} class. Write {example!r}.")
    if not colon:
        return Metric(f"{view}.{kind}", kind, view)  # type: ignore[arg-type]  # it was looked up just above
    index = _class_index(text, class_name, names)
    if view != "all" and not counted[index]:
        raise ConfigError(f"metric {text!r}: the legend does not count {names[index]!r}. Use 'all.{kind}:…'.")
    return Metric(f"{view}.{kind}:{names[index]}", kind, view, index)  # type: ignore[arg-type]  # as above


def overall_metrics(view: str, *, columns: bool = False) -> tuple[Metric, ...]:
    """Return the metrics over all classes under a view; with ``columns`` only those shown without being asked.

    Example:
        >>> [metric.name for metric in overall_metrics("boundary")]
        ['boundary.miou']
    """
    return tuple(
        Metric(f"{view}.{name}", name, view)
        for name, entry in METRICS.items()
        if view in entry.views and not entry.of_class and (entry.column or not columns)
    )


def class_kinds(view: str) -> tuple[str, ...]:
    """Return the kinds of metric that are of one class, under a view.

    Example:
        >>> class_kinds("official"), class_kinds("boundary")
        (('iou', 'f1', 'precision', 'recall'), ('iou',))
    """
    return tuple(name for name, entry in METRICS.items() if view in entry.views and entry.of_class)


def class_scores(kind: str, counts: AnyCounts, counted: Counted, view: View) -> Scores:
    """Score each class of the legend by a kind of metric that is of one class.

    Args:
        kind: A name of :func:`class_kinds`.
        counts: ``(..., K, K)``, or boundary counts ``(..., K, 3)`` for the view ``boundary``.
        counted: Which classes of the legend count, ``(K,)``.
        view: What the score is computed from.
    Returns:
        ``(..., K)``; NaN for classes that have no score.
    Example:
        >>> class_scores("recall", np.array([[3, 1], [0, 0]]), np.array([True, True]), "official")
        array([0.75,  nan])
    """
    entry = METRICS[kind]
    sums = entry.reduce(counts, counted, view, np.arange(counted.size))
    return np.stack([entry.formula(sums[:, k : k + 1]) for k in range(counted.size)], axis=-1)


def mean_metrics(counted: Counted) -> tuple[Metric, ...]:
    """Return the metrics over all classes that tables show, under every scoring that differs, boundaries apart.

    Example:
        >>> [metric.name for metric in mean_metrics(np.array([True, True]))]
        ['official.miou', 'official.mf1', 'official.pixel_accuracy']
    """
    return tuple(metric for scoring in scorings(counted) for metric in overall_metrics(scoring, columns=True))


def validation_scores(counts: AnyCounts, counted: Counted) -> dict[str, float]:
    """Return the scores that a run's history keeps of a validation, under the official scoring, by their keys.

    Args:
        counts: ``(K, K)``, summed over scenes.
        counted: Which classes of the legend count, ``(K,)``.
    Example:
        >>> validation_scores(np.array([[3, 1], [1, 1]]), np.array([True, True]))
        {'val_miou': 0.4666..., 'val_pixel_accuracy': 0.6666...}
    """
    chosen = [metric for metric in overall_metrics("official") if METRICS[metric.kind].in_history]
    return {f"val_{metric.kind}": float(metric.score(metric.sums(counts, counted))) for metric in chosen}


def metric_range(name: str) -> tuple[float, float]:
    """Return the least and the greatest value of a metric, by its name.

    Example:
        >>> metric_range("official.iou:Water"), metric_range("official.kappa")
        ((0.0, 1.0), (-1.0, 1.0))
    """
    return METRICS[name.partition(":")[0].rpartition(".")[2]].range


def metric_names() -> str:
    """Return the kinds that ``--metric`` knows, in words for its help.

    Example:
        >>> metric_names()
        'miou, mf1, pixel_accuracy, fwiou, kappa, or of one class iou, f1, precision, recall'
    """
    overall = [name for name, entry in METRICS.items() if not entry.of_class]
    return f"{', '.join(overall)}, or of one class {', '.join(class_kinds('official'))}"


def _class_index(text: str, class_name: str, names: Sequence[str]) -> int:
    """Find a class by its name, in upper or lower case."""
    wanted = class_name.strip().casefold()
    for index, name in enumerate(names):
        if name.casefold() == wanted:
            return index
    raise ConfigError(f"metric {text!r}: no class {class_name!r}, expected one of {', '.join(names)}.")
