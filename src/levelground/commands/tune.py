"""Tune the recipe of each architecture: equal space, trials and budget, on validation scenes only."""

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from levelground.config import OPTIONS_CONFIG, Budget, DeviceGroup, DeviceOptions, Recipe, RunGroup, RunOptions, Seed
from levelground.errors import ConfigError, MissingRecordError, TrainingError, UnfinishedError
from levelground.scaling.executors import ClusterGroup, ClusterOptions, torchrun_processes

if TYPE_CHECKING:
    from levelground.datasets.dataset import Dataset
    from levelground.runtime import Runtime
    from levelground.scaling.tuning import Outcome, Proposal, State, Tuning
    from levelground.training.run_spec import RunSpec

    Train = Callable[[Sequence[Proposal]], Iterator[Outcome]]

LOSS_FAILED = "TrainingError:"
"""How the reason of a job begins whose loss was not a number: a trial that failed, and not a machine."""


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class TuneConfig:
    """Options of ``tune``."""

    study: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STUDY")]
    """Study folder that levelground prepare made."""
    space: Path | None = None
    """What trials may choose: a TOML file with a list of values or {low, high, log} for each recipe field that is
    free."""
    archs: Annotated[tuple[str, ...], Field(min_length=1)] = ("pspnet", "unet", "fpn")
    """Architectures, as study --archs takes them."""
    trials: Annotated[int, Field(ge=1, le=10_000)] = 30
    """Trials of each architecture."""
    steps: Annotated[int, Field(ge=1, le=100_000_000)] = 200
    """Training steps of each trial."""
    seed: Seed = 0
    """Seed of the proposals and of the trials' training."""
    reruns: Annotated[int, Field(ge=0, le=100)] = 2
    """How often the chosen trial is trained again, each time with another seed: by as much lower as those score, the
    best of many trials is optimistic."""
    out: Path | None = None
    """Folder of the journal and of the recipe files; without it, STUDY/tune."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = Recipe()
    device_options: DeviceGroup = DeviceOptions()
    run_options: RunGroup = RunOptions()
    cluster_options: ClusterGroup = ClusterOptions()

    def __post_init__(self) -> None:
        """Refuse several processes for each trial."""
        processes, started = self.run_options.processes, torchrun_processes()
        if processes not in (None, 1):
            raise ConfigError(
                f"--processes {processes}: a trial of tune is one process. Drop the flag, or give --cluster "
                f"local:{processes} in its place: as many trials at a time."
            )
        if started > 1:
            raise ConfigError(
                f"torchrun started {started} processes: a trial of tune is one. Give the command without torchrun, "
                f"with --cluster local:{started} for as many trials at a time."
            )


def tune(config: TuneConfig) -> list[Path]:
    """Tune the recipe of each architecture, through as many calls as it takes; test scenes are never looked at.

    Args:
        config: What to tune, and how long.
    Returns:
        The recipe file of each architecture, for ``study --recipe-for``.
    Raises:
        ConfigError: The space cannot be searched, or Optuna is not installed.
        UnfinishedError: All trials of an architecture failed, or a job of a cluster; what is done stays.
        LevelgroundError: The study is not prepared, or an architecture cannot be trained.
    """
    from levelground.datasets.dataset import read_dataset
    from levelground.scaling.cluster import import_ahead
    from levelground.scaling.tuning import TUNE_FOLDER, Tuning, import_optuna, read_space

    if config.space is None:
        raise ConfigError(
            "--space: not given. Name a TOML file, such as one with the line lr = {low = 1e-4, high = 1e-2}."
        )
    space = read_space(config.space, config.recipe)
    import_optuna()
    import_ahead(config.cluster_options, config.device_options)
    dataset = read_dataset(config.study)  # torch, which the rest needs, takes seconds
    if dataset.split.folds:
        raise ConfigError(f"{config.study}: is in folds. Tune on one of them, such as {config.study / 'folds' / '1'}.")
    from levelground.records import one_writer
    from levelground.training.run_spec import RunSpec, check_run_spec, fit_recipe, output_classes

    recipe, archs = fit_recipe(config.recipe, dataset), tuple(dict.fromkeys(config.archs))
    n_outputs = len(output_classes(recipe, dataset))
    for arch in archs:
        check_run_spec(
            RunSpec(arch, config.seed, recipe, Budget(steps=config.steps)), bands=dataset.bands, n_outputs=n_outputs
        )
    tuning = Tuning(
        folder=config.out or config.study / TUNE_FOLDER,
        space=space,
        recipe=recipe,
        archs=archs,
        trials=config.trials,
        steps=config.steps,
        seed=config.seed,
        reruns=config.reruns,
        data=dataset.digest(),
    )
    with one_writer(tuning.folder):
        tuning.open()
        tuning.run(_trainer(config, tuning, dataset))
        return _report(config, tuning)


def _trainer(config: TuneConfig, tuning: "Tuning", dataset: "Dataset") -> "Train":
    """Return what runs trials: this process, or a cluster."""
    if config.cluster_options.cluster is not None:
        return _train_elsewhere(tuning, dataset, config)
    from levelground.runtime import open_runtime

    return _train_here(tuning, dataset, open_runtime(config.device_options, config.run_options), config.run_options)


def _report(config: TuneConfig, tuning: "Tuning") -> list[Path]:
    """Write the recipe files, and say what was chosen and how optimistic its score is."""
    from levelground.console import say

    paths = []
    for arch in tuning.archs:
        paths.append(tuning.write_recipe(arch))
        say(f"{arch}: {tuning.record(arch).sentence()}")
    pairs = " ".join(f"{arch}={path}" for arch, path in zip(tuning.archs, paths, strict=True))
    say(
        "Next: levelground study --out %(study)s --archs %(archs)s --recipe-for %(pairs)s",
        study=config.study,
        archs=" ".join(tuning.archs),
        pairs=pairs,
    )
    return paths


def _trial_spec(tuning: "Tuning", proposal: "Proposal") -> "RunSpec":
    """Return what a trial trains."""
    from levelground.training.run_spec import RunSpec

    recipe = dataclasses.replace(tuning.recipe, **proposal.params)  # type: ignore[arg-type]
    return RunSpec(proposal.arch, proposal.seed, recipe, Budget(steps=tuning.steps), limits=proposal.limits)


def _trial_dataset(tuning: "Tuning", proposal: "Proposal", dataset: "Dataset") -> "Dataset":
    """Write the data set's record into the folder of a trial."""
    from levelground.datasets.dataset import write_dataset

    folder = tuning.folder / proposal.place
    write_dataset(dataset, folder)
    return dataclasses.replace(dataset, folder=folder)


