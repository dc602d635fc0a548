"""Adoption of networks that another tool trained: their weights, or whole networks in ONNX and TorchScript.

Of bare weights, architecture and encoder are detected; a whole network is run as it is.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from levelground.adoption.adopted_runs import (
    UNNAMED,
    TrainingName,
    adopted_card,
    clean_name,
    find_adopted,
    joined_history,
    match_outputs,
    named_spec,
    network_card,
    normalise_inputs,
    write_adopted,
)
from levelground.adoption.decoder_options import DecoderOptions
from levelground.adoption.detection import (
    count_bands,
    count_outputs,
    detect_network,
    extract_network,
    first_difference,
    warn_of_imagenet,
)
from levelground.adoption.histories import read_history_file
from levelground.config import Normalisation, WeightsOptions
from levelground.console import say
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, ModelError, WeightsError
from levelground.models.build import create_network, measure_size
from levelground.models.checkpoints import WEIGHTS_FILE, StateDict, program_kind, read_state, weights_sha256
from levelground.models.model import Model
from levelground.models.onnx_backend import exported_spec
from levelground.models.own_networks import (
    OWN_ENCODER,
    OwnNetwork,
    TwoClasses,
    is_own,
    make_own,
    name_network,
    name_saved,
    where_named,
)  # fmt: skip
from levelground.models.pretrained import check_finite, fit_state
from levelground.models.programs import OpenedProgram, copy_program, open_program
from levelground.models.smp_backend import (
    CONFIG_FILE,
    SmpConfig,
    fit_transformers,
    read_smp_config,
    read_transformers,
    save_model,
    weights_file,
    weights_folder,
)
from levelground.models.spec import (
    ONNX_FILE,
    SCRIPT_FILE,
    SPEC_FILE,
    ModelSpec,
    dataset_spec,
    full_scale,
    read_model_spec,
    read_spec,
)
from levelground.recipe_files import load_recipe
from levelground.records import sha256_file, sha256_json
from levelground.runs import AdoptionRecord, ParametersRecord, Run, read_run, run_name
from levelground.runtime import make_runtime
from levelground.tile_geometry import TileGeometry


def adopt_weights(weights: Path, dataset: Dataset, options: WeightsOptions, training: TrainingName = UNNAMED) -> Run:
    """Adopt a network's weights as a run, which is evaluated afterwards like any other.

    Args:
        weights: A state dict (``.pth``, read without running code from it), ``.safetensors``, or a folder with either.
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
    spec, chosen = model.spec, [*options.decoder, *([options.part] if options.part else [])]
    identity = sha256_json(
        [weights_sha256(weights_file(weights)), spec.arch, spec.encoder, spec.outputs, spec.mean, spec.std, *chosen]
    )
    label = training.folder_name(run_name(spec.arch, spec.encoder, 0).removesuffix("-s0") + "-adopted")
    folder, found = find_adopted(dataset, label, identity)
    if found is None or not _holds_weights(found):
        save_model(model, folder / "model")
    metadata = joined_history(folder, metadata)
    origin = AdoptionRecord(weights=weights.resolve().name, normalise=options.normalise or "none", metadata=metadata)
    size, network = measure_size(model), model.network
    card = dataclasses.replace(
        network_card(adopted_card(dataset, label, identity, training), spec, origin),
        parameters=ParametersRecord(total=size.total, used=size.used),
        macs_per_megapixel=size.macs_per_megapixel,
        code_sha256=network.arch.code_sha256 if isinstance(network, OwnNetwork) else None,
        weights_sha256=sha256_file(folder / "model" / WEIGHTS_FILE),
    )
    return write_adopted(folder, card, found, lines)


def _holds_weights(run: Run) -> bool:
    """Tell whether a run that was adopted before has its weights, unchanged."""
    path = run.model_folder / WEIGHTS_FILE
    return path.is_file() and run.card.weights_sha256 in (None, sha256_file(path))


@dataclass(frozen=True)
class FoundWeights:
    """Weights of a network of segmentation_models_pytorch, and what their file or folder says of it."""

    source: str
    """The file's name."""
    state: StateDict
    """Tensors under the network's own names."""
    arch: str
    encoder: str
    options: DecoderOptions
    """Options of the decoder that are not the defaults."""
    beside: SmpConfig | None
    """The configuration beside the weights."""
    own: ModelSpec | None
    """The specification beside the weights, where levelground wrote them."""


