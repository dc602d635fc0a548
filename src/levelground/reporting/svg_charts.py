"""Charts over two axes: learning curves, score against speed, reliability. Numbers in, SVG out.

They are as wide as their place and draw a run as :mod:`levelground.reporting.svg_charts` does.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from levelground.reporting.run_styles import Mark

Value = str | float | None
"""An attribute's value; ``None`` leaves the attribute out."""


def element(name: str, *content: str | Markup, **attributes: Value) -> Markup:
    """Write one element; text and attributes are escaped, markup in ``content`` is taken as it is.

    Args:
        name: The element's name.
        content: Text or markup inside it.
        attributes: Its attributes; ``_`` in a name stands for ``-``, a last ``_`` is dropped.

    Example:
        >>> print(element("text", "a < b", x="5%", text_anchor="end", class_="tick"))
        <text x="5%" text-anchor="end" class="tick">a &lt; b</text>
    """
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    opening = f"<{name}{''.join(parts)}"
    if not content:
        return Markup(f"{opening}/>")  # noqa: S704  every part was escaped above
    return Markup(f"{opening}>{''.join(escape(part) for part in content)}</{name}>")  # noqa: S704


def joined(parts: Sequence[Markup]) -> Markup:
    """Put elements one after the other."""
    return Markup("").join(parts)


@dataclass(frozen=True)
class Scale:
    """A linear scale from ``low`` to ``high``; ``low < high``."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Where a value lies, 0 at ``low`` and 1 at ``high``; never beyond the edge."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def at(self, value: float) -> str:
        """Where a value lies, in per cent, across.

        Example:
            >>> Scale(0, 2).at(0.5)
            '25%'
        """
        return percent(self.share(value))

    def above(self, value: float) -> str:
        """Where a value lies, in per cent from the top."""
        return percent(1 - self.share(value))

    def ticks(self, n: int = 5) -> list[float]:
        """About ``n`` round values inside the scale.

        Example:
            >>> Scale(0.28, 0.61).ticks(4)
            [0.3, 0.4, 0.5, 0.6]
        """
        step = round_step((self.high - self.low) / max(1, n))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def scale_over(
    values: Sequence[float],
    *,
    margin: float = 0.06,
    least: float = 0.02,
    zero: bool = False,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Scale:
    """A scale that holds all values with some room.

    Args:
        values: What it must hold; none gives 0 to 1.
        margin: Room at each end, as a share of the range.
        least: The least range, so that equal values do not blow up.
        zero: Whether 0 must lie on it.
        within: What the values can be at all; values beyond, such as the ends of a very wide interval, are cut there.

    Example:
        >>> scale_over([], margin=0)
        Scale(low=0.0, high=1.0)
        >>> scale_over([-2.5, 0.4], within=(0, 1)).at(0.0)
        '5.36%'
    """
    held = [min(max(value, within[0]), within[1]) for value in values if math.isfinite(value)]
    if zero and held:
        held.append(0.0)
    if not held:
        return Scale(0.0, 1.0)
    low, high = min(held), max(held)
    room = max((high - low) * margin, (least - (high - low)) / 2, 1e-9)
    return Scale(low - (0 if zero and low == 0 else room), high + (0 if zero and high == 0 else room))


def round_step(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten at or above a step.

    Example:
        >>> round_step(0.083), round_step(3)
        (0.1, 5.0)
    """
    size = 10.0 ** math.floor(math.log10(step))
    return next(size * part for part in (1.0, 2.0, 5.0, 10.0) if size * part >= step * (1 - 1e-9))


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """A tick's text with as many decimals as the step needs and no more.

    Example:
        >>> tick_text(0.5, [0.4, 0.45, 0.5]), tick_text(20000.0, [0, 20000.0]), tick_text(-1.0, [-1.0, 0.0])
        ('0.50', '20 000', '−1')
    """
    step = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=abs(value) or 1.0)
    decimals = next((n for n in range(10) if abs(round(step, n) - step) < 1e-9 * max(1.0, step)), 10)
    return f"{value:,.{decimals}f}".replace(",", " ").replace("-", "−")


def percent(share: float) -> str:
    """A share as SVG's per cent, with two decimals at most."""
    return f"{round(100 * share, 2):g}%"


def marker(x: str, y: str, shape: str, class_: str, title: str | None = None) -> Markup:
    """A small shape around a point given in per cent.

    Args:
        x: Across.
        y: Down.
        shape: A path around (0, 0).
        class_: Its classes.
        title: What a pointer that rests on it shows.
    """
    path = element("path", *([element("title", title)] if title else []), d=shape, class_=class_)
    return element("svg", path, x=x, y=y, overflow="visible")


def _plain(value: Value) -> str:
    """A number without needless digits."""
    return f"{value:g}" if isinstance(value, float) else str(value)


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


