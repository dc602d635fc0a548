"""One optimiser step: batch in, loss out. The loop and the sanity check share it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from levelground.config import Recipe
from levelground.errors import ConfigError, first_line
from levelground.models.build import own_weights
from levelground.models.model import Model
from levelground.runtime import Runtime
from levelground.signals import poll_between_layers
from levelground.training.batches import Batch, generator
from levelground.training.losses import make_loss
from levelground.training.schedule import rate_factor


def to_device(batch: Batch, model: Model, runtime: Runtime) -> tuple[torch.Tensor, torch.Tensor]:
    """Move a batch to the device, change its colours and normalise it.

    With stored value x, band mean m and deviation s, gain g and shift b: x' = ((x − m)·g)/s + b, which is x·a + c with
    a = g/s and c = b − m·a, so each value is touched once.

    Args:
        batch: Crops as stored.
        model: Gives means and deviations.
        runtime: Gives the device.
    Returns:
        Images ``(N, C, H, W)`` float32, channels last where that is faster; targets ``(N, H, W)`` int64.
    """
    factors = batch.gains / np.asarray(model.spec.std, np.float32)
    offsets = batch.shifts - np.asarray(model.spec.mean, np.float32) * factors
    images = torch.from_numpy(batch.images).to(runtime.device).permute(0, 3, 1, 2)
    scale = torch.from_numpy(factors).to(runtime.device)[:, :, None, None]
    offset = torch.from_numpy(offsets).to(runtime.device)[:, :, None, None]
    normalised = torch.addcmul(offset, images.float(), scale)
    if not runtime.channels_last:
        normalised = normalised.contiguous()
    return normalised, torch.from_numpy(batch.targets).to(runtime.device).long()


def make_optimiser(model: Model, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimiser over the trainable parameters.

    Kernels decay, biases and normalisation layers do not; an encoder with weights learns at ``encoder_lr_factor``, and
    so does the backbone of a network of transformers.
    """
    loaded = own_weights(model.network)
    factor = 1.0 if model.encoder_weights == "none" else recipe.encoder_lr_factor
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.network.named_parameters():
        if parameter.requires_grad:
            rate = recipe.lr * (factor if name.startswith("encoder.") or name in loaded else 1.0)
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    options = [
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    # The fused form does one pass over memory; it is the same arithmetic on CPU and CUDA.
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    return kind(options, lr=recipe.lr, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its first."""
    for group in optimiser.param_groups:
        group["lr"] = factor * group["initial_lr"]


def class_weights(recipe: Recipe, class_pixels: Sequence[int], outputs: Sequence[int]) -> torch.Tensor | None:
    """Weigh classes by their shares among the training pixels, with a mean of 1 over pixels.

    Args:
        recipe: ``none``, ``sqrt`` (1 over the root of the share) or ``inverse`` (1 over the share).
        class_pixels: Pixels of each legend class in the training scenes, ``(K,)``.
        outputs: Legend index of each output.
    Returns:
        ``(len(outputs),)`` float32, or ``None`` for ``none``; a class without pixels weighs 0.
    """
    if recipe.class_weights == "none":
        return None
    pixels = np.asarray(class_pixels, np.float64)[list(outputs)]
    shares = pixels / max(1.0, pixels.sum())
    power = 0.5 if recipe.class_weights == "sqrt" else 1.0
    weights = np.divide(1.0, shares**power, out=np.zeros_like(shares), where=shares > 0)
    return torch.tensor(weights / max(1e-12, float((weights * shares).sum())), dtype=torch.float32)


TORCH_STREAM = 2**33
"""Slot of the generator that seeds torch; no slot of a batch, so it meets no crop's stream."""

SHORT_S = 0.5
"""A step this short can always be waited for: from then on nothing is polled between its layers, which costs some per
cent of the steps of a tiny network."""


def fast_depthwise(runtime: Runtime) -> contextlib.AbstractContextManager[object]:
    """Compute slow gradients of depthwise convolutions in float32, for a forward pass inside the block.

    In bfloat16 on a CPU oneDNN has no fast kernel for the gradient of the images where such a convolution has a
    stride, nor for that of weights wider than 3 px: they take 5 to 60 times as long as in float32, and two fifths of
    a training step of a network with an EfficientNet encoder. The forward pass has the same bits.
    """
    return (
        _FastDepthwise() if runtime.device.type == "cpu" and runtime.precision == "bf16" else contextlib.nullcontext()
    )


class _FastDepthwise(TorchFunctionMode):
    """Calls of ``torch.conv2d`` that are depthwise, strided or wide, go to :class:`_DepthwiseConv`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch."""
        if func is torch.conv2d and len(args) == 7 and not kwargs:
            images, weight, _, stride, padding, _, groups = args
            depthwise = 1 < groups == weight.shape[0] == images.shape[-3]
            if depthwise and any(_slow_gradients(weight, stride)) and images.ndim == 4 and not isinstance(padding, str):
                return _DepthwiseConv.apply(*args)
        return func(*args, **(kwargs or {}))


_WIDE_PX = 3
"""Widest depthwise kernel whose weights' gradient oneDNN computes fast in bfloat16, px."""


def _slow_gradients(weight: torch.Tensor, stride: int | Sequence[int]) -> tuple[bool, bool]:
    """Tell of a depthwise convolution whether the gradient of its images is slow, and that of its weights."""
    return max(_pair(stride)) > 1, max(weight.shape[-2:]) > _WIDE_PX


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class _DepthwiseConv(torch.autograd.Function):
    """Depthwise convolution in bfloat16, whose gradients are in float32 where bfloat16 is slow."""

    @staticmethod
    def forward(context: Any, images: torch.Tensor, weight: torch.Tensor, *options: Any) -> torch.Tensor:
        """Convolve as under autocast; ``options`` are ``torch.conv2d``'s from the bias on."""
        bias, stride, padding, dilation, groups = options
        context.options = _pair(stride), _pair(padding), _pair(dilation), groups
        context.types = [None if tensor is None else tensor.dtype for tensor in (images, weight, bias)]
        images, weight = images.bfloat16(), weight.bfloat16()
        context.save_for_backward(images, weight)
        return torch.conv2d(images, weight, None if bias is None else bias.bfloat16(), *options[1:])

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of images, weight and bias."""
        (gradient,), (images, weight), options = gradients, context.saved_tensors, context.options
        wanted, slow = context.needs_input_grad, _slow_gradients(weight, options[0])

        def compute(index: int) -> torch.Tensor | None:
            if not wanted[index]:
                return None
            given = [tensor.float() if slow[index] else tensor for tensor in (gradient, images, weight)]
            mask = [place == index for place in range(3)]
            found: torch.Tensor = torch.ops.aten.convolution_backward(
                *given, None, *options[:3], False, [0, 0], options[3], mask
            )[index]
            return found.to(context.types[index])

        bias = gradient.float().sum((0, 2, 3)).to(context.types[2]) if wanted[2] else None
        return compute(0), compute(1), bias, None, None, None, None


class Stepper:
    """Network with its optimiser, ready to take the steps of a run."""

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        runtime: Runtime,
        *,
        seed: int,
        steps: int,
        class_pixels: Sequence[int],
    ) -> None:
        """Place the network on the device and make its optimiser.

        Args:
            model: The network; it is moved, not copied.
            recipe: Names loss, optimiser and schedule.
            runtime: Where to compute.
            seed: The run's seed.
            steps: All steps of the run, which the schedule spans unless :attr:`rate` is set.
            class_pixels: Pixels of each legend class in the training scenes, ``(K,)``.
        """
        self.model = model.with_forward(runtime.place(model.network))
        self.optimiser = make_optimiser(self.model, recipe)
        self._network, self._optimiser = runtime.fabric.setup(self.model.network, self.optimiser)
        self._loss = make_loss(recipe.loss, weights=class_weights(recipe, class_pixels, model.spec.outputs))
        self._recipe, self._runtime, self._seed, self._steps = recipe, runtime, seed, steps
        self.poll: Callable[[], None] = lambda: None
        """Called between the layers of :meth:`gradients` on a CPU while steps are long; if it raises, nothing has
        changed."""
        self.rate: Callable[[int], float] = lambda number: rate_factor(recipe, number, steps)
        """Returns the factor of the learning rate at a step, numbered from 0."""
        self._remove_hooks: Callable[[], None] | None = None
        if runtime.device.type == "cpu":  # elsewhere steps are short
            self._remove_hooks = poll_between_layers(self.model.network, lambda: self.poll())

    def step(self, number: int, batch: Batch) -> torch.Tensor:
        """Take step ``number`` (from 0) on its batch and return the loss, still on the device."""
        loss = self.gradients(number, batch)
        self.update()
        return loss

    def synchronise(self, step: int = 0) -> int:
        """Give every process the main one's weights, optimiser and step.

        Args:
            step: The step to resume at; only the main process's counts.
        Returns:
            The main process's ``step``.
        """
        if self._runtime.processes == 1:
            return step
        main = self._runtime.rank == 0
        state = (step, self.model.network.state_dict(), self.optimiser.state_dict()) if main else None
        received = self._runtime.fabric.broadcast(state)
        assert received is not None  # the main process's
        step, weights, optimiser = received
        if not main:
            self.model.network.load_state_dict(weights)
            self.optimiser.load_state_dict(optimiser)
        return step

    def gradients(self, number: int, batch: Batch) -> torch.Tensor:
        """Compute the gradients, the long part of a step, and return the loss; weights stay as they are."""
        if self._remove_hooks is None:
            return self._gradients(number, batch)
        before = [buffer.clone() for buffer in self.model.network.buffers()]
        started = time.monotonic()
        try:
            loss = self._gradients(number, batch)
        except BaseException:
            # Running means and variances are the one thing that a forward pass changes.
            for buffer, value in zip(self.model.network.buffers(), before, strict=True):
                buffer.copy_(value)
            raise
        if self._recipe.tile and time.monotonic() - started < SHORT_S:  # whole scenes may be of unlike sizes
            self._remove_hooks()
            self._remove_hooks = None
        return loss

    def _gradients(self, number: int, batch: Batch) -> torch.Tensor:
        # Dropout draws from torch's generator: tied to (seed, step), it needs no random state to resume.
        stream = generator(self._seed, number, TORCH_STREAM + self._runtime.rank)
        torch.manual_seed(int(stream.integers(2**62)))
        set_rate(self.optimiser, self.rate(number))
        images, targets = to_device(batch, self.model, self._runtime)
        self._network.train()
        try:
            with fast_depthwise(self._runtime):
                logits = self._network(images)
            loss: torch.Tensor = self._loss(logits, targets)
            self._optimiser.zero_grad(set_to_none=True)
            self._runtime.fabric.backward(loss)
        except RuntimeError as error:
            if "deterministic implementation" not in str(error):
                raise
            raise ConfigError(
                f"--deterministic: {self.model.spec.arch} cannot be trained so ({first_line(error)}). Leave it out."
            ) from error
        mean = self._runtime.fabric.all_reduce(loss.detach(), reduce_op="mean")
        assert isinstance(mean, torch.Tensor)
        return mean

    def update(self) -> None:
        """Clip the gradients and move the weights: the end of a step."""
        if self._recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.model.network.parameters(), self._recipe.clip)
        self._optimiser.step()


class WeightAverage:
    """Mean of a network's weights over the last steps of a run, running statistics of batch normalisation included.

    Running means and variances are averaged as weights are: each is already a moving mean over ten or so steps, and at
    the end of a schedule they change slowly, so no second pass over the training scenes is needed.
    """

    def __init__(self) -> None:
        """Begin without a step."""
        self.values: dict[str, torch.Tensor] = {}
        self.steps = 0

    @torch.no_grad()
    def add(self, network: nn.Module) -> None:
        """Take the weights of one more step into the mean: m ← m + (w − m) / n."""
        self.steps += 1
        for name, value in network.state_dict().items():
            if self.steps == 1 or not value.is_floating_point():
                self.values[name] = value.clone()
            else:
                self.values[name].lerp_(value, 1 / self.steps)

    @contextlib.contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Put the mean into a network, and its own weights back after the block; nothing before the first step."""
        own = {name: value.clone() for name, value in network.state_dict().items()} if self.steps else {}
        _copy_into(network, self.values if own else {})
        try:
            yield
        finally:
            _copy_into(network, own)

    def restore(self, values: Mapping[str, torch.Tensor], steps: int, device: torch.device) -> None:
        """Go on with a mean that was saved."""
        self.values, self.steps = {name: value.to(device) for name, value in values.items()}, steps


@torch.no_grad()
def _copy_into(network: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Overwrite weights and statistics in place."""
    there = network.state_dict()
    for name, value in values.items():
        there[name].copy_(value)
