"""Input files of a prediction, and the output files that belong to each of them."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from levelground.config import PredictOptions, PrepareOptions
from levelground.errors import ConfigError, SceneError
from levelground.imagery.band_stack import find_stacks, source_files
from levelground.imagery.cache import default_cache_folder
from levelground.imagery.image_headers import file_stamp

IMAGES = frozenset({".png", ".jpg", ".jpeg"})
"""Suffixes of images, whose class maps are palette PNGs."""

RASTERS = frozenset({".tif", ".tiff", ".vrt", ".img", ".jp2"})
"""Suffixes of the rasters that a folder is searched for; a file given by name may have any suffix."""

_SKIPPED_ENDINGS = ("_mask", "_label", "_labels", "_probs", "_colours", "_overlay")


@dataclass(frozen=True)
class OutputPaths:
    """Output files of one input; ``None`` for files that the options leave out.

    Attributes:
        classes: The class map, a GeoTIFF or PNG.
        areas: The table of areas by class.
        probs: The probabilities, a GeoTIFF.
        polygons: The polygons, a GeoPackage or GeoJSON file.
        picture: The map in the legend's colours.
        overlay: The map drawn over its image.
    """

    classes: Path
    areas: Path
    probs: Path | None = None
    polygons: Path | None = None
    picture: Path | None = None
    overlay: Path | None = None

    @property
    def all(self) -> list[Path]:
        """The files that will be written."""
        paths = (self.classes, self.probs, self.areas, self.polygons, self.picture, self.overlay)
        return [path for path in paths if path is not None]


@dataclass(frozen=True)
class InputFile:
    """A raster or image to predict.

    Attributes:
        path: The file.
        kind: ``raster``: the class map is a GeoTIFF. ``image``: the class map is a PNG.
        name: The path below the folder that was given, for messages.
        size_bytes: Size of the file.
        modified_ns: When the file was last changed, in nanoseconds.
        outputs: The files written for it.
        mask_stamp: Size and time of the ``.msk`` beside it, if there is one.
        sources: Path, size and time of each file that a virtual raster takes its pixels from; none of other files.
    """

    path: Path
    kind: Literal["raster", "image"]
    name: str
    size_bytes: int
    modified_ns: int
    outputs: OutputPaths
    mask_stamp: tuple[int, int] | None = None
    sources: tuple[tuple[str, int, int], ...] = ()

    @property
    def checkpoint(self) -> Path:
        """The folder of the unfinished prediction."""
        classes = self.outputs.classes
        return classes.with_name(f".{classes.name}.scratch")


def find_inputs(given: Sequence[str], out: Path, options: PredictOptions) -> list[InputFile]:
    """Find the input files and decide where their outputs go.

    Args:
        given: Files, folders (searched with all their subfolders) and patterns such as ``scenes/*.tif``.
        out: Folder of the outputs; subfolders below a given folder, or below a pattern's fixed part, are kept in it.
        options: Which outputs are written.
    Returns:
        The inputs in the order given, the files of a folder sorted by name.
    Raises:
        SceneError: An input does not exist, or a folder or pattern holds none.
        ConfigError: Two inputs would write the same class map, or a map would replace its input.
    """
    inputs: dict[Path, InputFile] = {}
    seen = set()
    for item in given:
        for path, name in _stacks(item, options.stack) if options.stack else _expand(item, out):
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            file = _input_file(path, name, out, options)
            other = inputs.setdefault(file.outputs.classes, file)
            if other is not file:
                raise ConfigError(
                    f"{other.path} and {file.path}: both would become {file.outputs.classes}. "
                    "Give the folder that holds both, or write their maps into two folders."
                )
    for path in seen & {classes.resolve() for classes in inputs}:
        raise ConfigError(f"{path}: would be replaced by its own map. Choose another --out.")
    return list(inputs.values())


def _input_file(path: Path, name: Path, out: Path, options: PredictOptions) -> InputFile:
    kind: Literal["raster", "image"] = "image" if path.suffix.lower() in IMAGES else "raster"
    classes = out / (name.with_name(f"{name.stem}_mask.png") if kind == "image" else name.with_suffix(".tif"))

    def beside(ending: str, wanted: bool) -> Path | None:
        return classes.with_name(f"{name.stem}_{ending}") if wanted else None

    outputs = OutputPaths(
        classes=classes,
        areas=classes.with_name(f"{name.stem}_areas.csv"),
        probs=beside("probs.tif", options.probs != "none"),
        polygons=beside(f"polygons.{options.polygons}", options.polygons != "none"),
        picture=beside("colours.png", options.picture),
        overlay=beside("overlay.png", options.overlay),
    )
    stat = path.stat()
    stamp = file_stamp(path.with_name(f"{path.name}.msk"))
    sources = tuple((str(one), one.stat().st_size, one.stat().st_mtime_ns) for one in source_files(path))
    modified_ns = 0 if options.stack else stat.st_mtime_ns  # a stack's name tells its content
    return InputFile(path, kind, name.as_posix(), stat.st_size, modified_ns, outputs, stamp, sources)


def _expand(given: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file of one given input with its path below the folder of outputs."""
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


def _stacks(given: str, bands: tuple[str, ...]) -> Iterator[tuple[Path, Path]]:
    """Yield a virtual raster for each scene of a folder whose bands are files of their own; they lie in the cache."""
    folder = Path(given)
    if not folder.is_dir():
        raise ConfigError(f"--stack {' '.join(bands)}: {given} is not a folder. Give the folder that holds the bands.")
    found = find_stacks(folder, PrepareOptions(bands=bands), default_cache_folder().resolve())
    for finding in found.findings:
        raise SceneError(finding.text)
    for pair in found.pairs:
        yield pair.image, Path(f"{pair.id}.vrt")


def _fixed_part(pattern: Path) -> Path:
    """Return the folders of a pattern before the first part with a wildcard.

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
    """Tell whether a file found in a folder is an input: not hidden, not a mask, not an output of an earlier call."""
    return (
        file.suffix.lower() in IMAGES | RASTERS
        and not file.name.startswith(".")
        and not file.stem.endswith(_SKIPPED_ENDINGS)
        and file.is_file()
        and not file.resolve().is_relative_to(out.resolve())
    )
