"""What the page says of cost and trust: metrics against each other, the ledger, speed, calibration, run cards."""

from collections.abc import Mapping, Sequence
from typing import Any

from levelground.comparison.text import MISSING, between, metric_words, score
from levelground.records import Record
from levelground.reporting.run_styles import RunLook, interval_of, metric_title, throughput_of, value_interval, value_of
from levelground.reporting.summary import Block, millions, rate
from levelground.reporting.svg_charts import Series, Spot, reliability_chart, scatter_chart


def multiverse_rows(record: Record, looks: Sequence[RunLook]) -> list[Block]:
    """Every metric: each run's value and rank, and the pairs that it orders otherwise than the primary metric."""
    labels = {look.name: look.label for look in looks}
    table = record.get("multiverse") or []
    primary: dict[str, int | None] = next((row["ranks"] for row in table if row["metric"] == record["metric"]), {})
    rows = []
    for row in table:
        cells = []
        for look in looks:
            rank, first = row["ranks"].get(look.name), primary.get(look.name)
            moved = "" if rank is None or first is None or rank == first else "up" if rank < first else "down"
            cells.append({"value": score(row["values"].get(look.name)), "rank": rank, "moved": moved})
        flips = [(labels.get(before, before), labels.get(after, after)) for before, after in row.get("flips") or ()]
        primary_row = row["metric"] == record["metric"]
        words = "loss" if row["metric"] == "loss" else metric_words(row["metric"], record["scorings"])
        rows.append({"metric": words, "primary": primary_row, "cells": cells, "flips": flips})
    return rows


def ledger_rows(looks: Sequence[RunLook]) -> list[Block]:
    """What each run cost and on what it ran: one row a run, every cell a text."""
    rows = []
    for look in looks:
        card = look.card
        parameters, selection = card.get("parameters") or {}, card.get("selection") or {}
        macs = card.get("macs_per_megapixel")
        rows.append(
            {
                "look": look,
                "cells": [
                    " / ".join(millions(parameters.get(key)) for key in ("total", "used", "trainable")),
                    MISSING if macs is None else f"{macs / 1e9:.0f}",
                    _whole(card.get("steps_done")),
                    _whole(card.get("images_seen")),
                    _whole(card.get("megapixels_seen")),
                    _whole(card.get("wall_s")),
                    _whole(card.get("train_s")),
                    _whole(card.get("peak_memory_mib")),
                    rate((look.record.get("throughput") or card.get("speed") or {}).get("train_images_per_s")),
                    rate(throughput_of(look)),
                ],
                "words": [
                    str(card.get("device") or MISSING),
                    str(card.get("precision") or MISSING),
                    _whole(card.get("threads")),
                    plain_text(card.get("hardware")),
                    _selection(selection),
                ],
            }
        )
    return rows


def pareto(record: Record, looks: Sequence[RunLook]) -> Block | None:
    """Score against throughput; ``None`` where no run was timed."""
    spots = []
    for look in looks:
        speed, value = throughput_of(look), value_of(record, look.record)
        if speed is None or value is None:
            continue
        text = f"{look.label}: {score(value)} at {rate(speed)} Mpx/s"
        x_interval = interval_of(look.record.get("throughput"))
        y_interval = value_interval(record, look.record)
        spots.append(Spot(look.number, look.label, look.mark, speed, value, x_interval, y_interval, text))
    if not spots:
        return None
    named = {spot.name: (spot.x, spot.y) for spot in spots}
    labels = {look.name: look.label for look in looks}
    front = sorted(named[labels[name]] for name in record.get("pareto") or () if labels.get(name) in named)
    words = f"{metric_title(record)} over inference speed. {'. '.join(spot.text for spot in spots)}."
    chart = scatter_chart(spots, text=words, x_title="inference, megapixels a second", front=front)
    return {"chart": chart, "looks": [look for look in looks if look.label in named], "front": bool(front)}


def calibrations(looks: Sequence[RunLook]) -> list[Block]:
    """Reliability diagrams of the runs that gave probabilities."""
    drawn = []
    for look in looks:
        block = look.record.get("calibration") or {}
        bins = [b for b in block.get("bins") or [] if b.get("n") and b.get("accuracy") is not None]
        if not bins:
            continue
        total = sum(b["n"] for b in bins)
        line = Series(look.number, look.label, look.mark, tuple((b["confidence"], b["accuracy"]) for b in bins))
        error = f"{score(block.get('ece'))} (95 % interval {between(interval_of(block))})"
        chart = reliability_chart(
            line, [b["n"] / total for b in bins], text=f"Reliability of {look.label}; calibration error {error}."
        )
        drawn.append({"look": look, "chart": chart, "error": error})
    return drawn


def card_rows(card: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A run card as pairs of dotted key and text, nested objects opened."""
    rows = []
    for key, value in card.items():
        if isinstance(value, Mapping) and value and key != "legend":
            rows += card_rows(value, f"{prefix}{key}.")
        elif key != "legend":
            rows.append((f"{prefix}{key}", plain_text(value)))
    return rows


def protocol_rows(record: Record) -> list[tuple[str, str]]:
    """The common training protocol and tile geometry, field by field; what differs stands elsewhere."""
    fields = card_rows({key: value for key, value in (record.get("protocol") or {}).items() if value is not None})
    return [(name.removeprefix("recipe.").replace("_", " "), text) for name, text in fields]


def unlike_rows(record: Record, looks: Sequence[RunLook]) -> list[Block]:
    """What was not alike between the runs: a field, and each run's value."""
    return [
        {"field": entry["field"], "cells": [plain_text(entry["values"].get(look.name)) for look in looks]}
        for entry in record.get("unlike") or []
    ]


def plain_text(value: object) -> str:
    """A value of a card in words.

    Example:
        >>> plain_text({"cpu": "EPYC", "cores": 2}), plain_text([0, 1]), plain_text(None), plain_text(True)
        ('cpu EPYC, cores 2', '0, 1', '–', 'yes')
    """
    if value is None or value == "" or value == {} or value == []:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain_text(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _selection(selection: Mapping[str, Any]) -> str:
    if not selection.get("rule"):
        return MISSING
    step = selection.get("step")
    return str(selection["rule"]) + ("" if step is None else f", step {_whole(step)}")


def _whole(value: float | None) -> str:
    """A number without decimals, thousands apart."""
    return MISSING if value is None else f"{value:,.0f}".replace(",", " ")
