"""SVG charts from plain numbers, without dependencies: forest plots, dot charts, lines, scatter, reliability.

Charts are as wide as their container. Positions are per cent of it, colours and strokes come from CSS classes, and
every chart has a text for screen readers.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from levelground.wording import decimal, gettext, whole

Interval = tuple[float, float]
Point = tuple[float, float]

AttributeValue = str | float | None
"""An attribute's value; ``None`` leaves the attribute out."""


@dataclass(frozen=True)
class Style:
    """Style of a series; by default a circle in the text colour.

    ``css_class`` gives the colour, ``shape`` is the path of the marker around (0, 0), ``dash`` the pattern of the line.
    """

    css_class: str = ""
    shape: str = "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"
    dash: tuple[float, ...] = ()

    @property
    def dash_array(self) -> str | None:
        """The dash pattern as an SVG attribute; ``None`` for a solid line."""
        return " ".join(f"{part:g}" for part in self.dash) or None


NEUTRAL = Style()


@dataclass(frozen=True)
class DataPoint:
    """One point with intervals across and upwards, where there are any; ``text`` or ``name`` is its tooltip."""

    name: str
    style: Style
    x: float
    y: float
    x_interval: Interval | None = None
    y_interval: Interval | None = None
    text: str = ""


@dataclass(frozen=True)
class Series:
    """A line through points; ``name`` is its tooltip."""

    name: str
    style: Style
    points: tuple[Point, ...]
    intervals: tuple[Interval | None, ...] = ()
    """The interval of each point, drawn as a whisker; empty for lines without."""


def element(name: str, *content: str | Markup, **attributes: AttributeValue) -> Markup:
    """Write one element; text and attributes are escaped, markup in ``content`` is not.

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


@dataclass(frozen=True)
class Scale:
    """A linear scale from ``low`` to ``high``; ``low < high``."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return the position of a value, 0 at ``low`` and 1 at ``high``, cut at the edges."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def at(self, value: float) -> str:
        """Return the position of a value from the left, in per cent.

        Example:
            >>> Scale(0, 2).at(0.5)
            '25%'
        """
        return percent(self.share(value))

    def above(self, value: float) -> str:
        """Return the position of a value from the top, in per cent."""
        return percent(1 - self.share(value))

    def ticks(self, n: int = 5) -> list[float]:
        """Return about ``n`` round values inside the scale.

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
    """Make a scale that holds all values, with a margin.

    Args:
        values: The values; none gives 0 to 1.
        margin: Margin at each end, as a share of the range.
        least: The least range, so that equal values do not fill the axis.
        zero: Whether the scale must hold 0.
        within: Limits of the quantity; values beyond them, such as the ends of a very wide interval, are cut.

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
    """Round a step up to 1, 2 or 5 times a power of ten.

    Example:
        >>> round_step(0.083), round_step(3)
        (0.1, 5.0)
    """
    size = 10.0 ** math.floor(math.log10(step))
    return next(size * part for part in (1.0, 2.0, 5.0, 10.0) if size * part >= step * (1 - 1e-9))


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """Format a tick with as many decimals as the step needs.

    Example:
        >>> tick_text(0.5, [0.4, 0.45, 0.5]), tick_text(20000.0, [0, 20000.0]), tick_text(-1.0, [-1.0, 0.0])
        ('0.50', '20 000', '−1')
    """
    step = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=abs(value) or 1.0)
    decimals = next((n for n in range(10) if abs(round(step, n) - step) < 1e-9 * max(1.0, step)), 10)
    integer, point, fraction = f"{abs(value):.{decimals}f}".partition(".")
    digits = whole(int(integer)) + (decimal(f"{point}{fraction}") if point else "")
    return f"−{digits}" if value < 0 else digits


def percent(share: float) -> str:
    """Format a share as per cent for SVG, with at most two decimals."""
    return f"{round(100 * share, 2):g}%"


def marker(x: str, y: str, shape: str, class_: str, title: str | None = None) -> Markup:
    """Draw a marker at a point given in per cent.

    Args:
        x: From the left.
        y: From the top.
        shape: A path around (0, 0).
        class_: Its CSS classes.
        title: Its tooltip.
    """
    path = element("path", *([element("title", title)] if title else []), d=shape, class_=class_)
    return element("svg", path, x=x, y=y, overflow="visible")


