"""Models and rasters on offer, maps asked for, what clients are told of them and the page's texts; knows no routes."""

import functools
import re
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastapi import HTTPException, UploadFile
from pydantic import BaseModel, Field

from levelground.errors import ConfigError, DiskError, LevelgroundError, ModelError, SceneError, one_line
from levelground.imagery.legend import Legend, hex_colour
from levelground.models.loading import check_code, made_runs, open_model
from levelground.models.model import Model
from levelground.models.spec import read_model_spec
from levelground.prediction.inputs import IMAGES, RASTERS, find_inputs
from levelground.prediction.plan import plan_predictions
from levelground.runs import list_runs, read_run, runs_folder
from levelground.runtime import Runtime
from levelground.serving.jobs import (
    DISAGREEMENT_FILE,
    IMAGE_FILE,
    OPTIONS,
    SUMMARY_FILE,
    Job,
    JobModel,
    JobStore,
    Progress,
    Status,
    input_of,
    read_summary,
)
from levelground.serving.tiles import DIFFERS, Colours, Scheme, TileGrid, render_tile, tile_grid
from levelground.wording import gettext, translated

MOST_MODELS = 4
"""Models of one map."""

_MOST_RASTERS = 5000  # listed of a folder


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


if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ServedModel:
    """A model on offer: its name, where it is, and itself for planning."""

    name: str
    path: Path
    model: Model
    arch: str


def find_models(paths: Sequence[Path], runtime: Runtime) -> tuple[dict[str, ServedModel], list[Path]]:
    """Find the models on offer, and the report pages of the studies among the paths.

    Args:
        paths: Study folders, run folders, folders with config.json, or ONNX files.
        runtime: Where models would run.
    Returns:
        Models by name, and pages.
    Raises:
        ModelError: A path holds no model.
    """
    found: dict[str, ServedModel] = {}
    pages = []
    for path in paths:
        study = runs_folder(path).is_dir()
        folders = [run.folder for run in made_runs(list_runs(path)) if run.card.outputs] if study else [path]
        if not study and (path / "run.json").exists():
            check_code(read_run(path))
        if not folders:
            raise ModelError(f"{path}: its runs hold no models. Train one, or give a run folder or model file.")
        for folder in folders:
            served = _served(folder, runtime)
            name = served.name if served.name not in found else f"{path.resolve().name}-{served.name}"
            if name in found:
                raise ConfigError(f"{folder}: another model is called {name} too. Give one of the two.")
            found[name] = ServedModel(name, folder.resolve(), served.model, served.arch)
        if study and (path / "report.html").is_file():
            pages.append(path / "report.html")
    return found, pages


def _served(path: Path, runtime: Runtime) -> ServedModel:
    """Return a model on offer; of a run only its card is read, not its weights."""
    if (path / "run.json").exists():
        spec = read_model_spec(read_run(path))
        return ServedModel(_safe_name(spec.name), path, Model(spec, _not_loaded), spec.arch)
    model = open_model(path, runtime)
    return ServedModel(_safe_name(path.stem if path.is_file() else path.name), path, model, model.spec.arch)


def _not_loaded(_pixels: "torch.Tensor") -> "torch.Tensor":  # pragma: no cover - planning never runs a network
    raise AssertionError("a model for planning has no weights")


def _safe_name(name: str) -> str:
    """Return a name that can be a folder's and part of an address.

    Example:
        >>> _safe_name("../a b?.tif"), _safe_name("лес.tif")
        ('a_b_.tif', 'лес.tif')
    """
    composed = unicodedata.normalize("NFC", Path(name).name)  # some systems write letters and their marks apart
    return re.sub(r"[^\w.\-]+", "_", composed).strip("._ ")[-100:] or "raster"