def find_weights(weights: Path, options: WeightsOptions) -> FoundWeights:
    """Read weights of a network of segmentation_models_pytorch, and tell which network it is.

    Args:
        weights: A file of weights, a folder with one, or a run folder.
        options: Architecture, encoder, options of the decoder and part of the file, as far as they are known.
    Raises:
        WeightsError: It holds no such network, or values that are not numbers.
        ModelError: Architecture or encoder cannot be detected.
    """
    folder, source = weights_folder(weights), weights.name or str(weights.resolve().name)
    beside = read_smp_config(folder) if folder is not None else None
    own = own_spec(weights)
    tensors = read_state(weights_file(weights))
    state = extract_network(tensors, options.part, source=source)
    check_finite(state, source)
    arch, encoder, decoder = detect_network(state, beside, options, source=source)
    if options.normalise is None and own is None:
        warn_of_imagenet(tensors, source=source)
    return FoundWeights(source, state, arch, encoder, decoder, beside, own)


def _load(weights: Path, dataset: Dataset, options: WeightsOptions) -> Model:
    """Load weights into the network that they belong to, detected where neither options nor folder name it."""
    arch = _own_arch(weights) if options.arch is None else options.arch
    if arch is not None and is_own(arch):
        return _load_own(weights, dataset, options, arch)
    found = find_weights(weights, options)
    source, n = found.source, count_outputs(found.state, source=found.source)
    if options.classes not in (None, n):
        raise ConfigError(f"--classes {options.classes}: {source} has {n} outputs. Pass --classes {n}.")
    outputs = match_outputs(dataset, found.own, n, options.outputs, source=source)
    detected = found.arch, found.encoder, found.options
    model = fitted_model(found.state, dataset, detected, outputs, source=source)
    _say_activation(found.beside, n, source)
    return dataclasses.replace(model, spec=_normalised(model.spec, found.own, dataset, options.normalise, source))


def _load_own(weights: Path, dataset: Dataset, options: WeightsOptions, arch: str) -> Model:
    """Load weights into a network that the user's own code makes.

    Raises:
        WeightsError: They do not fit for as many outputs as are given, as the legend has classes, or counted ones.
    """
    name, tensors, source = name_network(arch), read_state(weights_file(weights)), weights.resolve().name
    counted = int(np.count_nonzero(dataset.legend.counted))
    own, beside = own_spec(weights), read_transformers(Path(arch.removeprefix("hf:")))
    given = options.classes or len(options.outputs or (own.outputs if own else beside.names if beside else ()))
    problem: WeightsError | None = None
    for n in (given,) if given else dict.fromkeys((dataset.legend.n_classes, counted)):
        network = make_own(name, dataset.bands, n)
        try:
            state = _own_state(network.network, tensors, name, source)
        except WeightsError as error:
            problem = problem or error
            continue
        network.network.load_state_dict(state)
        names = beside.names if beside is not None and not beside.names[0].startswith("LABEL_") else ()
        described = own or (named_spec(names, dataset.bands) if names else None)
        outputs = match_outputs(dataset, described, n, options.outputs, source=source)
        recipe = load_recipe()
        geometry = TileGeometry(recipe.tile, recipe.halo)
        spec = dataset_spec(dataset, name, OWN_ENCODER, outputs, name=source, geometry=geometry)
        full = full_scale(spec.dtype)
        spec = dataclasses.replace(spec, mean=(0.0,) * spec.bands, std=(full,) * spec.bands)
        if options.normalise is None and own is None and beside is not None and len(beside.mean) == spec.bands:
            mean, std = (tuple(full * value for value in values) for values in (beside.mean, beside.std))
            spec = dataclasses.replace(spec, mean=mean, std=std)
            say("%(source)s: inputs are normalised as its preprocessor_config.json says.", source=source)
        spec = _normalised(spec, own, dataset, options.normalise, source)
        say("%(source)s: fits %(name)s (outputs: %(n)s).", source=source, name=name, n=n)
        return Model(spec, network, encoder_weights="none")
    raise WeightsError(f"{problem} Or pass --classes with the number of its outputs.") from problem


def _own_arch(weights: Path) -> str | None:
    """Return the architecture of a folder whose network is not of segmentation_models_pytorch, as it is named.

    Raises:
        ConfigError: The user's own code makes it, which is run only where it is named.
    """
    folder, own = weights_folder(weights), own_spec(weights)
    if folder is None or not weights.is_dir():
        return None
    if own is not None and is_own(own.arch):
        if own.arch.startswith("hf:"):
            name_saved(own.arch, folder)
        elif ":" in own.arch:
            raise ConfigError(
                f"{weights}: is {own.arch}, which is made only where you name it. Pass --arch {where_named(own.arch)}"
            )
        return own.arch
    if read_transformers(folder) is None:
        return None
    name = weights.resolve().name
    say("%(name)s: is a network of transformers, by its %(config_file)s.", name=name, config_file=CONFIG_FILE)
    return f"hf:{folder}"


