"""Jobs on disk: what each is to do, where it runs and how far it is, in a folder that all machines see."""

import contextlib
import dataclasses
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from levelground.config import Budget, DeviceOptions, PredictOptions, Recipe, RunOptions
from levelground.errors import MissingRecordError, RecordError
from levelground.files import atomic_path, folder_holder
from levelground.history import HistoryLine, read_history
from levelground.reading import parse_json, read_text
from levelground.recipe_files import TuningRecord
from levelground.runs import Run, budget_folder, list_runs, read_run

CLUSTER_FOLDER = "cluster"
"""In a study: the folder of its jobs, one folder each."""
JOB_FILE, STATUS_FILE, LOG_FILE = "job.json", "status.json", "log.txt"

BEAT_S = 5.0
"""How often a job touches its status, seconds."""
SILENT_S = 60.0
"""A job whose status was not touched for so long is not heard of, seconds."""

_PLAIN = ConfigDict(extra="forbid")

State = Literal["starting", "waiting", "training", "evaluating", "predicting", "finished", "failed", "stopped"]
ENDED = ("finished", "failed", "stopped")


@dataclass(frozen=True, config=_PLAIN)
class RunTask:
    """Training and test evaluation of one run, in the folder of its data set."""

    study: Path
    """Folder of the data set: the study, a fold of it, or a share of its budget."""
    run: str
    """Name of the run's folder."""
    arch: str
    seed: int
    twin: bool
    recipe: Recipe
    budget: Budget
    run_options: RunOptions
    init: str | None = None
    """Whole network that it starts from, ``PATH`` or ``PATH::PART``."""
    init_arch: str | None = None
    tuning: TuningRecord | None = None
    limits: tuple[float, ...] = ()
    """Least best validation mIoU so far at each validation, below which it ends."""
    evaluate: bool = True
    """Whether it is evaluated on the test scenes; a trial of a tuning is not."""


@dataclass(frozen=True, config=_PLAIN)
class MapTask:
    """Map of one raster or image, and what is written beside it."""

    model: Path
    inputs: tuple[str, ...]
    """All files, folders and patterns, which decide where outputs go."""
    out: Path
    name: str
    """The input that is predicted, by its path below the folder that was given."""
    options: PredictOptions
    legend: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    code: str | None = None


@dataclass(frozen=True, config=_PLAIN)
class Job:
    """What one process is to do."""

    name: str
    """How lines name it."""
    task: RunTask | MapTask
    device_options: DeviceOptions
    command: tuple[str, ...]
    """Arguments of the process that asked for it, for the log of test evaluations."""
    folder: Path
    """The job's own folder."""


@dataclass(frozen=True, config=_PLAIN)
class JobStatus:
    """How a job is getting on; the time of its file says when it was last heard of."""

    state: State
    host: str = ""
    process: int = 0
    since: float = 0.0
    """When its process started, seconds since 1970."""
    error: str = ""
    """Why it failed, in one line."""


def job_folder(root: Path, name: str) -> Path:
    """Return the folder of a job.

    Example:
        >>> job_folder(Path("study/cluster"), "folds/1/unet-s0").as_posix()
        'study/cluster/folds~1~unet-s0'
    """
    return root / name.replace("/", "~")


def write_job(job: Job) -> None:
    """Write what a job is to do, and that nothing is known of it yet.

    Raises:
        DiskError: It cannot be written.
    """
    with atomic_path(job.folder / JOB_FILE) as temporary:
        temporary.write_bytes(TypeAdapter(Job).dump_json(job, indent=1))
    (job.folder / STATUS_FILE).unlink(missing_ok=True)


def read_job(folder: Path) -> Job:
    """Read what a job is to do.

    Raises:
        RecordError: The file is missing or damaged.
    """
    path = folder / JOB_FILE
    try:
        job: Job = TypeAdapter(Job).validate_python(parse_json(read_text(path)))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read as a job. Give the command that made it again.") from error
    return job


def write_status(folder: Path, status: JobStatus) -> None:
    """Write how a job is getting on, without waiting for the disk.

    Raises:
        DiskError: It cannot be written.
    """
    with atomic_path(folder / STATUS_FILE, durable=False) as temporary:
        temporary.write_bytes(TypeAdapter(JobStatus).dump_json(status))


def read_status(folder: Path) -> JobStatus | None:
    """Return how a job is getting on; ``None`` where nothing was heard of it yet."""
    try:
        status: JobStatus = TypeAdapter(JobStatus).validate_python(parse_json(read_text(folder / STATUS_FILE)))
    except (OSError, ValueError, ValidationError):
        return None
    return status


def silent_s(folder: Path) -> float:
    """Return for how long nothing was heard of a job, seconds; infinite where nothing ever was."""
    try:
        return max(0.0, time.time() - (folder / STATUS_FILE).stat().st_mtime)
    except OSError:
        return float("inf")


def touch_status(folder: Path) -> None:
    """Show that a job lives."""
    with contextlib.suppress(OSError):
        os.utime(folder / STATUS_FILE)


