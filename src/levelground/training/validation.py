"""Validation during training: the scores that a history keeps and that choose the weights."""

import dataclasses
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from levelground.config import Recipe, Selection
from levelground.console import say
from levelground.datasets.dataset import Dataset, SceneRecord
from levelground.evaluation.score_scenes import ScenePrediction, ScoringOptions, score_scenes
from levelground.imagery.cache import CachedScene
from levelground.metrics.counts import SceneCounts
from levelground.metrics.named import validation_scores
from levelground.models.model import Model
from levelground.recipe_files import ValidationSampleRecord
from levelground.records import sha256_json
from levelground.runs import RunCard
from levelground.tile_geometry import TileGeometry, plan_axis
from levelground.training.batches import generator
from levelground.training.run_spec import Corners, TrainingJob

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
            "val_loss": self.counts.loss,
            **validation_scores(counts, counted),
        }
        return line if self.smp_dice is None else line | {"val_dice_loss": self.smp_dice}


def validate(job: TrainingJob, model: Model, sample: Mapping[str, Corners] | None = None) -> Validation:
    """Score the validation scenes, or the job's sample of them, with the weights as they are.

    Args:
        job: Gives data, geometry and runtime.
        model: The model, on the device.
        sample: Windows to score in place of the job's.
    Returns:
        Counts by scene, and the Dice loss where the recipe trains by it.
    """
    smp_dice, recipe = job.recipe.loss == "smp-dice", job.recipe
    sample = job.sample if sample is None else sample
    losses: dict[str, float] = {}

    def keep(scene: str, found: ScenePrediction) -> None:
        losses[scene] = found.smp_dice or 0.0

    counts = score_scenes(
        model,
        job.dataset,
        job.dataset.ids("val") if sample is None else tuple(sample),
        TileGeometry(recipe.tile, recipe.halo if sample is None else 0, recipe.batch),
        job.runtime,
        ScoringOptions(
            smp_dice=smp_dice,
            keep=keep if smp_dice else None,
            open=None if sample is None else lambda name: open_windows(job.dataset, name, sample[name], recipe.tile),
        ),
    )
    return Validation(counts, statistics.fmean(losses[i] for i in sorted(losses)) if smp_dice else None)


FEWEST_WINDOWS = 16
"""A sample has so many windows at least."""

STEP_COST = 3
"""Work of a training step in forward passes over as many pixels."""

NOMINAL_PIXELS = 500_000
"""Training pixels a second that a budget of time counts as, whatever the machine: a small network on two cores. So the
sample of a budget is the same on every machine."""


def training_pixels(job: TrainingJob) -> float:
    """Return the pixels that a run trains on; of a budget of time those of :data:`NOMINAL_PIXELS` a second."""
    if job.steps is None:
        return NOMINAL_PIXELS * job.total_s
    return job.steps * sum(map(math.prod, job.source.sampler.sizes)) / job.steps_per_epoch


def choose_sample(job: TrainingJob) -> dict[str, Corners] | None:
    """Choose the windows of the validation scenes that all validations of a run score.

    Their number follows from the budget in pixels, the recipe and the sizes of the scenes, and the choice from the
    split: nothing depends on the architecture, the seed or the machine, so all runs of a study score the same windows.
    Scenes take turns, each with its windows in an order of its own.

    Args:
        job: Gives recipe, budget and scenes.
    Returns:
        Corners of windows by scene; ``None`` where validating whole scenes is within ``recipe.validation_share``.
    """
    recipe, dataset = job.recipe, job.dataset
    scenes = [dataset.scene(name) for name in sorted(dataset.ids("val"))]
    pixels = training_pixels(job)
    per_epoch = sum(map(math.prod, job.source.sampler.sizes))
    rounds = recipe.validations or max(1, round(pixels / per_epoch))
    allowed = recipe.validation_share * STEP_COST * pixels / rounds
    overlap = (recipe.tile / (recipe.tile - 2 * recipe.halo)) ** 2 if recipe.tile else 1.0
    padded = sum(max(one.height, recipe.tile) * max(one.width, recipe.tile) for one in scenes)
    if recipe.validation_share == 1 or overlap * padded <= allowed:
        return None
    seed = int(dataset.split_sha256[:15], 16)
    turns: list[tuple[int, float, str, tuple[int, int]]] = []
    for number, scene in enumerate(scenes):
        corners = _corners(scene.height, scene.width, recipe.tile)
        order = generator(seed, number).permutation(len(corners))
        place = float(generator(seed, number, 1).random())
        turns += [(turn, place, scene.id, corners[at]) for turn, at in enumerate(order)]
    count = max(FEWEST_WINDOWS, int(allowed / recipe.tile**2)) if recipe.tile else _scenes_within(scenes, allowed)
    if count >= len(turns):
        return None
    chosen: dict[str, Corners] = {}
    for _, _, name, corner in sorted(turns)[:count]:
        chosen[name] = (*chosen.get(name, ()), corner)
    return {name: tuple(sorted(chosen[name])) for name in sorted(chosen)}


