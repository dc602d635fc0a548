"""Swap tests and Holm's adjustment, against scipy and loops."""

import itertools

import numpy as np
import pytest
from builders.counts import COUNTED, NAMES, made_up_counts, slow_miou
from scipy import stats

from levelground.metrics.named import parse_metric
from levelground.statistics import significance
from levelground.statistics.resampling import group_sums, swap_weights
from levelground.statistics.significance import FAR, FEW, holm, smallest_p, smallest_p_values, swap_p_values

MIOU = parse_metric("official.miou", NAMES, COUNTED)


def names(n: int) -> list[str]:
    """Names of scenes."""
    return [f"{number:03d}" for number in range(n)]


def test_exact_p_agrees_with_scipy_and_with_a_loop() -> None:
    """All 2^8 swaps of eight scenes."""
    counts = made_up_counts(2, 8, seed=4)
    both = counts.reshape(16, 4, 4)

    def statistic(first: np.ndarray, second: np.ndarray) -> float:
        return slow_miou(both[first.astype(int)].sum(axis=0)) - slow_miou(both[second.astype(int)].sum(axis=0))

    theirs = stats.permutation_test(
        (np.arange(8), np.arange(8, 16)), statistic, permutation_type="samples", vectorized=False, n_resamples=10_000
    )
    seen, reached = statistic(np.arange(8), np.arange(8, 16)), 0
    for swap in itertools.product((False, True), repeat=8):
        first = np.where(swap, np.arange(8, 16), np.arange(8))
        reached += abs(statistic(first, (first + 8) % 16)) >= abs(seen) - 1e-12
    ours = swap_p_values(group_sums(counts, names(8), MIOU, COUNTED), [(0, 1)], 10_000, seed=0)[0]
    assert ours == pytest.approx(theirs.pvalue, abs=1e-12)
    assert ours == pytest.approx(reached / 256, abs=1e-12)


def test_drawn_p_is_near_the_exact_one() -> None:
    """Within Monte-Carlo error, and never 0."""
    counts = made_up_counts(3, 10, seed=6)
    sums = group_sums(counts, names(10), MIOU, COUNTED)
    pairs = [(0, 1), (0, 2), (1, 2)]
    exact = swap_p_values(sums, pairs, 1024, seed=0)
    drawn = swap_p_values(sums, pairs, 1000, seed=0)
    error = np.sqrt(exact * (1 - exact) / 1000)
    assert (np.abs(drawn - exact) <= 4 * error + 1e-3).all()
    assert (drawn >= 1 / 1001).all()


def test_the_smallest_p_is_reached_where_one_run_always_wins() -> None:
    """Twelve scenes of perfect against useless predictions."""
    perfect = np.zeros((12, 4, 4), np.int64)
    perfect[:] = np.diag([9, 9, 9, 0])
    useless = np.roll(perfect, 1, axis=2)
    sums = group_sums(np.stack((perfect, useless)), names(12), MIOU, COUNTED)
    assert swap_p_values(sums, [(0, 1)], 4096, seed=0)[0] == 2 / 4096
    assert smallest_p(12, 4096, 1) == 2 / 4096


def test_identical_runs_have_p_one() -> None:
    """No swap makes a difference."""
    counts = made_up_counts(1, 30)
    sums = group_sums(np.concatenate((counts, counts)), names(30), MIOU, COUNTED)
    assert swap_p_values(sums, [(0, 1)], 200, seed=0)[0] == 1


def test_a_class_without_true_pixels_has_no_p() -> None:
    """No score, no difference, no p."""
    counts = made_up_counts(2, 8)
    counts[:, :, 2] = 0
    metric = parse_metric("official.iou:Water", NAMES, COUNTED)
    assert np.isnan(swap_p_values(group_sums(counts, names(8), metric, COUNTED), [(0, 1)], 256, seed=0)).all()


def test_twins_seldom_have_a_small_p() -> None:
    """The test holds its level: of 400 exchangeable pairs about 5 % fall below .05."""
    rng = np.random.default_rng(0)
    one, other = made_up_counts(2, 400, seed=1)
    small = 0
    for start in range(400):
        chosen = rng.integers(0, 400, 12)
        swap = rng.random((12, 1, 1)) < 0.5
        first, second = np.where(swap, other[chosen], one[chosen]), np.where(swap, one[chosen], other[chosen])
        sums = group_sums(np.stack((first, second)), names(12), MIOU, COUNTED)
        small += swap_p_values(sums, [(0, 1)], 500, seed=start)[0] <= 0.05
    assert 0.02 * 400 <= small <= 0.08 * 400


