"""What a comparison says of each run: scores with intervals, boundaries, learning, throughput, ranks.

Scores and intervals come from :mod:`levelground.metrics.scores` and :mod:`levelground.statistics.pairs`; here they
are put together. Letters: R runs, S scenes, K classes.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from levelground.comparison.compatibility import Evaluated
from levelground.metrics.counts_file import SceneCounts
from levelground.metrics.named import (
    Metric,
    class_kinds,
    class_scores,
    mean_metrics,
    overall_metrics,
    parse_metric,
)
from levelground.metrics.scores import Counted, boundary_iou, miou, scorings
from levelground.records import Record
from levelground.runs import Run, read_history
from levelground.statistics.calibration import calibration_error
from levelground.statistics.intervals import ends, jackknife_se, t_interval
from levelground.statistics.metric_sensitivity import rank_under_metrics, ranks
from levelground.statistics.pairs import run_intervals

LEARNT_SHARE = 0.95
"""A run has learnt when validation first reaches this share of its own best score."""

_LEARNING_METRICS = ("val_miou", "val_image_iou")
"""Keys of a history's validation lines, the first one found is taken; the second is the origin study's."""


def stack(evaluated: Sequence[Evaluated], *, boundary: bool = False) -> NDArray[np.int64]:
    """The counts of all runs, ``(R, S, K, K)``; boundary counts ``(R, S, K, 3)``."""
    return np.stack([item.counts.boundary if boundary else item.counts.counts for item in evaluated])


def metric_counts(evaluated: Sequence[Evaluated], metric: Metric) -> NDArray[np.int64]:
    """The counts that a metric is computed from."""
    return stack(evaluated, boundary=metric.view == "boundary")


def has_boundaries(evaluated: Sequence[Evaluated]) -> bool:
    """Whether all runs counted boundaries, at one distance."""
    distances = {item.counts.boundary_px for item in evaluated}
    return len(distances) == 1 and all(bool(item.counts.boundary.any()) for item in evaluated)


def score_blocks(evaluated: Sequence[Evaluated], counted: Counted, names: Sequence[str]) -> list[Record]:
    """For each run its scores under every scoring that differs.

    Args:
        evaluated: The runs.
        counted: Which classes of the legend count, ``(K,)``.
        names: The legend's class names.
    Returns:
        One object a run, by scoring: every metric over all classes and of each class, by kind; ``interval`` and
        ``se`` are those of ``miou``.
    """
    counts, groups = stack(evaluated), evaluated[0].counts.groups
    blocks: list[Record] = [{} for _ in evaluated]
    for scoring in scorings(counted):
        found = run_intervals(counts, groups, parse_metric(f"{scoring}.miou", names, counted), counted)
        for block, estimate, total in zip(blocks, found, counts.sum(axis=1), strict=True):
            block[scoring] = {
                "interval": estimate.interval,
                "se": estimate.se,
                **{one.kind: float(one.score(one.sums(total, counted))) for one in overall_metrics(scoring)},
                **{kind: class_scores(kind, total, counted, scoring) for kind in class_kinds(scoring)},
            }
    return blocks


def boundary_blocks(evaluated: Sequence[Evaluated], counted: Counted, names: Sequence[str]) -> list[Record | None]:
    """For each run its boundary IoU with interval; ``None`` where it was not counted alike for all."""
    if not has_boundaries(evaluated):
        return [None] * len(evaluated)
    counts, groups = stack(evaluated, boundary=True), evaluated[0].counts.groups
    found = run_intervals(counts, groups, parse_metric("boundary.miou", names, counted), counted)
    return [
        {
            "mean": estimate.value,
            "interval": estimate.interval,
            "se": estimate.se,
            "per_class": np.where(counted, boundary_iou(item.counts.boundary.sum(axis=0)), np.nan),
            "distance_px": item.counts.boundary_px,
        }
        for item, estimate in zip(evaluated, found, strict=True)
    ]


def scene_scores(counts: SceneCounts, counted: Counted, scoring: str) -> NDArray[np.float64]:
    """The mIoU of each scene alone, ``(S,)``: where a model fails, never averaged."""
    return miou(counts.counts, counted, scoring)  # type: ignore[arg-type]  # a scoring of the record


def mean_loss(counts: SceneCounts) -> float | None:
    """Cross-entropy per counted pixel; ``None`` where predictions came without probabilities."""
    pixels = int(counts.loss_pixels.sum())
    return float(counts.loss_sum.sum()) / pixels if pixels else None


def throughput(run: Run, counts: SceneCounts) -> Record:
    """Measured speeds: prediction on the scenes at hand, with its interval over groups, else the card's.

    Args:
        run: The run; training speed is its card's.
        counts: Its counts, with the seconds that each scene took.
    Returns:
        ``predict_megapixels_per_s``, ``interval``, ``train_images_per_s``; ``None`` where nothing was measured.
    """
    speed, seconds = run.card.get("speed") or {}, counts.forward_s
    found: Record = {
        "predict_megapixels_per_s": speed.get("infer_megapixels_per_s"),
        "interval": None,
        "train_images_per_s": speed.get("train_images_per_s"),
    }
    if not seconds.sum() > 0:
        return found
    _, index = np.unique(counts.groups, return_inverse=True)
    work, time_s = np.bincount(index, counts.megapixels), np.bincount(index, seconds)
    rate = np.asarray(work.sum() / time_s.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        se = jackknife_se((work.sum() - work) / (time_s.sum() - time_s))
    interval = ends(np.maximum(0.0, t_interval(rate, se, max(1, work.size - 1))))
    return found | {"predict_megapixels_per_s": float(rate), "interval": interval}


def pareto_front(runs: Sequence[Record]) -> list[str]:
    """Names of the runs that no other beats in both the primary metric and speed of prediction.

    Args:
        runs: The runs of the record, with ``value`` and ``throughput``.
    Example:
        >>> runs = [("a", 0.5, 9.0), ("b", 0.6, 3.0), ("c", 0.4, 3.0), ("d", 0.7, None)]
        >>> speed = "predict_megapixels_per_s"
        >>> pareto_front([{"name": n, "value": v, "throughput": {speed: s}} for n, v, s in runs])
        ['a', 'b']
    """
    spots = [(run["name"], run["value"], run["throughput"]["predict_megapixels_per_s"]) for run in runs]
    known = [(name, value, speed) for name, value, speed in spots if value is not None and speed is not None]
    return [
        name
        for name, value, speed in known
        if not any(v >= value and s >= speed and (v > value or s > speed) for _, v, s in known)
    ]


def learning(run: Run) -> Record | None:
    """When validation first reached 95 % of its best score, by step, epoch and clock; ``None`` without a history."""
    lines = [line for line in read_history(run.folder) if line.get("kind") == "val"]
    metric = next((key for key in _LEARNING_METRICS if any(line.get(key) is not None for line in lines)), None)
    if metric is None:
        return None
    known = [line for line in lines if line.get(metric) is not None]
    values = [float(line[metric]) for line in known]
    best = max(values)
    first = next(line for line, value in zip(known, values, strict=True) if value >= min(LEARNT_SHARE * best, best))
    return {
        "metric": metric,
        "share": LEARNT_SHARE,
        "best": best,
        "points": len(values),
        "best_is_last": len(values) > 1 and values[-1] > max(values[:-1]),
        **{key: first.get(key) for key in ("step", "epoch", "time_s")},
    }


def calibration_block(counts: SceneCounts) -> Record | None:
    """The expected calibration error with its interval and the reliability diagram; ``None`` without confidences."""
    if not counts.conf_n.any():
        return None
    found = calibration_error(counts.conf_n, counts.conf_sum, counts.conf_correct, counts.groups)
    return {
        "ece": found.overall.ece,
        "plain": found.overall.plain,
        "se": found.overall.se,
        "interval": found.overall.interval,
        "per_class": [
            None if entry is None else {"ece": entry.ece, "interval": entry.interval} for entry in found.per_class
        ],
        "bins": [{"confidence": entry.confidence, "accuracy": entry.accuracy, "n": entry.n} for entry in found.bins],
    }


def multiverse_rows(
    evaluated: Sequence[Evaluated], counted: Counted, names: Sequence[str], primary: Metric
) -> list[Record]:
    """Every run under every metric and scoring, and by its loss, with ranks and the flips against the primary metric.

    Returns:
        ``{"metric", "values": {run: value}, "ranks": {run: rank}, "flips": [[before, after]…]}``: ``before`` stands
        above ``after`` by the primary metric and below it by this one.
    """
    metrics = list(mean_metrics(counted))
    if has_boundaries(evaluated):
        metrics.append(parse_metric("boundary.miou", names, counted))
    if primary.name not in {metric.name for metric in metrics}:
        metrics.insert(0, primary)
    boundary = stack(evaluated, boundary=True)
    found = rank_under_metrics(stack(evaluated), metrics, counted, primary=primary, boundary=boundary)
    runs = [item.name for item in evaluated]
    rows: list[Record] = [
        {
            "metric": row.metric,
            "values": dict(zip(runs, row.values, strict=True)),
            "ranks": dict(zip(runs, row.ranks, strict=True)),
            "flips": [[runs[a], runs[b]] for a, b in row.flips],
        }
        for row in found
    ]
    return [*rows, *_loss_row(evaluated, next(row for row in rows if row["metric"] == primary.name))]


def _loss_row(evaluated: Sequence[Evaluated], primary: Record) -> list[Record]:
    """The loss as one more metric, of which less is better; nothing where a run has none."""
    losses = {item.name: mean_loss(item.counts) for item in evaluated}
    known = {name: loss for name, loss in losses.items() if loss is not None}
    if len(known) < len(losses):
        return []
    placed = dict(zip(known, ranks(-np.array(list(known.values()))), strict=True))
    before = primary["ranks"]
    pairs = [(a, b) for a, b in permutations(known, 2) if before[a] is not None and before[b] is not None]
    turned = [[a, b] for a, b in pairs if before[a] < before[b] and (placed[a] or 0) > (placed[b] or 0)]
    return [{"metric": "loss", "values": known, "ranks": placed, "flips": turned}]
