"""State that a run resumes from exactly: written whole or not at all, with a checksum; the last two are kept."""

import contextlib
import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from levelground.console import say
from levelground.errors import RecordError, first_line
from levelground.files import atomic_path
from levelground.reading import SIGNATURE_BYTES, read_bytes, verify_signed

SCHEMA = 1
_PLAIN = (dict, OrderedDict, list, tuple, bool, int, float, str, type(None))


@dataclass
class Progress:
    """Figures that change while a run goes on; beside weights and optimiser they are the training state."""

    step: int = 0
    validated: int = 0
    """The last step after which the validation scenes were scored."""
    best_value: float | None = None
    best_step: int | None = None
    best_averaged: int = 0
    """Number of steps whose weights were averaged for the best so far."""
    averaged: int = 0
    """Number of steps whose weights are averaged so far."""
    train_s: float = 0.0
    wall_s: float = 0.0
    megapixels: float = 0.0
    val_losses: list[float] = field(default_factory=list)
    """Training losses since the last validation."""
    step_s: float = 0.0
    """Time of a step in the last stretch of a budget of time."""
    validation_s: float = 0.0
    """Time of the last validation."""
    stretches: list[list[float]] = field(default_factory=list)
    """The stretch of a budget of time that the step lies in, after the one before: last step, progress, per step."""


@dataclass(frozen=True, eq=False)
class TrainingState:
    """State that a run resumes from exactly: tensors, numbers, strings, and lists and dictionaries of them."""

    network: Mapping[str, torch.Tensor]
    optimiser: Mapping[str, object]
    """The optimiser's state dict."""
    identity: str
    """The run card's."""
    progress: Progress
    average: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Averaged weights and running statistics, if there are some yet."""


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
        file.write(bytes(SIGNATURE_BYTES - 1) + b"\n")
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
            say("%(damage)s Falling back to the state before it.", damage=damage)
            continue
        return state
    if damage:
        raise RecordError(f"{damage} No sound state is left: remove {folder} and train anew.")
    return None


def _read(path: Path) -> TrainingState:
    try:
        content = verify_signed(read_bytes(path))
    except OSError as error:
        raise RecordError(f"{path}: unreadable training state ({error.strerror}).") from error
    except ValueError as error:
        raise RecordError(f"{path}: damaged training state ({error}).") from error
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
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
