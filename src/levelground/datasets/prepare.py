"""Prepare a data folder: find and verify its scenes, decode them once, group and split them, write ``dataset.json``."""

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from levelground.config import PrepareOptions
from levelground.console import progress_bar, say, say_table
from levelground.datasets.blocks import (
    Blocks,
    block_groups,
    check_block_options,
    cut_blocks,
    describe_blocks,
    drop_emptied,
    labels_apart,
)
from levelground.datasets.data_source import (
    Prepared,
    data_folder,
    find_prepared,
    keep_prepared,
    say_cached,
    stamp_of_data,
)
from levelground.datasets.dataset import DATASET_FILE, Dataset, SceneRecord, write_if_changed
from levelground.datasets.fingerprints import (
    Fingerprint,
    cached_fingerprint,
    fingerprint_scene,
    give_back_memory,
    mean_and_std,
)
from levelground.datasets.folds import choose_folds, fold_folder, joined_split
from levelground.datasets.groups import GROUPS_FILE, Grouping, find_groups, footprints, middles, read_groups
from levelground.datasets.quality_checks import (
    FEW_GROUPS,
    check_classes_occur,
    check_dataset,
    class_rows,
    common_band_info,
    dropped_values,
    far_values,
    guessed_zeros,
    missing_masks,
    unlike_files,
    zero_pixels,
)
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
from levelground.errors import ConfigError, DataError, SceneError
from levelground.imagery.cache import Cache, CacheEntry, default_cache_folder
from levelground.imagery.data_folder import FoundScenes, find_scenes
from levelground.imagery.image_headers import kind_of_type, read_header
from levelground.imagery.layouts import Finding
from levelground.imagery.legend import Legend
from levelground.imagery.scene_pixels import SceneFile
from levelground.wording import gettext, ngettext, pgettext

SHOWN = 20  # findings in the table; dataset.json lists all of them
_SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Decoded:
    """One scene after decoding."""

    scene: SceneFile
    entry: CacheEntry
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Problem:
    """A scene or file that cannot be used, and the kind of error that it is."""

    finding: Finding
    kind: type[DataError] = SceneError


def prepare_dataset(options: PrepareOptions) -> Dataset:
    """Find, verify, decode, group and split the scenes of a folder, report findings, and write ``dataset.json``.

    A second call on the same files looks at nothing but their sizes and times and gives the same record. With ``folds``
    each fold gets a ``dataset.json`` of its own, in ``folds/NUMBER/``.

    Args:
        options: What to prepare; ``options.out`` gets the record.
    Returns:
        The record as written.
    Raises:
        LevelgroundError: A file is wrong and ``skip_bad`` is off (the first one is named, the others are counted), or
            the scenes cannot be split as asked.
    """
    data = data_folder(options)
    cache = Cache((options.cache or default_cache_folder()).expanduser().resolve())
    told = options.split == "auto" and not options.lists and not options.folds
    stamp = stamp_of_data(options, data, cache.folder)
    before = find_prepared(options, data, cache.folder, stamp)
    if before is not None:
        _report(before.dataset, before.links, told=told)
        say("%(path)s: unchanged", path=before.dataset.folder / DATASET_FILE)
        return before.dataset
    return _prepare_anew(options, data, cache, stamp, told)


def _prepare_anew(options: PrepareOptions, data: Path, cache: Cache, stamp: str, told: bool) -> Dataset:
    """Prepare a folder that is new or has changed, as :func:`prepare_dataset` says."""
    found = _find(replace(options, cache=cache.folder), data)
    check_choices(options, data, found)
    blocks = cut_blocks(found, options) if options.split == "blocks" else None
    found = blocks.found if blocks else found
    decoded, problems = decode_all(found, cache, options.snap_colours)
    findings = settle_problems(problems, len(decoded), skip_bad=options.skip_bad)
    findings += [one for one in found.findings if one.severity != "error"]
    check_classes_occur([scene_record(one, data) for one in decoded], found.legend)
    grouping = _group(options, data, found, decoded, blocks)
    decoded = [replace(one, fingerprint=one.fingerprint.statistics()) for one in decoded]
    give_back_memory()
    scenes = _records(decoded, data, grouping)
    n_rasters = len({one.scene.image for one in decoded}) if found.layout == "raster" else 0
    absent = [one.finding.scene for one in problems if one.finding.scene]
    folds = choose_folds(options, scenes, grouping, one_raster=n_rasters == 1)
    split = joined_split(folds) if folds else choose_split(options, scenes, grouping, n_rasters == 1, absent)
    if blocks is not None and not folds:
        split, decoded = _keep_apart(blocks, split, decoded, cache, options.snap_colours)
        scenes = _records(decoded, data, grouping)
    impure = {one.scene.id: one.entry.impure_pixels for one in decoded}
    findings += check_dataset(scenes, split, found.legend, grouping, impure, n_rasters=n_rasters)
    findings += [*_value_findings(decoded, found.legend), *unlike_files([one.scene for one in decoded])]
    findings.sort(key=lambda one: _SEVERITIES.index(one.severity))
    mean, std = _mean_and_std(decoded, split.train or split.test)
    dataset = Dataset(
        folder=options.out.expanduser().resolve(),
        data=data,
        cache=cache.folder,
        layout=found.layout,
        legend=found.legend,
        bands=decoded[0].entry.bands,
        dtype=kind_of_type(read_header(decoded[0].scene.image).dtype),
        gsd_m=found.gsd_m,
        scenes=tuple(scenes),
        split=split,
        groups_from=grouping.source,
        mean=mean,
        std=std,
        findings=tuple(findings),
        band_info=common_band_info([one.scene for one in decoded]),
    )
    links = Counter(str(link.kind) for link in grouping.links)
    _report(dataset, links, told=told)
    _write_folds(dataset, [_keep_apart(blocks, fold, decoded, cache, options.snap_colours) for fold in folds], grouping)
    write_if_changed(dataset)
    if not problems:
        said = Prepared(dataset, found.lines, links)
        keep_prepared(options, cache.folder, said, [one.scene for one in decoded], stamp)
    return dataset


