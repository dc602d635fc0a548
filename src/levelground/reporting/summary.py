"""Top of the report: headline, facts, ranking, score tables, and how the ranking depends on the metric."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from levelground.comparison.record import Comparison
from levelground.comparison.results import ArchitectureResult, RunResult, Severity
from levelground.comparison.text import MISSING, between, metric_words, per_cent, recorded, score, split_words
from levelground.metrics.named import METRICS, metric_range, overall_metrics
from levelground.reporting.run_styles import StyledRun
from levelground.reporting.svg_charts import Interval, axis_strip, interval_strip, scale_over
from levelground.wording import decimal, gettext, ngettext, npgettext, whole

DECIDES = "what_would_decide"
"""Code of the finding that the summary shows apart from the others."""


@dataclass(frozen=True)
class ForestRow:
    """A row of a forest plot: a run, or an architecture (``run`` is ``None``)."""

    run: StyledRun | None
    label: str
    note: str
    value: str
    interval: str
    strip: Markup


@dataclass(frozen=True)
class Forest:
    """A forest plot of runs or architectures, best first."""

    subject: str
    rows: tuple[ForestRow, ...]
    axis: Markup


@dataclass(frozen=True)
class ScoreCell:
    """A score with its 95 % interval."""

    value: str
    interval: str


@dataclass(frozen=True)
class ScoreRow:
    """A run's row of the score table; ``miou`` has one cell for each scoring, ``others`` one for each other metric."""

    run: StyledRun
    miou: tuple[ScoreCell, ...]
    others: tuple[str, ...]
    boundary: str
    loss: str
    dice_loss: str | None
    speed: str
    parameters: str


@dataclass(frozen=True)
class RankCell:
    """A run's value and rank under one metric; ``moved`` is ``up`` or ``down`` against the primary metric, or empty."""

    value: str
    rank: int | None
    moved: str


@dataclass(frozen=True)
class MetricTableRow:
    """All runs under one metric; ``flips`` are the pairs in reverse order to the primary metric, as labels."""

    metric: str
    primary: bool
    cells: tuple[RankCell, ...]
    flips: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Entry:
    """A run or an architecture before it is drawn."""

    run: StyledRun | None
    label: str
    value: float | None
    interval: Interval | None
    note: str = ""


def headline_texts(comparison: Comparison) -> tuple[str, str]:
    """Return the first sentence of the headline, which is the page's title, and the other sentences."""
    texts = texts_of(comparison, "headline")
    if not texts:
        return ngettext("Comparison of %(n)s run", "Comparison of %(n)s runs", len(comparison.runs)), ""
    first, rest = first_sentence(texts[0])
    if comparison.exploratory:
        first = gettext("Exploratory: %(text)s", text=first)
    return first, " ".join([*([rest] if rest else []), *texts[1:]])


def first_sentence(text: str) -> tuple[str, str]:
    """Split a text after its first sentence.

    Example:
        >>> first_sentence("No winner (0.47). It takes more.")
        ('No winner (0.47).', 'It takes more.')
    """
    first, *rest = re.split(r"(?<=[.!?])\s+(?=[A-ZА-ЯЁ])", text, maxsplit=1)
    return first, " ".join(rest)


def texts_of(comparison: Comparison, severity: Severity) -> list[str]:
    """Return the sentences of the findings of a severity, without the one that the summary shows apart."""
    return [item.text for item in comparison.findings if item.severity == severity and item.code != DECIDES]


