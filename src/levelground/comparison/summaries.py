"""Summaries of runs, pairs and architectures: the figures of the statistics under their names, and what would decide.

Scores come from :mod:`levelground.metrics`, intervals from :mod:`levelground.statistics`; here they are put together.
Letters: R runs, S scenes, K classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import permutations

import numpy as np

from levelground.comparison.compatibility import Evaluated
from levelground.comparison.record import Comparison
from levelground.comparison.results import (
    ArchitecturePairResult,
    ArchitectureResult,
    BoundaryScores,
    CalibrationResult,
    ClassCalibration,
    ClassDifference,
    Convergence,
    MetricRow,
    OpenPairPower,
    PowerAnalysis,
    ReliabilityPoint,
    RunPairResult,
    ScoreSet,
    Throughput,
)
from levelground.history import read_history
from levelground.metrics.counts import SceneCounts
from levelground.metrics.named import (
    Metric,
    class_kinds,
    class_scores,
    mean_metrics,
    overall_metrics,
    parse_metric,
)
from levelground.metrics.scores import Counted, Scoring, boundary_iou, miou
from levelground.runs import Run
from levelground.statistics.architectures import ArchitecturePair
from levelground.statistics.families import (
    Family,
    FamilyStatistics,
    StackedCounts,
    calibration_error,
    rank_under_metrics,
    ranks,
)
from levelground.statistics.intervals import ends, jackknife_se, t_interval
from levelground.statistics.pairs import Estimate, PairEstimate
from levelground.statistics.power_analysis import Design, power
from levelground.statistics.significance import ALPHA, POWER, smallest_p


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
            deciding_groups=None if pair.deciding == n_groups else pair.deciding,
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
    design = Design(pair.se**2, n_groups, df_groups=pair.df, held=pair.held)
    found = asdict(power(design, delta=delta, n_pairs=n_pairs))
    # Neither test nor interval decides alone, so the swap test's own need for groups that decide holds too.
    if found["groups_needed"] is not None:
        share = pair.deciding / n_groups
        found["groups_needed"] = max(found["groups_needed"], math.ceil(groups_for_p(n_pairs) / share))
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


CONVERGED_SHARE = 0.95
"""A run has converged when validation first reaches this share of its own best score."""


def stack_counts(evaluated: Sequence[Evaluated], counted: Counted) -> StackedCounts:
    """Stack the counts of all runs; boundary counts only where all runs have them, at one distance."""
    distances = {item.counts.boundary_px for item in evaluated}
    alike = len(distances) == 1 and all(bool(item.counts.boundary.any()) for item in evaluated)
    return StackedCounts(
        counts=np.stack([item.counts.counts for item in evaluated]),
        groups=evaluated[0].counts.groups,
        counted=counted,
        boundary=np.stack([item.counts.boundary for item in evaluated]) if alike else None,
    )


def score_set(counts: SceneCounts, counted: Counted, scoring: Scoring, estimate: Estimate) -> ScoreSet:
    """Score one run under one scoring.

    Args:
        counts: Its counts.
        counted: Which classes of the legend count, ``(K,)``.
        scoring: The scoring.
        estimate: The run's mIoU under the scoring, with its interval.
    """
    total = counts.counts.sum(axis=0)
    overall = {one.kind: float(one.score(one.sums(total, counted))) for one in overall_metrics(scoring)}
    per_class = {kind: tuple(class_scores(kind, total, counted, scoring).tolist()) for kind in class_kinds(scoring)}
    return ScoreSet.model_validate(overall | per_class | {"interval": estimate.interval, "se": estimate.se})


def boundary_scores(counts: SceneCounts, counted: Counted, estimate: Estimate) -> BoundaryScores:
    """Score the borders of one run; ``estimate`` is its boundary IoU with interval."""
    per_class = np.where(counted, boundary_iou(counts.boundary.sum(axis=0)), np.nan)
    return BoundaryScores(
        mean=estimate.value,
        interval=estimate.interval,
        se=estimate.se,
        per_class=tuple(per_class.tolist()),
        distance_px=counts.boundary_px,
    )


def scene_scores(counts: SceneCounts, counted: Counted) -> tuple[float, ...]:
    """Return the official mIoU of each scene alone, ``(S,)``: where a model fails, never averaged."""
    return tuple(miou(counts.counts, counted, "official").tolist())


def mean_loss(counts: SceneCounts) -> float | None:
    """Return the cross-entropy per counted pixel; ``None`` where predictions came without probabilities."""
    pixels = int(counts.loss_pixels.sum())
    return float(counts.loss_sum.sum()) / pixels if pixels else None


def throughput(run: Run, counts: SceneCounts) -> Throughput:
    """Return measured speeds: prediction on the scenes at hand, with its interval over groups, else the card's.

    Args:
        run: The run; training speed is its card's.
        counts: Its counts, with the seconds that each scene took.
    Returns:
        Speeds; ``None`` where nothing was measured.
    """
    speed, seconds = run.card.speed, counts.forward_s
    trained = speed.train_images_per_s
    if not seconds.sum() > 0:
        return Throughput(speed.infer_megapixels_per_s, None, trained)
    _, index = np.unique(counts.groups, return_inverse=True)
    work, time_s = np.bincount(index, counts.megapixels), np.bincount(index, seconds)
    rate = np.asarray(work.sum() / time_s.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        se = jackknife_se((work.sum() - work) / (time_s.sum() - time_s))
    return Throughput(float(rate), ends(np.maximum(0.0, t_interval(rate, se, max(1, work.size - 1)))), trained)


def pareto_front(spots: Sequence[tuple[str, float | None, float | None]]) -> tuple[str, ...]:
    """Return the names of the runs that no other beats in both the primary metric and speed of prediction.

    Args:
        spots: Name, value and speed of each run.
    Example:
        >>> pareto_front([("a", 0.5, 9.0), ("b", 0.6, 3.0), ("c", 0.4, 3.0), ("d", 0.7, None)])
        ('a', 'b')
    """
    known = [(name, value, speed) for name, value, speed in spots if value is not None and speed is not None]
    return tuple(
        name
        for name, value, speed in known
        if not any(v >= value and s >= speed and (v > value or s > speed) for _, v, s in known)
    )


def convergence(run: Run) -> Convergence | None:
    """Find when validation first reached 95 % of its best score; ``None`` without a history."""
    lines = [line for line in read_history(run.folder) if line.kind == "val"]
    own = any(line.val_miou is not None for line in lines)
    scores = [(line, line.val_miou if own else line.val_image_iou) for line in lines]
    known = [(line, value) for line, value in scores if value is not None]
    if not known:
        return None
    values = [value for _, value in known]
    best = max(values)
    first = next(line for line, value in known if value >= min(CONVERGED_SHARE * best, best))
    return Convergence(
        metric="val_miou" if own else "val_image_iou",  # the second is the reference study's
        share=CONVERGED_SHARE,
        best=best,
        points=len(values),
        best_is_last=len(values) > 1 and values[-1] > max(values[:-1]),
        step=first.step,
        epoch=first.epoch,
        time_s=first.time_s,
        last_gain=_last_gain([line.step for line, _ in known], values),
    )


def _last_gain(steps: Sequence[int], values: Sequence[float]) -> float | None:
    """Return what a score gained in the last fifth of the steps, by lines between validations.

    >>> round(_last_gain([10, 20], [0.4, 0.5]), 3)
    0.04
    """
    if len(values) < 2 or steps[0] == steps[-1]:
        return None
    return values[-1] - float(np.interp(0.8 * steps[-1], steps, values))


def calibration(counts: SceneCounts) -> CalibrationResult | None:
    """Return the expected calibration error with its interval and the reliability diagram; ``None`` without them."""
    if not counts.conf_n.any():
        return None
    found = calibration_error(counts.conf_n, counts.conf_sum, counts.conf_correct, counts.groups)
    return CalibrationResult(
        ece=found.overall.ece,
        uncorrected=found.overall.plain,
        se=found.overall.se,
        interval=found.overall.interval,
        per_class=tuple(
            None if entry is None else ClassCalibration(entry.ece, entry.interval) for entry in found.per_class
        ),
        bins=tuple(ReliabilityPoint(entry.confidence, entry.accuracy, entry.n) for entry in found.bins),
    )


def sensitivity_rows(
    evaluated: Sequence[Evaluated], stacked: StackedCounts, names: Sequence[str], primary: Metric
) -> tuple[MetricRow, ...]:
    """Score and rank every run under every metric and scoring, and by its loss.

    Args:
        evaluated: The runs.
        stacked: Their counts.
        names: The legend's class names.
        primary: The metric whose order the others are compared with.
    """
    metrics = list(mean_metrics(stacked.counted))
    if stacked.boundary is not None:
        metrics.append(parse_metric("boundary.miou", names, stacked.counted))
    if primary.name not in {metric.name for metric in metrics}:
        metrics.insert(0, primary)
    found = rank_under_metrics(stacked.counts, metrics, stacked.counted, primary=primary, boundary=stacked.boundary)
    runs = [item.name for item in evaluated]
    rows = [
        MetricRow(
            metric=row.metric,
            values=dict(zip(runs, row.values, strict=True)),
            ranks=dict(zip(runs, row.ranks, strict=True)),
            flips=tuple((runs[a], runs[b]) for a, b in row.flips),
        )
        for row in found
    ]
    primary_ranks = next(row.ranks for row in rows if row.metric == primary.name)
    return (*rows, *_loss_row(evaluated, primary_ranks))


def _loss_row(evaluated: Sequence[Evaluated], before: Mapping[str, int | None]) -> list[MetricRow]:
    """Return the loss as one more metric, of which less is better; nothing where a run has none."""
    losses = {item.name: mean_loss(item.counts) for item in evaluated}
    known = {name: loss for name, loss in losses.items() if loss is not None}
    if len(known) < len(losses):
        return []
    placed = dict(zip(known, ranks(-np.array(list(known.values()))), strict=True))
    flips = []
    for a, b in permutations(known, 2):
        first, second = before[a], before[b]
        if first is not None and second is not None and first < second and (placed[a] or 0) > (placed[b] or 0):
            flips.append((a, b))
    return [MetricRow("loss", known, placed, tuple(flips))]
