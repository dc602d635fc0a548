"""Make a data folder ready: find and verify its scenes, decode them once, group and split them, write the record."""

import contextlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from levelground.console import say, say_table
from levelground.datasets.arrangement import Grouping, check_choices, choose_split, find_groups
from levelground.datasets.choices import PrepareOptions
from levelground.datasets.dataset import DATASET_FILE, Dataset, read_dataset, write_dataset
from levelground.datasets.download import download_kaggle
from levelground.datasets.inspection import (
    FEW_GROUPS,
    class_findings,
    link_notes,
    odd_masks,
    repeated_files,
    split_findings,
)
from levelground.datasets.intake import decode_all, scene_record, settle
from levelground.datasets.likeness import MOST_OVERLAPS
from levelground.datasets.splits import SPLIT_NAMES
from levelground.datasets.traits import mean_and_std
from levelground.errors import ConfigError, RecordError
from levelground.imagery.cache import Cache, default_cache_folder
from levelground.imagery.scenes import Finding, find_scenes

__all__ = ["PrepareOptions", "prepare_dataset"]

SHOWN = 20  # findings in the table; all of them stand in dataset.json


def prepare_dataset(options: PrepareOptions) -> Dataset:
    """Find, verify, decode, group and split the scenes of a folder, say what was found, and write ``dataset.json``.

    A second call on the same files finds the decoded scenes in the cache and gives the same record.

    Args:
        options: What to prepare; ``options.out`` gets the record.
    Returns:
        The record as written.
    Raises:
        LevelgroundError: A file is wrong and ``skip_bad`` is off (the first one is named, the others are counted), or
            the scenes cannot be split as asked.
    """
    data, cache = _folders(options)
    found = find_scenes(
        data, layout=None if options.layout == "auto" else options.layout, legend=options.legend, block=options.block
    )
    for line in found.lines:
        say(line)
    labelled = [scene.id for scene in found.scenes if scene.labels is not None]
    absent = [one.scene for one in found.findings if one.severity == "error" and one.scene]
    check_choices(options.split, options.lists, options.groups, data, labelled, absent)
    decoded, problems = decode_all(found, cache, options.snap_colours)
    findings = settle(problems, len(decoded), skip_bad=options.skip_bad)
    findings += [one for one in found.findings if one.severity != "error"]
    files = [one.scene for one in decoded]
    scenes = [scene_record(one, data) for one in decoded]
    traits = {one.scene.id: one.traits for one in decoded}
    grouping = find_groups(options.groups, data, found.layout, files, scenes, traits)
    scenes = [replace(scene, group=grouping.joined[scene.id]) for scene in scenes]
    n_rasters = len({file.image for file in files}) if found.layout == "raster" else 0
    split = choose_split(
        options.split,
        scenes,
        grouping,
        one_raster=n_rasters == 1,
        seed=options.split_seed,
        lists=options.lists,
        absent=[one.finding.scene for one in problems if one.finding.scene],
    )
    findings += repeated_files(scenes)
    findings += odd_masks(scenes, {one.scene.id: one.entry.impure_pixels for one in decoded})
    findings += class_findings(scenes, found.legend, split)
    findings += split_findings(split, grouping.joined, n_rasters=n_rasters)
    findings += link_notes(grouping.links)
    if "pixels" in grouping.source and len(scenes) > MOST_OVERLAPS:
        text = f"over {MOST_OVERLAPS} scenes: shifted overlaps were not searched, only borders and repeats."
        findings.append(Finding("note", "no-overlap-search", text))
    findings.sort(key=lambda one: ("error", "warning", "note").index(one.severity))
    mean, std = mean_and_std([traits[scene] for scene in split.train])
    entry = decoded[0].entry
    dataset = Dataset(
        folder=options.out.expanduser().resolve(),
        data=data,
        cache=cache.folder,
        layout=found.layout,
        legend=found.legend,
        bands=entry.bands,
        dtype=entry.dtype,
        gsd_m=found.gsd_m,
        scenes=tuple(scenes),
        split=split,
        groups_from=grouping.source,
        mean=mean,
        std=std,
        findings=tuple(findings),
    )
    _tell(dataset, grouping, looked=options.split == "auto" and not options.lists)
    return dataset


def _folders(options: PrepareOptions) -> tuple[Path, Cache]:
    """The data folder and the cache, absolute."""
    if options.download and options.data:
        raise ConfigError(f"--data {options.data}: given with --download {options.download}. Drop one.")
    if options.download == "kaggle":
        data = download_kaggle()
    elif options.data is None:
        raise ConfigError("--data: no folder given. Pass the folder with the scenes, or --download kaggle.")
    else:
        data = options.data.expanduser().resolve()
    return data, Cache((options.cache or default_cache_folder()).expanduser().resolve())


def _tell(dataset: Dataset, grouping: Grouping, *, looked: bool) -> None:
    """Say groups and split, show class shares and findings, and write the record unless it stands there already."""
    groups = {scene.group for scene in dataset.scenes}
    kinds = Counter(link.kind for link in grouping.links)
    told = f" (pairs: {', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))})" if kinds else ""
    say(f"groups from {grouping.source}: {len(dataset.scenes)} scenes in {len(groups)} groups{told}")
    sizes = " / ".join(f"{len(dataset.ids(name))} {name}" for name in SPLIT_NAMES)
    chosen = " (chosen by looking; --split overrides)" if looked else ""
    n_test = len({dataset.scene(scene).group for scene in dataset.ids("test")})
    few = f"; {n_test} test group{'s' * (n_test > 1)} decide little" if n_test < FEW_GROUPS else ""
    say(f"split {dataset.split.rule}{chosen}: {sizes}; {dataset.split.text}{few}")
    say_table("Class shares", ("class", "all", *SPLIT_NAMES, "scenes"), _class_rows(dataset))
    rows = [(f"{one.severity}: {one.text}", one.code) for one in dataset.findings[:SHOWN]]
    if len(dataset.findings) > SHOWN:
        rows.append((f"… {len(dataset.findings) - SHOWN} more in {DATASET_FILE}", ""))
    say_table("Findings", ("finding", "kind"), rows or [("none", "")])
    with contextlib.suppress(RecordError):
        if read_dataset(dataset.folder) == dataset:
            say(f"{dataset.folder / DATASET_FILE}: unchanged")
            return
    say(f"{write_dataset(dataset, dataset.folder)}: written")


def _class_rows(dataset: Dataset) -> list[tuple[str, ...]]:
    """Share of each class in all scenes and in each set, and in how many scenes it occurs."""
    pixels = {scene.id: np.array([*scene.class_pixels, scene.ignored_pixels]) for scene in dataset.scenes}
    sets = [list(pixels), *(list(dataset.ids(name)) for name in SPLIT_NAMES)]
    sums = [np.sum([pixels[scene] for scene in ids], axis=0) for ids in sets]
    scenes = np.sum([counts > 0 for counts in pixels.values()], axis=0)
    names = [entry.name + ("" if entry.counted else " (not counted)") for entry in dataset.legend.classes]
    rows = []
    for index, name in enumerate([*names, "no data"]):
        shares = [f"{total[index] / total.sum():.2%}" if total[index] else "–" for total in sums]
        rows.append((name, *shares, str(int(scenes[index]))))
    return rows
