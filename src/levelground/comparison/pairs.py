"""Pairs of runs and of architectures in a comparison: differences, intervals, verdicts, and what would decide them.

The figures come from :mod:`levelground.statistics.pairs`, :mod:`levelground.statistics.architectures` and
:mod:`levelground.statistics.power_analysis`; here they get their names. Letters: K classes, G groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from levelground.comparison.compatibility import Evaluated
from levelground.comparison.run_summaries import metric_counts
from levelground.comparison.views import contenders, facing, judged_pairs
from levelground.metrics.named import Metric
from levelground.metrics.scores import Counted
from levelground.records import Record
from levelground.statistics.architectures import ArchitecturePair, architecture_scores, compare_architectures
from levelground.statistics.pairs import ALPHA, Ends, PairEstimate, compare_pairs, differences
from levelground.statistics.permutation import smallest_p
from levelground.statistics.power_analysis import POWER, Design, power

Interval = tuple[float | None, Ends]  # a difference and its interval


def run_pairs(evaluated: Sequence[Evaluated], counted: Counted, metric: Metric, *, delta: float) -> list[Record]:
    """All pairs of runs: verdicts on these weights.

    Args:
        evaluated: The runs.
        counted: Which classes of the legend count, ``(K,)``.
        metric: The primary metric.
        delta: The difference that counts as none, δ.
    Returns:
        One object a pair, without its ``text``.
    """
    counts, groups = metric_counts(evaluated, metric), evaluated[0].counts.groups
    found = compare_pairs(counts, groups, metric, counted, delta=delta)
    classes = _per_class(
        evaluated,
        counted,
        metric,
        lambda one: [(pair.value, pair.interval) for pair in differences(counts, groups, one, counted)],
    )
    names, n_groups = [item.name for item in evaluated], len(set(groups.tolist()))
    return [
        _pair_block(pair, names, metric)
        | {"per_class": [row[number] for row in classes], "power": _weights_power(pair, n_groups, delta, len(found))}
        for number, pair in enumerate(found)
    ]


def _pair_block(pair: PairEstimate, names: Sequence[str], metric: Metric) -> Record:
    return asdict(pair) | {
        "a": names[pair.a],
        "b": names[pair.b],
        "metric": metric.name,
        "verdict": pair.verdict.word,
        "excludes_zero": pair.verdict.excludes_zero,
    }


def _per_class(
    evaluated: Sequence[Evaluated], counted: Counted, metric: Metric, differ: Callable[[Metric], list[Interval]]
) -> list[list[Record]]:
    """For each class with true pixels that the metric's view scores, the IoU difference of every pair."""
    present = evaluated[0].counts.counts.sum(axis=(0, 2)) > 0
    scored = present if metric.view == "all" else present & counted
    rows = []
    for k in np.flatnonzero(scored).tolist():
        found = differ(Metric(f"{metric.view}.iou", "iou", metric.view, k))
        rows.append([{"class": k, "delta": value, "interval": interval} for value, interval in found])
    return rows


def _weights_power(pair: PairEstimate, n_groups: int, delta: float, n_pairs: int) -> Record | None:
    if pair.se is None or delta <= 0:
        return None
    found = _power_block(Design(pair.se**2, n_groups), delta, n_pairs)
    # Neither test nor interval decides alone, so the swap test's own need for groups holds too.
    if found["groups_needed"] is not None:
        found["groups_needed"] = max(found["groups_needed"], groups_for_p(n_pairs))
    return found


def _power_block(design: Design, delta: float, n_pairs: int) -> Record:
    return asdict(power(design, delta=delta, n_pairs=n_pairs)) | {"power": POWER, "groups": design.n_groups}


def groups_for_p(n_pairs: int) -> int:
    """The fewest groups with which the swap test can reach p ≤ .05 for that many pairs.

    Example:
        >>> groups_for_p(1), groups_for_p(3)
        (6, 7)
    """
    n_groups = 2
    while smallest_p(n_groups, 1 << n_groups, n_pairs) > ALPHA:
        n_groups += 1
    return n_groups


