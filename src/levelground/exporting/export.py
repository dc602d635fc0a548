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

from levelground.console import say
from levelground.errors import ConfigError, ModelError
from levelground.exporting.model_card import card_text
from levelground.exporting.onnx import UNKNOWN_RESOLUTION_CM, write_onnx
from levelground.exporting.parity import EQUAL_CLASSES, MAX_DIFFERENCE, Parity, compare_models, gather_tiles
from levelground.files import writing
from levelground.models.build import DIVISOR, SegmentationModel, load_model, save_model
from levelground.models.metadata import PASSPORT_FILE, Passport, run_passport, write_passport
from levelground.models.model import Predictor, open_predictor
from levelground.records import Record, atomic_path, one_writer, sha256_file
from levelground.runs import Run
from levelground.runtime import Runtime, make_runtime, versions

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
    passport = _fitted(run_passport(run), options)
    target = export_path(run, form)
    if not options.overwrite:
        refuse_existing(run, [form])
    model, runtime = load_model(run), make_runtime("cpu", "fp32", threads=options.threads)
    if form == "onnx":
        _say_of_clients(passport)
    with one_writer(target.parent):
        _sweep_up(target.parent)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=_TEMPORARY) as folder:
            made = Path(folder) / target.name
            _WRITERS[form](run, model, passport, made)
            parity = compare_models(model, _opened(made, form, runtime), gather_tiles(run, passport), runtime)
            if not parity.holds:
                raise ModelError(
                    f"{run.name}: the exported model is not the network: {parity.text()}. {MAX_DIFFERENCE:g} at most "
                    f"and {100 * EQUAL_CLASSES:g} % at least are allowed. Nothing was exported; try another --tile, or "
                    f"--to {'smp' if form == 'onnx' else 'onnx'}."
                )
            _note_parity(parity_path(run), form, made, passport, parity)
            _put(made, target)
    say(f"Exported {target}: {parity.text()}.")
    return target


def _fitted(passport: Passport, options: ExportOptions) -> Passport:
    """The passport with the tile and ground sample distance that were asked for."""
    tile, gsd_m = options.tile or passport.tile, options.gsd_m or passport.gsd_m
    if not tile:
        tile = WHOLE_SCENE_TILE
        say(f"{passport.name}: was trained on whole scenes; exported for tiles of {tile} px. Or pass --tile.")
    if tile % DIVISOR:
        near = max(DIVISOR, round(tile / DIVISOR) * DIVISOR)
        raise ConfigError(f"--tile {tile}: no multiple of {DIVISOR}. Pass --tile {near}.")
    halo = passport.halo if tile == passport.tile else tile // 8
    return dataclasses.replace(passport, tile=tile, halo=halo, gsd_m=gsd_m)


def _say_of_clients(passport: Passport) -> None:
    """Say what Deepness and geodeep cannot know or do."""
    if passport.gsd_m is None:
        say(
            f"{passport.name}: ground sample distance unknown; the file says {UNKNOWN_RESOLUTION_CM:g} cm a pixel, "
            "geodeep's default. Pass --gsd to name it."
        )
    if passport.bands != 3:
        say(f"{passport.name}: reads {passport.bands} bands; geodeep runs models of 3 bands only.")
    if passport.dtype not in (None, "uint8"):
        say(f"{passport.name}: learnt from {passport.dtype}; Deepness and geodeep scale such rasters in their own way.")


def _opened(made: Path, form: Form, runtime: Runtime) -> Predictor:
    """The exported model as others load it."""
    predictor = open_predictor(made, runtime)
    if form == "onnx":
        return predictor
    with contextlib.redirect_stdout(io.StringIO()):  # the hub's client prints where it reads from
        network: nn.Module = smp.from_pretrained(made).eval()
    return dataclasses.replace(predictor, forward=network)


def _onnx(run: Run, model: SegmentationModel, passport: Passport, path: Path) -> None:
    write_onnx(model, passport, path)


def _smp(run: Run, model: SegmentationModel, passport: Passport, folder: Path) -> None:
    save_model(model, folder)
    write_passport(passport, folder / PASSPORT_FILE)
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(card_text(run, passport), encoding="utf-8")


_WRITERS: dict[Form, Callable[[Run, SegmentationModel, Passport, Path], None]] = {"onnx": _onnx, "smp": _smp}


def _note_parity(path: Path, form: Form, made: Path, passport: Passport, parity: Parity) -> None:
    """Write the report beside those of other forms; it names the weights that it speaks of."""
    weights = made if form == "onnx" else made / "model.safetensors"
    entry = parity.to_json() | {"tile": passport.tile, "sha256": sha256_file(weights), "versions": _versions()}
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
