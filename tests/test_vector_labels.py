"""Polygons as labels, and exclusion layers: drawn on the image's grid, counted against the generator's truth."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from builders.field_sets import N_SCENES, UTM, classes_of, image_of, pixels, place, prepare, write, write_pairs
from numpy.typing import NDArray
from rasterio.features import shapes
from rasterio.warp import transform_geom

from levelground.config import PrepareOptions
from levelground.errors import ConfigError, LegendError, SceneError
from levelground.imagery.vector_labels import vector_classes

NAMES = ("field", "built", "forest", "water")  # by class; in alphabetical order 1, 0, 2, 3
ALPHABETICAL = [1, 0, 2, 3]
Feature = dict[str, object]


def polygons_of(number: int, crs: str = "EPSG:4326", skip: int | None = None) -> Iterator[Feature]:
    """The outlines of a scene's classes, as features of GeoJSON in a coordinate system."""
    for shape, value in shapes(classes_of(number), transform=Affine(*place(number))):
        if int(value) != skip:
            properties = {"Class": NAMES[int(value)], "code": 10 * (int(value) + 1)}
            yield {"type": "Feature", "properties": properties, "geometry": transform_geom(UTM, crs, shape)}


def save(path: Path, features: list[Feature], crs: str | None = None) -> Path:
    """Write features as GeoJSON, and from that as GeoPackage or shapefile where the name ends so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}
    text = json.dumps({"type": "FeatureCollection", "features": features} | named)
    if path.suffix == ".geojson":
        path.write_text(text)
        return path
    from pyogrio.raw import read, write

    (path.parent / "passing.geojson").write_text(text)
    meta, _, geometry, columns = read(path.parent / "passing.geojson")
    write(path, geometry, columns, meta["fields"], crs=meta["crs"], geometry_type="Polygon")
    (path.parent / "passing.geojson").unlink()
    return path


def images(data: Path, name: str = "images/s{}.tif") -> NDArray[np.int64]:
    """Write the images alone; give the pixels of each class and, last, 0."""
    truth = np.zeros(5, np.int64)
    for number in range(N_SCENES):
        labels = classes_of(number)
        write(data / name.format(number), image_of(labels, number), number)
        truth[:4] += np.bincount(labels.ravel(), minlength=4)
    return truth


@pytest.mark.parametrize(
    ("image", "label", "crs"),
    [
        ("images/s{}.tif", "labels/s{}.geojson", "EPSG:4326"),
        ("images/s{}.tif", "labels/s{}_label.gpkg", "EPSG:32633"),
        ("s{}.tif", "s{}.shp", "EPSG:32633"),
        ("s{}.tif", "s{}_mask.gpkg", "EPSG:3035"),
        ("s{}.tif", "all.gpkg", "EPSG:4326"),
    ],
)
def test_polygons_beside_images_are_labels(tmp_path: Path, image: str, label: str, crs: str) -> None:
    """In each form and coordinate system, a file for each image or one for all, to the pixel."""
    data = tmp_path / "data"
    truth = images(data, image)
    files: dict[Path, list[Feature]] = {}
    for number in range(N_SCENES):
        files.setdefault(data / label.format(number), []).extend(polygons_of(number, crs))
    for path, features in files.items():
        save(path, features, crs)
    dataset = prepare(data)
    assert dataset.legend.names == tuple(sorted(NAMES))
    assert pixels(dataset) == truth[[*ALPHABETICAL, 4]].tolist()
    assert {Path(scene.labels).name for scene in dataset.scenes} == {path.name for path in files}
    assert prepare(data) == dataset


def test_another_field_is_named(tmp_path: Path) -> None:
    """Numbers are what they are, whatever the case of the field's letters."""
    truth = images(tmp_path / "data")
    for number in range(N_SCENES):
        save(tmp_path / f"data/labels/s{number}.geojson", [*polygons_of(number)])
    dataset = prepare(tmp_path / "data", label_field="CODE")
    assert dataset.legend.names == ("value 10", "value 20", "value 30", "value 40")
    assert pixels(dataset) == truth.tolist()


