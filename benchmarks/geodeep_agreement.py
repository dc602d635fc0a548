"""Does the exported ONNX file run unchanged in geodeep, and does geodeep say what the run's network says?

geodeep is AGPL: it is installed in an environment of its own, run as a program of its own, and nothing of it stands in
this project. It always puts a 5 x 5 median over its classes; so do we here, over ours, before the two are compared.
On single tiles both see the same pixels and must agree; over a raster each has its own overlaps, so agreement is
printed and not required.

Run from the project's root: ``python benchmarks/geodeep_agreement.py [--quick] [--run RUN] [--geodeep-python PYTHON]``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.transform import from_origin
from scipy.ndimage import median_filter

from levelground import Model
from levelground.cli import main as levelground
from levelground.inference.tensors import Normaliser
from levelground.models.loading import open_model
from levelground.runtime import Runtime, make_runtime
from levelground.synthetic.scenes import generate_scene, write_scenes

TARGET = 0.995
GSD_M = 0.5
SEED = 77  # of the scenes compared; the run learns from others

WORKER = """
import json, logging, sys, time
import numpy as np
import geodeep, geodeep.utils
logging.disable(logging.WARNING)
model, threads, *rasters = sys.argv[1:]
found = []
for raster in rasters:
    started = time.perf_counter()
    classes = geodeep.segment(raster, model, max_threads=int(threads))
    found.append(time.perf_counter() - started)
    np.save(raster + ".geodeep.npy", classes)
print(json.dumps({"seconds": found, "median": geodeep.utils.median_filter.__module__}))
"""


@dataclass(frozen=True)
class Said:
    """What geodeep said of some rasters."""

    classes: list[NDArray[np.uint8]]
    seconds: list[float]
    edges: str
    """How its median continues the border, in scipy's words."""


def make_environment(folder: Path) -> Path:
    """An environment with geodeep and nothing of ours; gives its interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "geodeep"]
        subprocess.run(install, check=True)
    return python


def run_geodeep(python: Path, model: Path, rasters: list[Path], *, threads: int) -> Said:
    """Run geodeep over rasters in its own process."""
    command = [str(python), "-c", WORKER, str(model), str(threads), *map(str, rasters)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(done.stdout.strip().splitlines()[-1])
    classes = [np.load(f"{raster}.geodeep.npy") for raster in rasters]
    # Without scipy geodeep has a median of its own, which repeats the border pixel.
    return Said(classes, said["seconds"], "reflect" if said["median"].startswith("scipy") else "nearest")


def write_raster(path: Path, image: NDArray[np.uint8]) -> Path:
    """A georeferenced RGB raster at the run's ground sample distance."""
    height, width = image.shape[:2]
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8", "tiled": True}
    place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, GSD_M, GSD_M), "photometric": "RGB"}
    with rasterio.open(path, "w", **profile, **place) as file:
        file.write(image.transpose(2, 0, 1))
    return path


@torch.inference_mode()
def classes_of(by: Model, image: NDArray[np.uint8], runtime: Runtime) -> NDArray[np.uint8]:
    """The most probable output at each pixel of one tile."""
    normalised = Normaliser(by.spec.mean, by.spec.std, runtime.device)(torch.from_numpy(image[None]))
    return by.forward(normalised)[0].argmax(0).numpy().astype(np.uint8)


def train_run(folder: Path, *, tile: int, steps: int) -> Path:
    """A run trained by the commands on generated scenes."""
    write_scenes(folder / "scenes", n=12, size=2 * tile, seed=0)
    study = folder / "study"
    commands = [
        ["prepare", "--data", str(folder / "scenes"), "--out", str(study), "--cache", str(folder / "cache")],
        ["train", str(study), "--arch", "unet", "--steps", str(steps), "--tile", str(tile), "--batch", "4"],
    ]
    for arguments in commands:
        if levelground(arguments):
            sys.exit(f"levelground {' '.join(arguments)} failed")
    return next((study / "runs").iterdir())


def main() -> int:
    """Train or take a run, export it, compare, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a shorter training, fewer tiles")
    parser.add_argument("--run", type=Path, help="a run to take, in place of training one; it gets an export/")
    parser.add_argument("--geodeep-python", type=Path, help="an interpreter that has geodeep; none makes one")
    flags = parser.parse_args()
    tile, steps, n = (256, 8, 4) if flags.quick else (256, 60, 16)
    runtime = make_runtime("cpu", "fp32")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        python = flags.geodeep_python or make_environment(folder / "geodeep")
        run = flags.run or train_run(folder, tile=tile, steps=steps)
        if levelground(["export", str(run), "--gsd", str(GSD_M), "--overwrite"]):
            return 1
        model, ours = run / "export" / "model.onnx", open_model(run, runtime)
        exported = open_model(model, runtime)
        images = [generate_scene(SEED, index, exported.spec.geometry.tile)[0] for index in range(n)]
        tiles = [write_raster(folder / f"tile{index}.tif", image) for index, image in enumerate(images)]
        raster = write_raster(folder / "raster.tif", generate_scene(SEED, n, 5 * exported.spec.geometry.tile // 2)[0])
        said = run_geodeep(python, model, [*tiles, raster], threads=runtime.threads)
        shares = []
        for image, theirs in zip(images, said.classes, strict=False):
            filtered = median_filter(classes_of(ours, image, runtime), 5, mode=said.edges)
            shares.append(float((filtered == theirs).mean()))
        if levelground(["predict", str(run), str(raster), "--out", str(folder / "maps"), "--precision", "fp32"]):
            return 1
        with rasterio.open(folder / "maps" / "raster.tif") as file:
            channel = np.full(256, 255, np.uint8)
            channel[list(ours.spec.outputs)] = np.arange(len(ours.spec.outputs))
            predicted = median_filter(channel[file.read(1)], 5, mode=said.edges)
    side = exported.spec.geometry.tile
    print(f"{run.name}: {n} single tiles of {side} px, 5 x 5 median over both ({said.edges} at the border)")
    print(f"agreement on single tiles, lowest: {min(shares):.5f} (target {TARGET})")
    print(f"agreement on single tiles, mean: {sum(shares) / n:.5f} (target {TARGET})")
    side = predicted.shape[0]
    print(f"agreement over a raster of {side} x {side} px: {(predicted == said.classes[-1]).mean():.5f} (no target)")
    print(f"classes on the raster: {len(np.unique(predicted))} ours, {len(np.unique(said.classes[-1]))} geodeep's")
    met = min(shares) >= TARGET
    print("verdict:", "met" if met else "short")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
