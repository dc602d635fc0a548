"""A full disk: one clear line, and what was there before can be read and gone on with."""

import dataclasses
import errno
import resource
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.bad_files import kaggle
from builders.bad_records import TRAIN, TRAINED, compared, study
from builders.fake_study import build_fake_study
from builders.runs import LEGEND, noisy_counts, scene_counts
from builders.scene_files import kaggle_pair
from builders.study import small_model

from levelground.cli import main
from levelground.comparison.compare import write_comparison
from levelground.comparison.record import Comparison
from levelground.datasets.dataset import read_dataset, write_dataset
from levelground.errors import DiskError
from levelground.evaluation.evaluate import write_mask
from levelground.files import append_text
from levelground.history import HistoryLine, append_history, truncate_history
from levelground.imagery.cache import Cache
from levelground.imagery.legend import DEEPGLOBE
from levelground.imagery.scene_pixels import SceneFile
from levelground.metrics.counts import write_counts
from levelground.models.smp_backend import save_model
from levelground.records import write_json
from levelground.reporting.figures import draw_figures
from levelground.reporting.page import render_report
from levelground.runs import list_runs
from levelground.training.checkpoint import Progress, TrainingState, save_state

Prepared = Callable[[], object]


@contextmanager
def no_file_grows(limit: int = 40) -> Iterator[None]:
    """Let no file of this process grow beyond some bytes, as on a disk without room; needs no rights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def cache_writer(folder: Path) -> Prepared:
    """A scene that is not in the cache."""
    kaggle_pair(folder / "data", "1")
    scene = SceneFile("1", folder / "data/1_sat.jpg", folder / "data/1_mask.png")
    return lambda: Cache(folder / "cache").store(scene, DEEPGLOBE)


def dataset_writer(folder: Path) -> Prepared:
    """The record of a data set, changed."""
    study(folder)
    dataset = read_dataset(folder / "study")
    return lambda: write_dataset(dataclasses.replace(dataset, groups_from="elsewhere"), folder / "study")


def model_writer(folder: Path) -> Prepared:
    """Weights, where older ones lie."""
    save_model(small_model(), folder / "model")
    model = small_model(seed=1)
    return lambda: save_model(model, folder / "model")


def state_writer(folder: Path) -> Prepared:
    """A training state, where two older ones lie."""
    for step in (1, 2):
        save_state(folder, TrainingState({"w": torch.full((9, 9), float(step))}, {}, "ab", Progress()))
    return lambda: save_state(folder, TrainingState({"w": torch.ones(9, 9)}, {}, "ab", Progress()))


def history_writer(folder: Path) -> Prepared:
    """A line of history behind another."""
    append_history(folder, [HistoryLine(kind="step", step=1)])
    return lambda: append_history(folder, [HistoryLine(kind="step", step=2, train_loss=0.123456789, lr=0.001)])


def history_cutter(folder: Path) -> Prepared:
    """A history that is cut back to a state."""
    append_history(folder, [HistoryLine(kind="step", step=step, train_loss=0.5) for step in range(9)])
    return lambda: truncate_history(folder, 4)


def page_writer(folder: Path) -> Prepared:
    """Page, figures and tables of a comparison, where older ones lie."""
    drawn = build_fake_study(folder)

    def write() -> None:
        for kind in (write_comparison, draw, render):
            with pytest.raises(DiskError):
                kind(drawn.comparison, drawn.folder)
        write_comparison(drawn.comparison, drawn.folder)

    def draw(comparison: Comparison, at: Path) -> object:
        return draw_figures(comparison, at, at / "figures")

    def render(comparison: Comparison, at: Path) -> object:
        return render_report(comparison, at, at / "report.html")

    return write


WRITERS: dict[str, Callable[[Path], Prepared]] = {
    "cache": cache_writer,
    "dataset.json": dataset_writer,
    "model": model_writer,
    "state": state_writer,
    "history": history_writer,
    "history, cut": history_cutter,
    "report, figures, comparison": page_writer,
    "record": lambda folder: lambda: write_json(folder / "study.json", {"options": "x" * 99}, kind="study"),
    "looks": lambda folder: lambda: append_text(folder / "test_looks.jsonl", "x" * 99 + "\n", durable=True),
    "mask": lambda folder: lambda: write_mask(folder / "a.png", np.zeros((99, 99), np.uint8), LEGEND),
    "counts": lambda folder: (
        lambda: write_counts(folder / "counts-test.npz", scene_counts(noisy_counts(3, 0.1, seed=0)))
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_ends_in_one_line_and_leaves_what_was_there(name: str, tmp_path: Path) -> None:
    """Nothing half-written, no temporary file, and older content to the byte."""
    write = WRITERS[name](tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with no_file_grows(), pytest.raises(DiskError) as raised:
        write()
    assert "\n" not in str(raised.value)
    assert ": cannot be written (File too large). Free space" in str(raised.value)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: content for path, content in after.items() if content} == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill a disk up to some bytes; the file that fills it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        file.truncate(filler.stat().st_size - leave)
    return filler


def last_line(capfd: pytest.CaptureFixture[str]) -> str:
    """The last line on stderr; the only one that is an error."""
    lines = capfd.readouterr().err.strip().splitlines()
    assert [line for line in lines if "Error: " in line] == lines[-1:]
    assert lines[-1].startswith("DiskError: ")
    return lines[-1]


def test_a_full_cache_disk(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prepare names the cache; with room again the same command goes through."""
    monkeypatch.chdir(tmp_path)
    kaggle(tmp_path)
    command = ["prepare", "--data", "data", "--out", "study", "--cache", "disk/cache"]
    filler = fill(small_disk, leave=0)
    assert main(command) == 2
    told = last_line(capfd)
    assert "cannot be written (No space left on device). Free space or choose another cache with --cache" in told
    assert not (tmp_path / "study" / "dataset.json").exists()
    assert not list(small_disk.rglob("*.part*"))
    filler.unlink()
    assert main(command) == 0


def test_a_disk_that_fills_up_while_a_run_is_trained(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line; the study can be read; with room again the same command ends the run."""
    monkeypatch.chdir(small_disk)
    study(small_disk)
    filler = fill(small_disk, leave=2 << 20)  # the record fits, a state with its optimiser does not
    command = shlex.split(TRAIN + " --save-every 1e-9")
    monkeypatch.setattr("levelground.training.loop.FLUSH_S", -1.0)
    assert main(command) == 2
    assert "cannot be written (No space left on device). Free space or choose another --out." in last_line(capfd)
    assert not list(small_disk.rglob("*.part*"))
    assert not list((small_disk / TRAINED).glob(".model-*"))
    (run,) = list_runs(small_disk / "study")
    assert run.card.status == "training"
    filler.unlink()
    assert main(command) == 0
    assert list_runs(small_disk / "study")[0].card.status == "finished"


def test_a_full_disk_at_the_end(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither compare nor report harms what was compared before."""
    monkeypatch.chdir(small_disk)
    compared(small_disk)
    (small_disk / "study" / "dataset.json").unlink()  # there are no pixels, so the page has no pictures
    before = (small_disk / "study" / "comparison.json").read_bytes()
    filler = fill(small_disk, leave=0)
    for command in (["compare", "study", "--delta", "0.05"], ["report", "study"]):
        capfd.readouterr()
        assert main(command) == 2
        assert "(No space left on device)" in last_line(capfd)
    assert (small_disk / "study" / "comparison.json").read_bytes() == before
    filler.unlink()
    assert main(["report", "study"]) == 0
