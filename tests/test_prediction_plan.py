"""What is refused before anything is run, and what says that a pixel has no data."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from builders.prediction import (
    PLACE,
    RUNTIME,
    UTM,
    draw_pixels,
    expected_classes,
    predict_one,
    toy_model,
    toy_plan,
    write_pixels,
)
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from levelground.config import PredictOptions, ReadOptions
from levelground.errors import ConfigError, LevelgroundError, SceneError
from levelground.imagery.geotiff import BandInfo, RasterInfo, read_window
from levelground.imagery.image_pixels import read_image_with_nodata
from levelground.imagery.raster_reader import RasterReader
from levelground.imagery.validity import NodataRule, nodata_mask
from levelground.prediction.inputs import find_inputs
from levelground.prediction.plan import choose_nodata_rule, plan_predictions
from levelground.tile_geometry import TileGeometry


def assert_plan_refused(source: Path, error: type[LevelgroundError], text: str, **options: object) -> None:
    """The whole line is expected."""
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        predict_one(source, source.parent / "out", **options)


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
    five, two = (
        write_pixels(tmp_path / "5.tif", draw_pixels(40, 40, 5)),
        write_pixels(tmp_path / "2.tif", draw_pixels(40, 40, 2)),
    )
    assert_plan_refused(
        five, SceneError, f"{five}: has 5 bands, toy reads 3. Choose with --bands, such as --bands 1 2 3."
    )
    assert_plan_refused(two, SceneError, f"{two}: has 2 bands, toy reads 3. Give imagery with the same bands.")
    assert_plan_refused(five, ConfigError, "--bands 1 2: toy reads 3 bands. Give 3 numbers.", bands=(1, 2))
    assert_plan_refused(
        five, ConfigError, f"--bands 1 2 6: {five} has bands 1 to 5. Give some of those.", bands=(1, 2, 6)
    )


def test_bands_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    """Also one band twice."""
    pixels = draw_pixels(40, 50, 5)
    source = write_pixels(tmp_path / "a.tif", pixels)
    predicted = predict_one(source, tmp_path / "out", bands=(5, 2, 4))
    assert np.array_equal(read_window(predicted.classes)[..., 0], expected_classes(pixels[..., [4, 1, 3]]))


def test_draw_pixels_another_type_are_refused(tmp_path: Path) -> None:
    """Their values mean something else; floats of two widths are alike."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(40, 40, dtype="uint16"))
    text = (
        f"{source}: pixels are uint16, toy learnt from uint8. "
        "Convert the file to uint8 with the scale of the training images."
    )
    assert_plan_refused(source, SceneError, text)
    wide = write_pixels(tmp_path / "b.tif", draw_pixels(40, 40, dtype="float64"))
    assert predict_one(wide, tmp_path / "out", toy_model(dtype="float32")).classes.exists()
    strange = write_pixels(tmp_path / "c.tif", draw_pixels(40, 40).astype(np.complex64))
    text = f"{strange}: holds complex numbers. Write what is to be read, such as amplitudes, as float32."
    assert_plan_refused(strange, SceneError, text)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_any_type_is_read_where_the_model_names_none(tmp_path: Path, dtype: str) -> None:
    """Foreign models do not say what they learnt from."""
    pixels = draw_pixels(40, 50, dtype=dtype)
    predicted = predict_one(write_pixels(tmp_path / "a.tif", pixels), tmp_path / "out", toy_model(dtype=None))
    assert np.array_equal(read_window(predicted.classes)[..., 0], expected_classes(pixels))


def test_an_alpha_band_that_is_not_read_is_a_nodata_mask(tmp_path: Path) -> None:
    """The default where there is one band more than the model reads; it can be left aside."""
    pixels = draw_pixels(40, 50, 4)
    pixels[..., 3] = 255
    pixels[:, :20, 3] = 0
    source = with_alpha(tmp_path / "a.tif", pixels)
    classes = read_window(predict_one(source, tmp_path / "out").classes)[..., 0]
    assert (classes[:, :20] == 255).all()
    assert np.array_equal(classes[:, 20:], expected_classes(pixels)[:, 20:])
    whole = predict_one(source, tmp_path / "whole", alpha=False)
    assert np.array_equal(read_window(whole.classes)[..., 0], expected_classes(pixels))


