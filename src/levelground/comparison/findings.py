"""What a comparison finds: the headline, what limits it, and, after these, what only describes.

The verdict comes first: who leads, by how much and how sure. Then what it rests on
(:mod:`levelground.comparison.caveats`) and what only describes (:mod:`levelground.comparison.descriptions`). Each
function takes a comparison and returns facts; :mod:`levelground.comparison.sentences` writes them. Budgets (the order
of the models at each, and whether it holds) are here with their sentences.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from levelground.comparison.caveats import cannot_show, find_caveats
from levelground.comparison.conditions import BudgetRung, BudgetScore
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
from levelground.comparison.text import listing, recorded
from levelground.wording import gettext, ngettext


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


@dataclass(frozen=True)
class OrderOverBudget(Fact):
    """The order of the models at each budget, and from which one on it is that of the whole budget.

    Attributes:
        order: The architectures at the whole budget, best first.
        since: The shortest budget from which on the order stays, as it was asked for.
        whole: The whole budget, as it was asked for.
        always: Whether that is the shortest budget of all.
        changed: Pairs that changed places last, between ``before`` and ``since``.
        before: The budget before; empty where the order is always the same.
    """

    code = "budget_order"
    kept = ("order", "since", "before", "changed")
    order: tuple[str, ...]
    since: str
    whole: str
    always: bool
    changed: tuple[tuple[str, str], ...] = ()
    before: str = ""


@dataclass(frozen=True)
class LeaderChanges(Fact):
    """Another model leads at a shorter budget.

    Attributes:
        leaders: The leader at each budget, by the budget as it was asked for.
        last: The budgets between which the leader changed last.
        shown: Whether both leads were shown: better than, or equal to, the second.
    """

    code = "budget_leader"
    severity = "warning"
    kept = ("leaders", "last")
    leaders: dict[str, str]
    last: tuple[str, str]
    shown: bool


def rung_of(comparison: Comparison, share: float) -> BudgetRung:
    """Return what a comparison says at one budget.

    Args:
        comparison: The comparison of the runs that had this budget.
        share: The budget as a share of the whole one.
    """
    runs = {run.name: run for run in comparison.runs}
    scores = []
    for entry in comparison.candidates:
        interval = entry.interval if entry.seeds > 1 else runs[entry.runs[0]].interval
        scores.append(BudgetScore(entry.name, entry.value, interval))
    scores.sort(key=lambda one: (one.value is None, -(one.value or 0.0), one.name))
    steps = [run.card.steps_done for run in comparison.runs if run.card.steps_done is not None]
    asked = [run.card.budget.asked for run in comparison.runs if run.card.budget is not None]
    best, *rest = comparison.ranking
    verdict = comparison.oriented_pair(best.name, rest[0].name).verdict if rest else None
    return BudgetRung(
        share=share,
        asked=asked[0] if asked else f"{share:g}",
        steps=(min(steps), max(steps)) if steps else None,
        scores=tuple(scores),
        verdict=verdict,
    )


def with_whole_budget(comparison: Comparison, rungs: Sequence[BudgetRung]) -> tuple[BudgetRung, ...]:
    """Return the ladder: the shorter budgets, shortest first, then the whole one; empty without shorter ones."""
    shorter = sorted((rung for rung in rungs if rung.scores), key=lambda rung: rung.share)
    return (*shorter, rung_of(comparison, 1.0)) if shorter else ()


def budget_facts(comparison: Comparison) -> list[Fact]:
    """Find whether the order of the models, and their leader, is the same at every budget."""
    if not comparison.budgets:
        return []
    names = set.intersection(*({one.name for one in rung.scores} for rung in comparison.budgets))
    asked = [rung.asked for rung in comparison.budgets]
    if len(names) < 2 or len(set(asked)) < 2:  # half of one step is one step
        return []
    orders = [tuple(one.name for one in rung.scores if one.name in names) for rung in comparison.budgets]
    return [*_leader_changes(comparison.budgets, orders, asked), _order(orders, asked)]


def _order(orders: Sequence[tuple[str, ...]], asked: Sequence[str]) -> OrderOverBudget:
    """Find from which budget on the order is that of the whole budget, and who changed places before."""
    last = orders[-1]
    since = next(i for i in range(len(orders)) if all(order == last for order in orders[i:]))
    if since == 0:
        return OrderOverBudget(last, asked[0], asked[-1], always=True)
    before, places = orders[since - 1], {name: i for i, name in enumerate(last)}
    changed = tuple(
        (b, a) for i, a in enumerate(before) for b in before[i + 1 :] if places[b] < places[a]
    )  # b stands before a now
    return OrderOverBudget(last, asked[since], asked[-1], always=False, changed=changed, before=asked[since - 1])


def _leader_changes(
    rungs: Sequence[BudgetRung], orders: Sequence[tuple[str, ...]], asked: Sequence[str]
) -> list[LeaderChanges]:
    """Find whether another model leads at a shorter budget."""
    leaders = [order[0] for order in orders]
    changes = [i for i in range(1, len(leaders)) if leaders[i] != leaders[i - 1]]
    if not changes:
        return []
    i = changes[-1]
    shown = all(rung.verdict not in (None, "undecided") for rung in (rungs[i - 1], rungs[i]))
    return [LeaderChanges(dict(zip(asked, leaders, strict=True)), (asked[i - 1], asked[i]), shown)]


def _write_order(fact: OrderOverBudget) -> str:
    order = listing(list(fact.order), most=len(fact.order))
    if fact.always:
        return gettext(
            "The order is the same at every budget from %(since)s to %(whole)s: %(order)s.",
            since=recorded(fact.since),
            whole=recorded(fact.whole),
            order=order,
        )
    first, second = fact.changed[0]
    pairs = [gettext("%(a)s and %(b)s", a=a, b=b) for a, b in fact.changed]
    changed = ngettext(
        "%(a)s and %(b)s changed places between %(before)s and %(since)s: do not extrapolate.",
        "These pairs changed places between %(before)s and %(since)s: %(pairs)s. Do not extrapolate.",
        len(pairs),
        a=first,
        b=second,
        pairs="; ".join(pairs),
        before=recorded(fact.before),
        since=recorded(fact.since),
    )
    if fact.since == fact.whole:
        return changed
    return " ".join(
        [
            changed,
            gettext("From %(since)s on the order is the same: %(order)s.", since=recorded(fact.since), order=order),
        ]
    )


def _write_leader(fact: LeaderChanges) -> str:
    low, high = fact.last
    values = {"before": fact.leaders[low], "low": recorded(low), "after": fact.leaders[high]}
    values["high"] = recorded(high)
    if fact.shown:
        return gettext(
            "The leader depends on the budget: %(before)s leads after %(low)s, %(after)s after %(high)s.", **values
        )
    return gettext(
        "The leader depends on the budget: %(before)s leads after %(low)s, %(after)s after %(high)s; at least one of "
        "these leads is not shown.",
        **values,
    )


WRITERS: dict[type[Fact], Callable[[Any], str]] = {OrderOverBudget: _write_order, LeaderChanges: _write_leader}
"""What writes each type of fact of this module."""
