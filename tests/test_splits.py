"""Splits: the origin's, published lists, folders, random by groups, strips of a raster."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from levelground.datasets.splits import (
    Split,
    folders_split,
    group_counts,
    lists_split,
    origin_split,
    random_split,
    separated_groups,
    split_folder,
    strips_split,
)
from levelground.errors import SplitError


def write_lists(folder: Path, **lists: list[str]) -> Path:
    """Write list files and give their folder."""
    folder.mkdir(exist_ok=True)
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def same_pixels(ids: list[str]) -> dict[str, tuple[int, ...]]:
    """The same class shares everywhere."""
    return dict.fromkeys(ids, (50, 50))


def reference(names: list[str]) -> tuple[list[str], list[str], list[str]]:
    """The origin study's own two calls."""
    rest, test = train_test_split(sorted(names), test_size=0.1, random_state=42)
    train, val = train_test_split(rest, test_size=0.2, random_state=42)
    return train, val, test


@pytest.mark.parametrize("n", [3, 5, 10, 100, 803])
def test_origin_is_scikit_learns_split_of_the_sorted_file_names(n: int) -> None:
    """The same ids in the same order as the origin's two calls, from numbers of unlike length."""
    ids = [str(number) for number in np.random.default_rng(n).choice(1_000_000, n, replace=False)]
    train, val, test = reference([f"{scene}_sat.jpg" for scene in ids])
    split = origin_split(ids)
    ours = [[f"{scene}_sat.jpg" for scene in part] for part in (split.train, split.val, split.test)]
    assert [train, val, test] == ours
    assert (split.rule, split.seed) == ("origin", 42)


def test_origin_gives_577_145_81_on_the_803_scenes(real_data: Path) -> None:
    """On the ids of DeepGlobe's 803 labelled scenes the sizes and ids are the origin study's."""
    lists = real_data / "deepglobe-lists" / "glnet"
    names = [name for file in sorted(lists.glob("*.txt")) for name in file.read_text().split()]
    split = origin_split(name.removesuffix("_sat.jpg") for name in names)
    assert split.sizes == (577, 145, 81)
    assert tuple(f"{scene}_sat.jpg" for scene in split.test) == tuple(reference(names)[2])


def test_lists_of_glnet_are_read(real_data: Path) -> None:
    """GLNet's own lists give 454/207/142."""
    lists = real_data / "deepglobe-lists" / "glnet"
    ids = [n.removesuffix("_sat.jpg") for file in lists.glob("*.txt") for n in file.read_text().split()]
    split = lists_split(lists, ids)
    assert split.sizes == (454, 207, 142)
    assert split.text == "lists in glnet"


def test_lists_name_scenes_by_file_name_id_or_path(tmp_path: Path) -> None:
    """A line may be a file name, an id or a path; scenes that no list names are left out."""
    folder = write_lists(tmp_path / "l", train=["1_sat.jpg", ""], crossvali=["2"], test=["a/b/3.png"])
    split = lists_split(folder, ["train/1", "train/2", "a/b/3", "a/c/9"])
    assert split == Split(("train/1",), ("train/2",), ("a/b/3",), "lists", left_out=("a/c/9",), text="lists in l")


@pytest.mark.parametrize(
    "lines",
    [
        ["images/1_sat.jpg masks/1_mask.png", "images/2_sat.jpg masks/2_mask.png"],
        ["image,mask", "1_sat.jpg,1_mask.png", "2_sat.jpg,2_mask.png"],
        ["# made by hand", "", "/home/me/deepglobe/train/1_sat.jpg  # the first", "./2_sat.jpg"],
        ["D:\\\\data\\\\train\\\\1_sat.jpg", "2"],
        ["id\tsplit", "1\ttrain", "2\ttrain"],
        ["1;0.25", "2;0.75"],
    ],
)
def test_lists_have_paths_columns_and_comments(tmp_path: Path, lines: list[str]) -> None:
    """As other tools write them; what is beside a scene's name does not matter."""
    folder = write_lists(tmp_path / "l", train=lines, val=["3"], test=["a/4"])
    assert lists_split(folder, ["1", "2", "3", "a/4"], absent=["5"]).train == ("1", "2")


