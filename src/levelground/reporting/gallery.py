"""Scenes of the report: pictures, differences of pairs scene by scene, and the scores of all runs as a heat map.

Pictures are the image, the true classes, and each run's prediction and errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from levelground.comparison.record import Comparison
from levelground.comparison.results import PairResult
from levelground.comparison.text import score, signed
from levelground.console import track
from levelground.errors import LevelgroundError
from levelground.imagery.legend import LabelMap, Legend
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
from levelground.records import HASHES_FILE, verify_file
from levelground.reporting.run_styles import StyledRun
from levelground.reporting.svg_charts import element, line, percent, scale_over, tick_text
from levelground.wording import gettext, ngettext

SIDES = (1024, 768, 640, 512, 448, 384, 320, 256, 192, 128)
"""Longer side of a picture in px, from the largest."""

THUMB = 192
"""Longer side of an error map in px; the slider computes errors at the size of the pictures."""

BUDGET_BYTES = 20_000_000
"""Size limit of all pictures of the page together."""


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
    """Pictures of all scenes that could be opened, their longer side in px, and the ids that could not be opened."""

    scenes: tuple[ScenePictures, ...]
    side: int
    missing: tuple[str, ...]


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
    for scene_id in track(scene_ids, gettext("pictures of scenes"), len(scene_ids)):
        made = _pictures(scene_id, folders, legend, source, side)
        if made is None:
            missing.append(scene_id)
        else:
            scenes.append(made)
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
    """Open the data set of a study, or of the study that the runs belong to; ``None`` where there is none."""
    from levelground.datasets.dataset import read_dataset

    for folder in dict.fromkeys([study_folder, *(run.parent.parent for run in run_folders)]):
        try:
            return read_dataset(folder)
        except (LevelgroundError, OSError):
            continue
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
    except (OSError, Image.DecompressionBombError):
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


DRAWN_PAIRS = 4
"""Pairs whose differences are drawn scene by scene, the leader's first."""

HEAT_CELLS = 6000
"""Cells of the heat map; with more, only the leading runs are drawn."""


@dataclass(frozen=True)
class SceneDifferences:
    """Differences of one pair scene by scene.

    Attributes:
        names: Labels of the two sides.
        chart: One mark a scene, sorted by difference, as large as the scene has pixels, and leading to it.
        better: The number of scenes in which the first scores higher.
        scenes: The number of scenes that have a difference.
    """

    names: tuple[str, str]
    chart: Markup
    better: int
    scenes: int


@dataclass(frozen=True)
class HeatRow:
    """One run's scores, scene by scene, as a strip of cells."""

    run: StyledRun
    strip: Markup


@dataclass(frozen=True)
class SceneHeat:
    """The scores of runs by scene, the hardest scene first; ``left_out`` runs are not drawn."""

    rows: tuple[HeatRow, ...]
    low: str
    high: str
    left_out: int


def scene_differences(
    comparison: Comparison, pairs: Sequence[PairResult], labels: Mapping[str, str], gallery: Gallery
) -> list[SceneDifferences]:
    """Draw the differences of the first pairs in the mIoU of each scene alone.

    Args:
        comparison: The comparison.
        pairs: Pairs, the better-ranked side first; those of the leader are drawn first.
        labels: Labels of the names that have another one.
        gallery: The pictures that marks lead to.
    """
    by_side = _side_scores(comparison)
    links = {scene.id: f"#scene-{number}" for number, scene in enumerate(gallery.scenes)}
    drawn = []
    for pair in [pair for pair in pairs if not pair.negative_control][:DRAWN_PAIRS]:
        names = (labels.get(pair.a, pair.a), labels.get(pair.b, pair.b))
        found = [
            (a - b, sum(scene.class_pixels), scene.id)
            for scene, a, b in zip(comparison.scenes, by_side[pair.a], by_side[pair.b], strict=True)
            if a is not None and b is not None
        ]
        if len(found) >= 2:
            better = sum(difference > 0 for difference, _, _ in found)
            chart = _difference_chart(sorted(found), comparison.delta, names, links)
            drawn.append(SceneDifferences(names, chart, better, len(found)))
    return drawn


