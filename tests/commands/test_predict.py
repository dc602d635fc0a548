"""``levelground predict``: end to end, stopped from outside, and gone on with."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.commands import start_command
from builders.onnx_files import weights_of, write_onnx
from builders.prediction import RUNTIME, draw_pixels, write_pixels
from builders.scene_files import save
from builders.study import add_run, build_study

from levelground.cli import main
from levelground.commands.predict import PredictConfig, predict
from levelground.config import DeviceOptions, PredictOptions
from levelground.errors import ModelError
from levelground.imagery.geotiff import read_info, read_window
from levelground.inference.sliding_window import sliding_window_inference, with_tta
from levelground.models.loading import load_model, open_model
from levelground.models.model import Model
from levelground.prediction.resume import STATE_FILE, UNFINISHED_FILE
from levelground.runs import Run
from levelground.runtime import open_array_runtime
from levelground.tile_geometry import TileGeometry

FLAGS = ["--device", "cpu", "--precision", "fp32", "--threads", "1"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with an untrained network."""
    return add_run(build_study(tmp_path), dtype="uint8", gsd_m=None, tile=64, halo=8)


def test_a_run_maps_rasters_and_images(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each input says size, speed and shares; the map is the most probable class of the sweep."""
    pixels = draw_pixels(100, 140)
    write_pixels(tmp_path / "in/a.tif", pixels)
    save(tmp_path / "in/b.png", pixels[:50].astype(np.uint8))
    assert main(["predict", str(run.folder), str(tmp_path / "in"), "--out", str(tmp_path / "out"), *FLAGS]) == 0
    lines = capsys.readouterr().err.splitlines()
    share = r"\w+ \d+\.\d%( \(\d+\.\d\d ha\))?"
    for line, name in zip(lines[-2:], ("a.tif", "b_mask.png"), strict=True):
        expected = rf"{tmp_path / 'out' / name}: 0\.0 megapixels, \d+\.\d\d megapixels/s; {share}(, {share})*\."
        assert re.fullmatch(expected, line)
    model, whole = load_model(run), np.zeros((100, 140), np.uint8)
    placed = model.with_forward(RUNTIME.place(model.network))
    for block in sliding_window_inference(placed, pixels, TileGeometry(64, 8, 256), RUNTIME):
        whole[block.place] = np.array(model.spec.outputs, np.uint8)[block.probs.argmax(dim=0).numpy()]
    assert np.array_equal(read_window(tmp_path / "out/a.tif")[..., 0], whole)


def test_the_command_is_a_function_too(run: Run, tmp_path: Path) -> None:
    """It returns the maps."""
    source = write_pixels(tmp_path / "a.tif", draw_pixels(70, 80))
    config = PredictConfig(
        model=run.folder,
        inputs=(str(source),),
        out=tmp_path / "out",
        prediction=PredictOptions(tile=32, halo=4, probs="uint8", tta="d4"),
        device_options=DeviceOptions(device="cpu", precision="fp32", threads=1),
    )
    (predicted,) = predict(config)
    assert predicted.megapixels == pytest.approx(0.0056)
    assert sum(predicted.shares) == pytest.approx(1)
    assert read_info(tmp_path / "out/a_probs.tif").bands == 3


def test_an_onnx_file_needs_no_torch(tmp_path: Path) -> None:
    """From the command line to the map, probabilities and symmetries included: torch takes seconds and a gigabyte."""
    model = write_onnx(tmp_path / "m.onnx", sides=(64, 64))
    write_pixels(tmp_path / "a.tif", draw_pixels(100, 140))
    code = (
        "import sys; from levelground.cli import main; status = main(sys.argv[1:]); "
        "print(status, sorted({'torch', 'lightning_fabric', 'timm', 'matplotlib'} & {*sys.modules}))"
    )
    flags = ["--out", str(tmp_path / "out"), "--tta", "d4", "--probs", "uint8", "--polygons", "gpkg", "--overlay"]
    command = [sys.executable, "-c", code, "predict", str(model), str(tmp_path / "a.tif"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "0 []\n"
    assert read_info(tmp_path / "out/a.tif").width == 140


def test_engines_blend_and_average_alike(run: Run, tmp_path: Path) -> None:
    """The same network on arrays and on tensors gives the same map, with and without symmetries, to rounding."""
    path = write_onnx(tmp_path / "m.onnx", sides=(64, 64))
    found, runtime = open_model(path, RUNTIME), open_array_runtime(DeviceOptions(device="cpu", threads=1))
    kernel = torch.from_numpy(weights_of(4, 3))
    same = Model(found.spec, lambda image: torch.einsum("kc,nchw->nkhw", kernel, image))
    pixels, geometry = draw_pixels(100, 140), TileGeometry(64, 8, 3)
    for one, other in ((found, same), (with_tta(found), with_tta(same))):
        blocks = sliding_window_inference(one, pixels, geometry, runtime)
        wanted = sliding_window_inference(other, pixels, geometry, RUNTIME)
        for block, expected in zip(blocks, wanted, strict=True):
            assert block.place == expected.place
            np.testing.assert_allclose(block.probs, expected.probs, atol=1e-5)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """The three kinds of models are named."""
    (tmp_path / "a.tif").touch()
    config = PredictConfig(model=tmp_path, inputs=(str(tmp_path / "a.tif"),), out=tmp_path / "out")
    with pytest.raises(ModelError, match=rf"^{tmp_path}: no model\. Give a run folder"):
        predict(config)


def digest(path: Path) -> str:
    """The hash of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows_done(out: Path) -> int:
    """How many rows of tiles the resume state says are finished."""
    state = out / ".a.tif.scratch" / STATE_FILE
    return int(json.loads(state.read_text())["rows"]) if state.exists() else 0


def test_a_job_that_was_killed_goes_on_and_gives_the_same_file(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL within the second input: finished rows and inputs are kept, the bytes are those of one go."""
    write_pixels(tmp_path / "in/a.tif", draw_pixels(1100, 160))
    write_pixels(tmp_path / "in/0.tif", draw_pixels(64, 64))
    flags = ["predict", str(run.folder), str(tmp_path / "in"), "--batch", "2", "--probs", "uint8", *FLAGS]
    assert main([*flags, "--out", str(tmp_path / "whole")]) == 0
    out = tmp_path / "out"
    command = [*flags, "--out", str(out)]
    process = start_command(*command)
    while rows_done(out) < 2 and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert rows_done(out) >= 2
    assert (out / UNFINISHED_FILE).exists()
    assert not (out / "a.tif").exists()
    capsys.readouterr()
    assert main(command) == 0
    said = capsys.readouterr().err
    assert f"{out}: 1 of 2 inputs are finished already and kept." in said
    assert re.search(r"a\.tif: goes on at row \d+ of 1100\.", said)
    for name in ("a.tif", "a_probs.tif", "0.tif"):
        assert digest(out / name) == digest(tmp_path / "whole" / name)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
