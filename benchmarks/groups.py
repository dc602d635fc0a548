"""How long ``prepare`` takes on the 803 scenes of DeepGlobe, pixel groups included, and what it finds.

Run from the project's root: ``python benchmarks/groups.py [--quick]``. Per scene: everything that ``prepare`` does with
a scene of 2448 × 2448 for the first time (hash, decode, cache, fingerprints), on two threads, with the real pairs of
``$LEVELGROUND_DATA/deepglobe`` where there are some, else with generated ones. All pairs: the search for touching,
overlapping and repeated scenes among 803 random fingerprints, which costs the same as among real ones. Both add up to
the time for 803 scenes. Targets: under 600 s on two cores, and on the ten real pairs one found, 482365 | 180902.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np

from levelground.datasets.fingerprints import THUMB, Fingerprint
from levelground.datasets.groups import pixel_links
from levelground.datasets.prepare import decode_all
from levelground.imagery.cache import Cache
from levelground.imagery.data_folder import find_scenes
from levelground.synthetic.scenes import write_scenes

SCENES, SIDE, TARGET_S = 803, 2448, 600.0


def random_fingerprints(n: int) -> dict[str, Fingerprint]:
    """Fingerprint of the size of real ones, of scenes that have nothing in common."""
    rng = np.random.default_rng(0)

    def values(*shape: int) -> np.ndarray:
        return rng.normal(100, 30, shape).astype(np.float32)

    sums = np.ones(3, np.int64), np.ones(3), np.ones(3), np.zeros(0), np.zeros((), np.int64)
    no_lines = np.zeros((2, 0, 2, SIDE, 3), np.uint8)
    return {
        str(k): Fingerprint(
            values(2, 3, SIDE), values(2, 3, SIDE), values(THUMB, THUMB).astype(np.int8), *sums, *no_lines
        )
        for k in range(n)
    }


def main() -> int:
    """Print the figures and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="400 scenes in all pairs in place of 803")
    n_pairs = 400 if parser.parse_args().quick else SCENES
    real = Path(os.environ.get("LEVELGROUND_DATA", "/nowhere")) / "deepglobe"
    found_right = True
    with tempfile.TemporaryDirectory() as folder:
        data = real
        if not real.is_dir():
            data = Path(folder) / "data"
            write_scenes(data, n=2, size=SIDE, seed=0)
        start = time.perf_counter()
        decoded, _ = decode_all(find_scenes(data), Cache(Path(folder) / "cache"), 0)
        per_scene = (time.perf_counter() - start) / len(decoded)
        if data == real:
            links = [link.text for link in pixel_links({one.scene.id: one.fingerprint for one in decoded})]
            found_right = len(links) == 1 and links[0].startswith("482365 lies left of 180902")
            print(f"pairs found among the ten real scenes: {'; '.join(links)}   target 482365 | 180902 alone")
    fingerprints = random_fingerprints(n_pairs)
    start = time.perf_counter()
    links_found = len(pixel_links(fingerprints))
    all_pairs = (time.perf_counter() - start) * (SCENES / n_pairs) ** 2
    total = SCENES * per_scene + all_pairs
    print(f"per scene, first time (hash, decode, cache, fingerprints): {1000 * per_scene:.0f} ms on two threads")
    print(f"all pairs of {SCENES} scenes: {all_pairs:.1f} s (measured at {n_pairs}); {links_found} found at random")
    print(f"{SCENES} scenes of {SIDE} x {SIDE}: {total:.0f} s   target < {TARGET_S:.0f} s")
    ok = total < TARGET_S and found_right and links_found == 0
    print("ok" if ok else "FALLS SHORT")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
