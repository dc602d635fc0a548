"""Which split tells what a model scores on ground that it has never seen?

A generated landscape has class labels and class signatures that vary smoothly: two places nearer than its correlation
length look alike, farther ones do not. A learner that remembers (nearest neighbours in the bands) is trained and tested
in one landscape as ``prepare`` splits it, by random tiles, by strips and by spatial blocks with a buffer, and its score
is held beside the one that it gets in other landscapes of the same kind, which stand for new ground. Run from the
project's root:

    python benchmarks/blocks.py [--landscapes 12] [--quick]

One line a split: its mean score, the mean score on new ground, and how much it flatters, with the standard error over
landscapes; exits 1 where random tiles do not flatter, or blocks flatter by more than a third of what tiles do.
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
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from levelground.config import PrepareOptions
from levelground.datasets.dataset import Dataset
from levelground.datasets.prepare import prepare_dataset
from levelground.imagery.geotiff import RasterInfo, write_raster
from levelground.imagery.legend import IGNORE

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
        length: Correlation length of labels and signatures, px: smooth noise of this Gaussian width.
        drift: Deviation of a class's signature from place to place; the classes' means are 1 apart or so.
        noise: Deviation of pixels of one class at one place.
    """
    rng = np.random.default_rng(seed)

    def field() -> Floats:
        smooth = gaussian_filter(rng.standard_normal((side, side)), length / np.sqrt(2), mode="wrap")
        return np.asarray(smooth / smooth.std())

    labels = np.argmax([field() for _ in range(N_CLASSES)], axis=0).astype(np.uint8)
    means = np.random.default_rng(7).standard_normal((N_CLASSES, BANDS)) * 0.7  # the same in all landscapes
    signatures = np.stack([[means[k, b] + drift * field() for b in range(BANDS)] for k in range(N_CLASSES)])
    chosen = np.take_along_axis(signatures, labels[None, None].astype(np.intp), axis=0)[0]
    values = chosen.transpose(1, 2, 0) + noise * rng.standard_normal((side, side, BANDS))
    return Landscape(np.clip(128 + 25 * values, 1, 255).astype(np.uint8), labels)


def prepared(landscape: Landscape, folder: Path, options: dict[str, object]) -> Dataset:
    """Write a landscape as one GeoTIFF with its labels, and prepare it."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    for name, array in (("area.tif", landscape.pixels), ("area_label.tif", landscape.labels[..., None])):
        if not (data / name).exists():
            write_raster(data / name, array, RasterInfo(0, 0, 0, "", None, "EPSG:32632", (10, 0, 5e5, 0, -10, 5e6)))
    given = {"data": data, "out": folder / "study", "cache": folder / "cache"}
    with contextlib.redirect_stderr(io.StringIO()):
        return prepare_dataset(PrepareOptions(**given | options))  # type: ignore[arg-type]


def labelled_pixels(dataset: Dataset, ids: Sequence[str], rng: np.random.Generator) -> tuple[Floats, Labels]:
    """Draw labelled pixels of some scenes: bands ``(n, 4)`` and classes ``(n,)``."""
    scenes = [dataset.open(scene) for scene in ids]
    pixels = np.concatenate([scene.pixels.reshape(-1, BANDS) for scene in scenes])
    labels = np.concatenate([np.asarray(scene.labels).ravel() for scene in scenes])
    return sampled(pixels[labels != IGNORE], labels[labels != IGNORE], rng)


def sampled(pixels: NDArray[np.uint8], labels: Labels, rng: np.random.Generator) -> tuple[Floats, Labels]:
    """Draw pixels without replacement."""
    chosen = rng.choice(len(labels), min(SAMPLE, len(labels)), replace=False)
    return pixels[chosen].astype(np.float64), labels[chosen]


def mean_iou(train: tuple[Floats, Labels], test: tuple[Floats, Labels]) -> float:
    """Score nearest neighbours by a vote."""
    near = cKDTree(train[0]).query(test[0], NEIGHBOURS)[1]
    votes = np.stack([(train[1][near] == k).sum(axis=1) for k in range(N_CLASSES)])
    counts = np.zeros((N_CLASSES, N_CLASSES))
    np.add.at(counts, (test[1], votes.argmax(axis=0)), 1)
    union = counts.sum(0) + counts.sum(1) - np.diag(counts)
    return float((np.diag(counts) / np.maximum(union, 1))[union > 0].mean())


def flattery(n: int, splits: Sequence[Split], *, side: int, length: float, seed: int = 0) -> Floats:
    """Score every split of every landscape there and on new ground.

    Args:
        n: Number of landscapes; each is new ground for the next two.
        splits: The splits.
        side: Height and width of a landscape, px.
        length: Its correlation length, px.
        seed: Of the first landscape.
    Returns:
        Scores ``(splits, n, 2)``: of the split's own test pixels, and of new ground.
    """
    rng = np.random.default_rng(seed)
    landscapes = [make_landscape(seed + number, side=side, length=length) for number in range(n)]
    found = np.empty((len(splits), n, 2))
    for number, landscape in enumerate(landscapes):
        far = [landscapes[(number + step) % n] for step in (1, 2)]
        new = np.concatenate([one.pixels.reshape(-1, BANDS) for one in far])
        truth = np.concatenate([one.labels.ravel() for one in far])
        with tempfile.TemporaryDirectory() as folder:
            for which, split in enumerate(splits):
                dataset = prepared(landscape, Path(folder), split.options)
                train = labelled_pixels(dataset, dataset.ids("train"), rng)
                found[which, number, 0] = mean_iou(train, labelled_pixels(dataset, dataset.ids("test"), rng))
                found[which, number, 1] = mean_iou(train, sampled(new, truth, rng))
    return found


def splits_of(length: int) -> tuple[Split, ...]:
    """Return the splits that are compared: tiles of half the correlation length, and blocks of several."""
    return (
        Split("random tiles", {"split": "random", "block": length // 2}),
        Split("strips", {"split": "auto", "block": length // 2}),
        Split("blocks, no buffer", {"split": "blocks", "block_px": 2 * length, "buffer_px": 0}),
        Split("blocks, buffer", {"split": "blocks", "block_px": 2 * length, "buffer_px": length // 2}),
        Split("large blocks", {"split": "blocks", "block_px": 4 * length, "buffer_px": length}),
    )


def main() -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landscapes", type=int, default=12)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    n, side = (3, 384) if asked.quick else (asked.landscapes, asked.side)
    splits = splits_of(asked.length)
    scores = flattery(n, splits, side=side, length=asked.length)
    print(f"{n} landscapes of {side} px, correlation length {asked.length} px, mIoU")
    means = {}
    for split, found in zip(splits, scores, strict=True):
        gain = found[:, 0] - found[:, 1]
        means[split.name] = float(gain.mean())
        error = gain.std(ddof=1) / np.sqrt(n)
        own, new = found.mean(axis=0)
        print(f"{split.name:18} {own:.3f}, new ground {new:.3f}, {gain.mean():+.3f} ± {error:.3f}")
    good = means["random tiles"] > 0 and abs(means["large blocks"]) < means["random tiles"] / 3
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
