"""Verdicts in plain sentences: the leader, what is behind it, and what the words speak of."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.runs import build_run, noisy_counts

from levelground.comparison.compare import compare_runs
from levelground.comparison.conditions import WithoutGroup
from levelground.comparison.facts import Headline, NoRanking, OneGroupDecides, Opponent, Scope, pair_verdict
from levelground.comparison.findings import find, headline, one_group_decides
from levelground.comparison.record import Comparison
from levelground.comparison.results import RunPairResult
from levelground.comparison.sentences import write, write_pair


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


def names(opponents: Sequence[Opponent]) -> list[str]:
    """What opponents are called."""
    return [item.label for item in opponents]


def lead(comparison: Comparison) -> Headline:
    """The headline of a comparison that has a leader."""
    found = headline(comparison)
    assert isinstance(found, Headline)
    return found


def test_one_of_twelve_architectures_wins_with_36_runs(tmp_path: Path) -> None:
    """Better by .13 mIoU on 142 groups, 3 seeds each: the headline says that it wins; adjusted p are below .001."""
    others = ("unet", "unetplusplus", "pspnet", "deeplabv3", "deeplabv3plus", "linknet", "manet", "pan", "upernet")
    archs = ("fpn", *others, "segformer", "dpt")
    luck = np.random.default_rng(0).normal(0, 0.01, (len(archs), 3))
    runs = [
        build_run(tmp_path, f"{arch}-s{s}", noisy_counts(142, error, seed=3 * a + s), arch=arch, seed=s)
        for a, arch in enumerate(archs)
        for s, error in enumerate((0.3 - 0.1 * (arch == "fpn") + luck[a]).tolist())
    ]
    found = lead(compare_runs(runs))
    assert write(found).startswith("fpn wins with ")
    assert "This result applies to architectures, each trained with 3 seeds, on 142 groups" in write(found)
    assert len(found.better) == 11
    assert min(item.delta or 0 for item in found.better) == pytest.approx(0.13, abs=0.02)
    assert max(1 if item.p_holm is None else item.p_holm for item in found.better) < 0.001


def test_a_pair_is_said_by_labels_and_seen_from_the_winner(comparison: Comparison) -> None:
    """The verdict keeps the pair's figures; the sentence of a worse one reads from the other side."""
    pair = next(pair for pair in comparison.pairs if pair.verdict in ("better", "worse"))
    verdict = pair_verdict(pair, comparison, comparison.labels)
    assert (verdict.a, verdict.b) == (comparison.labels[pair.a], comparison.labels[pair.b])
    assert (verdict.delta, verdict.interval, verdict.p_holm) == (pair.delta, pair.interval, pair.p_holm)
    assert pair_verdict(pair.flipped(), comparison, {}).delta == -pair.delta
    assert write_pair(pair_verdict(pair.flipped(), comparison, comparison.labels)) == write_pair(verdict) == pair.text


def test_a_verdict_that_one_group_decides_is_said(comparison: Comparison) -> None:
    """The group, and what is left of each verdict on the leader without it; pairs of others are not spoken of."""
    best, second, last = (entry.name for entry in comparison.ranking)
    assert one_group_decides(comparison) == []
    without = WithoutGroup("g7", best, last, 0.002, (-0.01, 0.014), "undecided")
    (fact,) = one_group_decides(replace(comparison, carried=(without,)))
    pair = comparison.oriented_pair(best, last)
    assert isinstance(fact, OneGroupDecides)
    assert (fact.group, names(fact.others), fact.without) == (
        "g7",
        [comparison.labels[last]],
        ((0.002, (-0.01, 0.014), "undecided"),),
    )
    assert fact.others[0].delta == pair.delta and fact.was == (pair.verdict,)
    assert one_group_decides(replace(comparison, carried=(replace(without, a=second),))) == []


def test_the_headline_names_who_is_not_beaten_and_who_is(comparison: Comparison) -> None:
    """A leader that is not shown to beat the second still beats the third."""
    top, second, last = comparison.ranking
    found = lead(comparison)
    assert last.label == "pspnet"
    assert (found.label, found.value, found.measure.name) == (top.label, top.value, "official.miou")
    assert (names(found.undecided), names(found.equal), names(found.better)) == ([second.label], [], ["pspnet"])
    pair = comparison.oriented_pair(top.name, second.name)
    assert found.undecided[0].delta == pair.delta
    assert found.undecided[0].p_holm == pair.p_holm
    assert found.scope == Scope("test", 40, None)


def test_the_headline_of_a_winner_gives_each_gap(comparison: Comparison) -> None:
    """Who beats all others wins; the gap to each has its interval."""
    comparison = with_verdicts(comparison, lambda pair: {"verdict": "better" if pair.delta > 0 else "worse"})
    found = lead(comparison)
    assert found.undecided == found.equal == ()
    assert [(item.name, item.value) for item in found.better] == [(x.name, x.value) for x in comparison.ranking[1:]]
    assert all(item.delta > 0 and item.interval is not None for item in found.better)
    assert found.figures["better"] == [entry.name for entry in comparison.ranking[1:]]


def test_ties_and_open_pairs_can_be_in_one_headline(comparison: Comparison) -> None:
    """The leader may equal one, be undecided with another."""
    first, second, _ = (entry.name for entry in comparison.ranking)
    comparison = with_verdicts(
        comparison, lambda pair: {"verdict": "equal" if {pair.a, pair.b} == {first, second} else "undecided"}
    )
    found = lead(comparison)
    assert (names(found.undecided), len(found.equal)) == (["pspnet"], 1)
    assert [fact.code for fact in find(comparison)][:2] == ["headline", "equal_within_delta"]
    assert find(comparison)[1].figures["pairs"][0] in ((first, second), (second, first))


def test_a_tie_for_the_lead_says_within_what(comparison: Comparison) -> None:
    """Equal is a result of its own."""
    first, second, _ = (entry.name for entry in comparison.ranking)
    tied = {"verdict": "equal", "interval": (0.001, 0.009), "excludes_zero": True}
    found = lead(with_verdicts(comparison, lambda pair: tied if {pair.a, pair.b} == {first, second} else {}))
    assert (len(found.equal), found.equal[0].excludes_zero, found.margin) == (1, True, 0.01)
    assert names(found.better) == ["pspnet"]


def test_scenes_without_true_pixels_rank_nobody(comparison: Comparison) -> None:
    """Where the metric does not exist, the headline says so and invents nothing."""
    comparison = replace(comparison, runs=tuple(replace(run, value=None) for run in comparison.runs))
    found = headline(comparison)
    assert isinstance(found, NoRanking)
    assert found.figures == {"metric": "official.miou", "best": None, "value": None}


def test_findings_of_the_record_are_the_facts_in_sentences(comparison: Comparison) -> None:
    """The record keeps of each fact its code, severity, sentences and figures; one is the headline."""
    facts = find(comparison)
    assert [(item.code, item.severity) for item in comparison.findings] == [(x.code, x.severity) for x in facts]
    assert [item.text for item in comparison.findings] == [write(fact) for fact in facts]
    assert [item.severity for item in comparison.findings].count("headline") == 1