def test_all_touched_draws_pixels_whose_centre_is_outside(tmp_path: Path) -> None:
    """A strip of 1.8 pixels holds the centres of one column, and touches three."""
    images(tmp_path / "data")
    for number in range(N_SCENES):
        _, _, x, _, _, y = place(number)
        features: list[Feature] = []
        for name, left, right in (("a", 106, 124), ("b", 200, 300)):
            ring = [[x + left, y], [x + right, y], [x + right, y - 480], [x + left, y - 480], [x + left, y]]
            geometry = {"type": "Polygon", "coordinates": [ring]}
            features.append({"type": "Feature", "properties": {"class": name}, "geometry": geometry})
        save(tmp_path / f"data/labels/s{number}.geojson", features, UTM)
    for touched, columns in ((False, 1), (True, 3)):
        assert pixels(prepare(tmp_path / "data", all_touched=touched))[0] == N_SCENES * 48 * columns


@pytest.mark.parametrize(("outside", "n"), [(None, 3), ("field", 4), ("Water", 3)])
def test_outside_of_polygons_is_no_data_or_a_class(tmp_path: Path, outside: str | None, n: int) -> None:
    """A class of its own, or one that there is."""
    truth = images(tmp_path / "data")
    for number in range(N_SCENES):
        save(tmp_path / f"data/labels/s{number}.geojson", [*polygons_of(number, skip=0)])
    (tmp_path / "data/legend.toml").write_text(
        'class = [{index = 0, name = "built", value = 7}, {index = 1, name = "Forest", value = 8}, '
        '{index = 2, name = "water", value = 9}, {index = 3, name = "field", value = 3}]'
    )
    counted = pixels(prepare(tmp_path / "data", label_outside=outside))
    expected = [truth[1], truth[2], truth[3], 0, 0]
    expected[{None: 4, "field": 3, "Water": 2}[outside]] += truth[0]
    assert counted == expected
    assert sum(count > 0 for count in counted[:4]) == n


def test_polygons_without_a_legend_name_the_class_outside(tmp_path: Path) -> None:
    """A new name is a class more."""
    truth = images(tmp_path / "data")
    for number in range(N_SCENES):
        save(tmp_path / f"data/labels/s{number}.geojson", [*polygons_of(number, skip=0)])
    dataset = prepare(tmp_path / "data", label_outside="rest")
    assert dataset.legend.names == ("built", "forest", "rest", "water")
    assert pixels(dataset) == [truth[1], truth[2], truth[0], truth[3], 0]


