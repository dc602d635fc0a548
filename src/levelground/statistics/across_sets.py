"""Statistics across data sets: mean differences with intervals over sets, mean ranks, Friedman's and Nemenyi's tests.

Letters: D data sets, k models. A data set is one observation: what holds across sets is shown by how alike they are,
not by how many scenes each has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, stdtr

from levelground.metrics.scores import Scores
from levelground.statistics.intervals import ends, t_interval
from levelground.statistics.pairs import ALPHA
from levelground.statistics.power_analysis import detectable_difference


@dataclass(frozen=True)
class MeanDifference:
    """Mean over data sets of the difference of two models.

    Attributes:
        delta: The mean of D differences, every set counted once.
        se: Its standard error over sets; ``None`` with one set.
        interval: Its 95 % interval; ``None`` with one set.
        p: Two-sided p of no difference; ``None`` with one set.
        detectable: The smallest true mean difference that as many sets like these show in 80 % of repetitions.
    """

    delta: float
    se: float | None
    interval: tuple[float, float] | None
    p: float | None
    detectable: float | None


def mean_difference(deltas: ArrayLike, ses: Sequence[float | None], *, most: float = np.inf) -> MeanDifference:
    """Estimate the mean difference of two models over data sets, with an interval over sets, groups within set.

    ``SE² = max(s²/D, mean(SE_d²)/D)``, D - 1 degrees of freedom: s² is the variance of the D differences, which holds
    the groups' part already; where by chance they are more alike than their groups allow, the groups' part alone is
    taken.

    Args:
        deltas: The difference in each set, ``(D,)``.
        ses: Its standard error over the groups of that set, ``(D,)``; ``None`` where a set has too few groups.
        most: The largest difference that two scores can have; the interval is cut there.
    Returns:
        The estimate.
    Example:
        >>> found = mean_difference([0.02, 0.05, 0.02], [0.01, 0.01, None])
        >>> round(found.delta, 3), [round(end, 3) for end in found.interval], round(found.p, 3)
        (0.03, [-0.013, 0.073], 0.095)
    """
    values = np.asarray(deltas, np.float64)
    n = len(values)
    mean = float(values.mean())
    if n < 2:
        return MeanDifference(mean, None, None, None, None)
    within = [se**2 for se in ses if se is not None]
    variance = max(float(values.var(ddof=1)), float(np.mean(within)) if within else 0.0) / n
    if variance == 0:  # the same difference in every set and no groups: nothing says how sure it is
        return MeanDifference(mean, 0.0, None, None, None)
    se = float(np.sqrt(variance))
    interval = ends(np.clip(t_interval(np.array(mean), np.array(se), n - 1), -most, most))
    p = float(2 * stdtr(n - 1, -abs(mean / se)))
    return MeanDifference(mean, se, interval, p, detectable_difference(se, n - 1))


def set_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Rank the models within each data set, 1 for the highest value; ties share their mean rank.

    Args:
        values: ``(D, k)``.
    Returns:
        ``(D, k)``.
    Example:
        >>> set_ranks([[0.5, 0.7, 0.5]]).tolist()
        [[2.5, 1.0, 2.5]]
    """
    table = np.asarray(values, np.float64)
    above = (table[:, None, :] > table[:, :, None]).sum(axis=-1)
    tied = (table[:, None, :] == table[:, :, None]).sum(axis=-1)
    return np.asarray(above + (tied + 1) / 2, np.float64)


@dataclass(frozen=True)
class MeanRank:
    """Mean rank of a model over data sets, with its 95 % interval over sets; ``None`` where ranks never differ."""

    value: float
    interval: tuple[float, float] | None


def mean_ranks(ranks: Scores) -> list[MeanRank]:
    """Average ranks over data sets, with Student's t intervals cut at 1 and k.

    The variance of a model's ranks is its own or the mean of all models', whichever is larger: with few sets, a rank
    that happens to be the same in each says little.

    Args:
        ranks: ``(D, k)``, as :func:`set_ranks` gives them.
    Example:
        >>> [(one.value, one.interval) for one in mean_ranks(np.array([[1.0, 2.0], [1.0, 2.0]]))]
        [(1.0, None), (2.0, None)]
    """
    n, k = ranks.shape
    means = ranks.mean(axis=0)
    if n < 2:
        return [MeanRank(float(mean), None) for mean in means]
    own = ranks.var(axis=0, ddof=1)
    se = np.sqrt(np.maximum(own, own.mean()) / n)
    intervals = np.clip(t_interval(means, se, n - 1), 1, k)
    shown = bool(own.any())
    return [
        MeanRank(float(mean), ends(interval) if shown else None)
        for mean, interval in zip(means, intervals, strict=True)
    ]


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of equal mean ranks, and what Nemenyi's test of pairs could show.

    Attributes:
        statistic: Friedman's χ² with the correction for ties.
        p: Its p by the χ² distribution with k - 1 degrees of freedom, rough below about ten sets.
        critical_difference: Mean ranks that lie this far apart differ by Nemenyi's test at level .05.
        pairs: Nemenyi's p of each pair, ``(k, k)``, 1 on the diagonal.
        sets_needed: Sets with which models one rank apart in every set would differ by Nemenyi's test.
    """

    statistic: float
    p: float
    critical_difference: float
    pairs: NDArray[np.float64]
    sets_needed: int


def friedman(ranks: Scores) -> Friedman | None:
    """Test whether k ≥ 3 models have equal mean ranks over D ≥ 2 sets, and all pairs after Nemenyi.

    ``χ² = 12 D/(k (k + 1)) Σ_j (R_j - (k + 1)/2)²``, divided by ``1 - Σ(t³ - t)/(D k (k² - 1))`` for ties of t models.
    ``CD = q √(k (k + 1)/(6 D))``, q the studentized range of k means with infinite degrees of freedom over √2.

    Args:
        ranks: ``(D, k)``.
    Returns:
        The tests; ``None`` with fewer models or sets, or where all models tie in every set.
    Source: Demšar 2006, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, section 3.2.2; ties as
        in Hollander & Wolfe 1999, eq. 7.8.
    Example:
        >>> found = friedman(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0]]))
        >>> round(found.statistic, 3), round(found.p, 3), round(found.critical_difference, 3), found.sets_needed
        (4.5, 0.105, 1.657, 11)
    """
    from scipy.stats import studentized_range  # a second to import, and only benchmarks ask for it

    n, k = ranks.shape
    ties = sum(float((count**3 - count).sum()) for count in (np.unique(row, return_counts=True)[1] for row in ranks))
    correction = 1 - ties / (n * k * (k**2 - 1))
    if n < 2 or k < 3 or correction <= 0:
        return None
    means = ranks.mean(axis=0)
    statistic = 12 * n / (k * (k + 1)) * float(((means - (k + 1) / 2) ** 2).sum()) / correction
    unit = np.sqrt(k * (k + 1) / (6 * n))
    q = float(studentized_range.ppf(1 - ALPHA, k, np.inf)) / np.sqrt(2)
    apart = np.abs(means[:, None] - means[None, :])
    pairs = np.clip(studentized_range.sf(apart / unit * np.sqrt(2), k, np.inf), 0, 1)
    pairs[apart == 0] = 1.0
    needed = int(np.ceil(q**2 * k * (k + 1) / 6))
    return Friedman(statistic, float(chdtrc(k - 1, statistic)), float(q * unit), np.asarray(pairs), needed)
