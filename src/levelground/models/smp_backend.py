"""Folders of weights in segmentation_models_pytorch's own layout, written and read, and in transformers', read.

Nothing in them is run, and no hub is asked.
"""

import inspect
import re
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue
from torch import nn

from levelground.console import say
from levelground.errors import ConfigError, ModelError, WeightsError, first_line
from levelground.files import reason, writing
from levelground.models.build import smp
from levelground.models.checkpoints import WEIGHTS_FILE, StateDict, read_state, weight_parts
from levelground.models.model import (
    EXTERNAL_GEOMETRY,
    Model,
    Overrides,
    check_shape,
    described_model,
    external_digest,
)
from levelground.models.own_networks import OwnNetwork, TwoClasses
from levelground.models.pretrained import encoder_options, fit_state, normalisation, renamed_state
from levelground.models.spec import SPEC_FILE, ModelSpec, read_spec
from levelground.reading import parse_json, read_text
from levelground.records import HASHES_FILE, keep_hashes, sha256_file, sha256_json, verify_file

if TYPE_CHECKING:
    from levelground.runtime import Runtime

CONFIG_FILE = "config.json"

_RESTORE = "Restore it from a copy, or make the model anew."

ACTIVATIONS = (None, "identity", "logsoftmax", "softmax", "softmax2d", "sigmoid")
"""Activations in a configuration that may be left out: the network is run without, a softmax follows."""


def save_model(model: Model, folder: Path) -> None:
    """Save weights in segmentation_models_pytorch's own layout.

    Each file appears whole; between two saves of one run only the weights differ, so a kill in between harms nothing.
    The library's empty model card is left out: ours is written when there is something to say
    (:mod:`levelground.exporting.model_card`).

    Raises:
        DiskError: They cannot be written; what was there before stays.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".model-") as temporary:
            network = model.network.network if isinstance(model.network, TwoClasses) else model.network
            _save_network(network, Path(temporary))
            (Path(temporary) / "README.md").unlink(missing_ok=True)
            names = sorted(file.name for file in Path(temporary).iterdir())
            for file in map(Path(temporary).joinpath, names):
                file.chmod(0o644)
                file.replace(folder / file.name)
            kept = [folder / file for file in names if file != WEIGHTS_FILE]  # the weights' hash is on the run's card
            keep_hashes(folder / HASHES_FILE, kept)


def _save_network(network: nn.Module, folder: Path) -> None:
    """Save a network; the library has an error of its own for a full disk."""
    from safetensors import SafetensorError

    try:
        if isinstance(network, OwnNetwork):
            network.save(folder)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.save_pretrained(folder)  # type: ignore[operator]
    except SafetensorError as error:
        raise OSError(reason(error)) from error


def open_smp(folder: Path, runtime: "Runtime", overrides: Overrides) -> Model:
    """Load a folder with its own specification, or with one made of its configuration and the overrides.

    Args:
        folder: Holds ``config.json`` and ``model.safetensors``, as ``save_pretrained`` writes them.
        runtime: Where it will run.
        overrides: What the user gives for a folder without a specification.
    Returns:
        The model. A single output becomes two classes, the first of them the rest.
    Raises:
        ModelError: The configuration is damaged or names no network that can be built.
        WeightsError: The weights are missing, damaged or of another network.
        ConfigError: The overrides do not fit.
    """
    verify_file(folder / CONFIG_FILE, _RESTORE)
    verify_file(folder / WEIGHTS_FILE, _RESTORE)
    if not (folder / WEIGHTS_FILE).is_file():
        raise WeightsError(f"{folder}: no {WEIGHTS_FILE}. Save the model with save_pretrained; pickles are not read.")
    config = _read_config(folder)
    network, n_outputs = _load_network(folder, config)
    weights = sha256_json([sha256_file(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE)])
    forward, own = runtime.place(network), folder / SPEC_FILE
    if own.exists():
        overrides.refuse(folder)
        spec = read_spec(own)
        check_shape(spec, int(config["in_channels"]), n_outputs, folder)
        return described_model(spec, forward, weights)
    spec, rescale = _external_spec(folder, config, n_outputs, overrides)
    return Model(spec, forward, digest=external_digest(weights, spec), rescale=rescale)


def _external_spec(
    folder: Path, config: Mapping[str, Any], n_outputs: int, overrides: Overrides
) -> tuple[ModelSpec, bool]:
    """Make the specification of a folder without one, and tell whether its normalisation is a guess."""
    bands, encoder = int(config["in_channels"]), str(config["encoder_name"])
    legend, outputs = overrides.classes(n_outputs, None, folder)
    given = overrides.normalisation(bands, folder)
    if given is None and bands != 3:
        raise ConfigError(
            f"{folder}: reads {bands} bands and does not say how they were normalised. Pass --mean and --std."
        )
    mean, std = given or tuple(tuple(255 * value for value in values) for values in normalisation(encoder))
    if given is None:
        say(
            "%(name)s: inputs are normalised as %(encoder)s's published weights; or pass --mean and --std.",
            name=folder.name,
            encoder=encoder,
        )
    spec = ModelSpec(
        name=folder.resolve().name,
        arch=_MAKERS[config["_model_class"]][0],
        encoder=encoder,
        legend=legend,
        outputs=outputs,
        mean=mean,
        std=std,
        dtype=None,
        gsd_m=None,
        geometry=EXTERNAL_GEOMETRY,
    )
    return spec, given is None


@dataclass(frozen=True)
class SmpConfig:
    """What the configuration of a folder says of its network."""

    arch: str
    encoder: str
    bands: int
    n_outputs: int
    options: Mapping[str, JsonValue]
    """Options of the architecture that are not the defaults."""
    activation: str | None
    """Activation after the network, which is run without."""


def read_smp_config(folder: Path) -> SmpConfig | None:
    """Read the configuration of a folder that ``save_pretrained`` wrote; ``None`` where it is of another library.

    Raises:
        ModelError: It is damaged or names no network.
        RecordError: It was changed after it was written.
    """
    verify_file(folder / CONFIG_FILE, _RESTORE)
    try:
        content = parse_json(read_text(folder / CONFIG_FILE))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or "_model_class" not in content:
        return None
    config = _read_config(folder)
    if config["_model_class"] not in _MAKERS:
        return None
    arch, maker = _MAKERS[config["_model_class"]]
    parameters = inspect.signature(maker.__init__).parameters
    options = {
        name: value
        for name, value in config.items()
        if name in parameters and name not in _NOT_OPTIONS and value != _as_json(parameters[name].default)
    }
    activation = config.get("activation")
    return SmpConfig(arch, config["encoder_name"], config["in_channels"], config["classes"], options, activation)


_NOT_OPTIONS = (
    "self",
    "kwargs",
    "encoder_name",
    "encoder_weights",
    "in_channels",
    "classes",
    "activation",
    "aux_params",
)


def weights_folder(weights: Path) -> Path | None:
    """Return the folder that describes weights: the one given, a run's ``model/``, or the one around a model file."""
    if (weights / "run.json").exists():
        return weights / "model"
    if weights.is_dir():
        return weights
    return weights.parent if weights.name == WEIGHTS_FILE else None


