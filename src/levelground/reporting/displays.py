"""Charts of a comparison on matplotlib axes, and HTML of a comparison or a run for notebooks.

A chart holds its data and draws on any axes, as scikit-learn's displays do; :mod:`levelground.reporting.figures` writes
the same charts as PNG files. matplotlib is imported when a chart is drawn.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from levelground.comparison.compare import in_current_language
from levelground.comparison.record import Comparison
from levelground.comparison.text import score
from levelground.errors import ConfigError
from levelground.imagery.legend import LegendClass
from levelground.reporting.cost_table import card_rows
from levelground.reporting.learning_curves import CURVES, Curve, axis_title, chart_title, curve_title, read_curves
from levelground.reporting.page import render_template
from levelground.reporting.pairwise import oriented_pairs
from levelground.reporting.per_class import shown_classes
from levelground.reporting.run_styles import (
    RunStyle,
    StyledRun,
    assign_styles,
    metric_title,
    styled_runs,
)
from levelground.reporting.summary import headline_texts, ranking, texts_of
from levelground.reporting.svg_charts import Point
from levelground.runs import Run
from levelground.wording import decimal, gettext

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THUMBNAIL_DPI = 72
"""Resolution of the pictures in a notebook's HTML."""


@dataclass(frozen=True)
class Chart:
    """A chart with its data: ``draw`` draws it on axes, ``size`` is width and height of its figure in inches."""

    size: tuple[float, float]
    draw: Callable[["Axes"], None]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the chart.

        Args:
            ax: Axes to draw on; ``None`` makes a pyplot figure.
        Returns:
            The axes, to restyle.
        """
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(figsize=self.size, layout="constrained")
        self.draw(ax)
        return ax


class ComparisonPlots:
    """The charts of a comparison; each method draws on matplotlib axes, by default new ones, and returns them."""

    def __init__(self, comparison: Comparison, study_folder: Path) -> None:
        """Hold a comparison and the folder of ``comparison.json``, from which run folders are found."""
        self.comparison = comparison
        self.study_folder = study_folder

    def forest(self, ax: "Axes | None" = None) -> "Axes":
        """Draw each run's primary metric with its 95 % interval."""
        return forest_chart(self.comparison).plot(ax)

    def per_class(self, ax: "Axes | None" = None) -> "Axes":
        """Draw each class's IoU in each run."""
        return per_class_chart(self.comparison).plot(ax)

    def pareto(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the primary metric over inference speed.

        Raises:
            ConfigError: No run was timed.
        """
        chart = pareto_chart(self.comparison)
        if chart is None:
            raise ConfigError("No run of this comparison was timed, so there is no chart of score over speed.")
        return chart.plot(ax)

    def confusion(self, run: str, ax: "Axes | None" = None) -> "Axes":
        """Draw a run's confusion matrix; each row is the shares of a true class.

        Args:
            run: Name or label of the run.
            ax: Axes to draw on; ``None`` makes a pyplot figure.
        Raises:
            ConfigError: There is no such run.
        """
        runs = styled_runs(self.comparison)
        found = next((item for item in runs if run in (item.name, item.label)), None)
        if found is None:
            names = ", ".join(item.name for item in runs)
            raise ConfigError(f"run {run!r}: is not in this comparison. Expected one of {names}.")
        return confusion_chart(found, shown_classes(runs, self.comparison.legend)).plot(ax)

    def learning_curves(self, curve: str = "val_iou_steps", ax: "Axes | None" = None) -> "Axes":
        """Draw the runs' learning curves.

        Args:
            curve: ``train_loss_steps``, ``val_iou_steps``, ``val_loss_steps``, or the same with ``_epochs``; the others
                are listed where an unknown one is given.
            ax: Axes to draw on; ``None`` makes a pyplot figure.
        Raises:
            ConfigError: There is no such curve, or no run has a history with it.
        """
        codes = [known.code for known in CURVES]
        if curve not in codes:
            raise ConfigError(f"curve {curve!r}: is unknown. Expected one of {', '.join(codes)}.")
        runs = styled_runs(self.comparison)
        charts = curve_charts([x.folder(self.study_folder) for x in runs], [(x.label, x.style) for x in runs])
        if curve not in charts:
            raise ConfigError(f"curve {curve!r}: no run of this comparison has a training history with it.")
        return charts[curve].plot(ax)


def forest_chart(comparison: Comparison) -> Chart:
    """Return each run's primary metric with its 95 % interval as a forest plot."""
    runs = styled_runs(comparison)

    def draw(ax: "Axes") -> None:
        for row, run in enumerate(runs):
            if run.result.interval:
                ax.plot(run.result.interval, (row, row), color=run.style.light, linewidth=2)
            if run.result.value is not None:
                ax.plot([run.result.value], [row], color=run.style.light, marker=run.style.marker, markersize=7)
        ax.set_yticks(range(len(runs)), [plain_label(run.label) for run in runs])
        ax.set_ylim(len(runs) - 0.5, -0.5)
        ax.set_xlabel(gettext("%(metric)s, 95 %% interval", metric=metric_title(comparison)))
        ax.grid(axis="x", alpha=0.3)

    return Chart((7.5, 1.2 + 0.34 * len(runs)), draw)


def per_class_chart(comparison: Comparison) -> Chart:
    """Return each class's IoU in each run as a dot chart."""
    runs, scoring = styled_runs(comparison), comparison.primary_scoring
    classes = shown_classes(runs, comparison.legend)

    def draw(ax: "Axes") -> None:
        for lane, run in enumerate(runs):
            iou = run.result.scores[scoring].iou
            values = [(row, iou[entry.index]) for row, entry in enumerate(classes)]
            points = [(row + 0.8 * (lane + 0.5) / len(runs) - 0.4, value) for row, value in values if value is not None]
            if points:
                y, x = zip(*points, strict=True)
                label = plain_label(run.label)
                ax.plot(x, y, color=run.style.light, marker=run.style.marker, linestyle="none", label=label)
        ax.set_yticks(range(len(classes)), [plain_label(entry.name) for entry in classes])
        ax.set_ylim(len(classes) - 0.5, -0.5)
        ax.set_xlim(left=0)
        ax.set_xlabel(gettext("IoU, %(scoring)s scoring", scoring=scoring))
        ax.grid(axis="x", alpha=0.3)
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))

    return Chart((7.5, 1.4 + len(classes) * (0.25 + 0.07 * len(runs))), draw)


