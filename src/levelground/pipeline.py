"""Study of a prepared data set: train, evaluate, compare and report; finished parts are not repeated."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from levelground.comparison.compare import compare_runs, log_exploratory, write_comparison
from levelground.comparison.record import Comparison
from levelground.comparison.tables import scores_table
from levelground.comparison.text import recorded
from levelground.config import RunOptions, StudyOptions
from levelground.console import Forecast, duration, part_of, say, say_table
from levelground.datasets.dataset import Dataset, write_dataset
from levelground.datasets.folds import fold_folder, read_folds
from levelground.errors import ConfigError, UnfinishedError
from levelground.evaluation.evaluate import evaluate_run, join_folds
from levelground.exporting.model_card import write_model_card
from levelground.models.build import canonical_arch, first_weights
from levelground.models.own_networks import is_own, name_network
from levelground.models.pretrained import resolve_source
from levelground.recipe_files import RecipeChanges, RecipeRecord, load_changes
from levelground.records import one_writer
from levelground.reporting.figures import draw_figures
from levelground.reporting.page import render_report
from levelground.runs import (
    EVALUATION_LOG,
    STUDY_FILE,
    Run,
    StudyOptionsRecord,
    StudyRecord,
    budget_folder,
    list_runs,
    read_study,
    write_study,
)
from levelground.runtime import Runtime
from levelground.training.initial_weights import InitialWeights, find_initial, fit_to_initial
from levelground.training.prepare_run import train_run
from levelground.training.run_spec import RunSpec, check_run_spec, find_run, fit_recipe, output_classes
from levelground.wording import decimal, gettext

Elsewhere = Callable[[Sequence[tuple[RunSpec, Dataset]]], Mapping[str, str]]
"""Trains and evaluates runs in other processes; returns why runs failed, by their folder below the study."""

TWIN_SEEDS = 1000
"""What is added to the seeds of a twin, so that it shares none with its architecture."""


def check_study(options: StudyOptions, *, bands: int = 3, n_outputs: int = 7, processes: int = 1) -> None:
    """Refuse what cannot be trained, before data are read.

    Raises:
        ConfigError: The batch cannot be divided among the processes, or networks start with weights of unlike sources.
        ModelError: An architecture, encoder, batch or tile do not go together.
        WeightsError: The encoder weights are not available.
    """
    for spec in run_specs(dataclasses.replace(options, seeds=(0,), twins=False)):
        check_run_spec(spec, bands=bands, n_outputs=n_outputs, processes=processes)
    if options.init:
        return  # they bring all weights
    # One network of two outputs fetches the weights that all share, or says in seconds that they are out of reach.
    own = [arch for arch in options.archs if is_own(arch)]
    source = resolve_source(options.recipe.encoder, options.recipe.encoder_weights)
    recipe = dataclasses.replace(options.recipe, encoder_weights=source)
    first = {
        arch: first_weights(arch, recipe, bands, n_outputs if arch in own else 2)
        for arch in [*[arch for arch in options.archs if arch not in own][:1], *own]
    }
    if len(set(first.values())) > 1:
        raise ConfigError(
            f"--archs: {', '.join(f'{arch} starts with weights {source!r}' for arch, source in first.items())}. Give "
            "--encoder-weights none, so that all start alike; levelground compare --allow-unlike compares other runs."
        )


def run_specs(options: StudyOptions) -> list[RunSpec]:
    """List every run of a study, seed by seed, so that all architectures have one run before any has two."""
    sides = [(arch, False) for arch in dict.fromkeys(options.archs)]
    if options.twins:
        sides += [(arch, True) for arch in dict.fromkeys(options.archs)]
    starts, changes = starting_networks(options), recipe_changes(options)
    recipes = {arch: changes[arch].apply(options.recipe, f"--recipe-for {arch}") for arch in changes}
    recipes |= {arch: fit_to_initial(recipes.get(arch, options.recipe), start) for arch, start in starts.items()}
    return [
        RunSpec(
            arch,
            seed + (TWIN_SEEDS if twin else 0),
            recipes.get(arch, options.recipe),
            options.budget,
            twin,
            starts.get(arch),
            changes[arch].tuning if arch in changes else None,
        )
        for seed in dict.fromkeys(options.seeds)
        for arch, twin in sides
    ]


def recipe_changes(options: StudyOptions) -> dict[str, RecipeChanges]:
    """Return the recipe fields that single architectures have for themselves; empty where ``--recipe-for`` names none.

    Raises:
        ConfigError: A file cannot be used, an architecture is not one of the study's, or they were not tuned alike.
    """
    names = {canonical_arch(arch): arch for arch in options.archs}
    found: dict[str, RecipeChanges] = {}
    for given in options.recipe_for:
        arch, _, path = given.partition("=")
        name = names.get(canonical_arch(arch))
        if not path or name is None or name in found:
            why = "expected ARCH=FILE" if not path else "is given twice" if name else f"--archs has no {arch}"
            raise ConfigError(f"--recipe-for {given}: {why}. Give one file for each of {', '.join(names.values())}.")
        found[name] = load_changes(path, f"--recipe-for {given}")
        found[name].apply(options.recipe, path)
    ways = {arch: _way(found.get(arch)) for arch in names.values()}
    first = options.archs[0]
    other = next((arch for arch in ways if ways[arch] != ways[first]), None)
    if other is not None:
        raise ConfigError(
            f"--recipe-for: {first} ({ways[first]}) and {other} ({ways[other]}) were not tuned alike. Give recipes of "
            "one levelground tune for all architectures; levelground compare --allow-unlike compares others."
        )
    return found


def _way(changes: RecipeChanges | None) -> str:
    """Return how an architecture was tuned, in words."""
    return changes.tuning.describe() if changes is not None and changes.tuning is not None else "not tuned"


def _say_other_base(options: StudyOptions) -> None:
    """Say which recipe fields are not what they were when others were tuned beside them."""
    for arch, changes in recipe_changes(options).items():
        now = dataclasses.asdict(options.recipe)
        other = [f"{name} {now[name]} (then {value})" for name, value in changes.base.items() if now.get(name) != value]
        if other:
            say("%(arch)s was tuned beside another recipe: %(other)s.", arch=arch, other=", ".join(other))


def starting_networks(options: StudyOptions) -> dict[str, InitialWeights]:
    """Return the whole network that each architecture of a study starts from; empty where they start from none.

    Raises:
        ConfigError: There is not one for each architecture.
    """
    archs = {canonical_arch(arch): arch for arch in options.archs}
    for arch in archs.values() if options.init else ():
        if is_own(arch):
            name_network(arch)
    found: dict[str, InitialWeights] = {}
    for given in options.init:
        start = find_initial(given, None, options.recipe)
        name = canonical_arch(start.arch)
        if name not in archs or archs[name] in found:
            which = "another one is given for it" if name in archs else f"--archs names {', '.join(archs)}"
            raise ConfigError(f"--init {given}: is {name}, and {which}. Give one network for each of --archs.")
        found[archs[name]] = start
    missing = [arch for arch in archs.values() if arch not in found]
    if options.init and missing:
        raise ConfigError(
            f"--init: no network for {', '.join(missing)}. Models that start alike are compared: give one for each "
            f"architecture, or --archs {' '.join(found)}."
        )
    return found


def run_study(
    dataset: Dataset, options: StudyOptions, runtime: Runtime, elsewhere: Elsewhere | None = None, *, since: float = 0.0
) -> Comparison:
    """Train, evaluate, compare and report in the folder of a prepared data set.

    Args:
        dataset: The prepared data; its folder is the study's.
        options: Which models to train, and the question asked of them.
        runtime: Where to compute.
        elsewhere: Trains and evaluates the runs in place of this process.
        since: When the command began, by ``time.monotonic``; 0 takes now.
    Returns:
        The comparison, already on disk beside its tables, figures and page.
    Raises:
        UnfinishedError: Some runs failed elsewhere; the others are compared and reported, the page names both.
        LevelgroundError: Something cannot be done; what is finished stays.
        KeyboardInterrupt: It was stopped; the same call resumes it.
    """
    folder, started = dataset.folder, since or time.monotonic()
    fitted = dataclasses.replace(options, recipe=fit_recipe(options.recipe, dataset))
    n_outputs = len(output_classes(fitted.recipe, dataset))
    check_study(fitted, bands=dataset.bands, n_outputs=n_outputs, processes=runtime.processes)
    with one_writer(folder):
        asked = as_named(options, folder)
        _say_other_base(fitted)
        specs, first = run_specs(fitted), _parts(dataset)[0]
        planned = tuple(find_run(spec, first, first.folder)[0].name for spec in specs)
        # Before anything is scored, and with the runs that a page of the interrupted study would lack.
        write_study(folder, dataclasses.replace(study_record(asked, ()), planned=planned))
        stages = [*_shorter_stages(dataset, fitted), _Stage(dataset, specs)]
        failed = {} if elsewhere is None else _train_elsewhere(stages, elsewhere)
        forecast = Forecast([part for stage in stages for part in _work(stage)] if elsewhere is None else [])
        for stage in stages:
            with one_writer(stage.dataset.folder) if stage.title else contextlib.nullcontext():
                if elsewhere is None:
                    runs = _train_all(stage, runtime, options.run_options, forecast)
                else:
                    runs = _collect(stage, folder, failed)
        runs += adopted_runs(folder, dataset)
        write_study(folder, study_record(asked, runs, failed))
        if not runs:
            raise UnfinishedError(_failures(failed))
        comparison = compare_and_report(runs, folder, options)
    say(
        "Done in %(minutes)s minutes. Open %(page)s",
        minutes=decimal(f"{(time.monotonic() - started) / 60:.1f}"),
        page=folder / "report.html",
    )
    if failed:
        raise UnfinishedError(_failures(failed))
    return comparison


@dataclasses.dataclass(frozen=True)
class _Stage:
    """Runs that lie in one folder: those of the study, or of a share of its budget.

    Attributes:
        dataset: The data set; its folder is where the runs lie, in ``runs/`` or in those of its folds.
        specs: The runs.
        title: What to say before they are trained; empty for the whole budget.
    """

    dataset: Dataset
    specs: Sequence[RunSpec]
    title: str = ""
    share: float = 1.0
    """Their share of the budget."""


def _work(stage: _Stage) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield the kind and amount of each part of a stage's work: training, then evaluation; 0 where it is done."""
    for spec in stage.specs:
        for dataset in _parts(stage.dataset):
            _, run = find_run(spec, dataset, dataset.folder)
            done = run if run is not None and run.card.status == "finished" else None
            yield ("train", spec.arch), 0.0 if done else stage.share
            yield ("evaluate", spec.arch), 0.0 if done and done.counts_path("test").exists() else 1.0


