"""From a loaded batch to tensors: normalisation, colours, memory format."""

import dataclasses

import numpy as np
import pytest
import torch

from levelground.models.model import Model
from levelground.models.spec import numbered_spec
from levelground.runtime import Runtime, make_runtime
from levelground.training.batches import Batch
from levelground.training.step import to_device

RUNTIME = make_runtime("cpu", "fp32", threads=1)


def model(bands: int) -> Model:
    """Only mean and deviation matter here."""
    mean = tuple(100.0 + 10 * band for band in range(bands))
    std = tuple(20.0 + band for band in range(bands))
    return Model(numbered_spec("toy", "none", n_outputs=2, mean=mean, std=std), torch.nn.Identity())


def batch(bands: int = 3, dtype: str = "uint8", *, gain: float = 1.0, shift: float = 0.0) -> Batch:
    """Two random crops of 4 × 6 px with one gain and shift."""
    rng = np.random.default_rng(0)
    top = 250 if dtype == "uint8" else 30_000
    return Batch(
        images=rng.integers(0, top, (2, 4, 6, bands)).astype(dtype),
        targets=rng.choice(np.uint8([0, 1, 255]), (2, 4, 6)),
        gains=np.full((2, bands), gain, np.float32),
        shifts=np.full((2, bands), shift, np.float32),
        scenes=(0, 1),
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 4, 12])
def test_without_colours_it_is_normalisation(dtype: str, bands: int) -> None:
    """(x − mean) / deviation, band by band, for every stored type."""
    given = batch(bands, dtype)
    images, targets = to_device(given, model(bands), RUNTIME)
    mean, std = np.array(model(bands).spec.mean), np.array(model(bands).spec.std)
    expected = ((given.images - mean) / std).transpose(0, 3, 1, 2)
    assert images.dtype == torch.float32
    np.testing.assert_allclose(images.numpy(), expected, rtol=1e-4, atol=1e-3)
    assert targets.dtype == torch.int64
    assert np.array_equal(targets.numpy(), given.targets)


def test_gain_turns_around_the_mean_and_shift_adds_deviations() -> None:
    """A value x becomes ((x − m)·g)/s + b."""
    given = batch(gain=1.5, shift=0.25)
    images, _ = to_device(given, model(3), RUNTIME)
    plain, _ = to_device(batch(), model(3), RUNTIME)
    torch.testing.assert_close(images, plain * 1.5 + 0.25, rtol=1e-4, atol=1e-4)


def test_each_crop_has_its_own_colours() -> None:
    """Gains and shifts are by crop and band."""
    given = batch()
    given.gains[1, 2], given.shifts[0, 1] = 2.0, -1.0
    images, _ = to_device(given, model(3), RUNTIME)
    plain, _ = to_device(batch(), model(3), RUNTIME)
    torch.testing.assert_close(images[1, 2], plain[1, 2] * 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(images[0, 1], plain[0, 1] - 1, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(images[0, 0], plain[0, 0])


def test_images_lie_channels_last() -> None:
    """As the cache gives them: no transposing copy."""
    images, _ = to_device(batch(), model(3), RUNTIME)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_where_channels_last_is_not_offered_images_are_plain() -> None:
    """MPS wants them plane by plane."""

    class Plain(Runtime):
        """A runtime whose device does not take channels last."""

        @property
        def channels_last(self) -> bool:
            return False

    plain = Plain(**{field.name: getattr(RUNTIME, field.name) for field in dataclasses.fields(Runtime)})
    images, _ = to_device(batch(), model(3), plain)
    assert images.is_contiguous()
    assert torch.equal(images, to_device(batch(), model(3), RUNTIME)[0])


def test_the_batch_itself_stays_as_it_was() -> None:
    """It may be needed again, as in timing."""
    given, untouched = batch(), batch()
    to_device(given, model(3), RUNTIME)
    assert np.array_equal(given.images, untouched.images)
    assert np.array_equal(given.targets, untouched.targets)
