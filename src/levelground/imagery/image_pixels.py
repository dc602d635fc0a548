"""Decode the pixels of one image, mask or array file, and find the pixels without data."""

import math
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from levelground.errors import SceneError
from levelground.imagery.colours import RGB
from levelground.imagery.geotiff import Pixels, Window, read_memory, read_palette, read_window, read_window_and_mask
from levelground.imagery.image_headers import (
    MAX_EXTRA_BYTES,
    MAX_JPEG_BYTES,
    READ_AS,
    ImageHeader,
    check_size,
    file_stamp,
    png_chunks,
    read_header,
)
from levelground.imagery.validity import NodataMask, nodata_mask, nodata_rule
from levelground.reading import open_regular, read_bytes
from levelground.records import DAMAGED

ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
"""Suffixes of NumPy's files, in lower case."""


def read_image(path: Path, window: Window | None = None, *, zero: bool | None = None) -> Pixels:
    """Decode an image, upright, without its alpha band.

    Args:
        path: A JPEG, PNG or TIFF.
        window: Row, column, height and width of a part.
        zero: As in :func:`read_image_with_nodata`.
    Returns:
        ``(H, W, C)`` in the file's type, or that of :data:`~levelground.imagery.image_headers.READ_AS`; palettes become
        colours, pixels without data 0.
        A TIFF's band tagged alpha stays where it holds more than 0 and the largest value: it often is near infrared.
    Raises:
        SceneError: The file is damaged or of a form that is not read; see
        :func:`levelground.imagery.image_headers.read_header`.
    """
    return read_image_with_nodata(path, window, zero=zero)[0]


def read_image_with_nodata(
    path: Path, window: Window | None = None, *, zero: bool | None = None
) -> tuple[Pixels, NodataMask | None]:
    """Decode an image as :func:`read_image` does, and find the pixels without data.

    Args:
        path: A JPEG, PNG or TIFF.
        window: Row, column, height and width of a part.
        zero: Whether pixels that are 0 in every band have no data; ``None``: in TIFFs that do not say which have.
    Returns:
        The pixels, and ``(H, W)`` true where there are no data, or ``None`` where every pixel has some: alpha 0 in a
        PNG; in a TIFF by the rule of :func:`levelground.imagery.validity.nodata_rule`.
    Raises:
        SceneError: As :func:`read_image`.
    """
    header = read_header(path)
    nodata: NodataMask | None = None
    if header.format == "tiff":
        _check_part(path, header, window)
        stored, own = read_window_and_mask(path, window, masked=header.masked)
        image = tuple(band for band in range(1, header.bands + 1) if band != header.alpha_band)
        if header.alpha_band is not None and header.alpha_band < header.bands:
            stored = stored[..., [*(band - 1 for band in image), header.alpha_band - 1]]
        nodata = nodata_mask(stored, nodata_rule(header, image, alpha=header.alpha_band, zero=zero), own)
        pixels = stored if header.alpha_band is None else np.ascontiguousarray(stored[..., :-1])
        with np.errstate(over="ignore"):  # what overflows is infinite, and so no data
            pixels = pixels.astype(READ_AS.get(header.dtype, header.dtype), copy=False)
    elif header.format == "jpeg":
        pixels = _part(_decode_jpeg, path, window)[0]
    else:
        pixels, palette = _part(_decode_png, path, window)
        if header.palette:
            pixels = palette[pixels[..., 0]]
        elif header.alpha:
            nodata = pixels[..., -1] == 0
            pixels = np.ascontiguousarray(pixels[..., :-1])
    if header.format != "tiff" and zero:
        empty = (pixels == 0).all(-1)
        nodata = empty if nodata is None else nodata | empty
    if nodata is None or not nodata.any():
        return pixels, None
    pixels[nodata] = 0
    return pixels, nodata


