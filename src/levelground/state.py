"""The training state on disk: everything needed to go on exactly, with a checksum, the last two kept.

A state file is 64 hexadecimal digits of SHA-256, a line feed, and what ``torch.save`` wrote of tensors and numbers. It
is read with ``weights_only=True``: a pickle with code in it is refused, not run.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from levelground.console import say
from levelground.errors import RecordError, first_line
from levelground.records import atomic_path

State = dict[str, Any]
"""Tensors, numbers, strings, and lists and dictionaries of them."""

SCHEMA = 1
_DIGEST_BYTES = 65


def state_paths(folder: Path) -> tuple[Path, Path]:
    """The newest state and the one before it."""
    return folder / "state.ckpt", folder / "state.prev.ckpt"


def save_state(folder: Path, state: State) -> None:
    """Write a state; the one that was newest becomes the one before.

    Raises:
        DiskError: It cannot be written; the states that were there stay.
    """
    buffer = io.BytesIO()
    torch.save({"schema": SCHEMA, **state}, buffer)
    newest, previous = state_paths(folder)
    with atomic_path(folder / "state.new.ckpt") as temporary, temporary.open("wb") as file:
        content = buffer.getbuffer()
        file.write(hashlib.sha256(content).hexdigest().encode() + b"\n")
        file.write(content)
    if newest.exists():
        newest.replace(previous)
    (folder / "state.new.ckpt").replace(newest)


def load_state(folder: Path) -> State | None:
    """Read the newest sound state, saying so where the newest is damaged.

    Returns:
        The state, or ``None`` where there is none yet.
    Raises:
        RecordError: There are states and none is sound, or one was written by another version.
    """
    # A kill between the two renames of save_state leaves a whole state under its first name.
    candidates = [folder / "state.new.ckpt", *state_paths(folder)]
    present = [path for path in candidates if path.exists()]
    damage = ""
    for path in present:
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
    content = path.read_bytes()
    digest, body = content[: _DIGEST_BYTES - 1], memoryview(content)[_DIGEST_BYTES:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
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
    for path in state_paths(folder):
        path.unlink(missing_ok=True)
