import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from builders.scene_files import save, save_palette
from builders.study import LEGEND, SIZES, SPLIT
from numpy.typing import NDArray

from levelground.adoption.prediction_files import read_mask, tell_mask_codings
from levelground.adoption.predictions import adopt_predictions
from levelground.datasets.dataset import Dataset
from levelground.errors import LabelColourError, SceneError
from levelground.imagery.legend import Legend, LegendClass, encode_colours

THRESHOLD = Legend(
    "land",
    (
        LegendClass(0, "Field", (255, 255, 0)),
        LegendClass(1, "Unknown", (0, 0, 0), counted=False),
        LegendClass(2, "Wood", (0, 255, 0)),
        LegendClass(3, "Water", (255, 255, 255)),
    ),
    rule="threshold",
)
"""Classes that are black and white, and colours binarised at 128: whatever a mask holds, it is some class."""


@pytest.fixture
def tolerant(dataset: Dataset) -> Dataset:
    """A study whose legend takes any colour for a class."""
    return dataclasses.replace(dataset, legend=THRESHOLD)


def some_preds(scene: str, seed: int = 9) -> NDArray[np.uint8]:
    """Classes 0 to 3 at random."""
    return np.random.default_rng(seed).integers(0, 4, SIZES[scene], np.uint8)


def in_bands(values: NDArray[np.uint8], bands: int = 3) -> NDArray[np.uint8]:
    """The same values in several bands, a fourth opaque."""
    stacked = np.stack([values] * bands, axis=-1)
    stacked[..., 3:] = 255
    return stacked


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_indices_in_equal_bands_are_indices(tolerant: Dataset, tmp_path: Path, bands: int, ending: str) -> None:
    """Not a black that some class has: colours are never as dark as class numbers."""
    path = save(tmp_path / f"1.{ending}", in_bands(some_preds("c/1"), bands if ending == "png" else 3))
    assert np.array_equal(read_mask(path, tolerant, "c/1"), some_preds("c/1"))


def test_a_folder_tells_what_a_black_mask_is(tolerant: Dataset, tmp_path: Path) -> None:
    """Class 0 among indices, the class that is black among colours."""
    black = save(tmp_path / "black.png", np.zeros((*SIZES["c/2"], 3), np.uint8))
    indices = save(tmp_path / "indices.png", in_bands(some_preds("c/1")))
    colours = save(tmp_path / "colours.png", encode_colours(some_preds("c/1"), THRESHOLD))
    for other, expected in ((indices, 0), (colours, 1)):
        codings = tell_mask_codings([black, other], THRESHOLD)
        assert np.unique(read_mask(black, tolerant, "c/2", codings=codings)).tolist() == [expected]
    codings = tell_mask_codings([colours, indices], THRESHOLD)
    with pytest.raises(SceneError, match=r"indices\.png: mask holds class indices in three equal bands, other masks"):
        read_mask(indices, tolerant, "c/1", codings=codings)


def test_a_folder_tells_what_a_black_palette_is(tolerant: Dataset, tmp_path: Path) -> None:
    """Palettes whose first entry is black, as the Pascal data set's."""
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    black = save_palette(tmp_path / "black.png", np.zeros(SIZES["c/2"], np.uint8), palette)
    other = save_palette(tmp_path / "other.png", some_preds("c/1"), palette)
    codings = tell_mask_codings([black, other], THRESHOLD)
    assert not read_mask(black, tolerant, "c/2", codings=codings).any()


@pytest.mark.parametrize("factor", [40, 60, 80])
def test_greys_stretched_for_display_are_refused(tolerant: Dataset, tmp_path: Path, factor: int) -> None:
    """In one band with the number to divide by, in three as what a tolerant rule would guess."""
    stretched = some_preds("c/1") * np.uint8(factor)
    one, three = save(tmp_path / "one.png", stretched), save(tmp_path / "three.png", in_bands(stretched))
    with pytest.raises(SceneError, match=f"Its values are multiples of {factor}: divide each pixel by {factor}\\.$"):
        read_mask(one, tolerant, "c/1")
    with pytest.raises(LabelColourError, match=r"three\.png: \d+% of the pixels are more than 32 levels from every"):
        read_mask(three, tolerant, "c/1")


@pytest.mark.parametrize("bands", [1, 3])
def test_numbers_from_one_to_k_are_refused_with_the_remedy(tolerant: Dataset, tmp_path: Path, bands: int) -> None:
    """The last class has no number left."""
    values = some_preds("c/1") + np.uint8(1)
    path = save(tmp_path / "1.png", values if bands == 1 else in_bands(values))
    with pytest.raises(SceneError, match=r"Its classes are numbered 1 to 4: subtract 1 from each pixel\.$"):
        read_mask(path, tolerant, "c/1")


@pytest.mark.parametrize("snap", [64, 255])
def test_a_snap_that_accepts_everything_is_an_error(dataset: Dataset, tmp_path: Path, snap: int) -> None:
    """Noise is no mask, however wide the snap; pure colours are one."""
    noise = save(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, (*SIZES["c/1"], 3), np.uint8))
    with pytest.raises(LabelColourError, match=re.escape(str(noise))):
        read_mask(noise, dataset, "c/1", snap=snap)
    pure = save(tmp_path / "pure.png", encode_colours(some_preds("c/1"), LEGEND))
    assert np.array_equal(read_mask(pure, dataset, "c/1", snap=snap), some_preds("c/1"))


def test_blurred_borders_are_read_by_the_rule(tolerant: Dataset, tmp_path: Path) -> None:
    """A JPEG of large areas differs from the class colours by little, but at borders."""
    preds = np.repeat(np.array([0, 2, 3], np.uint8), 32)[None].repeat(64, 0)
    path = save(tmp_path / "1.jpg", encode_colours(preds, THRESHOLD), quality=95)
    assert (read_mask(path, tolerant, "c/1") == preds).mean() > 0.97


def test_masks_numbered_from_one_are_adopted_with_a_warning(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when the same masks are given again; nothing is said of masks in order."""
    for scene in SPLIT.test:
        labels = np.asarray(dataset.open(scene).labels)
        save(tmp_path / "right" / f"{scene}.png", labels)
        save(tmp_path / "from-one" / f"{scene}.png", np.where(labels < 3, labels + 1, 0).astype(np.uint8))
    for _ in range(2):
        adopt_predictions(tmp_path / "from-one", dataset)
        said = " ".join(capsys.readouterr().err.split())
        assert "Warning: from-one: the classes seem to be numbered from 1: mean IoU is" in said
    adopt_predictions(tmp_path / "right", dataset)
    assert "Warning" not in capsys.readouterr().err
