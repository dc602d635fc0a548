import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from levelground.tile_geometry import TileGeometry, cut, plan_axis, stitch, windows


@st.composite
def geometries(draw: st.DrawFn) -> TileGeometry:
    """A tile and a halo that leaves a step of at least one pixel."""
    tile = draw(st.integers(1, 40))
    return TileGeometry(tile, draw(st.integers(0, (tile - 1) // 2)))


@given(st.integers(1, 90), st.integers(1, 90), geometries())
def test_windows_cover_every_pixel_and_lie_inside(height: int, width: int, geometry: TileGeometry) -> None:
    """Every pixel lies under a tile, no tile reaches out of the scene."""
    covered = np.zeros((height, width), np.int64)
    for window in windows(height, width, geometry):
        assert window.row >= 0
        assert window.col >= 0
        part = covered[window.row : window.row + window.height, window.col : window.col + window.width]
        assert part.shape == (window.height, window.width)
        part += 1
    assert covered.min() >= 1


@given(st.integers(1, 5000), geometries())
def test_neighbours_share_at_least_two_halos_and_tiles_are_as_few_as_can_be(
    length: int, geometry: TileGeometry
) -> None:
    """One tile fewer would break the smallest overlap; finished parts add up to the length."""
    tile, halo = geometry.tile, geometry.halo
    axis = plan_axis(length, geometry)
    n = len(axis.starts)
    assert all(axis.overlap(k) >= 2 * halo for k in range(1, n))
    assert sum(axis.finished(k) for k in range(n)) == length
    assert n == 1 or (n - 2) * (tile - 2 * halo) + tile < length


@given(st.integers(1, 60), st.integers(1, 60), geometries(), st.integers(0, 2**31))
def test_stitching_what_was_cut_gives_the_scene_to_the_last_bit(
    height: int, width: int, geometry: TileGeometry, seed: int
) -> None:
    """``stitch(cut(x)) == x`` for any size, tile and halo, whole scenes (tile 0) included."""
    scene = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    for chosen in (geometry, TileGeometry(0, 0)):
        tiles = np.asarray(cut(scene, chosen), np.float32)
        assert np.array_equal(stitch(tiles, height, width, chosen), scene)


@given(st.integers(1, 60), st.integers(1, 60), geometries(), st.integers(0, 2**31))
def test_blending_stays_between_the_tiles_values(height: int, width: int, geometry: TileGeometry, seed: int) -> None:
    """Shares are positive and add up to 1: tiles with values in [0, 1] give a scene in [0, 1]."""
    count, tile = len(windows(height, width, geometry)), geometry.tile
    tiles = np.random.default_rng(seed).random((count, tile, tile), dtype=np.float32)
    scene = stitch(tiles, height, width, geometry)
    assert tiles.min() - 1e-6 <= scene.min()
    assert scene.max() <= tiles.max() + 1e-6
