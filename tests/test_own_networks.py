"""Networks of the user's own, of torchvision and of transformers: trained, loaded and compared like any other."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from builders.arrays import array_dataset
from builders.onnx_files import write_onnx
from builders.study import ENCODER
from PIL import Image
from torch import nn

from levelground.adoption.adopted_runs import TrainingName
from levelground.adoption.weights import adopt_program, adopt_weights
from levelground.cli import main
from levelground.config import Budget, Recipe, StudyOptions, TileOptions, WeightsOptions
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, ModelError, WeightsError
from levelground.evaluation.evaluate import evaluate_run
from levelground.models import own_networks, spec
from levelground.models.build import build_model, check_trainable, create_network
from levelground.models.loading import load_model, open_model
from levelground.models.own_networks import card_name, main_output, make_own, name_network
from levelground.models.pretrained import fit_state
from levelground.models.spec import dataset_spec, numbered_spec
from levelground.pipeline import check_study, run_study
from levelground.runs import Run, list_runs, write_card
from levelground.runtime import make_runtime
from levelground.tile_geometry import TileGeometry
from levelground.training.prepare_run import train_run
from levelground.training.run_spec import RunSpec
from levelground.training.step import make_optimiser

if TYPE_CHECKING:
    from transformers import PretrainedConfig

RUNTIME = make_runtime("cpu", "fp32", threads=1)

CODE = """
from torch import nn
import torchvision

class Tiny(nn.Module):
    def __init__(self, in_channels, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, 8, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, x):
        return {"out": self.head(self.body(x)), "aux": None}

def deeplab(bands, num_classes):
    make = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large
    return make(weights=None, weights_backbone=None, num_classes=num_classes)

def flat(in_channels, classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, classes))

def fails(in_channels, classes):
    raise ValueError("no such layer")

def text(in_channels, classes):
    return "network"
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of networks; nothing is named yet."""
    monkeypatch.setattr(own_networks, "_NAMED", {})
    path = tmp_path / "nets.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def segformer(tmp_path: Path) -> Path:
    """The configuration of a tiny SegFormer with random weights, as transformers saves it."""
    transformers = pytest.importorskip("transformers", reason="the extra is not installed")
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3],
        strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=5,
    )  # fmt: skip
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "segformer")
    return tmp_path / "segformer"


def upernet_config() -> "PretrainedConfig":
    """UperNet over a ConvNeXt of a few channels."""
    from transformers import ConvNextConfig, UperNetConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ConvNextConfig(depths=[1] * 4, hidden_sizes=[8, 16, 24, 32], out_features=stages)
    return UperNetConfig(backbone_config=backbone, hidden_size=16, pool_scales=[1, 2], use_auxiliary_head=False)


def mask2former_config() -> "PretrainedConfig":
    """Mask2Former over a Swin of a few channels, with five queries."""
    from transformers import Mask2FormerConfig, SwinConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1, 2, 2, 2], window_size=4, out_features=stages
    )
    return Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        dim_feedforward=32, encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=5,
    )  # fmt: skip


@pytest.mark.parametrize("make", [upernet_config, mask2former_config])
@pytest.mark.parametrize("bands", [3, 4])
def test_kinds_of_transformers_are_trained(
    make: "Callable[[], PretrainedConfig]", bands: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a configuration that save_pretrained wrote: two steps, evaluated, loaded again without naming it."""
    pytest.importorskip("transformers", reason="the extra is not installed")
    monkeypatch.setattr(own_networks, "_NAMED", {})
    make().save_pretrained(tmp_path / "tiny")
    rng = np.random.default_rng(0)
    scenes = {
        name: (rng.integers(0, 255, (64, 64, bands), np.uint8), rng.integers(0, 3, (64, 64), np.uint8))
        for name in "abcd"
    }
    dataset = array_dataset(tmp_path, scenes, n_classes=3)
    arch = f"hf:{tmp_path / 'tiny'}"
    name_network(arch)
    recipe = Recipe(encoder_weights="none", tile=64, halo=8, batch=2, validations=1)
    run = train_run(RunSpec(arch, 0, recipe, Budget(steps=2)), dataset, tmp_path / "study", RUNTIME)
    assert run.card.status == "finished"
    own_networks._NAMED.clear()
    network = load_model(run).network
    with torch.no_grad():
        assert network(torch.zeros(1, bands, 64, 96)).shape == (1, 3, 64, 96)


