"""Inputs that nobody expects end with status 0 or 2 and one line, each kind with a test of its own."""

# commands are one line

import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from builders.bad_records import compared
from builders.onnx_files import write_onnx
from builders.scene_files import kaggle_pair, noise, random_labels, save, save_raster
from builders.study import ENCODER, build_study

from levelground.cli import main, named_limits
from levelground.errors import DataError

COMPUTE = ["--device", "cpu", "--precision", "fp32", "--threads", "1"]


def refused(command: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with, its status being 2."""
    capfd.readouterr()
    status, said = main(command), capfd.readouterr().err
    lines = [line for line in said.splitlines() if re.match(r"\w+Error: ", line)]
    assert (status, len(lines)) == (2, 1), said
    assert "Traceback" not in said
    return lines[0]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """An ONNX file of one convolution."""
    return write_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("value", ["9" * 5000, '"\\ud800"', "1e999", "-" + "9" * 400, '"\\udc80x"'])
@pytest.mark.parametrize("record", ["runs/a-s0/run.json", "dataset.json", "comparison.json"])
def test_numbers_and_texts_that_no_type_holds(
    value: str, record: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In any key of a record, without its checksum."""
    compared(tmp_path)
    path = tmp_path / "study" / record
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("sha256")
    key = {"dataset.json": "layout", "comparison.json": "version"}.get(record, "arch")
    text = json.dumps(content | {key: "PLACE"}).replace('"PLACE"', value)
    path.write_text(text, encoding="utf-8")
    command = "report" if record == "comparison.json" else "compare"
    assert str(path) in refused([command, str(tmp_path / "study")], capfd)


@pytest.mark.parametrize("name", [b"no-utf-8-\xff", b"\xed\xa0\x80", b"tab\tand\x1b[2J"])
@pytest.mark.parametrize("command", [["compare"], ["report"], ["check"], ["evaluate"], ["prepare", "--data"]])
def test_paths_that_are_not_utf_8(
    name: bytes, command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there; the line shows the name without control characters."""
    line = refused([*command, os.fsdecode(bytes(tmp_path) + b"/" + name)], capfd)
    assert line.isprintable()


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX systems only")
def test_a_data_folder_whose_name_is_not_utf_8(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record can hold its name."""
    data = Path(os.fsdecode(bytes(tmp_path) + b"/d\xff"))
    for number in range(4):
        kaggle_pair(tmp_path / "d", str(number), seed=number)
    (tmp_path / "d").rename(data)
    rest = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "c")]
    refused(["prepare", "--data", str(data), *rest], capfd)
    monkeypatch.chdir(tmp_path)
    os.chdir(data)
    assert "Rename that folder or file." in refused(["prepare", "--data", ".", *rest], capfd)
    assert not (tmp_path / "out" / "dataset.json").exists()
    data.rename(tmp_path / "renamed")
    assert main(["prepare", "--data", str(tmp_path / "renamed"), *rest]) == 0


