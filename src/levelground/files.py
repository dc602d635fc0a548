"""Write files that appear whole or not at all, and let one process at a time write into a folder.

A file is written under a temporary name, flushed to the disk and renamed, so a reader sees the old content or the new
one and never a half. Locks are the kernel's, taken through filelock: they go with the process that holds them, whatever
ends it. What only some systems have (locks that are not mandatory, reads and writes at a position, room set aside)
is asked for here and nowhere else.
"""

import contextlib
import errno
import io
import os
import re
import shlex
import shutil
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from levelground.errors import BusyError, DiskError, first_line

LOCK_FILE = ".lock"
REMEDY = "choose another --out"
STALE_S = 600.0
"""Temporary files untouched for so long, and held by no process, were left by one that was killed."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IN_THE_WAY = (errno.EISDIR, errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.ENOTEMPTY, errno.ENXIO)
_POSIX = os.name == "posix"
"""Whether locks leave other handles of a file alone, and open files may be renamed and removed."""

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # a link in a folder from somebody else may point to any file
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would turn line ends in what is written
_SIGN_AT = 0 if _POSIX else 1  # where the holder's name stands in a lock: on Windows nobody else can read byte 0
_position = threading.Lock()  # where a read or write at a position has to move to it first
_held: set[int] = set()  # descriptors of this process's locks


def _release_inherited_locks() -> None:
    """Close the locks that a forked child inherits: a loader that outlives its killed parent must hold nothing."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_inherited_locks)


@contextlib.contextmanager
def writing(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turn the system's errors of writing into one line.

    Args:
        path: The file or folder that is written, for the error.
        remedy: What to do where there is no space to free, without a capital and a full stop.
    Raises:
        DiskError: The block raised an ``OSError``: a full disk, no permission, no such folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _IN_THE_WAY:
            other = _in_the_way(error, path)
            raise DiskError(f"{path}: cannot be written ({reason(error)}). Move {other} away, or {remedy}.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DiskError(f"{path}: cannot be written ({reason(error)}). Get permission, or {remedy}.") from error
        raise DiskError(f"{path}: cannot be written ({reason(error)}). Free space or {remedy}.") from error


def _in_the_way(error: OSError, path: Path) -> Path:
    """Return what is in the place of a file or folder: the first part of its path that is not a folder, else itself."""
    path = Path(error.filename2 or error.filename or path)
    return next((one for one in reversed(path.parents) if os.path.lexists(one) and not one.is_dir()), path)


def reason(error: BaseException) -> str:
    """Return the reason of a failed write, in the system's words where it has some.

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
    """Tell whether an error means a full disk, a full quota or a file that is too large."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextlib.contextmanager
def atomic_path(path: Path, remedy: str = REMEDY, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well, else remove it.

    Args:
        path: The file to appear. Its folder is made where it is missing.
        remedy: What to do where it cannot be written, as of :func:`writing`.
        durable: Wait until the disk holds the content. A file that is checked when it is read and can be made again
            need not wait.
    Raises:
        DiskError: The disk is full or the folder cannot be written.
    """
    with writing(path, remedy), contextlib.ExitStack() as after:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=f".part{path.suffix}")
        _held.add(handle)
        after.callback(_close, handle)
        temporary = Path(name)
        after.callback(temporary.unlink, missing_ok=True)
        if _POSIX:
            with contextlib.suppress(OSError):  # where there are no locks, nothing is swept away either
                _try_lock(handle)
        else:
            _close(handle)
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)


def copy_or_link(source: Path, path: Path) -> None:
    """Let a file appear at a second path too, without its bytes being stored twice where the disk can do that.

    Args:
        source: The file, which is only ever replaced as a whole.
        path: Where it is to appear; another file there is replaced.
    Raises:
        DiskError: It cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.samefile(source):
            return
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another disk, or one without links
            os.link(source, path)
            return
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)


def open_to_append(path: Path) -> io.FileIO:
    """Open a file to append to, made where it is missing; a link or a FIFO is not, nobody may ever read from it.

    Returns:
        The file without a buffer, which would try again to write its rest when it is closed.
    Raises:
        OSError: It cannot be opened, or is not a regular file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | _BINARY | _NO_LINK
    handle = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EEXIST, "is not a regular file", os.fspath(path))
    return io.FileIO(handle, "ab")


def append_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Append to a file; where that fails, leave the file as it was.

    Args:
        path: The file; made where it is missing.
        text: Whole lines.
        durable: Wait until the disk has it, so that not even a power cut loses it.
    Raises:
        DiskError: The disk is full or the file cannot be written.
    """
    rest = memoryview(text.encode())
    with writing(path), open_to_append(path) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            while rest:
                rest = rest[file.write(rest) :]
            if durable:
                os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), before)
            raise


