"""Validation scenes scored while a run goes on."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
from builders.study import SIZES, build_study
from builders.training import RECIPE, RUNTIME, small_spec, train

from levelground.config import Recipe
from levelground.datasets.dataset import Dataset
from levelground.datasets.splits import Split
from levelground.errors import ModelError
from levelground.models.loading import load_model
from levelground.recipe_files import BudgetRecord
from levelground.runs import Run
from levelground.training import validation
from levelground.training.prepare_run import make_job
from levelground.training.run_spec import TrainingJob
from levelground.training.validation import (
    choose_rule,
    choose_sample,
    describe_sample,
    open_windows,
    renew_sample,
    shown_pixels,
    validate,
    validation_pixels,
)


def test_validation_is_the_counts_score(dataset: Dataset, undisturbed: Run) -> None:
    """Cross-entropy per counted pixel, and the metrics of the summed counts."""
    job = make_job(small_spec(dataset), dataset, undisturbed.folder, RUNTIME, undisturbed)
    scored = validate(job, load_model(undisturbed))
    assert scored.counts.scenes.tolist() == ["b/1"]
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


@pytest.mark.parametrize("select", ["val_miou", "val_loss"])
@pytest.mark.parametrize("kind", ["no data", "not counted"])
def test_validation_without_a_scored_pixel_chooses_nothing(dataset: Dataset, kind: str, select: str) -> None:
    """Not even where any validation may choose: a loss over no pixel is no loss, and not the lowest one."""
    pixels = (0, 0, 0, 0) if kind == "no data" else (0, 1600, 0, 0)
    scenes = [
        dataclasses.replace(scene, class_pixels=pixels) if scene.id in dataset.ids("val") else scene
        for scene in dataset.scenes
    ]
    made = dataclasses.replace(dataset, scenes=tuple(scenes))
    recipe = dataclasses.replace(Recipe(), select=select, select_groups=0)
    assert choose_rule(made, recipe) == ("last", "validation has no pixel of a class that is scored")


def test_a_loss_over_no_pixel_is_not_a_number(dataset: Dataset, undisturbed: Run) -> None:
    """Zero would be the lowest of all, and be shown as one."""
    job = make_job(small_spec(dataset), dataset, undisturbed.folder, RUNTIME, undisturbed)
    counts = validate(job, load_model(undisturbed)).counts
    nothing = dataclasses.replace(counts, loss_pixels=counts.loss_pixels * 0, loss_sum=counts.loss_sum * 0)
    assert math.isnan(nothing.loss)


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


def job_of(dataset: Dataset, folder: Path, *, arch: str = "linknet", seed: int = 0, **fields: object) -> TrainingJob:
    """A job of six steps on crops of 16 px."""
    recipe = dataclasses.replace(RECIPE, tile=32, halo=4, **fields)  # type: ignore[arg-type]
    return make_job(small_spec(dataset, arch=arch, seed=seed, recipe=recipe), dataset, folder, RUNTIME, None)


@pytest.fixture
def wide(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Three validation scenes of 14 windows, of which a sample may take five."""
    monkeypatch.setattr(validation, "FEWEST_WINDOWS", 5)
    return dataclasses.replace(dataset, split=Split(("a/1", "b/2"), ("a/2", "b/1", "c/1"), ("c/2",), "random", seed=0))


def test_the_sample_is_the_same_for_every_run(wide: Dataset, tmp_path: Path) -> None:
    """Scenes take turns; neither architecture, seed nor folder decides, but the budget does."""
    job = job_of(wide, tmp_path / "a")
    assert job.sample is not None
    assert {name: len(corners) for name, corners in job.sample.items()}.keys() == {"a/2", "b/1", "c/1"}
    assert sum(map(len, job.sample.values())) == 5
    assert max(map(len, job.sample.values())) <= 2
    assert job_of(wide, tmp_path / "b", arch="unet", seed=3).sample == job.sample
    timed = [choose_sample(dataclasses.replace(job, steps=None, total_s=s)) for s in (1e-3, 1e-3, 0.06, 1e9)]
    assert timed[0] == timed[1] == job.sample
    assert timed[2] is not None
    assert sum(map(len, timed[2].values())) > 5
    assert timed[3] is None
    assert job_of(wide, tmp_path / "c", validation_share=1.0).sample is None


