"""Initial weights of a whole network: train on from a run, a folder or a checkpoint, on other classes and bands.

What does not depend on classes and bands is taken as it is. An output keeps its weights where the class of its name is
learnt again; the first convolution is made for other bands as encoder weights are. The run keeps its network as it was
before the first step in a folder of its own until it has finished, so that it is resumed without the source.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from levelground.adoption.decoder_options import DecoderOptions
from levelground.adoption.detection import expected_state
from levelground.adoption.weights import FoundWeights, find_weights, own_spec
from levelground.comparison.text import count_of
from levelground.config import Recipe, WeightsOptions
from levelground.console import say
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, ModelError, UnlikeError, WeightsError
from levelground.evaluation.transfer import learnt_scenes, warn_of_shared
from levelground.imagery.class_maps import find_class
from levelground.models.build import canonical_arch, create_network, create_on_meta, freeze_encoder
from levelground.models.checkpoints import WEIGHTS_FILE, StateDict, read_state, weights_sha256
from levelground.models.loading import load_network
from levelground.models.model import Model
from levelground.models.own_networks import OWN_ENCODER, OwnNetwork, is_own, name_network, name_saved, named_arch
from levelground.models.pretrained import adapt_bands, check_finite, renamed_state
from levelground.models.smp_backend import save_model, weights_file
from levelground.models.spec import ModelSpec, about_init, full_scale, read_model_spec
from levelground.records import sha256_json
from levelground.runs import InitialWeightsRecord, Run, read_run

INITIAL_FOLDER = "initial"
"""Folder in that of a run that has not finished: its network before the first step."""

_OF_THE_NETWORK = ("name", "encoder", "encoder_weights", "default_epochs")
"""Fields of a recipe that do not make the training of two networks unlike."""


@dataclass(frozen=True)
class InitialWeights:
    """Whole network that a run starts from."""

    path: Path
    """A run folder, a folder with a model, or a file of weights."""
    part: str | None
    """Which of several networks in the file."""
    sha256: str
    """Hash of the file of weights."""
    name: str
    """Name for people: the run's or the file's."""
    arch: str
    """Architecture, as the user named it or as it was detected."""
    encoder: str
    options: DecoderOptions
    """Options of the decoder that are not the defaults."""


def find_initial(given: str, arch: str | None, recipe: Recipe) -> InitialWeights:
    """Tell which network initial weights are of, before data are read.

    Args:
        given: ``PATH``, or ``PATH::PART`` for one of several networks in a file.
        arch: The architecture that the user names; ``None`` takes that of the weights.
        recipe: Names the encoder where the tensors do not tell it.
    Raises:
        ConfigError: There is no such file, or it is of another architecture.
        WeightsError: It holds no network.
        ModelError: The network cannot be told, or its own code is not named.
    """
    place, _, part = given.partition("::")
    path = Path(place)
    if not path.exists():
        raise ConfigError(about_init(path))
    run = _run_of(path)
    name, file = run.name if run else path.resolve().name, weights_file(path)
    spec = own_spec(path)
    if is_own(arch or (spec.arch if spec else "")):
        owned = _name_own(path, arch, spec)
        return InitialWeights(path, part or None, weights_sha256(file), name, owned, OWN_ENCODER, {})
    sha256, key = weights_sha256(file), part or None
    if (sha256, key) not in _READ:
        _READ[sha256, key] = _detected(path, key, arch, recipe)
    found = _READ[sha256, key]
    if arch is not None and canonical_arch(arch) != found.arch:
        raise ConfigError(f"--init {path}: is {found.arch}, not {arch}. Leave --arch away, or start from others.")
    return InitialWeights(path, key, sha256, name, found.arch, found.encoder, found.options)


_READ: dict[tuple[str, str | None], FoundWeights] = {}
"""What :func:`find_initial` read in this process, by hash and part: the same for all seeds of a study."""


def _run_of(path: Path) -> Run | None:
    """Return the run that initial weights are of; ``None`` where they are not a run's."""
    folder = next((one for one in (path, path.parent, path.parent.parent) if (one / "run.json").exists()), None)
    model = folder is not None and (path.is_dir() or path.parent.name == "model")
    return read_run(folder) if folder is not None and model else None


def _name_own(path: Path, arch: str | None, spec: ModelSpec | None) -> str:
    """Return the name of a network that segmentation_models_pytorch does not have, so that it can be made."""
    if arch is not None:
        name_network(arch)
        if spec is not None and spec.arch != canonical_arch(arch):
            raise ConfigError(f"--init {path}: is {spec.arch}, not {arch}. Leave --arch away, or start from others.")
        return arch
    assert spec is not None
    if spec.arch.startswith("hf:"):
        name_saved(spec.arch, path / "model" if (path / "run.json").exists() else path)
    named_arch(spec.arch)  # else says how to name it
    return spec.arch


