"""Process of one job, which trains and evaluates one run and notes how far it is; and a server that forks such ones."""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from levelground.console import say
from levelground.errors import INTERRUPTED, OUR_FAULT, USER_FAULT, LevelgroundError, one_line
from levelground.files import one_writer_after
from levelground.scaling.jobs import (
    BEAT_S,
    LOG_FILE,
    SILENT_S,
    STATUS_FILE,
    Job,
    JobStatus,
    MapTask,
    RunTask,
    State,
    read_job,
    silent_s,
    touch_status,
    write_status,
)
from levelground.signals import stop_with_starter

IDLE_S = 300.0
"""How long a fork server waits for another job before it ends, seconds."""


def serve() -> Path | None:
    """Fork a process for each job that is asked for on the standard input, until that ends or nothing is asked.

    Returns:
        The job's folder, in a process that was forked; ``None`` at the end.
    """
    children: dict[int, tuple[int, int]] = {}
    text = b""
    while True:
        idle = not children
        asked = select.select([0], [], [], IDLE_S if idle else 0.05)[0]
        _note_ends(children)
        chunk = os.read(0, 1 << 16) if asked else b""
        if not chunk and (asked or idle):
            return None
        *lines, text = (text + chunk).split(b"\n")
        for request in map(json.loads, lines):
            if "signal" in request:
                if request["number"] in children:
                    os.kill(children[request["number"]][0], request["signal"])
                continue
            _import_for(request["folder"])
            if request["folder"] is None:
                continue
            _answer({})  # from now on signals reach the process
            if _fork(request, children):
                return Path(request["folder"])


def _note_ends(children: dict[int, tuple[int, int]]) -> None:
    """Tell of the processes that ended, each a number with its process and what it reads from."""
    for number, (process, pipe) in list(children.items()):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            os.close(pipe)
            del children[number]
            _answer({"number": number, "code": os.waitstatus_to_exitcode(status)})


def _fork(request: Mapping[str, Any], children: dict[int, tuple[int, int]]) -> bool:
    """Fork a process for a job; tell whether this is it."""
    lifeline, pipe = os.pipe()
    process = os.fork()
    if process:
        os.close(lifeline)
        children[request["number"]] = process, pipe
        return False
    for other in (pipe, *(pipe for _, pipe in children.values())):
        os.close(other)  # else it would hold open what tells the others that the server is gone
    _become(request, lifeline)
    return True


def _answer(answer: Mapping[str, int]) -> None:
    with contextlib.suppress(OSError):  # who asked is gone, which the end of the input tells
        os.write(1, json.dumps(answer).encode() + b"\n")


def _import_for(folder: str | None) -> None:
    """Import what a job, or without one any training, needs that takes long; its own process names what fails."""
    with contextlib.suppress(Exception):
        task = None if folder is None else read_job(Path(folder)).task
        if isinstance(task, MapTask):
            import levelground.prediction.predict
            from levelground.models.loading import choose_engine

            if choose_engine(task.model, task.options.engine, task.options, "cpu") == "torch":
                import levelground.models.smp_backend
            return
        import lightning_fabric  # noqa: F401

        import levelground.pipeline
        import levelground.training.prepare_run  # noqa: F401


