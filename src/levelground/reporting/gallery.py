"""Pictures of the report: the image of a scene, its true classes, and each run's prediction and errors.

Of many scenes the page holds those that say most; each of the others has a page of its own.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from levelground.comparison.record import Comparison
from levelground.comparison.text import score
from levelground.console import say, track
from levelground.errors import LevelgroundError, MissingRecordError, RecordError
from levelground.imagery.legend import LabelMap, Legend, hex_colour
from levelground.imagery.thumbnails import (
    ERROR_COLOURS,
    error_map,
    labels_uri,
    palette_uri,
    photo_uri,
    reduce_labels,
    reduced_scene,
    reduced_size,
)
from levelground.records import DAMAGED, HASHES_FILE, atomic_path, read_json, verify_file
from levelground.reporting.run_styles import StyledRun
from levelground.reporting.svg_charts import element
from levelground.wording import current_language, gettext

SIDES = (1024, 768, 640, 512, 448, 384, 320, 256, 192, 128)
"""Longer side of a picture in px, from the largest."""

THUMB = 192
"""Longer side of an error map in px; the slider computes errors at the size of the pictures."""

BUDGET_BYTES = 10_000_000
"""Size limit of all pictures of the page together."""

_MOST_THREADS = 4

MOST_SCENES, CHOSEN_SCENES = 150, 60
"""Scenes that all have pictures on the page; of more, so many are chosen, and the others have pages of their own."""

PAGE_SIDE, SHOWN_SIDE = 256, 256
"""Longer side of a picture on a scene's own page, px, and how wide a smaller one is shown."""


class OpenScene(Protocol):
    """An open scene: ``pixels`` ``(H, W, C)`` and ``labels`` ``(H, W)`` or ``None``."""

    @property
    def pixels(self) -> NDArray[np.generic]:
        """Return the image."""

    @property
    def labels(self) -> LabelMap | None:
        """Return the true classes."""


class SceneSource(Protocol):
    """Anything that opens scenes by id, such as a :class:`levelground.datasets.dataset.Dataset`."""

    def open(self, scene_id: str, /) -> OpenScene:
        """Open the scene of that id."""


@dataclass(frozen=True)
class ScenePictures:
    """One scene's pictures as data URIs; a run without a prediction has none.

    ``unlike`` is the share of the pixels with a true class on which the predictions are not all the same; ``None`` with
    fewer than two.
    """

    id: str
    height: int
    width: int
    image: str
    truth: str
    preds: Mapping[int, str] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)
    unlike: float | None = None

    @property
    def n_bytes(self) -> int:
        """Size on the page."""
        return sum(map(len, (self.image, self.truth, *self.preds.values(), *self.errors.values())))


@dataclass(frozen=True)
class Gallery:
    """Pictures of the scenes that could be opened, their longer side in px, and the ids that could not be opened.

    ``elsewhere`` are the scenes that were not chosen: the address of each one's own page, empty where it has none.
    """

    scenes: tuple[ScenePictures, ...]
    side: int
    missing: tuple[str, ...]
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def links(self) -> dict[str, str]:
        """Where each scene's pictures are, by id."""
        here = {scene.id: f"#scene-{number}" for number, scene in enumerate(self.scenes)}
        return here | {scene: address for scene, address in self.elsewhere.items() if address}


def study_gallery(
    comparison: Comparison, folders: Sequence[Path], source: SceneSource | None, own_pages: str | None
) -> Gallery:
    """Make the pictures of the scenes chosen.

    Args:
        comparison: The comparison.
        folders: Folders of the runs that are pictured.
        source: Opens images and labels; ``None`` where nothing can be opened.
        own_pages: Name of the folder in which :func:`write_scene_pages` writes the others; ``None`` for no pages.
    """
    chosen, every = chosen_scenes(comparison), [scene.id for scene in comparison.scenes]
    if source is None:
        return Gallery((), 0, tuple(every))
    found = make_gallery(list(chosen), folders, comparison.legend, source, split=comparison.split)
    others = {one: f"{own_pages}/{n:05d}.html" if own_pages else "" for n, one in enumerate(every) if one not in chosen}
    return replace(found, elsewhere=others)


