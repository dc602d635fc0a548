"""The study's pictures as PNG files, under the origin study's names; draws, never computes.

Every figure is a :class:`matplotlib.figure.Figure` of its own with the Agg canvas: no window, no global state.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from levelground.console import track
from levelground.imagery.legend import Legend, LegendClass
from levelground.imagery.thumbnails import (
    ERROR_COLOURS,
    Picture,
    coloured,
    error_map,
    reduce_labels,
    reduced_scene,
)
from levelground.records import Record, atomic_path
from levelground.reporting.gallery import SceneSource, open_scene, read_preds, study_scenes
from levelground.reporting.learning_curves import CURVES, curve_series, run_histories
from levelground.reporting.per_class import shown_classes
from levelground.reporting.run_styles import (
    RunLook,
    interval_of,
    metric_title,
    primary_scoring,
    run_looks,
    throughput_of,
    value_interval,
    value_of,
)

DPI = 120
SIDE_PX, GAP_PX, TITLE_PX = 400, 12, 28
"""Longer side of a scene in a picture, room between pictures, room of a title."""

MOST_SAMPLES = 6
"""Scenes in ``dataset_samples.png``."""


def draw_figures(record: Record, study_folder: Path, out: Path, *, scenes: SceneSource | None = None) -> list[Path]:
    """Draw all pictures that the record and the study's folders allow.

    Args:
        record: The comparison, as ``comparison.json`` holds it.
        study_folder: Where ``runs/`` and ``dataset.json`` lie.
        out: Folder of the PNG files.
        scenes: Gives images and labels; by default the study's data set.
    Returns:
        The files written.
    Raises:
        DiskError: A file cannot be written.
    """
    written = []
    for name, figure in _all_figures(record, study_folder, scenes):
        if figure is not None:
            written.append(_save(figure, out / f"{file_name(name)}.png"))
    return written


def _all_figures(record: Record, study_folder: Path, scenes: SceneSource | None) -> Iterator[tuple[str, Figure | None]]:
    """Every picture with its name, one after the other."""
    legend, looks = Legend.from_json(record["legend"]), run_looks(record)
    folders = [look.folder(study_folder) for look in looks]
    classes = shown_classes(looks, legend)
    for name in _CURVE_NAMES:
        yield name, _curves(name, looks, folders)
    yield "forest", _forest(record, looks)
    yield "per_class_iou", _per_class(record, looks, classes)
    yield "pareto", _pareto(record, looks)
    for look in looks:
        yield f"confusion_{look.name}", _confusion(look, classes)
    source = scenes or study_scenes(study_folder, folders)
    if source is not None:
        ids = [scene["id"] for scene in record.get("scenes") or []]
        yield "dataset_samples", _samples(ids[:MOST_SAMPLES], source, legend)
        preds = [folder / f"preds-{record['split']}" for folder in folders]
        for scene_id in track(ids, "figures of scenes", len(ids)):
            yield f"comparison_{scene_id}", _comparison(scene_id, source, looks, preds, legend)


def file_name(name: str) -> str:
    """A name as a file's: letters, digits, ``.``, ``_`` and ``-``; what had to be changed gets a hash of the whole.

    Example:
        >>> file_name("comparison_119"), file_name("comparison_tile 1/part")
        ('comparison_119', 'comparison_tile-1-part-5084f5')
    """
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:120]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:6]}"


_CURVE_NAMES = ("train_loss_steps", "train_loss_epochs", "val_iou_steps", "val_iou_epochs")


def _curves(name: str, looks: Sequence[RunLook], folders: Sequence[Path]) -> Figure | None:
    """All runs in one plot; the origin's image IoU gets a plot of its own below, as it is another metric."""
    histories = run_histories(looks, folders)
    wanted = [curve for curve in CURVES if curve.code in (name, name.replace("val_iou", "val_image_iou"))]
    drawn = [(curve, series) for curve in wanted if (series := curve_series(curve, looks, histories))]
    if not drawn:
        return None
    figure = _figure(7.5, 4.2 * len(drawn))
    for number, (curve, series) in enumerate(drawn):
        axes = figure.add_subplot(len(drawn), 1, number + 1)
        for line in series:
            x, y = zip(*line.points, strict=True)
            dash = (0, line.mark.dash) if line.mark.dash else "-"
            every = max(1, len(x) // 8)
            axes.plot(
                x, y, color=line.mark.light, linestyle=dash, marker=line.mark.marker, markersize=5, markevery=every,
                label=_plain(line.name),
            )  # fmt: skip
        axes.set_xlabel(curve.x_title)
        axes.set_ylabel(curve.title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8, ncols=1 + len(series) // 8)
    return figure


def _forest(record: Record, looks: Sequence[RunLook]) -> Figure:
    """Each run's score with its interval."""
    figure = _figure(7.5, 1.2 + 0.34 * len(looks))
    axes = figure.add_subplot()
    for row, look in enumerate(looks):
        value, ends = value_of(record, look.record), value_interval(record, look.record)
        if ends:
            axes.plot(ends, (row, row), color=look.mark.light, linewidth=2)
        if value is not None:
            axes.plot([value], [row], color=look.mark.light, marker=look.mark.marker, markersize=7)
    axes.set_yticks(range(len(looks)), [_plain(look.label) for look in looks])
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric_title(record)}, 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    return figure


def _per_class(record: Record, looks: Sequence[RunLook], classes: Sequence[LegendClass]) -> Figure:
    """Each class's IoU in each run."""
    scoring = primary_scoring(record)
    figure = _figure(7.5, 1.4 + len(classes) * (0.25 + 0.07 * len(looks)))
    axes = figure.add_subplot()
    for lane, look in enumerate(looks):
        iou = look.scores(scoring).get("iou") or []
        values = [(row, iou[entry.index]) for row, entry in enumerate(classes) if entry.index < len(iou)]
        rows = [(row + 0.8 * (lane + 0.5) / len(looks) - 0.4, value) for row, value in values if value is not None]
        if rows:
            y, x = zip(*rows, strict=True)
            label = _plain(look.label)
            axes.plot(x, y, color=look.mark.light, marker=look.mark.marker, linestyle="none", label=label)
    axes.set_yticks(range(len(classes)), [_plain(entry.name) for entry in classes])
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"IoU, {scoring} scoring")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _pareto(record: Record, looks: Sequence[RunLook]) -> Figure | None:
    """Score over throughput."""
    figure = _figure(7.5, 4.6)
    axes = figure.add_subplot()
    drawn = 0
    for look in looks:
        speed, value = throughput_of(look), value_of(record, look.record)
        if speed and value is not None:
            ends, across = value_interval(record, look.record), interval_of(look.record.get("throughput"))
            if across:
                axes.plot(across, (value, value), color=look.mark.light)
            if ends:
                axes.plot((speed, speed), ends, color=look.mark.light)
            axes.plot(
                [speed],
                [value],
                color=look.mark.light,
                marker=look.mark.marker,
                linestyle="none",
                label=_plain(look.label),
            )
            drawn += 1
    axes.set_xlim(left=0)
    axes.set_xlabel("inference, megapixels a second")
    axes.set_ylabel(metric_title(record))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure if drawn else None


