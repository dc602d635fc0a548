"""Real processes that lose their loaders, their terminal, their shared memory or their room in memory."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders.commands import Process, start_command
from builders.study import ENCODER, build_study
from builders.training import assert_same_run

from levelground.cli import main
from levelground.runs import Run, list_runs, read_run

FLAGS = (
    f"--arch linknet --encoder {ENCODER} --encoder-weights none --tile 32 --halo 4 --batch 4 --validations 2 "
    "--steps 150 --device cpu --precision fp32 --threads 1"
).split()
SAVING = ["--save-every", "0.2"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run without an interruption."""
    study = build_study(tmp_path_factory.mktemp("whole")).folder
    assert main(["train", str(study), *FLAGS]) == 0
    return list_runs(study)[0]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A prepared study."""
    return build_study(tmp_path).folder


def start(*command: str, before: str = "") -> "subprocess.Popen[str]":
    """Start the command line in a process group of its own, behind a line of the shell."""
    line = f'{before} exec "$0" -m levelground "$@"'
    return subprocess.Popen(
        ["bash", "-c", line, sys.executable, *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    )


def wait_for(process: "subprocess.Popen[str] | Process", path: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 200
    while not path.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)


def loaders(process: Process) -> list[int]:
    """The processes that load scenes: the children that run this program's main module."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"levelground" in Path(f"/proc/{child}/cmdline").read_bytes()]


def one_error(said: str) -> str:
    """The one line of ours that a command ended with."""
    (line,) = (line for line in said.splitlines() if re.match(r"\w+Error: ", line))
    assert "Traceback" not in said
    return line


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in Linux's /proc")
def test_a_loader_that_the_system_kills_is_one_line_and_the_same_command_goes_on(study: Path, whole: Run) -> None:
    """As the kernel does when memory ends."""
    folder = study / "runs" / whole.name
    process = start_command("train", str(study), *FLAGS, *SAVING, "--workers", "2")
    wait_for(process, folder / "state.ckpt")
    os.kill(loaders(process)[0], signal.SIGKILL)
    said = process.communicate(timeout=100)[1]
    line = one_error(said)
    assert process.returncode == 2
    assert re.search(
        r"LoaderError: \S+: stopped at step \d+ of 150; all is saved, the same command goes on: a loader", line
    )
    assert read_run(folder).card.status == "stopped"
    assert main(["train", str(study), *FLAGS, *SAVING]) == 0
    assert_same_run(read_run(folder), whole)


def test_a_terminal_that_closes_saves_the_state(study: Path, whole: Run) -> None:
    """SIGHUP goes to the process and its loaders, and nobody reads the standard error stream any more."""
    folder = study / "runs" / whole.name
    process = start_command("train", str(study), *FLAGS, *SAVING, "--workers", "2")
    wait_for(process, folder / "state.ckpt")
    process.stderr.close()
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(timeout=100) == 130
    assert read_run(folder).card.status == "stopped"
    assert main(["train", str(study), *FLAGS, *SAVING]) == 0
    assert_same_run(read_run(folder), whole)


def test_without_shared_memory_the_process_loads_the_scenes_itself(study: Path, whole: Run) -> None:
    """Locks of loader processes live in /dev/shm, which small containers do not have."""
    own = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "bash", "-c"]
    hide = "mount --bind /proc /dev/shm"  # a folder in which nobody can make files
    if shutil.which("unshare") is None or subprocess.run([*own, hide], capture_output=True).returncode:
        pytest.skip("this system lets no process mount something over /dev/shm for itself")
    command = [*own, f'{hide}; exec "$0" -m levelground "$@"', sys.executable, "train", str(study), *FLAGS]
    process = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.PIPE, text=True)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    assert said.count("Loader processes cannot be started") == 1
    assert "Traceback" not in said
    assert_same_run(read_run(study / "runs" / whole.name), whole)


