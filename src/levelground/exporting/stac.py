"""STAC item of a run's model with the machine-learning-model extension (MLM), for catalogues of models."""

import json
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from levelground import __version__
from levelground.exporting.export import export_path, hash_exports, refuse_existing
from levelground.exporting.onnx import INPUT, OUTPUT
from levelground.imagery.legend import hex_colour
from levelground.models.loading import EXPORT_FILES, export_file
from levelground.models.spec import ModelSpec, model_file, read_model_spec
from levelground.records import atomic_path, one_writer, sha256_file
from levelground.runs import Run

SCHEMA_URIS = (
    "https://stac-extensions.github.io/mlm/v1.6.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)
"""Extensions that the item follows."""

_TYPES = {
    ".onnx": "application/octet-stream; application=onnx",
    ".xml": "application/xml; application=openvino",
    ".safetensors": "application/octet-stream; application=safetensors",
}


def write_item(run: Run, *, overwrite: bool = False) -> Path:
    """Write ``RUN/export/item.json``: a STAC item whose assets are the run's weights and the exports that are there.

    Args:
        run: A run with a model.
        overwrite: Whether an older item is replaced.
    Returns:
        The file.
    Raises:
        ConfigError: There is an item already.
        ModelError: The run has no model.
        DiskError: It cannot be written.
    """
    path = export_path(run, "stac")
    if not overwrite:
        refuse_existing(run, ["stac"])
    item = model_item(run, read_model_spec(run))
    with one_writer(path.parent):
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(item, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        hash_exports(path.parent)
    return path


def model_item(run: Run, spec: ModelSpec) -> dict[str, JsonValue]:
    """Return the item of a model: its classes, input, output and files.

    It covers no place, because where a model holds is not known; its time is that of its weights.
    """
    made = datetime.fromtimestamp(model_file(run).stat().st_mtime, UTC).isoformat(timespec="seconds")
    properties: dict[str, JsonValue] = {
        "datetime": made.replace("+00:00", "Z"),
        "title": spec.name,
        "description": f"Land-cover segmentation: {', '.join(spec.legend.names[index] for index in spec.outputs)}.",
        "mlm:name": spec.name,
        "mlm:architecture": run.known_as if spec.arch == "unknown" else f"{spec.arch} ({spec.encoder})",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "PyTorch",
        "mlm:pretrained": False,
        "mlm:input": [_input(spec)],
        "mlm:output": [_output(spec)],
        "processing:software": {"levelground": __version__},
    }
    if run.card.parameters is not None and run.card.parameters.total:
        properties["mlm:total_parameters"] = run.card.parameters.total
    if spec.gsd_m is not None:
        properties["gsd"] = spec.gsd_m
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": list(SCHEMA_URIS),
        "id": spec.name,
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": _assets(run),
    }


def _input(spec: ModelSpec) -> dict[str, JsonValue]:
    """Return the input: normalised bands."""
    names = [name for name in spec.band_info.names if name] or [str(band + 1) for band in range(spec.bands)]
    side = spec.geometry.tile or -1
    scaling: list[JsonValue] = [
        {"type": "z-score", "mean": mean, "stddev": std} for mean, std in zip(spec.mean, spec.std, strict=True)
    ]
    return {
        "name": INPUT,
        "bands": list(names),
        "input": {
            "shape": [-1, spec.bands, side, side],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": scaling,
        "description": f"Stored {spec.dtype or 'uint8'} values, normalised band by band; tiles overlap by "
        f"{2 * spec.geometry.halo} px at least.",
    }


def _output(spec: ModelSpec) -> dict[str, JsonValue]:
    """Return the output: a probability for each class."""
    side = spec.geometry.tile or -1
    classes: list[JsonValue] = []
    for index in spec.outputs:
        entry = spec.legend.classes[index]
        colour = hex_colour(entry.colour)
        classes.append(
            {"value": index, "name": _plain_name(entry.name), "description": entry.name, "color_hint": colour}
        )
    return {
        "name": OUTPUT,
        "tasks": ["semantic-segmentation"],
        "bands": [],
        "result": {
            "shape": [-1, len(spec.outputs), side, side],
            "dim_order": ["batch", "class", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": classes,
        "post_processing_function": None,
    }


def _plain_name(name: str) -> str:
    """Return a class name in the letters that the classification extension allows."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in name).strip("-") or "class"


def _assets(run: Run) -> dict[str, JsonValue]:
    """List the run's weights and the exports that are there, with their sizes and hashes."""
    files = {"weights": model_file(run)} | {form: export_file(run, form) for form in EXPORT_FILES}
    assets: dict[str, JsonValue] = {}
    for name, file in files.items():
        if not file.is_file():
            continue
        href = Path("..", "model", file.name) if name == "weights" else file.relative_to(run.folder / "export")
        assets[name] = {
            "href": f"./{href.as_posix()}",
            "type": _TYPES.get(file.suffix, "application/octet-stream"),
            "title": f"{name}: {file.name}",
            "roles": ["mlm:model", "mlm:weights"] if name == "weights" else ["mlm:model"],
            "mlm:artifact_type": {".onnx": "onnx", ".xml": "openvino"}.get(file.suffix, "torch.save"),
            "file:size": file.stat().st_size,
            "file:checksum": "1220" + sha256_file(file),
        }
    return assets
