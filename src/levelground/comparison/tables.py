"""A comparison as tables: CSV for programs, Markdown and LaTeX for papers, plain rows for the console.

Nothing is computed here. Scores are fractions; an en dash (an empty cell in CSV) stands where a value does not exist.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from levelground.comparison.text import between, count_of, metric_words, p_number, score, signed
from levelground.comparison.views import primary_scoring, ranked_runs
from levelground.metrics.named import METRICS, class_kinds, overall_metrics
from levelground.records import Record


@dataclass(frozen=True)
class TextTable:
    """A table as text: a title, a header and rows of as many cells."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


CSV_HEADER = ("kind", "subject", "against", "metric", "class", "value", "low", "high", "p", "p_holm", "verdict")
"""Columns of ``comparison.csv``: one figure a line, so that a spreadsheet's filter or a pivot finds any of them."""


def text_tables(record: Record) -> tuple[TextTable, ...]:
    """All tables of a comparison that hold anything, the most asked for first.

    Args:
        record: The comparison.
    Returns:
        Scores, per-class IoU, scorings, pairs, architectures and their pairs; empty ones are left out.
    """
    tables = (
        scores_table(record),
        classes_table(record),
        metrics_table(record),
        _pairs_table(record, "pairs", "Pairs of runs: these weights on these scenes"),
        _architectures_table(record),
        _pairs_table(record, "architecture_pairs", "Pairs of architectures: means over seeds"),
    )
    return tuple(table for table in tables if table.rows)


def scores_table(record: Record) -> TextTable:
    """The headline figures of each run, best first: the table of the console."""
    scoring = primary_scoring(record)
    words = metric_words(record["metric"], record["scorings"][:1])
    columns: dict[str, Callable[[Record], str]] = {
        "run": lambda run: str(run["label"]),
        words: lambda run: score(run["value"]),
        "95 % interval": lambda run: between(run["interval"]),
    }
    for metric in overall_metrics(scoring, columns=True):
        if metric.name != record["metric"]:
            columns[METRICS[metric.kind].words] = partial(_score_cell, scoring=scoring, kind=metric.kind)
    columns["loss"] = lambda run: score(run["loss"])
    rows = tuple(tuple(cell(run) for cell in columns.values()) for run in ranked_runs(record))
    scenes = count_of(len(record["scenes"]), "scene")
    groups = count_of(record["n_groups"], "group")
    return TextTable(f"Scores on {record['split']} ({scenes}, {groups}, {scoring} scoring)", tuple(columns), rows)


def _score_cell(run: Record, *, scoring: str, kind: str) -> str:
    return score(run["scores"][scoring].get(kind))


def classes_table(record: Record) -> TextTable:
    """The IoU of every class of the legend, by run."""
    scoring = primary_scoring(record)
    names = tuple(str(entry["name"]) for entry in record["legend"]["class"])
    ious = {str(run["label"]): run["scores"][scoring]["iou"] for run in ranked_runs(record)}
    rows = tuple((label, *(score(value) for value in values)) for label, values in ious.items())
    return TextTable(f"IoU by class ({scoring} scoring)", ("run", *names), rows)


def metrics_table(record: Record) -> TextTable:
    """Every run under every metric and scoring, with its rank in brackets."""
    multiverse = record["multiverse"]
    rows = []
    for run in ranked_runs(record):
        cells = [_ranked_cell(entry, str(run["name"])) for entry in multiverse]
        rows.append((str(run["label"]), *cells))
    header = ("run", *(str(entry["metric"]) for entry in multiverse))
    return TextTable("Every metric, with ranks", header, tuple(rows) if multiverse else ())


def _ranked_cell(entry: Record, run: str) -> str:
    rank = entry["ranks"].get(run)
    value = score(entry["values"].get(run))
    return value if rank is None else f"{value} ({rank})"


def _pairs_table(record: Record, key: str, title: str) -> TextTable:
    labels = {str(run["name"]): str(run["label"]) for run in record["runs"]}
    rows = tuple(
        (
            labels.get(pair["a"], pair["a"]),
            labels.get(pair["b"], pair["b"]),
            signed(pair["delta"]),
            between(pair["interval"], sign=True),
            p_number(pair["p"]),
            p_number(pair["p_holm"]),
            str(pair["verdict"]),
        )
        for pair in record[key]
    )
    header = ("a", "b", f"Δ {record['metric']}, a − b", "95 % interval", "p", "p (Holm)", "a is")
    return TextTable(title, header, rows)


