"""Train one architecture on a prepared study; run again, it goes on where it was stopped."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from levelground.recipe import Budget, Recipe, Seed
from levelground.runs import Run


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainConfig:
    """What to train, and where to compute."""

    study: tyro.conf.Positional[Path]
    """Study folder that levelground prepare made."""
    arch: str
    """Architecture: unet unetplusplus fpn pspnet deeplabv3 deeplabv3plus linknet manet pan upernet segformer dpt."""
    seed: Seed = 0
    """Seed of the initial weights and of every crop."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = Recipe()
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget()
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes CUDA, then MPS, then the CPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of multiplications; auto takes bf16 where the hardware has it."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads; None takes all cores. Other numbers of threads give other last bits of the weights."""
    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    """Loader processes; None takes none on a CPU and up to 8 beside a GPU. They change no sample."""
    save_every: Annotated[float, Field(gt=0)] = 60.0
    """Longest time between two saved states, seconds."""


def train(config: TrainConfig) -> Run:
    """Train one run in the study's ``runs/``.

    Args:
        config: What to train.
    Returns:
        The finished run.
    Raises:
        LevelgroundError: The study is not prepared, or the architecture cannot be trained.
    """
    from levelground.datasets.dataset import read_dataset
    from levelground.learning.planning import Wish, check_wish, fit_recipe, outputs_of, train_wish
    from levelground.networks.runtime import make_runtime
    from levelground.records import one_writer

    dataset = read_dataset(config.study)
    wish = Wish(config.arch, config.seed, fit_recipe(config.recipe, dataset), config.budget)
    check_wish(wish, bands=dataset.bands, n_outputs=len(outputs_of(wish.recipe, dataset)))
    runtime = make_runtime(config.device, config.precision, threads=config.threads)
    with one_writer(config.study):
        return train_wish(wish, dataset, config.study, runtime, workers=config.workers, save_every_s=config.save_every)
