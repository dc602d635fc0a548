"""Processes of jobs as the one that starts them sees them: new ones, and forks of one that has imported torch."""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from levelground.files import open_to_append
from levelground.scaling.jobs import LOG_FILE

END_S = 10.0
"""How long a fork server may take to end, seconds."""
_PROGRAM = (sys.executable, "-m", "levelground.scaling.worker")
"""Program of a fork server; with the folder of a job, of its process."""
_READ_AT_START = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "MALLOC_", "LD_", "PYTHON", "LANG", "LC_")
"""Beginnings of the variables that a process reads once, so that a fork of it is too late for another value."""
_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class JobProcess(Protocol):
    """Process of a job, as the one that started it sees it."""

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; ``None`` while it runs."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""


def may_fork() -> bool:
    """Tell whether jobs may be forks of a process with everything imported: on Linux, where there is no GPU.

    CUDA does not work in a fork of a process that has looked for it, and macOS's own libraries in none.
    """
    return sys.platform == "linux" and not any(map(os.path.exists, _GPU_DRIVERS))


def start_job(
    folder: Path, environment: Mapping[str, str], *, cwd: str | None = None, fork: bool, session: bool = True
) -> JobProcess:
    """Start the process of a job; it ends, its state saved, when this process is gone.

    Args:
        folder: The job's folder.
        environment: All variables of the process.
        cwd: Its working directory; ``None`` takes this process's.
        fork: Whether it is forked from a process that imports torch once for all jobs.
        session: Whether one that is not forked leaves this process's session, out of reach of Ctrl-C.
    """
    if not fork:
        return _Fresh(folder, environment, cwd, session)
    return _fork_server(folder, environment).start(folder, environment, cwd or os.getcwd())  # noqa: PTH109 - a text


def import_ahead(environment: Mapping[str, str]) -> None:
    """Let the process from which jobs are forked import what training needs, while this one does something else.

    Args:
        environment: All variables of the first job's process.
    """
    if may_fork():
        _fork_server(None, environment).import_ahead()


def _fork_server(folder: Path | None, environment: Mapping[str, str]) -> "_ForkServer":
    """Return the process whose forks can have these variables; start it where there is none."""
    global _server
    if _server is None:
        atexit.register(_end_server)
    if _server is None or not _server.serves(environment):
        _end_server()
        _server = _ForkServer(folder, environment)
    return _server


def end_jobs(processes: Collection[JobProcess], grace_s: float) -> None:
    """Ask processes to save and end, wait for them, and end those that take longer than ``grace_s``."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, grace_s)):
        for process in processes:
            process.send(number)
        deadline = time.monotonic() + wait_s
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(0.02)


class _Fresh:
    """Process that imports everything itself."""

    def __init__(self, folder: Path, environment: Mapping[str, str], cwd: str | None, session: bool) -> None:
        with open_to_append(folder / LOG_FILE) as log:
            self._process = subprocess.Popen(  # noqa: S603 - this program
                [*_PROGRAM, str(folder)],
                stdin=subprocess.PIPE,  # its end tells the process that this one is gone
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=cwd,
                start_new_session=session,
            )

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is not None and self._process.stdin is not None:
            self._process.stdin.close()
        return code

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):
            self._process.send_signal(number)


class _ForkServer:
    """Process that imports what jobs need, once, and forks a process for each of them."""

    def __init__(self, folder: Path | None, environment: Mapping[str, str]) -> None:
        """Start it; what goes wrong with its imports is written to the log of the first job, if there is one yet."""
        self._environment, self._ready, self._text = dict(environment), False, b""
        self._codes: dict[int, int | None] = {}
        with Path(os.devnull).open("ab") if folder is None else open_to_append(folder / LOG_FILE) as log:
            self._process = subprocess.Popen(  # noqa: S603 - this program
                _PROGRAM,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._asks, self._answers = self._process.stdin, self._process.stdout
        os.set_blocking(self._answers.fileno(), False)

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Tell whether it lives and its forks can have these variables."""
        unlike = {name for name, value in environment.items() ^ self._environment.items()}
        return self._process.poll() is None and not any(name.startswith(_READ_AT_START) for name in unlike)

    def start(self, folder: Path, environment: Mapping[str, str], cwd: str) -> "_Forked":
        """Fork a process for a job."""
        number = len(self._codes)
        self._codes[number] = None
        changes = {name: value for name, value in environment.items() if self._environment.get(name) != value}
        gone = sorted(self._environment.keys() - environment.keys())
        self._ask({"number": number, "folder": str(folder), "cwd": cwd, "set": changes, "unset": gone})
        return _Forked(self, number)

    def import_ahead(self) -> None:
        """Let it import what training needs before the first job is known."""
        self._ask({"folder": None})

    def code(self, number: int) -> int | None:
        """Return the exit status of a process; that of the server where it is gone, whose forks then end too."""
        self._read()
        ended = self._process.poll() if self._codes[number] is None else None
        if ended is not None:
            self._codes[number] = ended if ended < 0 else -signal.SIGTERM
        return self._codes[number]

    def send(self, number: int, signal_number: signal.Signals) -> None:
        """Send a process a signal; before the first is forked the server itself is ended."""
        self._read()
        if self._codes[number] is None and self._ready:
            self._ask({"number": number, "signal": signal_number})
        elif self._codes[number] is None:
            self._process.kill()

    def close(self) -> None:
        """End it, and with it what it forked."""
        for pipe in (self._asks, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(END_S if self._ready else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, request: Mapping[str, object]) -> None:
        with contextlib.suppress(OSError):  # it is gone, which code() tells
            self._asks.write(json.dumps(request).encode() + b"\n")
            self._asks.flush()

    def _read(self) -> None:
        if self._answers.closed:
            return
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._answers.fileno(), 1 << 16):
                self._text += chunk
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            answer = json.loads(line)
            self._ready = True
            if "number" in answer:
                self._codes[answer["number"]] = answer["code"]


class _Forked:
    """Process that a fork server started."""

    def __init__(self, server: _ForkServer, number: int) -> None:
        self._server, self._number = server, number

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; ``None`` while it runs."""
        return self._server.code(self._number)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        self._server.send(self._number, number)


_server: _ForkServer | None = None
"""The one of this process."""


def _end_server() -> None:
    global _server
    if _server is not None:
        _server.close()
    _server = None
