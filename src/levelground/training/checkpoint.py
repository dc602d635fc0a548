"""The training state on disk: everything needed to go on exactly, with a checksum, the last two kept.

A state file is 64 hexadecimal digits of SHA-256, a line feed, and what ``torch.save`` wrote of tensors and numbers. It
is read with ``weights_only=True``: a pickle with code in it is refused, not run.
"""

import contextlib
import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from levelground.console import say
from levelground.errors import RecordError, first_line
from levelground.records import atomic_path

State = dict[str, Any]
"""Tensors, numbers, strings, and lists and dictionaries of them."""

SCHEMA = 1
_DIGEST_BYTES = 64
_PLAIN = (dict, OrderedDict, list, tuple, bool, int, float, str, type(None))


def state_paths(folder: Path) -> tuple[Path, Path]:
    """The newest state and the one before it."""
    return folder / "state.ckpt", folder / "state.prev.ckpt"


def _all_paths(folder: Path) -> tuple[Path, ...]:
    """From new to old; a kill between the two renames of a save leaves a whole state under its first name."""
    return folder / "state.new.ckpt", *state_paths(folder)


def save_state(folder: Path, state: State) -> None:
    """Write a state; the one that was newest becomes the one before.

    Raises:
        TypeError: It holds what could not be read back safely; better now than when it is needed.
        DiskError: It cannot be written; the states that were there stay.
    """
    _check_plain(state, "state")
    newest, previous = state_paths(folder)
    with atomic_path(folder / "state.new.ckpt") as temporary, temporary.open("wb") as file, _without_crc():
        file.write(bytes(_DIGEST_BYTES) + b"\n")
        hashed = _Hashed(file)
        try:
            torch.save({"schema": SCHEMA, **state}, cast("IO[bytes]", hashed))
        except RuntimeError as error:
            raise hashed.failure or error from error  # torch has no word for a full disk
        file.seek(0)
        file.write(hashed.digest.hexdigest().encode())
    if newest.exists():
        newest.replace(previous)
    (folder / "state.new.ckpt").replace(newest)


class _Hashed(io.RawIOBase):
    """A file that is hashed while it is written, so that tensors are gone through once."""

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


def load_state(folder: Path) -> State | None:
    """Read the newest sound state, saying so where the newest is damaged.

    Returns:
        The state, or ``None`` where there is none yet.
    Raises:
        RecordError: There are states and none is sound, or one was written by another version.
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


def _read(path: Path) -> State:
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
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise RecordError(f"{path}: training state of an unknown schema. Use the levelground that wrote it.")
    return state


def remove_states(folder: Path) -> None:
    """Remove the states of a finished run."""
    for path in _all_paths(folder):
        path.unlink(missing_ok=True)
