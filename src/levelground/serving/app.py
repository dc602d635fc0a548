"""The HTTP API and the page around it. The OpenAPI description at ``/openapi.json`` is the contract."""

import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import jinja2
from fastapi import FastAPI, File, Form, Header, HTTPException, Request, Response, UploadFile
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BeforeValidator, Field
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.routing import Match

from levelground import __version__
from levelground.config import DeviceOptions
from levelground.console import say_counted
from levelground.errors import ConfigError, DiskError, one_line
from levelground.runtime import Runtime, open_runtime
from levelground.serving.guard import Access, Guard
from levelground.serving.jobs import JobStore, QueueFullError, input_of
from levelground.serving.service import (
    MOST_MODELS,
    AreasOut,
    MapOut,
    MapService,
    ModelOut,
    Problem,
    RasterOut,
    ServedModel,
    describe_model,
    find_models,
    list_rasters,
    page_words,
)
from levelground.serving.tiles import TILE
from levelground.wording import current_language, language, languages, translated

_FOLDER = Path(__file__).parent / "static"
_REPORT_POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

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
    server = MapService(models, pages, rasters, store, runtime)
    app = FastAPI(
        title="levelground",
        version=__version__,
        description="Maps of rasters by one to four models, and where they differ.",
        responses={code: answer for code, answer in REFUSALS.items() if code in (400, 401, 403, 413, 422)},
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _refuse_request)
    app.add_exception_handler(AnyHTTPException, _refuse)
    app.add_exception_handler(QueueFullError, _refuse_full)
    app.add_exception_handler(DiskError, _refuse_disk)
    _add_offers(app, server)
    _add_maps(app, server)
    _add_results(app, server)
    _add_page(app, server)
    app.add_middleware(Guard, access=access)
    return app


def _add_offers(app: FastAPI, server: MapService) -> None:
    """Add the routes to what there is to choose from."""

    @app.get("/v1/models", summary="Models on offer")
    def models() -> list[ModelOut]:
        return [describe_model(one) for one in server.models.values()]

    @app.get("/v1/rasters", summary="Rasters of the server's folder")
    def rasters() -> list[RasterOut]:
        return list_rasters(server.rasters)


def _add_maps(app: FastAPI, server: MapService) -> None:
    """Add the routes that make, show and remove maps."""
    gone, refused = _answers(404), _answers(404, 429, 507)

    @app.get("/v1/maps", summary="Maps, the latest first")
    def maps() -> list[MapOut]:
        return [server.map_out(job) for job in server.store]

    @app.post("/v1/maps", status_code=202, responses=refused, summary="Ask for a map")
    def create_map(
        response: Response,
        models: Annotated[
            list[str], Form(min_length=1, max_length=MOST_MODELS, description="One to four names of models")
        ],
        raster: Annotated[str | None, Form(description="Name of a raster of the server's folder")] = None,
        file: Annotated[UploadFile | None, BeforeValidator(_no_text), File(description="A raster to upload")] = None,
    ) -> MapOut:
        job = server.create(file, raster, models)
        response.headers["Location"] = f"/v1/maps/{job.id}"
        return server.map_out(job)

    @app.get("/v1/maps/{id}", responses=gone, summary="State of a map")
    def get_map(id: MapId) -> MapOut:  # noqa: A002 - the name in the address
        return server.map_out(server.job(id))

    @app.delete("/v1/maps/{id}", status_code=204, responses=gone, summary="Remove a map and its files")
    def delete_map(id: MapId) -> None:  # noqa: A002
        server.store.remove(server.job(id).id)


def _add_results(app: FastAPI, server: MapService) -> None:
    """Add the routes to tiles, areas and files."""
    gone = _answers(404)

    @app.get("/v1/maps/{id}/areas", responses=gone, summary="Areas by model and class")
    def areas(id: MapId) -> AreasOut:  # noqa: A002
        job = server.job(id)
        if server.store.progress(id).status != "done":
            raise HTTPException(404, f"{job.raster}: the map is not finished.")
        return server.areas(job)

    @app.get(
        "/v1/maps/{id}/tiles/{z}/{x}/{y}",
        responses=gone | {200: {"content": {"image/png": {}}, "description": f"A tile of {TILE} px"}},
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
        content = server.tile(server.job(id), layer, (z, x, y))
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


def _add_page(app: FastAPI, server: MapService) -> None:
    """Add the page, its files, and the reports of the studies."""
    template = jinja2.Environment(autoescape=True).from_string((_FOLDER / "page.html.j2").read_text(encoding="utf-8"))
    app.mount("/static", StaticFiles(directory=_FOLDER), name="static")

    @app.get("/", include_in_schema=False, response_class=HTMLResponse)
    def page(
        request: Request, lang: str | None = None, accept_language: Annotated[str | None, Header()] = None
    ) -> HTMLResponse:
        code = lang if lang in languages() else _preferred(accept_language)
        pages = [(f"/report/{n}", path.parent.resolve().name) for n, path in enumerate(server.pages)]
        with language(code):
            words = page_words()
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
    """Return the first language of a browser's list that there are messages in, else that of the server."""
    asked = [part.split(";")[0].strip().lower()[:2] for part in (accept or "").split(",")]
    return next((code for code in asked if code in languages()), current_language())


def _answers(*codes: int) -> dict[int | str, dict[str, object]]:
    return {code: REFUSALS[code] for code in codes}


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
    return JSONResponse({"detail": translated(str(error.detail))}, error.status_code, headers=headers)


async def _refuse_full(_request: Request, _error: Exception) -> Response:
    text = "As many maps wait as may wait. Try again when one is finished."
    return JSONResponse({"detail": translated(text)}, 429, headers={"Retry-After": "30"})


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
    say_counted(
        "%(n)s model. Open http://%(host)s:%(port)s/  (Ctrl-C ends the server)",
        "%(n)s models. Open http://%(host)s:%(port)s/  (Ctrl-C ends the server)",
        len(models),
        host=shown,
        port=listener.getsockname()[1],
    )
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