def test_two_scenes_in_a_line_are_refused(tmp_path: Path) -> None:
    """Image and mask of unlike scenes."""
    folder = write_lists(tmp_path / "l", train=["1_sat.jpg 2_mask.png"], val=["2"], test=["3"])
    with pytest.raises(SplitError, match=r"'1_sat\.jpg 2_mask\.png' names '1' and '2', expected one\. Mend the line"):
        lists_split(folder, ["1", "2", "3"])


def test_lists_pass_over_scenes_known_to_be_unusable(tmp_path: Path) -> None:
    """What --skip-bad left out is no unknown scene."""
    folder = write_lists(tmp_path / "l", train=["1", "4_sat.jpg"], val=["2"], test=["3"])
    assert lists_split(folder, ["1", "2", "3"], absent=["4"]).train == ("1",)


LIST_ERRORS = {
    "unknown": (
        {"train": ["1", "8_sat.jpg", "9"], "val": ["2"], "test": ["3"]},
        "train.txt: names '8_sat.jpg' and 1 more, not among the scenes of the data. Correct the list or --data.",
    ),
    "two sets": (
        {"train": ["1", "2"], "val": ["2"], "test": ["3"]},
        "split 'lists': scene '2' is in train and in val, expected in one set. Remove it from one.",
    ),
    "empty": (
        {"train": ["1", "2"], "val": [], "test": ["3"]},
        "split 'lists': no scene in val, expected at least one. Add scenes to it.",
    ),
    "twice": (
        {"train": ["1", "1_sat.jpg"], "val": ["2"], "test": ["3"]},
        "train.txt: '1_sat.jpg' is listed twice, expected once. Remove one line.",
    ),
    "missing": (
        {"train": ["1"], "test": ["3"]},
        "no val.txt or crossvali.txt or valid.txt there, expected one file name a line. Check --lists.",
    ),
    "ambiguous": (
        {"train": ["x"], "val": ["2"], "test": ["3"]},
        "train.txt: 'x' may be 'a/x' or 'b/x'. Write the whole id.",
    ),
}


@pytest.mark.parametrize("case", LIST_ERRORS)
def test_wrong_lists_are_refused(tmp_path: Path, case: str) -> None:
    """Each fault of a list has its one line."""
    lists, text = LIST_ERRORS[case]
    with pytest.raises(SplitError, match=re.escape(text) + "$"):
        lists_split(write_lists(tmp_path / "l", **lists), ["1", "2", "3", "a/x", "b/x"])


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A binary file is named with its reason."""
    folder = write_lists(tmp_path / "l", val=["2"], test=["3"])
    (folder / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SplitError, match=r"train\.txt: unreadable split list \(.*\)\. Expected UTF-8, one file name a"):
        lists_split(folder, ["1"])


def test_folders_are_the_split() -> None:
    """train/, valid/ and test/ at any depth, in any case; the rest is left out."""
    places = {"a": "train/a.jpg", "b": "images/Valid/b.jpg", "c": "test/x/c.jpg", "d": "d.jpg"}
    assert folders_split(places) == Split(("a",), ("b",), ("c",), "folders", ("d",), text="the data's own folders")
    assert split_folder("train.jpg") is None


def test_folders_without_a_set_are_refused() -> None:
    """Kaggle's DeepGlobe has masks below train/ only: no folder split."""
    text = (
        "split 'folders': no labelled scene below val/ or test/, expected train/, val/ and test/ in the data folder. "
        "Choose another --split."
    )
    with pytest.raises(SplitError, match=f"^{re.escape(text)}$"):
        folders_split({"a": "train/a.jpg", "b": "train/b.jpg"})


@pytest.mark.parametrize(
    ("n", "expected"), [(3, (1, 1, 1)), (4, (1, 1, 2)), (10, (6, 1, 3)), (80, (48, 8, 24)), (803, (562, 80, 161))]
)
def test_default_sizes(n: int, expected: tuple[int, int, int]) -> None:
    """About 60/10/30 for few groups and 70/10/20 for many."""
    assert group_counts(n) == expected


def test_random_keeps_groups_together_and_repeats() -> None:
    """A group is in one set; the seed decides; the order of scenes does not."""
    ids = [f"s{number:02}" for number in range(40)]
    groups = {scene: f"g{number // 3}" for number, scene in enumerate(ids)}
    split = random_split(groups, same_pixels(ids), seed=3)
    assert separated_groups(split.sets, groups) == {}
    assert sorted(split.train + split.val + split.test) == ids
    assert random_split(dict(reversed(groups.items())), same_pixels(ids), seed=3) == split
    assert random_split(groups, same_pixels(ids), seed=4).test != split.test
    assert split.text == "groups of scenes drawn at random, seed 3, by class shares"


