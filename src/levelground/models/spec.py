"""Model specification: classes, normalisation and tiles, from a run card, beside weights or in an ONNX file.

A run has it on its card. A model that leaves its run takes it along as one JSON object, ``levelground.json`` beside the
weights or the metadata key ``levelground`` of an ONNX file: what the outputs mean, how the input is normalised, and so
on.
"""

import dataclasses
import difflib
import functools
import importlib.util
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from levelground.config import Recipe, TileOptions
from levelground.datasets.dataset import Dataset, JsonLegend, read_dataset
from levelground.errors import ConfigError, MissingRecordError, ModelError, WeightsError, first_line
from levelground.imagery.geotiff import NO_BAND_INFO, BandInfo
from levelground.imagery.legend import Legend, default_legend
from levelground.reading import parse_json, read_bytes, read_text
from levelground.records import atomic_path, describe_fields, plain, verify_file
from levelground.runs import Run
from levelground.tile_geometry import MULTIPLE, TileGeometry, choose_geometry

SPEC_FILE = "levelground.json"
"""Name of the specification in a folder of weights."""

SPEC_KEY = "levelground"
"""Key of the specification among the metadata of an ONNX file."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Band means and deviations of torchvision's ImageNet models, inputs 0 to 1."""

SCHEMA = 1
"""The number of the form that this version writes and reads."""

_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "int8": 127.0, "int16": 32767.0}


def full_scale(dtype: str | None) -> float:
    """Return what a stored value is divided by to lie in 0 to 1; values of other types are taken as they are.

    Example:
        >>> full_scale("uint8"), full_scale("float32")
        (255.0, 1.0)
    """
    return _FULL_SCALE.get(dtype or "uint8", 1.0)


@dataclass(frozen=True)
class ModelSpec:
    """Specification of a model: classes, normalisation, type and ground sample distance of pixels, tile geometry."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(json_schema_extra=describe_fields)

    name: str
    """Name to show to people."""
    arch: str
    """Architecture; ``unknown`` where a file does not state it."""
    encoder: str
    """Encoder likewise."""
    legend: JsonLegend
    """The classes."""
    outputs: tuple[Annotated[int, Field(ge=0, le=254)], ...]
    """Legend index of each output."""
    mean: tuple[float, ...]
    """Mean of each band, in stored units."""
    std: tuple[Annotated[float, Field(gt=0)], ...]
    """Standard deviation of each band, in stored units."""
    dtype: Annotated[str, Field(pattern=r"^(u?int(8|16|32|64)|float32)$")] | None
    """Type of the stored pixels that it learnt from; ``None`` unknown, taken for uint8."""
    gsd_m: Annotated[float, Field(gt=0)] | None
    """Ground sample distance of the training images, metres a pixel; ``None`` unknown."""
    geometry: TileGeometry
    """Tile and halo that it was trained with."""
    fixed_tile: bool = False
    """Whether it takes tiles of no other size."""
    max_batch: int | None = None
    """The number of tiles it takes at a time, where a file fixes it."""
    band_info: BandInfo = NO_BAND_INFO
    """What the training images said of their bands: names, scales and offsets."""

    @property
    def bands(self) -> int:
        """The number of bands that it reads."""
        return len(self.mean)

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the specification as the text of a JSON object, read back by :func:`parse_spec`."""
        content = {"schema": SCHEMA, "kind": "model"} | {name: getattr(self, name) for name in _WRITTEN}
        if self.band_info != NO_BAND_INFO:
            content["band_info"] = dataclasses.asdict(self.band_info)
        content |= {"legend": self.legend.to_json(), "tile": self.geometry.tile, "halo": self.geometry.halo}
        return json.dumps(plain(content), indent=indent, ensure_ascii=False)


_WRITTEN = ("name", "arch", "encoder", "legend", "outputs", "mean", "std", "dtype", "gsd_m")


