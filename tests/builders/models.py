"""Models for tests: any function of tensors with a specification around it, and small networks without weights."""

import dataclasses

from levelground.config import Recipe
from levelground.models.build import build_model
from levelground.models.model import Forward, Model
from levelground.models.spec import numbered_spec

SMALL = dataclasses.replace(Recipe(), encoder="resnet18", encoder_weights="none")


def toy_model(
    forward: Forward,
    *,
    bands: int = 2,
    n_outputs: int = 3,
    mean: float = 0.0,
    std: float = 1.0,
    activated: bool = False,
) -> Model:
    """A model of numbered classes; every band has the same mean and deviation."""
    spec = numbered_spec("toy", "none", n_outputs=n_outputs, mean=[mean] * bands, std=[std] * bands)
    return Model(spec, forward, activated)


def with_spec(model: Model, **changes: object) -> Model:
    """The same model with other fields in its specification."""
    return dataclasses.replace(model, spec=dataclasses.replace(model.spec, **changes))  # type: ignore[arg-type]


def small_network(
    arch: str = "unet", recipe: Recipe = SMALL, *, bands: int = 3, seed: int = 0, dtype: str = "uint8"
) -> Model:
    """A small network for ``bands`` bands and six classes."""
    means, deviations = [100.0 + band for band in range(bands)], [40.0 + band for band in range(bands)]
    spec = numbered_spec(arch, recipe.encoder, n_outputs=6, mean=means, std=deviations)
    return build_model(dataclasses.replace(spec, dtype=dtype), recipe, seed=seed)