def test_holm_agrees_with_its_definition() -> None:
    """Step down, never decreasing, at most 1; p values that do not exist are no members."""
    p = np.array([0.011, np.nan, 0.02, 0.9, 0.02, 0.0001])
    expected = [4 * 0.011, np.nan, 0.06, 0.9, 0.06, 5 * 0.0001]
    np.testing.assert_allclose(holm(p), expected, atol=1e-12)
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).size == 0


def test_the_bound_on_p_is_of_the_whole_family() -> None:
    """Four scenes cannot show any difference; with many pairs those at the bound are drawn more often."""
    assert smallest_p(4, 10_000, 1) == 0.125
    assert smallest_p(4, 10_000, 20) == 1
    for n_pairs in (1, 3, 66, 594, 5000):
        assert smallest_p(142, 10_000, n_pairs) <= 0.05 / 5
    assert smallest_p(200, 999, 190) == pytest.approx(190 / 19_001)
    assert smallest_p(5000, 999, 1) == pytest.approx(0.001)


def test_the_bound_on_p_of_pairs_that_unlike_groups_decide() -> None:
    """A pair that five groups decide comes last among three: its bound is not multiplied, and it lifts no other."""
    least, adjusted = smallest_p_values([40, 5, 40], 10_000)
    assert least.tolist() == [1 / 10_001, 2 / 2**5, 1 / 10_001]
    assert adjusted.tolist() == [3 / 10_001, 2 / 2**5, 3 / 10_001]
    assert smallest_p_values([0, 1], 10_000)[1].tolist() == [1, 1]
    for n_groups in (4, 7, 40):
        assert smallest_p_values([n_groups] * 66, 10_000)[1][0] == pytest.approx(smallest_p(n_groups, 10_000, 66))


def test_pairs_at_the_bound_are_drawn_more_often() -> None:
    """With 300 pairs a thousand draws show nothing; the pairs that no draw reaches go on, the others keep their p."""
    perfect = np.zeros((40, 4, 4), np.int64)
    perfect[:] = np.diag([9, 9, 9, 0])
    useless = np.roll(perfect, 1, axis=2)
    sums = group_sums(np.stack((perfect, perfect, useless)), names(40), MIOU, COUNTED)
    p = swap_p_values(sums, [(0, 1), (0, 2)] * 150, 1000, seed=0)
    assert p[0] == 1
    assert p[1] == 1 / 30_001
    assert holm(p)[1] <= 0.05 / 5


@pytest.mark.parametrize("n_scenes", [15, 40, 200])
def test_swaps_that_do_not_come_near_to_first_order_need_not_be_scored(n_scenes: int) -> None:
    """Every p is what scoring each swap gives; runs differ by nothing to more than all swaps."""
    counts = made_up_counts(8, n_scenes, seed=3)
    for run, scenes in enumerate(counts):
        for k in range(4):
            right = scenes[:, k] * run // 12
            scenes[:, k] -= right
            scenes[:, k, k] += right.sum(axis=1)
    counts[:, 3:, 2] = 0  # a class that lies in few scenes
    sums = group_sums(counts, names(n_scenes), MIOU, COUNTED)
    pairs = list(itertools.combinations(range(8), 2))
    seen = np.array([sums.values()[a] - sums.values()[b] for a, b in pairs])
    reached, deviation = significance._count_swaps(sums, pairs, seen, swap_weights(n_scenes, 300, seed=0, chunk=64))
    again = np.flatnonzero(reached < FEW)
    more = swap_weights(n_scenes, 2500, seed=[0, 1], chunk=64)
    reached[again] += significance._count_swaps(sums, [pairs[number] for number in again], seen[again], more)[0]
    tried = np.full(len(pairs), 300)
    tried[again] = 2800
    assert swap_p_values(sums, pairs, 300, seed=0).tolist() == ((1 + reached) / (1 + tried)).tolist()
    assert len(again) > 5
    assert (reached[again] > 0).any()
    assert n_scenes < 200 or (np.abs(seen) > FAR * deviation).any()
