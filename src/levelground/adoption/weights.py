"""Adoption of weights that another tool trained: architecture detection, normalisation, outputs, run card."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch

from levelground.adoption.adopted_runs import UNNAMED, TrainingName, adopted_card, find_adopted, warn_of_same_seed
from levelground.adoption.histories import read_history_file
from levelground.config import Normalisation, WeightsOptions
from levelground.console import say
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, ModelError, WeightsError
from levelground.history import append_history, truncate_history
from levelground.models.build import ALIASES, arch_names, build_model, canonical_arch, measure_size
from levelground.models.model import Model
from levelground.models.pretrained import IMAGENET_MEAN, IMAGENET_STD, StateDict, read_state
from levelground.models.smp_backend import WEIGHTS_FILE, save_model
from levelground.models.spec import ModelSpec, dataset_spec, numbered_spec
from levelground.recipe_files import load_recipe
from levelground.records import sha256_file, sha256_json
from levelground.runs import AdoptionRecord, ParametersRecord, Run, RunCard, run_name, write_card
from levelground.tile_geometry import TileGeometry

_WRAPPERS = ("module.", "model.", "network.", "_orig_mod.")  # data-parallel, Lightning, ours, torch.compile


_FIRST_TRIED = ("resnet18", "resnet34", "resnet50", "tu-tf_efficientnet_lite0", "mobilenet_v2")


_ENOUGH = 0.5
"""Share of decoder names in common from which an architecture is accepted; the next best has at most a third."""


def adopt_weights(weights: Path, dataset: Dataset, options: WeightsOptions, training: TrainingName = UNNAMED) -> Run:
    """Adopt a network's weights as a run, which is evaluated afterwards like any other.

    Args:
        weights: A state dict (``.pth``, read without running code from it) or ``.safetensors``.
        dataset: The scenes that it will be evaluated on; the run lies in the ``runs/`` beside.
        options: Architecture, encoder, outputs and normalisation, as far as they are known.
        training: Its names, and the seed that it was trained with, as far as they are known.
    Returns:
        The run.
    Raises:
        WeightsError: The weights do not fit; the message names the first tensor that differs.
        ModelError: Architecture or encoder are unknown, or cannot be detected.
        ConfigError: The number of classes does not fit, or the name is taken.
        DataError: The history is unreadable.
    """
    lines, metadata = read_history_file(options.history) if options.history else ([], None)
    model = _load(weights, dataset, options)
    spec = model.spec
    identity = sha256_json([sha256_file(weights), spec.arch, spec.encoder, spec.outputs, spec.mean, spec.std])
    label = training.folder_name(run_name(spec.arch, spec.encoder, 0).removesuffix("-s0") + "-adopted")
    folder, found = find_adopted(dataset, label, identity)
    if found is None or not _holds_weights(found):
        save_model(model, folder / "model")
    origin = AdoptionRecord(weights=weights.name, normalise=options.normalise, metadata=metadata)
    card = _card(adopted_card(dataset, label, identity, training), model, origin)
    if found is not None:  # the same weights: what evaluations wrote onto the card stays
        old = found.card
        card = dataclasses.replace(card, evaluations=old.evaluations, tile=old.tile, halo=old.halo, speed=old.speed)
    card = dataclasses.replace(card, weights_sha256=sha256_file(folder / "model" / WEIGHTS_FILE))
    run = write_card(folder, card)
    warn_of_same_seed(run)
    if lines:
        truncate_history(folder, 0)
        append_history(folder, lines)
    return run


def _holds_weights(run: Run) -> bool:
    """Tell whether a run that was adopted before has its weights, unchanged."""
    path = run.model_folder / WEIGHTS_FILE
    return path.is_file() and run.card.weights_sha256 in (None, sha256_file(path))


def _load(weights: Path, dataset: Dataset, options: WeightsOptions) -> Model:
    """Load weights into the network that they belong to, detected where the options do not name it."""
    state, source = unwrap(read_state(weights)), weights.name
    n = count_outputs(state, source=source)
    if options.classes not in (None, n):
        raise ConfigError(f"--classes {options.classes}: {source} has {n} outputs. Pass --classes {n}.")
    outputs = output_indices(dataset, n, options.outputs, source=source)
    arch, encoder = options.arch, options.encoder
    if arch is None or encoder is None:
        arch = detect_arch(state, source=source) if arch is None else canonical_arch(arch)
        encoder = detect_encoder(state, arch, source=source) if encoder is None else encoder
        say(f"{source}: taken for {arch} with encoder {encoder} and {n} outputs, by its tensors.")
    model = fitted_model(state, dataset, arch, encoder, outputs, source=source)
    return dataclasses.replace(model, spec=normalise_inputs(model.spec, dataset, options.normalise))


def _card(card: RunCard, model: Model, origin: AdoptionRecord) -> RunCard:
    """Complete the card of an adopted run by what is known of its network."""
    spec, size = model.spec, measure_size(model)
    return dataclasses.replace(
        card,
        arch=spec.arch,
        encoder=spec.encoder,
        outputs=spec.outputs,
        in_channels=spec.bands,
        mean=spec.mean,
        std=spec.std,
        parameters=ParametersRecord(total=size.total, used=size.used),
        macs_per_megapixel=size.macs_per_megapixel,
        adopted_from=origin,
    )


def unwrap(state: StateDict) -> StateDict:
    """Remove the prefixes that wrappers put before every name.

    Example:
        >>> list(unwrap({"module.model.encoder.a": torch.ones(1), "module.model.decoder.b": torch.ones(1)}))
        ['encoder.a', 'decoder.b']
    """
    for wrapper in _WRAPPERS:
        if state and all(name.startswith(wrapper) for name in state):
            return unwrap({name.removeprefix(wrapper): tensor for name, tensor in state.items()})
    return state


def count_outputs(state: StateDict, *, source: str) -> int:
    """Count the classes of the last convolution of a state dict.

    Raises:
        WeightsError: It has no segmentation head.
    """
    heads = [tensor for name, tensor in state.items() if re.fullmatch(r"segmentation_head\.\d+\.weight", name)]
    if not heads:
        raise WeightsError(
            f"{source}: no tensor segmentation_head.….weight, so this is not a network of segmentation_models_pytorch. "
            "Give the state dict of such a network, or its masks with --predictions."
        )
    return int(heads[-1].shape[0])


def output_indices(dataset: Dataset, n: int, outputs: Sequence[int], *, source: str) -> tuple[int, ...]:
    """Return the legend index of each of ``n`` outputs.

    Raises:
        ConfigError: Their number fits neither all classes nor the counted ones and none are given, or those given are
            not ``n`` different classes.
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


