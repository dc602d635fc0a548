"""Export of a run's model in a format that other tools run, checked against the run's network before it is kept.

A STAC item beside the exports describes them.
"""

import contextlib
import dataclasses
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue
from torch import nn

from levelground import __version__
from levelground.config import ExportFormat, ExportOptions, TileOptions
from levelground.console import say, say_counted
from levelground.errors import ConfigError, ModelError
from levelground.exporting.model_card import card_text
from levelground.exporting.onnx import INPUT, OUTPUT, UNKNOWN_RESOLUTION_CM, write_onnx
from levelground.files import writing
from levelground.imagery.legend import hex_colour
from levelground.inference.parity import EQUAL_CLASSES, MAX_DIFFERENCE, compare_models, gather_tiles
from levelground.models.build import smp
from levelground.models.loading import EXPORT_FILES, export_file, load_model, open_model, parity_path
from levelground.models.model import Model, Overrides
from levelground.models.openvino_backend import open_openvino, read_graph, save_openvino
from levelground.models.smp_backend import save_model
from levelground.models.spec import SPEC_FILE, ModelSpec, model_file, read_model_spec, write_spec
from levelground.reading import parse_json, read_text
from levelground.records import HASHES_FILE, Record, atomic_path, one_writer, sha256_file, write_hashes
from levelground.runs import Run
from levelground.runtime import Runtime, make_runtime, versions
from levelground.tile_geometry import TileGeometry, choose_geometry
from levelground.wording import decimal

_NAMES: dict[ExportFormat, str] = {
    "onnx": "model.onnx",
    "smp": "smp",
    "openvino": "openvino",
    "onnx-int8": "model-int8.onnx",
    "openvino-int8": "openvino-int8",
    "stac": "item.json",
}


def export_path(run: Run, to: ExportFormat) -> Path:
    """Return the file or folder that holds a run's model in a format."""
    return run.folder / "export" / _NAMES[to]


def refuse_existing(run: Run, formats: Iterable[ExportFormat]) -> None:
    """Refuse to replace an export.

    Raises:
        ConfigError: An export in one of the formats exists.
    """
    for to in formats:
        if export_path(run, to).exists():
            raise ConfigError(f"{export_path(run, to)}: exists already. Pass --overwrite to replace it.")


WHOLE_SCENE_TILE = 512
"""Side of the tiles of a model that was trained on whole scenes, px."""

_TEMPORARY = ".unfinished-"


NO_OPTIONS = ExportOptions()
"""Nothing asked for: the run's own tile and ground sample distance, and no older export is replaced."""


def export_run(run: Run, to: ExportFormat, options: ExportOptions = NO_OPTIONS) -> Path:
    """Export a run's model into ``RUN/export/``.

    Args:
        run: A finished or adopted run.
        to: ``onnx`` for one file, ``smp`` for a folder in segmentation_models_pytorch's layout, ``openvino`` for
            OpenVINO's two files.
        options: Tile, ground sample distance, and whether an older export is replaced.
    Returns:
        The file or folder. ``parity.json`` beside it says how it differs from the run's network.
    Raises:
        ConfigError: There is an export already, or the tile cannot work.
        ModelError: The network cannot be exported, or the exported model does not say what the network says; nothing
            is left then.
        WeightsError: The run has no weights.
        DiskError: It cannot be written.
    """
    spec = chosen_spec(read_model_spec(run), options)
    target = export_path(run, to)
    if not options.overwrite:
        refuse_existing(run, [to])
    if to == "smp" and spec.outputs != run.card.outputs:
        raise ModelError(f"{run.name}: sums several outputs into a class, which that library does not. Pass --to onnx.")
    model = dataclasses.replace(load_model(run), spec=spec)
    runtime = make_runtime("cpu", "fp32", threads=options.threads)
    if to == "onnx":
        _warn_of_clients(spec)
    with export_folder(run) as folder:
        made = folder / target.name
        _WRITERS[to](run, model, made)
        parity = compare_models(model, _load_exported(made, to, runtime), gather_tiles(run, spec), runtime)
        if not parity.holds:
            raise ModelError(
                f"{run.name}: the exported model is not the network: {parity.text()}. {MAX_DIFFERENCE:g} at most "
                f"and {100 * EQUAL_CLASSES:g} % at least are allowed. Nothing was exported; try another --tile, or "
                f"--to {'onnx' if to == 'smp' else 'smp'}."
            )
        limits = {"max_difference": MAX_DIFFERENCE, "equal_classes": EQUAL_CLASSES}
        entry = dataclasses.asdict(parity) | {"holds": parity.holds, "limits": limits}
        keep_export(run, to, made, target, spec, entry)
    say("Exported %(target)s: %(text)s.", target=target, text=parity.text())
    return target


