"""Mutated inputs of every kind, driven through the command line's own ``main``.

``python tests/builders/fuzz.py --minutes 30`` (``make fuzz``) goes on from input to input and prints what it found. An
input is one number: it chooses the kind of file, the change and the bytes, so that ``--only NUMBER`` gives it again.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders.fuzz_targets import SEALS, Target, build_targets
from levelground.cli import main
from levelground.records import HASHES_FILE

MOST_MIB, LONGEST_S, WAITED_S = 2048, 60, 300  # seconds of the processor, and by the clock
NUMBERS = (
    "9" * 5000,
    "-1",
    "0",
    "1e400",
    "NaN",
    "Infinity",
    "1e-320",
    "2147483648",
    "18446744073709551616",
    "-0.0",
    "1e9",
)
WORDS = ("", "\ud800", "\\ud800", "\x00", "../../x", "/etc/passwd", "a" * 300, "\x1b[2J", "‮", "null", "{}", "=1+1", "é")
JSON_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**400, 1e308, "", "x" * 300, "\ud800", "../x", [], {}, [[]], [0], {"a": 1}, "2020", -0.5,
    float("inf"), float("nan"),
)  # fmt: skip

Mutator = Callable[[bytes, random.Random], bytes]


def flip_bytes(content: bytes, rng: random.Random) -> bytes:
    """Set some bytes, mostly near the beginning, where headers are."""
    changed = bytearray(content)
    reach = len(changed) if rng.random() < 0.5 else min(len(changed), 200)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if reach:
            changed[rng.randrange(reach)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def set_number(content: bytes, rng: random.Random) -> bytes:
    """Put a large or small number of two or four bytes somewhere."""
    form = rng.choice(("<H", ">H", "<I", ">I", "<Q"))
    width = struct.calcsize(form)
    if len(content) < width:
        return content
    place = rng.randrange(min(len(content), 400) - width + 1)
    value = rng.choice((0, 1, 0x7FFF, 0xFFFF, 1 << (8 * width - 1), (1 << 8 * width) - 1)) & ((1 << 8 * width) - 1)
    return content[:place] + struct.pack(form, value) + content[place + width :]


def cut(content: bytes, rng: random.Random) -> bytes:
    """Cut the end, or a part, or double a part."""
    a, b = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return rng.choice((content[:a], content[:a] + content[b:], content[:b] + content[a:b] + content[b:]))


def replace_all(_content: bytes, rng: random.Random) -> bytes:
    """Something else altogether."""
    others = (
        b"",
        b"\0" * 100,
        b"[" * 100_000,
        b"<a>" * 50_000,
        b"{" * 5,
        rng.randbytes(64),
        b"II*\0\x08\0\0\0",
        b"PK\3\4",
    )
    return rng.choice(others)


def change_text(content: bytes, rng: random.Random) -> bytes:
    """Replace a number or a word of a text."""
    text = SEALS.sub("", content.decode("utf-8", "surrogateescape"))
    number = rng.random() < 0.6
    found = list(re.finditer(r"-?\d+(\.\d+)?" if number else r"[A-Za-z_]{2,}|\"[^\"]*\"", text))
    if not found:
        return flip_bytes(content, rng)
    part = rng.choice(found)
    changed = text[: part.start()] + rng.choice(NUMBERS if number else WORDS) + text[part.end() :]
    return changed.encode("utf-8", "surrogatepass" if "\ud800" in changed else "surrogateescape")


def change_lines(content: bytes, rng: random.Random) -> bytes:
    """Drop, double or swap lines, or end them otherwise."""
    lines = content.split(b"\n")
    kind, place = rng.randrange(5), rng.randrange(len(lines))
    if kind == 0:
        return b"\n".join(lines[:place] + lines[place + 1 :])
    if kind == 1:
        return b"\n".join(lines[:place] + lines[place:][:1] * rng.choice((2, 300)) + lines[place:])
    if kind == 2:
        rng.shuffle(lines)
        return b"\n".join(lines)
    return content.replace(b"\n", b"\r" if kind == 3 else b"\x0b") + b'"'


def change_json(content: bytes, rng: random.Random) -> bytes:
    """Put any value anywhere into a JSON text, a line of it where it has several, without its checksum."""
    text = SEALS.sub("", content.decode("utf-8", "replace"))
    try:
        return json.dumps(_changed(json.loads(text), rng), indent=1).encode()
    except ValueError:
        lines = text.split("\n")
        place = rng.randrange(len(lines))
        with contextlib.suppress(ValueError):
            lines[place] = json.dumps(_changed(json.loads(lines[place]), rng))
        return "\n".join(lines).encode("utf-8", "surrogatepass")


def _changed(value: Any, rng: random.Random) -> Any:
    """A JSON value with one change somewhere below."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return rng.choice(JSON_VALUES)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = rng.choice(keys)
    changed = value.copy()
    if rng.random() < 0.1:
        del changed[key]
        return changed
    changed[key] = _changed(value[key], rng)
    return changed


