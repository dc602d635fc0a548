"""The top of the page: the answer, what it rests on, who stands where, and the score table."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from levelground.comparison.text import MISSING, between, count_of, per_cent, score
from levelground.comparison.views import speaks_of_architectures
from levelground.metrics.named import METRICS, metric_range, overall_metrics
from levelground.records import Record
from levelground.reporting import svg_charts as charts
from levelground.reporting.run_styles import (
    Interval,
    RunLook,
    interval_of,
    number_or_none,
    primary_scoring,
    throughput_of,
    value_interval,
    value_of,
)
from levelground.reporting.svg_charts import scale_over

Block = dict[str, Any]
"""What the template shows in one place."""

_Row = tuple[RunLook | None, str, float | None, Interval | None, Mapping[str, Any]]
# A run or an architecture: look, name, value, interval, and the architecture's entry.


DECIDES = "what_would_decide"
"""The finding that stands beside the answer."""

_PROTOCOL = (("Budget", "budget"), ("Encoder weights", "weights"))
"""Fields of the protocol that stand beside the answer."""


def answer_texts(record: Record) -> tuple[str, str]:
    """The headline's first sentence, which is the page's title, and the rest of it.

    Example:
        >>> answer_texts({"findings": [{"severity": "headline", "text": "No winner (0.47). It takes more."}]})
        ('No winner (0.47).', 'It takes more.')
    """
    texts = texts_of(record, "headline")
    if not texts:
        return f"Comparison of {count_of(len(record['runs']), 'run')}", ""
    first, *rest = re.split(r"(?<=[.!?])\s+(?=[A-Z])", texts[0], maxsplit=1)
    return first, " ".join([*rest, *texts[1:]])


def texts_of(record: Record, severity: str) -> list[str]:
    """The findings' sentences of that severity, in the record's order, but for what stands beside the answer."""
    found = [item for item in record.get("findings") or [] if item.get("code") != DECIDES]
    return [item["text"] for item in found if item.get("severity") == severity]


def text_of(record: Record, code: str) -> str:
    """The sentences of the finding with that code; empty where there is none."""
    return " ".join(item["text"] for item in record.get("findings") or [] if item.get("code") == code)


def facts(record: Record) -> list[tuple[str, str]]:
    """What the answer rests on, in a few pairs of term and text."""
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
    found.append(("Counts as no difference", f"less than δ = {score(record.get('delta'))}"))
    looks = (record.get("test_looks") or {}).get("total")
    if looks:
        found.append(("Looks at test", str(looks)))
    return found


def standing(record: Record, looks: Sequence[RunLook]) -> Block:
    """Who is ranked, best first, with intervals: architectures where there are seeds to speak of them, else runs."""
    if speaks_of_architectures({"architecture_pairs": [], "architectures": [], **record}):
        entries = {entry["name"]: entry for entry in record["architectures"]}
        ranked = [entries[name] for name in ranked_architectures(record)]
        rows: list[_Row] = [(None, e["name"], _architecture_value(e), interval_of(e), e) for e in ranked]
    else:
        rows = _run_rows(record, looks)
    return {**_forest(rows, looks, record), "of": "architectures" if rows and rows[0][0] is None else "runs"}


def ranked_architectures(record: Record) -> list[str]:
    """The architectures' names, best first."""
    entries = sorted(record.get("architectures") or [], key=lambda entry: -(_architecture_value(entry) or -1.0))
    return [entry["name"] for entry in entries]


def run_forest(record: Record, looks: Sequence[RunLook]) -> Block:
    """Each run with its interval."""
    return {**_forest(_run_rows(record, looks), looks, record), "of": "runs"}


def architecture_rows(record: Record) -> list[list[str]]:
    """Each architecture, best first: name, seeds, score, interval, what groups and seeds add to its error, rank."""
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


def score_rows(record: Record, looks: Sequence[RunLook]) -> list[Block]:
    """The score table: one row a run, every cell a text."""
    rows = []
    for look in looks:
        own = look.scores(primary_scoring(record))
        rows.append(
            {
                "look": look,
                "miou": [
                    {"value": score(block.get("miou")), "interval": interval_text(interval_of(block))}
                    for block in map(look.scores, record["scorings"])
                ],
                "others": [score(own.get(kind)) for kind in _other_kinds(record)],
                "boundary": score((look.record.get("boundary_iou") or {}).get("mean")),
                "loss": score(look.record.get("loss")),
                "speed": rate(throughput_of(look)),
                "parameters": millions((look.card.get("parameters") or {}).get("total")),
            }
        )
    return rows


def other_columns(record: Record) -> list[str]:
    """Return the words of the score table's columns beside mIoU."""
    return [METRICS[kind].words for kind in _other_kinds(record)]


def _other_kinds(record: Record) -> list[str]:
    shown = overall_metrics(primary_scoring(record), columns=True)
    return [metric.kind for metric in shown if metric.kind != "miou"]


def interval_text(ends: Interval | None) -> str:
    """An interval in a table cell.

    Example:
        >>> interval_text((0.44, 0.5)), interval_text(None)
        ('0.440–0.500', '–')
    """
    return MISSING if ends is None else f"{score(ends[0])}–{score(ends[1])}"


def rate(value: float | None) -> str:
    """Units a second in a table cell.

    Example:
        >>> rate(0.1234), rate(6.54), rate(123.4), rate(None)
        ('0.12', '6.5', '123', '–')
    """
    if value is None:
        return MISSING
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"


def millions(value: float | None) -> str:
    """A large number in millions.

    Example:
        >>> millions(14_328_000), millions(None)
        ('14.3', '–')
    """
    return MISSING if value is None else f"{value / 1e6:.1f}"


def _run_rows(record: Record, looks: Sequence[RunLook]) -> list[_Row]:
    return [(x, x.label, value_of(record, x.record), value_interval(record, x.record), {}) for x in looks]


def _architecture_value(entry: Mapping[str, Any]) -> float | None:
    return number_or_none(entry.get("value", entry.get("miou")))


def _forest(rows: Sequence[_Row], looks: Sequence[RunLook], record: Record) -> Block:
    """Rows of values with intervals over one scale."""
    scale = scale_over(
        [end for _, _, value, ends, _ in rows for end in (value, *(ends or ())) if end is not None],
        within=metric_range(record["metric"]),
    )
    ticks = scale.ticks(4)
    drawn = []
    for look, label, value, ends, entry in rows:
        own = look or next((x for x in looks if x.name in entry.get("runs", ())), None)
        strip = charts.interval_strip(
            scale,
            value,
            ends,
            mark=own.mark if own else looks[0].mark,
            number=own.number if own else None,
            ticks=ticks,
            text=f"{label}: {score(value)}, 95 % interval {between(ends)}",
        )
        note = count_of(entry["seeds"], "seed") if entry.get("seeds") else ""
        drawn.append(
            {
                "look": look,
                "label": label,
                "note": note,
                "value": score(value),
                "interval": interval_text(ends),
                "strip": strip,
            }
        )
    return {"rows": drawn, "axis": charts.axis_strip(scale, ticks)}
