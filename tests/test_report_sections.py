"""Sections of the report as views: figures of the comparison in words, in the order of the ranking."""

import dataclasses
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from levelground.comparison.conditions import ProtocolDifference
from levelground.comparison.record import Comparison, read_comparison
from levelground.comparison.results import Finding, MetricRow, PairResult, RunResult
from levelground.config import Recipe
from levelground.reporting.cost_table import (
    PROTOCOL_FIELDS,
    ProtocolField,
    calibration_charts,
    make_cost_table,
    protocol_rows,
    speed_chart,
    unlike_rows,
)
from levelground.reporting.gallery import Gallery, ScenePictures
from levelground.reporting.pairwise import OPEN_PAIRS, oriented_pairs, pair_forest, verdict_matrix
from levelground.reporting.per_class import (
    class_chart,
    class_differences,
    compact,
    confusion_tables,
    scene_differences,
    scene_heat,
    scene_scores,
)
from levelground.reporting.run_styles import StyledRun, styled_runs
from levelground.reporting.summary import (
    DECIDES,
    architecture_rows,
    facts,
    headline_texts,
    metric_rows,
    ranking,
    run_forest,
    score_rows,
    text_of,
    texts_of,
)

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def known() -> Comparison:
    """Two architectures with two seeds each, eight scenes, seven classes."""
    return read_comparison(DATA)


@pytest.fixture(scope="module")
def runs(known: Comparison) -> list[StyledRun]:
    """Its runs, best first: fpn s0, unet s1, fpn s1, unet s0."""
    return styled_runs(known)


def positions(strip: Markup, name: str) -> list[str]:
    """The left ends of the lines and bands of a CSS class in a strip."""
    return re.findall(rf'<(?:line x1|rect x)="([^"]+)"[^>]* class="{name}[ "]', strip)


def test_runs_are_styled_best_first(known: Comparison, runs: list[StyledRun]) -> None:
    """Number 0 is the best; runs without a value come last; a run's folder is the recorded one or its own."""
    assert [run.label for run in runs] == ["fpn s0", "unet s1", "fpn s1", "unet s0"]
    first, *others = known.runs
    unknown = replace(known, runs=(replace(first, value=None, folder="../elsewhere"), *others), pareto_front=())
    last = styled_runs(unknown)[-1]
    assert (last.name, last.number) == (first.name, 3)
    assert last.folder(Path("study")) == Path("study/../elsewhere")
    assert runs[0].folder(Path("study")) == Path("study/runs/fpn-resnet18-s0")


def test_headline_is_split_after_its_first_sentence(known: Comparison) -> None:
    """The title is the first sentence; without a headline it is the number of runs."""
    texts = [Finding("headline", "headline", "No winner (0.47). It takes more. Or less.")]
    assert headline_texts(replace(known, findings=tuple(texts))) == ("No winner (0.47).", "It takes more. Or less.")
    assert headline_texts(replace(known, findings=())) == ("Comparison of 4 runs", "")


def test_findings_are_listed_by_severity_but_for_the_one_that_decides(known: Comparison) -> None:
    """What would decide an open question is shown apart."""
    findings = (
        Finding(DECIDES, "finding", "Ten more groups."),
        Finding("best_class", "finding", "Water."),
        Finding("one_group", "warning", "Beware."),
    )
    changed = replace(known, findings=findings)
    assert (texts_of(changed, "finding"), texts_of(changed, "warning")) == (["Water."], ["Beware."])
    assert (text_of(changed, DECIDES), text_of(changed, "none")) == ("Ten more groups.", "")


def test_facts_leave_out_what_is_not_known(known: Comparison) -> None:
    """Data, protocol and δ; training scenes, split and test evaluations only where they are known."""
    terms = dict(facts(known))
    assert terms == {
        "Scored on": "8 test scenes in 8 groups",
        "Recipe": "default",
        "Budget": "--steps 240",
        "Encoder weights": "none",
        "Equivalence margin": "δ = 0.010",
    }
    log = replace(known.test_evaluations, total=3)
    more = replace(known, dataset=replace(known.dataset, train=20, val=5), test_evaluations=log)
    assert dict(facts(more)) == terms | {"Trained on": "20 scenes, validated on 5 more", "Test evaluations": "3"}


