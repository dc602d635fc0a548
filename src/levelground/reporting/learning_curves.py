"""Learning curves from the runs' histories: which of their numbers is drawn over what, thinned for the page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from levelground.errors import RecordError
from levelground.reporting.run_styles import RunLook
from levelground.reporting.svg_charts import Point, Series, line_chart
from levelground.runs import read_history

MOST_POINTS = 200
"""Points of a line; a longer history is drawn as means over stretches of equal length."""


@dataclass(frozen=True)
class Curve:
    """What one chart shows: lines of this ``kind`` of history line, ``y`` over ``x``."""

    code: str
    title: str
    kind: str
    x: str
    y: str
    x_title: str


CURVES: tuple[Curve, ...] = (
    Curve("train_loss_steps", "Training loss", "step", "step", "train_loss", "step"),
    Curve("train_loss_epochs", "Training loss", "val", "epoch", "train_loss", "epoch"),
    Curve("val_iou_steps", "Validation mIoU", "val", "step", "val_miou", "step"),
    Curve("val_iou_epochs", "Validation mIoU", "val", "epoch", "val_miou", "epoch"),
    Curve("val_image_iou_steps", "Validation IoU, mean over images", "val", "step", "val_image_iou", "step"),
    Curve("val_image_iou_epochs", "Validation IoU, mean over images", "val", "epoch", "val_image_iou", "epoch"),
)
"""The origin's four pictures, and its own validation figure (micro IoU per image, averaged) where a run has that."""


def learning_curves(looks: Sequence[RunLook], folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The charts that the histories allow.

    Args:
        looks: The runs.
        folders: Their folders, which hold ``history.jsonl``.
    Returns:
        One entry a chart: ``title``, ``chart``, and the runs drawn and not drawn.
    """
    histories = run_histories(looks, folders)
    drawn = []
    for curve in CURVES:
        series = curve_series(curve, looks, histories)
        if series:
            names = {line.name for line in series}
            drawn.append(
                {
                    "title": f"{curve.title} by {curve.x_title}",
                    "chart": _draw(curve, series),
                    "looks": [look for look in looks if look.label in names],
                }
            )
    return drawn


def run_histories(looks: Sequence[RunLook], folders: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """Each run's history; empty where it has none or it is damaged."""
    histories = {}
    for look, folder in zip(looks, folders, strict=True):
        try:
            histories[look.name] = read_history(folder)
        except (RecordError, OSError, UnicodeDecodeError):
            histories[look.name] = []
    return histories


def curve_series(curve: Curve, looks: Sequence[RunLook], histories: Mapping[str, list[dict[str, Any]]]) -> list[Series]:
    """The lines of one chart; a run without such numbers has none."""
    series = []
    for look in looks:
        points = curve_points(curve, histories[look.name])
        if points:
            series.append(Series(look.number, look.label, look.mark, tuple(thinned(points))))
    return series


def curve_points(curve: Curve, history: Iterable[Mapping[str, Any]]) -> list[Point]:
    """The points of one line."""
    return [
        (float(line[curve.x]), float(line[curve.y]))
        for line in history
        if line.get("kind") == curve.kind and line.get(curve.x) is not None and line.get(curve.y) is not None
    ]


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Means over stretches of equal length, so that at most ``most`` points are left.

    Example:
        >>> thinned([(1, 1), (2, 3), (3, 5), (4, 7)], most=2)
        [(1.5, 2.0), (3.5, 6.0)]
    """
    if len(points) <= most:
        return list(points)
    size = -(-len(points) // most)
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in stretches]


def _draw(curve: Curve, series: Sequence[Series]) -> Markup:
    ends = ", ".join(f"{line.name} ends at {line.points[-1][1]:.3f}" for line in series)
    return line_chart(series, text=f"{curve.title} by {curve.x_title}: {ends}.", x_title=curve.x_title)
