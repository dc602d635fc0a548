"""Head of a cluster: prove that workers see the folders, queue jobs, send lost ones elsewhere, say how far they are."""

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from levelground.config import DeviceOptions, RunOptions
from levelground.console import LINE_EVERY_S, duration, say, say_counted
from levelground.errors import INTERRUPTED, UnfinishedError, UnlikeError, last_line
from levelground.records import atomic_path
from levelground.scaling import processes
from levelground.scaling.engines import open_executor
from levelground.scaling.executors import ClusterOptions, Ended, Executor, job_environment
from levelground.scaling.jobs import (
    CLUSTER_FOLDER,
    ENDED,
    LOG_FILE,
    Job,
    JobStatus,
    Progress,
    RunTask,
    job_folder,
    job_progress,
    read_status,
    run_title,
    unfinished,
    write_job,
    write_status,
)
from levelground.signals import stop_signals
from levelground.wording import gettext

if TYPE_CHECKING:
    from levelground.datasets.dataset import Dataset
    from levelground.training.run_spec import RunSpec

MAX_LOSSES = 3
"""How often in a row a job may be lost without having got further, before it counts as failed."""
POLL_S = 0.2
ASK_EVERY_S = 5.0
"""How often the engine is asked whether it can run jobs at all, seconds."""
NO_WORKER_S = 45.0
"""How long nothing may be able to run the jobs before the head gives up, seconds; they go on with the next call."""


@dataclass(frozen=True)
class Failure:
    """Job that could not be done.

    Attributes:
        job: The job.
        where: The machine; empty where it is not known.
        reason: Why, in one line.
    """

    job: Job
    where: str
    reason: str


@dataclass
class _Tries:
    """What the head knows of a job beside its status file."""

    started: bool = False
    losses: int = 0
    step: int = -1
    """The step that it had reached when it was lost last."""
    began: float = 0.0
    seconds: float | None = None
    """How long it took, once it is done."""


def train_elsewhere(
    runs: "Sequence[tuple[RunSpec, Dataset]]",
    study: Path,
    options: ClusterOptions,
    device_options: DeviceOptions,
    run_options: RunOptions,
) -> dict[str, str]:
    """Train and evaluate runs of a study on a cluster; those that are done already are left alone.

    Args:
        runs: Each run, with the data set in whose folder it lies.
        study: The study's folder.
        options: Which cluster, and what each run gets of it.
        device_options: Device, precision and threads of each run.
        run_options: Loader processes and saved states of each run.
    Returns:
        Where and why runs failed, by their folder below the study.
    Raises:
        ConfigError: The cluster cannot be used.
        UnlikeError: A worker does not see the study, or has other versions of levelground or torch.
        KeyboardInterrupt: It was stopped; jobs are cancelled, their states are saved.
    """
    cpus, device_options = job_resources(options, device_options)
    study, jobs = study.resolve(), {}
    for spec, dataset in runs:
        task = run_task(spec, dataset, run_options)
        name = run_title(study, task.study, task.run)
        job = Job(name, task, device_options, tuple(sys.argv[1:]), job_folder(study / CLUSTER_FOLDER, name))
        if not _is_done(spec, dataset, device_options):
            jobs[job.folder] = job
    if len(jobs) < len(runs):
        say("Runs that are done already: %(done)s of %(n)s.", done=len(runs) - len(jobs), n=len(runs))
    scratch, caches = study / CLUSTER_FOLDER, {dataset.cache.resolve() for _, dataset in runs}
    failures = run_jobs(list(jobs.values()), options, cpus=cpus, scratch=scratch / ".engine", shared=[study, *caches])
    return {_below(study, one.job): f"on {one.where or 'an unknown machine'}: {one.reason}" for one in failures}


def job_resources(options: ClusterOptions, device_options: DeviceOptions) -> tuple[int, DeviceOptions]:
    """Return the CPUs of each job, and its device options: as many threads where no number is asked for."""
    from levelground.runtime import available_cores

    cpus = options.cpus(device_options.threads, available_cores())
    return cpus, replace(device_options, threads=device_options.threads or cpus)


