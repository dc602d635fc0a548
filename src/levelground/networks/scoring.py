"""Run a network over labelled scenes and count what it gets right: the core of validation and of ``evaluate``.

The network runs on the runtime's device; what is counted from its predictions (confusion, boundaries, confidences) is
counted by threads beside it, so a fast device does not wait.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from levelground.console import Bar
from levelground.datasets.dataset import Dataset, SceneRecord
from levelground.errors import ModelError, SceneError, SplitError
from levelground.imagery.legend import IGNORE, LabelMap, Legend
from levelground.networks.inference import sweep
from levelground.networks.reduction import ScenePrediction, reduce_scene
from levelground.records import sha256_array
from levelground.scores.boundary import boundary_counts
from levelground.scores.confusion import BINS, Confidences, Counts, confidence_counts, count_confusion
from levelground.scores.counts import SceneCounts

if TYPE_CHECKING:
    from levelground.networks.runtime import Runtime  # brings Fabric, which masks that are only counted do not need

BOUNDARY_PX = 8
"""Reach of a class border for Boundary IoU, px: 4 m at 0.5 m a pixel. Fixed, so that all evaluations compare."""

Keep = Callable[[str, ScenePrediction], None]
"""What to do with a scene's prediction beside counting it; called from counting threads."""


@dataclass(frozen=True)
class SceneScore:
    """The counts of one scene: the fields of ``SceneCounts`` without the axis of scenes."""

    counts: Counts
    boundary: NDArray[np.int64]
    conf_n: NDArray[np.int64]
    conf_sum: NDArray[np.float64]
    conf_correct: NDArray[np.int64]
    loss_sum: float = 0.0
    loss_pixels: int = 0
    forward_s: float = 0.0


def score_scenes(
    network: nn.Module,
    outputs: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    dataset: Dataset,
    ids: Sequence[str],
    *,
    tile: int,
    halo: int,
    batch: int,
    runtime: "Runtime",
    details: bool = False,
    smp_dice: bool = False,
    keep: Keep | None = None,
    progress: Bar | None = None,
) -> SceneCounts:
    """Run a network over scenes and count, scene by scene.

    Args:
        network: Normalised images to logits, on the runtime's device; it is left in the mode it came in.
        outputs: Legend index of each output.
        mean: Mean of each band, in stored units.
        std: Standard deviation of each band, in stored units.
        dataset: Gives pixels, labels, groups and the legend.
        ids: Scenes, in the order of the result.
        tile: Side of a tile in pixels; 0 takes whole scenes.
        halo: Half the smallest overlap of neighbouring tiles, in pixels.
        batch: Tiles run at a time.
        runtime: Device and precision.
        details: Also count boundaries and confidences, and check each scene's labels against their recorded hash.
        smp_dice: Also compute each scene's Dice loss, handed to ``keep``.
        keep: Called with each scene's id and prediction, by another thread.
        progress: A bar over scenes to move on.
    Returns:
        Counts by scene; boundaries and confidences are 0 without ``details``.
    Raises:
        SplitError: ``ids`` is empty.
        SceneError: A scene has no labels, or other labels than the data set records.
        ModelError: The network's outputs do not fit ``outputs``, or are no numbers.
    """
    if not ids:
        raise SplitError("no scenes to score. Prepare the data with a split that has some.")
    legend = dataset.legend

    def predict(name: str) -> tuple[str, ScenePrediction, LabelMap]:
        scene = dataset.open(name)
        if scene.labels is None:
            raise SceneError(f"{name}: has no labels to score against. Leave it out of the split.")
        blocks = sweep(network, scene.pixels, mean=mean, std=std, tile=tile, halo=halo, batch=batch, runtime=runtime)
        found = reduce_scene(
            blocks, scene.labels, outputs=outputs, counted=legend.counted, device=runtime.device, smp_dice=smp_dice
        )
        if not math.isfinite(found.loss_sum):
            raise ModelError(
                f"{name}: the network gives no numbers (NaN). Its weights are damaged: train or adopt it anew."
            )
        return name, found, scene.labels

    def count(name: str, found: ScenePrediction, labels: LabelMap) -> SceneScore:
        if details:
            check_labels(dataset.scene(name), labels)
        if keep is not None:
            keep(name, found)
        return count_scene(found, labels, legend, details=details)

    training = network.training
    network.eval()
    try:
        threads = 1 if runtime.device.type == "cpu" else min(8, os.cpu_count() or 1)
        scores = list(_count_beside((predict(name) for name in ids), count, threads=threads, progress=progress))
    finally:
        network.train(training)
    return gather_scores(scores, dataset, ids)


