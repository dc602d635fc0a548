"""How a person would label a generated scene: polygons coarser than the picture, small things left out."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from levelground.generated.noise import Field, blurred, smooth_noise, stream
from levelground.generated.terrain import UNKNOWN, URBAN, WATER, Ground
from levelground.imagery.legend import LabelMap

_CLOUD: Final = 0.4  # a cloud thicker than this hides the ground from the annotator
_SLIP_PX: Final = 1.6  # how far a hand slips from a border, in pixels


def draw_labels(seed: int, index: int, ground: Ground, cloud: Field | None) -> LabelMap:
    """Label one scene as an annotator would.

    Borders are drawn a little off and rounded, narrow and small things are left to what surrounds them, outlines are
    polygons, roads and lone trees are not drawn at all, and a cloud is unknown.

    Args:
        seed: The seed of the scene.
        index: The number of the scene.
        ground: What really lies where.
        cloud: Thickness of the cloud, 0…1, or ``None``.
    Returns:
        ``(H, W)`` uint8, indices of the ``deepglobe`` legend.
    """
    rng = stream(seed, index, 50)
    size = ground.cover.shape[0]
    rows, cols = np.mgrid[:size, :size].astype(np.float32)
    for grid in (rows, cols):
        grid += np.float32(_SLIP_PX) * smooth_noise(rng, size, 45) + np.float32(rng.uniform(-1.5, 1.5))
        np.clip(np.rint(grid, out=grid), 0, size - 1, out=grid)
    slipped = ground.cover[rows.astype(np.int32), cols.astype(np.int32)]
    labels = _rounded(slipped, sigma=float(rng.uniform(2.0, 4.0)))
    labels = _without_small(rng, labels, smallest_px=float(rng.uniform(250, 700)))
    labels = _polygons(labels, tolerance_px=float(rng.uniform(1.2, 2.6)))
    if cloud is not None:
        hidden = (blurred(cloud, 5) > _CLOUD).astype(np.uint8)
        labels[_polygons(hidden, tolerance_px=2.5) == 1] = UNKNOWN
    return labels


def _rounded(cover: LabelMap, *, sigma: float) -> LabelMap:
    """Each pixel takes the class that weighs most around it; water weighs more, so that canals stay whole."""
    best = np.zeros(cover.shape, np.float32)
    labels = cover.copy()
    for index in range(UNKNOWN):
        weight = 1.5 if index == WATER else 1.0
        spread = 0.6 * sigma if index == WATER else sigma
        score = np.float32(weight) * blurred((cover == index).astype(np.float32), spread)
        better = score > best
        labels[better] = index
        best[better] = score[better]
    return labels


def _without_small(rng: np.random.Generator, labels: LabelMap, *, smallest_px: float) -> LabelMap:
    """Areas below the smallest one worth drawing take the class of what lies nearest; of houses half are forgotten."""
    drop = np.zeros(labels.shape, np.bool_)
    dice = rng.random(4099)
    for index in np.unique(labels):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((labels == index).astype(np.uint8), connectivity=4)
        area = stats[:, cv2.CC_STAT_AREA]
        # By place, since the order of the parts may depend on OpenCV's threads.
        luck = dice[(31 * stats[:, cv2.CC_STAT_LEFT] + stats[:, cv2.CC_STAT_TOP]) % len(dice)]
        small = area < smallest_px
        if index == URBAN:
            small |= (area < 6 * smallest_px) & (luck < 0.4)
        small[0] = False
        drop |= small[parts]
    if not drop.any() or drop.all():
        return labels
    _, nearest = cv2.distanceTransformWithLabels(drop.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    kept = np.zeros(int(nearest.max()) + 1, np.uint8)
    kept[nearest[~drop]] = labels[~drop]
    return np.asarray(kept[nearest], np.uint8)


def _polygons(labels: LabelMap, *, tolerance_px: float) -> LabelMap:
    """Redraw every area as a polygon with few corners, the largest first, so that what lies inside stays on top."""
    outlines: list[tuple[float, int, NDArray[np.int32]]] = []
    for index in np.unique(labels):
        found, _ = cv2.findContours((labels == index).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        outlines += [(cv2.contourArea(line), int(index), np.asarray(line, np.int32)) for line in found]
    drawn = labels.copy()
    for area, index, line in sorted(outlines, key=lambda outline: -outline[0]):
        if area > 4 * tolerance_px**2:
            corners = cv2.approxPolyDP(line, tolerance_px, closed=True)
            cv2.fillPoly(drawn, [corners], index)
    return drawn
