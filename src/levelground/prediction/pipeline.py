"""Run a network over a source and put what it says into a scratch folder, row of tiles by row of tiles.

Three things go on at once: a thread reads the tiles ahead, the network runs, and a thread writes finished blocks.
"""

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from levelground.console import progress_bar, say
from levelground.errors import ModelError
from levelground.evaluation.score_scenes import most_probable
from levelground.imagery.image_pixels import NodataMask
from levelground.imagery.legend import IGNORE
from levelground.inference.sliding_window import Block, Forward, sweep
from levelground.inference.tiling import Axis, TileGeometry
from levelground.prediction.readers import Source
from levelground.prediction.resume import Layer, Scratch
from levelground.runtime import Runtime
from levelground.signals import stop_signals

ProbsKind = Literal["none", "uint8", "float32"]

PROBS_STEPS = 254
"""A probability of 1 as uint8; 255 is no data."""

_WAITING = 8  # blocks that may wait to be written
_LINE_EVERY_S = 60.0
_SPILL_BYTES = 16 * 2**20  # a lower edge larger than this goes to a file where it would lie in main memory


@dataclass(frozen=True)
class Work:
    """What is to be run.

    Attributes:
        name: The input's name for people.
        forward: The network, on the runtime's device.
        activated: Whether it gives probabilities.
        outputs: Legend index of each output.
        mean: Band means, in stored units.
        std: Band deviations, in stored units.
        geometry: Tile, halo and batch.
        probs: Whether and how probabilities are kept.
    """

    name: str
    forward: Forward
    activated: bool
    outputs: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    geometry: TileGeometry
    probs: ProbsKind = "none"


@dataclass(frozen=True)
class Pace:
    """Pixels that were run, and the seconds that took."""

    pixels: int
    seconds: float

    @property
    def megapixels_per_s(self) -> float:
        """Megapixels of the map a second."""
        return self.pixels / 1e6 / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class _Layers:
    classes: Layer
    probs: Layer | None


def open_layers(scratch: Scratch, work: Work) -> _Layers:
    """The raw files of a job."""
    classes = scratch.layer("classes", planes=1, dtype="uint8")
    if work.probs == "none":
        return _Layers(classes, None)
    return _Layers(classes, scratch.layer("probs", planes=len(work.outputs), dtype=work.probs))


def run_job(work: Work, source: Source, scratch: Scratch, rows: Axis, cols: Axis, runtime: Runtime) -> Pace:
    """Run what the scratch folder lacks.

    Args:
        work: What to run.
        source: The pixels.
        scratch: Where finished rows go; rows that are there are not run again.
        rows: Tiles along the rows.
        cols: Tiles along the columns.
        runtime: Device and precision.
    Returns:
        What was run, and how long it took.
    Raises:
        SceneError: The source breaks off; finished rows are kept.
        ModelError: The network's outputs do not fit, or are no numbers.
        DiskError: The disk is full; finished rows are kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; finished rows are kept.
    """
    first = scratch.progress.rows
    if first:
        say(f"{work.name}: goes on at row {rows.starts[first]} of {rows.length}.")
    layers, counts = open_layers(scratch, work), scratch.progress.counts.copy()
    table = np.append(np.array(work.outputs, np.uint8), np.zeros(256 - len(work.outputs), np.uint8))
    row_numbers = {start: r for r, start in enumerate(rows.starts)}
    col_numbers = {start: c for c, start in enumerate(cols.starts)}

    def write(r: int, c: int, kept: "_Kept", gaps: NodataMask | None) -> None:
        classes, probs = _fetch(kept, table, gaps, work.name)
        layers.classes.write(r, c, classes[None])
        if layers.probs is not None and probs is not None:
            layers.probs.write(r, c, probs)
        np.add(counts, np.bincount(classes.reshape(-1), minlength=256), out=counts)
        if c + 1 == len(cols.starts):
            scratch.commit(r + 1, counts)

    edge = 4 * len(work.outputs) * cols.length * max(rows.overlap(r) for r in range(len(rows.starts)))
    blocks = sweep(
        work.forward,
        source,
        mean=work.mean,
        std=work.std,
        tile=work.geometry.tile,
        halo=work.geometry.halo,
        batch=work.geometry.batch,
        runtime=runtime,
        activated=work.activated,
        first_row=first,
        spill=scratch.folder if runtime.device.type == "cpu" and edge > _SPILL_BYTES else None,
    )
    stop: list[bool] = []
    started, waiting = time.perf_counter(), deque[Future[None]]()
    with (
        stop_signals(lambda: stop.append(True)),
        ThreadPoolExecutor(1, thread_name_prefix="map") as pool,
        Meter(work.name, (rows.length - rows.starts[first]) * cols.length) as meter,
    ):
        for block in blocks:
            if block.probs.shape[0] != len(work.outputs):
                raise ModelError(
                    f"the network has {block.probs.shape[0]} outputs, its card names {len(work.outputs)} classes. "
                    "Train, adopt or export it anew."
                )
            kept, gaps = _keep(block, work.probs), source.take_gaps(block)
            place = row_numbers[block.row], col_numbers[block.col]
            waiting.append(pool.submit(write, *place, kept, gaps))
            if len(waiting) > _WAITING:
                waiting.popleft().result()
            meter.advance(block.probs.shape[1] * block.probs.shape[2])
            if stop:
                blocks.close()  # type: ignore[attr-defined]
                break
        while waiting:
            waiting.popleft().result()
    if stop and not scratch.done:
        say(f"{work.name}: stopped at row {rows.starts[scratch.progress.rows]} of {rows.length}.")
        raise KeyboardInterrupt
    return Pace((rows.length - rows.starts[first]) * cols.length, time.perf_counter() - started)