def test_windows_lie_apart_inside_their_scene(wide: Dataset, tmp_path: Path) -> None:
    """They are pixels and labels of the scene, one tile below the other."""
    sample = job_of(wide, tmp_path).sample
    assert sample is not None
    for name, corners in sample.items():
        scene, opened = wide.open(name), open_windows(wide, name, corners, 32)
        assert scene.labels is not None
        assert opened.labels is not None
        seen = np.zeros(scene.labels.shape, int)
        for at, (row, col) in enumerate(corners):
            np.testing.assert_array_equal(
                opened.pixels[32 * at : 32 * at + 32], scene.pixels[row : row + 32, col : col + 32]
            )
            np.testing.assert_array_equal(
                opened.labels[32 * at : 32 * at + 32], scene.labels[row : row + 32, col : col + 32]
            )
            seen[row : row + 32, col : col + 32] += 1
        assert seen.sum() == len(corners) * 32 * 32
        assert seen.max() == 1


def test_small_and_whole_scenes_are_opened_whole(wide: Dataset, tmp_path: Path) -> None:
    """Where a scene is smaller than a tile, and in recipes of whole scenes, of which some are left out."""
    assert open_windows(wide, "a/1", ((0, 0),), 96).pixels.shape == wide.open("a/1").pixels.shape
    job = job_of(wide, tmp_path, batch=1, validation_share=0.01)
    whole = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, tile=0, halo=0))
    sample = choose_sample(whole)
    assert sample is not None
    assert list(sample.values()) == [((0, 0),)]


@pytest.fixture
def strips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dataset:
    """Three validation scenes that are narrower than a tile of 32 px, of 20 windows each along two of them."""
    monkeypatch.setattr(validation, "FEWEST_WINDOWS", 9)
    for name, size in {"a/2": (24, 650), "b/1": (650, 24), "c/1": (24, 20)}.items():
        monkeypatch.setitem(SIZES, name, size)
    split = Split(("a/1", "b/2"), ("a/2", "b/1", "c/1"), ("c/2",), "random", seed=0)
    return build_study(tmp_path / "strips", split=split)


def test_scenes_narrower_than_a_tile_are_cut_along_their_long_side(strips: Dataset, tmp_path: Path) -> None:
    """Beside each other, so that each window is a tile; the card counts the pixels that are scored."""
    job = job_of(strips, tmp_path)
    assert job.sample is not None
    assert {name: len(corners) for name, corners in job.sample.items()} == {"a/2": 4, "b/1": 4, "c/1": 1}
    opened = {name: open_windows(strips, name, corners, 32) for name, corners in job.sample.items()}
    assert {name: one.pixels.shape for name, one in opened.items()} == {
        "a/2": (24, 128, 3),
        "b/1": (128, 24, 3),
        "c/1": (24, 20, 3),
    }
    for at, (_, col) in enumerate(job.sample["a/2"]):
        part, scene = slice(32 * at, 32 * at + 32), strips.open("a/2")
        np.testing.assert_array_equal(opened["a/2"].pixels[:, part], scene.pixels[:, col : col + 32])
        assert opened["a/2"].labels is not None and scene.labels is not None
        np.testing.assert_array_equal(opened["a/2"].labels[:, part], scene.labels[:, col : col + 32])
    record = describe_sample(job)
    assert record is not None
    scored = sum(one.pixels.shape[0] * one.pixels.shape[1] for one in opened.values())
    assert (record.windows, record.scenes, record.megapixels) == (9, 3, scored / 1e6)
    assert validate(job, job.model).counts.counts.sum() <= scored


