"""Resampling of groups of scenes: left out one by one, drawn with replacement, or swapped between two runs.

Letters: R runs, S scenes, G groups, B resamples. A metric is a function of sums over groups, so a resample of groups
is a row of whole-number weights and all resamples are one matrix product. The sums are whole numbers below 2^53, so
the product is exact and its order changes nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ShapeError
from levelground.metrics.named import Metric, metric_range
from levelground.metrics.scores import AnyCounts, Counted, Margins, Scores

CountsMetric = Callable[[Scores], Scores]  # any vectorised (..., K, K) -> (...)

_CHUNK_BYTES = 48 << 20
"""Memory for the sums of the resamples at hand; the arrays derived from them take about as much again."""


@dataclass(frozen=True, eq=False)
class GroupSums:
    """Sums by run and group, of which a metric is a function.

    Attributes:
        sums: ``(..., R, G)``; the leading axes are the metric's own.
        groups: Names of the groups, sorted.
        score: The metric: sums ``(..., *any)`` to ``(*any)``.
        holders: For a metric of one class the number of groups that hold true pixels of it; ``None`` for others.
        variance_factor: What a variance over groups is multiplied by: more than 1 where the counts are of folds
            (:func:`levelground.statistics.intervals.folds_variance`).
        bounds: The least and the greatest value of the metric; infinite for one without a name.
        parts: Which of TP, P and T the metric of one class is a function of; ``None`` for all sums.
    """

    sums: Scores
    groups: tuple[str, ...]
    score: CountsMetric
    holders: int | None = None
    variance_factor: float = 1.0
    bounds: tuple[float, float] = (-np.inf, np.inf)
    parts: tuple[int, ...] | None = None

    @property
    def n_runs(self) -> int:
        """The number of runs R."""
        return int(self.sums.shape[-2])

    @property
    def n_groups(self) -> int:
        """The number of groups G."""
        return int(self.sums.shape[-1])

    def totals(self) -> Scores:
        """Add all groups, ``(..., R)``."""
        return np.asarray(self.sums.sum(axis=-1))

    def values(self) -> Scores:
        """Compute the metric of each run on all groups, ``(R,)``."""
        return self.score(self.totals())

    def left_out(self) -> Scores:
        """Compute the metric of each run without each group, ``(R, G)``, on the class set of the remaining groups."""
        return self.score(self.totals()[..., None] - self.sums)

    def deciding(self, sets: Sequence[Sequence[int]]) -> list[int]:
        """Count for each set of runs the groups that hold anything that their scores are computed from.

        Example:
            >>> sums = np.array([[[2.0, 0, 0]], [[3.0, 0, 1]], [[4.0, 0, 0]]])  # TP, P and T of three groups
            >>> of_iou = GroupSums(sums, ("a", "b", "c"), lambda sums: sums[0])
            >>> of_iou.deciding([(0,)]), replace(of_iou, parts=(0, 2)).deciding([(0,)])
            ([2], [1])
        """
        sums = self.sums if self.parts is None else self.sums[list(self.parts)]
        holds = (sums != 0).reshape(-1, self.n_runs, self.n_groups).any(axis=0)
        return [int(np.count_nonzero(holds[list(runs)].any(axis=0))) for runs in sets]

    def rested_on(self, deciding: int) -> int:
        """Return how many groups an interval rests on: those that decide, no more than hold a class scored alone."""
        return deciding if self.holders is None else min(deciding, self.holders)

    def weighted(self, weights: Scores) -> Scores:
        """Weight the sums by each column of weights ``(G, B)``: ``(..., R, B)``."""
        flat = self.sums.reshape(-1, self.n_groups) @ weights
        return flat.reshape(*self.sums.shape[:-1], weights.shape[1])

    def of_runs(self, runs: Sequence[int]) -> "GroupSums":
        """The sums of some of the runs, in the order given."""
        return replace(self, sums=np.ascontiguousarray(self.sums[..., list(runs), :]))

    def without(self, group: int) -> "GroupSums":
        """The sums of all groups but one, by its position."""
        sums = np.delete(self.sums, group, axis=-1)
        holders = None if self.holders is None else _holders(sums)
        return replace(self, sums=sums, groups=self.groups[:group] + self.groups[group + 1 :], holders=holders)

    def cut(self, intervals: Scores, *, of_differences: bool = False) -> Scores:
        """Cut intervals ``(..., 2)`` of scores, or of differences of two scores, where no score can be.

        Example:
            >>> sums = GroupSums(np.ones((1, 1, 1)), ("a",), lambda sums: sums[0], bounds=(0, 1))
            >>> sums.cut(np.array([-0.2, 0.3])).tolist(), sums.cut(np.array([-0.2, 1.3]), of_differences=True).tolist()
            ([0.0, 0.3], [-0.2, 1.0])
        """
        low, high = self.bounds
        return np.clip(intervals, low - high, high - low) if of_differences else np.clip(intervals, low, high)

    def chunk(self) -> int:
        """Return how many resamples are held in memory at a time."""
        return max(64, int(_CHUNK_BYTES / 8 / max(1, self.sums.size // self.n_groups)))


def group_sums(
    counts: AnyCounts, groups: Sequence[str] | NDArray[np.str_], metric: Metric | CountsMetric, counted: Counted
) -> GroupSums:
    """Add scenes up to groups.

    Args:
        counts: ``(R, S, K, K)``, or boundary counts ``(R, S, K, 3)`` for a ``boundary`` metric.
        groups: The group of each scene, ``(S,)``.
        metric: A named metric, or any function from ``(..., K, K)`` counts to ``(...)`` scores.
        counted: Which classes of the legend count, ``(K,)``; a function ignores it.
    Returns:
        The sums, by run and by group in the order of their names.
    Raises:
        ShapeError: Counts and groups speak of another number of scenes, or there is no scene.
    Example:
        >>> counts = np.arange(8).reshape(1, 2, 2, 2)
        >>> accuracy = lambda c: c[..., [0, 1], [0, 1]].sum(-1) / c.sum((-2, -1))
        >>> group_sums(counts, ["east", "east"], accuracy, np.array([True, True])).values().round(2)
        array([0.5])
    """
    if counts.ndim != 4 or counts.shape[1] != len(groups) or not len(groups):
        raise ShapeError(f"counts are {counts.shape} for {len(groups)} scenes, expected (runs, scenes, K, K).")
    score: CountsMetric
    if isinstance(metric, Metric):
        per_scene, score = metric.sums(counts, counted), metric.score
    else:
        per_scene, score = np.moveaxis(counts, (2, 3), (0, 1)).astype(np.float64), _trailing(metric)
    names, flat = add_groups(per_scene.reshape(-1, len(groups)), groups)
    sums = flat.reshape(*per_scene.shape[:-1], len(names))
    if not isinstance(metric, Metric):
        return GroupSums(sums, names, score)
    holders = None if metric.class_index is None else _holders(sums)
    return GroupSums(sums, names, score, holders, bounds=metric_range(metric.name), parts=_PARTS.get(metric.kind))


_PARTS = {"recall": (0, 2), "precision": (0, 1)}
"""Metrics that are not computed from all of TP, P and T: a recall not from what is predicted in groups without the
class. (That precision does not exist without true pixels is the same for both runs.)"""


def _holders(sums: Scores) -> int:
    """Count the groups that hold true pixels of the class that sums are of."""
    return int(np.count_nonzero(Margins(*sums).true[0, 0]))


def add_groups(per_scene: Scores, groups: Sequence[str] | NDArray[np.str_]) -> tuple[tuple[str, ...], Scores]:
    """Add values of scenes up to groups, in time that grows with the number of scenes.

    Args:
        per_scene: ``(..., S)``.
        groups: The group of each scene, ``(S,)``.
    Returns:
        The groups' names, sorted, and the sums ``(..., G)``.
    Example:
        >>> add_groups(np.array([[1.0, 2.0, 4.0]]), ["b", "a", "b"])
        (('a', 'b'), array([[2., 5.]]))
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(len(names)))
    sums: Scores = np.add.reduceat(np.asarray(per_scene, np.float64)[..., order], starts, axis=-1)
    return tuple(names.tolist()), sums