@contextlib.contextmanager
def export_folder(run: Run) -> Iterator[Path]:
    """Give a temporary folder in ``RUN/export/``, where this process alone writes; what a killed export left goes."""
    parent = run.folder / "export"
    with one_writer(parent):
        _remove_leftovers(parent)
        with tempfile.TemporaryDirectory(dir=parent, prefix=_TEMPORARY) as folder:
            yield Path(folder)


def keep_export(
    run: Run, to: ExportFormat, made: Path, target: Path, spec: ModelSpec, entry: Mapping[str, object]
) -> None:
    """Move a finished export to its path and write what is known of it into the report.

    Args:
        run: The run.
        to: The format.
        made: The file or folder.
        target: Where it goes.
        spec: What it was made for.
        entry: What was found out about it.
    """
    _write_report(run, to, _weights_of(made), spec, entry)
    target.parent.mkdir(exist_ok=True)
    _move(made, target)
    hash_exports(run.folder / "export")


def _weights_of(made: Path) -> Path:
    """Return the file of an export that is hashed in the report."""
    inner = (made / name for name in ("model.xml", "model.safetensors"))
    return next((file for file in inner if file.exists()), made)


def chosen_spec(spec: ModelSpec, options: ExportOptions) -> ModelSpec:
    """Return the specification with the tile and ground sample distance that were asked for."""
    own = spec.geometry
    if not (options.tile or own.tile):
        own = TileGeometry(WHOLE_SCENE_TILE, WHOLE_SCENE_TILE // 8)
        say(
            "%(name)s: was trained on whole scenes; exported for tiles of %(tile)s px. Or pass --tile.",
            name=spec.name,
            tile=own.tile,
        )
    geometry = choose_geometry(own, TileOptions(options.tile))
    return dataclasses.replace(spec, geometry=geometry, gsd_m=options.gsd or spec.gsd_m)


def _warn_of_clients(spec: ModelSpec) -> None:
    """Warn of what Deepness and geodeep cannot know or do."""
    if spec.gsd_m is None:
        say(
            "%(name)s: ground sample distance unknown; the file says %(unknown_resolution_cm)s cm a "
            "pixel, geodeep's default. Pass --gsd to name it.",
            name=spec.name,
            unknown_resolution_cm=decimal(f"{UNKNOWN_RESOLUTION_CM:g}"),
        )
    if spec.bands != 3:
        say_counted(
            "%(name)s: reads %(n)s band; geodeep runs models of 3 bands only.",
            "%(name)s: reads %(n)s bands; geodeep runs models of 3 bands only.",
            spec.bands,
            name=spec.name,
        )
    if spec.dtype not in (None, "uint8"):
        say(
            "%(name)s: learnt from %(dtype)s; Deepness and geodeep scale such rasters in their own way.",
            name=spec.name,
            dtype=spec.dtype,
        )


def _load_exported(made: Path, to: ExportFormat, runtime: Runtime) -> Model:
    """Load the exported model as other tools do."""
    if to == "openvino":
        return open_openvino(made / "model.xml", runtime, Overrides())
    model = open_model(made, runtime)
    if to == "onnx":
        return model
    with contextlib.redirect_stdout(io.StringIO()):  # the hub's client prints where it reads from
        network: nn.Module = smp.from_pretrained(made).eval()
    return model.with_forward(network)


def _onnx(run: Run, model: Model, path: Path) -> None:
    write_onnx(model, path)


def _smp(run: Run, model: Model, folder: Path) -> None:
    save_model(model, folder)
    write_spec(model.spec, folder / SPEC_FILE)
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(card_text(run, model.spec), encoding="utf-8")
    write_hashes(folder / HASHES_FILE, (path for path in folder.iterdir() if path.name != HASHES_FILE))


def _openvino(run: Run, model: Model, folder: Path) -> None:
    folder.mkdir()
    write_onnx(model, folder / "model.onnx")
    save_openvino(read_graph(folder / "model.onnx"), folder / "model.xml", model.spec)
    (folder / "model.onnx").unlink()
    write_hashes(folder / HASHES_FILE, folder.glob("model.*"))


_WRITERS: dict[ExportFormat, Callable[[Run, Model, Path], None]] = {"onnx": _onnx, "smp": _smp, "openvino": _openvino}


def _write_report(run: Run, to: ExportFormat, weights: Path, spec: ModelSpec, entry: Mapping[str, object]) -> None:
    """Write the report beside those of other formats, with the hashes of the exported weights and the run's own."""
    path = parity_path(run)
    made_for = {"tile": spec.geometry.tile, "gsd_m": spec.gsd_m, "sha256": sha256_file(weights)}
    entry = dict(entry) | made_for | {"weights_sha256": sha256_file(model_file(run)), "versions": _versions()}
    try:
        record: Record = parse_json(read_text(path))
    except (OSError, ValueError):
        record = {}
    others = {key: value for key, value in record.items() if key in _NAMES} if isinstance(record, dict) else {}
    text = json.dumps({"schema": 1, "kind": "parity"} | others | {to: entry}, indent=1)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    import importlib.metadata

    found = versions()
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hash_exports(folder: Path) -> None:
    """Write the hashes of a run's exports, those of a folder into the folder, which may be moved elsewhere."""
    names = [*_NAMES.values(), "parity.json"]
    write_hashes(folder / HASHES_FILE, [folder / name for name in names if (folder / name).is_file()])


def _move(made: Path, target: Path) -> None:
    """Move a finished export to its path; an older folder is moved aside first, and removed last."""
    with writing(target):
        if target.is_dir():
            target.replace(made.parent / "old")
        made.replace(target)


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a killed export; this process holds the folder's lock."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


SCHEMA_URIS = (
    "https://stac-extensions.github.io/mlm/v1.6.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)
"""Extensions that the item follows."""

_MEDIA_TYPES = {
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
        "mlm:input": [_item_input(spec)],
        "mlm:output": [_item_output(spec)],
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
        "assets": _item_assets(run),
    }


def _item_input(spec: ModelSpec) -> dict[str, JsonValue]:
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


def _item_output(spec: ModelSpec) -> dict[str, JsonValue]:
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


def _item_assets(run: Run) -> dict[str, JsonValue]:
    """List the run's weights and the exports that are there, with their sizes and hashes."""
    files = {"weights": model_file(run)} | {form: export_file(run, form) for form in EXPORT_FILES}
    assets: dict[str, JsonValue] = {}
    for name, file in files.items():
        if not file.is_file():
            continue
        href = Path("..", "model", file.name) if name == "weights" else file.relative_to(run.folder / "export")
        assets[name] = {
            "href": f"./{href.as_posix()}",
            "type": _MEDIA_TYPES.get(file.suffix, "application/octet-stream"),
            "title": f"{name}: {file.name}",
            "roles": ["mlm:model", "mlm:weights"] if name == "weights" else ["mlm:model"],
            "mlm:artifact_type": {".onnx": "onnx", ".xml": "openvino"}.get(file.suffix, "torch.save"),
            "file:size": file.stat().st_size,
            "file:checksum": "1220" + sha256_file(file),
        }
    return assets
