"""Networks in OpenVINO, on the CPU: ONNX files, files of its own form (IR, ``.xml``), and torch networks.

In bfloat16 where the processor multiplies it, it takes half of torch's or onnxruntime's time. Whether it says the same
as they do is measured on tiles of the input before it is used (:mod:`levelground.inference.parity`).
"""

import contextlib
import dataclasses
import importlib.util
import math
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from levelground import __version__
from levelground.config import TileOptions
from levelground.errors import LevelgroundError, ModelError, WeightsError, first_line
from levelground.files import writing
from levelground.imagery.cache import default_cache_folder
from levelground.models.model import Model, Overrides, described_model
from levelground.models.onnx_backend import (
    PROBE_TILE,
    Dimension,
    Program,
    RunBatch,
    open_onnx,
    parse_onnx,
    program_model,
    read_input,
    weights_digest,
)
from levelground.models.spec import SPEC_KEY, ModelSpec, is_own, model_file, read_model_spec, run_geometry
from levelground.records import sha256_json, sha256_stamped, verify_file
from levelground.runs import Run, read_run

if TYPE_CHECKING:
    from torch import nn

    from levelground.runtime import Runtime

_TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)", "f64": "tensor(double)", "u8": "tensor(uint8)"}
"""OpenVINO's names of types of input, in onnxruntime's."""

_ONNX_METADATA = "framework"
"""Where OpenVINO puts the texts that an ONNX file has beside its network."""

_HASH_FILE = "sha256"
_MAX_DIFFERENCE = 1e-3
"""Largest difference of a probability between a network and its conversion that is kept; rounding gives 1e-5."""

_ROUNDED_SHARE = 0.75
"""Share of a network's multiplications that are done in bfloat16, in its largest layers. The others lie in many small
layers, most of them early, whose rounding is carried through all that follow: a tenth of the rounding is left where they
are in float32, for a quarter of the time."""

_MOST_SHAPES = 4
"""Shapes of tiles that a torch network is converted for; each takes seconds."""


def has_openvino() -> bool:
    """Tell whether OpenVINO is installed, without loading it."""
    return importlib.util.find_spec("openvino") is not None


def missing_openvino(what: str) -> ModelError:
    """Make the error that names the missing library and the extra that brings it."""
    return ModelError(f"{what}: OpenVINO, which runs it, is not installed. pip install 'levelground[deploy]'")


def open_openvino(path: Path, runtime: "Runtime", overrides: Overrides) -> Model:
    """Load an ONNX file or a file of OpenVINO's own form.

    Args:
        path: ``.onnx``, or ``.xml`` with its ``.bin`` beside it.
        runtime: Threads and precision.
        overrides: What the user gives for a file without a specification.
    Returns:
        The model, with the same in onnxruntime, or else in float32, as its reference; without one in float32.
    Raises:
        ModelError: OpenVINO is missing, or the file is not a segmentation network of one image.
        WeightsError: The file is damaged, or names weights outside its folder.
        ConfigError: The overrides do not fit.
    """
    verify_file(path, "Export the model anew.")
    if path.suffix.lower() == ".onnx":
        weights = weights_digest(path)
    else:
        verify_file(path.with_suffix(".bin"), "Export the model anew.")
        weights = _ir_digest(path)
    model = program_model(path, openvino_program(path, runtime), weights, overrides, engine="openvino")
    return dataclasses.replace(model, reference=_reference_of(path, runtime, overrides))


def _ir_digest(path: Path) -> str:
    """Hash a file of OpenVINO's own form with its weights.

    Raises:
        WeightsError: One of the two is not there.
    """
    for file in (path, path.with_suffix(".bin")):
        if not file.is_file():
            raise WeightsError(f"{file}: is missing; a network of OpenVINO is two files, .xml and .bin. Copy both.")
    return sha256_json([sha256_stamped(path), sha256_stamped(path.with_suffix(".bin"))])


