"""Decode each scene once: memory maps on disk, found by the hash of the files and of all that decoding depends on.

An image is one ``.npy`` file. Labels are a ``.npy`` file and a small JSON beside it with their figures. Files appear
whole or not at all; two processes may fill one cache. Behind the values of an array stands their checksum (XXH3, 128
bits), which each process checks when it first opens the array; what does not fit is removed and decoded anew.
"""

import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from levelground.errors import RecordError, SceneError, first_line
from levelground.files import atomic_path, remove_leftovers
from levelground.imagery.band_stack import source_files
from levelground.imagery.gdal_files import is_own_stack
from levelground.imagery.geotiff import Pixels
from levelground.imagery.image_headers import read_header
from levelground.imagery.legend import IGNORE, LabelMap, Legend
from levelground.imagery.scene_pixels import SceneFile, needs_alignment, read_scene
from levelground.reading import (
    CheckArray,
    check_seal,
    open_regular,
    parse_json,
    read_arrays,
    read_bytes,
    read_text,
    seal,
)
from levelground.records import sha256_array, sha256_json, sha256_stamped

DECODING = 1
"""The version of decoding: raised when the same file gives other pixels or labels, so that old entries are not used."""

REMEDY = "choose another cache with --cache or LEVELGROUND_CACHE"
"""What to do where the cache cannot be written: it often lies on another disk than the study."""

_MARK = b"\nXXH-128"
_SUM_BYTES = len(_MARK) + 16
"""Behind the values: a mark, and their checksum. NumPy leaves it alone; version 0.1.0 wrote none."""
_sound: set[tuple[str, int, int]] = set()
"""Path, size and time of the arrays whose checksum this process has seen to fit."""

_TYPES = ("uint8", "uint16", "int16", "float32")
MAX_ARCHIVE_BYTES = 1 << 28
"""The largest archive that is read; a fingerprint takes some hundred kilobytes."""

MAPPED_BYTES = 1 << 18
"""The size above which an array is mapped; reading a smaller file, of 256 × 256 px, takes half the time."""
_HEADER_BYTES = 256
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][uif]\d)', 'fortran_order': False, 'shape': \(([0-9, ]+)\), \} *\n",
    re.DOTALL,
)
"""How NumPy begins the files of arrays that are written here; read strictly, since nothing else belongs there."""


@dataclass(frozen=True)
class CachedScene:
    """Read-only arrays of a scene, large ones mapped: pixels ``(H, W, C)``, and labels ``(H, W)`` where it has some."""

    pixels: Pixels
    labels: LabelMap | None


@dataclass(frozen=True)
class CacheEntry:
    """Keys, sizes, hashes and counts of a cached scene; without labels, their keys are None and their counts empty.

    ``file_sha256`` is the hash of the image file alone, where ``image_sha256`` holds more: window, mask or zero rule.
    ``class_pixels`` counts each class of the legend, ``ignored_pixels`` those without data, ``impure_pixels`` those
    whose colour is read as a class but is not exactly one, ``dropped_pixels`` those of 255 that nothing declares.
    """

    image_key: str
    labels_key: str | None
    height: int
    width: int
    bands: int
    dtype: str
    labels_sha256: str | None
    image_sha256: str
    class_pixels: tuple[int, ...]
    ignored_pixels: int
    impure_pixels: int = 0
    dropped_pixels: int = 0
    file_sha256: str | None = None


@dataclass(frozen=True)
class _LabelFigures:
    """The JSON beside cached labels."""

    sha256: str
    class_pixels: tuple[int, ...]
    ignored_pixels: int
    impure_pixels: int
    dropped_pixels: int = 0


