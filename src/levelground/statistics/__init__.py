"""Statistics on confusion counts: intervals, tests and verdicts for runs and for architectures, without torch.

The functions here take arrays, so counts of any origin will do: ``counts[run, scene, true, pred]`` in pixels, the group
of each scene (scenes of one place; the resampling unit), a metric, and which classes count. The metric is a named one
(:func:`levelground.metrics.parse_metric`) or any function from ``(..., K, K)`` counts to ``(...)`` scores.

Example:
    Two runs, four scenes of two classes, each scene a group of its own.

    >>> import numpy as np
    >>> from levelground.metrics import parse_metric
    >>> counts = np.array([
    ...     [[[80, 20], [10, 90]], [[70, 30], [20, 80]], [[90, 10], [10, 90]], [[60, 40], [30, 70]]],
    ...     [[[90, 10], [5, 95]], [[85, 15], [10, 90]], [[95, 5], [5, 95]], [[80, 20], [15, 85]]],
    ... ])
    >>> groups, counted = ["north", "south", "east", "west"], np.array([True, True])
    >>> miou = parse_metric("official.miou", ["field", "forest"], counted)
    >>> [round(run.value, 3) for run in run_intervals(counts, groups, miou, counted)]
    [0.649, 0.808]
    >>> pair, = compare_pairs(counts, groups, miou, counted, delta=0.01)
    >>> round(pair.delta, 3), pair.p, pair.verdict.word  # four groups: p cannot be below 2/2⁴
    (-0.159, 0.125, 'undecided')

    The same runs as seeds of two architectures, and the question how many groups would decide:

    >>> def accuracy(counts):
    ...     return np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))
    >>> [round(one.value, 3) for one in architecture_scores(counts, groups, ["unet", "fpn"], accuracy, counted)]
    [0.787, 0.894]
    >>> power(Design(v_groups=0.02**2, n_groups=4), delta=0.05).groups_needed
    8
"""

from levelground.statistics.architectures import (
    ArchitecturePair,
    ArchitectureScore,
    architecture_scores,
    compare_architectures,
)
from levelground.statistics.families import (
    Calibration,
    CalibrationError,
    MetricRanking,
    ReliabilityBin,
    calibration_error,
    rank_under_metrics,
)
from levelground.statistics.intervals import (
    effective_df,
    jackknife,
    jackknife_se,
    t_interval,
)
from levelground.statistics.pairs import (
    Estimate,
    PairEstimate,
    Verdict,
    all_pairs,
    compare_pairs,
    decide,
    differences,
    run_intervals,
)
from levelground.statistics.power_analysis import Design, Power, equal_margin, power
from levelground.statistics.significance import detectable_difference, holm, smallest_p

__all__ = [
    "ArchitecturePair",
    "ArchitectureScore",
    "Calibration",
    "CalibrationError",
    "Design",
    "Estimate",
    "MetricRanking",
    "PairEstimate",
    "Power",
    "ReliabilityBin",
    "Verdict",
    "all_pairs",
    "architecture_scores",
    "calibration_error",
    "compare_architectures",
    "compare_pairs",
    "decide",
    "detectable_difference",
    "differences",
    "effective_df",
    "equal_margin",
    "holm",
    "jackknife",
    "jackknife_se",
    "power",
    "rank_under_metrics",
    "run_intervals",
    "smallest_p",
    "t_interval",
]