def detect_encoder(state: StateDict, arch: str, *, source: str) -> str:
    """Detect the encoder by names and shapes of all tensors.

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


def expected_state(arch: str, encoder: str, *, bands: int, n_outputs: int) -> StateDict | None:
    """Return names and shapes of a network's tensors; ``None`` where architecture and encoder do not go together."""
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
    """Return the names of all tensors outside the encoder, which hardly depend on it."""
    encoder = "tu-tf_efficientnet_lite0" if arch == "dpt" else "resnet18"
    state = expected_state(arch, encoder, bands=3, n_outputs=2) or {}
    return {name for name in state if not name.startswith("encoder.")}


def _may_fit(state: StateDict, encoder: str, bands: int) -> bool:
    """Tell whether an encoder, built alone, which is quick, has all the encoder's tensors of a state dict."""
    try:
        with torch.device("meta"):
            expected = smp.encoders.get_encoder(encoder, in_channels=bands, weights=None).state_dict()
    except Exception:  # it cannot be built without values, or takes other arguments: the whole network will tell
        return True
    found = {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}
    return all(name in expected and expected[name].shape == tensor.shape for name, tensor in found.items())


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


def fitted_model(
    state: StateDict,
    dataset: Dataset,
    arch: str,
    encoder: str,
    outputs: Sequence[int],
    *,
    source: str,
) -> Model:
    """Build the network that weights belong to and load them; its inputs are values 0 to 1.

    Args:
        state: The state dict, without wrappers.
        dataset: Gives bands, type and legend.
        arch: Architecture.
        encoder: Encoder.
        outputs: Legend index of each output.
        source: The file's name, for the error.
    Raises:
        WeightsError: The first tensor that differs is named.
        ModelError: There is no such network.
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
    return model


def normalise_inputs(spec: ModelSpec, dataset: Dataset, normalise: Normalisation) -> ModelSpec:
    """Give a model of values 0 to 1 the mean and deviation that its inputs were normalised by.

    Raises:
        ConfigError: ``imagenet`` for other than three bands of 8 bits.
    """
    if normalise == "none":
        return spec
    if normalise == "data":
        return dataclasses.replace(spec, mean=dataset.mean, std=dataset.std)
    if dataset.bands != 3 or dataset.dtype != "uint8":
        raise ConfigError(
            f"--normalise imagenet: its means are for 3 bands of uint8, the scenes have {dataset.bands} of "
            f"{dataset.dtype}. Pass --normalise data or none."
        )
    mean, std = (tuple(255 * value for value in values) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return dataclasses.replace(spec, mean=mean, std=std)
