"""Input files of a prediction, the output files that belong to each of them, and readers of their pixels.

Pixels are read window by window, with nodata masks. Three readers share the interface :class:`PixelReader`:
:class:`RasterPixels` reads an open raster, :class:`ImagePixels` an image in memory, and :class:`ResampledPixels` either
of them at another resolution. :class:`FilledPixels` is what the network reads: it replaces pixels without data by 0, as
training and evaluation read them, and keeps each tile's nodata mask until the tile's block is finished.
"""

import glob
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from levelground.config import PredictOptions, PrepareOptions
from levelground.errors import ConfigError, SceneError
from levelground.imagery.band_stack import find_stacks, source_files
from levelground.imagery.cache import default_cache_folder
from levelground.imagery.geotiff import Pixels
from levelground.imagery.image_headers import READ_AS, file_stamp
from levelground.imagery.image_pixels import read_image_with_nodata
from levelground.imagery.raster_reader import RasterReader
from levelground.imagery.validity import NodataMask, NodataRule, nodata_mask
from levelground.inference.sliding_window import Block

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


Floats = NDArray[np.float32]
Rescaling = tuple[tuple[float, float], ...]
"""Factor and offset of each band that is read; empty where values stay as they are."""


class PixelReader(Protocol):
    """Pixels that can be read window by window."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, bands."""
        ...

    def read(self, rows: slice, cols: slice) -> tuple[Pixels, NodataMask | None]:
        """Read the pixels of a window, ``(H, W, C)``, and its nodata mask, ``None`` if all have data."""
        ...


@contextmanager
def open_pixels(
    path: Path, bands: Sequence[int], rule: NodataRule, *, image: bool, rescaling: Rescaling = ()
) -> Iterator[PixelReader]:
    """Open an input for reading.

    Args:
        path: The file.
        bands: Bands to read, from 1.
        rule: Which pixels have no data; of an image, which brings its own mask, only ``zero`` counts.
        image: Whether it is an image, not a raster.
        rescaling: Factor and offset of each band of a raster, by which its values are brought to the model's scale.
    Raises:
        SceneError: The file is damaged.
    """
    if image:
        yield ImagePixels(path, bands, zero=rule.zero)
        return
    with RasterReader(path) as reader:
        yield RasterPixels(reader, bands, rule, rescaling)


class RasterPixels:
    """Some bands of an open raster."""

    def __init__(self, reader: RasterReader, bands: Sequence[int], rule: NodataRule, rescaling: Rescaling = ()) -> None:
        """Read ``bands``, from 1, of ``reader``, each times the factor plus the offset of ``rescaling``."""
        self._reader, self._bands, self._rule = reader, tuple(bands), rule
        self._rescaling = np.array(rescaling, np.float64)
        self._dtype = np.dtype(READ_AS.get(reader.info.dtype, reader.info.dtype))
        self.shape = (reader.info.height, reader.info.width, len(self._bands))

    def read(self, rows: slice, cols: slice) -> tuple[Pixels, NodataMask | None]:
        """Read a window; see :class:`PixelReader`."""
        alpha = self._rule.alpha
        stored = self._reader.read(rows, cols, self._bands if alpha is None else (*self._bands, alpha))
        mask = nodata_mask(stored, self._rule, self._reader.read_mask(rows, cols))
        stored = stored if alpha is None else np.ascontiguousarray(stored[..., :-1])
        if len(self._rescaling):
            values = stored.astype(np.float64) * self._rescaling[:, 0] + self._rescaling[:, 1]
            return _as_type(values, self._dtype), mask
        with np.errstate(over="ignore", invalid="ignore"):
            return stored.astype(self._dtype, copy=False), mask


class ImagePixels:
    """An image, decoded whole because its format cannot be read in windows."""

    def __init__(self, path: Path, bands: Sequence[int], *, zero: bool) -> None:
        """Decode ``path`` and take ``bands``, from 1; with ``zero``, pixels that are 0 in every band have no data."""
        pixels, self._mask = read_image_with_nodata(path, zero=zero)
        chosen = [band - 1 for band in bands]
        self._pixels = pixels if chosen == list(range(pixels.shape[-1])) else pixels[..., chosen]
        self.shape = (*self._pixels.shape[:2], len(bands))

    def read(self, rows: slice, cols: slice) -> tuple[Pixels, NodataMask | None]:
        """Copy a window; see :class:`PixelReader`."""
        return self._pixels[rows, cols].copy(), None if self._mask is None else self._mask[rows, cols]


class ResampledPixels:
    """The pixels of another reader made larger or smaller, the outer edges the same."""

    def __init__(self, reader: PixelReader, scale: float) -> None:
        """Make the pixels of ``reader`` larger by ``scale``, rounded so that whole pixels fill the raster."""
        self._reader = reader
        height, width, bands = reader.shape
        self.shape = (max(1, round(height / scale)), max(1, round(width / scale)), bands)

    def read(self, rows: slice, cols: slice) -> tuple[Pixels, NodataMask | None]:
        """Resample a window; see :class:`PixelReader`."""
        height, width, _ = self._reader.shape
        down = resampling_weights(rows, height, self.shape[0])
        across = resampling_weights(cols, width, self.shape[1])
        return resample(*self._reader.read(down.window, across.window), down, across)


