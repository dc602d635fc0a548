"""Counts of runs on the same scenes, and the slow definition of scores, for several test files."""

import numpy as np
from numpy.typing import NDArray

COUNTED = np.array([True, True, True, False])
NAMES = ("Urban", "Forest", "Water", "Unknown")


def made_up_counts(n_runs: int, n_scenes: int, *, seed: int = 0) -> NDArray[np.int64]:
    """``(R, S, 4, 4)`` with one truth for all runs; some classes are absent from some scenes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(100, 10_000, (n_scenes, 4)) * (rng.random((n_scenes, 4)) < 0.7)
    counts = np.zeros((n_runs, n_scenes, 4, 4), np.int64)
    for run in range(n_runs):
        for scene in range(n_scenes):
            for k in range(4):
                shares = rng.dirichlet(np.ones(4)) + 2 * (np.arange(4) == k)
                counts[run, scene, k] = rng.multinomial(truth[scene, k], shares / shares.sum())
    return counts


def slow_miou(counts: NDArray[np.int64]) -> float:
    """Official mIoU of one ``(4, 4)`` matrix in plain loops."""
    scores = []
    for k in range(3):
        true = sum(int(counts[k, j]) for j in range(4))
        pred = sum(int(counts[i, k]) for i in range(3))
        if true > 0:
            scores.append(int(counts[k, k]) / (true + pred - int(counts[k, k])))
    return sum(scores) / len(scores) if scores else float("nan")
