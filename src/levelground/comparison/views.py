"""Views of a comparison record: who contends, which pairs carry the verdicts, what belongs to whom.

Nothing is computed here but order and sign.
"""

from collections.abc import Iterable

from levelground.comparison.text import class_word
from levelground.records import Record

_OPPOSITE = {"better": "worse", "worse": "better", "equal": "equal", "undecided": "undecided"}


def rivals(record: Record) -> list[Record]:
    """The architectures that are compared; a twin, the negative control, is none of them."""
    return [entry for entry in record["architectures"] if not entry["twin_of"]]


def models_of(record: Record) -> dict[str, list[Record]]:
    """The runs by architecture, under the name that the comparison gives each, without twins."""
    runs = {run["name"]: run for run in record["runs"]}
    return {str(entry["name"]): [runs[name] for name in entry["runs"]] for entry in rivals(record)}


def class_words(record: Record, indices: Iterable[int]) -> list[str]:
    """Class names inside a sentence."""
    return [class_word(str(record["legend"]["class"][index]["name"])) for index in indices]


def ranked_runs(record: Record) -> list[Record]:
    """The runs by the primary metric, best first; runs without a value come last, ties by name."""
    return sorted(record["runs"], key=lambda run: (2.0 if run["value"] is None else -run["value"], run["name"]))


def primary_scoring(record: Record) -> str:
    """The scoring of the primary metric; the first one where the metric has none of its own."""
    scoring = str(record["metric"]).split(".", maxsplit=1)[0]
    return scoring if scoring in record["scorings"] else str(record["scorings"][0])


def speaks_of_architectures(record: Record) -> bool:
    """Whether the verdicts are about architectures: two or more of them, each with two or more seeds."""
    entries = rivals(record)
    return len(entries) >= 2 and all(entry["seeds"] >= 2 for entry in entries)


def contenders(record: Record) -> list[tuple[str, str, float | None]]:
    """What is ranked, best first: ``(name, label, value of the primary metric)``.

    Architectures where each has seeds, or where there is only one; else runs.
    """
    if speaks_of_architectures(record) or len(rivals(record)) == 1:
        items = [(entry["name"], entry["name"], entry["value"]) for entry in rivals(record)]
    else:
        runs = [run for runs in models_of(record).values() for run in runs]
        items = [(run["name"], run["label"], run["value"]) for run in runs]
    return sorted(items, key=lambda item: (2.0 if item[2] is None else -item[2], item[0]))


def judged_pairs(record: Record) -> list[Record]:
    """The pairs that carry the verdicts: of architectures where there are seeds, else of runs.

    Seeds of one architecture are no contest, and neither is a control: with nothing else there is nothing to judge.
    """
    if len(rivals(record)) < 2:
        return []
    key = "architecture_pairs" if speaks_of_architectures(record) else "pairs"
    return [pair for pair in record[key] if not pair["control"]]


def facing(record: Record, a: str, b: str) -> Record:
    """The judged pair of two names with ``a`` first: the difference is a − b, the verdict about a."""
    for pair in judged_pairs(record):
        if (pair["a"], pair["b"]) == (a, b):
            return pair
        if (pair["a"], pair["b"]) == (b, a):
            return turned(pair)
    raise KeyError((a, b))


def turned(pair: Record) -> Record:
    """A pair seen from its other end: differences and intervals negated, the verdict about the other one."""
    intervals = {key: _negated(pair[key]) for key in ("interval", "percentile", "bca") if key in pair}
    return (
        pair
        | intervals
        | {
            "a": pair["b"],
            "b": pair["a"],
            "delta": None if pair["delta"] is None else -pair["delta"],
            "verdict": _OPPOSITE[pair["verdict"]],
            "per_class": [
                entry | {"delta": -entry["delta"], "interval": _negated(entry["interval"])}
                for entry in pair.get("per_class", ())
            ],
        }
    )


def _negated(interval: list[float] | None) -> list[float] | None:
    return None if interval is None else [-interval[1], -interval[0]]
