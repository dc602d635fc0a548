"""The record of a prepared data set: round trip, hashes, and what is refused."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levelground.datasets.dataset import (
    Dataset,
    SceneRecord,
    dataset_schema,
    read_dataset,
    stays_inside,
    write_dataset,
)
from levelground.datasets.splits import Split
from levelground.errors import RecordError
from levelground.imagery.cache import Cache
from levelground.imagery.layouts import Finding
from levelground.imagery.legend import DEEPGLOBE

HASHES = [digit * 64 for digit in "abcdef0123456789"]


def scene(number: int, name: str | None = None) -> SceneRecord:
    """A scene that differs from the others in every hash."""
    name = name or f"s{number}"
    keys = HASHES[number : number + 4]
    image, labels = f"{name}_sat.jpg", f"{name}_mask.png"
    return SceneRecord(name, image, labels, 8, 9, f"g{number}", *keys, (10, 20, 30, 1, 2, 3, 0), 6)


def dataset(folder: Path) -> Dataset:
    """Four scenes, one of them left out."""
    return Dataset(
        folder=folder,
        data=folder / "данные",
        cache=folder / "cache",
        layout="kaggle",
        legend=DEEPGLOBE,
        bands=3,
        dtype="uint8",
        gsd_m=None,
        scenes=(scene(0), scene(1), scene(2), replace(scene(3, "a b/с"), window=(0, 8, 8, 9))),
        split=Split(("s0",), ("s1",), ("s2",), "random", ("a b/с",), 7, "drawn"),
        groups_from="pixels",
        mean=(0.1, 2.0, 1 / 3),
        std=(1.0, 2.5, 3.0),
        findings=(Finding("note", "touches", "x touches y", "s0"), Finding("warning", "duplicate", "z")),
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """All fields come back, floats to the last bit; the file may be named instead of its folder."""
    path = write_dataset(dataset(tmp_path), tmp_path)
    assert path == tmp_path / "dataset.json"
    assert read_dataset(tmp_path) == dataset(tmp_path)
    assert read_dataset(path) == dataset(tmp_path)


def test_the_file_has_the_keys_that_other_tools_rely_on(tmp_path: Path) -> None:
    """Schema, kind, the split as three lists of ids, its rule, legend and hashes."""
    record = json.loads(write_dataset(dataset(tmp_path), tmp_path).read_text())
    assert (record["schema"], record["kind"]) == (1, "dataset")
    assert record["split"] == {"train": ["s0"], "val": ["s1"], "test": ["s2"]}
    assert record["split_rule"] == {"kind": "random", "seed": 7, "left_out": ["a b/с"], "text": "drawn"}
    assert record["legend_sha256"] == DEEPGLOBE.digest()
    assert record["scenes"][0]["class_pixels"] == [10, 20, 30, 1, 2, 3, 0]
    assert record["findings"][0] == {"severity": "note", "code": "touches", "text": "x touches y", "scene": "s0"}


def test_the_schema_describes_the_file(tmp_path: Path) -> None:
    """Every key of the file and of its parts is described, in the order of the file, and no other."""
    record = json.loads(write_dataset(dataset(tmp_path), tmp_path).read_text())
    schema = dataset_schema()
    jsonschema.validate(record, schema)
    assert list(schema["properties"]) == list(record)
    parts = {
        "SceneRecord": record["scenes"][0] | {"place": [0.0, 0.0], "file_sha256": "0" * 64},  # left out where empty
        "Finding": record["findings"][0],
        "SplitDescription": record["split_rule"] | {"folds": []},  # left out where there are none
    }
    for name, part in parts.items():
        assert list(schema["$defs"][name]["properties"]) == list(part)
        assert all(one["description"] for one in schema["$defs"][name]["properties"].values())
    with pytest.raises(jsonschema.ValidationError, match="is not of type 'integer'"):
        jsonschema.validate(record | {"bands": "3"}, schema)
    with pytest.raises(jsonschema.ValidationError, match="'8429F' does not match"):
        jsonschema.validate(record | {"legend": {"class": [{"index": 0, "name": "a", "colour": "8429F"}]}}, schema)


def test_hashes_change_with_what_they_stand_for(tmp_path: Path) -> None:
    """Training hash: training and validation scenes. Test hash: test scenes. Order and paths play no part."""
    one = dataset(tmp_path)
    moved = replace(one, data=Path("/elsewhere"), cache=Path("/c"), scenes=one.scenes[::-1])
    assert (moved.train_sha256, moved.test_sha256) == (one.train_sha256, one.test_sha256)
    relabelled = (replace(one.scenes[0], labels_sha256=HASHES[9]), *one.scenes[1:])
    assert replace(one, scenes=relabelled).train_sha256 != one.train_sha256
    assert replace(one, scenes=relabelled).test_sha256 == one.test_sha256
    fewer = replace(DEEPGLOBE, classes=(*DEEPGLOBE.classes[:6], replace(DEEPGLOBE.classes[6], counted=True)))
    assert replace(one, legend=fewer).test_sha256 != one.test_sha256
    assert one.digest(("train",)) != one.digest(("val",))
    assert one.split_sha256 == one.split.digest()


def test_scenes_are_found_by_id_and_opened_from_the_cache(tmp_path: Path) -> None:
    """``open`` gives the arrays under the scene's keys; an unknown id is named."""
    one = dataset(tmp_path)
    cache = Cache(one.cache)
    record = one.scene("s1")
    pixels, labels = np.ones((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8)
    for key, array in ((record.image_key, pixels), (record.labels_key, labels)):
        cache.path(key).parent.mkdir(parents=True, exist_ok=True)
        np.save(cache.path(key), array)
    opened = one.open("s1")
    np.testing.assert_array_equal(opened.pixels, pixels)
    np.testing.assert_array_equal(opened.labels, labels)
    with pytest.raises(RecordError, match=r"dataset\.json: no scene 's9', expected one of 4\. Check the id or run"):
        one.scene("s9")


def change(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    """A change to one value of the record."""

    def apply(record: dict[str, Any]) -> None:
        place: Any = record
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return apply


DAMAGE = {
    "an image above its folder": (
        change("scenes", 0, "image", to="../../etc/passwd"),
        "scene 's0': image '../../etc/passwd' leaves its folder, expected a path inside. Run prepare again.",
    ),
    "an absolute mask": (change("scenes", 1, "labels", to="/etc/passwd"), "scene 's1': labels '/etc/passwd' leaves"),
    "an id with dots": (change("scenes", 2, "id", to="../s2"), "scene '../s2': id '../s2' leaves its folder"),
    "an id with a line break": (change("scenes", 2, "id", to="a\nb"), "scene 'a\\nb': id 'a\\nb' leaves its folder"),
    "a key that is a path": (
        change("scenes", 0, "image_key", to="../../x"),
        "scenes.0.image_key: String should match pattern '^[0-9a-f]{64}$'. Run prepare again.",
    ),
    "a relative cache": (
        change("cache", to="cache"),
        "cache is 'cache', expected an absolute path. Run prepare again.",
    ),
    "data with dots": (
        change("data", to="/a/../b"),
        "data is '/a/../b', expected an absolute path. Run prepare",
    ),
    "a doubled scene": (change("scenes", 1, "id", to="s0"), "scene 's0' is listed twice. Run prepare again."),
    "an edited split": (
        change("split", "train", to=["s0", "a b/с"]),
        "the split was changed after it was written. Run prepare again.",
    ),
    "a scene in two sets": (
        change("split", "train", to=["s0", "s1"]),
        "split 'random': scene 's1' is in train and in val, expected in one set. Remove it from one.",
    ),
    "an empty set": (
        change("split", "val", to=[]),
        "split 'random': no scene in val, expected at least one. Add",
    ),
    "a stranger left out": (
        change("split_rule", "left_out", to=["x"]),
        "the split names scene 'x', which is not one of its scenes. Run prepare again.",
    ),
    "an edited legend": (
        change("legend", "class", 0, "name", to="Town"),
        "the legend was changed after it was written. Run prepare again.",
    ),
    "a wrong legend": (
        change("legend", "class", to=[]),
        "legend: the legend has no [[class]] entries. Give one for each class, with index, name, colour. Run prepare",
    ),
    "a missing size": (
        change("scenes", 0, "height", to=None),
        "scenes.0.height: Input should be a valid integer. Run prepare again.",
    ),
    "a size of zero": (
        change("scenes", 0, "height", to=0),
        "scenes.0.height: Input should be greater than or equal to 1. Run prepare again.",
    ),
    "counts of another legend": (
        change("scenes", 0, "class_pixels", to=[1, 2]),
        "scene 's0' counts 2 classes, the legend has 7. Run prepare again.",
    ),
    "a mean of fewer bands": (change("mean", to=[1.0]), "mean and std are not 3 finite numbers. Run prepare again."),
    "a deviation of zero": (change("std", 0, to=0), "std.0: Input should be greater than 0. Run prepare again."),
    "another layout": (
        change("layout", to="zip"),
        "layout: Input should be 'kaggle', 'folders', 'index', 'geotiff'",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_record_is_refused(tmp_path: Path, case: str) -> None:
    """Every contradiction and every path that leaves its folder has its one line."""
    alter, text = DAMAGE[case]
    path = write_dataset(dataset(tmp_path), tmp_path)
    record = json.loads(path.read_text())
    alter(record)
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match=f"^{re.escape(str(path))}: {re.escape(text)}"):
        read_dataset(tmp_path)


def test_a_record_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """Its number is named."""
    path = write_dataset(dataset(tmp_path), tmp_path)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(RecordError, match=r"dataset record of schema 9, this version reads 1\. Use the levelground"):
        read_dataset(tmp_path)


@given(parts=st.lists(st.sampled_from(["a", "..", ".", "", "b.jpg", "\\", " ", "с"]), max_size=5))
def test_a_path_that_is_let_in_never_leaves_its_folder(parts: list[str]) -> None:
    """Joined to a folder, it resolves below the folder."""
    path = "/".join(parts)
    root = Path("/folder")
    if stays_inside(path):
        joined = Path(root / path)
        assert ".." not in joined.parts
        assert joined.is_relative_to(root)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_change_of_the_record_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever stands in place of a value: a record or our own error, never another one."""
    folder = tmp_path_factory.mktemp("fuzz")
    path = write_dataset(dataset(folder), folder)
    record = json.loads(path.read_text())
    place, key = record, data.draw(st.sampled_from(sorted(record)))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(JSON)
    path.write_text(json.dumps(record))
    try:
        read_dataset(folder)
    except RecordError as error:
        assert "\n" not in str(error)
