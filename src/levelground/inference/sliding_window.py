"""The mean over the eight symmetries of the square: a map from above has no up, so a network should not care."""

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


class SpilledEdges:
    """Edges by the column of their tile; each is written before it is read.

    The file has no name, so it goes with the process. What was written last is mostly still in the system's cache.
    """

    def __init__(self, folder: Path, device: torch.device, *, slot: int) -> None:
        """Open the file in ``folder``; no edge has more than ``slot`` bytes."""
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - lives as long as the blend
        self._device, self._slot = device, slot
        self._shapes: dict[int, torch.Size] = {}

    def close(self) -> None:
        """Close the file; it goes."""
        self._file.close()

    def __contains__(self, column: int) -> bool:
        return column in self._shapes

    def __setitem__(self, column: int, edge: torch.Tensor) -> None:
        values = edge.contiguous().cpu().numpy()
        try:
            if write_at(self._file.fileno(), values.data, column * self._slot) < values.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise DiskError(
                f"{self._folder}: cannot be written ({error.strerror}). Free space; the same command goes on."
            ) from error
        self._shapes[column] = edge.shape

    def __getitem__(self, column: int) -> torch.Tensor:
        values = np.empty(self._shapes[column], np.float32)
        read_at(self._file.fileno(), values.data, column * self._slot)
        return torch.from_numpy(values).to(self._device)


Place = tuple[int, int]  # row and column of a tile in the grid of tiles


class Pixels(Protocol):
    """What :func:`sweep` reads: a NumPy array, a memory map, or a raster read window by window."""

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
    """Turns stored pixels into a network's input: ``(value - mean) / std`` per band."""

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


def sweep(
    model: Model,
    pixels: Pixels,
    geometry: TileGeometry,
    runtime: "Runtime",
    *,
    first_row: int = 0,
    spill: Path | None = None,
) -> Iterator[Block]:
    """Run a model over a scene and yield blended probabilities as they are finished.

    A scene smaller than the tile is padded by reflection and cropped back; tile 0 takes the whole scene at once, padded
    to a multiple of 32.

    Args:
        model: The model, in evaluation mode, on the runtime's device.
        pixels: The scene, ``(H, W, C)``; only the window of each tile is read, and by another thread.
        geometry: Tile, halo and batch.
        runtime: Device and precision.
        first_row: The first row of tiles that is wanted; what it blends with is run again, in the same batches, so
            that its blocks have the same bits as in a sweep from the start.
        spill: A folder for the lower edge of a row of tiles, which grows with the scene's width; ``None`` keeps it in
            memory.
    Yields:
        Blocks that cover each pixel of the scene, from ``first_row`` on, once, in reading order of the tiles.
    Raises:
        ShapeError: The network's output has another height or width than its input.
    """
    height, width, bands = pixels.shape
    rows, cols, batch = plan_axis(height, geometry), plan_axis(width, geometry), geometry.batch
    needed = rows.first_touching(first_row)
    places = list(product(range(len(rows.starts)), range(len(cols.starts))))
    from_batch = needed * len(cols.starts) // batch * batch
    chunks = [places[first : first + batch] for first in range(from_batch, len(places), batch)]
    normaliser = Normaliser(model.spec.mean, model.spec.std, runtime.device)
    blend: Blend | None = None

    def load(chunk: list[Place]) -> torch.Tensor:
        regions = [pad_tile(pixels[rows.extent(r), cols.extent(c)], rows.tile, cols.tile) for r, c in chunk]
        kind = torch.from_numpy(np.empty(0, regions[0].dtype)).dtype
        shape = (len(chunk), rows.tile, cols.tile, bands)
        stored = torch.empty(shape, dtype=kind, pin_memory=runtime.device.type == "cuda")
        np.stack(regions, out=stored.numpy())
        return stored

    try:
        for chunk, stored in zip(chunks, _ahead(load, chunks), strict=True):
            probs = _probabilities(model, normaliser, stored, runtime)
            if probs.shape[-2:] != (rows.tile, cols.tile):
                raise ShapeError(
                    f"the network made {tuple(probs.shape[-2:])} of tiles of {(rows.tile, cols.tile)} with {bands} "
                    "bands. Expected an output of the input's height and width."
                )
            blend = blend or Blend(rows, cols, classes=probs.shape[1], device=runtime.device, spill=spill)
            for (r, c), one in zip(chunk, probs, strict=True):
                if r >= needed:
                    block = blend.add(r, c, one)
                    if r >= first_row:
                        yield block
    finally:
        if blend is not None:
            blend.close()


@torch.inference_mode()
def _probabilities(model: Model, normaliser: Normaliser, stored: torch.Tensor, runtime: "Runtime") -> torch.Tensor:
    """Probabilities ``(N, K, H, W)`` float32 of a batch of stored tiles ``(N, H, W, C)``."""
    image = normaliser(stored.to(runtime.device, non_blocking=True))
    if not runtime.channels_last:
        image = image.contiguous()
    with runtime.autocast():
        output = model.forward(image).contiguous().float()
    return output if model.activated else torch.softmax(output, dim=1)


class Blend:
    """Blends tiles that come in reading order; holds one tile's right edge and one row's lower edge."""

    def __init__(
        self, rows: Axis, cols: Axis, *, classes: int, device: torch.device, spill: Path | None = None
    ) -> None:
        """Make room for the lower edge of a row of tiles, in memory or in a file in the folder ``spill``."""
        self._rows, self._cols = rows, cols
        self._below: dict[int, torch.Tensor] | SpilledEdges = {}
        if spill is not None:
            high = max(rows.overlap(r) for r in range(len(rows.starts)))
            wide = max(cols.finished(c) for c in range(len(cols.starts)))
            self._below = SpilledEdges(spill, device, slot=4 * classes * high * wide)
        self._right = torch.empty((classes, rows.tile, 0), device=device)
        self._row_shares = [torch.from_numpy(rows.share(r)).to(device)[:, None] for r in range(len(rows.starts))]
        self._col_shares = [torch.from_numpy(cols.share(c)).to(device) for c in range(len(cols.starts))]

    def close(self) -> None:
        """Give up the file, where there is one."""
        if isinstance(self._below, SpilledEdges):
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


def _ahead(load: Callable[[list[Place]], torch.Tensor], chunks: Iterable[list[Place]]) -> Iterator[torch.Tensor]:
    """Load chunks in order, one ahead of the one that is asked for, in a thread."""
    waiting: deque[Future[torch.Tensor]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="tiles") as pool:
        for chunk in chunks:
            waiting.append(pool.submit(load, chunk))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


Turn = Callable[[torch.Tensor], torch.Tensor]


def _turned(turns: int, mirrored: bool) -> tuple[Turn, Turn]:
    """A symmetry of the last two axes and its inverse."""

    def there(image: torch.Tensor) -> torch.Tensor:
        return torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))

    def back(image: torch.Tensor) -> torch.Tensor:
        upright = torch.rot90(image, -turns, (-2, -1))
        return upright.flip(-1) if mirrored else upright

    return there, back


D4: tuple[tuple[Turn, Turn], ...] = tuple(_turned(turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""The eight symmetries, each with its inverse; the identity first."""


def average_d4(model: Model, *, channels_last: bool = True) -> Model:
    """Return a model that answers with the mean of its probabilities over the eight symmetries.

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