def _scenes_within(scenes: Sequence[SceneRecord], allowed: float) -> int:
    """Return how many scenes of mean size lie within a number of pixels, at least one."""
    return max(1, int(allowed * len(scenes) / sum(one.height * one.width for one in scenes)))


def _corners(height: int, width: int, tile: int) -> list[tuple[int, int]]:
    """Return the corners of the windows of a scene, without overlap, in its middle; one where a side is smaller."""
    if not tile:
        return [(0, 0)]
    rows, cols = (
        range((side % tile) // 2, side - tile + 1, tile) if side >= tile else range(1) for side in (height, width)
    )
    return [(row, col) for row in rows for col in cols]


def tile_pixels(height: int, width: int, geometry: TileGeometry) -> int:
    """Return the pixels of a scene's tiles: what they share counts twice, and so does what they are padded with.

    Example:
        >>> tile_pixels(400, 1500, TileGeometry(512, 0)) == 3 * 512 * 512
        True
    """
    rows, cols = plan_axis(height, geometry), plan_axis(width, geometry)
    return rows.tile * len(rows.starts) * cols.tile * len(cols.starts)


def validation_pixels(job: TrainingJob) -> int:
    """Return the pixels that the network computes in a validation."""
    tile, scenes = job.recipe.tile, {name: job.dataset.scene(name) for name in job.dataset.ids("val")}
    if job.sample is not None and tile:
        return tile**2 * sum(map(len, job.sample.values()))
    geometry = TileGeometry(tile, job.recipe.halo)
    names = scenes if job.sample is None else job.sample
    return sum(tile_pixels(scenes[name].height, scenes[name].width, geometry) for name in names)


def open_windows(dataset: Dataset, name: str, corners: Corners, tile: int) -> CachedScene:
    """Open windows of a scene side by side, so that each is a tile: one below the other, unless the scene is low.

    Args:
        dataset: Gives the scene.
        name: Its id.
        corners: First row and column of each window.
        tile: Side of a window, px; on a side where the scene is smaller, windows have its size. A scene that is smaller
            on both is opened whole, as under 0.
    """
    scene = dataset.open(name)
    height, width = scene.pixels.shape[:2]
    if not tile or max(height, width) < tile:
        return scene
    parts, axis = [(slice(row, row + tile), slice(col, col + tile)) for row, col in corners], int(height < tile)
    labels = None if scene.labels is None else np.concatenate([scene.labels[part] for part in parts], axis)
    return CachedScene(np.concatenate([scene.pixels[part] for part in parts], axis), labels)


PRICED_WINDOWS = 4
"""Windows by which the time of a validation is estimated."""


def estimate_times(job: TrainingJob) -> tuple[float, float]:
    """Estimate the times of a training step and of a validation by some windows of a validation scene.

    Returns:
        Seconds of a step, and of a validation.
    """
    recipe, dataset = job.recipe, job.dataset
    smallest = min(map(dataset.scene, dataset.ids("val")), key=lambda one: one.height * one.width)
    windows = 1 if max(smallest.height, smallest.width) < recipe.tile else PRICED_WINDOWS
    pixels = windows * recipe.tile**2 or tile_pixels(smallest.height, smallest.width, TileGeometry(0, 0))
    model = job.model.with_forward(job.runtime.place(job.model.network))
    times: list[float] = []
    while len(times) < 2 and sum(times) < LONG_PROBE_S:  # the first one chooses kernels and makes buffers
        started = time.perf_counter()
        validate(job, model, {smallest.id: ((0, 0),) * windows})
        times.append(time.perf_counter() - started)
    per_pixel = times[-1] / pixels
    step_pixels = sum(map(math.prod, job.source.sampler.sizes)) / job.steps_per_epoch
    return STEP_COST * per_pixel * step_pixels, per_pixel * validation_pixels(job)


LONG_PROBE_S = 5.0
"""Timing ends once it has taken so long, as with whole scenes on a CPU."""


def describe_sample(job: TrainingJob) -> ValidationSampleRecord | None:
    """Return what the run card says of a job's sample."""
    if job.sample is None:
        return None
    sides = {one.id: (one.height, one.width) for one in map(job.dataset.scene, job.dataset.ids("val"))}
    pixels = sum(
        math.prod(min(side, job.recipe.tile or side) for side in sides[name]) * len(found)
        for name, found in job.sample.items()
    )
    return ValidationSampleRecord(
        windows=sum(map(len, job.sample.values())),
        scenes=len(job.sample),
        megapixels=pixels / 1e6,
        of_megapixels=sum(map(math.prod, sides.values())) / 1e6,
        sha256=sha256_json(job.sample),
    )


def renew_sample(card: RunCard, job: TrainingJob) -> RunCard:
    """Return the card of a run that goes on with the sample that it scores now, and say where that is another one.

    Earlier versions took scenes narrower than a tile whole, and counted them as one window.
    """
    assert card.budget is not None
    before, now = card.budget.validation_sample, describe_sample(job)
    if before is None or before.sha256 == (now.sha256 if now else None):
        return card
    say("%(name)s: validations score other windows than an earlier version chose.", name=card.name)
    return dataclasses.replace(card, budget=dataclasses.replace(card.budget, validation_sample=now))


def shown_pixels(dataset: Dataset, sample: Mapping[str, Corners] | None, tile: int) -> NDArray[np.int64]:
    """Count the labelled pixels of each class that validations score, ``(K,)``."""
    n_classes, counts = dataset.legend.n_classes, np.zeros(256, np.int64)
    if sample is None:
        for name in dataset.ids("val"):
            counts[:n_classes] += dataset.scene(name).class_pixels
        return counts[:n_classes]
    for name, corners in sample.items():
        labels = open_windows(dataset, name, corners, tile).labels
        if labels is not None:
            counts += np.bincount(labels.ravel(), minlength=256)
    return counts[:n_classes]


def choose_rule(
    dataset: Dataset, recipe: Recipe, sample: Mapping[str, Corners] | None = None
) -> tuple[Selection, str | None]:
    """Choose which weights are kept: as the recipe says, where validation can tell which are best, else the last.

    Validation can tell where its scenes come from ``recipe.select_groups`` groups or more, and hold every counted class
    of the training scenes on :data:`SHOWN_SHARE` of their labelled pixels or more. With ``select_groups`` 0 one pixel
    of one counted class is enough.

    Args:
        dataset: Its training and validation scenes.
        recipe: Gives the rule, and how many groups are enough.
        sample: The windows of validation scenes that are scored; ``None`` means the whole scenes.
    Returns:
        The rule, and why it is not the recipe's; ``None`` where it is.
    Example:
        ``("last", "validation has 1 scene and lacks 3 of 6 classes (Forest, Water, Barren)")``
    """
    if recipe.select == "last":
        return "last", None
    shown = shown_pixels(dataset, sample, recipe.tile)
    if not shown[dataset.legend.counted].any():
        return "last", "validation has no pixel of a class that is scored"
    if not recipe.select_groups:
        return recipe.select, None
    val = [dataset.scene(name) for name in (dataset.ids("val") if sample is None else sample)]
    learnt = np.sum([dataset.scene(name).class_pixels for name in dataset.ids("train")], axis=0)
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
