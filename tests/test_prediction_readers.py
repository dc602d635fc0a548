"""Pixels at another ground sample distance."""

import numpy as np
import pytest
from numpy.typing import NDArray

from levelground.prediction.inputs import resample, resampling_weights


def whole(
    pixels: NDArray[np.generic], height: int, width: int, mask: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Resample all of it at once."""
    rows, cols = (
        resampling_weights(slice(0, height), pixels.shape[0], height),
        resampling_weights(slice(0, width), pixels.shape[1], width),
    )
    return resample(pixels, mask, rows, cols)


def test_larger_pixels_are_means_over_their_area() -> None:
    """By hand: 3 pixels become 2, the middle one shared."""
    pixels = np.float32([[[0], [3], [9]]])
    mean, mask = whole(pixels, 1, 2)
    assert mean[0, :, 0].tolist() == pytest.approx([(0 + 1.5) / 1.5, (1.5 + 9) / 1.5])
    assert mask is None


def test_smaller_pixels_lie_on_lines_between_centres() -> None:
    """By hand: 2 pixels become 4; beyond the outer centres the border pixel goes on."""
    mean, _ = whole(np.uint8([[[0], [8]]]), 1, 4)
    assert mean[0, :, 0].tolist() == pytest.approx([0, 2, 6, 8])


@pytest.mark.parametrize("size", [(20, 30), (7, 9), (33, 61)])
def test_even_ground_stays_even(size: tuple[int, int]) -> None:
    """Weights add up to 1 everywhere."""
    mean, _ = whole(np.full((20, 30, 2), 77, np.uint8), *size)
    assert mean == pytest.approx(np.full((*size, 2), 77))


def test_pixels_without_data_weigh_nothing() -> None:
    """What remains of the area counts; less than half of it is a gap."""
    pixels = np.float32([[[4], [100], [6], [100], [100], [100]]])
    mask = np.array([[False, True, False, True, True, True]])
    mean, empty = whole(pixels, 1, 2, mask)
    assert mean[0, 0, 0] == pytest.approx(5)
    assert empty is not None
    assert empty.tolist() == [[False, True]]
