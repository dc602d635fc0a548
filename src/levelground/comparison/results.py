"""The parts of a comparison: results of runs, pairs and architectures, each a frozen block of ``comparison.json``.

Attributes have plain names; where the file's key is another one, it is the field's alias. A score that does not exist
(a class without true pixels, an interval with one group) is ``None``, never NaN. Letters: K classes, S scenes.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, TypeAdapter, computed_field
from pydantic.dataclasses import dataclass

from levelground.metrics.scores import Scoring
from levelground.records import describe_fields, plain
from levelground.runs import RunCard
from levelground.statistics.pairs import VerdictWord

BLOCK = ConfigDict(
    validate_by_name=True,
    validate_by_alias=True,
    serialize_by_alias=True,
    json_schema_extra=describe_fields,
    allow_inf_nan=False,
)
"""How every block of a comparison is read and written."""


def _finite(value: object) -> object:
    """``None`` for NaN and infinities, which JSON does not hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Value = Annotated[float | None, BeforeValidator(_finite)]
"""A figure; ``None`` where it does not exist."""

Interval = tuple[float, float] | None
"""Low and high end of a 95 % interval; ``None`` where there is none."""

Count = Annotated[int, Field(ge=0)]
Number = int | float

Severity = Literal["headline", "finding", "warning"]

OPPOSITE: dict[VerdictWord, VerdictWord] = {
    "better": "worse",
    "worse": "better",
    "equal": "equal",
    "undecided": "undecided",
}
"""The verdict on a pair seen from its other side."""


def absent(value: object) -> bool:
    """Whether an optional key is left out of the file."""
    return value is None


class ScoreSet(BaseModel):
    """The scores of one run under one scoring, by kind of metric (:mod:`levelground.metrics.named`).

    Which kinds there are is for the metrics to say, so all but two are read and written as they come.
    """

    model_config = ConfigDict(frozen=True, extra="allow", json_schema_extra=describe_fields, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Value | tuple[Value, ...]]

    miou: Value
    """Mean IoU over the class set."""
    interval: Interval
    """Its 95 % interval."""
    se: Value
    """Its standard error over groups."""
    iou: tuple[Value, ...]
    """IoU of each class, ``(K,)``."""

    def overall(self, kind: str) -> float | None:
        """Return the score of a kind of metric over all classes; ``None`` where it does not exist or is not held."""
        value = self.miou if kind == "miou" else self.__pydantic_extra__.get(kind)
        return None if isinstance(value, tuple) else value

    def per_class(self, kind: str) -> tuple[float | None, ...]:
        """Return the scores of a kind of metric of each class, ``(K,)``; empty where they are not held."""
        values = self.iou if kind == "iou" else self.__pydantic_extra__.get(kind)
        return values if isinstance(values, tuple) else ()

    def class_axes(self) -> dict[str, int]:
        """Return the length of everything that has one value a class, by kind."""
        held = {"iou": self.iou} | self.__pydantic_extra__
        return {kind: len(values) for kind, values in held.items() if isinstance(values, tuple)}


@dataclass(frozen=True, config=BLOCK)
class BoundaryScores:
    """Boundary IoU of one run."""

    mean: Value
    """Mean over the counted classes."""
    interval: Interval
    """Its 95 % interval."""
    se: Value
    """Its standard error over groups."""
    per_class: tuple[Value, ...]
    """Boundary IoU of each class, ``(K,)``."""
    distance_px: int
    """How far from a border a pixel counts as boundary."""


@dataclass(frozen=True, config=BLOCK)
class ClassCalibration:
    """The calibration of the pixels predicted as one class."""

    ece: float
    """Expected calibration error."""
    interval: Interval
    """Its 95 % interval."""


@dataclass(frozen=True, config=BLOCK)
class ReliabilityPoint:
    """One bin of a reliability diagram."""

    confidence: Value
    """Mean confidence."""
    accuracy: Value
    """Share of pixels that are right."""
    n: Count
    """Pixels in the bin."""


@dataclass(frozen=True, config=BLOCK)
class CalibrationResult:
    """Whether the confidences of one run are right."""

    ece: float
    """Expected calibration error, corrected by the jackknife."""
    uncorrected: Annotated[float, Field(alias="plain")]
    """The same without correction."""
    se: Value
    """Its standard error over groups."""
    interval: Interval
    """Its 95 % interval."""
    per_class: tuple[ClassCalibration | None, ...]
    """By predicted class, ``(K,)``; ``None`` for a class never predicted."""
    bins: tuple[ReliabilityPoint, ...]
    """The reliability diagram, from the least to the most confident bin."""


