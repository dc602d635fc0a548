"""Significance: permutation tests of runs, Friedman's and Nemenyi's tests across data sets, and what a test can show.

Letters: R runs, G groups, B swaps, P pairs. Under the null hypothesis two runs are exchangeable within each group, so
each of the 2^G ways to swap their matrices, as if the names did not matter, is as likely as the one seen.

Across data sets, D sets and k models: a data set is one observation. What holds across sets is shown by how alike they
are, not by how many scenes each has.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, nctdtrinc, stdtr, stdtrit

from levelground.metrics.scores import Scores
from levelground.statistics.intervals import ends, t_interval
from levelground.statistics.resampling import GroupSums, exact_swaps, swap_weights

ALPHA = 0.05
"""The adjusted p at which a difference counts as shown."""

POWER = 0.8
"""The share of repetitions in which a true difference should be seen: the usual convention (Cohen 1988)."""

_TIE = 1e-12
"""Differences nearer than this are the same: swaps that give the same matrices round differently."""


REFINED = 5
"""The swap test can give a Holm-adjusted p this many times below .05, whatever the number of pairs."""

FEW = 10
"""Swaps that reach the difference seen, below which a pair is tried with more draws."""

FAR = 8.0
"""Deviations that no swap drawn goes beyond: less than 3e-14 of sums of independent signs do (Hoeffding 1963)."""

NEAR, SCREENED = 0.8, 1 << 10
"""Share of the difference seen that a swap must reach to first order to be scored, and draws looked at at once: of 998
groups 8 MB, which glibc keeps, where blocks of 65 MB are given back to the kernel and cleared anew every time."""


def draws_needed(n_resamples: int, n_pairs: int) -> int:
    """Return how many swaps are drawn for a pair at the bound, so that its adjusted p can be .05 / 5.

    Args:
        n_resamples: B, the draws of every pair.
        n_pairs: Number of pairs tested together.
    Example:
        >>> draws_needed(10_000, 3), draws_needed(10_000, 594)
        (10000, 59400)
    """
    return max(n_resamples, round(REFINED * n_pairs / 0.05))


def swap_p_values(sums: GroupSums, pairs: Sequence[tuple[int, int]], n_resamples: int, *, seed: int) -> Scores:
    """Compute the two-sided p of each pair's difference by swapping its two runs' groups.

    ``p = (1 + b)/(1 + B)`` with b the swaps drawn whose absolute difference reaches the one seen; where all 2^G swaps
    are no more than would be drawn, all are tried and ``p = b / 2^G``, the unswapped one included. Pairs with b < 10
    are drawn on, up to :func:`draws_needed`: with many pairs B draws alone could show nothing. Differences that are
    more than :data:`FAR` deviations of the swaps count as never reached by these.

    Args:
        sums: Sums by run and group; two runs have the same truth.
        pairs: Indices of the runs compared.
        n_resamples: B.
        seed: Fixes the draw, which is the same for all pairs.
    Returns:
        ``(P,)``; NaN where the difference does not exist.
    Source: Phipson & Smyth 2010, Permutation P-values Should Never Be Zero, eq. 2.
    """
    values = sums.values()
    seen = np.array([values[a] - values[b] for a, b in pairs])
    most = draws_needed(n_resamples, len(pairs))
    if exact_swaps(sums.n_groups, most):
        drawn = swap_weights(sums.n_groups, most, seed=seed, chunk=sums.chunk())
        return np.where(np.isnan(seen), np.nan, _count_swaps(sums, pairs, seen, drawn)[0] / 2 ** (sums.n_groups - 1))
    drawn = swap_weights(sums.n_groups, n_resamples, seed=seed, chunk=sums.chunk())
    reached, deviation = _count_swaps(sums, pairs, seen, drawn)
    tried = np.full(len(pairs), n_resamples)
    again: NDArray[np.intp] = np.flatnonzero((reached < FEW) & ~np.isnan(seen))
    if most > n_resamples and len(again):
        tried[again] = most
        near = again[np.abs(seen[again]) <= FAR * deviation[again]]
        more = swap_weights(sums.n_groups, most - n_resamples, seed=[seed, 1], chunk=SCREENED)
        reached[near] += _count_far_swaps(sums, [pairs[number] for number in near], seen[near], more)
    return np.where(np.isnan(seen), np.nan, (1 + reached) / (1 + tried))


def _count_swaps(
    sums: GroupSums, pairs: Sequence[tuple[int, int]], seen: Scores, draws: Iterable[Scores]
) -> tuple[NDArray[np.int64], Scores]:
    """Count the swaps whose absolute difference reaches the one seen, and their root mean square, ``(P,)`` each."""
    totals = sums.totals()
    reached, squares, n = np.zeros(len(pairs), np.int64), np.zeros(len(pairs)), 0
    for weights in draws:
        moved = sums.weighted(weights)
        n += weights.shape[1]
        for number, (a, b) in enumerate(pairs):
            shift = moved[..., b, :] - moved[..., a, :]
            swapped = sums.score(totals[..., a, None] + shift) - sums.score(totals[..., b, None] - shift)
            reached[number] += np.count_nonzero(np.abs(swapped) >= abs(seen[number]) - _TIE)
            squares[number] += float(swapped @ swapped)
    return reached, np.sqrt(squares / max(1, n))


def _count_far_swaps(
    sums: GroupSums, pairs: Sequence[tuple[int, int]], seen: Scores, draws: Iterable[Scores]
) -> NDArray[np.int64]:
    """Count the same where hardly any swap reaches it, ``(P,)``: only those are scored that come near to first order.

    With both runs' mean M and half of their difference in each group d_g, a swap of signs s_g has the difference
    ``f(M + Σ s_g d_g) - f(M - Σ s_g d_g)``, to first order ``Σ s_g (f(M + d_g) - f(M - d_g))``.
    """
    totals, reached = sums.totals(), np.zeros(len(pairs), np.int64)
    slopes = np.empty((len(pairs), sums.n_groups), np.float32)
    for number, (a, b) in enumerate(pairs):
        middle = (totals[..., a, None] + totals[..., b, None]) / 2
        half = (sums.sums[..., a, :] - sums.sums[..., b, :]) / 2
        slopes[number] = sums.score(middle + half) - sums.score(middle - half)
    near = (NEAR * np.abs(seen)).astype(np.float32)[:, None]
    unswapped = slopes.sum(axis=1, keepdims=True)
    for weights in draws if len(pairs) else ():
        chosen = np.abs(unswapped - 2 * (slopes @ weights.astype(np.float32))) >= near
        for number in np.flatnonzero(chosen.any(axis=1)).tolist():
            own, drawn = sums.of_runs(pairs[number]), weights[:, chosen[number]]
            reached[number] += _count_swaps(own, [(0, 1)], seen[number : number + 1], [drawn])[0][0]
    return reached


def smallest_p(n_groups: int, n_resamples: int, n_pairs: int) -> float:
    """Return the smallest Holm-adjusted p that any difference could reach.

    It is the number of pairs times max(2/2^G, 1/(1 + B)), with B the draws of a pair at the bound.

    Args:
        n_groups: G.
        n_resamples: The draws of every pair; :func:`draws_needed` of them where a pair is at the bound. Where all 2^G
            swaps are no more, all are tried and only 2/2^G counts.
        n_pairs: Number of pairs tested.
    Returns:
        The bound, at most 1.
    Example:
        >>> smallest_p(5, 10_000, 3), smallest_p(81, 9_999, 1), round(smallest_p(142, 10_000, 594), 4)
        (0.1875, 0.0001, 0.01)
    """
    return min(1.0, _least_p(n_groups, n_resamples, n_pairs) * n_pairs)


def smallest_p_values(n_groups: Sequence[int], n_resamples: int) -> tuple[Scores, Scores]:
    """Return the smallest p, and the smallest Holm-adjusted p, that the difference of each pair could reach.

    Args:
        n_groups: The groups that decide on the difference of each pair, ``(P,)``.
        n_resamples: As :func:`smallest_p`.
    Example:
        >>> [found.tolist() for found in smallest_p_values([5, 6], 10_000)]
        [[0.0625, 0.03125], [0.0625, 0.0625]]
    """
    least = np.array([min(1.0, _least_p(n, n_resamples, len(n_groups))) for n in n_groups])
    return least, holm(least)  # an adjusted p falls with none of the others


def _least_p(n_groups: int, n_resamples: int, n_pairs: int) -> float:
    """Return the smallest p that the swap test can give before it is adjusted."""
    least, most = 2.0 / 2.0 ** min(n_groups, 1000), draws_needed(n_resamples, n_pairs)
    return least if exact_swaps(n_groups, most) else max(least, 1 / (1 + most))


def holm(p_values: Scores) -> Scores:
    """Adjust p values of a family for having tested them all.

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j ≤ i, at most 1.

    Args:
        p_values: ``(P,)``; NaN is not a member of the family.
    Returns:
        Adjusted values in the same order.
    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    known: NDArray[np.intp] = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(p_values.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def detectable_difference(se: float, df: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """Compute the smallest true difference that a two-sided t test shows in a share ``power`` of repetitions.

    Args:
        se: Standard error of the difference.
        df: Its degrees of freedom.
        alpha: Level of the test.
        power: The share wanted.
    Returns:
        ``c · SE``, c the noncentrality at which T exceeds t(1 - α/2, df) with probability ``power``; the other tail
        has less than 1e-6.
    Example:
        >>> round(detectable_difference(1.0, 1e6), 3), round(detectable_difference(1.0, 4.0), 3)
        (2.802, 3.761)
    """
    return float(nctdtrinc(df, 1 - power, stdtrit(df, 1 - alpha / 2)) * se)


@dataclass(frozen=True)
class MeanDifference:
    """Mean over data sets of the difference of two models.

    Attributes:
        delta: The mean of D differences, every set counted once.
        se: Its standard error over sets; ``None`` with one set.
        interval: Its 95 % interval; ``None`` with one set.
        p: Two-sided p of no difference; ``None`` with one set.
        detectable: The smallest true mean difference that as many sets like these show in 80 % of repetitions.
    """

    delta: float
    se: float | None
    interval: tuple[float, float] | None
    p: float | None
    detectable: float | None


def mean_difference(deltas: ArrayLike, ses: Sequence[float | None], *, most: float = np.inf) -> MeanDifference:
    """Estimate the mean difference of two models over data sets, with an interval over sets, groups within set.

    ``SE² = max(s²/D, mean(SE_d²)/D)``, D - 1 degrees of freedom: s² is the variance of the D differences, which holds
    the groups' part already; where by chance they are more alike than their groups allow, the groups' part alone is
    taken.

    Args:
        deltas: The difference in each set, ``(D,)``.
        ses: Its standard error over the groups of that set, ``(D,)``; ``None`` where a set has too few groups.
        most: The largest difference that two scores can have; the interval is cut there.
    Returns:
        The estimate.
    Example:
        >>> found = mean_difference([0.02, 0.05, 0.02], [0.01, 0.01, None])
        >>> round(found.delta, 3), [round(end, 3) for end in found.interval], round(found.p, 3)
        (0.03, [-0.013, 0.073], 0.095)
    """
    values = np.asarray(deltas, np.float64)
    n = len(values)
    mean = float(values.mean())
    if n < 2:
        return MeanDifference(mean, None, None, None, None)
    within = [se**2 for se in ses if se is not None]
    variance = max(float(values.var(ddof=1)), float(np.mean(within)) if within else 0.0) / n
    if variance == 0:  # the same difference in every set and no groups: nothing says how sure it is
        return MeanDifference(mean, 0.0, None, None, None)
    se = float(np.sqrt(variance))
    interval = ends(np.clip(t_interval(np.array(mean), np.array(se), n - 1), -most, most))
    p = float(2 * stdtr(n - 1, -abs(mean / se)))
    return MeanDifference(mean, se, interval, p, detectable_difference(se, n - 1))


def set_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Rank the models within each data set, 1 for the highest value; ties share their mean rank.

    Args:
        values: ``(D, k)``.
    Returns:
        ``(D, k)``.
    Example:
        >>> set_ranks([[0.5, 0.7, 0.5]]).tolist()
        [[2.5, 1.0, 2.5]]
    """
    table = np.asarray(values, np.float64)
    above = (table[:, None, :] > table[:, :, None]).sum(axis=-1)
    tied = (table[:, None, :] == table[:, :, None]).sum(axis=-1)
    return np.asarray(above + (tied + 1) / 2, np.float64)


@dataclass(frozen=True)
class MeanRank:
    """Mean rank of a model over data sets, with its 95 % interval over sets; ``None`` where ranks never differ."""

    value: float
    interval: tuple[float, float] | None


def mean_ranks(ranks: Scores) -> list[MeanRank]:
    """Average ranks over data sets, with Student's t intervals cut at 1 and k.

    The variance of a model's ranks is its own or the mean of all models', whichever is larger: with few sets, a rank
    that happens to be the same in each says little.

    Args:
        ranks: ``(D, k)``, as :func:`set_ranks` gives them.
    Example:
        >>> [(one.value, one.interval) for one in mean_ranks(np.array([[1.0, 2.0], [1.0, 2.0]]))]
        [(1.0, None), (2.0, None)]
    """
    n, k = ranks.shape
    means = ranks.mean(axis=0)
    if n < 2:
        return [MeanRank(float(mean), None) for mean in means]
    own = ranks.var(axis=0, ddof=1)
    se = np.sqrt(np.maximum(own, own.mean()) / n)
    intervals = np.clip(t_interval(means, se, n - 1), 1, k)
    shown = bool(own.any())
    return [
        MeanRank(float(mean), ends(interval) if shown else None)
        for mean, interval in zip(means, intervals, strict=True)
    ]


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of equal mean ranks, and what Nemenyi's test of pairs could show.

    Attributes:
        statistic: Friedman's χ² with the correction for ties.
        p: Its p by the χ² distribution with k - 1 degrees of freedom, rough below about ten sets.
        critical_difference: Mean ranks that lie this far apart differ by Nemenyi's test at level .05.
        pairs: Nemenyi's p of each pair, ``(k, k)``, 1 on the diagonal.
        sets_needed: Sets with which models one rank apart in every set would differ by Nemenyi's test.
    """

    statistic: float
    p: float
    critical_difference: float
    pairs: NDArray[np.float64]
    sets_needed: int


def friedman(ranks: Scores) -> Friedman | None:
    """Test whether k ≥ 3 models have equal mean ranks over D ≥ 2 sets, and all pairs after Nemenyi.

    ``χ² = 12 D/(k (k + 1)) Σ_j (R_j - (k + 1)/2)²``, divided by ``1 - Σ(t³ - t)/(D k (k² - 1))`` for ties of t models.
    ``CD = q √(k (k + 1)/(6 D))``, q the studentized range of k means with infinite degrees of freedom over √2.

    Args:
        ranks: ``(D, k)``.
    Returns:
        The tests; ``None`` with fewer models or sets, or where all models tie in every set.
    Source: Demšar 2006, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, section 3.2.2; ties as
        in Hollander & Wolfe 1999, eq. 7.8.
    Example:
        >>> found = friedman(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0]]))
        >>> round(found.statistic, 3), round(found.p, 3), round(found.critical_difference, 3), found.sets_needed
        (4.5, 0.105, 1.657, 11)
    """
    from scipy.stats import studentized_range  # a second to import, and only benchmarks ask for it

    n, k = ranks.shape
    ties = sum(float((count**3 - count).sum()) for count in (np.unique(row, return_counts=True)[1] for row in ranks))
    correction = 1 - ties / (n * k * (k**2 - 1))
    if n < 2 or k < 3 or correction <= 0:
        return None
    means = ranks.mean(axis=0)
    statistic = 12 * n / (k * (k + 1)) * float(((means - (k + 1) / 2) ** 2).sum()) / correction
    unit = np.sqrt(k * (k + 1) / (6 * n))
    q = float(studentized_range.ppf(1 - ALPHA, k, np.inf)) / np.sqrt(2)
    apart = np.abs(means[:, None] - means[None, :])
    pairs = np.clip(studentized_range.sf(apart / unit * np.sqrt(2), k, np.inf), 0, 1)
    pairs[apart == 0] = 1.0
    needed = int(np.ceil(q**2 * k * (k + 1) / 6))
    return Friedman(statistic, float(chdtrc(k - 1, statistic)), float(q * unit), np.asarray(pairs), needed)
