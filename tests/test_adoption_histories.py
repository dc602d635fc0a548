import json
import re
from pathlib import Path

import pytest

from levelground.adoption.weights import read_origin_history
from levelground.errors import DataError
from levelground.history import HistoryLine


def write(path: Path, **content: object) -> Path:
    """A history file."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


FULL = {
    "train_loss": [0.5, 0.4],
    "val_loss": [0.6, 0.3],
    "val_meanIoU": [0.6, 0.7],
    "tl": [0.6, 0.5, 0.4, 0.4, 0.4, 0.4],
    "vl": [0.7, 0.5, 0.3, 0.3],
    "viou": [0.5, 0.7, 0.7, 0.7],
    "metadata": {"model": "unet", "lr": 0.0002},
}


def test_epochs_and_steps_become_lines_in_order(tmp_path: Path) -> None:
    """Two epochs of three steps and two validation images; its IoU and loss keep names of their own."""
    lines, metadata = read_origin_history(write(tmp_path / "a.json", **FULL))
    assert metadata == {"model": "unet", "lr": 0.0002}
    assert [line.step for line in lines if line.kind == "step"] == [1, 2, 3, 4, 5, 6]
    assert lines[0] == HistoryLine(kind="step", step=1, epoch=1 / 3, train_loss=0.6)
    assert [line for line in lines if line.kind == "val"] == [
        HistoryLine(kind="val", step=3, epoch=1, train_loss=0.5, val_own_loss=0.6, val_image_iou=0.6),
        HistoryLine(kind="val", step=6, epoch=2, train_loss=0.4, val_own_loss=0.3, val_image_iou=0.7),
    ]
    assert [line for line in lines if line.kind == "val_image"][2] == HistoryLine(
        kind="val_image", step=6, epoch=2, image=3, val_own_loss=0.3, val_image_iou=0.7
    )
    assert [line.step for line in lines] == sorted(line.step for line in lines)


def test_steps_kept_epoch_by_epoch_are_one_row(tmp_path: Path) -> None:
    """Lists in lists give the same lines."""
    nested = FULL | {"tl": [[0.6, 0.5, 0.4], [0.4, 0.4, 0.4]], "vl": [[0.7, 0.5], [0.3, 0.3]]}
    one, other = (write(tmp_path / f"{name}.json", **content) for name, content in (("a", FULL), ("b", nested)))
    assert read_origin_history(one) == read_origin_history(other)


def test_epochs_alone_are_enough(tmp_path: Path) -> None:
    """Without steps the epoch stands for the step; a missing value is left out."""
    lines, metadata = read_origin_history(write(tmp_path / "a.json", train_loss=[0.5, 0.4], val_loss=[0.6]))
    assert lines == [
        HistoryLine(kind="val", step=1, epoch=1, train_loss=0.5, val_own_loss=0.6),
        HistoryLine(kind="val", step=2, epoch=2, train_loss=0.4),
    ]
    assert metadata is None


def test_steps_alone_are_enough(tmp_path: Path) -> None:
    """They count as one epoch."""
    lines, _ = read_origin_history(write(tmp_path / "a.json", tl=[0.5, 0.4]))
    assert lines == [
        HistoryLine(kind="step", step=1, epoch=0.5, train_loss=0.5),
        HistoryLine(kind="step", step=2, epoch=1.0, train_loss=0.4),
    ]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """The keys expected are listed."""
    path = write(tmp_path / "a.json", loss=[1])
    text = (
        f"{path}: no training history. Expected a JSON object with keys such as "
        "train_loss, val_loss, val_meanIoU, tl, vl, viou."
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        read_origin_history(path)


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """The key and the value are named."""
    path = write(tmp_path / "a.json", tl=[0.5, "high"])
    text = f"{path}: tl holds 'high', expected a list of numbers. Give the file as training wrote it."
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        read_origin_history(path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00"])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """Broken off, or no text at all."""
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{re.escape(str(path))}: unreadable history \(.+\)\. Give the JSON file"):
        read_origin_history(path)
    with pytest.raises(DataError, match=r"unreadable history \(.*No such file.*\)"):
        read_origin_history(tmp_path / "nothing.json")
