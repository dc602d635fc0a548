"""Pictures of class maps: colours, sizes, overlays, names."""

from pathlib import Path

import numpy as np
import pytest
from builders.prediction import ArrayReader, write_class_map
from builders.study import LEGEND
from PIL import Image

from levelground.prediction.predict import (
    add_names,
    draw_overlay,
    reduced_classes,
    reduced_image,
    write_colours,
    write_overlay,
)

LABELS = np.uint8([[0, 0, 2], [3, 255, 2]])


def test_colours_are_the_legends_and_no_data_is_transparent(tmp_path: Path) -> None:
    """Pixel by pixel, in a palette, with the names in the file's text."""
    write_colours(write_class_map(tmp_path / "a.tif", LABELS), LEGEND, tmp_path / "a.png", side=100)
    with Image.open(tmp_path / "a.png") as image:
        assert (image.mode, image.text["Legend"].splitlines()[2]) == ("P", "2 00C800 Wood")
        rgba = np.asarray(image.convert("RGBA"))
    shown = LABELS != 255
    assert np.array_equal(rgba[..., :3][shown], LEGEND.colours[LABELS[shown]])
    assert np.array_equal(rgba[..., 3], np.where(shown, 255, 0))


def test_a_reduced_map_takes_the_nearest_pixel(tmp_path: Path) -> None:
    """1300 rows over three strips to 13: the middle of each hundred; no colour is mixed."""
    labels = np.repeat(np.arange(1300) // 50 % 4, 7).reshape(1300, 7).astype(np.uint8)
    found = reduced_classes(write_class_map(tmp_path / "a.tif", labels), 13)
    assert found.shape == (13, 1)
    assert found[:, 0].tolist() == labels[50::100, 0].tolist()


def test_a_reduced_image_is_the_mean_of_what_has_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of any size give the same; pixels without data count for nothing, and alone are grey."""
    pixels = np.random.default_rng(0).integers(1, 4000, (120, 90, 4)).astype(np.uint16)
    pixels[:20, :10] = 0
    pixels[40:50, :15] = 0
    found = reduced_image(ArrayReader(pixels), (12, 9))
    assert found[0, 0].tolist() == found[1, 0].tolist() == [120, 120, 120]
    values = np.ma.masked_equal(pixels[..., :3], 0).reshape(12, 10, 9, 10, 3).mean(axis=(1, 3))
    low, high = np.percentile(values.compressed().reshape(-1, 3), (2, 98), axis=0)
    expected = (255 * (values - low) / (high - low)).clip(0, 255).astype(np.uint8)
    assert np.array_equal(found[~values.mask[..., 0]], expected.data[~values.mask[..., 0]])
    monkeypatch.setattr("levelground.prediction.predict.STRIP_ROWS", 31)
    monkeypatch.setattr("levelground.prediction.predict._WIDE", 17)
    assert np.array_equal(reduced_image(ArrayReader(pixels), (12, 9)), found)


@pytest.mark.parametrize("bands", [1, 2])
def test_fewer_than_three_bands_are_grey(bands: int) -> None:
    """The first of them."""
    pixels = np.random.default_rng(0).random((20, 20, bands)).astype(np.float32) + 1
    found = reduced_image(ArrayReader(pixels), (20, 20))
    assert (found == found[..., :1]).all()
    assert found.std() > 30


def test_an_image_of_one_value_or_of_nothing_is_drawn(recwarn: pytest.WarningsRecorder) -> None:
    """No division by nothing."""
    assert reduced_image(ArrayReader(np.full((5, 5, 3), 7, np.uint8)), (5, 5)).max() == 0
    assert reduced_image(ArrayReader(np.zeros((5, 5, 3), np.uint8)), (5, 5)).min() == 120
    assert not recwarn.list


def test_an_overlay_is_half_transparent_inside_and_whole_where_classes_meet() -> None:
    """45 % of the class's colour; no data shows the image."""
    labels = np.full((6, 8), 2, np.uint8)
    labels[:, 4:] = 3
    labels[5, 0] = 255
    found = draw_overlay(np.full((6, 8, 3), 100, np.uint8), labels, LEGEND)
    assert found[0, 0].tolist() == [55, 145, 55]  # 100 and Wood's (0, 200, 0)
    assert found[0, 3].tolist() == [0, 200, 0]
    assert found[0, 4].tolist() == [0, 0, 250]
    assert found[5, 0].tolist() == [100, 100, 100]


def test_names_of_the_classes_in_it_stand_below_a_picture() -> None:
    """A patch in each one's colour, none of the others; lines are broken; a narrow picture becomes wider."""
    picture = np.full((50, 400, 3), 99, np.uint8)
    labels = np.full((50, 400), 2, np.uint8)
    labels[0] = 3
    found = add_names(picture, labels, LEGEND)
    assert np.array_equal(found[:50], picture)
    strip = found[50:].reshape(-1, 3)
    there = [bool((strip == entry.colour).all(axis=1).sum() > 50) for entry in LEGEND.classes]
    assert there == [False, False, True, True]
    assert (strip == (255, 255, 255)).all(axis=1).mean() > 0.5
    narrow = add_names(picture[:, :20], labels[:, :20], LEGEND)
    assert narrow.shape[1] > 50
    assert narrow.shape[0] > found.shape[0]
    assert np.array_equal(narrow[:50, :20], picture[:, :20])


def test_an_overlay_file_holds_image_and_names(tmp_path: Path) -> None:
    """As large as the map where that is small, and a strip higher."""
    labels = np.full((300, 400), 2, np.uint8)
    labels[:, 200:] = 255
    image = ArrayReader(np.random.default_rng(0).integers(1, 255, (300, 400, 3)).astype(np.uint8))
    write_overlay(write_class_map(tmp_path / "a.tif", labels), image, LEGEND, tmp_path / "a.png", side=1000)
    with Image.open(tmp_path / "a.png") as image:
        found = np.asarray(image)
    assert found.shape[1:] == (400, 3)
    assert 310 < found.shape[0] < 360
    green = found[:300, :198].astype(int)
    assert green[..., 1].mean() > green[..., 0].mean() + 50
