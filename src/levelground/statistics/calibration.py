"""Calibration: is a model that says 80 % right 80 % of the time? With intervals over groups.

Letters: S scenes, G groups, K classes, B bins; n_b, conf_b and right_b are a bin's pixels, sum of confidences and hits.

    ECE = Σ_b |right_b - conf_b| / Σ_b n_b

The plain estimate is biased upwards: noise makes every |…| larger. The jackknife takes the first order of that bias
away (Quenouille 1956): G·ECE - (G - 1)·mean of the ECEs without one group. What is left below 0 is 0. Where a model is
calibrated to the noise, |…| has a kink, about half of the bias stays and intervals are a little narrow
(``docs/experiments.md``): these intervals describe, no verdict rests on them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ShapeError
from levelground.metrics.scores import Scores
from levelground.statistics.intervals import ends, jackknife_se, t_interval
from levelground.statistics.pairs import Ends, Groups
from levelground.statistics.resampling import group_membership


@dataclass(frozen=True)
class CalibrationError:
    """An expected calibration error.

    Attributes:
        ece: Corrected by the jackknife; the plain one with fewer than two groups; NaN without pixels.
        plain: As defined, without correction.
        se: Standard error over groups, or ``None`` with fewer than two.
        interval: 95 % interval around the corrected value, cut off at 0; ``None`` as ``se``.
    """

    ece: float
    plain: float
    se: float | None
    interval: Ends


@dataclass(frozen=True)
class ReliabilityBin:
    """One point of a reliability diagram: mean confidence, share of hits (NaN without pixels) and pixels."""

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """The calibration of one run.

    Attributes:
        overall: All pixels together.
        per_class: Pixels by predicted class; ``None`` for a class never predicted.
        bins: The reliability diagram of all pixels, from the least to the most confident bin.
    """

    overall: CalibrationError
    per_class: tuple[CalibrationError | None, ...]
    bins: tuple[ReliabilityBin, ...]


def calibration_error(
    conf_n: NDArray[np.int64], conf_sum: Scores, conf_correct: NDArray[np.int64], groups: Groups
) -> Calibration:
    """Compute expected calibration errors with intervals.

    Args:
        conf_n: Pixels by scene, predicted class and bin, ``(S, K, B)``.
        conf_sum: Sums of their confidences.
        conf_correct: Their hits.
        groups: The group of each scene, ``(S,)``.
    Returns:
        Overall, by predicted class, and the bins.
    Raises:
        ShapeError: The arrays differ in shape or in the number of scenes.
    Source: Guo et al. 2017, eq. 3 to 5.
    Example:
        >>> n, correct = np.array([[[0, 10]], [[0, 10]]]), np.array([[[0, 8]], [[0, 7]]])
        >>> found = calibration_error(n, np.array([[[0.0, 9.0]], [[0.0, 9.0]]]), correct, ["s1", "s2"])
        >>> round(found.overall.plain, 3), found.bins[1].n
        (0.15, 20)
    """
    parts = np.stack((conf_n, conf_sum, conf_correct)).astype(np.float64)
    if parts.ndim != 4 or parts.shape[1] != len(groups):
        raise ShapeError(f"confidence counts are {conf_n.shape} for {len(groups)} scenes, expected (S, K, B).")
    _, membership = group_membership(groups)
    by_class = np.moveaxis(parts, 1, -1) @ membership  # (3, K, B, G)
    pooled = by_class.sum(axis=1)
    per_class = [_estimate(by_class[:, k]) for k in range(by_class.shape[1])]
    return Calibration(
        overall=_estimate(pooled),
        per_class=tuple(None if np.isnan(found.plain) else found for found in per_class),
        bins=_bins(pooled.sum(axis=-1)),
    )


def _estimate(sums: Scores) -> CalibrationError:
    """Estimate the error of sums ``(3, B, G)``."""
    total = sums.sum(axis=-1)
    plain, n_groups = float(_ece(total)), sums.shape[-1]
    left_out = _ece(total[..., None] - sums)
    se = float(jackknife_se(left_out))
    if np.isnan(se):
        return CalibrationError(ece=plain, plain=plain, se=None, interval=None)
    corrected = n_groups * plain - (n_groups - 1) * float(left_out.mean())
    interval = ends(np.maximum(0.0, t_interval(np.array(corrected), np.array(se), n_groups - 1)))
    return CalibrationError(ece=max(0.0, corrected), plain=plain, se=se, interval=interval)


def _ece(sums: Scores) -> Scores:
    """Compute the expected calibration error of sums ``(3, B, ...)``; NaN without pixels."""
    n, confidence, correct = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.abs(correct - confidence).sum(axis=0) / n.sum(axis=0))


def _bins(sums: Scores) -> tuple[ReliabilityBin, ...]:
    """Make the reliability diagram of sums ``(3, B)``."""
    n, confidence, correct = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        means, shares = confidence / n, correct / n
    return tuple(
        ReliabilityBin(float(mean), float(share), int(size)) for mean, share, size in zip(means, shares, n, strict=True)
    )
