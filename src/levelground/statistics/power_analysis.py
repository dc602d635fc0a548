"""Power analysis: the smallest difference that a comparison detects, and how many groups or seeds are enough.

A design is judged by its variances and by δ, the difference that matters, never by the difference observed: the power
at the observed difference is a function of its p and says nothing new (Hoenig & Heisey 2001). Letters: V_g the
variance of a difference over groups, V_a and V_b the variances of one training over seeds, G groups, n_a and n_b seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from levelground.statistics.pairs import FEWEST_GROUPS
from levelground.statistics.significance import ALPHA, POWER, detectable_difference

_MOST_GROUPS, _MOST_SEEDS = 1_000_000, 1_000
"""Where more would be needed, the answer is none."""


@dataclass(frozen=True)
class Design:
    """The parts of the variance of a difference: over groups and over seeds.

    Attributes:
        v_groups: Its jackknife variance with the groups at hand.
        n_groups: Their number G.
        v_seeds: Variance over seeds of each side's score; empty where the question is about these weights.
        n_seeds: Seeds of each side; empty too.
        df_groups: Degrees of freedom of ``v_groups``; ``None`` for G − 1.
        df_seeds: Degrees of freedom of the seeds' part where its variances share an estimate pooled over
            architectures; ``None``: each side has n − 1 of its own.
        n_archs: The number of architectures whose seeds are pooled.
        held: Groups that the interval rests on, for a score of one class those that hold it; ``None`` for all.
    """

    v_groups: float
    n_groups: int
    v_seeds: tuple[float, ...] = ()
    n_seeds: tuple[int, ...] = ()
    df_groups: float | None = None
    df_seeds: float | None = None
    n_archs: int = 2
    held: int | None = None

    def se(self) -> float:
        """Compute the standard error ``√(V_g + V_a/n_a + V_b/n_b)``."""
        return float(np.sqrt(sum(variance for variance, _ in self._parts())))

    def df(self) -> float:
        """Compute Satterthwaite's degrees of freedom; G − 1 without seeds."""
        return satterthwaite(self._parts())

    def with_groups(self, n_groups: int) -> "Design":
        """Return the design with another number of groups of the same kind; the same share of them hold the class."""
        ratio = n_groups / self.n_groups
        df = None if self.df_groups is None else min(n_groups - 1.0, max(1.0, self.df_groups * ratio))
        held = None if self.held is None else self.held * n_groups // self.n_groups
        return replace(self, v_groups=self.v_groups / ratio, n_groups=n_groups, df_groups=df, held=held)

    def with_seeds(self, n_seeds: int) -> "Design":
        """Return the design with another number of seeds on each side."""
        df = None if self.df_seeds is None else float(self.n_archs * (n_seeds - 1))
        return replace(self, n_seeds=(n_seeds,) * len(self.v_seeds), df_seeds=df)

    def _parts(self) -> list[tuple[float, float]]:
        """List the variances and their degrees of freedom."""
        groups = (self.v_groups, self.n_groups - 1.0 if self.df_groups is None else self.df_groups)
        seeds = [(variance / n, n - 1.0) for variance, n in zip(self.v_seeds, self.n_seeds, strict=True)]
        if self.df_seeds is None:
            return [groups, *seeds]
        return [groups, (sum(variance for variance, _ in seeds), self.df_seeds)]


@dataclass(frozen=True)
class Power:
    """The differences that a design detects, and the groups and seeds that it would take to detect δ.

    Attributes:
        delta: The difference that matters, δ.
        alpha: Level of one test: .05 shared among all pairs tested.
        detectable: The smallest true difference shown in 80 % of repetitions.
        groups_needed: Groups, with the seeds at hand, that bring ``detectable`` to δ; ``None``: no number does.
        seeds_needed: Seeds on each side, with the groups at hand, that do; ``None``: no number does, or the question
            is about these weights.
        groups_for_equal: Groups with which a true difference of 0 is called ``equal`` in 80 % of repetitions; so many
            that the interval rests on six, since with fewer nothing is called equal.
        seeds_for_equal: Seeds that do; as ``seeds_needed``, and ``None`` too where the interval rests on fewer.
    """

    delta: float
    alpha: float
    detectable: float
    groups_needed: int | None
    seeds_needed: int | None
    groups_for_equal: int | None
    seeds_for_equal: int | None


def satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Compute degrees of freedom of a sum of estimated variances: ``(Σ v)² / Σ v²/df``.

    Args:
        parts: Each variance with its own degrees of freedom.
    Returns:
        The degrees of freedom; where all variances are 0, the sum of theirs.
    Source: Satterthwaite 1946, An Approximate Distribution of Estimates of Variance Components, eq. 17.
    Example:
        >>> satterthwaite([(1.0, 80), (1.0, 2), (1.0, 2)])
        8.8888...
    """
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return float(sum(df for _, df in parts))
    return float(total**2 / sum(variance**2 / df for variance, df in parts if variance > 0))


def equal_margin(se: float, df: float, *, power: float = POWER) -> float:
    """Compute the smallest δ for which equal scores are called ``equal`` in a share ``power`` of repetitions.

    The interval ``Δ ± t(.975)·SE`` lies inside ±δ where ``|Δ| < δ - t(.975)·SE``.

    Args:
        se: Standard error of the difference.
        df: Its degrees of freedom.
        power: The share wanted.
    Returns:
        ``(t(.975, df) + t((1 + power)/2, df)) · SE``.
    """
    return float((stdtrit(df, 0.975) + stdtrit(df, (1 + power) / 2)) * se)


def power(design: Design, *, delta: float, n_pairs: int = 1) -> Power:
    """Compute what a design can show and what it would take to show δ.

    Args:
        design: The variances at hand; at least two groups and, where seeds are asked about, two seeds a side.
        delta: The difference that matters, δ > 0.
        n_pairs: Pairs tested together; Holm's first step divides the level by it.
    Returns:
        The answers.
    Example:
        >>> found = power(Design(v_groups=0.01**2, n_groups=81), delta=0.01)
        >>> round(found.detectable, 4), found.groups_needed, found.groups_for_equal
        (0.0284, 638, 854)
    """
    alpha = ALPHA / n_pairs

    def shows(tried: Design) -> bool:
        return detectable_difference(tried.se(), tried.df(), alpha=alpha) <= delta

    def equals(tried: Design) -> bool:
        rests_on = tried.n_groups if tried.held is None else tried.held
        return rests_on >= FEWEST_GROUPS and equal_margin(tried.se(), tried.df()) <= delta

    seeds = bool(design.v_seeds)
    return Power(
        delta=delta,
        alpha=alpha,
        detectable=detectable_difference(design.se(), design.df(), alpha=alpha),
        groups_needed=_fewest(lambda n: shows(design.with_groups(n)), _MOST_GROUPS),
        seeds_needed=_fewest(lambda n: shows(design.with_seeds(n)), _MOST_SEEDS) if seeds else None,
        groups_for_equal=_fewest(lambda n: equals(design.with_groups(n)), _MOST_GROUPS),
        seeds_for_equal=_fewest(lambda n: equals(design.with_seeds(n)), _MOST_SEEDS) if seeds else None,
    )


def _fewest(enough: Callable[[int], bool], most: int) -> int | None:
    """Find the smallest number from 2 on that is enough, by bisection; ``None`` where ``most`` is not."""
    if not enough(most):
        return None
    low, high = 1, most  # one group or one seed has no variance, so it is never enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
