"""Impossible requests are refused in time, possible ones are not."""

import dataclasses

import pytest

from levelground.errors import ModelError
from levelground.models.build import check_trainable
from levelground.models.spec import numbered_spec
from levelground.tile_geometry import TileGeometry


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be trained together."""

    arch: str
    encoder: str
    bands: int
    n_outputs: int
    batch: int
    tile: int

    def check(self) -> None:
        """Check it."""
        zeros, ones = [0.0] * self.bands, [1.0] * self.bands
        spec = numbered_spec(self.arch, self.encoder, n_outputs=self.n_outputs, mean=zeros, std=ones)
        check_trainable(dataclasses.replace(spec, geometry=TileGeometry(self.tile, 0)), batch=self.batch)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            Request("dpt", "resnet18", 3, 6, 2, 128),
            r"^dpt with encoder resnet18: cannot be built \(Only Timm encoders are supported for DPT\..+\)\. "
            r"Give one of timm's: --encoder tu-tf_efficientnet_lite0\.$",
        ),
        (
            Request("unet", "resnet19", 3, 6, 2, 128),
            r"^unet with encoder resnet19: cannot be built \(no such encoder\)\. Near: resnet18, .+\.$",
        ),
        (
            Request("unet", "tu-tf_efficientnet_lit0", 3, 6, 2, 128),
            r"cannot be built \(no such encoder\)\. Near: .*tu-tf_efficientnet_lite0.*\.$",
        ),
        (
            Request("linknet", "mit_b0", 3, 6, 2, 128),
            r"^linknet with encoder mit_b0: cannot be built \(Encoder `mit_b0` is not supported for Linknet\)\. "
            r"Choose another --encoder, such as tu-tf_efficientnet_lite0 or resnet34\.$",
        ),
        (
            Request("deeplabv3", "vgg11", 3, 6, 2, 128),
            r"^deeplabv3 with encoder vgg11: cannot be built \(.+\)\. Choose another --encoder, such as",
        ),
        (
            Request("unet", "resnet18", 3, 6, 2, 100),
            r"^--tile 100: not a multiple of 32\. Give --tile 96\.$",
        ),
        (Request("unet", "resnet18", 3, 6, 2, 7), r"^--tile 7: not a multiple of 32\. Give --tile 32\.$"),
        (
            Request("pan", "resnet18", 3, 6, 2, 96),
            r"^pan with encoder resnet18: cannot run on tiles of 96 px \(.+\)\. "
            r"Give a larger --tile, such as --tile 256\.$",
        ),
        (
            Request("fpn", "tu-swin_s3_tiny_224", 3, 6, 2, 256),
            r"cannot run on tiles of 256 px \(Input height \(256\) doesn't match model \(224\)\)\. Give --tile 224\.$",
        ),
        *(
            (
                Request(arch, "resnet18", 3, 6, 1, 128),
                rf"^{arch} with encoder resnet18: cannot train at batch 1 \(it normalises over one value\)\. "
                r"Give --batch 2\.$",
            )
            for arch in ("deeplabv3", "deeplabv3plus", "pan", "upernet")
        ),
    ],
    ids=lambda value: f"{value.arch}-{value.encoder}-{value.batch}-{value.tile}" if isinstance(value, Request) else "",
)
def test_impossible_requests_are_refused(request_: Request, message: str) -> None:
    """Before data are read, with the remedy, in one line."""
    with pytest.raises(ModelError, match=message) as raised:
        request_.check()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "request_",
    [
        Request("pspnet", "resnet18", 3, 7, 1, 64),
        Request("unet", "mit_b0", 4, 6, 2, 64),
        Request("fpn", "mobileone_s0", 12, 6, 2, 64),
        Request("pan", "resnet18", 1, 6, 2, 128),
        *(Request("dpt", "tu-vit_tiny_patch16_224", 3, 6, 2, side) for side in (224, 256)),
        Request("unet", "resnet18", 3, 1, 64, 8192),
    ],
    ids=lambda request_: f"{request_.arch}-{request_.encoder}",
)
def test_possible_requests_pass(request_: Request) -> None:
    """Encoders that read values while they are built, one size only, one class, a batch no memory would hold."""
    request_.check()
