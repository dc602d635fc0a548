"""The pixels that a map is made of: read window by window, gaps found, at the model's ground sample distance.

A :class:`Grid` reads pixels and tells where they have no data. There are three: a raster held open, an image in
memory, and either of them at another resolution. :class:`Source` is what the network reads: it puts each band's mean
where there are no data, so that a border of the data looks like even ground and not like a cliff, and remembers the
gaps until the block that covers them is finished.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from levelground.imagery.geotiff import Pixels
from levelground.imagery.image_pixels import NodataMask, read_image_with_nodata
from levelground.imagery.raster_reader import RasterReader
from levelground.inference.sliding_window import Block

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Taps:
    """What output pixels are made of along one side.

    Attributes:
        places: Input pixels, ``(n, T)``.
        weights: Their weights, ``(n, T)``; each row adds up to 1.
    """

    places: NDArray[np.intp]
    weights: Floats

    @property
    def reach(self) -> slice:
        """The input pixels that are needed."""
        return slice(int(self.places.min()), int(self.places.max()) + 1)


def plan_taps(wanted: slice, n_in: int, n_out: int) -> Taps:
    """Plan output pixels along one side.

    Args:
        wanted: Output pixels.
        n_in: Input pixels of the whole side.
        n_out: Output pixels of the whole side.
    Example:
        >>> plan_taps(slice(1, 2), 8, 4).weights[:, :2].tolist()
        [[0.5, 0.5]]
    """
    step = n_in / n_out
    number = np.arange(wanted.start, wanted.stop, dtype=np.float64)[:, None]
    if step > 1:
        low, high = number * step, (number + 1) * step
        places = np.floor(low) + np.arange(int(np.ceil(step)) + 1)
        weights = np.clip(np.minimum(high, places + 1) - np.maximum(low, places), 0, None)
    else:
        centre = (number + 0.5) * step - 0.5
        places = np.floor(centre) + np.arange(2)
        weights = np.clip(1 - np.abs(centre - places), 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return Taps(np.clip(places, 0, n_in - 1).astype(np.intp), weights.astype(np.float32))


def resample(
    pixels: NDArray[np.generic], gaps: NodataMask | None, rows: Taps, cols: Taps
) -> tuple[Floats, NodataMask | None]:
    """Resample a window.

    Args:
        pixels: The input pixels within ``rows.reach`` and ``cols.reach``, ``(H, W, C)``.
        gaps: Where they have no data, ``(H, W)``; such pixels weigh nothing.
        rows: Taps along the rows.
        cols: Taps along the columns.
    Returns:
        ``(h, w, C)`` float32, and where less than half of a pixel has data; ``None`` where every pixel has some.
    """
    values = pixels.astype(np.float32)
    if gaps is None or not gaps.any():
        return _apply(values, rows, cols), None
    values[gaps] = 0
    known = _apply((~gaps)[..., None].astype(np.float32), rows, cols)
    mean = _apply(values, rows, cols)
    mean /= np.maximum(known, np.float32(1e-6))
    return mean, known[..., 0] < 0.5


def _apply(values: Floats, rows: Taps, cols: Taps) -> Floats:
    tall = np.zeros((len(rows.places), *values.shape[1:]), np.float32)
    for place, weight in zip((rows.places - rows.reach.start).T, rows.weights.T, strict=True):
        tall += weight[:, None, None] * values[place]
    whole = np.zeros((len(tall), len(cols.places), values.shape[2]), np.float32)
    for place, weight in zip((cols.places - cols.reach.start).T, cols.weights.T, strict=True):
        whole += weight[None, :, None] * tall[:, place]
    return whole


_READ_AS = {"float64": "float32", "int32": "float32", "uint32": "float32", "int8": "int16"}
"""Types that torch or the network cannot take as they are."""


class Grid(Protocol):
    """Pixels that can be read window by window."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, bands."""
        ...

    def read(self, rows: slice, cols: slice) -> tuple[Pixels, NodataMask | None]:
        """Pixels ``(H, W, C)`` and where they have no data ``(H, W)``; ``None`` where all have."""
        ...


@dataclass(frozen=True)
class Validity:
    """What says that a pixel has no data.

    Attributes:
        nodata: The nodata value of each band that is read, or ``None``.
        every_band: Whether all bands must hold it; else any.
        alpha: The band, from 1, whose zeros mark pixels without data; never one that the model reads.
        zero: Whether a pixel that is 0 in every band has no data.
    """

    nodata: tuple[float | None, ...]
    every_band: bool
    alpha: int | None = None
    zero: bool = False


