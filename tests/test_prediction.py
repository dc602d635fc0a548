"""Whole maps: what becomes of an input, and where it lies."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from builders.prediction import (
    OUTPUTS,
    PLACE,
    UTM,
    draw_pixels,
    expected_classes,
    predict_all,
    predict_one,
    smooth,
    toy_model,
    write_pixels,
)
from builders.scene_files import save
from builders.study import LEGEND
from PIL import Image
from rio_cogeo import cog_validate

from levelground.errors import ConfigError, DiskError, ModelError, SceneError, UnlikeError
from levelground.imagery.geotiff import read_info, read_window
from levelground.models.model import Forward


def test_the_map_of_a_raster_lies_on_it_pixel_by_pixel(tmp_path: Path) -> None:
    """CRS, transform and shape are the input's; the classes are the network's, in the legend's numbers."""
    pixels = draw_pixels(150, 210)
    source = write_pixels(tmp_path / "a.tif", pixels)
    predicted = predict_one(source, tmp_path / "out")
    assert predicted.classes == tmp_path / "out/a.tif"
    assert np.array_equal(read_window(predicted.classes)[..., 0], expected_classes(pixels))
    found, given = read_info(predicted.classes), read_info(source)
    assert (found.crs, found.transform, found.height, found.width) == (UTM, PLACE, given.height, given.width)
    assert (found.bands, found.dtype, found.nodata) == (1, "uint8", 255.0)


def test_the_map_is_a_cog_with_colours_and_names(tmp_path: Path) -> None:
    """Checked by rio-cogeo; colours and names as GDAL and QGIS read them."""
    predicted = predict_one(write_pixels(tmp_path / "a.tif", draw_pixels(700, 600)), tmp_path / "out")
    valid, errors, warnings = cog_validate(predicted.classes)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(predicted.classes) as raster:
        assert raster.overviews(1) == [2]
        colours = raster.colormap(1)
        assert [colours[entry.index][:3] for entry in LEGEND.classes] == [entry.colour for entry in LEGEND.classes]
        tags = raster.tags()
        assert tags["CLASS_NAMES"] == '{"0": "Field", "1": "Unknown", "2": "Wood", "3": "Water"}'
        assert tags["MODEL_SHA256"] == "d" * 64
    names = (tmp_path / "out/a.tif.aux.xml").read_text(encoding="utf-8")
    assert re.findall("<Category>(.*)</Category>", names) == list(LEGEND.names)


def test_nothing_but_the_map_stays(tmp_path: Path) -> None:
    """Checkpoint, temporary files and the record of the unfinished job are gone."""
    predict_one(write_pixels(tmp_path / "a.tif", draw_pixels(70, 70)), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".lock",
        "a.qml",
        "a.tif",
        "a.tif.aux.xml",
        "a_areas.csv",
    ]


