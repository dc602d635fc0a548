"""The exported ONNX file: one file that clients run as it is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import segmentation_models_pytorch as smp
import torch
from builders.onnx_files import read_metadata
from builders.study import LEGEND

from levelground.errors import ModelError
from levelground.exporting.onnx import client_metadata, write_onnx
from levelground.inference.parity import compare_models, gather_tiles
from levelground.models.loading import load_model, open_model
from levelground.models.model import Model
from levelground.models.spec import ModelSpec, read_model_spec
from levelground.records import sha256_file
from levelground.runs import Run
from levelground.runtime import make_runtime
from levelground.tile_geometry import TileGeometry

RUNTIME = make_runtime("cpu", "fp32", threads=1)
ALWAYS = ("pspnet", "upernet")
"""Architectures exported whenever tests run, beside the fixture's linknet: torch's older exporter failed on these."""


def test_one_file_of_the_shape_that_clients_read(exported: Run) -> None:
    """Tile size stands in the input's shape, the number of tiles is free, and there is no second file of weights."""
    path = exported.folder / "export" / "model.onnx"
    model = onnx.load(str(path), load_external_data=False)
    onnx.checker.check_model(model)
    (image,), (probs,) = model.graph.input, model.graph.output
    sides = [
        [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim] for value in (image, probs)
    ]
    assert sides == [["batch", 3, 64, 64], ["batch", 3, 64, 64]]
    assert image.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert {entry.name for entry in path.parent.iterdir()} == {"model.onnx", "parity.json", "hashes.json", ".lock"}
    assert not any(tensor.data_location == tensor.EXTERNAL for tensor in model.graph.initializer)


def test_the_file_format_is_one_that_clients_of_2024_open(exported: Run) -> None:
    """Deepness installs onnxruntime 1.17 or older: file format 9, operator set 20 at most."""
    model = onnx.load(str(exported.folder / "export" / "model.onnx"))
    assert model.ir_version <= 9
    assert max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) <= 20


OLD_CLIENT = """
import sys
import numpy as np
import onnxruntime
model, tiles, out = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
(found,) = session.run(None, {session.get_inputs()[0].name: np.load(tiles)})
np.save(out, found)
print(onnxruntime.__version__, np.__version__)
"""


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with onnxruntime 1.17.0 and numpy 1, as Deepness makes it."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not installed: no environment with onnxruntime 1.17.0")
    folder = tmp_path_factory.mktemp("old") / "venv"
    for command in (
        ["venv", "--python", sys.executable, str(folder)],
        ["pip", "install", "--python", str(folder / "bin" / "python"), "onnxruntime==1.17.0", "numpy<2"],
    ):
        done = subprocess.run([uv, *command], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"onnxruntime 1.17.0 cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin" / "python"


def test_onnxruntime_1_17_gives_the_networks_probabilities(exported: Run, old_python: Path, tmp_path: Path) -> None:
    """The file runs in the environment that the QGIS plugin makes for itself."""
    stored = torch.randint(0, 256, (2, 3, 64, 64)).float()
    np.save(tmp_path / "tiles.npy", (stored / 255).numpy())
    model = exported.folder / "export" / "model.onnx"
    command = [old_python, "-c", OLD_CLIENT, model, tmp_path / "tiles.npy", tmp_path / "out.npy"]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1.17.0 1."), done.stdout
    with torch.inference_mode():
        wanted = load_model(exported).network((stored - 100) / 60).softmax(1)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted.numpy(), rtol=0, atol=1e-5)


