"""Scores of architectures over seeds."""

import numpy as np
import pytest
from builders.counts import COUNTED, NAMES, made_up_counts, slow_miou

from levelground.errors import ShapeError
from levelground.metrics.named import parse_metric
from levelground.statistics.architectures import architecture_scores
from levelground.statistics.intervals import effective_df, jackknife_se
from levelground.statistics.resampling import group_sums

MIOU = parse_metric("official.miou", NAMES, COUNTED)
GROUPS = [f"{number // 2:02d}" for number in range(24)]
ARCHS = ["unet", "fpn", "unet", "unet", "fpn", "pspnet"]


def test_a_score_is_the_mean_over_seeds() -> None:
    """Names in the order in which they first stand; groups and seeds both in the standard error."""
    counts = made_up_counts(6, 24)
    scores = architecture_scores(counts, GROUPS, ARCHS, MIOU, COUNTED, n_resamples=500)
    assert [(score.name, score.runs, score.n_seeds) for score in scores] == [
        ("unet", (0, 2, 3), 3), ("fpn", (1, 4), 2), ("pspnet", (5,), 1),
    ]  # fmt: skip
    runs = np.array([slow_miou(run.sum(axis=0)) for run in counts])
    left_out = group_sums(counts, GROUPS, MIOU, COUNTED).left_out()
    unet = scores[0]
    assert unet.value == pytest.approx(runs[[0, 2, 3]].mean(), abs=1e-12)
    mean_left_out = left_out[[0, 2, 3]].mean(axis=0)
    own, other = runs[[0, 2, 3]].var(ddof=1), runs[[1, 4]].var(ddof=1)
    pooled = (2 * own + other) / 3  # pspnet has one seed
    v_groups, v_seeds = float(jackknife_se(mean_left_out)) ** 2, max(own, pooled) / 3
    assert unet.se_groups == pytest.approx(v_groups**0.5, abs=1e-12)
    assert unet.se_seeds == pytest.approx(v_seeds**0.5, abs=1e-12)
    assert unet.se == pytest.approx((v_groups + v_seeds) ** 0.5, abs=1e-12)
    df_groups = float(effective_df(mean_left_out))
    assert unet.df == pytest.approx((v_groups + v_seeds) ** 2 / (v_groups**2 / df_groups + v_seeds**2 / 3), abs=1e-9)
    assert unet.interval is not None
    assert unet.interval[0] < unet.value < unet.interval[1]


def test_one_seed_has_no_interval_of_the_architecture() -> None:
    """Its seed variance is unknown; the part of the groups is shown."""
    score = architecture_scores(made_up_counts(6, 24), GROUPS, ARCHS, MIOU, COUNTED, n_resamples=500)[2]
    assert (score.interval, score.se, score.df, score.se_seeds) == (None, None, None, None)
    assert score.se_groups is not None


def test_shares_of_first_ranks_add_up_to_one() -> None:
    """Twins share ties, and the better architecture is first more often."""
    counts = made_up_counts(2, 24)
    perfect = counts[:1] * 0
    perfect[0, :, range(4), range(4)] = counts[0].sum(axis=-1).T
    scores = architecture_scores(
        np.concatenate((counts[:1], counts[:1], perfect)), GROUPS, ["a", "b", "c"], MIOU, COUNTED, n_resamples=300
    )
    assert [score.ranked_first for score in scores] == [0, 0, 1]
    twins = architecture_scores(np.repeat(counts[:1], 2, axis=0), GROUPS, ["a", "b"], MIOU, COUNTED, n_resamples=300)
    assert [score.ranked_first for score in twins] == [0.5, 0.5]
    several = architecture_scores(made_up_counts(6, 24), GROUPS, ARCHS, MIOU, COUNTED, n_resamples=300)
    assert sum(score.ranked_first or 0 for score in several) == pytest.approx(1)


def test_seeds_are_drawn_again_too() -> None:
    """With one group's worth of difference between seeds, ranks turn with the seeds drawn."""
    counts = made_up_counts(4, 24, seed=3)
    again = architecture_scores(counts, GROUPS, ["a", "a", "b", "b"], MIOU, COUNTED, n_resamples=400, seed=1)
    same = architecture_scores(counts, GROUPS, ["a", "a", "b", "b"], MIOU, COUNTED, n_resamples=400, seed=1)
    assert [score.ranked_first for score in again] == [score.ranked_first for score in same]
    assert 0 < (again[0].ranked_first or 0) < 1


def test_one_group_ranks_nobody() -> None:
    """There is nothing to resample."""
    score = architecture_scores(made_up_counts(2, 24), ["x"] * 24, ["a", "a"], MIOU, COUNTED)[0]
    assert (score.ranked_first, score.interval, score.se_groups) == (None, None, None)
    assert score.se_seeds is not None


def test_a_metric_that_never_exists_ranks_nobody() -> None:
    """A class without a true pixel."""
    counts = made_up_counts(2, 24)
    counts[:, :, 2] = 0
    metric = parse_metric("official.iou:Water", NAMES, COUNTED)
    scores = architecture_scores(counts, GROUPS, ["a", "b"], metric, COUNTED, n_resamples=200)
    assert [score.ranked_first for score in scores] == [None, None]
    assert np.isnan(scores[0].value)


def test_a_name_for_each_run_is_asked_for() -> None:
    """Not one for each architecture."""
    with pytest.raises(ShapeError, match=r"^2 architecture names for 6 runs, expected one a run\.$"):
        architecture_scores(made_up_counts(6, 24), GROUPS, ["unet", "fpn"], MIOU, COUNTED)
