"""Runs and pairs of runs."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders.counts import COUNTED, NAMES, made_up_counts, slow_miou
from numpy.typing import NDArray

from levelground.errors import ConfigError
from levelground.metrics.named import parse_metric
from levelground.statistics.architectures import compare_architectures
from levelground.statistics.pairs import all_pairs, compare_pairs, differences, run_intervals
from levelground.statistics.power_analysis import power

MIOU = parse_metric("official.miou", NAMES, COUNTED)
WATER = parse_metric("official.iou:Water", NAMES, COUNTED)
GROUPS = [f"{number // 2:02d}" for number in range(24)]
FORTY = [f"{number:02d}" for number in range(40)]


def test_pairs_carry_the_differences_of_slow_scores() -> None:
    """Every pair once, first minus second, with intervals around it."""
    counts = made_up_counts(4, 24)
    results = compare_pairs(counts, GROUPS, MIOU, COUNTED, n_resamples=500)
    assert [(result.a, result.b) for result in results] == list(itertools.combinations(range(4), 2)) == all_pairs(4)
    for result in results:
        expected = slow_miou(counts[result.a].sum(axis=0)) - slow_miou(counts[result.b].sum(axis=0))
        assert result.delta == pytest.approx(expected, abs=1e-12)
        assert 1 <= result.df <= 11
        for interval in (result.interval,):
            assert interval is not None
            assert interval[0] <= result.delta <= interval[1]
        assert result.p is not None
        assert result.p_holm is not None
        assert result.p <= result.p_holm
        assert result.p_min == pytest.approx(6 / 601)


def test_a_pair_is_the_same_alone_and_described() -> None:
    """Interval of the difference with and without the test."""
    counts = made_up_counts(3, 24)
    tested = compare_pairs(counts, GROUPS, MIOU, COUNTED, n_resamples=500)[1]
    described = differences(counts, GROUPS, MIOU, COUNTED, pairs=[(0, 2)])[0]
    assert (tested.delta, tested.se, tested.df, tested.interval) == (
        described.value, described.se, described.df, described.interval,
    )  # fmt: skip
    assert len(differences(counts, GROUPS, MIOU, COUNTED)) == 3


def test_identical_runs_are_equal() -> None:
    """Their difference is 0 and certain."""
    counts = made_up_counts(1, 24)
    result = compare_pairs(np.concatenate((counts, counts)), GROUPS, MIOU, COUNTED, n_resamples=500)[0]
    assert (result.delta, result.se, result.interval) == (0, 0, (0, 0))
    assert (result.p, result.verdict.word, result.verdict.excludes_zero) == (1, "equal", False)


def test_a_clear_winner_is_better() -> None:
    """And worse the other way round."""
    counts = made_up_counts(1, 24)
    worse = counts.copy()
    moved = worse[..., [0, 1, 2], [0, 1, 2]] // 2
    worse[..., [0, 1, 2], [0, 1, 2]] -= moved
    worse[..., [0, 1, 2], [1, 2, 0]] += moved
    both = np.concatenate((counts, worse))
    assert compare_pairs(both, GROUPS, MIOU, COUNTED, n_resamples=5000)[0].verdict.word == "better"
    assert compare_pairs(both[::-1], GROUPS, MIOU, COUNTED, n_resamples=5000)[0].verdict.word == "worse"


def test_few_groups_leave_everything_undecided() -> None:
    """However large the difference: with four groups p cannot fall below 1/8."""
    perfect = np.zeros((4, 4, 4), np.int64)
    perfect[:] = np.diag([9, 9, 9, 0])
    useless = np.roll(perfect, 1, axis=2)
    useless[0, 0, 0] += 1
    result = compare_pairs(np.stack((perfect, useless)), list("abcd"), MIOU, COUNTED)[0]
    assert (result.p, result.p_min, result.verdict.word) == (0.125, 0.125, "undecided")


def in_few_groups(held: int, kind: str, predicted: int = 0, n_runs: int = 2) -> NDArray[np.int64]:
    """Counts of 40 groups: water in the first few; in ``predicted`` more the second half of the runs sees some."""
    counts = np.zeros((n_runs, 40, 4, 4), np.int64)
    counts[:, :, 0, 0] = 80
    counts[:, :held, 2] = [10, 0, 90, 0]
    counts[n_runs // 2 :, :held, 2] = [50, 0, 50, 0] if kind == "unlike" else [10, 0, 90, 0]
    counts[n_runs // 2 :, held : held + predicted, 0] = [60, 0, 20, 0]
    return counts


@pytest.mark.parametrize("kind", ["recall", "iou", "f1", "precision"])
@pytest.mark.parametrize(("held", "predicted"), [(5, 0), (5, 3), (7, 0), (7, 30)])
def test_the_least_p_of_one_class_is_that_of_the_groups_that_decide(kind: str, held: int, predicted: int) -> None:
    """Those that hold it and, but for recall, those where it is predicted: swapping the others changes nothing."""
    counts = in_few_groups(held, "unlike", predicted)
    decide = held if kind == "recall" else held + predicted
    (pair,) = compare_pairs(counts, FORTY, parse_metric(f"official.{kind}:Water", NAMES, COUNTED), COUNTED)
    assert pair.deciding == decide
    assert pair.p_min == max(2 / 2**decide, 1 / 10_001)
    assert pair.p is not None and pair.p_holm is not None
    assert pair.p_min <= pair.p <= pair.p_holm
    assert pair.verdict.word == "undecided" or decide >= 6


def test_groups_without_anything_scored_decide_nothing() -> None:
    """The mean over classes of which the others count for nothing is the score of that class."""
    counts, water = in_few_groups(5, "unlike"), np.array([False, False, True, False])
    (pair,) = compare_pairs(counts, FORTY, parse_metric("official.miou", NAMES, water), water)
    assert (pair.deciding, pair.p_min, pair.verdict.word) == (5, 2 / 2**5, "undecided")


@pytest.mark.parametrize("kind", ["recall", "iou"])
@pytest.mark.parametrize(("held", "word"), [(4, "undecided"), (5, "undecided"), (6, "equal")])
def test_scores_of_a_class_in_fewer_than_six_groups_are_not_called_equal(kind: str, held: int, word: str) -> None:
    """Of runs as of architectures, however many groups there are besides."""
    metric = parse_metric(f"official.{kind}:Water", NAMES, COUNTED)
    counts = in_few_groups(held, "alike", n_runs=4)
    archs = ["a", "a", "b", "b"]
    assert {pair.verdict.word for pair in compare_pairs(counts, FORTY, metric, COUNTED)} == {word}
    (pair,) = compare_architectures(counts, FORTY, archs, metric, COUNTED)
    assert (pair.interval, pair.verdict.word) == ((0, 0), word)
    design = pair.design()
    assert design is not None
    found = power(design, delta=0.01)
    assert found.groups_for_equal == -(-6 * 40 // held)
    assert (found.seeds_for_equal is None) == (word == "undecided")


def test_one_group_has_no_interval_and_no_p() -> None:
    """The difference stands there without a judgement."""
    result = compare_pairs(made_up_counts(2, 24), ["all"] * 24, MIOU, COUNTED)[0]
    assert (result.se, result.df, result.interval) == (None,) * 3
    assert (result.p, result.p_holm, result.p_min, result.verdict.word) == (None, None, 1.0, "undecided")
    assert run_intervals(made_up_counts(1, 24), ["all"] * 24, MIOU, COUNTED)[0].interval is None


def test_a_class_in_one_group_only_has_a_score_but_no_interval() -> None:
    """Without that group there is no score, so nothing is known of its scatter."""
    counts = made_up_counts(2, 24)
    counts[:, 2:, 2] = 0
    found = run_intervals(counts, GROUPS, WATER, COUNTED)[0]
    assert 0 < found.value < 1
    assert (found.se, found.df, found.interval) == (None, None, None)
    result = compare_pairs(counts, GROUPS, WATER, COUNTED, n_resamples=500)[0]
    assert result.interval is None
    assert result.verdict.word == "undecided"


def test_a_class_that_vanishes_from_a_resample_leaves_the_mean_of_the_others() -> None:
    """The class set is that of the scenes at hand, the same for both runs."""
    counts = made_up_counts(2, 24)
    counts[:, 2:, 2] = 0
    first = {scene for scene in range(24) if GROUPS[scene] == "00"}
    rest = [scene for scene in range(24) if scene not in first]
    without = slow_miou(counts[0, rest].sum(axis=0)) - slow_miou(counts[1, rest].sum(axis=0))
    replicates = []
    for group in sorted(set(GROUPS)):
        kept = [scene for scene in range(24) if GROUPS[scene] != group]
        replicates.append(slow_miou(counts[0, kept].sum(axis=0)) - slow_miou(counts[1, kept].sum(axis=0)))
    assert replicates[0] == without
    expected = (11 / 12 * np.sum((np.array(replicates) - np.mean(replicates)) ** 2)) ** 0.5
    assert differences(counts, GROUPS, MIOU, COUNTED)[0].se == pytest.approx(expected, abs=1e-12)


def test_boundary_iou_is_compared_as_any_other_metric() -> None:
    """Given boundary counts."""
    boundary = np.sort(np.random.default_rng(0).integers(1, 99, (2, 24, 4, 3)), axis=-1)
    metric = parse_metric("boundary.miou", NAMES, COUNTED)
    total = boundary.sum(axis=1)[:, :3]
    scores = (total[..., 0] / (total[..., 1] + total[..., 2] - total[..., 0])).mean(axis=1)
    found = differences(boundary, GROUPS, metric, COUNTED)[0]
    assert found.value == pytest.approx(scores[0] - scores[1], abs=1e-12)
    assert found.interval is not None


def test_one_run_alone_has_no_pairs() -> None:
    """And no complaint."""
    assert compare_pairs(made_up_counts(1, 24), GROUPS, MIOU, COUNTED) == []


def test_senseless_settings_are_refused() -> None:
    """Negative margins, and resamples too few to show anything."""
    for settings in ({"delta": -0.1}, {"n_resamples": 99}, {"delta": float("nan")}):
        with pytest.raises(ConfigError, match=r"expected at least 0 and at least 100\.$"):
            compare_pairs(made_up_counts(2, 24), GROUPS, MIOU, COUNTED, **settings)  # type: ignore[arg-type]


def test_the_statistics_import_no_torch_and_no_pixels() -> None:
    """Counts are all they need."""
    modules = ("statistics.architectures", "statistics.families", "metrics.named")
    heavy = ("torch", "cv2", "matplotlib", "rasterio", "scipy.stats")
    code = "; ".join(f"import levelground.{name}" for name in modules)
    code += f"; import sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"


def test_the_benchmark_of_that_name_hides_no_standard_library() -> None:
    """A script in ``benchmarks/`` that imports the standard ``statistics`` (lightning does) gets it."""
    folder = Path(__file__).parents[1] / "benchmarks"
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import statistics; print(statistics.mean([1, 3]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "2"
