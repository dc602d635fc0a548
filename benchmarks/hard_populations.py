"""Populations on which intervals and verdicts are hard to get right, for ``benchmarks/coverage.py``.

Equal architectures with few seeds; scenes of very unlike size; a class in few groups on which the models differ; groups
that lie in a few regions with tastes of their own. As in ``benchmarks/populations.py`` the recall of a class is a
logistic function of normal effects, and missed pixels go to other classes by a fixed table. Letters: A architectures,
N groups of a population, G groups drawn, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from populations import COUNTED, EASE, METRIC, K

from levelground.comparison.caveats import RARE_GROUPS
from levelground.comparison.places import HEAVY_SHARE, MOST_REGIONS, map_regions, unlike_sizes
from levelground.metrics import Metric
from levelground.statistics import differences

N = 4000
PRESENCE = np.array([0.95, 0.9, 0.8, 0.9, 0.7, 0.7])
CLASS_5 = Metric("official.iou", "iou", "official", 5)

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], NDArray[np.int64]]


@dataclass(frozen=True)
class HardPair:
    """Two models on a population of groups, and how test sets are drawn from it.

    Attributes:
        counts: ``(2, N, K, K)``, whole numbers.
        metric: What is compared.
        truth: The difference that test sets estimate.
        draw: ``(generator, sets, G)`` to indices of groups ``(sets, G)``.
    """

    counts: Floats
    metric: Metric
    truth: float
    draw: Draw


def confusions(rng: np.random.Generator, area: Floats, logits: Floats, false_alarms: float = 1.0) -> Floats:
    """Make counts ``(..., N, K, K)`` of areas ``(N, K)`` and logits of recall ``(..., N, K)``.

    ``false_alarms`` weights the last class among those that take missed pixels.
    """
    recall = 1 / (1 + np.exp(-logits))
    table = rng.dirichlet(np.full(K, 1.5), K) * (1 - np.eye(K))
    table[:, -1] *= false_alarms
    table /= table.sum(axis=1, keepdims=True)
    counts = (area * (1 - recall))[..., None] * table
    counts[..., np.arange(K), np.arange(K)] = area * recall
    return np.rint(counts * 1e5)


def areas(rng: np.random.Generator, presence: Floats, sizes: Floats) -> Floats:
    """Draw the area of each class in each group, ``(N, K)``; each group has at least the first class."""
    present = rng.random((len(sizes), K)) < presence
    present[:, 0] |= ~present.any(axis=1)
    share = rng.gamma(1.0, 1.0, present.shape) * present + 1e-9 * present
    return np.asarray(share / share.sum(axis=1, keepdims=True) * sizes[:, None])


def two_models(
    rng: np.random.Generator,
    presence: Floats,
    sizes: Floats,
    gap: Floats,
    *,
    taste: float = 0.5,
    false_alarms: float = 1.0,
) -> Floats:
    """Make counts of two models, the second one ``gap`` logits behind by class."""
    base = np.stack([EASE, EASE - gap])[:, None]
    shared = rng.normal(0, 0.9, (1, len(sizes), K))
    logits = base + shared + rng.normal(0, taste, (2, len(sizes), K))
    return confusions(rng, areas(rng, presence, sizes), logits, false_alarms)


def log_normal(rng: np.random.Generator, sigma: float, n: int = N) -> Floats:
    """Draw sizes of mean 1."""
    return np.exp(rng.normal(-sigma * sigma / 2, sigma, n))


def anywhere(n: int) -> Draw:
    """Draw groups from the whole population."""
    return lambda rng, sets, groups: rng.integers(0, n, (sets, groups))


def hard_pair(law: str, groups: int, number: int = 0) -> HardPair:
    """Make a population of a law, whose name says which (``HARD`` in ``benchmarks/coverage.py``)."""
    rng = np.random.default_rng([sum(law.encode()), 3, number])
    metric = CLASS_5 if law.startswith("class") else METRIC
    draw = anywhere(N)
    if law == "equal":
        counts = two_models(rng, PRESENCE, np.ones(N), np.full(K, 0.3))
    elif law.startswith("log-normal"):
        counts = two_models(rng, PRESENCE, log_normal(rng, float(law.split()[1])), np.full(K, 0.3))
    elif law == "Pareto 1.1":
        counts = two_models(rng, PRESENCE, rng.pareto(1.1, N) + 1, np.full(K, 0.3))
    elif law == "one scene of 60 %":
        counts = two_models(rng, PRESENCE, np.where(np.arange(N) < N // 10, 1.5 * (groups - 1), 1.0), np.full(K, 0.3))
        draw = _one_heavy
        means = counts[:, : N // 10].mean(axis=1) + (groups - 1) * counts[:, N // 10 :].mean(axis=1)
        return HardPair(counts, metric, difference(means, metric), draw)
    elif law.startswith("rare"):
        presence = np.array([1, 0.95, 0.9, 0.9, 0.8, float(law.split()[1]) / 100])
        gap = np.where(np.arange(K) == K - 1, 2.0, 0.0)
        counts = two_models(rng, presence, log_normal(rng, 0.5), gap, taste=0.25, false_alarms=0.01)
    elif law.startswith("class"):
        presence = np.array([1, 0.95, 0.9, 0.9, 0.8, float(law.split()[2]) / groups])
        counts = two_models(rng, presence, log_normal(rng, 1.0), np.full(K, 0.8))
    else:
        return _regions(rng, int(law.split()[0]))
    return HardPair(counts, metric, difference(counts.sum(axis=1), metric), draw)


def difference(counts: Floats, metric: Metric) -> float:
    """Return the metric of the first model minus that of the second, of summed counts ``(2, K, K)``."""
    scores = metric.score(metric.sums(counts, COUNTED))
    return float(scores[0] - scores[1])


def _one_heavy(rng: np.random.Generator, sets: int, groups: int) -> NDArray[np.int64]:
    """Draw test sets with exactly one heavy scene each."""
    drawn = rng.integers(N // 10, N, (sets, groups))
    drawn[:, 0] = rng.integers(0, N // 10, sets)
    return drawn


KNOWN_REGIONS, PER_REGION = 300, 40


def region_counts(rng: np.random.Generator, taste: float) -> Floats:
    """Make counts of two models in groups of 300 regions; a model's taste for a region is all its groups'."""
    n = KNOWN_REGIONS * PER_REGION
    region = np.repeat(np.arange(KNOWN_REGIONS), PER_REGION)
    logits = np.stack([EASE, EASE - 0.1])[:, None] + rng.normal(0, 0.9, (1, n, K))
    logits = logits + rng.normal(0, taste, (2, KNOWN_REGIONS, K))[:, region] + rng.normal(0, 0.4, (2, n, K))
    return confusions(rng, areas(rng, PRESENCE, np.ones(n)), logits)


def _regions(rng: np.random.Generator, n_regions: int) -> HardPair:
    """Groups of a few regions; each model has a taste for regions that all groups of one share."""
    counts, known, per = region_counts(rng, 0.4), KNOWN_REGIONS, PER_REGION

    def draw(generator: np.random.Generator, sets: int, groups: int) -> NDArray[np.int64]:
        chosen = generator.integers(0, known, (sets, n_regions))[:, np.arange(groups) % n_regions]
        return np.asarray(chosen * per + generator.integers(0, per, (sets, groups)))

    return HardPair(counts, METRIC, difference(counts.sum(axis=1), METRIC), draw)


SEED_SCATTER, RUN_NOISE = 0.06, 0.3


class Family:
    """Equal architectures with a few seeds each, of which one may be better.

    Args:
        n_archs: A.
        n_seeds: Seeds of each.
        unlike: How many times the architecture that scatters most over seeds does so more than the one that does least.
        lead: By how many logits the first one is better.
    """

    def __init__(self, n_archs: int, n_seeds: int, *, unlike: float = 1.0, lead: float = 0.0) -> None:
        rng = np.random.default_rng(2)
        self.names = [f"arch {number // n_seeds:02d}" for number in range(n_archs * n_seeds)]
        spread = np.linspace(1, unlike, n_archs)
        self._scatter = np.repeat(SEED_SCATTER * spread / np.sqrt((spread**2).mean()), n_seeds)
        self._lead = np.repeat(np.where(np.arange(n_archs) == 0, lead, 0.0), n_seeds)
        self._area = areas(rng, np.ones(K), np.ones(N))
        self._group = EASE + rng.normal(0, 0.7, (N, K))

    def draw(self, rng: np.random.Generator, groups: int) -> Floats:
        """Draw a study's counts, ``(A · seeds, G, K, K)``."""
        ids, runs = rng.integers(0, N, groups), len(self.names)
        logits = self._group[ids] + (self._lead + rng.normal(0, 1, runs) * self._scatter)[:, None, None]
        logits = logits + rng.normal(0, RUN_NOISE, (runs, groups, K))
        return confusions(np.random.default_rng(4), self._area[ids], logits)


