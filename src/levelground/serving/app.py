"""The HTTP API and the page around it. The OpenAPI description at ``/openapi.json`` is the contract."""

import functools
import re
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import jinja2
from fastapi import FastAPI, File, Form, Header, HTTPException, Request, Response, UploadFile
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, BeforeValidator, Field
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.routing import Match

from levelground import __version__
from levelground.config import DeviceOptions
from levelground.console import say
from levelground.errors import ConfigError, DiskError, LevelgroundError, ModelError, one_line
from levelground.imagery.legend import Legend, hex_colour
from levelground.models.loading import open_model
from levelground.models.model import Model
from levelground.models.spec import read_model_spec
from levelground.prediction.inputs import IMAGES, RASTERS, find_inputs
from levelground.prediction.plan import plan_predictions
from levelground.runs import list_runs, read_run, runs_folder
from levelground.runtime import Runtime, open_runtime
from levelground.serving.guard import Access, Guard
from levelground.serving.jobs import (
    DISAGREEMENT_FILE,
    IMAGE_FILE,
    OPTIONS,
    Job,
    JobModel,
    JobStore,
    QueueFullError,
    Status,
    input_of,
    read_summary,
)
from levelground.serving.tiles import DIFFERS, Colours, Scheme, TileGrid, render_tile, tile_grid
from levelground.wording import SOURCE, languages

if TYPE_CHECKING:
    import torch

MOST_MODELS = 4
"""Models of one job."""

_FOLDER = Path(__file__).parent / "static"
_MOST_RASTERS = 5000  # listed of a folder
_REPORT_POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Problem(BaseModel):
    """Why a request was refused, in one line."""

    detail: str


class ClassOut(BaseModel):
    """A class of a model."""

    name: str
    colour: str


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
        folders = [run.folder for run in list_runs(path) if run.card.outputs] if study else [path]
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
    return re.sub(r"[^\w.\-]+", "_", Path(name).name).strip("._ ")[-100:] or "raster"


@dataclass(frozen=True)
class _Server:
    """What the routes work on."""

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

    def order(self, file: UploadFile | None, raster: str | None, names: Sequence[str]) -> Job:
        """Check a raster against the models as `predict` does, and put a job into the queue."""
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
        image = folder / IMAGE_FILE
        grid = _grid(image) if image.exists() else None
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
            error=progress.error,
            layers=layers,
            tiles=None if grid is None else TilesOut(**vars(grid)),
        )

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


@functools.lru_cache(maxsize=256)
def _grid(path: Path) -> TileGrid:
    return tile_grid(path)


def _colours(legend: Legend) -> dict[int, tuple[int, int, int, int]]:
    shown = {}
    for entry in legend.classes:
        red, green, blue = map(int, entry.colour)
        shown[entry.index] = (red, green, blue, 255)
    return shown


_REFUSALS: dict[int | str, dict[str, object]] = {
    400: {"model": Problem, "description": "The request cannot be read"},
    401: {"model": Problem, "description": "A token is needed"},
    403: {"model": Problem, "description": "Asked by another site"},
    404: {"model": Problem, "description": "No such thing"},
    413: {"model": Problem, "description": "The body is too large"},
    422: {"model": Problem, "description": "A value is wrong, or the raster does not fit a model"},
    429: {"model": Problem, "description": "The queue is full"},
    507: {"model": Problem, "description": "The disk is full"},
}

MapId = Annotated[str, PathParameter(pattern="^[0-9a-f]{16}$")]


def create_app(
    models: Mapping[str, ServedModel],
    pages: Sequence[Path],
    rasters: Path | None,
    store: JobStore,
    runtime: Runtime,
    access: Access,
) -> FastAPI:
    """Build the application.

    Args:
        models: Models on offer, by name.
        pages: Report pages of studies.
        rasters: Folder of rasters to choose from.
        store: The jobs, started and stopped by the caller.
        runtime: Where models would run, for planning.
        access: Who may ask.
    """
    server = _Server(models, pages, rasters, store, runtime)
    app = FastAPI(
        title="levelground",
        version=__version__,
        description="Maps of rasters by one to four models, and where they differ.",
        responses={code: answer for code, answer in _REFUSALS.items() if code in (400, 401, 403, 413, 422)},
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _refuse_request)
    app.add_exception_handler(AnyHTTPException, _refuse)
    app.add_exception_handler(QueueFullError, _refuse_full)
    app.add_exception_handler(DiskError, _refuse_disk)
    _add_api(app, server)
    _add_page(app, server)
    app.add_middleware(Guard, access=access)
    return app


