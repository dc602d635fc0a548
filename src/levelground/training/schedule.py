"""Course of a run: its steps, the learning rate at each, and when validation scenes are scored.

A budget in steps or epochs fixes the number of steps. Under a budget of time nobody knows it beforehand: the main
process looks at the clock, plans a *stretch* of steps, takes them, and looks again. The place of a step in the schedule
is the share of the training time that lies behind it. Stretches are written to the history with the losses, and a run
that goes on takes the steps that it took before at the same places.
"""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from levelground.config import Recipe
from levelground.history import HistoryLine
from levelground.runtime import Runtime
from levelground.training.checkpoint import Progress

LOOKS = 500
"""About how often a budget of time looks at the clock, and how many steps the history keeps."""

LOOK_S = 1.0
"""Longest time between two looks, in budgets of a minute to :data:`LOOKS` seconds."""

FIRST_SHARE = 0.1
"""Largest share of the training time that the first step is planned for: its time is an estimate, and the schedule does
not go back where it was too long."""


def rate_factor(recipe: Recipe, step: int, steps: int) -> float:
    """Return the factor of the learning rate at a step of a budget in steps.

    Args:
        recipe: Gives warm-up and schedule.
        step: From 0.
        steps: All steps of the run.
    Returns:
        A factor in (0, 1]: a linear rise over the warm-up, then constant or half a cosine down to almost 0.
    """
    warm = math.ceil(recipe.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm + 0.5) / max(1, steps - warm)))


def rate_at(recipe: Recipe, progress: float) -> float:
    """Return the factor of the learning rate at a share of the training time.

    Args:
        recipe: Gives warm-up and schedule.
        progress: Share of the training time behind the middle of the step, 0 to 1.
    Returns:
        A factor in [0, 1], of the same form as :func:`rate_factor`'s.
    """
    if progress < recipe.warmup:
        return max(0.0, progress) / recipe.warmup
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - recipe.warmup) / (1 - recipe.warmup))))


def validation_steps(validations: int, steps: int, steps_per_epoch: int) -> set[int]:
    """Return the steps after which validation scenes are scored; the last is always among them.

    Example:
        >>> sorted(validation_steps(5, 12, 100))
        [3, 5, 8, 10, 12]
    """
    if validations:
        return {math.ceil(part * steps / validations) for part in range(1, validations + 1)}
    return set(range(steps_per_epoch, steps, steps_per_epoch)) | {steps}


@dataclass(frozen=True)
class Stretch:
    """Steps that are taken between two looks at the times."""

    last: int
    """The number of its last step, from 1."""
    progress: float
    """Share of the training time behind the middle of its last step."""
    per_step: float
    """Share of the training time of one step."""

    def at(self, step: int) -> float:
        """Return the share of the training time behind the middle of a step, numbered from 0."""
        return self.progress - (self.last - 1 - step) * self.per_step

    @property
    def end(self) -> float:
        """The share of the training time behind its end."""
        return self.progress + self.per_step / 2


@dataclass(frozen=True)
class Times:
    """Times of a run so far, in seconds."""

    wall_s: float
    """Since its preparation began, over all sessions."""
    train_s: float
    """In training steps."""
    step_s: float
    """Of a step, by the last stretch; 0 where it is not known."""
    validation_s: float
    """Of a validation, by the last one."""


@dataclass(frozen=True)
class TimeBudget:
    """Budget of time: how it is divided into stretches of steps, and validations."""

    total_s: float
    """All of it: preparation, steps, validations, saved states."""
    validations: int
    """How often validation scenes are scored, evenly over the training time; 0 does it at the end of every epoch."""
    steps_per_epoch: int

    def plan(self, step: int, before: Stretch | None, times: Times) -> Stretch | None:
        """Plan the next steps.

        Args:
            step: Steps taken so far.
            before: The stretch before; ``None`` at the beginning, where the next one is a single step.
            times: The times so far.
        Returns:
            The stretch; ``None`` where less than half of a step's time is left. There is one step at least.
        """
        share = before.end if before else 0.0
        step_s, left_s = max(times.step_s, 1e-9), self.left_s(share, times)
        if left_s < step_s / 2:
            return None if step else Stretch(1, FIRST_SHARE / 2, FIRST_SHARE)
        share = min(1.0, max(share, times.train_s / (times.train_s + left_s)))
        look_s = max(self.total_s / LOOKS, min(LOOK_S, self.total_s / 50))
        steps = max(1, round(min(look_s, left_s) / step_s)) if before else 1
        if not self.validations:  # a validation comes at the end of an epoch
            steps = min(steps, self.steps_per_epoch - step % self.steps_per_epoch)
        per_step = (1 - share) / max(left_s / step_s, steps)
        if before is None:
            per_step = min(per_step, FIRST_SHARE)
        return Stretch(step + steps, share + (steps - 0.5) * per_step, per_step)

    def left_s(self, share: float, times: Times) -> float:
        """Return the time that is left for training steps, seconds: without that of the validations to come."""
        left_s = self.total_s - times.wall_s
        if self.validations:
            return left_s - (self.validations - self._rounds(share)) * times.validation_s
        if not times.step_s:  # nor is that of an epoch known
            return left_s - times.validation_s
        epoch_s = self.steps_per_epoch * times.step_s
        return (left_s - times.validation_s) * epoch_s / max(epoch_s + times.validation_s, 1e-9)

    def validation_due(self, stretch: Stretch, before: Stretch | None) -> bool:
        """Tell whether validation scenes are scored after a stretch; the end of the run has its own validation."""
        if not self.validations:
            return stretch.last % self.steps_per_epoch == 0
        return self._rounds(stretch.end) > self._rounds(before.end if before else 0.0)

    def _rounds(self, share: float) -> int:
        """Return the number of validations up to a share of the training time, without the last one."""
        return min(self.validations - 1, math.floor(share * self.validations))


