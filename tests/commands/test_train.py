"""``levelground train``: end to end, stopped from outside, and gone on with."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest
from builders.commands import start_command
from builders.runs import edit_card
from builders.study import ENCODER, SPLIT, build_study
from builders.training import assert_same_run

from levelground.cli import main
from levelground.history import read_history
from levelground.records import one_writer
from levelground.runs import Run, list_runs, read_run

STEPS = 150
FLAGS = (
    f"--arch linknet --encoder {ENCODER} --encoder-weights none --tile 32 --halo 4 --batch 2 --validations 2 "
    f"--steps {STEPS} --device cpu --precision fp32 --threads 1"
).split()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All steps without interruption."""
    study = build_study(tmp_path_factory.mktemp("undisturbed")).folder
    assert main(["train", str(study), *FLAGS]) == 0
    return only_run(study)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A prepared study of tiny scenes."""
    return build_study(tmp_path).folder


def only_run(study: Path) -> Run:
    """The one run of a study."""
    (run,) = list_runs(study)
    return run


def test_a_run_from_the_command_line(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0, a finished run with its model card; the second call says that it is reused, and renews a lost card."""
    flags = ["train", str(study), *FLAGS, "--steps", "4", "--seed", "3"]
    assert main(flags) == 0
    run = only_run(study)
    assert (run.name, run.card.status, run.card.steps_done) == ("linknet-mobilenetv3_small_050-s3", "finished", 4)
    assert run.card.recipe is not None
    assert run.card.recipe.batch == 2
    model_card = run.model_folder / "README.md"
    text = model_card.read_text(encoding="utf-8")
    model_card.unlink()
    assert main(flags) == 0
    assert model_card.read_text(encoding="utf-8") == text
    assert "trained already, 4 steps; reused." in capsys.readouterr().err


def test_a_recipe_file_with_flags_beside_it(study: Path, tmp_path: Path) -> None:
    """Flags win over the file, the file over the default recipe."""
    recipe = tmp_path / "mine.toml"
    recipe.write_text('loss = "focal+dice"\nbatch = 3\nlr = 5e-4\n')
    assert main(["train", str(study), "--recipe", str(recipe), *FLAGS, "--steps", "2"]) == 0
    card = only_run(study).card.recipe
    assert card is not None
    assert (card.loss, card.batch, card.lr, card.name) == ("focal+dice", 2, 5e-4, str(recipe))


def test_the_origin_recipe(study: Path) -> None:
    """Whole scenes, all classes, frozen children."""
    flags = ["--recipe", "origin", "--encoder-weights", "none", "--arch", "pspnet", "--steps", "2", "--device", "cpu"]
    assert main(["train", str(study), *flags, "--threads", "1"]) == 0
    card = only_run(study).card
    assert card.recipe is not None
    assert (card.tile, card.outputs, card.recipe.loss) == (0, (0, 1, 2, 3), "smp-dice")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--arch", "unett"], "ModelError: unett: no such architecture. Known: unet, "),
        (
            ["--arch", "dpt", "--encoder", "resnet18"],
            "ModelError: dpt with encoder resnet18: cannot be built (Only ",
        ),
        (
            ["--arch", "pan", "--tile", "64"],
            "ModelError: pan with encoder tu-mobilenetv3_small_050: cannot run on tiles",
        ),
        (["--tile", "40"], "ModelError: --tile 40: not a multiple of 32. Give --tile 32."),
        (["--encoder-weights", "nowhere.pth"], "WeightsError: --encoder-weights nowhere.pth: no such file."),
        (["--tile", "0"], "ConfigError: --tile 0 --batch 2: whole scenes that differ in size, or are turned and not"),
    ],
)
def test_what_cannot_work_is_one_line(
    study: Path, capsys: pytest.CaptureFixture[str], flags: list[str], line: str
) -> None:
    """Status 2, and nothing half-written."""
    assert main(["train", str(study), *FLAGS, *flags]) == 2
    assert line in capsys.readouterr().err
    assert list_runs(study) == []


def test_a_study_that_is_not_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file that is missing is named."""
    assert main(["train", str(tmp_path), *FLAGS]) == 2
    assert "dataset.json: no such record" in capsys.readouterr().err


def test_one_writer(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A study that is being trained in is left alone; the holder is named."""
    with one_writer(study):
        assert main(["train", str(study), *FLAGS]) == 2
    assert f"BusyError: {study}: held by process {os.getpid()} on " in capsys.readouterr().err
    assert list_runs(study) == []


def saved_at(state: Path) -> int | None:
    """When a state was written; ``None`` where there is none, as for a moment between two renames."""
    try:
        return state.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def stopped_by(number: signal.Signals, command: list[str], state: Path) -> tuple[int, str]:
    """Run a command, signal it and its loaders as soon as it has saved a state; its status and what it said."""
    before = saved_at(state)
    process = start_command(*command)
    deadline = time.monotonic() + 120
    while saved_at(state) in (before, None):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    sent = time.monotonic()
    os.killpg(process.pid, number)  # as a terminal does with Ctrl-C
    _, said = process.communicate()
    assert time.monotonic() - sent < 10
    return process.returncode, said


