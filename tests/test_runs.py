"""Run folders: card, history, names."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from levelground.errors import DiskError, RecordError
from levelground.history import HistoryLine, append_history, read_history, truncate_history
from levelground.records import to_json, write_json
from levelground.runs import (
    Run,
    RunCard,
    list_runs,
    read_run,
    read_study,
    run_name,
    runs_folder,
    schemas,
    write_card,
    write_study,
)

CARD = RunCard(
    name="unet-resnet18-s0",
    arch="unet",
    encoder="resnet18",
    seed=0,
    status="finished",
    legend_sha256="ab",
    identity="cd",
)
STUDY_010 = Path(__file__).parent / "data" / "study-0.1.0"
"""A study that version 0.1.0 wrote."""


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Card and properties."""
    assert write_card(tmp_path / "a", CARD) == Run(tmp_path / "a", CARD)
    run = read_run(tmp_path / "a")
    assert run == Run(tmp_path / "a", CARD)
    assert (run.name, run.arch, run.encoder, run.seed, run.adopted) == (
        "unet-resnet18-s0",
        "unet",
        "resnet18",
        0,
        False,
    )


def test_an_adopted_run_may_have_no_seed(tmp_path: Path) -> None:
    """Nobody knows the seed of another tool's weights."""
    run = Run(tmp_path, dataclasses.replace(CARD, seed=None, status="adopted"))
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
    content = {name: value for name, value in to_json(CARD).items() if name != key}
    write_json(tmp_path / "run.json", content, kind="run")
    with pytest.raises(RecordError, match=rf"run\.json: lacks '{key}'\. Make the run anew\.$"):
        read_run(tmp_path)


def test_a_card_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A newer levelground wrote it."""
    (tmp_path / "run.json").write_text(json.dumps(to_json(CARD) | {"schema": 2}))
    with pytest.raises(RecordError, match=r"run record of schema 2, this version reads 1\."):
        read_run(tmp_path)


def test_runs_of_a_study_are_listed_by_name(tmp_path: Path) -> None:
    """Folders without a card are no runs."""
    for name in ("unet-s1", "fpn-s0"):
        write_card(runs_folder(tmp_path) / name, dataclasses.replace(CARD, name=name))
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
    """Lines come back in order; not-a-number is null."""
    append_history(tmp_path, [HistoryLine(kind="step", step=1, train_loss=0.5)])
    append_history(tmp_path, [HistoryLine(kind="val", step=1, val_miou=float("nan"))])
    assert read_history(tmp_path) == [
        HistoryLine(kind="step", step=1, train_loss=0.5),
        HistoryLine(kind="val", step=1, val_miou=None),
    ]


def test_no_history_is_an_empty_one(tmp_path: Path) -> None:
    """Predictions that were adopted have none."""
    assert read_history(tmp_path) == []


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    """A kill in the middle of a line costs that line."""
    (tmp_path / "history.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert [line.step for line in read_history(tmp_path)] == [1, 2]


@pytest.mark.parametrize("line", ['{"ste', "[1]", "3"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    """A line before the last that is not a JSON object is an error with its number."""
    (tmp_path / "history.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(RecordError, match=r"history\.jsonl: line 2 is not a JSON object.*\. Remove the line\.$"):
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
    """The key is named; unknown keys may hold anything."""
    write_json(tmp_path / "run.json", to_json(CARD) | {key: value, "another": ["anything"]}, kind="run")
    with pytest.raises(RecordError, match=message):
        read_run(tmp_path)


def unsealed(path: Path) -> str:
    """The text of a file without the checksums that version 0.1.0 did not write."""
    text = re.sub(r',\n "sha256": "[0-9a-f]{64}"(?=\n}\n$)', "", path.read_text(encoding="utf-8"))
    return re.sub(r', "crc32": "[0-9a-f]{8}"}$', "}", text, flags=re.MULTILINE)


def test_a_study_of_0_1_0_is_read_and_written_to_the_byte(tmp_path: Path) -> None:
    """Every key has its field: what is read and written again is the same text, in the same order, and its checksum."""
    runs = list_runs(STUDY_010)
    assert len(runs) == 4
    for run in runs:
        assert not run.card.extra
        write_card(tmp_path / run.name, run.card)
        append_history(tmp_path / run.name, read_history(run.folder))
        for name in ("run.json", "history.jsonl"):
            assert unsealed(tmp_path / run.name / name) == (run.folder / name).read_text(encoding="utf-8")
    study = read_study(STUDY_010)
    assert study.runs == tuple(run.name for run in sorted(runs, key=lambda run: (run.seed, run.arch != "linknet")))
    write_study(tmp_path, study)
    assert unsealed(tmp_path / "study.json") == (STUDY_010 / "study.json").read_text(encoding="utf-8")


def test_unknown_keys_survive_a_change(tmp_path: Path) -> None:
    """What a newer version or another tool wrote, at any depth, is there after the card was changed."""
    folder = shutil.copytree(next((STUDY_010 / "runs").iterdir()), tmp_path / "run")
    content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    content |= {"sensor": {"name": "Лес"}, "extra": 3}
    content["budget"] |= {"energy_kwh": 0.5}
    content["recipe"] |= {"mixup": 0.1}
    content["evaluations"]["test"] |= {"tta": "d4"}
    write_json(folder / "run.json", content, kind="run")
    write_card(folder, dataclasses.replace(read_run(folder).card, status="stopped"))
    assert json.loads(unsealed(folder / "run.json")) == content | {"status": "stopped"}


def test_null_and_a_missing_key_are_the_default(tmp_path: Path) -> None:
    """Blocks are always there; what they do not know is None."""
    content = to_json(CARD) | {"speed": None, "parameters": None, "twin": None, "recipe": {}, "evaluations": None}
    write_json(tmp_path / "run.json", content, kind="run")
    assert read_run(tmp_path).card == CARD
    assert (CARD.speed.train_images_per_s, CARD.recipe, CARD.twin, CARD.evaluations) == (None, None, False, {})


def test_half_a_character_in_a_card_is_refused(tmp_path: Path) -> None:
    """It could be read and not be written again."""
    (tmp_path / "run.json").write_text(json.dumps(to_json(CARD) | {"arch": "\ud800"}))
    with pytest.raises(
        RecordError, match=r"run\.json: unreadable run record \(.+surrogates not allowed\)\. Restore it"
    ):
        read_run(tmp_path)


def test_the_schemas_describe_what_lies_on_disk() -> None:
    """Keys of 0.1.0, with the record's kind and number first; further keys are allowed."""
    card = json.loads(next((STUDY_010 / "runs").glob("*/run.json")).read_text(encoding="utf-8"))
    schema = schemas()["run.json"]
    assert set(card) < set(schema["properties"])
    assert schema["properties"]["kind"] == {"const": "run"}
    assert schema["additionalProperties"] is True
    assert {"schema", "kind", "name", "identity"} <= set(schema["required"])
    assert set(schemas()) == {"run.json", "study.json", "history.jsonl"}


