"""Train one architecture on a prepared study, or go on with a run that was stopped."""

from pathlib import Path

import tyro
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from levelground.config import Budget, DeviceOptions, Recipe, RunOptions, Seed
from levelground.errors import ConfigError
from levelground.runs import Run


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainConfig:
    """Options of ``train``."""

    study: tyro.conf.Positional[Path | None] = None
    """Study folder that levelground prepare made; not needed with --resume."""
    arch: str | None = None
    """Architecture: unet unetplusplus fpn pspnet deeplabv3 deeplabv3plus linknet manet pan upernet segformer dpt."""
    seed: Seed | None = None
    """Seed of the initial weights and of every crop; none is 0."""
    resume: Path | None = None
    """Run folder to go on with, exactly as its card says; nothing else need be given."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = Recipe()
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget()
    computing: tyro.conf.OmitArgPrefixes[DeviceOptions] = DeviceOptions()
    upkeep: tyro.conf.OmitArgPrefixes[RunOptions] = RunOptions()


def train(config: TrainConfig) -> Run:
    """Train one run in the study's ``runs/``, from its start or from where it was stopped.

    Args:
        config: What to train, or the run to go on with.
    Returns:
        The finished run.
    Raises:
        LevelgroundError: The study is not prepared, the architecture cannot be trained, or a flag contradicts the run.
    """
    if config.resume is not None:
        return _resume(config, config.resume)
    if config.study is None or config.arch is None:
        missing = "STUDY" if config.study is None else "--arch"
        raise ConfigError(f"{missing}: not given. Say levelground train STUDY --arch NAME, or --resume RUN.")
    return _begin(config, config.study, config.arch)


def _begin(config: TrainConfig, study: Path, arch: str) -> Run:
    from levelground.datasets.dataset import read_dataset
    from levelground.records import one_writer
    from levelground.runtime import make_runtime
    from levelground.training.distributed import assist, leading
    from levelground.training.prepare_run import Wish, check_wish, fit_recipe, outputs_of, plan_of, train_wish

    dataset, computing, upkeep = read_dataset(study), config.computing, config.upkeep
    runtime = make_runtime(
        computing.device,
        computing.precision,
        threads=computing.threads,
        processes=upkeep.processes,
        deterministic=upkeep.deterministic,
    )
    if runtime.rank:
        assist(runtime, plan_of)
    with leading(runtime), one_writer(study):
        wish = Wish(arch, config.seed or 0, fit_recipe(config.recipe, dataset), config.budget)
        n_outputs = len(outputs_of(wish.recipe, dataset))
        check_wish(wish, bands=dataset.bands, n_outputs=n_outputs, processes=runtime.processes)
        return train_wish(wish, dataset, study, runtime, workers=upkeep.workers, save_every_s=upkeep.save_every)


def _resume(config: TrainConfig, folder: Path) -> Run:
    from levelground.datasets.dataset import read_dataset
    from levelground.records import one_writer
    from levelground.runs import read_run
    from levelground.runtime import make_runtime
    from levelground.training.distributed import assist, leading
    from levelground.training.prepare_run import plan_of, train_run
    from levelground.training.resuming import (
        Given,
        begun_computing,
        begun_upkeep,
        begun_wish,
        check_data,
        check_given,
        study_of,
    )

    folder, upkeep = folder.resolve(), config.upkeep
    run = read_run(folder)
    check_given(run, Given(config.study, config.arch, config.seed, config.recipe, config.budget))
    study = study_of(run)
    dataset = read_dataset(study)
    check_data(run, dataset)
    computing, kept = begun_computing(run, config.computing), begun_upkeep(run, upkeep)
    runtime = make_runtime(
        computing.device,
        computing.precision,
        threads=computing.threads,
        processes=kept.processes,
        deterministic=kept.deterministic,
    )
    if runtime.rank:
        assist(runtime, plan_of)
    with leading(runtime), one_writer(study):
        run = read_run(folder)  # another process may have finished it in the meantime
        return train_run(
            begun_wish(run), dataset, folder, run, runtime, workers=upkeep.workers, save_every_s=upkeep.save_every
        )
