"""Records on disk: JSON with schema numbers, and hashes; written whole, by one writer (:mod:`levelground.files`).

A record is a JSON file whose first keys are ``schema`` and ``kind``.
"""

import hashlib
import json
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelground.errors import RecordError
from levelground.files import atomic_path, one_writer

__all__ = [
    "DAMAGED",
    "SCHEMAS",
    "Record",
    "atomic_path",
    "check_schema",
    "one_writer",
    "plain",
    "read_json",
    "sha256_array",
    "sha256_file",
    "sha256_json",
    "write_json",
]

SCHEMAS: dict[str, int] = {"dataset": 1, "run": 1, "study": 1, "comparison": 1, "counts": 1, "prediction": 1}
"""The schema number that this version writes and reads, by kind of record."""

DAMAGED = (
    OSError, EOFError, ValueError, TypeError, KeyError, SyntaxError, MemoryError, OverflowError, RuntimeError,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy, and zipfile and zlib below it, raise over a damaged file of arrays."""

Record = dict[str, Any]
"""A JSON object. ``Any`` is what JSON is; the readers of each kind turn it into types."""


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
