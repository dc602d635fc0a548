"""Prepare, train every architecture and seed, evaluate, compare and report; finished parts are not repeated."""

import time
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic.dataclasses import dataclass

from levelground.config import OPTIONS_CONFIG, DeviceGroup, DeviceOptions, PrepareOptions, StudyOptions
from levelground.errors import ConfigError
from levelground.records import one_writer
from levelground.scaling.executors import ClusterGroup, ClusterOptions

if TYPE_CHECKING:
    from levelground.comparison.record import Comparison


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class StudyConfig:
    """Options of ``study``."""

    scenes: tyro.conf.OmitArgPrefixes[PrepareOptions] = PrepareOptions()
    study: Annotated[tyro.conf.OmitArgPrefixes[StudyOptions], tyro.conf.arg(name="")] = StudyOptions()
    device_options: DeviceGroup = DeviceOptions()
    cluster_options: ClusterGroup = ClusterOptions()
    track: str | None = None
    """Send curves, scores and verdicts to a tracker while the study runs, from a process beside it: tensorboard,
    tensorboard:FOLDER, mlflow:URI or mlflow, as levelground track takes them."""

    def __post_init__(self) -> None:
        """Refuse several processes for each run of a cluster."""
        processes = self.study.run_options.processes
        if self.cluster_options.cluster is not None and processes not in (None, 1):
            raise ConfigError(f"--processes {processes}: a run of --cluster is one process. Drop one of the two.")


def study(config: StudyConfig) -> "Comparison":
    """Run a whole study: train, evaluate, compare and report.

    Args:
        config: Which models to compare, on which data.
    Returns:
        The comparison, on disk in the study's folder beside its tables, figures and ``report.html``.
    Raises:
        LevelgroundError: Something cannot be done; what is finished stays.
    """
    from levelground.comparison.record import FILE as COMPARISON_FILE
    from levelground.datasets.data_source import check_data
    from levelground.models.loading import check_names
    from levelground.scaling.cluster import import_ahead
    from levelground.scaling.engines import check_engine

    check_data(config.scenes)  # torch, which the rest needs, takes seconds
    options, cluster = config.study, config.cluster_options
    check_engine(cluster)
    check_names(
        options.archs, options.recipe.encoder, encoder_weights=options.recipe.encoder_weights, init=options.init
    )
    if not (config.scenes.out / COMPARISON_FILE).exists():  # nothing may be left to train
        import_ahead(cluster, config.device_options)
    if config.track is None:
        return _study(config)
    from levelground.scaling.tracking import tracked

    with tracked(config.scenes.out, config.track):
        return _study(config)


def _study(config: StudyConfig) -> "Comparison":
    """Prepare, train, evaluate, compare and report, here or on a cluster."""
    started = time.monotonic()
    from levelground.datasets.prepare import prepare_dataset
    from levelground.pipeline import check_study, run_study
    from levelground.runtime import open_runtime
    from levelground.training.distributed import main_process
    from levelground.training.prepare_run import worker_job

    options, cluster = config.study, config.cluster_options
    check_study(options, processes=options.run_options.processes or 1)
    if cluster.cluster is not None:
        from levelground.scaling.cluster import train_elsewhere

        with one_writer(config.scenes.out):
            dataset = prepare_dataset(config.scenes)
        runtime = open_runtime(DeviceOptions(device="cpu"))
        return run_study(
            dataset,
            options,
            runtime,
            lambda runs: train_elsewhere(runs, dataset.folder, cluster, config.device_options, options.run_options),
            since=started,
        )
    runtime = open_runtime(config.device_options, options.run_options)
    with main_process(runtime, worker_job):
        with one_writer(config.scenes.out):
            dataset = prepare_dataset(config.scenes)
        return run_study(dataset, options, runtime, since=started)