@dataclass(frozen=True)
class _Geometry:
    """Ranges of tile and halo on disk."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(json_schema_extra=describe_fields)

    tile: Annotated[int, Field(ge=0, le=16384)]
    """Side of the tile that it was trained with, px; 0 takes whole scenes."""
    halo: Annotated[int, Field(ge=0, le=8192)]
    """Half of the overlap of neighbouring tiles, px."""


_GEOMETRY = TypeAdapter(_Geometry)
_SPEC = TypeAdapter(ModelSpec)


def spec_schema() -> dict[str, JsonValue]:
    """Return the JSON Schema of ``levelground.json``."""
    spec, geometry = _SPEC.json_schema(mode="serialization"), _GEOMETRY.json_schema()
    head = {"schema": {"const": SCHEMA}, "kind": {"const": "model"}}
    properties = head | {name: spec["properties"][name] for name in _WRITTEN} | geometry["properties"]
    return {
        "title": "ModelSpec",
        "description": spec["description"],
        "type": "object",
        "properties": properties | {"band_info": spec["properties"]["band_info"]},
        "required": list(properties),
        "$defs": {"BandInfo": spec["$defs"]["BandInfo"]},
    }


def parse_spec(text: str, *, source: str) -> ModelSpec:
    """Read a specification.

    Args:
        text: The JSON object.
        source: The file, for the error.
    Raises:
        WeightsError: It is damaged, of another schema, or contradicts itself.
    """
    try:
        content = parse_json(text)
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        if (content.get("schema"), content.get("kind")) != (SCHEMA, "model"):
            kind, schema = content.get("kind"), content.get("schema")
            raise ValueError(f"{kind} of schema {schema}, this version reads model of schema {SCHEMA}")
        geometry = _GEOMETRY.validate_python(content)
        written = {key: content[key] for key in (*_WRITTEN, "band_info") if key in content}
        spec = _SPEC.validate_python(written | {"geometry": TileGeometry(geometry.tile, geometry.halo)})
        problem = _contradiction(spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg'].removeprefix('Value error, ')}"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise WeightsError(f"{source}: its model metadata is damaged ({problem}). Export it anew.")
    return spec


def read_spec(path: Path) -> ModelSpec:
    """Read the specification beside weights.

    Raises:
        WeightsError: It cannot be read, is damaged, or is of another schema.
        RecordError: It was changed after it was written.
    """
    verify_file(path, "Export the model anew.")
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: its model metadata is damaged ({first_line(error)}). Export it anew.") from error
    return parse_spec(text, source=str(path))


def _contradiction(spec: ModelSpec) -> str | None:
    if not spec.mean or len(spec.mean) != len(spec.std):
        return f"{len(spec.mean)} means and {len(spec.std)} deviations"
    if not all(map(math.isfinite, spec.mean + spec.std)):
        return "a mean or deviation is not a number"
    if not spec.outputs or len(set(spec.outputs)) != len(spec.outputs):
        return "no outputs, or one class twice"
    if max(spec.outputs) >= spec.legend.n_classes:
        return f"an output of class {max(spec.outputs)}, the legend has {spec.legend.n_classes} classes"
    if spec.geometry.tile and 2 * spec.geometry.halo >= spec.geometry.tile:
        return f"halo {spec.geometry.halo} of tile {spec.geometry.tile}"
    return None


def write_spec(spec: ModelSpec, path: Path) -> None:
    """Write a specification as a file, unless the file has this very content already.

    Raises:
        DiskError: It cannot be written.
    """
    replace_text(path, spec.to_json(indent=1) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a text file, unless the file has this very content already.

    Raises:
        DiskError: It cannot be written.
    """
    try:
        known = read_bytes(path)
    except OSError:
        known = None
    if known != text.encode():
        with atomic_path(path) as temporary:
            temporary.write_bytes(text.encode())


ONNX_FILE, SCRIPT_FILE = "model.onnx", "model.torchscript"
"""Names of the whole network of an adopted run in its folder ``model/``, in place of weights."""


def model_file(run: Run) -> Path:
    """Return the file that holds a run's model: its weights, or the whole network that was adopted."""
    programs = (run.model_folder / name for name in (ONNX_FILE, SCRIPT_FILE))
    return next((path for path in programs if path.exists()), run.model_folder / "model.safetensors")


