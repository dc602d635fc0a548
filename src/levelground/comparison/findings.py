"""A comparison in plain sentences, each with its figures: the verdict first, then what it rests on.

The verdict is here: who wins, by how much and how sure. What limits it is in
:mod:`levelground.comparison.caveats`; what is only described (learning, speed, mistakes) in
:mod:`levelground.comparison.training_findings` and :mod:`levelground.comparison.error_analysis`.
"""

from collections.abc import Mapping, Sequence

from levelground.comparison.caveats import describe_limits
from levelground.comparison.error_analysis import describe_mistakes
from levelground.comparison.text import (
    Finding,
    between,
    count_of,
    listing,
    metric_words,
    p_value,
    per_cent,
    score,
    signed,
)
from levelground.comparison.training_findings import describe_pace
from levelground.comparison.views import contenders, facing, judged_pairs, rivals, speaks_of_architectures, turned
from levelground.records import Record

Contender = tuple[str, str, float | None]  # name, label, value of the primary metric


def find(record: Record) -> list[Finding]:
    """All findings of a comparison, in reading order: the headline, what limits it, what describes it.

    Args:
        record: The comparison, complete but for its ``findings``.
    Returns:
        One headline first; then findings and warnings.
    """
    return [
        headline(record),
        *ranked_first(record),
        *equal_pairs(record),
        *describe_limits(record),
        *describe_pace(record),
        *describe_mistakes(record),
    ]


def pair_text(pair: Record, labels: Mapping[str, str], words: str, delta: float) -> str:
    """The sentence of one pair: verdict, difference, interval, p.

    Args:
        pair: A pair with everything but its text.
        labels: What to call the names ``a`` and ``b``.
        words: The metric in prose.
        delta: The difference that counts as none, δ.
    """
    a, b = labels[pair["a"]], labels[pair["b"]]
    if pair["delta"] is None:
        return f"{a} and {b} cannot be compared: {words} does not exist on these scenes."
    if pair["interval"] is None:
        return f"Undecided between {a} and {b}: {signed(pair['delta'])} {words}, without an interval."
    if pair["verdict"] == "worse":
        pair, a, b = turned(pair), b, a
    figures = f"{signed(pair['delta'])} {words} ({_sureness(pair)})"
    low, high = pair["interval"]
    if pair["verdict"] == "better":
        return f"{a} is better than {b}: {figures}."
    if pair["verdict"] == "equal":
        measurable = ", measurably different, by less than δ" if low > 0 or high < 0 else ""
        return f"{a} and {b} are equal within {score(delta)}{measurable}: {figures}."
    return f"Undecided between {a} and {b}: {figures}."


def headline(record: Record) -> Finding:
    """Who wins, by how much and how sure; about these weights with one seed, about architectures with more."""
    order = contenders(record)
    words = metric_words(record["metric"], record["scorings"])
    if len(order) == 1:
        return _lone_headline(record, words)
    best, rest = order[0], order[1:]
    if best[2] is None:
        text = f"No ranking: {words} does not exist on these scenes, which have no true pixels to score."
        return Finding("headline", "headline", text, {"metric": record["metric"], "best": None, "value": None})
    pairs = {name: facing(record, best[0], name) for name, _, _ in rest}
    groups = {word: [item for item in rest if pairs[item[0]]["verdict"] == word] for word in _PARTS}
    figures: dict[str, object] = {"metric": record["metric"], "best": best[0], "value": best[2]}
    figures |= {word: [name for name, _, _ in items] for word, items in groups.items()}
    parts: list[str] = []
    for word, write in _PARTS.items():
        if groups[word]:
            parts.append(write(record, words, best, groups[word], pairs, bool(parts)))
    return Finding("headline", "headline", " ".join([*parts, _speaks_of(record)]), figures)


def _lone_headline(record: Record, words: str) -> Finding:
    """One architecture, with one seed or several, that nothing else is held against."""
    name, _, value = contenders(record)[0]
    entry = rivals(record)[0]
    run = next(run for run in record["runs"] if run["name"] == entry["runs"][0])
    label, interval = (name, entry["interval"]) if entry["seeds"] > 1 else (run["label"], run["interval"])
    mean = f" on average over {entry['seeds']} seeds" if entry["seeds"] > 1 else ""
    sure = f" (95 % interval {between(interval)})" if interval else ""
    scenes = count_of(len(record["scenes"]), f"{record['split']} scene")
    text = f"{label} scores {score(value)} {words}{mean}{sure} on {scenes}. There is nothing to compare it with."
    return Finding("headline", "headline", text, {"metric": record["metric"], "best": name, "value": value})


