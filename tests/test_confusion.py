"""Confusion counts and confidence histograms."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torchmetrics.functional.classification import multiclass_calibration_error

from levelground.errors import ClassIndexError, LevelgroundError, ShapeError
from levelground.metrics.counts import BINS, confidence_counts, count_confusion


def two_maps(shape: tuple[int, int] = (61, 47), n_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels with ignored pixels."""
    rng = np.random.default_rng(3)
    preds = rng.integers(0, n_classes, shape).astype(np.uint8)
    labels = np.where(rng.random(shape) < 0.6, preds, rng.integers(0, n_classes, shape)).astype(np.uint8)
    labels[rng.random(shape) < 0.1] = 255
    return preds, labels


def test_counts_agree_with_scikit_learn() -> None:
    """Rows are true, columns predicted classes, ignored pixels are left out."""
    preds, labels = two_maps()
    valid = labels != 255
    expected = confusion_matrix(labels[valid], preds[valid], labels=range(5))
    actual = count_confusion(preds, labels, n_classes=5, ignore=255)
    assert actual.dtype == np.int64
    assert np.array_equal(expected, actual)


def test_a_map_larger_than_one_chunk_is_counted_whole() -> None:
    """Pixels beyond the first chunk count too."""
    preds, labels = two_maps((700, 800))
    counts = count_confusion(preds, labels, n_classes=5, ignore=255)
    assert counts.sum() == (labels != 255).sum()
    assert counts.trace() == (labels == preds).sum()


def test_views_are_counted_as_their_copies() -> None:
    """Windows of larger maps need not be contiguous."""
    preds, labels = two_maps()
    expected = count_confusion(preds[::2, 3:].copy(), labels[::2, 3:].copy(), n_classes=5, ignore=255)
    assert np.array_equal(expected, count_confusion(preds[::2, 3:], labels[::2, 3:], n_classes=5, ignore=255))


def test_an_empty_map_counts_nothing() -> None:
    """A window without pixels is no error."""
    nothing = np.zeros((0, 4), np.uint8)
    assert np.array_equal(np.zeros((3, 3), np.int64), count_confusion(nothing, nothing, n_classes=3))


def test_255_classes_are_counted() -> None:
    """The largest legend fits, and its ignored value stays apart."""
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    preds = np.where(labels == 255, 0, labels).astype(np.uint8)
    assert np.array_equal(np.eye(255, dtype=np.int64), count_confusion(preds, labels, n_classes=255, ignore=255))


def test_a_label_outside_the_legend_is_named() -> None:
    """Nothing is dropped silently."""
    with pytest.raises(ClassIndexError, match=r"^labels hold class 7 at 2 pixels, expected 0 to 4 \(or 255 in labels"):
        count_confusion(np.uint8([[0, 1, 2]]), np.uint8([[7, 7, 255]]), n_classes=5, ignore=255)


def test_a_prediction_outside_the_legend_is_named() -> None:
    """Outputs must be mapped to the legend's classes first."""
    text = r"^preds hold class 5 at 1 pixels, expected 0 to 4\. Check the legend, or map the outputs to its classes\.$"
    with pytest.raises(ClassIndexError, match=text):
        count_confusion(np.uint8([[5, 1]]), np.uint8([[0, 0]]), n_classes=5)


def test_a_prediction_at_an_ignored_pixel_may_be_anything() -> None:
    """Only counted pixels are checked."""
    counts = count_confusion(np.uint8([[200, 1]]), np.uint8([[255, 1]]), n_classes=2, ignore=255)
    assert counts.tolist() == [[0, 0], [0, 1]]


def test_255_counts_as_a_class_outside_unless_it_is_ignored() -> None:
    """Without ``ignore`` every pixel counts."""
    with pytest.raises(ClassIndexError, match="labels hold class 255 at 1 pixels"):
        count_confusion(np.uint8([[0]]), np.uint8([[255]]), n_classes=2)


