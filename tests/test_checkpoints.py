"""Files of weights: tensors are found wherever they lie, nothing is run, and what is not weights is named."""

import argparse
import json
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from builders.foreign_files import write_checkpoints
from builders.study import add_run, small_model
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from levelground.adoption.adopted_runs import TrainingName
from levelground.adoption.detection import extract_network
from levelground.adoption.weights import adopt_weights
from levelground.config import TileOptions, WeightsOptions
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, ModelError, WeightsError
from levelground.evaluation.evaluate import evaluate_run
from levelground.imagery.legend import IGNORE
from levelground.metrics.counts import read_counts
from levelground.models.checkpoints import StateDict, program_kind, read_state, weights_sha256
from levelground.models.loading import load_model
from levelground.models.pretrained import check_finite, fit_state
from levelground.models.smp_backend import weights_file
from levelground.runs import Run
from levelground.runtime import make_runtime

RUNTIME = make_runtime("cpu", "fp32", threads=1)


class Inner(nn.Module):
    """Part of a network that is pickled whole."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.register_buffer("mean", torch.ones(3))


class Whole(nn.Module):
    """Network that is pickled whole."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Inner()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"w": torch.ones(1)}, ["w"]),
        ({"state_dict": {"module.w": torch.ones(1)}, "epoch": 3}, ["state_dict.module.w"]),
        ([{"w": torch.ones(1)}], ["w"]),
        ({"w": torch.ones(1), "hparams": argparse.Namespace(lr=1)}, ["w"]),
        ({"w": torch.ones(1), "best": np.float64(0.5), "root": Path("data")}, ["w"]),
        (OrderedDict(a=OrderedDict(b=(torch.ones(1), torch.ones(2)))), ["a.b.0", "a.b.1"]),
        (Whole(), ["net.mean", "net.conv.weight", "net.conv.bias"]),
        ({"model": Whole(), "x": 1}, ["model.net.mean", "model.net.conv.weight", "model.net.conv.bias"]),
    ],
)
def test_tensors_are_found_wherever_they_lie(tmp_path: Path, content: object, expected: list[str]) -> None:
    """State dicts, checkpoints, lists, objects of other code: names are places."""
    torch.save(content, tmp_path / "a.pth")
    assert sorted(read_state(tmp_path / "a.pth")) == sorted(expected)


def test_a_pickled_network_gives_its_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its classes are named, and not imported."""
    network = Whole()
    torch.save(network, tmp_path / "a.pth")
    found = read_state(tmp_path / "a.pth")
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())
    error = capsys.readouterr().err
    assert "a.pth: holds objects of " in error
    assert error.endswith("only tensors are taken, nothing is run.\n")


class Caller:
    """Pickle that calls a function."""

    def __init__(self, function: object) -> None:
        self.function = function

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return self.function, ("1",)


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, open])
def test_a_pickle_that_calls_something_is_refused_by_name(tmp_path: Path, function: object) -> None:
    """One line with the name, and the line that saves plain tensors."""
    torch.save({"w": torch.ones(1), "x": Caller(function)}, tmp_path / "a.pth")
    name = getattr(function, "__name__", "")
    text = rf"a\.pth: no plain weights \(it would call \S*{name}, .+\)\. Save .+: torch\.save\(model\.state_dict"
    with pytest.raises(WeightsError, match=text):
        read_state(tmp_path / "a.pth")


class Odd(dict[str, int]):
    """Dictionary of another library: torch fills no such thing."""


def test_an_object_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """With its class."""
    torch.save({"w": torch.ones(1), "x": Odd(a=1)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a\.pth: no plain weights \(it holds an object of class \S+Odd\)\. Save"):
        read_state(tmp_path / "a.pth")


def torchscript(path: Path) -> None:
    """A traced convolution."""
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 2, 1).eval(), torch.zeros(1, 3, 8, 8)), str(path))


def zipped(path: Path) -> None:
    """An archive of something else."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "x")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is an empty file, not weights. Its download or copy failed: fetch it again."),
        (b"\n<!DOCTYPE html><html><TITLE>Sign in\n now</title>", "is an HTML page ('Sign in now'), not weights. "),
        (b"<?xml version='1.0'?><Error>", "is an HTML page, not weights. "),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer to the weights, not weights. "),
        (b'{"error": "not found"}', "is a JSON text, not weights. "),
        (b"\x89HDF\r\n", "is an HDF5 file, as Keras writes weights, not weights. Adopt that network's masks"),
        (b"\x1f\x8b\x08", "is a gzip archive, not weights. Unpack it, and give the file inside."),
        (b"\x89PNG\r\n", "is a PNG image, not weights. "),
        (torchscript, "is a TorchScript program, not weights. levelground adopt best.pth runs it as it is; for"),
        (
            b"\x08\x08\x12\x07pytorch",
            "is an ONNX network, not weights. It is run as it is: levelground adopt best.pth.",
        ),
        (bytes(5000), "is a file of zeros, not weights. Its download or copy was not finished: fetch it again."),
        (b"<?xml version='1.0'?>\n<net name='g'>", "is the graph of an OpenVINO network, not weights. Give its ONNX"),
        (b"\x1c\0\0\0TFL3", "is a TensorFlow Lite network, not weights. "),
        (zipped, "is a ZIP archive, not weights. Unpack it, and give the file inside."),
    ],
)
def test_what_is_not_weights_is_named_for_what_it_is(tmp_path: Path, content: object, text: str) -> None:
    """Whatever the file is called; for encoder weights too."""
    path = tmp_path / "best.pth"
    path.write_bytes(content) if isinstance(content, bytes) else content(path)  # type: ignore[operator]
    with pytest.raises(WeightsError, match=re.escape(f"best.pth: {text}")) as raised:
        read_state(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["best.pth", "best.safetensors", "best.pth.part"])