def import_ahead(options: ClusterOptions, device_options: DeviceOptions) -> None:
    """Let the process from which local jobs are forked import torch while the head does.

    Args:
        options: Which cluster; only ``local:N`` is concerned.
        device_options: Gives the threads of each job.
    """
    if options.kind == "local":
        cpus, _ = job_resources(options, device_options)
        processes.import_ahead({**os.environ, **job_environment(cpus)})


def _below(study: Path, job: Job) -> str:
    """Return the folder of a job's run below the study."""
    assert isinstance(job.task, RunTask)
    return (job.task.study / "runs" / job.task.run).relative_to(study).as_posix()


def run_task(spec: "RunSpec", dataset: "Dataset", run_options: RunOptions, *, evaluate: bool = True) -> RunTask:
    """Describe a run as the task of a job.

    Args:
        spec: What to train.
        dataset: The data set in whose folder it lies.
        run_options: How it is computed and saved.
        evaluate: Whether it is evaluated on the test scenes.
    """
    from levelground.training.run_spec import find_run

    place = dataset.folder.resolve()
    init = None if spec.init is None else "::".join(filter(None, (str(spec.init.path.resolve()), spec.init.part)))
    return RunTask(
        study=place,
        run=find_run(spec, dataset, place)[0].name,
        arch=spec.arch,
        seed=spec.seed,
        twin=spec.twin,
        recipe=spec.recipe,
        budget=spec.budget,
        run_options=run_options,
        init=init,
        init_arch=None if spec.init is None else spec.init.arch,
        tuning=spec.tuning,
        limits=spec.limits,
        evaluate=evaluate,
    )


def _is_done(spec: "RunSpec", dataset: "Dataset", device_options: DeviceOptions) -> bool:
    """Tell whether a run is trained and evaluated, as a job with these options would do it."""
    from levelground.evaluation.evaluate import evaluation_identity, is_evaluated, log_test_evaluation
    from levelground.models.spec import run_geometry
    from levelground.tile_geometry import OWN_TILES, choose_geometry
    from levelground.training.run_spec import find_run

    run = find_run(spec, dataset, dataset.folder)[1]
    entry = run.card.evaluations.get("test") if run is not None else None
    if run is None or entry is None or run.card.status != "finished":
        return False
    geometry = choose_geometry(run_geometry(run), OWN_TILES, device=entry.device or "cpu")
    if device_options.precision not in ("auto", entry.precision):
        return False
    done = is_evaluated(run, "test", evaluation_identity(run, dataset, "test", geometry, entry.precision or ""))
    if done:
        log_test_evaluation(run, dataset)
    return done


def run_jobs(
    jobs: Sequence[Job], options: ClusterOptions, *, cpus: int, scratch: Path, shared: Sequence[Path]
) -> list[Failure]:
    """Run jobs on a cluster until each is done or has failed.

    Args:
        jobs: The jobs, those to start first at the front.
        options: Which cluster, and what each job gets of it.
        cpus: CPUs of each job.
        scratch: A folder that all machines see, for the engine's own files.
        shared: Folders that all machines have to see.
    Returns:
        The jobs that failed.
    Raises:
        ConfigError: The cluster does not answer or has no machine with what a job needs.
        UnlikeError: A worker does not see the folders, or has other versions of levelground or torch.
        UnfinishedError: For some time nothing could run the jobs; what is done stays.
        KeyboardInterrupt: It was stopped; jobs are cancelled, their states are saved.
    """
    if not jobs:
        return []
    with _proofs(shared) as proofs, contextlib.closing(open_executor(options, proofs, cpus, scratch)) as executor:
        executor.check()
        return _Head(jobs, executor, options).run()


@contextlib.contextmanager
def _proofs(folders: Sequence[Path]) -> Iterator[dict[Path, str]]:
    """Put a file with a random text into each folder: who reads the text sees the folder, not one of the same name."""
    proofs = {folder / f".proof-{secrets.token_hex(8)}": secrets.token_hex(16) for folder in dict.fromkeys(folders)}
    try:
        for path, text in proofs.items():
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="ascii")
        yield proofs
    finally:
        for path in proofs:
            path.unlink(missing_ok=True)


