"""From a wish to a run: what it is known by, where it lies, what its card says."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from array_dataset import array_dataset
from study_builder import SPLIT, build_study
from training_builder import RECIPE, RUNTIME, assert_same_run, history, train, weights, wish

from levelground.config import Budget, Recipe, load_recipe
from levelground.datasets.dataset import Dataset
from levelground.datasets.splits import Split
from levelground.errors import ConfigError, ModelError
from levelground.runs import BudgetRecord, RecipeRecord, Run, list_runs, read_run, write_card
from levelground.training.prepare_run import (
    Wish,
    build_wished,
    check_wish,
    find_run,
    fit_recipe,
    identity,
    make_plan,
    outputs_of,
)

OTHER_VALUES = {
    "encoder": "resnet18",
    "encoder_weights": "imagenet",
    "outputs": "all",
    "tile": 64,
    "halo": 2,
    "batch": 3,
    "optimiser": "adam",
    "lr": 2e-3,
    "encoder_lr_factor": 0.5,
    "weight_decay": 0.1,
    "schedule": "constant",
    "warmup": 0.2,
    "clip": 0.5,
    "loss": "ce",
    "class_weights": "sqrt",
    "scale_min": 0.7,
    "scale_max": 1.2,
    "d4": False,
    "colour": 0.1,
    "normalise": "data",
    "freeze_encoder_children": 1,
    "select": "last",
    "validations": 2,
    "sanity_check": True,
}
"""For every field that decides something, a value other than that of the tests' recipe."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two training scenes, one to validate."""
    return build_study(tmp_path_factory.mktemp("planning"))


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of six steps."""
    return train(wish(dataset), dataset, tmp_path_factory.mktemp("run"))


def test_every_decisive_field_is_part_of_the_identity(dataset: Dataset) -> None:
    """Change any one of them and it is another run."""
    base = Wish("linknet", 0, RECIPE, Budget(steps=6))
    assert set(OTHER_VALUES) == {f.name for f in dataclasses.fields(Recipe)} - {"name", "default_epochs"}
    others = [dataclasses.replace(RECIPE, **{name: value}) for name, value in OTHER_VALUES.items()]
    known = [identity(base, dataset), *(identity(dataclasses.replace(base, recipe=r), dataset) for r in others)]
    known += [
        identity(dataclasses.replace(base, arch="unet"), dataset),
        identity(dataclasses.replace(base, seed=1), dataset),
        identity(dataclasses.replace(base, budget=Budget(steps=7)), dataset),
        identity(dataclasses.replace(base, budget=Budget(minutes=6)), dataset),
    ]
    assert len(set(known)) == len(known)


def test_names_are_no_part_of_the_identity(dataset: Dataset) -> None:
    """Neither the recipe's, nor an alias of the architecture, nor the default budget beside a given one."""
    base = Wish("unetplusplus", 0, RECIPE, Budget(steps=6))
    renamed = dataclasses.replace(RECIPE, name="mine.toml", default_epochs=9.0)
    same = [Wish("unet++", 0, RECIPE, Budget(steps=6)), Wish("unetplusplus", 0, renamed, Budget(steps=6))]
    assert {identity(other, dataset) for other in same} == {identity(base, dataset)}


def test_the_default_budget_counts_where_none_is_given(dataset: Dataset) -> None:
    """Five epochs by the recipe are five epochs by the flag."""
    recipes = [dataclasses.replace(RECIPE, default_epochs=epochs) for epochs in (5.0, 6.0)]
    five, six = (identity(Wish("unet", 0, recipe, Budget()), dataset) for recipe in recipes)
    assert five != six
    assert identity(Wish("unet", 0, recipes[1], Budget(epochs=5)), dataset) == five


def test_the_data_are_part_of_the_identity(tmp_path: Path) -> None:
    """Other labels, another split, another legend; where they lie and how the split is ordered plays no part."""
    asked = Wish("linknet", 0, RECIPE, Budget(steps=6))
    first = build_study(tmp_path / "a")
    moved = build_study(tmp_path / "b")
    reordered = dataclasses.replace(first, split=dataclasses.replace(SPLIT, train=SPLIT.train[::-1]))
    swapped = dataclasses.replace(first, split=Split(("a/1", "b/1"), ("a/2",), SPLIT.test, "random"))
    classes = list(first.legend.classes)
    counted = dataclasses.replace(
        first,
        legend=dataclasses.replace(
            first.legend, classes=(dataclasses.replace(classes[0], counted=False), *classes[1:])
        ),
    )
    labels = dataclasses.replace(
        first, scenes=(dataclasses.replace(first.scenes[0], labels_sha256="0" * 64), *first.scenes[1:])
    )
    known = identity(asked, first)
    assert identity(asked, moved) == identity(asked, reordered) == known
    assert len({known, *(identity(asked, other) for other in (swapped, counted, labels))}) == 4