@dataclass(frozen=True, config=BLOCK)
class Convergence:
    """When validation first reached a share of its own best score."""

    metric: str
    """The validation metric."""
    share: float
    """The share of the best score."""
    best: float
    """The best score."""
    points: Count
    """Number of validations."""
    best_is_last: bool
    """Whether the last validation was the best."""
    step: Number | None
    """Training step."""
    epoch: Number | None
    """Epoch."""
    time_s: Number | None
    """Seconds of training."""
    last_gain: Annotated[Number | None, Field(exclude_if=absent)] = None
    """What the score gained in the last fifth of the steps; ``None`` with one validation, or where it is not known."""


@dataclass(frozen=True, config=BLOCK)
class Throughput:
    """Measured speeds of one run."""

    predict_megapixels_per_s: Number | None
    """Megapixels predicted a second."""
    interval: Interval
    """Its 95 % interval over groups."""
    train_images_per_s: Number | None
    """Images trained on a second."""


@dataclass(frozen=True, config=BLOCK)
class RunResult:
    """Everything that a comparison says of one run alone."""

    name: str
    """Unique name."""
    arch: str
    """Architecture."""
    encoder: str
    """Encoder."""
    seed: int | None
    """Seed; ``None`` where it is not known."""
    label: str
    """What the run is called in tables and sentences."""
    card: RunCard
    """The run card."""
    adopted: bool
    """Whether another tool trained it."""
    value: Value
    """The primary metric."""
    interval: Interval
    """Its 95 % interval."""
    scores: Mapping[Scoring, ScoreSet]
    """Scores by scoring."""
    boundary: Annotated[BoundaryScores | None, Field(alias="boundary_iou")]
    """Boundary IoU; ``None`` where it was not counted alike for all runs."""
    calibration: CalibrationResult | None
    """Calibration; ``None`` without confidences."""
    loss: Value
    """Cross-entropy per counted pixel; ``None`` without probabilities."""
    counts: tuple[tuple[Count, ...], ...]
    """Confusion matrix over all scenes, true by predicted class, ``(K, K)`` pixels."""
    scene_miou: tuple[Value, ...]
    """Official mIoU of each scene alone, ``(S,)``."""
    convergence: Annotated[Convergence | None, Field(alias="learning")]
    """When it had learnt; ``None`` without a history."""
    throughput: Throughput
    """Measured speeds."""
    folder: Annotated[str | None, Field(exclude_if=absent)] = None
    """The run folder, seen from the comparison's folder; ``None`` means ``runs/NAME``."""

    def dice_loss(self, split: str) -> float | None:
        """Return the origin recipe's Dice loss, a mean over scenes; ``None`` where it was not computed."""
        evaluation = self.card.evaluations.get(split)
        return None if evaluation is None else evaluation.dice_loss


@dataclass(frozen=True, config=BLOCK)
class ClassDifference:
    """The difference of one class's IoU between the two sides of a pair; it describes and is not tested."""

    class_index: Annotated[Count, Field(alias="class")]
    """The class."""
    delta: Value
    """IoU of a minus IoU of b."""
    interval: Interval
    """Its 95 % interval."""


@dataclass(frozen=True, config=BLOCK)
class PowerAnalysis:
    """What the design of a pair can show, and what it would take to settle δ."""

    delta: float
    """The difference that matters, δ."""
    alpha: float
    """Level of one test."""
    detectable: float
    """The smallest true difference shown in a share ``power`` of repetitions."""
    groups_needed: int | None
    """Groups that detect δ; ``None``: no number does."""
    seeds_needed: int | None
    """Seeds on each side that detect δ; ``None``: no number does, or the pair is of runs."""
    groups_for_equal: int | None
    """Groups that show two equal sides to be equal."""
    seeds_for_equal: int | None
    """Seeds that show two equal sides to be equal."""
    power: float
    """The share of repetitions asked for."""
    groups: int
    """Groups at hand."""
    seeds: Annotated[int | None, Field(exclude_if=absent)] = None
    """Seeds at hand, of the side that has fewer; ``None`` for a pair of runs."""
    groups_share: Annotated[float | None, Field(exclude_if=absent)] = None
    """The share of groups in the variance of the difference; ``None`` for a pair of runs."""


@dataclass(frozen=True, config=BLOCK)
class OpenPairPower(PowerAnalysis):
    """The power analysis of the most interesting open pair."""

    pair: tuple[str, str] = ("", "")
    """Names of its two sides."""

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def detectable_delta(self) -> float:
        """The same as ``detectable``."""
        return self.detectable


