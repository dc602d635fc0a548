"""Models from disk: a run, a folder in segmentation_models_pytorch's layout, or an ONNX file, opened as one thing.

Names of architectures and encoders are checked here before torch is imported.
"""

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from levelground.config import DeviceName, DeviceOptions, EngineName, PredictOptions, TileOptions
from levelground.console import say
from levelground.errors import ConfigError, ModelError, WeightsError
from levelground.models.conversions import Conversion, find_conversion, in_openvino, open_converted
from levelground.models.model import Engine, Model, Overrides, described_model
from levelground.models.onnx_backend import open_onnx
from levelground.models.openvino_backend import has_openvino, missing_openvino, open_openvino
from levelground.models.spec import (
    ALIASES,
    ONNX_FILE,
    SCRIPT_FILE,
    ModelSpec,
    about_arch,
    about_encoder_weights,
    about_init,
    is_own,
    library_archs,
    library_encoders,
    model_file,
    near,
    read_model_spec,
    run_geometry,
)
from levelground.reading import parse_json, read_text
from levelground.records import sha256_stamped
from levelground.runs import Run, read_run
from levelground.runtime import onnxruntime_has_cuda, open_array_runtime, open_runtime, refuse_other_device
from levelground.tile_geometry import OWN_TILES

if TYPE_CHECKING:
    from torch import nn

    from levelground.runtime import Runtime


def choose_engine(path: Path, asked: EngineName, tiles: TileOptions, device: DeviceName) -> Engine:
    """Choose what runs the model at a path.

    Args:
        path: A run folder, a folder in segmentation_models_pytorch's layout, or a file.
        asked: What the user asks for; ``auto`` leaves runs and folders to torch, as they were evaluated.
        tiles: The tiles that are asked for.
        device: The device that is asked for.
    Raises:
        ConfigError: The engine cannot run it.
        ModelError: OpenVINO is missing.
    """
    suffix = path.suffix.lower() if path.is_file() else ""
    if suffix == ".xml" and asked not in ("auto", "openvino"):
        raise ConfigError(f"--engine {asked}: {path} is a file of OpenVINO. Leave --engine away.")
    if (suffix == ".xml" or asked == "openvino") and not has_openvino():
        raise missing_openvino(str(path) if suffix == ".xml" else "--engine openvino")
    if suffix == ".xml":
        return "openvino"
    if suffix == ".onnx":
        if asked == "torch":
            raise ConfigError(f"--engine torch: {path} is an ONNX file. Give --engine onnx or openvino.")
        on_gpu = device == "cuda" or (device == "auto" and asked == "auto" and onnxruntime_has_cuda())
        preferred: Engine = "openvino" if has_openvino() and not on_gpu else "onnx"
        return preferred if asked == "auto" else asked
    if asked == "onnx" and program_of(path, "onnx", tiles) is None:
        if program_of(path, "onnx", OWN_TILES) is not None:
            raise ConfigError(
                f"--engine onnx: the ONNX file of {path} takes the run's own tiles. Leave --tile and --fit-tile away."
            )
        if path.is_dir() and not (path / "run.json").exists():
            raise ConfigError(f"--engine onnx: {path} is not a run, which could be exported. Leave --engine away.")
        raise ConfigError(
            f"--engine onnx: {path} has no current ONNX file of its own tiles and ground sample distance. Write it "
            "with levelground export --overwrite, without --tile and --gsd."
        )
    return "torch" if asked == "auto" else asked


def program_of(path: Path, engine: Engine, tiles: TileOptions) -> Path | None:
    """Return the file that an engine runs without torch: the path itself, or the current export of a run.

    An export is current where it was made of the run's weights, for the run's own tiles, and has not changed since.

    Args:
        path: What the user names.
        engine: What runs it.
        tiles: The tiles that are asked for.
    """
    if path.is_file():
        return path if path.suffix.lower() in (".onnx", ".xml") else None
    if engine == "torch" or not (path / "run.json").exists():
        return None
    run = read_run(path)
    own = model_file(run)
    if own.name == ONNX_FILE:
        return own
    if tiles.fit_tile or tiles.tile not in (None, run_geometry(run).tile):
        return None
    for form in ("openvino", "onnx") if engine == "openvino" else ("onnx",):
        file = export_file(run, form)
        if file.is_file() and _is_current(file, run, form):
            return file
    return None


EXPORT_FILES = {
    "onnx": "model.onnx",
    "openvino": "openvino/model.xml",
    "onnx-int8": "model-int8.onnx",
    "openvino-int8": "openvino-int8/model.xml",
}
"""Files of a run's exports that an engine runs as they are."""


def export_file(run: Run, form: str) -> Path:
    """Return the file of an export of a run."""
    return run.folder / "export" / EXPORT_FILES[form]


def parity_path(run: Run) -> Path:
    """Return the path of the report on a run's exports: their differences from its network."""
    return run.folder / "export" / "parity.json"


