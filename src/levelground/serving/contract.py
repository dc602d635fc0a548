"""What the API takes and gives: the types of its answers, and of its refusals."""

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, Field

from levelground.serving.jobs import Status
from levelground.serving.tiles import Scheme

MOST_MODELS = 4
"""Models of one map."""


class Problem(BaseModel):
    """Why a request was refused, in one line."""

    detail: str


class ClassOut(BaseModel):
    """A class of a model."""

    name: str
    colour: str
    name_ru: str | None = Field(None, description="The Russian name, where the legend has one")


class ModelOut(BaseModel):
    """A model that maps can be made with."""

    name: str
    arch: str
    bands: int
    gsd_m: float | None
    classes: list[ClassOut]


class RasterOut(BaseModel):
    """A raster of the server's folder."""

    name: str
    bytes: int


class TilesOut(BaseModel):
    """Where the tiles of a map are."""

    scheme: Scheme
    min_zoom: int
    max_zoom: int
    bounds: tuple[float, float, float, float] = Field(description="Left, top, right, bottom in pixels of max_zoom")


class MapOut(BaseModel):
    """A map that was asked for."""

    id: str
    raster: str
    created: str
    models: list[str]
    width: int
    height: int
    status: Status
    progress: float = Field(ge=0, le=1)
    seconds_left: float | None
    error: str | None
    layers: list[str] = Field(description="Values of `layer` that tiles are there for")
    tiles: TilesOut | None


class ClassAreaOut(ClassOut):
    """Area of a class by a model."""

    pixels: int
    share: float
    hectares: float | None


class ModelAreasOut(BaseModel):
    """Areas by a model."""

    name: str
    nodata_pixels: int
    classes: list[ClassAreaOut]


class DisagreementOut(BaseModel):
    """How much of the area not all models call the same class."""

    pixels: int
    share: float
    hectares: float | None


class AreasOut(BaseModel):
    """Areas by model and class."""

    basis: Literal["plane", "ellipsoid", "none"]
    notes: list[str]
    disagreement: DisagreementOut
    models: list[ModelAreasOut]


REFUSALS: dict[int | str, dict[str, object]] = {
    400: {"model": Problem, "description": "The request cannot be read"},
    401: {"model": Problem, "description": "A token is needed"},
    403: {"model": Problem, "description": "Asked by another site"},
    404: {"model": Problem, "description": "No such thing"},
    413: {"model": Problem, "description": "The body is too large"},
    422: {"model": Problem, "description": "A value is wrong, or the raster does not fit a model"},
    429: {"model": Problem, "description": "The queue is full"},
    507: {"model": Problem, "description": "The disk is full"},
}

MapId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
