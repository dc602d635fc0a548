import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.study import LEGEND
from sklearn.metrics import confusion_matrix
from torch import nn

from levelground.console import progress_bar
from levelground.datasets.dataset import Dataset
from levelground.errors import ModelError, SceneError, SplitError
from levelground.evaluation.score_scenes import BOUNDARY_PX, ScenePrediction, ScoringOptions, score_scenes
from levelground.imagery.legend import IGNORE
from levelground.metrics.counts import BINS, SceneCounts
from levelground.models.model import Model
from levelground.models.spec import dataset_spec
from levelground.runtime import make_runtime
from levelground.tile_geometry import TileGeometry

RUNTIME = make_runtime("cpu", "fp32", threads=1)
OUTPUTS = (0, 2, 3)


class Colours(nn.Module):
    """A network that sees one pixel: its bands are its scores for field, wood and water."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Red and green make a field, green a wood, blue water."""
        red, green, blue = image.unbind(dim=1)
        return torch.stack([red, green - red, blue], dim=1)


def model_of(dataset: Dataset, network: nn.Module, outputs: tuple[int, ...] = OUTPUTS) -> Model:
    """The network as a model that learnt from the data set."""
    return Model(dataset_spec(dataset, "toy", "none", outputs, name="toy", geometry=TileGeometry(32, 4)), network)


def score(
    dataset: Dataset,
    ids: tuple[str, ...] = ("b/2", "c/1", "c/2"),
    *,
    network: nn.Module | None = None,
    outputs: tuple[int, ...] = OUTPUTS,
    tile: int = 32,
    halo: int = 4,
    batch: int = 3,
    details: bool = True,
    smp_dice: bool = False,
    keep: Callable[[str, ScenePrediction], None] | None = None,
) -> SceneCounts:
    """Score scenes with the network of colours."""
    options = ScoringOptions(details, smp_dice, keep)
    geometry = TileGeometry(tile, halo, batch)
    return score_scenes(model_of(dataset, network or Colours(), outputs), dataset, ids, geometry, RUNTIME, options)


def test_counts_are_scikit_learns_confusion_matrix(dataset: Dataset) -> None:
    """Rows true, columns predicted, ignored pixels left out, the uncounted class kept, scene by scene."""
    kept: dict[str, ScenePrediction] = {}
    counts = score(dataset, keep=kept.__setitem__)
    for number, name in enumerate(("b/2", "c/1", "c/2")):
        labels, preds = np.asarray(dataset.open(name).labels), kept[name].preds
        valid = labels != IGNORE
        assert np.array_equal(counts.counts[number], confusion_matrix(labels[valid], preds[valid], labels=range(4)))
        assert counts.counts[number, [0, 2, 3], [0, 2, 3]].sum() > 0.8 * counts.counts[number].sum() * 3 / 4
        assert not counts.counts[number, :, 1].any()


def test_the_record_names_scenes_groups_hashes_and_sizes(dataset: Dataset) -> None:
    """In the order of the ids that were given."""
    counts = score(dataset, ("c/1", "b/2"))
    assert counts.scenes.tolist() == ["c/1", "b/2"]
    assert counts.groups.tolist() == ["c", "b"]
    assert counts.labels_sha256.tolist() == [dataset.scene("c/1").labels_sha256, dataset.scene("b/2").labels_sha256]
    assert (counts.legend_sha256, counts.split_sha256) == (LEGEND.digest(), dataset.split_sha256)
    assert counts.megapixels.tolist() == [64 * 96 / 1e6, 33 * 31 / 1e6]
    assert (counts.forward_s > 0).all()
    assert counts.boundary_px == BOUNDARY_PX


def test_losses_boundaries_and_confidences_are_over_pixels_of_counted_classes(dataset: Dataset) -> None:
    """Unknown and ignored pixels enter none of the three."""
    counts = score(dataset)
    labels = [np.asarray(dataset.open(str(name)).labels) for name in counts.scenes]
    counted = [int(np.isin(one, OUTPUTS).sum()) for one in labels]
    assert counts.loss_pixels.tolist() == counted
    assert counts.conf_n.sum(axis=(1, 2)).tolist() == counted
    assert counts.conf_correct.sum(axis=(1, 2)).tolist() == np.trace(counts.counts, axis1=1, axis2=2).tolist()
    assert (counts.loss_sum / counts.loss_pixels < 1.0).all()
    assert not counts.boundary[:, 1].any()
    assert (counts.boundary[:, 0] > 0).all()


def test_validation_counts_confusion_and_loss_only(dataset: Dataset) -> None:
    """Without ``details`` the rest is zero, and the counts are the same."""
    plain, full = score(dataset, details=False), score(dataset)
    assert np.array_equal(plain.counts, full.counts)
    assert np.array_equal(plain.loss_sum, full.loss_sum)
    assert plain.conf_n.shape == (3, 4, BINS)
    assert not plain.conf_n.any()
    assert not plain.boundary.any()


