"""Metrics: predictions and labels to counts, and counts to scores; every definition of a metric is in this package.

Example:
    >>> import numpy as np
    >>> preds, labels = np.uint8([[0, 1], [1, 1]]), np.uint8([[0, 0], [1, 1]])
    >>> counts = count_confusion(preds, labels, n_classes=2)
    >>> counted = np.array([True, True])
    >>> round(float(miou(counts, counted)), 3), class_iou(counts, counted).round(3)
    (0.583, array([0.5  , 0.667]))
    >>> kappa_metric = parse_metric("official.kappa", ["field", "forest"], counted)
    >>> float(kappa_metric.score(kappa_metric.sums(counts, counted)))
    0.5
"""

from levelground.metrics.counts import (
    SceneCounts,
    boundary_counts,
    confidence_counts,
    count_confusion,
    read_counts,
    write_counts,
)
from levelground.metrics.named import METRICS, Metric, MetricKind, parse_metric
from levelground.metrics.scores import (
    boundary_iou,
    class_f1,
    class_iou,
    fwiou,
    kappa,
    mf1,
    miou,
    pixel_accuracy,
    precision,
    recall,
)

__all__ = [
    "METRICS",
    "Metric",
    "MetricKind",
    "SceneCounts",
    "boundary_counts",
    "boundary_iou",
    "class_f1",
    "class_iou",
    "confidence_counts",
    "count_confusion",
    "fwiou",
    "kappa",
    "mf1",
    "miou",
    "parse_metric",
    "pixel_accuracy",
    "precision",
    "read_counts",
    "recall",
    "write_counts",
]
