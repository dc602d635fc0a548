"""Ranks under every definition."""

import numpy as np
import pytest
from builders.counts import COUNTED, NAMES, made_up_counts

from levelground.errors import ConfigError
from levelground.metrics.named import mean_metrics, parse_metric
from levelground.metrics.scores import mf1, miou
from levelground.statistics.families import rank_under_metrics, ranks

PRIMARY = parse_metric("official.miou", NAMES, COUNTED)


def test_each_row_scores_and_ranks_all_runs() -> None:
    """By the same functions as the tables."""
    counts = made_up_counts(5, 9)
    rows = rank_under_metrics(counts, mean_metrics(COUNTED), COUNTED, primary=PRIMARY)
    assert [row.metric for row in rows] == [metric.name for metric in mean_metrics(COUNTED)]
    totals = counts.sum(axis=1)
    np.testing.assert_allclose(rows[0].values, miou(totals, COUNTED, "official"), atol=1e-15)
    np.testing.assert_allclose(rows[7].values, mf1(totals, COUNTED, "all"), atol=1e-15)
    assert sorted(rows[0].ranks) == [1, 2, 3, 4, 5]
    assert rows[0].values[rows[0].ranks.index(1)] == max(rows[0].values)
    assert rows[0].flips == ()


def test_flips_are_all_pairs_whose_order_turns() -> None:
    """Better one of the primary metric first; checked over all ordered pairs."""
    counts = made_up_counts(6, 9, seed=1)
    rows = rank_under_metrics(counts, mean_metrics(COUNTED), COUNTED, primary=PRIMARY)
    reference = rows[0].values
    for row in rows:
        expected = {
            (a, b) for a in range(6) for b in range(6) if reference[a] > reference[b] and row.values[a] < row.values[b]
        }
        assert set(row.flips) == expected
    turned = {pair for row in rows for pair in row.flips}
    assert any(a < b for a, b in turned)
    assert any(a > b for a, b in turned)


def test_ties_share_a_rank_and_turn_nothing() -> None:
    """Twins are never flipped against each other, even by rounding."""
    counts = np.repeat(made_up_counts(1, 9), 3, axis=0)
    rows = rank_under_metrics(counts, mean_metrics(COUNTED), COUNTED, primary=PRIMARY)
    assert all(row.ranks == (1, 1, 1) and row.flips == () for row in rows)
    assert ranks(np.array([0.3, 0.5, 0.5 + 1e-15, 0.1])) == (3, 1, 1, 4)


def test_a_run_without_a_score_has_no_rank() -> None:
    """And flips with nobody."""
    counts = made_up_counts(2, 9)
    counts[:, :, 2] = 0
    water = parse_metric("official.iou:Water", NAMES, COUNTED)
    row = rank_under_metrics(counts, [water], COUNTED, primary=PRIMARY)[0]
    assert row.ranks == (None, None)
    assert row.flips == ()


def test_boundary_rows_need_boundary_counts() -> None:
    """Without them the row is left out; as the primary metric they are required."""
    counts = made_up_counts(2, 9)
    metric = parse_metric("boundary.miou", NAMES, COUNTED)
    boundary = np.sort(np.random.default_rng(0).integers(1, 9, (2, 9, 4, 3)), axis=-1)
    assert rank_under_metrics(counts, [metric], COUNTED, primary=PRIMARY) == []
    assert len(rank_under_metrics(counts, [metric], COUNTED, primary=PRIMARY, boundary=boundary)) == 1
    with pytest.raises(
        ConfigError, match=r"^metric 'boundary.miou' needs boundary counts\. Evaluate the runs again\.$"
    ):
        rank_under_metrics(counts, [metric], COUNTED, primary=metric)
