"""Connected components of a class raster and their borders, strip by strip; borders are cut at the antimeridian.

Memory holds one strip and the corners of the components that reach its last row; a component is yielded with the strip
in which it ends. Runs of equal pixels in a row are the nodes of a graph; components that reach the last row of the
strip above are nodes too. Then the corners of each complete component are joined to closed rings.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from levelground.imagery.legend import IGNORE, LabelMap

Ints = NDArray[np.int64]  # (N,)
Flags = NDArray[np.bool_]  # (N,)


@dataclass(frozen=True)
class Rings:
    """Closed rings, those of one component side by side, the outer one first; points run clockwise on the screen.

    Attributes:
        owner: Component of each ring, ascending, ``(R,)``.
        first: Index of each ring's first point, ``(R + 1,)``.
        row: Rows of the points, ``(N,)``; the first point is not repeated at the end.
        col: Columns of the points, ``(N,)``.
    """

    owner: Ints
    first: Ints
    row: Ints
    col: Ints

    def take(self, which: Ints) -> "Rings":
        """Select rings by their numbers, in that order."""
        sizes = np.diff(self.first)[which]
        first = np.concatenate([[0], np.cumsum(sizes)])
        points = np.repeat(self.first[which] - first[:-1], sizes) + np.arange(first[-1])
        return Rings(self.owner[which], first, self.row[points], self.col[points])


@dataclass(frozen=True)
class Components:
    """Complete components, such as those that end in one strip.

    Attributes:
        label: Class of each, ``(P,)`` uint8.
        pixels: Size in pixels, ``(P,)``.
        area: Sum of their pixels' areas, ``(P,)``, in the unit of the row areas given.
        rings: Their borders; ``rings.owner`` holds numbers 0…P−1.
    """

    label: NDArray[np.uint8]
    pixels: Ints
    area: NDArray[np.float64]
    rings: Rings

    def take(self, which: NDArray[np.bool_]) -> "Components":
        """Select components by a mask ``(P,)``, renumbered in their order."""
        if which.all():
            return self
        rings = self.rings.take(np.flatnonzero(which[self.rings.owner]))
        rings = Rings((np.cumsum(which) - 1)[rings.owner], rings.first, rings.row, rings.col)
        return Components(self.label[which], self.pixels[which], self.area[which], rings)


@dataclass(frozen=True)
class _Corners:
    """Points where the borders of components turn, ``(N,)`` each.

    A border runs with its component on the right hand, seen on the screen. A point where two pixels of one component
    touch by their corners only is there twice.

    Attributes:
        owner: Number of the component.
        row: Row of the pixel grid's lines, from 0 to the raster's height.
        col: Column of the pixel grid's lines, from 0 to the raster's width.
        east: Whether the horizontal edge of the border lies right of the corner, not left.
        south: Whether the vertical edge lies below the corner, not above.
        horizontal: Whether the border leaves the corner by its horizontal edge.
    """

    owner: Ints
    row: Ints
    col: Ints
    east: Flags
    south: Flags
    horizontal: Flags

    def take(self, which: NDArray[np.generic]) -> "_Corners":
        """Select corners by a mask or by their numbers."""
        return _Corners(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    @classmethod
    def join(cls, parts: "list[_Corners]") -> "_Corners":
        """Join several sets of corners."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class _Carried:
    """Components so far, those of :data:`IGNORE` included: class, pixels and area, ``(P,)`` each, and all corners."""

    label: NDArray[np.uint8]
    pixels: Ints
    area: NDArray[np.float64]
    corners: _Corners


def find_components(strips: Iterable[LabelMap], row_areas: NDArray[np.float64]) -> Iterator[Components]:
    """Find the connected components of a class raster; each is yielded once, whole.

    Args:
        strips: The raster's rows from the top, ``(rows, W)`` uint8 each; :data:`IGNORE` belongs to no component.
        row_areas: Area of one pixel of each row, ``(H,)``.
    Yields:
        The components that end in a strip; with the last strip all that remain.
    """
    carried = _Carried(np.array([IGNORE], np.uint8), np.zeros(1, np.int64), np.zeros(1), _no_corners())
    above, owner = np.empty((1, 0), np.uint8), np.empty(0, np.int64)
    row = 0
    for strip in strips:
        if not row:  # a row without data above the raster, and one below it, close its border
            above, owner = np.full((1, strip.shape[1]), IGNORE, np.uint8), np.zeros(strip.shape[1], np.int64)
        carried, owner = _add_strip(carried, np.concatenate([above, strip]), owner, row, row_areas)
        above, row = strip[-1:], row + len(strip)
        continues = np.zeros(len(carried.label), np.bool_)
        continues[owner] = True
        yield _complete(carried, ~continues)
        carried, owner = _select(carried, continues), (np.cumsum(continues) - 1)[owner]
    if row:
        below = np.concatenate([above, np.full_like(above, IGNORE)])
        carried, _ = _add_strip(carried, below, owner, row, np.append(row_areas, 0.0))
        yield _complete(carried, np.ones(len(carried.label), np.bool_))


