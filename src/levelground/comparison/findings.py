"""What a comparison finds: the headline, what limits it, and, after these, what only describes.

The verdict comes first: who leads, by how much and how sure. Then what it rests on
(:mod:`levelground.comparison.caveats`) and what only describes (:mod:`levelground.comparison.descriptions`). Each
function takes a comparison and returns facts; :mod:`levelground.comparison.sentences` writes them.
"""

from levelground.comparison.budgets import budget_facts
from levelground.comparison.caveats import cannot_show, find_caveats
from levelground.comparison.descriptions import describe
from levelground.comparison.facts import (
    EqualPairs,
    Fact,
    Headline,
    LoneHeadline,
    NoRanking,
    OneGroupDecides,
    Opponent,
    RankedFirst,
    Scope,
    WhatWouldDecide,
    measure_of,
    pair_verdict,
    rising,
    trained_steps,
)
from levelground.comparison.record import Comparison, RankedEntry
from levelground.comparison.results import PairResult


def find(comparison: Comparison) -> list[Fact]:
    """Return all findings of a comparison, in reading order: the headline, what limits it, what describes it.

    Args:
        comparison: The comparison; its ``findings`` are not looked at.
    Returns:
        One headline first; then findings and warnings.
    """
    return [
        headline(comparison),
        *one_group_decides(comparison),
        *ranked_first(comparison),
        *equal_pairs(comparison),
        *what_would_decide(comparison),
        *budget_facts(comparison),
        *find_caveats(comparison),
        *describe(comparison),
    ]


def headline(comparison: Comparison) -> Headline | LoneHeadline | NoRanking:
    """Find who leads, by how much and how sure; about these weights with one seed, about architectures with more."""
    best, *rest = comparison.ranking
    if not rest:
        return _lone_headline(comparison)
    measure = measure_of(comparison)
    if best.value is None:
        return NoRanking(measure)
    pairs = {entry.name: comparison.oriented_pair(best.name, entry.name) for entry in rest}

    def with_verdict(verdict: str) -> tuple[Opponent, ...]:
        return tuple(_opponent(entry, pairs[entry.name]) for entry in rest if pairs[entry.name].verdict == verdict)

    return Headline(
        measure=measure,
        best=best.name,
        label=best.label,
        value=best.value,
        undecided=with_verdict("undecided"),
        equal=with_verdict("equal"),
        better=with_verdict("better"),
        margin=comparison.delta,
        scope=_scope(comparison),
        steps=trained_steps(comparison),
        still_rising=bool(rising(comparison)),
    )


def one_group_decides(comparison: Comparison) -> list[Fact]:
    """Find out whether leaving out one group changes a verdict on the leader."""
    best, *rest = comparison.ranking
    entries = {entry.name: entry for entry in rest}
    found = [one for one in comparison.carried if one.a == best.name and one.b in entries]
    pairs = [comparison.oriented_pair(best.name, one.b) for one in found]
    if not found:
        return []
    return [
        OneGroupDecides(
            found[0].group,
            best.label,
            tuple(_opponent(entries[one.b], pair) for one, pair in zip(found, pairs, strict=True)),
            tuple((one.delta, one.interval, one.verdict) for one in found),
            tuple(pair.verdict for pair in pairs),
        )
    ]


def _opponent(entry: RankedEntry, pair: PairResult) -> Opponent:
    return Opponent(entry.name, entry.label, entry.value, pair.delta, pair.interval, pair.p_holm, pair.excludes_zero)


def _lone_headline(comparison: Comparison) -> LoneHeadline:
    """What one architecture, with one seed or several, scores where there is nothing to compare it with."""
    name, value = comparison.ranking[0].name, comparison.ranking[0].value
    entry = comparison.candidates[0]
    run = next(run for run in comparison.runs if run.name == entry.runs[0])
    label, interval = (name, entry.interval) if entry.seeds > 1 else (run.label, run.interval)
    return LoneHeadline(
        measure=measure_of(comparison),
        name=name,
        label=label,
        value=value,
        interval=interval,
        seeds=entry.seeds,
        scenes=len(comparison.scenes),
        split=comparison.split,
    )


def _scope(comparison: Comparison) -> Scope:
    """What the verdicts are about: architectures, or only these weights."""
    seeds = [entry.seeds for entry in comparison.seeded]
    about = (min(seeds), max(seeds)) if comparison.about_architectures else None
    folds = max(len(run.card.folds) for run in comparison.runs)
    return Scope(comparison.split, comparison.n_groups, about, folds)


def ranked_first(comparison: Comparison) -> list[Fact]:
    """Find how often each architecture comes first when groups and seeds are drawn again."""
    shares = {entry.name: entry.ranked_first for entry in comparison.candidates if entry.ranked_first is not None}
    return [RankedFirst(shares)] if comparison.about_architectures and len(shares) >= 2 else []


def equal_pairs(comparison: Comparison) -> list[Fact]:
    """Find pairs shown to be equal within δ, where the headline does not already speak of the only pair."""
    pairs = [pair for pair in comparison.decisive_pairs if pair.verdict == "equal"]
    if not pairs or len(comparison.ranking) == 2:
        return []
    labels = {} if comparison.about_architectures else comparison.labels
    verdicts = tuple(pair_verdict(pair, comparison, labels) for pair in pairs)
    return [EqualPairs(verdicts, tuple((pair.a, pair.b) for pair in pairs))]


def what_would_decide(comparison: Comparison) -> list[Fact]:
    """Find for open pairs the difference this design detects, and the groups and seeds that it takes to detect δ."""
    power = comparison.power
    if power is None or not any(pair.verdict == "undecided" for pair in comparison.decisive_pairs):
        return []
    detects = power.detectable < 1 and not cannot_show(comparison)
    labels = {} if comparison.about_architectures else comparison.labels
    a, b = power.pair
    return [WhatWouldDecide(comparison.n_groups, power, detects, (labels.get(a, a), labels.get(b, b)))]