def chosen_scenes(comparison: Comparison) -> dict[str, int]:
    """Choose the scenes with pictures on the page, with their positions: all, or of many those that say most.

    A third has the lowest mean mIoU, a third that which differs most between runs; the others lie evenly in the order
    of the data.
    """
    n = len(comparison.scenes)
    if n <= MOST_SCENES:
        return {scene.id: number for number, scene in enumerate(comparison.scenes)}
    scores = np.array([run.scene_miou for run in comparison.runs], np.float64)  # (R, S), NaN where there is none
    known = ~np.isnan(scores)
    mean = np.where(known.any(axis=0), np.where(known, scores, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), 2.0)
    spread = np.where(known, scores, -1).max(axis=0) - np.where(known, scores, 2).min(axis=0)
    evenly = np.linspace(0, n - 1, CHOSEN_SCENES).round().astype(np.int64)
    ranks = np.argsort(mean, kind="stable"), np.argsort(-spread, kind="stable"), evenly
    chosen: dict[int, None] = {}
    for share, order in enumerate(ranks, start=1):
        for number in order.tolist():
            if len(chosen) < CHOSEN_SCENES * share // len(ranks):
                chosen[number] = None
    return {comparison.scenes[number].id: number for number in sorted(chosen)}


def write_scene_pages(
    comparison: Comparison, runs: Sequence[StyledRun], folders: Sequence[Path], source: SceneSource | None, out: Path
) -> list[Path]:
    """Write a page for each scene that was not chosen, with its pictures; pages of an earlier report are removed.

    Args:
        comparison: The comparison.
        runs: The runs that are pictured.
        folders: Their folders.
        source: Opens images and labels.
        out: Folder of the pages, ``NUMBER.html`` by the scene's position.
    Returns:
        The pages.
    Raises:
        DiskError: A page cannot be written.
    """
    chosen = chosen_scenes(comparison)
    others = [(number, scene) for number, scene in enumerate(comparison.scenes) if scene.id not in chosen]
    preds, written = [folder / f"preds-{comparison.split}" for folder in folders], []
    for number, scene in track(others, gettext("pages of scenes"), len(others)) if others else ():
        made = None if source is None else _pictures(scene.id, preds, comparison.legend, source, PAGE_SIDE)
        if made is not None:
            written.append(out / f"{number:05d}.html")
            values = {run.number: run.result.scene_miou[number] for run in runs}
            with atomic_path(written[-1], durable=False) as temporary:
                temporary.write_text(_scene_page(made, runs, values, comparison.legend), "utf-8", "replace")
    for path in set(out.glob("[0-9]" * 5 + ".html")) - {*written}:
        path.unlink()
    return written


