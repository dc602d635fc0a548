"""Bad input, case by case: one line, exit status 2, no traceback, nothing half-written."""

import itertools
import math
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from builders.bad_data import FILES, FOLDERS, LEGENDS, ODD, SPLITS
from builders.bad_files import MARK, PREPARE, Case, kaggle
from builders.bad_records import FLAGS, RUNS, SMALL, TRAIN, study
from builders.remedies import Reader

from levelground.cli import main
from levelground.datasets.dataset import read_dataset
from levelground.history import read_history
from levelground.imagery.legend import IGNORE
from levelground.runs import list_runs


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its content; links are not followed."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def assert_case_refused(root: Path, case: Case, capfd: pytest.CaptureFixture[str]) -> str:
    """Make the case, run its command, see that it is refused with nothing left behind; return the line."""
    for step in (case.base, case.spoil):
        if step:
            step(root)
    capfd.readouterr()
    before, was_there = tree(root), (root / "study").exists()
    status = main(shlex.split(case.command))
    said = capfd.readouterr().err
    assert "Traceback" not in said
    lines = said.strip("\n").splitlines()
    assert re.fullmatch(case.text, lines[-1]), said
    assert [line for line in lines if re.match(r"\w+Error: ", line)] == lines[-1:]
    assert status == 2
    after = tree(root)
    changed = {name for name, data in before.items() if after.get(name) != data}
    assert changed <= {"study/.lock", *case.touched}
    made = {name for name in after.keys() - before.keys() if not name.startswith("cache/")}
    assert made <= {*(["study/.lock"] if was_there else []), *case.touched}
    assert was_there or case.touched or not (root / "study").exists()
    assert not [name for name in after if ".part" in name]
    return lines[-1]


def assert_remedy_works(root: Path, case: Case, line: str, sound: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Do what the line says, and what the next one says, until the command ends well; none is said twice."""
    reader, command, said = Reader(root, sound, case.base), case.command, [line]
    while main(shlex.split(command := reader.follow(said[-1], command))):
        said.append(capfd.readouterr().err.strip("\n").splitlines()[-1])
        assert said[-1] not in said[:-1]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in (FILES | FOLDERS | LEGENDS | SPLITS).items()]
)
def test_bad_data_are_refused_and_every_remedy_works(
    case: Case,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What ``prepare`` is given; then what its line says is done to the letter."""
    monkeypatch.chdir(tmp_path)
    if os.geteuid() == 0:  # to root every folder is open: let the system answer as it does to others
        list_folder = os.scandir

        def scandir(path: object = ".") -> object:
            if Path(path).stat().st_mode & 0o777 == 0:  # type: ignore[arg-type]
                raise PermissionError(13, "Permission denied", str(path))
            return list_folder(path)  # type: ignore[call-overload]

        monkeypatch.setattr(os, "scandir", scandir)
    line = assert_case_refused(tmp_path, case, capfd)
    assert_remedy_works(tmp_path, case, line, tmp_path_factory.mktemp("sound"), capfd)


@pytest.mark.parametrize("name", FILES)
def test_skip_bad_goes_on_without_the_scene(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The other scenes are prepared; the record lists what was left out and why."""
    monkeypatch.chdir(tmp_path)
    for step in (FILES[name].base, FILES[name].spoil):
        assert step
        step(tmp_path)
    assert main([*shlex.split(PREPARE), "--skip-bad"]) == 0
    assert re.search(r"scenes or files with problems, left out: \d", capfd.readouterr().err)
    dataset = read_dataset(tmp_path / "study")
    errors = [one for one in dataset.findings if one.severity == "error"]
    assert errors
    assert "1" not in {scene.id for scene in dataset.scenes} or name.startswith(
        ("link to a folder", "line break", "a name")
    )
    assert len(dataset.scenes) >= 3


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in (RUNS | FLAGS).items()])
def test_bad_records_weights_and_flags_are_refused(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the other commands are given; code in a file is never run."""
    monkeypatch.chdir(tmp_path)
    assert_case_refused(tmp_path, case, capfd)
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("loss", [math.nan, math.inf], ids=["NaN", "infinite"])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(
    loss: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The line names step and scenes; the card says that the run failed; the state before it can be read."""
    import torch

    from levelground.training import loop as training
    from levelground.training import step as stepping
    from levelground.training.checkpoint import load_state

    monkeypatch.chdir(tmp_path)
    study(tmp_path)
    make: Callable[..., Callable[..., torch.Tensor]] = stepping.make_loss
    calls = itertools.count(1)

    def spoilt(*args: object, **options: object) -> Callable[..., torch.Tensor]:
        real = make(*args, **options)
        return lambda *tensors: real(*tensors) * (loss if next(calls) == 4 else 1.0)

    monkeypatch.setattr(stepping, "make_loss", spoilt)
    monkeypatch.setattr(training, "FLUSH_S", -1.0)
    capfd.readouterr()
    assert main(shlex.split(TRAIN + " --save-every 1e-9")) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert re.fullmatch(
        rf"TrainingError: linknet-mobilenetv3_small_050-s0: the loss is {loss} at step 4, on scenes a/\d(, a/\d)*\. .+",
        lines[-1],
    )
    assert [line for line in lines if re.match(r"\w+Error: ", line)] == lines[-1:]
    (run,) = list_runs(tmp_path / "study")
    assert run.card.status == "failed"
    assert [line.step for line in read_history(run.folder)] == [1, 2, 3]
    state = load_state(run.folder)
    assert state is not None
    assert state.progress.step == 3
    assert not list(tmp_path.rglob("*.part*"))
    assert main(shlex.split(TRAIN + " --lr 1e-5")) == 0  # the remedy


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_accepted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are decoded as a person sees them."""
    monkeypatch.chdir(tmp_path)
    spoil, scene, note = ODD[name]
    kaggle(tmp_path)
    spoil(tmp_path)
    assert main(shlex.split(PREPARE)) == 0
    dataset = read_dataset(tmp_path / "study")
    opened = dataset.open(scene)
    assert opened.labels is not None
    assert opened.labels.shape == opened.pixels.shape[:2]
    assert not [one for one in dataset.findings if one.severity == "error"]
    assert note in {one.text for one in dataset.findings} | {""}
    if name == "EXIF-rotated JPEG":
        assert opened.pixels.shape == (30, 20, 3)
    if name == "image with alpha":
        assert (opened.labels[:10] == IGNORE).all()
        assert (opened.labels[10:] != IGNORE).any()


def test_a_scene_smaller_than_the_tile_is_trained_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The tile becomes no larger than the largest scene, in one line; smaller ones are reflected."""
    study(tmp_path)
    flags = shlex.split(SMALL.replace("--tile 32", "--tile 512"))
    assert main(["train", str(tmp_path / "study"), "--arch", "linknet", "--steps", "1", *flags]) == 0
    assert "Tile 96 px in place of 512: no scene is larger." in capfd.readouterr().err
    assert list_runs(tmp_path / "study")[0].card.status == "finished"


def test_with_debug_the_traceback_comes_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And the one line still comes last."""
    assert main(["prepare", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--debug"]) == 2
    said = capfd.readouterr().err
    assert said.startswith("Traceback (most recent call last):")
    assert said.strip().splitlines()[-1].startswith("SceneError: ")


def test_the_table_is_long_enough() -> None:
    """Every kind of bad input that was thought of; none may get lost."""
    assert len(FILES | FOLDERS | LEGENDS | SPLITS | RUNS | FLAGS) >= 90
