"""Candidates for related scenes: the few pairs among many that are worth a close comparison.

Each search reduces a scene to a short vector and keeps the pairs whose vectors correlate, block by block, so that
neither time nor memory of the close comparison grows with the square of the scenes; what is left of the square are
products of matrices, seconds for 20 000 scenes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from levelground.datasets.fingerprints import grey_step, line_channels

Vectors = NDArray[np.float32]  # (n, D), rows of length 1 or 0
Pairs = NDArray[np.int64]  # (m, 2)

FEW = 300  # scenes; all pairs of so few are compared in seconds, and nothing is missed
INVARIANT = 0.5  # correlation of what no turn changes: copies above .9, unlike scenes deviate by .12
SPOTS, SPOT_SIDE, SPOT_RADIUS = 16, 6, 5  # distinct spots of a thumbnail, side of their description, their radius, px
SPOT = {1500: 0.85, 10**9: 0.9}  # correlation of two spots, by number of scenes: 6 and 1 % of unlike pairs have one
SAMPLES = 16  # of a border, by channel
LEVEL = 2.0  # deviations of brightness and colour beyond which they say nothing more
NOISE = 1e-3  # share of the largest variance below which a principal component of borders is noise
COARSE = 3.5  # z of borders that are compared closely; neighbours of 128 px and more are above 4
BLOCK = 1 << 21  # values of a product of matrices that are held at once
TILE = 1 << 10  # rows and columns of a part of a matrix that stays in the processor's cache
RIDGE, LEAST_R = 1e-3, 0.1  # share of the variance that is noise at least; correlations of lines that tell something
LEARNT = 4000  # scenes that teach what lines that continue each other have in common
LIKELY, SURE, DOUBT = 30.0, 35.0, 3.0  # nats of lines that continue each other, beyond which more says no more, and the
# weight of what is missing: of 200 neighbours 195 are above 24, others that lead by chance mostly below 27
LEAD, MOST_LEAD = 3.0, 24.0  # nats over the runner-up at least, and what brightness and colour may add to them
CODED, CODED_MARGIN = 20.0, 25.0  # nats, where colour coded coarsely makes borders less alike than lines within scenes
SHAPE, MISFIT = 2.0, 30.0  # weights of the lead without brightness and colour, and of the misfit
TURN = 20.0  # nats for each deviation, beyond what is usual, by which structures turn where lines meet
FITS = 0.99  # of lines within scenes are nearer than what is called a misfit
ALIGNED = 5.0  # evidence where two spots match, averaged over 3 × 3 shifts; 98 % of overlaps are above, others below


def correlating_pairs(first: Vectors, second: Vectors, least: float, *, ordered: bool) -> Iterator[Pairs]:
    """Yield the pairs of rows whose product reaches a value, block by block.

    Args:
        first: Vectors ``(n, D)``.
        second: Vectors ``(m, D)``.
        least: The smallest product to keep.
        ordered: Keep pairs whose second position is greater than the first, where both are the same scenes.
    """
    step = max(32, BLOCK // max(1, len(second)))
    for start in range(0, len(first), step):
        shift = start if ordered else 0
        near = first[start : start + step] @ second[shift:].T >= least
        if ordered:
            near = np.triu(near, k=1)
        yield np.argwhere(near) + np.array([start, shift])


def _all_pairs(n: int) -> Pairs:
    """Return all pairs of positions, the smaller first."""
    return np.stack(np.triu_indices(n, k=1), axis=1)


def turned_pairs(small: NDArray[np.float32]) -> Pairs:
    """Find pairs that may be alike after a turn or a mirroring.

    The mean of a thumbnail's eight orientations is the same for all of them, so that one product finds them all.

    Args:
        small: Thumbnails ``(n, 16, 16)``; all pairs of :data:`FEW` are taken.
    Returns:
        Positions, the smaller first.
    """
    n = len(small)
    if n <= FEW:
        return _all_pairs(n)
    vectors = np.empty((n, small[0].size), np.float32)
    for start in range(0, n, 512):
        both = small[start : start + 512] + small[start : start + 512, :, ::-1]
        mean = np.sum([np.rot90(both, turn, axes=(1, 2)) for turn in range(4)], axis=0)
        vectors[start : start + 512] = unit_rows(mean.reshape(len(both), -1))
    return np.concatenate(list(correlating_pairs(vectors, vectors, INVARIANT, ordered=True)))


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
    for pairs in correlating_pairs(spots, spots, least, ordered=True):
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


def border_pairs(sides: NDArray[np.float32]) -> Pairs:
    """Find borders that may continue in each other: Fisher's z times the root of the components reaches a value.

    Args:
        sides: As in :func:`border_vectors`.
    Returns:
        Positions of the scene before and the one behind.
    """
    before, behind = border_vectors(sides)
    least = float(np.tanh(COARSE / np.sqrt(before.shape[1])))
    pairs = np.concatenate(list(correlating_pairs(before, behind, least, ordered=False)))
    apart: Pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return apart


@dataclass(frozen=True)
class _Continuation:
    """What two lines next to each other have in common, learnt from the middles of scenes, where they surely are.

    Lines are a stationary Gaussian process with a jump of noise between neighbours: at each frequency channels are
    brought to components of variance 1 of which each correlates with its own alone (canonical correlations, Hotelling
    1936). The logarithm of the likelihood of two lines as neighbours over that as strangers is then a sum over
    components (PLDA: Prince & Elder 2007).
    """

    mean: NDArray[np.float32]  # (channels, length)
    axes: NDArray[np.float32]  # (length, channels, channels)
    kept: NDArray[np.bool_]  # (length, channels)
    r: Vectors  # (D,) correlations of the components that are kept, by frequency

    @classmethod
    def learn(cls, before: Vectors, behind: Vectors) -> "_Continuation":
        """Learn from neighbouring lines, ``(n, channels, length)`` each."""
        both = np.concatenate([before, behind])
        mean = both.mean(axis=0)
        a, b = ((lines - mean).transpose(2, 0, 1).astype(np.float64) for lines in (before, behind))
        own = (a.transpose(0, 2, 1) @ a + b.transpose(0, 2, 1) @ b) / len(both)
        shared = (a.transpose(0, 2, 1) @ b + b.transpose(0, 2, 1) @ a) / len(both)
        trace = np.trace(own, axis1=1, axis2=2) / own.shape[1]
        own += (RIDGE * np.maximum(trace, RIDGE * max(float(trace.max()), 1e-12)))[:, None, None] * np.eye(own.shape[1])
        variance, axes = np.linalg.eigh(own)
        white = axes / np.sqrt(variance)[:, None]
        r, turned = np.linalg.eigh(white.transpose(0, 2, 1) @ shared @ white)
        r = np.clip(r, 0.0, 0.999)
        kept = r > LEAST_R
        return cls(mean, (white @ turned).astype(np.float32), kept, r[kept].astype(np.float32))

    def components(self, lines: Sequence[NDArray[Any]]) -> Vectors:
        """Return the components of n pairs of lines ``(2, length, bands)``, clipped at four deviations, ``(n, D)``."""
        made = np.empty((len(lines), len(self.r)), np.float32)
        for start in range(0, len(lines), 512):
            departure = _spectrum(line_channels(np.stack(lines[start : start + 512]))) - self.mean
            values = np.einsum("ncl,lcd->nld", departure, self.axes, optimize=True)
            made[start : start + 512] = np.clip(values[:, self.kept], -4.0, 4.0)
        return made


def lines_that_meet(lines: Sequence[NDArray[Any]], pairs: Pairs) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the lines of the scenes before at their last border, and of those behind at their first."""
    if not len(pairs):
        return lines[0][:0], lines[0][:0]
    return np.stack([lines[a][1] for a in pairs[:, 0]]), np.stack([lines[b][0] for b in pairs[:, 1]])


