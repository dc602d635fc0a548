"""``comparison.json``: what a comparison found, typed, with one reader and one writer.

:class:`Comparison` holds everything that tables, report page, figures and model card show; nothing but order and sign
is computed here. Letters: K classes, S scenes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import (
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from levelground import _drawn_by
from levelground.comparison.conditions import (
    BudgetRung,
    DatasetSummary,
    EvaluationLog,
    GroundTruth,
    NamedQuestion,
    ProtocolDifference,
    SceneRow,
    SeparatedGroup,
    SplitRule,
    UnfinishedRun,
    WithoutGroup,
)
from levelground.comparison.results import (
    BLOCK,
    ArchitecturePairResult,
    ArchitectureResult,
    Count,
    Finding,
    MetricRow,
    OpenPairPower,
    PairResult,
    PowerAnalysis,
    RunPairResult,
    RunResult,
    absent,
)
from levelground.datasets.dataset import JsonLegend
from levelground.errors import RecordError, one_line
from levelground.metrics.named import metric_range
from levelground.metrics.scores import Scoring
from levelground.records import SCHEMAS, read_json, write_json

if TYPE_CHECKING:
    from levelground.reporting.displays import ComparisonPlots  # the type alone; import-linter lists this exception

FILE = "comparison.json"
"""The record's name in a study folder."""

_FOLDER = "_folder"
"""Where a comparison keeps the folder of its file, which is neither compared nor written."""


def _none_tried(value: object) -> bool:
    """Whether a list that most comparisons lack is left out of the file."""
    return value == ()


@plain_dataclass(frozen=True)
class RankedEntry:
    """What a comparison ranks: an architecture or a run, with its value of the primary metric."""

    name: str
    label: str
    value: float | None


