"""What is made of maps: which files, when, and what is refused."""

import csv
import re
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from mapping_builder import RUNTIME, expected_classes, map_one, model, pixels_of, save
from PIL import Image

from levelground.errors import ConfigError
from levelground.prediction.outputs import Products, disk_needed
from levelground.prediction.plan import Settings, Wishes
from levelground.prediction.predict import predict_maps

ALL = Products("gpkg", smallest=1.0, picture=True, overlay=True, side=64)


def names_in(folder: Path) -> list[str]:
    """Files, without the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_every_product_of_a_raster_lies_beside_its_map(tmp_path: Path) -> None:
    """And speaks of the same pixels."""
    pixels = pixels_of(90, 110)
    mapped = map_one(save(tmp_path / "a.tif", pixels), tmp_path / "out", settings=Settings(products=ALL))
    assert names_in(tmp_path / "out") == [
        "a.tif",
        "a.tif.aux.xml",
        "a_areas.csv",
        "a_colours.png",
        "a_overlay.png",
        "a_polygons.gpkg",
    ]
    expected = np.bincount(expected_classes(pixels).ravel(), minlength=4)
    assert mapped.areas.pixels.tolist() == expected.tolist()
    assert mapped.areas.hectares is not None
    assert mapped.areas.hectares == pytest.approx(expected * 0.36 / 1e4)
    _, _, _, (_, _, sizes, square_metres, _) = pyogrio.raw.read(tmp_path / "out/a_polygons.gpkg")
    assert square_metres == pytest.approx(sizes * 0.36)
    assert sizes.min() >= 3
    with Image.open(tmp_path / "out/a_colours.png") as image:
        assert max(image.size) == 64


def test_an_image_has_products_too(tmp_path: Path) -> None:
    """Named after it; GeoJSON in columns and rows; pixels for areas."""
    Image.fromarray(pixels_of(40, 50).astype(np.uint8)).save(tmp_path / "b.png")
    products = Products("geojson", picture=True, overlay=True)
    mapped = map_one(tmp_path / "b.png", tmp_path / "out", settings=Settings(products=products))
    assert names_in(tmp_path / "out") == [
        "b_areas.csv",
        "b_colours.png",
        "b_mask.png",
        "b_overlay.png",
        "b_polygons.geojson",
    ]
    assert mapped.areas.hectares is None
    meta, _, _, columns = pyogrio.raw.read(tmp_path / "out/b_polygons.geojson")
    assert list(meta["fields"]) == ["class", "name", "pixels"]
    assert columns[2].sum() == 40 * 50


def test_a_resampled_map_has_an_overlay_on_the_inputs_grid(tmp_path: Path) -> None:
    """The image is read as it is."""
    settings = Settings(wishes=Wishes(resample=True), products=Products(overlay=True))
    mapped = map_one(save(tmp_path / "a.tif", pixels_of(90, 110)), tmp_path / "out", model(gsd_m=1.2), settings)
    assert mapped.areas.pixels.sum() == 90 * 110
    with Image.open(tmp_path / "out/a_overlay.png") as image:
        assert image.size[0] == 110


def test_several_inputs_have_one_table_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a first column that names them; lines on the console have hectares."""
    for name in ("x/a.tif", "b.tif"):
        save(tmp_path / "in" / name, pixels_of(40, 40))
    predict_maps(model(), [str(tmp_path / "in")], tmp_path / "out", settings=Settings(), runtime=RUNTIME)
    with (tmp_path / "out/areas.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["input"] for row in rows} == {"b.tif", "x/a.tif"}
    assert sum(int(row["pixels"]) for row in rows) == 2 * 1600
    assert re.search(r"b\.tif: .* Field \d+\.\d% \(\d\.\d\d ha\), ", capsys.readouterr().err)


def test_products_of_two_inputs_must_not_meet(tmp_path: Path) -> None:
    """a.tif and a.png would both have a_areas.csv."""
    save(tmp_path / "in/a.tif", pixels_of(40, 40))
    Image.fromarray(pixels_of(40, 40).astype(np.uint8)).save(tmp_path / "in/a.png")
    text = (
        f"{tmp_path}/in/a.png and {tmp_path}/in/a.tif: both would become {tmp_path}/out/a_areas.csv. "
        "Map them into two folders."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        predict_maps(model(), [str(tmp_path / "in")], tmp_path / "out", settings=Settings(), runtime=RUNTIME)


def test_a_job_that_was_stopped_among_its_products_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it wrote itself does not stand in its way, and no pixel is run twice."""
    source = save(tmp_path / "a.tif", pixels_of(70, 70))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("levelground.prediction.outputs.write_colours", stop)
        map_one(source, tmp_path / "out", settings=Settings(products=Products(picture=True)))
    assert "a_areas.csv" in names_in(tmp_path / "out")
    assert "a.tif" not in names_in(tmp_path / "out")
    mapped = map_one(source, tmp_path / "out", settings=Settings(products=Products(picture=True)))
    assert mapped.pace.pixels == 0
    assert names_in(tmp_path / "out") == ["a.tif", "a.tif.aux.xml", "a_areas.csv", "a_colours.png"]


def test_a_product_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    """Even where the map is not."""
    source = save(tmp_path / "a.tif", pixels_of(40, 40))
    there = tmp_path / "out/a_polygons.gpkg"
    there.parent.mkdir()
    there.write_bytes(b"mine")
    text = f"{there}: exists already. Pass --overwrite, or choose another --out."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        map_one(source, tmp_path / "out", settings=Settings(products=Products("gpkg")))
    map_one(source, tmp_path / "out", settings=Settings(overwrite=True, products=Products("gpkg")))
    assert there.read_bytes().startswith(b"SQLite format 3")


def test_a_smallest_area_needs_polygons() -> None:
    """Said before anything is run."""
    text = "--smallest-area 50: no polygons are asked for. Pass --polygons gpkg, or leave it away."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        Products(smallest=50.0)


def test_products_are_reckoned_with() -> None:
    """Nothing for areas, more for more."""
    assert disk_needed(10**6, Products()) == 0
    assert 0 < disk_needed(10**6, Products("gpkg")) < disk_needed(10**6, ALL)