def read_colours(path: Path, window: Window | None = None) -> NDArray[np.uint8]:
    """Decode a colour mask, ``(H, W, 3)``; a grey one has three equal channels, alpha is dropped.

    Args:
        path: A JPEG, PNG or TIFF of 8 bits.
        window: Row, column, height and width of a part.
    Raises:
        SceneError: The file is damaged, or has other than one or three bands of uint8.
    """
    header = read_header(path)
    if header.format == "tiff":
        pixels = _read_tiff(path, header, window)[..., : header.image_bands]
    elif header.format == "jpeg":
        pixels = _part(_decode_jpeg, path, window)[0]
    else:
        pixels, palette = _part(_decode_png, path, window)
        pixels = palette[pixels[..., 0]] if header.palette else pixels[..., : header.image_bands]
        if header.depth < 8 and not header.palette:
            pixels = np.multiply(pixels.astype(np.uint8), np.uint8(255 // ((1 << header.depth) - 1)))
    if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
        raise SceneError(
            f"{path}: mask has {pixels.shape[2]} bands of {pixels.dtype}, expected colours (3 bands of uint8). "
            "Convert it, or pass --layout index where it holds class indices."
        )
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), np.uint8)


def read_indices(path: Path, window: Window | None = None) -> Pixels:
    """Read the class indices of a mask, ``(H, W)`` in the file's type, without its palette.

    Args:
        path: A PNG or TIFF of one band, or of three equal ones (alpha is dropped).
        window: Row, column, height and width of a part.
    Raises:
        SceneError: The file is damaged, a JPEG, or has other bands.
    """
    header = read_header(path)
    if header.format == "jpeg":
        raise SceneError(f"{path}: JPEG blurs class indices. Save the mask as PNG or TIFF, without loss.")
    n_bands = header.bands - header.alpha
    pixels = None
    if n_bands in (1, 3):
        pixels = _read_tiff(path, header, window) if header.format == "tiff" else _part(_decode_png, path, window)[0]
        pixels = np.delete(pixels, header.alpha_band - 1, axis=2) if header.alpha_band else pixels
    if pixels is None or (n_bands == 3 and not (pixels[..., :1] == pixels[..., 1:3]).all()):
        unlike = "three unlike bands" if n_bands == 3 else f"{n_bands} bands"
        colours = ", or pass --layout folders where the mask holds colours" if n_bands == 3 else ""
        raise SceneError(
            f"{path}: mask has {unlike}, expected one of class indices. Write the band that holds them as a file of "
            f"its own: rio stack {path} --bidx 1 -o MASK.tif{colours}."
        )
    return np.ascontiguousarray(pixels[..., 0])


def mask_nodata(path: Path, header: ImageHeader, window: Window | None = None) -> NodataMask | None:
    """Find where a label raster has no data by its own mask, inside the file or ``.msk`` beside it, or by its alpha.

    Args:
        path: The label raster.
        header: Its header.
        window: Row, column, height and width of a part; TIFF only.
    Returns:
        ``(H, W)``, true where there are no data; ``None`` where every pixel has some. Values are not looked at.
    """
    if header.format != "tiff" or not (header.masked or header.alpha):
        return None
    _check_part(path, header, window)
    stored, own = read_window_and_mask(path, window, masked=header.masked)
    if header.alpha_band is None:
        return own
    empty = np.equal(stored[..., header.alpha_band - 1], 0)
    return empty if own is None else empty | own


def used_palette(path: Path) -> set[RGB]:
    """Return the colours of a palette PNG that its pixels use."""
    pixels, palette = _decode_png(path)
    return {(int(red), int(green), int(blue)) for red, green, blue in palette[np.unique(pixels)]}


def stored_palette(path: Path, header: ImageHeader) -> dict[int, RGB]:
    """Return the colours that a mask's own palette gives its values; none where it has no palette."""
    if header.format == "tiff":
        return read_palette(path)
    if not header.palette:
        return {}
    return {value: (red, green, blue) for value, (red, green, blue) in enumerate(_decode_png(path)[1].tolist())}


def _read_tiff(path: Path, header: ImageHeader, window: Window | None) -> Pixels:
    """Read a raster or a part of it, never more than fits."""
    _check_part(path, header, window)
    return read_window(path, window)


def _check_part(path: Path, header: ImageHeader, window: Window | None) -> None:
    """Refuse to read more than fits."""
    height, width = window[2:] if window else (header.height, header.width)
    check_size(path, height, width, header.bands, windowed=True)


_Decoder = Callable[[Path], tuple[Pixels, NDArray[np.uint8]]]
"""Decodes a file: values ``(H, W, C)`` and its palette."""


def _part(decode: _Decoder, path: Path, window: Window | None) -> tuple[Pixels, NDArray[np.uint8]]:
    """Decode a file that cannot be read in parts, and cut a part out; blocks of one file are read one after another."""
    if window is None:
        return decode(path)
    row, col, height, width = window
    pixels, palette = _decoded_last(decode, path, file_stamp(path))
    return pixels[row : row + height, col : col + width].copy(), palette


