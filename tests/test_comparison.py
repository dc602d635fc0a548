"""Runs to a comparison: every figure is that of the counts, every verdict that of the statistics."""

import html
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.runs import LEGEND, build_dataset, build_run, noisy_counts, scene_counts, spread

from levelground.comparison.caveats import LoneSeeds, LoneSeedsBeside, lone_seeds
from levelground.comparison.compare import compare_runs, write_comparison
from levelground.comparison.conditions import DatasetSummary, SeparatedGroup
from levelground.comparison.facts import LoneHeadline, Measure, Scope, WhatWouldDecide
from levelground.comparison.findings import headline, what_would_decide
from levelground.comparison.record import Comparison, comparison_json, read_comparison
from levelground.comparison.results import Finding
from levelground.errors import ConfigError, RecordError
from levelground.imagery.legend import Legend
from levelground.reporting.page import render_report
from levelground.runs import Run


def several(study: Path, errors: dict[str, float], *, scenes: int = 30, seeds: int = 1, **options: Any) -> list[Run]:
    """One run for each architecture and seed, with an error rate each."""
    return [
        build_run(
            study,
            f"{arch}-s{seed}",
            scene_counts(noisy_counts(scenes, error, seed=100 * number + seed), **options),
            arch=arch,
            seed=seed,
        )
        for number, (arch, error) in enumerate(errors.items())
        for seed in range(seeds)
    ]


def finding(comparison: Comparison, code: str) -> Finding:
    """The first finding of a code."""
    return next(item for item in comparison.findings if item.code == code)


def test_scores_are_those_of_the_summed_counts(tmp_path: Path) -> None:
    """Two scenes, worked by hand: TP, P and T add over scenes before any ratio is taken."""
    counts = np.array([[[80, 20, 0], [10, 90, 0], [4, 6, 0]], [[50, 0, 0], [30, 20, 0], [0, 0, 0]]], np.int64)
    comparison = compare_runs([build_run(tmp_path, "unet-s0", counts)])
    official = comparison.runs[0].scores["official"]
    iou = [130 / (150 + 170 - 130), 110 / (150 + 130 - 110)]
    assert official.iou == (pytest.approx(iou[0]), pytest.approx(iou[1]), None)
    assert official.miou == pytest.approx(sum(iou) / 2)
    assert official.overall("pixel_accuracy") == pytest.approx(240 / 300)
    assert comparison.runs[0].scores["kept"].iou[0] == pytest.approx(130 / (150 + 174 - 130))
    assert comparison.runs[0].scores["all"].iou[2] == 0
    assert comparison.runs[0].counts == tuple(map(tuple, counts.sum(axis=0).tolist()))
    assert comparison.runs[0].loss == pytest.approx(0.5)
    assert comparison.truth.class_pixels == (150, 150, 10)
    assert comparison.truth.present == (True, True, True)


def test_a_clear_difference_is_better_and_says_so(tmp_path: Path) -> None:
    """Thirty groups and a large gap decide; the other end of the pair is worse."""
    comparison = compare_runs(several(tmp_path, {"unet": 0.1, "pspnet": 0.4}))
    pair = comparison.pairs[0]
    assert (pair.a, pair.b, pair.verdict) == ("unet-s0", "pspnet-s0", "better")
    assert pair.delta > 0.3
    assert [item.name for item in headline(comparison).better] == ["pspnet-s0"]
    assert headline(comparison).scope == Scope("test", 30, None)


def test_the_origins_comparison_is_undecided_and_says_what_would_decide_it(tmp_path: Path) -> None:
    """U-Net against FPN, one seed, few scenes, a gap of a few thousandths: nobody wins."""
    comparison = compare_runs(several(tmp_path, {"unet": 0.2, "fpn": 0.195}, scenes=10))
    pair = comparison.pairs[0]
    assert pair.verdict == "undecided"
    assert len(headline(comparison).undecided) == 1
    assert headline(comparison).scope.seeds is None
    labels = ("unet", "fpn")
    assert what_would_decide(comparison) == [WhatWouldDecide(10, comparison.power, detects=True, labels=labels)]
    assert (comparison.power.delta, comparison.power.seeds) == (0.01, None)
    assert comparison.power.groups_needed > 10
    assert set(comparison.power.pair) == {"unet-s0", "fpn-s0"}