def weights_file(weights: Path) -> Path:
    """Return the file of weights: the one given, or that of a folder.

    Raises:
        WeightsError: A folder holds none, or several.
    """
    folder = weights_folder(weights)
    if folder is None or not weights.is_dir():
        return weights
    if (folder / WEIGHTS_FILE).exists():
        return folder / WEIGHTS_FILE
    suffixes = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".onnx", ".torchscript")
    found = [path for path in sorted(folder.iterdir()) if path.suffix in suffixes] if folder.is_dir() else []
    found = [path for path in found if not _BESIDE_WEIGHTS.match(path.name)]
    one = found[:1] if found and set(found) == set(weight_parts(found[0])) else found
    if len(one) == 1:
        return one[0]
    names = ", ".join(path.name for path in found[:5])
    if found:
        raise WeightsError(f"{weights}: holds {len(found)} files of weights ({names}). Give one of them.")
    if next(folder.glob("*.distcp"), None) is not None:
        raise WeightsError(
            f"{weights}: is a distributed checkpoint of torch. Make one file of it, and adopt that: python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {weights} weights.pth"
        )
    below = islice(chain(folder.glob("*/*"), folder.glob("*/*/*")), 10_000)
    inside = sorted(path.relative_to(folder).as_posix() for path in below if path.suffix in suffixes)
    if inside:
        raise WeightsError(f"{weights}: holds no weights itself. Give one of those below it: {', '.join(inside[:5])}.")
    raise WeightsError(f"{weights}: holds no weights. Give a file, or a folder with {WEIGHTS_FILE}.")


_BESIDE_WEIGHTS = re.compile(
    r"(optimizer|optim|scheduler|scaler|sampler|rng_state|random_states|training_args)\b|.*optim\b"
)
"""Names of files that trainers write beside weights."""


