"""Detection of a network by its tensors: architecture, options of its decoder, encoder, outputs and bands."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from pydantic import JsonValue

from levelground.adoption.decoder_options import (
    DecoderOptions,
    describe_options,
    further_options,
    parse_decoder_options,
    read_decoder_options,
    untraced_options,
    with_upsampling,
)
from levelground.config import WeightsOptions
from levelground.console import say
from levelground.errors import ModelError, WeightsError
from levelground.models.build import arch_names, canonical_arch, create_network, smp
from levelground.models.checkpoints import (
    SAVE_LINE,
    FoundNetwork,
    StateDict,
    choose_network,
    find_networks,
    say_left_out,
)
from levelground.models.smp_backend import CONFIG_FILE, SmpConfig
from levelground.models.spec import ALIASES, IMAGENET_MEAN, IMAGENET_STD

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
    if tensors and all(name.isdecimal() for name in tensors):
        return (
            f"holds {len(tensors)} tensors without names, as list(model.parameters()) gives them. Save all: {SAVE_LINE}"
        )
    first = next(iter(tensors), "nothing")
    return (
        "no tensor segmentation_head.….weight, so this is not a network of segmentation_models_pytorch "
        f"(it holds {len(tensors)} tensors, the first {first}). Give the state dict of such a network, its own "
        "code with --arch FILE.py:FUNCTION, or its masks with --predictions."
    )


def _refuse_without_statistics(state: StateDict, network: tuple[str, str, DecoderOptions], *, source: str) -> None:
    """Refuse the parameters of a network without the running means and variances of its normalisation layers.

    Args:
        state: The state dict, without wrappers.
        network: Architecture, encoder and options of the decoder.
        source: The file's name.
    Raises:
        WeightsError: All else fits; nothing that could be computed from parameters stands for them.
    """
    if any(_STATISTICS.search(name) for name in state):
        return
    arch, encoder, options = network
    bands, n_outputs = count_bands(state, encoder), count_outputs(state, source=source)
    expected = expected_state(arch, encoder, options, bands=bands, n_outputs=n_outputs) or {}
    lacking = [name for name in expected if _STATISTICS.search(name)]
    if lacking and first_difference(state, expected, statistics=False) is None:
        raise WeightsError(
            f"{source}: holds the parameters of {arch} with encoder {encoder} and lacks the {len(lacking)} running "
            f"means and variances of its normalisation layers, the first {lacking[0]}: model.parameters() and "
            f"named_parameters() leave them out, and it cannot be run without. Save all: {SAVE_LINE}"
        )


_STATISTICS = re.compile(r"\.running_(mean|var)$")
"""Tensors of a normalisation that are not parameters."""


def warn_of_imagenet(tensors: StateDict, *, source: str) -> None:
    """Say where a file holds ImageNet's means and deviations beside the network, which is run on values 0 to 1."""
    held = [tensor.flatten().tolist() for name, tensor in tensors.items() if _MEAN_OR_STD.fullmatch(name)]
    found = [any(np.allclose(values, given, atol=2e-3) for values in held if len(values) == 3) for given in _IMAGENET]
    if all(found):
        say(
            "Warning: %(source)s: holds ImageNet's mean and std, and its inputs are taken as values 0 to 1. If its "
            "training normalised by them, pass --normalise imagenet.",
            source=source,
        )


_MEAN_OR_STD = re.compile(r"(.*\.)?(pixel_|image_|img_)?(mean|std)", re.IGNORECASE)
_IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)


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


def _complete_options(
    state: StateDict, arch: str, encoder: str, options: DecoderOptions, *, source: str
) -> DecoderOptions:
    """Complete the options of a decoder by those that architecture and encoder together tell.

    Args:
        state: The state dict, without wrappers.
        arch: The architecture.
        encoder: The encoder.
        options: What is given, and what the decoder's tensors show.
        source: The file's name.
    Returns:
        Those options with the encoder's depth, and with the upsampling that brings the output to the input's size; as
        they are where nothing fits.
    Raises:
        ModelError: Several values fit alike.
    """
    fits = _fitting_options(state, arch, encoder, options, source=source)
    if len(fits) > 1:
        shown = " or ".join(f"--decoder {describe_options(more)}" for more in fits)
        raise ModelError(f"{source}: its tensors fit several forms of {arch}. Say which it is: {shown}")
    return with_upsampling(arch, {**options, **(fits[0] if fits else {})})


