"""Styles of the runs in charts and tables (colour, marker, dash), and the runs in the order of the report."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from levelground.comparison.record import Comparison
from levelground.comparison.results import RunResult
from levelground.comparison.text import metric_words
from levelground.reporting.svg_charts import Style
from levelground.wording import gettext

_HUES: tuple[tuple[float, float, float, float], ...] = (
    (250, 0.14, 0.48, 0.67),  # blue
    (45, 0.16, 0.40, 0.62),  # vermilion
    (168, 0.11, 0.60, 0.88),  # bluish green
    (345, 0.16, 0.40, 0.62),  # purple
    (85, 0.13, 0.54, 0.83),  # ochre
    (215, 0.10, 0.53, 0.72),  # sky
    (305, 0.14, 0.41, 0.86),  # violet
)
# Hue in degrees, chroma, lightness on light and on dark ground. The lightnesses were searched for the largest least
# distance (OKLab) between the first three, four, five and all, to normal, protanope and deuteranope eyes.

_LIGHT_GROUND, _DARK_GROUND = (0.34, 0.63), (0.60, 0.92)
# Lightness that keeps a contrast of 3:1 against the page.

_SPREAD = 0.10
# How far the runs of one hue may go from its lightness, either way.

_SHAPES: tuple[tuple[str, str], ...] = (
    ("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "o"),
    ("M-3.6-3.6h7.2v7.2h-7.2z", "s"),
    ("M0-4.8L4.6 3.4H-4.6z", "^"),
    ("M0-5L5 0 0 5-5 0z", "D"),
    ("M0 4.8L4.6-3.4H-4.6z", "v"),
    ("M-1.6-4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z", "P"),
    ("M-4.8 0L3.4-4.6V4.6z", "<"),
    ("M4.8 0L-3.4-4.6V4.6z", ">"),
)
_DASHES: tuple[tuple[float, ...], ...] = ((), (6, 3), (2, 2), (8, 2, 2, 2), (12, 3))


SHOWN_RUNS, PICTURED_RUNS = 40, 12
"""Runs that are shown in every detail; of more, only the best, and the pictures of these first ones."""


@dataclass(frozen=True)
class RunStyle(Style):
    """Style of one run: ``light`` and ``dark`` are its colours on that background, ``#rrggbb``.

    ``number`` is its place in the report, from 0 for the best; ``marker`` is matplotlib's name of ``shape``.
    """

    number: int = 0
    light: str = "#000000"
    dark: str = "#ffffff"
    marker: str = "o"


def assign_styles(archs: Sequence[str]) -> list[RunStyle]:
    """Give every run a style; runs of one architecture share a hue and differ in lightness.

    Args:
        archs: The architecture of each run, in the order of the runs.
    Returns:
        One style for each run; no two have the same colour.

    Example:
        >>> a, b, c = assign_styles(["unet", "unet", "fpn"])
        >>> a.marker, b.marker, c.marker, len({a.light, b.light, c.light})
        ('o', 's', '^', 3)
    """
    order = {arch: number for number, arch in enumerate(dict.fromkeys(archs))}
    hues = [order[arch] % len(_HUES) for arch in archs]
    sizes, seen = Counter(hues), Counter[int]()
    styles = []
    for number, hue in enumerate(hues):
        nth, n = seen[hue], sizes[hue]
        seen[hue] += 1
        shape, marker = _SHAPES[number % len(_SHAPES)]
        light = _colour(hue, _HUES[hue][2], _LIGHT_GROUND, nth, n)
        dark = _colour(hue, _HUES[hue][3], _DARK_GROUND, nth, n)
        styles.append(RunStyle(f"r{number}", shape, _DASHES[nth % len(_DASHES)], number, light, dark, marker))
    return styles


def _colour(hue: int, middle: float, ground: tuple[float, float], nth: int, n: int) -> str:
    """Return the nth of n colours of a hue, spread around its lightness."""
    degrees, chroma = _HUES[hue][:2]
    darkest, lightest = max(ground[0], middle - _SPREAD), min(ground[1], middle + _SPREAD)
    lightness = middle if n == 1 else darkest + (lightest - darkest) * nth / (n - 1)
    return oklch_hex(lightness, chroma, degrees)


def oklch_hex(lightness: float, chroma: float, degrees: float) -> str:
    """Convert an OKLCH colour to ``#rrggbb``, clipped to the sRGB range.

    Args:
        lightness: 0 (black) to 1 (white).
        chroma: 0 (grey) to about 0.3.
        degrees: Hue.
    Source: Ottosson, "A perceptual color space for image processing", 2020; its matrices.

    Example:
        >>> oklch_hex(1, 0, 0), oklch_hex(0, 0, 0)
        ('#ffffff', '#000000')
    """
    a, b = chroma * math.cos(math.radians(degrees)), chroma * math.sin(math.radians(degrees))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )
    return "#" + "".join(f"{_gamma(value):02x}" for value in linear)


def _gamma(value: float) -> int:
    """Convert a linear channel to sRGB, 0–255."""
    value = min(max(value, 0.0), 1.0)
    return round(255 * (12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055))


def run_style(styles: Sequence[RunStyle]) -> str:
    """Return the CSS class of each run's colour."""
    return "".join(f".{style.css_class}{{--run:light-dark({style.light},{style.dark})}}\n" for style in styles)


@dataclass(frozen=True)
class StyledRun:
    """A run of the comparison with its style."""

    style: RunStyle
    result: RunResult

    @property
    def number(self) -> int:
        """The place in the report, from 0 for the best; CSS class ``r<number>``."""
        return self.style.number

    @property
    def name(self) -> str:
        """The run's name."""
        return self.result.name

    @property
    def label(self) -> str:
        """The name in charts and tables."""
        return self.result.label

    def folder(self, study_folder: Path) -> Path:
        """Return its run folder: the recorded one, relative to the comparison, or the one among the study's runs."""
        return study_folder / (self.result.folder or f"runs/{self.name}")


def styled_runs(comparison: Comparison) -> list[StyledRun]:
    """Return the runs with styles, best first by the primary metric."""
    runs = comparison.ranked_runs
    return [StyledRun(style, run) for run, style in zip(runs, assign_styles([run.arch for run in runs]), strict=True)]


def pictured_runs(runs: Sequence[StyledRun]) -> Sequence[StyledRun]:
    """Return the runs whose predictions are pictured: all, or the best of many."""
    return runs if len(runs) <= SHOWN_RUNS else runs[:PICTURED_RUNS]


def metric_title(comparison: Comparison) -> str:
    """Return the primary metric in words, marked where it was not named in advance."""
    words = metric_words(comparison.metric, comparison.scorings)
    return gettext("%(metric)s, exploratory", metric=words) if comparison.exploratory else words
