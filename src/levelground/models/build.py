"""Networks by name: segmentation_models_pytorch's architectures and encoders, checked before data are read."""

import copy
import dataclasses
import functools
import importlib
import re
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import JsonValue
from torch import nn
from torch.overrides import TorchFunctionMode

from levelground.config import Recipe
from levelground.console import say
from levelground.errors import ModelError, first_line
from levelground.models.model import Model
from levelground.models.own_networks import OWN_ENCODER, OwnNetwork, card_name, is_own, make_own
from levelground.models.pretrained import adapt_bands, encoder_options, load_encoder_weights, resolve_source
from levelground.models.spec import ALIASES, ModelSpec, about_arch, full_scale, near, numbered_spec
from levelground.records import sha256_json
from levelground.tile_geometry import MULTIPLE

_DRAWS = {f"{name}_" for name in ("normal", "uniform", "kaiming_normal", "kaiming_uniform", "xavier_normal")}
"""Functions of torch that fill a tensor with values drawn at random."""

_COMPILER = "torch._dynamo"


class _Deferred(types.ModuleType):
    """A module of the compiler while libraries are imported: names that they need then; any other name loads it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove_deferred()
        return getattr(importlib.import_module(self.__name__), name)


def _remove_deferred() -> None:
    for name in (_COMPILER, f"{_COMPILER}.utils"):
        if isinstance(sys.modules.get(name), _Deferred):
            del sys.modules[name]


def _disable(function: Any = None, *_: object, **__: object) -> Any:
    """Decorate a function that is never compiled, or return such a decorator."""
    return _disable if function is None else function


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(f"{_COMPILER}.utils").is_compile_supported(device_type))


def _import_smp() -> types.ModuleType:
    """Import the library; where it asks for more of the compiler than is known here, with the compiler."""
    name = "segmentation_models_pytorch"
    if _COMPILER not in sys.modules:
        compiler, utils = _Deferred(_COMPILER), _Deferred(f"{_COMPILER}.utils")
        vars(compiler).update(disable=_disable)
        vars(utils).update(is_compile_supported=_is_compile_supported)
        sys.modules.update({_COMPILER: compiler, f"{_COMPILER}.utils": utils})
        try:
            return importlib.import_module(name)
        except ImportError:  # of a module of the compiler that nothing stands for
            pass
        finally:
            _remove_deferred()
    return importlib.import_module(name)


smp: types.ModuleType = _import_smp()
"""segmentation_models_pytorch, imported without torch's compiler, which no command uses and which takes long to load:
torchvision and timm import it for a question that they ask later and for a decorator."""


def arch_names() -> tuple[str, ...]:
    """List every architecture by name, without aliases."""
    return tuple(smp.MODEL_ARCHITECTURES_MAPPING)


def canonical_arch(arch: str) -> str:
    """Return the name of an architecture in segmentation_models_pytorch.

    Raises:
        ModelError: No such architecture.
    Example:
        >>> canonical_arch("U-Net++".lower().replace("-", "")), canonical_arch("deeplab")
        ('unetplusplus', 'deeplabv3')
    """
    if is_own(arch):
        return card_name(arch)
    name = ALIASES.get(arch.lower(), arch.lower())
    if name not in smp.MODEL_ARCHITECTURES_MAPPING:
        raise ModelError(about_arch(arch, arch_names()))
    return name


class _WithoutValues(TorchFunctionMode):
    """Draw no values for tensors on the device ``meta``, which hold none: torch loads its compiler for that."""

    def __torch_function__(
        self, func: Callable[..., Any], _: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__name__", "") in _DRAWS:
            tensor = args[0] if args else given["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **given)


def create_network(
    arch: str, encoder: str, bands: int, n_outputs: int, options: Mapping[str, JsonValue] | None = None
) -> nn.Module:
    """Make a network without published weights.

    Args:
        arch: Architecture.
        encoder: Encoder.
        bands: Number of bands that it reads.
        n_outputs: Number of its outputs.
        options: Options of the architecture under the library's names, such as ``encoder_depth``.
    Raises:
        ModelError: There is no such pair; the message has the remedy.
    """
    if is_own(arch):
        return make_own(arch, bands, n_outputs)
    given = encoder_options(arch, encoder) | dict(options or {})
    try:
        with warnings.catch_warnings(), _WithoutValues():  # encoders are first built on meta, for their shapes
            warnings.simplefilter("ignore")  # the libraries' advice to their own users
            network: nn.Module = smp.create_model(
                arch,
                encoder_name=encoder,
                encoder_weights=None,
                in_channels=bands,
                classes=n_outputs,
                **given,
            )
    except Exception as error:
        # SMP and timm raise KeyError, ValueError, RuntimeError or NotImplementedError for pairs that do not exist.
        reason = first_line(error, limit=160).strip("'\"").rstrip(".")
        remedy = "Choose another --encoder, such as tu-tf_efficientnet_lite0 or resnet34"
        if reason.startswith(("Wrong encoder name", "Unknown model")):
            reason, remedy = "no such encoder", near(encoder)
        elif "downsampling pattern" in reason:
            remedy = f"It has one scale only; {arch} needs several: --encoder tu-convnext_atto, or --arch dpt for a ViT"
        elif arch == "dpt" and not encoder.startswith("tu-"):
            remedy = "Give one of timm's: --encoder tu-tf_efficientnet_lite0"
        raise ModelError(f"{arch} with encoder {encoder}: cannot be built ({reason}). {remedy}.") from error
    return network


def create_on_meta(arch: str, encoder: str, bands: int, n_outputs: int) -> nn.Module:
    """Make a network whose tensors have shapes and no values; a few encoders read values while they are built."""
    if is_own(arch):  # its code may read files and values
        return create_network(arch, encoder, bands, n_outputs).to("meta")
    try:
        with torch.device("meta"):
            return create_network(arch, encoder, bands, n_outputs)
    except ModelError as error:
        if "meta tensor" not in str(error):
            raise
        return create_network(arch, encoder, bands, n_outputs).to("meta")


def build_model(spec: ModelSpec, recipe: Recipe, *, seed: int) -> Model:
    """Build a network as a recipe says; a pure function of its arguments.

    Args:
        spec: The model to build; its mean and std are those of the training scenes.
        recipe: Names the encoder's weights, the normalisation and the frozen layers.
        seed: Seed of the initial weights.
    Returns:
        The model on the CPU, in training mode, with the mean and std that the recipe asks for.
    Raises:
        ModelError: It cannot be built.
        WeightsError: The encoder weights cannot be had.
    """
    arch, bands, n_outputs = canonical_arch(spec.arch), spec.bands, len(spec.outputs)
    torch.manual_seed(seed)
    mean, std, origin = spec.mean, spec.std, "none"
    if is_own(arch):
        network: nn.Module = make_own(arch, bands, n_outputs, weights=recipe.encoder_weights != "none")
        if recipe.freeze_encoder_children:
            raise ModelError(f"{arch}: has no encoder whose children could be frozen. Leave the flag away.")
        if recipe.normalise == "none":
            mean, std = (0.0,) * bands, (full_scale(spec.dtype),) * bands
        own = dataclasses.replace(spec, arch=arch, encoder=OWN_ENCODER, mean=mean, std=std)
        return Model(own, network, encoder_weights=arch if own_weights(network) else origin)
    network = create_network(arch, spec.encoder, bands, n_outputs)
    source = resolve_source(spec.encoder, recipe.encoder_weights)
    # PSPNet and others use fewer encoder stages than five, and some dilate them: the names to meet are their own.
    expected = _encoder(network).state_dict()
    three = expected if bands == 3 else _encoder(create_network(arch, spec.encoder, 3, n_outputs)).state_dict()
    weights = load_encoder_weights(spec.encoder, source, three)
    if weights is not None:
        _encoder(network).load_state_dict(adapt_bands(weights.state, expected))
        origin = weights.source
        if recipe.normalise == "weights" and spec.dtype == "uint8":
            mean = (tuple(255 * value for value in weights.mean) + mean[3:])[:bands]
            std = (tuple(255 * value for value in weights.std) + std[3:])[:bands]
    if recipe.normalise == "none":
        mean, std = (0.0,) * bands, (full_scale(spec.dtype),) * bands
    freeze_encoder(network, recipe.freeze_encoder_children)
    return Model(dataclasses.replace(spec, arch=arch, mean=mean, std=std), network, encoder_weights=origin)


@functools.cache
def first_weights(arch: str, recipe: Recipe, bands: int, n_outputs: int) -> str | None:
    """Build a network, once in a process, to learn which weights it starts with.

    Raises:
        ModelError: It cannot be built.
        WeightsError: The encoder weights cannot be had.
    """
    spec = numbered_spec(arch, recipe.encoder, n_outputs=n_outputs, mean=[0.0] * bands, std=[1.0] * bands)
    return build_model(spec, recipe, seed=0).encoder_weights


def own_weights(network: nn.Module) -> frozenset[str]:
    """Return the names of the parameters of a backbone that came with the weights of an own network."""
    return network.pretrained if isinstance(network, OwnNetwork) else frozenset()


def _encoder(network: nn.Module) -> nn.Module:
    encoder = network.encoder
    assert isinstance(encoder, nn.Module)
    return encoder


def freeze_encoder(network: nn.Module, n: int) -> None:
    """Freeze the encoder's children ``[:n]``, as a slice; 0 freezes none."""
    if n:
        for child in list(_encoder(network).children())[:n]:
            child.requires_grad_(False)


