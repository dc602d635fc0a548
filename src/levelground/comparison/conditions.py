"""Conditions of a comparison, as ``comparison.json`` holds them: data set, scenes, ground truth, test evaluations.

Letters: K classes, S scenes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated

from pydantic import (
    Field,
    JsonValue,
)
from pydantic.dataclasses import dataclass

from levelground.comparison.results import BLOCK, Count, Interval, Value, absent
from levelground.statistics.pairs import VerdictWord


def _empty(value: object) -> bool:
    """Whether a list or mapping that the earliest records lack is left out of the file."""
    return not value


@dataclass(frozen=True, config=BLOCK)
class NamedQuestion:
    """The question that ``study.json`` named before results were seen."""

    metric: str
    """The primary metric."""
    delta: float
    """The difference that counts as none, δ."""


@dataclass(frozen=True, config=BLOCK)
class UnfinishedRun:
    """Run of the study that is not compared: it failed on a cluster, or the study was interrupted."""

    name: str
    """Its folder below the study, without ``runs/``."""
    reason: str
    """Where and why it failed, in one line; of an interrupted study ``not begun``, ``unfinished`` or ``unscored``."""


@dataclass(frozen=True, config=BLOCK)
class SplitRule:
    """How the split came about."""

    kind: str
    """Its rule."""
    seed: int | None
    """The seed of a random one."""
    left_out: tuple[str, ...]
    """Scenes in no set."""
    text: str
    """The rule in words."""
    folds: Annotated[tuple[tuple[str, ...], ...], Field(exclude_if=_empty)] = ()
    """Ids of the test scenes of each fold, where every scene is a test scene once."""


@dataclass(frozen=True, config=BLOCK)
class DatasetFinding:
    """Something worth saying about the data set."""

    severity: str
    """``error``, ``warning`` or ``note``."""
    code: str
    """What kind of finding it is."""
    text: str
    """The finding in words."""
    scene: str | None = None
    """The scene that it is about."""


@dataclass(frozen=True, config=BLOCK)
class DatasetSummary:
    """Sizes and origin of the data set; ``None`` where no ``dataset.json`` was at hand."""

    scenes: int | None
    """All scenes."""
    train: int | None
    """Training scenes."""
    val: int | None
    """Validation scenes."""
    test: int | None
    """Test scenes."""
    layout: str | None
    """The layout of its folder."""
    n_test_groups: Annotated[int | None, Field(alias="n_groups_test")]
    """Groups of test scenes; ``None`` where another split was scored."""
    findings: tuple[DatasetFinding, ...]
    """What ``prepare`` found."""
    groups_from: Annotated[str | None, Field(exclude_if=absent)] = None
    """Where groups come from; ``None`` where no ``dataset.json`` tells."""
    name: Annotated[str | None, Field(exclude_if=absent)] = None
    """Name of its folder; ``None`` where no ``dataset.json`` tells."""


@dataclass(frozen=True, config=BLOCK)
class SceneRow:
    """One scene that was scored."""

    id: str
    """Scene id."""
    group: str
    """Its group, the resampling unit."""
    height: int | None
    """Height in pixels, where it is known."""
    width: int | None
    """Width in pixels, where it is known."""
    labels_sha256: str
    """Hash of its labels."""
    class_pixels: tuple[Count, ...]
    """True pixels of each class, ``(K,)``."""
    place: Annotated[tuple[float, float] | None, Field(exclude_if=absent)] = None
    """Longitude and latitude of its middle, degrees; ``None`` where they are not known."""


@dataclass(frozen=True, config=BLOCK)
class GroundTruth:
    """The true pixels of all scenes."""

    class_pixels: tuple[Count, ...]
    """Pixels of each class, ``(K,)``."""
    class_share: tuple[float, ...]
    """Their shares, ``(K,)``."""
    present: tuple[bool, ...]
    """Whether the class has true pixels, ``(K,)``."""
    groups: Annotated[tuple[Count, ...], Field(exclude_if=_empty)] = ()
    """Groups with true pixels of each class, ``(K,)``; empty in the earliest records."""


@dataclass(frozen=True, config=BLOCK)
class SeparatedGroup:
    """A group with scenes in the split that was scored and in another one, or in two folds."""

    group: str
    """The group."""
    scored: Annotated[tuple[str, ...], Field(alias="test")]
    """Its scenes in the split that was scored, or in the first fold that holds some."""
    other: tuple[str, ...]
    """Its scenes in the other split or fold."""
    other_split: str
    """The other split, or the fold, such as ``fold 2``."""


@dataclass(frozen=True, config=BLOCK)
class LoggedEvaluation:
    """One evaluation on the test scenes, as the study's log holds it."""

    time: str | None = None
    """When."""
    run: str | None = None
    """Of which run."""
    command: str | None = None
    """By which command."""
    counts_sha256: str | None = None
    """Hash of the counts it wrote."""


@dataclass(frozen=True, config=BLOCK)
class LoggedView:
    """One comparison by another metric or δ than the study named, as the study's log holds it."""

    metric: str
    """The metric."""
    delta: float
    """The difference that counted as none, δ."""
    time: str | None = None
    """When."""
    command: str | None = None
    """By which command."""


@dataclass(frozen=True, config=BLOCK)
class EvaluationLog:
    """How often the test scenes were scored."""

    total: Count
    """Number of evaluations."""
    evaluations: Annotated[tuple[LoggedEvaluation, ...], Field(alias="by")]
    """Each of them."""
    runs: Annotated[Mapping[str, Count], Field(exclude_if=_empty)] = dataclasses.field(default_factory=dict)
    """How often each run of the comparison was scored; empty in the earliest records."""
    views: Annotated[tuple[LoggedView, ...], Field(exclude_if=_empty)] = ()
    """Comparisons by another metric or δ than the study named."""


@dataclass(frozen=True, config=BLOCK)
class ProtocolDifference:
    """A field of the training protocol in which runs differ."""

    field: str
    """The field."""
    values: Mapping[str, JsonValue]
    """Its value by run."""


@dataclass(frozen=True, config=BLOCK)
class WithoutGroup:
    """A pair of the leader whose verdict is another one without one group."""

    group: str
    """The group."""
    a: str
    """The leader."""
    b: str
    """The other."""
    delta: float
    """Metric of a minus metric of b, without the group."""
    interval: Interval
    """Its 95 % interval."""
    verdict: VerdictWord
    """What may be said of a then."""


@dataclass(frozen=True, config=BLOCK)
class BudgetScore:
    """The score of one architecture at one budget."""

    name: str
    """The architecture, under the name that the comparison gives it."""
    value: Value
    """Its value of the primary metric, the mean over seeds."""
    interval: Interval
    """Its 95 % interval."""


@dataclass(frozen=True, config=BLOCK)
class BudgetRung:
    """What the models score at one budget."""

    share: float
    """The budget as a share of the whole one."""
    asked: str
    """The budget as it was asked for, such as ``12 steps``."""
    steps: tuple[int, int] | None
    """The fewest and the most steps of a run."""
    scores: tuple[BudgetScore, ...]
    """The architectures, best first."""
    verdict: VerdictWord | None
    """What can be said of the leader against the second; ``None`` where there is no second."""
