"""Rasters and toy models for tests of maps."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from study_builder import LEGEND

from levelground.imagery.geotiff import RasterInfo, write_raster
from levelground.inference.sliding_window import Forward
from levelground.models.model import Predictor
from levelground.prediction.plan import Settings
from levelground.prediction.predict import Mapped, predict_maps
from levelground.runtime import make_runtime

RUNTIME = make_runtime("cpu", "fp32", threads=1)
UTM = "EPSG:26917"
PLACE = (0.6, 0.0, 270877.2, 0.0, -0.6, 4311036.0)
OUTPUTS = (0, 2, 3)


def brightest(image: torch.Tensor) -> torch.Tensor:
    """A network that sees one pixel and answers with its brightest band."""
    return image * 3.0


def smooth(image: torch.Tensor) -> torch.Tensor:
    """A translation-equivariant network that sees 2 pixels far, by reflection beyond the border."""
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2), mode="reflect")
    return torch.nn.functional.avg_pool2d(padded, 5, stride=1) * 4.0


def model(forward: Forward = brightest, **changes: object) -> Predictor:
    """A model of three bands with outputs 0, 2 and 3 of the small legend."""
    predictor = Predictor(
        name="toy",
        forward=forward,
        activated=False,
        outputs=OUTPUTS,
        legend=LEGEND,
        mean=(120.0, 120.0, 120.0),
        std=(60.0, 60.0, 60.0),
        bands=3,
        dtype="uint8",
        gsd_m=0.6,
        tile=64,
        halo=8,
        fixed_tile=False,
        max_batch=None,
        digest="d" * 64,
    )
    return dataclasses.replace(predictor, **changes)  # type: ignore[arg-type]


def pixels_of(height: int, width: int, bands: int = 3, *, seed: int = 0, dtype: str = "uint8") -> NDArray[np.generic]:
    """Patches of 5 × 5 pixels with noise, values 1 to 250."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(20, 230, (-(-height // 5), -(-width // 5), bands)).repeat(5, 0).repeat(5, 1)
    noise = rng.integers(-19, 20, (height, width, bands))
    return (patches[:height, :width] + noise).astype(dtype)


def save(
    path: Path,
    pixels: NDArray[np.generic],
    *,
    nodata: float | None = None,
    crs: str | None = UTM,
    transform: tuple[float, ...] | None = PLACE,
) -> Path:
    """Write a GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_raster(path, pixels, RasterInfo(0, 0, 0, "", nodata, crs, transform))  # type: ignore[arg-type]
    return path


def expected_classes(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """What :func:`brightest` makes of each pixel, as legend indices."""
    best: NDArray[np.uint8] = np.array(OUTPUTS, np.uint8)[pixels[..., :3].argmax(axis=-1)]
    return best


def map_one(
    source: Path | str, out: Path, predictor: Predictor | None = None, settings: Settings | None = None
) -> Mapped:
    """Map one input on one CPU thread."""
    (mapped,) = predict_maps(predictor or model(), [str(source)], out, settings=settings or Settings(), runtime=RUNTIME)
    return mapped
