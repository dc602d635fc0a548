"""All statistics of a comparison: verdicts in one call from counts that are stacked once; calibration and rankings.

Letters: R runs, S scenes, K classes, P pairs. Calibration and rankings only describe: no verdict rests on them.

Calibration: a model that gives 80 % should be right 80 % of the time.

Letters: G groups, B bins; n_b, conf_b and right_b are a bin's pixels, sum of confidences and hits.

    ECE = Σ_b |right_b - conf_b| / Σ_b n_b

The plain estimate is biased upwards: noise makes every |…| larger. The jackknife takes the first order of that bias
away (Quenouille 1956): G·ECE - (G - 1)·mean of the ECEs without one group. What is left below 0 is 0. Where a model is
calibrated to the noise, |…| has a kink, about half of the bias stays and intervals are a little narrow
(``docs/experiments.md``): these intervals describe, no verdict rests on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ConfigError, ShapeError
from levelground.metrics.named import Metric
from levelground.metrics.scores import AnyCounts, Counted, Scores
from levelground.statistics.architectures import (
    ArchitecturePair,
    ArchitectureScore,
    PairWithoutGroup,
    architecture_estimates,
    architecture_pair_estimates,
    pairs_without_a_group,
)
from levelground.statistics.intervals import ends, folds_variance, jackknife_se, t_interval
from levelground.statistics.pairs import (
    RESAMPLES,
    Ends,
    Estimate,
    Groups,
    PairEstimate,
    all_pairs,
    difference_estimates,
    pair_estimates,
    run_estimates,
)
from levelground.statistics.resampling import GroupSums, add_groups, bootstrap_values, group_sums


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
    carried: Sequence[PairWithoutGroup] = ()
    """Pairs of the leader whose verdict is another one without one group."""


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
    found = FamilyStatistics(
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
    if several:
        carried = pairs_without_a_group(sums.of_runs(seeds.runs), found.architecture_pairs, seeds.archs, delta=delta)
    else:
        carried = pairs_without_a_group(own, found.pairs, None, delta=delta)
    return replace(found, carried=carried)


TIE = 1e-12
"""Scores nearer than this are the same: they differ by rounding only."""


@dataclass(frozen=True)
class MetricRanking:
    """All runs under one metric.

    Attributes:
        metric: Its name.
        values: The score of each run.
        ranks: 1 for the highest; equal scores share the better rank and the next is skipped; ``None`` without a score.
        flips: Pairs of runs (a, b), a above b under the primary metric and below it here.
    """

    metric: str
    values: tuple[float, ...]
    ranks: tuple[int | None, ...]
    flips: tuple[tuple[int, int], ...]


def rank_under_metrics(
    counts: AnyCounts,
    metrics: Sequence[Metric],
    counted: Counted,
    *,
    primary: Metric,
    boundary: AnyCounts | None = None,
) -> list[MetricRanking]:
    """Score and rank all runs under each metric and find the pairs whose order is reversed.

    Args:
        counts: ``(R, S, K, K)``.
        metrics: Rows of the table.
        counted: Which classes of the legend count, ``(K,)``.
        primary: The metric that the others are compared with; it need not be one of ``metrics``.
        boundary: ``(R, S, K, 3)``, needed only for ``boundary`` metrics; without it they are left out.
    Returns:
        One row a metric. Ties reverse nothing.
    Example:
        >>> from levelground.metrics.named import mean_metrics
        >>> both = np.array([True, True])
        >>> counts = np.array([[[[90, 0], [10, 0]]], [[[75, 15], [4, 6]]]])
        >>> miou, _, accuracy = rank_under_metrics(counts, mean_metrics(both), both, primary=mean_metrics(both)[0])
        >>> miou.ranks, accuracy.ranks, accuracy.flips
        ((2, 1), (1, 2), ((1, 0),))
    """
    reference = _values(primary, counts, counted, boundary)
    rows = []
    for metric in metrics:
        if metric.view == "boundary" and boundary is None:
            continue
        values = _values(metric, counts, counted, boundary)
        rows.append(MetricRanking(metric.name, tuple(values.tolist()), ranks(values), _flips(reference, values)))
    return rows


def ranks(values: Scores) -> tuple[int | None, ...]:
    """Rank scores, 1 for the highest; equal scores share the better rank.

    Example:
        >>> ranks(np.array([0.5, 0.7, 0.5, np.nan]))
        (2, 1, 2, None)
    """
    return tuple(None if np.isnan(value) else 1 + int((values > value + TIE).sum()) for value in values)


def _values(metric: Metric, counts: AnyCounts, counted: Counted, boundary: AnyCounts | None) -> Scores:
    """Compute the metric of each run on all scenes, ``(R,)``."""
    if metric.view != "boundary":
        return metric.score(metric.sums(counts.sum(axis=1), counted))
    if boundary is None:
        raise ConfigError(f"metric {metric.name!r} needs boundary counts. Evaluate the runs again.")
    return metric.score(metric.sums(boundary.sum(axis=1), counted))


def _flips(reference: Scores, values: Scores) -> tuple[tuple[int, int], ...]:
    """Find the pairs whose order differs from the reference's, the reference's better one first."""
    found = []
    for a, b in combinations(range(len(values)), 2):
        before, now = reference[a] - reference[b], values[a] - values[b]
        if before > TIE and now < -TIE:
            found.append((a, b))
        elif before < -TIE and now > TIE:
            found.append((b, a))
    return tuple(found)


@dataclass(frozen=True)
class CalibrationError:
    """An expected calibration error.

    Attributes:
        ece: Corrected by the jackknife; the plain one with fewer than two groups; NaN without pixels.
        plain: As defined, without correction.
        se: Standard error over groups, or ``None`` with fewer than two.
        interval: 95 % interval around the corrected value, cut off at 0; ``None`` as ``se``.
    """

    ece: float
    plain: float
    se: float | None
    interval: Ends


@dataclass(frozen=True)
class ReliabilityBin:
    """One point of a reliability diagram: mean confidence, share of hits (NaN without pixels) and pixels."""

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """The calibration of one run.

    Attributes:
        overall: All pixels together.
        per_class: Pixels by predicted class; ``None`` for a class never predicted.
        bins: The reliability diagram of all pixels, from the least to the most confident bin.
    """

    overall: CalibrationError
    per_class: tuple[CalibrationError | None, ...]
    bins: tuple[ReliabilityBin, ...]


def calibration_error(
    conf_n: NDArray[np.int64], conf_sum: Scores, conf_correct: NDArray[np.int64], groups: Groups
) -> Calibration:
    """Compute expected calibration errors with intervals.

    Args:
        conf_n: Pixels by scene, predicted class and bin, ``(S, K, B)``.
        conf_sum: Sums of their confidences.
        conf_correct: Their hits.
        groups: The group of each scene, ``(S,)``.
    Returns:
        Overall, by predicted class, and the bins.
    Raises:
        ShapeError: The arrays differ in shape or in the number of scenes.
    Source: Guo et al. 2017, eq. 3 to 5.
    Example:
        >>> n, correct = np.array([[[0, 10]], [[0, 10]]]), np.array([[[0, 8]], [[0, 7]]])
        >>> found = calibration_error(n, np.array([[[0.0, 9.0]], [[0.0, 9.0]]]), correct, ["s1", "s2"])
        >>> round(found.overall.plain, 3), found.bins[1].n
        (0.15, 20)
    """
    parts = np.stack((conf_n, conf_sum, conf_correct)).astype(np.float64)
    if parts.ndim != 4 or parts.shape[1] != len(groups):
        raise ShapeError(f"confidence counts are {conf_n.shape} for {len(groups)} scenes, expected (S, K, B).")
    _, by_class = add_groups(np.moveaxis(parts, 1, -1), groups)  # (3, K, B, G)
    pooled = by_class.sum(axis=1)
    per_class = [_estimate(by_class[:, k]) for k in range(by_class.shape[1])]
    return Calibration(
        overall=_estimate(pooled),
        per_class=tuple(None if np.isnan(found.plain) else found for found in per_class),
        bins=_bins(pooled.sum(axis=-1)),
    )


def _estimate(sums: Scores) -> CalibrationError:
    """Estimate the error of sums ``(3, B, G)``."""
    total = sums.sum(axis=-1)
    plain, n_groups = float(_ece(total)), sums.shape[-1]
    left_out = _ece(total[..., None] - sums)
    se = float(jackknife_se(left_out))
    if np.isnan(se):
        return CalibrationError(ece=plain, plain=plain, se=None, interval=None)
    corrected = n_groups * plain - (n_groups - 1) * float(left_out.mean())
    interval = ends(np.clip(t_interval(np.array(corrected), np.array(se), n_groups - 1), 0, 1))
    return CalibrationError(ece=max(0.0, corrected), plain=plain, se=se, interval=interval)


def _ece(sums: Scores) -> Scores:
    """Compute the expected calibration error of sums ``(3, B, ...)``; NaN without pixels."""
    n, confidence, correct = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.abs(correct - confidence).sum(axis=0) / n.sum(axis=0))


def _bins(sums: Scores) -> tuple[ReliabilityBin, ...]:
    """Make the reliability diagram of sums ``(3, B)``."""
    n, confidence, correct = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        means, shares = confidence / n, correct / n
    return tuple(
        ReliabilityBin(float(mean), float(share), int(size)) for mean, share, size in zip(means, shares, n, strict=True)
    )