def test_a_plain_geotiff_is_written_where_no_cog_is_wanted(tmp_path: Path) -> None:
    """Tiled, without overviews, the same pixels."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(600, 600))
    cog = predict_one(source, tmp_path / "cog")
    plain = predict_one(source, tmp_path / "plain", cog=False)
    assert np.array_equal(read_window(cog.classes), read_window(plain.classes))
    with rasterio.open(plain.classes) as raster:
        assert raster.overviews(1) == []
        assert raster.block_shapes == [(512, 512)]


@pytest.mark.parametrize(("kind", "step"), [("uint8", 0.5 / 254), ("float32", 0)])
def test_probabilities_are_written_beside_the_map(tmp_path: Path, kind: str, step: float) -> None:
    """A band for each output, named; they add up to 1; nodata where the map has none."""
    pixels = draw_pixels(90, 100)
    pixels[:10] = 0
    source = write_pixels(tmp_path / "a.tif", pixels, nodata=0)
    predicted = predict_one(source, tmp_path / "out", probs=kind)
    with rasterio.open(tmp_path / "out/a_probs.tif") as raster:
        assert raster.descriptions == tuple(LEGEND.names[index] for index in OUTPUTS)
        probs = raster.read(masked=True) * np.float64(raster.scales[0])
    assert probs.mask[:, :10].all()
    assert not probs.mask[:, 10:].any()
    logits = (pixels[10:].astype(np.float64) - 120) / 60 * 3
    exact = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert np.abs(probs[:, 10:].data.transpose(1, 2, 0) - exact).max() <= step + 1e-6
    classes = read_window(predicted.classes)[..., 0]
    assert (classes[:10] == 255).all()
    assert (classes[10:] != 255).all()
    assert predicted.nodata_share == pytest.approx(1 / 9)


def test_an_image_becomes_a_palette_png(tmp_path: Path) -> None:
    """Legend indices in the legend's colours; transparent pixels are 255."""
    pixels = draw_pixels(80, 70)
    alpha = np.full((80, 70, 1), 255, np.uint8)
    alpha[:5] = 0
    save(tmp_path / "b.png", np.concatenate([pixels, alpha], axis=-1).astype(np.uint8))
    predicted = predict_one(tmp_path / "b.png", tmp_path / "out")
    assert predicted.classes == tmp_path / "out/b_mask.png"
    with Image.open(predicted.classes) as image:
        assert image.mode == "P"
        classes, palette = np.asarray(image), image.getpalette()
    assert palette is not None
    assert palette[:12] == LEGEND.colours.reshape(-1).tolist()
    assert (classes[:5] == 255).all()
    assert np.array_equal(classes[5:], expected_classes(pixels)[5:])


def test_folders_keep_their_names_below_out(tmp_path: Path) -> None:
    """Images and rasters together, with sub-folders."""
    write_pixels(tmp_path / "in/x/a.tif", draw_pixels(40, 40))
    save(tmp_path / "in/b.jpg", draw_pixels(40, 40).astype(np.uint8))
    predict_all([tmp_path / "in"], tmp_path / "out")
    assert (tmp_path / "out/x/a.tif").exists()
    assert (tmp_path / "out/b_mask.png").exists()


@pytest.mark.parametrize("tile", [32, 96, 0])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_network_that_sees_one_pixel_gives_the_same_map_at_any_tile(tmp_path: Path, tile: int, batch: int) -> None:
    """To the last pixel."""
    pixels = draw_pixels(130, 170)
    source = write_pixels(tmp_path / "a.tif", pixels)
    predicted = predict_one(source, tmp_path / "out", tile=tile, batch=batch)
    assert np.array_equal(read_window(predicted.classes)[..., 0], expected_classes(pixels))


def test_augmentation_changes_nothing_for_a_symmetric_network(tmp_path: Path) -> None:
    """The mean over eight equal answers."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(100, 100))
    plain = predict_one(source, tmp_path / "plain", toy_model(smooth))
    mean = predict_one(source, tmp_path / "mean", toy_model(smooth), tta="d4")
    assert np.mean(read_window(plain.classes) == read_window(mean.classes)) > 0.999


def test_a_raster_without_a_place_is_mapped_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each: no transform, no CRS."""
    nowhere = write_pixels(tmp_path / "a.tif", draw_pixels(40, 40), crs=None, transform=None)
    assert read_info(predict_one(nowhere, tmp_path / "out").classes).transform is None
    assert f"{nowhere}: has no place on the ground; its map has none either." in capsys.readouterr().err
    unnamed = write_pixels(tmp_path / "b.tif", draw_pixels(40, 40), crs=None)
    assert read_info(predict_one(unnamed, tmp_path / "out").classes).transform == PLACE
    assert f"{unnamed}: names no coordinate system; its map names none either." in capsys.readouterr().err


def test_a_rotated_transform_is_carried_over_exactly(tmp_path: Path) -> None:
    """GeoTIFF and COG hold any affine transform."""
    turned = (0.5, 0.3, 270877.2, 0.3, -0.5, 4311036.0)
    source = write_pixels(tmp_path / "a.tif", draw_pixels(40, 60), transform=turned)
    assert read_info(predict_one(source, tmp_path / "out").classes).transform == turned


