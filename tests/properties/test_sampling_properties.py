"""What holds of every crop, whatever is drawn."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from levelground.config import Recipe
from levelground.imagery.legend import IGNORE
from levelground.training.batches import Draw, cut_crop, make_sampler

SIZE = st.integers(1, 90)
TILES = st.sampled_from([32, 64, 96])


@st.composite
def crops(draw: st.DrawFn) -> tuple[tuple[int, int], int, Draw]:
    """A scene's size, a tile and what a sampler draws for it."""
    size, tile = (draw(SIZE), draw(SIZE)), draw(TILES)
    low, high = sorted((draw(st.floats(0.1, 4)), draw(st.floats(0.1, 4))))
    recipe = dataclasses.replace(Recipe(), tile=tile, batch=2, scale_min=low, scale_max=high)
    sampler = make_sampler(recipe, draw(st.integers(0, 2**64)), [size], 3)
    return size, tile, sampler.draw(draw(st.integers(0, 10**9)), draw(st.integers(0, 1)), draw(st.integers(0, 9)))


@settings(deadline=None)
@given(crops(), st.integers(0, 2**32 - 1))
def test_labels_never_invent_a_class(crop: tuple[tuple[int, int], int, Draw], seed: int) -> None:
    """Nearest neighbour: only labels of the window, and ``IGNORE`` beyond the scene."""
    size, tile, draw = crop
    labels = np.random.default_rng(seed).choice(np.uint8([0, 3, 7, 200, IGNORE]), size)
    found = cut_crop(labels, draw, tile, nearest=True, fill=IGNORE)
    window = labels[draw.row : draw.row + draw.side, draw.col : draw.col + draw.side]
    assert found.shape == (tile, tile)
    assert set(np.unique(found)) <= set(np.unique(window)) | {IGNORE}


@settings(deadline=None)
@given(crops(), st.sampled_from(["uint8", "uint16", "float32"]), st.sampled_from([1, 3, 4, 12]))
def test_images_stay_within_the_range_of_their_window(
    crop: tuple[tuple[int, int], int, Draw], dtype: str, bands: int
) -> None:
    """Area means and bilinear interpolation invent no brightness; shape and type are as asked."""
    size, tile, draw = crop
    pixels = np.random.default_rng(draw.side).integers(0, 250, (*size, bands)).astype(dtype)
    found = cut_crop(pixels, draw, tile, nearest=False)
    window = pixels[draw.row : draw.row + draw.side, draw.col : draw.col + draw.side]
    assert (found.shape, found.dtype) == ((tile, tile, bands), pixels.dtype)
    assert found.flags.c_contiguous
    assert (found >= window.min((0, 1)) - 1e-3).all()
    assert (found <= window.max((0, 1)) + 1e-3).all()


@settings(deadline=None)
@given(crops())
def test_windows_begin_inside_the_scene(crop: tuple[tuple[int, int], int, Draw]) -> None:
    """And end inside it wherever it is large enough."""
    (height, width), _, draw = crop
    assert 1 <= draw.side <= max(height, width)
    assert 0 <= draw.row <= max(0, height - draw.side)
    assert 0 <= draw.col <= max(0, width - draw.side)
    assert 0 <= draw.symmetry < 8


@settings(deadline=None)
@given(st.integers(0, 2**64), st.integers(1, 30), st.integers(1, 9))
def test_every_round_is_a_permutation(seed: int, scenes: int, batch: int) -> None:
    """Each scene once a round, for any number of scenes and any batch."""
    recipe = dataclasses.replace(Recipe(), batch=batch)
    sampler = make_sampler(recipe, seed, [(600, 600)] * scenes, 3)
    places = [sampler.scene_at(*divmod(place, batch)) for place in range(3 * scenes)]
    for turn in range(3):
        assert sorted(places[turn * scenes : (turn + 1) * scenes]) == list(range(scenes))
