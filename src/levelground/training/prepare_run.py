"""Runs from a run spec to the finished run: steps of the budget, run card, training, reuse and resuming."""

import copy
import dataclasses
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from levelground.comparison.text import recorded
from levelground.config import Budget, DeviceOptions, Recipe, RunOptions
from levelground.console import say, say_counted
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.errors import ConfigError, RecordError, TrainingError
from levelground.history import truncate_history
from levelground.models.build import canonical_arch, measure_size
from levelground.models.own_networks import name_network, named_sources
from levelground.recipe_files import BudgetRecord, RecipeRecord
from levelground.runs import ParametersRecord, Run, RunCard, SelectionRecord, read_run, write_card
from levelground.runtime import Runtime, versions
from levelground.training.batches import BatchSource, make_sampler, process_slots, steps_per_epoch
from levelground.training.distributed import broadcast_job
from levelground.training.initial_weights import InitialWeights, keep_initial, reload_initial, remove_initial
from levelground.training.loop import train
from levelground.training.run_spec import (
    RunSpec,
    TrainingJob,
    build_initial_model,
    check_learnable,
    code_sha256,
    default_workers,
    find_run,
    identity,
    make_stepper,
    output_classes,
    read_run_spec,
)
from levelground.training.validation import (
    choose_rule,
    choose_sample,
    describe_sample,
    estimate_times,
    renew_sample,
)
from levelground.wording import decimal, gettext, pgettext


def train_run(
    spec: RunSpec, dataset: Dataset, study: Path, runtime: Runtime, options: RunOptions = RunOptions()
) -> Run:
    """Train a run in a study, resume it where it was stopped, or reuse it where it is finished.

    Args:
        spec: What to train, with a recipe from :func:`levelground.training.run_spec.fit_recipe`.
        dataset: What to learn from.
        study: The study folder; the run lies in its ``runs/``.
        runtime: Where to compute.
        options: Loader processes, and how often the state is saved.
    Returns:
        The finished run.
    Raises:
        LevelgroundError: It cannot be trained.
        KeyboardInterrupt: It was stopped; its state is saved.
    """
    folder, run = find_run(spec, dataset, study)
    return _train_in(folder, run, spec, dataset, runtime, options)


def resume_run(run: Run, dataset: Dataset, runtime: Runtime, options: RunOptions = RunOptions()) -> Run:
    """Resume a run in its folder, exactly as its card says; a finished one is reused. See :func:`train_run`."""
    return _train_in(run.folder, run, read_run_spec(run), dataset, runtime, options)


def _train_in(
    folder: Path, run: Run | None, spec: RunSpec, dataset: Dataset, runtime: Runtime, options: RunOptions
) -> Run:
    """Train in a folder where ``run`` was started before, if any."""
    if run is not None and run.card.status == "finished":
        say_counted(
            "%(name)s: trained already, %(n)s step; reused.",
            "%(name)s: trained already, %(n)s steps; reused.",
            run.card.steps_done or 0,
            name=folder.name,
        )
        return run
    job = make_job(spec, dataset, folder, runtime, run, options)
    if run is None:
        truncate_history(folder, 0)  # of another run that stood here
        card = new_card(job, spec)
        if spec.init is not None:
            keep_initial(job.model, folder)
        if card.selection.reason:
            said = {"rule": card.selection.rule, "reason": recorded(card.selection.reason)}
            say("%(name)s: weights: %(rule)s, because %(reason)s.", name=folder.name, **said)
    else:
        card = renew_sample(dataclasses.replace(run.card, status="training"), job)
        _say_changes(card, runtime)
    write_card(folder, card)
    broadcast_job(runtime, JobRequest(spec, dataset.folder, folder, options, named_sources()))
    train(job, card)
    remove_initial(folder)
    return read_run(folder)


@dataclass(frozen=True)
class JobRequest:
    """Message of the main process to the others, so that they make the same job."""

    spec: RunSpec
    study: Path
    folder: Path
    options: RunOptions
    own: tuple[str, ...] = ()
    """Networks that the user named."""