def test_random_is_stratified_by_class_shares() -> None:
    """With 200 scenes every class has about its share in every set; an unstratified draw is further off."""
    rng = np.random.default_rng(0)
    ids = [f"{number:03}" for number in range(200)]
    pixels = {scene: tuple(int(v) for v in rng.dirichlet([0.05] * 6) * 1e6) for scene in ids}
    total = np.sum([pixels[scene] for scene in ids], axis=0)

    def worst(split: Split) -> float:
        shares = [np.sum([pixels[s] for s in split.ids(name)], axis=0) / total for name in ("train", "val", "test")]
        return float(np.max(np.abs(np.array(shares) - np.array([[0.7], [0.1], [0.2]]))))

    drawn = random_split({scene: scene for scene in ids}, pixels, seed=1)
    unstratified = random_split({scene: scene for scene in ids}, dict.fromkeys(ids, (1,)), seed=1)
    assert drawn.sizes == (140, 20, 40)
    assert worst(drawn) < 0.06 < worst(unstratified)


def test_random_trains_on_the_only_group_of_a_class() -> None:
    """A class that one group holds goes to train, for no other set could use it."""
    ids = [str(number) for number in range(10)]
    pixels = {scene: (100, 5 if scene == "7" else 0) for scene in ids}
    assert all("7" in random_split({s: s for s in ids}, pixels, seed=seed).train for seed in range(20))


def test_too_few_groups_are_refused() -> None:
    """Two groups make no three sets, however many scenes they hold."""
    text = (
        "2 groups of scenes, expected at least 3: one each to train, validate and test. "
        "Add scenes, or choose other --groups."
    )
    with pytest.raises(SplitError, match=f"^{re.escape(text)}$"):
        random_split({str(n): "ab"[n % 2] for n in range(10)}, same_pixels([str(n) for n in range(10)]))
    with pytest.raises(SplitError, match=r"^2 scenes, expected at least 3: one each to train, validate and test\."):
        origin_split(["1", "2"])


def blocks(n_rows: int, n_cols: int) -> dict[str, tuple[int, int, int, int]]:
    """A grid of blocks of 256 pixels."""
    return {f"r{row}c{col}": (row * 256, col * 256, 256, 256) for row in range(n_rows) for col in range(n_cols)}


def test_strips_leave_one_line_of_blocks_out_at_each_border() -> None:
    """Blocks of unlike sets never touch, corners included, and each set is contiguous."""
    windows = blocks(7, 7)
    split = strips_split(windows, same_pixels(list(windows)))
    assert split.sizes == (21, 7, 7)
    assert len(split.left_out) == 14
    where = {scene: name for name in ("train", "val", "test") for scene in split.ids(name)}
    for a, (row_a, col_a, *_) in windows.items():
        for b, (row_b, col_b, *_) in windows.items():
            if abs(row_a - row_b) <= 256 and abs(col_a - col_b) <= 256 and a in where and b in where:
                assert where[a] == where[b]
    assert (
        split.text == "strips of one raster from top to bottom: train, val, test; one line of blocks left out "
        "at each border"
    )


def test_strips_choose_the_direction_and_order_that_spread_the_classes() -> None:
    """A class in the leftmost columns only decides the direction: strips run along its line, not across."""
    windows = blocks(9, 9)
    pixels = {scene: (100, 100 if window[1] == 0 else 0) for scene, window in windows.items()}
    split = strips_split(windows, pixels)
    assert "from top to bottom" in split.text
    pixels = {scene: (100, 100 if window[0] == 0 else 0) for scene, window in windows.items()}
    assert "from left to right" in strips_split(windows, pixels).text


def test_a_raster_of_few_blocks_is_refused() -> None:
    """Fewer than five lines each way cannot hold three strips with two borders."""
    text = "the raster has fewer than 5 lines of blocks each way, too few for 3 strips. Lower --block, such as "
    with pytest.raises(SplitError, match=f"^{re.escape(text)}--block 204\\.$"):
        strips_split(blocks(4, 4), same_pixels(list(blocks(4, 4))))
    assert "from left to right" in strips_split(blocks(1, 5), same_pixels(list(blocks(1, 5)))).text
