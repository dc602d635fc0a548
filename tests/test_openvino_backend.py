"""Networks in OpenVINO: the same classes as onnxruntime and torch, or another engine."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from builders.onnx_files import write_onnx
from builders.prediction import draw_pixels, write_pixels
from builders.study import add_run
from torch import nn

from levelground.cli import main
from levelground.config import TileOptions
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, ModelError, WeightsError
from levelground.imagery.geotiff import read_window
from levelground.inference.parity import proved
from levelground.models import openvino_backend
from levelground.models.conversions import convert_network, find_conversion
from levelground.models.loading import choose_engine, open_model, program_of
from levelground.models.model import Model, Overrides
from levelground.models.onnx_backend import open_onnx
from levelground.models.openvino_backend import compiled, open_openvino, rounding_large_layers
from levelground.models.spec import run_geometry
from levelground.runs import Run, read_run
from levelground.runtime import make_runtime
from levelground.tile_geometry import OWN_TILES

RUNTIME = make_runtime("cpu", "fp32", threads=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for converted networks."""
    monkeypatch.setenv("LEVELGROUND_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("kind", ["float", "uint8", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_any_form_of_file_gives_what_onnxruntime_gives(tmp_path: Path, layout: str, kind: str) -> None:
    """Layout, type, activation and tile are read from the file by both; the digest is the same."""
    path = write_onnx(tmp_path / "m.onnx", layout=layout, kind=kind, sides=(48, 48), activation="sigmoid")  # type: ignore[arg-type]
    ours, theirs = open_openvino(path, RUNTIME, Overrides()), open_onnx(path, RUNTIME, Overrides())
    assert (ours.engine, ours.spec, ours.digest, ours.activated) == (
        "openvino",
        theirs.spec,
        theirs.digest,
        theirs.activated,
    )
    image = np.random.default_rng(0).random((3, 3, 48, 48), np.float32) * (255 if kind == "uint8" else 1)
    np.testing.assert_allclose(ours.on_arrays(image.copy()), theirs.on_arrays(image.copy()), atol=2e-3)


def test_damaged_and_incomplete_files_are_one_line(tmp_path: Path) -> None:
    """A file that is not ONNX, and one of OpenVINO's without its weights."""
    path = tmp_path / "m.xml"
    path.write_text("<net/>")
    with pytest.raises(WeightsError, match=r"m\.bin: is missing; a network of OpenVINO is two files"):
        open_openvino(path, RUNTIME, Overrides())
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"m\.xml: OpenVINO cannot load it \(.+\)\. Export it anew\."):
        open_openvino(path, RUNTIME, Overrides())