def test_a_band_that_is_read_is_never_a_mask(tmp_path: Path) -> None:
    """Whatever its tag: near infrared is often tagged alpha."""
    pixels = draw_pixels(40, 50, 4)
    pixels[:, :20, 3] = 0
    source = with_alpha(tmp_path / "a.tif", pixels)
    four = toy_model(lambda image: image[:, :3] * 3, mean=(120,) * 4, std=(60,) * 4)
    assert np.array_equal(
        read_window(predict_one(source, tmp_path / "out", four).classes)[..., 0], expected_classes(pixels)
    )


def test_near_infrared_that_is_tagged_alpha_and_not_read_is_no_mask_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mask holds 0 and the largest value; this band holds others, which is said."""
    pixels = draw_pixels(40, 50, 4)
    pixels[:, :20, 3] = 0
    source = with_alpha(tmp_path / "a.tif", pixels)
    predicted = predict_one(source, tmp_path / "out", bands=(1, 2, 3))
    assert np.array_equal(read_window(predicted.classes)[..., 0], expected_classes(pixels))
    said = capsys.readouterr().err
    assert f"{source}: band 4 is tagged alpha but holds other values, so it is not used as a mask." in said


def test_the_all_zero_rule_is_that_of_training_and_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On where the file says nothing of its data, unless the user knows better; off beside a nodata value."""
    pixels = draw_pixels(40, 50)
    pixels[:20] = 0
    pixels[30, 30, 0] = 0
    empty = (pixels == 0).all(axis=-1)
    source = write_pixels(tmp_path / "a.tif", pixels)
    silent = read_window(predict_one(source, tmp_path / "silent").classes)[..., 0]
    assert np.array_equal(silent == 255, empty)
    assert np.array_equal(read_image_with_nodata(source)[1], empty)
    assert (
        f"{source}: 50% of the pixels sampled are 0 in every band and have no data, as in training. "
        "If they are dark ground, pass --no-zero-is-nodata."
    ) in capsys.readouterr().err
    off = read_window(predict_one(source, tmp_path / "off", zero_is_nodata=False).classes)[..., 0]
    assert not (off == 255).any()
    tagged = write_pixels(tmp_path / "b.tif", pixels, nodata=9)
    assert not (read_window(predict_one(tagged, tmp_path / "tagged").classes) == 255).any()
    on = read_window(predict_one(tagged, tmp_path / "on", zero_is_nodata=True).classes)[..., 0]
    assert np.array_equal(on == 255, empty)
    assert "zero-is-nodata" not in capsys.readouterr().err


