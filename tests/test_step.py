"""One optimiser step: repeatable, deaf to torch's random state, blind to ignored pixels."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from builders.study import ENCODER

from levelground.config import Recipe
from levelground.errors import ConfigError
from levelground.models.build import build_model
from levelground.models.spec import numbered_spec
from levelground.recipe_files import load_recipe
from levelground.runtime import make_runtime
from levelground.training.batches import Batch
from levelground.training.schedule import rate_factor
from levelground.training.step import Stepper, fast_depthwise

RUNTIME = make_runtime("cpu", "fp32", threads=1)
RECIPE = dataclasses.replace(Recipe(), encoder=ENCODER, encoder_weights="none", tile=64, batch=2)


def stepper(arch: str = "fpn", recipe: Recipe = RECIPE, *, seed: int = 0, steps: int = 10) -> Stepper:
    """A fresh network with its optimiser; FPN has dropout."""
    spec = numbered_spec(arch, recipe.encoder, n_outputs=3, mean=[100.0] * 3, std=[50.0] * 3)
    model = build_model(spec, recipe, seed=seed)
    return Stepper(model, recipe, RUNTIME, seed=seed, steps=steps, class_pixels=[10, 20, 30])


def batch(number: int = 0, *, ignored: float = 0.1) -> Batch:
    """Two random crops of 64 px."""
    rng = np.random.default_rng(number)
    targets = rng.integers(0, 3, (2, 64, 64)).astype(np.uint8)
    targets[rng.random(targets.shape) < ignored] = 255
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    return Batch(images, targets, np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32), (0, 1))


def weights(taken: Stepper) -> dict[str, torch.Tensor]:
    """A copy of every tensor of the network."""
    return {name: value.clone() for name, value in taken.model.network.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_steps_repeat_to_the_bit() -> None:
    """Whatever else draws from torch's generator in between, dropout included."""
    results = []
    for disturb in (False, True):
        taken = stepper()
        losses = []
        for number in range(3):
            if disturb:
                torch.rand(number + 5)
            losses.append(taken.step(number, batch(number)).item())
        results.append((losses, weights(taken)))
    assert results[0][0] == results[1][0]
    assert equal(results[0][1], results[1][1])


def test_dropout_is_tied_to_the_step() -> None:
    """The first loss on one batch depends on the step's number with dropout (FPN) and not without (U-Net)."""
    losses = {
        (arch, number): stepper(arch).step(number, batch()).item() for arch in ("fpn", "unet") for number in (0, 1)
    }
    assert losses["fpn", 0] != losses["fpn", 1]
    assert losses["unet", 0] == losses["unet", 1]


def test_a_step_learns() -> None:
    """On one batch the loss falls."""
    taken = stepper("unet", steps=8)
    losses = [taken.step(number, batch()).item() for number in range(8)]
    assert losses[-1] < losses[0]


def test_the_rate_follows_the_schedule() -> None:
    """Set before the step is taken."""
    taken = stepper(steps=10)
    for number in (0, 3, 9):
        taken.step(number, batch())
        assert taken.optimiser.param_groups[0]["lr"] == pytest.approx(RECIPE.lr * rate_factor(RECIPE, number, 10))


def test_a_batch_without_labels_changes_nothing_but_statistics() -> None:
    """Loss 0, finite; weights move by decay alone, which is none for normalisation."""
    taken = stepper("unet", dataclasses.replace(RECIPE, weight_decay=0.0))
    before = weights(taken)
    assert taken.step(0, batch(ignored=1.1)).item() == 0
    after = weights(taken)
    learnt = {name for name, _ in taken.model.network.named_parameters()}
    assert all(torch.equal(before[name], after[name]) for name in learnt)
    assert all(torch.isfinite(value).all() for value in after.values())


