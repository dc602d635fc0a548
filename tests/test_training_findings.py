"""Who learns first, who is faster, what was trained, and when nothing may be said of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.runs import adopted_card, build_run, noisy_counts, scene_counts

from levelground.comparison.compare import compare_runs
from levelground.comparison.record import Comparison
from levelground.comparison.results import Convergence, Throughput
from levelground.comparison.training_findings import converges_first, fastest, find_training, still_learning

COUNTS = noisy_counts(8, 0.2, seed=1)
EARLY, LATE = (0.30, 0.50, 0.51, 0.50), (0.30, 0.40, 0.46, 0.50)


def compared(study: Path, **runs: dict[str, Any]) -> Comparison:
    """One run for each architecture, with its options."""
    return compare_runs(
        [
            build_run(
                study,
                f"{arch}-s0",
                scene_counts(COUNTS, forward_s=options.pop("forward_s", 1.0)),
                arch=arch,
                **options,
            )
            for arch, options in runs.items()
        ],
        allow_unlike=True,
    )


def test_who_reaches_its_best_first(tmp_path: Path) -> None:
    """95 % of .51 is reached at the second of four validations, of .50 only at the last."""
    comparison = compared(tmp_path, unet={"vals": LATE}, fpn={"vals": EARLY})
    assert comparison.runs[1].convergence == Convergence(
        metric="val_miou", share=0.95, best=0.51, points=4, best_is_last=False, step=50, epoch=1.0, time_s=6.0
    )
    assert converges_first(comparison)[0].text == (
        "fpn converges first. 95 % of a model's own best validation score is reached by fpn after 50 steps (epoch 1.0) "
        "and unet after 100 steps (epoch 2.0)."
    )


def test_the_clock_may_say_otherwise(tmp_path: Path) -> None:
    """Fewer steps are not less time; the sentence says so where it differs."""
    comparison = compared(tmp_path, unet={"vals": LATE}, fpn={"vals": EARLY})
    first = replace(comparison.runs[0], convergence=replace(comparison.runs[0].convergence, time_s=2.0))
    comparison = replace(comparison, runs=(first, *comparison.runs[1:]))
    assert converges_first(comparison)[0].text.endswith(" By the clock unet is first, after 2 s.")


def test_level_models_share_the_first_place(tmp_path: Path) -> None:
    """The same step is a tie, not an order of names."""
    comparison = compared(tmp_path, unet={"vals": EARLY}, fpn={"vals": EARLY})
    assert converges_first(comparison)[0].text == (
        "fpn and unet both reach 95 % of their own best validation score after 50 steps (epoch 1.0)."
    )


def test_two_validations_tell_nothing_about_convergence(tmp_path: Path) -> None:
    """Under three points nobody converges first; without a history neither."""
    comparison = compared(tmp_path, unet={"vals": (0.1, 0.5)}, fpn={"vals": (0.4, 0.5)}, pspnet={})
    assert converges_first(comparison) == []
    assert comparison.runs[2].convergence is None


def test_who_was_still_learning(tmp_path: Path) -> None:
    """A best score at the last validation means the budget ended too early."""
    comparison = compared(tmp_path, unet={"vals": LATE}, fpn={"vals": EARLY})
    assert still_learning(comparison)[0].text.startswith("unet was still improving when the budget ended")


def test_the_fastest_and_by_how_much(tmp_path: Path) -> None:
    """Throughput is measured on the scenes compared: 6 megapixels each, in 1 and in 3 seconds."""
    comparison = compared(tmp_path, unet={"forward_s": 3.0}, pspnet={})
    assert comparison.runs[0].throughput.predict_megapixels_per_s == pytest.approx(2.0)
    assert comparison.runs[0].throughput.interval == (pytest.approx(2.0), pytest.approx(2.0))
    texts = [finding.text for finding in fastest(comparison)]
    assert texts == [
        "pspnet predicts fastest: 6 megapixels a second, 3.0 times as many as unet (2).",
        "pspnet and unet train about equally fast (4 images a second).",
    ]


def test_unlike_machines_are_not_raced(tmp_path: Path) -> None:
    """Speeds from other hardware or precision do not compare; the warning names the runs."""
    comparison = compared(tmp_path, unet={}, pspnet={"card": {"precision": "bf16-mixed"}})
    found = fastest(comparison)
    assert [(finding.code, finding.severity) for finding in found] == [("unlike_machines", "warning")]
    assert "unet s0 and pspnet s0 ran on unlike hardware" in found[0].text


def test_the_pareto_front_holds_what_nothing_beats(tmp_path: Path) -> None:
    """Equal scores: only the faster run is on the front."""
    assert compared(tmp_path, unet={"forward_s": 3.0}, pspnet={}).pareto_front == ("pspnet-s0",)


def test_the_origins_frozen_encoder_is_named(tmp_path: Path) -> None:
    """PSPNet's whole used encoder was frozen, U-Net's was not: it stands beside the result."""
    frozen = {"parameters": {"total": 1000, "used": 900, "trainable": 90}}
    comparison = compared(tmp_path, unet={}, pspnet={"card": frozen})
    text = next(finding.text for finding in find_training(comparison) if finding.code == "unlike_trainable")
    assert text == (
        "Unlike parts of the models were trained: of the parameters that it uses, pspnet 10 % and unet 100 %. "
        "What was frozen may explain part of the difference."
    )


def test_a_budget_in_minutes_buys_unlike_steps(tmp_path: Path) -> None:
    """Same minutes, other steps: said with both numbers."""
    cards = [{"budget": {"asked": "2 minutes", "steps": n}, "steps_done": n} for n in (400, 1200)]
    comparison = compared(tmp_path, unet={"card": cards[0]}, pspnet={"card": cards[1]})
    text = next(finding.text for finding in find_training(comparison) if finding.code == "unlike_steps")
    assert text == "In the same budget (2 minutes) pspnet took 1 200 steps and unet took 400 steps."


def test_adopted_runs_have_no_speed(tmp_path: Path) -> None:
    """A run without card figures and history is left out, not guessed."""
    comparison = compared(tmp_path, unet={}, theirs={"card": adopted_card(), "seed": None, "forward_s": 0.0})
    assert comparison.runs[1].throughput == Throughput(None, None, None)
    assert find_training(comparison) == []