@dataclass(frozen=True)
class MapService:
    """What the routes work on: the models on offer, the rasters, and the maps."""

    models: Mapping[str, ServedModel]
    pages: Sequence[Path]
    rasters: Path | None
    store: JobStore
    runtime: Runtime

    def raster_path(self, name: str) -> Path:
        """Return a raster of the folder that may be read: no link, and not outside of it."""
        if self.rasters is None:
            raise HTTPException(404, f"{name}: this server has no folder of rasters. Upload the file.")
        root = self.rasters.resolve()
        try:
            path = root / name
            inside = "\0" not in name and path.is_file() and path.resolve() == path and path.is_relative_to(root)
        except (OSError, ValueError):
            inside = False
        if not inside or path.suffix.lower() not in IMAGES | RASTERS:
            raise HTTPException(404, f"{one_line(name)}: no such raster in the server's folder.")
        return path

    def job(self, id_: str) -> Job:
        """Return a map that was asked for, or refuse with 404."""
        job = self.store.get(id_)
        if job is None:
            raise HTTPException(404, f"{one_line(id_)}: no such map.")
        return job

    def chosen(self, names: Sequence[str]) -> list[ServedModel]:
        """Return the models asked for, each once."""
        for name in names:
            if name not in self.models:
                raise HTTPException(404, f"{one_line(name)}: no such model. Known: {', '.join(self.models)}.")
        return [self.models[name] for name in dict.fromkeys(names)]

    def create(self, file: UploadFile | None, raster: str | None, names: Sequence[str]) -> Job:
        """Check a raster against the models as `predict` does, and put a map into the queue."""
        chosen = self.chosen(names)
        with self.store.new_folder() as (id_, folder):
            if file is not None and file.filename:
                name = _safe_name(file.filename)
                source = folder / "input" / name
                source.parent.mkdir()
                with source.open("wb") as target:
                    shutil.copyfileobj(file.file, target, 2**20)
            elif raster:
                name, source = raster, self.raster_path(raster)
            else:
                raise HTTPException(422, "No raster: upload a file, or name one of the server's folder.")
            try:
                jobs, size = self._plan(source, folder, chosen)
            except DiskError:
                raise
            except LevelgroundError as error:
                raise HTTPException(422, one_line(str(error)).replace(str(source), name)) from error
            return self.store.add(id_, name, source, jobs, size)

    def _plan(
        self, source: Path, folder: Path, chosen: Sequence[ServedModel]
    ) -> tuple[list[JobModel], tuple[int, int]]:
        models, size = [], (0, 0)
        for one in chosen:
            inputs = find_inputs([str(source)], folder / "maps" / one.name, OPTIONS)
            (plan,) = plan_predictions(one.model, inputs, OPTIONS, self.runtime)
            size = plan.info.height, plan.info.width
            models.append(JobModel(one.name, str(one.path), len(plan.rows.starts)))
        return models, size

    def map_out(self, job: Job) -> MapOut:
        """Describe a job for clients."""
        folder, progress = self.store.path(job.id), self.store.progress(job.id)
        image, grid = folder / IMAGE_FILE, None
        try:
            grid = _grid(image) if image.exists() else None
        except SceneError:
            if progress.status == "done":
                progress = Progress("failed", 1.0, error=_unreadable(job, image))
        done = progress.status == "done"
        layers = [] if grid is None else ["image"]
        layers += [one.name for one in job.models] + ["disagreement"] if done and layers else []
        return MapOut(
            id=job.id,
            raster=job.raster,
            created=job.created,
            models=[one.name for one in job.models],
            width=job.width,
            height=job.height,
            status=progress.status,
            progress=progress.share,
            seconds_left=progress.seconds_left,
            error=None if progress.error is None else translated(progress.error),
            layers=layers,
            tiles=None if grid is None else TilesOut(**vars(grid)),
        )

    def areas(self, job: Job) -> AreasOut:
        """Return the areas of a finished map, or refuse with 404."""
        folder = self.store.path(job.id)
        try:
            return AreasOut.model_validate(read_summary(folder))
        except (OSError, ValueError) as error:
            raise HTTPException(404, _unreadable(job, folder / SUMMARY_FILE)) from error

    def tile(self, job: Job, name: str, place: tuple[int, int, int]) -> bytes:
        """Return a tile of a layer, by zoom, column and row, or refuse with 404."""
        path, colours = self.layer(job, name)
        try:
            content = render_tile(path, *place, colours)
        except SceneError as error:
            raise HTTPException(404, _unreadable(job, path)) from error
        if content is None:
            raise HTTPException(404, "There is no such tile.")
        return content

    def layer(self, job: Job, name: str) -> tuple[Path, Colours | None]:
        """Return the raster of a layer, and the colours of its values."""
        folder = self.store.path(job.id)
        if name == "image":
            path, colours = folder / IMAGE_FILE, None
        elif name == "disagreement":
            path, colours = folder / DISAGREEMENT_FILE, {1: (*DIFFERS, 255)}
        else:
            model = next((one for one in job.models if one.name == name), None)
            if model is None:
                raise HTTPException(404, f"{one_line(name)}: no such layer.")
            path, colours = input_of(folder, job, model).outputs.classes, _colours(self._legend(name))
        if not path.exists():
            raise HTTPException(404, f"{one_line(name)}: is not there yet.")
        return path, colours

    def _legend(self, name: str) -> Legend:
        if name not in self.models:
            raise HTTPException(404, f"{one_line(name)}: its model is no longer offered.")
        return self.models[name].model.spec.legend


