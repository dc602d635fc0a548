"""``levelground prepare`` from the command line: what is written, what is said, what is refused."""

import json
from pathlib import Path

import pytest
from builders.scene_files import kaggle_pair

from levelground.cli import main
from levelground.records import one_writer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five scenes in the Kaggle layout, in a folder with a space and Cyrillic letters."""
    folder = tmp_path / "мои данные"
    for number in range(5):
        kaggle_pair(folder, f"сцена {number}", seed=number)
    return folder


def flags(data: Path, *more: str) -> list[str]:
    """A whole command line."""
    base = data.parent
    return ["prepare", "--data", str(data), "--out", str(base / "study"), "--cache", str(base / "cache"), *more]


def test_a_folder_is_prepared_from_the_command_line(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``dataset.json`` holds the split as lists of ids; nothing is printed on stdout."""
    assert main(flags(data, "--split", "random", "--split-seed", "5")) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "dataset.json: written" in printed.err
    record = json.loads((data.parent / "study" / "dataset.json").read_text(encoding="utf-8"))
    assert sorted(scene for ids in record["split"].values() for scene in ids) == [
        f"сцена {number}" for number in range(5)
    ]
    assert record["split_rule"]["seed"] == 5


REFUSED = {
    "no such folder": (["--data", "/no/such"], "/no/such: is not a folder. Give the folder with the scenes as --data."),
    "a seed below zero": (
        ["--split-seed", "-1"],
        "ConfigError: --split-seed -1: should be greater than or equal to",
    ),
    "a list that is missing": (["--split", "lists"], "ConfigError: --lists: no folder given, expected one with"),
    "an impossible split": (["--split", "folders"], "SplitError: split 'folders': no labelled scene below train/ or"),
    "a table that is missing": (
        ["--groups", "file"],
        "groups.csv: does not exist, expected columns id,group. Write it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(data: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, the reason on the last line, no record."""
    more, text = REFUSED[case]
    assert main(flags(data, *more)) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert text in last
    assert not (data.parent / "study" / "dataset.json").exists()


def test_a_second_writer_is_told_who_holds_the_study(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two processes do not write one study at once."""
    with one_writer(data.parent / "study"):
        assert main(flags(data)) == 2
    assert "BusyError: " in capsys.readouterr().err


def test_help_explains_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """Each flag with its unit and default."""
    assert main(["prepare", "--help-all"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for flag in (
        "data",
        "out",
        "layout",
        "legend",
        "split",
        "split-seed",
        "lists",
        "groups",
        "snap-colours",
        "skip-bad",
    ):
        assert f"--{flag} " in text or f"--{flag}, " in text
    assert "in pixels. (default: 256)" in text
