"""Kill a study at random moments with SIGKILL, go on each time, and compare the end with that of an undisturbed one.

Run from the project's root: ``python benchmarks/kill.py [--kills 50] [--quick] [--fresh] [--jobs 2] [--seed 0]``. A
small study on generated scenes (two architectures, two validations each, evaluation, report) is run by ``levelground
study`` as processes of their own. Moments are spread over the whole duration of an undisturbed one. Compared are
weights and predicted masks byte by byte, every array of the counts, the history and the comparison record without what
a clock says, and the names of all files but temporary ones, which are swept away some minutes later. Target: all
identical.
"""

import argparse
import collections
import concurrent.futures
import itertools
import json
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np

from levelground import SceneCounts, read_counts, read_history
from levelground.cli import main
from levelground.records import sha256_array, sha256_file, to_json
from levelground.synthetic.scenes import write_scenes

FLAGS = shlex.split(
    "--archs linknet fpn --encoder tu-mobilenetv3_small_050 --encoder-weights none --tile 64 --halo 8 --batch 2 "
    "--steps 40 --validations 2 --threads 1 --device cpu --precision fp32 --save-every 0.2"
)
CONTEXT = multiprocessing.get_context("forkserver")
"""Studies are forked from a process of one thread that has loaded the libraries and done nothing else: what runs and is
killed is the command line's own ``main``, and no half hour goes into loading torch. ``--fresh`` starts interpreters."""
CLOCK = {
    "created", "time", "command", "time_s", "train_s", "wall_s", "peak_memory_mib", "speed", "throughput",
    "counts_sha256", "megapixels_per_s", "images_per_s", "pareto", "validation_s", "sha256", "crc32",
}  # fmt: skip
"""Keys of records that hold what a clock, or the memory of a process, says, and the checksums over these."""


@dataclass(frozen=True)
class Trial:
    """One kill."""

    phase: str
    """What was under way; empty where the study had ended before."""
    differences: tuple[str, ...]
    extra_s: float
    """Time of both processes beyond that of an undisturbed one."""


def study(arguments: list[str], log: Path, fresh: bool) -> None:
    """In a process of its own: run the command line, in this interpreter or in a new one."""
    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if fresh:
        os.execv(sys.executable, [sys.executable, "-m", "levelground", *arguments])  # noqa: S606 - ours
    sys.exit(main(arguments))


@dataclass(frozen=True)
class Starter:
    """Starts studies on the same scenes."""

    data: Path
    fresh: bool

    def start(self, out: Path) -> ForkServerProcess:
        """Start a study in a process group of its own."""
        arguments = ["study", "--data", str(self.data), "--out", str(out), "--cache", str(out / "cache"), *FLAGS]
        process = CONTEXT.Process(target=study, args=(arguments, log_of(out), self.fresh))
        process.start()
        return process

    def finish(self, out: Path) -> float:
        """Run a study to its end and return the seconds it took."""
        started, process = time.monotonic(), self.start(out)
        process.join()
        if process.exitcode:
            sys.exit(f"the study ended with status {process.exitcode}:\n{log_of(out).read_text()[-2000:]}")
        return time.monotonic() - started

    def kill(self, out: Path, moment_s: float) -> str:
        """Start a study, kill it after so many seconds, and say what was under way."""
        process = self.start(out)
        process.join(moment_s)
        if process.exitcode is not None:
            return ""
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return phase(out)


def log_of(out: Path) -> Path:
    """Where a study's words go."""
    return out.parent / f"{out.name}.log"


def phase(out: Path) -> str:
    """What a killed study was doing, from what it left."""
    cards = [json.loads(path.read_text()) for path in sorted(out.glob("runs/*/run.json"))]
    if not (out / "dataset.json").exists():
        return "preparing" if (out / "cache").exists() else "starting"
    if any(card["status"] != "finished" for card in cards):
        return "training"
    if any(not card.get("evaluations") for card in cards):
        return "evaluating"
    return "reporting" if len(cards) == 2 else "between runs"


