"""Scores from counts, against loops, scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score
from torchmetrics.functional.classification import multiclass_jaccard_index

from levelground.errors import ConfigError, ShapeError
from levelground.metrics.counts import count_confusion
from levelground.metrics.scores import (
    boundary_iou,
    class_f1,
    class_iou,
    margins,
    mf1,
    miou,
    pixel_accuracy,
    precision,
    recall,
    scorings,
)

ALL = np.ones(4, bool)
LAST_OUT = np.array([True, True, True, False])


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels, all four classes in both."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (40, 40)).astype(np.uint8)
    preds = np.where(rng.random((40, 40)) < 0.7, labels, rng.integers(0, 4, (40, 40))).astype(np.uint8)
    return preds, labels


def slow_iou(preds: np.ndarray, labels: np.ndarray, counted: np.ndarray, scoring: str) -> list[float]:
    """IoU of each class straight from pixels, by the words of the definition."""
    scores = []
    if scoring == "official":
        keep = counted[labels]
        preds, labels = preds[keep], labels[keep]
    for k in range(counted.size):
        union = ((preds == k) | (labels == k)).sum()
        inside = (counted[k] or scoring == "all") and (labels == k).any()
        scores.append(float(((preds == k) & (labels == k)).sum() / union) if inside else float("nan"))
    return scores


@pytest.mark.parametrize("scoring", ["official", "kept", "all"])
def test_iou_and_its_mean_agree_with_pixels(scoring: str) -> None:
    """The three scorings are views on one matrix."""
    preds, labels = maps()
    counts = count_confusion(preds, labels, n_classes=4)
    expected = slow_iou(preds, labels, LAST_OUT, scoring)
    np.testing.assert_allclose(class_iou(counts, LAST_OUT, scoring), expected, rtol=0, atol=1e-12)
    assert float(miou(counts, LAST_OUT, scoring)) == pytest.approx(np.nanmean(expected), abs=1e-12)


def test_scores_agree_with_scikit_learn_where_every_class_occurs() -> None:
    """IoU, F1, precision, recall and accuracy mean the same there."""
    preds, labels = (array.ravel() for array in maps())
    counts = count_confusion(*maps(), n_classes=4)
    for ours, theirs in (
        (class_iou, jaccard_score),
        (class_f1, f1_score),
        (precision, precision_score),
        (recall, recall_score),
    ):
        np.testing.assert_allclose(ours(counts, ALL), theirs(labels, preds, average=None), rtol=0, atol=1e-12)
    assert float(miou(counts, ALL)) == pytest.approx(jaccard_score(labels, preds, average="macro"), abs=1e-12)
    assert float(mf1(counts, ALL)) == pytest.approx(f1_score(labels, preds, average="macro"), abs=1e-12)
    assert float(pixel_accuracy(counts, ALL)) == pytest.approx(accuracy_score(labels, preds), abs=1e-12)


def test_miou_agrees_with_torchmetrics_where_every_class_occurs() -> None:
    """Its macro Jaccard index is mIoU; it computes in float32."""
    preds, labels = (torch.from_numpy(array.astype(np.int64)) for array in maps())
    expected = multiclass_jaccard_index(preds, labels, num_classes=4)
    assert float(miou(count_confusion(*maps(), n_classes=4), ALL)) == pytest.approx(float(expected), abs=1e-6)


def test_scikit_learn_and_torchmetrics_differ_for_absent_classes() -> None:
    """A class that is predicted but never true is 0 for both of them and no score here.

    Class 2 has no true pixel and one false alarm, class 3 occurs nowhere. scikit-learn with all labels counts both as
    0, torchmetrics counts class 2 as 0 and leaves class 3 out; here both are left out of the mean, and the false alarm
    lowers the IoU of class 1 alone, whose pixel it is.
    """
    labels, preds = np.uint8([[0, 0, 1, 1]]), np.uint8([[0, 0, 1, 2]])
    counts = count_confusion(preds, labels, n_classes=4)
    np.testing.assert_array_equal([1.0, 0.5, np.nan, np.nan], class_iou(counts, ALL))
    assert float(miou(counts, ALL)) == 0.75
    sklearn = jaccard_score(labels[0], preds[0], labels=range(4), average="macro", zero_division=0)
    assert sklearn == 1.5 / 4
    tensors = (torch.from_numpy(array.astype(np.int64)) for array in (preds, labels))
    assert float(multiclass_jaccard_index(*tensors, num_classes=4)) == 1.5 / 3


def test_smp_differs_for_absent_classes_the_other_way() -> None:
    """SMP scores a class that occurs in neither map 1 and one that was only predicted 0, both in the mean."""
    import segmentation_models_pytorch as smp

    labels, preds = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 1, 2]])
    stats = smp.metrics.get_stats(preds, labels, mode="multiclass", num_classes=4)
    assert float(smp.metrics.iou_score(*stats, reduction="macro")) == (1 + 0.5 + 0 + 1) / 4
    assert jaccard_score(labels[0], preds[0], average="macro", zero_division=0) == (1 + 0.5 + 0) / 3


def test_a_class_never_predicted_scores_zero_but_has_no_precision() -> None:
    """scikit-learn says precision 0 with a warning; 0 of 0 is no number here."""
    counts = np.array([[4, 0], [2, 0]])
    both = np.ones(2, bool)
    assert class_iou(counts, both).tolist() == [4 / 6, 0.0]
    assert np.isnan(precision(counts, both)[1])
    assert recall(counts, both)[1] == 0


def test_the_origin_studys_seventh_class_shows() -> None:
    """Unknown is never predicted: it costs a seventh of ``all`` and nothing of ``official``."""
    counts = np.diag([5, 5, 5, 0])
    counts[3, 0] = 1
    assert float(miou(counts, LAST_OUT, "all")) == pytest.approx((5 / 6 + 1 + 1 + 0) / 4)
    assert float(miou(counts, LAST_OUT, "official")) == 1
    assert float(miou(counts, LAST_OUT, "kept")) == pytest.approx((5 / 6 + 1 + 1) / 3)


def test_accuracy_counts_the_pixels_that_enter_an_iou() -> None:
    """Official: true counted pixels; kept: unknown pixels only where taken for a counted class; all: all."""
    counts = np.array([[6, 1, 1], [0, 4, 0], [3, 0, 5]])
    counted = np.array([True, True, False])
    assert float(pixel_accuracy(counts, counted, "official")) == 10 / 12
    assert float(pixel_accuracy(counts, counted, "kept")) == 10 / 15
    assert float(pixel_accuracy(counts, counted, "all")) == 15 / 20


def test_leading_axes_are_kept() -> None:
    """Scenes, runs and resamples are scored at once and each as alone."""
    counts = np.random.default_rng(1).integers(0, 99, (3, 5, 4, 4))
    for metric in (miou, mf1, pixel_accuracy, class_iou, class_f1, precision, recall):
        every = metric(counts, LAST_OUT, "kept")
        assert every.shape[:2] == (3, 5)
        np.testing.assert_array_equal(metric(counts[2, 4], LAST_OUT, "kept"), every[2, 4])


def test_counts_of_nothing_have_no_score() -> None:
    """NaN and no warning."""
    nothing = np.zeros((4, 4), np.int64)
    assert all(np.isnan(metric(nothing, ALL)) for metric in (miou, mf1, pixel_accuracy))


def test_boundary_iou_is_intersection_over_union_of_boundaries() -> None:
    """A class without a true boundary has none."""
    np.testing.assert_array_equal([3 / 7, np.nan], boundary_iou(np.array([[3, 5, 5], [0, 4, 0]])))
    with pytest.raises(ShapeError, match=r"^boundary counts are \(2, 2\), expected \(\.\.\., K, 3\) as bound"):
        boundary_iou(np.ones((2, 2)))


def test_scorings_are_one_where_every_class_counts() -> None:
    """There official, kept and all are the same, so only one is shown."""
    counts = np.random.default_rng(2).integers(0, 99, (4, 4))
    assert scorings(ALL) == ("official",)
    assert len({float(miou(counts, ALL, scoring)) for scoring in ("official", "kept", "all")}) == 1
    assert scorings(LAST_OUT) == ("official", "kept", "all")


def test_counts_of_another_legend_are_refused() -> None:
    """K of the counts is K of the legend."""
    text = r"^counts are \(3, 3\), expected \(\.\.\., 4, 4\) for a legend of 4 classes\. Give the counts and the legend"
    with pytest.raises(ShapeError, match=text):
        miou(np.ones((3, 3)), ALL)
    with pytest.raises(ConfigError, match=r"^scoring is 'challenge', expected one of official, kept, all"):
        margins(np.ones((4, 4)), ALL, "challenge")  # type: ignore[arg-type]
