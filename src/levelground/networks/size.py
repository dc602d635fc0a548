"""What a network weighs and does: parameters and operations, counted without doing them."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from levelground.networks.models import SegmentationModel, create_on_meta


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
