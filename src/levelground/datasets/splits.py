"""Split scenes into train, val and test: by lists, by folders, at random by group, or in strips of a raster.

A split works on ids only and never looks at pixels; groups and class shares are handed in. Every split is a function
of its arguments alone: the order in which scenes were found changes nothing.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from levelground.errors import SplitError
from levelground.imagery.geotiff import Window
from levelground.imagery.layouts import SPLIT_FOLDERS, scenes_of_path
from levelground.reading import read_text
from levelground.records import sha256_json

SplitName = Literal["train", "val", "test"]

SPLIT_NAMES: tuple[SplitName, ...] = ("train", "val", "test")
LIST_FILES: dict[SplitName, tuple[str, ...]] = {
    "train": ("train.txt",),
    "val": ("val.txt", "crossvali.txt", "valid.txt"),
    "test": ("test.txt",),
}

Content = NDArray[np.int64]  # (groups, classes + 1): pixels of each class, then the number of scenes

DRAWS = 1024
NEVER_TRAINED = 10.0  # outweighs any imbalance of shares: a class without training pixels cannot be learnt
EMPTY = 1000.0  # outweighs all else: a set needs a scene
MANY = 30  # test groups; below, Student's t and the jackknife give wide intervals


@dataclass(frozen=True)
class Split:
    """Three sets of scene ids, and how they came about.

    Raises:
        SplitError: A set is empty, or a scene is in two of them.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    rule: str
    left_out: tuple[str, ...] = ()
    seed: int | None = None
    text: str = ""
    folds: tuple[tuple[str, ...], ...] = ()
    """Test scenes of each fold, where every scene is a test scene once: then each fold has its own train and val."""

    def __post_init__(self) -> None:
        where: dict[str, str] = {}
        if self.folds and sorted(scene for fold in self.folds for scene in fold) != sorted(self.test):
            raise SplitError(f"split {self.rule!r}: the folds are not the test scenes, each once. Run prepare again.")
        for name in SPLIT_NAMES:
            ids = self.ids(name)
            if not ids and not self.folds:
                raise SplitError(f"split {self.rule!r}: no scene in {name}, expected at least one. Add scenes to it.")
            for scene in ids:
                if scene in where:
                    raise SplitError(
                        f"split {self.rule!r}: scene {scene!r} is in {where[scene]} and in {name}, "
                        "expected in one set. Remove it from one."
                    )
                where[scene] = name

    def ids(self, name: SplitName) -> tuple[str, ...]:
        """Return the ids of one set."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    @property
    def sets(self) -> dict[str, tuple[str, ...]]:
        """The sets that must not share a group, by name: train, val and test, or the folds."""
        if self.folds:
            return {f"fold {number}": ids for number, ids in enumerate(self.folds, start=1)}
        return {name: self.ids(name) for name in SPLIT_NAMES}

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of scenes in train, val and test."""
        return len(self.train), len(self.val), len(self.test)

    def digest(self) -> str:
        """Hash the three sets with SHA-256; the order of ids within a set plays no part.

        Example:
            >>> Split(("a", "b"), ("c",), ("d",), "x").digest() == Split(("b", "a"), ("c",), ("d",), "y").digest()
            True
        """
        content: dict[str, object] = {name: sorted(self.ids(name)) for name in SPLIT_NAMES}
        if self.folds:
            content["folds"] = [sorted(fold) for fold in self.folds]
        return sha256_json(content)


@dataclass(frozen=True)
class GroupTable:
    """The groups of scenes, by name in order.

    Attributes:
        members: The scenes of each group.
        content: What each group holds, ``(groups, classes + 1)``.
    """

    members: tuple[tuple[str, ...], ...]
    content: Content

    def scenes(self, chosen: Sequence[int] | NDArray[np.intp]) -> tuple[str, ...]:
        """Return the scenes of some groups, sorted."""
        return tuple(sorted(scene for number in chosen for scene in self.members[int(number)]))


