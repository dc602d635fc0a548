"""Write a run's model as an ONNX file or an SMP folder that other tools run; checked against the run's network."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ExportConfig:
    """What to export, and as what."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished or adopted run."""
    to: Annotated[tuple[Literal["onnx", "smp"], ...], Field(min_length=1)] = ("onnx",)
    """Forms: onnx (one file, for QGIS, geodeep and onnxruntime), smp (a folder for smp.from_pretrained)."""
    tile: Annotated[int, Field(ge=32, le=8192)] | None = None
    """Height and width of the ONNX file's input, px, a multiple of 32; None takes what the run was trained on."""
    gsd: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Ground sample distance of the training images, metres a pixel; None takes what the run card says."""
    overwrite: bool = False
    """Replace an older export."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads of the check; None takes all cores."""


def export(config: ExportConfig) -> list[Path]:
    """Export a run's model into ``RUN/export/``.

    Args:
        config: What to export.
    Returns:
        The file or folder of each form.
    Raises:
        RecordError: There is no such run.
        LevelgroundError: It cannot be exported; forms before it are done.
    """
    from levelground.exporting.export import refuse_existing
    from levelground.runs import read_run

    run = read_run(config.run)
    if not config.overwrite:
        refuse_existing(run, config.to)
    from levelground.exporting.export import ExportOptions, export_run

    options = ExportOptions(config.tile, config.gsd, config.overwrite, config.threads)
    return [export_run(run, form, options) for form in dict.fromkeys(config.to)]
