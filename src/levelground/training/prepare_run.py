"""From a wish (architecture, seed, recipe, budget) to a run that is ready to train, or one that is already done."""

import copy
import dataclasses
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from levelground.config import Budget, Recipe
from levelground.console import say
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.errors import RecordError, TrainingError
from levelground.exporting.model_card import write_model_card
from levelground.models.build import build_model, canonical_arch, check_trainable, measure_size
from levelground.models.model import Model
from levelground.models.pretrained import resolve_source, source_identity
from levelground.models.spec import dataset_spec, numbered_spec
from levelground.records import sha256_json
from levelground.runs import (
    BudgetRecord,
    ParametersRecord,
    RecipeRecord,
    Run,
    RunCard,
    read_run,
    run_name,
    runs_folder,
    write_card,
)
from levelground.runtime import Runtime, versions
from levelground.tile_geometry import MULTIPLE, TileGeometry
from levelground.training.batches import BatchSource
from levelground.training.distributed import summon
from levelground.training.loop import train
from levelground.training.run_spec import Plan, default_workers, make_stepper
from levelground.training.sampling import deal, make_sampler, steps_per_epoch
from levelground.training.validation import validate

PROBE_STEPS = 3
"""Steps that ``--minutes`` times, after as many to warm up, on a copy that is thrown away."""


LONG_PROBE_S = 20.0
"""When timing has taken so long, as with whole scenes on a CPU, two steps tell enough."""


VALIDATION_SHARE = 0.25
"""Largest share of ``--minutes`` that goes into validation; there are fewer rounds where they would take more."""


def plan_budget(plan: Plan, budget: Budget) -> Plan:
    """Fix the number of steps and validations; minutes are turned into steps by timing some on a copy."""
    recipe = plan.recipe
    if budget.steps is not None:
        return dataclasses.replace(plan, steps=budget.steps)
    if budget.minutes is None:
        steps = round((budget.epochs or recipe.default_epochs) * plan.steps_per_epoch)
        return dataclasses.replace(plan, steps=max(1, steps))
    started = time.monotonic()
    step_s, validation_s = probe(plan)
    spent = time.monotonic() - started
    affordable = max(1, int(VALIDATION_SHARE * 60 * budget.minutes / validation_s))
    rounds = min(recipe.validations, affordable)
    left = 60 * budget.minutes - spent - rounds * validation_s
    per_step = step_s if rounds else step_s + validation_s / plan.steps_per_epoch
    steps = max(1, int(left / per_step))
    say(
        f"{plan.folder.name}: {budget.minutes:g} minutes are {steps} steps at {step_s:.2f} s each and "
        f"{rounds or 'a validation an epoch'}{' validations' if rounds else ''} at {validation_s:.1f} s."
    )
    return dataclasses.replace(plan, steps=steps, validations=rounds)


