"""Unlike ground truth stops a comparison by name; an unlike protocol is named and needs leave."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.runs import LEGEND, RECIPE, adopted_card, build_run, noisy_counts, scene_counts, scene_labels

from levelground.comparison.compare import compare_runs
from levelground.comparison.compatibility import compare_protocols, describe_budget, refuse_unlike
from levelground.comparison.inputs import gather
from levelground.errors import RecordError, UnlikeError
from levelground.imagery.legend import Legend, LegendClass
from levelground.recipe_files import BudgetRecord

COUNTS = noisy_counts(4, 0.2, seed=1)


def two(study: Path, other: Any = COUNTS, **card: Any) -> list[Any]:
    """A U-Net and an FPN; the FPN's counts or card may be unlike."""
    return [
        build_run(study, "unet-s0", COUNTS),
        build_run(study, "fpn-s0", other, arch="fpn", card=card),
    ]


def test_one_pixel_of_one_label_stops_the_comparison_and_names_the_scene(tmp_path: Path) -> None:
    """A single changed pixel in the labels of one scene is another ground truth."""
    maps = [scene_labels(scene.sum(axis=1).tolist()) for scene in COUNTS]
    maps[2] = maps[2].copy()
    maps[2][0, 0] = 1
    runs = two(tmp_path, scene_counts(COUNTS, labels=maps))
    text = r"^scene scene002: labels of unet-s0 \([0-9a-f]{8}…\) and fpn-s0 \([0-9a-f]{8}…\) differ, in 1 of 4 scenes\."
    with pytest.raises(UnlikeError, match=text + r" Evaluate both on the same masks\.$"):
        compare_runs(runs, allow_unlike=True)


def test_the_first_scene_that_differs_is_named_whatever_the_order(tmp_path: Path) -> None:
    """Scenes are compared by id, not by position."""
    maps = [scene_labels(scene.sum(axis=1).tolist()) for scene in COUNTS]
    maps[1], maps[3] = maps[1][:, ::-1], maps[3][:, ::-1]
    ids = [f"scene{i:03d}" for i in range(4)]
    other = scene_counts(COUNTS[::-1], scenes=ids[::-1], labels=maps[::-1])
    with pytest.raises(UnlikeError, match=r"^scene scene001: .*in 2 of 4 scenes"):
        compare_runs(two(tmp_path, other))


def test_another_legend_stops_and_names_the_class(tmp_path: Path) -> None:
    """A class that counts in one legend and not in the other makes other scores."""
    other = Legend("three", (*LEGEND.classes[:2], replace(LEGEND.classes[2], counted=True)))
    runs = [
        build_run(tmp_path, "unet-s0", COUNTS),
        build_run(tmp_path, "fpn-s0", scene_counts(COUNTS, legend=other), arch="fpn", legend=other),
    ]
    text = (
        "unet-s0 and fpn-s0 were scored with unlike legends: class 2 has counted False in one and True in the other. "
        "Evaluate both on one dataset."
    )
    with pytest.raises(UnlikeError, match=f"^{re.escape(text)}$"):
        compare_runs(runs, allow_unlike=True)


def test_a_legend_with_a_class_more_is_named(tmp_path: Path) -> None:
    """The class that only one legend holds is the first difference."""
    other = Legend("four", (*LEGEND.classes, LegendClass(3, "Water", (0, 0, 255))))
    wide = np.pad(COUNTS, ((0, 0), (0, 1), (0, 1)))
    runs = [
        build_run(tmp_path, "unet-s0", COUNTS),
        build_run(tmp_path, "fpn-s0", scene_counts(wide, legend=other), arch="fpn", legend=other),
    ]
    with pytest.raises(UnlikeError, match=r"class 3 has name None in one and Water in the other"):
        compare_runs(runs)


def test_other_test_scenes_stop_and_the_first_is_named(tmp_path: Path) -> None:
    """A scene that only one run was scored on is named, with which run lacks it."""
    text = (
        "scene scene003 was scored for unet-s0 and not for fpn-s0 (3 scenes alike, 1 not). Evaluate both on one split."
    )
    with pytest.raises(UnlikeError, match=f"^{re.escape(text)}$"):
        compare_runs(two(tmp_path, COUNTS[:3]), allow_unlike=True)


