"""ONNX files of any tool as functions of tensors."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from builders.onnx_files import weights_of, write_onnx
from onnx import helper, numpy_helper

from levelground.errors import ModelError, WeightsError
from levelground.models.model import Model, Overrides
from levelground.models.onnx_backend import open_onnx
from levelground.runtime import make_runtime

RUNTIME = make_runtime("cpu", "fp32", threads=1)


def logits_of(image: torch.Tensor, n_outputs: int) -> torch.Tensor:
    """What the hand-written convolution gives, by torch."""
    return torch.einsum("kc,nchw->nkhw", torch.from_numpy(weights_of(n_outputs, image.shape[1])), image)


def shape_of(model: Model) -> tuple[int, int, int | None, int | None]:
    """Bands, outputs, the only tile and the only batch."""
    spec = model.spec
    return spec.bands, len(spec.outputs), spec.geometry.tile if spec.fixed_tile else None, spec.max_batch


def noise(n: int, bands: int, side: int) -> torch.Tensor:
    """A batch in channels-last memory, as the tiles of a sweep come."""
    image = torch.from_numpy(np.random.default_rng(0).random((n, bands, side, side), np.float32))
    return image.to(memory_format=torch.channels_last)


def through(model: Model, image: torch.Tensor) -> torch.Tensor:
    """What a model gives for an image, brought back to torch."""
    return torch.from_numpy(model.on_arrays(image.numpy()))


@pytest.mark.parametrize("out_layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_bands_may_stand_first_or_last(tmp_path: Path, layout: str, out_layout: str) -> None:
    """Input and output are told apart by their shapes; the function always takes and gives bands first."""
    path = write_onnx(tmp_path / "m.onnx", layout=layout, out_layout=out_layout)  # type: ignore[arg-type]
    model = open_onnx(path, RUNTIME, Overrides())
    assert shape_of(model) == (3, 4, None, None)
    assert not model.activated
    image = noise(3, 3, 40)
    torch.testing.assert_close(through(model, image), logits_of(image, 4), rtol=1e-5, atol=1e-5)


def test_a_fixed_tile_and_batch_are_known_and_met(tmp_path: Path) -> None:
    """Batches of other sizes are filled up and cut back."""
    path = write_onnx(tmp_path / "m.onnx", bands=6, batch=2, sides=(48, 48))
    model = open_onnx(path, RUNTIME, Overrides())
    assert shape_of(model) == (6, 4, 48, 2)
    image = noise(5, 6, 48)
    torch.testing.assert_close(through(model, image), logits_of(image, 4), rtol=1e-5, atol=1e-5)
    with pytest.raises(
        ModelError, match=r"m\.onnx: cannot run a tile of \(2, 6, 32, 32\) \(.+\)\. Give another --tile"
    ):
        through(model, noise(1, 6, 32))


def test_probabilities_are_told_from_logits(tmp_path: Path) -> None:
    """After a softmax outputs add up to 1 and are given as they are."""
    model = open_onnx(write_onnx(tmp_path / "m.onnx", activation="softmax"), RUNTIME, Overrides())
    image = noise(1, 3, 32)
    assert model.activated
    torch.testing.assert_close(through(model, image), logits_of(image, 4).softmax(1), rtol=1e-5, atol=1e-6)


def test_independent_sigmoids_are_shared_out(tmp_path: Path) -> None:
    """Outputs that each lie in 0 to 1 keep their order and add up to 1."""
    model = open_onnx(write_onnx(tmp_path / "m.onnx", activation="sigmoid"), RUNTIME, Overrides())
    image = noise(1, 3, 32)
    shares = logits_of(image, 4).sigmoid()
    assert model.activated
    torch.testing.assert_close(through(model, image), shares / shares.sum(1, keepdim=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_one_output_is_one_of_two_classes(tmp_path: Path, activation: str) -> None:
    """The first class is the rest: its probability is 1 - sigmoid."""
    path = write_onnx(tmp_path / "m.onnx", n_outputs=1, activation=activation)  # type: ignore[arg-type]
    model = open_onnx(path, RUNTIME, Overrides())
    image = noise(2, 3, 32)
    found = through(model, image) if model.activated else through(model, image).softmax(1)
    wanted = logits_of(image, 1).sigmoid()
    assert len(model.spec.outputs) == 2
    assert model.activated == (activation == "sigmoid")
    torch.testing.assert_close(found, torch.cat([1 - wanted, wanted], 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["uint8", "float16"])
def test_inputs_of_other_types_are_converted(tmp_path: Path, kind: str) -> None:
    """A file that takes bytes gets rounded values, one that takes halves gets halves."""
    model = open_onnx(write_onnx(tmp_path / "m.onnx", kind=kind), RUNTIME, Overrides())
    image = (noise(1, 3, 32) * 255).round()
    torch.testing.assert_close(through(model, image), logits_of(image, 4), rtol=1e-4, atol=0.5)


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    """Neither by name nor by a link may a file read what lies elsewhere."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    for place in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin"):
        path = write_onnx(folder / "m.onnx", external=place)
        with pytest.raises(
            WeightsError, match=r"m\.onnx: names weights outside its folder \('.+bin'\)\. Save it as one"
        ):
            open_onnx(path, RUNTIME, Overrides())


