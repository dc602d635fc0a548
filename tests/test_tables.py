"""Tables hold the comparison's figures and nothing else, and every format escapes what it must."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from builders.runs import adopted_card, build_run, noisy_counts, scene_counts

from levelground.comparison.compare import compare_runs, write_comparison
from levelground.comparison.record import Comparison
from levelground.comparison.tables import (
    CSV_HEADER,
    MOST_COLUMNS,
    MOST_ROWS,
    TextTable,
    comparison_latex,
    delta_shares,
    escape_latex,
    escape_markdown,
    latex_tables,
    metrics_table,
    scores_table,
    text_tables,
    to_csv,
    to_latex,
    to_markdown,
)
from levelground.comparison.text import whole_per_cent
from levelground.imagery.legend import Legend, LegendClass
from levelground.metrics.named import class_kinds, overall_metrics

ODD = Legend(
    "odd",
    (
        LegendClass(0, "Grass & |herbs|", (0, 255, 0)),
        LegendClass(1, 'Пашня_"5 %"', (255, 255, 0)),
        LegendClass(2, "Unknown", (0, 0, 0), counted=False),
    ),
)


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Two architectures with two seeds each, on six scenes, and class names full of special characters."""
    return compare_runs(
        [
            build_run(
                tmp_path,
                f"{arch}-s{seed}",
                scene_counts(noisy_counts(6, error, seed=10 * seed + len(arch)), legend=ODD),
                arch=arch,
                seed=seed,
                legend=ODD,
            )
            for arch, error in (("unet", 0.2), ("fpn", 0.3))
            for seed in (0, 1)
        ]
    )


def test_the_scores_are_ranked_best_first(comparison: Comparison) -> None:
    """The console's table: one row a run, the best on top, figures with three decimals."""
    table = scores_table(comparison)
    assert table.title == "Scores on test (6 scenes, 6 groups, official scoring)"
    assert table.header == ("run", "mIoU", "95 % interval", "mean F1", "pixel accuracy", "loss")
    values = [float(row[1]) for row in table.rows]
    assert values == sorted(values, reverse=True)
    assert {row[0] for row in table.rows} == {"unet s0", "unet s1", "fpn s0", "fpn s1"}


def test_another_primary_metric_has_a_column_and_ranks(tmp_path: Path) -> None:
    """The table is ordered by what was tested, and shows it with its interval."""
    runs = [
        build_run(tmp_path, f"{a}-s0", noisy_counts(6, e, seed=1), arch=a) for a, e in (("unet", 0.4), ("fpn", 0.1))
    ]
    table = scores_table(compare_runs(runs, metric="kept.iou:Rangeland"))
    assert table.title.endswith("kept scoring)")
    assert table.header[:4] == ("run", "IoU of rangeland", "95 % interval", "mIoU")
    assert [row[0] for row in table.rows] == ["fpn", "unet"]


def test_all_tables_are_rectangular(comparison: Comparison) -> None:
    """Every row has a cell for each column."""
    tables = text_tables(comparison)
    assert [table.title.split(":")[0].split(" (")[0] for table in tables] == [
        "Scores on test",
        "IoU by class",
        "Every metric, with ranks",
        "Pairs of runs",
        "Architectures",
        "Pairs of architectures",
    ]
    assert all(len(row) == len(table.header) for table in tables for row in table.rows)


def test_metric_sensitivity_shows_ranks_in_brackets(comparison: Comparison) -> None:
    """Each cell is a score and its rank under that metric."""
    table = metrics_table(comparison)
    assert table.header[1] == "official.miou"
    assert [row[1].split(" ")[1] for row in table.rows] == ["(1)", "(2)", "(3)", "(4)"]


def test_csv_holds_every_figure_in_full_precision(comparison: Comparison) -> None:
    """One figure a line, read back exactly; what does not exist is an empty cell."""
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert tuple(rows[0]) == CSV_HEADER
    run = comparison.runs[0]
    miou = next(row for row in rows if row["subject"] == run.name and row["metric"] == "official.miou")
    assert float(miou["value"]) == run.scores["official"].miou
    assert (float(miou["low"]), float(miou["high"])) == run.scores["official"].interval
    absent = next(row for row in rows if row["metric"] == "official.iou" and row["class"] == "Unknown")
    assert absent["value"] == ""
    pair = next(row for row in rows if row["kind"] == "pair" and row["metric"] == "official.miou")
    assert (pair["against"], pair["verdict"]) == (comparison.pairs[0].b, comparison.pairs[0].verdict)
    shares = [float(pair[name]) for name in ("above_delta", "within_delta", "below_delta")]
    assert shares == list(delta_shares(comparison.pairs[0], comparison.delta) or ()) and sum(shares) == pytest.approx(1)
    assert {row["kind"] for row in rows} == {"run", "pair", "architecture", "architecture pair"}
    assert {row["class"] for row in rows} == {"", *ODD.names}