def test_the_order_of_a_split_changes_no_crop(dataset: Dataset, run: Run, tmp_path: Path) -> None:
    """Lists name scenes in any order; the run is the same."""
    reordered = dataclasses.replace(dataset, split=dataclasses.replace(SPLIT, train=SPLIT.train[::-1]))
    assert_same_run(train(wish(reordered), reordered, tmp_path), run)


def test_weights_in_a_file_count_by_what_they_hold(dataset: Dataset, tmp_path: Path) -> None:
    """The path may change, the bytes may not."""
    for name, content in (("a.pth", b"1"), ("b.pth", b"1"), ("c.pth", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (
        identity(wish(dataset, recipe=dataclasses.replace(RECIPE, encoder_weights=str(tmp_path / name))), dataset)
        for name in ("a.pth", "b.pth", "c.pth")
    )
    assert a == b != c


def test_another_wish_of_the_same_name_gets_its_own_folder(dataset: Dataset, run: Run) -> None:
    """The first is left alone; the second carries its identity in the name, and is found there again."""
    study, asked = run.folder.parent.parent, wish(dataset, steps=2)
    folder, found = find_run(asked, dataset, study)
    assert (folder.name, found) == (f"{run.name}-{identity(asked, dataset)[:8]}", None)
    second = train(asked, dataset, study)
    assert second.folder == folder
    assert find_run(asked, dataset, study) == (folder, second)
    assert find_run(wish(dataset), dataset, study) == (run.folder, run)
    assert len(list_runs(study)) == 2


def test_a_twin_lies_beside_its_architecture(dataset: Dataset, tmp_path: Path) -> None:
    """A negative control under a second name."""
    twin = dataclasses.replace(wish(dataset), twin=True)
    assert find_run(twin, dataset, tmp_path)[0].name == "linknet-twin-mobilenetv3_small_050-s0"


def test_the_card_names_all_that_decides(dataset: Dataset, run: Run) -> None:
    """Configuration, data by hash, versions, hardware, sizes."""
    card = run.card
    expected = {
        "arch": "linknet",
        "encoder_weights": "none",
        "seed": 0,
        "budget": BudgetRecord(asked="6 steps", steps=6, validations=3),
        "steps_per_epoch": 4,
        "outputs": (0, 2, 3),
        "tile": 32,
        "halo": 4,
        "in_channels": 3,
        "dtype": "uint8",
        "mean": dataset.mean,
        "std": dataset.std,
        "legend_sha256": dataset.legend.digest(),
        "train_sha256": dataset.train_sha256,
        "split_sha256": dataset.split_sha256,
        "threads": 1,
        "precision": "fp32",
        "device": "cpu",
        "identity": identity(wish(dataset), dataset),
    }
    assert {key: getattr(card, key) for key in expected} == expected
    assert card.recipe == RecipeRecord.of(RECIPE)
    assert card.parameters.total == card.parameters.trainable
    assert (card.parameters.total or 0) > 300_000
    assert set(card.versions) >= {"levelground", "torch", "timm"}


def test_a_network_of_a_wish_is_the_same_each_time(dataset: Dataset) -> None:
    """Initial weights are a function of the wish."""
    first, second = (build_wished(wish(dataset), dataset).network.state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_outputs_are_the_counted_classes_or_all(dataset: Dataset) -> None:
    """The default recipe leaves unknown without an output; the origin recipe gives it one."""
    assert outputs_of(RECIPE, dataset) == (0, 2, 3)
    assert outputs_of(load_recipe("origin"), dataset) == (0, 1, 2, 3)


def test_both_kinds_of_outputs_are_trained(dataset: Dataset, run: Run, tmp_path: Path) -> None:
    """Three and four."""
    every = train(wish(dataset, steps=1, recipe=dataclasses.replace(RECIPE, outputs="all")), dataset, tmp_path)
    heads = [weights(one)["segmentation_head.0.weight"].shape[0] for one in (run, every)]
    assert heads == [3, 4]


@pytest.mark.parametrize(
    ("tile", "halo", "expected", "said"),
    [
        (32, 4, (32, 4), ""),
        (512, 64, (96, 24), "Tile 96 px in place of 512: no scene is larger."),
        (64, 30, (64, 16), "Halo 16 px in place of 30: a quarter of the tile at most."),
        (0, 64, (0, 0), ""),
    ],
)
def test_a_recipe_is_fitted_to_the_scenes(
    dataset: Dataset, capsys: pytest.CaptureFixture[str], tile: int, halo: int, expected: tuple[int, int], said: str
) -> None:
    """The largest scene is 64 × 96 px; what changes is said."""
    fitted = fit_recipe(dataclasses.replace(RECIPE, tile=tile, halo=halo), dataset)
    assert (fitted.tile, fitted.halo) == expected
    assert said in capsys.readouterr().err


def test_fitting_says_where_auto_leads(dataset: Dataset) -> None:
    """So that the card and the identity name the source."""
    assert fit_recipe(Recipe(), dataset).encoder_weights == "package"
    assert fit_recipe(dataclasses.replace(Recipe(), encoder="resnet18"), dataset).encoder_weights == "imagenet"


def test_what_cannot_be_trained_is_refused_first() -> None:
    """By shapes alone, before data are read; whole scenes pass as large ones."""
    with pytest.raises(ModelError, match=r"pan with encoder resnet18: cannot run on tiles of 64 px"):
        check_wish(
            Wish("pan", 0, dataclasses.replace(RECIPE, encoder="resnet18", tile=64), Budget()), bands=3, n_outputs=6
        )
    check_wish(Wish("pspnet", 0, load_recipe("origin"), Budget()), bands=3, n_outputs=7)
    with pytest.raises(ModelError, match=r"deeplabv3 with encoder resnet18: cannot train at batch 1"):
        check_wish(Wish("deeplab", 0, load_recipe("origin"), Budget()), bands=3, n_outputs=7)


def test_whole_scenes_that_do_not_stack_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    """The remedy is in the message."""
    asked = wish(dataset, recipe=dataclasses.replace(RECIPE, tile=0))
    with pytest.raises(ConfigError, match=r"--tile 0 --batch 2: .+ do not stack\. Give --batch 1\."):
        train(asked, dataset, tmp_path)
    assert not list_runs(tmp_path)


@pytest.mark.parametrize(("bands", "dtype"), [(4, "uint8"), (1, "uint16"), (12, "float32")])
def test_other_imagery_is_trained(tmp_path: Path, bands: int, dtype: str) -> None:
    """Infrared, 16-bit panchromatic, many bands: the loss is a number and falls on what can be seen."""
    rng = np.random.default_rng(0)
    scenes = {}
    for name in "abcd":
        labels = rng.integers(0, 2, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1)
        noise = rng.normal(0, 0.1, (64, 64, bands))
        scenes[name] = ((100 * (1 + labels[..., None] + noise)).astype(dtype), labels)
    dataset = array_dataset(tmp_path, scenes, n_classes=2)
    recipe = dataclasses.replace(RECIPE, lr=1e-2, validations=1)
    trained = train(wish(dataset, steps=16, recipe=recipe), dataset, tmp_path / "study")
    losses = [line.train_loss for line in history(trained) if line.kind == "step"]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    assert trained.card.in_channels == bands
    assert trained.card.dtype == dtype


def test_a_run_that_goes_on_elsewhere_says_what_changed(
    dataset: Dataset, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other versions, threads or precision may give other last bits."""
    write_card(run.folder, dataclasses.replace(run.card, status="stopped", threads=7, versions={"torch": "1.0"}))
    train(wish(dataset), dataset, run.folder.parent.parent)
    said = capsys.readouterr().err
    assert f"{run.name}: threads were 7, now 1: the weights may differ in the last bits." in said
    assert f"{run.name}: versions were {{'torch': '1.0'}}, now " in said
    assert "precision were" not in said
    assert read_run(run.folder).card.status == "finished"


def test_a_run_that_was_begun_keeps_its_number_of_steps(dataset: Dataset, run: Run) -> None:
    """Minutes are not timed again."""
    card = dataclasses.replace(run.card, budget=BudgetRecord(asked="1 minutes", steps=11, validations=2))
    asked = dataclasses.replace(wish(dataset), budget=Budget(minutes=1))
    plan = make_plan(asked, dataset, run.folder, RUNTIME, Run(run.folder, card))
    assert (plan.steps, plan.validations) == (11, 2)
