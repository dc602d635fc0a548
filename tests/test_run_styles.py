"""Styles of runs: colours differ, stand out from the page, and belong to an architecture."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levelground.reporting.run_styles import assign_styles


@given(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=40))
def test_no_two_runs_look_alike(archs: list[str]) -> None:
    """Up to forty runs of any architectures: every colour is used once on each background."""
    styles = assign_styles(archs)
    assert len({(style.light, style.dark) for style in styles}) == len(archs)
    assert [style.css_class for style in styles] == [f"r{number}" for number in range(len(archs))]


def test_twenty_runs_of_one_architecture_have_twenty_colours() -> None:
    """Twenty seeds: colours, and pairs of marker and dash, all differ."""
    styles = assign_styles(["unet"] * 20)
    assert len({style.light for style in styles}) == len({style.dark for style in styles}) == 20
    assert len({(style.marker, style.dash) for style in styles}) == 20


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_colours_stand_out_from_the_page(seeds: int) -> None:
    """Every colour has a contrast of at least 3 : 1 to its background (WCAG 2.2, 1.4.11)."""
    for style in assign_styles([arch for arch in "abcdefg" for _ in range(seeds)]):
        assert 1.05 / (_luminance(style.light) + 0.05) >= 3
        assert (_luminance(style.dark) + 0.05) / (_luminance("#15181b") + 0.05) >= 3
