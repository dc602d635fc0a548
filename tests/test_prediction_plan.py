"""What is refused before anything is run, and what says that a pixel has no data."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from mapping_builder import PLACE, UTM, expected_classes, map_one, model, pixels_of, save
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from levelground.errors import ConfigError, LevelgroundError, SceneError
from levelground.imagery.geotiff import RasterInfo, read_window
from levelground.imagery.raster_reader import RasterReader
from levelground.prediction.inputs import find_targets
from levelground.prediction.plan import Settings, Wishes, choose_tiles, choose_validity, plan_maps
from levelground.prediction.readers import Validity, find_gaps


def refused(source: Path, error: type[LevelgroundError], text: str, **wishes: object) -> None:
    """The whole line is expected."""
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        map_one(source, source.parent / "out", settings=Settings(wishes=Wishes(**wishes)))  # type: ignore[arg-type]


def with_alpha(path: Path, pixels: NDArray[np.generic]) -> Path:
    """A raster whose last band is tagged alpha."""
    height, width, bands = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=pixels.dtype, crs=UTM,
        transform=rasterio.Affine(*PLACE), photometric="RGB",
    ) as raster:  # fmt: skip
        raster.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
        raster.write(pixels.transpose(2, 0, 1))
    return path


def test_other_bands_are_refused_with_a_remedy(tmp_path: Path) -> None:
    """More bands can be chosen from, fewer cannot."""
    five, two = save(tmp_path / "5.tif", pixels_of(40, 40, 5)), save(tmp_path / "2.tif", pixels_of(40, 40, 2))
    refused(five, SceneError, f"{five}: has 5 bands, toy reads 3. Choose with --bands, such as --bands 1 2 3.")
    refused(two, SceneError, f"{two}: has 2 bands, toy reads 3. Give imagery with the same bands.")
    refused(five, ConfigError, "--bands 1 2: toy reads 3 bands. Give 3 numbers.", bands=(1, 2))
    refused(five, ConfigError, f"--bands 1 2 6: {five} has bands 1 to 5. Give some of those.", bands=(1, 2, 6))


def test_bands_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    """Also one band twice."""
    pixels = pixels_of(40, 50, 5)
    source = save(tmp_path / "a.tif", pixels)
    mapped = map_one(source, tmp_path / "out", settings=Settings(wishes=Wishes(bands=(5, 2, 4))))
    assert np.array_equal(read_window(mapped.classes)[..., 0], expected_classes(pixels[..., [4, 1, 3]]))


def test_pixels_of_another_type_are_refused(tmp_path: Path) -> None:
    """Their values mean something else; floats of two widths are alike."""
    source = save(tmp_path / "a.tif", pixels_of(40, 40, dtype="uint16"))
    text = (
        f"{source}: pixels are uint16, toy learnt from uint8. "
        "Convert the file to uint8 with the scale of the training images."
    )
    refused(source, SceneError, text)
    wide = save(tmp_path / "b.tif", pixels_of(40, 40, dtype="float64"))
    assert map_one(wide, tmp_path / "out", model(dtype="float32")).classes.exists()
    strange = save(tmp_path / "c.tif", pixels_of(40, 40).astype(np.complex64))
    text = f"{strange}: pixels are complex64, expected uint8, uint16, int16, float32, float64. Convert the file."
    refused(strange, SceneError, text)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_any_type_is_read_where_the_model_names_none(tmp_path: Path, dtype: str) -> None:
    """Foreign models do not say what they learnt from."""
    pixels = pixels_of(40, 50, dtype=dtype)
    mapped = map_one(save(tmp_path / "a.tif", pixels), tmp_path / "out", model(dtype=None))
    assert np.array_equal(read_window(mapped.classes)[..., 0], expected_classes(pixels))


def test_an_alpha_band_that_is_not_read_marks_gaps(tmp_path: Path) -> None:
    """The default where there is one band more than the model reads; it can be left aside."""
    pixels = pixels_of(40, 50, 4)
    pixels[..., 3] = 255
    pixels[:, :20, 3] = 0
    source = with_alpha(tmp_path / "a.tif", pixels)
    classes = read_window(map_one(source, tmp_path / "out").classes)[..., 0]
    assert (classes[:, :20] == 255).all()
    assert np.array_equal(classes[:, 20:], expected_classes(pixels)[:, 20:])
    whole = map_one(source, tmp_path / "whole", settings=Settings(wishes=Wishes(alpha=False)))
    assert np.array_equal(read_window(whole.classes)[..., 0], expected_classes(pixels))


def test_a_band_that_is_read_is_never_a_mask(tmp_path: Path) -> None:
    """Whatever its tag: near infrared is often tagged alpha."""
    pixels = pixels_of(40, 50, 4)
    pixels[:, :20, 3] = 0
    source = with_alpha(tmp_path / "a.tif", pixels)
    four = model(lambda image: image[:, :3] * 3, bands=4, mean=(120,) * 4, std=(60,) * 4)
    assert np.array_equal(
        read_window(map_one(source, tmp_path / "out", four).classes)[..., 0], expected_classes(pixels)
    )


def test_near_infrared_that_is_tagged_alpha_and_not_read_is_no_mask_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mask holds 0 and the largest value; this band holds others, which is said."""
    pixels = pixels_of(40, 50, 4)
    pixels[:, :20, 3] = 0
    source = with_alpha(tmp_path / "a.tif", pixels)
    mapped = map_one(source, tmp_path / "out", settings=Settings(wishes=Wishes(bands=(1, 2, 3))))
    assert np.array_equal(read_window(mapped.classes)[..., 0], expected_classes(pixels))
    said = capsys.readouterr().err
    assert f"{source}: band 4 is tagged alpha and holds other values, so it is taken for no mask." in said


