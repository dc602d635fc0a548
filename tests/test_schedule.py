"""Course of a budget of time: its stretches, its end, and the learning rate at a share of the time."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levelground.config import Recipe
from levelground.history import HistoryLine
from levelground.recipe_files import load_recipe
from levelground.training.schedule import (
    Stretch,
    TimeBudget,
    Times,
    rate_at,
    rate_factor,
    taken_stretches,
)


def simulate(
    budget: TimeBudget,
    speeds: list[float],
    *,
    validation_s: float,
    expected_s: float | None = None,
    prepared_s: float = 0.0,
) -> tuple[list[Stretch], float, int]:
    """Run a budget on a machine whose step takes ``speeds`` seconds in turns; stretches, time used, validations."""
    wall, train, step, step_s, validations = prepared_s, 0.0, 0, speeds[0], 0
    before: Stretch | None = None
    stretches = []
    expected_s = validation_s if expected_s is None else expected_s
    while (stretch := budget.plan(step, before, Times(wall, train, step_s, expected_s))) is not None:
        took = sum(speeds[(number // 20) % len(speeds)] for number in range(step, stretch.last))
        wall, train, step_s = wall + took, train + took, took / (stretch.last - step)
        if budget.validation_due(stretch, before):
            wall, validations, expected_s = wall + validation_s, validations + 1, validation_s
        stretches.append(stretch)
        before, step = stretch, stretch.last
    return stretches, wall + validation_s, validations + 1


@pytest.mark.parametrize("speeds", [[2.7], [14.0, 2.7], [2.7, 8.0], [0.004], [0.004, 0.02], [30.0]])
@pytest.mark.parametrize("expected_s", [2.0, 6.0])
def test_a_budget_of_time_holds_whatever_the_speed(speeds: list[float], expected_s: float) -> None:
    """Eight minutes on a machine that is slow at times, validations included: within a tenth."""
    budget = TimeBudget(480.0, 5, 100)
    stretches, used, validations = simulate(budget, speeds, validation_s=4.0, expected_s=expected_s, prepared_s=6.0)
    assert used == pytest.approx(480, rel=0.05)
    assert validations == 5
    assert len(stretches) < 700
    shares = [stretch.progress for stretch in stretches]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.1
    assert shares[-1] > 0.9


@given(
    total_s=st.floats(1, 1e5),
    speeds=st.lists(st.floats(1e-3, 50), min_size=1, max_size=4),
    validations=st.integers(0, 7),
    per_epoch=st.integers(1, 50),
)
def test_every_course_ends_and_its_shares_rise(
    total_s: float, speeds: list[float], validations: int, per_epoch: int
) -> None:
    """Every step lies between 0 and 1, behind the one before; one step at least, and no time left for half of one."""
    total_s = min(total_s, 3000 * min(speeds))
    stretches, used, _ = simulate(TimeBudget(total_s, validations, per_epoch), speeds, validation_s=0.0)
    first, places = 0, []
    for stretch in stretches:
        places += [stretch.at(step) for step in range(first, stretch.last)]
        first = stretch.last
    assert all(0 <= place <= 1 + 1e-9 for place in places)
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(places))
    longest = max(b.last - a.last for a, b in zip([Stretch(0, 0, 0), *stretches], stretches, strict=False))
    assert used >= min(total_s - max(speeds), min(speeds)) - 1e-9
    assert used <= total_s + longest * max(speeds)


def test_a_short_budget_takes_one_step() -> None:
    """Preparation took all of it; the step learns at the full rate."""
    budget = TimeBudget(1.0, 3, 10)
    stretch = budget.plan(0, None, Times(5.0, 0.0, 0.1, 0.1))
    assert stretch == Stretch(1, 0.05, 0.1)
    assert rate_at(Recipe(), stretch.progress) == 1.0
    assert budget.plan(1, stretch, Times(5.1, 0.1, 0.1, 0.1)) is None


@pytest.mark.parametrize("validations", [0, 1, 5])
@pytest.mark.parametrize(("step_s", "validation_s"), [(0.0, 0.0), (0.0, 1.0), (9.0, 1.0), (90.0, 1.0), (1.0, 90.0)])
def test_a_wrong_estimate_of_the_first_step_does_not_use_up_the_schedule(
    validations: int, step_s: float, validation_s: float
) -> None:
    """Not known, as where a run goes on that was stopped before its first step; or more than the whole budget."""
    budget = TimeBudget(60.0, validations, 1)
    first = budget.plan(0, None, Times(1.0, 0.0, step_s, validation_s))
    assert first is not None
    assert first.end <= 0.1
    assert 0 < rate_at(Recipe(), first.progress) <= 1
    following = budget.plan(1, first, Times(1.5, 0.1, 0.1, 0.1))
    assert following is not None
    assert following.per_step > 0
    assert following.end < 0.2


def test_a_validation_an_epoch() -> None:
    """Stretches end at the end of an epoch."""
    budget = TimeBudget(10.0, 0, 7)
    stretches, used, validations = simulate(budget, [0.01], validation_s=0.05)
    ends = {stretch.last for stretch in stretches}
    assert set(range(7, stretches[-1].last, 7)) <= ends
    assert validations == stretches[-1].last // 7 + 1
    assert used == pytest.approx(10, rel=0.05)


def test_the_rate_at_a_share_is_the_rate_of_the_step_there() -> None:
    """The middle of a step of a thousand; without a warm-up and with a constant rate too."""
    for recipe in (Recipe(), Recipe(warmup=0.0), load_recipe("origin")):
        for step in range(1000):
            near = pytest.approx(rate_factor(recipe, step, 1000), abs=0.011)
            assert rate_at(recipe, (step + 0.5) / 1000) == near
    assert rate_at(Recipe(), 0.0) == 0.0
    assert rate_at(Recipe(), 1.0) == pytest.approx(0.0)
    assert math.isclose(rate_at(Recipe(warmup=0.0), 0.5), 0.5)


def test_the_places_of_steps_in_a_stretch() -> None:
    """Counted back from its last step, so that a line of the history holds all of it."""
    stretch = Stretch(10, 0.5, 0.01)
    assert [stretch.at(step) for step in (9, 8, 5)] == [0.5, 0.49, 0.46]
    assert stretch.end == 0.505


def test_taken_stretches_are_read_from_the_history() -> None:
    """Steps and remembered ones; a budget in steps has none."""
    lines = [
        HistoryLine(kind="step", step=1, train_loss=1.0),
        HistoryLine(kind="course", step=2, progress=0.1, per_step=0.01, time_s=3.0, train_s=2.0),
        HistoryLine(kind="step", step=2, progress=0.1, per_step=0.01, time_s=3.0, train_s=2.0),
        HistoryLine(kind="val", step=2, time_s=4.0),
    ]
    found = taken_stretches(lines)
    assert list(found) == [2]
    assert (found[2].stretch, found[2].wall_s, found[2].train_s) == (Stretch(2, 0.1, 0.01), 3.0, 2.0)
