"""Find scenes that touch, overlap or repeat, from a fingerprint of each scene; all pairs at once, by matrix products.

A fingerprint holds the borders, a thumbnail and the band statistics of a scene (about 130 kB) and is kept in the cache.
Three scores say how alike two scenes are, each a sum of evidence in units near a standard deviation of unlike scenes.
Margins were measured on the ten real DeepGlobe scenes and on tiles cut from them and compressed anew; see the table in
``docs/prepare.md``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from levelground.files import atomic_path
from levelground.imagery.cache import REMEDY
from levelground.imagery.geotiff import Pixels
from levelground.imagery.legend import IGNORE, LabelMap
from levelground.imagery.validity import find_far_value
from levelground.records import DAMAGED, sha256_json

Kind = Literal["touches", "overlaps", "repeats"]
"""How two scenes are related."""

Scores = NDArray[np.float32]
Spectra = NDArray[np.complex64]

FINGERPRINT_VERSION = 1  # raised when the same pixels give another fingerprint
THUMB = 64  # side of the thumbnail, px
CHANNELS = 3  # brightness and two differences of bands; more add little and cost space

SCALES = (4, 8, 16, 32, 64, 128)  # pixels along a border; an octave each
MIN_BORDER = 128  # shorter ones carry too little: at 128 px unlike tiles reach 12.7, at 256 px 10.1
TOUCH = 13.0  # whole scenes of 2448 px: the real pair 64.6 (51.4 when compressed anew at quality 85), others below 6.2;
# tiles of 816 px cut from them: 123 of 123 neighbours found and nothing else; of 408 px: 592 of 606 and nothing else
OVERLAP = 13.0  # tiles sharing a fifth or more: 97 % above, with one peak; unlike scenes below 11.0 in 31 000 pairs,
PEAK = 1.5  # ... save fields of one furrow, up to 17.4, whose peaks repeat: highest to second highest below 1.4
MIN_OVERLAP = 0.2  # of the area; below, chance peaks rise faster than the evidence
MARGIN = 3  # thumbnail pixels
_LARGEST = 1e15  # of values; beyond it sums of squares overflow
# Perceptual hash, share of equal bits: unlike scenes below .58, unlike tiles below .70, copies above .94.
REPEAT_BITS = 0.7
REPEAT = 0.5  # correlation of thumbnails; unlike scenes below .08, unlike tiles below .27, copies above .95
MOST_OVERLAPS = 3000  # scenes; every pair costs about 0.1 ms, so more would take over 8 minutes


@dataclass(frozen=True)
class Fingerprint:
    """Borders, thumbnail and band statistics of a scene, enough to tell whether two scenes are related.

    ``rows`` holds the top and bottom border, ``(2, channels, W)``, ``columns`` the left and right one,
    ``(2, channels, H)``; channel 0 is the mean of the bands, the others are a band minus that mean. ``thumb`` is the
    mean of the bands on 64 × 64. ``n_valid``, ``total`` and ``squares`` are the number of pixels that have a label
    and, by band, the sum of their values and of the squares. ``far`` holds a value far from all others as ``(value,
    band, share, next)``, or nothing; ``dark`` the number of pixels that are 0 in every band and have no label.
    """

    rows: NDArray[np.float32]
    columns: NDArray[np.float32]
    thumb: NDArray[np.float32]
    n_valid: NDArray[np.int64]  # (C,)
    total: NDArray[np.float64]  # (C,)
    squares: NDArray[np.float64]  # (C,)
    far: NDArray[np.float64]  # (4,) or (0,)
    dark: NDArray[np.int64]  # ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the scene, in pixels."""
        return self.columns.shape[-1], self.rows.shape[-1]


