"""Map colours of a mask to table values and back, in whole-array steps without a loop over classes or pixels."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RGB = tuple[int, int, int]
"""Red, green and blue, each 0–255."""

Image = NDArray[np.uint8]  # (H, W, 3), red first
Codes = NDArray[np.uint8]  # (H, W)

Table = tuple[tuple[RGB, int], ...]
"""Pairs of colour and value; a hashable form for caches."""

NO_MATCH = 255
"""The value of a colour that the table does not hold."""


def threshold_code(colour: RGB) -> int:
    """Return the 3-bit code of a colour whose channels are binarised at 128: 4 for red, 2 for green, 1 for blue.

    Example:
        >>> threshold_code((0, 255, 255)), threshold_code((127, 128, 0))
        (3, 2)
    """
    red, green, blue = (int(channel >= 128) for channel in colour)
    return 4 * red + 2 * green + blue


def threshold_codes(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the codes of :func:`threshold_code` of many colours, ``(N, 3)`` to ``(N,)``."""
    return np.asarray((colours >= 128) @ np.array([4, 2, 1]), np.int64)


def pack_colours(rgb: Image, bits: int = 0xFFFFFF) -> NDArray[np.uint32]:
    """Pack each pixel's colour into one number, red in the lowest byte.

    Args:
        rgb: Colours, ``(H, W, 3)``.
        bits: Which bits of the number to keep.
    Returns:
        ``(H, W)`` numbers below 2²⁴.
    """
    import cv2

    packed = cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA).view("<u4")[..., 0]
    np.bitwise_and(packed, np.uint32(bits), out=packed)
    return packed.astype(np.uint32, copy=False)


def pack_colour(colour: RGB) -> int:
    """Return the number of one colour as :func:`pack_colours` gives it."""
    return colour[0] | colour[1] << 8 | colour[2] << 16


def unpack_colours(packed: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Turn numbers of :func:`pack_colours` back into colours, ``(N, 3)``.

    Example:
        >>> unpack_colours(np.uint32([pack_colour((1, 255, 254))])).tolist()
        [[1, 255, 254]]
    """
    return np.stack([packed & 255, packed >> 8 & 255, packed >> 16 & 255], axis=-1).astype(np.uint8)


@lru_cache(maxsize=4)
def _filled(table: Table, bits: int) -> NDArray[np.uint8]:
    """Make a table with one entry for each of the 2²⁴ colours."""
    lut = np.full(1 << 24, NO_MATCH, np.uint8)
    for colour, value in table:
        lut[pack_colour(colour) & bits] = value
    return lut


def look_up(rgb: Image, table: Table, *, threshold: bool = False) -> Codes:
    """Map colours through a table.

    Args:
        rgb: Colours, ``(H, W, 3)``, C-contiguous.
        table: Pairs of colour and value.
        threshold: Binarise each channel at 128 first, in the image and in the table.
    Returns:
        ``(H, W)`` values, :data:`NO_MATCH` where the table does not hold the colour.
    """
    bits = 0x808080 if threshold else 0xFFFFFF
    lut = _filled(table, bits)
    values = np.empty(rgb.shape[:2], np.uint8)
    rows = max(1, (1 << 17) // max(1, rgb.shape[1]))  # the packed rows stay in the processor's cache
    for start in range(0, rgb.shape[0], rows):
        block = slice(start, start + rows)
        np.take(lut, pack_colours(rgb[block], bits), out=values[block], mode="clip")
    return values


def nearest_colours(colours: NDArray[np.uint8], table: Table) -> tuple[Codes, NDArray[np.int64]]:
    """Find the table's colour that is nearest to each colour.

    Args:
        colours: The colours sought, ``(N, 3)``.
        table: Pairs of colour and value, at least one.
    Returns:
        The value and the largest difference of a channel, ``(N,)`` each; among equals the smaller sum of squares wins,
        then the first of the table.
    """
    values = np.zeros(len(colours), np.uint8)
    distances = np.full(len(colours), 256, np.int64)
    squares = np.zeros(len(colours), np.int64)
    for entry, value in table:
        apart = np.abs(colours.astype(np.int64) - np.array(entry))
        distance, square = apart.max(axis=-1), (apart**2).sum(axis=-1)
        nearer = (distance < distances) | ((distance == distances) & (square < squares))
        values[nearer], distances[nearer], squares[nearer] = value, distance[nearer], square[nearer]
    return values, distances


FAR = 32
"""Grey levels between a colour and the class it is read as, beyond which a tolerant rule guesses."""

MAX_FAR = 0.1
"""The largest share of such pixels in a mask: blurred borders are some per cent, another coding nearly all."""


def share_far(rgb: NDArray[np.uint8], table: Table) -> tuple[float, RGB]:
    """Return the share of the pixels that are more than :data:`FAR` from every colour, and their commonest colour.

    Args:
        rgb: Colours, ``(H, W, 3)``.
        table: Pairs of colour and value, at least one.

    Example:
        >>> share_far(np.uint8([[[90, 90, 90], [3, 0, 0]]]), (((0, 0, 0), 0),))
        (0.5, (90, 90, 90))
    """
    strange = rgb[look_up(np.ascontiguousarray(rgb), tuple((colour, 0) for colour, _ in table)) == NO_MATCH]
    if not len(strange):
        return 0.0, (0, 0, 0)
    # Red in the highest byte: of colours equally common the one that is lowest in red is named.
    packed = pack_colours(np.ascontiguousarray(strange[None, :, ::-1]))[0]
    values, sizes = np.unique(packed, return_counts=True)
    found = unpack_colours(values)[:, ::-1]
    far = nearest_colours(found, table)[1] > FAR
    if not far.any():
        return 0.0, (0, 0, 0)
    red, green, blue = found[far][sizes[far].argmax()].tolist()
    return float(sizes[far].sum()) / rgb[..., 0].size, (red, green, blue)


_SAFE: tuple[RGB, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167), (127, 127, 127),
)  # fmt: skip
# Okabe and Ito's palette (2008), which stays apart for the common forms of colour blindness; grey in black's place.


def distinct_colours(n: int) -> tuple[RGB, ...]:
    """Return ``n`` unlike colours, the first eight of them safe for colour-blind eyes.

    Args:
        n: How many, at least 0; beyond eight, hues a golden angle apart at three lightnesses follow.

    Example:
        >>> len(set(distinct_colours(255)))
        255
    """
    colours = list(_SAFE[:n])
    step = 0
    while len(colours) < n:
        hue, value = (step * 0.618033988749895) % 1.0, (0.95, 0.7, 0.45)[step % 3]
        ramp = [min(max(abs((hue * 6 + shift) % 6 - 3) - 1, 0), 1) for shift in (0, 4, 2)]
        colour = tuple(round(255 * value * (0.25 + 0.75 * part)) for part in ramp)
        candidate: RGB = (colour[0], colour[1], colour[2])
        if candidate not in colours:
            colours.append(candidate)
        step += 1
    return tuple(colours)
