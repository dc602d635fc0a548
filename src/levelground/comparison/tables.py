"""A comparison as tables: CSV for programs, Markdown and LaTeX for papers, plain rows for the console.

Nothing is computed here. Scores are fractions; an en dash (an empty cell in CSV) stands where a value does not exist.
"""

import csv
import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from levelground.comparison.record import Comparison
from levelground.comparison.results import Finding, Interval, MetricRow, PairResult, RunResult
from levelground.comparison.text import (
    MISSING,
    between,
    metric_words,
    p_number,
    paper_name,
    score,
    signed,
    split_words,
    verdict_word,
    whole_per_cent,
)
from levelground.escaping import csv_cell, escape_latex, escape_markdown
from levelground.metrics.named import METRICS, class_kinds, overall_metrics
from levelground.metrics.scores import Scoring
from levelground.records import HASHES_FILE, atomic_path, write_hashes
from levelground.statistics.intervals import t_shares
from levelground.wording import decimal, gettext, ngettext


@dataclass(frozen=True)
class TextTable:
    """A table as text: a title, a header, rows of as many cells, and the name of its file."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    name: str


CSV_HEADER = (
    *("kind", "subject", "against", "metric", "class", "value", "low", "high", "p", "p_holm", "verdict"),
    *("above_delta", "within_delta", "below_delta"),
)
"""Columns of ``comparison.csv``: one figure a line, so that a spreadsheet's filter or a pivot finds any of them.

