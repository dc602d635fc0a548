"""Runs are gathered under names of their own; legend, data set and evaluation log are those of the counts."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.runs import LEGEND, build_dataset, build_run, noisy_counts, scene_counts

from levelground.comparison.compare import compare_runs
from levelground.comparison.conditions import EvaluationLog, LoggedEvaluation, SeparatedGroup
from levelground.comparison.inputs import (
    find_dataset,
    gather,
    ground_truth,
    legend_of,
    read_evaluation_log,
    separated_groups,
)
from levelground.errors import ConfigError, RecordError
from levelground.records import write_json
from levelground.runs import read_run

COUNTS = noisy_counts(3, 0.2, seed=1)


def test_scenes_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """Whatever the order on disk, row i means the same scene in all runs, in every array."""
    counts = scene_counts(COUNTS[::-1], scenes=["c", "b", "a"], groups=["g2", "g1", "g1"])
    object.__setattr__(counts, "forward_s", np.array([3.0, 2.0, 1.0]))
    found = gather([build_run(tmp_path, "unet-s0", counts)], "test")[0].counts
    assert found.scenes.tolist() == ["a", "b", "c"]
    assert found.groups.tolist() == ["g1", "g1", "g2"]
    assert found.forward_s.tolist() == [1.0, 2.0, 3.0]
    assert (found.counts == COUNTS).all()


def test_runs_that_cannot_be_told_apart_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same run name in two studies of the same name; the remedy works from within a study too."""
    runs = [build_run(tmp_path / place / "study", "unet-s0", COUNTS) for place in ("here", "there")]
    with pytest.raises(
        ConfigError, match=r"^two runs are called study/unet-s0\. Rename the study's folder \S+here/study or"
    ) as refused:
        gather(runs, "test")
    monkeypatch.chdir(runs[0].study)
    with pytest.raises(ConfigError, match=re.escape(str(refused.value))):
        gather([read_run(Path("runs/unet-s0")), runs[1]], "test")
    renamed = Path(str(refused.value).split("folder ")[1].split(" or")[0])
    renamed.rename(renamed.with_name("other"))
    runs = [read_run(tmp_path / "here" / "other" / "runs" / "unet-s0"), runs[1]]
    assert [one.name for one in gather(runs, "test")] == ["other/unet-s0", "study/unet-s0"]


def test_a_copy_of_a_run_has_the_name_of_its_folder(tmp_path: Path) -> None:
    """Its card still has the other's."""
    run = build_run(tmp_path / "study", "unet-s0", COUNTS)
    copy = Path(shutil.copytree(run.folder, run.folder.with_name("unet-copy")))
    assert [one.name for one in gather([run, read_run(copy)], "test")] == ["study/unet-s0", "study/unet-copy"]


def test_counts_without_scenes_are_refused(tmp_path: Path) -> None:
    """An empty split compares nothing."""
    empty = scene_counts(COUNTS)
    arrays = {name: value[:0] for name, value in vars(empty).items() if isinstance(value, np.ndarray)}
    run = build_run(tmp_path, "unet-s0", replace(empty, **arrays))
    with pytest.raises(RecordError, match=r"^unet-s0: counts of test hold no scene\."):
        gather([run], "test")


def test_the_legend_comes_from_a_card_that_fits_the_counts(tmp_path: Path) -> None:
    """A card without its legend is passed over; none at all is a damaged record."""
    bare = build_run(tmp_path, "theirs", COUNTS, card={"legend": None})
    full = build_run(tmp_path, "unet-s0", COUNTS)
    assert legend_of(gather([bare, full], "test")) == LEGEND
    with pytest.raises(RecordError, match=r"^theirs: its card does not hold the legend that its 3 classes were"):
        legend_of(gather([bare], "test"))


def test_the_dataset_is_that_of_the_counts(tmp_path: Path) -> None:
    """Only a dataset.json with the same split and legend is believed."""
    evaluated = gather([build_run(tmp_path, "unet-s0", COUNTS)], "test")
    assert find_dataset(evaluated) is None
    build_dataset(tmp_path, {"train": ["a"], "val": ["b"], "test": ["c"]})
    found = find_dataset(evaluated)
    assert found is not None
    assert found.layout == "kaggle"
    write_json(tmp_path / "dataset.json", {"scenes": []}, kind="dataset")
    with pytest.raises(RecordError, match=r"dataset\.json: lacks 'split'\. Prepare the data again\.$"):
        find_dataset(evaluated)
    damaged = {"scenes": [{"id": 3}], "split": {}, "split_rule": None, "layout": "kaggle"}
    write_json(tmp_path / "dataset.json", damaged, kind="dataset")
    with pytest.raises(RecordError, match=r"dataset\.json: scenes\.0\.id: Input should be a valid string\. Prepare"):
        find_dataset(evaluated)


def test_a_group_across_train_is_named_before_one_across_val(tmp_path: Path) -> None:
    """One line a group; training is the worse leak; groups wholly inside a set are no leak."""
    build_dataset(
        tmp_path,
        {"train": ["a", "b"], "val": ["c", "d"], "test": ["e", "f", "g"]},
        {"a": "one", "c": "one", "e": "one", "d": "two", "f": "two"},
    )
    dataset = find_dataset(gather([build_run(tmp_path, "unet-s0", COUNTS)], "test"))
    assert separated_groups(dataset, "test") == (
        SeparatedGroup("one", ("e",), ("a",), "train"),
        SeparatedGroup("two", ("f",), ("d",), "val"),
    )
    assert [entry.group for entry in separated_groups(dataset, "val")] == ["one"]
    assert separated_groups(None, "test") == ()


def test_a_group_across_folds_is_named(tmp_path: Path) -> None:
    """Every scene is a test scene there, and trains for the other folds; groups wholly inside a fold are no leak."""
    folds = [["e", "f"], ["a", "b"], ["c"]]
    build_dataset(
        tmp_path,
        {"train": [], "val": [], "test": [*"abcef"]},
        {"b": "one", "f": "one", "c": "one", "a": "two"},
        folds=folds,
    )
    run = build_run(tmp_path, "unet-s0", COUNTS, card={"status": "joined", "folds": ["folds/1/runs/unet-s0"] * 3})
    dataset = find_dataset(gather([run], "test"))
    assert separated_groups(dataset, "test") == (SeparatedGroup("one", ("f",), ("b",), "fold 2"),)
    found = next(one for one in compare_runs([run]).findings if one.code == "split_separates_groups")
    assert found.text.startswith("The folds separate 1 group of scenes that belong together, such as f and b:")


def test_truth_without_pixels_divides_by_nothing() -> None:
    """Scenes without any label have shares of zero."""
    truth = ground_truth(scene_counts(COUNTS * 0))
    assert truth.class_share == (0, 0, 0)
    assert truth.present == (False, False, False)


def test_evaluations_of_two_studies_add(tmp_path: Path) -> None:
    """Each study keeps its own list; a study without one adds nothing."""
    runs = [build_run(tmp_path / place, f"unet-{place}", COUNTS) for place in ("first", "second", "third")]
    for place in ("first", "second"):
        (tmp_path / place / "test_looks.jsonl").write_text('{"run": "x"}\n', encoding="utf-8")
    assert read_evaluation_log(gather(runs, "test")) == EvaluationLog(
        2, (LoggedEvaluation(run="x"),) * 2, runs=dict.fromkeys((run.name for run in runs), 0)
    )