def _detected(path: Path, part: str | None, arch: str | None, recipe: Recipe) -> FoundWeights:
    """Find architecture and encoder, with what the user names only where that is needed."""
    asked, problem = None if arch is None else canonical_arch(arch), None
    hints = (
        WeightsOptions(arch=asked, part=part),
        WeightsOptions(arch=asked, encoder=recipe.encoder, part=part),
        *([WeightsOptions(part=part)] if asked is not None else []),
    )
    for options in hints:
        try:
            found = find_weights(path, options)
        except WeightsError as error:
            raise WeightsError(str(error).replace("as in --part ", f"as in --init {path}::")) from error
        except ModelError as error:
            problem = problem or error
            continue
        return found
    assert problem is not None
    raise problem


def fit_to_initial(recipe: Recipe, initial: InitialWeights) -> Recipe:
    """Return a recipe with the encoder of the initial weights, which bring its weights along."""
    encoder = recipe.encoder if initial.encoder == OWN_ENCODER else initial.encoder
    if encoder != recipe.encoder:
        say(
            "Encoder %(encoder)s in place of %(encoder2)s: that of %(name)s, which training starts from.",
            encoder=encoder,
            encoder2=recipe.encoder,
            name=initial.name,
        )
    return dataclasses.replace(recipe, encoder=encoder, encoder_weights="none")


def build_from_initial(
    initial: InitialWeights, spec: ModelSpec, recipe: Recipe, dataset: Dataset, *, seed: int
) -> tuple[Model, InitialWeightsRecord]:
    """Build a network that starts from another one's weights; what starts anew is said.

    Args:
        initial: The other network.
        spec: The model to build; its mean and std are those of the training scenes.
        recipe: Says how inputs are normalised, and which layers are frozen.
        dataset: What will be learnt.
        seed: Seed of the weights that start anew.
    Returns:
        The model on the CPU, in training mode, and what its run card says of its start.
    Raises:
        WeightsError: A tensor of the network is missing or cannot be fitted.
        UnlikeError: The other network learnt from test scenes of this data set.
    """
    run, own = _run_of(initial.path), own_spec(initial.path)
    _refuse_learnt(run, initial, dataset)
    torch.manual_seed(seed)
    network = create_network(initial.arch, initial.encoder, spec.bands, len(spec.outputs), initial.options)
    inner = network.network if isinstance(network, OwnNetwork) else network
    source = _source_state(initial, inner.state_dict())
    fit = _fit(source, inner.state_dict(), initial, spec, own)
    inner.load_state_dict(fit.state)
    _say_fit(fit, initial, spec)
    if not is_own(initial.arch):
        freeze_encoder(network, recipe.freeze_encoder_children)
    mean, std = _normalisation(own, spec, recipe, initial)
    made = dataclasses.replace(spec, arch=canonical_arch(initial.arch), encoder=initial.encoder, mean=mean, std=std)
    record = InitialWeightsRecord(
        name=initial.name,
        sha256=initial.sha256,
        study=run.study.name if run else None,
        training=_training_hash(run),
        outputs=fit.outputs,
        bands=fit.bands,
        classes=tuple(spec.legend.names[spec.outputs[number]] for number in fit.kept),
    )
    return Model(made, network, encoder_weights=f"network {initial.name}"), record


def _source_state(initial: InitialWeights, target: StateDict) -> StateDict:
    """Read the tensors of the other network under the names of the one to train."""
    if initial.encoder != OWN_ENCODER:
        return _READ[initial.sha256, initial.part].state
    state = renamed_state(read_state(weights_file(initial.path)), target)
    check_finite(state, initial.name)
    return state


@dataclass(frozen=True)
class _Fit:
    """Tensors of the other network as the one to train needs them."""

    state: StateDict
    outputs: int
    """Number of outputs of the other network."""
    bands: int
    """Number of bands that it reads."""
    kept: Mapping[int, int]
    """Each output that keeps its weights -> the output of the other network that it was."""
    named: bool
    """Whether the other network names its classes."""


