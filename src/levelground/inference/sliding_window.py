"""Sliding-window inference: a model over a scene of any size, tile by tile, blended where tiles overlap.

Probabilities are blended, not logits. Blocks are given as they are finished, so memory does not grow with the scene's
height; of its width only the lower overlap of one row of tiles is kept, in memory or in a file. Tiles are tensors where
torch runs the model (:mod:`levelground.inference.tensors`), and elsewhere NumPy arrays, which need no torch. Test-time
augmentation wraps a model: a map from above has no up, so the mean over the eight symmetries of the square is taken.
"""

import dataclasses
import errno
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from levelground.errors import DiskError, ShapeError
from levelground.files import read_at, write_at
from levelground.models.model import ArrayForward, Forward, Model
from levelground.tile_geometry import SYMMETRIES, Axis, TileGeometry, pad_tile, plan_axis

if TYPE_CHECKING:
    import torch

    from levelground.runtime import Runtime

Array = NDArray[np.float32]
Probs: TypeAlias = "torch.Tensor | Array"
A = TypeVar("A", "torch.Tensor", NDArray[np.float32])
S = TypeVar("S")
R = TypeVar("R")

Place = tuple[int, int]  # row and column of a tile in the grid of tiles


class Pixels(Protocol):
    """Pixels of a scene: a NumPy array, a memory map, or a raster that is read window by window."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns, bands."""
        ...

    def __getitem__(self, key: tuple[slice, slice], /) -> NDArray[np.generic]:
        """The pixels of a window, ``(rows, columns, bands)``."""
        ...


