"""What the page shows class by class: IoU of every run, and each run's confusion matrix."""

from collections.abc import Sequence

from levelground.comparison.text import MISSING, per_cent, score
from levelground.imagery.legend import Legend, LegendClass
from levelground.records import Record
from levelground.reporting import svg_charts as charts
from levelground.reporting.run_styles import RunLook, number_or_none, primary_scoring
from levelground.reporting.summary import Block
from levelground.reporting.svg_charts import Scale, Spot

FULL_IOU = Scale(0.0, 1.0)

MOST_CLASSES = 30
"""Rows of a confusion matrix; more could not be read."""


def class_chart(record: Record, looks: Sequence[RunLook], legend: Legend) -> Block:
    """Each class's IoU in each run, under the primary metric's scoring, with the class's share of the true pixels."""
    scoring = primary_scoring(record)
    shares = (record.get("truth") or {}).get("class_share") or []
    ious = [look.scores(scoring).get("iou") or [] for look in looks]
    ticks = FULL_IOU.ticks(5)
    rows, absent = [], []
    for entry in legend.classes:
        values = [number_or_none(row[entry.index]) if entry.index < len(row) else None for row in ious]
        spots = [
            Spot(look.number, look.label, look.mark, value, 0.0, text=f"{look.label}: {score(value)}")
            for look, value in zip(looks, values, strict=True)
            if value is not None
        ]
        if not spots:
            absent.append(entry)
            continue
        words = f"IoU of {entry.name}: {', '.join(spot.text for spot in spots)}"
        rows.append(
            {
                "entry": entry,
                "share": per_cent(shares[entry.index]) if entry.index < len(shares) else "",
                "strip": charts.lane_strip(FULL_IOU, spots, ticks, text=words),
                "cells": [score(value) for value in values],
            }
        )
    return {"rows": rows, "absent": absent, "axis": charts.axis_strip(FULL_IOU, ticks), "scoring": scoring}


def shown_classes(looks: Sequence[RunLook], legend: Legend) -> list[LegendClass]:
    """The classes of the confusion matrices: all, or of a long legend the :data:`MOST_CLASSES` with most pixels."""
    if legend.n_classes <= MOST_CLASSES:
        return list(legend.classes)
    pixels = [0] * legend.n_classes
    for counts in (look.record.get("counts") or [] for look in looks):
        for true, row in enumerate(counts):
            pixels[true] += sum(row)
            for pred, value in enumerate(row):
                pixels[pred] += value
    most = sorted(range(legend.n_classes), key=lambda k: -pixels[k])[:MOST_CLASSES]
    return [legend.classes[k] for k in sorted(most) if pixels[k]]


def confusion_tables(looks: Sequence[RunLook], legend: Legend) -> list[Block]:
    """Each run's confusion matrix: pixels, shares of the true class, shares of the predicted class."""
    tables = []
    classes = shown_classes(looks, legend)
    for look in looks:
        counts = look.record.get("counts")
        if not counts:
            continue
        columns = [sum(row[k] for row in counts) for k in range(legend.n_classes)]
        rows = [
            {"entry": one, "cells": [_cell(counts[one.index], k.index, columns, one.index) for k in classes]}
            for one in classes
        ]
        tables.append({"look": look, "rows": rows, "classes": classes})
    return tables


def scene_scores(record: Record, looks: Sequence[RunLook]) -> dict[tuple[int, str], str]:
    """Each scene's own mIoU in each run, by the run's number and the scene's id."""
    ids = [scene["id"] for scene in record.get("scenes") or []]
    return {
        (look.number, scene): score(number_or_none(value))
        for look in looks
        for scene, value in zip(ids, look.record.get("scene_miou") or (), strict=False)
    }


def compact(value: float) -> str:
    """A count in at most four characters and a letter.

    Example:
        >>> compact(0), compact(950), compact(12_345), compact(5_900_000), compact(3.2e9)
        ('0', '950', '12k', '5.9M', '3.2G')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{letter}" if value < 10 * size else f"{value / size:.0f}{letter}"
    return f"{value:.0f}"


def _cell(row: Sequence[int], k: int, columns: Sequence[int], true: int) -> Block:
    total = sum(row)
    return {
        "count": compact(row[k]),
        "row": _share(row[k], total),
        "column": _share(row[k], columns[k]),
        "level_row": _level(row[k], total),
        "level_column": _level(row[k], columns[k]),
        "right": k == true,
    }


def _share(value: float, total: float) -> str:
    """A share of a row or column as whole per cent; a dot where there is nothing."""
    if not total:
        return MISSING
    return "·" if value == 0 else "<1" if value < 0.005 * total else f"{100 * value / total:.0f}"


def _level(value: float, total: float) -> int:
    """One of eleven shades, 0 to 10."""
    return round(10 * value / total) if total else 0
