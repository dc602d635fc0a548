"""Charts that stand in table rows: intervals, dots, and the symbol of a run. Numbers in, SVG out.

Every chart is an ``<svg>`` as wide as its place (see :mod:`levelground.reporting.svg`), with a sentence for screen
readers. A run is drawn in the classes ``r0``, ``r1`` …, to which the style sheet gives the colours of
:mod:`levelground.reporting.marks`. Nothing is computed here but where a mark stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from levelground.reporting.marks import Mark
from levelground.reporting.svg import Scale, element, marker, percent, tick_text

Interval = tuple[float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Spot:
    """One point with intervals across and upwards, where there are any."""

    number: int
    name: str
    mark: Mark
    x: float
    y: float
    x_interval: Interval | None = None
    y_interval: Interval | None = None
    text: str = ""


def interval_strip(
    scale: Scale,
    value: float | None,
    interval: Interval | None,
    *,
    mark: Mark,
    number: int | None,
    ticks: Sequence[float],
    text: str,
    zone: Interval | None = None,
) -> Markup:
    """One row of a forest plot: the interval as a line, the value as a marker, grid lines behind.

    Args:
        scale: From left to right.
        value: Where the marker stands; ``None`` draws the grid only.
        interval: Its ends; ``None`` draws no line.
        mark: The marker's shape.
        number: The run's number for its colour; ``None`` for the neutral one.
        ticks: Where grid lines stand; the one at 0 is heavier.
        text: The row in words.
        zone: A band behind the row, such as ±δ.
    """
    class_ = "run" if number is None else f"run r{number}"
    parts = []
    if zone is not None:
        low, high = scale.share(zone[0]), scale.share(zone[1])
        parts.append(element("rect", x=percent(low), y="0", width=percent(high - low), height="100%", class_="zone"))
    parts += [_down(scale.at(tick), "zero" if tick == 0 else "grid") for tick in ticks]
    if interval is not None:
        parts.append(_whisker(scale.at(interval[0]), scale.at(interval[1]), class_))
    if value is not None:
        parts.append(marker(scale.at(value), "50%", mark.shape, f"mark {class_}"))
    return element("svg", *parts, class_="strip", role="img", aria_label=text)


def axis_strip(scale: Scale, ticks: Sequence[float]) -> Markup:
    """The axis below rows of :func:`interval_strip`."""
    texts = [element("text", tick_text(tick, ticks), x=scale.at(tick), y="14", class_="tick mid") for tick in ticks]
    return element("svg", *texts, class_="strip axis", aria_hidden="true")


def lane_strip(scale: Scale, spots: Sequence[Spot], ticks: Sequence[float], *, text: str) -> Markup:
    """One row of a dot chart: a marker for each run, each on a lane of its own so that none hides another.

    Args:
        scale: From left to right.
        spots: The runs' values (``x``), from the top; a spot's interval is drawn where it has one.
        ticks: Where grid lines stand.
        text: The row in words.
    """
    lane = 11 if len(spots) <= 8 else 7
    parts = [_down(scale.at(tick), "zero" if tick == 0 else "grid") for tick in ticks]
    for number, spot in enumerate(spots):
        y = percent((number + 0.5) / len(spots))
        if spot.x_interval is not None:
            low, high = (scale.at(end) for end in spot.x_interval)
            parts.append(_whisker(low, high, f"run r{spot.number}", y=y))
        title = spot.text or spot.name
        parts.append(marker(scale.at(spot.x), y, spot.mark.shape, f"mark r{spot.number}", title))
    return element("svg", *parts, class_="strip", height=f"{lane * len(spots) + 12}", role="img", aria_label=text)


def key_symbol(number: int, mark: Mark, *, stroke: bool = False) -> Markup:
    """The symbol of a run for a legend or a table: its marker, on a piece of its line where asked."""
    width = 32 if stroke else 14
    shape = element("path", d=mark.shape, transform=f"translate({width // 2} 7)", class_=f"mark r{number}")
    through = element(
        "line", x1="0", y1="7", x2="32", y2="7", class_=f"curve r{number}", stroke_dasharray=mark.dash_array
    )
    parts = [through, shape] if stroke else [shape]
    return element("svg", *parts, class_="key", width=f"{width}", height="14", aria_hidden="true")


def line(x1: str, y1: str, x2: str, y2: str, class_: str) -> Markup:
    """A straight line between two points given in per cent."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _down(x: str, class_: str) -> Markup:
    return line(x, "0", x, "100%", class_)


def _whisker(low: str, high: str, class_: str, *, y: str = "50%") -> Markup:
    return line(low, y, high, y, f"whisker {class_}")
