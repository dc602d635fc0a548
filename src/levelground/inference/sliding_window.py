"""Sliding-window inference: a model over a scene of any size, tile by tile, blended where tiles overlap.

Probabilities are blended, not logits. Blocks are given as they are finished, so memory does not grow with the scene's
height; of its width only the lower overlap of one row of tiles is kept, in memory or in a file. Test-time augmentation
wraps a model: a map from above has no up, so the mean over the eight symmetries of the square may be taken.
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
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from levelground.errors import DiskError, ShapeError
from levelground.files import read_at, write_at
from levelground.inference.tiling import Axis, pad_tile, plan_axis
from levelground.models.model import Model
from levelground.tile_geometry import TileGeometry

if TYPE_CHECKING:
    from levelground.runtime import Runtime


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
        probs: ``(K, rows, columns)`` float32 on the runtime's device; they add up to 1 over K.
    """

    row: int
    col: int
    probs: torch.Tensor

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the scene that the block covers."""
        rows, cols = self.probs.shape[1:]
        return slice(self.row, self.row + rows), slice(self.col, self.col + cols)


class Normaliser:
    """Normalisation of stored pixels to a network's input: ``(value - mean) / std`` per band."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        """Keep mean and standard deviation of each band, in stored units, as scale and offset on ``device``."""
        deviations = torch.tensor(list(std), dtype=torch.float64)
        scale = 1 / deviations
        self._scale = scale.to(device, torch.float32)
        self._offset = (-torch.tensor(list(mean), dtype=torch.float64) * scale).to(device, torch.float32)

    def __call__(self, stored: torch.Tensor) -> torch.Tensor:
        """Normalise a batch.

        Args:
            stored: ``(N, H, W, C)`` of any number type, contiguous.
        Returns:
            ``(N, C, H, W)`` float32 in channels-last memory; a stored NaN becomes the mean, 0.
        """
        n, height, width, bands = stored.shape
        lines = stored.view(n, height, width * bands).to(torch.float32)
        torch.addcmul(self._offset.repeat(width), lines, self._scale.repeat(width), out=lines)
        if stored.is_floating_point():
            lines = lines.nan_to_num_(nan=0.0)
        return lines.view(n, height, width, bands).permute(0, 3, 1, 2)


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
    normaliser = Normaliser(model.spec.mean, model.spec.std, runtime.device)
    blender: OverlapBlender | None = None

    def load(chunk: list[Place]) -> torch.Tensor:
        return _load_tiles(pixels, rows, cols, chunk, pin=runtime.device.type == "cuda")

    try:
        for chunk, stored in zip(chunks, _load_ahead(load, chunks), strict=True):
            probs = _probabilities(model, normaliser, stored, runtime)
            n_classes = probs.shape[1]
            blender = blender or OverlapBlender(rows, cols, n_classes, runtime.device, overlap_folder)
            for (r, c), one in zip(chunk, probs, strict=True):
                if r >= needed:
                    block = blender.add(r, c, one)
                    if r >= first_row:
                        yield block
    finally:
        if blender is not None:
            blender.close()


def _load_tiles(pixels: Pixels, rows: Axis, cols: Axis, chunk: list[Place], *, pin: bool) -> torch.Tensor:
    """Read tiles into one tensor ``(N, tile, tile, C)``, in pinned memory where it goes to a GPU."""
    regions = [pad_tile(pixels[rows.extent(r), cols.extent(c)], rows.tile, cols.tile) for r, c in chunk]
    kind = torch.from_numpy(np.empty(0, regions[0].dtype)).dtype
    stored = torch.empty((len(chunk), *regions[0].shape), dtype=kind, pin_memory=pin)
    np.stack(regions, out=stored.numpy())
    return stored


@torch.inference_mode()
def _probabilities(model: Model, normaliser: Normaliser, stored: torch.Tensor, runtime: "Runtime") -> torch.Tensor:
    """Compute probabilities ``(N, K, H, W)`` float32 of a batch of stored tiles ``(N, H, W, C)``."""
    image = normaliser(stored.to(runtime.device, non_blocking=True))
    if not runtime.channels_last:
        image = image.contiguous()
    with runtime.autocast():
        output = model.forward(image).contiguous().float()
    if output.shape[-2:] != stored.shape[1:3]:
        raise ShapeError(
            f"the network made {tuple(output.shape[-2:])} of tiles of {tuple(stored.shape[1:3])} with "
            f"{stored.shape[3]} bands. Expected an output of the input's height and width."
        )
    return output if model.activated else torch.softmax(output, dim=1)


