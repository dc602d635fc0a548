"""Run and study folders on disk: run card, history, options of the study, and paths."""

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, JsonValue, PlainSerializer, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic.dataclasses import dataclass

from levelground import _drawn_by
from levelground.config import Budget, Recipe
from levelground.errors import MissingRecordError, RecordError
from levelground.history import HISTORY_FILE, HistoryLine
from levelground.imagery.geotiff import NO_BAND_INFO, BandInfo
from levelground.recipe_files import BudgetRecord, RecipeRecord, TuningRecord
from levelground.records import RECORD_CONFIG, OpenRecord, check_record, json_schema, read_json, to_json, write_json

RUN_FILE, STUDY_FILE = "run.json", "study.json"
EVALUATION_LOG = "test_looks.jsonl"
"""In a study folder: one line for each evaluation of a run on the test scenes, with time, run and command."""
REMEDY = "Make the run anew."

Pixels = Annotated[StrictInt, Field(ge=0)]  # a length
ClassIndex = Annotated[StrictInt, Field(ge=0, le=254)]
"""Index of a class in the legend."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class ParametersRecord(OpenRecord):
    """Numbers of parameters of a network."""

    ALWAYS_WRITTEN: ClassVar[frozenset[str]] = frozenset({"total", "used", "trainable"})

    total: StrictInt | None = None
    used: StrictInt | None = None
    """Parameters that the output depends on."""
    trainable: StrictInt | None = None
    """Parameters that were trained; not known of adopted weights."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class SelectionRecord(OpenRecord):
    """Choice of the weights that were kept."""

    ALWAYS_WRITTEN: ClassVar[frozenset[str]] = frozenset({"rule", "step", "value"})

    rule: StrictStr | None = None
    """The recipe's ``select``, or ``last`` where validation cannot tell which weights are best."""
    reason: StrictStr | None = None
    """Why the last weights are kept in place of those that the recipe names."""
    step: StrictInt | None = None
    averaged: StrictInt | None = None
    """Number of steps up to ``step`` whose weights were averaged."""
    value: StrictFloat | None = None
    """The best validation score so far, or the lowest loss."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class SpeedRecord(OpenRecord):
    """Measured throughput."""

    train_images_per_s: StrictFloat | None = None
    infer_megapixels_per_s: StrictFloat | None = None


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class EvaluationRecord(OpenRecord):
    """Evaluation on the scenes of a split."""

    identity: StrictStr
    """Hash of all that decides the counts."""
    counts_sha256: StrictStr
    """Hash of the counts file."""
    tile: Pixels | None = None
    halo: Pixels | None = None
    batch: StrictInt | None = None
    precision: StrictStr | None = None
    device: StrictStr | None = None
    engine: StrictStr | None = None
    hardware: StrictStr | None = None
    threads: StrictInt | None = None
    megapixels_per_s: StrictFloat | None = None
    loss: StrictFloat | None = None
    """Cross-entropy per counted pixel."""
    dice_loss: StrictFloat | None = None
    """Mean over scenes of the origin recipe's Dice loss."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class AdoptionRecord(OpenRecord):
    """Source of an adopted run."""

    weights: StrictStr | None = None
    """Name of the weights file."""
    masks: StrictStr | None = None
    """Name of the folder of predicted masks."""
    normalise: StrictStr | None = None
    metadata: JsonValue = None
    """What the other tool's history says of itself."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class TransferRecord(OpenRecord):
    """Source of a run that was trained on another data set than that of the study it lies in."""

    study: StrictStr
    """Name of the study that it was trained in."""
    run: StrictStr
    """Its name there."""
    legend: StrictStr | None = None
    """Name of the legend that it learnt."""
    scenes: StrictInt | None = None
    """Number of its training scenes, where that is known."""
    train_sha256: StrictStr | None = None
    """Hash of the training and validation scenes there."""
    split_sha256: StrictStr | None = None
    """Hash of the split there."""
    classes: Mapping[str, StrictStr] = dataclasses.field(default_factory=dict)
    """Each class that it predicts, with the class here that it counts as."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class InitialWeightsRecord(OpenRecord):
    """Whole network that a run started from."""

    name: StrictStr
    """Name of the run or file."""
    sha256: StrictStr
    """Hash of its file of weights."""
    study: StrictStr | None = None
    """Name of the study that it was trained in."""
    training: StrictStr | None = None
    """Hash of how it was trained, the same for networks that one study trained alike; ``None`` where nobody knows."""
    outputs: StrictInt | None = None
    """Number of its outputs."""
    bands: StrictInt | None = None
    """Number of the bands that it read."""
    classes: tuple[StrictStr, ...] = ()
    """Classes whose outputs kept their weights; the others started anew."""

    def describe(self) -> str:
        """Return what runs that started alike have in common: one training, or one file."""
        if self.training is None:
            return f"network {self.name} ({self.sha256[:12]})"
        return f"network of {self.study} ({self.training[:12]})"


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class RunCard(OpenRecord):
    """Run card, ``run.json``: all that is known of a run. A field without a value is not known, as of adopted runs."""

    KIND: ClassVar[str | None] = "run"
    ALWAYS_WRITTEN: ClassVar[frozenset[str]] = frozenset({
        "encoder_weights", "twin", "recipe", "budget", "outputs", "tile", "halo", "gsd_m", "legend", "train_sha256",
        "split_sha256"})  # fmt: skip

    name: Annotated[StrictStr, Field(pattern=r"^[^/\\\x00-\x1f]+$")]  # it becomes part of file names
    """Name of the run and of its folder."""
    status: StrictStr
    """``training``, ``stopped``, ``failed``, ``finished``, ``adopted``, or ``joined`` of the runs of all folds."""
    arch: StrictStr
    """Architecture; ``unknown`` for adopted predictions."""
    encoder: StrictStr
    """Encoder; ``unknown`` for adopted predictions."""
    encoder_weights: StrictStr | None = None
    """Where the encoder's weights came from."""
    seed: StrictInt | None
    """Seed of the initial weights and of every crop."""
    twin: StrictBool = False
    """Whether this is the architecture under a second name, a negative control."""
    recipe: Annotated[
        RecipeRecord | None,
        BeforeValidator(lambda value: value or None),
        PlainSerializer(lambda value: to_json(value) if value else {}),
    ] = None
    budget: BudgetRecord | None = None
    steps_per_epoch: StrictInt | None = None
    outputs: tuple[ClassIndex, ...] = ()
    """Legend index of each output; outputs with one index are summed. Empty for adopted predictions."""
    tile: Pixels | None = None
    """Side of the inference tile, px; 0 takes whole scenes."""
    halo: Pixels | None = None
    """Half of the overlap of neighbouring inference tiles, px."""
    fixed_tile: StrictBool = False
    """Whether the model takes tiles of no other size."""
    in_channels: Annotated[StrictInt, Field(ge=1)] | None = None
    dtype: StrictStr | None = None
    """NumPy's name of the type of stored pixels."""
    mean: tuple[StrictFloat, ...] = ()
    """Mean of each band that inputs are normalised by, in stored values."""
    std: tuple[Annotated[StrictFloat, Field(gt=0)], ...] = ()
    """Deviation of each band that inputs are normalised by, in stored values."""
    gsd_m: StrictFloat | None = None
    """Ground sample distance, metres a pixel."""
    band_info: BandInfo = NO_BAND_INFO
    """What the training images said of their bands: names, scales and offsets."""
    legend: Mapping[str, JsonValue] = dataclasses.field(default_factory=dict)
    """The classes, as in a legend file."""
    legend_sha256: StrictStr
    train_sha256: StrictStr | None = None
    """Hash of the training and validation scenes, their labels and the legend."""
    split_sha256: StrictStr | None = None
    versions: Mapping[str, StrictStr] = dataclasses.field(default_factory=dict)
    """Versions of the libraries that weights depend on."""
    device: StrictStr | None = None
    precision: StrictStr | None = None
    threads: StrictInt | None = None
    processes: StrictInt | None = None
    deterministic: StrictBool | None = None
    hardware: StrictStr | None = None
    """Name of the processor."""
    parameters: ParametersRecord = ParametersRecord()
    macs_per_megapixel: StrictFloat | None = None
    """Multiplications and additions of a forward pass for a million pixels."""
    identity: StrictStr
    """Hash of all that decides the weights."""
    weights_sha256: StrictStr | None = None
    """Hash of the weights file of a finished or adopted run."""
    adopted_from: AdoptionRecord | None = None
    initial_weights: InitialWeightsRecord | None = None
    """Whole network that it started from, if any."""
    tuning: TuningRecord | None = None
    """How fields of its recipe were chosen, if ``levelground tune`` did."""
    transferred_from: TransferRecord | None = None
    """Where it was trained, if on another data set."""
    code_sha256: StrictStr | None = None
    """Hash of the file of the network's own code."""
    known_as: Annotated[StrictStr, Field(min_length=1)] | None = None
    """Architecture that an adopted run is a training of, as ``adopt --as`` named it."""
    steps_done: StrictInt | None = None
    images_seen: StrictInt | None = None
    megapixels_seen: StrictFloat | None = None
    train_s: StrictFloat | None = None
    """Time in training steps, seconds."""
    wall_s: StrictFloat | None = None
    """Time of the run in all its sessions: preparation, training steps, validations, saved states; seconds."""
    peak_memory_mib: StrictFloat | None = None
    selection: SelectionRecord = SelectionRecord()
    speed: SpeedRecord = SpeedRecord()
    evaluations: Mapping[str, EvaluationRecord] = dataclasses.field(default_factory=dict)
    """The evaluation of each split that was scored."""
    folds: tuple[StrictStr, ...] = ()
    """Folders of the runs of all folds, below the study, whose counts were joined; times and steps are their means."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class StudyOptionsRecord(OpenRecord):
    """Options of a study."""

    ALWAYS_WRITTEN: ClassVar[frozenset[str]] = frozenset({"twins", "workers"})

    archs: tuple[StrictStr, ...]
    seeds: tuple[StrictInt, ...]
    recipe: RecipeRecord
    budget: Budget
    metric: StrictStr
    """The metric that verdicts are about, named before results are seen."""
    delta: StrictFloat
    """Differences smaller than this do not matter."""
    init: tuple[StrictStr, ...] = ()
    """Names of the networks that runs started from."""
    recipe_for: tuple[StrictStr, ...] = ()
    """Recipe files of single architectures."""
    twins: StrictBool = False
    """Whether each architecture was trained under a second name too."""
    budgets: tuple[StrictFloat, ...] = ()
    """Shares of the budget that every architecture and seed was trained at too; empty where there is none."""
    workers: StrictInt | None = None
    """Loader processes."""
    save_every_s: StrictFloat
    """Longest time between two saved states, seconds."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class StudyRecord(OpenRecord):
    """Options of a study, and the runs that it compares: ``study.json``."""

    KIND: ClassVar[str | None] = "study"

    options: StudyOptionsRecord
    runs: tuple[StrictStr, ...]
    """Names of the runs."""
    failed: Mapping[str, StrictStr] = dataclasses.field(default_factory=dict)
    """Where and why runs failed on a cluster, by folder."""
    planned: tuple[StrictStr, ...] = ()
    """Names of the runs that were asked for, while the study is not finished."""


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """A run folder: its place and its card."""

    folder: Path
    card: RunCard

    def __fspath__(self) -> str:
        """Return the folder, so that a run is taken wherever its path is."""
        return str(self.folder)

    def __repr__(self) -> str:
        """Return folder and status; ``card`` has the rest."""
        return f"<Run {str(self.folder)!r}: {self.card.status}>"

    def _repr_html_(self) -> str:
        """Show the run's card and learning curves in a notebook."""
        return str(_drawn_by("run_html")(self))

    @property
    def name(self) -> str:
        """The run's name, such as ``unet-resnet18-s0``."""
        return self.card.name

    @property
    def arch(self) -> str:
        """The architecture's name; ``unknown`` for adopted predictions."""
        return self.card.arch

    @property
    def encoder(self) -> str:
        """The encoder's name; ``unknown`` for adopted predictions."""
        return self.card.encoder

    @property
    def seed(self) -> int | None:
        """The seed, or ``None`` where it is not known."""
        return self.card.seed

    @property
    def known_as(self) -> str:
        """The architecture that the run is compared as: the name that its adoption gave, else the network's."""
        return self.card.known_as or self.card.arch

    @property
    def alone(self) -> bool:
        """Whether nobody knows of which architecture the run is a seed: adopted without saying, or without a seed."""
        return self.card.seed is None or (self.adopted and self.known_as == "unknown")

    @property
    def adopted(self) -> bool:
        """Whether another tool trained it."""
        return self.card.status == "adopted"

    @property
    def history_alone(self) -> bool:
        """Whether it is an adopted history, without a model or predictions."""
        return self.adopted and not (self.card.outputs or self.card.evaluations)

    @property
    def study(self) -> Path:
        """The study folder that the run lies in, as ``STUDY/runs/NAME``."""
        return self.folder.resolve().parent.parent

    @property
    def model_folder(self) -> Path:
        """The folder of the selected weights, in segmentation_models_pytorch's own layout."""
        return self.folder / "model"

    def counts_path(self, split: str) -> Path:
        """Return the path of the counts of a split."""
        return self.folder / f"counts-{split}.npz"

    def preds_folder(self, split: str) -> Path:
        """Return the folder of the predicted masks of a split."""
        return self.folder / f"preds-{split}"


