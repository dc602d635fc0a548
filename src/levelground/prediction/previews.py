"""Pictures of a class map: in the legend's colours alone, and drawn over its image.

Both are reduced to a longest side. Classes are reduced by the nearest pixel, never by a mean, so that every colour is
one of the legend's; the image is reduced by the mean. Both are read window by window.
"""

import importlib.util
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from levelground.imagery.legend import IGNORE, LabelMap, Legend, hex_colour
from levelground.imagery.raster_reader import RasterReader
from levelground.imagery.thumbnails import Picture, reduced_size
from levelground.prediction.areas import STRIP_ROWS
from levelground.prediction.readers import PixelReader
from levelground.records import atomic_path

_WIDE = 4096  # columns of the image read at a time
_SHOWN = 0.45  # how much of a class's colour covers the image
_LOW, _HIGH = 2.0, 98.0  # percentiles that become black and white
_PAPER, _INK, _EMPTY = (255, 255, 255), (30, 30, 30), (120, 120, 120)


def write_colours(classes: Path, legend: Legend, out: Path, *, side: int) -> None:
    """Write a class map as a palette PNG in the legend's colours; no data is transparent.

    Args:
        classes: One band of legend indices, 255 without data.
        legend: Its classes; the file's text ``Legend`` lists their names and colours.
        out: The PNG.
        side: Its longest side at most, in pixels.
    Raises:
        DiskError: The disk is full.
    """
    image = Image.fromarray(reduced_classes(classes, side))
    image.putpalette(_palette(legend).tobytes())
    text = PngImagePlugin.PngInfo()
    names = [f"{entry.index} {hex_colour(entry.colour)} {entry.name}" for entry in legend.classes]
    text.add_itxt("Legend", "\n".join(names))
    with atomic_path(out) as temporary:
        image.save(temporary, "PNG", transparency=IGNORE, pnginfo=text)


def write_overlay(classes: Path, image: PixelReader, legend: Legend, out: Path, *, side: int) -> None:
    """Write the image with its classes drawn over it, half transparent and outlined, and the classes' names below.

    Args:
        classes: One band of legend indices, 255 without data.
        image: The image, of the same height and width; its first three bands are shown, or the first alone in grey,
            each from its 2nd to its 98th percentile.
        legend: The classes.
        out: The PNG.
        side: Longest side of the image in it at most, in pixels.
    Raises:
        DiskError: The disk is full.
    """
    labels = reduced_classes(classes, side)
    picture = draw_overlay(reduced_image(image, (labels.shape[0], labels.shape[1])), labels, legend)
    with atomic_path(out) as temporary:
        Image.fromarray(add_names(picture, labels, legend)).save(temporary, "PNG")


def reduced_classes(classes: Path, side: int) -> LabelMap:
    """Reduce a class map to a longest side of at most ``side`` by the nearest pixel, ``(H, W)``."""
    with RasterReader(classes) as reader:
        full = (reader.info.height, reader.info.width)
        size = reduced_size(*full, side)
        rows, cols = (((np.arange(n) + 0.5) * of / n).astype(np.intp) for n, of in zip(size, full, strict=True))
        labels = np.empty(size, np.uint8)
        for first in range(0, full[0], STRIP_ROWS):
            here = np.flatnonzero((rows >= first) & (rows < first + STRIP_ROWS))
            if here.size:
                strip = reader.read(slice(first, min(full[0], first + STRIP_ROWS)), slice(0, full[1]), [1])
                labels[here] = strip[rows[here, None] - first, cols, 0]
    return labels


