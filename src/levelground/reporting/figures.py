"""Picture files of a study, under the file names of the origin study: charts, dataset samples, compared scenes.

Every figure is a :class:`matplotlib.figure.Figure` of its own with the Agg canvas, without pyplot's global state.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import ScalarFormatter

from levelground.comparison.compare import in_current_language
from levelground.comparison.record import Comparison
from levelground.config import PNG, Figures
from levelground.console import track
from levelground.files import in_turn
from levelground.imagery.legend import Legend, hex_colour
from levelground.imagery.thumbnails import (
    ERROR_COLOURS,
    Picture,
    coloured,
    error_map,
    reduce_labels,
    reduced_scene,
)
from levelground.records import HASHES_FILE, atomic_path, write_hashes
from levelground.reporting.displays import (
    Chart,
    confusion_chart,
    curve_charts,
    forest_chart,
    pareto_chart,
    per_class_chart,
    plain_label,
)
from levelground.reporting.gallery import SceneSource, chosen_scenes, open_scene, read_preds, study_scenes
from levelground.reporting.learning_curves import curve_runs
from levelground.reporting.per_class import shown_classes
from levelground.reporting.run_styles import SHOWN_RUNS, StyledRun, pictured_runs, styled_runs
from levelground.wording import decimal, gettext

DPI = 120
SIDE_PX, GAP_PX, TITLE_PX = 400, 12, 28
"""Longer side of a scene in a picture, gap between pictures, height of a title."""

MOST_SAMPLES = 6
"""Scenes in ``dataset_samples``."""

SCENES = "scenes"
"""Folder of the pictures of single scenes, below that of the charts."""


def draw_figures(
    comparison: Comparison,
    study_folder: Path,
    out: Path,
    *,
    scenes: SceneSource | None = None,
    formats: Figures = PNG,
) -> list[Path]:
    """Draw all pictures that the comparison and the study's folders allow.

    Pictures of an earlier call that this one does not draw are removed, unless somebody changed them since.

    Args:
        comparison: The comparison.
        study_folder: Folder of ``runs/`` and ``dataset.json``.
        out: Folder of the pictures; those of single scenes are in :data:`SCENES` below it.
        scenes: Opens images and labels; by default the study's data set.
        formats: The formats that each picture is written in; without any, nothing is done.
    Returns:
        The files written.
    Raises:
        DiskError: A file cannot be written.
    """
    if not formats:
        return []
    comparison = in_current_language(comparison)
    written = []
    with in_turn(out, folder=True):
        for name, figure in _all_figures(comparison, study_folder, scenes):
            if figure is not None:
                folder = out / SCENES if name.startswith(_ONE_SCENE) else out
                kinds = dict.fromkeys(formats)
                written += [_save(figure, folder / f"{file_name(name)}.{kind}", kind) for kind in kinds]
        write_hashes(out / HASHES_FILE, written, alone=True)
    return written


_ONE_SCENE = "comparison_"
"""How the names of pictures of single scenes begin."""


def _all_figures(
    comparison: Comparison, study_folder: Path, scenes: SceneSource | None
) -> Iterator[tuple[str, Figure | None]]:
    """Draw one picture after the other, each with its name."""
    legend, every = comparison.legend, styled_runs(comparison)
    runs, pictured = every[:SHOWN_RUNS], pictured_runs(every)
    folders = [run.folder(study_folder) for run in pictured]
    lines = curve_runs(runs, study_folder)
    charts = curve_charts([line.folder for line in lines], [(line.label, line.style) for line in lines])
    for name, codes in _CURVE_NAMES.items():
        yield name, _figure([charts[code] for code in codes if code in charts])
    yield "forest", _figure([forest_chart(comparison)])
    yield "per_class_iou", _figure([per_class_chart(comparison)])
    pareto = pareto_chart(comparison)
    yield "pareto", _figure([pareto] if pareto else [])
    classes = shown_classes(runs, legend)
    for run in runs:
        yield f"confusion_{run.name}", _figure([confusion_chart(run, classes)])
    source = scenes or study_scenes(study_folder, folders)
    if source is not None:
        ids = list(chosen_scenes(comparison))
        yield "dataset_samples", _samples(ids[:MOST_SAMPLES], source, legend)
        preds = [folder / f"preds-{comparison.split}" for folder in folders]
        for scene_id in track(ids, gettext("figures of scenes"), len(ids)):
            yield f"{_ONE_SCENE}{scene_id}", _comparison(scene_id, source, pictured, preds, legend)


_CURVE_NAMES = {
    "train_loss_steps": ("train_loss_steps",),
    "train_loss_epochs": ("train_loss_epochs",),
    "val_iou_steps": ("val_iou_steps", "val_own_iou_steps", "val_image_iou_steps", "val_image_iou_batches"),
    "val_iou_epochs": ("val_iou_epochs", "val_own_iou_epochs", "val_image_iou_epochs"),
    "val_loss_steps": ("val_loss_steps", "val_dice_loss_steps", "val_own_loss_steps", "val_own_loss_batches"),
    "val_loss_epochs": ("val_loss_epochs", "val_dice_loss_epochs", "val_own_loss_epochs"),
}
# What has another definition gets axes of its own: the origin study's IoU of a batch, and losses other than
# cross-entropy.


def file_name(name: str) -> str:
    """Make a file name of letters, digits, ``.``, ``_`` and ``-``; a name that had to be changed gets a hash.

    Example:
        >>> file_name("comparison_119"), file_name("comparison_tile 1/part")
        ('comparison_119', 'comparison_tile-1-part-5084f5')
    """
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:120]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:6]}"


def _samples(ids: Sequence[str], source: SceneSource, legend: Legend) -> Figure | None:
    """Draw a few scenes above their labels."""
    columns = []
    for scene_id in ids:
        scene = open_scene(source, scene_id)
        if scene is not None and scene.labels is not None:
            image, labels = reduced_scene(scene.pixels, scene.labels, SIDE_PX)
            columns.append([(scene_id, image), ("", coloured(labels, legend))])
    return _picture_grid(list(zip(*columns, strict=True)), legend) if columns else None


def _comparison(
    scene_id: str, source: SceneSource, runs: Sequence[StyledRun], folders: Sequence[Path], legend: Legend
) -> Figure | None:
    """Draw one scene: image and truth above, below them each run's prediction and its errors."""
    scene = open_scene(source, scene_id)
    if scene is None or scene.labels is None:
        return None
    image, truth = reduced_scene(scene.pixels, scene.labels, SIDE_PX)
    rows = [[(gettext("%(scene)s: image", scene=scene_id), image), (gettext("truth"), coloured(truth, legend))]]
    for run, folder in zip(runs, folders, strict=True):
        preds = read_preds(folder, scene_id, (scene.labels.shape[0], scene.labels.shape[1]))
        if preds is not None:
            small = reduce_labels(preds, (truth.shape[0], truth.shape[1]))
            wrong = np.array(ERROR_COLOURS, np.uint8)[error_map(small, truth, legend.counted.tolist())]
            rows.append([(run.label, coloured(small, legend)), (gettext("its errors, dark"), wrong)])
    return _picture_grid(rows, legend)


