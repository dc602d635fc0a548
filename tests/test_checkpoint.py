"""The training state: whole or not there, the last two kept, damage told, code refused."""

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.traps import Trap

from levelground.errors import RecordError
from levelground.training.checkpoint import (
    Progress,
    TrainingState,
    load_state,
    remove_states,
    save_state,
    state_paths,
)


def state(step: int, weight: torch.Tensor | None = None) -> TrainingState:
    """Tensors, numbers, strings, lists and dictionaries, as training saves them."""
    weight = torch.full((2, 3), float(step)).to(memory_format=torch.contiguous_format) if weight is None else weight
    return TrainingState({"w": weight}, {"lr": 0.1}, "ab", Progress(step=step, val_losses=[0.5, 0.25]))


def damage(path: Path, place: int) -> None:
    """Change one byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def step_of(folder: Path) -> int:
    """The step of the state that is loaded."""
    loaded = load_state(folder)
    assert loaded is not None
    return loaded.progress.step


def test_a_state_comes_back(tmp_path: Path) -> None:
    """Tensors to the bit, numbers, strings and None."""
    save_state(tmp_path, state(3))
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded.network["w"], state(3).network["w"])
    assert (loaded.optimiser, loaded.identity, loaded.progress) == ({"lr": 0.1}, "ab", state(3).progress)


def test_memory_format_comes_back_too(tmp_path: Path) -> None:
    """Channels-last weights stay channels last, so that the next step computes in the same order."""
    weight = torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last)
    save_state(tmp_path, state(1, weight))
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert loaded.network["w"].stride() == weight.stride()
    assert torch.equal(loaded.network["w"], weight)


def test_no_state_is_none(tmp_path: Path) -> None:
    """A run that was killed before its first save starts anew."""
    assert load_state(tmp_path) is None


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    """Two files, no more."""
    for step in (1, 2, 3):
        save_state(tmp_path, state(step))
    assert {path.name for path in tmp_path.iterdir()} == {"state.ckpt", "state.prev.ckpt"}
    assert step_of(tmp_path) == 3
    state_paths(tmp_path)[0].unlink()
    assert step_of(tmp_path) == 2


@pytest.mark.parametrize("place", [0, 64, 70, 500, -1])
def test_a_damaged_state_falls_back_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: int) -> None:
    """One changed bit anywhere, checksum included."""
    for step in (1, 2):
        save_state(tmp_path, state(step))
    damage(state_paths(tmp_path)[0], place)
    assert step_of(tmp_path) == 1
    said = capsys.readouterr().err
    assert (
        "state.ckpt: damaged training state (its checksum does not match). Falling back to the state before it." in said
    )


@pytest.mark.parametrize("length", [0, 10, 64, 65, 300])
def test_a_state_cut_short_falls_back(tmp_path: Path, length: int) -> None:
    """A disk that lost the end of a file."""
    for step in (1, 2):
        save_state(tmp_path, state(step))
    newest = state_paths(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[:length])
    assert step_of(tmp_path) == 1


def test_a_state_that_cannot_be_read_falls_back(tmp_path: Path) -> None:
    """A folder where the file should be."""
    save_state(tmp_path, state(1))
    newest, previous = state_paths(tmp_path)
    newest.replace(previous)
    newest.mkdir()
    assert step_of(tmp_path) == 1


def test_two_damaged_states_end_with_the_remedy(tmp_path: Path) -> None:
    """Nothing is guessed: the folder is named."""
    for step in (1, 2):
        save_state(tmp_path, state(step))
    for path in state_paths(tmp_path):
        damage(path, 100)
    message = rf"state\.prev\.ckpt: damaged .+ No sound state is left: remove {tmp_path} and train anew\.$"
    with pytest.raises(RecordError, match=message):
        load_state(tmp_path)


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    """The new state is whole under its first name, the old one is already the one before."""
    save_state(tmp_path, state(1))
    save_state(tmp_path, state(2))
    newest, previous = state_paths(tmp_path)
    previous.unlink()
    new = newest.read_bytes()
    save_state(tmp_path, state(1))
    newest.replace(previous)
    (tmp_path / "state.new.ckpt").write_bytes(new)
    assert step_of(tmp_path) == 2
    save_state(tmp_path, state(3))
    assert step_of(tmp_path) == 3
    assert not (tmp_path / "state.new.ckpt").exists()


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    """Even with a checksum that fits."""
    sprung = tmp_path / "sprung"
    for content in (pickle.dumps(Trap(sprung)), pickle.dumps({"schema": 1, "x": Trap(sprung)}, protocol=2)):
        digest = hashlib.sha256(content).hexdigest().encode()
        state_paths(tmp_path)[0].write_bytes(digest + b"\n" + content)
        with pytest.raises(RecordError, match=r"state\.ckpt: unsafe or unreadable training state \(.+\)\. No sound"):
            load_state(tmp_path)
        assert not sprung.exists()


def test_a_state_of_another_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version wrote it."""
    monkeypatch.setattr("levelground.training.checkpoint.SCHEMA", 99)
    save_state(tmp_path, state(1))
    monkeypatch.undo()
    message = r"state\.ckpt: training state of an unknown schema\. Use the levelground that wrote it\. No sound state"
    with pytest.raises(RecordError, match=message):
        load_state(tmp_path)


def test_a_state_with_other_figures_is_refused(tmp_path: Path) -> None:
    """One of a version that knows a figure more, or lacks the optimiser."""
    whole = {"schema": 1, "network": {}, "optimiser": {}, "identity": "ab", "progress": {"step": 1}}
    for content in (whole | {"progress": {"step": 1, "energy": 2.0}}, {k: whole[k] for k in whole if k != "optimiser"}):
        file = io.BytesIO()
        torch.save(content, file)
        digest = hashlib.sha256(file.getvalue()).hexdigest().encode()
        state_paths(tmp_path)[0].write_bytes(digest + b"\n" + file.getvalue())
        with pytest.raises(
            RecordError, match=r"state\.ckpt: training state of another version \(.+\)\. No sound state"
        ):
            load_state(tmp_path)


def test_states_of_a_finished_run_are_removed(tmp_path: Path) -> None:
    """All of them, one that a kill left half named too."""
    for step in (1, 2):
        save_state(tmp_path, state(step))
    (tmp_path / "state.new.ckpt").touch()
    remove_states(tmp_path)
    assert list(tmp_path.iterdir()) == []
    remove_states(tmp_path)


def test_objects_are_not_saved_by_accident(tmp_path: Path) -> None:
    """A NumPy number could not be read back safely: it is refused when it is written, not when it is needed."""
    with pytest.raises(TypeError, match=r"^state\.progress\.step: float64 cannot be read back safely"):
        save_state(tmp_path, state(np.float64(3)))  # type: ignore[arg-type]
    assert load_state(tmp_path) is None
