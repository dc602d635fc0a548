"""All statistics of a comparison in one call: runs, pairs and architectures, from counts that are stacked once.

Letters: R runs, S scenes, K classes, P pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from levelground.metrics.named import Metric
from levelground.metrics.scores import Counted
from levelground.statistics.architectures import (
    ArchitecturePair,
    ArchitectureScore,
    architecture_estimates,
    architecture_pair_estimates,
)
from levelground.statistics.intervals import folds_variance
from levelground.statistics.pairs import (
    RESAMPLES,
    Estimate,
    Groups,
    PairEstimate,
    all_pairs,
    difference_estimates,
    pair_estimates,
    run_estimates,
)
from levelground.statistics.resampling import GroupSums, bootstrap_values, group_sums


@dataclass(frozen=True, eq=False)
class StackedCounts:
    """Counts of several runs on the same scenes.

    Attributes:
        counts: ``(R, S, K, K)``, true by predicted class.
        groups: The group of each scene, ``(S,)``.
        counted: Which classes of the legend count, ``(K,)``.
        boundary: Boundary counts, ``(R, S, K, 3)``; ``None`` where not all runs have them at one distance.
        folds: Number of folds, each scored by models of its own; 0 where one model of each run scored all scenes.
    """

    counts: NDArray[np.int64]
    groups: Groups
    counted: Counted
    boundary: NDArray[np.int64] | None = None
    folds: int = 0

    def group_sums(self, metric: Metric) -> GroupSums:
        """Add scenes up to groups, in the form that a metric is computed from."""
        counts = self.boundary if metric.view == "boundary" and self.boundary is not None else self.counts
        found = group_sums(counts, self.groups, metric, self.counted)
        return replace(found, variance_factor=folds_variance(self.folds))

    def class_metrics(self, metric: Metric) -> dict[int, Metric]:
        """Return the IoU of each class with true pixels that the metric's view scores, by class index."""
        present = self.counts[0].sum(axis=(0, 2)) > 0
        scored = present if metric.view == "all" else present & self.counted
        return {k: Metric(f"{metric.view}.iou", "iou", metric.view, k) for k in np.flatnonzero(scored).tolist()}


@dataclass(frozen=True)
class Family:
    """Runs whose pairs are tested together: p-values are adjusted within the family.

    Attributes:
        runs: Indices of the runs.
        archs: The architecture of each of them.
    """

    runs: tuple[int, ...]
    archs: tuple[str, ...]

    def pairs(self) -> list[tuple[int, int]]:
        """List the pairs that somebody asks about, by place: runs of two architectures; of one, all of its seeds."""
        among = all_pairs(len(self.archs))
        between = [(a, b) for a, b in among if self.archs[a] != self.archs[b]]
        return between or among

    def with_seeds(self) -> "Family":
        """Return the runs whose architecture has two or more of them."""
        chosen = [number for number, arch in enumerate(self.archs) if self.archs.count(arch) >= 2]
        return Family(tuple(self.runs[i] for i in chosen), tuple(self.archs[i] for i in chosen))


@dataclass(frozen=True)
class FamilyStatistics:
    """The statistics of one family.

    Attributes:
        pairs: The pairs of runs of two architectures, by their place in the family; of one architecture, all pairs.
        class_differences: The IoU difference of each of these pairs, by class.
        architectures: The score of each architecture, its runs by their place in the family.
        architecture_pairs: All pairs of architectures that have two or more seeds.
        architecture_class_differences: The IoU difference of each of these pairs, by class.
    """

    pairs: Sequence[PairEstimate]
    class_differences: Mapping[int, Sequence[Estimate]]
    architectures: Sequence[ArchitectureScore]
    architecture_pairs: Sequence[ArchitecturePair]
    architecture_class_differences: Mapping[int, Sequence[ArchitecturePair]]


@dataclass(frozen=True)
class Statistics:
    """The statistics of a comparison.

    Attributes:
        runs: The estimate of each run, by the metric's name.
        families: The statistics of each family, in the order given.
    """

    runs: Mapping[str, Sequence[Estimate]]
    families: Sequence[FamilyStatistics]


def comparison_statistics(
    stacked: StackedCounts,
    metric: Metric,
    families: Sequence[Family],
    *,
    described: Sequence[Metric] = (),
    delta: float = 0.01,
) -> Statistics:
    """Compute all statistics of a comparison.

    Args:
        stacked: The counts of all runs.
        metric: The primary metric, the one that is tested.
        families: Runs whose pairs are tested together.
        described: More metrics, of which each run gets an estimate and nothing is tested.
        delta: Differences below this do not matter, δ.
    Returns:
        Estimates of the runs and statistics of the families.
    Raises:
        ShapeError: The arrays do not fit together.
    Example:
        >>> from levelground.metrics.named import parse_metric
        >>> both = np.array([True, True])
        >>> counts = np.array([[[[8, 2], [1, 9]], [[5, 5], [2, 8]]], [[[9, 1], [1, 9]], [[7, 3], [2, 8]]]])
        >>> stacked = StackedCounts(counts, ["s1", "s2"], both)
        >>> miou = parse_metric("official.miou", ("a", "b"), both)
        >>> found = comparison_statistics(stacked, miou, [Family((0, 1), ("unet", "fpn"))])
        >>> [round(estimate.value, 3) for estimate in found.runs["official.miou"]]
        [0.597, 0.702]
        >>> round(found.families[0].pairs[0].delta, 3)
        -0.105
    """
    sums = stacked.group_sums(metric)
    by_class = {k: stacked.group_sums(one) for k, one in stacked.class_metrics(metric).items()}
    runs = {metric.name: run_estimates(sums)}
    for one in described:
        if one.name not in runs:
            runs[one.name] = run_estimates(stacked.group_sums(one))
    return Statistics(runs, [_family_statistics(sums, by_class, family, delta=delta) for family in families])


def _family_statistics(
    sums: GroupSums, by_class: Mapping[int, GroupSums], family: Family, *, delta: float
) -> FamilyStatistics:
    """Compute the statistics of one family from the sums of all runs."""
    own, seeds = sums.of_runs(family.runs), family.with_seeds()
    resampled = bootstrap_values(own, RESAMPLES, seed=0)
    pairs = family.pairs()
    several = len(set(seeds.archs)) > 1
    return FamilyStatistics(
        pairs=pair_estimates(own, delta=delta, pairs=pairs),
        class_differences={k: difference_estimates(one.of_runs(family.runs), pairs) for k, one in by_class.items()},
        architectures=architecture_estimates(own, family.archs, resampled),
        architecture_pairs=(
            architecture_pair_estimates(sums.of_runs(seeds.runs), seeds.archs, delta=delta) if several else []
        ),
        architecture_class_differences={
            k: architecture_pair_estimates(one.of_runs(seeds.runs), seeds.archs, delta=delta)
            for k, one in by_class.items()
            if several
        },
    )
