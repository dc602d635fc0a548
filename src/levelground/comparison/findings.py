"""A comparison in plain sentences, each with its figures: the verdict first, then what it rests on.

The verdict is here: who wins, by how much and how sure. What limits it is in
:mod:`levelground.comparison.caveats`; what is only described (learning, speed, mistakes) in
:mod:`levelground.comparison.training_findings` and :mod:`levelground.comparison.error_analysis`.
"""

from collections.abc import Mapping, Sequence

from levelground.comparison.caveats import find_caveats
from levelground.comparison.error_analysis import find_errors
from levelground.comparison.record import Comparison, RankedEntry
from levelground.comparison.results import Finding, PairResult
from levelground.comparison.text import (
    between,
    count_of,
    listing,
    metric_words,
    p_value,
    per_cent,
    score,
    signed,
)
from levelground.comparison.training_findings import find_training


def find(comparison: Comparison) -> list[Finding]:
    """All findings of a comparison, in reading order: the headline, what limits it, what describes it.

    Args:
        comparison: The comparison, complete but for its ``findings``.
    Returns:
        One headline first; then findings and warnings.
    """
    return [
        headline(comparison),
        *ranked_first(comparison),
        *equal_pairs(comparison),
        *find_caveats(comparison),
        *find_training(comparison),
        *find_errors(comparison),
    ]


def pair_text(pair: PairResult, labels: Mapping[str, str], words: str, delta: float) -> str:
    """The sentence of one pair: verdict, difference, interval, p.

    Args:
        pair: A pair with everything but its text.
        labels: Labels of runs by name; a name without one, such as an architecture's, is its own label.
        words: The metric in prose.
        delta: The difference that counts as none, δ.
    """
    a, b = labels.get(pair.a, pair.a), labels.get(pair.b, pair.b)
    if pair.delta is None:
        return f"{a} and {b} cannot be compared: {words} does not exist on these scenes."
    if pair.interval is None:
        return f"Undecided between {a} and {b}: {signed(pair.delta)} {words}, without an interval."
    if pair.verdict == "worse":
        pair, a, b = pair.flipped(), b, a
    figures = f"{signed(pair.delta)} {words} ({_sureness(pair)})"
    if pair.verdict == "better":
        return f"{a} is better than {b}: {figures}."
    if pair.verdict == "equal":
        measurable = ", measurably different, by less than δ" if pair.excludes_zero else ""
        return f"{a} and {b} are equal within {score(delta)}{measurable}: {figures}."
    return f"Undecided between {a} and {b}: {figures}."


def headline(comparison: Comparison) -> Finding:
    """Who wins, by how much and how sure; about these weights with one seed, about architectures with more."""
    order = comparison.ranking
    words = metric_words(comparison.metric, comparison.scorings)
    if len(order) == 1:
        return _lone_headline(comparison, words)
    best, rest = order[0], order[1:]
    if best.value is None:
        text = f"No ranking: {words} does not exist on these scenes, which have no true pixels to score."
        return Finding("headline", "headline", text, {"metric": comparison.metric, "best": None, "value": None})
    pairs = {entry.name: comparison.oriented_pair(best.name, entry.name) for entry in rest}
    groups = {word: [entry for entry in rest if pairs[entry.name].verdict == word] for word in _PARTS}
    figures: dict[str, object] = {"metric": comparison.metric, "best": best.name, "value": best.value}
    figures |= {word: [entry.name for entry in items] for word, items in groups.items()}
    parts: list[str] = []
    for word, write in _PARTS.items():
        if groups[word]:
            parts.append(write(comparison, words, best, groups[word], pairs, bool(parts)))
    return Finding("headline", "headline", " ".join([*parts, _speaks_of(comparison)]), figures)


def _lone_headline(comparison: Comparison, words: str) -> Finding:
    """Say what one architecture, with one seed or several, scores where there is nothing to compare it with."""
    name, value = comparison.ranking[0].name, comparison.ranking[0].value
    entry = comparison.candidates[0]
    run = next(run for run in comparison.runs if run.name == entry.runs[0])
    label, interval = (name, entry.interval) if entry.seeds > 1 else (run.label, run.interval)
    mean = f" on average over {entry.seeds} seeds" if entry.seeds > 1 else ""
    sure = f" (95 % interval {between(interval)})" if interval else ""
    scenes = count_of(len(comparison.scenes), f"{comparison.split} scene")
    text = f"{label} scores {score(value)} {words}{mean}{sure} on {scenes}. There is nothing to compare it with."
    return Finding("headline", "headline", text, {"metric": comparison.metric, "best": name, "value": value})


