"""``levelground train --processes 2``: two gloo processes on one run, stopped, and gone on with."""

import signal
import time
from pathlib import Path

import pytest
from builders.commands import Process, start_command
from builders.study import ENCODER, build_study
from builders.training import assert_same_run

from levelground.history import read_history
from levelground.runs import list_runs, read_run

STEPS = 60
FLAGS = (
    f"--arch pspnet --encoder {ENCODER} --encoder-weights none --tile 32 --halo 4 --batch 4 --validations 2 "
    f"--steps {STEPS} --device cpu --precision fp32 --threads 1 --processes 2"
).split()


def signalled(process: Process, number: signal.Signals, state: Path) -> tuple[int, str]:
    """Signal the first process as soon as it has saved a state; its status and what both said."""
    deadline = time.monotonic() + 120
    while not state.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)  # returns when neither holds the pipe any longer: both are gone
    return process.returncode, said


def test_two_processes_train_one_run_and_go_on_exactly(tmp_path: Path) -> None:
    """PSPNet leaves encoder layers unused. The first process is stopped; the other ends with it."""
    first, second = (build_study(tmp_path / name).folder for name in ("undisturbed", "disturbed"))
    whole = start_command("train", str(first), *FLAGS)
    folder = second / "runs" / "pspnet-mobilenetv3_small_050-s0"
    command = ["train", str(second), *FLAGS, "--save-every", "0.2"]
    status, said = signalled(start_command(*command), signal.SIGTERM, folder / "state.ckpt")
    assert (status, read_run(folder).card.status) == (130, "stopped")
    assert "Error" not in said
    again = start_command("train", "--resume", str(folder))
    assert (again.communicate()[1].count("goes on at step"), again.returncode) == (1, 0)
    said = [line for line in whole.communicate()[1].splitlines() if line.startswith("train ")]
    assert whole.returncode == 0
    assert [line.split(", ")[0] for line in said] == [f"train {folder.name}: {step} of 60" for step in (30, 60)]
    (run,) = list_runs(first)
    assert (run.card.processes, run.card.status, run.card.images_seen) == (2, "finished", 4 * STEPS)
    assert run.card.megapixels_seen == pytest.approx(4 * STEPS * 32 * 32 / 1e6)
    assert len(read_history(folder)) == STEPS + 2
    assert_same_run(read_run(folder), run)


def test_two_processes_end_a_budget_of_time_together(tmp_path: Path) -> None:
    """The first one decides when: the other takes the same steps at the same rates, and ends with it."""
    folder = build_study(tmp_path / "study").folder
    flags = [flag for flag in FLAGS if flag not in ("--steps", str(STEPS))]
    process = start_command("train", str(folder), *flags, "--minutes", "0.1")
    _, said = process.communicate(timeout=200)
    assert (process.returncode, "Error" in said) == (0, False)
    (run,) = list_runs(folder)
    assert (run.card.processes, run.card.status) == (2, "finished")
    assert run.card.images_seen == 4 * (run.card.steps_done or 0) > 4
    assert run.card.wall_s == pytest.approx(6, abs=3)
    shares = [line.progress or 0.0 for line in read_history(run.folder) if line.kind == "step"]
    assert shares == sorted(shares)
