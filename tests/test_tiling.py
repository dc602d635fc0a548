import re

import numpy as np
import pytest

from levelground.errors import ConfigError, ShapeError
from levelground.tile_geometry import (
    Axis,
    TileGeometry,
    Window,
    cut,
    pad_tile,
    plan_axis,
    stitch,
    tile_starts,
    windows,
)


def test_tiles_are_as_few_as_the_stride_allows_and_spread_evenly() -> None:
    """Steps are never above the stride and differ by one pixel at most; the last tile ends at the border."""
    assert tile_starts(2448, 512, 384) == (0, 322, 645, 968, 1290, 1613, 1936)
    assert tile_starts(512, 512, 384) == (0,)
    assert tile_starts(513, 512, 384) == (0, 1)
    assert tile_starts(1, 512, 384) == (0,)


@pytest.mark.parametrize(("length", "tile", "stride"), [(0, 4, 4), (4, 0, 1), (4, 4, 0), (4, 4, 5)])
def test_impossible_lengths_and_strides_are_refused(length: int, tile: int, stride: int) -> None:
    """A stride above the tile would leave holes."""
    text = f"length {length}, tile {tile}, stride {stride}: expected 1 ≤ stride ≤ tile and length ≥ 1."
    with pytest.raises(ShapeError, match=f"^{re.escape(text)}$"):
        tile_starts(length, tile, stride)


def test_windows_are_cropped_to_a_scene_smaller_than_the_tile() -> None:
    """A window never reaches out of the scene; padding is the reader's business."""
    assert windows(5, 9, TileGeometry(8, 2)) == [Window(0, 0, 5, 8), Window(0, 1, 5, 8)]
    assert windows(33, 40, TileGeometry(0, 64)) == [Window(0, 0, 33, 40)]


def test_tile_zero_is_the_whole_scene_rounded_up_to_a_multiple_of_32() -> None:
    """2448 is not a multiple of 32, 2464 is."""
    assert plan_axis(2448, TileGeometry(0, 64)) == Axis(2448, 2464, (0,))


def test_shares_of_two_neighbours_mirror_each_other_and_add_up_to_one() -> None:
    """The smoothstep is symmetric: what the later tile takes at one end the earlier one keeps at the other."""
    axis = plan_axis(20, TileGeometry(12, 2))
    share = axis.share(1)
    assert axis.starts == (0, 8)
    assert share.tolist() == pytest.approx([0.04296875, 0.31640625, 0.68359375, 0.95703125])
    assert (share + share[::-1]).tolist() == pytest.approx([1, 1, 1, 1], abs=1e-7)
    assert axis.share(0).size == 0


def test_stitch_blends_halfway_between_tiles_that_disagree() -> None:
    """Tiles of zeros and ones give the smoothstep itself, along rows and along columns."""
    tiles = np.stack([np.zeros((4, 4), np.float32), np.ones((4, 4), np.float32)])
    expected = [0, 0, 0.15625, 0.84375, 1, 1]
    assert stitch(tiles, 4, 6, TileGeometry(4, 1))[2].tolist() == pytest.approx(expected)
    assert stitch(tiles, 6, 4, TileGeometry(4, 1))[:, 1].tolist() == pytest.approx(expected)


def test_small_scenes_are_continued_by_reflection_without_repeating_the_border() -> None:
    """Reflection goes on as often as needed; one pixel is continued by itself."""
    region = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert pad_tile(region, 4, 6).tolist() == [
        [0, 1, 2, 1, 0, 1],
        [3, 4, 5, 4, 3, 4],
        [0, 1, 2, 1, 0, 1],
        [3, 4, 5, 4, 3, 4],
    ]
    assert pad_tile(region[:1, :1], 2, 2).tolist() == [[0, 0], [0, 0]]
    assert pad_tile(region, 2, 3) is region
    assert cut(region, TileGeometry(4, 1)).shape == (1, 4, 4)


def test_padding_equals_numpys_reflection() -> None:
    """The same as ``numpy.pad(mode="reflect")``, also where the pad is longer than the scene."""
    region = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    assert np.array_equal(pad_tile(region, 23, 16), np.pad(region, ((0, 18), (0, 9), (0, 0)), mode="reflect"))


@pytest.mark.parametrize(
    ("tile", "halo", "text"),
    [
        (-32, 0, "--tile -32 --halo 0: negative. Give 0 or more (tile 0 = the whole scene at once)."),
        (64, -1, "--tile 64 --halo -1: negative. Give 0 or more (tile 0 = the whole scene at once)."),
        (500, 0, "--tile 500: the network needs a multiple of 32. Pass --tile 512."),
        (8, 0, "--tile 8: the network needs a multiple of 32. Pass --tile 32."),
        (64, 32, "--halo 32: twice the halo leaves no step between tiles of 64. Pass --halo 8 or less."),
    ],
)
def test_impossible_geometry_is_refused_with_the_remedy(tile: int, halo: int, text: str) -> None:
    """The message names the flag, the reason and a value that works."""
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        TileGeometry(tile, halo).check()


def test_possible_geometry_passes() -> None:
    """Whole scenes need no halo to fit; networks without halvings take any tile."""
    TileGeometry(0, 64).check()
    TileGeometry(512, 64).check()
    TileGeometry(7, 3).check(multiple=1)


def test_stitch_refuses_tiles_of_another_geometry() -> None:
    """The expected shape is named."""
    text = "tiles are (1, 4, 4), a scene of 4 × 6 needs (2, 4, 4). Cut it with the same geometry."
    with pytest.raises(ShapeError, match=f"^{re.escape(text)}$"):
        stitch(np.zeros((1, 4, 4), np.float32), 4, 6, TileGeometry(4, 1))


@pytest.mark.parametrize(("halo", "rows"), [(4, 1), (12, 3)])
def test_a_tile_is_touched_by_those_that_reach_over_its_start(halo: int, rows: int) -> None:
    """One tile before it where they overlap by less than half, more where they overlap by more."""
    axis = plan_axis(320, TileGeometry(32, halo))
    assert axis.first_touching(9) == 9 - rows
    assert axis.first_touching(0) == 0
