import dataclasses
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from builders.foreign_files import write_bands
from builders.scene_files import save, save_palette, save_raster
from builders.study import LEGEND, SIZES, SPLIT
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from rasterio.rio.main import main_group as rio
from scipy.special import softmax

from levelground.adoption.prediction_files import (
    ClassProbabilities,
    ReadingRules,
    read_mask,
    read_prediction,
    tell_mask_codings,
)
from levelground.adoption.predictions import adopt_predictions
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, LabelColourError, SceneError
from levelground.evaluation.evaluate import write_mask
from levelground.imagery.class_maps import read_class_map
from levelground.imagery.image_pixels import read_array
from levelground.imagery.legend import Legend, LegendClass, default_legend, encode_colours

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


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_nodata_value_of_a_mask_is_no_class(dataset: Dataset, tmp_path: Path) -> None:
    """Where the scene has labels the mask is refused, with what takes the tag off; elsewhere it is no prediction."""
    path = save(tmp_path / "1.tif", some_preds("c/1"))
    with rasterio.open(path, "r+") as raster:
        raster.nodata = 2
    labelled = np.asarray(dataset.open("c/1").labels) != 255
    assert (labelled & (some_preds("c/1") == 2)).any()
    with pytest.raises(SceneError, match=r"hold 2, which is the file's nodata value and a class of .* --unset-nodata"):
        read_mask(path, dataset, "c/1")
    assert not CliRunner().invoke(rio, ["edit-info", "--unset-nodata", str(path)]).exit_code
    assert np.array_equal(read_mask(path, dataset, "c/1"), some_preds("c/1"))
    preds = np.where(labelled, np.minimum(some_preds("c/1"), 1), 2).astype(np.uint8)
    save(path, preds)
    with rasterio.open(path, "r+") as raster:
        raster.nodata = 2
    assert np.array_equal(read_mask(path, dataset, "c/1"), np.where(labelled, preds, 255))


@pytest.mark.parametrize("nodata", [0, 2, 250])
def test_the_nodata_value_of_colours_is_no_class(dataset: Dataset, tmp_path: Path, nodata: int) -> None:
    """It is a value of bands, as in labels of that form: neither class 0 nor class 2, nor a band of one of them."""
    path = save_raster(tmp_path / "1.tif", encode_colours(some_preds("c/1"), LEGEND), nodata=nodata, placed=False)
    assert np.array_equal(read_mask(path, dataset, "c/1"), some_preds("c/1"))


def test_a_folder_tells_what_a_black_mask_is(tolerant: Dataset, tmp_path: Path) -> None:
    """Class 0 among indices, the class that is black among colours."""
    black = save(tmp_path / "black.png", np.zeros((*SIZES["c/2"], 3), np.uint8))
    indices = save(tmp_path / "indices.png", in_bands(some_preds("c/1")))
    colours = save(tmp_path / "colours.png", encode_colours(some_preds("c/1"), THRESHOLD))
    for other, expected in ((indices, 0), (colours, 1)):
        codings = tell_mask_codings([black, other], THRESHOLD)
        assert np.unique(read_mask(black, tolerant, "c/2", ReadingRules(codings=codings))).tolist() == [expected]
    codings = tell_mask_codings([colours, indices], THRESHOLD)
    with pytest.raises(SceneError, match=r"indices\.png: mask holds class indices in three equal bands, other masks"):
        read_mask(indices, tolerant, "c/1", ReadingRules(codings=codings))


def test_a_folder_tells_what_a_black_palette_is(tolerant: Dataset, tmp_path: Path) -> None:
    """Palettes whose first entry is black, as the Pascal data set's."""
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    black = save_palette(tmp_path / "black.png", np.zeros(SIZES["c/2"], np.uint8), palette)
    other = save_palette(tmp_path / "other.png", some_preds("c/1"), palette)
    codings = tell_mask_codings([black, other], THRESHOLD)
    assert not read_mask(black, tolerant, "c/2", ReadingRules(codings=codings)).any()