def test_the_all_zero_rule_is_the_user_s_and_its_use_is_suggested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Off unless set; a raster with many zeros and no other mark is asked about."""
    pixels = pixels_of(40, 50)
    pixels[:20] = 0
    pixels[30, 30, 0] = 0
    source = save(tmp_path / "a.tif", pixels)
    off = read_window(map_one(source, tmp_path / "off").classes)[..., 0]
    assert not (off == 255).any()
    assert (
        f"{source}: 50% of the pixels looked at are 0 in every band and are mapped like others. "
        "Where they are empty, pass --zero-is-nodata."
    ) in capsys.readouterr().err
    on = read_window(map_one(source, tmp_path / "on", settings=Settings(wishes=Wishes(zero=True))).classes)[..., 0]
    assert np.array_equal(on == 255, (pixels == 0).all(axis=-1))
    assert "zero-is-nodata" not in capsys.readouterr().err


@pytest.mark.parametrize(("dtype", "every"), [("uint8", True), ("uint16", True), ("int16", False), ("float32", False)])
def test_nodata_in_one_band_is_a_gap_where_it_can_be_no_value(tmp_path: Path, dtype: str, every: bool) -> None:
    """0 in blue alone is a dark pixel; −9999 in one band is a pixel that is not known."""
    nodata = 0 if every else -9999
    pixels = pixels_of(20, 30, dtype=dtype)
    pixels[0] = nodata
    pixels[5, :, 2] = nodata
    with RasterReader(save(tmp_path / "a.tif", pixels, nodata=nodata)) as reader:
        validity = choose_validity(reader, (1, 2, 3), Wishes())
    gaps = find_gaps(pixels, validity)
    assert gaps is not None
    assert gaps[0].all()
    assert gaps[5].all() == (not every)
    assert not gaps[6:].any()


def test_values_that_are_no_numbers_are_gaps() -> None:
    """NaN in any band; a nodata value of NaN needs no rule of its own."""
    pixels = np.ones((4, 4, 3), np.float32)
    pixels[1, 2, 0] = np.nan
    gaps = find_gaps(pixels, Validity((None,) * 3, every_band=False))
    assert gaps is not None
    assert np.argwhere(gaps).tolist() == [[1, 2]]
    assert find_gaps(np.ones((4, 4, 3), np.float32), Validity((None,) * 3, every_band=False)) is None


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", "-9999"), ("uint8", "0.5"), ("float32", "-1.7976931348623157e308")]
)
def test_a_nodata_value_that_pixels_cannot_hold_is_left_aside(tmp_path: Path, dtype: str, nodata: str) -> None:
    """Files name such values; nothing equals them."""
    save(tmp_path / "a.tif", pixels_of(20, 30, dtype=dtype))
    gdal = {"uint8": "Byte", "float32": "Float32"}[dtype]
    bands = "".join(
        f'<VRTRasterBand dataType="{gdal}" band="{band}"><NoDataValue>{nodata}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource>'
        "</VRTRasterBand>"
        for band in (1, 2, 3)
    )
    (tmp_path / "b.vrt").write_text(f'<VRTDataset rasterXSize="30" rasterYSize="20">{bands}</VRTDataset>')
    with RasterReader(tmp_path / "b.vrt") as reader:
        assert choose_validity(reader, (1, 2, 3), Wishes()).nodata == (None, None, None)


def test_gaps_are_read_as_the_band_s_mean(tmp_path: Path) -> None:
    """A border of the data looks like even ground: pixels beside a gap keep their class."""
    seen: list[NDArray[np.float32]] = []

    def watch(image: "object") -> object:
        seen.append(image.numpy().copy())  # type: ignore[attr-defined]
        return image

    pixels = pixels_of(64, 64)
    pixels[:32] = 0
    map_one(save(tmp_path / "a.tif", pixels, nodata=0), tmp_path / "out", model(watch))  # type: ignore[arg-type]
    assert np.abs(seen[0][0, :, :32]).max() < 1e-6


def test_resampling_needs_both_ground_sample_distances(tmp_path: Path) -> None:
    """The one that is missing is named."""
    degrees = save(tmp_path / "a.tif", pixels_of(40, 40), crs="EPSG:4326", transform=(1e-5, 0, 10, 0, -1e-5, 50))
    text = (
        f"--resample: {degrees} has no ground sample distance in metres. "
        "Reproject it to a system in metres, or leave --resample away."
    )
    refused(degrees, ConfigError, text, resample=True)
    source = save(tmp_path / "b.tif", pixels_of(40, 40))
    text = "--resample: toy has no ground sample distance in metres. Leave --resample away."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        map_one(source, tmp_path / "out", model(gsd_m=None), Settings(wishes=Wishes(resample=True)))


def test_tiles_are_the_model_s_unless_asked_otherwise() -> None:
    """With another tile the halo is an eighth of it; a file may fix tile and batch."""
    toy = model()
    own = choose_tiles(toy, Settings(), "cpu")
    assert (own.tile, own.halo, own.batch) == (64, 8, 256)
    other = choose_tiles(toy, Settings(tile=128, batch=3), "cpu")
    assert (other.tile, other.halo, other.batch) == (128, 16, 3)
    assert choose_tiles(model(max_batch=1, fixed_tile=True, tile=100, halo=12), Settings(), "cpu").batch == 1
    with pytest.raises(ConfigError, match=r"^--tile 128: toy takes tiles of 64 only\. Leave --tile away\.$"):
        choose_tiles(model(fixed_tile=True), Settings(tile=128), "cpu")
    with pytest.raises(ConfigError, match=r"^--halo 40: twice the halo leaves no step"):
        choose_tiles(toy, Settings(halo=40), "cpu")


def test_a_large_raster_is_not_run_in_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take memory by its size."""
    monkeypatch.setattr("levelground.prediction.plan.MAX_PIXELS", 1000)
    source = save(tmp_path / "a.tif", pixels_of(40, 40))
    text = f"--tile 0: {source} has 40 × 40 pixels, at most 1000 are run in one piece. Give a tile."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        map_one(source, tmp_path / "out", settings=Settings(tile=0))


