"""``comparison.json`` as typed objects: read, written, refused, and what is said of order and sign."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from levelground.comparison import record, results
from levelground.comparison.compare import in_current_language
from levelground.comparison.record import (
    Comparison,
    comparison_json,
    comparison_schema,
    read_comparison,
    write_record,
)
from levelground.comparison.results import Finding, RunPairResult, ScoreSet
from levelground.errors import RecordError
from levelground.wording import language

DATA = Path(__file__).parent / "data"
STORED = (DATA / "comparison.json", DATA / "study-0.1.0" / "comparison.json")


@pytest.fixture
def comparison() -> Comparison:
    """Two architectures with two seeds each."""
    return read_comparison(DATA)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_what_is_read_is_written_again(path: Path, tmp_path: Path) -> None:
    """No key and no number changes; cards are written as ``run.json`` is, with the keys that every card has."""
    comparison = read_comparison(path)
    write_record(comparison, tmp_path / "comparison.json")
    written, stored = (json.loads(each.read_text(encoding="utf-8")) for each in (tmp_path / "comparison.json", path))
    for run, before in zip(written["runs"], stored["runs"], strict=True):
        if comparison.version == "0.1.0":
            assert run["card"] == before["card"]
        assert before.pop("card")["identity"] == run.pop("card")["identity"]
    assert len(written.pop("sha256")) == 64
    for pair in stored["pairs"]:  # bootstraps, which decided nothing, are no longer part of the record
        del pair["percentile"], pair["bca"]
    assert written == stored
    assert read_comparison(tmp_path) == comparison


def changed(tmp_path: Path, *keys: str | int, to: Any) -> Path:
    """The stored record with one value changed; ``KeyError`` for ``to`` removes it."""
    content = json.loads(STORED[0].read_text(encoding="utf-8"))
    place = content
    for key in keys[:-1]:
        place = place[key]
    if to is KeyError:
        del place[keys[-1]]
    else:
        place[keys[-1]] = to
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        (("runs",), None, "runs: Input should be a valid array"),
        (("pairs",), 3, "pairs: Input should be a valid array"),
        (("metric",), KeyError, "metric: Field required"),
        (("runs",), [], "runs: Tuple should have at least 1 item after validation, not 0"),
        (("runs", 0, "value"), "much", "runs.0.value: Input should be a valid number"),
        (("runs", 1, "scores", "kept", "iou"), [0.5], "runs.1.scores.kept.iou: 1 values for 7 classes"),
        (("runs", 1, "scores", "kept", "recall"), [0.5], "runs.1.scores.kept.recall: 1 values for 7 classes"),
        (("runs", 1, "scores", "kept", "mf1"), "a", "runs.1.scores.kept.mf1.*: Input should be a valid number"),
        (("runs", 0, "counts", 2), [1, 2], "runs.0.counts: 2 values for 7 classes"),
        (("runs", 0, "counts", 2, 1), -1, "runs.0.counts.2.1: Input should be greater than or equal to 0"),
        (("runs", 2, "scores", "kept"), KeyError, "runs.2.scores: expected all of official, kept, all"),
        (("runs", 0, "scene_miou"), [], "runs.0.scene_miou: 0 values for 8 scenes"),
        (("runs", 0, "calibration", "bins", -1, "confidence"), None, r"runs.0.calibration.bins.\d+: pixels without"),
        (("runs", 1, "name"), "unet-resnet18-s0", "runs: a name is used twice"),
        (("pairs", 0, "a"), "mine", "pairs.0.a: no run is called 'mine'"),
        (("pairs", 0, "verdict"), "good", "pairs.0.verdict: Input should be 'equal', 'better', 'worse' or 'undecided'"),
        (("pairs", 0, "per_class", 0, "class"), 7, "per_class: 8 values for 7 classes"),
        (("architectures", 0, "runs", 0), "x", "architectures.0.runs: no run is called 'x'"),
        (("architecture_pairs", 0, "b"), "x", "architecture_pairs.0: no such architectures as 'unet' and 'x'"),
        (("legend",), 3, "legend: Input should be an object"),
        (("legend", "class", 0, "colour"), "red", "legend: .*colour is 'red'"),
        (("truth", "present"), [True], "truth.present: 1 values for 7 classes"),
    ],
)
def test_a_damaged_record_is_refused_in_one_line(
    keys: tuple[str | int, ...], to: Any, message: str, tmp_path: Path
) -> None:
    """The message names the file, the field and what to do."""
    path = changed(tmp_path, *keys, to=to)
    with pytest.raises(RecordError, match=rf"{message}") as caught:
        read_comparison(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith(". Run `levelground compare` again.")
    assert "\n" not in str(caught.value)


def test_an_unknown_schema_is_refused(tmp_path: Path) -> None:
    """A record of another version is not guessed at."""
    with pytest.raises(RecordError, match="comparison record of schema 9, this version reads 1"):
        read_comparison(changed(tmp_path, "schema", to=9))


def test_scores_by_kind(comparison: Comparison) -> None:
    """Kinds that a record does not hold have no score; a kind that this version does not know is kept."""
    scores = comparison.runs[0].scores["official"]
    assert scores.overall("miou") == scores.miou
    assert scores.overall("pixel_accuracy") == pytest.approx(0.5029, abs=1e-4)
    assert (scores.overall("iou"), scores.overall("mine")) == (None, None)
    assert scores.per_class("iou") == scores.iou
    assert len(scores.per_class("recall")) == 7
    assert (scores.per_class("miou"), scores.per_class("mine")) == ((), ())
    more = ScoreSet.model_validate(scores.model_dump() | {"mine": float("nan"), "of_class": (0.5,) * 7})
    assert (more.overall("mine"), more.per_class("of_class")) == (None, (0.5,) * 7)
    assert more.model_dump()["of_class"] == (0.5,) * 7


def test_figures_that_do_not_exist_are_null(comparison: Comparison) -> None:
    """NaN from an array becomes ``None`` in the object and ``null`` in the file."""
    run = replace(comparison.runs[0], value=float("nan"), scene_miou=tuple(np.full(8, np.nan).tolist()))
    assert (run.value, run.scene_miou) == (None, (None,) * 8)
    finding = Finding("few_groups", "warning", "Few.", {"shares": np.array([0.5, np.nan])})
    stored = comparison_json(replace(comparison, runs=(run, *comparison.runs[1:]), findings=(finding,)))
    assert stored["runs"][0]["value"] is None
    assert stored["findings"][0]["figures"] == {"shares": [0.5, None]}


def test_a_pair_from_its_other_side(comparison: Comparison) -> None:
    """Differences and intervals change their sign, the verdict its side; twice is the pair itself."""
    pair = replace(comparison.pairs[0], verdict="better")
    flipped = pair.flipped()
    assert isinstance(flipped, RunPairResult)
    assert (flipped.a, flipped.b, flipped.verdict) == (pair.b, pair.a, "worse")
    assert flipped.delta == -pair.delta
    for mine, other in ((pair.interval, flipped.interval),):
        assert mine is not None
        assert other == (-mine[1], -mine[0])
    assert flipped.per_class[0].delta == -pair.per_class[0].delta
    assert flipped.flipped() == pair
    between = comparison.architecture_pairs[0]
    assert (between.flipped().v_a, between.flipped().n_b) == (between.v_b, between.n_a)


def test_who_is_ranked_and_which_pairs_decide(comparison: Comparison) -> None:
    """With seeds on each side architectures are ranked, else runs; a pair is found from either side."""
    assert [entry.name for entry in comparison.ranking] == ["fpn", "unet"]
    assert [(pair.a, pair.b) for pair in comparison.decisive_pairs] == [("unet", "fpn")]
    assert comparison.oriented_pair("fpn", "unet") == comparison.architecture_pairs[0].flipped()
    with pytest.raises(KeyError):
        comparison.oriented_pair("fpn", "fpn")
    alone = replace(comparison, architectures=tuple(replace(entry, seeds=1) for entry in comparison.architectures))
    # the other seed of the leader's architecture is not compared with it
    assert [entry.label for entry in alone.ranking] == [
        "fpn s0",
        *(run.label for run in comparison.ranked_runs if "unet" in run.name),
    ]
    assert alone.decisive_pairs == comparison.pairs


def test_schema_describes_every_key() -> None:
    """The JSON Schema holds the file's keys, each with a description but for schema and kind."""
    schema, stored = comparison_schema(), json.loads(STORED[0].read_text(encoding="utf-8"))
    optional = [name for name in schema["properties"] if name not in stored]
    assert optional == ["budgets", "carried", "named", "failed", "unfinished"]
    assert list(schema["properties"]) == [*stored, *optional]
    assert set(schema["required"]) == set(stored)
    assert len(fields(Comparison)) == len(stored) - 2 + len(optional)
    own = {name for module in (record, results) for name, item in vars(module).items() if isinstance(item, type)}
    blocks = {name: block["properties"] for name, block in schema["$defs"].items() if name in own - {"RunCard"}}
    assert {"RunResult", "PowerAnalysis", "RunPairResult", "SceneRow"} <= set(blocks)
    bare = [(name, key) for name, block in blocks.items() for key, value in block.items() if "description" not in value]
    assert bare == []


@pytest.mark.parametrize("path", STORED, ids=["now", "0.1.0"])
def test_a_stored_comparison_is_said_in_another_language(path: Path) -> None:
    """Sentences are written anew from the figures, those of a record of 0.1.0 too; figures stay."""
    stored = read_comparison(path)
    assert in_current_language(stored) is stored
    with language("ru"):
        shown = in_current_language(stored)
    assert shown.findings[0].code == "headline"
    assert all(re.search("[а-я]", item.text) for item in (*shown.findings, *shown.pairs, *shown.architecture_pairs))
    assert [pair.delta for pair in shown.pairs] == [pair.delta for pair in stored.pairs]
    assert shown.legend.names == tuple(entry.name_ru for entry in stored.legend.classes)
