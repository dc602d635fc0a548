"""Finding pairs by name and place: namings, ids, groups, links and names that are refused."""

import os
import shlex
from pathlib import Path, PurePosixPath

import pytest
from builders.field_sets import classes_of, pixels, prepare, write, write_pairs
from pydantic import ValidationError

from levelground.errors import ConfigError, SceneError
from levelground.imagery.layouts import Naming, Pair, Pairs, find_pairs, list_files


def _touch(data: Path, *names: str) -> None:
    for name in names:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()


def _pairs(data: Path, naming: Naming, *names: str) -> Pairs:
    return find_pairs(data, map(PurePosixPath, sorted(names)), naming)


def test_files_are_listed_below_the_folder_in_order(tmp_path: Path) -> None:
    """Hidden names and other suffixes are passed over."""
    _touch(tmp_path, "b/a.tif", "a.JPG", "c.txt", ".x.png", ".hidden/a.png", "b/a.tif.aux.xml")
    files, findings = list_files(tmp_path)
    assert list(map(str, files)) == ["a.JPG", "b/a.tif"]
    assert findings == ()


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    """A file is no folder either."""
    with pytest.raises(SceneError, match=r"none: is not a folder\. Give the folder with the scenes as --data\.$"):
        list_files(tmp_path / "none")


def test_unreadable_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions do not bind the superuser, so the system's refusal is played."""
    (tmp_path / "closed").mkdir()
    really = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(os, "scandir", refuse)
    text = r"closed: folder cannot be listed \(Permission denied\)\. Give yourself permission to read it\.$"
    with pytest.raises(SceneError, match=text):
        list_files(tmp_path)


def test_names_with_line_breaks_are_refused_and_others_are_welcome(tmp_path: Path) -> None:
    """Spaces and Cyrillic are fine; a line break fits no list and no message."""
    _touch(tmp_path, "поле 1_sat.jpg", "a\nb_sat.jpg", "c\td/1_sat.jpg")
    files, findings = list_files(tmp_path)
    assert list(map(str, files)) == ["поле 1_sat.jpg"]
    said = "the name has a line break or another control character. Rename the"
    assert sorted((f.severity, f.code, f.text) for f in findings) == [
        ("error", "name", rf"'a\nb_sat.jpg': {said} file."),
        ("error", "name", rf"'c\td': {said} folder."),
    ]
    (tmp_path / "a\nb_sat.jpg").rename(tmp_path / "ab_sat.jpg")
    (tmp_path / "c\td").rename(tmp_path / "cd")
    assert list_files(tmp_path)[1] == ()


def test_links_that_leave_the_folder_or_lead_nowhere_are_refused(tmp_path: Path) -> None:
    """Links within the folder are followed for files."""
    data, outside = tmp_path / "data", tmp_path / "outside"
    _touch(tmp_path, "data/a_sat.jpg", "outside/b_sat.jpg")
    (data / "in_sat.jpg").symlink_to(data / "a_sat.jpg")
    (data / "out_sat.jpg").symlink_to(outside / "b_sat.jpg")
    (data / "lost_sat.jpg").symlink_to(outside / "none.jpg")
    (data / "far").symlink_to(outside)
    (data / "near").symlink_to(data)
    files, findings = list_files(data)
    assert list(map(str, files)) == ["a_sat.jpg", "in_sat.jpg"]
    assert sorted(f.text.removeprefix(f"{data}/") for f in findings) == [
        f"far: is a link that leaves the data folder (to {outside}). Copy what it points to, or give that folder.",
        f"lost_sat.jpg: is a link to {outside}/none.jpg, which does not exist. Mend or remove it.",
        f"out_sat.jpg: is a link that leaves the data folder (to {outside}/b_sat.jpg). Copy what it points to, or give "
        "that folder.",
    ]