def default_cache_folder() -> Path:
    """Return ``$LEVELGROUND_CACHE``, else ``levelground`` below ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    chosen = os.environ.get("LEVELGROUND_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "levelground"


def place_in_cache(key: str, suffix: str = ".npy") -> str:
    """Return where a cache keeps what belongs to a key, below its folder.

    Example:
        >>> place_in_cache("a3f0", ".json")
        'a3/a3f0.json'
    """
    return f"{key[:2]}/{key}{suffix}"


class Cache:
    """A folder of decoded scenes, each array where :func:`place_in_cache` says."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``; it is made with the first entry."""
        self.folder = folder

    def store(self, scene: SceneFile, legend: Legend, snap: int = 0) -> CacheEntry:
        """Decode a scene into the cache, unless it is there.

        Args:
            scene: The scene.
            legend: The legend of its labels.
            snap: As in :func:`levelground.imagery.legend.decode_colours`.
        Returns:
            Keys, sizes, hashes and counts.
        Raises:
            SceneError: A file is damaged, or image and mask do not fit; nothing is stored.
            LabelColourError: The mask holds a colour that is not a class; nothing is stored.
            DiskError: The cache cannot be written.
        """
        file_sha256 = _file_sha256(scene.image)
        image_sha256 = _image_sha256(scene, file_sha256)
        image_key = sha256_json(["image", DECODING, file_sha256, scene.window, *_validity(scene.image, scene.zero)])
        labels_key = _labels_key(scene, legend, snap, file_sha256)
        shape = self._shape(image_key)
        figures = self._figures(labels_key, shape) if labels_key and shape else None
        if shape is None or (labels_key and figures is None):
            shape, figures = self._decode(scene, legend, snap, image_key, labels_key)
        (height, width, bands), dtype = shape
        return CacheEntry(
            image_key=image_key,
            labels_key=labels_key,
            height=height,
            width=width,
            bands=bands,
            dtype=dtype,
            labels_sha256=figures.sha256 if figures else None,
            image_sha256=image_sha256,
            class_pixels=figures.class_pixels if figures else (),
            ignored_pixels=figures.ignored_pixels if figures else 0,
            impure_pixels=figures.impure_pixels if figures else 0,
            dropped_pixels=figures.dropped_pixels if figures else 0,
            file_sha256=None if image_sha256 == file_sha256 else file_sha256,
        )

    def open(self, image_key: str, labels_key: str | None) -> CachedScene:
        """Open a scene as read-only arrays, mapped where they are large.

        Args:
            image_key: From :meth:`store`.
            labels_key: From :meth:`store`, or ``None`` to open the image alone.
        Raises:
            RecordError: An entry is missing, damaged or was changed; the latter is removed, so that ``prepare`` decodes
                the scene anew.
        """
        labels = None if labels_key is None else self._map(labels_key).astype(np.uint8, copy=False)
        return CachedScene(self._map(image_key), labels)

    def sweep(self) -> None:
        """Remove what killed processes left half-written; what others are writing now stays."""
        remove_leftovers(self.folder, deep=True)

    def path(self, key: str) -> Path:
        """Return the path of the array of a key."""
        return self.folder / place_in_cache(key)

    def _map(self, key: str) -> Pixels:
        """Map or read an array; its header must be as :meth:`_write` writes it, length and checksum what that says."""
        path = self.path(key)
        try:
            with open_regular(path) as file:
                status = os.fstat(file.fileno())
                small = status.st_size <= MAPPED_BYTES
                start = file.read(MAPPED_BYTES if small else _HEADER_BYTES)
                header = _HEADER.match(start[:_HEADER_BYTES])
                if not header:
                    raise ValueError("no header of an array")
                dtype = np.dtype(header[1].decode())
                shape = tuple(int(part) for part in header[2].decode().split(",") if part.strip())
                end = header.end() + math.prod(shape) * dtype.itemsize
                if status.st_size not in (end, end + _SUM_BYTES):
                    raise ValueError("another length than its header says")
                array: Pixels
                if small:
                    array = np.frombuffer(start, dtype, math.prod(shape), header.end()).reshape(shape)
                else:
                    array = np.memmap(file, dtype, mode="r", offset=header.end(), shape=shape)
                state = (str(path), status.st_size, status.st_mtime_ns)
                if status.st_size > end and state not in _sound:
                    file.seek(end)
                    _check_sum(path, array, start[end:] if small else file.read(_SUM_BYTES))
                    _sound.add(state)
                return array
        except (OSError, ValueError, TypeError) as error:
            raise RecordError(f"{path}: cached scene is missing or damaged. Run levelground prepare again.") from error

    def _shape(self, key: str) -> tuple[tuple[int, int, int], str] | None:
        """Return shape and type of a cached image, or ``None`` where it is missing or damaged."""
        try:
            image = self._map(key)
        except RecordError:
            return None
        if image.ndim != 3 or str(image.dtype) not in _TYPES:
            return None
        height, width, bands = image.shape
        return (height, width, bands), str(image.dtype)

    def _figures(self, key: str, image: tuple[tuple[int, int, int], str]) -> _LabelFigures | None:
        """Return the figures of cached labels, or ``None`` where they are missing, damaged or of another size."""
        try:
            text = read_text(self.path(key).with_suffix(".json"))
            check_seal(text, "line")
            content = parse_json(text)
            content.pop("crc32", None)
            figures = _LabelFigures(**content | {"class_pixels": tuple(content["class_pixels"])})
            counts = (*figures.class_pixels, figures.ignored_pixels, figures.impure_pixels, figures.dropped_pixels)
            sound = isinstance(figures.sha256, str) and all(type(count) is int and count >= 0 for count in counts)
            fits = sound and self._map(key).shape == image[0][:2]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecordError):
            return None
        return figures if fits else None

    def _decode(
        self, scene: SceneFile, legend: Legend, snap: int, image_key: str, labels_key: str | None
    ) -> tuple[tuple[tuple[int, int, int], str], _LabelFigures | None]:
        """Decode image and labels and write both."""
        decoded = read_scene(scene, legend, snap=snap)
        self._write(image_key, decoded.pixels)
        figures = None
        if decoded.labels is not None and labels_key:
            counts = np.bincount(decoded.labels.ravel(), minlength=256)
            figures = _LabelFigures(
                sha256=sha256_array(decoded.labels),
                class_pixels=tuple(counts[: legend.n_classes].tolist()),
                ignored_pixels=int(counts[IGNORE]),
                impure_pixels=decoded.impure_pixels,
                dropped_pixels=decoded.dropped_pixels,
            )
            self._write(labels_key, decoded.labels)
            with atomic_path(self.path(labels_key).with_suffix(".json"), REMEDY, durable=False) as temporary:
                temporary.write_text(seal(json.dumps(asdict(figures)), "line"), encoding="utf-8")
        height, width, bands = decoded.pixels.shape
        return ((height, width, bands), str(decoded.pixels.dtype)), figures

    def _write(self, key: str, array: Pixels) -> None:
        """Write one array under its key; its checksum tells when a crash of the machine kept it from the disk."""
        array = np.ascontiguousarray(array)
        with atomic_path(self.path(key), REMEDY, durable=False) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array(file, array, allow_pickle=False)
            file.write(_MARK + xxhash.xxh3_128_digest(_values(array)))


