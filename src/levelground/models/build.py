"""Architecture + encoder -> segmentation_models_pytorch network; checked before data are read; saved and loaded."""

import dataclasses
import difflib
import re
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from levelground.config import Recipe
from levelground.errors import ModelError, WeightsError, first_line
from levelground.files import reason, writing
from levelground.models.pretrained import adapt_bands, fit_state, load_encoder_weights, read_state, resolve_source
from levelground.runs import Run

ALIASES = {"deeplab": "deeplabv3", "unet++": "unetplusplus", "deeplabv3+": "deeplabv3plus"}
"""Names of the origin study and of papers -> segmentation_models_pytorch's."""

DIVISOR = 32
"""Tiles are multiples of this: the stride of the deepest encoder feature."""


def arch_names() -> tuple[str, ...]:
    """Every architecture by name, aliases not among them."""
    return tuple(smp.MODEL_ARCHITECTURES_MAPPING)


def canonical_arch(arch: str) -> str:
    """The name of an architecture in segmentation_models_pytorch.

    Raises:
        ModelError: No such architecture.
    Example:
        >>> canonical_arch("U-Net++".lower().replace("-", "")), canonical_arch("deeplab")
        ('unetplusplus', 'deeplabv3')
    """
    name = ALIASES.get(arch.lower(), arch.lower())
    if name not in smp.MODEL_ARCHITECTURES_MAPPING:
        raise ModelError(f"{arch}: no such architecture. Known: {', '.join(arch_names())}.")
    return name


def create_network(arch: str, encoder: str, bands: int, n_outputs: int) -> nn.Module:
    """Make a network without published weights.

    Raises:
        ModelError: There is no such pair; the message has the remedy.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries' advice to their own users
            network: nn.Module = smp.create_model(
                arch, encoder_name=encoder, encoder_weights=None, in_channels=bands, classes=n_outputs
            )
    except Exception as error:
        # SMP and timm raise KeyError, ValueError, RuntimeError or NotImplementedError for pairs that do not exist.
        reason = first_line(error, limit=160).strip("'\"").rstrip(".")
        remedy = "Choose another --encoder, such as tu-tf_efficientnet_lite0 or resnet34"
        if reason.startswith(("Wrong encoder name", "Unknown model")):
            reason, remedy = "no such encoder", _near_encoders(encoder)
        elif arch == "dpt" and not encoder.startswith("tu-"):
            remedy = "Give one of timm's: --encoder tu-tf_efficientnet_lite0"
        raise ModelError(f"{arch} with encoder {encoder}: cannot be built ({reason}). {remedy}.") from error
    return network


def _near_encoders(encoder: str) -> str:
    names = smp.encoders.get_encoder_names() + [f"tu-{name}" for name in timm.list_models()]
    near = difflib.get_close_matches(encoder, names, n=3) or ["tu-tf_efficientnet_lite0", "resnet34"]
    return f"Near: {', '.join(near)}"


def create_on_meta(arch: str, encoder: str, bands: int, n_outputs: int) -> nn.Module:
    """A network whose tensors have shapes and no values; a few encoders read values while they are built."""
    try:
        with torch.device("meta"):
            return create_network(arch, encoder, bands, n_outputs)
    except ModelError as error:
        if "meta tensor" not in str(error):
            raise
        return create_network(arch, encoder, bands, n_outputs).to("meta")


@dataclass(frozen=True)
class SegmentationModel:
    """A network with all that is needed to run it on stored pixels."""

    network: nn.Module
    arch: str
    encoder: str
    outputs: tuple[int, ...]
    """The legend index of each output."""
    mean: tuple[float, ...]
    """Band means, in stored units."""
    std: tuple[float, ...]
    """Band deviations, in stored units."""
    weights_source: str
    """Where the encoder's weights came from."""