def reduced_image(image: PixelReader, size: tuple[int, int]) -> Picture:
    """Reduce an image to a smaller size and stretch its values: each pixel is the mean of its pixels with data.

    Args:
        image: The image, at least as large.
        size: Height and width of the result.
    Returns:
        ``(H, W, 3)``; grey where nothing has data.
    """
    height, width, bands = image.shape
    shown = 3 if bands >= 3 else 1
    # Pixels row_edges[i] to row_edges[i + 1] of the image become pixel i.
    row_edges, col_edges = (np.arange(n + 1) * of // n for n, of in zip(size, (height, width), strict=True))
    some_rows, some_cols = max(1, STRIP_ROWS * size[0] // height), max(1, _WIDE * size[1] // width)
    sums, counts = np.zeros((*size, shown)), np.zeros(size)
    for top, left in product(range(0, size[0], some_rows), range(0, size[1], some_cols)):
        down, across = row_edges[top : top + some_rows + 1], col_edges[left : left + some_cols + 1]
        pixels, mask = image.read(slice(int(down[0]), int(down[-1])), slice(int(across[0]), int(across[-1])))
        values = pixels[..., :shown].astype(np.float64 if pixels.dtype.kind == "f" else np.int64)
        known = np.ones(values.shape[:2], np.int64)
        if mask is not None:
            values[mask], known[mask] = 0, 0
        place = slice(top, top + some_rows), slice(left, left + some_cols)
        starts = down[:-1] - down[0], across[:-1] - across[0]
        sums[place] = np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
        counts[place] = np.add.reduceat(np.add.reduceat(known, starts[0], axis=0), starts[1], axis=1)
    return _stretched(sums / np.maximum(counts, 1)[..., None], counts > 0)


def _stretched(values: NDArray[np.float64], valid: NDArray[np.bool_]) -> Picture:
    """Convert values ``(H, W, 1 or 3)`` to colours, each band from its 2nd to 98th percentile; grey without data."""
    if valid.any():
        low, high = np.percentile(values[valid], (_LOW, _HIGH), axis=0)
        values = 255 * (values - low) / np.maximum(high - low, 1e-9)
    picture = np.broadcast_to(values.clip(0, 255).astype(np.uint8), (*valid.shape, 3)).copy()
    picture[~valid] = _EMPTY
    return picture


def draw_overlay(image: Picture, labels: LabelMap, legend: Legend) -> Picture:
    """Draw classes over an image: their colours half transparent, and opaque where two classes meet.

    Args:
        image: ``(H, W, 3)``.
        labels: ``(H, W)``; nothing is drawn where they have no data.
        legend: The classes' colours.
    """
    palette = _palette(legend)
    meets = np.zeros(labels.shape, np.bool_)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    meets[:, 1:] |= across
    meets[:, :-1] |= across
    meets[1:] |= down
    meets[:-1] |= down
    weight = np.where(meets, 1.0, _SHOWN) * (labels != IGNORE)
    mixed = image + (palette[labels].astype(np.float64) - image) * weight[..., None]
    return np.asarray(mixed.round(), np.uint8)


def add_names(picture: Picture, labels: LabelMap, legend: Legend) -> Picture:
    """Add a legend below a picture: a square of colour and the name of each class that is in it, and of no data.

    Args:
        picture: ``(H, W, 3)``.
        labels: ``(H, W)``, the classes it shows.
        legend: The classes.
    Returns:
        A higher picture, also wider if a name would not fit.
    """
    counts = np.bincount(labels.ravel(), minlength=256)
    entries = [(entry.colour, entry.name) for entry in legend.classes if counts[entry.index]]
    entries += [(_EMPTY, "no data")] if counts[IGNORE] else []
    size = int(np.clip(picture.shape[1] // 48, 12, 48))
    font, gap = _font(size), size // 2
    lengths = [size + gap // 2 + round(font.getlength(name)) for _, name in entries]
    width = max([picture.shape[1], *(length + 2 * gap for length in lengths)])
    places, x, y = [], gap, gap
    for length in lengths:
        if x > gap and x + length + gap > width:
            x, y = gap, y + size + gap
        places.append((x, y))
        x += length + 2 * gap
    height = picture.shape[0]
    whole = Image.new("RGB", (width, height + (y + size + gap if entries else 0)), _PAPER)
    whole.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(whole)
    for (colour, name), (x, y) in zip(entries, places, strict=True):
        box = (x, height + y, x + size - 1, height + y + size - 1)
        draw.rectangle(box, fill=colour, outline=_INK)
        draw.text((x + size + gap // 2, height + y + size / 2), name, fill=_INK, font=font, anchor="lm")
    return np.asarray(whole)


def _palette(legend: Legend) -> NDArray[np.uint8]:
    """Return colours for all 256 values, ``(256, 3)``: the legend's, else black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: legend.n_classes] = legend.colours
    return palette


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Load the font that comes with matplotlib, without importing it: Pillow's own font has no Cyrillic."""
    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)
