"""Files that GDAL opens: rasters and vectors of a few known drivers, which lead to no network and no other folder."""

import errno
import hashlib
import json
import math
import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING
from xml.etree import ElementTree

from levelground.errors import SceneError
from levelground.reading import open_regular, read_text

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

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

MOST_NESTED = 8
"""Virtual rasters that name each other, one below the other."""
MOST_SOURCES = 1_000_000
"""Files that are read for one pixel of a virtual raster."""

_SPECIFIED_VIEWS = frozenset({"st_spatial_ref_sys", "st_geometry_columns"})  # by GeoPackage 1.0; they are not layers

_FILE_KEY = re.compile(r"(FILE|FILENAME(_\w+)?|DATASET|DEM|PATH)$", re.IGNORECASE)
_MAX_CRS_BYTES = 1 << 16
_CRS_KEY = re.compile(rb'"(?:c|\\u00[46]3)(?:r|\\u00[57]2)(?:s|\\u00[57]3)"\s*:\s*\{', re.IGNORECASE)
_JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)
_REFERENCE = re.compile(rb"href|url|link|\\u", re.IGNORECASE)


def raster_errors() -> tuple[type[Exception], ...]:
    """Return what rasterio raises over a raster; some calls let GDAL's own and the system's errors through."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import CRSError, RasterioError

    return RasterioError, CRSError, CPLE_BaseError, UnicodeError, OSError


def open_raster(path: Path) -> "DatasetReader":
    """Open a local raster with one of :data:`DRIVERS`.

    Raises:
        SceneError: It, or a file that it names, would lead to the network or out of its folder, or its pixels have no
            or an infinite size.
        rasterio.errors.RasterioIOError: It is not a raster that these drivers read.
    """
    import rasterio

    try:
        driver = _driver(check_raster(path))
        for file in files_beside(path):
            with rasterio.open(file, driver=_driver(check_raster(file, path.parent))) as beside:
                _check_tags(beside)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}). Mend the file or its permissions.") from error
    except ValueError as error:
        raise SceneError(f"{path}: {error}. Put the files beside it, or save its pixels as a GeoTIFF.") from error
    if driver is None:
        raise SceneError(f"{path}: is damaged or is not a raster that can be read. Replace the file.")
    raster = rasterio.open(path, driver=driver)
    try:
        _check_tags(raster)
        _check_place(path, tuple(raster.transform)[:6])
    except BaseException:
        raster.close()
        raise
    return raster


def _driver(start: bytes) -> str | None:
    """Return the driver that opens a raster which begins so; ``None`` where none does."""
    return next((name for begin, name in DRIVERS.items() if start.startswith(begin)), None)


def _check_tags(raster: "DatasetReader") -> None:
    """Refuse tags by which GDAL would open a further file of any kind: overviews or coordinates elsewhere.

    Raises:
        SceneError: There is one.
    """
    for domain in ("OVERVIEWS", "GEOLOCATION"):
        for key, value in raster.tags(ns=domain).items():
            if key.endswith(("_FILE", "_DATASET")):
                raise SceneError(
                    f"{raster.name}: its tag {key} names {value[:80]!r}, a further file. Remove the tag (it may be in "
                    ".aux.xml beside it), or save its pixels as a GeoTIFF."
                )


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
        ValueError: It describes a service, names an address, a file outside the folder or one that is not a raster
            read here, or its virtual rasters name each other too often.
    """
    inner = path.parent.name.lower() in _PARTS  # images/ of a data folder may use raw/ beside it
    return _checked(path, (root or (path.parent.parent if inner else path.parent)).resolve(), {}, ())[0]


def _checked(path: Path, root: Path, known: dict[Path, int], above: tuple[Path, ...]) -> tuple[bytes, int]:
    """Return how a raster begins, and how many files are read for a pixel of it; ``known`` holds those of others."""
    begins, reads = b"", 0
    for file in (path, *files_beside(path)):
        with open_regular(file) as opened:
            start = opened.read(1 << 12)
        text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
        start = text if text.startswith(b"<") else start
        begins = begins or start
        if b"<VRTDataset" in start:
            reads += _check_vrt(file, root, known, above)
            if file == path and path.suffix.lower() != ".vrt":  # whose sources no cache would know
                raise ValueError("holds a virtual raster, and its name does not end in .vrt")
        elif start.startswith(b"<"):
            raise ValueError(f"holds {start[:20].decode('utf-8', 'replace')!r}: a description, not pixels")
        elif (above or file != path) and _driver(start) is None:
            raise ValueError(f"reads {file.name[:80]!r}, which is not a raster that is read here")
    return begins, max(1, reads)


def _check_vrt(file: Path, root: Path, known: dict[Path, int], above: tuple[Path, ...]) -> int:
    """Check what a virtual raster names; return how many files are read for a pixel of it."""
    text, here, reads = read_text(file), file.resolve(), 0
    own = is_own_stack(file, text)
    if here in above or len(above) > MOST_NESTED:
        raise ValueError("names itself" if here in above else f"nests virtual rasters deeper than {MOST_NESTED}")
    for source, folders in _vrt_sources(text, file.parent):
        if "/vsi" in source or "://" in source or source.startswith("<"):
            raise ValueError(f"names {source[:80]!r}, which is not a file on this machine")
        places = [(folder / source).resolve() for folder in folders]
        places = [place for place in places if place.exists()] or places
        if not (own or all(place.is_relative_to(root) for place in places)):
            raise ValueError(f"names {source[:80]!r}, which leaves its folder")
        place = places[0]
        if place not in known:
            known[place] = _checked(place, place.parent if own else root, known, (*above, here))[1]
        reads += known[place]
        if reads > MOST_SOURCES:
            raise ValueError(f"reads more than {MOST_SOURCES} files for a pixel")
    return reads