def refuse_other_tile(name: str, side: int, asked: TileOptions, *, fixed: bool) -> None:
    """Refuse two answers to what the tile is, and other tiles for a model that takes tiles of one size.

    Raises:
        ConfigError: Two are given, or the model takes one size only and another is asked for.
    """
    if asked.fit_tile and asked.tile is not None:
        raise ConfigError(f"--fit-tile chooses the tile. Leave --tile {asked.tile} away.")
    flag = "--fit-tile" if asked.fit_tile else f"--tile {asked.tile}"
    if fixed and (asked.fit_tile or asked.tile not in (None, side)):
        raise ConfigError(f"{flag}: {name} takes tiles of {side} only. Leave {flag.split()[0]} away.")


def choose_run_geometry(
    run: Run, asked: TileOptions, device: str = "cpu", *, shape: tuple[int, int] | None = None
) -> TileGeometry:
    """Choose the tile geometry to run a run's model with: what is asked for, else the run's own.

    Args:
        run: The run.
        asked: What the user asks for.
        device: Kind of device, for the batch.
        shape: Rows and columns of the scene that the tile may be fitted to.
    Raises:
        ConfigError: It cannot work, or the model takes tiles of one size only.
    """
    own, fixed = run_geometry(run), run.card.fixed_tile
    refuse_other_tile(run.name, own.tile, asked, fixed=fixed)
    return choose_geometry(own, asked, device=device, multiple=1 if fixed else MULTIPLE, shape=shape)


def run_geometry(run: Run) -> TileGeometry:
    """Return the tile and halo that a run was trained with; adopted runs take those of their last evaluation."""
    card, recipe = run.card, run.card.recipe or Recipe()
    tile = recipe.tile if card.recipe or card.tile is None else card.tile
    halo = recipe.halo if card.recipe or card.halo is None else card.halo
    return TileGeometry(tile, halo)


def read_model_spec(run: Run) -> ModelSpec:
    """Return the specification of a run's model, as its card has it, each class once.

    Raises:
        ModelError: The run holds masks and no model.
        LegendError: The card's legend contradicts itself.
    """
    card = run.card
    if card.folds:
        raise ModelError(
            f"{run.name}: joins the counts of {len(card.folds)} folds and has no model of its own. Give the run of a "
            f"fold, such as {run.study / card.folds[0]}."
        )
    if not card.outputs:
        raise ModelError(f"{run.name}: holds predicted masks and no model. Give a run that was trained or adopted.")
    return ModelSpec(
        name=run.name,
        arch=run.arch,
        encoder=run.encoder,
        legend=Legend.from_json(card.legend),
        outputs=tuple(dict.fromkeys(card.outputs)),
        mean=card.mean,
        std=card.std,
        dtype=card.dtype or _study_dtype(run.folder),
        gsd_m=card.gsd_m,
        band_info=card.band_info,
        geometry=run_geometry(run),
        fixed_tile=card.fixed_tile,
    )


def _study_dtype(folder: Path) -> str | None:
    """Return the type of the pixels of the study that a run lies in; cards of adopted runs do not name it."""
    try:
        return read_dataset(folder.resolve().parent.parent).dtype
    except MissingRecordError:
        return None


def dataset_spec(
    dataset: Dataset, arch: str, encoder: str, outputs: Sequence[int], *, name: str, geometry: TileGeometry
) -> ModelSpec:
    """Return the specification of a model that learns from a data set, normalised by its training scenes.

    Args:
        dataset: Gives legend, mean, std, type and ground sample distance of the pixels.
        arch: Architecture.
        encoder: Encoder.
        outputs: Legend index of each output.
        name: Name to show to people.
        geometry: Tile and halo that it is trained with.
    """
    return ModelSpec(
        name=name,
        arch=arch,
        encoder=encoder,
        legend=dataset.legend,
        outputs=tuple(outputs),
        mean=tuple(dataset.mean),
        std=tuple(dataset.std),
        dtype=dataset.dtype,
        gsd_m=dataset.gsd_m,
        band_info=dataset.band_info,
        geometry=geometry,
    )


