"""Maps on order: one folder a job, one child process at a time, and a queue that survives the server.

A job folder holds ``job.json`` (what was asked for), ``input/`` (an uploaded raster), ``maps/MODEL/`` (what `predict`
writes), ``image.tif`` and ``disagreement.tif`` (what the page shows besides) and ``summary.json`` (areas). The child
predicts through `predict`'s own checkpoint, so that a job that was killed goes on to the same bytes.
"""

import contextlib
import datetime
import json
import queue
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import StrictStr
from pydantic.dataclasses import dataclass as record_class

from levelground.config import PredictOptions
from levelground.console import say
from levelground.errors import RecordError, last_line, one_line
from levelground.prediction.inputs import InputFile, find_inputs
from levelground.prediction.resume import STATE_FILE
from levelground.reading import parse_json, read_text
from levelground.records import RECORD_CONFIG, OpenRecord, atomic_path, check_record, read_json, to_json, write_json
from levelground.wording import translated

Status = Literal["queued", "running", "done", "failed"]

JOB_FILE, SUMMARY_FILE, ERROR_FILE = "job.json", "summary.json", "error.txt"
IMAGE_FILE, DISAGREEMENT_FILE = "image.tif", "disagreement.tif"
OPTIONS = PredictOptions(polygons="gpkg")
"""How jobs are predicted: a map, its areas and its polygons."""

_JOB_NAME = re.compile("[0-9a-f]{16}")

_STOP_S = 20.0  # how long a child may take to save what it has


@record_class(frozen=True, config=RECORD_CONFIG)
class JobModel(OpenRecord):
    """A model of a job."""

    ALWAYS_WRITTEN: ClassVar[frozenset[str]] = frozenset({"name", "path", "rows"})

    name: StrictStr
    """Name on the page, and of its folder below ``maps/``."""
    path: StrictStr
    """Run folder, model folder or ONNX file."""
    rows: int = 0
    """Rows of tiles that it will predict."""


@record_class(frozen=True, config=RECORD_CONFIG)
class Job(OpenRecord):
    """What was asked for: a raster, and the models that map it."""

    KIND: ClassVar[str | None] = "map"
    ALWAYS_WRITTEN: ClassVar[frozenset[str]] = frozenset({"id", "raster", "source", "created", "models"})

    id: StrictStr
    """Name of its folder."""
    raster: StrictStr
    """Name of the raster as the user knows it."""
    source: StrictStr
    """Path of the raster."""
    created: StrictStr
    """When it was asked for, ISO 8601, UTC."""
    models: tuple[JobModel, ...] = ()
    """One to four models, in the order asked for."""
    width: int = 0
    """Columns of the raster."""
    height: int = 0
    """Rows of the raster."""


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        status: Where it is between order and map.
        share: What is done, 0 to 1.
        seconds_left: An estimate by the pace so far; ``None`` where there is none yet.
        error: Why it failed, in one line.
    """

    status: Status
    share: float
    seconds_left: float | None = None
    error: str | None = None


class QueueFullError(Exception):
    """As many jobs wait as may wait."""


def input_of(folder: Path, job: Job, model: JobModel) -> InputFile:
    """Return the input of a model's prediction, with the paths of its outputs."""
    (found,) = find_inputs([job.source], folder / "maps" / model.name, OPTIONS)
    return found


def read_summary(folder: Path) -> object:
    """Read the areas of a finished job, as the child wrote them."""
    return parse_json(read_text(folder / SUMMARY_FILE))


def write_summary(folder: Path, summary: object) -> None:
    """Write the areas of a finished job: the last file, so that where it is the job is done."""
    with atomic_path(folder / SUMMARY_FILE) as temporary:
        temporary.write_text(json.dumps(summary, ensure_ascii=False), encoding="utf-8")


def read_job(folder: Path) -> Job:
    """Read what a job was asked for.

    Raises:
        RecordError: There is no such job, or its record is damaged.
    """
    path = folder / JOB_FILE
    return check_record(read_json(path, kind="map"), Job, source=str(path), remedy="Remove its folder.")


