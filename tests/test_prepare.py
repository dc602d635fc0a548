"""Prepare: find, verify, decode once, group, split, and say what was found."""

import re
import shutil
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from builders.scene_files import kaggle_pair, noise, random_labels, save, save_raster
from numpy.typing import NDArray
from pydantic import ValidationError

from levelground.datasets.data_source import BY_HAND
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.datasets.prepare import PrepareOptions, prepare_dataset
from levelground.errors import ConfigError, DataError, LabelColourError, SceneError, SplitError
from levelground.imagery.legend import DEEPGLOBE, encode_colours


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six scenes in the Kaggle layout."""
    folder = tmp_path / "data"
    for number in range(6):
        kaggle_pair(folder, f"{number}", seed=number)
    return folder


def prepare(data: Path, **options: object) -> Dataset:
    """Prepare beside the data, with a cache of its own."""
    base = data.parent
    return prepare_dataset(PrepareOptions(data=data, out=base / "study", cache=base / "cache", **options))  # type: ignore[arg-type]


def codes(dataset: Dataset) -> set[str]:
    """Kinds of findings."""
    return {finding.code for finding in dataset.findings}


def texts(dataset: Dataset, code: str) -> list[str]:
    """Texts of one kind of finding."""
    return [finding.text for finding in dataset.findings if finding.code == code]


def test_a_folder_is_prepared(data: Path) -> None:
    """Scenes, sizes, counts, paths below the data folder, statistics of the training scenes, cached arrays."""
    dataset = prepare(data)
    assert read_dataset(data.parent / "study") == dataset
    assert [scene.id for scene in dataset.scenes] == list("012345")
    assert dataset.split.sizes == (3, 1, 2)
    assert (dataset.layout, dataset.bands, dataset.dtype, dataset.gsd_m) == ("kaggle", 3, "uint8", None)
    assert (dataset.data, dataset.cache) == (data, data.parent / "cache")
    scene = dataset.scene("3")
    labels = random_labels(20, 30, seed=3)
    assert (scene.image, scene.labels, scene.height, scene.width) == ("3_sat.jpg", "3_mask.png", 20, 30)
    assert scene.class_pixels == tuple(np.bincount(labels.ravel(), minlength=7))
    np.testing.assert_array_equal(dataset.open("3").labels, labels)
    pixels = np.concatenate([dataset.open(scene).pixels.reshape(-1, 3) for scene in dataset.ids("train")])
    np.testing.assert_allclose(dataset.mean, pixels.mean(axis=0))
    np.testing.assert_allclose(dataset.std, pixels.std(axis=0))


def test_a_second_call_decodes_nothing_and_gives_the_same_record(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what it reuses; the record is not written again."""
    first = prepare(data)
    assert "0 of 6 scenes were there, 6 decoded" in capsys.readouterr().err
    path = data.parent / "study" / "dataset.json"
    written = path.stat().st_mtime_ns
    assert prepare(data) == first
    told = capsys.readouterr().err
    assert "6 of 6 scenes were there, 0 decoded" in told
    assert "dataset.json: unchanged" in told
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize("changed", ["data", "cache", "record", "new", "gone"])
def test_a_second_call_looks_at_times_and_sizes_alone(
    data: Path, changed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No scene is looked for where nothing changed; one file of any kind with another time, or a new one, is enough."""
    groups = data / "groups.csv"
    groups.write_text("id,group\n" + "".join(f"{n},{n}\n" for n in range(6)))
    first = prepare(data)
    told = capsys.readouterr().err.replace("0 of 6 scenes were there, 6 decoded", "6 of 6 scenes were there, 0 decoded")
    with monkeypatch.context() as blind:
        blind.setattr("levelground.datasets.prepare.find_scenes", None)
        assert prepare(data) == first
        assert capsys.readouterr().err == told.replace("dataset.json: written", "dataset.json: unchanged")

    def looked_for(*_: object, **__: object) -> None:
        raise LookupError

    path = {
        "data": data / "2_sat.jpg",
        "cache": next((data.parent / "cache").rglob("*.npy")),
        "record": data.parent / "study" / "dataset.json",
        "new": data / "readme.txt",
        "gone": groups,
    }[changed]
    if changed == "gone":
        path.unlink()
    else:
        path.touch()
    monkeypatch.setattr("levelground.datasets.prepare.find_scenes", looked_for)
    with pytest.raises(LookupError):
        prepare(data)


def test_a_changed_mask_is_seen(data: Path) -> None:
    """One pixel of one label: another hash of labels, of the scene alone."""
    before = prepare(data)
    labels = random_labels(20, 30, seed=2)
    labels[0, 0] = (labels[0, 0] + 1) % 6
    save(data / "2_mask.png", encode_colours(labels, DEEPGLOBE))
    after = prepare(data)
    changed = [a.id for a, b in zip(before.scenes, after.scenes, strict=True) if a.labels_sha256 != b.labels_sha256]
    assert changed == ["2"]


def test_shares_findings_and_split_are_shown(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Layout, groups, split with the word that so few decide little, class shares with a row without data."""
    prepare(data)
    told = capsys.readouterr().err
    assert "layout kaggle (detected" in told
    assert "groups from pixels: 6, with 6 scenes" in told
    assert re.search(
        r"split grouped \(chosen from the data; --split overrides\): 3 train / 1 val / 2 test; .*decide little", told
    )
    assert re.search(r"Urban land +│ +1\d\.\d\d%", told)
    assert re.search(r"no data +│ +–", told)
    assert "Test has 2 groups of scenes: so few decide little" in told


BAD = {
    "truncated image": lambda f: (f / "1_sat.jpg").write_bytes((f / "1_sat.jpg").read_bytes()[:300]),
    "empty mask": lambda f: (f / "1_mask.png").write_bytes(b""),
    "text for image": lambda f: (f / "1_sat.jpg").write_text("hello"),
    "missing mask": lambda f: (f / "1_mask.png").unlink(),
    "missing image": lambda f: (f / "1_sat.jpg").unlink(),
    "unlike sizes": lambda f: save(f / "1_mask.png", np.zeros((20, 31, 3), np.uint8)),
    "other bands": lambda f: save(f / "1_sat.jpg", noise(20, 30, 1)),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_stops_or_is_left_out(data: Path, case: str) -> None:
    """By default one line names the file and the way on; with ``skip_bad`` the scene is a finding, nothing else."""
    BAD[case](data)
    with pytest.raises(SceneError, match=r"(?s)1_(sat|mask).*--skip-bad leaves it out\.\)$") as raised:
        prepare(data)
    assert "\n" not in str(raised.value)
    assert not (data.parent / "study").exists()
    dataset = prepare(data, skip_bad=True)
    assert [scene.id for scene in dataset.scenes] == list("02345")
    (error,) = [finding for finding in dataset.findings if finding.severity == "error"]
    assert error.scene == "1"
    assert re.search("1_(sat|mask)", error.text)
    assert dataset.findings[0] == error


def test_several_bad_files_are_counted(data: Path) -> None:
    """The first is named, the others are counted."""
    (data / "1_mask.png").write_bytes(b"")
    (data / "4_mask.png").unlink()
    with pytest.raises(SceneError, match=r"1_mask\.png.* \(1 more file has problems; --skip-bad leaves them out\.\)$"):
        prepare(data)


def test_colours_that_are_no_class_stop_unless_snapped(tmp_path: Path) -> None:
    """Under an exact legend a colour one off is refused; ``snap_colours`` takes the nearest class."""
    data = tmp_path / "data"
    (data / "legend.toml").parent.mkdir()
    (data / "legend.toml").write_text(
        'name = "two"\n[[class]]\nindex = 0\nname = "a"\ncolour = "000000"\n'
        '[[class]]\nindex = 1\nname = "b"\ncolour = "FFFFFF"\n'
    )
    for number in range(4):
        save(data / "images" / f"{number}.png", noise(16, 16, seed=number))
        mask = np.repeat(255 * random_labels(16, 16, n_classes=2, seed=number)[..., None], 3, axis=2)
        mask[3, 4] = (255, 254, 255)
        save(data / "masks" / f"{number}.png", mask)
    with pytest.raises(
        LabelColourError, match=r"0\.png: 1 pixel has colour \(255, 254, 255\).*row 3, column 4.*3 more"
    ):
        prepare(data)
    assert prepare(data, snap_colours=2).legend.name == "two"
    with pytest.raises(ValidationError, match="snap_colours\n  Input should be less than or equal to 127"):
        prepare(data, snap_colours=255)


@pytest.mark.parametrize("rule", ["exact", "threshold"])
def test_a_tolerant_rule_that_accepts_everything_is_an_error(tmp_path: Path, rule: str) -> None:
    """Labels in another coding are refused with the commonest of their colours, under a wide snap and the threshold."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "legend.toml").write_text(
        f'name = "two"\nrule = "{rule}"\n[[class]]\nindex = 0\nname = "a"\ncolour = "000000"\n'
        '[[class]]\nindex = 1\nname = "b"\ncolour = "FFFFFF"\n'
    )
    for number in range(4):
        save(data / "images" / f"{number}.png", noise(16, 16, seed=number))
        mask = np.repeat(80 + 95 * random_labels(16, 16, n_classes=2, seed=number)[..., None], 3, axis=2)
        mask[:10] = 0
        save(data / "masks" / f"{number}.png", mask.astype(np.uint8))
    text = (
        r"0\.png: 38% of the pixels are more than 32 levels from every colour of 'two', the commonest \(\d+, .+guessed"
    )
    with pytest.raises(LabelColourError, match=text):
        prepare(data, snap_colours=100 if rule == "exact" else 0)


def test_images_in_folders_without_any_mask_are_passed_over(data: Path) -> None:
    """Kaggle's valid/ and test/ have no masks: a note, no error, and no split by folders."""
    for name in ("train", "valid"):
        (data / name).mkdir()
    for path in data.glob("*_*"):
        if path.is_file():
            shutil.move(path, data / "train" / path.name)
    save(data / "valid" / "9_sat.jpg", noise(20, 30, seed=9), quality=95)
    dataset = prepare(data)
    assert dataset.split.rule == "grouped"
    assert [scene.id for scene in dataset.scenes] == list("012345")
    assert "no-mask" in codes(dataset)


def test_folders_named_train_val_test_are_the_default_split(data: Path) -> None:
    """The data's own split is taken where it is whole."""
    for number, name in enumerate(["train", "train", "train", "val", "test", "test"]):
        (data / name).mkdir(exist_ok=True)
        for path in data.glob(f"{number}_*"):
            shutil.move(path, data / name / path.name)
    dataset = prepare(data)
    assert (dataset.split.rule, dataset.split.sizes) == ("folders", (3, 1, 2))
    assert dataset.ids("val") == ("3",)


def mosaic(folder: Path, names: list[str], seed: int) -> None:
    """A row of touching tiles of one picture, 256 pixels each."""
    rng = np.random.default_rng(seed)
    total = np.zeros((256, 256 * len(names), 3), np.float32)
    for octave in range(7):
        coarse = rng.normal(size=(256 // 2**octave + 1, total.shape[1] // 2**octave + 1, 3)).astype(np.float32)
        total += 3 * 1.6**octave * cv2.resize(coarse, total.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    image: NDArray[np.uint8] = np.clip(110 + total, 0, 255).astype(np.uint8)
    for number, name in enumerate(names):
        save(folder / f"{name}_sat.jpg", image[:, 256 * number : 256 * (number + 1)], quality=95)
        save(folder / f"{name}_mask.png", encode_colours(random_labels(256, 256, seed=number), DEEPGLOBE))


def test_touching_scenes_stay_together_and_a_split_that_parts_them_is_a_finding(tmp_path: Path) -> None:
    """The default keeps a mosaic in one set; ``random`` knows no pixels and parts it, which is said."""
    data = tmp_path / "data"
    mosaic(data, ["a1", "a2", "a3"], 1)
    mosaic(data, ["b1", "b2", "b3"], 2)
    mosaic(data, ["c1", "c2"], 3)
    dataset = prepare(data)
    assert {scene.id: scene.group for scene in dataset.scenes} == {
        name: f"{name[0]}1" for name in ("a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2")
    }
    assert dataset.groups_from == "pixels"
    assert "separated-group" not in codes(dataset)
    assert texts(dataset, "few-test-groups") == [
        "Test has one group of scenes: no interval can be given, and nothing can be told apart."
    ]
    assert len(texts(dataset, "touches")) == 5
    parted = prepare(data, split="random")
    assert parted.split.sizes == (4, 1, 3)
    assert any(
        re.match(r"split 'random' separates scenes that are not independent: \w\d in train", text)
        for text in texts(parted, "separated-group")
    )
    assert {scene.group for scene in parted.scenes} == {"a1", "b1", "c1"}
    assert prepare(data, groups="none").groups_from == "none"


def test_scenes_of_one_mosaic_are_split_apart_with_a_warning(tmp_path: Path) -> None:
    """Where all scenes belong together the default cannot keep them so; ``grouped`` asked for by name stops."""
    data = tmp_path / "data"
    mosaic(data, ["a1", "a2", "a3", "a4"], 1)
    dataset = prepare(data)
    assert dataset.split.rule == "random"
    assert "nearly all scenes belong together, so groups could not be kept whole" in dataset.split.text
    assert "separated-group" in codes(dataset)
    with pytest.raises(SplitError, match=r"^1 groups of scenes, expected at least 3: one each to train"):
        prepare(data, split="grouped")


def test_equal_files_are_named_and_grouped(data: Path) -> None:
    """A copy under another name: a warning, worse with another mask, and one group."""
    shutil.copy(data / "1_sat.jpg", data / "7_sat.jpg")
    shutil.copy(data / "2_mask.png", data / "7_mask.png")
    dataset = prepare(data)
    assert texts(dataset, "duplicate") == ["1, 7: the same image file, with unlike masks."]
    assert dataset.scene("1").group == dataset.scene("7").group == "1"


def test_equal_files_are_one_image_whatever_lies_beside_them(tmp_path: Path) -> None:
    """A mask of pixels without data beside one of them."""
    data = tmp_path / "data"
    data.mkdir()
    for number in range(4):
        save_raster(data / f"{number}.tif", noise(16, 16, seed=max(1, number)))
        save_raster(data / f"{number}_label.tif", random_labels(16, 16, n_classes=2)[..., None])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(data / "0.tif", "r+") as image:
        image.write_mask(np.full((16, 16), 255, np.uint8))
    dataset = prepare(data, groups="none")
    assert dataset.scene("0").image_sha256 != dataset.scene("1").image_sha256
    assert texts(dataset, "duplicate") == ["0, 1: the same image file."]


def test_groups_from_a_table(data: Path) -> None:
    """``groups.csv`` in the data folder decides."""
    (data / "groups.csv").write_text("id,group\n" + "".join(f"{n},g{n // 2}\n" for n in range(6)))
    dataset = prepare(data)
    assert dataset.groups_from == "groups.csv"
    assert {scene.group for scene in dataset.scenes} == {"g0", "g1", "g2"}
    assert dataset.split.sizes == (2, 2, 2)
    (data / "groups.csv").unlink()
    with pytest.raises(
        DataError, match=r"groups\.csv: does not exist, expected columns id,group\. Write it or choose other"
    ):
        prepare(data, groups="file")


def test_groups_from_folders(tmp_path: Path) -> None:
    """``images/`` and ``masks/`` below parent folders: parts of one folder are one group."""
    data = tmp_path / "data"
    for tile in range(3):
        for part in range(2):
            save(data / f"tile_{tile}" / "images" / f"{part}.png", noise(16, 16, seed=10 * tile + part))
            save(data / f"tile_{tile}" / "masks" / f"{part}.png", random_labels(16, 16, n_classes=3, seed=tile))
    dataset = prepare(data, groups="folders")
    assert dataset.groups_from == "folders"
    assert {scene.group for scene in dataset.scenes} == {"tile_0", "tile_1", "tile_2"}
    assert prepare(data).groups_from == "folders and pixels"


def test_a_raster_is_cut_into_strips(tmp_path: Path) -> None:
    """Blocks of one raster pair, strips with a line left out at each border, statistics of 16-bit bands."""
    data = tmp_path / "data"
    data.mkdir()
    pixels = noise(7 * 32, 5 * 32, 4, dtype="uint16") * np.uint16(200)
    labels = random_labels(7 * 32, 5 * 32, n_classes=3)
    labels[:32, :32] = 255
    save_raster(data / "area_rgbn.tif", pixels)
    save_raster(data / "area_label.tif", labels[..., None], nodata=255)
    dataset = prepare(data, block=32)
    assert (dataset.layout, dataset.dtype, dataset.bands, dataset.gsd_m) == ("raster", "uint16", 4, pytest.approx(0.6))
    assert dataset.split.rule == "strips"
    assert len(dataset.scenes) == 34
    assert len(dataset.split.left_out) == 34 - sum(dataset.split.sizes)
    assert "one-raster" in codes(dataset)
    assert dataset.groups_from == "blocks of one raster"
    scene = dataset.scenes[5]
    row, col, height, width = scene.window or (0, 0, 0, 0)
    np.testing.assert_array_equal(dataset.open(scene.id).labels, labels[row : row + height, col : col + width])
    assert "strips keep them apart" in texts(prepare(data, block=32, split="random"), "separated-group")[0]


def test_georeferenced_scenes_that_touch_on_the_map_are_one_group(tmp_path: Path) -> None:
    """Noise has no borders to match; the bounds tell."""
    data = tmp_path / "data"
    data.mkdir()
    for number in range(4):
        save_raster(data / f"{number}.tif", noise(16, 16, seed=number))
        save_raster(data / f"{number}_label.tif", random_labels(16, 16, n_classes=2, seed=number)[..., None])
    dataset = prepare(data)
    assert {scene.group for scene in dataset.scenes} == {"0"}
    assert texts(dataset, "overlaps")[0] == "0 and 1 overlap on the map."
    assert dataset.split.rule == "random"
    for number in range(4):
        save_raster(data / f"{number}.tif", noise(16, 16, seed=number), placed=False)
        labels = random_labels(16, 16, n_classes=2, seed=number)[..., None]
        save_raster(data / f"{number}_label.tif", labels, placed=False)
    assert len({scene.group for scene in prepare(data).scenes}) == 4
    assert prepare(data, split="origin").split.rule == "origin"


def test_scenes_without_labels_are_in_no_set(tmp_path: Path) -> None:
    """A mask of nothing but no data trains and tests nothing."""
    data = tmp_path / "data"
    for number in range(5):
        save(data / "images" / f"{number}.png", noise(16, 16, seed=number))
        labels = random_labels(16, 16, n_classes=3, seed=number) if number != 2 else np.full((16, 16), 255, np.uint8)
        save(data / "masks" / f"{number}.png", labels)
    dataset = prepare(data)
    assert dataset.split.left_out == ("2",)
    assert texts(dataset, "no-labels") == ["2: no pixel has a label; the scene is in no set."]
    assert texts(dataset, "left-out") == ["scenes in no set: 1 (first 2)."]
    for name, ids in {"train": "0 1", "val": "2", "test": "3 4"}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(ids.split()))
    listed = prepare(data, lists=tmp_path)
    assert listed.split.val == ("2",)
    assert texts(listed, "no-labels") == ["2: no pixel has a label; its set learns or tells nothing from it."]


def test_classes_that_never_occur_or_lack_in_a_set_are_findings(tmp_path: Path) -> None:
    """Never in the data; never in test."""
    data = tmp_path / "data"
    for number in range(4):
        labels = random_labels(16, 16, n_classes=2, seed=number)
        labels[0, 0] = 2 if number == 0 else 0
        save(data / f"{number}_sat.jpg", noise(16, 16, seed=number), quality=95)
        save(data / f"{number}_mask.png", encode_colours(labels, DEEPGLOBE))
    dataset = prepare(data)
    assert "class 'Water' never occurs." in texts(dataset, "absent-class")
    assert texts(dataset, "untested-class") == ["class 'Rangeland' has no pixel in test: it gets no score."]


def test_split_options_that_contradict_each_other_are_refused(data: Path) -> None:
    """Lists belong to the split ``lists``."""
    with pytest.raises(
        ConfigError, match=r"^--lists: no folder given, expected one with train\.txt, val\.txt and test\.txt\."
    ):
        prepare(data, split="lists")
    with pytest.raises(ConfigError, match=r"^--lists: given for --split origin\. Drop one\.$"):
        prepare(data, split="origin", lists=data)
    with pytest.raises(ConfigError, match=r"^--data .*data: given with --download kaggle\. Drop one\.$"):
        prepare(data, download="kaggle")
    with pytest.raises(ConfigError, match=r"^--data: no folder given\. Pass the folder with the scenes, or --download"):
        prepare_dataset(PrepareOptions(out=data.parent / "study"))


def test_lists_may_name_scenes_that_were_left_out(data: Path, tmp_path: Path) -> None:
    """A bad scene that ``skip_bad`` left out is no unknown scene."""
    lists = tmp_path / "lists"
    lists.mkdir()
    for name, ids in (("train", "01"), ("val", "23"), ("test", "45")):
        (lists / f"{name}.txt").write_text("".join(f"{scene}_sat.jpg\n" for scene in ids))
    (data / "1_mask.png").write_bytes(b"")
    dataset = prepare(data, lists=lists, skip_bad=True)
    assert (dataset.split.rule, dataset.split.sizes) == ("lists", (1, 2, 2))


def test_options_are_checked() -> None:
    """A seed or block out of range and an unknown field are refused by name."""
    with pytest.raises(ValidationError, match="split_seed"):
        PrepareOptions(out=Path(), split_seed=-1)
    with pytest.raises(ValidationError, match="block"):
        PrepareOptions(out=Path(), block=0)
    with pytest.raises(ValidationError, match="colour"):
        PrepareOptions(out=Path(), colour=1)  # type: ignore[call-arg]


def test_a_class_that_never_trains_is_a_warning(data: Path, tmp_path: Path) -> None:
    """A published split may leave a class to test alone; the same class in train and test, not in val, is a note."""
    lists = tmp_path / "lists"
    lists.mkdir()
    for name, ids in (("train", "01"), ("val", "23"), ("test", "45")):
        (lists / f"{name}.txt").write_text("\n".join(ids))
    for number in range(6):
        labels = np.where(random_labels(20, 30, n_classes=2, seed=number) > 0, 5, 0).astype(np.uint8)
        labels[0, 0] = {0: 3, 4: 2, 5: 3}.get(number, 0)
        save(data / f"{number}_mask.png", encode_colours(labels, DEEPGLOBE))
    dataset = prepare(data, lists=lists)
    assert texts(dataset, "untrained-class") == ["class 'Rangeland' has no pixel in train: it cannot be learnt."]
    assert texts(dataset, "unvalidated-class") == ["class 'Forest land' has no pixel in val."]


def test_many_scenes_and_findings_are_told_briefly(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beyond the limit shifted overlaps are not searched, which is said; the table of findings is cut."""
    monkeypatch.setattr("levelground.datasets.near_duplicates.MOST_OVERLAPS", 5)
    monkeypatch.setattr("levelground.datasets.quality_checks.MOST_OVERLAPS", 5)
    monkeypatch.setattr("levelground.datasets.prepare.SHOWN", 1)
    dataset = prepare(data)
    assert "no-overlap-search" in codes(dataset)
    assert f"… {len(dataset.findings) - 1} more in dataset.json" in capsys.readouterr().err


def fake_kagglehub(monkeypatch: pytest.MonkeyPatch, result: Path | Exception) -> None:
    """Put a kagglehub in place that gives a folder or fails."""
    module = types.ModuleType("kagglehub")

    def dataset_download(handle: str) -> str:
        assert handle == "balraj98/deepglobe-land-cover-classification-dataset"
        if isinstance(result, Exception):
            raise result
        return str(result)

    module.dataset_download = dataset_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)


def test_download_gives_the_data_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kagglehub fetched is prepared."""
    fake_kagglehub(monkeypatch, data)
    options = PrepareOptions(out=data.parent / "study", cache=data.parent / "cache", download="kaggle")
    assert prepare_dataset(options).data == data


def test_a_failed_download_says_how_to_get_the_data_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no access, no kagglehub: one line each."""
    options = PrepareOptions(out=tmp_path, download="kaggle")
    fake_kagglehub(monkeypatch, OSError("no route\nto host"))
    expected = f"--download kaggle: not fetched (no route to host). {BY_HAND}"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        prepare_dataset(options)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    expected = f"--download kaggle: kagglehub is not installed (pip install levelground[download]). {BY_HAND}"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        prepare_dataset(options)


def test_the_ten_real_scenes(real_data: Path, tmp_path: Path) -> None:
    """Nine groups, 482365 with 180902; the labels of 6399 hold unknown pixels, 6.9 % of the scene."""
    options = PrepareOptions(data=real_data / "deepglobe", out=tmp_path / "study", cache=tmp_path / "cache")
    dataset = prepare_dataset(options)
    groups = [scene.group for scene in dataset.scenes]
    assert len(set(groups)) == 9
    assert dataset.scene("482365").group == dataset.scene("180902").group
    assert dataset.split.sizes in {(5, 1, 4), (6, 1, 3), (5, 2, 3)}
    assert dataset.scene("6399").class_pixels[6] / 2448**2 == pytest.approx(0.069, abs=0.001)
    assert texts(dataset, "touches") == ["482365 lies left of 180902 (evidence 65)."]