The last three are P(Δ > δ), P(|Δ| ≤ δ) and P(Δ < −δ) of a pair. An exploratory view has one more, ``exploratory``.
"""


def text_tables(comparison: Comparison) -> tuple[TextTable, ...]:
    """Make all tables of a comparison that hold anything, the most asked for first.

    Args:
        comparison: The comparison.
    Returns:
        Scores, per-class IoU, scorings, pairs, architectures and their pairs; empty ones are left out.
    """
    tables = (
        scores_table(comparison),
        classes_table(comparison),
        metrics_table(comparison),
        _pairs_table(comparison, comparison.pairs, gettext("Pairs of runs: these weights on these scenes"), "pairs"),
        _architectures_table(comparison),
        _pairs_table(
            comparison,
            comparison.architecture_pairs,
            gettext("Pairs of architectures: means over seeds"),
            "architecture-pairs",
        ),
    )
    return tuple(replace(table, title=_titled(comparison, table.title)) for table in tables if table.rows)


def _titled(comparison: Comparison, title: str) -> str:
    """Mark the title of a table of a view that was not named in advance."""
    mark = gettext("Exploratory: %(text)s", text="")
    return f"{mark}{title}" if comparison.exploratory and not title.startswith(mark) else title


def scores_table(comparison: Comparison) -> TextTable:
    """Make the table of the console: the main figures of each run, best first."""
    scoring = comparison.primary_scoring
    words = metric_words(comparison.metric, comparison.scorings[:1])
    columns: dict[str, Callable[[RunResult], str]] = {
        gettext("run"): lambda run: run.label,
        words: lambda run: score(run.value),
        gettext("95 %% interval"): lambda run: between(run.interval),
    }
    for metric in overall_metrics(scoring, columns=True):
        if metric.name != comparison.metric:
            columns[gettext(METRICS[metric.kind].words)] = partial(_score_cell, scoring=scoring, kind=metric.kind)
    columns[gettext("loss")] = lambda run: score(run.loss)
    if any(run.dice_loss(comparison.split) is not None for run in comparison.runs):
        columns[gettext("Dice loss")] = lambda run: score(run.dice_loss(comparison.split))
    rows = tuple(tuple(cell(run) for cell in columns.values()) for run in comparison.ranked_runs)
    title = gettext(
        "Scores on %(split)s (%(scenes)s, %(groups)s, %(scoring)s scoring)",
        split=split_words(comparison.split),
        scenes=ngettext("%(n)s scene", "%(n)s scenes", len(comparison.scenes)),
        groups=ngettext("%(n)s group", "%(n)s groups", comparison.n_groups),
        scoring=scoring,
    )
    return TextTable(_titled(comparison, title), tuple(columns), rows, "scores")


def _score_cell(run: RunResult, *, scoring: Scoring, kind: str) -> str:
    return score(run.scores[scoring].overall(kind))


def classes_table(comparison: Comparison) -> TextTable:
    """Make the table of the IoU of every class of the legend, by run."""
    scoring = comparison.primary_scoring
    names = tuple(entry.name for entry in comparison.legend.classes)
    ious = {run.label: run.scores[scoring].iou for run in comparison.ranked_runs}
    rows = tuple((label, *(score(value) for value in values)) for label, values in ious.items())
    title = gettext("IoU by class (%(scoring)s scoring)", scoring=scoring)
    return TextTable(title, (gettext("run"), *names), rows, "classes")


def metrics_table(comparison: Comparison) -> TextTable:
    """Make the table of every run under every metric and scoring, with its rank in brackets."""
    sensitivity = comparison.metric_sensitivity
    rows = []
    for run in comparison.ranked_runs:
        cells = [_ranked_cell(entry, run.name) for entry in sensitivity]
        rows.append((run.label, *cells))
    header = (gettext("run"), *(entry.metric for entry in sensitivity))
    return TextTable(gettext("Every metric, with ranks"), header, tuple(rows) if sensitivity else (), "metrics")


def _ranked_cell(entry: MetricRow, run: str) -> str:
    rank = entry.ranks.get(run)
    value = score(entry.values.get(run))
    return value if rank is None else f"{value} ({rank})"


def _pairs_table(comparison: Comparison, pairs: Sequence[PairResult], title: str, name: str) -> TextTable:
    labels = comparison.labels if pairs is comparison.pairs else {}
    rows = tuple(
        (
            labels.get(pair.a, pair.a),
            labels.get(pair.b, pair.b),
            signed(pair.delta),
            between(pair.interval, sign=True),
            p_number(pair.p),
            p_number(pair.p_holm),
            _shares_cell(pair, comparison.delta),
            verdict_word(pair.verdict),
        )
        for pair in pairs
    )
    delta = decimal(f"{comparison.delta:g}")
    header = (
        "a",
        "b",
        f"Δ {comparison.metric}, a − b",
        gettext("95 %% interval"),
        "p",
        gettext("p (Holm)"),
        f"P(Δ > {delta}) · P(|Δ| ≤ {delta}) · P(Δ < −{delta}), %",
        gettext("a is"),
    )
    return TextTable(title, header, rows, name)


def delta_shares(pair: PairResult, margin: float) -> tuple[float, float, float] | None:
    """Return P(Δ > δ), P(|Δ| ≤ δ) and P(Δ < −δ) by the t distribution around a difference; they decide nothing.

    Args:
        pair: The pair.
        margin: δ.
    Returns:
        The three shares (:func:`levelground.statistics.intervals.t_shares`); ``None`` without a standard error.
    """
    if pair.delta is None or pair.se is None or pair.df is None:
        return None
    return t_shares(pair.delta, pair.se, pair.df, margin)


def _shares_cell(pair: PairResult, margin: float) -> str:
    shares = delta_shares(pair, margin)
    return MISSING if shares is None else " · ".join(map(whole_per_cent, shares))


def _architectures_table(comparison: Comparison) -> TextTable:
    rows = tuple(
        (
            entry.name,
            str(entry.seeds),
            score(entry.value),
            between(entry.interval),
            score(entry.se_groups),
            score(entry.se_seeds),
            score(entry.ranked_first, decimals=2),
        )
        for entry in comparison.architectures
        if entry.seeds > 1
    )
    words = metric_words(comparison.metric, comparison.scorings)
    header = (
        gettext("architecture"),
        gettext("seeds"),
        words,
        gettext("95 %% interval"),
        gettext("SE of groups"),
        gettext("SE of seeds"),
        gettext("ranked first"),
    )
    return TextTable(gettext("Architectures: means over seeds"), header, rows, "architectures")


def to_csv(comparison: Comparison) -> str:
    """Write a comparison as CSV, one figure a line (see :data:`CSV_HEADER`), numbers in full precision."""
    mark = ("exploratory",) if comparison.exploratory else ()
    rows = (*_csv_scores(comparison), *_csv_pairs(comparison))
    return csv_text((*CSV_HEADER, *mark), [(*row, *("yes" for _ in mark)) for row in rows])


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write rows as CSV; ``None`` is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow("" if cell is None else csv_cell(cell) for cell in row)
    return buffer.getvalue()


_NO_TEST = (None,) * 6  # no p, no adjusted p, no verdict, no shares


def _csv_scores(comparison: Comparison) -> Iterator[tuple[object, ...]]:
    names = comparison.legend.names
    for run in comparison.runs:
        yield ("run", run.name, None, "loss", None, run.loss, None, None, *_NO_TEST)
        if (dice := run.dice_loss(comparison.split)) is not None:
            yield ("run", run.name, None, "dice_loss", None, dice, None, None, *_NO_TEST)
        for scoring, scores in run.scores.items():
            intervals = {comparison.metric: run.interval, f"{scoring}.miou": scores.interval}
            for metric in overall_metrics(scoring):
                ends = _ends(intervals.get(metric.name))
                yield ("run", run.name, None, metric.name, None, scores.overall(metric.kind), *ends, *_NO_TEST)
            for kind in class_kinds(scoring):
                for name, value in zip(names, scores.per_class(kind), strict=True):
                    ends = _ends(intervals.get(f"{scoring}.{kind}:{name}"))
                    yield ("run", run.name, None, f"{scoring}.{kind}", name, value, *ends, *_NO_TEST)
        if run.boundary is not None:
            ends = _ends(run.boundary.interval)
            yield ("run", run.name, None, "boundary.miou", None, run.boundary.mean, *ends, *_NO_TEST)
            for name, value in zip(names, run.boundary.per_class, strict=True):
                ends = _ends(run.interval if comparison.metric == f"boundary.iou:{name}" else None)
                yield ("run", run.name, None, "boundary.iou", name, value, *ends, *_NO_TEST)
    for entry in comparison.architectures:
        ends = _ends(entry.interval)
        yield ("architecture", entry.name, None, comparison.metric, None, entry.value, *ends, *_NO_TEST)


def _csv_pairs(comparison: Comparison) -> Iterator[tuple[object, ...]]:
    names = comparison.legend.names
    kinds: dict[str, Sequence[PairResult]] = {
        "pair": comparison.pairs,
        "architecture pair": comparison.architecture_pairs,
    }
    for kind, pairs in kinds.items():
        for pair in pairs:
            sides = (kind, pair.a, pair.b)
            tested = (pair.p, pair.p_holm, pair.verdict, *(delta_shares(pair, comparison.delta) or (None,) * 3))
            yield (*sides, pair.metric, None, pair.delta, *_ends(pair.interval), *tested)
            iou = f"{pair.metric.split('.')[0]}.iou"
            for one in pair.per_class:
                name = names[one.class_index]
                yield (*sides, iou, name, one.delta, *_ends(one.interval), *_NO_TEST)


def _ends(interval: Interval) -> tuple[float | None, float | None]:
    return interval or (None, None)


def to_markdown(comparison: Comparison) -> str:
    """Write a comparison as Markdown: the findings, then every table."""
    return markdown_text(_titled(comparison, gettext("Comparison")), comparison.findings, text_tables(comparison))


def markdown_text(title: str, findings: Sequence[Finding], tables: Sequence[TextTable]) -> str:
    """Write findings and tables as Markdown, under a title."""
    lines = [f"# {title}", ""]
    for finding in findings:
        mark = {"headline": "**", "warning": ""}.get(finding.severity, "")
        text = gettext("Warning: %(text)s", text=finding.text) if finding.severity == "warning" else finding.text
        lines.append(f"- {mark}{escape_markdown(text)}{mark}")
    for table in tables:
        lines += ["", f"## {escape_markdown(table.title)}", ""]
        lines += [_pipe_row(table.header, escape_markdown), _pipe_row(("---",) * len(table.header), str)]
        lines += [_pipe_row(row, escape_markdown) for row in table.rows]
    return "\n".join(lines) + "\n"


def _pipe_row(cells: Sequence[str], escape: Callable[[str], str]) -> str:
    return f"| {' | '.join(escape(cell) for cell in cells)} |"


LATEX_FOLDER = "tables"
"""Folder of the LaTeX tables, one file each, beside the file that holds them all."""

MOST_COLUMNS, MOST_ROWS, COLUMN_WIDTH = 7, 40, 58
"""Columns and rows of one LaTeX table, and characters in ``\footnotesize`` across a paper's column."""


