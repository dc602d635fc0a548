"""Freed memory that is kept, and threads that wait passively: nothing that is computed changes."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders.commands import run_code

from levelground import cli, runtime

TRAIN = """
import hashlib, json, resource, sys
from pathlib import Path
from levelground import runtime
if sys.argv[1] == "old":
    runtime.reuse_freed_memory = lambda: False
import builders.training as training
from builders.study import build_study
from levelground.evaluation.evaluate import evaluate_run
from levelground.metrics.counts import read_counts
machine = runtime.make_runtime("cpu", "fp32", threads=1)
dataset = build_study(Path(sys.argv[2]))
run = training.train(training.small_spec(dataset, steps=4), dataset, dataset.folder)
run = evaluate_run(run, dataset, "test", runtime=machine)
counts = read_counts(run.counts_path("test"))
kept = [counts.counts.tobytes(), counts.boundary.tobytes(), counts.conf_sum.tobytes(), counts.loss_sum.tobytes()]
import torch
block = 64 << 20  # beyond the largest block that glibc keeps by itself
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.zeros(block // 4)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
weights = (run.model_folder / "model.safetensors").read_bytes()
print(json.dumps([hashlib.sha256(part).hexdigest() for part in (weights, *kept)] + [faults]))
"""


def test_weights_and_counts_are_the_same_to_the_bit_and_pages_are_kept(tmp_path: Path) -> None:
    """Two processes, as before and as now: what they compute is equal, and blocks of 64 MiB stay mapped."""
    if not runtime.reuse_freed_memory():
        pytest.skip("this system's allocator is not glibc's own, or a variable of the user's sets it")
    found = {}
    for setting in ("old", "new"):
        found[setting] = json.loads(run_code(TRAIN, setting, str(tmp_path / setting)).splitlines()[-1])
    assert found["old"][:-1] == found["new"][:-1]
    assert found["new"][-1] < found["old"][-1] / 4


def test_an_allocator_of_the_users_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of malloc, and another allocator that is loaded first."""
    for name, value in (
        ("MALLOC_MMAP_MAX_", "4"),
        ("LD_PRELOAD", "j.so"),
        ("GLIBC_TUNABLES", "glibc.malloc.top_pad=1"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not runtime.reuse_freed_memory()


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library is touched there, and a C library without mallopt is no error."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        patch.setattr(ctypes, "CDLL", None)
        assert not runtime.reuse_freed_memory()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not runtime.reuse_freed_memory()


@pytest.mark.parametrize(("load", "busy", "said"), [(0.1, 0.0, False), (6.0, 0.0, False), (6.0, 0.5, True)])
def test_threads_wait_passively_on_a_shared_machine(
    load: float, busy: float, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said in one line, before torch is loaded, unless the load is of work that ended; a user's own policy stays."""
    monkeypatch.setattr(runtime, "busy_share", lambda: busy)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0, 0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "environ", {})
    cli.wait_passively_if_shared()
    assert (os.environ.get("OMP_WAIT_POLICY") == "PASSIVE") == said
    text = "Other processes use this machine (load 6.0 on 2 cores): threads wait without spinning."
    assert (text in " ".join(capsys.readouterr().err.split())) == said
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "ACTIVE"})
    cli.wait_passively_if_shared()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_busy_process_is_seen() -> None:
    """The processors' share is measured; where the system does not tell, they are taken for busy."""
    if not Path("/proc/stat").exists():
        assert runtime.busy_share() == 1
        return
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    ) as busy:
        assert busy.stdout is not None and busy.stdout.readline()
        assert runtime.busy_share(0.5) > 0.5 / (os.cpu_count() or 1)
        busy.kill()
