"""Statistics across data sets, against scipy and scikit-posthocs."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from levelground.statistics.significance import friedman, mean_difference, mean_ranks, set_ranks


def table(seed: int, sets: int, models: int, *, ties: bool) -> NDArray[np.float64]:
    """Scores of models, rounded until some tie."""
    values = np.random.default_rng(seed).normal(size=(sets, models)) + np.linspace(0, 1, models)
    return np.round(values * 2) / 2 if ties else values


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("sets", "models"), [(3, 3), (5, 4), (12, 6)])
def test_friedman_is_scipys(sets: int, models: int, ties: bool) -> None:
    """Statistic and p, with ties and without; and ranks are those of scipy."""
    values = table(sets, sets, models, ties=ties)
    ranks = set_ranks(values)
    assert np.array_equal(ranks, stats.rankdata(-values, axis=1))
    expected = stats.friedmanchisquare(*values.T)
    found = friedman(ranks)
    assert found is not None
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))


@pytest.mark.parametrize(("sets", "models"), [(3, 3), (8, 5)])
def test_nemenyi_is_that_of_scikit_posthocs(sets: int, models: int) -> None:
    """P of every pair; a pair at the critical difference has p = .05."""
    posthocs = pytest.importorskip("scikit_posthocs", reason="scikit-posthocs is part of the dev extra")
    values = table(sets, sets, models, ties=False)
    found = friedman(set_ranks(values))
    assert found is not None
    np.testing.assert_allclose(found.pairs, posthocs.posthoc_nemenyi_friedman(values).to_numpy(), atol=1e-6)
    unit = np.sqrt(models * (models + 1) / (6 * sets))
    assert stats.studentized_range.sf(found.critical_difference / unit * np.sqrt(2), models, np.inf) == pytest.approx(
        0.05
    )


def test_critical_values_are_those_of_the_paper() -> None:
    """Demšar 2006, table 5 a: q at .05 of three models is 2.343, of ten 3.164."""
    for models, q in ((3, 2.343), (10, 3.164)):
        found = friedman(set_ranks(table(0, 6, models, ties=False)))
        assert found is not None
        assert found.critical_difference == pytest.approx(q * np.sqrt(models * (models + 1) / 36), abs=1e-3)


def test_what_cannot_be_tested_is_none() -> None:
    """Two models, one set, or models that tie everywhere."""
    for ranks in (np.array([[1.0, 2.0]] * 5), np.array([[1.0, 2.0, 3.0]]), np.full((4, 3), 2.0)):
        assert friedman(ranks) is None


def test_the_mean_difference_is_the_t_test_where_sets_differ_more_than_groups() -> None:
    """Interval and p; and detectable differences grow with the interval."""
    deltas = [0.02, -0.05, 0.11, 0.04, 0.07]
    found = mean_difference(deltas, [0.001] * 5)
    expected = stats.ttest_1samp(deltas, 0)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.detectable is not None
    assert found.se is not None
    assert found.detectable > 2.8 * found.se


def test_the_interval_of_a_mean_difference_ends_where_no_difference_can_be() -> None:
    """Two sets that disagree: Student's t with one degree of freedom would reach beyond two scores of 0 and 1."""
    free, cut = (mean_difference([0.6, 0.2], [0.1, 0.1], most=most) for most in (np.inf, 1.0))
    assert free.interval is not None
    assert free.interval[0] < -1
    assert free.interval[1] > 1
    assert cut.interval == (-1.0, 1.0)
    assert (cut.delta, cut.se, cut.p, cut.detectable) == (free.delta, free.se, free.p, free.detectable)


def test_sets_that_agree_by_chance_keep_the_width_of_their_groups() -> None:
    """The variance over sets is not below what the groups within allow."""
    found = mean_difference([0.03, 0.03, 0.03], [0.06, 0.06, 0.06])
    assert found.se == pytest.approx(0.06 / np.sqrt(3))
    alone = mean_difference([0.03], [0.06])
    assert (alone.delta, alone.interval, alone.p) == (0.03, None, None)
    assert mean_difference([0.03, 0.03], [None, None]).interval is None


def test_intervals_cover_what_they_promise_over_sets() -> None:
    """5 sets whose true differences scatter by .05 around .02, groups adding .03: 95 % of 2,000 intervals hold .02."""
    rng = np.random.default_rng(0)
    draws = 0.02 + rng.normal(0, 0.05, (2000, 5)) + rng.normal(0, 0.03, (2000, 5))
    found = [mean_difference(row, [0.03] * 5).interval for row in draws]
    covered = np.mean([ends is not None and ends[0] <= 0.02 <= ends[1] for ends in found])
    assert 0.94 < covered < 0.975


def test_mean_ranks_have_intervals_within_the_ranks() -> None:
    """A model first in every set borrows the others' scatter."""
    first, *rest = mean_ranks(np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]]))
    assert first.value == 1
    assert first.interval is not None
    assert first.interval[0] == 1 < first.interval[1]
    assert all(one.interval is not None and one.interval[1] <= 3 for one in rest)
