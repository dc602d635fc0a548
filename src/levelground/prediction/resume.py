"""Finished rows of a map in plain files, with a journal, so that a job that was killed goes on.

A GeoTIFF whose writer was killed cannot be read, so blocks go to a raw file first. A block has its place there by its
place in the grid of tiles: the blocks of one row of tiles lie side by side, each whole, after those of the rows above.
The journal says how many rows are on the disk for certain, and of what job they are.
"""

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from levelground.errors import DiskError, RecordError
from levelground.files import open_for_blocks, read_at, write_at
from levelground.inference.tiling import Axis
from levelground.records import read_json, write_json

JOURNAL_FILE = "journal.json"


class Layer:
    """One raw file of blocks: classes, or probabilities."""

    def __init__(self, path: Path, rows: Axis, cols: Axis, *, planes: int, dtype: str) -> None:
        """Open or make the file.

        Args:
            path: The file.
            rows: Tiles along the rows.
            cols: Tiles along the columns.
            planes: Values of a pixel.
            dtype: NumPy's name of their type.
        """
        self.path, self.planes, self.dtype = path, planes, np.dtype(dtype)
        self._rows, self._cols = rows, cols
        self._file = open_for_blocks(path)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def write(self, r: int, c: int, block: NDArray[np.generic]) -> None:
        """Write the block at row ``r`` and column ``c`` of the grid of tiles, ``(planes, rows, columns)``.

        Raises:
            DiskError: The disk is full.
        """
        data = np.ascontiguousarray(block, self.dtype).reshape(-1).view(np.uint8).data
        try:
            if write_at(self._file, data, self._place(r, c)) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise DiskError(
                f"{self.path}: cannot be written ({error.strerror}). Free space; the same command goes on."
            ) from error

    def flush(self) -> None:
        """Wait until the disk has what was written."""
        os.fsync(self._file)

    def read(self, rows: slice, cols: slice) -> NDArray[np.generic]:
        """Read a window of finished rows, ``(planes, rows, columns)``."""
        window = np.empty((self.planes, rows.stop - rows.start, cols.stop - cols.start), self.dtype)
        for r in _touched(self._rows, rows):
            for c in _touched(self._cols, cols):
                block = self._block(r, c)
                top, left = self._rows.starts[r], self._cols.starts[c]
                inner = _overlap(rows, top, block.shape[1]), _overlap(cols, left, block.shape[2])
                window[:, _moved(inner[0], rows.start), _moved(inner[1], cols.start)] = block[
                    :, _moved(inner[0], top), _moved(inner[1], left)
                ]
        return window

    def _block(self, r: int, c: int) -> NDArray[np.generic]:
        block = np.empty((self.planes, self._rows.finished(r), self._cols.finished(c)), self.dtype)
        read_at(self._file, block.reshape(-1).view(np.uint8).data, self._place(r, c))
        return block

    def _place(self, r: int, c: int) -> int:
        before = self._cols.length * self._rows.starts[r] + self._rows.finished(r) * self._cols.starts[c]
        return before * self.planes * self.dtype.itemsize


@dataclass(frozen=True)
class Progress:
    """How far a job is: finished rows of tiles, and pixels of each class so far, ``(256,)`` int64."""

    rows: int
    counts: NDArray[np.int64]


class Scratch:
    """The folder of an unfinished map."""

    def __init__(self, folder: Path, identity: str, rows: Axis, cols: Axis) -> None:
        """Open the folder, or begin one.

        Args:
            folder: The folder; what another job left in it is removed.
            identity: The hash of all that decides the map.
            rows: Tiles along the rows.
            cols: Tiles along the columns.
        Raises:
            DiskError: It cannot be written.
        """
        self.folder, self._identity = folder, identity
        self._rows, self._cols = rows, cols
        self._layers: list[Layer] = []
        self.replaced = False
        """Whether rows of another job were thrown away."""
        found = self._read()
        if found is None:
            self.replaced = (folder / JOURNAL_FILE).exists()
            shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(f"{folder}: cannot be made ({error.strerror}). Choose another --out.") from error
        self.progress = found or Progress(0, np.zeros(256, np.int64))

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for layer in self._layers:
            layer.close()

    @property
    def done(self) -> bool:
        """Whether all rows are finished."""
        return self.progress.rows == len(self._rows.starts)

    def layer(self, name: str, *, planes: int, dtype: str) -> Layer:
        """Open a raw file of the folder."""
        layer = Layer(self.folder / f"{name}.raw", self._rows, self._cols, planes=planes, dtype=dtype)
        self._layers.append(layer)
        return layer

    def commit(self, rows: int, counts: NDArray[np.int64]) -> None:
        """Note that ``rows`` rows of tiles are finished, once the disk has them.

        Raises:
            DiskError: The disk is full.
        """
        for layer in self._layers:
            layer.flush()
        self.progress = Progress(rows, counts.copy())
        record = {"identity": self._identity, "rows": rows, "counts": counts}
        write_json(self.folder / JOURNAL_FILE, record, kind="prediction")

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> Progress | None:
        try:
            record = read_json(self.folder / JOURNAL_FILE, kind="prediction")
            if record["identity"] != self._identity:
                return None
            rows, counts = int(record["rows"]), np.array(record["counts"], np.int64)
        except (RecordError, KeyError, TypeError, ValueError):
            return None
        fits = 0 <= rows <= len(self._rows.starts) and counts.shape == (256,)
        return Progress(rows, counts) if fits else None


def _touched(axis: Axis, wanted: slice) -> range:
    """The tiles whose finished parts hold some of the pixels."""
    starts = np.array(axis.starts)
    first = int(np.searchsorted(starts, wanted.start, side="right")) - 1
    return range(first, int(np.searchsorted(starts, wanted.stop, side="left")))


def _overlap(wanted: slice, start: int, size: int) -> slice:
    return slice(max(wanted.start, start), min(wanted.stop, start + size))


def _moved(place: slice, origin: int) -> slice:
    return slice(place.start - origin, place.stop - origin)
