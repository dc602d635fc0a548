"""Drawing sets that look alike: how many groups go where, stratified draws, strips of a raster. Arrays only."""

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from levelground.errors import SplitError

Content = NDArray[np.int64]  # (groups, classes + 1): pixels of each class, then the number of scenes
Parts = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]  # train, val, test; each (..., groups of the set)

DRAWS = 1024
NEVER_TRAINED = 10.0  # outweighs any imbalance of shares: a class without training pixels cannot be learnt
EMPTY = 1000.0  # a set without scenes is no set
MANY = 30  # test groups; below, Student's t and the jackknife give wide intervals


def require_three(n: int, what: str) -> None:
    """Stop where there are too few units for three sets.

    Raises:
        SplitError: ``n`` is under 3.
    """
    if n < 3:
        more = ", or choose other --groups" if "groups" in what else ""
        raise SplitError(f"{n} {what}, expected at least 3: one each to train, validate and test. Add scenes{more}.")


def group_counts(n_groups: int) -> tuple[int, int, int]:
    """How many groups train, validate and test by default.

    Test gets a fifth, and up to 30 groups as long as these are no more than three tenths, because intervals rest on the
    number of test groups. Validation only selects; a tenth is enough.

    Args:
        n_groups: Number of groups, at least 3.
    Raises:
        SplitError: Fewer than 3 groups.
    Example:
        >>> group_counts(3), group_counts(9), group_counts(100), group_counts(800)
        ((1, 1, 1), (5, 1, 3), (60, 10, 30), (560, 80, 160))
    """
    require_three(n_groups, "groups of scenes")
    test = max(math.ceil(0.2 * n_groups), min(math.ceil(0.3 * n_groups), MANY))
    val = max(1, round(0.1 * n_groups))
    return n_groups - test - val, val, test


def draw_groups(content: Content, counts: Sequence[int], *, seed: int) -> Parts:
    """The best of :data:`DRAWS` random draws of groups into train, val and test.

    Args:
        content: What each group holds, ``(groups, classes + 1)``.
        counts: Number of groups for train, val and test; their sum is the number of groups.
        seed: From 0 to 2**32 - 1.
    Returns:
        Indices of the groups of each set.
    """
    # RandomState's stream is frozen for good (NEP 19), so a seed names the same split under every NumPy.
    order = np.argsort(np.random.RandomState(seed).random_sample((DRAWS, len(content))), axis=1)
    n_val, n_test = counts[1], counts[2]
    draws = order[:, n_test + n_val :], order[:, n_test : n_test + n_val], order[:, :n_test]
    best = int(np.argmin(_unevenness([content[draw].sum(axis=1) for draw in draws], counts)))
    return draws[0][best], draws[1][best], draws[2][best]


def strips(content: Content, lines: NDArray[np.intp]) -> tuple[float, NDArray[np.int64], tuple[int, int, int]] | None:
    """The best three strips of lines, with one line left out between strips.

    Every pair of borders and every order of the sets is tried.

    Args:
        content: What each block holds, ``(blocks, classes + 1)``.
        lines: The line that each block lies in, from 0.
    Returns:
        How uneven the sets are, the set of each block (0 train, 1 val, 2 test, -1 left out), and the order of sets;
        ``None`` where there are fewer than 5 lines.
    """
    n_lines = int(lines.max()) + 1
    first, second = (1 + index for index in np.triu_indices(n_lines - 2, k=2))  # the two lines left out
    if not len(first):
        return None
    by_line = np.zeros((n_lines + 1, content.shape[1]), np.int64)
    np.add.at(by_line, lines + 1, content)
    before = by_line.cumsum(axis=0)  # content of the lines above each line
    sums = before[first], before[second] - before[first + 1], before[-1] - before[second + 1]
    counts = group_counts(max(3, len(content)))
    orders = [(a, b, c) for a, b, c in permutations((0, 1, 2))]
    scores = np.stack([_unevenness([sums[order.index(part)] for part in range(3)], counts) for order in orders])
    best, border = np.unravel_index(int(scores.argmin()), scores.shape)
    ends = np.array([first[border], second[border]])
    which = np.array(orders[best])[np.searchsorted(ends, lines)]
    return float(scores[best, border]), np.where(np.isin(lines, ends), -1, which), orders[best]


def _unevenness(sums: Sequence[NDArray[np.int64]], counts: Sequence[int]) -> NDArray[np.float64]:
    """How far each candidate is from an even spread.

    For each class the sum over sets of (share - target)² / target, and for the number of scenes of ((share - target) /
    target)², as often as there are classes: a set of half its size weighs the same whichever it is. ``sums`` holds what
    train, val and test got, each ``(candidates, columns)``. Rounded, so that the last bit of a sum on another machine
    decides nothing.
    """
    got = np.stack(sums).astype(np.float64)  # (3, candidates, columns)
    total = got.sum(axis=0)
    target = (np.array(counts) / sum(counts))[:, None, None]
    off = np.where(total > 0, got / np.maximum(total, 1.0) - target, 0.0)
    score = (off[:, :, :-1] ** 2 / target).sum(axis=(0, 2))
    score += (got.shape[2] - 1) * (off[:, :, -1] ** 2 / target[:, :, 0] ** 2).sum(axis=0)
    score += NEVER_TRAINED * ((got[0] <= 0) & (total > 0)).sum(axis=1)
    score += EMPTY * (got[:, :, -1] <= 0).sum(axis=0)
    return np.asarray(np.round(score, 9))
