"""Raw files of blocks and their journal."""

import re
from pathlib import Path

import numpy as np
import pytest

from levelground.errors import DiskError
from levelground.inference.tiling import plan_axis
from levelground.prediction.resume import JOURNAL_FILE, Scratch

ROWS, COLS = plan_axis(150, tile=64, halo=8), plan_axis(90, tile=64, halo=8)
COUNTS = np.arange(256)


def test_the_journal_says_how_far_a_job_is(tmp_path: Path) -> None:
    """Rows and pixels by class, read back by the same job."""
    with Scratch(tmp_path / "s", "job", ROWS, COLS) as scratch:
        assert (scratch.progress.rows, scratch.done, scratch.replaced) == (0, False, False)
        scratch.commit(2, COUNTS)
    with Scratch(tmp_path / "s", "job", ROWS, COLS) as again:
        assert again.progress.rows == 2
        assert np.array_equal(again.progress.counts, COUNTS)
        again.commit(len(ROWS.starts), COUNTS)
        assert again.done
        again.remove()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("journal", [None, "", "{}", '{"schema": 1, "kind": "prediction", "identity": "job"}'])
def test_what_another_job_left_is_thrown_away(tmp_path: Path, journal: str | None) -> None:
    """Another identity, or a journal that cannot be read."""
    with Scratch(tmp_path / "s", "other" if journal is None else "job", ROWS, COLS) as scratch:
        scratch.layer("classes", planes=1, dtype="uint8").write(0, 0, np.ones((1, 43, 26), np.uint8))
        scratch.commit(1, COUNTS)
    if journal is not None:
        (tmp_path / "s" / JOURNAL_FILE).write_text(journal, encoding="utf-8")
    with Scratch(tmp_path / "s", "job", ROWS, COLS) as scratch:
        assert (scratch.progress.rows, scratch.replaced) == (0, True)
        assert list(scratch.folder.iterdir()) == []


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system writes less than it was given."""
    with Scratch(tmp_path / "s", "job", ROWS, COLS) as scratch:
        layer = scratch.layer("classes", planes=1, dtype="uint8")
        monkeypatch.setattr("levelground.prediction.resume.os.pwrite", lambda *_: 3)
        text = f"{layer.path}: cannot be written (No space left on device). Free space; the same command goes on."
        with pytest.raises(DiskError, match=f"^{re.escape(text)}$"):
            layer.write(0, 0, np.ones((1, 4, 4), np.uint8))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """Something else has its place."""
    (tmp_path / "s").touch()
    text = f"{tmp_path / 's'}: cannot be made (File exists). Choose another --out."
    with pytest.raises(DiskError, match=f"^{re.escape(text)}$"):
        Scratch(tmp_path / "s", "job", ROWS, COLS)


def test_a_job_killed_before_its_first_row_leaves_nothing_to_speak_of(tmp_path: Path) -> None:
    """Blocks without a journal are of no use, and nobody's rows are thrown away."""
    with Scratch(tmp_path / "s", "job", ROWS, COLS) as scratch:
        scratch.layer("classes", planes=1, dtype="uint8").write(0, 0, np.ones((1, 43, 26), np.uint8))
    with Scratch(tmp_path / "s", "job", ROWS, COLS) as scratch:
        assert (scratch.progress.rows, scratch.replaced) == (0, False)