def test_a_process_that_is_stopped_and_killed_goes_on_to_the_same_weights(study: Path, undisturbed: Run) -> None:
    """Ctrl-C saves and ends within 10 s; SIGKILL costs what was learnt since the last save. The end is the same."""
    command = ["train", str(study), *FLAGS, "--save-every", "0.2"]
    folder = study / "runs" / "linknet-mobilenetv3_small_050-s0"
    status, said = stopped_by(signal.SIGINT, [*command, "--workers", "2"], folder / "state.ckpt")
    card = only_run(study).card
    assert (status, card.status) == (130, "stopped")
    assert f"stopped at step {card.steps_done} of {STEPS}; all is saved" in said
    status, said = stopped_by(signal.SIGKILL, command, folder / "state.ckpt")
    assert (status, only_run(study).card.status) == (-signal.SIGKILL, "training")
    assert main(command) == 0
    assert len(read_history(folder)) == STEPS + 2
    assert_same_run(only_run(study), undisturbed)


@pytest.fixture
def stopped(study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was stopped after its second step of four."""
    from levelground.training import loop as training

    save = training._Loop._flush

    def ask(self: training._Loop, bar: object) -> None:
        save(self, bar)  # type: ignore[arg-type]
        self.stopping = self.stopping or self.progress.step == 2

    with monkeypatch.context() as patched:
        patched.setattr(training, "FLUSH_S", -1.0)
        patched.setattr(training._Loop, "_flush", ask)
        assert main(["train", str(study), *FLAGS, "--steps", "4", "--seed", "3", "--lr", "5e-4"]) == 130
    assert only_run(study).card.status == "stopped"
    return only_run(study).folder


def test_a_run_folder_is_enough_to_go_on(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipe, budget, seed and threads are the card's; a run that is finished says so."""
    import torch

    torch.set_num_threads(2)  # as a new process would
    monkeypatch.chdir(stopped)
    assert main(["train", "--resume", "."]) == 0
    said = capsys.readouterr().err
    assert f"{stopped.name}: goes on at step 2 of 4." in said
    assert "may differ" not in said
    whole = build_study(tmp_path / "whole").folder
    assert main(["train", str(whole), *FLAGS, "--steps", "4", "--seed", "3", "--lr", "5e-4"]) == 0
    assert_same_run(read_run(stopped), only_run(whole))
    capsys.readouterr()
    assert main(["train", "--resume", str(stopped), "--workers", "1", "--lr", "0.0005", "--steps", "4"]) == 0
    assert f"{stopped.name}: trained already, 4 steps; reused." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--arch", "unet"], "--arch unet: {name} was begun with linknet and goes on with it. Drop the flag, or"),
        (["--seed", "0"], "--seed 0: {name} was begun with 3 and"),
        (["--lr", "1e-3"], "--lr 0.001: {name} was begun with 0.0005 and"),
        (["--steps", "5"], "--steps 5: {name} was begun with 4 steps and"),
        (["--epochs", "4"], "--epochs 4: {name} was begun with 4 steps and"),
        (["elsewhere"], "STUDY elsewhere: {name} was begun with {study} and"),
        (
            ["--recipe", "origin"],
            "--recipe origin: --resume goes on with the run card's own recipe. Drop one",
        ),
    ],
)
def test_flags_that_contradict_the_card(
    stopped: Path, capsys: pytest.CaptureFixture[str], flags: list[str], line: str
) -> None:
    """One line, status 2, and the run as it was."""
    assert main(["train", "--resume", str(stopped), *flags]) == 2
    assert line.format(name=stopped.name, study=stopped.parent.parent) in capsys.readouterr().err
    assert read_run(stopped).card.status == "stopped"


def test_data_that_are_no_longer_the_same(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run goes on with what it was begun on, or not at all."""
    build_study(stopped.parents[2], split=dataclasses.replace(SPLIT, train=("a/1",)))
    assert main(["train", "--resume", str(stopped)]) == 2
    assert "was begun with other scenes, labels, split or encoder weights than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("card", "line"),
    [
        ({"status": "adopted"}, "was adopted, not trained here. Give a run that levelground train began."),
        ({"recipe": {"lrr": 1}}, "run.json: unknown recipe key 'lrr'. Known keys: "),
        ({"budget": {"asked": "soon"}}, "run.json: holds no budget to go on with. Make the run anew."),
    ],
)
def test_cards_that_say_too_little(
    stopped: Path, capsys: pytest.CaptureFixture[str], card: dict[str, object], line: str
) -> None:
    """One line names what is missing."""
    edit_card(read_run(stopped), **card)
    assert main(["train", "--resume", str(stopped)]) == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "missing"), [([], "STUDY"), (["study"], "--arch")])
def test_nothing_to_train(capsys: pytest.CaptureFixture[str], flags: list[str], missing: str) -> None:
    """Both ways of asking are named."""
    assert main(["train", *flags]) == 2
    line = f"ConfigError: {missing}: not given. Say levelground train STUDY --arch NAME, or --resume RUN."
    assert line in capsys.readouterr().err
