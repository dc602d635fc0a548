"""From a run spec to a run: what its card says, how it trains, and what is said when it is resumed elsewhere."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from builders.arrays import array_dataset
from builders.study import SPLIT
from builders.training import RECIPE, RUNTIME, assert_same_run, history, small_spec, train, weights

from levelground.config import Budget
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError
from levelground.recipe_files import BudgetRecord, RecipeRecord
from levelground.runs import Run, list_runs, read_run, write_card
from levelground.training.prepare_run import make_job
from levelground.training.run_spec import identity


def test_the_order_of_a_split_changes_no_crop(dataset: Dataset, finished: Run, tmp_path: Path) -> None:
    """Lists name scenes in any order; the run is the same."""
    reordered = dataclasses.replace(dataset, split=dataclasses.replace(SPLIT, train=SPLIT.train[::-1]))
    assert_same_run(train(small_spec(reordered), reordered, tmp_path), finished)


def test_the_card_names_all_that_decides(dataset: Dataset, finished: Run) -> None:
    """Configuration, data by hash, versions, hardware, sizes."""
    card = finished.card
    expected = {
        "arch": "linknet",
        "encoder_weights": "none",
        "seed": 0,
        "steps_per_epoch": 4,
        "outputs": (0, 2, 3),
        "tile": 32,
        "halo": 4,
        "in_channels": 3,
        "dtype": "uint8",
        "mean": dataset.mean,
        "std": dataset.std,
        "legend_sha256": dataset.legend.digest(),
        "train_sha256": dataset.train_sha256,
        "split_sha256": dataset.split_sha256,
        "threads": 1,
        "precision": "fp32",
        "device": "cpu",
        "identity": identity(small_spec(dataset), dataset),
    }
    assert {key: getattr(card, key) for key in expected} == expected
    assert card.recipe == RecipeRecord.of(RECIPE)
    assert card.budget is not None
    assert (card.budget.validation_s or 0) > 0
    budget = dataclasses.replace(card.budget, validation_s=None)
    assert budget == BudgetRecord(asked="6 steps", steps=6, validations=3)
    assert card.parameters.total == card.parameters.trainable
    assert (card.parameters.total or 0) > 300_000
    assert set(card.versions) >= {"levelground", "torch", "timm"}


def test_both_kinds_of_outputs_are_trained(dataset: Dataset, finished: Run, tmp_path: Path) -> None:
    """Three and four."""
    every = train(small_spec(dataset, steps=1, recipe=dataclasses.replace(RECIPE, outputs="all")), dataset, tmp_path)
    heads = [weights(one)["segmentation_head.0.weight"].shape[0] for one in (finished, every)]
    assert heads == [3, 4]


def test_whole_scenes_that_do_not_stack_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    """The remedy is in the message."""
    asked = small_spec(dataset, recipe=dataclasses.replace(RECIPE, tile=0))
    with pytest.raises(ConfigError, match=r"--tile 0 --batch 2: .+ do not stack\. Give --batch 1\."):
        train(asked, dataset, tmp_path)
    assert not list_runs(tmp_path)


@pytest.mark.parametrize(("bands", "dtype"), [(4, "uint8"), (1, "uint16"), (12, "float32")])
def test_other_imagery_is_trained(tmp_path: Path, bands: int, dtype: str) -> None:
    """Infrared, 16-bit panchromatic, many bands: the loss is a number and falls on what can be seen."""
    rng = np.random.default_rng(0)
    scenes = {}
    for name in "abcd":
        labels = rng.integers(0, 2, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1)
        noise = rng.normal(0, 0.1, (64, 64, bands))
        scenes[name] = ((100 * (1 + labels[..., None] + noise)).astype(dtype), labels)
    dataset = array_dataset(tmp_path, scenes, n_classes=2)
    recipe = dataclasses.replace(RECIPE, lr=1e-2, validations=1)
    trained = train(small_spec(dataset, steps=16, recipe=recipe), dataset, tmp_path / "study")
    losses = [line.train_loss for line in history(trained) if line.kind == "step"]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    assert trained.card.in_channels == bands
    assert trained.card.dtype == dtype


def test_a_run_that_goes_on_elsewhere_says_what_changed(
    dataset: Dataset, finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other versions, threads or precision may give other last bits."""
    write_card(
        finished.folder, dataclasses.replace(finished.card, status="stopped", threads=7, versions={"torch": "1.0"})
    )
    train(small_spec(dataset), dataset, finished.folder.parent.parent)
    said = capsys.readouterr().err
    assert f"{finished.name}: threads were 7, now 1: the weights may differ in the last bits." in said
    assert f"{finished.name}: versions were {{'torch': '1.0'}}, now " in said
    assert "precision were" not in said
    assert read_run(finished.folder).card.status == "finished"


def test_a_run_that_was_begun_keeps_its_number_of_steps(dataset: Dataset, finished: Run) -> None:
    """Minutes were turned into steps by earlier versions; otherwise they stay minutes."""
    card = dataclasses.replace(finished.card, budget=BudgetRecord(asked="1 minutes", steps=11, validations=2))
    asked = dataclasses.replace(small_spec(dataset), budget=Budget(minutes=1))
    job = make_job(asked, dataset, finished.folder, RUNTIME, Run(finished.folder, card))
    assert (job.steps, job.validations, job.total_s) == (11, 2, 0)
    timed = dataclasses.replace(card, budget=BudgetRecord(asked="1 minutes", validations=2, validation_s=0.5))
    job = make_job(asked, dataset, finished.folder, RUNTIME, Run(finished.folder, timed))
    assert (job.steps, job.validations, job.total_s, job.validation_s) == (None, 2, 60, 0.5)