def _add_strip(
    carried: _Carried, block: LabelMap, owner: Ints, row: int, row_areas: NDArray[np.float64]
) -> tuple[_Carried, Ints]:
    """Join a strip to the components above it.

    Args:
        carried: Components that reach the row above the strip.
        block: That row and the strip's rows, ``(1 + rows, W)``.
        owner: Component of each pixel of that row, ``(W,)``.
        row: Number of the strip's first row in the raster.
        row_areas: Area of one pixel of each row of the raster.
    Returns:
        All components, renumbered, and the component of each pixel of the last row.
    """
    width = block.shape[1]
    begins = np.ones(block.shape, np.bool_)
    np.not_equal(block[:, 1:], block[:, :-1], out=begins[:, 1:])
    run = (np.cumsum(begins, dtype=np.int32) - 1).reshape(block.shape)
    starts = np.flatnonzero(begins)
    n_runs, n_above = len(starts), int(run[0, -1]) + 1
    touch = (block[1:] == block[:-1]) & (begins[1:] | begins[:-1])
    ends = np.concatenate([run[1:][touch], n_runs + owner[starts[:n_above]]])
    beginnings = np.concatenate([run[:-1][touch], np.arange(n_above)])
    size = n_runs + len(carried.label)
    graph = coo_array((np.ones(len(ends), np.bool_), (beginnings, ends)), shape=(size, size))
    count, component = connected_components(graph, directed=False)
    of_run, of_carried = component[:n_runs].astype(np.int64), component[n_runs:].astype(np.int64)
    lengths = np.diff(starts, append=block.size)
    lengths[:n_above] = 0  # counted with the strip above
    areas = lengths * row_areas[row - 1 + starts // width]
    label = np.empty(count, np.uint8)
    label[of_run] = block.ravel()[starts]
    known = carried.corners
    moved = _Corners(of_carried[known.owner], known.row, known.col, known.east, known.south, known.horizontal)
    together = _Carried(
        label=label,
        pixels=(_sums(of_run, lengths, count) + _sums(of_carried, carried.pixels, count)).astype(np.int64),
        area=_sums(of_run, areas, count) + _sums(of_carried, carried.area, count),
        corners=_Corners.join([moved, _find_corners(block, run, of_run, row)]),
    )
    return together, of_run[run[-1]]


def _sums(group: Ints, values: NDArray[np.generic], count: int) -> NDArray[np.float64]:
    """Sum values by group, ``(count,)``; whole numbers stay exact."""
    return np.asarray(np.bincount(group, values.astype(np.float64), minlength=count), np.float64)


def _find_corners(block: LabelMap, run: NDArray[np.int32], component: Ints, row: int) -> _Corners:
    """Find the corners on the grid's lines between the rows of a block; ``row`` is the number of the first line."""
    padded = np.pad(block, ((0, 0), (1, 1)), constant_values=IGNORE)
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    i, j = np.nonzero(~(((nw == ne) & (sw == se)) | ((nw == sw) & (ne == se))))
    pixels = {(down, right): padded[i + down, j + right] for down in (0, 1) for right in (0, 1)}
    parts = [_no_corners()]
    for (down, right), here in pixels.items():
        beside, across = pixels[down, 1 - right] == here, pixels[1 - down, right] == here
        opposite = pixels[1 - down, 1 - right] == here
        outward = ~beside & ~across
        which = np.flatnonzero((here != IGNORE) & (outward | (beside & across & ~opposite)))
        turn = outward[which]  # an inward corner lies the other way round in all three
        parts.append(
            _Corners(
                owner=component[run[i[which] + down, j[which] + right - 1]],
                row=i[which] + row,
                col=j[which],
                east=turn == bool(right),
                south=turn == bool(down),
                horizontal=turn == (right == down),
            )
        )
    return _Corners.join(parts)


def _complete(carried: _Carried, which: NDArray[np.bool_]) -> Components:
    """Return complete components with their rings, without those of no data."""
    chosen = _select(carried, which & (carried.label != IGNORE))
    return Components(chosen.label, chosen.pixels, chosen.area, _trace_rings(chosen.corners))


def _select(carried: _Carried, which: NDArray[np.bool_]) -> _Carried:
    """Select components by a mask, renumbered in their order."""
    some = carried.corners.take(which[carried.corners.owner])
    number = np.cumsum(which) - 1
    corners = _Corners(number[some.owner], some.row, some.col, some.east, some.south, some.horizontal)
    return _Carried(carried.label[which], carried.pixels[which], carried.area[which], corners)


def _no_corners() -> _Corners:
    whole, flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return _Corners(whole, whole, whole, flags, flags, flags)


def _trace_rings(corners: _Corners) -> Rings:
    """Join the corners of complete components to rings.

    Where two pixels of one component touch by their corners only, two of its rings touch. So no ring touches itself,
    and the polygons are valid (OGC 06-103r4, 6.1.11).

    Args:
        corners: All corners of each component, in any order.
    Returns:
        One outer ring and any number of holes for each component.
    """
    if not corners.owner.size:
        none = np.zeros(0, np.int64)
        return Rings(none, np.zeros(1, np.int64), none, none)
    after = _neighbours(corners)
    starts = np.flatnonzero(corners.horizontal)  # every second corner of a ring
    number = np.empty(len(corners.owner), np.int64)
    number[starts] = np.arange(len(starts))
    ring, position = _order(number[after[after[starts]]])
    sizes = np.bincount(ring)
    points = np.empty(len(starts), np.int64)
    points[(np.cumsum(sizes) - sizes)[ring] + position] = starts
    points = np.stack([points, after[points]], axis=1).ravel()
    return _sorted_rings(corners, points, 2 * sizes)


def _neighbours(corners: _Corners) -> Ints:
    """Return the corner that follows each on its ring."""
    after = np.empty(len(corners.owner), np.int64)
    high, wide = int(corners.row.max()) + 1, int(corners.col.max()) + 1
    key = ((corners.owner * high + corners.row) * wide + corners.col) * 2 + corners.east
    order = np.argsort(key, kind="stable")
    key = key[order] >> 1
    twice = np.flatnonzero(key[1:] == key[:-1])
    # Of two corners at one point each takes the other's horizontal edge, so the ring turns away from the far pixel.
    order[twice], order[twice + 1] = order[twice + 1], order[twice]
    left, right = order[0::2], order[1::2]
    out = corners.horizontal[left]
    after[left[out]], after[right[~out]] = right[out], left[~out]
    key = ((corners.owner * wide + corners.col) * high + corners.row) * 2 + corners.south
    order = np.argsort(key, kind="stable")
    upper, lower = order[0::2], order[1::2]
    out = ~corners.horizontal[upper]
    after[upper[out]], after[lower[~out]] = lower[out], upper[~out]
    return after


def _order(after: Ints) -> tuple[Ints, Ints]:
    """Number the rings of a permutation and the position of each member on its ring, by pointer jumping.

    Args:
        after: The member that follows each, ``(M,)``.
    Returns:
        Ring and position of each member; a ring begins at its first member.
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


def _sorted_rings(corners: _Corners, points: Ints, sizes: Ints) -> Rings:
    """Sort rings by component, the outer one first."""
    first = np.concatenate([[0], np.cumsum(sizes)])
    row, col, owner = corners.row[points], corners.col[points], corners.owner[points[first[:-1]]]
    # Area by the shoelace formula, to which only horizontal edges add. Points 2k and 2k + 1 are the ends of such an
    # edge, which runs rightwards above the component and leftwards below it.
    swept = (col[0::2] - col[1::2]) * row[0::2]
    hole = np.add.reduceat(swept, first[:-1] // 2) < 0
    return Rings(owner, first, row, col).take(np.lexsort((hole, owner)))


Ring = list[list[float]]
"""Points of longitude and latitude, the first one repeated at the end."""

_DECIMALS = 7  # of degrees: a centimetre


def cut_at_antimeridian(shape: list[Ring]) -> list[list[Ring]]:
    """Cut a polygon whose longitudes jump at 180 degrees, or run beyond them, into polygons that do neither.

    Args:
        shape: The outer ring, counter-clockwise, and holes, clockwise; each closed.
    Returns:
        The parts, directed in the same way, with longitudes from -180 to 180.
    """
    rings = [_unwrapped(ring) for ring in shape]
    middle = sum(point[0] for point in rings[0]) / len(rings[0])
    for n, ring in enumerate(rings[1:], start=1):
        turns = round((middle - ring[0][0]) / 360) * 360
        rings[n] = [[x + turns, y] for x, y in ring]
    parts, low = [rings], min(point[0] for point in rings[0])
    edge = math.floor((low + 180) / 360) * 360 + 180
    done: list[list[Ring]] = []
    while parts:
        left, rest = [], []
        for part in parts:
            near, far = _cut(part, edge)
            left += near
            rest += far
        turns = edge - 180
        done += [[[[round(x - turns, _DECIMALS), y] for x, y in ring] for ring in part] for part in left]
        parts, edge = rest, edge + 360
    return done


def _unwrapped(ring: Ring) -> Ring:
    """Let longitudes run on where they jump by a whole turn."""
    points = [ring[0]]
    for x, y in ring[1:]:
        points.append([x + 360 * round((points[-1][0] - x) / 360), y])
    return points


def _cut(part: list[Ring], edge: float) -> tuple[list[list[Ring]], list[list[Ring]]]:
    """Cut a polygon at a meridian into the polygons west and east of it; points on it count as east."""
    chains: tuple[list[Ring], list[Ring]] = ([], [])
    whole: tuple[list[Ring], list[Ring]] = ([], [])
    for ring in part:
        points = ring[:-1]
        sides = [x >= edge for x, _ in points]
        if len({*sides}) == 1:
            whole[sides[0]].append(ring)
            continue
        start = next(n for n in range(len(points)) if sides[n] != sides[n - 1])
        chain: Ring = []
        for n in range(start, start + len(points) + 1):
            (x0, y0), (x1, y1) = points[(n - 1) % len(points)], points[n % len(points)]
            if sides[n % len(points)] != sides[(n - 1) % len(points)]:
                crossing = [edge, y0 + (y1 - y0) * (edge - x0) / (x1 - x0)]
                if chain:
                    chains[sides[(n - 1) % len(points)]].append([*chain, crossing])
                chain = [crossing]
            chain.append([x1, y1])
    found = []
    for side in (False, True):
        outer = [ring for ring in _joined(chains[side]) if abs(_signed_area(ring)) > 1e-14]
        outer += [ring for ring in whole[side] if ring is part[0]]
        holes = [ring for ring in whole[side] if ring is not part[0]]
        found.append([[ring, *(hole for hole in holes if _holds(ring, hole[0]))] for ring in outer])
    return found[0], found[1]


def _joined(chains: list[Ring]) -> list[Ring]:
    """Join chains that begin and end on one meridian to rings: the meridian is inside from every first end to the next.

    Sorted by latitude, ends 0 and 1, 2 and 3, … are the ends of the stretches inside the polygon.
    """
    ends = sorted((chain[at][1], n, at) for n, chain in enumerate(chains) for at in (0, -1))
    partner = {ends[k][1:]: ends[k ^ 1][1:] for k in range(len(ends))}
    rings, left = [], {*range(len(chains))}
    while left:
        first = n = min(left)
        ring: Ring = []
        while n in left:
            left.discard(n)
            ring += chains[n]
            n, _ = partner[n, -1]
        assert n == first
        rings.append([*ring, ring[0]])
    return rings


def _signed_area(ring: Ring) -> float:
    """Return the area of a ring, positive where it runs counter-clockwise."""
    x0, y0 = ring[0]
    return sum((a[0] - x0) * (b[1] - y0) - (b[0] - x0) * (a[1] - y0) for a, b in pairwise(ring)) / 2


def _holds(ring: Ring, point: list[float]) -> bool:
    """Tell whether a ring holds a point: a ray to the east crosses it an odd number of times."""
    x, y = point
    crossed = (
        a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1]) > x for a, b in pairwise(ring) if (a[1] > y) != (b[1] > y)
    )
    return sum(crossed) % 2 == 1