def _add_api(app: FastAPI, server: _Server) -> None:
    """Add the routes of the API."""
    gone, order = _answers(404), _answers(404, 429, 507)

    @app.get("/v1/models", summary="Models on offer")
    def models() -> list[ModelOut]:
        return [_model_out(one) for one in server.models.values()]

    @app.get("/v1/rasters", summary="Rasters of the server's folder")
    def rasters() -> list[RasterOut]:
        return _list_rasters(server.rasters)

    @app.get("/v1/maps", summary="Maps, the latest first")
    def maps() -> list[MapOut]:
        return [server.map_out(job) for job in server.store]

    @app.post("/v1/maps", status_code=202, responses=order, summary="Ask for a map")
    def create_map(
        response: Response,
        models: Annotated[
            list[str], Form(min_length=1, max_length=MOST_MODELS, description="One to four names of models")
        ],
        raster: Annotated[str | None, Form(description="Name of a raster of the server's folder")] = None,
        file: Annotated[UploadFile | None, BeforeValidator(_no_text), File(description="A raster to upload")] = None,
    ) -> MapOut:
        job = server.order(file, raster, models)
        response.headers["Location"] = f"/v1/maps/{job.id}"
        return server.map_out(job)

    @app.get("/v1/maps/{id}", responses=gone, summary="State of a map")
    def get_map(id: MapId) -> MapOut:  # noqa: A002 - the name in the address
        return server.map_out(server.job(id))

    @app.delete("/v1/maps/{id}", status_code=204, responses=gone, summary="Remove a map and its files")
    def delete_map(id: MapId) -> None:  # noqa: A002
        server.store.remove(server.job(id).id)

    @app.get("/v1/maps/{id}/areas", responses=gone, summary="Areas by model and class")
    def areas(id: MapId) -> AreasOut:  # noqa: A002
        job = server.job(id)
        if server.store.progress(id).status != "done":
            raise HTTPException(404, f"{job.raster}: the map is not finished.")
        return AreasOut.model_validate(read_summary(server.store.path(id)))

    @app.get(
        "/v1/maps/{id}/tiles/{z}/{x}/{y}",
        responses=gone | {200: {"content": {"image/png": {}}, "description": "A tile of 256 px"}},
        response_class=Response,
        summary="A tile of a layer",
    )
    def tile(
        id: MapId,  # noqa: A002
        z: Annotated[int, PathParameter(ge=0, le=30)],
        x: Annotated[int, PathParameter(ge=0, lt=2**30)],
        y: Annotated[int, PathParameter(ge=0, lt=2**30)],
        layer: Annotated[str, Field(description="image, disagreement, or a model's name")] = "image",
    ) -> Response:
        path, colours = server.layer(server.job(id), layer)
        content = render_tile(path, z, x, y, colours)
        if content is None:
            raise HTTPException(404, "There is no such tile.")
        return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})

    @app.get(
        "/v1/maps/{id}/files/{model}/{kind}",
        responses=gone | {200: {"content": {"application/octet-stream": {}}, "description": "The file"}},
        response_class=FileResponse,
        summary="A file of a map: the map itself, its polygons or its areas",
    )
    def download(id: MapId, model: str, kind: Literal["map", "polygons", "areas"]) -> FileResponse:  # noqa: A002
        job = server.job(id)
        chosen = next((one for one in job.models if one.name == model), None)
        if chosen is None or server.store.progress(id).status != "done":
            raise HTTPException(404, f"{one_line(model)}: no such model of this map, or the map is not finished.")
        outputs = input_of(server.store.path(id), job, chosen).outputs
        path = {"map": outputs.classes, "polygons": outputs.polygons, "areas": outputs.areas}[kind]
        if path is None or not path.exists():
            raise HTTPException(404, f"{one_line(model)}: there are no {kind}.")
        return FileResponse(path, media_type="application/octet-stream", filename=f"{model}-{path.name}")


