import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.models import toy_model
from numpy.typing import NDArray

from levelground.errors import DiskError, ShapeError
from levelground.inference.sliding_window import Block, sliding_window_inference
from levelground.inference.tensors import Normaliser
from levelground.models.model import Forward
from levelground.runtime import make_runtime
from levelground.tile_geometry import TileGeometry, cut, stitch

RUNTIME = make_runtime("cpu", "fp32", threads=1)
Stored = NDArray[np.generic]


def pixelwise(image: torch.Tensor) -> torch.Tensor:
    """A network that sees one pixel: three classes from two bands."""
    a, b = image[:, 0], image[:, 1]
    return torch.stack([a, b, a - b], dim=1)


def run(
    pixels: Stored,
    *,
    forward: Forward = pixelwise,
    tile: int = 32,
    halo: int = 4,
    batch: int = 3,
    classes: int = 3,
    take: Callable[[Block], None] = lambda block: None,
) -> NDArray[np.float32]:
    """Run over a scene and put the blocks together; pixels that no block covers stay NaN."""
    whole = np.full((classes, *pixels.shape[:2]), np.nan, np.float32)
    bands = pixels.shape[2]
    model = toy_model(forward, bands=bands, mean=10.0, std=5.0)
    blocks = sliding_window_inference(model, pixels, TileGeometry(tile, halo, batch), RUNTIME)
    for block in blocks:
        take(block)
        assert np.isnan(whole[:, *block.place]).all()
        whole[:, *block.place] = block.probs.numpy()
    return whole


def scene(height: int, width: int, bands: int = 2, dtype: str = "uint8") -> Stored:
    """Random pixels."""
    return np.random.default_rng(height * width).integers(0, 40, (height, width, bands)).astype(dtype)


