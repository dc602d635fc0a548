"""Ray and Slurm as places where jobs run; each engine is imported only when it is asked for."""

import contextlib
import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from levelground.errors import ConfigError, UnlikeError, first_line, last_line
from levelground.files import reason
from levelground.scaling.executors import (
    GRACE_S,
    ClusterOptions,
    Ended,
    Executor,
    LocalExecutor,
    Request,
    end_of,
    job_environment,
    own_versions,
    remote_call,
    sbatch_options,
)

CONNECT_S = 5.0
"""How long an address may take to answer, seconds."""
QUEUE_EVERY_S = 5.0
"""How often Slurm is asked for its queue, seconds."""


def open_executor(options: ClusterOptions, proofs: Mapping[Path, str], cpus: int, scratch: Path) -> Executor:
    """Open the engine that was asked for.

    Args:
        options: Which one.
        proofs: Files that every worker has to see, with their content.
        cpus: CPUs of each job.
        scratch: A folder that all machines see, for the engine's own files.
    Returns:
        The engine, connected.
    Raises:
        ConfigError: It is not installed, does not answer, or has no machine with what a job needs.
    """
    request = {
        "proofs": {str(path): text for path, text in proofs.items()},
        "versions": own_versions(),
        "environment": job_environment(cpus),
        "cwd": str(Path.cwd()),
        "fork": options.kind == "ray",
        "grace_s": GRACE_S,
    }
    gpus = options.gpus_per_run
    if options.kind == "ray":
        return RayExecutor(options.detail or None, request, cpus, gpus or 0.0)
    if options.kind == "slurm":
        return SlurmExecutor(sbatch_options(options.detail), request, cpus, int(gpus or 0), scratch)
    return LocalExecutor(int(options.detail), cpus, gpus)


def check_engine(options: ClusterOptions) -> None:
    """Refuse an engine that is not installed, before anything else is imported.

    Raises:
        ConfigError: It is not.
    """
    if options.kind == "ray" and importlib.util.find_spec("ray") is None:
        raise ConfigError(_about_missing("ray", "ray"))


def _about_missing(name: str, flag: str) -> str:
    return f"--cluster {flag}: {name} is not installed. Say pip install 'levelground[cluster]'."


def import_engine(name: str, flag: str) -> Any:
    """Import an engine, or say how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(_about_missing(name, flag)) from error


class RayExecutor:
    """Tasks of a Ray cluster that is running."""

    def __init__(self, address: str | None, request: Request, cpus: int, gpus: float) -> None:
        """Connect.

        Args:
            address: ``HOST:PORT`` of its head; ``None`` takes the one that this machine is a node of.
            request: What every job is told.
            cpus: CPUs of each job.
            gpus: GPUs of each job.
        Raises:
            ConfigError: Ray is not installed, nobody answers, or no node has what a job needs.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # workers keep their own environment
        self._ray, self._request, self._cpus, self._gpus = import_engine("ray", "ray"), request, cpus, gpus
        flag = f"--cluster ray{f':{address}' if address else ''}"
        if address is not None:
            _check_answers(flag, address)
        try:
            self._ray.init(address=address or "auto", log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises what it likes
            raise ConfigError(_no_cluster(flag, error)) from error
        self._running: dict[Any, Path] = {}
        self._gone = False
        self._address = str(self._ray.get_runtime_context().gcs_address)
        self._task = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(remote_call())

    def check(self) -> None:
        """Look from every node that could run a job.

        Raises:
            ConfigError: None could.
            UnlikeError: One does not see the folders, or has other versions.
        """
        nodes, able = self._nodes()
        if not able:
            self.close()
            raise ConfigError(
                f"--cpus-per-run {self._cpus}, --gpus-per-run {self._gpus:g}: none of the {nodes} nodes of the "
                "Ray cluster has as many. Give less."
            )
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        look = self._ray.remote(num_cpus=0, max_retries=0)(remote_call())
        refs = [
            look.options(scheduling_strategy=affinity(node["NodeID"], soft=False)).remote(dict(self._request, job=""))
            for node in able
        ]
        for found in self._ray.get(refs, timeout=120):
            problem = end_of(found, own_versions()).refusal
            if problem:
                self.close()
                raise UnlikeError(problem)

    def _nodes(self) -> tuple[int, list[Any]]:
        """Return how many nodes there are, and those that could run a job."""
        needed = {"CPU": float(self._cpus), "GPU": self._gpus}
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        able = [n for n in nodes if all(n["Resources"].get(name, 0.0) >= amount for name, amount in needed.items())]
        return len(nodes), able

    def problem(self) -> str:
        """Say why nothing could run the jobs now; a head that is gone is found without asking Ray, which would wait."""
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), CONNECT_S).close()
        except OSError as error:
            self._gone = True
            return f"Ray's head at {self._address} does not answer ({reason(error)})"
        self._gone = False
        return "" if self._nodes()[1] else "none of the nodes of the Ray cluster has what a run needs"

    def submit(self, folder: Path) -> None:
        """Queue the job of a folder."""
        self._running[self._task.remote(dict(self._request, job=str(folder)))] = folder

    def ended(self) -> list[tuple[Path, Ended]]:
        """Return the jobs that ended since the last call."""
        if not self._running:
            return []
        refs = list(self._running)
        ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        return [(self._running.pop(ref), self._end(ref)) for ref in ready]

    def _end(self, ref: Any) -> Ended:
        try:
            found = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:  # its process, its node or their network
            return Ended("", None, reason=first_line(error))
        return end_of(found, own_versions())

    def cancel(self) -> None:
        """Cancel all tasks and wait until those that run have saved their state."""
        refs = list(self._running)
        for ref in refs:
            self._ray.cancel(ref)
        if refs:
            self._ray.wait(refs, num_returns=len(refs), timeout=GRACE_S)
        self._running.clear()

    def close(self) -> None:
        """Leave the cluster, which runs on."""
        if not self._gone:  # else it would wait for the head
            self._ray.shutdown()