@pytest.mark.parametrize("factor", [40, 60, 80])
def test_greys_stretched_for_display_are_refused(tolerant: Dataset, tmp_path: Path, factor: int) -> None:
    """In one band with the number to divide by, in three as what a tolerant rule would guess."""
    stretched = some_preds("c/1") * np.uint8(factor)
    one, three = save(tmp_path / "one.png", stretched), save(tmp_path / "three.png", in_bands(stretched))
    with pytest.raises(
        SceneError, match=f"Its values are multiples of {factor}: pass --class-map 0=0 {factor}=1 {2 * factor}=2"
    ):
        read_mask(one, tolerant, "c/1")
    with pytest.raises(LabelColourError, match=r"three\.png: \d+% of the pixels are more than 32 levels from every"):
        read_mask(three, tolerant, "c/1")


@pytest.mark.parametrize("bands", [1, 3])
def test_numbers_from_one_to_k_are_refused_with_the_remedy(tolerant: Dataset, tmp_path: Path, bands: int) -> None:
    """The last class has no number left."""
    values = some_preds("c/1") + np.uint8(1)
    path = save(tmp_path / "1.png", values if bands == 1 else in_bands(values))
    with pytest.raises(SceneError, match=r"Its classes are numbered 1 to 4: pass --class-map 1=0 2=1 3=2 4=3$"):
        read_mask(path, tolerant, "c/1")


@pytest.mark.parametrize("snap", [64, 255])
def test_a_snap_that_accepts_everything_is_an_error(dataset: Dataset, tmp_path: Path, snap: int) -> None:
    """Noise is no mask, however wide the snap; pure colours are one."""
    noise = save(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, (*SIZES["c/1"], 3), np.uint8))
    with pytest.raises(LabelColourError, match=re.escape(str(noise))):
        read_mask(noise, dataset, "c/1", ReadingRules(snap=snap))
    pure = save(tmp_path / "pure.png", encode_colours(some_preds("c/1"), LEGEND))
    assert np.array_equal(read_mask(pure, dataset, "c/1", ReadingRules(snap=snap)), some_preds("c/1"))


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


SCORES: dict[str, Callable[[NDArray[np.float32]], NDArray[np.generic]]] = {
    "channels first": lambda probs: probs,
    "channels last, as a batch": lambda probs: np.moveaxis(probs, 0, -1)[None],
    "half": lambda probs: probs.astype(np.float16),
    "bytes": lambda probs: np.round(probs * 255).astype(np.uint8),
    "logarithms": np.log,
    "in columns": np.asfortranarray,
}


@pytest.mark.parametrize("form", SCORES)
@pytest.mark.parametrize("outputs", [(0, 1, 2, 3), (0, 2, 3)])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_probabilities_are_read_from_every_form(
    dataset: Dataset, tmp_path: Path, form: str, outputs: tuple[int, ...], suffix: str
) -> None:
    """One channel for each class, or for each counted one."""
    probs = softmax(np.random.default_rng(1).normal(0, 3, (len(outputs), *SIZES["c/1"])), axis=0).astype(np.float32)
    with (tmp_path / f"1.{suffix}").open("wb") as file:
        (np.save if suffix == "npy" else np.savez_compressed)(file, SCORES[form](probs))
    found = read_prediction(tmp_path / f"1.{suffix}", dataset, "c/1")
    assert isinstance(found, ClassProbabilities)
    assert found.outputs == outputs
    assert np.abs(found.values - probs).max() < 0.01
    assert np.abs(found.values.sum(axis=0) - 1).max() < 1e-5


@pytest.mark.parametrize("logarithms", [False, True])
@pytest.mark.parametrize("nodata", [-9999.0, 0.0, np.nan])
def test_probabilities_without_data_matter_only_where_the_scene_has_labels(
    dataset: Dataset, tmp_path: Path, nodata: float, logarithms: bool
) -> None:
    """As classes: the mask has no class there; where there are labels the map is refused, and no softmax advised."""
    for scene in SPLIT.test:
        probs = np.eye(4, dtype=np.float32)[some_preds(scene)] * np.float32(0.96) + np.float32(0.01)
        probs = np.log(probs) if logarithms else probs
        probs[:3, :5] = nodata
        (tmp_path / "m" / scene).parent.mkdir(parents=True, exist_ok=True)
        save_raster(tmp_path / "m" / f"{scene}.tif", probs, nodata=nodata, placed=False)
    run = adopt_predictions(tmp_path / "m", dataset)
    with Image.open(run.preds_folder("test") / "c/1.png") as image:
        preds = np.asarray(image)
    assert (preds[:3, :5] == 255).all()
    assert np.array_equal(np.where(preds == 255, preds, some_preds("c/1")), preds)
    assert (preds == 255).sum() == 15
    probs[5, 6] = nodata
    path = save_raster(tmp_path / "hole.tif", probs, nodata=nodata, placed=False)
    with pytest.raises(SceneError, match=r"hole\.tif: does not reach 1 pixels of scene c/2 that have labels\."):
        read_prediction(path, dataset, "c/2")


