import numpy as np
import pytest
from builders.study import LEGEND
from numpy.typing import NDArray

from levelground.adoption.predictions import doubt_class_numbers
from levelground.imagery.legend import DEEPGLOBE, default_legend

RIGHT = np.diag([500, 0, 300, 200]) + np.array([[0, 0, 9, 9], [0, 0, 0, 0], [9, 0, 0, 9], [9, 0, 9, 0]])
"""Counts of good predictions by the legend of the study: its class 1 is not counted."""


def six_classes(seed: int, right: float) -> NDArray[np.int64]:
    """Counts of DeepGlobe's classes, of which this share is right, and the rest at random."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((7, 7), np.int64)
    for row, pixels in enumerate([900, 5000, 800, 1100, 300, 700]):
        counts[row, row] += int(right * pixels)
        counts[row, :6] += rng.multinomial(pixels - int(right * pixels), [1 / 6] * 6)
    return counts


@pytest.mark.parametrize("right", [0.0, 0.1, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_bad_predictions_are_no_other_numbering(seed: int, right: float) -> None:
    """Not even pure noise: a permutation of it gains little."""
    assert doubt_class_numbers(six_classes(seed, right), DEEPGLOBE) is None


@pytest.mark.parametrize("right", [0.5, 0.8, 1.0])
def test_numbers_from_one_are_told_and_the_remedy_takes_the_doubt_away(right: float) -> None:
    """Both scores are in the sentence."""
    counts = six_classes(0, right)
    doubt = doubt_class_numbers(np.roll(counts, 1, axis=1), DEEPGLOBE)
    assert doubt is not None
    assert doubt.startswith("the classes seem to be numbered from 1: mean IoU is 0.")
    assert doubt.endswith("If that is right, pass --class-map 1=0 2=1 3=2 4=3 5=4 6=5 0=6")
    low = doubt_class_numbers(np.roll(counts, -1, axis=1), DEEPGLOBE)
    assert low is not None
    assert low.endswith("pass --class-map 6=0 0=1 1=2 2=3 3=4 4=5 5=6")


@pytest.mark.parametrize("order", [[2, 1, 0, 3, 4, 5, 6], [3, 0, 5, 1, 2, 4, 6], [5, 4, 3, 2, 1, 0, 6]])
def test_another_order_is_told_where_the_score_doubles(order: list[int]) -> None:
    """Each class that moves is named; two rare classes that change places may not double the score."""
    doubt = doubt_class_numbers(six_classes(1, 0.9)[:, order], DEEPGLOBE)
    if order[0] == 2:
        assert doubt is None
        return
    assert doubt is not None
    assert doubt.startswith("the classes seem to be in another order: mean IoU is 0.")
    for place, index in enumerate(order[:6]):
        assert place == index or f"{DEEPGLOBE.names[place]} as {DEEPGLOBE.names[index]}" in doubt


def test_predictions_without_a_counted_class_are_told() -> None:
    """All unknown, or nothing at all."""
    counts = np.zeros((4, 4), np.int64)
    for expected in ("nothing", "Unknown"):
        doubt = doubt_class_numbers(counts, LEGEND)
        assert doubt is not None
        assert doubt.startswith(f"no counted class of 'land' occurs in the predictions, only {expected}: ")
        counts[0, 1] = 50


def test_one_class_alone_is_a_poor_model_and_no_permutation() -> None:
    """A network that has collapsed onto a class of seven."""
    counts = np.zeros((7, 7), np.int64)
    counts[:, 4] = [90, 300, 80, 110, 30, 70, 0]
    assert doubt_class_numbers(counts, default_legend(7)) is None
    assert doubt_class_numbers(RIGHT, LEGEND) is None
