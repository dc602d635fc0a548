"""Find scenes that touch, overlap or repeat, from a fingerprint of each scene; pairs are candidates of an index.

A fingerprint holds the borders, a thumbnail's detail and the band statistics of a scene and is kept in the cache.
Three scores say how alike two scenes are, each a sum of evidence in units near a standard deviation of unlike scenes.
Margins were measured on the ten real DeepGlobe scenes and on tiles cut from them and compressed anew; see the table in
``docs/prepare.md``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from levelground.datasets.candidates import FEW, border_pairs, least_z, overlapping_pairs, turned_pairs, unit_rows
from levelground.imagery.cache import read_archive, write_archive
from levelground.imagery.geotiff import Pixels
from levelground.imagery.legend import IGNORE, LabelMap
from levelground.imagery.validity import find_far_value
from levelground.records import DAMAGED, sha256_json

Kind = Literal["touches", "overlaps", "repeats"]
"""How two scenes are related."""

Scores = NDArray[np.float32]
Spectra = NDArray[np.complex64]
Details = NDArray[np.int8]  # (n, 64, 64), in steps of 1/42

FINGERPRINT_VERSION = 3  # raised when the same pixels give another fingerprint
THUMB = 64  # side of the thumbnail, px
CHANNELS = 3  # brightness and two differences of bands; more add little and cost space

SCALES = (4, 8, 16, 32, 64, 128)  # pixels along a border; an octave each
SURE = 20.0  # needs no second opinion
LONG_BORDER = 128  # unlike tiles reach 12.7 at 128 px, 10.1 at 256 px; shorter borders are told by their coarse shape,
SHORT_BORDER, SHORT_SCENES = 32, 50  # ... which needs so many scenes to know what borders have in common
TOUCH = 13.0  # whole scenes of 2448 px: the real pair 64.6 (51.4 when compressed anew at quality 85), others below 6.2;
# tiles of 816 px cut from them: 123 of 123 neighbours found and nothing else; of 408 px: 592 of 606 and nothing else
OVERLAP = 13.0  # tiles sharing a fifth or more: 97 % above, with one peak; unlike scenes below 11.0 in 31 000 pairs,
PEAK = 1.5  # ... save fields of one furrow, up to 17.4, whose peaks repeat: highest to second highest below 1.4
UNLIKE = 6.5  # peak in deviations of its own: unlike scenes below 6.2 in 3 000 pairs, smooth random textures below 5.7;
# ... the evidence alone calls those alike, since smoothness leaves few independent pixels
MIN_OVERLAP = 0.2  # of the area; below, chance peaks rise faster than the evidence
MARGIN = 3  # thumbnail pixels
_LARGEST = 1e15  # of values; beyond it sums of squares overflow
# Perceptual hash, share of equal bits: unlike scenes below .58, unlike tiles below .70, copies above .94.
REPEAT_BITS = 0.7
REPEAT = 0.5  # correlation of thumbnails; unlike scenes below .08, unlike tiles below .27, copies above .95
MOST_OVERLAPS = 6000  # scenes; more have so many candidates that the search would take most of the time
STEPS = 42  # in which details are kept, as whole numbers


@dataclass(frozen=True)
class Fingerprint:
    """Borders, thumbnail and band statistics of a scene, enough to tell whether two scenes are related.

    ``rows`` holds the top and bottom border, ``(2, channels, W)``, ``columns`` the left and right one, ``(2,
    channels, H)``; channel 0 is the mean of the bands, the others are a band minus that mean. ``detail`` is the
    detail of the mean of the bands on 64 × 64, in steps of 1/42. ``n_valid``, ``total`` and ``squares`` are the
    number of pixels that have a label and, by band, the sum of their values and of the squares. ``far`` holds a value
    far from all others as ``(value, band, share, next)``, or nothing; ``dark`` the number of pixels that are 0 in
    every band and have no label.
    """

    rows: NDArray[np.float32]
    columns: NDArray[np.float32]
    detail: Details  # (64, 64)
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
        _detail(_thumb(pixels)),
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


def fingerprint_path(cache: Path, image_key: str, labels_key: str | None) -> Path:
    """Return the path of a scene's fingerprint in the cache."""
    key = sha256_json(["traits", FINGERPRINT_VERSION, image_key, labels_key])  # the name that 0.1.0 gave them
    return cache / key[:2] / f"{key}.npz"


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
    path = fingerprint_path(cache, image_key, labels_key)
    try:
        return Fingerprint(**read_archive(path, Fingerprint.__dataclass_fields__, _check_part))
    except DAMAGED:
        fingerprint = make()
    write_archive(path, vars(fingerprint))
    return fingerprint