def text_of(comparison: Comparison, code: str) -> str:
    """Return the sentences of the finding with a code; empty where there is none."""
    return " ".join(item.text for item in comparison.findings if item.code == code)


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Return data, split, protocol and δ of the comparison as terms with a text."""
    data, split, protocol = comparison.dataset, comparison.split_rule, comparison.protocol
    found = [(gettext("Data set"), data.name)] if data.name else []
    found.append((gettext("Scored on"), scored_on(comparison)))
    if data.train is not None:
        trained = ngettext(
            "%(n)s scene, validated on %(val)s more",
            "%(n)s scenes, validated on %(val)s more",
            data.train,
            val=whole(data.val or 0),
        )
        found.append((gettext("Trained on"), trained))
    if split is not None:
        found.append((gettext("Split"), recorded(split.text) or split.kind))
    found.append((gettext("Recipe"), ", ".join(sorted({_recipe_name(run) for run in comparison.runs}))))
    terms = {"budget": gettext("Budget"), "weights": gettext("Encoder weights")}
    found += [(term, recorded(str(protocol[key]))) for key, term in terms.items() if protocol.get(key) is not None]
    found.append((gettext("Equivalence margin"), f"δ = {score(comparison.delta)}"))
    if comparison.named is not None:
        named = f"{comparison.named.metric}, δ = {score(comparison.named.delta)}"
        if comparison.exploratory:
            named = gettext("%(question)s; this page is exploratory", question=named)
        found.append((gettext("Named in advance"), named))
    if comparison.test_evaluations.total:
        found.append((gettext("Test evaluations"), whole(comparison.test_evaluations.total)))
    return found


def scored_on(comparison: Comparison) -> str:
    """Return how many scenes of which split were scored, in how many groups."""
    n, split = len(comparison.scenes), split_words(comparison.split)
    return gettext(
        "%(scenes)s in %(groups)s",
        scenes=npgettext("apposition", "%(n)s %(split)s scene", "%(n)s %(split)s scenes", n, split=split),
        groups=npgettext("in", "%(n)s group", "%(n)s groups", comparison.n_groups),
    )


def _recipe_name(run: RunResult) -> str:
    return run.card.recipe.name if run.card.recipe else gettext("unknown")


def ranking(comparison: Comparison, runs: Sequence[StyledRun]) -> Forest:
    """Return what the verdicts are about, best first: architectures where each has seeds, else runs."""
    if not comparison.about_architectures:
        return run_forest(comparison, runs)
    ranked = ranked_architectures(comparison)
    entries = [
        _Entry(None, x.name, x.value, x.interval, ngettext("%(n)s seed", "%(n)s seeds", x.seeds)) for x in ranked
    ]
    styled = [next(run for run in runs if run.name in entry.runs) for entry in ranked]
    return _forest(gettext("architectures"), entries, styled, metric_range(comparison.metric))


def run_forest(comparison: Comparison, runs: Sequence[StyledRun]) -> Forest:
    """Return each run with its interval."""
    notes = _once_trained(comparison)
    entries = [_Entry(run, run.label, run.result.value, run.result.interval, notes.get(run.name, "")) for run in runs]
    return _forest(gettext("runs"), entries, runs, metric_range(comparison.metric))


def _once_trained(comparison: Comparison) -> dict[str, str]:
    """Return a note for each run that is the only training of its architecture, by the run's name."""
    single = {entry.name: entry.runs[0] for entry in comparison.architectures if entry.seeds == 1}
    return {
        run.name: gettext("trained once (seed %(seed)s)", seed=str(run.seed))
        for run in comparison.runs
        if run.seed is not None and single.get(run.label) == run.name
    }


def ranked_architectures(comparison: Comparison) -> list[ArchitectureResult]:
    """Return the architectures, twins among them, best first; those without a value come last."""
    return sorted(comparison.architectures, key=lambda entry: (entry.value is None, -(entry.value or 0.0)))


def architecture_rows(comparison: Comparison) -> list[list[str]]:
    """Return the cells of each architecture, best first.

    Name, seeds, score, interval, standard error from groups and from seeds, share of resamples that rank it first.
    """
    return [
        [
            entry.name,
            str(entry.seeds),
            score(entry.value),
            interval_text(entry.interval),
            score(entry.se_groups),
            score(entry.se_seeds),
            MISSING if entry.ranked_first is None else per_cent(entry.ranked_first),
        ]
        for entry in ranked_architectures(comparison)
    ]