def files_beside(path: Path) -> list[Path]:
    """List what GDAL takes for overviews or mask of a raster, whatever the case of its name.

    Raises:
        OSError: The folder cannot be listed, or something beside the raster that GDAL may open is not a regular file.
    """
    found, name = _names_beside(path), path.name.lower()
    ends = [f"{name}{one}{other}" for one in (".ovr", ".msk") for other in ("", ".ovr", ".msk")]
    return [path.with_name(one) for end in (*ends, f"{path.stem.lower()}.aux", f"{name}.aux") for one in found[end]]


def _names_beside(path: Path) -> dict[str, list[str]]:
    """Return the names of overviews and masks in a file's folder by their small letters.

    Raises:
        OSError: The folder cannot be listed, or something that begins as the file's name is not a regular file.
    """
    found, special = _names(path.parent, path.parent.stat().st_mtime_ns)
    waiting = next((name for name in special if name.lower().startswith(path.stem.lower())), path.name)
    if waiting != path.name:
        raise OSError(errno.EINVAL, f"{waiting!r} beside it is not a regular file")
    return found


@lru_cache(maxsize=64)
def _names(folder: Path, _time_ns: int) -> tuple[dict[str, list[str]], list[str]]:
    """Return the names of overviews and masks in a folder by their small letters, and of what is not a file there."""
    found, special = defaultdict[str, list[str]](list), []
    with os.scandir(folder) as entries:
        for one in entries:
            if one.name.lower().endswith((".ovr", ".msk", ".aux")):
                found[one.name.lower()].append(one.name)
            if not (one.is_file() or one.is_dir() or not Path(one).exists()):
                special.append(one.name)
    return found, special


def is_own_stack(path: Path, text: str) -> bool:
    """Tell whether a virtual raster is one that ``prepare --bands`` wrote into the cache, named by its content."""
    content = json.dumps(["stack", 1, text], separators=(",", ":"), ensure_ascii=False)
    return path.parent.name == "stacks" and path.stem == hashlib.sha256(content.encode()).hexdigest()


def _vrt_sources(text: str, folder: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Yield what a virtual raster names, with the folders in which GDAL may look for it."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("declares entities, which a virtual raster does not need")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - entities, which could grow, are refused above
    except ElementTree.ParseError as error:
        raise ValueError(f"is damaged ({error})") from error
    for one in root.iter():
        named = (one.text or "").strip()
        key = one.get("key") or one.get("name") or ""
        relative = one.get("relativeToVRT") or one.get("relativetoVRT")
        if named and re.search(r"Source(Filename|Dataset|DS)|OverviewFile|^SrcDS|^DataSource|DEMPath", one.tag):
            yield named, (folder,) if relative == "1" else (Path.cwd(),)
        elif re.search(r"DATASET|FILE|DEM|PATH", key, re.IGNORECASE) and (":" in named or _exists(folder, named)):
            yield named, (folder, Path.cwd())
        yield from (
            (value, (folder,)) for value in (named, *one.attrib.values()) if "/vsi" in value or _is_address(value)
        )


def _exists(folder: Path, name: str) -> bool:
    """Tell whether a text is the name of a file, seen from a folder or from where the command runs."""
    return 0 < len(name) < 4096 and any(os.path.lexists(place / name) for place in (folder, Path.cwd()))


def _is_address(text: str) -> bool:
    return "://" in text and not text.startswith(("PROJ", "GEOG", "COMPD", "BOUND", "{"))


def check_vector(path: Path) -> None:
    """Refuse a file of vectors that would make GDAL read elsewhere, or that is none of the forms read here.

    Args:
        path: A GeoPackage, GeoJSON or shapefile; the parts of a shapefile are looked at too.
    Raises:
        OSError: It, or a part, cannot be read or is not a regular file.
        ValueError: Its content is of another form, or names its coordinate system by an address.
    """
    _names_beside(path)
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
        if start.startswith(b"SQLite"):
            _check_tables(path)
        if start.startswith(b"{") and _refers(file):
            raise ValueError("names its coordinate system by an address, and no network is asked")


def _check_tables(path: Path) -> None:
    """Refuse a GeoPackage that computes what is read from it, which may take for ever: views and generated columns."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as found:
        specified = set()
        for kind, name, sql in found.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master"):
            text = sql.upper().replace('"', "")
            virtual = re.search(r"VIRTUAL\s+TABLE", text) and not re.search(r"USING\s+RTREE", text)
            if kind == "view" and name in _SPECIFIED_VIEWS:
                specified.add(name)
            elif kind == "view" or virtual or (kind == "table" and re.search(r"\bAS\s*\(", text)):
                raise ValueError(f"holds {name[:80]!r}, which is computed while it is read")
        layers = {name for (name,) in found.execute("SELECT table_name FROM gpkg_contents")} if specified else set()
        for name in specified & layers:
            raise ValueError(f"holds {name!r}, which is computed while it is read")


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