def build_model(
    arch: str,
    recipe: Recipe,
    *,
    outputs: Sequence[int],
    data_mean: Sequence[float],
    data_std: Sequence[float],
    dtype: str,
    seed: int,
) -> SegmentationModel:
    """Build a network as a recipe says; a pure function of its arguments.

    Args:
        arch: Architecture, by name or alias.
        recipe: Names the encoder, its weights and the normalisation.
        outputs: Legend index of each output.
        data_mean: Band means of the training scenes, in stored units; their number is the number of bands.
        data_std: Band deviations likewise.
        dtype: Type of the stored pixels.
        seed: Seed of the initial weights.
    Returns:
        The network on the CPU, in training mode.
    Raises:
        ModelError: It cannot be built.
        WeightsError: The encoder weights cannot be had.
    """
    arch, bands = canonical_arch(arch), len(data_mean)
    torch.manual_seed(seed)
    network = create_network(arch, recipe.encoder, bands, len(outputs))
    source = resolve_source(recipe.encoder, recipe.encoder_weights)
    mean, std, said = tuple(data_mean), tuple(data_std), "none"
    # PSPNet and others use fewer encoder stages than five, and some dilate them: the names to meet are their own.
    expected = _encoder(network).state_dict()
    three = expected if bands == 3 else _encoder(create_network(arch, recipe.encoder, 3, len(outputs))).state_dict()
    weights = load_encoder_weights(recipe.encoder, source, three)
    if weights is not None:
        _encoder(network).load_state_dict(adapt_bands(weights.state, expected))
        said = weights.source
        if recipe.normalise == "weights" and dtype == "uint8":
            mean = tuple(255 * value for value in weights.mean) + mean[3:]
            std = tuple(255 * value for value in weights.std) + std[3:]
            mean, std = mean[:bands], std[:bands]
    if recipe.normalise == "none":
        mean, std = (0.0,) * bands, (_full_scale(dtype),) * bands
    _freeze(network, recipe.freeze_encoder_children)
    return SegmentationModel(network, arch, recipe.encoder, tuple(outputs), mean, std, said)


def _encoder(network: nn.Module) -> nn.Module:
    encoder = network.encoder
    assert isinstance(encoder, nn.Module)
    return encoder


def _full_scale(dtype: str) -> float:
    return {"uint8": 255.0, "uint16": 65535.0, "int16": 32767.0}.get(dtype, 1.0)


def _freeze(network: nn.Module, n: int) -> None:
    if n:
        for child in list(_encoder(network).children())[:n]:
            child.requires_grad_(False)