def probe(plan: Plan) -> tuple[float, float]:
    """Time training steps and a validation on a copy of the network.

    Returns:
        Seconds of a step (the median of :data:`PROBE_STEPS`), and of a validation of all validation scenes.
    """
    plan = _copy(plan)
    stepper, times = make_stepper(plan), [0.0]
    for number in range(2 * PROBE_STEPS):
        started = time.perf_counter()
        stepper.step(number, plan.source[number]).item()
        times.append(time.perf_counter() - started)
        if sum(times) > LONG_PROBE_S and number:
            break
    areas = {i: plan.dataset.scene(i).height * plan.dataset.scene(i).width for i in plan.dataset.ids("val")}
    smallest = min(areas, key=areas.__getitem__)
    started = time.perf_counter()
    validate(plan, stepper.model, [smallest])
    seconds = time.perf_counter() - started
    return statistics.median(times[len(times) // 2 :]), seconds * sum(areas.values()) / areas[smallest]


def sanity_check(plan: Plan) -> None:
    """Train one epoch on two scenes with a copy of the network, as the origin study does, to fail early.

    Raises:
        TrainingError: The loss is no number.
    """
    stepper = make_stepper(_copy(plan))
    steps = max(1, min(plan.steps_per_epoch, math.ceil(2 / plan.recipe.batch)))
    losses = [stepper.step(number, plan.source[number]).item() for number in range(steps)]
    if not all(math.isfinite(loss) for loss in losses):
        raise TrainingError(f"{plan.folder.name}: sanity check: the loss is {losses[-1]}. Lower --lr or mend the data.")
    say(f"{plan.folder.name}: sanity check on two scenes passed, loss {losses[-1]:.3f}.")


def _copy(plan: Plan) -> Plan:
    model = plan.model.with_forward(copy.deepcopy(plan.model.network))
    return dataclasses.replace(plan, model=model, runtime=plan.runtime.alone())


@dataclass(frozen=True)
class Wish:
    """What the user asks to be trained."""

    arch: str
    seed: int
    recipe: Recipe
    budget: Budget
    twin: bool = False
    """Whether this is the architecture under a second name, a negative control."""


@dataclass(frozen=True)
class Job:
    """A run for all processes: what was asked, and where its study and its card lie."""

    wish: Wish
    study: Path
    folder: Path
    workers: int | None


def fit_recipe(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Fill in what only the data tell: no tile larger than the largest scene, and where ``auto`` weights come from."""
    largest = max(max(scene.height, scene.width) for scene in dataset.scenes)
    tile = min(recipe.tile, math.ceil(largest / MULTIPLE) * MULTIPLE)
    source = resolve_source(recipe.encoder, recipe.encoder_weights)
    if tile != recipe.tile:
        say(f"Tile {tile} px in place of {recipe.tile}: no scene is larger.")
    halo = min(recipe.halo, tile // 4)
    if tile and halo != recipe.halo:
        say(f"Halo {halo} px in place of {recipe.halo}: a quarter of the tile at most.")
    return dataclasses.replace(recipe, tile=tile, halo=halo, encoder_weights=source)


def outputs_of(recipe: Recipe, dataset: Dataset) -> tuple[int, ...]:
    """The legend index of each output of the network."""
    return tuple(k.index for k in dataset.legend.classes if k.counted or recipe.outputs == "all")


def build_wished(wish: Wish, dataset: Dataset) -> Model:
    """The network of a wish with its initial weights; the same each time."""
    recipe = wish.recipe
    spec = dataset_spec(
        dataset,
        wish.arch,
        recipe.encoder,
        outputs_of(recipe, dataset),
        name=run_name(canonical_arch(wish.arch), recipe.encoder, wish.seed),
        geometry=TileGeometry(recipe.tile, recipe.halo, recipe.batch),
    )
    return build_model(spec, recipe, seed=wish.seed)


def check_wish(wish: Wish, *, bands: int, n_outputs: int, processes: int = 1) -> None:
    """Refuse what cannot be trained, before data are read.

    Raises:
        ConfigError: The batch cannot be dealt to the processes.
        ModelError: Architecture, encoder, batch or tile do not go together.
    """
    batch = len(deal(wish.recipe.batch, 0, processes))
    tile = wish.recipe.tile or 512  # whole scenes are larger than any layer asks for
    spec = numbered_spec(wish.arch, wish.recipe.encoder, n_outputs=n_outputs, mean=[0.0] * bands, std=[1.0] * bands)
    check_trainable(dataclasses.replace(spec, geometry=TileGeometry(tile, 0)), batch=batch)


def identity(wish: Wish, dataset: Dataset) -> str:
    """The hash of all that decides a run's weights: what is asked, and the pixels and labels it learns from."""
    fields = dataclasses.asdict(wish.recipe)
    del fields["name"], fields["default_epochs"]  # the budget says how long
    fields["encoder_weights"] = source_identity(wish.recipe.encoder_weights)
    return sha256_json(
        {
            "arch": canonical_arch(wish.arch),
            "seed": wish.seed,
            "recipe": fields,
            "budget": wish.budget.describe(wish.recipe),
            "data": dataset.digest(),
        }
    )


def find_run(wish: Wish, dataset: Dataset, study: Path) -> tuple[Path, Run | None]:
    """The folder where a wish belongs, and its run where one was begun there.

    A run of another identity under the same name is left alone: the folder's name then carries the identity.
    """
    name = run_name(canonical_arch(wish.arch) + ("-twin" if wish.twin else ""), wish.recipe.encoder, wish.seed)
    wanted = identity(wish, dataset)
    for candidate in (name, f"{name}-{wanted[:8]}"):
        folder = runs_folder(study) / candidate
        if not (folder / "run.json").exists():
            return folder, None
        run = read_run(folder)
        if run.card.identity == wanted:
            return folder, run
    raise RecordError(f"{folder}: holds another run. Remove it or choose another --out.")


def train_wish(
    wish: Wish,
    dataset: Dataset,
    study: Path,
    runtime: Runtime,
    *,
    workers: int | None = None,
    save_every_s: float = 60.0,
) -> Run:
    """Train what is asked, go on where it was stopped, or say that it is done.

    Args:
        wish: What to train, with a recipe from :func:`fit_recipe`.
        dataset: What to learn from.
        study: The study folder; the run lies in its ``runs/``.
        runtime: Where to compute.
        workers: Loader processes; ``None`` chooses.
        save_every_s: Longest time between two saved states, seconds.
    Returns:
        The finished run.
    Raises:
        LevelgroundError: It cannot be trained.
        KeyboardInterrupt: It was stopped; what was learnt is saved.
    """
    folder, run = find_run(wish, dataset, study)
    return train_run(wish, dataset, folder, run, runtime, workers=workers, save_every_s=save_every_s)


def train_run(
    wish: Wish,
    dataset: Dataset,
    folder: Path,
    run: Run | None,
    runtime: Runtime,
    *,
    workers: int | None = None,
    save_every_s: float = 60.0,
) -> Run:
    """Train in a folder what :func:`find_run` found there; see :func:`train_wish`."""
    if run is not None and run.card.status == "finished":
        say(f"{folder.name}: trained already, {run.card.steps_done} steps; reused.")
        write_model_card(run)
        return run
    plan = make_plan(wish, dataset, folder, runtime, run, workers=workers, save_every_s=save_every_s)
    if run is None:
        card = new_card(plan, wish)
    else:
        card = dataclasses.replace(run.card, status="training")
        _say_changes(card, runtime)
    write_card(folder, card)
    summon(runtime, Job(wish, dataset.folder, folder, workers))
    train(plan, card)
    run = read_run(folder)
    write_model_card(run)
    return run


def plan_of(job: object, runtime: Runtime) -> Plan:
    """The plan of a run that another process began; its card says how many steps."""
    assert isinstance(job, Job)
    dataset, run = read_dataset(job.study), read_run(job.folder)
    return make_plan(job.wish, dataset, job.folder, runtime, run, workers=job.workers)


def make_plan(
    wish: Wish,
    dataset: Dataset,
    folder: Path,
    runtime: Runtime,
    run: Run | None,
    *,
    workers: int | None = None,
    save_every_s: float = 60.0,
) -> Plan:
    """Build the network and fix the number of steps; a run that was begun keeps its number."""
    ids = sorted(dataset.ids("train"))  # the order of a list plays no part
    sizes = [(dataset.scene(i).height, dataset.scene(i).width) for i in ids]
    per_epoch = steps_per_epoch(wish.recipe, sizes)
    outputs = outputs_of(wish.recipe, dataset)
    sampler = make_sampler(wish.recipe, wish.seed, sizes, dataset.bands)
    plan = Plan(
        folder=folder,
        dataset=dataset,
        model=build_wished(wish, dataset),
        recipe=wish.recipe,
        seed=wish.seed,
        steps=1,
        validations=wish.recipe.validations,
        steps_per_epoch=per_epoch,
        source=BatchSource(dataset, ids, sampler, outputs, deal(wish.recipe.batch, runtime.rank, runtime.processes)),
        runtime=runtime,
        workers=default_workers(runtime) if workers is None else workers,
        save_every_s=save_every_s,
    )
    if run is not None:
        begun = run.card.budget
        assert begun is not None and begun.steps is not None and begun.validations is not None
        return dataclasses.replace(plan, steps=begun.steps, validations=begun.validations)
    if wish.recipe.sanity_check:
        sanity_check(plan)
    return plan_budget(plan, wish.budget)


def new_card(plan: Plan, wish: Wish) -> RunCard:
    """The card of a run that is about to start."""
    dataset, model, size = plan.dataset, plan.model.spec, measure_size(plan.model, side=wish.recipe.tile or 512)
    return RunCard(
        name=plan.folder.name,
        status="training",
        arch=model.arch,
        encoder=model.encoder,
        encoder_weights=plan.model.encoder_weights,
        seed=wish.seed,
        twin=wish.twin,
        recipe=RecipeRecord.of(wish.recipe),
        budget=BudgetRecord(asked=wish.budget.describe(wish.recipe), steps=plan.steps, validations=plan.validations),
        steps_per_epoch=plan.steps_per_epoch,
        outputs=model.outputs,
        tile=wish.recipe.tile,
        halo=wish.recipe.halo,
        in_channels=dataset.bands,
        dtype=dataset.dtype,
        mean=model.mean,
        std=model.std,
        gsd_m=dataset.gsd_m,
        legend=dataset.legend.to_json(),
        legend_sha256=dataset.legend.digest(),
        train_sha256=dataset.digest(),
        split_sha256=dataset.split_sha256,
        versions=versions(),
        **plan.runtime.describe(),
        parameters=ParametersRecord(total=size.total, used=size.used, trainable=size.trainable),
        macs_per_megapixel=size.macs_per_megapixel,
        identity=identity(wish, dataset),
    )


def _say_changes(card: RunCard, runtime: Runtime) -> None:
    """Say which of the things that decide a run's bits are not what they were when it was begun."""
    now = runtime.describe()
    if card.processes != now["processes"]:
        say(
            f"{card.name}: processes were {card.processes}, now {now['processes']}: the crops stay the same, "
            "the weights will differ."
        )
    changes = [
        ("versions", dict(card.versions), versions()),
        ("threads", card.threads, now["threads"]),
        ("precision", card.precision, now["precision"]),
        ("device", card.device, now["device"]),
        ("hardware", card.hardware, now["hardware"]),
        ("deterministic", card.deterministic, now["deterministic"]),
    ]
    for name, before, after in changes:
        if before != after:
            say(f"{card.name}: {name} were {before}, now {after}: the weights may differ in the last bits.")
