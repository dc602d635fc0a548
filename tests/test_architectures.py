"""Differences of architectures."""

import numpy as np
import pytest
from builders.counts import COUNTED, NAMES, made_up_counts, slow_miou
from scipy import stats

from levelground.metrics.named import parse_metric
from levelground.statistics.architectures import (
    architecture_pair_estimates,
    compare_architectures,
    pairs_without_a_group,
)
from levelground.statistics.pairs import pair_estimates
from levelground.statistics.resampling import group_sums
from levelground.statistics.significance import holm

MIOU = parse_metric("official.miou", NAMES, COUNTED)
GROUPS = [f"{number // 2:02d}" for number in range(24)]
ARCHS = ["unet", "fpn", "unet", "unet", "fpn", "pspnet"]


def test_the_interval_agrees_with_the_formula_in_loops() -> None:
    """Δ ± t·√(V_g + V_a/n_a + V_b/n_b) with moderated variances and Satterthwaite's degrees of freedom."""
    counts = made_up_counts(6, 24)
    unet, fpn = (0, 2, 3), (1, 4)

    def mean(runs: tuple[int, ...], scenes: list[int]) -> float:
        return sum(slow_miou(counts[run, scenes].sum(axis=0)) for run in runs) / len(runs)

    every = list(range(24))
    replicates = []
    for group in sorted(set(GROUPS)):
        rest = [scene for scene in every if GROUPS[scene] != group]
        replicates.append(mean(unet, rest) - mean(fpn, rest))
    v_groups = 11 / 12 * sum((value - sum(replicates) / 12) ** 2 for value in replicates)
    v_unet = np.var([mean((run,), every) for run in unet], ddof=1)
    v_fpn = np.var([mean((run,), every) for run in fpn], ddof=1)
    pooled = (2 * v_unet + v_fpn) / 3  # pspnet has one seed
    v_unet, v_fpn = max(v_unet, pooled), max(v_fpn, pooled)
    parts = [(value - sum(replicates) / 12) ** 2 for value in replicates]
    df_groups = min(11, 3 * sum(parts) ** 2 / sum(part**2 for part in parts) - 3)
    variance = v_groups + v_unet / 3 + v_fpn / 2
    df = variance**2 / (v_groups**2 / df_groups + (v_unet / 3 + v_fpn / 2) ** 2 / 3)
    delta = mean(unet, every) - mean(fpn, every)
    low, high = stats.t.interval(0.95, df, loc=delta, scale=variance**0.5)

    pair = compare_architectures(counts, GROUPS, ARCHS, MIOU, COUNTED)[0]
    assert (pair.a, pair.b, pair.n_a, pair.n_b, pair.n_groups) == ("unet", "fpn", 3, 2, 12)
    assert pair.interval == pytest.approx((low, high), abs=1e-10)
    assert pair.df == pytest.approx(df, abs=1e-8)
    assert pair.p == pytest.approx(2 * stats.t.sf(abs(delta) / variance**0.5, df), abs=1e-10)
    assert (pair.v_groups, pair.v_a, pair.v_b) == pytest.approx((v_groups, v_unet, v_fpn), abs=1e-12)


def test_p_values_are_adjusted_among_pairs_that_have_one() -> None:
    """A pair with one seed on a side is no member of the family."""
    counts = made_up_counts(7, 24)
    pairs = compare_architectures(counts, GROUPS, ["a", "a", "b", "b", "c", "c", "d"], MIOU, COUNTED)
    assert len(pairs) == 6
    known = [pair for pair in pairs if pair.p is not None]
    assert len(known) == 3
    np.testing.assert_allclose([pair.p_holm for pair in known], holm(np.array([pair.p for pair in known])))


def test_one_seed_on_a_side_gives_no_sentence_about_architectures() -> None:
    """Neither interval nor p nor verdict, only the difference and what is known of its parts."""
    pair = compare_architectures(made_up_counts(6, 24), GROUPS, ARCHS, MIOU, COUNTED)[1]
    assert (pair.a, pair.b, pair.interval, pair.p, pair.p_holm, pair.se) == ("unet", "pspnet", None, None, None, None)
    assert (pair.v_b, pair.verdict.word, pair.design()) == (None, "undecided", None)
    assert pair.v_a is not None


def test_identical_trainings_are_equal() -> None:
    """No variance and no difference: p is 1."""
    counts = np.repeat(made_up_counts(1, 24), 4, axis=0)
    pair = compare_architectures(counts, GROUPS, ["a", "a", "b", "b"], MIOU, COUNTED)[0]
    assert (pair.delta, pair.se, pair.p, pair.interval, pair.verdict.word) == (0, 0, 1, (0, 0), "equal")