def coverage_by_presence(law: str, groups: int, *, populations: int = 10, sets: int = 50) -> dict[str, list[float]]:
    """Split coverage by the groups that hold the rarest class, as the warnings of the page do.

    Returns:
        For ``absent`` and ``1 to 7 groups`` (both are warned of) and ``8 or more`` (silent) the share of the test sets,
        the coverage of the difference of mIoU, and that of the class; NaN where it has no interval.
    """
    found: dict[str, list[tuple[bool, float]]] = {}
    for number in range(populations):
        pair, rng = hard_pair(law, groups, number), np.random.default_rng([number, 5, groups])
        drawn = pair.counts[:, pair.draw(rng, sets, groups)]
        of_class, held = hard_intervals(drawn, CLASS_5)
        truths = [difference(pair.counts.sum(axis=1), metric) for metric in (METRIC, CLASS_5)]
        for mean, own, holders in zip(_covered(drawn, truths[0]), of_class, held, strict=True):
            kind = "absent" if not holders else f"1 to {RARE_GROUPS - 1} groups"
            kind = f"{RARE_GROUPS} or more" if holders >= RARE_GROUPS else kind
            found.setdefault(kind, []).append((mean, np.nan if own is None else own[0] <= truths[1] <= own[1]))
    total = populations * sets
    return {
        kind: [len(rows) / total, float(np.mean([row[0] for row in rows])), _known_mean([row[1] for row in rows])]
        for kind, rows in sorted(found.items())
    }


