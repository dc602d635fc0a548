"""A small study folder with everything the report reads, made from generated pixels in well under a second.

The scores, intervals and sentences have the form and rough size of real ones; they come from the loops below, not from
levelground's own statistics, so that the page is tested without them.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from levelground.legend import DEEPGLOBE, IGNORE
from levelground.records import sha256_array, write_json

GROUND = np.array(
    [(150, 140, 135), (170, 160, 90), (150, 165, 105), (50, 85, 50), (40, 65, 95), (190, 170, 140), (225, 228, 232)],
    np.float32,
)
K = DEEPGLOBE.n_classes


@dataclass(frozen=True)
class FakeScene:
    """What the dataset gives for one scene: pixels ``(H, W, 3)`` uint8 and labels ``(H, W)`` uint8."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class FakeStudy:
    """The folder, its comparison record, and its scenes by id; ``open`` is the dataset's."""

    folder: Path
    record: dict[str, Any]
    scenes: dict[str, FakeScene] = field(default_factory=dict)

    def open(self, scene_id: str) -> FakeScene:
        """The scene of that id."""
        return self.scenes[scene_id]


def build_study(
    folder: Path,
    *,
    archs: Sequence[str] = ("pspnet", "unet", "fpn"),
    seeds: int = 2,
    scenes: Sequence[str] = ("119", "6399", "10901", "104113", "180902", "482365"),
    size: int = 96,
    adopted: str | None = None,
    verdicts: bool = True,
) -> FakeStudy:
    """Write a study folder.

    Args:
        folder: Where to.
        archs: One architecture a name; each gets ``seeds`` runs.
        seeds: Seeds a name.
        scenes: Ids of the test scenes.
        size: Height of a scene in pixels; the width is 4/3 of it.
        adopted: Name of one more run that has neither a history nor a seed.
        verdicts: Whether intervals, pairs and the optional blocks are there (``False``: one test group).
    """
    rng = np.random.default_rng(7)
    opened = {scene: _scene(np.random.default_rng(100 + n), size) for n, scene in enumerate(scenes)}
    runs = []
    plans = [(arch, seed, 0.30 - 0.10 * min(n, 2) + 0.01 * n) for n, arch in enumerate(archs) for seed in range(seeds)]
    if adopted:
        plans.append((adopted, None, 0.2))
    for number, (arch, seed, error) in enumerate(plans):
        name = f"{arch}-resnet18-s{seed}" if seed is not None else arch
        run_folder = folder / "runs" / name
        (run_folder / "preds-test").mkdir(parents=True)
        counts = []
        for n, (scene, truth) in enumerate(opened.items()):
            preds = _predict(np.random.default_rng(1000 * number + n), truth.labels, error)
            _write_preds(run_folder / "preds-test" / f"{scene}.png", preds)
            counts.append(_counts(truth.labels, preds))
        card = _card(name, arch, seed, number, adopted=seed is None)
        write_json(run_folder / "run.json", card, kind="run")
        if seed is not None:
            _write_history(run_folder / "history.jsonl", rng, error)
        runs.append(_run(card, np.array(counts), seed, verdicts))
    record = _record(runs, opened, verdicts)
    write_json(folder / "comparison.json", record, kind="comparison")
    return FakeStudy(folder, {"schema": 1, "kind": "comparison", **json.loads(json.dumps(record))}, opened)


def _scene(rng: np.random.Generator, size: int) -> FakeScene:
    """Cells around random points, one class each, painted with a texture and noise; one corner has no data."""
    height, width = size, size * 4 // 3
    points = rng.uniform(0, (height, width), (18, 2))
    owners = rng.choice(K, 18, p=[0.14, 0.38, 0.13, 0.16, 0.08, 0.08, 0.03])
    rows, cols = np.mgrid[:height, :width].astype(np.float32)
    bend = 3 * np.sin(rows / 9 + rng.uniform(0, 6)) + 3 * np.cos(cols / 11)
    distance = [(rows - r + bend) ** 2 + (cols - c + bend) ** 2 for r, c in points]
    labels = owners[np.argmin(distance, axis=0)].astype(np.uint8)
    furrows = 10 * np.sin((rows + cols) / 2)[..., None] * (labels == 1)[..., None]
    pixels = GROUND[labels] + furrows + rng.normal(0, 9, (height, width, 1))
    labels[:3, :5] = IGNORE
    return FakeScene(pixels.clip(0, 255).astype(np.uint8), labels)


