"""Optimiser, schedule and class weights."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from levelground.config import Recipe
from levelground.models.build import build_model
from levelground.models.model import Model
from levelground.models.spec import numbered_spec
from levelground.recipe_files import load_recipe
from levelground.training.schedule import rate_factor
from levelground.training.step import class_weights, make_optimiser, set_rate


def model_of(recipe: Recipe) -> Model:
    """A U-Net of a recipe."""
    return build_model(numbered_spec("unet", recipe.encoder, n_outputs=3), recipe, seed=0)


def test_groups_of_the_default_recipe() -> None:
    """The pretrained encoder learns slower, kernels decay, biases and normalisation do not; nothing is twice in it."""
    recipe = Recipe()
    model = model_of(recipe)
    optimiser = make_optimiser(model, recipe)
    assert isinstance(optimiser, torch.optim.AdamW)
    place = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    named = dict(model.network.named_parameters())
    assert len(place) == len(named) == sum(len(group["params"]) for group in optimiser.param_groups)
    for name, parameter in named.items():
        group = place[id(parameter)]
        assert group["lr"] == group["initial_lr"] == pytest.approx(4e-4 if name.startswith("encoder.") else 2e-3)
        assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0)


def test_an_encoder_without_weights_learns_as_fast_as_the_decoder() -> None:
    """It has everything to learn."""
    recipe = dataclasses.replace(Recipe(), encoder="resnet18", encoder_weights="none")
    rates = {group["lr"] for group in make_optimiser(model_of(recipe), recipe).param_groups}
    assert rates == {2e-3}


def test_the_origin_optimiser() -> None:
    """Adam at 2e-4 over what is not frozen, without decay."""
    recipe = dataclasses.replace(load_recipe("origin"), encoder_weights="none")
    model = model_of(recipe)
    optimiser = make_optimiser(model, recipe)
    assert type(optimiser) is torch.optim.Adam
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"]) == (2e-4, 0.0)
    assert len(group["params"]) == sum(p.requires_grad for p in model.network.parameters())


def test_the_default_schedule_by_hand() -> None:
    """100 steps: five of warm-up, then half a cosine."""
    factors = [rate_factor(Recipe(), step, 100) for step in range(100)]
    assert factors[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.5 * (1 + math.cos(math.pi * 0.5 / 95))])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert 0 < factors[-1] < 1e-3


def test_the_origin_schedule_is_constant() -> None:
    """No warm-up, no decay."""
    assert {rate_factor(load_recipe("origin"), step, 50) for step in range(50)} == {1.0}


@given(st.integers(1, 5000), st.floats(0, 0.99), st.sampled_from(["cosine", "constant"]))
def test_rates_are_positive_and_reach_the_top(steps: int, warmup: float, schedule: str) -> None:
    """For any number of steps: in (0, 1], the highest at least .5, one step included."""
    recipe = dataclasses.replace(Recipe(), warmup=warmup, schedule=schedule)  # type: ignore[arg-type]
    factors = [rate_factor(recipe, step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) >= 0.5


def test_set_rate_scales_every_group() -> None:
    """From its first rate, so that rates do not drift."""
    recipe = Recipe()
    optimiser = make_optimiser(model_of(recipe), recipe)
    for factor in (0.1, 0.5):
        set_rate(optimiser, factor)
        assert all(group["lr"] == factor * group["initial_lr"] for group in optimiser.param_groups)


def test_no_class_weights_by_default() -> None:
    """Plain cross-entropy."""
    assert class_weights(Recipe(), [1, 2, 3], [0, 1, 2]) is None


@pytest.mark.parametrize(
    ("kind", "pixels", "outputs", "expected"),
    [
        ("inverse", [10, 30, 999], [0, 1], [2.0, 2 / 3]),  # shares ¼ and ¾: 4 and 4/3, halved
        ("sqrt", [10, 30, 999], [0, 1], [4 / (1 + math.sqrt(3)), 4 / (3 + math.sqrt(3))]),
        ("inverse", [5, 0, 5], [0, 1, 2], [1.0, 0.0, 1.0]),
        ("inverse", [1, 2, 3], [2], [1.0]),
    ],
)
def test_class_weights_by_hand(kind: str, pixels: list[int], outputs: list[int], expected: list[float]) -> None:
    """Shares among the outputs' classes; a class without pixels weighs nothing."""
    recipe = dataclasses.replace(Recipe(), class_weights=kind)  # type: ignore[arg-type]
    weights = class_weights(recipe, pixels, outputs)
    assert weights is not None
    torch.testing.assert_close(weights, torch.tensor(expected))


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=8).filter(any), st.sampled_from(["sqrt", "inverse"]))
def test_class_weights_average_to_one_over_pixels(pixels: list[int], kind: str) -> None:
    """So that the loss keeps its size."""
    recipe = dataclasses.replace(Recipe(), class_weights=kind)  # type: ignore[arg-type]
    weights = class_weights(recipe, pixels, range(len(pixels)))
    assert weights is not None
    shares = torch.tensor(pixels, dtype=torch.float64) / sum(pixels)
    assert float((weights * shares).sum()) == pytest.approx(1.0, rel=1e-5)