def bootstrap_weights(n_groups: int, n_resamples: int, *, seed: int, chunk: int) -> Iterator[Scores]:
    """Draw groups with replacement: how often each group occurs in each resample.

    Args:
        n_groups: Number of groups G.
        n_resamples: Number of resamples B.
        seed: Fixes the draw, whatever the chunk.
        chunk: Resamples at a time.
    Yields:
        ``(G, chunk)`` whole numbers, each column of sum G; the last one may be narrower.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    for start in range(0, n_resamples, chunk):
        width = min(chunk, n_resamples - start)
        drawn = generator.integers(0, n_groups, (width, n_groups))
        cells = drawn + np.arange(width)[:, None] * n_groups
        flat = np.bincount(cells.ravel(), minlength=width * n_groups)
        yield np.ascontiguousarray(flat.reshape(width, n_groups).T, dtype=np.float64)


def bootstrap_values(sums: GroupSums, n_resamples: int, *, seed: int) -> Scores:
    """Compute the metric of each run in each resample of groups, the same resamples for all runs.

    Args:
        sums: Sums by run and group.
        n_resamples: Number of resamples B.
        seed: Fixes the draw.
    Returns:
        ``(R, B)``; NaN where a resample holds no true pixel of any class scored.
    """
    drawn = bootstrap_weights(sums.n_groups, n_resamples, seed=seed, chunk=sums.chunk())
    return np.concatenate([sums.score(sums.weighted(weights)) for weights in drawn], axis=-1)


def swap_weights(
    n_groups: int, n_resamples: int, *, seed: int | Sequence[int], chunk: int
) -> Iterator[NDArray[np.float64]]:
    """Choose the groups whose two matrices are swapped: all choices where they are few, else a draw.

    Args:
        n_groups: Number of groups G.
        n_resamples: Number of choices drawn, B.
        seed: Fixes the draw.
        chunk: Choices at a time.
    Yields:
        ``(G, chunk)`` of 0 (stays) and 1 (swapped). Where ``exact_swaps(G, B)``, each choice and its opposite, which
        has the same absolute difference, is yielded once.
    """
    if exact_swaps(n_groups, n_resamples):
        total = 1 << (n_groups - 1)
        for start in range(0, total, chunk):
            codes = np.arange(start, min(start + chunk, total))
            yield (codes >> np.arange(n_groups)[:, None] & 1).astype(np.float64)
        return
    generator = np.random.Generator(np.random.Philox(seed if isinstance(seed, int) else list(seed)))
    for start in range(0, n_resamples, chunk):
        width = min(chunk, n_resamples - start)
        yield generator.integers(0, 2, (width, n_groups)).astype(np.float64).T  # products take it as it lies


def exact_swaps(n_groups: int, n_resamples: int) -> bool:
    """Tell whether all 2^G choices are no more than the B that would be drawn."""
    return n_groups < 63 and 1 << n_groups <= n_resamples


def _trailing(metric: CountsMetric) -> CountsMetric:
    """Turn a metric of ``(..., K, K)`` into one of ``(K, K, ...)``."""

    def score(sums: Scores) -> Scores:
        return np.asarray(metric(np.moveaxis(sums, (0, 1), (-2, -1))))

    return score
