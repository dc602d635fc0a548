"""Whether an architecture, an encoder, a batch and a tile go together: said before data are read."""

import re
from dataclasses import dataclass

import torch

from levelground.errors import ModelError, first_line
from levelground.networks.models import DIVISOR, canonical_arch, create_on_meta


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
