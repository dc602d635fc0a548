"""Folders in segmentation_models_pytorch's own layout, read without running code from them and without a hub."""

import inspect
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from levelground.errors import ModelError, WeightsError, first_line
from levelground.models.pretrained import fit_state, read_state

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"

ACTIVATIONS = (None, "identity", "logsoftmax", "softmax", "softmax2d", "sigmoid")
"""Activations in a configuration that leave out nothing: the network is run without, a softmax follows."""


@dataclass(frozen=True)
class SmpFolder:
    """A network and what its configuration says of it."""

    network: nn.Module
    encoder: str
    bands: int
    n_outputs: int


def open_smp(folder: Path) -> SmpFolder:
    """Build the network of a folder and load its weights.

    Args:
        folder: Holds ``config.json`` and ``model.safetensors``, as ``save_pretrained`` writes them.
    Returns:
        The network on the CPU in evaluation mode. A single output becomes two classes, the first of them the rest.
    Raises:
        ModelError: The configuration is damaged or names no network that can be built.
        WeightsError: The weights are missing, damaged or of another network.
    """
    if not (folder / WEIGHTS_FILE).is_file():
        raise WeightsError(f"{folder}: no {WEIGHTS_FILE}. Save the model with save_pretrained; pickles are not read.")
    config = _read_config(folder)
    name, encoder = config.pop("_model_class"), config["encoder_name"]
    activation = config.get("activation")
    if activation not in ACTIVATIONS:
        raise ModelError(f"{folder}: has the activation {activation!r}. Save it with activation=None.")
    network = _build(folder, name, config | {"encoder_weights": None, "aux_params": None, "activation": None})
    state = fit_state(read_state(folder), network.state_dict(), source=str(folder), part="network")
    network.load_state_dict(state)
    n, bands = int(config["classes"]), int(config["in_channels"])
    if activation == "sigmoid" and n > 1:
        raise ModelError(f"{folder}: {n} outputs after a sigmoid do not exclude each other. Give one with a softmax.")
    # A softmax over (0, x) is the sigmoid of x.
    whole = network if n > 1 else _TwoClasses(network)
    return SmpFolder(whole.eval(), encoder, bands, max(2, n))


class _TwoClasses(nn.Module):
    """A network of one output as one of two classes: the rest, at 0, and the class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to logits ``(N, 2, H, W)``."""
        logits = self.network(image)
        return torch.cat([torch.zeros_like(logits), logits], dim=1)


def _read_config(folder: Path) -> dict[str, Any]:
    """The configuration with its types checked."""
    path = folder / CONFIG_FILE
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: unreadable ({first_line(error)}). Save the model with save_pretrained.") from error
    for key, kind in (("_model_class", str), ("encoder_name", str), ("in_channels", int), ("classes", int)):
        if not isinstance(config, dict) or not isinstance(config.get(key), kind):
            raise ModelError(f"{path}: lacks {key!r}, expected {kind.__name__}. Save the model with save_pretrained.")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", config["encoder_name"]):  # timm would fetch a name with a colon
        raise ModelError(f"{path}: {config['encoder_name']!r} is no encoder's name. Save the model with its own.")
    if not (1 <= config["classes"] <= 255 and 1 <= config["in_channels"] <= 1024):
        raise ModelError(
            f"{path}: {config['classes']} classes of {config['in_channels']} bands, expected 1 to 255 and 1 to 1024. "
            "Save the model with save_pretrained."
        )
    return config


def _build(folder: Path, name: str, config: dict[str, Any]) -> nn.Module:
    """The network that a configuration describes; only the architecture's own parameters are taken."""
    makers = {maker.__name__: maker for maker in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if name not in makers:
        raise ModelError(f"{folder}: {name!r} is no architecture. Known: {', '.join(sorted(makers))}.")
    known = set(inspect.signature(makers[name].__init__).parameters) - {"self", "kwargs"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's advice to its own users
            network: nn.Module = makers[name](**{key: value for key, value in config.items() if key in known})
    except Exception as error:
        # The library raises KeyError, ValueError, TypeError or RuntimeError for values that do not go together.
        raise ModelError(f"{folder}: its network cannot be built ({first_line(error)}). Save it anew.") from error
    return network
