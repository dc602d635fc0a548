"""``levelground check``: every flipped byte of a study is found, and what it says to do makes the file anew."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.study import ENCODER

import levelground as lg
from levelground.cli import main
from levelground.errors import RecordError
from levelground.imagery.cache import Cache
from levelground.integrity import CheckedFolder, check_folder
from levelground.records import HASHES_FILE, read_hashes, verify_file, write_hashes
from levelground.synthetic.scenes import write_scenes
from levelground.training.checkpoint import Progress, TrainingState, save_state

STUDY_010 = Path(__file__).parent / "data" / "study-0.1.0"
NAMING = ("run.json", "dataset.json", HASHES_FILE)
"""Files that hold hashes of others: while one of them is damaged, these have none."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with all kinds of files, its cache inside: two runs, an export, and a state of an unfinished run."""
    root = tmp_path_factory.mktemp("whole")
    write_scenes(root / "data", n=8, size=64, seed=0)
    study = root / "study"
    flags = (
        f"--archs linknet fpn --encoder {ENCODER} --encoder-weights none --tile 32 --halo 4 --batch 2 --steps 4 "
        "--validations 1 --threads 1 --device cpu --precision fp32 --workers 0"
    ).split()
    places = ["--data", str(root / "data"), "--out", str(study), "--cache", str(study / "cache")]
    assert main(["study", *places, *flags]) == 0
    run = next((study / "runs").glob("linknet*"))
    assert main(["export", str(run), "--to", "smp", "--threads", "1"]) == 0
    save_state(next((study / "runs").glob("fpn*")), TrainingState({"w": torch.ones(3, 2)}, {}, "ab", Progress(step=3)))
    return study


@pytest.fixture
def study(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole.parent, tmp_path / "copy")) / "study"


def flip(path: Path, rng: random.Random) -> None:
    """Change one bit of one byte."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def damaged(checked: CheckedFolder) -> set[Path]:
    """The damaged files."""
    return {file.path for file in checked.damaged}


def test_a_study_as_it_was_written_is_sound_and_every_file_has_a_checksum(whole: Path) -> None:
    """No file of levelground's is left out."""
    checked = check_folder(whole)
    assert (checked.exit_status, checked.damaged, checked.unhashed) == (0, (), ())
    names = {file.path.name for file in checked.files}
    assert {
        "run.json",
        "comparison.csv",
        "report.html",
        "forest.png",
        "state.ckpt",
        "config.json",
        "parity.json",
    } <= names
    assert main(["check", str(whole)]) == 0
    assert repr(lg.check(whole)) == repr(checked)


def test_two_hundred_flipped_bytes_are_all_found(study: Path) -> None:
    """Bytes of every file, in several rounds; files that hold hashes of others in rounds of their own."""
    rng, flipped = random.Random(7), 0
    files = [file.path for file in check_folder(study).files]
    naming = [path for path in files if path.name in NAMING or path.name.endswith(f".{HASHES_FILE}")]
    others = [path for path in files if path not in naming]
    assert len({path.suffix for path in others}) >= 10
    while flipped < 200:
        for group in (others, naming):
            before = {path: path.read_bytes() for path in group}
            for path in group:
                flip(path, rng)
            assert damaged(check_folder(study)) >= set(group)
            if group is others:
                assert damaged(check_folder(study)) == set(group)
            flipped += len(group)
            for path, content in before.items():
                path.write_bytes(content)
    assert check_folder(study).exit_status == 0