def test_other_groups_stop(tmp_path: Path) -> None:
    """Groups are the resampling unit, so they must be the same."""
    other = scene_counts(COUNTS, groups=["a", "a", "c", "d"])
    with pytest.raises(
        UnlikeError, match=r"^scene scene000 is in group 'scene000' for unet-s0 and in 'a' for fpn-s0\. "
    ):
        compare_runs(two(tmp_path, other))


def test_counts_that_contradict_their_hashes_are_a_damaged_record(tmp_path: Path) -> None:
    """Labels alike by hash have the same true pixels."""
    maps = [scene_labels(scene.sum(axis=1).tolist()) for scene in COUNTS]
    other = COUNTS.copy()
    other[1, 0, 0] += 1
    with pytest.raises(
        RecordError, match=r"^scene scene001: .*unlike numbers of true pixels\. Evaluate both runs again"
    ):
        compare_runs(two(tmp_path, scene_counts(other, labels=maps)))


@pytest.mark.parametrize(
    ("card", "field", "values"),
    [
        ({"recipe": RECIPE | {"batch": 4}}, "recipe.batch", "8 for unet-s0 and 4 for fpn-s0"),
        ({"budget": {"asked": "4 epochs", "steps": 80}}, "budget", "'100 steps' for unet-s0 and '4 epochs' for fpn-s0"),
        ({"steps_done": 60}, "budget", "'100 steps, stopped after 60 of 100' for fpn-s0"),
        ({"encoder_weights": "imagenet"}, "weights", "'none' for unet-s0 and 'imagenet' for fpn-s0"),
        ({"train_sha256": "9" * 64}, "training scenes", "'777777777777' for unet-s0 and '999999999999' for fpn-s0"),
        ({"split_sha256": "9" * 64}, "split", "'555555555555' for unet-s0 and '999999999999' for fpn-s0"),
        ({"tile": 512}, "tile", "256 for unet-s0 and 512 for fpn-s0"),
        ({"halo": 0}, "halo", "32 for unet-s0 and 0 for fpn-s0"),
    ],
)
def test_an_unlike_protocol_needs_leave_and_is_named(
    tmp_path: Path, card: dict[str, Any], field: str, values: str
) -> None:
    """Without --allow-unlike the first field and its values are named; with it they are in the comparison."""
    runs = two(tmp_path, **card)
    with pytest.raises(UnlikeError, match=rf"^runs were not made alike: {re.escape(field)} is .*{re.escape(values)}"):
        compare_runs(runs)
    comparison = compare_runs(runs, allow_unlike=True)
    assert [entry.field for entry in comparison.protocol_differences] == [field]
    assert comparison.protocol[field] is None
    warning = next(finding for finding in comparison.findings if finding.code == "unlike_protocol")
    assert warning.severity == "warning"
    assert warning.figures == {"fields": [field]}


def test_the_model_is_no_part_of_the_protocol(tmp_path: Path) -> None:
    """Another encoder is another model, not another protocol."""
    comparison = compare_runs(two(tmp_path, recipe=RECIPE | {"encoder": "mit_b0"}, encoder="mit_b0"))
    assert comparison.protocol_differences == ()


def test_adopted_runs_stop_nothing_and_say_unknown(tmp_path: Path) -> None:
    """What nobody knows cannot be said to differ; it is named."""
    comparison = compare_runs(two(tmp_path, **adopted_card(), seed=None))
    assert comparison.protocol_differences == ()
    assert {comparison.protocol[field] for field in ("recipe.batch", "budget", "tile")} == {"unknown"}
    finding = next(finding for finding in comparison.findings if finding.code == "unknown_protocol")
    assert finding.figures["runs"][0] == "fpn-s0"


def test_protocols_list_several_fields_in_one_message(tmp_path: Path) -> None:
    """The message names the first field in full and the others by name."""
    evaluated = gather(two(tmp_path, tile=512, halo=0), "test")
    _, unlike = compare_protocols(evaluated)
    with pytest.raises(
        UnlikeError, match=r"tile is .* \(also unlike: halo\)\. Give runs of one protocol, or --allow-unlike"
    ):
        refuse_unlike(unlike, allow_unlike=False)
    refuse_unlike(unlike, allow_unlike=True)


def test_a_budget_without_a_question_is_unknown() -> None:
    """A card without a budget, or with an empty one, cannot tell."""
    assert [describe_budget(budget, 3) for budget in (None, BudgetRecord(asked=""))] == ["unknown"] * 2
