"""ONNX files, ours or other tools', as models: run by onnxruntime, on the CPU or a CUDA device.

The input and output of an unknown file are detected from its shapes and from a run over noise: bands first or last,
tiles of one size or of any, probabilities or logits.
"""

import ast
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from levelground.console import say
from levelground.errors import ModelError, WeightsError, first_line
from levelground.models.model import (
    EXTERNAL_GEOMETRY,
    ArrayForward,
    Engine,
    Model,
    Overrides,
    check_shape,
    described_model,
    external_digest,
)
from levelground.models.spec import SPEC_KEY, ModelSpec, full_scale, parse_spec
from levelground.reading import holds_bytes, parse_json
from levelground.records import sha256_json, sha256_stamped, verify_file

if TYPE_CHECKING:
    import onnx

    from levelground.runtime import Runtime

Layout = Literal["NCHW", "NHWC"]
RunBatch = Callable[[NDArray[np.generic]], NDArray[np.float32]]  # one batch in the file's layout -> its first output
Dimension = int | str | None  # a dimension of an ONNX shape: a number, or a name where any will do

Activation = Literal["probabilities", "shares", "logits"]
"""Kind of outputs: adding up to 1; each in 0 to 1 on its own, as after a sigmoid; any number."""

INPUT_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
"""Types of input that can be given, by onnxruntime's names."""

MOST_BANDS = 32
"""A last dimension up to this, after larger ones, is taken for bands."""

PROBE_TILE = 256
"""Dimension of the noise tile that a file of any tile size is run with, px."""


@dataclass(frozen=True)
class InputSpec:
    """Input of a file: layout, type and sizes; ``None`` takes any."""

    layout: Layout
    kind: type[np.generic]
    bands: int
    tile: int | None
    batch: int | None


def open_onnx(path: Path, runtime: "Runtime", overrides: Overrides) -> Model:
    """Load an ONNX file with its own specification, or with one made of its shapes, a run over noise and the overrides.

    Args:
        path: The file; weights beside it are read where they lie in its folder or below.
        runtime: Threads, and whether to run on CUDA.
        overrides: What the user gives for a file without a specification.
    Raises:
        ModelError: onnxruntime is missing, or the file is not a segmentation network of one image.
        WeightsError: The file is damaged, or names weights outside its folder.
        ConfigError: The overrides do not fit.
    """
    verify_file(path, "Export the model anew.")
    weights = weights_digest(path)
    return program_model(path, onnx_program(path, runtime), weights, overrides, engine="onnx")


@dataclass(frozen=True)
class Program:
    """A network in a file, opened by some engine: how to run a batch, and what its header says."""

    run: RunBatch
    input_spec: InputSpec
    output_shape: list[Dimension]
    metadata: Mapping[str, str]


def onnx_program(path: Path, runtime: "Runtime") -> Program:
    """Open a file with onnxruntime.

    Raises:
        ModelError: onnxruntime is missing, or the file does not take one image.
        WeightsError: onnxruntime cannot load it.
    """
    session = _session(path, runtime)
    try:
        inputs = [(str(one.type), list(one.shape)) for one in session.get_inputs()]
        return Program(
            input_spec=read_input(path, inputs, n_outputs=len(session.get_outputs())),
            run=_runner(path, session),
            output_shape=list(session.get_outputs()[0].shape),
            metadata=dict(session.get_modelmeta().custom_metadata_map),
        )
    except UnicodeDecodeError as error:  # of any name or text that onnxruntime hands over
        raise WeightsError(f"{path}: holds names that are not UTF-8 ({error.reason}). Export it anew.") from error


def weights_digest(path: Path) -> str:
    """Hash a file with the weights that lie beside it.

    Raises:
        WeightsError: It names weights outside its folder, or cannot be read.
    """
    try:
        named = holds_bytes(path, b"location")  # the key of entries that name weights beside it
    except OSError:
        named = True  # what is wrong is said where it is parsed
    beside = external_files(parse_onnx(path), path) if named else []
    return sha256_json([sha256_stamped(file) for file in (path, *beside)])


