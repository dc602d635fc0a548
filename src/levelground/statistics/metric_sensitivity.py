"""Metric sensitivity: every run under every metric, to see whether the ranking depends on the definition."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from levelground.errors import ConfigError
from levelground.metrics.named import Metric
from levelground.metrics.scores import AnyCounts, Counted, Scores

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
