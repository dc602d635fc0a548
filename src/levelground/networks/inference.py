"""From a scene's pixels to class probabilities, tile by tile, in memory that does not grow with the scene.

:func:`sweep` is the one way that training (validation), evaluation and prediction run a network. Tiles are read ahead
by a thread, run in batches that may span rows of tiles, and blended as they come (see
:mod:`levelground.networks.tiling`). What waits for later tiles is one tile's right edge and one row's lower edge, so a
raster of any height costs the same.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from levelground.errors import ShapeError
from levelground.networks.tiling import Axis, pad_tile, plan_axis

if TYPE_CHECKING:
    from levelground.networks.runtime import Runtime

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Normalised ``(N, C, H, W)`` to logits ``(N, K, H, W)``, such as a network in evaluation mode."""

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
    forward: Forward,
    pixels: Pixels,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    tile: int,
    halo: int,
    batch: int,
    runtime: "Runtime",
) -> Iterator[Block]:
    """Run a network over a scene and yield blended probabilities as they are finished.

    Args:
        forward: The network, in evaluation mode, on the runtime's device.
        pixels: The scene, ``(H, W, C)``; only the window of each tile is read, and by another thread.
        mean: Mean of each band, in stored units.
        std: Standard deviation of each band, in stored units.
        tile: Side of a tile in pixels; 0 takes the whole scene at once, padded to a multiple of 32. A scene smaller
            than the tile is padded by reflection and cropped back.
        halo: Half the smallest overlap of neighbouring tiles, in pixels.
        batch: Tiles run at a time, at least 1.
        runtime: Device and precision.
    Yields:
        Blocks that cover each pixel of the scene once, in reading order of the tiles.
    Raises:
        ShapeError: The network's output has another height or width than its input.
    """
    height, width, bands = pixels.shape
    rows, cols = plan_axis(height, tile=tile, halo=halo), plan_axis(width, tile=tile, halo=halo)
    places = list(product(range(len(rows.starts)), range(len(cols.starts))))
    chunks = [places[first : first + batch] for first in range(0, len(places), batch)]
    normaliser = Normaliser(mean, std, runtime.device)
    blend: Blend | None = None

    def load(chunk: list[Place]) -> torch.Tensor:
        regions = [pad_tile(pixels[rows.extent(r), cols.extent(c)], rows.tile, cols.tile) for r, c in chunk]
        kind = torch.from_numpy(np.empty(0, regions[0].dtype)).dtype
        shape = (len(chunk), rows.tile, cols.tile, bands)
        stored = torch.empty(shape, dtype=kind, pin_memory=runtime.device.type == "cuda")
        np.stack(regions, out=stored.numpy())
        return stored

    for chunk, stored in zip(chunks, _ahead(load, chunks), strict=True):
        probs = _probabilities(forward, normaliser, stored, runtime)
        if probs.shape[-2:] != (rows.tile, cols.tile):
            raise ShapeError(
                f"the network made {tuple(probs.shape[-2:])} of tiles of {(rows.tile, cols.tile)} with {bands} bands. "
                "Expected an output of the input's height and width."
            )
        blend = blend or Blend(rows, cols, classes=probs.shape[1], device=runtime.device)
        for (r, c), one in zip(chunk, probs, strict=True):
            yield blend.add(r, c, one)


@torch.inference_mode()
def _probabilities(forward: Forward, normaliser: Normaliser, stored: torch.Tensor, runtime: "Runtime") -> torch.Tensor:
    """Probabilities ``(N, K, H, W)`` float32 of a batch of stored tiles ``(N, H, W, C)``."""
    image = normaliser(stored.to(runtime.device, non_blocking=True))
    if not runtime.channels_last:
        image = image.contiguous()
    with runtime.autocast():
        logits = forward(image)
    return torch.softmax(logits.contiguous().float(), dim=1)


class Blend:
    """Blends tiles that come in reading order; holds one tile's right edge and one row's lower edge."""

    def __init__(self, rows: Axis, cols: Axis, *, classes: int, device: torch.device) -> None:
        """Make room for the lower edge of a row of tiles."""
        self._rows, self._cols = rows, cols
        waiting = max((rows.overlap(r) for r in range(len(rows.starts))), default=0)
        self._below = torch.empty((classes, waiting, cols.length), device=device)
        self._right = torch.empty((classes, rows.tile, 0), device=device)
        self._row_shares = [torch.from_numpy(rows.share(r)).to(device)[:, None] for r in range(len(rows.starts))]
        self._col_shares = [torch.from_numpy(cols.share(c)).to(device) for c in range(len(cols.starts))]

    @torch.inference_mode()
    def add(self, r: int, c: int, probs: torch.Tensor) -> Block:
        """Blend in the tile at row ``r`` and column ``c`` of the grid and return what it finishes.

        Args:
            r: Row of the tile in the grid of tiles.
            c: Column of the tile; tiles come row by row, without gaps.
            probs: ``(K, tile rows, tile columns)``; overwritten.
        """
        rows, cols = self._rows, self._cols
        left, above = cols.overlap(c), rows.overlap(r)
        if left:
            probs[:, :, :left] = torch.lerp(self._right, probs[:, :, :left], self._col_shares[c])
        wide, high = cols.finished(c), rows.finished(r)
        self._right = probs[:, :, wide:].clone() if c + 1 < len(cols.starts) else self._right[:, :, :0]
        column = slice(cols.starts[c], cols.starts[c] + wide)
        if above:
            probs[:, :above, :wide] = torch.lerp(
                self._below[:, :above, column], probs[:, :above, :wide], self._row_shares[r]
            )
        if r + 1 < len(rows.starts):
            below = probs[:, high:, :wide]
            self._below[:, : below.shape[1], column] = below
        return Block(rows.starts[r], column.start, probs[:, :high, :wide])


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
