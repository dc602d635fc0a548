"""Runs and pairs of runs on the same scenes: estimates, intervals, tests, verdicts.

Statements here are about *these weights*: what other scenes of the same kind would show of them. Statements about
architectures need several seeds: :mod:`levelground.statistics.architectures`. Letters: R runs, S scenes, K classes,
G groups, P pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ConfigError
from levelground.metrics.named import Metric
from levelground.metrics.scores import AnyCounts, Counted, Scores
from levelground.statistics.intervals import (
    ends,
    jackknife,
    known,
    t_interval,
    t_test,
)
from levelground.statistics.resampling import CountsMetric, GroupSums, group_sums
from levelground.statistics.significance import ALPHA, holm, smallest_p_values, swap_p_values

VerdictWord = Literal["equal", "better", "worse", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """The conclusion about a difference a − b.

    Attributes:
        word: ``equal``: smaller than δ either way. ``better`` / ``worse``: a scores higher / lower. Else ``undecided``.
        excludes_zero: Whether the interval leaves 0 out; with ``equal``: measurably different, by less than δ.
    """

    word: VerdictWord
    excludes_zero: bool


FEWEST_GROUPS = 6
"""With fewer groups no swap test reaches p ≤ .05, so no difference could be shown; then none is shown to be absent."""


def decide(
    interval: tuple[float, float] | None, p_holm: float | None, *, delta: float, n_groups: int = FEWEST_GROUPS
) -> Verdict:
    """Decide what can be said of a difference, the first that holds of: equal, better or worse, undecided.

    Args:
        interval: The 95 % interval of a − b, or ``None`` where there is none.
        p_holm: The adjusted p of the difference, or ``None`` where there is none.
        delta: Differences below this do not matter (``--delta``).
        n_groups: Groups that the interval rests on, for a score of one class those that hold it; with fewer than six
            nothing is called equal.
    Returns:
        The verdict.
    Example:
        >>> decide((0.002, 0.008), 0.01, delta=0.01)
        Verdict(word='equal', excludes_zero=True)
        >>> [decide(ends, 0.01, delta=0.01).word for ends in ((0.02, 0.08), (-0.08, -0.02), (-0.02, 0.08))]
        ['better', 'worse', 'undecided']
        >>> decide((0.02, 0.08), 0.2, delta=0.01).word, decide((-0.001, 0.001), 0.7, delta=0.01, n_groups=3).word
        ('undecided', 'undecided')
    """
    if interval is None:
        return Verdict("undecided", False)
    low, high = interval
    excludes_zero = low > 0 or high < 0
    if -delta < low and high < delta and n_groups >= FEWEST_GROUPS:
        return Verdict("equal", excludes_zero)
    if excludes_zero and p_holm is not None and p_holm <= ALPHA:
        return Verdict("better" if low > 0 else "worse", True)
    return Verdict("undecided", excludes_zero)


Groups = Sequence[str] | NDArray[np.str_]
Ends = tuple[float, float] | None

RESAMPLES = 10_000
"""Resamples of groups and swaps of runs: the Monte-Carlo error of p = .05 is then .002."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its jackknife interval.

    Attributes:
        value: The figure; NaN where no class of the metric has true pixels.
        se: Its standard error over groups; ``None`` with fewer than two groups, or where a class scored alone lies in
            fewer than four.
        df: Degrees of freedom, at most G − 1, fewer where few groups carry the variance or hold the class
            (``jackknife``); ``None`` as ``se``.
        interval: 95 % interval; ``None`` as ``se``.
    """

    value: float
    se: float | None
    df: float | None
    interval: Ends


@dataclass(frozen=True)
class PairEstimate:
    """The difference of two runs, a − b.

    Attributes:
        a: Index of the first run.
        b: Index of the second run.
        delta: Metric of a minus metric of b.
        se: Its jackknife standard error, or ``None`` where there is none.
        df: Degrees of freedom, at most G − 1 (``jackknife``).
        interval: Jackknife interval: the one that decides.
        p: Two-sided p by swapping groups, of folds not below that of Student's t; ``None`` with fewer than two groups.
        p_holm: The same, adjusted for all pairs of the call.
        p_min: The smallest ``p_holm`` that any difference could have reached.
        verdict: What can be said.
        deciding: Groups whose swap can change the difference: those that hold anything that the metric is computed
            from. Where it is of one class they are those where the class is, or where a run predicts it.
        held: Groups that the interval rests on: the same, but no more than hold a class scored alone.
    """

    a: int
    b: int
    delta: float
    se: float | None
    df: float | None
    interval: Ends
    p: float | None
    p_holm: float | None
    p_min: float
    verdict: Verdict
    deciding: int
    held: int


def run_intervals(counts: AnyCounts, groups: Groups, metric: Metric | CountsMetric, counted: Counted) -> list[Estimate]:
    """Compute the metric of each run with its interval.

    Args:
        counts: ``(R, S, K, K)``, or boundary counts ``(R, S, K, 3)`` for a ``boundary`` metric.
        groups: The group of each scene, ``(S,)``.
        metric: A named metric, or any function from ``(..., K, K)`` counts to ``(...)`` scores.
        counted: Which classes of the legend count, ``(K,)``.
    Returns:
        One estimate a run.
    Raises:
        ShapeError: The arrays do not fit together.
    Example:
        >>> from levelground.metrics.named import parse_metric
        >>> counts = np.array([[[[8, 2], [1, 9]], [[5, 5], [2, 8]], [[9, 1], [1, 9]]]])
        >>> both = np.array([True, True])
        >>> found = run_intervals(counts, ["s1", "s2", "s3"], parse_metric("official.miou", ("a", "b"), both), both)
        >>> round(found[0].value, 3), round(found[0].se, 3), found[0].df
        (0.666, 0.111, 2.0)
    """
    return run_estimates(group_sums(counts, groups, metric, counted))


def run_estimates(sums: GroupSums) -> list[Estimate]:
    """Estimate the metric of each run with its interval, from sums by run and group."""
    return _estimates(sums.values(), sums.left_out(), sums, of_differences=False)


def differences(
    counts: AnyCounts,
    groups: Groups,
    metric: Metric | CountsMetric,
    counted: Counted,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> list[Estimate]:
    """Compute differences of pairs with their intervals and no test: for the metrics that only describe.

    Args:
        counts: As :func:`run_intervals`.
        groups: The group of each scene, ``(S,)``.
        metric: As :func:`run_intervals`.
        counted: Which classes of the legend count, ``(K,)``.
        pairs: Indices of the runs compared; ``None`` for all, in the order of :func:`all_pairs`.
    Returns:
        One estimate of a − b for each pair (a, b).
    Example:
        >>> counts = np.array([[[[8, 2], [1, 9]], [[5, 5], [2, 8]]], [[[9, 1], [1, 9]], [[8, 2], [2, 8]]]])
        >>> accuracy = lambda c: np.trace(c, axis1=-2, axis2=-1) / c.sum(axis=(-2, -1))
        >>> round(differences(counts, ["s1", "s2"], accuracy, np.array([True, True]))[0].value, 3)
        -0.1
    """
    return difference_estimates(group_sums(counts, groups, metric, counted), pairs)


def difference_estimates(sums: GroupSums, pairs: Sequence[tuple[int, int]] | None = None) -> list[Estimate]:
    """Estimate differences of pairs with their intervals, from sums by run and group; see :func:`differences`."""
    first, second = _columns(all_pairs(sums.n_runs) if pairs is None else pairs)
    values, left_out = sums.values(), sums.left_out()
    return _estimates(values[first] - values[second], left_out[first] - left_out[second], sums)


def compare_pairs(
    counts: AnyCounts,
    groups: Groups,
    metric: Metric | CountsMetric,
    counted: Counted,
    *,
    delta: float = 0.01,
    pairs: Sequence[tuple[int, int]] | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[PairEstimate]:
    """Compare all pairs of runs by the one metric named in advance.

    Args:
        counts: As :func:`run_intervals`, the same scenes with the same truth for all runs.
        groups: The group of each scene, ``(S,)``.
        metric: As :func:`run_intervals`.
        counted: Which classes of the legend count, ``(K,)``.
        delta: Differences below this do not matter.
        pairs: Indices of the runs compared, the family that p is adjusted for; ``None`` for all pairs.
        n_resamples: Swaps drawn for each pair; more for pairs at the bound.
        seed: Fixes the draw.
    Returns:
        One result a pair (a, b), in the order of ``pairs``.
    Raises:
        ShapeError: The arrays do not fit together.
        ConfigError: ``delta`` is negative or ``n_resamples`` under 100.
    Example:
        >>> from levelground.metrics.named import parse_metric
        >>> worse, better = [[6, 4], [4, 6]], [[9, 1], [1, 9]]
        >>> both, groups = np.array([True, True]), [f"group {number}" for number in range(8)]
        >>> miou = parse_metric("official.miou", ("a", "b"), both)
        >>> (pair,) = compare_pairs(np.array([[worse] * 8, [better] * 8]), groups, miou, both)
        >>> round(pair.delta, 3), pair.p, pair.verdict.word
        (-0.39, 0.0078125, 'worse')
    """
    if not delta >= 0 or n_resamples < 100:
        raise ConfigError(f"delta is {delta}, n_resamples {n_resamples}; expected at least 0 and at least 100.")
    if counts.shape[0] < 2:
        return []
    sums = group_sums(counts, groups, metric, counted)
    return pair_estimates(sums, delta=delta, pairs=pairs, n_resamples=n_resamples, seed=seed)


def pair_estimates(
    sums: GroupSums,
    *,
    delta: float,
    pairs: Sequence[tuple[int, int]] | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[PairEstimate]:
    """Compare pairs of runs, from sums by run and group; see :func:`compare_pairs`.

    Args:
        sums: Sums by run and group.
        delta: Differences below this do not matter.
        pairs: Indices of the runs compared, the family that p is adjusted for; ``None`` for all pairs.
        n_resamples: Swaps drawn for each pair.
        seed: Fixes the draw.
    """
    chosen = list(all_pairs(sums.n_runs) if pairs is None else pairs)
    if not chosen:
        return []
    first, second = _columns(chosen)
    values, left_out = sums.values(), sums.left_out()
    found, without = values[first] - values[second], left_out[first] - left_out[second]
    deciding = sums.deciding(chosen)
    least, p_min = smallest_p_values(deciding, n_resamples)
    many = sums.n_groups >= 2
    p = swap_p_values(sums, chosen, n_resamples, seed=seed) if many else np.full(len(chosen), np.nan)
    p = np.maximum(p, least)  # swaps that are drawn may miss it by chance where few of many groups decide
    estimates = _estimates(found, without, sums)
    if sums.variance_factor > 1:  # groups of one fold share a model, which swapping groups does not know of
        p = np.maximum(p, [_t_p(estimate) for estimate in estimates])
    return _pair_results(sums, chosen, estimates, p, p_min, deciding, delta=delta)


def all_pairs(n_runs: int) -> list[tuple[int, int]]:
    """Return all pairs of runs, ``(0, 1), (0, 2) … (1, 2) …``."""
    return list(combinations(range(n_runs), 2))


def _pair_results(
    sums: GroupSums,
    pairs: Sequence[tuple[int, int]],
    estimates: Sequence[Estimate],
    p: Scores,
    p_min: Scores,
    deciding: Sequence[int],
    *,
    delta: float,
) -> list[PairEstimate]:
    """Put the estimates, intervals and p values of each pair together."""
    adjusted = holm(p)
    results = []
    for number, ((a, b), found) in enumerate(zip(pairs, estimates, strict=True)):
        p_holm, held = known(adjusted[number]), sums.rested_on(deciding[number])
        result = PairEstimate(
            a=a,
            b=b,
            delta=found.value,
            se=found.se,
            df=found.df,
            interval=found.interval,
            p=known(p[number]),
            p_holm=p_holm,
            p_min=float(p_min[number]),
            verdict=decide(found.interval, p_holm, delta=delta, n_groups=held),
            deciding=deciding[number],
            held=held,
        )
        results.append(result)
    return results


def _t_p(found: Estimate) -> float:
    """Return the p of Student's t of an estimate; NaN where it has no standard error."""
    return np.nan if found.se is None or found.df is None else t_test(found.value, found.se, found.df)


def _estimates(values: Scores, left_out: Scores, sums: GroupSums, *, of_differences: bool = True) -> list[Estimate]:
    """Make estimates of values ``(P,)`` and their values without each group ``(P, G)``."""
    errors, dfs = jackknife(left_out, holders=sums.holders, variance_factor=sums.variance_factor)
    intervals = sums.cut(t_interval(values, errors, dfs), of_differences=of_differences)
    return [
        Estimate(float(value), known(se), float(df) if known(se) is not None else None, ends(interval))
        for value, se, df, interval in zip(values, errors, dfs, intervals, strict=True)
    ]


def _columns(pairs: Sequence[tuple[int, int]]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first and the second members of pairs."""
    table = np.array(pairs, np.intp).reshape(-1, 2)
    return table[:, 0], table[:, 1]
