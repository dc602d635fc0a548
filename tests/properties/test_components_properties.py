"""Components of any raster, in strips of any height: GDAL's polygonize is the outside reference."""

import numpy as np
import rasterio.features
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from levelground.imagery.legend import IGNORE
from levelground.prediction.vectorize import Components, find_components

Ring = tuple[tuple[int, int], ...]
Shape = tuple[int, int, Ring, frozenset[Ring]]  # class, pixels, outer ring, holes

RASTERS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([0, 1, 2, 255]))


def from_first(points: list[tuple[int, int]]) -> Ring:
    """A ring that begins at its smallest point."""
    k = points.index(min(points))
    return tuple(points[k:] + points[:k])


def swept(points: list[tuple[int, int]]) -> int:
    """Twice the area of a ring, positive where it runs clockwise on the screen."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True))


def traced(labels: NDArray[np.uint8], cuts: list[int]) -> tuple[list[Shape], list[Components]]:
    """Components as :func:`find_components` finds them."""
    shapes: list[Shape] = []
    lots = list(find_components(np.split(labels, cuts), np.full(len(labels), 0.5)))
    for lot in lots:
        rings: list[list[Ring]] = [[] for _ in lot.label]
        for owner, first, last in zip(lot.rings.owner, lot.rings.first, lot.rings.first[1:], strict=False):
            points = list(zip(lot.rings.col[first:last].tolist(), lot.rings.row[first:last].tolist(), strict=True))
            assert (swept(points) > 0) == (not rings[owner])  # the outer ring comes first and runs the other way
            rings[owner].append(from_first(points))
        for label, pixels, (outer, *holes) in zip(lot.label.tolist(), lot.pixels.tolist(), rings, strict=True):
            shapes.append((label, pixels, outer, frozenset(holes)))
    return shapes, lots


def polygonized(labels: NDArray[np.uint8]) -> list[Shape]:
    """Components as GDAL finds them."""
    shapes: list[Shape] = []
    for geometry, value in rasterio.features.shapes(labels, mask=labels != IGNORE):
        rings = [[(int(x), int(y)) for x, y in ring[:-1]] for ring in geometry["coordinates"]]
        area = abs(swept(rings[0])) - sum(abs(swept(ring)) for ring in rings[1:])
        turned = [ring if (swept(ring) > 0) == (n == 0) else ring[::-1] for n, ring in enumerate(rings)]
        outer, *holes = (from_first(ring) for ring in turned)
        shapes.append((int(value), area // 2, outer, frozenset(holes)))
    return shapes


@settings(max_examples=200)
@given(RASTERS, st.data())
def test_components_are_gdals_polygons_however_it_is_cut(labels: NDArray[np.uint8], data: st.DataObject) -> None:
    """The same classes, sizes, corners and holes, each once; a component that spans strips is one."""
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(labels) - 1)), max_size=4))) if len(labels) > 1 else []
    shapes, lots = traced(labels, cuts)
    assert len(shapes) == len(set(shapes))
    assert set(shapes) == set(polygonized(labels))
    assert all(np.array_equal(lot.area, 0.5 * lot.pixels) for lot in lots)


@given(RASTERS)
def test_components_hold_every_pixel_with_data_once(labels: NDArray[np.uint8]) -> None:
    """Sizes add up to the pixels of each class."""
    _, lots = traced(labels, [])
    found = sum(np.bincount(lot.label, lot.pixels, minlength=256) for lot in lots)
    expected = np.bincount(labels.ravel(), minlength=256)
    expected[IGNORE] = 0
    assert np.array_equal(found, expected)