def shorter_budgets(options: StudyOptions) -> tuple[float, ...]:
    """Return the shares of the budget that are asked for beside the whole one, shortest first."""
    return tuple(sorted({share for share in options.budgets if share < 1}))


def _shorter_stages(dataset: Dataset, options: StudyOptions) -> Iterator[_Stage]:
    """Yield the runs at shares of the budget, shortest first."""
    for share in shorter_budgets(options):
        budget = options.budget.scaled(share, options.recipe)
        specs = run_specs(dataclasses.replace(options, budget=budget))
        asked = recorded(budget.describe(options.recipe))
        title = gettext("Budget %(share)s of the whole: %(budget)s", share=decimal(f"{share:g}"), budget=asked)
        yield _Stage(_budget_dataset(dataset, share), specs, title, share)


def _budget_dataset(dataset: Dataset, share: float) -> Dataset:
    """Write the records of a data set and its folds into the folder of a share of the budget."""
    folder = budget_folder(dataset.folder, share)
    for number, fold in enumerate(read_folds(dataset), start=1):
        write_dataset(fold, fold_folder(folder, number))
    write_dataset(dataset, folder)
    return dataclasses.replace(dataset, folder=folder)


def _train_all(stage: _Stage, runtime: Runtime, options: RunOptions, forecast: Forecast) -> list[Run]:
    """Train and evaluate all runs in the folder of a data set, in all of its folds where it has some."""
    dataset, specs = stage.dataset, stage.specs
    if stage.title:
        say(stage.title)
    folds, runs = read_folds(dataset), []
    for number, spec in enumerate(specs, start=1):
        title = gettext(
            "Run %(number)s of %(n)s: %(arch)s, seed %(seed)s",
            number=number,
            n=len(specs),
            arch=gettext("%(arch)s (twin)", arch=spec.arch) if spec.twin else spec.arch,
            seed=spec.seed,
        )
        left = forecast.left_s()
        if left:
            say("%(title)s; about %(time)s left of all", title=title, time=duration(left))
        else:
            say(title)
        if folds:
            runs.append(_train_folds(spec, dataset, folds, runtime, options, forecast))
            continue
        with part_of(gettext("run %(number)s of %(n)s", number=number, n=len(specs)), forecast.after_s):
            runs.append(train_and_evaluate(spec, dataset, runtime, options, on_trained=forecast.next))
            forecast.next()
    return runs


