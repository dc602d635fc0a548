"""Map images and rasters of any size with a trained model; a job that was stopped goes on with the same command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from levelground.config import DeviceOptions

if TYPE_CHECKING:
    from levelground.prediction.predict import Mapped


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PredictConfig:
    """Which model, on what, and what comes of it."""

    model: tyro.conf.Positional[Path]
    """Run folder, folder with config.json and model.safetensors, or .onnx file."""
    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Images, rasters, folders (with all below them) and patterns such as 'scenes/*.tif'."""
    out: Path
    """Folder of the maps; names below a folder that was given are kept in it."""
    bands: tuple[int, ...] = ()
    """Bands to read, from 1, in the model's order; none takes them all where the raster has as many."""
    alpha: bool = True
    """Zeros of an alpha band that the model does not read are no data."""
    zero_is_nodata: bool = False
    """Pixels that are 0 in every band are no data."""
    resample: bool = False
    """Bring pixels to the ground sample distance the model learnt at; the map stays on the input's grid."""
    any_gsd: bool = False
    """Map a raster whose ground sample distance is more than 4 times off as it is."""
    tile: Annotated[int, Field(ge=0, le=16384)] | None = None
    """Side of a tile, px, a multiple of 32; 0 takes inputs whole; None takes the model's."""
    halo: Annotated[int, Field(ge=0, le=4096)] | None = None
    """Half of the overlap of neighbouring tiles, px; None takes the model's, or an eighth of another tile."""
    batch: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Tiles run at a time; None fills about one megapixel on a CPU, eight on a GPU."""
    tta: Literal["none", "d4"] = "none"
    """d4 takes the mean over the eight symmetries of the square, in eight times the time."""
    probs: Literal["none", "uint8", "float32"] = "none"
    """Write probabilities, a band for each class; uint8 in steps of 1/254."""
    polygons: Literal["none", "gpkg", "geojson"] = "none"
    """Write patches of one class as polygons, with class, name and area."""
    smallest_area: Annotated[float, Field(ge=0)] = 0.0
    """Merge smaller polygons into their largest neighbour; m², or pixels where the ground is not known."""
    picture: bool = False
    """Write the map's colours as a PNG; no data is transparent."""
    overlay: bool = False
    """Write a PNG of the map over its image, with the names of its classes."""
    picture_side: Annotated[int, Field(ge=16, le=16384)] = 4096
    """Longest side of these PNGs at most, px."""
    cog: bool = True
    """Write cloud-optimised GeoTIFFs, with overviews; otherwise plain tiled ones."""
    overwrite: bool = False
    """Replace maps that are there."""
    legend: Path | None = None
    """Legend of another tool's model, a TOML file; ours bring their own."""
    mean: tuple[float, ...] | None = None
    """Band means that another tool's model expects, in the units of the pixels."""
    std: tuple[float, ...] | None = None
    """Band deviations likewise."""
    computing: tyro.conf.OmitArgPrefixes[DeviceOptions] = DeviceOptions()


def predict(config: PredictConfig) -> "list[Mapped]":
    """Map images and rasters.

    Args:
        config: What to map, and how.
    Returns:
        What became of each input that was mapped now.
    Raises:
        ModelError: There is no model that can be run.
        LevelgroundError: An input does not fit or breaks off; what was finished is kept.
        KeyboardInterrupt: It was stopped; the same command goes on.
    """
    from levelground.models.model import open_predictor
    from levelground.prediction.outputs import Products
    from levelground.prediction.plan import Settings, Wishes
    from levelground.prediction.predict import predict_maps
    from levelground.runtime import make_runtime

    products = Products(config.polygons, config.smallest_area, config.picture, config.overlay, config.picture_side)
    runtime = make_runtime(config.computing.device, config.computing.precision, threads=config.computing.threads)
    predictor = open_predictor(config.model, runtime, legend=config.legend, mean=config.mean, std=config.std)
    settings = Settings(
        wishes=Wishes(config.bands, config.alpha, config.zero_is_nodata, config.resample, config.any_gsd),
        tile=config.tile,
        halo=config.halo,
        batch=config.batch,
        symmetries=config.tta == "d4",
        probs=config.probs,
        cog=config.cog,
        overwrite=config.overwrite,
        products=products,
    )
    return predict_maps(predictor, config.inputs, config.out, settings=settings, runtime=runtime)
