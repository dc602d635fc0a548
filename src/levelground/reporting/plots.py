"""Charts over two axes: learning curves, score against speed, reliability. Numbers in, SVG out.

They are as wide as their place and draw a run as :mod:`levelground.reporting.charts` does.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from levelground.reporting.charts import Point, Spot, line
from levelground.reporting.marks import Mark
from levelground.reporting.svg import Scale, element, marker, percent, scale_over, tick_text


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