def _fit(source: StateDict, target: StateDict, initial: InitialWeights, spec: ModelSpec, own: ModelSpec | None) -> _Fit:
    """Fit tensors to a network of other classes and bands: sides that follow their numbers may differ, no others.

    Raises:
        WeightsError: A tensor is missing or has another shape.
    """
    n, bands = len(spec.outputs), spec.bands
    head = _following(target, _shapes(initial, bands, n + 1))
    first = _following(target, _shapes(initial, bands + 1, n)) if _bands_differ(source, target, head) else {}
    state, found_n, found_bands = dict(target), n, bands
    for name, tensor in target.items():
        if name not in source:
            if name.endswith("num_batches_tracked"):
                continue
            raise WeightsError(
                f"{initial.name}: lacks {name}, which {initial.arch} needs. Give weights of this network."
            )
        value, side = source[name], head.get(name, first.get(name))
        if not _alike(value, tensor, side):
            found, needed = tuple(value.shape), tuple(tensor.shape)
            raise WeightsError(
                f"{initial.name}: {name} is {found}, {initial.arch} needs {needed}. Give weights of this network."
            )
        if name in head:
            found_n = int(value.shape[head[name]])
        elif name in first:
            found_bands = int(value.shape[first[name]])
        state[name] = value
    kept = _kept_outputs(own, spec, found_n)
    for name, side in head.items():
        state[name] = target[name].clone()
        for here, there in kept.items():
            state[name].select(side, here).copy_(source[name].select(side, there))
    changed = {name: state[name] for name in first}
    state |= adapt_bands(changed, {name: target[name] for name in first})
    named = own is not None and len(own.outputs) == found_n
    return _Fit(state, found_n, found_bands, kept, named)


def _shapes(initial: InitialWeights, bands: int, n: int) -> StateDict:
    """Return the tensors of the same network for other numbers of bands and classes; their values mean nothing."""
    if initial.encoder == OWN_ENCODER:
        network = create_on_meta(initial.arch, OWN_ENCODER, bands, n)
        assert isinstance(network, OwnNetwork)
        return network.network.state_dict()
    found = expected_state(initial.arch, initial.encoder, initial.options, bands=bands, n_outputs=n)
    assert found is not None  # it was built with other numbers already
    return found


def _following(target: StateDict, other: StateDict) -> dict[str, int]:
    """Return the tensors whose shape differs, with the first side that does."""
    return {
        name: next(side for side, (a, b) in enumerate(zip(tensor.shape, other[name].shape, strict=True)) if a != b)
        for name, tensor in target.items()
        if name in other and tensor.ndim == other[name].ndim and tensor.shape != other[name].shape
    }


def _bands_differ(source: StateDict, target: StateDict, head: Mapping[str, int]) -> bool:
    """Tell whether a tensor outside the head has another shape."""
    return any(
        name in source and name not in head and source[name].shape != tensor.shape for name, tensor in target.items()
    )


def _alike(value: torch.Tensor, tensor: torch.Tensor, side: int | None) -> bool:
    """Tell whether two tensors have the same shape, but for one side."""
    sides = zip(value.shape, tensor.shape, strict=False)
    return value.ndim == tensor.ndim and all(a == b or number == side for number, (a, b) in enumerate(sides))


def _kept_outputs(own: ModelSpec | None, spec: ModelSpec, n: int) -> dict[int, int]:
    """Return the outputs that keep their weights: those of the same class, or all where no names are known."""
    if own is None or len(own.outputs) != n:
        return {number: number for number in range(n)} if n == len(spec.outputs) else {}
    theirs: dict[int | None, int] = {}
    for number, output in enumerate(own.outputs):
        theirs.setdefault(find_class(own.legend.names[output], spec.legend), number)
    return {number: theirs[index] for number, index in enumerate(spec.outputs) if index in theirs}


def _say_fit(fit: _Fit, initial: InitialWeights, spec: ModelSpec) -> None:
    """Say in one line what the network starts from, and what starts anew."""
    names = [spec.legend.names[index] for index in spec.outputs]
    n, anew = len(names), [name for number, name in enumerate(names) if number not in fit.kept]
    if not fit.kept:
        head = f"its head starts anew for {n} classes (it had {count_of(fit.outputs, 'output')})"
    elif anew:
        head = f"{len(fit.kept)} of its {fit.outputs} outputs keep their class, anew: {', '.join(anew)}"
    elif not fit.named:
        head = f"its {n} outputs are taken for {', '.join(names)}, in this order"
    else:
        head = f"its outputs keep their classes, {', '.join(names)}"
    bands = f"; its first layer is made for {spec.bands} bands of {fit.bands}" if fit.bands != spec.bands else ""
    say(
        "Starts from %(name)s (SHA-256 %(sha256)s): %(head)s%(bands)s.",
        name=initial.name,
        sha256=initial.sha256[:12],
        head=head,
        bands=bands,
    )


