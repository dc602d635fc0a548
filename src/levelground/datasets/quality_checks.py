"""Check the quality of a data set whose scenes were all read: one finding for each fact."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.datasets.dataset import Dataset, SceneRecord
from levelground.datasets.groups import Grouping, NamedLink
from levelground.datasets.near_duplicates import MOST_OVERLAPS
from levelground.datasets.splits import SPLIT_NAMES, Split, separated_groups
from levelground.errors import DataError
from levelground.imagery.colours import distinct_colours
from levelground.imagery.geotiff import BandInfo, read_window
from levelground.imagery.grids import ground_distance_m
from levelground.imagery.image_headers import read_header
from levelground.imagery.layouts import Finding, FindingCode
from levelground.imagery.legend import Legend
from levelground.imagery.scene_pixels import SceneFile
from levelground.imagery.stored_values import EXAMPLES, example_class
from levelground.imagery.validity import nodata_rule

FEW_GROUPS = 30  # below, intervals over test groups are wide; the origin study's splits have 81 to 207 test scenes


def check_dataset(
    scenes: Sequence[SceneRecord],
    split: Split,
    legend: Legend,
    grouping: Grouping,
    impure: Mapping[str, int],
    *,
    n_rasters: int,
) -> list[Finding]:
    """Check repeated files, masks, classes, split and groups.

    Args:
        scenes: The labelled scenes.
        split: Their split.
        legend: Their classes.
        grouping: Their groups, and the links that they were joined by.
        impure: Pixels of each mask whose colour is not exactly a class, by id.
        n_rasters: Number of large rasters that the scenes were cut from, 0 for scenes of their own.
    """
    return [
        *repeated_files(scenes),
        *odd_masks(scenes, split, impure),
        *class_findings(scenes, legend, split),
        *split_findings(split, grouping.joined, n_rasters=n_rasters, buffered=grouping.source == "blocks"),
        *link_notes(grouping.links),
        *search_notes(scenes, grouping),
    ]


def missing_masks(scenes: Sequence[SceneFile]) -> list[Finding]:
    """List images without a mask beside images that have one; folders without any mask are meant to have none."""
    labelled = {scene.image.parent for scene in scenes if scene.labels is not None}
    return [
        Finding(
            "error", "missing-mask", f"{scene.image}: image without a mask. Add the mask or remove the image.", scene.id
        )
        for scene in scenes
        if scene.labels is None and scene.image.parent in labelled
    ]


def repeated_files(scenes: Sequence[SceneRecord]) -> list[Finding]:
    """List scenes whose image files are equal byte for byte."""
    by_image: dict[object, list[SceneRecord]] = {}
    for scene in scenes:
        by_image.setdefault((scene.raster, scene.window), []).append(scene)
    found = []
    for same in by_image.values():
        if len(same) > 1:
            unlike = len({scene.labels_sha256 for scene in same}) > 1
            names = ", ".join(scene.id for scene in same)
            text = f"{names}: the same image file{', with unlike masks' if unlike else ''}."
            found.append(Finding("warning", "duplicate", text, same[0].id))
    return found


def link_notes(links: Sequence[NamedLink]) -> list[Finding]:
    """Note each pair of scenes that are not independent."""
    return [Finding("note", link.kind, f"{link.text}.", link.a) for link in links]


def search_notes(scenes: Sequence[SceneRecord], grouping: Grouping) -> list[Finding]:
    """Note that there were too many scenes to search for shifted overlaps."""
    if "pixels" not in grouping.source or len(scenes) <= MOST_OVERLAPS:
        return []
    text = f"over {MOST_OVERLAPS} scenes: shifted overlaps were not searched, only borders and repeats."
    return [Finding("note", "no-overlap-search", text)]


def odd_masks(scenes: Sequence[SceneRecord], split: Split, impure: Mapping[str, int]) -> list[Finding]:
    """List scenes without a labelled pixel, and masks whose colours are read by the threshold rule."""
    found, used = [], {*split.train, *split.val, *split.test}
    for scene in scenes:
        if not sum(scene.class_pixels):
            text = (
                f"{scene.id}: no pixel has a label; its set learns or tells nothing from it."
                if scene.id in used
                else f"{scene.id}: no pixel has a label; the scene is in no set."
            )
            found.append(Finding("warning", "no-labels", text, scene.id))
    dirty = sorted(scene for scene, pixels in impure.items() if pixels)
    if dirty:
        text = (
            f"Impure colours in masks are read as the nearest class ({sum(impure.values())} px in {len(dirty)} of "
            f"them, first {dirty[0]})."
        )
        found.append(Finding("note", "impure-colours", text, dirty[0]))
    return found


def dropped_values(dropped: Mapping[str, int], legend: Legend) -> list[Finding]:
    """Warn that 255 is read as no data where neither file nor legend says so.

    Args:
        dropped: Pixels of 255 in each mask, by id.
        legend: The classes, for an example of a legend in which 255 is one.
    """
    scenes = sorted(scene for scene, pixels in dropped.items() if pixels)
    if not scenes:
        return []
    text = (
        f"255 in masks is read as no data ({sum(dropped.values())} px in {len(scenes)} of them, first {scenes[0]}). "
        f"If 255 is a class, give each class of a legend its value{_example_legend(legend)}; else nodata = [255] in "
        "the legend says so."
    )
    return [Finding("warning", "dropped-values", text, scenes[0])]


def _example_legend(legend: Legend) -> str:
    """Return the classes of a legend with 255 as one more, as a legend file has them; empty where they are many."""
    if legend.n_classes > EXAMPLES:
        return ""
    entries = [(one.name, (*one.values, one.index)[0], one.colour) for one in legend.classes]
    entries.append(("class 255", 255, distinct_colours(legend.n_classes + 1)[-1]))
    shown = (example_class(index, name, colour, value) for index, (name, value, colour) in enumerate(entries))
    return f": class = [{', '.join(shown)}]"


UNLIKE_GSD = 1.2
"""Ratio of ground sample distances from which on scenes are unlike; `predict` warns from the same ratio on."""


def common_band_info(scenes: Sequence[SceneFile]) -> BandInfo:
    """Return what most scenes' files say of their bands."""
    return Counter(read_header(scene.image).band_info for scene in scenes).most_common(1)[0][0]


