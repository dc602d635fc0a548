"""Budgets: the same models trained for shares of the budget, their order at each, and whether it holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from levelground.comparison.conditions import BudgetRung, BudgetScore
from levelground.comparison.facts import Fact
from levelground.comparison.record import Comparison
from levelground.comparison.text import listing, recorded
from levelground.wording import gettext, ngettext


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
    if len(names) < 2:
        return []
    orders = [tuple(one.name for one in rung.scores if one.name in names) for rung in comparison.budgets]
    asked = [rung.asked for rung in comparison.budgets]
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
