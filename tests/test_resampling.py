"""Groups left out, drawn again and swapped."""

import itertools

import numpy as np
import pytest
from builders.counts import COUNTED, NAMES, made_up_counts, slow_miou

from levelground.errors import ShapeError
from levelground.metrics.named import parse_metric
from levelground.metrics.scores import miou
from levelground.statistics.resampling import bootstrap_values, bootstrap_weights, exact_swaps, group_sums, swap_weights

MIOU = parse_metric("official.miou", NAMES, COUNTED)
GROUPS = ["b", "a", "b", "c", "a", "d", "d", "d"]


def test_scenes_add_up_to_groups_in_the_order_of_their_names() -> None:
    """A group's matrix is the sum of its scenes'; leaving it out is summing the others."""
    counts = made_up_counts(3, 8)
    sums = group_sums(counts, GROUPS, MIOU, COUNTED)
    assert sums.groups == ("a", "b", "c", "d")
    assert (sums.n_runs, sums.n_groups) == (3, 4)
    for run, group in itertools.product(range(3), range(4)):
        rest = [scene for scene in range(8) if GROUPS[scene] != sums.groups[group]]
        expected = slow_miou(counts[run, rest].sum(axis=0))
        assert sums.left_out()[run, group] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(sums.values(), [slow_miou(run.sum(axis=0)) for run in counts], atol=1e-12)


def test_any_function_of_counts_is_a_metric() -> None:
    """The general way gives what the short way gives."""
    counts = made_up_counts(2, 8)
    named = group_sums(counts, GROUPS, MIOU, COUNTED)
    given = group_sums(counts, GROUPS, lambda c: miou(c, COUNTED), COUNTED)
    np.testing.assert_allclose(given.values(), named.values(), atol=1e-15)
    np.testing.assert_allclose(given.left_out(), named.left_out(), atol=1e-15)
    np.testing.assert_allclose(bootstrap_values(given, 50, seed=1), bootstrap_values(named, 50, seed=1), atol=1e-15)


def test_resamples_agree_with_summing_matrices_again() -> None:
    """The matrix product is the loop over resamples that it replaces."""
    counts = made_up_counts(2, 8)
    sums = group_sums(counts, GROUPS, MIOU, COUNTED)
    values = bootstrap_values(sums, 40, seed=5)
    weights = np.concatenate(list(bootstrap_weights(4, 40, seed=5, chunk=7)), axis=1)
    for resample in range(40):
        for run in range(2):
            total = np.zeros((4, 4), np.int64)
            for scene, group in enumerate(GROUPS):
                total += counts[run, scene] * int(weights[sums.groups.index(group), resample])
            assert values[run, resample] == pytest.approx(slow_miou(total), abs=1e-12)


def test_the_chunk_changes_no_draw() -> None:
    """Memory at hand must not change a result."""
    for draw in (bootstrap_weights, swap_weights):
        whole = next(draw(20, 100, seed=3, chunk=100))
        parts = np.concatenate(list(draw(20, 100, seed=3, chunk=33)), axis=1)
        np.testing.assert_array_equal(whole, parts)
    assert (next(bootstrap_weights(20, 100, seed=3, chunk=100)).sum(axis=0) == 20).all()


def test_few_groups_are_swapped_in_every_way() -> None:
    """Half of the 2^G ways: the other half has the same absolute differences."""
    assert exact_swaps(5, 32)
    assert not exact_swaps(5, 31)
    assert not exact_swaps(100, 10**9)
    weights = np.concatenate(list(swap_weights(5, 32, seed=0, chunk=3)), axis=1)
    ways = {tuple(column) for column in weights.T}
    assert len(ways) == 16
    assert len(ways | {tuple(1 - np.array(way)) for way in ways}) == 32


def test_sums_are_exact() -> None:
    """Whole numbers of pixels below 2^53 add up without rounding, so the order of scenes changes no bit."""
    counts = made_up_counts(2, 8) * 10**9 + 1
    order = np.random.default_rng(0).permutation(8)
    one = group_sums(counts, GROUPS, MIOU, COUNTED)
    other = group_sums(counts[:, order], [GROUPS[i] for i in order], MIOU, COUNTED)
    assert np.array_equal(one.sums, other.sums)
    assert np.array_equal(bootstrap_values(one, 30, seed=0), bootstrap_values(other, 30, seed=0))


def test_large_legends_are_resampled_in_parts() -> None:
    """The number of resamples held at once follows from the memory they take."""
    counts = np.ones((2, 3, 200, 200), np.int64)
    every = np.ones(200, bool)
    metric = parse_metric("official.miou", [str(k) for k in range(200)], every)
    small = group_sums(counts[:, :, :2, :2], ["a", "b", "c"], parse_metric("official.miou", "ab", every[:2]), every[:2])
    assert group_sums(counts, ["a", "b", "c"], metric, every).chunk() < small.chunk()


def test_counts_and_groups_of_unlike_number_are_refused() -> None:
    """A group for each scene."""
    with pytest.raises(ShapeError, match=r"^counts are \(2, 8, 4, 4\) for 3 scenes, expected \(runs, scenes, K, K\)"):
        group_sums(made_up_counts(2, 8), ["a", "b", "c"], MIOU, COUNTED)
    with pytest.raises(ShapeError, match=r"for 0 scenes"):
        group_sums(np.zeros((2, 0, 4, 4), np.int64), [], MIOU, COUNTED)
