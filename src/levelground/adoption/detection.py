"""Detection of a network by its tensors: architecture, options of its decoder, encoder, outputs and bands."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import segmentation_models_pytorch as smp
import torch
from pydantic import JsonValue

from levelground.console import say
from levelground.errors import ConfigError, ModelError, WeightsError
from levelground.models.build import arch_names, create_network
from levelground.models.checkpoints import FoundNetwork, StateDict, choose_network, find_networks, say_left_out
from levelground.models.spec import ALIASES

DecoderOptions = Mapping[str, JsonValue]
"""Options of an architecture that differ from its defaults, under segmentation_models_pytorch's names."""

_FIRST_TRIED = ("resnet18", "resnet34", "resnet50", "tu-tf_efficientnet_lite0", "mobilenet_v2")


_ENOUGH = 0.5
"""Share of decoder names in common from which an architecture is accepted; the next best has at most a third."""


_HEAD = r"segmentation_head\.(?:head\.)?\d+\.weight"
"""Pattern of the convolutions of a head; DPT has several in one."""

_NOT_NETWORK = re.compile(
    r"(mean|std|pixel_mean|pixel_std|.*(loss|criterion|metric|confmat|confusion)[^.]*)(\..*)?", re.IGNORECASE
)
"""Names of tensors beside a network's that its output does not depend on: losses, metrics, normalisation."""


def extract_network(tensors: StateDict, part: str | None, *, source: str) -> StateDict:
    """Extract the state dict of a network of segmentation_models_pytorch from all tensors of a file.

    Args:
        tensors: All tensors by their place.
        part: Which of several networks, by its place; ``None`` where there is one, or all have the same values.
        source: The file's name.
    Returns:
        The state dict under the network's own names. What is left out is said.
    Raises:
        WeightsError: There is no such network, or several and none is chosen.
    """
    tensors = {_unwrapped(name): tensor for name, tensor in tensors.items()}
    found = [one for one in find_networks(tensors, _HEAD) if any(name.startswith("encoder.") for name in one.state)]
    if not found:
        raise WeightsError(f"{source}: {_describe_foreign(tensors)}")
    taken = choose_network(_complete(found), part, source=source)
    say_left_out(tensors, taken, source=source)
    return _without_extras(taken, source)


_WRAPPERS = re.compile(r"_(?:orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module|forward_module)\.")
"""Parts of names that torch.compile, sharding and checkpointing put before a part of a network."""

_INSIDE = re.compile(r"((?:^|.*?\.)(?:encoder|decoder|segmentation_head)\.)(?:module\.)?(.*)")
"""A name up to a network's part, the wrapper of a DataParallel, and the rest."""


def _unwrapped(name: str) -> str:
    """Return a tensor's name without what wraps parts inside the network; before the network lies its place.

    Example:
        >>> _unwrapped("_orig_mod.encoder._orig_mod.conv1.weight"), _unwrapped("segmentation_head.module.0.weight")
        ('_orig_mod.encoder.conv1.weight', 'segmentation_head.0.weight')
    """
    inside = _INSIDE.fullmatch(name)
    return name if inside is None else inside[1] + _WRAPPERS.sub("", inside[2])


_EXPORT = "Export it as ONNX and adopt that file, or adopt its masks with --predictions."