@pytest.mark.parametrize("kib", [300_000, 1_500_000])
def test_a_limit_on_memory_is_one_line(study: Path, kib: int) -> None:
    """Too little for the libraries, or for the work."""
    process = start("train", str(study), *FLAGS, before=f"ulimit -v {kib};")
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 2, said
    assert "no more memory may be taken" in one_error(said)
    if kib > 10**6:  # the remedy: another limit
        assert main(["train", str(study), *FLAGS]) == 0


@pytest.mark.parametrize("command", [["legends"], ["--help"], ["legends", "deepglobe"]])
def test_closed_standard_streams_harm_nothing(command: list[str]) -> None:
    """As a service starts programs."""
    before = "exec <&- >&- 2>&-;"
    done = subprocess.run(["bash", "-c", f'{before} exec "$0" -m levelground "$@"', sys.executable, *command])
    assert done.returncode == 0


def test_run_folders_without_a_card_are_named(whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are not left out in silence."""
    study = Path(shutil.copytree(whole.study, tmp_path / "study"))
    (study / "runs" / "broken-off" / "model").mkdir(parents=True)
    assert main(["evaluate", str(study), "--device", "cpu", "--precision", "fp32", "--threads", "1"]) == 0
    assert main(["compare", str(study)]) == 0
    line = f"Warning: left out, without a card (run.json): {study / 'runs' / 'broken-off'}."
    assert capsys.readouterr().err.splitlines().count(line) == 2
    assert main(["check", str(study)]) == 2
    assert f"{study / 'runs' / 'broken-off' / 'run.json'}: is missing." in capsys.readouterr().err
    shutil.rmtree(study / "runs" / "broken-off")  # the remedy
    assert main(["compare", str(study)]) == 0
    assert "without a card" not in capsys.readouterr().err
    assert main(["check", str(study)]) == 0


FOLLOWED = {
    "Ctrl-C, SIGTERM, a terminal that closes": "test_loop.py::test_a_signal_stops_and_the_run_goes_on_to_the_bit",
    "SIGKILL, power cut": "test_loop.py::test_an_interruption_without_a_save_goes_on_from_the_last_state",
    "the system kills a loader process":
        "commands/test_interrupted.py::test_a_loader_that_the_system_kills_is_one_line_and_the_same_command_goes_on",
    "no `/dev/shm`":
        "commands/test_interrupted.py::test_without_shared_memory_the_process_loads_the_scenes_itself",
    "a limit on memory": "commands/test_interrupted.py::test_a_limit_on_memory_is_one_line",
    "a run folder without `run.json`": "commands/test_interrupted.py::test_run_folders_without_a_card_are_named",
    "disk full": "commands/test_full_disk.py::test_a_disk_that_fills_up_while_a_run_is_trained",
    "another process in the study": "commands/test_train.py::test_one_writer",
    "bad file in the data": "commands/test_bad_input.py::test_bad_data_are_refused_and_every_remedy_works",
    "loss is not a number":
        "commands/test_bad_input.py::test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state",
    "damaged checkpoint": "test_loop.py::test_a_damaged_state_falls_back_to_the_one_before",
}  # fmt: skip
"""Which test makes each event of the table in docs/safety.md happen and does what the table says."""


def test_each_event_of_the_safety_table_has_a_test_that_follows_it() -> None:
    """A row without one, and a test that is gone, are found."""
    tests = Path(__file__).parents[1]
    page = (tests.parent / "docs" / "safety.md").read_text(encoding="utf-8")
    rows = page.partition("| event |")[2].partition("\n\n")[0].splitlines()[2:]
    events = [row.split("|")[1].strip() for row in rows]
    assert len(events) == len(FOLLOWED)
    for event, (beginning, test) in zip(events, FOLLOWED.items(), strict=True):
        assert event.startswith(beginning)
        file, _, name = test.partition("::")
        assert f"def {name}(" in (tests / file).read_text(encoding="utf-8")
