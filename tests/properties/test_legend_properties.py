"""Colours and indices go round without loss, and no input makes the readers fall over."""

import contextlib
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from levelground.errors import LabelColourError, LegendError
from levelground.imagery.legend import (
    DEEPGLOBE,
    IGNORE,
    Legend,
    LegendClass,
    decode_colours,
    encode_colours,
)
from levelground.imagery.legend_sources import read_legend

COLOURS = st.tuples(*[st.integers(0, 255)] * 3)


@st.composite
def legends(draw: st.DrawFn) -> Legend:
    """Legends under the exact rule, with one ignored colour."""
    colours = draw(st.lists(COLOURS, min_size=2, max_size=12, unique=True))
    classes = tuple(LegendClass(i, f"c{i}", colour) for i, colour in enumerate(colours[1:]))
    return Legend("drawn", classes, "exact", (colours[0],))


@given(legends(), st.data())
@settings(max_examples=40, deadline=None)
def test_indices_to_colours_and_back_changes_nothing(legend: Legend, data: st.DataObject) -> None:
    """``decode(encode(labels)) == labels``, no data included."""
    values = st.sampled_from([*range(legend.n_classes), IGNORE])
    labels = data.draw(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=values))
    assert np.array_equal(decode_colours(encode_colours(labels, legend), legend, source="m"), labels)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))), st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_any_picture_is_decoded_as_pixel_by_pixel_or_refused(rgb: NDArray[np.uint8], snap: int) -> None:
    """The whole-array decode equals the rule applied to one pixel at a time."""
    by_code = {tuple(part >= 128 for part in entry.colour): entry.index for entry in DEEPGLOBE.classes}
    expected = np.array([[by_code.get(tuple(bool(part >= 128) for part in pixel), -1) for pixel in row] for row in rgb])
    red = rgb[expected == -1].astype(int)
    gaps = [int(np.abs(pixel - DEEPGLOBE.colours.astype(int)).max(axis=1).min()) for pixel in red]
    try:
        labels = decode_colours(rgb, DEEPGLOBE, snap=snap, source="m")
    except LabelColourError as error:
        assert max(gaps) > snap
        assert "\n" not in str(error)
    else:
        assert max(gaps, default=0) <= snap
        assert np.array_equal(labels[expected >= 0], expected[expected >= 0])


@given(legends())
@settings(max_examples=50, deadline=None)
def test_a_legend_survives_json(legend: Legend) -> None:
    """Equal after the round trip, digest too."""
    again = Legend.from_json(legend.to_json())
    assert again == legend
    assert again.digest() == legend.digest()


@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_as_a_legend_file_end_in_one_line(tmp_path: Path, content: bytes) -> None:
    """A legend or a LegendError, never another error."""
    path = tmp_path / "legend.toml"
    path.write_bytes(content)
    try:
        read_legend(path)
    except LegendError as error:
        assert str(error).startswith(str(path))


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["index", "name", "colour", "counted", "name_ru", "x"]), inner, max_size=5),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["name", "rule", "ignored", "class", "y"]), VALUES, max_size=5))
@settings(max_examples=200, deadline=None)
def test_any_object_as_a_legend_ends_in_a_legend_error(content: dict[str, object]) -> None:
    """Types are checked before they are used."""
    with contextlib.suppress(LegendError):
        Legend.from_json(content)
