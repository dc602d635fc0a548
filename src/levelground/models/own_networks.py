"""Networks that segmentation_models_pytorch does not have: the user's own code, entry points, and transformers.

The user's code runs only where the user names it: ``name_network`` is called with what a flag says. A run card, which
may come from anywhere, names nothing. Networks of transformers are built from their configuration without remote code.
"""

import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from levelground.console import say
from levelground.errors import ModelError, first_line
from levelground.models.checkpoints import WEIGHTS_FILE
from levelground.models.pretrained import check_hub_reachable
from levelground.models.spec import ENTRY_POINTS
from levelground.models.spec import is_own as is_own
from levelground.reading import read_loosely
from levelground.records import sha256_file

if TYPE_CHECKING:
    from transformers import PretrainedConfig

OWN_ENCODER = "none"
"""Encoder on the card of a network that has none of segmentation_models_pytorch's."""

_BANDS = ("in_channels", "bands", "in_chans", "input_channels", "n_channels", "num_channels", "channels")
_CLASSES = ("classes", "num_classes", "n_classes", "outputs", "n_outputs", "out_channels", "num_labels")

Make = Callable[[int, int], nn.Module]
"""Bands and classes to a network."""


@dataclass(frozen=True)
class OwnArch:
    """A network that was named: how it is made, and the hash of its code."""

    name: str
    source: str
    """What the user named."""
    make: Make
    code_sha256: str | None = None
    code: str | None = None
    """Text of its file."""
    anew: Make | None = None
    """Makes it without the weights that lie beside its configuration."""


_NAMED: dict[str, OwnArch] = {}
"""What was named in this process, by the name on the card."""


def name_network(arch: str) -> str:
    """Take a network that the user names, so that it may be made in this process.

    Args:
        arch: ``FILE.py:FUNCTION``, ``hf:FOLDER_OR_NAME``, or the name of an entry point.
    Returns:
        The name for run cards: without the folders of a path.
    Raises:
        ModelError: There is no such file or function, or its code fails.
    """
    if arch in named_sources():
        return card_name(arch)
    if arch.startswith("hf:"):
        source = arch.removeprefix("hf:")
        made = OwnArch(
            card_name(arch),
            arch,
            lambda bands, classes: _transformers(source, bands, classes),
            anew=lambda bands, classes: _transformers(source, bands, classes, weights=False),
        )
    elif ".py:" in arch:
        made = _from_file(arch)
    else:
        made = _from_entry_point(arch)
    before = _NAMED.get(made.name)
    if before is not None and before.code_sha256 != made.code_sha256:
        raise ModelError(f"{arch}: another file of this name is in use already. Give the files different names.")
    _NAMED[made.name] = made
    return made.name


def name_saved(arch: str, folder: Path) -> None:
    """Take a saved network of transformers by the name on its card, so that it may be made for other classes."""
    saved = str(folder.resolve())
    _NAMED.setdefault(arch, OwnArch(arch, arch, lambda bands, classes: _transformers(saved, bands, classes)))


def card_name(arch: str) -> str:
    """Return the name of an own network on run cards, without running anything.

    Example:
        >>> card_name("nets/small.py:make"), card_name("hf:models/segformer")
        ('small.py:make', 'hf:segformer')
    """
    if arch.startswith("hf:"):
        return f"hf:{Path(arch.removeprefix('hf:')).name}"
    file, colon, function = arch.rpartition(":")
    return f"{Path(file).name}:{function}" if colon else arch


def named_sources() -> tuple[str, ...]:
    """Return all that was named in this process, so that another process of the same command can name it too."""
    return tuple(made.source for made in _NAMED.values())


def where_named(arch: str) -> str:
    """Return how to name a network of a run card on the command line: its file where it lies here, else with PATH.

    Example:
        >>> where_named("small.py:make"), where_named("hf:segformer")
        ('PATH/small.py:make', 'hf:PATH/segformer')
    """
    if arch.startswith("hf:"):
        return f"hf:PATH/{arch.removeprefix('hf:')}"
    return arch if Path(arch.rpartition(":")[0]).is_file() else f"PATH/{arch}"


