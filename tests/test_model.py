"""Runs, SMP folders and ONNX files opened as one thing to run."""

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from builders.onnx_files import write_onnx
from builders.study import ENCODER, LEGEND, add_run
from safetensors.torch import load_file, save_file

from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, LegendError, ModelError, RecordError, WeightsError
from levelground.exporting.model_card import write_model_card
from levelground.models.loading import load_model, open_model
from levelground.models.model import fit_pixels
from levelground.models.spec import read_model_spec
from levelground.runs import Run, write_card
from levelground.runtime import make_runtime
from levelground.tile_geometry import TileGeometry

RUNTIME = make_runtime("cpu", "fp32", threads=1)
LEGEND_FILE = """
[[class]]
index = 0
name = "Rest"
colour = "000000"
[[class]]
index = 1
name = "Unknown"
colour = "111111"
counted = false
[[class]]
index = 2
name = "Roof"
colour = "FF0000"
"""


@pytest.fixture
def run(dataset: Dataset) -> Run:
    """A run with an untrained network."""
    return add_run(dataset, gsd_m=0.5)


def save_external(folder: Path, *, bands: int = 3, classes: int = 2, activation: str | None = None) -> Path:
    """A folder that segmentation_models_pytorch wrote and we did not."""
    torch.manual_seed(0)
    network = smp.create_model("linknet", ENCODER, encoder_weights=None, in_channels=bands, classes=classes)
    network.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"activation": activation}))
    return folder


def change_config(folder: Path, **changes: object) -> None:
    """Write other values into ``config.json``; ``None`` removes the key."""
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_a_run_brings_all_it_needs(run: Run) -> None:
    """Legend, outputs, normalisation, tile and ground sample distance come from the card; the study tells the type."""
    found = open_model(run.folder, RUNTIME)
    assert (found.spec.name, found.spec.outputs, found.spec.legend) == (run.name, (0, 2, 3), LEGEND)
    assert (found.spec.mean, found.spec.std, found.spec.bands) == ((100.0,) * 3, (60.0,) * 3, 3)
    assert (found.spec.dtype, found.spec.gsd_m, found.spec.geometry.tile, found.spec.geometry.halo) == (
        "uint8",
        0.5,
        64,
        8,
    )
    assert (found.activated, found.spec.fixed_tile, found.spec.max_batch, found.rescale) == (False, False, None, False)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(found.forward(image), load_model(run).network(image))


def test_the_model_folder_of_a_run_is_the_run(run: Run) -> None:
    """Pointing at the weights is as good as pointing at the run."""
    assert open_model(run.folder / "model", RUNTIME).digest == open_model(run.folder, RUNTIME).digest


def test_a_model_folder_that_left_its_run_still_knows_everything(run: Run, tmp_path: Path) -> None:
    """The specification beside the weights says what the card said."""
    write_model_card(run)
    folder = shutil.copytree(run.folder / "model", tmp_path / "moved")
    alone, home = open_model(folder, RUNTIME), open_model(run.folder, RUNTIME)
    assert (alone.spec, alone.activated) == (home.spec, home.activated)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(alone.forward(image), home.forward(image))


def test_the_digest_follows_all_that_decides_the_output(run: Run) -> None:
    """Other means give another digest, another name does not."""
    first = open_model(run.folder, RUNTIME).digest
    write_card(run.folder, dataclasses.replace(run.card, gsd_m=2.0))
    assert open_model(run.folder, RUNTIME).digest == first
    write_card(run.folder, dataclasses.replace(run.card, mean=(1.0, 2.0, 3.0)))
    assert open_model(run.folder, RUNTIME).digest != first


def test_what_a_model_knows_is_not_overruled(run: Run, tmp_path: Path) -> None:
    """A legend or a mean for a model of ours is a mistake."""
    with pytest.raises(ConfigError, match=r"--legend: .+ brings its own\. Leave --legend away\."):
        open_model(run.folder, RUNTIME, legend=tmp_path / "l.toml")
    with pytest.raises(ConfigError, match=r"--mean: .+ brings its own\. Leave --mean away\."):
        open_model(run.folder, RUNTIME, mean=[1.0])


def test_masks_are_no_model(dataset: Dataset, tmp_path: Path) -> None:
    """A run of adopted masks, an empty folder and a study are refused."""
    run = add_run(dataset, "masks-only", outputs=[])
    with pytest.raises(
        ModelError, match=r"masks-only: holds predicted masks and no model\. Give a run that was trained"
    ):
        open_model(run.folder, RUNTIME)
    with pytest.raises(ModelError, match=r"no model\. Give a run folder \(run\.json\), a folder with config\.json and"):
        open_model(tmp_path, RUNTIME)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RecordError, match=r"run\.json: unreadable run record"):
        open_model(tmp_path, RUNTIME)


