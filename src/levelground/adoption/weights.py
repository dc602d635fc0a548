"""Weights of another tool -> a network with its normalisation and the meaning of its outputs."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import segmentation_models_pytorch as smp
import torch

from levelground.config import load_recipe
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, ModelError, WeightsError
from levelground.models.build import ALIASES, arch_names, build_model
from levelground.models.model import Model
from levelground.models.pretrained import IMAGENET_MEAN, IMAGENET_STD, State
from levelground.models.spec import dataset_spec, numbered_spec
from levelground.tile_geometry import TileGeometry

_WRAPPERS = ("module.", "model.", "network.", "_orig_mod.")  # data-parallel, Lightning, ours, torch.compile
_FIRST_TRIED = ("resnet18", "resnet34", "resnet50", "tu-tf_efficientnet_lite0", "mobilenet_v2")
_ENOUGH = 0.5
"""Share of decoder names in common from which an architecture is believed; the next best has at most a third."""


def unwrap(state: State) -> State:
    """Take away the prefixes that wrappers put before every name.

    Example:
        >>> list(unwrap({"module.model.encoder.a": torch.ones(1), "module.model.decoder.b": torch.ones(1)}))
        ['encoder.a', 'decoder.b']
    """
    for wrapper in _WRAPPERS:
        if state and all(name.startswith(wrapper) for name in state):
            return unwrap({name.removeprefix(wrapper): tensor for name, tensor in state.items()})
    return state


def count_outputs(state: State, *, source: str) -> int:
    """The number of classes that the last convolution of a state dict has.

    Raises:
        WeightsError: It has no segmentation head.
    """
    heads = [tensor for name, tensor in state.items() if re.fullmatch(r"segmentation_head\.\d+\.weight", name)]
    if not heads:
        raise WeightsError(
            f"{source}: no tensor segmentation_head.….weight, so this is no network of segmentation_models_pytorch. "
            "Give the state dict of such a network, or its masks with --predictions."
        )
    return int(heads[-1].shape[0])


def guess_arch(state: State, *, source: str) -> str:
    """Tell the architecture by the names of its decoder's tensors.

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
        expected = _state_names(arch)
        shares[arch] = len(found & expected) / max(1, len(found | expected))
    best = max(shares.values())
    fitting = [arch for arch in shares if shares[arch] == best]
    named = [arch for arch in _archs_in(source) if arch in fitting]
    if best < _ENOUGH:
        raise ModelError(
            f"{source}: its decoder is none of {', '.join(arch_names())}. Pass --arch if it is one, or adopt the "
            "network's masks with --predictions."
        )
    return (named or fitting)[0]


def guess_encoder(state: State, arch: str, *, source: str) -> str:
    """Tell the encoder by names and shapes of all tensors.

    Args:
        state: The state dict, without wrappers.
        arch: The architecture.
        source: The file's name; encoders named in it are tried first.
    Returns:
        The name in segmentation_models_pytorch.
    Raises:
        ModelError: None of those known fits.
    """
    first = state.get("encoder.conv1.weight")
    bands = int(first.shape[1]) if first is not None and first.ndim == 4 else 3
    n_outputs = count_outputs(state, source=source)
    for encoder in _encoders(source):
        if not _may_fit(state, encoder, bands):
            continue
        expected = expected_state(arch, encoder, bands=bands, n_outputs=n_outputs)
        if expected is not None and first_difference(state, expected) is None:
            return encoder
    raise ModelError(
        f"{source}: no encoder of segmentation_models_pytorch fits {arch}. Pass --encoder, such as tu-NAME."
    )


def first_difference(state: State, expected: State) -> str | None:
    """The first tensor that is missing, has another shape or is not expected; ``None`` where all fit.

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


def expected_state(arch: str, encoder: str, *, bands: int, n_outputs: int) -> State | None:
    """Names and shapes of a network's tensors; ``None`` where the two do not go together."""
    recipe = dataclasses.replace(load_recipe(), encoder=encoder, encoder_weights="none", normalise="none")
    for device in ("meta", "cpu"):  # some encoders compute with values while they are built
        try:
            with torch.device(device):
                spec = numbered_spec(arch, encoder, n_outputs=n_outputs, mean=[0.0] * bands, std=[1.0] * bands)
                model = build_model(spec, recipe, seed=0)
        except ModelError as error:
            if "meta tensors" not in str(error):
                break
        else:
            return model.network.state_dict()
    return None


