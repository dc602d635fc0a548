"""What the default recipe is worth against the origin study's, in the same minutes on the same real scenes.

Run from the project's root: ``python benchmarks/recipe.py [--quick] [--minutes 4]``. Needs real DeepGlobe scenes in
``$LEVELGROUND_DATA/deepglobe``. Trains a U-Net and an FPN with the default recipe (packaged encoder weights) and with
the origin recipe (resnet18 without weights, nothing frozen, because hubs may be out of reach) on seven scenes, one of
them for validation, and prints official mIoU on the other three (104113, 119, 6399). Target: default >= 3 x origin.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
from pathlib import Path

from levelground import Budget, Dataset, Recipe, load_recipe, read_counts
from levelground.datasets.prepare import PrepareOptions, prepare_dataset
from levelground.evaluation.evaluate import evaluate_run
from levelground.metrics import miou
from levelground.runtime import Runtime, make_runtime
from levelground.training.prepare_run import train_run
from levelground.training.run_spec import RunSpec, fit_recipe

TEST, VAL, TARGET = ("104113", "119", "6399"), ("266",), 3.0


def prepared(data: Path, folder: Path) -> Dataset:
    """The ten scenes, split by lists."""
    ids = sorted(path.name.removesuffix("_sat.jpg") for path in data.glob("*_sat.jpg"))
    lists = folder / "lists"
    lists.mkdir()
    parts = {"test": TEST, "val": VAL, "train": tuple(i for i in ids if i not in TEST + VAL)}
    for name, members in parts.items():
        (lists / f"{name}.txt").write_text("".join(f"{i}_sat.jpg\n" for i in members), encoding="utf-8")
    options = PrepareOptions(data=data, out=folder / "study", cache=folder / "cache", split="lists", lists=lists)
    return prepare_dataset(options)


def score(arch: str, recipe: Recipe, minutes: float, dataset: Dataset, study: Path, runtime: Runtime) -> float:
    """Train one model and return its official mIoU on the test scenes."""
    spec = RunSpec(arch, 0, fit_recipe(recipe, dataset), Budget(minutes=minutes))
    run = train_run(spec, dataset, study, runtime)
    counts = read_counts(evaluate_run(run, dataset, "test", runtime=runtime).counts_path("test")).counts.sum(axis=0)
    value = float(miou(counts, dataset.legend.counted, "official"))
    print(f"{recipe.name:8} {arch:5} {run.card.steps_done:5} steps, official mIoU {value:.4f}", flush=True)
    return value


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one minute a model")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--archs", nargs="+", default=["unet", "fpn"])
    parser.add_argument("--recipes", nargs="+", default=["default", "origin"])
    parser.add_argument("--set", nargs="*", default=[], help="fields of the default recipe to try, name=value")
    flags = parser.parse_args()
    data = Path(os.environ.get("LEVELGROUND_DATA", "")) / "deepglobe"
    if not os.environ.get("LEVELGROUND_DATA") or not data.is_dir():
        print("skipped: LEVELGROUND_DATA names no folder with deepglobe/")
        return 0
    minutes = 1.0 if flags.quick else flags.minutes
    trial = {key: _value(text) for key, _, text in (pair.partition("=") for pair in flags.set)}
    recipes = {
        "default": dataclasses.replace(load_recipe(), **trial),
        "origin": dataclasses.replace(load_recipe("origin"), encoder_weights="none", freeze_encoder_children=0),
    }
    runtime = make_runtime()
    print(f"{minutes:g} minutes a model on {runtime.describe()['hardware']}, {runtime.precision}", flush=True)
    means = {}
    with tempfile.TemporaryDirectory() as temporary:
        dataset = prepared(data, Path(temporary))
        for name in flags.recipes:
            study = Path(temporary) / name
            values = [score(arch, recipes[name], minutes, dataset, study, runtime) for arch in flags.archs]
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
