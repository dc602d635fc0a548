"""Train one architecture on a prepared study, or resume a run that was stopped."""

import contextlib
from pathlib import Path
from typing import Annotated

import tyro
from pydantic.dataclasses import dataclass

from levelground.config import OPTIONS_CONFIG, Budget, DeviceGroup, DeviceOptions, Recipe, RunGroup, RunOptions, Seed
from levelground.errors import ConfigError
from levelground.runs import Run


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class TrainConfig:
    """Options of ``train``."""

    study: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="STUDY")] = None
    """Study folder that levelground prepare made; not needed with --resume."""
    arch: str | None = None
    """Architecture: unet unetplusplus fpn pspnet deeplabv3 deeplabv3plus linknet manet pan upernet segformer dpt;
    or FILE.py:FUNCTION for a network of your own, hf:FOLDER_OR_NAME for one of transformers."""
    seed: Seed | None = None
    """Seed of the initial weights and of every crop; by default 0."""
    init: Annotated[str | None, tyro.conf.arg(aliases=("--load-from-checkpoint",))] = None
    """Whole network to start from: a run, a folder with a model, or weights of any kind that adopt reads, PATH or
    PATH::PART; brings architecture and encoder. Outputs of other classes start anew. The origin study's name for it is
    load_from_checkpoint."""
    resume: Path | None = None
    """Run folder to go on with, exactly as its card says; nothing else need be given."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = Recipe()
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget()
    device_options: DeviceGroup = DeviceOptions()
    run_options: RunGroup = RunOptions()
    track: str | None = None
    """Send curves to a tracker while the run is trained, from a process beside it: tensorboard, tensorboard:FOLDER,
    mlflow:URI or mlflow, as levelground track takes them."""


def train(config: TrainConfig) -> Run:
    """Train one run in the study's ``runs/``, from its start or from where it was stopped.

    Args:
        config: What to train, or the run to go on with.
    Returns:
        The finished run.
    Raises:
        LevelgroundError: The study is not prepared, the architecture cannot be trained, or a flag contradicts the run.
    """
    if config.track is None:
        return _train(config)
    from levelground.scaling.tracking import tracked

    study = config.resume.resolve().parent.parent if config.resume is not None else config.study
    with tracked(study, config.track) if study is not None else contextlib.nullcontext():
        return _train(config)


def _train(config: TrainConfig) -> Run:
    """Train or resume the run, and write its model card."""
    if config.resume is not None:
        run = _resume(config, config.resume)
    elif config.study is None or (config.arch is None and config.init is None):
        missing = "STUDY" if config.study is None else "--arch"
        raise ConfigError(f"{missing}: not given. Say levelground train STUDY --arch NAME, or --resume RUN.")
    else:
        run = _start(config, config.study, config.arch)
    from levelground.exporting.model_card import write_model_card

    write_model_card(run)
    return run


def _start(config: TrainConfig, study: Path, arch: str | None) -> Run:
    """Train the run that the flags ask for, from its start or from where it was stopped."""
    from levelground.datasets.dataset import read_dataset, warn_of_unlike
    from levelground.models.loading import check_names

    dataset = read_dataset(study)  # torch, which the rest needs, takes seconds
    check_names(
        () if arch is None else (arch,),
        config.recipe.encoder,
        encoder_weights=config.recipe.encoder_weights,
        init=() if config.init is None else (config.init,),
    )
    from levelground.records import one_writer
    from levelground.runtime import open_runtime
    from levelground.training.distributed import main_process
    from levelground.training.initial_weights import find_initial, fit_to_initial
    from levelground.training.prepare_run import train_run, worker_job
    from levelground.training.run_spec import RunSpec, check_run_spec, fit_recipe, output_classes

    if dataset.split.folds:
        raise ConfigError(
            f"{study}: is in {len(dataset.split.folds)} folds, each a data set of its own. Say levelground train "
            f"{study / 'folds' / '1'} --arch {arch or 'NAME'}, or levelground study for all of them."
        )
    runtime = open_runtime(config.device_options, config.run_options)
    with main_process(runtime, worker_job), one_writer(study):
        start, recipe = None, config.recipe
        if config.init is not None:
            start = find_initial(config.init, arch, recipe)
            arch, recipe = start.arch, fit_to_initial(recipe, start)
        assert arch is not None  # one of the two is given
        spec = RunSpec(arch, config.seed or 0, fit_recipe(recipe, dataset), config.budget, init=start)
        n_outputs = len(output_classes(spec.recipe, dataset))
        check_run_spec(spec, bands=dataset.bands, n_outputs=n_outputs, processes=runtime.processes)
        warn_of_unlike(dataset)
        return train_run(spec, dataset, study, runtime, config.run_options)


def _resume(config: TrainConfig, folder: Path) -> Run:
    """Resume a run as its card says, where the flags do not contradict it."""
    from levelground.datasets.dataset import read_dataset
    from levelground.models.own_networks import is_own, name_network, where_named
    from levelground.records import one_writer
    from levelground.runs import read_run
    from levelground.runtime import open_runtime
    from levelground.training.distributed import main_process
    from levelground.training.initial_weights import find_initial
    from levelground.training.prepare_run import (
        Overrides,
        check_data,
        check_overrides,
        resume_run,
        resumed_device_options,
        resumed_run_options,
        worker_job,
    )

    run = read_run(folder.resolve())
    if config.arch is not None and is_own(config.arch):
        name_network(config.arch)
    elif is_own(run.arch) and ":" in run.arch:  # code is run where it is named only
        raise ConfigError(
            f"{run.name}: is {run.arch}, which is made only where you name it. Say levelground train --resume "
            f"{config.resume} --arch {where_named(run.arch)}"
        )
    start = None if config.init is None else find_initial(config.init, config.arch, config.recipe)
    check_overrides(run, Overrides(config.study, config.arch, config.seed, config.recipe, config.budget, start))
    dataset = read_dataset(run.study)
    check_data(run, dataset)
    options = resumed_run_options(run, config.run_options)
    runtime = open_runtime(resumed_device_options(run, config.device_options), options)
    with main_process(runtime, worker_job), one_writer(run.study):
        run = read_run(run.folder)  # another process may have finished it in the meantime
        return resume_run(run, dataset, runtime, options)
