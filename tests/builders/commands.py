"""Commands as processes of their own, forked from one that has imported torch and its libraries, once for all tests.

A test that wants a real process to kill, to signal or to run out of memory would otherwise pay seconds of imports each
time. What is asserted of imports, of start-up and of new interpreters takes ``subprocess`` itself.
"""

import atexit
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

START_S = 200.0
"""How long the imports may take where others use the machine, seconds."""

_LONGEST = 1 << 18  # bytes of a request


class Process:
    """A process that was forked for a test, with the part of :class:`subprocess.Popen` that tests use."""

    def __init__(self, pid: int, stdout: int, stderr: int) -> None:
        """Keep the number of the process and the pipes that it writes to."""
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = os.fdopen(stdout, encoding="utf-8", errors="replace")
        self.stderr = os.fdopen(stderr, encoding="utf-8", errors="replace")

    def __del__(self) -> None:
        for pipe in (self.stdout, self.stderr):
            pipe.close()

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; ``None`` while it runs."""
        if self.returncode is None:
            _Server.running().receive(0)
            self.returncode = _Server.running().codes.get(self.pid)
        return self.returncode

    def wait(self, timeout: float = 300.0) -> int:
        """Wait for its end."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            _Server.running().receive(0.05)
        return code

    def communicate(self, timeout: float = 300.0) -> tuple[str, str]:
        """Read what it writes until nobody holds its pipes any longer, and wait for its end."""
        deadline, said = time.monotonic() + timeout, {self.stdout: b"", self.stderr: b""}
        pipes = [pipe for pipe in said if not pipe.closed]
        while pipes:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            for pipe in select.select(pipes, [], [], 0.2)[0]:
                chunk = os.read(pipe.fileno(), 1 << 16)
                said[pipe] += chunk
                if not chunk:
                    pipes.remove(pipe)
                    pipe.close()
        self.wait(max(0.1, deadline - time.monotonic()))
        out, err = (text.decode("utf-8", "replace") for text in said.values())
        return out, err

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def start_command(*arguments: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> Process:
    """Start ``levelground ARGUMENTS`` in a session of its own.

    Args:
        arguments: Command and flags.
        cwd: Its working directory.
        environment: Variables beside those of this process.
    """
    return _Server.running().start({"arguments": arguments}, cwd, environment)


def start_code(code: str, *arguments: str) -> Process:
    """Start a program as ``python -c CODE ARGUMENTS`` does, in a session of its own."""
    return _Server.running().start({"code": code, "arguments": arguments}, None, None)


def run_code(code: str, *arguments: str) -> str:
    """Run a program to its end and return what it printed; one that fails fails the test."""
    process = start_code(code, *arguments)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


class _Server:
    """The process that forks, as this one sees it."""

    _one: "_Server | None" = None

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.codes: dict[int, int] = {}
        self._started: list[int] = []
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "TORCH_CPP_LOG_LEVEL": "ERROR",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "builders.commands", str(theirs.fileno()), "levelground"],
            pass_fds=[theirs.fileno()],
            env=environment,
            start_new_session=True,
        )
        theirs.close()
        atexit.register(self.close)

    @classmethod
    def running(cls) -> "_Server":
        """Return the one of this process."""
        if cls._one is None or cls._one.process.poll() is not None:
            cls._one = cls()
        return cls._one

    def close(self) -> None:
        """End it, and with it what it forked."""
        self._ours.close()
        self.process.wait()

    def receive(self, wait_s: float) -> None:
        """Take note of what it tells."""
        while select.select([self._ours], [], [], wait_s)[0]:
            told = self._ours.recv(_LONGEST)
            assert told, "the process that forks has ended"
            answer = json.loads(told)
            if "code" in answer:
                self.codes[answer["pid"]] = answer["code"]
            else:
                self._started.append(answer["pid"])
            wait_s = 0

    def start(
        self, request: Mapping[str, object], cwd: Path | None, environment: Mapping[str, str] | None
    ) -> "Process":
        """Fork a process."""
        pipes = os.pipe(), os.pipe()
        where = {"cwd": str(cwd or Path.cwd()), "environment": {**os.environ, **(environment or {})}}
        written = [pipe[1] for pipe in pipes]
        socket.send_fds(self._ours, [json.dumps({**request, **where}).encode()], written)
        for end in written:
            os.close(end)
        deadline = time.monotonic() + START_S
        while not self._started:
            assert time.monotonic() < deadline
            self.receive(1.0)
        return Process(self._started.pop(), pipes[0][0], pipes[1][0])


def _serve(channel: socket.socket) -> Mapping[str, object] | None:
    """Fork a process for each request.

    Returns:
        The request, in a process that was forked; ``None`` when the one that asks is gone.
    """
    children: set[int] = set()
    while True:
        asked = select.select([channel], [], [], 0.02 if children else None)[0]
        for child in list(children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                children.remove(child)
                channel.send(json.dumps({"pid": child, "code": os.waitstatus_to_exitcode(status)}).encode())
        if not asked:
            continue
        text, pipes, *_ = socket.recv_fds(channel, _LONGEST, 2)
        if not text:
            for child in children:
                os.killpg(child, signal.SIGKILL)
            return None
        request: Mapping[str, object] = json.loads(text)
        child = os.fork()
        if not child:
            channel.close()
            _become(request, pipes)
            return request
        children.add(child)
        for pipe in pipes:
            os.close(pipe)
        channel.send(json.dumps({"pid": child}).encode())


def _become(request: Mapping[str, object], pipes: Sequence[int]) -> None:
    """Make a fork what a new process would be: a session, streams, a folder, variables, and the name of the program."""
    os.setsid()
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have started the tests
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in zip((nothing, *pipes), range(3), strict=True):
        os.dup2(source, target)
        os.close(source)
    os.chdir(str(request["cwd"]))
    environment = request["environment"]
    assert isinstance(environment, dict)
    os.environ.update(environment)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    spec = importlib.util.find_spec("levelground.__main__")
    assert spec is not None and spec.origin is not None
    arguments = request["arguments"]
    assert isinstance(arguments, list)
    sys.modules["__main__"].__spec__ = spec  # what starts further processes of this program asks for it
    sys.argv = [spec.origin, *arguments]


def _main() -> NoReturn:
    """Import what commands need, serve, and do in a fork what is asked of it."""
    import lightning_fabric  # noqa: F401

    import levelground.pipeline
    import levelground.prediction.predict
    import levelground.training.prepare_run  # noqa: F401
    from levelground.cli import main

    with socket.socket(fileno=int(sys.argv[1])) as channel:
        request = _serve(channel)
    if request is None:
        sys.exit(0)
    if "code" in request:
        exec(compile(str(request["code"]), "<string>", "exec"), {"__name__": "__main__"})
        sys.exit(0)
    sys.exit(main())


if __name__ == "__main__":
    _main()
