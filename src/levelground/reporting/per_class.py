"""Classes of the report: IoU of each class, its differences between pairs, confusion matrices, scores of scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from levelground.comparison.record import Comparison
from levelground.comparison.results import ClassDifference, PairResult
from levelground.comparison.text import MISSING, between, per_cent, score, signed
from levelground.imagery.legend import Legend, LegendClass
from levelground.reporting.pairwise import pair_labels
from levelground.reporting.run_styles import StyledRun
from levelground.reporting.svg_charts import DataPoint, Scale, axis_strip, interval_strip, lane_strip, scale_over
from levelground.wording import decimal, gettext

FULL_IOU = Scale(0.0, 1.0)

MOST_CLASSES = 30
"""Rows of a confusion matrix; a larger one is not readable."""


@dataclass(frozen=True)
class ClassRow:
    """IoU of all runs in one class; ``share`` is the class's share of the true pixels."""

    entry: LegendClass
    share: str
    strip: Markup
    cells: tuple[str, ...]


@dataclass(frozen=True)
class ClassChart:
    """A dot chart of IoU by class; ``absent`` are the classes without an IoU."""

    rows: tuple[ClassRow, ...]
    absent: tuple[LegendClass, ...]
    axis: Markup
    scoring: str


@dataclass(frozen=True)
class ConfusionCell:
    """Pixels of one cell, as count, share of the true class and share of the predicted class.

    ``row_level`` and ``column_level`` are shades from 0 to 10; ``right`` marks the diagonal.
    """

    count: str
    row: str
    column: str
    row_level: int
    column_level: int
    right: bool


@dataclass(frozen=True)
class ConfusionTable:
    """A run's confusion matrix: each true class with its cells."""

    run: StyledRun
    classes: tuple[LegendClass, ...]
    rows: tuple[tuple[LegendClass, tuple[ConfusionCell, ...]], ...]


@dataclass(frozen=True)
class ClassDifferenceRow:
    """The difference of one class's IoU in a forest plot."""

    entry: LegendClass
    value: str
    interval: str
    strip: Markup


@dataclass(frozen=True)
class ClassDifferenceCell:
    """The difference of one class's IoU in a table; ``apart`` where its interval excludes 0."""

    value: str
    interval: str
    apart: bool


@dataclass(frozen=True)
class ClassDifferences:
    """Differences of IoU by class: a forest plot of the first pair, a table of all pairs."""

    names: tuple[str, str]
    rows: tuple[ClassDifferenceRow, ...]
    axis: Markup
    classes: tuple[LegendClass, ...]
    table: tuple[tuple[tuple[str, str], tuple[ClassDifferenceCell, ...]], ...]


def class_chart(comparison: Comparison, runs: Sequence[StyledRun]) -> ClassChart:
    """Draw each class's IoU in each run, under the primary metric's scoring."""
    scoring = comparison.primary_scoring
    ticks = FULL_IOU.ticks(5)
    rows, absent = [], []
    for entry in comparison.legend.classes:
        values = [run.result.scores[scoring].iou[entry.index] for run in runs]
        points = [
            DataPoint(run.label, run.style, value, 0.0, text=f"{run.label}: {score(value)}")
            for run, value in zip(runs, values, strict=True)
            if value is not None
        ]
        if not points:
            absent.append(entry)
            continue
        text = gettext(
            "IoU of %(class_name)s: %(values)s", class_name=entry.name, values=", ".join(point.text for point in points)
        )
        share = per_cent(comparison.truth.class_share[entry.index])
        strip = lane_strip(FULL_IOU, points, ticks, text=text)
        rows.append(ClassRow(entry, share, strip, tuple(map(score, values))))
    return ClassChart(tuple(rows), tuple(absent), axis_strip(FULL_IOU, ticks), scoring)


def class_differences(
    pairs: Sequence[PairResult], labels: Mapping[str, str], legend: Legend
) -> ClassDifferences | None:
    """Draw the differences of each class's IoU for the first pair and tabulate all pairs; ``None`` without any."""
    known = [pair for pair in pairs if pair.per_class]
    if not known:
        return None
    rows, axis = _class_strips(known[0], legend)
    shown = tuple(entry for entry in legend.classes if any(_of_class(pair, entry) for pair in known))
    table = tuple(
        (pair_labels(pair, labels), tuple(_class_cell(_of_class(pair, entry)) for entry in shown)) for pair in known
    )
    return ClassDifferences(pair_labels(known[0], labels), rows, axis, shown, table)


