"""Run spec, which says what a user asks to be trained, and the training job that it becomes."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from levelground.config import Budget, Recipe
from levelground.console import say
from levelground.datasets.dataset import Dataset
from levelground.errors import RecordError, SplitError
from levelground.models.build import build_model, canonical_arch, check_trainable
from levelground.models.model import Model
from levelground.models.own_networks import OWN_ENCODER, is_own, name_network, named_arch
from levelground.models.pretrained import resolve_source, source_identity
from levelground.models.spec import dataset_spec, numbered_spec
from levelground.recipe_files import LATER_FIELDS, TuningRecord
from levelground.records import sha256_json
from levelground.runs import InitialWeightsRecord, Run, read_recipe, read_run, run_name, runs_folder
from levelground.runtime import Runtime, available_cores
from levelground.tile_geometry import MULTIPLE, TileGeometry
from levelground.training.batches import BatchSource, process_slots
from levelground.training.initial_weights import InitialWeights, build_from_initial, started_from
from levelground.training.schedule import Course, TimeBudget, Times
from levelground.training.step import Stepper


@dataclass(frozen=True)
class RunSpec:
    """Architecture, seed, recipe and budget that the user asks to be trained."""

    arch: str
    seed: int
    recipe: Recipe
    budget: Budget
    twin: bool = False
    """Whether this is the architecture under a second name, a negative control."""
    init: InitialWeights | None = None
    """Whole network that it starts from, if any."""
    tuning: TuningRecord | None = None
    """How fields of its recipe were chosen, if they were tuned; no part of its identity."""
    limits: tuple[float, ...] = ()
    """Least best validation mIoU so far at each validation, below which the run ends; no part of its identity."""


def fit_recipe(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Fill in what depends on the data: a tile no larger than the largest scene, and the source of ``auto`` weights."""
    largest = max(max(scene.height, scene.width) for scene in dataset.scenes)
    tile = min(recipe.tile, math.ceil(largest / MULTIPLE) * MULTIPLE)
    source = resolve_source(recipe.encoder, recipe.encoder_weights)
    if tile != recipe.tile:
        say("Tile %(tile)s px in place of %(tile2)s: no scene is larger.", tile=tile, tile2=recipe.tile)
    halo = min(recipe.halo, tile // 4)
    if tile and halo != recipe.halo:
        say("Halo %(halo)s px in place of %(halo2)s: a quarter of the tile at most.", halo=halo, halo2=recipe.halo)
    return dataclasses.replace(recipe, tile=tile, halo=halo, encoder_weights=source)


def output_classes(recipe: Recipe, dataset: Dataset) -> tuple[int, ...]:
    """Return the legend index of each output of the network."""
    return tuple(k.index for k in dataset.legend.classes if k.counted or recipe.outputs == "all")


def check_learnable(dataset: Dataset, outputs: Sequence[int]) -> None:
    """Refuse training scenes that teach nothing: none has a pixel of a class that the network tells.

    Raises:
        SplitError: It is so.
    """
    if not any(dataset.scene(name).class_pixels[index] for name in dataset.ids("train") for index in outputs):
        raise SplitError(
            f"{dataset.folder}: no training scene has a pixel of a class that is learnt. Label scenes, or choose "
            "another --split, and run levelground prepare again."
        )


def check_run_spec(spec: RunSpec, *, bands: int, n_outputs: int, processes: int = 1) -> None:
    """Refuse what cannot be trained, before data are read.

    Raises:
        ConfigError: The batch cannot be divided among the processes.
        ModelError: Architecture, encoder, batch or tile do not go together.
    """
    if is_own(spec.arch):
        name_network(spec.arch)
    batch = len(process_slots(spec.recipe.batch, 0, processes))
    tile = spec.recipe.tile or 512  # whole scenes are larger than any layer asks for
    zeros, ones = [0.0] * bands, [1.0] * bands
    model_spec = numbered_spec(spec.arch, spec.recipe.encoder, n_outputs=n_outputs, mean=zeros, std=ones)
    check_trainable(dataclasses.replace(model_spec, geometry=TileGeometry(tile, 0)), batch=batch)


def build_initial_model(spec: RunSpec, dataset: Dataset) -> tuple[Model, InitialWeightsRecord | None]:
    """Build the network of a run spec with its initial weights; the same each time.

    Returns:
        The model; and what it started from, if that is a whole network.
    """
    recipe = spec.recipe
    model_spec = dataset_spec(
        dataset,
        spec.arch,
        recipe.encoder,
        output_classes(recipe, dataset),
        name=run_name(canonical_arch(spec.arch), _encoder(spec), spec.seed),
        geometry=TileGeometry(recipe.tile, recipe.halo, recipe.batch),
    )
    if spec.init is not None:
        return build_from_initial(spec.init, model_spec, recipe, dataset, seed=spec.seed)
    return build_model(model_spec, recipe, seed=spec.seed), None


def identity(spec: RunSpec, dataset: Dataset) -> str:
    """Hash all that decides a run's weights: the run spec, and the pixels and labels that it learns from."""
    fields = dataclasses.asdict(spec.recipe)
    del fields["name"], fields["default_epochs"]  # the budget says how long
    for name in LATER_FIELDS:
        if fields[name] == getattr(Recipe(), name):
            del fields[name]  # so that runs of earlier versions are recognised
    fields["encoder_weights"] = source_identity(spec.recipe.encoder_weights)
    return sha256_json(
        {
            "arch": canonical_arch(spec.arch),
            "seed": spec.seed,
            "recipe": fields,
            "budget": spec.budget.describe(spec.recipe),
            "data": dataset.digest(),
            **({"code": code_sha256(spec)} if code_sha256(spec) else {}),
            **({"init": spec.init.sha256} if spec.init else {}),
        }
    )


def code_sha256(spec: RunSpec) -> str | None:
    """Return the hash of the code of a network of the user's own; ``None`` for others."""
    return named_arch(canonical_arch(spec.arch)).code_sha256 if is_own(spec.arch) else None


def _encoder(spec: RunSpec) -> str:
    """Return the encoder as run cards name it: the recipe's, or none for a network without."""
    return OWN_ENCODER if is_own(spec.arch) else spec.recipe.encoder


def find_run(spec: RunSpec, dataset: Dataset, study: Path) -> tuple[Path, Run | None]:
    """Find the folder of a run spec in a study, and its run where one was started there.

    A run of another identity under the same name is left alone: the folder's name then carries the identity.

    Raises:
        RecordError: Both names are taken by other runs.
    """
    name = run_name(canonical_arch(spec.arch) + ("-twin" if spec.twin else ""), _encoder(spec), spec.seed)
    wanted = identity(spec, dataset)
    for candidate in (name, f"{name}-{wanted[:8]}"):
        folder = runs_folder(study) / candidate
        if not (folder / "run.json").exists():
            return folder, None
        run = read_run(folder)
        if run.card.identity == wanted:
            return folder, run
    raise RecordError(f"{folder}: holds another run. Remove it or choose another --out.")


def read_run_spec(run: Run) -> RunSpec:
    """Return what was asked for when a run was started.

    Raises:
        RecordError: Another tool trained it, or its card lacks the budget.
        ConfigError: The card's recipe has a key that this version does not know.
    """
    recipe = read_recipe(run)
    asked = run.card.budget.asked if run.card.budget else ""
    number, _, unit = asked.partition(" ")
    try:
        budget = TypeAdapter(Budget).validate_python({unit: number})
    except ValueError as error:
        raise RecordError(f"{run.folder / 'run.json'}: holds no budget to go on with. Make the run anew.") from error
    assert run.seed is not None
    return RunSpec(run.arch, run.seed, recipe, budget, twin=run.card.twin, init=started_from(run))


Corners = tuple[tuple[int, int], ...]
"""First row and column of windows of a scene; each is as large as a tile, or as the scene on a side that is smaller."""


@dataclass(frozen=True)
class TrainingJob:
    """Run that is ready to start: network, batches, number of steps, and where to compute."""

    folder: Path
    dataset: Dataset
    model: Model
    recipe: Recipe
    seed: int
    steps: int | None
    """All steps of the run; ``None`` under a budget of time."""
    validations: int
    """How often validation scenes are scored, evenly over the run; 0 does it at the end of every epoch."""
    steps_per_epoch: int
    source: BatchSource
    runtime: Runtime
    workers: int
    """Loader processes."""
    save_every_s: float
    """Longest time between two saved states, seconds."""
    total_s: float = 0.0
    """The budget of time, seconds; 0 under a budget in steps."""
    step_s: float = 0.0
    """Estimated time of a step, seconds; 0 where it is not known."""
    validation_s: float = 0.0
    """Estimated time of a validation, seconds; 0 where it is not known."""
    sample: Mapping[str, Corners] | None = None
    """Windows of the validation scenes that are scored; ``None`` takes the whole scenes."""
    started: float = 0.0
    """When its preparation began, by :func:`time.monotonic`."""
    started_from: InitialWeightsRecord | None = None
    """Whole network that it starts from, if any."""
    limits: tuple[float, ...] = ()
    """Least best validation mIoU so far at each validation, below which the run ends."""


def make_stepper(job: TrainingJob) -> Stepper:
    """Place a job's network on the device and give it an optimiser."""
    scenes = [job.dataset.scene(i) for i in job.dataset.ids("train")]
    pixels = [sum(column) for column in zip(*(scene.class_pixels for scene in scenes), strict=True)]
    return Stepper(job.model, job.recipe, job.runtime, seed=job.seed, steps=job.steps or 1, class_pixels=pixels)


def make_course(job: TrainingJob) -> Course:
    """Make the course of a job's steps, at its beginning."""
    time = TimeBudget(job.total_s, job.validations, job.steps_per_epoch)
    return Course(job.recipe, job.steps, time, Times(0.0, 0.0, job.step_s, job.validation_s), job.runtime)


def default_workers(runtime: Runtime) -> int:
    """Return the number of loader processes: none on a CPU, whose cores the network needs; up to 8 beside a GPU."""
    return 0 if runtime.device.type == "cpu" else min(8, available_cores() - 1)
