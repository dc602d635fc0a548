"""What holds of intervals, tests and verdicts whatever the counts."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from levelground.metrics.named import parse_metric
from levelground.statistics.architectures import compare_architectures
from levelground.statistics.pairs import compare_pairs, decide, differences, run_intervals
from levelground.statistics.power_analysis import Design, detectable_difference, satterthwaite
from levelground.statistics.significance import holm

K, COUNTED = 3, np.array([True, True, False])
MIOU = parse_metric("official.miou", ("a", "b", "c"), COUNTED)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def runs_on_scenes(draw: st.DrawFn, n_runs: int = 2) -> tuple[np.ndarray, list[str]]:
    """Counts ``(R, S, K, K)`` with one truth for all runs, sparse, and groups of scenes."""
    rng = np.random.default_rng(draw(seeds))
    n_scenes = draw(st.integers(2, 14))
    n_groups = draw(st.integers(1, n_scenes))
    truth = rng.integers(1, 1000, (n_scenes, K)) * (rng.random((n_scenes, K)) < draw(st.sampled_from([0.2, 0.6, 1.0])))
    shares = rng.dirichlet(np.ones(K), (n_runs, n_scenes, K)) + np.eye(K)
    counts = np.floor(truth[..., None] * shares / 2).astype(np.int64)
    counts[..., 0] += truth - counts.sum(axis=-1)
    return counts, [f"g{group}" for group in rng.integers(0, n_groups, n_scenes)]


def same(one: object, other: object) -> bool:
    """Equal to rounding, ``None`` only to ``None``, NaN to NaN."""
    if one is None or other is None:
        return one is other
    return bool(np.allclose(np.array(one, float), np.array(other, float), rtol=0, atol=1e-12, equal_nan=True))


def mirrored(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    """The interval of the opposite difference."""
    return None if interval is None else (-interval[1], -interval[0])


@settings(deadline=None)
@given(runs_on_scenes())
def test_comparing_backwards_is_the_opposite(runs: tuple[np.ndarray, list[str]]) -> None:
    """``compare(a, b) == -compare(b, a)``: difference, all intervals, p and verdict."""
    counts, groups = runs
    one = compare_pairs(counts, groups, MIOU, COUNTED, n_resamples=200)[0]
    other = compare_pairs(counts[::-1], groups, MIOU, COUNTED, n_resamples=200)[0]
    assert same(one.delta, -other.delta)
    for name in ("interval",):
        assert same(getattr(one, name), mirrored(getattr(other, name)))
    assert same(one.p, other.p)
    opposite = {"better": "worse", "worse": "better"}
    assert one.verdict.word == opposite.get(other.verdict.word, other.verdict.word)


@settings(deadline=None)
@given(runs_on_scenes(n_runs=3), seeds)
def test_the_order_of_scenes_changes_nothing(runs: tuple[np.ndarray, list[str]], seed: int) -> None:
    """Not one bit, since sums of pixels are exact and groups stand by name."""
    counts, groups = runs
    order = np.random.default_rng(seed).permutation(len(groups))
    moved = [groups[scene] for scene in order]
    expected = compare_pairs(counts, groups, MIOU, COUNTED, n_resamples=150)
    assert repr(expected) == repr(compare_pairs(counts[:, order], moved, MIOU, COUNTED, n_resamples=150))


@settings(deadline=None)
@given(runs_on_scenes(), st.permutations(range(K)))
def test_the_order_of_classes_changes_nothing(runs: tuple[np.ndarray, list[str]], order: list[int]) -> None:
    """Apart from rounding."""
    counts, groups = runs
    one = differences(counts, groups, MIOU, COUNTED)[0]
    moved = differences(counts[:, :, order][..., order], groups, MIOU, COUNTED[order])[0]
    assert same(one.value, moved.value)
    assert same(one.se, moved.se)


@settings(deadline=None)
@given(runs_on_scenes())
def test_splitting_a_group_into_scenes_changes_no_estimate(runs: tuple[np.ndarray, list[str]]) -> None:
    """Groups say what is resampled, never what is estimated; adding scenes up to groups by hand is the same."""
    counts, groups = runs
    names = sorted(set(groups))
    added = np.stack([counts[:, [g == name for g in groups]].sum(axis=1) for name in names], axis=1)
    assert (
        run_intervals(counts, groups, MIOU, COUNTED)[0].__repr__()
        == run_intervals(added, names, MIOU, COUNTED)[0].__repr__()
    )
    alone = run_intervals(counts, [str(scene) for scene in range(len(groups))], MIOU, COUNTED)[0]
    assert same(alone.value, run_intervals(counts, groups, MIOU, COUNTED)[0].value)


@settings(deadline=None)
@given(runs_on_scenes(n_runs=4))
def test_architectures_backwards_are_the_opposite(runs: tuple[np.ndarray, list[str]]) -> None:
    """Whatever the seeds, and an interval holds its own difference."""
    counts, groups = runs
    one = compare_architectures(counts, groups, ["a", "a", "b", "b"], MIOU, COUNTED)[0]
    other = compare_architectures(counts[::-1], groups, ["b", "b", "a", "a"], MIOU, COUNTED)[0]
    assert same(one.delta, -other.delta)
    assert same(one.interval, mirrored(other.interval))
    assert same(one.p, other.p)
    if one.interval is not None:
        assert one.interval[0] <= one.delta <= one.interval[1]


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1)))
def test_holm_keeps_the_order_and_never_lowers_p(p: np.ndarray) -> None:
    """Between p and Bonferroni's p."""
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, p * len(p)) + 1e-15).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1) | st.none(), st.floats(0, 0.5))
def test_verdicts_contradict_no_interval(low: float, width: float, p: float | None, delta: float) -> None:
    """Better means above 0, worse below, equal within ±δ."""
    high = low + width
    verdict = decide((low, high), p, delta=delta)
    assert verdict.word != "better" or low > 0
    assert verdict.word != "worse" or high < 0
    assert verdict.word != "equal" or max(-low, high) < delta
    assert verdict.excludes_zero == (not low <= 0 <= high)


@given(st.floats(1e-8, 1e-2), st.integers(2, 200), st.floats(1e-8, 1e-2), st.integers(2, 20))
def test_more_groups_and_more_seeds_never_show_less(
    v_groups: float, n_groups: int, v_seed: float, n_seeds: int
) -> None:
    """The standard error falls, degrees of freedom stay between the smallest and the sum."""
    design = Design(v_groups, n_groups, (v_seed, v_seed), (n_seeds, n_seeds))
    more = (design.with_groups(2 * n_groups), design.with_seeds(2 * n_seeds))
    assert all(other.se() <= design.se() for other in more)
    assert min(n_groups, n_seeds) - 1 - 1e-6 <= design.df() <= n_groups + 2 * n_seeds
    assert satterthwaite([(v_groups, n_groups)]) - n_groups < 1e-6
    assert all(
        detectable_difference(other.se(), 50.0) <= detectable_difference(design.se(), 50.0) * (1 + 1e-6)
        for other in more
    )
