"""Make a data folder ready: find and verify its scenes, decode them once, group and split them, write the record."""

import contextlib
import importlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from levelground.config import PrepareOptions
from levelground.console import progress_bar, say, say_table
from levelground.datasets.dataset import DATASET_FILE, Dataset, SceneRecord, read_dataset, write_dataset
from levelground.datasets.near_duplicates import MOST_OVERLAPS, Traits, cached_traits, mean_and_std, scene_traits
from levelground.datasets.quality_checks import (
    FEW_GROUPS,
    class_findings,
    link_notes,
    missing_masks,
    odd_masks,
    repeated_files,
    split_findings,
)
from levelground.datasets.split_selection import Grouping, check_choices, choose_split, find_groups
from levelground.datasets.splits import SPLIT_NAMES
from levelground.errors import ConfigError, DataError, DiskError, RecordError, SceneError
from levelground.imagery.cache import Cache, CacheEntry, default_cache_folder
from levelground.imagery.data_folder import Found, find_scenes
from levelground.imagery.layouts import Finding
from levelground.imagery.legend import Legend
from levelground.imagery.scene_pixels import SceneFile

HANDLE = "balraj98/deepglobe-land-cover-classification-dataset"
BY_HAND = (
    f"To get it by hand: accept the terms at kaggle.com/datasets/{HANDLE}, unpack the archive, and pass its folder "
    "as --data."
)


def download_kaggle() -> Path:
    """Fetch the set with kagglehub, or find what it fetched before.

    Returns:
        The folder with ``train/``.
    Raises:
        DataError: kagglehub is not installed, there is no network, or the user has no access; says what to do by hand.
    """
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise DataError(
            f"--download kaggle: kagglehub is not installed (pip install levelground[download]). {BY_HAND}"
        ) from error
    say(f"fetching {HANDLE} with kagglehub (about 3 GB)")
    try:
        return Path(kagglehub.dataset_download(HANDLE)).resolve()
    except Exception as error:  # kagglehub, requests and urllib3 raise their own kinds; all mean: not fetched
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"--download kaggle: not fetched ({reason}). {BY_HAND}") from error


@dataclass(frozen=True)
class Decoded:
    """One scene after decoding."""

    scene: SceneFile
    entry: CacheEntry
    traits: Traits


@dataclass(frozen=True)
class Problem:
    """A scene or file that cannot be used, and the kind of error that it is."""

    finding: Finding
    kind: type[DataError] = SceneError


def decode_all(found: Found, cache: Cache, snap: int) -> tuple[list[Decoded], list[Problem]]:
    """Decode all labelled scenes into the cache, two or more at once.

    Args:
        found: The scenes and their legend.
        cache: Where decoded scenes lie; those that are there already are not decoded again.
        snap: As in :func:`levelground.imagery.legend.decode_colours`.
    Returns:
        The decoded scenes by id, and a problem for each scene or file that cannot be used.
    Raises:
        DiskError: The cache cannot be written.
    """
    errors = [one for one in found.findings if one.severity == "error"] + missing_masks(found.scenes)
    problems = [Problem(one) for one in errors]
    labelled = [scene for scene in found.scenes if scene.labels is not None]
    start_ns, done = time.time_ns(), []
    cache.sweep()
    # Decoders and hashing release the lock; more than eight threads only fight for the disk.
    pool = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)))
    try:
        with progress_bar("decode", len(labelled)) as bar:
            tasks = {pool.submit(_decode, scene, cache, found.legend, snap): scene for scene in labelled}
            for task in as_completed(tasks):
                try:
                    done.append(task.result())
                except DiskError:
                    raise
                except DataError as error:
                    finding = Finding("error", "unreadable", str(error), tasks[task].id)
                    problems.append(Problem(finding, type(error)))
                bar.advance(note=tasks[task].id)
    finally:
        pool.shutdown(cancel_futures=True)
    done.sort(key=lambda one: one.scene.id)
    reused = sum(cache.path(one.entry.image_key).stat().st_mtime_ns < start_ns for one in done)
    say(f"cache {cache.folder}: {reused} of {len(done)} scenes were there, {len(done) - reused} decoded")
    # Causes before what follows from them: an image behind a bad link leaves its mask alone.
    causes = ("link", "name")
    return done, sorted(
        problems, key=lambda one: (one.finding.code not in causes, one.finding.scene or "", one.finding.text)
    )


def _decode(scene: SceneFile, cache: Cache, legend: Legend, snap: int) -> Decoded:
    """Decode one scene and take its traits while its pixels are still in memory."""
    entry = cache.store(scene, legend, snap)

    def make() -> Traits:
        opened = cache.open(entry.image_key, entry.labels_key)
        return scene_traits(opened.pixels, opened.labels)

    return Decoded(scene, entry, cached_traits(cache.folder, entry.image_key, entry.labels_key, make))


def settle(problems: Sequence[Problem], n_sound: int, *, skip_bad: bool) -> list[Finding]:
    """Stop at problems, or keep them as findings.

    Args:
        problems: What is wrong.
        n_sound: How many scenes are sound.
        skip_bad: Whether to go on without the others.
    Raises:
        DataError: There are problems and ``skip_bad`` is off, or no scene is sound.
    """
    if problems and not (skip_bad and n_sound):
        more = f" {len(problems) - 1} more files have problems." if len(problems) > 1 else ""
        hint = " --skip-bad leaves them out." if n_sound else ""
        raise problems[0].kind(problems[0].finding.text + more + hint)
    if problems:
        say(f"{len(problems)} scenes or files with problems are left out")
    return [one.finding for one in problems]


def scene_record(one: Decoded, data: Path) -> SceneRecord:
    """The record of a decoded scene; ``data`` is the folder that its paths are relative to."""
    entry, scene = one.entry, one.scene
    assert scene.labels is not None
    assert entry.labels_key is not None
    assert entry.labels_sha256 is not None
    return SceneRecord(
        id=scene.id,
        image=scene.image.relative_to(data).as_posix(),
        labels=scene.labels.relative_to(data).as_posix(),
        height=entry.height,
        width=entry.width,
        group=scene.group or scene.id,
        image_sha256=entry.image_sha256,
        labels_sha256=entry.labels_sha256,
        image_key=entry.image_key,
        labels_key=entry.labels_key,
        class_pixels=entry.class_pixels,
        ignored_pixels=entry.ignored_pixels,
        window=scene.window,
    )


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
    rows: list[tuple[str, str]] = [(f"{one.severity}: {one.text}", one.code) for one in dataset.findings[:SHOWN]]
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
