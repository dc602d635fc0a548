"""Learning curves from the runs' histories, thinned for the page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from levelground.comparison.record import Comparison
from levelground.comparison.text import between, recorded, score
from levelground.history import HistoryLine, read_history
from levelground.reporting.run_styles import RunStyle, StyledRun, assign_styles
from levelground.reporting.svg_charts import Point, Series, line_chart
from levelground.runs import list_runs
from levelground.wording import gettext, pgettext

MOST_POINTS = 200
"""Points of a line; a longer history is drawn as means over stretches of equal length."""


@dataclass(frozen=True)
class Curve:
    """Axes of one chart: ``y`` over ``x``, from the lines of a history that are of this ``kind``."""

    code: str
    title: str
    kind: str
    x: str
    y: str


CURVES: tuple[Curve, ...] = (
    Curve("train_loss_steps", "Training loss", "step", "step", "train_loss"),
    Curve("train_loss_epochs", "Training loss", "val", "epoch", "train_loss"),
    Curve("val_iou_steps", "Validation mIoU", "val", "step", "val_miou"),
    Curve("val_iou_epochs", "Validation mIoU", "val", "epoch", "val_miou"),
    Curve("val_loss_steps", "Validation cross-entropy", "val", "step", "val_loss"),
    Curve("val_loss_epochs", "Validation cross-entropy", "val", "epoch", "val_loss"),
    Curve("val_dice_loss_steps", "Validation Dice loss, mean over scenes", "val", "step", "val_dice_loss"),
    Curve("val_dice_loss_epochs", "Validation Dice loss, mean over scenes", "val", "epoch", "val_dice_loss"),
    Curve("val_own_loss_steps", "Validation loss of adopted histories", "val", "step", "val_own_loss"),
    Curve("val_own_loss_epochs", "Validation loss of adopted histories", "val", "epoch", "val_own_loss"),
    Curve("val_own_loss_batches", "Validation loss of adopted histories", "val_image", "image", "val_own_loss"),
    Curve("val_own_iou_steps", "Validation IoU of adopted histories", "val", "step", "val_own_iou"),
    Curve("val_own_iou_epochs", "Validation IoU of adopted histories", "val", "epoch", "val_own_iou"),
    Curve("val_image_iou_steps", "Validation IoU, mean over batches", "val", "step", "val_image_iou"),
    Curve("val_image_iou_epochs", "Validation IoU, mean over batches", "val", "epoch", "val_image_iou"),
    Curve("val_image_iou_batches", "Validation IoU of each batch", "val_image", "image", "val_image_iou"),
)
"""The last three are the validation metric of the origin study, in adopted histories: micro IoU of each validation
batch, averaged; its published histories were made with batches of two scenes."""

AXES = {"step": "training step", "epoch": "epoch", "image": "validation batch"}
"""Titles of the horizontal axes."""


def curve_title(curve: Curve) -> str:
    """Return the title of a chart in the current language."""
    return gettext(curve.title)


def axis_title(curve: Curve) -> str:
    """Return the title of a chart's horizontal axis in the current language."""
    return gettext(AXES[curve.x])


def chart_title(curve: Curve) -> str:
    """Return the title of a chart with that of its horizontal axis, in the current language."""
    return pgettext("a chart", "%(what)s by %(axis)s", what=curve_title(curve), axis=axis_title(curve))


@dataclass(frozen=True)
class CurveChart:
    """A chart of learning curves and the number of runs in it."""

    title: str
    chart: Markup
    n_runs: int


@dataclass(frozen=True)
class CurveRun:
    """A run in the charts of learning curves: its label, its style, and the folder of its history."""

    label: str
    style: RunStyle
    folder: Path


def curve_runs(runs: Sequence[StyledRun], study_folder: Path) -> list[CurveRun]:
    """Return the runs whose learning curves are drawn: those compared, then adopted histories without predictions.

    Args:
        runs: The runs of the comparison, with their styles.
        study_folder: Folder of ``runs/``.
    """
    compared = [CurveRun(run.label, run.style, run.folder(study_folder)) for run in runs]
    alone = [run for run in list_runs(study_folder) if run.history_alone]
    styles = assign_styles([run.result.arch for run in runs] + [run.name for run in alone])[len(runs) :]
    return compared + [CurveRun(run.name, style, run.folder) for run, style in zip(alone, styles, strict=True)]