DEEPNESS_CLIENT = """
import json
import sys
import types

class Empty(types.ModuleType):
    __path__ = []
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})

for name in ("qgis", "qgis.core", "qgis.gui", "qgis.utils", "qgis.PyQt", "qgis.PyQt.QtCore", "qgis.PyQt.QtWidgets"):
    sys.modules[name] = Empty(name)
plugin, model, tiles, out = sys.argv[1:]
package = types.ModuleType("deepness")  # without its entry point, which opens windows
package.__path__ = [plugin]
sys.modules["deepness"] = package
import numpy as np
from deepness.processing.models.segmentor import Segmentor

found = Segmentor(model)
np.save(out, np.array(found.process(np.load(tiles)))[0])
print(json.dumps({
    "type": found.get_metadata_model_type(),
    "names": found.outputs_names,
    "channels": found.get_number_of_output_channels(),
    "sigmoid": found.outputs_are_sigmoid,
    "batch": found.get_model_batch_size(),
    "resolution": found.get_metadata_resolution(),
    "tile": found.get_metadata_tile_size(),
    "overlap": found.get_metadata_tiles_overlap(),
    "threshold": found.get_metadata_segmentation_threshold(),
    "smallest": found.get_metadata_segmentation_small_segment(),
}))
"""


def deepness_plugin() -> Path | None:
    """The plugin's package in the folder that LEVELGROUND_DEEPNESS names, such as a copy of its repository."""
    given = Path(os.environ.get("LEVELGROUND_DEEPNESS") or "nowhere")
    places = (given, given / "deepness", given / "src" / "deepness")
    return next((place for place in places if (place / "processing" / "models" / "segmentor.py").is_file()), None)


@pytest.mark.skipif(deepness_plugin() is None, reason="LEVELGROUND_DEEPNESS does not hold the QGIS plugin Deepness")
def test_deepness_reads_and_runs_the_file(exported: Run, old_python: Path, tmp_path: Path) -> None:
    """Its own classes, with QGIS's modules empty: what it shows is right, and its map has the network's classes."""
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    np.save(tmp_path / "tiles.npy", pixels.numpy())
    model = exported.folder / "export" / "model.onnx"
    command = [
        old_python,
        "-c",
        DEEPNESS_CLIENT,
        deepness_plugin(),
        model,
        tmp_path / "tiles.npy",
        tmp_path / "out.npy",
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "type": "Segmentor",
        "names": [["Field", "Wood", "Water"]],
        "channels": [3],
        "sigmoid": [False],
        "batch": None,
        "resolution": 50.0,
        "tile": 64,
        "overlap": 25,
        "threshold": 0.0,
        "smallest": 0,
    }
    with torch.inference_mode():
        wanted = load_model(exported).network((pixels.permute(0, 3, 1, 2).float() - 100) / 60).softmax(1)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted.numpy(), rtol=0, atol=1e-5)


def test_the_metadata_are_those_that_deepness_and_geodeep_read(exported: Run) -> None:
    """Every value is JSON; classes are numbered by output, the resolution is in centimetres."""
    found = {key: json.loads(value) for key, value in read_metadata(exported.folder / "export" / "model.onnx").items()}
    spec = found.pop("levelground")
    assert found == {
        "model_type": "Segmentor",
        "class_names": {"0": "Field", "1": "Wood", "2": "Water"},
        "resolution": 50.0,
        "tile_size": 64,
        "tiles_size": 64,
        "tiles_overlap": 25,
        "seg_thresh": 0,
        "seg_small_segment": 0,
        "standardization_mean": [0.0, 0.0, 0.0],
        "standardization_std": [1.0, 1.0, 1.0],
    }
    assert (spec["schema"], spec["outputs"], spec["gsd_m"]) == (1, [0, 2, 3], 0.5)
    assert spec["legend"] == LEGEND.to_json()


def test_an_unknown_ground_sample_distance_is_geodeeps_default(exported: Run) -> None:
    """10 cm a pixel: no raster of that or coarser is shrunk."""
    spec = read_model_spec(exported)
    assert spec.gsd_m is None
    assert json.loads(client_metadata(spec)["resolution"]) == 10


def test_the_file_names_no_folder_of_this_machine(exported: Run) -> None:
    """The exporter notes lines of source beside each operation; they are removed."""
    content = (exported.folder / "export" / "model.onnx").read_bytes()
    assert b".py" not in content
    assert os.fsencode(os.path.dirname(smp.__file__)) not in content  # noqa: PTH120 - bytes of a path