def _normalisation(
    own: ModelSpec | None, spec: ModelSpec, recipe: Recipe, initial: InitialWeights
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of the inputs: those that the other network was trained with, unless others are asked.

    Bands that it does not have take those of the training scenes.
    """
    bands = spec.bands
    zero_to_one = (0.0,) * bands, (full_scale(spec.dtype),) * bands
    if recipe.normalise == "none":
        return zero_to_one
    if recipe.normalise == "data":
        return spec.mean, spec.std
    if own is None:
        say(
            "%(name)s: does not say how its inputs were normalised; values 0 to 1 are taken, as by "
            "adopt. --normalise data takes the training scenes' means.",
            name=initial.name,
        )
        return zero_to_one
    if (own.dtype or "uint8") != spec.dtype:
        say(
            "%(name)s: learnt from %(value)s values; inputs are normalised by the training scenes.",
            name=initial.name,
            value=own.dtype or "uint8",
        )
        return spec.mean, spec.std
    return (own.mean + spec.mean[own.bands :])[:bands], (own.std + spec.std[own.bands :])[:bands]


def _refuse_learnt(run: Run | None, initial: InitialWeights, dataset: Dataset) -> None:
    """Refuse a network that learnt from scenes that will test the run; warn where nobody can tell.

    Raises:
        UnlikeError: It did.
    """
    known = run is not None and not run.adopted and run.card.initial_weights is None
    learnt = {split: learnt_scenes(run, dataset, split) if run and known else None for split in ("test", "val")}
    if learnt["test"] is None or learnt["val"] is None:
        say(
            "Warning: %(name)s: the data that it learnt from are not known, so nobody can tell "
            "whether test scenes of %(folder)s are among them.",
            name=initial.name,
            folder=dataset.folder,
        )
    elif learnt["test"]:
        here, there = learnt["test"][0]
        raise UnlikeError(
            f"{initial.name}: learnt from {len(learnt['test'])} of the {len(dataset.ids('test'))} test scenes of "
            f"{dataset.folder} ({here} is {there} there). Start from a network that has not seen them."
        )
    elif learnt["val"] and run is not None and run.card.train_sha256 != dataset.train_sha256:
        say(
            "Warning: %(name)s: learnt from %(n)s of the validation scenes of %(folder)s, which "
            "choose the weights that are kept. --select last keeps the last ones.",
            name=initial.name,
            n=len(learnt["val"]),
            folder=dataset.folder,
        )
    if run is not None and known and run.card.train_sha256 != dataset.train_sha256:
        warn_of_shared(run, dataset, "test")


def _training_hash(run: Run | None) -> str | None:
    """Hash how a run was trained, network aside: the same for networks that one study trained alike."""
    if run is None or run.adopted or run.card.recipe is None or run.card.budget is None:
        return None
    card, recipe = run.card, {k: v for k, v in dataclasses.asdict(run.card.recipe).items() if k not in _OF_THE_NETWORK}
    started = card.initial_weights
    before = card.encoder_weights if started is None else started.training or started.sha256
    return sha256_json([card.train_sha256, recipe, run.card.budget.asked, card.steps_done, before])


def keep_initial(model: Model, folder: Path) -> None:
    """Save a run's network before the first step, for as long as the run may have to be resumed.

    Raises:
        DiskError: It cannot be written.
    """
    save_model(model, folder / INITIAL_FOLDER)


def reload_initial(run: Run) -> Model:
    """Load the network that a run started with.

    Raises:
        WeightsError: It is gone.
    """
    folder = run.folder / INITIAL_FOLDER
    if not (folder / WEIGHTS_FILE).is_file():
        raise WeightsError(
            f"{folder}: the network that {run.name} started from is gone. Remove {run.folder}, train anew."
        )
    spec = read_model_spec(run)
    network = load_network(spec, folder, run.card.outputs, code_sha256=run.card.code_sha256)
    if run.card.recipe is not None and not is_own(spec.arch):
        freeze_encoder(network, run.card.recipe.freeze_encoder_children)
    return Model(spec, network.train(), encoder_weights=run.card.encoder_weights)


def remove_initial(folder: Path) -> None:
    """Remove the network that a finished run started with."""
    shutil.rmtree(folder / INITIAL_FOLDER, ignore_errors=True)


def started_from(run: Run) -> InitialWeights | None:
    """Return what a run's card says of its start, for its identity; ``None`` where it started from no network."""
    card = run.card
    if card.initial_weights is None:
        return None
    record = card.initial_weights
    return InitialWeights(run.folder / INITIAL_FOLDER, None, record.sha256, record.name, card.arch, card.encoder, {})
