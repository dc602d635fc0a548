"""Options of segmentation_models_pytorch's architectures: given by name, read from tensors, shown to people."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from levelground.errors import ConfigError
from levelground.models.build import smp
from levelground.models.checkpoints import StateDict
from levelground.reading import is_number, is_whole_number

DecoderOptions = Mapping[str, JsonValue]
"""Options of an architecture that differ from its defaults, under segmentation_models_pytorch's names."""


def parse_decoder_options(texts: Sequence[str], arch: str) -> DecoderOptions:
    """Read options of an architecture, ``NAME=VALUE`` each, such as ``decoder_channels=128,64,32,16,8``.

    Raises:
        ConfigError: The architecture has no such option, or no value is given.

    Example:
        >>> parse_decoder_options(["decoder_channels=64,32", "decoder_use_norm=false"], "unet")
        {'decoder_channels': [64, 32], 'decoder_use_norm': False}
    """
    known, found = _defaults(arch), {}
    for text in texts:
        name, equals, value = text.partition("=")
        if name not in known or not equals or not value:
            raise ConfigError(f"--decoder {text}: expected NAME=VALUE with one of {', '.join(known)} for {arch}.")
        found[name] = _parse_value(value)
    return found


def _parse_value(text: str) -> JsonValue:
    words: dict[str, JsonValue] = {"none": None, "true": True, "false": False}
    if "," in text:
        return [_parse_value(part) for part in text.split(",") if part]
    if text.lower() in words:
        return words[text.lower()]
    return int(text) if is_whole_number(text) else float(text) if is_number(text) else text


def _defaults(arch: str) -> dict[str, JsonValue]:
    """Return the options of an architecture with their defaults."""
    others = ("self", "kwargs", "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params")
    parameters = inspect.signature(smp.MODEL_ARCHITECTURES_MAPPING[arch].__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name not in others}


_WIDTHS = {
    ("fpn", "decoder_pyramid_channels"): "decoder.p5.weight",
    ("fpn", "decoder_segmentation_channels"): "decoder.seg_blocks.0.block.0.block.0.weight",
    ("segformer", "decoder_segmentation_channels"): "decoder.fuse_stage.0.weight",
    ("pspnet", "psp_out_channels"): "decoder.conv.0.weight",
    ("deeplabv3", "decoder_channels"): "decoder.aspp.convs.0.0.weight",
    ("deeplabv3plus", "decoder_channels"): "decoder.aspp.0.convs.0.0.weight",
    ("pan", "decoder_channels"): "decoder.fpa.branch1.1.conv.weight",
    ("upernet", "decoder_channels"): "decoder.fusion_block.0.weight",
    ("manet", "decoder_pab_channels"): "decoder.center.top_conv.weight",
    ("dpt", "decoder_fusion_channels"): "decoder.fusion_blocks.0.project.weight",
}
"""Architecture and option -> the tensor whose first side it is."""

_WIDTH_LISTS = {
    "unet": ("decoder_channels", r"decoder\.blocks\.(\d+)\.conv2\.0\.weight"),
    "unetplusplus": ("decoder_channels", r"decoder\.blocks\.x_0_(\d+)\.conv2\.0\.weight"),
    "manet": ("decoder_channels", r"decoder\.blocks\.(\d+)\.conv2\.0\.weight"),
    "dpt": ("decoder_intermediate_channels", r"decoder\.reassemble_blocks\.(\d+)\.project_to_out_channel\.weight"),
}
"""Architecture -> the option that is a list, and the tensors whose first sides are in it, one a level."""

_LEVELS = {
    "linknet": (r"decoder\.blocks\.(\d+)\..+", 0),
    "upernet": (r"decoder\.feature_norms\.(\d+)\..+", 1),
    "pan": (r"decoder\.gau(\d)\..+", 2),
}
"""Architecture -> parts of its decoder, one for each level of the encoder but for some."""

_DEPTHS = {"fpn": (4, 3), "segformer": (4, 3), "deeplabv3plus": (4, 3), "deeplabv3": (4, 3, 2), "pspnet": (5, 4, 2, 1)}
"""Architecture -> depths of its encoder, beside the default, that only the encoder's own tensors tell."""

_NORMALISED = {
    "unet": "decoder.blocks.0.conv2",
    "unetplusplus": "decoder.blocks.x_0_0.conv2",
    "manet": "decoder.blocks.0.conv2",
    "linknet": "decoder.blocks.0.block.0",
    "pspnet": "decoder.conv",
    "upernet": "decoder.fusion_block",
}
"""Architecture -> a convolution and its normalisation, which ``decoder_use_norm`` decides."""