def _is_current(file: Path, run: Run, form: str) -> bool:
    """Tell whether an export is of a run's weights and tiles, by the report that was written beside it."""
    try:
        report = parse_json(read_text(parity_path(run)))
    except (OSError, ValueError):
        return False
    entry = report.get(form) if isinstance(report, dict) else None
    if not isinstance(entry, dict) or not entry.get("weights_sha256") or entry.get("gsd_m") != run.card.gsd_m:
        return False
    made_of = (entry["weights_sha256"], entry.get("tile"), entry.get("sha256"))
    return made_of == (sha256_stamped(model_file(run)), run_geometry(run).tile, sha256_stamped(file))


def open_model(
    path: Path,
    runtime: "Runtime",
    *,
    legend: Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    engine: Engine | None = None,
    tiles: TileOptions = OWN_TILES,
) -> Model:
    """Load a model with all that it needs.

    Args:
        path: A run folder, a folder in segmentation_models_pytorch's layout, an ``.onnx`` or an ``.xml`` file.
        runtime: Where it will run.
        legend: Names and colours of an external model's outputs, a TOML file; ours bring their own.
        mean: Band means of an external model's inputs, in stored units.
        std: Band deviations likewise.
        engine: What runs it, of :func:`choose_engine`; ``None`` takes torch, for an ONNX file onnxruntime.
        tiles: The tiles that it will be run on.
    Returns:
        The model; its network is in evaluation mode on the runtime's device.
    Raises:
        ModelError: There is no model, or none that can be run.
        WeightsError: Its weights are damaged, unsafe, or do not fit.
        ConfigError: ``legend``, ``mean`` or ``std`` are given for a model that brings its own, or do not fit.
        LegendError: The legend file contradicts itself.
    """
    overrides = Overrides(legend, None if mean is None else tuple(mean), None if std is None else tuple(std))
    path, engine = _whole_run(path), engine or "torch"
    program = program_of(path, engine, tiles)
    converted = find_conversion(path, tiles) if engine == "openvino" and program is None else None
    return _open(path, runtime, overrides, engine, program, converted)


def _whole_run(path: Path) -> Path:
    """Return the folder of a run where its ``model/`` is named, else the path."""
    return path.parent if path.is_dir() and path.name == "model" and (path.parent / "run.json").exists() else path


def _open(
    path: Path,
    runtime: "Runtime",
    overrides: Overrides,
    engine: Engine,
    program: Path | None,
    converted: Conversion | None,
) -> Model:
    """Open a model in an engine; ``program`` is its file of :func:`program_of`."""
    if program is not None and program == path:
        by_openvino = engine == "openvino" or path.suffix.lower() == ".xml"
        return (open_openvino if by_openvino else open_onnx)(path, runtime, overrides)
    if converted is not None and converted.is_there:
        overrides.refuse(path)
        run = converted.run
        say("%(name)s: runs in openvino as it was converted before, without torch.", name=run.name)
        return open_converted(converted, lambda: load_model(run).network, runtime)
    model = _open_folder(path, runtime, overrides, engine, program)
    if engine != "openvino" or model.engine == "openvino":
        return model
    return in_openvino(model, runtime, None if converted is None else converted.folder)


def _open_folder(path: Path, runtime: "Runtime", overrides: Overrides, engine: Engine, program: Path | None) -> Model:
    """Open the model of a folder; of a run the current export, where an engine is to run that."""
    if (path / "run.json").exists():
        overrides.refuse(path)
        run = read_run(path)
        if program is None or program == model_file(run):
            return open_run(run, runtime, engine=engine)
        say(
            "%(name)s: its export %(relative_to)s is run, which was compared with its network.",
            name=run.name,
            relative_to=program.relative_to(path),
        )
        opened = (open_openvino if engine == "openvino" else open_onnx)(program, runtime, overrides)
        return dataclasses.replace(opened, spec=dataclasses.replace(opened.spec, name=run.name))
    if (path / "config.json").exists():
        from levelground.models.smp_backend import open_smp

        return open_smp(path, runtime, overrides)
    raise ModelError(
        f"{path}: no model. Give a run folder (run.json), a folder with config.json and model.safetensors, or an .onnx "
        "file."
    )


def open_run(run: Run, runtime: "Runtime", *, engine: Engine = "torch") -> Model:
    """Load the model of a run, ready to run: its selected weights, or the whole network that was adopted.

    Args:
        run: The run.
        runtime: Where it will run.
        engine: What runs an adopted ONNX file, onnxruntime where torch is named; all else is torch's here.

    Raises:
        ModelError: The run holds masks and no model, or its network cannot be run.
        WeightsError: There are none, they are damaged or not those that the card knows, or of another architecture.
    """
    from levelground.models.checkpoints import WEIGHTS_FILE

    if model_file(run).name != WEIGHTS_FILE:
        from levelground.models.programs import open_program_run

        return open_program_run(run, runtime, engine=engine)
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
    digest = sha256_stamped(folder / WEIGHTS_FILE)
    if run.card.weights_sha256 not in (None, digest):
        again = "adopt the weights" if run.adopted else "remove the folder of the run and train it"
        raise WeightsError(
            f"{folder / WEIGHTS_FILE}: is not the file that {run.name} ended with: it was changed or exchanged. "
            f"Restore it from a copy, or {again} anew."
        )
    network = load_network(spec, folder, run.card.outputs, code_sha256=run.card.code_sha256)
    network = network if spec.outputs == run.card.outputs else SummedOutputs(network, run.card.outputs)
    return described_model(spec, network.eval(), digest)


