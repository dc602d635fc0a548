"""What is only described: how the models got there (learning, speed, budget) and what they get wrong.

Each function takes a comparison and returns facts; nothing here is a verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

from levelground.comparison.facts import Fact, Measure, is_rehearsal, measure_of, rising
from levelground.comparison.record import Comparison
from levelground.comparison.results import MetricRow, RunResult, Severity
from levelground.comparison.speeds import fastest
from levelground.statistics.families import TIE

LIKE_TRAINED = 0.05
"""Trained shares of the used parameters that lie within this are called alike."""

CONFUSION_SHARE = 0.1
"""The smallest share of a true class, given to one other class, that is worth a sentence."""


@dataclass(frozen=True)
class ConvergesFirst(Fact):
    """When each model reached 95 % of its own best validation score, the mean over its seeds."""

    code = "converges_first"
    kept = ("steps", "epochs", "time_s")
    steps: Mapping[str, float]
    epochs: Mapping[str, float]
    time_s: Mapping[str, float]


@dataclass(frozen=True)
class StillLearning(Fact):
    """Models whose validation score rose by δ or more in the last fifth of their steps.

    Attributes:
        gains: What each of them gained there, the mean over its seeds.
        margin: δ.
    """

    code = "still_learning"
    severity = "warning"
    gains: Mapping[str, float]
    margin: float

    @property
    def figures(self) -> dict[str, object]:
        """The models and their gains."""
        return {"models": list(self.gains), "gains": self.gains}


@dataclass(frozen=True)
class UnlikeTrainable(Fact):
    """Models of which unlike shares of the used parameters were trained."""

    code = "unlike_trainable"
    severity = "warning"
    shares: Mapping[str, float]

    @property
    def figures(self) -> dict[str, object]:
        """The shares."""
        return {"trainable_share": self.shares}


@dataclass(frozen=True)
class UnlikeSteps(Fact):
    """Models that took unlike numbers of steps in one budget."""

    code = "unlike_steps"
    severity = "warning"
    kept = ("steps",)
    budget: str
    steps: Mapping[str, int]


@dataclass(frozen=True)
class TrainedElsewhere(Fact):
    """Models that were trained on another data set than the one whose scenes they are judged on.

    Attributes:
        runs: Labels of the runs of each other study.
        scenes: Its number of training scenes, where that is known.
        all_runs: Whether no run of the comparison was trained here.
    """

    code = "trained_elsewhere"
    kept = ("runs", "scenes")
    runs: Mapping[str, tuple[str, ...]]
    scenes: Mapping[str, int | None]
    all_runs: bool


@dataclass(frozen=True)
class Confusion:
    """Pixels of one true class that are predicted as another class.

    Attributes:
        share: Their share of the true class.
        true: The true class.
        pred: The predicted class.
        names: The names of the two classes.
    """

    share: float
    true: int
    pred: int
    names: tuple[str, str]


@dataclass(frozen=True)
class ConfusedMost(Fact):
    """The true classes that a model most often takes for another one."""

    code = "confused_most"
    model: str
    cells: tuple[Confusion, ...]

    @property
    def figures(self) -> dict[str, object]:
        """The model and the cells of its confusion matrix."""
        cells = [{"share": cell.share, "true": cell.true, "pred": cell.pred} for cell in self.cells]
        return {"model": self.model, "cells": cells}


@dataclass(frozen=True)
class NeverPredicted(Fact):
    """A class with true pixels that models predict nowhere.

    Attributes:
        class_index: The class.
        class_name: Its name.
        share: Its share of the true pixels.
        models: The models that never predict it.
        all_models: Whether these are all models, of several.
    """

    code = "never_predicted"
    severity: ClassVar[Severity] = "warning"
    class_index: int
    class_name: str
    share: float
    models: tuple[str, ...]
    all_models: bool

    @property
    def figures(self) -> dict[str, object]:
        """The class and the models."""
        return {"class": self.class_index, "models": self.models}


class NeverPredictedUncounted(NeverPredicted):
    """The same of a class that is not counted."""

    severity = "finding"


@dataclass(frozen=True)
class AbsentClasses(Fact):
    """Counted classes without true pixels."""

    code = "absent_classes"
    severity = "warning"
    classes: Mapping[int, str]
    split: str

    @property
    def figures(self) -> dict[str, object]:
        """The classes."""
        return {"classes": list(self.classes)}


@dataclass(frozen=True)
class SameRanking(Fact):
    """All scorings rank the runs in the same order."""

    code = "same_ranking"
    scorings: tuple[str, ...]


@dataclass(frozen=True)
class _RankFlips(Fact):
    kept = ("flips",)
    measure: Measure
    flips: Mapping[str, Sequence[tuple[str, str]]]
    labels: Mapping[str, str]


class RankFlips(_RankFlips):
    """Architectures, or runs where each has one seed, that other scorings rank in another order."""

    code = "rank_flips"
    severity = "warning"


class RankFlipsOfMetrics(_RankFlips):
    """The same of other metrics."""

    code = "rank_flips_metrics"


def describe(comparison: Comparison) -> list[Fact]:
    """Return all facts that describe, in reading order: learning, speed and budget, then classes and rankings."""
    return [
        *trained_elsewhere(comparison),
        *converges_first(comparison),
        *still_learning(comparison),
        *fastest(comparison),
        *unlike_steps(comparison),
        *unlike_trainable(comparison),
        *confused_most(comparison),
        *never_predicted(comparison),
        *absent_classes(comparison),
        *rank_flips(comparison),
    ]


def trained_elsewhere(comparison: Comparison) -> list[Fact]:
    """Find the runs that learnt from another data set, by the study that they come from."""
    runs: dict[str, tuple[str, ...]] = {}
    scenes: dict[str, int | None] = {}
    for run in comparison.runs:
        source = run.card.transferred_from
        if source is not None:
            runs[source.study] = (*runs.get(source.study, ()), run.label)
            scenes[source.study] = source.scenes
    n = sum(map(len, runs.values()))
    return [TrainedElsewhere(runs, scenes, n == len(comparison.runs))] if runs else []


def converges_first(comparison: Comparison) -> list[Fact]:
    """Find when each model reached 95 % of its own best validation score; nothing while a score still rises."""
    steps = _convergence_means(comparison, "step")
    if len(steps) < 2 or rising(comparison) or is_rehearsal(comparison):
        return []
    return [
        ConvergesFirst(steps, _convergence_means(comparison, "epoch"), _convergence_means(comparison, "time_s")),
    ]


def _convergence_means(comparison: Comparison, key: str) -> dict[str, float]:
    """The mean over seeds of when the target was reached, for models whose runs all know it."""
    means = {}
    metrics = {run.convergence.metric for run in comparison.runs if run.convergence}
    for name, runs in comparison.candidate_runs.items():
        values = [getattr(run.convergence, key) for run in runs if run.convergence and run.convergence.points >= 3]
        if len(values) == len(runs) and all(value is not None for value in values) and len(metrics) == 1:
            means[name] = sum(values) / len(values)
    return means


def still_learning(comparison: Comparison) -> list[Fact]:
    """Find models whose score rose until the budget ended: a longer budget may change the result."""
    gains = rising(comparison)
    return [StillLearning(gains, comparison.delta)] if gains else []


def unlike_trainable(comparison: Comparison) -> list[Fact]:
    """Find models of which unlike shares of the used parameters were trained, as by the origin's freeze."""
    shares = {}
    for name, runs in comparison.candidate_runs.items():
        parameters = runs[0].card.parameters
        if parameters.used and parameters.trainable is not None:
            shares[name] = parameters.trainable / parameters.used
    if len(shares) < 2 or max(shares.values()) - min(shares.values()) < LIKE_TRAINED:
        return []
    return [UnlikeTrainable(shares)]


