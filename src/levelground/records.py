"""Records on disk: JSON with schema numbers, and hashes; written whole, by one writer (:mod:`levelground.files`).

A record is a JSON file whose first keys are ``schema`` and ``kind``. Its type is a frozen dataclass derived from
:class:`OpenRecord`, read by :func:`check_record` and written by :func:`to_json`.
"""

import dataclasses
import hashlib
import json
import math
import struct
import tokenize
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    StrictStr,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from levelground.errors import MissingRecordError, RecordError, one_line
from levelground.files import atomic_path, one_writer, reason
from levelground.reading import UNREADABLE, check_seal, open_regular, parse_json, read_text, seal
from levelground.wording import texts_under_fields

__all__ = [
    "DAMAGED",
    "HASHES_FILE",
    "RECORD_CONFIG",
    "SCHEMAS",
    "OpenRecord",
    "Record",
    "atomic_path",
    "check_record",
    "check_schema",
    "describe_fields",
    "json_schema",
    "keep_hashes",
    "one_writer",
    "plain",
    "read_hashes",
    "read_json",
    "sha256_array",
    "sha256_file",
    "sha256_json",
    "to_json",
    "verify_file",
    "write_hashes",
    "write_json",
]

SCHEMAS: dict[str, int] = {
    "dataset": 1,
    "run": 1,
    "study": 1,
    "comparison": 1,
    "benchmark": 1,
    "counts": 1,
    "prediction": 1,
    "hashes": 1,
    "map": 1,
}
"""The schema number that this version writes and reads, by kind of record."""

DAMAGED = (*UNREADABLE, struct.error, tokenize.TokenError)
"""What NumPy, and zipfile and zlib below it, raise over a damaged file of arrays."""

Record = dict[str, Any]
"""A JSON object. ``Any`` is what JSON is; the readers of each kind turn it into types."""

HASHES_FILE = "hashes.json"
"""In a folder: hashes of the files in it that no other record names, such as masks."""

SEAL_KEY = "sha256"
"""The last key of a record: the hash of the text before it."""
SEAL_SCHEMA: Record = {
    "type": "string",
    "pattern": "^[0-9a-f]{64}$",
    "description": "SHA-256 of the file's text before this key; files of version 0.1.0 have none.",
}

_REMEDIES = {
    "run": ("Restore it from a copy, or make the run anew", "Give the folder of a run"),
    "dataset": ("Run levelground prepare again", "Give the folder of a study, or run levelground prepare first"),
    "comparison": ("Run levelground compare again", "Run levelground compare first"),
    "study": ("Remove it and run levelground study again", "Give the folder of a study"),
    "prediction": ("Remove it and run the command again", "Give the folder of a prediction"),
    "hashes": ("Run the command again that wrote the files beside it", "Export the model anew"),
    "map": ("Remove its folder and ask for the map again", "Ask for the map again"),
    "benchmark": ("Run levelground benchmark again", "Run levelground benchmark first"),
}
"""What to do about a damaged and a missing record, by kind; a run card holds what only its training knew."""


def plain(value: object) -> Any:
    """Turn NumPy values, tuples and paths into what JSON holds; NaN and infinities become ``None``.

    Example:
        >>> plain({"iou": np.array([0.5, np.nan]), "n": np.int64(3)})
        {'iou': [0.5, None], 'n': 3}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def write_json(path: Path, record: Mapping[str, object], *, kind: str) -> None:
    """Write a record atomically, with its kind and schema number first and its checksum last.

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
        try:
            temporary.write_text(seal(text + "\n", "record"), encoding="utf-8")
        except UnicodeEncodeError as error:
            text = one_line(error.object[max(0, error.start - 40) : error.end])
            raise RecordError(
                f"{path}: cannot hold {text!r}, which is not UTF-8. Rename that folder or file."
            ) from error


def read_json(path: Path, *, kind: str) -> Record:
    """Read a record and check its kind and schema.

    Args:
        path: The file.
        kind: The kind expected, one of :data:`SCHEMAS`.
    Returns:
        The record, ``schema`` and ``kind`` included, without its checksum.
    Raises:
        MissingRecordError: There is no such file.
        RecordError: It is not a JSON object, has another kind or schema, or was changed after it was written.
    """
    remedy, missing = _REMEDIES.get(kind, _REMEDIES["run"])
    try:
        text = read_text(path)
        record = parse_json(text, finite=True)
    except FileNotFoundError as error:
        what = f"{path}: no such record; expected a {kind} written by levelground. {missing}."
        raise MissingRecordError(what) from error
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: unreadable {kind} record ({reason(error)}). {remedy}.") from error
    if not isinstance(record, dict) or record.get("kind") != kind:
        found = record.get("kind") if isinstance(record, dict) else type(record).__name__
        raise RecordError(f"{path}: holds {found!r}, expected a record of kind {kind!r}. Give the right file.")
    check_schema(path, record.get("schema"), kind=kind)
    try:
        check_seal(text, "record")
    except ValueError as error:
        raise RecordError(
            f"{path}: was changed after it was written ({error}). {remedy}; or remove its last key, {SEAL_KEY}, if you "
            "changed it on purpose."
        ) from error
    record.pop(SEAL_KEY, None)
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