def read_at(handle: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer from a position of an open file; safe from several threads.

    Args:
        handle: The file's descriptor.
        buffer: Bytes to fill.
        offset: Position of the first byte in the file.
    Returns:
        How many bytes were read; fewer than asked for at the end of the file.
    """
    if hasattr(os, "preadv"):
        return os.preadv(handle, [buffer], offset)
    with _position:
        os.lseek(handle, offset, os.SEEK_SET)
        content = os.read(handle, buffer.nbytes)
    buffer.cast("B")[: len(content)] = content
    return len(content)


def write_at(handle: int, data: memoryview, offset: int) -> int:
    """Write at a position of an open file, beyond its end too; safe from several threads.

    Args:
        handle: The file's descriptor.
        data: Bytes to write.
        offset: Position of the first byte in the file.
    Returns:
        How many bytes were written; fewer than given on a disk that is nearly full.
    """
    if hasattr(os, "pwrite"):
        return os.pwrite(handle, data, offset)
    with _position:
        os.lseek(handle, offset, os.SEEK_SET)
        return os.write(handle, data)


def folders_without(folder: Path, name: str) -> list[Path]:
    """List the folders in a folder that lack a file, such as those of runs without a card; hidden ones are left out."""
    return [one for one in sorted(folder.glob("[!.]*")) if one.is_dir() and not (one / name).exists()]


def open_for_blocks(path: Path) -> int:
    """Open a file for :func:`read_at` and :func:`write_at`, made where it is missing; ``os.close`` closes it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | _BINARY | _NO_LINK, 0o644)


def set_room_aside(file: IO[bytes], size: int) -> None:
    """Give an empty file its whole size in bytes on the disk: a full disk is met now and not in a memory map.

    Raises:
        OSError: The disk has not that much room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    zeros = bytes(1 << 20)
    for start in range(0, size, len(zeros)):
        file.write(zeros[: size - start])
    file.flush()


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, and remove files that killed processes left half-written in it.

    Args:
        folder: The folder to hold; made where it is missing, and removed again where the block fails before anything
            is written into it.
    Raises:
        BusyError: Another process holds it; the message says which, where, since when, and its command.
        DiskError: The folder cannot be made, written or locked.
    """
    with contextlib.ExitStack() as after:
        made = not folder.exists()
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            handle = open_for_blocks(folder / LOCK_FILE)
        _held.add(handle)
        after.callback(_close, handle)
        _lock(handle, folder, after)
        remove_leftovers(folder)
        remove_leftovers(folder / "runs", deep=True)
        try:
            yield
        except BaseException:
            if made:
                _remove_unused(folder)
            raise


@contextlib.contextmanager
def one_writer_after(folder: Path, waits: Callable[[], bool], *, poll_s: float) -> Iterator[None]:
    """Hold a folder for this process as soon as the process that has it lets go.

    Args:
        folder: The folder to hold.
        waits: Asked each time that another process has it; false gives up.
        poll_s: Time between two tries, seconds.
    Raises:
        BusyError: Another process holds it, and nobody waits any longer.
        DiskError: The folder cannot be made, written or locked.
    """
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(one_writer(folder))
                break
            except BusyError:
                if not waits():
                    raise
                time.sleep(poll_s)
        yield