def _unreadable(job: Job, path: Path) -> str:
    """Say that a file of a map is damaged."""
    return f"{job.raster}: {path.name}, a file of its map, is damaged. Remove the map and make it again."


@functools.lru_cache(maxsize=256)
def _grid(path: Path) -> TileGrid:
    return tile_grid(path)


def _colours(legend: Legend) -> dict[int, tuple[int, int, int, int]]:
    shown = {}
    for entry in legend.classes:
        red, green, blue = map(int, entry.colour)
        shown[entry.index] = (red, green, blue, 255)
    return shown


def describe_model(one: ServedModel) -> ModelOut:
    """Describe a model for clients."""
    spec = one.model.spec
    entries = [spec.legend.classes[index] for index in spec.outputs]
    classes = [
        ClassOut(name=entry.name, colour=f"#{hex_colour(entry.colour)}", name_ru=entry.name_ru) for entry in entries
    ]
    return ModelOut(name=one.name, arch=one.arch, bands=spec.bands, gsd_m=spec.gsd_m, classes=classes)


def list_rasters(folder: Path | None) -> list[RasterOut]:
    """List the rasters of a folder and its subfolders; links are not followed."""
    found: list[RasterOut] = []
    for path in sorted(folder.rglob("*")) if folder is not None and folder.is_dir() else ():
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)  # type: ignore[arg-type]
        if hidden or path.is_symlink() or path.suffix.lower() not in IMAGES | RASTERS or not path.is_file():
            continue
        found.append(RasterOut(name=path.relative_to(folder).as_posix(), bytes=path.stat().st_size))  # type: ignore[arg-type]
        if len(found) == _MOST_RASTERS:
            break
    return found


def page_words() -> dict[str, str]:
    """Return the texts of the page by name, in the language of the ``with`` block around the call."""
    return {
        "title": gettext("Maps by several models, side by side"),
        "make": gettext("New map"),
        "raster": gettext("Raster"),
        "upload": gettext("Upload a file"),
        "choose": gettext("Choose from the server's folder"),
        "models": gettext("Models, one to four"),
        "start": gettext("Make the map"),
        "maps": gettext("Maps"),
        "none": gettext("No map has been made yet."),
        "report": gettext("Report"),
        "queued": gettext("Waiting"),
        "running": gettext("In progress"),
        "done": gettext("Finished"),
        "failed": gettext("Failed"),
        "left": gettext("Time left: {time}"),
        "seconds": gettext("{n} s"),
        "minutes": gettext("{n} min"),
        "uploading": gettext("Upload: {share}"),
        "left_side": gettext("Left of the line"),
        "right_side": gettext("Right of the line"),
        "line": gettext("Position of the line"),
        "opacity": gettext("Opacity of the maps"),
        "image": gettext("Image"),
        "disagreement": gettext("Where the models disagree"),
        "zoom_in": gettext("Zoom in"),
        "zoom_out": gettext("Zoom out"),
        "whole": gettext("Whole raster"),
        "map_label": gettext("Map: drag or arrow keys to move, wheel or plus and minus to zoom"),
        "areas": gettext("Areas by class"),
        "class": gettext("Class"),
        "hectares": gettext("ha"),
        "share": gettext("share"),
        "difference": gettext("difference to {model}, ha"),
        "difference_share": gettext("difference to {model}, percentage points"),
        "disagree_on": gettext("The models disagree on {share} of the area ({hectares} ha)."),
        "disagree_share": gettext("The models disagree on {share} of the pixels."),
        "files": gettext("Files"),
        "map_file": gettext("Map"),
        "polygons_file": gettext("Polygons"),
        "areas_file": gettext("Areas"),
        "remove": gettext("Remove"),
        "remove_sure": gettext("Remove the map {raster} and its files?"),
        "too_many": gettext("Choose one to four models."),
        "no_raster": gettext("Choose a raster, or a file to upload."),
        "unreachable": gettext("The server does not answer."),
        "language": gettext("Language"),
        "theme": gettext("Colours"),
        "theme_auto": gettext("system"),
        "theme_light": gettext("light"),
        "theme_dark": gettext("dark"),
    }
