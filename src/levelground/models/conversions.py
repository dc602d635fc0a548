"""Torch networks in OpenVINO: converted for the tiles that come, compared with the network, and kept in the cache."""

import contextlib
import dataclasses
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from levelground import __version__
from levelground.config import TileOptions
from levelground.errors import LevelgroundError, ModelError, WeightsError, first_line
from levelground.imagery.cache import default_cache_folder
from levelground.models.model import Model, described_model
from levelground.models.onnx_backend import RunBatch
from levelground.models.openvino_backend import (
    compiled,
    has_openvino,
    ir_digest,
    missing_openvino,
    read_graph,
    rounding_large_layers,
)
from levelground.models.spec import ModelSpec, is_own, model_file, read_model_spec, run_geometry
from levelground.records import sha256_json, sha256_stamped
from levelground.runs import Run, read_run

if TYPE_CHECKING:
    from torch import nn

    from levelground.runtime import Runtime

_CONVERTING = 4
"""Raised where the same network is converted otherwise, so that earlier conversions are not used."""

_HASH_FILE = "sha256"
_CONFIG_FILE = "config.json"
"""Beside the weights; it has options of a network that none of its tensors shows."""

_MAX_DIFFERENCE = 1e-3
"""Largest difference of a probability between a network and its conversion that is kept; rounding gives 1e-5."""

_MOST_SHAPES = 4
"""Shapes of tiles that a torch network is converted for; each takes seconds."""


def in_openvino(model: Model, runtime: "Runtime", kept: Path | None = None) -> Model:
    """Return a model whose torch network is run by OpenVINO; the network itself is its reference.

    Args:
        model: The model, in torch.
        runtime: Threads and precision.
        kept: Folder in which the converted network is kept for the next time; ``None`` keeps it nowhere.
    Raises:
        ModelError: OpenVINO is missing.
    """
    if not has_openvino():
        raise missing_openvino("--engine openvino")
    forward = ConvertedNetwork(lambda: model.network, runtime, kept)
    return dataclasses.replace(model, forward=forward, engine="openvino", reference=lambda: model)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A run's network as OpenVINO takes it, in the cache, or the place where it will be kept."""

    run: Run
    spec: ModelSpec
    weights_sha256: str
    folder: Path
    """Holds the network converted for each shape of tiles; each agreed with it in float32 when it was made."""
    is_there: bool
    """Whether it was converted for the tiles that are asked for."""


def find_conversion(path: Path, tiles: TileOptions) -> Conversion | None:
    """Find a run's network as OpenVINO takes it; ``None`` where it cannot be kept.

    Networks of the user's own are converted anew each time: their code decides what they compute.

    Args:
        path: The folder of the run, or anything else, which has none.
        tiles: The tiles that are asked for.
    """
    try:
        run = read_run(path)
        spec, file = read_model_spec(run), model_file(run)
        weights = sha256_stamped(file)
    except (LevelgroundError, OSError):
        return None
    if file.suffix != ".safetensors" or is_own(spec.arch) or run.card.weights_sha256 not in (None, weights):
        return None
    config = run.model_folder / _CONFIG_FILE
    options = sha256_stamped(config) if config.exists() else None
    folder = _conversions_folder(weights, options, spec.to_json(), run.card.outputs)
    tile = run_geometry(run).tile if tiles.tile is None else tiles.tile
    is_there = not tiles.fit_tile and _converted_file(folder, (spec.bands, tile, tile)).exists()
    return Conversion(run, spec, weights, folder, is_there)


def open_converted(converted: Conversion, load: "Callable[[], nn.Module]", runtime: "Runtime") -> Model:
    """Return a model whose network was converted before, without torch.

    Args:
        converted: The conversion.
        load: Loads its torch network, for tiles of a size that it was not converted for.
        runtime: Threads and precision.
    Returns:
        The model; in bfloat16 its reference is the same in float32.
    """

    def make(runtime: "Runtime") -> Model:
        network = ConvertedNetwork(load, runtime, converted.folder)
        return described_model(converted.spec, network, converted.weights_sha256, engine="openvino")

    model = make(runtime)
    if runtime.precision == "fp32":
        return model
    return dataclasses.replace(model, reference=lambda: make(dataclasses.replace(runtime, precision="fp32")))