def _remove_unused(folder: Path) -> None:
    """Remove a folder that holds nothing but its lock; the lock is still ours, so nobody else is in it."""
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [LOCK_FILE]:
            (folder / LOCK_FILE).unlink()
            folder.rmdir()


def _lock(handle: int, folder: Path, after: contextlib.ExitStack) -> None:
    """Take the lock of a folder and write down who has it; where it is taken, say by whom."""
    try:
        free = _try_lock(handle) if _kernel_locks() else _try_soft_lock(folder, after)
    except OSError as error:
        raise DiskError(
            f"{folder}: cannot be locked ({reason(error)}). Choose an --out on a disk that knows file locks."
        ) from error
    if not free:
        known = bytearray(1000)
        length = read_at(handle, memoryview(known), _SIGN_AT)
        holder = known[:length].decode("utf-8", "replace").strip() or "another process"
        raise BusyError(f"{folder}: held by {holder}. Wait for it to end, or choose another --out.")
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    command = command_line()
    command = command if len(command) <= 200 else command[:199] + "…"
    text = f"process {os.getpid()} on {socket.gethostname()} since {since} ({command})"
    with contextlib.suppress(OSError):  # the lock holds on a full disk too, it only has no name
        os.ftruncate(handle, 0)
        write_at(handle, memoryview(text.encode("utf-8", "replace")), _SIGN_AT)


def folder_holder(folder: Path) -> str:
    """Return who holds a folder, in the words of its lock; empty where nobody does or this system does not tell."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDWR | _BINARY | _NO_LINK)
    except OSError:
        return ""
    try:
        if not _kernel_locks() or _try_lock(handle):
            return ""
        known = bytearray(1000)
        length = read_at(handle, memoryview(known), _SIGN_AT)
        return known[:length].decode("utf-8", "replace").strip() or "another process"
    except OSError:
        return ""
    finally:
        os.close(handle)


@contextlib.contextmanager
def in_turn(path: Path, *, folder: bool = False) -> Iterator[None]:
    """Hold a lock file while the block runs, after those who have it; nothing is held where the disk knows no locks.

    Args:
        path: The lock file; made where it is missing.
        folder: Whether it is a folder, of whose writers each then finds what the one before has finished.
    """
    with contextlib.ExitStack() as after:
        with contextlib.suppress(OSError):  # a folder that cannot be made is said by what is written into it
            if folder:
                path.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDONLY) if folder else open_for_blocks(path)
            after.callback(os.close, handle)
            import filelock

            if _kernel_locks():
                filelock.lock_descriptor(handle, blocking=True)
        yield


def _kernel_locks() -> bool:
    """Tell whether this Python can lock an open file."""
    import filelock  # a tenth of a second, which --help need not wait for

    return filelock.has_fcntl or sys.platform == "win32"


def _try_lock(handle: int) -> bool:
    """Lock an open file for this process; false where another one has it.

    Raises:
        OSError: The disk or this Python knows no locks.
    """
    import filelock

    return filelock.lock_descriptor(handle, blocking=False)


def _try_soft_lock(folder: Path, after: contextlib.ExitStack) -> bool:
    """Lock a folder by a file that names this process, for systems without locks; one of a dead process is taken over.

    Raises:
        OSError: The file cannot be written.
    """
    import filelock

    lock = filelock.SoftFileLock(folder / f"{LOCK_FILE}.pid", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        return False
    after.callback(lock.release)
    return True


def _close(handle: int) -> None:
    """Close a lock, unless this is a child that has closed it already."""
    if handle in _held:
        _held.discard(handle)
        os.close(handle)


def command_line() -> str:
    """Return the command of this process, without the program's folder."""
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
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime <= STALE_S:
            return False
        with path.open("rb") if _POSIX else contextlib.nullcontext() as file:
            if file is None or _try_lock(file.fileno()):  # Windows removes no file that is open
                path.unlink()
                return True
    return False