def test_ranking_is_of_architectures_where_each_has_seeds(known: Comparison, runs: list[StyledRun]) -> None:
    """With one seed each it is of runs; an architecture is drawn in the style of its best run."""
    forest = ranking(known, runs)
    assert (forest.subject, [row.label for row in forest.rows]) == ("architectures", ["fpn", "unet"])
    assert [row.note for row in forest.rows] == ["2 seeds", "2 seeds"]
    assert ["r0" in forest.rows[0].strip, "r1" in forest.rows[1].strip] == [True, True]
    single = replace(known, architectures=tuple(replace(entry, seeds=1) for entry in known.architectures))
    forest = ranking(single, runs)
    assert (forest.subject, [row.run for row in forest.rows]) == ("runs", runs)


def test_forest_is_cut_at_the_limits_of_the_metric(known: Comparison) -> None:
    """An mIoU ends at 0, Cohen's kappa at −1: the same interval gets another scale."""
    wide = tuple(replace(run, value=0.1, interval=(-0.4, 0.5)) for run in known.runs)
    miou = replace(known, runs=wide)
    kappa = replace(miou, metric="official.kappa")
    starts = [positions(run_forest(x, styled_runs(x)).rows[0].strip, "whisker")[0] for x in (miou, kappa)]
    assert starts == ["0%", "5.36%"]


def test_score_rows_have_every_scoring_and_a_dash_for_what_is_not_known(
    known: Comparison, runs: list[StyledRun]
) -> None:
    """MIoU with interval under each scoring; boundary, loss, speed and size of an adopted run may be missing."""
    row = score_rows(known, runs)[0]
    assert [cell.value for cell in row.miou] == ["0.423", "0.412", "0.353"]
    assert (row.boundary, row.loss, row.speed, row.parameters) == ("0.404", "0.500", "3.3", "16.1")
    assert row.others[:2] == ("0.594", "0.594")
    speed = replace(runs[0].result.throughput, predict_megapixels_per_s=None)
    bare = replace(runs[0].result, boundary=None, loss=None, throughput=speed)
    row = score_rows(known, [StyledRun(runs[0].style, bare)])[0]
    assert (row.boundary, row.loss, row.speed) == ("–", "–", "–")


def test_architecture_rows_have_both_parts_of_the_error(known: Comparison) -> None:
    """Best first; a twin has no share of first ranks."""
    best, other = architecture_rows(known)
    assert (best[0], best[1], best[2]) == ("fpn", "2", "0.414")
    assert (other[0], other[4], other[5], other[6]) == ("unet", "0.017", "0.041", "19 %")
    first, second = known.architectures
    twins = replace(known, architectures=(first, replace(second, twin_of="unet", ranked_first=None)))
    assert architecture_rows(twins)[0][6] == "–"


def test_ranks_that_move_are_marked_against_the_primary_metric(known: Comparison, runs: list[StyledRun]) -> None:
    """Better ranks move up, worse ones down; the primary row moves nowhere; a run without a rank is not marked."""
    names = [run.name for run in runs]
    values = dict.fromkeys(names, 0.5)
    primary = MetricRow(known.metric, values, dict(zip(names, (1, 2, 3, 4), strict=True)), ())
    other = MetricRow("kept.miou", values, dict(zip(names, (2, 1, 3, None), strict=True)), ((names[0], names[1]),))
    rows = metric_rows(replace(known, metric_sensitivity=(primary, other)), runs)
    assert [row.primary for row in rows] == [True, False]
    assert [cell.moved for cell in rows[0].cells] == ["", "", "", ""]
    assert [cell.moved for cell in rows[1].cells] == ["down", "up", "", ""]
    assert rows[1].flips == (("fpn s0", "unet s1"),)


def test_pairs_have_the_better_ranked_side_first(known: Comparison, runs: list[StyledRun]) -> None:
    """A pair that is recorded the other way round is flipped, sign, interval and verdict."""
    names = [run.name for run in runs]
    place = {name: number for number, name in enumerate(names)}
    pairs = oriented_pairs(known.pairs, names)
    assert all(place[pair.a] < place[pair.b] for pair in pairs)
    assert [(place[pair.a], place[pair.b]) for pair in pairs] == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    recorded = {frozenset((pair.a, pair.b)): pair for pair in known.pairs}
    for pair in pairs:
        before = recorded[frozenset((pair.a, pair.b))]
        assert pair == before or pair == before.flipped()


