"""What is confused, never predicted, absent, and where another metric ranks otherwise."""

from pathlib import Path
from typing import Any

import numpy as np
from builders.runs import build_run, scene_counts, spread

from levelground.comparison.compare import compare_runs
from levelground.comparison.descriptions import (
    AbsentClasses,
    ConfusedMost,
    Confusion,
    NeverPredicted,
    NeverPredictedUncounted,
    RankFlips,
    RankFlipsOfMetrics,
    SameRanking,
    absent_classes,
    confused_most,
    never_predicted,
    rank_flips,
)
from levelground.comparison.record import Comparison


def compared(study: Path, **models: Any) -> Comparison:
    """Two scenes a model, from the counts of one scene."""
    return compare_runs(
        [build_run(study, f"{arch}-s0", np.stack([counts, counts]), arch=arch) for arch, counts in models.items()]
    )


def test_the_largest_confusions_are_named_by_row(tmp_path: Path) -> None:
    """Shares are of the true class: 31 of 100 pixels of rangeland; under a tenth is not worth a sentence."""
    comparison = compared(tmp_path, pspnet=spread([100, 100, 10], [0.09, 0.31, 1], [1, 0, 0]))
    found = confused_most(comparison)
    assert found == [ConfusedMost("pspnet", (Confusion(0.31, 1, 0, ("Rangeland", "Agriculture land")),))]
    assert found[0].figures["cells"] == [{"share": 0.31, "true": 1, "pred": 0}]


def test_two_confusions_are_listed_the_larger_first(tmp_path: Path) -> None:
    """Order is by share, not by class."""
    comparison = compared(tmp_path, unet=spread([100, 100, 10], [0.2, 0.5, 1], [1, 0, 0]))
    cells = [(cell.share, cell.true, cell.pred) for cell in confused_most(comparison)[0].cells]
    assert cells == [(0.5, 1, 0), (0.2, 0, 1)]


def test_a_class_never_predicted_is_named(tmp_path: Path) -> None:
    """One model never predicts rangeland; no model predicts unknown, which is no fault of theirs."""
    comparison = compared(
        tmp_path,
        unet=spread([100, 90, 10], [0.1, 0.1, 1], [1, 0, 0]),
        fpn=spread([100, 90, 10], [0.0, 1.0, 1], [1, 0, 0]),
    )
    assert never_predicted(comparison) == [
        NeverPredicted(1, "Rangeland", 0.45, ("fpn",), all_models=False),
        NeverPredictedUncounted(2, "Unknown", 0.05, ("unet", "fpn"), all_models=True),
    ]
    assert [fact.severity for fact in never_predicted(comparison)] == ["warning", "finding"]


def test_two_of_three_models_are_not_all(tmp_path: Path) -> None:
    """The models are named where one predicts the class."""
    lost, kept = spread([100, 90, 0], [0, 1, 0], [1, 0, 0]), spread([100, 90, 0], [0, 0, 0], [1, 0, 0])
    comparison = compared(tmp_path, unet=lost, fpn=lost, pspnet=kept)
    assert [(fact.models, fact.all_models) for fact in never_predicted(comparison)] == [(("unet", "fpn"), False)]


def test_an_absent_class_is_named_and_has_no_iou(tmp_path: Path) -> None:
    """Predicted or not, a class without true pixels enters no mean."""
    comparison = compared(tmp_path, unet=spread([100, 0, 0], [0.2, 0, 0], [1, 0, 0]))
    assert comparison.runs[0].scores["official"].iou == (0.8, None, None)
    assert comparison.runs[0].scores["official"].miou == 0.8
    assert absent_classes(comparison) == [AbsentClasses({1: "Rangeland"}, "test")]


def test_scorings_that_agree_are_said_to_agree(tmp_path: Path) -> None:
    """The same order three times is a finding of its own."""
    comparison = compared(
        tmp_path,
        unet=spread([100, 100, 10], [0.1, 0.1, 1], [1, 0, 0]),
        fpn=spread([100, 100, 10], [0.3, 0.3, 1], [1, 0, 0]),
    )
    assert rank_flips(comparison) == [SameRanking(("official", "kept", "all"))]


