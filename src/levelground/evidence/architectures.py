"""Differences of architectures, with seeds and groups both in the interval.

Letters: V_g the jackknife variance over groups of the difference of seed means; V_a, V_b the sample variances over
seeds of each side's score; n_a, n_b the numbers of seeds. See :mod:`levelground.evidence.seeds`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr

from levelground.evidence.intervals import ends, jackknife_se, known, t_interval
from levelground.evidence.permutation import holm
from levelground.evidence.power import Design
from levelground.evidence.resampling import CountsMetric, group_sums
from levelground.evidence.seeds import SeedMeans, seed_means
from levelground.evidence.statistics import Ends, Groups, all_pairs
from levelground.evidence.verdicts import Verdict, decide
from levelground.scores.metric_names import Metric
from levelground.scores.metrics import AnyCounts, Counted


@dataclass(frozen=True)
class ArchitecturePair:
    """The difference of two architectures, a − b.

    Attributes:
        a: Name of the first.
        b: Name of the second.
        delta: Score of a minus score of b.
        se: Standard error; ``None`` where a side has one seed, or with fewer than two groups.
        df: Satterthwaite's degrees of freedom, or ``None`` as ``se``.
        interval: 95 % interval, or ``None`` as ``se``.
        p: Two-sided p of the same t, or ``None`` as ``se``.
        p_holm: Adjusted for all pairs of architectures that have a p.
        verdict: What may be said of the architectures; ``undecided`` where there is no interval.
        v_groups: Variance of the difference over groups; ``None`` with fewer than two.
        v_a: Variance of a's score over seeds; ``None`` with one.
        v_b: Variance of b's score over seeds; ``None`` with one.
        n_a: Seeds of a.
        n_b: Seeds of b.
        n_groups: Groups.
    """

    a: str
    b: str
    delta: float
    se: float | None
    df: float | None
    interval: Ends
    p: float | None
    p_holm: float | None
    verdict: Verdict
    v_groups: float | None
    v_a: float | None
    v_b: float | None
    n_a: int
    n_b: int
    n_groups: int

    def design(self) -> Design | None:
        """What :func:`levelground.evidence.power.power` asks for; ``None`` where a variance is unknown."""
        if self.v_groups is None or self.v_a is None or self.v_b is None:
            return None
        return Design(self.v_groups, self.n_groups, (self.v_a, self.v_b), (self.n_a, self.n_b))


def compare_architectures(
    counts: AnyCounts,
    groups: Groups,
    archs: Sequence[str],
    metric: Metric | CountsMetric,
    counted: Counted,
    *,
    delta: float = 0.01,
) -> list[ArchitecturePair]:
    """Compare all pairs of architectures: ``Δ ± t·√(V_g + V_a/n_a + V_b/n_b)``.

    Args:
        counts: ``(R, S, K, K)``, one row of scenes a run.
        groups: The group of each scene, ``(S,)``.
        archs: The architecture of each run, ``(R,)``.
        metric: A named metric, or any function from ``(..., K, K)`` counts to ``(...)`` scores.
        counted: Which classes of the legend count, ``(K,)``.
        delta: Differences below this do not matter.
    Returns:
        One result a pair, in the order of names as they first stand in ``archs``.
    Raises:
        ShapeError: The arrays do not fit together.
    """
    sums = group_sums(counts, groups, metric, counted)
    means = seed_means(sums, archs)
    pairs = [_compare(means, a, b, sums.n_groups) for a, b in all_pairs(len(means.names))]
    adjusted = holm(np.array([np.nan if pair.p is None else pair.p for pair in pairs]))
    judged = []
    for pair, value in zip(pairs, adjusted, strict=True):
        p_holm = known(value)
        judged.append(replace(pair, p_holm=p_holm, verdict=decide(pair.interval, p_holm, delta=delta)))
    return judged


def _compare(means: SeedMeans, a: int, b: int, n_groups: int) -> ArchitecturePair:
    """The difference of two architectures; its p is adjusted and judged by the caller."""
    delta = float(means.values[a] - means.values[b])
    pair = ArchitecturePair(
        a=means.names[a],
        b=means.names[b],
        delta=delta,
        se=None,
        df=None,
        interval=None,
        p=None,
        p_holm=None,
        verdict=Verdict("undecided", False),
        v_groups=known(float(jackknife_se(means.left_out[a] - means.left_out[b])) ** 2),
        v_a=known(means.variances[a]),
        v_b=known(means.variances[b]),
        n_a=len(means.runs[a]),
        n_b=len(means.runs[b]),
        n_groups=n_groups,
    )
    design = pair.design()
    if design is None:
        return pair
    se, df = design.se(), design.df()
    interval = ends(t_interval(np.array(delta), np.array(se), df))
    return replace(pair, se=se, df=df, interval=interval, p=_t_test(delta, se, df))


def _t_test(delta: float, se: float, df: float) -> float:
    """Two-sided p of Student's t; identical scores without any variance have p = 1."""
    if se == 0:
        return 1.0 if delta == 0 else 0.0
    return float(2 * stdtr(df, -abs(delta) / se))
