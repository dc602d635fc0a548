"""Calibration errors with intervals."""

import numpy as np
import pytest
from scipy import stats

from levelground.errors import ShapeError
from levelground.statistics.families import calibration_error


def histogram(
    n_scenes: int = 12, n_classes: int = 3, bins: int = 5, *, bias: float = 0.1, pixels: int = 400, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scenes of a model that is too sure by ``bias``."""
    rng = np.random.default_rng(seed)
    n, total, correct = (np.zeros((n_scenes, n_classes, bins)) for _ in range(3))
    for scene in range(n_scenes):
        sure = rng.uniform(0.4, 1.0, pixels)
        guess = rng.integers(0, n_classes, pixels)
        hit = rng.random(pixels) < sure - bias
        cell = guess, np.minimum((sure * bins).astype(int), bins - 1)
        np.add.at(n[scene], cell, 1)
        np.add.at(total[scene], cell, sure)
        np.add.at(correct[scene], cell, hit)
    return n.astype(np.int64), total, correct.astype(np.int64)


def slow_ece(n: np.ndarray, total: np.ndarray, correct: np.ndarray) -> float:
    """By the definition, from ``(scenes, bins)``."""
    pixels = n.sum()
    gaps = [
        n[:, b].sum() / pixels * abs(correct[:, b].sum() / n[:, b].sum() - total[:, b].sum() / n[:, b].sum())
        for b in range(n.shape[1])
        if n[:, b].sum()
    ]
    return float(sum(gaps))


def test_the_error_and_its_interval_agree_with_a_loop() -> None:
    """Plain and jackknife-corrected, t interval around the corrected one."""
    n, total, correct = histogram()
    scenes = [f"{number:02d}" for number in range(12)]
    pooled = [part.sum(axis=1) for part in (n, total, correct)]
    plain = slow_ece(*pooled)
    left_out = np.array([slow_ece(*(np.delete(part, scene, axis=0) for part in pooled)) for scene in range(12)])
    corrected = 12 * plain - 11 * left_out.mean()
    se = np.sqrt(11 / 12 * ((left_out - left_out.mean()) ** 2).sum())
    found = calibration_error(n, total, correct, scenes).overall
    assert found.plain == pytest.approx(plain, abs=1e-12)
    assert found.ece == pytest.approx(corrected, abs=1e-12)
    assert found.se == pytest.approx(se, abs=1e-12)
    assert found.interval == pytest.approx(stats.t.interval(0.95, 11, loc=corrected, scale=se), abs=1e-10)


def test_classes_are_those_predicted() -> None:
    """Each has its own error; one that was never predicted has none."""
    n, total, correct = histogram()
    for part in (n, total, correct):
        part[:, 2] = 0
    found = calibration_error(n, total, correct, [str(number) for number in range(12)])
    assert found.per_class[2] is None
    assert found.per_class[0] is not None
    assert found.per_class[0].plain == pytest.approx(slow_ece(n[:, 0], total[:, 0], correct[:, 0]), abs=1e-12)


def test_the_correction_takes_bias_away() -> None:
    """A perfectly calibrated model looks miscalibrated in small samples; a third of that goes at least."""
    plain, corrected = [], []
    for seed in range(60):
        found = calibration_error(*histogram(bias=0.0, pixels=60, seed=seed), [str(i) for i in range(12)]).overall
        plain.append(found.plain)
        corrected.append(found.ece)
    assert np.mean(corrected) < 0.67 * np.mean(plain)


def test_nothing_lies_below_zero() -> None:
    """Neither the corrected error nor the interval."""
    found = [
        calibration_error(*histogram(bias=0.0, pixels=60, seed=seed), [str(i) for i in range(12)]).overall
        for seed in range(30)
    ]
    assert min(one.ece for one in found) == 0
    assert min(one.interval[0] for one in found if one.interval) == 0


def test_one_group_has_the_plain_error_only() -> None:
    """No correction and no interval."""
    n, total, correct = histogram()
    found = calibration_error(n, total, correct, ["x"] * 12).overall
    assert (found.ece, found.se, found.interval) == (found.plain, None, None)


def test_bins_make_the_reliability_diagram() -> None:
    """Mean confidence, share of hits and pixels; an empty bin has pixels 0 and no shares."""
    n, total, correct = histogram()
    bins = calibration_error(n, total, correct, [str(number) for number in range(12)]).bins
    assert [one.n for one in bins] == n.sum(axis=(0, 1)).tolist()
    assert bins[0].n == 0
    assert np.isnan(bins[0].accuracy)
    assert bins[4].confidence == pytest.approx(total[..., 4].sum() / n[..., 4].sum())
    assert bins[4].accuracy == pytest.approx(correct[..., 4].sum() / n[..., 4].sum())


def test_a_run_without_confidences_has_no_error() -> None:
    """Such as a folder of predicted masks; NaN and no warning."""
    nothing = np.zeros((3, 2, 5), np.int64)
    found = calibration_error(nothing, nothing.astype(float), nothing, ["a", "b", "c"])
    assert np.isnan(found.overall.ece)
    assert found.overall.interval is None
    assert found.per_class == (None, None)


def test_unlike_shapes_are_refused() -> None:
    """A group for each scene."""
    n, total, correct = histogram()
    with pytest.raises(ShapeError, match=r"confidence counts are \(12, 3, 5\) for 2 scenes, expected \(S, K, B\)\.$"):
        calibration_error(n, total, correct, ["a", "b"])
