"""Training that starts from a whole network: what is kept, what starts anew, and what is said, recorded and resumed."""

import dataclasses
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.arrays import array_dataset
from builders.study import ENCODER, LEGEND, add_run, build_study
from builders.training import RECIPE, RUNTIME, assert_same_run, small_spec, train
from safetensors.torch import load_file

from levelground.cli import main
from levelground.comparison.compare import compare_runs
from levelground.config import Budget, Recipe, StudyOptions
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.errors import ConfigError, LevelgroundError, UnlikeError, WeightsError
from levelground.evaluation.evaluate import evaluate_run
from levelground.imagery.legend import Legend
from levelground.models import own_networks
from levelground.models.build import create_network
from levelground.pipeline import run_study, starting_networks
from levelground.runs import Run, list_runs, read_run, read_study
from levelground.runtime import make_runtime
from levelground.training import loop
from levelground.training.initial_weights import INITIAL_FOLDER, find_initial, fit_to_initial
from levelground.training.run_spec import RunSpec, build_initial_model

FLAGS = ["--device", "cpu", "--precision", "fp32", "--threads", "1"]
SHORT = ["--tile", "32", "--halo", "4", "--batch", "2", "--validations", "1", "--steps", "2", *FLAGS]
HEAD = "segmentation_head.0.weight"
FIRST = "encoder.model.conv_stem.weight"

OTHER = Legend(
    "other",
    (
        dataclasses.replace(LEGEND.classes[0], name="WATER"),
        LEGEND.classes[1],
        dataclasses.replace(LEGEND.classes[2], name="Rock"),
        dataclasses.replace(LEGEND.classes[3], name="Field", counted=True),
    ),
    ignored_colours=LEGEND.ignored_colours,
)


@pytest.fixture
def source(tmp_path: Path) -> Run:
    """A finished run in a study of its own."""
    return add_run(build_study(tmp_path / "north"), seed=5, dtype="uint8")


@pytest.fixture
def south(tmp_path: Path) -> Dataset:
    """Other scenes, with the same classes under other numbers and another one."""
    return build_study(tmp_path / "south", legend=OTHER, first_seed=50)


def spec_from(given: object, dataset: Dataset, arch: str | None = None, **recipe: object) -> RunSpec:
    """What ``train --init`` asks for."""
    asked = dataclasses.replace(RECIPE, **recipe)  # type: ignore[arg-type]
    start = find_initial(str(given), arch, asked)
    base = small_spec(dataset, recipe=fit_to_initial(asked, start))
    return dataclasses.replace(base, arch=start.arch, init=start)


def tensors(run: Run) -> dict[str, torch.Tensor]:
    """The weights of a run."""
    return load_file(run.model_folder / "model.safetensors")


