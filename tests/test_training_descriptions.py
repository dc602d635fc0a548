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
    StillLearning,
    UnlikeSteps,
    UnlikeTrainable,
    converges_first,
    describe,
    still_learning,
    unlike_steps,
    unlike_trainable,
)
from levelground.comparison.findings import headline
from levelground.comparison.record import Comparison
from levelground.comparison.results import Convergence, Throughput
from levelground.comparison.sentences import write
from levelground.comparison.speeds import Faster, FasterTraining, UnlikeMachines, UnlikeTrainingMachines, fastest
from levelground.runs import Run, SpeedRecord, write_card

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
    both = ("unet", "pspnet")
    assert fastest(comparison) == [UnlikeMachines(both), UnlikeTrainingMachines(both)]


def evaluated(folder: Path, **own: Any) -> Run:
    """A run of its own study folder with such an evaluation."""
    run = build_run(folder, f"{folder.name}-s0", scene_counts(COUNTS, forward_s=2.0), arch=folder.name)
    entry = replace(run.card.evaluations["test"], **own)
    return write_card(run.folder, replace(run.card, evaluations={"test": entry}))


HERE = {"hardware": "two cores", "device": "cpu", "precision": "fp32", "threads": 2}


@pytest.mark.parametrize(
    "own",
    [
        {"engine": "openvino"},
        {"device": "cuda"},
        {"precision": "bf16"},
        {"hardware": "four cores"},
        {"threads": 4},
        HERE | {"hardware": "four cores", "threads": 4},
    ],
)
def test_speeds_of_prediction_are_those_of_evaluations(tmp_path: Path, own: dict[str, Any]) -> None:
    """Runs that were trained alike may be evaluated in another engine or elsewhere: no race and no Pareto front."""
    runs = [evaluated(tmp_path / "unet"), evaluated(tmp_path / "pspnet", **own)]
    comparison = compare_runs(runs)
    predicting, training = fastest(comparison)
    assert predicting == UnlikeMachines(("unet", "pspnet"))
    assert "Speeds of prediction are not compared, because unet and pspnet were evaluated with" in write(predicting)
    assert isinstance(training, FasterTraining)
    assert comparison.pareto_front == ()


def test_evaluations_on_one_machine_compare_wherever_runs_were_trained(tmp_path: Path) -> None:
    """An older evaluation, which tells no machine, is taken for one on the machine of the training."""
    runs = [
        evaluated(tmp_path / "unet", **HERE),
        evaluated(tmp_path / "pspnet", **HERE),
        evaluated(tmp_path / "fpn", engine="torch"),
    ]
    card = replace(runs[1].card, hardware="NVIDIA H100", device="cuda", threads=16)
    runs[1] = write_card(runs[1].folder, card)
    comparison = compare_runs(runs)
    predicting, training = fastest(comparison)
    assert isinstance(predicting, Faster)
    assert training == UnlikeTrainingMachines(("unet", "pspnet"))
    assert set(comparison.pareto_front) == {run.name for run in runs}


@pytest.mark.parametrize(("hardware", "alike"), [("two cores", True), ("four cores", False), (None, True)])
def test_speeds_of_adopted_runs_are_asked_too(tmp_path: Path, hardware: str | None, alike: bool) -> None:
    """Weights of another tool are evaluated here, or elsewhere; an older evaluation does not tell where."""
    theirs = evaluated(tmp_path / "theirs", device="cpu", precision="fp32", hardware=hardware)
    card = replace(theirs.card, status="adopted", hardware=None, device=None, precision=None, threads=None)
    theirs = write_card(theirs.folder, replace(card, speed=SpeedRecord()))
    comparison = compare_runs([evaluated(tmp_path / "unet", **HERE), theirs], allow_unlike=True)
    (found,) = fastest(comparison)
    assert isinstance(found, Faster) == alike
    assert bool(comparison.pareto_front) == alike


def test_training_on_several_devices_is_no_race_with_one(tmp_path: Path) -> None:
    """Four processes take a batch in parts; what older cards do not tell is no difference."""
    comparison = compared(
        tmp_path, unet={"card": {"processes": 4}}, pspnet={"card": {"processes": 1}}, fpn={"card": {"processes": None}}
    )
    predicting, training = fastest(comparison)
    assert isinstance(predicting, Faster)
    assert training == UnlikeTrainingMachines(("unet", "pspnet"))


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
    learning = {ConvergesFirst, StillLearning, Faster, FasterTraining, UnlikeSteps, UnlikeTrainable}
    learning |= {UnlikeMachines, UnlikeTrainingMachines}
    assert not learning & {type(fact) for fact in describe(comparison)}
