import json
import re
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from builders.runs import edit_card
from builders.study import ENCODER, LEGEND, add_run, small_model
from PIL import Image
from sklearn.metrics import confusion_matrix

import levelground.evaluation.evaluate
from levelground.config import Recipe, TileOptions
from levelground.datasets.dataset import Dataset, read_dataset, write_dataset
from levelground.datasets.splits import Split
from levelground.errors import ConfigError, LevelgroundError, ModelError, SceneError, UnlikeError, WeightsError
from levelground.evaluation.evaluate import evaluate_run, remove_other_masks, write_mask
from levelground.imagery.legend import IGNORE, default_legend
from levelground.metrics.counts import read_counts
from levelground.models.smp_backend import save_model
from levelground.models.spec import choose_run_geometry, run_geometry
from levelground.runs import EVALUATION_LOG, Run, SpeedRecord, read_run
from levelground.runtime import hardware, make_runtime
from levelground.tile_geometry import TileGeometry, choose_geometry

RUNTIME = make_runtime("cpu", "fp32", threads=1)


@pytest.fixture
def run(dataset: Dataset) -> Run:
    """An untrained network in the study."""
    return add_run(dataset)


def logged(dataset: Dataset) -> list[dict[str, str]]:
    """The study's log of test evaluations."""
    path = dataset.folder / EVALUATION_LOG
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def test_evaluation_leaves_counts_masks_card_and_log(dataset: Dataset, run: Run) -> None:
    """Counts agree with scikit-learn on the masks beside them; card and list say how and when."""
    run = evaluate_run(run, dataset, "test", runtime=RUNTIME)
    counts = read_counts(run.folder / "counts-test.npz")
    assert counts.scenes.tolist() == ["b/2", "c/1", "c/2"]
    for number, name in enumerate(counts.scenes.tolist()):
        with Image.open(run.preds_folder("test") / f"{name}.png") as image:
            assert image.mode == "P"
            assert image.getpalette()[:12] == LEGEND.colours.ravel().tolist()
            preds = np.asarray(image)
        labels = np.asarray(dataset.open(name).labels)
        valid = labels != IGNORE
        assert np.array_equal(counts.counts[number], confusion_matrix(labels[valid], preds[valid], labels=range(4)))
    card = read_run(run.folder).card
    assert card == run.card
    entry = card.evaluations["test"]
    settings = (entry.tile, entry.halo, entry.batch, entry.precision, entry.device)
    assert settings == (64, 8, 256, "fp32", "cpu")
    assert (entry.hardware, entry.threads, entry.engine) == (hardware(), RUNTIME.threads, None)
    assert entry.loss == pytest.approx(counts.loss_sum.sum() / counts.loss_pixels.sum())
    assert card.speed == SpeedRecord(train_images_per_s=3.0, infer_megapixels_per_s=entry.megapixels_per_s)
    assert [line["run"] for line in logged(dataset)] == ["linknet-s0"]
    assert sorted(logged(dataset)[0]) == ["command", "counts_sha256", "crc32", "run", "time"]


