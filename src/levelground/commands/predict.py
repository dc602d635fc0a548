"""Predict class maps of images and rasters of any size; a job that was stopped is resumed by the same command."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from levelground.config import DeviceGroup, DeviceOptions, PredictOptions

if TYPE_CHECKING:
    from levelground.prediction.predict import PredictedMap


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PredictConfig:
    """Options of ``predict``."""

    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")]
    """Run folder, folder with config.json and model.safetensors, .onnx file, or OpenVINO's .xml file."""
    inputs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="INPUTS ...")]
    """Images, rasters, folders (with all their subfolders) and patterns such as 'scenes/*.tif'."""
    out: Path = Path("maps")
    """Folder of the maps; subfolders of a folder that was given are kept in it."""
    prediction: tyro.conf.OmitArgPrefixes[PredictOptions] = PredictOptions()
    legend: Path | None = None
    """Legend of another tool's model, a TOML file; ours bring their own."""
    mean: tuple[float, ...] | None = None
    """Band means that another tool's model expects, in the units of the pixels."""
    std: tuple[float, ...] | None = None
    """Band deviations likewise."""
    code: str | None = None
    """Code of a run whose network is your own, FILE.py:FUNCTION; it runs only where it is named."""
    device_options: DeviceGroup = DeviceOptions()


def predict(config: PredictConfig) -> "list[PredictedMap]":
    """Predict class maps of images and rasters.

    Args:
        config: Which model, which inputs, and how.
    Returns:
        The maps that this call finished.
    Raises:
        ModelError: There is no model that can be run.
        LevelgroundError: An input does not fit the model or is truncated; what was finished is kept.
        KeyboardInterrupt: The job was stopped; the same command resumes it.
    """
    from levelground.errors import ModelError
    from levelground.imagery.legend_sources import read_legend
    from levelground.models.loading import check_names
    from levelground.prediction.inputs import find_inputs

    if not config.model.exists():
        raise ModelError(
            f"{config.model}: no such file or folder. Give a run folder, a folder with config.json and "
            "model.safetensors, an .onnx or an .xml file."
        )
    inputs = find_inputs(config.inputs, config.out, config.prediction)  # torch, which the rest needs, takes seconds
    check_names((), code=() if config.code is None else (config.code,))
    if config.legend is not None:
        read_legend(config.legend)
    from levelground.models.loading import choose_engine, open_model, program_of
    from levelground.prediction.predict import predict_maps
    from levelground.runtime import open_array_runtime, open_runtime, refuse_other_device

    if config.code is not None:
        from levelground.models.own_networks import name_network

        name_network(config.code)
    options, device = config.prediction, config.device_options
    engine = choose_engine(config.model, options.engine, options, device.device)
    if engine == "openvino":
        device = dataclasses.replace(device, device=refuse_other_device(device.device))
    if engine != "torch" and program_of(config.model, engine, options) is not None:
        runtime = open_array_runtime(device, engine=engine)
    else:
        runtime = open_runtime(device)
    model = open_model(
        config.model, runtime, legend=config.legend, mean=config.mean, std=config.std, engine=engine, tiles=options
    )
    return predict_maps(model, inputs, config.out, config.prediction, runtime)
