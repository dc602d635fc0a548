"""How fast `prepare` is on GeoTIFF pairs, against another version of levelground.

Run from the project's root: ``python benchmarks/prepare.py --old SRC [--quick]``, where ``SRC`` is the ``src`` of a
checkout of another version, such as ``git worktree add /tmp/old v0.1.0``. Both prepare the same generated pairs into an
empty cache, in turns, in processes of their own whose libraries are loaded first; the median of each is compared.
Target: no slower than 0.95 times the old speed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio

TARGET = 0.95
PAIRS, SIDE = 6, 256

WORKER = """
import contextlib, os, shutil, sys, time
from levelground.cli import main
data, work = sys.argv[1:]
for line in sys.stdin:
    shutil.rmtree(work, ignore_errors=True)
    start = time.perf_counter()
    with open(os.devnull, "w") as null, contextlib.redirect_stderr(null), contextlib.redirect_stdout(null):
        main(["prepare", "--data", data, "--out", work + "/study", "--cache", work + "/cache"])
    print(time.perf_counter() - start, flush=True)
"""


def write_pairs(folder: Path) -> None:
    """Write GeoTIFF pairs of noise with labels of four classes."""
    rng = np.random.default_rng(0)
    for number in range(PAIRS):
        place = rasterio.Affine(10, 0, 400_000 + 40_000 * number, 0, -10, 6_200_000)
        for name, bands in (("images", 3), ("labels", 1)):
            path = folder / name / f"{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = {"height": SIDE, "width": SIDE, "count": bands, "dtype": "uint8"}
            with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32637", transform=place, **size) as raster:
                raster.write(rng.integers(1, 255 if bands == 3 else 4, (bands, SIDE, SIDE)).astype(np.uint8))


def main() -> int:
    """Print both times and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", type=Path, help="src folder of the other version")
    parser.add_argument("--quick", action="store_true", help="five rounds in place of 15")
    options = parser.parse_args()
    if options.old is None:
        print("skipped: --old names no other version")
        return 0
    sources = {"old": options.old.resolve(), "new": Path(__file__).resolve().parent.parent / "src"}
    times: dict[str, list[float]] = {name: [] for name in sources}
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder) / "data")
        workers = {
            name: subprocess.Popen(
                [sys.executable, "-c", WORKER, f"{folder}/data", f"{folder}/{name}"],
                env=os.environ | {"PYTHONPATH": str(source)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name, source in sources.items()
        }
        for _ in range(6 if options.quick else 16):
            for name, worker in workers.items():
                assert worker.stdin
                assert worker.stdout
                worker.stdin.write("go\n")
                worker.stdin.flush()
                times[name].append(float(worker.stdout.readline()))
        for worker in workers.values():
            worker.communicate()
    median = {name: float(np.median(values[1:])) for name, values in times.items()}  # the first loads libraries
    ratio = median["old"] / median["new"]
    print(f"{PAIRS} GeoTIFF pairs of {SIDE} px, old  {median['old'] * 1e3:8.1f} ms")
    print(f"{PAIRS} GeoTIFF pairs of {SIDE} px, new  {median['new'] * 1e3:8.1f} ms")
    print(f"speed, times the old            {ratio:8.2f}    target >= {TARGET}")
    print("holds" if ratio >= TARGET else "FALLS SHORT")
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
