"""Top of the report: headline, facts, ranking, score tables, and how the ranking depends on the metric."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from levelground.comparison.text import MISSING, between, count_of, metric_words, per_cent, score
from levelground.comparison.views import speaks_of_architectures
from levelground.metrics.named import METRICS, metric_range, overall_metrics
from levelground.records import Record
from levelground.reporting.run_styles import (
    StyledRun,
    interval_of,
    number_or_none,
    primary_scoring,
    throughput_of,
    value_interval,
    value_of,
)
from levelground.reporting.svg_charts import NEUTRAL, Interval, axis_strip, interval_strip, scale_over

DECIDES = "what_would_decide"
"""Code of the finding that the summary shows apart from the others."""

_PROTOCOL = (("Budget", "budget"), ("Encoder weights", "weights"))
# Fields of the protocol among the facts.


@dataclass(frozen=True)
class ForestRow:
    """A row of a forest plot: a run, or an architecture (``run`` is ``None``)."""

    run: StyledRun | None
    label: str
    note: str
    value: str
    interval: str
    strip: Markup


@dataclass(frozen=True)
class Forest:
    """A forest plot of runs or architectures, best first."""

    subject: str
    rows: tuple[ForestRow, ...]
    axis: Markup


@dataclass(frozen=True)
class ScoreCell:
    """A score with its 95 % interval."""

    value: str
    interval: str


@dataclass(frozen=True)
class ScoreRow:
    """A run's row of the score table; ``miou`` has one cell for each scoring, ``others`` one for each other metric."""

    run: StyledRun
    miou: tuple[ScoreCell, ...]
    others: tuple[str, ...]
    boundary: str
    loss: str
    speed: str
    parameters: str


@dataclass(frozen=True)
class RankCell:
    """A run's value and rank under one metric; ``moved`` is ``up`` or ``down`` against the primary metric, or empty."""

    value: str
    rank: int | None
    moved: str


@dataclass(frozen=True)
class MetricTableRow:
    """All runs under one metric; ``flips`` are the pairs in reverse order to the primary metric, as labels."""

    metric: str
    primary: bool
    cells: tuple[RankCell, ...]
    flips: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Entry:
    """A run or an architecture before it is drawn."""

    run: StyledRun | None
    label: str
    value: float | None
    interval: Interval | None
    note: str = ""


def headline_texts(record: Record) -> tuple[str, str]:
    """Return the first sentence of the headline, which is the page's title, and the other sentences.

    Example:
        >>> headline_texts({"findings": [{"severity": "headline", "text": "No winner (0.47). It takes more."}]})
        ('No winner (0.47).', 'It takes more.')
    """
    texts = texts_of(record, "headline")
    if not texts:
        return f"Comparison of {count_of(len(record['runs']), 'run')}", ""
    first, *rest = re.split(r"(?<=[.!?])\s+(?=[A-Z])", texts[0], maxsplit=1)
    return first, " ".join([*rest, *texts[1:]])


def texts_of(record: Record, severity: str) -> list[str]:
    """Return the sentences of the findings of a severity, without the one that the summary shows apart."""
    found = [item for item in record.get("findings") or [] if item.get("code") != DECIDES]
    return [item["text"] for item in found if item.get("severity") == severity]


def text_of(record: Record, code: str) -> str:
    """Return the sentences of the finding with a code; empty where there is none."""
    return " ".join(item["text"] for item in record.get("findings") or [] if item.get("code") == code)


def facts(record: Record) -> list[tuple[str, str]]:
    """Return data, split, protocol and δ of the comparison as terms with a text."""
    data, split = record.get("dataset") or {}, record.get("split_rule") or {}
    scenes = count_of(len(record.get("scenes") or []), f"{record['split']} scene")
    found = [("Scored on", f"{scenes} in {count_of(record.get('n_groups') or 0, 'group')}")]
    if data.get("train") is not None:
        found.append(("Trained on", f"{count_of(data['train'], 'scene')}, {data.get('val', 0)} for validation"))
    if split.get("text") or split.get("kind"):
        found.append(("Split", str(split.get("text") or split["kind"])))
    recipes = {str(((run.get("card") or {}).get("recipe") or {}).get("name") or "unknown") for run in record["runs"]}
    found.append(("Recipe", ", ".join(sorted(recipes))))
    protocol = record.get("protocol") or {}
    found += [(name, str(protocol[key])) for name, key in _PROTOCOL if protocol.get(key) is not None]
    found.append(("Equivalence margin", f"δ = {score(record.get('delta'))}"))
    evaluations = (record.get("test_looks") or {}).get("total")
    if evaluations:
        found.append(("Test evaluations", str(evaluations)))
    return found


def ranking(record: Record, runs: Sequence[StyledRun]) -> Forest:
    """Return what the verdicts are about, best first: architectures where each has seeds, else runs."""
    if not speaks_of_architectures({"architecture_pairs": [], "architectures": [], **record}):
        return run_forest(record, runs)
    entries = {entry["name"]: entry for entry in record["architectures"]}
    ranked = [entries[name] for name in ranked_architectures(record)]
    rows = [
        _Entry(None, e["name"], _architecture_value(e), interval_of(e), count_of(e["seeds"], "seed")) for e in ranked
    ]
    own = [next((run for run in runs if run.name in entry["runs"]), None) for entry in ranked]
    return _forest("architectures", rows, own, metric_range(record["metric"]))