@dataclass(frozen=True)
class Block:
    """A finished rectangle of a scene.

    Attributes:
        row: First row in the scene.
        col: First column in the scene.
        probs: ``(K, rows, columns)`` float32, a tensor on the runtime's device or an array; they add up to 1 over K.
    """

    row: int
    col: int
    probs: Probs

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the scene that the block covers."""
        rows, cols = self.probs.shape[1:]
        return slice(self.row, self.row + rows), slice(self.col, self.col + cols)


def sliding_window_inference(
    model: Model,
    pixels: Pixels,
    geometry: TileGeometry,
    runtime: "Runtime",
    *,
    first_row: int = 0,
    overlap_folder: Path | None = None,
) -> Iterator[Block]:
    """Run a model over a scene and yield blended probabilities as they are finished.

    A scene smaller than the tile is padded by reflection and cropped back; tile 0 takes the whole scene at once, padded
    to a multiple of 32.

    Args:
        model: The model, in evaluation mode, on the runtime's device.
        pixels: The scene, ``(H, W, C)``; only the window of each tile is read, and by another thread.
        geometry: Tile, halo and batch.
        runtime: Device and precision.
        first_row: The first row of tiles that is wanted. The tiles that it blends with are run again, in the same
            batches, so that its blocks have the same bits as in a pass from the start.
        overlap_folder: A folder for the lower overlap of a row of tiles, which grows with the scene's width; ``None``
            keeps it in memory.
    Yields:
        Blocks that cover each pixel of the scene, from ``first_row`` on, once, in reading order of the tiles.
    Raises:
        ShapeError: The network's output has another height or width than its input.
    """
    height, width, _ = pixels.shape
    rows, cols, batch = plan_axis(height, geometry), plan_axis(width, geometry), geometry.batch
    needed = rows.first_touching(first_row)
    places = list(product(range(len(rows.starts)), range(len(cols.starts))))
    from_batch = needed * len(cols.starts) // batch * batch
    chunks = [places[first : first + batch] for first in range(from_batch, len(places), batch)]
    tiles = tile_arithmetic(model, runtime)
    blender: OverlapBlender[Any] | None = None

    def load(chunk: list[Place]) -> NDArray[np.generic]:
        regions = [pad_tile(pixels[rows.extent(r), cols.extent(c)], rows.tile, cols.tile) for r, c in chunk]
        return tiles.stack(regions)

    try:
        for chunk, probs in zip(chunks, _run(model, tiles, _ahead(load, chunks), runtime), strict=True):
            blender = blender or OverlapBlender(rows, cols, probs.shape[1], tiles, overlap_folder)
            for (r, c), one in zip(chunk, probs, strict=True):
                if r >= needed:
                    block = blender.add(r, c, one)
                    if r >= first_row:
                        yield block
    finally:
        if blender is not None:
            blender.close()


def _run(
    model: Model, tiles: "TileArithmetic[Any]", loaded: Iterator[NDArray[np.generic]], runtime: "Runtime"
) -> Iterator[Any]:
    """Yield the probabilities of tiles in order; engines other than torch run the next ones in other threads."""

    def probabilities(stored: NDArray[np.generic]) -> Any:
        probs = tiles.probabilities(stored)
        if probs.shape[-2:] != stored.shape[1:3]:
            raise ShapeError(
                f"the network made {tuple(probs.shape[-2:])} of tiles of {tuple(stored.shape[1:3])} with "
                f"{stored.shape[3]} bands. Expected an output of the input's height and width."
            )
        return probs

    if model.engine == "torch":
        return map(probabilities, loaded)
    return _ahead(probabilities, loaded, threads=runtime.streams if model.engine == "openvino" else 1)


class TileArithmetic(Protocol[A]):
    """What is computed of tiles, on tensors or on arrays."""

    def stack(self, regions: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
        """Bring regions ``(H, W, C)`` into one array ``(N, H, W, C)`` of the same type."""
        ...

    def probabilities(self, stored: NDArray[np.generic]) -> A:
        """Run the model over stored tiles ``(N, H, W, C)``: ``(N, K, H, W)`` float32, which may be overwritten."""
        ...

    def weights(self, share: Array) -> A:
        """Bring the weights of an overlap to where the probabilities lie."""
        ...

    def blend(self, old: A, new: A, share: A) -> None:
        """Overwrite ``new`` by ``old + share * (new - old)``."""
        ...

    def copy(self, values: A) -> A:
        """Copy values that are overwritten later."""
        ...

    def to_array(self, values: A) -> Array:
        """Bring values into main memory, contiguous."""
        ...

    def from_array(self, values: Array) -> A:
        """Bring values back to where the probabilities lie."""
        ...


def tile_arithmetic(model: Model, runtime: "Runtime") -> TileArithmetic[Any]:
    """Return how tiles are computed for a model: on tensors where torch runs it, else on arrays."""
    if model.engine != "torch":
        return ArrayTiles(model)
    from levelground.inference.tensors import TensorTiles

    return TensorTiles(model, runtime)


class ArrayTiles:
    """Tiles as NumPy arrays, for models that another engine than torch runs."""

    def __init__(self, model: Model) -> None:
        """Keep the normalisation of each band as scale and offset."""
        std, mean = np.array(model.spec.std, np.float64), np.array(model.spec.mean, np.float64)
        self._scale = (1 / std).astype(np.float32)[:, None, None]
        self._offset = (-mean / std).astype(np.float32)[:, None, None]
        self._model = model

    def stack(self, regions: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
        """Stack regions."""
        return np.stack(regions)

    def normalise(self, stored: NDArray[np.generic]) -> Array:
        """Return ``(value - mean) / std`` of ``(N, H, W, C)`` as ``(N, C, H, W)``; a stored NaN becomes the mean, 0."""
        n, height, width, bands = stored.shape
        image = np.empty((n, bands, height, width), np.float32)
        np.copyto(image, stored.transpose(0, 3, 1, 2), casting="unsafe")
        image *= self._scale
        if self._offset.any():
            image += self._offset
        return np.nan_to_num(image, copy=False, nan=0.0) if stored.dtype.kind == "f" else image

    def probabilities(self, stored: NDArray[np.generic]) -> Array:
        """Run the model over stored tiles."""
        output = self._model.on_arrays(self.normalise(stored))
        return output if self._model.activated else softmax(output)

    def weights(self, share: Array) -> Array:
        """Return the weights as they are."""
        return share

    def blend(self, old: Array, new: Array, share: Array) -> None:
        """Overwrite ``new`` by the blend."""
        new -= old
        new *= share
        new += old

    def copy(self, values: Array) -> Array:
        """Copy values."""
        return values.copy()

    def to_array(self, values: Array) -> Array:
        """Return contiguous values."""
        return np.ascontiguousarray(values)

    def from_array(self, values: Array) -> Array:
        """Return the values as they are."""
        return values


def softmax(logits: Array) -> Array:
    """Return probabilities of logits ``(N, K, H, W)``, over K; the logits are overwritten."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def with_tta(model: Model, *, channels_last: bool = True) -> Model:
    """Return a model with test-time augmentation: the mean of its probabilities over the eight symmetries.

    Args:
        model: The model; square tiles, or one that takes any size.
        channels_last: Whether images lie in memory pixel by pixel, where torch runs it.
    Returns:
        A model that gives probabilities, and takes eight times as long.
    """
    if model.engine == "torch":
        from levelground.inference.tensors import averaged_over_symmetries

        forward: Forward | ArrayForward = averaged_over_symmetries(model, channels_last=channels_last)
    else:
        forward = _averaged_over_symmetries(model)
    return dataclasses.replace(model, forward=forward, activated=True)


