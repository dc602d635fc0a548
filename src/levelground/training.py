"""The training loop: steps, validation, the selected weights, history, and a state to go on from exactly."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals, getsignal, signal
from threading import current_thread, main_thread

import numpy as np
import torch
from numpy.typing import NDArray

from levelground.console import Bar, progress_bar, say
from levelground.counts import SceneCounts
from levelground.dataset import Dataset
from levelground.errors import TrainingError
from levelground.metrics import miou, pixel_accuracy
from levelground.models import SegmentationModel, save_model
from levelground.optimisation import rate_factor
from levelground.recipe import Recipe
from levelground.records import Record
from levelground.reduction import ScenePrediction
from levelground.runs import append_history, truncate_history, write_card
from levelground.runtime import Runtime, available_cores, peak_memory_mib
from levelground.sampling import BatchSource, load_batches
from levelground.scoring import score_scenes
from levelground.state import load_state, remove_states, save_state
from levelground.stepping import Stepper

FLUSH_S = 1.0
"""How often losses are read back from the device, checked and written to the history."""

MAX_STEP_LINES = 2000
"""About how many steps the history of a run keeps; every step up to this many."""


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start: what is trained, on what, for how long."""

    folder: Path
    dataset: Dataset
    model: SegmentationModel
    recipe: Recipe
    seed: int
    steps: int
    steps_per_epoch: int
    source: BatchSource
    runtime: Runtime
    workers: int
    save_every_s: float


@dataclass
class Progress:
    """What changes while a run goes on; together with weights and optimiser it is the training state."""

    step: int = 0
    best_value: float | None = None
    best_step: int | None = None
    train_s: float = 0.0
    wall_s: float = 0.0
    megapixels: float = 0.0
    val_losses: list[float] = field(default_factory=list)


def validation_steps(recipe: Recipe, steps: int, steps_per_epoch: int) -> set[int]:
    """The numbers of steps after which validation scenes are scored; the last is always among them.

    Example:
        >>> from levelground.recipe import load_recipe
        >>> sorted(validation_steps(load_recipe("default"), 12, 100))
        [3, 5, 8, 10, 12]
    """
    if recipe.validations:
        return {math.ceil(part * steps / recipe.validations) for part in range(1, recipe.validations + 1)}
    return set(range(steps_per_epoch, steps, steps_per_epoch)) | {steps}


def train(plan: Plan, card: Record) -> Record:
    """Train a run to its end, from its state where there is one.

    Args:
        plan: What to train.
        card: The run card, already on disk with status ``training``.
    Returns:
        The finished card, already on disk.
    Raises:
        TrainingError: The loss became no number; the last good state stays.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what was learnt is saved.
    """
    return _Loop(plan, card).run()