def worker_job(request: object, runtime: Runtime) -> TrainingJob:
    """Make the job that the main process asks for; the run card holds its number of steps."""
    assert isinstance(request, JobRequest)
    for source in request.own:
        name_network(source)
    dataset, run = read_dataset(request.study), read_run(request.folder)
    return make_job(request.spec, dataset, request.folder, runtime, run, request.options)


def make_job(
    spec: RunSpec,
    dataset: Dataset,
    folder: Path,
    runtime: Runtime,
    run: Run | None,
    options: RunOptions = RunOptions(),
) -> TrainingJob:
    """Build the network and fix the number of steps, or the time.

    Args:
        spec: What to train.
        dataset: What to learn from.
        folder: The run folder.
        runtime: Where to compute.
        run: The run that was started in the folder, whose number of steps stays; ``None`` where there is none.
        options: Loader processes, and how often the state is saved.
    Returns:
        The job, ready to start.
    Raises:
        ConfigError: The batch cannot be divided among the processes, or whole scenes do not stack.
        TrainingError: The recipe's sanity check failed.
    """
    started = time.monotonic()
    check_learnable(dataset, output_classes(spec.recipe, dataset))
    ids = sorted(dataset.ids("train"))  # the order of a list plays no part
    sizes = [(dataset.scene(i).height, dataset.scene(i).width) for i in ids]
    sampler = make_sampler(spec.recipe, spec.seed, sizes, dataset.bands)
    slots = process_slots(spec.recipe.batch, runtime.rank, runtime.processes)
    if run is not None and spec.init is not None:
        model, start = reload_initial(run), run.card.initial_weights
    else:
        model, start = build_initial_model(spec, dataset)
    job = TrainingJob(
        folder=folder,
        dataset=dataset,
        model=model,
        started_from=start,
        recipe=spec.recipe,
        seed=spec.seed,
        steps=1,
        validations=spec.recipe.validations,
        steps_per_epoch=steps_per_epoch(spec.recipe, sizes),
        source=BatchSource(dataset, ids, sampler, output_classes(spec.recipe, dataset), slots),
        runtime=runtime,
        workers=default_workers(runtime) if options.workers is None else options.workers,
        save_every_s=options.save_every,
        started=started,
        limits=spec.limits,
    )
    if run is not None:
        return _as_begun(job, run, spec.budget)
    if spec.recipe.sanity_check:
        sanity_check(job)
    return fix_budget(job, spec.budget)


def _as_begun(job: TrainingJob, run: Run, budget: Budget) -> TrainingJob:
    """Give a job the steps that its card holds; a budget of time has none, unless an older version counted them."""
    fixed = run.card.budget
    assert fixed is not None
    assert fixed.validations is not None
    total_s = 0.0 if fixed.steps is not None else 60 * (budget.minutes or 0.0)
    job = dataclasses.replace(job, steps=fixed.steps, total_s=total_s, validation_s=fixed.validation_s or 0.0)
    sample = choose_sample(job) if fixed.validation_sample is not None else None
    return dataclasses.replace(job, validations=fixed.validations, sample=sample)


def fix_budget(job: TrainingJob, budget: Budget) -> TrainingJob:
    """Fix the number of steps, or the time, and what a validation scores; say what validations will take."""
    recipe = job.recipe
    if budget.minutes is not None:
        job = dataclasses.replace(job, steps=None, total_s=60 * budget.minutes)
    else:
        epochs = budget.epochs or recipe.default_epochs
        job = dataclasses.replace(job, steps=budget.steps or max(1, round(epochs * job.steps_per_epoch)))
    job = dataclasses.replace(job, sample=choose_sample(job))
    step_s, validation_s = estimate_times(job)
    rounds = recipe.validations
    if job.steps is None:
        affordable = int(recipe.validation_share * job.total_s / max(validation_s, 1e-9))
        rounds = min(rounds, max(1, affordable))
    job = dataclasses.replace(job, validations=rounds, step_s=step_s, validation_s=validation_s)
    _say_price(job)
    return job


