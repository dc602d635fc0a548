"""How long a generated scene takes on one thread.

Run from the project's root: ``python benchmarks/synthetic.py [--quick]``. Prints seconds for a scene of 512, 1024 and
2448 pixels a side, medians over scenes of unlike kinds. Target: 1024 pixels in under 2 s.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import platform
import statistics
import sys
import time

import cv2

from levelground.synthetic import generate_scene

TARGET_S = 2.0


def seconds(size: int, scenes: int) -> float:
    """Median seconds of one scene."""
    times = []
    for index in range(scenes):
        start = time.perf_counter()
        generate_scene(0, index, size)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three scenes of 1024 pixels only")
    flags = parser.parse_args()
    cv2.setNumThreads(1)
    generate_scene(0, 0, 128)
    print(f"hardware: {platform.machine()}, one thread")
    measured = seconds(1024, 3 if flags.quick else 12)
    print(f"1024 x 1024: {measured:.2f} s a scene (target {TARGET_S:.0f})")
    if not flags.quick:
        print(f"512 x 512: {seconds(512, 12):.2f} s a scene (no target)")
        print(f"2448 x 2448: {seconds(2448, 2):.2f} s a scene (no target)")
    met = measured < TARGET_S
    print("verdict:", "met" if met else "short")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
