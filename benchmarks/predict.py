"""``predict`` on whole rasters: speed beside the bare network and other ways, memory, place on the map, resume.

Run from the project's root: ``python benchmarks/predict.py [--quick] [--folder DIR] [--no-geodeep]
[--geodeep-python PYTHON]``.

Speed: the whole of ``predict`` on a generated raster (reading, blending, areas, GeoTIFF, COG) against the same network
on the same number of tiles that stay on the device (target on a CPU: .90; U-Net with resnet18), against what one would
write in twenty lines (tiles side by side, float32, one thing after the other), and against the client ``geodeep`` on
the exported file (in an environment of its own: it is AGPL). They take turns and the fastest turn of each counts: other
work on the machine only ever slows.

Memory: peaks of child processes with a network of one multiplication, for three sizes (target: within 10 % or 64 MiB
of each other). The largest map is compared with what that network must say, pixel by pixel, and with its raster's
place, and checked by rio-cogeo. A middle one is killed half-way, and what the same command then gives is compared byte
by byte. With ``LEVELGROUND_DATA`` the place is checked on its NAIP raster too.

What a job does not need is imported where it is used, so that the child processes hold no more than ``predict`` does.
"""

import argparse
import functools
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import nn

from levelground import Legend, LegendClass, Model, ModelSpec
from levelground.config import PredictOptions
from levelground.imagery.geotiff import read_info, read_window
from levelground.inference.tensors import Normaliser
from levelground.models.loading import open_model
from levelground.models.model import Forward
from levelground.prediction.inputs import find_inputs
from levelground.prediction.predict import predict_maps
from levelground.prediction.resume import STATE_FILE
from levelground.runtime import Runtime, make_runtime
from levelground.tile_geometry import TileGeometry, plan_axis

TARGET_SHARE, TARGET_SPREAD, TARGET_MIB = 0.90, 0.10, 64.0
TILE, HALO, BASE = 512, 64, 1024
MEAN, STD = (100.0, 100.0, 100.0), (50.0, 50.0, 50.0)
LEGEND = Legend(
    "colours",
    tuple(LegendClass(n, f"band {n + 1}", (250 * (n == 0), 250 * (n == 1), 250 * (n == 2))) for n in range(3)),
)


def brightest(image: torch.Tensor) -> torch.Tensor:
    """A network that answers with a pixel's brightest band."""
    return image * 3.0


def toy_model(name: str, forward: Forward, *, encoder: str = "none") -> Model:
    """A model of three bands and three classes."""
    spec = ModelSpec(name, name, encoder, LEGEND, (0, 1, 2), MEAN, STD, "uint8", 0.5, TileGeometry(TILE, HALO))
    return Model(spec, forward, digest=hashlib.sha256(name.encode()).hexdigest())


@functools.cache
def scenes() -> list[NDArray[np.uint8]]:
    """Four generated scenes, each as it is and mirrored, from whose pixels rasters are laid out."""
    from levelground.synthetic.scenes import generate_scene

    made = [generate_scene(0, index, BASE)[0] for index in range(4)]
    return [turned for scene in made for turned in (scene, scene[::-1], scene[:, ::-1])]


