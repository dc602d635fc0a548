"""Generated land-cover scenes in the DeepGlobe layout: a data set for a machine that has none.

A scene is a pure function of ``(seed, index, size)``. Its ground is laid out (:mod:`~levelground.generated.terrain`),
painted (:mod:`~levelground.generated.textures`), built and planted (:mod:`~levelground.generated.standing`),
photographed (:mod:`~levelground.generated.weather`), and labelled by someone less exact than the picture
(:mod:`~levelground.generated.annotator`). A pixel stands for about 1.2 m.
"""

from pathlib import Path
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from levelground.console import Bar, progress_bar
from levelground.errors import ConfigError, SceneError
from levelground.generated.annotator import draw_labels
from levelground.generated.standing import add_houses, add_roads, add_trees
from levelground.generated.terrain import lay_ground
from levelground.generated.textures import draw_palette, draw_stages, paint_ground
from levelground.generated.weather import add_weather, cloud_cover, photograph
from levelground.imagery.legend import DEEPGLOBE, LabelMap, encode_colours
from levelground.records import atomic_path

SMALLEST: Final = 64
LARGEST: Final = 8192
GENERATOR: Final = 1
"""Raised whenever the same numbers give other pixels, so that files of an older generator are made anew."""

_STAMP_KEY: Final = "levelground"


def generate_scene(seed: int, index: int, size: int = 1024) -> tuple[NDArray[np.uint8], LabelMap]:
    """Generate one scene and its labels.

    Args:
        seed: Any number from 0 to 2⁶⁴ − 1; another seed gives other scenes.
        index: Number of the scene, from 0. Every twelve in a row hold each kind of landscape once.
        size: Side of the scene, in pixels, 64–8192.
    Returns:
        The image, ``(size, size, 3)`` uint8, red first, and its labels, ``(size, size)`` uint8, indices of the
        ``deepglobe`` legend.
    Raises:
        ConfigError: A number is out of its range.

    Example:
        >>> image, labels = generate_scene(seed=0, index=0, size=128)
        >>> image.shape, labels.shape, bool(labels.max() < DEEPGLOBE.n_classes)
        ((128, 128, 3), (128, 128), True)
    """
    _check(seed=seed, index=index, size=size)
    ground = lay_ground(seed, index, size)
    palette = draw_palette(seed, index)
    stages = draw_stages(seed, index, ground, palette)
    cloud = cloud_cover(seed, index, size) if ground.kind.cloud else None
    picture = paint_ground(seed, index, ground, palette, stages)
    add_roads(seed, index, picture, ground, palette)
    house = add_houses(seed, index, picture, ground, palette)
    add_trees(seed, index, picture, ground, palette, stages, house)
    add_weather(seed, index, picture, palette, cloud)
    return photograph(seed, index, picture), draw_labels(seed, index, ground, cloud)


def write_scenes(folder: Path, *, n: int, size: int, seed: int, progress: Bar | None = None) -> int:
    """Write scenes ``000``, ``001`` … in the Kaggle layout: ``<id>_sat.jpg`` and ``<id>_mask.png``.

    Each file carries the numbers it was made from. Pairs that are there already are kept, pairs of other numbers are
    made anew, and further generated scenes are removed, so the folder always ends with exactly these ``n``. A file
    that is no generated scene is never touched.

    Args:
        folder: Where to write; made where it is missing.
        n: Number of scenes, at least 1.
        size: Side of each scene, in pixels, 64–8192.
        seed: The seed of all of them.
        progress: A bar to move on, one step a scene; without it the function shows its own.
    Returns:
        How many scenes were generated; the others were there.
    Raises:
        ConfigError: A number is out of its range.
        SceneError: A file of that name is there and is no generated scene.
        DiskError: The folder cannot be written.
    """
    _check(seed=seed, index=n - 1, size=size)
    wanted = {f"{index:03d}": index for index in range(n)}
    todo = [(name, index) for name, index in wanted.items() if not _is_there(folder, name, _stamp(seed, index, size))]
    _remove_others(folder, wanted)
    if progress is not None:
        progress.advance(n - len(todo))
        _write_all(folder, todo, seed=seed, size=size, bar=progress)
    elif todo:
        with progress_bar("generate scenes", len(todo)) as bar:
            _write_all(folder, todo, seed=seed, size=size, bar=bar)
    return len(todo)


def _check(*, seed: int, index: int, size: int) -> None:
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed is {seed}, expected 0 to 2**64 - 1. Give another seed.")
    if index < 0:
        raise ConfigError(f"scene number {index} or a count of {index + 1} scenes is too small. Give at least 1 scene.")
    if not SMALLEST <= size <= LARGEST:
        raise ConfigError(f"a scene of {size} pixels a side, expected {SMALLEST} to {LARGEST}. Give another size.")


def _write_all(folder: Path, todo: list[tuple[str, int]], *, seed: int, size: int, bar: Bar) -> None:
    for name, index in todo:
        image, labels = generate_scene(seed, index, size)
        stamp = _stamp(seed, index, size)
        coded = simplejpeg.encode_jpeg(image, quality=92, colorspace="RGB", colorsubsampling="420")
        comment = stamp.encode("ascii")
        with atomic_path(folder / f"{name}_sat.jpg") as path:
            # A comment segment right behind the start-of-image marker (ITU-T T.81, B.2.4.5).
            path.write_bytes(coded[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + coded[2:])
        text = PngImagePlugin.PngInfo()
        text.add_text(_STAMP_KEY, stamp)
        with atomic_path(folder / f"{name}_mask.png") as path:
            Image.fromarray(encode_colours(labels, DEEPGLOBE)).save(path, format="PNG", pnginfo=text, compress_level=4)
        bar.advance()


def _stamp(seed: int, index: int, size: int) -> str:
    return f"levelground generated scene, generator {GENERATOR}, seed {seed}, index {index}, size {size}"


def _read_stamp(path: Path) -> str | None:
    """The numbers that a file was made from, or ``None`` where it is no generated scene."""
    try:
        with Image.open(path) as image:
            stamp = image.info.get(_STAMP_KEY) or image.info.get("comment")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    text = stamp.decode("ascii", "replace") if isinstance(stamp, bytes) else str(stamp)
    return text if text.startswith("levelground generated scene,") else None


def _pair(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}_sat.jpg", folder / f"{name}_mask.png"


def _is_there(folder: Path, name: str, stamp: str) -> bool:
    """Whether both files carry ``stamp``."""
    stamps = []
    for path in _pair(folder, name):
        found = _read_stamp(path) if path.exists() else ""
        if found is None:
            raise SceneError(
                f"{path}: is there and is no generated scene; it is not overwritten. Choose another folder."
            )
        stamps.append(found)
    return stamps == [stamp, stamp]


def _remove_others(folder: Path, wanted: dict[str, int]) -> None:
    """Remove generated scenes beyond the wanted ones, left by a longer run."""
    for mask in sorted(folder.glob("[0-9]*_mask.png")):
        name = mask.name.removesuffix("_mask.png")
        if name not in wanted:
            for path in _pair(folder, name):
                if path.exists() and _read_stamp(path) is not None:
                    path.unlink()
