"""Differences of architectures, with seeds and groups both in the interval.

Letters: V_g the jackknife variance over groups of the difference of seed means; V_a, V_b the moderated variances over
seeds of each side's score; n_a, n_b the numbers of seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ShapeError
from levelground.metrics.named import Metric
from levelground.metrics.scores import AnyCounts, Counted, Scores
from levelground.statistics.intervals import ends, jackknife, known, t_interval, t_test
from levelground.statistics.pairs import (
    FEWEST_GROUPS,
    RESAMPLES,
    Ends,
    Groups,
    PairEstimate,
    Verdict,
    all_pairs,
    decide,
    pair_estimates,
)
from levelground.statistics.power_analysis import Design
from levelground.statistics.resampling import CountsMetric, GroupSums, bootstrap_values, group_sums
from levelground.statistics.significance import ALPHA, holm, smallest_p


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
    """Runs averaged by architecture, in the order of the names' first occurrence.

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

    def moderated(self) -> "SeedVariances":
        """Return the variances moderated by what all architectures show."""
        return moderate_variances(self.variances, [len(members) for members in self.runs])


@dataclass(frozen=True, eq=False)
class SeedVariances:
    """Variances over seeds, moderated by what all architectures show.

    Attributes:
        values: For each architecture the larger of its own sample variance and the pooled one, ``(A,)``; NaN with one
            seed.
        df: Degrees of freedom of the pooled one, Σ (n - 1).
        n_archs: The number of architectures with two seeds or more.
    """

    values: Scores
    df: float
    n_archs: int


def moderate_variances(variances: Scores, n_seeds: Sequence[int]) -> SeedVariances:
    """Moderate the variances over seeds: no architecture is taken for steadier than architectures are on the whole.

    With two or three seeds a sample variance is often far too small by luck, and then a difference looks certain that
    is none. ``s̃² = max(s², Σ (n - 1) s² / Σ (n - 1))`` with the pooled degrees of freedom holds the family-wise error
    at .05 and gives narrower intervals than each architecture's own variance. Empirical Bayes (Smyth 2004) was tried
    and does not hold it with 3 to 12 architectures: their number is too small to estimate a prior from
    (docs/experiments.md).

    Args:
        variances: Sample variance of the score over seeds, ``(A,)``; NaN with one seed.
        n_seeds: Seeds of each architecture, ``(A,)``.
    Example:
        >>> found = moderate_variances(np.array([1.0, 3.0, np.nan]), [2, 2, 1])
        >>> found.values.tolist(), found.df
        ([2.0, 3.0, nan], 2.0)
    """
    seeds, several = np.asarray(n_seeds, np.float64) - 1, ~np.isnan(variances)
    df = float(seeds[several].sum())
    if not several.any():
        return SeedVariances(variances, 0.0, 0)
    pooled = float((seeds[several] * variances[several]).sum() / df)
    return SeedVariances(np.where(several, np.maximum(variances, pooled), np.nan), df, int(several.sum()))


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
    """Score each architecture, with its interval and its share of first ranks.

    Args:
        counts: ``(R, S, K, K)``, one row of scenes a run.
        groups: The group of each scene, ``(S,)``.
        archs: The architecture of each run, ``(R,)``; runs of one architecture are its seeds.
        metric: A named metric, or any function from ``(..., K, K)`` counts to ``(...)`` scores.
        counted: Which classes of the legend count, ``(K,)``.
        n_resamples: Resamples for the share of first ranks.
        seed: Fixes them.
    Returns:
        One score an architecture, in the order of first occurrence in ``archs``.
    Raises:
        ShapeError: The arrays do not fit together.
    Example:
        >>> seeds = [[[8, 2], [3, 7]], [[7, 3], [2, 8]], [[9, 1], [1, 9]], [[9, 1], [2, 8]]]
        >>> counts = np.array([[seed] * 3 for seed in seeds])
        >>> accuracy = lambda c: np.trace(c, axis1=-2, axis2=-1) / c.sum(axis=(-2, -1))
        >>> archs, both = ["unet", "unet", "fpn", "fpn"], np.array([True, True])
        >>> found = architecture_scores(counts, ["s1", "s2", "s3"], archs, accuracy, both)
        >>> [(one.name, one.n_seeds, round(one.value, 3)) for one in found]
        [('unet', 2, 0.75), ('fpn', 2, 0.875)]
    """
    sums = group_sums(counts, groups, metric, counted)
    return architecture_estimates(sums, archs, bootstrap_values(sums, n_resamples, seed=seed), seed=seed)


