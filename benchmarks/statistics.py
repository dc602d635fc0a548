"""How fast all pairs of twenty runs are compared: intervals, bootstraps and swap tests together.

Run from the project's root: ``python benchmarks/statistics.py [--quick] [--metric official.kappa]``. Prints one figure
a line with its target, the verdict last; exits 1 where one falls short.
"""

import sys

if __name__ == "statistics":
    # Beside other scripts this file would shadow the standard library's module of that name: hand over to it.
    import importlib.util
    import sysconfig
    from pathlib import Path

    _spec = importlib.util.spec_from_file_location("statistics", Path(sysconfig.get_path("stdlib")) / "statistics.py")
    sys.modules["statistics"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["statistics"])
else:
    import argparse
    import resource
    import time

    import numpy as np
    from numpy.typing import NDArray

    from levelground.metrics import parse_metric
    from levelground.statistics import all_pairs, compare_pairs

RUNS, SCENES, CLASSES, RESAMPLES = 20, 142, 7, 10_000


def made_up_counts() -> "NDArray[np.int64]":
    """Runs × scenes × classes × classes with one truth for all runs."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 1_000_000, (SCENES, CLASSES)) * (rng.random((SCENES, CLASSES)) < 0.6)
    shares = rng.dirichlet(np.ones(CLASSES), (RUNS, SCENES, CLASSES)) + 2 * np.eye(CLASSES)
    counts = (truth[..., None] * shares / shares.sum(axis=-1, keepdims=True)).astype(np.int64)
    counts[..., 0] += truth - counts.sum(axis=-1)
    return counts


def loop_s(counts: "NDArray[np.int64]", n: int) -> float:
    """Seconds that the usual loop takes for one pair and ``n`` resamples: matrices are summed anew for each."""
    rng = np.random.default_rng(0)
    one, other = counts[0], counts[1]
    start = time.perf_counter()
    differences, swapped = [], []
    for _ in range(n):
        drawn = rng.integers(0, SCENES, SCENES)
        differences.append(mean_iou(one[drawn].sum(axis=0)) - mean_iou(other[drawn].sum(axis=0)))
        side = (rng.random(SCENES) < 0.5)[:, None, None]
        first, second = np.where(side, other, one), np.where(side, one, other)
        swapped.append(mean_iou(first.sum(axis=0)) - mean_iou(second.sum(axis=0)))
    np.quantile(differences, (0.025, 0.975))
    return time.perf_counter() - start


def mean_iou(counts: "NDArray[np.int64]") -> float:
    """Official mIoU, the last class not counted."""
    known = counts[:-1]
    tp = np.diagonal(known)
    return float(np.mean(tp / (known.sum(axis=1) + known.sum(axis=0)[:-1] - tp)))


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a shorter loop to compare with")
    parser.add_argument("--metric", default="official.miou", help="the metric compared")
    options = parser.parse_args()
    n = 300 if options.quick else 2000
    counts, counted = made_up_counts(), np.arange(CLASSES) < CLASSES - 1
    metric = parse_metric(options.metric, [f"class {k}" for k in range(CLASSES)], counted)
    scenes = [f"{number:03d}" for number in range(SCENES)]
    start, busy = time.perf_counter(), time.process_time()
    results = compare_pairs(counts, scenes, metric, counted, n_resamples=RESAMPLES)
    seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024) / 1024
    pairs = len(all_pairs(RUNS))
    loop = loop_s(counts, n) / n * RESAMPLES * pairs
    ok = len(results) == pairs and seconds < 5 and memory < 1 and loop / seconds >= 100
    print(f"{RUNS} runs, {SCENES} scenes, {pairs} pairs, {RESAMPLES} resamples: {seconds:.2f} s   target < 5 s")
    print(f"of the processors: {cpu:.2f} s")
    print(f"peak memory of the process: {memory:.2f} GiB   target < 1 GiB")
    print(f"a loop that sums matrices for each resample: {loop:.0f} s (one pair, {n} resamples, scaled up)")
    print(f"faster than the loop: {loop / seconds:.0f} ×   target ≥ 100 ×")
    print("holds" if ok else "FALLS SHORT")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
