"""The study's pictures as PNG files, under the origin study's names; draws, never computes.

Every figure is a :class:`matplotlib.figure.Figure` of its own with the Agg canvas: no window, no global state.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from levelground.curves import CURVES, curve_series, run_histories
from levelground.gallery import SceneSource, open_scene, read_preds, study_scenes
from levelground.legend import LabelMap, Legend
from levelground.looks import (
    RunLook,
    metric_title,
    primary_scoring,
    run_looks,
    throughput_of,
    value_interval,
    value_of,
)
from levelground.pictures import (
    ERROR_COLOURS,
    Picture,
    Pixels,
    display_rgb,
    error_map,
    reduce_labels,
    reduce_picture,
    reduced_size,
)
from levelground.records import Record, atomic_path

DPI = 120
SIDE = 512
"""Longer side of a scene in a picture, px."""

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
    for name, figure in _all_figures(record, study_folder, scenes or study_scenes(study_folder)):
        if figure is not None:
            written.append(_save(figure, out / f"{file_name(name)}.png"))
    return written


def _all_figures(record: Record, study_folder: Path, source: SceneSource | None) -> Iterator[tuple[str, Figure | None]]:
    """Every picture with its name, one after the other."""
    legend, looks = Legend.from_json(record["legend"]), run_looks(record)
    for name in _CURVE_NAMES:
        yield name, _curves(name, looks, study_folder)
    yield "forest", _forest(record, looks)
    yield "per_class_iou", _per_class(record, looks, legend)
    yield "pareto", _pareto(record, looks)
    for look in looks:
        yield f"confusion_{look.name}", _confusion(look, legend)
    if source is not None:
        ids = [scene["id"] for scene in record.get("scenes") or []]
        yield "dataset_samples", _samples(ids[:MOST_SAMPLES], source, legend)
        folders = [study_folder / "runs" / look.name / f"preds-{record['split']}" for look in looks]
        for scene_id in ids:
            yield f"comparison_{scene_id}", _comparison(scene_id, source, looks, folders, legend)


def file_name(name: str) -> str:
    """A name as a file's: letters, digits, ``.``, ``_`` and ``-``; what had to be changed gets a hash of the whole.

    Example:
        >>> file_name("comparison_119"), file_name("comparison_tile 1/part")
        ('comparison_119', 'comparison_tile-1-part-5084f5')
    """
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:120]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:6]}"


_CURVE_NAMES = ("train_loss_steps", "train_loss_epochs", "val_iou_steps", "val_iou_epochs")


def _curves(name: str, looks: Sequence[RunLook], study_folder: Path) -> Figure | None:
    """All runs in one plot; the origin's image IoU gets a plot of its own below, as it is another metric."""
    histories = run_histories([look.name for look in looks], study_folder)
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
                label=line.name,
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
    axes.set_yticks(range(len(looks)), [look.label for look in looks])
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric_title(record)}, 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    return figure


def _per_class(record: Record, looks: Sequence[RunLook], legend: Legend) -> Figure:
    """Each class's IoU in each run."""
    scoring = primary_scoring(record)
    figure = _figure(7.5, 1.4 + legend.n_classes * (0.25 + 0.07 * len(looks)))
    axes = figure.add_subplot()
    for lane, look in enumerate(looks):
        iou = look.scores(scoring).get("iou") or []
        rows = [(k + 0.8 * (lane + 0.5) / len(looks) - 0.4, value) for k, value in enumerate(iou) if value is not None]
        if rows:
            y, x = zip(*rows, strict=True)
            axes.plot(x, y, color=look.mark.light, marker=look.mark.marker, linestyle="none", label=look.label)
    axes.set_yticks(range(legend.n_classes), legend.names)
    axes.set_ylim(legend.n_classes - 0.5, -0.5)
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
            ends = value_interval(record, look.record)
            if ends:
                axes.plot((speed, speed), ends, color=look.mark.light)
            axes.plot(
                [speed], [value], color=look.mark.light, marker=look.mark.marker, linestyle="none", label=look.label
            )
            drawn += 1
    axes.set_xlim(left=0)
    axes.set_xlabel("inference, megapixels a second")
    axes.set_ylabel(metric_title(record))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure if drawn else None