@dataclass
class _Head:
    """Loop over the jobs of one call."""

    jobs: Sequence[Job]
    executor: Executor
    options: ClusterOptions
    failures: list[Failure] = field(default_factory=list)
    stopping: bool = False
    said_at: float = 0.0
    asked_at: float = 0.0
    able_at: float = 0.0
    """When something could run the jobs last."""
    at_once: int = 1
    """The most jobs that were seen to run at a time."""

    def __post_init__(self) -> None:
        self.open = {job.folder: job for job in self.jobs}
        self.tries = {job.folder: _Tries() for job in self.jobs}

    def run(self) -> list[Failure]:
        with stop_signals(self._ask_to_stop):
            for job in self.jobs:
                write_job(job)
                self.executor.submit(job.folder)
            say_counted(
                "%(n)s job is queued on %(cluster)s. levelground jobs shows what runs where.",
                "%(n)s jobs are queued on %(cluster)s. levelground jobs shows what runs where.",
                len(self.jobs),
                cluster=self.options.cluster,
            )
            self.said_at = self.asked_at = self.able_at = time.monotonic()
            while self.open:
                if self.stopping:
                    self._cancel()
                self._ask_engine()
                for folder, end in self.executor.ended():
                    self._note_end(self.open[folder], end)
                self._note_starts()
                if time.monotonic() - self.said_at >= LINE_EVERY_S:
                    self._say_progress()
                time.sleep(POLL_S)
        return self.failures

    def _ask_to_stop(self) -> None:
        self.stopping = True

    def _ask_engine(self) -> None:
        """Give up where nothing could run the jobs for some time, as with a cluster that is gone."""
        now = time.monotonic()
        if now - self.asked_at < ASK_EVERY_S:
            return
        problem, self.asked_at = self.executor.problem(), now
        if not problem:
            self.able_at = now
        elif now - self.able_at >= NO_WORKER_S:
            for job in unfinished(self.open.values()):
                write_status(job.folder, JobStatus("stopped"))
            done = f"{len(self.jobs) - len(self.open)} of {len(self.jobs)} jobs are done"
            raise UnfinishedError(
                f"--cluster {self.options.cluster}: {problem}, for {duration(now - self.able_at)} by now; {done}. "
                "Nothing is lost: mend the cluster and give the same command."
            )

    def _cancel(self) -> None:
        say("Cancelling the jobs; those that run save their state.")
        self.executor.cancel()
        for job in unfinished(self.open.values()):
            write_status(job.folder, JobStatus("stopped"))
        say("All jobs are cancelled and nothing is lost: the same command goes on from here.")
        raise KeyboardInterrupt

    def _note_starts(self) -> None:
        """Say which jobs started, and where."""
        for folder, job in self.open.items():
            tries, status = self.tries[folder], None if self.tries[folder].started else read_status(folder)
            if status is not None and status.state not in ENDED:
                tries.started, tries.began = True, time.monotonic()
                say(
                    "%(name)s: started on %(host)s, process %(process)s",
                    name=job.name,
                    host=status.host,
                    process=status.process,
                )
        self.at_once = max(self.at_once, sum(self.tries[folder].started for folder in self.open))

    def _note_end(self, job: Job, end: Ended) -> None:
        """Decide what the end of a job's process means: done, failed, lost, or a worker to be refused."""
        status = read_status(job.folder) or JobStatus("starting")
        if end.refusal:
            self.executor.cancel()
            raise UnlikeError(f"{job.name}: {end.refusal}")
        if status.state == "finished":
            self._finish(job, status)
        elif status.state == "failed" and end.code is not None and end.code > 0:
            self._fail(job, end.host or status.host, status.error)
        elif end.code is None or end.code < 0 or end.code == INTERRUPTED:
            self._lose(job, end, status)
        else:
            self._fail(job, end.host, f"exit status {end.code}: {_last_words(job.folder / LOG_FILE)}")

    def _finish(self, job: Job, status: JobStatus) -> None:
        tries = self.tries[job.folder]
        tries.seconds = max(0.0, time.time() - status.since) if status.since else 0.0
        del self.open[job.folder]
        done = len(self.jobs) - len(self.open)
        left = self._left()
        text = gettext(
            "%(name)s: finished on %(host)s in %(time)s; %(done)s of %(n)s are done",
            name=job.name,
            host=status.host,
            time=duration(tries.seconds),
            done=done,
            n=len(self.jobs),
        )
        say(f"{text}, {_time_left(left)}" if left else text)

    def _fail(self, job: Job, where: str, reason: str) -> None:
        if read_status(job.folder) is None or not reason:
            reason = reason or "its process ended without a word"
        write_status(job.folder, JobStatus("failed", host=where, error=reason))
        self.failures.append(Failure(job, where, reason))
        del self.open[job.folder]
        if where:
            say("%(name)s: failed on %(host)s: %(reason)s", name=job.name, host=where, reason=reason)
        else:
            say("%(name)s: failed: %(reason)s", name=job.name, reason=reason)

    def _lose(self, job: Job, end: Ended, status: JobStatus) -> None:
        """Queue a job again whose process or machine is gone, unless that happens again and again."""
        tries, where = self.tries[job.folder], end.host or status.host
        step = job_progress(job).step
        tries.losses = tries.losses + 1 if step <= tries.step else 1
        tries.step, tries.started = max(step, tries.step), False
        why = f"killed by signal {-end.code}" if end.code is not None and end.code < 0 else end.reason or "ended"
        if tries.losses >= MAX_LOSSES:
            self._fail(job, where, f"was lost {tries.losses} times without getting further, the last time {why}")
            return
        if where:
            say(
                "%(name)s: lost on %(host)s (%(why)s); queued again, it goes on from its state",
                name=job.name,
                host=where,
                why=why,
            )
        else:
            say("%(name)s: lost (%(why)s); queued again, it goes on from its state", name=job.name, why=why)
        write_job(job)
        self.executor.submit(job.folder)

    def _say_progress(self) -> None:
        """Say what runs where, with the time left of each and of all."""
        self.said_at = time.monotonic()
        parts = []
        for folder, job in self.open.items():
            status = read_status(folder) if self.tries[folder].started else None
            if status is not None:
                parts.append(progress_text(job.name, status, job_progress(job)))
        done, left = len(self.jobs) - len(self.open), self._left()
        waiting = len(self.open) - len(parts)
        text = [
            gettext(
                "jobs done: %(done)s of %(n)s, running: %(run)s, waiting: %(wait)s",
                done=done,
                n=len(self.jobs),
                run=len(parts),
                wait=waiting,
            )
        ]
        text += [_time_left(left)] if left else []
        say("; ".join([", ".join(text), *parts]))

    def _left(self) -> float | None:
        """Estimate the time until all jobs are done, seconds; ``None`` where nothing tells yet."""
        taken = [tries.seconds for tries in self.tries.values() if tries.seconds]
        running = {f: job_progress(job).left_s for f, job in self.open.items() if self.tries[f].started}
        known = [left for left in running.values() if left is not None]
        whole = taken + [
            time.monotonic() - self.tries[f].began + left for f, left in running.items() if left is not None
        ]
        if not whole or not self.open:
            return None
        mean = sum(whole) / len(whole)
        todo = sum(known) + mean * (len(self.open) - len(known))
        return max(todo / self.at_once, max(known, default=0.0))


def progress_text(name: str, status: JobStatus, progress: Progress) -> str:
    """Describe a job that runs: where, how far, how long it will take."""
    parts = [f"{name} on {status.host}: {status.state}"]
    if progress.step:
        parts.append(f"step {progress.step}" + (f" of {progress.steps}" if progress.steps else ""))
    if progress.val_miou is not None:
        parts.append(f"validation mIoU {progress.val_miou:.3f}")
    if progress.left_s:
        parts.append(f"{duration(progress.left_s)} left")
    return ", ".join(parts)


def _last_words(path: Path) -> str:
    """Return the last line that a job's process wrote."""
    try:
        text = path.read_bytes()[-4000:].decode("utf-8", "replace")
    except OSError:
        text = ""
    return last_line(text) or "it wrote nothing"


def _time_left(seconds: float) -> str:
    return gettext("about %(time)s left", time=duration(seconds))
