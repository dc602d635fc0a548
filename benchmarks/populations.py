"""Populations of groups of scenes whose true scores are known exactly, for ``benchmarks/coverage.py``.

Letters: A = 2 architectures, Z trainings of each, N groups, U units of a group, K classes.

The recall of class k is a logistic function of a class's ease + the group's difficulty + the architecture's gift for
the class + the architecture's taste for the group + the training's luck with the class + its luck with the group +
noise of the unit; missed pixels go to other classes by a fixed table. So groups, architectures, trainings and all their
interactions vary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from levelground.metrics import miou, parse_metric
from levelground.metrics.counts import BINS

K = 6
COUNTED = np.ones(K, bool)
METRIC = parse_metric("official.miou", [f"class {k}" for k in range(K)], COUNTED)

GROUPS, TRAININGS = 3000, 24  # size of the finite populations
SCENES, TILES = 8, 16  # most scenes of a group; tiles of a scene
EASE = np.array([1.8, 0.6, 0.0, 1.2, 0.8, 0.2])
DIFFICULTY, GIFT, TASTE, LUCK, GROUP_LUCK, NOISE = 0.9, 0.15, 0.5, 0.12, 0.3, 0.6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One setting: what is asked, in which population, of how many test sets."""

    question: str
    law: str
    groups: int
    grouped: bool = False
    seeds: int = 1
    delta: float = 0.0
    archs: int = 0
    unlike: float = 1.0
    sets: int = 2000
    resamples: int = 499
    number: int = 0

    def label(self) -> str:
        """The setting in words."""
        if self.archs:
            scatter = f", scatter {self.unlike:.0f} ×" if self.unlike != 1 else ""
            return f"{self.question}, {self.archs} × {self.seeds} seeds, {self.groups} groups{scatter}"
        kind = {
            "weights": ", 1–8 scenes each" if self.grouped else ", one scene each",
            "power": f", Δ = {self.delta}",
            "calibration": f", too sure by {self.delta}",
        }
        seeds = f", {self.seeds} seed{'s' * (self.seeds > 1)} a side" if self.question.startswith("arch") else ""
        law = f", {self.law}" * bool(self.law)
        return f"{self.question}{law}, {self.groups} groups{kind.get(self.question, '')}{seeds}"


class Population:
    """Counts of each training in each group: ``units (A, Z, N, U, K, K)``, ``groups (A, Z, N, K, K)``.

    ``scores (A, Z)`` are the true mIoU. In ``twins`` and ``power`` trainings differ by the luck of groups alone, so
    two of them are exchangeable but for Δ; ``seed twins`` and ``architecture twins`` are two trainings, or two sets of
    the same trainings, of one architecture.
    """

    def __init__(self, cell: Cell) -> None:
        rng = np.random.Generator(np.random.Philox([cell.number, 7]))
        n_trainings = 1 if cell.question in ("weights", "twins", "power") else TRAININGS
        n_units = 1 if cell.question != "weights" else SCENES if cell.grouped else TILES
        area = _areas(rng, cell.law)
        self._area = _divide(rng, area, n_units, grouped=cell.grouped)
        table = rng.dirichlet(np.full(K, 1.5), K) * (1 - np.eye(K))
        self._wrong = table / table.sum(axis=1, keepdims=True)
        same = cell.question.endswith("twins") or cell.question == "power"
        one = cell.question in ("seed twins", "architecture twins")
        fixed = cell.question in ("twins", "power")
        logits = (EASE + rng.normal(0, DIFFICULTY, (GROUPS, K)))[None, None, :, None]
        logits = logits + rng.normal(0, GIFT * (not same), (2, 1, 1, 1, K))
        logits = logits + rng.normal(0, TASTE, (1 if one else 2, 1, GROUPS, 1, K))
        spread = LUCK * np.array([1.0, 1.0 if same else 1.5]) * (not fixed)  # seeds may matter more to one side
        logits = logits + rng.normal(0, 1, (2, n_trainings, 1, 1, K)) * spread[:, None, None, None, None]
        logits = logits + rng.normal(0, GROUP_LUCK, (2, n_trainings, GROUPS, 1, K))
        self._logits = logits + rng.normal(0, NOISE * (n_units > 1), (2, 1, GROUPS, n_units, K))
        shift = self._shift_for(cell.delta) if cell.delta else 0.0
        self.units = self._counts(shift)
        self.groups = self.units.sum(axis=3)
        if cell.question == "architecture twins":
            self.groups = self.groups[[0, 0]]
        self.scores = miou(self.groups.sum(axis=2), COUNTED)
        self.n_groups, self.n_trainings = GROUPS, n_trainings

    def _counts(self, shift: float) -> NDArray[np.int64]:
        """Counts where the first side's logits are better by ``shift``."""
        recall = 1 / (1 + np.exp(-(self._logits + np.array([shift, 0.0])[:, None, None, None, None])))
        found = self._area * recall
        counts = (self._area - found)[..., None] * self._wrong
        counts[..., np.arange(K), np.arange(K)] = found
        return np.rint(counts * 1e6).astype(np.int64)

    def _shift_for(self, delta: float) -> float:
        """How much better logits make the true difference ``delta``; within 1e-4."""
        low, high = -1.0, 2.0
        for _ in range(16):
            middle = (low + high) / 2
            scores = miou(self._counts(middle).sum(axis=(2, 3)), COUNTED)[:, 0]
            low, high = (middle, high) if scores[0] - scores[1] < delta else (low, middle)
        return (low + high) / 2


