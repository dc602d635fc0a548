"""Tell what masks hold (colours or class indices, of which legend), and which blocks of a label raster have labels."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from levelground.config import Layout
from levelground.errors import LegendError, SceneError
from levelground.imagery.colours import RGB, pack_colour, pack_colours, unpack_colours
from levelground.imagery.geotiff import Pixels, Window
from levelground.imagery.image_headers import ImageHeader
from levelground.imagery.image_pixels import read_colours, read_indices, used_palette
from levelground.imagery.legend import IGNORE, MAX_CLASSES, Legend, read_legend
from levelground.imagery.scene_pixels import Coding

LEGEND_FILE = "legend.toml"
_SAMPLED = 8  # masks opened to tell palettes and colours
_EXAMPLES = 12  # colours named in an example
_STRIP_PIXELS = 1 << 24


def given_legend(data: Path, path: Path | None) -> tuple[Legend, Path] | None:
    """Read the legend that the user gave: the file named, or ``legend.toml`` in the data folder.

    Raises:
        LegendError: The file cannot be read or contradicts itself.
    """
    chosen = path or data / LEGEND_FILE
    if path is None and not chosen.exists():
        return None
    return read_legend(chosen), chosen


def tell_coding(masks: Mapping[Path, ImageHeader], legend: Legend | None, layout: Layout | None = None) -> Coding:
    """Tell whether masks hold colours or class indices.

    Args:
        masks: Headers by file.
        legend: The legend given, if any.
        layout: The layout that the user names; ``kaggle`` and ``folders`` have colours, ``index`` has indices.
    Returns:
        Without such a layout: ``colour`` where a mask has three bands, or where all colours used by the palettes are in
        the legend; ``index`` where all masks have one band.
    """
    if layout == "index":
        return "index"
    if layout in ("kaggle", "folders"):
        return "colour"
    if any(header.image_bands >= 3 and not header.palette for header in masks.values()):
        return "colour"
    palettes = [path for path, header in masks.items() if header.palette]
    if legend is None or not palettes:
        return "index"
    known = {colour for colour, _ in legend.table}
    return "colour" if all(used_palette(path) <= known for path in palettes[:_SAMPLED]) else "index"


def largest_index(path: Path, header: ImageHeader) -> int:
    """Find the largest class index of an index mask, -1 where it has no data at all.

    Raises:
        SceneError: A value is not a class index.
    """
    largest = -1
    for window in _strips(header):
        values = read_indices(path, window)
        values = values[(values != IGNORE) & (values != header.nodata) & np.isfinite(values)]
        if not values.size:
            continue
        low, high = float(values.min()), float(values.max())
        if low < 0 or high >= MAX_CLASSES or (values.dtype.kind == "f" and (values % 1).any()):
            raise SceneError(
                f"{path}: mask holds the values {low:g} to {high:g}, expected class indices 0 to {MAX_CLASSES - 1}, or "
                f"{IGNORE} for no data. Number the classes from 0."
            )
        largest = max(largest, int(high))
    return largest


def colours_without_legend(data: Path, masks: Iterable[Path]) -> LegendError:
    """Make the error for colour masks without a legend; it shows a legend with the colours found."""
    counts: dict[RGB, int] = {}
    for mask in list(masks)[:_SAMPLED]:
        try:
            values, sizes = np.unique(pack_colours(read_colours(mask)), return_counts=True)
        except SceneError:  # what matters more is that there is no legend for any mask
            continue
        for (red, green, blue), size in zip(unpack_colours(values).tolist(), sizes.tolist(), strict=True):
            counts[red, green, blue] = counts.get((red, green, blue), 0) + size
    common = sorted(counts, key=lambda colour: (-counts[colour], colour))
    entries = ", ".join(
        '{{index = {}, name = "class {}", colour = "{:02X}{:02X}{:02X}"}}'.format(index, index, *colour)
        for index, colour in enumerate(common[:_EXAMPLES])
    )
    more = f" ({len(common)} colours found, the commonest shown)" if len(common) > _EXAMPLES else ""
    return LegendError(
        f"{data}: masks hold colours and there is no legend. Write {data / LEGEND_FILE} with the right names, such as: "
        f"class = [{entries}]{more}; or pass --legend FILE."
    )


def labelled_blocks(
    path: Path, header: ImageHeader, *, block: int, coding: Coding, legend: Legend
) -> tuple[tuple[Window, ...], int]:
    """Find the blocks of a label raster that hold a label.

    Args:
        path: The label raster.
        header: Its header.
        block: Side of a block in pixels; a rest below half a block joins the last one.
        coding: What the raster holds.
        legend: Its classes and ignored colours.
    Returns:
        The windows that hold a label, row by row, and how many were left out.
    """
    windows: list[Window] = []
    n = 0
    for row, height in _block_sides(header.height, block):
        strip = (row, 0, height, header.width)
        labelled = _has_label(path, strip, header.nodata, coding, legend)
        for col, width in _block_sides(header.width, block):
            n += 1
            if labelled[:, col : col + width].any():
                windows.append((row, col, height, width))
    return tuple(windows), n - len(windows)


def _has_label(path: Path, window: Window, nodata: float | None, coding: Coding, legend: Legend) -> Pixels:
    """Find the labelled pixels of a part of a label raster, ``(H, W)`` bool."""
    if coding == "index":
        values = read_indices(path, window)
        return np.asarray((values != IGNORE) & (values != nodata))
    packed = pack_colours(read_colours(path, window))
    return ~np.isin(packed, [pack_colour(colour) for colour in legend.ignored_colours])


def _block_sides(length: int, block: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of each block along one side."""
    n = max(1, length // block + (length % block >= block / 2))
    for number in range(n):
        start = number * block
        yield start, length - start if number == n - 1 else block


def _strips(header: ImageHeader) -> Iterator[Window | None]:
    """Yield windows that keep memory flat; only TIFF is read in parts, other files whole (``None``)."""
    if header.format != "tiff":
        yield None
        return
    rows = max(1, _STRIP_PIXELS // header.width)
    for row in range(0, header.height, rows):
        yield row, 0, min(rows, header.height - row), header.width