def test_odd_polygons_are_handled_and_named(tmp_path: Path) -> None:
    """A bow tie is filled by the even-odd rule, empty and classless ones are left out, overlaps are warned of."""
    write_pairs(tmp_path / "data")
    for path in (tmp_path / "data/labels").iterdir():
        path.unlink()
    for number in range(N_SCENES):
        _, _, x, _, _, y = place(number)
        left, right = ([[x + a, y - b] for a, b in ring] for ring in (
            ((0, 0), (240, 240), (240, 0), (0, 240), (0, 0)), ((240, 0), (480, 0), (480, 480), (240, 480), (240, 0))
        ))  # fmt: skip
        over = [[x + 240, y], [x + 250, y], [x + 250, y - 480], [x + 240, y - 480], [x + 240, y]]
        rings: list[tuple[object, list[list[float]]]] = [("tie", left), ("big", right), ("tie", over), (None, over)]
        features: list[Feature] = [
            {"type": "Feature", "properties": {"class": name}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
            for name, ring in rings
        ]
        features.append({"type": "Feature", "properties": {"class": "big"}, "geometry": None})
        save(tmp_path / f"data/labels/s{number}.geojson", features, UTM)
    dataset = prepare(tmp_path / "data")
    assert dataset.legend.names == ("big", "tie")
    big, tie, _ = pixels(dataset)
    assert big == N_SCENES * 23 * 48
    assert tie == pytest.approx(N_SCENES * (48 + 24 * 12), rel=0.1)
    texts = [one.text for one in dataset.findings if one.code == "polygons"]
    assert len(texts) == N_SCENES
    assert all("1 polygons of" in text and "have no class" in text for text in texts)
    assert all("48 pixels of" in text and "several classes" in text for text in texts)


@pytest.mark.parametrize(
    ("change", "options", "error", "says"),
    [
        ("move", {}, SceneError, "no polygon with a class lies on s0.tif. Mend the coordinate system"),
        (
            "",
            {"label_field": "kind"},
            ConfigError,
            "has no field 'kind', it has Class, code. Name one with --label-field",
        ),
        ("", {"label_outside": "sea"}, LegendError, None),
        ("", {"label_field": "code", "label_outside": "²"}, ConfigError, "²: is not a class of the legend"),
        ("", {"label_field": "code", "label_outside": "--5"}, ConfigError, "--5: is not a class of the legend"),
        ("legend", {}, LegendError, r"\.\w+: field 'Class' holds 'forest', 'water', which the legend 'two' lacks"),
        ("break", {}, SceneError, "is damaged or is not a vector file"),
        ("fields", {}, ConfigError, "has no field like a class, it has colour. Name one with --label-field"),
        ("place", {}, SceneError, "s0.tif: has no place on the ground, so s0.geojson cannot be drawn"),
    ],
)
def test_polygons_that_cannot_be_labels_are_named(
    tmp_path: Path, change: str, options: dict[str, str], error: type[Exception], says: str | None
) -> None:
    """In one line with a remedy."""
    data = tmp_path / "data"
    images(data)
    for number in range(N_SCENES):
        features = [*polygons_of(number + 40 if change == "move" else number)]
        if change == "fields":
            features = [one | {"properties": {"colour": "red"}} for one in features]
        save(data / f"labels/s{number}.geojson", features)
    if change == "legend":
        toml = 'name = "two"\nclass = [{index = 0, name = "built", value = 1}, {index = 1, name = "field", value = 2}]'
        (data / "legend.toml").write_text(toml)
    if change == "break":
        (data / "labels/s0.geojson").write_text("{")
    if change == "place":
        with rasterio.open(data / "images/s0.tif") as raster:
            array = raster.read()
        (data / "images/s0.tif").unlink()
        with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
            raster = rasterio.open(
                data / "images/s0.tif", "w", driver="GTiff", height=48, width=48, count=3, dtype="uint8"
            )
        with raster:
            raster.write(array)
    if says is None:
        assert "sea" in prepare(data, **options).legend.names
        return
    with pytest.raises(error, match=says):
        prepare(data, **options)


def test_flags_for_polygons_need_some(tmp_path: Path) -> None:
    """With raster labels they mean nothing."""
    write_pairs(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"--label-field x: no label is a vector file\. Leave the flag away\."):
        prepare(tmp_path / "data", label_field="x")


def test_rasters_win_over_vectors(tmp_path: Path) -> None:
    """Where both lie there, as where a tool keeps both."""
    truth = write_pairs(tmp_path / "data")
    save(tmp_path / "data/labels/s0.geojson", [*polygons_of(0)])
    assert pixels(prepare(tmp_path / "data")) == truth.tolist()


def clouds(number: int) -> NDArray[np.bool_]:
    """A cloud of another place in each scene."""
    cloud = np.zeros((48, 48), np.bool_)
    cloud[5 + number : 25, 10:30] = True
    return cloud


@pytest.mark.parametrize("form", ["values", "mask", "coarse", "polygons", "one file", "within"])
def test_excluded_pixels_are_without_data(tmp_path: Path, form: str) -> None:
    """A scene classification by values, a mask, one on a coarser grid, polygons, an area of interest."""
    data = tmp_path / "data"
    write_pairs(data)
    expected, everything = np.zeros(5, np.int64), []
    for number in range(N_SCENES):
        cloud = clouds(number)
        if form == "coarse":
            cloud = np.repeat(np.repeat(cloud[::2, ::2], 2, 0), 2, 1)
        outlines = shapes(cloud.astype(np.uint8), transform=Affine(*place(number)))
        features: list[Feature] = [
            {"type": "Feature", "properties": {}, "geometry": shape} for shape, value in outlines if value
        ]
        everything += features
        if form == "coarse":
            write(data / f"clouds/s{number}.tif", cloud[::2, ::2].astype(np.uint8), number, pixel=20)
        elif form in ("values", "mask"):
            stored = np.where(cloud, 9 if number % 2 else 3, 4 if form == "values" else 0).astype(np.uint8)
            write(data / f"clouds/s{number}.tif", stored, number)
        elif form == "polygons":
            save(data / f"clouds/s{number}.geojson", features, UTM)
        out = ~cloud if form == "within" else cloud
        labels = classes_of(number)
        expected += [*np.bincount(labels[~out], minlength=4), out.sum()]
    if form in ("one file", "within"):
        save(data / "clouds.geojson", everything, UTM)
    text = {"values": "clouds/*.tif=3,9", "polygons": "clouds/{id}.geojson"}.get(form, "clouds/*.tif")
    options = {"exclude": (text,)} if form not in ("one file", "within") else {"exclude": ("clouds.geojson",)}
    dataset = prepare(data, **({"within": ("clouds.geojson",)} if form == "within" else options))
    assert pixels(dataset) == expected.tolist()
    assert pixels(prepare(data))[-1] == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scl/*.tif", r"--exclude 'scl/\*\.tif': fits no file\. Found: clouds/\*\.tif \(1\)"),
        ("clouds/*.tif=a", "expected PATTERN=VALUES"),
        ("clouds/*.tif=3,²", "expected PATTERN=VALUES"),
        ("clouds/*.tif=--5", "expected PATTERN=VALUES"),
        ("clouds/*.tif", r"--exclude 'clouds/\*\.tif': has no file for scene s1 \(found s0 …\)\. Add it\."),
    ],
)
def test_wrong_exclusions_are_refused(tmp_path: Path, text: str, says: str) -> None:
    """One line that names flag and pattern."""
    write_pairs(tmp_path / "data")
    write(tmp_path / "data/clouds/s0.tif", clouds(0).astype(np.uint8), 0)
    with pytest.raises((ConfigError, SceneError), match=says):
        prepare(tmp_path / "data", exclude=(text,))


@pytest.fixture
def address() -> Iterator[tuple[str, list[bytes]]]:
    """An address on this machine, and who called it."""
    calls: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client = server.accept()[0]
                    calls.append(client.recv(200))
                    client.sendall(b"HTTP/1.0 404 Not found\r\n\r\n")
                    client.close()

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x", calls
        server.shutdown(socket.SHUT_RDWR)


LINK = '"crs": {"type": "link", "properties": {"href": "ADDRESS"}}'
ESCAPED = LINK.replace("crs", r"\u0063rs").replace("link", r"l\u0069nk")
PADDED = LINK.replace("{", "{" + " " * (3 << 20), 1)
POLYGON = '{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}'
FEATURE = f'{{"type": "Feature", "properties": {{"class": 1}}, "geometry": {POLYGON}}}'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.geojson", f'{{"type": "FeatureCollection", {LINK}, "features": [{FEATURE}]}}'),
        ("a.geojson", f'{{"type": "FeatureCollection", "features": [{FEATURE[:-1]}, {LINK}}}]}}'),
        ("a.geojson", f'{{"type": "FeatureCollection", "features": [{FEATURE[:-2]}, {LINK}}}}}]}}'),
        ("a.geojson", f'{{"type": "FeatureCollection", "features": [{FEATURE}], {LINK.replace("link", "URL")}}}'),
        ("a.geojson", f'{{"type": "FeatureCollection", {ESCAPED}, "features": [{FEATURE}]}}'),
        ("a.geojson", f'{{"type": "FeatureCollection", {PADDED}, "features": [{FEATURE}]}}'),
        ("a.geojson", "<OGRWFSDataSource><URL>ADDRESS</URL></OGRWFSDataSource>"),
        *(
            (name, f'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>{source}</SrcDataSource></OGRVRTLayer>')
            for name in ("a.geojson", "a.gpkg", "a.shp")
            for source in ("ADDRESS", "/vsicurl/ADDRESS", "/etc/passwd")
        ),
    ],
)  # fmt: skip
def test_vectors_lead_nowhere(tmp_path: Path, address: tuple[str, list[bytes]], name: str, text: str) -> None:
    """No network is asked and no other file is read, whatever a file of labels says."""
    path = tmp_path / name
    path.write_text(text.replace("ADDRESS", address[0]))
    with pytest.raises(SceneError, match=r"by an address|a description, not vectors"):
        vector_classes([path], PrepareOptions(label_field="class"), None)
    assert address[1] == []


@pytest.mark.parametrize("name", ["a.geojson", "a.gpkg", "a.shp", "a.dbf"])
def test_a_fifo_among_vectors_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """Nobody will write into it."""
    os.mkfifo(tmp_path / name)
    if name == "a.dbf":
        (tmp_path / "a.shp").write_bytes(b"\0\0\x27\x0a")
    with pytest.raises(SceneError, match="is not a regular file"):
        vector_classes(
            [(tmp_path / name).with_suffix(".shp" if name == "a.dbf" else Path(name).suffix)], PrepareOptions(), None
        )