class JobStore:
    """The jobs of one folder, and the thread that runs them one after the other."""

    def __init__(self, folder: Path, *, waiting: int, threads: int | None = None, code: Sequence[str] = ()) -> None:
        """Open a folder; unfinished jobs that an earlier server left are taken up again when the store starts.

        Args:
            folder: Folder of all jobs.
            waiting: How many jobs may wait.
            threads: Threads of the CPU for the child; ``None`` leaves the choice to it.
            code: Code of networks of the user's own, ``FILE.py:FUNCTION`` each.
        """
        self.folder, self._waiting, self._threads, self._code = folder, waiting, threads, tuple(code)
        folder.mkdir(parents=True, exist_ok=True)
        self._jobs, self._damaged = _found_in(folder)
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._queued: set[str] = set()
        self._lock = threading.Lock()
        self._current: tuple[str, subprocess.Popen[bytes]] | None = None
        self._pace: dict[str, tuple[float, float]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run_all, name="maps", daemon=True)

    def start(self) -> None:
        """Take up unfinished jobs, in the order they were asked for, and begin to work."""
        for job in sorted(self._jobs.values(), key=lambda one: one.created):
            if self.progress(job.id).status in ("queued", "running"):
                self._put(job.id)
        self._thread.start()

    def stop(self) -> None:
        """Stop the child, which saves what it has; the job goes on when a server starts again."""
        self._stopping.set()
        self._queue.put(None)
        with self._lock:
            child = self._current[1] if self._current else None
        if child is not None:
            _end(child)
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def __iter__(self) -> Iterator[Job]:
        """Yield the jobs, the latest first."""
        with self._lock:
            jobs = list(self._jobs.values())
        yield from sorted(jobs, key=lambda job: job.created, reverse=True)

    def get(self, id_: str) -> Job | None:
        """Return a job, or ``None`` where there is none of that name."""
        return self._jobs.get(id_)

    def path(self, id_: str) -> Path:
        """Return the folder of a job that exists."""
        return self.folder / self._jobs[id_].id

    @contextlib.contextmanager
    def new_folder(self) -> Iterator[tuple[str, Path]]:
        """Make the folder of a new job, and remove it again if the block fails.

        Raises:
            QueueFullError: As many jobs wait as may wait.
        """
        if len(self._queued) >= self._waiting:
            raise QueueFullError
        id_ = secrets.token_hex(8)
        path = self.folder / id_
        path.mkdir()
        try:
            yield id_, path
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise

    def add(self, id_: str, raster: str, source: Path, models: Sequence[JobModel], size: tuple[int, int]) -> Job:
        """Record a job and put it into the queue.

        Args:
            id_: The name of its folder.
            raster: Name of the raster.
            source: The raster.
            models: The models.
            size: Rows and columns of the raster.
        """
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        job = Job(id_, raster, str(source), created, tuple(models), width=size[1], height=size[0])
        write_json(self.folder / id_ / JOB_FILE, to_json(job), kind="map")
        with self._lock:
            self._jobs[id_] = job
        self._put(id_)
        return job

    def remove(self, id_: str) -> None:
        """Remove a job and its files; one that runs is ended."""
        with self._lock:
            job = self._jobs.pop(id_, None)
            self._queued.discard(id_)
            child = self._current[1] if self._current and self._current[0] == id_ else None
        if child is not None:
            _end(child)
        if job is not None:
            shutil.rmtree(self.folder / job.id, ignore_errors=True)

    def progress(self, id_: str) -> Progress:
        """Tell how far a job that exists is, from the files of its folder."""
        job, folder = self._jobs[id_], self.path(id_)
        if id_ in self._damaged:
            return Progress("failed", 0.0, error=self._damaged[id_])
        if (folder / SUMMARY_FILE).exists():
            return Progress("done", 1.0)
        if (folder / ERROR_FILE).exists():
            return Progress("failed", 0.0, error=_told(folder / ERROR_FILE))
        share = sum(_share(folder, job, model) for model in job.models) / max(1, len(job.models))
        running = self._current is not None and self._current[0] == id_
        return Progress("running" if running else "queued", share, self._seconds_left(id_, share) if running else None)

    def _seconds_left(self, id_: str, share: float) -> float | None:
        """Estimate the time left by the pace since the child began its first row."""
        now = time.monotonic()
        begun, first = self._pace.setdefault(id_, (now, share))
        return None if share <= first else (now - begun) * (1 - share) / (share - first)

    def _put(self, id_: str) -> None:
        with self._lock:
            self._queued.add(id_)
        self._queue.put(id_)

    def _run_all(self) -> None:
        while (id_ := self._queue.get()) is not None and not self._stopping.is_set():
            with self._lock:
                self._queued.discard(id_)
                if id_ not in self._jobs:
                    continue  # removed while it waited
                self._current = (id_, self._spawn(id_))
            child = self._current[1]
            stderr = child.stderr.read() if child.stderr else b""  # its standard input stays open until it ends
            status = child.wait()
            with self._lock:
                self._current = None
                wanted = id_ in self._jobs
            self._pace.pop(id_, None)
            if wanted and not self._stopping.is_set() and not (self.folder / id_ / SUMMARY_FILE).exists():
                reason = _last_words(stderr) or f"the process that predicted it ended with status {status}."
                (self.folder / id_ / ERROR_FILE).write_text(reason + "\n", encoding="utf-8")

    def _spawn(self, id_: str) -> "subprocess.Popen[bytes]":
        """Start the child; it ends with this process, because it reads from a pipe that then closes."""
        command = [sys.executable, "-m", "levelground.serving.job_process", str(self.folder / id_)]
        command += [str(self._threads or 0), *self._code]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603


def _found_in(folder: Path) -> tuple[dict[str, Job], dict[str, str]]:
    """Read the jobs of a folder, and say of each that is damaged what is wrong; it is listed by its number alone."""
    jobs, damaged = {}, {}
    for path in sorted(one for one in folder.iterdir() if _JOB_NAME.fullmatch(one.name) and one.is_dir()):
        try:
            job = read_job(path)
            if job.id != path.name:
                raise RecordError(f"{path / JOB_FILE}: is of map {job.id}. Remove the folder {path.name}.")
        except RecordError as error:
            since = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
            job = Job(path.name, path.name, "", since.isoformat(timespec="milliseconds"))
            damaged[path.name] = one_line(str(error))
            say("Warning: %(text)s", text=translated(damaged[path.name]))
        jobs[path.name] = job
    return jobs, damaged


def _told(path: Path) -> str:
    """Read why a job failed, as far as it can be read."""
    return path.read_bytes()[:4000].decode("utf-8", "replace").strip()


def _share(folder: Path, job: Job, model: JobModel) -> float:
    """Return the share of a model's map that is predicted, from the state of its checkpoint."""
    try:
        file = input_of(folder, job, model)
        if file.outputs.classes.exists():
            return 1.0
        state = read_json(file.checkpoint / STATE_FILE, kind="prediction")
        return min(1.0, int(state["rows"]) / max(1, model.rows))
    except Exception:  # the files change while they are looked at
        return 0.0


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _last_words(output: bytes) -> str:
    """Return the error that a child ended with: its last line, without the error's class."""
    line = last_line(output.decode("utf-8", "replace"), limit=2000)
    return line.partition(": ")[2] or line
