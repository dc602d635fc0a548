"""What a comparison finds: the headline, what limits it, and, after these, what only describes.

The verdict comes first: who leads, by how much and how sure. Then what it rests on: few groups, few groups of a class,
few seeds, unlike protocols, groups that a split separates, repeated evaluations on the test scenes; and what would
decide an open pair. What describes is in :mod:`levelground.comparison.descriptions`. Each function takes a comparison
and returns facts; :mod:`levelground.comparison.sentences` writes them.
"""

from levelground.comparison.descriptions import describe
from levelground.comparison.facts import (
    FEW_GROUPS,
    RARE_GROUPS,
    CannotShow,
    ControlFailed,
    ControlHolds,
    EqualPairs,
    EvaluationsOnTest,
    Fact,
    FewGroups,
    FieldValues,
    Headline,
    LoneHeadline,
    LoneSeeds,
    LoneSeedsBeside,
    NoRanking,
    OneGroup,
    OneRaster,
    Opponent,
    RankedFirst,
    RareClasses,
    RepeatedEvaluationsOnTest,
    Scope,
    SeparatedGroups,
    TwinSeeds,
    UnknownProtocol,
    UnlikeProtocol,
    WhatWouldDecide,
    measure_of,
    pair_verdict,
)
from levelground.comparison.record import Comparison, RankedEntry
from levelground.comparison.results import PairResult
from levelground.statistics.pairs import ALPHA


def find(comparison: Comparison) -> list[Fact]:
    """Return all findings of a comparison, in reading order: the headline, what limits it, what describes it.

    Args:
        comparison: The comparison; its ``findings`` are not looked at.
    Returns:
        One headline first; then findings and warnings.
    """
    return [
        headline(comparison),
        *ranked_first(comparison),
        *equal_pairs(comparison),
        *find_caveats(comparison),
        *describe(comparison),
    ]


def find_caveats(comparison: Comparison) -> list[Fact]:
    """Return all findings about what the answer rests on, in reading order."""
    return [
        *what_would_decide(comparison),
        *cannot_show(comparison),
        *few_groups(comparison),
        *rare_classes(comparison),
        *lone_seeds(comparison),
        *twins(comparison),
        *unlike_protocol(comparison),
        *unknown_protocol(comparison),
        *separated_groups(comparison),
        *one_raster(comparison),
        *evaluations_on_test(comparison),
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
    )


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
    return [WhatWouldDecide(comparison.n_groups, power, detects)]


def cannot_show(comparison: Comparison) -> list[Fact]:
    """Find out whether even the largest difference could not have reached p ≤ .05."""
    pairs = comparison.decisive_pairs
    least = min((pair.p_min for pair in comparison.pairs if not pair.negative_control), default=0.0)
    if not pairs or comparison.about_architectures or least <= ALPHA:
        return []
    return [CannotShow(least, comparison.n_groups, len(pairs), comparison.groups_for_p)]


def few_groups(comparison: Comparison) -> list[Fact]:
    """Find out whether one group gives no interval, or few groups give wide ones."""
    groups = comparison.n_groups
    if groups >= FEW_GROUPS:
        return []
    fact = OneGroup if groups < 2 else FewGroups
    return [fact(groups, len(comparison.scenes), comparison.split)]


def rare_classes(comparison: Comparison) -> list[Fact]:
    """Find counted classes that lie in so few groups that another draw of test scenes might have missed them."""
    present = zip(comparison.legend.classes, comparison.truth.groups, strict=True)
    rare = {entry.name: n for entry, n in present if entry.counted and 0 < n < RARE_GROUPS}
    return [RareClasses(rare, comparison.n_groups)] if rare and comparison.n_groups >= FEW_GROUPS else []


def lone_seeds(comparison: Comparison) -> list[Fact]:
    """Find architectures with one seed beside others with more: they are compared as trained weights."""
    alone = tuple(entry.name for entry in comparison.candidates if entry.seeds < 2)
    fact = LoneSeedsBeside if comparison.about_architectures else LoneSeeds
    return [fact(alone)] if 0 < len(alone) < len(comparison.candidates) else []


def twins(comparison: Comparison) -> list[Fact]:
    """Ask the negative control: one architecture under two names must not be told apart from itself."""
    twin_of = {entry.name: entry.twin_of for entry in comparison.architectures if entry.twin_of}
    found: list[Fact] = []
    for twin, original in twin_of.items():
        pair = next((p for p in comparison.architecture_pairs if {p.a, p.b} == {twin, original}), None)
        if pair is None:
            found.append(_twin_seeds(comparison, twin, original))
        else:
            fact = ControlFailed if pair.verdict in ("better", "worse") else ControlHolds
            found.append(fact(twin, original, pair.delta, pair.interval, pair.p, pair.verdict))
    return found


def _twin_seeds(comparison: Comparison, twin: str, original: str) -> TwinSeeds:
    """With one seed a side: how easily mere seeds are told apart among weights."""
    own = {entry.name: set(entry.runs) for entry in comparison.architectures}
    pairs = [
        pair
        for pair in comparison.pairs
        if (pair.a in own[twin] and pair.b in own[original]) or (pair.b in own[twin] and pair.a in own[original])
    ]
    apart = sum(pair.verdict in ("better", "worse") for pair in pairs)
    largest = max((abs(pair.delta) for pair in pairs if pair.delta is not None), default=None)
    return TwinSeeds(twin, original, len(pairs), apart, largest)


def unlike_protocol(comparison: Comparison) -> list[Fact]:
    """Find what was not alike and was allowed."""
    fields = []
    for entry in comparison.protocol_differences:
        runs: dict[str, list[str]] = {}
        for name, value in entry.values.items():
            runs.setdefault(str(value), []).append(comparison.labels[name])
        fields.append(FieldValues(entry.field, runs))
    return [UnlikeProtocol(tuple(fields))] if fields else []


def unknown_protocol(comparison: Comparison) -> list[Fact]:
    """Find adopted runs: how they were trained is not known."""
    adopted = tuple(run.label for run in comparison.runs if run.adopted)
    return [UnknownProtocol(adopted)] if adopted else []


def separated_groups(comparison: Comparison) -> list[Fact]:
    """Find groups with scenes on both sides of the split: test scenes that training may have seen a part of."""
    found = comparison.separated_groups
    return [SeparatedGroups(found, comparison.split)] if found else []


def one_raster(comparison: Comparison) -> list[Fact]:
    """Find out whether all scenes are blocks of one raster."""
    return [OneRaster()] if comparison.dataset.layout == "raster" else []


def evaluations_on_test(comparison: Comparison) -> list[Fact]:
    """Find how often the test scenes were evaluated."""
    total, runs = comparison.test_evaluations.total, len(comparison.runs)
    if comparison.split != "test" or not total:
        return []
    return [RepeatedEvaluationsOnTest(total, runs) if total > runs else EvaluationsOnTest(total, runs)]