class _Loop:
    """One run's loop; the state is weights, optimiser and :class:`Progress`."""

    def __init__(self, plan: Plan, card: Record) -> None:
        self.plan, self.card = plan, card
        self.stepper = make_stepper(plan)
        self.model = self.stepper.model
        self.progress = Progress()
        self.pending: list[tuple[int, torch.Tensor, tuple[int, ...]]] = []
        self.stopping = False
        self.saved_at = self.flushed_at = time.monotonic()

    def run(self) -> Record:
        plan = self.plan
        self._restore()
        validations = validation_steps(plan.recipe, plan.steps, plan.steps_per_epoch)
        title = f"train {plan.folder.name}"
        with progress_bar(title, plan.steps) as bar, stop_signals(self._ask_to_stop):
            bar.advance(self.progress.step)
            steps = range(self.progress.step, plan.steps)
            batches = load_batches(plan.source, steps, workers=plan.workers, pin=plan.runtime.device.type == "cuda")
            self.flushed_at = self.saved_at = time.monotonic()
            for step, batch in zip(steps, batches, strict=True):
                loss = self.stepper.step(step, batch)
                self.progress.step = step + 1
                self.progress.megapixels += batch.targets.size / 1e6
                self.pending.append((step + 1, loss, batch.scenes))
                last = step + 1 in validations or self.stopping
                if last or time.monotonic() - self.flushed_at > FLUSH_S:
                    self._flush(bar)
                if step + 1 in validations:
                    self._validate(bar)
                if self.stopping:
                    self._stop()
                if time.monotonic() - self.saved_at > plan.save_every_s:
                    self._save()
        return self._finish()

    def _flush(self, bar: Bar) -> None:
        """Read the losses back, check them and write them down."""
        if not self.pending:
            return
        losses = torch.stack([loss for _, loss, _ in self.pending]).float().tolist()
        now = time.monotonic()
        seconds, self.flushed_at = now - self.flushed_at, now
        rate = len(self.pending) * self.plan.recipe.batch / max(seconds, 1e-9)
        self.progress.train_s += seconds
        self.progress.wall_s += seconds
        every = max(1, self.plan.steps // MAX_STEP_LINES)
        lines = []
        for (step, _, scenes), loss in zip(self.pending, losses, strict=True):
            if not math.isfinite(loss):
                self._fail(step, loss, scenes)
            if step % every == 0:
                lr = self.plan.recipe.lr * rate_factor(self.plan.recipe, step - 1, self.plan.steps)
                epoch = step / self.plan.steps_per_epoch
                line = {"kind": "step", "step": step, "epoch": epoch, "train_loss": loss, "lr": lr}
                lines.append(line | {"images_per_s": rate})
        self.progress.val_losses += losses
        append_history(self.plan.folder, lines)
        bar.advance(len(losses), note=f"loss {losses[-1]:.3f} · {rate:.1f} images/s")
        self.pending.clear()

    def _fail(self, step: int, loss: float, scenes: Sequence[int]) -> None:
        names = ", ".join(sorted({self.plan.source.ids[scene] for scene in scenes}))
        self._write_card("failed")
        raise TrainingError(
            f"{self.plan.folder.name}: the loss is {loss} at step {step}, on scenes {names}. "
            "The last good state is kept; lower --lr or look at those scenes, then train anew."
        )

    def _validate(self, bar: Bar) -> None:
        started = time.monotonic()
        bar.advance(0, note="validation")
        scored = validate(self.plan, self.model)
        progress, recipe = self.progress, self.plan.recipe
        line = scored.line(self.plan.dataset.legend.counted)
        train_loss = statistics.fmean(progress.val_losses) if progress.val_losses else math.nan
        progress.val_losses = []
        epoch = progress.step / self.plan.steps_per_epoch
        loss = line["val_loss"] if scored.smp_dice is None else scored.smp_dice
        value = loss if recipe.select == "val_loss" else line["val_miou"]
        progress.wall_s += time.monotonic() - started
        append_history(
            self.plan.folder,
            [
                {"kind": "val", "step": progress.step, "epoch": epoch, "train_loss": train_loss, **line}
                | {"time_s": progress.wall_s}
            ],
        )
        if self._is_best(value):
            progress.best_value, progress.best_step = value, progress.step
            save_model(self.model, self.plan.folder / "model")
        self.flushed_at = time.monotonic()

    def _is_best(self, value: float) -> bool:
        select, best = self.plan.recipe.select, self.progress.best_value
        if select == "last":
            return self.progress.step == self.plan.steps
        if best is None or math.isnan(best):
            return True
        return value < best if select == "val_loss" else value > best

    def _save(self) -> None:
        if self.pending:
            return  # unchecked losses: the next round saves
        if not all(torch.isfinite(value).all() for value in self.model.network.parameters()):
            return  # the next loss is no number and says so; the last good state stays
        state = {
            "network": self.model.network.state_dict(),
            "optimiser": self.stepper.optimiser.state_dict(),
            "identity": str(self.card["identity"]),
            "progress": dict(vars(self.progress)),
        }
        save_state(self.plan.folder, state)
        self.saved_at = time.monotonic()

    def _restore(self) -> None:
        state = load_state(self.plan.folder)
        if state is None or state["identity"] != self.card["identity"]:
            truncate_history(self.plan.folder, 0)
            return
        self.model.network.load_state_dict(state["network"])
        self.stepper.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])
        truncate_history(self.plan.folder, self.progress.step)
        say(f"{self.plan.folder.name}: goes on at step {self.progress.step} of {self.plan.steps}.")

    def _ask_to_stop(self) -> None:
        self.stopping = True

    def _stop(self) -> None:
        self._save()
        self._write_card("stopped")
        say(
            f"{self.plan.folder.name}: stopped at step {self.progress.step} of {self.plan.steps}; "
            "all is saved, the same command goes on from here."
        )
        raise KeyboardInterrupt

    def _finish(self) -> Record:
        self._write_card("finished")
        remove_states(self.plan.folder)
        return self.card

    def _write_card(self, status: str) -> None:
        progress, recipe = self.progress, self.plan.recipe
        images = progress.step * recipe.batch
        self.card |= {
            "status": status,
            "steps_done": progress.step,
            "images_seen": images,
            "megapixels_seen": progress.megapixels,
            "train_s": progress.train_s,
            "wall_s": progress.wall_s,
            "peak_memory_mib": peak_memory_mib(self.plan.runtime.device),
            "selection": {"rule": recipe.select, "step": progress.best_step, "value": progress.best_value},
            "speed": {"train_images_per_s": images / progress.train_s if progress.train_s else None},
        }
        write_card(self.plan.folder, self.card)