def _plain(value: AttributeValue) -> str:
    """Format an attribute's value, a number without trailing zeros."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def interval_strip(
    scale: Scale,
    value: float | None,
    interval: Interval | None,
    *,
    ticks: Sequence[float],
    text: str,
    style: Style = NEUTRAL,
    zone: Interval | None = None,
) -> Markup:
    """Draw one row of a forest plot: the interval as a line, the value as a marker, grid lines behind.

    Args:
        scale: From left to right.
        value: Position of the marker; ``None`` draws the grid only.
        interval: Its ends; ``None`` draws no line.
        ticks: Positions of the grid lines; the one at 0 is heavier.
        text: Description for screen readers.
        style: Colour and marker.
        zone: A band behind the row, such as ±δ.
    """
    parts = []
    if zone is not None:
        low, high = scale.share(zone[0]), scale.share(zone[1])
        parts.append(element("rect", x=percent(low), y="0", width=percent(high - low), height="100%", class_="zone"))
    parts += _grid(scale, ticks)
    if interval is not None:
        low_end, high_end = scale.at(interval[0]), scale.at(interval[1])
        parts.append(line(low_end, "50%", high_end, "50%", _classes("whisker run", style)))
    if value is not None:
        parts.append(marker(scale.at(value), "50%", style.shape, _classes("mark run", style)))
    return element("svg", *parts, class_="strip", role="img", aria_label=text)


def axis_strip(scale: Scale, ticks: Sequence[float]) -> Markup:
    """Draw the axis below rows of :func:`interval_strip`."""
    texts = [element("text", tick_text(tick, ticks), x=scale.at(tick), y="14", class_="tick mid") for tick in ticks]
    return element("svg", *texts, class_="strip axis", aria_hidden="true")


def lane_strip(scale: Scale, points: Sequence[DataPoint], ticks: Sequence[float], *, text: str) -> Markup:
    """Draw one row of a dot chart: each marker has a lane of its own, so that none hides another.

    Args:
        scale: From left to right.
        points: The values (``x``), from the top; a point's interval is drawn where it has one.
        ticks: Positions of the grid lines.
        text: Description for screen readers.
    """
    lane = 11 if len(points) <= 8 else 7
    parts = _grid(scale, ticks)
    for number, point in enumerate(points):
        y = percent((number + 0.5) / len(points))
        if point.x_interval is not None:
            low, high = (scale.at(end) for end in point.x_interval)
            parts.append(line(low, y, high, y, _classes("whisker run", point.style)))
        title = point.text or point.name
        parts.append(marker(scale.at(point.x), y, point.style.shape, _classes("mark", point.style), title))
    return element("svg", *parts, class_="strip", height=f"{lane * len(points) + 12}", role="img", aria_label=text)


def key_symbol(style: Style, *, stroke: bool = False) -> Markup:
    """Draw the symbol of a series for a legend or a table: its marker, on a piece of its line if ``stroke``."""
    width = 32 if stroke else 14
    shape = element("path", d=style.shape, transform=f"translate({width // 2} 7)", class_=_classes("mark", style))
    through = element(
        "line", x1="0", y1="7", x2="32", y2="7", class_=_classes("curve", style), stroke_dasharray=style.dash_array
    )
    parts = [through, shape] if stroke else [shape]
    return element("svg", *parts, class_="key", width=f"{width}", height="14", aria_hidden="true")


def line(x1: str, y1: str, x2: str, y2: str, class_: str) -> Markup:
    """Draw a straight line between two points given in per cent."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _grid(scale: Scale, ticks: Sequence[float]) -> list[Markup]:
    """Draw vertical grid lines."""
    return [line(scale.at(tick), "0", scale.at(tick), "100%", "zero" if tick == 0 else "grid") for tick in ticks]


def _classes(names: str, style: Style) -> str:
    """Return CSS classes with that of the style's colour."""
    return f"{names} {style.css_class}".rstrip()


def line_chart(
    series: Sequence[Series], *, text: str, x_title: str, y_scale: Scale | None = None, height: int = 240
) -> Markup:
    """Draw lines over a common axis, with markers at up to twelve of their points.

    Args:
        series: The lines, each with at least one point, in the order of x.
        text: Description for screen readers.
        x_title: Title of the horizontal axis.
        y_scale: The vertical scale; by default it holds all points.
        height: In pixels.
    """
    points = [point for one in series for point in one.points]
    x_scale = scale_over([x for x, _ in points], margin=0, least=1e-9)
    held = [y for _, y in points] + [end for one in series for interval in one.intervals for end in interval or ()]
    y_scale = y_scale or scale_over(held)
    parts = [*_frame(x_scale, y_scale, x_title), *_curves(series, x_scale, y_scale)]
    return element("svg", *parts, class_="area", height=f"{height}", role="img", aria_label=text)


