"""Tiles as torch tensors: normalisation, the network, blending, and test-time augmentation where torch runs a model."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from levelground.models.model import Forward, Model
from levelground.runtime import Runtime
from levelground.tile_geometry import SYMMETRIES

Array = NDArray[np.float32]


class Normaliser:
    """Normalisation of stored pixels to a network's input: ``(value - mean) / std`` per band."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        """Keep mean and standard deviation of each band, in stored units, as scale and offset on ``device``."""
        deviations = torch.tensor(list(std), dtype=torch.float64)
        scale = 1 / deviations
        self._scale = scale.to(device, torch.float32)
        self._offset = (-torch.tensor(list(mean), dtype=torch.float64) * scale).to(device, torch.float32)

    def __call__(self, stored: torch.Tensor) -> torch.Tensor:
        """Normalise a batch.

        Args:
            stored: ``(N, H, W, C)`` of any number type, contiguous.
        Returns:
            ``(N, C, H, W)`` float32 in channels-last memory; a stored NaN becomes the mean, 0.
        """
        n, height, width, bands = stored.shape
        lines = stored.view(n, height, width * bands).to(torch.float32)
        torch.addcmul(self._offset.repeat(width), lines, self._scale.repeat(width), out=lines)
        if stored.is_floating_point():
            lines = lines.nan_to_num_(nan=0.0)
        return lines.view(n, height, width, bands).permute(0, 3, 1, 2)


class TensorTiles:
    """Tiles as tensors on a device; see :class:`~levelground.inference.sliding_window.TileArithmetic`."""

    def __init__(self, model: Model, runtime: Runtime) -> None:
        """Bring the normalisation to the device."""
        self._model, self._runtime = model, runtime
        self._normaliser = Normaliser(model.spec.mean, model.spec.std, runtime.device)
        self._pin = runtime.device_kind == "cuda"

    def stack(self, regions: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
        """Stack regions, in pinned memory where they go to a GPU; the array keeps that memory."""
        if not self._pin:
            return np.stack(regions, out=np.empty((len(regions), *regions[0].shape), regions[0].dtype))
        kind = torch.from_numpy(np.empty(0, regions[0].dtype)).dtype
        stored: NDArray[np.generic] = torch.empty(
            (len(regions), *regions[0].shape), dtype=kind, pin_memory=True
        ).numpy()
        return np.stack(regions, out=stored)

    @torch.inference_mode()
    def probabilities(self, stored: NDArray[np.generic]) -> torch.Tensor:
        """Run the network over stored tiles in the runtime's precision."""
        runtime = self._runtime
        image = self._normaliser(torch.from_numpy(stored).to(runtime.device, non_blocking=True))
        if not runtime.channels_last:
            image = image.contiguous()
        with runtime.autocast():
            output = self._model.on_tensors(image).contiguous().float()
        return output if self._model.activated else torch.softmax(output, dim=1)

    @torch.inference_mode()
    def weights(self, share: Array) -> torch.Tensor:
        """Bring weights to the device."""
        return torch.from_numpy(share).to(self._runtime.device)

    @torch.inference_mode()
    def blend(self, old: torch.Tensor, new: torch.Tensor, share: torch.Tensor) -> None:
        """Overwrite ``new`` by the blend."""
        new.copy_(torch.lerp(old, new, share))

    @torch.inference_mode()
    def copy(self, values: torch.Tensor) -> torch.Tensor:
        """Copy values."""
        return values.clone()

    def to_array(self, values: torch.Tensor) -> Array:
        """Bring values into main memory."""
        array: Array = values.contiguous().cpu().numpy()
        return array

    def from_array(self, values: Array) -> torch.Tensor:
        """Bring values to the device."""
        return torch.from_numpy(values).to(self._runtime.device)


Turn = Callable[[torch.Tensor], torch.Tensor]


def _turned(turns: int, mirrored: bool) -> tuple[Turn, Turn]:
    """Make a symmetry of the last two axes, and its inverse."""

    def there(image: torch.Tensor) -> torch.Tensor:
        return torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))

    def back(image: torch.Tensor) -> torch.Tensor:
        upright = torch.rot90(image, -turns, (-2, -1))
        return upright.flip(-1) if mirrored else upright

    return there, back


D4: tuple[tuple[Turn, Turn], ...] = tuple(_turned(*symmetry) for symmetry in SYMMETRIES)
"""The eight symmetries, each with its inverse; the identity first."""


def averaged_over_symmetries(model: Model, *, channels_last: bool) -> Forward:
    """Return the mean of a model's probabilities over the eight symmetries of the square, as a function of an image."""
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def averaged(image: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor | None = None
        for there, back in D4:
            output = model.on_tensors(there(image).contiguous(memory_format=layout)).float()
            probs = back(output if model.activated else torch.softmax(output, dim=1))
            total = probs.contiguous() if total is None else total.add_(probs)
        assert total is not None
        return total.div_(len(D4))

    return averaged