def architecture_estimates(
    sums: GroupSums, archs: Sequence[str], resampled: Scores, *, seed: int = 0
) -> list[ArchitectureScore]:
    """Score each architecture, from sums by run and group; see :func:`architecture_scores`.

    Args:
        sums: Sums by run and group.
        archs: The architecture of each run, ``(R,)``.
        resampled: The metric of each run in each resample of groups, ``(R, B)``.
        seed: Fixes the draw of seeds for the share of first ranks.
    """
    found = seed_means(sums, archs)
    shares = _ranked_first(resampled, found.runs, seed=seed) if sums.n_groups >= 2 else None
    moderated = found.moderated()
    errors, df_groups = jackknife(found.left_out, holders=sums.holders, variance_factor=sums.variance_factor)
    scores = []
    for number, name in enumerate(found.names):
        v_groups, v_seeds = known(float(errors[number]) ** 2), known(moderated.values[number])
        n_seeds = len(found.runs[number])
        value = float(found.values[number])
        se = df = interval = None
        if v_groups is not None and v_seeds is not None:
            dfs = float(df_groups[number]), moderated.df
            design = Design(v_groups, sums.n_groups, (v_seeds,), (n_seeds,), *dfs, moderated.n_archs)
            se, df = design.se(), design.df()
            interval = ends(sums.cut(t_interval(np.array(value), np.array(se), df)))
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