def unlike_files(scenes: Sequence[SceneFile]) -> list[Finding]:
    """Warn of scenes whose files name other bands, scales or offsets, or have other ground sample distances than most.

    Args:
        scenes: The scenes; their headers are read.
    """
    headers = {scene.id: read_header(scene.image) for scene in scenes}
    found = []
    cases: tuple[tuple[FindingCode, str, Mapping[str, tuple[object, ...]]], ...] = (
        ("unlike-band-names", "band names", {scene: header.band_info.names for scene, header in headers.items()}),
        ("unlike-scales", "scales", {scene: header.band_info.scales for scene, header in headers.items()}),
        ("unlike-scales", "offsets", {scene: header.band_info.offsets for scene, header in headers.items()}),
    )
    for code, what, said in cases:
        most = Counter(said.values()).most_common(1)[0][0]
        others = sorted(scene for scene, value in said.items() if value != most)
        if others:
            first = " ".join(map(str, said[others[0]])) or "none"
            text = (
                f"other {what} than the rest in {len(others)} of {len(said)} images: {others[0]} {first}, most "
                f"{' '.join(map(str, most)) or 'none'}. Pixels are read as they are stored: write all files alike."
            )
            found.append(Finding("warning", code, text, others[0]))
    distances = {scene: ground_distance_m(header) for scene, header in headers.items()}
    known = sorted((distance, scene) for scene, distance in distances.items() if distance)
    if known and known[-1][0] > UNLIKE_GSD * known[0][0]:
        (low, first), (high, last) = known[0], known[-1]
        text = (
            f"ground sample distances differ: from {low:.2g} m a pixel ({first}) to {high:.2g} m ({last}). A network "
            "sees objects of unlike sizes; resample the scenes to one distance, or train a model for each."
        )
        found.append(Finding("warning", "unlike-gsd", text, last))
    return found


