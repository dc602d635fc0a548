"""Permutation tests: two runs' matrices are swapped group by group, as if the names did not matter.

Letters: R runs, G groups, B swaps, P pairs. Under the null hypothesis the two runs are exchangeable within each group,
so each of the 2^G ways to swap their matrices is as likely as the one seen.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from levelground.metrics.scores import Scores
from levelground.statistics.resampling import GroupSums, exact_swaps, swap_weights

_TIE = 1e-12
"""Differences nearer than this are the same: swaps that give the same matrices round differently."""


REFINED = 5
"""The swap test can give a Holm-adjusted p this many times below .05, whatever the number of pairs."""

FEW = 10
"""Swaps that reach the difference seen, below which a pair is tried with more draws."""

FAR = 8.0
"""Deviations that no swap drawn goes beyond: less than 3e-14 of sums of independent signs do (Hoeffding 1963)."""

NEAR, SCREENED = 0.8, 1 << 13
"""Share of the difference seen that a swap must reach to first order to be scored, and draws looked at at once."""


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
    least, most = 2.0 / 2.0 ** min(n_groups, 1000), draws_needed(n_resamples, n_pairs)
    if not exact_swaps(n_groups, most):
        least = max(least, 1 / (1 + most))
    return min(1.0, least * n_pairs)


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