def _become(request: Mapping[str, Any], lifeline: int) -> None:
    """Make a fork what a new process of its job would be: a session, input, output, variables, and a folder."""
    os.setsid()
    log = os.open(Path(request["folder"]) / LOG_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for source, target in ((lifeline, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for source in (lifeline, log):
        os.close(source)
    for name in request["unset"]:
        os.environ.pop(name, None)
    os.environ.update(request["set"])
    with contextlib.suppress(OSError):
        os.chdir(request["cwd"])


def main(folder: Path) -> int:
    """Do the job of a folder.

    Args:
        folder: The job's folder.
    Returns:
        The exit status: 0, 2 where it cannot be done, 1 for our fault, 130 where it was stopped.
    """
    report = _Report(folder)
    try:
        job = read_job(folder)
        sys.argv = ["levelground", *job.command]  # for locks and for the log of test evaluations
        stop_with_starter()
        _stop_before_slurm()
        with report.alone(), report.beating():
            if isinstance(job.task, MapTask):
                _map(job, job.task, report)
            else:
                _train(job, job.task, report)
        report.tell("finished")
    except KeyboardInterrupt:
        report.tell("stopped")
        return INTERRUPTED
    except LevelgroundError as error:
        report.fail(f"{type(error).__name__}: {one_line(str(error))}")
        return USER_FAULT
    except Exception as error:
        traceback.print_exc()
        text = one_line(str(error).strip().splitlines()[0] if str(error).strip() else "")
        report.fail(f"{type(error).__name__}: {text} (a fault of levelground: its log.txt has the rest)")
        return OUR_FAULT
    return 0


class _Report:
    """Status file of a job, as its process writes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status = JobStatus("starting", socket.gethostname(), os.getpid(), time.time())

    def tell(self, state: State) -> None:
        """Write what the process is doing now."""
        self.status = replace(self.status, state=state)
        write_status(self.folder, self.status)

    def fail(self, error: str) -> None:
        """Write why the job failed; on a full disk the head reads it in the log."""
        say(error)
        self.status = replace(self.status, state="failed", error=error)
        with contextlib.suppress(LevelgroundError):
            write_status(self.folder, self.status)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the job's folder; wait for a process that holds it and is alive, such as one cut off from its head."""

        def waits() -> bool:
            if (self.folder / STATUS_FILE).exists() and silent_s(self.folder) > 2 * SILENT_S:
                return False
            say("waiting for the process that has this job")
            return True

        with one_writer_after(self.folder, waits, poll_s=BEAT_S / 2):
            self.tell("starting")
            yield

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Touch the status every few seconds."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_S):
                touch_status(self.folder)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _stop_before_slurm() -> None:
    """Stop, as after Ctrl-C, at Slurm's word that the time is nearly over: the job is then queued again."""
    for name in ("SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def _map(job: Job, task: MapTask, report: _Report) -> None:
    """Predict one input."""
    from levelground.models.loading import open_predictor
    from levelground.prediction.predict import predict_one

    model, runtime = open_predictor(
        task.model,
        task.options,
        job.device_options,
        legend=task.legend,
        mean=task.mean,
        std=task.std,
        code=task.code,
    )
    report.tell("predicting")
    predict_one(model, task.inputs, task.out, task.options, runtime, task.name, job.folder)


def _train(job: Job, task: RunTask, report: _Report) -> None:
    """Train and evaluate a run."""
    from levelground.datasets.dataset import read_dataset
    from levelground.models.own_networks import is_own, name_network
    from levelground.pipeline import train_and_evaluate
    from levelground.runtime import open_runtime
    from levelground.training.initial_weights import find_initial
    from levelground.training.prepare_run import train_run
    from levelground.training.run_spec import RunSpec

    if is_own(task.arch):
        name_network(task.arch)
    runtime = open_runtime(job.device_options, task.run_options)
    spec = RunSpec(task.arch, task.seed, task.recipe, task.budget, task.twin, None, task.tuning, task.limits)
    if task.init is not None:
        spec = replace(spec, init=find_initial(task.init, task.init_arch, task.recipe))
    report.tell("training")
    dataset = read_dataset(task.study)
    if not task.evaluate:
        train_run(spec, dataset, task.study, runtime, task.run_options)
        return
    train_and_evaluate(spec, dataset, runtime, task.run_options, on_trained=lambda: report.tell("evaluating"))


if __name__ == "__main__":
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # jobs share their machine
    job_given = Path(sys.argv[1]) if sys.argv[1:] else serve()
    sys.exit(0 if job_given is None else main(job_given))
