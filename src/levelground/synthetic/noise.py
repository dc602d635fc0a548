"""Random fields and nearest points, the primitives of generated scenes; NumPy and OpenCV only."""

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Field = NDArray[np.float32]  # (H, W)
Indices = NDArray[np.int32]  # (H, W), rows of some table
Flags = NDArray[np.bool_]  # (H, W)

_CUBIC_SPREAD: Final = 0.86  # standard deviation of white noise after cubic interpolation, averaged over positions
_COARSE: Final = 16  # noise smoother than this is made on a coarser grid first


def floats(values: ArrayLike) -> NDArray[np.float32]:
    """Return the values as single precision, in which everything here is painted."""
    return np.asarray(values, np.float32)


def stream(seed: int, index: int, layer: int) -> np.random.Generator:
    """Return a generator that depends on its three numbers alone, so that a layer never disturbs the next one."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64), counter=[0, 0, 0, layer]))


def smooth_noise(rng: np.random.Generator, size: int, scale: float) -> Field:
    """Make smooth noise with features of about ``scale`` pixels, mean 0 and standard deviation 1, ``(size, size)``."""
    scale = max(scale, 1.0)
    if scale > _COARSE:
        factor = math.ceil(scale / _COARSE)
        coarse = smooth_noise(rng, math.ceil(size / factor) + 2, scale / factor)
        return _enlarged(coarse, factor)[:size, :size]
    nodes = math.ceil(size / scale) + 3
    row, col = rng.integers(0, math.ceil(scale), 2) + math.ceil(scale)
    grid = rng.standard_normal((nodes, nodes), np.float32) / np.float32(_CUBIC_SPREAD)
    return _enlarged(grid, scale)[row : row + size, col : col + size]


def _enlarged(grid: Field, factor: float) -> Field:
    # cv2.warpAffine would cut a window out in one go, but it rounds positions to 1/32 of a node.
    side = math.ceil(len(grid) * factor)
    return np.asarray(cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def fractal_noise(rng: np.random.Generator, size: int, scale: float, octaves: int, *, gain: float = 0.5) -> Field:
    """Sum smooth noises, each with half the scale and ``gain`` times the height of the one before.

    Mean 0, standard deviation about 1, ``(size, size)``.
    """
    total = np.zeros((size, size), np.float32)
    heights = [gain**octave for octave in range(octaves)]
    for octave, height in enumerate(heights):
        total += np.float32(height) * smooth_noise(rng, size, scale / 2**octave)
    return total / np.float32(math.sqrt(sum(height**2 for height in heights)))


def jittered_grid(rng: np.random.Generator, size: int, spacing: float, *, margin: float) -> Field:
    """Draw points ``(N, 2)``, row and column, one in each cell of a grid ``margin`` pixels larger than the scene."""
    cells = np.arange(-margin, size + margin, spacing, dtype=np.float32)
    rows, cols = np.meshgrid(cells, cells, indexing="ij")
    points = np.stack([rows.ravel(), cols.ravel()], axis=1)
    return points + rng.random(points.shape, np.float32) * np.float32(spacing)


def nearest_point(points: Field, size: int, *, margin: int = 0) -> Indices:
    """Find the nearest row of ``points`` for each pixel, ``(size + 2 margin, size + 2 margin)``.

    Points that fall outside the canvas, or on the pixel of another, are nearest to nothing.
    """
    side = size + 2 * margin
    rows, cols = np.floor(points + margin).astype(np.int64).T
    inside = np.flatnonzero((rows >= 0) & (rows < side) & (cols >= 0) & (cols < side))
    canvas = np.ones((side, side), np.uint8)
    canvas[rows[inside], cols[inside]] = 0
    _, cells = cv2.distanceTransformWithLabels(canvas, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    owner = np.zeros(int(cells.max()) + 1, np.int32)
    owner[cells[rows[inside], cols[inside]]] = inside
    return np.asarray(owner[cells], np.int32)


def distance_to(flags: Flags) -> Field:
    """Compute the distance of each pixel to the nearest true one, in pixels; large everywhere where none is true."""
    return np.asarray(cv2.distanceTransform((~flags).astype(np.uint8), cv2.DIST_L2, 5), np.float32)


def blurred(field: Field, sigma: float) -> Field:
    """Blur a field by a Gaussian of ``sigma`` pixels."""
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)


def shifted(field: Field, rows: float, cols: float) -> Field:
    """Move a field down by ``rows`` and right by ``cols`` pixels, its edge repeated."""
    matrix = floats([[1, 0, cols], [0, 1, rows]])
    side = (field.shape[1], field.shape[0])
    return np.asarray(cv2.warpAffine(field, matrix, side, borderMode=cv2.BORDER_REPLICATE), np.float32)


def smoothstep(field: Field, low: float, high: float) -> Field:
    """Map values to 0 below ``low``, 1 above ``high``, smooth between; ``low`` may lie above ``high``."""
    t = np.clip((field - np.float32(low)) / np.float32(high - low), 0, 1)
    return floats(t * t * (3 - 2 * t))