def test_unlike_shapes_are_refused() -> None:
    """A prediction of another size was resized or cropped by mistake."""
    with pytest.raises(ShapeError, match=r"^preds are \(2, 3\), labels are \(3, 2\); both must be \(H, W\)"):
        count_confusion(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), n_classes=2)


def test_other_types_are_refused() -> None:
    """Class indices are uint8 everywhere."""
    with pytest.raises(ClassIndexError, match="preds have type int64, expected uint8 class indices"):
        count_confusion(np.zeros((2, 3), np.int64), np.zeros((2, 3), np.uint8), n_classes=2)
    with pytest.raises(ClassIndexError, match="n_classes is 1, expected 2 to 255"):
        count_confusion(np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8), n_classes=1)


def test_confidences_agree_with_a_loop() -> None:
    """Each pixel falls into the cell of its predicted class and bin."""
    preds, labels = two_maps()
    confidence = np.random.default_rng(4).random(preds.shape).astype(np.float32)
    confidence[0, :3] = (0.0, 1.0, 1.0005)
    found = confidence_counts(confidence, preds, labels, n_classes=5, bins=10, ignore=255)
    n, total, correct = np.zeros((5, 10)), np.zeros((5, 10)), np.zeros((5, 10))
    for sure, guess, true in zip(confidence.ravel(), preds.ravel(), labels.ravel(), strict=True):
        if true != 255:
            cell = guess, min(int(sure * np.float32(10)), 9)
            n[cell] += 1
            total[cell] += sure
            correct[cell] += guess == true
    assert np.array_equal(n, found.n)
    assert np.array_equal(correct, found.correct)
    np.testing.assert_allclose(found.total, total, rtol=1e-12)


def test_confidences_give_the_calibration_error_of_torchmetrics() -> None:
    """Summed over classes the histogram is the usual one."""
    rng = np.random.default_rng(5)
    probs = rng.dirichlet(np.ones(4), 3000).astype(np.float32)
    labels = rng.integers(0, 4, 3000).astype(np.uint8)
    n, total, correct = confidence_counts(
        probs.max(1)[None], probs.argmax(1).astype(np.uint8)[None], labels[None], n_classes=4
    )
    actual = np.abs(correct.sum(0) - total.sum(0)).sum() / n.sum()
    expected = multiclass_calibration_error(
        torch.from_numpy(probs), torch.from_numpy(labels.astype(np.int64)), num_classes=4, n_bins=BINS
    )
    assert actual == pytest.approx(float(expected), abs=1e-6)


def test_logits_are_no_confidences() -> None:
    """A confidence outside [0, 1] or NaN is a mistake of the caller; at ignored pixels it is not looked at."""
    one = np.uint8([[0, 0]])
    with pytest.raises(LevelgroundError, match=r"confidences range from 0\.5 to 3\.0, expected 0 to 1\. Give prob"):
        confidence_counts(np.array([[0.5, 3.0]]), one, one, n_classes=2)
    with pytest.raises(LevelgroundError, match="range from nan"):
        confidence_counts(np.array([[0.5, np.nan]]), one, one, n_classes=2)
    found = confidence_counts(np.array([[0.5, np.nan]]), one, np.uint8([[0, 255]]), n_classes=2, ignore=255)
    assert found.n.sum() == 1


def test_confidences_of_another_shape_or_class_are_refused() -> None:
    """The three maps belong to one scene and one legend."""
    one = np.uint8([[0, 0]])
    with pytest.raises(ShapeError, match=r"confidence is \(2, 1\), labels are \(1, 2\)"):
        confidence_counts(np.ones((2, 1)), one, one, n_classes=2)
    with pytest.raises(ClassIndexError, match=r"preds hold class 2, expected 0 to 1\. Map outputs to classes\."):
        confidence_counts(np.ones((1, 2)), np.uint8([[0, 2]]), one, n_classes=2)
