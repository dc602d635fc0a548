"""The mean over the eight symmetries of the square."""

import pytest
import torch
from builders.models import toy_model

from levelground.inference.sliding_window import with_tta
from levelground.inference.tensors import D4


def test_there_are_eight_and_each_has_its_inverse() -> None:
    """No two move an uneven picture the same way."""
    image = torch.arange(9).reshape(1, 1, 3, 3)
    turned = {tuple(there(image).flatten().tolist()) for there, _ in D4}
    assert len(turned) == 8
    assert all(torch.equal(back(there(image)), image) for there, back in D4)


def lopsided(image: torch.Tensor) -> torch.Tensor:
    """A network that looks at the pixel to the left."""
    left = torch.roll(image, 1, dims=-1)
    return torch.cat([left, -image], dim=1)


@pytest.mark.parametrize("channels_last", [True, False])
def test_turning_the_image_turns_the_answer(channels_last: bool) -> None:
    """Whatever the network: its mean over all symmetries has them itself."""
    averaged = with_tta(toy_model(lopsided, bands=1), channels_last=channels_last).forward
    image = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = averaged(image)
    assert torch.allclose(expected.sum(dim=1), torch.ones(2, 8, 8))
    for there, back in D4:
        assert torch.allclose(back(averaged(there(image))), expected, atol=1e-6)


def test_probabilities_are_averaged_not_logits() -> None:
    """A network that gives probabilities itself is taken as it is."""
    image = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    inside = with_tta(toy_model(lambda x: torch.softmax(lopsided(x), dim=1), bands=1, activated=True)).forward(image)
    assert torch.allclose(inside, with_tta(toy_model(lopsided, bands=1)).forward(image))
    mean = torch.stack([torch.softmax(back(lopsided(there(image))), dim=1) for there, back in D4]).mean(dim=0)
    assert torch.allclose(inside, mean, atol=1e-6)
