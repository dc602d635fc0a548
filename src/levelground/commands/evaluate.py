"""Count the right and wrong pixels of runs in each scene of a split; counts that are there already are reused."""

from pathlib import Path
from typing import Literal

import tyro
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from levelground.config import DeviceGroup, DeviceOptions, TileOptions


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EvaluateConfig:
    """Options of ``evaluate``."""

    study: tyro.conf.Positional[Path]
    """Study folder with dataset.json and runs/, or the folder of one run in it."""
    runs: tuple[str, ...] = ()
    """Names of runs in the study; none takes every run that has a model."""
    split: Literal["test", "val"] = "test"
    """Scenes to evaluate on. Every evaluation on test is written down, and the report shows their number."""
    tiles: tyro.conf.OmitArgPrefixes[TileOptions] = TileOptions()
    device_options: DeviceGroup = DeviceOptions()


def evaluate(config: EvaluateConfig) -> list[Path]:
    """Evaluate runs of a study.

    Args:
        config: What to evaluate.
    Returns:
        The counts files, in the order of the runs.
    Raises:
        RecordError: There is no such study or run.
        LevelgroundError: A run cannot be evaluated on these scenes; those before it are done.
    """
    from levelground.console import say
    from levelground.datasets.dataset import read_dataset
    from levelground.errors import ConfigError
    from levelground.evaluation.evaluate import check_evaluable, evaluate_run
    from levelground.exporting.model_card import write_model_card
    from levelground.models.spec import run_geometry
    from levelground.records import one_writer
    from levelground.runs import list_runs, read_run, runs_folder
    from levelground.runtime import open_runtime
    from levelground.tile_geometry import choose_geometry

    if (config.study / "run.json").exists():
        if config.runs:
            raise ConfigError(f"{config.study}: is one run, so --runs names none in it. Leave --runs away.")
        study = config.study.resolve().parent.parent
        runs = [read_run(config.study)]
    else:
        study = config.study
        named = [read_run(runs_folder(study) / name) for name in config.runs]
        runs = named or [run for run in list_runs(study) if run.card.outputs]
    dataset = read_dataset(study)
    joined = [run for run in runs if run.card.folds]
    if joined or (dataset.split.folds and not runs):
        raise ConfigError(
            f"{study}: is in {len(dataset.split.folds)} folds, whose runs are evaluated each on its own test scenes. "
            f"Say levelground evaluate {study / 'folds' / '1'}, or levelground study for all of them."
        )
    if not runs:
        raise ConfigError(f"{study}: no run with a model in runs/. Train or adopt one first.")
    for run in runs:
        check_evaluable(run, dataset, config.split)
        choose_geometry(run_geometry(run), config.tiles)
    runtime = open_runtime(config.device_options)
    with one_writer(study):
        paths = []
        for run in runs:
            evaluated = evaluate_run(run, dataset, config.split, runtime=runtime, tiles=config.tiles)
            paths.append(evaluated.counts_path(config.split))
            write_model_card(evaluated)
    say(f"Next: levelground compare {config.study}")
    return paths
