"""Read the headers of image files without decoding: JPEG, PNG and TIFF, told apart by content, not by suffix."""

import html
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from levelground.errors import SceneError
from levelground.imagery.geotiff import NO_BAND_INFO, BandInfo, RasterInfo, read_info
from levelground.reading import open_regular, read_bytes, read_loosely

MAX_PIXELS = 89_478_485
"""The most pixels decoded at once (Pillow's limit too); larger rasters are read through windows."""

MAX_JPEG_BYTES = 1 << 30
"""The largest JPEG that is read: of the most pixels, at the best quality."""

MAX_EXTRA_BYTES = 64 << 20
"""The most bytes of a PNG beside its pixels: texts, profiles, palettes."""

MAX_VALUES = 1 << 30
"""The most values decoded at once: pixels × bands."""

READ_AS = {
    "int8": "int16",
    "int32": "float32",
    "uint32": "float32",
    "int64": "float32",
    "uint64": "float32",
    "float64": "float32",
}
"""How types are read that networks cannot take; whole numbers are exact up to 2^24. Complex numbers are not read."""

Format = Literal["jpeg", "png", "tiff"]
_PNG_BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # channels by colour type: PNG specification, table 11.1
_PNG_START = b"\x89PNG\r\n\x1a\n"
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the second pair is BigTIFF
_OTHER_STARTS = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"<VRTDataset", b"EHFA_HEADER_TAG")
"""How JPEG 2000, virtual rasters and ERDAS Imagine files begin; they are read through windows, as TIFF is."""
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange rows and columns


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file; height and width are those of the upright image.

    ``bands`` counts what is stored: 4 for RGB with alpha, 1 for a palette. ``depth`` is the bits a PNG stores of each.
    The fields from ``band_nodata`` on are a raster's, as in :class:`~levelground.imagery.geotiff.RasterInfo`.
    """

    format: Format
    height: int
    width: int
    bands: int
    dtype: str
    alpha: bool = False
    palette: bool = False
    depth: int = 8
    orientation: int = 1
    nodata: float | None = None
    crs: str | None = None
    transform: tuple[float, ...] | None = None
    band_nodata: tuple[float | None, ...] = ()
    masked: bool = False
    alpha_band: int | None = None
    band_info: BandInfo = NO_BAND_INFO
    gsd_m: float | None = None

    @property
    def image_bands(self) -> int:
        """Number of bands of the image as it is read: a palette becomes three, alpha is dropped."""
        return 3 if self.palette and self.format == "png" else self.bands - self.alpha

    @property
    def kind(self) -> tuple[int, str]:
        """What all images of a data set must have alike: the number of bands and the kind of their type."""
        return self.image_bands, kind_of_type(self.dtype)


def read_header(path: Path) -> ImageHeader:
    """Read a file's header; one that was read before and has not changed since is not opened again.

    Args:
        path: A JPEG, PNG or TIFF.
    Raises:
        SceneError: The file cannot be read, is empty, truncated within its header, not an image, a CMYK JPEG, or larger
            than :data:`MAX_PIXELS` (a TIFF may be larger: see :func:`check_size`).
    """
    beside = (path, path.with_name(f"{path.name}.msk"), _metadata_file(path), *_world_files(path))
    return _read_header(path, tuple(file_stamp(file) for file in beside))


def _metadata_file(path: Path) -> Path:
    """Return where GDAL and QGIS keep what a file itself cannot say."""
    return path.with_name(f"{path.name}.aux.xml")


def _world_files(path: Path) -> tuple[Path, ...]:
    """List the names that the world file of an image may have, and the file of its coordinate system, last."""
    suffix = path.suffix
    if len(suffix) < 3 or suffix.lower().startswith(".tif"):
        return ()
    short = f".{suffix[1]}{suffix[-1]}w"
    endings = (short.lower(), short.upper(), f"{suffix}w", f"{suffix}W", ".wld", ".prj")
    return tuple(path.with_suffix(ending) for ending in dict.fromkeys(endings))


def _with_place(header: ImageHeader, path: Path) -> ImageHeader:
    """Add the place that a world file or GDAL's metadata file beside an image gives it; turned images have none."""
    *worlds, system = _world_files(path) or (path,)
    metadata = _metadata_file(path)
    if header.orientation != 1 or not any(file.is_file() for file in (*worlds, metadata)):
        return header
    about = read_loosely(metadata) if metadata.is_file() else ""
    transform = None
    for world in worlds:
        if world.is_file() and transform is None:
            transform = _world_transform(read_loosely(world))
    if transform is None and (found := re.search(r"<GeoTransform>([^<]*)</GeoTransform>", about)):
        numbers = _numbers(found[1].replace(",", " "))
        transform = tuple(numbers[n] for n in (1, 2, 0, 4, 5, 3)) if len(numbers) == 6 else None
    if transform is None:
        return header
    srs = re.search(r"<SRS[^>]*>([^<]*)</SRS>", about)
    wkt = html.unescape(srs[1]) if srs else ""
    if system.is_file():
        wkt = read_loosely(system)
    return _with_system(header, transform, wkt)