def scatter_chart(
    points: Sequence[DataPoint], *, text: str, x_title: str, front: Sequence[Point] = (), height: int = 300
) -> Markup:
    """Draw points with intervals in both directions.

    Args:
        points: The points.
        text: Description for screen readers.
        x_title: Title of the horizontal axis, which starts at 0.
        front: Points of the Pareto front, from left to right, joined by steps.
        height: In pixels.
    """
    x_scale = scale_over([end for point in points for end in (point.x, *(point.x_interval or ()))], zero=True)
    y_scale = scale_over([end for point in points for end in (point.y, *(point.y_interval or ()))])
    parts = list(_frame(x_scale, y_scale, x_title))
    for (x0, y0), (x1, y1) in itertools.pairwise(front):
        parts.append(line(x_scale.at(x0), y_scale.above(y0), x_scale.at(x0), y_scale.above(y1), "front"))
        parts.append(line(x_scale.at(x0), y_scale.above(y1), x_scale.at(x1), y_scale.above(y1), "front"))
    for point in points:
        x, y = x_scale.at(point.x), y_scale.above(point.y)
        if point.x_interval is not None:
            low, high = (x_scale.at(end) for end in point.x_interval)
            parts.append(line(low, y, high, y, _classes("whisker run", point.style)))
        if point.y_interval is not None:
            low, high = (y_scale.above(end) for end in point.y_interval)
            parts.append(line(x, low, x, high, _classes("whisker run", point.style)))
        title = point.text or point.name
        parts.append(marker(x, y, point.style.shape, _classes("mark run", point.style), title))
    return element("svg", *parts, class_="area", height=f"{height}", role="img", aria_label=text)


def reliability_chart(bins: Series, sizes: Sequence[float], *, text: str, height: int = 200) -> Markup:
    """Draw a reliability diagram: accuracy over confidence, the diagonal, and the share of pixels of each bin.

    Args:
        bins: Confidence and accuracy of each bin that holds pixels.
        sizes: Share of pixels of each bin, 0 to 1, drawn as bars from the bottom.
        text: Description for screen readers.
        height: In pixels.
    """
    scale = Scale(0.0, 1.0)
    bars = [
        element("rect", x=scale.at(x - 0.015), y=scale.above(size), width="3%", height=percent(size), class_="bar")
        for (x, _), size in zip(bins.points, sizes, strict=True)
    ]
    diagonal = line("0%", "100%", "100%", "0%", "front")
    parts = [*bars, *_frame(scale, scale, gettext("confidence")), diagonal, *_curves([bins], scale, scale)]
    return element("svg", *parts, class_="area", height=f"{height}", role="img", aria_label=text)


def _curves(series: Sequence[Series], x_scale: Scale, y_scale: Scale) -> list[Markup]:
    """Draw lines, stretched to the area while their strokes keep their width, and markers on them."""
    curves = [
        element(
            "polyline",
            points=" ".join(
                f"{1000 * x_scale.share(x):.1f},{1000 * (1 - y_scale.share(y)):.1f}" for x, y in one.points
            ),
            class_=_classes("curve thin", one.style),
            stroke_dasharray=one.style.dash_array,
            vector_effect="non-scaling-stroke",
        )
        for one in series
    ]
    canvas = element("svg", *curves, viewBox="0 0 1000 1000", preserveAspectRatio="none", width="100%", height="100%")
    markers = [
        marker(
            x_scale.at(x),
            y_scale.above(y),
            one.style.shape,
            _classes("mark", one.style),
            f"{one.name}: {decimal(f'{y:.3g}')}",
        )
        for one in series
        for x, y in _few(one.points)
    ]
    whiskers = [
        line(x_scale.at(x), y_scale.above(low), x_scale.at(x), y_scale.above(high), _classes("whisker run", one.style))
        for one in series
        for (x, _), (low, high) in _with_intervals(one)
    ]
    return [canvas, *whiskers, *markers]


def _with_intervals(series: Series) -> Iterator[tuple[Point, Interval]]:
    """Yield the points that have an interval, with it."""
    for point, interval in zip(series.points, series.intervals, strict=False):
        if interval is not None:
            yield point, interval


def _frame(x_scale: Scale, y_scale: Scale, x_title: str) -> list[Markup]:
    """Draw grid lines, tick labels and the title of the horizontal axis."""
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
    """Return at most ``n`` of the points, evenly spaced, with the last one."""
    if len(points) <= n:
        return list(points)
    return [points[round((k + 1) * (len(points) - 1) / n)] for k in range(n)]