def test_truncate_keeps_what_the_state_knows(tmp_path: Path) -> None:
    """Lines after the last saved step go, the validation of that step stays, half a line goes."""
    lines = [HistoryLine(kind=kind, step=step) for kind, step in (("step", 1), ("step", 2), ("val", 2), ("step", 3))]
    append_history(tmp_path, lines)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step"')
    truncate_history(tmp_path, 2)
    assert read_history(tmp_path) == lines[:3]
    assert [entry.name for entry in tmp_path.iterdir()] == ["history.jsonl"]


def test_truncate_keeps_russian_text(tmp_path: Path) -> None:
    """A rewritten line is the same line."""
    line = HistoryLine(kind="step", step=1, extra={"note": "Лес"})
    append_history(tmp_path, [line, HistoryLine(kind="step", step=5)])
    before = (tmp_path / "history.jsonl").read_text().splitlines()
    truncate_history(tmp_path, 1)
    assert read_history(tmp_path) == [line]
    assert (tmp_path / "history.jsonl").read_text().splitlines() == before[:1]


def test_a_history_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """One clear line."""
    (tmp_path / "history.jsonl").mkdir()
    with pytest.raises(DiskError, match=r"cannot be written \(Is a directory\)\. Move \S+history\.jsonl away, or"):
        append_history(tmp_path, [HistoryLine(kind="step", step=1)])


def test_truncate_drops_a_validation_that_the_state_does_not_know(tmp_path: Path) -> None:
    """A run stopped in the middle of a validation does it again."""
    lines = [HistoryLine(kind=kind, step=step) for step in (1, 2) for kind in ("step", "val")]
    append_history(tmp_path, lines)
    truncate_history(tmp_path, 2, last_validation=1)
    assert read_history(tmp_path) == lines[:3]
