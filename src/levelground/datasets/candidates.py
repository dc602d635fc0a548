"""Candidates for related scenes: the few pairs among many that are worth a close comparison.

Each search reduces a scene to a short vector and keeps the pairs whose vectors correlate, block by block, so that
neither time nor memory of the close comparison grows with the square of the scenes; what is left of the square is one
product of matrices, a second for 20 000 scenes.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import scipy.stats
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # (n, D), rows of length 1 or 0
Pairs = NDArray[np.int64]  # (m, 2)

FEW = 300  # scenes; all pairs of so few are compared in seconds, and nothing is missed
INVARIANT = 0.5  # correlation of what no turn changes: copies above .9, unlike scenes deviate by .12
SPOTS, SPOT_SIDE, SPOT_RADIUS = (
    16,
    6,
    5,
)  # distinct spots of a thumbnail, side of their description, and their radius, px
SPOT = {1500: 0.85, 10**9: 0.9}  # correlation of two spots, by number of scenes: 6 and 1 % of unlike pairs have one
SAMPLES = 16  # of a border, by channel
LEVEL = 2.0  # deviations of brightness and colour beyond which they say nothing more
NOISE = 1e-3  # share of the largest variance below which a principal component of borders is noise
CHANCE = 0.01  # expected pairs of unlike borders that are taken for neighbours, in all of a search
COARSE = 3.5  # z of borders that are compared closely; neighbours of 128 px and more are above 4
BLOCK = 1024


def correlating_pairs(
    first: Vectors, second: Vectors, least: float, *, ordered: bool
) -> Iterator[tuple[Pairs, Vectors]]:
    """Yield the pairs of rows whose product reaches a value, block by block, with their products.

    Args:
        first: Vectors ``(n, D)``.
        second: Vectors ``(m, D)``.
        least: The smallest product to keep.
        ordered: Keep pairs whose second position is greater than the first, where both are the same scenes.
    """
    for start in range(0, len(first), BLOCK):
        shift = start if ordered else 0
        products = first[start : start + BLOCK] @ second[shift:].T
        near = products >= least
        if ordered:
            near = np.triu(near, k=1)
        places = np.argwhere(near)
        yield places + np.array([start, shift]), products[near]


def _all_pairs(n: int) -> Pairs:
    """Return all pairs of positions, the smaller first."""
    return np.stack(np.triu_indices(n, k=1), axis=1)


def turned_pairs(details: Iterator[NDArray[np.float32]], n: int) -> Pairs:
    """Find pairs that may be alike after a turn or a mirroring.

    The mean of a thumbnail's eight orientations is the same for all of them, so that one product finds them all.

    Args:
        details: Blocks of thumbnails' details, ``(b, 64, 64)``.
        n: Number of scenes; all pairs of :data:`FEW` are taken.
    Returns:
        Positions, the smaller first.
    """
    if n <= FEW:
        return _all_pairs(n)
    made = []
    for block in details:
        small = np.stack(
            [cv2.resize(cv2.GaussianBlur(one, (0, 0), 1.5), (16, 16), interpolation=cv2.INTER_AREA) for one in block]
        )
        both = small + small[:, :, ::-1]
        mean = sum(np.rot90(both, turn, axes=(1, 2)) for turn in range(4))
        made.append(unit_rows(np.ascontiguousarray(mean, np.float32).reshape(len(block), -1)))
    vectors = np.concatenate(made)
    return np.concatenate([pairs for pairs, _ in correlating_pairs(vectors, vectors, INVARIANT, ordered=True)])


def overlapping_pairs(details: Iterator[NDArray[np.float32]], n: int) -> Pairs:
    """Find pairs of thumbnails that have a distinct spot in common, at any place in either.

    Args:
        details: Blocks of thumbnails' details, ``(b, 64, 64)``.
        n: Number of scenes; all pairs of :data:`FEW` are taken.
    Returns:
        Positions, the smaller first.
    """
    if n <= FEW:
        return _all_pairs(n)
    spots = np.concatenate([_spots(one) for block in details for one in block])
    least = next(value for most, value in SPOT.items() if n <= most)
    found: list[NDArray[np.int64]] = []
    for pairs, _ in correlating_pairs(spots, spots, least, ordered=True):
        a, b = np.sort(pairs // SPOTS, axis=1).T
        found.append(np.unique((a * n + b)[a != b]))
    codes = np.unique(np.concatenate(found))
    return np.stack([codes // n, codes % n], axis=1)


def _spots(detail: NDArray[np.float32]) -> Vectors:
    """Describe the most distinct spots of a thumbnail by their surroundings, ``(SPOTS, SPOT_SIDE²)``."""
    smooth, radius = cv2.GaussianBlur(detail, (0, 0), 1.0), SPOT_RADIUS
    height = np.zeros_like(smooth)
    inside = (slice(radius, -radius), slice(radius, -radius))
    height[inside] = np.abs(smooth[inside])
    rows, columns = np.nonzero((height == cv2.dilate(height, np.ones((5, 5)))) & (height > 0))
    made = np.zeros((SPOTS, SPOT_SIDE**2), np.float32)
    for number, spot in enumerate(np.argsort(-height[rows, columns], kind="stable")[:SPOTS]):
        row, column = int(rows[spot]), int(columns[spot])
        around = smooth[row - radius : row + radius + 1, column - radius : column + radius + 1]
        made[number] = cv2.resize(around, (SPOT_SIDE, SPOT_SIDE), interpolation=cv2.INTER_AREA).ravel()
    return unit_rows(made)


def border_vectors(sides: NDArray[np.float32]) -> tuple[Vectors, Vectors]:
    """Reduce borders to vectors whose products say whether one continues in the other.

    Borders are smoothed, sampled, freed of their contrast and, but for a few components, of their brightness, which
    scenes of one kind share, and brought to principal components of variance 1, so that slow changes count for no more
    than they tell.

    Args:
        sides: Borders ``(n, 2, channels, length)``; the second side of a scene may continue in the first of another.
    Returns:
        Vectors of the second sides and of the first, ``(n, D)`` each.
    """
    n, _, channels, length = sides.shape
    smooth = cv2.blur(np.ascontiguousarray(sides.reshape(-1, length)), (3, 1), borderType=cv2.BORDER_REFLECT)
    lines = cv2.resize(smooth, (SAMPLES, len(smooth)), interpolation=cv2.INTER_AREA)
    level = lines.mean(axis=1, keepdims=True)
    borders = (lines - level).reshape(2 * n, channels * SAMPLES).astype(np.float64)
    borders /= np.maximum(borders.std(axis=1, keepdims=True), 1e-6 * max(1.0, float(np.abs(lines).max(initial=0.0))))
    levels = level.reshape(2 * n, channels) / np.maximum(level.reshape(2 * n, channels).std(axis=0), 1e-9)
    borders = np.hstack([borders, np.clip(levels - np.median(levels, axis=0), -LEVEL, LEVEL)])
    borders -= borders.mean(axis=0)
    variance, axes = np.linalg.eigh(borders.T @ borders / len(borders))
    kept = variance > NOISE * max(float(variance.max()), 1e-12)
    values = np.clip(borders @ (axes[:, kept] / np.sqrt(variance[kept])), -3, 3).astype(np.float32)
    vectors = unit_rows(values).reshape(n, 2, -1)
    return np.ascontiguousarray(vectors[:, 1]), np.ascontiguousarray(vectors[:, 0])


def border_pairs(sides: NDArray[np.float32]) -> tuple[Pairs, Vectors]:
    """Find borders that may continue in each other, and how surely: z, in deviations of unlike borders.

    Args:
        sides: As in :func:`border_vectors`.
    Returns:
        Positions of the scene before and the one behind, and Fisher's z of each pair times the root of the components.
    """
    before, behind = border_vectors(sides)
    root = np.sqrt(before.shape[1])
    found = list(correlating_pairs(before, behind, float(np.tanh(COARSE / root)), ordered=False))
    pairs = np.concatenate([places for places, _ in found])
    products = np.concatenate([values for _, values in found])
    apart = pairs[:, 0] != pairs[:, 1]
    z = np.arctanh(np.clip(products[apart].astype(np.float64), -0.9999, 0.9999)) * root
    return pairs[apart], z.astype(np.float32)


def least_z(n: int) -> float:
    """Return the z that :data:`CHANCE` of all ordered pairs of ``n`` unlike scenes reaches.

    Example:
        >>> round(least_z(1000), 1), round(least_z(20_000), 1)
        (5.6, 6.6)
    """
    return float(scipy.stats.norm.isf(CHANCE / max(1, n * n)))


def unit_rows(values: NDArray[np.float32]) -> Vectors:
    """Scale rows to length 1; rows without any variation stay zero, so that they resemble nothing."""
    norm = np.sqrt((values * values).sum(axis=1, keepdims=True))
    return np.where(norm > 1e-3 * np.sqrt(values.shape[1]), values / np.maximum(norm, 1e-12), 0.0).astype(np.float32)
