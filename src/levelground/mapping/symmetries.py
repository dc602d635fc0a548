"""The mean over the eight symmetries of the square: a map from above has no up, so a network should not care."""

from collections.abc import Callable

import torch

from levelground.networks.inference import Forward

Turn = Callable[[torch.Tensor], torch.Tensor]


def _turned(turns: int, mirrored: bool) -> tuple[Turn, Turn]:
    """A symmetry of the last two axes and its inverse."""

    def there(image: torch.Tensor) -> torch.Tensor:
        return torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))

    def back(image: torch.Tensor) -> torch.Tensor:
        upright = torch.rot90(image, -turns, (-2, -1))
        return upright.flip(-1) if mirrored else upright

    return there, back


D4: tuple[tuple[Turn, Turn], ...] = tuple(_turned(turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""The eight symmetries, each with its inverse; the identity first."""


def average_d4(forward: Forward, *, activated: bool, channels_last: bool = True) -> Forward:
    """A network that answers with the mean of its probabilities over the eight symmetries.

    Args:
        forward: The network; square tiles, or one that takes any size.
        activated: Whether it gives probabilities already.
        channels_last: Whether images lie in memory pixel by pixel.
    Returns:
        A network that gives probabilities, and takes eight times as long.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def averaged(image: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor | None = None
        for there, back in D4:
            output = forward(there(image).contiguous(memory_format=layout)).float()
            probs = back(output if activated else torch.softmax(output, dim=1))
            total = probs.contiguous() if total is None else total.add_(probs)
        assert total is not None
        return total.div_(len(D4))

    return averaged
