"""Compare evaluated runs: scores, intervals, verdicts and findings, computed from counts alone.

No torch and no pixels: each run's ``counts-<split>.npz`` and card are all that is read. docs/compare.md explains the
figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue

from levelground import __version__
from levelground.comparison.compatibility import (
    Evaluated,
    check_alike,
    compare_protocols,
    name_architectures,
    refuse_unlike,
    run_labels,
)
from levelground.comparison.conditions import BudgetRung, NamedQuestion, ProtocolDifference, UnfinishedRun, WithoutGroup
from levelground.comparison.facts import pair_verdict
from levelground.comparison.findings import find, rung_of, with_whole_budget
from levelground.comparison.inputs import (
    dataset_summary,
    find_dataset,
    gather,
    ground_truth,
    legend_of,
    log_view,
    named_question,
    read_evaluation_log,
    scene_rows,
    separated_groups,
)
from levelground.comparison.record import FILE, Comparison, write_record
from levelground.comparison.results import (
    OPPOSITE,
    ArchitecturePairResult,
    ArchitectureResult,
    PairResult,
    RunPairResult,
    RunResult,
    negated,
)
from levelground.comparison.sentences import as_findings, write_pair
from levelground.comparison.speeds import unlike_predictions
from levelground.comparison.summaries import (
    architecture_pair_results,
    architecture_results,
    boundary_scores,
    calibration,
    convergence,
    groups_for_p,
    mean_loss,
    open_pair_power,
    pareto_front,
    run_pair_results,
    scene_scores,
    score_set,
    sensitivity_rows,
    stack_counts,
    throughput,
)
from levelground.comparison.tables import comparison_latex, latex_text, to_csv, to_markdown, write_tables
from levelground.config import DELTA, METRIC
from levelground.errors import ConfigError
from levelground.files import in_turn
from levelground.imagery.legend import Legend
from levelground.metrics.named import Metric, parse_metric
from levelground.metrics.scores import scorings
from levelground.runs import RUN_FILE, STUDY_FILE, Run, budget_folder, read_run, read_study, runs_folder, study_budgets
from levelground.statistics.families import (
    Family,
    FamilyStatistics,
    StackedCounts,
    Statistics,
    comparison_statistics,
)
from levelground.wording import SOURCE, current_language, language

P = TypeVar("P", bound=PairResult)


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Runs that may be compared, and the question asked of them.

    Attributes:
        evaluated: The runs with their counts.
        archs: The architecture of each run.
        twin_of: For each twin its original.
        legend: The classes.
        metric: The primary metric.
        delta: The difference that counts as none, δ.
        stacked: The counts of all runs.
    """

    evaluated: tuple[Evaluated, ...]
    archs: tuple[str, ...]
    twin_of: Mapping[str, str]
    legend: Legend
    metric: Metric
    delta: float
    stacked: StackedCounts

    def metric_of(self, name: str) -> Metric:
        """Return a metric over all classes by its name."""
        return parse_metric(name, self.legend.names, self.legend.counted)

    @property
    def mean_iou(self) -> Metric:
        """The mIoU under the primary metric's scoring; the official one beside a boundary metric."""
        return self.metric_of(f"{'official' if self.metric.view == 'boundary' else self.metric.view}.miou")

    def families(self) -> list[Family]:
        """Return all runs but twins, then each twin with its original: the negative controls."""
        asked = [arch for arch in self.archs if arch not in self.twin_of]
        return [self._family(members) for members in (asked, *self.twin_of.items())]

    def _family(self, members: Sequence[str]) -> Family:
        runs = tuple(number for number, arch in enumerate(self.archs) if arch in members)
        return Family(runs, tuple(self.archs[number] for number in runs))