def _state_names(arch: str) -> set[str]:
    """Names of all tensors outside the encoder, which hardly depend on it."""
    encoder = "tu-tf_efficientnet_lite0" if arch == "dpt" else "resnet18"
    state = expected_state(arch, encoder, bands=3, n_outputs=2) or {}
    return {name for name in state if not name.startswith("encoder.")}


def _may_fit(state: State, encoder: str, bands: int) -> bool:
    """Whether an encoder, built alone, which is quick, has all the encoder's tensors of a state dict."""
    try:
        with torch.device("meta"):
            expected = smp.encoders.get_encoder(encoder, in_channels=bands, weights=None).state_dict()
    except Exception:  # it cannot be built without values, or takes other arguments: the whole network will tell
        return True
    found = {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}
    return all(name in expected and expected[name].shape == tensor.shape for name, tensor in found.items())


def _archs_in(source: str) -> Iterator[str]:
    """Architectures named in a file's name, as words."""
    words = set(re.split(r"[^a-z0-9+]+", source.lower()))
    yield from (arch for arch in arch_names() if arch in words)
    yield from (arch for alias, arch in ALIASES.items() if alias in words)


def _encoders(source: str) -> list[str]:
    """Encoders to try: those in the file's name first, the longest first, then all that the library lists."""
    known = [*_FIRST_TRIED, *smp.encoders.get_encoder_names()]
    named = sorted((encoder for encoder in known if encoder in source.lower()), key=len, reverse=True)
    return list(dict.fromkeys([*named, *known]))


Normalisation = Literal["none", "imagenet", "data"]
"""How inputs were normalised in training: values 0 to 1, ImageNet's means, or the training scenes' means."""


def fitted_model(
    state: State,
    dataset: Dataset,
    arch: str,
    encoder: str,
    outputs: Sequence[int],
    normalise: Normalisation,
    *,
    source: str,
) -> Model:
    """Build the network that weights belong to and load them.

    Raises:
        WeightsError: The first tensor that differs is named.
        ModelError: There is no such network.
        ConfigError: ``imagenet`` for other than three bands of 8 bits.
    """
    recipe = dataclasses.replace(load_recipe(), encoder=encoder, encoder_weights="none", normalise="none")
    geometry = TileGeometry(recipe.tile, recipe.halo)
    spec = dataset_spec(dataset, arch, encoder, outputs, name=source, geometry=geometry)
    model = build_model(spec, recipe, seed=0)
    expected = model.network.state_dict()
    difference = first_difference(state, expected)
    if difference is not None:
        raise WeightsError(
            f"{source}: does not fit {model.spec.arch} with encoder {encoder} for {dataset.bands} bands and "
            f"{len(outputs)} outputs: {difference}. Pass the --arch and --encoder that it was trained with."
        )
    model.network.load_state_dict(expected | state)
    if normalise == "none":
        return model
    mean, std = dataset.mean, dataset.std
    if normalise == "imagenet":
        if dataset.bands != 3 or dataset.dtype != "uint8":
            raise ConfigError(
                f"--normalise imagenet: its means are for 3 bands of uint8, the scenes have {dataset.bands} of "
                f"{dataset.dtype}. Pass --normalise data or none."
            )
        mean, std = (tuple(255 * value for value in values) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return dataclasses.replace(model, spec=dataclasses.replace(model.spec, mean=mean, std=std))


def output_indices(dataset: Dataset, n: int, outputs: Sequence[int], *, source: str) -> tuple[int, ...]:
    """The legend index of each of ``n`` outputs.

    Raises:
        ConfigError: Their number fits neither all classes nor the counted ones and nobody said which they are, or what
            was said is no list of ``n`` different classes.
    """
    k, counted = dataset.legend.n_classes, np.flatnonzero(dataset.legend.counted).tolist()
    if outputs:
        if len(outputs) != n or len(set(outputs)) != n or not all(0 <= index < k for index in outputs):
            given = " ".join(map(str, outputs))
            raise ConfigError(
                f"--outputs {given}: expected {n} different class indices from 0 to {k - 1}, one an output."
            )
        return tuple(outputs)
    if n == k:
        return tuple(range(k))
    if n == len(counted):
        return tuple(counted)
    raise ConfigError(
        f"{source}: has {n} outputs, the legend {dataset.legend.name!r} has {k} classes, "
        f"{len(counted)} of them counted. Say which class each output is: --outputs 0 1 …"
    )
