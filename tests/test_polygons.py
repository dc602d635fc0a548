"""Polygons of class maps: files read back by other libraries, places, merging, what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio.features
from builders.prediction import HALF_METRE, write_class_map
from builders.study import LEGEND
from numpy.typing import NDArray
from pyproj import Geod, Transformer

from levelground.errors import ClassIndexError, ConfigError, DiskError, SceneError
from levelground.prediction.polygons import PolygonCount, break_long, write_polygons
from levelground.prediction.vectorize import Rings

RING = np.uint8([[0, 0, 0, 0], [0, 2, 2, 0], [0, 2, 3, 0], [0, 0, 0, 255]])
"""Class 0 around class 2 and, touching it by a corner, no data; one pixel of class 3."""


def blobs(height: int, width: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Components of several sizes of classes 0, 2 and 3, some pixels without data."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.uint8([0, 2, 3]), (height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)
    labels = coarse[:height, :width].copy()
    specks = rng.random(labels.shape) < 0.05
    labels[specks] = rng.choice(np.uint8([0, 2, 3, 255]), int(specks.sum()))
    return labels


def read_back(path: Path) -> tuple[dict[str, object], list[dict[str, object]]]:
    """A file's header, and its features with the points of their rings, read by GDAL."""
    meta, _, shapes, columns = pyogrio.raw.read(path, layer=0)
    fields = [dict(zip(meta["fields"], values, strict=True)) for values in zip(*columns, strict=True)]
    return meta, [field | {"rings": rings_of(shape)} for field, shape in zip(fields, shapes, strict=True)]


def rings_of(wkb: bytes) -> list[NDArray[np.float64]]:
    """The rings of a polygon in well-known binary."""
    assert wkb[:5] == b"\x01\x03\0\0\0"
    rings, at = [], 9
    for _ in range(int.from_bytes(wkb[5:9], "little")):
        size = int.from_bytes(wkb[at : at + 4], "little")
        rings.append(np.frombuffer(wkb, "<f8", 2 * size, at + 4).reshape(size, 2))
        at += 4 + 16 * size
    assert at == len(wkb)
    return rings


def signed_area(ring: NDArray[np.float64]) -> float:
    """Positive where the ring runs counter-clockwise."""
    x, y = (ring - ring[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def test_geopackage_has_the_maps_system_names_and_areas(tmp_path: Path) -> None:
    """Read by GDAL: three polygons, the middle one a hole in the first."""
    count = write_polygons(write_class_map(tmp_path / "a.tif", RING), LEGEND, tmp_path / "a.gpkg")
    meta, features = read_back(tmp_path / "a.gpkg")
    assert count == PolygonCount(3, 0)
    assert (meta["crs"], meta["geometry_type"], list(meta["fields"])) == (
        "EPSG:32633",
        "Polygon",
        ["class", "name", "pixels", "area_m2", "area_ha"],
    )
    found = {f["class"]: (f["name"], f["pixels"], f["area_m2"], f["area_ha"], len(f["rings"])) for f in features}
    assert found == {
        0: ("Field", 11, 2.75, 2.75e-4, 2),
        2: ("Wood", 3, 0.75, 0.75e-4, 1),
        3: ("Water", 1, 0.25, 0.25e-4, 1),
    }


def test_polygons_lie_on_their_pixels(tmp_path: Path) -> None:
    """Burnt back by GDAL they give the map."""
    labels = blobs(90, 70)
    write_polygons(write_class_map(tmp_path / "a.tif", labels), LEGEND, tmp_path / "a.gpkg")
    _, features = read_back(tmp_path / "a.gpkg")
    shapes = [({"type": "Polygon", "coordinates": [r.tolist() for r in f["rings"]]}, f["class"]) for f in features]
    burnt = rasterio.features.rasterize(
        shapes, labels.shape, fill=255, transform=rasterio.Affine(*HALF_METRE), dtype="uint8"
    )
    assert np.array_equal(burnt, labels)


@pytest.mark.parametrize("ending", ["gpkg", "geojson"])
@pytest.mark.parametrize(("crs", "place"), [("EPSG:32633", HALF_METRE), (None, None)])
def test_outer_rings_run_counter_clockwise_and_holes_clockwise(
    tmp_path: Path, ending: str, crs: str | None, place: tuple[float, ...] | None
) -> None:
    """RFC 7946, 3.1.6; in the file's own axes."""
    write_polygons(write_class_map(tmp_path / "a.tif", blobs(40, 40), crs, place), LEGEND, tmp_path / f"a.{ending}")
    _, features = read_back(tmp_path / f"a.{ending}")
    assert any(len(feature["rings"]) > 1 for feature in features)
    for feature in features:
        outer, *holes = feature["rings"]
        assert signed_area(outer) > 0
        assert all(signed_area(hole) < 0 for hole in holes)


def test_geojson_is_in_degrees(tmp_path: Path) -> None:
    """No crs member; the corners where PROJ has them, the area on the ellipsoid that of the plane but for its scale."""
    write_polygons(write_class_map(tmp_path / "a.tif", np.full((60, 80), 2, np.uint8)), LEGEND, tmp_path / "a.geojson")
    content = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))
    assert list(content) == ["type", "features"]
    (feature,) = content["features"]
    assert feature["properties"] == {"class": 2, "name": "Wood", "pixels": 4800, "area_m2": 1200.0, "area_ha": 0.12}
    (ring,) = feature["geometry"]["coordinates"]
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(
        [500000, 500040, 500040, 500000], [5600000, 5600000, 5599970, 5599970]
    )
    corners = {(round(x, 7), round(y, 7)) for x, y in zip(lon, lat, strict=True)}
    assert corners <= {tuple(point) for point in ring}
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(*np.array(ring).T)
    assert area == pytest.approx(1200 / 0.9996**2, rel=1e-4)


