"""Read an open raster window by window; beside ``geotiff`` the only module here that imports rasterio."""

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from levelground.errors import SceneError, first_line
from levelground.imagery.gdal_files import open_raster, raster_errors
from levelground.imagery.geotiff import Pixels, RasterInfo, info_of, quietly, sample_windows

if TYPE_CHECKING:
    from rasterio.io import DatasetReader


class RasterReader:
    """An open raster: one handle, safe to read from several threads, overviews left alone."""

    def __init__(self, path: Path) -> None:
        """Open a raster.

        Args:
            path: A file that GDAL reads.
        Raises:
            SceneError: The file is damaged, or its bands have unlike types.
        """
        self.path = path
        self._lock = threading.Lock()
        try:
            with quietly():
                self._raster: DatasetReader = open_raster(path)
            self.info: RasterInfo = info_of(self._raster, path)
        except raster_errors() as error:
            raise SceneError(f"{path}: is damaged or is not a raster that can be read. Replace the file.") from error

    def __enter__(self) -> "RasterReader":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._raster.close()

    @property
    def wkt(self) -> str | None:
        """Coordinate system in full: a code alone would lose a datum shift."""
        return str(self._raster.crs.to_wkt()) if self._raster.crs else None

    @property
    def alpha_bands(self) -> tuple[int, ...]:
        """Bands, from 1, that are tagged alpha."""
        from rasterio.enums import ColorInterp

        return tuple(n for n, kind in enumerate(self._raster.colorinterp, start=1) if kind == ColorInterp.alpha)

    @property
    def in_strips(self) -> bool:
        """True where a stored block is as wide as the raster."""
        return bool(self._raster.block_shapes[0][1] >= self.info.width)

    def row_bytes(self, rows: int) -> int:
        """Count the bytes of all stored blocks that ``rows`` rows of pixels may touch, over the whole width."""
        high, wide = self._raster.block_shapes[0]
        blocks = -(-self.info.width // wide) * (-(-rows // high) + 1)
        return int(blocks * high * wide * self.info.bands * np.dtype(self.info.dtype).itemsize)

    def read(self, rows: slice, cols: slice, bands: Sequence[int]) -> Pixels:
        """Read a window of some bands.

        Args:
            rows: Rows, within the raster.
            cols: Columns, within the raster.
            bands: Bands from 1, in the order wanted.
        Returns:
            ``(H, W, C)``, C-contiguous, in the raster's own type.
        Raises:
            SceneError: The file breaks off there.
        """
        from rasterio.windows import Window

        height, width = rows.stop - rows.start, cols.stop - cols.start
        pixels = np.empty((height, width, len(bands)), self.info.dtype)
        try:
            with self._lock, warnings.catch_warnings():
                window = Window(cols.start, rows.start, width, height)
                self._raster.read(list(bands), out=pixels.transpose(2, 0, 1), window=window)
        except raster_errors() as error:
            raise SceneError(
                f"{self.path}: breaks off in rows {rows.start} to {rows.stop} ({_innermost(error)}). "
                "Copy the file again; rows finished before are kept."
            ) from error
        return pixels

    def read_mask(self, rows: slice, cols: slice) -> NDArray[np.bool_] | None:
        """Read where the raster's own mask says that there are no data, ``(H, W)``; ``None`` where it has none."""
        from rasterio.windows import Window

        if not self.info.masked:
            return None
        window = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
        with self._lock:
            return np.asarray(self._raster.read_masks(1, window=window) == 0)

    def sample(self, bands: Sequence[int]) -> NDArray[np.generic]:
        """Read pixels from all over the raster, ``(n, C)``, to tell what kind of values it holds.

        Places where the file cannot be read are left out, unless there are no others.

        Raises:
            SceneError: The file cannot be read anywhere.
        """
        samples, error = [], None
        for window in sample_windows(self._raster):
            rows = slice(window.row_off, window.row_off + window.height)
            cols = slice(window.col_off, window.col_off + window.width)
            try:
                samples.append(self.read(rows, cols, bands).reshape(-1, len(bands)))
            except SceneError as broken:
                error = broken
        if not samples:
            assert error is not None
            raise error
        return np.concatenate(samples)


def _innermost(error: BaseException) -> str:
    """Return what GDAL said first: rasterio's own error only points at it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
