"""Intervals: delete-one-group jackknife with Student's t, and two bootstraps beside it.

Letters: G groups, B resamples, P estimates treated at once; θ the estimate, θ_(g) the estimate without group g, θ_(·)
their mean.

The jackknife interval decides. A simulation (``benchmarks/coverage.py``, ``docs/experiments.md``) finds its coverage
nearest to the nominal one at 20 to 142 groups; percentile and BCa intervals are printed for those who expect them.
"""

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from levelground.metrics.scores import Scores

LEVEL = 0.95
"""The coverage that all intervals aim at."""


def jackknife_se(left_out: Scores) -> Scores:
    """Compute the standard error of estimates from their values without each group.

    ``SE² = (G - 1)/G · Σ_g (θ_(g) - θ_(·))²``

    Args:
        left_out: θ_(g), ``(..., G)``.
    Returns:
        ``(...)``; NaN with fewer than two groups, or where an estimate does not exist without some group.
    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, eq. 11.5.
    Example:
        >>> values = np.array([1.0, 2.0, 4.0, 5.0])
        >>> without = (values.sum() - values) / 3
        >>> bool(np.isclose(jackknife_se(without), values.std(ddof=1) / 2))
        True
    """
    n_groups = left_out.shape[-1]
    if n_groups < 2:
        return np.full(left_out.shape[:-1], np.nan)
    centred = left_out - left_out.mean(axis=-1, keepdims=True)
    return np.asarray(np.sqrt((n_groups - 1) / n_groups * (centred**2).sum(axis=-1)))


def t_interval(estimate: Scores, se: Scores, df: Scores | float, *, level: float = LEVEL) -> Scores:
    """Compute Student's t interval ``θ ± t(1 - (1 - level)/2, df) · SE``.

    Args:
        estimate: θ, ``(...)``.
        se: Standard errors, ``(...)``.
        df: Degrees of freedom.
        level: Nominal coverage.
    Returns:
        Low and high ends, ``(..., 2)``; NaN where the standard error is.
    Example:
        >>> t_interval(np.array(0.1), np.array(0.02), 80).round(4)
        array([0.0602, 0.1398])
    """
    with np.errstate(invalid="ignore"):
        half = stdtrit(df, 1 - (1 - level) / 2) * se
    return np.stack((estimate - half, estimate + half), axis=-1)


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


def ends(interval: Scores) -> tuple[float, float] | None:
    """Return one interval ``(2,)`` as numbers, ``None`` where it does not exist."""
    return (float(interval[0]), float(interval[1])) if bool(np.isfinite(interval).all()) else None


def known(value: float) -> float | None:
    """Return a number, ``None`` for NaN."""
    return None if np.isnan(value) else float(value)


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