@dataclass(frozen=True, config=BLOCK, kw_only=True)
class PairResult:
    """The difference of two runs or of two architectures, a − b, by the primary metric."""

    a: str
    """Name of the first side."""
    b: str
    """Name of the second side."""
    metric: str
    """The primary metric."""
    delta: Value
    """Metric of a minus metric of b."""
    se: Value
    """Its standard error."""
    df: Value
    """Degrees of freedom."""
    interval: Interval
    """95 % interval: the one that decides."""
    p: Value
    """Two-sided p."""
    p_holm: Value
    """The same, adjusted for all pairs tested together."""
    verdict: VerdictWord
    """What may be said of a."""
    excludes_zero: bool
    """Whether the interval leaves 0 out."""
    per_class: tuple[ClassDifference, ...]
    """Differences of the classes with true pixels."""
    power: PowerAnalysis | None
    """What the design can show; ``None`` without a standard error or with δ = 0."""
    negative_control: Annotated[bool, Field(alias="control")]
    """Whether the pair is a twin and its original."""
    text: str = ""
    """The pair in a sentence."""

    def flipped(self) -> Self:
        """Return the pair seen from its other side: b − a."""
        return replace(self, **self._flipped())

    def _flipped(self) -> dict[str, Any]:
        return {
            "a": self.b,
            "b": self.a,
            "delta": None if self.delta is None else -self.delta,
            "interval": negated(self.interval),
            "verdict": OPPOSITE[self.verdict],
            "per_class": tuple(
                replace(entry, delta=None if entry.delta is None else -entry.delta, interval=negated(entry.interval))
                for entry in self.per_class
            ),
        }


@dataclass(frozen=True, config=BLOCK, kw_only=True)
class RunPairResult(PairResult):
    """The difference of two runs: it speaks of these weights."""

    p_min: float
    """The smallest ``p_holm`` that any difference could have reached."""
    deciding_groups: Annotated[Count | None, Field(exclude_if=absent)] = None
    """Groups whose swap can change the difference, where others hold nothing of the metric; ``None``: all."""


@dataclass(frozen=True, config=BLOCK, kw_only=True)
class ArchitecturePairResult(PairResult):
    """The difference of two architectures, each with two or more seeds."""

    v_groups: Value
    """Variance of the difference over groups."""
    v_a: Value
    """Variance of a's score over seeds."""
    v_b: Value
    """Variance of b's score over seeds."""
    n_a: int
    """Seeds of a."""
    n_b: int
    """Seeds of b."""
    n_groups: int
    """Groups."""

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def v_group(self) -> float | None:
        """The same as ``v_groups``."""
        return self.v_groups

    def _flipped(self) -> dict[str, Any]:
        return super()._flipped() | {"v_a": self.v_b, "v_b": self.v_a, "n_a": self.n_b, "n_b": self.n_a}


@dataclass(frozen=True, config=BLOCK)
class ArchitectureResult:
    """The score of one architecture: the mean over its seeds."""

    name: str
    """Unique name; two protocols of one architecture are two architectures."""
    runs: tuple[str, ...]
    """Names of its runs."""
    value: Value
    """Mean of their primary metric."""
    interval: Interval
    """Its 95 % interval; ``None`` with one seed or one group."""
    se: Value
    """Its standard error."""
    df: Value
    """Degrees of freedom."""
    se_groups: Value
    """The part of the standard error that groups contribute."""
    se_seeds: Value
    """The part of the standard error that seeds contribute."""
    ranked_first: Value
    """Share of resamples in which it comes first; ``None`` for a twin."""
    arch: str
    """Architecture."""
    encoder: str
    """Encoder."""
    seeds: int
    """Number of seeds."""
    miou: Value
    """Mean of the mIoU of its runs, under the primary metric's scoring."""
    twin_of: str | None
    """The original whose twin it is, or ``None``."""


@dataclass(frozen=True, config=BLOCK)
class MetricRow:
    """All runs under one metric."""

    metric: str
    """The metric's name."""
    values: Mapping[str, Value]
    """The score of each run."""
    ranks: Mapping[str, int | None]
    """The rank of each run, 1 for the best."""
    flips: tuple[tuple[str, str], ...]
    """Pairs of runs: the first is above the second by the primary metric and below it here."""


@dataclass(frozen=True, config=BLOCK)
class Finding:
    """One sentence or a few about a comparison, with the figures they state."""

    code: str
    """What kind of finding it is; docs/compare.md lists the codes."""
    severity: Severity
    """How it is shown."""
    text: str
    """The sentences."""
    figures: Annotated[Mapping[str, object], BeforeValidator(plain)] = Field(default_factory=dict)
    """The figures that they state."""


def negated(interval: Interval) -> Interval:
    """Return the interval of −x for the interval of x."""
    return None if interval is None else (-interval[1], -interval[0])


def block_json(block: object) -> dict[str, JsonValue]:
    """Return a block as the JSON object that the file holds."""
    content: dict[str, JsonValue] = TypeAdapter(type(block)).dump_python(block, mode="json")
    return content
