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
import math
import mmap
import os
import re
import stat
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from levelground.errors import SceneError

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

MAX_TEXT_BYTES = 1 << 28
"""The largest text that is read at once: records, legends, recipes, lists."""

MAX_DIGITS = 4000
"""The most digits of a whole number in JSON; Python itself reads no more than 4300."""

_HUGE = re.compile(r"NaN|Infinity|[eE]\+?\d{3}|\d{309}")  # where a number may be that is not finite

UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, KeyError, SyntaxError, MemoryError, OverflowError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What opening and reading a file through this module may raise; ``ValueError`` says what is wrong with its content."""

DRIVERS: Mapping[bytes, str] = {
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "GTiff"),
    b"<VRTDataset": "VRT",
    b"EHFA_HEADER_TAG": "HFA",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
}
"""How a raster begins -> GDAL's driver that opens it; those that ask a network or run code are not among them."""

_PARTS = frozenset({"images", "image", "labels", "label", "masks", "train", "val", "test"})
"""Folders inside a data folder."""

_MAX_CRS_BYTES = 1 << 16
_CRS_KEY = re.compile(rb'"(?:c|\\u00[46]3)(?:r|\\u00[57]2)(?:s|\\u00[57]3)"\s*:\s*\{', re.IGNORECASE)
_JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)
_REFERENCE = re.compile(rb"href|url|link|\\u", re.IGNORECASE)

_Form = Literal["record", "line"]
_SEALS: dict[_Form, tuple[str, int, str]] = {
    "record": (',\n "sha256": "', 64, '"\n}\n'),
    "line": (', "crc32": "', 8, '"}'),
}
"""Text before the checksum, number of its digits, and text after it, by form."""


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


