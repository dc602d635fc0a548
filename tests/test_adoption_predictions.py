import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from builders.scene_files import save
from builders.study import LEGEND, SIZES, SPLIT
from numpy.typing import NDArray

from levelground.adoption.prediction_files import read_mask
from levelground.adoption.predictions import find_masks
from levelground.datasets.dataset import Dataset
from levelground.errors import LabelColourError, SceneError
from levelground.evaluation.evaluate import write_mask
from levelground.imagery.legend import encode_colours


def some_preds(scene: str, seed: int = 9) -> NDArray[np.uint8]:
    """Classes 0 to 3 at random."""
    return np.random.default_rng(seed).integers(0, 4, SIZES[scene], np.uint8)


@pytest.mark.parametrize(
    "pattern",
    [
        "{}.png",
        "{}.PNG",
        "{}_mask.png",
        "{}-pred.png",
        "{}_PREDICTION.png",
        "{}_sat_mask.png",
        "{}_seg.Tif",
        "{}_sat_out.png",
    ],
)
def test_masks_are_found_by_scene_id(dataset: Dataset, tmp_path: Path, pattern: str) -> None:
    """The id is a path; the usual endings do not matter, other files neither."""
    for scene in SPLIT.test:
        save(tmp_path / pattern.format(scene), some_preds(scene))
    (tmp_path / "notes.txt").write_text("not a mask")
    found = find_masks(tmp_path, dataset, "test")
    assert {scene: path.relative_to(tmp_path).as_posix() for scene, path in found.items()} == {
        scene: pattern.format(scene) for scene in SPLIT.test
    }


@pytest.mark.parametrize("pattern", ["pred_{}.png", "mask-{}.png", "Pred_{}_seg.png", "pred_mask_{}.png"])
def test_beginnings_of_a_file_name_do_not_matter(dataset: Dataset, tmp_path: Path, pattern: str) -> None:
    """They stand before the last part of the id, which is a path."""
    expected = {}
    for scene in SPLIT.test:
        folder, name = scene.split("/")
        expected[scene] = save(tmp_path / folder / pattern.format(name), some_preds(scene))
    assert find_masks(tmp_path, dataset, "test") == expected


def test_indices_of_sixteen_bits_are_read(dataset: Dataset, tmp_path: Path) -> None:
    """As they are, and never wrapped at 256."""
    preds = some_preds("c/1").astype(np.uint16)
    assert np.array_equal(read_mask(save(tmp_path / "1.png", preds), dataset, "c/1"), preds)
    preds[20, 20] = 256
    with pytest.raises(SceneError, match=r"1 pixels have no class of 'land' .*row 20, column 20"):
        read_mask(save(tmp_path / "2.png", preds), dataset, "c/1")


def test_bare_names_that_may_mean_two_scenes_mean_none(dataset: Dataset, tmp_path: Path) -> None:
    """``2`` may be b/2 or c/2."""
    for name in ("1.png", "2.png"):
        save(tmp_path / "deep" / name, some_preds("c/1"))
    with pytest.raises(SceneError, match=r"no mask for 2 of 3 test scenes, the first is 'b/2'"):
        find_masks(tmp_path, dataset, "test")


def test_bare_names_are_enough_where_they_mean_one_scene(dataset: Dataset, tmp_path: Path) -> None:
    """The only validation scene is b/1."""
    path = save(tmp_path / "1.png", some_preds("b/1"))
    assert find_masks(tmp_path, dataset, "val") == {"b/1": path}


def test_two_masks_for_one_scene_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    """Both are named."""
    for name in ("b/1.png", "b/1_mask.png"):
        save(tmp_path / name, some_preds("b/1"))
    text = f"{tmp_path / 'b/1.png'}: 1_mask.png fits scene b/1 too. Keep one mask a scene."
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        find_masks(tmp_path, dataset, "val")