def timeless(value: Any) -> Any:
    """A record without what a clock says."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in CLOCK}
    if isinstance(value, list):
        return [timeless(item) for item in value if not _tells_speed(item)]
    return value


def _tells_speed(item: object) -> bool:
    """Whether it is a finding about how fast runs were."""
    figures = item.get("figures") if isinstance(item, dict) else None
    return isinstance(figures, dict) and any(key.endswith("_per_s") for key in figures)


def fingerprint(out: Path) -> dict[str, Any]:
    """All that must be the same, by the name of the file that holds it."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file() and ".part" not in path.suffixes):
        name, value = path.relative_to(out).as_posix(), None
        if path.name == "model.safetensors" or (path.suffix == ".png" and "preds-" in name):
            value = sha256_file(path)
        elif path.name.startswith("counts-"):
            counts = read_counts(path)
            arrays = {field.name: getattr(counts, field.name) for field in fields(SceneCounts)}
            value = {key: sha256_array(np.asarray(array)) for key, array in arrays.items() if key != "forward_s"}
        elif path.name == "history.jsonl":
            value = [timeless(to_json(line)) for line in read_history(path.parent)]
        elif path.name.endswith("hashes.json"):  # of tables and pages, which show what a clock says
            value = sorted(json.loads(path.read_text())["files"])
        elif path.suffix == ".json" and "cache" in path.parts:
            if not path.with_suffix(".npy").exists():  # what prepare found, by a name that the study's folder decides
                name = "cache: what was prepared"
        elif path.suffix == ".json":
            value = timeless(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            value = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        found[name] = value
    return found


def differences(expected: Any, found: Any, where: str = "") -> tuple[str, ...]:
    """The places at which two fingerprints differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        parts = [
            differences(expected[key], found[key], f"{where} {key}")
            if key in found and key in expected
            else (f"{where} {key} is {'missing' if key in expected else 'left over'}",)
            for key in sorted(expected.keys() | found.keys())
        ]
        return tuple(itertools.chain.from_iterable(parts))
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        parts = [differences(a, b, f"{where}[{n}]") for n, (a, b) in enumerate(zip(expected, found, strict=True))]
        return tuple(itertools.chain.from_iterable(parts))
    return () if expected == found else (f"{where}: {str(expected)[:60]} became {str(found)[:60]}",)


def without_place(found: dict[str, Any], out: Path) -> dict[str, Any]:
    """A fingerprint without the name of the study's own folder."""
    return dict(json.loads(json.dumps(found).replace(str(out), "OUT")))


def tried(number: int, moment_s: float, whole_s: float, starter: Starter, out: Path, expected: dict[str, Any]) -> Trial:
    """Kill once, go on, compare."""
    started = time.monotonic()
    what = starter.kill(out, moment_s)
    starter.finish(out)
    extra = time.monotonic() - started - whole_s
    trial = Trial(what, differences(expected, without_place(fingerprint(out), out)), extra)
    fate = "identical" if not trial.differences else "; ".join(trial.differences[:4])
    print(f"kill {number} after {moment_s:.1f} s, {what or 'ended before'}: {fate}", flush=True)
    shutil.rmtree(out)
    return trial


def measured(flags: argparse.Namespace, starter: Starter, folder: Path) -> list[Trial]:
    """An undisturbed study in each job, and then as many kills as asked."""
    rng, kills = random.Random(flags.seed), 4 if flags.quick else flags.kills
    with concurrent.futures.ThreadPoolExecutor(flags.jobs) as pool:
        whole = [folder / f"undisturbed-{number}" for number in range(max(2, flags.jobs))]
        starter.finish(folder / "warm")
        whole_s = statistics.median(pool.map(starter.finish, whole))
        expected, *others = (without_place(fingerprint(out), out) for out in whole)
        for other in others:
            if differences(expected, other):
                sys.exit("two undisturbed studies differ: " + "; ".join(differences(expected, other)))
        print(f"undisturbed: {whole_s:.1f} s, {len(expected)} files, {len(whole)} times the same", flush=True)
        moments = [whole_s * (number + rng.random()) / kills for number in range(kills)]
        return list(
            pool.map(
                lambda item: tried(item[0], item[1], whole_s, starter, folder / f"trial-{item[0]}-", expected),
                enumerate(moments, start=1),
            )
        )


def judged() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="four kills")
    parser.add_argument("--fresh", action="store_true", help="start a new interpreter each time; slower")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="studies at a time")
    parser.add_argument("--seed", type=int, default=0)
    flags, started = parser.parse_args(), time.monotonic()
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    CONTEXT.set_forkserver_preload(
        ["levelground.pipeline", "levelground.datasets.prepare", "levelground.commands.study"]
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        write_scenes(folder / "data", n=10, size=96, seed=0)
        trials = measured(flags, Starter(folder / "data", flags.fresh), folder)
    phases = collections.Counter(trial.phase or "ended before" for trial in trials)
    same = sum(not trial.differences for trial in trials)
    print(f"killed while: {', '.join(f'{name} {n}' for name, n in phases.most_common())}")
    print(f"a kill costs {statistics.median(trial.extra_s for trial in trials):.1f} s (median, with a second start)")
    print(f"{same} of {len(trials)} identical (target all) in {(time.monotonic() - started) / 60:.1f} minutes")
    print("verdict:", "met" if same == len(trials) else "short")
    return 0 if same == len(trials) else 1


if __name__ == "__main__":
    sys.exit(judged())
