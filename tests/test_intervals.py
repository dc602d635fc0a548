"""Jackknife and bootstrap intervals, against loops and scipy."""

import numpy as np
import pytest
from made_up_counts import COUNTED, NAMES, made_up_counts, slow_miou
from scipy import stats

from levelground.metrics.named import parse_metric
from levelground.statistics.intervals import (
    bca_interval,
    effective_df,
    ends,
    jackknife,
    jackknife_se,
    known,
    percentile_interval,
    t_interval,
)
from levelground.statistics.resampling import bootstrap_values, group_sums

MIOU = parse_metric("official.miou", NAMES, COUNTED)
SCENES = [f"{number:02d}" for number in range(15)]


def test_the_jackknife_agrees_with_a_loop() -> None:
    """Each scene left out in turn, matrices summed again."""
    counts = made_up_counts(2, 15)
    replicates = []
    for left_out in range(15):
        rest = [scene for scene in range(15) if scene != left_out]
        replicates.append(slow_miou(counts[0, rest].sum(axis=0)) - slow_miou(counts[1, rest].sum(axis=0)))
    mean = sum(replicates) / 15
    expected = (14 / 15 * sum((value - mean) ** 2 for value in replicates)) ** 0.5
    left_out_values = group_sums(counts, SCENES, MIOU, COUNTED).left_out()
    assert float(jackknife_se(left_out_values[0] - left_out_values[1])) == pytest.approx(expected, abs=1e-12)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """And the t interval then is the one of every textbook."""
    values = np.random.default_rng(0).normal(size=12)
    se = jackknife_se((values.sum() - values) / 11)
    assert float(se) == pytest.approx(stats.sem(values), abs=1e-12)
    expected = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(t_interval(values.mean(), se, 11), expected, atol=1e-12)


def test_one_group_has_no_standard_error() -> None:
    """Nor an interval."""
    assert np.isnan(jackknife_se(np.ones((3, 1)))).all()
    assert ends(t_interval(np.array(0.5), np.array(np.nan), 1)) is None
    assert known(float("nan")) is None
    assert ends(np.array([0.25, 0.5])) == (0.25, 0.5)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_bootstraps_agree_with_scipy(method: str) -> None:
    """Given the same generator scipy draws the same resamples of scenes, so the ends agree to rounding."""
    counts = made_up_counts(2, 15, seed=2)

    def statistic(chosen: np.ndarray) -> float:
        drawn = chosen.astype(int)
        return slow_miou(counts[0, drawn].sum(axis=0)) - slow_miou(counts[1, drawn].sum(axis=0))

    theirs = stats.bootstrap(
        (np.arange(15),),
        statistic,
        n_resamples=400,
        method=method,
        vectorized=False,
        rng=np.random.Generator(np.random.Philox(9)),
    )
    sums = group_sums(counts, SCENES, MIOU, COUNTED)
    values, left_out, resampled = sums.values(), sums.left_out(), bootstrap_values(sums, 400, seed=9)
    drawn = resampled[:1] - resampled[1:]
    if method == "percentile":
        ours = percentile_interval(drawn)[0]
    else:
        ours = bca_interval(drawn, values[:1] - values[1:], left_out[:1] - left_out[1:])[0]
    np.testing.assert_allclose(drawn[0], theirs.bootstrap_distribution, atol=1e-12)
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=1e-12)


def test_quantiles_are_those_of_numpy() -> None:
    """Linear between the values, each row at its own levels."""
    values = np.random.default_rng(1).normal(size=(4, 101))
    expected = np.quantile(values, (0.025, 0.975), axis=-1).T
    np.testing.assert_allclose(percentile_interval(values), expected, atol=1e-12)


def test_resamples_without_a_score_are_left_out() -> None:
    """A class that a resample misses has no score there; where it never has one there is no interval."""
    values = np.array([[0.1, np.nan, 0.3, 0.2], [np.nan] * 4])
    found = percentile_interval(values, level=0.5)
    np.testing.assert_allclose(found, [[0.15, 0.25], [np.nan, np.nan]], atol=1e-12)


def test_bca_of_a_constant_is_that_constant() -> None:
    """Two identical runs differ by 0 in every resample."""
    zero = np.zeros((1, 50))
    np.testing.assert_array_equal([[0.0, 0.0]], bca_interval(zero, np.zeros(1), np.zeros((1, 5))))


def test_bca_does_not_exist_where_all_resamples_lie_on_one_side() -> None:
    """Its bias would be infinite; no end is invented."""
    drawn = np.linspace(0.1, 0.2, 50)[None]
    assert ends(bca_interval(drawn, np.zeros(1), np.random.default_rng(0).normal(size=(1, 5)))[0]) is None


def test_groups_that_weigh_alike_keep_their_degrees_of_freedom() -> None:
    """And one that outweighs all others leaves about one; equal estimates keep G − 1."""
    rng = np.random.default_rng(0)
    assert effective_df(rng.normal(size=(50, 80))).min() > 30
    heavy = rng.normal(size=(50, 80))
    heavy[:, 0] = 1000
    assert effective_df(heavy).max() < 1.1
    assert effective_df(np.full(9, 0.3)) == 8


@pytest.mark.parametrize(("holders", "exists", "wider"), [(1, False, 0), (3, False, 0), (4, True, 1), (12, True, 1)])
def test_a_class_in_few_groups_has_a_wide_interval_or_none(holders: int, exists: bool, wider: int) -> None:
    """Under four groups none; up to half of the groups a larger standard error with fewer degrees of freedom."""
    left_out = np.random.default_rng(holders).normal(size=(5, 24))
    left_out[:, holders:] = left_out.mean()
    (se, df), (plain, all_df) = jackknife(left_out, holders=holders), jackknife(left_out)
    assert np.isfinite(se).all() == np.isfinite(df).all() == exists
    if exists:
        np.testing.assert_allclose(se, plain * np.sqrt(holders / (holders - 1)))
        assert (df <= np.minimum(all_df, holders - 1)).all()
        assert (df >= 1).all()


def test_a_class_in_most_groups_is_like_any_metric() -> None:
    """The rule for few groups ends at half of them."""
    left_out = np.random.default_rng(1).normal(size=(3, 24))
    for found, plain in zip(jackknife(left_out, holders=13), jackknife(left_out), strict=True):
        np.testing.assert_array_equal(found, plain)
