"""Scoring of labelled scenes: a model's predictions counted against the labels, for validation and ``evaluate``.

The network runs on the runtime's device; confusion, boundaries and confidences are counted by threads beside it, so a
fast device does not wait.
"""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from levelground.console import Bar
from levelground.datasets.dataset import Dataset, SceneRecord
from levelground.errors import ModelError, SceneError, SplitError
from levelground.imagery.cache import CachedScene
from levelground.imagery.legend import IGNORE, LabelMap, Legend
from levelground.inference.sliding_window import Block, sliding_window_inference
from levelground.metrics.counts import (
    BINS,
    Confidences,
    Counts,
    SceneCounts,
    boundary_counts,
    confidence_counts,
    count_confusion,
)
from levelground.models.model import Model
from levelground.records import sha256_array
from levelground.tile_geometry import TileGeometry

if TYPE_CHECKING:
    from levelground.runtime import Runtime  # brings Fabric, which masks that are only counted do not need

BOUNDARY_PX = 8
"""Reach of a class border for Boundary IoU, px: 4 m at 0.5 m a pixel. Fixed, so that all evaluations compare."""


_TINY = float(np.finfo(np.float32).tiny)
"""Smallest probability in a loss: −log of it is 87, of zero it would be infinite."""


@dataclass(frozen=True)
class ScenePrediction:
    """Prediction of a scene, with its losses against the labels.

    Attributes:
        preds: Legend index of the most probable class, ``(H, W)`` uint8.
        confidence: Its probability, ``(H, W)`` float32; ``None`` where only the classes are known.
        loss_sum: Sum of −log p(true class) over counted pixels whose class the network has an output for.
        loss_pixels: Their number.
        smp_dice: Dice loss of the scene as segmentation_models_pytorch defines it; ``None`` where it was not asked for.
        forward_s: Seconds from the first window read to the results in main memory.
    """

    preds: LabelMap
    confidence: NDArray[np.float32] | None
    loss_sum: float = 0.0
    loss_pixels: int = 0
    smp_dice: float | None = None
    forward_s: float = 0.0


@dataclass(frozen=True)
class SceneScore:
    """Counts of one scene: the fields of ``SceneCounts`` without the axis of scenes."""

    counts: Counts
    boundary: NDArray[np.int64]
    conf_n: NDArray[np.int64]
    conf_sum: NDArray[np.float64]
    conf_correct: NDArray[np.int64]
    loss_sum: float = 0.0
    loss_pixels: int = 0
    forward_s: float = 0.0


Keep = Callable[[str, ScenePrediction], None]
"""Takes a scene's id and prediction; called from counting threads."""


@dataclass(frozen=True)
class ScoringOptions:
    """Options of :func:`score_scenes`: further counts, and callbacks."""

    details: bool = False
    """Also count boundaries and confidences, and check each scene's labels against their recorded hash."""
    smp_dice: bool = False
    """Also compute each scene's Dice loss, handed to ``keep``."""
    keep: Keep | None = None
    """Called with each scene's id and prediction, by another thread."""
    progress: Bar | None = None
    """A progress bar over scenes."""
    open: Callable[[str], CachedScene] | None = None
    """Opens a scene by its id, or the part of it that is scored; ``None`` opens whole scenes of the data set."""


def score_scenes(
    model: Model,
    dataset: Dataset,
    ids: Sequence[str],
    geometry: TileGeometry,
    runtime: "Runtime",
    options: ScoringOptions = ScoringOptions(),
) -> SceneCounts:
    """Run a model over scenes and count, scene by scene.

    Args:
        model: The model, on the runtime's device; a network is left in the mode it came in.
        dataset: Gives pixels, labels, groups and the legend.
        ids: Scenes, in the order of the result.
        geometry: Tile, halo and batch.
        runtime: Device and precision.
        options: Further counts, and callbacks.
    Returns:
        Counts by scene; boundaries and confidences are 0 without ``details``.
    Raises:
        SplitError: ``ids`` is empty.
        SceneError: A scene has no labels, or other labels than the data set records.
        ModelError: The network's outputs do not fit the model's, or are not numbers.
    """
    if not ids:
        raise SplitError("no scenes to score. Prepare the data with a split that has some.")
    predict = partial(_predict_scene, model, dataset, geometry, runtime, options)
    count = partial(_count_prediction, dataset, options)
    with _evaluating(model):
        threads = 1 if runtime.device_kind == "cpu" else min(8, os.cpu_count() or 1)
        predictions = (predict(name) for name in ids)
        scores = list(_count_beside(predictions, count, threads=threads, progress=options.progress))
    return gather_scores(scores, dataset, ids)


def _predict_scene(
    model: Model, dataset: Dataset, geometry: TileGeometry, runtime: "Runtime", options: ScoringOptions, name: str
) -> "Predicted":
    """Predict a scene, and return the prediction beside the scene's labels."""
    scene = (options.open or dataset.open)(name)
    if scene.labels is None:
        raise SceneError(f"{name}: has no labels to score against. Leave it out of the split.")
    found = postprocess_scene(
        sliding_window_inference(model, scene.pixels, geometry, runtime),
        scene.labels,
        outputs=model.spec.outputs,
        counted=dataset.legend.counted,
        device=runtime.device,
        smp_dice=options.smp_dice,
    )
    if not math.isfinite(found.loss_sum):
        raise ModelError(
            f"{name}: the network's output is not a number (NaN). Its weights are damaged: train or adopt it anew."
        )
    return name, found, scene.labels


