"""Every score that is shown lies in the interval shown beside it: each kind of metric, in each output."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from builders.runs import build_run, scene_counts, spread
from rich.console import Console

from levelground.cli import main
from levelground.comparison.record import read_comparison
from levelground.comparison.text import paper_name, score
from levelground.metrics.named import METRICS
from levelground.reporting.page import render_report
from levelground.runs import Run

METRIC_NAMES = [
    f"{view}.{kind}" + (":Rangeland" if entry.of_class else "")
    for kind, entry in METRICS.items()
    for view in entry.views
]
ARCHS = {"unet": (0.08, 0.28), "fpn": (0.16, 0.44)}
NUMBER = r"[+−]?\d+\.\d+"

Shown = tuple[str, float, float, float]  # where, value, low end, high end


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two architectures with two seeds each on thirty scenes; classes and scorings have unlike scores."""
    study, found = tmp_path_factory.mktemp("shown"), []
    truths = np.random.default_rng(0).integers(300, 2000, (30, 3)) // (1, 3, 4)
    for number, (arch, wrong) in enumerate(ARCHS.items()):
        for seed in (0, 1):
            noise = np.random.default_rng([number, seed]).normal(0, 0.02, (30, 2))
            counts = [
                spread(truth.tolist(), [*np.clip(np.array(wrong) + shift, 0, 1), 1], [1, 0, 0])
                for truth, shift in zip(truths, noise, strict=True)
            ]
            found.append(build_run(study, f"{arch}-s{seed}", scene_counts(np.stack(counts)), arch=arch, seed=seed))
    return found


