"""Training loop: steps, validation, the selected weights, history, and a state to resume from exactly."""

import contextlib
import dataclasses
import hashlib
import io
import math
import statistics
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, Never, cast

import torch

from levelground.console import Bar, progress_bar, say
from levelground.errors import RecordError, TrainingError, first_line
from levelground.history import HistoryLine, append_history, history_line, truncate_history
from levelground.models.smp_backend import save_model
from levelground.records import atomic_path, sha256_file
from levelground.runs import RunCard, SelectionRecord, SpeedRecord, write_card
from levelground.runtime import peak_memory_mib
from levelground.signals import GRACE_S, stop_signals
from levelground.training.batches import Batch, load_batches
from levelground.training.run_spec import TrainingJob, make_stepper, validation_steps
from levelground.training.step import rate_factor
from levelground.training.validation import validate

SCHEMA = 1
_DIGEST_BYTES = 64
_PLAIN = (dict, OrderedDict, list, tuple, bool, int, float, str, type(None))


@dataclass
class Progress:
    """Figures that change while a run goes on; beside weights and optimiser they are the training state."""

    step: int = 0
    validated: int = 0
    """The last step after which the validation scenes were scored."""
    best_value: float | None = None
    best_step: int | None = None
    train_s: float = 0.0
    wall_s: float = 0.0
    megapixels: float = 0.0
    val_losses: list[float] = field(default_factory=list)
    """Training losses since the last validation."""


@dataclass(frozen=True, eq=False)
class TrainingState:
    """State that a run resumes from exactly: tensors, numbers, strings, and lists and dictionaries of them."""

    network: Mapping[str, torch.Tensor]
    optimiser: Mapping[str, object]
    """The optimiser's state dict."""
    identity: str
    """The run card's."""
    progress: Progress


def state_paths(folder: Path) -> tuple[Path, Path]:
    """The newest state and the one before it."""
    return folder / "state.ckpt", folder / "state.prev.ckpt"


def _all_paths(folder: Path) -> tuple[Path, ...]:
    """From new to old; a kill between the two renames of a save leaves a whole state under its first name."""
    return folder / "state.new.ckpt", *state_paths(folder)


def save_state(folder: Path, state: TrainingState) -> None:
    """Write a state; the newest one so far becomes the one before.

    Raises:
        TypeError: It holds a value that could not be read back safely.
        DiskError: It cannot be written; the states that were there stay.
    """
    content = vars(state) | {"progress": dict(vars(state.progress))}
    _check_plain(content, "state")
    newest, previous = state_paths(folder)
    with atomic_path(folder / "state.new.ckpt") as temporary, temporary.open("wb") as file, _without_crc():
        file.write(bytes(_DIGEST_BYTES) + b"\n")
        hashed = _Hashed(file)
        try:
            torch.save({"schema": SCHEMA, **content}, cast("IO[bytes]", hashed))
        except RuntimeError as error:
            raise hashed.failure or error from error  # torch does not name a full disk
        file.seek(0)
        file.write(hashed.digest.hexdigest().encode())
    if newest.exists():
        newest.replace(previous)
    (folder / "state.new.ckpt").replace(newest)


class _Hashed(io.RawIOBase):
    """File that is hashed while it is written, so that tensors are read once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, content: Any) -> int:
        self.digest.update(content)
        try:
            return self._file.write(content)
        except OSError as error:
            self.failure = self.failure or error
            raise


@contextlib.contextmanager
def _without_crc() -> Iterator[None]:
    """Leave out the archive's own checksums: they take as long as all else, and SHA-256 covers the whole."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def _check_plain(value: object, where: str) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        _check_plain(item, f"{where}.{key}")
    # The exact type: NumPy's float64 is a float, and yet its pickle is code.
    if type(value) not in _PLAIN and not isinstance(value, torch.Tensor):
        raise TypeError(f"{where}: {type(value).__name__} cannot be read back safely")


