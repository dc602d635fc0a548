"""Predict the rows of tiles that a checkpoint lacks: three stages at once, joined by queues.

A thread reads the tiles ahead, the network runs, and a thread writes finished blocks to the checkpoint folder.
"""

import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from levelground.config import ProbsFormat
from levelground.console import progress_bar, say
from levelground.errors import ModelError
from levelground.imagery.legend import IGNORE
from levelground.imagery.validity import NodataMask
from levelground.inference.sliding_window import Block, sliding_window_inference, with_tta
from levelground.prediction.inputs import FilledPixels, PixelReader, ResampledPixels
from levelground.prediction.plan import PredictionPlan
from levelground.prediction.resume import BlockFile, Checkpoint
from levelground.signals import stop_signals
from levelground.wording import decimal, gettext

if TYPE_CHECKING:
    import torch

PROBS_STEPS = 254
"""A probability of 1 as uint8; 255 is no data."""

_WAITING = 8  # blocks that may wait to be written
_LINE_EVERY_S = 60.0
_SPILL_BYTES = 16 * 2**20  # a lower edge larger than this goes to a file where it would lie in main memory


@dataclass(frozen=True)
class Throughput:
    """Pixels that were predicted, and the seconds that took."""

    pixels: int
    seconds: float

    @property
    def megapixels_per_s(self) -> float:
        """Megapixels of the map a second."""
        return self.pixels / 1e6 / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class BlockFiles:
    """The raw files of a prediction: classes, and probabilities if they are asked for."""

    classes: BlockFile
    probs: BlockFile | None


def open_block_files(plan: PredictionPlan, checkpoint: Checkpoint) -> BlockFiles:
    """Open the raw files of a prediction."""
    classes = checkpoint.block_file("classes", planes=1, dtype="uint8")
    if plan.options.probs == "none":
        return BlockFiles(classes, None)
    probs = checkpoint.block_file("probs", planes=len(plan.model.spec.outputs), dtype=plan.options.probs)
    return BlockFiles(classes, probs)


def model_pixels(plan: PredictionPlan, reader: PixelReader) -> FilledPixels:
    """Return an input's pixels as the model takes them: at the resolution of the plan, without holes.

    Args:
        plan: How the input is predicted.
        reader: The input's pixels, at their own resolution.
    """
    scaled = reader if plan.scale == 1 else ResampledPixels(reader, plan.scale)
    return FilledPixels(scaled)


def predict_missing_rows(plan: PredictionPlan, reader: PixelReader, checkpoint: Checkpoint) -> Throughput:
    """Predict the tile rows that are not in the checkpoint folder yet.

    Args:
        plan: How the input is predicted.
        reader: The input's pixels, at their own resolution.
        checkpoint: Where finished rows go.
    Returns:
        What was predicted, and how long it took.
    Raises:
        SceneError: The input is truncated; finished rows are kept.
        ModelError: The network's outputs do not fit, or are not numbers.
        DiskError: The disk is full; finished rows are kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; finished rows are kept.
    """
    name, rows, first = plan.input.name, plan.rows, checkpoint.state.rows
    if first:
        say(
            "%(name)s: goes on at row %(starts)s of %(length)s.",
            name=name,
            starts=rows.starts[first],
            length=rows.length,
        )
    missing = (rows.length - rows.starts[first]) * plan.cols.length
    pixels = model_pixels(plan, reader)
    blocks, stop = _sweep(plan, pixels, checkpoint), list[bool]()
    started = time.perf_counter()
    with (
        stop_signals(lambda: stop.append(True)),
        _BlockWriter(plan, checkpoint) as writer,
        _ThroughputBar(name, missing) as bar,
    ):
        for block in blocks:
            writer.submit(block, pixels.take_mask(block))
            bar.advance(block.probs.shape[1] * block.probs.shape[2])
            if stop:
                blocks.close()  # type: ignore[attr-defined]
                break
        writer.finish()
    if stop and not checkpoint.done:
        say(
            "%(name)s: stopped at row %(starts)s of %(length)s.",
            name=name,
            starts=rows.starts[checkpoint.state.rows],
            length=rows.length,
        )
        raise KeyboardInterrupt
    return Throughput(missing, time.perf_counter() - started)