@pytest.mark.parametrize("content", [b"", b"\x08", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_is_not_onnx_is_one_line_and_nothing_else(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenVINO's readers of other formats, which write on the process's stderr, do not try it."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"m\.onnx: not an ONNX file \(.+\)\. Give the file that was exported\."):
        open_openvino(path, RUNTIME, Overrides())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("opened", [open_openvino, open_onnx])
def test_a_damaged_network_is_named_by_its_fault(
    tmp_path: Path, opened: Callable[..., Model], capfd: pytest.CaptureFixture[str]
) -> None:
    """Not by the place in the engine's source where it was found; the engine itself writes nothing."""
    path = write_onnx(tmp_path / "m.onnx")
    whole = onnx.load(str(path))
    for spoil, fault in (
        (lambda model: model.graph.ClearField("initializer"), r"\w.*kernel.*"),
        (lambda model: model.graph.initializer[0].dims.__setitem__(0, 2**33), r"[^/]*kernel.*"),
    ):
        model = onnx.ModelProto()
        model.CopyFrom(whole)
        spoil(model)
        path.write_bytes(model.SerializeToString())
        engine = r"m\.onnx: (OpenVINO|onnxruntime) cannot load it"
        with pytest.raises(
            WeightsError, match=rf"{engine} \((?!Exception|Check)(?!.*(\.cc|\.cpp)){fault}\)\. Export it anew\."
        ):
            opened(path, RUNTIME, Overrides())
    whole.graph.ClearField("output")
    path.write_bytes(whole.SerializeToString())
    with pytest.raises(ModelError, match=r"m\.onnx: its network has no output\. Export it anew\."):
        opened(path, RUNTIME, Overrides())
    assert capfd.readouterr().err == ""


def test_texts_that_are_not_utf_8_are_one_line(tmp_path: Path) -> None:
    """A text and a key of the metadata, and the name of an input, whichever engine reads them."""
    sound = write_onnx(tmp_path / "m.onnx", metadata={"somekey": "sometext"}).read_bytes()
    refused = []
    for word in (b"sometext", b"somekey", b"image"):
        (tmp_path / "m.onnx").write_bytes(sound.replace(word, b"\xff" + word[1:]))
        for opened in (open_openvino, open_onnx):
            try:
                opened(tmp_path / "m.onnx", RUNTIME, Overrides())
            except WeightsError as error:  # an engine may also pass such a text by
                refused.append(str(error))
    assert {opened for opened in refused if "not UTF-8" in opened}
    assert all(re.fullmatch(r".+m\.onnx: .+ Export it anew\.", text) for text in refused)


def test_an_engine_that_gives_other_classes_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer than 99.5 % equal classes, an error, or agreement: a line says which engine runs the network, and why."""
    path = write_onnx(tmp_path / "m.onnx")
    good = open_openvino(path, RUNTIME, Overrides())
    tiles = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)

    def fail(image: object) -> None:
        raise ModelError("no such operator. Give another.")

    engines = {
        "openvino": proved(good, lambda: tiles, RUNTIME),
        "onnx": proved(dataclasses.replace(good, forward=lambda image: -good.on_arrays(image)), lambda: tiles, RUNTIME),
        "failed": proved(dataclasses.replace(good, forward=fail), lambda: tiles, RUNTIME),  # type: ignore[arg-type]
    }
    assert [model.engine for model in engines.values()] == ["openvino", "onnx", "onnx"]
    assert all(model.reference is None for model in engines.values())
    used, other, failed = (line for line in capsys.readouterr().err.splitlines() if "openvino" in line)
    assert "openvino runs it; on 2 of its tiles 100.00 % of the pixels have the class that onnx gives." in used
    assert other.endswith("fewer than 99.5 %; onnx runs it.")
    assert "openvino cannot run it (no such operator. Give another); onnx does." in failed


def test_the_first_run_of_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that run OpenVINO for the first time may wait for each other for ever; later they run at once."""
    running, most = list[int](), list[int]()

    def infer(batch: list[np.ndarray], **_: object) -> list[np.ndarray]:
        running.append(1)
        time.sleep(0.02)
        most.append(len(running))
        running.pop()
        return batch

    network = SimpleNamespace(create_infer_request=lambda: SimpleNamespace(infer=infer))
    core = SimpleNamespace(compile_model=lambda *_: network)
    monkeypatch.setattr("openvino.Core", lambda: core)
    monkeypatch.setattr(openvino_backend, "_has_run", threading.Event())
    monkeypatch.setattr(openvino_backend, "_type_of", lambda _: "f32")
    run = compiled(SimpleNamespace(outputs=[None]), RUNTIME, "network")
    tile = np.zeros((1, 3, 8, 8), np.float32)
    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(run, [tile] * 8))) == 8
    assert most[0] == 1
    assert max(most) == 2


def test_bfloat16_is_for_the_largest_layers(tmp_path: Path) -> None:
    """Those that hold three quarters of the work; all others keep float32, in which the graph is what it was."""
    openvino = pytest.importorskip("openvino")
    ops = pytest.importorskip("openvino.opset13")
    rng = np.random.default_rng(0)
    image = ops.parameter([-1, 3, -1, -1], np.float32, "image")
    found = image
    for n_in, n_out, side in ((3, 8, 1), (8, 32, 3), (32, 2, 1)):
        weights = rng.standard_normal((n_out, n_in, side, side)).astype(np.float32)
        pad = [side // 2] * 2
        found = ops.convolution(found, ops.constant(weights), [1, 1], pad, pad, [1, 1], name=f"conv{n_in}")
        found = ops.relu(found)
    graph = openvino.Model([found], [image], "net")
    marked = rounding_large_layers(graph, 64)
    kept = {
        node.get_friendly_name(): any("precis" in str(key).lower() for key in dict(node.get_rt_info()))
        for node in marked.get_ordered_ops()
        if node.get_type_name() in ("Convolution", "Relu")
    }
    assert [kept[f"conv{n}"] for n in (3, 8, 32)] == [True, False, True]
    assert list(kept.values()).count(True) == 5
    pixels = rng.random((2, 3, 20, 40), np.float32)
    before, after = (compiled(one, RUNTIME, "net")(pixels) for one in (graph, marked))
    np.testing.assert_array_equal(before, after)


class PerPixel(nn.Linear):
    """A linear layer over the bands of each pixel, as transformers have."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Run the layer over ``(N, C, H, W)``."""
        return super().forward(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def test_bfloat16_is_for_the_largest_layers_of_transformers_too() -> None:
    """Any number of tiles at a time leaves the first side of what their linear layers multiply unknown."""
    network = nn.Sequential(nn.Conv2d(3, 8, 1), PerPixel(8, 64), nn.ReLU(), nn.Conv2d(64, 2, 1)).eval()
    marked = rounding_large_layers(convert_network(network, (3, 32, 48)), 48)
    kept = {
        node.get_type_name(): any("precis" in str(key).lower() for key in dict(node.get_rt_info()))
        for node in marked.get_ordered_ops()
        if node.get_type_name() in ("Convolution", "MatMul", "Relu")
    }
    assert kept == {"Convolution": True, "MatMul": False, "Relu": True}


def test_names_that_xml_cannot_hold_are_no_obstacle(tmp_path: Path) -> None:
    """ONNX takes any name, OpenVINO's own files do not: such a network is computed as it is."""
    path = write_onnx(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.graph.node[0].name = "conv\x01"
    path.write_bytes(model.SerializeToString())
    model_16 = open_openvino(path, make_runtime("cpu", "bf16", threads=1), Overrides())
    image = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    np.testing.assert_allclose(
        model_16.on_arrays(image.copy()), open_onnx(path, RUNTIME, Overrides()).on_arrays(image), atol=0.05
    )


def test_group_normalisations_are_converted_layer_by_layer() -> None:
    """So that each of their layers can stay in float32; the numbers are the network's."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.Conv2d(8, 2, 1)).eval()
    nn.init.normal_(network[1].weight)  # type: ignore[arg-type]
    nn.init.normal_(network[1].bias)  # type: ignore[arg-type]
    graph = rounding_large_layers(convert_network(network, (3, 32, 48)), 48)
    assert "GroupNormalization" not in {node.get_type_name() for node in graph.get_ordered_ops()}
    pixels = np.random.default_rng(0).random((3, 3, 32, 48), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(compiled(graph, RUNTIME, "net")(pixels), expected, atol=1e-5)


def test_an_onnx_file_is_run_without_torch_by_either_engine(tmp_path: Path) -> None:
    """OpenVINO runs it where it is installed; the maps of both are alike."""
    model = write_onnx(tmp_path / "m.onnx", sides=(64, 64))
    write_pixels(tmp_path / "a.tif", draw_pixels(100, 140))
    code = (
        "import sys; from levelground.cli import main; status = main(sys.argv[1:]); "
        "print(status, sorted({'torch', 'openvino'} & {*sys.modules}))"
    )
    found = {}
    for engine, loaded in (("auto", "0 ['openvino']\n"), ("onnx", "0 []\n")):
        flags = ["--out", str(tmp_path / engine), "--engine", engine, "--device", "cpu"]
        command = [sys.executable, "-c", code, "predict", str(model), str(tmp_path / "a.tif"), *flags]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == loaded
        found[engine] = read_window(tmp_path / engine / "a.tif")
    assert (found["auto"] == found["onnx"]).mean() > 0.995


def test_a_run_is_predicted_and_evaluated_by_openvino(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another engine is another evaluation, named on the card; the default stays torch with the identity it had."""
    flags, finished = (
        ["--device", "cpu", "--precision", "fp32", "--threads", "1"],
        add_run(dataset, "one", dtype="uint8"),
    )
    assert main(["evaluate", str(finished.folder), *flags]) == 0
    before = read_run(finished.folder).card.evaluations["test"]
    assert main(["evaluate", str(finished.folder), "--engine", "openvino", *flags]) == 0
    after = read_run(finished.folder).card.evaluations["test"]
    assert (before.engine, after.engine) == (None, "openvino")
    assert before.identity != after.identity
    assert after.loss == pytest.approx(before.loss, rel=1e-3)
    capsys.readouterr()
    assert main(["evaluate", str(finished.folder), "--engine", "openvino", *flags]) == 0
    assert "test is evaluated already; reused." in capsys.readouterr().err
    source = write_pixels(tmp_path / "a.tif", draw_pixels(70, 80))
    for engine in ("torch", "openvino"):
        out = ["--out", str(tmp_path / engine), "--engine", engine, *flags]
        assert main(["predict", str(finished.folder), str(source), *out]) == 0
    assert "one: runs in openvino as it was converted before, without torch." in capsys.readouterr().err
    maps = [read_window(tmp_path / engine / "a.tif") for engine in ("torch", "openvino")]
    assert (maps[0] == maps[1]).mean() > 0.995


def test_a_conversion_is_kept_and_read_without_torch(
    dataset: Dataset, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second call gives the same bytes and does not import torch; a damaged conversion is made anew."""
    run = add_run(dataset, "one", dtype="uint8")
    source = write_pixels(tmp_path / "a.tif", draw_pixels(70, 80))
    command = ["predict", str(run.folder), str(source), "--engine", "openvino", "--precision", "fp32", "--threads", "1"]
    assert main([*command, "--out", str(tmp_path / "first")]) == 0
    assert re.search(r"openvino runs it; on \d of its tiles 100\.00 % of the pixels", capsys.readouterr().err)
    (kept,) = cache.glob("openvino/*/*/model.bin")
    code = "import sys; from levelground.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    second = [sys.executable, "-c", code, *command, "--out", str(tmp_path / "second")]
    assert subprocess.run(second, capture_output=True, text=True, check=True).stdout == "0 False\n"
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    assert main([*command, "--out", str(tmp_path / "third")]) == 0
    maps = [(tmp_path / name / "a.tif").read_bytes() for name in ("first", "second", "third")]
    assert maps[0] == maps[1] == maps[2]
    assert kept.read_bytes() != bytes(content)


def test_a_conversion_is_of_the_options_beside_the_weights(dataset: Dataset) -> None:
    """Some, such as the interpolation of a decoder, leave no trace in a tensor."""
    run = add_run(dataset, "one", dtype="uint8")
    config = run.model_folder / "config.json"
    before = find_conversion(run.folder, OWN_TILES)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"decoder_interpolation": "bilinear"}))
    after = find_conversion(run.folder, OWN_TILES)
    assert before is not None
    assert after is not None
    assert before.folder != after.folder


def test_a_current_export_is_run_in_place_of_the_network(exported: Run, tmp_path: Path) -> None:
    """Without torch; an export of other weights, tiles or ground sample distance is not taken."""
    shutil.copytree(exported.folder.parent.parent, tmp_path / "study")
    run = read_run(tmp_path / "study" / "runs" / exported.name)
    report = run.folder / "export" / "parity.json"
    content = json.loads(report.read_text())

    def engine_of(engine: str, **changes: object) -> tuple[str, bool]:
        report.write_text(json.dumps(content | {"onnx": content["onnx"] | {"gsd_m": run.card.gsd_m} | changes}))
        (report.parent / "hashes.json").unlink(missing_ok=True)
        model: Model = open_model(run.folder, RUNTIME, engine=engine)  # type: ignore[arg-type]
        return model.engine, model.activated

    assert engine_of("openvino") == ("openvino", True)
    assert engine_of("onnx") == ("onnx", True)
    own = run_geometry(run).tile
    assert [program_of(run.folder, "onnx", TileOptions(tile)) is None for tile in (None, own, own + 32)] == [
        False,
        False,
        True,
    ]
    assert engine_of("openvino", weights_sha256="0" * 64) == ("openvino", False)  # the run's network, converted
    with pytest.raises(ConfigError, match=r"has no current ONNX file of .+ levelground export --overwrite, without"):
        choose_engine(run.folder, "onnx", OWN_TILES, "cpu")
    with pytest.raises(ConfigError, match=r"is not a run, which could be exported\. Leave --engine away"):
        choose_engine(run.model_folder, "onnx", OWN_TILES, "cpu")
    engine_of("onnx")
    for other in (TileOptions(own + 32), TileOptions(fit_tile=True)):
        with pytest.raises(ConfigError, match=r"takes the run's own tiles\. Leave --tile and --fit-tile away"):
            choose_engine(run.folder, "onnx", other, "cpu")


def test_a_run_is_evaluated_by_its_current_export(
    exported: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In onnxruntime where that is asked for, and not in torch without a word."""
    shutil.copytree(exported.folder.parent.parent, tmp_path / "study")
    run = tmp_path / "study" / "runs" / exported.name
    report = run / "export" / "parity.json"
    content = json.loads(report.read_text())
    report.write_text(json.dumps(content | {"onnx": content["onnx"] | {"gsd_m": read_run(run).card.gsd_m}}))
    flags = ["--device", "cpu", "--precision", "fp32", "--threads", "1"]
    for engine in ("onnx", "openvino"):
        assert main(["evaluate", str(run), "--engine", engine, *flags]) == 0
        assert read_run(run).card.evaluations["test"].engine == engine
    assert "converted" not in capsys.readouterr().err


def test_engines_that_cannot_run_a_model_are_refused(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torch engine for an ONNX file, another for OpenVINO's own, a GPU for OpenVINO, a missing library, two tiles."""
    onnx, own = write_onnx(tmp_path / "m.onnx"), tmp_path / "m.xml"
    own.touch()
    cases = [(onnx, "torch", "is an ONNX file"), (own, "onnx", "is a file of OpenVINO")]
    for path, engine, message in cases:
        with pytest.raises(ConfigError, match=message):
            choose_engine(path, engine, OWN_TILES, "cpu")  # type: ignore[arg-type]
    assert choose_engine(onnx, "auto", OWN_TILES, "cuda") == "onnx"
    monkeypatch.setattr("levelground.models.loading.has_openvino", lambda: False)
    assert choose_engine(onnx, "auto", OWN_TILES, "cpu") == "onnx"
    with pytest.raises(ModelError, match=r"--engine openvino: OpenVINO, .* pip install 'levelground\[deploy\]'"):
        choose_engine(dataset.folder, "openvino", TileOptions(), "cpu")