def compare_runs(
    runs: Sequence[Run],
    *,
    split: str = "test",
    metric: str | None = None,
    delta: float | None = None,
    allow_unlike: bool = False,
) -> Comparison:
    """Compare runs that were evaluated on the same scenes.

    Args:
        runs: One run or more.
        split: The split whose counts are compared.
        metric: The primary metric: verdicts are about it, everything else describes. ``None`` takes the one that the
            studies of the runs named; another one makes the comparison exploratory.
        delta: Differences below this do not matter, δ; ``None`` as for ``metric``.
        allow_unlike: Compare runs of unlike training protocol or tile geometry, and name what differs.
    Returns:
        The comparison, as ``comparison.json`` holds it.
    Raises:
        UnlikeError: Labels, legend, test scenes or groups differ; or the protocol does and was not allowed to.
        RecordError: A run was not evaluated on the split, or a record is damaged.
        ConfigError: No such metric, or a δ that is no difference.
    """
    if delta is not None and not 0 <= delta < 1:
        raise ConfigError(f"delta is {delta}, expected a difference of scores from 0 to below 1. Give --delta 0.01.")
    evaluated = gather(runs, split)
    check_alike(evaluated)
    protocol, unlike = compare_protocols(evaluated)
    refuse_unlike(unlike, allow_unlike=allow_unlike)
    legend = legend_of(evaluated)
    named = named_question(evaluated, legend)
    asked = named or NamedQuestion(METRIC, DELTA)
    primary = parse_metric(metric or asked.metric, legend.names, legend.counted)
    folds = max(len(item.run.card.folds) for item in evaluated)
    stacked = replace(stack_counts(evaluated, legend.counted), folds=folds)
    if primary.view == "boundary" and stacked.boundary is None:
        raise ConfigError(
            f"metric {primary.name!r}: not all runs hold boundary counts at one distance. Evaluate them again."
        )
    archs, twin_of = name_architectures(evaluated, unlike)
    margin = asked.delta if delta is None else delta
    inputs = _Inputs(tuple(evaluated), tuple(archs), twin_of, legend, primary, margin, stacked)
    statistics = _statistics(inputs)
    answer = replace(_answer(inputs, statistics, split, protocol, unlike), named=named)
    own = [item.run for item in evaluated]
    answer = replace(
        answer,
        failed_runs=_failed_runs(own),
        unfinished=_unfinished_runs(own, split),
        carried=_carried(inputs, statistics, answer),
    )
    rungs = _shorter_budgets(own, split, primary.name, margin, allow_unlike=allow_unlike)
    return _with_findings(replace(answer, budgets=with_whole_budget(answer, rungs)))


def _shorter_budgets(
    runs: Sequence[Run], split: str, metric: str, delta: float, *, allow_unlike: bool
) -> list[BudgetRung]:
    """Compare the same models at each shorter budget of their study, where all of them were evaluated."""
    own = [run for run in runs if not run.adopted]
    studies = {run.study for run in own}
    rungs = []
    for share in study_budgets(next(iter(studies))) if len(studies) == 1 else ():
        folders = [runs_folder(budget_folder(run.study, share)) / run.folder.resolve().name for run in own]
        same = [read_run(folder) for folder in folders if _scored(folder, split)]
        if len(same) == len(own):
            found = compare_runs(same, split=split, metric=metric, delta=delta, allow_unlike=allow_unlike)
            rungs.append(rung_of(found, share))
    return rungs


def _failed_runs(runs: Sequence[Run]) -> tuple[UnfinishedRun, ...]:
    """List the runs that failed in the studies of the runs compared, by what their ``study.json`` says."""
    failed = [one for study in _studies(runs) for one in read_study(study).failed.items()]
    return tuple(UnfinishedRun(folder.replace("runs/", "", 1), reason) for folder, reason in failed)


def _unfinished_runs(runs: Sequence[Run], split: str) -> tuple[UnfinishedRun, ...]:
    """List the runs that the interrupted studies of these runs planned and that were not scored yet."""
    found = []
    for study in _studies(runs):
        own, folds = runs_folder(study), list(study.glob("folds/*/runs"))
        for name in read_study(study).planned:
            if not _scored(own / name, split):
                begun = [read_run(folder / name) for folder in (own, *folds) if (folder / name / RUN_FILE).is_file()]
                trained = begun and all(run.card.status == "finished" for run in begun)
                found.append(UnfinishedRun(name, "unscored" if trained else "unfinished" if begun else "not begun"))
    return tuple(found)


def _scored(run: Path, split: str) -> bool:
    return (run / f"counts-{split}.npz").is_file()


def _studies(runs: Sequence[Run]) -> list[Path]:
    return [study for study in dict.fromkeys(run.study for run in runs) if (study / STUDY_FILE).is_file()]


