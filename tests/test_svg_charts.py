"""Charts: marks stand where the numbers say, texts are escaped, looks are unlike."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from levelground.reporting import svg_charts as charts
from levelground.reporting import svg_charts as plots
from levelground.reporting.run_styles import assign_marks
from levelground.reporting.svg_charts import Scale, Series, Spot, scale_over, tick_text

MARK, OTHER = assign_marks(["unet", "fpn"])
FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def _parsed(svg: Markup) -> ElementTree.Element:
    """The chart as XML: it must be well formed."""
    return ElementTree.fromstring(str(svg))


def test_interval_strip_puts_marks_at_their_share() -> None:
    """Value, interval, zero and band stand where the scale says."""
    strip = charts.interval_strip(
        Scale(-0.1, 0.3), 0.1, (0.0, 0.2), mark=MARK, number=3, ticks=[0.0, 0.2], text="a < b", zone=(-0.01, 0.01)
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
    root = _parsed(charts.interval_strip(Scale(0, 1), None, None, mark=MARK, number=None, ticks=[0.5], text=""))
    assert [part.get("class") for part in root] == ["grid"]


def test_lanes_keep_runs_apart() -> None:
    """Runs of one value stand below each other, each with its name for the pointer."""
    spots = [Spot(n, f"run {n}", MARK, 0.5, 0.0) for n in range(4)]
    root = _parsed(charts.lane_strip(Scale(0, 1), spots, [0.5], text="class"))
    assert [part.get("y") for part in root.findall("svg")] == ["12.5%", "37.5%", "62.5%", "87.5%"]
    assert [title.text for title in root.iter("title")] == ["run 0", "run 1", "run 2", "run 3"]


def test_line_chart_spans_its_points() -> None:
    """The first point lies at the left edge, the last at the right, higher values higher."""
    line = Series(0, "unet", MARK, ((10.0, 0.2), (20.0, 0.4), (30.0, 0.6)))
    root = _parsed(plots.line_chart([line], text="loss", x_title="step"))
    points = [tuple(map(float, point.split(","))) for point in root.find(".//polyline").get("points").split()]  # type: ignore[union-attr]
    assert [x for x, _ in points] == [0, 500, 1000]
    assert points[0][1] > points[1][1] > points[2][1]


def test_one_point_is_still_a_chart() -> None:
    """A history with a single validation does not divide by zero."""
    root = _parsed(plots.line_chart([Series(0, "a", MARK, ((5.0, 0.3),))], text="", x_title="epoch"))
    assert root.find(".//polyline") is not None


def test_scatter_draws_both_intervals_and_the_front() -> None:
    """Intervals across and upwards, and steps between the points of the front."""
    spots = [
        Spot(0, "a", MARK, 2.0, 0.5, x_interval=(1.5, 2.5), y_interval=(0.4, 0.6)),
        Spot(1, "b", OTHER, 4.0, 0.3),
    ]
    root = _parsed(plots.scatter_chart(spots, text="", x_title="speed", front=[(2.0, 0.5), (4.0, 0.3)]))
    classes = [part.get("class") for part in root]
    assert classes.count("whisker run r0") == 2
    assert classes.count("front") == 2


def test_reliability_draws_bins_and_their_sizes() -> None:
    """Each bin has a bar as high as its share of pixels."""
    line = Series(0, "a", MARK, ((0.25, 0.2), (0.75, 0.8)))
    root = _parsed(plots.reliability_chart(line, [0.25, 0.75], text=""))
    assert [part.get("height") for part in root if part.get("class") == "bar"] == ["25%", "75%"]


@pytest.mark.parametrize("hostile", ['"><script>x</script>', "a&b", "\u2028", "'"])
def test_texts_are_escaped(hostile: str) -> None:
    """Names in titles and labels cannot leave their place."""
    chart = plots.scatter_chart([Spot(0, hostile, MARK, 1.0, 0.5)], text=hostile, x_title=hostile)
    root = _parsed(chart)
    assert root.get("aria-label") == hostile
    assert [title.text for title in root.iter("title")] == [hostile]


@given(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=40))
def test_no_two_runs_look_alike(archs: list[str]) -> None:
    """Up to forty runs of any architectures: every colour is used once on each ground."""
    marks = assign_marks(archs)
    assert len(set(marks)) == len(archs)


def test_twenty_runs_of_one_architecture_have_twenty_colours() -> None:
    """Twenty seeds: colours, and pairs of marker and dash, all differ."""
    marks = assign_marks(["unet"] * 20)
    assert len({mark.light for mark in marks}) == len({mark.dark for mark in marks}) == 20
    assert len({(mark.marker, mark.dash) for mark in marks}) == 20


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_colours_stand_out_from_the_page(seeds: int) -> None:
    """Every mark has a contrast of at least 3 : 1 to its ground (WCAG 2.2, 1.4.11)."""
    for mark in assign_marks([arch for arch in "abcdefg" for _ in range(seeds)]):
        assert 1.05 / (_luminance(mark.light) + 0.05) >= 3
        assert (_luminance(mark.dark) + 0.05) / (_luminance("#15181b") + 0.05) >= 3


@given(FINITE, FINITE.filter(lambda value: value != 0), st.integers(1, 9))
def test_ticks_lie_inside_and_are_round(low: float, span: float, n: int) -> None:
    """Ticks lie inside the scale, and there are never many."""
    scale = scale_over([low, low + abs(span)])
    ticks = scale.ticks(n)
    assert all(scale.low - 1e-6 <= tick <= scale.high + 1e-6 for tick in ticks)
    assert len(ticks) <= n + 1


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