def _reference_of(path: Path, runtime: "Runtime", overrides: Overrides) -> Callable[[], Model] | None:
    """Return what opens the same file where its outputs are taken as right."""
    if path.suffix.lower() == ".onnx" and importlib.util.find_spec("onnxruntime") is not None:
        return lambda: open_onnx(path, runtime, overrides)
    if runtime.precision == "fp32":
        return None
    single = dataclasses.replace(runtime, precision="fp32")
    return lambda: open_openvino(path, single, overrides)


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
    folder = _conversions_folder(weights, spec.to_json(), run.card.outputs)
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
    versions = [version("openvino"), version("segmentation_models_pytorch"), __version__]
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
        return path.with_name(_HASH_FILE).read_text(encoding="ascii") == _ir_digest(path)
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
            (made / _HASH_FILE).write_text(_ir_digest(made / path.name), encoding="ascii")
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


def openvino_program(path: Path, runtime: "Runtime") -> Program:
    """Open an ONNX file or one of OpenVINO's own form.

    Raises:
        ModelError: OpenVINO is missing, or the file does not take one image.
        WeightsError: OpenVINO cannot load it.
    """
    graph = read_graph(path)
    own = [SPEC_KEY] if path.suffix.lower() == ".xml" else [_ONNX_METADATA, SPEC_KEY]
    metadata = {SPEC_KEY: str(graph.get_rt_info(own).value)} if graph.has_rt_info(own) else _texts(graph)
    inputs = [(_TYPES.get(_type_of(one), _type_of(one)), _sides(one)) for one in graph.inputs]
    input_spec = read_input(path, inputs)
    if runtime.precision == "bf16":
        graph = rounding_large_layers(graph, input_spec.tile or PROBE_TILE)
    return Program(
        run=compiled(graph, runtime, str(path)),
        input_spec=input_spec,
        output_shape=_sides(graph.outputs[0]),
        metadata=metadata,
    )


def _texts(graph: Any) -> dict[str, str]:
    """Return the texts that an ONNX file has beside its network; none of OpenVINO's own form."""
    if not graph.has_rt_info([_ONNX_METADATA]):
        return {}
    return {str(key): str(text) for key, text in graph.get_rt_info([_ONNX_METADATA]).value.items()}


def read_graph(path: Path) -> Any:
    """Read a file as a graph of OpenVINO.

    Raises:
        ModelError: OpenVINO is missing.
        WeightsError: OpenVINO cannot load it.
    """
    if not has_openvino():
        raise missing_openvino(str(path))
    import openvino

    try:
        return openvino.Core().read_model(str(path))
    except Exception as error:  # a damaged file, an unknown operator, a newer format
        if path.suffix.lower() == ".onnx":
            parse_onnx(path)
        raise WeightsError(f"{path}: OpenVINO cannot load it ({first_line(error)}). Export it anew.") from error


def rounding_large_layers(graph: Any, tile: int) -> Any:
    """Return a graph that computes in bfloat16, where that is asked for, in its largest layers only.

    They hold three quarters of its multiplications. OpenVINO lets single layers keep their precision by an attribute
    in its own files, so the graph takes the way through one.

    Args:
        graph: The graph; one of 8-bit numbers is returned as it is.
        tile: Side of the tiles that work is reckoned for where the graph takes any.
    """
    import openvino

    large = _large_layers(graph, tile)
    if not large:
        return graph
    with contextlib.suppress(OSError, RuntimeError), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(graph, str(path), compress_to_fp16=False)
        network = ElementTree.parse(path).getroot()  # noqa: S314 - written above
        for layer in network.iter("layer"):
            if layer.get("type") not in ("Const", "Parameter", "Result") and layer.get("name") not in large:
                _keep_precision(layer)
        weights = path.with_suffix(".bin").read_bytes()
        return openvino.Core().read_model(ElementTree.tostring(network), weights)
    return graph


def _keep_precision(layer: ElementTree.Element) -> None:
    """Mark a layer of a file of OpenVINO as one that is computed in the precision that it is written in."""
    info = layer.find("rt_info")
    if info is None:
        info = ElementTree.Element("rt_info")
        place = [child.tag in ("input", "output") for child in layer]
        layer.insert(place.index(True) if True in place else len(place), info)
    ElementTree.SubElement(info, "attribute", name="precise", version="0")


