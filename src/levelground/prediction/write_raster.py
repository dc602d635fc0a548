"""Writers of class maps and probabilities: from a checkpoint to GeoTIFF, cloud-optimised GeoTIFF or palette PNG.

Every file is written under a temporary name first. If a map was predicted at another resolution, each pixel of the
output takes the nearest predicted pixel, so that the map lies on its input pixel by pixel.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from levelground import __version__
from levelground.errors import ConfigError
from levelground.imagery.geotiff import RasterInfo, RasterMetadata, RasterWriter, copy_to_cog, raster_writer
from levelground.imagery.legend import IGNORE, LabelMap, Legend
from levelground.imagery.raster_reader import RasterReader
from levelground.prediction.pipeline import PROBS_STEPS
from levelground.prediction.plan import PredictionPlan
from levelground.prediction.resume import BlockFile
from levelground.prediction.styles import map_style, stored_value_table, write_style
from levelground.records import atomic_path

BLOCK_PX = 512
"""Side of a GeoTIFF's tiles."""

_WIDE = 8 * BLOCK_PX  # columns written at a time, so that memory does not grow with the raster's width
_FAST, _SMALL = 1, 6  # effort of deflate for a file that a cloud-optimised copy replaces, and for one that stays


@dataclass(frozen=True)
class OutputGrid:
    """The pixel grid of a map.

    Attributes:
        info: Size and georeference of the input; bands and type are the map's own.
        predicted_shape: Rows and columns as they were predicted: the input's, or those of another resolution.
    """

    info: RasterInfo
    predicted_shape: tuple[int, int]

    def windows(self) -> Iterator[tuple[slice, slice]]:
        """Yield windows that cover the grid in the order of a GeoTIFF's tiles."""
        height, width = self.info.height, self.info.width
        for row, col in product(range(0, height, BLOCK_PX), range(0, width, _WIDE)):
            yield slice(row, min(row + BLOCK_PX, height)), slice(col, min(col + _WIDE, width))

    def read(self, blocks: BlockFile, rows: slice, cols: slice) -> NDArray[np.generic]:
        """Read a window of the grid from a raw file, ``(planes, rows, columns)``."""
        down = _nearest(rows, self.info.height, self.predicted_shape[0])
        across = _nearest(cols, self.info.width, self.predicted_shape[1])
        found = blocks.read(slice(int(down[0]), int(down[-1]) + 1), slice(int(across[0]), int(across[-1]) + 1))
        if found.shape[1:] == (len(down), len(across)):
            return found
        return found[:, down - down[0]][:, :, across - across[0]]


def write_probs(plan: PredictionPlan, blocks: BlockFile, folder: Path) -> None:
    """Write probabilities as a GeoTIFF, a band for each output.

    uint8 values are multiples of 1/254, which the file states as its scale, and 255 is no data; float32 has NaN there.

    Args:
        plan: How the input was predicted.
        blocks: The probabilities.
        folder: Where temporary files go.
    Raises:
        DiskError: The disk is full.
    """
    target = plan.input.outputs.probs
    assert target is not None
    whole, cog = blocks.dtype.kind == "u", plan.options.cog
    nodata, predictor = (float(IGNORE), 2) if whole else (float("nan"), 3)
    names = [plan.model.spec.legend.names[index] for index in plan.model.spec.outputs]
    plain = folder / "probs.tif" if cog else target
    with raster_writer(
        plain,
        replace(plan.info, bands=blocks.planes, dtype=str(blocks.dtype), nodata=nodata),
        RasterMetadata(tags=_tags(plan), band_names=names, scale=1 / PROBS_STEPS if whole else None),
        tile=BLOCK_PX,
        predictor=predictor,
        level=_FAST if cog else _SMALL,
    ) as writer:
        _copy(writer, blocks, OutputGrid(plan.info, plan.predicted_shape))
    if cog:
        copy_to_cog(plain, target, overviews="average", predictor=predictor)
        plain.unlink()


def write_draft_map(plan: PredictionPlan, blocks: BlockFile, folder: Path) -> Path:
    """Write a class map under a temporary name, from which the other outputs are made.

    Args:
        plan: How the input was predicted.
        blocks: The classes.
        folder: Where the file goes.
    Returns:
        The file: a tiled GeoTIFF with colours and names, or of an image a palette PNG.
    Raises:
        DiskError: The disk is full.
    """
    grid, legend = OutputGrid(plan.info, plan.predicted_shape), plan.model.spec.legend
    if plan.input.kind == "image":
        draft = _write_png(folder / "classes.png", blocks, grid, legend)
        _write_place(draft, plan.info)
        return draft
    draft = folder / "classes.tif"
    names = json.dumps(dict(enumerate(legend.names)), ensure_ascii=False)
    with raster_writer(
        draft,
        replace(plan.info, bands=1, dtype="uint8", nodata=float(IGNORE)),
        RasterMetadata(_full_palette(legend), _tags(plan) | {"CLASS_NAMES": names}, ["class"]),
        tile=BLOCK_PX,
        level=_FAST if plan.options.cog else _SMALL,
    ) as writer:
        _copy(writer, blocks, grid)
    return draft


def publish_map(plan: PredictionPlan, draft: Path) -> None:
    """Put a class map under its final name: copied to a cloud-optimised GeoTIFF, or renamed.

    Raises:
        DiskError: The disk is full.
    """
    classes, raster, legend = plan.input.outputs.classes, plan.input.kind == "raster", plan.model.spec.legend
    values = dict(enumerate(range(legend.n_classes)))
    if plan.options.values == "stored":
        stored, empty = stored_value_table(legend)
        values = dict(enumerate(stored))
        draft = _write_stored(plan, draft, stored, empty)
    if raster and plan.options.cog:
        copy_to_cog(draft, classes, overviews="mode")
    else:
        draft.replace(classes)
    if raster:
        _write_category_names(classes, legend, values)
        write_style(classes, map_style(legend, values))
    else:
        _write_place(classes, plan.info)


