"""A comparison record turned into what the page's template shows: texts, rows and charts; no statistics.

Blocks that a record may lack (intervals, calibration, seeds, histories) come out as ``None`` or empty, and the template
says what is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from levelground import charts, prose
from levelground.charts import Interval, Spot
from levelground.legend import Legend
from levelground.marks import Mark, assign_marks
from levelground.records import Record
from levelground.svg import scale_over

OPPOSITE = {"better": "worse", "worse": "better"}
"""A verdict read from the other run's side; the others read the same from both."""

SIGNS = {"better": "▲", "worse": "▼", "equal": "=", "undecided": "?"}
"""A sign beside each verdict's word."""


@dataclass(frozen=True)
class RunLook:
    """A run on the page: its number (class ``r<number>``), names, look, symbol and record."""

    number: int
    name: str
    label: str
    mark: Mark
    key: Markup
    line_key: Markup
    record: Record


def run_looks(record: Record) -> list[RunLook]:
    """The runs, best first by the primary metric; ties keep the record's order."""
    runs = sorted(record["runs"], key=lambda run: -(score_of(run, record["metric"]) or -1.0))
    marks = assign_marks([run.get("arch") or run["name"] for run in runs])
    return [
        RunLook(
            number=number,
            name=run["name"],
            label=run.get("label") or run["name"],
            mark=mark,
            key=charts.key_symbol(number, mark),
            line_key=charts.key_symbol(number, mark, line=True),
            record=run,
        )
        for number, (run, mark) in enumerate(zip(runs, marks, strict=True))
    ]


def score_of(run: Mapping[str, Any], metric: str) -> float | None:
    """A run's value of ``<scoring>.<score>``, such as ``official.miou``; ``None`` where it has none."""
    scoring, _, name = metric.partition(".")
    value = (run.get("scores") or {}).get(scoring, {}).get(name)
    return float(value) if isinstance(value, int | float) else None


def interval_of(holder: Mapping[str, Any] | None, key: str = "interval") -> Interval | None:
    """An interval of a record, or ``None``."""
    value = (holder or {}).get(key)
    return (float(value[0]), float(value[1])) if value and None not in value else None


def metric_name(metric: str, *, only_scoring: bool = False) -> str:
    """A metric in words.

    Example:
        >>> metric_name("official.miou"), metric_name("kept.pixel_accuracy"), metric_name("all.mf1", only_scoring=True)
        ('official mIoU', 'kept pixel accuracy', 'macro F1')
    """
    words = {"miou": "mIoU", "mf1": "macro F1", "pixel_accuracy": "pixel accuracy", "iou": "IoU", "f1": "F1"}
    scoring, _, name = metric.rpartition(".")
    text = words.get(name, name.replace("_", " "))
    return text if only_scoring or not scoring else f"{scoring} {text}"


def findings_of(record: Record, *severities: str) -> list[str]:
    """The findings' sentences of these severities, in the record's order."""
    return [item["text"] for item in record.get("findings") or [] if item.get("severity") in severities]


def score_rows(record: Record, looks: Sequence[RunLook]) -> list[dict[str, Any]]:
    """The score table: one row a run, every cell a text."""
    scoring = record["metric"].partition(".")[0]
    rows = []
    for look in looks:
        run, card = look.record, look.record.get("card") or {}
        own = (run.get("scores") or {}).get(scoring, {})
        speed = (card.get("speed") or {}).get("infer_megapixels_per_s")
        rows.append(
            {
                "look": look,
                "miou": [_with_interval((run.get("scores") or {}).get(name, {})) for name in record["scorings"]],
                "accuracy": prose.score(own.get("pixel_accuracy")),
                "f1": prose.score(own.get("mf1")),
                "boundary": prose.score((run.get("boundary_iou") or {}).get("mean")),
                "loss": prose.score(run.get("loss")),
                "speed": f"{speed:.1f}" if speed else prose.MISSING,
                "parameters": millions((card.get("parameters") or {}).get("total")),
            }
        )
    return rows


def verdict_matrix(record: Record, names: Sequence[str], key: str) -> list[list[dict[str, Any] | None]]:
    """All pairs as a square: row against column; ``None`` where there is no pair.

    Args:
        record: The comparison.
        names: Rows and columns.
        key: ``pairs`` or ``architecture_pairs``.
    """
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for pair in record.get(key) or []:
        verdict = pair.get("verdict") or "undecided"
        delta, back = pair.get("delta"), OPPOSITE.get(verdict, verdict)
        cells[pair["a"], pair["b"]] = _cell(verdict, delta, pair)
        cells[pair["b"], pair["a"]] = _cell(back, None if delta is None else -delta, pair)
    return [[cells.get((row, column)) for column in names] for row in names]


def score_forest(record: Record, looks: Sequence[RunLook]) -> dict[str, Any]:
    """Each run's and each architecture's score with its interval."""
    metric = record["metric"]
    scoring, _, name = metric.partition(".")
    rows: list[tuple[Any, str, float | None, Interval | None]] = []
    for look in looks:
        own = (look.record.get("scores") or {}).get(scoring, {})
        rows.append((look, look.label, score_of(look.record, metric), interval_of(own) if name == "miou" else None))
    for entry in record.get("architectures") or []:
        if (entry.get("seeds") or 0) > 1:
            label = f"{entry['name']}, mean of {entry['seeds']} seeds"
            rows.append((None, label, entry.get("miou"), interval_of(entry)))
    scale = scale_over([end for _, _, value, ends in rows for end in (value, *(ends or ())) if end is not None])
    ticks = scale.ticks(4)
    return {
        "rows": [
            {
                "look": look,
                "label": label,
                "value": prose.score(value),
                "interval": prose.between(ends),
                "strip": charts.interval_strip(
                    scale,
                    value,
                    ends,
                    mark=look.mark if look else looks[0].mark,
                    number=look.number if look else None,
                    ticks=ticks,
                    text=f"{label}: {prose.score(value)}, interval {prose.between(ends)}",
                ),
            }
            for look, label, value, ends in rows
        ],
        "axis": charts.axis_strip(scale, ticks),
        "title": metric_name(metric),
    }


