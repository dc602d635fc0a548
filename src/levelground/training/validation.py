"""Validation during training: the scores that a history keeps and that choose the weights."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from levelground.config import Recipe, Selection
from levelground.datasets.dataset import Dataset
from levelground.evaluation.score_scenes import ScenePrediction, ScoringOptions, score_scenes
from levelground.metrics.counts import SceneCounts
from levelground.metrics.named import validation_scores
from levelground.models.model import Model
from levelground.tile_geometry import TileGeometry
from levelground.training.run_spec import TrainingJob

SHOWN_SHARE = 1e-3
"""Share of a class among the labelled pixels of validation from which its score says something; with fewer it lacks."""


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


def choose_rule(dataset: Dataset, recipe: Recipe) -> tuple[Selection, str | None]:
    """Choose which weights are kept: as the recipe says, where validation can tell which are best, else the last.

    Validation can tell where its scenes come from ``recipe.select_groups`` groups or more, and hold every counted class
    of the training scenes on :data:`SHOWN_SHARE` of their labelled pixels or more.

    Args:
        dataset: Its training and validation scenes.
        recipe: Gives the rule, and how many groups are enough.
    Returns:
        The rule, and why it is not the recipe's; ``None`` where it is.
    Example:
        ``("last", "validation has 1 scene and lacks 3 of 6 classes (Forest, Water, Barren)")``
    """
    if recipe.select == "last" or not recipe.select_groups:
        return recipe.select, None
    train, val = ([dataset.scene(name) for name in dataset.ids(split)] for split in ("train", "val"))
    learnt, shown = (np.sum([scene.class_pixels for scene in scenes], axis=0) for scenes in (train, val))
    asked = [entry for entry in dataset.legend.classes if entry.counted and learnt[entry.index]]
    fewest = max(1.0, SHOWN_SHARE * shown.sum())
    missing = [entry.name for entry in asked if shown[entry.index] < fewest]
    groups = len({scene.group for scene in val})
    reasons = []
    if groups < recipe.select_groups:
        scenes = f"{len(val)} scene{'s' if len(val) > 1 else ''}"
        within = "" if groups == len(val) else f" in {groups} group{'s' if groups > 1 else ''}"
        reasons.append(f"has {scenes}{within}")
    if missing:
        named = f" ({', '.join(missing)})" if len(missing) <= NAMED else ""
        reasons.append(f"lacks {len(missing)} of {len(asked)} classes{named}")
    return ("last", f"validation {' and '.join(reasons)}") if reasons else (recipe.select, None)


NAMED = 4
"""So many missing classes at most are named."""
