"""The report page as text: everything is there, escaped, and nothing is loaded from outside."""

from pathlib import Path

from fake_study import build_study

from levelground.page import render_report


def test_page_names_every_run_and_scene(tmp_path: Path) -> None:
    """Every run, class and scene of the record stands on the page."""
    study = build_study(tmp_path)
    html = render_report(study.record, tmp_path, tmp_path / "report.html", scenes=study).read_text(encoding="utf-8")
    for run in study.record["runs"]:
        assert run["label"] in html
    for scene in study.scenes:
        assert f"<summary>{scene}</summary>" in html


def test_one_run_alone_makes_a_page(tmp_path: Path) -> None:
    """One run without pairs, intervals or a second group makes a page that says so."""
    study = build_study(tmp_path, archs=["unet"], seeds=1, verdicts=False)
    html = render_report(study.record, tmp_path, tmp_path / "report.html", scenes=study).read_text(encoding="utf-8")
    assert "there is no pair to judge" in html
