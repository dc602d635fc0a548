"""Metrics by name."""

import numpy as np
import pytest

from levelground.errors import ConfigError, ShapeError
from levelground.metrics.named import mean_metrics, parse_metric
from levelground.metrics.scores import boundary_iou, class_f1, class_iou, mf1, miou, pixel_accuracy, precision, recall

NAMES = ("Urban land", "Forest", "Water", "Unknown")
COUNTED = np.array([True, True, True, False])
COUNTS = np.random.default_rng(0).integers(0, 50, (5, 4, 4))


@pytest.mark.parametrize("scoring", ["official", "kept", "all"])
def test_named_means_are_the_functions_of_metrics(scoring: str) -> None:
    """A metric of resampling is the metric of the tables."""
    for kind, function in (("miou", miou), ("mf1", mf1), ("pixel_accuracy", pixel_accuracy)):
        metric = parse_metric(f"{scoring}.{kind}", NAMES, COUNTED)
        expected = function(COUNTS.sum(axis=0), COUNTED, scoring)
        np.testing.assert_allclose(metric.score(metric.sums(COUNTS, COUNTED).sum(axis=-1)), expected, atol=1e-15)
        np.testing.assert_allclose(metric.score(metric.sums(COUNTS, COUNTED)), function(COUNTS, COUNTED, scoring))


@pytest.mark.parametrize("scoring", ["official", "kept", "all"])
def test_named_classes_are_the_functions_of_metrics(scoring: str) -> None:
    """One class alone, found by its name in any case."""
    for kind, function in (("iou", class_iou), ("f1", class_f1), ("precision", precision), ("recall", recall)):
        metric = parse_metric(f"{scoring}.{kind}:water", NAMES, COUNTED)
        assert metric.name == f"{scoring}.{kind}:Water"
        np.testing.assert_allclose(metric.score(metric.sums(COUNTS, COUNTED)), function(COUNTS, COUNTED, scoring)[:, 2])


def test_boundary_metrics_take_boundary_counts() -> None:
    """Mean and one class; classes that are not counted stay out."""
    boundary = np.sort(np.random.default_rng(1).integers(1, 50, (5, 4, 3)), axis=-1)
    mean = parse_metric("boundary.miou", NAMES, COUNTED)
    np.testing.assert_allclose(mean.score(mean.sums(boundary, COUNTED)), boundary_iou(boundary)[:, :3].mean(axis=1))
    one = parse_metric("boundary.iou:Forest", NAMES, COUNTED)
    np.testing.assert_allclose(one.score(one.sums(boundary, COUNTED)), boundary_iou(boundary)[:, 1])
    with pytest.raises(ShapeError, match="boundary counts are"):
        mean.sums(COUNTS, COUNTED)


def test_the_metrics_shown_follow_the_scorings() -> None:
    """Nine where scorings differ, three where they don't."""
    assert [metric.name for metric in mean_metrics(COUNTED)][2:5] == [
        "official.pixel_accuracy", "kept.miou", "kept.mf1",
    ]  # fmt: skip
    assert len(mean_metrics(COUNTED)) == 9
    assert len(mean_metrics(np.ones(3, bool))) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("miou", r"^metric 'miou': no view 'miou', expected one of official, kept, all, boundary\.$"),
        ("official.dice", r"^metric 'official.dice': no kind 'dice' of official, expected one of miou, mf1, pixel_acc"),
        ("boundary.f1:Water", r"no kind 'f1' of boundary, expected one of miou, iou\.$"),
        ("official.iou", r"^metric 'official.iou': iou is of one class\. Write 'official.iou:Urban land'\.$"),
        ("official.miou:Water", r"miou is of no one class\. Write 'official.miou'\.$"),
        (
            "kept.iou:Sea",
            r"'kept.iou:Sea': no class 'Sea', expected one of Urban land, Forest, Water, Unknown\.$",
        ),
        ("official.iou:unknown", r"the legend does not count 'Unknown'\. Use 'all.iou:…'\.$"),
    ],
)
def test_other_names_are_refused(text: str, message: str) -> None:
    """The message says what is known."""
    with pytest.raises(ConfigError, match=message):
        parse_metric(text, NAMES, COUNTED)
