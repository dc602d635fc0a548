"""Networks in OpenVINO, on the CPU: ONNX files, files of its own form (IR, ``.xml``), and torch networks.

In bfloat16 where the processor multiplies it, it takes half of torch's or onnxruntime's time. Whether it says the same
as they do is measured on tiles of the input before it is used (:mod:`levelground.inference.parity`).
"""

import contextlib
import dataclasses
import importlib.util
import shutil
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from levelground import __version__
from levelground.errors import ModelError, WeightsError, first_line
from levelground.files import writing
from levelground.imagery.cache import default_cache_folder
from levelground.models.model import Model, Overrides, described_model
from levelground.models.onnx_backend import (
    Dimension,
    Program,
    RunBatch,
    open_onnx,
    parse_onnx,
    program_model,
    read_input,
    weights_digest,
)
from levelground.models.spec import SPEC_KEY, ModelSpec
from levelground.records import sha256_file, sha256_json, verify_file

if TYPE_CHECKING:
    from torch import nn

    from levelground.runtime import Runtime

_TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)", "f64": "tensor(double)", "u8": "tensor(uint8)"}
"""OpenVINO's names of types of input, in onnxruntime's."""

_HASH_FILE = "sha256"
_MAX_DIFFERENCE = 1e-3
"""Largest difference of a probability between a network and its conversion that is kept; rounding gives 1e-5."""

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
        weights = weights_digest(path, parse_onnx(path))
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
    return sha256_json([sha256_file(path), sha256_file(path.with_suffix(".bin"))])


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


def open_converted(
    spec: ModelSpec, weights_sha256: str, load: "Callable[[], nn.Module]", runtime: "Runtime", kept: Path
) -> Model:
    """Return a model whose network was converted before, without torch.

    Args:
        spec: The model's specification.
        weights_sha256: Hash of its weights.
        load: Loads its torch network, for tiles of a size that it was not converted for.
        runtime: Threads and precision.
        kept: Folder with the conversions; each agreed with the network in float32 when it was made.
    Returns:
        The model; in bfloat16 its reference is the same in float32.
    """

    def make(runtime: "Runtime") -> Model:
        return described_model(spec, ConvertedNetwork(load, runtime, kept), weights_sha256, engine="openvino")

    model = make(runtime)
    if runtime.precision == "fp32":
        return model
    return dataclasses.replace(model, reference=lambda: make(dataclasses.replace(runtime, precision="fp32")))


def conversions_folder(*network: object) -> Path:
    """Return the folder in the cache for the conversions of a network.

    Args:
        network: All that decides what it computes, beside the versions that convert and run it.
    """
    versions = [version("openvino"), version("segmentation_models_pytorch"), __version__]
    return default_cache_folder() / "openvino" / sha256_json([*network, *versions])[:32]


def conversion(kept: Path, shape: tuple[int, ...]) -> Path:
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

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(N, C, H, W)`` to ``(N, K, H, W)``.

        Raises:
            ModelError: OpenVINO cannot convert the network, or cannot run it.
        """
        shape = image.shape[1:]
        if shape not in self._compiled:
            if len(self._compiled) == _MOST_SHAPES:
                self._compiled.clear()
            self._compiled[shape] = compiled(self._graph(image), self._runtime, "the converted network")
        return self._compiled[shape](np.ascontiguousarray(image))

    def _graph(self, image: NDArray[np.float32]) -> Any:
        """Read or make the graph for tiles of this shape; it is kept where it says the same as the network."""
        path = None if self._kept is None else conversion(self._kept, image.shape[1:])
        if path is not None and _is_whole(path):
            return read_graph(path)
        network = self._load()
        graph = convert_network(network, image.shape[1:])
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
    if path.suffix.lower() == ".onnx":
        metadata = {one.key: one.value for one in parse_onnx(path).metadata_props}
    else:
        known = graph.has_rt_info([SPEC_KEY])
        metadata = {SPEC_KEY: str(graph.get_rt_info([SPEC_KEY]).value)} if known else {}
    inputs = [(_TYPES.get(_type_of(one), _type_of(one)), _sides(one)) for one in graph.inputs]
    return Program(
        run=compiled(graph, runtime, str(path)),
        input_spec=read_input(path, inputs),
        output_shape=_sides(graph.outputs[0]),
        metadata=metadata,
    )


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
        raise WeightsError(f"{path}: OpenVINO cannot load it ({first_line(error)}). Export it anew.") from error


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
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        network = openvino.Core().compile_model(graph, "CPU", settings)
    except Exception as error:  # its errors share no class
        raise WeightsError(f"{source}: OpenVINO cannot compile it ({first_line(error)}). Export it anew.") from error

    def run(batch: NDArray[np.generic]) -> NDArray[np.float32]:
        try:
            found = network([batch])[0]
        except Exception as error:  # as above: whatever it says, this network cannot run this tile
            raise ModelError(
                f"{source}: cannot run a tile of {batch.shape} ({first_line(error)}). Give another --tile."
            ) from error
        return np.asarray(found, np.float32)

    return run
