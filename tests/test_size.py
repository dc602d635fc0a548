"""Parameters and operations."""

import dataclasses

import pytest
from builders.models import SMALL, small_network

from levelground.models.build import (
    build_model,
    measure_size,
)
from levelground.models.spec import numbered_spec
from levelground.recipe_files import load_recipe

LITE0 = "tu-tf_efficientnet_lite0"


def test_the_origin_freeze_takes_all_of_pspnets_used_encoder() -> None:
    """PSPNet uses nothing beyond layer2, so nothing of the encoder that it uses is trained; the sizes say so."""
    recipe = dataclasses.replace(load_recipe("origin"), encoder_weights="none")
    pspnet, unet = measure_size(small_network("pspnet", recipe)), measure_size(small_network("unet", recipe))
    decoder = sum(
        parameter.numel()
        for name, parameter in small_network("pspnet").network.named_parameters()
        if not name.startswith("encoder.")
    )
    assert pspnet.trainable == decoder
    assert pspnet.used < pspnet.total
    assert unet.used == unet.total
    assert decoder < unet.trainable < unet.used


def test_sizes_are_counted() -> None:
    """Parameters as torch counts them; operations of U-Net with resnet18 about 80 thousand a pixel, at any side."""
    model = small_network()
    size = measure_size(model)
    assert size.total == size.used == size.trainable == sum(p.numel() for p in model.network.parameters())
    assert 50e9 < size.macs_per_megapixel < 120e9
    assert measure_size(model, side=256).macs_per_megapixel == size.macs_per_megapixel


def test_operations_of_one_convolution_are_exact() -> None:
    """The head of a PSPNet alone is known: what remains of the count after it is the rest, never negative."""
    small, large = (
        measure_size(build_model(numbered_spec("fpn", SMALL.encoder, n_outputs=n), SMALL, seed=0)) for n in (1, 2)
    )
    # One more output: one more 1×1 convolution over 128 channels at a quarter of each side.
    assert large.macs_per_megapixel - small.macs_per_megapixel == pytest.approx(1e6 * 128 / 16)