def _with_system(header: ImageHeader, transform: tuple[float, ...], wkt: str) -> ImageHeader:
    """Return a header with a place, in a coordinate system if that can be read."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    crs = None
    if wkt.strip():
        with suppress(CRSError):
            crs = CRS.from_wkt(wkt.strip()).to_string()
    a, b, c, d, e, f = transform
    info = RasterInfo(header.height, header.width, header.bands, header.dtype, None, crs, (a, b, c, d, e, f))
    return replace(header, transform=transform, crs=crs, gsd_m=info.gsd_m)


def _world_transform(text: str) -> tuple[float, ...] | None:
    """Return the transform of a world file: six numbers, of which the last two are the middle of the first pixel."""
    numbers = _numbers(text)
    if len(numbers) != 6:
        return None
    a, d, b, e, x, y = numbers
    return a, b, x - (a + b) / 2, d, e, y - (d + e) / 2


def _numbers(text: str) -> list[float]:
    """Return the numbers of a text; none where it holds anything else."""
    try:
        return [float(word.replace(",", ".")) for word in text.split()]
    except ValueError:
        return []


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is written: its size and time; ``None`` where it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=1 << 16)
def _read_header(path: Path, _stamps: tuple[tuple[int, int] | None, ...]) -> ImageHeader:
    """Read a header; the stamps of the file and of those beside it are arguments so that a changed one is read anew."""
    try:
        with open_regular(path) as file:
            start = file.read(1 << 16)
            if start.startswith(b"\xff\xd8\xff"):
                return _with_place(_jpeg_header(start, path), path)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}). Mend the file or its permissions.") from error
    if start.startswith(_PNG_START):
        return _with_place(_png_header(start, path), path)
    if start.startswith(_TIFF_STARTS + _OTHER_STARTS):
        info = read_info(path)
        return ImageHeader(
            "tiff",
            info.height,
            info.width,
            info.bands,
            info.dtype,
            alpha=info.alpha is not None,
            nodata=info.nodata,
            crs=info.crs,
            transform=info.transform,
            band_nodata=info.band_nodata,
            masked=info.masked,
            alpha_band=info.alpha,
            band_info=info.band_info.of([band for band in range(1, info.bands + 1) if band != info.alpha]),
            gsd_m=info.gsd_m,
        )
    if not start:
        raise SceneError(f"{path}: is empty (0 bytes). Copy the file again.")
    raise SceneError(f"{path}: is not a JPEG, PNG or TIFF (begins with {start[:12]!r}). Replace or convert the file.")


def check_size(path: Path, height: int, width: int, bands: int = 1, *, windowed: bool = False) -> None:
    """Refuse to decode nothing, or more than :data:`MAX_PIXELS`; ``windowed`` files can be read in parts.

    Raises:
        SceneError: The image is empty or too large.
    """
    if height < 1 or width < 1 or bands < 1:
        raise SceneError(f"{path}: has {width} × {height} pixels in {bands} bands. Replace the file.")
    if height * width > MAX_PIXELS or height * width * bands > MAX_VALUES:
        raise SceneError(
            f"{path}: has {width} × {height} pixels in {bands} bands; at most {MAX_PIXELS} pixels are decoded at once. "
            f"Cut it, or {'' if windowed else 'save it as GeoTIFF and '}pass --layout raster."
        )


def kind_of_type(dtype: str) -> str:
    """Return what a type is called in records: a model that learnt from one reads only that; floats are alike.

    Example:
        >>> kind_of_type("float64"), kind_of_type("int32")
        ('float32', 'int32')
    """
    return "float32" if dtype == "float64" else dtype


def png_chunks(content: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Walk over a PNG's chunks up to its end, checking each checksum.

    Decoders differ in what they make of a truncated PNG (GDAL gives black without a word), so this is checked here.

    Args:
        content: The whole file.
        path: Its name, for the error.
    Yields:
        Type and data of each chunk, ``IEND`` included.
    Raises:
        SceneError: The file ends early or a checksum does not fit.
    """
    position, kind = len(_PNG_START), b""
    while kind != b"IEND":
        size = int.from_bytes(content[position : position + 4], "big")
        kind = content[position + 4 : position + 8]
        end = position + 12 + size
        if end > len(content):
            raise SceneError(f"{path}: PNG is truncated after {len(content)} bytes. Copy the file again.")
        data = memoryview(content)[position + 4 : end - 4]
        if zlib.crc32(data) != int.from_bytes(content[end - 4 : end], "big"):
            raise SceneError(f"{path}: PNG is damaged at byte {position} (checksum). Copy the file again.")
        yield kind, bytes(data[4:]) if kind in (b"PLTE", b"tRNS") else b""
        position = end


