"""What a comparison finds, as facts: one type for each kind of finding, with its code, its severity and typed figures.

Facts hold no sentence: :mod:`levelground.comparison.sentences` writes them, in any language. ``figures`` are what
``comparison.json`` keeps of a fact beside its sentences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from levelground.comparison.conditions import SeparatedGroup
from levelground.comparison.record import Comparison
from levelground.comparison.results import Interval, OpenPairPower, PairResult, Severity, block_json, negated
from levelground.statistics.pairs import VerdictWord

FEW_GROUPS = 20
"""Below as many groups, intervals are not known to cover what they promise (docs/experiments.md)."""

RARE_GROUPS = 5
"""With a class in as few groups, a run's own interval covered .84 to .92, not .95 (docs/experiments.md)."""


@dataclass(frozen=True)
class Fact:
    """Something found; the subclasses say what."""

    code: ClassVar[str]
    severity: ClassVar[Severity] = "finding"
    kept: ClassVar[tuple[str, ...]] = ()
    """The attributes that are figures in ``comparison.json``, under their own names."""

    @property
    def figures(self) -> dict[str, object]:
        """The figures under their keys in ``comparison.json``."""
        return {name: getattr(self, name) for name in self.kept}


@dataclass(frozen=True)
class Measure:
    """The metric that a fact is about.

    Attributes:
        name: As ``--metric`` takes it.
        scorings: The scorings of the comparison: with several, prose names the metric's own.
    """

    name: str
    scorings: tuple[str, ...]


@dataclass(frozen=True)
class PairVerdict:
    """The verdict on one pair: what :attr:`PairResult.text` says.

    Attributes:
        a: Label of the first side.
        b: Label of the second side.
        measure: The metric.
        verdict: What may be said of a.
        delta: Metric of a minus metric of b.
        interval: Its 95 % interval.
        p_holm: Its p, adjusted by Holm's method.
        margin: The difference that counts as none, δ.
        excludes_zero: Whether the interval leaves 0 out.
    """

    a: str
    b: str
    measure: Measure
    verdict: VerdictWord
    delta: float | None
    interval: Interval
    p_holm: float | None
    margin: float
    excludes_zero: bool

    def flipped(self) -> "PairVerdict":
        """Return a pair of which b is better, seen from its other side."""
        delta = None if self.delta is None else -self.delta
        return replace(self, a=self.b, b=self.a, verdict="better", delta=delta, interval=negated(self.interval))


def pair_verdict(pair: PairResult, comparison: Comparison, labels: Mapping[str, str]) -> PairVerdict:
    """Return the verdict on a pair of a comparison.

    Args:
        pair: The pair; its text is not read.
        comparison: What it is a pair of.
        labels: Labels by name; a name without one, such as an architecture's, is its own label.
    """
    return PairVerdict(
        a=labels.get(pair.a, pair.a),
        b=labels.get(pair.b, pair.b),
        measure=measure_of(comparison),
        verdict=pair.verdict,
        delta=pair.delta,
        interval=pair.interval,
        p_holm=pair.p_holm,
        margin=comparison.delta,
        excludes_zero=pair.excludes_zero,
    )


def measure_of(comparison: Comparison, metric: str | None = None) -> Measure:
    """Return a metric of a comparison, the primary one where none is named."""
    return Measure(comparison.metric if metric is None else metric, comparison.scorings)


@dataclass(frozen=True)
class Opponent:
    """One that stands behind the leader.

    Attributes:
        name: Its name.
        label: What it is called in prose.
        value: Its value of the metric.
        delta: The leader's value minus its own.
        interval: The 95 % interval of the difference.
        p_holm: The p of the difference, adjusted by Holm's method.
        excludes_zero: Whether the interval leaves 0 out.
    """

    name: str
    label: str
    value: float | None
    delta: float | None
    interval: Interval
    p_holm: float | None
    excludes_zero: bool


@dataclass(frozen=True)
class Scope:
    """What verdicts apply to.

    Attributes:
        split: The split that was scored.
        groups: Its groups.
        seeds: The fewest and the most seeds of an architecture; ``None`` where verdicts are about weights.
        folds: Number of folds, each with models of its own; 0 where one model scored all scenes.
    """

    split: str
    groups: int
    seeds: tuple[int, int] | None
    folds: int = 0


class _Headline(Fact):
    code = "headline"
    severity = "headline"


@dataclass(frozen=True)
class Headline(_Headline):
    """Who leads, and the verdicts on the difference to each of the others, in their ranking."""

    measure: Measure
    best: str
    label: str
    value: float
    undecided: tuple[Opponent, ...]
    equal: tuple[Opponent, ...]
    better: tuple[Opponent, ...]
    margin: float
    scope: Scope

    @property
    def figures(self) -> dict[str, object]:
        """The leader and the names of the others by verdict."""
        groups = {"undecided": self.undecided, "equal": self.equal, "better": self.better}
        names = {verdict: [item.name for item in items] for verdict, items in groups.items()}
        return {"metric": self.measure.name, "best": self.best, "value": self.value, **names}


@dataclass(frozen=True)
class LoneHeadline(_Headline):
    """What one architecture scores where there is nothing to compare it with."""

    measure: Measure
    name: str
    label: str
    value: float | None
    interval: Interval
    seeds: int
    scenes: int
    split: str

    @property
    def figures(self) -> dict[str, object]:
        """The architecture and its value."""
        return {"metric": self.measure.name, "best": self.name, "value": self.value}


