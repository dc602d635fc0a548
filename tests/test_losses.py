"""Losses against torch, segmentation_models_pytorch and values worked out by hand."""

import math
from typing import get_args

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from levelground.config import LossName
from levelground.training.losses import IGNORE, cross_entropy, dice_loss, make_loss

NAMES = get_args(LossName)


def example(seed: int = 0, *, classes: int = 4, ignored: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits ``(2, K, 6, 5)`` and targets, a share of them ignored."""
    torch.manual_seed(seed)
    targets = torch.randint(classes, (2, 6, 5))
    targets[torch.rand(targets.shape) < ignored] = IGNORE
    return torch.randn(2, classes, 6, 5), targets


def test_cross_entropy_is_torchs() -> None:
    """The mean over valid pixels, as torch's own ignore_index gives."""
    logits, targets = example()
    expected = functional.cross_entropy(logits, targets, ignore_index=IGNORE)
    torch.testing.assert_close(cross_entropy(logits, targets), expected)


def test_the_form_that_repeats_exactly_is_the_same_loss() -> None:
    """Values and gradients; ignored pixels have none."""
    found = []
    for exactly in (False, True):
        logits, targets = example()
        logits.requires_grad_()
        torch.use_deterministic_algorithms(exactly)
        try:
            loss = cross_entropy(logits, targets, focus=2.0)
            loss.backward()
        finally:
            torch.use_deterministic_algorithms(False)
        found.append((loss.detach(), logits.grad))
    torch.testing.assert_close(found[0], found[1])


def test_weighted_cross_entropy_is_torchs() -> None:
    """Divided by the weight of the valid pixels."""
    logits, targets = example()
    weights = torch.tensor([0.5, 2.0, 0.0, 1.0])
    expected = functional.cross_entropy(logits, targets, weight=weights, ignore_index=IGNORE)
    torch.testing.assert_close(cross_entropy(logits, targets, weights=weights), expected)


def test_focal_loss_pixel_by_pixel() -> None:
    """Lin's loss over softmax, averaged over valid pixels; smp's is one class against the rest."""
    logits, targets = example()
    p = logits.softmax(1)
    losses = [
        -((1 - p[n, y, r, c]) ** 2) * torch.log(p[n, y, r, c])
        for n, plane in enumerate(targets.tolist())
        for r, row in enumerate(plane)
        for c, y in enumerate(row)
        if y != IGNORE
    ]
    torch.testing.assert_close(cross_entropy(logits, targets, focus=2.0), torch.stack(losses).mean())


def test_cross_entropy_by_hand() -> None:
    """With p = (.25, .75): −log .25 and −log .75 over the two valid pixels, the third is ignored."""
    logits = torch.tensor([[0.0], [math.log(3.0)]]).expand(2, 3).reshape(1, 2, 1, 3)
    loss = cross_entropy(logits, torch.tensor([[[0, 1, IGNORE]]]))
    assert loss.item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)


def test_dice_by_hand() -> None:
    """Two valid pixels of classes 0 and 1, p = (.5, .5) for both: D = 2·.5 / (1 + 1) = .5 for each class."""
    logits = torch.zeros(1, 2, 1, 3)
    assert dice_loss(logits, torch.tensor([[[0, 1, IGNORE]]])).item() == pytest.approx(0.5)


def test_dice_leaves_absent_classes_out_of_the_mean() -> None:
    """Class 1 has no true pixel: the mean is over class 0 alone, D = 2·(2·.5) / (2·.5 + 2) = 2/3."""
    logits = torch.zeros(1, 2, 1, 2)
    assert dice_loss(logits, torch.tensor([[[0, 0]]])).item() == pytest.approx(1 / 3)


def test_the_true_class_pays_for_pixels_given_to_an_absent_one() -> None:
    """An absent class has no Dice of its own: the class whose pixels it takes pays."""
    targets = torch.tensor([[[0, 0]]])
    right, wrong = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    right[:, 0], wrong[:, 1] = 20, 20
    assert dice_loss(right, targets).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(wrong, targets).item() == pytest.approx(1, abs=1e-6)