def _architectures_table(record: Record) -> TextTable:
    rows = tuple(
        (
            str(entry["name"]),
            str(entry["seeds"]),
            score(entry["miou"]),
            between(entry["interval"]),
            score(entry["se_groups"]),
            score(entry["se_seeds"]),
            score(entry["ranked_first"], decimals=2),
        )
        for entry in record["architectures"]
        if entry["seeds"] > 1
    )
    header = ("architecture", "seeds", "mIoU", "95 % interval", "SE of groups", "SE of seeds", "ranked first")
    return TextTable("Architectures: means over seeds", header, rows)


def to_csv(record: Record) -> str:
    """The comparison as CSV, one figure a line (see :data:`CSV_HEADER`), numbers in full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for row in (*_csv_scores(record), *_csv_pairs(record)):
        writer.writerow("" if cell is None else cell for cell in row)
    return buffer.getvalue()


def _csv_scores(record: Record) -> Iterator[tuple[object, ...]]:
    names = [entry["name"] for entry in record["legend"]["class"]]
    nothing = (None,) * 5
    for run in record["runs"]:
        yield ("run", run["name"], None, "loss", None, run["loss"], *nothing)
        for scoring, scores in run["scores"].items():
            low, high = scores["interval"] or (None, None)
            for metric in overall_metrics(scoring):
                beside = (low, high, None, None, None) if metric.kind == "miou" else nothing
                yield ("run", run["name"], None, metric.name, None, scores[metric.kind], *beside)
            for kind in class_kinds(scoring):
                for name, value in zip(names, scores[kind], strict=True):
                    yield ("run", run["name"], None, f"{scoring}.{kind}", name, value, *nothing)
    for entry in record["architectures"]:
        low, high = entry["interval"] or (None, None)
        kind = "architecture"
        yield (kind, entry["name"], None, record["metric"], None, entry["miou"], low, high, None, None, None)


def _csv_pairs(record: Record) -> Iterator[tuple[object, ...]]:
    names = [entry["name"] for entry in record["legend"]["class"]]
    for kind, key in (("pair", "pairs"), ("architecture pair", "architecture_pairs")):
        for pair in record[key]:
            ends = (kind, pair["a"], pair["b"])
            low, high = pair["interval"] or (None, None)
            judged = (pair["p"], pair["p_holm"], pair["verdict"])
            yield (*ends, pair["metric"], None, pair["delta"], low, high, *judged)
            for entry in pair["per_class"]:
                low, high = entry["interval"] or (None, None)
                name = names[entry["class"]]
                yield (*ends, f"{pair['metric'].split('.')[0]}.iou", name, entry["delta"], low, high, None, None, None)


def to_markdown(record: Record) -> str:
    """The comparison as Markdown: the findings, then every table."""
    lines = ["# Comparison", ""]
    for finding in record["findings"]:
        mark = {"headline": "**", "warning": ""}.get(finding["severity"], "")
        prefix = "Warning: " if finding["severity"] == "warning" else ""
        lines.append(f"- {mark}{prefix}{escape_markdown(finding['text'])}{mark}")
    for table in text_tables(record):
        lines += ["", f"## {escape_markdown(table.title)}", ""]
        lines += [_pipe_row(table.header, escape_markdown), _pipe_row(("---",) * len(table.header), str)]
        lines += [_pipe_row(row, escape_markdown) for row in table.rows]
    return "\n".join(lines) + "\n"


def _pipe_row(cells: Sequence[str], escape: Callable[[str], str]) -> str:
    return f"| {' | '.join(escape(cell) for cell in cells)} |"


def escape_markdown(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line, inside a table cell too.

    Example:
        >>> print(escape_markdown("a|b_c*<d>"))
        a\|b\_c\*&lt;d>
    """
    one_line = re.sub(r"\s+", " ", text)
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", one_line).replace("<", "&lt;")


def to_latex(record: Record) -> str:
    r"""The comparison's tables as LaTeX, with plain ``tabular`` and ``\hline``: no package is needed."""
    parts = ["% Written by levelground; \\input this file. UTF-8, no package needed."]
    for table in text_tables(record):
        columns = "l" + "r" * (len(table.header) - 1)
        body = [_latex_row(row) for row in table.rows]
        parts += [
            "\\begin{table}",
            f"\\caption{{{escape_latex(table.title)}}}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\hline",
            _latex_row(table.header),
            "\\hline",
            *body,
            "\\hline",
            "\\end{tabular}",
            "\\end{table}",
        ]
    return "\n".join(parts) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return f"{' & '.join(escape_latex(cell) for cell in cells)} \\\\"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "Δ": r"$\Delta$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "[": "{[}",  # after a row's end these two would be taken for its options
    "*": "{*}",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def escape_latex(text: str) -> str:
    r"""Text that LaTeX sets as it is.

    Example:
        >>> print(escape_latex("unet_s0 & 5 % −0.1"))
        unet\_s0 \& 5 \% $-$0.1
    """
    return "".join(_LATEX.get(character, character) for character in re.sub(r"\s+", " ", text))