def describe_fields(schema: Record, cls: type) -> None:
    """Describe the fields of a type in its JSON Schema by the texts under them, where nothing else describes them.

    Pydantic would read them from the source at each start; as ``json_schema_extra`` this is done for a schema only.
    """
    fields: dict[str, FieldInfo] = getattr(cls, "__pydantic_fields__", {})  # the standard library's have none
    for name, text in texts_under_fields(cls).items():
        info = fields.get(name)
        key = name if info is None else info.alias or name
        if key in schema.get("properties", ()) and (info is None or info.description is None):
            schema["properties"][key]["description"] = text


RECORD_CONFIG = ConfigDict(extra="forbid", populate_by_name=True, json_schema_extra=describe_fields)
"""The pydantic configuration of typed records."""


@dataclass(frozen=True, config=RECORD_CONFIG)
class OpenRecord:
    """JSON object with typed fields that keeps the keys it does not know.

    A record that is read, changed with ``dataclasses.replace`` and written again loses nothing that a newer version
    or another tool put into it. ``null`` and a missing key mean the same: the field's default. Fields are declared with
    strict types (``StrictInt``, ``StrictStr``, …), so that a number written as text is refused.
    """

    KIND: ClassVar[str | None] = None
    """The kind of record, one of :data:`SCHEMAS`, where this is a whole file and not a block of one."""
    ALWAYS_WRITTEN: ClassVar[frozenset[str]] = frozenset()
    """Keys that are written even where they hold their default; the others are left out then."""

    extra: Mapping[str, JsonValue] = dataclasses.field(default_factory=dict, kw_only=True, repr=False)
    """The keys that this version does not know."""

    @model_validator(mode="wrap")
    @classmethod
    def _split_keys(cls, content: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Move unknown keys of a JSON object to ``extra`` and take ``null`` for a missing key."""
        if not isinstance(content, dict):
            return validate(content)
        fields = {info.alias or name: (name, info) for name, info in _fields(cls).items()}
        own = {"schema", "kind"} if cls.KIND is not None else set()
        known: dict[str, Any] = {
            "extra": {k: value for k, value in content.items() if k not in fields and k not in own}
        }
        for key, (name, info) in fields.items():
            if key in content and (content[key] is not None or info.is_required()):
                known[name] = content[key]
        return cls(**known)  # an instance: strict validation around it takes nothing else

    @model_serializer(mode="wrap")
    def _join_keys(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write known keys in the order of the fields, then the unknown ones."""
        content = {} if self.KIND is None else {"schema": SCHEMAS[self.KIND], "kind": self.KIND}
        values = serialise(self)
        for name, info in _fields(type(self)).items():
            key, value = info.alias or name, getattr(self, name)
            default = info.get_default(call_default_factory=True)  # a mark of pydantic's where there is none
            if name in self.ALWAYS_WRITTEN or value != default:
                content[key] = values[key if key in values else name]
        return content | dict(self.extra)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe the object as it lies on disk: any further key is allowed."""
        schema = handler(core)
        content = handler.resolve_ref_schema(schema)
        content["properties"].pop("extra", None)
        content["additionalProperties"] = True
        if cls.KIND is not None:
            head = {"schema": {"const": SCHEMAS[cls.KIND]}, "kind": {"const": cls.KIND}}
            content["properties"] = head | content["properties"] | {SEAL_KEY: SEAL_SCHEMA}
            content["required"] = ["schema", "kind", *content.get("required", ())]
        return schema


def _fields(cls: type) -> dict[str, FieldInfo]:
    """Return the fields of a record by name, without ``extra``."""
    fields: dict[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]  # every pydantic dataclass's
    return {name: info for name, info in fields.items() if name != "extra"}


AnyRecord = TypeVar("AnyRecord", bound=OpenRecord)


def check_record(content: object, cls: type[AnyRecord], *, source: str, remedy: str) -> AnyRecord:
    """Turn a JSON object into a typed record.

    Args:
        content: The object.
        cls: The type of the record.
        source: What to name in the error, such as the file.
        remedy: What the user can do, such as ``Make the run anew.``
    Returns:
        The record.
    Raises:
        RecordError: A key is missing or holds a value of a wrong type; the message names the first.
    """
    try:
        record: AnyRecord = TypeAdapter(cls).validate_python(content)
    except ValidationError as error:
        raise RecordError(f"{source}: {_first_fault(error)}. {remedy}") from error
    return record


def _first_fault(error: ValidationError) -> str:
    """Name the first key that is missing or wrong, and say what was expected."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part != "extra")
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return f"lacks {where!r}"
    reason = "Input should be an object" if first["type"] == "dataclass_type" else first["msg"]
    reason = reason.removeprefix("Value error, ")
    return one_line(f"{where} {reason}" if reason.startswith("is ") else f"{where}: {reason}")


def to_json(record: OpenRecord) -> Record:
    """Turn a typed record into the JSON object that is written."""
    content: Record = plain(TypeAdapter(type(record)).dump_python(record, mode="json", by_alias=True))
    return content


def json_schema(cls: type[OpenRecord]) -> Record:
    """Return the JSON Schema of a record as it lies on disk."""
    return TypeAdapter(cls).json_schema()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a regular file's bytes, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_stamped(path: Path) -> str:
    """Return the SHA-256 of a file that this process hashes once, as long as its size and time stay."""
    status = path.stat()
    return _sha256_of(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 12)
def _sha256_of(path: Path, _inode: int, _size: int, _time_ns: int) -> str:
    return sha256_file(path)


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class HashesRecord(OpenRecord):
    """Hashes of files that no other record names: masks, tables, pictures, pages, exports."""

    KIND: ClassVar[str | None] = "hashes"

    files: Mapping[StrictStr, Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")]]
    """SHA-256 of each file by its path, relative to the folder of this record."""


hashes_schema = partial(json_schema, HashesRecord)


def write_hashes(path: Path, files: Iterable[Path], *, alone: bool = False) -> None:
    """Write the hashes of files, in place of those that were there.

    Args:
        path: The record, in a folder that holds the files.
        files: The files.
        alone: Remove other files that the record named, as far as nobody changed them since.
    Raises:
        DiskError: It cannot be written.
    """
    found, former = {file.relative_to(path.parent).as_posix(): sha256_file(file) for file in sorted(files)}, {}
    with suppress(RecordError):  # without a record that is whole, nothing is known to be ours
        former = read_hashes(path) if alone else {}
    for other in (path.parent / name for name in former if name not in found and ".." not in Path(name).parts):
        if other.is_file() and sha256_file(other) == former[other.relative_to(path.parent).as_posix()]:
            other.unlink()
    write_json(path, to_json(HashesRecord(files=found)), kind="hashes")


def keep_hashes(path: Path, files: Iterable[Path]) -> None:
    """Write the hashes of files beside those of others that the record has; nothing is written where all are known.

    Raises:
        RecordError: The record was changed.
        DiskError: It cannot be written.
    """
    known = read_hashes(path) if path.exists() else {}
    found = known | {file.relative_to(path.parent).as_posix(): sha256_file(file) for file in sorted(files)}
    if found != known:
        write_json(path, to_json(HashesRecord(files=found)), kind="hashes")


def read_hashes(path: Path) -> dict[str, str]:
    """Read the hashes of files by their paths relative to the record's folder.

    Raises:
        RecordError: It is missing, damaged or of another kind.
    """
    record = check_record(read_json(path, kind="hashes"), HashesRecord, source=str(path), remedy="Remove it.")
    return dict(record.files)


def verify_file(path: Path, remedy: str, hashes: Path | None = None) -> None:
    """Compare a file with its hash; without a record, or where that does not name it, nothing is compared.

    Args:
        path: The file.
        remedy: What to do where it differs, as a sentence.
        hashes: The record; by default :data:`HASHES_FILE` beside the file.
    Raises:
        RecordError: The file or the record of hashes was changed after it was written.
    """
    record = hashes or path.with_name(HASHES_FILE)
    try:
        status = record.stat()
    except OSError:
        return
    known = _known_hashes(record, status.st_size, status.st_mtime_ns).get(path.relative_to(record.parent).as_posix())
    if known is not None and path.is_file() and sha256_stamped(path) != known:
        raise RecordError(
            f"{path}: was changed after it was written. {remedy} If you changed it on purpose, remove {record}."
        )


@lru_cache(maxsize=64)
def _known_hashes(path: Path, _size: int, _time_ns: int) -> dict[str, str]:
    """Read a record of hashes once for all files that it names."""
    return read_hashes(path)


def sha256_array(array: NDArray[np.generic]) -> str:
    """Return the SHA-256 of an array's type, shape and values (C order, little-endian), in hexadecimal.

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
    """Return the SHA-256 of a value's canonical JSON (sorted keys, no spaces), in hexadecimal."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
