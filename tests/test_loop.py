"""The loop: a run that is stopped anywhere and goes on is the run that was never stopped."""

import dataclasses
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from builders.training import RECIPE, RUNTIME, assert_same_run, history, small_spec, train, weights

from levelground.comparison.text import weights_kept
from levelground.config import Budget
from levelground.datasets.dataset import Dataset
from levelground.errors import DiskError, TrainingError
from levelground.exporting.model_card import write_model_card
from levelground.history import read_history
from levelground.models.loading import load_model
from levelground.recipe_files import BudgetRecord, load_recipe
from levelground.records import to_json
from levelground.runs import Run, SelectionRecord, list_runs, read_run
from levelground.training import loop as training
from levelground.training import prepare_run, validation
from levelground.training import step as stepping
from levelground.training.batches import Batch
from levelground.training.checkpoint import Progress, TrainingState, load_state, save_state, state_paths
from levelground.training.prepare_run import make_job
from levelground.training.schedule import rate_at
from levelground.training.step import Stepper
from levelground.training.validation import validate


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Do something once, before a step is taken."""

    def install(number: int, act: Callable[[], None]) -> None:
        step = Stepper.gradients
        acted: list[int] = []

        def wrapped(self: Stepper, at: int, batch: Batch) -> torch.Tensor:
            if at == number and not acted and self._steps > 1:
                acted.append(at)
                act()
            return step(self, at, batch)

        monkeypatch.setattr(Stepper, "gradients", wrapped)

    return install


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, a step that a signal finds under way is finished; tests of impatience say so."""
    monkeypatch.setattr(training, "GRACE_S", 600.0)


@pytest.fixture
def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read losses back after every step, so that a state may be saved after every step."""
    monkeypatch.setattr(training, "FLUSH_S", -1.0)


def send(number: int) -> Callable[[], None]:
    """A signal to this process."""
    return lambda: os.kill(os.getpid(), number)


def test_a_run_finishes(undisturbed: Run) -> None:
    """Card, history and weights; the states are gone."""
    card = undisturbed.card
    assert (card.status, card.steps_done, card.images_seen) == ("finished", 6, 12)
    assert card.megapixels_seen == pytest.approx(12 * 32 * 32 / 1e6)
    lines = history(undisturbed)
    expected = "step 1, step 2, val 2, step 3, step 4, val 4, step 5, step 6, val 6"
    assert ", ".join(f"{line.kind} {line.step}" for line in lines) == expected
    assert {path.name for path in undisturbed.folder.iterdir()} == {"run.json", "history.jsonl", "model"}
    assert (card.wall_s or 0) >= (card.train_s or 0) > 0
    assert (card.speed.train_images_per_s or 0) > 0


def test_the_history_says_what_was_learnt(undisturbed: Run) -> None:
    """Losses, rates and epochs by step; at validations loss, mIoU, accuracy and the mean loss since the last."""
    lines = read_history(undisturbed.folder)
    steps = [line for line in lines if line.kind == "step"]
    validations = [line for line in lines if line.kind == "val"]
    per_epoch = undisturbed.card.steps_per_epoch
    assert all(line.epoch == line.step / per_epoch for line in lines)
    assert steps[0].lr == RECIPE.lr
    for number, line in enumerate(validations):
        mean = sum(step.train_loss for step in steps[2 * number : 2 * number + 2]) / 2
        assert line.train_loss == pytest.approx(mean)
        assert 0 <= line.val_miou <= 1
        assert 0 <= line.val_pixel_accuracy <= 1
    assert [line.time_s for line in validations] == sorted(line.time_s for line in validations)


def test_the_best_weights_are_kept(dataset: Dataset, undisturbed: Run) -> None:
    """Those of the validation with the lowest loss; scored again they give the same figures."""
    losses = {line.step: line.val_loss for line in history(undisturbed) if line.kind == "val"}
    best = min(losses, key=losses.__getitem__)
    assert undisturbed.card.selection == SelectionRecord(rule="val_loss", step=best, value=losses[best])
    job = make_job(small_spec(dataset), dataset, undisturbed.folder, RUNTIME, undisturbed)
    scored = validate(job, load_model(undisturbed)).line(dataset.legend.counted)
    assert scored["val_loss"] == pytest.approx(losses[best], rel=1e-6)  # the memory format differs


@pytest.mark.parametrize(("select", "key", "pick"), [("val_miou", "val_miou", max), ("last", None, max)])
def test_other_rules_of_selection(
    dataset: Dataset, tmp_path: Path, select: str, key: str | None, pick: Callable[[list[float]], float]
) -> None:
    """Highest mIoU, the first where two are equal; or simply the last weights."""
    run = train(small_spec(dataset, recipe=dataclasses.replace(RECIPE, select=select)), dataset, tmp_path)  # type: ignore[arg-type]
    lines = [line for line in history(run) if line.kind == "val"]
    chosen = (
        lines[-1]
        if key is None
        else next(x for x in lines if getattr(x, key) == pick([getattr(y, key) for y in lines]))
    )
    assert run.card.selection.step == chosen.step


def test_a_second_call_reuses_the_run(dataset: Dataset, undisturbed: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is trained again, and one line says so."""
    again = train(small_spec(dataset), dataset, undisturbed.folder.parent.parent)
    assert again.card == undisturbed.card
    assert "linknet-mobilenetv3_small_050-s0: trained already, 6 steps; reused." in capsys.readouterr().err