def _own_state(network: nn.Module, tensors: StateDict, name: str, source: str) -> StateDict:
    """Return the tensors of a network of the user's own; those of transformers under its published names too."""
    try:
        return fit_state(tensors, network.state_dict(), source=source, part="network")
    except WeightsError:
        if not name.startswith("hf:"):
            raise
        state = fit_transformers(network, tensors, source=source)
        check_finite(state, source)
        return state


def own_spec(weights: Path) -> ModelSpec | None:
    """Read the specification beside weights that levelground wrote: its own file, or the card of the run around."""
    folder = weights_folder(weights)
    if folder is None:
        return None
    if (folder / SPEC_FILE).exists():
        return read_spec(folder / SPEC_FILE)
    if folder.name == "model" and (folder.parent / "run.json").exists():
        return read_model_spec(read_run(folder.parent))
    return None


def _say_activation(beside: SmpConfig | None, n: int, source: str) -> None:
    """Refuse outputs that do not exclude each other, as the configuration beside says.

    Raises:
        ModelError: Several outputs, each after a sigmoid of its own.
    """
    if beside is not None and beside.activation == "sigmoid" and n > 1:
        raise ModelError(
            f"{source}: {n} outputs after a sigmoid do not exclude each other. Adopt its masks with --predictions."
        )


def _normalised(
    spec: ModelSpec, own: ModelSpec | None, dataset: Dataset, normalise: Normalisation | None, source: str
) -> ModelSpec:
    """Normalise inputs as given, as the specification beside the weights says, or not at all."""
    if normalise is None and own is not None and own.bands == dataset.bands:
        say("%(source)s: inputs are normalised as its own description says.", source=source)
        return dataclasses.replace(spec, mean=own.mean, std=own.std)
    return normalise_inputs(spec, dataset, normalise or "none")


def fitted_model(
    state: StateDict,
    dataset: Dataset,
    network: tuple[str, str, DecoderOptions],
    outputs: Sequence[int],
    *,
    source: str,
) -> Model:
    """Build the network that weights belong to and load them; its inputs are values 0 to 1.

    Args:
        state: The state dict, without wrappers.
        dataset: Gives bands, type and legend.
        network: Architecture, encoder and options of the decoder.
        outputs: Legend index of each class; a network of one output has two.
        source: The file's name, for the error.
    Raises:
        WeightsError: The first tensor that differs is named.
        ModelError: There is no such network.
    """
    arch, encoder, options = network
    bands, n = count_bands(state, encoder), count_outputs(state, source=source)
    if bands != dataset.bands:
        raise WeightsError(
            f"{source}: reads {bands} bands, the scenes of {dataset.folder} have {dataset.bands}. Adopt it into a "
            f"study of images with {bands} bands."
        )
    built = create_network(arch, encoder, bands, n, options)
    expected = built.state_dict()
    difference = first_difference(state, expected)
    if difference is not None:
        raise WeightsError(
            f"{source}: does not fit {arch} with encoder {encoder} for {dataset.bands} bands and "
            f"{n} outputs: {difference}. Pass the --arch, --encoder and --decoder NAME=VALUE that it was trained with."
        )
    built.load_state_dict(expected | state)
    recipe = load_recipe()
    geometry = TileGeometry(recipe.tile, recipe.halo)
    spec = dataset_spec(dataset, arch, encoder, outputs, name=source, geometry=geometry)
    scale = (full_scale(spec.dtype),) * bands
    spec = dataclasses.replace(spec, mean=(0.0,) * bands, std=scale)
    return Model(spec, built if n > 1 else TwoClasses(built), encoder_weights="none")