def test_long_pieces_have_points_on_them_where_maps_bend() -> None:
    """A rectangle of 150 × 10 pixels: both long sides in three, nothing else changed."""
    rings = Rings(np.array([0]), np.array([0, 4]), np.array([0, 0, 10, 10]), np.array([0, 150, 150, 0]))
    found = break_long(rings, 64)
    assert found.first.tolist() == [0, 8]
    assert list(zip(found.row.tolist(), found.col.tolist(), strict=True)) == [
        (0, 0), (0, 64), (0, 128), (0, 150), (10, 150), (10, 86), (10, 22), (10, 0),
    ]  # fmt: skip


def test_without_a_system_polygons_are_in_columns_and_rows(tmp_path: Path) -> None:
    """And have no areas but pixels."""
    write_polygons(write_class_map(tmp_path / "a.tif", RING, None, None), LEGEND, tmp_path / "a.gpkg")
    meta, features = read_back(tmp_path / "a.gpkg")
    assert list(meta["fields"]) == ["class", "name", "pixels"]
    (water,) = [feature for feature in features if feature["name"] == "Water"]
    assert {tuple(point) for point in water["rings"][0]} == {(2, 2), (3, 2), (3, 3), (2, 3)}


def test_areas_in_degrees_are_those_of_the_ellipsoid(tmp_path: Path) -> None:
    """PROJ's geodesic polygon is the outside reference."""
    place = (1e-5, 0.0, 10.0, 0.0, -1e-5, 60.0)
    write_polygons(write_class_map(tmp_path / "a.tif", RING, "EPSG:4326", place), LEGEND, tmp_path / "a.geojson")
    _, features = read_back(tmp_path / "a.geojson")
    for feature in features:
        areas = [Geod(ellps="WGS84").polygon_area_perimeter(*ring.T)[0] for ring in feature["rings"]]
        assert feature["area_m2"] == pytest.approx(sum(areas), rel=1e-4)


def test_small_polygons_join_their_largest_neighbour(tmp_path: Path) -> None:
    """2 m² are 8 pixels: no smaller polygon is left, none is lost, and no data stays as it is."""
    labels = blobs(120, 100)
    source = write_class_map(tmp_path / "a.tif", labels)
    count = write_polygons(source, LEGEND, tmp_path / "a.gpkg", smallest=2.0)
    _, features = read_back(tmp_path / "a.gpkg")
    sizes = np.array([feature["pixels"] for feature in features])
    assert sizes.min() >= 8
    assert len(features) == count.written < write_polygons(source, LEGEND, tmp_path / "b.gpkg").written
    assert sizes.sum() == np.count_nonzero(labels != 255)
    assert count.left_out == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gpkg", "a.tif", "b.gpkg"]


def test_small_polygons_that_have_no_large_neighbour_are_left_out(tmp_path: Path) -> None:
    """An islet in no data, and two small ones that have only each other."""
    labels = np.full((12, 12), 255, np.uint8)
    labels[:5, :5], labels[8, 8], labels[10, :2], labels[10, 2:4] = 2, 0, 0, 3
    count = write_polygons(
        write_class_map(tmp_path / "a.tif", labels, None, None), LEGEND, tmp_path / "a.gpkg", smallest=10
    )
    assert count == PolygonCount(1, 3)


def test_a_smallest_area_beyond_the_map_leaves_nothing(tmp_path: Path) -> None:
    """A file without polygons, that can be opened."""
    source = write_class_map(tmp_path / "a.tif", RING)
    assert write_polygons(source, LEGEND, tmp_path / "a.gpkg", smallest=1e9) == PolygonCount(0, 3)
    assert read_back(tmp_path / "a.gpkg")[1] == []
    assert write_polygons(source, LEGEND, tmp_path / "a.geojson", smallest=1e9) == PolygonCount(0, 3)
    assert json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))["features"] == []


def test_a_map_without_data_has_no_polygons(tmp_path: Path) -> None:
    """Two strips of nothing."""
    source = write_class_map(tmp_path / "a.tif", np.full((600, 20), 255, np.uint8))
    assert write_polygons(source, LEGEND, tmp_path / "a.gpkg") == PolygonCount(0, 0)