def _train_here(tuning: "Tuning", dataset: "Dataset", runtime: "Runtime", options: RunOptions) -> "Train":
    """Return a function that runs trials in this process, one after the other."""
    from levelground.training.prepare_run import train_run

    def train(proposals: Sequence["Proposal"]) -> Iterator["Outcome"]:
        for one in proposals:
            own, error = _trial_dataset(tuning, one, dataset), ""
            try:
                train_run(_trial_spec(tuning, one), own, own.folder, runtime, options)
            except TrainingError as failure:
                error = str(failure)
            yield _outcome(tuning, one, own, error)
            shutil.rmtree(own.folder, ignore_errors=True)  # the journal has what is needed of it

    return train


def _train_elsewhere(tuning: "Tuning", dataset: "Dataset", config: TuneConfig) -> "Train":
    """Return a function that runs each trial as a job of a cluster."""
    from levelground.scaling.cluster import job_resources, run_jobs, run_task
    from levelground.scaling.jobs import CLUSTER_FOLDER, Job, job_folder

    cluster, root = config.cluster_options, dataset.folder.resolve() / CLUSTER_FOLDER
    cpus, device = job_resources(cluster, config.device_options)

    def train(proposals: Sequence["Proposal"]) -> Iterator["Outcome"]:
        jobs, folders = [], {}
        for one in proposals:
            own = _trial_dataset(tuning, one, dataset)
            task = run_task(_trial_spec(tuning, one), own, config.run_options, evaluate=False)
            name = f"{tuning.folder.name}/{one.place}"
            jobs.append(Job(name, task, device, tuple(sys.argv[1:]), job_folder(root, name)))
            folders[jobs[-1].folder] = own.folder
        shared = [dataset.folder.resolve(), dataset.cache.resolve()]
        failures = run_jobs(jobs, cluster, cpus=cpus, scratch=root / ".engine", shared=shared)
        reasons = {failure.job.folder: failure.reason for failure in failures}
        broken = {folder: reason for folder, reason in reasons.items() if not reason.startswith(LOSS_FAILED)}
        for one, job in zip(proposals, jobs, strict=True):
            if job.folder not in broken:
                yield _outcome(
                    tuning, one, dataclasses.replace(dataset, folder=folders[job.folder]), reasons.get(job.folder, "")
                )
                for folder in (folders[job.folder], job.folder):
                    shutil.rmtree(folder, ignore_errors=True)
        if broken:
            name, reason = next((job.name, broken[job.folder]) for job in jobs if job.folder in broken)
            raise UnfinishedError(f"{name}: {reason} Mend it and give the same command: the rest is kept.")

    return train


def _outcome(tuning: "Tuning", proposal: "Proposal", own: "Dataset", error: str) -> "Outcome":
    """Return what became of a trial, from its run's card and history."""
    from levelground.history import read_history
    from levelground.scaling.tuning import Outcome
    from levelground.training.run_spec import find_run

    curve: tuple[tuple[int, float], ...] = ()
    value, minutes, done = None, 0.0, 0
    with contextlib.suppress(MissingRecordError):  # it did not begin
        run = find_run(_trial_spec(tuning, proposal), own, own.folder)[1]
        if run is not None:
            scored = [line for line in read_history(run.folder) if line.kind == "val"]
            curve = tuple((line.step, line.val_miou or 0.0) for line in scored)
            minutes, done = (run.card.wall_s or 0.0) / 60, run.card.steps_done or 0
            kept = run.card.selection.step
            value = next((mean for step, mean in curve if step == kept), curve[-1][1] if curve else None)
    state: State = "failed" if error or value is None else "finished" if done >= tuning.steps else "pruned"
    return Outcome(
        arch=proposal.arch,
        number=proposal.number,
        seed=proposal.seed,
        params=dict(proposal.params),
        state=state,
        curve=curve,
        value=None if state == "failed" else value,
        minutes=minutes,
        rerun=proposal.rerun,
        error=(error or "it was not validated") if state == "failed" else "",
    )