def test_a_value_far_from_all_others_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An untagged sentinel; the remedy is the command that tags it."""
    pixels = draw_pixels(40, 50, dtype="int16")
    pixels[:, :10, 1] = -9999
    source = write_pixels(tmp_path / "a.tif", pixels)
    with RasterReader(source) as reader:
        choose_nodata_rule(reader, (1, 2, 3), ReadOptions())
    said = " ".join(capsys.readouterr().err.split())
    assert f"{source}: 20% of the pixels sampled hold -9999 in band 2, far from all others" in said
    remedy = said[said.index("rio edit-info") :].split()
    subprocess.run(
        [sys.executable, "-c", "from rasterio.rio.main import main_group; main_group()", *remedy[1:]], check=True
    )
    with RasterReader(source) as reader:
        rule = choose_nodata_rule(reader, (1, 2, 3), ReadOptions())
    assert rule.values == (-9999,) * 3
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("dtype", "every"), [("uint8", True), ("uint16", True), ("int16", False), ("float32", False)])
def test_nodata_in_one_band_suffices_where_it_can_be_no_value(tmp_path: Path, dtype: str, every: bool) -> None:
    """0 in blue alone is a dark pixel; −9999 in one band is a pixel that is not known."""
    nodata = 0 if every else -9999
    pixels = draw_pixels(20, 30, dtype=dtype)
    pixels[0] = nodata
    pixels[5, :, 2] = nodata
    with RasterReader(write_pixels(tmp_path / "a.tif", pixels, nodata=nodata)) as reader:
        rule = choose_nodata_rule(reader, (1, 2, 3), ReadOptions())
    mask = nodata_mask(pixels, rule)
    assert mask is not None
    assert mask[0].all()
    assert mask[5].all() == (not every)
    assert not mask[6:].any()


def test_values_that_are_not_numbers_are_nodata() -> None:
    """NaN in any band; a nodata value of NaN needs no rule of its own."""
    pixels = np.ones((4, 4, 3), np.float32)
    pixels[1, 2, 0] = np.nan
    mask = nodata_mask(pixels, NodataRule((None,) * 3, every_band=False))
    assert mask is not None
    assert np.argwhere(mask).tolist() == [[1, 2]]
    assert nodata_mask(np.ones((4, 4, 3), np.float32), NodataRule((None,) * 3, every_band=False)) is None


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", "-9999"), ("uint8", "0.5"), ("float32", "-1.7976931348623157e308")]
)
def test_a_nodata_value_that_pixels_cannot_hold_is_left_aside(tmp_path: Path, dtype: str, nodata: str) -> None:
    """Files name such values; nothing equals them."""
    write_pixels(tmp_path / "a.tif", draw_pixels(20, 30, dtype=dtype))
    gdal = {"uint8": "Byte", "float32": "Float32"}[dtype]
    bands = "".join(
        f'<VRTRasterBand dataType="{gdal}" band="{band}"><NoDataValue>{nodata}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource>'
        "</VRTRasterBand>"
        for band in (1, 2, 3)
    )
    (tmp_path / "b.vrt").write_text(f'<VRTDataset rasterXSize="30" rasterYSize="20">{bands}</VRTDataset>')
    with RasterReader(tmp_path / "b.vrt") as reader:
        assert choose_nodata_rule(reader, (1, 2, 3), ReadOptions()).values == (None, None, None)


def test_pixels_without_data_are_read_as_in_training(tmp_path: Path) -> None:
    """As 0 in every band, whatever engine runs the network: a map is made as scenes are scored."""
    seen: list[NDArray[np.float32]] = []

    def watch(image: "object") -> object:
        seen.append(image.numpy().copy())  # type: ignore[attr-defined]
        return image

    pixels = draw_pixels(64, 64)
    pixels[:32] = 9
    source = write_pixels(tmp_path / "a.tif", pixels, nodata=9)
    predict_one(source, tmp_path / "out", toy_model(watch))  # type: ignore[arg-type]
    np.testing.assert_allclose(seen[0][0, :, :32], (0 - 120) / 60)


def test_resampling_needs_both_ground_sample_distances(tmp_path: Path) -> None:
    """The one that is missing is named."""
    degrees = write_pixels(
        tmp_path / "a.tif", draw_pixels(40, 40), crs="EPSG:4326", transform=(1e-5, 0, 10, 0, -1e-5, 50)
    )
    text = (
        f"--resample: {degrees} has no ground sample distance in metres. "
        "Reproject it to a system in metres, or leave --resample away."
    )
    assert_plan_refused(degrees, ConfigError, text, resample=True)
    source = write_pixels(tmp_path / "b.tif", draw_pixels(40, 40))
    text = "--resample: toy has no ground sample distance in metres. Leave --resample away."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        predict_one(source, tmp_path / "out", toy_model(gsd_m=None), resample=True)


def test_tiles_are_the_model_s_unless_asked_otherwise() -> None:
    """With another tile the halo is an eighth of it; a file may fix tile and batch."""
    toy = toy_model()
    own = toy.choose_geometry(PredictOptions(), "cpu")
    assert (own.tile, own.halo, own.batch) == (64, 8, 256)
    other = toy.choose_geometry(PredictOptions(tile=128, batch=3), "cpu")
    assert (other.tile, other.halo, other.batch) == (128, 16, 3)
    fixed = toy_model(max_batch=1, fixed_tile=True, geometry=TileGeometry(100, 12))
    assert fixed.choose_geometry(PredictOptions(), "cpu") == TileGeometry(100, 12, 1)
    with pytest.raises(ConfigError, match=r"^--tile 128: toy takes tiles of 64 only\. Leave --tile away\.$"):
        toy_model(fixed_tile=True).choose_geometry(PredictOptions(tile=128), "cpu")
    with pytest.raises(ConfigError, match=r"^--halo 40: twice the halo leaves no step"):
        toy.choose_geometry(PredictOptions(halo=40), "cpu")


def test_a_large_raster_is_not_run_in_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take memory by its size."""
    monkeypatch.setattr("levelground.prediction.plan.MAX_PIXELS", 1000)
    source = write_pixels(tmp_path / "a.tif", draw_pixels(40, 40))
    text = f"--tile 0: {source} has 40 × 40 pixels, at most 1000 are run in one piece. Give a tile."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        predict_one(source, tmp_path / "out", tile=0)