def runs_folder(study: Path) -> Path:
    """Return the folder of a study that holds its runs."""
    return study / "runs"


def budget_folder(study: Path, share: float) -> Path:
    """Return the folder of a share of the budget, such as ``study/budgets/0.0625``: a data set and its runs."""
    return study / "budgets" / f"{share:.12g}"


def read_run(folder: str | PathLike[str]) -> Run:
    """Read a run folder.

    Raises:
        RecordError: There is no run card, it is damaged, of an unknown schema, lacks a key or has one of a wrong type.
    """
    path = Path(folder) / RUN_FILE
    return Run(path.parent, check_record(read_json(path, kind="run"), RunCard, source=str(path), remedy=REMEDY))


def write_card(folder: Path, card: RunCard) -> Run:
    """Write ``run.json`` atomically and return the run."""
    write_json(folder / RUN_FILE, to_json(card), kind="run")
    return Run(folder, card)


def read_recipe(run: Run) -> Recipe:
    """Return the recipe that a run was begun with.

    Raises:
        RecordError: Another tool trained it.
        ConfigError: The card's recipe has a key that this version does not know.
    """
    if run.adopted:
        raise RecordError(f"{run.folder}: was adopted, not trained here. Give a run that levelground train began.")
    return run.card.recipe.recipe(str(run.folder / RUN_FILE)) if run.card.recipe else Recipe()