def pair_forest(record: Record, looks: Sequence[RunLook], key: str) -> dict[str, Any] | None:
    """Each pair's difference with its interval, zero and ±δ; ``None`` without pairs."""
    pairs = record.get(key) or []
    if not pairs:
        return None
    labels, delta = {look.name: look.label for look in looks}, float(record.get("delta") or 0)
    ends = [interval_of(pair) for pair in pairs]
    values = [float(pair.get("delta") or 0.0) for pair in pairs]
    held = [*values, *(end for pair in ends for end in pair or ()), -delta, delta]
    scale = scale_over(held)
    ticks = scale.ticks(4)
    rows = []
    for pair, value, interval in zip(pairs, values, ends, strict=True):
        label = f"{labels.get(pair['a'], pair['a'])} − {labels.get(pair['b'], pair['b'])}"
        verdict = pair.get("verdict") or "undecided"
        rows.append(
            {
                "look": None,
                "label": label,
                "value": prose.signed(value),
                "interval": prose.between(interval, sign=True),
                "p": prose.p_number(pair.get("p_holm")),
                "verdict": verdict,
                "sign": SIGNS.get(verdict, ""),
                "strip": charts.interval_strip(
                    scale,
                    value,
                    interval,
                    mark=looks[0].mark,
                    number=None,
                    ticks=ticks,
                    text=f"{label}: {prose.signed(value)}, interval {prose.between(interval, sign=True)}, {verdict}",
                    zone=(-delta, delta) if delta else None,
                ),
            }
        )
    return {"rows": rows, "axis": charts.axis_strip(scale, ticks), "title": metric_name(pairs[0]["metric"])}


def class_chart(record: Record, looks: Sequence[RunLook], legend: Legend) -> dict[str, Any]:
    """Each class's IoU in each run, under the primary metric's scoring."""
    scoring = record["metric"].partition(".")[0]
    shares = (record.get("truth") or {}).get("class_share") or [None] * legend.n_classes
    per_run = [((look.record.get("scores") or {}).get(scoring, {}).get("iou") or []) for look in looks]
    scale = scale_over([value for row in per_run for value in row if value is not None], zero=True)
    ticks = scale.ticks(5)
    rows = []
    for entry in legend.classes:
        spots, cells = [], []
        for look, row in zip(looks, per_run, strict=True):
            value = row[entry.index] if entry.index < len(row) else None
            cells.append(prose.score(value))
            if value is not None:
                text = f"{look.label}: {prose.score(value)}"
                spots.append(Spot(look.number, look.label, look.mark, float(value), 0.0, text=text))
        if spots:
            words = f"IoU of {entry.name}: " + ", ".join(spot.text for spot in spots)
            strip = charts.lane_strip(scale, spots, ticks, text=words)
            share = shares[entry.index]
            rows.append({"entry": entry, "share": "" if share is None else prose.per_cent(share), "strip": strip})
        if rows and spots:
            rows[-1]["cells"] = cells
    return {"rows": rows, "axis": charts.axis_strip(scale, ticks), "scoring": scoring}


def confusion_tables(looks: Sequence[RunLook], legend: Legend) -> list[dict[str, Any]]:
    """Each run's confusion matrix: counts, shares of the true class, shares of the predicted class."""
    tables = []
    for look in looks:
        counts = look.record.get("counts")
        if not counts:
            continue
        columns = [sum(row[k] for row in counts) for k in range(legend.n_classes)]
        rows = []
        for entry, row in zip(legend.classes, counts, strict=True):
            total = sum(row)
            rows.append(
                {
                    "entry": entry,
                    "cells": [
                        {
                            "count": compact(value),
                            "row": _share(value, total),
                            "column": _share(value, columns[k]),
                            "level_row": _level(value, total),
                            "level_column": _level(value, columns[k]),
                            "right": k == entry.index,
                        }
                        for k, value in enumerate(row)
                    ],
                }
            )
        tables.append({"look": look, "rows": rows})
    return tables


def millions(value: float | None) -> str:
    """A large number in millions.

    Example:
        >>> millions(14_328_000), millions(None)
        ('14.3', '–')
    """
    return prose.MISSING if value is None else f"{value / 1e6:.1f}"


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


def _with_interval(scores: Mapping[str, Any]) -> dict[str, str]:
    return {"value": prose.score(scores.get("miou")), "interval": prose.between(interval_of(scores))}


def _cell(verdict: str, delta: float | None, pair: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "sign": SIGNS.get(verdict, ""),
        "delta": prose.signed(delta),
        "text": pair.get("text") or "",
    }


def _share(value: float, total: float) -> str:
    """A share of a row or column as whole per cent; a dot where there is nothing."""
    if not total:
        return prose.MISSING
    return "·" if value == 0 else "<1" if value < 0.005 * total else f"{100 * value / total:.0f}"


def _level(value: float, total: float) -> int:
    """One of eleven shades, 0 to 10."""
    return round(10 * value / total) if total else 0
