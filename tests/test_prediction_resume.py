"""Checkpoints: raw files of blocks and the resume state."""

import re
from pathlib import Path

import numpy as np
import pytest

from levelground.errors import DiskError
from levelground.integrity import check_folder
from levelground.prediction.resume import STATE_FILE, Checkpoint
from levelground.tile_geometry import TileGeometry, plan_axis

ROWS, COLS = plan_axis(150, TileGeometry(64, 8)), plan_axis(90, TileGeometry(64, 8))
COUNTS = np.arange(256)


def test_the_resume_state_says_how_far_a_job_is(tmp_path: Path) -> None:
    """Rows and pixels by class, read back by the same job."""
    with Checkpoint(tmp_path / "s", "job", ROWS, COLS) as checkpoint:
        assert (checkpoint.state.rows, checkpoint.done, checkpoint.replaced) == (0, False, False)
        checkpoint.commit(2, COUNTS)
    with Checkpoint(tmp_path / "s", "job", ROWS, COLS) as again:
        assert again.state.rows == 2
        assert np.array_equal(again.state.counts, COUNTS)
        again.commit(len(ROWS.starts), COUNTS)
        assert again.done
        again.remove()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("state", [None, "", "{}", '{"schema": 1, "kind": "prediction", "identity": "job"}'])
def test_what_another_job_left_is_thrown_away(tmp_path: Path, state: str | None) -> None:
    """Another identity, or a resume state that cannot be read."""
    with Checkpoint(tmp_path / "s", "other" if state is None else "job", ROWS, COLS) as checkpoint:
        checkpoint.block_file("classes", planes=1, dtype="uint8").write(0, 0, np.ones((1, 43, 26), np.uint8))
        checkpoint.commit(1, COUNTS)
    if state is not None:
        (tmp_path / "s" / STATE_FILE).write_text(state, encoding="utf-8")
    with Checkpoint(tmp_path / "s", "job", ROWS, COLS) as checkpoint:
        assert (checkpoint.state.rows, checkpoint.replaced) == (0, True)
        assert list(checkpoint.folder.iterdir()) == []


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system writes less than it was given."""
    with Checkpoint(tmp_path / "s", "job", ROWS, COLS) as checkpoint:
        file = checkpoint.block_file("classes", planes=1, dtype="uint8")
        monkeypatch.setattr("levelground.prediction.resume.os.pwrite", lambda *_: 3)
        text = f"{file.path}: cannot be written (No space left on device). Free space; the same command goes on."
        with pytest.raises(DiskError, match=f"^{re.escape(text)}$"):
            file.write(0, 0, np.ones((1, 4, 4), np.uint8))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """Something else has its place."""
    (tmp_path / "s").touch()
    text = f"{tmp_path / 's'}: cannot be made (File exists). Choose another --out."
    with pytest.raises(DiskError, match=f"^{re.escape(text)}$"):
        Checkpoint(tmp_path / "s", "job", ROWS, COLS)


def test_a_job_killed_before_its_first_row_leaves_nothing_to_speak_of(tmp_path: Path) -> None:
    """Blocks without a resume state are of no use, and no rows are reported as removed."""
    with Checkpoint(tmp_path / "s", "job", ROWS, COLS) as checkpoint:
        checkpoint.block_file("classes", planes=1, dtype="uint8").write(0, 0, np.ones((1, 43, 26), np.uint8))
    with Checkpoint(tmp_path / "s", "job", ROWS, COLS) as checkpoint:
        assert (checkpoint.state.rows, checkpoint.replaced) == (0, False)


@pytest.mark.parametrize(("offset", "row"), [(0, 1), (ROWS.finished(0) * 90 - 1, 1), (ROWS.finished(0) * 90, 2)])
def test_damaged_rows_are_thrown_away(tmp_path: Path, offset: int, row: int) -> None:
    """A flipped byte of any finished row; bytes behind them belong to rows that are predicted anyway."""
    with Checkpoint(tmp_path / "s", "job", ROWS, COLS) as checkpoint:
        file = checkpoint.block_file("classes", planes=1, dtype="uint8")
        for r in range(3):
            for c in range(len(COLS.starts)):
                file.write(r, c, np.full((1, ROWS.finished(r), COLS.finished(c)), r + c, np.uint8))
            if r < 2:
                checkpoint.commit(r + 1, COUNTS)
    path = tmp_path / "s" / "classes.raw"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with Checkpoint(tmp_path / "s", "job", ROWS, COLS) as checkpoint:
        assert (checkpoint.state.rows, checkpoint.damage) == (2, None)
    content[offset] ^= 1
    path.write_bytes(content)
    (found,) = check_folder(tmp_path / "s").damaged
    assert found.path == path
    with Checkpoint(tmp_path / "s", "job", ROWS, COLS) as checkpoint:
        assert (checkpoint.state.rows, checkpoint.replaced) == (0, True)
        assert checkpoint.damage == f"row {row} of tiles was changed after it was written"