def architecture_rows(
    evaluated: Sequence[Evaluated], archs: Sequence[str], counted: Counted, metric: Metric, miou: Metric
) -> list[Record]:
    """Each architecture's mean over its seeds, with what groups and seeds add to its uncertainty.

    Args:
        evaluated: The runs.
        archs: The architecture of each run.
        counted: Which classes of the legend count, ``(K,)``.
        metric: The primary metric, of ``value``, ``interval`` and ``ranked_first``.
        miou: The mIoU shown beside it.
    """
    groups = evaluated[0].counts.groups
    found = architecture_scores(metric_counts(evaluated, metric), groups, archs, metric, counted)
    means = architecture_scores(metric_counts(evaluated, miou), groups, archs, miou, counted, n_resamples=1)
    rows = []
    for score, mean in zip(found, means, strict=True):
        first = evaluated[score.runs[0]].run
        rows.append(
            asdict(score)
            | {
                "arch": first.arch,
                "encoder": first.encoder,
                "runs": [evaluated[number].name for number in score.runs],
                "seeds": score.n_seeds,
                "miou": mean.value,
            }
        )
    return rows


def architecture_pairs(
    evaluated: Sequence[Evaluated], archs: Sequence[str], counted: Counted, metric: Metric, *, delta: float
) -> list[Record]:
    """All pairs of architectures that have two or more seeds each: verdicts on architectures.

    Args:
        evaluated: The runs.
        archs: The architecture of each run.
        counted: Which classes of the legend count, ``(K,)``.
        metric: The primary metric.
        delta: The difference that counts as none, δ.
    Returns:
        One object a pair, without its ``text``; none where fewer than two architectures have seeds.
    """
    several = [number for number, arch in enumerate(archs) if archs.count(arch) >= 2]
    if len({archs[number] for number in several}) < 2:
        return []
    chosen, names = [evaluated[number] for number in several], [archs[number] for number in several]
    counts, groups = metric_counts(chosen, metric), chosen[0].counts.groups
    found = compare_architectures(counts, groups, names, metric, counted, delta=delta)
    classes = _per_class(
        chosen,
        counted,
        metric,
        lambda one: [
            (pair.delta, pair.interval) for pair in compare_architectures(counts, groups, names, one, counted)
        ],
    )
    return [
        _architecture_pair_block(pair, metric, delta, len(found)) | {"per_class": [row[number] for row in classes]}
        for number, pair in enumerate(found)
    ]


def _architecture_pair_block(pair: ArchitecturePair, metric: Metric, delta: float, n_pairs: int) -> Record:
    design = pair.design()
    block: Record = asdict(pair) | {
        "metric": metric.name,
        "verdict": pair.verdict.word,
        "excludes_zero": pair.verdict.excludes_zero,
        "v_group": pair.v_groups,
        "power": None,
    }
    if design is not None and delta > 0:
        total = design.se() ** 2
        block["power"] = _power_block(design, delta, n_pairs) | {
            "seeds": min(pair.n_a, pair.n_b),
            "groups_share": design.v_groups / total if total else 1.0,
        }
    return block


def open_question(record: Record) -> Record | None:
    """What would decide the most interesting open pair: the leader's, else the first; ``None`` where none is open.

    Args:
        record: A comparison with its runs, architectures and pairs.
    """
    order = [name for name, _, _ in contenders(record)]
    open_pairs = [pair for pair in judged_pairs(record) if pair["verdict"] == "undecided" and pair["power"]]
    if not open_pairs:
        return None
    leading = [facing(record, order[0], name) for name in order[1:]]
    pair = next((pair for pair in leading if pair["verdict"] == "undecided" and pair["power"]), open_pairs[0])
    found: Record = pair["power"] | {"pair": [pair["a"], pair["b"]], "detectable_delta": pair["power"]["detectable"]}
    return found
