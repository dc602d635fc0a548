import re

import pytest
import torch
from pydantic import JsonValue

import levelground.adoption.detection
from levelground.adoption.decoder_options import parse_decoder_options, read_decoder_options
from levelground.adoption.detection import (
    _encoders,
    count_outputs,
    detect_arch,
    detect_encoder,
    detect_network,
    expected_state,
    extract_network,
    first_difference,
    warn_of_imagenet,
)
from levelground.config import WeightsOptions
from levelground.errors import ConfigError, ModelError, WeightsError
from levelground.models.build import arch_names, create_network
from levelground.models.checkpoints import StateDict


def state_of(arch: str, encoder: str, *, classes: int = 7, bands: int = 3) -> StateDict:
    """Names and shapes of a network's tensors, without values."""
    state = expected_state(arch, encoder, bands=bands, n_outputs=classes)
    assert state is not None
    return state


@pytest.mark.parametrize("arch", sorted(set(arch_names()) - {"dpt"}))
@pytest.mark.parametrize("encoder", ["resnet50", "tu-tf_efficientnet_lite0"])
def test_the_architecture_is_told_by_its_decoder(arch: str, encoder: str) -> None:
    """Whatever the file is called and the encoder is."""
    assert detect_arch(state_of(arch, encoder), source="weights.pth") == arch


@pytest.mark.parametrize("encoder", ["resnet18", "resnet34", "efficientnet-b0", "mobilenet_v2", "vgg11"])
def test_the_encoder_is_told_by_all_tensors(encoder: str) -> None:
    """Encoders that the library lists are tried until one fits in names and shapes."""
    state = state_of("unet", encoder)
    assert detect_arch(state, source="best.pth") == "unet"
    assert detect_encoder(state, "unet", source="best.pth") == encoder


