"""Read and write rasters through GDAL; beside ``raster_reader`` the only module here that imports rasterio."""

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from levelground.errors import DiskError, SceneError, ShapeError, first_line
from levelground.imagery.gdal_files import open_raster, raster_errors
from levelground.records import atomic_path

if TYPE_CHECKING:
    from rasterio.io import DatasetReader, DatasetWriter
    from rasterio.windows import Window as RasterWindow

Pixels = NDArray[np.generic]  # (H, W, C); uint8, uint16, int16 or float32
Window = tuple[int, int, int, int]
"""Row, column, height and width of a rectangle of pixels."""

_quiet = threading.Lock()  # warning filters belong to the whole process

CACHE_BYTES = 64 * 2**20
"""GDAL's cache of blocks while maps are read and written; its own default grows with the machine's memory."""

MAX_TILE_BYTES = 2**30  # the largest tile or strip of a file, decoded: GDAL takes room for all of it


@dataclass(frozen=True)
class BandInfo:
    """What files say of their bands; a part is empty where no band has any.

    Attributes:
        names: Description of each band, such as ``red`` or ``B04``.
        scales: Factor of each band: a stored value times this plus the offset is the value that it stands for.
        offsets: Offset of each band.
    """

    names: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()

    def of(self, bands: Sequence[int]) -> "BandInfo":
        """Return what is said of some bands, from 1."""
        names = tuple(self.names[band - 1] for band in bands) if self.names else ()
        scales = tuple(self.scales[band - 1] for band in bands) if self.scales else ()
        offsets = tuple(self.offsets[band - 1] for band in bands) if self.offsets else ()
        return BandInfo(names if any(names) else (), scales, offsets)


NO_BAND_INFO = BandInfo()
"""Of files that say nothing of their bands."""


@dataclass(frozen=True)
class RasterInfo:
    """The header of a raster.

    ``transform`` is (a, b, c, d, e, f) with x = a·column + b·row + c and y = d·column + e·row + f, or ``None`` without
    a place. ``band_nodata`` is empty where all bands have one nodata value. ``alpha`` is the band, from 1, that tells
    where there are data; one that is tagged so but holds other values, as near infrared often is, is not meant.
    ``masked`` means a mask of all bands, inside the file or ``.msk`` beside it.
    """

    height: int
    width: int
    bands: int
    dtype: str
    nodata: float | None = None
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    band_nodata: tuple[float | None, ...] = ()
    masked: bool = False
    alpha: int | None = None
    band_info: BandInfo = NO_BAND_INFO

    @property
    def gsd_m(self) -> float | None:
        """Ground sampling distance in metres, where the raster is georeferenced in metres."""
        from rasterio.crs import CRS

        if self.transform is None or self.crs is None:
            return None
        system = CRS.from_string(self.crs)
        if not system.is_projected:
            return None
        a, b, _, d, e, _ = self.transform
        return float(abs(a * e - b * d) ** 0.5 * system.linear_units_factor[1])


@contextmanager
def quietly() -> Iterator[None]:
    """Silence rasterio's warnings that a raster is not georeferenced or has a nodata value beyond its type."""
    import rasterio

    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        warnings.filterwarnings("ignore", "overflow encountered in cast", RuntimeWarning)
        yield


@contextmanager
def bounded_cache(size: int = CACHE_BYTES, *, threads: bool = False, side_files: bool = False) -> Iterator[None]:
    """Bound GDAL's cache of blocks inside the block, and let it read and leave no side files.

    Args:
        size: Bytes of the cache.
        threads: Decode with all cores; worth it where the network leaves them free.
        side_files: Read ``<name>.aux.xml``, which holds the coordinate system of a PNG.
    """
    import rasterio

    options = {"GDAL_NUM_THREADS": "ALL_CPUS" if threads else "1", "GDAL_PAM_ENABLED": "YES" if side_files else "NO"}
    with rasterio.Env(GDAL_CACHEMAX=size, **options):
        yield