def adopt_program(path: Path, dataset: Dataset, options: WeightsOptions, training: TrainingName) -> Run:
    """Adopt a whole network as a run, which is evaluated afterwards like any other.

    Args:
        path: An ONNX file or a TorchScript program.
        dataset: The scenes that it will be evaluated on; the run lies in the ``runs/`` beside.
        options: Outputs and normalisation, as far as they are known.
        training: Its names, and the seed that it was trained with, as far as they are known.
    Returns:
        The run.
    Raises:
        ModelError: It is not a segmentation network, or cannot be run.
        WeightsError: It is damaged, or reads other bands.
        ConfigError: The number of classes does not fit, the name is taken, or a flag describes bare weights.
    """
    _refuse_flags(options, path)
    kind, source = program_kind(path), path.name
    lines, metadata = read_history_file(options.history) if options.history else ([], None)
    if kind == "onnx":
        say("%(source)s: is a whole network in ONNX; onnxruntime runs it.", source=source)
    else:
        say(
            "%(source)s: is a whole network in TorchScript; torch runs that program, and no Python code of its author.",
            source=source,
        )
    # As many threads as there are: another number would change the last bits of what this process trains afterwards.
    opened = open_program(path, make_runtime("cpu", "fp32", threads=torch.get_num_threads()), dataset.bands)
    if opened.bands != dataset.bands:
        raise WeightsError(
            f"{source}: reads {opened.bands} bands, the scenes of {dataset.folder} have {dataset.bands}. Adopt it into "
            f"a study of images with {opened.bands} bands."
        )
    if options.classes not in (None, opened.n_outputs):
        raise ConfigError(
            f"--classes {options.classes}: {source} has {opened.n_outputs} outputs. Pass --classes {opened.n_outputs}."
        )
    outputs = match_outputs(dataset, _described(opened), opened.n_outputs, options.outputs, source=source)
    spec = _program_spec(opened, dataset, outputs, options, source)
    identity = sha256_json([sha256_file(path), kind, spec.outputs, spec.mean, spec.std])
    known = run_name(spec.arch, spec.encoder, 0).removesuffix("-s0") if opened.own else clean_name(path.stem)
    label = training.folder_name(f"{known}-adopted")
    folder, found = find_adopted(dataset, label, identity)
    target = folder / "model" / (ONNX_FILE if kind == "onnx" else SCRIPT_FILE)
    if found is None or found.card.weights_sha256 != (sha256_file(target) if target.exists() else None):
        copy_program(path, target)
    metadata = joined_history(folder, metadata)
    origin = AdoptionRecord(weights=source, normalise=options.normalise or "none", metadata=metadata)
    geometry = spec.geometry
    card = dataclasses.replace(
        network_card(adopted_card(dataset, label, identity, training), spec, origin),
        tile=geometry.tile,
        halo=geometry.halo,
        fixed_tile=spec.fixed_tile,
        gsd_m=spec.gsd_m,
        parameters=ParametersRecord(total=opened.parameters),
        weights_sha256=sha256_file(target),
    )
    return write_adopted(folder, card, found, lines)


def _refuse_flags(options: WeightsOptions, path: Path) -> None:
    """Refuse flags that describe bare weights.

    Raises:
        ConfigError: One is given.
    """
    given = next((flag for flag in ("arch", "encoder", "decoder", "part") if getattr(options, flag)), None)
    if given is not None:
        raise ConfigError(f"--{given}: describes bare weights; {path.name} is a whole network. Leave --{given} away.")


def _described(opened: OpenedProgram) -> ModelSpec | None:
    """Return the specification that a file brings, or one of the class names that it gives; ``None`` without either."""
    if opened.own is not None or len(opened.names) != opened.n_outputs:
        return opened.own
    return named_spec(opened.names, opened.bands)


def _program_spec(
    opened: OpenedProgram, dataset: Dataset, outputs: Sequence[int], options: WeightsOptions, source: str
) -> ModelSpec:
    """Return the specification of the run: the file's own, or one of values 0 to 1 normalised as is asked for."""
    recipe, own = load_recipe(), opened.own
    geometry = TileGeometry(recipe.tile, recipe.halo) if opened.tile is None else _one_tile(opened.tile)
    if (own is not None or opened.scaled) and options.normalise is not None:
        raise ConfigError(f"--normalise {options.normalise}: {source} normalises its inputs itself. Leave it away.")
    if own is not None:
        if (own.dtype or "uint8") != dataset.dtype:
            raise WeightsError(
                f"{source}: is for {own.dtype or 'uint8'} pixels, the scenes of {dataset.folder} hold {dataset.dtype}."
            )
        spec = dataset_spec(dataset, own.arch, own.encoder, outputs, name=source, geometry=own.geometry)
        inner = exported_spec(own, opened.tile, opened.batch)
        return dataclasses.replace(
            spec, mean=inner.mean, std=inner.std, gsd_m=own.gsd_m, geometry=inner.geometry, fixed_tile=inner.fixed_tile
        )
    spec = dataset_spec(dataset, "unknown", "unknown", outputs, name=source, geometry=geometry)
    full = 1.0 if opened.scaled else full_scale(spec.dtype)
    spec = dataclasses.replace(
        spec, mean=(0.0,) * spec.bands, std=(full,) * spec.bands, fixed_tile=opened.tile is not None
    )
    if not opened.scaled and options.normalise is None:
        say(
            "%(source)s: does not say how its inputs are normalised; values 0 to 1 are taken. Or pass --normalise.",
            source=source,
        )
    return normalise_inputs(spec, dataset, options.normalise or "none")


def _one_tile(side: int) -> TileGeometry:
    """Return the geometry of a network that takes tiles of one size."""
    return TileGeometry(side, side // 8)