def _say_price(job: TrainingJob) -> None:
    """Say how often validation scenes are scored, on how much of them, and what that takes."""
    sample, often = describe_sample(job), job.validations or gettext("one an epoch")
    if sample is None and job.validation_s < WORTH_SAYING_S:
        return
    size = pgettext("validations on", "whole scenes")
    if sample is not None:
        size = pgettext(
            "validations on",
            "%(windows)s windows of the validation scenes (%(part)s of %(all)s megapixels), the same for every run",
            windows=sample.windows,
            part=decimal(f"{sample.megapixels:.3g}"),
            all=decimal(f"{sample.of_megapixels:.4g}"),
        )
    say(
        "%(name)s: validations: %(often)s, about %(seconds)s s each, on %(size)s.",
        name=job.folder.name,
        often=often,
        seconds=decimal(f"{job.validation_s:.1f}"),
        size=size,
    )


WORTH_SAYING_S = 1.0
"""Validations that take less are not spoken of."""


def sanity_check(job: TrainingJob) -> None:
    """Train one epoch on two scenes with a copy of the network, as the origin study does, to fail early.

    Raises:
        TrainingError: The loss is not a number.
    """
    stepper = make_stepper(_copy(job))
    steps = max(1, min(job.steps_per_epoch, math.ceil(2 / job.recipe.batch)))
    losses = [stepper.step(number, job.source[number]).item() for number in range(steps)]
    if not all(math.isfinite(loss) for loss in losses):
        raise TrainingError(f"{job.folder.name}: sanity check: the loss is {losses[-1]}. Lower --lr or mend the data.")
    say(
        "%(name)s: sanity check on two scenes passed, loss %(loss)s.",
        name=job.folder.name,
        loss=decimal(f"{losses[-1]:.3f}"),
    )


def _copy(job: TrainingJob) -> TrainingJob:
    model = job.model.with_forward(copy.deepcopy(job.model.network))
    return dataclasses.replace(job, model=model, runtime=job.runtime.single_process())


def new_card(job: TrainingJob, spec: RunSpec) -> RunCard:
    """Make the card of a run that is about to start."""
    rule, reason = choose_rule(job.dataset, spec.recipe, job.sample)
    dataset, model, size = job.dataset, job.model.spec, measure_size(job.model, side=spec.recipe.tile or 512)
    return RunCard(
        name=job.folder.name,
        status="training",
        arch=model.arch,
        encoder=model.encoder,
        encoder_weights=job.model.encoder_weights,
        seed=spec.seed,
        twin=spec.twin,
        recipe=RecipeRecord.of(spec.recipe),
        budget=BudgetRecord(
            asked=spec.budget.describe(spec.recipe),
            steps=job.steps,
            validations=job.validations,
            validation_s=job.validation_s or None,
            validation_sample=describe_sample(job),
        ),
        steps_per_epoch=job.steps_per_epoch,
        outputs=model.outputs,
        tile=spec.recipe.tile,
        halo=spec.recipe.halo,
        in_channels=dataset.bands,
        dtype=dataset.dtype,
        mean=model.mean,
        std=model.std,
        gsd_m=dataset.gsd_m,
        band_info=dataset.band_info,
        legend=dataset.legend.to_json(),
        legend_sha256=dataset.legend.digest(),
        train_sha256=dataset.digest(),
        split_sha256=dataset.split_sha256,
        versions=versions(),
        **job.runtime.describe(),
        parameters=ParametersRecord(total=size.total, used=size.used, trainable=size.trainable),
        macs_per_megapixel=size.macs_per_megapixel,
        selection=SelectionRecord(rule=rule, reason=reason),
        identity=identity(spec, dataset),
        initial_weights=job.started_from,
        tuning=spec.tuning,
        code_sha256=code_sha256(spec),
    )


