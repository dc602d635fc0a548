"""Files as the field has them, read by the commands: the right pixels, or a line whose remedy works."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from builders.field_sets import N_CLASSES, N_SCENES, UTM, classes_of, pixels, place, prepare, write
from builders.prediction import RUNTIME, toy_model
from numpy.typing import NDArray
from rasterio import Affine

from levelground.config import PredictOptions
from levelground.errors import LevelgroundError
from levelground.prediction.inputs import find_inputs
from levelground.prediction.plan import plan_predictions

TYPES = {
    "uint8": "uint8",
    "int8": "int16",
    "uint16": "uint16",
    "int16": "int16",
    "uint32": "float32",
    "int32": "float32",
    "uint64": "float32",
    "int64": "float32",
    "float32": "float32",
    "float64": "float32",
    "complex_int16": None,
    "complex64": None,
    "complex128": None,
}
"""Every type of GDAL that rasterio writes, and as what pixels of it are read."""

COLLAR = 5  # columns without data


def write_typed(path: Path, number: int, dtype: str) -> NDArray[np.generic]:
    """Write an image of a type, with a tagged collar; return its values."""
    kind = np.dtype("complex64" if dtype == "complex_int16" else dtype)
    low, nodata = (1, 250) if kind.kind == "u" else (-100, -128)
    rng = np.random.default_rng(number)
    values = (rng.integers(low, low + 40, (48, 48, 3)) + 40 * classes_of(number)[..., None]).astype(kind)
    values[:, :COLLAR] = nodata
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"crs": UTM, "transform": Affine(*place(number)), "nodata": None if kind.kind == "c" else nodata}
    with rasterio.open(path, "w", driver="GTiff", height=48, width=48, count=3, dtype=dtype, **profile) as raster:
        raster.write(values.transpose(2, 0, 1))
    return values


@pytest.mark.parametrize(("dtype", "read_as"), TYPES.items())
def test_prepare_and_predict_read_the_same_types(tmp_path: Path, dtype: str, read_as: str | None) -> None:
    """Same values, same type, same pixels without data; a model of one type reads that type; complex ones are named."""
    written = []
    for number in range(N_SCENES):
        written.append(write_typed(tmp_path / f"data/images/s{number}.tif", number, dtype))
        write(tmp_path / f"data/labels/s{number}.tif", classes_of(number), number)
    source = tmp_path / "data/images/s0.tif"
    inputs = find_inputs([str(source)], tmp_path / "out", PredictOptions())
    if read_as is None:
        for read in (
            lambda: prepare(tmp_path / "data"),
            lambda: plan_predictions(toy_model(dtype=None), inputs, PredictOptions(), RUNTIME),
        ):
            with pytest.raises(LevelgroundError, match=f"^{re.escape(str(source))}: holds complex numbers. Write what"):
                read()
        return
    dataset = prepare(tmp_path / "data")
    model = toy_model(dtype=dataset.dtype, gsd_m=10.0)
    (plan,) = plan_predictions(model, inputs, PredictOptions(), RUNTIME)
    with plan.open_pixels() as reader:
        predicted, mask = reader.read(slice(0, 48), slice(0, 48))
    scene = dataset.open("s0")
    assert mask is not None
    assert predicted.dtype == scene.pixels.dtype == np.dtype(read_as)
    assert np.array_equal(scene.pixels[:, COLLAR:], written[0][:, COLLAR:])
    assert np.array_equal(predicted[~mask], written[0][:, COLLAR:].reshape(-1, 3))
    assert mask[:, :COLLAR].all() and not mask[:, COLLAR:].any()
    truth = sum(np.bincount(classes_of(n)[:, COLLAR:].ravel(), minlength=N_CLASSES) for n in range(N_SCENES))
    assert pixels(dataset) == [*truth, N_SCENES * 48 * COLLAR]
