"""Models ready to run on stored pixels, wherever they came from: a run, an SMP folder, an ONNX file."""

import ast
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from levelground.console import say
from levelground.errors import ConfigError, LegendError, ModelError
from levelground.imagery.legend import Legend, default_legend, read_legend
from levelground.inference.sliding_window import Forward
from levelground.models.build import load_model
from levelground.models.metadata import (
    PASSPORT_FILE,
    PASSPORT_KEY,
    Passport,
    full_scale,
    parse_passport,
    run_passport,
)
from levelground.models.onnx_backend import OnnxModel, open_onnx
from levelground.models.pretrained import normalisation
from levelground.models.smp_backend import SmpFolder, open_smp
from levelground.records import sha256_file, sha256_json
from levelground.runs import read_run

if TYPE_CHECKING:
    from levelground.runtime import Runtime


@dataclass(frozen=True)
class Given:
    """What the user says of a model: a legend file, and mean and deviation in stored units."""

    legend: Path | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    def refuse(self, source: Path) -> None:
        """Refuse to overrule a model that knows better."""
        for flag, value in (("legend", self.legend), ("mean", self.mean), ("std", self.std)):
            if value is not None:
                raise ConfigError(f"--{flag}: {source} brings its own. Leave --{flag} away.")

    def normalisation(self, bands: int, source: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation in stored units, where they are given; one value holds for all bands."""
        if self.mean is None and self.std is None:
            return None
        pairs = (("mean", self.mean or (0.0,)), ("std", self.std or (1.0,)))
        for flag, values in pairs:
            if len(values) not in (1, bands) or not np.isfinite(values).all() or (flag == "std" and min(values) <= 0):
                shown, more = " ".join(f"{value:g}" for value in values), ", above 0" if flag == "std" else ""
                raise ConfigError(f"--{flag} {shown}: {source} reads {bands} bands. Give {bands} numbers or one{more}.")
        mean, std = (values * bands if len(values) == 1 else values for _, values in pairs)
        return mean, std


def foreign_legend(
    given: Path | None, n_outputs: int, names: Mapping[int, str] | None, source: Path
) -> tuple[Legend, tuple[int, ...]]:
    """Legend and outputs of a model that brings none: the user's file, the file's own class names, or numbers."""
    if given is not None:
        legend = read_legend(given)
        counted = tuple(int(index) for index in np.flatnonzero(legend.counted))
        if n_outputs not in (legend.n_classes, len(counted)):
            raise ConfigError(
                f"--legend {given}: has {legend.n_classes} classes, {len(counted)} of them counted; {source} has "
                f"{n_outputs} outputs. Give a legend with one class an output."
            )
        return legend, tuple(range(n_outputs)) if n_outputs == legend.n_classes else counted
    legend = default_legend(n_outputs)
    if names is None:
        say(f"{source.name}: does not name its {n_outputs} classes; they are numbered. Pass --legend to name them.")
        return legend, tuple(range(n_outputs))
    classes = [dataclasses.replace(c, name=names.get(c.index, c.name)) for c in legend.classes]
    try:
        return Legend(source.stem or "model", tuple(classes)), tuple(range(n_outputs))
    except LegendError as error:
        raise LegendError(f"{source}: {error} Or pass --legend.") from error


def class_names(metadata: Mapping[str, str], source: Path) -> dict[int, str] | None:
    """Class names as Deepness and others write them: JSON, or a Python dictionary in text."""
    text = metadata.get("class_names") or metadata.get("names")
    if not text:
        return None
    try:
        try:
            content = json.loads(text)
        except ValueError:
            content = ast.literal_eval(text)
        content = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else content
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        return {int(key): str(value) for key, value in pairs}
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        say(f"{source.name}: its class names cannot be read; the classes are numbered. Pass --legend to name them.")
        return {}


def resolution_m(metadata: Mapping[str, str]) -> float | None:
    """Metres a pixel from ``resolution`` in centimetres, as Deepness and geodeep write it."""
    try:
        value = float(metadata["resolution"])
    except (KeyError, ValueError):
        return None
    return value / 100 if 0 < value < 1e6 else None


FOREIGN_TILE = 512
"""Side of a tile for models that do not say theirs, px."""


@dataclass(frozen=True)
class Predictor:
    """A model ready to run on stored pixels."""

    name: str
    """What people are shown."""
    forward: Forward
    """Normalised ``(N, C, H, W)`` float32 on the runtime's device -> ``(N, K, H, W)``."""
    activated: bool
    """Whether ``forward`` gives probabilities, not logits."""
    outputs: tuple[int, ...]
    """Legend index of each output."""
    legend: Legend
    mean: tuple[float, ...]
    """Band means in stored units; where ``dtype`` is unknown, those for uint8 (see :func:`fit_pixels`)."""
    std: tuple[float, ...]
    bands: int
    dtype: str | None
    """Type of the stored pixels it learnt from; ``None`` unknown."""
    gsd_m: float | None
    tile: int
    """Its own tile side, px; 0 for whole scenes."""
    halo: int
    """Half the smallest overlap of its own tiles, px."""
    fixed_tile: bool
    """Whether it takes tiles of no other size."""
    max_batch: int | None
    """The number of tiles it takes at a time, where a file fixes it."""
    digest: str
    """SHA-256 over the weights and all else that decides its output."""
    rescale: bool = False
    """Whether mean and std follow the type of the pixels, because nobody said what they are."""


def open_predictor(
    path: Path,
    runtime: "Runtime",
    *,
    legend: Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Predictor:
    """Load a model with all that it needs.

    Args:
        path: A run folder, a folder in segmentation_models_pytorch's layout, or an ``.onnx`` file.
        runtime: Where it will run.
        legend: Names and colours of a foreign model's outputs, a TOML file; ours bring their own.
        mean: Band means of a foreign model's inputs, in stored units.
        std: Band deviations likewise.
    Returns:
        The model; its network is in evaluation mode on the runtime's device.
    Raises:
        ModelError: There is no model, or none that can be run.
        WeightsError: Its weights are damaged, unsafe, or do not fit.
        ConfigError: ``legend``, ``mean`` or ``std`` are given for a model that brings its own, or do not fit.
        LegendError: The legend file contradicts itself.
    """
    given = Given(legend, None if mean is None else tuple(mean), None if std is None else tuple(std))
    if (path / "run.json").exists():
        return _from_run(path, runtime, given)
    if path.is_dir() and path.name == "model" and (path.parent / "run.json").exists():
        return _from_run(path.parent, runtime, given)
    if path.is_file() and path.suffix.lower() == ".onnx":
        return _from_onnx(path, runtime, given)
    if (path / "config.json").exists():
        return _from_smp(path, runtime, given)
    raise ModelError(
        f"{path}: no model. Give a run folder (run.json), a folder with config.json and model.safetensors, or an .onnx "
        "file."
    )


def fit_pixels(predictor: Predictor, dtype: str) -> Predictor:
    """Fit the scale of a model that does not say its pixels' type to the pixels at hand.

    Args:
        predictor: Any model; those whose normalisation is known stay as they are.
        dtype: NumPy's name of the pixels' type: uint8 is divided by 255, others are taken as they are.
    """
    if not predictor.rescale or dtype == "uint8":
        return predictor
    say(f"{predictor.name}: {dtype} values are taken as they are. Where it needs others, pass --mean and --std.")
    mean, std = (tuple(value / 255 for value in values) for values in (predictor.mean, predictor.std))
    return dataclasses.replace(predictor, mean=mean, std=std)


def _from_run(folder: Path, runtime: "Runtime", given: Given) -> Predictor:
    run = read_run(folder)
    passport, model = run_passport(run), load_model(run)
    given.refuse(folder)
    weights = sha256_file(run.model_folder / "model.safetensors")
    return _known(passport, runtime.place(model.network), _Source(passport.name, weights))


@dataclass(frozen=True)
class _Source:
    """How a file differs from the run it came from."""

    name: str
    weights: str
    """SHA-256."""
    activated: bool = False
    normalised: bool = False
    """Whether the file normalises inside, and eats values 0 to 1."""
    tile: int | None = None
    max_batch: int | None = None


def _known(passport: Passport, forward: Forward, source: _Source) -> Predictor:
    """A model that brings its passport."""
    mean, std = passport.mean, passport.std
    if source.normalised:
        mean, std = (0.0,) * passport.bands, (full_scale(passport.dtype),) * passport.bands
    return Predictor(
        name=source.name,
        forward=forward,
        activated=source.activated,
        outputs=passport.outputs,
        legend=passport.legend,
        mean=mean,
        std=std,
        bands=passport.bands,
        dtype=passport.dtype,
        gsd_m=passport.gsd_m,
        tile=passport.tile if source.tile is None else source.tile,
        halo=_fitting_halo(passport.halo, passport.tile, source.tile),
        fixed_tile=source.tile is not None,
        max_batch=source.max_batch,
        digest=sha256_json([source.weights, passport.arch, passport.encoder, passport.outputs, mean, std]),
    )


def _fitting_halo(halo: int, tile: int, fixed: int | None) -> int:
    """The halo that belongs to a tile, or an eighth of a fixed tile of another size."""
    return halo if fixed in (None, tile) else (fixed or 0) // 8


def _from_smp(folder: Path, runtime: "Runtime", given: Given) -> Predictor:
    model: SmpFolder = open_smp(folder)
    passport_file = folder / PASSPORT_FILE
    network = runtime.place(model.network)
    forward: Forward = network
    weights = sha256_json([sha256_file(folder / name) for name in ("config.json", "model.safetensors")])
    if passport_file.exists():
        given.refuse(folder)
        passport = parse_passport(
            passport_file.read_text(encoding="utf-8", errors="replace"), source=str(passport_file)
        )
        _check_fit(passport, model.bands, model.n_outputs, folder)
        return _known(passport, forward, _Source(passport.name, weights))
    legend, outputs = foreign_legend(given.legend, model.n_outputs, None, folder)
    said = given.normalisation(model.bands, folder)
    if said is None and model.bands != 3:
        raise ConfigError(
            f"{folder}: reads {model.bands} bands and does not say how they were normalised. Pass --mean and --std."
        )
    published = normalisation(model.encoder)
    mean, std = said or tuple(tuple(255 * value for value in values) for values in published)
    if said is None:
        say(f"{folder.name}: inputs are normalised as {model.encoder}'s published weights; or pass --mean and --std.")
    return Predictor(
        name=folder.resolve().name,
        forward=forward,
        activated=False,
        outputs=outputs,
        legend=legend,
        mean=mean,
        std=std,
        bands=model.bands,
        dtype=None,
        gsd_m=None,
        tile=FOREIGN_TILE,
        halo=FOREIGN_TILE // 8,
        fixed_tile=False,
        max_batch=None,
        digest=sha256_json([weights, legend.digest(), outputs, mean, std]),
        rescale=said is None,
    )


def _from_onnx(path: Path, runtime: "Runtime", given: Given) -> Predictor:
    model: OnnxModel = open_onnx(path, runtime)
    if PASSPORT_KEY in model.metadata:
        given.refuse(path)
        passport = parse_passport(model.metadata[PASSPORT_KEY], source=str(path))
        _check_fit(passport, model.bands, model.n_outputs, path)
        source = _Source(
            passport.name, model.digest, activated=True, normalised=True, tile=model.tile, max_batch=model.max_batch
        )
        return _known(passport, model.forward, source)
    legend, outputs = foreign_legend(given.legend, model.n_outputs, class_names(model.metadata, path), path)
    said = given.normalisation(model.bands, path)
    mean, std = said or ((0.0,) * model.bands, (255.0,) * model.bands)
    tile = model.tile or FOREIGN_TILE
    return Predictor(
        name=path.name,
        forward=model.forward,
        activated=model.activated,
        outputs=outputs,
        legend=legend,
        mean=mean,
        std=std,
        bands=model.bands,
        dtype=None,
        gsd_m=resolution_m(model.metadata),
        tile=tile,
        halo=tile // 8,
        fixed_tile=model.tile is not None,
        max_batch=model.max_batch,
        digest=sha256_json([model.digest, legend.digest(), outputs, mean, std]),
        rescale=said is None,
    )


def _check_fit(passport: Passport, bands: int, n_outputs: int, source: Path) -> None:
    """Refuse a passport of another model."""
    if (passport.bands, len(passport.outputs)) != (bands, n_outputs):
        raise ModelError(
            f"{source}: has {bands} bands and {n_outputs} outputs, its passport says {passport.bands} and "
            f"{len(passport.outputs)}. Export it anew."
        )