def test_strips_do_not_cut_polygons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same polygons whether a strip is seven rows or all of them."""
    source = write_class_map(tmp_path / "a.tif", blobs(130, 90))
    write_polygons(source, LEGEND, tmp_path / "a.gpkg")
    monkeypatch.setattr("levelground.prediction.polygons.STRIP_PX", 7 * 90)
    write_polygons(source, LEGEND, tmp_path / "b.gpkg")
    one, other = (
        sorted(
            (f["class"], f["pixels"], len(f["rings"]), f["rings"][0].max(axis=0).tolist()) for f in read_back(path)[1]
        )
        for path in (tmp_path / "a.gpkg", tmp_path / "b.gpkg")
    )
    assert one == other


def test_a_class_beyond_the_legend_leaves_no_file(tmp_path: Path) -> None:
    """The message names it; nothing half-written stays."""
    source = write_class_map(tmp_path / "a.tif", np.uint8([[0, 9]]))
    text = f"{source}: holds class 9, which is none of 'land', expected 0 to 3. Give the legend that it was made with."
    for ending in ("gpkg", "geojson"):
        with pytest.raises(ClassIndexError, match=f"^{re.escape(text)}$"):
            write_polygons(source, LEGEND, tmp_path / f"a.{ending}")
    assert list(tmp_path.iterdir()) == [source]


def test_other_formats_are_refused(tmp_path: Path) -> None:
    """Before anything is read."""
    out = tmp_path / "a.shp"
    text = f"{out}: polygons are written to .gpkg or .geojson. Give a name that ends so."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        write_polygons(tmp_path / "missing.tif", LEGEND, out)


def test_a_damaged_map_is_one_line(tmp_path: Path) -> None:
    """The reader's own."""
    (tmp_path / "a.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(
        SceneError, match=r"a\.tif: is damaged or is not a raster that can be read\. Replace the file\.$"
    ):
        write_polygons(tmp_path / "a.tif", LEGEND, tmp_path / "a.gpkg")


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the GeoPackage says becomes ours, and no part of the file stays."""

    def full(*_: object, **__: object) -> None:
        raise pyogrio.errors.FeatureError("disk I/O error\nmore")

    monkeypatch.setattr("pyogrio.raw.write", full)
    source = write_class_map(tmp_path / "a.tif", RING)
    text = f"{tmp_path}/a.gpkg: cannot be written (disk I/O error). Free space or choose another --out."
    with pytest.raises(DiskError, match=f"^{re.escape(text)}$"):
        write_polygons(source, LEGEND, tmp_path / "a.gpkg")
    assert list(tmp_path.iterdir()) == [source]


UTM_1 = (100.0, 0.0, 166021.44 - 2050, 0.0, -100.0, 4000.0)
"""Pixels of 100 m in the first UTM zone, its western border in the 21st column."""


@pytest.mark.parametrize(
    ("crs", "place"),
    [
        ("EPSG:32601", UTM_1),
        ("EPSG:4326", (0.001, 0.0, 179.98, 0.0, -0.001, 10.0)),
        ("EPSG:4326", (0.001, 0.0, 179.9795, 0.0, -0.001, 10.0)),
    ],
)
@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_polygons_are_cut_at_the_antimeridian(
    tmp_path: Path, crs: str, place: tuple[float, ...], seed: int | None
) -> None:
    """No part is wider than the map, outer rings run counter-clockwise, and areas stay; a hole over the cut is one."""
    labels = np.full((30, 40), 2, np.uint8)
    labels[10:20, 15:27] = 0
    labels[3:6, 2:5] = 3
    labels = labels if seed is None else blobs(30, 40, seed=seed)
    source = write_class_map(tmp_path / "a.tif", labels, crs, place)
    write_polygons(source, LEGEND, tmp_path / "a.geojson")
    features = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))["features"]
    geod, multi = Geod(ellps="WGS84"), 0
    for feature in features:
        geometry = feature["geometry"]
        parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        multi += len(parts) > 1
        total = 0.0
        for part in parts:
            for n, ring in enumerate(part):
                points = np.array(ring)
                assert np.ptp(points[:, 0]) < 1
                assert np.abs(points[:, 0]).max() <= 180
                area = signed_area(points)
                assert area > 0 if n == 0 else area < 0
                assert ring[0] == ring[-1]
                total += geod.polygon_area_perimeter(points[:, 0], points[:, 1])[0]
        assert total == pytest.approx(feature["properties"]["area_m2"], rel=3e-3)  # a plane at the border of its zone
    assert multi >= 1


def test_longitudes_to_360_are_brought_home(tmp_path: Path) -> None:
    """A map at 200 degrees east lies at 160 degrees west; nothing is cut."""
    source = write_class_map(tmp_path / "a.tif", RING, "EPSG:4326", (0.001, 0.0, 200.0, 0.0, -0.001, 10.0))
    write_polygons(source, LEGEND, tmp_path / "a.geojson")
    features = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))["features"]
    assert {feature["geometry"]["type"] for feature in features} == {"Polygon"}
    west = min(point[0] for feature in features for ring in feature["geometry"]["coordinates"] for point in ring)
    assert west == pytest.approx(-160)