@pytest.fixture(scope="module", params=METRIC_NAMES)
def compared(request: pytest.FixtureRequest, runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the comparison by that metric."""
    out = tmp_path_factory.mktemp("out")
    folders = [str(run.folder) for run in runs]
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as said:
        patch.setattr("levelground.console._console", Console(file=said, width=400, soft_wrap=True, highlight=False))
        assert main(["compare", *folders, "--out", str(out), "--metric", str(request.param)]) == 0
        (out / "console.txt").write_text(said.getvalue(), encoding="utf-8")
    return out


def number(text: str) -> float:
    """A number as it is printed."""
    return float(text.replace("−", "-"))


def from_tables(where: str, tables: Sequence[Sequence[Sequence[str]]]) -> Iterator[Shown]:
    """The column before each interval's column, row by row."""
    for header, *rows in tables:
        if "95 % interval" not in header:
            continue
        column = header.index("95 % interval")
        for row in rows:
            ends = re.findall(NUMBER, row[column])
            if ends:
                assert len(ends) == 2, row
                yield f"{where}: {row}", number(row[column - 1]), number(ends[0]), number(ends[1])


def from_sentences(where: str, text: str) -> Iterator[Shown]:
    """The number before each interval in a sentence."""
    pattern = rf"({NUMBER})[^\d]*?95 % interval ({NUMBER}) to ({NUMBER})"
    for found in re.finditer(pattern, text.replace("F1", "F")):
        yield f"{where}: {found.group()}", *map(number, found.groups())


def from_csv(text: str) -> Iterator[Shown]:
    """Every line with an interval."""
    for row in csv.DictReader(io.StringIO(text)):
        if row["low"]:
            yield f"csv: {row}", float(row["value"]), float(row["low"]), float(row["high"])


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Header and rows of each table."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    tables = [[cells_of(line.strip("|"), "[|]") for line in block.splitlines()] for block in blocks]
    return [[table[0], *table[2:]] for table in tables]


def latex_tables(text: str) -> list[list[list[str]]]:
    """Header and rows of each ``tabular``."""
    plain = text.replace("$-$", "−").replace("\\%", "%")
    bodies = re.findall(r"\\begin\{tabular\}\{l?r*\}\n(.*?)\\end\{tabular\}", plain, flags=re.DOTALL)
    rows = [[line.removesuffix(" \\\\") for line in body.splitlines() if line != "\\hline"] for body in bodies]
    return [[line.split(" & ") for line in lines] for lines in rows]


def console_tables(text: str) -> list[list[list[str]]]:
    """Header and rows of the table on the console."""
    return [[cells_of(line, "[┃│]") for line in text.splitlines() if re.search("[┃│]", line)]]


def cells_of(line: str, bar: str) -> list[str]:
    """The cells of a line."""
    return [cell.strip() for cell in re.split(bar, line)]


class _PageTables(HTMLParser):
    """Tables of a page as text, and the texts of its charts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.labels: list[str] = []
        self._cell: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.labels += [value or "" for name, value in attrs if name in ("aria-label", "title")]
        match tag:
            case "table":
                self.tables.append([])
            case "tr":
                self.tables[-1].append([])
            case "th" | "td":
                self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td") and self._cell is not None:
            self.tables[-1][-1].append(" ".join("".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)


def from_page(html: str) -> Iterator[Shown]:
    """Tables, cells that hold a score with its interval, sentences, and what charts say to a screen reader."""
    page = _PageTables(html)
    yield from from_tables("page", [table for table in page.tables if table])
    for table in page.tables:
        for row in table:
            for cell in row:
                for found in re.finditer(rf"({NUMBER}) ?({NUMBER})–({NUMBER})", cell):
                    yield f"page: {row}", *map(number, found.groups())
    yield from from_sentences("page", re.sub(r"<[^>]*>", " ", html))
    for label in page.labels:
        yield from from_sentences("page", label)


def shown_values(folder: Path, runs: Sequence[Run]) -> dict[str, list[Shown]]:
    """Everything with an interval, by output."""
    markdown = (folder / "comparison.md").read_text(encoding="utf-8")
    latex = (folder / "comparison.tex").read_text(encoding="utf-8")
    console = (folder / "console.txt").read_text(encoding="utf-8")
    page = render_report(read_comparison(folder), folder, folder / "report.html")
    return {
        "csv": list(from_csv((folder / "comparison.csv").read_text(encoding="utf-8"))),
        "md": [*from_tables("md", markdown_tables(markdown)), *from_sentences("md", markdown)],
        "tex": list(from_tables("tex", latex_tables(latex))),
        "console": [*from_tables("console", console_tables(console)), *from_sentences("console", console)],
        "page": list(from_page(page.read_text(encoding="utf-8"))),
    }


def test_every_value_lies_in_its_interval(compared: Path, runs: list[Run]) -> None:
    """Runs, architectures and pairs, in CSV, Markdown, LaTeX, console and page."""
    shown = shown_values(compared, runs)
    outside = [
        found for values in shown.values() for found in values if not found[2] - 5e-4 <= found[1] <= found[3] + 5e-4
    ]
    assert outside == []
    # 4 runs, 2 architectures, 4 pairs of runs, 1 pair of architectures; a console shows runs and the headline.
    least = {"csv": 11, "md": 11, "tex": 11, "console": 4, "page": 11}
    assert {name: len(values) for name, values in shown.items() if len(values) < least[name]} == {}


def test_an_architecture_is_shown_by_the_primary_metric(compared: Path) -> None:
    """Tables and CSV show the value that the interval belongs to."""
    comparison = read_comparison(compared)
    expected = {entry.name: score(entry.value) for entry in comparison.architectures}
    markdown = markdown_tables((compared / "comparison.md").read_text(encoding="utf-8"))
    latex = latex_tables((compared / "comparison.tex").read_text(encoding="utf-8"))
    for tables, shown in ((markdown, str), (latex, paper_name)):
        (table,) = [table for table in tables if table[0][0] == "architecture" and "95 % interval" in table[0]]
        assert {row[0]: row[2] for row in table[1:]} == {shown(name): value for name, value in expected.items()}
    rows = csv.DictReader(io.StringIO((compared / "comparison.csv").read_text(encoding="utf-8")))
    values = {row["subject"]: (row["metric"], float(row["value"])) for row in rows if row["kind"] == "architecture"}
    assert values == {entry.name: (comparison.metric, entry.value) for entry in comparison.architectures}


def test_csv_has_each_run_by_the_primary_metric(compared: Path) -> None:
    """One line a run holds the primary metric, with the interval of the comparison."""
    comparison = read_comparison(compared)
    name, _, class_name = comparison.metric.partition(":")
    rows = csv.DictReader(io.StringIO((compared / "comparison.csv").read_text(encoding="utf-8")))
    found = {
        row["subject"]: tuple(float(row[key]) for key in ("value", "low", "high"))
        for row in rows
        if (row["kind"], row["metric"], row["class"]) == ("run", name, class_name)
    }
    assert found == {run.name: (pytest.approx(run.value), *(run.interval or ())) for run in comparison.runs}


def test_the_made_up_scores_tell_metrics_apart(compared: Path) -> None:
    """Another metric's value would be seen: some architecture's mIoU lies outside every other metric's interval."""
    comparison = read_comparison(compared)
    apart = [
        not entry.interval[0] <= entry.miou <= entry.interval[1]
        for entry in comparison.architectures
        if entry.interval is not None and entry.miou is not None
    ]
    assert comparison.metric.endswith(".miou") or any(apart)
