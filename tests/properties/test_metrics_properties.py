"""What holds of counts and scores whatever the maps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from levelground.metrics.counts import boundary_counts, confidence_counts, count_confusion
from levelground.metrics.named import Metric, mean_metrics
from levelground.metrics.scores import class_f1, class_iou, mf1, miou, pixel_accuracy, precision, recall

K = 4
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
matrices = arrays(np.int64, (K, K), elements=st.integers(0, 10**6))
sparse = arrays(np.int64, (K, K), elements=st.sampled_from([0, 0, 0, 1, 7, 10**9]))
legends = arrays(np.bool_, K).filter(lambda counted: bool(counted.any()))
scorings = st.sampled_from(["official", "kept", "all"])
orders = st.permutations(range(K))


@st.composite
def two_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Predictions, and labels of the same shape with ignored pixels."""
    shape = draw(shapes)
    preds = draw(arrays(np.uint8, shape, elements=st.integers(0, K - 1)))
    labels = draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 255])))
    return preds, labels


@given(two_maps())
def test_counts_sum_to_the_valid_pixels_and_add_over_rows(maps: tuple[np.ndarray, np.ndarray]) -> None:
    """A scene may be counted in bands, in any order."""
    preds, labels = maps
    counts = count_confusion(preds, labels, n_classes=K, ignore=255)
    assert counts.sum() == (labels != 255).sum()
    bands = [
        count_confusion(preds[row : row + 1], labels[row : row + 1], n_classes=K, ignore=255)
        for row in range(len(preds))
    ]
    assert np.array_equal(counts, sum(reversed(bands)))


@given(two_maps(), orders)
def test_renaming_classes_renames_counts(maps: tuple[np.ndarray, np.ndarray], order: list[int]) -> None:
    """Confusion and boundary counts follow the permutation."""
    preds, labels = maps
    table = np.full(256, 255, np.uint8)
    table[: len(order)] = order
    counts = count_confusion(preds, labels, n_classes=K, ignore=255)
    renamed = count_confusion(table[preds], table[labels], n_classes=K, ignore=255)
    assert np.array_equal(counts, renamed[np.ix_(order, order)])
    borders = boundary_counts(preds, labels, n_classes=K, distance_px=1, ignore=255)
    assert np.array_equal(
        borders, boundary_counts(table[preds], table[labels], n_classes=K, distance_px=1, ignore=255)[order]
    )


@given(two_maps(), st.integers(1, 3))
def test_boundaries_lie_inside_their_classes_and_grow_with_the_distance(
    maps: tuple[np.ndarray, np.ndarray], distance: int
) -> None:
    """Intersection ≤ each boundary ≤ the class; turning the scene changes nothing."""
    preds, labels = maps
    near = boundary_counts(preds, labels, n_classes=K, distance_px=distance, ignore=255)
    far = boundary_counts(preds, labels, n_classes=K, distance_px=distance + 1, ignore=255)
    counts = count_confusion(preds, labels, n_classes=K, ignore=255)
    assert (near[:, 0] <= near[:, 1:].min(axis=1)).all()
    assert (near <= far).all()
    assert (far[:, 0] <= counts.diagonal()).all()
    assert (far[:, 1] <= counts.sum(axis=0)).all()
    assert (far[:, 2] <= counts.sum(axis=1)).all()
    turned = boundary_counts(preds.T.copy(), labels.T.copy(), n_classes=K, distance_px=distance, ignore=255)
    assert np.array_equal(near, turned)


@given(two_maps(), st.integers(0, 2**32 - 1))
def test_confidences_count_what_the_matrix_counts(maps: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    """Columns and diagonal of the confusion matrix, spread over bins."""
    preds, labels = maps
    confidence = np.random.default_rng(seed).random(preds.shape)
    found = confidence_counts(confidence, preds, labels, n_classes=K, ignore=255)
    counts = count_confusion(preds, labels, n_classes=K, ignore=255)
    assert np.array_equal(found.n.sum(axis=1), counts.sum(axis=0))
    assert np.array_equal(found.correct.sum(axis=1), counts.diagonal())
    edges = np.arange(16) / 15
    assert (found.total >= found.n * edges[:-1] - 1e-9).all()
    assert (found.total <= found.n * edges[1:] + 1e-9).all()


@given(matrices | sparse, legends, scorings)
def test_scores_are_fractions_where_the_truth_has_pixels(counts: np.ndarray, counted: np.ndarray, scoring: str) -> None:
    """NaN exactly for classes outside the class set, whatever was predicted."""
    members = (counted | (scoring == "all")) & (counts.sum(axis=1) > 0)
    for metric in (class_iou, class_f1, recall):
        scores = metric(counts, counted, scoring)
        assert np.array_equal(np.isnan(scores), ~members)
        assert ((scores[members] >= 0) & (scores[members] <= 1)).all()
    assert (class_iou(counts, counted, scoring)[members] <= class_f1(counts, counted, scoring)[members]).all()
    shares = precision(counts, counted, scoring)
    assert np.isnan(shares[~members]).all()
    for metric in (miou, mf1, pixel_accuracy):
        assert bool(np.isnan(metric(counts, counted, scoring))) == (not members.any()) or metric is pixel_accuracy


@given(matrices | sparse, legends, scorings, orders)
def test_the_order_of_classes_changes_no_score(
    counts: np.ndarray, counted: np.ndarray, scoring: str, order: list[int]
) -> None:
    """Permuting classes permutes class scores and keeps means."""
    permuted = counts[np.ix_(order, order)], counted[order], scoring
    np.testing.assert_array_equal(class_iou(*permuted), class_iou(counts, counted, scoring)[order])
    for metric in (miou, mf1, pixel_accuracy):
        np.testing.assert_allclose(metric(*permuted), metric(counts, counted, scoring), rtol=1e-12)


@given(matrices, legends)
def test_scorings_are_ordered(counts: np.ndarray, counted: np.ndarray) -> None:
    """Leaving false positives of unknown pixels out never lowers a score."""
    official, kept = class_iou(counts, counted, "official"), class_iou(counts, counted, "kept")
    known = ~np.isnan(official)
    assert (official[known] >= kept[known]).all()


@given(arrays(np.int64, (5, K, K), elements=st.integers(0, 99)), legends)
def test_named_metrics_are_functions_of_sums(counts: np.ndarray, counted: np.ndarray) -> None:
    """Adding sums over scenes and adding matrices is the same."""
    functions = {"miou": miou, "mf1": mf1, "pixel_accuracy": pixel_accuracy}
    for metric in mean_metrics(counted):
        assert isinstance(metric, Metric)
        expected = functions[metric.kind](counts.sum(axis=0), counted, metric.view)
        np.testing.assert_allclose(metric.score(metric.sums(counts, counted).sum(axis=-1)), expected, atol=1e-12)
