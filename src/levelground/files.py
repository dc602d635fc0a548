"""Files that appear whole or not at all, and folders with one writer.

A file is written under a temporary name, flushed to the disk and renamed, so a reader sees the old content or the new
one and never a half. Locks are the kernel's: they go with the process that holds them, whatever ends it.
"""

import contextlib
import errno
import fcntl
import os
import re
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from levelground.errors import BusyError, DiskError, first_line

LOCK_FILE = ".lock"
REMEDY = "Free space or choose another --out"
STALE_S = 600.0
"""Temporary files untouched for so long, and held by no process, were left by one that was killed."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_held: set[int] = set()  # descriptors of this process's locks


def _let_go() -> None:
    """Close the locks that a forked child inherits: a loader that outlives its killed parent must hold nothing."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def writing(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turn what the system says against writing into one line.

    Args:
        path: What is being written, for the error.
        remedy: What to do about it.
    Raises:
        DiskError: The block raised an ``OSError``: a full disk, no permission, no such folder.
    """
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path}: cannot be written ({reason(error)}). {remedy}.") from error


def reason(error: BaseException) -> str:
    """Why something could not be written, in the system's words where it has some.

    Example:
        >>> reason(OSError(28, "No space left on device")), reason(OSError("4000 requested and 96 written"))
        ('No space left on device', 'No space left on device')
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = first_line(error)
    number = re.search(r"\(os error (\d+)\)", text)  # safetensors' words
    if number or re.fullmatch(r"\d+ requested and \d+ written", text):  # NumPy's
        return os.strerror(int(number[1]) if number else errno.ENOSPC)
    return text


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk, the quota or the size of a file is at its end."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextlib.contextmanager
def atomic_path(path: Path, remedy: str = REMEDY) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well, else remove it.

    Args:
        path: The file to appear. Its folder is made where it is missing.
        remedy: What to do where it cannot be written.
    Raises:
        DiskError: The disk is full or the folder cannot be written.
    """
    with writing(path, remedy), contextlib.ExitStack() as after:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=f".part{path.suffix}")
        after.callback(_close, handle)
        _held.add(handle)
        temporary = Path(name)
        after.callback(temporary.unlink, missing_ok=True)
        with contextlib.suppress(OSError):  # where there are no locks, nothing is swept away either
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)


def append_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Append to a file; where that fails, the file is what it was.

    Args:
        path: The file; made where it is missing.
        text: Whole lines.
        durable: Wait until the disk has it, so that not even a power cut loses it.
    Raises:
        DiskError: The disk is full or the file cannot be written.
    """
    rest = memoryview(text.encode())
    # Without a buffer: one would try again to write its rest when the file is closed.
    with writing(path), path.open("ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            while rest:
                rest = rest[file.write(rest) :]
            if durable:
                os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), before)
            raise


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, and clear what killed ones left half-written in it.

    Args:
        folder: The folder to hold; made where it is missing.
    Raises:
        BusyError: Another process holds it; the message says which, where, since when, and its command.
        DiskError: The folder cannot be made, written or locked.
    """
    with writing(folder, "Choose another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    _held.add(handle)
    try:
        _lock(handle, folder)
        remove_leftovers(folder)
        remove_leftovers(folder / "runs", deep=True)
        yield
    finally:
        _close(handle)


def _lock(handle: int, folder: Path) -> None:
    """Take the lock or say who has it; write down who has it now."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        known = os.pread(handle, 1000, 0).decode("utf-8", "replace").strip() or "another process"
        raise BusyError(f"{folder}: held by {known}. Wait for it to end, or choose another --out.") from error
    except OSError as error:
        raise DiskError(
            f"{folder}: cannot be locked ({reason(error)}). Choose an --out on a disk that knows file locks."
        ) from error
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    command = command_line()
    command = command if len(command) <= 200 else command[:199] + "…"
    text = f"process {os.getpid()} on {socket.gethostname()} since {since} ({command})"
    with contextlib.suppress(OSError):  # the lock holds on a full disk too, it only has no name
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode("utf-8", "replace"), 0)


def _close(handle: int) -> None:
    """Close a lock, unless this is a child that has closed it already."""
    if handle in _held:
        _held.discard(handle)
        os.close(handle)


def command_line() -> str:
    """The command of this process, without the program's folder."""
    program = Path(sys.argv[0]).name if sys.argv else "python"
    return shlex.join(["levelground" if program == "__main__.py" else program, *sys.argv[1:]])


def remove_leftovers(folder: Path, *, deep: bool = False) -> int:
    """Remove temporary files that killed processes left behind; those that are being written are locked and stay.

    Args:
        folder: Where to look; may be missing.
        deep: Look in its folders too.
    Returns:
        How many were removed.
    """
    found = folder.rglob(".*.part*") if deep else folder.glob(".*.part*")
    with contextlib.suppress(OSError):  # housekeeping: whatever prevents it will be said by the next write
        return sum(_remove_stale(path) for path in list(found))
    return 0


def _remove_stale(path: Path) -> bool:
    """Remove one temporary file unless it is young or some process holds it."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if time.time() - os.fstat(file.fileno()).st_mtime > STALE_S:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            return True
    return False