def _undecided(
    comparison: Comparison,
    words: str,
    best: RankedEntry,
    items: Sequence[RankedEntry],
    pairs: Mapping[str, PairResult],
    more: bool,
) -> str:
    nearest = pairs[items[0].name]
    lead = f"No winner: {best.label} has the highest {words} ({score(best.value)}) but is not shown to beat"
    gap = f"The difference to {items[0].label} is {score(nearest.delta)} ({_sureness(nearest)})."
    return f"{lead} {_named(items, last='or')}. {gap}"


def _equal(
    comparison: Comparison,
    words: str,
    best: RankedEntry,
    items: Sequence[RankedEntry],
    pairs: Mapping[str, PairResult],
    more: bool,
) -> str:
    if more:
        return f"It equals {_named(items)} within {score(comparison.delta)}."
    nearest = pairs[items[0].name]
    measurable = ", measurably different, by less than δ" if nearest.excludes_zero else ""
    lead = f"A tie: {best.label} ({score(best.value)}) and {_named(items)} are equal in {words} within"
    gap = f"The difference to {items[0].label} is {score(nearest.delta)} ({_sureness(nearest)})."
    return f"{lead} {score(comparison.delta)}{measurable}. {gap}"


def _better(
    comparison: Comparison,
    words: str,
    best: RankedEntry,
    items: Sequence[RankedEntry],
    pairs: Mapping[str, PairResult],
    more: bool,
) -> str:
    if more:
        return f"It is better than {_named(items)}."
    gaps = [
        f"{entry.label} ({score(entry.value)}) by {score(pairs[entry.name].delta)} ({_sureness(pairs[entry.name])})"
        for entry in items[:3]
    ]
    if len(items) > 3:
        gaps.append(f"{len(items) - 3} more")
    return f"{best.label} wins with {score(best.value)} {words}. It beats {listing(gaps)}."


_PARTS = {"undecided": _undecided, "equal": _equal, "better": _better}
"""What the headline says of those behind the leader, by verdict, in this order."""


def _named(items: Sequence[RankedEntry], *, last: str = "and") -> str:
    return listing([f"{entry.label} ({score(entry.value)})" for entry in items], last=last)


def _sureness(pair: PairResult) -> str:
    if pair.interval is None:
        return "no interval"
    return f"95 % interval {between(pair.interval, sign=True)}, {p_value(pair.p_holm)}"


def _speaks_of(comparison: Comparison) -> str:
    """What the verdicts are about: architectures, or only these weights."""
    groups = count_of(comparison.n_groups, "group") + f" of {comparison.split} scenes"
    if comparison.about_architectures:
        seeds = sorted({entry.seeds for entry in comparison.seeded})
        each = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
        return f"This speaks of architectures, trained with {each} each, on {groups}."
    return f"This speaks of these weights on {groups}, not of architectures: seed variance unknown."


def ranked_first(comparison: Comparison) -> list[Finding]:
    """How often each architecture comes first when groups and seeds are drawn again."""
    shares = {entry.name: entry.ranked_first for entry in comparison.candidates if entry.ranked_first is not None}
    if not comparison.about_architectures or len(shares) < 2:
        return []
    order = sorted(shares, key=lambda name: (-shares[name], name))
    parts = [f"{name} in {per_cent(shares[name])}" for name in order[1:4]]
    lead = f"{order[0]} comes first in {per_cent(shares[order[0]])} of the resamples"
    text = f"When groups and seeds are drawn again, {lead}, {listing(parts)}."
    return [Finding("ranked_first", "finding", text, {"shares": shares})]


def equal_pairs(comparison: Comparison) -> list[Finding]:
    """Pairs shown to be equal within δ, where the headline does not already speak of the only pair."""
    pairs = [pair for pair in comparison.decisive_pairs if pair.verdict == "equal"]
    if not pairs or len(comparison.ranking) == 2:
        return []
    text = " ".join(pair.text for pair in pairs[:3])
    if len(pairs) > 3:
        text += f" So are {count_of(len(pairs) - 3, 'more pair')}."
    return [Finding("equal_within_delta", "finding", text, {"pairs": [[pair.a, pair.b] for pair in pairs]})]