def run_forest(record: Record, runs: Sequence[StyledRun]) -> Forest:
    """Return each run with its interval."""
    rows = [_Entry(x, x.label, value_of(record, x.result), value_interval(record, x.result)) for x in runs]
    return _forest("runs", rows, runs, metric_range(record["metric"]))


def ranked_architectures(record: Record) -> list[str]:
    """Return the names of the architectures, best first."""
    entries = sorted(record.get("architectures") or [], key=lambda entry: -(_architecture_value(entry) or -1.0))
    return [entry["name"] for entry in entries]


def architecture_rows(record: Record) -> list[list[str]]:
    """Return the cells of each architecture, best first.

    Name, seeds, score, interval, standard error from groups and from seeds, share of resamples that rank it first.
    """
    entries = {entry["name"]: entry for entry in record.get("architectures") or []}
    return [
        [
            name,
            str(entry.get("seeds", MISSING)),
            score(_architecture_value(entry)),
            interval_text(interval_of(entry)),
            score(entry.get("se_groups")),
            score(entry.get("se_seeds")),
            MISSING if entry.get("ranked_first") is None else per_cent(entry["ranked_first"]),
        ]
        for name in ranked_architectures(record)
        for entry in [entries[name]]
    ]


def score_rows(record: Record, runs: Sequence[StyledRun]) -> list[ScoreRow]:
    """Return the score table, one row for each run."""
    rows = []
    for run in runs:
        own = run.scores(primary_scoring(record))
        blocks = [run.scores(scoring) for scoring in record["scorings"]]
        rows.append(
            ScoreRow(
                run=run,
                miou=tuple(ScoreCell(score(x.get("miou")), interval_text(interval_of(x))) for x in blocks),
                others=tuple(score(own.get(kind)) for kind in _other_kinds(record)),
                boundary=score((run.result.get("boundary_iou") or {}).get("mean")),
                loss=score(run.result.get("loss")),
                speed=rate(throughput_of(run)),
                parameters=millions((run.card.get("parameters") or {}).get("total")),
            )
        )
    return rows


def other_columns(record: Record) -> list[str]:
    """Return the headings of the score table's metrics besides mIoU."""
    return [METRICS[kind].words for kind in _other_kinds(record)]


def _other_kinds(record: Record) -> list[str]:
    shown = overall_metrics(primary_scoring(record), columns=True)
    return [metric.kind for metric in shown if metric.kind != "miou"]


def metric_rows(record: Record, runs: Sequence[StyledRun]) -> list[MetricTableRow]:
    """Return each run's value and rank under every metric, and the pairs that a metric orders in reverse."""
    labels = {run.name: run.label for run in runs}
    table = record.get("multiverse") or []
    primary: Mapping[str, Any] = next((row["ranks"] for row in table if row["metric"] == record["metric"]), {})
    rows = []
    for row in table:
        cells = tuple(
            RankCell(
                score(row["values"].get(run.name)),
                row["ranks"].get(run.name),
                _moved(row["ranks"].get(run.name), primary.get(run.name)),
            )
            for run in runs
        )
        flips = tuple((labels.get(before, before), labels.get(after, after)) for before, after in row["flips"])
        words = "loss" if row["metric"] == "loss" else metric_words(row["metric"], record["scorings"])
        rows.append(MetricTableRow(words, row["metric"] == record["metric"], cells, flips))
    return rows


def _moved(rank: int | None, primary: int | None) -> str:
    """Return ``up`` or ``down`` where a rank differs from that under the primary metric."""
    if rank is None or primary is None or rank == primary:
        return ""
    return "up" if rank < primary else "down"


def interval_text(ends: Interval | None) -> str:
    """Format an interval for a table cell.

    Example:
        >>> interval_text((0.44, 0.5)), interval_text(None)
        ('0.440–0.500', '–')
    """
    return MISSING if ends is None else f"{score(ends[0])}–{score(ends[1])}"


def rate(value: float | None) -> str:
    """Format units per second for a table cell.

    Example:
        >>> rate(0.1234), rate(6.54), rate(123.4), rate(None)
        ('0.12', '6.5', '123', '–')
    """
    if value is None:
        return MISSING
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"


def millions(value: float | None) -> str:
    """Format a large number in millions.

    Example:
        >>> millions(14_328_000), millions(None)
        ('14.3', '–')
    """
    return MISSING if value is None else f"{value / 1e6:.1f}"


def _architecture_value(entry: Mapping[str, Any]) -> float | None:
    return number_or_none(entry.get("value", entry.get("miou")))


def _forest(subject: str, entries: Sequence[_Entry], styled: Sequence[StyledRun | None], within: Interval) -> Forest:
    """Draw values with intervals over one scale, each in the style of a run."""
    held = [end for entry in entries for end in (entry.value, *(entry.interval or ())) if end is not None]
    scale = scale_over(held, within=within)
    ticks = scale.ticks(4)
    rows = []
    for entry, run in zip(entries, styled, strict=True):
        text = f"{entry.label}: {score(entry.value)}, 95 % interval {between(entry.interval)}"
        style = run.style if run else NEUTRAL
        strip = interval_strip(scale, entry.value, entry.interval, ticks=ticks, text=text, style=style)
        rows.append(
            ForestRow(entry.run, entry.label, entry.note, score(entry.value), interval_text(entry.interval), strip)
        )
    return Forest(subject, tuple(rows), axis_strip(scale, ticks))
