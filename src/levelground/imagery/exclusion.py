"""Exclusion layers: cloud masks, scene classifications and areas of interest, as pixels that are left out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.config import PrepareOptions
from levelground.errors import ConfigError, SceneError
from levelground.imagery.geotiff import Pixels, Window, raster_writer
from levelground.imagery.grids import read_onto
from levelground.imagery.image_headers import ImageHeader, read_header
from levelground.imagery.image_pixels import read_indices
from levelground.imagery.layouts import Pair
from levelground.imagery.name_patterns import files_by_pattern
from levelground.imagery.vector_labels import (
    draw_shapes,
    file_sums,
    grid_of,
    is_vector,
    raster_info,
    read_features,
    strips_of,
)
from levelground.records import sha256_json


def draw_exclusion(layers: Sequence[tuple[Path, frozenset[int], bool]], image: Path, cache: Path) -> Path | None:
    """Draw which pixels of an image are left out, 1 where they are, once.

    Args:
        layers: A raster or vector each, the values of the raster that are meant (none: all but 0), and whether the
            pixels that are *not* meant are left out: an area of interest.
        image: The image.
        cache: Folder of decoded scenes.
    Returns:
        The raster; ``None`` without layers.
    Raises:
        SceneError: A layer cannot be read, or has no place where the image has one.
    """
    if not layers:
        return None
    header = read_header(image)
    told = [[file_sums(path), sorted(values), inverted] for path, values, inverted in layers]
    target = cache / "vectors" / f"{sha256_json(['exclude', 1, told, grid_of(header)])}.tif"
    if target.exists():
        return target
    left_out = np.zeros((header.height, header.width), np.bool_)
    for path, values, inverted in layers:
        if is_vector(path):
            shapes = [(shape, 1) for shape in read_features(path, image, header, None).shapes]
            meant = np.zeros_like(left_out)
            for row, height in strips_of(header):
                meant[row : row + height] = (
                    draw_shapes(shapes, header, (row, height), 0, False) == 1 if shapes else False
                )
        else:
            meant = _raster_layer(path, image, header, values)
        left_out |= ~meant if inverted else meant
    with raster_writer(target, raster_info(header, "uint8", None)) as writer:
        writer.write(0, 0, left_out.astype(np.uint8))
    return target


def exclusion_layers(
    data: Path, pairs: Sequence[Pair], options: PrepareOptions
) -> dict[str, list[tuple[Path, frozenset[int], bool]]]:
    """Find the layers that ``--exclude`` and ``--within`` name, by the id of the scene that they belong to.

    A pattern without wildcards is one file for all scenes. Otherwise what it captures is a scene's id or the name of
    its image.

    Raises:
        ConfigError: A pattern fits no file, or a value is not a whole number.
        SceneError: A scene has no file of a pattern.
    """
    layers: dict[str, list[tuple[Path, frozenset[int], bool]]] = {pair.id: [] for pair in pairs}
    for flag, texts in (("--exclude", options.exclude), ("--within", options.within)):
        for text in texts:
            pattern, equals, listed = text.partition("=")
            if equals and not all(part.strip().lstrip("-").isdigit() for part in listed.split(",")):
                raise ConfigError(f"{flag} {text!r}: expected PATTERN=VALUES, such as 'scl/*.tif=3,8,9,10'.")
            values = frozenset(int(part) for part in listed.split(",")) if equals else frozenset()
            files = files_by_pattern(flag, data, pattern)
            for pair in pairs:
                file = files.get("") or files.get(pair.id) or files.get(pair.image.stem)
                if file is None:
                    found = ", ".join(sorted(files)[:4])
                    raise SceneError(f"{flag} {pattern!r}: has no file for scene {pair.id} (found {found} …). Add it.")
                layers[pair.id].append((file, values, flag == "--within"))
    return layers


def _raster_layer(path: Path, image: Path, header: ImageHeader, values: frozenset[int]) -> NDArray[np.bool_]:
    """Read where a raster holds one of some values, on the grid of an image."""
    own = read_header(path)
    if own.transform and header.transform:

        def read(window: Window) -> Pixels:
            return read_indices(path, window if own.format == "tiff" else None)

        stored, outside = read_onto(read, own, header, None)
    elif (own.height, own.width) == (header.height, header.width):
        stored, outside = read_indices(path), np.zeros((header.height, header.width), np.bool_)
    else:
        raise SceneError(
            f"{path}: has {own.width} × {own.height} pixels and no place, its image {image.name} {header.width} × "
            f"{header.height}. Give it a place, or the same size."
        )
    meant = np.isin(stored, list(values)) if values else np.asarray((stored != 0) & (stored != own.nodata))
    return np.asarray(meant & ~outside)