@pytest.mark.parametrize("where", ["constant", "inner", "function", "sparse"])
def test_weights_are_looked_for_in_every_corner(tmp_path: Path, where: str) -> None:
    """Constants, inner graphs, functions and sparse tensors can name files too."""
    path = write_onnx(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    outside = onnx.TensorProto(name="t", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="/etc/hostname")
    constant = helper.make_node("Constant", [], ["c"], value=outside)
    if where == "constant":
        model.graph.node.append(constant)
    elif where == "inner":
        inner = helper.make_graph([constant], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["image"], ["d"], then_branch=inner, else_branch=inner))
    elif where == "function":
        model.functions.append(helper.make_function("own", "F", [], ["c"], [constant], []))
    else:
        model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=outside, indices=outside, dims=[1]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        WeightsError, match=r"names weights outside its folder \('/etc/hostname'\)\. Save it as one file"
    ):
        open_onnx(path, RUNTIME, Overrides())


def test_weights_beside_the_file_are_read_and_decide_the_digest(tmp_path: Path) -> None:
    """A second file is part of the model; without it the message says so."""
    path = write_onnx(tmp_path / "m.onnx", external="m.data")
    with pytest.raises(WeightsError, match=r"m\.onnx: its weights 'm\.data' are not beside it\. Copy them there"):
        open_onnx(path, RUNTIME, Overrides())
    (tmp_path / "m.data").write_bytes(weights_of(4, 3).tobytes())
    first = open_onnx(path, RUNTIME, Overrides())
    image = noise(1, 3, 32)
    torch.testing.assert_close(through(first, image), logits_of(image, 4), rtol=1e-5, atol=1e-5)
    (tmp_path / "m.data").write_bytes((2 * weights_of(4, 3)).tobytes())
    assert open_onnx(path, RUNTIME, Overrides()).digest != first.digest


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"sides": (32, 64)}, r"takes tiles of 32 × 64 px, expected squares\. Export it for squares\."),
        ({"bands": 40, "layout": "NHWC", "sides": (64, 64)}, r"takes tiles of 64 × 40 px, expected squares\."),
        ({"extra_input": True}, r"has 2 inputs, expected one image\. Export it with one\."),
        (
            {"bands": "c"},
            r"its input \['n', 'c', 'h', 'w'\] has no fixed number of bands\. Export it with ",
        ),
        (
            {"kind": "int32"},
            r"takes tensor\(int32\) \['n', 3, 'h', 'w'\], expected float \(N, C, H, W\)\. Export it for images",
        ),
        (
            {"pool": True},
            r"makes \(1, 4, 1, 1\) of a tile of 256 px, expected classes for each pixel, \(N, K, 256, 256\)\. G",
        ),
        ({"activation": "argmax"}, r"gives tensor\(int64\), expected probabilities or logits\. Export it without the"),
    ],
)
def test_what_is_no_segmentation_of_one_image_is_refused(tmp_path: Path, form: dict[str, object], message: str) -> None:
    """One line says what it takes or gives, and what was expected."""
    path = write_onnx(tmp_path / "m.onnx", **form)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=message):
        open_onnx(path, RUNTIME, Overrides())


def test_an_operator_that_onnxruntime_does_not_know_is_one_line(tmp_path: Path) -> None:
    """Its reason is shown without its codes and without the file's whole name again."""
    path = write_onnx(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.graph.node[0].op_type = "Convolve"
    path.write_bytes(model.SerializeToString())
    message = r"m\.onnx: onnxruntime cannot load it \((?!\[)(?!.*m\.onnx.*m\.onnx).*Convolve.*\)\. Export it anew\."
    with pytest.raises(WeightsError, match=message):
        open_onnx(path, RUNTIME, Overrides())


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    """Neither a text nor half a file loads."""
    path = tmp_path / "m.onnx"
    path.write_text("no model")
    with pytest.raises(WeightsError, match=r"m\.onnx: not an ONNX file \(.+\)\. Give the file that was exported\."):
        open_onnx(path, RUNTIME, Overrides())
    whole = write_onnx(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"m\.onnx: "):
        open_onnx(path, RUNTIME, Overrides())


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    """Their outputs would be taken for logits, and every pixel for the first class."""
    path = write_onnx(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    kernel = numpy_helper.to_array(model.graph.initializer[0]).copy()
    kernel[1, 0] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=r"m\.onnx: makes NaN or infinity of noise\. Export a checkpoint whose"):
        open_onnx(path, RUNTIME, Overrides())


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Whoever installed without the extra is told its name."""
    path = write_onnx(tmp_path / "m.onnx", metadata={"location": "onnx looks for weights beside it"})
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        ModelError, match=r"m\.onnx: onnxruntime, which runs it, is not installed\. pip install 'levelg"
    ):
        open_onnx(path, RUNTIME, Overrides())