def _scene_page(
    made: ScenePictures, runs: Sequence[StyledRun], values: Mapping[int, float | None], legend: Legend
) -> str:
    """Return the page of one scene; it has no style and no script, and loads nothing."""
    width = max(made.width, SHOWN_SIDE * made.width // max(made.width, made.height))
    size: dict[str, int] = {"width": width, "height": round(made.height * width / made.width)}

    def figure(caption: str, *pictures: tuple[str, str]) -> Markup:
        images = [element("img", src=source, alt=text, title=text, **size) for source, text in pictures]
        return element("figure", *images, element("figcaption", caption))

    name, truth = gettext("Image of scene %(id)s", id=made.id), gettext("True classes of scene %(id)s", id=made.id)
    figures = [figure(gettext("image, truth"), (made.image, name), (made.truth, truth))]
    for run in runs:
        if run.number in made.preds:
            told = {"run": run.label, "id": made.id}
            classes = gettext("Classes predicted by %(run)s for scene %(id)s", **told)
            errors = gettext("Errors of %(run)s in scene %(id)s", **told)
            caption = f"{run.label} {score(values[run.number])}"
            figures.append(figure(caption, (made.preds[run.number], classes), (made.errors[run.number], errors)))
    colours = []
    for one in legend.classes:
        square = element("rect", width=12, height=12, fill=f"#{hex_colour(one.colour).lower()}")
        colours.append(element("li", element("svg", square, width=12, height=12), f" {one.name}"))
    policy = "default-src 'none'; img-src data:"
    head = Markup(
        '<!doctype html>\n<html lang="{}"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" content="{}">'
    ).format(current_language(), policy)
    body = element("body", element("h1", made.id), *figures, element("ul", *colours))
    return f"{head}{element('title', made.id)}</head>{body}</html>\n"


def make_gallery(
    scene_ids: Sequence[str],
    run_folders: Sequence[Path],
    legend: Legend,
    source: SceneSource,
    *,
    budget_bytes: int = BUDGET_BYTES,
    split: str = "test",
) -> Gallery:
    """Make the pictures of every scene, as large as the size limit allows.

    Args:
        scene_ids: The scenes.
        run_folders: Folder of each run; its predictions lie in ``preds-<split>/<id>.png``.
        legend: Classes and colours.
        source: Opens images and labels.
        budget_bytes: Size limit of all pictures together.
        split: The split of the scenes.
    """
    folders = [folder / f"preds-{split}" for folder in run_folders]
    side = _fitting_side(scene_ids, folders, legend, source, budget_bytes)
    scenes, missing = [], []
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:  # most of the time is WebP's encoder
        each = pool.map(lambda scene_id: _pictures(scene_id, folders, legend, source, side), scene_ids)
        for scene_id, made in zip(scene_ids, track(each, gettext("pictures of scenes"), len(scene_ids)), strict=True):
            if made is None:
                missing.append(scene_id)
            else:
                scenes.append(made)
    if missing:
        shown = ", ".join(missing[:8]) + (", …" if len(missing) > 8 else "")
        say("Without pictures, because image, labels or cache are missing or damaged: %(scenes)s.", scenes=shown)
    return Gallery(tuple(scenes), side, tuple(missing))


def viewer_data(comparison: Comparison, runs: Sequence[StyledRun], gallery: Gallery) -> dict[str, object]:
    """Return what the page's script reads besides the pictures.

    Classes, labels of the runs, the words that it writes, and of each scene what orders and filters the list: scores by
    run, disagreement, true classes.
    """
    places = {scene.id: number for number, scene in enumerate(comparison.scenes)}
    scenes = [
        {
            "id": scene.id,
            "scores": [_rounded(run.result.scene_miou[places[scene.id]]) for run in runs],
            "unlike": _rounded(scene.unlike),
            "classes": [k for k, pixels in enumerate(comparison.scenes[places[scene.id]].class_pixels) if pixels],
        }
        for scene in gallery.scenes
    ]
    classes = [
        {"name": entry.name, "colour": list(entry.colour), "counted": entry.counted}
        for entry in comparison.legend.classes
    ]
    return {"classes": classes, "runs": [run.label for run in runs], "scenes": scenes, "words": _script_words()}


def _script_words() -> dict[str, str]:
    """Return the texts that the script writes; it fills in what stands in braces."""
    return {
        "place": gettext("row {row}, column {column}"),
        "truth": gettext("truth"),
        "wrong": gettext("wrong"),
        "no_data": gettext("no data"),
        "left": gettext("{share} %% left."),
        "scroll": gettext("Wider than the page: scroll sideways for more columns."),
        "count": gettext("Scenes: {shown} of {all}"),
        "unlike_on": gettext("runs disagree on {share} %%"),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def study_scenes(study_folder: Path, run_folders: Sequence[Path]) -> SceneSource | None:
    """Open the data set of a study, or of the study that the runs belong to; ``None`` where there is none.

    Raises:
        RecordError: It was changed after it was written, or cannot be read.
    """
    from levelground.datasets.dataset import DATASET_FILE, read_dataset

    for folder in dict.fromkeys([study_folder, *(run.parent.parent for run in run_folders)]):
        try:
            return read_dataset(folder)
        except MissingRecordError:
            continue
        except RecordError:  # a damaged one is refused; one of fewer fields has no pictures
            read_json(folder / DATASET_FILE, kind="dataset")
    return None


def read_preds(folder: Path, scene_id: str, shape: tuple[int, int]) -> LabelMap | None:
    """Read a run's prediction of a scene.

    Args:
        folder: Folder of the run's predictions.
        scene_id: The scene; an id that would lead out of the folder has no prediction.
        shape: The scene's height and width; a prediction of another size is left out.
    Raises:
        RecordError: It was changed after it was written.
    """
    path = folder / f"{scene_id}.png"
    if "\0" in scene_id or not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return None
    verify_file(path, f"Run levelground evaluate {folder.parent}, or adopt the masks again.", folder / HASHES_FILE)
    try:
        with Image.open(path) as image:
            preds = np.asarray(image, np.uint8) if image.mode in ("P", "L") else None
    except (*DAMAGED, Image.DecompressionBombError):
        return None
    return preds if preds is not None and preds.shape == shape else None


def open_scene(source: SceneSource, scene_id: str) -> OpenScene | None:
    """Open a scene; ``None`` where image, labels or cache are missing."""
    try:
        opened = source.open(scene_id)
    except (LevelgroundError, OSError, KeyError, ValueError):
        return None
    return None if opened.labels is None else opened


def _fitting_side(
    scene_ids: Sequence[str], folders: Sequence[Path], legend: Legend, source: SceneSource, budget_bytes: int
) -> int:
    """Return the largest side at which all pictures fit the size limit, estimated from up to three scenes."""
    probes = list(dict.fromkeys(scene_ids[n] for n in (0, len(scene_ids) // 2, -1))) if scene_ids else []
    for side in SIDES:
        pictures = (_pictures(scene_id, folders, legend, source, side) for scene_id in probes)
        sizes = [made.n_bytes for made in pictures if made is not None]
        if not sizes or len(scene_ids) * sum(sizes) / len(sizes) <= budget_bytes:
            return side
    return SIDES[-1]


def _pictures(
    scene_id: str, folders: Sequence[Path], legend: Legend, source: SceneSource, side: int
) -> ScenePictures | None:
    """Make the pictures of one scene; ``None`` where it cannot be opened."""
    opened = open_scene(source, scene_id)
    if opened is None or opened.labels is None:
        return None
    labels = np.asarray(opened.labels)
    shape = (labels.shape[0], labels.shape[1])
    picture, truth = reduced_scene(opened.pixels, labels, side)
    size, thumb = (truth.shape[0], truth.shape[1]), reduced_size(*shape, min(side, THUMB))
    counted = legend.counted.tolist()
    preds, errors, maps = {}, {}, []
    for number, folder in enumerate(folders):
        found = read_preds(folder, scene_id, shape)
        if found is not None:
            maps.append(reduce_labels(found, size))
            preds[number] = labels_uri(maps[-1], legend)
            wrong = error_map(reduce_labels(found, thumb), reduce_labels(labels, thumb), counted)
            errors[number] = palette_uri(wrong, ERROR_COLOURS)
    return ScenePictures(
        id=scene_id,
        height=size[0],
        width=size[1],
        image=photo_uri(picture),
        truth=labels_uri(truth, legend),
        preds=preds,
        errors=errors,
        unlike=_unlike_share(maps, truth < legend.n_classes),
    )


def _unlike_share(maps: Sequence[LabelMap], valid: NDArray[np.bool_]) -> float | None:
    """Return the share of valid pixels on which class maps are not all the same; ``None`` with fewer than two."""
    if len(maps) < 2 or not valid.any():
        return None
    unlike = np.any([one != maps[0] for one in maps[1:]], axis=0)
    return float(unlike[valid].mean())
