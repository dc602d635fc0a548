"""Models from disk: a run, a folder in segmentation_models_pytorch's layout, or an ONNX file, opened as one thing."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from levelground.errors import ModelError, WeightsError
from levelground.models.model import Model, Overrides, described_model
from levelground.models.onnx_backend import open_onnx
from levelground.models.spec import ModelSpec, model_file, read_model_spec
from levelground.records import sha256_file
from levelground.runs import Run, read_run

if TYPE_CHECKING:
    from torch import nn

    from levelground.runtime import Runtime


def needs_torch(path: Path) -> bool:
    """Tell whether torch runs what lies at a path: all but an ONNX file."""
    return not (path.is_file() and path.suffix.lower() == ".onnx")


def open_model(
    path: Path,
    runtime: "Runtime",
    *,
    legend: Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Model:
    """Load a model with all that it needs.

    Args:
        path: A run folder, a folder in segmentation_models_pytorch's layout, or an ``.onnx`` file.
        runtime: Where it will run.
        legend: Names and colours of an external model's outputs, a TOML file; ours bring their own.
        mean: Band means of an external model's inputs, in stored units.
        std: Band deviations likewise.
    Returns:
        The model; its network is in evaluation mode on the runtime's device.
    Raises:
        ModelError: There is no model, or none that can be run.
        WeightsError: Its weights are damaged, unsafe, or do not fit.
        ConfigError: ``legend``, ``mean`` or ``std`` are given for a model that brings its own, or do not fit.
        LegendError: The legend file contradicts itself.
    """
    overrides = Overrides(legend, None if mean is None else tuple(mean), None if std is None else tuple(std))
    if (path / "run.json").exists():
        return _open_run(path, runtime, overrides)
    if path.is_dir() and path.name == "model" and (path.parent / "run.json").exists():
        return _open_run(path.parent, runtime, overrides)
    if not needs_torch(path):
        return open_onnx(path, runtime, overrides)
    if (path / "config.json").exists():
        from levelground.models.smp_backend import open_smp

        return open_smp(path, runtime, overrides)
    raise ModelError(
        f"{path}: no model. Give a run folder (run.json), a folder with config.json and model.safetensors, or an .onnx "
        "file."
    )


def _open_run(folder: Path, runtime: "Runtime", overrides: Overrides) -> Model:
    overrides.refuse(folder)
    return open_run(read_run(folder), runtime)


def open_run(run: Run, runtime: "Runtime") -> Model:
    """Load the model of a run, ready to run: its selected weights, or the whole network that was adopted.

    Raises:
        ModelError: The run holds masks and no model, or its network cannot be run.
        WeightsError: There are none, they are damaged or not those that the card knows, or of another architecture.
    """
    from levelground.models.checkpoints import WEIGHTS_FILE

    if model_file(run).name != WEIGHTS_FILE:
        from levelground.models.programs import open_program_run

        return open_program_run(run, runtime)
    model = load_model(run)
    return model.with_forward(runtime.place(model.network))


def load_model(run: Run) -> Model:
    """Load the selected weights of a run, on the CPU and in evaluation mode.

    Raises:
        ModelError: The run holds masks and no model.
        WeightsError: There are none, they are damaged or not those that the card knows, or of another architecture.
    """
    from levelground.models.checkpoints import WEIGHTS_FILE
    from levelground.models.own_networks import SummedOutputs

    spec, folder = read_model_spec(run), run.model_folder
    if model_file(run).name != WEIGHTS_FILE:
        raise ModelError(
            f"{run.name}: is a whole network, run as it was adopted; there are no weights to take out of it. The file "
            f"to pass on is {model_file(run)}."
        )
    if not (folder / WEIGHTS_FILE).exists():
        raise WeightsError(f"{folder}: no {WEIGHTS_FILE}. Train the run to its end, or adopt the weights anew.")
    digest = sha256_file(folder / WEIGHTS_FILE)
    if run.card.weights_sha256 not in (None, digest):
        again = "adopt the weights" if run.adopted else "remove the folder of the run and train it"
        raise WeightsError(
            f"{folder / WEIGHTS_FILE}: is not the file that {run.name} ended with: it was changed or exchanged. "
            f"Restore it from a copy, or {again} anew."
        )
    network = load_network(spec, folder, run.card.outputs, code_sha256=run.card.code_sha256)
    network = network if spec.outputs == run.card.outputs else SummedOutputs(network, run.card.outputs)
    return described_model(spec, network.eval(), digest)


def load_network(spec: ModelSpec, folder: Path, outputs: Sequence[int], *, code_sha256: str | None) -> "nn.Module":
    """Build the network of saved weights and load them.

    Args:
        spec: Architecture, encoder and bands.
        folder: Holds the weights, with the configuration beside them.
        outputs: Legend index of each output.
        code_sha256: Hash of the code that made a network of the user's own.
    Raises:
        ModelError: Its code was not named, or it cannot be built.
        WeightsError: The weights are damaged or of another network.
    """
    from levelground.models.build import create_network
    from levelground.models.checkpoints import read_state
    from levelground.models.own_networks import TwoClasses, is_own, load_own
    from levelground.models.pretrained import fit_state
    from levelground.models.smp_backend import read_smp_config

    if is_own(spec.arch):
        own = load_own(spec.arch, folder, spec.bands, len(outputs), code_sha256=code_sha256)
        state = fit_state(read_state(folder), own.network.state_dict(), source=str(folder), part="network")
        own.network.load_state_dict(state)
        return own
    config = read_smp_config(folder)
    single = config is not None and config.n_outputs == 1 and len(outputs) == 2
    options = config.options if config is not None and config.arch == spec.arch else None
    network = create_network(spec.arch, spec.encoder, spec.bands, 1 if single else len(outputs), options)
    network.load_state_dict(fit_state(read_state(folder), network.state_dict(), source=str(folder), part="network"))
    return TwoClasses(network) if single else network
