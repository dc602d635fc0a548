"""Run specs: what a run is known by, where it lies, and what it becomes."""

import dataclasses
from pathlib import Path

import pytest
import torch
from builders.study import SPLIT, build_study
from builders.training import RECIPE, RUNTIME, small_spec, train

from levelground.config import Budget, Recipe
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.datasets.splits import Split
from levelground.errors import ModelError, SplitError
from levelground.recipe_files import load_recipe
from levelground.runs import Run, list_runs
from levelground.training.run_spec import (
    RunSpec,
    build_initial_model,
    check_learnable,
    check_run_spec,
    default_workers,
    find_run,
    fit_recipe,
    identity,
    output_classes,
    read_run_spec,
)
from levelground.training.schedule import validation_steps

STUDY_010 = Path(__file__).parent / "data" / "study-0.1.0"
"""A study that version 0.1.0 wrote."""

OTHER_VALUES = {
    "encoder": "resnet18",
    "encoder_weights": "imagenet",
    "outputs": "all",
    "tile": 64,
    "halo": 2,
    "batch": 3,
    "optimiser": "adam",
    "lr": 5e-4,
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
    "select_groups": 5,
    "average": 0.25,
    "validations": 2,
    "validation_share": 0.5,
    "sanity_check": True,
}
"""For every field that decides something, a value other than that of the tests' recipe."""


def test_runs_of_0_1_0_are_found_as_done() -> None:
    """What was asked is read from the card, and has the identity and the folder that 0.1.0 gave it."""
    dataset = read_dataset(STUDY_010)
    for run in list_runs(STUDY_010):
        spec = read_run_spec(run)
        assert identity(spec, dataset) == run.card.identity
        assert find_run(spec, dataset, STUDY_010) == (run.folder, run)


@pytest.mark.parametrize(
    ("arch", "seed", "recipe", "budget", "expected"),
    [
        (
            "Unet++",
            7,
            "origin",
            Budget(minutes=2.5),
            "962f30b2335b2a10f8cb38073d60f3ebeed7e4fe89d5e9a32a22545e43dc8b4b",
        ),
        ("deeplab", 0, "default", Budget(), "2db9d70355e7bd800551dbd4fceb1a23d1b63a8f07aa4fd9b93ef958f9ac3ca4"),
        (
            "unet",
            1003,
            "default",
            Budget(epochs=0.1),
            "843596d640d3d55e039485e414162876db686e93fe2234353c414811a15925ad",
        ),
    ],
)
def test_identities_are_those_of_0_1_0(arch: str, seed: int, recipe: str, budget: Budget, expected: str) -> None:
    """Computed by 0.1.0 on the study that it wrote; the default recipe had other learning rates then."""
    rates = {"lr": 1e-3, "encoder_lr_factor": 0.3} if recipe == "default" else {}
    spec = RunSpec(arch, seed, dataclasses.replace(load_recipe(recipe), encoder_weights="none", **rates), budget)
    assert identity(spec, read_dataset(STUDY_010)) == expected


def test_every_decisive_field_is_part_of_the_identity(dataset: Dataset) -> None:
    """Change any one of them and it is another run."""
    base = RunSpec("linknet", 0, RECIPE, Budget(steps=6))
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
    base = RunSpec("unetplusplus", 0, RECIPE, Budget(steps=6))
    renamed = dataclasses.replace(RECIPE, name="mine.toml", default_epochs=9.0)
    same = [RunSpec("unet++", 0, RECIPE, Budget(steps=6)), RunSpec("unetplusplus", 0, renamed, Budget(steps=6))]
    assert {identity(other, dataset) for other in same} == {identity(base, dataset)}


def test_the_default_budget_counts_where_none_is_given(dataset: Dataset) -> None:
    """Five epochs by the recipe are five epochs by the flag."""
    recipes = [dataclasses.replace(RECIPE, default_epochs=epochs) for epochs in (5.0, 6.0)]
    five, six = (identity(RunSpec("unet", 0, recipe, Budget()), dataset) for recipe in recipes)
    assert five != six
    assert identity(RunSpec("unet", 0, recipes[1], Budget(epochs=5)), dataset) == five


def test_the_data_are_part_of_the_identity(tmp_path: Path) -> None:
    """Other labels, another split, another legend; where they lie and how the split is ordered plays no part."""
    asked = RunSpec("linknet", 0, RECIPE, Budget(steps=6))
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


