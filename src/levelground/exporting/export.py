"""``export``: a run's model in a form that other tools run, checked against the run before it appears."""

import contextlib
import dataclasses
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import segmentation_models_pytorch as smp
from torch import nn

from levelground.config import TileOptions
from levelground.console import say
from levelground.errors import ConfigError, ModelError
from levelground.exporting.model_card import card_text
from levelground.exporting.onnx import UNKNOWN_RESOLUTION_CM, write_onnx
from levelground.exporting.parity import EQUAL_CLASSES, MAX_DIFFERENCE, Parity, compare_models, gather_tiles
from levelground.files import writing
from levelground.models.loading import load_model, open_model
from levelground.models.model import Model
from levelground.models.smp_backend import save_model
from levelground.models.spec import SPEC_FILE, ModelSpec, run_spec, write_spec
from levelground.records import Record, atomic_path, one_writer, sha256_file
from levelground.runs import Run
from levelground.runtime import Runtime, make_runtime, versions
from levelground.tile_geometry import TileGeometry, choose_geometry

Form = Literal["onnx", "smp"]

_NAMES: dict[Form, str] = {"onnx": "model.onnx", "smp": "smp"}


def export_path(run: Run, form: Form) -> Path:
    """The file or folder that holds a run's model in a form."""
    return run.folder / "export" / _NAMES[form]


def parity_path(run: Run) -> Path:
    """The report on how a run's exports differ from its network."""
    return run.folder / "export" / "parity.json"


def refuse_existing(run: Run, forms: Iterable[Form]) -> None:
    """Refuse to write over an export.

    Raises:
        ConfigError: One of the forms is there.
    """
    for form in forms:
        if export_path(run, form).exists():
            raise ConfigError(f"{export_path(run, form)}: is there already. Pass --overwrite to replace it.")


WHOLE_SCENE_TILE = 512
"""Side of the tiles of a model that was trained on whole scenes, px."""

_TEMPORARY = ".unfinished-"


@dataclass(frozen=True)
class ExportOptions:
    """How to export."""

    tile: int | None = None
    """Side of a tile, px; ``None`` takes the run's own."""
    gsd_m: float | None = None
    """Metres a pixel; ``None`` takes the run's own."""
    overwrite: bool = False
    threads: int | None = None


def export_run(run: Run, form: Form, options: ExportOptions = ExportOptions()) -> Path:
    """Export a run's model into ``RUN/export/``.

    Args:
        run: A finished or adopted run.
        form: ``onnx`` for one file, ``smp`` for a folder in segmentation_models_pytorch's layout.
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
    spec = _fitted(run_spec(run), options)
    target = export_path(run, form)
    if not options.overwrite:
        refuse_existing(run, [form])
    model = dataclasses.replace(load_model(run), spec=spec)
    runtime = make_runtime("cpu", "fp32", threads=options.threads)
    if form == "onnx":
        _say_of_clients(spec)
    with one_writer(target.parent):
        _sweep_up(target.parent)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=_TEMPORARY) as folder:
            made = Path(folder) / target.name
            _WRITERS[form](run, model, made)
            parity = compare_models(model, _opened(made, form, runtime), gather_tiles(run, spec), runtime)
            if not parity.holds:
                raise ModelError(
                    f"{run.name}: the exported model is not the network: {parity.text()}. {MAX_DIFFERENCE:g} at most "
                    f"and {100 * EQUAL_CLASSES:g} % at least are allowed. Nothing was exported; try another --tile, or "
                    f"--to {'smp' if form == 'onnx' else 'onnx'}."
                )
            _note_parity(parity_path(run), form, made, spec, parity)
            _put(made, target)
    say(f"Exported {target}: {parity.text()}.")
    return target


def _fitted(spec: ModelSpec, options: ExportOptions) -> ModelSpec:
    """The specification with the tile and ground sample distance that were asked for."""
    own = spec.geometry
    if not (options.tile or own.tile):
        own = TileGeometry(WHOLE_SCENE_TILE, WHOLE_SCENE_TILE // 8)
        say(f"{spec.name}: was trained on whole scenes; exported for tiles of {own.tile} px. Or pass --tile.")
    geometry = choose_geometry(own, TileOptions(options.tile))
    return dataclasses.replace(spec, geometry=geometry, gsd_m=options.gsd_m or spec.gsd_m)


def _say_of_clients(spec: ModelSpec) -> None:
    """Say what Deepness and geodeep cannot know or do."""
    if spec.gsd_m is None:
        say(
            f"{spec.name}: ground sample distance unknown; the file says {UNKNOWN_RESOLUTION_CM:g} cm a pixel, "
            "geodeep's default. Pass --gsd to name it."
        )
    if spec.bands != 3:
        say(f"{spec.name}: reads {spec.bands} bands; geodeep runs models of 3 bands only.")
    if spec.dtype not in (None, "uint8"):
        say(f"{spec.name}: learnt from {spec.dtype}; Deepness and geodeep scale such rasters in their own way.")


def _opened(made: Path, form: Form, runtime: Runtime) -> Model:
    """The exported model as others load it."""
    model = open_model(made, runtime)
    if form == "onnx":
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


_WRITERS: dict[Form, Callable[[Run, Model, Path], None]] = {"onnx": _onnx, "smp": _smp}


def _note_parity(path: Path, form: Form, made: Path, spec: ModelSpec, parity: Parity) -> None:
    """Write the report beside those of other forms; it names the weights that it speaks of."""
    weights = made if form == "onnx" else made / "model.safetensors"
    entry = parity.to_json() | {"tile": spec.geometry.tile, "sha256": sha256_file(weights), "versions": _versions()}
    try:
        record: Record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = {}
    others = {key: value for key, value in record.items() if key in _WRITERS} if isinstance(record, dict) else {}
    text = json.dumps({"schema": 1, "kind": "parity"} | others | {form: entry}, indent=1)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    import importlib.metadata

    found = versions()
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _put(made: Path, target: Path) -> None:
    """Move what was made to its place; an older folder is moved aside first, and removed at last."""
    with writing(target):
        if target.is_dir():
            target.replace(made.parent / "old")
        made.replace(target)


def _sweep_up(folder: Path) -> None:
    """Remove what a killed export left; the folder is held by this process."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)
