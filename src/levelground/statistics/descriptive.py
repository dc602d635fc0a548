"""Descriptive statistics, which no verdict rests on: calibration of probabilities, and rankings under every metric.

Calibration: a model that gives 80 % should be right 80 % of the time.

Letters: S scenes, G groups, K classes, B bins; n_b, conf_b and right_b are a bin's pixels, sum of confidences and hits.

    ECE = Σ_b |right_b - conf_b| / Σ_b n_b

The plain estimate is biased upwards: noise makes every |…| larger. The jackknife takes the first order of that bias
away (Quenouille 1956): G·ECE - (G - 1)·mean of the ECEs without one group. What is left below 0 is 0. Where a model is
calibrated to the noise, |…| has a kink, about half of the bias stays and intervals are a little narrow
(``docs/experiments.md``): these intervals describe, no verdict rests on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ConfigError, ShapeError
from levelground.metrics.named import Metric
from levelground.metrics.scores import AnyCounts, Counted, Scores
from levelground.statistics.intervals import ends, jackknife_se, t_interval
from levelground.statistics.pairs import Ends, Groups
from levelground.statistics.resampling import group_membership

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
    _, membership = group_membership(groups)
    by_class = np.moveaxis(parts, 1, -1) @ membership  # (3, K, B, G)
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
    interval = ends(np.maximum(0.0, t_interval(np.array(corrected), np.array(se), n_groups - 1)))
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
