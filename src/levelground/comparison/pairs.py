"""Results of pairs and of architectures: the figures of the statistics under their names, and what would decide.

Letters: K classes, G groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from levelground.comparison.compatibility import Evaluated
from levelground.comparison.record import Comparison
from levelground.comparison.results import (
    ArchitecturePairResult,
    ArchitectureResult,
    ClassDifference,
    OpenPairPower,
    PowerAnalysis,
    RunPairResult,
)
from levelground.metrics.named import Metric
from levelground.statistics.architectures import ArchitecturePair
from levelground.statistics.families import Family, FamilyStatistics
from levelground.statistics.pairs import ALPHA, Estimate, PairEstimate
from levelground.statistics.permutation import smallest_p
from levelground.statistics.power_analysis import POWER, Design, power


def run_pair_results(
    found: FamilyStatistics, names: Sequence[str], metric: Metric, *, delta: float, n_groups: int, control: bool
) -> list[RunPairResult]:
    """Name all pairs of runs of a family: verdicts on these weights.

    Args:
        found: The family's statistics.
        names: The names of its runs.
        metric: The primary metric.
        delta: The difference that counts as none, δ.
        n_groups: Groups of scenes.
        control: Whether the family is a twin and its original.
    Returns:
        One result a pair, without its ``text``.
    """
    return [
        RunPairResult(
            a=names[pair.a],
            b=names[pair.b],
            metric=metric.name,
            delta=pair.delta,
            se=pair.se,
            df=pair.df,
            interval=pair.interval,
            p=pair.p,
            p_holm=pair.p_holm,
            p_min=pair.p_min,
            verdict=pair.verdict.word,
            excludes_zero=pair.verdict.excludes_zero,
            per_class=tuple(
                ClassDifference(k, row[number].value, row[number].interval)
                for k, row in found.class_differences.items()
            ),
            power=_weights_power(pair, n_groups, delta, len(found.pairs)),
            negative_control=control,
        )
        for number, pair in enumerate(found.pairs)
    ]


def _weights_power(pair: PairEstimate, n_groups: int, delta: float, n_pairs: int) -> PowerAnalysis | None:
    """Say what a pair of runs can show; ``None`` without a standard error or with δ = 0."""
    if pair.se is None or delta <= 0:
        return None
    design = Design(pair.se**2, n_groups, df_groups=pair.df)
    found = asdict(power(design, delta=delta, n_pairs=n_pairs))
    # Neither test nor interval decides alone, so the swap test's own need for groups holds too.
    if found["groups_needed"] is not None:
        found["groups_needed"] = max(found["groups_needed"], groups_for_p(n_pairs))
    return PowerAnalysis(**found, power=POWER, groups=design.n_groups)


def groups_for_p(n_pairs: int) -> int:
    """Find the fewest groups with which the swap test can reach p ≤ .05 for that many pairs.

    Example:
        >>> groups_for_p(1), groups_for_p(3)
        (6, 7)
    """
    n_groups = 2
    while smallest_p(n_groups, 1 << n_groups, n_pairs) > ALPHA:
        n_groups += 1
    return n_groups


def architecture_results(
    found: FamilyStatistics,
    family: Family,
    evaluated: Sequence[Evaluated],
    mious: Sequence[Estimate],
    *,
    twin_of: Mapping[str, str],
) -> list[ArchitectureResult]:
    """Name each architecture's mean over its seeds, with what groups and seeds add to its uncertainty.

    Args:
        found: The family's statistics.
        family: Its runs.
        evaluated: All runs of the comparison.
        mious: The mIoU of all runs, shown beside the primary metric.
        twin_of: For each twin of the family its original; a twin has no rank.
    """
    rows = []
    for score in found.architectures:
        members = [family.runs[number] for number in score.runs]
        first, original = evaluated[members[0]].run, twin_of.get(score.name)
        rows.append(
            ArchitectureResult(
                name=score.name,
                runs=tuple(evaluated[number].name for number in members),
                value=score.value,
                interval=score.interval,
                se=score.se,
                df=score.df,
                se_groups=score.se_groups,
                se_seeds=score.se_seeds,
                ranked_first=score.ranked_first if original is None else None,
                arch=first.arch,
                encoder=first.encoder,
                seeds=score.n_seeds,
                miou=float(np.mean([mious[number].value for number in members])),
                twin_of=original,
            )
        )
    return rows


def architecture_pair_results(
    found: FamilyStatistics, metric: Metric, *, delta: float, control: bool
) -> list[ArchitecturePairResult]:
    """Name all pairs of architectures of a family that have two or more seeds each: verdicts on architectures.

    Args:
        found: The family's statistics.
        metric: The primary metric.
        delta: The difference that counts as none, δ.
        control: Whether the family is a twin and its original.
    Returns:
        One result a pair, without its ``text``; none where fewer than two architectures have seeds.
    """
    return [
        ArchitecturePairResult(
            a=pair.a,
            b=pair.b,
            metric=metric.name,
            delta=pair.delta,
            se=pair.se,
            df=pair.df,
            interval=pair.interval,
            p=pair.p,
            p_holm=pair.p_holm,
            verdict=pair.verdict.word,
            excludes_zero=pair.verdict.excludes_zero,
            v_groups=pair.v_groups,
            v_a=pair.v_a,
            v_b=pair.v_b,
            n_a=pair.n_a,
            n_b=pair.n_b,
            n_groups=pair.n_groups,
            per_class=tuple(
                ClassDifference(k, row[number].delta, row[number].interval)
                for k, row in found.architecture_class_differences.items()
            ),
            power=_architecture_power(pair, delta, len(found.architecture_pairs)),
            negative_control=control,
        )
        for number, pair in enumerate(found.architecture_pairs)
    ]


def _architecture_power(pair: ArchitecturePair, delta: float, n_pairs: int) -> PowerAnalysis | None:
    """Say what a pair of architectures can show; ``None`` where a variance is unknown or with δ = 0."""
    design = pair.design()
    if design is None or delta <= 0:
        return None
    total = design.se() ** 2
    return PowerAnalysis(
        **asdict(power(design, delta=delta, n_pairs=n_pairs)),
        power=POWER,
        groups=design.n_groups,
        seeds=min(pair.n_a, pair.n_b),
        groups_share=design.v_groups / total if total else 1.0,
    )


def open_pair_power(comparison: Comparison) -> OpenPairPower | None:
    """Say what would decide the most interesting open pair: the leader's, else the first; ``None`` without one.

    Args:
        comparison: A comparison with its runs, architectures and pairs.
    """
    order = [entry.name for entry in comparison.ranking]
    undecided = [pair for pair in comparison.decisive_pairs if pair.verdict == "undecided"]
    for pair in [comparison.oriented_pair(order[0], name) for name in order[1:] if undecided] + undecided:
        if pair.verdict == "undecided" and pair.power is not None:
            return OpenPairPower(**asdict(pair.power), pair=(pair.a, pair.b))
    return None
