"""``levelground compare`` from the command line: what is written, what is said, what is refused."""

import re
from pathlib import Path

import pytest
from builders.runs import build_run, noisy_counts, scene_counts, scene_labels

from levelground.cli import main
from levelground.commands.compare import CompareConfig, compare
from levelground.comparison.record import read_comparison
from levelground.errors import ConfigError, RecordError

COUNTS = noisy_counts(12, 0.2, seed=1)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two evaluated runs and one that was not evaluated."""
    folder = tmp_path / "study"
    build_run(folder, "unet-resnet18-s0", COUNTS)
    build_run(folder, "fpn-resnet18-s0", noisy_counts(12, 0.21, seed=2), arch="fpn")
    build_run(folder, "pspnet-resnet18-s0", COUNTS, arch="pspnet", split="val")
    return folder


def test_a_study_is_compared_whole_and_written_into_itself(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All evaluated runs are taken; the answer, the table and what was left out are said."""
    assert main(["compare", str(study)]) == 0
    said = capsys.readouterr().err
    assert "Left out, not evaluated on test: pspnet-resnet18-s0." in said
    assert "Scores on test (12 scenes, 12 groups, official scoring)" in said
    assert "No winner: " in said
    assert " would be found in 80 % of such studies." in said
    assert "Warning: There are only " in said
    comparison = read_comparison(study)
    assert [run.name for run in comparison.runs] == ["fpn-resnet18-s0", "unet-resnet18-s0"]
    assert all((study / f"comparison.{suffix}").exists() for suffix in ("csv", "md", "tex"))


def test_run_folders_flags_and_another_place(study: Path, tmp_path: Path) -> None:
    """Runs by folder, in the order given, by the metric named."""
    runs = [str(study / "runs" / f"{arch}-resnet18-s0") for arch in ("unet", "fpn")]
    flags = ["--out", str(tmp_path / "out"), "--metric", "kept.mf1", "--delta", "0.05", "--split", "test"]
    assert main(["compare", *runs, *flags]) == 0
    comparison = read_comparison(tmp_path / "out")
    assert [run.arch for run in comparison.runs] == ["unet", "fpn"]
    assert (comparison.metric, comparison.delta) == ("kept.mf1", 0.05)
    places = [(tmp_path / "out" / run.folder).resolve() for run in comparison.runs]
    assert places == [Path(run).resolve() for run in runs], "the page finds histories and masks from there"
    assert not (study / "comparison.json").exists()


def test_one_run_alone_works(study: Path) -> None:
    """Its own scores and interval, no pairs."""
    comparison = compare(CompareConfig((study / "runs" / "unet-resnet18-s0",)))
    assert (len(comparison.runs), comparison.pairs) == (1, ())


def test_a_changed_label_stops_with_one_line_that_names_the_scene(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, one line, the scene's name, nothing written."""
    maps = [scene_labels(scene.sum(axis=1).tolist()) for scene in COUNTS]
    maps[7] = maps[7].copy()
    maps[7][0, -1] = 0
    build_run(study, "linknet-resnet18-s0", scene_counts(COUNTS, labels=maps), arch="linknet")
    assert main(["compare", str(study), "--allow-unlike"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("UnlikeError: scene scene007: labels of fpn-resnet18-s0 (")
    assert not (study / "comparison.json").exists()


def test_an_unlike_protocol_needs_the_flag(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused by name, then allowed and warned of."""
    build_run(study, "linknet-resnet18-s0", COUNTS, arch="linknet", card={"tile": 512})
    assert main(["compare", str(study)]) == 2
    assert "UnlikeError: runs were not made alike: tile is " in capsys.readouterr().err
    assert main(["compare", str(study), "--allow-unlike"]) == 0
    assert "Warning: The runs were not made alike: tile (" in capsys.readouterr().err


def test_folders_without_runs_are_named(study: Path, tmp_path: Path) -> None:
    """No run, none evaluated, no common place to write to: each says what to do."""
    with pytest.raises(RecordError, match=r"nowhere: no run\.json and no runs/ in it\. Give a run folder or a study"):
        compare(CompareConfig((tmp_path / "nowhere",)))
    (study / "runs" / "pspnet-resnet18-s0" / "counts-val.npz").unlink()
    with pytest.raises(RecordError, match=r"none of its runs has counts of val\. Run `levelground evaluate` first\."):
        compare(CompareConfig((study,), split="val"))
    build_run(tmp_path / "other", "unet-resnet18-s0", COUNTS)
    with pytest.raises(ConfigError, match=r"the runs are not of one study\. Say where to write with --out DIR\."):
        compare(CompareConfig((study, tmp_path / "other")))
    with pytest.raises(ConfigError, match=r"^no run to compare\."):
        compare(CompareConfig(()))


def test_two_studies_with_a_place_to_write(study: Path, tmp_path: Path) -> None:
    """Runs of one name in two studies are told apart by the study."""
    build_run(tmp_path / "other", "unet-resnet18-s0", COUNTS, seed=1)
    comparison = compare(CompareConfig((study, tmp_path / "other"), out=tmp_path / "out"))
    assert [run.name for run in comparison.runs] == [
        "study/fpn-resnet18-s0",
        "study/unet-resnet18-s0",
        "other/unet-resnet18-s0",
    ]


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """Each flag stands with its default."""
    assert main(["compare", "--help-all"]) == 0
    said = capsys.readouterr().out
    assert all(flag in said for flag in ("--out", "--split", "--metric", "--delta", "--allow-unlike", "official.miou"))


def test_a_language_changes_what_people_read_and_no_record(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In Russian, lines, Markdown and LaTeX are Russian; CSV and JSON have the same bytes but for the time."""
    metric = ["--metric", "official.iou:Rangeland"]
    assert main(["compare", str(study), *metric]) == 0
    english = {suffix: (study / f"comparison.{suffix}").read_text("utf-8") for suffix in ("csv", "json")}
    capsys.readouterr()
    assert main(["compare", str(study), *metric, "--lang", "ru"]) == 0
    said = capsys.readouterr().err
    assert "IoU класса «rangeland»" in said
    assert "Предупреждение: Здесь только 12 групп (12 сцен тестовой выборки)." in said
    assert (study / "comparison.csv").read_text("utf-8") == english["csv"]
    again = (study / "comparison.json").read_text("utf-8")
    records = [re.sub(r'"(?:created|\w*sha256)": .*', "", text) for text in (again, english["json"])]
    assert records[0] == records[1]
    markdown = (study / "comparison.md").read_text("utf-8")
    assert "## Пары запусков: эти веса на этих сценах" in markdown
    assert "| запуск | Agriculture land | Rangeland |" in markdown, "this legend has no Russian names"
    assert not re.search(r"\d\.\d", markdown)