def _undecided(
    record: Record, words: str, best: Contender, items: Sequence[Contender], pairs: Mapping[str, Record], more: bool
) -> str:
    nearest = pairs[items[0][0]]
    lead = f"No winner: {best[1]} has the highest {words} ({score(best[2])}) but is not shown to beat"
    gap = f"The difference to {items[0][1]} is {score(nearest['delta'])} ({_sureness(nearest)})."
    return f"{lead} {_named(items, last='or')}. {gap}"


def _equal(
    record: Record, words: str, best: Contender, items: Sequence[Contender], pairs: Mapping[str, Record], more: bool
) -> str:
    if more:
        return f"It equals {_named(items)} within {score(record['delta'])}."
    nearest = pairs[items[0][0]]
    low, high = nearest["interval"]
    measurable = ", measurably different, by less than δ" if low > 0 or high < 0 else ""
    lead = f"A tie: {best[1]} ({score(best[2])}) and {_named(items)} are equal in {words} within"
    gap = f"The difference to {items[0][1]} is {score(nearest['delta'])} ({_sureness(nearest)})."
    return f"{lead} {score(record['delta'])}{measurable}. {gap}"


def _better(
    record: Record, words: str, best: Contender, items: Sequence[Contender], pairs: Mapping[str, Record], more: bool
) -> str:
    if more:
        return f"It is better than {_named(items)}."
    gaps = [
        f"{label} ({score(value)}) by {score(pairs[name]['delta'])} ({_sureness(pairs[name])})"
        for name, label, value in items[:3]
    ]
    if len(items) > 3:
        gaps.append(f"{len(items) - 3} more")
    return f"{best[1]} wins with {score(best[2])} {words}. It beats {listing(gaps)}."


_PARTS = {"undecided": _undecided, "equal": _equal, "better": _better}
"""What the headline says of those behind the leader, by verdict, in this order."""


def _named(items: Sequence[Contender], *, last: str = "and") -> str:
    return listing([f"{label} ({score(value)})" for _, label, value in items], last=last)


def _sureness(pair: Record) -> str:
    if pair["interval"] is None:
        return "no interval"
    return f"95 % interval {between(pair['interval'], sign=True)}, {p_value(pair['p_holm'])}"


def _speaks_of(record: Record) -> str:
    """What the verdicts are about: architectures, or only these weights."""
    groups = count_of(record["n_groups"], "group") + f" of {record['split']} scenes"
    if speaks_of_architectures(record):
        seeds = sorted({entry["seeds"] for entry in rivals(record)})
        each = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
        return f"This speaks of architectures, trained with {each} each, on {groups}."
    return f"This speaks of these weights on {groups}, not of architectures: seed variance unknown."


def ranked_first(record: Record) -> list[Finding]:
    """How often each architecture comes first when groups and seeds are drawn again."""
    shares = {entry["name"]: entry["ranked_first"] for entry in rivals(record) if entry["ranked_first"] is not None}
    if not speaks_of_architectures(record) or len(shares) < 2:
        return []
    order = sorted(shares, key=lambda name: (-shares[name], name))
    parts = [f"{name} in {per_cent(shares[name])}" for name in order[1:4]]
    lead = f"{order[0]} comes first in {per_cent(shares[order[0]])} of the resamples"
    text = f"When groups and seeds are drawn again, {lead}, {listing(parts)}."
    return [Finding("ranked_first", "finding", text, {"shares": shares})]


def equal_pairs(record: Record) -> list[Finding]:
    """Pairs shown to be equal within δ, where the headline does not already speak of the only pair."""
    pairs = [pair for pair in judged_pairs(record) if pair["verdict"] == "equal"]
    if not pairs or len(contenders(record)) == 2:
        return []
    text = " ".join(pair["text"] for pair in pairs[:3])
    if len(pairs) > 3:
        text += f" So are {count_of(len(pairs) - 3, 'more pair')}."
    return [Finding("equal_within_delta", "finding", text, {"pairs": [[pair["a"], pair["b"]] for pair in pairs]})]
