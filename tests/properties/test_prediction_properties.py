"""Maps of any size, in any window, restarted at any row."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from builders.prediction import (
    ArrayReader,
    draw_pixels,
    expected_classes,
    predict_one,
    smooth,
    toy_model,
    toy_plan,
    write_pixels,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from levelground.config import PredictOptions
from levelground.imagery.geotiff import RasterInfo, read_window
from levelground.prediction.inputs import resample, resampling_weights
from levelground.prediction.pipeline import predict_missing_rows
from levelground.prediction.resume import Checkpoint
from levelground.prediction.write_raster import OutputGrid
from levelground.tile_geometry import TileGeometry, plan_axis

SIZES = st.integers(1, 150)


@settings(deadline=None, max_examples=15)
@given(SIZES, SIZES, st.sampled_from([(32, 0), (32, 12), (64, 8)]), st.integers(1, 7))
def test_a_network_that_sees_one_pixel_maps_each_pixel_by_itself(
    height: int, width: int, geometry: tuple[int, int], batch: int
) -> None:
    """Exact at any size, tile, halo and batch."""
    pixels = draw_pixels(height, width, seed=height * width)
    with tempfile.TemporaryDirectory() as folder:
        source = write_pixels(Path(folder) / "a.tif", pixels)
        out, (tile, halo) = Path(folder) / "out", geometry
        predicted = predict_one(source, out, tile=tile, halo=halo, batch=batch, cog=False)
        assert np.array_equal(read_window(predicted.classes)[..., 0], expected_classes(pixels))


@settings(deadline=None, max_examples=12)
@given(SIZES, SIZES, st.sampled_from([(32, 0), (32, 14), (64, 8)]), st.integers(1, 7), st.data())
def test_a_job_stopped_at_any_row_ends_with_the_same_bytes(
    height: int, width: int, geometry: tuple[int, int], batch: int, data: st.DataObject
) -> None:
    """Classes, probabilities and class counts; blocks beyond the last finished row may hold anything."""
    rng = np.random.default_rng(height * width)
    pixels, mask = draw_pixels(height, width, seed=width), rng.random((height, width)) < 0.1
    plan = toy_plan(
        RasterInfo(height, width, 3, "uint8"), TileGeometry(*geometry, batch), options=PredictOptions(probs="float32")
    )
    rows, cols = plan.rows, plan.cols

    def run(folder: Path) -> tuple[bytes, bytes, list[int]]:
        with Checkpoint(folder, "job", rows, cols) as checkpoint:
            predict_missing_rows(plan, ArrayReader(pixels, mask), checkpoint)
            assert checkpoint.done
            counts = checkpoint.state.counts.tolist()
        return (folder / "classes.raw").read_bytes(), (folder / "probs.raw").read_bytes(), counts

    with tempfile.TemporaryDirectory() as folder:
        whole = run(Path(folder) / "whole")
        stop = data.draw(st.integers(0, len(rows.starts) - 1))
        parts = Path(folder) / "parts"
        run(parts)
        with Checkpoint(parts, "job", rows, cols) as checkpoint:
            file = checkpoint.block_file("classes", planes=1, dtype="uint8")
            kept = np.zeros(256, np.int64)
            if stop:
                kept = np.bincount(file.read(slice(0, rows.starts[stop]), slice(0, width)).ravel(), minlength=256)
            for r in range(stop, len(rows.starts)):
                for c in range(len(cols.starts)):
                    file.write(r, c, np.full((1, rows.finished(r), cols.finished(c)), 99))
            checkpoint.commit(stop, kept)
        assert run(parts) == whole
        assert whole[2][255] == int(mask.sum())


@settings(deadline=None, max_examples=12)
@given(st.integers(40, 110), st.integers(40, 110), st.integers(0, 2**31))
def test_no_seam_shows_in_a_map(height: int, width: int, seed: int) -> None:
    """A translation-equivariant network of small reach: where it is sure, tiles decide nothing."""
    pixels = draw_pixels(height, width, seed=seed)
    image = torch.from_numpy((pixels.astype(np.float32) - 120) / 60).permute(2, 0, 1)[None]
    logits = smooth(image)[0].numpy()
    ordered = np.sort(logits, axis=0)
    sure = ordered[-1] - ordered[-2] > 0.5
    sure[[0, 1, -2, -1]] = sure[:, [0, 1, -2, -1]] = False
    with tempfile.TemporaryDirectory() as folder:
        source = write_pixels(Path(folder) / "a.tif", pixels)
        predicted = predict_one(source, Path(folder) / "o", toy_model(smooth), tile=32, halo=10, cog=False)
        found = read_window(predicted.classes)[..., 0]
    assert np.array_equal(found[sure], np.array([0, 2, 3], np.uint8)[logits.argmax(axis=0)][sure])


@settings(deadline=None, max_examples=40)
@given(SIZES, SIZES, st.integers(1, 3), st.data())
def test_any_window_of_a_block_file_is_read_as_it_was_written(
    height: int, width: int, planes: int, data: st.DataObject
) -> None:
    """Whatever blocks it touches."""
    rows, cols = plan_axis(height, TileGeometry(32, 5)), plan_axis(width, TileGeometry(32, 5))
    whole = np.random.default_rng(height).integers(0, 256, (planes, height, width)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder, Checkpoint(Path(folder) / "s", "job", rows, cols) as checkpoint:
        file = checkpoint.block_file("x", planes=planes, dtype="uint8")
        for r, top in enumerate(rows.starts):
            for c, left in enumerate(cols.starts):
                file.write(r, c, whole[:, top : top + rows.finished(r), left : left + cols.finished(c)])
        row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        window = slice(row, data.draw(st.integers(row + 1, height))), slice(col, data.draw(st.integers(col + 1, width)))
        assert np.array_equal(file.read(*window), whole[:, *window])
        grid = OutputGrid(RasterInfo(height, width, 1, "uint8"), (height, width))
        assert np.array_equal(grid.read(file, *window), whole[:, *window])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.data())
def test_resampling_window_by_window_is_resampling_the_whole(
    height: int, width: int, tall: int, wide: int, data: st.DataObject
) -> None:
    """To the last bit, mask included: no seam between windows."""
    rng = np.random.default_rng(height * width)
    pixels, mask = rng.integers(0, 256, (height, width, 2)).astype(np.uint8), rng.random((height, width)) < 0.3
    rows, cols = resampling_weights(slice(0, tall), height, tall), resampling_weights(slice(0, wide), width, wide)
    whole, empty = resample(pixels, mask, rows, cols)
    row, col = data.draw(st.integers(0, tall - 1)), data.draw(st.integers(0, wide - 1))
    window = slice(row, data.draw(st.integers(row + 1, tall))), slice(col, data.draw(st.integers(col + 1, wide)))
    down, across = resampling_weights(window[0], height, tall), resampling_weights(window[1], width, wide)
    part, none = resample(pixels[down.window, across.window], mask[down.window, across.window], down, across)
    assert np.allclose(part, whole[window], atol=1e-4)
    if empty is not None and none is not None:
        assert np.array_equal(none, empty[window])