def test_what_is_evaluated_is_reused_and_is_not_logged_again(
    dataset: Dataset, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second call reads no scene, changes no file and says so."""
    path = evaluate_run(run, dataset, "test", runtime=RUNTIME).counts_path("test")
    before = path.stat().st_mtime_ns
    capsys.readouterr()
    evaluate_run(read_run(run.folder), dataset, "test", runtime=RUNTIME)
    assert path.stat().st_mtime_ns == before
    assert len(logged(dataset)) == 1
    assert capsys.readouterr().err == "linknet-s0: test is evaluated already; reused.\n"


Change = Literal["tile", "halo", "weights", "labels", "counts file", "masks", "split"]


@pytest.mark.parametrize("change", ["tile", "halo", "weights", "counts file", "masks"])
def test_a_change_of_what_decides_the_counts_evaluates_again(dataset: Dataset, run: Run, change: Change) -> None:
    """TileGeometry, weights and damage of what was written each make a new evaluation."""
    run = evaluate_run(run, dataset, "test", runtime=RUNTIME)
    path = run.counts_path("test")
    tile, halo = None, None
    if change == "tile":
        tile = 32
    elif change == "halo":
        halo = 0
    elif change == "weights":
        save_model(small_model(seed=5), run.model_folder)
    elif change == "counts file":
        path.write_bytes(path.read_bytes()[:-5])
    elif change == "masks":
        shutil.rmtree(run.preds_folder("test"))
    run = evaluate_run(run, dataset, "test", runtime=RUNTIME, tiles=TileOptions(tile=tile, halo=halo))
    assert len(logged(dataset)) == 2
    assert run.card.tile == (tile or 64)
    assert len(list(run.preds_folder("test").rglob("*.png"))) == 3


def test_a_line_that_a_kill_left_out_is_counted_by_the_next_command(dataset: Dataset, run: Run) -> None:
    """The card was written and the list was not; afterwards the log has the line once."""
    evaluate_run(run, dataset, "test", runtime=RUNTIME)
    (dataset.folder / EVALUATION_LOG).unlink()
    for _ in range(2):
        evaluate_run(read_run(run.folder), dataset, "test", runtime=RUNTIME)
        assert len(logged(dataset)) == 1


def test_the_batch_is_no_reason_to_evaluate_again(dataset: Dataset, run: Run) -> None:
    """It decides memory and time only."""
    run = evaluate_run(run, dataset, "test", runtime=RUNTIME, tiles=TileOptions(batch=1))
    evaluate_run(run, dataset, "test", runtime=RUNTIME, tiles=TileOptions(batch=3))
    assert len(logged(dataset)) == 1


def test_evaluations_on_validation_are_not_logged(dataset: Dataset, run: Run) -> None:
    """Each split has its own counts, masks and entry."""
    run = evaluate_run(run, dataset, "val", runtime=RUNTIME)
    assert read_counts(run.counts_path("val")).scenes.tolist() == ["b/1"]
    assert not logged(dataset)
    assert not run.counts_path("test").exists()
    assert sorted(run.card.evaluations) == ["val"]


def test_an_evaluation_that_breaks_off_leaves_no_counts(
    dataset: Dataset, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older counts are gone before the new ones begin, so that they cannot be taken for them."""
    run = evaluate_run(run, dataset, "test", runtime=RUNTIME)

    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(levelground.evaluation.evaluate, "score_scenes", broken)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run, dataset, "test", runtime=RUNTIME, tiles=TileOptions(tile=32))
    assert not run.counts_path("test").exists()
    assert read_run(run.folder).card.evaluations == {}


def test_the_origin_recipe_gets_its_dice_loss_beside_cross_entropy(dataset: Dataset) -> None:
    """The mean over scenes, as at batch 1; other recipes have none."""
    run = add_run(dataset, "origin-s0", recipe={"name": "origin", "tile": 0, "halo": 0, "loss": "smp-dice"})
    run = evaluate_run(run, dataset, "test", runtime=RUNTIME)
    assert 0 < (run.card.evaluations["test"].dice_loss or 0) < 1
    assert (run.card.tile, run.card.halo) == (0, 0)


def test_masks_of_scenes_that_left_the_split_are_removed(tmp_path: Path) -> None:
    """What the report draws belongs to the counts beside it."""
    for name in ("a/1", "a/2.5", "b"):
        write_mask(tmp_path / f"{name}.png", np.zeros((2, 2), np.uint8), LEGEND)
    remove_other_masks(tmp_path, {"a/2.5", "b"})
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")) == ["a/2.5.png", "b.png"]


