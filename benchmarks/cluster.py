"""What it costs to give runs to a cluster, and what two workers gain.

Run from the project's root on a quiet machine: ``python benchmarks/cluster.py [--quick] [--no-ray] [--steps N]``.
Generated scenes, a tiny network, one thread a run; some CPU minutes.

A study of four short runs is made plainly, with ``local:1`` and through a Ray node on loopback; each command is given a
second time, when nothing is left to train, and that time taken off, so that what the head does before and after does
not count. The overhead per run is what remains above the plain study and the workers' imports (target 5 s). Then four
longer runs of one architecture, in a row and on ``local:2``, likewise, imports included (target .60 of the time).
"""

import argparse
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from levelground.synthetic.scenes import write_scenes

RUNS, TARGET_S, TARGET_SHARE = 4, 5.0, 0.60
SHORT, LONG = "--archs pspnet fpn --seeds 0 1", "--archs fpn --seeds 0 1 2 3"
FLAGS = (
    "--encoder tu-test_resnet --encoder-weights none --tile 64 --halo 8 "
    "--batch 2 --validations 2 --device cpu --precision fp32 --threads 1"
)
IMPORTS = "import lightning_fabric, segmentation_models_pytorch, levelground.pipeline, levelground.training.prepare_run"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


class Taken(NamedTuple):
    """Seconds by the clock, and CPU seconds of a command and all that it waited for (not of Ray's workers)."""

    wall: float
    cpu: float

    def less(self, other: "Taken") -> "Taken":
        """Subtract another one."""
        return Taken(self.wall - other.wall, self.cpu - other.cpu)

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.cpu:.1f} CPU s)"


def seconds(*command: str) -> Taken:
    """Return how long a command takes; what it says is kept for its failure."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(time.perf_counter() - started, cpu)


def study_seconds(folder: Path, name: str, steps: int, runs: str, *more: str) -> Taken:
    """Return how long the runs of a study take: its command, less the same command once they are done."""
    out = folder / f"{name}-{steps}"
    data = ["--data", str(folder / "scenes"), "--cache", str(folder / "cache"), "--out", str(out)]
    command = [
        sys.executable,
        "-m",
        "levelground",
        "study",
        *data,
        "--steps",
        str(steps),
        *runs.split(),
        *FLAGS.split(),
        *more,
    ]
    whole = seconds(*command)
    again = seconds(*command)
    print(f"{name}, {RUNS} runs of {steps} steps: {whole}, once they are done {again}", flush=True)
    return whole.less(again)


@contextmanager
def ray_node(folder: Path) -> Iterator[str]:
    """Start a Ray node with one CPU on loopback; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = folder / "ray.log"
    with log.open("wb") as out:
        node = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats",
                "--include-dashboard=false", "--num-cpus=1", "--object-store-memory=100000000",
                "--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}/ray",
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=ENVIRONMENT,
        )  # fmt: skip
    try:
        while "Ray runtime started" not in log.read_text(encoding="utf-8"):
            if node.poll() is not None:
                raise SystemExit(log.read_text(encoding="utf-8"))
            time.sleep(0.2)
        yield address
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(60)


def main() -> int:
    """Measure, print, and return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-ray", action="store_true", help="leave Ray out")
    parser.add_argument("--quick", action="store_true", help="without Ray, and with a tenth of the steps")
    parser.add_argument("--steps", type=int, default=1600, help="steps of the longer runs")
    options = parser.parse_args()
    steps = options.steps // 10 if options.quick else options.steps
    folder = Path(tempfile.mkdtemp(prefix="lg-bench-", dir="/tmp"))  # a short path: Ray's sockets lie in it
    try:
        write_scenes(folder / "scenes", n=8, size=128, seed=0)
        seconds(sys.executable, "-c", IMPORTS)  # from the disk once
        imports = seconds(sys.executable, "-c", IMPORTS)
        load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
        print(f"imports of a worker: {imports}; {os.cpu_count()} CPUs{load}")
        plain = study_seconds(folder, "plain", 4, SHORT)
        taken = {"local:1": study_seconds(folder, "local1", 4, SHORT, "--cluster", "local:1")}
        if not (options.no_ray or options.quick):
            with ray_node(folder) as address:
                taken["Ray"] = study_seconds(folder, "ray", 4, SHORT, "--cluster", f"ray:{address}")
        above = {name: value.less(plain).less(imports) for name, value in taken.items()}
        for name, value in above.items():
            cpu = f", {value.cpu / RUNS:.2f} CPU s" if name != "Ray" else ""
            print(
                f"{name}: overhead {value.wall / RUNS:.2f} s a run on top of the imports{cpu} (target {TARGET_S:g} s)"
            )
        row = study_seconds(folder, "plain", steps, LONG)
        two = study_seconds(folder, "local2", steps, LONG, "--cluster", "local:2")
        share = two.wall / row.wall
        print(f"two workers: {two}, in a row {row}: {share:.2f} of the time (target {TARGET_SHARE:.2f})")
        return int(max(value.wall for value in above.values()) > TARGET_S * RUNS or share > TARGET_SHARE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
