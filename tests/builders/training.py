"""Small runs for the tests of the training core: tiny scenes, a third of a million parameters, milliseconds a step."""

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import load_file

from builders.study import ENCODER
from levelground.config import Budget, Recipe, RunOptions
from levelground.datasets.dataset import Dataset
from levelground.history import HistoryLine, read_history
from levelground.runs import Run
from levelground.runtime import make_runtime
from levelground.training.prepare_run import train_run
from levelground.training.run_spec import RunSpec, fit_recipe

RUNTIME = make_runtime("cpu", "fp32", threads=1)
RECIPE = dataclasses.replace(
    Recipe(),
    encoder=ENCODER,
    encoder_weights="none",
    tile=32,
    halo=4,
    batch=2,
    validations=3,
    select="val_loss",
    select_groups=0,
)


def small_spec(
    dataset: Dataset, *, arch: str = "linknet", seed: int = 0, steps: int = 6, recipe: Recipe = RECIPE
) -> RunSpec:
    """Some steps of a network of a third of a million parameters."""
    return RunSpec(arch, seed, fit_recipe(recipe, dataset), Budget(steps=steps))


def train(
    spec: RunSpec, dataset: Dataset, study: Path, *, save_every_s: float = 60.0, workers: int | None = None
) -> Run:
    """Train a run in a study folder."""
    return train_run(spec, dataset, study, RUNTIME, RunOptions(workers=workers, save_every=save_every_s))


def weights(run: Run) -> dict[str, torch.Tensor]:
    """The selected weights."""
    return load_file(run.model_folder / "model.safetensors")


def history(run: Run) -> list[HistoryLine]:
    """The history without its timings."""
    return [dataclasses.replace(line, time_s=None, images_per_s=None) for line in read_history(run.folder)]


def assert_same_run(first: Run, second: Run) -> None:
    """Weights to the bit, history without timings, and what the card says of the result."""
    assert history(first) == history(second)
    for key in ("identity", "steps_done", "images_seen", "megapixels_seen", "selection", "status"):
        assert getattr(first.card, key) == getattr(second.card, key)
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(value, b[name]) for name, value in a.items())
