"""Permutation tests: two runs' matrices are swapped group by group, as if the names did not matter.

Letters: R runs, G groups, B swaps, P pairs. Under the null hypothesis the two runs are exchangeable within each group,
so each of the 2^G ways to swap their matrices is as likely as the one seen.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from levelground.metrics.scores import Scores
from levelground.statistics.resampling import GroupSums, exact_swaps, swap_weights

_TIE = 1e-12
"""Differences nearer than this are the same: swaps that give the same matrices round differently."""


def swap_p_values(sums: GroupSums, pairs: Sequence[tuple[int, int]], n_resamples: int, *, seed: int) -> Scores:
    """Compute the two-sided p of each pair's difference by swapping its two runs' groups.

    ``p = (1 + b)/(1 + B)`` with b the swaps drawn whose absolute difference reaches the one seen; where 2^G ≤ B, all
    are tried and ``p = b / 2^G``, the unswapped one included.

    Args:
        sums: Sums by run and group; two runs have the same truth.
        pairs: Indices of the runs compared.
        n_resamples: B.
        seed: Fixes the draw, which is the same for all pairs.
    Returns:
        ``(P,)``; NaN where the difference does not exist.
    Source: Phipson & Smyth 2010, Permutation P-values Should Never Be Zero, eq. 2.
    """
    totals, values = sums.totals(), sums.values()
    seen = np.array([values[a] - values[b] for a, b in pairs])
    reached, tried = np.zeros(len(pairs), np.int64), 0
    for weights in swap_weights(sums.n_groups, n_resamples, seed=seed, chunk=sums.chunk()):
        moved = sums.weighted(weights)
        tried += weights.shape[1]
        for number, (a, b) in enumerate(pairs):
            shift = moved[..., b, :] - moved[..., a, :]
            swapped = sums.score(totals[..., a, None] + shift) - sums.score(totals[..., b, None] - shift)
            reached[number] += np.count_nonzero(np.abs(swapped) >= abs(seen[number]) - _TIE)
    exact = exact_swaps(sums.n_groups, n_resamples)
    p = reached / tried if exact else (1 + reached) / (1 + tried)
    return np.where(np.isnan(seen), np.nan, p)


def smallest_p(n_groups: int, n_resamples: int, n_pairs: int) -> float:
    """Return the smallest Holm-adjusted p that any difference could reach.

    It is the number of pairs times max(2/2^G, 1/(1 + B)).

    Args:
        n_groups: G.
        n_resamples: B; where 2^G ≤ B all swaps are tried and only 2/2^G counts.
        n_pairs: Number of pairs tested.
    Returns:
        The bound, at most 1.
    Example:
        >>> smallest_p(5, 10_000, 3), smallest_p(81, 9_999, 1)
        (0.1875, 0.0001)
    """
    least = 2.0 / 2.0 ** min(n_groups, 1000)
    if not exact_swaps(n_groups, n_resamples):
        least = max(least, 1 / (1 + n_resamples))
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
