"""Where jobs run: options of a cluster, what every worker is asked and told, and processes of this machine."""

import os
import re
import socket
from collections import deque
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Protocol

import tyro
from pydantic import AfterValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from levelground import __version__
from levelground.config import OPTIONS_CONFIG
from levelground.errors import ConfigError
from levelground.scaling.processes import JobProcess, end_jobs, may_fork, start_job

GRACE_S = 60.0
"""How long a job that is cancelled may take to save its state, seconds."""
_KINDS = "local:N (N processes of this machine), ray, ray:HOST:PORT, slurm, or slurm:NAME=VALUE,… (for sbatch)"


def _check_cluster(asked: str) -> str:
    kind, _, rest = asked.partition(":")
    fits = {
        "local": re.fullmatch(r"[1-9][0-9]{0,3}", rest) is not None,
        "ray": ":" not in asked or re.fullmatch(r"[^\s:/]+:[0-9]{1,5}", rest) is not None,
        "slurm": ":" not in asked or all(re.fullmatch(r"[a-z][a-z-]*(=[^=,]+)?", part) for part in rest.split(",")),
    }
    if not fits.get(kind, False):
        raise ValueError(f"expected {_KINDS}")
    return asked


def torchrun_processes() -> int:
    """Return how many processes torchrun started, this one among them; 1 where it started none."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class ClusterOptions:
    """Where the runs of a study are computed, if not in this process."""

    cluster: Annotated[str, AfterValidator(_check_cluster)] | None = None
    """Where each run is a job of its own: local:N (processes of this machine), ray or ray:HOST:PORT (a running Ray
    cluster, extra 'cluster'), slurm or slurm:partition=gpu,time=4:00:00 (Slurm with sbatch's options, extra
    'cluster'); None runs them here, one after the other."""
    cpus_per_run: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPUs, and so threads, of each job; without it, --threads, else the cores shared out under local:N, else 1, or 4
    for each GPU."""
    gpus_per_run: Annotated[float, Field(ge=0, le=64)] | None = None
    """GPUs of each job; .5 puts two on one GPU (Ray and local:N). Without it, none under Ray and Slurm, and under
    local:N leaves all jobs all GPUs."""

    def __post_init__(self) -> None:
        """Refuse what needs a cluster where none is asked for, and several processes that would each start jobs."""
        started = torchrun_processes()
        if self.cluster is not None and started > 1:
            raise ConfigError(
                f"--cluster {self.cluster}: torchrun started {started} processes, and one alone starts jobs. Give the "
                "command without torchrun."
            )
        for flag in ("cpus_per_run", "gpus_per_run"):
            if getattr(self, flag) is not None and self.cluster is None:
                raise ConfigError(
                    f"--{flag.replace('_', '-')} {getattr(self, flag):g}: is about jobs. Give --cluster with it."
                )
        gpus = self.gpus_per_run or 0.0
        if gpus != int(gpus) and (gpus > 1 or (self.cluster or "").startswith("slurm")):
            raise ConfigError(
                f"--gpus-per-run {gpus:g}: expected a whole number{'' if gpus > 1 else ' under Slurm'}. "
                "Below 1, Ray and local:N share a GPU."
            )

    @property
    def kind(self) -> str:
        """The engine: ``local``, ``ray`` or ``slurm``."""
        return (self.cluster or "").partition(":")[0]

    @property
    def detail(self) -> str:
        """What stands behind the engine's name: a number, an address, or options."""
        return (self.cluster or "").partition(":")[2]

    def cpus(self, asked: int | None, cores: int) -> int:
        """Return the CPUs of each job, which are its threads too where ``--threads`` does not say others.

        Args:
            asked: What ``--threads`` gives.
            cores: Cores of this machine, for ``local:N``.
        """
        if self.cpus_per_run or asked:
            return self.cpus_per_run or asked or 1
        return (
            max(1, cores // int(self.detail)) if self.kind == "local" else max(1, round(4 * (self.gpus_per_run or 0)))
        )


ClusterGroup = Annotated[tyro.conf.OmitArgPrefixes[ClusterOptions], tyro.conf.arg(name="cluster")]
"""The cluster options of a command, under a heading of their own in its help."""


def own_versions() -> dict[str, str]:
    """Return the versions that have to be the same on every worker."""
    return {"levelground": __version__, "torch": version("torch")}


@dataclass(frozen=True)
class Ended:
    """End of a job's process.

    Attributes:
        host: The machine; empty where it is not known.
        code: Its exit status, negative for a signal; ``None`` where process or machine were lost.
        refusal: Why the worker must not run it, in one line.
        reason: What the engine says of a loss.
    """

    host: str
    code: int | None
    refusal: str = ""
    reason: str = ""


class Executor(Protocol):
    """Something that runs jobs."""

    def check(self) -> None:
        """Refuse workers that do not see the folders or have other versions, where they are known before jobs start."""

    def problem(self) -> str:
        """Say why nothing could run the jobs now; empty where something could."""

    def submit(self, folder: Path) -> None:
        """Queue the job of a folder."""

    def ended(self) -> list[tuple[Path, Ended]]:
        """Return the jobs that ended since the last call."""

    def cancel(self) -> None:
        """Cancel all jobs and wait until those that run have saved their state."""

    def close(self) -> None:
        """Let the engine go."""


def job_environment(cpus: int) -> dict[str, str]:
    """Return the variables that a job's process gets."""
    return {"OMP_NUM_THREADS": str(cpus)}


def sbatch_options(text: str) -> dict[str, str | bool]:
    """Return sbatch's options of ``partition=gpu,time=4:00:00,exclusive``.

    Example:
        >>> sbatch_options("partition=gpu,exclusive")
        {'partition': 'gpu', 'exclusive': True}
    """
    parts = [part.partition("=") for part in text.split(",") if part]
    return {name: value if equals else True for name, equals, value in parts}


@dataclass(frozen=True)
class Look:
    """What a worker sees and has, and how its job's process ended.

    Attributes:
        host: The machine.
        missing: Folders that it does not see.
        versions: Versions of levelground and torch there; empty texts where they are not installed.
        code: Exit status of the job's process, negative for a signal; ``None`` where none was started.
    """

    host: str
    missing: tuple[str, ...]
    versions: Mapping[str, str]
    code: int | None


Request = Mapping[str, object]
"""What a worker is told: files to see, versions to have, and a job; of plain types, which any Python can unpack."""


def remote_call() -> Callable[[Request], dict[str, object]]:
    """Return the function that a worker runs: look at what it sees and has, then run one job's process.

    It is defined inside, so that it travels as code: a worker without levelground, or with another one, can say so.
    """

    def call(request: Mapping[str, Any]) -> dict[str, Any]:
        import importlib
        import os
        import socket
        import time
        from importlib.metadata import PackageNotFoundError, version
        from pathlib import Path

        missing, versions = [], {}
        for path, text in request["proofs"].items():
            try:
                with open(path) as file:  # noqa: PTH123 - nothing but what every Python has
                    seen = file.read() == text
            except OSError:
                seen = False
            if not seen:
                missing.append(os.path.dirname(path))  # noqa: PTH120
        try:
            versions["levelground"] = importlib.import_module("levelground").__version__
        except (ImportError, AttributeError):
            versions["levelground"] = ""
        try:
            versions["torch"] = version("torch")
        except PackageNotFoundError:
            versions["torch"] = ""
        found = {"host": socket.gethostname(), "missing": missing, "versions": versions, "code": None}
        if not request["job"] or missing or versions != request["versions"]:
            return found
        from levelground.scaling.processes import end_jobs, may_fork, start_job

        where = request["cwd"] if os.path.isdir(request["cwd"]) else None  # noqa: PTH112
        process = start_job(
            Path(request["job"]),
            {**os.environ, **request["environment"]},
            cwd=where,
            fork=request["fork"] and may_fork(),
            session=False,
        )
        try:
            while (code := process.poll()) is None:
                time.sleep(0.05)
        except BaseException:  # cancelled: the state is saved first
            end_jobs([process], request["grace_s"])
            raise
        return found | {"code": code}

    return call


def refusal(look: Look, versions: Mapping[str, str]) -> str:
    """Say in one line why a worker must not run jobs; empty where it may.

    Args:
        look: What the worker sees and has.
        versions: The versions here.
    """
    if look.missing:
        return (
            f"worker {look.host} cannot see {look.missing[0]}. Put it on storage that all workers mount under the same "
            "path, or leave this worker out."
        )
    for name, here in versions.items():
        there = look.versions[name]
        if there != here:
            has = f"{name} {there}" if there else f"no {name}"
            return (
                f"worker {look.host} has {has}, this machine {name} {here}. Install the same version on both: "
                "others give other weights."
            )
    return ""


def end_of(found: object, versions: Mapping[str, str]) -> Ended:
    """Return the end of a job by what its worker returned."""
    look: Look = TypeAdapter(Look).validate_python(found)
    return Ended(look.host, look.code, refusal(look, versions))


class LocalExecutor:
    """Processes of this machine, N at a time."""

    def __init__(self, places: int, cpus: int, gpus: float | None) -> None:
        """Share out the machine.

        Args:
            places: Jobs at a time.
            cpus: CPUs of each job.
            gpus: GPUs of each job; ``None`` leaves them all to all.
        """
        self._cpus, self._gpus = cpus, gpus
        self._free, self._waiting = list(range(places)), deque[Path]()
        self._running: dict[Path, tuple[JobProcess, int]] = {}

    def check(self) -> None:
        """Nothing to check: jobs see what this process sees."""

    def problem(self) -> str:
        """Return nothing: this machine is there."""
        return ""

    def submit(self, folder: Path) -> None:
        """Queue the job of a folder."""
        self._waiting.append(folder)
        self._fill()

    def ended(self) -> list[tuple[Path, Ended]]:
        """Return the jobs that ended since the last call, and start others in their place."""
        found = []
        for folder, (process, place) in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[folder]
                self._free.append(place)
                found.append((folder, Ended(socket.gethostname(), code)))
        self._fill()
        return found

    def cancel(self) -> None:
        """Ask all processes to save and end, and wait for them."""
        self._waiting.clear()
        end_jobs([process for process, _ in self._running.values()], GRACE_S)
        self._running.clear()

    def close(self) -> None:
        """End what still runs."""
        self.cancel()

    def _fill(self) -> None:
        while self._waiting and self._free:
            folder, place = self._waiting.popleft(), min(self._free)
            self._free.remove(place)
            self._running[folder] = self._start(folder, place), place

    def _start(self, folder: Path, place: int) -> JobProcess:
        environment = {**os.environ, **job_environment(self._cpus)}
        if self._gpus is not None:
            first = int(place * self._gpus)
            devices = range(first, first + max(1, int(self._gpus))) if self._gpus else ()
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, devices))
        return start_job(folder, environment, fork=may_fork())