def test_an_external_smp_folder_takes_the_encoders_normalisation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its classes are numbered, its inputs normalised as the encoder's published weights; both are said."""
    found = open_model(save_external(tmp_path / "theirs"), RUNTIME)
    assert found.spec.legend.names == ("class 0", "class 1")
    assert found.spec.mean == pytest.approx((123.675, 116.28, 103.53))
    assert (found.spec.dtype, found.spec.geometry.tile, found.rescale) == (None, 512, True)
    said = capsys.readouterr().err
    assert "theirs: does not name its classes (2); they are numbered. Pass --legend to name them." in said
    assert f"theirs: inputs are normalised as {ENCODER}'s published weights; or pass --mean and --std." in said


def test_a_legend_names_all_outputs_or_the_counted_ones(tmp_path: Path) -> None:
    """Two outputs for three classes, two of them counted, are the counted ones; any other number is refused."""
    legend = tmp_path / "l.toml"
    legend.write_text(LEGEND_FILE)
    found = open_model(save_external(tmp_path / "two"), RUNTIME, legend=legend)
    assert (found.spec.outputs, found.spec.legend.names) == ((0, 2), ("Rest", "Unknown", "Roof"))
    found = open_model(save_external(tmp_path / "three", classes=3), RUNTIME, legend=legend)
    assert found.spec.outputs == (0, 1, 2)
    message = (
        r"l\.toml: has 3 classes, 2 of them counted; .+four has 4 outputs\. Give a legend with one class an output"
    )
    with pytest.raises(ConfigError, match=message):
        open_model(save_external(tmp_path / "four", classes=4), RUNTIME, legend=legend)


def test_one_output_of_an_smp_network_is_one_of_two_classes(tmp_path: Path) -> None:
    """Its sigmoid is the second class's probability."""
    folder = save_external(tmp_path / "one", classes=1, activation="sigmoid")
    found = open_model(folder, RUNTIME)
    plain = smp.from_pretrained(folder).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(found.forward(image).softmax(1)[:, 1:], plain(image))
    assert found.spec.outputs == (0, 1)


def test_other_bands_need_their_normalisation(tmp_path: Path) -> None:
    """Published means are for three bands; one number given holds for all bands."""
    folder = save_external(tmp_path / "four", bands=4)
    with pytest.raises(ConfigError, match=r"four: reads 4 bands and does not say how .+ Pass --mean and --std\."):
        open_model(folder, RUNTIME)
    found = open_model(folder, RUNTIME, mean=[1.0, 2.0, 3.0, 4.0], std=[10.0])
    assert (found.spec.mean, found.spec.std, found.rescale) == ((1.0, 2.0, 3.0, 4.0), (10.0,) * 4, False)
    with pytest.raises(ConfigError, match=r"--mean 1 2: .+ reads 4 bands\. Give 4 numbers or one\."):
        open_model(folder, RUNTIME, mean=[1.0, 2.0])
    with pytest.raises(ConfigError, match=r"--std 0: .+ reads 4 bands\. Give 4 numbers or one, above 0\."):
        open_model(folder, RUNTIME, std=[0.0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder_name": None},
            r"config\.json: lacks 'encoder_name', expected str\. Save the model with save_pretrain",
        ),
        ({"classes": "7"}, r"config\.json: lacks 'classes', expected int\."),
        (
            {"encoder_name": "tu-hf-hub:a/b"},
            r"config\.json: 'tu-hf-hub:a/b' is not an encoder's name\. Save the model with",
        ),
        ({"encoder_name": "resnet0"}, r"its network cannot be built \(.*resnet0.*\)\. Save it anew\."),
        ({"classes": 0}, r"config\.json: 0 classes of 3 bands, expected 1 to 255 and 1 to 1024\."),
        ({"_model_class": "Path"}, r"'Path' is not an architecture\. Known: DPT, DeepLabV3, "),
        ({"activation": "argmax"}, r"has the activation 'argmax'\. Save it with activation=None\."),
        ({"activation": "sigmoid"}, r"2 outputs after a sigmoid do not exclude each other\. Give one with a softmax\."),
    ],
)
def test_a_configuration_that_cannot_be_is_one_line(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    """Nothing is built or fetched of a configuration that names no network."""
    folder = save_external(tmp_path / "m")
    change_config(folder, **changes)
    with pytest.raises(ModelError, match=message):
        open_model(folder, RUNTIME)


def test_pickled_and_unfitting_weights_are_refused(tmp_path: Path) -> None:
    """Only safetensors are read, and only those of the very network."""
    folder = save_external(tmp_path / "m")
    change_config(folder, _model_class="FPN")
    with pytest.raises(WeightsError, match=r"m: lacks decoder\..+, which the network needs\."):
        open_model(folder, RUNTIME)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"m: no model\.safetensors\. Save the model with save_pretrained; pickles"):
        open_model(folder, RUNTIME)
    (folder / "config.json").write_text("{")
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"config\.json: unreadable \(.+\)\. Save the model with save_pretrained\."):
        open_model(folder, RUNTIME)


