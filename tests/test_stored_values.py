"""Values that index masks store: mapped by a legend, numbered without one, never thrown away in silence."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from builders.scene_files import noise, save, save_palette, save_raster
from numpy.typing import NDArray

from levelground.config import PrepareOptions
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.datasets.prepare import prepare_dataset
from levelground.errors import DataError, LegendError
from levelground.imagery.data_folder import find_scenes
from levelground.imagery.legend import IGNORE, Legend, default_legend
from levelground.imagery.stored_values import labels_of_values, numbered_legend

WORLD = """nodata = [0, -1]
class = [{index = 0, name = "tree", value = 10}, {index = 1, name = "low", value = [20, 30]}]
"""


def folder_of(data: Path, masks: Sequence[NDArray[np.generic]], *, tag: float | None = None, kind: str = "tif") -> Path:
    """Write images and index masks of one form."""
    for n, mask in enumerate(masks):
        if kind == "tif":
            save_raster(data / f"images/{n}.tif", noise(*mask.shape, seed=n))
            save_raster(data / f"masks/{n}.tif", mask, nodata=tag)
        else:
            save(data / f"images/{n}.png", noise(*mask.shape, seed=n))
            path = data / f"masks/{n}.png"
            _ = save_palette(path, mask, [7] * 768) if kind == "palette" else save(path, mask)  # type: ignore[arg-type]
    return data


def patterned(values: Sequence[float], dtype: str, n: int = 5) -> list[NDArray[np.generic]]:
    """Make masks of stripes of some values, each mask turned on by one."""
    rows = np.arange(12)[:, None] + np.arange(15)[None] // 5
    return [np.array(values)[(rows + k) % len(values)].astype(dtype) for k in range(n)]


def prepare(data: Path) -> Dataset:
    """Prepare beside the data."""
    return prepare_dataset(PrepareOptions(data=data, out=data.parent / "study", cache=data.parent / "cache"))


def pixels(dataset: Dataset) -> list[int]:
    """Pixels of each class in all scenes, those without data last."""
    return np.sum([[*one.class_pixels, one.ignored_pixels] for one in dataset.scenes], axis=0).tolist()


@pytest.mark.parametrize(
    ("kind", "dtype"), [("png", "uint8"), ("palette", "uint8"), ("tif", "uint8"), ("tif", "uint16"), ("tif", "float32")]
)
def test_masks_of_0_and_255_have_two_classes(tmp_path: Path, kind: str, dtype: str) -> None:
    """In every form that a mask has."""
    dataset = prepare(folder_of(tmp_path / "data", patterned([0, 0, 255], dtype), kind=kind))
    assert pixels(dataset) == [600, 300, 0]
    assert dataset.legend.names == ("class 0", "class 1")
    assert read_dataset(dataset.folder).legend == dataset.legend


def test_a_legend_whose_colours_they_are_wins(tmp_path: Path) -> None:
    """Grey masks are colours where the legend has black and white, even where early masks are all black."""
    masks = [np.zeros((12, 15), np.uint8)] * 3 + patterned([0, 0, 255], "uint8")
    data = folder_of(tmp_path / "data", masks, kind="png")
    (data / "legend.toml").write_text(
        'class = [{index = 0, name = "roof", colour = "FFFFFF"}, {index = 1, name = "other", colour = "000000"}]'
    )
    assert pixels(prepare(data))[:2] == [300, 600 + 3 * 180]


def test_255_beside_class_indices_is_no_data_with_a_warning(tmp_path: Path) -> None:
    """And without one where file or legend declares it."""
    data = folder_of(tmp_path / "a/data", patterned([0, 1, 255], "uint8"))
    (found,) = (one for one in prepare(data).findings if one.code == "dropped-values")
    assert found.severity == "warning"
    assert found.text.startswith("255 in masks is read as no data (300 px in 5 of them, first 0).")
    again = prepare(data)
    assert found in again.findings  # from the cache too
    tagged = prepare(folder_of(tmp_path / "b/data", patterned([0, 1, 255], "uint8"), tag=255))
    assert "dropped-values" not in {one.code for one in tagged.findings}
    (data / "legend.toml").write_text(
        'nodata = 255\nclass = [{index = 0, name = "a", value = 0}, {index = 1, name = "b", value = 1}]'
    )
    told = prepare(data)
    assert "dropped-values" not in {one.code for one in told.findings}
    assert pixels(told) == [300, 300, 300]


@pytest.mark.parametrize(
    ("values", "tag"), [([3, 3], None), ([1, 255], None), ([0, 1], 0), ([255, 255], None)], ids=str
)
def test_fewer_than_two_classes_are_refused(tmp_path: Path, values: list[int], tag: int | None) -> None:
    """With what to do; nothing is written."""
    with pytest.raises(DataError, match=r"expected two or more\. Give a legend with the value of each class"):
        prepare(folder_of(tmp_path / "data", patterned(values, "uint8"), tag=tag))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint64", "float32", "float64"])
def test_values_become_the_classes_of_a_legend(tmp_path: Path, dtype: str) -> None:
    """Of any type; several values may be one class, several no data."""
    below = [] if dtype.startswith("u") else [-1]
    data = folder_of(tmp_path / "data", patterned([10, 20, 30, 0, *below], dtype))
    (data / "legend.toml").write_text(WORLD)
    counts = pixels(prepare(data))
    n = 900 // (4 + len(below))
    assert counts[1] == pytest.approx(2 * counts[0], rel=0.1)
    assert counts[0] == pytest.approx(n, rel=0.1)
    assert sum(counts) == 900


def test_far_flung_values_are_a_class_each(tmp_path: Path) -> None:
    """WorldCover and CORINE without a legend; the file's nodata value is no class."""
    world = prepare(folder_of(tmp_path / "a/data", patterned([0, 10, 80], "uint8"), tag=0))
    assert (world.legend.names, pixels(world)) == (("value 10", "value 80"), [300, 300, 300])
    corine = prepare(folder_of(tmp_path / "b/data", patterned([111, 523], "uint16")))
    assert (corine.legend.names, pixels(corine)) == (("value 111", "value 523"), [450, 450, 0])


