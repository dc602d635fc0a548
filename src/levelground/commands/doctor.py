"""Say what this installation can do: versions, device, threads, extras, cache, and how to get what is missing."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from levelground.wording import translated

_LIBRARIES = ("torch", "torchvision", "segmentation-models-pytorch", "timm", "rasterio", "numpy", "scipy")
_INNER = ("dev", "docs")  # extras of those who work on levelground
_SHARED_MEMORY = "/dev/shm"  # noqa: S108  where Linux keeps what processes share
_LOW_GIB = 5.0  # free room below which large data sets do not fit


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DoctorConfig:
    """Options of ``doctor``."""

    cache: Path | None = None
    """Folder of decoded scenes to look at; without it, the default one."""


def doctor(config: DoctorConfig) -> list[str]:
    """Print what this installation can do.

    Args:
        config: Which cache.
    Returns:
        The lines.
    Raises:
        LevelgroundError: Never; what cannot be found out is said.
    """
    lines = [translated(line) for line in (*_versions(), *_devices(), *_extras(), *_room(config.cache))]
    sys.stdout.write("\n".join([*lines, ""]))
    return lines


def _versions() -> Iterator[str]:
    yield f"levelground {_version('levelground')}, Python {platform.python_version()}, {platform.platform()}"
    yield ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES)


def _devices() -> Iterator[str]:
    """Describe where networks would run, or why torch cannot be loaded."""
    try:
        from levelground.config import DeviceOptions
        from levelground.runtime import open_runtime

        runtime = open_runtime(DeviceOptions())
    except Exception as error:  # whatever keeps torch from being loaded is what the user wants to know
        yield f"torch cannot be loaded: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        yield "  Install the pair: pip install --force-reinstall torch torchvision"
        return
    facts = runtime.describe()
    yield f"Networks run on {facts['device']} ({facts['hardware']}), {facts['precision']}, {facts['threads']} threads."
    if facts["device"] == "cpu":
        yield "  No GPU is used. On a machine without one, a smaller torch: README, section Install."
    policy = os.environ.get("OMP_WAIT_POLICY", "not set (threads wait passively where others use the machine)")
    yield f"  OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')}, OMP_WAIT_POLICY {policy}"


def _extras() -> Iterator[str]:
    """Describe each extra: what of it is installed, and how to get the rest."""
    for extra, names in _extra_requirements().items():
        missing = [name for name in names if _version(name) == "missing"]
        if missing:
            yield f"extra {extra}: {', '.join(missing)} missing. pip install 'levelground[{extra}]'"
        else:
            yield f"extra {extra}: {', '.join(f'{name} {_version(name)}' for name in names)}"


def _extra_requirements() -> dict[str, list[str]]:
    """Return the packages of each extra, as this installation's metadata has them."""
    found: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("levelground") or ():
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if extra and name and extra[1] not in _INNER:
            found.setdefault(extra[1], []).append(name[0])
    return dict(sorted(found.items()))


def _room(cache: Path | None) -> Iterator[str]:
    """Describe the cache of decoded scenes, and the room beside it."""
    from levelground.imagery.cache import default_cache_folder

    folder = cache or default_cache_folder()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 2**30
    yield f"cache {folder}: {size / 2**30:.2f} GiB, {free:.1f} GiB free there"
    if free < _LOW_GIB:
        yield "  Little room: give another folder with --cache, or remove what is in this one."
    if sys.platform == "linux" and not Path(_SHARED_MEMORY).is_dir():
        yield f"{_SHARED_MEMORY} is missing: loaders cannot share memory. In a container, start it with --shm-size 2g."


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
