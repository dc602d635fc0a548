"""``benchmark.json``: models × data sets, typed, with its tables and its one writer."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue, TypeAdapter
from pydantic.dataclasses import dataclass

from levelground.comparison.results import BLOCK, Count, Finding, Interval, Value, block_json
from levelground.comparison.tables import TextTable, csv_text, latex_tables, latex_text, markdown_text, write_tables
from levelground.comparison.text import MISSING, between, metric_words, p_number, score, signed, verdict_word
from levelground.files import in_turn
from levelground.records import write_json
from levelground.statistics.pairs import VerdictWord
from levelground.wording import decimal, gettext, pgettext

FILE = "benchmark.json"
"""The record's name in the folder of a benchmark."""


@dataclass(frozen=True, config=BLOCK)
class BenchmarkSet:
    """One data set: its study and scenes."""

    name: str
    """Name of the study's folder, with its parent's where two are called alike."""
    folder: str
    """The study's folder, seen from the benchmark's."""
    scenes: Count
    """Scenes that were scored."""
    groups: Count
    """Their groups."""
    classes: tuple[str, ...]
    """Counted classes."""


@dataclass(frozen=True, config=BLOCK)
class SetScore:
    """A model's score on one data set."""

    value: Value
    """The metric, a mean over seeds."""
    interval: Interval
    """Its 95 % interval within the set."""
    rank: float
    """Rank among the models of the benchmark, 1 for the best."""
    seeds: Count
    """Number of seeds."""


@dataclass(frozen=True, config=BLOCK)
class BenchmarkModel:
    """A model on all data sets."""

    name: str
    """Architecture, with its encoder where several are compared; the run's name for a lone one."""
    scores: Mapping[str, SetScore]
    """Its score by data set."""
    mean: float
    """Mean over data sets, each counted once."""
    mean_rank: float
    """Mean rank over data sets."""
    rank_interval: Interval
    """Its 95 % interval over sets; ``None`` where no model's rank differs between sets."""


@dataclass(frozen=True, config=BLOCK)
class SetDifference:
    """The difference of two models within one data set, as its comparison has it."""

    delta: Value
    """Metric of a minus metric of b."""
    se: Value
    """Its standard error."""
    interval: Interval
    """Its 95 % interval within the set."""
    verdict: VerdictWord
    """What may be said of a on this set."""
    text: str
    """The verdict in a sentence."""


@dataclass(frozen=True, config=BLOCK)
class BenchmarkPair:
    """The difference of two models across data sets, a − b."""

    a: str
    """The model with the higher mean."""
    b: str
    """The other one."""
    delta: Value
    """Mean difference over sets."""
    se: Value
    """Its standard error over sets, groups within set."""
    interval: Interval
    """Its 95 % interval over sets."""
    p: Value
    """Two-sided p of no mean difference over sets."""
    p_holm: Value
    """The same, adjusted for all pairs."""
    verdict: VerdictWord
    """What may be said of a across sets."""
    detectable: Value
    """The smallest true mean difference that as many sets like these show in 80 % of repetitions."""
    nemenyi_p: Value
    """p by Nemenyi's test of mean ranks; ``None`` with fewer than three models."""
    within: Mapping[str, SetDifference]
    """The difference within each set."""


@dataclass(frozen=True, config=BLOCK)
class Benchmark:
    """Models compared on several data sets: ``benchmark.json``."""

    version: str
    """The levelground that compared."""
    created: str
    """When, in UTC."""
    metric: str
    """The primary metric of every set."""
    delta: float
    """The difference that counts as none, δ."""
    sets: tuple[BenchmarkSet, ...]
    """The data sets, in the order given."""
    models: tuple[BenchmarkModel, ...]
    """Models that are in every set, best mean first."""
    left_out: Mapping[str, tuple[str, ...]]
    """Sets of each model that is not in all of them."""
    pairs: tuple[BenchmarkPair, ...]
    """All pairs of models."""
    friedman_statistic: Value
    """Friedman's χ² over mean ranks; ``None`` with fewer than three models."""
    friedman_p: Value
    """Its p."""
    critical_difference: Value
    """Mean ranks this far apart differ by Nemenyi's test at .05."""
    sets_needed: int | None
    """Sets with which models one rank apart in every set would differ by Nemenyi's test."""
    findings: tuple[Finding, ...]
    """What to say of all this, the headline first."""


def metric_of(benchmark: Benchmark) -> str:
    """Return the words of the metric, its scoring named where it is not the official one."""
    return metric_words(benchmark.metric, ("official",))