@pytest.mark.parametrize("n_classes", [2, 4, 7, 16, 40])
def test_masks_are_written_as_they_are(tmp_path: Path, n_classes: int) -> None:
    """Pixels without a class too, whatever few bits the classes need."""
    preds = np.arange(n_classes, dtype=np.uint8).repeat(3)[None]
    for values in (preds, np.where(preds == 1, np.uint8(255), preds)):
        write_mask(tmp_path / "1.png", values, default_legend(n_classes))
        with Image.open(tmp_path / "1.png") as image:
            assert np.array_equal(np.asarray(image), values)


def test_channels_of_one_class_add_up(dataset: Dataset, tmp_path: Path) -> None:
    """Five channels of another list of classes; a channel that is not named is refused with its number."""
    probs = softmax(np.random.default_rng(1).normal(0, 3, (5, *SIZES["c/1"])), axis=0)
    np.save(tmp_path / "1.npy", probs)
    named = read_class_map(["0+3=Wood", "1+4=field", "2=3"], LEGEND)
    found = read_prediction(tmp_path / "1.npy", dataset, "c/1", ReadingRules(class_map=named))
    assert isinstance(found, ClassProbabilities)
    assert found.outputs == (0, 2, 3)
    assert np.allclose(found.values, [probs[1] + probs[4], probs[0] + probs[3], probs[2]], atol=1e-6)
    for pairs, text in (([], "Name the class of each, 0 too: --class-map 0=CLASS"), (["0=0"], "each, 1 too")):
        with pytest.raises(SceneError, match=re.escape(text)):
            read_prediction(tmp_path / "1.npy", dataset, "c/1", ReadingRules(class_map=read_class_map(pairs, LEGEND)))


