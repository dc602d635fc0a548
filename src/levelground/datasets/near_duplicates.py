"""Find scenes that touch, overlap or repeat, from a fingerprint of each scene; pairs are candidates of an index.

Scores are sums of evidence in units near a standard deviation of unlike scenes. Margins were measured on the ten real
DeepGlobe scenes and on tiles cut from them and compressed anew; see the table in ``docs/prepare.md``.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from levelground.datasets.candidates import (
    FEW,
    Continued,
    border_pairs,
    lines_that_meet,
    overlapping_pairs,
    turned_pairs,
    unit_rows,
)
from levelground.datasets.fingerprints import MARGIN, SHORT, STEPS, THUMB, Details, Fingerprint, border_lines, grey_step
from levelground.imagery.geotiff import Pixels

Kind = Literal["touches", "overlaps", "repeats"]
"""How two scenes are related."""

BORDERS = (("columns", 1, "left of"), ("rows", 0, "above"))

Scores = NDArray[np.float32]
Spectra = NDArray[np.complex64]

SCALES = (4, 8, 16, 32, 64, 128)  # pixels along a border; an octave each
SURE = 20.0  # needs no second opinion
LONG_BORDER = SHORT.stop  # unlike tiles reach 12.7 at 128 px, 10.1 at 256 px; shorter borders are told by their lines,
SHORT_SCENES = 50  # ... which needs so many scenes to know what lines that continue each other have in common
TOUCH_SHORT, CONTINUED = 25.0, 5.0  # nats, and nats for each deviation of the borders' correlation; also of the four
# borders of chips that meet at a corner
THREE = 80.0  # nats of these where one of four fits others better; strangers reach -16 (20 000 chips), 46 (2 560 real)
MANY, RISE = 2000, 30.0  # scenes beyond which more coincidences are met, and the nats that e times as many take
TOUCH = 13.0  # whole scenes of 2448 px: the real pair 64.6 (51.4 when compressed anew at quality 85), others below 6.2;
# tiles of 816 px cut from them: 123 of 123 neighbours found and nothing else; of 408 px: 592 of 606 and nothing else
OVERLAP = 13.0  # tiles sharing a fifth or more: 97 % above, with one peak; unlike scenes below 11.0 in 31 000 pairs,
PEAK = 1.5  # ... save fields of one furrow, up to 17.4, whose peaks repeat: highest to second highest below 1.4
OVERLAP_RISE = 2.0  # for e times as many scenes above FEW: of 5 000 chips strangers reach 16, halves 28 and more
UNLIKE = 6.5  # peak in deviations of its own: unlike scenes below 6.2 in 3 000 pairs, smooth random textures below 5.7;
# ... the evidence alone calls those alike, since smoothness leaves few independent pixels
MIN_OVERLAP = 0.2  # of the area; below, chance peaks rise faster than the evidence
REPEAT_BITS = 0.6  # share of equal bits: unlike scenes below .58, tiles below .70, copies above .94, of even chips .61
REPEAT = 0.5  # correlation of thumbnails; unlike scenes below .08, unlike tiles below .27, copies above .95
COARSE_APART = (1.0, 1.5, 1.5)  # grey levels between means of parts; recompressed even chips below .67, .85, 1.04
COARSE_ALIKE, DETAIL_ALIKE = 0.8, 3.5  # their correlation, and deviations of details: 477 of 480 copies at quality 70
# are above; of 14 440 real chips, strangers that are so near, five are above .8, and none of these above two deviations
NEAREST, COMPONENTS = 8, 12  # scenes, and principal components of what they are compared by
EVEN = 0.3  # grey levels between parts of a scene, below which it shows nothing
MOST_OVERLAPS = 6000  # scenes; more have so many candidates that the search would take most of the time


@dataclass(frozen=True)
class Link:
    """Two related scenes, by their positions in the list."""

    a: int
    b: int
    kind: Kind
    where: str
    score: float


def find_touching(fingerprints: Sequence[Fingerprint], copies: Collection[int] = ()) -> Iterator[Link]:
    """Find tiles of one mosaic whose borders continue in each other, without a shift.

    For each octave of detail and each channel the two borders are normalised locally, so that constant stretches
    (water, cloud, no data) say nothing and a single bright spot little, and correlated; Fisher's z of the
    correlations, in units of its deviation between unlike borders, are summed up. Short borders must fit each other
    better than any other border, by what lines within the scenes teach.

    Four chips that meet at a corner, as a tiler cuts them, tell each other: three borders lead to the fourth, which may
    show an even field that continues in others as well.

    Args:
        fingerprints: The scenes' fingerprints.
        copies: Positions of scenes that repeat another one, whose short borders compete with nothing.
    """
    shorts = []
    found: dict[tuple[int, int], Link] = {}
    for name, axis, where in BORDERS:
        lines = [getattr(one, f"{name[:-1]}_lines") for one in fingerprints]
        keys = [(one.size[1 - axis], len(own), own.shape[-1]) for one, own in zip(fingerprints, lines, strict=True)]
        shorts.append(_ShortBorders(lines))
        for members in _group_equal(keys):
            if fingerprints[members[0]].size[1 - axis] < LONG_BORDER:
                members = [position for position in members if position not in copies and len(lines[position])]
                if len(members) < SHORT_SCENES:
                    continue
                pairs, score, kept = shorts[-1].compare(members)
            else:
                borders = np.stack([getattr(fingerprints[i], name) for i in members])  # (n, 2, channels, length)
                pairs, score, kept = _long_borders(borders)
            for (a, b), value in zip(pairs[kept].tolist(), score[kept].tolist(), strict=True):
                found[members[a], members[b]] = Link(members[a], members[b], "touches", where, value)
    for link in _corners(*shorts):
        found.setdefault((link.a, link.b), link)
    yield from found.values()


class _ShortBorders:
    """Short borders along one side of scenes: which are each other's best, and how well any two fit."""

    def __init__(self, lines: Sequence[Pixels]) -> None:
        """Keep the lines of each scene, ``(4, 2, length, bands)``, and compare none yet."""
        self._lines = lines
        self._searches: list[tuple[dict[int, int], Continued]] = []
        self.behind: dict[int, int] = {}
        self.score: dict[tuple[int, int], float] = {}

    def compare(self, members: Sequence[int]) -> tuple[NDArray[np.int64], Scores, NDArray[np.bool_]]:
        """Find pairs of members that are each other's best, their score, and whether it is enough alone."""
        lines = [self._lines[i] for i in members]
        search = Continued(lines)
        before, behind = lines_that_meet(lines, search.pairs)
        correlated = _border_scores(border_lines(before), border_lines(behind))
        score = search.score + CONTINUED * correlated
        self._searches.append(({position: n for n, position in enumerate(members)}, search))
        for (a, b), value in zip(search.pairs.tolist(), score.tolist(), strict=True):
            self.behind[members[a]] = members[b]
            self.score[members[a], members[b]] = value
        enough = TOUCH_SHORT + RISE * max(0.0, math.log(len(lines) / MANY))
        return search.pairs, score, search.sound & (score >= enough) & (correlated >= 1)  # even ones show nothing

    def compare_pairs(self, pairs: Collection[tuple[int, int]]) -> None:
        """Score further pairs; those of unlike sizes have none."""
        for place, search in self._searches:
            some = [pair for pair in pairs if pair not in self.score and place.keys() >= {*pair}]
            if some:
                before, behind = lines_that_meet(self._lines, np.array(some))
                score = search.scores(before, behind, np.array([[place[a], place[b]] for a, b in some]))
                score += CONTINUED * _border_scores(border_lines(before), border_lines(behind))
                self.score |= zip(some, score.tolist(), strict=True)


