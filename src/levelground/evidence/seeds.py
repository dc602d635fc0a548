"""Scores of architectures: what would hold for other trainings too, not only for these weights.

An architecture's score is the mean over its seeds of the data-set score. Two things make it uncertain: which groups
stand in the test (V_g, the jackknife variance of the seed mean) and which seeds were drawn (V/n, the sample variance
over n seeds divided by n). Their sum gives the interval, with Satterthwaite's degrees of freedom. How seeds interact
with groups enters both parts, and seeds that saw the same crops are taken as independent: both err on the wide side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ShapeError
from levelground.evidence.intervals import ends, jackknife_se, known, t_interval
from levelground.evidence.power import Design
from levelground.evidence.resampling import CountsMetric, GroupSums, bootstrap_values, group_sums
from levelground.evidence.statistics import RESAMPLES, Ends, Groups
from levelground.scores.metric_names import Metric
from levelground.scores.metrics import AnyCounts, Counted, Scores


@dataclass(frozen=True)
class ArchitectureScore:
    """The score of one architecture.

    Attributes:
        name: As given with the runs.
        runs: Indices of its runs.
        value: Mean of their scores.
        interval: 95 % interval; ``None`` with one seed ("seed variance unknown") or fewer than two groups.
        se: Standard error, or ``None`` as above.
        df: Degrees of freedom, or ``None`` as above.
        se_groups: The part that groups contribute; ``None`` with fewer than two.
        se_seeds: The part that seeds contribute, √(V/n); ``None`` with one seed.
        ranked_first: Share of resamples (of groups, and of seeds where there are several) in which its mean is the
            highest, ties shared; ``None`` with fewer than two groups.
    """

    name: str
    runs: tuple[int, ...]
    value: float
    interval: Ends
    se: float | None
    df: float | None
    se_groups: float | None
    se_seeds: float | None
    ranked_first: float | None

    @property
    def n_seeds(self) -> int:
        """The number of seeds."""
        return len(self.runs)


@dataclass(frozen=True, eq=False)
class SeedMeans:
    """Runs averaged by architecture, in the order in which the names first stand.

    Attributes:
        names: The architectures, A of them.
        runs: Indices of each one's runs, its seeds.
        values: Mean score, ``(A,)``.
        left_out: Mean score without each group, ``(A, G)``.
        variances: Sample variance of the score over seeds, ``(A,)``; NaN with one seed.
    """

    names: tuple[str, ...]
    runs: tuple[tuple[int, ...], ...]
    values: Scores
    left_out: Scores
    variances: Scores


def architecture_scores(
    counts: AnyCounts,
    groups: Groups,
    archs: Sequence[str],
    metric: Metric | CountsMetric,
    counted: Counted,
    *,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[ArchitectureScore]:
    """The score of each architecture with its interval and its share of first ranks.

    Args:
        counts: ``(R, S, K, K)``, one row of scenes a run.
        groups: The group of each scene, ``(S,)``.
        archs: The architecture of each run, ``(R,)``; runs of one architecture are its seeds.
        metric: A named metric, or any function from ``(..., K, K)`` counts to ``(...)`` scores.
        counted: Which classes of the legend count, ``(K,)``.
        n_resamples: Resamples for the share of first ranks.
        seed: Fixes them.
    Returns:
        One score an architecture, in the order in which the names first stand in ``archs``.
    Raises:
        ShapeError: The arrays do not fit together.
    """
    sums = group_sums(counts, groups, metric, counted)
    found = seed_means(sums, archs)
    shares = _ranked_first(sums, found.runs, n_resamples, seed=seed)
    scores = []
    for number, name in enumerate(found.names):
        v_groups, v_seeds = known(float(jackknife_se(found.left_out[number])) ** 2), known(found.variances[number])
        n_seeds = len(found.runs[number])
        value = float(found.values[number])
        se, df, interval = None, None, None
        if v_groups is not None and v_seeds is not None:
            design = Design(v_groups, sums.n_groups, (v_seeds,), (n_seeds,))
            se, df = design.se(), design.df()
            interval = ends(t_interval(np.array(value), np.array(se), df))
        score = ArchitectureScore(
            name=name,
            runs=found.runs[number],
            value=value,
            interval=interval,
            se=se,
            df=df,
            se_groups=None if v_groups is None else float(np.sqrt(v_groups)),
            se_seeds=None if v_seeds is None else float(np.sqrt(v_seeds / n_seeds)),
            ranked_first=None if shares is None else float(shares[number]),
        )
        scores.append(score)
    return scores


def seed_means(sums: GroupSums, archs: Sequence[str]) -> SeedMeans:
    """Average runs over seeds.

    Args:
        sums: Sums by run and group.
        archs: The architecture of each run, ``(R,)``.
    Returns:
        The means, and how the runs scatter around them.
    Raises:
        ShapeError: Another number of names than of runs.
    """
    if len(archs) != sums.n_runs:
        raise ShapeError(f"{len(archs)} architecture names for {sums.n_runs} runs, expected one a run.")
    names = tuple(dict.fromkeys(archs))
    runs = tuple(tuple(number for number, arch in enumerate(archs) if arch == name) for name in names)
    values, left_out = sums.values(), sums.left_out()
    return SeedMeans(
        names,
        runs,
        np.array([values[list(members)].mean() for members in runs]),
        np.array([left_out[list(members)].mean(axis=0) for members in runs]),
        np.array([values[list(members)].var(ddof=1) if len(members) > 1 else np.nan for members in runs]),
    )


def _ranked_first(sums: GroupSums, runs: Sequence[tuple[int, ...]], n_resamples: int, *, seed: int) -> Scores | None:
    """Share of resamples of groups and seeds in which each architecture's mean is the highest."""
    if sums.n_groups < 2:
        return None
    resampled = bootstrap_values(sums, n_resamples, seed=seed)
    generator = np.random.Generator(np.random.Philox([seed, 1]))  # not the stream that drew the groups
    means = np.empty((len(runs), n_resamples))
    for number, members in enumerate(runs):
        chosen = np.array(members)[generator.integers(0, len(members), (len(members), n_resamples))]
        means[number] = resampled[chosen, np.arange(n_resamples)].mean(axis=0)
    first = means == means.max(axis=0)
    ties = first.sum(axis=0)
    decided: NDArray[np.bool_] = ties > 0  # a resample without any true pixel ranks nobody
    if not decided.any():
        return None
    return np.asarray((first[:, decided] / ties[decided]).mean(axis=1))