_FOREIGN = (
    (
        r"(.*\.)?decode_head\.conv_seg\.weight",
        "is a network of mmsegmentation, not of segmentation_models_pytorch",
        _EXPORT,
    ),
    (
        r"(.*\.)?(decode_head\.classifier\.weight|pixel_level_module\..*|segformer\.encoder\..*)",
        "is a network of transformers, not of segmentation_models_pytorch",
        "Give --arch hf:FOLDER, the folder with its config.json.",
    ),
    (
        r"(.*\.)?model\.\d+\.(cv1\.)?conv\.weight",
        "is a network of ultralytics, not of segmentation_models_pytorch",
        _EXPORT,
    ),
    (
        r"(.*\.)?decoder\.seg_layers\.\d+\.weight",
        "is a network of nnU-Net, not of segmentation_models_pytorch",
        _EXPORT,
    ),
    (
        r"(.*\.)?classifier\.(\d+\.)?(weight|low_classifier\.weight|high_classifier\.weight)",
        "is a network of torchvision, not of segmentation_models_pytorch",
        "Give the code that makes it: --arch FILE.py:FUNCTION.",
    ),
    (
        r"(encoder\.|model\.)?(layer1\.0\.conv1|blocks\.0\..*|features\.0\..*|stages?_?0\..*)\.?weight",
        "holds an encoder alone, without a decoder",
        "Train from it: levelground train STUDY --arch unet --encoder NAME --encoder-weights FILE.",
    ),
)
"""Name of a tensor -> whose network it is of, and what to do; the first that fits."""


def _describe_foreign(tensors: StateDict) -> str:
    """Say what tensors are of that are not a network of segmentation_models_pytorch, and what to do."""
    for pattern, what, remedy in _FOREIGN:
        if any(re.fullmatch(pattern, name) for name in tensors):
            return f"{what}. {remedy}"
    first = next(iter(tensors), "nothing")
    return (
        "no tensor segmentation_head.….weight, so this is not a network of segmentation_models_pytorch "
        f"(it holds {len(tensors)} tensors, the first {first}). Give the state dict of such a network, its own "
        "code with --arch FILE.py:FUNCTION, or its masks with --predictions."
    )


def _without_buffers(state: StateDict) -> str:
    """Say that a network's tensors may be its parameters alone; nothing where they hold buffers."""
    normalised = any(re.search(r"(bn|norm)\d*\.weight$", name) for name in state)
    if not normalised or any(name.endswith("running_mean") for name in state):
        return ""
    return " It holds no running_mean: if it was saved from model.parameters(), save model.state_dict() instead."


def _complete(found: Sequence[FoundNetwork]) -> list[FoundNetwork]:
    """Leave out places that lie inside another network's."""
    return [
        one
        for one in found
        if not any(other is not one and one.place.startswith(f"{other.place}.") for other in found if other.place)
    ]


def _without_extras(taken: FoundNetwork, source: str) -> StateDict:
    """Leave out what the mask does not depend on: the head of whole images, losses, metrics, normalisation."""
    extras = {name for name in taken.state if name.startswith("classification_head.") or _NOT_NETWORK.fullmatch(name)}
    if extras:
        heads = dict.fromkeys(name.split(".")[0] for name in taken.state if name in extras)
        say("%(source)s: left out of the network: %(heads)s.", source=source, heads=", ".join(heads))
    return {name: tensor for name, tensor in taken.state.items() if name not in extras}


def count_outputs(state: StateDict, *, source: str) -> int:
    """Count the outputs of the last convolution of a state dict.

    Raises:
        WeightsError: It has no segmentation head.
    """
    heads = [tensor for name, tensor in state.items() if re.fullmatch(_HEAD, name)]
    if not heads or heads[-1].ndim == 0 or not heads[-1].shape[0]:
        raise WeightsError(
            f"{source}: no tensor segmentation_head.….weight, so this is not a network of segmentation_models_pytorch. "
            "Give the state dict of such a network, or its masks with --predictions."
        )
    return int(heads[-1].shape[0])


def count_bands(state: StateDict, encoder: str) -> int:
    """Count the bands that an encoder's first convolution reads in a state dict; 3 where it has no such tensor."""
    expected = _encoder_state(encoder)
    first = next((name for name, tensor in expected.items() if tensor.ndim == 4), None)
    tensor = state.get(f"encoder.{first}")
    return int(tensor.shape[1]) if tensor is not None and tensor.ndim == 4 else 3


@lru_cache(maxsize=512)
def _encoder_state(encoder: str, bands: int = 3) -> StateDict:
    """Return names and shapes of an encoder built alone, which is quick; nothing where it needs values or arguments."""
    try:
        with torch.device("meta"):
            return dict(smp.encoders.get_encoder(encoder, in_channels=bands, weights=None).state_dict())
    except Exception:  # it cannot be built without values, or takes other arguments: the whole network will tell
        return {}


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
    return int(text) if re.fullmatch(r"\d+", text) else float(text) if re.fullmatch(r"\d*\.\d+", text) else text