def check_trainable(spec: ModelSpec, *, batch: int) -> None:
    """Refuse an architecture, encoder, batch and tile that cannot be trained together, before data are read.

    The network is built and run on torch's ``meta`` device, where tensors have shapes and no values: the very checks of
    the network's own layers, in a fraction of a second.

    Args:
        spec: The model; its tile is the side of the crops.
        batch: Crops in a batch of one process.
    Raises:
        ModelError: They cannot work; the message has the remedy.
    """
    arch, tile = canonical_arch(spec.arch), spec.geometry.tile
    where = f"{arch} with encoder {spec.encoder}"
    if tile % MULTIPLE:
        near = max(MULTIPLE, round(tile / MULTIPLE) * MULTIPLE)
        raise ModelError(f"--tile {tile}: not a multiple of {MULTIPLE}. Give --tile {near}.")
    where = arch if is_own(arch) else where
    network = create_on_meta(arch, spec.encoder, spec.bands, len(spec.outputs)).train()
    try:
        with torch.device("meta"):
            network(torch.empty(batch, spec.bands, tile, tile))
    except ModelError:
        raise
    except Exception as error:
        # The layers raise ValueError, RuntimeError or AssertionError for shapes that do not work.
        reason = first_line(error)
        if "more than 1 value per channel" in reason and batch == 1:
            raise ModelError(
                f"{where}: cannot train at batch 1 (it normalises over one value). Give --batch 2."
            ) from error
        if is_own(arch) and "meta" in reason.lower():
            return  # it computes with values; the first step will tell
        remedy = "Mend its code" if ".py:" in arch else _tile_remedy(reason, tile)
        raise ModelError(f"{where}: cannot run on tiles of {tile} px ({reason}). {remedy}.") from error
    if isinstance(network, OwnNetwork) and network.resized_from is not None:
        height, width = network.resized_from
        say(
            "%(arch)s: gives %(height)s × %(width)s px of %(tile)s; resized to the tile, bilinear.",
            arch=arch,
            height=height,
            width=width,
            tile=tile,
        )


