"""Serve a page on which maps by one to four models are made and compared; for this machine unless told otherwise."""

from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from levelground.config import OPTIONS_CONFIG


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class ServeConfig:
    """Options of ``serve``."""

    models: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="MODELS ...")]
    """Study folders, all of whose models are offered, run folders, folders with config.json, or .onnx files."""
    rasters: Path | None = None
    """Folder of rasters to choose from; without it, rasters are uploaded."""
    out: Path = Path("served")
    """Folder of the maps; unfinished ones that an earlier server left there are taken up again."""
    host: str = "127.0.0.1"
    """Address to listen on; one that other machines reach asks for --token."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8765
    """Port to listen on; 0 takes a free one."""
    token: str | None = None
    """Secret that clients send, as a header 'Authorization: Bearer TOKEN' or once as ?token=TOKEN."""
    max_upload_mb: Annotated[float, Field(gt=0)] = 2048.0
    """Largest upload, MB."""
    waiting: Annotated[int, Field(ge=1, le=1000)] = 8
    """How many maps may wait; more are refused until one is finished."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of the CPU for the prediction."""
    code: tuple[str, ...] = ()
    """Code of runs whose networks are your own, FILE.py:FUNCTION each; it runs only where it is named."""


def serve(config: ServeConfig) -> Path:
    """Serve the page and the HTTP API until the process is asked to end.

    Args:
        config: Which models, which rasters, where.
    Returns:
        The folder of the maps.
    Raises:
        ConfigError: The extra is not installed, an address that others reach has no token, or the port is taken.
        ModelError: A path holds no model.
        BusyError: Another server has the folder of the maps.
    """
    from levelground.errors import ConfigError, ModelError
    from levelground.models.loading import check_names

    check_names((), code=config.code)
    missing = next((path for path in config.models if not path.exists()), None)
    if missing is not None:
        raise ModelError(f"{missing}: no such file or folder. Give study folders, run folders or .onnx files.")
    try:
        import fastapi  # noqa: F401 - whether it is there
        import rio_tiler  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"serve: {error.name} is not installed. Install what the server needs: pip install 'levelground[serve]'"
        ) from error
    from levelground.records import one_writer
    from levelground.serving.app import run_server
    from levelground.serving.guard import Access
    from levelground.serving.jobs import JobStore

    access = Access(config.host, config.token, int(config.max_upload_mb * 1e6))
    store = partial(JobStore, config.out, waiting=config.waiting, threads=config.threads, code=config.code)
    if config.code:
        from levelground.models.own_networks import name_network

        for source in config.code:
            name_network(source)
    with one_writer(config.out):
        run_server(config.models, config.rasters, store, access, config.port)
    return config.out