def make_stepper(plan: Plan) -> Stepper:
    """A plan's network with its optimiser, on the device."""
    scenes = [plan.dataset.scene(i) for i in plan.dataset.ids("train")]
    pixels = [sum(column) for column in zip(*(scene.class_pixels for scene in scenes), strict=True)]
    return Stepper(plan.model, plan.recipe, plan.runtime, seed=plan.seed, steps=plan.steps, class_pixels=pixels)


@dataclass(frozen=True, eq=False)
class Validation:
    """Validation scenes scored with the weights of a step."""

    counts: SceneCounts
    smp_dice: float | None
    """Mean over scenes of the origin recipe's Dice loss; ``None`` under other losses."""

    def line(self, counted: NDArray[np.bool_]) -> dict[str, float]:
        """What the history keeps: loss, mIoU (macro, official scoring) and pixel accuracy.

        The loss is cross-entropy per counted pixel; where the recipe's loss is ``smp-dice`` that stands beside it.
        """
        counts = self.counts.counts.sum(axis=0)
        line = {
            "val_loss": float(self.counts.loss_sum.sum() / max(1, int(self.counts.loss_pixels.sum()))),
            "val_miou": float(miou(counts, counted, "official")),
            "val_pixel_accuracy": float(pixel_accuracy(counts, counted, "official")),
        }
        return line if self.smp_dice is None else line | {"val_dice_loss": self.smp_dice}


def validate(plan: Plan, model: SegmentationModel, ids: Sequence[str] | None = None) -> Validation:
    """Score validation scenes with the weights as they are.

    Args:
        plan: Gives data, geometry and runtime.
        model: The model, on the device.
        ids: Scenes; ``None`` takes the validation split.
    Returns:
        Counts by scene, and the Dice loss where the recipe trains by it.
    """
    smp_dice = plan.recipe.loss == "smp-dice"
    losses: dict[str, float] = {}

    def keep(scene: str, found: ScenePrediction) -> None:
        losses[scene] = found.smp_dice or 0.0

    counts = score_scenes(
        model.network,
        model.outputs,
        model.mean,
        model.std,
        plan.dataset,
        plan.dataset.ids("val") if ids is None else ids,
        tile=plan.recipe.tile,
        halo=plan.recipe.halo,
        batch=plan.recipe.batch,
        runtime=plan.runtime,
        smp_dice=smp_dice,
        keep=keep if smp_dice else None,
    )
    return Validation(counts, statistics.fmean(losses[i] for i in sorted(losses)) if smp_dice else None)


@contextmanager
def stop_signals(ask: Callable[[], None]) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a call of ``ask``; a second one of SIGINT ends at once."""
    if current_thread() is not main_thread():
        yield  # only the main thread may handle signals
        return
    before = {number: getsignal(number) for number in (SIGINT, SIGTERM)}

    def handle(number: int, _frame: object) -> None:
        ask()
        signal(number, before[Signals(number)])

    for number in before:
        signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal(number, handler)


def default_workers(runtime: Runtime) -> int:
    """Loader processes: none on the CPU, where they would take the cores from the network; up to 8 beside a GPU."""
    return 0 if runtime.device.type == "cpu" else min(8, available_cores() - 1)
