"""Verdicts of the report: the matrix of all pairs, their differences with intervals, and those of each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from levelground.comparison.text import MISSING, between, p_number, signed
from levelground.comparison.views import turned
from levelground.imagery.legend import Legend, LegendClass
from levelground.records import Record
from levelground.reporting.run_styles import interval_of, number_or_none
from levelground.reporting.svg_charts import axis_strip, interval_strip, scale_over

SIGNS = {"better": "▲", "worse": "▼", "equal": "=", "undecided": "?"}
"""A sign beside each verdict's word."""

OPEN_PAIRS = 15
"""Rows of a table of pairs that are not folded away."""


@dataclass(frozen=True)
class VerdictCell:
    """A cell of the verdict matrix; ``text`` is the verdict as a sentence."""

    verdict: str
    sign: str
    delta: str
    text: str


@dataclass(frozen=True)
class PairRow:
    """A pair's difference; the verdict is about the first name."""

    names: tuple[str, str]
    value: str
    interval: str
    p: str
    verdict: str
    sign: str
    control: bool
    strip: Markup


@dataclass(frozen=True)
class PairForest:
    """A forest plot of differences; ``more`` are the rows that are folded away."""

    rows: tuple[PairRow, ...]
    more: tuple[PairRow, ...]
    axis: Markup


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


def oriented_pairs(record: Record, key: str, names: Sequence[str]) -> list[Record]:
    """Return the pairs with the better-ranked one first, in the order of the ranking.

    Args:
        record: The comparison.
        key: ``pairs`` or ``architecture_pairs``.
        names: Runs or architectures, best first.
    """
    place = {name: number for number, name in enumerate(names)}
    pairs = [pair for pair in record.get(key) or [] if pair["a"] in place and pair["b"] in place]
    oriented = [pair if place[pair["a"]] <= place[pair["b"]] else turned(pair) for pair in pairs]
    return sorted(oriented, key=lambda pair: (place[pair["a"]], place[pair["b"]]))


def verdict_matrix(pairs: Sequence[Record], names: Sequence[str]) -> list[list[VerdictCell | None]]:
    """Return all pairs as a square, row compared with column; ``None`` where there is no pair."""
    cells: dict[tuple[str, str], VerdictCell] = {}
    for pair in pairs:
        for seen in (pair, turned(pair)):
            verdict = seen.get("verdict") or "undecided"
            cells[seen["a"], seen["b"]] = VerdictCell(
                verdict, SIGNS.get(verdict, ""), signed(seen.get("delta")), seen.get("text") or ""
            )
    return [[cells.get((row, column)) for column in names] for row in names]


def pair_forest(pairs: Sequence[Record], labels: Mapping[str, str], delta: float) -> PairForest | None:
    """Draw each pair's difference with its interval, zero and ±δ; ``None`` without pairs.

    Args:
        pairs: Pairs from :func:`oriented_pairs`.
        labels: Labels of the names.
        delta: The equivalence margin δ.
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
        names = _names(pair, labels)
        verdict = pair.get("verdict") or "undecided"
        value_text, interval_words = signed(value), between(interval, sign=True)
        text = f"{names[0]} − {names[1]}: {value_text}, 95 % interval {interval_words}, {verdict}"
        rows.append(
            PairRow(
                names=names,
                value=value_text,
                interval=interval_words,
                p=p_number(pair.get("p_holm")),
                verdict=verdict,
                sign=SIGNS.get(verdict, ""),
                control=bool(pair.get("control")),
                strip=interval_strip(scale, value, interval, ticks=ticks, text=text, zone=(-delta, delta)),
            )
        )
    return PairForest(tuple(rows[:OPEN_PAIRS]), tuple(rows[OPEN_PAIRS:]), axis_strip(scale, ticks))


def class_differences(pairs: Sequence[Record], labels: Mapping[str, str], legend: Legend) -> ClassDifferences | None:
    """Draw the differences of each class's IoU for the first pair and tabulate all pairs; ``None`` without any."""
    known = [pair for pair in pairs if pair.get("per_class")]
    if not known:
        return None
    rows, axis = _class_strips(known[0], legend)
    shown = tuple(entry for entry in legend.classes if any(_of_class(pair, entry.index) for pair in known))
    table = tuple(
        (_names(pair, labels), tuple(_class_cell(_of_class(pair, entry.index)) for entry in shown)) for pair in known
    )
    return ClassDifferences(_names(known[0], labels), rows, axis, shown, table)


def _class_strips(pair: Record, legend: Legend) -> tuple[tuple[ClassDifferenceRow, ...], Markup]:
    """Draw one pair's differences by class as a forest plot."""
    entries = [(entry, found) for entry in legend.classes if (found := _of_class(pair, entry.index)) is not None]
    held = [end for _, found in entries for end in (found["delta"], *(interval_of(found) or ())) if end is not None]
    scale = scale_over([*held, 0.0], within=(-1, 1))
    ticks = scale.ticks(4)
    rows = []
    for entry, found in entries:
        value, interval = number_or_none(found["delta"]), interval_of(found)
        text = f"{entry.name}: {signed(value)}, 95 % interval {between(interval, sign=True)}"
        strip = interval_strip(scale, value, interval, ticks=ticks, text=text)
        rows.append(ClassDifferenceRow(entry, signed(value), between(interval, sign=True), strip))
    return tuple(rows), axis_strip(scale, ticks)


def _names(pair: Record, labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get(pair["a"], pair["a"]), labels.get(pair["b"], pair["b"])


def _of_class(pair: Record, index: int) -> Mapping[str, Any] | None:
    return next((entry for entry in pair.get("per_class") or () if entry["class"] == index), None)


def _class_cell(found: Mapping[str, Any] | None) -> ClassDifferenceCell:
    interval = interval_of(found)
    apart = interval is not None and (interval[0] > 0 or interval[1] < 0)
    return ClassDifferenceCell(signed(found["delta"]) if found else MISSING, between(interval, sign=True), apart)