def change_member(content: bytes, rng: random.Random) -> bytes:
    """Change what lies inside an archive, which is written soundly around it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info: archive.read(info) for info in archive.infolist()}
    except (zipfile.BadZipFile, ValueError):
        return flip_bytes(content, rng)
    victim = rng.choice(list(members))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for info, data in members.items():
            if info is victim and rng.random() < 0.1:
                continue
            name = (
                info.filename if info is not victim or rng.random() < 0.9 else rng.choice(("../x", "a" * 300, "x.npy"))
            )
            changed = rng.choice((flip_bytes, set_number, cut, change_text))(data, rng) if info is victim else data
            archive.writestr(name, changed)
    return written.getvalue()


BINARY: tuple[Mutator, ...] = (flip_bytes, flip_bytes, set_number, cut, replace_all)
TEXT: tuple[Mutator, ...] = (change_text, change_text, change_text, change_lines, flip_bytes, cut, replace_all)
MUTATORS: dict[str, tuple[Mutator, ...]] = {
    "binary": BINARY,
    "text": TEXT,
    "json": (change_json, change_json, change_json, *TEXT),
    "archive": (change_member, change_member, change_member, *BINARY),
    "xml": TEXT,
}


@dataclass(frozen=True)
class Fault:
    """What an input brought about that must not be."""

    number: int
    target: str
    what: str


def drive(number: int, targets: list[Target], folder: Path) -> tuple[str, int, str | None]:
    """Give one mutated input to its command.

    Args:
        number: The input.
        targets: Kinds of files with their commands.
        folder: An empty folder; it is removed.
    Returns:
        The kind, the exit status, and what went wrong, if anything did.
    """
    rng = random.Random(number)
    target = targets[number % len(targets)]
    shutil.copytree(target.base, folder)
    record = folder / "study" / "dataset.json"
    if record.exists():
        record.write_text(record.read_text().replace("/ROOT", str(folder)))
    path = folder / rng.choice(target.files)
    _spoil(path, target, rng)
    if target.command[0] != "check":  # hashes would end the reading where it begins
        for hashes in folder.rglob(HASHES_FILE):
            hashes.unlink()
    if target.after is not None:
        target.after(folder)
    status, said, error = _run(target.command, folder)
    problem = error or _problem(status, said, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return f"{target.name}: {path.name}", status, problem


def _spoil(path: Path, target: Target, rng: random.Random) -> None:
    """Put a mutated file, seldom something that is not a file, in the place of a sound one."""
    content = path.read_bytes()
    kind = rng.random()
    if kind > 0.06:
        path.write_bytes(rng.choice(MUTATORS[target.form])(content, rng))
        return
    path.unlink()
    if kind < 0.02:
        path.mkdir()
    elif kind < 0.04:
        os.mkfifo(path)
    else:
        path.symlink_to(rng.choice((path, Path("/dev/zero"), path.parent, Path("/nowhere"))))


class NoEnd(BaseException):
    """A command that does not end; not an ``Exception``, which it might take for a file that cannot be read."""


def _alarm(*_: object) -> None:
    raise NoEnd(f"no end after {LONGEST_S} s of the processor or {WAITED_S} s")


def _run(command: list[str], folder: Path) -> tuple[int, str, str | None]:
    """Run the command line in this process; its status, its words, and an exception that it let pass."""
    before, said = Path.cwd(), io.StringIO()
    os.chdir(folder)
    for kind in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(kind, _alarm)
    signal.alarm(WAITED_S)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return main(command), said.getvalue(), None
    except BaseException as error:
        return -1, said.getvalue(), "".join(traceback.format_exception(error))[-600:]
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.chdir(before)


def _problem(status: int, said: str, folder: Path) -> str | None:
    """Say what is wrong with how a command ended."""
    lines = said.strip().splitlines()
    if status not in (0, 2):
        return f"status {status}: {lines[-1][:300] if lines else 'nothing said'}"
    if "Traceback" in said:
        return "a traceback"
    if status == 2 and not any(re.search(r"Error: |damaged or missing", line) for line in lines):
        return f"no line of ours: {said[-200:]!r}"
    if any(ord(character) < 32 and character not in "\n\r\t" for character in said):
        return "control characters reach the terminal"
    left = [path.name for path in folder.rglob(".*.part*")]
    if left:
        return f"left half-written: {left[:3]}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{peak:.0f} MiB of memory" if peak > MOST_MIB else None


def inputs(numbers: Iterator[int], seconds: float, log: Path | None = None) -> tuple[Counter[str], list[Fault]]:
    """Drive inputs until the time is over, each kind once at least.

    Args:
        numbers: Which.
        seconds: For how long.
        log: A file that holds the number of the input under way: what is there after a crash caused it.
    Returns:
        How many by kind and status, and the faults.
    """
    counts, faults, ends = Counter[str](), list[Fault](), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as temporary:
        targets = build_targets(Path(temporary) / "bases")
        for number in numbers:
            if time.monotonic() > ends and sum(counts.values()) >= len(targets):
                break
            if log is not None:
                log.write_text(str(number))
            name, status, problem = drive(number, targets, Path(temporary) / "one")
            counts[f"{name.partition(':')[0]}: status {status}"] += 1
            if problem is not None:
                faults.append(Fault(number, name, problem))
                if log is not None:
                    sys.stdout.write(f"input {number}, {name}: {problem}\n")
                    sys.stdout.flush()
    return counts, faults


def _wait(child: int, log: Path) -> int:
    """Wait for a process and return its status; it is ended where one input lasts too long inside a library."""
    started = time.time()
    while (found := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.time() - (log.stat().st_mtime if log.exists() else started + WAITED_S) > 2 * WAITED_S:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.5)
    return found[1]


def run() -> int:
    """Fuzz for some minutes; a crash of the process is a fault too, and it goes on behind it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--first", type=int, default=1_000_000, help="the first input")
    parser.add_argument("--only", type=int, help="one input, with its traceback")
    flags = parser.parse_args()
    if flags.only is not None:
        found = inputs(iter([flags.only]), 600)
        sys.stdout.write(f"{dict(found[0])}\n" + "".join(f"{one.target}: {one.what}\n" for one in found[1]))
        return 1 if found[1] else 0
    first, ends, bad = flags.first, time.monotonic() + 60 * flags.minutes, 0
    with tempfile.TemporaryDirectory() as temporary:
        log = Path(temporary) / "number"
        while (left := ends - time.monotonic()) > 0:
            child = os.fork()
            if child == 0:
                counts, faults = inputs(iter(range(first, 1 << 62)), left, log)
                total = sum(counts.values())
                sys.stdout.write("".join(f"{key}: {n}\n" for key, n in sorted(counts.items())))
                sys.stdout.write(f"{total} inputs, {len(faults)} faults\n")
                sys.stdout.flush()
                os._exit(min(1, len(faults)))
            status = _wait(child, log)
            bad += status != 0
            if os.WIFSIGNALED(status):
                first = int(log.read_text()) + 1
                sys.stdout.write(f"input {first - 1}: the process died of signal {os.WTERMSIG(status)}\n")
                continue
            break
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(run())