def _confusion(look: RunLook, legend: Legend) -> Figure | None:
    """One run's confusion matrix, each row as shares of the true class."""
    counts = look.record.get("counts")
    if not counts:
        return None
    values = np.array(counts, np.float64)
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    side = 1.8 + 0.62 * legend.n_classes
    figure = _figure(side + 0.6, side)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true, row in enumerate(shares):
        for pred, share in enumerate(row):
            axes.text(
                pred, true, f"{share:.2f}", ha="center", va="center", color="w" if share > 0.55 else "k", fontsize=8
            )
    axes.set_xticks(range(legend.n_classes), legend.names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(legend.n_classes), legend.names, fontsize=8)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class, each row sums to 1")
    axes.set_title(look.label)
    return figure


def _samples(ids: Sequence[str], source: SceneSource, legend: Legend) -> Figure | None:
    """A few scenes above their labels."""
    opened = [(scene_id, scene) for scene_id in ids if (scene := open_scene(source, scene_id)) is not None]
    if not opened:
        return None
    figure = _figure(2.2 * len(opened), 5.2)
    for column, (scene_id, scene) in enumerate(opened):
        assert scene.labels is not None
        pictures = _reduced(np.asarray(scene.pixels), np.asarray(scene.labels))
        for row, picture in enumerate((pictures[0], _coloured(pictures[1], legend))):
            axes = figure.add_subplot(2, len(opened), row * len(opened) + column + 1)
            _picture(axes, picture, scene_id if row == 0 else "")
    _class_key(figure, legend)
    return figure


def _comparison(
    scene_id: str, source: SceneSource, looks: Sequence[RunLook], folders: Sequence[Path], legend: Legend
) -> Figure | None:
    """One scene: image and truth above, below them each run's prediction and its errors."""
    scene = open_scene(source, scene_id)
    if scene is None or scene.labels is None:
        return None
    labels = np.asarray(scene.labels)
    image, truth = _reduced(np.asarray(scene.pixels), labels)
    rows = [("image", image, "truth", _coloured(truth, legend))]
    for look, folder in zip(looks, folders, strict=True):
        preds = read_preds(folder, scene_id, (labels.shape[0], labels.shape[1]))
        if preds is not None:
            small = reduce_labels(preds, (truth.shape[0], truth.shape[1]))
            wrong = np.array(ERROR_COLOURS, np.uint8)[error_map(small, truth, legend.counted.tolist())]
            rows.append((look.label, _coloured(small, legend), f"{look.label}: errors dark", wrong))
    figure = _figure(6.4, 3.2 * len(rows) * truth.shape[0] / truth.shape[1] + 0.8)
    for number, (left, left_picture, right, right_picture) in enumerate(rows):
        _picture(figure.add_subplot(len(rows), 2, 2 * number + 1), left_picture, left)
        _picture(figure.add_subplot(len(rows), 2, 2 * number + 2), right_picture, right)
    _class_key(figure, legend)
    return figure


def _reduced(pixels: Pixels, labels: LabelMap) -> tuple[Picture, LabelMap]:
    """A scene's image and labels at the size of a picture, cut by the same rows and columns."""
    size = reduced_size(labels.shape[0], labels.shape[1], SIDE)
    return reduce_picture(display_rgb(pixels), size), reduce_labels(labels, size)


def _coloured(labels: LabelMap, legend: Legend) -> Picture:
    """Labels in their legend's colours; what the legend does not hold is grey."""
    palette = np.full((256, 3), 128, np.uint8)
    palette[: legend.n_classes] = legend.colours
    return palette[labels]


def _picture(axes: Axes, picture: Picture, title: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(_plain(title), fontsize=9)
    axes.set_axis_off()


def _class_key(figure: Figure, legend: Legend) -> None:
    """The classes' colours with their names below the pictures."""
    handles = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*entry.colour), edgecolor="0.4", label=_plain(entry.name))
        for entry in legend.classes
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)


def _plain(text: str) -> str:
    """Text as it is: a dollar sign starts no formula, what no font draws is left out."""
    return "".join(character for character in text if character.isprintable()).replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return path