def raster_errors() -> tuple[type[Exception], ...]:
    """Return what rasterio raises over a raster; some calls let GDAL's own and the system's errors through."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import CRSError, RasterioError

    return RasterioError, CRSError, CPLE_BaseError, UnicodeError, OSError


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


def open_raster(path: Path) -> "DatasetReader":
    """Open a local raster with one of :data:`DRIVERS`.

    Raises:
        SceneError: It, or a file that it names, would lead to the network or out of its folder, or its pixels have no
            or an infinite size.
        rasterio.errors.RasterioIOError: It is not a raster that these drivers read.
    """
    import rasterio

    try:
        start = check_raster(path)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}). Mend the file or its permissions.") from error
    except ValueError as error:
        raise SceneError(f"{path}: {error}. Put the files beside it, or save its pixels as a GeoTIFF.") from error
    driver = next((name for begin, name in DRIVERS.items() if start.startswith(begin)), None)
    if driver is None:
        raise SceneError(f"{path}: is damaged or is not a raster that can be read. Replace the file.")
    raster = rasterio.open(path, driver=driver)
    try:
        _check_place(path, tuple(raster.transform)[:6])
    except BaseException:
        raster.close()
        raise
    return raster


def _check_place(path: Path, transform: tuple[float, ...]) -> None:
    """Refuse a place on the ground that nothing can be computed with: pixels of no or of infinite size.

    Raises:
        SceneError: It is one.
    """
    a, b, c, d, e, f = transform
    sides = math.hypot(a, d), math.hypot(b, e)
    far = not all(map(math.isfinite, transform)) or max(abs(c), abs(f)) > 1e12 or max(sides) > 1e9
    if far or min(sides) < 1e-12 or abs(a * e - b * d) < 1e-9 * sides[0] * sides[1]:
        raise SceneError(
            f"{path}: places its pixels where nothing is (size {sides[0]:g} by {sides[1]:g}, corner {c:g}, {f:g}). "
            "Mend its transform, such as with rio edit-info --transform."
        )


def check_raster(path: Path, root: Path | None = None) -> bytes:
    """Refuse a raster that would make GDAL read elsewhere: a virtual raster's sources must lie below its folder.

    Args:
        path: The file; what lies beside it as overviews or mask is looked at too.
        root: The folder that must not be left; by default the file's own, or the data folder around ``images``.
    Returns:
        How the file begins, blanks before an XML text left out.
    Raises:
        OSError: It, or a source, cannot be read or is not a regular file.
        ValueError: It describes a service, or names an address or a file outside the folder.
    """
    inner = path.parent.name.lower() in _PARTS  # images/ of a data folder may use raw/ beside it
    root = (root or (path.parent.parent if inner else path.parent)).resolve()
    begins = b""
    beside = [path.with_name(path.name + ending) for ending in (".ovr", ".msk")]
    for file in (path, *(one for one in beside if one.exists())):
        with open_regular(file) as opened:
            start = opened.read(1 << 12)
        text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
        start = text if text.startswith(b"<") else start
        begins = begins or start
        if b"<VRTDataset" in start:
            text_of_it = read_text(file)
            ours = is_own_stack(file, text_of_it)
            for source in _vrt_sources(text_of_it):
                place = (file.parent / source).resolve()
                if "/vsi" in source or "://" in source or source.lstrip().startswith("<"):
                    raise ValueError(f"names {source[:80]!r}, which is not a file on this machine")
                if not (ours or place.is_relative_to(root)):
                    raise ValueError(f"names {source[:80]!r}, which leaves its folder")
                if place != file.resolve():
                    check_raster(place, place.parent if ours else root)
        elif start.startswith(b"<"):
            raise ValueError(f"holds {start[:20].decode('utf-8', 'replace')!r}: a description, not pixels")
    return begins


def check_vector(path: Path) -> None:
    """Refuse a file of vectors that would make GDAL read elsewhere, or that is none of the forms read here.

    Args:
        path: A GeoPackage, GeoJSON or shapefile; the parts of a shapefile are looked at too.
    Raises:
        OSError: It, or a part, cannot be read or is not a regular file.
        ValueError: Its content is of another form, or names its coordinate system by an address.
    """
    for suffix in (".shx", ".dbf", ".prj", ".cpg") if path.suffix.lower() == ".shp" else ():
        if (part := path.with_suffix(suffix)).exists():
            open_regular(part).close()
    with open_regular(path) as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\x1e")
        if start.startswith(b"<"):
            raise ValueError(f"holds {start[:20].decode('utf-8', 'replace')!r}: a description, not vectors")
        if not start.startswith((b"SQLite format 3\0", b"\0\0\x27\x0a", b"{")):
            raise ValueError("is damaged or is not a vector file")
        file.seek(0)
        if start.startswith(b"{") and _refers(file):
            raise ValueError("names its coordinate system by an address, and no network is asked")


def _refers(file: IO[bytes]) -> bool:
    """Tell whether an object ``crs`` in a GeoJSON text, at any depth and however it is written, holds a reference."""
    text = b""
    while chunk := file.read(1 << 20):
        text = text[-_MAX_CRS_BYTES:] + chunk
        for key in _CRS_KEY.finditer(text):
            depth = 1
            for token in _JSON_TOKEN.finditer(text, key.end()):
                depth += {b"{": 1, b"}": -1}.get(token[0], 0)
                if _REFERENCE.search(token[0]) is not None:
                    return True
                if depth == 0 or token.end() - key.start() > _MAX_CRS_BYTES:
                    break
            if depth and len(text) - key.start() > _MAX_CRS_BYTES:
                return True
    return False


def is_own_stack(path: Path, text: str) -> bool:
    """Tell whether a virtual raster is one that ``prepare --bands`` wrote into the cache, named by its content."""
    content = json.dumps(["stack", 1, text], separators=(",", ":"), ensure_ascii=False)
    return path.parent.name == "stacks" and path.stem == hashlib.sha256(content.encode()).hexdigest()


def _vrt_sources(text: str) -> list[str]:
    """Return what a virtual raster names: every text and attribute that is not a number may be a file."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("declares entities, which a virtual raster does not need")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - entities, which could grow, are refused above
    except ElementTree.ParseError as error:
        raise ValueError(f"is damaged ({error})") from error
    found = [(one.tag, (one.text or "").strip()) for one in root.iter()]
    named = [
        text
        for tag, text in found
        if text and re.search(r"Source(Filename|Dataset|DS)|OverviewFile|^SrcDS|^DataSource", tag)
    ]
    return named + [
        text for _, text in found if "/vsi" in text or ("://" in text and not text.startswith(("PROJ", "GEOG")))
    ]


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
