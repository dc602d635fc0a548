"""The main job on a prepared data set: train, evaluate, compare and report; what is done is not done again."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from levelground.comparison.compare import compare_runs, write_comparison
from levelground.comparison.record import Comparison
from levelground.comparison.tables import scores_table
from levelground.config import Budget, Recipe
from levelground.console import say, say_table
from levelground.datasets.dataset import Dataset
from levelground.evaluation.evaluate import evaluate_run
from levelground.exporting.model_card import write_model_card
from levelground.models.build import build_model
from levelground.models.spec import numbered_spec
from levelground.records import one_writer
from levelground.reporting.figures import draw_figures
from levelground.reporting.page import render_report
from levelground.runs import RecipeRecord, Run, StudyOptionsRecord, StudyRecord, list_runs, write_study
from levelground.runtime import Runtime
from levelground.training.prepare_run import Wish, check_wish, fit_recipe, outputs_of, train_wish

TWIN_SEEDS = 1000
"""What is added to the seeds of a twin, so that it shares none with its architecture."""


@dataclass(frozen=True)
class StudyOptions:
    """What to train and how to judge it."""

    archs: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: Recipe
    budget: Budget
    metric: str = "official.miou"
    delta: float = 0.01
    twins: bool = False
    workers: int | None = None
    save_every_s: float = 60.0


def check_options(options: StudyOptions, *, bands: int = 3, n_outputs: int = 7, processes: int = 1) -> None:
    """Refuse what cannot be trained, before data are read.

    Raises:
        ConfigError: The batch cannot be dealt to the processes.
        ModelError: An architecture, encoder, batch or tile do not go together.
        WeightsError: The encoder weights cannot be had.
    """
    for arch in dict.fromkeys(options.archs):
        check_wish(Wish(arch, 0, options.recipe, options.budget), bands=bands, n_outputs=n_outputs, processes=processes)
    # Building one network fetches the weights that all share, or says in seconds that they are out of reach.
    spec = numbered_spec(
        options.archs[0], options.recipe.encoder, n_outputs=n_outputs, mean=[0.0] * bands, std=[1.0] * bands
    )
    build_model(spec, options.recipe, seed=0)


def wishes_of(options: StudyOptions, recipe: Recipe) -> list[Wish]:
    """Every run of a study, seed by seed, so that all architectures have one run before any has two."""
    sides = [(arch, False) for arch in dict.fromkeys(options.archs)]
    if options.twins:
        sides += [(arch, True) for arch in dict.fromkeys(options.archs)]
    return [
        Wish(arch, seed + (TWIN_SEEDS if twin else 0), recipe, options.budget, twin)
        for seed in dict.fromkeys(options.seeds)
        for arch, twin in sides
    ]


def run_study(dataset: Dataset, options: StudyOptions, runtime: Runtime) -> Comparison:
    """Train, evaluate, compare and report in the folder of a prepared data set.

    Args:
        dataset: The prepared data; its folder is the study's.
        options: What to train and how to judge it.
        runtime: Where to compute.
    Returns:
        The comparison, already on disk beside its tables, figures and page.
    Raises:
        LevelgroundError: Something cannot be done; what is finished stays.
        KeyboardInterrupt: It was stopped; the same call goes on.
    """
    folder, started = dataset.folder, time.monotonic()
    recipe = fit_recipe(options.recipe, dataset)
    check_options(
        dataclasses.replace(options, recipe=recipe),
        bands=dataset.bands,
        n_outputs=len(outputs_of(recipe, dataset)),
        processes=runtime.processes,
    )
    wishes = wishes_of(options, recipe)
    with one_writer(folder):
        runs = []
        for number, wish in enumerate(wishes, start=1):
            say(f"Run {number} of {len(wishes)}: {wish.arch}{' (twin)' if wish.twin else ''}, seed {wish.seed}")
            run = train_wish(wish, dataset, folder, runtime, workers=options.workers, save_every_s=options.save_every_s)
            run = evaluate_run(run, dataset, "test", runtime=runtime)
            write_model_card(run)
            runs.append(run)
        runs += adopted_runs(folder, dataset)
        write_study(folder, study_record(options, runs))
        comparison = compare_and_report(runs, folder, metric=options.metric, delta=options.delta)
    say(f"Done in {(time.monotonic() - started) / 60:.1f} minutes. Open {folder / 'report.html'}")
    return comparison


def adopted_runs(folder: Path, dataset: Dataset) -> list[Run]:
    """Runs that were adopted into the study's folder and scored on its test scenes."""
    return [
        run
        for run in list_runs(folder)
        if run.adopted and run.counts_path("test").exists() and run.card.legend_sha256 == dataset.legend.digest()
    ]


def study_record(options: StudyOptions, runs: Sequence[Run]) -> StudyRecord:
    """Return what ``study.json`` holds: what was asked, and which runs it compares."""
    asked = StudyOptionsRecord(
        archs=options.archs,
        seeds=options.seeds,
        recipe=RecipeRecord.of(options.recipe),
        budget=options.budget,
        metric=options.metric,
        delta=options.delta,
        twins=options.twins,
        workers=options.workers,
        save_every_s=options.save_every_s,
    )
    return StudyRecord(options=asked, runs=tuple(run.name for run in runs))


def compare_and_report(runs: Sequence[Run], folder: Path, *, metric: str, delta: float) -> Comparison:
    """Compare evaluated runs and write everything that shows it: tables, figures, page."""
    comparison = compare_runs(runs, metric=metric, delta=delta)
    write_comparison(comparison, folder)
    draw_figures(comparison, folder, folder / "figures")
    render_report(comparison, folder, folder / "report.html")
    table = scores_table(comparison)
    say_table(table.title, table.header, table.rows)
    for finding in comparison.findings:
        if finding.severity == "headline" or finding.code == "what_would_decide":
            say(finding.text)
    return comparison
