"""Pixels at another ground sample distance, window by window and without seams.

Along each side an output pixel is a weighted sum of input pixels (taps) whose places and weights depend on its place
in the whole raster alone, never on the window it is read with. Making pixels larger takes the mean over the area of
each, making them smaller interpolates linearly between centres; the outer edges of both grids coincide.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from levelground.imagery.images import Gaps

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Taps:
    """What output pixels are made of along one side.

    Attributes:
        places: Input pixels, ``(n, T)``.
        weights: Their weights, ``(n, T)``; each row adds up to 1.
    """

    places: NDArray[np.intp]
    weights: Floats

    @property
    def reach(self) -> slice:
        """The input pixels that are needed."""
        return slice(int(self.places.min()), int(self.places.max()) + 1)


def plan_taps(wanted: slice, n_in: int, n_out: int) -> Taps:
    """Plan output pixels along one side.

    Args:
        wanted: Output pixels.
        n_in: Input pixels of the whole side.
        n_out: Output pixels of the whole side.
    Example:
        >>> plan_taps(slice(1, 2), 8, 4).weights[:, :2].tolist()
        [[0.5, 0.5]]
    """
    step = n_in / n_out
    number = np.arange(wanted.start, wanted.stop, dtype=np.float64)[:, None]
    if step > 1:
        low, high = number * step, (number + 1) * step
        places = np.floor(low) + np.arange(int(np.ceil(step)) + 1)
        weights = np.clip(np.minimum(high, places + 1) - np.maximum(low, places), 0, None)
    else:
        centre = (number + 0.5) * step - 0.5
        places = np.floor(centre) + np.arange(2)
        weights = np.clip(1 - np.abs(centre - places), 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return Taps(np.clip(places, 0, n_in - 1).astype(np.intp), weights.astype(np.float32))


def resample(pixels: NDArray[np.generic], gaps: Gaps | None, rows: Taps, cols: Taps) -> tuple[Floats, Gaps | None]:
    """Resample a window.

    Args:
        pixels: The input pixels within ``rows.reach`` and ``cols.reach``, ``(H, W, C)``.
        gaps: Where they have no data, ``(H, W)``; such pixels weigh nothing.
        rows: Taps along the rows.
        cols: Taps along the columns.
    Returns:
        ``(h, w, C)`` float32, and where less than half of a pixel has data; ``None`` where every pixel has some.
    """
    values = pixels.astype(np.float32)
    if gaps is None or not gaps.any():
        return _apply(values, rows, cols), None
    values[gaps] = 0
    known = _apply((~gaps)[..., None].astype(np.float32), rows, cols)
    mean = _apply(values, rows, cols)
    mean /= np.maximum(known, np.float32(1e-6))
    return mean, known[..., 0] < 0.5


def _apply(values: Floats, rows: Taps, cols: Taps) -> Floats:
    tall = np.zeros((len(rows.places), *values.shape[1:]), np.float32)
    for place, weight in zip((rows.places - rows.reach.start).T, rows.weights.T, strict=True):
        tall += weight[:, None, None] * values[place]
    whole = np.zeros((len(tall), len(cols.places), values.shape[2]), np.float32)
    for place, weight in zip((cols.places - cols.reach.start).T, cols.weights.T, strict=True):
        whole += weight[None, :, None] * tall[:, place]
    return whole
