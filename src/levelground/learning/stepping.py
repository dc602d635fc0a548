"""One optimiser step: batch in, loss out. The loop, the timing of ``--minutes`` and the sanity check share it."""

import time
from collections.abc import Callable, Sequence

import torch

from levelground.errors import ConfigError, first_line
from levelground.learning.augment import to_device
from levelground.learning.batches import Batch
from levelground.learning.losses import make_loss
from levelground.learning.optimisation import class_weights, make_optimiser, rate_factor, set_rate
from levelground.learning.sampling import generator
from levelground.learning.stopping import look_between_layers
from levelground.networks.models import SegmentationModel, with_network
from levelground.networks.runtime import Runtime
from levelground.recipe import Recipe

TORCH_STREAM = 2**33
"""Slot of the generator that seeds torch; no slot of a batch, so it meets no crop's stream."""

SHORT_S = 0.5
"""A step this short can always be waited for: from then on nothing looks between its layers, which costs some per cent
of the steps of a tiny network."""


class Stepper:
    """A network with its optimiser, ready to take steps of a run."""

    def __init__(
        self,
        model: SegmentationModel,
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
            steps: All steps of the run, which the schedule spans.
            class_pixels: Pixels of each legend class in the training scenes, ``(K,)``.
        """
        self.model = with_network(model, runtime.place(model.network))
        self.optimiser = make_optimiser(self.model, recipe)
        self._network, self._optimiser = runtime.fabric.setup(self.model.network, self.optimiser)
        self._loss = make_loss(recipe.loss, weights=class_weights(recipe, class_pixels, model.outputs))
        self._recipe, self._runtime, self._seed, self._steps = recipe, runtime, seed, steps
        self.look: Callable[[], None] = lambda: None
        """Called between the layers of :meth:`gradients` on a CPU while steps are long; where it raises, nothing has
        changed."""
        self._look_no_more: Callable[[], None] | None = None
        if runtime.device.type == "cpu":  # elsewhere steps are short
            self._look_no_more = look_between_layers(self.model.network, lambda: self.look())

    def step(self, number: int, batch: Batch) -> torch.Tensor:
        """Take step ``number`` (from 0) on its batch and return the loss, still on the device."""
        loss = self.gradients(number, batch)
        self.update()
        return loss

    def align(self, step: int = 0) -> int:
        """Give every process the first one's weights, optimiser and step.

        Args:
            step: The step to go on at; only the first process's counts.
        Returns:
            The first process's ``step``.
        """
        if self._runtime.processes == 1:
            return step
        first = self._runtime.rank == 0
        state = (step, self.model.network.state_dict(), self.optimiser.state_dict()) if first else None
        given = self._runtime.fabric.broadcast(state)
        assert given is not None  # the first process's
        step, weights, optimiser = given
        if not first:
            self.model.network.load_state_dict(weights)
            self.optimiser.load_state_dict(optimiser)
        return step

    def gradients(self, number: int, batch: Batch) -> torch.Tensor:
        """The first and long part of a step: forward and backward. Weights stay as they are."""
        if self._look_no_more is None:
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
            self._look_no_more()
            self._look_no_more = None
        return loss

    def _gradients(self, number: int, batch: Batch) -> torch.Tensor:
        # Dropout draws from torch's generator: tied to (seed, step), it needs no random state to resume.
        stream = generator(self._seed, number, TORCH_STREAM + self._runtime.rank)
        torch.manual_seed(int(stream.integers(2**62)))
        set_rate(self.optimiser, rate_factor(self._recipe, number, self._steps))
        images, targets = to_device(batch, self.model, self._runtime)
        self._network.train()
        try:
            loss: torch.Tensor = self._loss(self._network(images), targets)
            self._optimiser.zero_grad(set_to_none=True)
            self._runtime.fabric.backward(loss)
        except RuntimeError as error:
            if "deterministic implementation" not in str(error):
                raise
            raise ConfigError(
                f"--deterministic: {self.model.arch} cannot be trained so ({first_line(error)}). Leave it out."
            ) from error
        mean = self._runtime.fabric.all_reduce(loss.detach(), reduce_op="mean")
        assert isinstance(mean, torch.Tensor)
        return mean

    def update(self) -> None:
        """The second part of a step: clip the gradients and move the weights."""
        if self._recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.model.network.parameters(), self._recipe.clip)
        self._optimiser.step()
