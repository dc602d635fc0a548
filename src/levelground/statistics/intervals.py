"""Intervals: the delete-one-group jackknife with Student's t.

Letters: G groups; θ the estimate, θ_(g) the estimate without group g, θ_(·) their mean.

A simulation (``benchmarks/coverage.py``, ``docs/experiments.md``) finds its coverage nearest to the nominal one at 20
to 142 groups; percentile and BCa bootstraps, which cover worse, are in the benchmark as what was tried.
"""

import numpy as np
from scipy.special import stdtr, stdtrit

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


def effective_df(left_out: Scores) -> Scores:
    """Compute the degrees of freedom of a jackknife variance from the groups that carry it.

    ``df = min(G - 1, 3 (Σ u_g)² / Σ u_g² - 3)``, at least 1, with u_g = (θ_(g) - θ_(·))². A sum of squares of G equal
    normal parts has G - 1 degrees of freedom; where a few groups carry most of the sum (heavy scenes, a class in few
    groups), it varies as if it had fewer. Without weights, (Σ u)²/Σ u² is about G/3 for normal parts, hence the
    factor; the 3 taken off brings heavy populations to .94 and leaves mild ones alone (``benchmarks/coverage.py``).

    Args:
        left_out: θ_(g), ``(..., G)``.
    Returns:
        ``(...)``; G - 1 where all θ_(g) are equal, NaN where an estimate does not exist without some group.
    Source: Satterthwaite 1946, eq. 17, for the variance of a variance; the constants by simulation.
    Example:
        Twelve groups that weigh alike, and twelve of which one outweighs the others.

        >>> effective_df(np.array([[1.0, 2.0] * 6, [0.0] * 11 + [4.0]])).round(2)
        array([11.,  1.])
    """
    n_groups = left_out.shape[-1]
    parts = (left_out - left_out.mean(axis=-1, keepdims=True)) ** 2
    total, squares = parts.sum(axis=-1), (parts**2).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.clip(3 * total**2 / squares - 3, 1, max(1, n_groups - 1))
    return np.asarray(np.where(total == 0, max(1, n_groups - 1), found))


FEWEST_HOLDERS = 4
"""A class that lies in fewer groups has no interval."""


def folds_variance(n_folds: int) -> float:
    """Return what a variance over groups is multiplied by where every group was scored by the model of its fold.

    ``max(1.5, K/(K - 1))``. The models of all folds share most of their training scenes, so that scores of different
    groups are not independent, and the variance between groups does not hold that part. With learners that are trained
    anew in every fold the interval covers what it says (``benchmarks/folds.py``); Nadeau & Bengio's corrected t over
    folds is wider.

    Args:
        n_folds: Number of folds K, at least 2; 0 where one model scored all groups.
    Source: K/(K - 1) is 1 + n_test/n_train over groups, after Nadeau & Bengio 2003, eq. 9; 1.5 by simulation.
    Example:
        >>> folds_variance(0), folds_variance(2), folds_variance(5)
        (1.0, 2.0, 1.5)
    """
    return max(1.5, n_folds / (n_folds - 1)) if n_folds else 1.0


def jackknife(left_out: Scores, *, holders: int | None = None, variance_factor: float = 1.0) -> tuple[Scores, Scores]:
    """Compute standard errors and their degrees of freedom from estimates without each group.

    A score of one class rests on the m groups that hold the class. Where they are half of the groups or fewer, the
    standard error is multiplied by ``√(m/(m - 1))`` and the degrees of freedom are ``n_eff - 1/2``, at least 1 and at
    most m - 1, with ``n_eff = (Σ u)² / Σ u²`` the effective number of groups (Kish 1965) and u as in
    :func:`effective_df`: what covers at 8 to 20 groups that hold the class (``benchmarks/coverage.py``).

    Args:
        left_out: θ_(g), ``(..., G)``.
        holders: m for a score of one class; ``None`` for scores over all classes.
        variance_factor: What the variance is multiplied by at the end, such as :func:`folds_variance`.
    Returns:
        Standard errors and degrees of freedom, ``(...)``; both NaN with fewer than two groups, where an estimate does
        not exist without some group, and where fewer than four groups hold the class.
    Example:
        >>> se, df = jackknife(np.array([0.5, 0.52, 0.5, 0.5, 0.47, 0.5, 0.51, 0.5, 0.5, 0.5]), holders=4)
        >>> round(float(se), 3), round(float(df), 2)
        (0.041, 1.5)
    """
    n_groups = left_out.shape[-1]
    se, df = jackknife_se(left_out), effective_df(left_out)
    if holders is not None and holders < FEWEST_HOLDERS:
        se = np.full_like(se, np.nan)
    elif holders is not None and 2 * holders <= n_groups:
        parts = (left_out - left_out.mean(axis=-1, keepdims=True)) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            effective = parts.sum(axis=-1) ** 2 / (parts**2).sum(axis=-1)
        se = se * np.sqrt(holders / (holders - 1))
        df = np.where(se == 0, holders - 1, np.clip(effective - 0.5, 1, holders - 1))
    return se * np.sqrt(variance_factor), np.where(np.isnan(se), np.nan, df)


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


def t_test(delta: float, se: float, df: float) -> float:
    """Compute the two-sided p of Student's t; identical scores without any variance have p = 1.

    Args:
        delta: The difference.
        se: Its standard error.
        df: Degrees of freedom.
    """
    if se == 0:
        return 1.0 if delta == 0 else 0.0
    return float(2 * stdtr(df, -abs(delta) / se))


def t_shares(delta: float, se: float, df: float, margin: float) -> tuple[float, float, float]:
    """Split the t distribution around a difference at ±δ: above δ, within ±δ, below −δ.

    It is the distribution whose middle 95 % are the interval; read as a belief it takes every difference as equally
    likely beforehand. It describes: verdicts rest on the interval and the adjusted p.

    Args:
        delta: The difference.
        se: Its standard error; 0 puts everything where the difference is.
        df: Degrees of freedom.
        margin: δ.
    Example:
        >>> [round(share, 3) for share in t_shares(0.03, 0.01, 20, 0.01)]
        [0.97, 0.029, 0.0]
    """
    if se <= 0:
        above, below = float(delta > margin), float(delta < -margin)
    else:
        above, below = float(stdtr(df, (delta - margin) / se)), float(stdtr(df, (-margin - delta) / se))
    return above, max(0.0, 1 - above - below), below


def ends(interval: Scores) -> tuple[float, float] | None:
    """Return one interval ``(2,)`` as numbers, ``None`` where it does not exist."""
    return (float(interval[0]), float(interval[1])) if bool(np.isfinite(interval).all()) else None


def known(value: float) -> float | None:
    """Return a number, ``None`` for NaN."""
    return None if np.isnan(value) else float(value)
