"""Pixels to boundary counts: what Boundary IoU needs, for all classes at once."""

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ClassIndexError, ConfigError
from levelground.imagery.legend import LabelMap
from levelground.scores.confusion import check_maps, value_table


def boundary_counts(
    preds: LabelMap, labels: LabelMap, *, n_classes: int, distance_px: int, ignore: int | None = None
) -> NDArray[np.int64]:
    """Count the pixels near class borders, by class: in both maps alike, in ``preds``, in ``labels``.

    A pixel belongs to the boundary of its class where another class lies at most ``distance_px`` rows and columns
    away. Ignored pixels (in either map) and the scene's edge make no boundary.

    Args:
        preds: Predicted class of each pixel, ``(H, W)`` uint8 in ``[0, n_classes)``.
        labels: True class of each pixel, ``(H, W)`` uint8, or ``ignore``.
        n_classes: Number of classes K, at least 2.
        distance_px: Reach of a border in pixels, 1 to 127.
        ignore: Label value whose pixels are left out; ``None`` counts every pixel. To leave out the classes that the
            legend does not count too, set their labels to ``ignore`` first.
    Returns:
        ``(K, 3)`` int64 in pixels: intersection, predicted boundary, true boundary. Boundary IoU of a class is
        ``intersection / (predicted + true - intersection)``.
    Raises:
        ShapeError: ``preds`` and ``labels`` differ in shape.
        ClassIndexError: A counted pixel lies outside ``[0, n_classes)``.
        ConfigError: ``distance_px`` is out of range.
    Source: Cheng, Girshick, Dollár, Berg & Kirillov 2021, Boundary IoU, eq. 2; as in their code the distance is the
    larger of rows and columns (a square of 2d + 1 pixels). Departure: theirs counts the image's edge as a border.
    Example:
        >>> preds, labels = np.uint8([[0, 0, 0, 1, 1]]), np.uint8([[0, 0, 1, 1, 1]])
        >>> boundary_counts(preds, labels, n_classes=2, distance_px=1).tolist()
        [[0, 1, 1], [0, 1, 1]]
        >>> boundary_counts(preds, labels, n_classes=2, distance_px=2).tolist()
        [[1, 2, 2], [1, 2, 2]]
    """
    check_maps(preds, labels, n_classes=n_classes)
    if not 1 <= distance_px <= 127:
        raise ConfigError(f"distance_px is {distance_px}, expected 1 to 127 pixels.")
    valid = np.ones(labels.shape, bool) if ignore is None else labels != ignore
    near = [_near_border(np.where(valid, classes, 0), valid, distance_px, n_classes) for classes in (preds, labels)]
    table = value_table(*near)
    chosen = table[:n_classes, :n_classes].diagonal(), table.sum(axis=0)[:n_classes], table.sum(axis=1)[:n_classes]
    return np.stack(chosen, axis=-1)


def _near_border(classes: LabelMap, valid: NDArray[np.bool_], distance_px: int, n_classes: int) -> LabelMap:
    """The class where another one lies within the square, 255 elsewhere.

    Another one does where the square's largest or smallest valid class is not the pixel's own.
    """
    import cv2  # a quarter of a second that `compare`, which needs no pixels, does not pay

    if classes.size and classes.max() >= n_classes:
        raise ClassIndexError(
            f"a map holds class {classes.max()}, expected 0 to {n_classes - 1}. Check legend and ignored value."
        )
    square = np.ones((2 * distance_px + 1, 2 * distance_px + 1), np.uint8)
    highest = cv2.dilate(classes, square)
    lowest = cv2.erode(np.where(valid, classes, np.uint8(255)), square)
    return np.where(valid & ((highest != classes) | (lowest != classes)), classes, np.uint8(255))
