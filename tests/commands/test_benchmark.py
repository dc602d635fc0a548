"""Models × data sets on one page."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from builders.fake_study import build_fake_study
from builders.study import build_study
from builders.training import RECIPE, RUNTIME, small_spec, train

from levelground.cli import main
from levelground.comparison.benchmark import make_benchmark
from levelground.comparison.benchmark_record import Benchmark
from levelground.comparison.compare import compare_runs, write_comparison
from levelground.comparison.record import read_comparison
from levelground.evaluation.evaluate import evaluate_run
from levelground.statistics.significance import mean_difference

ARCHS = {"pspnet": 0.30, "unet": 0.21, "fpn": 0.19}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three compared studies whose scenes differ in number; the third has one model more."""
    folder = tmp_path_factory.mktemp("sets")
    for number, name in enumerate(("north", "south", "coast")):
        archs = ARCHS | ({"linknet": 0.4} if name == "coast" else {})
        build_fake_study(
            folder / name, archs=archs, scenes=[f"{name}{i}" for i in range(4 + number)], size=24 + 8 * number
        )
    return [folder / name for name in ("north", "south", "coast")]


def made(studies: list[Path], out: Path) -> Benchmark:
    """The benchmark of some studies."""
    return make_benchmark({study: read_comparison(study) for study in studies}, out)


def test_three_generated_data_sets_run_to_their_page(tmp_path: Path) -> None:
    """Trained, evaluated and compared for a few steps each, then put on one page."""
    studies = []
    for number, name in enumerate(("a", "b", "c")):
        dataset = build_study(tmp_path / name, first_seed=10 * number)
        recipe = dataclasses.replace(RECIPE, validations=1)
        runs = [
            train(small_spec(dataset, arch=arch, steps=2, recipe=recipe), dataset, dataset.folder)
            for arch in ("linknet", "fpn")
        ]
        comparison = compare_runs([evaluate_run(run, dataset, "test", runtime=RUNTIME) for run in runs])
        write_comparison(comparison, dataset.folder)
        studies.append(dataset.folder)
    assert main(["benchmark", *map(str, studies), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert all(
        text in page for text in ("a/study", "b/study", "c/study", "linknet", "fpn", "3 data sets decide little")
    )
    assert "same labels" not in page


def test_within_sets_verdicts_are_the_comparisons_own(studies: list[Path], tmp_path: Path) -> None:
    """Differences, intervals and verdicts, seen from the better-placed model; the mean is over sets."""
    found = made(studies, tmp_path)
    for pair in found.pairs:
        for study in studies:
            mine, theirs = pair.within[study.name], read_comparison(study).oriented_pair(pair.a, pair.b)
            assert (mine.delta, mine.interval, mine.verdict) == (theirs.delta, theirs.interval, theirs.verdict)
        within = [pair.within[study.name] for study in studies]
        expected = mean_difference([one.delta for one in within], [one.se for one in within])  # type: ignore[misc]
        assert (pair.delta, pair.interval, pair.p) == (expected.delta, expected.interval, expected.p)
    assert [model.name for model in found.models] == ["fpn", "unet", "pspnet"]
    means = [np.mean([one.rank for one in model.scores.values()]) for model in found.models]
    assert [model.mean_rank for model in found.models] == pytest.approx(means)
    assert found.left_out == {"linknet": ("coast",)}


def test_files_hold_the_same_figures(studies: list[Path], tmp_path: Path) -> None:
    """JSON, CSV, Markdown, LaTeX and page; the page loads nothing and links to no page that is not there."""
    assert main(["benchmark", *map(str, studies), "--out", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out/benchmark.json").read_text(encoding="utf-8"))
    with (tmp_path / "out/benchmark.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    means = {row["subject"]: float(row["value"]) for row in rows if row["kind"] == "mean"}
    assert means == {model["name"]: model["mean"] for model in record["models"]}
    differences = {(row["subject"], row["against"]): row for row in rows if row["kind"] == "mean difference"}
    for pair in record["pairs"]:
        row = differences[pair["a"], pair["b"]]
        assert [float(row[key]) for key in ("value", "low", "high", "p_holm")] == [
            pair["delta"],
            *pair["interval"],
            pair["p_holm"],
        ]
        assert row["verdict"] == pair["verdict"]
    texts = {suffix: (tmp_path / f"out/benchmark.{suffix}").read_text(encoding="utf-8") for suffix in ("md", "tex")}
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    for model in record["models"]:
        assert all(
            f"{model['mean']:.3f}".removeprefix("0") in text or f"{model['mean']:.3f}" in text
            for text in (*texts.values(), page)
        )
    assert "http" not in page.replace("http-equiv", "")
    assert 'href="../' not in page
    assert "cannot show any difference" in page or "critical difference" in page


def test_sets_that_share_scenes_or_differ_in_protocol_are_warned_of(studies: list[Path], tmp_path: Path) -> None:
    """A copy of a set is no second observation; another budget is named with its values."""
    first = read_comparison(studies[0])
    other = dataclasses.replace(first, protocol={**first.protocol, "budget": "7 steps"})
    found = make_benchmark({studies[0]: first, tmp_path / "copy": other}, tmp_path)
    texts = {finding.code: finding.text for finding in found.findings}
    assert f"north and copy share {len(first.scenes)} scenes with the same labels" in texts["shared_scenes"]
    assert "budget" in texts["unlike_sets"]
    assert "7 steps (copy)" in texts["unlike_sets"]
    assert found.critical_difference is not None
    assert "cannot show any difference" in texts["mean_ranks"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["north"], "1 data set: a benchmark needs two or more"),
        (["north", "north"], "is given twice"),
        (["north", "nowhere"], "no comparison.json. Run levelground compare"),
    ],
)
def test_wrong_studies_are_refused(
    studies: list[Path], arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, before anything is written."""
    paths = [str(studies[0].parent / name) for name in arguments]
    assert main(["benchmark", *paths, "--out", str(tmp_path / "out")]) == 2
    assert text in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_unlike_questions_and_strangers_are_refused(
    studies: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other metrics, no model in common, and a folder whose page would be replaced."""
    one = build_fake_study(tmp_path / "one", archs={"linknet": 0.3, "pan": 0.2}, scenes=("a", "b"), size=24)
    assert main(["benchmark", str(studies[0]), str(one.folder), "--out", str(tmp_path / "out")]) == 2
    assert "have 0 model in common" in " ".join(capsys.readouterr().err.split())
    write_comparison(dataclasses.replace(read_comparison(studies[1]), metric="official.f1"), tmp_path / "f1")
    assert main(["benchmark", str(studies[0]), str(tmp_path / "f1"), "--out", str(tmp_path / "out")]) == 2
    assert "was compared with metric official.miou" in " ".join(capsys.readouterr().err.split())
    assert main(["benchmark", *map(str, studies), "--out", str(studies[0])]) == 2
    assert "whose report.html would be replaced" in " ".join(capsys.readouterr().err.split())