def _train_elsewhere(stages: Sequence[_Stage], elsewhere: Elsewhere) -> Mapping[str, str]:
    """Train and evaluate all runs of all folds and budgets elsewhere; their folders are held meanwhile."""
    study = stages[-1].dataset.folder
    pairs = [(spec, part) for stage in stages for spec in stage.specs for part in _parts(stage.dataset)]
    with contextlib.ExitStack() as held:
        for folder in {part.folder: None for _, part in pairs} | {stage.dataset.folder: None for stage in stages}:
            if folder != study:
                held.enter_context(one_writer(folder))
        return elsewhere(pairs)


def _parts(dataset: Dataset) -> Sequence[Dataset]:
    """Return the data sets that runs are trained on: the folds, or the data set itself."""
    return read_folds(dataset) or (dataset,)


def _collect(stage: _Stage, study: Path, failed: Mapping[str, str]) -> list[Run]:
    """Return the runs that were trained and evaluated elsewhere, joined where they are in folds; none that failed."""
    unusable, runs = {study / folder for folder in failed}, []
    for spec in stage.specs:
        found = [find_run(spec, part, part.folder) for part in _parts(stage.dataset)]
        if not unusable & {folder for folder, _ in found}:
            done = [run for _, run in found if run is not None]
            runs.append(join_folds(done, stage.dataset) if stage.dataset.split.folds else done[0])
    return runs


