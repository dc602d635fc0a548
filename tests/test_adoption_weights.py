import re

import pytest
import torch
from pydantic import JsonValue

import levelground.adoption.detection
from levelground.adoption.detection import (
    _encoders,
    count_outputs,
    detect_arch,
    detect_encoder,
    expected_state,
    extract_network,
    first_difference,
    parse_decoder_options,
    read_decoder_options,
)
from levelground.errors import ConfigError, ModelError, WeightsError
from levelground.models.build import arch_names
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
    ("pan", {"decoder_channels": 64}),
    ("upernet", {"decoder_channels": 128}),
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
