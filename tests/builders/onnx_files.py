"""Small ONNX files written by hand: a 1 x 1 convolution in every form that other tools export."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Side = int | str
TYPES = {
    "float": TensorProto.FLOAT,
    "uint8": TensorProto.UINT8,
    "float16": TensorProto.FLOAT16,
    "int32": TensorProto.INT32,
}


def weights_of(n_outputs: int, bands: int, seed: int = 0) -> NDArray[np.float32]:
    """The kernel of the convolution, ``(K, C)``."""
    rng = np.random.default_rng(seed * 10000 + n_outputs * 100 + bands)
    return rng.standard_normal((n_outputs, bands)).astype(np.float32)


def write_onnx(
    path: Path,
    *,
    bands: Side = 3,
    n_outputs: int = 4,
    batch: Side = "n",
    sides: Sequence[Side] = ("h", "w"),
    layout: Literal["NCHW", "NHWC"] = "NCHW",
    out_layout: Literal["NCHW", "NHWC"] | None = None,
    activation: Literal["none", "softmax", "sigmoid", "argmax"] = "none",
    kind: str = "float",
    metadata: Mapping[str, str] | None = None,
    external: str | None = None,
    extra_input: bool = False,
    pool: bool = False,
    seed: int = 0,
) -> Path:
    """Write a file; ``external`` names the file that its kernel is said to lie in."""
    kernel = numpy_helper.from_array(
        weights_of(n_outputs, bands if isinstance(bands, int) else 3, seed)[:, :, None, None], "kernel"
    )
    if external is not None:
        kernel.ClearField("raw_data")
        kernel.data_location = TensorProto.EXTERNAL
        entry = kernel.external_data.add()
        entry.key, entry.value = "location", external
    nodes, last = [], "image"
    if kind != "float":
        nodes.append(helper.make_node("Cast", [last], ["cast"], to=TensorProto.FLOAT))
        last = "cast"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [last], ["first"], perm=[0, 3, 1, 2]))
        last = "first"
    nodes.append(helper.make_node("Conv", [last, "kernel"], ["logits"]))
    last = "logits"
    if pool:
        nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
        last = "pooled"
    if activation == "softmax":
        nodes.append(helper.make_node("Softmax", [last], ["activated"], axis=1))
    elif activation == "sigmoid":
        nodes.append(helper.make_node("Sigmoid", [last], ["activated"]))
    elif activation == "argmax":
        nodes.append(helper.make_node("ArgMax", [last], ["activated"], axis=1))
    last = "activated" if activation != "none" else last
    if (out_layout or layout) == "NHWC":
        nodes.append(helper.make_node("Transpose", [last], ["last"], perm=[0, 2, 3, 1]))
        last = "last"
    shape = [batch, bands, *sides] if layout == "NCHW" else [batch, *sides, bands]
    inputs = [helper.make_tensor_value_info("image", TYPES[kind], shape)]
    if extra_input:
        inputs.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    made = TensorProto.INT64 if activation == "argmax" else TensorProto.FLOAT
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info(last, made, None)], [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    path.write_bytes(model.SerializeToString())
    return path


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file."""
    return {entry.key: entry.value for entry in onnx.load(str(path), load_external_data=False).metadata_props}