def _failures(failed: Mapping[str, str]) -> str:
    """Describe failed runs in one line."""
    folder, reason = next(iter(failed.items()))
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    return f"{folder}{more} failed; the first {reason} Mend it and give the same command: the rest is kept."


def train_and_evaluate(
    spec: RunSpec,
    dataset: Dataset,
    runtime: Runtime,
    options: RunOptions,
    on_trained: Callable[[], None] = lambda: None,
) -> Run:
    """Train a run in the folder of its data set, and evaluate it on the test scenes; what is finished is reused.

    Args:
        spec: What to train.
        dataset: The scenes.
        runtime: Where to compute.
        options: How the run is computed and saved.
        on_trained: Called between training and evaluation.
    Returns:
        The run.
    """
    run = train_run(spec, dataset, dataset.folder, runtime, options)
    on_trained()
    run = evaluate_run(run, dataset, "test", runtime=runtime)
    write_model_card(run)
    return run


def _train_folds(
    spec: RunSpec,
    dataset: Dataset,
    folds: Sequence[Dataset],
    runtime: Runtime,
    options: RunOptions,
    forecast: Forecast,
) -> Run:
    """Train a run anew for each fold, and join the counts of all folds into one run of the study.

    Args:
        spec: What to train.
        dataset: The whole data set.
        folds: Its folds.
        runtime: Where to compute.
        options: How the runs are computed and saved.
        forecast: The time left of the study.
    """
    runs = []
    for number, fold in enumerate(folds, start=1):
        say(
            "Fold %(number)s of %(n)s: training scenes %(training)s, test scenes %(test)s",
            number=number,
            n=len(folds),
            training=len(fold.ids("train")),
            test=len(fold.ids("test")),
        )
        with (
            one_writer(fold.folder),
            part_of(gettext("fold %(number)s of %(n)s", number=number, n=len(folds)), forecast.after_s),
        ):
            runs.append(train_and_evaluate(spec, fold, runtime, options, on_trained=forecast.next))
            forecast.next()
    return join_folds(runs, dataset)


