"""The study command on generated scenes: all stages, reuse, adopted runs, and refusals before data are read."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest

from levelground import pipeline
from levelground.cli import main
from levelground.datasets.dataset import read_dataset
from levelground.datasets.folds import read_folds
from levelground.metrics.counts import read_counts, write_counts
from levelground.records import read_json
from levelground.runs import list_runs, read_run, write_card
from levelground.synthetic.scenes import write_scenes

SMALL = ("--tile", "64", "--halo", "8", "--batch", "2", "--steps", "2", "--validations", "1", "--threads", "1")
TINY = ("--encoder", "tu-test_resnet", "--encoder-weights", "none", "--figures")
"""A handful of layers and no pictures, where a test is about neither: a third of the time."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight generated scenes."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, n=8, size=128, seed=0)
    return folder


def study(scenes: Path, out: Path, *more: str) -> int:
    """Run the command."""
    return main(["study", "--data", str(scenes), "--out", str(out), "--cache", str(out / "cache"), *SMALL, *more])


@pytest.fixture(scope="module")
def whole(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two architectures with the default encoder and its weights."""
    out = tmp_path_factory.mktemp("whole")
    assert study(scenes, out, "--archs", "pspnet", "fpn") == 0
    return out


def test_a_study_goes_through_all_stages_and_reuses_them(
    scenes: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command leaves records, tables, figures and page; a second one trains and looks at nothing anew."""
    left = {path.name for path in whole.iterdir()}
    wanted = {"study.json", "dataset.json", "report.html", "figures", "runs", "test_looks.jsonl"}
    assert wanted | {f"comparison.{suffix}" for suffix in ("json", "csv", "md", "tex")} <= left
    looks = (whole / "test_looks.jsonl").read_text(encoding="utf-8")
    capsys.readouterr()
    assert study(scenes, whole, "--archs", "pspnet", "fpn") == 0
    said = capsys.readouterr().err
    assert said.count("trained already") == 2 and said.count("reused") >= 4
    assert (whole / "test_looks.jsonl").read_text(encoding="utf-8") == looks


def test_folds_make_every_scene_a_test_scene(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model for each fold, scored on scenes that it did not see; one joined run over all eight scenes; all reused."""
    assert study(scenes, tmp_path, "--archs", "pspnet", "fpn", "--folds", "2", *TINY) == 0
    record = read_json(tmp_path / "comparison.json", kind="comparison")
    assert len(record["runs"]) == 2 and len(record["scenes"]) == record["n_groups"] == 8
    assert record["dataset"]["train"] is None and "data like these" in record["findings"][0]["text"]
    assert (tmp_path / "report.html").exists()
    dataset = read_dataset(tmp_path)
    for run in list_runs(tmp_path):
        assert run.card.status == "joined"
        joined = read_counts(run.counts_path("test"))
        for fold, folder in zip(read_folds(dataset), run.card.folds, strict=True):
            part = read_counts(tmp_path / folder / "counts-test.npz")
            assert not {*part.scenes.tolist()} & {*fold.ids("train"), *fold.ids("val")}
            assert np.array_equal(joined.counts[np.isin(joined.scenes, part.scenes)], part.counts)
            assert read_run(tmp_path / folder).card.train_sha256 == fold.train_sha256
        assert len({*run.preds_folder("test").rglob("*.png")}) == 8
        assert run.card.weights_sha256 is None
        write_card(run.folder, dataclasses.replace(run.card, weights_sha256="1" * 64))  # as earlier versions did
    assert main(["check", str(tmp_path)]) == 0
    capsys.readouterr()
    assert study(scenes, tmp_path, "--archs", "pspnet", "fpn", "--folds", "2", *TINY) == 0
    assert capsys.readouterr().err.count("trained already") == 4
    assert len((tmp_path / "test_looks.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_a_study_in_folds_names_the_folds_where_one_data_set_is_needed(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train and evaluate say which folder to take; predict asks for the run of a fold. What they say works."""
    assert study(scenes, tmp_path, "--archs", "pspnet", "--folds", "2", *TINY) == 0
    run = str(list_runs(tmp_path)[0].folder)
    capsys.readouterr()
    assert main(["train", str(tmp_path), "--arch", "unet"]) == 2
    assert f"Say levelground train {tmp_path / 'folds' / '1'} --arch unet" in capsys.readouterr().err
    for given in (str(tmp_path), run):
        assert main(["evaluate", given]) == 2
        assert f"Say levelground evaluate {tmp_path / 'folds' / '1'}" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "folds" / "1")]) == 0
    capsys.readouterr()
    assert main(["predict", run, str(scenes), "--out", str(tmp_path / "maps")]) == 2
    assert "joins the counts of 2 folds and has no model of its own" in capsys.readouterr().err