def test_labels_newer_than_the_data_set_are_warned_of(
    dataset: Dataset, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cache still holds the labels of the record; the file on disk is another now."""
    path = dataset.data / "c/1_mask.png"
    path.write_bytes(path.read_bytes())
    evaluate_run(run, dataset, "test", runtime=RUNTIME)
    warning = f"Warning: {path} is newer than dataset.json. Run levelground prepare again to count against it."
    assert warning in capsys.readouterr().err.splitlines()


def assert_evaluation_refused(error: type[LevelgroundError], text: str, run: Run, dataset: Dataset) -> None:
    """Evaluation stops with this message, and nothing is written."""
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        evaluate_run(run, dataset, "test", runtime=RUNTIME)
    assert not run.counts_path("test").exists()


def test_another_legend_is_refused(dataset: Dataset) -> None:
    """Class 2 there is not class 2 here."""
    run = add_run(dataset, legend_sha256=default_legend(4).digest())
    text = (
        f"linknet-s0: learnt another legend than 'land' of {dataset.folder}. "
        "Evaluate it on the data it was trained on, or train it anew."
    )
    assert_evaluation_refused(UnlikeError, text, run, dataset)


def test_a_run_that_learnt_from_other_scenes_is_refused(dataset: Dataset, run: Run) -> None:
    """After another split its training scenes may be among the test scenes."""
    split = Split(("a/1", "c/1"), ("b/1",), ("b/2", "a/2", "c/2"), "random", seed=1)
    write_dataset(Dataset(**(vars_of(dataset) | {"split": split})), dataset.folder)
    text = (
        "linknet-s0: learnt from other scenes or labels than the training and validation scenes of "
        f"{dataset.folder}; they may be among the test scenes. Train it anew on this data set."
    )
    assert_evaluation_refused(UnlikeError, text, run, read_dataset(dataset.folder))


def vars_of(dataset: Dataset) -> dict[str, object]:
    """The fields of a data set."""
    return {name: getattr(dataset, name) for name in dataset.__dataclass_fields__}


def test_masks_without_a_model_cannot_be_evaluated(dataset: Dataset) -> None:
    """The remedy is to adopt them again."""
    run = add_run(dataset, outputs=[])
    text = "linknet-s0: holds predicted masks and no model. Count them anew with levelground adopt --predictions."
    assert_evaluation_refused(ModelError, text, run, dataset)


def test_joined_runs_cannot_be_evaluated(dataset: Dataset) -> None:
    """Their folds can."""
    run = add_run(dataset, outputs=[], folds=["folds/1/runs/linknet-s0"], train_sha256="1" * 64)
    text = "linknet-s0: joins the counts of 1 folds and has no model of its own. Give the run of a fold, "
    text += f"such as {dataset.folder / 'folds/1/runs/linknet-s0'}."
    assert_evaluation_refused(ModelError, text, run, dataset)


def test_other_bands_are_refused(dataset: Dataset) -> None:
    """Both numbers are named."""
    run = add_run(dataset, in_channels=4)
    text = "linknet-s0: reads 4 bands, the scenes have 3. Evaluate it on imagery with the same bands."
    assert_evaluation_refused(ModelError, text, run, dataset)


def test_a_run_without_weights_is_refused(dataset: Dataset, run: Run) -> None:
    """Training was not finished."""
    weights = run.model_folder / "model.safetensors"
    weights.unlink()
    assert_evaluation_refused(WeightsError, f"{weights}: no weights. Train the run to its end first.", run, dataset)


def test_changed_labels_in_the_cache_are_refused(dataset: Dataset, run: Run) -> None:
    """One pixel is enough."""
    path = dataset.cache / dataset.scene("c/2").labels_key[:2] / f"{dataset.scene('c/2').labels_key}.npy"
    content = bytearray(path.read_bytes())
    content[-25] = (content[-25] + 1) % 3
    path.write_bytes(content[:-24])  # the last value, and no checksum, as version 0.1.0 wrote it
    with pytest.raises(SceneError, match=r"^c/2: its labels have hash [0-9a-f]{12}…, dataset.json records "):
        evaluate_run(run, dataset, "test", runtime=RUNTIME)


def test_the_runs_own_geometry_is_the_default(run: Run) -> None:
    """The recipe's, else what the card says, else the default recipe's; the batch fills a megapixel."""
    own = run_geometry(run)
    assert choose_geometry(own) == TileGeometry(64, 8, 256)
    evaluated = run_geometry(edit_card(run, recipe={}, tile=96, halo=10))
    assert choose_geometry(evaluated) == TileGeometry(96, 10, 113)
    unknown = run_geometry(edit_card(run, recipe={}, tile=None, halo=None))
    assert choose_geometry(unknown) == TileGeometry(Recipe().tile, Recipe().halo, 4)
    assert choose_geometry(own, TileOptions(tile=0)) == TileGeometry(0, 0, 1)
    assert choose_geometry(own, TileOptions(tile=2048)) == TileGeometry(2048, 256, 1)
    assert choose_geometry(own, TileOptions(tile=512), device="cuda").batch == 32
    assert choose_geometry(own, TileOptions(halo=4, batch=2)) == TileGeometry(64, 4, 2)
    fitted = TileOptions(fit_tile=True)
    assert choose_geometry(unknown, fitted, shape=(2448, 2448)) == TileGeometry(896, 56, 1)
    assert choose_geometry(TileGeometry(0, 0), fitted, shape=(2448, 2448)) == TileGeometry(0, 0, 1)
    with pytest.raises(ConfigError, match=r"^--fit-tile chooses the tile\. Leave --tile 64 away\.$"):
        choose_run_geometry(run, TileOptions(tile=64, fit_tile=True))
    with pytest.raises(ConfigError, match=r"^--fit-tile: .+ takes tiles of 64 only\. Leave --fit-tile away\.$"):
        choose_run_geometry(edit_card(run, fixed_tile=True, recipe=None, tile=64, halo=8), fitted)


def test_an_impossible_geometry_is_refused_before_anything_is_read(dataset: Dataset, run: Run) -> None:
    """The message has the remedy."""
    text = "--tile 100: the network needs a multiple of 32. Pass --tile 96."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        evaluate_run(run, dataset, "test", runtime=RUNTIME, tiles=TileOptions(tile=100))


def test_the_small_run_is_what_its_card_says(run: Run) -> None:
    """A guard of the fixtures: the tests above run a real network."""
    assert run.encoder == ENCODER
    assert (run.model_folder / "model.safetensors").stat().st_size > 1_000_000
