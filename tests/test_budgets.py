"""Budgets: the ladder of a comparison, what is found in it, and where the shorter runs lie."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from levelground.comparison.conditions import BudgetRung, BudgetScore
from levelground.comparison.findings import LeaderChanges, OrderOverBudget, budget_facts, rung_of
from levelground.comparison.record import comparison_json, read_comparison, write_record
from levelground.comparison.sentences import write
from levelground.config import Budget, Recipe
from levelground.statistics.pairs import VerdictWord
from levelground.wording import language

DATA = Path(__file__).parent / "data"


def rung(share: float, names: Sequence[str], verdict: VerdictWord | None = "better") -> BudgetRung:
    """A budget with models in this order."""
    scores = tuple(BudgetScore(name, 0.9 - 0.1 * place, None) for place, name in enumerate(names))
    return BudgetRung(share, f"{400 * share:g} steps", (round(400 * share),) * 2, scores, verdict)


def found(*rungs: BudgetRung) -> list[LeaderChanges | OrderOverBudget]:
    """What is found in a ladder."""
    comparison = replace(read_comparison(DATA / "comparison.json"), budgets=rungs)
    return budget_facts(comparison)  # type: ignore[return-value]  # facts of this module alone


def test_an_order_that_holds_is_said_once() -> None:
    """From the shortest budget to the whole one, and no word of a leader that changes."""
    (fact,) = found(rung(0.25, "abc"), rung(0.5, "abc"), rung(1, "abc"))
    assert fact == OrderOverBudget(("a", "b", "c"), "100 steps", "400 steps", always=True)
    assert write(fact) == "The order is the same at every budget from 100 steps to 400 steps: a, b and c."


def test_models_that_change_places_are_named_with_the_budgets() -> None:
    """Those that changed last, between which budgets, and from where on the order stays."""
    (fact,) = found(rung(0.125, "abc"), rung(0.25, "acb"), rung(0.5, "abc"), rung(1, "abc"))
    assert isinstance(fact, OrderOverBudget)
    assert (fact.since, fact.before, fact.changed, fact.always) == ("200 steps", "100 steps", (("b", "c"),), False)
    assert "b and c changed places between 100 steps and 200 steps: do not extrapolate." in write(fact)


def test_another_leader_is_a_warning() -> None:
    """With the leads that were shown, and without; the other models of the ladder are not needed for it."""
    leader, order = found(rung(0.5, "bac", "undecided"), rung(1, "abc"))
    assert isinstance(leader, LeaderChanges)
    assert (leader.severity, leader.last, leader.shown) == ("warning", ("200 steps", "400 steps"), False)
    assert leader.leaders == {"200 steps": "b", "400 steps": "a"}
    assert isinstance(order, OrderOverBudget)
    assert order.changed == (("a", "b"),)
    shown, _ = found(rung(0.5, "bac"), rung(1, "abc"))
    assert isinstance(shown, LeaderChanges) and shown.shown


def test_nothing_is_found_without_a_ladder_or_with_one_model() -> None:
    """One budget has no order over budgets, also where half of one step is one step; one model has no order."""
    assert found() == []
    assert found(rung(0.5, "a"), rung(1, "a")) == []
    assert found(replace(rung(0.5, "ab"), asked="1 steps"), replace(rung(1, "ab"), asked="1 steps")) == []


def test_a_budget_of_one_has_the_singular() -> None:
    """Records write "1 steps": runs are known by that text."""
    (fact,) = found(replace(rung(0.5, "ab"), asked="1 steps"), replace(rung(1, "ab"), asked="2 steps"))
    assert write(fact) == "The order is the same at every budget from 1 step to 2 steps: a and b."
    with language("ru"):
        assert "от «1 шаг» до «2 шага»" in write(fact)


def test_a_rung_holds_scores_and_verdict_of_its_comparison(tmp_path: Path) -> None:
    """Best first, with the architectures' intervals; the record keeps it, and leaves it out where there is none."""
    comparison = read_comparison(DATA / "comparison.json")
    got = rung_of(comparison, 0.5)
    values = [one.value for one in got.scores if one.value is not None]
    assert values == sorted(values, reverse=True)
    assert got.scores[0].name == max(comparison.candidates, key=lambda one: one.value or 0).name
    assert "budgets" not in comparison_json(comparison)
    write_record(replace(comparison, budgets=(got,)), tmp_path / "comparison.json")
    assert read_comparison(tmp_path).budgets == (got,)


@pytest.mark.parametrize(
    ("budget", "share", "expected"),
    [
        (Budget(steps=48), 0.25, Budget(steps=12)),
        (Budget(steps=3), 0.0625, Budget(steps=1)),
        (Budget(minutes=4.0), 0.25, Budget(minutes=1.0)),
        (Budget(epochs=2.0), 0.5, Budget(epochs=1.0)),
        (Budget(), 0.5, Budget(epochs=2.5)),
    ],
)
def test_every_kind_of_budget_has_shares(budget: Budget, share: float, expected: Budget) -> None:
    """Steps are whole and at least one; without a budget the recipe's epochs are shared."""
    assert budget.scaled(share, Recipe()) == expected