def test_an_encoder_that_the_file_names_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among many, the longest name that occurs; it may be one that cannot be built without values."""
    monkeypatch.setattr(levelground.adoption.detection, "_FIRST_TRIED", ())
    assert _encoders("unet_mit_b0_mit_b1_best.pth")[:2] == ["mit_b0", "mit_b1"]
    assert _encoders("unet-EfficientNet-B1.pth")[0] == "efficientnet-b1"
    assert detect_encoder(state_of("fpn", "mit_b0"), "fpn", source="fpn_mit_b0.pth") == "mit_b0"


def test_an_encoder_of_timm_is_told_where_the_file_names_it_or_a_package_carries_it() -> None:
    """There are eight hundred of them: not all are tried."""
    assert (
        detect_encoder(state_of("fpn", "tu-tf_efficientnet_lite0"), "fpn", source="a.pth") == "tu-tf_efficientnet_lite0"
    )


def test_other_bands_are_no_hindrance() -> None:
    """The first convolution says how many there are."""
    assert detect_encoder(state_of("unet", "resnet34", bands=4), "unet", source="a.pth") == "resnet34"


def test_what_no_encoder_fits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is to name it."""
    monkeypatch.setattr(levelground.adoption.detection, "_encoders", lambda _source: ["resnet18", "resnet34", "mit_b0"])
    state = state_of("unet", "resnet18") | {"encoder.layer1.0.conv1.weight": torch.empty(64, 64, 5, 5)}
    text = (
        "a.pth: no encoder of segmentation_models_pytorch fits unet. Pass --encoder, such as tu-NAME, and --decoder "
        "NAME=VALUE for each option that is not the default, such as --decoder encoder_depth=4."
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        detect_encoder(state, "unet", source="a.pth")


def test_another_librarys_decoder_is_refused() -> None:
    """The message lists what is known and names the other way."""
    state = {"segmentation_head.0.weight": torch.empty(7, 16, 3, 3), "neck.0.weight": torch.empty(1)}
    text = (
        f"a.pth: its decoder is none of {', '.join(arch_names())}. Pass --arch if it is one, or adopt the network's "
        "masks with --predictions."
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        detect_arch(state, source="a.pth")


def test_the_last_convolution_tells_the_classes() -> None:
    """Linknet's and others' heads are numbered alike."""
    assert count_outputs(state_of("linknet", "resnet18", classes=5), source="a.pth") == 5


def test_a_head_without_outputs_is_refused_with_the_name_of_the_file() -> None:
    """Wherever in the search for the network that is met."""
    state = state_of("linknet", "resnet18", classes=5)
    (head,) = (name for name in state if name.startswith("segmentation_head.") and name.endswith(".weight"))
    state[head] = state[head][:0]
    with pytest.raises(WeightsError, match=r"^a\.pth: no tensor segmentation_head"):
        detect_network(state, None, WeightsOptions(arch="linknet", encoder="resnet18"), source="a.pth")


def test_a_network_without_a_segmentation_head_is_refused() -> None:
    """A classifier's weights, for one: what it holds is named."""
    text = (
        "r18.pth: no tensor segmentation_head.….weight, so this is not a network of segmentation_models_pytorch "
        "(it holds 1 tensors, the first fc.weight). Give the state dict of such a network, its own code with --arch "
        "FILE.py:FUNCTION, or its masks with --predictions."
    )
    with pytest.raises(WeightsError, match=f"^{re.escape(text)}$"):
        extract_network({"fc.weight": torch.empty(10, 3)}, None, source="r18.pth")


@pytest.mark.parametrize("place", ["", "module.", "_orig_mod.module.", "state_dict.net.", "a.b.c.d."])
def test_a_network_is_found_wherever_it_lies(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Any prefix; what lies beside it is named, losses and metrics within it too, anything else stays to be refused."""
    one = torch.ones(1)
    names = ["encoder.a", "decoder.b", "segmentation_head.0.weight"]
    state: StateDict = {f"{place}{name}": one for name in names}
    inner = {f"{place}loss_fn.weight": one, f"{place}neck.a": one}
    assert list(extract_network(state | inner, None, source="x")) == [*names, "neck.a"]
    assert capsys.readouterr().err == "x: left out of the network: loss_fn.\n"
    if place:
        extract_network({"criterion.weight": one, **state}, None, source="x")
        assert capsys.readouterr().err == f"x: {place[:-1]} is taken; left out: criterion.\n"


OPTIONS = [
    ("unet", {"decoder_attention_type": "scse"}),
    ("unet", {"decoder_use_norm": False}),
    ("unet", {"decoder_channels": [128, 64, 32, 16, 8]}),
    ("unet", {"decoder_channels": [128, 64, 32, 16], "encoder_depth": 4}),
    ("unetplusplus", {"decoder_channels": [64, 32, 16, 8], "encoder_depth": 4}),
    ("manet", {"decoder_channels": [128, 64, 32, 16, 8], "decoder_pab_channels": 32}),
    ("linknet", {"encoder_depth": 4}),
    ("fpn", {"decoder_pyramid_channels": 128, "decoder_segmentation_channels": 64}),
    ("fpn", {"decoder_merge_policy": "cat"}),
    ("fpn", {"decoder_merge_policy": "cat", "decoder_segmentation_channels": 64}),
    ("pspnet", {"psp_out_channels": 256}),
    ("deeplabv3", {"decoder_channels": 128}),
    ("deeplabv3plus", {"decoder_channels": 128}),
    ("pan", {"decoder_channels": 16}),
    ("pan", {"encoder_depth": 4}),
    ("upernet", {"decoder_channels": 128}),
    ("upernet", {"decoder_use_norm": False, "encoder_depth": 4}),
    ("linknet", {"decoder_use_norm": False}),
    ("pspnet", {"decoder_use_norm": False}),
    ("deeplabv3", {"decoder_aspp_separable": True}),
    ("deeplabv3plus", {"decoder_aspp_separable": False}),
    ("segformer", {"decoder_segmentation_channels": 128}),
]


@pytest.mark.parametrize(("arch", "options"), OPTIONS)
def test_options_of_a_decoder_are_read_from_its_tensors(arch: str, options: dict[str, JsonValue]) -> None:
    """Architecture, encoder and options are told together, and build the very same tensors."""
    state = expected_state(arch, "resnet18", options, bands=3, n_outputs=5)
    assert state is not None
    assert detect_arch(state, source="a.pth") == arch
    assert dict(read_decoder_options(state, arch)) == options
    assert detect_encoder(state, arch, options, source="a.pth") == "resnet18"
    assert count_outputs(state, source="a.pth") == 5


DEPTHS = [
    ("fpn", 4, {"encoder_depth": 4, "upsampling": 2}),
    ("fpn", 3, {"encoder_depth": 3, "upsampling": 1}),
    ("pspnet", 5, {"encoder_depth": 5, "upsampling": 32}),
    ("deeplabv3", 4, {"encoder_depth": 4}),
    ("deeplabv3plus", 4, {"encoder_depth": 4}),
    ("segformer", 3, {"encoder_depth": 3}),
]


@pytest.mark.parametrize(("arch", "depth", "options"), DEPTHS)
@pytest.mark.parametrize("named", [False, True])
def test_a_depth_that_the_decoder_does_not_show_is_told_by_the_encoder(
    arch: str, depth: int, options: dict[str, JsonValue], named: bool
) -> None:
    """Without a flag; the output of the network has the size of its input."""
    state = expected_state(arch, "resnet18", {"encoder_depth": depth}, bands=3, n_outputs=5)
    assert state is not None
    given = WeightsOptions(arch=arch, encoder="resnet18") if named else WeightsOptions()
    assert detect_network(state, None, given, source="a.pth") == (arch, "resnet18", options)
    with torch.device("meta"):
        network = create_network(arch, "resnet18", 3, 5, options).eval()
        assert network(torch.empty(1, 3, 64, 64)).shape == (1, 5, 64, 64)


def test_depths_that_fit_alike_are_asked_for() -> None:
    """The encoder's first two levels have as many channels; the remedy works."""
    state = expected_state("pspnet", "resnet18", {"encoder_depth": 2}, bands=3, n_outputs=5)
    assert state is not None
    text = "Say which it is: --decoder encoder_depth=2 or --decoder encoder_depth=1"
    with pytest.raises(ModelError, match=f"^a.pth: its tensors fit several forms of pspnet. {text}$"):
        detect_network(state, None, WeightsOptions(), source="a.pth")
    given = WeightsOptions(decoder=("encoder_depth=2",))
    assert detect_network(state, None, given, source="a.pth")[2] == {"encoder_depth": 2, "upsampling": 4}


def test_what_tensors_do_not_show_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """With the values that are taken; nothing where the user gives them."""
    state = state_of("pan", "resnet18")
    detect_network(state, None, WeightsOptions(encoder="resnet18"), source="a.pth")
    text = "a.pth: its tensors do not show decoder_interpolation=bilinear encoder_output_stride=16, the library's"
    assert text in " ".join(capsys.readouterr().err.split())
    given = WeightsOptions(arch="unet", encoder="resnet18", decoder=("decoder_interpolation=bilinear",))
    detect_network(state_of("unet", "resnet18"), None, given, source="a.pth")
    assert "do not show" not in capsys.readouterr().err


def test_parameters_without_statistics_say_what_lacks() -> None:
    """Of decoders and encoders that normalise; a network that has none is whole."""
    state = {name: one for name, one in state_of("unet", "resnet18").items() if "running" not in name}
    text = (
        "a.pth: holds the parameters of unet with encoder resnet18 and lacks the 60 running means and variances of its "
        "normalisation layers, the first encoder.bn1.running_mean: model.parameters() and named_parameters() leave "
        'them out, and it cannot be run without. Save all: torch.save(model.state_dict(), "weights.pth")'
    )
    for given in (WeightsOptions(), WeightsOptions(arch="unet", encoder="resnet18")):
        with pytest.raises(WeightsError, match=f"^{re.escape(text)}$"):
            detect_network(state, None, given, source="a.pth")
    assert detect_network(state_of("fpn", "mit_b0"), None, WeightsOptions(), source="mit_b0")[:2] == ("fpn", "mit_b0")
    with pytest.raises(WeightsError, match=r"^a: holds 2 tensors without names, as list\(model\.parameters\(\)\)"):
        extract_network({"0": torch.ones(1), "1": torch.ones(1)}, None, source="a")


def test_means_of_imagenet_beside_a_network_are_no_quiet_matter(capsys: pytest.CaptureFixture[str]) -> None:
    """As buffers of a training task, whatever their shape; other means say nothing."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    warn_of_imagenet({"model.mean": mean.view(1, 3, 1, 1), "model.std": std.view(3, 1, 1)}, source="a.ckpt")
    assert "pass --normalise imagenet." in " ".join(capsys.readouterr().err.split())
    warn_of_imagenet({"mean": torch.zeros(3), "std": torch.ones(3), "bn.running_mean": mean}, source="a.ckpt")
    assert capsys.readouterr().err == ""


def test_options_of_a_decoder_are_given_by_name() -> None:
    """Numbers, words, lists; an option that the architecture does not have is refused with those that it has."""
    texts = ["decoder_channels=64,32", "decoder_use_norm=layernorm", "encoder_depth=2", "decoder_attention_type=none"]
    expected = {"decoder_channels": [64, 32], "decoder_use_norm": "layernorm", "encoder_depth": 2}
    assert parse_decoder_options(texts, "unet") == {**expected, "decoder_attention_type": None}
    text = r"^--decoder depth=4: expected NAME=VALUE with one of encoder_depth, decoder_use_norm, .+ for unet\.$"
    with pytest.raises(ConfigError, match=text):
        parse_decoder_options(["depth=4"], "unet")


def test_the_first_difference_is_named() -> None:
    """Missing, of another shape, or one too many, in the order of the network."""
    expected = {"a": torch.empty(2), "b.num_batches_tracked": torch.empty(()), "c": torch.empty(3)}
    assert first_difference({"a": torch.ones(2), "c": torch.ones(3)}, expected) is None
    assert first_difference({"c": torch.ones(3)}, expected) == "a is missing"
    assert first_difference({"a": torch.ones(4), "c": torch.ones(3)}, expected) == "a is (4,), expected (2,)"
    assert first_difference(expected | {"z": torch.ones(1)}, expected) == "z is not expected"


def test_dpt_is_told_too() -> None:
    """Its decoder's names are its own; it needs an encoder of timm."""
    assert detect_arch(state_of("dpt", "tu-tf_efficientnet_lite0", classes=3), source="x.pth") == "dpt"


def test_a_pair_that_does_not_exist_has_no_tensors() -> None:
    """Such as a dilated VGG."""
    assert expected_state("deeplabv3", "vgg11", bands=3, n_outputs=2) is None
