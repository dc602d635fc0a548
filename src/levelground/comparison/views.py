"""Accessors of a comparison as a JSON object, for the report until it reads :class:`Comparison` itself."""

from levelground.records import Record

_OPPOSITE = {"better": "worse", "worse": "better", "equal": "equal", "undecided": "undecided"}


def _candidates(record: Record) -> list[Record]:
    return [entry for entry in record["architectures"] if not entry["twin_of"]]


def speaks_of_architectures(record: Record) -> bool:
    """Whether the verdicts are about architectures: two or more of them, each with two or more seeds."""
    entries = _candidates(record)
    return len(entries) >= 2 and all(entry["seeds"] >= 2 for entry in entries)


def judged_pairs(record: Record) -> list[Record]:
    """The pairs that carry the verdicts: of architectures where there are seeds, else of runs."""
    if len(_candidates(record)) < 2:
        return []
    key = "architecture_pairs" if speaks_of_architectures(record) else "pairs"
    return [pair for pair in record[key] if not pair["control"]]


def turned(pair: Record) -> Record:
    """A pair seen from its other side: differences and intervals negated, the verdict about the other one."""
    intervals = {key: _negated(pair[key]) for key in ("interval", "percentile", "bca") if key in pair}
    per_class = [
        entry | {"delta": -entry["delta"], "interval": _negated(entry["interval"])}
        for entry in pair.get("per_class", ())
    ]
    delta = None if pair["delta"] is None else -pair["delta"]
    sides = {"a": pair["b"], "b": pair["a"], "delta": delta, "verdict": _OPPOSITE[pair["verdict"]]}
    return pair | intervals | sides | {"per_class": per_class}


def _negated(interval: list[float] | None) -> list[float] | None:
    return None if interval is None else [-interval[1], -interval[0]]