def load_state(folder: Path) -> TrainingState | None:
    """Read the newest intact state, and report damaged ones.

    Returns:
        The state, or ``None`` where there is none yet.
    Raises:
        RecordError: There are states and none is intact, or one was written by another version.
    """
    damage = ""
    for path in filter(Path.exists, _all_paths(folder)):
        try:
            state = _read(path)
        except RecordError as error:
            damage = str(error)
            say(f"{damage} Falling back to the state before it.")
            continue
        return state
    if damage:
        raise RecordError(f"{damage} No sound state is left: remove {folder} and train anew.")
    return None


def _read(path: Path) -> TrainingState:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: unreadable training state ({error.strerror}).") from error
    head, body = content[: _DIGEST_BYTES + 1], memoryview(content)[_DIGEST_BYTES + 1 :]
    if hashlib.sha256(body).hexdigest().encode() + b"\n" != head:
        raise RecordError(f"{path}: damaged training state (its checksum does not match).")
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load has no error class of its own; the reason's first line is what a person needs.
        raise RecordError(f"{path}: unsafe or unreadable training state ({first_line(error)}).") from error
    if not isinstance(state, dict) or state.pop("schema", None) != SCHEMA:
        raise RecordError(f"{path}: training state of an unknown schema. Use the levelground that wrote it.")
    try:
        return TrainingState(**state | {"progress": Progress(**state["progress"])})
    except (KeyError, TypeError) as error:
        raise RecordError(f"{path}: training state of another version ({first_line(error)}).") from error