def _known_mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


SIZES = ("equal", "log-normal 0.5", "log-normal 1.3", "log-normal 2.5", "Pareto 1.1", "one scene of 60 %")


def hard_intervals(
    drawn: Floats, metric: Metric = METRIC, names: list[str] | None = None
) -> tuple[list[tuple[float, float] | None], list[int]]:
    """Compute intervals of Δ of test sets, and in how many scenes of each the last class lies.

    Args:
        drawn: Counts of two models, ``(2, sets, G, K, K)``.
        metric: What is compared.
        names: The group of each of the G scenes; by default each is its own.
    """
    sets, groups = drawn.shape[1:3]
    names = names or [f"{number:03d}" for number in range(groups)]
    held = (drawn[0, :, :, -1].sum(axis=-1) > 0).sum(axis=-1).tolist()
    if metric is CLASS_5:  # the number of groups that hold the class differs by test set: one call each
        one_by_one = [differences(drawn[:, number], names, metric, COUNTED)[0] for number in range(sets)]
        return [one.interval for one in one_by_one], held
    counts = np.ascontiguousarray(drawn.swapaxes(0, 1).reshape(2 * sets, groups, K, K))
    pairs = [(2 * number, 2 * number + 1) for number in range(sets)]
    return [one.interval for one in differences(counts, names, metric, COUNTED, pairs=pairs)], held