def _add_page(app: FastAPI, server: _Server) -> None:
    """Add the page, its files, and the reports of the studies."""
    from levelground.serving.page_words import page_words

    template = jinja2.Environment(autoescape=True).from_string((_FOLDER / "page.html.j2").read_text(encoding="utf-8"))
    app.mount("/static", StaticFiles(directory=_FOLDER), name="static")

    @app.get("/", include_in_schema=False, response_class=HTMLResponse)
    def page(
        request: Request, lang: str | None = None, accept_language: Annotated[str | None, Header()] = None
    ) -> HTMLResponse:
        code = lang if lang in languages() else _preferred(accept_language)
        pages = [(f"/report/{n}", path.parent.resolve().name) for n, path in enumerate(server.pages)]
        words = page_words(code)
        return HTMLResponse(template.render(words=words, lang=code, languages=languages(), pages=pages))

    @app.get("/report/{number}", include_in_schema=False)
    def report(number: int) -> FileResponse:
        if not 0 <= number < len(server.pages):
            raise HTTPException(404, "There is no such report.")
        headers = {"Content-Security-Policy": _REPORT_POLICY}
        return FileResponse(server.pages[number], media_type="text/html", headers=headers)


def _no_text(value: object) -> object:
    """Take an empty or textual part, which some clients send for a file that was not chosen, for none."""
    return None if isinstance(value, str) else value


def _preferred(accept: str | None) -> str:
    """Return the first language of a browser's list that there are messages in."""
    asked = [part.split(";")[0].strip().lower()[:2] for part in (accept or "").split(",")]
    return next((code for code in asked if code in languages()), SOURCE)


def _answers(*codes: int) -> dict[int | str, dict[str, object]]:
    return {code: _REFUSALS[code] for code in codes}


def _model_out(one: ServedModel) -> ModelOut:
    spec = one.model.spec
    classes = [
        ClassOut(name=spec.legend.names[index], colour=f"#{hex_colour(spec.legend.classes[index].colour)}")
        for index in spec.outputs
    ]
    return ModelOut(name=one.name, arch=one.arch, bands=spec.bands, gsd_m=spec.gsd_m, classes=classes)


def _list_rasters(folder: Path | None) -> list[RasterOut]:
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


async def _refuse_request(_request: Request, error: Exception) -> Response:
    """Answer a request whose values are wrong with one line, as every refusal."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return JSONResponse({"detail": one_line(f"{where}: {first['msg']}")}, 422)


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer with one line; a method that an address does not have, with those that it has."""
    assert isinstance(error, AnyHTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        routes = [route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE]
        headers["Allow"] = ", ".join(
            sorted({method for route in routes for method in getattr(route, "methods", None) or ()})
        )
    return JSONResponse({"detail": str(error.detail)}, error.status_code, headers=headers)


async def _refuse_full(_request: Request, _error: Exception) -> Response:
    text = "As many maps wait as may wait. Try again when one is finished."
    return JSONResponse({"detail": text}, 429, headers={"Retry-After": "30"})


async def _refuse_disk(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": one_line(str(error))}, 507)


def run_server(
    paths: Sequence[Path],
    rasters: Path | None,
    open_store: Callable[[], JobStore],
    access: Access,
    port: int,
) -> None:
    """Serve until the process is asked to end.

    Args:
        paths: Studies and models.
        rasters: Folder of rasters to choose from.
        open_store: Opens the folder of jobs, once all else is known to be right.
        access: Address, token and largest upload.
        port: Port; 0 takes a free one.
    Raises:
        ConfigError: An address that others reach has no token, or the port is taken.
        ModelError: A path holds no model.
    """
    import uvicorn

    if not access.local and access.token is None:
        raise ConfigError(f"--host {access.host}: other machines reach it. Pass --token too, or leave --host away.")
    if rasters is not None and not rasters.is_dir():
        raise ConfigError(f"--rasters {rasters}: no such folder.")
    runtime = open_runtime(DeviceOptions())
    models, pages = find_models(paths, runtime)
    listener = _listen(access.host, port)
    store = open_store()
    app = create_app(models, pages, rasters, store, runtime, access)
    store.start()
    shown = f"[{access.host}]" if ":" in access.host else access.host
    say(f"{len(models)} models. Open http://{shown}:{listener.getsockname()[1]}/  (Ctrl-C ends the server)")
    settings = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    try:
        uvicorn.Server(settings).run(sockets=[listener])
    finally:
        store.stop()


def _listen(host: str, port: int) -> socket.socket:
    """Open the port before anything is announced.

    Raises:
        ConfigError: It is taken, or the address is none of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: cannot be opened ({error.strerror or error}). Give another --port."
        ) from error
