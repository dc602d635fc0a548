"""Verdicts in plain sentences: the leader, what is behind it, and what the words speak of."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.runs import build_run, noisy_counts

from levelground.comparison.compare import compare_runs
from levelground.comparison.findings import find, headline, pair_text
from levelground.comparison.record import Comparison
from levelground.comparison.results import ClassDifference, RunPairResult

LABELS = {"a": "unet s0", "b": "fpn s0"}


def pair(**changes: Any) -> RunPairResult:
    """A pair as a comparison holds it."""
    interval = changes.get("interval", (0.012, 0.056))
    values: dict[str, Any] = {
        "a": "a", "b": "b", "metric": "official.miou", "delta": 0.034, "se": 0.01, "df": 39.0, "interval": interval,
        "p": 0.001, "p_holm": 0.003, "p_min": 0.0002, "verdict": "better",
        "excludes_zero": interval is not None and (interval[0] > 0 or interval[1] < 0),
        "per_class": (ClassDifference(0, 0.1, (0.0, 0.2)),), "power": None, "negative_control": False,
    }  # fmt: skip
    return RunPairResult(**(values | changes))


def with_verdicts(comparison: Comparison, verdict: Callable[[RunPairResult], dict[str, Any]]) -> Comparison:
    """The same comparison with other verdicts on its pairs."""
    return replace(comparison, pairs=tuple(replace(pair, **verdict(pair)) for pair in comparison.pairs))


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Three runs: one far behind, two near each other."""
    return compare_runs(
        [
            build_run(tmp_path, f"{arch}-s0", noisy_counts(40, error, seed=seed), arch=arch)
            for seed, (arch, error) in enumerate({"pspnet": 0.5, "unet": 0.2, "fpn": 0.21}.items())
        ]
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "unet s0 is better than fpn s0: +0.034 mIoU (95 % interval +0.012 to +0.056, p = 0.003)."),
        (
            {"verdict": "worse", "delta": -0.034, "interval": (-0.056, -0.012)},
            "fpn s0 is better than unet s0: +0.034 mIoU (95 % interval +0.012 to +0.056, p = 0.003).",
        ),
        (
            {"verdict": "equal", "delta": 0.004, "interval": (0.001, 0.007)},
            "unet s0 and fpn s0 are equal within 0.010, measurably different, by less than δ: +0.004 mIoU "
            "(95 % interval +0.001 to +0.007, p = 0.003).",
        ),
        (
            {"verdict": "equal", "delta": 0.001, "interval": (-0.005, 0.007)},
            "unet s0 and fpn s0 are equal within 0.010: +0.001 mIoU (95 % interval −0.005 to +0.007, p = 0.003).",
        ),
        (
            {"verdict": "undecided", "interval": (-0.01, 0.078), "p_holm": 0.13},
            "Undecided between unet s0 and fpn s0: +0.034 mIoU (95 % interval −0.010 to +0.078, p = 0.130).",
        ),
        (
            {"verdict": "undecided", "interval": None},
            "Undecided between unet s0 and fpn s0: +0.034 mIoU, without an interval.",
        ),
        (
            {"verdict": "undecided", "interval": None, "delta": None},
            "unet s0 and fpn s0 cannot be compared: mIoU does not exist on these scenes.",
        ),
    ],
)
def test_each_verdict_has_its_sentence(changes: dict[str, Any], text: str) -> None:
    """The winner stands first; the figures follow."""
    assert pair_text(pair(**changes), LABELS, "mIoU", 0.01) == text


def test_the_headline_names_who_is_not_beaten_and_who_is(comparison: Comparison) -> None:
    """A leader that is not shown to beat the second still beats the third."""
    top, second, last = (entry.label for entry in comparison.ranking)
    assert last == "pspnet s0"
    text = headline(comparison).text
    assert text.startswith(f"No winner: {top} has the highest official mIoU (0.")
    assert f"is not shown to beat {second} (0." in text
    assert "It is better than pspnet s0 (0." in text


def test_the_headline_of_a_winner_gives_each_gap(comparison: Comparison) -> None:
    """Who beats all others wins; the gap to each stands with its interval."""
    comparison = with_verdicts(comparison, lambda pair: {"verdict": "better" if pair.delta > 0 else "worse"})
    top, second, last = (entry.label for entry in comparison.ranking)
    text = headline(comparison).text
    assert text.startswith(f"{top} wins with 0.")
    assert f"It beats {second} (0." in text
    assert f" and {last} (0." in text
    assert headline(comparison).figures["better"] == [entry.name for entry in comparison.ranking[1:]]


def test_ties_and_open_pairs_can_stand_together(comparison: Comparison) -> None:
    """The leader may equal one, be undecided with another."""
    names = [entry.name for entry in comparison.ranking]
    comparison = with_verdicts(
        comparison, lambda pair: {"verdict": "equal" if {pair.a, pair.b} == {names[0], names[1]} else "undecided"}
    )
    text = headline(comparison).text
    assert "is not shown to beat pspnet s0" in text
    assert "It equals " in text
    codes = [finding.code for finding in find(comparison)]
    assert codes[:2] == ["headline", "equal_within_delta"]


def test_a_tie_for_the_lead_says_within_what(comparison: Comparison) -> None:
    """Equal is a result of its own."""
    names = [entry.name for entry in comparison.ranking]
    tied = {"verdict": "equal", "interval": (0.001, 0.009), "excludes_zero": True}
    comparison = with_verdicts(comparison, lambda pair: tied if {pair.a, pair.b} == {names[0], names[1]} else {})
    text = headline(comparison).text
    assert text.startswith("A tie: ")
    assert "are equal in official mIoU within 0.010, measurably different, by less than δ." in text
    assert "It is better than pspnet s0 (0." in text


def test_scenes_without_true_pixels_rank_nobody(comparison: Comparison) -> None:
    """Where the metric does not exist, the headline says so and invents nothing."""
    comparison = replace(comparison, runs=tuple(replace(run, value=None) for run in comparison.runs))
    assert headline(comparison).text.startswith("No ranking: official mIoU does not exist on these scenes")


def test_every_finding_is_a_finished_sentence_with_figures(comparison: Comparison) -> None:
    """Sentences end, hold no leftovers of code, and each has a code and a severity of the three."""
    found = find(comparison)
    assert [finding.severity for finding in found].count("headline") == 1
    for finding in found:
        assert finding.text.endswith(".")
        assert not any(mark in finding.text for mark in ("None", "nan", "{", "}", "  ", "['", "..", "np."))
        assert finding.severity in ("headline", "finding", "warning")
