import dataclasses
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders.foreign_files import WRITERS
from builders.scene_files import noise, save, save_raster
from builders.study import LEGEND, SIZES, SPLIT
from numpy.typing import NDArray

from levelground.adoption.prediction_files import ReadingRules, read_mask, read_prediction
from levelground.adoption.predictions import adopt_predictions, find_predictions
from levelground.config import PredictionOptions, PrepareOptions
from levelground.datasets.dataset import Dataset
from levelground.datasets.prepare import prepare_dataset
from levelground.errors import ConfigError, LabelColourError, SceneError
from levelground.evaluation.evaluate import write_mask
from levelground.imagery.geotiff import RasterInfo, write_raster
from levelground.imagery.legend import IGNORE, encode_colours
from levelground.metrics.counts import read_counts


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
        "epoch_9/val/{}.png",
    ],
)
def test_masks_are_found_by_scene_id(dataset: Dataset, tmp_path: Path, pattern: str) -> None:
    """The id is a path; the usual endings do not matter, other files neither."""
    for scene in SPLIT.test:
        save(tmp_path / pattern.format(scene), some_preds(scene))
    (tmp_path / "notes.txt").write_text("not a mask")
    found = find_predictions(tmp_path, dataset, "test")
    assert {scene: path.relative_to(tmp_path).as_posix() for scene, path in found.items()} == {
        scene: pattern.format(scene) for scene in SPLIT.test
    }


@pytest.mark.parametrize("form", [str.upper, lambda scene: scene.replace("/", "_")])
def test_names_in_capitals_and_without_folders_are_found(
    dataset: Dataset, tmp_path: Path, form: Callable[[str], str]
) -> None:
    """As other systems and tools write them, where that can mean one scene only."""
    expected = {scene: save(tmp_path / f"{form(scene)}_sat.png", some_preds(scene)) for scene in SPLIT.test}
    assert find_predictions(tmp_path, dataset, "test") == expected


def test_the_same_scene_in_two_folders_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    """The pattern with the folder tells which."""
    for folder in ("last", "best"):
        for scene in SPLIT.test:
            save(tmp_path / folder / f"{scene}.png", some_preds(scene))
    with pytest.raises(SceneError, match=r"best/b/2\.png: last/b/2\.png fits scene b/2 too\. .+ --names\.$"):
        find_predictions(tmp_path, dataset, "test")
    found = find_predictions(tmp_path, dataset, "test", names="best/{id}.png")
    assert found == {scene: tmp_path / "best" / f"{scene}.png" for scene in SPLIT.test}


@pytest.mark.parametrize("pattern", ["pred_{}.png", "mask-{}.png", "Pred_{}_seg.png", "pred_mask_{}.png"])
def test_beginnings_of_a_file_name_do_not_matter(dataset: Dataset, tmp_path: Path, pattern: str) -> None:
    """They stand before the last part of the id, which is a path."""
    expected = {}
    for scene in SPLIT.test:
        folder, name = scene.split("/")
        expected[scene] = save(tmp_path / folder / pattern.format(name), some_preds(scene))
    assert find_predictions(tmp_path, dataset, "test") == expected


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
    with pytest.raises(SceneError, match=r"no prediction for 2 of 3 test scenes, the first is 'b/2'"):
        find_predictions(tmp_path, dataset, "test")


def test_bare_names_are_enough_where_they_mean_one_scene(dataset: Dataset, tmp_path: Path) -> None:
    """The only validation scene is b/1."""
    path = save(tmp_path / "1.png", some_preds("b/1"))
    assert find_predictions(tmp_path, dataset, "val") == {"b/1": path}


def test_two_masks_for_one_scene_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    """Both are named."""
    for name in ("b/1.png", "b/1_mask.png"):
        save(tmp_path / name, some_preds("b/1"))
    text = (
        f"{tmp_path / 'b/1.png'}: b/1_mask.png fits scene b/1 too. Keep one file a scene, or tell which with --names."
    )
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        find_predictions(tmp_path, dataset, "val")


def test_missing_masks_are_counted_and_the_first_is_named(dataset: Dataset, tmp_path: Path) -> None:
    """With the name that would be found."""
    save(tmp_path / "c/1.png", some_preds("c/1"))
    text = f"{tmp_path}: no prediction for 2 of 3 test scenes, the first is 'b/2'. "
    text += "Name it b/2.png, or give the pattern of the names, such as --names '{id}.png'"
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        find_predictions(tmp_path, dataset, "test")