@pytest.mark.parametrize(
    ("geometry", "changes", "identity"),
    [
        (TileGeometry(64, 8, 2), {}, "3ba1603078fe650a630abb5008112da5dadf9966ee8bb3800dc419ececea3d9f"),
        (
            TileGeometry(32, 4, 5),
            {
                "bands": (3, 2, 1),
                "nodata": NodataRule((7.0,) * 3, every_band=True, zero=True),
                "options": PredictOptions(tta="d4", probs="uint8"),
            },
            "aa94d0308ac3ece594111a2430adbf99b96f059f9524795340edb84015f7f926",
        ),
    ],
)
def test_the_identity_of_a_job_stays_what_it_was(
    geometry: TileGeometry, changes: dict[str, object], identity: str
) -> None:
    """A checkpoint is resumed by later versions as long as nothing that decides the map changes."""
    info = RasterInfo(150, 90, 3, "uint8", 7.0, None, PLACE)
    nodata = NodataRule((7.0,) * 3, every_band=True)
    plan = toy_plan(info, geometry, **{"nodata": nodata, **changes})  # type: ignore[arg-type]
    assert plan.identity == identity


def test_all_that_decides_the_map_is_in_the_identity() -> None:
    """Other bands, options, geometry, file or model: another job; a cache of another size is the same job."""
    info, geometry = RasterInfo(150, 90, 3, "uint8", None, None, PLACE), TileGeometry(64, 8, 2)
    plan = toy_plan(info, geometry)
    others = [
        toy_plan(info, geometry, bands=(2, 1, 3)),
        toy_plan(info, geometry, nodata=NodataRule((None,) * 3, every_band=True, zero=True)),
        toy_plan(info, geometry, options=PredictOptions(tta="d4")),
        toy_plan(info, geometry, options=PredictOptions(probs="float32")),
        toy_plan(info, TileGeometry(64, 8, 3)),
        toy_plan(info, TileGeometry(64, 12, 2)),
        toy_plan(info, geometry, scale=2.0),
        toy_plan(info, geometry, model=toy_model(digest="e" * 64)),
        toy_plan(info, geometry, model=toy_model(mean=(1.0, 2.0, 3.0))),
        toy_plan(info, geometry, input=dataclasses.replace(plan.input, modified_ns=1)),
        toy_plan(info, geometry, input=dataclasses.replace(plan.input, size_bytes=1)),
    ]
    assert len({other.identity for other in [plan, *others]}) == 1 + len(others)
    assert toy_plan(info, geometry, cache_bytes=1).identity == plan.identity


def test_a_raster_in_strips_gets_a_cache_for_a_row_of_tiles(tmp_path: Path) -> None:
    """Else each strip would be decoded once for each tile of the row; tiled rasters need none."""
    shape = {"driver": "GTiff", "width": 40000, "height": 600, "count": 3, "dtype": "uint8"}
    for name, more in (("strips", {"blockysize": 1}), ("tiles", {"tiled": True, "blockxsize": 512, "blockysize": 512})):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", sparse_ok=True, crs=UTM, transform=rasterio.Affine(*PLACE), **shape, **more
        ):
            pass
    options = PredictOptions(tile=1024)
    inputs = find_inputs([str(tmp_path / "strips.tif"), str(tmp_path / "tiles.tif")], tmp_path / "out", options)
    strips, tiles = plan_predictions(toy_model(), inputs, options, RUNTIME)
    assert strips.cache_bytes > 1024 * 40000 * 3
    assert tiles.cache_bytes == 64 * 2**20


