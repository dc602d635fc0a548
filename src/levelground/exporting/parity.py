"""Parity check: an exported model against the run's network, over the same tiles, pixel by pixel."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from levelground.datasets.dataset import Dataset, read_dataset
from levelground.errors import ModelError, RecordError
from levelground.inference.sliding_window import Normaliser
from levelground.inference.tiling import pad_tile, windows
from levelground.models.model import Model
from levelground.models.spec import ModelSpec, full_scale
from levelground.runs import Run
from levelground.runtime import Runtime
from levelground.synthetic.scenes import SMALLEST, generate_scene
from levelground.tile_geometry import TileGeometry

MAX_DIFFERENCE = 1e-3
"""Largest difference of a probability that is accepted. Rounding of float32 gives 1e-7 to 1e-4."""

EQUAL_CLASSES = 0.999
"""Smallest share of pixels with the same class that is accepted; equally probable classes differ by rounding."""

N_TILES = 8
"""Tiles compared: two to a scene where there are few scenes."""


@dataclass(frozen=True)
class Tiles:
    """Tiles that both models are run over."""

    stored: NDArray[np.generic]
    """``(N, H, W, C)``, in stored units."""
    source: str
    """Origin of the tiles, for the report."""


@dataclass(frozen=True)
class Parity:
    """Differences of an exported model from the network it was made of."""

    max_difference: float
    """Largest difference of a probability, over all pixels and classes."""
    mean_difference: float
    equal_classes: float
    """Share of pixels with the same most probable class."""
    tiles: int
    pixels: int
    source: str

    @property
    def holds(self) -> bool:
        """Tell whether the exported model may be used in place of the network."""
        return self.max_difference <= MAX_DIFFERENCE and self.equal_classes >= EQUAL_CLASSES

    def text(self) -> str:
        """Return the report in one line."""
        gap = f"{self.max_difference:.1e}" if self.max_difference else "0"
        return (
            f"probabilities differ by {gap} at most, {100 * self.equal_classes:.3f} % of pixels "
            f"have the same class ({self.tiles} tiles of {self.source})"
        )


def gather_tiles(run: Run, spec: ModelSpec, *, n: int = N_TILES) -> Tiles:
    """Gather tiles of the study's validation scenes, else of its test scenes, else of generated scenes.

    Args:
        run: The run; its study is the folder above ``runs/``.
        spec: Bands, type and tile of the model.
        n: How many tiles.
    Returns:
        Up to ``n`` tiles, spread evenly over the scenes.
    """
    try:
        found = _study_tiles(read_dataset(run.folder.resolve().parent.parent), spec, n)
    except RecordError:
        found = None
    return found or _generated_tiles(spec, n)


def _study_tiles(dataset: Dataset, spec: ModelSpec, n: int) -> Tiles | None:
    """Cut tiles of a data set; ``None`` where it has not the model's bands or type."""
    if dataset.bands != spec.bands or spec.dtype not in (None, dataset.dtype):
        return None
    names, side = dataset.ids("val") or dataset.ids("test"), spec.geometry.tile
    split = "validation" if dataset.ids("val") else "test"
    places = [
        (name, window)
        for name in names
        for scene in (dataset.scene(name),)
        for window in windows(scene.height, scene.width, TileGeometry(side, 0))
    ]
    chosen = [places[k] for k in np.unique(np.linspace(0, len(places) - 1, n).astype(int))] if places else []
    if not chosen:
        return None
    tiles = [
        pad_tile(
            np.asarray(dataset.open(name).pixels[w.row : w.row + w.height, w.col : w.col + w.width]),
            side,
            side,
        )
        for name, w in chosen
    ]
    return Tiles(np.stack(tiles), f"the study's {split} scenes")


def _generated_tiles(spec: ModelSpec, n: int) -> Tiles:
    """Cut tiles of generated scenes: three colours, repeated over the bands and stretched to the type's full scale."""
    side = spec.geometry.tile
    images = [generate_scene(0, index, max(SMALLEST, side))[0][:side, :side] for index in range(n)]
    stored = np.stack(images)[..., np.arange(spec.bands) % 3]
    if spec.dtype not in (None, "uint8"):
        stored = (stored * (full_scale(spec.dtype) / 255)).astype(spec.dtype)
    return Tiles(stored, "generated scenes")


@torch.inference_mode()
def compare_models(model: Model, exported: Model, tiles: Tiles, runtime: Runtime) -> Parity:
    """Run a network and its exported form over the same tiles.

    Args:
        model: The network on the CPU, in evaluation mode.
        exported: The exported model.
        tiles: What to run them over.
        runtime: CPU, float32.
    Raises:
        ModelError: The exported model makes another number of classes or another size.
    """
    ours = Normaliser(model.spec.mean, model.spec.std, runtime.device)
    theirs = Normaliser(exported.spec.mean, exported.spec.std, runtime.device)
    largest, total, equal, values = 0.0, 0.0, 0, 0
    for tile in tiles.stored:
        stored = torch.from_numpy(np.ascontiguousarray(tile[None]))
        expected = torch.softmax(model.forward(ours(stored)).float(), dim=1)
        found = exported.forward(theirs(stored)).float()
        found = found if exported.activated else torch.softmax(found, dim=1)
        if found.shape != expected.shape:
            raise ModelError(
                f"{exported.spec.name}: exported, it makes {tuple(found.shape)}, the network {tuple(expected.shape)}. "
                "Report this with the run's card."
            )
        difference = (found - expected).abs().double()
        # A NaN compares as larger than any limit.
        largest = max(largest, float(difference.max().nan_to_num(nan=torch.inf)))
        total += float(difference.sum())
        values += difference.numel()
        equal += int((found.argmax(1) == expected.argmax(1)).sum())
    pixels = int(np.prod(tiles.stored.shape[:3]))
    return Parity(largest, total / values, equal / pixels, len(tiles.stored), pixels, tiles.source)