def test_the_same_spec_gives_the_same_run(dataset: Dataset, undisturbed: Run, tmp_path: Path) -> None:
    """In another folder, with loader processes."""
    assert_same_run(train(small_spec(dataset), dataset, tmp_path, workers=2), undisturbed)


@pytest.mark.parametrize(("step", "number"), [(0, signal.SIGINT), (2, signal.SIGTERM), (3, signal.SIGINT)])
def test_a_signal_stops_and_the_run_goes_on_to_the_bit(
    dataset: Dataset,
    undisturbed: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    at_step: Callable[[int, Callable[[], None]], None],
    step: int,
    number: int,
) -> None:
    """The step under way is finished, all is saved; the second call ends as if nothing had happened."""
    at_step(step, send(number))
    with pytest.raises(KeyboardInterrupt):
        train(small_spec(dataset), dataset, tmp_path)
    (run,) = list_runs(tmp_path)
    assert (run.card.status, run.card.steps_done) == ("stopped", step + 1)
    name = "linknet-mobilenetv3_small_050-s0"
    saved = f"{name}: stopped at step {step + 1} of 6; all is saved, the same command goes on from here."
    assert saved in capsys.readouterr().err
    assert_same_run(train(small_spec(dataset), dataset, tmp_path), undisturbed)
    assert f"{name}: goes on at step {step + 1} of 6." in capsys.readouterr().err


