"""A small study folder with everything the report reads, from generated pixels, in about a second.

Predictions are the truth with mistakes painted in; counts, comparison and data set come from levelground itself, so the
record always has the form that the report meets.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from builders.runs import BINS, adopted_card, build_run, scene_counts
from levelground.comparison.compare import compare_runs, write_comparison
from levelground.comparison.conditions import GroundTruth
from levelground.comparison.record import Comparison
from levelground.comparison.results import ScoreSet
from levelground.history import HistoryLine, append_history
from levelground.imagery.legend import DEEPGLOBE, IGNORE, LabelMap, Legend, encode_colours
from levelground.metrics.counts import SceneCounts, count_confusion
from levelground.runs import Run

GROUND = np.array(
    [(150, 140, 135), (170, 160, 90), (150, 165, 105), (50, 85, 50), (40, 65, 95), (190, 170, 140), (225, 228, 232)],
    np.float32,
)
"""Colour of each class as a camera sees it."""

CONFUSED = np.array([1, 2, 1, 2, 3, 1, 1], np.uint8)
"""What each class is taken for; Unknown is never predicted."""

ARCHS = {"pspnet": 0.30, "unet": 0.21, "fpn": 0.19}
SCENES = ("119", "6399", "10901", "104113", "180902", "482365")


@dataclass(frozen=True)
class FakeScene:
    """What the data set gives for one scene."""

    pixels: NDArray[np.uint8]
    labels: LabelMap


@dataclass(frozen=True)
class FakeStudy:
    """The folder, its comparison, and its scenes by id; ``open`` is the data set's."""

    folder: Path
    comparison: Comparison
    scenes: Mapping[str, FakeScene]

    def open(self, scene_id: str) -> FakeScene:
        """The scene of that id."""
        return self.scenes[scene_id]


def build_fake_study(
    folder: Path,
    *,
    archs: Mapping[str, float] = ARCHS,
    seeds: int = 2,
    scenes: Sequence[str] = SCENES,
    groups: Sequence[str] | None = None,
    size: int = 72,
    adopted: str | None = None,
) -> FakeStudy:
    """Write a study folder.

    Args:
        folder: Where to.
        archs: Architectures, each with the share of pixels that it gets wrong.
        seeds: Seeds of each.
        scenes: Ids of the test scenes.
        groups: The group of each scene; by default each is its own.
        size: Height of a scene in pixels; the width is 4/3 of it.
        adopted: Name of one more run, which has neither a history nor a seed nor confidences.
    """
    opened = {scene: _scene(np.random.default_rng([100, n]), size) for n, scene in enumerate(scenes)}
    plans: list[tuple[str, int | None, float]] = [(a, s, wrong) for a, wrong in archs.items() for s in range(seeds)]
    if adopted:
        plans.append((adopted, None, 0.25))
    runs = [_write_run(folder, opened, groups, number, *plan) for number, plan in enumerate(plans)]
    compared = compare_runs(runs, allow_unlike=True)
    comparison = replace(compared, version="0.0.0", created="2026-01-02T03:04:05Z")
    write_comparison(comparison, folder)
    return FakeStudy(folder, comparison, opened)


def with_classes(known: Comparison, legend: Legend, counts: list[list[int]]) -> Comparison:
    """The comparison with another legend, the same counts in every run, and IoUs of a half."""
    k = legend.n_classes
    half = (0.5,) * k
    scores = {
        scoring: ScoreSet.model_validate({"miou": 0.5, "interval": None, "se": None, "iou": half, "f1": half})
        for scoring in known.scorings
    }
    runs = (
        replace(run, counts=tuple(map(tuple, counts)), scores=scores, boundary=None, calibration=None)
        for run in known.runs
    )
    return replace(
        known,
        legend=legend,
        runs=tuple(runs),
        scenes=tuple(replace(scene, class_pixels=(1,) * k) for scene in known.scenes),
        truth=GroundTruth(class_pixels=(1,) * k, class_share=(1 / k,) * k, present=(True,) * k),
        pairs=tuple(replace(pair, per_class=()) for pair in known.pairs),
        architecture_pairs=tuple(replace(pair, per_class=()) for pair in known.architecture_pairs),
    )


def write_images(study: FakeStudy, data: Path) -> None:
    """Write the scenes in the Kaggle layout, and lists that make all of them but the first two test scenes.

    Args:
        study: Its scenes; two more are added for training and validation.
        data: Folder of the images; the lists go to ``data/lists``.
    """
    learnt = {name: _scene(np.random.default_rng([7, n]), 40) for n, name in enumerate(("1", "2"))}
    for scene_id, scene in {**learnt, **study.scenes}.items():
        image = data / f"{scene_id}_sat.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.pixels).save(image, quality=92)
        Image.fromarray(encode_colours(scene.labels, DEEPGLOBE)).save(data / f"{scene_id}_mask.png")
    (data / "lists").mkdir()
    for name, ids in (("train", ["1"]), ("val", ["2"]), ("test", list(study.scenes))):
        (data / "lists" / f"{name}.txt").write_text("".join(f"{scene}\n" for scene in ids), encoding="utf-8")


