"""What results show of themselves: one line in a console, tables and pictures in a notebook, axes to restyle."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes

import levelground as lg
from levelground.comparison.record import comparison_json, write_record
from levelground.errors import RecordError

STUDY = Path(__file__).parent / "data" / "study-0.1.0"


@pytest.fixture
def comparison() -> lg.Comparison:
    """Four runs of two architectures."""
    return lg.read_comparison(STUDY)


def test_a_comparison_shows_its_table_verdicts_and_pictures(comparison: lg.Comparison) -> None:
    """IPython asks for HTML: every run by its label, the headline, two pictures, nothing fetched."""
    page = comparison._repr_html_()
    for entry in comparison.ranking:
        assert entry.label in page
    assert page.count("<img") >= 2
    assert comparison.findings[0].text.partition(".")[0] in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_run_shows_its_card_and_curves() -> None:
    """Name, recipe, learning curve."""
    run = lg.list_runs(STUDY)[0]
    page = run._repr_html_()
    assert run.name in page
    assert "<img" in page


def test_console_lines_are_short(comparison: lg.Comparison) -> None:
    """Not a dump of every figure."""
    assert repr(comparison).startswith("<Comparison of 4 runs on test by official.miou: ")
    assert repr(replace(comparison, findings=())) == "<Comparison of 4 runs on test by official.miou>"
    run = lg.list_runs(STUDY)[0]
    assert repr(run) == f"<Run {str(run.folder)!r}: finished>"
    assert repr(lg.read_dataset(STUDY)) == (
        f"<Dataset {str(STUDY)!r}: 14 scenes (8 train, 1 val, 5 test), deepglobe legend>"
    )


@pytest.mark.parametrize("chart", ["forest", "per_class", "pareto", "learning_curves"])
def test_a_plot_is_axes_to_restyle(comparison: lg.Comparison, chart: str) -> None:
    """New axes, or those that are given."""
    try:
        axes = getattr(comparison.plot, chart)()
        assert isinstance(axes, Axes)
        axes.set_title("mine")
        _, own = pyplot.subplots()
        assert getattr(comparison.plot, chart)(ax=own) is own
    finally:
        pyplot.close("all")


def test_a_comparison_knows_the_folder_of_its_file(comparison: lg.Comparison, tmp_path: Path) -> None:
    """Where it was read or written last; it is neither compared nor part of the file."""
    assert comparison.folder == STUDY
    other = replace(comparison)
    assert other.folder is None
    with pytest.raises(RecordError, match=r"^the comparison is in no file\. Write it with `write_comparison` first\.$"):
        lg.report(other)
    write_record(other, tmp_path / "comparison.json")
    assert other.folder == tmp_path
    assert other == comparison
    assert "_folder" not in comparison_json(comparison)


def test_compare_gives_what_it_wrote(tmp_path: Path) -> None:
    """The object that a notebook gets has its folder, so that its curves are found."""
    shutil.copytree(STUDY, tmp_path / "study")
    found = lg.compare(tmp_path / "study")
    assert found.folder == tmp_path / "study"
    assert found == lg.read_comparison(tmp_path / "study")
    page = lg.report(found, figures=())
    assert page == tmp_path / "study" / "report.html"


def test_nothing_that_draws_is_loaded_before_it_is_shown() -> None:
    """Comparing and reading runs load neither matplotlib nor the report."""
    code = (
        "import sys, levelground as lg; lg.read_comparison(sys.argv[1]); lg.list_runs(sys.argv[1]); "
        "print([m for m in ('matplotlib', 'jinja2', 'levelground.reporting', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(STUDY)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
