"""Which pixels of an image have no data: one rule for training, prediction, labels and adopted masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from levelground.imagery.geotiff import Pixels

NodataMask = NDArray[np.bool_]  # (H, W), true where an image has no data


class SaysValidity(Protocol):
    """A header of a raster, as far as it says which pixels have data."""

    @property
    def bands(self) -> int:
        """Number of stored bands."""
        ...

    @property
    def dtype(self) -> str:
        """Type of the stored values."""
        ...

    @property
    def nodata(self) -> float | None:
        """Nodata value of the first band, and of all where ``band_nodata`` is empty."""
        ...

    @property
    def band_nodata(self) -> tuple[float | None, ...]:
        """Nodata value of each band, where they differ."""
        ...

    @property
    def masked(self) -> bool:
        """Whether there is a mask of all bands."""
        ...


@dataclass(frozen=True)
class NodataRule:
    """Rule for the pixels of a raster that have no data.

    Attributes:
        values: The nodata value of each band that is read, or ``None``.
        every_band: Whether all bands must hold their nodata value; otherwise one band suffices.
        alpha: The band, from 1, whose zeros mark pixels without data; never a band that is read.
        zero: Whether pixels that are 0 in every band have no data.
    """

    values: tuple[float | None, ...]
    every_band: bool
    alpha: int | None = None
    zero: bool = False


def nodata_rule(
    header: SaysValidity, bands: Sequence[int], *, alpha: int | None = None, zero: bool | None = None
) -> NodataRule:
    """Choose the rule for a raster from what its file says.

    Values of unsigned types can be anything, so there every band must hold the nodata value; in other types one band
    suffices.

    Args:
        header: The raster's header.
        bands: The bands that are read, from 1.
        alpha: The band, from 1, that tells where there are data.
        zero: Whether pixels that are 0 in every band have no data; ``None`` says so only where the file has no nodata
            value, no mask and no alpha band.
    """
    stored = header.band_nodata or (header.nodata,) * header.bands
    silent = not header.masked and alpha is None and all(value is None for value in stored)
    values = tuple(_representable(stored[band - 1], header.dtype) for band in bands)
    return NodataRule(values, np.dtype(header.dtype).kind == "u", alpha, silent if zero is None else zero)


def _representable(value: float | None, dtype: str) -> float | None:
    """Return a nodata value as pixels of a type hold it; ``None`` if they cannot, or if it is not finite."""
    if value is None or not np.isfinite(value):
        return None
    kind = np.dtype(dtype)
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            stored = kind.type(value)
        return float(stored) if np.isfinite(stored) else None
    limits = np.iinfo(dtype)
    return value if limits.min <= value <= limits.max and value == int(value) else None


def nodata_mask(stored: Pixels, rule: NodataRule, own: NodataMask | None = None) -> NodataMask | None:
    """Find the pixels of a window that have no data.

    Args:
        stored: ``(H, W, C)`` in the raster's own type; the rule's alpha band last, if it has one.
        rule: The rule.
        own: Where the raster's own mask says that there are no data, ``(H, W)``.
    Returns:
        ``(H, W)``, true where there are no data; ``None`` if every pixel has data.
    """
    image = stored if rule.alpha is None else stored[..., :-1]
    found = [] if own is None else [own]
    marked = [(image[..., n], value) for n, value in enumerate(rule.values) if value is not None]
    if marked and not rule.every_band:
        found += [np.asarray(band == value) for band, value in marked]
    elif len(marked) == image.shape[-1]:
        found.append(_all_equal(marked))
    if rule.alpha is not None:
        found.append(np.equal(stored[..., -1], 0))
    if rule.zero:
        found.append(_all_equal([(image[..., n], 0) for n in range(image.shape[-1])]))
    if image.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a value that overflows becomes infinite, and so has no data
            values = image.astype(np.float32, copy=False)
        found.append(np.asarray(~np.all(np.isfinite(values), axis=-1)))
    found = [mask for mask in found if mask.any()]
    if not found:
        return None
    first = found[0] if len(found) == 1 else np.logical_or.reduce(found)
    return np.asarray(first)


def _all_equal(marked: Sequence[tuple[Pixels, float]]) -> NodataMask:
    """Find the pixels that hold a value in every one of some bands, band by band: later ones are mostly not read."""
    all_marked = np.asarray(marked[0][0] == marked[0][1])
    for band, value in marked[1:]:
        if not all_marked.any():
            break
        all_marked &= band == value
    return all_marked


SENTINELS = (
    -9999.0,
    -99999.0,
    -32768.0,
    -32767.0,
    -999.0,
    -3.4028234663852886e38,
    3.4028234663852886e38,
    65535.0,
    1e20,
)
"""Values that tools write where they have no data."""

_REPEATED_SHARE, _REPEATED = 0.0005, 4
"""A value is one of a kind only if it is repeated: in this share of the pixels, and in this number of them."""


@dataclass(frozen=True)
class FarValue:
    """A value far from all others of a band, as those are that stand for no data.

    Attributes:
        value: The value.
        band: The band, from 1.
        share: Share of the pixels that hold it.
        next: The nearest other value.
    """

    value: float
    band: int
    share: float
    next: float


def find_far_value(pixels: Pixels) -> FarValue | None:
    """Find a lowest or highest value that many pixels share and that lies far from all others.

    Args:
        pixels: ``(H, W, C)`` or ``(n, C)``, pixels without data left out or 0.
    Returns:
        The value, of the first band that has one. Known sentinels such as -9999 count as far from a twentieth of the
        range of the other values on, other values from half of it on. Bytes have none.

    Example:
        >>> find_far_value(np.array([[-9999.0], [-9999], [-9999], [-9999], [0.1], [0.4]], np.float32)).value
        -9999.0
    """
    if pixels.dtype.itemsize == 1:
        return None
    for number in range(pixels.shape[-1]):
        band = pixels[..., number]
        for value in (band.min(), band.max()):
            equal = band == value
            count = int(np.count_nonzero(equal))
            if count < max(_REPEATED, _REPEATED_SHARE * band.size) or count == band.size:
                continue
            others = band[~equal].astype(np.float64)
            low, high, far = float(others.min()), float(others.max()), float(value)
            near = low if far < low else high
            least = (0.05 if any(np.isclose(far, known, rtol=1e-6) for known in SENTINELS) else 0.5) * (high - low)
            if far and abs(far - near) > max(least, 2.0 if pixels.dtype.kind in "iu" else 0.0):
                return FarValue(far, number + 1, count / band.size, near)
    return None