def adopted_runs(folder: Path, dataset: Dataset) -> list[Run]:
    """List the runs that were adopted into the study's folder and scored on its test scenes."""
    return [
        run
        for run in list_runs(folder)
        if run.adopted
        and run.card.transferred_from is None
        and run.counts_path("test").exists()
        and run.card.legend_sha256 == dataset.legend.digest()
    ]


def as_named(options: StudyOptions, folder: Path) -> StudyOptions:
    """Keep metric and δ that the study named before its test scenes were first scored, whatever is asked now."""
    if not (folder / EVALUATION_LOG).exists() or not (folder / STUDY_FILE).exists():
        return options
    named = read_study(folder).options
    if (named.metric, named.delta) != (options.metric, options.delta):
        was = {"metric": named.metric, "delta": decimal(str(named.delta))}
        say("Exploratory: the study named %(metric)s and δ = %(delta)s before its test scenes were scored.", **was)
    return dataclasses.replace(options, metric=named.metric, delta=named.delta)


def study_record(options: StudyOptions, runs: Sequence[Run], failed: Mapping[str, str] | None = None) -> StudyRecord:
    """Return what ``study.json`` holds: what was asked, which runs it compares, and which failed."""
    asked = StudyOptionsRecord(
        archs=options.archs,
        seeds=options.seeds,
        recipe=RecipeRecord.of(options.recipe),
        budget=options.budget,
        metric=options.metric,
        delta=options.delta,
        twins=options.twins,
        init=tuple(Path(given.partition("::")[0]).name for given in options.init),
        recipe_for=tuple(Path(given).name for given in options.recipe_for),
        budgets=(*shorter_budgets(options), 1.0) if shorter_budgets(options) else (),
        workers=options.run_options.workers,
        save_every_s=options.run_options.save_every,
    )
    return StudyRecord(options=asked, runs=tuple(run.name for run in runs), failed=failed or {})


def compare_and_report(runs: Sequence[Run], folder: Path, options: StudyOptions) -> Comparison:
    """Compare evaluated runs by the study's question, and write tables, figures and page."""
    comparison = compare_runs(runs, metric=options.metric, delta=options.delta)
    write_comparison(comparison, folder)
    log_exploratory(comparison, runs)
    draw_figures(comparison, folder, folder / "figures", formats=options.figures)
    render_report(comparison, folder, folder / "report.html")
    table = scores_table(comparison)
    say_table(table.title, table.header, table.rows)
    for finding in comparison.findings:
        if finding.severity == "headline" or finding.code in ("what_would_decide", "budget_order", "budget_leader"):
            say(finding.text)
    return comparison
