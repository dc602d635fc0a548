"""A small prepared study with pixels on disk, and a run with an untrained network in it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from levelground.datasets.dataset import Dataset, SceneRecord, read_dataset, write_dataset
from levelground.datasets.splits import Split
from levelground.imagery.cache import Cache
from levelground.imagery.legend import IGNORE, Legend, LegendClass, encode_colours
from levelground.imagery.scene_pixels import SceneFile
from levelground.models.build import build_model
from levelground.models.model import Model
from levelground.models.smp_backend import save_model
from levelground.models.spec import numbered_spec
from levelground.recipe_files import load_recipe
from levelground.records import write_json
from levelground.runs import Run, read_run

LEGEND = Legend(
    "land",
    (
        LegendClass(0, "Field", (250, 250, 0)),
        LegendClass(1, "Unknown", (90, 90, 90), counted=False),
        LegendClass(2, "Wood", (0, 200, 0)),
        LegendClass(3, "Water", (0, 0, 250)),
    ),
    ignored_colours=((0, 0, 0),),
)
SIZES = {"a/1": (70, 50), "a/2": (64, 64), "b/1": (40, 90), "b/2": (33, 31), "c/1": (64, 96), "c/2": (80, 40)}
SPLIT = Split(("a/1", "a/2"), ("b/1",), ("b/2", "c/1", "c/2"), "random", seed=0)
ENCODER = "tu-mobilenetv3_small_050"
"""A third of a million parameters with a Linknet around it."""


def draw_scene(height: int, width: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels ``(H, W, 3)`` whose colour tells the class, with noise, and labels with all classes and a gap."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (-(-height // 10), -(-width // 10)), np.uint8).repeat(10, 0).repeat(10, 1)
    labels = labels[:height, :width].copy()
    labels[:3, :5] = IGNORE
    labels[5, :] = np.arange(width) % 4
    noise = rng.integers(-40, 41, (height, width, 3))
    shown = encode_colours(np.where(labels == IGNORE, 0, labels).astype(np.uint8), LEGEND)
    return np.clip(shown.astype(np.int64) + noise, 0, 255).astype(np.uint8), labels


def build_study(folder: Path, *, legend: Legend = LEGEND, split: Split = SPLIT, first_seed: int = 0) -> Dataset:
    """Write scenes, cache and ``dataset.json`` below ``folder``; the scenes are drawn from seeds of their own."""
    cache, records = Cache(folder / "cache"), []
    for seed, (name, (height, width)) in enumerate(SIZES.items(), start=first_seed):
        pixels, labels = draw_scene(height, width, seed)
        image, mask = folder / "data" / f"{name}_sat.png", folder / "data" / f"{name}_mask.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(image)
        Image.fromarray(encode_colours(labels, LEGEND)).save(mask)
        entry = cache.store(SceneFile(name, image, mask), legend)
        assert entry.labels_key is not None
        assert entry.labels_sha256 is not None
        records.append(
            SceneRecord(
                id=name,
                image=f"{name}_sat.png",
                labels=f"{name}_mask.png",
                height=height,
                width=width,
                group=name[0],
                image_sha256=entry.image_sha256,
                labels_sha256=entry.labels_sha256,
                image_key=entry.image_key,
                labels_key=entry.labels_key,
                class_pixels=entry.class_pixels,
                ignored_pixels=entry.ignored_pixels,
            )
        )
    dataset = Dataset(
        folder=folder / "study",
        data=folder / "data",
        cache=folder / "cache",
        layout="kaggle",
        legend=legend,
        bands=3,
        dtype="uint8",
        gsd_m=None,
        scenes=tuple(records),
        split=split,
        groups_from="folders",
        mean=(100.0, 110.0, 60.0),
        std=(60.0, 60.0, 60.0),
    )
    write_dataset(dataset, folder / "study")
    return read_dataset(folder / "study")


def small_model(outputs: tuple[int, ...] = (0, 2, 3), *, seed: int = 0, bands: int = 3) -> Model:
    """An untrained Linknet."""
    import dataclasses

    recipe = dataclasses.replace(load_recipe(), encoder=ENCODER, encoder_weights="none")
    spec = numbered_spec("linknet", ENCODER, n_outputs=len(outputs), mean=[100.0] * bands, std=[60.0] * bands)
    return build_model(dataclasses.replace(spec, legend=LEGEND, outputs=outputs), recipe, seed=seed)


def add_run(dataset: Dataset, name: str = "linknet-s0", *, seed: int = 0, **card: object) -> Run:
    """Write a finished run with an untrained network into the study."""
    folder = dataset.folder / "runs" / name
    folder.mkdir(parents=True)
    model = small_model(seed=seed)
    save_model(model, folder / "model")
    content = {
        "name": name,
        "status": "finished",
        "arch": model.spec.arch,
        "encoder": model.spec.encoder,
        "encoder_weights": "none",
        "seed": seed,
        "recipe": {"name": "default", "tile": 64, "halo": 8, "loss": "ce+dice"},
        "outputs": list(model.spec.outputs),
        "tile": 64,
        "halo": 8,
        "in_channels": 3,
        "mean": list(model.spec.mean),
        "std": list(model.spec.std),
        "legend": dataset.legend.to_json(),
        "legend_sha256": dataset.legend.digest(),
        "train_sha256": dataset.train_sha256,
        "split_sha256": dataset.split_sha256,
        "speed": {"train_images_per_s": 3.0},
        "identity": f"{name}{seed}",
    }
    write_json(folder / "run.json", content | card, kind="run")
    return read_run(folder)
