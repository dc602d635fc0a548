"""Small image files for tests: noise, pairs in each layout, rasters."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from levelground.imagery.geotiff import RasterInfo, write_raster
from levelground.imagery.legend import DEEPGLOBE, Legend, LegendClass, encode_colours

PLACE = (0.6, 0.0, 270877.2, 0.0, -0.6, 4311036.0)
TWO = Legend(
    "two", (LegendClass(0, "field", (10, 20, 30)), LegendClass(1, "wood", (200, 100, 0))), "exact", ((0, 0, 0),)
)


def noise(height: int, width: int, bands: int = 3, *, seed: int = 0, dtype: str = "uint8") -> NDArray[np.generic]:
    """Pixels between 1 and 250, ``(H, W, C)``."""
    return np.random.default_rng(seed).integers(1, 250, (height, width, bands)).astype(dtype)


def random_labels(height: int, width: int, *, n_classes: int = 7, seed: int = 0) -> NDArray[np.uint8]:
    """Class indices, ``(H, W)``."""
    return np.random.default_rng(seed).integers(0, n_classes, (height, width)).astype(np.uint8)


def save(path: Path, array: NDArray[np.generic], mode: str | None = None, **options: object) -> Path:
    """Write an array as JPEG or PNG; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array))
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def save_palette(path: Path, indices: NDArray[np.uint8], palette: list[int]) -> Path:
    """Write a palette PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    picture.putpalette(palette)
    picture.save(path)
    return path


def save_raster(path: Path, array: NDArray[np.generic], *, nodata: float | None = None, placed: bool = True) -> Path:
    """Write a GeoTIFF."""
    info = RasterInfo(0, 0, 0, "", nodata, "EPSG:26917" if placed else None, PLACE if placed else None)
    write_raster(path, array, info)
    return path


def kaggle_pair(folder: Path, name: str, *, size: tuple[int, int] = (20, 30), seed: int = 0) -> NDArray[np.uint8]:
    """Write ``<name>_sat.jpg`` and ``<name>_mask.png`` with DeepGlobe colours; give the labels."""
    labels = random_labels(*size, seed=seed)
    save(folder / f"{name}_sat.jpg", noise(*size, seed=seed), quality=95)
    save(folder / f"{name}_mask.png", encode_colours(labels, DEEPGLOBE))
    return labels


def png_of_size(width: int, height: int, deflated: bytes = zlib.compress(bytes(100))) -> bytes:
    """A PNG of colours that claims a size, by default with next to no data behind its header."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT": deflated, b"IEND": b""}
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def stored_png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of pixels ``(H, W, 3)`` whose bytes no encoder's version changes: its rows are stored, not deflated."""
    height, width, _ = pixels.shape
    return png_of_size(width, height, zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels), 0))