@pytest.mark.parametrize("encoder", ["tu-vit_small_patch14_dinov2", "tu-vit_small_patch16_dinov3", "tu-test_vit"])
def test_vits_of_timm_are_trained_under_dpt(encoder: str, dataset: Dataset) -> None:
    """At tiles that are no multiple of their patch or of the size of their published weights."""
    recipe = Recipe(encoder=encoder, encoder_weights="none", tile=96, halo=8, batch=1, validations=1)
    run = train_run(RunSpec("dpt", 0, recipe, Budget(steps=2)), dataset, dataset.folder, RUNTIME)
    assert run.card.status == "finished"
    with torch.no_grad():
        assert load_model(run).network(torch.zeros(1, 3, 32, 64)).shape == (1, 3, 32, 64)
        assert open_model(run.model_folder, RUNTIME).network(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_plain_vits_do_not_go_with_upernet() -> None:
    """The line says which architecture takes them."""
    with pytest.raises(ModelError, match=r"one scale only; upernet needs several: .+ or --arch dpt for a ViT\.$"):
        create_network("upernet", "tu-test_vit", 3, 2)


def test_kernels_of_other_patches_are_resampled() -> None:
    """Published weights of 14 px patches, for 16 px: a constant image gives the same response."""
    old = torch.rand(4, 3, 14, 14)
    name = "model.patch_embed.proj.weight"
    fitted = fit_state({name: old}, {name: torch.zeros(4, 3, 16, 16)}, source="x")
    assert torch.allclose(fitted[name].sum((1, 2, 3)), old.sum((1, 2, 3)), rtol=1e-3)


def check(arch: str) -> None:
    """Check as before data are read."""
    name_network(arch)
    spec = numbered_spec(arch, "resnet18", n_outputs=3)
    check_trainable(dataclasses.replace(spec, geometry=TileGeometry(32, 0)), batch=2)


def test_own_networks_are_trained_and_compared_with_smps(
    dataset: Dataset, code: Path, segformer: Path, tmp_path: Path
) -> None:
    """Two seeds each of own code, torchvision, transformers and an ONNX file beside U-Net: all have verdicts."""
    for seed in (0, 1):  # another tool's network, twice
        path = write_onnx(tmp_path / f"point{seed}.onnx", n_outputs=3, seed=seed)
        run = adopt_program(path, dataset, WeightsOptions(), TrainingName(None, "Point", seed))
        evaluate_run(run, dataset, "test", runtime=RUNTIME, tiles=TileOptions(tile=32, halo=8))
    archs = ("unet", f"{code}:Tiny", f"{code}:deeplab", f"hf:{segformer}")
    recipe = Recipe(encoder=ENCODER, encoder_weights="none", tile=32, halo=8, batch=2, validations=1)
    options = StudyOptions(archs=archs, seeds=(0, 1), recipe=recipe, budget=Budget(steps=2))
    comparison = run_study(dataset, options, RUNTIME)
    page = (dataset.folder / "report.html").read_text()
    found = {result.name.partition(" ")[0] for result in comparison.architectures}
    assert found == {"unet", "nets.py:Tiny", "nets.py:deeplab", "hf:segformer", "Point"}
    assert all(name in page for name in found)
    assert len(comparison.architecture_pairs) == 10
    assert all(pair.verdict for pair in comparison.architecture_pairs)
    runs = {run.name: run for run in list_runs(dataset.folder)}
    assert sorted(runs) == sorted(
        f"{arch}-s{seed}"
        for arch in ("unet-mobilenetv3_small_050", "nets.py-Tiny", "nets.py-deeplab", "hf-segformer", "Point")
        for seed in (0, 1)
    )
    card = runs["nets.py-Tiny-s0"].card
    assert (card.arch, card.encoder, card.code_sha256) == ("nets.py:Tiny", "none", own_networks.sha256_file(code))
    assert (runs["nets.py-Tiny-s0"].model_folder / "nets.py").read_text() == CODE
    assert {run.card.encoder_weights for run in runs.values() if run.name[:5] != "Point"} == {"none"}
    unlike = dataclasses.replace(options, recipe=dataclasses.replace(recipe, encoder_weights="packaged"))
    text = r"^--archs: .+'none', hf:.+segformer starts with weights 'hf:segformer'\. Give --encoder-weights none"
    with pytest.raises(ConfigError, match=text):
        check_study(dataclasses.replace(unlike, archs=archs[2:]))
    own_networks._NAMED.clear()  # another command: the code was not named there, a configuration needs no code
    load_model(runs["hf-segformer-s0"])
    text = r"^nets\.py:Tiny: .+ is made only where you name it\. Say where it lies: --code PATH/nets\.py:Tiny"
    with pytest.raises(ModelError, match=text):
        load_model(runs["nets.py-Tiny-s0"])
    name_network(f"{code}:Tiny")
    network = load_model(runs["nets.py-Tiny-s0"]).network
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("flat", r"makes \(2, 3\) of \(2, 3, 32, 32\), expected \(N, 3, h, w\), one logit a class\."),
        ("fails", r"fails for 3 bands and 3 classes \(ValueError: no such layer\)\. It takes \(in_channels, classes\)"),
        ("text", r"returns str, expected a torch\.nn\.Module\."),
        ("missing", r"nets\.py has no function 'missing'\. It has Tiny, deeplab, flat, fails, text\."),
    ],
)
def test_the_contract_is_checked_before_data_are_read(code: Path, function: str, text: str) -> None:
    """Outputs, errors and names, one line each."""
    with pytest.raises(ModelError, match=text) as raised:
        check(f"{code}:{function}")
    assert "\n" not in str(raised.value)


