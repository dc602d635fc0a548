"""Records on disk: atomic writes, schema numbers, hashes and the one-writer lock.

A record is a JSON file whose first keys are ``schema`` and ``kind``. It is written under a temporary name, flushed to
the disk and renamed, so a reader sees the old record or the new one and never a half.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelground.errors import BusyError, DiskError, RecordError

SCHEMAS: dict[str, int] = {"dataset": 1, "run": 1, "study": 1, "comparison": 1, "counts": 1}
"""The schema number that this version writes and reads, by kind of record."""

Record = dict[str, Any]
"""A JSON object. ``Any`` is what JSON is; the readers of each kind turn it into types."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well, else remove it.

    Args:
        path: The file to appear. Its folder is made where it is missing.
    Raises:
        DiskError: The disk is full or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=f".part{path.suffix}")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or not isinstance(error.filename, str | None):
            raise
        raise DiskError(f"{path}: cannot be written ({error.strerror}). Free space or choose another --out.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def plain(value: object) -> Any:
    """Turn NumPy values, tuples and paths into what JSON holds; NaN and infinities become ``None``.

    Example:
        >>> plain({"iou": np.array([0.5, np.nan]), "n": np.int64(3)})
        {'iou': [0.5, None], 'n': 3}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def write_json(path: Path, record: Mapping[str, object], *, kind: str) -> None:
    """Write a record atomically, with its kind and schema number first.

    Args:
        path: The file.
        record: The content; NumPy values and NaN are allowed (see :func:`plain`).
        kind: One of :data:`SCHEMAS`.
    Raises:
        DiskError: The file cannot be written.
    """
    content = {"schema": SCHEMAS[kind], "kind": kind} | plain(record)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, *, kind: str) -> Record:
    """Read a record and check its kind and schema.

    Args:
        path: The file.
        kind: The kind expected, one of :data:`SCHEMAS`.
    Returns:
        The record, ``schema`` and ``kind`` included.
    Raises:
        RecordError: The file is missing, is no JSON object, or has another kind or an unknown schema.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such record; expected a {kind} written by levelground.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise RecordError(
            f"{path}: unreadable {kind} record ({error}). Remove it and run the command again."
        ) from error
    if not isinstance(record, dict) or record.get("kind") != kind:
        found = record.get("kind") if isinstance(record, dict) else type(record).__name__
        raise RecordError(f"{path}: holds {found!r}, expected a record of kind {kind!r}. Give the right file.")
    check_schema(path, record.get("schema"), kind=kind)
    return record


def check_schema(path: Path, schema: object, *, kind: str) -> None:
    """Refuse a schema number that this version does not read.

    Raises:
        RecordError: ``schema`` is not the number this version writes for ``kind``.
    """
    if schema != SCHEMAS[kind]:
        raise RecordError(
            f"{path}: {kind} record of schema {schema!r}, this version reads {SCHEMAS[kind]}. "
            "Use the levelground that wrote it, or make the record anew."
        )


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_array(array: NDArray[np.generic]) -> str:
    """The SHA-256 of an array's type, shape and values (C order, little-endian), in hexadecimal.

    Example:
        >>> a = np.zeros((2, 3), np.uint8)
        >>> sha256_array(a) == sha256_array(a.copy(order="F")), sha256_array(a) == sha256_array(a.reshape(3, 2))
        (True, False)
    """
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{little.dtype.str}{little.shape}".encode())
    digest.update(little.data if little.size else b"")
    return digest.hexdigest()


def sha256_json(value: object) -> str:
    """The SHA-256 of a value's canonical JSON (sorted keys, no spaces), in hexadecimal.

    Example:
        >>> sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
        True
    """
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the lock goes with the process, so a dead one leaves none.

    Args:
        folder: The folder to hold; made where it is missing.
    Raises:
        BusyError: Another process holds it; the message names it.
        DiskError: The folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{folder}: cannot be written ({error.strerror}). Choose another --out.") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise BusyError(f"{folder}: held by {holder}. Wait for it to end, or choose another --out.") from error
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