def _tile_remedy(reason: str, tile_px: int) -> str:
    fixed = re.search(r"doesn't match model \((\d+)\)", reason)  # transformers with one input size
    if fixed is not None:
        return f"Give --tile {fixed[1]}"
    return "Give a larger --tile, such as --tile 256" if tile_px < 256 else "Choose another encoder"


@dataclass(frozen=True)
class Size:
    """Size of a network: parameters and operations."""

    total: int
    used: int
    """Parameters that the output depends on."""
    trainable: int
    """Used parameters that training changes."""
    macs_per_megapixel: float
    """Multiply-accumulate operations for one megapixel of input."""


def measure_size(model: Model, *, side: int = 512) -> Size:
    """Count parameters and operations on torch's ``meta`` device, without doing them.

    Used parameters are those that a gradient reaches when none is frozen.

    Args:
        model: The model; its network is not run.
        side: Side of the square that is counted, px; some transformers take one size only.
    Returns:
        Parameters, and operations for a megapixel.
    """
    reached, macs = _reach(model, side)
    sizes = {name: parameter.numel() for name, parameter in model.network.named_parameters()}
    trainable = {name for name, parameter in model.network.named_parameters() if parameter.requires_grad}
    return Size(
        total=sum(sizes.values()),
        used=sum(sizes[name] for name in reached),
        trainable=sum(sizes[name] for name in reached & trainable),
        macs_per_megapixel=macs / (side * side / 1e6),
    )


_REACHED: dict[str, tuple[frozenset[str], float]] = {}
"""What :func:`_reach` found, by the names and shapes of a network's tensors: the same for all seeds of a study."""


def _reach(model: Model, side: int) -> tuple[frozenset[str], float]:
    """Find the names of used parameters, and the operations for one square."""
    from torch.utils.flop_counter import FlopCounterMode

    network, spec = model.network, model.spec
    shapes = [[name, list(tensor.shape)] for name, tensor in network.state_dict().items()]
    key = sha256_json([spec.arch, spec.encoder, spec.bands, side, shapes])
    if key in _REACHED:
        return _REACHED[key]
    twin = copy.deepcopy(network).to("meta").eval().requires_grad_(requires_grad=True)
    counter, image = FlopCounterMode(display=False), torch.empty(1, spec.bands, side, side, device="meta")
    try:
        with torch.device("meta"), counter, torch.no_grad():
            twin(image)
        with torch.device("meta"):
            twin(image).sum().backward()
    except Exception:
        if not is_own(spec.arch):
            raise
        # The user's code may compute with values: it is run with some.
        twin, image = copy.deepcopy(network).cpu().eval().requires_grad_(requires_grad=True), torch.zeros(image.shape)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            twin(image)
        twin(image).sum().backward()
    reached = frozenset(name for name, parameter in twin.named_parameters() if parameter.grad is not None)
    _REACHED[key] = reached, counter.get_total_flops() / 2
    return _REACHED[key]