@dataclass(frozen=True)
class TransformersFolder:
    """What a folder that transformers wrote says of its network.

    Attributes:
        names: Names of its classes in the order of its outputs.
        mean: Mean of each band that inputs are normalised by, as shares of full scale; empty where it is not said.
        std: Deviation likewise.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def read_transformers(folder: Path) -> TransformersFolder | None:
    """Read the configuration of a folder that transformers wrote; ``None`` where it is of another library."""
    content = _json_object(folder / CONFIG_FILE)
    if "model_type" not in content:
        return None
    labels = content.get("id2label")
    labels = labels if isinstance(labels, dict) and labels else {"0": "LABEL_0", "1": "LABEL_1"}  # its default
    names = tuple(str(labels[key]) for key in sorted(labels, key=lambda key: int(re.sub(r"\D", "", key) or 0)))
    inputs = _json_object(folder / "preprocessor_config.json")
    mean, std = (inputs.get(key) for key in ("image_mean", "image_std"))
    if not inputs.get("do_normalize", True) or not (isinstance(mean, list) and isinstance(std, list)):
        return TransformersFolder(names)
    return TransformersFolder(names, tuple(map(float, mean)), tuple(map(float, std)))


def _json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is none."""
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def fit_transformers(network: nn.Module, tensors: StateDict, *, source: str) -> StateDict:
    """Return the state of a network of transformers from tensors under published names, which its versions rename.

    Raises:
        WeightsError: A tensor is missing or has another shape.
    """
    base = getattr(network, "base_model_prefix", "") or "backbone"
    place = next((match[1] or "" for name in tensors if (match := re.match(rf"(.*?\.)??{base}\.", name))), "")
    state = {name.removeprefix(place): tensor for name, tensor in tensors.items() if name.startswith(place)}
    kind: Any = type(network)
    fitted, told = kind.from_pretrained(
        None, config=network.config, state_dict=state, output_loading_info=True, ignore_mismatched_sizes=True
    )
    for what, problem in (("missing_keys", "lacks"), ("mismatched_keys", "has another shape of")):
        if told[what]:
            first = min(key if isinstance(key, str) else key[0] for key in told[what])
            raise WeightsError(
                f"{source}: {problem} {first}, which the network needs. Give weights of this very network."
            )
    return dict(fitted.state_dict())


def _as_json(value: JsonValue) -> JsonValue:
    return list(value) if isinstance(value, tuple) else value


def _load_network(folder: Path, config: Mapping[str, Any]) -> tuple[nn.Module, int]:
    """Load the network of a folder in evaluation mode, and return its number of outputs."""
    activation, n = config.get("activation"), int(config["classes"])
    if activation not in ACTIVATIONS:
        raise ModelError(f"{folder}: has the activation {activation!r}. Save it with activation=None.")
    network = _build(folder, {**config, "encoder_weights": None, "aux_params": None, "activation": None})
    expected = network.state_dict()
    given = renamed_state(read_state(folder), expected)
    extra = [name for name in given if name not in expected and not name.startswith("classification_head.")]
    state = fit_state(given, expected, source=str(folder), part="network")
    if extra:
        raise WeightsError(
            f"{folder}: {extra[0]} has no place in the network of its {CONFIG_FILE}. Give weights of this very network."
        )
    network.load_state_dict(state)
    if activation == "sigmoid" and n > 1:
        raise ModelError(f"{folder}: {n} outputs after a sigmoid do not exclude each other. Give one with a softmax.")
    # A softmax over (0, x) is the sigmoid of x.
    return (network if n > 1 else TwoClasses(network)).eval(), max(2, n)


def _read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration and check its types."""
    path = folder / CONFIG_FILE
    try:
        config: dict[str, Any] = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: unreadable ({first_line(error)}). Save the model with save_pretrained.") from error
    for key, kind in (("_model_class", str), ("encoder_name", str), ("in_channels", int), ("classes", int)):
        if not isinstance(config, dict) or not isinstance(config.get(key), kind):
            raise ModelError(f"{path}: lacks {key!r}, expected {kind.__name__}. Save the model with save_pretrained.")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", config["encoder_name"]):  # timm would fetch a name with a colon
        raise ModelError(f"{path}: {config['encoder_name']!r} is not an encoder's name. Save the model with its own.")
    if not (1 <= config["classes"] <= 255 and 1 <= config["in_channels"] <= 1024):
        raise ModelError(
            f"{path}: {config['classes']} classes of {config['in_channels']} bands, expected 1 to 255 and 1 to 1024. "
            "Save the model with save_pretrained."
        )
    return config


_MAKERS = {maker.__name__: (arch, maker) for arch, maker in smp.MODEL_ARCHITECTURES_MAPPING.items()}
"""Class name in a configuration -> architecture and class."""


def _build(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """Build the network that a configuration describes; only the architecture's own parameters are taken."""
    name = config["_model_class"]
    if name not in _MAKERS:
        raise ModelError(f"{folder}: {name!r} is not an architecture. Known: {', '.join(sorted(_MAKERS))}.")
    maker = _MAKERS[name][1]
    known = set(inspect.signature(maker.__init__).parameters) - {"self", "kwargs"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's advice to its own users
            given = {key: value for key, value in config.items() if key in known}
            network: nn.Module = maker(**encoder_options(_MAKERS[name][0], str(config["encoder_name"])), **given)
    except Exception as error:
        # The library raises KeyError, ValueError, TypeError or RuntimeError for values that do not go together.
        raise ModelError(f"{folder}: its network cannot be built ({first_line(error)}). Save it anew.") from error
    return network