def to_latex(comparison: Comparison) -> str:
    r"""Write a comparison's tables as LaTeX, with plain ``tabular`` and ``\hline``: no package is needed."""
    return latex_text(comparison_latex(comparison))


def comparison_latex(comparison: Comparison) -> dict[str, str]:
    """Return each table of a comparison as LaTeX, by its name; metrics are in words."""
    words = {entry.metric: metric_words(entry.metric, comparison.scorings) for entry in comparison.metric_sensitivity}
    words[f"Δ {comparison.metric}, a − b"] = f"Δ {metric_words(comparison.metric, comparison.scorings[:1])}"
    return latex_tables(
        replace(table, header=tuple(words.get(cell, cell) for cell in table.header))
        for table in text_tables(comparison)
    )


def latex_tables(tables: Iterable[TextTable]) -> dict[str, str]:
    """Return tables as LaTeX that needs no package, by their names, each in parts that fit a column of a paper."""
    return {table.name: "\n".join(_latex_table(part) for part in _paper_parts(_paper_table(table))) for table in tables}


def latex_text(tables: Mapping[str, str]) -> str:
    """Write LaTeX tables as one file."""
    return "\n".join(["% Written by levelground; \\input this file. UTF-8, no package needed.", *tables.values()])


def write_tables(folder: Path, stem: str, texts: Mapping[str, str], latex: Mapping[str, str]) -> None:
    """Write tables and their hashes, each file atomically; LaTeX tables of an earlier call are not kept.

    Args:
        folder: Where to; made where it is missing.
        stem: Name of the files, such as ``comparison``.
        texts: Content of each file by its suffix.
        latex: LaTeX tables by their names.
    Raises:
        DiskError: A file cannot be written.
    """
    files = {folder / f"{stem}.{suffix}": text for suffix, text in texts.items()}
    files |= {folder / LATEX_FOLDER / f"{name}.tex": text for name, text in latex.items()}
    for path, text in files.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_hashes(folder / f"{stem}.{HASHES_FILE}", files, alone=True)


