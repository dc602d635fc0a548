"""What a model says of itself beside its weights."""

import dataclasses
import json
from typing import Any

import pytest

from levelground.errors import WeightsError
from levelground.imagery.legend import DEEPGLOBE
from levelground.models.metadata import Passport, parse_passport

PASSPORT = Passport(
    name="unet-s0",
    arch="unet",
    encoder="resnet18",
    legend=DEEPGLOBE,
    outputs=(0, 1, 2, 3, 4, 5),
    mean=(100.0, 110.5, 60.25),
    std=(60.0, 61.0, 62.0),
    dtype="uint16",
    gsd_m=0.5,
    tile=512,
    halo=56,
)


@pytest.mark.parametrize("changes", [{}, {"dtype": None, "gsd_m": None}, {"tile": 0, "halo": 0}])
def test_a_passport_comes_back(changes: dict[str, Any]) -> None:
    """What is written is read."""
    passport = dataclasses.replace(PASSPORT, **changes)
    assert parse_passport(json.dumps(passport.to_json()), source="m") == passport


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": 2}, r"model of schema 2, this version reads model of schema 1"),
        ({"kind": "run"}, r"run of schema 1, this version"),
        ({"mean": [1.0, 2.0]}, r"2 means and 3 deviations"),
        ({"mean": [1.0, 2.0, float("inf")]}, r"a mean or deviation is no number"),
        ({"std": [1.0, 2.0, 0.0]}, r"std\.2: Input should be greater than 0"),
        ({"outputs": [0, 0]}, r"no outputs, or one class twice"),
        ({"outputs": []}, r"no outputs, or one class twice"),
        ({"outputs": [9]}, r"an output of class 9, the legend has 7 classes"),
        ({"tile": 64, "halo": 32}, r"halo 32 of tile 64"),
        ({"legend": {}}, r"the legend has no \[\[class\]\] entries"),
        ({"dtype": "int4"}, r"dtype: String should match pattern"),
        ({"name": None}, r"name: Input should be a valid string"),
    ],
)
def test_a_passport_that_contradicts_itself_is_one_line(changes: dict[str, Any], reason: str) -> None:
    """The message names the file and what is wrong in it."""
    text = json.dumps(PASSPORT.to_json() | changes)
    with pytest.raises(WeightsError, match=rf"m\.onnx: its passport is damaged \({reason}.*\)\. Export it anew\."):
        parse_passport(text, source="m.onnx")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 5000])
def test_no_passport_at_all(text: str) -> None:
    """Text that is no JSON object."""
    with pytest.raises(WeightsError, match=r"m: its passport is damaged \(.+\)\. Export it anew\."):
        parse_passport(text, source="m")
