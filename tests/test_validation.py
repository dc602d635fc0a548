"""Validation scenes scored while a run goes on."""

import dataclasses
import math

import pytest
from builders.training import RUNTIME, small_spec

from levelground.datasets.dataset import Dataset
from levelground.datasets.splits import Split
from levelground.errors import ModelError
from levelground.models.loading import load_model
from levelground.runs import Run
from levelground.training.prepare_run import make_job
from levelground.training.validation import doubt_selection, validate


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


def test_validation_that_cannot_tell_is_doubted(dataset: Dataset) -> None:
    """One group, or no pixel of a counted class that training has; nothing is said of the last weights."""
    text = "the validation scenes hold 1 group only, so weights that score best there may not be the best. "
    assert doubt_selection(dataset, "val_miou") == text + "--select last keeps the last ones."
    assert doubt_selection(dataset, "last") is None
    three = dataclasses.replace(dataset, split=Split(("a/1",), ("a/2", "b/1", "c/1"), ("b/2",), "random", seed=0))
    assert doubt_selection(three, "val_loss") is None
    dry = [
        dataclasses.replace(scene, class_pixels=(*scene.class_pixels[:3], 0)) if scene.id in three.ids("val") else scene
        for scene in three.scenes
    ]
    doubt = doubt_selection(dataclasses.replace(three, scenes=tuple(dry)), "val_miou")
    assert doubt is not None
    assert doubt.startswith("the validation scenes hold no Water, so")
