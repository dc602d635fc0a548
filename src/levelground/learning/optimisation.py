"""Optimiser, learning-rate schedule and class weights, as a recipe says."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from levelground.networks.models import SegmentationModel
from levelground.recipe import Recipe


def make_optimiser(model: SegmentationModel, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimiser over the trainable parameters.

    Kernels decay, biases and normalisation layers do not; an encoder with weights learns at ``encoder_lr_factor``.
    """
    factor = 1.0 if model.weights_source == "none" else recipe.encoder_lr_factor
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.network.named_parameters():
        if parameter.requires_grad:
            rate = recipe.lr * (factor if name.startswith("encoder.") else 1.0)
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    options = [
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    # The fused form does one pass over memory; it is the same arithmetic on CPU and CUDA.
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    return kind(options, lr=recipe.lr, fused=True)


def rate_factor(recipe: Recipe, step: int, steps: int) -> float:
    """The factor of the learning rate at a step.

    Args:
        recipe: Gives warm-up and schedule.
        step: From 0.
        steps: All steps of the run.
    Returns:
        A factor in (0, 1]: a linear rise over the warm-up, then constant or half a cosine down to almost 0.
    """
    warm = math.ceil(recipe.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm + 0.5) / max(1, steps - warm)))


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its first."""
    for group in optimiser.param_groups:
        group["lr"] = factor * group["initial_lr"]


def class_weights(recipe: Recipe, class_pixels: Sequence[int], outputs: Sequence[int]) -> torch.Tensor | None:
    """Weights of classes from their shares among the training pixels, with a mean of 1 over pixels.

    Args:
        recipe: ``none``, ``sqrt`` (1 over the root of the share) or ``inverse`` (1 over the share).
        class_pixels: Pixels of each legend class in the training scenes, ``(K,)``.
        outputs: Legend index of each output.
    Returns:
        ``(len(outputs),)`` float32, or ``None`` for ``none``; a class without pixels weighs 0.
    """
    if recipe.class_weights == "none":
        return None
    pixels = np.asarray(class_pixels, np.float64)[list(outputs)]
    shares = pixels / max(1.0, pixels.sum())
    power = 0.5 if recipe.class_weights == "sqrt" else 1.0
    weights = np.divide(1.0, shares**power, out=np.zeros_like(shares), where=shares > 0)
    return torch.tensor(weights / max(1e-12, float((weights * shares).sum())), dtype=torch.float32)