def _check_part(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Refuse an array that no fingerprint holds, before its values are read."""
    forms = {"rows": ("<f4", 3), "columns": ("<f4", 3), "detail": ("|i1", 2), "n_valid": ("<i8", 1), "dark": ("<i8", 0)}
    if (dtype.str, len(shape)) != forms.get(name, ("<f8", 1)) or max(shape, default=0) > 1 << 20:
        raise ValueError(f"{name}: shape {shape} of {dtype}")


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
            length = getattr(fingerprints[members[0]], name).shape[-1]
            if length < SHORT_BORDER or (length < LONG_BORDER and len(members) < SHORT_SCENES):
                continue
            borders = np.stack([getattr(fingerprints[i], name) for i in members])  # (n, 2, channels, length)
            if length < LONG_BORDER:
                pairs, score = border_pairs(borders)
                kept = score >= least_z(2 * len(members))
            else:
                pairs = _all_pairs(len(members)) if len(members) <= FEW else border_pairs(borders)[0]
                score = _border_scores(borders[:, 1], borders[:, 0], pairs)
                kept = score >= TOUCH
                if SHORT_SCENES <= len(members) <= FEW:  # smooth textures reach 18, but do not agree in coarse shape
                    coarse = {tuple(pair) for pair in border_pairs(borders)[0].tolist()}
                    kept &= (score >= SURE) | np.array([tuple(pair) in coarse for pair in pairs.tolist()])
            for (a, b), value in zip(pairs[kept].tolist(), score[kept].tolist(), strict=True):
                yield Link(members[a], members[b], "touches", where, value)


def _all_pairs(n: int) -> NDArray[np.int64]:
    """Return all ordered pairs of different positions, ``(n² - n, 2)``."""
    return np.argwhere(~np.eye(n, dtype=bool))


def _group_equal(keys: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """Yield the positions of equal keys, at least two each."""
    found: dict[tuple[int, ...], list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, []).append(position)
    yield from (members for members in found.values() if len(members) > 1)


def _border_scores(first: Scores, second: Scores, pairs: NDArray[np.int64]) -> Scores:
    """Score the evidence that borders of ``first`` continue in ones of ``second``, both ``(n, channels, length)``.

    Fisher's z of a band of width s has deviation .72·√(s/length) between unlike borders, whatever the channel.
    """
    _, n_channels, length = first.shape
    scales = [scale for scale in SCALES if 8 * scale <= length]
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
    floor = np.maximum(0.02 * lines.std(axis=1, keepdims=True), 0.3 * _step(lines))
    return np.asarray(np.clip(detail / np.maximum(local, floor), -3.0, 3.0), np.float32)


def _step(lines: NDArray[np.float32]) -> float:
    """Return one grey level of integer imagery, or nearly nothing for values between 0 and 1."""
    return 1.0 if float(np.abs(lines).max(initial=0.0)) > 2.0 else 1e-6


def _mean(lines: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return the running mean along each line."""
    return np.asarray(cv2.blur(lines, (width, 1), borderType=cv2.BORDER_REFLECT), np.float32)


def _detail(thumb: NDArray[np.float32]) -> Details:
    """Filter a thumbnail to detail of two to four pixels, without brightness and contrast, in :data:`STEPS`.

    A margin and whatever lies near a constant area are zero: frames and empty corners are alike in unlike scenes.
    """
    fine, coarse = (cv2.GaussianBlur(thumb, (0, 0), sigma) for sigma in (0.5, 2.0))
    detail = fine - coarse
    local = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 4.0))
    floor = max(0.01 * float(thumb.std()), 1e-12)
    spread = cv2.dilate(thumb, np.ones((3, 3))) - cv2.erode(thumb, np.ones((3, 3)))
    constant = (spread <= 1e-5 * float(np.abs(thumb).max(initial=0.0))).astype(np.uint8)
    kept = cv2.dilate(constant, np.ones((9, 9), np.uint8)) == 0
    kept[:MARGIN] = kept[-MARGIN:] = kept[:, :MARGIN] = kept[:, -MARGIN:] = False
    return np.asarray(np.rint(np.clip(detail / np.maximum(local, floor), -3.0, 3.0) * kept * STEPS), np.int8)


def thumbnail_details(fingerprints: Sequence[Fingerprint]) -> Details:
    """Put the details of thumbnails together, ``(n, 64, 64)``."""
    return np.stack([one.detail for one in fingerprints])


