"""Draws: a pure function of (seed, step, slot, try)."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from levelground.config import Recipe
from levelground.errors import ConfigError
from levelground.training.batches import MAX_TRIES, Sampler, generator, make_sampler, process_slots, steps_per_epoch

RECIPE = dataclasses.replace(Recipe(), tile=32, batch=3)
SIZES = [(50, 70), (64, 64), (40, 90), (33, 31)]


def test_a_generator_is_its_own_for_each_seed_step_slot_and_try() -> None:
    """No two of them draw the same numbers, and each draws the same again."""
    keys = [(s, t, n, a) for s in (0, 1, 2**63) for t in (0, 1, 10**9) for n in (0, 1, 2**32, 2**33) for a in (0, 1)]
    drawn = {key: tuple(generator(*key).random(3)) for key in keys}
    assert len(set(drawn.values())) == len(keys)
    assert drawn == {key: tuple(generator(*key).random(3)) for key in reversed(keys)}


def test_streams_do_not_overlap() -> None:
    """One crop's numbers, however many it draws, are not the next crop's: slots count in another word."""
    long = generator(0, 0, 0).random(10_000)
    for key in ((0, 0, 1), (0, 0, 0, 1), (0, 1, 0), (1, 0, 0)):
        assert not np.isin(generator(*key).random(100), long).any()


def test_each_scene_comes_once_a_round() -> None:
    """Scenes take turns; every round has its own order."""
    sampler = make_sampler(RECIPE, 7, SIZES, 3)
    places = [sampler.scene_at(*divmod(place, 3)) for place in range(40)]
    rounds = [tuple(places[start : start + 4]) for start in range(0, 40, 4)]
    assert all(sorted(one) == [0, 1, 2, 3] for one in rounds)
    assert len(set(rounds)) > 3


def test_the_batch_size_changes_no_round() -> None:
    """The nth crop of a run is of the same scene at any batch size."""
    orders = [
        [make_sampler(dataclasses.replace(RECIPE, batch=n), 7, SIZES, 3).scene_at(*divmod(i, n)) for i in range(24)]
        for n in (1, 2, 6)
    ]
    assert orders[0] == orders[1] == orders[2]


def test_all_eight_symmetries_are_drawn() -> None:
    """About equally often."""
    sampler = make_sampler(RECIPE, 0, SIZES, 3)
    found = np.bincount([sampler.draw(step, 0).symmetry for step in range(1600)], minlength=8)
    assert len(found) == 8
    assert found.min() > 130


def test_scales_cover_their_range() -> None:
    """Log-uniform: as many crops below the tile's side as the range has below it; none beyond."""
    sampler = make_sampler(dataclasses.replace(RECIPE, scale_min=0.5, scale_max=2.0), 0, [(500, 500)], 3)
    sides = np.array([sampler.draw(step, 0).side for step in range(2000)])
    assert (sides.min(), sides.max()) == (16, 64)
    assert np.mean(sides < 32) == pytest.approx(0.5, abs=0.04)


def test_windows_lie_inside_and_reach_every_edge() -> None:
    """Every place a window can have is drawn."""
    sampler = make_sampler(dataclasses.replace(RECIPE, scale_min=1.0, scale_max=1.0), 0, [(34, 33)], 3)
    draws = [sampler.draw(step, 0) for step in range(200)]
    assert {(draw.row, draw.col) for draw in draws} == {(row, col) for row in range(3) for col in range(2)}


def test_colours_off_change_nothing() -> None:
    """Strength 0: gains of one and no shift."""
    sampler = make_sampler(dataclasses.replace(RECIPE, colour=0.0, d4=False), 0, SIZES, 3)
    for step in range(20):
        draw = sampler.draw(step, 0)
        assert draw.gains == (1.0, 1.0, 1.0)
        assert draw.shifts == (0.0, 0.0, 0.0)
        assert draw.symmetry == 0


def test_colours_stay_within_their_strength() -> None:
    """Contrast within exp(±s), band gains within exp(±s/2), brightness within s, band shifts within s/2."""
    sampler = make_sampler(RECIPE, 0, SIZES, 12)
    draws = [sampler.draw(step, slot) for step in range(200) for slot in range(3)]
    gains, shifts = np.array([draw.gains for draw in draws]), np.array([draw.shifts for draw in draws])
    assert gains.shape == shifts.shape == (600, 12)
    assert np.exp(-0.3) <= gains.min() < 0.85
    assert 1.15 < gains.max() <= np.exp(0.3)
    assert -0.3 <= shifts.min() < -0.2
    assert 0.2 < shifts.max() <= 0.3


def test_later_tries_look_at_other_scenes() -> None:
    """The first tries keep the scene's turn, the last may leave it."""
    sampler = make_sampler(RECIPE, 0, SIZES, 3)
    turn = sampler.scene_at(4, 1)
    assert {sampler.draw(4, 1, attempt).scene for attempt in range(MAX_TRIES // 2 + 1)} == {turn}
    assert len({sampler.draw(4, 1, attempt).scene for attempt in range(200)}) == len(SIZES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_sampler(dataclasses.replace(RECIPE, tile=0), 0, SIZES, 3),
            r"^--tile 0 --batch 3: whole scenes that",
        ),
        (
            lambda: make_sampler(dataclasses.replace(RECIPE, tile=0), 0, [(40, 50)] * 4, 3),
            r"differ in size, or are turned and not square, do not stack\. Give --batch 1\.$",
        ),
    ],
)
def test_whole_scenes_that_do_not_stack_are_refused(make: Callable[[], Sampler], message: str) -> None:
    """Before any of them is read."""
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("tile", "batch", "sizes", "expected"),
    [
        (512, 8, [(2448, 2448)] * 577, 1649),  # 577 · 2448² / (512² · 8) = 1648.8
        (0, 1, [(2448, 2448)] * 577, 577),
        (0, 2, [(10, 10)] * 3, 2),
        (512, 8, [(10, 10)], 1),
    ],
)
def test_steps_of_an_epoch(tile: int, batch: int, sizes: list[tuple[int, int]], expected: int) -> None:
    """As many pixels as the training scenes hold, rounded up."""
    assert steps_per_epoch(dataclasses.replace(Recipe(), tile=tile, batch=batch), sizes) == expected


def test_a_batch_that_cannot_be_divided() -> None:
    """The next batch that can is named."""
    with pytest.raises(ConfigError, match=r"^--batch 5: cannot be divided equally among 4 processes\. Give --batch 8"):
        process_slots(5, 0, 4)