def list_runs(study: str | PathLike[str]) -> list[Run]:
    """List all runs of a study folder by name."""
    return [read_run(path.parent) for path in sorted(runs_folder(Path(study)).glob(f"*/{RUN_FILE}"))]


def run_name(arch: str, encoder: str, seed: int) -> str:
    """Return the name of a run's folder.

    Example:
        >>> run_name("unet", "tu-tf_efficientnet_lite0", 0)
        'unet-tf_efficientnet_lite0-s0'
    """
    safe = re.sub(r"[^A-Za-z0-9_.]+", "-", encoder.removeprefix("tu-")).strip("-.")
    known = re.sub(r"[^A-Za-z0-9_.+]+", "-", arch).strip("-.")
    return f"{known}-s{seed}" if encoder == "none" else f"{known}-{safe}-s{seed}"


def read_study(folder: Path) -> StudyRecord:
    """Read what a study was asked for.

    Raises:
        RecordError: There is no ``study.json``, it is damaged, of an unknown schema, or a key is missing or wrong.
    """
    record, source = read_json(folder / STUDY_FILE, kind="study"), str(folder / STUDY_FILE)
    return check_record(record, StudyRecord, source=source, remedy="Run levelground study again.")


def study_budgets(folder: Path) -> tuple[float, ...]:
    """Return the shares of the budget that a study was trained at beside the whole one; none where nothing tells."""
    with contextlib.suppress(MissingRecordError):  # the runs are compared without it
        return tuple(sorted(share for share in read_study(folder).options.budgets if share < 1))
    return ()


def write_study(folder: Path, study: StudyRecord) -> None:
    """Write ``study.json`` atomically."""
    write_json(folder / STUDY_FILE, to_json(study), kind="study")


def schemas() -> Mapping[str, Mapping[str, JsonValue]]:
    """Return the JSON Schemas of a run's and a study's records by the name of their file."""
    return {n: json_schema(r) for n, r in ((RUN_FILE, RunCard), (STUDY_FILE, StudyRecord), (HISTORY_FILE, HistoryLine))}
