"""Run folders with hand-written counts, as ``evaluate`` would leave them: no training, no pixels."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelground.history import HistoryLine, append_history
from levelground.imagery.legend import Legend, LegendClass
from levelground.metrics.counts import SceneCounts, write_counts
from levelground.records import check_record, sha256_array, sha256_file, sha256_json, to_json, write_json
from levelground.runs import Run, RunCard, read_run, write_card

LEGEND = Legend(
    "three",
    (
        LegendClass(0, "Agriculture land", (255, 255, 0)),
        LegendClass(1, "Rangeland", (255, 0, 255)),
        LegendClass(2, "Unknown", (0, 0, 0), counted=False),
    ),
)
"""Two counted classes and one that is not."""

RECIPE = {"name": "default", "encoder": "resnet18", "encoder_weights": "none", "lr": 0.001, "batch": 8, "tile": 256}
BINS = 15


def scene_labels(truth: Sequence[int]) -> NDArray[np.uint8]:
    """A one-row label map with as many pixels of each class as asked for."""
    return np.repeat(np.arange(len(truth), dtype=np.uint8), truth)[None, :]


def spread(truth: Sequence[int], wrong: Sequence[float], to: Sequence[int]) -> NDArray[np.int64]:
    """Counts of one scene: a share of each class's true pixels is taken for another class."""
    counts = np.zeros((len(truth), len(truth)), np.int64)
    for k, (n, share, other) in enumerate(zip(truth, wrong, to, strict=True)):
        lost = round(n * share)
        counts[k, k] += n - lost
        counts[k, other] += lost
    return counts


def noisy_counts(
    n_scenes: int, error: float, *, seed: int, noise: float = 0.1, truth_seed: int = 0
) -> NDArray[np.int64]:
    """Counts of several scenes with an error around the one given; the truth depends on ``truth_seed`` alone."""
    truths = np.random.default_rng(truth_seed).integers(200, 2000, (n_scenes, 2))
    rng = np.random.default_rng(seed)
    shares = np.clip(error + rng.normal(0, noise, (n_scenes, 2)), 0, 1)
    return np.stack([spread([a, b, 10], [x, y, 1], [1, 0, 0]) for (a, b), (x, y) in zip(truths, shares, strict=True)])


def scene_counts(
    counts: NDArray[np.int64],
    *,
    legend: Legend = LEGEND,
    scenes: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    labels: Sequence[NDArray[np.uint8]] | None = None,
    split_sha256: str = "5" * 64,
    boundary: bool = True,
    forward_s: float = 1.0,
) -> SceneCounts:
    """A counts record around ``(S, K, K)`` counts; confidences and losses are made up but consistent."""
    n, k = counts.shape[:2]
    ids = list(scenes or (f"scene{i:03d}" for i in range(n)))
    maps = list(labels or (scene_labels(scene.sum(axis=1).tolist()) for scene in counts))
    conf_n = np.zeros((n, k, BINS), np.int64)
    conf_n[..., BINS - 3] = counts.sum(axis=1)
    conf_correct = np.zeros_like(conf_n)
    conf_correct[..., BINS - 3] = np.diagonal(counts, axis1=1, axis2=2)
    edges = np.stack([np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=1), counts.sum(axis=2)], axis=-1) // 10
    pixels = counts[:, legend.counted].sum(axis=(1, 2))
    return SceneCounts(
        scenes=np.array(ids),
        groups=np.array(list(groups or ids)),
        labels_sha256=np.array([sha256_array(map_) for map_ in maps]),
        legend_sha256=legend.digest(),
        split_sha256=split_sha256,
        counts=counts,
        boundary=edges if boundary else np.zeros_like(edges),
        boundary_px=3,
        conf_n=conf_n,
        conf_sum=conf_n * 0.85,
        conf_correct=conf_correct,
        loss_sum=pixels * 0.5,
        loss_pixels=pixels,
        forward_s=np.full(n, float(forward_s)),
        megapixels=np.full(n, 6.0),
    )


def build_run(
    study: Path,
    name: str,
    counts: NDArray[np.int64] | SceneCounts,
    *,
    arch: str = "unet",
    seed: int | None = 0,
    split: str = "test",
    legend: Legend = LEGEND,
    vals: Sequence[float] = (),
    card: Mapping[str, Any] | None = None,
) -> Run:
    """Write a run folder under ``study/runs`` with its card, its counts and, given ``vals``, its history."""
    folder = study / "runs" / name
    folder.mkdir(parents=True)
    content = {
        "name": name,
        "arch": arch,
        "encoder": "resnet18",
        "encoder_weights": "none",
        "seed": seed,
        "recipe": RECIPE,
        "budget": {"asked": "100 steps", "steps": 100},
        "steps_done": 100,
        "outputs": [0, 1],
        "tile": 256,
        "halo": 32,
        "legend": legend.to_json(),
        "legend_sha256": legend.digest(),
        "train_sha256": "7" * 64,
        "split_sha256": "5" * 64,
        "status": "finished",
        "hardware": "two cores",
        "threads": 2,
        "device": "cpu",
        "precision": "fp32",
        "parameters": {"total": 1000, "used": 900, "trainable": 900},
        "speed": {"train_images_per_s": 4.0},
        "weights_sha256": sha256_json([name, arch, seed]),
        "identity": sha256_array(np.array([len(name)])) if seed is None else f"{arch}{seed}",
    }
    record = counts if isinstance(counts, SceneCounts) else scene_counts(counts, legend=legend)
    write_counts(folder / f"counts-{split}.npz", record)
    entry = {"identity": "e" * 64, "counts_sha256": sha256_file(folder / f"counts-{split}.npz")}
    content["evaluations"] = {split: entry}
    write_json(folder / "run.json", content | dict(card or {}), kind="run")
    if vals:
        every = 100 // len(vals)
        append_history(
            folder,
            [
                HistoryLine(kind="val", step=every * n, epoch=n / 2, val_miou=value, time_s=3.0 * n)
                for n, value in enumerate(vals, start=1)
            ],
        )
    return read_run(folder)


def edit_card(run: Run, **content: object) -> Run:
    """Write the run's card with other JSON values."""
    card = check_record(to_json(run.card) | content, RunCard, source="run.json", remedy="Mend the test.")
    return write_card(run.folder, card)


def adopted_card() -> dict[str, Any]:
    """What a card holds where another tool trained the run."""
    return {
        "status": "adopted",
        "recipe": {},
        "budget": None,
        "encoder_weights": None,
        "train_sha256": None,
        "tile": None,
        "halo": None,
        "parameters": None,
        "speed": None,
        "weights_sha256": None,
    }


def build_dataset(
    study: Path,
    scenes: Mapping[str, Sequence[str]],
    groups: Mapping[str, str] | None = None,
    *,
    folds: Sequence[Sequence[str]] = (),
) -> None:
    """Write a ``dataset.json`` that fits the runs: ids by split or fold, each scene's group where not its id."""
    ids = [scene for split in ("train", "val", "test") for scene in scenes.get(split, ())]
    record = {
        "layout": "kaggle",
        "legend": LEGEND.to_json(),
        "legend_sha256": LEGEND.digest(),
        "scenes": [
            {"id": scene, "group": (groups or {}).get(scene, scene), "height": 20, "width": 30} for scene in ids
        ],
        "split": {split: list(scenes.get(split, ())) for split in ("train", "val", "test")},
        "split_rule": {"kind": "random", "seed": 0, "left_out": [], "text": "random by group", "folds": folds},
        "split_sha256": "5" * 64,
        "findings": [],
    }
    write_json(study / "dataset.json", record, kind="dataset")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