def _write_place(path: Path, info: RasterInfo) -> None:
    """Write the place of a PNG beside it, if it has one: a world file, and the coordinate system for GDAL and QGIS."""
    if info.transform is None:
        return
    a, b, c, d, e, f = info.transform
    lines = (a, d, b, e, c + (a + b) / 2, f + (d + e) / 2)  # the middle of the first pixel
    with atomic_path(path.with_suffix(".pgw")) as temporary:
        temporary.write_text("".join(f"{number:.15g}\n" for number in lines), encoding="utf-8")
    if info.crs is not None:
        from rasterio.crs import CRS

        wkt = escape(CRS.from_string(info.crs).to_wkt())
        with atomic_path(path.with_name(f"{path.name}.aux.xml")) as temporary:
            temporary.write_text(f"<PAMDataset>\n  <SRS>{wkt}</SRS>\n</PAMDataset>\n", encoding="utf-8")


def _write_stored(plan: PredictionPlan, draft: Path, stored: Sequence[int], empty: int) -> Path:
    """Write a class map anew with the values that masks store.

    Raises:
        ConfigError: A value fits no PNG.
        DiskError: The disk is full.
    """
    legend, target = plan.model.spec.legend, draft.with_name(f"stored{draft.suffix}")
    low, high = min(*stored, empty, 0), max(*stored, empty)
    dtype = next(name for name in ("uint8", "uint16", "int16", "int32", "int64") if _holds(name, low, high))
    table = np.full(256, empty, dtype)
    table[: legend.n_classes] = stored
    palette = np.zeros((256, 3), np.uint8)
    if dtype == "uint8":
        palette[list(stored)] = legend.colours
    if plan.input.kind == "image":
        if not dtype.startswith("u"):
            raise ConfigError(f"--values stored: the value {low} fits no PNG. Give rasters, or leave the flag away.")
        with Image.open(draft) as image:
            written = Image.fromarray(table[np.asarray(image)])
        if dtype == "uint8":
            written.putpalette(palette.tobytes())
        with atomic_path(target) as temporary:
            written.save(temporary, "PNG")
        return target
    names = json.dumps(dict(zip(stored, legend.names, strict=True)), ensure_ascii=False)
    metadata = RasterMetadata(
        palette if dtype == "uint8" else None, _tags(plan) | {"CLASS_NAMES": names}, band_names=["class"]
    )
    info = replace(plan.info, bands=1, dtype=dtype, nodata=float(empty))
    with (
        RasterReader(draft) as reader,
        raster_writer(target, info, metadata, tile=BLOCK_PX, level=_FAST if plan.options.cog else _SMALL) as writer,
    ):
        for rows, cols in OutputGrid(plan.info, plan.predicted_shape).windows():
            writer.write(rows.start, cols.start, table[reader.read(rows, cols, [1])])
    return target


def _holds(dtype: str, low: int, high: int) -> bool:
    """Tell whether a type of integers holds all numbers of a range."""
    limits = np.iinfo(dtype)
    return bool(limits.min <= low and high <= limits.max)


def _write_category_names(path: Path, legend: Legend, values: Mapping[int, int]) -> None:
    """Write the class names of a raster to the file beside it where GDAL and QGIS look for them, ``<name>.aux.xml``.

    A GeoTIFF has no field for them, and rasterio cannot set them. A name's place in the list is its value.
    """
    if min(values.values()) < 0 or max(values.values()) > IGNORE:
        return  # the style beside the map names them
    listed = dict.fromkeys(range(max(values.values()) + 1), "")
    listed |= {values[index]: name for index, name in enumerate(legend.names)}
    names = "".join(f"      <Category>{escape(name)}</Category>\n" for name in listed.values())
    text = (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{names}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )
    with atomic_path(path.with_name(path.name + ".aux.xml")) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _full_palette(legend: Legend) -> LabelMap:
    """Return colours for all 256 values, ``(256, 3)``: the legend's, its first ignored colour for 255, else black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: legend.n_classes] = legend.colours
    palette[IGNORE] = legend.ignored_colours[0] if legend.ignored_colours else (0, 0, 0)
    return palette


def _tags(plan: PredictionPlan) -> dict[str, str]:
    model = plan.model
    return {
        "TIFFTAG_SOFTWARE": f"levelground {__version__}",
        "MODEL": model.spec.name,
        "MODEL_SHA256": model.digest or "",
    }


def _write_png(path: Path, blocks: BlockFile, grid: OutputGrid, legend: Legend) -> Path:
    """Write a class map as a palette PNG: legend indices, 255 without data, shown in the legend's colours."""
    image = Image.fromarray(
        grid.read(blocks, slice(0, grid.info.height), slice(0, grid.info.width))[0].astype(np.uint8)
    )
    image.putpalette(_full_palette(legend).tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG")
    return path


def _copy(writer: RasterWriter, blocks: BlockFile, grid: OutputGrid) -> None:
    for rows, cols in grid.windows():
        window = grid.read(blocks, rows, cols)
        writer.write(rows.start, cols.start, window.transpose(1, 2, 0))


def _nearest(wanted: slice, n_out: int, n_in: int) -> NDArray[np.intp]:
    """Return for pixels of the output the predicted pixel whose area holds their centre.

    Example:
        >>> _nearest(slice(0, 4), 4, 2).tolist()
        [0, 0, 1, 1]
    """
    centre = (np.arange(wanted.start, wanted.stop) + 0.5) * (n_in / n_out)
    return np.minimum(centre.astype(np.intp), n_in - 1)
