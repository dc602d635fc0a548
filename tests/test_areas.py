"""Areas of class maps: pixels, shares, hectares on planes and on the ellipsoid, tables."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
from builders.prediction import HALF_METRE, write_class_map
from builders.study import LEGEND
from pyproj import Geod

from levelground.errors import ClassIndexError
from levelground.imagery.geotiff import RasterInfo
from levelground.prediction.areas import area_scale_factor, cell_areas, class_areas, join_areas, write_areas

LABELS = np.uint8([[0, 0, 2, 255], [0, 3, 2, 255], [0, 3, 3, 3]])


def at(crs: str | None, place: tuple[float, ...] | None, height: int = 1, width: int = 1) -> RasterInfo:
    """A raster that is nothing but its place."""
    return RasterInfo(height, width, 1, "uint8", 255, crs, place)  # type: ignore[arg-type]


def test_pixels_are_counted_by_class_and_shares_leave_no_data_out(tmp_path: Path) -> None:
    """Four, none, two and four of ten; two pixels have no data."""
    areas = class_areas(write_class_map(tmp_path / "a.tif", LABELS), LEGEND)
    assert areas.pixels.tolist() == [4, 0, 2, 4]
    assert areas.shares.tolist() == [0.4, 0.0, 0.2, 0.4]
    assert areas.nodata_pixels == 2


def test_metres_become_hectares(tmp_path: Path) -> None:
    """A pixel of half a metre is a quarter of a square metre."""
    areas = class_areas(write_class_map(tmp_path / "a.tif", LABELS), LEGEND)
    assert areas.hectares is not None
    assert areas.hectares.tolist() == [1e-4, 0.0, 0.5e-4, 1e-4]
    assert (areas.basis, areas.nodata_square_metres) == ("plane", 0.5)


def test_rows_beyond_the_first_strip_are_counted(tmp_path: Path) -> None:
    """1100 rows are three strips."""
    labels = np.zeros((1100, 3), np.uint8)
    labels[-1] = 3
    assert class_areas(write_class_map(tmp_path / "a.tif", labels), LEGEND).pixels.tolist() == [3297, 0, 0, 3]


def test_feet_are_squared() -> None:
    """US survey feet: 2 ft × 2 ft."""
    found = cell_areas(at("EPSG:2263", (2, 0, 0, 0, -2, 0)))
    assert found.row_m2[0] == pytest.approx(4 * (1200 / 3937) ** 2, rel=1e-9)


def test_a_turned_grid_has_the_determinants_area() -> None:
    """A pixel of 3 × 2 m turned by 30°."""
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    found = cell_areas(at("EPSG:32633", (3 * c, 2 * s, 5e5, 3 * s, -2 * c, 5.6e6)))
    assert found.row_m2[0] == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("crs", "place"),
    [(None, None), (None, HALF_METRE), ("EPSG:32633", None), ("EPSG:4326", (1e-5, 1e-5, 10, 1e-5, -1e-5, 50))],
)
def test_areas_are_unknown_without_a_system_or_parallel_rows(
    crs: str | None, place: tuple[float, ...] | None, tmp_path: Path
) -> None:
    """Pixels only, and no hectares."""
    assert cell_areas(at(crs, place)).basis == "none"
    assert class_areas(write_class_map(tmp_path / "a.tif", LABELS, crs, place), LEGEND).hectares is None


@pytest.mark.parametrize("latitude", [0.0, 30.0, 60.0, 89.9, -45.0])
def test_cells_in_degrees_are_those_of_geodesic_polygons(latitude: float) -> None:
    """PROJ's polygons with geodesic edges are the outside reference; parallels are followed in 200 pieces."""
    size, pieces = 0.01, 200
    found = cell_areas(at("EPSG:4326", (size, 0, 10, 0, -size, latitude + size)))
    east = np.linspace(10, 10 + size, pieces + 1)
    lons = np.concatenate([east, east[::-1]])
    lats = np.repeat([latitude, latitude + size], pieces + 1)
    expected, _ = Geod(ellps="WGS84").polygon_area_perimeter(lons, lats)
    assert found.row_m2[0] == pytest.approx(expected, rel=1e-7)


def test_cells_of_the_whole_earth_add_up_to_it() -> None:
    """180 rows of 360 cells of a degree: 510.0656 million km²; what leaves the poles has no area."""
    found = cell_areas(at("EPSG:4326", (1, 0, -180, 0, -1, 91), height=182))
    assert found.row_m2.sum() * 360 / 1e12 == pytest.approx(510.065621724, abs=1e-8)
    assert found.row_m2[[0, -1]].tolist() == [0.0, 0.0]


