"""Who learns first, who is faster, what was trained, and when nothing may be said of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.runs import adopted_card, build_run, noisy_counts, scene_counts

from levelground.commands.demo import STEPS
from levelground.comparison.compare import compare_runs
from levelground.comparison.descriptions import (
    ConvergesFirst,
    Faster,
    FasterTraining,
    StillLearning,
    UnlikeMachines,
    UnlikeSteps,
    UnlikeTrainable,
    converges_first,
    describe,
    fastest,
    still_learning,
    unlike_steps,
    unlike_trainable,
)
from levelground.comparison.findings import headline
from levelground.comparison.record import Comparison
from levelground.comparison.results import Convergence, Throughput
from levelground.comparison.sentences import write

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
        metric="val_miou",
        share=0.95,
        best=0.51,
        points=4,
        best_is_last=False,
        step=50,
        epoch=1.0,
        time_s=6.0,
        last_gain=comparison.runs[1].convergence.last_gain,
    )
    assert converges_first(replace(comparison, delta=0.1)) == [
        ConvergesFirst({"unet": 100, "fpn": 50}, {"unet": 2.0, "fpn": 1.0}, {"unet": 12.0, "fpn": 6.0})
    ]


def test_two_validations_tell_nothing_about_convergence(tmp_path: Path) -> None:
    """Under three points nobody converges first; without a history neither."""
    comparison = compared(tmp_path, unet={"vals": (0.1, 0.5)}, fpn={"vals": (0.4, 0.5)}, pspnet={})
    assert converges_first(comparison) == []
    assert comparison.runs[2].convergence is None


def test_who_was_still_learning(tmp_path: Path) -> None:
    """A score that rose by δ or more in the last fifth of the steps means that the budget ended too early."""
    comparison = compared(tmp_path, unet={"vals": LATE}, fpn={"vals": EARLY})
    (found,) = still_learning(comparison)
    assert found == StillLearning({"unet": pytest.approx(0.8 * 0.04)}, 0.01)
    assert still_learning(replace(comparison, delta=0.04)) == []


def test_a_lead_while_scores_still_rise_is_no_win(tmp_path: Path) -> None:
    """The headline says after how many steps it leads; of fewer, as in the demo, it says that it is a rehearsal."""
    runs = [
        build_run(tmp_path, f"{arch}-s0", noisy_counts(20, error, seed=n), arch=arch, vals=LATE)
        for n, (arch, error) in enumerate({"unet": 0.1, "fpn": 0.5}.items())
    ]
    found = headline(compare_runs(runs))
    assert (found.still_rising, found.rehearsal, found.steps) == (True, False, (100, 100))
    assert write(found).startswith("unet leads after 100 steps with ")
    assert "were still rising by 0.010 or more" in write(found)
    brief = [build_run(tmp_path, f"{n}", noisy_counts(20, n / 10, seed=n), card={"steps_done": STEPS}) for n in (1, 5)]
    short = headline(compare_runs(brief))
    assert f"This is a rehearsal of {STEPS} steps a model" in write(short)


def test_nobody_converges_first_while_a_score_rises(tmp_path: Path) -> None:
    """A curve that still rises has no best score yet."""
    rising = compared(tmp_path, unet={"vals": LATE}, fpn={"vals": EARLY})
    assert converges_first(rising) == []
    assert len(converges_first(replace(rising, delta=0.1))) == 1


def test_the_fastest_and_by_how_much(tmp_path: Path) -> None:
    """Throughput is measured on the scenes compared: 6 megapixels each, in 1 and in 3 seconds."""
    comparison = compared(tmp_path, unet={"forward_s": 3.0}, pspnet={})
    assert comparison.runs[0].throughput.predict_megapixels_per_s == pytest.approx(2.0)
    assert comparison.runs[0].throughput.interval == (pytest.approx(2.0), pytest.approx(2.0))
    predicting, training = fastest(comparison)
    assert isinstance(predicting, Faster)
    assert predicting.speeds == {"unet": pytest.approx(2.0), "pspnet": pytest.approx(6.0)}
    assert predicting.figures == {"predict_megapixels_per_s": predicting.speeds}
    assert isinstance(training, FasterTraining)
    assert training.speeds["unet"] == training.speeds["pspnet"]


def test_unlike_machines_are_not_raced(tmp_path: Path) -> None:
    """Speeds from other hardware or precision do not compare; the warning names the runs."""
    comparison = compared(tmp_path, unet={}, pspnet={"card": {"precision": "bf16-mixed"}})
    assert fastest(comparison) == [UnlikeMachines(("unet", "pspnet"))]


def test_the_pareto_front_holds_what_nothing_beats(tmp_path: Path) -> None:
    """Equal scores: only the faster run is on the front."""
    assert compared(tmp_path, unet={"forward_s": 3.0}, pspnet={}).pareto_front == ("pspnet-s0",)


def test_the_origins_frozen_encoder_is_named(tmp_path: Path) -> None:
    """PSPNet's whole used encoder was frozen, U-Net's was not: it stands beside the result."""
    frozen = {"parameters": {"total": 1000, "used": 900, "trainable": 90}}
    comparison = compared(tmp_path, unet={}, pspnet={"card": frozen})
    assert unlike_trainable(comparison) == [UnlikeTrainable({"unet": 1.0, "pspnet": 0.1})]


def test_a_budget_in_minutes_buys_unlike_steps(tmp_path: Path) -> None:
    """Same minutes, other steps: said with both numbers."""
    cards = [{"budget": {"asked": "2 minutes", "steps": n}, "steps_done": n} for n in (400, 1200)]
    comparison = compared(tmp_path, unet={"card": cards[0]}, pspnet={"card": cards[1]})
    assert unlike_steps(comparison) == [UnlikeSteps("2 minutes", {"unet": 400, "pspnet": 1200})]


def test_adopted_runs_have_no_speed(tmp_path: Path) -> None:
    """A run without card figures and history is left out, not guessed."""
    comparison = compared(tmp_path, unet={}, theirs={"card": adopted_card(), "seed": None, "forward_s": 0.0})
    assert comparison.runs[1].throughput == Throughput(None, None, None)
    learning = {ConvergesFirst, StillLearning, Faster, FasterTraining, UnlikeSteps, UnlikeTrainable, UnlikeMachines}
    assert not learning & {type(fact) for fact in describe(comparison)}
