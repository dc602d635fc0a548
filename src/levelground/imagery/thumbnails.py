"""Thumbnails of scenes and label maps: reduced size, display colours, error maps, WebP data URIs.

Label maps are reduced by nearest neighbour, never blended, so every colour is a colour of the legend; no data is
transparent. Image and label maps of a scene are reduced at the same rows and columns and cover each other exactly.
"""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from levelground.imagery.legend import LabelMap, Legend

Pixels = NDArray[np.generic]  # (H, W, C), any type a cache holds
Picture = NDArray[np.uint8]  # (H, W, 3)

RIGHT, WRONG, UNSCORED = 0, 1, 2
"""Values of an error map."""

ERROR_COLOURS: tuple[tuple[int, int, int], ...] = ((236, 236, 232), (150, 30, 20), (150, 160, 170))
"""Right, wrong, not scored: distinct in lightness, so that they do not depend on colour vision."""


def display_rgb(pixels: Pixels) -> Picture:
    """Make a picture of the first three bands; types other than uint8 are stretched between the percentiles 2 and 98.

    Args:
        pixels: ``(H, W, C)``; one or two bands give a grey picture, bands after the third are left out.

    Example:
        >>> display_rgb(np.zeros((2, 3, 4), np.uint8)).shape
        (2, 3, 3)
    """
    bands = np.asarray(pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1])
    if bands.dtype != np.uint8:
        values = np.nan_to_num(bands.astype(np.float32))
        low, high = np.percentile(values, (2, 98), axis=(0, 1), keepdims=True)
        bands = (255 * (values - low) / np.maximum(high - low, 1e-9)).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(bands.repeat(3, axis=-1) if bands.shape[-1] == 1 else bands)


def reduced_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the height and width of a scene's pictures, with the longer side at most ``side``.

    Example:
        >>> reduced_size(2448, 2448, 512), reduced_size(90, 120, 512), reduced_size(4000, 10, 100)
        ((512, 512), (90, 120), (100, 1))
    """
    factor = min(1.0, side / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def reduce_labels(labels: LabelMap, size: tuple[int, int]) -> LabelMap:
    """Take the nearest label for each pixel of a smaller map.

    Args:
        labels: ``(H, W)``.
        size: Height and width of the result.

    Example:
        >>> reduce_labels(np.uint8([[0, 1, 2, 3]]), (1, 2))
        array([[1, 3]], dtype=uint8)
    """
    rows, columns = (
        ((np.arange(small) + 0.5) * full / small).astype(np.int64)
        for small, full in zip(size, labels.shape, strict=True)
    )
    return np.asarray(labels[rows[:, None], columns], np.uint8)


def error_map(preds: LabelMap, labels: LabelMap, counted: Sequence[bool]) -> LabelMap:
    """Mark each pixel as right, wrong, or not scored (no data, or a true class that does not count).

    Args:
        preds: Predicted classes, ``(H, W)``.
        labels: True classes, ``(H, W)``.
        counted: Whether each class counts, by index.
    """
    scored = np.zeros(256, np.bool_)
    scored[: len(counted)] = counted
    return np.where(scored[labels], np.where(preds == labels, RIGHT, WRONG), UNSCORED).astype(np.uint8)


def reduce_picture(picture: Picture, size: tuple[int, int]) -> Picture:
    """Reduce a picture; each pixel is the mean of the pixels that it covers.

    Args:
        picture: ``(H, W, 3)``.
        size: Height and width of the result.
    """
    if picture.shape[:2] == size:
        return picture
    image = Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(image)


def reduced_scene(pixels: Pixels, labels: LabelMap, side: int) -> tuple[Picture, LabelMap]:
    """Reduce a scene's image and labels to a longer side of at most ``side``, at the same rows and columns."""
    size = reduced_size(labels.shape[0], labels.shape[1], side)
    return reduce_picture(display_rgb(np.asarray(pixels)), size), reduce_labels(np.asarray(labels), size)


def coloured(labels: LabelMap, legend: Legend) -> Picture:
    """Paint labels in the legend's colours, ``(H, W, 3)``; values outside the legend are grey."""
    palette = np.full((256, 3), 128, np.uint8)
    palette[: legend.n_classes] = legend.colours
    return palette[labels]


def photo_uri(picture: Picture, *, quality: int = 76) -> str:
    """Encode a picture ``(H, W, 3)`` as a WebP data URI of that quality."""
    return _uri(Image.fromarray(picture), quality=quality, method=4)


def labels_uri(labels: LabelMap, legend: Legend) -> str:
    """Encode a label map in its legend's colours as a data URI; no data is transparent."""
    return palette_uri(labels, [entry.colour for entry in legend.classes])


def palette_uri(values: LabelMap, colours: Sequence[tuple[int, int, int]]) -> str:
    """Encode a map of palette indices as a lossless WebP data URI, two thirds of the size of a palette PNG.

    Args:
        values: ``(H, W)``, indices of ``colours``; all other values, such as no data, are transparent.
        colours: The palette, at most 255.
    """
    palette = np.zeros((256, 4), np.uint8)
    palette[: len(colours)] = [(*colour, 255) for colour in colours]
    return _uri(Image.fromarray(palette[values]), lossless=True, quality=60, method=2, exact=True)


def _uri(image: Image.Image, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
