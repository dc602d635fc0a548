"""Read files that are not trusted: regular files only, bounded sizes, one reader each for JSON, TOML and archives.

Each reader knows all that may go wrong with its kind of file and turns it into one line. What levelground writes
carries a checksum, the seal, which is checked here: a record ends with the SHA-256 of the text before, a line of a log
with its CRC-32. Files without a seal, as version 0.1.0 and other programs write them, are read without the check.
"""

import csv
import errno
import hashlib
import io
import json
import mmap
import os
import re
import stat
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

MAX_TEXT_BYTES = 1 << 28
"""The largest text that is read at once: records, legends, recipes, lists."""

MAX_DIGITS = 4000
"""The most digits of a whole number in JSON; Python itself reads no more than 4300."""

_HUGE = re.compile(r"NaN|Infinity|[eE]\+?\d{3}|\d{309}")  # where a number may be that is not finite

_WHOLE, _DECIMAL = re.compile(r"[+-]?[0-9]{1,300}"), re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, KeyError, SyntaxError, MemoryError, OverflowError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What opening and reading a file through this module may raise; ``ValueError`` says what is wrong with its content."""

_Form = Literal["record", "line"]
_SEALS: dict[_Form, tuple[str, int, str]] = {
    "record": (',\n "sha256": "', 64, '"\n}\n'),
    "line": (', "crc32": "', 8, '"}'),
}
"""Text before the checksum, number of its digits, and text after it, by form."""


def is_whole_number(text: str) -> bool:
    """Tell whether a text that somebody gave is plainly a whole number; ``int`` takes more.

    Example:
        >>> [is_whole_number(text) for text in ("12", "-3", "1_0", " 5", "٣", "²", "--5")]
        [True, True, False, False, False, False, False]
    """
    return _WHOLE.fullmatch(text) is not None


def is_number(text: str) -> bool:
    """Tell whether a text that somebody gave is plainly a number; ``float`` takes more.

    Example:
        >>> [is_number(text) for text in ("1.5", ".5", "1e-3", "1_0", " 5", "٣", "nan", "infinity")]
        [True, True, True, False, False, False, False, False]
    """
    return _DECIMAL.fullmatch(text) is not None


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading; a FIFO, device, socket or folder is refused at once, without waiting for a writer.

    Raises:
        OSError: It cannot be opened, or is not a regular file.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        os.close(handle)
        number, reason = (errno.EISDIR, "Is a directory") if folder else (errno.EINVAL, "is not a regular file")
        raise OSError(number, reason, os.fspath(path))
    return os.fdopen(handle, "rb")


def holds_bytes(path: Path, wanted: bytes) -> bool:
    """Tell whether a regular file holds some bytes anywhere; nothing of it is kept in memory.

    Raises:
        OSError: It cannot be read or is not a regular file.
    """
    with open_regular(path) as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(wanted) >= 0


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """Read a regular file.

    Args:
        path: The file.
        limit: The most bytes that it may hold; ``None`` takes its own size.
    Raises:
        OSError: It cannot be read or is not a regular file.
        ValueError: It is larger than ``limit``.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise ValueError(f"{size} bytes, at most {limit} are read")
        return file.read(size)


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Read a text of at most :data:`MAX_TEXT_BYTES`.

    Raises:
        OSError: It cannot be read or is not a regular file.
        ValueError: It is larger, or is not in the encoding (``UnicodeDecodeError``).
    """
    return read_bytes(path, MAX_TEXT_BYTES).decode(encoding)


def read_loosely(path: Path) -> str:
    """Read a text that may be anything, such as a file beside an image.

    Returns:
        The text, at most :data:`MAX_TEXT_BYTES` of it; bytes that are not UTF-8 are replaced, and a file that cannot be
        read, or is not a regular one, is empty.
    """
    try:
        with open_regular(path) as file:
            return file.read(MAX_TEXT_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def parse_csv(text: str, delimiter: str = ",") -> list[list[str]]:
    """Parse a table of values that a delimiter parts.

    Raises:
        ValueError: A value is longer than a table's may be, or a line is not one.
    """
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f"not a table ({error})") from error


def parse_json(text: str, *, finite: bool = False) -> Any:
    """Parse JSON.

    Args:
        text: The text.
        finite: Whether to refuse numbers that are not finite, such as ``1e400``, which records write as null.
    Raises:
        ValueError: The text is not JSON, is nested too deeply, or holds a number or half of a surrogate pair that no
            type can hold.
    """
    try:
        content = json.loads(text, parse_int=_whole_number)
        if finite and _HUGE.search(text):
            json.dumps(content, allow_nan=False)
        if "\\ud" in text.lower():
            json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair: surrogates not allowed") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return content


def _whole_number(digits: str) -> int:
    """Read a whole number of a length that can be computed with."""
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def parse_toml(text: str) -> dict[str, object]:
    """Parse TOML.

    Raises:
        ValueError: The text is not TOML, is nested too deeply or holds a number that no type can hold.
    """
    try:
        content = tomllib.loads(text)
        json.dumps(content, default=str)  # what is nested too deeply for JSON is refused here, not where it is used
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise ValueError("a whole number of too many digits") from error
        raise
    return content


CheckArray = Callable[[str, np.dtype[Any], tuple[int, ...]], None]
"""What :func:`read_arrays` calls before it reads an array."""


def read_arrays(path: Path | BinaryIO, names: Iterable[str], check: CheckArray) -> dict[str, NDArray[Any]]:
    """Read the known arrays of an ``.npz`` archive; others are not looked at, however large they are.

    Args:
        path: The archive, or its content.
        names: Names of the arrays; those that the archive lacks are left out.
        check: Called with name, type and shape of each array before its values are read; it raises ``ValueError``
            where they cannot be right, so that nothing is inflated that nobody expects.
    Returns:
        The arrays by name.
    Raises:
        OSError: It cannot be read or is not a regular file.
        ValueError: It is not an archive of arrays, or one is damaged; also the other errors of :data:`UNREADABLE`.
    """
    opened: BinaryIO = open_regular(path) if isinstance(path, Path) else path
    with opened as file, zipfile.ZipFile(file) as archive:
        members = set(archive.namelist())
        return {name: _read_member(archive, name, check) for name in names if f"{name}.npy" in members}


def _read_member(archive: zipfile.ZipFile, name: str, check: CheckArray) -> NDArray[Any]:
    """Read one array; its header must announce exactly the bytes that follow."""
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(member)
        else:
            raise ValueError(f"{name}: array of version {version}")
        if dtype.hasobject:
            raise ValueError(f"{name}: objects (pickles) are not read")
        if any(side < 0 for side in shape):
            raise ValueError(f"{name}: shape {shape}")
        check(name, dtype, shape)
        count = int(np.prod([int(side) for side in shape], dtype=object)) if shape else 1
        size = count * dtype.itemsize
        if size > archive.getinfo(f"{name}.npy").file_size:
            raise ValueError(f"{name}: breaks off")
        content = member.read(size)
        if len(content) != size or member.read(1):
            raise ValueError(f"{name}: another length than its header says")
    array = np.frombuffer(content, dtype, count) if dtype.itemsize else np.zeros(count, dtype)
    return array.reshape(shape, order="F" if fortran else "C").copy()


def seal(text: str, form: _Form) -> str:
    """Add a checksum to a JSON object as its last key.

    Args:
        text: The object: a record as ``json.dumps(…, indent=1)`` writes it with a line end, or a line without one.
        form: ``record`` or ``line``.
    Returns:
        The text with the key ``sha256`` or ``crc32``.
    """
    head, _, end = _SEALS[form]
    body = text.removesuffix("\n").removesuffix("}").removesuffix("\n")
    return f"{body}{head}{_digest(body, form)}{end}"


def check_seal(text: str, form: _Form) -> bool:
    """Check the checksum at the end of a text.

    Returns:
        False where there is none: the text was written by version 0.1.0 or another program.
    Raises:
        ValueError: It does not fit, or is itself damaged.
    """
    head, digits, end = _SEALS[form]
    body, tail = text[: -(len(head) + digits + len(end))], text[-(len(head) + digits + len(end)) :]
    found = tail[: len(head)] + tail[len(head) + digits :]
    wrong = sum(a != b for a, b in zip(found, head + end, strict=False)) + abs(len(found) - len(head + end))
    if wrong > 2:  # a flipped byte changes one character; what has more of another form was never a seal
        return False
    if wrong or tail[len(head) : len(head) + digits] != _digest(body, form):
        raise ValueError("its checksum does not fit")
    return True


def _digest(body: str, form: _Form) -> str:
    """Compute the checksum of a text before its seal."""
    content = body.encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest() if form == "record" else f"{zlib.crc32(content):08x}"


SIGNATURE_BYTES = 65
"""Length of the line before a signed content: its SHA-256 in hexadecimal, and a line end."""


def verify_signed(content: bytes) -> memoryview:
    """Return the content behind a line with its SHA-256, as states of training are written.

    Raises:
        ValueError: It does not fit.
    """
    head, body = content[:SIGNATURE_BYTES], memoryview(content)[SIGNATURE_BYTES:]
    if hashlib.sha256(body).hexdigest().encode() + b"\n" != head:
        raise ValueError("its checksum does not match")
    return body