def list_jobs(root: Path) -> list[Job]:
    """List the jobs of a folder by name.

    Raises:
        RecordError: One is damaged.
    """
    return [read_job(path.parent) for path in sorted(root.glob(f"*/{JOB_FILE}"))]


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Steps done.
        steps: Steps of the whole run; ``None`` where they are not known.
        loss: The last training loss.
        val_miou: The last validation mIoU.
        images_per_s: The last speed of training.
        left_s: Time left, seconds; ``None`` where nothing tells.
    """

    step: int = 0
    steps: int | None = None
    loss: float | None = None
    val_miou: float | None = None
    images_per_s: float | None = None
    left_s: float | None = None


def run_progress(folder: Path) -> Progress:
    """Return how far a run is, from its card and history."""
    try:
        run, lines = read_run(folder), read_history(folder)
    except MissingRecordError:  # not begun
        return Progress()
    steps = run.card.budget.steps if run.card.budget else None
    if run.card.status in ("finished", "joined"):
        done = run.card.steps_done or 0
        return Progress(done, steps, left_s=0.0, val_miou=run.card.selection.value)
    return _progress_of(run, lines, steps)


def _progress_of(run: Run, lines: Sequence[HistoryLine], steps: int | None) -> Progress:
    trained = [line for line in lines if line.kind == "step"]
    scored = [line for line in lines if line.kind == "val"]
    step = max([run.card.steps_done or 0, *(line.step for line in lines)])
    recent = [line.images_per_s for line in trained[-20:] if line.images_per_s]
    rate = statistics.median(recent) if recent else None
    pace = scored[-1].time_s / scored[-1].step if scored and scored[-1].time_s and scored[-1].step else None
    if pace is None and rate and run.card.recipe is not None:
        pace = run.card.recipe.batch / rate
    return Progress(
        step=step,
        steps=steps,
        loss=trained[-1].train_loss if trained else None,
        val_miou=scored[-1].val_miou if scored else None,
        images_per_s=rate,
        left_s=None if pace is None or steps is None else pace * max(0, steps - step),
    )


@dataclasses.dataclass(frozen=True)
class RunRow:
    """A run as ``levelground jobs`` lists it.

    Attributes:
        name: The run, with its fold or share of the budget.
        state: What it is doing.
        where: Machine and process; empty where nothing runs.
        progress: How far it is.
        silent_s: For how long nothing was heard of its process, seconds; ``None`` where none is at work.
        error: Why it failed.
    """

    name: str
    state: str
    where: str
    progress: Progress
    silent_s: float | None = None
    error: str = ""


def check_study_folder(study: Path) -> None:
    """Refuse a folder that is not a study's.

    Raises:
        RecordError: There is no data set in it.
    """
    if not (study / "dataset.json").exists():
        raise RecordError(f"{study}: is not a study folder (it has no dataset.json). Give the --out of the study.")


def study_rows(study: Path) -> list[RunRow]:
    """List all runs of a study, those of its folds and shorter budgets too: what runs where, and how far it is."""
    jobs = {_run_folder(job): job for job in study_jobs(study)}
    holder = folder_holder(study)
    rows = []
    for folder in data_folders(study):
        for run in list_runs(folder):
            name = run_title(study, folder, run.name)
            job = jobs.pop((folder / "runs" / run.folder.name).resolve(), None)
            rows.append(_own_row(name, run, holder) if job is None else _job_row(name, job))
    return rows + [_job_row(job.name, job) for job in jobs.values()]


def _run_folder(job: Job) -> Path:
    """Return the folder of a job's run; of a map the job's own, which holds none."""
    return job.task.study / "runs" / job.task.run if isinstance(job.task, RunTask) else job.folder


def job_progress(job: Job) -> Progress:
    """Return how far a job is; nothing of a map, whose log tells."""
    return run_progress(_run_folder(job))


def study_jobs(study: Path) -> list[Job]:
    """List the jobs of a study's runs."""
    return list_jobs(study / CLUSTER_FOLDER)


def data_folders(study: Path) -> list[Path]:
    """List the folders of a study that hold runs: its own, those of its folds, and those of shorter budgets."""
    roots = [study, *sorted(path for path in budget_folder(study, 1).parent.glob("*") if path.is_dir())]
    return [folder for root in roots for folder in (root, *sorted((root / "folds").glob("*"))) if folder.is_dir()]


def run_title(study: Path, folder: Path, run: str) -> str:
    """Return how a run is named beside those of other folds and budgets.

    Example:
        >>> run_title(Path("study"), Path("study/folds/1"), "unet-s0")
        'folds/1/unet-s0'
    """
    part = folder.relative_to(study).as_posix()
    return run if part == "." else f"{part}/{run}"


def _job_row(name: str, job: Job) -> RunRow:
    status, progress = read_status(job.folder), run_progress(_run_folder(job))
    if status is None:
        return RunRow(name, "waiting", "", progress)
    where, silent = f"{status.host}, process {status.process}", silent_s(job.folder)
    if status.state in ENDED:
        return RunRow(name, status.state, where, progress, error=status.error)
    state = status.state if silent < SILENT_S else "lost"
    return RunRow(name, state, where, progress, silent_s=silent)


def _own_row(name: str, run: Run, holder: str) -> RunRow:
    """Describe a run that no job is for: another command trains it, has trained it, or was killed."""
    progress, status = run_progress(run.folder), run.card.status
    if status != "training":
        return RunRow(name, status, "", progress)
    return RunRow(name, "training" if holder else "killed", holder, progress)


def unfinished(jobs: Iterable[Job]) -> Iterator[Job]:
    """Yield the jobs that have not ended well or badly."""
    for job in jobs:
        status = read_status(job.folder)
        if status is None or status.state not in ENDED:
            yield job
