"""Losses over pixels with one ignore rule: an ignored pixel enters nothing.

Letters: N batch, K outputs, z logits, p = softmax(z), y the true class as one-hot, v = 1 where a pixel is valid. Sums
run over the valid pixels of the batch.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from levelground.config import LossName

IGNORE = 255
"""Target value of pixels that enter no loss."""

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits (N, K, H, W), targets (N, H, W) int64 with 255 = ignored) -> scalar."""


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, *, weights: torch.Tensor | None = None, focus: float = 0.0
) -> torch.Tensor:
    """Compute cross-entropy per valid pixel; with ``focus`` the focal loss.

    Formula: Σ v·w[y]·(1 − p[y])^focus·(−log p[y]) / max(1, Σ v·w[y]).

    Args:
        logits: ``(N, K, H, W)``.
        targets: ``(N, H, W)`` int64 in ``[0, K)``, or 255.
        weights: Weight of each class, ``(K,)``.
        focus: The focusing exponent γ; 0 is cross-entropy.
    Returns:
        A scalar; 0, with a gradient of 0, where no pixel is valid.
    Source: Lin et al. 2017, equation 5; we divide by the valid pixels' weight, they by the number of anchors.
    """
    valid = targets != IGNORE
    if torch.are_deterministic_algorithms_enabled():  # CUDA refuses its own form, though nothing is summed in it
        chosen = targets.where(valid, 0).unsqueeze(1)
        losses = -functional.log_softmax(logits.float(), dim=1).gather(1, chosen).squeeze(1) * valid
    else:
        losses = functional.cross_entropy(logits.float(), targets, ignore_index=IGNORE, reduction="none")
    pixel_weights = valid.float()
    if weights is not None:
        pixel_weights = pixel_weights * weights.to(losses)[targets.where(valid, 0)]
    if focus:
        losses = losses * (1 - torch.exp(-losses)).clamp_min(0) ** focus
    return (losses * pixel_weights).sum() / pixel_weights.sum().clamp_min(1.0)


def dice_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute one minus the mean soft Dice of the classes in the ground truth of the batch.

    Formula: D[k] = 2·Σ v·p[k]·y[k] / (Σ v·p[k] + Σ v·y[k]); loss = 1 − mean of D over classes with Σ v·y[k] > 0. False
    positives of an absent class lower the Dice of the classes whose pixels they take.

    Args:
        logits: ``(N, K, H, W)``.
        targets: ``(N, H, W)`` int64 in ``[0, K)``, or 255.
    Returns:
        A scalar in [0, 1]; 0 where no pixel is valid.
    Source: Milletari et al. 2016, with plain sums in place of squares.
    """
    valid = (targets != IGNORE).unsqueeze(1)
    probs = functional.softmax(logits.float(), dim=1) * valid
    truth = torch.zeros_like(probs).scatter_(1, targets.where(valid[:, 0], 0).unsqueeze(1), valid.to(probs.dtype))
    axes = (0, 2, 3)
    pixels = truth.sum(axes)
    dice = 2 * (probs * truth).sum(axes) / (probs.sum(axes) + pixels).clamp_min(1e-7)
    present = pixels > 0
    return (present * (1 - dice)).sum() / present.sum().clamp_min(1)


def make_loss(name: LossName, *, weights: torch.Tensor | None = None) -> LossFunction:
    """Make the loss of a recipe by name.

    Args:
        name: As in the recipe.
        weights: Class weights for cross-entropy and focal loss, ``(K,)``.
    Returns:
        A function of logits and targets.
    """
    if name == "smp-dice":
        from segmentation_models_pytorch.losses import DiceLoss

        smp_dice: LossFunction = DiceLoss(mode="multiclass", from_logits=True, ignore_index=IGNORE)
        return lambda logits, targets: smp_dice(logits.float(), targets)

    def pixelwise(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return cross_entropy(logits, targets, weights=weights, focus=2.0 if name.startswith("focal") else 0.0)

    if name == "dice":
        return dice_loss
    if name.endswith("+dice"):
        return lambda logits, targets: pixelwise(logits, targets) + dice_loss(logits, targets)
    return pixelwise