def count_scene(found: ScenePrediction, labels: LabelMap, legend: Legend, *, details: bool) -> SceneScore:
    """Count one scene's prediction against its labels.

    Args:
        found: The prediction.
        labels: Legend indices or 255, ``(H, W)``.
        legend: The classes.
        details: Also count boundaries and, where they are known, confidences, over the pixels of counted classes.
    """
    k = legend.n_classes
    confused = count_confusion(found.preds, labels, n_classes=k, ignore=IGNORE)
    boundary = np.zeros((k, 3), np.int64)
    none = np.zeros((k, BINS), np.int64)
    sure = Confidences(none, none.astype(np.float64), none)
    if details:
        official = np.append(np.where(legend.counted, np.arange(k), IGNORE), [IGNORE] * (256 - k))
        judged = official.astype(np.uint8)[labels]
        boundary = boundary_counts(found.preds, judged, n_classes=k, distance_px=BOUNDARY_PX, ignore=IGNORE)
        if found.confidence is not None:
            sure = confidence_counts(found.confidence, found.preds, judged, n_classes=k, ignore=IGNORE)
    return SceneScore(confused, boundary, *sure, found.loss_sum, found.loss_pixels, found.forward_s)


def gather_scores(scores: Sequence[SceneScore], dataset: Dataset, ids: Sequence[str]) -> SceneCounts:
    """Put scenes' counts into the record that comparisons read.

    Args:
        scores: One for each id.
        dataset: Gives groups, hashes and sizes.
        ids: Scenes, in the order of ``scores``.
    """
    records = [dataset.scene(name) for name in ids]
    arrays = {field.name: np.stack([getattr(score, field.name) for score in scores]) for field in fields(SceneScore)}
    return SceneCounts(
        scenes=np.array(list(ids)),
        groups=np.array([record.group for record in records]),
        labels_sha256=np.array([record.labels_sha256 for record in records]),
        legend_sha256=dataset.legend.digest(),
        split_sha256=dataset.split_sha256,
        boundary_px=BOUNDARY_PX,
        megapixels=np.array([record.height * record.width / 1e6 for record in records]),
        **arrays,
    )


def check_labels(record: SceneRecord, labels: LabelMap) -> None:
    """Refuse labels that are not those the data set was prepared with.

    Args:
        record: What the data set records of the scene.
        labels: The labels as opened.
    Raises:
        SceneError: Their hash differs.
    """
    found = sha256_array(labels)
    if found != record.labels_sha256:
        raise SceneError(
            f"{record.id}: its labels have hash {found[:12]}…, dataset.json records {str(record.labels_sha256)[:12]}…. "
            "Run `levelground prepare` again, then evaluate every run again."
        )


Predicted = tuple[str, ScenePrediction, LabelMap]


def _count_beside(
    predictions: Iterator[Predicted],
    count: Callable[[str, ScenePrediction, LabelMap], SceneScore],
    *,
    threads: int,
    progress: Bar | None,
) -> Iterator[SceneScore]:
    """Count each prediction in a thread while the next scene runs; at most ``threads`` scenes wait."""
    waiting: deque[Future[SceneScore]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="count") as pool:
        for name, found, labels in predictions:
            waiting.append(pool.submit(count, name, found, labels))
            if progress is not None:
                rate = labels.size / 1e6 / max(found.forward_s, 1e-9)
                progress.advance(note=f"{rate:.1f} megapixels/s")
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