def _count_prediction(
    dataset: Dataset, options: ScoringOptions, name: str, found: ScenePrediction, labels: LabelMap
) -> SceneScore:
    """Check the labels, hand the prediction over and count it, as the options say."""
    if options.details:
        check_labels(dataset.scene(name), labels)
    if options.keep is not None:
        options.keep(name, found)
    return count_scene(found, labels, dataset.legend, details=options.details)


@contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    """Put a network into evaluation mode, and back into the mode it came in."""
    network = model.forward
    if not isinstance(network, nn.Module):
        yield
        return
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


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
    """Gather the counts of scenes into the record that comparisons read.

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


def output_targets(labels: LabelMap, outputs: Sequence[int], counted: NDArray[np.bool_] | None) -> LabelMap:
    """Translate labels from legend indices into numbers of outputs.

    Args:
        labels: Legend indices or 255, ``(H, W)``.
        outputs: Legend index of each output.
        counted: Which classes of the legend count; ``None`` takes all.
    Returns:
        The output that is right for each pixel, 255 where none is or the class does not count.
    Example:
        >>> output_targets(np.uint8([[0, 2, 255]]), (2, 0), np.array([True, True, True])).tolist()
        [[1, 0, 255]]
    """
    table = np.full(256, IGNORE, np.uint8)
    for number, index in enumerate(outputs):
        if counted is None or counted[index]:
            table[index] = number
    return table[labels]


def postprocess_scene(
    blocks: Iterable[Block],
    labels: LabelMap,
    *,
    outputs: Sequence[int],
    counted: NDArray[np.bool_],
    device: torch.device,
    smp_dice: bool = False,
) -> ScenePrediction:
    """Post-process the blocks of a scene as they are finished: classes, confidences and losses.

    Args:
        blocks: Finished blocks of the sliding window; the time to make them is taken here.
        labels: Legend indices or 255, ``(H, W)``.
        outputs: Legend index of each output.
        counted: Which classes of the legend count, ``(K of the legend,)``.
        device: Where the blocks lie.
        smp_dice: Also compute the Dice loss, over all outputs.
    Raises:
        ModelError: The network has another number of outputs than ``outputs``.
    """
    started = time.perf_counter()
    targets = torch.from_numpy(output_targets(labels, outputs, counted)).to(device)
    every = torch.from_numpy(output_targets(labels, outputs, None)).to(device) if smp_dice else None
    preds = torch.empty(labels.shape, dtype=torch.uint8, device=device)
    confidence = torch.empty(labels.shape, dtype=torch.float32, device=device)
    losses, pixels, overlaps = [], [], []
    for block in blocks:
        probs = torch.as_tensor(block.probs)
        if probs.shape[0] != len(outputs):
            raise ModelError(
                f"the network has {probs.shape[0]} outputs, its card names {len(outputs)} classes. "
                "Train or adopt the run anew."
            )
        confidence[block.place], preds[block.place] = most_probable(probs)
        loss, n = _loss(probs, targets[block.place])
        losses.append(loss)
        pixels.append(n)
        if every is not None:
            overlaps.append(_overlaps(probs, every[block.place]))
    return ScenePrediction(
        preds=np.asarray(outputs, np.uint8)[preds.cpu().numpy()],
        confidence=confidence.cpu().numpy(),
        loss_sum=float(torch.stack(losses).cpu().double().sum()),
        loss_pixels=int(torch.stack(pixels).sum()),
        smp_dice=_smp_dice(torch.stack(overlaps).cpu().double().sum(dim=0)) if overlaps else None,
        forward_s=time.perf_counter() - started,
    )


@torch.inference_mode()
def most_probable(probs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest probability of each pixel, and the first output that has it.

    ``torch.max`` with indices takes three times as long on a CPU: it follows one pixel at a time where these passes are
    vectorised. The first output with the largest value is as many as there are outputs before it, all smaller.

    Args:
        probs: ``(K, H, W)`` float32.
    Returns:
        ``(H, W)`` float32 and ``(H, W)`` uint8.
    Example:
        >>> most_probable(torch.tensor([[[0.2]], [[0.4]], [[0.4]]]))
        (tensor([[0.4000]]), tensor([[1]], dtype=torch.uint8))
    """
    highest = probs.amax(dim=0)
    first = torch.zeros(highest.shape, dtype=torch.uint8, device=probs.device)
    before = torch.ones(highest.shape, dtype=torch.bool, device=probs.device)
    for smaller in probs[:-1]:
        before &= smaller < highest
        first += before
    return highest, first


@torch.inference_mode()
def _loss(probs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum −log p(true) over the pixels that have a target, and count them."""
    has = targets != IGNORE
    chosen = probs.gather(0, (targets * has).long()[None])[0]
    return -(chosen.clamp_min_(_TINY).log_() * has).sum(), has.sum()


@torch.inference_mode()
def _overlaps(probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum p·y, p and y over pixels with a target, ``(3, K)``; y is 1 where the output is right."""
    has = targets != IGNORE
    rows = []
    for number, p in enumerate(probs):
        right = targets == number
        rows.append(torch.stack([(p * right).sum(), (p * has).sum(), right.sum().to(p.dtype)]))
    return torch.stack(rows, dim=1)


def _smp_dice(sums: torch.Tensor) -> float:
    """Compute the Dice loss from Σ p·y, Σ p and Σ y: 0 for classes absent from the scene, mean over all outputs.

    Source: segmentation_models_pytorch 0.6, ``losses/dice.py``, mode ``multiclass``, at batch 1.
    """
    both, predicted, true = sums
    losses = (1 - 2 * both / (predicted + true).clamp_min(1e-7)) * (true > 0)
    return float(losses.mean())
