"""What is made of maps: which files, when, and what is refused."""

import csv
import re
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from builders.prediction import draw_pixels, expected_classes, predict_all, predict_one, toy_model, write_pixels
from builders.scene_files import save
from PIL import Image

from levelground.config import PredictOptions
from levelground.errors import ConfigError
from levelground.prediction.plan import vector_and_picture_bytes

ALL: dict[str, object] = {
    "polygons": "gpkg",
    "smallest_area": 1.0,
    "picture": True,
    "overlay": True,
    "picture_side": 64,
}


def names_in(folder: Path) -> list[str]:
    """Files, without the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_every_output_of_a_raster_lies_beside_its_map(tmp_path: Path) -> None:
    """And speaks of the same pixels."""
    pixels = draw_pixels(90, 110)
    predicted = predict_one(write_pixels(tmp_path / "a.tif", pixels), tmp_path / "out", **ALL)
    assert names_in(tmp_path / "out") == [
        "a.qml",
        "a.tif",
        "a.tif.aux.xml",
        "a_areas.csv",
        "a_colours.png",
        "a_overlay.png",
        "a_polygons.gpkg",
    ]
    expected = np.bincount(expected_classes(pixels).ravel(), minlength=4)
    assert predicted.areas.pixels.tolist() == expected.tolist()
    assert predicted.areas.hectares is not None
    assert predicted.areas.hectares == pytest.approx(expected * 0.36 / 1e4)
    _, _, _, (_, _, sizes, square_metres, _) = pyogrio.raw.read(tmp_path / "out/a_polygons.gpkg", layer="classes")
    assert square_metres == pytest.approx(sizes * 0.36)
    assert sizes.min() >= 3
    with Image.open(tmp_path / "out/a_colours.png") as image:
        assert max(image.size) == 64


def test_an_image_has_all_outputs_too(tmp_path: Path) -> None:
    """Named after it; GeoJSON in columns and rows; pixels for areas."""
    save(tmp_path / "b.png", draw_pixels(40, 50).astype(np.uint8))
    predicted = predict_one(tmp_path / "b.png", tmp_path / "out", polygons="geojson", picture=True, overlay=True)
    assert names_in(tmp_path / "out") == [
        "b_areas.csv",
        "b_colours.png",
        "b_mask.png",
        "b_overlay.png",
        "b_polygons.geojson",
        "b_polygons.qml",
    ]
    assert predicted.areas.hectares is None
    meta, _, _, columns = pyogrio.raw.read(tmp_path / "out/b_polygons.geojson")
    assert list(meta["fields"]) == ["class", "name", "pixels"]
    assert columns[2].sum() == 40 * 50


def test_a_resampled_map_has_an_overlay_on_the_inputs_grid(tmp_path: Path) -> None:
    """The image is read as it is."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(90, 110))
    predicted = predict_one(source, tmp_path / "out", toy_model(gsd_m=1.2), resample=True, overlay=True)
    assert predicted.areas.pixels.sum() == 90 * 110
    with Image.open(tmp_path / "out/a_overlay.png") as image:
        assert image.size[0] == 110


def test_several_inputs_have_one_table_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a first column that names them; lines on the console have hectares."""
    for name in ("x/a.tif", "b.tif"):
        write_pixels(tmp_path / "in" / name, draw_pixels(40, 40))
    predict_all([tmp_path / "in"], tmp_path / "out")
    with (tmp_path / "out/areas.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["input"] for row in rows} == {"b.tif", "x/a.tif"}
    assert sum(int(row["pixels"]) for row in rows) == 2 * 1600
    assert re.search(r"b\.tif: .* Field \d+\.\d% \(\d\.\d\d ha\), ", capsys.readouterr().err)


def test_outputs_of_two_inputs_must_not_meet(tmp_path: Path) -> None:
    """a.tif and a.png would both have a_areas.csv."""
    write_pixels(tmp_path / "in/a.tif", draw_pixels(40, 40))
    save(tmp_path / "in/a.png", draw_pixels(40, 40).astype(np.uint8))
    text = (
        f"{tmp_path}/in/a.png and {tmp_path}/in/a.tif: both would become {tmp_path}/out/a_areas.csv. "
        "Write their maps into two folders."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        predict_all([tmp_path / "in"], tmp_path / "out")


def test_a_job_that_was_stopped_while_writing_outputs_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it wrote itself does not stand in its way, and no pixel is run twice."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(70, 70))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("levelground.prediction.predict.write_colours", stop)
        predict_one(source, tmp_path / "out", picture=True)
    assert "a_areas.csv" in names_in(tmp_path / "out")
    assert "a.tif" not in names_in(tmp_path / "out")
    predicted = predict_one(source, tmp_path / "out", picture=True)
    assert predicted.throughput.pixels == 0
    assert names_in(tmp_path / "out") == ["a.qml", "a.tif", "a.tif.aux.xml", "a_areas.csv", "a_colours.png"]


def test_an_output_that_exists_is_not_replaced_unasked(tmp_path: Path) -> None:
    """Even where the map is not."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(40, 40))
    there = tmp_path / "out/a_polygons.gpkg"
    there.parent.mkdir()
    there.write_bytes(b"mine")
    text = f"{there}: exists already. Pass --overwrite, or choose another --out."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        predict_one(source, tmp_path / "out", polygons="gpkg")
    predict_one(source, tmp_path / "out", overwrite=True, polygons="gpkg")
    assert there.read_bytes().startswith(b"SQLite format 3")


def test_a_smallest_area_needs_polygons() -> None:
    """Said before anything is run."""
    text = "--smallest-area 50: no polygons are asked for. Pass --polygons gpkg, or leave it away."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        PredictOptions(smallest_area=50.0)


def test_the_estimate_of_disk_space_includes_polygons_and_pictures() -> None:
    """Nothing for areas, more for more."""
    polygons = vector_and_picture_bytes(10**6, PredictOptions(polygons="gpkg"))
    assert vector_and_picture_bytes(10**6, PredictOptions()) == 0
    assert 0 < polygons < vector_and_picture_bytes(10**6, PredictOptions(**ALL))  # type: ignore[arg-type]