def fingerprint_scene(pixels: Pixels, labels: LabelMap | None) -> Fingerprint:
    """Compute the fingerprint of one scene.

    Args:
        pixels: ``(H, W, C)`` uint8, uint16, int16 or float32; values that are not a number count as missing.
        labels: ``(H, W)``; pixels with :data:`~levelground.imagery.legend.IGNORE` enter no sum. ``None`` counts all.
    Returns:
        The fingerprint, borders in units of the image's values.
    """
    height, width, n_bands = pixels.shape
    valid = np.ones((height, width), np.uint8) if labels is None else (labels != IGNORE).astype(np.uint8)
    # OpenCV takes up to four bands at once; values that may be missing are counted band by band.
    step = 1 if pixels.dtype.kind == "f" else 4
    moments = [_moments(pixels[:, :, first : first + step], valid) for first in range(0, n_bands, step)]
    n_valid, total, squares = (np.concatenate(column) for column in zip(*moments, strict=True))
    rows = np.stack([_border(pixels[:2]), _border(pixels[::-1][:2])])
    turned = pixels.transpose(1, 0, 2)
    columns = np.stack([_border(turned[:2]), _border(turned[::-1][:2])])
    far = find_far_value(pixels)
    dark = 0 if labels is None else np.count_nonzero((pixels[labels == IGNORE] == 0).all(axis=-1))
    return Fingerprint(
        rows,
        columns,
        _thumb(pixels),
        n_valid.astype(np.int64),
        total,
        squares,
        np.array([] if far is None else [far.value, far.band, far.share, far.next], np.float64),
        np.array(dark, np.int64),
    )


