"""What a design can show."""

import numpy as np
import pytest
from scipy import stats

from levelground.statistics.power_analysis import Design, detectable_difference, equal_margin, power, satterthwaite


@pytest.mark.parametrize("df", [1.5, 4.0, 80.0, 1e5])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 45])
def test_the_detectable_difference_has_the_power_asked_for(df: float, alpha: float) -> None:
    """By scipy's noncentral t, both tails."""
    c = detectable_difference(1.0, df, alpha=alpha)
    critical = stats.t.ppf(1 - alpha / 2, df)
    assert float(stats.nct.sf(critical, df, c)) == pytest.approx(0.8, abs=2e-5)


def test_the_detectable_difference_is_seen_in_80_per_cent_of_simulated_tests() -> None:
    """Twelve groups, drawn 20 000 times."""
    rng = np.random.default_rng(0)
    values = rng.normal(detectable_difference(1 / 12**0.5, 11.0), 1.0, (20_000, 12))
    seen = np.abs(values.mean(1)) > stats.t.ppf(0.975, 11) * stats.sem(values, axis=1)
    assert seen.mean() == pytest.approx(0.8, abs=0.015)


def test_equal_is_said_in_80_per_cent_of_simulated_tests_without_a_difference() -> None:
    """The interval then lies inside ±δ."""
    rng = np.random.default_rng(1)
    values = rng.normal(0.0, 1.0, (20_000, 60))
    delta = equal_margin(1 / 60**0.5, 59.0)
    reach = np.abs(values.mean(1)) + stats.t.ppf(0.975, 59) * stats.sem(values, axis=1)
    assert (reach < delta).mean() == pytest.approx(0.8, abs=0.02)


def test_the_groups_needed_are_the_fewest_that_do() -> None:
    """One group less does not."""
    design = Design(v_groups=0.012**2, n_groups=81)
    found = power(design, delta=0.01, n_pairs=3)
    assert found.alpha == pytest.approx(0.05 / 3)
    for needed, reach in (
        (found.groups_needed, lambda d: detectable_difference(d.se(), d.df(), alpha=0.05 / 3)),
        (found.groups_for_equal, lambda d: equal_margin(d.se(), d.df())),
    ):
        assert needed is not None
        assert reach(design.with_groups(needed)) <= 0.01 < reach(design.with_groups(needed - 1))
    assert found.seeds_needed is None
    assert found.seeds_for_equal is None


def test_seeds_that_matter_cannot_be_replaced_by_groups() -> None:
    """Nor groups by seeds: each variance has its own number."""
    seeds_matter = power(Design(1e-8, 81, (0.02**2, 0.02**2), (2, 2)), delta=0.01)
    assert seeds_matter.groups_needed is None
    assert seeds_matter.groups_for_equal is None
    assert seeds_matter.seeds_needed is not None
    assert seeds_matter.seeds_needed > 2
    groups_matter = power(Design(0.02**2, 81, (1e-8, 1e-8), (2, 2)), delta=0.01)
    assert groups_matter.seeds_needed is None
    assert groups_matter.seeds_for_equal is None
    assert groups_matter.groups_needed is not None


def test_the_seeds_needed_are_the_fewest_that_do() -> None:
    """With the groups at hand, the same number on both sides."""
    design = Design(0.002**2, 81, (0.01**2, 0.005**2), (3, 2))
    needed = power(design, delta=0.01).seeds_needed
    assert needed is not None
    enough, short = design.with_seeds(needed), design.with_seeds(needed - 1)
    assert detectable_difference(enough.se(), enough.df()) <= 0.01 < detectable_difference(short.se(), short.df())


def test_a_design_without_variance_needs_two_groups() -> None:
    """Fewer than two have no interval; with fewer than six nothing is called equal."""
    found = power(Design(0.0, 10), delta=0.01)
    assert (found.detectable, found.groups_needed, found.groups_for_equal) == (0, 2, 6)


@pytest.mark.parametrize(("groups", "held"), [(4, None), (40, 5), (40, 1)])
def test_nothing_is_equal_below_six_groups_whatever_the_seeds(groups: int, held: int | None) -> None:
    """Of a class in 5 of 40 groups, 48 such groups hold it six times; more seeds bring no group."""
    found = power(Design(1e-8, groups, (1e-8, 1e-8), (2, 2), held=held), delta=0.01)
    assert found.groups_for_equal == (6 if held is None else 240 // held)
    assert found.seeds_for_equal is None
    assert power(Design(1e-8, 6, (1e-8, 1e-8), (2, 2)), delta=0.01).seeds_for_equal == 2


def test_satterthwaite_keeps_a_single_parts_degrees_of_freedom() -> None:
    """And lies between the smallest and the sum otherwise."""
    assert satterthwaite([(0.5, 80)]) == pytest.approx(80)
    assert satterthwaite([(0.5, 80), (0.0, 1)]) == pytest.approx(80)
    assert satterthwaite([(0.0, 80), (0.0, 1)]) == 81
    assert 1 <= satterthwaite([(0.1, 80), (5.0, 1)]) <= 81


def test_satterthwaite_agrees_with_welch() -> None:
    """Welch's test of two samples is the textbook's case."""
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=5), rng.normal(size=9) * 3
    expected = stats.ttest_ind(one, other, equal_var=False).df
    assert satterthwaite([(one.var(ddof=1) / 5, 4), (other.var(ddof=1) / 9, 8)]) == pytest.approx(expected, abs=1e-10)