def check_code(run: Run) -> None:
    """Refuse a run whose network the user's own code makes and was not named, and say where that was changed.

    Raises:
        ModelError: It was not named.
    """
    if not is_own(run.arch) or run.arch.startswith("hf:") or model_file(run).name in (ONNX_FILE, SCRIPT_FILE):
        return
    from levelground.models.own_networks import named_arch

    if run.card.code_sha256 not in (None, named_arch(run.arch).code_sha256):
        say("Warning: %(arch)s: its code was changed since these weights were trained.", arch=run.arch)


def made_runs(runs: Sequence[Run]) -> list[Run]:
    """Return the runs whose networks can be made, and say which need code that was not named."""
    made = []
    for run in runs:
        try:
            check_code(run)
        except ModelError as error:
            say("%(name)s: is left out. %(error)s", name=run.name, error=error)
        else:
            made.append(run)
    return made


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
    from levelground.models.own_networks import TwoClasses, load_own
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


def check_names(
    archs: Sequence[str],
    encoder: str | None = None,
    *,
    encoder_weights: str = "auto",
    code: Sequence[str] = (),
    init: Sequence[str] = (),
) -> None:
    """Refuse names of networks that do not exist, before torch, which takes seconds, is imported.

    Args:
        archs: Architectures, or own networks.
        encoder: Encoder of the architectures.
        encoder_weights: Source of its weights.
        code: Code of own networks, ``FILE.py:FUNCTION``.
        init: Whole networks to start from, ``PATH`` or ``PATH::PART``; with any, encoder and its weights are not used.
    Raises:
        ConfigError: There is no such whole network.
        ModelError: There is no such architecture, encoder or file, or transformers is not installed.
        WeightsError: There is no such file of weights.
    """
    own = [name for name in (*archs, *code) if is_own(name)]
    for name in own:
        path = Path(name.rpartition(":")[0])
        if name.startswith("hf:") and importlib.util.find_spec("transformers") is None:
            raise ModelError(f"{name}: transformers is not installed. pip install 'levelground[transformers]'")
        if ".py:" in name and not path.is_file():
            raise ModelError(f"{name}: no file {path}. Give FILE.py:FUNCTION with the path of a Python file.")
    named = [arch for arch in archs if arch not in own]
    known = library_archs() if named else ()
    for arch in named:
        if known and ALIASES.get(arch.lower(), arch.lower()) not in known:
            raise ModelError(about_arch(arch, known))
    for given in init:
        path = Path(given.partition("::")[0])
        if not path.exists():
            raise ConfigError(about_init(path))
    if init:
        return
    if encoder is None or (archs and not named):  # own networks have none
        return
    encoders = library_encoders()
    if encoders and not _may_be_encoder(encoder, encoders):
        where = f"{named[0]} with encoder {encoder}" if named else f"--encoder {encoder}"
        raise ModelError(f"{where}: cannot be built (no such encoder). {near(encoder)}.")
    if encoder_weights not in ("none", "package", "imagenet", "auto") and not Path(encoder_weights).exists():
        raise WeightsError(about_encoder_weights(encoder_weights))


def _may_be_encoder(encoder: str, known: Sequence[str]) -> bool:
    """Tell whether an encoder is known, or of a kind that only the libraries can tell: a hub's, or a former name."""
    return ":" in encoder or encoder.startswith("timm-") or encoder.split(".")[0] in known


def open_predictor(
    model: Path,
    options: PredictOptions,
    device: DeviceOptions,
    *,
    legend: Path | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    code: str | None = None,
) -> "tuple[Model, Runtime]":
    """Open a model with what runs it; without torch where its file does not need it.

    Args:
        model: Run folder, folder with config.json, or file.
        options: How inputs are predicted.
        device: Device, precision and threads.
        legend: Legend of another tool's model.
        mean: Band means that it expects.
        std: Band deviations likewise.
        code: Code of a network of the user's own.
    Raises:
        ModelError: There is no model that can be run.
    """
    if code is not None:
        from levelground.models.own_networks import name_network

        name_network(code)
    engine = choose_engine(model, options.engine, options, device.device)
    if engine == "openvino":
        device = dataclasses.replace(device, device=refuse_other_device(device.device))
    model = _whole_run(model)
    program = program_of(model, engine, options)
    converted = find_conversion(model, options) if engine == "openvino" and program is None else None
    if engine != "torch" and (program is not None or (converted is not None and converted.is_there)):
        runtime = open_array_runtime(device, engine=engine)
    else:
        runtime = open_runtime(device)
    return _open(model, runtime, Overrides(legend, mean, std), engine, program, converted), runtime
