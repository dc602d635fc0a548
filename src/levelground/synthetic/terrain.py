"""Ground of generated scenes (land cover, parcels, water and roads), and the labels that an annotator draws of it.

Parcels are estates with a direction each, cut into strips, and the strips into fields or blocks.
"""

from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from levelground.imagery.legend import LabelMap
from levelground.synthetic.noise import (
    Field,
    Flags,
    Indices,
    blurred,
    distance_to,
    floats,
    fractal_noise,
    jittered_grid,
    nearest_point,
    smooth_noise,
    stream,
)

_SLOTS: Final = 96  # strips of an estate, and parcels of a strip, at most; the middle one lies at the estate's centre


@dataclass(frozen=True)
class Parcels:
    """A partition of a scene. Tables have one row per parcel, maps one cell per pixel.

    ``u`` and ``v`` are pixels along and across the estate's direction; ``along`` and ``across`` run from 0 to 1 inside
    each parcel. ``edge`` is the distance to the nearest parcel boundary and ``estate_edge`` to the nearest estate
    boundary, in pixels.
    """

    parcel: Indices
    u: Field
    v: Field
    along: Field
    across: Field
    edge: Field
    estate_edge: Field
    estate_of: Indices  # (P,)
    length_px: Field  # (P,)
    width_px: Field  # (P,)
    angle: Field  # (E,) radians, by estate

    @property
    def n(self) -> int:
        """The number of parcels."""
        return len(self.estate_of)


def boundary(indices: Indices) -> Flags:
    """Find the pixels whose right or lower neighbour has another index."""
    flags = np.zeros(indices.shape, np.bool_)
    flags[:, :-1] |= indices[:, :-1] != indices[:, 1:]
    flags[:-1] |= indices[:-1] != indices[1:]
    return flags


