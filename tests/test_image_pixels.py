"""Pixels of single files: JPEG, PNG and TIFF, turned upright, without alpha, with gaps."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from builders.scene_files import PLACE, noise, save, save_palette, save_raster
from PIL import Image, ImageOps

from levelground.errors import SceneError
from levelground.imagery.cache import _validity
from levelground.imagery.image_pixels import (
    read_colours,
    read_image,
    read_image_with_nodata,
    read_indices,
    used_palette,
)
from levelground.imagery.legend import IGNORE, default_legend
from levelground.imagery.raster_reader import RasterReader
from levelground.imagery.scene_pixels import SceneFile, read_labels
from levelground.imagery.validity import NodataRule
from levelground.prediction.inputs import RasterPixels


@pytest.mark.parametrize("bands", [1, 3])
def test_jpeg_equals_pillows_within_rounding(tmp_path: Path, bands: int) -> None:
    """Decoders round differently by a step or two; colour subsampling is undone differently, so 4:4:4 here."""
    path = save(tmp_path / "a.jpg", noise(32, 40, bands), quality=95, subsampling=0)
    expected = np.asarray(Image.open(path)).reshape(32, 40, bands).astype(int)
    assert np.abs(read_image(path).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_jpeg_is_read_upright_as_pillow_does(tmp_path: Path, orientation: int) -> None:
    """All eight EXIF orientations."""
    exif = Image.Exif()
    exif[274] = orientation
    path = save(tmp_path / "a.jpg", noise(16, 24, 1), exif=exif.tobytes())
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture)).astype(int)
    assert np.abs(read_image(path)[..., 0].astype(int) - expected).max() <= 2


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint8"), (1, "uint16")])
def test_png_is_exact(tmp_path: Path, bands: int, dtype: str) -> None:
    """What was written is read, 16 bits too."""
    pixels = noise(9, 7, bands, dtype=dtype)
    assert np.array_equal(read_image(save(tmp_path / "a.png", pixels)), pixels)


def test_alpha_is_dropped_and_pixels_of_alpha_0_have_no_data(tmp_path: Path) -> None:
    """They are set to 0."""
    pixels = noise(5, 6, 4)
    pixels[2, 3, 3] = 0
    image, gaps = read_image_with_nodata(save(tmp_path / "a.png", pixels))
    assert gaps is not None
    assert np.argwhere(gaps).tolist() == [[2, 3]]
    expected = pixels[..., :3].copy()
    expected[2, 3] = 0
    assert np.array_equal(image, expected)


def test_palette_image_becomes_colours(tmp_path: Path) -> None:
    """Palette entries that are missing are black."""
    path = save_palette(tmp_path / "a.png", np.uint8([[0, 1], [1, 0]]), [9, 8, 7, 1, 2, 3])
    assert read_image(path).tolist() == [[[9, 8, 7], [1, 2, 3]], [[1, 2, 3], [9, 8, 7]]]
    assert used_palette(path) == {(9, 8, 7), (1, 2, 3)}


def test_raster_without_nodata_tag_has_gaps_where_all_bands_are_zero(tmp_path: Path) -> None:
    """A single zero is data."""
    pixels = noise(6, 6, 4)
    pixels[0, 0] = 0
    pixels[1, 1, :3] = 0
    image, gaps = read_image_with_nodata(save_raster(tmp_path / "a.tif", pixels))
    assert gaps is not None
    assert np.argwhere(gaps).tolist() == [[0, 0]]
    assert np.array_equal(image, pixels)


@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -9999), ("uint8", 200), ("float32", -3.4028234663852886e38)])
def test_nodata_tag_says_which_pixels_have_no_data(tmp_path: Path, dtype: str, nodata: float) -> None:
    """Zeros are data then; gaps become 0 so that no statistics see the tag's value."""
    pixels = noise(6, 6, 2, dtype=dtype)
    pixels[pixels == 200] = 199
    pixels[0, 0] = 0
    pixels[3, 4] = nodata
    pixels[5, 5, 1] = nodata
    image, gaps = read_image_with_nodata(save_raster(tmp_path / "a.tif", pixels, nodata=nodata))
    assert gaps is not None
    one_suffices = [[5, 5]] if dtype in ("int16", "float32") else []  # an unsigned value can be anything
    assert np.argwhere(gaps).tolist() == [[3, 4], *one_suffices]
    assert image[3, 4].tolist() == [0, 0]


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("window", [None, (1, 2, 4, 4)])
def test_a_raster_s_own_mask_marks_pixels_without_data(
    tmp_path: Path, inside: bool, window: tuple[int, int, int, int] | None
) -> None:
    """Inside the file or .msk beside it, for training, labels and prediction alike; rubbish behind it is not read."""
    path = save_raster(tmp_path / "a.tif", noise(6, 8))
    label = save_raster(tmp_path / "m.tif", np.ones((6, 8), np.uint8))
    valid = np.full((6, 8), 255, np.uint8)
    valid[:, :3] = 0
    keys = []
    for file in (path, label):
        keys.append(_validity(file))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(file, "r+") as raster:
            raster.write_mask(valid)
    assert keys == [[], []]  # the cache keys of files without a mask stay as they were
    assert (tmp_path / "a.tif.msk").exists() != inside
    expected = (valid == 0)[1:5, 2:6] if window else valid == 0
    image, gaps = read_image_with_nodata(path, window)
    assert gaps is not None
    assert np.array_equal(gaps, expected)
    assert not image[expected].any()
    assert _validity(path)[0].startswith("own mask ")
    row, col, height, width = window or (0, 0, 6, 8)
    with RasterReader(path) as reader:
        pixels = RasterPixels(reader, (1, 2, 3), NodataRule((None,) * 3, every_band=True))
        mask = pixels.read(slice(row, row + height), slice(col, col + width))[1]
    assert np.array_equal(mask, expected)
    bare = save_raster(tmp_path / "b.tif", noise(6, 8))
    labels = read_labels(SceneFile("b", bare, label, window, coding="index"), default_legend(2))
    assert np.array_equal(labels == IGNORE, expected)