def _sweep(plan: PredictionPlan, pixels: FilledPixels, checkpoint: Checkpoint) -> Iterator[Block]:
    """Run the network over the rows that the checkpoint lacks."""
    model, runtime, rows = plan.model, plan.runtime, plan.rows
    if plan.options.tta == "d4":
        model = with_tta(model, channels_last=runtime.channels_last)
    edge = 4 * len(model.spec.outputs) * plan.cols.length * max(rows.overlap(r) for r in range(len(rows.starts)))
    return sliding_window_inference(
        model,
        pixels,
        plan.geometry,
        runtime,
        first_row=checkpoint.state.rows,
        overlap_folder=checkpoint.folder if runtime.device_kind == "cpu" and edge > _SPILL_BYTES else None,
    )


class _BlockWriter:
    """Writer of finished blocks to a checkpoint, in a thread of its own; records each finished row of tiles."""

    def __init__(self, plan: PredictionPlan, checkpoint: Checkpoint) -> None:
        """Open the checkpoint's raw files."""
        self._plan, self._checkpoint = plan, checkpoint
        self._files = open_block_files(plan, checkpoint)
        self._counts = checkpoint.state.counts.copy()
        outputs = plan.model.spec.outputs
        self._class_of = np.append(np.array(outputs, np.uint8), np.zeros(256 - len(outputs), np.uint8))
        self._row_numbers = {start: r for r, start in enumerate(plan.rows.starts)}
        self._col_numbers = {start: c for c, start in enumerate(plan.cols.starts)}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="blocks")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> "_BlockWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def submit(self, block: Block, mask: NodataMask | None) -> None:
        """Hand over a block; waits where the disk is slower than the network.

        Raises:
            ModelError: The block has more or fewer classes than the model names.
            DiskError: The disk is full.
        """
        n_outputs = block.probs.shape[0]
        if n_outputs != len(self._plan.model.spec.outputs):
            raise ModelError(
                f"the network has {n_outputs} outputs, its card names {len(self._plan.model.spec.outputs)} classes. "
                "Train, adopt or export it anew."
            )
        reduced = _reduce(block, self._plan.options.probs)
        place = self._row_numbers[block.row], self._col_numbers[block.col]
        self._waiting.append(self._pool.submit(self._write, *place, reduced, mask))
        if len(self._waiting) > _WAITING:
            self._waiting.popleft().result()

    def finish(self) -> None:
        """Wait until all blocks are written."""
        while self._waiting:
            self._waiting.popleft().result()

    def _write(self, r: int, c: int, reduced: "_ReducedBlock", mask: NodataMask | None) -> None:
        classes, probs = _to_arrays(reduced, self._class_of, mask, self._plan.input.name)
        self._files.classes.write(r, c, classes[None])
        if self._files.probs is not None and probs is not None:
            self._files.probs.write(r, c, probs)
        np.add(self._counts, np.bincount(classes.reshape(-1), minlength=256), out=self._counts)
        if c + 1 == len(self._plan.cols.starts):
            self._checkpoint.commit(r + 1, self._counts)


@dataclass(frozen=True)
class _ReducedBlock:
    """The part of a block that is written, as arrays or as tensors on the runtime's device.

    Attributes:
        best: The first most probable output, ``(rows, columns)``.
        check: A number, or NaN if any probability is NaN.
        probs: Probabilities in the type that is stored.
    """

    best: "torch.Tensor | NDArray[np.uint8]"
    check: "torch.Tensor | np.float32"
    probs: "torch.Tensor | NDArray[np.generic] | None"


