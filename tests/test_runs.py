"""Run folders: card, history, names."""

import json
from pathlib import Path

import pytest

from levelground.errors import DiskError, RecordError
from levelground.runs import (
    Run,
    append_history,
    list_runs,
    read_history,
    read_run,
    run_name,
    runs_folder,
    truncate_history,
    write_card,
)

CARD = {
    "name": "unet-resnet18-s0",
    "arch": "unet",
    "encoder": "resnet18",
    "seed": 0,
    "status": "finished",
    "legend_sha256": "ab",
    "identity": "cd",
}


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Card and properties."""
    write_card(tmp_path / "a", CARD)
    run = read_run(tmp_path / "a")
    assert run == Run(tmp_path / "a", {"schema": 1, "kind": "run", **CARD})
    assert (run.name, run.arch, run.encoder, run.seed, run.adopted) == (
        "unet-resnet18-s0",
        "unet",
        "resnet18",
        0,
        False,
    )


def test_an_adopted_run_may_have_no_seed(tmp_path: Path) -> None:
    """Nobody knows the seed of another tool's weights."""
    run = Run(tmp_path, CARD | {"seed": None, "status": "adopted"})
    assert run.seed is None
    assert run.adopted


def test_a_run_knows_its_files(tmp_path: Path) -> None:
    """Where weights, counts and predicted masks lie."""
    run = Run(tmp_path, CARD)
    assert run.model_folder == tmp_path / "model"
    assert run.counts_path("test") == tmp_path / "counts-test.npz"
    assert run.preds_folder("val") == tmp_path / "preds-val"


@pytest.mark.parametrize("key", ["name", "identity"])
def test_a_card_without_a_key_is_refused(tmp_path: Path, key: str) -> None:
    """The message names the key that is missing."""
    write_card(tmp_path, {name: value for name, value in CARD.items() if name != key})
    with pytest.raises(RecordError, match=rf"run\.json: lacks '{key}'\. Make the run anew\.$"):
        read_run(tmp_path)


def test_a_card_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A newer levelground wrote it."""
    (tmp_path / "run.json").write_text(json.dumps(CARD | {"schema": 2, "kind": "run"}))
    with pytest.raises(RecordError, match=r"run record of schema 2, this version reads 1\."):
        read_run(tmp_path)


def test_runs_of_a_study_are_listed_by_name(tmp_path: Path) -> None:
    """Folders without a card are no runs."""
    for name in ("unet-s1", "fpn-s0"):
        write_card(runs_folder(tmp_path) / name, CARD | {"name": name})
    (runs_folder(tmp_path) / "scratch").mkdir()
    assert [run.name for run in list_runs(tmp_path)] == ["fpn-s0", "unet-s1"]


def test_a_study_without_runs_has_none(tmp_path: Path) -> None:
    """An empty folder is an empty list."""
    assert list_runs(tmp_path) == []


@pytest.mark.parametrize(
    ("arch", "encoder", "seed", "expected"),
    [
        ("unet", "resnet18", 0, "unet-resnet18-s0"),
        ("fpn", "tu-tf_efficientnet_lite0", 3, "fpn-tf_efficientnet_lite0-s3"),
        ("dpt", "tu-vit_base_patch16_224.augreg_in21k", 1, "dpt-vit_base_patch16_224.augreg_in21k-s1"),
        ("unet", "../../x", 0, "unet-x-s0"),
    ],
)
def test_run_names(arch: str, encoder: str, seed: int, expected: str) -> None:
    """A name is a plain folder name, whatever the encoder is called."""
    assert run_name(arch, encoder, seed) == expected


def test_history_grows_line_by_line(tmp_path: Path) -> None:
    """Lines come back in order; what is no number is null."""
    append_history(tmp_path, [{"kind": "step", "step": 1, "train_loss": 0.5}])
    append_history(tmp_path, [{"kind": "val", "step": 1, "val_miou": float("nan")}])
    assert read_history(tmp_path) == [
        {"kind": "step", "step": 1, "train_loss": 0.5},
        {"kind": "val", "step": 1, "val_miou": None},
    ]


def test_no_history_is_an_empty_one(tmp_path: Path) -> None:
    """Predictions that were adopted have none."""
    assert read_history(tmp_path) == []


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    """A kill in the middle of a line costs that line."""
    (tmp_path / "history.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert read_history(tmp_path) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("line", ['{"ste', "[1]", "3"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    """A line before the last that is no JSON object is an error with its number."""
    (tmp_path / "history.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(RecordError, match=r"history\.jsonl: line 2 is no JSON object.*\. Remove the line\.$"):
        read_history(tmp_path)


@pytest.mark.parametrize("value", ["[1]", '"much"', "true", "1e999", "9" * 400])
def test_a_line_with_no_number_where_one_is_drawn_is_named(tmp_path: Path, value: str) -> None:
    """What curves and comparisons read is a number or null."""
    (tmp_path / "history.jsonl").write_text(f'{{"step": 1, "val_miou": null}}\n{{"step": 2, "val_miou": {value}}}\n')
    text = r"history\.jsonl: line 2: val_miou is '.+', expected a number\. Remove the line\.$"
    with pytest.raises(RecordError, match=text):
        read_history(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", "0", r"run\.json: seed: Input should be a valid integer\. Make the run anew\.$"),
        ("name", "../x", r"run\.json: name: String should match pattern .+\. Make the run anew\.$"),
        (
            "outputs",
            [0, 255],
            r"run\.json: outputs\.1: Input should be less than .+ 254\. Make the run anew\.$",
        ),
        ("budget", {"steps": 3}, r"run\.json: budget\.asked: Field required\. Make the run anew\.$"),
    ],
)
def test_a_card_with_a_key_of_another_type_is_refused(tmp_path: Path, key: str, value: object, message: str) -> None:
    """The key is named; what only is shown may be anything."""
    write_card(tmp_path, CARD | {key: value, "hardware": ["anything"]})
    with pytest.raises(RecordError, match=message):
        read_run(tmp_path)


def test_truncate_keeps_what_the_state_knows(tmp_path: Path) -> None:
    """Lines after the last saved step go, the validation of that step stays, half a line goes."""
    lines = [{"step": 1}, {"step": 2}, {"step": 2, "kind": "val"}, {"step": 3}]
    append_history(tmp_path, lines)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step"')
    truncate_history(tmp_path, 2)
    assert read_history(tmp_path) == lines[:3]
    assert [entry.name for entry in tmp_path.iterdir()] == ["history.jsonl"]


def test_truncate_keeps_russian_text(tmp_path: Path) -> None:
    """A rewritten line is the same line."""
    append_history(tmp_path, [{"step": 1, "note": "Лес"}, {"step": 5}])
    truncate_history(tmp_path, 1)
    assert read_history(tmp_path) == [{"step": 1, "note": "Лес"}]


def test_a_history_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """One clear line."""
    (tmp_path / "history.jsonl").mkdir()
    with pytest.raises(DiskError, match=r"history\.jsonl: cannot be written \(Is a directory\)\. Free space or"):
        append_history(tmp_path, [{"step": 1}])


def test_truncate_drops_a_validation_that_the_state_does_not_know(tmp_path: Path) -> None:
    """A run stopped in the middle of a validation does it again."""
    lines = [{"kind": kind, "step": step} for step in (1, 2) for kind in ("step", "val")]
    append_history(tmp_path, lines)
    truncate_history(tmp_path, 2, last_validation=1)
    assert read_history(tmp_path) == lines[:3]
