"""Displays: each chart draws the record's values on axes that the user may give, and notebooks get escaped HTML."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from builders.fake_study import FakeStudy, build_fake_study
from builders.runs import build_run, scene_counts
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from levelground.errors import ConfigError
from levelground.reporting.displays import ComparisonPlots, comparison_html, run_html
from levelground.reporting.run_styles import styled_runs
from levelground.reporting.summary import interval_text
from levelground.runs import read_run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FakeStudy:
    """Two architectures with two seeds, three scenes."""
    folder = tmp_path_factory.mktemp("study")
    return build_fake_study(folder, archs={"unet": 0.2, "fpn": 0.3}, seeds=2, scenes=["1", "2", "3"], size=48)


@pytest.fixture
def plots(study: FakeStudy) -> Iterator[ComparisonPlots]:
    """Its charts; pyplot's figures are closed at the end."""
    yield ComparisonPlots(study.comparison, study.folder)
    pyplot.close("all")


def _axes() -> Axes:
    return Figure().add_subplot()


def x_of(line: Line2D) -> list[float]:
    """The horizontal positions of a line's points."""
    return [float(value) for value in np.asarray(line.get_xdata())]


def y_of(line: Line2D) -> list[float]:
    """The vertical positions of a line's points."""
    return [float(value) for value in np.asarray(line.get_ydata())]


CHARTS = ("forest", "per_class", "pareto", "learning_curves")


@pytest.mark.parametrize("name", CHARTS)
def test_charts_draw_on_the_axes_that_are_given(plots: ComparisonPlots, name: str) -> None:
    """With axes no pyplot figure is made; without, there is one, and it may be restyled."""
    axes = _axes()
    assert getattr(plots, name)(ax=axes) is axes
    assert axes.has_data()
    assert pyplot.get_fignums() == []
    own = getattr(plots, name)()
    assert pyplot.get_fignums() == [own.figure.number]


def test_forest_has_values_and_intervals_of_the_runs_best_first(plots: ComparisonPlots) -> None:
    """From the top, each run's marker is at its value and its line at the ends of its interval."""
    axes = plots.forest(_axes())
    runs = styled_runs(plots.comparison)
    values = [run.result.value for run in runs]
    assert values == sorted(values, key=lambda value: -(value or 0))
    markers = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    assert [x_of(line)[0] for line in markers] == values
    assert [y_of(line)[0] for line in markers] == [0, 1, 2, 3]
    whiskers = [line for line in axes.lines if line.get_marker() in ("None", "")]
    assert [x_of(line) for line in whiskers] == [list(run.result.interval or ()) for run in runs]
    assert [label.get_text() for label in axes.get_yticklabels()] == [run.label for run in runs]
    assert axes.get_ylim() == (3.5, -0.5)


def test_per_class_has_the_iou_of_every_class_in_every_run(plots: ComparisonPlots) -> None:
    """One series a run with the IoUs of the classes that have one, under the primary scoring."""
    axes = plots.per_class(_axes())
    for run, line in zip(styled_runs(plots.comparison), axes.lines, strict=True):
        expected = [value for value in run.result.scores["official"].iou if value is not None]
        assert x_of(line) == expected
        assert to_hex(line.get_color()) == run.style.light


def test_pareto_has_speed_and_value_with_intervals(plots: ComparisonPlots) -> None:
    """Each marker is at a run's throughput and value; its lines span both intervals."""
    axes = plots.pareto(_axes())
    runs = styled_runs(plots.comparison)
    for number, run in enumerate(runs):
        across, upwards, marker = axes.lines[3 * number : 3 * number + 3]
        speed = run.result.throughput
        assert x_of(across) == list(speed.interval or ())
        assert y_of(upwards) == list(run.result.interval or ())
        place = (x_of(marker)[0], y_of(marker)[0])
        assert place == (speed.predict_megapixels_per_s, run.result.value)
    assert axes.get_xlim()[0] == 0


