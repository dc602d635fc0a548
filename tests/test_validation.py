"""Validation scenes scored while a run goes on."""

import dataclasses
import math

import pytest
from builders.training import RUNTIME, small_spec

from levelground.config import Recipe
from levelground.datasets.dataset import Dataset
from levelground.datasets.splits import Split
from levelground.errors import ModelError
from levelground.models.loading import load_model
from levelground.runs import Run
from levelground.training.prepare_run import make_job
from levelground.training.validation import choose_rule, validate


def test_validation_is_the_counts_score(dataset: Dataset, undisturbed: Run) -> None:
    """Cross-entropy per counted pixel, and the metrics of the summed counts."""
    job = make_job(small_spec(dataset), dataset, undisturbed.folder, RUNTIME, undisturbed)
    scored = validate(job, load_model(undisturbed), ["a/1", "a/2"])
    assert scored.counts.scenes.tolist() == ["a/1", "a/2"]
    assert scored.smp_dice is None
    line = scored.line(dataset.legend.counted)
    assert line["val_loss"] == pytest.approx(scored.counts.loss_sum.sum() / scored.counts.loss_pixels.sum())
    assert set(line) == {"val_loss", "val_miou", "val_pixel_accuracy"}


def test_damaged_weights_end_a_validation(dataset: Dataset, undisturbed: Run) -> None:
    """A network that gives no numbers is not scored."""
    job = make_job(small_spec(dataset), dataset, undisturbed.folder, RUNTIME, undisturbed)
    model = load_model(undisturbed)
    for parameter in model.network.parameters():
        parameter.data.fill_(math.nan)
    with pytest.raises(ModelError, match=r"b/1: the network's output is not a number \(NaN\)"):
        validate(job, model)


ONE = "validation has 1 scene and lacks 1 of 3 classes (Water)"


@pytest.mark.parametrize(
    ("val", "water", "fields", "expected"),
    [
        (("b/1",), 500, {}, ("last", "validation has 1 scene")),
        (("b/1",), 0, {}, ("last", ONE)),
        (("b/1",), 0, {"select": "last"}, ("last", None)),
        (("b/1",), 0, {"select_groups": 0}, ("val_miou", None)),
        (("a/2", "b/1", "c/1"), 500, {"select": "val_loss"}, ("val_loss", None)),
        (("a/2", "b/1", "c/1"), 0, {}, ("last", "validation lacks 1 of 3 classes (Water)")),
        (("a/2", "b/1", "c/1"), 1, {}, ("last", "validation lacks 1 of 3 classes (Water)")),  # under a thousandth
        (("a/2", "b/1", "c/1"), 500, {"select_groups": 4}, ("last", "validation has 3 scenes")),
        (("b/1", "b/2"), 500, {}, ("last", "validation has 2 scenes in 1 group")),
    ],
)
def test_weights_are_chosen_where_validation_can_tell(
    dataset: Dataset, val: tuple[str, ...], water: int, fields: dict[str, object], expected: tuple[str, str | None]
) -> None:
    """Three groups or more, and every class that training has on a thousandth of the pixels; else the last are kept."""
    train = {scene.id for scene in dataset.scenes} - set(val)
    split = Split(tuple(sorted(train - {"c/2"})), val, ("c/2",), "random", seed=0)
    scenes = [
        dataclasses.replace(scene, class_pixels=(900, 0, 700, water if scene.id in val else 800))
        for scene in dataset.scenes
    ]
    made = dataclasses.replace(dataset, split=split, scenes=tuple(scenes))
    assert choose_rule(made, dataclasses.replace(Recipe(), **fields)) == expected  # type: ignore[arg-type]


def test_many_missing_classes_are_counted(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names would be a long list."""
    monkeypatch.setattr("levelground.training.validation.NAMED", 0)
    assert choose_rule(_without_water(dataset), Recipe())[1] == "validation has 1 scene and lacks 1 of 3 classes"


def _without_water(dataset: Dataset) -> Dataset:
    """A validation scene without one of the classes."""
    scenes = [
        dataclasses.replace(scene, class_pixels=(900, 0, 700, 0 if scene.id == "b/1" else 800))
        for scene in dataset.scenes
    ]
    return dataclasses.replace(dataset, scenes=tuple(scenes))
