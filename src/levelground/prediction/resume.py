"""Checkpoints of a prediction: finished blocks in plain files, so that a job that was killed can be resumed.

A GeoTIFF whose writer was killed cannot be read, so blocks go to a raw file first. The position of a block in the file
follows from its position in the grid of tiles: the blocks of one row of tiles lie side by side, each whole, after those
of the rows above. A resume state beside the raw files says how many rows are on the disk for certain, with the checksum
(XXH3, 128 bits) of each, and which job they belong to; another file in the folder of outputs says which inputs of a job
are finished.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
import xxhash
from numpy.typing import NDArray

from levelground.errors import DiskError, RecordError
from levelground.files import open_for_blocks, read_at, write_at
from levelground.prediction.inputs import InputFile
from levelground.reading import open_regular
from levelground.records import Record, read_json, write_json
from levelground.tile_geometry import Axis

STATE_FILE = "journal.json"
"""The resume state, in a checkpoint folder."""

BLOCK_FILES = ("classes.raw", "probs.raw")
"""The raw files, in a checkpoint folder."""

UNFINISHED_FILE = ".unfinished.json"
"""The finished inputs of a job, in the folder of outputs until the job is done."""


RowSum = tuple[int, str]
"""Length of a finished row of blocks in its file, and its checksum."""


class BlockFile:
    """A raw file of blocks: classes, or probabilities."""

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
        self._sum, self._bytes = xxhash.xxh3_128(), 0

    def end_row(self) -> RowSum:
        """Return length and checksum of the blocks written since the row before ended."""
        found = self._bytes, self._sum.hexdigest()
        self._sum, self._bytes = xxhash.xxh3_128(), 0
        return found

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
            if write_at(self._file, data, self._offset(r, c)) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise DiskError(
                f"{self.path}: cannot be written ({error.strerror}). Free space; the same command goes on."
            ) from error
        self._sum.update(data)
        self._bytes += len(data)

    def flush(self) -> None:
        """Wait until everything written is on the disk."""
        os.fsync(self._file)

    def read(self, rows: slice, cols: slice) -> NDArray[np.generic]:
        """Read a window of finished rows, ``(planes, rows, columns)``."""
        window = np.empty((self.planes, rows.stop - rows.start, cols.stop - cols.start), self.dtype)
        for r in _overlapping_tiles(self._rows, rows):
            for c in _overlapping_tiles(self._cols, cols):
                block = self._block(r, c)
                top, left = self._rows.starts[r], self._cols.starts[c]
                inner = _overlap(rows, top, block.shape[1]), _overlap(cols, left, block.shape[2])
                window[:, _shifted(inner[0], rows.start), _shifted(inner[1], cols.start)] = block[
                    :, _shifted(inner[0], top), _shifted(inner[1], left)
                ]
        return window

    def _block(self, r: int, c: int) -> NDArray[np.generic]:
        block = np.empty((self.planes, self._rows.finished(r), self._cols.finished(c)), self.dtype)
        read_at(self._file, block.reshape(-1).view(np.uint8).data, self._offset(r, c))
        return block

    def _offset(self, r: int, c: int) -> int:
        before = self._cols.length * self._rows.starts[r] + self._rows.finished(r) * self._cols.starts[c]
        return before * self.planes * self.dtype.itemsize


@dataclass(frozen=True)
class ResumeState:
    """Progress of a prediction: finished rows of tiles, pixels of each class so far, and checksums of rows by file."""

    rows: int
    counts: NDArray[np.int64]
    """``(256,)``."""
    sums: Mapping[str, Sequence[RowSum]] = field(default_factory=dict)


class Checkpoint:
    """The folder of an unfinished prediction."""

    def __init__(self, folder: Path, identity: str, rows: Axis, cols: Axis) -> None:
        """Open the folder, or begin a new one.

        Args:
            folder: The folder; what another job left in it is removed.
            identity: The hash of everything the map depends on.
            rows: Tiles along the rows.
            cols: Tiles along the columns.
        Raises:
            DiskError: The folder cannot be made.
        """
        self.folder, self._identity = folder, identity
        self._rows, self._cols = rows, cols
        self._files: list[BlockFile] = []
        self.replaced = False
        """Whether rows of another job, or damaged ones, were removed."""
        self.damage: str | None = None
        """What was wrong with the rows of this job, where they were damaged."""
        found = self._read_state()
        if found is None:
            self.replaced = (folder / STATE_FILE).exists()
            shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(f"{folder}: cannot be made ({error.strerror}). Choose another --out.") from error
        self.state = found or ResumeState(0, np.zeros(256, np.int64))

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for file in self._files:
            file.close()

    @property
    def done(self) -> bool:
        """Whether all rows are finished."""
        return self.state.rows == len(self._rows.starts)

    def block_file(self, name: str, *, planes: int, dtype: str) -> BlockFile:
        """Open a raw file of the folder."""
        file = BlockFile(self.folder / f"{name}.raw", self._rows, self._cols, planes=planes, dtype=dtype)
        self._files.append(file)
        return file

    def commit(self, rows: int, counts: NDArray[np.int64]) -> None:
        """Record that ``rows`` rows of tiles are finished, once they are on the disk.

        Raises:
            DiskError: The disk is full.
        """
        for file in self._files:
            file.flush()
        sums = {file.path.name: [*self.state.sums.get(file.path.name, ()), file.end_row()] for file in self._files}
        self.state = ResumeState(rows, counts.copy(), sums)
        record = {"identity": self._identity, "rows": rows, "counts": counts, "sums": sums}
        write_json(self.folder / STATE_FILE, record, kind="prediction")

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read_state(self) -> ResumeState | None:
        try:
            record = read_json(self.folder / STATE_FILE, kind="prediction")
            if record["identity"] != self._identity:
                return None
            rows, counts = int(record["rows"]), np.array(record["counts"], np.int64)
            sums = _row_sums(record)
            self.damage = next(filter(None, (block_file_fault(self.folder / name) for name in sums)), None)
        except (RecordError, OSError, KeyError, TypeError, ValueError):
            return None
        fits = 0 <= rows <= len(self._rows.starts) and counts.shape == (256,)
        return ResumeState(rows, counts, sums) if fits and self.damage is None else None


def _row_sums(record: Record) -> dict[str, list[RowSum]]:
    """Return the checksums of rows by the name of their file; records before there were any have none."""
    return {
        str(name): [(int(length), str(digest)) for length, digest in rows]
        for name, rows in record.get("sums", {}).items()
        if name in BLOCK_FILES
    }


def block_file_fault(path: Path) -> str | None:
    """Compare the finished rows in a raw file of blocks with the checksums in the resume state beside it.

    Args:
        path: The raw file.
    Returns:
        What is wrong; ``None`` where nothing is.
    Raises:
        RecordError: The resume state is damaged.
        OSError: The file cannot be read.
    """
    rows = _row_sums(read_json(path.with_name(STATE_FILE), kind="prediction")).get(path.name, [])
    with open_regular(path) as file:
        for number, (length, digest) in enumerate(rows, start=1):
            if length < 0 or xxhash.xxh3_128_hexdigest(file.read(length)) != digest:
                return f"row {number} of tiles was changed after it was written"
    return None


class FinishedInputs:
    """The inputs of a job that are finished, on the disk until the job is done."""

    def __init__(self, out: Path) -> None:
        """Read what an earlier call finished in the folder of outputs."""
        self._path = out / UNFINISHED_FILE
        self._identities: dict[str, str] = {}
        with contextlib.suppress(RecordError):
            self._identities = dict(read_json(self._path, kind="prediction")["finished"])

    def holds(self, file: InputFile, identity: str) -> bool:
        """Tell whether an earlier call of the same job finished an input, and all its outputs exist."""
        exist = all(path.exists() for path in file.outputs.all)
        return exist and self._identities.get(str(file.outputs.classes)) == identity

    def add(self, file: InputFile, identity: str) -> None:
        """Record that an input is finished."""
        self._identities[str(file.outputs.classes)] = identity
        write_json(self._path, {"finished": self._identities}, kind="prediction")

    def remove(self) -> None:
        """Remove the record: the job is done."""
        self._path.unlink(missing_ok=True)


def _overlapping_tiles(axis: Axis, wanted: slice) -> range:
    """Return the tiles whose finished parts hold some of the pixels."""
    starts = np.array(axis.starts)
    first = int(np.searchsorted(starts, wanted.start, side="right")) - 1
    return range(first, int(np.searchsorted(starts, wanted.stop, side="left")))


def _overlap(wanted: slice, start: int, size: int) -> slice:
    return slice(max(wanted.start, start), min(wanted.stop, start + size))


def _shifted(place: slice, origin: int) -> slice:
    return slice(place.start - origin, place.stop - origin)