def test_outputs_keep_their_class_by_name(source: Run, south: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever their number; the others start anew, all else is the source's to the bit, and one line says so."""
    model, record = build_initial_model(spec_from(source.folder, south), south)
    before, after = tensors(source), model.network.state_dict()
    for name in before.keys() - {HEAD, HEAD.replace("weight", "bias")}:
        assert torch.equal(before[name], after[name]), name
    for name in (HEAD, HEAD.replace("weight", "bias")):
        assert torch.equal(after[name][[0, 2]], before[name][[2, 0]])
    assert not torch.equal(after[HEAD][1], before[HEAD][1])
    assert record is not None
    digest = record.sha256[:12]
    assert (record.name, record.study, record.outputs, record.classes) == ("linknet-s0", "study", 3, ("WATER", "Field"))
    said = " ".join(capsys.readouterr().err.split())
    assert said == (
        "linknet-s0: is linknet with encoder tu-mobilenetv3_small_050, by its config.json. "
        f"Starts from linknet-s0 (SHA-256 {digest}): 2 of its 3 outputs keep their class, anew: Rock."
    )
    assert (model.spec.mean, model.spec.std) == (source.card.mean, source.card.std)
    assert model.encoder_weights == "network linknet-s0"
    again, _ = build_initial_model(spec_from(source.folder, south), south)
    assert all(torch.equal(value, after[name]) for name, value in again.network.state_dict().items())


def checkpoint(
    path: Path, n: int, *, prefix: str = "module.", bands: int = 3, seed: int = 3
) -> dict[str, torch.Tensor]:
    """A checkpoint of another tool, without a word on classes."""
    torch.manual_seed(3)
    state = create_network("linknet", ENCODER, bands, n).state_dict()
    torch.save({"state_dict": {prefix + name: value for name, value in state.items()}}, path)
    return state


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (3, "its 3 outputs are taken for Field, Wood, Water, in this order."),
        (7, "its head starts anew for 3 classes (it had 7 outputs)."),
        (1, "its head starts anew for 3 classes (it had 1 output)."),
    ],
)
def test_checkpoints_without_names(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int, text: str
) -> None:
    """As many outputs are taken in order, other numbers start anew; normalisation and learnt scenes are not known."""
    state = checkpoint(tmp_path / "x.ckpt", n)
    recipe = dataclasses.replace(RECIPE, encoder=Recipe().encoder)
    start = find_initial(str(tmp_path / "x.ckpt"), "linknet", dataclasses.replace(recipe, encoder=ENCODER))
    assert (start.arch, start.encoder) == ("linknet", ENCODER)
    assert fit_to_initial(recipe, start).encoder == ENCODER
    spec = dataclasses.replace(small_spec(dataset, recipe=fit_to_initial(recipe, start)), init=start)
    model, record = build_initial_model(spec, dataset)
    after = model.network.state_dict()
    assert torch.equal(after[FIRST], state[FIRST])
    assert torch.equal(after[HEAD], state[HEAD]) is (n == 3)
    assert record is not None
    assert (record.outputs, record.training) == (n, None)
    assert (model.spec.mean, model.spec.std) == ((0.0,) * 3, (255.0,) * 3)
    said = " ".join(capsys.readouterr().err.split())
    assert text in said
    assert "x.ckpt: does not say how its inputs were normalised; values 0 to 1 are taken" in said
    assert "Warning: x.ckpt: the data that it learnt from are not known" in said
    assert f"Encoder {ENCODER} in place of tu-tf_efficientnet_lite0" in said


@pytest.mark.parametrize(("here", "there"), [(4, 3), (1, 3), (3, 5)])
def test_other_bands(tmp_path: Path, capsys: pytest.CaptureFixture[str], here: int, there: int) -> None:
    """The first layer is made as for encoder weights: repeated in turn, the size of the response kept."""
    rng = np.random.default_rng(0)
    scenes = {
        name: (rng.integers(0, 255, (64, 64, here), np.uint8), rng.integers(0, 4, (64, 64), np.uint8))
        for name in "abcd"
    }
    dataset = array_dataset(tmp_path, scenes)
    state = checkpoint(tmp_path / "x.pth", 4, bands=there, prefix="")
    model, record = build_initial_model(spec_from(tmp_path / "x.pth", dataset), dataset)
    own, found = state[FIRST], model.network.state_dict()[FIRST]
    expected = own.sum(1, keepdim=True) if here == 1 else torch.stack([own[:, i % there] for i in range(here)], 1)
    assert torch.allclose(found, expected if here == 1 else expected * there / here)
    assert record is not None
    assert record.bands == there
    assert f"; its first layer is made for {here} bands of {there}." in " ".join(capsys.readouterr().err.split())


