"""``levelground report``: a comparison on disk becomes a page and pictures, with the scenes of the study's data set."""

from pathlib import Path

import pytest
from builders.fake_study import FakeStudy, build_fake_study, write_images

from levelground.cli import main
from levelground.commands.report import ReportConfig, report
from levelground.datasets.prepare import PrepareOptions, prepare_dataset


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FakeStudy:
    """Two runs on three scenes, with images, labels and ``dataset.json`` on disk."""
    folder = tmp_path_factory.mktemp("report")
    built = build_fake_study(folder / "study", archs={"unet": 0.2, "fpn": 0.3}, seeds=1, scenes=("119", "6399", "777"))
    write_images(built, folder / "data")
    prepare_dataset(
        PrepareOptions(
            out=built.folder,
            data=folder / "data",
            split="lists",
            lists=folder / "data" / "lists",
            cache=folder / "cache",
        )
    )
    return built


def test_report_writes_page_and_pictures_beside_the_comparison(study: FakeStudy) -> None:
    """The page shows every scene from the cache; the pictures hold one comparison a scene."""
    page = report(ReportConfig(study=study.folder))
    assert page == study.folder / "report.html"
    html = page.read_text(encoding="utf-8")
    assert html.count('<details class="scene"') == 3
    assert html.count('data-layer="run1"') == 3
    names = {
        path.relative_to(study.folder / "figures").as_posix() for path in (study.folder / "figures").rglob("*.png")
    }
    assert {*(f"scenes/comparison_{scene}.png" for scene in (119, 6399, 777)), "dataset_samples.png"} <= names


def test_report_takes_the_file_and_writes_elsewhere(study: FakeStudy, tmp_path: Path) -> None:
    """``--out`` moves page and pictures; ``--no-figures`` leaves the pictures out."""
    status = main(["report", str(study.folder / "comparison.json"), "--out", str(tmp_path / "out"), "--no-figures"])
    assert status == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.hashes.json", "report.html"]
    (tmp_path / "comparison.json").write_bytes((study.folder / "comparison.json").read_bytes())
    assert main(["report", str(tmp_path), "--figures", "svg", "pdf"]) == 0
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg", ".pdf", ".json"}


def test_without_comparison_the_message_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without a comparison is the user's fault: one line, exit 2."""
    assert main(["report", str(tmp_path)]) == 2
    assert "no such record; expected a comparison written by levelground" in capsys.readouterr().err


def test_page_stands_when_cache_and_data_are_gone(study: FakeStudy, tmp_path: Path) -> None:
    """A comparison carried to another machine is drawn without its scenes, which it names."""
    (tmp_path / "comparison.json").write_bytes((study.folder / "comparison.json").read_bytes())
    html = report(ReportConfig(study=tmp_path, figures=())).read_text(encoding="utf-8")
    assert "119, 6399, 777" in html.partition('<section id="scenes">')[2].partition("</section>")[0]
