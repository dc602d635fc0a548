"""List the legends that are shipped, or print one as a legend file to start from."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LegendsConfig:
    """Options of ``legends``."""

    name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME")] = None
    """Legend to print as TOML; without one, all are listed."""

    out: Path | None = None
    """File to write the legend to instead, to start from; an existing one is not replaced."""


def legends(config: LegendsConfig) -> dict[str, str]:
    """List the shipped legends, or print one.

    Args:
        config: Which legend.
    Returns:
        What each listed legend describes, by its name.
    Raises:
        LegendError: There is no legend of this name.
        ConfigError: ``out`` exists, or no legend is named.
    """
    from levelground.errors import ConfigError
    from levelground.files import atomic_path
    from levelground.imagery.legend_sources import shipped_legends, shipped_text

    known = shipped_legends()
    if config.out is not None:
        if config.name is None or config.out.exists():
            why = "exists already" if config.name else "no legend is named"
            raise ConfigError(f"--out {config.out}: {why}. Name a legend and a new file.")
        text = shipped_text(config.name)
        with atomic_path(config.out) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return {config.name: known[config.name]}
    if config.name is not None:
        sys.stdout.write(shipped_text(config.name))
        return {config.name: known[config.name]}
    width = max(map(len, known))
    sys.stdout.write("".join(f"{name:<{width}}  {text}\n" for name, text in known.items()))
    return known