def program_model(path: Path, program: Program, weights: str, overrides: Overrides, *, engine: Engine) -> Model:
    """Make a model of an opened file, with its own specification or with one made of its shapes and a run over noise.

    Args:
        path: The file, for messages.
        program: The opened file.
        weights: Hash of the file with its weights.
        overrides: What the user gives for a file without a specification.
        engine: What runs it.
    Raises:
        ModelError: It is not a segmentation network of one image.
        ConfigError: The overrides do not fit.
    """
    input_spec, metadata = program.input_spec, program.metadata
    if SPEC_KEY in metadata:
        overrides.refuse(path)
        own = parse_spec(metadata[SPEC_KEY], source=str(path))
        layout, activation, n = _known_output(program.output_shape) or probe(path, program.run, input_spec)
        check_shape(own, input_spec.bands, max(2, n), path)
        forward = array_forward(program.run, input_spec, layout, activation)
        spec = exported_spec(own, input_spec.tile, input_spec.batch)
        return described_model(spec, forward, weights, activated=True, engine=engine)
    layout, activation, n = probe(path, program.run, input_spec)
    spec, rescale = _external_spec(path, input_spec, max(2, n), metadata, overrides)
    forward, digest = array_forward(program.run, input_spec, layout, activation), external_digest(weights, spec)
    return Model(spec, forward, activation != "logits", digest, rescale=rescale, engine=engine)


def _known_output(shape: Sequence[Dimension]) -> "tuple[Layout, Activation, int] | None":
    """Return what is known of the output of a file that we wrote; ``None`` where its shape does not say it."""
    if len(shape) != 4 or not isinstance(shape[1], int) or shape[1] < 2:
        return None
    return "NCHW", "probabilities", shape[1]


def exported_spec(spec: ModelSpec, tile: int | None, batch: int | None) -> ModelSpec:
    """Return the specification of a file that we wrote: it normalises inside, and takes values 0 to 1.

    Args:
        spec: The specification that the file brings.
        tile: The one size of tiles that it takes; ``None`` any.
        batch: The one number of tiles that it takes; ``None`` any.
    """
    return dataclasses.replace(
        spec,
        mean=(0.0,) * spec.bands,
        std=(full_scale(spec.dtype),) * spec.bands,
        geometry=spec.geometry if tile is None else spec.geometry.resized(tile),
        fixed_tile=tile is not None,
        max_batch=batch,
    )


def _external_spec(
    path: Path, input_spec: InputSpec, n_outputs: int, metadata: Mapping[str, str], overrides: Overrides
) -> tuple[ModelSpec, bool]:
    """Make the specification of a file without one, and tell whether its normalisation is a guess."""
    legend, outputs = overrides.classes(n_outputs, class_names(metadata, path), path)
    given = overrides.normalisation(input_spec.bands, path)
    full = 1.0 if input_spec.kind is np.uint8 else 255.0  # one that takes bytes scales them itself
    mean, std = given or ((0.0,) * input_spec.bands, (full,) * input_spec.bands)
    spec = ModelSpec(
        name=path.name,
        arch="unknown",
        encoder="unknown",
        legend=legend,
        outputs=outputs,
        mean=mean,
        std=std,
        dtype=None,
        gsd_m=_resolution_m(metadata),
        geometry=EXTERNAL_GEOMETRY.resized(input_spec.tile or EXTERNAL_GEOMETRY.tile),
        fixed_tile=input_spec.tile is not None,
        max_batch=input_spec.batch,
    )
    return spec, given is None and input_spec.kind is not np.uint8


def class_names(metadata: Mapping[str, str], source: Path) -> dict[int, str] | None:
    """Read class names as Deepness and others write them: JSON, or a Python dictionary in text."""
    text = metadata.get("class_names") or metadata.get("names")
    if not text:
        return None
    try:
        try:
            content = parse_json(text)
        except ValueError:
            content = ast.literal_eval(text)
        content = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else content
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        return {int(key): str(value) for key, value in pairs}
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        say("%(name)s: its class names cannot be read; they are numbers. Pass --legend to name them.", name=source.name)
        return {}


def _resolution_m(metadata: Mapping[str, str]) -> float | None:
    """Read metres a pixel from ``resolution`` in centimetres, as Deepness and geodeep write it."""
    try:
        value = float(metadata["resolution"])
    except (KeyError, ValueError):
        return None
    return value / 100 if 0 < value < 1e6 else None


