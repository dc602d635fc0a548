"""How fast a real pair becomes pixels and labels, against the origin study's way of loading.

Run from the project's root: ``python benchmarks/loading.py [--quick]``. Needs real DeepGlobe scenes in
``$LEVELGROUND_DATA/deepglobe``. The origin's way is PIL for both files and seven times ``(mask == rgb).all(-1)``. One
thread; both ways take turns and the median of each is compared. Targets: first decode >= 12 x faster; a random crop of
512 x 512 with labels from the cache >= 500 x faster than the origin's loading.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from levelground.imagery.cache import Cache
from levelground.imagery.data_folder import find_scenes
from levelground.imagery.legend import DEEPGLOBE, LabelMap
from levelground.imagery.scene_pixels import SceneFile, read_scene

DECODE_TARGET, CROP_TARGET = 12.0, 500.0
CROP_PX = 512
CROPS = 200


def load_as_origin(scene: SceneFile) -> tuple[NDArray[np.uint8], LabelMap]:
    """Load a pair as the origin study does."""
    assert scene.labels
    image = np.array(Image.open(scene.image))
    mask = np.array(Image.open(scene.labels).convert("RGB"))
    labels = np.zeros(mask.shape[:2], np.uint8)
    for entry in DEEPGLOBE.classes:
        labels[(mask == np.array(entry.colour)).all(-1)] = entry.index
    return image, labels


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def crop_seconds(cache: Cache, image_key: str, labels_key: str | None, rng: np.random.Generator) -> float:
    """Time the opening of a scene and one crop of it, copied out of the memory maps."""

    def crop() -> None:
        scene = cache.open(image_key, labels_key)
        assert scene.labels is not None
        row, col = (int(rng.integers(0, side - CROP_PX + 1)) for side in scene.labels.shape)
        window = slice(row, row + CROP_PX), slice(col, col + CROP_PX)
        np.array(scene.pixels[window])
        np.array(scene.labels[window])

    return seconds(crop)


def main() -> int:
    """Print the figures and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three rounds in place of ten")
    rounds = 3 if parser.parse_args().quick else 10
    data = Path(os.environ.get("LEVELGROUND_DATA", "")) / "deepglobe"
    if not os.environ.get("LEVELGROUND_DATA") or not data.is_dir():
        print("skipped: LEVELGROUND_DATA names no folder with deepglobe/")
        return 0
    cv2.setNumThreads(1)
    scenes = find_scenes(data).scenes
    read_scene(scenes[0], DEEPGLOBE)  # libraries are loaded and the table of colours is filled once a process
    times: dict[str, list[float]] = {"origin": [], "decode": [], "crop": [], "store": [], "again": []}
    rng = np.random.default_rng(0)
    alike = True
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        for number in range(rounds):
            scene = scenes[number % len(scenes)]
            times["origin"].append(seconds(lambda scene=scene: load_as_origin(scene)))
            times["decode"].append(seconds(lambda scene=scene: read_scene(scene, DEEPGLOBE)))
            times["store"].append(seconds(lambda scene=scene: cache.store(scene, DEEPGLOBE)))
            times["again"].append(seconds(lambda scene=scene: cache.store(scene, DEEPGLOBE)))
            entry = cache.store(scene, DEEPGLOBE)
            times["crop"] += [crop_seconds(cache, entry.image_key, entry.labels_key, rng) for _ in range(CROPS)]
            alike &= np.array_equal(load_as_origin(scene)[1], read_scene(scene, DEEPGLOBE).labels)
    median = {name: float(np.median(values)) for name, values in times.items()}
    decode, crop = median["origin"] / median["decode"], median["origin"] / median["crop"]
    print(f"origin's loading of a pair           {median['origin'] * 1e3:8.1f} ms")
    print(f"first decode of a pair               {median['decode'] * 1e3:8.1f} ms")
    print(f"decode, hash and write to the cache  {median['store'] * 1e3:8.1f} ms (the disk's share varies)")
    print(f"found in the cache                   {median['again'] * 1e3:8.1f} ms")
    print(f"random crop with labels, {CROP_PX} px      {median['crop'] * 1e3:8.2f} ms")
    print(f"labels equal the origin's            {str(alike).lower():>8}    target true")
    print(f"first decode, times faster           {decode:8.1f}    target >= {DECODE_TARGET:g}")
    print(f"random crop, times faster            {crop:8.0f}    target >= {CROP_TARGET:g}")
    held = alike and decode >= DECODE_TARGET and crop >= CROP_TARGET
    print("holds" if held else "FALLS SHORT")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