def test_weights_that_the_network_has_no_place_for_are_refused(tmp_path: Path) -> None:
    """They belong to another network; the head of whole images alone decides nothing about the mask."""
    folder = save_external(tmp_path / "m")
    state = load_file(folder / "model.safetensors")
    save_file(state | {"classification_head.3.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    open_model(folder, RUNTIME)
    save_file(state | {"decoder.gate.bias": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"m: decoder\.gate\.bias has no place in the network of its config\.json\."):
        open_model(folder, RUNTIME)


def test_pixels_of_other_types_are_taken_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes are divided by 255; for others that is taken back, once they are known, and said."""
    found = open_model(write_onnx(tmp_path / "m.onnx"), RUNTIME)
    assert (found.spec.mean, found.spec.std) == ((0.0,) * 3, (255.0,) * 3)
    assert fit_pixels(found, "uint8") is found
    capsys.readouterr()
    assert fit_pixels(found, "uint16").spec.std == (1.0,) * 3
    said = "m.onnx: uint16 values are taken as they are. Where it needs others, pass --mean and --std."
    assert said in capsys.readouterr().err
    known = dataclasses.replace(found, rescale=False)
    assert fit_pixels(known, "float32") is known


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"class_names": '{"0": "Rest", "1": "Roof"}'}, ("Rest", "Roof")),
        ({"class_names": "{0: 'Rest', 1: 'Roof'}"}, ("Rest", "Roof")),
        ({"class_names": '[{"0": "Rest", "1": "Roof"}]'}, ("Rest", "Roof")),
        ({"names": '["Rest", "Roof"]'}, ("Rest", "Roof")),
        ({"class_names": '{"1": "Roof"}'}, ("class 0", "Roof")),
        ({"class_names": "open('x')"}, ("class 0", "class 1")),
        ({}, ("class 0", "class 1")),
    ],
)
def test_class_names_of_an_onnx_file(tmp_path: Path, metadata: dict[str, str], names: tuple[str, ...]) -> None:
    """JSON, a Python dictionary in text or a list; the rest are numbered, and no code of a file is run."""
    path = write_onnx(tmp_path / "m.onnx", n_outputs=2, metadata={"resolution": "50", **metadata})
    found = open_model(path, RUNTIME)
    assert (found.spec.legend.names, found.spec.gsd_m) == (names, 0.5)


def test_class_names_that_name_nothing_need_a_legend(tmp_path: Path) -> None:
    """Two classes of one name cannot be told apart on a map."""
    path = write_onnx(tmp_path / "m.onnx", n_outputs=2, metadata={"class_names": '["Roof", "Roof"]'})
    with pytest.raises(LegendError, match=r"m\.onnx: .+ twice or empty\. Name each class\. Or pass --legend\."):
        open_model(path, RUNTIME)
    legend = tmp_path / "l.toml"
    legend.write_text(LEGEND_FILE)
    assert open_model(path, RUNTIME, legend=legend).spec.outputs == (0, 2)


def test_the_specification_of_another_model_is_refused(run: Run, tmp_path: Path) -> None:
    """A file of four outputs cannot have the specification of three; a resolution that is no number is none."""
    spec = read_model_spec(run).to_json()
    path = write_onnx(tmp_path / "m.onnx", n_outputs=4, metadata={"levelground": spec})
    message = r"m\.onnx: has 3 bands and 4 outputs, its model metadata says 3 and 3\. Export it anew\."
    with pytest.raises(ModelError, match=message):
        open_model(path, RUNTIME)
    path = write_onnx(tmp_path / "m.onnx", metadata={"resolution": "fine"})
    assert open_model(path, RUNTIME).spec.gsd_m is None


def test_a_fixed_tile_is_the_models_own(tmp_path: Path) -> None:
    """A file of one tile size and one tile at a time says so."""
    found = open_model(write_onnx(tmp_path / "m.onnx", batch=1, sides=(96, 96)), RUNTIME)
    assert (found.spec.geometry, found.spec.fixed_tile, found.spec.max_batch) == (TileGeometry(96, 12), True, 1)


@pytest.mark.parametrize("model", ["4b_l1c", "6b_l2a"])
def test_the_real_network_of_ukis_csmask_says_what_onnxruntime_says(model: str) -> None:
    """A trained U-Net with EfficientNet-B4, another project's ONNX file, over a tile of four or six bands."""
    spec = importlib.util.find_spec("ukis_csmask")
    if spec is None or spec.origin is None:
        pytest.skip("ukis-csmask (145 MB) is not installed; docs/export.md has the command")
    import onnxruntime

    path = Path(spec.origin).parent / f"model_{model}.onnx"
    trained = json.loads(path.with_suffix(".json").read_text())["data"]["dataset_statistics"]["img"]
    found = open_model(path, RUNTIME, mean=trained[0], std=trained[1])
    bands = int(model[0])
    assert (found.spec.bands, found.spec.geometry.tile, found.spec.fixed_tile, found.spec.outputs) == (
        bands,
        256,
        True,
        (0, 1, 2),
    )
    assert not found.activated
    image = np.random.default_rng(0).standard_normal((2, bands, 256, 256)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"input": image})
    np.testing.assert_allclose(found.on_arrays(image), wanted, rtol=1e-4, atol=1e-4)