def numbered_spec(
    arch: str, encoder: str, *, n_outputs: int, mean: Sequence[float] = (0.0,) * 3, std: Sequence[float] = (1.0,) * 3
) -> ModelSpec:
    """Return the specification of a model of numbered classes, for checks before there are data.

    Args:
        arch: Architecture.
        encoder: Encoder.
        n_outputs: Number of outputs.
        mean: Mean of each band; their number is the number of bands.
        std: Standard deviation of each band.
    """
    return ModelSpec(
        name=f"{arch}-{encoder}",
        arch=arch,
        encoder=encoder,
        legend=default_legend(n_outputs),
        outputs=tuple(range(n_outputs)),
        mean=tuple(mean),
        std=tuple(std),
        dtype="uint8",
        gsd_m=None,
        geometry=TileGeometry(Recipe().tile, Recipe().halo),
    )


ALIASES = {"deeplab": "deeplabv3", "unet++": "unetplusplus", "deeplabv3+": "deeplabv3plus"}
"""Names of the origin study and of papers -> segmentation_models_pytorch's."""

ENTRY_POINTS = "levelground.models"
"""Group of entry points by which an installed package offers networks: name -> function of bands and classes."""


def is_own(arch: str) -> bool:
    """Tell whether a name is that of an own network: ``FILE.py:FUNCTION``, ``hf:NAME`` or an entry point.

    Example:
        >>> is_own("nets/small.py:make"), is_own("hf:nvidia/mit-b0"), is_own("unet")
        (True, True, False)
    """
    return ".py:" in arch or arch.startswith("hf:") or arch in _offered(entry_points)


@functools.cache
def _offered(find: Callable[..., EntryPoints]) -> frozenset[str]:
    """Return the names of networks that installed packages offer; finding them reads the metadata of every package."""
    return frozenset(point.name for point in find(group=ENTRY_POINTS))


def about_arch(arch: str, known: Sequence[str]) -> str:
    """Say that there is no such architecture, and which there are."""
    return f"{arch}: no such architecture. Known: {', '.join(known)}, FILE.py:FUNCTION, hf:NAME."


def about_init(path: Path) -> str:
    """Say that there is no such network to start from."""
    return f"--init {path}: no such file or folder. Give a run, a folder with a model, or weights."


def about_encoder_weights(source: str) -> str:
    """Say that there is no such source of encoder weights, and which there are."""
    return f"--encoder-weights {source}: no such file. Give none, package, imagenet, auto or a path."


@functools.cache
def library_archs() -> tuple[str, ...]:
    """Read the names of architectures in the source of segmentation_models_pytorch, which is not imported."""
    text = _source("segmentation_models_pytorch", "__init__.py")
    listed = re.search(r"^_MODEL_ARCHITECTURES = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    return tuple(re.findall(r"\w+", listed[1].lower())) if listed else ()


@functools.cache
def library_encoders() -> tuple[str, ...]:
    """Read the names of encoders in the sources of segmentation_models_pytorch and timm, which are not imported."""
    own = _source("segmentation_models_pytorch", "encoders/*.py")
    names = re.findall(r'^    "([\w.-]+)": \{$', own, re.MULTILINE)
    timm = _source("timm", "models/*.py")
    registered = re.findall(r"^@register_model\s*\ndef (\w+)", timm, re.MULTILINE)
    former = re.findall(r"^register_model_deprecations\(__name__, \{(.*?)^\}", timm, re.DOTALL | re.MULTILINE)
    registered += re.findall(r"^\s+['\"](\w+)['\"]: ", "".join(former), re.MULTILINE)
    return (*names, *(f"tu-{name}" for name in registered)) if names and registered else ()


def _source(package: str, pattern: str) -> str:
    """Return the source text of an installed package's files."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return ""
    files = sorted(Path(found.origin).parent.glob(pattern))
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def near(encoder: str) -> str:
    """Name the encoders whose names are most like a wrong one, or two to start with."""
    found = difflib.get_close_matches(encoder, library_encoders(), n=3)
    return f"Near: {', '.join(found or ('tu-tf_efficientnet_lite0', 'resnet34'))}"
