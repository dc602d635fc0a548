"""The verdicts on the page: the matrix of all pairs, their differences with intervals, and those of each class."""

from collections.abc import Mapping, Sequence
from typing import Any

from levelground.comparison.text import MISSING, between, p_number, signed
from levelground.comparison.views import turned
from levelground.imagery.legend import Legend
from levelground.records import Record
from levelground.reporting import svg_charts as charts
from levelground.reporting.run_styles import RunLook, interval_of, number_or_none
from levelground.reporting.summary import Block
from levelground.reporting.svg_charts import Scale, scale_over

SIGNS = {"better": "▲", "worse": "▼", "equal": "=", "undecided": "?"}
"""A sign beside each verdict's word."""

OPEN_PAIRS = 15
"""Rows of a table of pairs that are shown at once; the others unfold."""


def oriented_pairs(record: Record, key: str, names: Sequence[str]) -> list[Record]:
    """The pairs with the better-ranked one first, in the order of the ranking.

    Args:
        record: The comparison.
        key: ``pairs`` or ``architecture_pairs``.
        names: Runs or architectures, best first.
    """
    place = {name: number for number, name in enumerate(names)}
    pairs = [pair for pair in record.get(key) or [] if pair["a"] in place and pair["b"] in place]
    facing = [pair if place[pair["a"]] <= place[pair["b"]] else turned(pair) for pair in pairs]
    return sorted(facing, key=lambda pair: (place[pair["a"]], place[pair["b"]]))


def verdict_matrix(pairs: Sequence[Record], names: Sequence[str]) -> list[list[Block | None]]:
    """All pairs as a square, row against column; ``None`` where there is no pair."""
    cells: dict[tuple[str, str], Block] = {}
    for pair in pairs:
        for seen in (pair, turned(pair)):
            cells[seen["a"], seen["b"]] = _cell(seen)
    return [[cells.get((row, column)) for column in names] for row in names]


def pair_forest(
    pairs: Sequence[Record], labels: Mapping[str, str], delta: float, looks: Sequence[RunLook]
) -> Block | None:
    """Each pair's difference with its interval, zero and ±δ; ``None`` without pairs.

    Args:
        pairs: Pairs as :func:`oriented_pairs` gives them.
        labels: What to call the names.
        delta: The difference that counts as none, δ.
        looks: The runs, for a marker.
    """
    if not pairs:
        return None
    ends = [interval_of(pair) for pair in pairs]
    values = [number_or_none(pair.get("delta")) for pair in pairs]
    held = [*(v for v in values if v is not None), *(end for pair in ends for end in pair or ()), -delta, delta]
    scale = scale_over(held, within=(-1, 1))
    ticks = scale.ticks(4)
    rows = []
    for pair, value, interval in zip(pairs, values, ends, strict=True):
        label = f"{labels.get(pair['a'], pair['a'])} − {labels.get(pair['b'], pair['b'])}"
        verdict = pair.get("verdict") or "undecided"
        said = f"{label}: {signed(value)}, 95 % interval {between(interval, sign=True)}, {verdict}"
        strip = charts.interval_strip(
            scale, value, interval, mark=looks[0].mark, number=None, ticks=ticks, text=said, zone=(-delta, delta)
        )
        rows.append(
            {
                "names": (labels.get(pair["a"], pair["a"]), labels.get(pair["b"], pair["b"])),
                "value": signed(value),
                "interval": between(interval, sign=True),
                "p": p_number(pair.get("p_holm")),
                "verdict": verdict,
                "sign": SIGNS.get(verdict, ""),
                "control": bool(pair.get("control")),
                "strip": strip,
            }
        )
    axis = charts.axis_strip(scale, ticks)
    return {"rows": rows[:OPEN_PAIRS], "more": rows[OPEN_PAIRS:], "axis": axis}


def class_differences(
    pairs: Sequence[Record], labels: Mapping[str, str], legend: Legend, looks: Sequence[RunLook]
) -> Block | None:
    """Differences of each class's IoU: drawn for the two that lead, in figures for every pair; ``None`` without."""
    known = [pair for pair in pairs if pair.get("per_class")]
    if not known:
        return None
    drawn = _class_strips(known[0], legend, looks)
    shown = [entry for entry in legend.classes if any(_of_class(pair, entry.index) for pair in known)]
    table = [
        {
            "names": (labels.get(pair["a"], pair["a"]), labels.get(pair["b"], pair["b"])),
            "cells": [_class_cell(_of_class(pair, entry.index)) for entry in shown],
        }
        for pair in known
    ]
    first = known[0]
    names = (labels.get(first["a"], first["a"]), labels.get(first["b"], first["b"]))
    return {**drawn, "names": names, "table": table, "classes": shown}


def _class_strips(pair: Record, legend: Legend, looks: Sequence[RunLook]) -> Block:
    """One pair's differences by class as a forest plot."""
    entries = [(entry, found) for entry in legend.classes if (found := _of_class(pair, entry.index)) is not None]
    held = [end for _, found in entries for end in (found["delta"], *(interval_of(found) or ())) if end is not None]
    scale: Scale = scale_over([*held, 0.0], within=(-1, 1))
    ticks = scale.ticks(4)
    rows = []
    for entry, found in entries:
        value, interval = number_or_none(found["delta"]), interval_of(found)
        text = f"{entry.name}: {signed(value)}, 95 % interval {between(interval, sign=True)}"
        strip = charts.interval_strip(scale, value, interval, mark=looks[0].mark, number=None, ticks=ticks, text=text)
        figures = {"value": signed(value), "interval": between(interval, sign=True)}
        rows.append({"entry": entry, "strip": strip, **figures})
    return {"rows": rows, "axis": charts.axis_strip(scale, ticks)}


def _of_class(pair: Record, index: int) -> Mapping[str, Any] | None:
    return next((entry for entry in pair.get("per_class") or () if entry["class"] == index), None)


def _class_cell(found: Mapping[str, Any] | None) -> Block:
    """A difference in a table; ``apart`` where its interval excludes 0."""
    interval = interval_of(found)
    apart = interval is not None and (interval[0] > 0 or interval[1] < 0)
    value = signed(found["delta"]) if found else MISSING
    return {"value": value, "interval": between(interval, sign=True), "apart": apart}


def _cell(pair: Record) -> Block:
    verdict = pair.get("verdict") or "undecided"
    return {
        "verdict": verdict,
        "sign": SIGNS.get(verdict, ""),
        "delta": signed(pair.get("delta")),
        "text": pair.get("text") or "",
    }
