"""Count the right and wrong pixels of runs in each scene of a split; counts that are there already are reused."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic.dataclasses import dataclass

from levelground.config import OPTIONS_CONFIG, DeviceGroup, DeviceOptions, TileOptions

if TYPE_CHECKING:
    from levelground.runs import Run


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class EvaluateConfig:
    """Options of ``evaluate``."""

    study: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STUDY")]
    """Study folder with dataset.json and runs/, or the folder of one run in it."""
    runs: tuple[str, ...] = ()
    """Names of runs in the study; without any, every run that has a model."""
    split: Literal["test", "val"] = "test"
    """Scenes to evaluate on. Every evaluation on test is written down, and the report shows their number."""
    on: Path | None = None
    """Study of another data set: the runs are copied into it as RUN-from-STUDY, keep their normalisation, and are
    evaluated on its scenes."""
    class_map: tuple[str, ...] = ()
    """With --on: FROM=CLASS for classes of the runs, by name or number, that have another name there; several may
    become one."""
    code: tuple[str, ...] = ()
    """Code of runs whose network is your own, FILE.py:FUNCTION each; it runs only where it is named."""
    tiles: tyro.conf.OmitArgPrefixes[TileOptions] = TileOptions()
    device_options: DeviceGroup = DeviceOptions()


def evaluate(config: EvaluateConfig) -> list[Path]:
    """Evaluate runs of a study, on its own scenes or on those of another one.

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
    from levelground.models.loading import check_names

    if config.class_map and config.on is None:
        raise ConfigError("--class-map names the classes of another data set. Give its study with --on, or leave it.")
    study, runs = _named_runs(config)
    dataset = read_dataset(config.on or study)  # torch, which the rest needs, takes seconds
    check_names((), code=config.code)
    from levelground.evaluation.evaluate import check_evaluable, evaluate_run
    from levelground.evaluation.transfer import transfer_run
    from levelground.exporting.model_card import write_model_card
    from levelground.models.own_networks import name_network
    from levelground.models.spec import choose_run_geometry
    from levelground.records import one_writer
    from levelground.runtime import open_runtime, refuse_other_device

    for source in config.code:
        name_network(source)
    if dataset.split.folds:
        raise ConfigError(_about_folds(dataset.folder, len(dataset.split.folds)))
    for run in runs:
        choose_run_geometry(run, config.tiles)
    with one_writer(dataset.folder):
        if config.on is not None:
            runs = [transfer_run(run, dataset, config.split, class_map=config.class_map) for run in runs]
        for run in runs:
            check_evaluable(run, dataset, config.split)
        device = config.device_options
        if config.tiles.engine == "openvino":
            device = dataclasses.replace(device, device=refuse_other_device(device.device))
        runtime = open_runtime(device)
        paths = []
        for run in runs:
            evaluated = evaluate_run(run, dataset, config.split, runtime=runtime, tiles=config.tiles)
            paths.append(evaluated.counts_path(config.split))
            write_model_card(evaluated)
    say("Next: levelground compare %(folder)s", folder=config.on or config.study)
    return paths


def _named_runs(config: EvaluateConfig) -> tuple[Path, list["Run"]]:
    """Return the study and the runs in it that are asked for."""
    from levelground.console import say
    from levelground.datasets.dataset import read_dataset
    from levelground.errors import ConfigError
    from levelground.files import folders_without
    from levelground.runs import RUN_FILE, list_runs, read_run, runs_folder

    if (config.study / "run.json").exists():
        if config.runs:
            raise ConfigError(f"{config.study}: is one run, so --runs names none in it. Leave --runs away.")
        return config.study.resolve().parent.parent, [read_run(config.study)]
    cardless = [] if config.runs else folders_without(runs_folder(config.study), RUN_FILE)
    if cardless:
        say(
            "Warning: left out, without a card (%(run_file)s): %(cardless)s.",
            run_file=RUN_FILE,
            cardless=", ".join(map(str, cardless)),
        )
    named = [read_run(runs_folder(config.study) / name) for name in config.runs]
    found = named or list_runs(config.study)
    folds = next((len(run.card.folds) for run in found if run.card.folds), 0)
    if folds:
        raise ConfigError(_about_folds(config.study, folds))
    runs = named or [run for run in found if run.card.outputs]
    if not runs and not read_dataset(config.study).split.folds:
        raise ConfigError(f"{config.study}: no run with a model in runs/. Train or adopt one first.")
    return config.study, runs


def _about_folds(study: Path, folds: int) -> str:
    """Say why the study of all folds is not evaluated at once."""
    return (
        f"{study}: is in {folds} folds, whose runs are evaluated each on its own test scenes. "
        f"Say levelground evaluate {study / 'folds' / '1'}, or levelground study for all of them."
    )
