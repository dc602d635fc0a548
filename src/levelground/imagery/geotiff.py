"""Windowed reading and writing of rasters through GDAL; the only module that imports rasterio."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from levelground.errors import DiskError, SceneError, ShapeError
from levelground.records import atomic_path

if TYPE_CHECKING:
    from rasterio.io import DatasetReader, DatasetWriter

Pixels = NDArray[np.generic]  # (H, W, C); uint8, uint16, int16 or float32
Window = tuple[int, int, int, int]
"""Row, column, height and width of a rectangle of pixels."""

_quiet = threading.Lock()  # warning filters belong to the whole process


@dataclass(frozen=True)
class RasterInfo:
    """What a raster's header says.

    ``transform`` holds GDAL's six numbers in rasterio's order (a, b, c, d, e, f): x = a·column + b·row + c,
    y = d·column + e·row + f. It is ``None`` where the raster is not georeferenced.
    """

    height: int
    width: int
    bands: int
    dtype: str
    nodata: float | None = None
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None

    @property
    def gsd_m(self) -> float | None:
        """The ground sampling distance in metres, where the raster is georeferenced in metres."""
        from rasterio.crs import CRS

        if self.transform is None or self.crs is None:
            return None
        system = CRS.from_string(self.crs)
        if not system.is_projected:
            return None
        a, b, _, d, e, _ = self.transform
        return float(abs(a * e - b * d) ** 0.5 * system.linear_units_factor[1])


@contextmanager
def _opened(source: Path | bytes, shown: Path) -> Iterator["DatasetReader"]:
    """Open a raster file, or one held in memory; library errors become one line."""
    import rasterio
    from rasterio.io import MemoryFile

    memory = MemoryFile(source) if isinstance(source, bytes) else None
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            raster = memory.open() if memory else rasterio.open(source)
            _ = raster.transform
        with raster:
            yield raster
    except (rasterio.errors.RasterioError, rasterio.errors.CRSError) as error:
        raise SceneError(f"{shown}: is damaged or no raster that can be read. Replace the file.") from error
    finally:
        if memory:
            memory.close()


def read_info(path: Path) -> RasterInfo:
    """Read a raster's header.

    Args:
        path: A GeoTIFF or another raster that GDAL reads.
    Raises:
        SceneError: The file is damaged, or its bands have unlike types.
    """
    with _opened(path, path) as raster:
        types = sorted(set(raster.dtypes))
        if len(types) != 1:
            raise SceneError(f"{path}: bands have the types {', '.join(types)}, expected one. Write them alike.")
        placed = not raster.transform.is_identity
        return RasterInfo(
            height=raster.height,
            width=raster.width,
            bands=raster.count,
            dtype=types[0],
            nodata=None if raster.nodata is None else float(raster.nodata),
            crs=raster.crs.to_string() if raster.crs else None,
            transform=tuple(raster.transform)[:6] if placed else None,
        )


def read_window(path: Path, window: Window | None = None) -> Pixels:
    """Read a rectangle of all bands, alpha-tagged ones included, in the raster's own type.

    Args:
        path: The raster.
        window: Row, column, height and width; ``None`` reads the whole raster.
    Returns:
        ``(H, W, C)``, C-contiguous.
    Raises:
        SceneError: The file is damaged.
        ShapeError: The window leaves the raster.
    """
    with _opened(path, path) as raster:
        return _read(raster, window, path)


def read_memory(content: bytes, *, shown: Path) -> Pixels:
    """Decode an image file held in memory, such as a PNG: GDAL inflates it several times faster than others.

    Args:
        content: The bytes of the file.
        shown: The file's name for errors.
    Returns:
        ``(H, W, C)``; palette images give their indices.
    Raises:
        SceneError: The content is damaged.
    """
    with _opened(content, shown) as raster:
        return _read(raster, None, shown)


def _read(raster: "DatasetReader", window: Window | None, shown: Path) -> Pixels:
    """Read into an array whose bands lie side by side."""
    from rasterio.windows import Window as RasterWindow

    row, col, height, width = window or (0, 0, raster.height, raster.width)
    if row < 0 or col < 0 or row + height > raster.height or col + width > raster.width:
        raise ShapeError(f"{shown}: window {window} leaves the raster of {raster.height} × {raster.width} pixels.")
    pixels = np.empty((height, width, raster.count), raster.dtypes[0])
    raster.read(out=pixels.transpose(2, 0, 1), window=RasterWindow(col, row, width, height))
    return pixels


class RasterWriter:
    """A raster being written; made by :func:`raster_writer`."""

    def __init__(self, raster: "DatasetWriter") -> None:
        self._raster = raster

    def write(self, row: int, col: int, pixels: Pixels) -> None:
        """Write a rectangle, ``(H, W, C)`` or ``(H, W)``, with its upper left corner at ``(row, col)``."""
        from rasterio.windows import Window as RasterWindow

        bands = pixels[..., None] if pixels.ndim == 2 else pixels
        height, width, _ = bands.shape
        self._raster.write(bands.transpose(2, 0, 1), window=RasterWindow(col, row, width, height))


@contextmanager
def raster_writer(
    path: Path, info: RasterInfo, *, palette: NDArray[np.uint8] | None = None, tile: int = 256
) -> Iterator[RasterWriter]:
    """Write a tiled, compressed GeoTIFF bit by bit; it appears under its name when the block ends well.

    Args:
        path: The file to appear.
        info: Size, bands, type, position and nodata value.
        palette: Colours of values 0…, ``(K, 3)``, for one band of uint8.
        tile: Side of the file's tiles in pixels, a multiple of 16.
    Raises:
        DiskError: The disk is full or the folder cannot be written.
    """
    import rasterio
    from affine import Affine

    options = {"driver": "GTiff", "tiled": True, "blockxsize": tile, "blockysize": tile, "compress": "deflate"}
    shape = {"height": info.height, "width": info.width, "count": info.bands, "dtype": info.dtype}
    place = {"crs": info.crs, "transform": Affine(*info.transform)} if info.transform else {}
    with atomic_path(path) as temporary:
        try:
            with _quiet, warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                raster = rasterio.open(
                    temporary, "w", nodata=info.nodata, BIGTIFF="IF_SAFER", **options, **shape, **place
                )
            with raster:
                if palette is not None:
                    raster.write_colormap(1, {i: (*colour, 255) for i, colour in enumerate(palette.tolist())})
                yield RasterWriter(raster)
        except rasterio.errors.RasterioError as error:
            raise DiskError(f"{path}: cannot be written ({error}). Free space or choose another --out.") from error


def write_raster(path: Path, pixels: Pixels, info: RasterInfo, *, palette: NDArray[np.uint8] | None = None) -> None:
    """Write a whole array as a GeoTIFF; size, bands and type come from the array, the rest from ``info``."""
    height, width, *rest = pixels.shape
    info = replace(info, height=height, width=width, bands=rest[0] if rest else 1, dtype=str(pixels.dtype))
    with raster_writer(path, info, palette=palette) as writer:
        writer.write(0, 0, pixels)