def _corners(columns: _ShortBorders, rows: _ShortBorders) -> Iterator[Link]:
    """Yield the borders of four chips that meet at a corner, of which three at least are each other's best.

    Where the fourth is not, neither direction may speak against the corner: two pairs of neighbours, each beyond doubt,
    say nothing of each other.
    """
    squares = _squares(columns.behind, rows.behind)
    best = {**columns.score}, {**rows.score}
    columns.compare_pairs({pair for a, right, below, last in squares for pair in ((a, right), (below, last))})
    rows.compare_pairs({pair for a, right, below, last in squares for pair in ((a, below), (right, last))})
    for a, right, below, last in squares:
        beside, under = ((a, right), (below, last)), ((a, below), (right, last))
        sums = [
            sum(side.score.get(pair, -math.inf) for pair in two) for side, two in ((columns, beside), (rows, under))
        ]
        whole = best[0].keys() >= {*beside} and best[1].keys() >= {*under}
        if sum(sums) >= TOUCH_SHORT if whole else sum(sums) >= THREE and min(sums) >= 0:
            for pairs, where in ((beside, BORDERS[0][2]), (under, BORDERS[1][2])):
                yield from (Link(*pair, "touches", where, sum(sums)) for pair in pairs)


def _squares(right_of: dict[int, int], below_of: dict[int, int]) -> list[tuple[int, int, int, int]]:
    """List four scenes, row by row, of whose four borders three or four are known."""
    left_of, above_of = ({b: a for a, b in known.items()} for known in (right_of, below_of))
    found = set()
    for a, right in right_of.items():
        below, last = below_of.get(a, -1), below_of.get(right, -1)
        found |= {(a, right, below, last), (a, right, below, right_of.get(below, -1))}
        found.add((a, right, left_of.get(last, -1), last))
    for a, below in below_of.items():
        last = right_of.get(below, -1)
        found.add((a, above_of.get(last, -1), below, last))
    return sorted(four for four in found if -1 not in four and len({*four}) == 4)