def test_the_page_of_an_undecided_comparison_says_what_would_decide_it(tmp_path: Path) -> None:
    """The reader of the page sees the verdict and what it would take, in the same words."""
    comparison = compare_runs(several(tmp_path, {"unet": 0.2, "fpn": 0.195}, scenes=10))
    page = html.unescape(render_report(comparison, tmp_path, tmp_path / "report.html").read_text(encoding="utf-8"))
    page = re.sub(r"</?abbr[^>]*>", "", page)  # terms are explained where they first stand
    for code in ("headline", "what_would_decide"):
        for sentence in finding(comparison, code).text.split(". "):
            assert sentence in page


def test_equal_runs_are_equal_not_undecided(tmp_path: Path) -> None:
    """The same predictions under two names lie within any δ."""
    counts = noisy_counts(30, 0.2, seed=1)
    runs = [build_run(tmp_path, "unet-s0", counts), build_run(tmp_path, "fpn-s0", counts, arch="fpn")]
    comparison = compare_runs(runs)
    assert (comparison.pairs[0].verdict, comparison.pairs[0].delta) == ("equal", 0)
    assert len(headline(comparison).equal) == 1


def test_two_seeds_each_speak_of_architectures(tmp_path: Path) -> None:
    """Means over seeds, their variances, and a headline about architectures."""
    comparison = compare_runs(several(tmp_path, {"unet": 0.1, "pspnet": 0.4}, seeds=3))
    assert [(entry.name, entry.seeds) for entry in comparison.architectures] == [("unet", 3), ("pspnet", 3)]
    scores = [run.scores["official"].miou for run in comparison.runs if run.arch == "unet"]
    assert comparison.architectures[0].miou == pytest.approx(sum(scores) / 3)
    assert comparison.architectures[0].value == comparison.architectures[0].miou
    pair = comparison.architecture_pairs[0]
    assert (pair.a, pair.b, pair.verdict) == ("unet", "pspnet", "better")
    assert all(value > 0 for value in (pair.v_group, pair.v_a, pair.v_b, pair.df, pair.se))
    assert [entry.class_index for entry in pair.per_class] == [0, 1]
    assert finding(comparison, "ranked_first").figures == {"shares": {"unet": 1.0, "pspnet": 0.0}}
    assert headline(comparison).scope == Scope("test", 30, (3, 3))


def test_a_lone_run_leaves_the_verdicts_on_architectures(tmp_path: Path) -> None:
    """Architectures with seeds are compared among themselves; the lone run, better or worse, as weights with each."""
    runs = [
        *several(tmp_path, {"unet": 0.1, "pspnet": 0.4}, seeds=2),
        build_run(tmp_path, "fpn-s0", noisy_counts(30, 0.05, seed=9), arch="fpn"),
    ]
    comparison = compare_runs(runs)
    assert comparison.about_architectures
    assert [entry.name for entry in comparison.ranking] == ["unet", "pspnet"]
    assert headline(comparison).best == "unet"
    assert headline(comparison).scope == Scope("test", 30, (2, 2))
    assert lone_seeds(comparison) == [LoneSeedsBeside(("fpn",))]
    assert sum("fpn-s0" in (pair.a, pair.b) for pair in comparison.pairs) == 4
    assert [(pair.a, pair.b) for pair in comparison.architecture_pairs] == [("unet", "pspnet")]


def test_one_seed_among_several_falls_back_to_weights(tmp_path: Path) -> None:
    """With one architecture of several seeds only weights can be compared; a warning names the lone ones."""
    runs = [
        *several(tmp_path, {"unet": 0.1}, seeds=2),
        build_run(tmp_path, "fpn-s0", noisy_counts(30, 0.2, seed=9), arch="fpn"),
    ]
    comparison = compare_runs(runs)
    assert headline(comparison).scope.seeds is None
    assert lone_seeds(comparison) == [LoneSeeds(("fpn",))]
    assert finding(comparison, "lone_seeds").figures == {"architectures": ["fpn"]}
    assert comparison.architecture_pairs == ()
    assert {entry.name for entry in comparison.ranking[1:]} == {"fpn-s0"}


def test_one_run_alone_has_scores_and_an_interval_and_no_pair(tmp_path: Path) -> None:
    """Nothing to compare is no error."""
    comparison = compare_runs(several(tmp_path, {"unet": 0.2}))
    low, high = comparison.runs[0].interval
    assert low < comparison.runs[0].value < high
    assert (comparison.pairs, comparison.architecture_pairs, comparison.power) == ((), (), None)
    run = comparison.runs[0]
    assert headline(comparison) == LoneHeadline(
        Measure("official.miou", comparison.scorings), "unet", "unet", run.value, run.interval, 1, 30, "test"
    )


