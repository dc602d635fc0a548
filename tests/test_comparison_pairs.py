"""Pairs carry the statistics' figures under the runs' names, and what would decide them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.runs import LEGEND, build_run, noisy_counts, scene_counts
from scipy import stats

from levelground.comparison.compare import compare_runs
from levelground.comparison.compatibility import Evaluated
from levelground.comparison.record import Comparison
from levelground.comparison.results import RunPairResult
from levelground.comparison.summaries import (
    architecture_pair_results,
    groups_for_p,
    open_pair_power,
    run_pair_results,
    stack_counts,
)
from levelground.metrics.named import Metric, parse_metric
from levelground.metrics.scores import class_iou, miou
from levelground.runs import Run
from levelground.statistics.families import Family, FamilyStatistics, comparison_statistics

MIOU = parse_metric("official.miou", LEGEND.names, LEGEND.counted)


def in_memory(*errors: float, scenes: int = 9) -> list[Evaluated]:
    """Runs without folders, one for each error rate."""
    return [
        Evaluated(f"run{number}", Run(Path(), {"arch": f"a{number}", "encoder": "e"}), scene_counts(counts))
        for number, counts in enumerate(noisy_counts(scenes, error, seed=n) for n, error in enumerate(errors))
    ]


def family_of(
    runs: list[Evaluated], metric: Metric = MIOU, *, archs: Sequence[str] = (), delta: float = 0.01
) -> FamilyStatistics:
    """The statistics of all runs as one family."""
    family = Family(tuple(range(len(runs))), tuple(archs or (run.name for run in runs)))
    stacked = stack_counts(runs, LEGEND.counted)
    return comparison_statistics(stacked, metric, [family], delta=delta).families[0]


def run_pairs(runs: list[Evaluated], metric: Metric = MIOU, *, delta: float = 0.01) -> list[RunPairResult]:
    """All pairs of runs, each scene a group."""
    names, n_groups = [run.name for run in runs], len(runs[0].counts.scenes)
    found = family_of(runs, metric, delta=delta)
    return run_pair_results(found, names, metric, delta=delta, n_groups=n_groups, control=False)


def slow_interval(a: Any, b: Any, score: Any) -> tuple[float, float]:
    """Δ ± t·SE by a loop that leaves out one scene at a time."""
    n = len(a)
    delta = score(a.sum(0)) - score(b.sum(0))
    without = [score(np.delete(a, i, 0).sum(0)) - score(np.delete(b, i, 0).sum(0)) for i in range(n)]
    parts = [(value - np.mean(without)) ** 2 for value in without]
    df = min(n - 1, max(1, 3 * sum(parts) ** 2 / sum(part**2 for part in parts) - 3))
    half = stats.t.ppf(0.975, df) * np.sqrt((n - 1) / n * sum(parts))
    return delta - half, delta + half


def test_differences_and_intervals_agree_with_a_loop() -> None:
    """The pair's interval and each class's are those of an independent jackknife."""
    runs = in_memory(0.2, 0.3)
    (pair,) = run_pairs(runs)
    a, b = (item.counts.counts for item in runs)
    assert pair.interval == pytest.approx(slow_interval(a, b, lambda c: float(miou(c, LEGEND.counted))), abs=1e-12)
    for entry in pair.per_class:
        k = entry.class_index
        loop = slow_interval(a, b, lambda c, k=k: float(class_iou(c, LEGEND.counted)[k]))
        assert entry.interval == pytest.approx(loop, abs=1e-12)
    assert [entry.class_index for entry in pair.per_class] == [0, 1]


def test_pairs_come_in_the_order_of_the_runs() -> None:
    """All pairs, each once, the earlier run first."""
    pairs = run_pairs(in_memory(0.1, 0.2, 0.3))
    assert [(pair.a, pair.b) for pair in pairs] == [("run0", "run1"), ("run0", "run2"), ("run1", "run2")]
    assert all(pair.power.alpha == pytest.approx(0.05 / 3) for pair in pairs)


def test_the_uncounted_class_is_compared_only_where_it_is_scored() -> None:
    """Under 'all' the unknown class has its difference too."""
    (pair,) = run_pairs(in_memory(0.1, 0.2), parse_metric("all.miou", LEGEND.names, LEGEND.counted))
    assert [entry.class_index for entry in pair.per_class] == [0, 1, 2]


def test_the_fewest_groups_for_p_really_are() -> None:
    """2/2^G times the number of pairs first falls to .05 there."""
    for pairs in (1, 3, 45, 190):
        needed = groups_for_p(pairs)
        assert 2 / 2**needed * pairs <= 0.05 < 2 / 2 ** (needed - 1) * pairs


def test_groups_needed_are_never_fewer_than_the_swap_test_takes() -> None:
    """However clear the difference, six groups are the least for one pair."""
    (pair,) = run_pairs(in_memory(0.1, 0.6), delta=0.9)
    assert pair.power.groups_needed == groups_for_p(1)


def test_architectures_without_seeds_make_no_pair() -> None:
    """Two seeds a side are the least; others are left out."""
    runs = in_memory(0.1, 0.2, 0.3, 0.4, 0.5)
    found = family_of(runs, archs=["a", "a", "b", "c", "d"])
    assert architecture_pair_results(found, MIOU, delta=0.01, control=False) == []
    found = family_of(runs, archs=["a", "a", "b", "b", "d"])
    (pair,) = architecture_pair_results(found, MIOU, delta=0.01, control=False)
    assert (pair.a, pair.b, pair.n_a, pair.n_b) == ("a", "b", 2, 2)
    assert pair.power.seeds == 2


def test_the_open_question_is_the_leaders(tmp_path: Path) -> None:
    """Among several open pairs the one that the headline speaks of is planned for."""
    comparison = compare_runs(
        [
            build_run(tmp_path, f"{arch}-s0", noisy_counts(10, error, seed=number), arch=arch)
            for number, (arch, error) in enumerate({"unet": 0.2, "fpn": 0.21, "pspnet": 0.22}.items())
        ]
    )
    best = comparison.ranking[0].name
    assert comparison.power is not None
    assert comparison.power.pair[0] == best
    others = with_verdicts(comparison, lambda pair: "equal" if best in (pair.a, pair.b) else "undecided")
    power = open_pair_power(others)
    assert power is not None
    assert best not in power.pair
    assert open_pair_power(with_verdicts(comparison, lambda pair: "equal")) is None


def with_verdicts(comparison: Comparison, verdict: Callable[[RunPairResult], str]) -> Comparison:
    """The same comparison with other verdicts on its pairs."""
    return replace(comparison, pairs=tuple(replace(pair, verdict=verdict(pair)) for pair in comparison.pairs))