def test_one_sigmoid_output_is_two_classes_at_a_half(dataset: Dataset, tmp_path: Path) -> None:
    """Its own probability, and what is left to 1."""
    two = dataclasses.replace(dataset, legend=default_legend(2))
    positive = np.random.default_rng(1).random(SIZES["c/1"])
    np.save(tmp_path / "1.npy", positive)
    found = read_prediction(tmp_path / "1.npy", two, "c/1")
    assert isinstance(found, ClassProbabilities)
    assert np.allclose(found.values, [1 - positive, positive], atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", ">i2", "float32", "bool"])
@pytest.mark.parametrize("axes", [(), (0,), (0, -1)])
def test_arrays_of_classes_are_read_in_every_type(
    dataset: Dataset, tmp_path: Path, dtype: str, axes: tuple[int, ...]
) -> None:
    """Axes of length 1 do not matter."""
    preds = some_preds("c/1") % (2 if dtype == "bool" else 4)
    np.save(tmp_path / "1.npy", np.expand_dims(preds.astype(dtype), axes))
    assert np.array_equal(read_prediction(tmp_path / "1.npy", dataset, "c/1"), preds)


REFUSED: dict[str, tuple[NDArray[np.generic], str]] = {
    "logits": (
        np.random.default_rng(0).normal(0, 5, (4, 64, 96)),
        r"so they are not probabilities\. Save their softmax",
    ),
    "weights of classes": (np.full((4, 64, 96), 0.5), r"add up to 2 to 2 a pixel, .+ Divide them by their sum"),
    "logits of one class": (np.full((64, 96), -0.5), r"values from -0\.5 to -0\.5 are not probabilities\. .+ sigmoid"),
    "not numbers": (np.full((64, 96), np.nan), r"values that are not numbers"),
    "another size": (np.zeros((32, 48), np.uint8), r"mask has 48 × 32 pixels, scene c/1 96 × 64"),
    "rows and columns exchanged": (np.zeros((96, 64), np.uint8), r"Exchange its last two axes: numpy\.swapaxes"),
    "words": (np.full((64, 96), "field"), r"array is of type <U5"),
    "objects": (np.full((64, 96), None), r"array is of type object"),
    "four axes": (np.zeros((2, 4, 64, 96)), r"array has shape \(2, 4, 64, 96\), expected"),
    "a class too many": (np.full((64, 96), 9), r"name what 9 means: --class-map 9=CLASS$"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_arrays_are_refused_in_one_line(dataset: Dataset, tmp_path: Path, case: str) -> None:
    """The file, what it holds and what to save."""
    array, text = REFUSED[case]
    np.save(tmp_path / "1.npy", array, allow_pickle=True)
    with pytest.raises(SceneError, match=text) as refused:
        read_prediction(tmp_path / "1.npy", dataset, "c/1")
    assert str(refused.value).startswith(f"{tmp_path / '1.npy'}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"<html>", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x05\x00{'a':"])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_files_that_are_no_arrays_are_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    """Empty, cut short, or of another kind."""
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"is not a NumPy file of numbers"):
        read_array(path)


def test_an_array_claims_no_memory_that_its_file_does_not_hold(tmp_path: Path) -> None:
    """Sizes are checked first; several arrays are named."""
    claimed = io.BytesIO()
    np.lib.format.write_array_header_1_0(claimed, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 1 << 20)})
    (tmp_path / "a.npy").write_bytes(claimed.getvalue())
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("seg.npy", claimed.getvalue())
    for name in ("a.npy", "a.npz"):
        with pytest.raises(SceneError, match=r"pixels are decoded at once"):
            read_array(tmp_path / name)
    np.savez(tmp_path / "two.npz", seg=np.zeros((4, 4)), probs=np.zeros((4, 4)))
    with pytest.raises(SceneError, match=r"holds 2 arrays \(seg, probs\), expected one"):
        read_array(tmp_path / "two.npz")


def test_blue_first_is_told_and_read(dataset: Dataset, tmp_path: Path) -> None:
    """The remedy works when it is followed, and not the other way round."""
    path = save(tmp_path / "1.png", encode_colours(some_preds("c/1"), LEGEND)[..., ::-1])
    with pytest.raises(LabelColourError, match=r"With blue first every colour is a class: pass --blue-first\.$"):
        read_mask(path, dataset, "c/1")
    assert np.array_equal(read_mask(path, dataset, "c/1", ReadingRules(blue_first=True)), some_preds("c/1"))


def test_exchanged_rows_and_columns_are_told(dataset: Dataset, tmp_path: Path) -> None:
    """Resizing such a mask would give it the scene's size and other classes; probabilities as bytes are no colours."""
    path = save(tmp_path / "1.png", some_preds("c/1").T.copy())
    with pytest.raises(SceneError, match=r"If rows and columns are exchanged, save its transpose: array\.T$"):
        read_mask(path, dataset, "c/1")
    write_bands(tmp_path / "1.tif", np.zeros((*SIZES["c/1"], 5), np.uint8))
    with pytest.raises(SceneError, match=r"has 5 bands of uint8, expected one of class indices, .+ in float32, or the"):
        read_mask(tmp_path / "1.tif", dataset, "c/1")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_indices_in_a_few_bits_are_indices(dataset: Dataset, tmp_path: Path, bits: int) -> None:
    """In a palette of as few bits, or black and white."""
    two = dataclasses.replace(dataset, legend=default_legend(4 if bits > 1 else 2))
    preds = some_preds("c/1") % np.uint8(two.legend.n_classes)
    image = Image.fromarray(preds, "P")
    image.putpalette([9, 9, 9, 60, 60, 60, 130, 130, 130, 7, 7, 7])
    image.save(tmp_path / "1.png", bits=bits)
    assert np.array_equal(read_mask(tmp_path / "1.png", two, "c/1"), preds)
    if bits == 1:
        Image.fromarray(preds.astype(bool)).save(tmp_path / "2.png")
        assert np.array_equal(read_mask(tmp_path / "2.png", two, "c/1"), preds)


