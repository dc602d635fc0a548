"""How long a generated scene takes on one thread.

Run from the project's root: ``python benchmarks/synthetic.py [--quick]``. Prints seconds for a scene of 512, 1024 and
2448 pixels a side, medians over scenes of unlike kinds: of the processor, and by the clock, which is more where other
programs run. Target: 1024 pixels in under 2 s of the processor.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import platform
import statistics
import sys
import time

import cv2

from levelground.synthetic.scenes import generate_scene

TARGET_S = 2.0


def seconds(size: int, scenes: int) -> tuple[float, float]:
    """Median seconds of one scene: of the processor, and by the clock."""
    busy, clock = [], []
    for index in range(scenes):
        start = time.process_time(), time.perf_counter()
        generate_scene(0, index, size)
        busy.append(time.process_time() - start[0])
        clock.append(time.perf_counter() - start[1])
    return statistics.median(busy), statistics.median(clock)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three scenes of 1024 pixels only")
    flags = parser.parse_args()
    cv2.setNumThreads(1)
    generate_scene(0, 0, 128)
    print(f"hardware: {platform.machine()}, one thread")
    sizes = {1024: 3} if flags.quick else {1024: 12, 512: 12, 2448: 2}
    measured = {size: seconds(size, scenes) for size, scenes in sizes.items()}
    for size, (busy, clock) in measured.items():
        target = f"target {TARGET_S:.0f}" if size == 1024 else "no target"
        print(f"{size} x {size}: {busy:.2f} s a scene ({target}), {clock:.2f} s by the clock")
    met = measured[1024][0] < TARGET_S
    print("verdict:", "met" if met else "short")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
