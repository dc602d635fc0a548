"""Does the check of exported models see what differs?"""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.models import with_spec
from builders.study import LEGEND, add_run, small_model

from levelground.datasets.dataset import Dataset
from levelground.errors import ModelError
from levelground.inference.parity import Parity, Tiles, compare_models, gather_tiles
from levelground.models.loading import load_model, open_model
from levelground.models.spec import ModelSpec, read_model_spec
from levelground.runs import Run, read_run
from levelground.runtime import make_runtime
from levelground.tile_geometry import TileGeometry

RUNTIME = make_runtime("cpu", "fp32", threads=1)
TILES = Tiles(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8), "noise")


@pytest.fixture
def run(dataset: Dataset) -> Run:
    """A run in its study."""
    return add_run(dataset)


def spec_for(bands: int, dtype: str | None, tile: int) -> ModelSpec:
    """The specification of a model that no study has pixels for."""
    ones = (1.0,) * bands
    return ModelSpec("x", "linknet", "e", LEGEND, (0, 2, 3), ones, ones, dtype, None, TileGeometry(tile, 0))


def test_a_model_is_like_itself(run: Run) -> None:
    """No difference, to the bit."""
    found = compare_models(load_model(run), open_model(run.folder, RUNTIME), TILES, RUNTIME)
    assert found == Parity(0.0, 0.0, 1.0, 3, 3 * 64 * 64, "noise")
    assert found.holds
    assert found.text() == (
        "probabilities differ by 0 at most, 100.000 % of pixels have the same class (3 tiles of noise)"
    )


def test_logits_and_probabilities_compare(run: Run) -> None:
    """What comes as probabilities is not put through a softmax again."""
    plain = open_model(run.folder, RUNTIME)
    activated = dataclasses.replace(plain, forward=lambda x: plain.on_tensors(x).softmax(1), activated=True)
    assert compare_models(load_model(run), activated, TILES, RUNTIME).max_difference < 1e-6


@pytest.mark.parametrize("change", ["weights", "mean", "order", "nan"])
def test_another_model_does_not_pass(run: Run, change: str) -> None:
    """Other weights, another normalisation, exchanged outputs or no numbers: the report does not hold."""
    plain = open_model(run.folder, RUNTIME)
    other = {
        "weights": dataclasses.replace(plain, forward=small_model(seed=5).network.eval()),
        "mean": with_spec(plain, mean=(0.0, 0.0, 0.0)),
        "order": dataclasses.replace(plain, forward=lambda x: plain.on_tensors(x)[:, [1, 0, 2]]),
        "nan": dataclasses.replace(plain, forward=lambda x: plain.on_tensors(x) * torch.nan),
    }[change]
    assert not compare_models(load_model(run), other, TILES, RUNTIME).holds


def test_other_outputs_are_an_error(run: Run) -> None:
    """A missing class cannot be compared."""
    plain = open_model(run.folder, RUNTIME)
    other = dataclasses.replace(plain, forward=lambda x: plain.on_tensors(x)[:, :2])
    with pytest.raises(ModelError, match=r"exported, it makes \(1, 2, 64, 64\), the network \(1, 3, 64, 64\)\. Report"):
        compare_models(load_model(run), other, TILES, RUNTIME)


def test_tiles_are_those_of_the_study(run: Run) -> None:
    """Validation scenes first; a scene smaller than the tile is continued by reflection."""
    found = gather_tiles(run, read_model_spec(run))
    assert (found.stored.shape, found.source) == ((2, 64, 64, 3), "the study's validation scenes")


def test_a_run_without_its_study_takes_generated_scenes(run: Run, tmp_path: Path) -> None:
    """A run that was moved alone is still checked, and the report says on what."""
    alone = read_run(shutil.copytree(run.folder, tmp_path / "a" / "b" / "run"))
    found = gather_tiles(alone, read_model_spec(alone), n=2)
    assert (found.stored.shape, found.source) == ((2, 64, 64, 3), "generated scenes")


@pytest.mark.parametrize(
    ("bands", "dtype", "largest"), [(5, "uint16", 65535), (1, "int16", 32767), (4, "float32", 1), (2, None, 255)]
)
def test_generated_scenes_fit_the_model(run: Run, bands: int, dtype: str | None, largest: float) -> None:
    """Bands are repeated and values stretched to the type's full scale."""
    stored = gather_tiles(run, spec_for(bands, dtype, 96), n=1).stored
    assert stored.shape == (1, 96, 96, bands)
    assert stored.dtype == (dtype or "uint8")
    assert 0.5 * largest < stored.max() <= largest
