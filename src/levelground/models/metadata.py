"""What a model says of itself to other programs: one JSON object beside its weights, or inside its ONNX file.

A run knows all this from its card; a model that leaves its run takes it along, so that nobody has to be asked again
what its outputs mean and how its input is normalised.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from levelground.datasets.dataset import read_dataset
from levelground.errors import LegendError, ModelError, RecordError, WeightsError
from levelground.imagery.legend import Legend
from levelground.inference.tiling import choose_geometry
from levelground.records import Record, atomic_path, plain
from levelground.runs import Run

PASSPORT_FILE = "levelground.json"
"""The passport's name in a folder of weights."""

PASSPORT_KEY = "levelground"
"""The passport's key among the metadata of an ONNX file."""

SCHEMA = 1
"""The number of the form that this version writes and reads."""

_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "int16": 32767.0}


def full_scale(dtype: str | None) -> float:
    """What a stored value is divided by to lie in 0 to 1; other types are taken as they are.

    Example:
        >>> full_scale("uint8"), full_scale("float32")
        (255.0, 1.0)
    """
    return _FULL_SCALE.get(dtype or "uint8", 1.0)


@dataclass(frozen=True)
class Passport:
    """What a model needs beside its weights to run on stored pixels."""

    name: str
    arch: str
    encoder: str
    legend: Legend
    outputs: tuple[int, ...]
    """Legend index of each output."""
    mean: tuple[float, ...]
    """Band means of the network's own normalisation, in stored units."""
    std: tuple[float, ...]
    """Band deviations likewise."""
    dtype: str | None
    """Type of the stored pixels it learnt from; ``None`` unknown, taken for uint8."""
    gsd_m: float | None
    """Metres a pixel; ``None`` unknown."""
    tile: int
    """Side of a tile, px; 0 for whole scenes."""
    halo: int
    """Half the smallest overlap of tiles, px."""

    @property
    def bands(self) -> int:
        """The number of bands that it reads."""
        return len(self.mean)

    def to_json(self) -> Record:
        """The passport as a JSON object with its schema number, read back by :func:`parse_passport`."""
        content = dict(vars(self)) | {"legend": self.legend.to_json()}
        record: Record = plain({"schema": SCHEMA, "kind": "model"} | content)
        return record


@dataclass(frozen=True)
class _Content:
    """The JSON object as it stands, for the checks of types."""

    schema: int
    kind: str
    name: str
    arch: str
    encoder: str
    legend: dict[str, Any]
    outputs: tuple[Annotated[int, Field(ge=0, le=254)], ...]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    dtype: Annotated[str, Field(pattern=r"^(uint8|uint16|int16|float32)$")] | None
    gsd_m: Annotated[float, Field(gt=0)] | None
    tile: Annotated[int, Field(ge=0, le=16384)]
    halo: Annotated[int, Field(ge=0, le=8192)]


_CONTENT: TypeAdapter[_Content] = TypeAdapter(_Content)


def parse_passport(text: str, *, source: str) -> Passport:
    """Read a passport.

    Args:
        text: The JSON object.
        source: The file, for the error.
    Raises:
        WeightsError: It is damaged, of another schema, or contradicts itself.
    """
    try:
        content = _CONTENT.validate_python(json.loads(text))
        legend = Legend.from_json(content.legend)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise WeightsError(f"{source}: its passport is damaged ({where}: {first['msg']}). Export it anew.") from error
    except (ValueError, RecursionError, LegendError) as error:
        raise WeightsError(f"{source}: its passport is damaged ({error}). Export it anew.") from error
    problem = _contradiction(content, legend)
    if problem:
        raise WeightsError(f"{source}: its passport is damaged ({problem}). Export it anew.")
    fields = {key: value for key, value in vars(content).items() if key not in ("schema", "kind")}
    return Passport(**(fields | {"legend": legend}))


def _contradiction(content: _Content, legend: Legend) -> str | None:
    if (content.schema, content.kind) != (SCHEMA, "model"):
        return f"{content.kind} of schema {content.schema}, this version reads model of schema {SCHEMA}"
    if not content.mean or len(content.mean) != len(content.std):
        return f"{len(content.mean)} means and {len(content.std)} deviations"
    if not all(map(math.isfinite, content.mean + content.std)):
        return "a mean or deviation is no number"
    if not content.outputs or len(set(content.outputs)) != len(content.outputs):
        return "no outputs, or one class twice"
    if max(content.outputs) >= legend.n_classes:
        return f"an output of class {max(content.outputs)}, the legend has {legend.n_classes} classes"
    if content.tile and 2 * content.halo >= content.tile:
        return f"halo {content.halo} of tile {content.tile}"
    return None


def write_passport(passport: Passport, path: Path) -> None:
    """Write a passport as a file, unless the very same stands there.

    Raises:
        DiskError: It cannot be written.
    """
    text = json.dumps(passport.to_json(), indent=1, ensure_ascii=False) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def run_passport(run: Run) -> Passport:
    """What the card of a run says of its model.

    Raises:
        ModelError: The run holds masks and no model.
        LegendError: The card's legend contradicts itself.
    """
    card, geometry = run.card, choose_geometry(run)
    if not card.outputs:
        raise ModelError(f"{run.name}: holds predicted masks and no model. Give a run that was trained or adopted.")
    return Passport(
        name=run.name,
        arch=run.arch,
        encoder=run.encoder,
        legend=Legend.from_json(card.legend),
        outputs=card.outputs,
        mean=card.mean,
        std=card.std,
        dtype=card.dtype or _study_dtype(run.folder),
        gsd_m=card.gsd_m,
        tile=geometry.tile,
        halo=geometry.halo,
    )


def _study_dtype(folder: Path) -> str | None:
    """The type of the pixels of the study that a run lies in; cards of adopted runs do not name it."""
    try:
        return read_dataset(folder.resolve().parent.parent).dtype
    except RecordError:
        return None
