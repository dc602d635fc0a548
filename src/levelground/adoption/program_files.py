"""Adoption of whole networks: ONNX files and TorchScript programs as runs, with what is known of their classes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from levelground.adoption.adopted_runs import (
    TrainingName,
    adopted_card,
    clean_name,
    find_adopted,
    joined_history,
    named_spec,
    warn_of_twins,
)
from levelground.adoption.histories import read_history_file
from levelground.adoption.weights import match_outputs, normalise_inputs
from levelground.config import WeightsOptions
from levelground.console import say
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, WeightsError
from levelground.history import append_history, truncate_history
from levelground.models.checkpoints import program_kind
from levelground.models.onnx_backend import exported_spec
from levelground.models.programs import OpenedProgram, copy_program, open_program
from levelground.models.spec import ONNX_FILE, SCRIPT_FILE, ModelSpec, dataset_spec, full_scale
from levelground.recipe_files import load_recipe
from levelground.records import sha256_file, sha256_json
from levelground.runs import AdoptionRecord, ParametersRecord, Run, RunCard, run_name, write_card
from levelground.runtime import make_runtime
from levelground.tile_geometry import TileGeometry


def adopt_program(path: Path, dataset: Dataset, options: WeightsOptions, training: TrainingName) -> Run:
    """Adopt a whole network as a run, which is evaluated afterwards like any other.

    Args:
        path: An ONNX file or a TorchScript program.
        dataset: The scenes that it will be evaluated on; the run lies in the ``runs/`` beside.
        options: Outputs and normalisation, as far as they are known.
        training: Its names, and the seed that it was trained with, as far as they are known.
    Returns:
        The run.
    Raises:
        ModelError: It is not a segmentation network, or cannot be run.
        WeightsError: It is damaged, or reads other bands.
        ConfigError: The number of classes does not fit, the name is taken, or a flag describes bare weights.
    """
    _refuse_flags(options, path)
    kind, source = program_kind(path), path.name
    lines, metadata = read_history_file(options.history) if options.history else ([], None)
    if kind == "onnx":
        say("%(source)s: is a whole network in ONNX; onnxruntime runs it.", source=source)
    else:
        say(
            "%(source)s: is a whole network in TorchScript; torch runs that program, and no Python code of its author.",
            source=source,
        )
    # As many threads as there are: another number would change the last bits of what this process trains afterwards.
    opened = open_program(path, make_runtime("cpu", "fp32", threads=torch.get_num_threads()), dataset.bands)
    if opened.bands != dataset.bands:
        raise WeightsError(
            f"{source}: reads {opened.bands} bands, the scenes of {dataset.folder} have {dataset.bands}. Adopt it into "
            f"a study of images with {opened.bands} bands."
        )
    if options.classes not in (None, opened.n_outputs):
        raise ConfigError(
            f"--classes {options.classes}: {source} has {opened.n_outputs} outputs. Pass --classes {opened.n_outputs}."
        )
    outputs = match_outputs(dataset, _described(opened), opened.n_outputs, options.outputs, source=source)
    spec = _spec(opened, dataset, outputs, options, source)
    identity = sha256_json([sha256_file(path), kind, spec.outputs, spec.mean, spec.std])
    known = run_name(spec.arch, spec.encoder, 0).removesuffix("-s0") if opened.own else clean_name(path.stem)
    label = training.folder_name(f"{known}-adopted")
    folder, found = find_adopted(dataset, label, identity)
    target = folder / "model" / (ONNX_FILE if kind == "onnx" else SCRIPT_FILE)
    if found is None or found.card.weights_sha256 != (sha256_file(target) if target.exists() else None):
        copy_program(path, target)
    metadata = joined_history(folder, metadata)
    origin = AdoptionRecord(weights=source, normalise=options.normalise or "none", metadata=metadata)
    card = _card(adopted_card(dataset, label, identity, training), spec, opened, origin)
    if found is not None:  # the same file: what evaluations wrote onto the card stays
        old = found.card
        card = dataclasses.replace(card, evaluations=old.evaluations, tile=old.tile, halo=old.halo, speed=old.speed)
    run = write_card(folder, dataclasses.replace(card, weights_sha256=sha256_file(target)))
    warn_of_twins(run)
    if lines:
        truncate_history(folder, 0)
        append_history(folder, lines)
    return run


def _refuse_flags(options: WeightsOptions, path: Path) -> None:
    """Refuse flags that describe bare weights.

    Raises:
        ConfigError: One is given.
    """
    given = next((flag for flag in ("arch", "encoder", "decoder", "part") if getattr(options, flag)), None)
    if given is not None:
        raise ConfigError(f"--{given}: describes bare weights; {path.name} is a whole network. Leave --{given} away.")


def _described(opened: OpenedProgram) -> ModelSpec | None:
    """Return the specification that a file brings, or one of the class names that it gives; ``None`` without either."""
    if opened.own is not None or len(opened.names) != opened.n_outputs:
        return opened.own
    return named_spec(opened.names, opened.bands)


def _spec(
    opened: OpenedProgram, dataset: Dataset, outputs: Sequence[int], options: WeightsOptions, source: str
) -> ModelSpec:
    """Return the specification of the run: the file's own, or one of values 0 to 1 normalised as is asked for."""
    recipe, own = load_recipe(), opened.own
    geometry = TileGeometry(recipe.tile, recipe.halo) if opened.tile is None else _one_tile(opened.tile)
    if (own is not None or opened.scaled) and options.normalise is not None:
        raise ConfigError(f"--normalise {options.normalise}: {source} normalises its inputs itself. Leave it away.")
    if own is not None:
        if (own.dtype or "uint8") != dataset.dtype:
            raise WeightsError(
                f"{source}: is for {own.dtype or 'uint8'} pixels, the scenes of {dataset.folder} hold {dataset.dtype}."
            )
        spec = dataset_spec(dataset, own.arch, own.encoder, outputs, name=source, geometry=own.geometry)
        inner = exported_spec(own, opened.tile, opened.batch)
        return dataclasses.replace(
            spec, mean=inner.mean, std=inner.std, gsd_m=own.gsd_m, geometry=inner.geometry, fixed_tile=inner.fixed_tile
        )
    spec = dataset_spec(dataset, "unknown", "unknown", outputs, name=source, geometry=geometry)
    full = 1.0 if opened.scaled else full_scale(spec.dtype)
    spec = dataclasses.replace(
        spec, mean=(0.0,) * spec.bands, std=(full,) * spec.bands, fixed_tile=opened.tile is not None
    )
    if not opened.scaled and options.normalise is None:
        say(
            "%(source)s: does not say how its inputs are normalised; values 0 to 1 are taken. Or pass --normalise.",
            source=source,
        )
    return normalise_inputs(spec, dataset, options.normalise or "none")


def _one_tile(side: int) -> TileGeometry:
    """Return the geometry of a network that takes tiles of one size."""
    return TileGeometry(side, side // 8)


def _card(card: RunCard, spec: ModelSpec, opened: OpenedProgram, origin: AdoptionRecord) -> RunCard:
    """Complete the card of an adopted run by what is known of its network."""
    return dataclasses.replace(
        card,
        arch=spec.arch,
        encoder=spec.encoder,
        outputs=spec.outputs,
        tile=spec.geometry.tile,
        halo=spec.geometry.halo,
        fixed_tile=spec.fixed_tile,
        in_channels=spec.bands,
        mean=spec.mean,
        std=spec.std,
        gsd_m=spec.gsd_m,
        parameters=ParametersRecord(total=opened.parameters),
        adopted_from=origin,
    )
