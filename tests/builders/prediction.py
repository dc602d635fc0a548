"""Rasters, class maps and toy models for tests of predictions."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from builders.study import LEGEND
from levelground.config import PredictOptions
from levelground.imagery.geotiff import RasterInfo, write_raster
from levelground.imagery.validity import NodataRule
from levelground.models.model import Forward, Model
from levelground.models.spec import ModelSpec
from levelground.prediction.inputs import InputFile, OutputPaths, find_inputs
from levelground.prediction.plan import PredictionPlan
from levelground.prediction.predict import PredictedMap, predict_maps
from levelground.runtime import make_runtime
from levelground.tile_geometry import TileGeometry

RUNTIME = make_runtime("cpu", "fp32", threads=1)
UTM = "EPSG:26917"
HALF_METRE = (0.5, 0.0, 500000.0, 0.0, -0.5, 5600000.0)
"""Pixels of 0.5 m in UTM zone 33."""
PLACE = (0.6, 0.0, 270877.2, 0.0, -0.6, 4311036.0)
OUTPUTS = (0, 2, 3)


def brightest(image: torch.Tensor) -> torch.Tensor:
    """A network that sees one pixel and answers with its brightest band."""
    return image * 3.0


def smooth(image: torch.Tensor) -> torch.Tensor:
    """A translation-equivariant network that sees 2 pixels far, by reflection beyond the border."""
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2), mode="reflect")
    return torch.nn.functional.avg_pool2d(padded, 5, stride=1) * 4.0


def toy_model(forward: Forward = brightest, digest: str = "d" * 64, **changes: object) -> Model:
    """A model of three bands with outputs 0, 2 and 3 of the small legend; changes are of its specification."""
    spec = ModelSpec(
        name="toy",
        arch="toy",
        encoder="none",
        legend=LEGEND,
        outputs=OUTPUTS,
        mean=(120.0, 120.0, 120.0),
        std=(60.0, 60.0, 60.0),
        dtype="uint8",
        gsd_m=0.6,
        geometry=TileGeometry(64, 8),
    )
    return Model(dataclasses.replace(spec, **changes), forward, digest=digest)  # type: ignore[arg-type]


class ArrayReader:
    """Pixels in memory, read window by window; without a mask, pixels that are 0 in every band have no data."""

    def __init__(self, pixels: NDArray[np.generic], mask: NDArray[np.bool_] | None = None) -> None:
        """Read ``pixels``, ``(H, W, C)``; ``mask`` is true where they have no data."""
        self._pixels = pixels
        self._mask = np.asarray((pixels == 0).all(axis=-1)) if mask is None else mask
        height, width, bands = pixels.shape
        self.shape = height, width, bands

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.generic], NDArray[np.bool_] | None]:
        """Read a window."""
        return self._pixels[rows, cols].copy(), self._mask[rows, cols]


def toy_plan(info: RasterInfo, geometry: TileGeometry, forward: Forward = smooth, **changes: object) -> PredictionPlan:
    """A plan for a raster that need not exist, ``/data/a.tif``."""
    outputs = OutputPaths(Path("/out/a.tif"), Path("/out/a_areas.csv"))
    plan = PredictionPlan(
        input=InputFile(Path("/data/a.tif"), "raster", "a.tif", 12345, 1_700_000_000_000_000_000, outputs),
        model=toy_model(forward),
        options=PredictOptions(),
        runtime=RUNTIME,
        info=info,
        bands=(1, 2, 3),
        nodata=NodataRule((None,) * 3, every_band=True),
        scale=1.0,
        geometry=geometry,
        cache_bytes=2**20,
    )
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]


def draw_pixels(height: int, width: int, bands: int = 3, *, seed: int = 0, dtype: str = "uint8") -> NDArray[np.generic]:
    """Squares of 5 × 5 pixels with noise, values 1 to 250."""
    rng = np.random.default_rng(seed)
    squares = rng.integers(20, 230, (-(-height // 5), -(-width // 5), bands)).repeat(5, 0).repeat(5, 1)
    noise = rng.integers(-19, 20, (height, width, bands))
    return (squares[:height, :width] + noise).astype(dtype)


def write_pixels(
    path: Path,
    pixels: NDArray[np.generic],
    *,
    nodata: float | None = None,
    crs: str | None = UTM,
    transform: tuple[float, ...] | None = PLACE,
) -> Path:
    """Write pixels as a GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_raster(path, pixels, RasterInfo(0, 0, 0, "", nodata, crs, transform))  # type: ignore[arg-type]
    return path


def write_class_map(
    path: Path,
    labels: NDArray[np.generic],
    crs: str | None = "EPSG:32633",
    transform: tuple[float, ...] | None = HALF_METRE,
) -> Path:
    """Write classes as a GeoTIFF, 255 without data."""
    return write_pixels(path, labels, nodata=255, crs=crs, transform=transform)


def expected_classes(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """What :func:`brightest` makes of each pixel, as legend indices."""
    best: NDArray[np.uint8] = np.array(OUTPUTS, np.uint8)[pixels[..., :3].argmax(axis=-1)]
    return best


def predict_all(
    inputs: Sequence[Path | str], out: Path, model: Model | None = None, **options: object
) -> list[PredictedMap]:
    """Predict inputs on one CPU thread."""
    chosen = PredictOptions(**options)  # type: ignore[arg-type]
    found = find_inputs([str(given) for given in inputs], out, chosen)
    return predict_maps(model or toy_model(), found, out, chosen, RUNTIME)


def predict_one(source: Path | str, out: Path, model: Model | None = None, **options: object) -> PredictedMap:
    """Predict one input on one CPU thread."""
    (predicted,) = predict_all([source], out, model, **options)
    return predicted
