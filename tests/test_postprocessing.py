import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segmentation_models_pytorch.losses import DiceLoss
from torch.nn import functional

from levelground.errors import ModelError
from levelground.evaluation.score_scenes import ScenePrediction, most_probable, output_targets, postprocess_scene
from levelground.imagery.legend import IGNORE
from levelground.inference.sliding_window import Block

OUTPUTS = (3, 0, 2)  # of a legend of five classes; 1 and 4 have no output
COUNTED = np.array([True, True, False, True, True])
CPU = torch.device("cpu")


def logits_and_labels(seed: int = 0) -> tuple[torch.Tensor, NDArray[np.uint8]]:
    """Scores of three outputs over 20 × 30 pixels, and labels with every class and gaps."""
    generator = torch.Generator().manual_seed(seed)
    labels = np.random.default_rng(seed).integers(0, 6, (20, 30)).astype(np.uint8)
    return 3 * torch.randn(3, 20, 30, generator=generator), np.where(labels == 5, IGNORE, labels).astype(np.uint8)


def reduced(logits: torch.Tensor, labels: NDArray[np.uint8], **more: bool) -> ScenePrediction:
    """Reduce a scene that comes in three blocks."""
    probs = torch.softmax(logits, dim=0)
    blocks = [Block(0, 0, probs[:, :12, :11]), Block(0, 11, probs[:, :12, 11:]), Block(12, 0, probs[:, 12:])]
    return postprocess_scene(blocks, labels, outputs=OUTPUTS, counted=COUNTED, device=CPU, **more)


def test_preds_are_legend_indices_of_the_most_probable_output() -> None:
    """Outputs are translated; the confidence is the probability of the class that is named."""
    logits, labels = logits_and_labels()
    found, probs = reduced(logits, labels), torch.softmax(logits, dim=0).numpy()
    assert np.array_equal(found.preds, np.array(OUTPUTS)[probs.argmax(axis=0)])
    assert np.array_equal(found.confidence, probs.max(axis=0))
    assert found.preds.dtype == np.uint8
    assert found.forward_s > 0


@pytest.mark.parametrize("values", [[0.2, 0.2, 0.2], [0.1, 0.3, 0.3], [0.4, 0.1, 0.4], [0.1, 0.2, 0.7]])
def test_of_equal_probabilities_the_first_output_wins(values: list[float]) -> None:
    """As NumPy's argmax does."""
    highest, first = most_probable(torch.tensor(values)[:, None, None])
    assert (float(highest), int(first)) == (pytest.approx(max(values)), int(np.argmax(values)))


def test_the_loss_is_torchs_cross_entropy_over_counted_pixels() -> None:
    """Ignored pixels, uncounted classes (2) and classes without an output (1, 4) are left out."""
    logits, labels = logits_and_labels()
    kept = np.isin(labels, (0, 3))
    targets = torch.from_numpy(np.where(labels == 3, 0, 1)[kept])
    expected = functional.cross_entropy(logits[:, torch.from_numpy(kept)].T.double(), targets, reduction="sum")
    found = reduced(logits, labels)
    assert found.loss_pixels == kept.sum()
    assert found.loss_sum == pytest.approx(float(expected), rel=1e-6)


def test_a_certain_mistake_has_a_finite_loss() -> None:
    """The smallest probability seen is float32's smallest normal number."""
    found = reduced(torch.zeros(3, 20, 30) + torch.tensor([-1e4, 0, 0])[:, None, None], np.full((20, 30), 3, np.uint8))
    assert found.loss_sum == pytest.approx(600 * -np.log(np.finfo(np.float32).tiny))


def test_a_scene_without_counted_pixels_has_no_loss() -> None:
    """Nothing is summed and nothing divided."""
    found = reduced(logits_and_labels()[0], np.full((20, 30), IGNORE, np.uint8), smp_dice=True)
    assert (found.loss_sum, found.loss_pixels, found.smp_dice) == (0.0, 0, 0.0)


@pytest.mark.parametrize("absent", [None, 0, 2])
def test_the_dice_loss_is_smps_at_batch_1(absent: int | None) -> None:
    """All outputs take part, uncounted classes too; a class absent from the scene costs nothing."""
    logits, labels = logits_and_labels(1)
    if absent is not None:
        labels[labels == absent] = 3
    targets = torch.from_numpy(output_targets(labels, OUTPUTS, None)).long()
    expected = DiceLoss(mode="multiclass", from_logits=True, ignore_index=IGNORE)(logits[None], targets[None])
    assert reduced(logits, labels, smp_dice=True).smp_dice == pytest.approx(float(expected), abs=1e-6)
    assert reduced(logits, labels).smp_dice is None


def test_a_network_with_another_number_of_outputs_is_refused() -> None:
    """Both numbers are named."""
    text = "the network has 2 outputs, its card names 3 classes. Train or adopt the run anew."
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        postprocess_scene(
            [Block(0, 0, torch.zeros(2, 4, 4))],
            np.zeros((4, 4), np.uint8),
            outputs=OUTPUTS,
            counted=COUNTED,
            device=CPU,
        )