def test_confusion_has_shares_of_the_true_class(plots: ComparisonPlots) -> None:
    """Rows are true classes and sum to 1; the run is found by name or by label."""
    run = styled_runs(plots.comparison)[0]
    shares = np.asarray(plots.confusion(run.name, _axes()).images[0].get_array())
    counts = np.array(run.result.counts, float)
    assert shares == pytest.approx(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    again = np.asarray(plots.confusion(run.label, _axes()).images[0].get_array())
    assert (shares == again).all()


def test_learning_curves_have_the_points_of_the_histories(plots: ComparisonPlots) -> None:
    """Validation mIoU by step by default; another curve by its code."""
    axes = plots.learning_curves(ax=_axes())
    assert axes.get_xlabel() == "training step"
    assert [x_of(line) for line in axes.lines] == [list(range(24, 241, 24))] * 4
    assert len(x_of(plots.learning_curves("train_loss_steps", _axes()).lines[0])) == 120


def test_what_cannot_be_drawn_is_refused(study: FakeStudy, tmp_path: Path) -> None:
    """An unknown run, an unknown curve, a study without histories, runs without a time: each names what is wrong."""
    plots = ComparisonPlots(study.comparison, tmp_path)
    with pytest.raises(ConfigError, match=r"'other': is not in this comparison\. Expected one of .*unet-resnet18-s0"):
        plots.confusion("other")
    with pytest.raises(ConfigError, match=r"'loss': is unknown\. Expected one of train_loss_steps"):
        plots.learning_curves("loss")
    with pytest.raises(ConfigError, match="'val_iou_steps': no run"):
        plots.learning_curves()
    speed = replace(study.comparison.runs[0].throughput, predict_megapixels_per_s=None)
    runs = tuple(replace(run, throughput=speed) for run in study.comparison.runs)
    with pytest.raises(ConfigError, match="No run of this comparison was timed"):
        ComparisonPlots(replace(study.comparison, runs=runs), tmp_path).pareto()
    assert pyplot.get_fignums() == []


class _Tags(HTMLParser):
    """Open tags of a text of HTML, to see that each is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_comparison_html_has_table_verdicts_warnings_and_pictures(study: FakeStudy) -> None:
    """The ranking with its figures, every decisive verdict, every warning, and two pictures; all tags are closed."""
    known = study.comparison
    html = comparison_html(known)
    tags = _Tags(html)
    assert tags.open == []
    ranked = sorted(known.architectures, key=lambda entry: -(entry.value or 0))
    assert tags.cells[::3] == [f"{entry.name} (2 seeds)" for entry in ranked]
    assert tags.cells[1::3] == [f"{entry.value:.3f}" for entry in ranked]
    assert tags.cells[2::3] == [interval_text(entry.interval) for entry in ranked]
    assert known.architecture_pairs[0].text in html
    warnings = [item for item in known.findings if item.severity == "warning"]
    assert html.count("<li>") == len(known.architecture_pairs) + len(warnings)
    assert len(re.findall(r'<img src="data:image/png;base64,[\w+/=]+"', html)) == 2
    assert pyplot.get_fignums() == []


def test_comparison_html_has_the_verdicts_in_the_order_of_the_ranking(study: FakeStudy) -> None:
    """Pairs of the best run come first, whatever the order of the record."""
    known = study.comparison
    single = replace(known, architectures=tuple(replace(entry, seeds=1) for entry in known.architectures))
    names = [run.name for run in known.ranked_runs]
    pairs = {frozenset((pair.a, pair.b)): pair.text for pair in known.pairs}
    both = (frozenset((a, b)) for n, a in enumerate(names) for b in names[n + 1 :])
    ordered = [pairs[one] for one in both if one in pairs]
    html = comparison_html(replace(single, pairs=tuple(reversed(known.pairs)), findings=()))
    assert [unescape(text) for text in re.findall("<li>(.*?)</li>", html)] == ordered


def test_html_is_escaped(study: FakeStudy) -> None:
    """Names with markup are text in a notebook too."""
    entries = tuple(replace(entry, name=f"<b>{entry.name}") for entry in study.comparison.architectures)
    html = comparison_html(replace(study.comparison, architectures=entries, architecture_pairs=()))
    assert "&lt;b&gt;unet" in html
    assert "<b>" not in html


def test_run_html_has_card_and_curves(study: FakeStudy, tmp_path: Path) -> None:
    """The card's fields with dotted keys, training loss and validation mIoU by step; an adopted run has no curves."""
    html = run_html(read_run(study.folder / "runs" / "unet-resnet18-s0"))
    cells = _Tags(html).cells
    rows = dict(zip(cells[::2], cells[1::2], strict=True))
    assert (rows["name"], rows["budget.steps"], rows["recipe.lr"]) == ("unet-resnet18-s0", "240", "0.001")
    assert re.findall(r'alt="([^"]+)"', html) == [
        "Training loss by training step",
        "Validation mIoU by training step",
        "Validation cross-entropy by training step",
    ]
    counts = np.ones((1, 3, 3), np.int64)
    bare = build_run(tmp_path, "bare", scene_counts(counts))
    assert "<img" not in run_html(bare)


def test_matplotlib_is_imported_when_a_chart_is_drawn() -> None:
    """Importing the displays is cheap: pyplot and its figure windows are left alone."""
    code = "import sys, levelground.reporting.displays; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