def _values(details: Details) -> Scores:
    """Return details as numbers, in units of their local deviation."""
    return details.astype(np.float32) / np.float32(STEPS)


def _blocks(details: Details) -> Iterator[Scores]:
    """Yield details as numbers, some scenes at a time."""
    for start in range(0, len(details), 256):
        yield _values(details[start : start + 256])


def find_repeats(details: Details, shapes: Sequence[tuple[int, int]]) -> Iterator[Link]:
    """Find near duplicates: the same scene compressed, resized, recoloured, turned or mirrored.

    A perceptual hash (signs of a 16 × 16 thumbnail) tells candidates; the correlation of whole thumbnails confirms.

    Args:
        details: :func:`thumbnail_details` of the scenes.
        shapes: Height and width of each scene; turns by a quarter swap them.
    """
    pairs = turned_pairs(_blocks(details), len(details))
    bits = np.concatenate([_bits(block) for block in _blocks(details)])
    aspect = np.array([np.log(width / height) for height, width in shapes])
    for turn in range(8):
        hashes = np.concatenate([_bits(_turned(block, turn)) for block in _blocks(details)])
        for start in range(0, len(pairs), 1 << 14):
            some = pairs[start : start + (1 << 14)]
            equal = np.einsum("ij,ij->i", bits[some[:, 0]], hashes[some[:, 1]], dtype=np.float32)
            for a, b in some[(equal / 256 + 1) / 2 >= REPEAT_BITS].tolist():
                unlike = abs(aspect[a] + (aspect[b] if turn % 2 else -aspect[b])) > 0.05
                first, moved = _values(details[a]), _turned(_values(details[b : b + 1]), turn)[0]
                score = float(unit_rows(first.reshape(1, -1))[0] @ unit_rows(moved.reshape(1, -1))[0])
                if score >= REPEAT and not unlike and _peaks_once(_spectra(first), _spectra(moved)):
                    yield Link(a, b, "repeats", "turned or mirrored" if turn else "as it is", score)


def _turned(detail: Scores, turn: int) -> Scores:
    """Turn thumbnails to one of the eight orientations; the odd ones swap height and width."""
    moved = detail[:, :, ::-1] if turn >= 4 else detail
    return np.ascontiguousarray(np.rot90(moved, turn % 4, axes=(1, 2)))


def _bits(detail: Scores) -> NDArray[np.int8]:
    """Compute perceptual hashes, ``(n, 256)``, bits as ±1; zero where a thumbnail shows nothing."""
    made = np.zeros((len(detail), 256), np.int8)
    for position, one in enumerate(detail):
        small = cv2.resize(cv2.GaussianBlur(one, (0, 0), 1.5), (16, 16), interpolation=cv2.INTER_AREA)
        made[position] = np.sign(small).ravel()
    return made


def find_overlaps(details: Details, shapes: Sequence[tuple[int, int]]) -> Iterator[Link]:
    """Find scenes of one size that share a fifth of their area or more, at any shift.

    The cross-correlation of two thumbnails, for each shift divided by the root of the shared area, peaks where they
    show the same ground, and nowhere else: furrows and rows of houses peak again and again. Smooth textures have few
    independent pixels, so a peak must also exceed what their own smoothness explains. Of many scenes those are compared
    that share a distinct spot: nearly all that share half of their area, and up to half of those that share a fifth.

    Args:
        details: :func:`thumbnail_details` of the scenes; more than :data:`MOST_OVERLAPS` of one size are not searched.
        shapes: Height and width of each scene.
    """
    for members in _group_equal(list(shapes)):
        if len(members) > MOST_OVERLAPS:
            continue
        pairs = overlapping_pairs(_blocks(details[members]), len(members))
        for start in range(0, len(pairs), 64):  # 64 pairs stay in the processor's cache
            places = np.array(members)[pairs[start : start + 64]]
            first, second = (_spectra(_values(details[places[:, side]])) for side in (0, 1))
            evidence = _evidence(first, second)
            peaks = evidence.max(axis=(1, 2))
            for offset in np.flatnonzero(peaks >= OVERLAP):
                if _peaks_once(first[offset], second[offset]):
                    a, b = places[offset].tolist()
                    yield Link(a, b, "overlaps", "", float(peaks[offset]))


def _peaks_once(first: Spectra, second: Spectra) -> bool:
    """Check that two scenes correlate at one shift only, and more than their own smoothness explains."""
    evidence = _evidence(first, second)
    enough = float(evidence.max()) >= UNLIKE * np.sqrt(_shared_smoothness(first, second))
    return bool(enough) and _single_peak(evidence)


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
