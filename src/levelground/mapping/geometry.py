"""Rings on the pixel grid as polygons of a map: coordinates, well-known binary, lists for GeoJSON."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from levelground.mapping.rings import Rings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Polygons:
    """Polygons, their outer rings first; rings are closed: the first point stands at the end too.

    Attributes:
        rings: Where each polygon's rings begin, ``(P + 1,)``.
        points: Where each ring's points begin, ``(R + 1,)``.
        xy: Coordinates, ``(N, 2)``.
    """

    rings: Ints
    points: Ints
    xy: Floats


def break_long(rings: Rings, longest: int) -> Rings:
    """Put points on pieces longer than ``longest`` pixels.

    A straight piece of one map is bent on another; its points are where they should be, its middle is not.
    """
    count = len(rings.row)
    after = np.arange(1, count + 1)
    after[rings.first[1:] - 1] = rings.first[:-1]
    down, right = rings.row[after] - rings.row, rings.col[after] - rings.col
    parts = -(-(np.abs(down) + np.abs(right)) // longest)
    begins = np.concatenate([[0], np.cumsum(parts)])
    which = np.repeat(np.arange(count), parts)
    along = (np.arange(begins[-1]) - begins[which]) * longest
    row = rings.row[which] + np.sign(down)[which] * along
    col = rings.col[which] + np.sign(right)[which] * along
    return Rings(rings.owner, begins[rings.first], row, col)


def make_polygons(rings: Rings, x: Floats, y: Floats, *, reverse: bool) -> Polygons:
    """Close rings and turn them.

    Args:
        rings: Rings of polygons 0…P−1, clockwise on the screen.
        x: Coordinate of each of their points, ``(N,)``.
        y: The other coordinate, ``(N,)``.
        reverse: Whether to run through them backwards.
    """
    sizes = np.diff(rings.first)
    points = np.concatenate([[0], np.cumsum(sizes + 1)])
    place = np.arange(points[-1]) - np.repeat(points[:-1], sizes + 1)
    whole = np.repeat(sizes, sizes + 1)
    place = (whole - place if reverse else place) % whole
    index = np.repeat(rings.first[:-1], sizes + 1) + place
    per_polygon = np.bincount(rings.owner)
    return Polygons(np.concatenate([[0], np.cumsum(per_polygon)]), points, np.stack([x[index], y[index]], axis=1))


def to_wkb(polygons: Polygons) -> NDArray[np.object_]:
    """Each polygon as well-known binary, little-endian (OGC 06-103r4, 8.2).

    Returns:
        ``(P,)`` of bytes.
    """
    sizes = np.diff(polygons.points)
    n_rings = np.diff(polygons.rings)
    ring_starts = np.arange(len(sizes)) * 4 + polygons.points[:-1] * 16  # bytes of all rings before
    heads = np.arange(len(n_rings)) * 9 + ring_starts[polygons.rings[:-1]]
    total = 9 * len(n_rings) + 4 * len(sizes) + 16 * int(polygons.points[-1])
    content = np.zeros(total, np.uint8)
    content[heads] = 1  # little-endian
    content[heads + 1] = 3  # a polygon
    _scatter(content, heads + 5, n_rings.astype("<u4"))
    owner = np.repeat(np.arange(len(n_rings)), n_rings)
    ring_heads = ring_starts + 9 * (owner + 1)
    _scatter(content, ring_heads, sizes.astype("<u4"))
    ring = np.repeat(np.arange(len(sizes)), sizes)
    _scatter(content, np.arange(len(ring)) * 16 + 4 * (ring + 1) + 9 * (owner[ring] + 1), polygons.xy.astype("<f8"))
    stored, ends = content.tobytes(), [*heads[1:].tolist(), total]
    return np.array([stored[start:end] for start, end in zip(heads.tolist(), ends, strict=True)], np.object_)


def to_lists(polygons: Polygons, *, decimals: int) -> list[list[list[list[float]]]]:
    """Each polygon's coordinates as GeoJSON nests them: polygon, ring, point, number."""
    xy = polygons.xy.round(decimals).tolist()
    points, rings = polygons.points.tolist(), polygons.rings.tolist()
    parts = [xy[start:end] for start, end in pairwise(points)]
    return [parts[start:end] for start, end in pairwise(rings)]


def _scatter(content: NDArray[np.uint8], at: Ints, values: NDArray[np.generic]) -> None:
    """Write each row of ``values`` into a string of bytes at the places given."""
    octets = np.ascontiguousarray(values).view(np.uint8).reshape(len(at), -1)
    content[at[:, None] + np.arange(octets.shape[1])] = octets