def test_a_coordinate_system_without_a_code_is_kept_in_full(tmp_path: Path) -> None:
    """A custom projection."""
    own = "+proj=laea +lat_0=47.5 +lon_0=11.25 +datum=WGS84 +units=m"
    source = write_pixels(tmp_path / "a.tif", draw_pixels(40, 60), crs=own)
    predicted = predict_one(source, tmp_path / "out")
    with rasterio.open(source) as given, rasterio.open(predicted.classes) as found:
        assert found.crs == given.crs


def test_a_map_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    """Refused before any work; with overwrite it is made anew."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(40, 40))
    first = predict_one(source, tmp_path / "out")
    first.classes.write_bytes(b"mine")
    text = f"{first.classes} and 1 more: exists already. Pass --overwrite, or choose another --out."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        predict_one(source, tmp_path / "out")
    assert first.classes.read_bytes() == b"mine"
    predict_one(source, tmp_path / "out", overwrite=True)
    assert read_info(first.classes).height == 40


def test_a_disk_that_is_too_small_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoint, temporary file and output are included; nothing is begun."""
    monkeypatch.setattr("levelground.prediction.plan.shutil.disk_usage", lambda _: type("U", (), {"free": 3000})())
    source = write_pixels(tmp_path / "a.tif", draw_pixels(60, 60))
    text = (
        f"{tmp_path / 'out'}: the maps need up to 0.0 GiB for checkpoint, temporary files and output, 0.0 GiB "
        "are free. Free space or choose another --out."
    )
    with pytest.raises(DiskError, match=f"^{re.escape(text)}$"):
        predict_one(source, tmp_path / "out")
    assert not list((tmp_path / "out").glob(".a*"))


def test_a_network_without_numbers_is_refused(tmp_path: Path) -> None:
    """NaN would be taken for the first class."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(60, 60))
    with pytest.raises(
        ModelError, match=r"^a\.tif: the network's output is not a number \(NaN\)\. Its weights are damaged"
    ):
        predict_one(source, tmp_path / "out", toy_model(lambda image: image * float("nan")))
    assert not (tmp_path / "out").exists()


def test_a_network_with_other_outputs_than_it_names_is_refused(tmp_path: Path) -> None:
    """Its classes would be guessed."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(60, 60))
    text = "the network has 3 outputs, its card names 2 classes. Train, adopt or export it anew."
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        predict_one(source, tmp_path / "out", toy_model(outputs=(0, 2)))


def cut_off(path: Path, share: float) -> Path:
    """A raster whose file ends early, its header whole."""
    pixels = draw_pixels(400, 200)
    with rasterio.open(
        path, "w", driver="GTiff", height=400, width=200, count=3, dtype="uint8", crs=UTM,
        transform=rasterio.Affine(*PLACE), blockysize=10, interleave="pixel",
    ) as raster:  # fmt: skip
        raster.write(pixels.transpose(2, 0, 1))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def test_a_raster_that_breaks_off_is_one_line_and_what_was_finished_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """File and rows are named; the other inputs are predicted, and the same call goes on at the row it broke off at."""
    broken, whole = cut_off(tmp_path / "a.tif", 0.6), write_pixels(tmp_path / "b.tif", draw_pixels(40, 40))
    out = tmp_path / "out"
    text = "1 of 2 inputs broke off, the first a.tif; the others are predicted. Mend them and give the same command."
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        predict_all([broken, whole], out, batch=4)
    assert re.search(
        rf"{broken}: breaks off in rows \d+ to \d+ \(.*\)\. Copy the file again; rows finished before are kept\.",
        capsys.readouterr().err,
    )
    assert (out / "b.tif").exists()
    with pytest.raises(SceneError, match=r"^1 of 2 inputs broke off"):
        predict_all([broken, whole], out, batch=4)
    said = capsys.readouterr().err
    assert f"{out}: 1 of 2 inputs are finished already and kept." in said
    assert re.search(r"a\.tif: goes on at row 1\d\d of 400\.", said)


