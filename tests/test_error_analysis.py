"""What is confused, never predicted, absent, and where another metric ranks otherwise."""

from pathlib import Path
from typing import Any

import numpy as np
from builders.runs import build_run, scene_counts, spread

from levelground.comparison.compare import compare_runs
from levelground.comparison.error_analysis import (
    absent_classes,
    confused_most,
    find_errors,
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
    assert [finding.text for finding in found] == ["pspnet takes 31 % of true rangeland for agriculture land."]
    assert found[0].figures["cells"] == [{"share": 0.31, "true": 1, "pred": 0}]


def test_two_confusions_are_listed_the_larger_first(tmp_path: Path) -> None:
    """Order is by share, not by class."""
    comparison = compared(tmp_path, unet=spread([100, 100, 10], [0.2, 0.5, 1], [1, 0, 0]))
    assert confused_most(comparison)[0].text == (
        "unet takes 50 % of true rangeland for agriculture land and 20 % of true agriculture land for rangeland."
    )


def test_a_class_never_predicted_is_named(tmp_path: Path) -> None:
    """One model never predicts rangeland; no model predicts unknown, which is no fault of theirs."""
    comparison = compared(
        tmp_path,
        unet=spread([100, 90, 10], [0.1, 0.1, 1], [1, 0, 0]),
        fpn=spread([100, 90, 10], [0.0, 1.0, 1], [1, 0, 0]),
    )
    found = never_predicted(comparison)
    assert [(finding.severity, finding.text) for finding in found] == [
        ("warning", "fpn never predicts rangeland, which is 45 % of the true pixels."),
        (
            "finding",
            "No model ever predicts unknown, which is 5 % of the true pixels. It is no counted class: only the scoring "
            "“all” scores it, as 0.",
        ),
    ]


def test_two_of_three_models_never_predict_in_the_plural(tmp_path: Path) -> None:
    """Grammar follows the number of models."""
    lost, kept = spread([100, 90, 0], [0, 1, 0], [1, 0, 0]), spread([100, 90, 0], [0, 0, 0], [1, 0, 0])
    comparison = compared(tmp_path, unet=lost, fpn=lost, pspnet=kept)
    assert [finding.text for finding in never_predicted(comparison)] == [
        "unet and fpn never predict rangeland, which is 47 % of the true pixels."
    ]


def test_an_absent_class_is_named_and_has_no_iou(tmp_path: Path) -> None:
    """Predicted or not, a class without true pixels enters no mean."""
    comparison = compared(tmp_path, unet=spread([100, 0, 0], [0.2, 0, 0], [1, 0, 0]))
    assert comparison.runs[0].scores["official"].iou == (0.8, None, None)
    assert comparison.runs[0].scores["official"].miou == 0.8
    assert [finding.text for finding in absent_classes(comparison)] == [
        "The test scenes have no true pixels of rangeland. This class has no IoU and enters no mean; pixels predicted "
        "as it count as misses of the true classes."
    ]


def test_scorings_that_agree_are_said_to_agree(tmp_path: Path) -> None:
    """The same order three times is a finding of its own."""
    comparison = compared(
        tmp_path,
        unet=spread([100, 100, 10], [0.1, 0.1, 1], [1, 0, 0]),
        fpn=spread([100, 100, 10], [0.3, 0.3, 1], [1, 0, 0]),
    )
    assert [finding.text for finding in rank_flips(comparison)] == [
        "The scorings (official, kept and all) rank the runs alike."
    ]


def test_a_scoring_that_turns_the_ranking_is_named(tmp_path: Path) -> None:
    """A model that predicts the uncounted class well wins under 'all' and loses under 'official'."""
    unet = np.array([[95, 5, 0], [5, 95, 0], [30, 0, 0]], np.int64)
    fpn = np.array([[90, 10, 0], [10, 90, 0], [0, 0, 30]], np.int64)
    comparison = compared(tmp_path, unet=unet, fpn=fpn)
    found = {finding.code: finding for finding in rank_flips(comparison)}
    assert found["rank_flips"].severity == "warning"
    assert found["rank_flips"].text == (
        "The scoring changes the ranking: under kept mIoU fpn s0 passes unet s0 and "
        "under all mIoU fpn s0 passes unet s0."
    )
    assert "Only official mIoU is tested." in found["rank_flips_metrics"].text


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
    assert any("under loss unet s0 passes fpn s0" in finding.text for finding in find_errors(comparison))


def test_seeds_that_change_places_are_no_flip(tmp_path: Path) -> None:
    """Flips are between architectures."""
    first = np.array([[95, 5, 0], [5, 95, 0], [30, 0, 0]], np.int64)
    second = np.array([[90, 10, 0], [10, 90, 0], [0, 0, 30]], np.int64)
    runs = [build_run(tmp_path, f"unet-s{n}", np.stack([c, c]), seed=n) for n, c in enumerate((first, second))]
    assert rank_flips(compare_runs(runs)) == []