@lru_cache(maxsize=2)
def _decoded_last(decode: _Decoder, path: Path, _stamp: tuple[int, int] | None) -> tuple[Pixels, NDArray[np.uint8]]:
    """Decode a file, and keep the last two."""
    return decode(path)


def _decode_jpeg(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Decode a JPEG and turn it upright; it has no palette."""
    import simplejpeg

    header = read_header(path)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            read_bytes(path, MAX_JPEG_BYTES), colorspace="GRAY" if header.bands == 1 else "RGB"
        )
    except ValueError as error:
        raise SceneError(f"{path}: JPEG is truncated or damaged ({error}). Copy the file again.") from error
    return _upright(pixels, header.orientation), np.zeros((0, 3), np.uint8)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (EXIF 2.32, tag 274: where row 0 and column 0 of the stored image lie)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _decode_png(path: Path) -> tuple[Pixels, NDArray[np.uint8]]:
    """Decode a PNG: stored values ``(H, W, C)``, and its palette ``(256, 3)``, black where it has no entry."""
    content = _read_png(path)
    palette = np.zeros((256, 3), np.uint8)
    for kind, data in png_chunks(content, path):
        if kind == b"PLTE":
            colours = np.frombuffer(data[: len(data) // 3 * 3], np.uint8).reshape(-1, 3)[:256]
            palette[: len(colours)] = colours
    # GDAL inflates a mask several times faster than OpenCV and Pillow do.
    return read_memory(content, shown=path), palette


def _read_png(path: Path) -> bytes:
    """Read a PNG as far as it could reach with its pixels stored uncompressed: a hole behind its end is not read.

    Raises:
        SceneError: It cannot be read, or is larger.
    """
    header = read_header(path)
    most = 2 * header.height * (header.width * max(1, header.bands) * 2 + 1) + MAX_EXTRA_BYTES
    try:
        with open_regular(path) as file:
            return file.read(most)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}). Mend the file or its permissions.") from error


def read_array(path: Path) -> NDArray[np.generic]:
    """Read the numbers of a NumPy file, its shape and type checked before its content; no code in it is run.

    Args:
        path: A ``.npy``, or a ``.npz`` of one array.
    Returns:
        The array as it is stored, without axes of length 1.
    Raises:
        SceneError: The file is damaged, too large, holds several arrays, or something that is not a number.
    """
    try:
        with open_regular(path) as file:
            if path.suffix.lower() == ".npy":
                return _read_numbers(file, path)
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                if len(names) != 1:
                    shown = ", ".join(name.removesuffix(".npy") for name in names[:4]) or "none"
                    raise SceneError(
                        f"{path}: holds {len(names)} arrays ({shown}), expected one. Save the classes or their "
                        "probabilities alone: numpy.savez(file, array)."
                    )
                with archive.open(names[0]) as member:
                    return _read_numbers(member, path)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}). Mend the file or its permissions.") from error
    except DAMAGED as error:
        raise SceneError(f"{path}: is not a NumPy file of numbers. Save it again with numpy.save.") from error


def _read_numbers(file: IO[bytes], path: Path) -> NDArray[np.generic]:
    """Check type and shape in an array's header, then read it."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        raise ValueError(f"version {version}")
    shape, fortran, dtype = readers[version](file)
    if dtype.kind not in "biuf":
        raise SceneError(f"{path}: array is of type {dtype}, expected numbers. Save the class indices as uint8.")
    sides = [side for side in shape if side != 1]
    if len(sides) not in (2, 3):
        raise SceneError(
            f"{path}: array has shape {shape}, expected (height, width) of classes or (classes, height, width) of "
            "probabilities. Save one array a scene."
        )
    *few, height, width = sorted(sides)
    check_size(path, height, width, few[0] if few else 1)
    size = math.prod(sides) * dtype.itemsize
    content = file.read(size)
    if len(content) != size:
        raise SceneError(f"{path}: array is truncated after {len(content)} of {size} bytes. Copy the file again.")
    numbers = np.frombuffer(content, dtype).reshape(sides, order="F" if fortran else "C")
    return numbers.astype(np.uint8) if dtype.kind == "b" else numbers