@contextmanager
def _opened(source: Path | bytes, shown: Path) -> Iterator["DatasetReader"]:
    """Open a raster file, or one held in memory; library errors become one line."""
    from rasterio.io import MemoryFile

    memory, path = (MemoryFile(source), shown) if isinstance(source, bytes) else (None, source)
    try:
        with quietly():
            raster = memory.open() if memory else open_raster(path)
            _ = raster.transform
        with raster:
            yield raster
    except raster_errors() as error:
        raise SceneError(f"{shown}: is damaged or is not a raster that can be read. Replace the file.") from error
    finally:
        if memory:
            memory.close()


def read_info(path: Path) -> RasterInfo:
    """Read a raster's header.

    Args:
        path: A GeoTIFF or another raster that GDAL reads.
    Raises:
        SceneError: The file is damaged, or its bands have unlike or complex types.
    """
    with _opened(path, path) as raster:
        return info_of(raster, path)


def info_of(raster: "DatasetReader", shown: Path) -> RasterInfo:
    """Return the header of an open raster.

    Raises:
        SceneError: Its bands have unlike or complex types, or a tile of the file would fill the memory.
    """
    types = sorted(set(raster.dtypes))
    if len(types) != 1:
        raise SceneError(f"{shown}: bands have the types {', '.join(types)}, expected one. Write them alike.")
    if types[0].startswith("complex"):
        raise SceneError(f"{shown}: holds complex numbers. Write what is to be read, such as amplitudes, as float32.")
    # a JPEG 2000 file is not asked: GDAL would walk through its boxes, and never end where one has the length 0
    together = raster.driver == "JP2OpenJPEG" or raster.profile.get("interleave") == "pixel"
    tile = max(raster.block_shapes)
    if tile[0] * tile[1] * np.dtype(types[0]).itemsize * (raster.count if together else 1) > MAX_TILE_BYTES:
        raise SceneError(
            f"{shown}: is stored in tiles of {tile[1]} × {tile[0]} pixels, of which not one is decoded at once. "
            "Write it anew in tiles of 256."
        )
    with quietly():
        nodata = tuple(None if value is None else float(value) for value in raster.nodatavals)
    alike = all(value == nodata[0] or (value != value and nodata[0] != nodata[0]) for value in nodata)
    names, scales, offsets = tuple(name or "" for name in raster.descriptions), raster.scales, raster.offsets
    return RasterInfo(
        height=raster.height,
        width=raster.width,
        bands=raster.count,
        dtype=types[0],
        nodata=nodata[0],
        crs=raster.crs.to_string() if raster.crs else None,
        transform=None if raster.transform.is_identity else tuple(raster.transform)[:6],
        band_nodata=() if alike else nodata,
        masked=_has_mask(raster),
        alpha=_alpha_band(raster),
        band_info=BandInfo(
            names=names if any(names) else (),
            scales=() if all(scale == 1 for scale in scales) else tuple(map(float, scales)),
            offsets=() if not any(offsets) else tuple(map(float, offsets)),
        ),
    )


def _has_mask(raster: "DatasetReader") -> bool:
    """Tell whether an open raster has a mask of all its bands that is not an alpha band."""
    from rasterio.enums import MaskFlags

    return any(MaskFlags.per_dataset in kinds and MaskFlags.alpha not in kinds for kinds in raster.mask_flag_enums)


_SAMPLES, _SAMPLE_PX = 4, 64  # a band is sampled in 4 × 4 windows of 64 × 64 pixels
_MASK_SHARE = 0.99
"""A band tagged alpha is a mask if this share of its values is 0 or the largest; near infrared is not."""