def _areas(rng: np.random.Generator, law: str) -> Floats:
    """Share of each class in each group, ``(N, K)``."""
    if law == "mild":
        return rng.dirichlet([6, 3, 3, 3, 2, 2], GROUPS)
    seen = np.array([0.95, 0.6, 0.5, 0.45, 0.03 if law == "rare" else 0.25, 0.3])
    present = rng.random((GROUPS, K)) < seen
    area = present * np.array([6, 1, 1, 1.2, 0.35, 0.9]) * np.exp(rng.normal(0, 1.3, (GROUPS, K)))
    area[:, 0] += 1e-3
    return np.asarray(area / area.sum(axis=1, keepdims=True))


def _divide(rng: np.random.Generator, area: Floats, n_units: int, *, grouped: bool) -> Floats:
    """Areas of units, ``(N, U, K)``: a scene's area divided among tiles, or up to U scenes of one area each."""
    if n_units == 1:
        return area[:, None]
    share = rng.gamma(1.0, 1.0, (GROUPS, n_units, K))
    if not grouped:
        return np.asarray(area[:, None] * share / share.sum(axis=1, keepdims=True))
    size = rng.integers(1, n_units + 1, GROUPS)
    scenes = area[:, None] * share * (np.arange(n_units) < size[:, None])[..., None]
    whole = scenes.sum(axis=2, keepdims=True)
    return np.asarray(np.divide(scenes, whole, out=np.zeros_like(scenes), where=whole > 0))


def reliability(rng: np.random.Generator, gap: float) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], float]:
    """Confidence counts of a population of groups, ``(N, 1, bins)`` each, and its true expected calibration error.

    Groups differ in how sure the model is and in how right it is when it is so; on the whole it is too sure by up to
    ``gap``.
    """
    sure = (np.arange(BINS) + 0.5) / BINS
    n = np.rint(rng.dirichlet(np.linspace(0.2, 3, BINS), GROUPS) * 1e6).astype(np.int64)
    right = sure - gap * np.sin(np.pi * sure) + rng.normal(0, 0.15, (GROUPS, 1)) + rng.normal(0, 0.15, (GROUPS, BINS))
    correct = np.rint(n * np.clip(right, 0, 1)).astype(np.int64)
    truth = float(np.abs(correct.sum(axis=0) - (n * sure).sum(axis=0)).sum() / n.sum())
    return n[:, None], (n * sure)[:, None], correct[:, None], truth
