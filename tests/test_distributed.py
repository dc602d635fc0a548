"""The first process and the others: who ends when."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from levelground.errors import TrainingError
from levelground.runtime import Runtime
from levelground.training.distributed import broadcast_job, main_process
from levelground.training.prepare_run import worker_job

CUT_OFF = (
    "[pair.cc:561] Connection closed by peer [127.0.0.1]:24448. This is typically caused by a remote worker crashing."
)


@pytest.fixture
def other() -> "subprocess.Popen[bytes]":
    """A process that would go on for minutes."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])


def runtime_with(other: "subprocess.Popen[bytes]") -> Runtime:
    """A runtime of two processes."""
    launcher = SimpleNamespace(procs=[other])
    fabric = SimpleNamespace(world_size=2, global_rank=0, strategy=SimpleNamespace(launcher=launcher))
    return Runtime("cpu", "fp32", 1, True, fabric)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a fault")])
def test_the_others_end_with_the_first(other: "subprocess.Popen[bytes]", error: BaseException) -> None:
    """Wherever they wait; the error goes on."""
    with pytest.raises(type(error)), main_process(runtime_with(other), worker_job):
        raise error
    assert other.returncode == -9


def test_another_process_that_is_gone_is_one_line(other: "subprocess.Popen[bytes]") -> None:
    """In place of the transport's own words."""
    line = r"^another process of this run ended\. The last good state is kept: run the same command again\.$"
    with pytest.raises(TrainingError, match=line), main_process(runtime_with(other), worker_job):
        raise RuntimeError(CUT_OFF)


def test_one_process_leads_nobody() -> None:
    """Nothing is sent."""
    alone = Runtime("cpu", "fp32", 1, True, SimpleNamespace(world_size=1, global_rank=0))  # type: ignore[arg-type]
    with main_process(alone, worker_job):
        broadcast_job(alone, "anything")