def test_matrix_reads_from_both_sides(known: Comparison) -> None:
    """What is better one way is worse the other, with the opposite difference; without a pair a cell is empty."""
    pair = replace(known.pairs[0], verdict="better", delta=0.2, text="A is better.")
    matrix = verdict_matrix([pair], [pair.a, pair.b, "third"])
    assert [[cell and cell.verdict for cell in row] for row in matrix] == [
        [None, "better", None], ["worse", None, None], [None, None, None],
    ]  # fmt: skip
    upper, lower = matrix[0][1], matrix[1][0]
    assert upper is not None
    assert lower is not None
    assert (upper.sign, upper.delta, lower.sign, lower.delta) == ("▲", "+0.200", "▼", "−0.200")


def test_pair_forest_shows_delta_as_a_band_and_folds_many_rows(known: Comparison) -> None:
    """The band spans ±δ around the line at 0; rows beyond the fifteenth are folded away; without pairs it is none."""
    pair: PairResult = replace(known.pairs[0], delta=0.0, interval=(-0.1, 0.1))
    forest = pair_forest([pair] * (OPEN_PAIRS + 2), {pair.a: "first"}, 0.05)
    assert forest is not None
    assert (len(forest.rows), len(forest.more)) == (OPEN_PAIRS, 2)
    assert forest.rows[0].names == ("first", pair.b)
    strip = forest.rows[0].strip
    assert (positions(strip, "zero"), positions(strip, "zone"), positions(strip, "whisker")) == (
        ["50%"], ["27.68%"], ["5.36%"],
    )  # fmt: skip
    assert pair_forest([], {}, 0.05) is None


@pytest.mark.parametrize(("metric", "end"), [("official.miou", "0%"), ("official.kappa", "5.36%")])
def test_differences_are_cut_at_the_range_of_the_metric(known: Comparison, metric: str, end: str) -> None:
    """A difference of mIoU lies from −1 to 1, one of Cohen's kappa from −2 to 2."""
    pair = replace(known.pairs[0], metric=metric, delta=0.0, interval=(-1.5, 1.5))
    forest = pair_forest([pair], {}, 0.01)
    assert forest is not None
    assert positions(forest.rows[0].strip, "whisker") == [end]


def test_class_chart_has_every_class_with_an_iou(known: Comparison, runs: list[StyledRun]) -> None:
    """Classes that no run has an IoU of are absent; shares are of the true pixels; a gap is a dash."""
    chart = class_chart(known, runs)
    assert [entry.index for entry in chart.absent] == [6]
    row = chart.rows[0]
    assert (row.entry.name, row.share) == ("Urban land", "13 %")
    expected = [run.result.scores["official"].iou[0] for run in runs]
    assert row.cells == tuple(f"{value:.3f}" for value in expected)
    gap = _without_iou(runs[0].result, 0)
    changed = replace(known, runs=tuple(gap if run.name == gap.name else run for run in known.runs))
    assert class_chart(changed, styled_runs(changed)).rows[0].cells[0] == "–"


def _without_iou(run: RunResult, index: int) -> RunResult:
    scores = {
        scoring: found.model_copy(
            update={"iou": tuple(None if k == index else value for k, value in enumerate(found.iou))}
        )
        for scoring, found in run.scores.items()
    }
    return replace(run, scores=scores)


def test_class_differences_mark_intervals_without_zero(known: Comparison) -> None:
    """Bold where the interval excludes 0 on either side; a class that a pair does not hold is a dash."""
    first, second = known.pairs[0], known.pairs[1]
    a, b, c = first.per_class[:3]
    per_class = (
        replace(a, delta=0.2, interval=(0.1, 0.3)),
        replace(b, delta=-0.2, interval=(-0.3, -0.1)),
        replace(c, delta=0.1, interval=(-0.1, 0.3)),
    )
    pairs = [replace(first, per_class=per_class), replace(second, per_class=per_class[:1])]
    found = class_differences(pairs, known.labels, known.legend)
    assert found is not None
    assert found.names == ("unet s0", "unet s1")
    assert [entry.index for entry in found.classes] == [a.class_index, b.class_index, c.class_index]
    assert [cell.apart for cell in found.table[0][1]] == [True, True, False]
    assert [cell.value for cell in found.table[1][1]] == ["+0.200", "–", "–"]
    assert class_differences([replace(first, per_class=())], {}, known.legend) is None


