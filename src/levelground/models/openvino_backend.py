"""Networks in OpenVINO, on the CPU: ONNX files, files of its own form (IR, ``.xml``), and torch networks.

In bfloat16 where the processor multiplies it, it takes half of torch's or onnxruntime's time. Whether it says the same
as they do is measured on tiles of the input before it is used (:mod:`levelground.inference.parity`).
"""

import contextlib
import dataclasses
import importlib.util
import math
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from levelground.errors import ModelError, WeightsError, first_line
from levelground.files import writing
from levelground.models.model import Model, Overrides
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
from levelground.models.spec import SPEC_KEY, ModelSpec
from levelground.records import sha256_json, sha256_stamped, verify_file

if TYPE_CHECKING:
    from levelground.runtime import Runtime

_TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)", "f64": "tensor(double)", "u8": "tensor(uint8)"}
"""OpenVINO's names of types of input, in onnxruntime's."""

_ONNX_METADATA = "framework"
"""Where OpenVINO puts the texts that an ONNX file has beside its network."""

_ROUNDED_SHARE = 0.75
"""Share of a network's multiplications that are done in bfloat16, in its largest layers. The others lie in many small
layers, most of them early, whose rounding is carried through the rest: in float32 they take a quarter more time, and a
tenth of the differences is left."""

_first_run, _has_run = threading.Lock(), threading.Event()
"""The first run of a process is alone: OpenVINO's part in Python sets itself up in it, and of two threads that do so at
once each may wait for the other for ever."""


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
        weights = ir_digest(path)
    model = program_model(path, openvino_program(path, runtime), weights, overrides, engine="openvino")
    return dataclasses.replace(model, reference=_reference_of(path, runtime, overrides))


def ir_digest(path: Path) -> str:
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


def openvino_program(path: Path, runtime: "Runtime") -> Program:
    """Open an ONNX file or one of OpenVINO's own form.

    Raises:
        ModelError: OpenVINO is missing, or the file does not take one image.
        WeightsError: OpenVINO cannot load it.
    """
    try:
        return _program(path, read_graph(path), runtime)
    except UnicodeDecodeError as error:  # of any name or text that OpenVINO hands over
        raise WeightsError(f"{path}: holds names that are not UTF-8 ({error.reason}). Export it anew.") from error


def _program(path: Path, graph: Any, runtime: "Runtime") -> Program:
    """Return what runs a graph, with what its file says of it."""
    own = [SPEC_KEY] if path.suffix.lower() == ".xml" else [_ONNX_METADATA, SPEC_KEY]
    metadata = {SPEC_KEY: str(graph.get_rt_info(own).value)} if graph.has_rt_info(own) else _texts(graph)
    inputs = [(_TYPES.get(_type_of(one), _type_of(one)), _sides(one)) for one in graph.inputs]
    input_spec = read_input(path, inputs, n_outputs=len(graph.outputs))
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
        if path.suffix.lower() == ".onnx":
            _refuse_other_formats(path)
        return openvino.Core().read_model(str(path))
    except WeightsError:
        raise
    except Exception as error:  # a damaged file, an unknown operator, a newer format
        if path.suffix.lower() == ".onnx":
            parse_onnx(path)
        raise WeightsError(f"{path}: OpenVINO cannot load it ({_reason(error)}). Export it anew.") from error


def _refuse_other_formats(path: Path) -> None:
    """Refuse a file that is not ONNX before OpenVINO tries all its other readers, which write on stderr.

    Raises:
        WeightsError: It is not an ONNX file.
    """
    from openvino.frontend import FrontEndManager

    if not FrontEndManager().load_by_framework("onnx").supported(str(path)):
        parse_onnx(path)
        raise WeightsError(f"{path}: not an ONNX file (it holds no network). Give the file that was exported.")


_PLACES = ("Exception from ", "Check '", "FrontEnd API failed", "Loading input model", "Model wasn't", "-- ")
"""How lines begin that say where in OpenVINO something failed, not what is wrong with the file."""


