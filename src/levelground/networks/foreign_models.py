"""Models that do not say what they mean: what the user says, what their metadata tell, and the rest by number."""

import ast
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from levelground.console import say
from levelground.errors import ConfigError, LegendError
from levelground.imagery.legend import Legend, default_legend, read_legend


@dataclass(frozen=True)
class Given:
    """What the user says of a model: a legend file, and mean and deviation in stored units."""

    legend: Path | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    def refuse(self, source: Path) -> None:
        """Refuse to overrule a model that knows better."""
        for flag, value in (("legend", self.legend), ("mean", self.mean), ("std", self.std)):
            if value is not None:
                raise ConfigError(f"--{flag}: {source} brings its own. Leave --{flag} away.")

    def normalisation(self, bands: int, source: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation in stored units, where they are given; one value holds for all bands."""
        if self.mean is None and self.std is None:
            return None
        pairs = (("mean", self.mean or (0.0,)), ("std", self.std or (1.0,)))
        for flag, values in pairs:
            if len(values) not in (1, bands) or not np.isfinite(values).all() or (flag == "std" and min(values) <= 0):
                shown, more = " ".join(f"{value:g}" for value in values), ", above 0" if flag == "std" else ""
                raise ConfigError(f"--{flag} {shown}: {source} reads {bands} bands. Give {bands} numbers or one{more}.")
        mean, std = (values * bands if len(values) == 1 else values for _, values in pairs)
        return mean, std


def foreign_legend(
    given: Path | None, n_outputs: int, names: Mapping[int, str] | None, source: Path
) -> tuple[Legend, tuple[int, ...]]:
    """Legend and outputs of a model that brings none: the user's file, the file's own class names, or numbers."""
    if given is not None:
        legend = read_legend(given)
        counted = tuple(int(index) for index in np.flatnonzero(legend.counted))
        if n_outputs not in (legend.n_classes, len(counted)):
            raise ConfigError(
                f"--legend {given}: has {legend.n_classes} classes, {len(counted)} of them counted; {source} has "
                f"{n_outputs} outputs. Give a legend with one class an output."
            )
        return legend, tuple(range(n_outputs)) if n_outputs == legend.n_classes else counted
    legend = default_legend(n_outputs)
    if names is None:
        say(f"{source.name}: does not name its {n_outputs} classes; they are numbered. Pass --legend to name them.")
        return legend, tuple(range(n_outputs))
    classes = [dataclasses.replace(c, name=names.get(c.index, c.name)) for c in legend.classes]
    try:
        return Legend(source.stem or "model", tuple(classes)), tuple(range(n_outputs))
    except LegendError as error:
        raise LegendError(f"{source}: {error} Or pass --legend.") from error


def class_names(metadata: Mapping[str, str], source: Path) -> dict[int, str] | None:
    """Class names as Deepness and others write them: JSON, or a Python dictionary in text."""
    text = metadata.get("class_names") or metadata.get("names")
    if not text:
        return None
    try:
        try:
            content = json.loads(text)
        except ValueError:
            content = ast.literal_eval(text)
        content = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else content
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        return {int(key): str(value) for key, value in pairs}
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        say(f"{source.name}: its class names cannot be read; the classes are numbered. Pass --legend to name them.")
        return {}


def resolution_m(metadata: Mapping[str, str]) -> float | None:
    """Metres a pixel from ``resolution`` in centimetres, as Deepness and geodeep write it."""
    try:
        value = float(metadata["resolution"])
    except (KeyError, ValueError):
        return None
    return value / 100 if 0 < value < 1e6 else None
