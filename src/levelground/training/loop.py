"""Training loop: steps, validation, the selected weights, history, saved states."""

import contextlib
import dataclasses
import math
import statistics
import time
from collections.abc import Iterator
from typing import Never

import torch

from levelground.console import Bar, progress_bar, say
from levelground.errors import LoaderError, TrainingError
from levelground.history import HistoryLine, append_history, history_line, read_history, truncate_history
from levelground.models.smp_backend import save_model
from levelground.records import sha256_file
from levelground.runs import RunCard, SelectionRecord, SpeedRecord, write_card
from levelground.runtime import peak_memory_mib
from levelground.signals import GRACE_S, stop_signals
from levelground.training.batches import Batch, load_batches
from levelground.training.checkpoint import Progress, TrainingState, load_state, remove_states, save_state
from levelground.training.run_spec import TrainingJob, make_course, make_stepper
from levelground.training.step import WeightAverage
from levelground.training.validation import validate
from levelground.wording import decimal, gettext, pgettext

FLUSH_S = 1.0
"""How often losses are read back from the device, checked and written to the history."""

MAX_STEP_LINES = 2000
"""About how many steps the history of a run keeps; every step up to this many."""


class _StopNowError(Exception):
    """Signal in a validation or a long step, which is left and done again when the run is resumed."""


def train(job: TrainingJob, card: RunCard) -> RunCard:
    """Train a run to its end, from its state where there is one.

    Args:
        job: What to train.
        card: The run card, already on disk with status ``training``.
    Returns:
        The finished card, already on disk.
    Raises:
        TrainingError: The loss is not a number; the last good state stays.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the state is saved.
    """
    return _Loop(job, card).run()


