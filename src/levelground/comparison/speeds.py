"""Speeds of models as they were measured, and whether they were measured alike, so that they may be compared.

The speed of prediction is that of a run's evaluation, which may have had another machine, engine or precision than the
training.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from levelground.comparison.facts import Fact
from levelground.comparison.record import Comparison
from levelground.comparison.results import RunResult

SAME_SPEED = 1.05
"""Throughputs within this ratio are called equal: repeated measurements differ by as much."""

Conditions = tuple[str | int | None, ...]
"""What a speed depends on beside the model; ``None`` where it is not known."""


@dataclass(frozen=True)
class Faster(Fact):
    """Speed of prediction, megapixels a second by model."""

    code = "faster"
    speeds: Mapping[str, float]
    overlapping: tuple[str, ...] = ()
    """Models whose interval overlaps that of the fastest."""

    @property
    def figures(self) -> dict[str, object]:
        """The speeds."""
        return {"predict_megapixels_per_s": self.speeds}


@dataclass(frozen=True)
class FasterTraining(Fact):
    """Speed of training, images a second by model."""

    code = "faster_training"
    speeds: Mapping[str, float]

    @property
    def figures(self) -> dict[str, object]:
        """The speeds."""
        return {"train_images_per_s": self.speeds}


@dataclass(frozen=True)
class UnlikeMachines(Fact):
    """Runs that were evaluated in unlike ways, one of each: speeds of prediction are not compared."""

    code = "unlike_machines"
    severity = "warning"
    kept = ("runs",)
    runs: tuple[str, ...]


class UnlikeTrainingMachines(UnlikeMachines):
    """Runs that were trained on unlike machines, one of each: speeds of training are not compared."""


def fastest(comparison: Comparison) -> list[Fact]:
    """Find who predicts and who trains faster, by measured throughput; nothing where it was measured in unlike ways."""
    found: list[Fact] = []
    predicting = _speeds(comparison, "predict_megapixels_per_s")
    if unlike := unlike_predictions(comparison.runs, comparison.split):
        found.append(UnlikeMachines(unlike))
    elif len(predicting) >= 2:
        found.append(Faster(predicting, _overlapping(comparison, predicting)))
    training = _speeds(comparison, "train_images_per_s")
    if unlike := _unlike([run for run in comparison.runs if run.throughput.train_images_per_s], _trained):
        found.append(UnlikeTrainingMachines(unlike))
    elif len(training) >= 2:
        found.append(FasterTraining(training))
    return found


def unlike_predictions(runs: Iterable[RunResult], split: str) -> tuple[str, ...]:
    """Return the labels of runs whose speeds of prediction were measured in unlike ways, one of each way.

    Args:
        runs: The runs that are compared; those without a measured speed do not matter.
        split: The split that they are compared on.
    Returns:
        The labels; none where all were measured alike.
    """
    return _unlike([run for run in runs if run.throughput.predict_megapixels_per_s], lambda run: _predicted(run, split))


def _predicted(run: RunResult, split: str) -> Conditions:
    """Return what a run's speed of prediction was measured with; older records do not tell machine and threads."""
    card, done = run.card, run.card.evaluations
    one = done.get(split) or done.get("test") or next(iter(done.values()), None)
    if one is None:
        return (card.hardware, card.device, card.precision, card.threads, None)
    own = one.hardware or card.hardware, one.device or card.device, one.precision or card.precision
    return (*own, one.threads or card.threads, one.engine or "torch")


def _trained(run: RunResult) -> Conditions:
    """Return what a run's speed of training was measured with."""
    card = run.card
    return (card.hardware, card.device, card.precision, card.threads, card.processes)


def _unlike(runs: Sequence[RunResult], conditions: Callable[[RunResult], Conditions]) -> tuple[str, ...]:
    """Return the labels of runs under unlike conditions, one of each; what is not known is like anything."""
    known = sorted(((conditions(run), run.label) for run in runs), key=lambda item: item[0].count(None))
    unlike: list[tuple[Conditions, str]] = []
    for found, label in known:
        if all(_differ(found, other) for other, _ in unlike):
            unlike.append((found, label))
    return tuple(label for _, label in unlike) if len(unlike) > 1 else ()


def _differ(one: Conditions, other: Conditions) -> bool:
    return any(a != b for a, b in zip(one, other, strict=True) if a is not None and b is not None)


def _speeds(comparison: Comparison, key: str) -> dict[str, float]:
    speeds = {}
    for name, runs in comparison.candidate_runs.items():
        values = [getattr(run.throughput, key) for run in runs if getattr(run.throughput, key)]
        if values:
            # Runs take unequal times for the same work, so rates meet in their harmonic mean.
            speeds[name] = len(values) / sum(1 / value for value in values)
    return speeds


def _overlapping(comparison: Comparison, speeds: Mapping[str, float]) -> tuple[str, ...]:
    """Return the models whose interval of the speed, over all their runs, overlaps that of the fastest."""
    ends = {}
    for name in speeds:
        known = [run.throughput.interval for run in comparison.candidate_runs[name] if run.throughput.interval]
        ends[name] = (min(low for low, _ in known), max(high for _, high in known)) if known else None
    top = max(sorted(speeds), key=speeds.__getitem__)
    first = ends[top]
    return tuple(name for name, own in ends.items() if own and first and name != top and own[1] >= first[0])
