"""What limits an answer is found: groups, seeds, twins, protocol, leaks, test evaluations."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.runs import adopted_card, build_dataset, build_run, noisy_counts
from numpy.typing import NDArray
from scipy.special import ndtri

from levelground.comparison import caveats, places
from levelground.comparison.caveats import (
    cannot_show,
    evaluations_on_test,
    few_groups,
    find_caveats,
    identical_counts,
    rare_classes,
    twins,
    unknown_protocol,
    unlike_scenes,
)
from levelground.comparison.compare import compare_runs
from levelground.comparison.conditions import DatasetFinding, EvaluationLog, LoggedEvaluation, LoggedView
from levelground.comparison.facts import WhatWouldDecide
from levelground.comparison.findings import what_would_decide
from levelground.comparison.record import Comparison, read_comparison, write_record
from levelground.comparison.sentences import write
from levelground.errors import RecordError


def study(folder: Path, errors: dict[str, float], *, scenes: int = 10, seeds: int = 1) -> Comparison:
    """A comparison of architectures with an error rate each."""
    return compare_runs(
        [
            build_run(
                folder, f"{arch}-s{seed}", noisy_counts(scenes, error, seed=50 * number + seed), arch=arch, seed=seed
            )
            for number, (arch, error) in enumerate(errors.items())
            for seed in range(seeds)
        ]
    )


def test_too_few_groups_to_reach_five_per_cent(tmp_path: Path) -> None:
    """Four groups and one pair: 2/2^4 = .125, so nothing could have been shown, and the page says what it takes."""
    comparison = study(tmp_path, {"unet": 0.1, "fpn": 0.5}, scenes=4)
    assert cannot_show(comparison) == [caveats.CannotShow(0.125, groups=4, pairs=1, groups_for_p=6, all_groups=4)]
    assert [fact.detects for fact in what_would_decide(comparison)] == [False]


def test_a_class_in_too_few_groups_to_reach_five_per_cent(tmp_path: Path) -> None:
    """Rangeland in 5 of 40 groups: swapping the others changes nothing of its recall, so nothing could be shown."""
    counts = [noisy_counts(40, error, seed=number) for number, error in enumerate((0.05, 0.5))]
    for own in counts:
        own[5:, 1] = 0
    runs = [build_run(tmp_path, f"{n}-s0", own, arch=f"net{n}") for n, own in enumerate(counts)]
    comparison = compare_runs(runs, metric="official.recall:Rangeland")
    fact = caveats.CannotShow(2 / 2**5, groups=5, pairs=1, groups_for_p=6, all_groups=40)
    assert cannot_show(comparison) == [fact]
    assert "only 5 of all 40 groups hold what" in write(fact) and "At least 6 such groups" in write(fact)
    (pair,) = comparison.pairs
    assert (pair.deciding_groups, pair.p_min, pair.verdict) == (5, 2 / 2**5, "undecided")
    assert pair.power is not None and pair.power.groups_needed is not None and pair.power.groups_needed >= 48
    assert [fact.detects for fact in what_would_decide(comparison)] == [False]
    write_record(comparison, tmp_path / "comparison.json")
    assert read_comparison(tmp_path).pairs == comparison.pairs
    assert compare_runs(runs).pairs[0].deciding_groups is None


@pytest.mark.parametrize("seeds", [2, 3])
def test_four_groups_take_more_groups_and_no_seeds_to_be_called_equal(tmp_path: Path, seeds: int) -> None:
    """However alike architectures are: nothing is equal below six groups."""
    runs = [
        build_run(tmp_path, f"{arch}-s{seed}", noisy_counts(4, 0.2, seed=0, noise=0.0), arch=arch, seed=seed)
        for arch in ("unet", "fpn")
        for seed in range(seeds)
    ]
    comparison = compare_runs(runs)
    (pair,) = comparison.architecture_pairs
    assert (pair.interval, pair.verdict) == ((0.0, 0.0), "undecided")
    (fact,) = what_would_decide(comparison)
    assert (fact.power.groups_for_equal, fact.power.seeds_for_equal) == (6, None)
    assert "takes 6 groups with the same number of seeds." in write(fact)


def test_six_groups_can_show_one_pair(tmp_path: Path) -> None:
    """2/2^6 = .031: the warning is gone."""
    comparison = study(tmp_path, {"unet": 0.1, "fpn": 0.5}, scenes=6)
    assert "cannot_show" not in {finding.code for finding in comparison.findings}
    assert comparison.pairs[0].p_min == pytest.approx(2 / 64)
    assert cannot_show(comparison) == []


def test_architectures_name_both_ways_to_decide(tmp_path: Path) -> None:
    """With seeds, more groups and more seeds are both named, or that it takes both."""
    comparison = study(tmp_path, {"unet": 0.2, "fpn": 0.21}, seeds=2)
    power = comparison.power
    assert what_would_decide(comparison) == [WhatWouldDecide(10, power, detects=True, labels=("fpn", "unet"))]
    assert (power.groups, power.seeds) == (10, 2)
    pair = comparison.architecture_pairs[0]
    share = 1 - pair.v_groups / (pair.v_groups + pair.v_a / 2 + pair.v_b / 2)
    assert power.groups_share == pytest.approx(1 - share)


def test_a_decided_comparison_asks_for_nothing(tmp_path: Path) -> None:
    """Where every pair has its verdict, there is nothing to decide."""
    assert what_would_decide(study(tmp_path, {"unet": 0.05, "fpn": 0.6}, scenes=30)) == []


def test_few_groups_are_named_and_many_are_not(tmp_path: Path) -> None:
    """Under twenty groups the intervals are not vouched for."""
    comparison = study(tmp_path, {"unet": 0.2}, scenes=19)
    assert few_groups(comparison) == [caveats.FewGroups(groups=19, scenes=19, split="test")]
    assert few_groups(replace(comparison, n_groups=20)) == []


def test_one_group_is_a_finding_of_its_own(tmp_path: Path) -> None:
    """One scene: no interval."""
    assert few_groups(study(tmp_path, {"unet": 0.2}, scenes=1)) == [caveats.OneGroup(groups=1, scenes=1, split="test")]


@pytest.mark.parametrize(("held", "named"), [(4, True), (7, True), (8, False), (30, False)])
def test_a_class_in_a_handful_of_groups_is_named(tmp_path: Path, held: int, named: bool) -> None:
    """Fewer than eight of thirty groups hold the second class: intervals of it may be too narrow."""
    counts = noisy_counts(30, 0.2, seed=1)
    counts[held:, 1] = 0
    comparison = compare_runs([build_run(tmp_path, "unet-s0", counts)])
    assert comparison.truth.groups == (30, held, 30)
    assert rare_classes(comparison) == [caveats.RareClasses({"Rangeland": held}, 30)] * named


def test_a_class_in_no_group_is_not_rare(tmp_path: Path) -> None:
    """A counted class without true pixels is absent: that is another finding."""
    counts = noisy_counts(30, 0.2, seed=1)
    counts[:, 1] = 0
    comparison = compare_runs([build_run(tmp_path, "unet-s0", counts)])
    assert comparison.truth.groups == (30, 0, 30)
    codes = {finding.code for finding in comparison.findings}
    assert ("rare_classes" in codes, "absent_classes" in codes) == (False, True)


def with_twins(folder: Path, seeds: int, *, twin_error: float = 0.2) -> Comparison:
    """U-Net under two names."""
    return compare_runs(
        [
            build_run(
                folder,
                f"unet{'-twin' if twin else ''}-s{seed}",
                noisy_counts(30, error, seed=seed + 100 * twin, noise=0.05),
                seed=seed + 1000 * twin,
                card={"twin": bool(twin)},
            )
            for twin, error in ((0, 0.2), (1, twin_error))
            for seed in range(seeds)
        ]
    )


def test_twins_with_seeds_ask_the_architecture_question(tmp_path: Path) -> None:
    """One architecture under two names is not told apart from itself: the control holds."""
    comparison = with_twins(tmp_path, 3)
    assert [(entry.name, entry.twin_of) for entry in comparison.architectures] == [
        ("unet", None),
        ("unet twin", "unet"),
    ]
    pair = next(pair for pair in comparison.architecture_pairs if pair.negative_control)
    assert twins(comparison) == [
        caveats.ControlHolds("unet twin", "unet", pair.delta, pair.interval, pair.p, pair.verdict)
    ]


def test_twins_that_are_told_apart_are_a_warning(tmp_path: Path) -> None:
    """A failed control is said aloud."""
    comparison = with_twins(tmp_path, 3, twin_error=0.6)
    warning = next(finding for finding in comparison.findings if finding.code == "twins")
    assert warning.severity == "warning"
    assert [type(fact) for fact in twins(comparison)] == [caveats.ControlFailed]


def test_twins_with_one_seed_warn_of_mere_seeds(tmp_path: Path) -> None:
    """Among weights, mere seeds are told apart: how often and by how much is shown."""
    comparison = with_twins(tmp_path, 1, twin_error=0.4)
    largest = abs(next(pair.delta for pair in comparison.pairs if pair.negative_control))
    assert twins(comparison) == [caveats.TwinSeeds("unet twin", "unet", pairs=1, apart=1, largest=largest)]
    same = with_twins(tmp_path / "same", 1)
    undecided = tuple(replace(pair, verdict="undecided") for pair in same.pairs)
    assert [fact.apart for fact in twins(replace(same, pairs=undecided))] == [0]


def test_twins_take_no_part_in_the_comparison(tmp_path: Path) -> None:
    """The control makes no pair more to adjust for, wins nothing, and stands against its original only."""
    plain = [
        build_run(tmp_path, f"{arch}-s0", noisy_counts(30, error, seed=number), arch=arch)
        for number, (arch, error) in enumerate({"unet": 0.2, "fpn": 0.3}.items())
    ]
    twin = build_run(tmp_path, "unet-twin-s1000", noisy_counts(30, 0.1, seed=7), seed=1000, card={"twin": True})
    with_twin, without = compare_runs([*plain, twin]), compare_runs(plain)
    assert [(pair.a, pair.b, pair.negative_control) for pair in with_twin.pairs] == [
        ("unet-s0", "fpn-s0", False),
        ("unet-s0", "unet-twin-s1000", True),
    ]
    assert with_twin.pairs[0] == without.pairs[0]
    assert with_twin.findings[0] == without.findings[0]
    assert [entry.ranked_first for entry in with_twin.architectures][2] is None
    assert [entry.ranked_first for entry in with_twin.architectures][:2] == [
        entry.ranked_first for entry in without.architectures
    ]


def test_evaluations_on_the_test_scenes_are_counted(tmp_path: Path) -> None:
    """Each run is counted: one scored twice is a warning, also where another one was never scored."""
    runs = [build_run(tmp_path, f"{arch}-s0", noisy_counts(8, 0.2, seed=1), arch=arch) for arch in ("unet", "fpn")]
    assert evaluations_on_test(compare_runs(runs)) == []
    names = ("unet-s0", "unet-s0", "pan-s0")
    looks = [{"time": "2026-01-01T00:00:00Z", "run": name, "command": "evaluate"} for name in names]
    path = tmp_path / "test_looks.jsonl"
    path.write_text("".join(json.dumps(look) + "\n" for look in looks), encoding="utf-8")
    comparison = compare_runs(runs)
    times = {"unet-s0": 2, "fpn-s0": 0}
    assert comparison.test_evaluations == EvaluationLog(3, tuple(LoggedEvaluation(**look) for look in looks), times)
    by_label = {"unet": 2, "fpn": 0}
    assert evaluations_on_test(comparison) == [caveats.RepeatedEvaluationsOnTest(by_label, total=3, runs=2, views=0)]
    once = {"unet-s0": 1, "fpn-s0": 1}
    for log, kind in (
        (EvaluationLog(2, (), once), caveats.EvaluationsOnTest),
        (EvaluationLog(3, (), once), caveats.EvaluationsOnTest),  # of a run that is not compared
        (EvaluationLog(2, (), once, (LoggedView("kept.miou", 0.01),)), caveats.RepeatedEvaluationsOnTest),
        (EvaluationLog(2, ()), caveats.EvaluationsOnTest),  # the earliest records know the total alone
        (EvaluationLog(5, ()), caveats.RepeatedEvaluationsOnTest),
    ):
        assert [type(fact) for fact in evaluations_on_test(replace(comparison, test_evaluations=log))] == [kind]
    path.write_text("{oops\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"test_looks\.jsonl: line 1 is not JSON"):
        compare_runs(runs)


def test_evaluations_do_not_matter_on_validation(tmp_path: Path) -> None:
    """Validation scenes may be scored as often as one likes."""
    comparison = compare_runs([build_run(tmp_path, "unet-s0", noisy_counts(8, 0.2, seed=1), split="val")], split="val")
    assert evaluations_on_test(replace(comparison, test_evaluations=EvaluationLog(9, ()))) == []


def test_one_set_of_predictions_under_two_names_is_named(tmp_path: Path) -> None:
    """Bit-identical counts are practically always a mistake; like scores alone are none."""
    counts = noisy_counts(8, 0.2, seed=1)
    runs = [build_run(tmp_path, f"{arch}-s0", counts, arch=arch) for arch in ("unet", "fpn")]
    other = build_run(tmp_path, "pan-s0", noisy_counts(8, 0.2, seed=2), arch="pan")
    comparison = compare_runs([*runs, other])
    assert identical_counts(comparison) == [caveats.IdenticalCounts((("unet", "fpn"),))]
    assert "identical_counts" in {finding.code for finding in comparison.findings if finding.severity == "warning"}
    assert identical_counts(compare_runs([runs[0], other])) == []


def test_a_group_with_most_of_the_pixels_is_named(tmp_path: Path) -> None:
    """Scores sum pixels, so one group of more than half of them decides; one group alone is another finding."""
    comparison = study(tmp_path, {"unet": 0.2}, scenes=4)
    assert places.find_sizes(comparison) == []
    first = comparison.scenes[0]
    large = replace(first, class_pixels=tuple(9 * n for n in first.class_pixels))
    uneven = replace(comparison, scenes=(large, *comparison.scenes[1:]))
    counted = [sum(n for n, entry in zip(scene.class_pixels, comparison.legend.classes, strict=True) if entry.counted)
        for scene in uneven.scenes]  # fmt: skip
    share = counted[0] / sum(counted)
    (found,) = places.find_sizes(uneven)
    assert found.figures == {"group": first.group, "share": pytest.approx(share)}
    joined = replace(uneven, scenes=tuple(replace(scene, group="a") for scene in uneven.scenes))
    assert places.find_sizes(joined) == []


def test_scenes_without_known_neighbours_are_said(tmp_path: Path) -> None:
    """Where every scene is its own group, nothing says which lie in one region; groups of several scenes say it."""
    comparison = study(tmp_path, {"unet": 0.2}, scenes=4)
    assert places.find_places(comparison) == [places.UnknownPlaces(4, "test")]
    in_pairs = tuple(replace(scene, group=scene.id[:-1]) for scene in comparison.scenes)
    assert places.find_places(replace(comparison, scenes=in_pairs, n_groups=1)) == [places.NamedPlaces(1)]
    touching = replace(comparison.dataset, groups_from="pixels")  # that two touch says nothing of the others
    joined = replace(comparison, scenes=in_pairs, n_groups=1, dataset=touching)
    assert places.find_places(joined) == [places.UnknownPlaces(4, "test")]


def _scenes(comparison: Comparison, names: list[str], spots: list[tuple[float, float]] | None = None) -> Comparison:
    """The comparison with other scenes, each a group of its own."""
    first = comparison.scenes[0]
    rows = tuple(
        replace(first, id=name, group=name, place=spots[number] if spots else None) for number, name in enumerate(names)
    )
    return replace(comparison, scenes=rows, n_groups=len(rows))


def test_few_regions_are_found_by_names_and_on_the_map(tmp_path: Path) -> None:
    """Three towns of ten scenes are three regions; a region for every two scenes, or one alone, is no finding."""
    comparison = study(tmp_path, {"unet": 0.2}, scenes=30)
    towns = [f"{town}_{number}" for town in ("aachen", "bern", "lyon") for number in range(10)]
    (found,) = places.find_places(_scenes(comparison, towns))
    assert found == places.FewRegions(30, ("aachen", "bern", "lyon"), None)
    assert places.find_places(_scenes(comparison, [f"{n}_sat" for n in range(30)])) == [
        places.UnknownPlaces(30, "test")
    ]
    assert places.find_places(_scenes(comparison, [f"town{n}" for n in range(30)])) == [
        places.UnknownPlaces(30, "test")
    ]
    pairs = _scenes(comparison, [f"{chr(97 + n // 2)}_{n}" for n in range(30)])
    assert places.find_places(pairs) == [places.UnknownPlaces(30, "test")]
    whole = _scenes(comparison, [f"town_{n}" for n in range(30)])
    assert places.find_places(whole) == [places.UnknownPlaces(30, "test")]

    spots = [(east + 0.01 * (n % 4), 50 + 0.01 * (n // 4)) for east in (5.0, 8.0, 14.0) for n in range(10)]
    (found,) = places.find_places(_scenes(comparison, [f"{n}" for n in range(30)], spots))
    assert isinstance(found, places.FewRegions)
    assert (found.groups, found.regions) == (30, ("0", "10", "20"))
    assert found.gap_km is not None and 1.2 < found.gap_km < 200


def test_spread_places_are_no_regions() -> None:
    """Places drawn over a country are found to lie in few regions in at most one study in twenty."""
    rng = np.random.default_rng(4)
    for n in (12, 24, 81):
        drawn = [places.map_regions(rng.uniform((5, 48), (14, 54), (n, 2)))[1] for _ in range(100)]
        assert sum(gap is not None for gap in drawn) <= 5


def test_unlike_sizes_are_warned_of(tmp_path: Path) -> None:
    """Where groups weigh as few alike ones; silent where sizes differ as they do in most sets of scenes."""
    comparison = study(tmp_path, {"unet": 0.2}, scenes=24)
    counted = [entry.counted for entry in comparison.legend.classes].index(True)

    def found(sizes: list[int]) -> list[object]:
        rows = zip(comparison.scenes, sizes, strict=True)
        pixels = [[n if k == counted else 0 for k in range(comparison.legend.n_classes)] for n in sizes]
        scenes = tuple(replace(row, class_pixels=tuple(own)) for (row, _), own in zip(rows, pixels, strict=True))
        return list(places.find_sizes(replace(comparison, scenes=scenes)))

    assert found([100, 200] * 12) == []
    assert found([100] * 20 + [1000] * 4) == [places.UnlikeGroups(24, pytest.approx(36 / 4.2))]  # type: ignore[arg-type]


@pytest.mark.parametrize("groups", [24, 81, 142])
def test_sizes_with_a_heavy_tail_are_warned_of(groups: int) -> None:
    """Where sizes follow a power law, the largest at hand tell little of the largest there are.

    Quantiles of each law: Pareto 1.1 and log-normal 2.5, on which intervals are too narrow, and those on which they are
    as wide as they say. From 12 alike groups on, the number of alike ones alone would be silent on Pareto's.
    """
    shares = (np.arange(groups) + 0.5) / groups

    def unlike(sizes: NDArray[np.float64]) -> bool:
        return places.unlike_sizes((1000 * sizes).tolist())

    assert unlike((1 - shares) ** (-1 / 1.1))
    assert unlike(np.exp(2.5 * ndtri(shares)))
    assert not any(unlike(np.exp(sigma * ndtri(shares))) for sigma in (0.0, 0.5))
    assert not unlike((1 - shares) ** (-1 / 3))
    assert unlike(np.exp(1.3 * ndtri(shares))) == (groups == 24)
    assert not unlike(np.append(np.ones(groups - 1), 3))


def test_blocks_of_one_raster_speak_of_it_only(tmp_path: Path) -> None:
    """Intervals over blocks of a raster say nothing about other places."""
    comparison = study(tmp_path, {"unet": 0.2})
    raster = replace(comparison, dataset=replace(comparison.dataset, layout="raster"))
    assert places.find_places(raster) == [places.OneRaster()]


def test_unlike_scenes_are_said(tmp_path: Path) -> None:
    """What `prepare` warned of is a warning of the answer: ground sample distances, and one for bands and scales."""
    comparison = study(tmp_path, {"unet": 0.2})
    assert unlike_scenes(comparison) == []
    codes = ("unlike-band-names", "unlike-scales", "unlike-gsd", "duplicate")
    seen = tuple(DatasetFinding("warning", code, "", f"s{n}") for n, code in enumerate(codes))
    unlike = replace(comparison, dataset=replace(comparison.dataset, findings=seen))
    assert unlike_scenes(unlike) == [caveats.UnlikeGroundDistances("s2"), caveats.UnlikeBands("s0")]


def test_a_clean_split_and_known_runs_raise_no_warning(tmp_path: Path) -> None:
    """Thirty groups, one protocol, no leak: nothing to warn of."""
    ids = [f"scene{i:03d}" for i in range(30)]
    runs = [
        build_run(tmp_path, f"{a}-s0", noisy_counts(30, e, seed=0), arch=a) for a, e in (("unet", 0.1), ("fpn", 0.5))
    ]
    build_dataset(tmp_path, {"train": ["a"], "val": ["b"], "test": ids})
    found = find_caveats(compare_runs(runs))
    assert found == [places.UnknownPlaces(30, "test")]
    assert found[0].severity == "finding"


def test_adopted_runs_are_named(tmp_path: Path) -> None:
    """How they were trained is not known."""
    runs = [
        build_run(tmp_path, name, noisy_counts(8, 0.2, seed=1), arch="unknown", seed=None, card=adopted_card())
        for name in ("theirs", "others")
    ]
    assert unknown_protocol(compare_runs(runs)) == [caveats.UnknownProtocol(("theirs", "others"))]