def write_archive(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write arrays as one ``.npz`` with its checksum behind it.

    Args:
        path: The file, in a cache.
        arrays: The arrays by name.
    Raises:
        DiskError: It cannot be written.
    """
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    with atomic_path(path, REMEDY, durable=False) as temporary:
        temporary.write_bytes(content.getvalue() + _MARK + xxhash.xxh3_128_digest(content.getbuffer()))


def read_archive(path: Path, names: Iterable[str], check: CheckArray) -> dict[str, NDArray[Any]]:
    """Read the arrays of :func:`write_archive`, after their checksum; version 0.1.0 wrote none.

    Args:
        path: The file.
        names: Names of the arrays.
        check: As in :func:`levelground.reading.read_arrays`.
    Returns:
        The arrays by name.
    Raises:
        ValueError: It was changed, or an array is not what is expected; also the other errors of
            :data:`levelground.reading.UNREADABLE`.
    """
    content = read_bytes(path, MAX_ARCHIVE_BYTES)
    _check_end(content)
    return read_arrays(io.BytesIO(content), names, check)


def _check_end(content: bytes) -> bool:
    """Compare a file with the checksum at its end; false where it has none.

    Raises:
        ValueError: It does not fit, or is itself damaged.
    """
    mark, digest = content[-_SUM_BYTES:-16], content[-16:]
    if sum(a != b for a, b in zip(mark, _MARK, strict=False)) > 1:  # a flipped byte leaves the others
        return False
    if mark != _MARK or xxhash.xxh3_128_digest(memoryview(content)[:-_SUM_BYTES]) != digest:
        raise ValueError("its checksum does not fit")
    return True


def cache_fault(path: Path) -> str | None:
    """Say what is wrong with a file of the cache; nothing is removed.

    Args:
        path: An array, the figures beside labels, a fingerprint, or a stack of bands.
    Returns:
        ``None`` where its checksum fits, an empty text where it has none, as of version 0.1.0, else the fault.
    """
    try:
        content = read_bytes(path)
        if path.suffix == ".vrt":
            known = is_own_stack(path, content.decode())
            return None if known else "was changed after it was written"
        if path.suffix == ".json":
            parse_json(content.decode())
            return None if check_seal(content.decode(), "line") else ""
        if path.suffix == ".npz":
            return None if _check_end(content) else ""
        header = _HEADER.match(content[:_HEADER_BYTES])
        if not header:
            return "has no header of an array"
        size = np.dtype(header[1].decode()).itemsize
        end = header.end() + size * math.prod(int(part) for part in header[2].decode().split(",") if part.strip())
        if len(content) == end:
            return ""
        sound = content[end:] == _MARK + xxhash.xxh3_128_digest(memoryview(content)[header.end() : end])
        # The header is outside the checksum, and is written in one way only.
        return None if sound and _header_of(header) == content[: header.end()] else "its checksum does not fit"
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError, TypeError) as error:
        return first_line(error)


def _header_of(header: re.Match[bytes]) -> bytes:
    """Return the header that NumPy writes for the type and shape that a header names."""
    shape = tuple(int(part) for part in header[2].decode().split(",") if part.strip())
    written = io.BytesIO()
    fields = {"descr": header[1].decode(), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(written, fields)
    return written.getvalue()


def _values(array: Pixels) -> memoryview:
    """Return the bytes of an array's values, without a copy."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def _check_sum(path: Path, array: Pixels, behind: bytes) -> None:
    """Compare an array with the checksum that is behind it in a file; remove the file where it does not fit.

    Raises:
        ValueError: It does not fit.
    """
    if behind != _MARK + xxhash.xxh3_128_digest(_values(array)):
        path.unlink(missing_ok=True)
        raise ValueError("its checksum does not fit")


def _labels_key(scene: SceneFile, legend: Legend, snap: int, file_sha256: str) -> str | None:
    """Make the key of labels from mask, image (whose nodata pixels become IGNORE), legend, rule, snap and window."""
    if scene.labels is None:
        return None
    classes: list[object] = [legend.digest(), legend.rule, legend.ignored_colours]
    if legend.nodata or legend.classes[0].values:  # else the key is that of a legend before there were stored values
        classes.append(legend.stored)
    if any(entry.also for entry in legend.classes):
        classes.append(legend.table)
    files = [_file_sha256(scene.labels), file_sha256]
    validity = [*_validity(scene.image, scene.zero), *_validity(scene.labels)]
    if scene.exclude is not None:
        validity.append(f"exclude {_file_sha256(scene.exclude)}")
    if scene.apart:
        validity.append(f"apart {sha256_json([scene.apart, scene.buffer_px])}")
    if needs_alignment(scene):
        grids = [[header.crs, header.transform] for header in map(read_header, (scene.image, scene.labels))]
        validity.append(f"aligned {sha256_json(grids)}")
    return sha256_json(["labels", DECODING, files, classes, snap, scene.window, scene.coding, *validity])


def _image_sha256(scene: SceneFile, file: str) -> str:
    """Hash what a scene's image is: file, window, mask beside it, and how zeros are read where that was asked."""
    beside = scene.image.with_name(f"{scene.image.name}.msk")
    mask = [f"mask {_file_sha256(beside)}"] if beside.exists() and read_header(scene.image).masked else []
    zero = [] if scene.zero is None else [f"zero {scene.zero}"]
    window = [] if scene.window is None else [scene.window]
    return sha256_json([file, *window, *mask, *zero]) if window or mask or zero else file


def _validity(path: Path, zero: bool | None = None) -> list[str]:
    """Name what the pixels without data of a raster depend on, beyond what keys held before it was read."""
    header = read_header(path)
    found = [] if zero is None else [f"zero {zero}"]
    if header.format != "tiff":
        return found
    if header.masked:
        beside = path.with_name(f"{path.name}.msk")
        found.append(f"own mask {_file_sha256(beside) if beside.exists() else 'inside'}")
    if header.alpha:
        found.append("alpha")
    if header.band_nodata or (header.nodata is not None and header.bands > 1 and not header.dtype.startswith("u")):
        found.append("nodata in one band")
    return found


def _file_sha256(path: Path) -> str:
    """Hash a file once for all blocks cut from it."""
    try:
        own = sha256_stamped(path)
        sources = [_file_sha256(source) for source in source_files(path)]
        return sha256_json([own, sources]) if sources else own
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}). Mend the file or its permissions.") from error