def test_check_names_the_file_and_the_command_and_ends_with_status_2(
    study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line a file, the sum last."""
    flip(study / "comparison.csv", random.Random(1))
    (study / "report.html").unlink()
    assert main(["check", str(study)]) == 2
    said = capfd.readouterr().err.splitlines()
    assert f"{study / 'comparison.csv'}: was changed after it was written. Run levelground compare {study}" in said
    assert f"{study / 'report.html'}: is missing. Run levelground report {study}" in said
    assert said[-1].startswith(f"{study}: 2 of ")


def test_labels_of_another_scene_are_found(whole: Path) -> None:
    """A whole file with a checksum of its own, in the place of another."""
    dataset = lg.read_dataset(whole)
    one, other = (Cache(dataset.cache).path(scene.labels_key) for scene in dataset.scenes[:2])
    before = other.read_bytes()
    shutil.copyfile(one, other)
    (found,) = check_folder(whole).damaged
    other.write_bytes(before)
    assert (found.path, found.fault) == (other, "holds other labels than those that the data set was prepared with")


def test_a_study_of_an_earlier_version_has_files_without_checksums(tmp_path: Path) -> None:
    """They are named, not refused; its cache is elsewhere and missing."""
    folder = shutil.copytree(STUDY_010, tmp_path / "old")
    checked = check_folder(folder)
    assert {file.path.name for file in checked.unhashed} >= {
        "run.json",
        "study.json",
        "history.jsonl",
        "comparison.csv",
    }
    assert all("cache" in file.path.parts or file.fault == "is missing" for file in checked.damaged)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_of_nothing_is_refused(name: str, tmp_path: Path) -> None:
    """There is nothing to verify."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="Give the folder of a study"):
        check_folder(tmp_path / name)


def test_a_file_is_compared_with_its_hash_unless_the_record_is_gone(tmp_path: Path) -> None:
    """The remedy of the message works."""
    path = tmp_path / "a" / "b.bin"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    write_hashes(tmp_path / HASHES_FILE, [path])
    assert list(read_hashes(tmp_path / HASHES_FILE)) == ["a/b.bin"]
    verify_file(path, "Make it anew.", tmp_path / HASHES_FILE)
    path.write_bytes(b"abd")
    with pytest.raises(RecordError, match=r"b\.bin: was changed after .*\. Make it anew\. If .* remove"):
        verify_file(path, "Make it anew.", tmp_path / HASHES_FILE)
    (tmp_path / HASHES_FILE).unlink()
    verify_file(path, "Make it anew.", tmp_path / HASHES_FILE)


def test_changed_masks_configurations_and_exports_are_refused_by_their_readers(
    study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Report, evaluate and predict read them."""
    run = next((study / "runs").glob("linknet*"))
    mask = next((run / "preds-test").glob("*.png"))
    image = next((study.parent / "data").glob("*_sat.jpg"))
    commands = {
        mask: ["report", str(study)],
        run / "model" / "config.json": ["predict", str(run), str(image), "--out", str(study / "maps")],
        run / "export" / "smp" / "config.json": ["predict", str(run / "export/smp"), str(image), "--out", "maps"],
    }
    for path, command in commands.items():
        before = path.read_bytes()
        flip(path, random.Random(3))
        assert main([*command, "--threads", "1"] if command[0] == "predict" else command) == 2
        assert f"RecordError: {path}: was changed after it was written" in capfd.readouterr().err
        path.write_bytes(before)


@pytest.mark.parametrize("victim", ["dataset.json", "study.json", "comparison.json", "run.json", "history.jsonl"])
def test_a_damaged_record_is_refused_by_commands_that_can_do_without_it(
    victim: str, study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is not taken for one that is missing: no page without curves, no export checked on other scenes."""
    run = next((study / "runs").glob("linknet*"))
    report, track = ["report", str(study), "--no-figures"], ["track", str(study), "--to", "tensorboard"]
    commands = {
        "dataset.json": [report, ["export", str(run), "--to", "smp", "--overwrite", "--threads", "1"]],
        "study.json": [["compare", str(study)]],
        "comparison.json": [report, track],
        "run.json": [report, track, ["jobs", str(study)]],
        "history.jsonl": [report, track, ["jobs", str(study)], ["compare", str(study)]],
    }
    path = (run if victim in ("run.json", "history.jsonl") else study) / victim
    content = bytearray(path.read_bytes())
    place = content.index(b": ", len(content) // 3) + 2
    content[place] ^= 1
    path.write_bytes(content)
    for command in commands[victim]:
        assert main(command) == 2, command
        assert f"RecordError: {path}: " in capfd.readouterr().err, command


def test_what_check_says_makes_masks_and_tables_and_card_anew(study: Path) -> None:
    """Each command is given as it is said, with its own kind of file damaged."""
    run = next((study / "runs").glob("linknet*"))
    victims = [
        next((run / "preds-test").glob("*.png")), run / "counts-test.npz", run / "model" / "README.md",
        run / "model" / "levelground.json", study / "comparison.md", study / "comparison.json", study / "report.html",
        study / "figures" / "forest.png", study / "figures" / HASHES_FILE,
    ]  # fmt: skip
    rng = random.Random(5)
    for path in victims:
        flip(path, rng)
        checked = check_folder(study)
        while checked.damaged:
            (first, *others) = checked.damaged
            if first.redo.startswith("Remove it"):
                first.path.unlink()
            command = first.redo.split("un levelground ")[1].split()
            assert main([*command, "--threads", "1"] if command[0] == "evaluate" else command) == 0
            after = check_folder(study)
            assert len(after.damaged) < len(checked.damaged), [first, others]
            checked = after


def test_decoded_scenes_are_made_anew_by_the_command_that_prepared_them(whole: Path) -> None:
    """The command is the log's, or names data and study."""
    dataset = lg.read_dataset(whole)
    path = Cache(dataset.cache).path(dataset.scenes[0].image_key)
    before = path.read_bytes()
    np.save(path, np.zeros((4, 4, 3), np.uint8))
    (file,) = (file for file in check_folder(whole).files if file.path == path)
    path.write_bytes(before)
    assert file.fault == ""  # NumPy writes no checksum: of an earlier version, for all that one can tell
    path.unlink()
    (file,) = check_folder(whole).damaged
    path.write_bytes(before)
    assert (file.path, file.fault) == (path, "is missing")
    assert file.redo.startswith("Run levelground study --data ") or file.redo.startswith(
        "Run levelground prepare --data "
    )