def test_missing_masks_are_counted_and_the_first_is_named(dataset: Dataset, tmp_path: Path) -> None:
    """With the name that would be found."""
    save(tmp_path / "c/1.png", some_preds("c/1"))
    text = f"{tmp_path}: no mask for 2 of 3 test scenes, the first is 'b/2'. Name its mask b/2.png."
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        find_masks(tmp_path, dataset, "test")


def test_a_missing_folder_is_named(dataset: Dataset, tmp_path: Path) -> None:
    """A wrong path, or a file."""
    text = f"{tmp_path / 'no'}: no such folder. Give the folder that holds the predicted masks."
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        find_masks(tmp_path / "no", dataset, "test")


def test_indices_colours_and_palettes_are_read_alike(dataset: Dataset, tmp_path: Path) -> None:
    """The three forms of one mask give the same classes."""
    preds = some_preds("c/1")
    paths = [save(tmp_path / "grey.png", preds), save(tmp_path / "rgb.png", encode_colours(preds, LEGEND))]
    write_mask(tmp_path / "palette.png", preds, LEGEND)
    for path in (*paths, tmp_path / "palette.png"):
        assert np.array_equal(read_mask(path, dataset, "c/1"), preds)


def test_a_mask_of_another_size_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    """Both sizes are named, width first."""
    path = save(tmp_path / "1.png", some_preds("c/2"))
    text = (
        f"{path}: mask has 40 × 80 pixels, scene c/1 96 × 64 (width × height). "
        "Predict at the scene's own size; resize masks by nearest neighbour only."
    )
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        read_mask(path, dataset, "c/1")


def test_pixels_without_a_class_matter_only_where_the_scene_has_labels(dataset: Dataset, tmp_path: Path) -> None:
    """The first three rows hold five ignored pixels each."""
    preds = some_preds("c/1")
    preds[:3, :5] = 255
    assert read_mask(save(tmp_path / "gap.png", preds), dataset, "c/1")[0, 0] == 255
    preds[7, 9] = 4
    path = save(tmp_path / "hole.png", preds)
    text = (
        f"{path}: 1 pixels have no class of 'land' where scene c/1 has labels (first at row 7, column 9). "
        "Predict one of 0 to 3 there."
    )
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        read_mask(path, dataset, "c/1")


def test_impure_colours_need_leave(dataset: Dataset, tmp_path: Path) -> None:
    """As in prepare."""
    colours = encode_colours(some_preds("c/1"), LEGEND)
    colours[0, 0] = (3, 199, 0)
    path = save(tmp_path / "1.png", colours)
    with pytest.raises(LabelColourError, match=r"1 pixel.*\(3, 199, 0\)"):
        read_mask(path, dataset, "c/1")
    assert read_mask(path, dataset, "c/1", snap=8)[0, 0] == 2


def test_a_block_of_a_raster_takes_its_window_of_the_rasters_mask(dataset: Dataset, tmp_path: Path) -> None:
    """One predicted raster serves all its blocks; a mask of the block's own size is taken as it is."""
    whole = np.random.default_rng(3).integers(0, 4, (200, 300), np.uint8)
    path = save(tmp_path / "c/1_mask.tif", whole)
    block = dataclasses.replace(dataset.scene("c/1"), window=(10, 20, 64, 96))
    scenes = tuple(block if scene.id == "c/1" else scene for scene in dataset.scenes)
    blocks = dataclasses.replace(dataset, scenes=scenes)
    assert np.array_equal(read_mask(path, blocks, "c/1"), whole[10:74, 20:116])
    assert np.array_equal(read_mask(save(tmp_path / "b.png", some_preds("c/1")), blocks, "c/1"), some_preds("c/1"))
    small = save(tmp_path / "small.tif", whole[:70])
    with pytest.raises(SceneError, match=r"small\.tif: mask has 300 × 70 pixels, scene c/1 96 × 64"):
        read_mask(small, blocks, "c/1")
