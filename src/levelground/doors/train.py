"""Train one architecture on a prepared study; run again, it goes on where it was stopped."""

from pathlib import Path

import tyro
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from levelground.computing import Computing, Upkeep
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
    computing: tyro.conf.OmitArgPrefixes[Computing] = Computing()
    upkeep: tyro.conf.OmitArgPrefixes[Upkeep] = Upkeep()


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
    runtime = make_runtime(config.computing.device, config.computing.precision, threads=config.computing.threads)
    with one_writer(config.study):
        return train_wish(
            wish, dataset, config.study, runtime, workers=config.upkeep.workers, save_every_s=config.upkeep.save_every
        )
