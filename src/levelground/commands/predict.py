"""Predict class maps of images and rasters of any size; a job that was stopped is resumed by the same command."""

import contextlib
import dataclasses
import importlib
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic.dataclasses import dataclass

from levelground.config import OPTIONS_CONFIG, DeviceGroup, DeviceOptions, PredictOptions
from levelground.scaling.executors import ClusterGroup, ClusterOptions

if TYPE_CHECKING:
    from levelground.prediction.inputs import InputFile
    from levelground.prediction.predict import PredictedMap


@dataclass(frozen=True, config=OPTIONS_CONFIG)
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
    cluster_options: ClusterGroup = ClusterOptions()


def predict(config: PredictConfig) -> "list[PredictedMap]":
    """Predict class maps of images and rasters.

    Args:
        config: Which model, which inputs, and how.
    Returns:
        The maps that this call finished; none of a cluster, which leaves them as files.
    Raises:
        ModelError: There is no model that can be run.
        LevelgroundError: An input does not fit the model or is truncated; what was finished is kept.
        UnfinishedError: Jobs of a cluster failed; the other maps are finished.
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
    files = find_inputs(config.inputs, config.out, config.prediction)  # torch, which the rest needs, takes seconds
    check_names((), code=() if config.code is None else (config.code,))
    if config.legend is not None:
        read_legend(config.legend)
    if config.cluster_options.cluster is not None:
        return _predict_elsewhere(config, files)
    from levelground.models.loading import open_predictor

    with _imported_meanwhile("levelground.prediction.predict", "rasterio"):
        model, runtime = open_predictor(
            config.model,
            config.prediction,
            config.device_options,
            legend=config.legend,
            mean=config.mean,
            std=config.std,
            code=config.code,
        )
    from levelground.prediction.predict import predict_maps

    return predict_maps(model, files, config.out, config.prediction, runtime)


@contextlib.contextmanager
def _imported_meanwhile(*modules: str) -> Iterator[None]:
    """Import modules in a thread beside the block: torch, and much else, is imported on one core for seconds."""

    def load() -> None:
        with contextlib.suppress(Exception):  # whoever imports it next gets the same error
            for module in modules:
                importlib.import_module(module)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _predict_elsewhere(config: PredictConfig, files: "list[InputFile]") -> "list[PredictedMap]":
    """Predict each input as a job of a cluster, then join their areas; maps are on disk, none is returned."""
    from levelground.errors import ConfigError, UnfinishedError
    from levelground.prediction.areas import JOINT_AREAS_FILE, join_areas
    from levelground.prediction.resume import UNFINISHED_FILE
    from levelground.records import one_writer
    from levelground.scaling.cluster import job_resources, run_jobs
    from levelground.scaling.jobs import Job, MapTask, job_folder

    options, root = config.cluster_options, config.out.resolve() / ".jobs"
    cpus, device = job_resources(options, config.device_options)
    task = MapTask(
        model=config.model.resolve(),
        inputs=tuple(_absolute(given) for given in config.inputs),
        out=config.out.resolve(),
        name="",
        options=config.prediction,
        legend=None if config.legend is None else config.legend.resolve(),
        mean=config.mean,
        std=config.std,
        code=config.code,
    )
    command = tuple(sys.argv[1:])
    jobs = [
        Job(file.name, dataclasses.replace(task, name=file.name), device, command, job_folder(root, file.name))
        for file in files
    ]
    with one_writer(config.out):
        for job, file in zip(jobs, files, strict=True):
            begun = file.checkpoint.exists() or (job.folder / UNFINISHED_FILE).exists()
            if file.outputs.classes.exists() and not begun and not config.prediction.overwrite:
                path = file.outputs.classes
                raise ConfigError(f"{path}: exists already. Pass --overwrite, or choose another --out.")
        failures = run_jobs(jobs, options, cpus=cpus, scratch=root / ".engine", shared=[config.out.resolve()])
        if failures:
            first = f"{failures[0].job.name}: {failures[0].reason}"
            raise UnfinishedError(
                f"{len(failures)} of {len(jobs)} inputs were not predicted, the first {first} "
                "Mend it and give the same command: the others are kept."
            )
        if len(files) > 1:
            join_areas(config.out / JOINT_AREAS_FILE, [(file.name, file.outputs.areas) for file in files])
        shutil.rmtree(root, ignore_errors=True)
    return []


def _absolute(given: str) -> str:
    """Return a file, folder or pattern as other folders name it."""
    return str(Path.cwd() / given)