def benchmark_tables(benchmark: Benchmark) -> tuple[TextTable, ...]:
    """Return the tables of a benchmark: scores by set, pairs across sets, and the verdicts within each."""
    sets = [one.name for one in benchmark.sets]
    words = metric_of(benchmark)
    scores = tuple(
        (
            model.name,
            *(f"{score(model.scores[name].value)} ({decimal(f'{model.scores[name].rank:g}')})" for name in sets),
            score(model.mean),
            decimal(f"{model.mean_rank:.2f}"),
            ranks_between(model.rank_interval),
        )
        for model in benchmark.models
    )
    pairs = tuple(
        (
            pair.a,
            pair.b,
            signed(pair.delta),
            between(pair.interval, sign=True),
            p_number(pair.p_holm),
            verdict_word(pair.verdict),
            p_number(pair.nemenyi_p),
        )
        for pair in benchmark.pairs
    )
    within = tuple(
        (
            pair.a,
            pair.b,
            *(f"{signed(pair.within[name].delta)} {verdict_word(pair.within[name].verdict)}" for name in sets),
        )
        for pair in benchmark.pairs
    )
    by_set = gettext("%(metric)s by data set, with ranks", metric=words)
    mean = (gettext("mean"), gettext("mean rank"), gettext("95 %% interval"))
    header = (
        "a",
        "b",
        gettext("mean Δ %(metric)s", metric=benchmark.metric),
        gettext("95 %% interval over sets"),
        gettext("p (Holm)"),
        gettext("a is"),
        gettext("p (Nemenyi)"),
    )
    return (
        TextTable(by_set, (gettext("model"), *sets, *mean), scores, "scores"),
        TextTable(gettext("Pairs of models across data sets"), header, pairs, "pairs"),
        TextTable(gettext("Pairs of models within each data set"), ("a", "b", *sets), within, "pairs-by-set"),
    )


def ranks_between(ends: tuple[float, float] | None) -> str:
    """An interval of mean ranks in a table.

    Example:
        >>> ranks_between((1, 2.25)), ranks_between(None)
        ('1.0 to 2.2', '–')
    """
    if ends is None:
        return MISSING
    low, high = (decimal(f"{end:.1f}") for end in ends)
    return pgettext("range", "%(low)s to %(high)s", low=low, high=high)


CSV_HEADER = ("kind", "subject", "against", "set", "value", "low", "high", "p", "p_holm", "verdict")


def _csv_rows(benchmark: Benchmark) -> list[tuple[object, ...]]:
    """Return one row a figure, in full precision."""
    rows: list[tuple[object, ...]] = []
    for model in benchmark.models:
        for name, one in model.scores.items():
            ends = one.interval or (None, None)
            rows.append(("score", model.name, None, name, one.value, *ends, None, None, None))
            rows.append(("rank", model.name, None, name, one.rank, *(None,) * 5))
        rows.append(("mean", model.name, None, None, model.mean, *(None,) * 5))
        rows.append(
            ("mean rank", model.name, None, None, model.mean_rank, *(model.rank_interval or (None, None)), *(None,) * 3)
        )
    for pair in benchmark.pairs:
        sides = (pair.a, pair.b)
        ends = pair.interval or (None, None)
        rows.append(("mean difference", *sides, None, pair.delta, *ends, pair.p, pair.p_holm, pair.verdict))
        rows.append(("nemenyi", *sides, None, None, None, None, pair.nemenyi_p, None, None))
        for name, difference in pair.within.items():
            ends = difference.interval or (None, None)
            rows.append(("difference", *sides, name, difference.delta, *ends, None, None, difference.verdict))
    rows.append(
        ("friedman", None, None, None, benchmark.friedman_statistic, None, None, benchmark.friedman_p, None, None)
    )
    rows.append(("critical difference", None, None, None, benchmark.critical_difference, *(None,) * 5))
    return rows


def write_benchmark(benchmark: Benchmark, folder: Path, *, shown: Benchmark | None = None) -> None:
    """Write ``benchmark.csv``, ``.md``, ``.tex``, ``tables/*.tex`` and, last, ``benchmark.json``, each atomically.

    Args:
        benchmark: The benchmark.
        folder: Where to; made where it is missing.
        shown: The benchmark in the language of the Markdown and LaTeX; ``None`` takes it as it is.
    Raises:
        DiskError: A file cannot be written.
    """
    shown = shown or benchmark
    tables = benchmark_tables(shown)
    latex = latex_tables(tables)
    texts = {
        "csv": csv_text(CSV_HEADER, _csv_rows(benchmark)),
        "md": markdown_text(gettext("Benchmark"), shown.findings, tables),
        "tex": latex_text(latex),
    }
    with in_turn(folder, folder=True):
        write_tables(folder, "benchmark", texts, latex)
        write_json(folder / FILE, block_json(benchmark), kind="benchmark")


def benchmark_schema() -> dict[str, JsonValue]:
    """Return the JSON Schema of ``benchmark.json``."""
    return TypeAdapter(Benchmark).json_schema()