def _defaults(arch: str) -> dict[str, JsonValue]:
    """Return the options of an architecture with their defaults."""
    others = ("self", "kwargs", "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params")
    parameters = inspect.signature(smp.MODEL_ARCHITECTURES_MAPPING[arch].__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name not in others}


_SEGMENTATION = "decoder_segmentation_channels"
_WIDTHS = {
    ("fpn", "decoder_pyramid_channels"): "decoder.p5.weight",
    ("fpn", _SEGMENTATION): "decoder.seg_blocks.0.block.0.block.0.weight",
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

_BLOCKS = {"unet": r"(\d+)", "unetplusplus": r"x_0_(\d+)", "manet": r"(\d+)"}
"""Architecture -> names of the blocks whose widths are ``decoder_channels``."""


def read_decoder_options(state: StateDict, arch: str) -> DecoderOptions:
    """Read the options of a decoder from its tensors, as if it were of an architecture; only those not the defaults."""
    found: dict[str, JsonValue] = {}
    for (owner, option), name in _WIDTHS.items():
        if owner == arch and name in state:
            found[option] = int(state[name].shape[0])
    if arch in _BLOCKS:
        pattern = re.compile(rf"decoder\.blocks\.{_BLOCKS[arch]}\.conv2\.0\.weight")
        widths = {int(m[1]): int(t.shape[0]) for name, t in state.items() if (m := pattern.fullmatch(name))}
        if widths:
            found["decoder_channels"] = [widths[number] for number in sorted(widths)]
            found["encoder_depth"] = len(widths)
    head = state.get("segmentation_head.0.weight")
    if (
        arch == "fpn"
        and head is not None
        and head.ndim == 4
        and head.shape[1] == 4 * int(str(found.get(_SEGMENTATION, 0))) > 0
    ):
        found["decoder_merge_policy"] = "cat"
    if arch == "linknet":
        blocks = {name.split(".")[2] for name in state if name.startswith("decoder.blocks.")}
        found |= {"encoder_depth": len(blocks)} if blocks else {}
    decoder = [name for name in state if name.startswith("decoder.")]
    defaults = _defaults(arch)
    if "decoder_attention_type" in defaults and any(".attention1.attention." in name for name in decoder):
        found["decoder_attention_type"] = "scse"
    norms = [name for name in decoder if name.endswith(".running_mean") and ".attention." not in name]
    if "decoder_use_norm" in defaults and decoder and not norms:
        found["decoder_use_norm"] = False
    return {name: value for name, value in found.items() if value != _plain(defaults[name])}


def _plain(value: JsonValue) -> JsonValue:
    return list(value) if isinstance(value, tuple) else value


def describe_options(options: DecoderOptions) -> str:
    """Write options as they are given on the command line, such as ``encoder_depth=4``.

    Example:
        >>> describe_options({"decoder_channels": [128, 64], "encoder_depth": 2})
        'decoder_channels=128,64 encoder_depth=2'
    """
    return " ".join(f"{n}={','.join(map(str, v)) if isinstance(v, list) else v}" for n, v in options.items())


def detect_arch(state: StateDict, *, source: str) -> str:
    """Detect the architecture by the names of its decoder's tensors.

    Args:
        state: The state dict, without wrappers.
        source: The file's name; it decides between architectures that fit equally well.
    Returns:
        The name in segmentation_models_pytorch.
    Raises:
        ModelError: None fits.
    """
    found = {name for name in state if not name.startswith("encoder.")}
    shares = {}
    for arch in arch_names():
        options = read_decoder_options(state, arch)
        expected = _state_names(
            arch, tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in options.items())
        )
        shares[arch] = len(found & expected) / max(1, len(found | expected))
    best = max(shares.values())
    fitting = [arch for arch in shares if shares[arch] == best]
    named = [arch for arch in _archs_in(source) if arch in fitting]
    if best < _ENOUGH:
        raise ModelError(
            f"{source}: its decoder is none of {', '.join(arch_names())}. Pass --arch if it is one, or adopt the "
            f"network's masks with --predictions.{_without_buffers(state)}"
        )
    return (named or fitting)[0]