def _reduce(block: Block, kind: ProbsFormat) -> _ReducedBlock:
    """Reduce a block where it lies."""
    found = block.probs
    if not isinstance(found, np.ndarray):
        return _reduce_tensor(found, kind)
    highest, best = _most_probable(found)
    probs: NDArray[np.generic] | None = found if kind == "float32" else None
    if kind == "uint8":
        probs = np.rint(found * np.float32(PROBS_STEPS)).astype(np.uint8)
    return _ReducedBlock(best, highest.sum(), probs)


def _most_probable(probs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the largest probability of each pixel, and the first output that has it.

    As many passes as there are classes, each vectorised, take a third of the time of ``argmax``.
    """
    highest = probs.max(axis=0)
    first, before = np.zeros(highest.shape, np.uint8), np.ones(highest.shape, np.bool_)
    for smaller in probs[:-1]:
        before &= smaller < highest
        first += before
    return highest, first


def _reduce_tensor(probs: "torch.Tensor", kind: ProbsFormat) -> _ReducedBlock:
    """Reduce a block on the device where it lies."""
    import torch

    from levelground.evaluation.score_scenes import most_probable

    with torch.inference_mode():
        highest, best = most_probable(probs)
        kept = None
        if kind == "uint8":
            kept = probs.mul(PROBS_STEPS).round_().to(torch.uint8)
        elif kind == "float32":
            kept = probs
        return _ReducedBlock(best, highest.sum(), kept)


def _to_arrays(
    reduced: _ReducedBlock, class_of: NDArray[np.uint8], mask: NodataMask | None, name: str
) -> tuple[NDArray[np.uint8], NDArray[np.generic] | None]:
    """Bring a block into main memory: legend indices and probabilities, with no data under the mask."""
    if not math.isfinite(float(reduced.check)):
        raise ModelError(f"{name}: the network's output is not a number (NaN). Its weights are damaged: make it anew.")
    classes = class_of[_in_memory(reduced.best)]
    probs = None if reduced.probs is None else _in_memory(reduced.probs)
    if mask is not None:
        classes[mask] = IGNORE
        if probs is not None:
            probs = np.where(mask, np.float32(np.nan) if probs.dtype.kind == "f" else np.uint8(255), probs)
    return classes, probs


def _in_memory(values: "torch.Tensor | NDArray[np.generic]") -> NDArray[np.generic]:
    """Return values as an array in main memory."""
    return values if isinstance(values, np.ndarray) else values.cpu().numpy()


class _ThroughputBar:
    """Display of megapixels a second and the time left: a bar on a terminal, otherwise a line a minute."""

    def __init__(self, name: str, pixels: int) -> None:
        """Count up to ``pixels``."""
        self._name, self._pixels, self._done = name, pixels, 0
        self._started = self._said = time.perf_counter()
        self._context = progress_bar(gettext("predict %(name)s", name=name), max(1, round(pixels / 1e6)))

    def __enter__(self) -> "_ThroughputBar":
        self._bar = self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)  # type: ignore[arg-type]

    def advance(self, pixels: int) -> None:
        """Count pixels as done."""
        before, now = self._done, time.perf_counter()
        self._done += pixels
        rate = self._done / 1e6 / max(1e-9, now - self._started)
        step = round(self._done / 1e6) - round(before / 1e6)
        self._bar.advance(step, note=gettext("%(rate)s megapixels/s", rate=decimal(f"{rate:.2f}")))
        if now - self._said > _LINE_EVERY_S and not self._bar.shown:
            self._said = now
            left = (self._pixels - self._done) / 1e6 / rate
            say(
                "%(name)s: %(share)s, %(rate)s megapixels/s, %(minutes)s minutes left.",
                name=self._name,
                share=f"{self._done / self._pixels:.0%}",
                rate=decimal(f"{rate:.2f}"),
                minutes=decimal(f"{left / 60:.0f}"),
            )
