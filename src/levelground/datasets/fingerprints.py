"""Fingerprints of scenes: borders, a thumbnail's detail and band statistics, computed once and kept in the cache."""

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from levelground.imagery.cache import place_in_cache, read_archive, write_archive
from levelground.imagery.geotiff import Pixels
from levelground.imagery.legend import IGNORE, LabelMap
from levelground.imagery.validity import find_far_value
from levelground.records import DAMAGED, sha256_json

Details = NDArray[np.int8]  # (64, 64) or (n, 64, 64), in steps of 1/42

FINGERPRINT_VERSION = 5  # raised when the same pixels give another fingerprint
THUMB = 64  # side of the thumbnail, px
CHANNELS = 3  # brightness and two differences of bands; more add little and cost space
MARGIN = 3  # thumbnail pixels
SHORT = range(32, 128)  # sides of scenes, px, whose lines are kept too: a border alone says too little
COARSE = 8  # parts along each side of an eight-bit scene whose means are kept: JPEG at any quality keeps these
STEPS = 42  # in which details are kept, as whole numbers
_LARGEST = 1e15  # of values; beyond it sums of squares overflow


@dataclass(frozen=True)
class Fingerprint:
    """Borders, thumbnail and band statistics of a scene, enough to tell whether two scenes are related.

    ``rows`` holds the top and bottom border, ``(2, channels, W)``, ``columns`` the left and right one, ``(2,
    channels, H)``; channel 0 is the mean of the bands, the others are a band minus that mean. ``detail`` is the
    detail of the mean of the bands on 64 × 64, in steps of 1/42. ``n_valid``, ``total`` and ``squares`` are the
    number of pixels that have a label and, by band, the sum of their values and of the squares. ``far`` holds a value
    far from all others as ``(value, band, share, next)``, or nothing; ``dark`` the number of pixels that are 0 in
    every band and have no label. ``row_lines`` and ``column_lines`` hold, where the line's length is :data:`SHORT`,
    pairs of lines of up to three bands: at the first and the last border, outermost first, and before and behind the
    middle, nearest first. ``coarse`` holds means of 8 × 8 parts of eight-bit scenes, of up to three bands, in steps of
    1/256, and nothing of others.
    """

    rows: NDArray[np.float32]
    columns: NDArray[np.float32]
    detail: Details  # (64, 64)
    n_valid: NDArray[np.int64]  # (C,)
    total: NDArray[np.float64]  # (C,)
    squares: NDArray[np.float64]  # (C,)
    far: NDArray[np.float64]  # (4,) or (0,)
    dark: NDArray[np.int64]  # ()
    row_lines: Pixels  # (4, 2, W, bands) or nothing
    column_lines: Pixels  # (4, 2, H, bands) or nothing
    coarse: NDArray[np.uint16]  # (8, 8, bands) or (0, 8, 0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the scene, in pixels."""
        return self.columns.shape[-1], self.rows.shape[-1]

    def packed(self) -> "Fingerprint":
        """Return the same in one piece of memory, for many scenes; borders that are told by their lines become zero."""
        arrays = sorted(vars(self).items(), key=lambda item: -item[1].itemsize)
        short = {name for name, array in arrays if name in ("rows", "columns") and array.shape[-1] < SHORT.stop}
        content = np.frombuffer(b"".join(array.tobytes() for name, array in arrays if name not in short), np.uint8)
        packed, place = {}, 0
        for name, array in arrays:
            if name in short:
                packed[name] = _no_border(array.dtype, array.shape)
                continue
            packed[name] = content[place : place + array.nbytes].view(array.dtype).reshape(array.shape)
            place += array.nbytes
        return Fingerprint(**packed)

    def statistics(self) -> "Fingerprint":
        """Return the same without what only tells related scenes, which takes most of the memory; that becomes zero."""
        kept = ("n_valid", "total", "squares", "far", "dark")
        return Fingerprint(
            **{
                name: array.copy() if name in kept else _no_border(array.dtype, array.shape)
                for name, array in vars(self).items()
            }
        )