def _confusion(look: RunLook, classes: Sequence[LegendClass]) -> Figure | None:
    """One run's confusion matrix, each row as shares of the true class."""
    counts = look.record.get("counts")
    if not counts:
        return None
    values = np.array(counts, np.float64)
    shown = [entry.index for entry in classes]
    shares = (values / np.maximum(values.sum(axis=1, keepdims=True), 1))[np.ix_(shown, shown)]
    names = [_plain(entry.name) for entry in classes]
    side = 1.8 + 0.62 * len(names)
    figure = _figure(side + 0.6, side)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true, row in enumerate(shares):
        for pred, share in enumerate(row):
            axes.text(
                pred, true, f"{share:.2f}", ha="center", va="center", color="w" if share > 0.55 else "k", fontsize=8
            )
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class, each row sums to 1")
    axes.set_title(_plain(look.label))
    return figure


def _samples(ids: Sequence[str], source: SceneSource, legend: Legend) -> Figure | None:
    """A few scenes above their labels."""
    columns = []
    for scene_id in ids:
        scene = open_scene(source, scene_id)
        if scene is not None and scene.labels is not None:
            image, labels = reduced_scene(scene.pixels, scene.labels, SIDE_PX)
            columns.append([(scene_id, image), ("", coloured(labels, legend))])
    return _picture_grid(list(zip(*columns, strict=True)), legend) if columns else None


def _comparison(
    scene_id: str, source: SceneSource, looks: Sequence[RunLook], folders: Sequence[Path], legend: Legend
) -> Figure | None:
    """One scene: image and truth above, below them each run's prediction and its errors."""
    scene = open_scene(source, scene_id)
    if scene is None or scene.labels is None:
        return None
    image, truth = reduced_scene(scene.pixels, scene.labels, SIDE_PX)
    rows = [[(f"{scene_id}: image", image), ("truth", coloured(truth, legend))]]
    for look, folder in zip(looks, folders, strict=True):
        preds = read_preds(folder, scene_id, (scene.labels.shape[0], scene.labels.shape[1]))
        if preds is not None:
            small = reduce_labels(preds, (truth.shape[0], truth.shape[1]))
            wrong = np.array(ERROR_COLOURS, np.uint8)[error_map(small, truth, legend.counted.tolist())]
            rows.append([(look.label, coloured(small, legend)), ("its errors, dark", wrong)])
    return _picture_grid(rows, legend)


def _picture_grid(rows: Sequence[Sequence[tuple[str, Picture]]], legend: Legend) -> Figure:
    """Titled pictures in rows, pixel for pixel, and the classes' colours with their names below."""
    shapes = [picture.shape for row in rows for _, picture in row]
    cell_height, cell_width = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    n_columns = max(len(row) for row in rows)
    width = max(n_columns * (cell_width + GAP_PX) + GAP_PX, 360)
    key_columns = max(1, (width - GAP_PX) // 170)
    key_height = GAP_PX + 22 * -(-legend.n_classes // key_columns)
    height = len(rows) * (cell_height + TITLE_PX) + GAP_PX + key_height
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    for number, row in enumerate(rows):
        top = number * (cell_height + TITLE_PX) + TITLE_PX
        for column, (title, picture) in enumerate(row):
            left = GAP_PX + column * (cell_width + GAP_PX)
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            figure.text(left / width, 1 - (top - 6) / height, _plain(title), fontsize=8, va="bottom")
    figure.figimage(canvas, origin="upper", zorder=-1)
    handles = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*entry.colour), edgecolor="0.4", label=_plain(entry.name))
        for entry in legend.classes
    ]
    figure.legend(handles=handles, loc="lower left", ncols=key_columns, frameon=False, fontsize=8, borderaxespad=0.2)
    return figure


def _plain(text: str) -> str:
    """Text as it is: a dollar sign starts no formula, a first underscore hides no label, what does not print goes."""
    printed = "".join(character for character in text if character.isprintable()).replace("$", r"\$")
    return f" {printed}" if printed.startswith("_") else printed


def _figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", pil_kwargs={"compress_level": 4})
    return path
