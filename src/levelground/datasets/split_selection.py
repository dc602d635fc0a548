"""Choose groups and split for the scenes at hand, as asked or by looking at the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from levelground.config import GroupsFrom, Layout, SplitRule
from levelground.datasets.dataset import SceneRecord
from levelground.datasets.groups import (
    GROUPS_FILE,
    NamedLink,
    Place,
    bounds_links,
    join_groups,
    pixel_links,
    read_groups,
)
from levelground.datasets.near_duplicates import Traits
from levelground.datasets.quality_checks import links_of_equal_files
from levelground.datasets.splits import (
    SPLIT_NAMES,
    Split,
    folders_split,
    lists_split,
    origin_split,
    random_split,
    split_folder,
    strips_split,
)
from levelground.errors import ConfigError
from levelground.imagery.geotiff import read_info
from levelground.imagery.scene_pixels import SceneFile


@dataclass(frozen=True)
class Grouping:
    """Groups by name alone (folders or ``groups.csv``), and joined with what pixels and the map tell."""

    named: Mapping[str, str]
    joined: Mapping[str, str]
    source: str
    links: tuple[NamedLink, ...] = ()


def check_choices(
    split: SplitRule, lists: Path | None, groups: GroupsFrom, data: Path, ids: Sequence[str], absent: Sequence[str]
) -> None:
    """Refuse what cannot work before any scene is decoded: lists and tables that are missing or wrong.

    Args:
        split: The split asked for.
        lists: Folder with split lists.
        groups: Where groups come from.
        data: The data folder.
        ids: The labelled scenes.
        absent: Ids of scenes that cannot be used.
    Raises:
        ConfigError: ``lists`` lacks where needed, or is given for another rule.
        SplitError: A list is wrong.
        DataError: ``groups.csv`` is missing where asked for, or wrong.
    """
    if split == "lists" and lists is None:
        raise ConfigError("--lists: no folder given, expected one with train.txt, val.txt and test.txt. Pass it.")
    if lists is not None and split not in ("auto", "lists"):
        raise ConfigError(f"--lists: given for --split {split}. Drop one.")
    if lists is not None:
        lists_split(lists, ids, absent=absent)
    if groups == "file":
        read_groups(data / GROUPS_FILE, ids)


def find_groups(
    asked: GroupsFrom,
    data: Path,
    layout: Layout,
    files: Sequence[SceneFile],
    scenes: Sequence[SceneRecord],
    traits: Mapping[str, Traits],
) -> Grouping:
    """Which scenes belong together.

    Args:
        asked: Where groups come from; ``auto`` takes ``groups.csv`` where there is one, else folders and pixels.
        data: The data folder.
        layout: Blocks of a raster touch by design and are not searched: each is its own group, or its raster is.
        files: The scenes' files.
        scenes: Their records, in the same order.
        traits: Their traits, by id.
    Raises:
        DataError: ``groups.csv`` is wrong.
    """
    alone = {scene.id: scene.id for scene in scenes}
    folders = {file.id: file.group or file.id for file in files}
    shared = folders != alone
    table = data / GROUPS_FILE
    if asked == "file" or (asked == "auto" and table.is_file()):
        named = read_groups(table, alone)
        return Grouping(named, named, GROUPS_FILE)
    if asked == "none":
        return Grouping(alone, alone, "none")
    if layout == "raster":
        return Grouping(folders, folders, "rasters" if shared else "blocks of one raster")
    if asked == "folders":
        return Grouping(folders, folders, "folders")
    named = folders if asked == "auto" else alone
    links = (*links_of_equal_files(scenes), *pixel_links(traits), *bounds_links(_places(files)))
    first: dict[tuple[str, str], NamedLink] = {}
    for link in links:
        first.setdefault((min(link.a, link.b), max(link.a, link.b)), link)
    source = "folders and pixels" if asked == "auto" and shared else "pixels"
    return Grouping(named, join_groups(alone, named, links), source, tuple(first.values()))


def _places(files: Sequence[SceneFile]) -> dict[str, Place]:
    """Where georeferenced scenes lie."""
    places = {}
    for file in files:
        if file.image.suffix.lower() not in (".tif", ".tiff"):
            continue
        info = read_info(file.image)
        if info.crs is None or info.transform is None:
            continue
        a, b, c, d, e, f = info.transform
        x = [c + a * column + b * row for column in (0, info.width) for row in (0, info.height)]
        y = [f + d * column + e * row for column in (0, info.width) for row in (0, info.height)]
        places[file.id] = Place(info.crs, min(x), min(y), max(x), max(y), abs(a * e - b * d) ** 0.5)
    return places


def choose_split(
    asked: SplitRule,
    scenes: Sequence[SceneRecord],
    grouping: Grouping,
    *,
    one_raster: bool,
    seed: int = 0,
    lists: Path | None = None,
    absent: Sequence[str] = (),
) -> Split:
    """Split the scenes as asked, or by looking.

    Args:
        asked: The rule; ``auto`` takes lists where given, strips for one raster, the data's own folders where all
            three sets have some, else ``grouped``.
        scenes: The labelled scenes.
        grouping: Their groups; ``random`` keeps named groups together, ``grouped`` also what touches or repeats.
        one_raster: Whether all scenes are blocks of one raster.
        seed: For ``random`` and ``grouped``.
        lists: Folder with split lists.
        absent: Ids of scenes that were left out as bad; lists may name them.
    Raises:
        SplitError: The scenes cannot be split so.
    """
    ids = [scene.id for scene in scenes]
    if lists is not None:
        return lists_split(lists, ids, absent=absent)
    if asked == "origin":
        return origin_split(ids)
    places = {scene.id: scene.image for scene in scenes}
    if asked == "folders" or (asked == "auto" and {split_folder(place) for place in places.values()} >= {*SPLIT_NAMES}):
        return folders_split(places)
    return _drawn(asked, scenes, grouping, one_raster, seed)


def _drawn(asked: SplitRule, scenes: Sequence[SceneRecord], grouping: Grouping, one_raster: bool, seed: int) -> Split:
    """Strips, or a draw by groups; scenes without a labelled pixel are left out."""
    usable = {scene.id: scene.class_pixels for scene in scenes if sum(scene.class_pixels)}
    if one_raster and asked != "random":
        windows = {scene.id: scene.window for scene in scenes if scene.id in usable and scene.window is not None}
        split = strips_split(windows, usable)
    else:
        named = {scene: grouping.named[scene] for scene in usable}
        joined = {scene: grouping.joined[scene] for scene in usable}
        apart = asked == "auto" and len({*joined.values()}) < 3 <= len({*named.values()})
        rule = "random" if asked == "random" or apart else "grouped"
        split = random_split(named if rule == "random" else joined, usable, seed=seed, rule=rule)
        if apart:
            text = f"{split.text}; nearly all scenes belong together, so groups could not be kept whole"
            split = replace(split, text=text)
    unlabelled = tuple(scene.id for scene in scenes if scene.id not in usable)
    return replace(split, left_out=tuple(sorted((*split.left_out, *unlabelled))))