@lru_cache(maxsize=64)
def _no_border(dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return zeros that take no memory, the same for all scenes of a size."""
    return np.broadcast_to(np.zeros((), dtype), shape)


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
        _lines(pixels),
        _lines(turned),
        _coarse(pixels),
    )


def line_channels(lines: NDArray[Any]) -> NDArray[np.float32]:
    """Return mean of the bands and differences from it of pairs of lines, ``(n, 2 · channels, length)``."""
    values = tame(lines.astype(np.float32))
    mean = values.mean(axis=-1, keepdims=True)
    made = np.concatenate([mean, values[..., :-1] - mean], axis=-1)  # (n, 2, length, channels)
    return np.ascontiguousarray(made.transpose(0, 3, 1, 2).reshape(len(lines), -1, lines.shape[2]))


def border_lines(lines: NDArray[Any]) -> NDArray[np.float32]:
    """Extrapolate pairs of lines at a border, outermost first, half a pixel outside, ``(n, channels, length)``."""
    border = np.empty((len(lines), lines.shape[3], lines.shape[2]), np.float32)
    for start in range(0, len(lines), 512):
        made = line_channels(lines[start : start + 512])
        border[start : start + 512] = 1.5 * made[:, 0::2] - 0.5 * made[:, 1::2]
    return border


def _lines(pixels: Pixels) -> Pixels:
    """Return pairs of lines at both borders and on both sides of the middle, ``(4, 2, length, bands)``."""
    few = pixels[:, :, :CHANNELS]
    middle = len(few) // 16 * 8  # JPEG codes squares of 8 px: noise differs within one and across its border
    if few.shape[1] not in SHORT or middle < 2:
        return np.zeros((0, 2, *few.shape[1:]), few.dtype)
    return np.stack([few[:2], few[::-1][:2], few[middle - 2 : middle][::-1], few[middle : middle + 2]])


def _coarse(pixels: Pixels) -> NDArray[np.uint16]:
    """Return the means of parts of an eight-bit scene in steps of 1/256, ``(8, 8, bands)``."""
    if pixels.dtype != np.uint8:
        return np.zeros((0, COARSE, 0), np.uint16)
    few = np.ascontiguousarray(pixels[:, :, :CHANNELS], np.float32)
    means = cv2.resize(few, (COARSE, COARSE), interpolation=cv2.INTER_AREA).reshape(COARSE, COARSE, -1)
    return np.asarray(np.rint(256 * means), np.uint16)


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
    values = tame(lines.astype(np.float32))
    line = 1.5 * values[0] - 0.5 * values[-1]  # (length, C)
    mean = line.mean(axis=1, keepdims=True)
    n_differences = min(CHANNELS, line.shape[1]) - 1
    return np.ascontiguousarray(np.hstack([mean, line[:, :n_differences] - mean]).T)


def tame(values: Pixels) -> NDArray[np.float32]:
    """Replace what is not a number by 0, and bound what would overflow when it is squared."""
    return np.clip(np.nan_to_num(values, posinf=0.0, neginf=0.0), -_LARGEST, _LARGEST)


def grey_step(lines: NDArray[np.float32]) -> float:
    """Return one grey level of integer imagery, or nearly nothing for values between 0 and 1."""
    return 1.0 if float(np.abs(lines).max(initial=0.0)) > 2.0 else 1e-6


def _thumb(pixels: Pixels) -> NDArray[np.float32]:
    """Average all bands on 64 × 64 pixels, by area; by nearest neighbour upwards where the scene is smaller."""
    total = np.zeros((THUMB, THUMB), np.float32)
    for first in range(0, pixels.shape[2], 4):
        values = np.ascontiguousarray(pixels[:, :, first : first + 4])
        if values.dtype.kind == "f":
            values = tame(values)
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


def give_back_memory() -> None:
    """Give freed memory back to the system where glibc would keep it: fingerprints of many scenes are small blocks."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def fingerprint_path(cache: Path, image_key: str, labels_key: str | None) -> Path:
    """Return the path of a scene's fingerprint in the cache."""
    key = sha256_json(["traits", FINGERPRINT_VERSION, image_key, labels_key])  # the name that 0.1.0 gave them
    return cache / place_in_cache(key, ".npz")


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
    forms["coarse"] = "<u2", 3
    if name.endswith("_lines"):
        forms[name] = dtype.str if dtype.str in ("|u1", "<u2", "<i2", "<f4") else "", 4
    if (dtype.str, len(shape)) != forms.get(name, ("<f8", 1)) or max(shape, default=0) > 1 << 20:
        raise ValueError(f"{name}: shape {shape} of {dtype}")


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