def pareto_chart(comparison: Comparison) -> Chart | None:
    """Return the primary metric over inference speed, with intervals; ``None`` where no run was timed."""
    points = [
        (run, speed, value)
        for run in styled_runs(comparison)
        if (speed := run.result.throughput.predict_megapixels_per_s) and (value := run.result.value) is not None
    ]
    if not points:
        return None

    def draw(ax: "Axes") -> None:
        for run, speed, value in points:
            if run.result.throughput.interval:
                ax.plot(run.result.throughput.interval, (value, value), color=run.style.light)
            if run.result.interval:
                ax.plot((speed, speed), run.result.interval, color=run.style.light)
            label = plain_label(run.label)
            ax.plot([speed], [value], color=run.style.light, marker=run.style.marker, linestyle="none", label=label)
        ax.set_xlim(left=0)
        ax.set_xlabel(gettext("inference, megapixels per second"))
        ax.set_ylabel(metric_title(comparison))
        ax.grid(alpha=0.3)
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))

    return Chart((7.5, 4.6), draw)


def confusion_chart(run: StyledRun, classes: Sequence[LegendClass]) -> Chart:
    """Return a run's confusion matrix, each row as shares of the true class."""
    values = np.array(run.result.counts, np.float64)
    shown = [entry.index for entry in classes]
    shares = (values / np.maximum(values.sum(axis=1, keepdims=True), 1))[np.ix_(shown, shown)]
    names = [plain_label(entry.name) for entry in classes]

    def draw(ax: "Axes") -> None:
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for true, row in enumerate(shares):
            for pred, share in enumerate(row):
                colour = "w" if share > 0.55 else "k"
                ax.text(pred, true, decimal(f"{share:.2f}"), ha="center", va="center", color=colour, fontsize=8)
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set_xlabel(gettext("predicted class"))
        ax.set_ylabel(gettext("true class, each row sums to 1"))
        ax.set_title(plain_label(run.label))

    side = 1.8 + 0.62 * len(names)
    return Chart((side + 0.6, side), draw)