def _averaged_over_symmetries(model: Model) -> ArrayForward:
    def averaged(image: Array) -> Array:
        total: Array | None = None
        for turns, mirrored in SYMMETRIES:
            turned = np.rot90(image[..., ::-1] if mirrored else image, turns, (-2, -1))
            output = model.on_arrays(np.ascontiguousarray(turned))
            upright = np.rot90(output if model.activated else softmax(output), -turns, (-2, -1))
            probs = upright[..., ::-1] if mirrored else upright
            total = probs.copy() if total is None else np.add(total, probs, out=total)
        assert total is not None
        total /= len(SYMMETRIES)
        return total

    return averaged


def _ahead(work: Callable[[S], R], items: Iterable[S], *, threads: int = 1) -> Iterator[R]:
    """Work on items in threads, as many ahead of the one that is asked for as there are threads, and yield in order."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="tiles") as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class OverlapBlender(Generic[A]):
    """Overlap buffer: holds the right overlap of one tile and the lower overlaps of one row while tiles come in."""

    def __init__(
        self, rows: Axis, cols: Axis, n_classes: int, tiles: TileArithmetic[A], folder: Path | None = None
    ) -> None:
        """Make room for the lower overlaps of a row of tiles, in memory or in a file in ``folder``."""
        self._rows, self._cols = rows, cols
        self._tiles: TileArithmetic[A] = tiles
        self._below: dict[int, A] | OverlapFile[A] = {}
        if folder is not None:
            high = max(rows.overlap(r) for r in range(len(rows.starts)))
            wide = max(cols.finished(c) for c in range(len(cols.starts)))
            self._below = OverlapFile(folder, tiles, slot=4 * n_classes * high * wide)
        self._right: A | None = None
        self._row_shares: list[A] = [tiles.weights(rows.share(r)[:, None]) for r in range(len(rows.starts))]
        self._col_shares: list[A] = [tiles.weights(cols.share(c)) for c in range(len(cols.starts))]

    def close(self) -> None:
        """Remove the file, where there is one."""
        if isinstance(self._below, OverlapFile):
            self._below.close()

    def add(self, r: int, c: int, probs: A) -> Block:
        """Blend in the tile at row ``r`` and column ``c`` of the grid and return what it finishes.

        Args:
            r: Row of the tile in the grid of tiles; the first one blends with nothing above it.
            c: Column of the tile; tiles come row by row, without gaps.
            probs: ``(K, tile rows, tile columns)``; overwritten.
        """
        rows, cols, tiles = self._rows, self._cols, self._tiles
        left, above = cols.overlap(c), rows.overlap(r)
        if left and self._right is not None:
            tiles.blend(self._right, probs[:, :, :left], self._col_shares[c])
        wide, high = cols.finished(c), rows.finished(r)
        self._right = tiles.copy(probs[:, :, wide:]) if c + 1 < len(cols.starts) else None
        if above and c in self._below:
            tiles.blend(self._below[c], probs[:, :above, :wide], self._row_shares[r])
        if r + 1 < len(rows.starts):
            self._below[c] = tiles.copy(probs[:, high:, :wide])
        return Block(rows.starts[r], cols.starts[c], probs[:, :high, :wide])


class OverlapFile(Generic[A]):
    """Lower overlaps of a row of tiles in a file, by the column of their tile; each is written before it is read.

    The file has no name, so it vanishes with the process. Most of it is still in the system's cache when it is read.
    """

    def __init__(self, folder: Path, tiles: TileArithmetic[A], *, slot: int) -> None:
        """Open the file in ``folder``; no overlap has more than ``slot`` bytes."""
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - lives as long as the blend
        self._tiles: TileArithmetic[A] = tiles
        self._slot = slot
        self._shapes: dict[int, tuple[int, ...]] = {}

    def close(self) -> None:
        """Close the file, which removes it."""
        self._file.close()

    def __contains__(self, column: int) -> bool:
        return column in self._shapes

    def __setitem__(self, column: int, overlap: A) -> None:
        values = self._tiles.to_array(overlap)
        try:
            if write_at(self._file.fileno(), values.data, column * self._slot) < values.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise DiskError(
                f"{self._folder}: cannot be written ({error.strerror}). Free space; the same command goes on."
            ) from error
        self._shapes[column] = values.shape

    def __getitem__(self, column: int) -> A:
        values = np.empty(self._shapes[column], np.float32)
        read_at(self._file.fileno(), values.data, column * self._slot)
        overlap: A = self._tiles.from_array(values)
        return overlap
