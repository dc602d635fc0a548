"""Tiles as torch tensors: normalisation, the network, blending, and test-time augmentation where torch runs a model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

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


FIRST_SHARE = 1 / 8
"""Share of a network's multiplications that its first layers do in float32 where a CPU computes in bfloat16, if some of
its convolutions are depthwise. What the first layers of such encoders round is carried through all others: a tenth more
time brings the classes four times as near to those of float32. Networks without, such as ResNet's, gain nothing."""

_LAYERS: tuple[object, ...] = (torch.conv2d, torch.conv_transpose2d, torch.nn.functional.linear)
"""The functions of torch that multiply weights."""


class _LateAutocast(TorchFunctionMode):
    """Turns autocast on the CPU, on outside, off for the first multiplications of a network, and counts all of them."""

    def __init__(self, *, exact: float) -> None:
        """Begin; ``exact`` is the number of multiplications in float32."""
        super().__init__()
        self._exact = exact
        self._first: object = None
        self._on = True
        self.done = 0
        """Multiplications since the first layer."""
        self.depthwise = False
        """Whether there was a depthwise convolution."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch."""
        if func not in _LAYERS or len(args) < 2:
            return func(*args, **(kwargs or {}))
        values, weight = args[:2]
        self._first = weight if self._first is None else self._first
        self.done = 0 if weight is self._first else self.done  # test-time augmentation runs the network again
        if torch.is_autocast_enabled("cpu") == self._on:  # else the network itself has set it for a part
            self._on = self.done >= self._exact
            torch.set_autocast_enabled("cpu", self._on)
        output = func(*args, **(kwargs or {}))
        places = values if func is torch.conv_transpose2d else output
        self.done += weight.numel() * places.numel() // weight.shape[0]
        self.depthwise |= func is torch.conv2d and weight.shape[1] == 1 < values.shape[-3]
        return output


_COUNTED: WeakKeyDictionary[Forward, dict[tuple[int, ...], int]] = WeakKeyDictionary()
"""What :func:`_count_multiplications` counted, by the shape of the image."""


def _count_multiplications(forward: Forward, image: torch.Tensor) -> int:
    """Count the multiplications of a network for one image by running it; 0 without depthwise convolutions."""
    known = _COUNTED.setdefault(forward, {})
    shape = tuple(image.shape)
    if shape not in known:
        with _LateAutocast(exact=0) as counted:
            forward(image)
        known[shape] = counted.done if counted.depthwise else 0
    return known[shape]


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
        with self._precision(image):
            output = self._model.on_tensors(image).contiguous().float()
        return output if self._model.activated else torch.softmax(output, dim=1)

    @contextmanager
    def _precision(self, image: torch.Tensor) -> Iterator[None]:
        """Compute in the runtime's precision inside the block, on a CPU as :data:`FIRST_SHARE` says."""
        runtime = self._runtime
        with runtime.autocast():
            rounds = runtime.device_kind == "cpu" and runtime.precision == "bf16"
            work = _count_multiplications(self._model.on_tensors, image[:1]) if rounds else 0
            with _LateAutocast(exact=FIRST_SHARE * len(image) * work) if work else nullcontext():
                yield

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
