"""Run and study folders on disk: the run card, the history, and where things lie."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from levelground.config import Recipe, check_recipe
from levelground.errors import RecordError, one_line
from levelground.files import append_text
from levelground.records import Record, atomic_path, plain, read_json, write_json

Card = Record
"""A run card: the JSON object of ``run.json``; :class:`_CardTypes` names the keys that are read again."""


@dataclass(frozen=True)
class Run:
    """A run folder: its place and its card."""

    folder: Path
    card: Card

    @property
    def name(self) -> str:
        """The run's name, such as ``unet-resnet18-s0``."""
        return str(self.card["name"])

    @property
    def arch(self) -> str:
        """The architecture's name; ``unknown`` for adopted predictions."""
        return str(self.card["arch"])

    @property
    def encoder(self) -> str:
        """The encoder's name; ``unknown`` for adopted predictions."""
        return str(self.card["encoder"])

    @property
    def seed(self) -> int | None:
        """The seed, or ``None`` where it is not known."""
        value = self.card["seed"]
        return None if value is None else int(value)

    @property
    def adopted(self) -> bool:
        """Whether another tool trained it."""
        return bool(self.card["status"] == "adopted")

    @property
    def model_folder(self) -> Path:
        """Where the selected weights lie, in segmentation_models_pytorch's own layout."""
        return self.folder / "model"

    def counts_path(self, split: str) -> Path:
        """Where the counts of a split lie."""
        return self.folder / f"counts-{split}.npz"

    def preds_folder(self, split: str) -> Path:
        """Where the predicted masks of a split lie."""
        return self.folder / f"preds-{split}"


@dataclass(frozen=True)
class _Asked:
    """``budget`` on a card."""

    asked: str
    steps: Annotated[int, Field(ge=1)] | None = None
    validations: Annotated[int, Field(ge=0)] | None = None


@dataclass(frozen=True)
class _Protocol:
    """``recipe`` on a card, as far as later commands read it field by field."""

    name: str | None = None
    loss: str | None = None
    tile: Annotated[int, Field(ge=0)] = 0
    halo: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class _CardTypes:
    """What the keys of a card hold where they are there; other keys are only shown."""

    name: Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f]+$")]  # it becomes part of file names
    arch: str
    encoder: str
    seed: int | None
    status: str
    legend_sha256: str
    identity: str
    encoder_weights: str | None = None
    twin: bool = False
    recipe: _Protocol | None = None
    budget: _Asked | None = None
    outputs: list[Annotated[int, Field(ge=0, le=254)]] | None = None
    tile: Annotated[int, Field(ge=0)] | None = None
    halo: Annotated[int, Field(ge=0)] | None = None
    in_channels: Annotated[int, Field(ge=1)] | None = None
    mean: list[float] | None = None
    std: list[Annotated[float, Field(gt=0)]] | None = None
    gsd_m: float | None = None
    legend: dict[str, Any] | None = None
    train_sha256: str | None = None
    split_sha256: str | None = None
    parameters: dict[str, float | None] | None = None
    selection: dict[str, Any] | None = None
    speed: dict[str, float | None] | None = None
    evaluations: dict[str, dict[str, Any]] | None = None
    device: str | None = None
    precision: str | None = None
    threads: float | None = None
    steps_done: float | None = None
    images_seen: float | None = None
    megapixels_seen: float | None = None
    train_s: float | None = None
    wall_s: float | None = None
    peak_memory_mib: float | None = None
    macs_per_megapixel: float | None = None


_CARD = TypeAdapter(_CardTypes)

REQUIRED_KEYS = ("name", "arch", "encoder", "seed", "status", "legend_sha256", "identity")


def runs_folder(study: Path) -> Path:
    """The folder of a study that holds its runs."""
    return study / "runs"


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        RecordError: There is no run card, it is damaged, of an unknown schema, lacks a key or has one of a wrong type.
    """
    card = read_json(folder / "run.json", kind="run")
    missing = [key for key in REQUIRED_KEYS if key not in card]
    if missing:
        raise RecordError(f"{folder / 'run.json'}: lacks {missing[0]!r}. Make the run anew.")
    try:
        _CARD.validate_json(json.dumps(card), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = one_line(".".join(str(part) for part in first["loc"]))
        raise RecordError(f"{folder / 'run.json'}: {where}: {first['msg']}. Make the run anew.") from error
    return Run(folder, card)


def read_recipe(run: Run) -> Recipe:
    """The recipe that a run was begun with.

    Raises:
        RecordError: Another tool trained it.
        ConfigError: The card's recipe has a key or a value that this version does not know.
    """
    if run.adopted:
        raise RecordError(f"{run.folder}: was adopted, not trained here. Give a run that levelground train began.")
    return check_recipe(run.card.get("recipe") or {}, source=str(run.folder / "run.json"))


def write_card(folder: Path, card: Mapping[str, object]) -> None:
    """Write ``run.json`` atomically."""
    write_json(folder / "run.json", card, kind="run")


def list_runs(study: Path) -> list[Run]:
    """All runs of a study folder, by name."""
    return [read_run(path.parent) for path in sorted(runs_folder(study).glob("*/run.json"))]


def run_name(arch: str, encoder: str, seed: int) -> str:
    """The name of a run's folder.

    Example:
        >>> run_name("unet", "tu-tf_efficientnet_lite0", 0)
        'unet-tf_efficientnet_lite0-s0'
    """
    safe = re.sub(r"[^A-Za-z0-9_.]+", "-", encoder.removeprefix("tu-")).strip("-.")
    return f"{arch}-{safe}-s{seed}"


def append_history(folder: Path, lines: Sequence[Mapping[str, object]]) -> None:
    """Append lines to ``history.jsonl``.

    Raises:
        DiskError: The disk is full; the history is what it was.
    """
    text = "".join(json.dumps(plain(line), allow_nan=False) + "\n" for line in lines)
    append_text(folder / "history.jsonl", text)


_NUMBERS = ("step", "epoch", "train_loss", "val_loss", "val_miou", "lr", "images_per_s", "time_s")


def _is_number(value: object) -> bool:
    """Whether a field of a line holds a number that is one on disk, or none."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``history.jsonl``; a last line that a kill cut short is left out.

    Raises:
        RecordError: A line before the last is no JSON object, or a field that is drawn holds no number.
    """
    path = folder / "history.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    history = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            content = json.loads(line)
        except ValueError:
            content = None
        if isinstance(content, dict):
            wrong = next((key for key in _NUMBERS if not _is_number(content.get(key))), None)
            if wrong:
                shown = str(content[wrong])[:40]
                raise RecordError(f"{path}: line {number}: {wrong} is {shown!r}, expected a number. Remove the line.")
            history.append(content)
        elif number < len(lines):
            raise RecordError(f"{path}: line {number} is no JSON object ({line[:40]!r}). Remove the line.")
    return history


def truncate_history(folder: Path, last_step: int, *, last_validation: int | None = None) -> None:
    """Keep the history that a state knows, so that a resumed run writes the rest once.

    Args:
        folder: The run folder.
        last_step: The last step to keep.
        last_validation: The last step whose validation to keep; ``None`` keeps those up to ``last_step``.
    """
    limit = last_step if last_validation is None else min(last_step, last_validation)
    limits = {"val": limit}
    kept = [x for x in read_history(folder) if x.get("step", 0) <= limits.get(x.get("kind", ""), last_step)]
    with atomic_path(folder / "history.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