@dataclass(frozen=True)
class NoRanking(_Headline):
    """The metric does not exist on the scenes."""

    measure: Measure

    @property
    def figures(self) -> dict[str, object]:
        """The metric without a leader."""
        return {"metric": self.measure.name, "best": None, "value": None}


@dataclass(frozen=True)
class RankedFirst(Fact):
    """The share of resamples in which each architecture comes first."""

    code = "ranked_first"
    kept = ("shares",)
    shares: Mapping[str, float]


@dataclass(frozen=True)
class EqualPairs(Fact):
    """Pairs shown to be equal within δ."""

    code = "equal_within_delta"
    pairs: tuple[PairVerdict, ...]
    names: tuple[tuple[str, str], ...]

    @property
    def figures(self) -> dict[str, object]:
        """The names of the pairs."""
        return {"pairs": self.names}


@dataclass(frozen=True)
class WhatWouldDecide(Fact):
    """What the design detects for open pairs, and what it takes to decide on δ.

    Attributes:
        groups: Groups at hand.
        power: The power analysis of the most interesting open pair.
        detects: Whether any difference can be detected.
    """

    code = "what_would_decide"
    groups: int
    power: OpenPairPower
    detects: bool

    @property
    def figures(self) -> dict[str, object]:
        """The power analysis."""
        return dict(block_json(self.power))


@dataclass(frozen=True)
class CannotShow(Fact):
    """Even the largest difference could not have reached p ≤ .05."""

    code = "cannot_show"
    severity = "warning"
    kept = ("p_min", "groups", "groups_for_p")
    p_min: float
    groups: int
    pairs: int
    groups_for_p: int


@dataclass(frozen=True)
class FewGroups(Fact):
    """Few groups: intervals are wide."""

    code = "few_groups"
    severity = "warning"
    kept = ("groups", "scenes")
    groups: int
    scenes: int
    split: str


@dataclass(frozen=True)
class OneGroup(FewGroups):
    """One group: no interval and no test."""

    code = "one_group"


@dataclass(frozen=True)
class RareClasses(Fact):
    """Counted classes in so few groups that another draw of test scenes might have missed them."""

    code = "rare_classes"
    severity = "warning"
    kept = ("classes", "groups")
    classes: Mapping[str, int]
    groups: int


@dataclass(frozen=True)
class LoneSeeds(Fact):
    """Architectures with one seed beside others with more: verdicts fall back to weights."""

    code = "lone_seeds"
    severity = "warning"
    kept = ("architectures",)
    architectures: tuple[str, ...]


class LoneSeedsBeside(LoneSeeds):
    """Architectures with one seed beside two or more with more: they are compared as trained weights."""


@dataclass(frozen=True)
class _Twins(Fact):
    code = "twins"
    twin: str
    original: str


@dataclass(frozen=True)
class ControlHolds(_Twins):
    """The negative control: an architecture was not told apart from its twin."""

    kept = ("twin", "original", "delta", "verdict")
    delta: float | None
    interval: Interval
    p: float | None
    verdict: VerdictWord


@dataclass(frozen=True)
class ControlFailed(ControlHolds):
    """The negative control failed: an architecture was told apart from its twin."""

    severity = "warning"


@dataclass(frozen=True)
class TwinSeeds(_Twins):
    """How often an architecture's weights are told apart from its twin's, where only seeds differ."""

    severity = "warning"
    pairs: int
    apart: int
    largest: float | None

    @property
    def figures(self) -> dict[str, object]:
        """The two names, the pairs, those told apart and the largest difference."""
        names: dict[str, object] = {"twin": self.twin, "original": self.original}
        return names | {"pairs": self.pairs, "apart": self.apart, "largest": self.largest}


@dataclass(frozen=True)
class FieldValues:
    """A field of the training protocol: each value with the labels of the runs that have it."""

    field: str
    runs: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class UnlikeProtocol(Fact):
    """Fields of the training protocol in which the runs differ, as was allowed."""

    code = "unlike_protocol"
    severity = "warning"
    fields: tuple[FieldValues, ...]

    @property
    def figures(self) -> dict[str, object]:
        """The fields."""
        return {"fields": [entry.field for entry in self.fields]}


@dataclass(frozen=True)
class _OfRuns(Fact):
    severity = "warning"
    kept = ("runs",)
    runs: tuple[str, ...]


class UnknownProtocol(_OfRuns):
    """Adopted runs: how they were trained is not known."""

    code = "unknown_protocol"


class UnlikeMachines(_OfRuns):
    """Runs from unlike machines, one of each: speeds are not compared."""

    code = "unlike_machines"


@dataclass(frozen=True)
class SeparatedGroups(Fact):
    """Groups with scenes on both sides of the split: training may have seen a part of test scenes."""

    code = "split_separates_groups"
    severity = "warning"
    groups: tuple[SeparatedGroup, ...]
    split: str

    @property
    def figures(self) -> dict[str, object]:
        """The groups."""
        return {"groups": [block_json(entry) for entry in self.groups]}


@dataclass(frozen=True)
class OneRaster(Fact):
    """All scenes are blocks of one raster."""

    code = "one_raster"
    severity = "warning"


@dataclass(frozen=True)
class EvaluationsOnTest(Fact):
    """The test scenes were evaluated no more often than there are runs."""

    code = "test_looks"
    kept = ("total", "runs")
    total: int
    runs: int


class RepeatedEvaluationsOnTest(EvaluationsOnTest):
    """The test scenes were evaluated more often than there are runs."""

    severity = "warning"