def test_a_missing_folder_is_named(dataset: Dataset, tmp_path: Path) -> None:
    """A wrong path, or a file."""
    text = f"{tmp_path / 'no'}: no such folder. Give the folder that holds the predictions."
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        find_predictions(tmp_path / "no", dataset, "test")


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
        "Predict one of 0 to 3 there, or name what 4 means: --class-map 4=CLASS"
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
    assert read_mask(path, dataset, "c/1", ReadingRules(snap=8))[0, 0] == 2


@pytest.fixture
def block(dataset: Dataset, tmp_path: Path) -> Dataset:
    """The study with scene c/1 as a block of a raster of 200 rows and 300 columns."""
    save(tmp_path / "data/raster.png", noise(200, 300))
    record = dataclasses.replace(dataset.scene("c/1"), window=(10, 20, 64, 96), image="raster.png")
    scenes = tuple(record if scene.id == "c/1" else scene for scene in dataset.scenes)
    return dataclasses.replace(dataset, scenes=scenes, data=tmp_path / "data")


def test_a_block_of_a_raster_takes_its_window_of_the_rasters_mask(block: Dataset, tmp_path: Path) -> None:
    """One predicted raster serves all its blocks; a mask of the block's own size is taken as it is."""
    whole = np.random.default_rng(3).integers(0, 4, (200, 300), np.uint8)
    path = save(tmp_path / "c/1_mask.tif", whole)
    assert np.array_equal(read_mask(path, block, "c/1"), whole[10:74, 20:116])
    np.save(tmp_path / "1.npy", whole)
    assert np.array_equal(read_prediction(tmp_path / "1.npy", block, "c/1"), whole[10:74, 20:116])
    assert np.array_equal(read_mask(save(tmp_path / "b.png", some_preds("c/1")), block, "c/1"), some_preds("c/1"))


@pytest.mark.parametrize("ending", ["tif", "npy"])
@pytest.mark.parametrize(("height", "width"), [(70, 300), (200, 299), (400, 600), (300, 200)])
def test_a_map_of_another_size_than_the_raster_of_a_block_is_refused(
    block: Dataset, tmp_path: Path, height: int, width: int, ending: str
) -> None:
    """A larger one too, as of another resolution: the block would be cut at the wrong place."""
    path, whole = tmp_path / f"map.{ending}", np.zeros((height, width), np.uint8)
    _ = np.save(path, whole) if ending == "npy" else save(path, whole)
    text = (
        f"{path}: mask has {width} × {height} pixels, scene c/1 96 × 64 and its raster 300 × 200 (width × height). "
        "Predict at the size of one of them; resize masks by nearest neighbour only."
    )
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        read_prediction(path, block, "c/1")