@pytest.mark.parametrize("legacy", [False, True])
def test_downloads_that_are_not_finished_say_so(tmp_path: Path, name: str, legacy: bool) -> None:
    """The first half of a file, in each of the forms, and a page or pointer under a name of safetensors."""
    path, state = tmp_path / name, {"w": torch.ones(3000)}
    if name.endswith(".safetensors"):
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match=r"cut short.+[fF]etch or copy it again\.$"):
        read_state(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid")
    with pytest.raises(WeightsError, match=r"is a Git LFS pointer"):
        read_state(path)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_weights_in_several_files_are_read_as_one(tmp_path: Path, form: str) -> None:
    """By the folder, by the index, or by any of them; each decides the hash; one that is missing is named."""
    files = [tmp_path / f"model-0000{n}-of-00002.{form}" for n in (1, 2)]
    write = save_file if form == "safetensors" else torch.save
    for number, file in enumerate(files):
        write({f"w{number}": torch.full((2,), number)}, file)
    index = tmp_path / f"model.{form}.index.json"
    index.write_text(json.dumps({"weight_map": {f"w{n}": file.name for n, file in enumerate(files)}}))
    torch.save({"step": torch.ones(1)}, tmp_path / "optimizer.bin")
    for given in (index, *files, weights_file(tmp_path)):
        assert sorted(read_state(given)) == ["w0", "w1"]
    before = weights_sha256(index)
    write({"w1": torch.full((2,), 7)}, files[1])
    assert weights_sha256(files[0]) == weights_sha256(index) != before
    files[1].unlink()
    text = r"is of weights in 2 files, and model-00002-of-00002\.\w+ is not beside it\. Fetch or copy all of them\.$"
    with pytest.raises(WeightsError, match=text):
        read_state(index)
    index.write_text('{"weight_map": {"w": "../secret.bin"}}')
    with pytest.raises(WeightsError, match=r"lists no files beside it"):
        read_state(index)
    index.write_text("[]")
    with pytest.raises(WeightsError, match=r"is not an index of weights"):
        read_state(index)


def test_folders_without_weights_say_what_they_hold(tmp_path: Path) -> None:
    """Checkpoints in a folder below, and those of several processes."""
    (tmp_path / "version_0" / "checkpoints").mkdir(parents=True)
    (tmp_path / "version_0" / "checkpoints" / "last.ckpt").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"Give one of those below it: version_0/checkpoints/last\.ckpt\.$"):
        weights_file(tmp_path)
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"is a distributed checkpoint of torch\..+ dcp_to_torch \S+ weights\.pth$"):
        weights_file(tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("encoder.", "encoder._orig_mod."),
        ("encoder.", "encoder.module."),
        ("segmentation_head.", "model.module.segmentation_head.module."),
        ("encoder.layer1.", "encoder.layer1._checkpoint_wrapped_module."),
        ("", "_fsdp_wrapped_module."),
        ("", "net._forward_module.x.y."),
    ],
)
def test_wrapped_parts_have_the_names_of_the_network(before: str, after: str) -> None:
    """Wherever in a name a wrapper stands."""
    names = ["encoder.layer1.0.conv1.weight", "decoder.blocks.0.weight", "segmentation_head.0.weight"]
    prefix = after.partition("segmentation_head")[0] if "segmentation_head" in after else ""
    wrapped = [after + name.removeprefix(before) if name.startswith(before) else prefix + name for name in names]
    found = extract_network(dict.fromkeys(wrapped, torch.ones(1)), None, source="x")
    assert list(found) == names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("state_dict.decode_head.conv_seg.weight", "is a network of mmsegmentation, .+ Export it as ONNX"),
        ("segformer.encoder.layer_norm.0.weight", r"is a network of transformers, .+ Give --arch hf:FOLDER"),
        ("model.model.0.conv.weight", "is a network of ultralytics, .+ Export it as ONNX"),
        ("network_weights.decoder.seg_layers.0.weight", "is a network of nnU-Net, "),
        ("model.classifier.4.weight", r"is a network of torchvision, .+--arch FILE\.py:FUNCTION\.$"),
        ("layer1.0.conv1.weight", r"holds an encoder alone, without a decoder\. .+--encoder-weights FILE\.$"),
        ("encoder.blocks.0.0.conv.weight", "holds an encoder alone, "),
        ("inc.double_conv.0.weight", "no tensor segmentation_head"),
    ],
)
def test_networks_of_other_libraries_are_named(name: str, text: str) -> None:
    """With what to do."""
    with pytest.raises(WeightsError, match=f"^x: {text}"):
        extract_network({"epoch": torch.ones(1), name: torch.ones(1)}, None, source="x")