def _reason(error: BaseException) -> str:
    """Return the first line of an error of OpenVINO that says what is wrong, without the place in its source."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(_PLACES)]
    told = re.split(r":? Check '", lines[0])[0] if lines else ""
    return told[:160].strip(" :.") or first_line(error)


def rounding_large_layers(graph: Any, tile: int) -> Any:
    """Return a graph that computes in bfloat16, where that is asked for, in its largest layers only.

    They hold three quarters of its multiplications. OpenVINO lets single layers keep their precision by an attribute
    in its own files, so the graph takes the way through one.

    Args:
        graph: The graph, which may be changed; one of 8-bit numbers is returned as it is.
        tile: Side of the tiles that work is reckoned for where the graph takes any.
    """
    import openvino

    if any(node.get_type_name() == "FakeQuantize" for node in graph.get_ordered_ops()):
        return graph
    _split_layers(graph)
    large = _large_layers(graph, tile)
    if not large:
        return graph
    unwritten = (OSError, RuntimeError, ElementTree.ParseError)  # names that XML cannot hold are the last
    with contextlib.suppress(*unwritten), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(graph, str(path), compress_to_fp16=False)
        network = ElementTree.parse(path).getroot()  # noqa: S314 - written above
        for layer in network.iter("layer"):
            if layer.get("type") not in ("Const", "Parameter", "Result") and layer.get("name") not in large:
                _keep_precision(layer)
        weights = path.with_suffix(".bin").read_bytes()
        return openvino.Core().read_model(ElementTree.tostring(network), weights)
    return graph


def _split_layers(graph: Any) -> None:
    """Fold and split layers as OpenVINO does when it compiles: what it makes then loses what keeps it in float32."""
    with contextlib.suppress(ImportError):  # where a version of it does not have this, more is rounded
        from openvino._offline_transformations import apply_moc_transformations

        apply_moc_transformations(graph, cf=True)
    _split_group_norms(graph)


def _split_group_norms(graph: Any) -> None:
    """Replace group normalisations by the layers that OpenVINO makes of them later, which would not stay in float32."""
    import openvino.opset13 as ops
    from openvino.utils import replace_node

    for node in graph.get_ordered_ops():
        if node.get_type_name() != "GroupNormalization":
            continue
        shape = list(node.get_output_partial_shape(0))[1:]
        if any(side.is_dynamic for side in shape):
            continue
        asked, sides = node.get_attributes(), [side.get_length() for side in shape]
        values, scale, shift = (node.input_value(place) for place in range(3))
        grouped = ops.reshape(values, [0, asked["num_groups"], -1], special_zero=True)
        normal = ops.mvn(grouped, [2], True, asked["epsilon"], "inside_sqrt")
        whole = ops.reshape(normal, [0, *sides], special_zero=True)
        wide = [1, sides[0], *(1 for _ in sides[1:])]
        factor, offset = (ops.reshape(one, wide, special_zero=False) for one in (scale, shift))
        replace_node(node, ops.add(ops.multiply(whole, factor), offset))


def _keep_precision(layer: ElementTree.Element) -> None:
    """Mark a layer of a file of OpenVINO as one that is computed in the precision that it is written in."""
    info = layer.find("rt_info")
    if info is None:
        info = ElementTree.Element("rt_info")
        place = [child.tag in ("input", "output") for child in layer]
        layer.insert(place.index(True) if True in place else len(place), info)
    ElementTree.SubElement(info, "attribute", name="precise", version="0")


def _large_layers(graph: Any, tile: int) -> set[str]:
    """Return the names of the fewest layers that hold most of a graph's multiplications."""
    work: dict[str, int] = {}
    try:
        if any(side.is_dynamic for side in graph.inputs[0].get_partial_shape()):
            graph, sides = graph.clone(), list(graph.inputs[0].get_partial_shape())
            graph.reshape([side if side.is_static else tile if place else 1 for place, side in enumerate(sides)])
        for node in graph.get_ordered_ops():
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
        return int(depth * math.prod(side.get_length() for side in list(node.output(0).get_partial_shape())[1:]))
    if kind not in ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData"):
        return 0
    places = node.input(0) if "Backprop" in kind else node.output(0)
    weights = math.prod(side.get_length() for side in node.input(1).get_partial_shape())
    return int(weights * math.prod(side.get_length() for side in list(places.get_partial_shape())[2:]))


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
        raise WeightsError(f"{source}: OpenVINO cannot compile it ({_reason(error)}). Export it anew.") from error

    own = threading.local()

    def run(batch: NDArray[np.generic]) -> NDArray[np.float32]:
        try:
            with contextlib.nullcontext() if _has_run.is_set() else _first_run:
                if not hasattr(own, "request"):
                    own.request = network.create_infer_request()
                found = own.request.infer([batch], share_inputs=True)[0]
            _has_run.set()
        except Exception as error:  # as above: whatever it says, this network cannot run this tile
            raise ModelError(
                f"{source}: cannot run a tile of {batch.shape} ({_reason(error)}). Give another --tile."
            ) from error
        return np.asarray(found, np.float32)

    return run
