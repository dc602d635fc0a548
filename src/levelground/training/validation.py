"""Validation during training: the scores that a history keeps and that choose the weights."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from levelground.config import Selection
from levelground.datasets.dataset import Dataset
from levelground.evaluation.score_scenes import ScenePrediction, ScoringOptions, score_scenes
from levelground.metrics.counts import SceneCounts
from levelground.metrics.named import validation_scores
from levelground.models.model import Model
from levelground.tile_geometry import TileGeometry
from levelground.training.run_spec import TrainingJob

FEWEST_GROUPS = 3
"""With fewer groups of validation scenes, their score says little about which weights are best elsewhere."""


@dataclass(frozen=True, eq=False)
class Validation:
    """Validation scenes scored with the weights of a step."""

    counts: SceneCounts
    smp_dice: float | None
    """Mean over scenes of the origin recipe's Dice loss; ``None`` under other losses."""

    def line(self, counted: NDArray[np.bool_]) -> dict[str, float]:
        """Return what the history keeps: the loss, and the scores that entries of ``METRICS`` put into a history.

        The loss is cross-entropy per counted pixel; where the recipe's loss is ``smp-dice`` that stands beside it.
        """
        counts = self.counts.counts.sum(axis=0)
        line = {
            "val_loss": float(self.counts.loss_sum.sum() / max(1, int(self.counts.loss_pixels.sum()))),
            **validation_scores(counts, counted),
        }
        return line if self.smp_dice is None else line | {"val_dice_loss": self.smp_dice}


def validate(job: TrainingJob, model: Model, ids: Sequence[str] | None = None) -> Validation:
    """Score validation scenes with the weights as they are.

    Args:
        job: Gives data, geometry and runtime.
        model: The model, on the device.
        ids: Scenes; ``None`` takes the validation split.
    Returns:
        Counts by scene, and the Dice loss where the recipe trains by it.
    """
    smp_dice = job.recipe.loss == "smp-dice"
    losses: dict[str, float] = {}

    def keep(scene: str, found: ScenePrediction) -> None:
        losses[scene] = found.smp_dice or 0.0

    counts = score_scenes(
        model,
        job.dataset,
        job.dataset.ids("val") if ids is None else ids,
        TileGeometry(job.recipe.tile, job.recipe.halo, job.recipe.batch),
        job.runtime,
        ScoringOptions(smp_dice=smp_dice, keep=keep if smp_dice else None),
    )
    return Validation(counts, statistics.fmean(losses[i] for i in sorted(losses)) if smp_dice else None)


def doubt_selection(dataset: Dataset, select: Selection) -> str | None:
    """Say why the validation scenes can hardly tell which weights are best, if anything speaks against it.

    Args:
        dataset: Its validation scenes choose the weights.
        select: The recipe's rule.
    Returns:
        The reason and what to do; ``None`` where the last weights are taken, or where validation holds every counted
        class of the training scenes in three groups or more.
    """
    if select == "last":
        return None
    train, val = ([dataset.scene(name) for name in dataset.ids(split)] for split in ("train", "val"))
    learnt, shown = (np.sum([scene.class_pixels for scene in scenes], axis=0) for scenes in (train, val))
    counted = [entry for entry in dataset.legend.classes if entry.counted]
    missing = [entry.name for entry in counted if learnt[entry.index] and not shown[entry.index]]
    groups = len({scene.group for scene in val})
    if not missing and groups >= FEWEST_GROUPS:
        return None
    reasons = [f"no {' and no '.join(missing)}"] if missing else []
    reasons += [f"{groups} group{'s' if groups > 1 else ''} only"] if groups < FEWEST_GROUPS else []
    return (
        f"the validation scenes hold {' and '.join(reasons)}, so weights that score best there may not be the best. "
        "--select last keeps the last ones."
    )
