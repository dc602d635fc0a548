"""Exports in 8 bits, in OpenVINO's form and as a STAC item."""

import json
import shutil
from pathlib import Path

import numpy as np
import pystac
import pytest
import torch
from builders.prediction import draw_pixels, write_pixels
from builders.study import LEGEND, add_run
from stac_model.schema import MLModelExtension, MLModelProperties

from levelground.cli import main
from levelground.comparison.compare import compare_runs
from levelground.datasets.dataset import Dataset
from levelground.imagery.geotiff import read_window
from levelground.models.loading import open_model
from levelground.models.own_networks import make_own, name_network
from levelground.records import sha256_file
from levelground.runs import Run, read_run
from levelground.runtime import make_runtime

RUNTIME = make_runtime("cpu", "fp32", threads=1)

CODE = """
import torch
from torch import nn

class Nearest(nn.Module):
    # The class of the nearest colour; beside the three bands a channel that is RANGE times as large and tells nothing.
    def __init__(self, bands, classes):
        super().__init__()
        self.head = nn.Conv2d(bands + 1, classes, 1)

    def forward(self, x):
        x = torch.relu(x + 8)
        return self.head(torch.cat([x, RANGE * x[:, :1]], 1))

def make(bands, classes):
    return Nearest(bands, classes)
"""


def nearest_colour_run(dataset: Dataset, folder: Path, name: str, span: float) -> Run:
    """A run of a network that is nearly always right, with a channel of another range."""
    code = folder / f"{name}.py"
    code.write_text(CODE.replace("RANGE", str(span)), encoding="utf-8")
    arch = name_network(f"{code}:make")
    run = add_run(dataset, name, arch=arch, encoder="none", dtype="uint8")
    network = make_own(arch, 3, 3)
    colours = (LEGEND.colours[[0, 2, 3]].astype(np.float64) - run.card.mean) / run.card.std
    weights = np.concatenate([2 * colours, np.full((3, 1), 1e-7)], axis=1)
    bias = -(colours**2).sum(axis=1) - 8 * weights[:, :3].sum(axis=1)
    state = network.state_dict()
    for key, values in zip(sorted(state), (bias, weights[:, :, None, None]), strict=True):
        state[key].copy_(torch.from_numpy(values))
    network.save(run.model_folder)
    return run


def test_a_network_that_8_bits_ruin_is_rejected_and_another_is_kept(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verdict is in the message, the exit status and the report; both are runs of the comparison."""
    sound = nearest_colour_run(dataset, tmp_path, "sound", 1.0)
    assert main(["export", str(sound.folder), "--to", "onnx-int8", "openvino-int8", "--threads", "1"]) == 0
    err = capsys.readouterr().err
    assert "model-int8.onnx: int8 " in err
    assert "megapixels/s" in err
    report = json.loads((sound.folder / "export" / "parity.json").read_text())
    assert {report[form]["verdict"] for form in ("onnx-int8", "openvino-int8")} == {"kept"}
    ruined = nearest_colour_run(dataset, tmp_path, "ruined", 1e4)
    assert main(["export", str(ruined.folder), "--to", "onnx-int8", "--threads", "1"]) == 1
    assert "RejectedError: ruined: int8 is worse by 0." in capsys.readouterr().err
    folder = ruined.folder / "export"
    assert not (folder / "model-int8.onnx").exists()
    assert (folder / "rejected" / "model-int8.onnx").exists()
    entry = json.loads((folder / "parity.json").read_text())["onnx-int8"]
    assert entry["verdict"] == "rejected"
    assert entry["difference"] < -0.1
    comparison = compare_runs([read_run(path) for path in sorted((dataset.folder / "runs").iterdir())])
    assert {run.name for run in comparison.runs} >= {"sound-onnx-int8", "sound-openvino-int8", "ruined-onnx-int8"}
    source = write_pixels(tmp_path / "a.tif", draw_pixels(70, 80))
    maps = []
    for number, model in enumerate((sound.folder, folder.parent.parent / "sound/export/openvino-int8/model.xml")):
        assert main(["predict", str(model), str(source), "--out", str(tmp_path / str(number)), "--device", "cpu"]) == 0
        maps.append(read_window(tmp_path / str(number) / "a.tif"))
    assert (maps[0] == maps[1]).mean() > 0.9


def test_openvinos_form_and_a_stac_item(exported: Run, tmp_path: Path) -> None:
    """The form equals the network and is predicted from; the item names the files and follows the MLM extension."""
    shutil.copytree(exported.folder.parent.parent, tmp_path / "study")
    run = read_run(tmp_path / "study" / "runs" / exported.name)
    assert main(["export", str(run.folder), "--to", "openvino", "stac", "--threads", "1"]) == 0
    report = json.loads((run.folder / "export" / "parity.json").read_text())
    assert (report["openvino"]["holds"], report["openvino"]["equal_classes"]) == (True, 1.0)
    model = open_model(run.folder / "export/openvino/model.xml", RUNTIME)
    assert (model.spec.outputs, model.spec.geometry.tile, model.engine) == ((0, 2, 3), 64, "openvino")
    item = json.loads((run.folder / "export" / "item.json").read_text())
    read = MLModelProperties(**item["properties"])
    assert (read.name, read.input[0].input.shape, read.output[0].result.shape[1]) == (run.name, [-1, 3, 64, 64], 3)
    assert {*item["assets"]} == {"weights", "onnx", "openvino"}
    for asset in item["assets"].values():
        file = run.folder / "export" / asset["href"]
        assert (file.stat().st_size, "1220" + sha256_file(file)) == (asset["file:size"], asset["file:checksum"])
    found = pystac.Item.from_dict(item)
    assert MLModelExtension.has_extension(found)
    assert found.to_dict()["properties"]["mlm:tasks"] == ["semantic-segmentation"]
