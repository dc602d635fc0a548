"""Jackknife and bootstrap intervals, against loops and scipy."""

from dataclasses import replace

import numpy as np
import pytest
from builders.counts import COUNTED, NAMES, made_up_counts, slow_miou
from scipy import stats

from levelground.metrics.named import parse_metric
from levelground.statistics.architectures import architecture_scores, compare_architectures
from levelground.statistics.families import Family, StackedCounts, comparison_statistics
from levelground.statistics.intervals import (
    effective_df,
    ends,
    jackknife,
    jackknife_se,
    known,
    t_interval,
    t_shares,
    t_test,
)
from levelground.statistics.pairs import differences, run_intervals
from levelground.statistics.resampling import group_sums

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


def test_folds_widen_intervals_and_p_agrees_with_them() -> None:
    """With counts of folds every standard error is √1.5 as large, and no pair has a p below its t's."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 40, (4, 9, 3, 3))
    counts[2:] += 12 * np.eye(3, dtype=int)
    plain = StackedCounts(counts, [f"s{number}" for number in range(9)], np.ones(3, bool))
    families = [Family((0, 1, 2, 3), ("a", "a", "b", "b"))]
    metric = parse_metric("official.miou", ("x", "y", "z"), plain.counted)
    one, other = (comparison_statistics(s, metric, families) for s in (plain, replace(plain, folds=3)))
    for before, after in zip(one.runs[metric.name], other.runs[metric.name], strict=True):
        assert before.se is not None and after.se == pytest.approx(np.sqrt(1.5) * before.se)
    for before, after in zip(one.families[0].pairs, other.families[0].pairs, strict=True):
        assert before.se is not None and after.se is not None and after.df is not None and after.p is not None
        assert after.se == pytest.approx(np.sqrt(1.5) * before.se)
        assert after.p >= t_test(after.delta, after.se, after.df) - 1e-12
    (before, after) = (found.families[0].architecture_pairs[0] for found in (one, other))
    assert after.v_groups == pytest.approx(1.5 * before.v_groups) and after.v_a == before.v_a
    (before, after) = (found.families[0].class_differences[0][0] for found in (one, other))
    assert after.se == pytest.approx(np.sqrt(1.5) * before.se)


def test_t_test_is_scipys() -> None:
    """Two-sided; no variance and no difference is no evidence."""
    assert t_test(0.5, 0.2, 7) == pytest.approx(2 * stats.t.sf(2.5, 7))
    assert (t_test(0.0, 0.0, 3), t_test(0.1, 0.0, 3)) == (1.0, 0.0)


@pytest.mark.parametrize(("delta", "df"), [(0.02, 7.5), (-0.004, 23), (0.0, 1)])
def test_shares_of_the_t_distribution_are_scipys(delta: float, df: float) -> None:
    """Above δ, within ±δ and below −δ, as the t distribution around the difference has them; they add up to 1."""
    around = stats.t(df, loc=delta, scale=0.01)
    expected = (around.sf(0.01), around.cdf(0.01) - around.cdf(-0.01), around.cdf(-0.01))
    assert t_shares(delta, 0.01, df, 0.01) == pytest.approx(expected)
    assert sum(t_shares(delta, 0.01, df, 0.01)) == pytest.approx(1)
    assert t_shares(delta, 0.0, df, 0.01) == (float(delta > 0.01), float(abs(delta) <= 0.01), 0.0)


def test_no_interval_leaves_the_range_of_its_score() -> None:
    """Of runs, pairs and architectures, over all classes and of one; kappa goes from -1 to 1."""
    rng = np.random.default_rng(3)
    right = np.stack([rng.permutation([100, 0, 90, 2]) for _ in range(4)])  # four runs, four groups: all or nothing
    counts = np.stack([np.stack([right, 100 - right], -1), np.stack([100 - right, right], -1)], -2).astype(np.int64)
    both, groups, archs = np.array([True, True]), list("abcd"), ["u", "u", "f", "f"]
    wide = 0
    for name, low, high in (("official.miou", 0, 1), ("official.iou:a", 0, 1), ("official.kappa", -1, 1)):
        metric = parse_metric(name, ("a", "b"), both)
        free = differences(counts, groups, lambda c, m=metric: m.score(m.sums(c, both)), both)
        of_runs = [
            *run_intervals(counts, groups, metric, both),
            *architecture_scores(counts, groups, archs, metric, both),
        ]
        of_pairs = [
            *differences(counts, groups, metric, both),
            *compare_architectures(counts, groups, archs, metric, both),
        ]
        assert all(low <= one.interval[0] <= one.interval[1] <= high for one in of_runs if one.interval)
        assert all(low - high <= one.interval[0] <= one.interval[1] <= high - low for one in of_pairs if one.interval)
        wide += any(max(map(abs, one.interval)) > high - low for one in free if one.interval)
    assert wide  # without a range they do leave it
