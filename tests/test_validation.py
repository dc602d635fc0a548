"""Validation scenes scored while a run goes on."""

import math

import pytest
from builders.training import RUNTIME, small_spec

from levelground.datasets.dataset import Dataset
from levelground.errors import ModelError
from levelground.models.loading import load_model
from levelground.runs import Run
from levelground.training.prepare_run import make_job
from levelground.training.validation import validate


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