def test_values_that_are_no_numbers_are_gaps(tmp_path: Path) -> None:
    """NaN and infinities, in any band; float64 is read as float32, and what overflows there is a gap too."""
    pixels = noise(6, 6, 2, dtype="float64")
    pixels[1, 2, 0], pixels[3, 3, 1], pixels[4, 4, 0] = np.nan, np.inf, 1e300
    image, gaps = read_image_with_nodata(save_raster(tmp_path / "a.tif", pixels, nodata=float("nan")))
    assert gaps is not None
    assert np.argwhere(gaps).tolist() == [[1, 2], [3, 3], [4, 4]]
    assert image.dtype == np.float32
    assert np.isfinite(image).all()


def test_part_of_a_raster_is_read_through_a_window(tmp_path: Path) -> None:
    """Only the window counts towards the limit of pixels."""
    pixels = noise(30, 30, 3)
    assert np.array_equal(read_image(save_raster(tmp_path / "a.tif", pixels), (4, 5, 6, 7)), pixels[4:10, 5:12])


def test_fourth_band_tagged_alpha_is_a_band(tmp_path: Path) -> None:
    """GDAL tags the fourth of four bands as alpha; here it is near infrared."""
    pixels = noise(6, 6, 4)
    pixels[2, 2, 3] = 0
    form = {
        "driver": "GTiff",
        "height": 6,
        "width": 6,
        "count": 4,
        "dtype": "uint8",
        "photometric": "RGB",
        "alpha": "YES",
    }
    with rasterio.open(tmp_path / "a.tif", "w", crs="EPSG:26917", transform=Affine(*PLACE), **form) as raster:
        raster.write(pixels.transpose(2, 0, 1))
        assert raster.colorinterp[3].name == "alpha"
    image, gaps = read_image_with_nodata(tmp_path / "a.tif")
    assert gaps is None
    assert np.array_equal(image, pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_masks_of_all_forms_give_the_same_colours(tmp_path: Path, mode: str) -> None:
    """RGB, with alpha, and palette."""
    rgb = np.uint8([[[255, 0, 0], [0, 0, 255]], [[0, 255, 0], [255, 0, 0]]])
    assert np.array_equal(read_colours(save(tmp_path / "m.png", rgb, mode)), rgb)


def test_grey_masks_have_three_equal_channels(tmp_path: Path) -> None:
    """One bit is spread to 0 and 255, as it is shown."""
    grey = np.uint8([[[0], [255]]])
    expected = [[[0, 0, 0], [255, 255, 255]]]
    assert read_colours(save(tmp_path / "a.png", grey, "1")).tolist() == expected
    assert read_colours(save(tmp_path / "b.png", grey)).tolist() == expected


def test_index_masks_keep_their_values(tmp_path: Path) -> None:
    """Grey, one bit, 16 bits and palette; a palette's colours are not looked at."""
    values = np.uint8([[0, 1], [1, 0]])
    assert read_indices(save(tmp_path / "a.png", values)).tolist() == values.tolist()
    assert read_indices(save_palette(tmp_path / "p.png", values, [9, 9, 9, 8, 8, 8])).tolist() == values.tolist()
    assert read_indices(save(tmp_path / "b.png", values * 255, "1")).tolist() == values.tolist()
    wide = values.astype(np.uint16) * 300
    assert read_indices(save(tmp_path / "c.png", wide)).tolist() == wide.tolist()
    assert read_indices(save_raster(tmp_path / "d.tif", values.astype(np.int16))).tolist() == values.tolist()


def test_index_masks_are_no_jpeg_and_have_one_band(tmp_path: Path) -> None:
    """Each with its remedy."""
    with pytest.raises(
        SceneError, match=r"m\.jpg: JPEG blurs class indices\. Save the mask as PNG or TIFF, without loss"
    ):
        read_indices(save(tmp_path / "m.jpg", noise(8, 8, 1)))
    text = (
        r"m\.png: mask has three unlike bands, expected one of class indices\. .*: rio stack \S+ --bidx 1 -o MASK\.tif"
        r", or pass --layout folders where the mask holds colours"
    )
    with pytest.raises(SceneError, match=text):
        read_indices(save(tmp_path / "m.png", noise(8, 8)))


def test_colour_masks_have_8_bits(tmp_path: Path) -> None:
    """16-bit grey is no colour."""
    text = r"m\.png: mask has 1 bands of uint16, expected colours \(3 bands of uint8\)\. Convert it, or pass --layout "
    with pytest.raises(SceneError, match=text):
        read_colours(save(tmp_path / "m.png", noise(8, 8, 1, dtype="uint16")))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, name: str) -> None:
    """No half-black image is ever taken for a whole one."""
    path = tmp_path / name
    whole = (save_raster(path, noise(60, 60)) if name == "a.tif" else save(path, noise(60, 60))).read_bytes()
    for share in (0.05, 0.3, 0.7, 0.95):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(SceneError, match=rf"{name}: .*(truncated|damaged).*\. (Copy|Replace) the file"):
            read_image(path)


def test_png_whose_data_do_not_inflate_is_refused(tmp_path: Path) -> None:
    """Sound checksums around nonsense."""
    path = save(tmp_path / "a.png", noise(60, 60))
    whole = path.read_bytes()
    start, size = whole.index(b"IDAT"), int.from_bytes(whole[whole.index(b"IDAT") - 4 : whole.index(b"IDAT")], "big")
    data = b"IDAT" + b"\x78\x9c" + b"\xff" * (size - 2)
    path.write_bytes(whole[:start] + data + struct.pack(">I", zlib.crc32(data)) + whole[start + 8 + size :])
    with pytest.raises(SceneError, match=r"a\.png: is damaged or is not a raster"):
        read_image(path)


def test_complex_image_is_refused(tmp_path: Path) -> None:
    """Radar data before detection: which part of a number is meant is not guessed."""
    with pytest.raises(SceneError, match=r"a\.tif: holds complex numbers\. Write what is to be read, such as ampl"):
        read_image(save_raster(tmp_path / "a.tif", noise(4, 4, dtype="complex64")))