def stopping_after(n: int, number: signal.Signals) -> Forward:
    """A network during whose n-th batch a signal comes."""
    batches = []

    def forward(image: torch.Tensor) -> torch.Tensor:
        batches.append(len(image))
        if len(batches) == n:
            signal.raise_signal(number)
        return smooth(image)

    return forward


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_job_that_then_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM: finished rows stay, one line says what goes on; the file has the same bytes as in one go."""
    source, chosen = write_pixels(tmp_path / "a.tif", draw_pixels(400, 130)), {"batch": 2, "probs": "float32"}
    whole = predict_one(source, tmp_path / "whole", toy_model(smooth), **chosen)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict_one(source, out, toy_model(stopping_after(6, number)), **chosen)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"a\.tif: stopped at row [1-9]\d+ of 400\.", lines[-2])
    assert lines[-1] == "The same command goes on from there."
    again = predict_one(source, out, toy_model(smooth), **chosen)
    assert re.search(r"a\.tif: goes on at row [1-9]\d+ of 400\.", capsys.readouterr().err)
    assert again.classes.read_bytes() == whole.classes.read_bytes()
    assert (out / "a_probs.tif").read_bytes() == (tmp_path / "whole/a_probs.tif").read_bytes()
    assert again.shares == whole.shares


def test_another_job_throws_away_what_was_unfinished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other settings may give another map; that is said."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(400, 130))
    with pytest.raises(KeyboardInterrupt):
        predict_one(source, tmp_path / "out", toy_model(stopping_after(6, signal.SIGINT)), batch=2)
    predict_one(source, tmp_path / "out", batch=3)
    said = capsys.readouterr().err
    assert "a.tif: rows of another job (model, input or settings) are thrown away." in said
    assert "goes on" not in said.replace("The same command goes on from there.", "")


def test_far_and_near_ground_sample_distances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More than 4 times off is refused, more than 1.2 times said, any can be meant."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(40, 40))
    text = f"{source}: has 0.6 m a pixel, toy learnt at 3 m. Pass --resample, or --any-gsd to run it as it is."
    with pytest.raises(UnlikeError, match=f"^{re.escape(text)}$"):
        predict_one(source, tmp_path / "out", toy_model(gsd_m=3.0))
    predict_one(source, tmp_path / "any", toy_model(gsd_m=3.0), any_gsd=True)
    capsys.readouterr()
    predict_one(source, tmp_path / "near", toy_model(gsd_m=1.2))
    said = capsys.readouterr().err
    assert f"{source}: has 0.6 m a pixel, toy learnt at 1.2 m; --resample would fit it." in said
    predict_one(source, tmp_path / "same", toy_model(gsd_m=0.7))
    assert "--resample" not in capsys.readouterr().err


def test_a_resampled_map_lies_on_the_input_s_grid(tmp_path: Path) -> None:
    """Four input pixels become one for the network; their map has four equal ones, and the input's place and size."""
    small = draw_pixels(60, 75)
    source = write_pixels(tmp_path / "a.tif", small.repeat(2, 0).repeat(2, 1))
    predicted = predict_one(source, tmp_path / "out", toy_model(gsd_m=1.2), resample=True)
    assert read_info(predicted.classes).transform == PLACE
    assert np.array_equal(read_window(predicted.classes)[..., 0], expected_classes(small).repeat(2, 0).repeat(2, 1))


