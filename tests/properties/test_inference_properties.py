import tempfile
from pathlib import Path

import numpy as np
import torch
from builders.models import toy_model
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from levelground.inference.sliding_window import sliding_window_inference
from levelground.models.model import Forward
from levelground.runtime import make_runtime
from levelground.tile_geometry import TileGeometry

RUNTIME = make_runtime("cpu", "fp32", threads=1)


def scores(pixels: NDArray[np.uint8], forward: Forward, *, tile: int, halo: int, batch: int) -> NDArray[np.float32]:
    """Blended probabilities of a scene."""
    model = toy_model(forward, bands=1, mean=100.0, std=50.0)
    blocks = list(sliding_window_inference(model, pixels, TileGeometry(tile, halo, batch), RUNTIME))
    whole = np.full((blocks[0].probs.shape[0], *pixels.shape[:2]), np.nan, np.float32)
    for block in blocks:
        whole[:, *block.place] = block.probs.numpy()
    return whole


def local_mean(image: torch.Tensor) -> torch.Tensor:
    """A translation-equivariant network that sees 3 pixels far, zeros beyond the tile's border."""
    near = torch.nn.functional.avg_pool2d(image, 7, stride=1, padding=3)
    return torch.cat([near, -near], dim=1)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 15), st.integers(1, 9), st.integers(0, 2**31))
def test_the_batch_size_changes_nothing(height: int, width: int, halo: int, batch: int, seed: int) -> None:
    """Batches may span rows of tiles; each tile's result is its own."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 1), np.uint8)
    one = scores(pixels, local_mean, tile=32, halo=halo, batch=1)
    assert np.array_equal(one, scores(pixels, local_mean, tile=32, halo=halo, batch=batch))
    assert np.allclose(one.sum(axis=0), 1, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(33, 100), st.integers(33, 100), st.integers(6, 14), st.integers(0, 2**31))
def test_the_place_of_tiles_does_not_show_for_a_network_of_small_reach(
    height: int, width: int, halo: int, seed: int
) -> None:
    """Away from the scene's border the tiles cannot be seen: the network's seams, a tenth deep, shrink below .01.

    A pixel at distance d from a tile's border has the smoothstep of d over the overlap as its share: at most .11 where
    the network, which reaches 3 pixels far, errs at all.
    """
    pixels = np.random.default_rng(seed).integers(140, 161, (height, width, 1), np.uint8)
    whole = scores(pixels, local_mean, tile=0, halo=0, batch=1)
    inner = (slice(None), slice(3, -3), slice(3, -3))
    for tile in (32, 64):
        tiled = scores(pixels, local_mean, tile=tile, halo=halo, batch=4)
        assert np.abs(tiled[inner] - whole[inner]).max() <= 0.01


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([0, 32, 64]), st.integers(0, 15), st.integers(0, 2**31))
def test_where_tiles_agree_blending_is_exact(height: int, width: int, tile: int, halo: int, seed: int) -> None:
    """A network without any context gives the same bits at any tile and halo."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 1), np.uint8)

    def table(image: torch.Tensor) -> torch.Tensor:
        return torch.cat([(image > 0) * 2.0, (image > 1) * 1.0], dim=1)

    assert np.array_equal(
        scores(pixels, table, tile=tile, halo=halo, batch=3), scores(pixels, table, tile=96, halo=0, batch=1)
    )


def blocks_of(
    pixels: NDArray[np.uint8], *, tile: int, halo: int, batch: int, first_row: int = 0, folder: Path | None = None
) -> dict[tuple[int, int], NDArray[np.float32]]:
    """Each block of a pass by its place."""
    model = toy_model(local_mean, bands=1, mean=100.0, std=50.0)
    blocks = sliding_window_inference(
        model, pixels, TileGeometry(tile, halo, batch), RUNTIME, first_row=first_row, overlap_folder=folder
    )
    return {(block.row, block.col): block.probs.numpy().copy() for block in blocks}


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 120),
    st.integers(1, 80),
    st.sampled_from([(32, 0), (32, 4), (32, 12), (32, 15), (64, 20)]),
    st.integers(1, 9),
    st.data(),
)
def test_a_pass_from_a_later_row_has_the_same_bits(
    height: int, width: int, geometry: tuple[int, int], batch: int, data: st.DataObject
) -> None:
    """Whatever the size, the overlap and the row: the blocks are those of a whole pass, and no others."""
    tile, halo = geometry
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 1), np.uint8)
    whole = blocks_of(pixels, tile=tile, halo=halo, batch=batch)
    starts = sorted({row for row, _ in whole})
    first = data.draw(st.integers(0, len(starts) - 1))
    later = blocks_of(pixels, tile=tile, halo=halo, batch=batch, first_row=first)
    assert sorted(later) == [place for place in sorted(whole) if place[0] >= starts[first]]
    assert all(np.array_equal(later[place], whole[place]) for place in later)


@settings(deadline=None, max_examples=15)
@given(st.integers(33, 120), st.integers(1, 120), st.integers(0, 15), st.integers(1, 5))
def test_a_lower_overlap_in_a_file_changes_nothing(height: int, width: int, halo: int, batch: int) -> None:
    """The same bits as with the overlap in memory; the file is gone afterwards."""
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 1), np.uint8)
    memory = blocks_of(pixels, tile=32, halo=halo, batch=batch)
    with tempfile.TemporaryDirectory() as folder:
        file = blocks_of(pixels, tile=32, halo=halo, batch=batch, folder=Path(folder))
        assert list(Path(folder).iterdir()) == []
    assert all(np.array_equal(memory[place], file[place]) for place in memory)
