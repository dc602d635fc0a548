"""Bootstrap intervals, for ``benchmarks/coverage.py``: what was tried beside the jackknife and covers worse.

Letters: B resamples, P estimates treated at once, G groups; θ the estimate, θ_(g) the estimate without group g, θ_(·)
the mean of these.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Scores = NDArray[np.float64]
LEVEL = 0.95


def percentile_interval(resampled: Scores, *, level: float = LEVEL) -> Scores:
    """Compute the percentile interval: the middle share of the resampled estimates.

    Args:
        resampled: Estimates in each resample, ``(P, B)``; NaN where one does not exist.
        level: Nominal coverage.
    Returns:
        Low and high ends, ``(P, 2)``.
    Source: Efron & Tibshirani 1993, section 13.3.
    """
    tails = np.array([(1 - level) / 2, 1 - (1 - level) / 2])
    return _quantiles(np.sort(resampled, axis=-1), np.broadcast_to(tails, (len(resampled), 2)))


def bca_interval(resampled: Scores, estimate: Scores, left_out: Scores, *, level: float = LEVEL) -> Scores:
    """Compute the bias-corrected and accelerated bootstrap interval.

    With z0 = Φ⁻¹(share of resamples below θ, ties by half) and a = Σd³ / (6 (Σd²)^1.5) for d_g = θ_(·) - θ_(g), an end
    is the quantile Φ(z0 + (z0 + z)/(1 - a (z0 + z))) of the resampled estimates, z = Φ⁻¹ of the tail's share.

    Args:
        resampled: Estimates in each resample, ``(P, B)``.
        estimate: θ, ``(P,)``.
        left_out: θ_(g), ``(P, G)``.
        level: Nominal coverage.
    Returns:
        Low and high ends, ``(P, 2)``; NaN where they do not exist, such as where all resamples lie on one side.
    Source: Efron & Tibshirani 1993, eq. 14.9 to 14.15, as ``scipy.stats.bootstrap`` computes it.
    """
    below, ties = (resampled < estimate[:, None]).sum(-1), (resampled == estimate[:, None]).sum(-1)
    size = np.maximum(1, (~np.isnan(resampled)).sum(axis=-1))
    centred = left_out.mean(axis=-1, keepdims=True) - left_out
    tails = np.array([(1 - level) / 2, 1 - (1 - level) / 2])
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = ndtri((below + ties / 2) / size)[:, None]
        acceleration = ((centred**3).sum(axis=-1) / (6 * (centred**2).sum(axis=-1) ** 1.5))[:, None]
        reach = bias + ndtri(tails)
        levels = ndtr(bias + reach / (1 - acceleration * reach))
    constant = np.ptp(resampled, axis=-1) == 0
    ends = _quantiles(np.sort(resampled, axis=-1), levels)
    return np.where(constant[:, None], estimate[:, None], ends)


def _quantiles(ordered: Scores, levels: Scores) -> Scores:
    """Compute quantiles of each row ``(P, B)``, NaN last, at its own levels ``(P, Q)``, linear between the values."""
    size = (~np.isnan(ordered)).sum(axis=-1, keepdims=True)
    rows = np.arange(len(ordered))[:, None]
    known = ~np.isnan(levels) & (size > 0)
    place = np.where(known, levels, 0.0) * np.maximum(size - 1, 0)
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, np.maximum(size - 1, 0))
    share = place - low
    return np.where(known, ordered[rows, low] * (1 - share) + ordered[rows, high] * share, np.nan)
