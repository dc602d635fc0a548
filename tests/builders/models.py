"""Models for tests that need no weights: any function of tensors with a specification around it."""

import dataclasses

from levelground.models.model import Forward, Model
from levelground.models.spec import numbered_spec


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
