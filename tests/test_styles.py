"""Styles for QGIS, and maps that hold the values of the masks: colours and names are the legend's in each."""

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest
import rasterio
from builders.field_sets import classes_of, write
from builders.prediction import draw_pixels, expected_classes, predict_one, toy_model, write_pixels
from builders.scene_files import save
from PIL import Image

from levelground.errors import ConfigError, SceneError
from levelground.imagery.legend import Legend
from levelground.imagery.legend_sources import legend_of_table, read_table

LEGEND = toy_model().spec.legend


def with_values(values: tuple[int, ...], nodata: tuple[int, ...]) -> Legend:
    """The small legend, each class with a value that masks store."""
    classes = tuple(
        dataclasses.replace(one, values=(value,)) for one, value in zip(LEGEND.classes, values, strict=True)
    )
    return dataclasses.replace(LEGEND, classes=classes, nodata=nodata)


@pytest.mark.parametrize(
    ("values", "nodata", "dtype"),
    [
        ((10, 20, 30, 40), (0,), "uint8"),
        ((111, 211, 311, 512), (999,), "uint16"),
        ((1, 2, 3, 4), (-1,), "int16"),
        ((255, 1, 2, 3), (), "uint8"),
    ],
)
@pytest.mark.parametrize("cog", [True, False])
def test_maps_hold_the_stored_values(
    tmp_path: Path, values: tuple[int, ...], nodata: tuple[int, ...], dtype: str, cog: bool
) -> None:
    """In the smallest type that holds them, with their nodata value; areas and polygons speak of classes."""
    pixels = draw_pixels(90, 110)
    pixels[:9] = 0
    source = write_pixels(tmp_path / "a.tif", pixels)
    model = toy_model(legend=with_values(values, nodata))
    predicted = predict_one(source, tmp_path / "out", model, values="stored", polygons="gpkg", cog=cog)
    with rasterio.open(tmp_path / "out/a.tif") as raster:
        stored, tag = raster.read(1), raster.nodata
        assert raster.dtypes == (dtype,)
    empty = nodata[0] if nodata else 0
    expected = np.array(values)[expected_classes(pixels)]
    expected[:9] = empty
    assert (stored.tolist(), tag) == (expected.tolist(), empty)
    assert predicted.areas.pixels.tolist() == np.bincount(expected_classes(pixels)[9:].ravel(), minlength=4).tolist()
    table = legend_of_table(read_table(tmp_path / "out/a.qml"), tmp_path / "out/a.qml")
    assert {one.name: one.values or (one.index,) for one in table.classes} == {
        one.name: (value,) for one, value in zip(LEGEND.classes, values, strict=True)
    }


def test_images_hold_the_stored_values_where_a_png_can(tmp_path: Path) -> None:
    """8 bits with colours, 16 without; negative values are refused."""
    pixels = draw_pixels(40, 50).astype(np.uint8)
    save(tmp_path / "b.png", pixels)
    for values in ((10, 20, 30, 40), (111, 211, 311, 512)):
        model = toy_model(legend=with_values(values, (0,)))
        predict_one(tmp_path / "b.png", tmp_path / str(values[0]), model, values="stored")
        with Image.open(tmp_path / str(values[0]) / "b_mask.png") as image:
            assert np.array_equal(np.asarray(image), np.array(values)[expected_classes(pixels)])
    with pytest.raises(ConfigError, match=r"--values stored: the value -1 fits no PNG"):
        predict_one(
            tmp_path / "b.png", tmp_path / "c", toy_model(legend=with_values((1, 2, 3, 4), (-1,))), values="stored"
        )


def test_a_map_has_a_style_that_reads_back_as_its_legend(tmp_path: Path) -> None:
    """The file beside it, by the reader of styles."""
    predict_one(write_pixels(tmp_path / "a.tif", draw_pixels(40, 50)), tmp_path / "out")
    read = legend_of_table(read_table(tmp_path / "out/a.qml"), tmp_path / "out/a.qml")
    assert (read.names, read.colours.tolist()) == (LEGEND.names, LEGEND.colours.tolist())


@pytest.mark.parametrize("form", ["gpkg", "geojson"])
def test_polygons_have_a_style(tmp_path: Path, form: str) -> None:
    """In the GeoPackage's table of styles, or beside GeoJSON; the package still holds one layer of polygons."""
    predict_one(write_pixels(tmp_path / "a.tif", draw_pixels(40, 50)), tmp_path / "out", polygons=form)
    path = tmp_path / f"out/a_polygons.{form}"
    if form == "gpkg":
        with closing(sqlite3.connect(path)) as database:
            ((layer, geometry, text, default),) = database.execute(
                "SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles"
            ).fetchall()
        assert (layer, geometry, default) == ("classes", "geom", 1)
        assert "classes" in [name for name, kind in pyogrio.list_layers(path).tolist() if kind is not None]
    else:
        text = path.with_suffix(".qml").read_text()
    root = ElementTree.fromstring(text)
    categories = {one.get("value"): one.get("label") for one in root.iter("category")}
    assert categories == {str(n): name for n, name in enumerate(LEGEND.names)}
    colours = [one.get("value") for one in root.iter("Option") if one.get("name") == "color"]
    assert colours == [",".join(map(str, [*colour, 255])) for colour in LEGEND.colours.tolist()]


def test_bands_in_files_of_their_own_are_predicted(tmp_path: Path) -> None:
    """As one raster, named after the scene; what is not a folder or lacks a band is refused."""
    pixels = draw_pixels(48, 48)
    for n, band in enumerate(("B04", "B03", "B02")):
        write(tmp_path / f"in/S2_1.SAFE/R10m/T33_{band}_10m.tif", pixels[..., n], 1)
    model = toy_model(gsd_m=10.0)
    predict_one(tmp_path / "in", tmp_path / "out", model, stack=("B04 B03 B02",))
    with rasterio.open(tmp_path / "out/S2_1.tif") as raster:
        assert np.array_equal(raster.read(1), expected_classes(pixels))
        assert raster.crs.to_epsg() == 32633
    with pytest.raises(SceneError, match="has no file of band B08"):
        predict_one(tmp_path / "in", tmp_path / "out2", model, stack=("B04", "B03", "B08"))
    write(tmp_path / "b.tif", classes_of(0), 0)
    with pytest.raises(ConfigError, match=r"--stack B04: .*b\.tif is not a folder"):
        predict_one(tmp_path / "b.tif", tmp_path / "out3", model, stack=("B04",))