def _scene(rng: np.random.Generator, size: int) -> FakeScene:
    """Cells around random points, one class each, painted with a texture and noise; one corner has no data."""
    height, width = size, size * 4 // 3
    points = rng.uniform(0, (height, width), (18, 2))
    owners = rng.choice(7, 18, p=[0.14, 0.38, 0.13, 0.16, 0.08, 0.08, 0.03])
    owners[:7] = range(7)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    bend = 3 * np.sin(rows / 9 + rng.uniform(0, 6)) + 3 * np.cos(columns / 11)
    distance = [(rows - r + bend) ** 2 + (columns - c + bend) ** 2 for r, c in points]
    labels = owners[np.argmin(distance, axis=0)].astype(np.uint8)
    furrows = 10 * np.sin((rows + columns) / 2)[..., None] * (labels == 1)[..., None]
    pixels = GROUND[labels] + furrows + rng.normal(0, 9, (height, width, 1))
    labels[:3, :5] = IGNORE
    return FakeScene(pixels.clip(0, 255).astype(np.uint8), labels)


def _predict(rng: np.random.Generator, labels: LabelMap, wrong: float) -> LabelMap:
    """Labels shifted a little, with blobs of a confused class."""
    preds = np.roll(np.where(labels == IGNORE, 1, labels), tuple(rng.integers(-2, 3, 2)), (0, 1))
    blobs = rng.random((labels.shape[0] // 8 + 1, labels.shape[1] // 8 + 1)).repeat(8, 0).repeat(8, 1)
    lost = (blobs[: labels.shape[0], : labels.shape[1]] < wrong) | (preds == 6)
    return np.where(lost, CONFUSED[preds], preds).astype(np.uint8)


def _write_run(
    folder: Path,
    opened: Mapping[str, FakeScene],
    groups: Sequence[str] | None,
    number: int,
    arch: str,
    seed: int | None,
    wrong: float,
) -> Run:
    """One run: card, counts, predictions, history."""
    name = arch if seed is None else f"{arch}-resnet18-s{seed}"
    preds = {
        scene: _predict(np.random.default_rng([number, n]), item.labels, wrong + 0.015 * (seed or 0))
        for n, (scene, item) in enumerate(opened.items())
    }
    counts = np.stack(
        [count_confusion(preds[scene], item.labels, n_classes=7, ignore=IGNORE) for scene, item in opened.items()]
    )
    record = scene_counts(
        counts,
        legend=DEEPGLOBE,
        scenes=list(opened),
        groups=groups,
        labels=[item.labels for item in opened.values()],
        forward_s=2.0 - 0.1 * number,
    )
    card = adopted_card() if seed is None else _card(number)
    run = build_run(
        folder, name, _confident(record, known=seed is not None), arch=arch, seed=seed, legend=DEEPGLOBE, card=card
    )
    for scene, labels in preds.items():
        _write_preds(run.preds_folder("test") / f"{scene}.png", labels)
    if seed is not None:
        append_history(run.folder, _history(np.random.default_rng(number), wrong))
    return run


def _confident(record: SceneCounts, *, known: bool) -> SceneCounts:
    """Confidences over several bins, a little too high; none where they are not known."""
    true = record.counts.sum(axis=1)[..., None]
    bins = np.arange(BINS)
    n = true * np.where(bins >= 4, bins - 3, 0) // 66 * known
    middle = (bins + 0.5) / BINS
    seconds = record.forward_s * (1 + 0.05 * np.sin(np.arange(len(record.scenes))))
    return replace(
        record, conf_n=n, conf_sum=n * middle, conf_correct=(n * (middle - 0.04)).astype(np.int64), forward_s=seconds
    )


def _write_preds(path: Path, preds: LabelMap) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(preds)
    picture.putpalette(DEEPGLOBE.colours.ravel().tolist())
    picture.save(path)


def _card(number: int) -> dict[str, Any]:
    """What a trained run's card holds beside the run builder's."""
    return {
        "budget": {"steps": 240, "asked": "--steps 240"},
        "outputs": [0, 1, 2, 3, 4, 5],
        "versions": {"levelground": "0.0.0", "torch": "2.15.0"},
        "hardware": "a processor, 2 cores",
        "precision": "bf16-mixed",
        "steps_done": 240,
        "images_seen": 1920,
        "megapixels_seen": 125.8,
        "wall_s": 61.5 + number,
        "peak_memory_mib": 1204.0,
        "parameters": {"total": 14_328_000 + 900_000 * number, "used": 14_000_000, "trainable": 13_900_000},
        "macs_per_megapixel": 8.2e10 + 1e9 * number,
        "selection": {"rule": "val_miou", "step": 216, "value": 0.61},
        "speed": {"train_images_per_s": 31.0 - number},
    }


def _history(rng: np.random.Generator, wrong: float) -> list[HistoryLine]:
    """240 steps, ten to an epoch's validation."""
    lines: list[HistoryLine] = []
    for step in range(2, 241, 2):
        loss = 0.35 + wrong + 1.4 * math.exp(-step / 50) + float(rng.normal(0, 0.06))
        lr = 1e-3 * (1 - step / 260)
        lines.append(HistoryLine(kind="step", step=step, epoch=step / 24, train_loss=loss, lr=lr, images_per_s=31.0))
        if step % 24 == 0:
            miou = (0.85 - wrong) * (1 - math.exp(-step / 60)) + float(rng.normal(0, 0.01))
            lines.append(
                HistoryLine(
                    kind="val",
                    step=step,
                    epoch=step / 24,
                    train_loss=loss,
                    val_loss=0.5 + wrong,
                    val_miou=miou,
                    val_pixel_accuracy=0.8,
                    time_s=step / 4,
                )
            )
    return lines