def _side_scores(comparison: Comparison) -> dict[str, tuple[float | None, ...]]:
    """The mIoU of each scene, by run and by architecture (the mean over its seeds)."""
    runs = {run.name: run.scene_miou for run in comparison.runs}
    found: dict[str, tuple[float | None, ...]] = dict(runs)
    for entry in comparison.architectures:
        scenes = zip(*(runs[name] for name in entry.runs), strict=True)
        found[entry.name] = tuple(
            None if any(value is None for value in values) else sum(value or 0.0 for value in values) / len(values)
            for values in scenes
        )
    return found


def _difference_chart(
    found: Sequence[tuple[float, int, str]], delta: float, names: tuple[str, str], links: Mapping[str, str]
) -> Markup:
    """Draw sorted differences, each with the pixels and the id of its scene, one a row."""
    spacing = min(14.0, 560 / len(found))
    height = round(spacing * len(found)) + 12
    scale = scale_over([difference for difference, _, _ in found] + [-delta, delta])
    ticks = scale.ticks(4)
    largest = max(1, *(pixels for _, pixels, _ in found))
    zone = scale.share(delta) - scale.share(-delta)
    parts = [element("rect", x=scale.at(-delta), y="0", width=percent(zone), height="100%", class_="zone")]
    for tick in ticks:
        parts.append(line(scale.at(tick), "0", scale.at(tick), "100%", "zero" if tick == 0 else "grid"))
        parts.append(element("text", tick_text(tick, ticks), x=scale.at(tick), y=str(height + 16), class_="tick mid"))
    for row, (difference, pixels, scene) in enumerate(found):
        size = ngettext("%(n)s pixel", "%(n)s pixels", pixels)
        title = element("title", f"{scene}: {signed(difference)}, {size}")
        radius = round(2 + 5 * (pixels / largest) ** 0.5, 1)
        dot = element("circle", title, cx=scale.at(difference), cy=f"{6 + spacing * (row + 0.5):.1f}", r=radius)
        parts.append(element("a", dot, href=links[scene]) if scene in links else dot)
    text = ngettext(
        "Differences of %(a)s and %(b)s in %(n)s scene",
        "Differences of %(a)s and %(b)s in %(n)s scenes",
        len(found),
        a=names[0],
        b=names[1],
    )
    return element("svg", *parts, class_="area dots", height=str(height), role="img", aria_label=text)


def scene_heat(comparison: Comparison, runs: Sequence[StyledRun], gallery: Gallery) -> SceneHeat | None:
    """Draw the mIoU of each scene in each run, scenes from the hardest to the easiest; ``None`` with one scene.

    Args:
        comparison: The comparison.
        runs: The runs, best first.
        gallery: The pictures that cells lead to.
    """
    values = [value for run in runs for value in run.result.scene_miou if value is not None]
    if len(comparison.scenes) < 2 or not values:
        return None
    shown = runs[: max(1, HEAT_CELLS // len(comparison.scenes))]
    low, high = min(values), max(values)
    means = [
        sum(value or 0.0 for value in column) for column in zip(*(run.result.scene_miou for run in runs), strict=True)
    ]
    order = sorted(range(len(means)), key=lambda number: (means[number], number))
    links = {scene.id: f"#scene-{number}" for number, scene in enumerate(gallery.scenes)}
    rows = [HeatRow(run, _heat_strip(comparison, run, order, links, (low, high))) for run in shown]
    return SceneHeat(tuple(rows), score(low), score(high), len(runs) - len(shown))


def _heat_strip(
    comparison: Comparison, run: StyledRun, order: Sequence[int], links: Mapping[str, str], ends: tuple[float, float]
) -> Markup:
    """Draw one run's scenes as cells, the darker the higher the score."""
    cells, width = [], 1 / len(order)
    for place, number in enumerate(order):
        scene, value = comparison.scenes[number].id, run.result.scene_miou[number]
        if value is None:
            continue
        shade = 0.08 + 0.92 * (value - ends[0]) / (ends[1] - ends[0] or 1.0)
        cell = element(
            "rect",
            element("title", f"{scene}, {run.label}: {score(value)}"),
            x=percent(place * width),
            y="8%",
            width=percent(width),
            height="84%",
            fill_opacity=round(shade, 2),
        )
        cells.append(element("a", cell, href=links[scene]) if scene in links else cell)
    return element(
        "svg", *cells, class_="strip heat", role="img", aria_label=gettext("Scores of %(run)s by scene", run=run.label)
    )
