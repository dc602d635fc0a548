"""Candidates for related scenes: the few pairs among many that are worth a close comparison.

Each search reduces a scene to a short vector and keeps the pairs whose vectors correlate, block by block, so that
neither time nor memory of the close comparison grows with the square of the scenes; what is left of the square are
products of matrices, seconds for 20 000 scenes.
"""

import math
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
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
COARSE = 3.5  # z of borders that are compared closely; neighbours of 128 px and more are above 4
BLOCK = 1 << 21  # values of a product of matrices that are held at once
LEAD = 0.65  # of a border's best match over its second best, where it says no more: both may be black
ALIGNED = 5.0  # evidence where two spots match, averaged over 3 × 3 shifts; 98 % of overlaps are above, others below


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
    step = max(32, BLOCK // max(1, len(second)))
    for start in range(0, len(first), step):
        shift = start if ordered else 0
        products = first[start : start + step] @ second[shift:].T
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


def overlapping_pairs(details: NDArray[np.int8], steps: float) -> Pairs:
    """Find pairs of thumbnails that have a distinct spot in common, at any place in either, and agree around it.

    Args:
        details: Thumbnails' details, ``(n, 64, 64)``, in steps; all pairs of :data:`FEW` are taken.
        steps: Number of steps in a deviation.
    Returns:
        Positions, the smaller first.
    """
    n = len(details)
    if n <= FEW:
        return _all_pairs(n)
    found = [_spots(one.astype(np.float32) / np.float32(steps)) for one in details]
    spots = np.concatenate([vectors for vectors, _ in found])
    places = np.concatenate([place for _, place in found])
    least = next(value for most, value in SPOT.items() if n <= most)
    codes: list[NDArray[np.int64]] = []
    for pairs, _ in correlating_pairs(spots, spots, least, ordered=True):
        scenes = pairs // SPOTS
        shift = places[pairs[:, 1]] - places[pairs[:, 0]] + 64
        codes.append(np.unique(((scenes[:, 0] * n + scenes[:, 1]) * 128 + shift[:, 0]) * 128 + shift[:, 1]))
    every = np.unique(np.concatenate(codes))
    apart = (every >> 14) // n != (every >> 14) % n
    agreed = np.fromiter(_agreements(details, every[apart]), np.float64) >= ALIGNED * steps**2
    chosen = np.unique(every[apart][agreed] >> 14)
    return np.stack([chosen // n, chosen % n], axis=1)


def _agreements(details: NDArray[np.int8], codes: NDArray[np.int64]) -> Iterator[float]:
    """Yield the evidence that two thumbnails agree, each code being a pair and a shift, in order; in steps squared."""
    last, blurred = -1, np.zeros((64, 64), np.float32)
    for both, down, across in zip(
        (codes >> 14).tolist(), ((codes >> 7) % 128 - 64).tolist(), (codes % 128 - 64).tolist(), strict=True
    ):
        a, b = divmod(both, len(details))
        if a != last:
            last, blurred = a, np.asarray(cv2.blur(details[a].astype(np.float32), (3, 3)), np.float32)
        own = blurred[max(0, -down) : 64 - max(0, down), max(0, -across) : 64 - max(0, across)]
        other = details[b][max(0, down) : 64 + min(0, down), max(0, across) : 64 + min(0, across)]
        yield float((own * other).sum()) / math.sqrt(own.size)


def _spots(detail: NDArray[np.float32]) -> tuple[Vectors, NDArray[np.int64]]:
    """Describe the most distinct spots of a thumbnail, ``(SPOTS, SPOT_SIDE²)``, and their places."""
    smooth, radius = cv2.GaussianBlur(detail, (0, 0), 1.0), SPOT_RADIUS
    height = np.zeros_like(smooth)
    inside = (slice(radius, -radius), slice(radius, -radius))
    height[inside] = np.abs(smooth[inside])
    rows, columns = np.nonzero((height == cv2.dilate(height, np.ones((5, 5)))) & (height > 0))
    made, places = np.zeros((SPOTS, SPOT_SIDE**2), np.float32), np.zeros((SPOTS, 2), np.int64)
    for number, spot in enumerate(np.argsort(-height[rows, columns], kind="stable")[:SPOTS]):
        row, column = int(rows[spot]), int(columns[spot])
        around = smooth[row - radius : row + radius + 1, column - radius : column + radius + 1]
        made[number] = cv2.resize(around, (SPOT_SIDE, SPOT_SIDE), interpolation=cv2.INTER_AREA).ravel()
        places[number] = row, column
    return unit_rows(made), places


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


def leading_pairs(sides: NDArray[np.float32]) -> tuple[Pairs, Vectors]:
    """Find borders that fit each other better than either fits any other border, and by how much.

    A distance alone says little: what is smooth, dark or flat fits much else as well. A neighbour stands out from the
    runner-up. It must do so with and without the borders' brightness and colour, which may be rare in a data set.

    Args:
        sides: As in :func:`border_vectors`.
    Returns:
        Positions of the scene before and the one behind, and the logarithm of the second best distance over that of the
        pair, at most :data:`LEAD`.
    """
    n, _, channels, length = sides.shape
    values = sides - sides.mean(axis=(0, 1, 3), keepdims=True)
    level = values.mean(axis=3) * np.float32(np.sqrt(length))  # (n, 2, channels)
    flat = values.reshape(n, 2, channels * length)
    found = [_Nearest(n) for _ in range(2)]
    step = max(32, BLOCK // n)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        distance = _squared_distances(flat[rows, 1], flat[:, 0])
        distance[np.arange(len(distance)), np.arange(rows.start, rows.stop)] = np.inf
        found[0].add(start, distance)
        distance -= _squared_distances(level[rows, 1], level[:, 0])
        found[1].add(start, distance)
    behind = found[0].of_row
    mutual = np.all([(one.of_row == behind) & (one.of_column[behind] == np.arange(n)) for one in found], axis=0)
    pairs = np.stack([np.flatnonzero(mutual), behind[mutual]], axis=1)
    leads = np.min([one.leads(pairs) for one in found], axis=0)
    return pairs, np.minimum(leads, LEAD).astype(np.float32)


def _squared_distances(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared distance of each row of one matrix to each of another."""
    distance = first @ second.T
    distance *= -2
    distance += np.einsum("ij,ij->i", first, first)[:, None]
    distance += np.einsum("ij,ij->i", second, second)
    return distance


class _Nearest:
    """The nearest column of each row of a matrix of distances, that of each column, and the two smallest distances."""

    def __init__(self, n: int) -> None:
        """Begin without any row of ``n``."""
        self.of_row, self.of_column = np.zeros((2, n), np.int64)
        self.row, self.column = np.full((2, 2, n), np.inf, np.float32)

    def add(self, start: int, distance: NDArray[np.float32]) -> None:
        """Take some rows into account; the matrix is as before when this ends."""
        best = distance.argmin(axis=1)
        rows = slice(start, start + len(distance))
        self.of_row[rows] = best
        self.row[:, rows] = _two_smallest(distance, (np.arange(len(best)), best), 1)
        best = distance.argmin(axis=0)
        both = _two_smallest(distance, (best, np.arange(len(best))), 0)
        self.of_column = np.where(both[0] < self.column[0], best + start, self.of_column)
        self.column = np.sort(np.concatenate([self.column, both]), axis=0)[:2]

    def leads(self, pairs: Pairs) -> NDArray[np.float64]:
        """Return how much nearer mutual neighbours are than the runner-up, as the logarithm of a ratio of distances."""
        floor = max(0.01 * float(np.median(self.row[0])), 1e-30)  # what is equal says no more than what is very near
        second = np.minimum(self.row[1][pairs[:, 0]], self.column[1][pairs[:, 1]])
        ratio = np.maximum(second, floor) / np.maximum(self.row[0][pairs[:, 0]], floor)
        return np.asarray(0.5 * np.log(ratio.astype(np.float64)))


def _two_smallest(distance: NDArray[np.float32], places: tuple[Any, Any], axis: int) -> NDArray[np.float32]:
    """Return the smallest value along an axis, whose places are known, and the smallest of the others, ``(2, n)``."""
    least = distance[places]
    distance[places] = np.inf
    second = distance.min(axis=axis)
    distance[places] = least
    return np.stack([least, second])


def unit_rows(values: NDArray[np.float32]) -> Vectors:
    """Scale rows to length 1; rows without any variation stay zero, so that they resemble nothing."""
    norm = np.sqrt((values * values).sum(axis=1, keepdims=True))
    return np.where(norm > 1e-3 * np.sqrt(values.shape[1]), values / np.maximum(norm, 1e-12), 0.0).astype(np.float32)