def cut_parcels(
    rng: np.random.Generator, size: int, *, estate_px: float, length_px: float, width_px: float, disorder: float
) -> Parcels:
    """Cut a scene into parcels.

    Args:
        rng: The layer's generator.
        size: Side of the scene, in pixels.
        estate_px: Typical side of an estate, in pixels.
        length_px: Typical length of a parcel, in pixels; estates vary around it.
        width_px: Typical width of a parcel, in pixels.
        disorder: 0 for one direction all over, 1 for estates of any direction.
    """
    sites = jittered_grid(rng, size, estate_px, margin=estate_px)
    margin = int(estate_px)
    estate = nearest_point(sites, size, margin=margin)[margin : margin + size, margin : margin + size]
    n = len(sites)
    u, v, angle = _directions(rng, sites, estate, disorder)
    long = np.float32(length_px) * rng.uniform(0.65, 1.5, n).astype(np.float32)
    wide = np.float32(width_px) * rng.uniform(0.65, 1.5, n).astype(np.float32)
    strip, across, strip_px = _slots(v / wide[estate], rng.uniform(0, 0.75, (n, _SLOTS)), estate)
    joint = estate * _SLOTS + strip
    slide = rng.random(n * _SLOTS, np.float32)[joint]
    plot, along, plot_px = _slots(u / long[estate] + slide, rng.uniform(0, 0.75, (n * _SLOTS, _SLOTS)), joint)
    joint = joint * _SLOTS + plot
    used = np.bincount(joint.ravel(), minlength=n * _SLOTS * _SLOTS) > 0
    parcel = (np.cumsum(used, dtype=np.int32) - 1)[joint]
    estate_of = (np.flatnonzero(used) // _SLOTS**2).astype(np.int32)
    pick = np.zeros(len(estate_of), np.int64)
    pick[parcel.ravel()] = np.arange(parcel.size)
    return Parcels(
        parcel=parcel,
        u=u,
        v=v,
        along=along,
        across=across,
        edge=distance_to(boundary(parcel)),
        estate_edge=distance_to(boundary(estate)),
        estate_of=estate_of,
        length_px=plot_px.ravel()[pick] * long[estate_of],
        width_px=strip_px.ravel()[pick] * wide[estate_of],
        angle=angle,
    )


def _directions(rng: np.random.Generator, sites: Field, estate: Indices, disorder: float) -> tuple[Field, Field, Field]:
    """Compute pixels along and across the slightly bent direction of each estate, and angles ``(E,)`` in radians."""
    n, size = len(sites), len(estate)
    turn = rng.random() * np.pi + disorder * rng.uniform(-1, 1, n) + rng.integers(0, 2, n) * np.pi / 2
    angle = floats(turn)
    bend = np.float32(1.2 + 5 * disorder)
    rows, cols = np.mgrid[:size, :size].astype(np.float32)
    rows += bend * smooth_noise(rng, size, 90)
    cols += bend * smooth_noise(rng, size, 90)
    rows -= sites[estate, 0]
    cols -= sites[estate, 1]
    cosine, sine = np.cos(angle)[estate], np.sin(angle)[estate]
    return cosine * cols + sine * rows, cosine * rows - sine * cols, angle


def _slots(position: Field, jitter: np.ndarray, owner: Indices) -> tuple[Indices, Field, Field]:
    """Cut a line into slots of about one unit, each with its own length.

    Slot ``k`` of ``owner`` reaches from ``k + jitter[owner, k]`` to ``k + 1 + jitter[owner, k + 1]``, counted from
    ``-_SLOTS / 2``.

    Returns:
        The slot's number, how far along in it the pixel lies (0…1), and its length in units.
    """
    table = jitter.astype(np.float32).ravel()
    position = np.clip(position + np.float32(_SLOTS / 2), 1, _SLOTS - 2.01)
    slot = np.floor(position).astype(np.int32)
    start = owner * _SLOTS
    slot -= (position - slot < table[start + slot]).astype(np.int32)
    low = slot + table[start + slot]
    length = slot + 1 + table[start + slot + 1] - low
    return slot, (position - low) / length, length


URBAN, AGRICULTURE, RANGELAND, FOREST, WATER, BARREN, UNKNOWN = range(7)
"""Indices of the ``deepglobe`` legend."""

_CLOUD: Final = 0.4  # a cloud thicker than this hides the ground from the annotator
_SLIP_PX: Final = 1.6  # how far a hand slips from a border, in pixels
_LAND: Final = np.array([URBAN, AGRICULTURE, RANGELAND, FOREST, BARREN], np.uint8)


@dataclass(frozen=True)
class Kind:
    """A kind of landscape: shares of urban, agriculture, rangeland, forest and barren land, and its water."""

    shares: tuple[float, float, float, float, float]
    water: Literal["none", "canal", "river", "coast"] = "none"
    ponds: int = 0
    disorder: float = 0.3
    roads: int = 1
    cloud: bool = False


KINDS: Final = (
    Kind((0.03, 0.93, 0.02, 0.02, 0.00), "canal", disorder=0.05, roads=2),
    Kind((0.05, 0.88, 0.03, 0.04, 0.00), ponds=3, disorder=0.4),
    Kind((0.04, 0.86, 0.05, 0.05, 0.00), disorder=0.15, cloud=True),
    Kind((0.05, 0.70, 0.12, 0.10, 0.03), "river", disorder=0.5),
    Kind((0.04, 0.72, 0.08, 0.11, 0.05), "river", ponds=2, roads=0, cloud=True),
    Kind((0.22, 0.66, 0.08, 0.04, 0.00), ponds=1, roads=2),
    Kind((0.62, 0.12, 0.14, 0.04, 0.08), "canal", disorder=0.1, roads=2),
    Kind((0.03, 0.16, 0.17, 0.60, 0.04), disorder=0.9),
    Kind((0.04, 0.50, 0.10, 0.30, 0.06), ponds=1, disorder=0.7),
    Kind((0.04, 0.36, 0.42, 0.08, 0.10), ponds=2, disorder=0.6),
    Kind((0.05, 0.28, 0.15, 0.02, 0.50), disorder=0.6, roads=2),
    Kind((0.07, 0.47, 0.12, 0.16, 0.10), "coast", disorder=0.4),
)
"""Twelve kinds; every twelve scenes in a row hold each once, so that shares come out alike for every seed."""


@dataclass(frozen=True)
class Ground:
    """Land cover, parcels, water and roads of one scene. Distances in pixels."""

    kind: Kind
    cover: NDArray[np.uint8]  # (H, W), a class of the legend without UNKNOWN
    natural: Field  # noise that natural boundaries follow
    parcels: Parcels
    shore: Field  # distance to the nearest water
    depth: Field  # distance to the nearest land
    road: Field  # distance to the nearest main road's middle
    road_px: float  # half the width of main roads
    old_fields: Flags  # (P,) parcels of rangeland or bare ground that were fields once


def scene_kind(seed: int, index: int) -> Kind:
    """Return the kind of a scene from a shuffled deck of :data:`KINDS`, shuffled anew every twelve scenes."""
    deck = stream(seed, index // len(KINDS), 1).permutation(len(KINDS))
    return KINDS[deck[index % len(KINDS)]]


def lay_ground(seed: int, index: int, size: int) -> Ground:
    """Lay out one scene, ``(size, size)``."""
    kind = scene_kind(seed, index)
    rng = stream(seed, index, 10)
    parcels = cut_parcels(
        rng,
        size,
        estate_px=rng.uniform(150, 240) * (size / 512) ** 0.3,
        length_px=rng.uniform(60, 120),
        width_px=rng.uniform(28, 56),
        disorder=kind.disorder,
    )
    natural = fractal_noise(stream(seed, index, 11), size, 60, 5)
    cover = _land(stream(seed, index, 12), size, kind, parcels, natural)
    water = _water(stream(seed, index, 13), size, kind, natural)
    shore = distance_to(water)
    _banks(stream(seed, index, 14), size, kind, cover, shore)
    cover[water] = WATER
    rng = stream(seed, index, 15)
    road_px = float(rng.uniform(2.0, 4.0))
    lines = [_line(rng, size, bends=rng.uniform(2, 14)) for _ in range(kind.roads)]
    return Ground(
        kind=kind,
        cover=cover,
        natural=natural,
        parcels=parcels,
        shore=shore,
        depth=distance_to(~water),
        road=_distance_to_lines(lines, size),
        road_px=road_px,
        old_fields=rng.random(parcels.n) < rng.choice([0.1, 0.5]),
    )


def _land(rng: np.random.Generator, size: int, kind: Kind, parcels: Parcels, natural: Field) -> NDArray[np.uint8]:
    """Lay zones with natural borders; fields and towns take whole parcels."""
    zone_px = 150 * (size / 512) ** 0.5
    margin = int(zone_px) + 60
    sites = jittered_grid(rng, size, zone_px, margin=zone_px)
    zones = nearest_point(sites, size, margin=margin)
    rows, cols = np.mgrid[:size, :size].astype(np.float32) + np.float32(margin)
    rows += 9 * natural + 16 * smooth_noise(rng, size, 110)
    cols += 9 * fractal_noise(rng, size, 50, 4) + 16 * smooth_noise(rng, size, 110)
    last = zones.shape[0] - 1
    zones = zones[np.clip(rows, 0, last).astype(np.int32), np.clip(cols, 0, last).astype(np.int32)]
    # Systematic draws along the sites in random order: each scene comes close to its kind's shares.
    ranks = (rng.permutation(len(sites)) + rng.random()) / len(sites)
    limits = np.cumsum(kind.shares) / np.sum(kind.shares)
    zone_class = _LAND[np.minimum(np.searchsorted(limits, ranks), len(_LAND) - 1)]
    cover = zone_class[zones]
    votes = np.bincount((parcels.parcel * 8 + cover).ravel(), minlength=8 * parcels.n).reshape(-1, 8)
    major = votes.argmax(axis=1).astype(np.uint8)
    hamlet = (major == AGRICULTURE) & (rng.random(parcels.n) < 0.025)
    major[hamlet] = URBAN
    settled = major[parcels.parcel]
    by_parcel = (settled <= AGRICULTURE) | (cover <= AGRICULTURE)
    return np.asarray(np.where(by_parcel, settled, cover), np.uint8)


def _line(rng: np.random.Generator, size: int, *, bends: float) -> NDArray[np.float32]:
    """Draw a line across the whole scene, ``(N, 2)`` column and row; ``bends`` is the sway in pixels."""
    angle = rng.uniform(0, np.pi)
    along = np.linspace(-1.1 * size, 1.1 * size, 400)
    sway = rng.uniform(-0.3, 0.3) * size + np.zeros_like(along)
    for length, height in ((420, 1.0), (230, 0.55), (110, 0.12)):
        sway += bends * height * np.sin(2 * np.pi * along / (length * rng.uniform(0.8, 1.25)) + rng.uniform(0, 7))
    across = np.array([-np.sin(angle), np.cos(angle)])
    line = size / 2 + along[:, None] * np.array([np.cos(angle), np.sin(angle)]) + sway[:, None] * across
    return floats(line)


def _distance_to_lines(lines: list[NDArray[np.float32]], size: int) -> Field:
    canvas = np.zeros((size, size), np.uint8)
    cv2.polylines(canvas, [np.round(line).astype(np.int32) for line in lines], isClosed=False, color=1)
    return distance_to(canvas > 0) if lines else np.full((size, size), 1e4, np.float32)


def _water(rng: np.random.Generator, size: int, kind: Kind, natural: Field) -> Flags:
    """Lay river, canal or sea, and ponds."""
    water = np.zeros((size, size), np.bool_)
    rows, cols = np.mgrid[:size, :size].astype(np.float32)
    if kind.water == "canal":
        distance = _distance_to_lines([_line(rng, size, bends=rng.uniform(0, 12))], size)
        water |= distance < rng.uniform(3.5, 6.0)
    elif kind.water == "river":
        distance = _distance_to_lines([_line(rng, size, bends=rng.uniform(25, 60))], size)
        half = rng.uniform(9, 22) * (size / 512) ** 0.4
        water |= distance + 0.6 * natural < half * (1 + 0.18 * smooth_noise(rng, size, 130))
    elif kind.water == "coast":
        angle = rng.uniform(0, 2 * np.pi)
        seaward = np.cos(angle) * (cols - size / 2) + np.sin(angle) * (rows - size / 2)
        bays = 0.09 * size * smooth_noise(rng, size, 0.45 * size) + 10 * smooth_noise(rng, size, 80)
        water |= seaward + bays + 1.5 * natural > rng.uniform(0.16, 0.3) * size
    for _ in range(round(kind.ponds * (size / 512))):
        row, col = rng.uniform(0.05, 0.95, 2) * size
        radius, flat, turn = rng.uniform(9, 30), rng.uniform(0.5, 1), rng.uniform(0, np.pi)
        x = np.cos(turn) * (cols - col) + np.sin(turn) * (rows - row)
        y = np.cos(turn) * (rows - row) - np.sin(turn) * (cols - col)
        water |= np.hypot(x * np.float32(flat), y) < radius * (1 + 0.22 * natural)
    return water


def _banks(rng: np.random.Generator, size: int, kind: Kind, cover: NDArray[np.uint8], shore: Field) -> None:
    """Lay meadow, wood or sand along stretches of water, and a beach by the sea, in place."""
    if kind.water == "none":
        return
    wide = {"canal": 5.0, "river": 20.0, "coast": 14.0}[kind.water] * rng.uniform(0.7, 1.4)
    width = wide * (1 + 0.5 * smooth_noise(rng, size, 90))
    stretch = smooth_noise(rng, size, 140)
    bank = np.where(stretch > 0.5, FOREST, np.where(stretch < -0.9, BARREN, RANGELAND)).astype(np.uint8)
    if kind.water == "coast":
        bank[stretch < 0.8] = BARREN
    near = (shore < width) & (cover != URBAN)
    cover[near] = bank[near]


def draw_labels(seed: int, index: int, ground: Ground, cloud: Field | None) -> LabelMap:
    """Label one scene with the errors of a human annotator.

    Borders are a little off and rounded, narrow and small areas take the class around them, outlines are polygons,
    roads and lone trees are not drawn at all, and a cloud is unknown.

    Args:
        seed: The seed of the scene.
        index: The number of the scene.
        ground: The true cover.
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
    """Give each pixel the class that weighs most around it; water weighs more, so that canals stay whole."""
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
    """Give areas that are too small to be drawn the class of the nearest area; groups of houses are often forgotten."""
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
    """Redraw every area as a polygon with few corners, the largest first, so that areas inside it stay on top."""
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