@pytest.mark.parametrize(("tile", "halo", "batch"), [(32, 0, 1), (64, 10, 2), (0, 0, 1), (32, 8, 50)])
def test_tiles_and_batches_change_no_count_of_a_network_that_sees_one_pixel(
    dataset: Dataset, tile: int, halo: int, batch: int
) -> None:
    """Where the network needs no context the geometry decides nothing."""
    one, other = score(dataset), score(dataset, tile=tile, halo=halo, batch=batch)
    assert np.array_equal(one.counts, other.counts)
    assert one.loss_sum == pytest.approx(other.loss_sum, rel=1e-6)


def test_more_outputs_than_counted_classes_are_allowed(dataset: Dataset) -> None:
    """The origin's networks have one for the unknown class too; it can be predicted, and costs its pixels."""
    network = nn.Sequential(Colours(), nn.Conv2d(3, 4, 1))
    counts = score(dataset, network=network, outputs=(0, 1, 2, 3), smp_dice=True)
    assert counts.counts.sum() == sum(int((np.asarray(dataset.open(n).labels) != IGNORE).sum()) for n in counts.scenes)


def test_the_dice_loss_is_handed_over_where_it_is_asked_for(dataset: Dataset) -> None:
    """The record has no field for it."""
    kept: dict[str, ScenePrediction] = {}
    score(dataset, keep=kept.__setitem__, smp_dice=True)
    assert all(found.smp_dice is not None and 0 < found.smp_dice < 1 for found in kept.values())


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_in_the_mode_it_came_in(dataset: Dataset, training: bool) -> None:
    """It runs in evaluation mode; training goes on in training mode."""
    modes: list[bool] = []

    class Watched(Colours):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            modes.append(self.training)
            return super().forward(image)

    network = Watched().train(training)
    score(dataset, network=network)
    assert network.training is training
    assert not any(modes)


def test_progress_counts_scenes(dataset: Dataset) -> None:
    """One unit a scene, with the speed beside it."""
    notes: list[tuple[int, str | None]] = []
    with progress_bar("score", 2) as bar:
        bar.advance = lambda n=1, *, note=None: notes.append((n, note))  # type: ignore[method-assign]
        options = ScoringOptions(progress=bar)
        score_scenes(model_of(dataset, Colours()), dataset, ("b/2", "c/2"), TileGeometry(32, 4), RUNTIME, options)
    assert [n for n, _ in notes] == [1, 1]
    assert all(re.fullmatch(r"\d+\.\d megapixels/s", note or "") for _, note in notes)


def test_labels_that_are_not_the_recorded_ones_stop_the_evaluation(dataset: Dataset) -> None:
    """One changed pixel in the cache is noticed; the scene is named."""
    other = dataclasses.replace(dataset.scene("c/1"), labels_sha256="0" * 64)
    scenes = tuple(other if scene.id == "c/1" else scene for scene in dataset.scenes)
    found = dataset.scene("c/1").labels_sha256[:12]
    text = (
        f"c/1: its labels have hash {found}…, dataset.json records 000000000000…. "
        "Run `levelground prepare` again, then evaluate every run again."
    )
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        score(dataclasses.replace(dataset, scenes=scenes))


def test_a_network_that_gives_no_numbers_is_named_with_its_scene(dataset: Dataset) -> None:
    """NaN would be counted as the first class."""

    class Broken(Colours):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image) * float("nan")

    text = "b/2: the network's output is not a number (NaN). Its weights are damaged: train or adopt it anew."
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        score(dataset, network=Broken())


def test_no_scenes_are_refused(dataset: Dataset) -> None:
    """An empty list is a mistake of the split."""
    text = "no scenes to score. Prepare the data with a split that has some."
    with pytest.raises(SplitError, match=f"^{re.escape(text)}$"):
        score(dataset, ())


def test_a_scene_without_labels_is_refused(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to score against."""
    opened = dataset.open("b/2")
    monkeypatch.setattr(Dataset, "open", lambda _self, _name: dataclasses.replace(opened, labels=None))
    text = "b/2: has no labels to score against. Leave it out of the split."
    with pytest.raises(SceneError, match=f"^{re.escape(text)}$"):
        score(dataset)


def test_real_labels_are_counted_as_scikit_learn_does(real_data: Path, tmp_path: Path) -> None:
    """On a real pair, whole and tiled: counts against scikit-learn's matrix of the kept predictions."""
    from levelground.datasets.prepare import PrepareOptions, prepare_dataset

    dataset = prepare_dataset(
        PrepareOptions(data=real_data / "deepglobe", out=tmp_path / "study", cache=tmp_path / "cache")
    )
    kept: dict[str, ScenePrediction] = {}
    name = dataset.ids("test")[0]
    counts = score(dataset, (name,), outputs=(0, 2, 3), tile=512, halo=32, keep=kept.__setitem__)
    labels = np.asarray(dataset.open(name).labels).ravel()
    assert np.array_equal(counts.counts[0], confusion_matrix(labels, kept[name].preds.ravel(), labels=range(7)))
