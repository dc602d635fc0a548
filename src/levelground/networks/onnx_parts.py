"""ONNX files before they are run: read, and searched for weights that lie in other files."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from levelground.errors import ModelError, WeightsError, first_line

if TYPE_CHECKING:
    import onnx


def parse_onnx(path: Path) -> "onnx.ModelProto":
    """Read a file without the weights that lie beside it.

    Raises:
        ModelError: The library is missing.
        WeightsError: It is no ONNX file.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing_runtime(path) from error
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError) as error:
        raise WeightsError(f"{path}: no ONNX file ({first_line(error)}). Give the file that was exported.") from error


def missing_runtime(path: Path) -> ModelError:
    """What to say where a library of the extra is missing."""
    return ModelError(f"{path}: onnxruntime, which runs it, is not installed. pip install 'levelground[export]'")


def external_files(model: "onnx.ModelProto", path: Path) -> list[Path]:
    """The files that hold weights of a model beside it.

    Raises:
        WeightsError: One lies outside the model's folder, or is not there.
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
    """Every tensor stored in a model, those of inner graphs and functions included."""
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