def parse_onnx(path: Path) -> "onnx.ModelProto":
    """Read a file without the weights that lie beside it.

    Raises:
        ModelError: The library is missing.
        WeightsError: It is not an ONNX file.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing_runtime(path) from error
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError) as error:
        raise WeightsError(
            f"{path}: not an ONNX file ({first_line(error)}). Give the file that was exported."
        ) from error


def missing_runtime(path: Path) -> ModelError:
    """Make the error that names the missing library and the extra that brings it."""
    return ModelError(f"{path}: onnxruntime, which runs it, is not installed. pip install 'levelground[export]'")


def external_files(model: "onnx.ModelProto", path: Path) -> list[Path]:
    """List the files beside a model that hold its weights.

    Raises:
        WeightsError: One lies outside the model's folder, or does not exist.
    """
    folder, found = path.resolve().parent, {}
    for tensor in _tensors(model):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        file = (folder / place).resolve()
        if not place or Path(place).is_absolute() or not file.is_relative_to(folder):
            raise WeightsError(f"{path}: names weights outside its folder ({place!r}). Save it as one file.")
        if not file.is_file():
            raise WeightsError(f"{path}: its weights {place!r} are not beside it. Copy them there, or save one file.")
        found[place] = file
    return [found[place] for place in sorted(found)]


def _tensors(model: "onnx.ModelProto") -> Iterator["onnx.TensorProto"]:
    """Yield every tensor stored in a model, those of inner graphs and functions included."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)
    for training in model.training_info:
        for graph in (training.initialization, training.algorithm):
            yield from _graph_tensors(graph)


def _graph_tensors(graph: "onnx.GraphProto") -> Iterator["onnx.TensorProto"]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable["onnx.NodeProto"]) -> Iterator["onnx.TensorProto"]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _graph_tensors(graph)


def _session(path: Path, runtime: "Runtime") -> Any:
    """Open an onnxruntime session; on CUDA where both the runtime and this onnxruntime support it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_runtime(path) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = runtime.threads, 1
    options.log_severity_level = 4  # its errors are raised, too
    # Its threads would go on spinning while others blend, read and write.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CPUExecutionProvider"]
    if runtime.device_kind == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    try:
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
    except Exception as error:  # its errors share no class: a damaged file, an unknown operator, a newer format
        parse_onnx(path)
        raise WeightsError(f"{path}: onnxruntime cannot load it ({_reason(error)}). Export it anew.") from error


def _reason(error: BaseException) -> str:
    """Return the first line of an error of onnxruntime without its codes, the file's name and places in its source."""
    text = first_line(error, limit=2000)
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^(Load model from .*? failed: *|Exception during initialization: )", "", text)
    text = re.sub(r"(/onnxruntime_src)?\S+\.(cc|h):\d+ (\S* ?\S+\([^()]*\) ?(const )?|\w+ )", "", text)
    return text[:160].strip(" :.")


def _runner(path: Path, session: Any) -> RunBatch:
    """Make a function that runs one batch through a session and returns its first output."""
    name, output = session.get_inputs()[0].name, session.get_outputs()[0]
    if "float" not in output.type and "double" not in output.type:
        raise ModelError(
            f"{path}: gives {output.type}, expected probabilities or logits. Export it without the argmax."
        )

    def run(batch: NDArray[np.generic]) -> NDArray[np.float32]:
        try:
            (found,) = session.run([output.name], {name: batch})
        except Exception as error:
            # onnxruntime's errors share no class; whatever it says, this file cannot run this tile.
            raise ModelError(
                f"{path}: cannot run a tile of {batch.shape} ({_reason(error)}). Give another --tile."
            ) from error
        return np.asarray(found, np.float32)

    return run