def named_arch(arch: str) -> OwnArch:
    """Return a network that was named in this process.

    Raises:
        ModelError: It was not; code is not run because a file says so.
    """
    name = card_name(arch)
    if name not in _NAMED:
        if ":" not in arch:  # an installed package
            return _NAMED[name_network(arch)]
        raise ModelError(
            f"{arch}: is not of segmentation_models_pytorch, and is made only where you name it. Say where it lies: "
            f"--code {where_named(name)} (with train and study: --arch, --archs)."
        )
    return _NAMED[name]


def _from_file(arch: str) -> OwnArch:
    """Run a file that the user named and take a function or class of it."""
    path, function = Path(arch.rpartition(":")[0]), arch.rpartition(":")[2]
    if not path.is_file():
        raise ModelError(f"{arch}: no file {path}. Give FILE.py:FUNCTION with the path of a Python file.")
    spec = importlib.util.spec_from_file_location(f"_levelground_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"{path}: cannot be run ({type(error).__name__}: {first_line(error)}). Mend it.") from error
    finally:
        sys.path.pop(0)
    found = getattr(module, function, None)
    if not callable(found):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise ModelError(f"{arch}: {path.name} has no function {function!r}. It has {', '.join(names) or 'none'}.")
    text = read_loosely(path)
    return OwnArch(f"{path.name}:{function}", arch, _caller(found, arch), sha256_file(path), text)


def _from_entry_point(arch: str) -> OwnArch:
    """Take a function that an installed package offers."""
    point = next(point for point in entry_points(group=ENTRY_POINTS) if point.name == arch)
    try:
        found = point.load()
    except Exception as error:  # the package's code may raise anything
        raise ModelError(f"{arch}: {point.value} cannot be imported ({first_line(error)}). Install it anew.") from error
    return OwnArch(arch, arch, _caller(found, arch))


def _caller(function: Callable[..., object], arch: str) -> Make:
    """Wrap a function so that it is called with bands and classes under whatever names it takes them."""

    def make(bands: int, classes: int) -> nn.Module:
        try:
            names = list(inspect.signature(function).parameters)
            given = {n: bands for n in names if n in _BANDS} | {n: classes for n in names if n in _CLASSES}
            found = function(**given) if len(given) == 2 else function(bands, classes)
        except ModelError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise ModelError(
                f"{arch}: fails for {bands} bands and {classes} classes ({type(error).__name__}: {first_line(error)}). "
                "It takes (in_channels, classes) and returns a torch.nn.Module."
            ) from error
        if not isinstance(found, nn.Module):
            raise ModelError(f"{arch}: returns {type(found).__name__}, expected a torch.nn.Module.")
        return found

    return make


def _transformers(source: str, bands: int, classes: int, *, weights: bool = True) -> nn.Module:
    """Build a network of transformers, from a local folder, the hub's cache, or the hub; with weights if there are."""
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            f"hf:{source}: transformers is not installed. pip install 'levelground[transformers]'"
        ) from error
    transformers.utils.logging.set_verbosity_error()
    local = Path(source).is_dir()
    try:
        config = _read_config(source, local_only=True)
    except Exception as error:  # its client has many errors for a file that is not there
        if local:
            raise ModelError(f"hf:{source}: unreadable configuration ({first_line(error)}).") from error
        check_hub_reachable(source, cause=error)
        config = _read_config(source, local_only=False)
    config.num_labels = classes
    holder = _bands_holder(config)
    if holder is not None:
        holder.num_channels = bands
    elif bands != 3:
        raise ModelError(f"hf:{source}: reads 3 bands, the scenes have {bands}. Choose another --arch.")
    kind = _model_class(config, source)
    try:
        if not weights or (local and not (Path(source) / WEIGHTS_FILE).is_file()):
            network = kind._from_config(config)
        else:
            network, told = kind.from_pretrained(
                source, config=config, ignore_mismatched_sizes=True, use_safetensors=True, local_files_only=local,
                output_loading_info=True,
            )  # fmt: skip
            setattr(network, _PRETRAINED, _backbone_names(network, told))
            say(
                "hf:%(source)s: its weights are loaded; those of other shapes, such as the head's, start anew.",
                source=source,
            )
    except Exception as error:  # a damaged file, a configuration that contradicts itself
        raise ModelError(f"hf:{source}: cannot be built ({first_line(error)}). Choose another --arch.") from error
    assert isinstance(network, nn.Module)
    return network


