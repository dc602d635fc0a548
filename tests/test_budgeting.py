"""How many steps a budget is, and the sanity check."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from builders.training import RECIPE, RUNTIME, small_spec, train

from levelground.config import Budget
from levelground.datasets.dataset import Dataset
from levelground.errors import TrainingError
from levelground.recipe_files import load_recipe
from levelground.runs import list_runs
from levelground.training import prepare_run as budgeting
from levelground.training.batches import Batch
from levelground.training.prepare_run import estimate_times, fix_budget, make_job, sanity_check
from levelground.training.run_spec import RunSpec, TrainingJob, fit_recipe
from levelground.training.step import Stepper


@pytest.fixture
def job(dataset: Dataset, tmp_path: Path) -> TrainingJob:
    """A job of four steps an epoch."""
    return make_job(small_spec(dataset), dataset, tmp_path / "run", RUNTIME, None)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(steps=7), 7),
        (Budget(epochs=2.5), 10),
        (Budget(epochs=0.01), 1),
        (Budget(), 20),  # the recipe's five epochs
    ],
)
def test_steps_of_a_budget(job: TrainingJob, budget: Budget, expected: int) -> None:
    """Steps as they are, epochs by what an epoch sees, at least one step."""
    planned = fix_budget(job, budget)
    assert (planned.steps, planned.validations) == (expected, RECIPE.validations)


@pytest.mark.parametrize(
    ("validation_s", "minutes", "validations", "expected"),
    [
        (2.0, 1.0, 3, 3),
        (10.0, 1.0, 3, 1),  # three would take half of it: one, a quarter at most
        (2.0, 1.0, 0, 0),  # one an epoch
    ],
)
def test_a_budget_of_time_has_no_number_of_steps(
    job: TrainingJob,
    monkeypatch: pytest.MonkeyPatch,
    validation_s: float,
    minutes: float,
    validations: int,
    expected: int,
) -> None:
    """Its validations take a quarter of it at most."""
    monkeypatch.setattr(budgeting, "estimate_times", lambda _job: (0.5, validation_s))
    asked = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, validations=validations))
    planned = fix_budget(asked, Budget(minutes=minutes))
    assert (planned.steps, planned.total_s, planned.validations) == (None, 60 * minutes, expected)


def test_estimating_leaves_the_network_as_it_was(job: TrainingJob) -> None:
    """Running means included."""
    before = {name: value.clone() for name, value in job.model.network.state_dict().items()}
    step_s, validation_s = estimate_times(job)
    assert step_s > 0
    assert validation_s > 0
    assert all(torch.equal(value, before[name]) for name, value in job.model.network.state_dict().items())


def test_the_sanity_check_looks_at_two_scenes(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the origin study does, on a copy, before the run has a card."""
    seen = []
    step = Stepper.step

    def counted(self: Stepper, number: int, batch: Batch) -> torch.Tensor:
        seen.extend(batch.scenes)
        return step(self, number, batch)

    monkeypatch.setattr(Stepper, "step", counted)
    recipe = fit_recipe(dataclasses.replace(load_recipe("origin"), encoder_weights="none"), dataset)
    make_job(RunSpec("pspnet", 0, recipe, Budget(steps=3)), dataset, tmp_path, RUNTIME, None)
    assert sorted(seen) == [0, 1]


def test_a_sanity_check_that_fails_ends_before_the_run(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early, in one line, and without a run on disk."""
    monkeypatch.setattr(Stepper, "step", lambda *_: torch.tensor(math.nan))
    recipe = dataclasses.replace(RECIPE, sanity_check=True)
    message = r"sanity check: the loss is nan\. Lower --lr or mend the data\.$"
    with pytest.raises(TrainingError, match=message):
        train(small_spec(dataset, recipe=recipe), dataset, tmp_path)
    assert list_runs(tmp_path) == []


def test_the_sanity_check_leaves_the_network_as_it_was(job: TrainingJob, capsys: pytest.CaptureFixture[str]) -> None:
    """It works on a copy, and says that it passed."""
    before = {name: value.clone() for name, value in job.model.network.state_dict().items()}
    sanity_check(job)
    assert all(torch.equal(value, before[name]) for name, value in job.model.network.state_dict().items())
    assert "sanity check on two scenes passed, loss " in capsys.readouterr().err
