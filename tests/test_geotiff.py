"""Rasters: windows, types, places, writing bit by bit, and what is refused."""

import resource
from pathlib import Path

import numpy as np
import pytest
import rasterio
from builders.scene_files import PLACE, noise, save_raster

from levelground.errors import DiskError, SceneError, ShapeError
from levelground.imagery.geotiff import (
    RasterInfo,
    RasterMetadata,
    bounded_cache,
    copy_to_cog,
    raster_writer,
    read_info,
    read_memory,
    read_window,
    write_raster,
)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_written_pixels_are_read_back_in_their_type(tmp_path: Path, dtype: str) -> None:
    """Whole and by window, bands side by side."""
    pixels = noise(40, 50, 4, dtype=dtype)
    path = save_raster(tmp_path / "a.tif", pixels)
    assert np.array_equal(read_window(path), pixels)
    part = read_window(path, (3, 5, 7, 11))
    assert np.array_equal(part, pixels[3:10, 5:16])
    assert part.dtype == dtype
    assert part.flags.c_contiguous


def test_header_tells_size_type_place_and_nodata(tmp_path: Path) -> None:
    """The ground sampling distance follows from the place."""
    info = read_info(save_raster(tmp_path / "a.tif", noise(4, 6, 2), nodata=255))
    assert info == RasterInfo(4, 6, 2, "uint8", 255.0, "EPSG:26917", PLACE)
    assert info.gsd_m == pytest.approx(0.6)


def test_raster_without_a_place_has_no_gsd_and_gives_no_warning(tmp_path: Path) -> None:
    """Rasterio's warning is caught."""
    info = read_info(save_raster(tmp_path / "a.tif", noise(4, 6, 1), placed=False))
    assert (info.crs, info.transform, info.gsd_m) == (None, None, None)


def test_degrees_are_no_metres(tmp_path: Path) -> None:
    """A geographic system has no ground sampling distance in metres."""
    info = RasterInfo(0, 0, 0, "", crs="EPSG:4326", transform=(1e-5, 0, 10, 0, -1e-5, 50))
    write_raster(tmp_path / "a.tif", noise(4, 6, 1), info)
    assert read_info(tmp_path / "a.tif").gsd_m is None


def test_feet_are_turned_into_metres(tmp_path: Path) -> None:
    """US survey feet, as in state plane systems."""
    info = RasterInfo(0, 0, 0, "", crs="EPSG:2263", transform=(2, 0, 0, 0, -2, 0))
    write_raster(tmp_path / "a.tif", noise(4, 6, 1), info)
    assert read_info(tmp_path / "a.tif").gsd_m == pytest.approx(2 * 0.3048006)


def test_raster_written_in_parts_has_all_of_them(tmp_path: Path) -> None:
    """Rows may come in any order; a palette goes with one band."""
    labels = noise(40, 30, 1)[..., 0] % 3
    info = RasterInfo(40, 30, 1, "uint8", 255, "EPSG:26917", PLACE)
    with raster_writer(
        tmp_path / "a.tif", info, RasterMetadata(np.uint8([[1, 2, 3], [4, 5, 6], [7, 8, 9]])), tile=16
    ) as writer:
        writer.write(16, 0, labels[16:])
        writer.write(0, 0, labels[:16])
        assert not (tmp_path / "a.tif").exists()
    assert np.array_equal(read_window(tmp_path / "a.tif")[..., 0], labels)


def test_raster_whose_writer_fails_does_not_appear(tmp_path: Path) -> None:
    """Nothing half-written stays behind."""
    with (
        pytest.raises(ZeroDivisionError),
        raster_writer(tmp_path / "a.tif", RasterInfo(4, 4, 1, "uint8")) as writer,
    ):
        writer.write(0, 0, np.zeros((2, 4), np.uint8))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_unwritable_type_is_one_line(tmp_path: Path) -> None:
    """GDAL's refusal becomes ours."""
    with (
        pytest.raises(DiskError, match=r"a\.tif: cannot be written \(.*\)\. Free space or choose another --out\.$"),
        raster_writer(tmp_path / "a.tif", RasterInfo(4, 4, 1, "uint8"), tile=17),
    ):
        pass


