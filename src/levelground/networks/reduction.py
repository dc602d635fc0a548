"""From a scene's probabilities to what is kept of them: classes, confidences and sums of losses.

Letters: K outputs of the network, p the blended probabilities, H × W the scene. The probabilities of a whole scene
never exist at once: each finished block is reduced where it lies, on the runtime's device, and the scene's results are
fetched once, at its end.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from levelground.errors import ModelError
from levelground.imagery.legend import IGNORE, LabelMap
from levelground.networks.inference import Block

_TINY = float(np.finfo(np.float32).tiny)
"""Smallest probability that a loss sees: −log of it is 87, of zero it would be infinite."""


@dataclass(frozen=True)
class ScenePrediction:
    """What a network says about a scene, held against its labels.

    Attributes:
        preds: Legend index of the most probable class, ``(H, W)`` uint8.
        confidence: Its probability, ``(H, W)`` float32; ``None`` where only the classes are known.
        loss_sum: Sum of −log p(true class) over counted pixels whose class the network has an output for.
        loss_pixels: Their number.
        smp_dice: Dice loss of the scene as segmentation_models_pytorch defines it; ``None`` where it was not asked for.
        forward_s: Seconds from the first window read to the results in main memory.
    """

    preds: LabelMap
    confidence: NDArray[np.float32] | None
    loss_sum: float = 0.0
    loss_pixels: int = 0
    smp_dice: float | None = None
    forward_s: float = 0.0


def output_targets(labels: LabelMap, outputs: Sequence[int], counted: NDArray[np.bool_] | None) -> LabelMap:
    """Translate labels into numbers of outputs.

    Args:
        labels: Legend indices or 255, ``(H, W)``.
        outputs: Legend index of each output.
        counted: Which classes of the legend count; ``None`` takes all.
    Returns:
        The output that is right for each pixel, 255 where none is or the class does not count.
    Example:
        >>> output_targets(np.uint8([[0, 2, 255]]), (2, 0), np.array([True, True, True])).tolist()
        [[1, 0, 255]]
    """
    table = np.full(256, IGNORE, np.uint8)
    for number, index in enumerate(outputs):
        if counted is None or counted[index]:
            table[index] = number
    return table[labels]


def reduce_scene(
    blocks: Iterable[Block],
    labels: LabelMap,
    *,
    outputs: Sequence[int],
    counted: NDArray[np.bool_],
    device: torch.device,
    smp_dice: bool = False,
) -> ScenePrediction:
    """Reduce a scene's blocks as they are finished.

    Args:
        blocks: Finished blocks of :func:`levelground.networks.inference.sweep`; they are asked for here, and timed.
        labels: Legend indices or 255, ``(H, W)``.
        outputs: Legend index of each output.
        counted: Which classes of the legend count, ``(K of the legend,)``.
        device: Where the blocks lie.
        smp_dice: Also compute the Dice loss, over all outputs.
    Raises:
        ModelError: The network has another number of outputs than ``outputs``.
    """
    started = time.perf_counter()
    targets = torch.from_numpy(output_targets(labels, outputs, counted)).to(device)
    every = torch.from_numpy(output_targets(labels, outputs, None)).to(device) if smp_dice else None
    preds = torch.empty(labels.shape, dtype=torch.uint8, device=device)
    confidence = torch.empty(labels.shape, dtype=torch.float32, device=device)
    losses, pixels, overlaps = [], [], []
    for block in blocks:
        if block.probs.shape[0] != len(outputs):
            raise ModelError(
                f"the network has {block.probs.shape[0]} outputs, its card names {len(outputs)} classes. "
                "Train or adopt the run anew."
            )
        confidence[block.place], preds[block.place] = most_probable(block.probs)
        loss, n = _loss(block.probs, targets[block.place])
        losses.append(loss)
        pixels.append(n)
        if every is not None:
            overlaps.append(_overlaps(block.probs, every[block.place]))
    return ScenePrediction(
        preds=np.asarray(outputs, np.uint8)[preds.cpu().numpy()],
        confidence=confidence.cpu().numpy(),
        loss_sum=float(torch.stack(losses).cpu().double().sum()),
        loss_pixels=int(torch.stack(pixels).sum()),
        smp_dice=_smp_dice(torch.stack(overlaps).cpu().double().sum(dim=0)) if overlaps else None,
        forward_s=time.perf_counter() - started,
    )


@torch.inference_mode()
def most_probable(probs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest probability of each pixel and the first output that has it.

    ``torch.max`` with indices takes three times as long on a CPU: it follows one pixel at a time where these passes are
    vectorised. The first output with the largest value is as many as there are outputs before it, all smaller.

    Args:
        probs: ``(K, H, W)`` float32.
    Returns:
        ``(H, W)`` float32 and ``(H, W)`` uint8.
    Example:
        >>> most_probable(torch.tensor([[[0.2]], [[0.4]], [[0.4]]]))
        (tensor([[0.4000]]), tensor([[1]], dtype=torch.uint8))
    """
    highest = probs.amax(dim=0)
    first = torch.zeros(highest.shape, dtype=torch.uint8, device=probs.device)
    before = torch.ones(highest.shape, dtype=torch.bool, device=probs.device)
    for smaller in probs[:-1]:
        before &= smaller < highest
        first += before
    return highest, first


@torch.inference_mode()
def _loss(probs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of −log p(true) over the pixels that have a target, and their number."""
    has = targets != IGNORE
    chosen = probs.gather(0, (targets * has).long()[None])[0]
    return -(chosen.clamp_min_(_TINY).log_() * has).sum(), has.sum()


@torch.inference_mode()
def _overlaps(probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """For each output Σ p·y, Σ p and Σ y over pixels with a target, ``(3, K)``; y is 1 where the output is right."""
    has = targets != IGNORE
    rows = []
    for number, p in enumerate(probs):
        right = targets == number
        rows.append(torch.stack([(p * right).sum(), (p * has).sum(), right.sum().to(p.dtype)]))
    return torch.stack(rows, dim=1)


def _smp_dice(sums: torch.Tensor) -> float:
    """Dice loss from Σ p·y, Σ p and Σ y: 0 for classes the scene does not hold, mean over all outputs.

    Source: segmentation_models_pytorch 0.6, ``losses/dice.py``, mode ``multiclass``, at batch 1.
    """
    both, said, true = sums
    losses = (1 - 2 * both / (said + true).clamp_min(1e-7)) * (true > 0)
    return float(losses.mean())
