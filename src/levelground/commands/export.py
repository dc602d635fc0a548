"""Write a run's model as an ONNX file or an SMP folder for other tools, and check it against the run's network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from levelground.config import OPTIONS_CONFIG, ExportFormat, ExportOptions

if TYPE_CHECKING:
    from levelground.runs import Run


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class ExportConfig:
    """Options of ``export``."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a finished or adopted run."""
    to: Annotated[tuple[ExportFormat, ...], Field(min_length=1)] = ("onnx",)
    """Formats: onnx (one file, for QGIS, geodeep and onnxruntime), smp (a folder for smp.from_pretrained), openvino;
    onnx-int8 and openvino-int8 (8 bits, scored on the test scenes and rejected where worse); stac (a STAC item of the
    model and its files)."""
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
        RejectedError: An 8-bit form is worse than the network by δ or more; the other formats are done.
        LevelgroundError: It cannot be exported; formats before it are done.
    """
    import importlib.util

    from levelground.errors import ModelError, RejectedError
    from levelground.models.loading import check_names
    from levelground.models.spec import read_model_spec
    from levelground.runs import read_run

    run = read_run(config.run)
    read_model_spec(run)
    check_names((), code=() if config.code is None else (config.code,))
    for to in config.to:
        needed = {"smp": (), "stac": (), "onnx": ("onnxscript",), "openvino": ("onnxscript", "openvino")}
        for library in needed.get(to, ("onnxscript", "openvino", "nncf")):
            if importlib.util.find_spec(library) is None:
                extra = "export" if library == "onnxscript" else "deploy"
                raise ModelError(f"--to {to}: {library} is not installed. pip install 'levelground[{extra}]'")
    # Torch, which the rest needs, takes seconds.
    from levelground.exporting.export import refuse_existing
    from levelground.models.own_networks import is_own, name_network

    if "smp" in config.to and is_own(run.arch):
        raise ModelError(f"--to smp: {run.arch} is not of segmentation_models_pytorch. Give --to onnx.")
    if config.code is not None:
        name_network(config.code)
    if not config.options.overwrite:
        refuse_existing(run, config.to)
    made, rejected = [], []
    for to in sorted(dict.fromkeys(config.to), key=lambda to: (to == "stac", to.endswith("int8"))):
        try:
            made.append(_export(run, to, config.options))
        except RejectedError as error:
            rejected.append(error)
    if rejected:
        raise RejectedError(" ".join(map(str, rejected)))
    return made


def _export(run: "Run", to: ExportFormat, options: ExportOptions) -> Path:
    """Export in one format."""
    if to == "stac":
        from levelground.exporting.export import write_item

        return write_item(run, overwrite=options.overwrite)
    if to.endswith("int8"):
        from levelground.exporting.int8 import export_int8

        return export_int8(run, to, options)
    from levelground.exporting.export import export_run

    return export_run(run, to, options)