def _carried(inputs: _Inputs, statistics: Statistics, answer: Comparison) -> tuple[WithoutGroup, ...]:
    """Name the pairs of the leader whose verdict is another one without one group."""
    if not answer.decisive_pairs:
        return ()
    family, found = inputs.families()[0], statistics.families[0]
    names = [inputs.evaluated[number].name for number in family.runs]
    leader = answer.ranking[0].name
    carried = []
    for one in found.carried:
        pair, word = one.pair, one.pair.verdict.word
        a, b = (side if isinstance(side, str) else names[side] for side in (pair.a, pair.b))
        if a == leader:
            carried.append(WithoutGroup(one.group, a, b, pair.delta, pair.interval, word))
        elif b == leader:
            carried.append(WithoutGroup(one.group, b, a, -pair.delta, negated(pair.interval), OPPOSITE[word]))
    return tuple(carried)


def _answer(
    inputs: _Inputs,
    statistics: Statistics,
    split: str,
    protocol: Mapping[str, JsonValue],
    unlike: Sequence[ProtocolDifference],
) -> Comparison:
    """Compute the comparison but for what is said of it."""
    dataset, counts = find_dataset(inputs.evaluated), inputs.evaluated[0].counts
    runs = _run_results(inputs, statistics)
    timed = () if unlike_predictions(runs, split) else runs
    pairs, architectures, architecture_pairs = _family_results(inputs, statistics)
    return Comparison(
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        split=split,
        scorings=scorings(inputs.legend.counted),
        legend=inputs.legend,
        legend_sha256=counts.legend_sha256,
        split_sha256=counts.split_sha256,
        split_rule=dataset.split_rule if dataset else None,
        dataset=dataset_summary(dataset, counts, split),
        scenes=scene_rows(dataset, counts),
        n_groups=len(set(counts.groups.tolist())),
        truth=ground_truth(counts),
        separated_groups=separated_groups(dataset, split),
        test_evaluations=read_evaluation_log(inputs.evaluated),
        metric=inputs.metric.name,
        delta=inputs.delta,
        protocol=protocol,
        protocol_differences=tuple(unlike),
        runs=runs,
        pairs=pairs,
        groups_for_p=groups_for_p(max(1, sum(not pair.negative_control for pair in pairs))),
        architectures=architectures,
        architecture_pairs=architecture_pairs,
        metric_sensitivity=sensitivity_rows(inputs.evaluated, inputs.stacked, inputs.legend.names, inputs.metric),
        pareto_front=pareto_front([(run.name, run.value, run.throughput.predict_megapixels_per_s) for run in timed]),
        power=None,
        findings=(),
    )


def _statistics(inputs: _Inputs) -> Statistics:
    """Ask the statistics once for everything that has an interval or a test."""
    names = [inputs.mean_iou.name, *(f"{scoring}.miou" for scoring in scorings(inputs.legend.counted))]
    if inputs.stacked.boundary is not None:
        names.append("boundary.miou")
    return comparison_statistics(
        inputs.stacked,
        inputs.metric,
        inputs.families(),
        described=[inputs.metric_of(name) for name in names],
        delta=inputs.delta,
    )


def _run_results(inputs: _Inputs, statistics: Statistics) -> tuple[RunResult, ...]:
    """Put together what is said of each run alone."""
    counted = inputs.legend.counted
    labels = run_labels(inputs.evaluated, inputs.archs)
    results = []
    for number, (item, label) in enumerate(zip(inputs.evaluated, labels, strict=True)):
        estimates = {name: found[number] for name, found in statistics.runs.items()}
        primary = estimates[inputs.metric.name]
        boundary = estimates.get("boundary.miou")
        results.append(
            RunResult(
                name=item.name,
                arch=item.run.known_as,
                encoder=item.run.encoder,
                seed=item.run.seed,
                label=label,
                card=item.run.card,
                adopted=item.run.adopted,
                value=primary.value,
                interval=primary.interval,
                scores={
                    scoring: score_set(item.counts, counted, scoring, estimates[f"{scoring}.miou"])
                    for scoring in scorings(counted)
                },
                boundary=None if boundary is None else boundary_scores(item.counts, counted, boundary),
                calibration=calibration(item.counts),
                loss=mean_loss(item.counts),
                counts=tuple(tuple(row) for row in item.counts.counts.sum(axis=0).tolist()),
                scene_miou=scene_scores(item.counts, counted),
                convergence=convergence(item.run),
                throughput=throughput(item.run, item.counts),
            )
        )
    return tuple(results)