def _class_strips(pair: PairResult, legend: Legend) -> tuple[tuple[ClassDifferenceRow, ...], Markup]:
    """Draw one pair's differences by class as a forest plot."""
    held = [end for entry in pair.per_class for end in (entry.delta, *(entry.interval or ())) if end is not None]
    scale = scale_over([*held, 0.0], within=(-1, 1))
    ticks = scale.ticks(4)
    rows = []
    for entry in legend.classes:
        found = _of_class(pair, entry)
        if found is not None:
            value, interval = signed(found.delta), between(found.interval, sign=True)
            text = gettext(
                "%(name)s: %(value)s, 95 %% interval %(interval)s", name=entry.name, value=value, interval=interval
            )
            strip = interval_strip(scale, found.delta, found.interval, ticks=ticks, text=text)
            rows.append(ClassDifferenceRow(entry, value, interval, strip))
    return tuple(rows), axis_strip(scale, ticks)


def _of_class(pair: PairResult, entry: LegendClass) -> ClassDifference | None:
    return next((found for found in pair.per_class if found.class_index == entry.index), None)


def _class_cell(found: ClassDifference | None) -> ClassDifferenceCell:
    if found is None:
        return ClassDifferenceCell(MISSING, MISSING, False)
    apart = found.interval is not None and (found.interval[0] > 0 or found.interval[1] < 0)
    return ClassDifferenceCell(signed(found.delta), between(found.interval, sign=True), apart)


def shown_classes(runs: Sequence[StyledRun], legend: Legend) -> list[LegendClass]:
    """Return the classes of the confusion matrices: all, or the :data:`MOST_CLASSES` with most pixels."""
    if legend.n_classes <= MOST_CLASSES:
        return list(legend.classes)
    pixels = [0] * legend.n_classes
    for run in runs:
        for true, row in enumerate(run.result.counts):
            pixels[true] += sum(row)
            for pred, value in enumerate(row):
                pixels[pred] += value
    most = sorted(range(legend.n_classes), key=lambda k: -pixels[k])[:MOST_CLASSES]
    return [legend.classes[k] for k in sorted(most) if pixels[k]]


def confusion_tables(runs: Sequence[StyledRun], legend: Legend) -> list[ConfusionTable]:
    """Return each run's confusion matrix."""
    tables = []
    classes = tuple(shown_classes(runs, legend))
    for run in runs:
        counts = run.result.counts
        columns = [sum(row[k] for row in counts) for k in range(legend.n_classes)]
        rows = tuple(
            (true, tuple(_cell(counts[true.index], pred.index, columns, true.index) for pred in classes))
            for true in classes
        )
        tables.append(ConfusionTable(run, classes, rows))
    return tables


def scene_scores(comparison: Comparison, runs: Sequence[StyledRun]) -> dict[tuple[int, str], str]:
    """Return the mIoU of each scene in each run, by the run's number and the scene's id."""
    return {
        (run.number, scene.id): score(value)
        for run in runs
        for scene, value in zip(comparison.scenes, run.result.scene_miou, strict=True)
    }


def compact(value: float) -> str:
    """Format a count with at most three digits and a letter.

    Example:
        >>> compact(0), compact(950), compact(12_345), compact(5_900_000), compact(3.2e9)
        ('0', '950', '12k', '5.9M', '3.2G')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return decimal(f"{value / size:.1f}{letter}" if value < 10 * size else f"{value / size:.0f}{letter}")
    return f"{value:.0f}"


def _cell(row: Sequence[int], pred: int, columns: Sequence[int], true: int) -> ConfusionCell:
    value, total, column = row[pred], sum(row), columns[pred]
    return ConfusionCell(
        count=compact(value),
        row=_share(value, total),
        column=_share(value, column),
        row_level=_level(value, total),
        column_level=_level(value, column),
        right=pred == true,
    )


def _share(value: float, total: float) -> str:
    """Format a share of a row or column as whole per cent; a dot for zero."""
    if not total:
        return MISSING
    return "·" if value == 0 else "<1" if value < 0.005 * total else f"{100 * value / total:.0f}"


def _level(value: float, total: float) -> int:
    """Return one of eleven shades, 0 to 10."""
    return round(10 * value / total) if total else 0
