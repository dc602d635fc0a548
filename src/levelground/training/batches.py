"""Batches of random crops, cut from the cache, resized and turned; loaded by processes beside the network.

A batch is a pure function of (seed, step): scene, window, symmetry and colours of each crop are drawn from a Philox
generator whose key is (seed, step) and whose counter holds slot and try. So the number of workers and processes changes
no sample, resume is exact at any step, and two models see the same crops.
"""

import contextlib
import functools
import math
import signal
import traceback
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch._C import _error_if_any_worker_fails  # what the library's own handler of dead processes calls
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from levelground.config import Recipe
from levelground.console import say
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, LevelgroundError, LoaderError, first_line
from levelground.imagery.legend import IGNORE

MAX_TRIES = 10
"""After so many tries a crop is taken as it is; the loss over no valid pixel is 0."""

_WORD = 2**64


def generator(seed: int, step: int, slot: int = 0, attempt: int = 0) -> np.random.Generator:
    """Make the random generator of one crop, in 9 µs.

    Args:
        seed: The run's seed.
        step: Step from 0.
        slot: Place in the batch.
        attempt: How often this crop was drawn before.
    """
    # The two low counter words count the numbers drawn; the two high ones are free to name the crop.
    # Words as uint64: lists of Python's integers pass through float64 where one is large, and lose digits.
    key, counter = np.array([seed % _WORD, step % _WORD], np.uint64), np.array([0, 0, attempt, slot], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


@dataclass(frozen=True)
class Draw:
    """Scene, square, symmetry and colour changes drawn for one crop."""

    scene: int
    """Place of the scene in the training list."""
    row: int
    col: int
    side: int
    """Side of the square cut from the scene, px; resized to the tile."""
    symmetry: int
    """0 to 7: quarter turns, plus 4 where the crop is flipped first."""
    gains: tuple[float, ...]
    """Factor of each band, around the band's mean (contrast, band gain)."""
    shifts: tuple[float, ...]
    """What is added to each band, in deviations (brightness)."""


@dataclass(frozen=True)
class Sampler:
    """Sampler of crops from scenes of given sizes, as a recipe says."""

    seed: int
    tile: int
    """Side of a crop, px; 0 takes whole scenes."""
    batch: int
    scale_min: float
    scale_max: float
    d4: bool
    colour: float
    sizes: tuple[tuple[int, int], ...]
    """Height and width of each training scene."""
    bands: int

    def scene_at(self, step: int, slot: int) -> int:
        """Return the scene of a slot: scenes take turns in an order shuffled anew for each round."""
        turn, place = divmod(step * self.batch + slot, len(self.sizes))
        # Slot 2**32 is no slot of a batch, so this stream meets no crop's.
        order = generator(self.seed, turn, 2**32).permutation(len(self.sizes))
        return int(order[place])

    def draw(self, step: int, slot: int, attempt: int = 0) -> Draw:
        """Draw one crop; after half of the tries the scene is drawn anew too."""
        rng = generator(self.seed, step, slot, attempt)
        numbers = rng.random(6 + 2 * self.bands)
        scene = self.scene_at(step, slot)
        if attempt > MAX_TRIES // 2:
            scene = int(numbers[5] * len(self.sizes))
        height, width = self.sizes[scene]
        side = row = col = 0
        if self.tile:
            low, high = math.log(self.scale_min), math.log(self.scale_max)
            wanted = round(self.tile * math.exp(low + (high - low) * numbers[0]))
            side = max(1, min(wanted, max(height, width)))
            row = int(numbers[1] * (max(0, height - side) + 1))
            col = int(numbers[2] * (max(0, width - side) + 1))
        symmetry = int(numbers[3] * 8) if self.d4 else 0
        contrast = math.exp(self.colour * (2 * numbers[4] - 1))
        band_gains = np.exp(0.5 * self.colour * (2 * numbers[6 : 6 + self.bands] - 1))
        brightness = rng.random() * 2 - 1
        shifts = self.colour * (brightness + 0.5 * (2 * numbers[6 + self.bands :] - 1))
        return Draw(scene, row, col, side, symmetry, tuple(contrast * band_gains), tuple(shifts))


def process_slots(batch: int, rank: int, processes: int) -> range:
    """Return the slots of a batch that a process takes.

    Raises:
        ConfigError: The batch cannot be divided into equal parts.
    Example:
        >>> [list(process_slots(4, rank, 2)) for rank in range(2)]
        [[0, 1], [2, 3]]
    """
    part, rest = divmod(batch, processes)
    if rest:
        raise ConfigError(
            f"--batch {batch}: cannot be divided equally among {processes} processes. "
            f"Give --batch {(part + 1) * processes}."
        )
    return range(rank * part, (rank + 1) * part)


def make_sampler(recipe: Recipe, seed: int, sizes: Sequence[tuple[int, int]], bands: int) -> Sampler:
    """Make the sampler of a recipe.

    Raises:
        ConfigError: Whole scenes are asked for in batches, and they are of unlike sizes.
    """
    turned = recipe.d4 and any(height != width for height, width in sizes)
    if recipe.tile == 0 and recipe.batch > 1 and (turned or len(set(sizes)) > 1):
        raise ConfigError(
            f"--tile 0 --batch {recipe.batch}: whole scenes that differ in size, or are turned and not square, "
            "do not stack. Give --batch 1."
        )
    return Sampler(
        seed,
        recipe.tile,
        recipe.batch,
        recipe.scale_min,
        recipe.scale_max,
        recipe.d4,
        recipe.colour,
        tuple(sizes),
        bands,
    )


def steps_per_epoch(recipe: Recipe, sizes: Sequence[tuple[int, int]]) -> int:
    """Return the number of steps that see as many pixels as the training scenes hold.

    Example:
        >>> from levelground.recipe_files import load_recipe
        >>> steps_per_epoch(load_recipe("origin"), [(2448, 2448)] * 577)
        577
    """
    if recipe.tile == 0:
        return math.ceil(len(sizes) / recipe.batch)
    pixels = sum(height * width for height, width in sizes)
    return max(1, math.ceil(pixels / (recipe.tile**2 * recipe.batch)))


MIN_VALID_SHARE = 0.05
"""A crop with a smaller share of valid pixels is drawn again."""


@dataclass(frozen=True)
class Batch:
    """Batch of crops before it goes to the device."""

    images: NDArray[Any]
    """``(N, H, W, C)`` in the type of the cache."""
    targets: NDArray[np.uint8]
    """``(N, H, W)``, output index or 255."""
    gains: NDArray[np.float32]
    """``(N, C)``."""
    shifts: NDArray[np.float32]
    """``(N, C)``."""
    scenes: tuple[int, ...]
    """Place of each crop's scene in the training list."""


def cut_crop(pixels: NDArray[Any], draw: Draw, tile: int, *, nearest: bool, fill: int | None = None) -> NDArray[Any]:
    """Cut a drawn square, resize it to the tile and turn it.

    Args:
        pixels: ``(H, W)`` or ``(H, W, C)``; a memory map is read only where the square lies.
        draw: The square and its symmetry.
        tile: Side of the result, px; 0 takes all of ``pixels``, padded to a multiple of 32.
        nearest: Resize by nearest neighbour (labels); else by area means when shrinking and bilinear when growing.
        fill: Value for what lies beyond the scene; ``None`` reflects the scene there.
    Returns:
        ``(T, T)`` or ``(T, T, C)``, contiguous.
    """
    if tile == 0:
        square = np.asarray(pixels)
        tall, wide = -square.shape[0] % 32, -square.shape[1] % 32
    else:
        square = np.asarray(pixels[draw.row : draw.row + draw.side, draw.col : draw.col + draw.side])
        tall, wide = draw.side - square.shape[0], draw.side - square.shape[1]
    if tall or wide:
        square = _pad(square, tall, wide, fill)
    if tile and draw.side != tile:
        shrink = cv2.INTER_AREA if draw.side > tile else cv2.INTER_LINEAR
        square = _resize(square, tile, cv2.INTER_NEAREST_EXACT if nearest else shrink)
    if draw.symmetry >= 4:
        square = square[:, ::-1]
    return np.ascontiguousarray(np.rot90(square, draw.symmetry % 4))


def _resize(square: NDArray[Any], tile: int, how: int) -> NDArray[Any]:
    bands = 1 if square.ndim == 2 else square.shape[2]
    if bands <= 4:
        return cv2.resize(square, (tile, tile), interpolation=how).reshape(tile, tile, *square.shape[2:])
    # OpenCV averages areas of at most four bands at a time.
    parts = [_resize(square[..., band : band + 4], tile, how) for band in range(0, bands, 4)]
    return np.concatenate(parts, axis=2)


def _pad(square: NDArray[Any], tall: int, wide: int, fill: int | None) -> NDArray[Any]:
    widths = ((0, tall), (0, wide), (0, 0))[: square.ndim]
    if fill is not None:
        return np.pad(square, widths, constant_values=fill)
    return np.pad(square, widths, mode="symmetric")


def target_table(outputs: Sequence[int]) -> NDArray[np.uint8]:
    """Map legend indices to output indices, ``(256,)``; indices without an output and 255 become 255.

    Example:
        >>> target_table([0, 2])[[0, 1, 2, 255]]
        array([  0, 255,   1, 255], dtype=uint8)
    """
    table = np.full(256, IGNORE, np.uint8)
    table[np.asarray(outputs, np.intp)] = np.arange(len(outputs), dtype=np.uint8)
    return table


class BatchSource(TorchDataset[Batch]):
    """Batches by step, for a data loader; reads only the cache."""

    def __init__(
        self,
        dataset: Dataset,
        ids: Sequence[str],
        sampler: Sampler,
        outputs: Sequence[int],
        slots: range | None = None,
    ) -> None:
        """Draw from a list of training scenes.

        Args:
            dataset: The scenes.
            ids: Those to cut from, in the order that the sampler means.
            sampler: Draws the crops.
            outputs: Legend index of each output.
            slots: The crops of each batch that this process takes; ``None`` takes all.
        """
        self.slots = range(sampler.batch) if slots is None else slots
        self.sampler = sampler
        self.ids = tuple(ids)
        self._dataset = dataset
        self._table = target_table(outputs)

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step."""
        cv2.setNumThreads(0)
        parts = [self._crop(step, slot) for slot in self.slots]
        return Batch(
            images=np.stack([image for _, image, _ in parts]),
            targets=np.stack([target for _, _, target in parts]),
            gains=np.array([draw.gains for draw, _, _ in parts], np.float32),
            shifts=np.array([draw.shifts for draw, _, _ in parts], np.float32),
            scenes=tuple(draw.scene for draw, _, _ in parts),
        )

    def scenes(self, step: int) -> list[str]:
        """Return the scenes of a step's crops in all processes."""
        drawn = {self._crop(step, slot)[0].scene for slot in range(self.sampler.batch)}
        return sorted(self.ids[scene] for scene in drawn)

    def _crop(self, step: int, slot: int) -> tuple[Draw, NDArray[Any], NDArray[np.uint8]]:
        for attempt in range(MAX_TRIES):
            draw = self.sampler.draw(step, slot, attempt)
            scene = self._dataset.open(self.ids[draw.scene])
            assert scene.labels is not None
            labels = cut_crop(scene.labels, draw, self.sampler.tile, nearest=True, fill=IGNORE)
            targets = self._table[labels]
            if self.sampler.tile == 0 or np.count_nonzero(targets != IGNORE) >= MIN_VALID_SHARE * targets.size:
                break
        return draw, cut_crop(scene.pixels, draw, self.sampler.tile, nearest=False), targets


def load_batches(source: BatchSource, steps: range, *, workers: int) -> Generator[Batch, None, None]:
    """Load the batches of ``steps`` in order; workers only make it faster.

    Raises:
        RecordError: A cached scene is missing or damaged.
        LoaderError: A loader process was killed.
    """
    # Closed before an error is raised: loaders that are left to the garbage collector end seconds late.
    with contextlib.closing(_load(source, steps, workers)) as batches:
        for batch in batches:
            if isinstance(batch, LevelgroundError):
                raise batch
            yield batch


def _load(source: BatchSource, steps: range, workers: int) -> Generator[Batch | LevelgroundError, None, None]:
    options: Mapping[str, Any] = {"prefetch_factor": 4, "persistent_workers": False} if workers else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about the number of cores; the user chose
        loader = functools.partial(DataLoader, _CaughtErrors(source), batch_size=None, sampler=steps, collate_fn=_as_is)
        try:
            batches = iter(loader(num_workers=workers, **options))
        except OSError as error:  # its locks live in /dev/shm
            if not workers:
                raise
            say(
                "Loader processes cannot be started (%(first_line)s); this process loads the scenes itself.",
                first_line=first_line(error),
            )
            _abandon(error)
            batches = iter(loader())
    waiting = _watch_loaders() if workers else contextlib.nullcontext()
    try:
        while True:
            with waiting:
                batch = next(batches, None)
            if batch is None:
                return
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise LoaderError(
            f"a loader process was killed, most often by the system for want of memory ({first_line(error)}). Give "
            "fewer --workers, or a smaller --batch, if it comes again."
        ) from error


def _abandon(error: OSError) -> None:
    """Keep an iterator that was made halfway from writing a traceback over what it has not when it is removed."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        made = frame.f_locals.get("self")
        if isinstance(made, _MultiProcessingDataLoaderIter):
            made._shutdown = True  # what its end asks for first


class _Waiting:
    """The time in which a batch is waited for: there alone the death of a loader process is an error.

    A process that is killed in the middle of a batch leaves half of it in a pipe, whose other half would be waited for
    without end, unless its death interrupts the wait.
    """

    def __init__(self) -> None:
        self._here = False

    def handle(self, *_: object) -> None:
        """Raise the library's error of a dead process, if a batch is waited for."""
        if self._here:
            _error_if_any_worker_fails()

    def __enter__(self) -> None:
        self._here = True
        _error_if_any_worker_fails()  # of one that died since the batch before

    def __exit__(self, *_: object) -> None:
        self._here = False


def _watch_loaders() -> contextlib.AbstractContextManager[None]:
    """Let the death of a loader process interrupt waits, and nothing else, where this thread can see it.

    The library's own handler would raise wherever the program is, between two halves of a step too.
    """
    if current_thread() is not main_thread() or not hasattr(signal, "SIGCHLD"):
        return contextlib.nullcontext()
    waiting = _Waiting()
    signal.signal(signal.SIGCHLD, waiting.handle)
    return waiting


class _CaughtErrors(TorchDataset[Batch | LevelgroundError]):
    """Batches, or the error of one: raised in a loader process, it would come back as a page of text."""

    def __init__(self, source: BatchSource) -> None:
        self._source = source

    def __getitem__(self, step: int) -> Batch | LevelgroundError:
        """Return the batch of a step, or its error."""
        try:
            return self._source[step]
        except LevelgroundError as error:
            return error


def _as_is(batch: Any) -> Any:
    return batch