def test_confusion_tables_have_three_readings_of_each_cell(known: Comparison, runs: list[StyledRun]) -> None:
    """Count, share of the true class and share of the predicted class; shades are tenths."""
    small = ((8, 2, 0, 0, 0, 0, 0), (0, 1000, 3, 0, 0, 0, 0), *((0,) * 7,) * 5)
    table = confusion_tables([StyledRun(runs[0].style, replace(runs[0].result, counts=small))], known.legend)[0]
    (_, first), (_, second), (_, third) = table.rows[:3]
    assert [(cell.count, cell.row, cell.column) for cell in first[:3]] == [
        ("8", "80", "100"), ("2", "20", "<1"), ("0", "·", "·"),
    ]  # fmt: skip
    assert [(cell.row_level, cell.column_level, cell.right) for cell in first[:2]] == [(8, 10, True), (2, 0, False)]
    assert (second[1].count, second[2].row) == ("1.0k", "<1")
    assert (third[0].row, third[0].row_level) == ("–", 0)


def test_scene_scores_are_found_by_run_and_scene(known: Comparison, runs: list[StyledRun]) -> None:
    """Each run's own mIoU of each scene."""
    found = scene_scores(known, runs)
    assert len(found) == 4 * 8
    assert found[0, "103"] == f"{runs[0].result.scene_miou[2]:.3f}"


@given(st.integers(0, 10**13))
def test_compact_counts_keep_to_a_few_characters(n: int) -> None:
    """Up to 10¹³ pixels; what is written is within five per cent of the count."""
    text = compact(n)
    assert len(text) <= 6
    factor = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1)
    assert float(text.rstrip("kMG")) * factor == pytest.approx(n, rel=0.06)


def test_costs_have_what_the_card_knows(runs: list[StyledRun]) -> None:
    """Parameters, operations, time, memory and speed in columns; steps and hardware once, where all runs share them."""
    table = make_cost_table(runs)
    run, cells = table.rows[-1]
    assert run.name == "unet-resnet18-s0"
    assert [text for _, text in cells] == ["14.3 / 14.0 / 13.9", "82", "62", "–", "1 204", "31.0", "3.0"]
    common = dict(table.common)
    assert (common["steps"], common["images seen"], common["megapixels seen"]) == ("240", "1 920", "126")
    assert (common["device"], common["precision"], common["threads"]) == ("cpu", "bf16-mixed", "2")


def test_unlike_hardware_gets_a_column(runs: list[StyledRun]) -> None:
    """What differs between runs is not said once for all of them."""
    card = replace(runs[0].result.card, device="cuda")
    other = StyledRun(runs[0].style, replace(runs[0].result, card=card))
    table = make_cost_table([other, *runs[1:]])
    assert [text for column, text in table.rows[0][1] if column.name == "device"] == ["cuda"]
    assert "device" not in dict(table.common)


def _timed(run: StyledRun, speed: float, value: float) -> StyledRun:
    throughput = replace(run.result.throughput, predict_megapixels_per_s=speed, interval=None)
    return StyledRun(run.style, replace(run.result, throughput=throughput, value=value, interval=None))


def _share(text: str) -> float:
    return float(text.rstrip("%"))


def test_speed_chart_has_the_timed_runs_and_the_front(known: Comparison, runs: list[StyledRun]) -> None:
    """A run without a time is left out; the front is joined by steps; without any time there is no chart."""
    chart = speed_chart(known, runs)
    assert chart is not None
    assert (len(chart.runs), chart.front) == (4, True)
    assert chart.chart.count('class="front"') == 2 * (len(known.pareto_front) - 1)
    values = {"fpn s0": (3.0, 0.3), "unet s1": (2.0, 0.5), "fpn s1": (1.0, 0.7), "unet s0": (1.0, 0.1)}
    timed = [_timed(run, *values[run.label]) for run in runs]
    front = tuple(run.name for run in timed if run.label != "unet s0")
    steps = speed_chart(replace(known, pareto_front=front), timed)
    assert steps is not None
    starts = [_share(x) for x in positions(steps.chart, "front")]
    assert len(starts) == 4
    assert starts == sorted(starts)
    untimed = replace(runs[0].result, throughput=replace(runs[0].result.throughput, predict_megapixels_per_s=None))
    some = [StyledRun(runs[0].style, untimed), *runs[1:]]
    less = speed_chart(replace(known, pareto_front=()), some)
    assert less is not None
    assert (less.runs, less.front) == (tuple(runs[1:]), False)
    assert speed_chart(replace(known, pareto_front=()), some[:1]) is None