def _predict(rng: np.random.Generator, labels: NDArray[np.uint8], error: float) -> NDArray[np.uint8]:
    """Labels shifted a little, with blobs of a confused class; class 6 is never predicted."""
    shift = rng.integers(-3, 4, 2)
    preds = np.roll(np.where(labels == IGNORE, 1, labels), tuple(shift), (0, 1))
    coarse = rng.random((labels.shape[0] // 8 + 1, labels.shape[1] // 8 + 1)).repeat(8, 0).repeat(8, 1)
    wrong = coarse[: labels.shape[0], : labels.shape[1]] < error
    confused = np.array([1, 2, 1, 2, 3, 1, 1], np.uint8)
    return np.where(wrong | (preds == 6), confused[preds], preds).astype(np.uint8)


def _write_preds(path: Path, preds: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(preds)
    picture.putpalette(DEEPGLOBE.colours.ravel().tolist())
    picture.save(path)


def _counts(labels: NDArray[np.uint8], preds: NDArray[np.uint8]) -> list[list[int]]:
    return [[int(np.sum((labels == t) & (preds == p))) for p in range(K)] for t in range(K)]


def _iou(counts: NDArray[np.int64], kept: Sequence[int]) -> list[float | None]:
    true, pred = counts.sum(1), counts.sum(0)
    return [
        float(counts[k, k] / (true[k] + pred[k] - counts[k, k])) if k in kept and true[k] else None for k in range(K)
    ]


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def _scores(per_scene: NDArray[np.int64], scoring: str, verdicts: bool) -> dict[str, Any]:
    counts = per_scene.sum(0)
    if scoring == "official":
        counts = counts.copy()
        counts[6] = 0
    kept = range(K) if scoring == "all" else range(K - 1)
    iou = _iou(counts, kept)
    f1 = [None if value is None else 2 * value / (1 + value) for value in iou]
    miou = _mean(iou)
    true, pred = counts.sum(1), counts.sum(0)
    return {
        "miou": miou,
        "interval": [miou - 0.031, miou + 0.031] if verdicts else None,
        "se": 0.012 if verdicts else None,
        "iou": iou,
        "f1": f1,
        "mf1": _mean(f1),
        "pixel_accuracy": float(np.trace(counts) / counts.sum()),
        "precision": [float(counts[k, k] / pred[k]) if pred[k] and k in kept else None for k in range(K)],
        "recall": [float(counts[k, k] / true[k]) if true[k] and k in kept else None for k in range(K)],
    }


def _card(name: str, arch: str, seed: int | None, number: int, *, adopted: bool) -> dict[str, Any]:
    known = not adopted
    return {
        "name": name,
        "arch": arch,
        "encoder": "resnet18",
        "encoder_weights": "none" if known else None,
        "seed": seed,
        "recipe": {"name": "default", "lr": 0.001, "batch": 8, "tile": 256} if known else {},
        "budget": {"steps": 240, "asked": "--steps 240"} if known else None,
        "steps_per_epoch": 24,
        "outputs": [0, 1, 2, 3, 4, 5],
        "tile": 512,
        "halo": 64,
        "gsd_m": None,
        "legend_sha256": "ab" * 32,
        "train_sha256": "cd" * 32,
        "split_sha256": "ef" * 32,
        "versions": {"levelground": "0.1.0", "torch": "2.15.0"},
        "hardware": {"cpu": "a processor with 2 cores"},
        "threads": 2 if known else None,
        "device": "cpu",
        "precision": "bf16-mixed" if known else None,
        "status": "finished" if known else "adopted",
        "steps_done": 240 if known else None,
        "images_seen": 1920 if known else None,
        "megapixels_seen": 125.8 if known else None,
        "wall_s": 61.5 + number if known else None,
        "train_s": 55.0 if known else None,
        "peak_memory_mib": 1204.0 if known else None,
        "parameters": {"total": 14_328_000 + 1000 * number, "used": 14_000_000, "trainable": 13_900_000},
        "macs_per_megapixel": 8.2e10 + 1e9 * number,
        "selection": {"rule": "val_miou", "step": 216, "value": 0.61} if known else None,
        "speed": {"train_images_per_s": 31.0, "infer_megapixels_per_s": 6.5 / (1 + 0.2 * number)} if known else None,
    }


def _write_history(path: Path, rng: np.random.Generator, error: float) -> None:
    lines = []
    for step in range(2, 241, 2):
        loss = 0.35 + error + 1.4 * math.exp(-step / 50) + float(rng.normal(0, 0.06))
        lines.append(
            {
                "kind": "step",
                "step": step,
                "epoch": step / 24,
                "train_loss": loss,
                "lr": 1e-3 * (1 - step / 260),
                "images_per_s": 31.0,
            }
        )
        if step % 24 == 0:
            miou = (0.85 - error) * (1 - math.exp(-step / 60)) + float(rng.normal(0, 0.01))
            lines.append(
                {
                    "kind": "val",
                    "step": step,
                    "epoch": step / 24,
                    "val_loss": 0.5 + error,
                    "val_miou": miou,
                    "val_pixel_accuracy": 0.8,
                    "train_loss": loss,
                    "time_s": step / 4,
                }
            )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _run(card: dict[str, Any], per_scene: NDArray[np.int64], seed: int | None, verdicts: bool) -> dict[str, Any]:
    edges = [(n + 0.5) / 10 for n in range(10)]
    bins = [{"confidence": edge, "accuracy": max(0.0, edge - 0.06), "n": 500 * (n + 1)} for n, edge in enumerate(edges)]
    calibration = {"ece": 0.06, "interval": [0.04, 0.08], "bins": bins} if verdicts and seed is not None else None
    miou = [_mean(_iou(scene, range(K - 1))) for scene in per_scene]
    boundary = {"mean": 0.31, "interval": [0.28, 0.34], "per_class": [0.3] * 6 + [None]} if verdicts else None
    return {
        "name": card["name"],
        "arch": card["arch"],
        "encoder": card["encoder"],
        "seed": seed,
        "label": f"{card['arch']} s{seed}" if seed is not None else card["name"],
        "card": card,
        "adopted": seed is None,
        "scores": {scoring: _scores(per_scene, scoring, verdicts) for scoring in ("official", "kept", "all")},
        "boundary_iou": boundary,
        "calibration": calibration,
        "loss": 0.41,
        "counts": per_scene.sum(0).tolist(),
        "scene_miou": miou,
    }


def _pair(a: dict[str, Any], b: dict[str, Any], verdicts: bool) -> dict[str, Any]:
    official_a, official_b = a["scores"]["official"], b["scores"]["official"]
    delta = official_a["miou"] - official_b["miou"]
    half = 0.02
    verdict = "equal" if abs(delta) < 0.003 else "better" if delta > half else "worse" if delta < -half else "undecided"
    per_class = [
        {"class": k, "delta": x - y, "interval": [x - y - 0.03, x - y + 0.03] if verdicts else None}
        for k, (x, y) in enumerate(zip(official_a["iou"], official_b["iou"], strict=True))
        if x is not None and y is not None
    ]
    interval = [delta - half, delta + half] if verdicts else None
    words = {"better": "beats", "worse": "loses to", "equal": "equals", "undecided": "cannot be told from"}
    return {
        "a": a["name"],
        "b": b["name"],
        "metric": "official.miou",
        "delta": delta,
        "se": 0.008,
        "df": 5,
        "interval": interval,
        "percentile": interval,
        "bca": None,
        "p": 0.03,
        "p_holm": 0.06 if verdict == "undecided" else 0.03,
        "p_min": 0.03,
        "verdict": verdict if verdicts else "undecided",
        "text": f"{a['label']} {words[verdict]} {b['label']}.",
        "per_class": per_class,
    }


def _architectures(runs: list[dict[str, Any]], verdicts: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    names = list(dict.fromkeys(run["arch"] for run in runs if run["seed"] is not None))
    table = []
    for name in names:
        own = [run for run in runs if run["arch"] == name]
        miou = _mean([run["scores"]["official"]["miou"] for run in own])
        table.append(
            {
                "arch": name,
                "encoder": "resnet18",
                "name": f"{name} resnet18",
                "runs": [run["name"] for run in own],
                "seeds": len(own),
                "miou": miou,
                "interval": [miou - 0.04, miou + 0.04] if verdicts and len(own) > 1 else None,
                "se_groups": 0.011,
                "se_seeds": 0.006 if len(own) > 1 else None,
                "ranked_first": 1 / len(names),
            }
        )
    pairs = []
    for n, a in enumerate(table):
        for b in table[n + 1 :]:
            delta = a["miou"] - b["miou"]
            verdict = "better" if delta > 0.05 else "worse" if delta < -0.05 else "undecided"
            pairs.append(
                {
                    "a": a["name"],
                    "b": b["name"],
                    "metric": "official.miou",
                    "delta": delta,
                    "interval": [delta - 0.05, delta + 0.05],
                    "df": 4.1,
                    "p": 0.04,
                    "p_holm": 0.05,
                    "verdict": verdict,
                    "text": f"{a['name']} against {b['name']}: {verdict}.",
                    "v_group": 1e-4,
                    "v_a": 2e-5,
                    "v_b": 3e-5,
                }
            )
    return table, pairs if verdicts and all(row["seeds"] > 1 for row in table) else []


def _multiverse(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for scoring in ("official", "kept", "all"):
        for score in ("miou", "mf1", "pixel_accuracy"):
            values = {run["name"]: run["scores"][scoring][score] for run in runs}
            order = sorted(values, key=lambda name: -values[name])
            ranks = {name: order.index(name) + 1 for name in values}
            first = rows[0]["ranks"] if rows else ranks
            flips = [[a, b] for a in order for b in order if ranks[a] < ranks[b] and first[a] > first[b]]
            rows.append({"metric": f"{scoring}.{score}", "values": values, "ranks": ranks, "flips": flips})
    return rows


def _findings(runs: list[dict[str, Any]], verdicts: bool) -> list[dict[str, Any]]:
    best = max(runs, key=lambda run: run["scores"]["official"]["miou"])
    score = best["scores"]["official"]["miou"]
    headline = (
        f"{best['label']} scores highest: official mIoU {score:.3f} "
        f"(95 % interval {score - 0.031:.3f} to {score + 0.031:.3f})."
        if verdicts
        else f"{best['label']} scores highest with {score:.3f}, but one test group gives no interval."
    )
    return [
        {"code": "winner", "severity": "headline", "text": headline, "figures": {"miou": score}},
        {
            "code": "confused",
            "severity": "finding",
            "text": "Rangeland is most often taken for Agriculture land (31 % of its pixels).",
            "figures": {},
        },
        {"code": "never_predicted", "severity": "finding", "text": "No run ever predicts Unknown.", "figures": {}},
        {
            "code": "leak",
            "severity": "warning",
            "text": "Test scene 180902 touches training scene 482365: the split leaks.",
            "figures": {},
        },
    ]


def _record(runs: list[dict[str, Any]], opened: dict[str, FakeScene], verdicts: bool) -> dict[str, Any]:
    class_pixels = {scene: [int(np.sum(item.labels == k)) for k in range(K)] for scene, item in opened.items()}
    total = np.sum(list(class_pixels.values()), axis=0)
    table, architecture_pairs = _architectures(runs, verdicts)
    pairs = [_pair(a, b, verdicts) for n, a in enumerate(runs) for b in runs[n + 1 :]]
    power = {"detectable_delta": 0.043, "groups_needed": 640, "seeds_needed": 5} if verdicts else None
    return {
        "version": "0.1.0",
        "created": "2026-01-02T03:04:05Z",
        "split": "test",
        "metric": "official.miou",
        "delta": 0.01,
        "scorings": ["official", "kept", "all"],
        "legend": DEEPGLOBE.to_json(),
        "legend_sha256": "ab" * 32,
        "split_sha256": "ef" * 32,
        "split_rule": {"kind": "random", "seed": 0, "left_out": [], "text": "by group, 60/20/20, seed 0"},
        "dataset": {
            "scenes": 30,
            "train": 18,
            "val": 6,
            "test": len(opened),
            "layout": "kaggle",
            "n_groups_test": len(opened),
        },
        "scenes": [
            {
                "id": scene,
                "group": scene,
                "height": item.labels.shape[0],
                "width": item.labels.shape[1],
                "labels_sha256": sha256_array(item.labels),
                "class_pixels": class_pixels[scene],
            }
            for scene, item in opened.items()
        ],
        "n_groups": len(opened) if verdicts else 1,
        "truth": {
            "class_pixels": total.tolist(),
            "class_share": (total / total.sum()).tolist(),
            "present": (total > 0).tolist(),
        },
        "protocol": {
            "recipe": "default",
            "budget": "240 steps",
            "weights": "none",
            "tile": 512,
            "halo": 64,
            "split": "random",
        },
        "unlike": [],
        "runs": runs,
        "pairs": pairs,
        "architectures": table,
        "architecture_pairs": architecture_pairs,
        "multiverse": _multiverse(runs),
        "power": power,
        "test_looks": {
            "total": len(runs),
            "by": [{"time": "2026-01-02T03:00:00Z", "run": run["name"], "command": "study"} for run in runs],
        },
        "findings": _findings(runs, verdicts),
    }