def test_a_map_of_a_raster_that_is_missing_is_refused(block: Dataset, tmp_path: Path) -> None:
    """Its size is not known; masks of the block are still taken, and the map once the raster is back."""
    path, raster = save(tmp_path / "map.tif", np.zeros((200, 300), np.uint8)), block.data / "raster.png"
    moved = raster.rename(tmp_path / "raster.png")
    text = (
        f"{path}: cannot be laid on scene c/1, because its image {raster} is missing. Put it back, or prepare the "
        "study again with the folder that holds it."
    )
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        read_mask(path, block, "c/1")
    assert np.array_equal(read_mask(save(tmp_path / "b.png", some_preds("c/1")), block, "c/1"), some_preds("c/1"))
    assert not read_mask(path, dataclasses.replace(block, data=moved.parent), "c/1").any()
    save(raster, noise(64, 300))
    with pytest.raises(SceneError, match=r"raster\.png: has 300 × 64 pixels, another size than when scene c/1 was"):
        read_mask(path, block, "c/1")


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("placed", [False, True])
def test_the_place_of_a_map_is_checked_or_it_is_refused(
    dataset: Dataset, tmp_path: Path, placed: bool, align: bool
) -> None:
    """Where the image is missing that had one; without a place of the image, size is all there is to check."""
    data, preds = tmp_path / "data", some_preds("c/1")
    save_raster(data / "a.tif", noise(*preds.shape), placed=placed)
    record = dataclasses.replace(dataset.scene("c/1"), image="a.tif", place=(-77.6, 38.9) if placed else None)
    scenes = tuple(record if scene.id == "c/1" else scene for scene in dataset.scenes)
    study, rules = dataclasses.replace(dataset, scenes=scenes, data=data), ReadingRules(align=align)
    path = save_raster(tmp_path / "map.tif", preds[..., None])
    assert np.array_equal(read_mask(path, study, "c/1", rules), preds)
    (data / "a.tif").unlink()
    if placed or align:
        with pytest.raises(SceneError, match=r"map\.tif: cannot be laid on scene c/1, because its image .*a\.tif is"):
            read_mask(path, study, "c/1", rules)
    else:
        assert np.array_equal(read_mask(path, study, "c/1", rules), preds)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, NDArray[np.uint8]]:
    """Two GeoTIFFs that share a map, cut into blocks; and their labels, one after the other."""
    folder = tmp_path_factory.mktemp("blocks")
    labels = np.random.default_rng(4).integers(0, 2, (2, 128, 160), np.uint8)
    for number, name in enumerate(("east", "west")):
        info = RasterInfo(0, 0, 0, "", None, "EPSG:32632", (10.0, 0.0, 5e5 - 5120 * number, 0.0, -10.0, 5e6))
        for kind, array in (("images", noise(128, 160, seed=number)), ("masks", labels[number][..., None])):
            (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
            write_raster(folder / "data" / kind / f"{name}.tif", array, info)
    options = PrepareOptions(
        data=folder / "data", out=folder / "study", cache=folder / "cache", split="blocks", block_px=32, buffer_px=4
    )
    return prepare_dataset(options), labels


@pytest.mark.parametrize("names", ["{}.tif", "pred_{}.tif", "v2.{}.x.tif", "deep/down/{}_mask.tif", "images/{}.tif"])
def test_maps_of_rasters_serve_the_blocks_of_a_split(
    blocks: tuple[Dataset, NDArray[np.uint8]], tmp_path: Path, names: str
) -> None:
    """Maps of whole rasters, as `predict` writes them, and masks of each block give the same counts."""
    dataset, labels = blocks
    preds = labels ^ (np.random.default_rng(5).random(labels.shape) < 0.2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for name, classes in zip(("east", "west"), preds, strict=True):
        save(whole / names.format(name), classes)
    for scene in map(dataset.scene, dataset.ids("test")):
        assert scene.window is not None
        row, col, height, width = scene.window
        part = preds[int("west" in scene.image), row : row + height, col : col + width]
        write_mask(parts / f"{scene.id}.png", part, dataset.legend)
    first, second = (adopt_predictions(folder, dataset) for folder in (whole, parts))
    counts = [read_counts(run.counts_path("test")).counts for run in (first, second)]
    assert np.array_equal(*counts)
    assert counts[0].sum() == len(dataset.ids("test")) * 32 * 32
    for run in (first, second):
        shutil.rmtree(run.folder)


def test_a_missing_map_of_blocks_is_called_after_its_raster(
    blocks: tuple[Dataset, NDArray[np.uint8]], tmp_path: Path
) -> None:
    """The map that is missing, or the block's own mask; where one lacks, its raster is named."""
    dataset, labels = blocks
    save(tmp_path / "east.tif", labels[0])
    lacking = next(scene for scene in dataset.ids("test") if dataset.scene(scene).image == "images/west.tif")
    text = rf"the first is '{lacking}'\. Name the map of the whole of images/west\.tif west\.png, or the"
    with pytest.raises(SceneError, match=text):
        find_predictions(tmp_path, dataset, "test")


@pytest.mark.parametrize(
    ("pattern", "file"),
    [
        ("DG_{id}.png", "DG_{}.png"),
        ("{id}_0000", "{}_0000.npy"),
        ("run*/{id}_v?.png", "run7/{}_v?.png"),
        ("{id}.e*.tif", "{}.e04.tif"),
    ],
)
def test_names_are_found_by_a_pattern(dataset: Dataset, tmp_path: Path, pattern: str, file: str) -> None:
    """The id with its slash as an underline, where a bare name may mean two scenes; other files do not matter."""
    expected = {}
    for scene in SPLIT.test:
        expected[scene] = tmp_path / file.format(scene.replace("/", "_"))
        for path in (expected[scene], tmp_path / f"overlay_{scene.replace('/', '_')}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    assert find_predictions(tmp_path, dataset, "test", names=pattern) == expected


@pytest.mark.parametrize(("pattern", "start"), [("{n}.png", 0), ("{n+1}.png", 1)])
def test_numbered_files_are_read_in_the_order_of_the_split_where_that_is_asked_for(
    dataset: Dataset, tmp_path: Path, pattern: str, start: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never by themselves: the refusal names the order and the flag, which works when it is given."""
    for place, _ in enumerate(SPLIT.test):
        save(tmp_path / f"{place + start:04d}.png", some_preds("c/1"))
    with pytest.raises(
        SceneError, match=r"numbered: if they follow the order b/2, c/1, c/2, pass --names '(.*)'$"
    ) as refused:
        find_predictions(tmp_path, dataset, "test")
    assert str(refused.value).endswith(f"'{pattern}'")
    found = find_predictions(tmp_path, dataset, "test", names=pattern)
    assert [path.name for path in found.values()] == [f"{place + start:04d}.png" for place in range(3)]
    assert (
        capsys.readouterr().err
        == f"{tmp_path.name}: reads 000{start}.png as scene b/2 and 000{start + 2}.png as scene c/2.\n"
    )


def test_the_one_pattern_that_fits_every_scene_is_taken_and_said(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where two fit, nobody chooses: the files are refused with a pattern to begin with."""
    save(tmp_path / "DG_1_x.png", some_preds("b/1"))
    assert find_predictions(tmp_path, dataset, "val") == {"b/1": tmp_path / "DG_1_x.png"}
    assert capsys.readouterr().err == f"{tmp_path.name}: its names are read as --names 'DG_{{id}}_x.png'.\n"
    save(tmp_path / "v1.png", some_preds("b/1"))
    with pytest.raises(SceneError, match=r"no prediction for 1 of 1 val scenes.*--names 'DG_\{id\}_x\.png'$"):
        find_predictions(tmp_path, dataset, "val")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("1.txt", "It holds .txt files, perhaps outlines of objects: draw each"),
        ("1.bin", "Its files: 1 .bin. Give masks as"),
    ],
)
def test_a_folder_of_other_files_is_named_for_what_it_holds(
    dataset: Dataset, tmp_path: Path, name: str, text: str
) -> None:
    """Outlines, or anything else."""
    (tmp_path / name).write_text("0 0.1 0.1")
    with pytest.raises(SceneError, match=re.escape(text)):
        find_predictions(tmp_path, dataset, "val")


def test_a_pattern_without_a_place_for_the_id_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    """All files would fit all scenes."""
    with pytest.raises(ConfigError, match=r"^--names mask\.png: expected \{id\}, \{n\} or \{n\+1\} in it"):
        find_predictions(tmp_path, dataset, "val", names="mask.png")


def flags_of(message: str) -> dict[str, object]:
    """The flags that a message says to pass, CLASS replaced by the class that the odd colour is."""
    words = shlex.split(message.partition("pass ")[2] or message.rpartition(": ")[2])
    if words[0] == "--blue-first.":
        return {"blue_first": True}
    assert words[0] == "--class-map", message
    return {"class_map": tuple(word.rstrip(".").replace("CLASS", "Water") for word in words[1:])}


@pytest.mark.parametrize("kind", WRITERS)
def test_folders_of_other_tools_are_counted_right(dataset: Dataset, tmp_path: Path, kind: str) -> None:
    """At once, or with the flags of the message, followed word for word; counts are those of the classes."""
    for scene in SPLIT.test:
        path = tmp_path / "theirs" / scene
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[kind](path, some_preds(scene), LEGEND)
    try:
        run = adopt_predictions(tmp_path / "theirs", dataset)
    except (SceneError, LabelColourError) as error:
        run = adopt_predictions(tmp_path / "theirs", dataset, PredictionOptions(**flags_of(str(error))))
        assert kind in ("from_one", "stretched", "blue_first", "other_colour")
    counts = read_counts(run.counts_path("test"))
    for number, scene in enumerate(counts.scenes.tolist()):
        labels = np.asarray(dataset.open(scene).labels)
        valid = labels != IGNORE
        pairs = labels[valid].astype(np.int64) * 4 + some_preds(scene)[valid]
        assert np.array_equal(counts.counts[number], np.bincount(pairs, minlength=16).reshape(4, 4))