def probabilities(pixels: Stored) -> NDArray[np.float32]:
    """What :func:`pixelwise` gives for each pixel, without tiles."""
    image = torch.from_numpy((pixels.astype(np.float64) - 10) / 5).permute(2, 0, 1)[None]
    return torch.softmax(pixelwise(image), dim=1)[0].float().numpy()


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (31, 33), (64, 64), (75, 130)])
@pytest.mark.parametrize(("tile", "halo", "batch"), [(32, 0, 1), (32, 4, 3), (32, 15, 64), (0, 4, 2)])
def test_a_network_that_sees_one_pixel_gives_the_same_at_any_tile(
    shape: tuple[int, int], tile: int, halo: int, batch: int
) -> None:
    """Every pixel comes once and has its own probabilities, whatever the scene's size and the tiles."""
    pixels = scene(*shape)
    assert run(pixels, tile=tile, halo=halo, batch=batch) == pytest.approx(probabilities(pixels), abs=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_any_type_of_stored_pixels_is_read(dtype: str) -> None:
    """16-bit and float imagery take the same way as 8-bit."""
    pixels = scene(40, 50, dtype=dtype)
    assert run(pixels) == pytest.approx(probabilities(pixels), abs=1e-6)


def test_a_stored_nan_becomes_the_mean() -> None:
    """Float rasters mark missing data by NaN; one such pixel must not spoil its tile."""
    pixels = scene(40, 50, dtype="float32")
    pixels[3, 4] = np.nan
    filled = pixels.copy()
    filled[3, 4] = 10
    assert np.array_equal(run(pixels), run(filled))


def test_probabilities_are_blended_not_logits() -> None:
    """Two tiles that disagree meet at the mean of their probabilities, weighted by the smoothstep."""

    def by_first_column(image: torch.Tensor) -> torch.Tensor:
        left = image[:, :, :, :1] < 0
        return torch.cat([left * 9.0, ~left * 9.0], dim=1).expand(-1, -1, *image.shape[2:])

    pixels = np.zeros((32, 56, 1), np.uint8)
    pixels[:, 24:] = 30
    probs = run(pixels, forward=by_first_column, halo=4, classes=2)
    sure = float(torch.softmax(torch.tensor([9.0, 0.0]), 0)[0])
    t = (np.arange(8) + 0.5) / 8
    share = t * t * (3 - 2 * t)
    assert probs[0, 0, 24:32] == pytest.approx(sure * (1 - share) + (1 - sure) * share, abs=1e-6)
    assert probs[0, 0, :24] == pytest.approx(sure)
    assert probs[0, 0, 32:] == pytest.approx(1 - sure, abs=1e-6)


def test_a_halo_hides_the_seams_of_a_network_that_sees_its_neighbours() -> None:
    """Zeros beyond a tile's border show a tenth deep without a halo, and below a hundredth with one."""

    def local_mean(image: torch.Tensor) -> torch.Tensor:
        near = torch.nn.functional.avg_pool2d(image, 7, stride=1, padding=3)
        return torch.cat([near, -near], dim=1)

    pixels = np.full((64, 64, 1), 15, np.uint8)
    inner = (slice(None), slice(3, -3), slice(3, -3))
    whole = run(pixels, forward=local_mean, tile=0, classes=2)[inner]
    assert np.abs(run(pixels, forward=local_mean, halo=0, classes=2)[inner] - whole).max() > 0.1
    assert np.abs(run(pixels, forward=local_mean, halo=8, classes=2)[inner] - whole).max() < 0.01


def test_the_sliding_window_equals_the_plain_stitch() -> None:
    """Blending as tiles come gives what :func:`stitch` gives of all tiles at once."""

    def with_context(image: torch.Tensor) -> torch.Tensor:
        wide = torch.nn.functional.avg_pool2d(image, 9, stride=1, padding=4)
        return torch.cat([image, wide], dim=1)

    pixels = scene(100, 75)
    tiles = torch.from_numpy(cut(pixels, TileGeometry(32, 5))).permute(0, 3, 1, 2)
    probs = torch.softmax(with_context((tiles.float() - 10) / 5), dim=1).numpy()
    expected = [stitch(one, 100, 75, TileGeometry(32, 5)) for one in probs.transpose(1, 0, 2, 3)]
    swept = run(pixels, forward=with_context, halo=5, classes=4)
    assert swept == pytest.approx(np.stack(expected), abs=1e-6)


def test_only_windows_of_one_tile_are_read() -> None:
    """Anything with slices will do, and a raster is never read whole."""

    class Raster:
        shape = (200, 90, 2)
        asked: list[tuple[slice, slice]] = []  # noqa: RUF012 - one test

        def __getitem__(self, key: tuple[slice, slice]) -> Stored:
            self.asked.append(key)
            return np.zeros((key[0].stop - key[0].start, key[1].stop - key[1].start, 2), np.uint8)

    raster = Raster()
    for _ in sliding_window_inference(toy_model(pixelwise), raster, TileGeometry(32, 4, 2), RUNTIME):
        pass
    assert {(rows.stop - rows.start, cols.stop - cols.start) for rows, cols in raster.asked} == {(32, 32)}
    assert len(raster.asked) == 8 * 4


def test_a_block_holds_its_values_after_later_tiles_came() -> None:
    """Blocks may be kept: no later tile writes into them."""
    kept: list[tuple[Block, NDArray[np.float32]]] = []
    run(scene(90, 90), take=lambda block: kept.append((block, block.probs.numpy().copy())))
    assert all(np.array_equal(block.probs.numpy(), then) for block, then in kept)


def test_a_reader_that_fails_stops_the_inference_and_leaves_no_thread() -> None:
    """An error in the reading thread reaches the caller."""

    class Broken:
        shape = (64, 64, 2)

        def __getitem__(self, key: tuple[slice, slice]) -> Stored:
            raise OSError("the raster breaks off")

    with pytest.raises(OSError, match=r"^the raster breaks off$"):
        list(sliding_window_inference(toy_model(pixelwise), Broken(), TileGeometry(32, 4), RUNTIME))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tiles")]


def test_the_callers_gradient_mode_is_left_alone() -> None:
    """Between blocks, and after a pass that was given up, autograd works as before."""
    blocks = sliding_window_inference(toy_model(pixelwise), scene(64, 64), TileGeometry(32, 4), RUNTIME)
    next(blocks)
    assert not torch.is_inference_mode_enabled()
    blocks.close()  # type: ignore[attr-defined]
    assert not torch.is_inference_mode_enabled()


def test_a_network_that_changes_the_size_is_refused() -> None:
    """The two sizes are named."""
    text = (
        "the network made (16, 16) of tiles of (32, 32) with 2 bands. "
        "Expected an output of the input's height and width."
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(text)}$"):
        run(scene(40, 40), forward=lambda image: image[:, :, ::2, ::2])


def test_a_device_without_channels_last_gets_contiguous_images() -> None:
    """MPS offers no channels-last memory."""

    class Plain:
        device, device_kind, channels_last = torch.device("cpu"), "mps", False
        autocast = staticmethod(RUNTIME.autocast)

    seen: list[bool] = []

    def watch(image: torch.Tensor) -> torch.Tensor:
        seen.append(image.is_contiguous())
        return pixelwise(image)

    list(sliding_window_inference(toy_model(watch), scene(40, 40), TileGeometry(32, 4, 2), Plain()))  # type: ignore[arg-type]
    assert seen == [True, True]


def test_normalising_gives_channels_last_without_a_copy() -> None:
    """Stored rows of pixels are channels-last already; the values are (value − mean) / std."""
    stored = torch.from_numpy(scene(5, 7, 3)[None])
    image = Normaliser([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], torch.device("cpu"))(stored)
    expected = (stored.double() - torch.tensor([1.0, 2, 3])) / torch.tensor([4.0, 5, 6])
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert image.permute(0, 2, 3, 1).numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_probabilities_that_a_network_gives_itself_are_taken_as_they_are() -> None:
    """Exported models have their softmax inside."""
    pixels = scene(40, 50)

    def with_softmax(image: torch.Tensor) -> torch.Tensor:
        return torch.softmax(pixelwise(image), dim=1)

    model = toy_model(with_softmax, mean=10.0, std=5.0, activated=True)
    blocks = list(sliding_window_inference(model, pixels, TileGeometry(32, 4, 2), RUNTIME))
    whole = np.full((3, 40, 50), np.nan, np.float32)
    for block in blocks:
        whole[:, *block.place] = block.probs.numpy()
    assert np.array_equal(whole, run(pixels, batch=2))


def test_a_later_row_reads_only_the_tiles_it_blends_with() -> None:
    """One row above, where tiles overlap by less than half; the rest of a scene is not read again."""
    read: list[int] = []

    class Raster:
        shape = (300, 32, 2)

        def __getitem__(self, key: tuple[slice, slice]) -> Stored:
            read.append(key[0].start)
            return np.zeros((32, 32, 2), np.uint8)

    blocks = list(sliding_window_inference(toy_model(pixelwise), Raster(), TileGeometry(32, 4), RUNTIME, first_row=5))
    assert read[0] < blocks[0].row == read[1]
    assert len(read) == len(blocks) + 1


def test_edges_that_the_disk_does_not_take_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is the user's to mend, and the job goes on."""
    monkeypatch.setattr("levelground.inference.sliding_window.os.pwrite", lambda *_: 0)
    text = f"{tmp_path}: cannot be written (No space left on device). Free space; the same command goes on."
    with pytest.raises(DiskError, match=f"^{re.escape(text)}$"):
        list(
            sliding_window_inference(
                toy_model(pixelwise), scene(90, 40), TileGeometry(32, 4, 2), RUNTIME, overlap_folder=tmp_path
            )
        )