def test_window_that_leaves_the_raster_is_refused(tmp_path: Path) -> None:
    """No silent padding."""
    path = save_raster(tmp_path / "a.tif", noise(4, 6, 1))
    with pytest.raises(ShapeError, match=r"a\.tif: window \(0, 3, 4, 4\) leaves the raster of 4 × 6 pixels\.$"):
        read_window(path, (0, 3, 4, 4))


def test_damaged_raster_is_one_line(tmp_path: Path) -> None:
    """Truncated within its pixels, and no raster at all."""
    whole = save_raster(tmp_path / "a.tif", noise(100, 100, 3)).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    text = r"cut\.tif: is damaged or is not a raster that can be read\. Replace the file\.$"
    with pytest.raises(SceneError, match=text):
        read_window(tmp_path / "cut.tif")
    (tmp_path / "cut.tif").write_bytes(b"II*\0")
    with pytest.raises(SceneError, match=text):
        read_info(tmp_path / "cut.tif")
    with pytest.raises(SceneError, match=r"x\.png: is damaged"):
        read_memory(b"nonsense", shown=Path("x.png"))


@pytest.mark.parametrize("box", ["jp2h", "ihdr", "colr", "uuid", "jp2c"])
def test_a_jpeg_2000_box_without_a_length_does_not_hang(tmp_path: Path, box: str) -> None:
    """GDAL's walk through the boxes never ends for the box of the header; the header is read or refused."""
    path, place = tmp_path / "a.jp2", {"crs": "EPSG:32633", "transform": rasterio.Affine(*PLACE)}
    size = {"driver": "JP2OpenJPEG", "count": 3, "height": 24, "width": 24, "dtype": "uint8"}
    with rasterio.open(path, "w", **size, **place) as raster:
        raster.write(noise(24, 24, 3).transpose(2, 0, 1))
    content = path.read_bytes()
    start = content.index(box.encode()) - 4
    path.write_bytes(content[:start] + bytes(4) + content[start + 4 :])
    try:
        assert read_info(path).width == 24
        assert read_window(path).shape == (24, 24, 3)
    except SceneError as error:
        assert str(error).startswith(f"{path}: is damaged")


@pytest.mark.parametrize("threads", [False, True])
def test_a_raster_that_the_disk_did_not_take_is_refused(tmp_path: Path, threads: bool) -> None:
    """GDAL's compressing threads lose blocks without a word; the file must not appear."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    values = np.random.default_rng(0).integers(0, 256, (600, 600)).astype(np.uint8)
    source = tmp_path / "whole.tif"
    write_raster(source, values, RasterInfo(0, 0, 1, ""))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with bounded_cache(threads=threads):
            with pytest.raises(DiskError, match=r"a\.tif: .*\. Free space or choose another --out\.$"):
                write_raster(tmp_path / "a.tif", values, RasterInfo(0, 0, 1, ""))
            with pytest.raises(DiskError, match=r"b\.tif: .*\. Free space or choose another --out\.$"):
                copy_to_cog(source, tmp_path / "b.tif", overviews="mode")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "a.tif").exists()
    assert not (tmp_path / "b.tif").exists()


def test_many_bands_with_names_and_a_scale(tmp_path: Path) -> None:
    """Such as probabilities: each band for itself, described, whole numbers with what they are multiplied by."""
    pixels = noise(40, 50, 6)
    with raster_writer(
        tmp_path / "a.tif",
        RasterInfo(40, 50, 6, "uint8", crs="EPSG:26917", transform=PLACE),
        RasterMetadata(tags={"MODEL": "toy"}, band_names=list("abcdef"), scale=0.5),
        tile=16,
        predictor=2,
    ) as writer:
        writer.write(0, 0, pixels)
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert raster.descriptions == tuple("abcdef")
        assert raster.scales == (0.5,) * 6
        assert raster.tags()["MODEL"] == "toy"
        assert raster.interleaving.name == "band"
    assert np.array_equal(read_window(tmp_path / "a.tif"), pixels)