def test_rows_in_degrees_have_their_own_areas(tmp_path: Path) -> None:
    """The same pixels nearer to the pole cover less."""
    labels = np.uint8([[0, 0], [2, 2]])
    path = write_class_map(tmp_path / "a.tif", labels, "EPSG:4326", (10, 0, 0, 0, -10, 80))
    areas = class_areas(path, LEGEND)
    cells = cell_areas(at("EPSG:4326", (10, 0, 0, 0, -10, 80), height=2)).row_m2
    assert areas.square_metres is not None
    assert areas.square_metres[[0, 2]].tolist() == (2 * cells).tolist()
    assert cells[0] < 0.7 * cells[1]


@pytest.mark.parametrize(
    ("crs", "place", "expected"),
    [
        ("EPSG:32633", HALF_METRE, 0.9996**2),  # the scale at UTM's middle meridian
        ("EPSG:6933", (30, 0, 1e6, 0, -30, 5e6), 1.0),  # equal-area
        ("EPSG:4326", (1e-5, 0, 10, 0, -1e-5, 50), 1.0),  # no plane
    ],
)
def test_area_scale_factor_of_a_plane(crs: str, place: tuple[float, ...], expected: float) -> None:
    """Plane area by ground area at the raster's middle."""
    assert area_scale_factor(at(crs, place, 10, 10)) == pytest.approx(expected, rel=1e-5)


def test_web_mercator_is_warned_of(tmp_path: Path) -> None:
    """At 60° north it shows four times the ground; UTM is not warned of."""
    north = 8399737.89  # of 60°
    areas = class_areas(write_class_map(tmp_path / "a.tif", LABELS, "EPSG:3857", (1, 0, 1e6, 0, -1, north)), LEGEND)
    assert areas.scale_factor == pytest.approx(4.0, rel=0.01)
    text = (
        "a.tif: its projection shows 3.99 times the ground's area, and so do the hectares. "
        "Reproject the map to UTM or an equal-area system for areas on the ground."
    )
    assert areas.warning("a.tif") == text
    assert class_areas(write_class_map(tmp_path / "b.tif", LABELS), LEGEND).warning("b.tif") is None


def test_a_value_that_is_no_class_is_refused(tmp_path: Path) -> None:
    """The message names it and the legend."""
    path = write_class_map(tmp_path / "a.tif", np.uint8([[0, 7]]))
    text = f"{path}: holds class 7, which is none of 'land', expected 0 to 3. Give the legend that it was made with."
    with pytest.raises(ClassIndexError, match=f"^{re.escape(text)}$"):
        class_areas(path, LEGEND)


def test_table_has_a_line_for_each_class_and_one_for_no_data(tmp_path: Path) -> None:
    """As a spreadsheet reads it."""
    write_areas(tmp_path / "a.csv", class_areas(write_class_map(tmp_path / "a.tif", LABELS), LEGEND))
    with (tmp_path / "a.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["class", "name", "pixels", "share", "hectares", "basis"],
        ["0", "Field", "4", "0.400000", "0.0001", "plane"],
        ["1", "Unknown", "0", "0.000000", "0.0000", "plane"],
        ["2", "Wood", "2", "0.200000", "0.0001", "plane"],
        ["3", "Water", "4", "0.400000", "0.0001", "plane"],
        ["255", "no data", "2", "", "0.0001", "plane"],
    ]


def test_table_without_ground_leaves_hectares_empty(tmp_path: Path) -> None:
    """An empty cell, not a zero."""
    write_areas(tmp_path / "a.csv", class_areas(write_class_map(tmp_path / "a.tif", LABELS, None, None), LEGEND))
    with (tmp_path / "a.csv").open(encoding="utf-8") as file:
        assert {row["hectares"] for row in csv.DictReader(file)} == {""}


def test_joint_table_renews_its_inputs_and_keeps_others(tmp_path: Path) -> None:
    """Names with commas survive."""
    for name, value in (("x", 0), ("y", 2)):
        write_areas(
            tmp_path / f"{name}.csv",
            class_areas(write_class_map(tmp_path / "a.tif", np.full((2, 2), value, np.uint8)), LEGEND),
        )
    joint = tmp_path / "areas.csv"
    join_areas(joint, [("a, b.tif", tmp_path / "x.csv"), ("y.tif", tmp_path / "y.csv")])
    join_areas(joint, [("a, b.tif", tmp_path / "y.csv")])
    with joint.open(encoding="utf-8") as file:
        rows = [(row["input"], row["class"]) for row in csv.DictReader(file) if int(row["pixels"])]
    assert rows == [("y.tif", "2"), ("a, b.tif", "2")]
