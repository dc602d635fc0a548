"""Boundary counts."""

import numpy as np
import pytest

from levelground.errors import ClassIndexError, ConfigError
from levelground.metrics.counts import boundary_counts


def near_border(classes: np.ndarray, valid: np.ndarray, distance: int) -> np.ndarray:
    """The definition, pixel by pixel."""
    height, width = classes.shape
    near = np.zeros(classes.shape, bool)
    for row in range(height):
        for col in range(width):
            window = np.s_[max(0, row - distance) : row + distance + 1, max(0, col - distance) : col + distance + 1]
            others = classes[window][valid[window]]
            near[row, col] = valid[row, col] and (others != classes[row, col]).any()
    return near


@pytest.mark.parametrize("distance", [1, 2, 5])
def test_counts_agree_with_the_definition(distance: int) -> None:
    """For all classes at once, with ignored pixels, at any distance."""
    rng = np.random.default_rng(distance)
    labels = np.kron(rng.integers(0, 4, (5, 6)), np.ones((6, 6), int)).astype(np.uint8)
    preds = np.roll(labels, 2, axis=1)
    labels[10:14, 8:20] = 255
    valid = labels != 255
    near_pred, near_true = near_border(preds, valid, distance), near_border(labels, valid, distance)
    expected = [
        [
            (near_pred & near_true & (preds == k) & (labels == k)).sum(),
            (near_pred & (preds == k)).sum(),
            (near_true & (labels == k)).sum(),
        ]
        for k in range(4)
    ]
    actual = boundary_counts(preds, labels, n_classes=4, distance_px=distance, ignore=255)
    assert actual.dtype == np.int64
    assert expected == actual.tolist()


def test_the_edge_of_the_scene_and_ignored_pixels_make_no_boundary() -> None:
    """A scene of one class has none, unlike in the paper's code, which counts the edge."""
    labels = np.zeros((9, 9), np.uint8)
    labels[:, 4] = 255
    assert boundary_counts(np.zeros((9, 9), np.uint8), labels, n_classes=2, distance_px=2, ignore=255).sum() == 0


def test_equal_maps_have_equal_boundaries() -> None:
    """Boundary IoU of a perfect prediction is 1."""
    labels = np.kron(np.eye(4, dtype=np.uint8), np.ones((8, 8), np.uint8))
    counts = boundary_counts(labels, labels, n_classes=2, distance_px=3)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 0] == counts[:, 2]).all()
    assert counts.min() > 0


def test_a_scene_without_valid_pixels_counts_nothing() -> None:
    """An empty tile of a mosaic is no error."""
    labels = np.full((4, 4), 255, np.uint8)
    assert not boundary_counts(labels, labels, n_classes=2, distance_px=1, ignore=255).any()


def test_bad_arguments_are_named() -> None:
    """Distance in range, classes inside the legend."""
    two = np.uint8([[0, 1]])
    with pytest.raises(ConfigError, match=r"^distance_px is 0, expected 1 to 127 pixels\.$"):
        boundary_counts(two, two, n_classes=2, distance_px=0)
    with pytest.raises(ClassIndexError, match=r"a map holds class 9, expected 0 to 1\. Check legend and ignored value"):
        boundary_counts(np.uint8([[0, 9]]), two, n_classes=2, distance_px=1)
