"""Weights of another tool -> a network with its normalisation and the meaning of its outputs."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, WeightsError
from levelground.networks.guessing import first_difference
from levelground.networks.hub import IMAGENET_MEAN, IMAGENET_STD, State
from levelground.networks.models import SegmentationModel, build_model
from levelground.recipe import load_recipe

Normalisation = Literal["none", "imagenet", "data"]
"""How inputs were normalised in training: values 0 to 1, ImageNet's means, or the training scenes' means."""


def fitted_model(
    state: State,
    dataset: Dataset,
    arch: str,
    encoder: str,
    outputs: Sequence[int],
    normalise: Normalisation,
    *,
    source: str,
) -> SegmentationModel:
    """Build the network that weights belong to and load them.

    Raises:
        WeightsError: The first tensor that differs is named.
        ModelError: There is no such network.
        ConfigError: ``imagenet`` for other than three bands of 8 bits.
    """
    recipe = dataclasses.replace(load_recipe(), encoder=encoder, encoder_weights="none", normalise="none")
    model = build_model(
        arch,
        recipe,
        outputs=outputs,
        data_mean=dataset.mean,
        data_std=dataset.std,
        dtype=dataset.dtype,
        seed=0,
    )
    expected = model.network.state_dict()
    difference = first_difference(state, expected)
    if difference is not None:
        raise WeightsError(
            f"{source}: does not fit {model.arch} with encoder {encoder} for {dataset.bands} bands and {len(outputs)} "
            f"outputs: {difference}. Pass the --arch and --encoder that it was trained with."
        )
    model.network.load_state_dict(expected | state)
    if normalise == "data":
        return dataclasses.replace(model, mean=dataset.mean, std=dataset.std)
    if normalise == "imagenet":
        if dataset.bands != 3 or dataset.dtype != "uint8":
            raise ConfigError(
                f"--normalise imagenet: its means are for 3 bands of uint8, the scenes have {dataset.bands} of "
                f"{dataset.dtype}. Pass --normalise data or none."
            )
        mean, std = (tuple(255 * value for value in values) for values in (IMAGENET_MEAN, IMAGENET_STD))
        return dataclasses.replace(model, mean=mean, std=std)
    return model


def output_indices(dataset: Dataset, n: int, outputs: Sequence[int], *, source: str) -> tuple[int, ...]:
    """The legend index of each of ``n`` outputs.

    Raises:
        ConfigError: Their number fits neither all classes nor the counted ones and nobody said which they are, or what
            was said is no list of ``n`` different classes.
    """
    k, counted = dataset.legend.n_classes, np.flatnonzero(dataset.legend.counted).tolist()
    if outputs:
        if len(outputs) != n or len(set(outputs)) != n or not all(0 <= index < k for index in outputs):
            given = " ".join(map(str, outputs))
            raise ConfigError(
                f"--outputs {given}: expected {n} different class indices from 0 to {k - 1}, one an output."
            )
        return tuple(outputs)
    if n == k:
        return tuple(range(k))
    if n == len(counted):
        return tuple(counted)
    raise ConfigError(
        f"{source}: has {n} outputs, the legend {dataset.legend.name!r} has {k} classes, "
        f"{len(counted)} of them counted. Say which class each output is: --outputs 0 1 …"
    )
