"""From a scratch folder to files that other programs read: GeoTIFF, cloud-optimised GeoTIFF, palette PNG.

Everything is written under a temporary name first. Rows of the map that were made at another resolution are brought to
the input's grid by taking the nearest pixel, so that a map lies on its input pixel by pixel.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from levelground.imagery.geotiff import RasterInfo, RasterWriter, raster_writer
from levelground.imagery.legend import IGNORE, LabelMap, Legend
from levelground.prediction.pipeline import PROBS_STEPS
from levelground.prediction.resume import Layer
from levelground.records import atomic_path

BLOCK_PX = 512
"""Side of a GeoTIFF's tiles."""

_WIDE = 8 * BLOCK_PX  # columns written at a time, so that memory does not grow with the raster's width


@dataclass(frozen=True)
class Canvas:
    """Where a map lies.

    Attributes:
        info: Size and place of the input; bands and type are the map's own.
        made: Rows and columns of the map as it was made; the input's, or those of another resolution.
    """

    info: RasterInfo
    made: tuple[int, int]

    def windows(self) -> Iterator[tuple[slice, slice]]:
        """Windows that cover the input in the order of a GeoTIFF's tiles."""
        height, width = self.info.height, self.info.width
        for row, col in product(range(0, height, BLOCK_PX), range(0, width, _WIDE)):
            yield slice(row, min(row + BLOCK_PX, height)), slice(col, min(col + _WIDE, width))

    def read(self, layer: Layer, rows: slice, cols: slice) -> NDArray[np.generic]:
        """A window of the input's grid from a layer, ``(planes, rows, columns)``."""
        down = _nearest(rows, self.info.height, self.made[0])
        across = _nearest(cols, self.info.width, self.made[1])
        found = layer.read(slice(int(down[0]), int(down[-1]) + 1), slice(int(across[0]), int(across[-1]) + 1))
        if found.shape[1:] == (len(down), len(across)):
            return found
        return found[:, down - down[0]][:, :, across - across[0]]


def write_class_raster(
    path: Path, layer: Layer, canvas: Canvas, legend: Legend, tags: dict[str, str], *, draft: bool = False
) -> None:
    """Write a class map as a tiled GeoTIFF with colours and names; a draft, which goes again, is compressed less.

    Raises:
        DiskError: The disk is full.
    """
    info = replace(canvas.info, bands=1, dtype="uint8", nodata=float(IGNORE))
    names = json.dumps(dict(enumerate(legend.names)), ensure_ascii=False)
    with raster_writer(
        path,
        info,
        palette=full_palette(legend),
        tile=BLOCK_PX,
        tags=tags | {"CLASS_NAMES": names},
        band_names=["class"],
        level=_effort(draft),
    ) as writer:
        _copy(writer, layer, canvas)


def write_probs_raster(
    path: Path, layer: Layer, canvas: Canvas, names: Sequence[str], tags: dict[str, str], *, draft: bool = False
) -> None:
    """Write probabilities as a tiled GeoTIFF, a band for each output.

    uint8 values are multiples of 1/254, which the file says as its scale, and 255 is no data; float32 has NaN there.

    Raises:
        DiskError: The disk is full.
    """
    whole = layer.dtype.kind == "u"
    info = replace(
        canvas.info, bands=layer.planes, dtype=str(layer.dtype), nodata=float(IGNORE) if whole else float("nan")
    )
    with raster_writer(
        path,
        info,
        tile=BLOCK_PX,
        tags=tags,
        band_names=names,
        scale=1 / PROBS_STEPS if whole else None,
        predictor=2 if whole else 3,
        level=_effort(draft),
    ) as writer:
        _copy(writer, layer, canvas)


def write_category_names(path: Path, legend: Legend) -> None:
    """Write the class names of a raster where GDAL and QGIS look for them: in ``<name>.aux.xml`` beside it.

    A GeoTIFF has no place of its own for them, and rasterio no way to set them.
    """
    names = "".join(f"      <Category>{escape(name)}</Category>\n" for name in legend.names)
    text = (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{names}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )
    with atomic_path(category_file(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def category_file(path: Path) -> Path:
    """The file beside a raster that holds its class names."""
    return path.with_name(path.name + ".aux.xml")


def write_mask_png(path: Path, layer: Layer, canvas: Canvas, legend: Legend) -> None:
    """Write a class map as a palette PNG: legend indices, 255 without data, shown in the legend's colours.

    Raises:
        DiskError: The disk is full.
    """
    height, width = canvas.info.height, canvas.info.width
    image = Image.fromarray(canvas.read(layer, slice(0, height), slice(0, width))[0].astype(np.uint8))
    image.putpalette(full_palette(legend).tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG")


def full_palette(legend: Legend) -> LabelMap:
    """Colours of all 256 values, ``(256, 3)``: the legend's, the first ignored colour for no data, else black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: legend.n_classes] = legend.colours
    palette[IGNORE] = legend.ignored_colours[0] if legend.ignored_colours else (0, 0, 0)
    return palette


def _effort(draft: bool) -> int:
    return 1 if draft else 6


def _copy(writer: RasterWriter, layer: Layer, canvas: Canvas) -> None:
    for rows, cols in canvas.windows():
        window = canvas.read(layer, rows, cols)
        writer.write(rows.start, cols.start, window.transpose(1, 2, 0))


def _nearest(wanted: slice, n_out: int, n_in: int) -> NDArray[np.intp]:
    """For pixels of the input's grid, the pixel of the map as made whose area holds their centre.

    Example:
        >>> _nearest(slice(0, 4), 4, 2).tolist()
        [0, 0, 1, 1]
    """
    centre = (np.arange(wanted.start, wanted.stop) + 0.5) * (n_in / n_out)
    return np.minimum(centre.astype(np.intp), n_in - 1)