def _picture_grid(rows: Sequence[Sequence[tuple[str, Picture]]], legend: Legend) -> Figure:
    """Draw titled pictures in rows, pixel for pixel, and a legend of the classes below."""
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
            figure.text(left / width, 1 - (top - 6) / height, plain_label(title), fontsize=8, va="bottom")
    axes = figure.add_axes((0, 0, 1, 1), zorder=-1)
    axes.add_image(_PixelForPixel(axes, canvas))
    axes.set_axis_off()
    handles = [
        Patch(facecolor=f"#{hex_colour(entry.colour)}", edgecolor="0.4", label=plain_label(entry.name))
        for entry in legend.classes
    ]
    figure.legend(handles=handles, loc="lower left", ncols=key_columns, frameon=False, fontsize=8, borderaxespad=0.2)
    return figure


class _PixelForPixel(AxesImage):
    """A picture that fills its axes, every pixel once, whatever the format's resolution."""

    def __init__(self, axes: Axes, picture: Picture) -> None:
        """Take the picture, ``(H, W, 3)``, of the size of the figure in pixels."""
        height, width = picture.shape[:2]
        super().__init__(axes, interpolation="none", extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        self.set_data(picture)
        self._picture = picture
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))

    def draw(self, renderer: RendererBase) -> None:
        """Copy the pixels where they are the renderer's own; resampling them takes most of a figure's time."""
        height, width = self._picture.shape[:2]
        if not isinstance(renderer, RendererAgg) or (round(renderer.width), round(renderer.height)) != (width, height):
            super().draw(renderer)
            return
        opaque = np.full((height, width, 1), 255, np.uint8)
        renderer.draw_image(renderer.new_gc(), 0, 0, np.concatenate([self._picture, opaque], axis=2)[::-1])


def _figure(charts: Sequence[Chart]) -> Figure | None:
    """Draw charts of one size below each other; ``None`` without any."""
    if not charts:
        return None
    width, height = charts[0].size
    figure = Figure(figsize=(width, height * len(charts)), dpi=DPI, layout="constrained")
    for number, chart in enumerate(charts):
        axes = figure.add_subplot(len(charts), 1, number + 1)
        chart.draw(axes)
        for axis in (axes.xaxis, axes.yaxis):
            if type(axis.get_major_formatter()) is ScalarFormatter:
                axis.set_major_formatter(_TickNumbers())
    return figure


class _TickNumbers(ScalarFormatter):
    """Numbers at the ticks of an axis, with the language's decimal mark."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return decimal(super().__call__(x, pos))


_COMPRESSION = 4
"""Of PNG files: larger levels take much longer and save little."""


def _save(figure: Figure, path: Path, kind: str) -> Path:
    """Write a figure without a date or anything drawn at random, so that the same picture has the same bytes."""
    with rc_context({"svg.hashsalt": "levelground", "pdf.fonttype": 42}), atomic_path(path) as temporary:
        if kind == "png":
            figure.savefig(temporary, format=kind, pil_kwargs={"compress_level": _COMPRESSION})
        else:
            figure.savefig(temporary, format=kind, metadata={"Date" if kind == "svg" else "CreationDate": None})
    return path