@pytest.mark.parametrize("metric", ["official.miou", "boundary.miou", "boundary.iou:Rangeland"])
def test_csv_holds_every_metric_of_every_view(tmp_path: Path, metric: str) -> None:
    """Whatever was asked; each figure once, the interval beside what was tested."""
    own = compare_runs([build_run(tmp_path, "unet-s0", noisy_counts(6, 0.2, seed=0))], metric=metric)
    rows = [row for row in csv.DictReader(io.StringIO(to_csv(own))) if row["kind"] == "run"]
    found = {(row["metric"], row["class"]): row for row in rows}
    assert len(found) == len(rows)
    for view in ("official", "kept", "all", "boundary"):
        assert {(one.name, "") for one in overall_metrics(view)} <= found.keys()
        assert {(f"{view}.{kind}", name) for kind in class_kinds(view) for name in own.legend.names} <= found.keys()
    (run,) = own.runs
    assert run.boundary is not None and run.interval is not None
    mean = found["boundary.miou", ""]
    assert (float(mean["value"]), float(mean["low"])) == (run.boundary.mean, run.boundary.interval[0])
    tested = found[metric.partition(":")[0], metric.partition(":")[2]]
    assert [float(tested[key]) for key in ("value", "low", "high")] == [run.value, *run.interval]
    assert (found["boundary.iou", "Rangeland"]["low"] == "") == (metric != "boundary.iou:Rangeland")


def test_csv_has_no_boundary_metrics_where_none_were_counted(tmp_path: Path) -> None:
    """An adopted run's masks may have been counted without borders."""
    run = build_run(tmp_path, "unet-s0", scene_counts(noisy_counts(6, 0.2, seed=0), boundary=False))
    assert "boundary" not in to_csv(compare_runs([run]))


def test_shares_stand_beside_each_pair_in_markdown_and_latex(comparison: Comparison) -> None:
    """In whole per cent, with δ in the header."""
    pairs = next(table for table in text_tables(comparison) if table.title.startswith("Pairs of architectures"))
    cell = pairs.rows[0][pairs.header.index("P(Δ > 0.01) · P(|Δ| ≤ 0.01) · P(Δ < −0.01), %")]
    shares = delta_shares(comparison.architecture_pairs[0], comparison.delta)
    assert shares is not None
    assert cell == " · ".join(map(whole_per_cent, shares))
    assert escape_markdown(cell) in to_markdown(comparison)
    assert escape_latex(cell) in to_latex(comparison)


def test_csv_of_one_group_has_empty_intervals(tmp_path: Path) -> None:
    """No interval is no number, not a zero."""
    run = build_run(tmp_path, "unet-s0", noisy_counts(1, 0.2, seed=0))
    rows = list(csv.DictReader(io.StringIO(to_csv(compare_runs([run])))))
    miou = next(row for row in rows if row["metric"] == "official.miou" and row["kind"] == "run")
    assert (miou["low"], miou["high"]) == ("", "")


def test_markdown_escapes_names(comparison: Comparison) -> None:
    """A bar in a class name does not start a new cell: every table line has as many bars as its header."""
    text = to_markdown(comparison)
    assert "Grass & \\|herbs\\|" in text
    assert text.startswith("# Comparison\n\n- **")
    header = next(line for line in text.splitlines() if "herbs" in line and line.startswith("|"))
    assert header.replace("\\|", "").count("|") == len(ODD.classes) + 2


def test_latex_escapes_names_and_needs_no_package(comparison: Comparison) -> None:
    """Specials are escaped, rules are plain, and each tabular has as many columns as its rows have cells."""
    text = to_latex(comparison)
    assert "Grass \\& \\\\ $|$herbs$|$" in text
    assert 'Пашня\\_"5 \\\\ \\%"' in text
    assert "\\toprule" not in text
    assert "\\begin{tabular}{lrrr}" in text
    check_latex(text)


