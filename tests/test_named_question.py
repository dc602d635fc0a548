"""The metric and δ that a study named hold at every command; others are exploratory, labelled and logged."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders.runs import build_run, noisy_counts, read_lines

from levelground.commands.compare import CompareConfig, compare
from levelground.commands.report import ReportConfig, report
from levelground.comparison.compare import compare_runs
from levelground.comparison.conditions import NamedQuestion
from levelground.comparison.record import read_comparison
from levelground.comparison.tables import text_tables, to_csv, to_latex, to_markdown
from levelground.config import StudyOptions
from levelground.pipeline import as_named, study_record
from levelground.runs import read_study, write_study


def named_study(folder: Path, metric: str = "kept.miou", delta: float = 0.02) -> Path:
    """A study of two runs that named its question."""
    for number, arch in enumerate(("unet", "fpn")):
        build_run(folder, f"{arch}-s0", noisy_counts(8, 0.1 + 0.3 * number, seed=number), arch=arch)
    write_study(folder, study_record(StudyOptions(metric=metric, delta=delta), ()))
    return folder


def test_an_interrupted_study_names_the_runs_that_it_lacks(tmp_path: Path) -> None:
    """Planned runs that are not begun, not trained to the end, or not scored; a finished study plans none."""
    study = named_study(tmp_path)
    for name, status, folder in (("dpt-s0", "stopped", study), ("pan-s0", "finished", study / "folds" / "1")):
        build_run(folder, name, noisy_counts(8, 0.1, seed=5), arch=name[:3], card={"status": status})
        (folder / "runs" / name / "counts-test.npz").unlink()
    names = ("unet-s0", "fpn-s0", "dpt-s0", "pan-s0", "psp-s0")
    write_study(study, replace(study_record(StudyOptions(), ()), planned=names))
    found = compare(CompareConfig((study,)))
    states = {"dpt-s0": "unfinished", "pan-s0": "unscored", "psp-s0": "not begun"}
    assert [item.figures for item in found.findings if item.code == "unfinished_runs"] == [{"runs": states}]
    assert "dpt-s0 (training not finished)" in report(ReportConfig(study, figures=())).read_text(encoding="utf-8")
    write_study(study, study_record(StudyOptions(), ()))
    assert "unfinished_runs" not in {item.code for item in compare(CompareConfig((study,))).findings}


def test_compare_asks_what_the_study_named(tmp_path: Path) -> None:
    """Without flags the question is the study's; the same question in other words is the same."""
    study = named_study(tmp_path)
    found = compare(CompareConfig((study,)))
    assert (found.metric, found.delta, found.exploratory) == ("kept.miou", 0.02, False)
    assert found.named == NamedQuestion("kept.miou", 0.02)
    assert not compare(CompareConfig((study,), metric="kept.miou", delta=0.02)).exploratory
    assert not (study / "test_looks.jsonl").exists()


def test_a_class_is_named_in_any_case(tmp_path: Path) -> None:
    """The study's spelling of a class is not another question."""
    study = named_study(tmp_path, metric="official.iou:rangeland")
    assert not compare(CompareConfig((study,), metric="official.iou:Rangeland")).exploratory


@pytest.mark.parametrize(
    "asked", [{"metric": "official.mf1"}, {"delta": 0.05}, {"metric": "official.mf1", "delta": 0.0}]
)
def test_another_question_is_labelled_everywhere_and_logged(tmp_path: Path, asked: dict[str, object]) -> None:
    """In every table, on the page, in the warnings and in the study's log."""
    study = named_study(tmp_path)
    found = compare(CompareConfig((study,), **asked))  # type: ignore[arg-type]
    assert found.exploratory
    assert "exploratory" in {item.code for item in found.findings if item.severity == "warning"}
    assert all(table.title.startswith("Exploratory: ") for table in text_tables(found))
    assert to_markdown(found).startswith("# Exploratory: ")
    assert to_latex(found).count("caption{Exploratory: ") == to_latex(found).count("caption{")
    assert all(row["exploratory"] == "yes" for row in csv.DictReader(io.StringIO(to_csv(found))))
    page = report(ReportConfig(study, figures=())).read_text(encoding="utf-8")
    assert "<h1" in page and "Exploratory: " in page.partition("<h1")[2].partition("</h1>")[0]
    (line,) = read_lines(study / "test_looks.jsonl")
    assert (line["metric"], line["delta"]) == (found.metric, found.delta)
    assert len(compare(CompareConfig((study,))).test_evaluations.views) == 1


def test_runs_without_a_study_ask_the_default(tmp_path: Path) -> None:
    """Nothing was named, so nothing is exploratory."""
    runs = [build_run(tmp_path, "unet-s0", noisy_counts(8, 0.1, seed=1))]
    found = compare_runs(runs)
    assert (found.metric, found.delta, found.named, found.exploratory) == ("official.miou", 0.01, None, False)
    assert not compare_runs(runs, metric="kept.miou").exploratory


def test_report_reads_what_was_named_beside_an_early_record(tmp_path: Path) -> None:
    """A record of before holds no question; study.json does."""
    study = named_study(tmp_path)
    compare(CompareConfig((study,), metric="official.mf1"))
    record = json.loads((study / "comparison.json").read_text(encoding="utf-8"))
    del record["named"], record["sha256"]
    (study / "comparison.json").write_text(json.dumps(record), encoding="utf-8")
    assert read_comparison(study).named is None
    assert "Exploratory: " in report(ReportConfig(study, figures=())).read_text(encoding="utf-8")


def test_a_study_keeps_its_question_once_test_scenes_were_scored(tmp_path: Path) -> None:
    """Asked again with another metric, a scored study keeps the first; an unscored one takes the new one."""
    study, other = named_study(tmp_path), StudyOptions(metric="official.mf1", delta=0.05)
    assert as_named(other, study) == other
    (study / "test_looks.jsonl").write_text("", encoding="utf-8")
    kept = as_named(other, study)
    assert (kept.metric, kept.delta) == ("kept.miou", 0.02)
    write_study(study, study_record(kept, ()))
    assert read_study(study).options.metric == "kept.miou"
