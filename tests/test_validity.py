"""Tests of :mod:`levelground.imagery.validity`: one rule for training, labels, prediction and adopted masks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from builders.prediction import toy_plan
from builders.scene_files import PLACE, noise, save_raster
from numpy.typing import NDArray

from levelground.config import PredictOptions, PrepareOptions, ReadOptions
from levelground.datasets.prepare import prepare_dataset
from levelground.imagery.cache import Cache
from levelground.imagery.geotiff import RasterInfo
from levelground.imagery.image_headers import read_header
from levelground.imagery.image_pixels import mask_nodata, read_image_with_nodata
from levelground.imagery.legend import IGNORE, default_legend
from levelground.imagery.raster_reader import RasterReader
from levelground.imagery.scene_pixels import SceneFile, read_labels
from levelground.imagery.validity import find_far_value
from levelground.prediction.inputs import RasterPixels, find_inputs
from levelground.prediction.plan import choose_nodata_rule
from levelground.records import sha256_file
from levelground.tile_geometry import TileGeometry

EMPTY, OPTIONS = np.s_[:, :5], PredictOptions()


def rgba(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write colours with a band tagged as alpha."""
    height, width, bands = pixels.shape
    size = {"height": height, "width": width, "count": bands, "dtype": "uint8"}
    place = {"crs": "EPSG:26917", "transform": rasterio.Affine(*PLACE)}
    with rasterio.open(path, "w", driver="GTiff", photometric="RGB", alpha="YES", **size, **place) as raster:
        raster.write(pixels.transpose(2, 0, 1))
    return path


def write_case(path: Path, case: str) -> Path:
    """Write an image whose left five columns have no data, as the case says."""
    pixels = noise(40, 60, dtype="float32" if case in ("nan", "inf") else "int16" if case == "one band" else "uint8")
    if case == "alpha":
        alpha = np.full((40, 60, 1), 255, np.uint8)
        alpha[EMPTY] = 0
        return rgba(path, np.concatenate([pixels, alpha], -1))
    if case in ("nan", "inf"):
        pixels[:, :5, 1] = {"nan": np.nan, "inf": -np.inf}[case]
        return save_raster(path, pixels)
    if case == "one band":
        pixels[:, :5, 2] = -9999
        return save_raster(path, pixels, nodata=-9999)
    pixels[EMPTY] = {"tag": 7, "zero": 0, "mask": 30}[case]
    save_raster(path, pixels, nodata=7 if case == "tag" else None)
    if case == "mask":
        valid = np.full((40, 60), 255, np.uint8)
        valid[EMPTY] = 0
        with rasterio.open(path, "r+") as raster:
            raster.write_mask(valid)
    return path


@pytest.mark.parametrize("case", ["tag", "one band", "zero", "nan", "inf", "mask", "alpha"])
def test_training_and_prediction_leave_out_the_same_pixels(tmp_path: Path, case: str) -> None:
    """Whatever carries it: training, the labels beside and prediction agree on each pixel; bands are the same."""
    path = write_case(tmp_path / "a.tif", case)
    image, missing = read_image_with_nodata(path)
    expected = np.zeros((40, 60), bool)
    expected[EMPTY] = True
    assert image.shape == (40, 60, 3)
    assert np.array_equal(missing, expected)
    with RasterReader(path) as reader:
        pixels = RasterPixels(reader, (1, 2, 3), choose_nodata_rule(reader, (1, 2, 3), ReadOptions()))
        assert np.array_equal(pixels.read(slice(0, 40), slice(0, 60))[1], expected)
    label = save_raster(tmp_path / "m.tif", np.ones((40, 60), np.uint8))
    labels = read_labels(SceneFile("a", path, label, coding="index"), default_legend(2))
    assert np.array_equal(labels == IGNORE, expected)


def test_near_infrared_tagged_alpha_stays_a_band(tmp_path: Path) -> None:
    """GDAL tags the fourth band of bytes as alpha by itself."""
    path = rgba(tmp_path / "a.tif", noise(40, 60, 4))
    image, missing = read_image_with_nodata(path)
    assert image.shape == (40, 60, 4)
    assert missing is None
    assert read_header(path).image_bands == 4


def test_alpha_of_a_label_raster_is_no_data(tmp_path: Path) -> None:
    """In three equal bands or in one."""
    pixels = np.ones((40, 60, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[:, :5, 3] = 0
    path = rgba(tmp_path / "m.tif", pixels)
    missing = mask_nodata(path, read_header(path))
    assert missing is not None
    assert missing.sum() == 200


def test_a_header_is_read_anew_when_a_mask_is_laid_beside_it(tmp_path: Path) -> None:
    """Headers are remembered by size and time of the file and of those beside it."""
    path = save_raster(tmp_path / "a.tif", noise(8, 8))
    assert not read_header(path).masked
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as raster:
        raster.write_mask(np.zeros((8, 8), np.uint8))
    assert (tmp_path / "a.tif.msk").exists()
    assert read_header(path).masked


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(-9999, "int16"), (-32768, "int16"), (65535, "uint16"), (np.finfo("f4").min, "float32"), (1e20, "float32")],
)
def test_lone_far_values_are_found_and_plain_ones_are_not(value: float, dtype: str) -> None:
    """The sentinels that tools leave untagged, in one band of several."""
    pixels = np.random.default_rng(0).integers(100, 3000, (64, 64, 3)).astype(dtype)
    assert find_far_value(pixels) is None
    pixels[:, :3, 1] = value
    found = find_far_value(pixels)
    assert found is not None
    assert found.value == pytest.approx(value, rel=1e-6)
    assert found.band == 2
    assert found.share == pytest.approx(3 / 64)
    assert 100 <= found.next < 3000