def unlike_steps(comparison: Comparison) -> list[Fact]:
    """Find models that took unlike numbers of steps in the same budget, as a budget in minutes gives."""
    budgets = {run.card.budget.asked if run.card.budget else None for run in comparison.runs}
    steps = {name: runs[0].card.steps_done for name, runs in comparison.candidate_runs.items()}
    known = {name: value for name, value in steps.items() if value}
    if len(known) < 2 or len(set(known.values())) == 1 or len(budgets) != 1:
        return []
    return [UnlikeSteps(str(budgets.pop()), known)]


def confused_most(comparison: Comparison) -> list[Fact]:
    """Find for each model the one or two true classes that it most often takes for another."""
    cells = {name: _confusions(comparison, runs)[:2] for name, runs in comparison.candidate_runs.items()}
    return [ConfusedMost(name, tuple(found)) for name, found in cells.items() if found]


def _confusions(comparison: Comparison, runs: Sequence[RunResult]) -> list[Confusion]:
    """Off-diagonal shares of true counted classes, largest first."""
    classes = comparison.legend.classes
    summed = [[sum(run.counts[i][j] for run in runs) for j in range(len(classes))] for i in range(len(classes))]
    cells = [
        Confusion(value / sum(row), i, j, (classes[i].name, classes[j].name))
        for i, row in enumerate(summed)
        for j, value in enumerate(row)
        if i != j and classes[i].counted and value
    ]
    large = (cell for cell in cells if cell.share >= CONFUSION_SHARE)
    return sorted(large, key=lambda cell: (-cell.share, cell.true, cell.pred))


