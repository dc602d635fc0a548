"""One call gives what the plain functions on counts give, for every family of runs."""

import numpy as np
import pytest
from builders.counts import COUNTED, NAMES, made_up_counts

from levelground.errors import ShapeError
from levelground.metrics.named import Metric, parse_metric
from levelground.statistics.architectures import architecture_scores, compare_architectures
from levelground.statistics.families import Family, StackedCounts, comparison_statistics
from levelground.statistics.pairs import compare_pairs, differences, run_intervals

COUNTS = made_up_counts(5, 9)
GROUPS = [f"g{number % 7}" for number in range(9)]
ARCHS = ("unet", "unet", "fpn", "fpn", "twin")
STACKED = StackedCounts(COUNTS, GROUPS, COUNTED)


def metric(name: str) -> Metric:
    """A metric by its name."""
    return parse_metric(name, NAMES, COUNTED)


@pytest.mark.parametrize("name", ["official.miou", "kept.mf1", "all.iou:Unknown"])
def test_a_family_has_the_figures_of_the_plain_functions(name: str) -> None:
    """Pairs, classes and architectures of some of the runs, as if the others were not there."""
    primary, some = metric(name), [0, 1, 2, 3]
    found = comparison_statistics(STACKED, primary, [Family((0, 1, 2, 3), ARCHS[:4])], delta=0.02)
    (family,) = found.families
    counts, archs = COUNTS[some], ARCHS[:4]
    assert found.runs == {name: run_intervals(COUNTS, GROUPS, primary, COUNTED)}
    chosen = [(a, b) for a in some for b in some if a < b and archs[a] != archs[b]]
    assert family.pairs == compare_pairs(counts, GROUPS, primary, COUNTED, delta=0.02, pairs=chosen)
    assert family.architectures == architecture_scores(counts, GROUPS, archs, primary, COUNTED)
    assert family.architecture_pairs == compare_architectures(counts, GROUPS, archs, primary, COUNTED, delta=0.02)
    assert list(family.class_differences) == ([0, 1, 2, 3] if primary.view == "all" else [0, 1, 2])
    water = Metric(f"{primary.view}.iou", "iou", primary.view, 2)
    assert family.class_differences[2] == differences(counts, GROUPS, water, COUNTED, pairs=chosen)
    between = compare_architectures(counts, GROUPS, archs, water, COUNTED, delta=0.02)
    assert family.architecture_class_differences[2] == between


def test_only_architectures_with_seeds_are_paired() -> None:
    """One run of an architecture joins the pairs of runs and no pair of architectures."""
    all_runs = Family(tuple(range(5)), ARCHS)
    assert all_runs.with_seeds() == Family((0, 1, 2, 3), ARCHS[:4])
    family, control = comparison_statistics(
        STACKED, metric("official.miou"), [all_runs, Family((0, 4), ("a", "b"))]
    ).families
    assert (len(family.pairs), len(family.architectures)) == (8, 3)
    assert [(pair.a, pair.b) for pair in family.architecture_pairs] == [("unet", "fpn")]
    assert (len(control.pairs), control.architecture_pairs, control.architecture_class_differences) == (1, [], {})
    assert control.pairs[0].delta == next(pair.delta for pair in family.pairs if (pair.a, pair.b) == (0, 4))


def test_one_run_has_no_pair() -> None:
    """A run alone has its estimate and an architecture of one seed."""
    found = comparison_statistics(
        StackedCounts(COUNTS[:1], GROUPS, COUNTED), metric("official.miou"), [Family((0,), ("unet",))]
    )
    (family,) = found.families
    assert (family.pairs, family.class_differences[0], family.architectures[0].n_seeds) == ([], [], 1)


def test_described_metrics_have_estimates_of_their_own_counts() -> None:
    """Boundary metrics are computed from boundary counts; a metric named twice is computed once."""
    boundary = np.stack([COUNTS.diagonal(axis1=2, axis2=3), COUNTS.sum(axis=2), COUNTS.sum(axis=3)], axis=-1)
    stacked = StackedCounts(COUNTS, GROUPS, COUNTED, boundary)
    described = [metric(name) for name in ("official.miou", "boundary.miou", "kept.miou")]
    found = comparison_statistics(stacked, described[0], [], described=described)
    assert list(found.runs) == ["official.miou", "boundary.miou", "kept.miou"]
    assert found.runs["boundary.miou"] == run_intervals(boundary, GROUPS, described[1], COUNTED)
    assert found.families == []


def test_counts_and_groups_must_fit() -> None:
    """Another number of groups than of scenes is refused."""
    with pytest.raises(ShapeError, match=r"for 8 scenes, expected \(runs, scenes, K, K\)"):
        comparison_statistics(StackedCounts(COUNTS, GROUPS[:8], COUNTED), metric("official.miou"), [])
