"""Random crops of a batch as a function of (seed, step): scene, window, symmetry and colours.

A batch is a pure function of (seed, step): every number is drawn from a Philox generator whose key is (seed, step) and
whose counter holds slot and try. So the number of workers and processes changes no sample, resume is exact at any step,
and two models see the same crops.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from levelground.config import Recipe
from levelground.errors import ConfigError

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