def detect_encoder(state: StateDict, arch: str, options: DecoderOptions | None = None, *, source: str) -> str:
    """Detect the encoder by names and shapes of all tensors.

    Args:
        state: The state dict, without wrappers.
        arch: The architecture.
        options: Those of its decoder that are not the defaults.
        source: The file's name; encoders named in it are tried first.
    Returns:
        The name in segmentation_models_pytorch.
    Raises:
        ModelError: None of those known fits.
    """
    n_outputs = count_outputs(state, source=source)
    for encoder in _encoders(source):
        bands = count_bands(state, encoder)
        if not _may_fit(state, encoder, bands):
            continue
        expected = expected_state(arch, encoder, options, bands=bands, n_outputs=n_outputs)
        if expected is not None and first_difference(state, expected) is None:
            return encoder
    raise ModelError(
        f"{source}: no encoder of segmentation_models_pytorch fits {arch}. Pass --encoder, such as tu-NAME, and "
        f"--decoder NAME=VALUE for each option that is not the default, such as --decoder encoder_depth=4."
        f"{_without_buffers(state)}"
    )


def first_difference(state: StateDict, expected: StateDict) -> str | None:
    """Name the first tensor that is missing, has another shape or is not expected; ``None`` where all fit.

    Counters of seen batches may be missing: old files do not have them.
    """
    for name, tensor in expected.items():
        if name not in state:
            if name.endswith("num_batches_tracked"):
                continue
            return f"{name} is missing"
        if state[name].shape != tensor.shape:
            return f"{name} is {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
    extra = next((name for name in state if name not in expected), None)
    return None if extra is None else f"{extra} is not expected"


def expected_state(
    arch: str, encoder: str, options: DecoderOptions | None = None, *, bands: int, n_outputs: int
) -> StateDict | None:
    """Return names and shapes of a network's tensors; ``None`` where architecture and encoder do not go together."""
    for device in ("meta", "cpu"):  # some encoders compute with values while they are built
        try:
            with torch.device(device):
                return create_network(arch, encoder, bands, n_outputs, options).state_dict()
        except ModelError as error:
            if "meta tensor" not in str(error):
                break
    return None


@lru_cache(maxsize=256)
def _state_names(arch: str, options: tuple[tuple[str, JsonValue | tuple[JsonValue, ...]], ...]) -> frozenset[str]:
    """Return the names of all tensors outside the encoder, which hardly depend on it."""
    encoder = "tu-tf_efficientnet_lite0" if arch == "dpt" else "resnet18"
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in options}
    state = expected_state(arch, encoder, given, bands=3, n_outputs=2) or {}
    return frozenset(name for name in state if not name.startswith("encoder."))


def _may_fit(state: StateDict, encoder: str, bands: int) -> bool:
    """Tell whether an encoder has all the encoder's tensors of a state dict."""
    expected = _encoder_state(encoder, bands)
    found = {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}
    return not expected or all(n in expected and expected[n].shape == tensor.shape for n, tensor in found.items())


def _archs_in(source: str) -> Iterator[str]:
    """Find architectures that a file's name has as words."""
    words = set(re.split(r"[^a-z0-9+]+", source.lower()))
    yield from (arch for arch in arch_names() if arch in words)
    yield from (arch for alias, arch in ALIASES.items() if alias in words)


def _encoders(source: str) -> list[str]:
    """List encoders to try: those in the file's name first, the longest first, then the library's."""
    known = [*_FIRST_TRIED, *smp.encoders.get_encoder_names()]
    named = sorted((encoder for encoder in known if encoder in source.lower()), key=len, reverse=True)
    return list(dict.fromkeys([*named, *known]))