def test_names_of_251_bytes(network: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As long as a disk allows, so that no output of that name fits."""
    long = "n" * 251
    save(tmp_path / "in" / f"{long}.png", noise(8, 8))
    predict = ["predict", str(network), str(tmp_path / "in"), "--out", str(tmp_path / "maps"), *COMPUTE]
    assert "File name too long" in refused(predict, capfd)
    assert [path for path in (tmp_path / "maps").rglob("*") if path.name != ".lock"] == []
    study = build_study(tmp_path).folder
    shutil.copytree(tmp_path / "data", tmp_path / "masks", ignore=shutil.ignore_patterns("*_sat.png"))
    adopt = ["adopt", "--predictions", str(tmp_path / "masks"), "--study", str(study), "--name", long + long]
    assert "File name too long" in refused(adopt, capfd)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [0.0, 1e200, 1e308, float("inf"), float("nan"), 1e-320])
def test_pixels_of_no_or_infinite_size(
    size: float, network: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Rasters that say so are read, or refused in one line; no area is infinite."""
    for number in range(4):
        path = save_raster(tmp_path / f"data/images/{number}.tif", noise(16, 16, seed=number))
        save_raster(tmp_path / f"data/labels/{number}.tif", random_labels(16, 16, n_classes=2, seed=number)[..., None])
        for part in (path, tmp_path / f"data/labels/{number}.tif"):
            with rasterio.open(part, "r+") as raster:
                raster.transform = Affine(size, 0, 300000, 0, -size, 4000000)
    maps = tmp_path / "maps"
    commands = [
        ["predict", str(network), str(path), "--out", str(maps), "--polygons", "gpkg", *COMPUTE],
        ["prepare", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "c")],
    ]
    for command in commands:
        status, said = main(command), capfd.readouterr().err
        assert status in (0, 2), said
        assert "Traceback" not in said
    for table in maps.rglob("*_areas.csv"):
        assert not re.search(r"\b(inf|nan)\b", table.read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", ["image", "key", "value", "logits"])
def test_an_onnx_file_whose_names_are_not_utf_8(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of inputs, outputs and metadata: onnxruntime hands them over as they are."""
    path = write_onnx(tmp_path / "net.onnx", metadata={"key": "value"})
    path.write_bytes(path.read_bytes().replace(text.encode(), b"\x80" + text.encode()[1:]))
    save(tmp_path / "a.png", noise(20, 20))
    command = ["predict", str(path), str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *COMPUTE]
    assert str(path) in refused(command, capfd)


def test_an_onnx_file_for_a_thousand_million_tiles(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its batch is fixed; nothing of that size is made."""
    net = write_onnx(tmp_path / "net.onnx", batch=10**9)
    save(tmp_path / "a.png", noise(8, 8))
    refused(["predict", str(net), str(tmp_path / "a.png"), "--out", str(tmp_path / "maps"), *COMPUTE], capfd)


@pytest.mark.parametrize("shape", [(), (3,), (0, 3, 1, 1), (10**4, 0)])
def test_head_weights_of_no_shape(shape: tuple[int, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A scalar, a vector or nothing where a kernel is expected."""
    study = build_study(tmp_path).folder
    head = {"segmentation_head.0.weight": torch.zeros(shape), "segmentation_head.0.bias": torch.zeros(3)}
    torch.save(head | {"encoder.conv1.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "w.pth")
    adopt = ["adopt", str(tmp_path / "w.pth"), "--study", str(study)]
    refused(adopt, capfd)
    refused([*adopt, "--arch", "linknet", "--encoder", ENCODER], capfd)


def test_a_table_of_infinite_colours_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A legend's colours and a history's figures of any size."""
    (tmp_path / "table.csv").write_text("Value,Class_Name,Red,Green,Blue\n1,a,1e400,2,3\n2,b,1,2,3\n")
    kaggle_pair(tmp_path / "data", "1")
    refused(
        [
            "prepare",
            "--data",
            str(tmp_path / "data"),
            "--out",
            str(tmp_path / "o"),
            "--legend",
            str(tmp_path / "table.csv"),
        ],
        capfd,
    )
    study = build_study(tmp_path / "other").folder
    (tmp_path / "log.json").write_text(json.dumps([{"epoch": 1, "train_loss": 10**400}]))
    refused(["adopt", "--history", str(tmp_path / "log.json"), "--study", str(study)], capfd)


@pytest.mark.parametrize("make", ["folder", "loop", "fifo", "nowhere"])
@pytest.mark.parametrize(
    "name", ["runs/a-s0/counts-test.npz", "runs/a-s0/run.json", "dataset.json", "runs/a-s0/history.jsonl"]
)
def test_what_is_not_a_file_is_refused_at_once(
    name: str, make: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Folders, loops of links and FIFOs under the names of records."""
    compared(tmp_path)
    path = tmp_path / "study" / name
    path.unlink(missing_ok=True)
    if make == "folder":
        path.mkdir()
    elif make == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path if make == "loop" else tmp_path / "nowhere")
    status, said = main(["compare", str(tmp_path / "study")]), capfd.readouterr().err
    assert status in (0, 2), said
    assert main(["check", str(tmp_path / "study")]) in (0, 2)


def test_counts_that_overflow_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Numbers that fit their type, and whose sums do not."""
    compared(tmp_path)
    path = tmp_path / "study/runs/a-s0/counts-test.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    card = json.loads((tmp_path / "study/runs/a-s0/run.json").read_text())
    del card["evaluations"]["test"]["counts_sha256"], card["sha256"]
    for name, value in (
        ("counts", 2**62),
        ("conf_sum", 1e300),
        ("conf_correct", 10**9),
        ("conf_sum", 1e9),
        ("megapixels", np.inf),
        ("forward_s", np.nan),
    ):
        changed = content[name].copy()
        changed.flat[0] = value
        np.savez(path, **content | {name: changed})
        from levelground.errors import RecordError
        from levelground.metrics.counts import read_counts

        with pytest.raises(RecordError, match=name):
            read_counts(path)


class Waits(BaseException):
    """A command that waits for somebody to write into a FIFO."""


def waits(*_: object) -> None:
    """End the wait."""
    raise Waits


@pytest.mark.parametrize(
    "command",
    [
        "adopt STUDY/net.pth --study STUDY",
        "adopt STUDY/net.safetensors --study STUDY --arch linknet",
        "adopt STUDY/net.onnx --study STUDY",
        "adopt STUDY/net.pt --study STUDY",
        "adopt --predictions STUDY/masks/b_2.npy --study STUDY",
        "adopt --predictions STUDY/masks/b_2.npz --study STUDY",
        "adopt --predictions STUDY/masks/b_2.png --study STUDY",
        "adopt --history STUDY/log.csv --study STUDY",
        "adopt --history STUDY/log.jsonl --study STUDY",
        "train STUDY --arch linknet --steps 1 --recipe STUDY/recipe.toml",
        "train STUDY --arch linknet --steps 1 --init STUDY/net.pth",
        "train STUDY --arch STUDY/net.py:make --steps 1",
        "train STUDY --resume STUDY/run.json",
        "predict STUDY/net.onnx STUDY/scene.tif --out STUDY/out",
        "predict STUDY/net.pth STUDY/scene.tif --out STUDY/out",
        "export STUDY/run.json",
        "prepare --data STUDY/data --out STUDY/out --legend STUDY/data/legend.toml",
        "prepare --data STUDY/data --out STUDY/out --groups STUDY/data/groups.csv",
        "compare STUDY/study.json",
    ],
)
def test_a_fifo_is_never_waited_for(command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Under the name of any file that a user names; nobody will ever write into it."""
    study = build_study(tmp_path).folder
    kaggle_pair(study / "data", "1")
    words = command.replace("STUDY", str(study)).split()
    files = [Path(word.split(":")[0]) for word in words if Path(word.split(":")[0]).suffix]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)
    words = [str(study / "masks") if word.startswith(str(study / "masks")) else word for word in words]
    before = signal.signal(signal.SIGALRM, waits)
    signal.alarm(20)
    try:
        status = main(words)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert status == 2, capfd.readouterr().err


def test_an_unknown_metric_in_a_comparison_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The page would not know its range."""
    compared(tmp_path)
    path = tmp_path / "study" / "comparison.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["sha256"]
    path.write_text(json.dumps(content | {"metric": "2020"}), encoding="utf-8")
    line = refused(["report", str(tmp_path / "study")], capfd)
    assert str(path) in line and "metric: '2020' is unknown" in line


def test_a_loop_of_links_is_one_line(tmp_path: Path) -> None:
    """Wherever a path is followed: pathlib raises a RuntimeError, from Python 3.13 on an OSError."""
    link = tmp_path / "mask.png"
    link.symlink_to(link)
    with pytest.raises(DataError, match=re.escape(str(link))), named_limits():
        link.resolve(strict=True)
