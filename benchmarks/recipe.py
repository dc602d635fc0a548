"""What the default recipe is worth against the origin study's, in the same minutes on the same real scenes.

Run from the project's root: ``python benchmarks/recipe.py [--quick] [--minutes 4] [--folds 5] [--seeds 0 1]``. Needs
real DeepGlobe scenes in ``$LEVELGROUND_DATA/deepglobe``. Leave-groups-out: the groups of scenes are dealt to folds,
and for each fold a U-Net and an FPN are trained on the scenes of the others, one group of which validates, with the
default recipe (packaged encoder weights) and with the origin recipe (resnet18 without weights, nothing frozen,
because hubs may be out of reach). Printed is the official mIoU of the counts of all held-out scenes together, each
predicted by the model that did not see it. Target: default >= 6 x origin.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground import Budget, Dataset, load_recipe, read_counts
from levelground.datasets.prepare import PrepareOptions, prepare_dataset
from levelground.evaluation.evaluate import evaluate_run
from levelground.metrics import miou
from levelground.runtime import Runtime, make_runtime
from levelground.training.prepare_run import train_run
from levelground.training.run_spec import RunSpec, fit_recipe

TARGET = 6.0


def scene_ids(data: Path) -> list[str]:
    """The scenes by name."""
    return sorted(path.name.removesuffix("_sat.jpg") for path in data.glob("*_sat.jpg"))


def prepared(data: Path, folder: Path, test: Sequence[str], val: Sequence[str]) -> Dataset:
    """The scenes, split by lists; those that neither test nor validate train."""
    lists = folder / "lists"
    lists.mkdir(parents=True)
    parts = {"test": test, "val": val, "train": [i for i in scene_ids(data) if i not in {*test, *val}]}
    for name, members in parts.items():
        (lists / f"{name}.txt").write_text("".join(f"{i}_sat.jpg\n" for i in members), encoding="utf-8")
    cache = folder.parent / "cache"
    return prepare_dataset(PrepareOptions(data=data, out=folder / "study", cache=cache, split="lists", lists=lists))


def dealt_groups(data: Path, folder: Path, folds: int) -> list[list[str]]:
    """Scenes of each fold: whole groups, as prepare finds them (scenes that touch), dealt out in turn."""
    ids = scene_ids(data)
    dataset = prepared(data, folder / "groups", ids[:1], ids[1:2])
    groups: dict[str, list[str]] = {}
    for name in ids:
        groups.setdefault(dataset.scene(name).group, []).append(name)
    dealt: list[list[str]] = [[] for _ in range(min(folds, len(groups)))]
    for members in sorted(groups.values(), key=len, reverse=True):
        min(dealt, key=len).extend(members)
    return dealt


def counts_of(spec: RunSpec, dataset: Dataset, study: Path, runtime: Runtime) -> NDArray[np.int64]:
    """Train one model and return its counts on the test scenes, added up."""
    run = train_run(spec, dataset, study, runtime)
    counts = read_counts(evaluate_run(run, dataset, "test", runtime=runtime).counts_path("test")).counts.sum(axis=0)
    value = float(miou(counts, dataset.legend.counted, "official"))
    shown = f"{spec.recipe.name:8} {spec.arch:5} seed {spec.seed}: {run.card.steps_done:5} steps"
    print(f"{shown}, test {' '.join(dataset.ids('test'))}: official mIoU {value:.4f}", flush=True)
    return counts


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one minute a model")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--first", type=int, default=None, help="train only this many folds: a rehearsal")
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
    trial = {key: _value(text) for key, _, text in (pair.partition("=") for pair in flags.set)}
    recipes = {
        "default": dataclasses.replace(load_recipe(), **trial),
        "origin": dataclasses.replace(load_recipe("origin"), encoder_weights="none", freeze_encoder_children=0),
    }
    runtime = make_runtime()
    print(f"{minutes:g} minutes a model on {runtime.describe()['hardware']}, {runtime.precision}", flush=True)
    means = {}
    with tempfile.TemporaryDirectory() as temporary:
        folds = dealt_groups(data, Path(temporary), flags.folds)
        datasets = [
            prepared(data, Path(temporary) / f"fold-{k}", test, folds[(k + 1) % len(folds)][:1])
            for k, test in enumerate(folds[: flags.first])
        ]
        counted = datasets[0].legend.counted
        for name in flags.recipes:
            values = []
            for arch, seed in product(flags.archs, flags.seeds):
                specs = (
                    RunSpec(arch, seed, fit_recipe(recipes[name], one), Budget(minutes=minutes)) for one in datasets
                )
                found = [counts_of(spec, one, one.folder, runtime) for spec, one in zip(specs, datasets, strict=True)]
                values.append(float(miou(np.sum(found, axis=0), counted, "official")))
                print(f"{name} {arch} seed {seed}: official mIoU {values[-1]:.4f} over all held-out scenes", flush=True)
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
