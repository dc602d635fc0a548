"""A data set made of arrays: any bands, any type, any labels, without image files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.datasets.dataset import Dataset, SceneRecord
from levelground.datasets.splits import Split
from levelground.imagery.cache import Cache
from levelground.imagery.legend import IGNORE, default_legend
from levelground.records import sha256_array, sha256_json


def array_dataset(
    folder: Path,
    scenes: Mapping[str, tuple[NDArray[np.generic], NDArray[np.uint8]]],
    *,
    n_classes: int = 4,
    val: tuple[str, ...] = (),
    test: tuple[str, ...] = (),
) -> Dataset:
    """Put arrays into a cache below ``folder`` and describe them.

    Args:
        folder: Where the cache lies.
        scenes: Pixels ``(H, W, C)`` and labels ``(H, W)`` by id.
        n_classes: Classes of the legend, all counted.
        val: Ids of validation scenes; by default the last scene.
        test: Ids of test scenes; by default the last but one.
    """
    cache, records = Cache(folder / "cache"), []
    for name, (pixels, labels) in scenes.items():
        keys = sha256_json([name, "image"]), sha256_json([name, "labels"])
        for key, array in zip(keys, (pixels, labels), strict=True):
            cache.path(key).parent.mkdir(parents=True, exist_ok=True)
            np.save(cache.path(key), array)
        counts = np.bincount(labels.ravel(), minlength=256)
        hashes = sha256_array(pixels), sha256_array(labels)
        height, width = labels.shape
        records.append(
            SceneRecord(
                name,
                f"{name}.tif",
                f"{name}_labels.tif",
                height,
                width,
                name,
                *hashes,
                *keys,
                tuple(counts[:n_classes].tolist()),
                int(counts[IGNORE]),
            )
        )
    names = list(scenes)
    val, test = val or (names[-1],), test or (names[-2],)
    train = tuple(name for name in names if name not in (*val, *test))
    stacked = np.concatenate([scenes[name][0].reshape(-1, scenes[name][0].shape[2]) for name in train])
    return Dataset(
        folder=folder,
        data=folder,
        cache=folder / "cache",
        layout="geotiff",
        legend=default_legend(n_classes),
        bands=stacked.shape[1],
        dtype=str(stacked.dtype),
        gsd_m=None,
        scenes=tuple(records),
        split=Split(train, val, test, "lists"),
        groups_from="scenes",
        mean=tuple(stacked.mean(0).tolist()),
        std=tuple((stacked.std(0) + 1e-3).tolist()),
    )
