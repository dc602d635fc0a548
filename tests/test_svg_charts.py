"""SVG charts: markers are where the numbers say, scales have margins, texts are escaped."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from levelground.reporting.svg_charts import (
    DataPoint,
    Scale,
    Series,
    Style,
    interval_strip,
    key_symbol,
    lane_strip,
    line_chart,
    reliability_chart,
    scale_over,
    scatter_chart,
    tick_text,
)

STYLE, OTHER = Style("r0"), Style("r1", "M-3.6-3.6h7.2v7.2h-7.2z", (6, 3))
FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def _parsed(svg: Markup) -> ElementTree.Element:
    """The chart as XML: it must be well formed."""
    return ElementTree.fromstring(str(svg))


def _share(text: str | None) -> float:
    """A position in per cent as a number."""
    return float((text or "").rstrip("%"))


def test_interval_strip_puts_marks_at_their_share() -> None:
    """Value, interval, zero and band stand where the scale says."""
    strip = interval_strip(
        Scale(-0.1, 0.3), 0.1, (0.0, 0.2), ticks=[0.0, 0.2], text="a < b", style=Style("r3"), zone=(-0.01, 0.01)
    )
    root = _parsed(strip)
    whisker = next(part for part in root if part.get("class") == "whisker run r3")
    assert (whisker.get("x1"), whisker.get("x2")) == ("25%", "75%")
    assert root.find("svg").get("x") == "50%"  # type: ignore[union-attr]
    assert [part.get("x1") for part in root if part.get("class") == "zero"] == ["25%"]
    zone = next(part for part in root if part.get("class") == "zone")
    assert (zone.get("x"), zone.get("width")) == ("22.5%", "5%")
    assert root.get("aria-label") == "a < b"


def test_strip_without_value_or_interval_is_a_grid() -> None:
    """What is not known is not drawn."""
    root = _parsed(interval_strip(Scale(0, 1), None, None, ticks=[0.5], text=""))
    assert [part.get("class") for part in root] == ["grid"]


def test_lanes_keep_runs_apart() -> None:
    """Runs of one value stand below each other, each with its name for the pointer."""
    points = [DataPoint(f"run {n}", STYLE, 0.5, 0.0) for n in range(4)]
    root = _parsed(lane_strip(Scale(0, 1), points, [0.5], text="class"))
    assert [part.get("y") for part in root.findall("svg")] == ["12.5%", "37.5%", "62.5%", "87.5%"]
    assert root.get("height") == "56"
    assert [title.text for title in root.iter("title")] == ["run 0", "run 1", "run 2", "run 3"]


def test_line_chart_spans_its_points() -> None:
    """The first point lies at the left edge, the last at the right, higher values higher."""
    line = Series("unet", STYLE, ((10.0, 0.2), (20.0, 0.4), (30.0, 0.6)))
    root = _parsed(line_chart([line], text="loss", x_title="step"))
    points = [tuple(map(float, point.split(","))) for point in root.find(".//polyline").get("points").split()]  # type: ignore[union-attr]
    assert [x for x, _ in points] == [0, 500, 1000]
    assert points[0][1] > points[1][1] > points[2][1]


def test_lines_have_the_dash_of_the_run_and_at_most_twelve_markers() -> None:
    """A long line is drawn whole and marked at twelve points, the last among them."""
    line = Series("fpn", OTHER, tuple((float(x), x / 100) for x in range(100)))
    root = _parsed(line_chart([line], text="loss", x_title="step"))
    drawn = root.find(".//polyline")
    assert drawn is not None
    assert (drawn.get("stroke-dasharray"), len(drawn.get("points", "").split())) == ("6 3", 100)
    marked = [part.get("x") for part in root.findall("svg") if part.find("path") is not None]
    assert (len(marked), marked[-1]) == (12, "100%")


def test_lines_have_a_whisker_where_a_point_has_an_interval() -> None:
    """Between both ends, which the scale holds; a point without an interval has none."""
    series = Series("unet", Style("run-0"), ((0.25, 0.4), (1.0, 0.6)), ((0.1, 0.9), None))
    drawn = line_chart([series], text="x", x_title="share")
    assert drawn.count("whisker") == 1
    assert "whisker" not in line_chart([replace(series, intervals=())], text="x", x_title="share")


def test_one_point_is_still_a_chart() -> None:
    """A history with a single validation does not divide by zero."""
    root = _parsed(line_chart([Series("a", STYLE, ((5.0, 0.3),))], text="", x_title="epoch"))
    assert root.find(".//polyline") is not None


def test_scatter_draws_both_intervals_and_the_front() -> None:
    """Intervals across and upwards, and steps between the points of the front."""
    points = [
        DataPoint("a", STYLE, 2.0, 0.5, x_interval=(1.5, 2.5), y_interval=(0.4, 0.6)),
        DataPoint("b", OTHER, 4.0, 0.3),
    ]
    root = _parsed(scatter_chart(points, text="", x_title="speed", front=[(2.0, 0.5), (4.0, 0.3)]))
    classes = [part.get("class") for part in root]
    assert classes.count("whisker run r0") == 2
    steps = [[part.get(key) for key in ("x1", "y1", "x2", "y2")] for part in root if part.get("class") == "front"]
    (across, top, same, low), (start, level, end, also) = steps
    assert (across, low) == (same, level) == (start, also)
    assert _share(end) > _share(across)
    assert _share(low) > _share(top)


def test_reliability_draws_bins_and_their_sizes() -> None:
    """Each bin has a bar as high as its share of pixels."""
    line = Series("a", STYLE, ((0.25, 0.2), (0.75, 0.8)))
    root = _parsed(reliability_chart(line, [0.25, 0.75], text=""))
    assert [part.get("height") for part in root if part.get("class") == "bar"] == ["25%", "75%"]


@pytest.mark.parametrize("hostile", ['"><script>x</script>', "a&b", "\u2028", "'"])
def test_texts_are_escaped(hostile: str) -> None:
    """Names in titles and labels cannot leave their place."""
    chart = scatter_chart([DataPoint(hostile, STYLE, 1.0, 0.5)], text=hostile, x_title=hostile)
    root = _parsed(chart)
    assert root.get("aria-label") == hostile
    assert [title.text for title in root.iter("title")] == [hostile]


@given(FINITE, FINITE.filter(lambda value: value != 0), st.integers(1, 9))
def test_ticks_lie_inside_and_are_round(low: float, span: float, n: int) -> None:
    """Ticks lie inside the scale, and there are never many."""
    scale = scale_over([low, low + abs(span)])
    ticks = scale.ticks(n)
    assert all(scale.low - 1e-6 <= tick <= scale.high + 1e-6 for tick in ticks)
    assert len(ticks) <= n + 1


def test_scales_have_a_margin_of_six_per_cent_of_the_range() -> None:
    """Both ends get the margin; an end at zero that must be held gets none; equal values get the least range."""
    assert (scale_over([1.0, 3.0]).low, scale_over([1.0, 3.0]).high) == pytest.approx((0.88, 3.12))
    assert (scale_over([1.0, 3.0], zero=True).low, scale_over([1.0, 3.0], zero=True).high) == (0.0, pytest.approx(3.18))
    assert (scale_over([-2.0], zero=True).low, scale_over([-2.0], zero=True).high) == (pytest.approx(-2.12), 0.0)
    assert (scale_over([0.5]).low, scale_over([0.5]).high) == pytest.approx((0.49, 0.51))
    assert (scale_over([5.0, 9.0], margin=0).low, scale_over([5.0, 9.0], margin=0).high) == pytest.approx((5.0, 9.0))


def test_scales_cut_values_beyond_the_limits_of_the_quantity() -> None:
    """An interval that ends beyond 0 or 1 does not squeeze the others: the scale ends at the limit and its margin."""
    scale = scale_over([-2.5, 0.4, 3.0], within=(0, 1))
    assert (scale.low, scale.high) == pytest.approx((-0.06, 1.06))
    assert (scale.share(-2.5), scale.share(3.0)) == (0.0, 1.0)


def test_key_symbol_has_a_line_only_where_asked() -> None:
    """A legend of lines shows the dash of the run, a table the marker alone."""
    line = _parsed(key_symbol(OTHER, stroke=True)).find("line")
    assert line is not None
    assert (line.get("class"), line.get("stroke-dasharray")) == ("curve r1", "6 3")
    alone = _parsed(key_symbol(OTHER))
    assert [(part.tag, part.get("d")) for part in alone] == [("path", OTHER.shape)]


@given(st.lists(FINITE, max_size=5))
def test_scales_hold_what_they_are_given(values: list[float]) -> None:
    """Every value lies on the scale, strictly between its ends' shares."""
    scale = scale_over(values)
    assert scale.low < scale.high
    assert all(0 <= scale.share(value) <= 1 for value in values)
    assert all(scale.low <= value <= scale.high for value in values)


def test_tick_texts_differ_and_use_a_true_minus() -> None:
    """Neighbouring ticks never read alike."""
    ticks = Scale(-0.013, 0.021).ticks(5)
    texts = [tick_text(tick, ticks) for tick in ticks]
    assert len(set(texts)) == len(texts)
    assert not any(re.search("-", text) for text in texts)
