"""What the default recipe is worth against the origin study's, in the same minutes on the same real scenes.

Run from the project's root: ``python benchmarks/recipe.py [--quick] [--minutes 4] [--folds 5] [--seeds 0 1]``. Needs
real DeepGlobe scenes in ``$LEVELGROUND_DATA/deepglobe``. Leave-groups-out, as ``levelground prepare --folds`` deals the
scenes out: for each fold a U-Net and an FPN are trained without the fold's scenes, with the default recipe (packaged
encoder weights) and with the origin recipe (resnet18 without weights, nothing frozen, because hubs may be out of
reach). Printed is the official mIoU of the counts of all held-out scenes together, each predicted by the model that
did not see it, and the IoU of each class. ``--steps`` gives runs of so many steps, whose results do not depend on what
else the machine does. Target: default >= 6 x origin.

``--halves`` asks how much is learnt in the time, not what other places are like: scenes at half their resolution, the
left half of each to learn from and the right one to test, with tiles of 256 px.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from levelground import Budget, Dataset, load_recipe, read_counts
from levelground.datasets.folds import read_folds
from levelground.datasets.prepare import PrepareOptions, prepare_dataset
from levelground.evaluation.evaluate import evaluate_run
from levelground.metrics import class_iou, miou
from levelground.runtime import Runtime, make_runtime
from levelground.training.prepare_run import train_run
from levelground.training.run_spec import RunSpec, fit_recipe

TARGET = 6.0


def counts_of(spec: RunSpec, dataset: Dataset, runtime: Runtime) -> NDArray[np.int64]:
    """Train one model and return its counts on the test scenes, added up."""
    run = train_run(spec, dataset, dataset.folder, runtime)
    counts = read_counts(evaluate_run(run, dataset, "test", runtime=runtime).counts_path("test")).counts.sum(axis=0)
    value = float(miou(counts, dataset.legend.counted, "official"))
    shown = f"{spec.recipe.name:8} {spec.arch:5} seed {spec.seed}: {run.card.steps_done:5} steps"
    print(f"{shown}, test {' '.join(dataset.ids('test'))}: official mIoU {value:.4f}", flush=True)
    return counts


def cut_scenes(data: Path, folder: Path) -> PrepareOptions:
    """Write the scenes at half their resolution, each cut in a left half, a corner for validation, and the rest."""
    folder.mkdir()
    names: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for image in sorted(data.glob("*_sat.jpg")):
        number = image.name.removesuffix("_sat.jpg")
        with Image.open(image) as whole, Image.open(data / f"{number}_mask.png") as mask:
            pixels, labels = whole.reduce(2), Image.fromarray(np.asarray(mask)[::2, ::2])
        width, height = pixels.size
        middle, corner = 640 * width // 1224, 256 * height // 1224
        boxes = ((0, 0, middle, height), (middle, 0, width, corner), (middle, corner, width, height))
        for digit, (found, box) in enumerate(zip(names.values(), boxes, strict=True), start=1):
            found.append(f"{number}{digit}")
            pixels.crop(box).save(folder / f"{found[-1]}_sat.jpg", quality=97)
            labels.crop(box).save(folder / f"{found[-1]}_mask.png")
    for part, found in names.items():
        (folder / f"{part}.txt").write_text("\n".join(found) + "\n", encoding="utf-8")
    return PrepareOptions(data=folder, lists=folder, groups="none")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one minute a model")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=None, help="steps of each model, in place of minutes")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--first", type=int, default=None, help="train only this many folds: a rehearsal")
    parser.add_argument("--halves", action="store_true", help="halves of scenes in place of folds")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--archs", nargs="+", default=["unet", "fpn"])
    parser.add_argument("--recipes", nargs="+", default=["default", "origin"])
    parser.add_argument("--set", nargs="*", default=[], help="fields of the default recipe to try, name=value")
    flags = parser.parse_args()
    data = Path(os.environ.get("LEVELGROUND_DATA", "")) / "deepglobe"
    if not os.environ.get("LEVELGROUND_DATA") or not data.is_dir():
        print("skipped: LEVELGROUND_DATA names no folder with deepglobe/")
        return 0
    minutes = 1.0 if flags.quick else flags.minutes
    budget = Budget(minutes=minutes) if flags.steps is None else Budget(steps=flags.steps)
    trial = {key: _value(text) for key, _, text in (pair.partition("=") for pair in flags.set)}
    trial = {"tile": 256, "halo": 28, **trial} if flags.halves else trial
    recipes = {
        "default": dataclasses.replace(load_recipe(), **trial),
        "origin": dataclasses.replace(load_recipe("origin"), encoder_weights="none", freeze_encoder_children=0),
    }
    runtime = make_runtime()
    print(
        f"{budget.describe(load_recipe())} a model on {runtime.describe()['hardware']}, {runtime.precision}", flush=True
    )
    means = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        asked = cut_scenes(data, work / "halves") if flags.halves else PrepareOptions(data=data, folds=flags.folds)
        prepared = prepare_dataset(dataclasses.replace(asked, out=work / "study", cache=work / "cache"))
        datasets = [prepared] if flags.halves else read_folds(prepared)[: flags.first]
        counted = datasets[0].legend.counted
        for name in flags.recipes:
            values = []
            for arch, seed in product(flags.archs, flags.seeds):
                specs = (RunSpec(arch, seed, fit_recipe(recipes[name], one), budget) for one in datasets)
                found = [counts_of(spec, one, runtime) for spec, one in zip(specs, datasets, strict=True)]
                joined = np.sum(found, axis=0)
                values.append(float(miou(joined, counted, "official")))
                print(f"{name} {arch} seed {seed}: official mIoU {values[-1]:.4f} over all held-out scenes", flush=True)
                print("  by class:", " ".join(f"{value:.3f}" for value in class_iou(joined, counted)), flush=True)
            means[name] = statistics.fmean(values)
            print(f"{name}: mean official mIoU {means[name]:.4f}", flush=True)
    if len(means) < 2:
        return 0
    ratio = means["default"] / means["origin"]
    print(f"default / origin: {ratio:.2f} (target {TARGET:g})")
    print("verdict:", "met" if ratio >= TARGET else "short")
    return 0 if ratio >= TARGET else 1


def _value(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)


if __name__ == "__main__":
    sys.exit(main())