_PRETRAINED = "pretrained_backbone"
"""Attribute of a network of transformers: names of the parameters of its backbone that were loaded."""


def _backbone_names(network: nn.Module, told: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of a backbone's parameters that were loaded; the others start anew or are a head's."""
    anew = {*told["missing_keys"], *(key[0] for key in told["mismatched_keys"])}
    names = [name for name, _ in network.named_parameters()]
    base = f"{getattr(network, 'base_model_prefix', '')}."
    prefixes = ("model.pixel_level_module.encoder.", "backbone.", base)
    prefix = next((one for one in prefixes if any(name.startswith(one) for name in names)), base)
    return frozenset(name for name in names if name.startswith(prefix) and name not in anew)


def _read_config(source: str, *, local_only: bool) -> "PretrainedConfig":
    from transformers import AutoConfig

    config: PretrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=local_only)
    return config


def _bands_holder(config: "PretrainedConfig") -> "PretrainedConfig | None":
    """Return the part of a configuration that holds the number of bands: itself or its backbone's."""
    inner = getattr(config, "backbone_config", None)
    return next((one for one in (inner, config) if one is not None and hasattr(one, "num_channels")), None)


def _model_class(config: "PretrainedConfig", source: str) -> Any:
    """Return the class that segments with a configuration: by pixels, or by masks of queries.

    Raises:
        ModelError: There is none.
    """
    from transformers.models.auto import modeling_auto as auto

    for mapping in (auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING, auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING):
        if type(config) in mapping:
            found = mapping[type(config)]
            return found if isinstance(found, type) else found[0]
    raise ModelError(
        f"hf:{source}: {config.model_type} does not segment. Give one that does: segformer, upernet, mask2former, beit."
    )


class OwnNetwork(nn.Module):
    """A network of any form as one of logits: dictionaries, tuples, masks of queries, smaller outputs.

    Args:
        network: The network.
        arch: Its name, for errors.
        n_outputs: Number of its classes.
    """

    def __init__(self, network: nn.Module, arch: OwnArch, n_outputs: int) -> None:
        super().__init__()
        self.network = network
        self.arch, self.n_outputs = arch, n_outputs
        self.pretrained = frozenset(f"network.{name}" for name in getattr(network, _PRETRAINED, ()))
        """Names of the parameters of its backbone that came with weights."""
        self.resized_from: tuple[int, int] | None = None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to logits ``(N, K, H, W)``.

        Raises:
            ModelError: The output is of another form.
        """
        logits = main_output(self.network(image))
        if logits is None or logits.ndim != 4 or logits.shape[:2] != (image.shape[0], self.n_outputs):
            shape = "no tensor" if logits is None else str(tuple(logits.shape))
            raise ModelError(
                f"{self.arch.name}: makes {shape} of {tuple(image.shape)}, expected (N, {self.n_outputs}, h, w), one "
                "logit a class."
            )
        if logits.shape[2:] != image.shape[2:]:
            self.resized_from = int(logits.shape[2]), int(logits.shape[3])
            size = (int(image.shape[2]), int(image.shape[3]))
            logits = nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits

    def save(self, folder: Path) -> None:
        """Save weights under the network's own names, and its configuration or code beside them."""
        from safetensors.torch import save_file

        state = {name: tensor.detach().clone().contiguous() for name, tensor in self.network.state_dict().items()}
        save_file(state, folder / WEIGHTS_FILE)
        config = getattr(self.network, "config", None)
        if self.arch.name.startswith("hf:") and config is not None:
            (folder / "config.json").write_text(config.to_json_string(), encoding="utf-8")
            return
        described = {"arch": self.arch.name, "classes": self.n_outputs, "code_sha256": self.arch.code_sha256}
        (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        if self.arch.code is not None:
            (folder / self.arch.name.partition(":")[0]).write_text(self.arch.code, encoding="utf-8")


def main_output(found: object) -> torch.Tensor | None:
    """Return the logits among what a network returns; ``None`` where there are none.

    A tensor is taken as it is; of a dictionary ``logits``, ``out`` or its only tensor; of a tuple the first. Class and
    mask queries (Mask2Former) become a map: log of the sum over queries of class probability times mask probability.
    """
    if isinstance(found, torch.Tensor):
        return found
    content: Mapping[str, object] = found if isinstance(found, Mapping) else vars(found) if _fielded(found) else {}
    classes, masks = content.get("class_queries_logits"), content.get("masks_queries_logits")
    if isinstance(classes, torch.Tensor) and isinstance(masks, torch.Tensor):
        shares = torch.einsum("nqc,nqhw->nchw", classes.softmax(-1)[..., :-1], masks.sigmoid())
        return shares.clamp_min(1e-6).log()
    for key in ("logits", "out", "output", "pred", "masks"):
        if key in content:
            return main_output(content[key])
    tensors = [value for value in content.values() if isinstance(value, torch.Tensor)]
    if len(tensors) == 1:
        return tensors[0]
    return main_output(found[0]) if isinstance(found, list | tuple) and found else None


def _fielded(found: object) -> bool:
    return hasattr(found, "__dict__") and not isinstance(found, list | tuple)


def make_own(arch: str, bands: int, n_outputs: int, *, weights: bool = True) -> OwnNetwork:
    """Make a network that was named, with its first weights.

    Args:
        arch: As it was named, or its name on a card.
        bands: Number of bands that it reads.
        n_outputs: Number of its outputs.
        weights: Whether weights beside a configuration are loaded.
    Raises:
        ModelError: It was not named, or cannot be made.
    """
    named = named_arch(arch)
    make = named.make if weights or named.anew is None else named.anew
    return OwnNetwork(make(bands, n_outputs), named, n_outputs)


def load_own(arch: str, folder: Path, bands: int, n_outputs: int, *, code_sha256: str | None) -> OwnNetwork:
    """Make the network of saved weights: of transformers by the configuration beside them, others as they were named.

    Raises:
        ModelError: Its code was not named, or cannot be made.
    """
    if arch.startswith("hf:"):
        bare = _without_weights(folder, arch, bands, n_outputs)
        return OwnNetwork(bare, OwnArch(arch, arch, lambda _bands, _classes: bare), n_outputs)
    network = make_own(arch, bands, n_outputs)
    if code_sha256 not in (None, network.arch.code_sha256):
        say("Warning: %(arch)s: its code was changed since these weights were trained.", arch=arch)
    return network


def _without_weights(folder: Path, arch: str, bands: int, n_outputs: int) -> nn.Module:
    """Build a saved network of transformers from its configuration alone; its weights follow."""
    try:
        config = _read_config(str(folder), local_only=True)
    except ImportError as error:
        raise ModelError(f"{arch}: transformers is not installed. pip install 'levelground[transformers]'") from error
    except Exception as error:  # damaged or of another library
        raise ModelError(f"{folder}: unreadable configuration ({first_line(error)}).") from error
    if (config.num_labels, getattr(_bands_holder(config), "num_channels", bands)) != (n_outputs, bands):
        raise ModelError(f"{folder}: is a network of {config.num_labels} classes, expected {n_outputs}.")
    network = _model_class(config, str(folder))._from_config(config)
    assert isinstance(network, nn.Module)
    return network


class TwoClasses(nn.Module):
    """Network of one output as one of two classes: the rest, at 0, and the class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to logits ``(N, 2, H, W)``."""
        logits = self.network(image)
        return torch.cat([torch.zeros_like(logits), logits], dim=1)


class SummedOutputs(nn.Module):
    """A network whose outputs of one class are made one, so that the probabilities after a softmax are their sums.

    Args:
        network: The network, of logits.
        outputs: The class of each of its outputs; classes keep the order in which they come first.
    """

    def __init__(self, network: nn.Module, outputs: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.members = tuple(
            tuple(number for number, other in enumerate(outputs) if other == index) for index in dict.fromkeys(outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, classes, H, W)``: the logarithm of the sum of each class's exponentials."""
        logits = self.network(x)
        return torch.stack([logits[:, list(members)].float().logsumexp(dim=1) for members in self.members], dim=1)