def _family_results(
    inputs: _Inputs, statistics: Statistics
) -> tuple[tuple[RunPairResult, ...], tuple[ArchitectureResult, ...], tuple[ArchitecturePairResult, ...]]:
    """Name the pairs of runs, the architectures and their pairs, those asked about first, then the controls."""
    pairs: list[RunPairResult] = []
    architectures: list[ArchitectureResult] = []
    between: list[ArchitecturePairResult] = []
    mious = statistics.runs[inputs.mean_iou.name]
    for number, (family, found) in enumerate(zip(inputs.families(), statistics.families, strict=True)):
        control = number > 0
        pairs += _pairs_of(inputs, family, found, control=control)
        between += architecture_pair_results(found, inputs.metric, delta=inputs.delta, control=control)
        rows = architecture_results(found, family, inputs.evaluated, mious, twin_of=inputs.twin_of)
        architectures += [row for row in rows if (row.twin_of is not None) == control]
    return tuple(pairs), tuple(architectures), tuple(between)


def _pairs_of(inputs: _Inputs, family: Family, found: FamilyStatistics, *, control: bool) -> list[RunPairResult]:
    """Name the pairs of runs of a family; of a control only those of the twin with its original."""
    names = [inputs.evaluated[number].name for number in family.runs]
    arch_of = dict(zip(names, family.archs, strict=True))
    n_groups = len(set(inputs.evaluated[0].counts.groups.tolist()))
    pairs = run_pair_results(found, names, inputs.metric, delta=inputs.delta, n_groups=n_groups, control=control)
    return [pair for pair in pairs if not control or arch_of[pair.a] != arch_of[pair.b]]


def _with_findings(comparison: Comparison) -> Comparison:
    """Add what is said of the figures, in English: the sentences of pairs, what would decide, and the findings."""
    with language(SOURCE):
        return _written(replace(comparison, power=open_pair_power(comparison)))


def _written(comparison: Comparison) -> Comparison:
    """Write the sentences of pairs and the findings in the current language."""

    def with_text(pair: P, labels: Mapping[str, str]) -> P:
        return replace(pair, text=write_pair(pair_verdict(pair, comparison, labels)))

    said = replace(
        comparison,
        pairs=tuple(with_text(pair, comparison.labels) for pair in comparison.pairs),
        architecture_pairs=tuple(with_text(pair, {}) for pair in comparison.architecture_pairs),
    )
    return replace(said, findings=as_findings(find(said)))


def in_current_language(comparison: Comparison) -> Comparison:
    """Return a comparison as it is shown to people: sentences and class names in the current language.

    ``comparison.json`` is English, whatever the language; in English it is returned as it is.

    Args:
        comparison: A comparison as it was made or read.
    """
    if current_language() == SOURCE:
        return comparison
    names, legend = comparison.legend.names, comparison.legend.in_language(current_language())
    shown = dict(zip(names, legend.names, strict=True))

    def metric(name: str) -> str:
        kind, mark, class_name = name.partition(":")
        return f"{kind}{mark}{shown.get(class_name, class_name)}"

    def pairs(found: tuple[P, ...]) -> tuple[P, ...]:
        return tuple(replace(pair, metric=metric(pair.metric)) for pair in found)

    named = comparison.named
    return _written(
        replace(
            comparison,
            legend=legend,
            metric=metric(comparison.metric),
            named=None if named is None else replace(named, metric=metric(named.metric)),
            pairs=pairs(comparison.pairs),
            architecture_pairs=pairs(comparison.architecture_pairs),
            metric_sensitivity=tuple(replace(row, metric=metric(row.metric)) for row in comparison.metric_sensitivity),
        )
    )


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write ``comparison.csv``, ``.md``, ``.tex``, ``tables/*.tex`` and, last, ``comparison.json``, each atomically.

    Markdown and LaTeX are in the current language, CSV and JSON in English.

    Args:
        comparison: What :func:`compare_runs` gave.
        folder: Where to; made where it is missing.
    Raises:
        DiskError: A file cannot be written.
    """
    shown = in_current_language(comparison)
    tables = comparison_latex(shown)
    texts = {"csv": to_csv(comparison), "md": to_markdown(shown), "tex": latex_text(tables)}
    with in_turn(folder, folder=True):
        write_tables(folder, "comparison", texts, tables)
        write_record(comparison, folder / FILE)


def log_exploratory(comparison: Comparison, runs: Sequence[Run]) -> None:
    """Note an exploratory comparison of test scores in the logs of its runs' studies; another one is not noted."""
    if comparison.exploratory and comparison.split == "test":
        log_view(runs, comparison.metric, comparison.delta)
