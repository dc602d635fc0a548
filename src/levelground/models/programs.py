"""Whole networks in files, as runs: ONNX files and TorchScript programs of other tools, run as they are.

An ONNX file is run by onnxruntime. A TorchScript program is run by torch's own interpreter of TorchScript: no Python
code of its author and no pickle is executed, but its operators are; programs with operators that torch does not bring,
or that reach for files, are refused.
"""

import dataclasses
import math
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from levelground.errors import ModelError, WeightsError, first_line
from levelground.models.checkpoints import program_kind
from levelground.models.model import ArrayForward, Engine, Forward, Model, check_shape
from levelground.models.onnx_backend import (
    PROBE_TILE,
    Activation,
    array_forward,
    class_names,
    external_files,
    onnx_program,
    output_kind,
    parse_onnx,
    probe,
)
from levelground.models.openvino_backend import openvino_program
from levelground.models.own_networks import main_output
from levelground.models.spec import ONNX_FILE, SPEC_KEY, ModelSpec, model_file, parse_spec, read_model_spec
from levelground.reading import UNREADABLE
from levelground.records import atomic_path, sha256_file, sha256_json
from levelground.runs import Run

if TYPE_CHECKING:
    from levelground.runtime import Runtime

_OPERATORS = re.compile(r"\bops\.(\w+)\.(\w+)")
"""Call of an operator in the text of a TorchScript program."""

_CLASSES = re.compile(r"__torch__\.torch\.classes\.(\w+)\.(\w+)")
"""Use of a class of a C++ library."""

_TORCHS_OWN = ("prim", "aten", "quantized", "prims")
"""Namespaces of operators that torch brings."""

_FILES = re.compile(r"\btorch\.(from_file|save|load)\(")
"""Operators that read or write files."""


@dataclass(frozen=True)
class OpenedProgram:
    """A whole network in a file, ready to run, with what it says of itself."""

    forward: Forward | ArrayForward
    activated: bool
    """Whether it gives probabilities."""
    n_outputs: int
    """Its own number of outputs; ``forward`` gives two for one."""
    bands: int
    tile: int | None = None
    """The one size of tiles that it takes; ``None`` any."""
    batch: int | None = None
    """The one number of tiles that it takes at a time; ``None`` any."""
    scaled: bool = False
    """Whether it takes stored bytes, and scales them itself."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Names of its classes by output, where it has some."""
    own: ModelSpec | None = None
    """The specification that it brings, where levelground wrote it."""
    parameters: int | None = None
    """Number of its parameters."""
    engine: Engine = "torch"
    """What runs ``forward``."""


def open_onnx_program(path: Path, runtime: "Runtime", *, engine: Engine = "torch") -> OpenedProgram:
    """Open an ONNX file with what it says of itself, and nothing that it does not.

    Raises:
        ModelError: onnxruntime is missing, or the file is not a segmentation network of one image.
        WeightsError: The file is damaged, or names weights outside its folder.
    """
    content = parse_onnx(path)
    external_files(content, path)
    program = openvino_program(path, runtime) if engine == "openvino" else onnx_program(path, runtime)
    input_spec, metadata = program.input_spec, program.metadata
    layout, activation, n = probe(path, program.run, input_spec)
    own = parse_spec(metadata[SPEC_KEY], source=str(path)) if SPEC_KEY in metadata else None
    if own is not None:
        check_shape(own, input_spec.bands, max(2, n), path)
    return OpenedProgram(
        forward=array_forward(program.run, input_spec, layout, activation),
        activated=activation != "logits",
        n_outputs=n,
        bands=input_spec.bands,
        tile=input_spec.tile,
        batch=input_spec.batch,
        scaled=input_spec.kind is np.uint8,
        names={} if own else class_names(metadata, path) or {},
        own=own,
        parameters=sum(math.prod(tensor.dims) for tensor in content.graph.initializer),
        engine="openvino" if engine == "openvino" else "onnx",
    )


def open_program(path: Path, runtime: "Runtime", bands: int, *, engine: Engine = "torch") -> OpenedProgram:
    """Open an ONNX file or a TorchScript program, with what a run over noise tells of its outputs.

    Args:
        path: The file.
        runtime: Where it will run.
        bands: Number of bands to give a program that does not say how many it reads.
        engine: ``openvino`` lets it run an ONNX file, in place of onnxruntime.
    Raises:
        ModelError: It is not a segmentation network of one image, or needs operators that are not at hand.
        WeightsError: It is damaged.
    """
    if program_kind(path) == "onnx":
        return open_onnx_program(path, runtime, engine=engine)
    return _open_script(path, runtime, bands)


def copy_program(source: Path, target: Path) -> None:
    """Copy a program as one file; weights that lie beside an ONNX file are put into it.

    Raises:
        WeightsError: It names weights outside its folder.
        DiskError: It cannot be written.
    """
    with atomic_path(target) as temporary:
        if target.name == ONNX_FILE and external_files(parse_onnx(source), source):
            import onnx

            onnx.save_model(onnx.load(str(source)), str(temporary))
        else:
            shutil.copyfile(source, temporary)


