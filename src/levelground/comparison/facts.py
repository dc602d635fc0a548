"""What a comparison finds, as facts: one type for each kind of finding, with its code, its severity and typed figures.

Facts hold no sentence: :mod:`levelground.comparison.sentences` writes them, in any language. ``figures`` are what
``comparison.json`` keeps of a fact beside its sentences.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from levelground.comparison.record import Comparison
from levelground.comparison.results import Interval, OpenPairPower, PairResult, Severity, block_json, negated
from levelground.statistics.pairs import VerdictWord

REHEARSAL_STEPS = 100
"""Runs of fewer steps are called a rehearsal: on real scenes a score kept rising for several hundred."""


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


def rising(comparison: Comparison) -> dict[str, float]:
    """Return the models whose validation score gained δ or more in the last fifth of the steps, the mean over seeds."""
    gains = {}
    for name, runs in comparison.candidate_runs.items():
        known = [run.convergence.last_gain for run in runs if run.convergence and run.convergence.last_gain is not None]
        if len(known) == len(runs) and sum(known) / len(known) >= comparison.delta > 0:
            gains[name] = sum(known) / len(known)
    return gains


def trained_steps(comparison: Comparison) -> tuple[int, int] | None:
    """Return the fewest and the most steps of the runs that were trained here; ``None`` where none was."""
    steps = [run.card.steps_done for run in comparison.runs if not run.adopted and run.card.steps_done]
    return (min(steps), max(steps)) if steps else None


def is_rehearsal(comparison: Comparison) -> bool:
    """Tell whether all runs were trained so briefly that the study only shows how it works."""
    return _is_brief(trained_steps(comparison))


def _is_brief(steps: tuple[int, int] | None) -> bool:
    return steps is not None and steps[1] < REHEARSAL_STEPS


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
    steps: tuple[int, int] | None = None
    """The fewest and the most steps of a run that was trained here; ``None`` where none was."""
    still_rising: bool = False
    """Whether a validation score rose by δ or more in the last fifth of the steps."""

    @property
    def rehearsal(self) -> bool:
        """Whether the models were trained so briefly that the study only shows how it works."""
        return _is_brief(self.steps)

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
class OneGroupDecides(Fact):
    """Without one group, verdicts of the leader are others.

    Attributes:
        group: The group.
        leader: What the leader is called.
        others: Those whose verdict changes, with the difference to the leader as it is now.
        without: The difference to each without the group, its interval, and the verdict then.
        was: The verdict on each now.
    """

    code = "one_group_decides"
    severity = "warning"
    group: str
    leader: str
    others: tuple[Opponent, ...]
    without: tuple[tuple[float, Interval, VerdictWord], ...]
    was: tuple[VerdictWord, ...]

    @property
    def figures(self) -> dict[str, object]:
        """The group, the names of the others, and each one's difference, interval and verdict without the group."""
        return {"group": self.group, "pairs": [entry.name for entry in self.others], "without": self.without}


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
        labels: What the two sides of that pair are called.
    """

    code = "what_would_decide"
    groups: int
    power: OpenPairPower
    detects: bool
    labels: tuple[str, str]

    @property
    def figures(self) -> dict[str, object]:
        """The power analysis."""
        return dict(block_json(self.power))