def _png_header(start: bytes, path: Path) -> ImageHeader:
    """Read IHDR."""
    if len(start) < 33 or start[12:16] != b"IHDR":
        raise SceneError(f"{path}: PNG is truncated after {len(start)} bytes. Copy the file again.")
    width, height, depth, colour = struct.unpack(">IIBB", start[16:26])
    if colour not in _PNG_BANDS or depth not in (1, 2, 4, 8, 16):
        raise SceneError(f"{path}: PNG is damaged (colour type {colour}, {depth} bits). Copy the file again.")
    check_size(path, height, width, _PNG_BANDS[colour])
    return ImageHeader(
        "png",
        height,
        width,
        _PNG_BANDS[colour],
        "uint16" if depth == 16 else "uint8",
        alpha=colour in (4, 6),
        palette=colour == 3,
        depth=depth,
    )


def _jpeg_header(start: bytes, path: Path) -> ImageHeader:
    """Read size, colour space and EXIF orientation."""
    import simplejpeg

    try:
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(start)
        except ValueError:  # metadata may push the frame beyond the bytes read so far
            height, width, space, _ = simplejpeg.decode_jpeg_header(read_bytes(path, MAX_JPEG_BYTES))
    except ValueError as error:
        raise SceneError(f"{path}: JPEG is truncated or damaged ({error}). Copy the file again.") from error
    if space in ("CMYK", "YCCK"):
        raise SceneError(f"{path}: is a {space} JPEG (inks for print), expected RGB or grey. Convert it to RGB.")
    orientation = _orientation(start)
    if orientation in _QUARTER_TURNS:
        height, width = width, height
    bands = 1 if space == "Gray" else 3
    check_size(path, height, width, bands)
    return ImageHeader("jpeg", height, width, bands, "uint8", orientation=orientation)


def _orientation(start: bytes) -> int:
    """Read the EXIF orientation (tag 274), 1 where there is none that can be read."""
    block = start[start.find(b"Exif\0\0") + 6 :] if b"Exif\0\0" in start else b""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, directory)
        for number in range(entries):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", block, directory + 2 + 12 * number)
            if tag == 274:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