class RasterGrid:
    """Some bands of an open raster."""

    def __init__(self, reader: RasterReader, bands: Sequence[int], validity: Validity) -> None:
        """Read ``bands``, from 1, of ``reader``."""
        self._reader, self._bands, self._validity = reader, tuple(bands), validity
        self.shape = (reader.info.height, reader.info.width, len(self._bands))

    def read(self, rows: slice, cols: slice) -> tuple[Pixels, NodataMask | None]:
        """Read a window; see :class:`Grid`."""
        alpha = self._validity.alpha
        stored = self._reader.read(rows, cols, self._bands if alpha is None else (*self._bands, alpha))
        gaps = find_gaps(stored, self._validity)
        stored = stored if alpha is None else np.ascontiguousarray(stored[..., :-1])
        kind = _READ_AS.get(str(stored.dtype))
        with np.errstate(over="ignore", invalid="ignore"):
            return (stored.astype(kind) if kind else stored), gaps


class ImageGrid:
    """An image, decoded whole: its format knows no windows."""

    def __init__(self, path: Path, bands: Sequence[int], *, zero: bool) -> None:
        """Decode ``path`` and take ``bands``, from 1; ``zero`` takes pixels that are 0 in every band for gaps."""
        pixels, gaps = read_image_with_nodata(path)
        chosen = [band - 1 for band in bands]
        self._pixels = pixels if chosen == list(range(pixels.shape[-1])) else pixels[..., chosen]
        self._gaps = gaps
        if zero:
            empty = (self._pixels == 0).all(axis=-1)
            self._gaps = empty if gaps is None else gaps | empty
        self.shape = (*self._pixels.shape[:2], len(bands))

    def read(self, rows: slice, cols: slice) -> tuple[Pixels, NodataMask | None]:
        """Cut a window; see :class:`Grid`."""
        return self._pixels[rows, cols].copy(), None if self._gaps is None else self._gaps[rows, cols]


class ResampledGrid:
    """Another grid with larger or smaller pixels, its outer edges the same."""

    def __init__(self, grid: Grid, factor: float) -> None:
        """Make pixels of ``grid`` larger by ``factor``, rounded so that whole pixels fill it."""
        self._grid = grid
        height, width, bands = grid.shape
        self.shape = (max(1, round(height / factor)), max(1, round(width / factor)), bands)

    def read(self, rows: slice, cols: slice) -> tuple[Pixels, NodataMask | None]:
        """Resample a window; see :class:`Grid`."""
        height, width, _ = self._grid.shape
        down, across = plan_taps(rows, height, self.shape[0]), plan_taps(cols, width, self.shape[1])
        return resample(*self._grid.read(down.reach, across.reach), down, across)


class Source:
    """A grid as the network reads it; satisfies ``networks.inference.Pixels``."""

    def __init__(self, grid: Grid, mean: Sequence[float]) -> None:
        """Read ``grid``; gaps get ``mean``, in stored units."""
        self.shape = grid.shape
        self._grid, self._mean = grid, np.asarray(mean, np.float64)
        self._lock = threading.Lock()
        self._gaps: dict[tuple[int, int], NodataMask] = {}

    def __getitem__(self, key: tuple[slice, slice], /) -> NDArray[np.generic]:
        """The pixels of a tile, ``(rows, columns, bands)``, and its gaps kept for :meth:`take_gaps`."""
        rows, cols = key
        pixels, gaps = self._grid.read(rows, cols)
        if gaps is not None and gaps.any():
            pixels[gaps] = _as_type(self._mean, pixels.dtype)
            with self._lock:
                self._gaps[rows.start, cols.start] = gaps
        return pixels

    def take_gaps(self, block: Block) -> NodataMask | None:
        """Where a finished block has no data, ``(H, W)``; ``None`` where all have. Earlier tiles are forgotten."""
        with self._lock:
            gaps = self._gaps.get((block.row, block.col))
            for place in [place for place in self._gaps if place <= (block.row, block.col)]:
                del self._gaps[place]
        if gaps is None:
            return None
        height, width = block.probs.shape[1:]
        return gaps[:height, :width]


def find_gaps(stored: Pixels, validity: Validity) -> NodataMask | None:
    """Find the pixels of a window that have no data.

    Args:
        stored: ``(H, W, C)`` in the raster's own type; the alpha band last, where there is one.
        validity: What says so.
    Returns:
        ``(H, W)``, or ``None`` where every pixel has data.
    """
    image = stored if validity.alpha is None else stored[..., :-1]
    found: list[NDArray[np.bool_]] = []
    marked = [image[..., n] == value for n, value in enumerate(validity.nodata) if value is not None]
    if marked and not validity.every_band:
        found.append(np.asarray(np.any(marked, axis=0)))
    elif len(marked) == image.shape[-1]:
        found.append(np.asarray(np.all(marked, axis=0)))
    if validity.alpha is not None:
        found.append(np.equal(stored[..., -1], 0))
    if validity.zero:
        found.append(np.asarray(np.all(image == 0, axis=-1)))
    if image.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows is infinite, and so a gap
            values = image.astype(np.float32, copy=False)
        found.append(np.asarray(~np.all(np.isfinite(values), axis=-1)))
    if not found:
        return None
    gaps: NodataMask = np.any(found, axis=0)
    return gaps if gaps.any() else None


def _as_type(values: NDArray[np.float64], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Values in a type of pixels, rounded and within its range."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