def test_saturated_and_byte_values_are_not_far() -> None:
    """A sensor's highest value lies beside others; a byte's range says nothing; a lone pixel may be a roof."""
    pixels = np.random.default_rng(0).integers(0, 65536, (64, 64, 1)).astype("uint16")
    pixels[:9] = 65535
    assert find_far_value(pixels) is None
    assert find_far_value(np.uint8([[[0]] * 6 + [[255]] * 6])) is None
    pixels = np.full((64, 64, 1), 0.5, "float32")
    pixels[::2] = 0.4
    pixels[0, 0] = 90
    assert find_far_value(pixels) is None


def write_pairs(folder: Path, images: list[NDArray[np.generic]]) -> None:
    """Write scenes with labels of two classes."""
    for sub in ("images", "labels"):
        (folder / sub).mkdir(parents=True)
    for number, image in enumerate(images):
        labels = np.zeros(image.shape[:2], np.uint8)
        labels[8:] = 1
        save_raster(folder / f"images/{number}.tif", image, placed=False)
        save_raster(folder / f"labels/{number}.tif", labels, placed=False)


def test_prepare_warns_of_untagged_sentinels_and_of_dropped_zeros(tmp_path: Path) -> None:
    """Each named with its value; a second call reads the same from the cache; the user's word on zeros counts."""
    images = [noise(40, 60, dtype="float32", seed=seed) for seed in range(3)]
    images[1][:, :4] = np.finfo("f4").min
    images[2][:, :3] = 0
    write_pairs(tmp_path / "data", images)
    options = PrepareOptions(tmp_path / "study", tmp_path / "data", cache=tmp_path / "cache", split="random")
    first, again = prepare_dataset(options), prepare_dataset(options)
    assert first == again
    texts = {one.code: one for one in first.findings}
    assert texts["far-value"].scene == "1"
    assert "-3.40282347e+38" in texts["far-value"].text
    assert "120 px" in texts["zero-pixels"].text
    assert first.scene("2").ignored_pixels == 120
    dark = PrepareOptions(
        tmp_path / "dark", tmp_path / "data", cache=tmp_path / "cache", split="random", zero_is_nodata=False
    )
    second = prepare_dataset(dark)
    assert second.scene("2").ignored_pixels == 0
    assert "zero-pixels" not in {one.code for one in second.findings}
    assert second.scene("2").image_sha256 != first.scene("2").image_sha256


def test_nan_in_a_file_without_tags_is_not_called_zero(tmp_path: Path) -> None:
    """The cache holds both as 0; only what the file holds as 0 is warned of."""
    images = [noise(40, 60, dtype="float32", seed=seed) for seed in range(3)]
    images[0][:, :4, 1] = np.nan
    images[1][:, :4, 1] = np.nan
    images[1][5, 5:15] = 0
    write_pairs(tmp_path / "data", images)
    options = PrepareOptions(tmp_path / "study", tmp_path / "data", cache=tmp_path / "cache", split="random")
    (finding,) = [one for one in prepare_dataset(options).findings if one.code == "zero-pixels"]
    assert finding.text.startswith(
        "0 in every band is read as no data, because the files name no nodata value (10 px in 1 of the images,"
    )


def test_a_mask_beside_a_raster_is_part_of_what_the_image_is(tmp_path: Path) -> None:
    """Another .msk is another image for prepare and another job for predict; without one both are as they were."""
    path = save_raster(tmp_path / "a.tif", noise(40, 60))
    label = save_raster(tmp_path / "m.tif", np.ones((40, 60), np.uint8))
    scene, cache = SceneFile("a", path, label, coding="index"), Cache(tmp_path / "cache")
    hashes, stamps = (
        [cache.store(scene, default_legend(2)).image_sha256],
        [find_inputs([str(path)], tmp_path / "out", OPTIONS)],
    )
    assert hashes == [sha256_file(path)]
    for edge in (3, 4):
        valid = np.full((40, 60), 255, np.uint8)
        valid[:edge] = 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as raster:
            raster.write_mask(valid)
        hashes.append(cache.store(scene, default_legend(2)).image_sha256)
        stamps.append(find_inputs([str(path)], tmp_path / "out", OPTIONS))
    assert len({*hashes}) == 3
    assert len({found[0].mask_stamp for found in stamps}) == 3
    identities = set()
    for found in stamps:
        plan = toy_plan(RasterInfo(40, 60, 3, "uint8"), TileGeometry(32, 4, 2))
        identities.add(replace(plan, input=replace(plan.input, mask_stamp=found[0].mask_stamp)).identity)
    assert len(identities) == 3
