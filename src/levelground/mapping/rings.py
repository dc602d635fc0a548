"""From the corners of patches of pixels to closed rings, as whole-array steps without a loop over patches.

A patch is a set of pixels of one class that touch by their sides. Its border runs along the pixels' sides and turns at
corners. Along one row of the pixel grid, a patch's corners are the ends of border pieces: sorted by column, the first
and second are joined, the third and fourth, and so on; the same holds along columns. So two sorts give every corner
its two neighbours (O'Rourke 1988, *Uniqueness of orthogonal connect-the-dots*), and pointer jumping gives the order
along each ring.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]  # (N,)
Flags = NDArray[np.bool_]  # (N,)


@dataclass(frozen=True)
class Corners:
    """Places where the borders of patches turn, ``(N,)`` each.

    A border runs with its patch on the right hand, seen on the screen. A place where two pixels of one patch meet by
    their corners only is there twice.

    Attributes:
        owner: Number of the patch.
        row: Row of the pixel grid's lines, from 0 to the raster's height.
        col: Column of the pixel grid's lines, from 0 to the raster's width.
        east: Whether the level piece of the border lies right of the corner, not left.
        south: Whether the upright piece lies below the corner, not above.
        level: Whether the border leaves the corner by its level piece.
    """

    owner: Ints
    row: Ints
    col: Ints
    east: Flags
    south: Flags
    level: Flags

    def take(self, which: NDArray[np.generic]) -> "Corners":
        """Some of the corners, by a mask or by their numbers."""
        return Corners(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    @classmethod
    def join(cls, parts: "list[Corners]") -> "Corners":
        """All corners of several lots."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class Rings:
    """Closed rings, those of one patch side by side, its outer one first; points run clockwise on the screen.

    Attributes:
        owner: Patch of each ring, ascending, ``(R,)``.
        first: Where each ring's points begin, ``(R + 1,)``.
        row: Rows of the points, ``(N,)``; the first point is not repeated at the end.
        col: Columns of the points, ``(N,)``.
    """

    owner: Ints
    first: Ints
    row: Ints
    col: Ints

    def take(self, which: Ints) -> "Rings":
        """Some of the rings, by their numbers, in that order."""
        sizes = np.diff(self.first)[which]
        first = np.concatenate([[0], np.cumsum(sizes)])
        points = np.repeat(self.first[which] - first[:-1], sizes) + np.arange(first[-1])
        return Rings(self.owner[which], first, self.row[points], self.col[points])


def close_rings(corners: Corners) -> Rings:
    """Join the corners of complete patches to rings.

    Two pixels of one patch that meet by their corners only are kept apart by its rings: two rings touch there. So no
    ring touches itself, and the polygons are valid (OGC 06-103r4, 6.1.11).

    Args:
        corners: All corners of each patch, in any order.
    Returns:
        One outer ring and any number of holes for each patch.
    """
    if not corners.owner.size:
        none = np.zeros(0, np.int64)
        return Rings(none, np.zeros(1, np.int64), none, none)
    after = _neighbours(corners)
    starts = np.flatnonzero(corners.level)  # every second corner of a ring
    number = np.empty(len(corners.owner), np.int64)
    number[starts] = np.arange(len(starts))
    ring, place = _order(number[after[after[starts]]])
    sizes = np.bincount(ring)
    points = np.empty(len(starts), np.int64)
    points[(np.cumsum(sizes) - sizes)[ring] + place] = starts
    points = np.stack([points, after[points]], axis=1).ravel()
    return _sorted_rings(corners, points, 2 * sizes)


def _neighbours(corners: Corners) -> Ints:
    """The corner that follows each on its ring."""
    after = np.empty(len(corners.owner), np.int64)
    high, wide = int(corners.row.max()) + 1, int(corners.col.max()) + 1
    key = ((corners.owner * high + corners.row) * wide + corners.col) * 2 + corners.east
    order = np.argsort(key, kind="stable")
    key = key[order] >> 1
    twice = np.flatnonzero(key[1:] == key[:-1])
    # A place that is there twice: each corner takes the other's level piece, so the ring turns away from the far pixel.
    order[twice], order[twice + 1] = order[twice + 1], order[twice]
    left, right = order[0::2], order[1::2]
    out = corners.level[left]
    after[left[out]], after[right[~out]] = right[out], left[~out]
    key = ((corners.owner * wide + corners.col) * high + corners.row) * 2 + corners.south
    order = np.argsort(key, kind="stable")
    upper, lower = order[0::2], order[1::2]
    out = ~corners.level[upper]
    after[upper[out]], after[lower[~out]] = lower[out], upper[~out]
    return after


def _order(after: Ints) -> tuple[Ints, Ints]:
    """Number the rings of a permutation and each member's place on its ring, by pointer jumping.

    Args:
        after: The member that follows each, ``(M,)``.
    Returns:
        Ring and place of each member; a ring begins at its first member.
    """
    count = len(after)
    here = np.arange(count)
    graph = coo_array((np.ones(count, np.bool_), (here, after)), shape=(count, count))
    ring = np.asarray(connected_components(graph, directed=False)[1], np.int64)
    sizes = np.bincount(ring)
    leader = np.empty(len(sizes), np.int64)
    leader[ring[::-1]] = here[::-1]  # the last one written stays: the first member
    last = after == leader[ring]
    target, left = np.where(last, here, after), np.where(last, 0, 1)
    waiting = np.flatnonzero(~last)
    while waiting.size:
        via = target[waiting]
        far, more = target[via], left[via]
        target[waiting], left[waiting] = far, left[waiting] + more
        waiting = waiting[~last[far]]
    return ring, sizes[ring] - 1 - left


def _sorted_rings(corners: Corners, points: Ints, sizes: Ints) -> Rings:
    """Rings by patch, the outer one first."""
    first = np.concatenate([[0], np.cumsum(sizes)])
    row, col, owner = corners.row[points], corners.col[points], corners.owner[points[first[:-1]]]
    # The shoelace's area of pieces that are level or upright: only level ones sweep any. Points 2k and 2k + 1 are the
    # ends of a level piece, which runs rightwards above the patch and leftwards below it.
    swept = (col[0::2] - col[1::2]) * row[0::2]
    hole = np.add.reduceat(swept, first[:-1] // 2) < 0
    return Rings(owner, first, row, col).take(np.lexsort((hole, owner)))
