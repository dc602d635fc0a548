"""Write a run's model as an ONNX file or an SMP folder for other tools, and check it against the run's network."""

from pathlib import Path
from typing import Annotated

import tyro
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from levelground.config import ExportFormat, ExportOptions


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ExportConfig:
    """Options of ``export``."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a finished or adopted run."""
    to: Annotated[tuple[ExportFormat, ...], Field(min_length=1)] = ("onnx",)
    """Formats: onnx (one file, for QGIS, geodeep and onnxruntime), smp (a folder for smp.from_pretrained)."""
    code: str | None = None
    """Code of a run whose network is your own, FILE.py:FUNCTION; it runs only where it is named."""
    options: tyro.conf.OmitArgPrefixes[ExportOptions] = ExportOptions()


def export(config: ExportConfig) -> list[Path]:
    """Export a run's model into ``RUN/export/``.

    Args:
        config: What to export.
    Returns:
        The file or folder of each format.
    Raises:
        RecordError: There is no such run.
        LevelgroundError: It cannot be exported; formats before it are done.
    """
    import importlib.util

    from levelground.errors import ModelError
    from levelground.models.loading import check_names
    from levelground.models.spec import read_model_spec
    from levelground.runs import read_run

    run = read_run(config.run)
    read_model_spec(run)
    check_names((), code=() if config.code is None else (config.code,))
    if "onnx" in config.to and importlib.util.find_spec("onnxscript") is None:
        raise ModelError("--to onnx: onnxscript is not installed. pip install 'levelground[export]'")
    # Torch, which the rest needs, takes seconds.
    from levelground.exporting.export import export_run, refuse_existing
    from levelground.models.own_networks import is_own, name_network

    if "smp" in config.to and is_own(run.arch):
        raise ModelError(f"--to smp: {run.arch} is not of segmentation_models_pytorch. Give --to onnx.")
    if config.code is not None:
        name_network(config.code)
    if not config.options.overwrite:
        refuse_existing(run, config.to)
    return [export_run(run, to, config.options) for to in dict.fromkeys(config.to)]