def far_values(far: Mapping[str, NDArray[np.float64]], example: Path) -> list[Finding]:
    """Warn of values far from all others that files do not declare as no data.

    Args:
        far: Value, band, share and nearest other value in each scene that has one, by id; empty in others.
        example: An image, for the remedy.
    """
    by_value: dict[float, list[str]] = {}
    for scene in sorted(far):
        if len(far[scene]):
            by_value.setdefault(float(far[scene][0]), []).append(scene)
    found = []
    for value, scenes in by_value.items():
        _, band, share, following = far[scenes[0]]
        text = (
            f"{value:.9g}, far from all other values, is read as data (in {len(scenes)} of the scenes, first "
            f"{scenes[0]}: {share:.1%} of band {band:.0f}, the next value is {following:.6g}). If it stands for no "
            f"data, say so in each file: rio edit-info --nodata {value:.9g} {example}"
        )
        found.append(Finding("warning", "far-value", text, scenes[0]))
    return found


def zero_pixels(zeros: Mapping[str, int]) -> list[Finding]:
    """Warn that pixels of 0 in every band are left out where the file does not say which pixels have data.

    Args:
        zeros: Such pixels in each scene, by id.
    """
    scenes = sorted(scene for scene, pixels in zeros.items() if pixels)
    if not scenes:
        return []
    text = (
        f"0 in every band is read as no data, because the files name no nodata value ({sum(zeros.values())} px in "
        f"{len(scenes)} of the images, first {scenes[0]}). If these are dark ground, pass --no-zero-is-nodata."
    )
    return [Finding("warning", "zero-pixels", text, scenes[0])]


def guessed_zeros(scene: SceneFile, dark: int, dtype: str) -> int:
    """Count the pixels of a scene that have no data only because they are 0 and the file does not say which have.

    Args:
        scene: Its files.
        dark: Number of pixels that are 0 in every band and have no label.
        dtype: In which the cache holds the image.
    """
    if not dark or scene.zero is not None:
        return 0
    header = read_header(scene.image)
    if header.format != "tiff" or not nodata_rule(header, range(1, header.bands + 1), alpha=header.alpha_band).zero:
        return 0
    if dtype != "float32":
        return dark
    return int((read_window(scene.image, scene.window) == 0).all(-1).sum())  # else NaN, which the cache holds as 0


def check_classes_occur(scenes: Sequence[SceneRecord], legend: Legend) -> None:
    """Refuse data of which nothing can be learnt.

    Raises:
        DataError: Fewer than two classes have a pixel.
    """
    pixels = np.sum([scene.class_pixels for scene in scenes], axis=0)
    if np.count_nonzero(pixels) < 2:
        only = next((entry.name for entry in legend.classes if pixels[entry.index]), None)
        raise DataError(
            f"{scenes[0].labels}: {f'class {only!r} is the only one' if only else 'no class'} in all {len(scenes)} "
            f"masks ({sum(scene.ignored_pixels for scene in scenes)} pixels without data), expected two or more. Give "
            "a legend with the value of each class, or mend the masks' nodata value."
        )


def class_findings(scenes: Sequence[SceneRecord], legend: Legend, split: Split) -> list[Finding]:
    """List classes that never occur, or not in a set that needs them."""
    if split.folds:
        return fold_class_findings(scenes, legend, split)
    pixels = {scene.id: np.array(scene.class_pixels) for scene in scenes}
    sums = {name: np.sum([pixels[scene] for scene in split.ids(name)], axis=0) for name in SPLIT_NAMES}
    found = []
    for entry in legend.classes:
        train, val, test = (int(sums[name][entry.index]) for name in SPLIT_NAMES)
        if not sum(int(value[entry.index]) for value in pixels.values()):
            text = f"class {entry.name!r} never occurs."
            found.append(Finding("note", "absent-class", text))
        elif entry.counted and not train:
            text = f"class {entry.name!r} has no pixel in train: it cannot be learnt."
            found.append(Finding("warning", "untrained-class", text))
        elif entry.counted and not test:
            text = f"class {entry.name!r} has no pixel in test: it gets no score."
            found.append(Finding("warning", "untested-class", text))
        elif entry.counted and not val:
            found.append(Finding("note", "unvalidated-class", f"class {entry.name!r} has no pixel in val."))
    return found


