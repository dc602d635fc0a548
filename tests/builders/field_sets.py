"""Small data folders in the forms that land-cover data comes in: generated classes, and images that show them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.config import PrepareOptions
from levelground.datasets.dataset import Dataset
from levelground.datasets.prepare import prepare_dataset
from levelground.imagery.geotiff import RasterInfo, write_raster

UTM = "EPSG:32633"
SIDE, N_CLASSES, N_SCENES = 48, 4, 6
_LEVELS = np.array([[70, 95, 60, 170], [160, 130, 95, 115], [25, 45, 85, 12], [200, 195, 190, 140]], np.float64)


def place(number: int, pixel: float = 10.0) -> tuple[float, float, float, float, float, float]:
    """Upper left corner of a scene, 30 km from the next, as a transform."""
    return (pixel, 0.0, 300_000.0 + 30_000 * number, 0.0, -pixel, 5_000_000.0)


def classes_of(number: int, side: int = SIDE) -> NDArray[np.uint8]:
    """Four classes in rectangles of unlike size, other ones in each scene; each occurs."""
    rng = np.random.default_rng(number)
    labels = np.zeros((side, side), np.uint8)
    for one in (1, 2, 3, 1, 2, 3, 0):
        row, col = rng.integers(0, side - side // 3, 2)
        labels[row : row + side // 3, col : col + side // 4] = one
    labels[:2, :8] = np.repeat(np.arange(4, dtype=np.uint8), 2)
    return labels


def image_of(labels: NDArray[np.uint8], number: int, bands: int = 3, dtype: str = "uint8") -> NDArray[np.generic]:
    """An image whose colours tell the classes, ``(H, W, bands)``."""
    noisy = _LEVELS[labels][..., :bands] + np.random.default_rng(100 + number).normal(0, 6, (*labels.shape, bands))
    scale = 1 if dtype == "uint8" else 20
    return (noisy.clip(1, 250) * scale).round().astype(dtype)


def write(
    path: Path, pixels: NDArray[np.generic], number: int, *, nodata: float | None = None, pixel: float = 10.0
) -> Path:
    """Write a GeoTIFF at the place of a scene."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_raster(path, pixels, RasterInfo(0, 0, 0, "", nodata, UTM, place(number, pixel)))
    return path


def write_pairs(
    data: Path,
    values: Sequence[float] = (0, 1, 2, 3),
    *,
    image: str = "images/s{}.tif",
    label: str = "labels/s{}.tif",
    dtype: str = "uint8",
    nodata: float | None = None,
    collar: float | None = None,
) -> NDArray[np.int64]:
    """Write scenes whose masks store ``values`` of the four classes.

    Args:
        data: The folder.
        values: What masks store, by class.
        image: Names of the images.
        label: Names of the masks.
        dtype: Type of the masks.
        nodata: Tag of the masks.
        collar: What the first five columns of the masks store instead.
    Returns:
        Pixels of each class in all scenes, those of the collar last.
    """
    truth = np.zeros(N_CLASSES + 1, np.int64)
    for number in range(N_SCENES):
        labels = classes_of(number)
        stored = np.array(values)[labels].astype(dtype)
        kept = labels
        if collar is not None:
            stored[:, :5] = np.array(collar).astype(dtype)
            kept = labels[:, 5:]
        truth += [*np.bincount(kept.ravel(), minlength=N_CLASSES), labels.size - kept.size]
        write(data / image.format(number), image_of(labels, number), number)
        write(data / label.format(number), stored, number, nodata=nodata)
    return truth


def prepare(data: Path, **options: object) -> Dataset:
    """Prepare beside the data."""
    base = data.parent
    return prepare_dataset(PrepareOptions(data=data, out=base / "study", cache=base / "cache", **options))  # type: ignore[arg-type]


def pixels(dataset: Dataset) -> list[int]:
    """Pixels of each class in all scenes, those without data last."""
    return np.sum([[*one.class_pixels, one.ignored_pixels] for one in dataset.scenes], axis=0).tolist()