def _load_ahead(load: Callable[[list[Place]], torch.Tensor], chunks: Iterable[list[Place]]) -> Iterator[torch.Tensor]:
    """Load chunks of tiles in order, one ahead of the one that is asked for, in a thread."""
    waiting: deque[Future[torch.Tensor]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="tiles") as pool:
        for chunk in chunks:
            waiting.append(pool.submit(load, chunk))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class OverlapBlender:
    """Overlap buffer: holds the right overlap of one tile and the lower overlaps of one row while tiles come in."""

    def __init__(
        self, rows: Axis, cols: Axis, n_classes: int, device: torch.device, folder: Path | None = None
    ) -> None:
        """Make room for the lower overlaps of a row of tiles, in memory or in a file in ``folder``."""
        self._rows, self._cols = rows, cols
        self._below: dict[int, torch.Tensor] | OverlapFile = {}
        if folder is not None:
            high = max(rows.overlap(r) for r in range(len(rows.starts)))
            wide = max(cols.finished(c) for c in range(len(cols.starts)))
            self._below = OverlapFile(folder, device, slot=4 * n_classes * high * wide)
        self._right = torch.empty((n_classes, rows.tile, 0), device=device)
        self._row_shares = [torch.from_numpy(rows.share(r)).to(device)[:, None] for r in range(len(rows.starts))]
        self._col_shares = [torch.from_numpy(cols.share(c)).to(device) for c in range(len(cols.starts))]

    def close(self) -> None:
        """Remove the file, where there is one."""
        if isinstance(self._below, OverlapFile):
            self._below.close()

    @torch.inference_mode()
    def add(self, r: int, c: int, probs: torch.Tensor) -> Block:
        """Blend in the tile at row ``r`` and column ``c`` of the grid and return what it finishes.

        Args:
            r: Row of the tile in the grid of tiles; the first one blends with nothing above it.
            c: Column of the tile; tiles come row by row, without gaps.
            probs: ``(K, tile rows, tile columns)``; overwritten.
        """
        rows, cols = self._rows, self._cols
        left, above = cols.overlap(c), rows.overlap(r)
        if left:
            probs[:, :, :left] = torch.lerp(self._right, probs[:, :, :left], self._col_shares[c])
        wide, high = cols.finished(c), rows.finished(r)
        self._right = probs[:, :, wide:].clone() if c + 1 < len(cols.starts) else self._right[:, :, :0]
        if above and c in self._below:
            probs[:, :above, :wide] = torch.lerp(self._below[c], probs[:, :above, :wide], self._row_shares[r])
        if r + 1 < len(rows.starts):
            self._below[c] = probs[:, high:, :wide].clone()
        return Block(rows.starts[r], cols.starts[c], probs[:, :high, :wide])


class OverlapFile:
    """Lower overlaps of a row of tiles in a file, by the column of their tile; each is written before it is read.

    The file has no name, so it vanishes with the process. Most of it is still in the system's cache when it is read.
    """

    def __init__(self, folder: Path, device: torch.device, *, slot: int) -> None:
        """Open the file in ``folder``; no overlap has more than ``slot`` bytes."""
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - lives as long as the blend
        self._device, self._slot = device, slot
        self._shapes: dict[int, torch.Size] = {}

    def close(self) -> None:
        """Close the file, which removes it."""
        self._file.close()

    def __contains__(self, column: int) -> bool:
        return column in self._shapes

    def __setitem__(self, column: int, overlap: torch.Tensor) -> None:
        values = overlap.contiguous().cpu().numpy()
        try:
            if write_at(self._file.fileno(), values.data, column * self._slot) < values.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise DiskError(
                f"{self._folder}: cannot be written ({error.strerror}). Free space; the same command goes on."
            ) from error
        self._shapes[column] = overlap.shape

    def __getitem__(self, column: int) -> torch.Tensor:
        values = np.empty(self._shapes[column], np.float32)
        read_at(self._file.fileno(), values.data, column * self._slot)
        return torch.from_numpy(values).to(self._device)


Turn = Callable[[torch.Tensor], torch.Tensor]


def _turned(turns: int, mirrored: bool) -> tuple[Turn, Turn]:
    """Make a symmetry of the last two axes, and its inverse."""

    def there(image: torch.Tensor) -> torch.Tensor:
        return torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))

    def back(image: torch.Tensor) -> torch.Tensor:
        upright = torch.rot90(image, -turns, (-2, -1))
        return upright.flip(-1) if mirrored else upright

    return there, back


D4: tuple[tuple[Turn, Turn], ...] = tuple(_turned(turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""The eight symmetries, each with its inverse; the identity first."""


def with_tta(model: Model, *, channels_last: bool = True) -> Model:
    """Return a model with test-time augmentation: the mean of its probabilities over the eight symmetries.

    Args:
        model: The model; square tiles, or one that takes any size.
        channels_last: Whether images lie in memory pixel by pixel.
    Returns:
        A model that gives probabilities, and takes eight times as long.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def averaged(image: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor | None = None
        for there, back in D4:
            output = model.forward(there(image).contiguous(memory_format=layout)).float()
            probs = back(output if model.activated else torch.softmax(output, dim=1))
            total = probs.contiguous() if total is None else total.add_(probs)
        assert total is not None
        return total.div_(len(D4))

    return dataclasses.replace(model, forward=averaged, activated=True)