def curve_charts(folders: Sequence[Path], styles: Sequence[tuple[str, RunStyle]]) -> dict[str, Chart]:
    """Return the learning curves of the runs that have a history, by the curve's code.

    Args:
        folders: Run folders, which hold ``history.jsonl``.
        styles: Label and style of each run.
    """
    return {
        curve.code: _curve_chart(curve, [(*styles[number], points) for number, points in lines.items()])
        for curve, lines in read_curves(folders)
    }


def _curve_chart(curve: Curve, lines: Sequence[tuple[str, RunStyle, Sequence[Point]]]) -> Chart:
    """Return the lines of one learning curve, each with label, style and points."""

    def draw(ax: "Axes") -> None:
        for label, style, points in lines:
            x, y = zip(*points, strict=True)
            ax.plot(
                x, y, color=style.light, linestyle=(0, style.dash) if style.dash else "-", marker=style.marker,
                markersize=5, markevery=max(1, len(x) // 8), label=plain_label(label),
            )  # fmt: skip
        ax.set_xlabel(axis_title(curve))
        ax.set_ylabel(curve_title(curve))
        ax.grid(alpha=0.3)
        ax.legend(frameon=False, fontsize=8, ncols=1 + len(lines) // 8)

    return Chart((7.5, 4.2), draw)


def comparison_html(comparison: Comparison) -> str:
    """Return a comparison as HTML for a notebook: headline, ranking, verdicts, warnings, two charts."""
    comparison = in_current_language(comparison)
    runs = styled_runs(comparison)
    title, lead = headline_texts(comparison)
    ranked = comparison.ranking if comparison.about_architectures else comparison.ranked_runs
    names = [entry.name for entry in ranked]
    return render_template(
        "comparison.html.j2",
        title=title,
        lead=lead,
        metric=metric_title(comparison),
        delta=score(comparison.delta),
        ranking=ranking(comparison, runs),
        verdicts=[pair.text for pair in oriented_pairs(comparison.decisive_pairs, names)],
        warnings=texts_of(comparison, "warning"),
        pictures=[
            (gettext("Scores with 95 %% intervals"), chart_uri(forest_chart(comparison))),
            (gettext("IoU of each class"), chart_uri(per_class_chart(comparison))),
        ],
    )


def run_html(run: Run) -> str:
    """Return a run as HTML for a notebook: its card and its learning curves."""
    charts = curve_charts([run.folder], [(run.name, assign_styles([run.arch])[0])])
    shown = [curve for curve in CURVES if curve.code in charts and curve.x == "step"]
    return render_template(
        "run.html.j2",
        name=run.name,
        rows=card_rows(run.card),
        pictures=[(chart_title(curve), chart_uri(charts[curve.code])) for curve in shown],
    )


def chart_uri(chart: Chart) -> str:
    """Draw a chart as a PNG data URI."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=chart.size, dpi=THUMBNAIL_DPI, layout="constrained")
    chart.draw(figure.add_subplot())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def plain_label(text: str) -> str:
    r"""Escape a label for matplotlib.

    A dollar sign starts no formula, a first underscore does not hide the label, unprintable characters are dropped.

    Example:
        >>> plain_label("_a$b")
        ' _a\\$b'
    """
    printed = "".join(character for character in text if character.isprintable()).replace("$", r"\$")
    return f" {printed}" if printed.startswith("_") else printed