def test_colours_blurred_by_jpeg_are_told(dataset: Dataset, tmp_path: Path) -> None:
    """Nobody can add them to a legend."""
    path = save(tmp_path / "1.jpg", encode_colours(some_preds("c/1"), LEGEND), quality=90)
    with pytest.raises(LabelColourError, match=r"JPEG blurs colours: save the masks as PNG"):
        read_mask(path, dataset, "c/1")


def test_a_class_map_names_numbers_colours_and_classes(dataset: Dataset, tmp_path: Path) -> None:
    """In index masks, palettes aside, in colours, and of classes already read."""
    preds = some_preds("c/1")
    shifted = save(tmp_path / "1.png", preds * np.uint8(40) + np.uint8(1))
    named = ReadingRules(class_map=read_class_map(["1=Field", "41=1", "81=wood", "121=Water"], LEGEND))
    assert np.array_equal(read_mask(shifted, dataset, "c/1", named), preds)
    colours = encode_colours(preds, LEGEND)
    colours[preds == 2] = (90, 10, 170)
    path = save(tmp_path / "2.png", colours)
    with pytest.raises(LabelColourError, match=r"say what it means: --class-map '#5A0AAA=CLASS'\.$"):
        read_mask(path, dataset, "c/1")
    named = ReadingRules(class_map=read_class_map(["#5A0AAA=Wood", "Water=Field"], LEGEND))
    assert np.array_equal(read_mask(path, dataset, "c/1", named), np.where(preds == 3, 0, preds))


def test_where_a_number_is_renumbered_all_have_to_be_named(dataset: Dataset, tmp_path: Path) -> None:
    """A number that is left out would be misread; numbers beside the legend's leave the others what they are."""
    path = save(tmp_path / "1.png", some_preds("c/1"))
    rules = ReadingRules(class_map=read_class_map(["1=0", "2=2", "3=3"], LEGEND))
    with pytest.raises(SceneError, match=r"or name what 0 means too: --class-map 0=CLASS$"):
        read_mask(path, dataset, "c/1", rules)
    gaps = some_preds("c/1")
    gaps[9] = 255
    rules = ReadingRules(class_map=read_class_map(["255=Water"], LEGEND))
    expected = np.where(gaps == 255, 3, gaps)
    assert np.array_equal(read_mask(save(tmp_path / "2.png", gaps), dataset, "c/1", rules), expected)


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        ("1", "--class-map '1': expected FROM=CLASS, such as 1=Water, 3+4=0 or '#00FF00=2'."),
        ("=Wood", "--class-map '=Wood': expected FROM=CLASS"),
        ("1=W", "--class-map '1=W': 'W' is not a class of 'land'. Its classes are Field, Unknown, Wood, Water."),
        ("1=Road", "--class-map '1=Road': 'Road' is not a class of 'land'."),
        ("Road=Wood", "--class-map 'Road=Wood': 'Road' is not a class of 'land'."),
        ("1=9", "--class-map '1=9': '9' is not a class"),
        ("٣=Wood", "--class-map '٣=Wood': '٣' is not a class of 'land'."),
    ],
)
def test_wrong_pairs_of_a_class_map_are_refused(pair: str, text: str) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}"):
        read_class_map([pair], LEGEND)
    with pytest.raises(ConfigError, match=r"1 is given two classes\. Give it one\.$"):
        read_class_map(["1=0", "0+1=2"], LEGEND)


def test_values_of_the_labels_files_are_told(dataset: Dataset, tmp_path: Path) -> None:
    """Of a legend whose masks store other numbers than indices; the flags of the message give the classes."""
    classes = tuple(dataclasses.replace(entry, values=(10 * entry.index + 7,)) for entry in LEGEND.classes)
    coded = dataclasses.replace(dataset, legend=dataclasses.replace(LEGEND, classes=classes))
    path = save(tmp_path / "1.png", some_preds("c/1") * np.uint8(10) + np.uint8(7))
    with pytest.raises(SceneError, match=r"those that the labels' files store: pass --class-map (.*)$") as refused:
        read_mask(path, coded, "c/1")
    pairs = str(refused.value).split("--class-map ")[1].split()
    rules = ReadingRules(class_map=read_class_map(pairs, coded.legend))
    assert np.array_equal(read_mask(path, coded, "c/1", rules), some_preds("c/1"))