def test_dice_is_smps_where_every_class_is_there() -> None:
    """With all classes present the two definitions agree (smp adds no smoothing by default)."""
    logits, targets = example(ignored=0.2)
    assert set(range(4)) <= set(targets.unique().tolist())
    expected = smp.losses.DiceLoss(mode="multiclass", ignore_index=IGNORE)(logits, targets)
    torch.testing.assert_close(dice_loss(logits, targets), expected)


def test_dice_differs_from_smps_where_a_class_is_absent() -> None:
    """There an absent class has loss 0 and stays in the mean, so the loss is smaller by present / all."""
    logits, targets = example(ignored=0.2)
    targets[targets == 3] = 0
    expected = smp.losses.DiceLoss(mode="multiclass", ignore_index=IGNORE)(logits, targets)
    torch.testing.assert_close(dice_loss(logits, targets) * 3 / 4, expected)


def test_the_smp_dice_is_smps_own() -> None:
    """The origin recipe's loss, absent classes and all."""
    logits, targets = example()
    targets[targets == 2] = 1
    expected = smp.losses.DiceLoss(mode="multiclass", ignore_index=IGNORE)(logits, targets)
    torch.testing.assert_close(make_loss("smp-dice")(logits, targets), expected)


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_enter_nothing(name: LossName) -> None:
    """Whatever the network says where nothing is known, loss and gradient stay what they were."""
    logits, targets = example()
    other = torch.where((targets == IGNORE).unsqueeze(1), 50 * torch.randn_like(logits), logits)
    weights = torch.tensor([0.5, 2.0, 1.0, 1.0])
    results = []
    for values in (logits, other):
        leaf = values.clone().requires_grad_()
        loss = make_loss(name, weights=weights)(leaf, targets)
        loss.backward()
        assert leaf.grad is not None
        results.append((loss.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1])
    assert results[0][1][(targets == IGNORE).unsqueeze(1).expand_as(logits)].abs().max() == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_crop_without_valid_pixels_gives_zero(name: LossName) -> None:
    """Loss 0, gradient 0, nothing that is no number."""
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = make_loss(name)(logits, torch.full((2, 4, 4), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("name", NAMES)
def test_low_precision_logits_are_summed_in_float32(name: LossName) -> None:
    """bf16 logits give the loss of the same numbers in float32."""
    logits, targets = example()
    low = logits.bfloat16()
    loss = make_loss(name)(low, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, make_loss(name)(low.float(), targets))


@pytest.mark.parametrize("name", NAMES)
def test_a_sure_and_right_network_has_a_loss_near_zero(name: LossName) -> None:
    """And a sure and wrong one has a large loss; the gradient stays finite for both."""
    targets = torch.tensor([[[0, 1], [2, IGNORE]]])
    truth = functional.one_hot(targets.where(targets != IGNORE, 0), 3).permute(0, 3, 1, 2).float()
    for sign, low, high in ((1, 0.0, 1e-3), (-1, 0.9, 1e3)):
        logits = (sign * 60 * truth).requires_grad_()
        loss = make_loss(name)(logits, targets)
        loss.backward()
        assert low <= loss.item() <= high
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["ce+dice", "focal+dice"])
def test_sums_are_sums(name: LossName) -> None:
    """The plus is a plus."""
    logits, targets = example()
    first, second = name.split("+")
    expected = make_loss(first)(logits, targets) + make_loss(second)(logits, targets)  # type: ignore[arg-type]
    torch.testing.assert_close(make_loss(name)(logits, targets), expected)


def test_few_light_pixels_are_not_blown_up() -> None:
    """Where the valid pixels weigh less than one together, the loss is their sum and not more."""
    logits = torch.zeros(1, 2, 1, 2)
    loss = cross_entropy(logits, torch.tensor([[[0, IGNORE]]]), weights=torch.tensor([0.1, 1.0]))
    assert loss.item() == pytest.approx(0.1 * math.log(2))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.permutations(range(4)), st.sampled_from(["ce", "dice", "focal+dice", "smp-dice"]))
def test_classes_have_no_order(seed: int, order: list[int], name: LossName) -> None:
    """Renaming the classes in logits and targets alike changes no loss."""
    logits, targets = example(seed)
    table = torch.full((256,), IGNORE)
    table[torch.tensor(order)] = torch.arange(4)
    loss = make_loss(name)
    torch.testing.assert_close(loss(logits[:, order], table[targets]), loss(logits, targets))