def remove_states(folder: Path) -> None:
    """Remove the states of a finished run."""
    for path in _all_paths(folder):
        path.unlink(missing_ok=True)


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
        self.stepper = make_stepper(job)
        self.model = self.stepper.model
        self.progress = Progress()
        self.pending: list[tuple[int, torch.Tensor]] = []
        self.stopping = self.validating = False
        self.asked_at = 0.0
        self.stepper.poll = self._leave_long_step
        self.saved_at = self.flushed_at = time.monotonic()

    def run(self) -> RunCard:
        job = self.job
        self._restore()
        self.stepper.synchronise(self.progress.step)
        validations = validation_steps(job.validations, job.steps, job.steps_per_epoch)
        with progress_bar(f"train {job.folder.name}", job.steps) as bar, stop_signals(self._ask_to_stop):
            bar.start_at(self.progress.step)
            if self.progress.step in validations and self.progress.validated < self.progress.step:
                self._validate(bar)  # it was stopped during this validation
            steps = range(self.progress.step, job.steps)
            batches = load_batches(job.source, steps, workers=job.workers, pin=job.runtime.device.type == "cuda")
            self.flushed_at = self.saved_at = time.monotonic()
            for step, batch in zip(steps, batches, strict=True):
                loss = self._step(step, batch, bar)
                self.progress.step = step + 1
                self.progress.megapixels += batch.targets.size * job.runtime.processes / 1e6
                self.pending.append((step + 1, loss))
                due = step + 1 in validations
                if due or self.stopping or time.monotonic() - self.flushed_at > FLUSH_S:
                    self._flush(bar)
                if due and not self.stopping:
                    self._validate(bar)
                if self.stopping:
                    self._stop()
                if time.monotonic() - self.saved_at > job.save_every_s:
                    self._save()
        card = self._finish()
        if self.stopping:  # asked after the last step: this run is done, others may not be
            raise KeyboardInterrupt
        return card

    def _step(self, step: int, batch: Batch, bar: Bar) -> torch.Tensor:
        """Take one step, unless a signal ends it halfway."""
        try:
            loss = self.stepper.gradients(step, batch)
        except _StopNowError:  # weights are those of the step before
            self._flush(bar)
            self._stop()
        self.stepper.update()
        return loss

    def _leave_long_step(self) -> None:
        if self.stopping and time.monotonic() - self.asked_at > GRACE_S:
            raise _StopNowError

    def _flush(self, bar: Bar) -> None:
        """Read the losses back from the device, check them and write them to the history."""
        if not self.pending:
            return
        losses = torch.stack([loss for _, loss in self.pending]).float().tolist()
        now = time.monotonic()
        seconds, self.flushed_at = now - self.flushed_at, now
        rate = len(self.pending) * self.job.recipe.batch / max(seconds, 1e-9)
        self.progress.train_s += seconds
        self.progress.wall_s += seconds
        every = max(1, self.job.steps // MAX_STEP_LINES)
        lines: list[HistoryLine] = []
        for (step, _), loss in zip(self.pending, losses, strict=True):
            if not math.isfinite(loss):
                append_history(self.job.folder, lines)
                self._fail(step, f"the loss is {loss}")
            if step % every == 0:
                lr = self.job.recipe.lr * rate_factor(self.job.recipe, step - 1, self.job.steps)
                epoch = step / self.job.steps_per_epoch
                lines.append(
                    HistoryLine(kind="step", step=step, epoch=epoch, train_loss=loss, lr=lr, images_per_s=rate)
                )
        self.progress.val_losses += losses
        append_history(self.job.folder, lines)
        bar.advance(len(losses), note=f"loss {losses[-1]:.3f} · {rate:.1f} images/s")
        self.pending.clear()

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
        bar.advance(0, note="validation")
        self._check_weights()
        try:
            self.validating = True
            scored = validate(self.job, self.model)
            self.validating = False
        except _StopNowError:
            self._stop()
        progress, recipe = self.progress, self.job.recipe
        figures = scored.line(self.job.dataset.legend.counted)
        train_loss = statistics.fmean(progress.val_losses) if progress.val_losses else math.nan
        progress.val_losses, progress.validated = [], progress.step
        epoch = progress.step / self.job.steps_per_epoch
        loss = figures["val_loss"] if scored.smp_dice is None else scored.smp_dice
        value = loss if recipe.select == "val_loss" else figures["val_miou"]
        progress.wall_s += time.monotonic() - started
        line = {"kind": "val", "step": progress.step, "epoch": epoch, "train_loss": train_loss, **figures}
        append_history(self.job.folder, [history_line(line | {"time_s": progress.wall_s})])
        if self._is_best(value):
            progress.best_value, progress.best_step = value, progress.step
            save_model(self.model, self.job.folder / "model")
        bar.say_progress(f"validation mIoU {figures['val_miou']:.3f}, loss {figures['val_loss']:.3f}")
        self.flushed_at = time.monotonic()

    def _is_best(self, value: float) -> bool:
        select, best = self.job.recipe.select, self.progress.best_value
        if select == "last":
            return self.progress.step == self.job.steps
        if best is None or math.isnan(best):
            return True
        return value < best if select == "val_loss" else value > best

    def _save(self) -> None:
        if self.pending:
            return  # unchecked losses: the next round saves
        self._check_weights()
        state = TrainingState(
            network=self.model.network.state_dict(),
            optimiser=self.stepper.optimiser.state_dict(),
            identity=self.card.identity,
            progress=self.progress,
        )
        save_state(self.job.folder, state)
        self.saved_at = time.monotonic()

    def _restore(self) -> None:
        state = load_state(self.job.folder)
        if state is None or state.identity != self.card.identity:
            truncate_history(self.job.folder, 0)
            return
        self.model.network.load_state_dict(state.network)
        self.stepper.optimiser.load_state_dict(dict(state.optimiser))
        self.progress = state.progress
        truncate_history(self.job.folder, self.progress.step, last_validation=self.progress.validated)
        say(f"{self.job.folder.name}: goes on at step {self.progress.step} of {self.job.steps}.")

    def _ask_to_stop(self) -> None:
        self.stopping, self.asked_at = True, time.monotonic()
        if self.validating:  # it may take minutes, and is done again when the run goes on
            self.validating = False
            raise _StopNowError

    def _stop(self) -> Never:
        self._save()
        self._write_card("stopped")
        say(
            f"{self.job.folder.name}: stopped at step {self.progress.step} of {self.job.steps}; "
            "all is saved, the same command goes on from here."
        )
        raise KeyboardInterrupt

    def _finish(self) -> RunCard:
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
            selection=SelectionRecord(rule=recipe.select, step=progress.best_step, value=progress.best_value),
            speed=SpeedRecord(train_images_per_s=images / progress.train_s if progress.train_s else None),
            weights_sha256=sha256_file(weights) if status == "finished" and weights.exists() else None,
        )
        write_card(self.job.folder, self.card)