def test_a_scoring_that_turns_the_ranking_is_named(tmp_path: Path) -> None:
    """A model that predicts the uncounted class well wins under 'all' and loses under 'official'."""
    unet = np.array([[95, 5, 0], [5, 95, 0], [30, 0, 0]], np.int64)
    fpn = np.array([[90, 10, 0], [10, 90, 0], [0, 0, 30]], np.int64)
    comparison = compared(tmp_path, unet=unet, fpn=fpn)
    of_scorings, of_metrics = rank_flips(comparison)
    assert isinstance(of_scorings, RankFlips)
    assert of_scorings.severity == "warning"
    assert of_scorings.flips == {"kept.miou": [("unet-s0", "fpn-s0")], "all.miou": [("unet-s0", "fpn-s0")]}
    assert isinstance(of_metrics, RankFlipsOfMetrics)
    assert of_metrics.measure.name == "official.miou"


def test_a_loss_that_disagrees_is_named(tmp_path: Path) -> None:
    """Less loss and less mIoU at once, as in the origin's table."""
    good, bad = spread([100, 100, 0], [0.1, 0.1, 0], [1, 0, 0]), spread([100, 100, 0], [0.3, 0.3, 0], [1, 0, 0])
    heavy = scene_counts(np.stack([good, good]))
    object.__setattr__(heavy, "loss_sum", heavy.loss_sum * 3)
    runs = [
        build_run(tmp_path, "fpn-s0", heavy, arch="fpn"),
        build_run(tmp_path, "unet-s0", np.stack([bad, bad])),
    ]
    comparison = compare_runs(runs)
    row = next(entry for entry in comparison.metric_sensitivity if entry.metric == "loss")
    assert (row.ranks, row.flips) == ({"fpn-s0": 2, "unet-s0": 1}, (("fpn-s0", "unet-s0"),))
    assert [fact.flips["loss"] for fact in rank_flips(comparison) if "loss" in fact.figures.get("flips", {})] == [
        [("fpn-s0", "unet-s0")]
    ]


def test_flips_are_of_means_over_seeds(tmp_path: Path) -> None:
    """With seeds the architectures are ranked: single runs that change places are no news."""
    unet = np.array([[95, 5, 0], [5, 95, 0], [30, 0, 0]], np.int64)
    fpn = np.array([[90, 10, 0], [10, 90, 0], [0, 0, 30]], np.int64)
    worse = np.array([[80, 20, 0], [20, 80, 0], [30, 0, 0]], np.int64)
    better = np.array([[99, 1, 0], [1, 99, 0], [0, 0, 30]], np.int64)

    def flips(name: str, *seeds: tuple[str, int, np.ndarray]) -> list[object]:
        runs = [build_run(tmp_path / name, f"{a}-s{n}", np.stack([c, c]), arch=a, seed=n) for a, n, c in seeds]
        return [fact.figures.get("flips") for fact in rank_flips(compare_runs(runs)) if isinstance(fact, RankFlips)]

    of_both = [("unet", 0, unet), ("unet", 1, unet), ("fpn", 0, fpn), ("fpn", 1, fpn)]
    assert flips("means", *of_both) == [{"kept.miou": [("unet", "fpn")], "all.miou": [("unet", "fpn")]}]
    of_one = [("unet", 0, unet), ("unet", 1, worse), ("fpn", 0, fpn), ("fpn", 1, better)]
    assert flips("runs", *of_one) == []


def test_seeds_that_change_places_are_no_flip(tmp_path: Path) -> None:
    """Flips are between architectures."""
    first = np.array([[95, 5, 0], [5, 95, 0], [30, 0, 0]], np.int64)
    second = np.array([[90, 10, 0], [10, 90, 0], [0, 0, 30]], np.int64)
    runs = [build_run(tmp_path, f"unet-s{n}", np.stack([c, c]), seed=n) for n, c in enumerate((first, second))]
    assert rank_flips(compare_runs(runs)) == []