def _alpha_band(raster: "DatasetReader") -> int | None:
    """Return the last band that is tagged alpha, if nearly all of its values are 0 or the largest."""
    from rasterio.enums import ColorInterp

    tagged = [n for n, kind in enumerate(raster.colorinterp, start=1) if kind == ColorInterp.alpha]
    if not tagged or raster.count == 1:
        return None
    try:
        values = np.concatenate([raster.read(tagged[-1], window=window).ravel() for window in sample_windows(raster)])
    except raster_errors():  # told when the pixels are read
        return None
    full = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1
    full = full if np.any(values == full) else values.max(initial=0)
    return tagged[-1] if np.mean((values == 0) | (values == full)) >= _MASK_SHARE else None


def sample_windows(raster: "DatasetReader") -> list["RasterWindow"]:
    """List small windows that are spread over a whole raster."""
    from rasterio.windows import Window as RasterWindow

    def spread(side: int) -> list[int]:
        room = max(0, side - _SAMPLE_PX)
        return sorted({room * k // (_SAMPLES - 1) for k in range(_SAMPLES)})

    return [
        RasterWindow(col, row, min(raster.width - col, _SAMPLE_PX), min(raster.height - row, _SAMPLE_PX))
        for row, col in product(spread(raster.height), spread(raster.width))
    ]


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
    return read_window_and_mask(path, window, masked=False)[0]


def read_window_and_mask(
    path: Path, window: Window | None = None, *, masked: bool
) -> tuple[Pixels, NDArray[np.bool_] | None]:
    """Read a rectangle as :func:`read_window` does, and where the raster's own mask says that there are no data.

    Args:
        path: The raster.
        window: Row, column, height and width; ``None`` reads the whole raster.
        masked: Whether it has a mask of all bands, as its header says.
    Returns:
        ``(H, W, C)``; and ``(H, W)``, true where there are no data, ``None`` without a mask.
    """
    from rasterio.windows import Window as RasterWindow

    with _opened(path, path) as raster:
        pixels = _read(raster, window, path)
        if not masked:
            return pixels, None
        row, col, height, width = window or (0, 0, raster.height, raster.width)
        return pixels, np.asarray(raster.read_masks(1, window=RasterWindow(col, row, width, height)) == 0)


def read_palette(path: Path) -> dict[int, tuple[int, int, int]]:
    """Return the colours that a raster of one band gives its values; none where it has no palette."""
    with _opened(path, path) as raster:
        try:
            return {value: (red, green, blue) for value, (red, green, blue, _) in raster.colormap(1).items()}
        except ValueError:  # it has none
            return {}


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


@dataclass(frozen=True)
class RasterMetadata:
    """Colours, names and scale that a raster carries beside its pixels.

    ``palette`` holds the colours of values 0…, ``(K, 3)``, for one band of uint8; ``tags`` belong to the whole file;
    ``band_names`` describe each band; stored values times ``scale`` are the values that they stand for.
    """

    palette: NDArray[np.uint8] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    band_names: Sequence[str] = ()
    scale: float | None = None

    def write(self, raster: "DatasetWriter") -> None:
        """Write all of it into an open raster."""
        if self.palette is not None:
            raster.write_colormap(1, {i: (*colour, 255) for i, colour in enumerate(self.palette.tolist())})
        raster.update_tags(**self.tags)
        for band, name in enumerate(self.band_names, start=1):
            raster.set_band_description(band, name)
        if self.scale is not None:
            raster.scales = (self.scale,) * raster.count


_NO_METADATA = RasterMetadata()


@contextmanager
def raster_writer(
    path: Path,
    info: RasterInfo,
    metadata: RasterMetadata = _NO_METADATA,
    *,
    tile: int = 256,
    predictor: int = 1,
    level: int = 6,
) -> Iterator[RasterWriter]:
    """Write a tiled, compressed GeoTIFF piece by piece; it appears under its name when the block ends well.

    Args:
        path: The file to appear.
        info: Size, bands, type, position and nodata value.
        metadata: Colours, names and scale.
        tile: Side of the file's tiles in pixels, a multiple of 16.
        predictor: What deflate compresses: 1 values (classes), 2 differences of integers, 3 differences of floats.
        level: Effort of deflate: 1 for a file that is copied and removed, 6 for one that stays.
    Raises:
        DiskError: The disk is full or the folder cannot be written.
    """
    import rasterio
    from affine import Affine

    options = {"driver": "GTiff", "tiled": True, "blockxsize": tile, "blockysize": tile, "compress": "deflate"}
    shape = {"height": info.height, "width": info.width, "count": info.bands, "dtype": info.dtype}
    place = {"crs": info.crs, "transform": Affine(*info.transform)} if info.transform else {}
    # Many bands of one tile would have to wait in the cache for each other if they were stored pixel by pixel.
    interleave = {"interleave": "band"} if info.bands > 4 else {}
    layout = {"predictor": predictor, "zlevel": level, "BIGTIFF": "IF_SAFER", **interleave}
    with atomic_path(path) as temporary:
        try:
            with quietly():
                raster = rasterio.open(temporary, "w", nodata=info.nodata, **options, **shape, **place, **layout)
            with raster:
                metadata.write(raster)
                yield RasterWriter(raster)
        except raster_errors() as error:
            raise DiskError(f"{path}: cannot be written ({error}). Free space or choose another --out.") from error
        _check_written(temporary, path)


def write_raster(path: Path, pixels: Pixels, info: RasterInfo, *, palette: NDArray[np.uint8] | None = None) -> None:
    """Write a whole array as a GeoTIFF; size, bands and type come from the array, the rest from ``info``."""
    height, width, *rest = pixels.shape
    info = replace(info, height=height, width=width, bands=rest[0] if rest else 1, dtype=str(pixels.dtype))
    with raster_writer(path, info, RasterMetadata(palette)) as writer:
        writer.write(0, 0, pixels)


def copy_to_cog(source: Path, target: Path, *, overviews: Literal["mode", "average"], predictor: int = 1) -> None:
    """Copy a finished GeoTIFF to a cloud-optimised one, which GDAL makes by copying only.

    Args:
        source: The finished GeoTIFF.
        target: The file to appear, whole, with all that ``source`` says of itself.
        overviews: How reduced pictures are made: the most frequent class, or the mean.
        predictor: As in :func:`raster_writer`.
    Raises:
        DiskError: The disk is full or the folder cannot be written.
    """
    import rasterio.shutil

    kind = {1: "NO", 2: "STANDARD", 3: "FLOATING_POINT"}[predictor]
    options = {"compress": "DEFLATE", "predictor": kind, "blocksize": 512, "BIGTIFF": "IF_SAFER"}
    with atomic_path(target) as temporary:
        try:
            with quietly():
                rasterio.shutil.copy(source, temporary, driver="COG", overview_resampling=overviews.upper(), **options)
        except raster_errors() as error:  # the copy lets GDAL's own errors through
            reason = first_line(error)
            raise DiskError(f"{target}: cannot be written ({reason}). Free space or choose another --out.") from error
        _check_written(temporary, target)


def _check_written(path: Path, shown: Path) -> None:
    """Refuse a GeoTIFF that lacks blocks: GDAL's compressing threads lose what a full disk does not take, silently.

    Raises:
        DiskError: A block is not there, or lies beyond the end of the file.
    """
    size = path.stat().st_size
    try:
        with _opened(path, shown) as raster:
            bands = raster.indexes if raster.interleaving.name == "band" else (1,)
            places = [
                [raster.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", band) for what in ("OFFSET", "SIZE")]
                for band in bands
                for (row, col), _ in raster.block_windows(1)
            ]
        whole = all(offset and length and int(offset) + int(length) <= size for offset, length in places)
    except SceneError:
        whole = False
    if not whole:
        raise DiskError(f"{shown}: is not on the disk as a whole. Free space or choose another --out.")