def make_raster(path: Path, side: int) -> Path:
    """Write a raster of generated scenes side by side, in UTM, half a metre a pixel, row of scenes by row of scenes."""
    rng = np.random.default_rng(side)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 500000, 0, -0.5, 5600000)}
    shape = {"height": side, "width": side, "count": 3, "dtype": "uint8", "driver": "GTiff", "BIGTIFF": "IF_SAFER"}
    with rasterio.open(path, "w", tiled=True, blockxsize=512, blockysize=512, **shape, **place) as raster:
        for row in range(0, side, BASE):
            picked = rng.integers(0, len(scenes()), -(-side // BASE))
            strip = np.concatenate([scenes()[k] for k in picked], axis=1)[: side - row, :side]
            raster.write(strip.transpose(2, 0, 1), window=Window(0, row, side, len(strip)))
    return path


def seconds(work: Callable[[], object], runtime: Runtime) -> float:
    """How long a piece of work takes."""
    started = time.perf_counter()
    work()
    if runtime.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def plain_way(network: nn.Module, source: Path, target: Path, device: torch.device) -> None:
    """What one would write: tile by tile, float32, no overlap, one thing after the other."""
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
    with rasterio.open(source) as raster:
        profile = raster.profile | {"count": 1, "compress": "deflate", "nodata": 255}
        with rasterio.open(target, "w", **profile) as out, torch.inference_mode():
            for row in range(0, raster.height, TILE):
                for col in range(0, raster.width, TILE):
                    window = Window(col, row, min(TILE, raster.width - col), min(TILE, raster.height - row))
                    stored = torch.from_numpy(raster.read(window=window)).to(device).float()
                    image = nn.functional.pad(
                        (stored - mean) / std, (0, TILE - stored.shape[2], 0, TILE - stored.shape[1])
                    )
                    best = network(image[None])[0].argmax(0).to(torch.uint8).cpu().numpy()
                    out.write(best[: window.height, : window.width], 1, window=window)


def predict(model: Model, raster: Path, out: Path, options: PredictOptions, runtime: Runtime) -> None:
    """Predict one raster."""
    predict_maps(model, find_inputs([str(raster)], out, options), out, options, runtime)


def measure_speed(folder: Path, side: int, rounds: int, geodeep: Path | None) -> bool:
    """Print speeds and shares; give whether the target is met. ``geodeep`` is an interpreter that has it."""
    import segmentation_models_pytorch as smp
    from geodeep_agreement import run_geodeep

    runtime = make_runtime()
    torch.manual_seed(0)
    network = smp.create_model("unet", encoder_name="resnet18", encoder_weights=None, classes=3).eval()
    raster, exported = make_raster(folder / "speed.tif", side), export(network, folder / "unet.onnx")
    placed = runtime.place(network)
    model, external = toy_model("unet", placed), open_model(exported, runtime)
    geometry = model.choose_geometry(PredictOptions(), runtime.device.type)
    n_tiles = len(plan_axis(side, TileGeometry(TILE, HALO)).starts) ** 2
    stored = torch.from_numpy(np.stack([read_window(raster, (0, 0, TILE, TILE))] * geometry.batch))
    resident = Normaliser(MEAN, STD, runtime.device)(stored.to(runtime.device))

    @torch.inference_mode()
    def bare() -> None:
        for first in range(0, n_tiles, geometry.batch):
            with runtime.autocast():
                placed(resident[: min(geometry.batch, n_tiles - first)])

    def predict_with(by: Model) -> None:
        predict(by, raster, folder / "speed", PredictOptions(overwrite=True), runtime)

    works: dict[str, Callable[[], object]] = {
        "bare": bare,
        "predict": lambda: predict_with(model),
        "plain": lambda: plain_way(placed, raster, folder / "plain.tif", runtime.device),
        "onnx": lambda: predict_with(external),
    }
    timed: dict[str, Callable[[], float]] = {
        name: functools.partial(seconds, work, runtime) for name, work in works.items()
    }
    if geodeep is not None:  # its own clock, which leaves the start of its process out
        timed["geodeep"] = lambda: run_geodeep(geodeep, exported, [raster], threads=runtime.threads).seconds[0]
    for way in timed.values():
        way()
    turns = [{name: way() for name, way in timed.items()} for _ in range(rounds)]
    fastest = {name: min(turn[name] for turn in turns) for name in timed}
    print(f"hardware: {runtime.describe()['hardware']}, {runtime.precision}, unet resnet18, {rounds} turns")
    print(f"raster {side}x{side}: {n_tiles} tiles of {TILE}, halo {HALO}, {geometry.batch} at a time")
    return say_speed({name: side**2 / 1e6 / time_s for name, time_s in fastest.items()}, runtime)


def say_speed(rates: dict[str, float], runtime: Runtime) -> bool:
    """Print megapixels of raster a second by way; give whether the target is met."""
    judged, share = runtime.device.type == "cpu", rates["predict"] / rates["bare"]
    target = f"target {TARGET_SHARE:.2f}" if judged else "no target"
    print(f"predict: {rates['predict']:.3f} Mpx/s of raster, {share:.3f} of the bare forward pass ({target})")
    named = {
        "plain": "the plain way, fp32, tiles side by side",
        "onnx": "predict on the exported file, onnxruntime",
        "geodeep": "geodeep on the exported file",
    }
    for name, text in named.items():
        if name in rates:
            ratio = rates["predict"] / rates[name]
            print(f"{text}: {rates[name]:.3f} Mpx/s, predict has {ratio:.2f} times that (no target)")
    return not judged or share >= TARGET_SHARE


def export(network: nn.Module, path: Path) -> Path:
    """Write the network as ``export`` does."""
    from levelground.exporting.onnx import write_onnx

    write_onnx(toy_model("unet", network, encoder="resnet18"), path)
    return path


def geodeep_python(flags: argparse.Namespace, folder: Path) -> Path | None:
    """An interpreter that has geodeep, in an environment of its own; nothing where it cannot be had."""
    from geodeep_agreement import make_environment

    if flags.no_geodeep or flags.geodeep_python:
        return flags.geodeep_python
    try:
        return make_environment(folder / "geodeep")
    except subprocess.CalledProcessError:
        print("geodeep: cannot be installed here and is left out")
        return None


def child(raster: Path, out: Path) -> None:
    """Predict one raster with a network of one multiplication and print this process's peak memory."""
    runtime = make_runtime("cpu", "fp32")
    before, started = peak_mib(), time.perf_counter()
    predict(toy_model("brightest", brightest), raster, out, PredictOptions(), runtime)
    found = {"before_mib": before, "peak_mib": peak_mib(), "time_s": time.perf_counter() - started}
    print(json.dumps(found))


def peak_mib() -> float:
    """The most memory that this process has held so far.

    Linux gives a child's ``ru_maxrss`` the peak of the process that started it; there the process's own mark is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def start_child(raster: Path, out: Path) -> "subprocess.Popen[bytes]":
    """Predict a raster in a process of its own."""
    command = [sys.executable, __file__, "--child", str(raster), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def finish(process: "subprocess.Popen[bytes]") -> dict[str, float]:
    """What a child printed last."""
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a child process failed ({process.returncode}); run it by hand: {process.args}")
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def measure_memory(folder: Path, sides: tuple[int, ...]) -> bool:
    """Print the peak memory for each size, and check the largest map; give whether both hold."""
    peaks = []
    for side in sides:
        raster, out = make_raster(folder / f"{side}.tif", side), folder / f"maps-{side}"
        found = finish(start_child(raster, out))
        peaks.append(found["peak_mib"])
        rate = side**2 / 1e6 / found["time_s"]
        print(
            f"memory {side}x{side}: {found['peak_mib']:.0f} MiB, {found['before_mib']:.0f} of them before the job "
            f"(libraries); {rate:.1f} Mpx/s"
        )
        if side != sides[-1]:
            shutil.rmtree(out)
            raster.unlink()
    apart = max(peaks) - min(peaks)
    met = apart <= max(TARGET_SPREAD * min(peaks), TARGET_MIB)
    print(
        f"memory: {apart:.0f} MiB apart, {apart / min(peaks):.1%} (target at most {TARGET_SPREAD:.0%} or "
        f"{TARGET_MIB:.0f} MiB)"
    )
    exact = check_classes(raster, out / raster.name)
    shutil.rmtree(out)
    raster.unlink()
    return met and exact


def check_place(raster: Path, classes: Path) -> bool:
    """Whether a map lies on its raster pixel by pixel and is a sound COG; printed."""
    from rio_cogeo import cog_validate

    one, other = read_info(raster), read_info(classes)
    same = (one.crs, one.transform, one.height, one.width) == (other.crs, other.transform, other.height, other.width)
    valid, errors, _ = cog_validate(classes)
    print(f"place of {classes.name}: {'the same' if same else 'ANOTHER'} CRS, transform and shape (target: the same)")
    print(f"COG by rio-cogeo: {'valid' if valid else f'NOT VALID: {errors}'} (target: valid)")
    return same and valid


def check_classes(raster: Path, classes: Path, windows: int = 24, size: int = 1000) -> bool:
    """Whether a map of :func:`brightest` says what it must, across tiles; printed."""
    info, rng = read_info(raster), np.random.default_rng(0)
    wrong = 0
    for row, col in rng.integers(0, [info.height - size, info.width - size], (windows, 2), endpoint=True).tolist():
        window = (row, col, size, size)
        wrong += np.count_nonzero(read_window(classes, window)[..., 0] != read_window(raster, window).argmax(axis=-1))
    print(f"classes: {wrong} of {windows * size**2} pixels in {windows} windows are wrong (target 0)")
    return check_place(raster, classes) and wrong == 0


def measure_restart(folder: Path, side: int) -> bool:
    """Kill a job half-way, give the same command again and compare the files; printed."""
    raster = make_raster(folder / "restart.tif", side)
    finish(start_child(raster, folder / "whole"))
    rows = len(plan_axis(side, TileGeometry(TILE, HALO)).starts)
    state = folder / "killed" / f".{raster.name}.scratch" / STATE_FILE
    process, done = start_child(raster, folder / "killed"), 0
    while process.poll() is None and done < rows // 2:
        time.sleep(0.005)
        if state.exists():
            done = int(json.loads(state.read_text(encoding="utf-8"))["rows"])
    os.kill(process.pid, signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL and not (folder / "killed" / raster.name).exists()
    finish(start_child(raster, folder / "killed"))
    digests = {hashlib.sha256((folder / out / raster.name).read_bytes()).hexdigest() for out in ("whole", "killed")}
    print(
        f"restart {side}x{side}: killed after {done} of {rows} rows of tiles, then "
        f"{'the identical file' if len(digests) == 1 else 'ANOTHER FILE'} (target: identical)"
    )
    if not killed:
        print("restart: the job ended before it could be killed")
    return killed and len(digests) == 1


def check_naip(folder: Path) -> bool:
    """The place of a real raster's map, where there is one."""
    raster = Path(os.environ.get("LEVELGROUND_DATA", "/nowhere")) / "naip" / "naip_cluster1_rgbn.tif"
    if not raster.exists():
        print("NAIP: skipped, LEVELGROUND_DATA names no folder with naip/")
        return True
    model, runtime = toy_model("brightest", brightest), make_runtime("cpu", "fp32")
    predict(model, raster, folder / "naip", PredictOptions(bands=(1, 2, 3)), runtime)
    return check_place(raster, folder / "naip" / raster.name)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller rasters, fewer turns")
    parser.add_argument("--folder", type=Path, help="where rasters are written; 7 GB free, or 0.2 with --quick")
    parser.add_argument("--geodeep-python", type=Path, help="an interpreter that has geodeep; none makes one")
    parser.add_argument("--no-geodeep", action="store_true", help="leave the client geodeep out")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        child(*flags.child)
        return 0
    side, rounds = (1280, 3) if flags.quick else (2048, 5)
    # Rasters smaller than 4000 x 4000 do not fill GDAL's cache, which is bounded, so their peaks are still growing.
    sides, middle = ((4000, 6000, 8000), 4000) if flags.quick else ((8000, 16000, 32000), 16000)
    with tempfile.TemporaryDirectory(dir=flags.folder) as name:
        folder = Path(name)
        met = [
            measure_memory(folder, sides),
            measure_restart(folder, middle),
            check_naip(folder),
            measure_speed(folder, side, rounds, geodeep_python(flags, folder)),
        ]
    print("verdict:", "met" if all(met) else "short")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
