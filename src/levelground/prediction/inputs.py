"""Which files a prediction eats, and which files it makes of them."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from levelground.errors import ConfigError, SceneError

IMAGES = frozenset({".png", ".jpg", ".jpeg"})
"""Suffixes of pictures: one palette PNG is made of each."""

RASTERS = frozenset({".tif", ".tiff", ".vrt", ".img", ".jp2"})
"""Suffixes of rasters that are looked for in folders; a file that is named may have any."""


@dataclass(frozen=True)
class Target:
    """One input and the files that come of it.

    Attributes:
        source: The input.
        kind: ``raster``: its map is a GeoTIFF; ``image``: its map is a PNG.
        name: Its name for people: the path below the folder that was given.
        classes: Where the class map goes.
        probs: Where probabilities go, if they are asked for.
    """

    source: Path
    kind: Literal["raster", "image"]
    name: str
    classes: Path
    probs: Path


def find_targets(inputs: Sequence[str], out: Path) -> list[Target]:
    """Find the input files and plan where their maps go.

    Args:
        inputs: Files, folders (taken with all below them) and patterns such as ``scenes/*.tif``.
        out: Folder of the maps; names below a folder, or below a pattern's fixed part, are kept in it.
    Returns:
        The inputs in the order given, those of a folder by name.
    Raises:
        SceneError: An input is not there, or a folder or pattern holds none.
        ConfigError: Two inputs would write one file, or a map would replace its input.
    """
    targets: dict[Path, Target] = {}
    sources = set()
    for given in inputs:
        for source, name in _expand(given, out):
            if source.resolve() in sources:
                continue
            sources.add(source.resolve())
            target = _target(source, name, out)
            other = targets.setdefault(target.classes, target)
            if other is not target:
                raise ConfigError(
                    f"{other.source} and {target.source}: both would become {target.classes}. "
                    "Give the folder that holds both, or map them into two folders."
                )
    written = {target.classes.resolve(): target for target in targets.values()}
    for source in sources & set(written):
        raise ConfigError(f"{source}: would be replaced by its own map. Choose another --out.")
    return list(targets.values())


def _target(source: Path, name: Path, out: Path) -> Target:
    if source.suffix.lower() in IMAGES:
        classes = out / name.with_name(f"{name.stem}_mask.png")
        return Target(source, "image", name.as_posix(), classes, classes.with_name(f"{name.stem}_probs.tif"))
    classes = out / name.with_suffix(".tif")
    return Target(source, "raster", name.as_posix(), classes, classes.with_name(f"{name.stem}_probs.tif"))


def _expand(given: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """Each file of one input with its name below OUT."""
    path = Path(given)
    if path.is_dir():
        found = [(file, file.relative_to(path)) for file in sorted(path.rglob("*")) if _is_input(file, out)]
    elif path.is_file():
        found = [(path, Path(path.name))]
    elif glob.has_magic(given):
        fixed = _fixed_part(path)
        files = sorted(Path(name) for name in glob.glob(given, recursive=True))  # noqa: PTH207 - takes absolute patterns
        found = [(file, file.relative_to(fixed)) for file in files if _is_input(file, out)]
    else:
        raise SceneError(f"{given}: no such file or folder. Give images, rasters, folders or patterns.")
    if not found:
        suffixes = " ".join(sorted(IMAGES | RASTERS))
        raise SceneError(f"{given}: holds no image or raster ({suffixes}). Give another folder or pattern.")
    yield from found


def _fixed_part(pattern: Path) -> Path:
    """The folders of a pattern before the first part with a wildcard.

    Example:
        >>> _fixed_part(Path("a/b/*/c*.tif")).as_posix()
        'a/b'
    """
    parts: list[str] = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _is_input(file: Path, out: Path) -> bool:
    """Whether a file found in a folder is one to map: not hidden, not a mask, not what an earlier call made."""
    return (
        file.suffix.lower() in IMAGES | RASTERS
        and not file.name.startswith(".")
        and not file.stem.endswith(("_mask", "_label", "_labels", "_probs", "_colours", "_overlay"))
        and file.is_file()
        and not file.resolve().is_relative_to(out.resolve())
    )
