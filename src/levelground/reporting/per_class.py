"""Classes and scenes of the report in figures: IoU by class, its differences, confusion matrices, scores of scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from levelground.comparison.record import Comparison
from levelground.comparison.results import ClassDifference, PairResult
from levelground.comparison.text import MISSING, between, per_cent, score, signed
from levelground.imagery.legend import Legend, LegendClass
from levelground.reporting.gallery import Gallery
from levelground.reporting.pairwise import pair_labels
from levelground.reporting.run_styles import StyledRun
from levelground.reporting.svg_charts import (
    DataPoint,
    Scale,
    axis_strip,
    element,
    interval_strip,
    lane_strip,
    line,
    percent,
    scale_over,
    tick_text,
)
from levelground.wording import decimal, gettext, ngettext

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


HEAT_CELLS = 6000
"""Cells of the heat map; with more, only the leading runs are drawn."""


@dataclass(frozen=True)
class HeatRow:
    """One run's scores, scene by scene, as a strip of cells."""

    run: StyledRun
    strip: Markup


@dataclass(frozen=True)
class SceneHeat:
    """The scores of runs by scene, the hardest scene first; ``left_out`` runs are not drawn."""

    rows: tuple[HeatRow, ...]
    low: str
    high: str
    left_out: int


def scene_heat(comparison: Comparison, runs: Sequence[StyledRun], gallery: Gallery) -> SceneHeat | None:
    """Draw the mIoU of each scene in each run, scenes from the hardest to the easiest; ``None`` with one scene.

    Args:
        comparison: The comparison.
        runs: The runs, best first.
        gallery: The pictures that cells lead to.
    """
    values = [value for run in runs for value in run.result.scene_miou if value is not None]
    if len(comparison.scenes) < 2 or not values:
        return None
    shown = runs[: max(1, HEAT_CELLS // len(comparison.scenes))]
    low, high = min(values), max(values)
    means = [
        sum(value or 0.0 for value in column) for column in zip(*(run.result.scene_miou for run in runs), strict=True)
    ]
    order = sorted(range(len(means)), key=lambda number: (means[number], number))
    rows = [HeatRow(run, _heat_strip(comparison, run, order, gallery.links, (low, high))) for run in shown]
    return SceneHeat(tuple(rows), score(low), score(high), len(runs) - len(shown))


def _heat_strip(
    comparison: Comparison, run: StyledRun, order: Sequence[int], links: Mapping[str, str], ends: tuple[float, float]
) -> Markup:
    """Draw one run's scenes as cells, the darker the higher the score."""
    cells, width = [], 1 / len(order)
    for place, number in enumerate(order):
        scene, value = comparison.scenes[number].id, run.result.scene_miou[number]
        if value is None:
            continue
        shade = 0.08 + 0.92 * (value - ends[0]) / (ends[1] - ends[0] or 1.0)
        cell = element(
            "rect",
            element("title", f"{scene}, {run.label}: {score(value)}"),
            x=percent(place * width),
            y="8%",
            width=percent(width),
            height="84%",
            fill_opacity=round(shade, 2),
        )
        cells.append(element("a", cell, href=links[scene]) if scene in links else cell)
    return element(
        "svg", *cells, class_="strip heat", role="img", aria_label=gettext("Scores of %(run)s by scene", run=run.label)
    )


DRAWN_PAIRS = 4
"""Pairs whose differences are drawn scene by scene, the leader's first."""


@dataclass(frozen=True)
class SceneDifferences:
    """Differences of one pair scene by scene.

    Attributes:
        names: Labels of the two sides.
        chart: One mark a scene, sorted by difference, as large as the scene has pixels, and leading to it.
        better: The number of scenes in which the first scores higher.
        scenes: The number of scenes that have a difference.
    """

    names: tuple[str, str]
    chart: Markup
    better: int
    scenes: int


def scene_differences(
    comparison: Comparison, pairs: Sequence[PairResult], labels: Mapping[str, str], gallery: Gallery
) -> list[SceneDifferences]:
    """Draw the differences of the first pairs in the mIoU of each scene alone.

    Args:
        comparison: The comparison.
        pairs: Pairs, the better-ranked side first; those of the leader are drawn first.
        labels: Labels of the names that have another one.
        gallery: The pictures that marks lead to.
    """
    by_side = _side_scores(comparison)
    links, drawn = gallery.links, []
    for pair in [pair for pair in pairs if not pair.negative_control][:DRAWN_PAIRS]:
        names = (labels.get(pair.a, pair.a), labels.get(pair.b, pair.b))
        found = [
            (a - b, sum(scene.class_pixels), scene.id)
            for scene, a, b in zip(comparison.scenes, by_side[pair.a], by_side[pair.b], strict=True)
            if a is not None and b is not None
        ]
        if len(found) >= 2:
            better = sum(difference > 0 for difference, _, _ in found)
            chart = _difference_chart(sorted(found), comparison.delta, names, links)
            drawn.append(SceneDifferences(names, chart, better, len(found)))
    return drawn


def _side_scores(comparison: Comparison) -> dict[str, tuple[float | None, ...]]:
    """The mIoU of each scene, by run and by architecture (the mean over its seeds)."""
    runs = {run.name: run.scene_miou for run in comparison.runs}
    found: dict[str, tuple[float | None, ...]] = dict(runs)
    for entry in comparison.architectures:
        scenes = zip(*(runs[name] for name in entry.runs), strict=True)
        found[entry.name] = tuple(
            None if any(value is None for value in values) else sum(value or 0.0 for value in values) / len(values)
            for values in scenes
        )
    return found


def _difference_chart(
    found: Sequence[tuple[float, int, str]], delta: float, names: tuple[str, str], links: Mapping[str, str]
) -> Markup:
    """Draw sorted differences, each with the pixels and the id of its scene, one a row."""
    spacing = min(14.0, 560 / len(found))
    height = round(spacing * len(found)) + 12
    scale = scale_over([difference for difference, _, _ in found] + [-delta, delta])
    ticks = scale.ticks(4)
    largest = max(1, *(pixels for _, pixels, _ in found))
    zone = scale.share(delta) - scale.share(-delta)
    parts = [element("rect", x=scale.at(-delta), y="0", width=percent(zone), height="100%", class_="zone")]
    for tick in ticks:
        parts.append(line(scale.at(tick), "0", scale.at(tick), "100%", "zero" if tick == 0 else "grid"))
        parts.append(element("text", tick_text(tick, ticks), x=scale.at(tick), y=str(height + 16), class_="tick mid"))
    for row, (difference, pixels, scene) in enumerate(found):
        size = ngettext("%(n)s pixel", "%(n)s pixels", pixels)
        title = element("title", f"{scene}: {signed(difference)}, {size}")
        radius = round(2 + 5 * (pixels / largest) ** 0.5, 1)
        dot = element("circle", title, cx=scale.at(difference), cy=f"{6 + spacing * (row + 0.5):.1f}", r=radius)
        parts.append(element("a", dot, href=links[scene]) if scene in links else dot)
    text = ngettext(
        "Differences of %(a)s and %(b)s in %(n)s scene",
        "Differences of %(a)s and %(b)s in %(n)s scenes",
        len(found),
        a=names[0],
        b=names[1],
    )
    return element("svg", *parts, class_="area dots", height=str(height), role="img", aria_label=text)