def fold_class_findings(scenes: Sequence[SceneRecord], legend: Legend, split: Split) -> list[Finding]:
    """List classes that never occur, or in one fold only: there they are tested without having been learnt."""
    pixels = {scene.id: np.array(scene.class_pixels) for scene in scenes}
    sums = np.array([np.sum([pixels[scene] for scene in fold], axis=0) for fold in split.folds])
    found = []
    for entry in legend.classes:
        held = np.flatnonzero(sums[:, entry.index])
        if not len(held):
            found.append(Finding("note", "absent-class", f"class {entry.name!r} never occurs."))
        elif entry.counted and len(held) == 1:
            text = f"class {entry.name!r} occurs in fold {held[0] + 1} only: where it is tested it cannot be learnt."
            found.append(Finding("warning", "untrained-class", text))
    return found


def split_findings(split: Split, groups: Mapping[str, str], *, n_rasters: int, buffered: bool = False) -> list[Finding]:
    """List groups that the split separates, too few test groups, and scenes that were left out.

    Args:
        split: The split.
        groups: Group of each scene, by id.
        n_rasters: Number of large rasters that the scenes were cut from, 0 for scenes of their own.
        buffered: Whether a buffer keeps blocks of unlike sets apart.
    """
    found = []
    for group, names in separated_groups(split.sets, groups).items():
        members = [f"{scene} in {name}" for name in names for scene in split.sets[name] if groups[scene] == group]
        shown = ", ".join(members[:4]) + (" …" if len(members) > 4 else "")
        text = f"split {split.rule!r} separates scenes that are not independent: {shown}."
        found.append(Finding("warning", "separated-group", text, members[0].rsplit(" in ", 1)[0]))
    if n_rasters == 1:
        if split.rule != "strips" and not buffered:
            text = (
                f"split {split.rule!r} puts blocks that touch into unlike sets; strips keep them apart, and so does "
                "--split blocks."
            )
            found.append(Finding("warning", "separated-group", text))
        found.append(
            Finding("note", "one-raster", "All blocks are of one raster: intervals describe this raster only.")
        )
    n_test = len({groups[scene] for scene in split.test})
    if n_test == 1:
        text = "Test has one group of scenes: no interval can be given, and nothing can be told apart."
        found.append(Finding("warning", "few-test-groups", text))
    elif n_test < FEW_GROUPS:
        text = f"Test has {n_test} groups of scenes: so few decide little; most differences will be undecided."
        found.append(Finding("note", "few-test-groups", text))
    if split.left_out:
        text = f"scenes in no set: {len(split.left_out)} (first {split.left_out[0]})."
        found.append(Finding("note", "left-out", text, split.left_out[0]))
    return found


def class_rows(dataset: Dataset) -> list[tuple[str, ...]]:
    """Count the share of each class in all scenes and in each set, and the scenes in which it occurs."""
    pixels = {scene.id: np.array([*scene.class_pixels, scene.ignored_pixels]) for scene in dataset.scenes}
    sets = [list(pixels), *(list(ids) for ids in dataset.split.sets.values())]
    sums = [np.sum([pixels[scene] for scene in ids], axis=0) for ids in sets]
    scenes = np.sum([counts > 0 for counts in pixels.values()], axis=0)
    names = [entry.name + ("" if entry.counted else " (not counted)") for entry in dataset.legend.classes]
    rows = []
    for index, name in enumerate([*names, "no data"]):
        shares = [f"{total[index] / total.sum():.2%}" if total[index] else "–" for total in sums]
        rows.append((name, *shares, str(int(scenes[index]))))
    return rows
