"""Drawing sets that look alike: how many groups go where, stratified draws, strips of a raster. Arrays only."""

import math
from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from levelground.errors import SplitError

Content = NDArray[np.int64]  # (groups, classes + 1): pixels of each class, then the number of scenes
Parts = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]  # train, val, test; each (..., groups of the set)

DRAWS = 1024
NEVER_TRAINED = 10.0  # outweighs any imbalance of shares: a class without training pixels cannot be learnt
MANY = 30  # test groups; below, Student's t and the jackknife give wide intervals


def require_three(n: int, what: str) -> None:
    """Stop where there are too few units for three sets.

    Raises:
        SplitError: ``n`` is under 3.
    """
    if n < 3:
        raise SplitError(f"{n} {what}, expected at least 3: one each to train, validate and test. Add scenes.")


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
    best = int(np.argmin(_imbalance(content, draws, counts)))
    return draws[0][best], draws[1][best], draws[2][best]


def strips(
    content: Content, lines: NDArray[np.intp]
) -> Iterator[tuple[float, NDArray[np.int64], tuple[int, int, int]]]:
    """All orders of three strips of lines, one line left out between strips.

    Args:
        content: What each block holds, ``(blocks, classes + 1)``.
        lines: The line that each block lies in, from 0.
    Yields:
        How uneven the sets are, the set of each block (0 train, 1 val, 2 test, -1 left out), and the order of sets.
        Nothing where there are fewer than 5 lines.
    """
    n_lines = int(lines.max()) + 1
    if n_lines < 5:
        return
    counts = group_counts(n_lines - 2)
    for order in ((a, b, c) for a, b, c in permutations((0, 1, 2))):
        which = np.concatenate([np.r_[np.full(counts[part], part), -1] for part in order])[lines]
        train, val, test = (np.flatnonzero(which == part)[None] for part in (0, 1, 2))
        yield float(_imbalance(content, (train, val, test), counts)[0]), which, order


def _imbalance(content: Content, draws: Parts, counts: Sequence[int]) -> NDArray[np.float64]:
    """How far each draw is from an even spread: sum over sets and columns of (share - target)² / target.

    Rounded, so that the last bit of a sum on another machine decides nothing.
    """
    total = content.sum(axis=0)
    shares = content[:, total > 0] / total[total > 0]  # each column sums to 1 over the groups
    score = np.zeros(len(draws[0]))
    for part, count in zip(draws, counts, strict=True):
        target = count / sum(counts)
        share = shares[part].sum(axis=1)  # (draws, columns)
        score += ((share - target) ** 2 / target).sum(axis=1)
    score += NEVER_TRAINED * (shares[draws[0]].sum(axis=1) <= 0).sum(axis=1)
    return np.round(score, 9)
