"""A run that is ready to start: what is trained, on what, for how long, and when it is validated."""

import math
from dataclasses import dataclass
from pathlib import Path

from levelground.config import Recipe
from levelground.datasets.dataset import Dataset
from levelground.models.model import Model
from levelground.runtime import Runtime, available_cores
from levelground.training.batches import BatchSource
from levelground.training.step import Stepper


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start: what is trained, on what, for how long."""

    folder: Path
    dataset: Dataset
    model: Model
    recipe: Recipe
    seed: int
    steps: int
    validations: int
    """How often validation scenes are scored, evenly over the steps; 0 does it at the end of every epoch."""
    steps_per_epoch: int
    source: BatchSource
    runtime: Runtime
    workers: int
    save_every_s: float


def validation_steps(validations: int, steps: int, steps_per_epoch: int) -> set[int]:
    """The numbers of steps after which validation scenes are scored; the last is always among them.

    Example:
        >>> sorted(validation_steps(5, 12, 100))
        [3, 5, 8, 10, 12]
    """
    if validations:
        return {math.ceil(part * steps / validations) for part in range(1, validations + 1)}
    return set(range(steps_per_epoch, steps, steps_per_epoch)) | {steps}


def make_stepper(plan: Plan) -> Stepper:
    """A plan's network with its optimiser, on the device."""
    scenes = [plan.dataset.scene(i) for i in plan.dataset.ids("train")]
    pixels = [sum(column) for column in zip(*(scene.class_pixels for scene in scenes), strict=True)]
    return Stepper(plan.model, plan.recipe, plan.runtime, seed=plan.seed, steps=plan.steps, class_pixels=pixels)


def default_workers(runtime: Runtime) -> int:
    """Loader processes: none on the CPU, where they would take the cores from the network; up to 8 beside a GPU."""
    return 0 if runtime.device.type == "cpu" else min(8, available_cores() - 1)