def test_counts_of_folds_that_were_changed_are_joined_anew(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the study's own command, as the line says; counts of other scenes cannot be the run's."""
    asked = ("--archs", "pspnet", "--folds", "2", *TINY)
    assert study(scenes, tmp_path, *asked) == 0
    (run,) = list_runs(tmp_path)
    counts, record = run.counts_path("test"), read_counts(run.counts_path("test"))
    sound = counts.read_bytes()
    for harm, text in (("counts", "is not what was counted for"), ("card", "the run's card does not know of these")):
        if harm == "counts":
            write_counts(counts, dataclasses.replace(record, forward_s=record.forward_s + 1))
        else:
            write_card(run.folder, dataclasses.replace(run.card, evaluations={}))
        capsys.readouterr()
        assert main(["compare", str(tmp_path)]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert text in said
        assert "anew with levelground study and the flags that the study was begun with." in said
        assert study(scenes, tmp_path, *asked) == 0
        assert counts.read_bytes() == sound
        assert main(["compare", str(tmp_path)]) == 0
    run.counts_path("val").write_bytes(sound)
    assert main(["compare", str(tmp_path), "--split", "val"]) == 2
    assert "joins the test scenes of folds and has no other counts. Remove the file." in " ".join(
        capsys.readouterr().err.split()
    )


def test_workers_change_no_count(scenes: Path, tmp_path: Path) -> None:
    """0, 1 and 3 loader processes end with the same counts."""
    found = []
    for workers in ("0", "1", "3"):
        out = tmp_path / workers
        assert study(scenes, out, "--archs", "pspnet", "--workers", workers, *TINY) == 0
        found.append(read_counts(next(out.glob("runs/*/counts-test.npz"))).counts)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_twins_ask_the_architecture_question(scenes: Path, tmp_path: Path) -> None:
    """Two seeds a side of one architecture under two names: a pair of architectures, and a finding about it."""
    assert study(scenes, tmp_path, "--archs", "pspnet", "--seeds", "0", "1", "--twins", *TINY) == 0
    record = read_json(tmp_path / "comparison.json", kind="comparison")
    assert len(record["runs"]) == 4
    assert [row["twin_of"] for row in record["architectures"]].count(None) == 1
    assert len(record["architecture_pairs"]) == 1
    assert "twins" in {finding["code"] for finding in record["findings"]}


def test_impossible_wishes_stop_before_data_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An encoder that does not go with the architecture is said before a scene is looked for."""
    (tmp_path / "empty").mkdir()
    assert study(tmp_path / "empty", tmp_path / "out", "--archs", "dpt", "--encoder", "resnet18") == 2
    assert "Give one of timm's: --encoder tu-tf_efficientnet_lite0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_budgets_train_every_run_at_shares_too(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shorter runs lie beside the study, with a schedule of their own; the ladder is in record and page; all reused."""
    given = ("--archs", "pspnet", "fpn", "--budgets", ".5", "1", *TINY)
    assert study(scenes, tmp_path, *given) == 0
    record = read_json(tmp_path / "comparison.json", kind="comparison")
    assert [(rung["share"], rung["steps"]) for rung in record["budgets"]] == [(0.5, [1, 1]), (1.0, [2, 2])]
    assert [len(rung["scores"]) for rung in record["budgets"]] == [2, 2]
    assert "budget_order" in {finding["code"] for finding in record["findings"]}
    assert [run.card.steps_done for run in list_runs(tmp_path / "budgets" / "0.5")] == [1, 1]
    assert 'id="budgets"' in (tmp_path / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert study(scenes, tmp_path, *given) == 0
    assert capsys.readouterr().err.count("trained already") == 4
    (tmp_path / "comparison.json").unlink()
    assert main(["compare", str(tmp_path)]) == 0
    assert read_json(tmp_path / "comparison.json", kind="comparison")["budgets"] == record["budgets"]


def test_without_budgets_the_study_is_as_it_was(whole: Path) -> None:
    """No folder, no key and no section where one budget is asked for."""
    assert not (whole / "budgets").exists()
    assert "budgets" not in read_json(whole / "comparison.json", kind="comparison")
    assert not read_json(whole / "study.json", kind="study")["options"].get("budgets")
    assert 'id="budgets"' not in (whole / "report.html").read_text(encoding="utf-8")


def test_a_refused_demo_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What does not go together is found before scenes are generated."""
    asked = ["--archs", "pan", "--tile", "64", "--encoder", "resnet18", "--encoder-weights", "none"]
    assert main(["demo", *asked, "--out", str(tmp_path / "demo")]) == 2
    assert "tile" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["demo", "study"])
def test_the_time_that_is_said_is_the_whole_command(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before the first run (imports, scenes, preparing them) belongs to "Done in"."""
    asked = list[float]()
    monkeypatch.setattr(pipeline, "run_study", lambda *_, since: asked.append(since))
    monkeypatch.setattr(pipeline, "check_study", lambda *_, **__: time.sleep(0.01))
    monkeypatch.setattr("levelground.datasets.prepare.prepare_dataset", lambda _: asked.append(time.monotonic()))
    monkeypatch.setattr("levelground.synthetic.scenes.write_scenes", lambda *_, **__: None)
    (tmp_path / "data").mkdir()
    where = ["--data", str(tmp_path / "data")] if command == "study" else []
    monkeypatch.setattr("levelground.datasets.data_source.check_data", lambda _: None)
    main([command, *where, "--out", str(tmp_path / "out")])
    prepared, since = asked
    assert 0.01 <= prepared - since < 60