def test_real_imagery_is_mapped_in_place(tmp_path: Path, real_data: Path) -> None:
    """The NAIP mosaic, whose near infrared is tagged alpha: RGB read, NIR no mask, empty cells told by their zeros."""
    source = real_data / "naip/naip_cluster1_rgbn.tif"
    predicted = predict_one(source, tmp_path / "out", bands=(1, 2, 3), zero_is_nodata=True, tile=512)
    found, given = read_info(predicted.classes), read_info(source)
    assert (found.crs, found.transform, found.height, found.width) == (
        given.crs, given.transform, given.height, given.width,
    )  # fmt: skip
    pixels = read_window(source)[..., :3]
    expected = expected_classes(pixels)
    expected[(pixels == 0).all(axis=-1)] = 255
    assert np.array_equal(read_window(predicted.classes)[..., 0], expected)
    assert predicted.nodata_share == pytest.approx(0.367, abs=0.01)


def test_where_nobody_watches_a_line_says_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Share done, speed and time left."""
    monkeypatch.setattr("levelground.prediction.pipeline._LINE_EVERY_S", 0.0)
    predict_one(write_pixels(tmp_path / "a.tif", draw_pixels(100, 100)), tmp_path / "out")
    assert re.search(r"^a\.tif: \d+%, \d+\.\d\d megapixels/s, 0 minutes left\.$", capsys.readouterr().err, re.MULTILINE)


def test_a_wide_raster_s_lower_edge_goes_to_a_file_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes; the file is gone."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(150, 150))
    kept = predict_one(source, tmp_path / "kept", toy_model(smooth), tile=32)
    monkeypatch.setattr("levelground.prediction.pipeline._SPILL_BYTES", 0)
    spilled = predict_one(source, tmp_path / "spilled", toy_model(smooth), tile=32)
    assert spilled.classes.read_bytes() == kept.classes.read_bytes()


def test_zeros_of_an_image_can_be_no_data_too(tmp_path: Path) -> None:
    """The rule is the same for images."""
    pixels = draw_pixels(40, 40)
    pixels[:10] = 0
    save(tmp_path / "b.png", pixels.astype(np.uint8))
    predicted = predict_one(tmp_path / "b.png", tmp_path / "out", zero_is_nodata=True)
    assert predicted.nodata_share == 0.25


def test_float_pixels_without_data_are_filled_too(tmp_path: Path) -> None:
    """NaN is no data, and does not spread."""
    pixels = draw_pixels(80, 80, dtype="float32")
    pixels[20, 30] = np.nan
    predicted = predict_one(write_pixels(tmp_path / "a.tif", pixels), tmp_path / "out", toy_model(dtype="float32"))
    expected = expected_classes(np.nan_to_num(pixels))
    expected[20, 30] = 255
    assert np.array_equal(read_window(predicted.classes)[..., 0], expected)


def test_an_image_keeps_the_place_that_its_world_file_gives(tmp_path: Path) -> None:
    """The map has a world file and a system of its own, which GDAL reads; areas and polygons are on the ground."""
    path = tmp_path / "a.png"
    Image.fromarray(draw_pixels(40, 50)).save(path)
    (tmp_path / "a.pgw").write_text("0.5\n0\n0\n-0.5\n500000.25\n5599999.75\n")
    (tmp_path / "a.prj").write_text(rasterio.crs.CRS.from_epsg(32633).to_wkt())
    predicted = predict_one(path, tmp_path / "out", toy_model(gsd_m=0.5), polygons="geojson")
    info = read_info(predicted.classes)
    assert predicted.classes.name == "a_mask.png"
    assert (info.crs, info.transform) == ("EPSG:32633", (0.5, 0.0, 500000.0, 0.0, -0.5, 5600000.0))
    assert predicted.areas.basis == "plane"
    assert sum(predicted.areas.hectares) == pytest.approx(40 * 50 * 0.25 / 1e4)
    content = json.loads((tmp_path / "out/a_polygons.geojson").read_text(encoding="utf-8"))
    longitude = content["features"][0]["geometry"]["coordinates"][0][0][0]
    assert longitude == pytest.approx(15, abs=0.01)
    assert (tmp_path / "out/a_mask.pgw").read_text().split()[4:] == ["500000.25", "5599999.75"]