def curve_charts(runs: Sequence[CurveRun]) -> list[CurveChart]:
    """Draw the charts that the histories in the runs' folders allow."""
    charts = []
    for curve, lines in read_curves([run.folder for run in runs]):
        series = [Series(runs[number].label, runs[number].style, points) for number, points in lines.items()]
        title = chart_title(curve)
        ends = ", ".join(
            gettext("%(run)s ends at %(value)s", run=line.name, value=score(line.points[-1][1])) for line in series
        )
        chart = line_chart(series, text=f"{title}: {ends}.", x_title=axis_title(curve))
        charts.append(CurveChart(title, chart, len(series)))
    return charts


@dataclass(frozen=True)
class BudgetRow:
    """One budget of the ladder: each model's score with its interval, and the verdict on the leader."""

    asked: str
    scores: tuple[tuple[str, str, str], ...]
    """Name, value and interval, best first."""
    verdict: str


def budget_rows(comparison: Comparison) -> list[BudgetRow]:
    """Return the scores at every budget, shortest first; empty where there was one budget."""
    verdicts = {
        "better": gettext("the first is better than the second"),
        "equal": gettext("the first two are equal"),
        "undecided": gettext("undecided between the first two"),
    }
    return [
        BudgetRow(
            recorded(rung.asked),
            tuple((one.name, score(one.value), between(one.interval)) for one in rung.scores),
            verdicts.get(rung.verdict or "", ""),
        )
        for rung in comparison.budgets
    ]


_ASIDE = 0.008
"""How far models lie beside each other at one budget, as a share of the whole one."""


def budget_chart(comparison: Comparison, runs: Sequence[StyledRun]) -> Markup | None:
    """Draw the score of each architecture over the budget, with intervals; ``None`` where there was one budget."""
    if not comparison.budgets:
        return None
    styles = {entry.name: next(run.style for run in runs if run.name in entry.runs) for entry in comparison.candidates}
    series = []
    for place, (name, style) in enumerate(styles.items()):
        aside = _ASIDE * (place - (len(styles) - 1) / 2)  # or whiskers of one budget would hide each other
        known = [
            ((rung.share + aside, one.value), one.interval)
            for rung in comparison.budgets
            for one in rung.scores
            if one.name == name and one.value is not None
        ]
        if known:
            points, intervals = zip(*known, strict=True)
            series.append(Series(name, style, points, intervals))
    ends = "; ".join(f"{line.name} {', '.join(score(y) for _, y in line.points)}" for line in series)
    text = gettext("Score over the budget: %(scores)s.", scores=ends)
    return line_chart(series, text=text, x_title=gettext("share of the budget"))


def read_curves(folders: Sequence[Path]) -> list[tuple[Curve, dict[int, tuple[Point, ...]]]]:
    """Read the lines of every chart of :data:`CURVES` that has any.

    Args:
        folders: Run folders, which hold ``history.jsonl``; one without a readable history has no lines.
    Returns:
        Each curve with the points of the runs that have it, by place in ``folders``.
    """
    histories = [read_history(folder) for folder in folders]
    found = []
    for curve in CURVES:
        points = [curve_points(curve, history) for history in histories]
        lines = {number: tuple(thinned(line)) for number, line in enumerate(points) if line}
        if lines:
            found.append((curve, lines))
    return found


def curve_points(curve: Curve, history: Iterable[HistoryLine]) -> list[Point]:
    """Return the points of one line."""
    return [
        (float(x), float(y))
        for line in history
        if line.kind == curve.kind
        and (x := getattr(line, curve.x)) is not None
        and (y := getattr(line, curve.y)) is not None
    ]


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Average over stretches of equal length, so that at most ``most`` points are left.

    Example:
        >>> thinned([(1, 1), (2, 3), (3, 5), (4, 7)], most=2)
        [(1.5, 2.0), (3.5, 6.0)]
    """
    if len(points) <= most:
        return list(points)
    size = -(-len(points) // most)
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in stretches]