def read_input(path: Path, inputs: Sequence[tuple[str, list[Dimension]]], *, n_outputs: int) -> InputSpec:
    """Read layout, bands, tile and batch of a file's input from its shape.

    Args:
        path: The file, for messages.
        inputs: Type, by onnxruntime's names, and shape of each input.
        n_outputs: How many outputs the file has.
    Raises:
        ModelError: It is not one image, or nothing is made of it.
    """
    if not n_outputs:
        raise ModelError(f"{path}: its network has no output. Export it anew.")
    if len(inputs) != 1:
        raise ModelError(f"{path}: has {len(inputs)} inputs, expected one image. Export it with one.")
    kind, shape = inputs[0]
    if kind not in INPUT_TYPES or len(shape) != 4:
        raise ModelError(f"{path}: takes {kind} {shape}, expected float (N, C, H, W). Export it for images.")
    batch, first, middle, last = (side if isinstance(side, int) and side > 0 else None for side in shape)
    bands_last = last is not None and last <= MOST_BANDS and (first is None or first > last)
    bands, sides = (last, (first, middle)) if bands_last else (first, (middle, last))
    if bands is None:
        raise ModelError(f"{path}: its input {shape} has no fixed number of bands. Export it with a fixed one.")
    known = {side for side in sides if side is not None}
    if len(known) > 1:
        raise ModelError(f"{path}: takes tiles of {sides[0]} × {sides[1]} px, expected squares. Export it for squares.")
    tile = known.pop() if known else None
    return InputSpec("NHWC" if bands_last else "NCHW", INPUT_TYPES[kind], bands, tile, batch)


def probe(path: Path, run: RunBatch, input_spec: InputSpec) -> tuple[Layout, Activation, int]:
    """Run noise through a model to detect layout, kind and number of its outputs."""
    side, rng, bands = input_spec.tile or PROBE_TILE, np.random.default_rng(0), input_spec.bands
    shape = (input_spec.batch or 1, *((side, side, bands) if input_spec.layout == "NHWC" else (bands, side, side)))
    noise = [rng.random(shape), 4 * rng.standard_normal(shape)]
    found = [run((one * 255 if input_spec.kind is np.uint8 else one).astype(input_spec.kind)) for one in noise]
    if not np.isfinite(found[0]).all():
        raise WeightsError(f"{path}: makes NaN or infinity of noise. Export a checkpoint whose weights are numbers.")
    size = found[0].shape
    if len(size) == 4 and size[-2:] == (side, side):
        layout: Layout = "NCHW"
    elif len(size) == 4 and size[1:3] == (side, side):
        layout = "NHWC"
    else:
        raise ModelError(
            f"{path}: makes {size} of a tile of {side} px, expected classes for each pixel, (N, K, {side}, {side}). "
            "Give a segmentation network."
        )
    axis = 1 if layout == "NCHW" else 3
    return layout, output_kind(found, axis=axis), size[axis]


def output_kind(found: Sequence[NDArray[np.float32]], *, axis: int) -> Activation:
    """Tell what outputs over noise are: each within 0 to 1, and with the others adding up to 1, or any numbers.

    Args:
        found: Outputs over several tiles of noise.
        axis: That of the classes.
    """
    if not all(one.min() >= 0 and one.max() <= 1 for one in found):
        return "logits"
    whole = found[0].shape[axis] > 1 and all(np.allclose(one.sum(axis), 1, atol=1e-2) for one in found)
    return "probabilities" if whole else "shares"


def array_forward(run: RunBatch, input_spec: InputSpec, layout: Layout, activation: Activation) -> ArrayForward:
    """Wrap a session as a function of arrays; one output becomes two classes, the first of them the rest."""

    def batches(image: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        values = np.ascontiguousarray(image.transpose(0, 2, 3, 1) if input_spec.layout == "NHWC" else image)
        whole = values.round().clip(0, 255) if input_spec.kind is np.uint8 else values
        step = input_spec.batch or len(values)
        for first in range(0, len(values), step):
            part = whole[first : first + step].astype(input_spec.kind, copy=False)
            padded = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)])
            yield run(padded if len(part) < step else part)[: len(part)]

    def forward(image: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = list(batches(image))
        found = parts[0] if len(parts) == 1 else np.concatenate(parts)
        found = found.transpose(0, 3, 1, 2) if layout == "NHWC" else found
        if found.shape[1] == 1:
            rest = np.zeros_like(found) if activation == "logits" else 1 - found
            return np.concatenate([rest, found], axis=1)
        if activation == "shares":
            found /= np.maximum(found.sum(axis=1, keepdims=True), np.float32(1e-12))
        return found

    return forward