def _ranked_first(resampled: Scores, runs: Sequence[tuple[int, ...]], *, seed: int) -> Scores | None:
    """Compute the share of resamples (of groups and seeds) in which each architecture's mean is the highest."""
    n_resamples = resampled.shape[-1]
    generator = np.random.Generator(np.random.Philox([seed, 1]))  # not the stream that drew the groups
    means = np.empty((len(runs), n_resamples))
    for number, members in enumerate(runs):
        chosen = np.array(members)[generator.integers(0, len(members), (len(members), n_resamples))]
        means[number] = resampled[chosen, np.arange(n_resamples)].mean(axis=0)
    first = means == means.max(axis=0)
    ties = first.sum(axis=0)
    decided: NDArray[np.bool_] = ties > 0  # a resample without any true pixel has no ranks
    if not decided.any():
        return None
    return np.asarray((first[:, decided] / ties[decided]).mean(axis=1))


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
        verdict: What can be said of the architectures; ``undecided`` where there is no interval.
        v_groups: Variance of the difference over groups; ``None`` with fewer than two.
        v_a: Moderated variance of a's score over seeds (:func:`moderate_variances`); ``None`` with one.
        v_b: The same of b; ``None`` with one.
        n_a: Seeds of a.
        n_b: Seeds of b.
        n_groups: Groups.
        df_groups: Degrees of freedom of ``v_groups``; ``None`` with fewer than two groups.
        df_seeds: Degrees of freedom of the variances over seeds, pooled over architectures; ``None`` without any.
        n_archs: The number of architectures pooled.
        held: Groups that the interval rests on, as of :class:`~levelground.statistics.pairs.PairEstimate`.
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
    df_groups: float | None = None
    df_seeds: float | None = None
    n_archs: int = 2
    held: int | None = None

    def design(self) -> Design | None:
        """Return the variances for :func:`levelground.statistics.power`; ``None`` where one is unknown."""
        if self.v_groups is None or self.v_a is None or self.v_b is None:
            return None
        seeds, dfs = ((self.v_a, self.v_b), (self.n_a, self.n_b)), (self.df_groups, self.df_seeds)
        return Design(self.v_groups, self.n_groups, *seeds, *dfs, self.n_archs, self.held)


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
        One result a pair, in the order of the names' first occurrence in ``archs``.
    Raises:
        ShapeError: The arrays do not fit together.
    Example:
        >>> seeds = [[[8, 2], [3, 7]], [[7, 3], [2, 8]], [[9, 1], [1, 9]], [[9, 1], [2, 8]]]
        >>> counts = np.array([[seed] * 3 for seed in seeds])
        >>> accuracy = lambda c: np.trace(c, axis1=-2, axis2=-1) / c.sum(axis=(-2, -1))
        >>> archs, both = ["unet", "unet", "fpn", "fpn"], np.array([True, True])
        >>> (pair,) = compare_architectures(counts, ["s1", "s2", "s3"], archs, accuracy, both)
        >>> pair.a, pair.b, round(pair.delta, 3), pair.n_a, pair.verdict.word
        ('unet', 'fpn', -0.125, 2, 'undecided')
    """
    return architecture_pair_estimates(group_sums(counts, groups, metric, counted), archs, delta=delta)


def architecture_pair_estimates(sums: GroupSums, archs: Sequence[str], *, delta: float) -> list[ArchitecturePair]:
    """Compare all pairs of architectures, from sums by run and group; see :func:`compare_architectures`."""
    means = seed_means(sums, archs)
    pairs = [_compare(means, a, b, sums) for a, b in all_pairs(len(means.names))]
    adjusted = holm(np.array([np.nan if pair.p is None else pair.p for pair in pairs]))
    judged = []
    for pair, value in zip(pairs, adjusted, strict=True):
        p_holm = known(value)
        verdict = decide(pair.interval, p_holm, delta=delta, n_groups=pair.held or 0)
        judged.append(replace(pair, p_holm=p_holm, verdict=verdict))
    return judged


def _compare(means: SeedMeans, a: int, b: int, sums: GroupSums) -> ArchitecturePair:
    """Compare two architectures; the caller adjusts p and gives the verdict."""
    delta, moderated = float(means.values[a] - means.values[b]), means.moderated()
    without = means.left_out[a] - means.left_out[b]
    se_groups, df_groups = jackknife(without, holders=sums.holders, variance_factor=sums.variance_factor)
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
        v_groups=known(float(se_groups) ** 2),
        v_a=known(moderated.values[a]),
        v_b=known(moderated.values[b]),
        n_a=len(means.runs[a]),
        n_b=len(means.runs[b]),
        n_groups=sums.n_groups,
        df_groups=known(float(df_groups)),
        df_seeds=moderated.df or None,
        n_archs=moderated.n_archs,
        held=sums.rested_on(*sums.deciding([means.runs[a] + means.runs[b]])),
    )
    design = pair.design()
    if design is None:
        return pair
    se, df = design.se(), design.df()
    interval = ends(sums.cut(t_interval(np.array(delta), np.array(se), df), of_differences=True))
    return replace(pair, se=se, df=df, interval=interval, p=t_test(delta, se, df))


GROUPS_TRIED = 3
"""Groups that are left out one by one: those that take most of a difference of the leader with them."""


@dataclass(frozen=True)
class PairWithoutGroup:
    """A pair of which one group decides the verdict: what is found without that group."""

    group: str
    pair: PairEstimate | ArchitecturePair


def pairs_without_a_group(
    sums: GroupSums,
    pairs: Sequence[PairEstimate | ArchitecturePair],
    archs: Sequence[str] | None,
    *,
    delta: float,
) -> list[PairWithoutGroup]:
    """Find pairs of the leader whose verdict is another one without one group.

    Args:
        sums: Sums by run and group.
        pairs: All pairs that are tested together, of architectures or of runs.
        archs: The architecture of each run where the pairs are of architectures.
        delta: Differences below this do not matter.
    Returns:
        The pairs of the first group that changes a verdict; none where too few groups would be left to show anything.
    """
    sides = [str(number) for number in range(sums.n_runs)] if archs is None else archs
    means = seed_means(sums, sides)
    if sums.n_groups <= 2 or not pairs or not np.isfinite(means.values).any():
        return []
    leader = means.names[int(np.nanargmax(means.values))]
    told = {number: pair for number, pair in enumerate(pairs) if leader in (str(pair.a), str(pair.b))}
    told = {number: pair for number, pair in told.items() if _bears_one_less(pair, len(pairs))}
    pulls: dict[int, float] = {}
    for pair in told.values():
        a, b = (means.names.index(str(side)) for side in (pair.a, pair.b))
        without = np.sign(pair.delta) * (means.left_out[a] - means.left_out[b])
        group = int(np.argmax(without) if pair.verdict.word == "equal" else np.argmin(without))
        pulls[group] = max(pulls.get(group, 0.0), abs(float(without[group]) - abs(pair.delta)))
    for group in sorted(pulls, key=lambda one: -pulls[one])[:GROUPS_TRIED]:
        again = _again(sums.without(group), pairs, archs, delta=delta)
        changed = [again[number] for number, pair in told.items() if again[number].verdict.word != pair.verdict.word]
        if changed:
            return [PairWithoutGroup(sums.groups[group], pair) for pair in changed]
    return []


def _bears_one_less(pair: PairEstimate | ArchitecturePair, n_pairs: int) -> bool:
    """Tell whether a pair has a verdict that any pair could have with one group less to decide on."""
    if pair.verdict.word == "equal":
        return (pair.held or 0) > FEWEST_GROUPS
    shown = isinstance(pair, ArchitecturePair) or smallest_p(pair.deciding - 1, RESAMPLES, n_pairs) <= ALPHA
    return shown and pair.verdict.word != "undecided"


def _again(
    rest: GroupSums, pairs: Sequence[PairEstimate | ArchitecturePair], archs: Sequence[str] | None, *, delta: float
) -> Sequence[PairEstimate | ArchitecturePair]:
    """Compare the same pairs on the rest of the groups."""
    if archs is not None:
        return architecture_pair_estimates(rest, archs, delta=delta)
    return pair_estimates(rest, delta=delta, pairs=[(int(pair.a), int(pair.b)) for pair in pairs])