def never_predicted(comparison: Comparison) -> list[Fact]:
    """Find classes with true pixels that a model predicts nowhere."""
    found: list[Fact] = []
    models = comparison.candidate_runs
    for index, entry in enumerate(comparison.legend.classes):
        names = tuple(
            name for name, runs in models.items() if not any(row[index] for run in runs for row in run.counts)
        )
        if names and comparison.truth.present[index]:
            fact = NeverPredicted if entry.counted else NeverPredictedUncounted
            share = comparison.truth.class_share[index]
            found.append(fact(index, entry.name, share, names, len(names) == len(models) > 1))
    return found


def absent_classes(comparison: Comparison) -> list[Fact]:
    """Find counted classes without true pixels: they have no IoU."""
    present = comparison.truth.present
    absent = {
        index: entry.name
        for index, entry in enumerate(comparison.legend.classes)
        if entry.counted and not present[index]
    }
    return [AbsentClasses(absent, comparison.split)] if absent else []


def rank_flips(comparison: Comparison) -> list[Fact]:
    """Find out whether another scoring, or another metric, would rank the candidates otherwise, by means over seeds."""
    of_candidates = comparison.candidate_runs.items()
    candidates = {runs[0].name if len(runs) == 1 else name: runs for name, runs in of_candidates}
    if len(candidates) < 2:
        return []
    scorings = [f"{scoring}.miou" for scoring in comparison.scorings]
    rows = {row.metric: _candidate_means(row, candidates) for row in comparison.metric_sensitivity}
    before = rows.get(comparison.metric, {})
    flips = {
        metric: [
            (a, b)
            for a, b in permutations(candidates, 2)
            if a in before and b in before and a in means and b in means
            if before[a] > before[b] and means[b] - means[a] >= max(comparison.delta, TIE)  # less does not matter
        ]
        for metric, means in rows.items()
    }
    of_scorings = {metric: found for metric, found in flips.items() if metric in scorings and found}
    others = {metric: found for metric, found in flips.items() if metric not in scorings and found}
    labels = {name: runs[0].label if len(runs) == 1 else name for name, runs in candidates.items()}
    facts: list[Fact] = []
    if len(scorings) > 1 and not of_scorings:
        facts.append(SameRanking(comparison.scorings))
    if of_scorings:
        facts.append(RankFlips(measure_of(comparison), of_scorings, labels))
    if others:
        facts.append(RankFlipsOfMetrics(measure_of(comparison), others, labels))
    return facts


def _candidate_means(row: MetricRow, candidates: Mapping[str, Sequence[RunResult]]) -> dict[str, float]:
    """Return the mean of a metric over the runs of each candidate that has it, higher being better."""
    sign = -1 if row.metric == "loss" else 1
    means = {}
    for name, runs in candidates.items():
        values = [value for run in runs if (value := row.values.get(run.name)) is not None]
        if runs and len(values) == len(runs):
            means[name] = sign * sum(values) / len(values)
    return means