def _fitting_options(
    state: StateDict, arch: str, encoder: str, options: DecoderOptions, *, source: str
) -> list[DecoderOptions]:
    """List the further options with which an encoder fits: none where it fits as it is, else those of one more."""
    bands, n_outputs = count_bands(state, encoder), count_outputs(state, source=source)
    found: list[DecoderOptions] = []
    for more in ({}, *further_options(arch, options)):
        expected = expected_state(arch, encoder, {**options, **more}, bands=bands, n_outputs=n_outputs)
        if expected is not None and first_difference(state, expected, statistics=False) is None:
            if not more:
                return [{}]
            found.append(more)
    return found


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
    # Files of parameters alone have no statistics: a network is told without them, and refused for that afterwards.
    found = {name for name in state if not name.startswith("encoder.") and not _STATISTICS.search(name)}
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
            f"network's masks with --predictions."
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
    others: set[object] = set()  # kinds of encoders that share no name with the tensors, as all of the kind do then
    for encoder in _encoders(source):
        kind = smp.encoders.encoders.get(encoder, {}).get("encoder")
        if kind in others:
            continue
        bands = count_bands(state, encoder)
        if _may_fit(state, encoder, bands) and _fitting_options(state, arch, encoder, options or {}, source=source):
            return encoder
        expected = _encoder_state(encoder)
        if kind and expected and not any(f"encoder.{name}" in state for name in expected):
            others.add(kind)
    raise ModelError(
        f"{source}: no encoder of segmentation_models_pytorch fits {arch}. Pass --encoder, such as tu-NAME, and "
        f"--decoder NAME=VALUE for each option that is not the default, such as --decoder encoder_depth=4."
    )


def detect_network(
    state: StateDict, beside: SmpConfig | None, options: WeightsOptions, *, source: str
) -> tuple[str, str, DecoderOptions]:
    """Tell architecture, encoder and options of the decoder: as given, else as beside, else by the tensors.

    Args:
        state: The state dict, without wrappers.
        beside: The configuration beside the weights.
        options: What is given.
        source: The file's name.
    Raises:
        WeightsError: The tensors are parameters alone.
        ModelError: Architecture, encoder or options cannot be told.
    """
    arch, encoder = None if options.arch is None else canonical_arch(options.arch), options.encoder
    if beside is not None and arch in (None, beside.arch) and encoder in (None, beside.encoder) and not options.decoder:
        what = _named(beside.arch, beside.encoder, beside.options)
        say("%(source)s: is %(what)s, by its %(config_file)s.", source=source, what=what, config_file=CONFIG_FILE)
        return beside.arch, beside.encoder, beside.options
    known = arch is not None and encoder is not None
    arch = detect_arch(state, source=source) if arch is None else arch
    decoder: DecoderOptions = {**read_decoder_options(state, arch), **parse_decoder_options(options.decoder, arch)}
    encoder = detect_encoder(state, arch, decoder, source=source) if encoder is None else encoder
    decoder = _complete_options(state, arch, encoder, decoder, source=source)
    _refuse_without_statistics(state, (arch, encoder, decoder), source=source)
    if not known:
        n, what = count_outputs(state, source=source), _named(arch, encoder, decoder)
        outputs = f"{n} outputs" if n > 1 else "1 output"
        values = {"source": source, "what": what, "outputs": outputs}
        say("%(source)s: taken for %(what)s and %(outputs)s, by its tensors.", **values)
    elif decoder and not options.decoder:
        say("%(source)s: has %(options)s, by its tensors.", source=source, options=describe_options(decoder))
    if unseen := untraced_options(arch, decoder):
        say(
            "%(source)s: its tensors do not show %(options)s, the library's defaults; or pass --decoder.",
            source=source,
            options=describe_options(unseen),
        )
    return arch, encoder, decoder


def _named(arch: str, encoder: str, options: DecoderOptions) -> str:
    return f"{arch} with encoder {encoder}" + (f", {describe_options(options)}" if options else "")


def first_difference(state: StateDict, expected: StateDict, *, statistics: bool = True) -> str | None:
    """Name the first tensor that is missing, has another shape or is not expected; ``None`` where all fit.

    Counters of seen batches may be missing: old files do not have them.

    Args:
        state: Tensors of a file.
        expected: Tensors of a network, by shape.
        statistics: Whether running means and variances must be there too.
    """
    for name, tensor in expected.items():
        if name not in state:
            if name.endswith("num_batches_tracked") or (not statistics and _STATISTICS.search(name)):
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
    return frozenset(name for name in state if not name.startswith("encoder.") and not _STATISTICS.search(name))


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
