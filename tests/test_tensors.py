"""The precision that tiles are computed in where torch runs a network on a CPU that multiplies bfloat16."""

from collections.abc import Callable

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from builders.models import toy_model
from numpy.typing import NDArray
from torch import nn

from levelground.inference.sliding_window import with_tta
from levelground.inference.tensors import TensorTiles
from levelground.models.model import Model
from levelground.runtime import make_runtime

BF16, FP32 = (make_runtime("cpu", precision, threads=1) for precision in ("bf16", "fp32"))
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(3, 3, 3, padding=1),
    "transposed": lambda: nn.ConvTranspose2d(3, 3, 3, padding=1),
    "linear": lambda: PerPixel(),
}


class PerPixel(nn.Linear):
    """A linear layer over the bands of each pixel."""

    def __init__(self) -> None:
        """Take and give three bands."""
        super().__init__(3, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Run the layer over ``(N, C, H, W)``."""
        return super().forward(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def network_of(kind: str, *, depthwise: bool = True) -> nn.Sequential:
    """Make a network of nine equal layers and one smaller, depthwise or per pixel."""
    torch.manual_seed(0)
    last = nn.Conv2d(3, 3, 3, padding=1, groups=3) if depthwise else nn.Conv2d(3, 3, 1)
    return nn.Sequential(*(LAYERS[kind]() for _ in range(9)), last).eval()


def model_of(network: nn.Module) -> Model:
    """Make a model of three bands and three classes."""
    return toy_model(network, bands=3, mean=128.0, std=64.0)


def tiles(n: int = 2, side: int = 16) -> NDArray[np.uint8]:
    """Make tiles of noise."""
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def image_of(stored: NDArray[np.uint8]) -> torch.Tensor:
    """Normalise tiles as :func:`model_of` says."""
    return torch.from_numpy(stored).permute(0, 3, 1, 2).float().sub(128).div(64)


def watched(network: nn.Sequential) -> list[torch.dtype]:
    """Return a list that each layer adds the type of its output to."""
    seen: list[torch.dtype] = []
    for layer in network:
        layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output.dtype))
    return seen


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_first_eighth_is_computed_in_float32(kind: str, tta: bool) -> None:
    """Two of ten layers, whatever the batch, and under test-time augmentation in each of its eight passes."""
    network = network_of(kind)
    passes, model = (8, with_tta(model_of(network))) if tta else (1, model_of(network))
    arithmetic = TensorTiles(model, BF16)
    arithmetic.probabilities(tiles(1))
    seen = watched(network)
    for n in (1, 3):
        arithmetic.probabilities(tiles(n))
    assert seen == ([torch.float32] * 2 + [torch.bfloat16] * 8) * passes * 2
    assert not torch.is_autocast_enabled("cpu")


def test_what_a_network_computes_in_float32_by_itself_stays_so() -> None:
    """A head that turns autocast off keeps it off, and nothing is left on or off behind it."""

    class Exact(nn.Conv2d):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", enabled=False):
                return super().forward(image.float())

    network = network_of("convolution")
    network[6] = Exact(3, 3, 3, padding=1)
    TensorTiles(model_of(network), BF16).probabilities(tiles(1))
    seen = watched(network)
    TensorTiles(model_of(network), BF16).probabilities(tiles(1))
    assert seen == [torch.float32] * 2 + [torch.bfloat16] * 4 + [torch.float32] + [torch.bfloat16] * 3
    assert not torch.is_autocast_enabled("cpu")


def test_multiplications_are_counted_once_for_tiles_of_a_size() -> None:
    """Scenes that follow are not run twice, nor is anything where all is float32."""
    network, calls = network_of("convolution"), list[int]()
    network.register_forward_hook(lambda _layer, inputs, _output: calls.append(len(inputs[0])))
    TensorTiles(model_of(network), FP32).probabilities(tiles())
    assert calls == [2]
    for _scene in range(2):
        TensorTiles(model_of(network), BF16).probabilities(tiles())
    TensorTiles(model_of(network), BF16).probabilities(tiles(side=32))
    assert calls == [2, 1, 2, 2, 1, 2]


def test_a_network_without_depthwise_convolutions_is_computed_in_bfloat16() -> None:
    """Such networks are as near to float32 either way, and slower by a tenth the other way."""
    network = network_of("convolution", depthwise=False)
    TensorTiles(model_of(network), BF16).probabilities(tiles(1))
    seen = watched(network)
    TensorTiles(model_of(network), BF16).probabilities(tiles())
    assert seen == [torch.bfloat16] * 10


def test_a_network_whose_layers_cannot_be_seen_is_computed_in_bfloat16() -> None:
    """A TorchScript program calls no function of torch in Python."""
    network = network_of("convolution")
    script = torch.jit.trace(network, torch.zeros(2, 3, 16, 16))  # type: ignore[no-untyped-call]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = network(image_of(tiles())).float().softmax(1)
    found = TensorTiles(model_of(script), BF16).probabilities(tiles())
    assert torch.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_an_encoder_of_depthwise_convolutions_comes_nearer_to_float32(seed: int) -> None:
    """A deep network carries what its first layers round through all others."""
    torch.manual_seed(seed)
    network = smp.FPN("tu-mobilenetv3_small_050", encoder_weights=None, classes=3).eval()
    stored = tiles(2, 64)
    with torch.inference_mode():
        exact = network(image_of(stored)).softmax(1)
        with torch.autocast("cpu", torch.bfloat16):
            plain = network(image_of(stored)).float().softmax(1)
    found = TensorTiles(model_of(network), BF16).probabilities(stored)
    assert (found - exact).abs().mean() < 0.8 * (plain - exact).abs().mean()