def test_seeds_of_one_architecture_are_a_mean_and_not_compared(tmp_path: Path) -> None:
    """Three seeds of one architecture: one score with both variances, nobody wins over itself."""
    comparison = compare_runs(several(tmp_path, {"unet": 0.2}, seeds=3))
    found = headline(comparison)
    assert (found.label, found.seeds, found.interval) == ("unet", 3, comparison.architectures[0].interval)
    assert not {"what_would_decide", "rank_flips", "cannot_show"} & {item.code for item in comparison.findings}


def test_one_group_gives_no_interval_and_says_so(tmp_path: Path) -> None:
    """All scenes of one group: nothing can be said about other groups."""
    comparison = compare_runs(several(tmp_path, {"unet": 0.1, "fpn": 0.4}, scenes=5, groups=["east"] * 5))
    assert comparison.n_groups == 1
    assert comparison.runs[0].interval is None
    pair = comparison.pairs[0]
    assert (pair.interval, pair.p, pair.verdict) == (None, None, "undecided")
    assert finding(comparison, "one_group").figures == {"groups": 1, "scenes": 5}
    assert headline(comparison).undecided[0].interval is None


def test_groups_are_the_resampling_unit(tmp_path: Path) -> None:
    """Scenes that repeat within groups make the interval wider than as many independent ones."""
    ids = [f"g{i // 6}" for i in range(30)]
    counts = np.repeat(noisy_counts(5, 0.2, seed=1), 6, axis=0)
    alone = compare_runs([build_run(tmp_path / "a", "unet-s0", counts)]).runs[0].scores["official"].se
    grouped = compare_runs([build_run(tmp_path / "b", "unet-s0", scene_counts(counts, groups=ids))])
    assert grouped.n_groups == 5
    assert grouped.runs[0].scores["official"].se > 2 * alone


def test_scene_order_changes_nothing(tmp_path: Path) -> None:
    """A run whose scenes were counted in another order gives the same comparison."""
    counts = noisy_counts(12, 0.2, seed=4)
    ids = [f"scene{i:03d}" for i in range(12)]
    order = np.random.default_rng(0).permutation(12)
    first = compare_runs([build_run(tmp_path / "a", "unet-s0", counts)])
    shuffled = scene_counts(counts[order], scenes=[ids[i] for i in order])
    second = compare_runs([build_run(tmp_path / "b", "unet-s0", shuffled)])
    plain = [
        replace(c, created="", runs=tuple(replace(r, card=replace(r.card, evaluations={})) for r in c.runs))
        for c in (first, second)
    ]
    assert plain[0] == plain[1]  # cards know their counts by hash


def test_the_metric_named_is_the_one_tested(tmp_path: Path) -> None:
    """One class's IoU under another scoring decides where it is named in advance."""
    comparison = compare_runs(several(tmp_path, {"unet": 0.1, "fpn": 0.4}), metric="kept.iou:rangeland", delta=0.02)
    assert comparison.metric == "kept.iou:Rangeland"
    assert comparison.runs[0].value == pytest.approx(comparison.runs[0].scores["kept"].iou[1])
    assert comparison.metric_sensitivity[0].metric == "kept.iou:Rangeland"
    assert "kept IoU of rangeland" in finding(comparison, "headline").text
    assert comparison.delta == 0.02


def test_boundaries_can_be_the_metric_and_may_be_missing(tmp_path: Path) -> None:
    """Boundary IoU has its interval; adopted masks without it leave the block out and refuse the metric."""
    comparison = compare_runs(several(tmp_path / "a", {"unet": 0.1, "fpn": 0.4}), metric="boundary.miou")
    assert comparison.runs[0].boundary.mean == pytest.approx(comparison.runs[0].value)
    assert comparison.runs[0].boundary.per_class[2] is None
    runs = several(tmp_path / "b", {"unet": 0.1, "fpn": 0.4}, boundary=False)
    assert compare_runs(runs).runs[0].boundary is None
    with pytest.raises(ConfigError, match=r"^metric 'boundary.miou': not all runs hold boundary counts"):
        compare_runs(runs, metric="boundary.miou")


def test_a_legend_where_all_classes_count_has_one_scoring(tmp_path: Path) -> None:
    """Three scorings that agree are one."""
    legend = Legend("two", LEGEND.classes[:2])
    counts = np.stack([spread([100, 50], [0.1, 0.2], [1, 0]) for _ in range(4)])
    run = build_run(tmp_path, "unet-s0", scene_counts(counts, legend=legend), legend=legend)
    comparison = compare_runs([run])
    assert comparison.scorings == ("official",)
    assert " mIoU" in finding(comparison, "headline").text
    assert "official" not in finding(comparison, "headline").text