def test_a_difference_without_any_variance_is_certain() -> None:
    """All groups and seeds alike on each side."""
    one = np.zeros((1, 1, 4, 4), np.int64)
    one[..., :, :] = np.diag([9, 9, 9, 0])
    other = one.copy()
    other[..., 0, 1] = 3
    other[..., 0, 0] = 6
    counts = np.repeat(np.repeat(np.concatenate((one, one, other, other)), 6, axis=1), 1, axis=0)
    pair = compare_architectures(counts, list("abcdef"), ["a", "a", "b", "b"], MIOU, COUNTED)[0]
    assert (pair.p, pair.verdict.word) == (0, "better")


def test_one_group_gives_no_interval() -> None:
    """Seeds alone cannot stand for other scenes."""
    pair = compare_architectures(made_up_counts(4, 24), ["x"] * 24, ["a", "a", "b", "b"], MIOU, COUNTED)[0]
    assert (pair.v_groups, pair.interval, pair.p) == (None, None, None)


def test_the_design_speaks_of_the_same_pair() -> None:
    """What power is asked of."""
    pair = compare_architectures(made_up_counts(6, 24), GROUPS, ARCHS, MIOU, COUNTED)[0]
    design = pair.design()
    assert design is not None
    assert (design.se(), design.df()) == (pair.se, pair.df)


@pytest.mark.parametrize("archs", [None, ["a", "a", "b", "b"]])
@pytest.mark.parametrize("held", [6, 20])
def test_the_rule_of_six_groups_is_no_group_that_decides(archs: list[str] | None, held: int) -> None:
    """Of six alike groups each would be named otherwise: with five nothing is equal and no p reaches .05."""
    counts = np.zeros((4 if archs else 2, 20, 4, 4), np.int64)
    counts[:, :, 0, 0] = 100
    counts[:, :held, 2] = [10, 0, 90, 0]
    unlike = counts.copy()
    unlike[len(unlike) // 2 :, :held, 2] = [50, 0, 50, 0]
    recall, groups = parse_metric("official.recall:Water", NAMES, COUNTED), [f"{number:02d}" for number in range(20)]
    for of_runs, words in ((counts, {"equal"}), (unlike, {"better"})):
        sums = group_sums(of_runs, groups, recall, COUNTED)
        pairs = architecture_pair_estimates(sums, archs, delta=0.01) if archs else pair_estimates(sums, delta=0.01)
        assert {pair.verdict.word for pair in pairs} == words
        assert pairs_without_a_group(sums, pairs, archs, delta=0.01) == []


@pytest.mark.parametrize("archs", [None, ["a", "a", "b", "b"]])
def test_a_group_that_decides_is_found(archs: list[str] | None) -> None:
    """Where it is named, leaving its scenes out changes the verdict; where all groups agree, none is named."""
    groups, found = [f"{number:02d}" for number in range(9)], 0
    for seed in range(60):
        counts = made_up_counts(4 if archs else 2, 9, seed=seed)
        gain = np.random.default_rng(seed).uniform(0.0, 0.25, 9)
        for run in range(counts.shape[0] // 2):  # errors of the first half become hits
            for scene in range(9):
                moved = np.floor(counts[run, scene] * gain[scene] * (1 - np.eye(4))).astype(np.int64)
                counts[run, scene] += np.diag(moved.sum(axis=1)) - moved
        sums = group_sums(counts, groups, MIOU, COUNTED)
        pairs = architecture_pair_estimates(sums, archs, delta=0.01) if archs else pair_estimates(sums, delta=0.01)
        for one in pairs_without_a_group(sums, pairs, archs, delta=0.01):
            rest = [number for number in range(9) if groups[number] != one.group]
            left = group_sums(counts[:, rest], [groups[number] for number in rest], MIOU, COUNTED)
            (now,) = architecture_pair_estimates(left, archs, delta=0.01) if archs else pair_estimates(left, delta=0.01)
            assert now == one.pair and now.verdict.word != pairs[0].verdict.word
            found += 1
    assert 2 <= found <= 30
    clear = np.array([[np.diag([90, 90, 90, 0])] * 9, [np.full((4, 4), 30)] * 9])
    sums = group_sums(clear, groups, MIOU, COUNTED)
    assert pairs_without_a_group(sums, pair_estimates(sums, delta=0.01), None, delta=0.01) == []
