"""Make a run of another tool's weights or predicted masks, to be evaluated and compared like any other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic.dataclasses import dataclass

from levelground.config import OPTIONS_CONFIG, PredictionOptions, Seed, WeightsOptions
from levelground.runs import Run

if TYPE_CHECKING:
    from levelground.adoption.adopted_runs import TrainingName
    from levelground.datasets.dataset import Dataset


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class AdoptConfig:
    """Options of ``adopt``."""

    weights: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="WEIGHTS")] = None
    """File of weights (.pth, .ckpt, .safetensors) of a network of segmentation_models_pytorch, or a folder with them
    and config.json; or a whole network in ONNX or TorchScript; left out with --predictions."""
    study: Path = Path()
    """Prepared study folder that gets the run; by default the current folder."""
    network: tyro.conf.OmitArgPrefixes[WeightsOptions] = WeightsOptions()
    predictions: Path | None = None
    """Folder of predictions in place of weights, one file a scene: masks of colours or class indices, or arrays (.npy,
    .npz) of classes or probabilities."""
    reading: tyro.conf.OmitArgPrefixes[PredictionOptions] = PredictionOptions()
    name: str | None = None
    """Name of the run; without it, one of architecture and encoder, or the masks' folder's."""
    as_: Annotated[str | None, tyro.conf.arg(name="as")] = None
    """Name of the architecture that this is one training of; runs with the same name and other seeds are compared as
    one architecture. Needs --seed. Without it, the weights' own."""
    seed: Seed | None = None
    """Seed, or number, of this training; without it, the run stands alone, without a verdict on its architecture."""


def adopt(config: AdoptConfig) -> Run:
    """Adopt weights or predicted masks into a prepared study.

    Args:
        config: What to adopt.
    Returns:
        The run; masks are counted already, weights are evaluated by ``levelground evaluate``.
    Raises:
        ConfigError: Both or neither of weights and predictions are given, or a flag goes with the other one.
        LevelgroundError: They do not fit the study.
    """
    from levelground.adoption.adopted_runs import TrainingName
    from levelground.console import say
    from levelground.datasets.dataset import read_dataset, warn_of_unlike
    from levelground.errors import ConfigError, WeightsError
    from levelground.models.loading import check_names
    from levelground.records import one_writer

    history = config.network.history
    if config.weights is not None and config.predictions is not None:
        raise ConfigError("give either a file of weights or --predictions FOLDER, and not both.")
    if config.weights is None and config.predictions is None and history is None:
        raise ConfigError("nothing to adopt. Give a file of weights, --predictions FOLDER or --history FILE.")
    dataset, training = read_dataset(config.study), TrainingName(config.name, config.as_, config.seed)
    warn_of_unlike(dataset)
    if config.weights is None:
        _refuse_flags_of_weights(config)
        with one_writer(dataset.folder):
            return _adopt_results(config, dataset, training)
    if config.reading != PredictionOptions():
        raise ConfigError(
            "--split, --names, --class-map, --snap-colours and --blue-first read --predictions, not weights."
        )
    if not config.weights.exists():
        raise WeightsError(f"{config.weights}: no such file or folder. Give a .safetensors, .pth, .pt or .onnx file.")
    check_names(() if config.network.arch is None else (config.network.arch,), config.network.encoder)
    from levelground.adoption.weights import adopt_program, adopt_weights
    from levelground.exporting.model_card import write_model_card
    from levelground.models.checkpoints import program_kind

    with one_writer(dataset.folder):
        make = adopt_weights if program_kind(config.weights) is None else adopt_program
        run = make(config.weights, dataset, config.network, training)
        write_model_card(run)
    say(
        "Adopted as %(folder)s. Next: levelground evaluate %(folder2)s --runs %(name)s",
        folder=run.folder,
        folder2=dataset.folder,
        name=run.name,
    )
    return run


def _adopt_results(config: AdoptConfig, dataset: "Dataset", training: "TrainingName") -> Run:
    """Adopt predictions, a history, or both."""
    from levelground.adoption.histories import adopt_history, attach_history, read_history_file
    from levelground.console import say

    history = config.network.history
    if config.predictions is None:
        assert history is not None  # one of the three is given
        run = adopt_history(history, dataset, training)
        say(
            "Adopted as %(folder)s: a history, without predictions to compare. --predictions may add them.",
            folder=run.folder,
        )
        return run
    read = read_history_file(history) if history is not None else None
    from levelground.adoption.predictions import adopt_predictions

    run = adopt_predictions(config.predictions, dataset, config.reading, training)
    if read is not None:
        run = attach_history(run, *read)
    say("Next: levelground compare %(folder)s", folder=dataset.folder)
    return run


def _refuse_flags_of_weights(config: AdoptConfig) -> None:
    """Refuse flags that describe a network where masks are adopted."""
    from levelground.errors import ConfigError

    given = ("arch", "encoder", "classes", "outputs", "decoder", "part", "normalise")
    first = next((flag for flag in given if getattr(config.network, flag)), None)
    if first is not None:
        raise ConfigError(f"--{first} describes weights, --predictions gives masks. Leave --{first} away.")
