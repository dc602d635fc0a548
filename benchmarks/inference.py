"""How much of the bare forward pass a whole scene keeps: reading, normalising, blending and reducing included.

Run from the project's root: ``python benchmarks/inference.py [--quick] [--archs unet fpn pspnet]``.

For each architecture: the network alone, on a batch of normalised tiles that stays on the device, against
:func:`levelground.inference.sliding_window.sliding_window_inference` with
:func:`levelground.evaluation.score_scenes.postprocess_scene` on a scene in a
memory map (target: .90 of the network's speed for U-Net and FPN; PSPNet, three times as fast, is printed without a
target). The two take turns in one process and the fastest turn of each counts: other work on the machine only ever
slows. Beside it the scene's own megapixels a second, without the overlap.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from torch import nn

from levelground import Model
from levelground.evaluation.score_scenes import postprocess_scene
from levelground.inference.sliding_window import sliding_window_inference
from levelground.inference.tensors import Normaliser
from levelground.models.spec import numbered_spec
from levelground.runtime import Runtime, make_runtime
from levelground.tile_geometry import TileGeometry, cut, windows

TARGET, JUDGED = 0.90, ("unet", "fpn")
MEAN, STD, OUTPUTS = (100.0, 100.0, 100.0), (50.0, 50.0, 50.0), (0, 1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Setting:
    """A scene's side, the tiles it is cut into, and the turns taken; in pixels."""

    side: int
    geometry: TileGeometry
    rounds: int


def synchronise(runtime: Runtime) -> None:
    """Wait for the device."""
    if runtime.device.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], None], runtime: Runtime) -> float:
    """How long a piece of work takes."""
    synchronise(runtime)
    started = time.perf_counter()
    work()
    synchronise(runtime)
    return time.perf_counter() - started


def measure(network: nn.Module, pixels: NDArray[np.uint8], setting: Setting, runtime: Runtime) -> tuple[float, float]:
    """Seconds of the fastest scene, and the fastest bare pass over all tiles as a share of it; they take turns."""
    geometry, batch = setting.geometry, setting.geometry.batch
    n_tiles = len(windows(setting.side, setting.side, geometry))
    stored = torch.from_numpy(np.asarray(cut(np.asarray(pixels), geometry))[:batch])
    model = Model(numbered_spec("network", "none", n_outputs=len(OUTPUTS), mean=MEAN, std=STD), network)
    resident = Normaliser(MEAN, STD, runtime.device)(stored.to(runtime.device))
    labels = np.random.default_rng(0).integers(0, 6, pixels.shape[:2]).astype(np.uint8)

    @torch.inference_mode()
    def bare() -> None:
        for first in range(0, n_tiles, batch):
            with runtime.autocast():
                network(resident[: min(batch, n_tiles - first)])

    def scene() -> None:
        blocks = sliding_window_inference(model, pixels, geometry, runtime)
        postprocess_scene(blocks, labels, outputs=OUTPUTS, counted=np.ones(6, np.bool_), device=runtime.device)

    bare()
    scene()
    turns = [(seconds(bare, runtime), seconds(scene, runtime)) for _ in range(setting.rounds)]
    fastest = min(whole for _, whole in turns)
    return fastest, min(alone for alone, _ in turns) / fastest


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller scene, fewer turns")
    parser.add_argument("--archs", nargs="+", default=["unet", "fpn", "pspnet"])
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--batch", type=int, default=0, help="tiles at a time; 0 takes 3 on a CPU, 12 elsewhere")
    flags = parser.parse_args()
    runtime = make_runtime()
    if runtime.device.type == "cpu":
        side, rounds, batch = (896, 5, 2) if flags.quick else (1280, 7, 3)
    else:
        side, rounds, batch = (2432, 5, 12) if flags.quick else (4736, 15, 12)
    setting = Setting(side, TileGeometry(512, 64, flags.batch or batch), rounds)
    n_tiles = len(windows(side, side, setting.geometry))
    swept = n_tiles * setting.geometry.tile**2 / 1e6
    print(f"hardware: {runtime.describe()['hardware']}, {runtime.precision}, {flags.encoder}")
    print(f"scene {side}x{side} in {n_tiles} tiles of 512, halo 64, {setting.geometry.batch} at a time")
    met = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.npy"
        np.save(path, np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
        pixels = np.load(path, mmap_mode="r")
        for arch in flags.archs:
            torch.manual_seed(0)
            model = smp.create_model(arch, encoder_name=flags.encoder, encoder_weights=None, classes=len(OUTPUTS))
            scene_s, share = measure(runtime.place(model.eval()), pixels, setting, runtime)
            judged = arch in JUDGED
            met &= not judged or share >= TARGET
            rate = f"{side * side / 1e6 / scene_s:.2f} Mpx/s of scene, {swept / scene_s:.2f} Mpx/s of tiles"
            print(
                f"{arch}: {rate}, {share:.3f} of the bare forward ({f'target {TARGET:.2f}' if judged else 'no target'})"
            )
    print("verdict:", "met" if met else "short")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
