"""Parcels of generated scenes: estates with a direction each, cut into strips, the strips into fields or blocks."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from levelground.synthetic.noise import (
    Field,
    Flags,
    Indices,
    distance_to,
    floats,
    jittered_grid,
    nearest_point,
    smooth_noise,
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