def score_rows(comparison: Comparison, runs: Sequence[StyledRun]) -> list[ScoreRow]:
    """Return the score table, one row for each run."""
    kinds = _other_kinds(comparison)
    with_dice = any(run.result.dice_loss(comparison.split) is not None for run in runs)
    rows = []
    for run in runs:
        result, own = run.result, run.result.scores[comparison.primary_scoring]
        sets = [result.scores[scoring] for scoring in comparison.scorings]
        rows.append(
            ScoreRow(
                run=run,
                miou=tuple(ScoreCell(score(x.miou), interval_text(x.interval)) for x in sets),
                others=tuple(score(own.overall(kind)) for kind in kinds),
                boundary=score(result.boundary.mean if result.boundary else None),
                loss=score(result.loss),
                dice_loss=score(result.dice_loss(comparison.split)) if with_dice else None,
                speed=rate(result.throughput.predict_megapixels_per_s),
                parameters=millions(result.card.parameters.total),
            )
        )
    return rows


def other_columns(comparison: Comparison) -> list[str]:
    """Return the headings of the score table's metrics besides mIoU."""
    return [gettext(METRICS[kind].words) for kind in _other_kinds(comparison)]


def _other_kinds(comparison: Comparison) -> list[str]:
    shown = overall_metrics(comparison.primary_scoring, columns=True)
    return [metric.kind for metric in shown if metric.kind != "miou"]


def metric_rows(comparison: Comparison, runs: Sequence[StyledRun]) -> list[MetricTableRow]:
    """Return each run's value and rank under every metric, and the pairs that a metric orders in reverse."""
    labels = comparison.labels
    primary = next((row.ranks for row in comparison.metric_sensitivity if row.metric == comparison.metric), {})
    rows = []
    for row in comparison.metric_sensitivity:
        ranks = [(row.ranks.get(run.name), primary.get(run.name)) for run in runs]
        cells = tuple(
            RankCell(score(row.values.get(run.name)), rank, _moved(rank, first))
            for run, (rank, first) in zip(runs, ranks, strict=True)
        )
        flips = tuple((labels[before], labels[after]) for before, after in row.flips)
        words = metric_words(row.metric, comparison.scorings)
        rows.append(MetricTableRow(words, row.metric == comparison.metric, cells, flips))
    return rows


def _moved(rank: int | None, primary: int | None) -> str:
    """Return ``up`` or ``down`` where a rank differs from that under the primary metric."""
    if rank is None or primary is None or rank == primary:
        return ""
    return "up" if rank < primary else "down"


def interval_text(ends: Interval | None) -> str:
    """Format an interval for a table cell.

    Example:
        >>> interval_text((0.44, 0.5)), interval_text(None)
        ('0.440–0.500', '–')
    """
    return MISSING if ends is None else f"{score(ends[0])}–{score(ends[1])}"


def rate(value: float | None) -> str:
    """Format units per second for a table cell.

    Example:
        >>> rate(0.1234), rate(6.54), rate(123.4), rate(None)
        ('0.12', '6.5', '123', '–')
    """
    if value is None:
        return MISSING
    return decimal(f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 0.95 else f"{value:.2g}")


def millions(value: float | None) -> str:
    """Format a large number in millions.

    Example:
        >>> millions(14_328_000), millions(None)
        ('14.3', '–')
    """
    return MISSING if value is None else decimal(f"{value / 1e6:.1f}")


def _forest(subject: str, entries: Sequence[_Entry], styled: Sequence[StyledRun], within: Interval) -> Forest:
    """Draw values with intervals over one scale, each in the style of a run."""
    held = [end for entry in entries for end in (entry.value, *(entry.interval or ())) if end is not None]
    scale = scale_over(held, within=within)
    ticks = scale.ticks(4)
    rows = []
    for entry, run in zip(entries, styled, strict=True):
        value, interval = score(entry.value), interval_text(entry.interval)
        text = gettext(
            "%(name)s: %(value)s, 95 %% interval %(interval)s",
            name=entry.label,
            value=value,
            interval=between(entry.interval),
        )
        strip = interval_strip(scale, entry.value, entry.interval, ticks=ticks, text=text, style=run.style)
        rows.append(ForestRow(entry.run, entry.label, entry.note, value, interval, strip))
    return Forest(subject, tuple(rows), axis_strip(scale, ticks))
