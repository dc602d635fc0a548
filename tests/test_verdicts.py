"""The four words."""

import pytest

from levelground.statistics.pairs import Verdict, decide


@pytest.mark.parametrize(
    ("interval", "p_holm", "word", "excludes_zero"),
    [
        ((-0.004, 0.006), 0.7, "equal", False),
        ((0.001, 0.009), 0.001, "equal", True),
        ((0.001, 0.011), 0.001, "better", True),
        ((-0.3, -0.2), 0.05, "worse", True),
        ((-0.3, -0.2), 0.0501, "undecided", True),
        ((-0.3, 0.2), 0.001, "undecided", False),
        ((0.2, 0.3), None, "undecided", True),
        ((-0.01, 0.005), 0.5, "undecided", False),
        (None, 0.001, "undecided", False),
        (None, None, "undecided", False),
    ],
)
def test_the_first_that_holds_is_said(
    interval: tuple[float, float] | None, p_holm: float | None, word: str, excludes_zero: bool
) -> None:
    """Equal before better or worse before undecided; better and worse need both interval and p."""
    assert decide(interval, p_holm, delta=0.01) == Verdict(word, excludes_zero)  # type: ignore[arg-type]


def test_without_a_margin_nothing_is_equal() -> None:
    """δ = 0 leaves no room inside ±δ."""
    assert decide((0.0, 0.0), 1.0, delta=0.0).word == "undecided"


def test_few_groups_show_neither_a_difference_nor_its_absence() -> None:
    """Five groups are too few for the swap test, so they are too few for `equal`."""
    assert decide((-0.001, 0.001), 0.7, delta=0.01, n_groups=5).word == "undecided"
    assert decide((-0.001, 0.001), 0.7, delta=0.01, n_groups=6).word == "equal"
