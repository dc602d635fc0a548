"""What is said of one run: learning from its history, speed from its counts, calibration from its confidences."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.runs import LEGEND, build_run, noisy_counts, scene_counts

from levelground.comparison.inputs import gather
from levelground.comparison.results import Convergence
from levelground.comparison.summaries import (
    calibration,
    convergence,
    mean_loss,
    pareto_front,
    scene_scores,
    sensitivity_rows,
    stack_counts,
    throughput,
)
from levelground.history import HistoryLine, append_history
from levelground.metrics.named import parse_metric
from levelground.runs import Run

COUNTS = noisy_counts(4, 0.2, seed=1)


def with_history(study: Path, *lines: dict[str, Any]) -> Run:
    """A run with these validation lines."""
    run = build_run(study, "unet-s0", COUNTS)
    append_history(run.folder, [HistoryLine(kind="val", **line) for line in lines])
    return run


def test_learning_takes_the_first_line_that_reaches_the_share(tmp_path: Path) -> None:
    """A score that falls again later was reached all the same; lines without a score are passed over."""
    run = with_history(
        tmp_path,
        {"step": 5, "val_miou": 0.2},
        {"step": 10, "epoch": 1.0, "val_miou": 0.58, "time_s": 4.0},
        {"step": 15, "val_miou": None},
        {"step": 20, "val_miou": 0.4},
        {"step": 25, "val_miou": 0.6},
    )
    found = convergence(run)
    assert found is not None and found.last_gain == pytest.approx(0.6 - 0.4)
    assert found == Convergence(
        metric="val_miou",
        share=0.95,
        best=0.6,
        points=4,
        best_is_last=True,
        step=10,
        epoch=1.0,
        time_s=4.0,
        last_gain=found.last_gain,
    )


def test_the_origins_history_is_read_under_its_own_metric(tmp_path: Path) -> None:
    """Adopted histories hold the mean of image IoUs: another figure, named as such."""
    found = convergence(with_history(tmp_path, {"step": 5, "epoch": 1, "val_image_iou": 0.71}))
    assert found is not None
    assert (found.metric, found.best_is_last) == ("val_image_iou", False)


def test_no_history_is_no_convergence(tmp_path: Path) -> None:
    """Nothing is made up for a run without validation lines."""
    run = build_run(tmp_path, "unet-s0", COUNTS)
    append_history(run.folder, [HistoryLine(kind="step", step=1, train_loss=2.0)])
    assert convergence(run) is None


def test_throughput_is_the_ratio_of_sums_with_an_interval_over_groups(tmp_path: Path) -> None:
    """24 megapixels in 1 + 2 + 3 + 4 seconds; without measured seconds the card's figure stands."""
    run = build_run(tmp_path, "unet-s0", COUNTS, card={"speed": {"infer_megapixels_per_s": 7.5}})
    counts = scene_counts(COUNTS)
    object.__setattr__(counts, "forward_s", np.array([1.0, 2.0, 3.0, 4.0]))
    found = throughput(run, counts)
    assert found.predict_megapixels_per_s == pytest.approx(2.4)
    low, high = found.interval
    assert 0 <= low < 2.4 < high
    object.__setattr__(counts, "forward_s", np.zeros(4))
    assert throughput(run, counts).predict_megapixels_per_s == 7.5
    one = scene_counts(COUNTS, groups=["east"] * 4)
    assert throughput(run, one).interval is None


def test_the_mean_loss_is_per_pixel_and_may_be_missing() -> None:
    """Σ loss over Σ pixels, not a mean of scenes."""
    counts = scene_counts(COUNTS)
    object.__setattr__(counts, "loss_sum", np.array([1.0, 0.0, 0.0, 0.0]) * counts.loss_pixels)
    assert mean_loss(counts) == pytest.approx(counts.loss_pixels[0] / counts.loss_pixels.sum())
    object.__setattr__(counts, "loss_pixels", counts.loss_pixels * 0)
    assert mean_loss(counts) is None


def test_calibration_is_a_gap_of_confidence_and_hits() -> None:
    """Confidence .85 in one bin and about 80 % right: the gap is their difference."""
    counts = scene_counts(COUNTS)
    block = calibration(counts)
    assert block is not None
    right = counts.conf_correct.sum() / counts.conf_n.sum()
    assert block.uncorrected == pytest.approx(abs(0.85 - right))
    assert sum(entry.n for entry in block.bins) == counts.conf_n.sum()
    assert block.per_class[2] is None


def test_boundaries_need_one_distance(tmp_path: Path) -> None:
    """Boundary counts at unlike distances do not compare: the block is left out for all."""
    far = scene_counts(COUNTS)
    object.__setattr__(far, "boundary_px", 9)
    runs = [build_run(tmp_path, "unet-s0", COUNTS), build_run(tmp_path, "fpn-s0", far, arch="fpn")]
    evaluated = gather(runs, "test")
    stacked = stack_counts(evaluated, LEGEND.counted)
    assert stacked.boundary is None
    primary = parse_metric("official.miou", LEGEND.names, LEGEND.counted)
    rows = sensitivity_rows(evaluated, stacked, LEGEND.names, primary)
    assert "boundary.miou" not in {row.metric for row in rows}
    alike = stack_counts(evaluated[:1] * 2, LEGEND.counted)
    assert alike.boundary is not None
    assert alike.boundary.shape == (2, 4, 3, 3)


def test_scene_scores_have_a_gap_where_a_scene_has_no_true_pixel() -> None:
    """A scene of unknown pixels only has no score of its own."""
    counts = COUNTS.copy()
    counts[1, :2] = 0
    scores = scene_scores(scene_counts(counts), LEGEND.counted)
    assert np.isnan(scores).tolist() == [False, True, False, False]


def test_the_front_keeps_equals() -> None:
    """Two runs with the same score and speed both stand; one that is only slower does not."""
    assert pareto_front([("a", 0.5, 3.0), ("b", 0.5, 3.0), ("c", 0.5, 2.0), ("d", None, 9.0)]) == ("a", "b")