def test_a_stop_at_every_step_changes_nothing(
    dataset: Dataset, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six interruptions, one a step."""
    step = Stepper.gradients

    def wrapped(self: Stepper, at: int, batch: Batch) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, at, batch)

    monkeypatch.setattr(Stepper, "gradients", wrapped)
    for _ in range(6):
        with pytest.raises(KeyboardInterrupt):
            train(small_spec(dataset), dataset, tmp_path)
    assert_same_run(train(small_spec(dataset), dataset, tmp_path), undisturbed)


class _SlowBackward(torch.autograd.Function):
    """What it gets, and 50 ms in the backward pass."""

    @staticmethod
    def forward(ctx: object, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: object, gradients: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        time.sleep(0.05)
        return gradients


@pytest.mark.parametrize("step", [0, 4])
def test_a_long_step_is_left_and_done_again(
    dataset: Dataset, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The signal comes in a backward pass of seconds: what was learnt before is saved, running means included."""
    monkeypatch.setattr(training, "GRACE_S", 0.2)
    monkeypatch.setattr(stepping, "SHORT_S", 0.0)
    gradients = Stepper._gradients
    sent: list[float] = []

    def slow(self: Stepper, at: int, batch: Batch) -> torch.Tensor:
        if at == step and not sent:
            for layer in self.model.network.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.register_forward_hook(lambda _layer, _inputs, output: _SlowBackward.apply(output))
            threading.Timer(0.1, lambda: sent.append(time.monotonic()) or os.kill(os.getpid(), signal.SIGTERM)).start()
        return gradients(self, at, batch)

    monkeypatch.setattr(Stepper, "_gradients", slow)
    with pytest.raises(KeyboardInterrupt):
        train(small_spec(dataset), dataset, tmp_path)
    assert time.monotonic() - sent[0] < 1
    (run,) = list_runs(tmp_path)
    assert (run.card.status, run.card.steps_done) == ("stopped", step)
    assert_same_run(train(small_spec(dataset), dataset, tmp_path), undisturbed)


@pytest.mark.parametrize("round_", [1, 3])
def test_a_stop_in_a_validation_saves_at_once(
    dataset: Dataset, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, round_: int
) -> None:
    """It is left as it is, however long it would take, and done again when the run goes on."""
    calls: list[int] = []

    def slow(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == round_:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the validation went on")
        return validate(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "validate", slow)
    with pytest.raises(KeyboardInterrupt):
        train(small_spec(dataset), dataset, tmp_path)
    (run,) = list_runs(tmp_path)
    assert (run.card.status, run.card.steps_done) == ("stopped", 2 * round_)
    assert_same_run(train(small_spec(dataset), dataset, tmp_path), undisturbed)


def test_a_kill_after_a_validation_that_was_done_again(
    dataset: Dataset,
    undisturbed: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_step: Callable[[int, Callable[[], None]], None],
) -> None:
    """Stopped in a validation, gone on, then cut off before the next save: the validation stands there once."""

    def stop(*_: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(training, "validate", stop)
        with pytest.raises(KeyboardInterrupt):
            train(small_spec(dataset), dataset, tmp_path)

    def cut_off() -> None:
        raise MemoryError

    at_step(3, cut_off)
    with pytest.raises(MemoryError):
        train(small_spec(dataset), dataset, tmp_path)
    assert_same_run(train(small_spec(dataset), dataset, tmp_path), undisturbed)


@pytest.mark.usefixtures("save_always")
@pytest.mark.parametrize("step", [1, 4])
def test_an_interruption_without_a_save_goes_on_from_the_last_state(
    dataset: Dataset,
    undisturbed: Run,
    tmp_path: Path,
    at_step: Callable[[int, Callable[[], None]], None],
    step: int,
) -> None:
    """A second Ctrl-C or a crash in the middle of a step: what was saved before counts."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    at_step(step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(small_spec(dataset), dataset, tmp_path, save_every_s=1e-9)
    (run,) = list_runs(tmp_path)
    assert run.card.status == "training"
    state = load_state(run.folder)
    assert state is not None
    assert state.progress.step == step
    assert_same_run(train(small_spec(dataset), dataset, tmp_path), undisturbed)


def test_an_interruption_before_any_state_starts_anew(
    dataset: Dataset, undisturbed: Run, tmp_path: Path, at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    """Nothing was saved: the run begins at step 0 with an empty history."""

    def crash() -> None:
        raise MemoryError("no more")

    at_step(3, crash)
    with pytest.raises(MemoryError):
        train(small_spec(dataset), dataset, tmp_path)
    assert_same_run(train(small_spec(dataset), dataset, tmp_path), undisturbed)


@pytest.mark.usefixtures("save_always")
def test_a_damaged_state_falls_back_to_the_one_before(
    dataset: Dataset,
    undisturbed: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    at_step: Callable[[int, Callable[[], None]], None],
) -> None:
    """One line says so, and the result is the same."""
    at_step(4, send(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train(small_spec(dataset), dataset, tmp_path, save_every_s=1e-9)
    (run,) = list_runs(tmp_path)
    newest = state_paths(run.folder)[0]
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    capsys.readouterr()
    assert_same_run(train(small_spec(dataset), dataset, tmp_path), undisturbed)
    said = capsys.readouterr().err
    assert "damaged training state (its checksum does not match). Falling back to the state before it." in said
    assert "goes on at step 4 of 6." in said


def test_a_signal_after_the_last_step_ends_the_command(
    dataset: Dataset, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This run is finished; those that would follow are not begun."""
    finish = training._Loop._finish

    def late(self: training._Loop) -> dict[str, object]:
        self.stopping = True
        return finish(self)

    monkeypatch.setattr(training._Loop, "_finish", late)
    with pytest.raises(KeyboardInterrupt):
        train(small_spec(dataset), dataset, tmp_path)
    assert_same_run(list_runs(tmp_path)[0], undisturbed)


def test_a_stop_at_the_last_step_is_finished_by_the_next_call(
    dataset: Dataset, undisturbed: Run, tmp_path: Path, at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    """Only the last validation is left to do."""
    at_step(5, send(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(small_spec(dataset), dataset, tmp_path)
    assert_same_run(train(small_spec(dataset), dataset, tmp_path), undisturbed)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.usefixtures("save_always")
def test_a_loss_that_is_no_number_stops(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: float
) -> None:
    """The step and its scenes are named, the last good state stays, losses before it are in the history."""
    step = Stepper.gradients

    def wrapped(self: Stepper, at: int, batch: Batch) -> torch.Tensor:
        return torch.tensor(loss) if at == 3 else step(self, at, batch)

    monkeypatch.setattr(Stepper, "gradients", wrapped)
    message = (
        rf"^linknet-mobilenetv3_small_050-s0: the loss is {loss} at step 4, on scenes a/1, a/2\. "
        r"The last good state is kept; lower --lr or look at those scenes, then train anew\.$"
    )
    with pytest.raises(TrainingError, match=message):
        train(small_spec(dataset), dataset, tmp_path, save_every_s=1e-9)
    (run,) = list_runs(tmp_path)
    assert run.card.status == "failed"
    assert [line.step for line in history(run) if line.kind == "step"] == [1, 2, 3]
    state = load_state(run.folder)
    assert state is not None
    assert state.progress.step == 3


def test_losses_before_the_bad_one_are_written(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where several steps are read back at once."""
    step = Stepper.gradients

    def wrapped(self: Stepper, at: int, batch: Batch) -> torch.Tensor:
        return torch.tensor(math.nan) if at == 3 else step(self, at, batch)

    monkeypatch.setattr(Stepper, "gradients", wrapped)
    with pytest.raises(TrainingError, match="at step 4"):
        train(small_spec(dataset), dataset, tmp_path)
    assert [line.step for line in history(list_runs(tmp_path)[0]) if line.kind == "step"] == [1, 2, 3]


@pytest.mark.usefixtures("save_always")
def test_a_weight_that_is_no_number_never_reaches_a_state(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the step was a number, its gradient was none."""
    step = Stepper.gradients

    def wrapped(self: Stepper, at: int, batch: Batch) -> torch.Tensor:
        loss = step(self, at, batch)
        if at == 2:
            next(self.model.network.parameters()).data[0] = math.nan
        return loss

    monkeypatch.setattr(Stepper, "gradients", wrapped)
    with pytest.raises(TrainingError, match=r"a weight is not a number at step 3, on scenes a/1, a/2\. The last good"):
        train(small_spec(dataset), dataset, tmp_path, save_every_s=1e-9)
    state = load_state(list_runs(tmp_path)[0].folder)
    assert state is not None
    assert state.progress.step == 2


def test_a_state_of_another_run_is_not_taken(dataset: Dataset, undisturbed: Run, tmp_path: Path) -> None:
    """A run that was made anew in a folder with old states begins at step 0."""
    folder = tmp_path / "runs" / "linknet-mobilenetv3_small_050-s0"
    folder.mkdir(parents=True)
    save_state(folder, TrainingState({}, {}, "another", Progress()))
    assert_same_run(train(small_spec(dataset), dataset, tmp_path), undisturbed)


def test_a_full_disk_is_one_line(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves a study that can be read."""

    def full(*_: object) -> None:
        raise DiskError("history.jsonl: cannot be written (No space left on device). Free space.")

    monkeypatch.setattr(training, "append_history", full)
    with pytest.raises(DiskError, match="No space left"):
        train(small_spec(dataset), dataset, tmp_path)
    assert [run.card.status for run in list_runs(tmp_path)] == ["training"]


def test_long_runs_keep_a_readable_history(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """About so many lines at most; validations always."""
    monkeypatch.setattr(training, "MAX_STEP_LINES", 2)
    run = train(small_spec(dataset), dataset, tmp_path)
    assert [line.step for line in history(run) if line.kind == "step"] == [3, 6]
    assert [line.step for line in history(run) if line.kind == "val"] == [2, 4, 6]


class SteppedTime:
    """Time that only training steps take, so that a test does not depend on the machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
        self.now, self.step_s = 100.0, step_s
        self.at: dict[int, Callable[[], None]] = {}
        self.monotonic = self.perf_counter = lambda: self.now
        gradients = Stepper.gradients

        def slow(stepper: Stepper, at: int, batch: Batch) -> torch.Tensor:
            self.now += self.step_s
            self.at.pop(at, lambda: None)()
            return gradients(stepper, at, batch)

        for module in (training, prepare_run, validation):
            monkeypatch.setattr(module, "time", self)
        monkeypatch.setattr(Stepper, "gradients", slow)


def crash() -> None:
    """End a run without a word."""
    raise MemoryError


def test_a_budget_of_time_is_the_schedule(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty steps of two seconds are a minute; the rate falls with the share of the time, noted step by step."""
    SteppedTime(monkeypatch, 2.0)
    run = train(dataclasses.replace(small_spec(dataset), budget=Budget(minutes=1)), dataset, tmp_path)
    assert run.card.budget == BudgetRecord(asked="1 minutes", validations=3)
    assert (run.card.steps_done, run.card.wall_s, run.card.train_s) == (30, 60, 60)
    steps = [line for line in read_history(run.folder) if line.kind == "step"]
    assert [line.progress for line in steps] == pytest.approx([(step + 0.5) / 30 for step in range(30)], abs=0.02)
    assert [line.lr for line in steps] == [RECIPE.lr * rate_at(RECIPE, line.progress) for line in steps]
    assert [line.time_s for line in steps] == [2.0 * step for step in range(1, 31)]
    assert [line.step for line in read_history(run.folder) if line.kind == "val"] == [10, 20, 30]
    assert train(dataclasses.replace(small_spec(dataset), budget=Budget(minutes=1)), dataset, tmp_path).card == run.card


def test_a_budget_of_time_keeps_its_last_weights(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the time ends at a validation, and where validation cannot tell which weights are best."""
    SteppedTime(monkeypatch, 10.0)
    recipe = dataclasses.replace(RECIPE, select="last")
    run = train(dataclasses.replace(small_spec(dataset, recipe=recipe), budget=Budget(minutes=1)), dataset, tmp_path)
    assert run.card.selection.step == run.card.steps_done == 6
    assert [line.step for line in read_history(run.folder) if line.kind == "val"][-1] == 6
    assert load_model(run).spec.outputs == run.card.outputs


def test_a_budget_of_time_goes_on_at_the_same_places(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Crashed twice beyond a saved state, on a machine that became slower: steps are taken again where they lay."""
    clock = SteppedTime(monkeypatch, 2.0)
    asked = dataclasses.replace(small_spec(dataset), budget=Budget(minutes=1))
    clock.at[12] = crash
    with pytest.raises(MemoryError):
        train(asked, dataset, tmp_path, save_every_s=13)
    before = [line for line in read_history(list_runs(tmp_path)[0].folder) if line.kind == "step"]
    assert [line.step for line in before] == list(range(1, 13))
    clock.step_s, clock.at[9] = 5.0, crash
    with pytest.raises(MemoryError):  # before the steps that were lost are made up for
        train(asked, dataset, tmp_path, save_every_s=1000)
    run = train(asked, dataset, tmp_path, save_every_s=1000)
    assert f"{run.name}: goes on at step 7, after 0.2 of 1 minutes." in capsys.readouterr().err
    lines = read_history(run.folder)
    assert {line.kind for line in lines} == {"step", "val"}
    again = [line for line in lines if line.kind == "step"]
    kept = ("lr", "progress", "per_step", "train_loss", "time_s")
    assert [[getattr(x, key) for key in kept] for x in again[:12]] == [
        [getattr(x, key) for key in kept] for x in before
    ]
    assert [line.step for line in again] == list(range(1, len(again) + 1))
    assert len(again) == 12 + 7  # 36 s were left
    assert run.card.wall_s == 24 + 7 * 5
    assert [line.step for line in lines if line.kind == "val"] == [10, 16, 19]


def test_a_budget_of_time_counts_the_time_before_a_stop(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by a signal at every fourth step: weights and history are those of a run that was not stopped."""
    clock = SteppedTime(monkeypatch, 2.0)
    asked = dataclasses.replace(small_spec(dataset), budget=Budget(minutes=0.5))
    whole = train(asked, dataset, tmp_path / "whole")
    clock.at = {step: send(signal.SIGTERM) for step in range(0, 15, 4)}
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            train(asked, dataset, tmp_path / "stopped")
    assert_same_run(train(asked, dataset, tmp_path / "stopped"), whole)


def test_a_budget_of_time_that_crashed_before_its_first_step_learns_when_it_goes_on(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a validation at the end of every epoch, whose time is not known then: the schedule is complete."""
    clock = SteppedTime(monkeypatch, 2.0)
    recipe = dataclasses.replace(RECIPE, validations=0)
    asked = dataclasses.replace(small_spec(dataset, recipe=recipe), budget=Budget(minutes=0.5))
    clock.at[0] = crash
    with pytest.raises(MemoryError):
        train(asked, dataset, tmp_path)
    run = train(asked, dataset, tmp_path)
    steps = [line for line in read_history(run.folder) if line.kind == "step"]
    assert [line.progress for line in steps] == pytest.approx([(step + 0.5) / 15 for step in range(15)], abs=0.05)


def test_the_last_weights_are_kept_where_validation_cannot_tell(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before training, with the reason; the reason stays on the card, also where the run was stopped."""
    recipe = dataclasses.replace(RECIPE, select_groups=3)
    run = train(small_spec(dataset, recipe=recipe), dataset, tmp_path)
    assert run.card.selection.rule == "last"
    assert run.card.selection.reason == "validation has 1 scene"
    assert run.card.selection.step == 6
    assert f"{run.name}: weights: last, because validation has 1 scene." in capsys.readouterr().err
    text = "last, step 6, because validation has 1 scene"
    assert weights_kept(run.card.selection) == text
    write_model_card(run)
    assert f"| Weights kept | {text} |" in (run.model_folder / "README.md").read_text(encoding="utf-8")


def test_averaged_weights_are_the_mean_of_the_last_steps(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and running statistics, of three of six steps; training itself is that without averages."""
    seen: list[dict[str, torch.Tensor]] = []
    update = Stepper.update

    def noted(self: Stepper) -> None:
        update(self)
        seen.append({name: value.clone() for name, value in self.model.network.state_dict().items()})

    monkeypatch.setattr(Stepper, "update", noted)
    run = train(small_spec(dataset, recipe=dataclasses.replace(RECIPE, average=0.5)), dataset, tmp_path / "averaged")
    plain = train(small_spec(dataset), dataset, tmp_path / "plain")
    losses = [[x.train_loss for x in history(one) if x.kind == "step"] for one in (run, plain)]
    assert losses[0] == losses[1]
    assert run.card.selection.averaged == {2: None, 4: 1, 6: 3}[run.card.selection.step or 0]
    last = train(
        small_spec(dataset, recipe=dataclasses.replace(RECIPE, average=0.5, select="last")), dataset, tmp_path / "last"
    )
    assert (last.card.selection.step, last.card.selection.averaged) == (6, 3)
    kept = weights(last)
    for name, value in kept.items():
        parts = [state[name] for state in seen[3:6]]
        mean = sum(part.double() for part in parts) / 3 if value.is_floating_point() else parts[-1]
        torch.testing.assert_close(value.double(), torch.as_tensor(mean).double(), rtol=1e-5, atol=1e-7)
    assert any("running_var" in name for name in kept)


@pytest.mark.usefixtures("save_always")
def test_averaged_weights_go_on_to_the_bit(
    dataset: Dataset, tmp_path: Path, at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    """Killed between two averaged steps: the mean goes on where it was saved."""
    spec = small_spec(dataset, recipe=dataclasses.replace(RECIPE, average=0.7, select="last"))
    whole = train(spec, dataset, tmp_path / "whole")
    at_step(4, crash)
    with pytest.raises(MemoryError):
        train(spec, dataset, tmp_path / "killed", save_every_s=1e-9)
    state = load_state(list_runs(tmp_path / "killed")[0].folder)
    assert state is not None
    assert (state.progress.averaged, set(state.average)) == (2, set(state.network))
    assert_same_run(train(spec, dataset, tmp_path / "killed"), whole)


def test_the_origin_recipe_trains_whole_scenes(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sanity check, a validation an epoch, its own Dice beside the cross-entropy, and the best by that Dice."""
    recipe = dataclasses.replace(load_recipe("origin"), encoder_weights="none", select_groups=0)
    run = train(small_spec(dataset, arch="pspnet", steps=5, recipe=recipe), dataset, tmp_path)
    assert "sanity check on two scenes passed, loss 0." in capsys.readouterr().err
    validations = [line for line in history(run) if line.kind == "val"]
    assert [line.step for line in validations] == [2, 4, 5]
    dice = {line.step: line.val_dice_loss for line in validations}
    assert run.card.selection.value == min(dice.values())
    assert run.card.outputs == (0, 1, 2, 3)
    assert run.card.parameters.trainable < run.card.parameters.used < run.card.parameters.total


def test_a_card_is_json_that_reads_back(undisturbed: Run) -> None:
    """Every number is finite or null, and the record says its kind."""
    card = json.loads((undisturbed.folder / "run.json").read_text(encoding="utf-8"))
    assert len(card.pop("sha256")) == 64
    assert card == to_json(read_run(undisturbed.folder).card)
    assert card["kind"] == "run"
    assert weights(undisturbed)