class Continued:
    """Lines at borders that continue each other better than either continues any other line.

    How likely two lines are neighbours says little alone: what is smooth, dark or flat fits much else as well. So the
    score of a pair is by how much it is likelier than either with any other, as far as brightness and colour may tell,
    and twice the same without these, which scenes of one place share, less what lines depart where they meet, and
    less what structures turn there.

    ``pairs`` holds positions of the scene before and the one behind, ``score`` nats, and ``sound`` whether the lines
    also fit: they depart little, lead, and are likely.
    """

    def __init__(self, lines: Sequence[NDArray[Any]]) -> None:
        """Search lines ``(4, 2, length, bands)``, as :class:`~levelground.datasets.fingerprints.Fingerprint` has."""
        some = lines[:: -(-len(lines) // LEARNT)]
        before, behind = (line_channels(np.stack([one[side] for one in some])) for side in (2, 3))
        first = _Search(lines, before, behind, least=-np.inf)
        coded = _Search(lines, *_as_at_borders(before, behind), least=CODED)
        self._searches = (first, 0.0), (coded, CODED_MARGIN)
        every = np.concatenate([search.leading() for search, _ in self._searches])
        found = []
        for search, margin in self._searches:
            pairs = search.leading()
            found.append((search.scores(*lines_that_meet(lines, pairs), pairs), margin))
        scores = np.concatenate([score - np.float32(margin) for (score, _), margin in found])
        sound = np.concatenate([fit for (_, fit), _ in found])
        best = np.lexsort((-scores, ~sound))
        _, kept = np.unique(every[best], axis=0, return_index=True)
        self.pairs, self.score, self.sound = every[best][kept], scores[best][kept], sound[best][kept]

    def scores(self, before: NDArray[Any], behind: NDArray[Any], pairs: Pairs) -> Vectors:
        """Return the score of any pairs, given their lines too; below 0 where others fit far better."""
        every = [search.scores(before, behind, pairs)[0] - np.float32(margin) for search, margin in self._searches]
        return np.asarray(np.maximum(*every), np.float32)


class _Search:
    """Pairs of lines, by what those before and behind the middles of scenes have in common."""

    def __init__(self, lines: Sequence[NDArray[Any]], before: Vectors, behind: Vectors, *, least: float) -> None:
        """Compare all lines; those that fit have this likelihood at least."""
        self._least, self._limit = least, max(float(np.quantile(_misfit(before, behind), FITS)), 1e-12)
        usual = _turn(before, behind)
        self._straight, self._turns = np.median(usual), max(float(usual.std()), 1e-6)
        self._model = model = _Continuation.learn(_spectrum(before), _spectrum(behind))
        self._level = np.nonzero(model.kept)[0] == 0  # frequency 0: brightness and colour
        self._weight = model.r / (1 - model.r**2)
        x, y = (model.components([one[side] for one in lines]) for side in (1, 0))
        self._whole, self._shape = _best_partners(x, y, model.r, self._weight, self._level)

    def leading(self) -> Pairs:
        """Return lines that are each other's likeliest."""
        of_row, of_column = self._whole.of_row, self._whole.of_column
        every = np.arange(len(of_row))
        found: Pairs = np.stack([every, of_row], axis=1)[of_column[of_row] == every]
        return found

    def scores(self, before: NDArray[Any], behind: NDArray[Any], pairs: Pairs) -> tuple[Vectors, NDArray[np.bool_]]:
        """Return the score of pairs, given their lines too, and whether they fit."""
        some = [slice(start, start + 512) for start in range(0, max(1, len(pairs)), 512)]
        found = [self._some_scores(before[one], behind[one], pairs[one]) for one in some]
        scores, fit = (np.concatenate(column) for column in zip(*found, strict=True))
        return scores, fit

    def _some_scores(
        self, before: NDArray[Any], behind: NDArray[Any], pairs: Pairs
    ) -> tuple[Vectors, NDArray[np.bool_]]:
        model, level, weight = self._model, self._level, self._weight
        first, second = model.components([*before]), model.components([*behind])
        before, behind = line_channels(before), line_channels(behind)
        depart = _misfit(before, behind) / self._limit
        turned = np.maximum(_turn(before, behind) - self._straight, 0) / self._turns
        likely = _evidences(first, second, model.r, weight)
        shape = _evidences(first[:, ~level], second[:, ~level], model.r[~level], weight[~level])
        lead = self._whole.margins(pairs, likely)
        score = np.minimum(lead, MOST_LEAD) + DOUBT * (np.minimum(likely, SURE) - LIKELY) - MISFIT * depart
        score += SHAPE * self._shape.margins(pairs, shape) - TURN * turned
        fit = (depart <= 1) & (lead >= LEAD) & (likely >= self._least)
        return np.asarray(score, np.float32), fit


def _best_partners(
    x: Vectors, y: Vectors, r: Vectors, weight: Vectors, level: NDArray[np.bool_]
) -> tuple["_Best", "_Best"]:
    """Find which lines of each side are likeliest to continue which, with brightness and colour and without."""
    n = len(x)
    best = _Best(n), _Best(n)
    for start in range(0, n, TILE):
        rows = slice(start, start + TILE)
        for beginning in range(0, n, TILE):
            columns = slice(beginning, beginning + TILE)
            evidence = _evidence(x[rows], y[columns], r, weight)
            if start == beginning:
                np.fill_diagonal(evidence, -np.inf)
            best[0].add(start, beginning, evidence)
            evidence -= _evidence(x[rows][:, level], y[columns][:, level], r[level], weight[level])
            best[1].add(start, beginning, evidence)
    return best


def _as_at_borders(before: Vectors, behind: Vectors) -> tuple[Vectors, Vectors]:
    """Undo in lines within scenes what makes them more alike than lines at borders can be.

    JPEG stores colour at half the resolution, and decoders mix a quarter of the next value into each, but at borders.
    """
    made = before.copy(), behind.copy()
    for own, one, other in ((made[0], before, behind), (made[1], behind, before)):
        own[:, 2::2] = 1.5 * one[:, 2::2] - 0.5 * other[:, 2::2]  # the nearest line of each channel but brightness
    return made


def _spectrum(lines: Vectors) -> Vectors:
    """Return the cosine transform along lines."""
    return np.asarray(scipy.fft.dct(lines, norm="ortho"), np.float32)


def _evidence(first: Vectors, second: Vectors, r: Vectors, weight: Vectors) -> Vectors:
    """Return the log likelihood ratio of each row of one matrix with each of another, ``(n, m)``, as one product."""
    own, other = (-0.5 * (values**2 @ (r * weight))[:, None] for values in (first, second))
    own -= np.float32(0.5 * np.log(1 - r**2).sum())
    left = np.hstack([first * weight, own, np.ones_like(own)])
    return np.asarray(left @ np.hstack([second, np.ones_like(other), other]).T, np.float32)


def _evidences(first: Vectors, second: Vectors, r: Vectors, weight: Vectors) -> Vectors:
    """Return the log likelihood ratio of each row of one matrix with the same row of another, ``(n,)``."""
    total = (first * second) @ weight - 0.5 * ((first**2 + second**2) @ (r * weight)) - 0.5 * np.log(1 - r**2).sum()
    return np.asarray(total, np.float32)


def _misfit(before: Vectors, behind: Vectors) -> Vectors:
    """Return how far lines depart where they meet, in units of how much they change nearby, ``(n,)``."""
    n, _, length = before.shape
    a, b = (lines.reshape(n, -1, 2, length) for lines in (before, behind))
    apart = 1.5 * (a[:, :, 0] - b[:, :, 0]) - 0.5 * (a[:, :, 1] - b[:, :, 1])
    change = (a[:, :, 0] - a[:, :, 1]) ** 2 + (b[:, :, 0] - b[:, :, 1]) ** 2
    nearby = cv2.blur(change.reshape(-1, length), (15, 1), borderType=cv2.BORDER_REFLECT).reshape(apart.shape)
    units = apart / np.sqrt(nearby + grey_step(before) ** 2)
    total = np.zeros(n, np.float32)
    for width in (8, 16, 32, 64):
        parts = units[:, :, : length // width * width].reshape(n, units.shape[1], -1, width)
        if parts.shape[2]:
            total += (parts.mean(axis=3) ** 2 * width).mean(axis=(1, 2))
    return total


def _turn(before: Vectors, behind: Vectors) -> Vectors:
    """Return by how much structures change their direction where lines meet, 0 to 2, ``(n,)``.

    Directions are those of structure tensors over nine pixels (Bigün & Granlund 1987), their angles doubled; what has
    no direction counts for nothing.
    """
    found = []
    for lines, outwards in ((before, -1.0), (behind, 1.0)):
        smooth = cv2.blur(lines.reshape(-1, lines.shape[2]), (3, 1), borderType=cv2.BORDER_REFLECT)
        values = np.asarray(smooth, np.float32).reshape(len(lines), -1, 2, lines.shape[2])
        along = np.gradient(values, axis=3)
        across = np.repeat(outwards * (values[:, :, 1:] - values[:, :, :1]), 2, axis=2)
        products = [
            (one * other).sum(axis=(1, 2)) for one, other in ((along, along), (along, across), (across, across))
        ]
        found.append([cv2.blur(one, (9, 1), borderType=cv2.BORDER_REFLECT) for one in products])
    (ll, lc, cc), (mm, md, dd) = found
    floor = grey_step(before) ** 2
    a, b = ll + cc + floor, mm + dd + floor
    apart = np.hypot((ll - cc) / a - (mm - dd) / b, 2 * (lc / a - md / b))
    weight = np.minimum(a, b) - floor
    return np.asarray((weight * apart).sum(axis=1) / (weight.sum(axis=1) + floor), np.float32)


class _Best:
    """The two largest values of each row and of each column of a matrix, and where the largest is."""

    def __init__(self, n: int) -> None:
        """Begin without any part of a matrix ``(n, n)``."""
        self.of_row, self.of_column = np.zeros((2, n), np.int64)
        self.row, self.column = np.full((2, 2, n), -np.inf, np.float32)

    def add(self, row: int, column: int, values: Vectors) -> None:
        """Take a part of the matrix into account, which begins at a row and a column."""
        _update(self.row, self.of_row, row, column, values)
        _update(self.column, self.of_column, column, row, values.T)

    def margins(self, pairs: Pairs, values: Vectors) -> Vectors:
        """Return by how much pairs of such values exceed all others of either; below 0 where one is larger."""
        a, b = pairs.T
        of_a = np.where(self.of_row[a] == b, self.row[1][a], self.row[0][a])
        of_b = np.where(self.of_column[b] == a, self.column[1][b], self.column[0][b])
        return np.asarray(values - np.maximum(of_a, of_b), np.float32)


def _update(best: Vectors, place: NDArray[np.int64], start: int, beginning: int, values: Vectors) -> None:
    """Update the two largest values of rows ``(2, n)``, and the column of the largest, by columns of a matrix."""
    most = values.max(axis=1)
    rows = np.flatnonzero(most > best[1, start : start + len(values)])
    if not len(rows):
        return
    chosen, most = values[rows], most[rows]
    where = chosen.argmax(axis=1)
    chosen[np.arange(len(rows)), where] = -np.inf
    first, second = best[:, start + rows]
    place[start + rows] = np.where(most > first, beginning + where, place[start + rows])
    best[1, start + rows] = np.maximum(np.minimum(first, most), np.maximum(second, chosen.max(axis=1)))
    best[0, start + rows] = np.maximum(first, most)


def unit_rows(values: NDArray[np.float32]) -> Vectors:
    """Scale rows to length 1; rows without any variation stay zero, so that they resemble nothing."""
    norm = np.sqrt((values * values).sum(axis=1, keepdims=True))
    return np.where(norm > 1e-3 * np.sqrt(values.shape[1]), values / np.maximum(norm, 1e-12), 0.0).astype(np.float32)