def _conversions_folder(*network: object) -> Path:
    """Return the folder in the cache for the conversions of a network.

    Args:
        network: All that decides what it computes, beside the versions that convert and run it.
    """
    versions = [version("openvino"), version("segmentation_models_pytorch"), __version__, _CONVERTING]
    return default_cache_folder() / "openvino" / sha256_json([*network, *versions])[:32]


def _converted_file(kept: Path, shape: tuple[int, ...]) -> Path:
    """Return the file of a network converted for tiles of one shape ``(C, H, W)``, which need not be there."""
    return kept / "x".join(map(str, shape)) / "model.xml"


class ConvertedNetwork:
    """A torch network that is converted to OpenVINO for each shape of tiles that comes, or was once.

    Sizes that a network computes while it is traced are constants afterwards, so no other shape is run through them.
    """

    def __init__(self, load: "Callable[[], nn.Module]", runtime: "Runtime", kept: Path | None = None) -> None:
        """Keep what loads the network, which is converted when the first tiles come, and the folder of conversions."""
        self._load, self._runtime, self._kept = load, runtime, kept
        self._compiled: dict[tuple[int, ...], RunBatch] = {}
        self._compiling = threading.Lock()

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(N, C, H, W)`` to ``(N, K, H, W)``.

        Raises:
            ModelError: OpenVINO cannot convert the network, or cannot run it.
        """
        shape = image.shape[1:]
        with self._compiling:
            if shape not in self._compiled:
                if len(self._compiled) == _MOST_SHAPES:
                    self._compiled.clear()
                self._compiled[shape] = compiled(self._graph(image), self._runtime, "the converted network")
            run = self._compiled[shape]
        return run(np.ascontiguousarray(image))

    def _graph(self, image: NDArray[np.float32]) -> Any:
        """Read or make the graph for tiles of this shape; it is kept where it says the same as the network."""
        path = None if self._kept is None else _converted_file(self._kept, image.shape[1:])
        if path is not None and _is_whole(path):
            return read_graph(path)
        network = self._load()
        graph = rounding_large_layers(convert_network(network, image.shape[1:]), image.shape[-1])
        if path is not None and _agrees(network, graph, image, self._runtime):
            _keep(graph, path)
        return graph


def _is_whole(path: Path) -> bool:
    """Tell whether a kept graph is there and as it was written."""
    try:
        return path.with_name(_HASH_FILE).read_text(encoding="ascii") == ir_digest(path)
    except (OSError, ValueError, WeightsError):
        return False


def _keep(graph: Any, path: Path) -> None:
    """Write a graph into the cache; a full or foreign disk takes nothing but the time of the next call."""
    import openvino

    folder = path.parent
    with contextlib.suppress(OSError, RuntimeError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            made = Path(temporary) / folder.name
            made.mkdir()
            openvino.save_model(graph, str(made / path.name), compress_to_fp16=False)
            (made / _HASH_FILE).write_text(ir_digest(made / path.name), encoding="ascii")
            if folder.exists() and not _is_whole(path):
                shutil.rmtree(folder)
            made.rename(folder)  # refused where another process was first


def _agrees(network: "nn.Module", graph: Any, image: NDArray[np.float32], runtime: "Runtime") -> bool:
    """Tell whether a graph gives the probabilities of the network it was made of, both in float32."""
    import torch

    with torch.inference_mode():
        expected = network(torch.from_numpy(np.ascontiguousarray(image))).float().softmax(1).numpy()
    run = compiled(graph, dataclasses.replace(runtime, precision="fp32"), "the converted network")
    found = torch.from_numpy(run(np.ascontiguousarray(image))).softmax(1).numpy()
    return bool(np.abs(found - expected).max() <= _MAX_DIFFERENCE)


def convert_network(network: "nn.Module", shape: tuple[int, ...]) -> Any:
    """Convert a torch network in evaluation mode to a graph of OpenVINO for any number of tiles of one shape.

    Raises:
        ModelError: OpenVINO cannot follow its code.
    """
    import openvino
    import torch

    example = torch.zeros(2, *shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's tracer names each size that becomes a constant
            graph = openvino.convert_model(network, example_input=example)
        graph.reshape([-1, *shape])
    except Exception as error:  # its errors share no class; networks whose code it cannot follow are many
        raise ModelError(f"OpenVINO cannot convert the network ({first_line(error)}).") from error
    return graph