@dataclass(frozen=True)
class Series:
    """One run's line: its class ``r<number>``, look and points; ``name`` is shown under the pointer."""

    number: int
    name: str
    mark: Mark
    points: tuple[Point, ...]


def line_chart(
    series: Sequence[Series], *, text: str, x_title: str, y_scale: Scale | None = None, height: int = 240
) -> Markup:
    """Lines over a common axis, with markers at up to twelve of their points.

    Args:
        series: The lines, each with at least one point, in the order of x.
        text: The chart in words.
        x_title: What runs across.
        y_scale: The scale upwards; by default what holds all points.
        height: In pixels.
    """
    points = [point for one in series for point in one.points]
    x_scale = scale_over([x for x, _ in points], margin=0, least=1e-9)
    y_scale = y_scale or scale_over([y for _, y in points])
    parts = [*_frame(x_scale, y_scale, x_title), *_curves(series, x_scale, y_scale)]
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
        parts.append(line(x_scale.at(x0), y_scale.above(y0), x_scale.at(x0), y_scale.above(y1), "front"))
        parts.append(line(x_scale.at(x0), y_scale.above(y1), x_scale.at(x1), y_scale.above(y1), "front"))
    for spot in spots:
        class_ = f"run r{spot.number}"
        x, y = x_scale.at(spot.x), y_scale.above(spot.y)
        if spot.x_interval is not None:
            low, high = (x_scale.at(end) for end in spot.x_interval)
            parts.append(line(low, y, high, y, f"whisker {class_}"))
        if spot.y_interval is not None:
            low, high = (y_scale.above(end) for end in spot.y_interval)
            parts.append(line(x, low, x, high, f"whisker {class_}"))
        parts.append(marker(x, y, spot.mark.shape, f"mark {class_}", spot.text or spot.name))
    return element("svg", *parts, class_="area", height=f"{height}", role="img", aria_label=text)


def reliability_chart(bins: Series, sizes: Sequence[float], *, text: str, height: int = 200) -> Markup:
    """A reliability diagram: accuracy over confidence, the diagonal, and how many pixels stand behind each bin.

    Args:
        bins: Confidence and accuracy of each bin that holds pixels.
        sizes: Each bin's share of pixels, 0 to 1, drawn as bars from the bottom.
        text: The chart in words.
        height: In pixels.
    """
    scale = Scale(0.0, 1.0)
    bars = [
        element("rect", x=scale.at(x - 0.015), y=scale.above(size), width="3%", height=percent(size), class_="bar")
        for (x, _), size in zip(bins.points, sizes, strict=True)
    ]
    diagonal = line("0%", "100%", "100%", "0%", "front")
    parts = [*bars, *_frame(scale, scale, "confidence"), diagonal, *_curves([bins], scale, scale)]
    return element("svg", *parts, class_="area", height=f"{height}", role="img", aria_label=text)


def _curves(series: Sequence[Series], x_scale: Scale, y_scale: Scale) -> list[Markup]:
    """Lines, stretched to the area while their strokes keep their width, and markers on them."""
    curves = [
        element(
            "polyline",
            points=" ".join(
                f"{1000 * x_scale.share(x):.1f},{1000 * (1 - y_scale.share(y)):.1f}" for x, y in one.points
            ),
            class_=f"curve thin r{one.number}",
            stroke_dasharray=one.mark.dash_array,
            vector_effect="non-scaling-stroke",
        )
        for one in series
    ]
    canvas = element("svg", *curves, viewBox="0 0 1000 1000", preserveAspectRatio="none", width="100%", height="100%")
    marks = [
        marker(x_scale.at(x), y_scale.above(y), one.mark.shape, f"mark r{one.number}", f"{one.name}: {y:.3g}")
        for one in series
        for x, y in _few(one.points)
    ]
    return [canvas, *marks]


def _frame(x_scale: Scale, y_scale: Scale, x_title: str) -> list[Markup]:
    """Grid lines, ticks and the title of the axis across."""
    x_ticks, y_ticks = x_scale.ticks(4), y_scale.ticks(5)
    parts = [line("0", y_scale.above(tick), "100%", y_scale.above(tick), "grid") for tick in y_ticks]
    for tick in y_ticks:
        label = tick_text(tick, y_ticks)
        parts.append(element("text", label, x="-8", y=y_scale.above(tick), dy="4", class_="tick end"))
    for tick in x_ticks:
        label = tick_text(tick, x_ticks)
        parts.append(element("text", label, x=x_scale.at(tick), y="100%", dy="18", class_="tick mid"))
    parts.append(element("text", x_title, x="100%", y="100%", dy="36", class_="tick end"))
    return parts


def _few(points: Sequence[Point], n: int = 12) -> list[Point]:
    """At most ``n`` of the points, evenly, the last one among them."""
    if len(points) <= n:
        return list(points)
    return [points[round((k + 1) * (len(points) - 1) / n)] for k in range(n)]