@dataclass(frozen=True)
class _Kept:
    """What is kept of a block, on the runtime's device.

    Attributes:
        best: The first most probable output, ``(rows, columns)``.
        sound: A number, or NaN where any probability is none.
        probs: Probabilities in the type that is stored.
    """

    best: torch.Tensor
    sound: torch.Tensor
    probs: torch.Tensor | None


@torch.inference_mode()
def _keep(block: Block, kind: ProbsKind) -> _Kept:
    """Reduce a block where it lies."""
    highest, best = most_probable(block.probs)
    probs = None
    if kind == "uint8":
        probs = block.probs.mul(PROBS_STEPS).round_().to(torch.uint8)
    elif kind == "float32":
        probs = block.probs
    return _Kept(best, highest.sum(), probs)


def _fetch(
    kept: _Kept, table: np.ndarray[tuple[int], np.dtype[np.uint8]], gaps: NodataMask | None, name: str
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None]:
    """Bring a block into main memory: legend indices, and probabilities; no data where there are none."""
    if not bool(torch.isfinite(kept.sound)):
        raise ModelError(f"{name}: the network gives no numbers (NaN). Its weights are damaged: make it anew.")
    classes = table[kept.best.cpu().numpy()]
    probs = None if kept.probs is None else kept.probs.cpu().numpy()
    if gaps is not None:
        classes[gaps] = IGNORE
        if probs is not None:
            probs = np.where(gaps, np.float32(np.nan) if probs.dtype.kind == "f" else np.uint8(255), probs)
    return classes, probs


class Meter:
    """Megapixels a second and time left: a bar where somebody watches, else a line a minute."""

    def __init__(self, name: str, pixels: int) -> None:
        """Count ``pixels``."""
        self._name, self._pixels, self._done = name, pixels, 0
        self._started = self._said = time.perf_counter()
        self._context = progress_bar(f"map {name}", max(1, round(pixels / 1e6)))

    def __enter__(self) -> "Meter":
        self._bar = self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)  # type: ignore[arg-type]

    def advance(self, pixels: int) -> None:
        """Move on."""
        before, now = self._done, time.perf_counter()
        self._done += pixels
        rate = self._done / 1e6 / max(1e-9, now - self._started)
        step = round(self._done / 1e6) - round(before / 1e6)
        self._bar.advance(step, note=f"{rate:.2f} megapixels/s")
        if now - self._said > _LINE_EVERY_S and not self._bar.shown:
            self._said = now
            left = (self._pixels - self._done) / 1e6 / rate
            say(
                f"{self._name}: {self._done / self._pixels:.0%}, {rate:.2f} megapixels/s, {left / 60:.0f} minutes left."
            )