def open_program_run(run: Run, runtime: "Runtime", *, engine: Engine = "torch") -> Model:
    """Open the program of an adopted run, with the specification that its card has.

    Args:
        run: The run.
        runtime: Where it will run.
        engine: ``openvino`` runs an ONNX file, onnxruntime is its reference then; a TorchScript program is torch's.

    Raises:
        WeightsError: It is not the file that was adopted.
    """
    path, spec = model_file(run), read_model_spec(run)
    digest = sha256_file(path)
    if run.card.weights_sha256 not in (None, digest):
        raise WeightsError(
            f"{path}: is not the file that was adopted as {run.name}: it was changed or exchanged. Restore it from a "
            "copy, or adopt it anew."
        )
    opened, outputs = open_program(path, runtime, spec.bands, engine=engine), run.card.outputs
    forward = opened.forward if outputs == spec.outputs else _summed(opened, outputs)
    digest = sha256_json([digest, spec.outputs, spec.mean, spec.std])
    made = dataclasses.replace(spec, max_batch=opened.batch)
    reference = (lambda: open_program_run(run, runtime)) if opened.engine == "openvino" else None
    return Model(made, forward, opened.activated, digest, engine=opened.engine, reference=reference)


def _summed(opened: OpenedProgram, outputs: Sequence[int]) -> Forward | ArrayForward:
    """Make the outputs of one class one: probabilities are summed, of logits the exponentials."""
    members = [[n for n, other in enumerate(outputs) if other == index] for index in dict.fromkeys(outputs)]

    def sum_outputs(found: torch.Tensor) -> torch.Tensor:
        parts = [found[:, some].sum(1) if opened.activated else found[:, some].logsumexp(1) for some in members]
        return torch.stack(parts, dim=1)

    if opened.engine == "torch":
        run = cast(Forward, opened.forward)
        return lambda image: sum_outputs(run(image))
    run_arrays = cast(ArrayForward, opened.forward)
    return lambda image: sum_outputs(torch.from_numpy(run_arrays(image))).numpy()


def _open_script(path: Path, runtime: "Runtime", bands: int) -> OpenedProgram:
    _check_operators(path)
    try:
        network = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:  # its errors share no class: unknown operators, damaged archives, newer versions
        raise WeightsError(f"{path}: torch cannot load this TorchScript program ({first_line(error)}).") from error
    program, rng = ScriptNetwork(network, path), np.random.default_rng(0)
    shape = (1, bands, PROBE_TILE, PROBE_TILE)
    with torch.inference_mode():
        noise = [torch.from_numpy(one).float() for one in (rng.random(shape), 4 * rng.standard_normal(shape))]
        found = [program.outputs(one).numpy() for one in noise]
    program.activation, n = output_kind(found, axis=1), found[0].shape[1]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return OpenedProgram(
        forward=runtime.place(program),
        activated=program.activation != "logits",
        n_outputs=n,
        bands=bands,
        parameters=parameters,
    )


MAX_CODE_BYTES = 32 << 20
"""The most code of a TorchScript program that is read; large networks have some hundred kilobytes."""


def _check_operators(path: Path) -> None:
    """Refuse a TorchScript program with operators that torch does not bring, or that read and write files."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".py")]
            size = sum(member.file_size for member in members)
            if size > MAX_CODE_BYTES:
                raise ValueError(f"{size} bytes of code, at most {MAX_CODE_BYTES} are read")
            text = "\n".join(archive.read(member).decode(errors="replace") for member in members)
    except UNREADABLE as error:
        raise WeightsError(f"{path}: the archive is damaged ({first_line(error)}). Copy it again.") from error
    foreign = [f"{space}::{name}" for space, name in _OPERATORS.findall(text) if space not in _TORCHS_OWN]
    foreign += [f"{space}::{name}" for space, name in _CLASSES.findall(text)]
    if foreign:
        raise ModelError(
            f"{path}: needs the operator {foreign[0]}, which torch does not bring. Export the network without it, as "
            "ONNX for example, or adopt its masks with --predictions."
        )
    files = _FILES.search(text)
    if files is not None:
        raise ModelError(
            f"{path}: its program calls torch.{files[1]}, which reaches for files; it is not run. Adopt its masks with "
            "--predictions."
        )


class ScriptNetwork(nn.Module):
    """A TorchScript program as a network of one output a class: dictionaries, tuples and smaller outputs are taken.

    Args:
        network: The program.
        path: Its file, for errors.
    """

    def __init__(self, network: nn.Module, path: Path) -> None:
        super().__init__()
        self.network, self.path = network, path
        self.activation: Activation = "logits"

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to logits or probabilities ``(N, K, H, W)``, K at least 2."""
        found = self.outputs(image)
        if found.shape[1] == 1:
            return torch.cat([torch.zeros_like(found) if self.activation == "logits" else 1 - found, found], dim=1)
        return found / found.sum(1, keepdim=True).clamp_min(1e-12) if self.activation == "shares" else found

    def outputs(self, image: torch.Tensor) -> torch.Tensor:
        """Return what the program makes of an image, as it makes it, at the image's size.

        Raises:
            ModelError: It fails, or makes something else.
        """
        try:
            found = main_output(self.network(image))
        except RuntimeError as error:  # torch names the program's own lines, the first says what is wrong
            last = [line for line in str(error).splitlines() if line.strip()][-1].strip()
            raise ModelError(
                f"{self.path}: fails on {tuple(image.shape)} ({last[:160]}). Give another --tile."
            ) from error
        if found is None or found.ndim != 4 or len(found) != len(image) or not found.is_floating_point():
            shape = "no tensor" if found is None else f"{found.dtype} {tuple(found.shape)}"
            raise ModelError(
                f"{self.path}: makes {shape} of {tuple(image.shape)}, expected (N, K, h, w), one logit or probability "
                "a class. Export it without the argmax."
            )
        if found.shape[2:] != image.shape[2:]:
            size = (int(image.shape[2]), int(image.shape[3]))
            found = nn.functional.interpolate(found.float(), size=size, mode="bilinear", align_corners=False)
        return found.float()