def check_latex(text: str) -> None:
    """Check that a text of LaTeX tables closes what it opens, and that rows have as many cells as their table."""
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end){(\w+)}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    bare = re.sub(r"\\[{}$&%#_]", "", text)  # escaped
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    for columns, body in re.findall(r"\\begin{tabular}{(\w+)}(.*?)\\end{tabular}", bare, re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith("\\\\")]
        assert len(rows) >= 2 and {line.count("&") + 1 for line in rows} == {len(columns)}
        assert len(columns) <= MOST_COLUMNS and len(rows) <= MOST_ROWS + 1
    labels = re.findall(r"\\label{(.*?)}", text)
    assert len(labels) == len({*labels}) == text.count("\\begin{table}")


def test_latex_tables_fit_a_column_one_file_each(comparison: Comparison, tmp_path: Path) -> None:
    """More than seven columns become rows; names are those of papers; one file holds them all."""
    tables = comparison_latex(comparison)
    assert list(tables) == ["scores", "classes", "metrics", "pairs", "architectures", "architecture-pairs"]
    metrics = tables["metrics"]
    assert "\n & U-Net s1 & U-Net s0 " in metrics and "\nofficial mIoU & " in metrics
    assert "official.miou" not in metrics and "unet" not in "".join(tables.values())
    assert "\\label{tab:levelground-scores}" in tables["scores"] and "U-Net $-$ FPN" in tables["architecture-pairs"]
    write_comparison(comparison, tmp_path)
    assert {path.stem: path.read_text("utf-8") for path in (tmp_path / "tables").iterdir()} == tables
    whole = (tmp_path / "comparison.tex").read_text("utf-8")
    assert all(text in whole for text in tables.values())
    check_latex(whole)


def test_many_runs_and_long_names_still_fit(comparison: Comparison) -> None:
    """Tables that are too wide or too long are split into parts with a caption and a label each."""
    wide = TextTable(
        "Wide", ("run", *(f"a class with a long name {k}" for k in range(6))), (("unet", *["0.123"] * 6),), "w"
    )
    long = TextTable("Long", ("a", "b", "Δ"), tuple((f"m{k}", "fpn", "−0.1") for k in range(190)), "l")
    many = TextTable(
        "Many",
        ("run", *(f"metric {k}" for k in range(20))),
        tuple((f"m{k}", *["0.123 (12)"] * 20) for k in range(36)),
        "m",
    )
    for table, parts in ((wide, 2), (long, 5), (many, 9)):
        (text,) = latex_tables([table]).values()
        check_latex(text)
        assert text.count("\\caption{") == parts
        for line in text.splitlines():
            if " & " in line and "shortstack" not in line:
                assert len(line.replace(" & ", "  ")) <= 75


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX on this machine")
def test_latex_compiles(comparison: Comparison, tmp_path: Path) -> None:
    """In two columns, without a package but for the encoding."""
    write_comparison(comparison, tmp_path)
    head = "\\documentclass[twocolumn]{article}\\usepackage[T2A]{fontenc}"
    (tmp_path / "paper.tex").write_text(f"{head}\\begin{{document}}\\input{{comparison}}\\end{{document}}", "utf-8")
    done = subprocess.run(["pdflatex", "-interaction=batchmode", "paper.tex"], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_escapes_leave_nothing_live() -> None:
    """Each character that means something to the format comes out as text."""
    assert escape_markdown("a\nb `c` [d](e) #f") == "a b \\`c\\` \\[d\\](e) \\#f"
    assert escape_latex("a\\b{c}~^ <d>") == ("a\\textbackslash{}b\\{c\\}\\textasciitilde{}\\textasciicircum{} $<$d$>$")
    assert escape_latex("[x]* Δ 0.1–0.2") == "{[}x]{*} $\\Delta$ 0.1--0.2"


def test_an_adopted_run_keeps_its_name_and_a_missing_loss_is_a_dash(tmp_path: Path) -> None:
    """Masks without probabilities have no loss; the run is called what it was called when adopted."""
    counts = scene_counts(noisy_counts(3, 0.2, seed=0))
    bare = scene_counts(noisy_counts(3, 0.2, seed=0))
    object.__setattr__(bare, "loss_pixels", counts.loss_pixels * 0)
    object.__setattr__(bare, "conf_n", counts.conf_n * 0)
    for name in ("conf_sum", "conf_correct"):
        object.__setattr__(bare, name, getattr(counts, name) * 0)
    run = build_run(tmp_path, "theirs", bare, arch="unknown", seed=None, card=adopted_card())
    comparison = compare_runs([run])
    assert scores_table(comparison).rows[0][0] == "theirs"
    assert scores_table(comparison).rows[0][-1] == "–"
    assert comparison.runs[0].calibration is None
    assert "loss" not in [entry.metric for entry in comparison.metric_sensitivity]