def test_calibration_charts_have_one_bar_for_each_bin_with_pixels(runs: list[StyledRun]) -> None:
    """Empty bins are left out; a run without confidences has no chart."""
    calibration = runs[0].result.calibration
    assert calibration is not None
    chart = calibration_charts(runs[:1])[0]
    assert chart.chart.count('class="bar"') == sum(point.n > 0 for point in calibration.bins)
    assert chart.error.startswith(f"{calibration.ece:.3f} ")
    assert calibration_charts([StyledRun(runs[0].style, replace(runs[0].result, calibration=None))]) == []


def test_protocol_lists_what_runs_share_and_what_differs(known: Comparison, runs: list[StyledRun]) -> None:
    """Shared fields without the prefix of the recipe; a field that differs has the value of each run, best first."""
    assert ProtocolField("learning rate", "recipe.lr", "0.001") in protocol_rows(known)
    values = {"unet-resnet18-s0": 0.001, "unet-resnet18-s1": 0.01, "fpn-resnet18-s0": None, "fpn-resnet18-s1": True}
    unlike = replace(
        known,
        protocol={**known.protocol, "recipe.lr": None},
        protocol_differences=(ProtocolDifference("recipe.lr", values),),
    )
    assert "recipe.lr" not in [one.key for one in protocol_rows(unlike)]
    row = unlike_rows(unlike, runs)[0]
    assert (row.field, row.key, row.cells) == ("learning rate", "recipe.lr", ("–", "0.01", "yes", "0.001"))


def test_every_field_of_a_protocol_has_a_name_for_people() -> None:
    """Those of the recipe, but for the model's own, and those that a comparison adds."""
    recipe = {field.name for field in dataclasses.fields(Recipe)} - {"name", "encoder", "encoder_weights"}
    assert recipe <= PROTOCOL_FIELDS.keys()


NO_PICTURES = Gallery((), 0, ())


def test_differences_are_drawn_scene_by_scene_and_lead_to_their_scene(known: Comparison) -> None:
    """One dot a scene, sorted, of the mean over seeds; only a scene with pictures is linked."""
    pairs = [pair for pair in known.architecture_pairs if not pair.negative_control][:1]
    pictured = known.scenes[0].id
    gallery = Gallery((ScenePictures(pictured, 1, 1, "", ""),), 1, ())
    (drawn,) = scene_differences(known, pairs, {}, gallery)
    (pair,) = pairs
    runs = {run.name: run.scene_miou for run in known.runs}
    sides = []
    for name in (pair.a, pair.b):
        (entry,) = [entry for entry in known.architectures if entry.name == name]
        sides.append(
            [sum(runs[run][k] or 0.0 for run in entry.runs) / len(entry.runs) for k in range(len(known.scenes))]
        )
    assert drawn.scenes == len(known.scenes)
    assert drawn.better == sum(a > b for a, b in zip(*sides, strict=True))
    assert drawn.chart.count("<circle") == len(known.scenes)
    assert drawn.chart.count('href="#scene-0"') == drawn.chart.count("<a ") == 1
    across = [float(x.rstrip("%")) for x in re.findall(r'<circle cx="([^"]+)"', drawn.chart)]
    assert across == sorted(across)


def test_heat_map_has_a_cell_for_each_run_and_scene(known: Comparison, runs: list[StyledRun]) -> None:
    """The hardest scene is the first cell of every run; with one scene there is no map."""
    heat = scene_heat(known, runs, NO_PICTURES)
    assert heat is not None
    assert [row.run for row in heat.rows] == runs
    assert all(row.strip.count("<rect") == len(known.scenes) for row in heat.rows)
    means = [sum(values) for values in zip(*(run.result.scene_miou for run in runs), strict=True)]
    assert known.scenes[means.index(min(means))].id in heat.rows[0].strip.partition("<title>")[2].partition(",")[0]
    one = replace(
        known, scenes=known.scenes[:1], runs=tuple(replace(r, scene_miou=r.scene_miou[:1]) for r in known.runs)
    )
    assert scene_heat(one, styled_runs(one), NO_PICTURES) is None


def test_pairs_show_how_much_lies_beyond_delta(known: Comparison) -> None:
    """Three whole percentages, none a false 0 or 100; none where there is no standard error."""
    pair = replace(known.pairs[0], delta=0.03, se=0.01, df=20.0)
    plot = pair_forest([pair, replace(pair, se=None)], {}, 0.01)
    assert plot is not None
    assert [row.shares for row in plot.rows] == [("97", "3", "<1"), None]
