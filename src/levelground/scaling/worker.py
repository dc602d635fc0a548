"""Process of one job: train and evaluate one run, and note in its folder how far it is."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from levelground.console import say
from levelground.errors import INTERRUPTED, OUR_FAULT, USER_FAULT, LevelgroundError, one_line
from levelground.files import one_writer_after
from levelground.scaling.jobs import (
    BEAT_S,
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


def main(folder: Path) -> int:
    """Do the job of a folder.

    Args:
        folder: The job's folder.
    Returns:
        The exit status: 0, 2 where it cannot be done, 1 for our fault, 130 where it was stopped.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # jobs share their machine
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
    sys.exit(main(Path(sys.argv[1])))