@dataclass(frozen=True)
class ResamplingWeights:
    """The input pixels that each output pixel along one side is a weighted mean of.

    Attributes:
        indices: Input pixels, ``(n, T)``.
        weights: Their weights, ``(n, T)``; each row adds up to 1.
    """

    indices: NDArray[np.intp]
    weights: Floats

    @property
    def window(self) -> slice:
        """The input pixels that are needed."""
        return slice(int(self.indices.min()), int(self.indices.max()) + 1)


def resampling_weights(wanted: slice, n_in: int, n_out: int) -> ResamplingWeights:
    """Compute the weights of input pixels along one side: area means to larger pixels, linear to smaller ones.

    Args:
        wanted: Output pixels.
        n_in: Input pixels of the whole side.
        n_out: Output pixels of the whole side.
    Example:
        >>> resampling_weights(slice(1, 2), 8, 4).weights[:, :2].tolist()
        [[0.5, 0.5]]
    """
    step = n_in / n_out
    number = np.arange(wanted.start, wanted.stop, dtype=np.float64)[:, None]
    if step > 1:
        low, high = number * step, (number + 1) * step
        indices = np.floor(low) + np.arange(int(np.ceil(step)) + 1)
        weights = np.clip(np.minimum(high, indices + 1) - np.maximum(low, indices), 0, None)
    else:
        centre = (number + 0.5) * step - 0.5
        indices = np.floor(centre) + np.arange(2)
        weights = np.clip(1 - np.abs(centre - indices), 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return ResamplingWeights(np.clip(indices, 0, n_in - 1).astype(np.intp), weights.astype(np.float32))


def resample(
    pixels: NDArray[np.generic], mask: NodataMask | None, rows: ResamplingWeights, cols: ResamplingWeights
) -> tuple[Floats, NodataMask | None]:
    """Resample a window.

    Args:
        pixels: The input pixels within ``rows.window`` and ``cols.window``, ``(H, W, C)``.
        mask: Where they have no data, ``(H, W)``; such pixels get no weight.
        rows: Weights along the rows.
        cols: Weights along the columns.
    Returns:
        ``(h, w, C)`` float32, and a mask of the pixels of which less than half has data; ``None`` without ``mask``.
    """
    values = pixels.astype(np.float32)
    if mask is None or not mask.any():
        return _weighted_means(values, rows, cols), None
    values[mask] = 0
    known = _weighted_means((~mask)[..., None].astype(np.float32), rows, cols)
    means = _weighted_means(values, rows, cols)
    means /= np.maximum(known, np.float32(1e-6))
    return means, known[..., 0] < 0.5


def _weighted_means(values: Floats, rows: ResamplingWeights, cols: ResamplingWeights) -> Floats:
    tall = np.zeros((len(rows.indices), *values.shape[1:]), np.float32)
    for index, weight in zip((rows.indices - rows.window.start).T, rows.weights.T, strict=True):
        tall += weight[:, None, None] * values[index]
    whole = np.zeros((len(tall), len(cols.indices), values.shape[2]), np.float32)
    for index, weight in zip((cols.indices - cols.window.start).T, cols.weights.T, strict=True):
        whole += weight[None, :, None] * tall[:, index]
    return whole


class FilledPixels:
    """A reader whose pixels without data hold 0, as in training; satisfies ``inference.sliding_window.Pixels``."""

    def __init__(self, reader: PixelReader) -> None:
        """Read ``reader``."""
        self.shape = reader.shape
        self._reader = reader
        self._lock = threading.Lock()
        self._masks: dict[tuple[int, int], NodataMask] = {}

    def __getitem__(self, key: tuple[slice, slice], /) -> NDArray[np.generic]:
        """Read the pixels of a tile, ``(rows, columns, bands)``, and keep its mask for :meth:`take_mask`."""
        rows, cols = key
        pixels, mask = self._reader.read(rows, cols)
        if mask is not None and mask.any():
            pixels[mask] = 0
            with self._lock:
                self._masks[rows.start, cols.start] = mask
        return pixels

    def take_mask(self, block: Block) -> NodataMask | None:
        """Return the nodata mask of a finished block, ``(H, W)`` or ``None``, and drop those of tiles up to it."""
        with self._lock:
            mask = self._masks.get((block.row, block.col))
            for place in [place for place in self._masks if place <= (block.row, block.col)]:
                del self._masks[place]
        if mask is None:
            return None
        height, width = block.probs.shape[1:]
        return mask[:height, :width]


def _as_type(values: NDArray[np.float64], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Convert values to a type of pixels, rounded and within its range."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