def _mean_and_std(decoded: Sequence[Decoded], ids: Sequence[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each band over the labelled pixels of some scenes."""
    prints = {one.scene.id: one.fingerprint for one in decoded}
    return mean_and_std([prints[scene] for scene in ids])


def _keep_apart(
    blocks: Blocks | None, split: Split, decoded: list[Decoded], cache: Cache, snap: int
) -> tuple[Split, list[Decoded]]:
    """Leave out the labels of blocks that lie near blocks of a stronger set, and blocks that lose all of them."""
    if blocks is None:
        return split, decoded
    files = labels_apart(blocks, split)
    kept = [
        _decode(files[one.scene.id], cache, blocks.found.legend, snap) if one.scene.id in files else one
        for one in decoded
    ]
    emptied = [one.scene.id for one in kept if one.scene.id in files and not sum(one.entry.class_pixels)]
    return drop_emptied(split, emptied, blocks.text), kept


def _group(
    options: PrepareOptions, data: Path, found: FoundScenes, decoded: Sequence[Decoded], blocks: Blocks | None
) -> Grouping:
    """Group the scenes by the squares of spatial blocks, or as asked."""
    scenes = [scene_record(one, data) for one in decoded]
    prints = {one.scene.id: one.fingerprint for one in decoded}
    if blocks is not None:
        return block_groups(blocks, scenes, prints)
    return find_groups(options.groups, data, found.layout, [one.scene for one in decoded], scenes, prints)


def _find(options: PrepareOptions, data: Path) -> FoundScenes:
    """Find the scenes as the options say, and print how they were found."""
    layout = None if options.layout == "auto" else options.layout
    found = find_scenes(
        data, layout=layout, legend=options.legend, block=options.block, align=options.align, options=options
    )
    for line in found.lines:
        say(line)
    if options.zero_is_nodata is None:
        return found
    return replace(found, scenes=tuple(replace(one, zero=options.zero_is_nodata) for one in found.scenes))


def _value_findings(decoded: Sequence[Decoded], legend: Legend) -> list[Finding]:
    """List what values of masks and images were taken for that may mean something else."""
    return [
        *dropped_values({one.scene.id: one.entry.dropped_pixels for one in decoded}, legend),
        *far_values({one.scene.id: one.fingerprint.far for one in decoded}, decoded[0].scene.image),
        *zero_pixels(
            {one.scene.id: guessed_zeros(one.scene, int(one.fingerprint.dark), one.entry.dtype) for one in decoded}
        ),
    ]


def check_choices(options: PrepareOptions, data: Path, found: FoundScenes) -> None:
    """Refuse lists and tables that are missing or wrong before any scene is decoded.

    Args:
        options: The split, lists and groups that are asked for.
        data: The data folder.
        found: Its scenes and findings.
    Raises:
        ConfigError: ``lists`` lacks where needed, or is given for another rule.
        SplitError: A list is wrong.
        DataError: ``groups.csv`` is missing where asked for, or wrong.
    """
    ids = [scene.id for scene in found.scenes if scene.labels is not None]
    if options.split == "lists" and options.lists is None:
        raise ConfigError("--lists: no folder given, expected one with train.txt, val.txt and test.txt. Pass it.")
    if options.lists is not None and options.split not in ("auto", "lists"):
        raise ConfigError(f"--lists: given for --split {options.split}. Drop one.")
    if options.lists is not None:
        absent = [one.scene for one in found.findings if one.severity == "error" and one.scene]
        lists_split(options.lists, ids, absent=absent)
    if options.folds and (options.lists is not None or options.split in ("origin", "lists", "folders")):
        flag = "--lists" if options.lists is not None else f"--split {options.split}"
        raise ConfigError(f"--folds {options.folds}: given with {flag}, which names one test set. Drop one.")
    check_block_options(options)
    if options.groups == "file":
        read_groups(data / GROUPS_FILE, ids)


def decode_all(found: FoundScenes, cache: Cache, snap: int) -> tuple[list[Decoded], list[Problem]]:
    """Decode all labelled scenes into the cache, two or more at once.

    Args:
        found: The scenes and their legend.
        cache: Folder of decoded scenes; those in it are not decoded again.
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
        with progress_bar(gettext("decode"), len(labelled)) as bar:
            for some in (labelled[start : start + 256] for start in range(0, len(labelled), 256)):
                tasks = {pool.submit(_decode, scene, cache, found.legend, snap): scene for scene in some}
                for task in as_completed(tasks):
                    try:
                        done.append(task.result())
                    except DataError as error:
                        finding = Finding("error", "unreadable", str(error), tasks[task].id)
                        problems.append(Problem(finding, type(error)))
                    bar.advance(note=tasks[task].id)
    finally:
        pool.shutdown(cancel_futures=True)
    done.sort(key=lambda one: one.scene.id)
    reused = sum(cache.path(one.entry.image_key).stat().st_mtime_ns < start_ns for one in done)
    say_cached(cache.folder, len(done), reused)
    # Causes before what follows from them: an image behind a bad link leaves its mask alone.
    causes = ("link", "name")
    return done, sorted(
        problems, key=lambda one: (one.finding.code not in causes, one.finding.scene or "", one.finding.text)
    )


def _decode(scene: SceneFile, cache: Cache, legend: Legend, snap: int) -> Decoded:
    """Decode one scene and take its fingerprint while its pixels are still in memory."""
    entry = cache.store(scene, legend, snap)

    def make() -> Fingerprint:
        opened = cache.open(entry.image_key, entry.labels_key)
        return fingerprint_scene(opened.pixels, opened.labels)

    return Decoded(scene, entry, cached_fingerprint(cache.folder, entry.image_key, entry.labels_key, make).packed())


def settle_problems(problems: Sequence[Problem], n_sound: int, *, skip_bad: bool) -> list[Finding]:
    """Raise the first problem, or return all of them as findings.

    Args:
        problems: What is wrong.
        n_sound: How many scenes are sound.
        skip_bad: Whether to go on without the scenes that have problems.
    Returns:
        One finding for each problem.
    Raises:
        DataError: There are problems and ``skip_bad`` is off, or no scene is sound.
    """
    if problems and not (skip_bad and n_sound):
        others = len(problems) - 1
        more = f"{others} more file{'s have' if others > 1 else ' has'} problems" if others else ""
        hint = f"--skip-bad leaves {'them' if others else 'it'} out" if n_sound else ""
        told = "; ".join(filter(None, (more, hint)))
        raise problems[0].kind(problems[0].finding.text + (f" ({told}.)" if told else ""))
    if problems:
        say("scenes or files with problems, left out: %(n)s", n=len(problems))
    return [one.finding for one in problems]


def scene_record(one: Decoded, data: Path) -> SceneRecord:
    """Make the record of a decoded scene; ``data`` is the folder that its paths are relative to."""
    entry, scene = one.entry, one.scene
    assert scene.labels is not None
    assert entry.labels_key is not None
    assert entry.labels_sha256 is not None
    return SceneRecord(
        id=scene.id,
        image=(scene.image_source or scene.image).relative_to(data).as_posix(),
        labels=(scene.labels_source or scene.labels).relative_to(data).as_posix(),
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
        file_sha256=entry.file_sha256,
    )


def _records(decoded: Sequence[Decoded], data: Path, grouping: Grouping) -> list[SceneRecord]:
    """Make the records of decoded scenes in their groups, with their places on the map."""
    at = middles(footprints([one.scene for one in decoded]))
    return [replace(scene_record(d, data), group=grouping.joined[(i := d.scene.id)], place=at.get(i)) for d in decoded]


def choose_split(
    options: PrepareOptions,
    scenes: Sequence[SceneRecord],
    grouping: Grouping,
    one_raster: bool,
    absent: Sequence[str] = (),
) -> Split:
    """Split the scenes as asked.

    Args:
        options: Rule, seed and lists; the rule ``auto`` takes lists where given, strips for one raster, the data's own
            folders where all three sets have some, else ``grouped``.
        scenes: The labelled scenes.
        grouping: Their groups; ``random`` keeps named groups together, ``grouped`` also what touches or repeats.
        one_raster: Whether all scenes are blocks of one raster.
        absent: Ids of scenes that were left out as bad; lists may name them.
    Raises:
        SplitError: The scenes cannot be split so.
    """
    ids = [scene.id for scene in scenes]
    if options.lists is not None:
        return lists_split(options.lists, ids, absent=absent)
    if options.split == "origin":
        return origin_split(ids)
    paths = {scene.id: scene.image for scene in scenes}
    has_folders = {split_folder(path) for path in paths.values()} >= {*SPLIT_NAMES}
    if options.split == "folders" or (options.split == "auto" and has_folders):
        return folders_split(paths)
    return _draw_split(options, scenes, grouping, one_raster)


def _draw_split(options: PrepareOptions, scenes: Sequence[SceneRecord], grouping: Grouping, one_raster: bool) -> Split:
    """Split a raster into strips, or draw groups at random; scenes without a labelled pixel are left out."""
    usable = {scene.id: scene.class_pixels for scene in scenes if sum(scene.class_pixels)}
    if one_raster and options.split not in ("random", "blocks"):
        windows = {scene.id: scene.window for scene in scenes if scene.id in usable and scene.window is not None}
        split = strips_split(windows, usable)
    else:
        named = {scene: grouping.named[scene] for scene in usable}
        joined = {scene: grouping.joined[scene] for scene in usable}
        apart = options.split == "auto" and len({*joined.values()}) < 3 <= len({*named.values()})
        rule = "random" if apart else options.split if options.split in ("random", "blocks") else "grouped"
        chosen, what = named if rule == "random" else joined, describe_blocks(options)
        split = random_split(chosen, usable, seed=options.split_seed, rule=rule, what=what)
        if apart:
            text = f"{split.text}; nearly all scenes belong together, so groups could not be kept whole"
            split = replace(split, text=text)
    unlabelled = tuple(scene.id for scene in scenes if scene.id not in usable)
    return replace(split, left_out=tuple(sorted((*split.left_out, *unlabelled))))


def _report(dataset: Dataset, kinds: Mapping[str, int], *, told: bool) -> None:
    """Print groups and split, class shares and findings; ``told`` says that the split was chosen from the data."""
    groups, sets = {scene.group for scene in dataset.scenes}, dataset.split.sets
    values = {"source": dataset.groups_from, "scenes": len(dataset.scenes), "groups": len(groups)}
    if kinds:
        pairs = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        say("groups from %(source)s: %(groups)s, with %(scenes)s scenes (pairs: %(pairs)s)", pairs=pairs, **values)
    else:
        say("groups from %(source)s: %(groups)s, with %(scenes)s scenes", **values)
    sizes = " / ".join(f"{len(ids)} {name}" if name in SPLIT_NAMES else str(len(ids)) for name, ids in sets.items())
    split = {"rule": dataset.split.rule, "sizes": sizes, "text": dataset.split.text}
    if told:
        text = gettext("split %(rule)s (chosen from the data; --split overrides): %(sizes)s; %(text)s", **split)
    else:
        text = gettext("split %(rule)s: %(sizes)s; %(text)s", **split)
    n_test = len({dataset.scene(scene).group for scene in dataset.ids("test")})
    if n_test < FEW_GROUPS:
        text += "; " + ngettext("%(n)s test group decides little", "%(n)s test groups decide little", n_test)
    say(text)
    head = (gettext("class"), pgettext("scenes", "all"), *sets, gettext("scenes"))
    say_table(gettext("Class shares"), head, class_rows(dataset))
    rows: list[tuple[str, str]] = [(one.described(), one.code) for one in dataset.findings[:SHOWN]]
    if len(dataset.findings) > SHOWN:
        more = gettext("… %(n)s more in %(file)s", n=len(dataset.findings) - SHOWN, file=DATASET_FILE)
        rows.append((more, ""))
    say_table(gettext("Findings"), (gettext("finding"), gettext("kind")), rows or [(gettext("none"), "")])


def _write_folds(dataset: Dataset, folds: Sequence[tuple[Split, list[Decoded]]], grouping: Grouping) -> None:
    """Write the record of each fold: its split, its training scenes' statistics, and its scenes."""
    for number, (fold, decoded) in enumerate(folds, start=1):
        mean, std = _mean_and_std(decoded, fold.train)
        folder, records = fold_folder(dataset.folder, number), tuple(_records(decoded, dataset.data, grouping))
        write_if_changed(replace(dataset, folder=folder, split=fold, mean=mean, std=std, scenes=records))