def test_the_work_of_narrow_scenes_counts_what_they_are_padded_with(strips: Dataset, tmp_path: Path) -> None:
    """Sampled and whole: a tile is computed whatever it holds of a scene, and that is what a budget allows for."""
    job = job_of(strips, tmp_path)
    assert validation_pixels(job) == 9 * 32 * 32
    whole = dataclasses.replace(job, sample=None, recipe=dataclasses.replace(job.recipe, halo=0))
    assert validation_pixels(whole) == (21 + 21 + 1) * 32 * 32
    pixels = 2 * 24 * 650 + 24 * 20
    recipe = dataclasses.replace(job.recipe, halo=0, validation_share=0.5, validations=1)
    allowed = 1.1 * pixels / (0.5 * validation.STEP_COST * validation.NOMINAL_PIXELS)
    assert choose_sample(dataclasses.replace(job, recipe=recipe, steps=None, total_s=allowed)) is not None


def test_a_run_of_another_sample_says_so_and_its_card_has_the_new_one(
    wide: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a version may have chosen it that took narrow scenes whole."""
    asked = small_spec(wide)
    run = train(asked, wide, tmp_path)
    job = make_job(asked, wide, run.folder, RUNTIME, run)
    assert renew_sample(run.card, job) == run.card
    assert run.card.budget is not None and run.card.budget.validation_sample is not None
    sample = dataclasses.replace(run.card.budget.validation_sample, sha256="0")
    before = dataclasses.replace(run.card, budget=dataclasses.replace(run.card.budget, validation_sample=sample))
    capsys.readouterr()
    assert renew_sample(before, job) == run.card
    said = " ".join(capsys.readouterr().err.split())
    assert said == f"{run.name}: validations score other windows than an earlier version chose."


def test_a_sample_is_scored_and_stands_on_the_card(wide: Dataset, tmp_path: Path) -> None:
    """Counts are those of the windows alone; the class rule looks at them; a run that goes on takes them again."""
    asked = small_spec(wide)
    run = train(asked, wide, tmp_path)
    assert run.card.budget is not None
    record = run.card.budget.validation_sample
    assert record is not None
    assert (record.windows, record.scenes, record.megapixels) == (5, 3, 5 * 32 * 32 / 1e6)
    job = make_job(asked, wide, run.folder, RUNTIME, run)
    assert describe_sample(job) == record
    assert job.sample is not None
    scored = validate(job, load_model(run))
    assert scored.counts.scenes.tolist() == ["a/2", "b/1", "c/1"]
    shown = shown_pixels(wide, job.sample, 32)
    assert scored.counts.counts.sum(axis=(0, 2)).tolist() == shown.tolist()
    assert 0 < shown.sum() < 5 * 32 * 32 + 1
    whole = dataclasses.replace(
        run, card=dataclasses.replace(run.card, budget=BudgetRecord(asked="6 steps", steps=6, validations=3))
    )
    assert make_job(asked, wide, run.folder, RUNTIME, whole).sample is None


def test_a_class_that_the_sample_lacks_is_missing(wide: Dataset) -> None:
    """Though the scenes hold it."""
    recipe = dataclasses.replace(Recipe(), tile=4)
    sample = dict.fromkeys(wide.ids("val"), ((20, 20),))
    rule, reason = choose_rule(wide, recipe, sample)
    assert rule == "last"
    assert reason is not None
    assert reason.startswith("validation lacks ")
    assert choose_rule(wide, recipe) == ("val_miou", None)


def test_the_price_is_said(wide: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How often, on what, and how long; nothing where whole scenes take no time."""
    job_of(wide, tmp_path / "a")
    said = " ".join(capsys.readouterr().err.split())
    text = (
        r"a: validations: 3, about \d+\.\d s each, on 5 windows of the validation scenes "
        r"\(0\.00512 of 0\.01384 megapixels\), the same"
    )
    assert re.search(text, said)
    job_of(wide, tmp_path / "b", validation_share=1.0)
    assert "validations" not in capsys.readouterr().err