def _long_borders(borders: Scores) -> tuple[NDArray[np.int64], Scores, NDArray[np.bool_]]:
    """Return pairs of long borders, their evidence, and whether it is enough."""
    pairs = _all_pairs(len(borders)) if len(borders) <= FEW else border_pairs(borders)
    score = _border_scores(borders[:, 1], borders[:, 0], pairs)
    kept = score >= TOUCH
    if SHORT_SCENES <= len(borders) <= FEW:  # smooth textures reach 18, but do not agree in coarse shape
        coarse = {tuple(pair) for pair in border_pairs(borders).tolist()}
        kept &= (score >= SURE) | np.array([tuple(pair) in coarse for pair in pairs.tolist()])
    return pairs, score, kept


def _all_pairs(n: int) -> NDArray[np.int64]:
    """Return all ordered pairs of different positions, ``(n² - n, 2)``."""
    return np.argwhere(~np.eye(n, dtype=bool))


def _group_equal(keys: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """Yield the positions of equal keys, at least two each."""
    found: dict[tuple[int, ...], list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, []).append(position)
    yield from (members for members in found.values() if len(members) > 1)


def _border_scores(first: Scores, second: Scores, pairs: NDArray[np.int64] | None = None) -> Scores:
    """Score the evidence that borders of ``first`` continue in ones of ``second``, both ``(n, channels, length)``.

    Without pairs each is scored with the one of the same position. Fisher's z of a band of width s has deviation
    .72·√(s/length) between unlike borders, whatever the channel.
    """
    n, n_channels, length = first.shape
    pairs = np.repeat(np.arange(n)[:, None], 2, axis=1) if pairs is None else pairs
    scales = tuple(scale for scale in SCALES if 8 * scale <= length)
    total = np.zeros(len(pairs), np.float32)
    for channel in range(n_channels):
        for scale in scales:
            a, b = (unit_rows(_band(side[:, channel], scale)) for side in (first, second))
            for start in range(0, len(pairs), 1 << 12):
                some = pairs[start : start + (1 << 12)]
                r = np.einsum("ij,ij->i", a[some[:, 0]], b[some[:, 1]])
                z = np.arctanh(np.clip(r, -0.999, 0.999)) * np.float32(np.sqrt(length / scale) / 0.72)
                total[start : start + (1 << 12)] += z
    return np.asarray(total / np.sqrt(n_channels * len(scales)), np.float32)


def _band(lines: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Filter one octave of detail along lines ``(n, length)``, divided by its local deviation, clipped at three."""
    lines = np.ascontiguousarray(lines)
    detail = _mean(lines, max(1, scale // 2)) - _mean(lines, 2 * scale)
    local = np.sqrt(np.maximum(_mean(detail * detail, 4 * scale), 0.0))
    # Below 2 % of the scene's own variation, or a third of a grey level's step, there is nothing but rounding.
    floor = np.maximum(0.02 * lines.std(axis=1, keepdims=True), 0.3 * grey_step(lines))
    return np.asarray(np.clip(detail / np.maximum(local, floor), -3.0, 3.0), np.float32)


def _mean(lines: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return the running mean along each line."""
    return np.asarray(cv2.blur(lines, (width, 1), borderType=cv2.BORDER_REFLECT), np.float32)


def _values(details: Sequence[Details]) -> Scores:
    """Return details as numbers ``(n, 64, 64)``, in units of their local deviation."""
    return np.stack(details).astype(np.float32) / np.float32(STEPS)


def _small(details: Sequence[Details]) -> Scores:
    """Reduce thumbnails to ``(n, 16, 16)``."""
    made = np.empty((len(details), 16, 16), np.float32)
    for start in range(0, len(details), 256):
        for position, one in enumerate(_values(details[start : start + 256]), start):
            made[position] = cv2.resize(cv2.GaussianBlur(one, (0, 0), 1.5), (16, 16), interpolation=cv2.INTER_AREA)
    return made


def find_repeats(details: Sequence[Details], shapes: Sequence[tuple[int, int]]) -> Iterator[Link]:
    """Find near duplicates: the same scene compressed, resized, recoloured, turned or mirrored.

    A perceptual hash (signs of a 16 × 16 thumbnail) tells candidates; the correlation of whole thumbnails confirms.

    Args:
        details: Details of the scenes' thumbnails, ``(64, 64)`` each.
        shapes: Height and width of each scene; turns by a quarter swap them.
    """
    small = _small(details)
    pairs = turned_pairs(small)
    if not len(pairs):
        return
    bits = _bits(small)
    shown = np.sqrt(np.maximum(np.count_nonzero(bits, axis=1), 1))
    aspect = np.array([np.log(width / height) for height, width in shapes])
    for turn in range(8):
        hashes = _bits(_turned(small, turn))
        for start in range(0, len(pairs), 1 << 14):
            some = pairs[start : start + (1 << 14)]
            equal = np.einsum("ij,ij->i", bits[some[:, 0]], hashes[some[:, 1]], dtype=np.float32)
            equal /= shown[some].prod(axis=1)
            near = some[(equal + 1) / 2 >= REPEAT_BITS]
            unlike = np.abs(aspect[near[:, 0]] + (1 if turn % 2 else -1) * aspect[near[:, 1]]) > 0.05
            yield from _confirmed_repeats(details, near[~unlike], turn)


def _confirmed_repeats(details: Sequence[Details], pairs: NDArray[np.int64], turn: int) -> Iterator[Link]:
    """Yield the pairs whose thumbnails correlate, the second one turned."""
    for start in range(0, len(pairs), 64):  # 64 pairs stay in the processor's cache
        some = pairs[start : start + 64]
        first = _values([details[a] for a in some[:, 0].tolist()])
        moved = _turned(_values([details[b] for b in some[:, 1].tolist()]), turn)
        score = _correlations(first, moved)
        for n in np.flatnonzero(score >= REPEAT).tolist():
            if _peaks_once(_spectra(first[n]), _spectra(moved[n]), float(score[n])):
                a, b = some[n].tolist()
                yield Link(a, b, "repeats", "turned or mirrored" if turn else "as it is", float(score[n]))


def _correlations(first: Scores, second: Scores) -> Scores:
    """Correlate thumbnails ``(n, 64, 64)`` with others, one by one."""
    a, b = (unit_rows(values.reshape(len(values), -1)) for values in (first, second))
    return np.asarray(np.einsum("ij,ij->i", a, b), np.float32)


def _turned(detail: Scores, turn: int) -> Scores:
    """Turn thumbnails to one of the eight orientations; the odd ones swap height and width."""
    moved = detail[:, :, ::-1] if turn >= 4 else detail
    return np.ascontiguousarray(np.rot90(moved, turn % 4, axes=(1, 2)))


def _bits(small: Scores) -> NDArray[np.int8]:
    """Compute perceptual hashes, ``(n, 256)``, bits as ±1; zero where a thumbnail shows nothing."""
    return np.sign(small).reshape(len(small), -1).astype(np.int8)


def find_recompressed(fingerprints: Sequence[Fingerprint]) -> Iterator[Link]:
    """Find copies of even scenes, of eight bits, that were compressed harder, which leaves little of their detail.

    What is left are the means of parts of a scene: they agree to a grey level, rise and fall together, and what detail
    there is correlates by more than chance.
    """
    keys = [(len(one.coarse), *one.coarse.shape[2:]) for one in fingerprints]
    for members in _group_equal(keys):
        if not fingerprints[members[0]].coarse.size:
            continue
        values = np.stack([fingerprints[i].coarse for i in members]).astype(np.float32) / np.float32(256)
        values[..., 0], values[..., 1:] = values.mean(axis=-1), values[..., :-1] - values.mean(axis=-1, keepdims=True)
        parts: Scores = values.reshape(len(members), -1, values.shape[-1])  # (n, 64, channels)
        shape = unit_rows(parts[..., 0] - parts[..., 0].mean(axis=1, keepdims=True))
        for a, b in _nearest_pairs(parts).tolist():
            apart = np.sqrt(((parts[a] - parts[b]) ** 2).mean(axis=0))
            score = float(shape[a] @ shape[b])
            near = (apart <= COARSE_APART[: len(apart)]).all() and score >= COARSE_ALIKE
            if near and _details_agree(*_values([fingerprints[members[n]].detail for n in (a, b)])):
                yield Link(members[a], members[b], "repeats", "as it is", score)


def _nearest_pairs(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Find pairs of rows, parts × channels, of which one is among the other's nearest by principal components.

    Rows whose first channel hardly varies between parts are near nothing.
    """
    shown = np.flatnonzero(values[..., 0].std(axis=1) >= EVEN)
    if len(shown) < 2:
        return np.zeros((0, 2), np.int64)
    flat = values[shown].reshape(len(shown), -1)
    flat = flat - flat.mean(axis=0)
    _, axes = np.linalg.eigh(flat.T @ flat)
    largest = flat @ axes[:, -COMPONENTS:]
    _, near = cKDTree(largest).query(largest, k=min(NEAREST + 1, len(flat)))
    pairs = np.sort(np.stack([np.repeat(np.arange(len(flat)), near.shape[1]), near.ravel()], axis=1), axis=1)
    return np.asarray(shown[np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)], np.int64)


def _details_agree(first: Scores, second: Scores) -> bool:
    """Check that two details correlate without a shift by more than chance and their smoothness explain."""
    a, b = _spectra(first), _spectra(second)
    correlation = float(_correlations(first[None], second[None])[0])
    evidence = _fisher(correlation) * float(_evidence(a, b)[0, 0])
    return evidence >= DETAIL_ALIKE * math.sqrt(_shared_smoothness(a, b))


def find_overlaps(details: Sequence[Details], shapes: Sequence[tuple[int, int]]) -> Iterator[Link]:
    """Find scenes of one size that share a fifth of their area or more, at any shift.

    The cross-correlation of two thumbnails, for each shift divided by the root of the shared area, peaks where they
    show the same ground, and nowhere else: furrows and rows of houses peak again and again. Smooth textures have few
    independent pixels, so a peak must also exceed what their own smoothness explains. Of many scenes those are compared
    that share a distinct spot: nearly all that share half of their area, and up to half of those that share a fifth.

    Args:
        details: Details of the scenes' thumbnails, ``(64, 64)`` each; more than :data:`MOST_OVERLAPS` of one size are
            not searched.
        shapes: Height and width of each scene.
    """
    for members in _group_equal(list(shapes)):
        if len(members) > MOST_OVERLAPS:
            continue
        pairs = overlapping_pairs(np.stack([details[i] for i in members]), STEPS)
        enough = OVERLAP + OVERLAP_RISE * max(0.0, math.log(len(members) / FEW))
        for start in range(0, len(pairs), 64):  # 64 pairs stay in the processor's cache
            places = np.array(members)[pairs[start : start + 64]]
            first, second = (_spectra(_values([details[i] for i in places[:, side].tolist()])) for side in (0, 1))
            evidence = _evidence(first, second)
            peaks = evidence.max(axis=(1, 2))
            for offset in np.flatnonzero(peaks >= enough):
                if _peaks_once(first[offset], second[offset]):
                    a, b = places[offset].tolist()
                    yield Link(a, b, "overlaps", "", float(peaks[offset]))


def _peaks_once(first: Spectra, second: Spectra, correlation: float = 0.0) -> bool:
    """Check that two scenes correlate at one shift only, and more than their own smoothness explains.

    A correlation without a shift counts as Fisher's z: near 1 it says more than the same evidence of a low one.
    """
    evidence = _evidence(first, second)
    peak = max(float(evidence.max()), _fisher(correlation) * float(evidence[0, 0]))
    return peak >= UNLIKE * math.sqrt(_shared_smoothness(first, second)) and _single_peak(evidence)


def _fisher(correlation: float) -> float:
    """Return how much larger Fisher's z of a correlation is."""
    r = min(abs(correlation), 0.999)
    return math.atanh(r) / r if r > 0 else 1.0


def _shared_smoothness(first: Spectra, second: Spectra) -> float:
    """Return the variance of the evidence between unlike scenes of such spectra; 1 for white noise.

    It is the sum over all shifts of the product of both autocorrelations (Bartlett 1935), by Parseval's theorem a
    product of both power spectra.
    """
    twice = np.full(first.shape[-1], 2.0)
    twice[[0, -1]] = 1.0  # the other columns of a real transform stand for two
    a, b = (np.abs(spectra.astype(np.complex128)) ** 2 for spectra in (first, second))
    sums = max(float((a * twice).sum() * (b * twice).sum()), 1e-12)
    return float((2 * THUMB) ** 2 * (a * b * twice).sum() / sums)


def _spectra(detail: Scores) -> Spectra:
    """Compute Fourier transforms, padded so that no shift wraps around."""
    return np.asarray(scipy.fft.rfft2(detail, s=(2 * THUMB, 2 * THUMB)), np.complex64)


def _evidence(first: Spectra, second: Spectra) -> Scores:
    """Correlate at each shift and divide by the root of the shared area; zero where that is too small."""
    correlation = scipy.fft.irfft2(np.conj(first) * second, s=(2 * THUMB, 2 * THUMB), overwrite_x=True)
    return np.asarray(correlation * _shift_weights(), np.float32)


@cache
def _shift_weights() -> Scores:
    """Return one over the root of the area that two thumbnails share at each shift."""
    shift = np.minimum(np.arange(2 * THUMB), 2 * THUMB - np.arange(2 * THUMB))
    whole, inside = (np.maximum(side - shift, 0) for side in (THUMB, THUMB - 2 * MARGIN))
    area = np.maximum(np.outer(inside, inside), 1)
    return np.where(np.outer(whole, whole) >= MIN_OVERLAP * THUMB**2, 1 / np.sqrt(area), 0).astype(np.float32)


def _single_peak(evidence: Scores) -> bool:
    """Check that the highest peak exceeds all others, 4 thumbnail pixels and more away from it, by :data:`PEAK`."""
    row, column = np.unravel_index(int(evidence.argmax()), evidence.shape)
    others = np.roll(evidence, (4 - int(row), 4 - int(column)), axis=(0, 1))
    others[:9, :9] = 0.0
    return float(evidence.max()) >= PEAK * float(others.max())