_STRIDE, _INTERPOLATION = "encoder_output_stride", "decoder_interpolation"
_TRACELESS = {
    **dict.fromkeys(("unet", "unetplusplus", "manet", "fpn"), (_INTERPOLATION,)),
    "pan": (_INTERPOLATION, _STRIDE),
    **dict.fromkeys(("deeplabv3", "deeplabv3plus"), ("decoder_atrous_rates", _STRIDE)),
}
"""Architecture -> options that change its output and leave no trace in its tensors."""


def read_decoder_options(state: StateDict, arch: str) -> DecoderOptions:
    """Read the options of a decoder from its tensors, as if it were of an architecture; only those not the defaults."""
    found: dict[str, JsonValue] = {
        option: int(state[name].shape[0])
        for (owner, option), name in _WIDTHS.items()
        if owner == arch and name in state and state[name].ndim
    }
    if arch in _WIDTH_LISTS:
        option, pattern = _WIDTH_LISTS[arch]
        widths = {
            int(m[1]): int(t.shape[0]) for name, t in state.items() if t.ndim and (m := re.fullmatch(pattern, name))
        }
        if widths:
            found |= {option: [widths[number] for number in sorted(widths)], "encoder_depth": len(widths)}
    if arch in _LEVELS:
        pattern, more = _LEVELS[arch]
        levels = {match[1] for name in state if (match := re.fullmatch(pattern, name))}
        found |= {"encoder_depth": len(levels) + more} if levels else {}
    found |= _read_kinds(state, arch)
    defaults = _defaults(arch)
    return {name: value for name, value in found.items() if value != _plain(defaults[name])}


def _read_kinds(state: StateDict, arch: str) -> DecoderOptions:
    """Read which kinds of layers a decoder has: attention, normalisation, separable convolutions, joined pyramids."""
    found: dict[str, JsonValue] = {}
    head, width = state.get("segmentation_head.0.weight"), state.get(_WIDTHS["fpn", "decoder_segmentation_channels"])
    if arch == "fpn" and head is not None and width is not None and head.ndim == 4 and width.ndim:
        found["decoder_merge_policy"] = "cat" if head.shape[1] == 4 * width.shape[0] else "add"
    if arch in ("unet", "unetplusplus") and any(".attention1.attention." in name for name in state):
        found["decoder_attention_type"] = "scse"
    for owner, place in (("deeplabv3", "decoder.aspp.convs.1.0"), ("deeplabv3plus", "decoder.aspp.0.convs.1.0")):
        if owner == arch and (f"{place}.0.weight" in state or f"{place}.weight" in state):
            found["decoder_aspp_separable"] = f"{place}.0.weight" in state
    place = _NORMALISED.get(arch, "")
    if f"{place}.0.bias" in state and f"{place}.1.weight" not in state:
        found["decoder_use_norm"] = False
    return found


def further_options(arch: str, options: DecoderOptions) -> Iterator[DecoderOptions]:
    """Yield the options of an architecture, one at a time, that only the encoder's tensors tell, or none do."""
    if "encoder_depth" not in options:
        yield from ({"encoder_depth": depth} for depth in _DEPTHS.get(arch, ()))
    if arch == "dpt" and "decoder_readout" not in options:
        yield from ({"decoder_readout": readout} for readout in ("add", "ignore"))


def with_upsampling(arch: str, options: DecoderOptions) -> DecoderOptions:
    """Add the upsampling that a depth needs for an output of the input's size, unless it is given."""
    depth = options.get("encoder_depth")
    if not isinstance(depth, int) or "upsampling" in options or arch not in ("fpn", "pspnet"):
        return options
    factor = 2**depth if arch == "pspnet" else 2 ** max(0, depth - 3)
    return options if factor == _defaults(arch)["upsampling"] else {**options, "upsampling": factor}


def untraced_options(arch: str, given: DecoderOptions) -> DecoderOptions:
    """Return the options that a network's tensors do not show and nobody gives, with the library's defaults."""
    defaults = _defaults(arch)
    return {name: _plain(defaults[name]) for name in _TRACELESS.get(arch, ()) if name not in given}


def _plain(value: JsonValue) -> JsonValue:
    return list(value) if isinstance(value, tuple) else value


def describe_options(options: DecoderOptions) -> str:
    """Write options as they are given on the command line, such as ``encoder_depth=4``.

    Example:
        >>> describe_options({"decoder_channels": [128, 64], "encoder_depth": 2})
        'decoder_channels=128,64 encoder_depth=2'
    """
    return " ".join(f"{n}={','.join(map(str, v)) if isinstance(v, list) else v}" for n, v in options.items())
