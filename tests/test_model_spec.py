"""What a model says of itself beside its weights: written, read, and refused where it contradicts itself."""

import dataclasses
import json
from typing import Any

import pytest

from levelground.errors import WeightsError
from levelground.imagery.legend import DEEPGLOBE
from levelground.models.spec import ModelSpec, parse_spec
from levelground.tile_geometry import TileGeometry

SPEC = ModelSpec(
    name="unet-s0",
    arch="unet",
    encoder="resnet18",
    legend=DEEPGLOBE,
    outputs=(0, 1, 2, 3, 4, 5),
    mean=(100.0, 110.5, 60.25),
    std=(60.0, 61.0, 62.0),
    dtype="uint16",
    gsd_m=0.5,
    geometry=TileGeometry(512, 56),
)


@pytest.mark.parametrize("changes", [{}, {"dtype": None, "gsd_m": None}, {"geometry": TileGeometry(0, 0)}])
def test_a_specification_comes_back(changes: dict[str, Any]) -> None:
    """What is written is read."""
    spec = dataclasses.replace(SPEC, **changes)
    assert parse_spec(spec.to_json(), source="m") == spec


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": 2}, r"model of schema 2, this version reads model of schema 1"),
        ({"kind": "run"}, r"run of schema 1, this version"),
        ({"mean": [1.0, 2.0]}, r"2 means and 3 deviations"),
        ({"mean": [1.0, 2.0, float("inf")]}, r"a mean or deviation is not a number"),
        ({"std": [1.0, 2.0, 0.0]}, r"std\.2: Input should be greater than 0"),
        ({"outputs": [0, 0]}, r"no outputs, or one class twice"),
        ({"outputs": []}, r"no outputs, or one class twice"),
        ({"outputs": [9]}, r"an output of class 9, the legend has 7 classes"),
        ({"tile": 64, "halo": 32}, r"halo 32 of tile 64"),
        ({"legend": {}}, r"legend: the legend has no \[\[class\]\] entries"),
        ({"dtype": "int4"}, r"dtype: String should match pattern"),
        ({"name": None}, r"name: Input should be a valid string"),
        ({"tile": 20000}, r"tile: Input should be less than or equal to 16384"),
        ({"halo": None}, r"halo: Input should be a valid integer"),
        ({"gsd_m": 0}, r"gsd_m: Input should be greater than 0"),
    ],
)
def test_a_specification_that_contradicts_itself_is_one_line(changes: dict[str, Any], reason: str) -> None:
    """The message names the file and what is wrong in it."""
    text = json.dumps(json.loads(SPEC.to_json()) | changes)
    with pytest.raises(
        WeightsError, match=rf"m\.onnx: its model metadata is damaged \({reason}.*\)\. Export it anew\."
    ):
        parse_spec(text, source="m.onnx")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 5000])
def test_no_specification_at_all(text: str) -> None:
    """Text that is no JSON object."""
    with pytest.raises(WeightsError, match=r"m: its model metadata is damaged \(.+\)\. Export it anew\."):
        parse_spec(text, source="m")


def test_a_missing_key_is_named() -> None:
    """Every key of the form is needed."""
    for key in ("name", "legend", "outputs", "mean", "dtype", "tile", "halo"):
        content = {name: value for name, value in json.loads(SPEC.to_json()).items() if name != key}
        with pytest.raises(WeightsError, match=rf"damaged \({key}: Field required\)"):
            parse_spec(json.dumps(content), source="m")


def test_the_form_on_disk_is_that_of_0_1_0() -> None:
    """Keys and their order; what a file fixes (tile, batch) is told by the file itself."""
    keys = [
        "schema",
        "kind",
        "name",
        "arch",
        "encoder",
        "legend",
        "outputs",
        "mean",
        "std",
        "dtype",
        "gsd_m",
        "tile",
        "halo",
    ]
    assert list(json.loads(SPEC.to_json())) == keys