def test_data_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    """Only links below it are looked at."""
    _touch(tmp_path, "real/a_sat.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert list_files(tmp_path / "link") == ((PurePosixPath("a_sat.jpg"),), ())


def test_kaggle_ids_are_the_numbers_where_they_are_unique(tmp_path: Path) -> None:
    """Below train/ too; order is that of file names, where 1190_sat comes before 119_sat."""
    found = _pairs(
        tmp_path, "kaggle", *("train/119_sat.jpg", "train/119_mask.png", "train/1190_sat.jpg", "val/7_sat.jpg")
    )
    assert found.pairs == (
        Pair("1190", tmp_path / "train/1190_sat.jpg", None, "1190"),
        Pair("119", tmp_path / "train/119_sat.jpg", tmp_path / "train/119_mask.png", "119"),
        Pair("7", tmp_path / "val/7_sat.jpg", None, "7"),
    )
    assert found.labelled == 1


def test_kaggle_ids_keep_their_folders_where_numbers_repeat(tmp_path: Path) -> None:
    """An id is a path then, and folders are groups."""
    found = _pairs(tmp_path, "kaggle", "a/1_sat.jpg", "b/1_sat.jpg", "b/2_sat.jpg")
    assert [(pair.id, pair.group) for pair in found.pairs] == [("a/1", "a"), ("b/1", "b"), ("b/2", "b")]


def test_folders_below_parents_make_groups(tmp_path: Path) -> None:
    """Names repeat from tile to tile; the id is the path without images/."""
    names = [f"tile_{n}/{kind}/part_{k}.{end}" for n in (1, 2) for k in (1, 2) for kind, end in
             (("images", "jpg"), ("masks", "png"))]  # fmt: skip
    found = _pairs(tmp_path, "folders", *names)
    assert [(pair.id, pair.group) for pair in found.pairs] == [
        ("tile_1/part_1", "tile_1"),
        ("tile_1/part_2", "tile_1"),
        ("tile_2/part_1", "tile_2"),
        ("tile_2/part_2", "tile_2"),
    ]  # fmt: skip
    assert found.pairs[0].mask == tmp_path / "tile_1/masks/part_1.png"


def test_folders_named_after_splits_are_no_groups(tmp_path: Path) -> None:
    """train/ and val/ say nothing about which scenes belong together."""
    found = _pairs(tmp_path, "folders", "train/images/a.jpg", "val/images/b.jpg", "train/masks/a.png")
    assert [(pair.id, pair.group) for pair in found.pairs] == [("train/a", "train/a"), ("val/b", "val/b")]


def test_one_pair_of_folders_makes_each_scene_its_own_group(tmp_path: Path) -> None:
    """A single folder would be a single group."""
    found = _pairs(tmp_path, "folders", "x/images/a.jpg", "x/images/b.jpg", "x/masks/a.png")
    assert [pair.group for pair in found.pairs] == ["x/a", "x/b"]


def test_masks_in_folders_may_end_in_mask_or_label(tmp_path: Path) -> None:
    """``a_mask.png`` belongs to ``a.jpg``."""
    found = _pairs(tmp_path, "folders", "images/a.jpg", "labels/a_mask.png", "images/b.jpg", "labels/b-label.png")
    assert [pair.mask for pair in found.pairs] == [tmp_path / "labels/a_mask.png", tmp_path / "labels/b-label.png"]


def test_label_rasters_find_their_image_by_the_beginning_of_its_name(tmp_path: Path) -> None:
    """Exactly the base, or the base and a word more."""
    found = _pairs(tmp_path, "suffix", "a_rgbn.tif", "a_label.tif", "b.tif", "b_labels.tif", "b_dsm.tif")
    assert [(pair.id, pair.mask) for pair in found.pairs] == [
        ("a_rgbn", tmp_path / "a_label.tif"),
        ("b", tmp_path / "b_labels.tif"),
        ("b_dsm", None),
    ]


@pytest.mark.parametrize(
    ("naming", "names", "code", "text"),
    [
        (
            "kaggle",
            ["1_mask.png", "2_sat.jpg", "2_mask.png"],
            "missing-image",
            "1_mask.png: mask without an image. Add the image or remove the mask.",
        ),
        (
            "folders",
            ["images/a.jpg", "images/a.png", "masks/a.png"],
            "ambiguous",
            "images/a.jpg: 2 images fit each other (images/a.jpg, images/a.png). Keep one of them.",
        ),
        (
            "kaggle",
            ["1_sat.jpg", "1_mask.png", "1_mask.tif"],
            "ambiguous",
            "1_sat.jpg: 2 masks fit each other (1_mask.png, 1_mask.tif). Keep one of them.",
        ),
        (
            "suffix",
            ["a_rgb.tif", "a_nir.tif", "a_label.tif"],
            "ambiguous",
            "a_nir.tif: 2 images fit each other (a_nir.tif, a_rgb.tif). Keep one of them.",
        ),
    ],
)
def test_missing_and_doubled_partners_are_errors(
    tmp_path: Path, naming: Naming, names: list[str], code: str, text: str
) -> None:
    """Nothing is guessed."""
    (finding,) = _pairs(tmp_path, naming, *names).findings
    assert (finding.severity, finding.code, finding.text) == ("error", code, f"{tmp_path}/{text}")


@pytest.mark.parametrize(
    ("image", "label", "images", "labels"),
    [
        (
            "Train/Rural/images_png/{}.tif",
            "Train/Rural/masks_png/{}.tif",
            "*/*/images_png/*.tif",
            "*/*/masks_png/*.tif",
        ),
        ("aerial/IMG_{}.tif", "labels/MSK_{}.tif", "aerial/IMG_{id}.tif", "labels/MSK_{id}.tif"),
        ("x/a_{}_merged.tif", "x/a_{}.mask.tif", "**/*_merged.tif", "**/*.mask.tif"),
        ("S2/G_{}_S2.tif", "L/G_{}_L.tif", "S2/{a}_{n}_S2.tif", "L/{a}_{n}_L.tif"),
        ("m_{}_naip.tif", "truth/m_{}_lc.tif", "m_{id}_naip.tif", "**/m_{id}_lc.tif"),
        ("area{}_s2.tif", "area{}_label.tif", "area*_s2.tif", "area*_label.tif"),
        ("2021/p{}/b.tif", "ref/p{}.tif", "*/{p}/b.tif", "ref/{p}.tif"),
    ],
)
def test_patterns_pair_what_nobody_guessed(tmp_path: Path, image: str, label: str, images: str, labels: str) -> None:
    """Counts of each class are the truth's; other rasters beside are left alone."""
    truth = write_pairs(tmp_path / "data", image=image, label=label)
    for number in range(3):
        write(tmp_path / f"data/area{number}_dem.tif", classes_of(number).astype("float32"), number)
    dataset = prepare(tmp_path / "data", images=images, labels=labels)
    assert (len(dataset.scenes), pixels(dataset)) == (6, truth.tolist())


def test_a_refusal_says_what_was_found_and_its_patterns_work(tmp_path: Path) -> None:
    """The patterns in the message, followed."""
    truth = write_pairs(tmp_path / "data", image="area{}_s2.tif", label="area{}_label.tif")
    for number in range(6):
        write(tmp_path / f"data/area{number}_dem.tif", classes_of(number).astype("float32"), number)
    with pytest.raises(
        SceneError, match=r"Found: \*_dem\.tif \(6\), \*_label\.tif \(6\), \*_s2\.tif \(6\)\."
    ) as caught:
        prepare(tmp_path / "data")
    flags = shlex.split(str(caught.value).partition("such as ")[2].partition(", or")[0])
    dataset = prepare(tmp_path / "data", images=flags[1], labels=flags[3])
    assert pixels(dataset) == truth.tolist()


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        ("a/*.tif", "labels/*.tif", r"--images 'a/\*\.tif': fits no file\. Found: images/\*\.tif \(6\)"),
        ("images/{id}.tif", "labels/*.tif", r"the first captures \{id\}, the second 1 wildcard\. Capture the same"),
        ("images/*.tif", "labels/*/*.tif", "the first captures 1 wildcard, the second 2 wildcards"),
        ("images/{id}{id}.tif", "labels/{id}.tif", r"\{id\} stands twice"),
        ("images/*.tif", "labels/*0.tif", r"no image and mask belong together: the images are read as s0 …"),
        ("images/*.tif", None, r"--images 'images/\*\.tif': given without --labels\. Pass both patterns\."),
    ],
)
def test_patterns_that_pair_nothing_are_refused(tmp_path: Path, images: str, labels: str | None, says: str) -> None:
    """One line that says how they were read."""
    write_pairs(tmp_path / "data")
    with pytest.raises((ConfigError, ValidationError), match=says):
        prepare(tmp_path / "data", images=images, labels=labels)