def origin_split(ids: Iterable[str]) -> Split:
    """Split as the origin study does: a tenth for test, then a fifth of the rest for validation.

    Equal to scikit-learn's ``train_test_split`` with ``random_state=42`` on the ids sorted by *file name*
    (``119_sat.jpg`` comes after ``119012_sat.jpg``), without importing it; the sets keep its order.

    Args:
        ids: Scene ids, at least 3.
    Raises:
        SplitError: Fewer than 3 scenes.
    Example:
        >>> origin_split(str(number) for number in range(10)).test
        ('8',)
    """
    ordered = sorted(ids, key=lambda scene: f"{scene}_sat.jpg")
    _require_three(len(ordered), "scenes")
    rest, test = _shuffled(ordered, 0.1)
    train, val = _shuffled(rest, 0.2)
    return Split(tuple(train), tuple(val), tuple(test), "origin", seed=42, text="the origin study's split")


def _shuffled(ids: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """Shuffle as scikit-learn's ``ShuffleSplit`` with seed 42: the head of a permutation is the second part."""
    n_second = math.ceil(share * len(ids))
    order = np.random.RandomState(42).permutation(len(ids))
    return [ids[i] for i in order[n_second:]], [ids[i] for i in order[:n_second]]


def lists_split(folder: Path, ids: Iterable[str], *, absent: Iterable[str] = ()) -> Split:
    """Read a split published as text files: ``train.txt``, ``val.txt`` or ``crossvali.txt``, ``test.txt``.

    Args:
        folder: The folder with the three files, each with one file name a line.
        ids: The scenes at hand. Those in no file are left out.
        absent: Scenes known to be unusable; lines that name them are ignored.
    Raises:
        SplitError: A file is missing or unreadable, names a scene that is not in the data, or names one twice.
    """
    known, gone = sorted(set(ids)), _by_name(absent)
    by_name = _by_name(known)
    sets: dict[SplitName, tuple[str, ...]] = {}
    for name, files in LIST_FILES.items():
        path = next((folder / file for file in files if (folder / file).is_file()), None)
        if path is None:
            raise SplitError(f"{folder}: no {' or '.join(files)} there, expected one file name a line. Check --lists.")
        sets[name] = tuple(_listed(path, by_name, gone))
    taken = {scene for scenes in sets.values() for scene in scenes}
    left_out = tuple(scene for scene in known if scene not in taken)
    text = f"lists in {folder.name or folder}"
    return Split(sets["train"], sets["val"], sets["test"], "lists", left_out=left_out, text=text)


def _by_name(ids: Iterable[str]) -> dict[str, list[str]]:
    """Index scenes by full id and by the last part of it, as lists name them."""
    found: dict[str, list[str]] = {}
    for scene in ids:
        for name in {scene, PurePosixPath(scene).name}:
            found.setdefault(name, []).append(scene)
    return found


def _listed(path: Path, by_name: Mapping[str, list[str]], gone: Mapping[str, list[str]]) -> list[str]:
    """Read the ids that one list file names."""
    try:
        lines = read_text(path, "utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise SplitError(f"{path}: unreadable split list ({error}). Expected UTF-8, one file name a line.") from error
    scenes: list[str] = []
    unknown: list[str] = []
    rows = [line for line in (_COMMENT.sub("", line).strip() for line in lines) if line]
    for number, line in enumerate(rows):
        scene, absent = _named(line, by_name, gone, path)
        if scene in scenes:
            raise SplitError(f"{path}: {line!r} is listed twice, expected once. Remove one line.")
        if scene is not None:
            scenes.append(scene)
        elif not absent and (number or _HEADINGS.isdisjoint(_COLUMNS.split(line.lower()))):
            unknown.append(line)
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise SplitError(
            f"{path}: names {unknown[0]!r}{more}, not among the scenes of the data. Correct the list or --data."
        )
    return scenes


_COMMENT = re.compile(r"(^|\s)#.*")
_COLUMNS = re.compile(r"\s*[,;\t]\s*|\s+")
_HEADINGS = frozenset(("id", "name", "file", "filename", "scene", "path", "image", "images", "mask", "label"))


def _named(
    line: str, by_name: Mapping[str, list[str]], gone: Mapping[str, list[str]], path: Path
) -> tuple[str | None, bool]:
    """Find the scene of a line, itself or its columns, and tell whether the line names an unusable one."""
    words = [line] if scenes_of_path(line, by_name) or scenes_of_path(line, gone) else _COLUMNS.split(line)
    matches = [found for word in words if (found := scenes_of_path(word, by_name))]
    for first, *others in matches:
        if others:
            raise SplitError(f"{path}: {line!r} may be {first!r} or {others[0]!r}. Write the whole id.")
        if first != matches[0][0]:
            raise SplitError(f"{path}: {line!r} names {matches[0][0]!r} and {first!r}, expected one. Mend the line.")
    return (matches[0][0] if matches else None), any(scenes_of_path(word, gone) for word in words)


def split_folder(path: str) -> SplitName | None:
    """Return the set that a path's folders name (``train/``, ``val/`` or ``valid/``, ``test/``), or ``None``.

    Example:
        >>> split_folder("images/val/119.jpg"), split_folder("images/119.jpg")
        ('val', None)
    """
    folders = (part.lower() for part in PurePosixPath(path).parts[:-1])
    return next((SPLIT_FOLDERS[folder] for folder in folders if folder in SPLIT_FOLDERS), None)


def folders_split(paths: Mapping[str, str]) -> Split:
    """Split as the data's own folders do.

    Args:
        paths: Path of each scene's image below the data folder, by id.
    Raises:
        SplitError: One of the three folders has no scene.
    """
    sets: dict[SplitName | None, list[str]] = {"train": [], "val": [], "test": [], None: []}
    for scene in sorted(paths):
        sets[split_folder(paths[scene])].append(scene)
    lacking = [str(name) for name in SPLIT_NAMES if not sets[name]]
    if lacking:
        raise SplitError(
            f"split 'folders': no labelled scene below {' or '.join(f'{name}/' for name in lacking)}, expected train/, "
            "val/ and test/ in the data folder. Choose another --split."
        )
    train, val, test = (tuple(sets[name]) for name in SPLIT_NAMES)
    return Split(train, val, test, "folders", left_out=tuple(sets[None]), text="the data's own folders")


def random_split(
    groups: Mapping[str, str],
    class_pixels: Mapping[str, Sequence[int]],
    *,
    seed: int = 0,
    counts: tuple[int, int, int] | None = None,
    rule: str = "random",
    what: str = "",
) -> Split:
    """Draw a seeded split of whole groups, stratified by class shares.

    Of many random draws, the one whose sets come nearest to the class shares and sizes is kept (:func:`draw_groups`).

    Args:
        groups: Group of each scene, by id.
        class_pixels: Pixels of each class, by id.
        seed: From 0 to 2**32 - 1.
        counts: Number of groups for train, val and test; default :func:`group_counts`.
        rule: Name of the rule, ``random``, ``grouped`` or ``blocks``.
        what: What is drawn, in words; by default scenes, or groups of them.
    Raises:
        SplitError: Fewer than 3 groups.
    """
    table = group_table(groups, class_pixels)
    n_groups = len(table.members)
    parts = draw_groups(table.content, counts or group_counts(n_groups), seed=seed)
    train, val, test = (table.scenes(part) for part in parts)
    what = what or ("scenes" if n_groups == len(groups) else "groups of scenes")
    return Split(train, val, test, rule, seed=seed, text=f"{what} drawn at random, seed {seed}, by class shares")


def group_table(groups: Mapping[str, str], class_pixels: Mapping[str, Sequence[int]]) -> GroupTable:
    """Count what each group holds.

    Args:
        groups: Group of each scene, by id.
        class_pixels: Pixels of each class, by id.
    """
    members: dict[str, list[str]] = {}
    for scene in sorted(groups):
        members.setdefault(groups[scene], []).append(scene)
    names = sorted(members)
    content = [[*np.sum([class_pixels[s] for s in members[name]], axis=0), len(members[name])] for name in names]
    return GroupTable(tuple(tuple(members[name]) for name in names), np.array(content))


def strips_split(windows: Mapping[str, Window], class_pixels: Mapping[str, Sequence[int]]) -> Split:
    """Split blocks of one raster into three contiguous strips, one line of blocks left out at each border.

    Both directions, all borders and all orders of the three sets are tried; the one nearest to even class shares and to
    the sizes of :func:`group_counts` is kept, so there is no seed.

    Args:
        windows: ``(row, col, height, width)`` of each block in the raster, by id.
        class_pixels: Pixels of each class, by id.
    Raises:
        SplitError: Fewer than 5 lines of blocks in both directions.
    """
    ids = np.array(sorted(windows))
    content = np.array([[*class_pixels[scene], 1] for scene in ids])
    found: list[tuple[float, Split]] = []
    for axis, direction in ((0, "from top to bottom"), (1, "from left to right")):
        _, lines = np.unique([windows[scene][axis] for scene in ids], return_inverse=True)
        best = strips(content, lines)
        if best is None:
            continue
        score, which, order = best
        train, val, test, left_out = (tuple(ids[which == part].tolist()) for part in (0, 1, 2, -1))
        names = ", ".join(SPLIT_NAMES[part] for part in order)
        text = f"strips of one raster {direction}: {names}; one line of blocks left out at each border"
        found.append((score, Split(train, val, test, "strips", left_out=left_out, text=text)))
    if not found:
        most = max(max(w[axis] + w[axis + 2] for w in windows.values()) for axis in (0, 1)) // 5
        text = "the raster has fewer than 5 lines of blocks each way, too few for 3 strips. Lower --block, such as"
        raise SplitError(f"{text} --block {max(1, most)}.")
    return min(found, key=lambda pair: pair[0])[1]


def separated_groups(sets: Mapping[str, Sequence[str]], groups: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Find groups whose scenes are in more than one set, or in more than one fold.

    Args:
        sets: Scenes of each set or fold, as :attr:`Split.sets`.
        groups: Group of each scene, by id.
    Returns:
        Names of the sets that share a group, by group.
    Example:
        >>> separated_groups({"train": ("a",), "val": ("b",), "test": ("c",)}, {"a": "1", "b": "2", "c": "1"})
        {'1': ('train', 'test')}
    """
    where: dict[str, list[str]] = {}
    for name, ids in sets.items():
        for group in sorted({groups[scene] for scene in ids}):
            where.setdefault(group, []).append(name)
    return {group: tuple(names) for group, names in where.items() if len(names) > 1}


def group_counts(n_groups: int) -> tuple[int, int, int]:
    """Return how many groups train, validate and test by default.

    Test gets a fifth, and up to 30 groups as long as these are no more than three tenths, because intervals rest on the
    number of test groups. Validation only selects; a tenth is enough.

    Args:
        n_groups: Number of groups, at least 3.
    Raises:
        SplitError: Fewer than 3 groups.
    Example:
        >>> group_counts(3), group_counts(9), group_counts(100), group_counts(800)
        ((1, 1, 1), (5, 1, 3), (60, 10, 30), (560, 80, 160))
    """
    _require_three(n_groups, "groups of scenes")
    test = max(math.ceil(0.2 * n_groups), min(math.ceil(0.3 * n_groups), MANY))
    val = max(1, round(0.1 * n_groups))
    return n_groups - test - val, val, test


def draw_groups(content: Content, counts: Sequence[int], *, seed: int) -> tuple[NDArray[np.intp], ...]:
    """Take the best of :data:`DRAWS` random draws of groups into sets; return the indices of the groups of each set.

    Args:
        content: What each group holds, ``(groups, classes + 1)``.
        counts: Number of groups for each set, the training set first; their sum is the number of groups.
        seed: From 0 to 2**32 - 1.
    """
    # RandomState's stream is frozen for good (NEP 19), so a seed names the same split under every NumPy.
    found: tuple[NDArray[np.intp], ...] = ()
    state, least = np.random.RandomState(seed), math.inf
    for _ in range(0, DRAWS, 16):  # a few at a time: of many groups they take much memory
        order = np.argsort(state.random_sample((16, len(content))), axis=1)
        draws = np.split(order, np.cumsum(counts[:0:-1]), axis=1)[::-1]
        scores = unevenness([content[draw].sum(axis=1) for draw in draws], counts)
        if scores.min() < least:
            least, found = float(scores.min()), tuple(draw[scores.argmin()].copy() for draw in draws)
    return found


def strips(content: Content, lines: NDArray[np.intp]) -> tuple[float, NDArray[np.int64], tuple[int, int, int]] | None:
    """Find the best three strips of lines, with one line left out between strips.

    Every pair of borders and every order of the sets is tried.

    Args:
        content: What each block holds, ``(blocks, classes + 1)``.
        lines: The line that each block lies in, from 0.
    Returns:
        How uneven the sets are, the set of each block (0 train, 1 val, 2 test, -1 left out), and the order of sets;
        ``None`` where there are fewer than 5 lines.
    """
    n_lines = int(lines.max()) + 1
    first, second = (1 + index for index in np.triu_indices(n_lines - 2, k=2))  # the two lines left out
    if not len(first):
        return None
    by_line = np.zeros((n_lines + 1, content.shape[1]), np.int64)
    np.add.at(by_line, lines + 1, content)
    before = by_line.cumsum(axis=0)  # content of the lines above each line
    sums = before[first], before[second] - before[first + 1], before[-1] - before[second + 1]
    counts = group_counts(max(3, len(content)))
    orders = [(a, b, c) for a, b, c in permutations((0, 1, 2))]
    scores = np.stack([unevenness([sums[order.index(part)] for part in range(3)], counts) for order in orders])
    best, border = np.unravel_index(int(scores.argmin()), scores.shape)
    ends = np.array([first[border], second[border]])
    which = np.array(orders[best])[np.searchsorted(ends, lines)]
    return float(scores[best, border]), np.where(np.isin(lines, ends), -1, which), orders[best]


def unevenness(sums: Sequence[NDArray[np.int64]], counts: Sequence[int]) -> NDArray[np.float64]:
    """Score how far each candidate is from an even spread.

    For each class the sum over sets of (share - target)² / target, and for the number of scenes of ((share - target) /
    target)², as often as there are classes: a set of half its size weighs the same whichever it is. Rounded, so that
    the last bit of a sum on another machine decides nothing.

    Args:
        sums: What each set got, the training set first, each ``(candidates, columns)``.
        counts: Number of groups of each set that was asked for.
    """
    got = np.stack(sums).astype(np.float64)  # (sets, candidates, columns)
    total = got.sum(axis=0)
    target = (np.array(counts) / sum(counts))[:, None, None]
    off = np.where(total > 0, got / np.maximum(total, 1.0) - target, 0.0)
    score = (off[:, :, :-1] ** 2 / target).sum(axis=(0, 2))
    score += (got.shape[2] - 1) * (off[:, :, -1] ** 2 / target[:, :, 0] ** 2).sum(axis=0)
    score += NEVER_TRAINED * ((got[0] <= 0) & (total > 0)).sum(axis=1)
    score += EMPTY * (got[:, :, -1] <= 0).sum(axis=0)
    return np.asarray(np.round(score, 9))


def _require_three(n: int, what: str) -> None:
    """Raise where there are too few units for three sets."""
    if n < 3:
        more = ", or choose other --groups" if "groups" in what else ""
        raise SplitError(f"{n} {what}, expected at least 3: one each to train, validate and test. Add scenes{more}.")