def test_a_raster_in_strips_gets_a_cache_for_a_row_of_tiles(tmp_path: Path) -> None:
    """Else each strip would be decoded once for each tile of the row; tiled rasters need none."""
    shape = {"driver": "GTiff", "width": 40000, "height": 600, "count": 3, "dtype": "uint8"}
    for name, more in (("strips", {"blockysize": 1}), ("tiles", {"tiled": True, "blockxsize": 512, "blockysize": 512})):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", sparse_ok=True, crs=UTM, transform=rasterio.Affine(*PLACE), **shape, **more
        ):
            pass
    targets = find_targets([str(tmp_path / "strips.tif"), str(tmp_path / "tiles.tif")], tmp_path / "out")
    strips, tiles = plan_maps(model(), targets, Settings(tile=1024), device="cpu", precision="fp32")
    assert strips.cache > 1024 * 40000 * 3
    assert tiles.cache == 64 * 2**20


def test_a_damaged_raster_is_one_line(tmp_path: Path) -> None:
    """As every reader says it."""
    (tmp_path / "a.tif").write_bytes(b"II*\0nonsense")
    text = f"{tmp_path / 'a.tif'}: is damaged or is not a raster that can be read. Replace the file."
    refused(tmp_path / "a.tif", SceneError, text)


def test_info_is_of_the_whole_file(tmp_path: Path) -> None:
    """A reader tells what the header says, and the coordinate system in full."""
    with RasterReader(save(tmp_path / "a.tif", pixels_of(30, 40), nodata=7)) as reader:
        assert reader.info == RasterInfo(30, 40, 3, "uint8", 7.0, UTM, PLACE)
        assert reader.nodata == (7.0, 7.0, 7.0)
        assert reader.alpha_bands == ()
        assert reader.wkt is not None
        assert reader.wkt.startswith("PROJCS")


def test_a_raster_that_can_be_read_nowhere_is_refused_at_once(tmp_path: Path) -> None:
    """Its header is whole, its pixels are gone."""
    source = save(tmp_path / "a.tif", pixels_of(300, 300))
    with RasterReader(source) as reader, rasterio.open(source) as raster:
        first = min(int(raster.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", 1)) for x in (0, 1) for y in (0, 1))
        source.write_bytes(source.read_bytes()[: first + 10])
        with pytest.raises(SceneError, match=r"a\.tif: breaks off in rows \d+ to \d+ \(.*\)\. Copy the file again"):
            reader.sample((1, 2, 3))