@dataclass(frozen=True, repr=False, config=BLOCK)
class Comparison:
    """Runs that were scored on the same scenes, compared by one metric named in advance."""

    version: str
    """The levelground that compared."""
    created: str
    """When, in UTC."""
    split: str
    """The split that was scored."""
    scorings: Annotated[tuple[Scoring, ...], Field(min_length=1)]
    """The scorings that differ."""
    legend: JsonLegend
    """The classes."""
    legend_sha256: str
    """Hash of the legend."""
    split_sha256: str
    """Hash of the split."""
    split_rule: SplitRule | None
    """How the split came about; ``None`` where no ``dataset.json`` was at hand."""
    dataset: DatasetSummary
    """Sizes and origin of the data set."""
    scenes: tuple[SceneRow, ...]
    """The scenes, by id."""
    n_groups: Count
    """Their groups."""
    truth: GroundTruth
    """Their true pixels."""
    separated_groups: Annotated[tuple[SeparatedGroup, ...], Field(alias="separated")]
    """Groups that the split separates."""
    test_evaluations: Annotated[EvaluationLog, Field(alias="test_looks")]
    """Evaluations on the test scenes of the runs' studies."""
    metric: str
    """The primary metric."""
    delta: float
    """The difference that counts as none, δ."""
    protocol: Mapping[str, JsonValue]
    """The training protocol by field: ``None`` where runs differ, ``unknown`` where one cannot tell."""
    protocol_differences: Annotated[tuple[ProtocolDifference, ...], Field(alias="unlike")]
    """The fields that differ."""
    runs: Annotated[tuple[RunResult, ...], Field(min_length=1)]
    """The runs, in the order given."""
    pairs: tuple[RunPairResult, ...]
    """Pairs of runs."""
    groups_for_p: int
    """The fewest groups with which the pairs asked about can reach p ≤ .05."""
    architectures: tuple[ArchitectureResult, ...]
    """The architectures, twins last."""
    architecture_pairs: tuple[ArchitecturePairResult, ...]
    """Pairs of architectures that have two or more seeds each."""
    metric_sensitivity: Annotated[tuple[MetricRow, ...], Field(alias="multiverse")]
    """Every run under every metric."""
    pareto_front: Annotated[tuple[str, ...], Field(alias="pareto")]
    """Names of the runs that no other beats in both score and speed; none where speeds were measured in unlike ways."""
    power: OpenPairPower | None
    """What would decide the leader's open pair; ``None`` where none is open."""
    findings: tuple[Finding, ...]
    """What to say of all this, the headline first."""
    budgets: Annotated[tuple[BudgetRung, ...], Field(exclude_if=_none_tried)] = ()
    """The same models at shares of the budget, the whole one last; empty where there was one budget."""
    carried: Annotated[tuple[WithoutGroup, ...], Field(exclude_if=_none_tried)] = ()
    """Verdicts of the leader that are others without one group; empty where no single group decides any."""
    named: Annotated[NamedQuestion | None, Field(exclude_if=absent)] = None
    """Metric and δ that the study named; ``None`` where no ``study.json`` tells."""
    failed_runs: Annotated[tuple[UnfinishedRun, ...], Field(alias="failed", exclude_if=_none_tried)] = ()
    """Runs of the study that failed on a cluster, and so are not compared."""
    unfinished: Annotated[tuple[UnfinishedRun, ...], Field(exclude_if=_none_tried)] = ()
    """Runs of the study that are not compared because it was interrupted."""

    @model_validator(mode="after")
    def _check(self) -> "Comparison":
        for where, problem in _contradictions(self):
            raise ValueError(f"{where}: {problem}")
        return self

    def __repr__(self) -> str:
        """Return the question and the headline on one line; ``comparison_json`` gives all figures."""
        headline = next((f.text.partition(". ")[0].rstrip(".") for f in self.findings if f.severity == "headline"), "")
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        return f"<Comparison of {runs} on {self.split} by {self.metric}{': ' if headline else ''}{headline}>"

    def _repr_html_(self) -> str:
        """Show table, verdicts and pictures in a notebook."""
        return str(_drawn_by("comparison_html")(self))

    @property
    def plot(self) -> "ComparisonPlots":
        """The charts: ``comparison.plot.forest()`` draws one and returns its matplotlib ``Axes``, to restyle."""
        plots: ComparisonPlots = _drawn_by("ComparisonPlots")(self, self.folder or Path())
        return plots

    def __fspath__(self) -> str:
        """Return the folder of its file, so that it is taken wherever a path to a comparison is.

        Raises:
            RecordError: It was neither read from a file nor written to one.
        """
        if self.folder is None:
            raise RecordError("the comparison is in no file. Write it with `write_comparison` first.")
        return str(self.folder)

    @property
    def folder(self) -> Path | None:
        """The folder of its file, once it was read from one or written to one; runs are found from there."""
        folder: Path | None = self.__dict__.get(_FOLDER)
        return folder

    @cached_property
    def labels(self) -> dict[str, str]:
        """The label of each run, by name."""
        return {run.name: run.label for run in self.runs}

    @property
    def candidates(self) -> tuple[ArchitectureResult, ...]:
        """The architectures that are compared; a twin, the negative control, is none of them."""
        return tuple(entry for entry in self.architectures if entry.twin_of is None)

    @property
    def candidate_runs(self) -> dict[str, tuple[RunResult, ...]]:
        """The runs of each candidate, under the name that the comparison gives it."""
        runs = {run.name: run for run in self.runs}
        return {entry.name: tuple(runs[name] for name in entry.runs) for entry in self.candidates}

    @property
    def ranked_runs(self) -> tuple[RunResult, ...]:
        """The runs by the primary metric, best first; runs without a value come last, ties by name."""
        return tuple(sorted(self.runs, key=lambda run: _rank_key(run.value, run.name)))

    @property
    def primary_scoring(self) -> Scoring:
        """The scoring of the primary metric; the first one where the metric has none of its own."""
        name = self.metric.split(".", maxsplit=1)[0]
        return next((scoring for scoring in self.scorings if scoring == name), self.scorings[0])

    @property
    def exploratory(self) -> bool:
        """Whether metric or δ are others than the study named before results were seen."""
        return self.named is not None and (self.named.metric, self.named.delta) != (self.metric, self.delta)

    @property
    def about_architectures(self) -> bool:
        """Whether the verdicts are about architectures: two or more of them have two or more seeds."""
        return len(self.seeded) >= 2

    @property
    def seeded(self) -> tuple[ArchitectureResult, ...]:
        """The candidates with two or more seeds, which can be compared as architectures."""
        return tuple(entry for entry in self.candidates if entry.seeds >= 2)

    @property
    def ranking(self) -> tuple[RankedEntry, ...]:
        """What is ranked, best first: architectures with seeds where there are two or only one at all, else runs.

        Seeds of one architecture are not compared: other runs of the leading run's architecture are left out.
        """
        if self.about_architectures or len(self.candidates) == 1:
            chosen = self.seeded if self.about_architectures else self.candidates
            return _ranked(RankedEntry(entry.name, entry.name, entry.value) for entry in chosen)
        runs = self.candidate_runs
        arch_of = {run.name: name for name, members in runs.items() for run in members}
        entries = _ranked(RankedEntry(run.name, run.label, run.value) for members in runs.values() for run in members)
        leader = arch_of[entries[0].name]
        return (entries[0], *(entry for entry in entries[1:] if arch_of[entry.name] != leader))

    @property
    def decisive_pairs(self) -> tuple[PairResult, ...]:
        """The pairs that carry the verdicts: of architectures where there are seeds, else of runs.

        With one candidate there are none: its seeds are not compared, and neither is its negative control.
        """
        if len(self.candidates) < 2:
            return ()
        pairs: tuple[PairResult, ...] = self.architecture_pairs if self.about_architectures else self.pairs
        return tuple(pair for pair in pairs if not pair.negative_control)

    def oriented_pair(self, a: str, b: str) -> PairResult:
        """Return the decisive pair of two names with ``a`` first: the difference is a − b, the verdict about a.

        Raises:
            KeyError: There is no such pair.
        """
        for pair in self.decisive_pairs:
            if (pair.a, pair.b) == (a, b):
                return pair
            if (pair.a, pair.b) == (b, a):
                return pair.flipped()
        raise KeyError((a, b))


