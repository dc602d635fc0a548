"""ONNX export: a network as one file that clients run as it is, values 0 to 1 in, probabilities out.

The metadata are those that the QGIS plugin Deepness and the client geodeep read, and our model specification under
a key of its own.
"""

import json
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from levelground.errors import ModelError, first_line
from levelground.files import writing
from levelground.models.model import Model
from levelground.models.spec import SPEC_KEY, ModelSpec, full_scale

if TYPE_CHECKING:
    import onnx_ir


OPSET = 20
"""The operator set written: what torch's exporter is made for, and onnxruntime 1.17 (2024) and later run."""

IR_VERSION = 9
"""The newest file format that onnxruntime 1.17 opens, which the QGIS plugin Deepness installs. torch's exporter writes
10 for any operator set; up to operator set 20 the two hold the same."""

INPUT, OUTPUT = "image", "probabilities"

UNKNOWN_RESOLUTION_CM = 10.0
"""``resolution`` where the ground sample distance is unknown: geodeep's own default, which shrinks no raster of 10 cm
a pixel or more."""

_THEIR_WARNINGS = r"(torch|onnxscript|onnx_ir|copyreg|timm|segmentation_models_pytorch)(\.|$)"


class Portable(nn.Module):
    """Network with its normalisation before it and a softmax behind."""

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, model: Model) -> None:
        """Wrap a model in evaluation mode; its input 0 to 1 is stored pixels divided by their type's full scale."""
        super().__init__()
        self.network = model.network
        mean, std = (
            torch.tensor(values, dtype=torch.float64)[None, :, None, None]
            for values in (model.spec.mean, model.spec.std)
        )
        self.register_buffer("scale", (full_scale(model.spec.dtype) / std).float())
        self.register_buffer("offset", (-mean / std).float())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` of values 0 to 1 to probabilities ``(N, K, H, W)``."""
        logits: torch.Tensor = self.network(image * self.scale + self.offset)
        return torch.softmax(logits, dim=1)


def write_onnx(model: Model, path: Path) -> None:
    """Write a model as one ONNX file for any number of tiles of its own side.

    Args:
        model: The model on the CPU, in evaluation mode; its tile becomes the height and width of the input.
        path: The file.
    Raises:
        ModelError: torch's exporter cannot write this network, or a library is missing.
        DiskError: The file cannot be written.
    """
    spec = model.spec
    example = torch.zeros(2, spec.bands, spec.geometry.tile, spec.geometry.tile)
    try:
        import onnxscript  # noqa: F401 - torch's exporter is written in it
    except ImportError as error:
        raise ModelError("--to onnx: onnxscript is not installed. pip install 'levelground[export]'") from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=_THEIR_WARNINGS)
            program = torch.onnx.export(
                Portable(model).eval(),
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        # The exporter's errors share no class; networks whose code it cannot follow are many.
        raise ModelError(
            f"{spec.name}: torch cannot export {spec.arch} with encoder {spec.encoder} as ONNX "
            f"({first_line(error)}). Export it with --to smp."
        ) from error
    assert program is not None  # dynamo=True gives a program
    _clean(program.model)
    program.model.ir_version = IR_VERSION
    program.model.metadata_props.update(client_metadata(spec))
    with writing(path):
        program.save(str(path), external_data=False)


def client_metadata(spec: ModelSpec) -> dict[str, str]:
    """Return what Deepness and geodeep read from a file, each value as JSON, and our specification.

    ``seg_thresh`` 0 and ``seg_small_segment`` 0 leave the most probable class as it is; the standardisation is none,
    because the graph has it. Deepness reads ``tile_size``, its documentation says ``tiles_size``.
    """
    names = spec.legend.names
    known = spec.gsd_m is not None
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(channel): names[index] for channel, index in enumerate(spec.outputs)},
        "resolution": round(100 * (spec.gsd_m or 0), 6) if known else UNKNOWN_RESOLUTION_CM,
        "tile_size": spec.geometry.tile,
        "tiles_size": spec.geometry.tile,
        "tiles_overlap": math.ceil(200 * spec.geometry.halo / spec.geometry.tile),
        "seg_thresh": 0,
        "seg_small_segment": 0,
        "standardization_mean": [0.0] * spec.bands,
        "standardization_std": [1.0] * spec.bands,
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()} | {SPEC_KEY: spec.to_json()}


def _clean(model: "onnx_ir.Model") -> None:
    """Remove the notes of the exporter beside each operation: lines of source, with the folders of this machine."""
    for node in [*model.graph.all_nodes(), *(node for inner in model.functions.values() for node in inner.all_nodes())]:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