def test_it_gives_the_networks_probabilities_for_values_from_0_to_1(exported: Run) -> None:
    """Normalisation and softmax are in the graph; any number of tiles goes through at once."""
    found = open_model(exported.folder / "export" / "model.onnx", RUNTIME)
    spec = found.spec
    assert (found.activated, spec.mean, spec.std) == (True, (0.0,) * 3, (255.0,) * 3)
    assert (spec.geometry, spec.fixed_tile, spec.max_batch, spec.dtype) == (TileGeometry(64, 8), True, None, "uint8")
    assert (spec.outputs, spec.legend, spec.gsd_m, spec.name) == ((0, 2, 3), LEGEND, 0.5, exported.name)
    model, stored = load_model(exported), torch.randint(0, 256, (5, 3, 64, 64)).float()
    with torch.inference_mode():
        wanted = model.network((stored - 100) / 60).softmax(1)
    torch.testing.assert_close(torch.from_numpy(found.on_arrays((stored / 255).numpy())), wanted, rtol=0, atol=1e-5)


def test_the_parity_report_speaks_of_the_file(exported: Run) -> None:
    """Figures, limits, tiles and the file's hash."""
    report = json.loads((exported.folder / "export" / "parity.json").read_text())
    entry = report["onnx"]
    assert (report["schema"], report["kind"], entry["holds"]) == (1, "parity", True)
    assert entry["limits"] == {"max_difference": 1e-3, "equal_classes": 0.999}
    assert entry["max_difference"] < 1e-5
    assert entry["equal_classes"] > 0.999
    assert (entry["tiles"], entry["source"]) == (2, "the study's validation scenes")
    assert entry["sha256"] == sha256_file(exported.folder / "export" / "model.onnx")
    assert {"torch", "onnxruntime", "onnxscript"} <= set(entry["versions"])


def test_what_the_exporter_cannot_follow_is_one_line(
    exported: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its errors are long; the first line, and the form that always works, are enough."""

    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("cannot follow\nmany lines")

    monkeypatch.setattr(torch.onnx, "export", fail)
    message = (
        r"linknet-s0: torch cannot export linknet with encoder tu-test_resnet as ONNX \(cannot follow\)\. "
        r"Export it with --to smp\."
    )
    with pytest.raises(ModelError, match=message):
        write_onnx(load_model(exported), tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        ModelError, match=r"--to onnx: onnxscript is not installed\. pip install 'levelground\[export\]'"
    ):
        write_onnx(load_model(exported), tmp_path / "m.onnx")


@pytest.mark.parametrize("arch", sorted(smp.MODEL_ARCHITECTURES_MAPPING))
def test_every_architecture_exports(exported: Run, tmp_path: Path, arch: str) -> None:
    """All twelve say as ONNX what they say as a network; most of them on request."""
    if arch not in ALWAYS and not os.environ.get("LEVELGROUND_ALL_ARCHS"):
        pytest.skip("some seconds each: set LEVELGROUND_ALL_ARCHS=1")
    torch.manual_seed(0)
    encoder = "tu-test_resnet"
    options = {"decoder_readout": "ignore"} if arch == "dpt" else {}
    network = smp.create_model(arch, encoder, encoder_weights=None, classes=3, **options).eval()
    mean, std, geometry = (100.0,) * 3, (60.0,) * 3, TileGeometry(128, 16)
    spec = ModelSpec("x", arch, encoder, LEGEND, (0, 2, 3), mean, std, "uint8", 0.5, geometry)
    model = Model(spec, network)
    path = tmp_path / "m.onnx"
    write_onnx(model, path)
    tiles = gather_tiles(exported, spec, n=2)
    parity = compare_models(model, open_model(path, RUNTIME), tiles, RUNTIME)
    assert parity.holds, parity.text()
    assert np.isfinite(parity.mean_difference)