def test_weights_in_a_file_count_by_what_they_hold(dataset: Dataset, tmp_path: Path) -> None:
    """The path may change, the bytes may not."""
    for name, content in (("a.pth", b"1"), ("b.pth", b"1"), ("c.pth", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (
        identity(small_spec(dataset, recipe=dataclasses.replace(RECIPE, encoder_weights=str(tmp_path / name))), dataset)
        for name in ("a.pth", "b.pth", "c.pth")
    )
    assert a == b != c


def test_another_spec_of_the_same_name_gets_its_own_folder(dataset: Dataset, finished: Run) -> None:
    """The first is left alone; the second carries its identity in the name, and is found there again."""
    study, asked = finished.folder.parent.parent, small_spec(dataset, steps=2)
    folder, found = find_run(asked, dataset, study)
    assert (folder.name, found) == (f"{finished.name}-{identity(asked, dataset)[:8]}", None)
    second = train(asked, dataset, study)
    assert second.folder == folder
    assert find_run(asked, dataset, study) == (folder, second)
    assert find_run(small_spec(dataset), dataset, study) == (finished.folder, finished)
    assert len(list_runs(study)) == 2


def test_a_twin_lies_beside_its_architecture(dataset: Dataset, tmp_path: Path) -> None:
    """A negative control under a second name."""
    twin = dataclasses.replace(small_spec(dataset), twin=True)
    assert find_run(twin, dataset, tmp_path)[0].name == "linknet-twin-mobilenetv3_small_050-s0"


def test_a_network_of_a_spec_is_the_same_each_time(dataset: Dataset) -> None:
    """Initial weights are a function of the spec."""
    first, second = (build_initial_model(small_spec(dataset), dataset)[0].network.state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_outputs_are_the_counted_classes_or_all(dataset: Dataset) -> None:
    """The default recipe leaves unknown without an output; the origin recipe gives it one."""
    assert output_classes(RECIPE, dataset) == (0, 2, 3)
    assert output_classes(load_recipe("origin"), dataset) == (0, 1, 2, 3)


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


def test_training_scenes_that_teach_nothing_are_refused(dataset: Dataset) -> None:
    """No label at all, or none of a class that the network tells."""
    for pixels in ((0, 0, 0, 0), (0, 900, 0, 0)):
        scenes = tuple(dataclasses.replace(scene, class_pixels=pixels) for scene in dataset.scenes)
        with pytest.raises(SplitError, match=r"study: no training scene has a pixel of a class that is learnt\. Label"):
            check_learnable(dataclasses.replace(dataset, scenes=scenes), (0, 2, 3))
    check_learnable(dataset, (0, 2, 3))


def test_what_cannot_be_trained_is_refused_first() -> None:
    """By shapes alone, before data are read; whole scenes pass as large ones."""
    with pytest.raises(ModelError, match=r"pan with encoder resnet18: cannot run on tiles of 64 px"):
        check_run_spec(
            RunSpec("pan", 0, dataclasses.replace(RECIPE, encoder="resnet18", tile=64), Budget()), bands=3, n_outputs=6
        )
    check_run_spec(RunSpec("pspnet", 0, load_recipe("origin"), Budget()), bands=3, n_outputs=7)
    with pytest.raises(ModelError, match=r"deeplabv3 with encoder resnet18: cannot train at batch 1"):
        check_run_spec(RunSpec("deeplab", 0, load_recipe("origin"), Budget()), bands=3, n_outputs=7)


@pytest.mark.parametrize(
    ("validations", "steps", "per_epoch", "expected"),
    [
        (5, 100, 7, {20, 40, 60, 80, 100}),
        (3, 10, 7, {4, 7, 10}),
        (5, 3, 7, {1, 2, 3}),
        (1, 9, 2, {9}),
        (0, 10, 4, {4, 8, 10}),
        (0, 3, 4, {3}),
        (0, 8, 4, {4, 8}),
    ],
)
def test_validation_steps(validations: int, steps: int, per_epoch: int, expected: set[int]) -> None:
    """Evenly, or at the end of every epoch; the last step always."""
    assert validation_steps(validations, steps, per_epoch) == expected


def test_no_loader_processes_on_a_cpu() -> None:
    """They would take the cores from the network."""
    assert default_workers(RUNTIME) == 0