def test_a_stop_anywhere_changes_nothing_even_where_the_source_is_gone(
    source: Run, south: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run keeps its start until it has finished; then it is removed."""
    make_runtime("cpu", "fp32", threads=1)  # commands of other tests leave other numbers of threads
    spec = spec_from(source.folder, south)
    whole = train(spec, south, tmp_path / "whole")
    assert not (whole.folder / INITIAL_FOLDER).exists()
    assert whole.card.initial_weights is not None
    real, calls = loop.validate, []

    def stop(*given: object) -> object:
        calls.append(given)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "validate", stop)
    with pytest.raises(KeyboardInterrupt):
        train(spec, south, south.folder)
    (run,) = list_runs(south.folder)
    assert (run.folder / INITIAL_FOLDER / "model.safetensors").exists()
    shutil.rmtree(source.folder)
    for state in run.folder.glob("state*"):
        state.unlink()  # stopped before the first state was saved
    assert main(["train", "--resume", str(run.folder), "--device", "cpu"]) == 0
    resumed = read_run(run.folder)
    assert_same_run(resumed, whole)
    assert not (run.folder / INITIAL_FOLDER).exists()


def test_the_command_says_takes_and_records(
    source: Run, south: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Architecture and encoder come with the weights; the same command reuses the run; the origin's flag is known."""
    asked = ["train", str(south.folder), "--init", str(source.folder), *SHORT]
    assert main(asked) == 0
    (run,) = list_runs(south.folder)
    assert (run.name, run.encoder) == ("linknet-mobilenetv3_small_050-s0", ENCODER)
    assert run.card.encoder_weights == "network linknet-s0"
    text = (run.model_folder / "README.md").read_text()
    assert run.card.initial_weights is not None
    assert f"| Starts from | linknet-s0 of study, SHA-256 {run.card.initial_weights.sha256}" in text
    assert "Encoder weights" not in text
    capsys.readouterr()
    assert main(["train", str(south.folder), "--load_from_checkpoint", str(source.folder / "model"), *SHORT]) == 0
    assert "trained already" in capsys.readouterr().err
    assert main(["train", "--resume", str(run.folder), "--init", str(source.folder)]) == 0
    other = checkpoint(tmp_path / "x.pth", 3)
    assert other
    assert main(["train", "--resume", str(run.folder), "--init", str(tmp_path / "x.pth")]) == 2
    assert "was begun with linknet-s0 and goes on with it. Drop the flag" in " ".join(capsys.readouterr().err.split())
    assert main(["train", str(south.folder), "--init", str(source.folder), "--arch", "unet", *SHORT]) == 2
    assert "is linknet, not unet. Leave --arch away" in " ".join(capsys.readouterr().err.split())


def test_unlike_starts_are_unlike_protocols(source: Run, south: Dataset) -> None:
    """Named by compare like any other; networks that one study trained alike are alike, whatever their architecture."""
    north = read_dataset(source.study)
    starts = [train(small_spec(north, arch=arch, steps=1), north, north.folder) for arch in ("linknet", "pspnet")]
    alike = [train(spec_from(run.folder, south), south, south.folder) for run in starts]
    plain, other = (
        train(small_spec(south), south, south.folder),
        train(spec_from(source.folder, south), south, north.folder),
    )
    runs = [evaluate_run(run, south, "test", runtime=RUNTIME) for run in (*alike, plain, other)]
    assert not compare_runs(runs[:2]).protocol_differences
    for unlike in (runs[2], runs[3]):
        with pytest.raises(UnlikeError, match=r"runs were not made alike: weights is 'network of study \("):
            compare_runs([runs[0], unlike])
        found = compare_runs([runs[0], unlike], allow_unlike=True)
        assert [entry.field for entry in found.protocol_differences] == ["weights"]


def test_test_scenes_that_it_learnt_from_are_refused(source: Run, tmp_path: Path) -> None:
    """Here the split is turned: what tests was learnt there."""
    other = build_study(tmp_path / "turned")
    split = dataclasses.replace(other.split, train=("c/1",), val=("c/2",), test=("a/1", "b/2"))
    turned = dataclasses.replace(other, split=split)
    with pytest.raises(
        UnlikeError, match=r"^linknet-s0: learnt from 1 of the 2 test scenes of .+ \(a/1 is a/1 there\)"
    ):
        build_initial_model(spec_from(source.folder, turned), turned)


def test_test_scenes_in_images_that_it_learnt_from_are_warned_of(
    source: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here the image in a training scene's place has other bytes; the own study's test scenes are no such case."""
    north = read_dataset(source.study)
    build_initial_model(spec_from(source.folder, north), north)
    assert "another version" not in capsys.readouterr().err
    scenes = tuple(dataclasses.replace(scene, image_sha256=f"{n:064x}") for n, scene in enumerate(north.scenes))
    split = dataclasses.replace(north.split, train=("c/1",), val=("c/2",), test=("a/1", "b/2"))
    turned = dataclasses.replace(north, scenes=scenes, split=split)
    build_initial_model(spec_from(source.folder, turned), turned)
    text = "linknet-s0: learnt from other parts, or another version, of the images of 1 of the 2 test scenes of"
    assert text in " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_started_from(dataset: Dataset, tmp_path: Path) -> None:
    """One line each, with a remedy that works."""
    state = checkpoint(tmp_path / "x.pth", 3, prefix="")
    ema = {name: value + 1 if value.is_floating_point() else value for name, value in state.items()}
    torch.save({"model": state, "model_ema": ema}, tmp_path / "two.pth")
    with pytest.raises(WeightsError, match=r"Choose one, as in --init .+two\.pth::model_ema\.$") as raised:
        find_initial(str(tmp_path / "two.pth"), None, RECIPE)
    remedy = re.findall(r"--init (\S+)\.$", str(raised.value))[0]
    model, _ = build_initial_model(spec_from(remedy, dataset), dataset)
    assert torch.equal(model.network.state_dict()[HEAD], ema[HEAD])
    bad = {**state, HEAD: torch.full_like(state[HEAD], float("nan"))}
    torch.save(bad, tmp_path / "nan.pth")
    (tmp_path / "empty.pth").touch()
    torch.save({**state, "decoder.blocks.0.block.0.0.weight": torch.ones(5, 5, 3, 3)}, tmp_path / "odd.pth")
    for name, text in (
        ("none.pth", "no such file or folder"),
        ("nan.pth", "are not numbers"),
        ("empty.pth", "is an empty file"),
        ("odd.pth", "no encoder of segmentation_models_pytorch fits|lacks|is \\(5, 5, 3, 3\\)"),
    ):
        with pytest.raises(LevelgroundError, match=text) as found:
            build_initial_model(spec_from(tmp_path / name, dataset), dataset)
        assert "\n" not in str(found.value)


CODE = """
from torch import nn
def make(in_channels, classes):
    return nn.Sequential(nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1))
"""


def test_networks_of_ones_own_start_from_their_kind(
    dataset: Dataset, south: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run by its card once the code is named; a checkpoint by the code that is named."""
    monkeypatch.setattr(own_networks, "_NAMED", {})
    (tmp_path / "nets.py").write_text(CODE)
    arch = f"{tmp_path / 'nets.py'}:make"
    own_networks.name_network(arch)
    run = train(dataclasses.replace(small_spec(dataset, steps=1), arch=arch), dataset, dataset.folder)
    model, record = build_initial_model(spec_from(run.folder, south), south)
    assert record is not None
    assert (record.outputs, record.classes) == (3, ("WATER", "Field"))
    before, after = tensors(run), model.network.network.state_dict()  # type: ignore[union-attr]
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert torch.equal(before["2.weight"][[2, 0]], after["2.weight"][[0, 2]])
    torch.save({f"net.{name}": value for name, value in before.items()}, tmp_path / "own.pth")
    model, _ = build_initial_model(spec_from(tmp_path / "own.pth", south, arch), south)
    assert torch.equal(before["2.weight"], model.network.network.state_dict()["2.weight"])  # type: ignore[union-attr]
    own_networks._NAMED.clear()
    with pytest.raises(
        LevelgroundError, match=r"Say where it lies: --code PATH/nets\.py:make \(with train and study: --arch"
    ):
        find_initial(str(run.folder), None, RECIPE)


def test_transformers_start_from_a_run_without_naming_it(dataset: Dataset, south: Dataset, tmp_path: Path) -> None:
    """The configuration beside the weights says what it is."""
    transformers = pytest.importorskip("transformers", reason="the extra is not installed")
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3],
        strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=5,
    )  # fmt: skip
    config.save_pretrained(tmp_path / "tiny")
    arch = f"hf:{tmp_path / 'tiny'}"
    own_networks.name_network(arch)
    run = train(dataclasses.replace(small_spec(dataset, steps=1), arch=arch), dataset, dataset.folder)
    own_networks._NAMED.clear()
    spec = spec_from(run.folder, south)
    assert spec.arch == "hf:tiny"
    model, record = build_initial_model(spec, south)
    assert record is not None
    assert record.classes == ("WATER", "Field")
    before, after = tensors(run), model.network.network.state_dict()  # type: ignore[union-attr]
    name = "decode_head.classifier.weight"
    assert torch.equal(before[name][[2, 0]], after[name][[0, 2]])


def test_a_study_starts_every_seed_alike(source: Run, south: Dataset) -> None:
    """Verdicts on architectures from whole networks; one is needed for each architecture."""
    options = StudyOptions(
        archs=("linknet",), seeds=(0, 1), init=(str(source.folder),), recipe=RECIPE, budget=Budget(steps=2)
    )
    comparison = run_study(south, options, RUNTIME)
    assert [result.arch for result in comparison.architectures] == ["linknet"]
    assert read_study(south.folder).options.init == ("linknet-s0",)
    starts = {run.card.initial_weights and run.card.initial_weights.sha256 for run in list_runs(south.folder)}
    assert len(starts) == 1
    both = dataclasses.replace(options, archs=("linknet", "fpn"))
    with pytest.raises(ConfigError, match=r"^--init: no network for fpn\. .+ or --archs linknet\.$"):
        starting_networks(both)
    with pytest.raises(ConfigError, match=r"is linknet, and --archs names fpn\. Give one network for each"):
        starting_networks(dataclasses.replace(options, archs=("fpn",)))
