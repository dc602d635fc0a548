"""Published encoder weights from the hub: its local cache first, then one try that fails within seconds."""

import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from levelground.errors import WeightsError, first_line

State = dict[str, torch.Tensor]
Bands = tuple[float, float, float]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Band means and deviations of torchvision's ImageNet models, inputs 0 to 1."""

CONNECT_TIMEOUT_S = 3.0
"""How long the hub may take to accept a connection before it counts as out of reach."""

OFFLINE_WAYS = (
    "Offline ways: --encoder tu-tf_efficientnet_lite0 --encoder-weights package, --encoder-weights FILE, "
    "or --encoder-weights none"
)


def download_encoder(encoder: str) -> tuple[State, Path | None]:
    """Read an encoder's ImageNet weights from the hub's local cache, or download them once.

    Args:
        encoder: The encoder's name in segmentation_models_pytorch.
    Returns:
        The state of the encoder with all its stages, and the published configuration beside it, if there is one.
    Raises:
        WeightsError: There are none for this encoder, or they cannot be reached; the message names the offline ways.
    """
    _check_published(encoder)
    try:
        with _hub_offline():
            return _fetch(encoder)
    except Exception as error:
        # Whatever a hub client raises for a file that is not in its cache: go on to the one download.
        check_hub_reachable(encoder, cause=error)
    try:
        return _fetch(encoder)
    except Exception as error:
        raise WeightsError(
            f"--encoder-weights imagenet: {encoder} did not download ({first_line(error)}). {OFFLINE_WAYS}."
        ) from error


def _fetch(encoder: str) -> tuple[State, Path | None]:
    import segmentation_models_pytorch as smp
    from huggingface_hub import hf_hub_download

    if encoder.startswith("tu-"):
        return smp.encoders.get_encoder(encoder, weights=True).state_dict(), None
    state: State = smp.encoders.get_encoder(encoder, weights="imagenet").state_dict()
    place = smp.encoders.encoders[encoder]["pretrained_settings"]["imagenet"]
    return state, Path(hf_hub_download(place["repo_id"], "config.json", revision=place["revision"]))


def _check_published(encoder: str) -> None:
    import segmentation_models_pytorch as smp
    import timm

    if encoder.startswith("tu-"):
        published = ["imagenet"] if timm.is_model_pretrained(encoder.removeprefix("tu-")) else []
    else:
        published = list(smp.encoders.encoders.get(encoder, {}).get("pretrained_settings", {}))
    if "imagenet" not in published:
        names = ", ".join(published) or "nothing"
        raise WeightsError(f"--encoder-weights imagenet: {encoder} has none (published: {names}). {OFFLINE_WAYS}.")


@contextmanager
def _hub_offline() -> Iterator[None]:
    """Let the hub client read its cache only; its retries would cost 20 s on a closed machine."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def check_hub_reachable(encoder: str, *, cause: BaseException | None = None) -> None:
    """Ask the hub for one page, so that a closed machine fails within seconds; its own client would try for minutes.

    Raises:
        WeightsError: No answer within :data:`CONNECT_TIMEOUT_S`, or a server in trouble; the message names the offline
            ways.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        # Knows the proxies of the environment. What is asked for does not matter: "not found" is an answer too.
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=CONNECT_TIMEOUT_S).close()  # noqa: S310 - the user's own setting
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        answered = isinstance(error, urllib.error.HTTPError) and error.code < 500
        if answered or isinstance(reason, ssl.SSLError):  # the hub's client may know certificates that we do not
            return
        raise WeightsError(
            f"--encoder-weights imagenet: {encoder} is not in the local cache and {endpoint} is out of reach "
            f"({reason}). {OFFLINE_WAYS}."
        ) from (cause or error)


def normalisation(encoder: str, config: Path | None = None) -> tuple[Bands, Bands]:
    """The band means and deviations that an encoder's published weights were trained with, inputs 0 to 1.

    Args:
        encoder: The encoder's name; timm knows those of its own (``tu-…``).
        config: A published configuration with ``mean`` and ``std``; where it is missing, torchvision's values hold.
    Returns:
        Means and deviations.
    """
    import timm

    known = timm.get_pretrained_cfg(encoder.removeprefix("tu-")) if encoder.startswith("tu-") else None
    if known is not None:
        return _triple(known.mean), _triple(known.std)
    try:
        published = json.loads(config.read_text(encoding="utf-8")) if config is not None else {}
        return _triple(published["mean"]), _triple(published["std"])
    except (OSError, ValueError, KeyError, TypeError):
        return IMAGENET_MEAN, IMAGENET_STD


def _triple(values: Sequence[float]) -> Bands:
    red, green, blue = values
    return red, green, blue
