"""One metric, one entry: what an entry says is what every output, the history and ``--metric`` show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.counts import COUNTED, NAMES, made_up_counts
from builders.runs import build_run, noisy_counts
from builders.study import small_model
from sklearn.metrics import cohen_kappa_score

from levelground.comparison.compare import compare_runs, write_comparison
from levelground.errors import ConfigError
from levelground.exporting.model_card import write_model_card
from levelground.metrics import named
from levelground.metrics.named import (
    METRICS,
    AnyCounts,
    Classes,
    Counted,
    MetricKind,
    Scores,
    View,
    class_kinds,
    overall_metrics,
    parse_metric,
    validation_scores,
)
from levelground.metrics.scores import Scoring, fwiou, kappa
from levelground.models.smp_backend import save_model
from levelground.reporting.page import render_report
from levelground.runs import Run
from levelground.statistics.architectures import compare_architectures
from levelground.statistics.pairs import compare_pairs, run_intervals

GROUPS = [f"g{number // 2}" for number in range(16)]


def pixels_of(counts: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> tuple[list[int], list[int]]:
    """The true and the predicted class of every pixel of a small matrix."""
    cells = [(true, pred) for true, pred in np.ndindex(*counts.shape) for _ in range(int(counts[true, pred]))]
    return [true for true, _ in cells], [pred for _, pred in cells]


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    """Over all pixels, and over those whose true class counts, predictions of other classes included."""
    counts = np.random.default_rng(seed).integers(0, 9, (4, 4))
    assert kappa(counts, COUNTED, "all") == pytest.approx(cohen_kappa_score(*pixels_of(counts)), abs=1e-12)
    known = np.where(COUNTED[:, None], counts, 0)
    assert kappa(counts, COUNTED) == pytest.approx(cohen_kappa_score(*pixels_of(known)), abs=1e-12)


def test_kappa_has_no_kept_scoring() -> None:
    """False positives without a true class in the class set have no chance agreement."""
    with pytest.raises(ConfigError, match=r"^kappa has no scoring 'kept', expected one of official, all\.$"):
        kappa(np.eye(4, dtype=np.int64), COUNTED, "kept")
    with pytest.raises(ConfigError, match=r"no kind 'kappa' of kept, expected one of miou, mf1, pixel_accuracy, fwiou"):
        parse_metric("kept.kappa", NAMES, COUNTED)


@pytest.mark.parametrize("scoring", ["official", "kept", "all"])
def test_fwiou_is_what_one_computes_by_hand(scoring: Scoring) -> None:
    """Two counted classes and one that is not, worked out cell by cell.

    True 0: 6 right, 2 as 1. True 1: 1 as 0, 1 right. True 2, not counted: 3 as 0. official: T = (8, 2), IoU = (6/9,
    1/4). kept: P of class 0 is 10, so its IoU is 6/12. all: class 2 has T = 3 and IoU 0.
    """
    counts, counted = np.array([[6, 2, 0], [1, 1, 0], [3, 0, 0]]), np.array([True, True, False])
    by_hand = {
        "official": (8 * 6 / 9 + 2 * 1 / 4) / 10,
        "kept": (8 * 6 / 12 + 2 * 1 / 4) / 10,
        "all": (8 * 6 / 12 + 2 * 1 / 4 + 3 * 0) / 13,
    }[scoring]
    assert fwiou(counts, counted, scoring) == pytest.approx(by_hand)


def test_a_class_without_true_pixels_has_no_weight_in_either() -> None:
    """Its predictions are misses of true classes already; with no true pixel at all there is no score."""
    counts = np.array([[5, 2, 1], [0, 0, 0], [1, 1, 6]])
    every = np.ones(3, bool)
    assert fwiou(counts, every) == pytest.approx((8 * 5 / 9 + 8 * 6 / 9) / 16)
    assert kappa(counts, every) == pytest.approx(cohen_kappa_score(*pixels_of(counts)))
    assert np.isnan(fwiou(np.zeros((3, 3)), every))
    assert np.isnan(kappa(np.zeros((3, 3)), every))


def test_kappa_of_one_class_alone_does_not_exist() -> None:
    """Truth and prediction hold the same single class: 0 of 0, as in scikit-learn."""
    assert np.isnan(kappa(np.diag([7, 0]), np.ones(2, bool)))


@pytest.mark.parametrize("kind", ["kappa", "fwiou"])
def test_each_has_intervals_and_tests(kind: str) -> None:
    """A better run is shown to be better; swapping the runs turns the difference round; values are the functions'."""
    counts = np.concatenate([made_up_counts(1, 16), made_up_counts(1, 16)])
    counts[1] = counts[0] // 2
    counts[1, :, np.arange(4), np.arange(4)] += (counts[0] - counts[0] // 2).sum(axis=-1).T  # half of the misses mended
    metric = parse_metric(f"official.{kind}", NAMES, COUNTED)
    function = {"kappa": kappa, "fwiou": fwiou}[kind]
    for run, estimate in zip(counts, run_intervals(counts, GROUPS, metric, COUNTED), strict=True):
        assert estimate.value == pytest.approx(float(function(run.sum(axis=0), COUNTED)), abs=1e-15)
        assert estimate.interval is not None
        assert estimate.interval[0] < estimate.value < estimate.interval[1]
    (pair,) = compare_pairs(counts, GROUPS, metric, COUNTED, n_resamples=1000)
    (turned,) = compare_pairs(counts[::-1], GROUPS, metric, COUNTED, n_resamples=1000)
    assert (pair.verdict.word, turned.verdict.word) == ("worse", "better")
    assert pair.p == turned.p == pytest.approx(2 / 2**8)
    assert pair.delta == pytest.approx(-turned.delta)


@pytest.mark.parametrize("kind", ["kappa", "fwiou"])
def test_an_entry_and_a_plain_function_on_counts_have_the_same_statistics(kind: str) -> None:
    """The entry's sums are a short cut; any function of counts gives the same intervals and verdicts."""
    counts, metric = made_up_counts(4, 16, seed=3), parse_metric(f"official.{kind}", NAMES, COUNTED)
    archs = ["a", "a", "b", "b"]
    function = {"kappa": kappa, "fwiou": fwiou}[kind]
    (by_entry,) = compare_architectures(counts, GROUPS, archs, metric, COUNTED)
    (by_function,) = compare_architectures(counts, GROUPS, archs, lambda c: function(c, COUNTED), COUNTED)
    assert by_entry.delta == pytest.approx(by_function.delta, abs=1e-14)
    assert by_entry.interval == pytest.approx(by_function.interval, abs=1e-12)


def whole_matrix(counts: AnyCounts, counted: Counted, view: View, classes: Classes) -> Scores:
    """A reduction that keeps every cell, ``(K, K, ...)``: what a metric needs that is no function of margins."""
    return np.moveaxis(np.asarray(counts, np.float64), (-2, -1), (0, 1))


def confusion_of_first_two(sums: Scores) -> Scores:
    """One minus the share of the first class's pixels taken for the second."""
    with np.errstate(invalid="ignore"):
        return np.asarray(1 - sums[0, 1] / sums[0].sum(axis=0))


def save_untrained(run: Run) -> Run:
    """Give a run of hand-written counts the network that a model card needs."""
    model = small_model((0, 1))
    save_model(model, run.model_folder)
    spec = model.spec
    own = replace(run.card, in_channels=3, mean=spec.mean, std=spec.std, encoder=spec.encoder, dtype="uint8")
    return Run(run.folder, own)


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> MetricKind:
    """One more metric, of the whole matrix, shown everywhere."""
    added = MetricKind("told_apart", "told apart", whole_matrix, confusion_of_first_two, column=True, in_history=True)
    monkeypatch.setitem(METRICS, added.name, added)
    return added


def test_an_entry_is_all_that_a_metric_needs(entry: MetricKind, tmp_path: Path) -> None:
    """Record, CSV, Markdown, LaTeX, page, model card and the table of all metrics show it by its words."""
    runs = [
        build_run(tmp_path, f"{arch}-s0", noisy_counts(6, error, seed=1), arch=arch)
        for arch, error in (("unet", 0.3), ("fpn", 0.1))
    ]
    comparison = compare_runs(runs)
    write_comparison(comparison, tmp_path)
    total = np.array(comparison.runs[0].counts)
    expected = 1 - total[0, 1] / total[0].sum()
    assert comparison.runs[0].scores["official"].overall("told_apart") == pytest.approx(expected)
    assert "official.told_apart" in [row.metric for row in comparison.metric_sensitivity]
    csv = (tmp_path / "comparison.csv").read_text(encoding="utf-8")
    assert f"run,unet-s0,,official.told_apart,,{expected}" in csv
    for suffix in ("md", "tex"):
        assert "told apart" in (tmp_path / f"comparison.{suffix}").read_text(encoding="utf-8")
    page = render_report(comparison, tmp_path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "told<br>apart" in page
    assert f"{expected:.3f}" in page
    write_model_card(save_untrained(runs[0]))
    card = (runs[0].folder / "model" / "README.md").read_text(encoding="utf-8")
    assert f"| told apart | {expected:.3f} |" in card


def test_an_entry_can_be_the_primary_metric(entry: MetricKind, tmp_path: Path) -> None:
    """``--metric`` finds it: values with intervals, verdicts by it, its range on the page."""
    runs = [
        build_run(tmp_path, f"{arch}-s0", noisy_counts(12, error, seed=1), arch=arch)
        for arch, error in (("unet", 0.4), ("fpn", 0.05))
    ]
    comparison = compare_runs(runs, metric="official.told_apart")
    assert comparison.pairs[0].verdict == "worse"
    low, high = comparison.runs[0].interval or (1, 0)
    assert low < comparison.runs[0].value < high
    assert comparison.findings[0].text.count("told apart") >= 1


def test_an_entry_is_kept_in_the_history(entry: MetricKind) -> None:
    """Validation asks the entries what it writes."""
    line = validation_scores(np.array([[3, 1], [1, 1]]), np.ones(2, bool))
    assert line == {"val_miou": pytest.approx(0.46666666), "val_pixel_accuracy": pytest.approx(4 / 6)} | {
        "val_told_apart": pytest.approx(0.75)
    }


def test_without_a_column_a_metric_is_only_where_all_figures_are(
    monkeypatch: pytest.MonkeyPatch, entry: MetricKind, tmp_path: Path
) -> None:
    """``comparison.json`` and CSV hold every metric; tables for people hold those with a column."""
    monkeypatch.setitem(METRICS, entry.name, replace(entry, column=False, in_history=False))
    comparison = compare_runs([build_run(tmp_path, "unet-s0", noisy_counts(6, 0.2, seed=1))])
    write_comparison(comparison, tmp_path)
    assert "told_apart" in (tmp_path / "comparison.csv").read_text(encoding="utf-8")
    assert "told" not in (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert "told_apart" not in [row.metric.partition(".")[2] for row in comparison.metric_sensitivity]
    assert "val_told_apart" not in validation_scores(np.eye(2, dtype=np.int64), np.ones(2, bool))


def test_every_entry_is_on_the_page_of_metrics() -> None:
    """The documentation defines each kind that the flag takes."""
    page = (Path(named.__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [kind for kind in METRICS if f"`{kind}`" not in page] == []


def test_values_lie_in_the_range_of_their_entry() -> None:
    """For every metric over all classes and of one, on counts of every quality."""
    for seed in range(20):
        counts = np.random.default_rng(seed).integers(0, 6, (4, 4))
        metrics = [one for view in ("official", "kept", "all") for one in overall_metrics(view)]
        metrics += [parse_metric(f"official.{kind}:Water", NAMES, COUNTED) for kind in class_kinds("official")]
        for metric in metrics:
            low, high = named.metric_range(metric.name)
            value = float(metric.score(metric.sums(counts, COUNTED)))
            assert np.isnan(value) or low <= value <= high, metric.name