def _large_layers(graph: Any, tile: int) -> set[str]:
    """Return the names of the fewest layers that hold most of a graph's multiplications; of 8-bit graphs, none."""
    work: dict[str, int] = {}
    try:
        if any(side.is_dynamic for side in list(graph.inputs[0].get_partial_shape())[1:]):
            graph, sides = graph.clone(), list(graph.inputs[0].get_partial_shape())
            graph.reshape([side if side.is_static else tile if place else 1 for place, side in enumerate(sides)])
        for node in graph.get_ordered_ops():
            if node.get_type_name() == "FakeQuantize":
                return set()
            work[node.get_friendly_name()] = _multiplications(node)
    except RuntimeError:  # shapes that cannot be known beforehand
        return set()
    rest = (1 - _ROUNDED_SHARE) * sum(work.values())
    large, left = set[str](), sum(work.values())
    for name in sorted(work, key=lambda name: -work[name]):
        if left <= rest:
            break
        large.add(name)
        left -= work[name]
    return large


def _multiplications(node: Any) -> int:
    """Count the multiplications of a layer for one tile, as far as it multiplies weights."""
    kind = node.get_type_name()
    if kind == "MatMul":
        sides = [side.get_length() for side in node.input(0).get_partial_shape()]
        depth = sides[-2 if node.get_attributes().get("transpose_a") else -1]
        return depth * math.prod(side.get_length() for side in list(node.output(0).get_partial_shape())[1:])
    if kind not in ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData"):
        return 0
    places = node.input(0) if "Backprop" in kind else node.output(0)
    weights = math.prod(side.get_length() for side in node.input(1).get_partial_shape())
    return weights * math.prod(side.get_length() for side in list(places.get_partial_shape())[2:])


def save_openvino(graph: Any, path: Path, spec: ModelSpec) -> None:
    """Write a graph in OpenVINO's own form, ``.xml`` and ``.bin``, with a model's specification inside.

    Raises:
        DiskError: It cannot be written.
    """
    import openvino

    graph.set_rt_info(spec.to_json(), [SPEC_KEY])
    with writing(path):
        openvino.save_model(graph, str(path), compress_to_fp16=False)


def _type_of(port: Any) -> str:
    return str(port.get_element_type().get_type_name())


def _sides(port: Any) -> list[Dimension]:
    """Return the shape of an input or output, ``None`` where any size will do."""
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    return [side.get_length() if side.is_static else None for side in shape]


def compiled(graph: Any, runtime: "Runtime", source: str) -> RunBatch:
    """Compile a graph for this processor, and return a function that runs one batch through it.

    Args:
        graph: The graph.
        runtime: Threads and precision.
        source: What to name in errors.
    Raises:
        ModelError: Its first output holds no real numbers, or a tile cannot be run.
        WeightsError: It cannot be compiled.
    """
    import openvino

    kind = _type_of(graph.outputs[0])
    if kind not in ("f32", "f16", "bf16", "f64"):
        raise ModelError(f"{source}: gives {kind}, expected probabilities or logits. Export it without the argmax.")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if runtime.precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": runtime.threads,
        "NUM_STREAMS": runtime.streams,
    }
    try:
        network = openvino.Core().compile_model(graph, "CPU", settings)
    except Exception as error:  # its errors share no class
        raise WeightsError(f"{source}: OpenVINO cannot compile it ({first_line(error)}). Export it anew.") from error

    own = threading.local()

    def run(batch: NDArray[np.generic]) -> NDArray[np.float32]:
        try:
            if not hasattr(own, "request"):
                own.request = network.create_infer_request()
            found = own.request.infer([batch], share_inputs=True)[0]
        except Exception as error:  # as above: whatever it says, this network cannot run this tile
            raise ModelError(
                f"{source}: cannot run a tile of {batch.shape} ({first_line(error)}). Give another --tile."
            ) from error
        return np.asarray(found, np.float32)

    return run