def test_smaller_outputs_are_resized_and_said(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, before training."""
    check(f"{code}:Tiny")
    assert capsys.readouterr().err == "nets.py:Tiny: gives 16 × 16 px of 32; resized to the tile, bilinear.\n"
    assert make_own("nets.py:Tiny", 3, 4)(torch.zeros(2, 3, 32, 32)).shape == (2, 4, 32, 32)


def test_a_file_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    """With the error."""
    (tmp_path / "bad.py").write_text("import nowhere_at_all")
    with pytest.raises(
        ModelError, match=r"bad\.py: cannot be run \(ModuleNotFoundError: No module named 'nowhere_at_all'"
    ):
        name_network(f"{tmp_path / 'bad.py'}:make")
    with pytest.raises(ModelError, match=r"none\.py:make: no file none\.py\. Give FILE\.py:FUNCTION"):
        name_network("none.py:make")


def test_weights_of_own_code_are_adopted(dataset: Dataset, code: Path, tmp_path: Path) -> None:
    """A torchvision network under any prefix; its number of outputs is told by the legend or given."""
    name_network(f"{code}:deeplab")
    network = make_own("nets.py:deeplab", 3, 3).network
    torch.save({"state_dict": {f"model.{n}": t for n, t in network.state_dict().items()}}, tmp_path / "a.pth")
    run = adopt_weights(tmp_path / "a.pth", dataset, WeightsOptions(arch=f"{code}:deeplab"))
    assert (run.name, run.arch, run.card.outputs) == ("nets.py-deeplab-adopted", "nets.py:deeplab", (0, 2, 3))
    assert run.card.code_sha256 == own_networks.sha256_file(code)
    again = load_model(run).network
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(image), network.eval()(image)["out"])
    with pytest.raises(WeightsError, match=r"^a\.pth: .+ is \(3, 256, 1, 1\), the network needs .+ --classes"):
        adopt_weights(tmp_path / "a.pth", dataset, WeightsOptions(arch=f"{code}:deeplab", classes=5))


def test_cards_name_no_folders() -> None:
    """A path of a machine does not get onto a card."""
    assert card_name("/home/x/nets.py:make") == "nets.py:make"
    assert card_name("hf:/models/mine") == "hf:mine"


class Output:
    """An output with fields, such as transformers'."""

    def __init__(self, **fields: torch.Tensor) -> None:
        self.__dict__.update(fields)


def test_logits_are_found_in_what_a_network_returns() -> None:
    """Tensors, dictionaries, tuples and objects; queries become a map."""
    one, two = torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    for found in (one, {"out": one, "aux": two}, (one, two), [one], Output(logits=one), {"x": one}, ({"out": one},)):
        assert main_output(found) is one
    assert main_output({"a": one, "b": two}) is None
    assert main_output("text") is None
    classes, masks = torch.tensor([[[9.0, 0, 0], [0, 9, 0]]]), torch.tensor([[[[9.0, -9]], [[-9, 9]]]])
    segmented = main_output(Output(class_queries_logits=classes, masks_queries_logits=masks))
    assert segmented is not None
    assert segmented.argmax(1).tolist() == [[[0, 1]]]


def test_networks_of_installed_packages_are_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points of a group."""

    class Point:
        name, value = "mynet", "package:make"

        def load(self) -> object:
            return lambda in_channels, classes: nn.Conv2d(in_channels, classes, 1)

    monkeypatch.setattr(own_networks, "_NAMED", {})
    for module in (own_networks, spec):
        monkeypatch.setattr(module, "entry_points", lambda group: [Point()])
    assert own_networks.is_own("mynet")
    assert make_own("mynet", 4, 2)(torch.zeros(1, 4, 8, 8)).shape == (1, 2, 8, 8)


def saved_segformer(folder: Path, outputs: dict[int, str]) -> nn.Module:
    """A SegFormer of a few channels with weights, as transformers saves it, and how its inputs are normalised."""
    transformers = pytest.importorskip("transformers", reason="the extra is not installed")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        id2label=outputs, label2id={name: index for index, name in outputs.items()}, depths=[1] * 4,
        hidden_sizes=[8, 16, 24, 32], decoder_hidden_size=16, num_attention_heads=[1, 2, 2, 4],
    )  # fmt: skip
    network = transformers.SegformerForSemanticSegmentation(config).eval()
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}')
    assert isinstance(network, nn.Module)
    return network


def test_a_folder_of_transformers_is_adopted_as_it_describes_itself(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes by their names, normalisation, weights under published names and under any prefix; counts are its own."""
    monkeypatch.setattr(own_networks, "_NAMED", {})
    network = saved_segformer(tmp_path / "theirs", {0: "Water", 1: "Field", 2: "Wood"})
    run = adopt_weights(tmp_path / "theirs", dataset, WeightsOptions(), TrainingName("one"))
    assert (run.arch, run.card.outputs, run.card.mean) == ("hf:theirs", (3, 0, 2), (127.5,) * 3)
    torch.save({"state_dict": {f"net.{n}": t for n, t in network.state_dict().items()}}, tmp_path / "lit.ckpt")
    options = WeightsOptions(arch=f"hf:{tmp_path / 'theirs'}", outputs=(3, 0, 2))
    other = adopt_weights(tmp_path / "lit.ckpt", dataset, options, TrainingName("two"))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        logits = nn.functional.interpolate(network(image).logits, size=(64, 96), mode="bilinear", align_corners=False)
        assert torch.equal(load_model(run).network(image), logits)
        assert torch.equal(load_model(other).network(image), logits)


def test_pretrained_backbones_learn_at_the_encoders_rate(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As encoders with weights do; heads, and all of a network without weights, at the full one."""
    monkeypatch.setattr(own_networks, "_NAMED", {})
    saved_segformer(tmp_path / "theirs", {0: "a", 1: "b", 2: "c"})
    arch = name_network(f"hf:{tmp_path / 'theirs'}")
    spec = dataset_spec(dataset, arch, "none", (0, 2, 3), name="x", geometry=TileGeometry(64, 8))
    recipe = Recipe(lr=0.1, encoder_lr_factor=0.5)
    model = build_model(spec, recipe, seed=0)
    rates = {id(one): group["lr"] for group in make_optimiser(model, recipe).param_groups for one in group["params"]}
    found = {name.split(".")[1]: rates[id(one)] for name, one in model.network.named_parameters()}
    assert found == {"segformer": 0.05, "decode_head": 0.1}
    assert model.encoder_weights == "hf:theirs"
    (tmp_path / "theirs" / "model.safetensors").unlink()
    bare = build_model(spec, recipe, seed=0)
    assert {group["lr"] for group in make_optimiser(bare, recipe).param_groups} == {0.1}
    assert bare.encoder_weights == "none"


FLAGS = ["--device", "cpu", "--precision", "fp32", "--threads", "1"]


def check_served(run: Run, image: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`serve` offers a run with its code, and its map is the one that `predict` made; without the code it says so."""
    pytest.importorskip("fastapi", reason="the extra is not installed")
    from levelground.serving.job_process import run_job
    from levelground.serving.jobs import JobModel, JobStore
    from levelground.serving.service import find_models

    code = own_networks.named_sources()[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_networks, "_NAMED", {})
        with pytest.raises(ModelError, match=r"^nets\.py:Tiny: .+ --code PATH/nets\.py:Tiny"):
            find_models([run.folder], RUNTIME)
        with pytest.raises(ModelError, match="its runs hold no models"):
            find_models([run.study], RUNTIME)
        said = " ".join(capsys.readouterr().err.split())
        assert f"{run.name}: is left out. nets.py:Tiny: is not of segmentation_models_pytorch" in said
        name_network(code)
        assert run.name in find_models([run.study], RUNTIME)[0]
        store = JobStore(folder / "served", waiting=1, threads=1, code=[code])
        with store.new_folder() as (id_, job):
            store.add(id_, image.name, image, [JobModel("own", str(run.folder))], (1, 1))
        patch.setattr(own_networks, "_NAMED", {})
        run_job(job, 1, [code])
    (made,) = (folder / "maps").rglob("*_mask.*")
    pictures = [np.asarray(Image.open(path)) for path in (made, next((job / "maps").rglob(made.name)))]
    assert (pictures[0] == pictures[1]).mean() > 0.95  # the server chooses the precision


def test_commands_run_own_code_where_it_is_named(
    dataset: Dataset, code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """evaluate, predict, export and train --resume: refused in one line, done with what the line says to type."""
    pytest.importorskip("onnxscript", reason="the extra is not installed")
    recipe = Recipe(encoder_weights="none", tile=32, halo=8, batch=2, validations=1)
    name_network(f"{code}:Tiny")
    run = train_run(RunSpec(f"{code}:Tiny", 0, recipe, Budget(steps=2)), dataset, dataset.folder, RUNTIME)
    card = dataclasses.replace(run.card, status="stopped")
    write_card(run.folder, card)
    image = next(dataset.data.rglob("*_sat.png"))
    commands = {
        "evaluate": ["evaluate", str(run.folder), *FLAGS],
        "predict": ["predict", str(run.folder), str(image), "--out", str(tmp_path / "maps"), *FLAGS],
        "export": ["export", str(run.folder)],
        "adopt": ["adopt", str(run.folder), "--study", str(dataset.folder), "--name", "again"],
        "resume": ["train", "--resume", str(run.folder)],
    }
    for name, command in commands.items():
        monkeypatch.setattr(own_networks, "_NAMED", {})
        flag = {"resume": "--arch", "adopt": "--arch"}.get(name, "--code")
        capsys.readouterr()
        assert main(command) == 2, name
        assert f"{flag} PATH/nets.py:Tiny" in (said := capsys.readouterr().err), said
        assert main([*command, flag, f"{code}:Tiny"]) == 0, capsys.readouterr().err
    runs = {one.name: one.card for one in list_runs(dataset.folder)}
    assert runs.keys() == {"nets.py-Tiny-s0", "again"}
    assert (runs["again"].outputs, runs["again"].mean) == (run.card.outputs, run.card.mean)
    check_served(run, image, tmp_path, capsys)
    write_card(run.folder, card)
    code.write_text(CODE + "# another network\n")
    monkeypatch.setattr(own_networks, "_NAMED", {})
    assert main([*commands["resume"], "--arch", f"{code}:Tiny"]) == 2
    assert "was begun with another nets.py than there is now. Restore that file" in capsys.readouterr().err
