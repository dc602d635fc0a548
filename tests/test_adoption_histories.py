import json
import re
from pathlib import Path

import pytest

from levelground.adoption.histories import read_history_file, read_origin_history
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


LOGS = {
    "keras.json": (
        json.dumps({"loss": [0.9, 0.5], "accuracy": [0.4, 0.6], "val_loss": [0.8, 0.6], "val_mean_io_u": [0.2, 0.3]}),
        [("val", 1, 1, 0.9, 0.8, 0.2), ("val", 2, 2, 0.5, 0.6, 0.3)],
    ),
    "keras.csv": (
        "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.4,0.9,0.3,0.8\n1,0.6,0.5,0.5,0.6\n",
        [("val", 1, 1, 0.9, 0.8, None), ("val", 2, 2, 0.5, 0.6, None)],
    ),
    "metrics.csv": (
        "epoch,lr-Adam,step,train_loss_step,train_loss_epoch,val_loss,val_iou\n"
        "0,0.001,0,0.9,,,\n0,0.001,1,0.8,,,\n0,,1,,,0.7,0.2\n0,,1,,0.85,,\n1,0.001,2,nan,,,\n1,,3,,,0.6,0.3\n",
        [
            ("step", 1, 1, 0.9, None, None), ("step", 2, 1, 0.8, None, None),
            ("val", 2, 1, 0.85, 0.7, 0.2), ("val", 4, 2, None, 0.6, 0.3),
        ],
    ),
    "results.csv": (
        "             epoch,    train/box_loss,    train/seg_loss,      val/box_loss,  val/seg_loss\n"
        "                      1,                    0.5,                    0.25,                  1.0,         0.5\n",
        [("val", 1, 1, 0.75, 1.5, None)],
    ),
    "scalars.json": (
        '{"lr": 0.01, "loss": 0.9, "iter": 50, "step": 50}\n{"mIoU": 41.0, "aAcc": 80.0, "step": 50}\n',
        [("step", 50, None, 0.9, None, None), ("val", 50, None, None, None, 0.41)],
    ),
    "trainer_state.json": (
        '{"log_history": [{"epoch": 0.5, "loss": 0.9, "step": 10}, {"epoch": 1.0, "eval_loss": 0.7, "step": 20},'
        ' {"train_loss": 0.95, "train_runtime": 3.0, "step": 10}]}',
        [("step", 10, 0.5, 0.9, None, None), ("val", 20, 1.0, None, 0.7, None)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOGS)
def test_logs_of_other_trainers_are_read(tmp_path: Path, name: str) -> None:
    """Epochs and steps that begin at 0 count from 1; IoU in per cent becomes a fraction; parts of a loss are added."""
    text, expected = LOGS[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    lines, _ = read_history_file(tmp_path / name)
    found = [(x.kind, x.step, x.epoch, x.train_loss, x.val_own_loss, x.val_own_iou) for x in lines]
    assert found == [
        tuple(pytest.approx(value) if isinstance(value, float) else value for value in row) for row in expected
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"loss": [1], "mean_io_u": [0.9], "val_loss": [2], "val_mean_io_u": [0.3]}'),
        ("a.json", '{"history": {"iou_score": [0.9], "loss": [1], "val_iou_score": [0.3], "val_loss": [2]}}'),
        ("a.csv", "epoch,iou,loss,val_iou,val_loss\n1,0.9,1,0.3,2\n"),
        ("a.csv", "epoch,IoU,loss,iou_val,loss_val\n1,90,1,0.3,2\n"),
        ("a.csv", "epoch,loss,test_loss,val_loss,mIoU,IoU/valid\n1,1,7,2,0.9,0.3\n"),
        ("a.jsonl", '{"epoch": 1, "loss": 1, "iou": 0.9}\n{"epoch": 1, "eval_loss": 2, "eval_mean_iou": 0.3}\n'),
    ],
)
def test_a_training_iou_or_test_loss_is_not_taken_for_validations(tmp_path: Path, name: str, text: str) -> None:
    """Columns whose name leaves open what they were computed on count only where no other says validation."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    (line,) = read_history_file(tmp_path / name)[0]
    assert line == HistoryLine(kind="val", step=1, epoch=1, train_loss=1, val_own_loss=2, val_own_iou=0.3)


def test_iou_that_keras_names_without_val_is_trainings(tmp_path: Path) -> None:
    """A training without validation data."""
    (line,) = read_history_file(write(tmp_path / "a.json", loss=[1], mean_io_u=[0.9]))[0]
    assert line == HistoryLine(kind="val", step=1, epoch=1, train_loss=1)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.csv", "epoch,loss\n0,0.9\n1,high\n", "loss of entry 2 is 'high', expected a number"),
        ("a.csv", "epoch,loss\n0,0.9\n1\n", "line 3 has 1 columns, expected 2"),
        ("a.csv", "name,size\na,1\n", "no training history: its columns are name, size. Expected epoch or step with"),
        ("a.csv", "", "no training history. Expected CSV with columns"),
        ("a.log", "Epoch 1: loss 0.9", "no training history. Expected CSV with columns"),
        ("a.json", '{"loss": [1, 2], "val_loss": [1]}', "lists of unlike length (loss 2, val_loss 1)"),
        ("a.json", '{"loss": [true]}', "loss of entry 1 is 'True', expected a number"),
        ("a.json", '{"loss": 1}\n{"loss": ', "line 2 is not JSON"),
        (
            "a.csv",
            "epoch,loss,val_loss\n1,2,2\n2,1,1\n1,3,3\n",
            "epoch 1 has two values of train_loss, 2 and 3. Give the",
        ),
        ("a.csv", "epoch,iter,loss\n1,50,2\n2,50,1\n", "step 50 has two values of train_loss, 2 and 1. Give the log"),
        ("a.json", "[1, 2]", "entry 1 is '1', expected an object"),
        ("a.json", "{}", "no training history. Expected a JSON object with keys such as"),
        ("events.out.tfevents.1.host", "x", "is TensorBoard's event file. Download its scalars as CSV or JSON"),
    ],
)
def test_logs_that_cannot_be_read_whole_are_refused(tmp_path: Path, name: str, text: str, fault: str) -> None:
    """In one line with the file and the place."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(fault)) as refused:
        read_history_file(tmp_path / name)
    assert str(refused.value).startswith(str(tmp_path / name))
    assert "\n" not in str(refused.value)


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    """A diverged loss is no point of a curve."""
    path = tmp_path / "a.json"
    path.write_text('{"tl": [0.5, Infinity, NaN], "val_meanIoU": [0.1]}', encoding="utf-8")
    lines, _ = read_history_file(path)
    assert [line.train_loss for line in lines if line.kind == "step"] == [0.5, None, None]