def test_a_value_of_the_legend_wins_over_the_tag() -> None:
    """Many tools tag 0 in masks of 0 and 1."""
    legend = numbered_legend({0, 255})
    for dtype in (np.uint8, np.int32):
        labels, wrong, dropped = labels_of_values(np.array([[0, 255, 3]], dtype), legend, 0)
        assert labels.tolist() == [[0, 1, IGNORE]]
        assert (wrong.tolist(), dropped) == ([[False, False, True]], 0)
        assert labels_of_values(np.array([[0, 1]], dtype), default_legend(2), 0)[0].tolist() == [[IGNORE, 1]]


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('class = [{index = 0, name = "a", value = 1}, {index = 1, name = "b", value = 1}]', "two meanings"),
        (
            'nodata = 1\nclass = [{index = 0, name = "a", value = 1}, {index = 1, name = "b", value = 2}]',
            "two meanings",
        ),
        ('class = [{index = 0, name = "a", value = 1}, {index = 1, name = "b", colour = "000000"}]', "b has no value"),
        ('class = [{index = 0, name = "a", value = "x"}]', "expected a whole number or a list"),
        ('nodata = 1.5\nclass = [{index = 0, name = "a", value = 1}]', "expected a whole number or a list"),
    ],
)
def test_contradictory_values_are_refused(tmp_path: Path, toml: str, says: str) -> None:
    """By name of the class or key."""
    data = folder_of(tmp_path / "data", patterned([0, 1], "uint8"))
    (data / "legend.toml").write_text(toml)
    with pytest.raises(LegendError, match=says):
        find_scenes(data)


def test_a_legend_with_values_survives_its_json() -> None:
    """And has the digest of one without: scores are comparable whatever masks store."""
    legend = numbered_legend({10, 30, 200})
    assert Legend.from_json(legend.to_json()) == legend