def test_an_archive_of_several_disks_is_refused_in_one_line(tmp_path: Path) -> None:
    """A changed byte in its locator says so; the library that looks for archives raises for it."""
    path = tmp_path / "a.pth"
    torch.save({"w": torch.ones(3, 2)}, path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x06\x07") + 16] = 2  # number of disks
    path.write_bytes(content)
    assert program_kind(path) is None
    with pytest.raises(WeightsError, match=r"^\S+a\.pth: [^\n]+$"):
        read_state(path)


def test_programs_are_told_by_content(tmp_path: Path) -> None:
    """A name says nothing."""
    torchscript(tmp_path / "a.pth")
    torch.save({"w": torch.ones(1)}, tmp_path / "b.pt")
    assert program_kind(tmp_path / "a.pth") == "torchscript"
    assert program_kind(tmp_path / "b.pt") is None


def adopt(path: Path, dataset: Dataset, name: str = "x", **options: object) -> Run:
    """Adopt as a run of a name."""
    return adopt_weights(path, dataset, WeightsOptions(**options), TrainingName(name))  # type: ignore[arg-type]


def linknet_state(seed: int = 0) -> StateDict:
    """A small network's state dict."""
    return small_model((0, 1, 2, 3), seed=seed).network.state_dict()


def test_of_two_networks_one_is_chosen_by_the_user(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Different values have to be chosen from, by the flag that the message names; equal ones are said to be equal."""
    path, encoder = tmp_path / "two.pth", small_model().spec.encoder
    averaged = {f"module.{name}": value for name, value in linknet_state(1).items()}
    torch.save({"model": linknet_state(), "ema": averaged}, path)
    text = "two.pth: holds 2 networks with other values: model, ema.module. Choose one, as in --part ema.module."
    with pytest.raises(WeightsError, match=f"^{re.escape(text)}$"):
        adopt(path, dataset, encoder=encoder)
    chosen = load_model(adopt(path, dataset, encoder=encoder, part="ema")).network.state_dict()
    assert all(torch.equal(chosen[name], value) for name, value in linknet_state(1).items())
    with pytest.raises(WeightsError, match=r"^--part teacher: not a network of two\.pth\. Give one of model, ema"):
        adopt(path, dataset, encoder=encoder, part="teacher")
    torch.save({"model": linknet_state(), "ema": linknet_state()}, path)
    capsys.readouterr()
    adopt(path, dataset, "same", encoder=encoder)
    assert "holds 2 networks with the same values: model, ema; model is taken." in capsys.readouterr().err


def test_weights_that_are_not_numbers_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    """Before a run is made; as weights of an encoder and of a folder too."""
    path, state = tmp_path / "nan.pth", linknet_state()
    state["segmentation_head.0.bias"][1] = float("nan")
    torch.save(state, path)
    text = "nan.pth: 1 of the 4 values of segmentation_head.0.bias are not numbers: its training failed."
    with pytest.raises(WeightsError, match=f"^{re.escape(text)}"):
        adopt(path, dataset, encoder=small_model().spec.encoder)
    assert not (dataset.folder / "runs" / "x").exists()
    with pytest.raises(WeightsError, match=r"^mine: 1 of the 4 values"):
        fit_state(state, linknet_state(), source="mine")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda one: one.to("meta"), r"has a shape and no values \(device meta\)"),
        (torch.Tensor.to_sparse, r"is sparse \(sparse_coo\)"),
        (lambda one: one.to(torch.int8), "is of int8"),
        (lambda one: one.to(torch.complex64), "is of complex64"),
    ],
)
def test_weights_of_odd_kinds_are_refused(change: Callable[[torch.Tensor], torch.Tensor], text: str) -> None:
    """Their values lie elsewhere, or cannot be computed with; numbers of other buffers are whole."""
    state = {"a.index": torch.ones(2, dtype=torch.int64), "a.weight": change(torch.ones(2))}
    with pytest.raises(WeightsError, match=f"^x: a.weight {text}, expected plain numbers. Save it in float32: "):
        check_finite(state, "x")
    check_finite({"a.index": state["a.index"], "a.weight": torch.ones(1).to(torch.float8_e4m3fn)}, "x")


def test_a_decoder_with_options_is_adopted_and_loaded_again(dataset: Dataset, tmp_path: Path) -> None:
    """The run's network is the very one."""
    path = tmp_path / "scse.pth"
    widths = (32, 32, 16, 16, 16)
    network = smp.Unet(
        "resnet18",
        encoder_weights=None,
        classes=4,
        decoder_attention_type="scse",
        decoder_channels=widths,
    )
    torch.save(network.state_dict(), path)
    again = load_model(adopt(path, dataset)).network
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(image), network.eval()(image))


def test_a_network_of_one_output_is_two_classes(dataset: Dataset, tmp_path: Path) -> None:
    """The class from .5 up, and the one below; in a legend of more classes both have to be named."""
    path = tmp_path / "one.pth"
    network = smp.Linknet("resnet18", encoder_weights=None, classes=1).eval()
    torch.save({"state_dict": network.state_dict()}, path)
    with pytest.raises(ConfigError, match=r"^one\.pth: has 1 output, the probability of one class, .+: --outputs 0 1$"):
        adopt(path, dataset)
    with pytest.raises(ConfigError, match=r"^--outputs 2 2: expected 2 class indices from 0 to 3, the class below"):
        adopt(path, dataset, outputs=(2, 2))
    run = adopt(path, dataset, outputs=(0, 2))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        probability = network(image)[0, 0].sigmoid()
        assert torch.allclose(load_model(run).network(image).softmax(1)[0, 1], probability, atol=1e-6)
    counts = read_counts(evaluate_run(run, dataset, "test", runtime=RUNTIME).counts_path("test")).counts
    assert counts[:, :, [1, 3]].sum() == 0


def test_a_folder_says_what_it_holds(dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Architecture, encoder and options are read from the configuration; a sigmoid over several classes is refused."""
    network = smp.FPN("resnet18", encoder_weights=None, classes=4, decoder_pyramid_channels=64)
    network.save_pretrained(tmp_path / "hub")
    run = adopt(tmp_path / "hub", dataset)
    assert (run.arch, run.encoder, run.card.outputs) == ("fpn", "resnet18", (0, 1, 2, 3))
    said = capsys.readouterr().err
    assert "hub: is fpn with encoder resnet18, decoder_pyramid_channels=64, by its config.json.\n" in said
    smp.FPN("resnet18", encoder_weights=None, classes=4, activation="sigmoid").save_pretrained(tmp_path / "multi")
    with pytest.raises(ModelError, match=r"^multi: 4 outputs after a sigmoid do not exclude each other\."):
        adopt(tmp_path / "multi", dataset, "y")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"empty: holds no weights\. Give a file, or a folder"):
        adopt(tmp_path / "empty", dataset, "z")


def test_our_own_folder_brings_classes_and_normalisation(dataset: Dataset, trained_run: Run) -> None:
    """RUN and RUN/model alike: nothing need be said."""
    for number, path in enumerate((trained_run.folder, trained_run.model_folder)):
        run = adopt(path, dataset, f"own{number}")
        card, own = run.card, trained_run.card
        assert (card.arch, card.encoder, card.outputs) == (own.arch, own.encoder, own.outputs)
        assert (card.mean, card.std) == (own.mean, own.std)


@pytest.fixture
def trained_run(dataset: Dataset) -> Run:
    """A finished run of the study with a network."""
    return add_run(dataset)


@pytest.mark.parametrize("name", [b"Na\x00me", b"Na-me", b"1", b"a..b"])
def test_a_damaged_name_of_a_class_is_a_damaged_file(tmp_path: Path, name: bytes) -> None:
    """No class can be made of it; one line says that the file cannot be read."""
    path = tmp_path / "w.pth"
    path.write_bytes(b"\x80\x02cweights\n" + name + b"\n)\x81.")
    with pytest.raises(WeightsError, match=r"w\.pth: .+"):
        read_state(path)


def own_counts(network: nn.Module, dataset: Dataset, scene: str) -> NDArray[np.int64]:
    """Count a scene as the network's author would: values 0 to 1, the class of the largest output."""
    opened = dataset.open(scene)
    image = torch.from_numpy(np.array(opened.pixels)).float().permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        preds = network.eval()(image).argmax(1)[0].numpy()
    labels = np.asarray(opened.labels)
    valid = labels != IGNORE
    return np.bincount(labels[valid].astype(np.int64) * 4 + preds[valid], minlength=16).reshape(4, 4)


def test_every_form_of_weights_counts_as_its_network(dataset: Dataset, tmp_path: Path) -> None:
    """To the bit: prefixes, wrappers, optimisers, averages, objects, parts, folders; rounded weights by themselves."""
    network = small_model((0, 1, 2, 3), seed=5).network
    whole, encoder = TileOptions(tile=0), small_model().spec.encoder
    place = sorted(dataset.ids("test")).index("c/1")

    def adopted(path: Path) -> Run:
        options = {} if path.name == "hub" else {"encoder": encoder}
        return adopt(path, dataset, path.name.replace(".", "-"), **options)

    def adopted_counts(path: Path) -> NDArray[np.int64]:
        run = evaluate_run(adopted(path), dataset, "test", runtime=RUNTIME, tiles=whole)
        counts = read_counts(run.counts_path("test"))
        assert counts.scenes[place] == "c/1"
        return counts.counts[place]

    expected = network.state_dict()
    for number, path in enumerate(write_checkpoints(tmp_path / "files", network)):
        found = extract_network(read_state(weights_file(path)), None, source="x")
        assert all(torch.equal(found[name].to(tensor.dtype), tensor) for name, tensor in expected.items()), path.name
        if number % 6 == 0:  # equal weights make equal counts, and counting takes longer
            assert np.array_equal(adopted_counts(path), own_counts(network, dataset, "c/1")), path.name
    for kind in (torch.float16, torch.bfloat16):
        path = tmp_path / f"{str(kind)[6:]}.pth"
        torch.save({n: t.to(kind) if t.is_floating_point() else t for n, t in network.state_dict().items()}, path)
        rounded = small_model((0, 1, 2, 3)).network
        rounded.load_state_dict(torch.load(path))
        assert np.array_equal(adopted_counts(path), own_counts(rounded, dataset, "c/1"))
