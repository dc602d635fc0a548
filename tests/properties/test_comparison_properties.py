"""What holds of any comparison: antisymmetry, and no dependence on order, names or pixels' unit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.runs import LEGEND, scene_counts
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from levelground.comparison.compatibility import Evaluated
from levelground.comparison.results import RunPairResult
from levelground.comparison.summaries import run_pair_results, score_set, sensitivity_rows, stack_counts
from levelground.escaping import escape_latex, escape_markdown
from levelground.metrics.named import parse_metric
from levelground.metrics.scores import scorings
from levelground.runs import Run
from levelground.statistics.families import Family, comparison_statistics
from levelground.statistics.pairs import Estimate

MIOU = parse_metric("official.miou", LEGEND.names, LEGEND.counted)
FEW = settings(max_examples=25, deadline=None)


@st.composite
def run_counts(draw: st.DrawFn) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Two runs' counts ``(S, 3, 3)`` on the same truth, each true class with at least one pixel somewhere."""
    scenes = draw(st.integers(2, 6))
    truth = draw(arrays(np.int64, (scenes, 3), elements=st.integers(1, 60)))
    runs = []
    for _ in range(2):
        shares = draw(arrays(np.float64, (scenes, 3), elements=st.floats(0, 1)))
        lost = np.rint(truth * shares).astype(np.int64)
        counts = np.zeros((scenes, 3, 3), np.int64)
        counts[:, range(3), range(3)] = truth - lost
        counts[:, range(3), [1, 2, 0]] += lost
        runs.append(counts)
    return runs


def evaluated(runs: list[Any], *, scenes: list[str] | None = None) -> list[Evaluated]:
    """Runs in memory."""
    return [
        Evaluated(f"run{number}", Run(Path(), {}), scene_counts(counts, scenes=scenes))
        for number, counts in enumerate(runs)
    ]


def run_pair(runs: list[Evaluated]) -> RunPairResult:
    """The pair of two runs by mIoU."""
    families = [Family((0, 1), ("a", "b"))]
    found = comparison_statistics(stack_counts(runs, LEGEND.counted), MIOU, families).families[0]
    names, n_groups = [run.name for run in runs], len(runs[0].counts.scenes)
    (pair,) = run_pair_results(found, names, MIOU, delta=0.01, n_groups=n_groups, control=False)
    return pair


def near(value: Any) -> Any:
    """An approximate match of numbers, lists of them, and nothing."""
    return value if value is None else pytest.approx(value, abs=1e-12)


@FEW
@given(run_counts())
def test_comparing_the_other_way_round_changes_every_sign(runs: list[Any]) -> None:
    """compare(a, b) == −compare(b, a): difference, intervals, classes; p and verdict belong to the pair."""
    other, back = run_pair(evaluated(runs)).flipped(), run_pair(evaluated(runs[::-1]))
    for name in ("delta", "se", "df", "interval", "p", "p_holm", "p_min"):
        assert near(getattr(other, name)) == getattr(back, name)
    assert other.verdict == back.verdict
    for mine, theirs in zip(other.per_class, back.per_class, strict=True):
        assert near(mine.delta) == theirs.delta


@FEW
@given(run_counts(), st.randoms(use_true_random=False))
def test_the_order_of_scenes_changes_nothing_that_decides(runs: list[Any], random: Any) -> None:
    """Scores, interval and p are functions of the set of scenes."""
    order = list(range(len(runs[0])))
    random.shuffle(order)
    ids = [f"scene{i:03d}" for i in range(len(order))]
    first = run_pair(evaluated(runs, scenes=ids))
    mixed = [counts[order] for counts in runs]
    second = run_pair(evaluated(mixed, scenes=[ids[i] for i in order]))
    for name in ("delta", "se", "interval", "p"):
        assert near(getattr(first, name)) == getattr(second, name)
    assert first.verdict == second.verdict


@FEW
@given(run_counts(), st.integers(2, 50))
def test_larger_pixels_of_the_same_picture_change_no_score(runs: list[Any], factor: int) -> None:
    """Scores are ratios: every count times a number gives the same ones."""
    nothing = Estimate(0.5, None, None, None)
    for counts in runs:
        small, large = (scene_counts(each) for each in (counts, counts * factor))
        for scoring in scorings(LEGEND.counted):
            mine, theirs = (score_set(each, LEGEND.counted, scoring, nothing) for each in (small, large))
            for kind in ("miou", "mf1", "pixel_accuracy"):
                assert near(mine.overall(kind)) == theirs.overall(kind)


@FEW
@given(run_counts())
def test_flips_of_the_primary_metric_are_none(runs: list[Any]) -> None:
    """No metric ranks otherwise than itself, and a flip is never stated both ways."""
    both = evaluated(runs)
    rows = sensitivity_rows(both, stack_counts(both, LEGEND.counted), LEGEND.names, MIOU)
    assert next(row.flips for row in rows if row.metric == "official.miou") == ()
    for row in rows:
        pairs = set(row.flips)
        assert not pairs & {(b, a) for a, b in pairs}


@given(st.text(max_size=40))
def test_escaped_text_is_one_line_with_nothing_live(text: str) -> None:
    """Whatever a class is called, a table row stays a row."""
    markdown, latex = escape_markdown(text), escape_latex(text)
    assert "\n" not in markdown + latex
    assert "|" not in markdown.replace("\\\\", "").replace("\\|", "")
    assert all(character not in latex.replace(f"\\{character}", "") for character in "&%#_")
    assert latex.replace("\\$", "").count("$") % 2 == 0
