"""Decode every labelled scene once, a few at a time; what fails becomes a finding."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from levelground.console import progress_bar, say
from levelground.datasets.dataset import SceneRecord
from levelground.datasets.inspection import missing_masks
from levelground.datasets.traits import Traits, cached_traits, scene_traits
from levelground.errors import DataError, DiskError, SceneError
from levelground.imagery.cache import Cache, CacheEntry
from levelground.imagery.legend import Legend
from levelground.imagery.scenes import Finding, Found, SceneFile


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