@dataclass(frozen=True)
class TakenStretch:
    """Stretch that was taken before, as the history tells, and the times at its end."""

    stretch: Stretch
    wall_s: float
    train_s: float


def taken_stretches(lines: Iterable[HistoryLine]) -> dict[int, TakenStretch]:
    """Return the stretches of a budget of time that a history holds, by the number of their last step."""
    found: dict[int, TakenStretch] = {}
    for line in lines:
        if line.progress is not None and line.per_step is not None:
            stretch = Stretch(line.step, line.progress, line.per_step)
            found.setdefault(line.step, TakenStretch(stretch, line.time_s or 0.0, line.train_s or 0.0))
    return found


class Course:
    """Course of a run under way: the stretch that it is in, and those that an earlier session took."""

    def __init__(self, recipe: Recipe, steps: int | None, time: TimeBudget, expected: Times, runtime: Runtime) -> None:
        """Start at the beginning.

        Args:
            recipe: Gives the form of the schedule.
            steps: All steps of the run; ``None`` under a budget of time.
            time: How a budget of time is divided; of one in steps, how often validation scenes are scored.
            expected: The estimated times of a step and of a validation, until they are measured.
            runtime: The processes that take the same steps.
        """
        self.steps, self.time = steps, time
        self.stretch: Stretch | None = None
        self._before: Stretch | None = None
        self._recipe, self._runtime, self._expected = recipe, runtime, expected
        self._taken: dict[int, TakenStretch] = {}
        self._fixed = validation_steps(time.validations, steps, time.steps_per_epoch) if steps else set[int]()
        self._restart_s: float | None = None
        self._saved_s = 0.0

    @property
    def timed(self) -> bool:
        """Whether the budget is one of time."""
        return self.steps is None

    def resume(self, progress: Progress, lines: Iterable[HistoryLine]) -> None:
        """Go on in a budget of time where a saved state ends.

        Args:
            progress: The state's figures.
            lines: The history, with the stretches that were taken after the state was saved.
        """
        if self.timed:
            known = [Stretch(int(last), share, per_step) for last, share, per_step in progress.stretches]
            self._before, self.stretch = (None, None, *known)[-2:]
            self._taken, self._saved_s = taken_stretches(lines), progress.wall_s

    def steps_from(self, step: int) -> range:
        """Return the steps that may follow, numbered from 0."""
        return range(step, sys.maxsize if self.steps is None else self.steps)

    def place(self, step: int) -> float:
        """Return the share of the run behind the middle of a step, numbered from 0."""
        if self.steps is not None:
            return (step + 0.5) / self.steps
        assert self.stretch is not None
        return self.stretch.at(step)

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate at a step of the stretch, numbered from 0."""
        if self.steps is not None:
            return rate_factor(self._recipe, step, self.steps)
        return rate_at(self._recipe, self.place(step))

    def advance(self, step: int, progress: Progress | None = None) -> Stretch | None:
        """Go to the next stretch, with the other processes.

        Args:
            step: Steps taken so far.
            progress: The figures so far, which the main process knows.
        Returns:
            The stretch, or the rest of the one that an earlier session was stopped in; ``None`` at the end of the run.
        """
        if self.steps is not None:
            return Stretch(self.steps, 0.0, 0.0) if step < self.steps else None
        following = self._following(step, progress) if progress else None
        if self._runtime.processes > 1:
            following = self._runtime.fabric.broadcast(following)
        if following is not None and following != self.stretch:
            self._before, self.stretch = self.stretch, following
        return following

    def _following(self, step: int, progress: Progress) -> Stretch | None:
        """Find or plan the next stretch."""
        if self._restart_s is None:
            self._restart_s = progress.wall_s - self._saved_s
        following = self.stretch if self.stretch is not None and step < self.stretch.last else None
        if following is None:
            later = [last for last in self._taken if last > step]
            following = self._taken[min(later)].stretch if later else None
        if following is None:
            following = self.time.plan(step, self.stretch, self._times(progress))
        known = [self._before, self.stretch] if following == self.stretch else [self.stretch, following]
        progress.stretches = [[one.last, one.progress, one.per_step] for one in known if one is not None]
        return following

    def _times(self, progress: Progress) -> Times:
        step_s = progress.step_s or self._expected.step_s
        return Times(progress.wall_s, progress.train_s, step_s, progress.validation_s or self._expected.validation_s)

    def end_stretch(self, progress: Progress, step_s: float) -> dict[str, float]:
        """Set the times at the end of a stretch; as an earlier session took it, if one did.

        Args:
            progress: The figures so far, changed in place.
            step_s: Time of a step just now.
        Returns:
            What the history keeps of it; nothing within a stretch, and under a budget in steps.
        """
        stretch = self.stretch
        if stretch is None or progress.step < stretch.last:
            return {}
        progress.step_s = step_s
        taken = self._taken.get(stretch.last)
        if taken is not None:  # steps that are done again have the time that they had, and what it took to come back
            progress.wall_s, progress.train_s = taken.wall_s + (self._restart_s or 0.0), taken.train_s
        figures = {"progress": stretch.progress, "per_step": stretch.per_step}
        return figures | {"time_s": progress.wall_s, "train_s": progress.train_s}

    def validation_due(self, step: int) -> bool:
        """Tell whether validation scenes are scored after so many steps; the end has its own validation."""
        if self.steps is not None:
            return step in self._fixed and step < self.steps
        if self.stretch is None or step < self.stretch.last:
            return False
        return self.time.validation_due(self.stretch, self._before)