def coverage_by_sizes(law: str, groups: int, *, populations: int = 60, sets: int = 50) -> tuple[float, float, float]:
    """Return how often the page warns of sizes, and the coverage of Δ in studies with the warning and without."""
    warned: list[bool] = []
    held: list[bool] = []
    for number in range(populations):
        pair, rng = hard_pair(law, groups, number), np.random.default_rng([number, groups, sum(law.encode())])
        drawn = pair.counts[:, pair.draw(rng, sets, groups)]
        warned += [warns_of_sizes(row.tolist()) for row in drawn[0].sum(axis=(-1, -2))]
        held += _covered(drawn, pair.truth)
    return _split(warned, held)


def warns_of_sizes(pixels: list[float]) -> bool:
    """Tell whether the page warns of groups of these sizes."""
    heavy = max(pixels) > HEAVY_SHARE * sum(pixels)
    return heavy or unlike_sizes(pixels)


def coverage_by_regions(n_regions: int, groups: int, taste: float, *, sets: int = 300) -> tuple[float, ...]:
    """Return how often the page warns of regions, the coverage of Δ with and without, and with regions as groups.

    Scenes of a region lie within 10 km in a square of 800 km; ``n_regions`` = 0 spreads them over the square.
    """
    rng = np.random.default_rng([n_regions, groups, round(100 * taste)])
    counts = region_counts(rng, taste)
    truth = difference(counts.sum(axis=1), METRIC)
    count = n_regions or groups
    region = np.arange(groups) % count
    chosen = rng.integers(0, KNOWN_REGIONS, (sets, count))[:, region]
    drawn = counts[:, chosen * PER_REGION + rng.integers(0, PER_REGION, (sets, groups))]
    warned = []
    for _ in range(sets):
        centres, spread = rng.uniform((3, 45), (13, 52), (count, 2)), rng.uniform(-0.05, 0.05, (groups, 2))
        found = len(set(map_regions(centres[region] + spread)[0].tolist()))
        warned.append(1 < found <= min(MOST_REGIONS, (groups - 1) // 2))
    by_region = _covered(drawn, truth, [f"{number:03d}" for number in region])
    return *_split(warned, _covered(drawn, truth)), float(np.mean(by_region))


def _covered(drawn: Floats, truth: float, groups: list[str] | None = None) -> list[bool]:
    """Tell for each test set ``(2, sets, G, K, K)`` whether the interval of Δ holds the truth."""
    found = hard_intervals(drawn, METRIC, groups)[0]
    return [ends is not None and ends[0] <= truth <= ends[1] for ends in found]


def _split(warned: list[bool], held: list[bool]) -> tuple[float, float, float]:
    """Return the share warned, and the share held where it is warned and where it is not; NaN without any."""
    told, covered = np.array(warned), np.array(held)
    parts = [float(covered[chosen].mean()) if chosen.any() else np.nan for chosen in (told, ~told)]
    return float(told.mean()), parts[0], parts[1]


def main() -> None:
    """Print how often the page warns in each population, and what intervals cover with the warning and without."""
    for law in ("rare 2.5", "rare 4", "rare 10", "class in 4", "class in 8", "class in 12", "class in 20"):
        for number in (40, 81):
            rates = coverage_by_presence(law, number).items()
            texts = [f"{kind}: {share:.2f}, mIoU {mean:.3f}, class {own:.3f}" for kind, (share, mean, own) in rates]
            print(f"{law}{' %' * law.startswith('rare')}, {number} groups: {'; '.join(texts)}", flush=True)
    for law in SIZES:
        for number in (20, 40, 81, 142):
            share, with_it, without = coverage_by_sizes(law, number)
            print(
                f"sizes {law}, {number} groups: warned in {share:.2f}, covered {with_it:.3f}; silent {without:.3f}",
                flush=True,
            )
    for regions, taste in [(n, 0.4) for n in (3, 5, 10, 20, 0)] + [(3, 0.0), (0, 0.0)]:
        share, with_it, without, by_region = coverage_by_regions(regions, 81, taste)
        where = f"{regions} regions" if regions else "places all over"
        print(
            f"81 groups in {where}, taste {taste}: warned in {share:.2f}, covered {with_it:.3f}; silent {without:.3f}; "
            f"regions as groups {by_region:.3f}"
        )


if __name__ == "__main__":
    main()
