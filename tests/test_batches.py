"""What is cut, resized, turned and left out; the same for any number of loader processes."""

import dataclasses
import errno
import gc
import multiprocessing
import sys
from pathlib import Path

import numpy as np
import pytest
from builders.arrays import array_dataset
from numpy.typing import NDArray

from levelground.config import Recipe
from levelground.datasets.dataset import Dataset
from levelground.errors import RecordError
from levelground.imagery.legend import IGNORE
from levelground.recipe_files import load_recipe
from levelground.training.batches import (
    MAX_TRIES,
    Batch,
    BatchSource,
    Draw,
    cut_crop,
    load_batches,
    make_sampler,
    process_slots,
    target_table,
)

RECIPE = dataclasses.replace(Recipe(), tile=32, batch=3)
SIZES = [(50, 70), (64, 64), (40, 90), (33, 31)]
STILL = Draw(0, 0, 0, 4, 0, (1.0,), (0.0,))


def draw_scenes(
    bands: int = 3, dtype: str = "uint8", seed: int = 0
) -> dict[str, tuple[NDArray[np.generic], NDArray[np.uint8]]]:
    """Scenes whose every band tells the label and the place: band 0 is the label, band 1 the row, band 2 the column."""
    rng = np.random.default_rng(seed)
    scenes = {}
    for number, (height, width) in enumerate([*SIZES, (32, 32), (32, 32)]):
        labels = rng.integers(0, 4, (height, width), np.uint8)
        labels[rng.random(labels.shape) < 0.1] = IGNORE
        planes = [labels, *np.indices((height, width)), np.full_like(labels, number)]
        scenes[f"s{number}"] = np.stack([planes[band % 4] for band in range(bands)], axis=2).astype(dtype), labels
    return scenes


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four training scenes of unlike sizes."""
    return array_dataset(tmp_path_factory.mktemp("sampling"), draw_scenes())


def source(
    dataset: Dataset, recipe: Recipe = RECIPE, seed: int = 0, outputs: tuple[int, ...] = (0, 1, 2, 3)
) -> BatchSource:
    """The batches of a recipe."""
    ids = dataset.ids("train")
    sizes = [(dataset.scene(i).height, dataset.scene(i).width) for i in ids]
    return BatchSource(dataset, ids, make_sampler(recipe, seed, sizes, dataset.bands), outputs)


def same(first: Batch, second: Batch) -> bool:
    """Whether two batches are equal in every number."""
    pairs = [(getattr(first, field.name), getattr(second, field.name)) for field in dataclasses.fields(Batch)]
    return all(np.array_equal(a, b) for a, b in pairs)


def test_a_batch_is_a_function_of_seed_and_step(dataset: Dataset) -> None:
    """Asked again, in any order, from another source: the same; another seed or step: another."""
    first = source(dataset)
    batches = [first[step] for step in range(4)]
    second = source(dataset)
    assert all(same(second[step], batches[step]) for step in (3, 0, 2, 1))
    assert not same(batches[0], batches[1])
    assert not same(batches[0], source(dataset, seed=1)[0])


def test_a_batch_does_not_depend_on_the_network(dataset: Dataset) -> None:
    """Crops are drawn before any architecture is known; its outputs touch labels only."""
    seven, six = source(dataset)[5], source(dataset, outputs=(3, 1, 0))[5]
    assert np.array_equal(seven.images, six.images)
    expected = target_table([3, 1, 0])[seven.targets]
    assert np.array_equal(six.targets, expected)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_no_sample(dataset: Dataset, workers: int) -> None:
    """Zero, one or three loader processes give the same batches in the same order, from any step on."""
    alone = list(load_batches(source(dataset), range(2, 8), workers=0))
    beside = list(load_batches(source(dataset), range(2, 8), workers=workers))
    assert len(alone) == len(beside) == 6
    assert all(same(a, b) for a, b in zip(alone, beside, strict=True))
    assert same(alone[0], source(dataset)[2])


def test_loaders_that_cannot_be_started_are_one_line(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where /dev/shm takes no more locks; the library's iterator, made halfway, does not complain when it goes."""
    alone = list(load_batches(source(dataset), range(2), workers=0))
    unraised = list[object]()
    monkeypatch.setattr(sys, "unraisablehook", unraised.append)

    def no_room() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.multiprocessing.Queue", no_room)
    beside = list(load_batches(source(dataset), range(2), workers=2))
    gc.collect()
    assert all(same(a, b) for a, b in zip(alone, beside, strict=True))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Loader processes cannot be started ([Errno 28] No space left on device); ")
    assert unraised == []


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_change_no_sample(dataset: Dataset, processes: int) -> None:
    """Put together, the parts that processes take are the batch that one process takes."""
    recipe = dataclasses.replace(RECIPE, batch=6)
    whole = source(dataset, recipe)
    deals = [process_slots(6, rank, processes) for rank in range(processes)]
    parts = [BatchSource(dataset, whole.ids, whole.sampler, (0, 1, 2, 3), slots) for slots in deals]
    for step in range(5):
        batches = [part[step] for part in parts]
        for field in dataclasses.fields(Batch):
            together = np.concatenate([getattr(batch, field.name) for batch in batches])
            assert np.array_equal(together, getattr(whole[step], field.name))
        assert parts[-1].scenes(step) == sorted({whole.ids[scene] for scene in whole[step].scenes})


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_loader_is_the_line_it_was(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Its own text, not a traceback, and no loader process is left when it arrives."""

    def broken(*_: object) -> None:
        raise RecordError("scene 1: is gone. Prepare again.")

    monkeypatch.setattr(BatchSource, "__getitem__", broken)
    with pytest.raises(RecordError, match=r"^scene 1: is gone\. Prepare again\.$"):
        list(load_batches(source(dataset), range(8), workers=workers))
    assert multiprocessing.active_children() == []


def test_image_and_labels_are_cut_from_one_place(dataset: Dataset) -> None:
    """Without resizing, every pixel of a crop is the pixel of the scene that rows and columns in it name."""
    recipe = dataclasses.replace(RECIPE, scale_min=1.0, scale_max=1.0)
    for step in range(30):
        batch = source(dataset, recipe)[step]
        for image, target, place in zip(batch.images, batch.targets, batch.scenes, strict=True):
            scene = dataset.open(dataset.ids("train")[place])
            assert scene.labels is not None
            inside = target != IGNORE
            rows, columns = image[..., 1][inside], image[..., 2][inside]
            assert np.array_equal(image[..., 0][inside], target[inside])
            assert np.array_equal(scene.labels[rows, columns], target[inside])


@pytest.mark.parametrize("symmetry", range(8))
def test_d4_turns_image_and_labels_alike(symmetry: int) -> None:
    """Eight symmetries, all different, the same for both; each keeps every pixel."""
    labels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    image = np.stack([labels, labels + 100], axis=2)
    draw = dataclasses.replace(STILL, symmetry=symmetry)
    turned, turned_labels = cut_crop(image, draw, 4, nearest=False), cut_crop(labels, draw, 4, nearest=True)
    assert np.array_equal(turned[..., 0], turned_labels)
    assert np.array_equal(turned[..., 1], turned_labels + 100)
    assert sorted(turned_labels.ravel()) == list(range(16))
    flipped = labels[:, ::-1] if symmetry >= 4 else labels
    assert np.array_equal(turned_labels, np.rot90(flipped, symmetry % 4))


def test_a_crop_without_enough_labels_is_drawn_again(tmp_path: Path) -> None:
    """Where one corner of one of two scenes is labelled, crops gather there; drawn once, one in seven would see it."""
    labels = np.full((400, 400), IGNORE, np.uint8)
    labels[:200, :200] = 1
    empty = np.full((64, 64), IGNORE, np.uint8)
    scenes = {
        "corner": (np.zeros((400, 400, 1), np.uint8), labels),
        "empty": (np.zeros((64, 64, 1), np.uint8), empty),
        "test": (np.zeros((64, 64, 1), np.uint8), empty),
        "val": (np.zeros((64, 64, 1), np.uint8), empty),
    }
    batches = source(array_dataset(tmp_path, scenes), outputs=(0, 1, 2, 3))
    shares = [np.mean(target != IGNORE) for step in range(40) for target in batches[step].targets]
    assert np.mean(np.array(shares) >= 0.05) > 0.6


def test_a_data_set_without_labels_ends(tmp_path: Path) -> None:
    """After ten tries a crop is taken as it is; its loss is 0."""
    empty = np.full((64, 64), IGNORE, np.uint8)
    scenes = {name: (np.zeros((64, 64, 1), np.uint8), empty) for name in "abcd"}
    batch = source(array_dataset(tmp_path, scenes))[0]
    assert (batch.targets == IGNORE).all()
    assert MAX_TRIES == 10


def test_whole_scenes_are_padded_to_a_multiple_of_32(dataset: Dataset) -> None:
    """The origin recipe: image mirrored beyond the edge, labels ignored there, both untouched inside."""
    recipe = dataclasses.replace(load_recipe("origin"), batch=1)
    for step in range(4):
        batch = source(dataset, recipe)[step]
        scene = dataset.open(dataset.ids("train")[batch.scenes[0]])
        assert scene.labels is not None
        height, width = scene.labels.shape
        tall, wide = -(-height // 32) * 32, -(-width // 32) * 32
        assert batch.images.shape == (1, tall, wide, 3)
        assert np.array_equal(batch.images[0, :height, :width], scene.pixels)
        assert np.array_equal(batch.targets[0, :height, :width], scene.labels)
        assert (batch.targets[0, height:] == IGNORE).all()
        assert (batch.targets[0, :, width:] == IGNORE).all()
        mirrored = np.pad(scene.pixels, ((0, tall - height), (0, wide - width), (0, 0)), mode="symmetric")
        assert np.array_equal(batch.images[0], mirrored)


def test_a_scene_smaller_than_the_crop_is_padded(tmp_path: Path) -> None:
    """A strip of 20 × 100 px: what lies beyond it is mirrored in the image and ignored in the labels."""
    pixels = np.arange(2000, dtype=np.uint16).reshape(20, 100, 1)
    scenes = {name: (pixels, np.ones((20, 100), np.uint8)) for name in "abc"}
    recipe = dataclasses.replace(RECIPE, tile=64, scale_min=1.0, scale_max=1.0, d4=False)
    batch = source(array_dataset(tmp_path, scenes), recipe)[0]
    assert batch.images.shape == (3, 64, 64, 1)
    assert (batch.targets[:, :20] == 1).all()
    assert (batch.targets[:, 20:] == IGNORE).all()
    assert np.array_equal(batch.images[:, 20:40], batch.images[:, :20][:, ::-1])


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 2)])
def test_scenes_of_almost_nothing_work(tmp_path: Path, size: tuple[int, int]) -> None:
    """One pixel is a scene too."""
    scenes = {name: (np.full((*size, 3), 7, np.uint8), np.zeros(size, np.uint8)) for name in "abc"}
    dataset = array_dataset(tmp_path, scenes)
    assert source(dataset)[0].images.shape == (3, 32, 32, 3)
    padded = (1, 32 * -(-size[0] // 32), 32 * -(-size[1] // 32), 3)
    assert source(dataset, load_recipe("origin"))[0].images.shape == padded


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 4, 12])
def test_any_type_and_number_of_bands(tmp_path: Path, dtype: str, bands: int) -> None:
    """Crops keep the type of the cache and the range of the scene, resized or not."""
    rng = np.random.default_rng(0)
    top = 60_000 if dtype == "uint16" else 120
    scenes = {
        name: (rng.integers(3, top, (64, 64, bands)).astype(dtype), rng.integers(0, 4, (64, 64), np.uint8))
        for name in "abcd"
    }
    batches = source(array_dataset(tmp_path, scenes))
    for step in range(4):
        batch = batches[step]
        assert batch.images.dtype == dtype
        assert batch.images.shape == (3, 32, 32, bands)
        assert 3 <= batch.images.min() <= batch.images.max() <= top
        assert set(np.unique(batch.targets)) <= {0, 1, 2, 3, IGNORE}


@pytest.mark.parametrize("side", [5, 32, 57])
def test_resizing_keeps_what_is_flat(side: int) -> None:
    """A plain image stays plain; labels and image have their borders in one place."""
    labels = np.repeat(np.uint8([0, 1]), 40)[None].repeat(80, 0)
    draw = dataclasses.replace(STILL, row=3, col=40 - side // 2, side=side)
    small, image = cut_crop(labels, draw, 32, nearest=True), cut_crop(200 * labels[..., None], draw, 32, nearest=False)
    assert set(np.unique(small)) == {0, 1}
    assert np.mean((image[..., 0] >= 100) != (small == 1)) < 0.05


def test_whole_scenes_that_stack_are_taken(tmp_path: Path) -> None:
    """Squares of one size, turned or not."""
    scenes = {name: (np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)) for name in "abcd"}
    batch = source(array_dataset(tmp_path, scenes), dataclasses.replace(RECIPE, tile=0))[0]
    assert batch.images.shape == (3, 64, 64, 3)


def test_target_table() -> None:
    """Legend index to output; classes without an output are ignored, and 255 stays."""
    table = target_table([0, 2, 5])
    assert table[[0, 1, 2, 3, 4, 5, 255]].tolist() == [0, IGNORE, 1, IGNORE, IGNORE, 2, IGNORE]
    assert table.dtype == np.uint8