def test_a_damaged_raster_is_one_line(tmp_path: Path) -> None:
    """As every reader says it."""
    (tmp_path / "a.tif").write_bytes(b"II*\0nonsense")
    text = f"{tmp_path / 'a.tif'}: is damaged or is not a raster that can be read. Replace the file."
    assert_plan_refused(tmp_path / "a.tif", SceneError, text)


def test_info_is_of_the_whole_file(tmp_path: Path) -> None:
    """A reader tells what the header says, and the coordinate system in full."""
    with RasterReader(write_pixels(tmp_path / "a.tif", draw_pixels(30, 40), nodata=7)) as reader:
        assert reader.info == RasterInfo(30, 40, 3, "uint8", 7.0, UTM, PLACE)
        assert reader.alpha_bands == ()
        assert reader.wkt is not None
        assert reader.wkt.startswith("PROJCS")


def test_a_raster_that_can_be_read_nowhere_is_refused_at_once(tmp_path: Path) -> None:
    """Its header is whole, its pixels are gone."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(300, 300))
    with RasterReader(source) as reader, rasterio.open(source) as raster:
        first = min(int(raster.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", 1)) for x in (0, 1) for y in (0, 1))
        source.write_bytes(source.read_bytes()[: first + 10])
        with pytest.raises(SceneError, match=r"a\.tif: breaks off in rows \d+ to \d+ \(.*\)\. Copy the file again"):
            reader.sample((1, 2, 3))


def test_bands_are_read_by_the_names_that_the_model_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In another order, or among others; names that are partly others are refused with the flag that says which."""
    pixels = draw_pixels(40, 50, 4)
    model = toy_model(band_info=BandInfo(names=("red", "green", "blue")))
    expected = expected_classes(pixels)
    for number, (order, names) in enumerate([((2, 1, 0), "Blue Green Red"), ((3, 0, 2, 1), "nir red blue green")]):
        source = write_pixels(tmp_path / f"{number}.tif", np.ascontiguousarray(pixels[..., list(order)]))
        describe(source, names.split())
        predicted = predict_one(source, tmp_path / "out", model)
        assert np.array_equal(read_window(predicted.classes)[..., 0], expected)
        assert "bands are read by name" in capsys.readouterr().err
    source = write_pixels(tmp_path / "c.tif", pixels[..., :3].copy())
    describe(source, ["nir", "red", "green"])
    text = r"its bands are nir, red, green, .* learnt from red, green, blue\. .*--bands 1 2 3"
    with pytest.raises(SceneError, match=text):
        predict_one(source, tmp_path / "out", model)
    given = predict_one(source, tmp_path / "given", model, bands=(1, 2, 3))
    assert np.array_equal(read_window(given.classes)[..., 0], expected)
    describe(source, ["B4", "B3", "B2"])
    other = predict_one(source, tmp_path / "other", model)
    assert np.array_equal(read_window(other.classes)[..., 0], expected)


def test_values_of_another_scale_and_offset_are_brought_to_the_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processing baselines: 1000 more in the file, said by its offset; without a word they stay as they are."""
    pixels = draw_pixels(40, 50, dtype="uint16")
    model = toy_model(dtype="uint16", band_info=BandInfo(scales=(1e-4,) * 3, offsets=(0.0,) * 3))
    plain = read_window(predict_one(write_pixels(tmp_path / "a.tif", pixels), tmp_path / "a", model).classes)
    assert "names no scale" in capsys.readouterr().err
    shifted = write_pixels(tmp_path / "b.tif", (pixels + 1000).astype(np.uint16))
    with rasterio.open(shifted, "r+") as raster:
        raster.scales, raster.offsets = (1e-4,) * 3, (-0.1,) * 3
    found = read_window(predict_one(shifted, tmp_path / "b", model).classes)
    assert "value × 1 − 1000" in capsys.readouterr().err
    assert np.array_equal(found, plain)


def describe(path: Path, names: list[str]) -> None:
    """Name the bands of a raster."""
    with rasterio.open(path, "r+") as raster:
        for band, name in enumerate(names, start=1):
            raster.set_band_description(band, name)