def _ranked(entries: Iterable[RankedEntry]) -> tuple[RankedEntry, ...]:
    return tuple(sorted(entries, key=lambda entry: _rank_key(entry.value, entry.name)))


def _rank_key(value: float | None, name: str) -> tuple[bool, float, str]:
    return value is None, -(value or 0.0), name


def _contradictions(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Fields that do not fit the legend, the scenes or the runs, each with what is wrong."""
    n_classes, n_scenes = comparison.legend.n_classes, len(comparison.scenes)
    for where, size in _class_axes(comparison):
        if size != n_classes:
            yield where, f"{size} values for {n_classes} classes"
    for number, run in enumerate(comparison.runs):
        if len(run.scene_miou) != n_scenes:
            yield f"runs.{number}.scene_miou", f"{len(run.scene_miou)} values for {n_scenes} scenes"
        if any(scoring not in run.scores for scoring in comparison.scorings):
            yield f"runs.{number}.scores", f"expected all of {', '.join(comparison.scorings)}"
        for place, found in enumerate(run.calibration.bins if run.calibration else ()):
            if found.n and (found.confidence is None or found.accuracy is None):
                yield f"runs.{number}.calibration.bins.{place}", "pixels without a confidence or an accuracy"
    runs, architectures = ([item.name for item in items] for items in (comparison.runs, comparison.architectures))
    for where, names in (("runs", runs), ("architectures", architectures)):
        if len(set(names)) < len(names):
            yield where, "a name is used twice"
    for where, name in _run_references(comparison):
        if name not in runs:
            yield where, f"no run is called {name!r}"
    for number, pair in enumerate(comparison.architecture_pairs):
        if not {pair.a, pair.b} <= set(architectures):
            yield f"architecture_pairs.{number}", f"no such architectures as {pair.a!r} and {pair.b!r}"


def _class_axes(comparison: Comparison) -> Iterator[tuple[str, int]]:
    """The length of everything that has one value a class."""
    truth = comparison.truth
    yield "truth.class_pixels", len(truth.class_pixels)
    yield "truth.class_share", len(truth.class_share)
    yield "truth.present", len(truth.present)
    if truth.groups:
        yield "truth.groups", len(truth.groups)
    for number, scene in enumerate(comparison.scenes):
        yield f"scenes.{number}.class_pixels", len(scene.class_pixels)
    for number, run in enumerate(comparison.runs):
        for scoring, scores in run.scores.items():
            for kind, size in scores.class_axes().items():
                yield f"runs.{number}.scores.{scoring}.{kind}", size
        for row in (run.counts, *run.counts):
            yield f"runs.{number}.counts", len(row)
        if run.boundary is not None:
            yield f"runs.{number}.boundary_iou.per_class", len(run.boundary.per_class)
        if run.calibration is not None:
            yield f"runs.{number}.calibration.per_class", len(run.calibration.per_class)
    pairs: tuple[PairResult, ...] = (*comparison.pairs, *comparison.architecture_pairs)
    for pair in pairs:
        if any(entry.class_index >= comparison.legend.n_classes for entry in pair.per_class):
            yield f"pair of {pair.a} and {pair.b}, per_class", max(entry.class_index for entry in pair.per_class) + 1


def _run_references(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Everything that names a run."""
    for number, entry in enumerate(comparison.architectures):
        for name in entry.runs:
            yield f"architectures.{number}.runs", name
    for number, pair in enumerate(comparison.pairs):
        yield f"pairs.{number}.a", pair.a
        yield f"pairs.{number}.b", pair.b
    for number, row in enumerate(comparison.metric_sensitivity):
        for name in (*row.values, *row.ranks, *(name for flip in row.flips for name in flip)):
            yield f"multiverse.{number}", name
    for name in comparison.pareto_front:
        yield "pareto", name


_COMPARISON = TypeAdapter(Comparison)


def read_comparison(path: str | PathLike[str]) -> Comparison:
    """Read ``comparison.json``.

    Args:
        path: The file, or the folder that holds it.
    Raises:
        RecordError: It is missing, damaged, of another schema, or contradicts itself; the message names the field.
    """
    path = Path(path)
    path = path if path.suffix == ".json" else path / FILE
    record = read_json(path, kind="comparison")
    try:
        comparison = _COMPARISON.validate_json(json.dumps(record), strict=True)
        metric_range(comparison.metric)
        return _placed(comparison, path.parent)
    except KeyError as error:
        raise RecordError(f"{path}: metric: {error} is unknown. Run `levelground compare` again.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = one_line(".".join(str(part) for part in first["loc"]))
        what = one_line(first["msg"].removeprefix("Value error, "))
        raise RecordError(f"{path}: {where + ': ' if where else ''}{what}. Run `levelground compare` again.") from error


def _placed(comparison: Comparison, folder: Path) -> Comparison:
    """Note the folder of a comparison's file, which is no part of the comparison."""
    comparison.__dict__[_FOLDER] = folder
    return comparison


def comparison_json(comparison: Comparison) -> dict[str, JsonValue]:
    """Return a comparison as the JSON object that ``comparison.json`` holds, without schema and kind."""
    content: dict[str, JsonValue] = _COMPARISON.dump_python(comparison, mode="json")
    return content


def write_record(comparison: Comparison, path: Path) -> None:
    """Write ``comparison.json`` atomically.

    Raises:
        DiskError: The file cannot be written.
    """
    write_json(path, comparison_json(comparison), kind="comparison")
    _placed(comparison, path.parent)


def comparison_schema() -> dict[str, JsonValue]:
    """Return the JSON Schema of ``comparison.json``."""
    schema = _COMPARISON.json_schema()
    parts = ((RunPairResult, PairResult), (ArchitecturePairResult, PairResult), (OpenPairPower, PowerAnalysis))
    for part, base in parts:
        # Pydantic takes descriptions from a class's own source alone, and computed keys only into what is written.
        above, own = (TypeAdapter(one).json_schema(mode="serialization")["properties"] for one in (base, part))
        schema["$defs"][part.__name__]["properties"] = {name: above.get(name, {}) | own[name] for name in own}
    head = {"schema": {"const": SCHEMAS["comparison"]}, "kind": {"const": "comparison"}}
    return schema | {
        "properties": head | schema["properties"],
        "required": [*head, *schema["required"]],
    }