def test_the_record_is_json_without_nan(tmp_path: Path) -> None:
    """What is written is read back the same, and strict JSON."""
    comparison = compare_runs(several(tmp_path, {"unet": 0.2, "fpn": 0.3}, scenes=4))
    write_comparison(comparison, tmp_path / "out")
    text = (tmp_path / "out" / "comparison.json").read_text(encoding="utf-8")
    record = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert len(record.pop("sha256")) == 64
    assert record == {"schema": 1, "kind": "comparison"} | comparison_json(comparison)
    assert read_comparison(tmp_path / "out") == comparison
    written = [f"comparison.{suffix}" for suffix in ("csv", "hashes.json", "json", "md", "tex")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*written, "tables"]


def test_the_dataset_beside_the_runs_gives_sizes_split_and_leaks(tmp_path: Path) -> None:
    """Sizes and rule come from dataset.json; a group on both sides of the split is named."""
    runs = several(tmp_path, {"unet": 0.2}, scenes=3)
    ids = [f"scene{i:03d}" for i in range(3)]
    build_dataset(tmp_path, {"train": ["482365", "7"], "val": ["8"], "test": ids}, {"482365": "g1", "scene001": "g1"})
    comparison = compare_runs(runs)
    assert comparison.dataset == DatasetSummary(
        scenes=6, train=2, val=1, test=3, layout="kaggle", n_test_groups=3, findings=()
    )
    assert comparison.split_rule.kind == "random"
    assert (comparison.scenes[0].height, comparison.scenes[0].width) == (20, 30)
    assert comparison.separated_groups == (SeparatedGroup("g1", ("scene001",), ("482365",), "train"),)
    assert finding(comparison, "split_separates_groups").figures["groups"] == [
        {"group": "g1", "test": ["scene001"], "other": ["482365"], "other_split": "train"}
    ]


def test_a_dataset_of_another_split_is_not_believed(tmp_path: Path) -> None:
    """A dataset.json that was made anew says nothing about old counts."""
    counts = scene_counts(noisy_counts(3, 0.2, seed=0), split_sha256="6" * 64)
    run = build_run(tmp_path, "unet-s0", counts, card={"split_sha256": "6" * 64})
    build_dataset(tmp_path, {"train": ["a"], "val": ["b"], "test": ["c"]})
    comparison = compare_runs([run])
    assert (comparison.dataset.scenes, comparison.split_rule, comparison.separated_groups) == (None, None, ())


def test_runs_of_two_studies_with_one_name_are_told_apart(tmp_path: Path) -> None:
    """The study's name goes before the run's."""
    counts = noisy_counts(4, 0.2, seed=0)
    runs = [build_run(tmp_path / study, "unet-s0", counts) for study in ("first", "second")]
    comparison = compare_runs(runs)
    assert [run.name for run in comparison.runs] == ["first/unet-s0", "second/unet-s0"]
    assert [entry.name for entry in comparison.architectures] == ["unet (no. 1)", "unet (no. 2)"]


def test_a_run_given_twice_counts_once(tmp_path: Path) -> None:
    """A folder named twice is no second run."""
    runs = several(tmp_path, {"unet": 0.2}, scenes=4)
    assert len(compare_runs(runs + runs).runs) == 1


def test_no_run_no_metric_no_delta(tmp_path: Path) -> None:
    """What cannot be compared is said in one line."""
    with pytest.raises(ConfigError, match=r"^no run to compare\. Give run folders"):
        compare_runs([])
    runs = several(tmp_path, {"unet": 0.2}, scenes=2)
    with pytest.raises(ConfigError, match=r"^delta is nan, expected a difference"):
        compare_runs(runs, delta=math.nan)
    with pytest.raises(ConfigError, match=r"no class 'sea'"):
        compare_runs(runs, metric="official.iou:sea")
    with pytest.raises(RecordError, match=r"counts-val\.npz: no such counts\. Run `levelground evaluate`"):
        compare_runs(runs, split="val")


def test_a_delta_of_zero_asks_for_no_power(tmp_path: Path) -> None:
    """No number of groups detects a difference of nothing."""
    comparison = compare_runs(several(tmp_path, {"unet": 0.2, "fpn": 0.21}, scenes=8), delta=0)
    assert comparison.power is None


def test_comparing_imports_no_torch() -> None:
    """Metrics and verdicts come from counts: neither torch nor matplotlib is loaded."""
    heavy = "{'torch', 'matplotlib', 'rasterio', 'cv2'}"
    code = f"import sys, levelground.comparison.compare; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
