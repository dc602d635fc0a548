"""A hundred runs on a thousand scenes: what `compare` and `report` take, and how the page opens in a browser.

Run from the project's root: ``python benchmarks/many_runs.py [--quick] [--runs 100] [--scenes 1000] [--keep FOLDER]``.
Nothing is trained: scenes are generated and prepared, predictions are their labels with mistakes painted in, and
counts, cards, histories and masks are in the form of `evaluate`.

Targets, on two cores: `compare` in under 60 s and 2 GiB; a page under 15 MB that opens in Chromium without a task over
1 s.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from many_scenes import measure
from numpy.typing import NDArray
from PIL import Image

from levelground.config import PrepareOptions
from levelground.datasets.dataset import Dataset
from levelground.datasets.prepare import prepare_dataset
from levelground.history import HistoryLine, append_history
from levelground.imagery.legend import IGNORE
from levelground.metrics.counts import BINS, SceneCounts, write_counts
from levelground.recipe_files import BudgetRecord
from levelground.records import HASHES_FILE, sha256_file, write_hashes
from levelground.runs import EvaluationRecord, ParametersRecord, RunCard, SpeedRecord, run_name, write_card
from levelground.synthetic.scenes import write_scenes

SIDE, SEEDS, LEARNT = 64, 10, 12
COMPARE_S, COMPARE_MIB, PAGE_MB, TASK_S = 60.0, 2048.0, 15.0, 1.0
TAKEN_FOR = np.array([1, 2, 1, 2, 3, 1, 1], np.uint8)  # what each class is taken for; Unknown is never predicted


def prepare(folder: Path, scenes: int) -> Dataset:
    """Generate scenes, a few of which are learnt from, and prepare them."""
    data, lists = folder / "data", folder / "lists"
    write_scenes(data, n=scenes + LEARNT, size=SIDE, seed=0)
    ids = sorted(path.name.removesuffix("_sat.jpg") for path in data.glob("*_sat.jpg"))
    lists.mkdir(exist_ok=True)
    parts = {"train": ids[: LEARNT - 4], "val": ids[LEARNT - 4 : LEARNT], "test": ids[LEARNT:]}
    for name, members in parts.items():
        (lists / f"{name}.txt").write_text("\n".join(members), encoding="utf-8")
    return prepare_dataset(PrepareOptions(data=data, out=folder / "study", cache=folder / "cache", lists=lists))


def predict(labels: NDArray[np.uint8], wrong: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Predict labels ``(S, H, W)`` with squares of 8 px that are taken for another class."""
    known = np.where(labels == IGNORE, 1, labels)
    by_scene = np.clip(wrong + rng.normal(0, 0.5 * wrong, (len(labels), 1, 1)), 0, 0.9)
    squares = rng.random((len(labels), SIDE // 8, SIDE // 8)) < by_scene
    lost = squares.repeat(8, 1).repeat(8, 2) | (known == 6)
    return np.where(lost, TAKEN_FOR[known], known).astype(np.uint8)


def count(preds: NDArray[np.uint8], labels: NDArray[np.uint8], dataset: Dataset, forward_s: float) -> SceneCounts:
    """Count predictions; confidences, losses and border pixels are made up but fit the counts."""
    n, k = len(labels), dataset.legend.n_classes
    codes = (np.arange(n)[:, None, None] * k + np.minimum(labels, k - 1)) * k + preds
    counts = np.bincount(codes[labels != IGNORE], minlength=n * k * k).reshape(n, k, k)
    predicted, right = counts.sum(axis=1), np.diagonal(counts, axis1=1, axis2=2)
    conf_n, conf_correct = np.zeros((2, n, k, BINS), np.int64)
    conf_n[..., BINS - 2], conf_correct[..., BINS - 2] = predicted, right
    pixels = counts[:, dataset.legend.counted].sum(axis=(1, 2))
    scenes = [dataset.scene(name) for name in dataset.ids("test")]
    return SceneCounts(
        scenes=np.array([scene.id for scene in scenes]),
        groups=np.array([scene.group for scene in scenes]),
        labels_sha256=np.array([scene.labels_sha256 for scene in scenes]),
        legend_sha256=dataset.legend.digest(),
        split_sha256=dataset.split_sha256,
        counts=counts,
        boundary=np.stack([right, predicted, counts.sum(axis=2)], axis=-1) // 4,
        boundary_px=8,
        conf_n=conf_n,
        conf_sum=conf_n * 0.9,
        conf_correct=conf_correct,
        loss_sum=pixels * 0.5,
        loss_pixels=pixels,
        forward_s=np.full(n, forward_s),
        megapixels=np.full(n, SIDE * SIDE / 1e6),
    )


def write_run(dataset: Dataset, labels: NDArray[np.uint8], number: int) -> None:
    """Write one run: counts, masks, history and card."""
    arch, seed = f"network{number // SEEDS:02d}", number % SEEDS
    folder = dataset.folder / "runs" / run_name(arch, "resnet18", seed)
    if folder.exists():
        return
    folder.mkdir(parents=True)
    rng = np.random.default_rng(number)
    wrong = 0.15 + 0.01 * (number // SEEDS) + float(rng.normal(0, 0.003))
    preds = predict(labels, wrong, rng)
    write_counts(folder / "counts-test.npz", count(preds, labels, dataset, 0.001 * (1 + number // SEEDS)))
    (folder / "preds-test").mkdir()
    for name, mask in zip(dataset.ids("test"), preds, strict=True):
        image = Image.fromarray(mask)
        image.putpalette(dataset.legend.colours.tobytes())
        image.save(folder / "preds-test" / f"{name}.png", compress_level=1)
    write_hashes(folder / "preds-test" / HASHES_FILE, (folder / "preds-test").glob("*.png"))
    append_history(folder, [
        HistoryLine(kind="step", step=step, epoch=step / 40, train_loss=wrong + 2.0 / step, lr=1e-3, images_per_s=20.0)
        for step in range(4, 401, 4)
    ])  # fmt: skip
    append_history(folder, [
        HistoryLine(kind="val", step=step, epoch=step / 40, val_miou=0.8 - wrong - 1 / step, time_s=step)
        for step in range(40, 401, 40)
    ])  # fmt: skip
    write_card(folder, RunCard(
        name=folder.name, status="finished", arch=arch, encoder="resnet18", encoder_weights="none", seed=seed,
        budget=BudgetRecord(asked="400 steps", steps=400), outputs=(0, 1, 2, 3, 4, 5), tile=SIDE, halo=8, in_channels=3,
        dtype="uint8", mean=dataset.mean, std=dataset.std, legend=dataset.legend.to_json(),
        legend_sha256=dataset.legend.digest(), train_sha256=dataset.train_sha256, split_sha256=dataset.split_sha256,
        device="cpu", precision="fp32", threads=2, hardware="two cores", identity=f"{number:064d}", steps_done=400,
        wall_s=60.0, parameters=ParametersRecord(total=10**6 * (1 + number // SEEDS), used=10**6, trainable=10**6),
        speed=SpeedRecord(train_images_per_s=20.0),
        evaluations={"test": EvaluationRecord(
            identity=f"{number:064d}", counts_sha256=sha256_file(folder / "counts-test.npz"), tile=SIDE, halo=8)},
    ))  # fmt: skip


def longest_task(page: Path) -> float | None:
    """Open a page in Chromium and scroll through it; return the longest task in seconds, ``None`` without Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        return None
    watch = """window.tasks = [0]; new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.tasks.push(entry.duration);
    }).observe({ type: "longtask", buffered: true });"""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.add_init_script(watch)
        opened.goto(page.resolve().as_uri())
        opened.wait_for_timeout(1000)
        for _ in range(40):
            opened.mouse.wheel(0, 4000)
            opened.wait_for_timeout(50)
        longest = float(opened.evaluate("Math.max(...window.tasks)")) / 1000
        browser.close()
    return longest


def main() -> int:
    """Print the figures and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="60 runs on 200 scenes")
    parser.add_argument("--runs", type=int, help="number of runs")
    parser.add_argument("--scenes", type=int, help="number of test scenes")
    parser.add_argument("--keep", type=Path, help="folder that keeps the study for another run")
    parser.add_argument("--no-report", dest="report", action="store_false", help="only compare")
    options = parser.parse_args()
    n_runs, n_scenes = (
        options.runs or (60 if options.quick else 100),
        options.scenes or (200 if options.quick else 1000),
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        dataset = prepare(folder, n_scenes)
        labels = np.stack([np.asarray(dataset.open(name).labels) for name in dataset.ids("test")])
        for number in range(n_runs):
            write_run(dataset, labels, number)
        found = measure("compare", dataset.folder)
        print(
            f"compare: {found.wall_s:.1f} s, {found.cpu_s:.1f} s of CPU, {found.memory_kb / 1024:.0f} MiB", flush=True
        )
        holds = found.wall_s < COMPARE_S and found.memory_kb / 1024 < COMPARE_MIB
        if options.report:
            drawn, page = measure("report", dataset.folder), dataset.folder / "report.html"
            size, task = page.stat().st_size / 1e6, longest_task(page)
            print(f"report: {drawn.wall_s:.1f} s, {drawn.cpu_s:.1f} s of CPU, {drawn.memory_kb / 1024:.0f} MiB")
            print(
                f"page: {size:.1f} MB, longest task in Chromium {'not measured' if task is None else f'{task:.2f} s'}"
            )
            holds &= size < PAGE_MB and (task is None or task < TASK_S)
    print("holds" if holds else "FALLS SHORT")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