def _paper_table(table: TextTable) -> TextTable:
    """Join the two sides of a pair, write architectures as papers do, and turn a table of many columns."""
    header, rows = table.header, table.rows
    if header[:2] == ("a", "b"):
        header, rows = ("a − b", *header[2:]), tuple((f"{row[0]} − {row[1]}", *row[2:]) for row in rows)
    rows = tuple((paper_name(row[0]), *row[1:]) for row in rows)
    if len(header) > MOST_COLUMNS:
        names, *turned = zip(header, *rows, strict=True)
        header, rows = ("", *names[1:]), tuple(turned)
    return replace(table, header=header, rows=rows)


def _paper_parts(table: TextTable) -> list[TextTable]:
    """Split a table into parts that fit; each has the first column."""
    cells = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
    widths = [
        max(width, *map(len, _header_lines(head, width))) for head, width in zip(table.header, cells, strict=True)
    ]
    blocks = _column_blocks(widths)
    parts = [
        (tuple(table.header[k] for k in block), tuple(tuple(row[k] for k in block) for row in rows))
        for rows in (table.rows[at : at + MOST_ROWS] for at in range(0, len(table.rows), MOST_ROWS))
        for block in blocks
    ]
    if len(parts) == 1:
        return [replace(table, header=parts[0][0], rows=parts[0][1])]
    return [
        TextTable(
            gettext("%(title)s, part %(number)s of %(n)s", title=table.title, number=number, n=len(parts)),
            header,
            rows,
            f"{table.name}-{number}",
        )
        for number, (header, rows) in enumerate(parts, start=1)
    ]


def _column_blocks(widths: Sequence[int]) -> list[list[int]]:
    """Group columns into as few blocks as fit, as equal as they may be; each begins with the first column."""
    for n_blocks in range(1, len(widths)):
        size = -(-(len(widths) - 1) // n_blocks)
        blocks = [[0, *range(at, min(at + size, len(widths)))] for at in range(1, len(widths), size)]
        taken = [sum(widths[k] + 1.5 for k in block) for block in blocks]  # 1.5: the gap between columns
        if size < MOST_COLUMNS and max(taken) <= COLUMN_WIDTH + 1.5:
            break
    return blocks


def _header_lines(text: str, width: int) -> list[str]:
    """Break the head of a column into lines as wide as its cells."""
    wrap = partial(textwrap.wrap, width=max(width, 10), break_long_words=False, break_on_hyphens=False)
    return text.split(" · ") if " · " in text else wrap(text) or [""]


def _latex_table(table: TextTable) -> str:
    """Write one table as LaTeX."""
    cells = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
    heads = [
        " \\\\ ".join(map(escape_latex, _header_lines(text, width)))
        for text, width in zip(table.header, cells, strict=True)
    ]
    header = [f"\\shortstack{{{head}}}" if "\\\\" in head else head for head in heads]
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
            f"\\caption{{{escape_latex(table.title)}}}",
            f"\\label{{tab:levelground-{table.name}}}",
            f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            "\\hline",
            f"{' & '.join(header)} \\\\",
            "\\hline",
            *(f"{' & '.join(map(escape_latex, row))} \\\\" for row in table.rows),
            "\\hline",
            "\\end{tabular}",
            "\\end{table}",
            "",
        ]
    )