def _moments(
    bands: Pixels, valid: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return number, sum and sum of squares of the valid values of up to four bands."""
    if bands.dtype.kind == "f":
        finite = np.isfinite(bands)
        valid = valid & finite[:, :, 0]
        bands = np.where(finite, bands, 0)
    n = cv2.countNonZero(valid)
    if n == 0:
        zeros = np.zeros(bands.shape[2])
        return zeros.astype(np.int64), zeros, zeros
    mean, deviation = (
        np.asarray(value[:, 0], np.float64) for value in cv2.meanStdDev(np.ascontiguousarray(bands), mask=valid)
    )
    return np.full(len(mean), n, np.int64), n * mean, n * (deviation**2 + mean**2)


def _border(lines: Pixels) -> NDArray[np.float32]:
    """Extrapolate the line half a pixel outside the scene from the outermost two, ``(channels, length)``.

    The neighbour extrapolates to the same place; on the touching DeepGlobe pair this lifts the correlation of fine
    detail from .86 (outermost line) to .89, and a mean of two lines lowers it to .72.
    """
    values = _tame(lines.astype(np.float32))
    line = 1.5 * values[0] - 0.5 * values[-1]  # (length, C)
    mean = line.mean(axis=1, keepdims=True)
    n_differences = min(CHANNELS, line.shape[1]) - 1
    return np.ascontiguousarray(np.hstack([mean, line[:, :n_differences] - mean]).T)


def _tame(values: Pixels) -> NDArray[np.float32]:
    """Replace what is not a number by 0, and bound what would overflow when it is squared."""
    return np.clip(np.nan_to_num(values, posinf=0.0, neginf=0.0), -_LARGEST, _LARGEST)


def _thumb(pixels: Pixels) -> NDArray[np.float32]:
    """Average all bands on 64 × 64 pixels, by area; by nearest neighbour upwards where the scene is smaller."""
    total = np.zeros((THUMB, THUMB), np.float32)
    for first in range(0, pixels.shape[2], 4):
        values = np.ascontiguousarray(pixels[:, :, first : first + 4])
        if values.dtype.kind == "f":
            values = _tame(values)
        small = cv2.resize(values, (THUMB, THUMB), interpolation=cv2.INTER_AREA)  # type: ignore[arg-type]
        total += small.reshape(THUMB, THUMB, -1).sum(axis=2, dtype=np.float32)
    return np.asarray(total / pixels.shape[2], np.float32)


def mean_and_std(fingerprints: Sequence[Fingerprint]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation of each band over the labelled pixels of some scenes.

    Args:
        fingerprints: Those of the training scenes, at least one.
    Returns:
        Two tuples of C numbers in the image's units; a band that never varies gets deviation 1, for dividing by it.
    """
    n = np.maximum(np.sum([one.n_valid for one in fingerprints], axis=0), 1)
    mean = np.sum([one.total for one in fingerprints], axis=0) / n
    variance = np.maximum(np.sum([one.squares for one in fingerprints], axis=0) / n - mean**2, 0.0)
    std = np.where(variance > 1e-12 * np.maximum(mean**2, 1.0), np.sqrt(variance), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def cached_fingerprint(
    cache: Path, image_key: str, labels_key: str | None, make: Callable[[], Fingerprint]
) -> Fingerprint:
    """Read a scene's fingerprint from the cache, or make it and keep it there.

    Args:
        cache: The cache folder.
        image_key: Key of the decoded image.
        labels_key: Key of the decoded labels.
        make: Called where the cache has none that can be read.
    Raises:
        DiskError: It cannot be written.
    """
    key = sha256_json(["traits", FINGERPRINT_VERSION, image_key, labels_key])  # the name that 0.1.0 gave them
    path = cache / key[:2] / f"{key}.npz"
    try:
        # Opened here, since np.load leaves open what it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Fingerprint(**{name: arrays[name] for name in Fingerprint.__dataclass_fields__})
    except DAMAGED:
        fingerprint = make()
    with atomic_path(path, REMEDY) as temporary, temporary.open("wb") as written:
        np.savez(written, **vars(fingerprint))
    return fingerprint


@dataclass(frozen=True)
class Link:
    """Two related scenes, by their positions in the list."""

    a: int
    b: int
    kind: Kind
    where: str
    score: float


def find_touching(fingerprints: Sequence[Fingerprint]) -> Iterator[Link]:
    """Find tiles of one mosaic whose borders continue in each other, without a shift.

    For each octave of detail and each channel the two borders are normalised locally, so that constant stretches
    (water, cloud, no data) say nothing and a single bright spot little, and correlated; Fisher's z of the
    correlations, in units of its deviation between unlike borders, are summed up.
    """
    sides = (("columns", 1, "left of"), ("rows", 0, "above"))
    for name, axis, where in sides:
        for members in _group_equal([(one.size[1 - axis], getattr(one, name).shape[1]) for one in fingerprints]):
            if getattr(fingerprints[members[0]], name).shape[-1] < MIN_BORDER:
                continue
            borders = np.stack([getattr(fingerprints[i], name) for i in members])  # (n, 2, channels, length)
            score = _border_scores(borders[:, 1], borders[:, 0])
            np.fill_diagonal(score, 0.0)
            for a, b in np.argwhere(score >= TOUCH):
                yield Link(members[a], members[b], "touches", where, float(score[a, b]))


def _group_equal(keys: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """Yield the positions of equal keys, at least two each."""
    found: dict[tuple[int, ...], list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, []).append(position)
    yield from (members for members in found.values() if len(members) > 1)


def _border_scores(first: NDArray[np.float32], second: NDArray[np.float32]) -> Scores:
    """Score the evidence that a border of ``first`` continues in one of ``second``, both ``(n, channels, length)``.

    Fisher's z of a band of width s has deviation .72·√(s/length) between unlike borders, whatever the channel.
    """
    n, n_channels, length = first.shape
    scales = [scale for scale in SCALES if 8 * scale <= length]
    total = np.zeros((n, n), np.float32)
    for channel in range(n_channels):
        for scale in scales:
            a, b = (_unit_rows(_band(side[:, channel], scale)) for side in (first, second))
            total += np.arctanh(np.clip(a @ b.T, -0.999, 0.999)) * np.float32(np.sqrt(length / scale) / 0.72)
    return np.asarray(total / np.sqrt(n_channels * len(scales)), np.float32)


def _band(lines: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Filter one octave of detail along lines ``(n, length)``, divided by its local deviation, clipped at three."""
    lines = np.ascontiguousarray(lines)
    detail = _mean(lines, max(1, scale // 2)) - _mean(lines, 2 * scale)
    local = np.sqrt(np.maximum(_mean(detail * detail, 4 * scale), 0.0))
    # Below 2 % of the scene's own variation, or a third of a grey level's step, there is nothing but rounding.
    floor = np.maximum(0.02 * lines.std(axis=1, keepdims=True), 0.3 * _step(lines))
    return np.asarray(np.clip(detail / np.maximum(local, floor), -3.0, 3.0), np.float32)


def _step(lines: NDArray[np.float32]) -> float:
    """Return one grey level of integer imagery, or nearly nothing for values between 0 and 1."""
    return 1.0 if float(np.abs(lines).max(initial=0.0)) > 2.0 else 1e-6


def _mean(lines: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return the running mean along each line."""
    return np.asarray(cv2.blur(lines, (width, 1), borderType=cv2.BORDER_REFLECT), np.float32)


def _unit_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length 1; rows without any variation stay zero, so that they resemble nothing."""
    norm = np.sqrt((values * values).sum(axis=1, keepdims=True))
    return np.where(norm > 1e-3 * np.sqrt(values.shape[1]), values / np.maximum(norm, 1e-12), 0.0).astype(np.float32)


def thumbnail_details(fingerprints: Sequence[Fingerprint]) -> Scores:
    """Filter thumbnails to detail of two to four pixels, without brightness and contrast, ``(n, 64, 64)``.

    A margin and whatever lies near a constant area are zero: frames and empty corners are alike in unlike scenes.
    """
    made = np.zeros((len(fingerprints), THUMB, THUMB), np.float32)
    for position, one in enumerate(fingerprints):
        fine, coarse = (cv2.GaussianBlur(one.thumb, (0, 0), sigma) for sigma in (0.5, 2.0))
        detail = fine - coarse
        local = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 4.0))
        floor = max(0.01 * float(one.thumb.std()), 1e-12)
        spread = cv2.dilate(one.thumb, np.ones((3, 3))) - cv2.erode(one.thumb, np.ones((3, 3)))
        constant = (spread <= 1e-5 * float(np.abs(one.thumb).max(initial=0.0))).astype(np.uint8)
        kept = cv2.dilate(constant, np.ones((9, 9), np.uint8)) == 0
        kept[:MARGIN] = kept[-MARGIN:] = kept[:, :MARGIN] = kept[:, -MARGIN:] = False
        made[position] = np.clip(detail / np.maximum(local, floor), -3.0, 3.0) * kept
    return made


def find_repeats(detail: Scores, shapes: Sequence[tuple[int, int]]) -> Iterator[Link]:
    """Find near duplicates: the same scene compressed, resized, recoloured, turned or mirrored.

    A perceptual hash (signs of a 16 × 16 thumbnail) finds candidates; the correlation of whole thumbnails confirms.

    Args:
        detail: :func:`thumbnail_details` of the scenes.
        shapes: Height and width of each scene; turns by a quarter swap them.
    """
    n = len(detail)
    flat = _unit_rows(detail.reshape(n, -1))
    bits = _bits(detail)
    aspect = np.array([np.log(width / height) for height, width in shapes])
    for turn in range(8):
        moved = _turned(detail, turn)
        hashes = _bits(moved)
        for start in range(0, n, 1024):
            near = (bits[start : start + 1024] @ hashes.T / 256 + 1) / 2 >= REPEAT_BITS
            for i, b in np.argwhere(np.triu(near, k=start + 1)):
                a = int(i) + start
                unlike = abs(aspect[a] + (aspect[b] if turn % 2 else -aspect[b])) > 0.05
                score = float(flat[a] @ _unit_rows(moved[b].reshape(1, -1))[0])
                if score >= REPEAT and not unlike and _single_peak(_evidence(_spectra(detail[a]), _spectra(moved[b]))):
                    yield Link(a, int(b), "repeats", "turned or mirrored" if turn else "as it is", score)


def _turned(detail: Scores, turn: int) -> Scores:
    """Turn thumbnails to one of the eight orientations; the odd ones swap height and width."""
    moved = detail[:, :, ::-1] if turn >= 4 else detail
    return np.ascontiguousarray(np.rot90(moved, turn % 4, axes=(1, 2)))


def _bits(detail: Scores) -> Scores:
    """Compute perceptual hashes, ``(n, 256)``, bits as ±1; zero where a thumbnail shows nothing."""
    made = np.zeros((len(detail), 256), np.float32)
    for position, one in enumerate(detail):
        small = cv2.resize(cv2.GaussianBlur(one, (0, 0), 1.5), (16, 16), interpolation=cv2.INTER_AREA)
        made[position] = np.sign(small).ravel()
    return made


def find_overlaps(detail: Scores, shapes: Sequence[tuple[int, int]]) -> Iterator[Link]:
    """Find scenes of one size that share a fifth of their area or more, at any shift.

    The cross-correlation of two thumbnails, for each shift divided by the root of the shared area, peaks where they
    show the same ground, and nowhere else: furrows and rows of houses peak again and again.

    Args:
        detail: :func:`thumbnail_details` of the scenes; more than :data:`MOST_OVERLAPS` of one size are not searched.
        shapes: Height and width of each scene.
    """
    for members in _group_equal(list(shapes)):
        if len(members) > MOST_OVERLAPS:
            continue
        spectra = _spectra(detail[members])
        for first in range(len(members) - 1):
            for start in range(first + 1, len(members), 64):  # 64 pairs stay in the processor's cache
                evidence = _evidence(spectra[first], spectra[start : start + 64])
                peaks = evidence.max(axis=(1, 2))
                for offset in np.flatnonzero(peaks >= OVERLAP):
                    if _single_peak(evidence[offset]):
                        second = members[start + int(offset)]
                        yield Link(members[first], second, "overlaps", "", float(peaks[offset]))


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
