"""Which split tells what a model scores on ground that it has never seen?

A generated landscape has class labels and class signatures that vary smoothly: two places nearer than its correlation
length look alike, farther ones do not. A learner that remembers (nearest neighbours in the bands) is trained and tested
in one landscape as ``prepare`` splits it, by random tiles, by strips and by spatial blocks with a buffer, and its score
is held beside the one that it gets in other landscapes of the same kind, which stand for new ground. Run from the
project's root:

    python benchmarks/blocks.py [--landscapes 48] [--quick]

One line a split: its mean score, the mean score on new ground, and how much it flatters (the one minus the other), with
the 95 % interval over landscapes; then how much more random tiles flatter than large blocks, paired by landscape. Exits
1 where that is not above 0 by two of its own standard errors.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.spatial import cKDTree

from levelground.config import PrepareOptions
from levelground.datasets.prepare import prepare_dataset
from levelground.imagery.geotiff import RasterInfo, write_raster
from levelground.imagery.legend import IGNORE
from levelground.statistics.intervals import t_interval

Floats = NDArray[np.float64]
Labels = NDArray[np.uint8]
N_CLASSES, BANDS = 3, 4
NEIGHBOURS = 15
SAMPLE = 6000
"""Pixels that train, and that are scored, at most."""


@dataclass(frozen=True)
class Landscape:
    """Bands ``(side, side, 4)`` uint8, and the class of each pixel."""

    pixels: NDArray[np.uint8]
    labels: Labels


@dataclass(frozen=True)
class Split:
    """A way to split one raster."""

    name: str
    options: dict[str, object]


def make_landscape(seed: int, *, side: int, length: float, drift: float = 0.7, noise: float = 0.6) -> Landscape:
    """Generate a landscape.

    Args:
        seed: Which one.
        side: Height and width, px.
        length: Correlation length of labels and signatures, px: at distance d they correlate by exp(-(d/length)²/2).
        drift: Deviation of a class's signature from place to place; the classes' means are 1 apart or so.
        noise: Deviation of pixels of one class at one place.
    """
    rng = np.random.default_rng(seed)
    canvas = side + int(6 * length)  # opposite sides of a periodic field are neighbours
    rows, columns = np.fft.fftfreq(canvas)[:, None], np.fft.rfftfreq(canvas)
    smoothing = np.exp(-((np.pi * length) ** 2) * (rows**2 + columns**2))

    def field() -> Floats:
        smooth = irfft2(smoothing * rfft2(rng.standard_normal((canvas, canvas))), (canvas, canvas))[:side, :side]
        return np.asarray((smooth - smooth.mean()) / smooth.std())  # landscapes differ as their far parts do

    labels = np.argmax([field() for _ in range(N_CLASSES)], axis=0).astype(np.uint8)
    means = np.random.default_rng(7).standard_normal((N_CLASSES, BANDS)) * 0.7  # the same in all landscapes
    signatures = np.stack([[means[k, b] + drift * field() for b in range(BANDS)] for k in range(N_CLASSES)])
    chosen = np.take_along_axis(signatures, labels[None, None].astype(np.intp), axis=0)[0]
    values = chosen.transpose(1, 2, 0) + noise * rng.standard_normal((side, side, BANDS))
    return Landscape(np.clip(128 + 25 * values, 1, 255).astype(np.uint8), labels)


def sets_of(landscape: Landscape, folder: Path, options: dict[str, object], seed: int) -> NDArray[np.bool_]:
    """Write a landscape as one GeoTIFF with its labels, prepare it, and find the pixels that train and that test.

    Returns:
        ``(2, side, side)``.
    """
    data, side = folder / "data", len(landscape.labels)
    data.mkdir(parents=True, exist_ok=True)
    for name, array in (("area.tif", landscape.pixels), ("area_label.tif", landscape.labels[..., None])):
        if not (data / name).exists():
            write_raster(data / name, array, RasterInfo(0, 0, 0, "", None, "EPSG:32632", (10, 0, 5e5, 0, -10, 5e6)))
    given = {"data": data, "out": folder / "study", "cache": folder / "cache", "split_seed": seed}
    with contextlib.redirect_stderr(io.StringIO()):
        dataset = prepare_dataset(PrepareOptions(**given | options))  # type: ignore[arg-type]
    found = np.zeros((2, side, side), np.bool_)
    for number, ids in enumerate((dataset.split.train, dataset.split.test)):
        for scene in map(dataset.scene, ids):
            row, col, height, width = scene.window or (0, 0, side, side)
            known = np.asarray(dataset.open(scene.id).labels) != IGNORE
            found[number, row : row + height, col : col + width] |= known
    return found


def sampled(
    landscape: Landscape, among: NDArray[np.bool_], rng: np.random.Generator, most: int = SAMPLE
) -> tuple[Floats, Labels]:
    """Draw pixels without replacement: bands ``(n, 4)`` and classes ``(n,)``."""
    places = np.flatnonzero(among)
    chosen = rng.choice(places, min(most, len(places)), replace=False)
    return landscape.pixels.reshape(-1, BANDS)[chosen].astype(np.float64), landscape.labels.ravel()[chosen]


def mean_iou(train: tuple[Floats, Labels], test: tuple[Floats, Labels]) -> float:
    """Score nearest neighbours by a vote."""
    near = cKDTree(train[0]).query(test[0], NEIGHBOURS)[1]
    votes = np.stack([(train[1][near] == k).sum(axis=1) for k in range(N_CLASSES)])
    counts = np.zeros((N_CLASSES, N_CLASSES))
    np.add.at(counts, (test[1], votes.argmax(axis=0)), 1)
    union = counts.sum(0) + counts.sum(1) - np.diag(counts)
    return float((np.diag(counts) / np.maximum(union, 1))[union > 0].mean())


GEOMETRIES = 2
"""Draws of each split; the landscapes take turns."""


def flattery(n: int, splits: Sequence[Split], *, side: int, length: float) -> Floats:
    """Score every split of every landscape there and on new ground.

    Args:
        n: Number of landscapes; each is new ground for the two before it.
        splits: The splits. ``prepare`` draws each for the first landscapes, and its sets are used in all.
        side: Height and width of a landscape, px.
        length: Its correlation length, px.
    Returns:
        Scores ``(splits, n, 2)``: of the split's own test pixels, and of new ground.
    """
    rng, found = np.random.default_rng(0), np.empty((len(splits), n, 2))
    landscapes = [make_landscape(number, side=side, length=length) for number in range(n)]
    sets = []
    for number in range(min(GEOMETRIES, n)):
        with tempfile.TemporaryDirectory() as folder:
            sets.append([sets_of(landscapes[number], Path(folder), split.options, number) for split in splits])
    every = np.ones((side, side), np.bool_)
    for number, landscape in enumerate(landscapes):
        far = [sampled(landscapes[(number + step) % n], every, rng, SAMPLE // 2) for step in (1, 2)]
        new = np.concatenate([far[0][0], far[1][0]]), np.concatenate([far[0][1], far[1][1]])
        for which in range(len(splits)):
            train, test = (sampled(landscape, part, rng) for part in sets[number % len(sets)][which])
            found[which, number] = mean_iou(train, test), mean_iou(train, new)
    return found


def splits_of(length: int) -> tuple[Split, ...]:
    """Return the splits that are compared: tiles of half the correlation length, and blocks of several."""
    return (
        Split("random tiles", {"split": "random", "block": length // 2}),
        Split("strips", {"split": "auto", "block": length // 2}),
        Split("blocks, no buffer", {"split": "blocks", "block_px": 2 * length, "buffer_px": 0}),
        Split("blocks, buffer", {"split": "blocks", "block_px": 2 * length, "buffer_px": length // 2}),
        Split("large blocks", {"split": "blocks", "block_px": 5 * length, "buffer_px": 2 * length}),
    )


def main() -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landscapes", type=int, default=48)
    parser.add_argument("--side", type=int, default=480)
    parser.add_argument("--length", type=int, default=24)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    n, side = (4, 384) if asked.quick else (asked.landscapes, asked.side)
    splits = splits_of(asked.length)
    scores = flattery(n, splits, side=side, length=asked.length)
    print(f"{n} landscapes of {side} px, correlation length {asked.length} px, mIoU")
    gains = scores[..., 0] - scores[..., 1]
    for split, found, gain in zip(splits, scores, gains, strict=True):
        own, new = found.mean(axis=0)
        print(f"{split.name:18} {own:.3f}, new ground {new:.3f}, flatters by {over_landscapes(gain)}")
    paired = gains[0] - gains[-1]
    print(f"{splits[0].name} flatter more than {splits[-1].name} by {over_landscapes(paired)}")
    return 0 if paired.mean() > 2 * paired.std(ddof=1) / np.sqrt(n) else 1


def over_landscapes(values: Floats) -> str:
    """Write a mean over landscapes with its 95 % interval."""
    n = len(values)
    low, high = t_interval(values.mean(), values.std(ddof=1) / np.sqrt(n), n - 1)
    return f"{values.mean():+.3f} ({low:+.3f} to {high:+.3f})"


if __name__ == "__main__":
    sys.exit(main())
