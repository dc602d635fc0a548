"""Studies as jobs: the bits of one process, failures that leave the others, lost processes, refusals, two heads."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from levelground.cli import main
from levelground.config import Budget, DeviceOptions, PredictOptions, Recipe, RunOptions
from levelground.errors import ConfigError, DiskError, UnfinishedError
from levelground.files import folder_holder, one_writer
from levelground.metrics.counts import read_counts
from levelground.records import read_json, sha256_file
from levelground.runs import list_runs, read_study
from levelground.scaling import cluster, engines, processes, worker
from levelground.scaling.executors import (
    ClusterOptions,
    Ended,
    end_of,
    job_environment,
    own_versions,
    remote_call,
    sbatch_options,
)
from levelground.scaling.jobs import (
    Job,
    JobStatus,
    MapTask,
    RunTask,
    job_folder,
    read_status,
    run_progress,
    study_rows,
    write_job,
)
from levelground.synthetic.scenes import write_scenes

pytestmark = pytest.mark.timeout(
    600
)  # where others use the machine, importing torch takes a minute, and so does a Ray node

STEPS = 120
ENCODER = "tu-test_resnet"
"""A handful of layers: it is built, checked and trained in a third of the time of the other tests' encoder."""
FLAGS = (
    f"--encoder {ENCODER} --encoder-weights none --tile 64 --halo 8 --batch 2 --validations 2 --device cpu "
    "--precision fp32 --threads 1"
).split()
"""Of networks and training; a study gets no pictures either."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight generated scenes, and the cache of all studies of this file."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, n=8, size=128, seed=0)
    return folder


def arguments(scenes: Path, out: Path, *more: str, steps: int = 4) -> list[str]:
    """Return the arguments of a study of these scenes."""
    cache = str(scenes.parent / "cache")
    data = ["study", "--data", str(scenes), "--out", str(out), "--cache", cache, "--steps", str(steps)]
    return [*data, *FLAGS, "--figures", *more]


T = TypeVar("T")


def beside(command: Sequence[str], act: Callable[[], T]) -> tuple[int, T]:
    """Run a command in this thread, where signals arrive, and do something beside it; both results."""
    with ThreadPoolExecutor(1) as threads:
        acted = threads.submit(act)
        return main(list(command)), acted.result()


@pytest.fixture(scope="module")
def plain(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study without a cluster."""
    out = tmp_path_factory.mktemp("plain")
    assert main(arguments(scenes, out, "--archs", "pspnet", "fpn", "--save-every", "0.1", steps=STEPS)) == 0
    return out


def assert_same_bits(study: Path, plain: Path) -> None:
    """Weights and counts of all runs are equal."""
    runs = list_runs(plain)
    assert [run.name for run in list_runs(study)] == [run.name for run in runs]
    for run in runs:
        other = study / "runs" / run.name
        assert sha256_file(other / "model" / "model.safetensors") == sha256_file(run.model_folder / "model.safetensors")
        counts = [read_counts(folder / "counts-test.npz").counts for folder in (run.folder, other)]
        assert np.array_equal(*counts)