def save_model(model: SegmentationModel, folder: Path) -> None:
    """Save weights in segmentation_models_pytorch's own layout.

    Each file appears whole; between two saves of one run only the weights differ, so a kill in between harms nothing.
    The library's empty model card is left out: ours is written when there is something to say
    (:mod:`levelground.exporting.model_card`).

    Raises:
        DiskError: They cannot be written; what was there before stays.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".model-") as temporary:
            _save_network(model.network, Path(temporary))
            (Path(temporary) / "README.md").unlink(missing_ok=True)
            for file in sorted(Path(temporary).iterdir()):
                file.chmod(0o644)
                file.replace(folder / file.name)


def _save_network(network: nn.Module, folder: Path) -> None:
    """Save a network; the writer of weights has an error of its own for a full disk."""
    from safetensors import SafetensorError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.save_pretrained(folder)  # type: ignore[operator]
    except SafetensorError as error:
        raise OSError(reason(error)) from error


def load_model(run: Run) -> SegmentationModel:
    """Load the selected weights of a run.

    Raises:
        WeightsError: There are none, they are damaged, or of another architecture than the card says.
    """
    card, folder = run.card, run.model_folder
    if not (folder / "model.safetensors").exists():
        raise WeightsError(f"{folder}: no model.safetensors. Train the run to its end, or adopt the weights anew.")
    network = create_network(run.arch, run.encoder, card.in_channels or 0, len(card.outputs))
    state = fit_state(read_state(folder), network.state_dict(), source=str(folder), part="network")
    network.load_state_dict(state)
    return SegmentationModel(
        network.eval(),
        run.arch,
        run.encoder,
        card.outputs,
        card.mean,
        card.std,
        str(card.encoder_weights),
    )


def with_network(model: SegmentationModel, network: nn.Module) -> SegmentationModel:
    """The same model around another form of its network, such as one moved to a device."""
    return dataclasses.replace(model, network=network)


@dataclass(frozen=True)
class Request:
    """What is asked of a network, enough to say whether it can be built and trained."""

    arch: str
    encoder: str
    bands: int
    n_outputs: int
    batch: int
    tile_px: int


def check_request(request: Request) -> None:
    """Refuse an architecture, encoder, batch and tile that cannot be trained together, before data are read.

    The network is built and run on torch's ``meta`` device, where tensors have shapes and no values: the very checks of
    the network's own layers, in a fraction of a second.

    Raises:
        ModelError: They cannot work; the message has the remedy.
    """
    arch = canonical_arch(request.arch)
    where = f"{arch} with encoder {request.encoder}"
    if request.tile_px % DIVISOR:
        near = max(DIVISOR, round(request.tile_px / DIVISOR) * DIVISOR)
        raise ModelError(f"--tile {request.tile_px}: no multiple of {DIVISOR}. Give --tile {near}.")
    network = create_on_meta(arch, request.encoder, request.bands, request.n_outputs).train()
    try:
        with torch.device("meta"):
            network(torch.empty(request.batch, request.bands, request.tile_px, request.tile_px))
    except Exception as error:
        # The layers raise ValueError, RuntimeError or AssertionError for shapes that do not work.
        reason = first_line(error)
        if "more than 1 value per channel" in reason and request.batch == 1:
            raise ModelError(
                f"{where}: cannot train at batch 1 (it normalises over one value). Give --batch 2."
            ) from error
        remedy = _tile_remedy(reason, request.tile_px)
        raise ModelError(f"{where}: cannot run on tiles of {request.tile_px} px ({reason}). {remedy}.") from error


def _tile_remedy(reason: str, tile_px: int) -> str:
    fixed = re.search(r"doesn't match model \((\d+)\)", reason)  # transformers with one input size
    if fixed is not None:
        return f"Give --tile {fixed[1]}"
    return "Give a larger --tile, such as --tile 256" if tile_px < 256 else "Choose another encoder"


@dataclass(frozen=True)
class Size:
    """What a network weighs and does."""

    total: int
    used: int
    """Parameters that the output depends on."""
    trainable: int
    """Of the used ones, those that training changes."""
    macs_per_megapixel: float
    """Multiply-accumulate operations for one megapixel of input."""


def measure_size(model: SegmentationModel, *, side: int = 512) -> Size:
    """Count parameters and operations on torch's ``meta`` device, without doing them.

    Used parameters are those that a gradient reaches when none is frozen.

    Args:
        model: The model; its network is not run.
        side: Side of the square that is counted, px; some transformers take one size only.
    Returns:
        Parameters, and operations for a megapixel.
    """
    reached, macs = _reach(model.arch, model.encoder, len(model.mean), len(model.outputs), side)
    sizes = {name: parameter.numel() for name, parameter in model.network.named_parameters()}
    trainable = {name for name, parameter in model.network.named_parameters() if parameter.requires_grad}
    return Size(
        total=sum(sizes.values()),
        used=sum(sizes[name] for name in reached),
        trainable=sum(sizes[name] for name in reached & trainable),
        macs_per_megapixel=macs / (side * side / 1e6),
    )


@lru_cache(maxsize=64)
def _reach(arch: str, encoder: str, bands: int, n_outputs: int, side: int) -> tuple[frozenset[str], float]:
    """The names of used parameters, and the operations for one square; the same for all seeds of a study."""
    from torch.utils.flop_counter import FlopCounterMode

    twin = create_on_meta(arch, encoder, bands, n_outputs).eval()
    with torch.device("meta"):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            twin(torch.empty(1, bands, side, side))
        twin(torch.empty(1, bands, side, side)).sum().backward()
    reached = frozenset(name for name, parameter in twin.named_parameters() if parameter.grad is not None)
    return reached, counter.get_total_flops() / 2