def test_the_gradient_is_clipped() -> None:
    """Its norm is the recipe's at most; 0 leaves it as it is."""
    norms = []
    for clip in (0.001, 0.0):
        taken = stepper("unet", dataclasses.replace(RECIPE, clip=clip))
        taken.step(0, batch())
        gradients = [p.grad for p in taken.model.network.parameters() if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
    assert norms[0] == pytest.approx(0.001, rel=1e-3)
    assert norms[1] > 0.01


def test_frozen_children_stay_as_they_are() -> None:
    """The origin recipe trains layer3, layer4 and the decoder; normalisation statistics go on, as they did there."""
    recipe = dataclasses.replace(load_recipe("origin"), encoder_weights="none")
    taken = stepper("unet", recipe)
    before = weights(taken)
    taken.step(0, batch())
    after = weights(taken)
    moved = {name for name, _ in taken.model.network.named_parameters() if not torch.equal(before[name], after[name])}
    assert any(name.startswith("encoder.layer4") for name in moved)
    assert not any(
        name.startswith(("encoder.conv1", "encoder.bn1", "encoder.layer1", "encoder.layer2")) for name in moved
    )
    assert not torch.equal(before["encoder.bn1.running_mean"], after["encoder.bn1.running_mean"])


def test_a_network_in_evaluation_mode_is_set_to_train() -> None:
    """Validation between two steps changes no step."""
    results = []
    for validated in (False, True):
        taken = stepper()
        taken.step(0, batch())
        if validated:
            taken.model.network.eval()
            with torch.no_grad():
                taken.model.network(torch.zeros(1, 3, 64, 64))
        taken.step(1, batch(1))
        results.append(weights(taken))
    assert equal(*results)


def test_bf16_computes_in_bf16_and_keeps_float32_weights() -> None:
    """The loss is a float32 number near that of fp32."""
    exact = stepper().step(0, batch())
    low = Stepper(
        build_model(numbered_spec("fpn", ENCODER, n_outputs=3, mean=[100.0] * 3, std=[50.0] * 3), RECIPE, seed=0),
        RECIPE,
        make_runtime("cpu", "bf16", threads=1),
        seed=0,
        steps=10,
        class_pixels=[10, 20, 30],
    )
    loss = low.step(0, batch())
    assert loss.dtype == torch.float32
    assert loss.item() != exact.item()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert {p.dtype for p in low.model.network.parameters()} == {torch.float32}


def test_what_cannot_repeat_exactly_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA says it of the pooling of PSPNet."""

    def refuse(*_: object) -> torch.Tensor:
        raise RuntimeError(
            "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set"
        )

    taken = stepper("pspnet")
    monkeypatch.setattr(taken, "_loss", refuse)
    line = (
        r"^--deterministic: pspnet cannot be trained so \(adaptive_avg_pool2d_backward_cuda does .*\)\. Leave it out\.$"
    )
    with pytest.raises(ConfigError, match=line):
        taken.gradients(0, batch())


@pytest.mark.parametrize(("side", "stride", "dilation"), [(5, 1, 1), (5, 2, 1), (3, 2, 1), (3, 1, 1), (5, 1, 2)])
def test_slow_depthwise_gradients_in_float32(side: int, stride: int, dilation: int) -> None:
    """The forward pass keeps its bits; gradients come as near to float64's as bfloat16's own, or nearer."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randn((2, 8, 14, 15), generator=rng)
    conv = torch.nn.Conv2d(8, 8, side, stride, 1, dilation, groups=8)
    exact = torch.nn.Conv2d(8, 8, side, stride, 1, dilation, groups=8).double()
    exact.load_state_dict({name: value.bfloat16().double() for name, value in conv.state_dict().items()})
    runtime = make_runtime("cpu", "bf16", threads=1)
    found = []
    for block in (contextlib.nullcontext(), fast_depthwise(runtime)):
        given = images.clone().requires_grad_()
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16), block:
            out = conv(given)
        weight = torch.linspace(-1, 1, out.numel()).reshape(out.shape).bfloat16()
        (out * weight).sum().backward()
        assert given.grad is not None and conv.weight.grad is not None and conv.bias is not None
        found.append((out, given.grad, conv.weight.grad.clone(), conv.bias.grad))
    given = images.bfloat16().double().requires_grad_()
    (exact(given) * weight.double()).sum().backward()
    assert torch.equal(found[0][0], found[1][0])
    assert exact.bias is not None
    for place, true in enumerate((given.grad, exact.weight.grad, exact.bias.grad), 1):
        assert true is not None
        slow, fast = ((one[place].double() - true).abs().max() / true.abs().max() for one in found)
        assert fast <= 1.05 * slow + 1e-6 and fast < 0.02


def test_a_depthwise_convolution_is_left_alone_outside_bf16_on_a_cpu() -> None:
    """In float32 nothing is slow: the block does nothing, and gradients have the same bits."""
    assert isinstance(fast_depthwise(RUNTIME), contextlib.nullcontext)