class _Loop:
    """Loop of one run; its state is weights, optimiser and :class:`Progress`."""

    def __init__(self, job: TrainingJob, card: RunCard) -> None:
        self.job, self.card = job, card
        self.select = card.selection.rule or job.recipe.select
        self.stepper = make_stepper(job)
        self.model = self.stepper.model
        self.progress = Progress()
        self.course, self.average = make_course(job), WeightAverage()
        self.stepper.rate = self.course.factor
        self.pending: list[tuple[int, torch.Tensor]] = []
        self.stopping = self.validating = False
        self.asked_at = self.rate = 0.0
        self.stepper.poll = self._leave_long_step
        self.clock_at = job.started or time.monotonic()
        self.saved_at = self.flushed_at = time.monotonic()

    def run(self) -> RunCard:
        job = self.job
        self._restore()
        self.stepper.synchronise(self.progress.step)
        title, total = gettext("train %(name)s", name=job.folder.name), job.steps
        if total is None:
            title, total = gettext("train %(name)s, seconds", name=job.folder.name), round(job.total_s)
        with progress_bar(title, total) as bar, stop_signals(self._ask_to_stop):
            bar.start_at(self._done())
            if self.course.validation_due(self.progress.step) and self.progress.validated < self.progress.step:
                self._validate(bar)  # it was stopped during this validation
            self._take_steps(bar)
            if self.progress.validated < self.progress.step:
                self._validate(bar)
        card = self._finish()
        if self.stopping:  # asked after the last step: this run is done, others may not be
            raise KeyboardInterrupt
        return card

    def _take_steps(self, bar: Bar) -> None:
        """Take all steps that are left, stretch by stretch, and validate between them."""
        job, course, progress = self.job, self.course, self.progress
        steps = course.steps_from(progress.step)
        batches = load_batches(job.source, steps, workers=job.workers)
        self.flushed_at = self.saved_at = time.monotonic()
        with contextlib.closing(batches):
            while (stretch := course.advance(progress.step, self._progress())) is not None:
                for step in range(progress.step, stretch.last):
                    batch = self._next(batches, bar)
                    loss = self._step(step, batch, bar)
                    progress.step = step + 1
                    progress.megapixels += batch.targets.size * job.runtime.processes / 1e6
                    self.pending.append((step + 1, loss))
                    due = course.validation_due(step + 1)
                    last = step + 1 == stretch.last
                    if due or last or self.stopping or time.monotonic() - self.flushed_at > FLUSH_S:
                        self._flush(bar)
                    if due and not self.stopping:
                        self._validate(bar)
                        if self._is_hopeless():
                            say(
                                "%(name)s: ended early at %(where)s; earlier trials were better there.",
                                name=job.folder.name,
                                where=self._where(),
                            )
                            return
                    if self.stopping:
                        self._stop()
                    if time.monotonic() - self.saved_at > job.save_every_s:
                        self._save()

    def _is_hopeless(self) -> bool:
        """Tell whether the best validation so far is below the job's limit for it."""
        if not self.job.limits:
            return False
        scored = [line.val_miou or 0.0 for line in read_history(self.job.folder) if line.kind == "val"]
        return 0 < len(scored) <= len(self.job.limits) and max(scored) < self.job.limits[len(scored) - 1]

    def _next(self, batches: Iterator[Batch], bar: Bar) -> Batch:
        """Return the next batch; where its loader was killed, save what is done and say so."""
        try:
            return next(batches)
        except LoaderError as error:
            self._flush(bar)
            if self.stopping:  # the signal was for the loaders too
                self._stop()
            self._save()
            self._write_card("stopped")
            where = f"{self.job.folder.name}: stopped at {self._where()}; all is saved, the same command goes on"
            raise LoaderError(f"{where}: {error}") from error

    def _tick(self) -> None:
        """Count the time since the last call."""
        now = time.monotonic()
        self.progress.wall_s += now - self.clock_at
        self.clock_at = now

    def _progress(self) -> Progress:
        """Return the figures so far, the time among them."""
        self._tick()
        return self.progress

    def _done(self) -> int:
        """Return how far the run is: its steps, or seconds of its budget of time."""
        return min(round(self.job.total_s), int(self.progress.wall_s)) if self.course.timed else self.progress.step

    def _step(self, step: int, batch: Batch, bar: Bar) -> torch.Tensor:
        """Take one step, unless a signal ends it halfway."""
        try:
            loss = self.stepper.gradients(step, batch)
        except _StopNowError:  # weights are those of the step before
            self._flush(bar)
            self._stop()
        self.stepper.update()
        average = self.job.recipe.average
        if average and self.course.place(step) >= 1 - average:
            self.average.add(self.model.network)
        return loss

    def _leave_long_step(self) -> None:
        if self.stopping and time.monotonic() - self.asked_at > GRACE_S:
            raise _StopNowError

    def _flush(self, bar: Bar) -> None:
        """Read the losses back from the device, check them and write them to the history."""
        if not self.pending:
            return
        losses = torch.stack([loss for _, loss in self.pending]).float().tolist()
        now, done = time.monotonic(), self._done()
        seconds, self.flushed_at = now - self.flushed_at, now
        rate = len(self.pending) * self.job.recipe.batch / max(seconds, 1e-9)
        self.progress.train_s += seconds
        self._tick()
        times = self.course.end_stretch(self.progress, seconds / len(self.pending))
        lines: list[HistoryLine] = []
        for (step, _), loss in zip(self.pending, losses, strict=True):
            if not math.isfinite(loss):
                append_history(self.job.folder, lines)
                self._fail(step, f"the loss is {loss}")
            if self._is_kept(step):
                lr = self.job.recipe.lr * self.course.factor(step - 1)
                epoch = step / self.job.steps_per_epoch
                figures = {"step": step, "epoch": epoch, "train_loss": loss, "lr": lr, "images_per_s": rate}
                lines.append(history_line({"kind": "step"} | figures | times))
        self.progress.val_losses += losses
        append_history(self.job.folder, lines)
        bar.advance(
            self._done() - done if self.course.timed else len(losses),
            note=gettext(
                "loss %(loss)s · %(rate)s images/s", loss=decimal(f"{losses[-1]:.3f}"), rate=decimal(f"{rate:.1f}")
            ),
            figures={"step": self.pending[-1][0], "loss": losses[-1], "images_per_s": rate},
        )
        self.rate = rate
        self.pending.clear()

    def _is_kept(self, step: int) -> bool:
        """Tell whether the history keeps the line of a step: the last of a stretch, or one in so many."""
        if self.job.steps is None:
            return self.course.stretch is not None and step == self.course.stretch.last
        return step % max(1, self.job.steps // MAX_STEP_LINES) == 0

    def _fail(self, step: int, what: str) -> Never:
        names = ", ".join(self.job.source.scenes(step - 1))
        self._write_card("failed")
        raise TrainingError(
            f"{self.job.folder.name}: {what} at step {step}, on scenes {names}. "
            "The last good state is kept; lower --lr or look at those scenes, then train anew."
        )

    def _check_weights(self) -> None:
        """Refuse weights that are not numbers: the loss may be a number and its gradient not."""
        if not all(torch.isfinite(value).all() for value in self.model.network.parameters()):
            self._fail(self.progress.step, "a weight is not a number")

    def _validate(self, bar: Bar) -> None:
        started = time.monotonic()
        bar.advance(0, note=gettext("validation"))
        self._check_weights()
        try:
            with self.average.applied(self.model.network):
                self.validating = True
                scored = validate(self.job, self.model)
                self.validating = False
        except _StopNowError:
            self._stop()
        progress = self.progress
        figures = scored.line(self.job.dataset.legend.counted)
        train_loss = statistics.fmean(progress.val_losses) if progress.val_losses else math.nan
        progress.val_losses, progress.validated = [], progress.step
        epoch = progress.step / self.job.steps_per_epoch
        loss = figures["val_loss"] if scored.smp_dice is None else scored.smp_dice
        value = loss if self.select == "val_loss" else figures["val_miou"]
        progress.validation_s = time.monotonic() - started
        self._tick()
        line = {"kind": "val", "step": progress.step, "epoch": epoch, "train_loss": train_loss, **figures}
        append_history(self.job.folder, [history_line(line | {"time_s": progress.wall_s})])
        if self._is_best(value):
            progress.best_value, progress.best_step = value, progress.step
            progress.best_averaged = self.average.steps
            with self.average.applied(self.model.network):
                save_model(self.model, self.job.folder / "model")
        miou, own, rate = (f"{figures['val_miou']:.3f}", f"{figures['val_loss']:.3f}", f"{self.rate:.1f}")
        note = gettext(
            "validation mIoU %(miou)s, loss %(loss)s, %(rate)s images/s",
            miou=decimal(miou),
            loss=decimal(own),
            rate=decimal(rate),
        )
        bar.say_progress(
            note, figures={"step": progress.step, "val_miou": figures["val_miou"], "val_loss": figures["val_loss"]}
        )
        self.flushed_at = time.monotonic()

    def _is_best(self, value: float) -> bool:
        best = self.progress.best_value
        if self.select == "last":  # a budget of time may end at any validation, so each one's weights are kept
            return True
        if best is None or math.isnan(best):
            return True
        return value < best if self.select == "val_loss" else value > best

    def _save(self) -> None:
        if self.pending:
            return  # unchecked losses: the next round saves
        self._check_weights()
        self._tick()
        self.progress.averaged = self.average.steps
        state = TrainingState(
            network=self.model.network.state_dict(),
            optimiser=self.stepper.optimiser.state_dict(),
            identity=self.card.identity,
            progress=self.progress,
            average=self.average.values,
        )
        save_state(self.job.folder, state)
        self.saved_at = time.monotonic()

    def _restore(self) -> None:
        state = load_state(self.job.folder)
        if state is not None and state.identity == self.card.identity:
            self.model.network.load_state_dict(state.network)
            self.stepper.optimiser.load_state_dict(dict(state.optimiser))
            self.progress = state.progress
            self.average.restore(state.average, self.progress.averaged, self.job.runtime.device)
        progress = self.progress
        self.course.resume(progress, read_history(self.job.folder))
        truncate_history(
            self.job.folder, progress.step, last_validation=progress.validated, keep_course=self.course.timed
        )
        if progress.step:
            say("%(name)s: goes on at %(where)s.", name=self.job.folder.name, where=self._where())

    def _where(self) -> str:
        """Say at which step the run is."""
        if self.job.steps is None:
            return pgettext(
                "at",
                "step %(step)s, after %(done)s of %(total)s minutes",
                step=self.progress.step,
                done=decimal(f"{self.progress.wall_s / 60:.1f}"),
                total=decimal(f"{self.job.total_s / 60:.4g}"),
            )
        return pgettext("at", "step %(step)s of %(steps)s", step=self.progress.step, steps=self.job.steps)

    def _ask_to_stop(self) -> None:
        self.stopping, self.asked_at = True, time.monotonic()
        if self.validating:  # it may take minutes, and is done again when the run goes on
            self.validating = False
            raise _StopNowError

    def _stop(self) -> Never:
        self._save()
        self._write_card("stopped")
        say(
            "%(name)s: stopped at %(where)s; all is saved, the same command goes on from here.",
            name=self.job.folder.name,
            where=self._where(),
        )
        raise KeyboardInterrupt

    def _finish(self) -> RunCard:
        self._tick()
        if self.course.timed:
            truncate_history(self.job.folder, self.progress.step)  # without the course
            say("%(name)s: done at %(where)s.", name=self.job.folder.name, where=self._where())
        self._write_card("finished")
        remove_states(self.job.folder)
        return self.card

    def _write_card(self, status: str) -> None:
        progress, recipe = self.progress, self.job.recipe
        images = progress.step * recipe.batch
        weights = self.job.folder / "model" / "model.safetensors"
        self.card = dataclasses.replace(
            self.card,
            status=status,
            steps_done=progress.step,
            images_seen=images,
            megapixels_seen=progress.megapixels,
            train_s=progress.train_s,
            wall_s=progress.wall_s,
            peak_memory_mib=peak_memory_mib(self.job.runtime.device),
            selection=SelectionRecord(
                rule=self.select,
                reason=self.card.selection.reason,
                step=progress.best_step,
                averaged=progress.best_averaged or None,
                value=progress.best_value,
            ),
            speed=SpeedRecord(train_images_per_s=images / progress.train_s if progress.train_s else None),
            weights_sha256=sha256_file(weights) if status == "finished" and weights.exists() else None,
        )
        write_card(self.job.folder, self.card)