def _check_answers(flag: str, address: str) -> None:
    """Refuse an address where nobody listens, before Ray waits for it.

    Raises:
        ConfigError: Nobody does.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"{flag}: nobody answers there ({reason(error)}). Give the address that ray start --head printed."
        ) from error


def _no_cluster(flag: str, error: Exception) -> str:
    text = first_line(error)
    if isinstance(error, ConnectionError) and "raylet" not in str(error):
        return f"{flag}: no Ray cluster runs here ({text}). Start one with ray start --head, or name its address."
    return (
        f"{flag}: this machine cannot join ({text}). Make it a node of the cluster with ray start --address=HOST:PORT "
        "--num-cpus=0, with the same versions of Python and Ray."
    )


class SlurmExecutor:
    """Batch jobs of Slurm, submitted through submitit."""

    def __init__(
        self,
        options: Mapping[str, str | bool],
        request: Request,
        cpus: int,
        gpus: int,
        folder: Path,
        *,
        engine: str = "slurm",
    ) -> None:
        """Find Slurm.

        Args:
            options: sbatch's options.
            request: What every job is told.
            cpus: CPUs of each job.
            gpus: GPUs of each job.
            folder: Where submitit keeps its files.
            engine: submitit's own name for where jobs run: ``slurm``, or ``local`` to try without Slurm.
        Raises:
            ConfigError: submitit or Slurm are not installed, or submitit does not take an option.
        """
        self._request, self._slurm = request, engine == "slurm"
        submitit = import_engine("submitit", "slurm")
        if self._slurm and shutil.which("sbatch") is None:
            raise ConfigError(
                "--cluster slurm: sbatch is not on this machine. Run it on a login node, or take local:N."
            )
        if self._slurm:
            self._submitit = submitit.SlurmExecutor(folder=folder)
            extra: dict[str, str | bool] = {"comment": "levelground", **options}
            if gpus:
                extra.setdefault("gpus-per-node", str(gpus))
            self._submitit.update_parameters(
                job_name="levelground", cpus_per_task=cpus, time=None, signal_delay_s=120, additional_parameters=extra
            )
        else:
            self._submitit = submitit.LocalExecutor(folder=folder)
            self._submitit.update_parameters(timeout_min=10_000)
        self._running: dict[str, tuple[Any, Path]] = {}
        self._asked_at = 0.0
        self._queued: frozenset[str] = frozenset()

    def check(self) -> None:
        """Nothing to check: Slurm chooses the nodes later, and each job looks before it trains."""

    def problem(self) -> str:
        """Say that Slurm does not answer, where it does not; what waits in its queue may wait long."""
        return "Slurm does not answer" if self._slurm and _queue() is None else ""

    def submit(self, folder: Path) -> None:
        """Queue the job of a folder.

        Raises:
            ConfigError: sbatch refuses it.
        """
        try:
            job = self._submitit.submit(remote_call(), dict(self._request, job=str(folder)))
        except Exception as error:  # submitit's own, with sbatch's words
            words = last_line(str(error), limit=200) or type(error).__name__
            raise ConfigError(f"--cluster slurm: sbatch refused the job ({words}). Change its options.") from error
        self._running[job.job_id] = job, folder
        self._asked_at = time.monotonic()

    def ended(self) -> list[tuple[Path, Ended]]:
        """Return the jobs that ended since the last call."""
        gone = self._gone()
        found = []
        for number, (job, folder) in list(self._running.items()):
            if job.paths.result_pickle.exists():
                found.append((folder, self._end(job)))
            elif number in gone:
                found.append((folder, Ended("", None, reason=_last_words(job))))
            else:
                continue
            del self._running[number]
        return found

    def _gone(self) -> frozenset[str]:
        """Return the jobs that left the queue before the last two looks: their result would be seen by now."""
        if time.monotonic() - self._asked_at < QUEUE_EVERY_S:
            return frozenset()
        self._asked_at = time.monotonic()
        if not self._slurm:
            return frozenset(number for number, (job, _) in self._running.items() if job.done())
        before, queue = self._queued, _queue()
        if queue is None:
            return frozenset()
        self._queued = frozenset(number for number in self._running if number not in queue)
        return self._queued & before

    def _end(self, job: Any) -> Ended:
        try:
            found = job.result()
        except Exception as error:  # submitit's own
            return Ended("", None, reason=first_line(error))
        return end_of(found, own_versions())

    def cancel(self) -> None:
        """Cancel all jobs, and wait until Slurm has none of them."""
        for job, _ in self._running.values():
            with contextlib.suppress(Exception):  # it has ended
                job.cancel()
        deadline = time.monotonic() + GRACE_S
        while self._slurm and time.monotonic() < deadline and self._running.keys() & (_queue() or set()):
            time.sleep(1)
        self._running.clear()

    def close(self) -> None:
        """Nothing to let go: jobs are Slurm's."""


def _queue() -> set[str] | None:
    """Return the jobs in Slurm's queue; ``None`` where Slurm does not answer."""
    try:
        done = subprocess.run(
            ["squeue", "--noheader", "--me", "--format=%A"],  # noqa: S607 - wherever Slurm is installed
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return set(done.stdout.split())


def _last_words(job: Any) -> str:
    """Return the last line of a job's own log."""
    try:
        text = job.stderr() or ""
    except OSError:
        text = ""
    return last_line(text, limit=200) or "Slurm ended it"
