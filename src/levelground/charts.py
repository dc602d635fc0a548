"""The page's charts: numbers in, SVG out; nothing is computed here but where a mark stands.

Every chart is an ``<svg>`` as wide as its place (see :mod:`levelground.svg`), with a sentence for screen readers. A run
is drawn in the classes ``r0``, ``r1`` …, to which the style sheet gives the colours of :mod:`levelground.marks`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from levelground.marks import Mark
from levelground.svg import Scale, element, joined, marker, percent, scale_over, tick_text

Interval = tuple[float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One run's line: its class ``r<number>``, look and points; ``name`` is shown under the pointer."""

    number: int
    name: str
    mark: Mark
    points: tuple[Point, ...]


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


def line_chart(
    series: Sequence[Series], *, text: str, x_title: str, y_scale: Scale | None = None, height: int = 240
) -> Markup:
    """Lines over a common axis, with markers at up to eight of their points.

    Args:
        series: The lines, each with at least one point, in the order of x.
        text: The chart in words.
        x_title: What runs across.
        y_scale: The scale upwards; by default what holds all points.
        height: In pixels.
    """
    points = [point for line in series for point in line.points]
    x_scale = scale_over([x for x, _ in points], margin=0, least=1e-9)
    y_scale = y_scale or scale_over([y for _, y in points])
    lines = [
        element(
            "polyline",
            points=" ".join(
                f"{1000 * x_scale.share(x):.1f},{1000 * (1 - y_scale.share(y)):.1f}" for x, y in line.points
            ),
            class_=f"line r{line.number}",
            stroke_dasharray=line.mark.dash_array,
            vector_effect="non-scaling-stroke",
        )
        for line in series
    ]
    canvas = element(
        "svg", *lines, viewBox="0 0 1000 1000", preserveAspectRatio="none", width="100%", height="100%", x="0", y="0"
    )
    marks = [
        marker(x_scale.at(x), y_scale.above(y), line.mark.shape, f"mark small r{line.number}", f"{line.name}: {y:.3g}")
        for line in series
        for x, y in _few(line.points)
    ]
    parts = [*_frame(x_scale, y_scale, x_title), canvas, *marks]
    return element("svg", *parts, class_="area", height=f"{height}", role="img", aria_label=text)


def scatter_chart(
    spots: Sequence[Spot], *, text: str, x_title: str, front: Sequence[Point] = (), height: int = 300
) -> Markup:
    """Points with intervals both ways.

    Args:
        spots: The points.
        text: The chart in words.
        x_title: What runs across; it starts at 0.
        front: Points of the front, from left to right, joined by steps.
        height: In pixels.
    """
    x_scale = scale_over([end for spot in spots for end in (spot.x, *(spot.x_interval or ()))], zero=True)
    y_scale = scale_over([end for spot in spots for end in (spot.y, *(spot.y_interval or ()))])
    parts = list(_frame(x_scale, y_scale, x_title))
    for (x0, y0), (x1, y1) in itertools.pairwise(front):
        parts.append(_line(x_scale.at(x0), y_scale.above(y0), x_scale.at(x0), y_scale.above(y1), "front"))
        parts.append(_line(x_scale.at(x0), y_scale.above(y1), x_scale.at(x1), y_scale.above(y1), "front"))
    for spot in spots:
        class_ = f"run r{spot.number}"
        x, y = x_scale.at(spot.x), y_scale.above(spot.y)
        if spot.x_interval is not None:
            low, high = (x_scale.at(end) for end in spot.x_interval)
            parts.append(_line(low, y, high, y, f"whisker {class_}"))
        if spot.y_interval is not None:
            low, high = (y_scale.above(end) for end in spot.y_interval)
            parts.append(_line(x, low, x, high, f"whisker {class_}"))
        parts.append(marker(x, y, spot.mark.shape, f"mark {class_}", spot.text or spot.name))
    return element("svg", *parts, class_="area", height=f"{height}", role="img", aria_label=text)


def reliability_chart(line: Series, sizes: Sequence[float], *, text: str, height: int = 200) -> Markup:
    """A reliability diagram: accuracy over confidence, the diagonal, and how many pixels stand behind each bin.

    Args:
        line: Confidence and accuracy of each bin that holds pixels.
        sizes: Each bin's share of pixels, 0 to 1, drawn as bars from the bottom.
        text: The chart in words.
        height: In pixels.
    """
    scale = Scale(0.0, 1.0)
    bars = [
        element("rect", x=scale.at(x - 0.02), y=scale.above(size), width="4%", height=percent(size), class_="bar")
        for (x, _), size in zip(line.points, sizes, strict=True)
    ]
    diagonal = _line("0%", "100%", "100%", "0%", "front")
    chart = line_chart([line], text=text, x_title="confidence", y_scale=scale, height=height)
    inner = joined([*bars, diagonal])
    opening, _, rest = str(chart).partition(">")
    return Markup(f"{opening}>{inner}{rest}")  # noqa: S704  both parts come from element()


def key_symbol(number: int, mark: Mark, *, line: bool = False) -> Markup:
    """The symbol of a run for a legend or a table: its marker, on a piece of its line where asked."""
    stroke = element(
        "line", x1="0", y1="8", x2="28", y2="8", class_=f"line r{number}", stroke_dasharray=mark.dash_array
    )
    shape = element("path", d=mark.shape, transform=f"translate({14 if line else 8} 8)", class_=f"mark r{number}")
    parts = [stroke, shape] if line else [shape]
    return element("svg", *parts, class_="key", width="28" if line else "16", height="16", aria_hidden="true")


def _frame(x_scale: Scale, y_scale: Scale, x_title: str) -> list[Markup]:
    """Grid lines, ticks and the title of the axis across."""
    x_ticks, y_ticks = x_scale.ticks(4), y_scale.ticks(5)
    parts = [_across(y_scale.above(tick)) for tick in y_ticks]
    for tick in y_ticks:
        label = tick_text(tick, y_ticks)
        parts.append(element("text", label, x="-8", y=y_scale.above(tick), dy="4", class_="tick end"))
    for tick in x_ticks:
        label = tick_text(tick, x_ticks)
        parts.append(element("text", label, x=x_scale.at(tick), y="100%", dy="18", class_="tick mid"))
    parts.append(element("text", x_title, x="100%", y="100%", dy="36", class_="tick end"))
    return parts


def _few(points: Sequence[Point], n: int = 8) -> list[Point]:
    """At most ``n`` of the points, evenly, the last one among them."""
    if len(points) <= n:
        return list(points)
    return [points[round((k + 1) * (len(points) - 1) / n)] for k in range(n)]


def _line(x1: str, y1: str, x2: str, y2: str, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _down(x: str, class_: str) -> Markup:
    return _line(x, "0", x, "100%", class_)


def _across(y: str) -> Markup:
    return _line("0", y, "100%", y, "grid")


def _whisker(low: str, high: str, class_: str, *, y: str = "50%") -> Markup:
    return _line(low, y, high, y, f"whisker {class_}")