def _say_changes(card: RunCard, runtime: Runtime) -> None:
    """Name what decides a run's last bits and is not what it was when the run was started."""
    now = runtime.describe()
    if card.processes != now["processes"]:
        say(
            "%(name)s: processes were %(processes)s, now %(now)s: the crops stay the same, the weights will differ.",
            name=card.name,
            processes=card.processes,
            now=now["processes"],
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
            say(
                "%(name)s: %(name2)s were %(before)s, now %(after)s: the weights may differ in the last bits.",
                name=card.name,
                name2=name,
                before=before,
                after=after,
            )


@dataclass(frozen=True)
class Overrides:
    """Flags given beside ``--resume``; ``None``, ``Recipe()`` and ``Budget()`` are not given."""

    study: Path | None
    arch: str | None
    seed: int | None
    recipe: Recipe
    budget: Budget
    init: InitialWeights | None = None


def check_overrides(run: Run, overrides: Overrides) -> None:
    """Refuse flags that contradict the run card.

    Raises:
        ConfigError: A flag differs from the card; the message names the first.
    """
    for flag, value, begun in _contradictions(read_run_spec(run), run.study, overrides):
        raise ConfigError(
            f"{flag} {value}: {run.name} was begun with {begun} and goes on with it. "
            "Drop the flag, or train a new run without --resume."
        )


def _contradictions(spec: RunSpec, study: Path, overrides: Overrides) -> Iterator[tuple[str, object, object]]:
    """Yield flag, value given and value on the card."""
    if overrides.study is not None and overrides.study.resolve() != study:
        yield "STUDY", overrides.study, study
    if overrides.arch is not None and canonical_arch(overrides.arch) != spec.arch:
        yield "--arch", overrides.arch, spec.arch
    if overrides.seed is not None and overrides.seed != spec.seed:
        yield "--seed", overrides.seed, spec.seed
    if overrides.init is not None and (spec.init is None or spec.init.sha256 != overrides.init.sha256):
        yield "--init", overrides.init.path, "no network" if spec.init is None else spec.init.name
    asked = spec.budget.describe(spec.recipe)
    if overrides.budget != Budget() and overrides.budget.describe(spec.recipe) != asked:
        number, _, unit = overrides.budget.describe(spec.recipe).partition(" ")
        yield f"--{unit}", number, asked
    if overrides.recipe != Recipe():  # the command line fills in the card's recipe, so that only what was typed differs
        for field in dataclasses.fields(Recipe):
            value, recorded = getattr(overrides.recipe, field.name), getattr(spec.recipe, field.name)
            if field.name != "name" and value != recorded:
                yield f"--{field.name.replace('_', '-')}", value, recorded


def check_data(run: Run, dataset: Dataset) -> None:
    """Refuse to resume a run on other data than it was started on.

    Raises:
        RecordError: Scenes, labels, split, legend or encoder weights are not what they were.
    """
    spec = read_run_spec(run)
    if code_sha256(spec) != run.card.code_sha256:
        raise RecordError(
            f"{run.folder}: was begun with another {run.arch.partition(':')[0]} than there is now. Restore that file, "
            "or train a new run without --resume."
        )
    if identity(spec, dataset) != run.card.identity:
        raise RecordError(
            f"{run.folder}: was begun with other scenes, labels, split or encoder weights than {dataset.folder} has "
            "now. Prepare the data as they were, or train a new run without --resume."
        )


def resumed_device_options(run: Run, asked: DeviceOptions) -> DeviceOptions:
    """Take device, precision and threads, which decide the last bits, from the card unless they are asked for."""
    fields = ("device", "precision", "threads")
    recorded = {name: value for name in fields if (value := getattr(run.card, name)) is not None}
    asked_for = {name: getattr(asked, name) for name in fields if getattr(asked, name) not in ("auto", None)}
    return TypeAdapter(DeviceOptions).validate_python(recorded | asked_for)


def resumed_run_options(run: Run, asked: RunOptions) -> RunOptions:
    """Take the processes from the card where none are asked for and torchrun started none; stay deterministic."""
    processes = asked.processes
    if processes is None and "TORCHELASTIC_RUN_ID" not in os.environ:
        processes = run.card.processes
    exactly = asked.deterministic or bool(run.card.deterministic)
    return dataclasses.replace(asked, processes=processes, deterministic=exactly)