def wait_for(found: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 300
    while not found.exists():
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_a_study_of_jobs_has_the_bits_of_one_process_though_one_failed_and_one_was_killed(
    scenes: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose folder is a file, as on a damaged disk, fails: exit status 1, a page of the others that names it.

    The same command then trains what is missing; its job is killed in the middle and goes on from its state. A second
    head names the first.
    """
    more = ("--archs", "pspnet", "fpn", "--save-every", "0.1", "--cluster", "local:2")
    name = f"fpn-{ENCODER.removeprefix('tu-')}-s0"
    blocked = tmp_path / "runs" / name
    blocked.parent.mkdir()
    blocked.write_text("in the way")
    assert main(arguments(scenes, tmp_path, *more, steps=STEPS)) == 1
    said = capsys.readouterr().err
    assert f"UnfinishedError: runs/{name} failed; the first on {socket.gethostname()}: DiskError" in said
    assert list(read_study(tmp_path).failed) == [f"runs/{name}"]
    record = read_json(tmp_path / "comparison.json", kind="comparison")
    finding = next(one for one in record["findings"] if one["code"] == "failed_runs")
    assert finding["text"].startswith(f"1 run of this study failed and is not compared: {name} (on ")
    assert "is not compared" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [run["name"] for run in record["runs"]] == [f"pspnet-{ENCODER.removeprefix('tu-')}-s0"]
    blocked.unlink()
    command = arguments(scenes, tmp_path, *more, steps=STEPS)
    monkeypatch.setattr(sys, "argv", ["levelground", *command])

    def kill_job() -> JobStatus:
        wait_for(tmp_path / "runs" / name / "state.ckpt")
        status = read_status(tmp_path / "cluster" / name)
        assert status is not None
        os.kill(status.process, signal.SIGSTOP)  # it must not end while the rows are read
        rows = {row.name: row for row in study_rows(tmp_path)}
        assert rows[name].state == "training" and rows[name].progress.step > 0 and rows[name].progress.steps == STEPS
        assert str(status.process) in rows[name].where
        os.kill(status.process, signal.SIGKILL)
        assert main(command) == 2
        return status

    code, killed = beside(command, kill_job)
    said = capsys.readouterr().err
    assert code == 0, said
    assert f"held by process {os.getpid()}" in said
    assert "Runs that are done already: 1 of 2." in said
    assert f"{name}: lost on {killed.host} (killed by signal 9); queued again" in said
    assert f"{name}: goes on at step" in (tmp_path / "cluster" / name / "log.txt").read_text(encoding="utf-8")
    assert_same_bits(tmp_path, plain)
    assert "failed_runs" not in (tmp_path / "comparison.json").read_text(encoding="utf-8")
    commands = [json.loads(line)["command"] for line in (tmp_path / "test_looks.jsonl").read_text().splitlines()]
    assert len(commands) == 2 and commands[1].startswith("levelground study --data")
    capsys.readouterr()
    assert main(["jobs", str(tmp_path)]) == 0
    assert capsys.readouterr().err.count("finished") == 2


def test_a_stopped_head_cancels_its_jobs_and_loses_nothing(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM to the head: the job saves its state and ends with it; no process is left."""
    name = f"pspnet-{ENCODER.removeprefix('tu-')}-s0"
    more = ("--archs", "pspnet", "--save-every", "0.1", "--cluster", "local:1")

    def stop() -> JobStatus | None:
        wait_for(tmp_path / "runs" / name / "state.ckpt")
        status = read_status(tmp_path / "cluster" / name)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # the head's, or this process would end
        os.kill(os.getpid(), signal.SIGTERM)
        return status

    code, job = beside(arguments(scenes, tmp_path, *more, steps=5000), stop)
    assert code == 130 and "nothing is lost: the same command goes on" in capsys.readouterr().err
    assert job is not None and not Path(f"/proc/{job.process}").exists()
    (run,) = list_runs(tmp_path)
    assert run.card.status == "stopped" and (run.card.steps_done or 0) > 0
    assert run_progress(run.folder).step == run.card.steps_done
    assert [row.state for row in study_rows(tmp_path)] == ["stopped"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".proof")]


@pytest.fixture
def request_of(tmp_path: Path) -> Iterator[dict[str, object]]:
    """What a worker is asked, without a job."""
    proof = tmp_path / "study" / ".proof"
    proof.parent.mkdir()
    proof.write_text("text")
    yield {"proofs": {str(proof): "text"}, "versions": own_versions(), "job": ""}


def test_workers_are_refused_by_name(request_of: dict[str, object], tmp_path: Path) -> None:
    """One that sees another folder of the same name, one with another torch, and one without levelground."""
    found, host = remote_call()(request_of), socket.gethostname()
    assert end_of(found, own_versions()) == Ended(host, None)
    older = end_of(found, own_versions() | {"torch": "2.0.0"}).refusal
    assert f"has torch {own_versions()['torch']}, this machine torch 2.0.0. Install the same version" in older
    none = end_of(found | {"versions": {"levelground": "", "torch": "2.0"}}, own_versions()).refusal
    assert f"worker {host} has no levelground, this machine levelground" in none
    (tmp_path / "study" / ".proof").write_text("another machine's")
    unseen = end_of(remote_call()(request_of), own_versions()).refusal
    assert unseen.startswith(f"worker {host} cannot see {tmp_path / 'study'}. Put it on storage")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--cluster", "local"], "--cluster local: expected local:N"),
        (["--cluster", "local:0"], "--cluster local:0: expected local:N"),
        (["--cluster", "local:٣"], "--cluster local:٣: expected local:N"),
        (["--cluster", "kubernetes"], "--cluster kubernetes: expected local:N"),
        (["--cluster", "ray:nowhere"], "--cluster ray:nowhere: expected local:N"),
        (["--cpus-per-run", "2"], "--cpus-per-run 2: is about jobs. Give --cluster with it."),
        (["--cluster", "slurm", "--gpus-per-run", "0.5"], "expected a whole number under Slurm"),
        (["--cluster", "ray", "--gpus-per-run", "1.5"], "--gpus-per-run 1.5: expected a whole number"),
        (["--cluster", "local:2", "--processes", "2"], "--processes 2: a run of --cluster is one process"),
    ],
)
def test_wrong_flags_are_one_line(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], expected: str
) -> None:
    """Refused before anything is read."""
    assert main(arguments(scenes, tmp_path / "out", *flags)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert not (tmp_path / "out").exists()


def test_cpus_of_a_job() -> None:
    """The flag, else --threads, else the cores shared out, else one, or four for each GPU."""
    assert ClusterOptions("local:2").cpus(None, 8) == 4 and ClusterOptions("local:16").cpus(None, 8) == 1
    assert ClusterOptions("local:2", cpus_per_run=3).cpus(1, 8) == 3 and ClusterOptions("ray").cpus(2, 8) == 2
    assert ClusterOptions("ray").cpus(None, 8) == 1 and ClusterOptions("slurm", gpus_per_run=2).cpus(None, 8) == 8


def test_options_of_sbatch() -> None:
    """With values and without."""
    assert sbatch_options("partition=gpu,time=1:00:00,exclusive") == {
        "partition": "gpu", "time": "1:00:00", "exclusive": True,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="is about jobs"):
        ClusterOptions(None, gpus_per_run=1)


def test_who_holds_a_folder(tmp_path: Path) -> None:
    """Named while somebody does; reading takes nothing away."""
    assert folder_holder(tmp_path) == ""
    with one_writer(tmp_path):
        assert folder_holder(tmp_path).startswith(f"process {os.getpid()} on ")
    assert folder_holder(tmp_path) == ""


def test_jobs_of_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says what was expected."""
    assert main(["jobs", str(tmp_path)]) == 2
    assert "is not a study folder (it has no dataset.json)" in capsys.readouterr().err


def test_engines_are_loaded_only_when_they_are_asked_for() -> None:
    """The study's command, jobs and the head of ``local:N`` load neither Ray nor submitit."""
    code = (
        "import sys\n"
        "import levelground.commands.study, levelground.commands.jobs, levelground.commands.predict\n"
        "import levelground.scaling.cluster\n"
        "print([name for name in ('ray', 'submitit', 'torch', 'optuna', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def family(process: int) -> list[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found


def is_alive(process: int) -> bool:
    """Tell whether a process runs; one that has ended and was not asked for its status does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def end(started: "subprocess.Popen[bytes]") -> None:
    """Kill a process that this test started, and all that descend from it."""
    for one in family(started.pid):
        with contextlib.suppress(OSError):
            os.kill(one, signal.SIGKILL)
    started.wait()


STARTER = """
import os, sys, time
from pathlib import Path
from levelground.scaling.processes import start_job
process = start_job(Path(sys.argv[1]), os.environ, fork=sys.argv[2] == "fork")
while process.poll() is None:
    time.sleep(0.02)
print(process.poll())
"""
"""Starts the job of a folder, and prints how it ended."""


@pytest.mark.parametrize(
    ("how", "killed", "printed"), [("fork", "starter", ""), ("fork", "server", "-9\n"), ("fresh", "starter", "")]
)
def test_no_process_outlives_the_one_that_started_it(tmp_path: Path, how: str, killed: str, printed: str) -> None:
    """SIGKILL to the process that started a job, and to the one that forked it: the job ends too."""
    maps = MapTask(Path("model.onnx"), ("a.tif",), tmp_path, "a.tif", PredictOptions(engine="onnx"))
    job = Job("a.tif", maps, DeviceOptions(), ("predict",), tmp_path / "job")
    write_job(job)
    log = job.folder / "log.txt"
    with one_writer(job.folder):  # so that the job waits
        starter = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(job.folder), how], stdout=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 120
        while not log.exists() or "waiting for the process that has this job" not in log.read_text():
            assert time.monotonic() < deadline and starter.poll() is None, log.read_text()
            time.sleep(0.05)
        started = family(starter.pid)
        assert len(started) == (3 if how == "fork" else 2)
        os.kill(started[0 if killed == "starter" else 1], signal.SIGKILL)
        assert starter.communicate(timeout=60)[0] == printed
        while any(map(is_alive, started)):
            assert time.monotonic() < deadline
            time.sleep(0.02)


RAY_TRIES = 4
"""Ray gives a node 30 seconds to start, which a busy machine may not keep."""


class RayNodes:
    """Nodes of a Ray cluster on loopback, each ``ray start`` in a process of its own."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self.folder = Path(tempfile.mkdtemp(prefix="lg-ray-", dir="/tmp"))  # a short path: sockets lie in it
        self.address = ""

    def launch(self, number: int, *more: str) -> "subprocess.Popen[bytes]":
        """Start a node and wait until it is one; try again where Ray gave it up."""
        for _ in range(RAY_TRIES):
            port = free_port()
            head = ["--head", "--include-dashboard=false", f"--port={port}", f"--temp-dir={self.folder}/{port}"]
            where = [f"--address={self.address}"] if self.address else head
            log = self.folder / f"{number}.{port}.log"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    [
                        str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats",
                        "--object-store-memory=100000000", "--node-ip-address=127.0.0.1", *where, *more,
                    ],
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=os.environ | {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "5"},
                )  # fmt: skip
            self.started.append(process)
            while process.poll() is None and b"Ray runtime started" not in log.read_bytes():
                time.sleep(0.1)
            if process.poll() is None:
                self.address = self.address or f"127.0.0.1:{port}"
                return process
            end(process)
        raise AssertionError(log.read_text(encoding="utf-8"))

    def close(self) -> None:
        """Kill all of them."""
        for process in reversed(self.started):
            end(process)
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def ray_nodes() -> Iterator[RayNodes]:
    """No node yet; those that are started end with the test."""
    pytest.importorskip("ray", reason="Ray, of the extra cluster, is not installed")
    nodes = RayNodes()
    try:
        yield nodes
    finally:
        nodes.close()


def test_ray_gives_the_bits_of_one_process_though_a_worker_is_killed(
    scenes: Path, plain: Path, tmp_path: Path, ray_nodes: RayNodes, capsys: pytest.CaptureFixture[str]
) -> None:
    """The node that trains one of the runs is killed with all its processes: the run goes on at the other one."""
    ray_nodes.launch(0, "--num-cpus=1")
    node = ray_nodes.launch(1, "--num-cpus=1")
    more = ("--archs", "pspnet", "fpn", "--save-every", "0.1", "--cluster", f"ray:{ray_nodes.address}")
    names = [f"{arch}-{ENCODER.removeprefix('tu-')}-s0" for arch in ("pspnet", "fpn")]

    def kill_node() -> str:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            for name in names:
                job = read_status(tmp_path / "cluster" / name)
                saved = (tmp_path / "runs" / name / "state.ckpt").exists()
                if saved and job is not None and job.state == "training" and job.process in family(node.pid):
                    end(node)
                    return name
            time.sleep(0.02)
        raise AssertionError("no run was trained at the node")

    code, name = beside(arguments(scenes, tmp_path, *more, steps=STEPS), kill_node)
    said = capsys.readouterr().err
    assert code == 0, said
    assert f"{name}: lost on" in said and "queued again, it goes on from its state" in said
    assert f"{name}: goes on at step" in (tmp_path / "cluster" / name / "log.txt").read_text(encoding="utf-8")
    assert_same_bits(tmp_path, plain)


def test_no_ray_at_an_address_is_one_line(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said within seconds; what was prepared stays."""
    pytest.importorskip("ray", reason="Ray, of the extra cluster, is not installed")
    assert main(arguments(scenes, tmp_path, "--archs", "pspnet", "--cluster", "ray:127.0.0.1:9")) == 2
    assert "--cluster ray:127.0.0.1:9: nobody answers there (Connection refused)" in capsys.readouterr().err


def find_daemon(name: str) -> str | None:
    """Return the path of a daemon, which lies where only root's PATH looks."""
    path = os.environ.get("PATH", "") + os.pathsep + os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))
    return shutil.which(name, path=path)


SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={other_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=30
{more}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Slurm on this one node: ``munged``, ``slurmctld`` and ``slurmd`` on loopback; the folder of their logs."""
    pytest.importorskip("submitit", reason="submitit, of the extra cluster, is not installed")
    daemons = {name: find_daemon(name) for name in ("munged", "slurmctld", "slurmd", "sbatch")}
    missing = [name for name, path in daemons.items() if path is None]
    if missing or os.getuid():
        pytest.skip(f"Slurm cannot run here: no {', '.join(missing)}" if missing else "Slurm's daemons ask for root")
    folder = Path(tempfile.mkdtemp(prefix="lg-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    ports = [free_port(), free_port()]
    plugins = os.environ.get("LEVELGROUND_SLURM_PLUGINS")
    conf = folder / "slurm.conf"
    conf.write_text(
        SLURM_CONF.format(
            host=socket.gethostname().split(".")[0], port=ports[0], other_port=ports[1], user="root", folder=folder,
            cpus=os.cpu_count(), more=f"PluginDir={plugins}" if plugins else "",
        )
    )  # fmt: skip
    monkeypatch.setenv("SLURM_CONF", str(conf))
    commands = [
        [daemons["munged"], "--foreground", "--force", f"--socket={folder}/munge/socket", f"--key-file={key}",
         f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged.log"],
        [daemons["slurmctld"], "-D", "-f", str(conf)],
        [daemons["slurmd"], "-D", "-f", str(conf), *os.environ.get("LEVELGROUND_SLURMD", "").split()],
    ]  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            words = [str(word) for word in command]
            started.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(1)
        deadline = time.monotonic() + 60
        look = ["sinfo", "--noheader", "--format=%T"]
        while subprocess.run(look, capture_output=True, text=True, check=False).stdout.strip() != "idle":
            assert time.monotonic() < deadline, "".join(path.read_text() for path in folder.glob("*.log"))
            time.sleep(0.5)
        yield folder
    finally:
        for process in reversed(started):
            end(process)
        shutil.rmtree(folder, ignore_errors=True)


def test_slurm_gives_the_bits_of_one_process(scenes: Path, plain: Path, tmp_path: Path, slurm: Path) -> None:
    """Through real ``sbatch``: two runs as two batch jobs."""
    more = ("--archs", "pspnet", "fpn", "--save-every", "0.1", "--cluster", "slurm")
    assert main(arguments(scenes, tmp_path, *more, steps=STEPS)) == 0, (slurm / "slurmctld.log").read_text()
    assert_same_bits(tmp_path, plain)
    assert [row.state for row in study_rows(tmp_path)] == ["finished", "finished"]


def test_submitit_runs_jobs_without_slurm(
    scenes: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own local executor in place of ``sbatch``: the same way from submission to result, and the same bits."""
    pytest.importorskip("submitit", reason="submitit, of the extra cluster, is not installed")

    def open_local(options: ClusterOptions, proofs: dict[Path, str], cpus: int, scratch: Path) -> object:
        request = {
            "proofs": {str(path): text for path, text in proofs.items()}, "versions": own_versions(),
            "environment": job_environment(cpus), "cwd": str(Path.cwd()), "fork": False, "grace_s": 10.0,
        }  # fmt: skip
        return engines.SlurmExecutor({}, request, cpus, 0, scratch, engine="local")

    monkeypatch.setattr(cluster, "open_executor", open_local)
    assert main(arguments(scenes, tmp_path, "--archs", "pspnet", "--cluster", "slurm", steps=STEPS)) == 0
    (run,) = list_runs(tmp_path)
    same = plain / "runs" / run.name / "model" / "model.safetensors"
    assert sha256_file(run.model_folder / "model.safetensors") == sha256_file(same)


def test_a_tuning_on_a_cluster_gives_the_trials_of_one_process_and_a_page(
    scenes: Path, plain: Path, tmp_path: Path
) -> None:
    """Equal journals but for the minutes; the study by its recipes has the tuning in its cost table and below it."""
    pytest.importorskip("optuna", reason="Optuna, of the extra tune, is not installed")
    space = tmp_path / "space.toml"
    space.write_text("lr = {low = 1e-4, high = 1e-2, log = true}\n")
    flags = ["--archs", "pspnet", "--space", str(space), "--trials", "2", "--steps", "2", "--reruns", "1", *FLAGS]
    journals = []
    for name, more in (("here", []), ("there", ["--cluster", "local:2"])):
        study = tmp_path / name
        study.mkdir()
        shutil.copy(plain / "dataset.json", study)
        assert main(["tune", str(study), *flags, *more]) == 0
        lines = [json.loads(line) for line in (study / "tune" / "journal.jsonl").read_text().splitlines()]
        journals.append([{n: v for n, v in line.items() if n not in ("minutes", "crc32")} for line in lines])
    assert len(journals[0]) == 4 and sorted(map(str, journals[0])) == sorted(map(str, journals[1]))
    recipe = f"pspnet={study / 'tune' / 'pspnet.toml'}"
    by_recipe = ("--archs", "pspnet", "--recipe-for", recipe, "--cluster", "local:1")
    assert main(arguments(scenes, study, *by_recipe, steps=2)) == 0
    page = (study / "report.html").read_text(encoding="utf-8")
    assert "Trial number" in page and "trials / minutes" in page
    (run,) = list_runs(study)
    assert run.card.tuning is not None and len(run.card.tuning.reruns) == 1


def test_one_process_forks_all_jobs(tmp_path: Path) -> None:
    """The server of the first job is there for the next one, after the first has ended; each has an exit status."""
    processes.import_ahead({**os.environ, "OMP_NUM_THREADS": "1"})
    servers = [processes._server]
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        process = processes.start_job(folder, {**os.environ, "OMP_NUM_THREADS": "1"}, fork=True)
        while (code := process.poll()) is None:
            time.sleep(0.02)
        assert code == 2 and "cannot be read as a job" in (folder / "log.txt").read_text()
        time.sleep(0.2)
        assert processes._server is not None and processes._server._process.poll() is None
        servers.append(processes._server)
    assert servers[0] is servers[1] is servers[2]


@dataclass
class Nobody:
    """An engine whose machines are gone."""

    waiting: list[Path]

    def check(self) -> None:
        """Refuse nothing."""

    def problem(self) -> str:
        """Say so."""
        return "none of the nodes has what a run needs"

    def submit(self, folder: Path) -> None:
        """Take a job."""
        self.waiting.append(folder)

    def ended(self) -> list[tuple[Path, Ended]]:
        """Return nothing."""
        return []

    def cancel(self) -> None:
        """Cancel nothing."""

    def close(self) -> None:
        """Close nothing."""


def make_job(tmp_path: Path) -> Job:
    """Return a job of a run, without its data."""
    task = RunTask(tmp_path, "unet-s0", "unet", 0, False, Recipe(), Budget(steps=1), RunOptions())
    return Job("unet-s0", task, DeviceOptions(), ("study",), job_folder(tmp_path / "cluster", "unet-s0"))


def test_a_cluster_that_is_gone_ends_the_head_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a stated wait; the job is stopped, not failed."""
    nobody, job = Nobody([]), make_job(tmp_path)
    monkeypatch.setattr(cluster, "open_executor", lambda *_: nobody)
    monkeypatch.setattr(cluster, "ASK_EVERY_S", 0.0)
    monkeypatch.setattr(cluster, "NO_WORKER_S", 0.5)
    expected = "--cluster ray: none of the nodes has what a run needs, for 1 s by now; 0 of 1 jobs are done. Nothing is"
    with pytest.raises(UnfinishedError, match=re.escape(expected)):
        cluster.run_jobs([job], ClusterOptions("ray"), cpus=1, scratch=tmp_path, shared=[tmp_path])
    status = read_status(job.folder)
    assert nobody.waiting == [job.folder] and status is not None and status.state == "stopped"


def test_a_full_disk_on_a_worker_is_named_though_its_status_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason is in the job's log, where the head reads it; the exit status is the user's."""
    job = make_job(tmp_path)
    write_job(job)

    def full(*_: object, **__: object) -> None:
        monkeypatch.setattr(worker, "write_status", full)
        raise DiskError("/shared/state.ckpt: No space left on device. Free space.")

    monkeypatch.setattr(worker, "_train", full)
    monkeypatch.setattr(worker, "stop_with_starter", lambda: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        code = worker.main(job.folder)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    log = capsys.readouterr().err
    assert code == 2 and "DiskError: /shared/state.ckpt: No space left on device" in log
    (job.folder / "log.txt").write_text(log)
    nobody = Nobody([])
    nobody.ended = lambda: [(job.folder, Ended("there", code))]  # type: ignore[method-assign]
    monkeypatch.setattr(cluster, "open_executor", lambda *_: nobody)
    monkeypatch.setattr(cluster, "write_job", lambda _: None)
    (failure,) = cluster.run_jobs([job], ClusterOptions("ray"), cpus=1, scratch=tmp_path, shared=[tmp_path])
    assert failure.where == "there" and "No space left on device" in failure.reason


def test_maps_of_many_rasters_are_jobs_with_the_same_bytes(
    plain: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One raster a job, subfolders kept: maps and the table of areas equal those of one process."""
    rasters = tmp_path / "rasters"
    (rasters / "b").mkdir(parents=True)
    first, second = sorted(scenes.rglob("*_sat.jpg"))[:2]
    shutil.copy(first, rasters / "one.jpg")
    shutil.copy(second, rasters / "b" / "two.jpg")
    command = [
        "predict",
        str(plain / "runs" / f"pspnet-{ENCODER.removeprefix('tu-')}-s0"),
        str(rasters),
        "--threads",
        "1",
    ]
    command += ["--device", "cpu", "--precision", "fp32"]
    assert main([*command, "--out", str(tmp_path / "here")]) == 0
    there = tmp_path / "there"
    assert main([*command, "--out", str(there), "--cluster", "local:2"]) == 0
    found = {
        path.relative_to(there): path.read_bytes()
        for path in there.rglob("*")
        if path.is_file() and path.name[0] != "."
    }
    assert found == {path: (tmp_path / "here" / path).read_bytes() for path in found}
    assert {path.as_posix() for path in found} >= {"one_mask.png", "b/two_mask.png", "areas.csv"}
    assert not (there / ".jobs").exists()
    capsys.readouterr()
    assert main([*command, "--out", str(there), "--cluster", "local:2"]) == 2
    assert "exists already. Pass --overwrite" in capsys.readouterr().err
