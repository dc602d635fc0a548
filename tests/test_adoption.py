import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from builders.study import ENCODER, SIZES, SPLIT, add_run, small_model
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import confusion_matrix

from levelground.adoption.adopted_runs import TrainingName
from levelground.adoption.predictions import adopt_predictions
from levelground.adoption.weights import adopt_weights
from levelground.comparison.compare import compare_runs
from levelground.comparison.tables import scores_table
from levelground.config import PredictionOptions, TileOptions, WeightsOptions
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, LevelgroundError, SceneError, WeightsError
from levelground.evaluation.evaluate import evaluate_run
from levelground.history import read_history
from levelground.imagery.legend import IGNORE
from levelground.inference.sliding_window import sliding_window_inference
from levelground.metrics.counts import read_counts
from levelground.metrics.scores import miou
from levelground.models.loading import load_model
from levelground.models.spec import run_geometry
from levelground.runs import EVALUATION_LOG, AdoptionRecord, Run, read_run
from levelground.runtime import make_runtime

RUNTIME = make_runtime("cpu", "fp32", threads=1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A plain state dict of a small network with one output a class, as the origin study publishes them."""
    path = tmp_path / "linknet_Epochs_4_lf_DiceLoss_lr_0.0002_best.pth"
    torch.save(small_model((0, 1, 2, 3)).network.state_dict(), path)
    return path


def adopt(weights: Path, dataset: Dataset, *, name: str | None = None, **options: object) -> Run:
    """Adopt with the encoder given: timm has too many to try."""
    given = WeightsOptions(**({"encoder": ENCODER} | options))  # type: ignore[arg-type]
    return adopt_weights(weights, dataset, given, TrainingName(name))


def test_adopted_weights_are_a_run_that_is_evaluated_like_any_other(
    dataset: Dataset, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The architecture is told by the tensors and said; nothing is claimed about training."""
    run = adopt(weights, dataset)
    assert capsys.readouterr().err == (
        f"{weights.name}: taken for linknet with encoder {ENCODER} and 4 outputs, by its tensors.\n"
    )
    assert (run.name, run.arch, run.encoder) == ("linknet-mobilenetv3_small_050-adopted", "linknet", ENCODER)
    assert (run.adopted, run.seed, run.card.recipe, run.card.train_sha256) == (True, None, None, None)
    assert (run.card.outputs, run.card.mean, run.card.std) == ((0, 1, 2, 3), (0.0,) * 3, (255.0,) * 3)
    assert run.card.parameters.total == sum(p.numel() for p in small_model((0, 1, 2, 3)).network.parameters())
    run = evaluate_run(run, dataset, "test", runtime=RUNTIME)
    assert len(read_counts(run.counts_path("test")).scenes) == 3
    dice = run.card.evaluations["test"].dice_loss
    assert dice is not None
    assert 0 < dice < 1
    table = scores_table(compare_runs([run]))
    assert (table.header[-1], table.rows[0][-1]) == ("Dice loss", f"{dice:.3f}")


def test_adopted_weights_give_the_very_network(dataset: Dataset, weights: Path) -> None:
    """Saved and loaded again, it computes what it computed."""
    network = load_model(adopt(weights, dataset)).network
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(image), small_model((0, 1, 2, 3)).network.eval()(image))


def test_an_smp_network_of_the_origins_kind_is_told_whole(dataset: Dataset, tmp_path: Path) -> None:
    """U-Net with resnet18, seven classes: all told by tensors; its outputs have to be named for another legend."""
    path = tmp_path / "best.pth"
    torch.save(smp.Unet("resnet18", encoder_weights=None, classes=3).state_dict(), path)
    run = adopt_weights(path, dataset, WeightsOptions())
    assert (run.name, run.arch, run.encoder) == ("unet-resnet18-adopted", "unet", "resnet18")
    assert run.card.outputs == (0, 2, 3)


@pytest.mark.parametrize("form", ["safetensors", "wrapped", "checkpoint"])
def test_other_forms_of_the_same_weights_are_read(dataset: Dataset, weights: Path, tmp_path: Path, form: str) -> None:
    """Safetensors, names with a wrapper's prefix, and a checkpoint around the state dict."""
    state = torch.load(weights, weights_only=True)
    path = tmp_path / ("a.safetensors" if form == "safetensors" else "a.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save(wrapped if form == "wrapped" else {"state_dict": state, "epoch": 4}, path)
    run = adopt(path, dataset, arch="linknet")
    assert run.arch == "linknet"


def test_the_same_weights_are_adopted_once_and_keep_their_evaluations(dataset: Dataset, weights: Path) -> None:
    """A second time renews the card: what was counted stays counted."""
    run = adopt(weights, dataset)
    run = evaluate_run(run, dataset, "test", runtime=RUNTIME, tiles=TileOptions(tile=32))
    again = adopt(weights, dataset)
    assert again.card.evaluations == run.card.evaluations
    assert again.card.tile == 32
    evaluate_run(again, dataset, "test", runtime=RUNTIME)
    assert len((dataset.folder / EVALUATION_LOG).read_text().splitlines()) == 1


def test_the_history_becomes_the_runs(dataset: Dataset, weights: Path, tmp_path: Path) -> None:
    """With its own metric's name; adopting again writes it once."""
    history = tmp_path / "unet_trainhist.json"
    history.write_text(json.dumps({"val_meanIoU": [0.6, 0.7], "tl": [0.5, 0.4], "metadata": {"lr": 0.0002}}))
    for _ in range(2):
        run = adopt(weights, dataset, history=history)
    lines = read_history(run.folder)
    assert [line.val_image_iou for line in lines if line.kind == "val"] == [0.6, 0.7]
    assert [line.train_loss for line in lines if line.kind == "step"] == [0.5, 0.4]
    made = AdoptionRecord(weights=weights.name, normalise="none", metadata={"lr": 0.0002})
    assert run.card.adopted_from == made


def test_normalisation_is_as_it_was_in_training(dataset: Dataset, weights: Path) -> None:
    """Values 0 to 1, ImageNet's means, or the training scenes'; each is another run."""
    data = adopt(weights, dataset, normalise="data", name="data")
    assert (data.card.mean, data.card.std) == (dataset.mean, dataset.std)
    imagenet = adopt(weights, dataset, normalise="imagenet", name="imagenet")
    assert imagenet.card.mean == pytest.approx([123.675, 116.28, 103.53])
    assert imagenet.card.std == pytest.approx([58.395, 57.12, 57.375])


def test_imagenets_means_are_for_three_bands_of_eight_bits(dataset: Dataset, weights: Path) -> None:
    """Other imagery has to be normalised as it was."""
    text = (
        "--normalise imagenet: its means are for 3 bands of uint8, the scenes have 3 of uint16. "
        "Pass --normalise data or none."
    )
    assert_adoption_refused(
        ConfigError, text, weights, dataclasses.replace(dataset, dtype="uint16"), normalise="imagenet"
    )


def assert_adoption_refused(
    error: type[LevelgroundError], text: str, weights: Path, dataset: Dataset, **more: object
) -> None:
    """Adoption stops with this message and leaves no run."""
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        adopt(weights, dataset, **more)
    assert not list(dataset.folder.glob("runs/*/run.json"))


def test_weights_that_do_not_fit_name_the_first_tensor(dataset: Dataset, weights: Path) -> None:
    """The shape found, the shape expected, and the remedy."""
    name = weights.name
    text = (
        f"{name}: does not fit unet with encoder {ENCODER} for 3 bands and 4 outputs: "
        "decoder.blocks.0.conv1.0.weight is missing. "
        "Pass the --arch, --encoder and --decoder NAME=VALUE that it was trained with."
    )
    assert_adoption_refused(WeightsError, text, weights, dataset, arch="unet")
    text = (
        f"{name}: does not fit linknet with encoder resnet18 for 3 bands and 4 outputs: "
        "encoder.conv1.weight is missing. Pass the --arch, --encoder and --decoder NAME=VALUE that it was trained with."
    )
    assert_adoption_refused(WeightsError, text, weights, dataset, arch="linknet", encoder="resnet18")
    state = torch.load(weights, weights_only=True)
    torch.save(state | {"segmentation_head.0.bias": torch.zeros(5)}, weights)
    text = (
        f"{name}: does not fit linknet with encoder {ENCODER} for 3 bands and 4 outputs: "
        "segmentation_head.0.bias is (5,), expected (4,). "
        "Pass the --arch, --encoder and --decoder NAME=VALUE that it was trained with."
    )
    assert_adoption_refused(WeightsError, text, weights, dataset, arch="linknet")


def test_a_pickle_with_code_in_it_is_not_run(dataset: Dataset, tmp_path: Path) -> None:
    """Only tensors are read."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    path = tmp_path / "trap.pth"
    torch.save({"encoder.a": Trap()}, path)
    with pytest.raises(WeightsError, match=r"trap\.pth: no plain weights"):
        adopt_weights(path, dataset, WeightsOptions())
    assert not (tmp_path / "sprung").exists()


def test_the_number_of_classes_is_checked(dataset: Dataset, weights: Path) -> None:
    """What was said against what is there."""
    text = f"--classes 7: {weights.name} has 4 outputs. Pass --classes 4."
    assert_adoption_refused(ConfigError, text, weights, dataset, classes=7)


def test_outputs_that_are_neither_all_nor_counted_classes_have_to_be_named(dataset: Dataset, tmp_path: Path) -> None:
    """Two outputs of a legend with four classes, three counted."""
    path = tmp_path / "two.pth"
    torch.save(small_model((0, 3)).network.state_dict(), path)
    text = (
        "two.pth: has 2 outputs, the legend 'land' has 4 classes, 3 of them counted. "
        "Say which class each output is, several may be one: --outputs 0 1"
    )
    assert_adoption_refused(ConfigError, text, path, dataset)
    for outputs in ((0,), (0, 4)):
        given = " ".join(map(str, outputs))
        text = f"--outputs {given}: expected 2 class indices from 0 to 3, one an output."
        assert_adoption_refused(ConfigError, text, path, dataset, outputs=outputs)
    assert adopt(path, dataset, outputs=(3, 0)).card.outputs == (3, 0)
    assert adopt(path, dataset, outputs=(3, 3), name="one").card.outputs == (3, 3)


def test_a_taken_name_is_refused(dataset: Dataset, weights: Path) -> None:
    """Other weights under one name would mix two models' counts."""
    folder = adopt(weights, dataset).folder
    torch.save(small_model((0, 1, 2, 3), seed=3).network.state_dict(), weights)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{folder}: holds another run. Pass another --name.')}$"):
        adopt(weights, dataset)
    assert adopt(weights, dataset, name="second").name == "second"


@pytest.mark.parametrize("name", ["../x", "a/b", "-", "a b"])
def test_a_name_that_is_no_folder_is_refused(dataset: Dataset, weights: Path, name: str) -> None:
    """A run stays inside its study."""
    text = f"--name {name}: not a name for a folder. Use letters, digits, dot, minus and underscore."
    assert_adoption_refused(ConfigError, text, weights, dataset, name=name)


def write_preds(folder: Path, *, seed: int = 0, split: tuple[str, ...] = SPLIT.test) -> dict[str, NDArray[np.uint8]]:
    """Random masks of class indices, one a scene."""
    preds = {}
    for number, scene in enumerate(split):
        preds[scene] = np.random.default_rng([seed, number]).integers(0, 4, SIZES[scene], np.uint8)
        path = folder / f"{scene}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(preds[scene]).save(path)
    return preds


def test_masks_of_any_tool_become_a_counted_run(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts agree with scikit-learn; there is no loss and no confidence, but there are boundaries."""
    preds = write_preds(tmp_path / "GLNet best")
    run = adopt_predictions(tmp_path / "GLNet best", dataset)
    assert (run.name, run.arch, run.adopted, run.card.outputs) == ("GLNet-best", "unknown", True, ())
    assert read_run(run.folder).card == run.card
    counts = read_counts(run.counts_path("test"))
    for number, scene in enumerate(counts.scenes.tolist()):
        labels = np.asarray(dataset.open(scene).labels)
        valid = labels != IGNORE
        assert np.array_equal(
            counts.counts[number], confusion_matrix(labels[valid], preds[scene][valid], labels=range(4))
        )
        with Image.open(run.preds_folder("test") / f"{scene}.png") as image:
            assert np.array_equal(np.asarray(image), preds[scene])
    assert not counts.loss_pixels.any()
    assert not counts.conf_n.any()
    assert counts.boundary.any()
    assert capsys.readouterr().err.splitlines()[-1] == "GLNet-best: 3 predictions counted on test."
    assert [json.loads(line)["run"] for line in (dataset.folder / EVALUATION_LOG).read_text().splitlines()] == [
        "GLNet-best"
    ]


def test_perfect_masks_score_one(dataset: Dataset, tmp_path: Path) -> None:
    """The truth itself, gaps and all."""
    for scene in SPLIT.test:
        path = tmp_path / "truth" / f"{scene}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((dataset.data / f"{scene}_mask.png").read_bytes())
    counts = read_counts(adopt_predictions(tmp_path / "truth", dataset).counts_path("test"))
    assert miou(counts.counts.sum(axis=0), dataset.legend.counted, "official") == 1.0


def test_the_same_masks_are_counted_once_and_changed_ones_again(dataset: Dataset, tmp_path: Path) -> None:
    """A reuse is no look."""
    write_preds(tmp_path / "m")
    adopt_predictions(tmp_path / "m", dataset)
    adopt_predictions(tmp_path / "m", dataset)
    assert len((dataset.folder / EVALUATION_LOG).read_text().splitlines()) == 1
    write_preds(tmp_path / "m", seed=1)
    before = read_counts(dataset.folder / "runs/m/counts-test.npz").counts
    adopt_predictions(tmp_path / "m", dataset)
    assert len((dataset.folder / EVALUATION_LOG).read_text().splitlines()) == 2
    assert not np.array_equal(before, read_counts(dataset.folder / "runs/m/counts-test.npz").counts)


@pytest.mark.parametrize("earlier", ["", "COUNTING", "BOUNDARY_PX"])
def test_the_same_masks_are_counted_again_where_the_groups_or_the_counting_changed(
    dataset: Dataset, tmp_path: Path, earlier: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a network's evaluation is: the record of counts holds the groups, which intervals resample."""
    write_preds(tmp_path / "m")
    with monkeypatch.context() as patch:
        if earlier:
            patch.setattr(f"levelground.evaluation.evaluate.{earlier}", 0)
        adopt_predictions(tmp_path / "m", dataset)
    regrouped = tuple(dataclasses.replace(scene, group=scene.id) for scene in dataset.scenes)
    later = dataset if earlier else dataclasses.replace(dataset, scenes=regrouped)
    capsys.readouterr()
    run = adopt_predictions(tmp_path / "m", later)
    assert capsys.readouterr().err.splitlines()[-1] == "m: 3 predictions counted on test."
    groups = read_counts(run.counts_path("test")).groups.tolist()
    assert groups == [later.scene(scene).group for scene in SPLIT.test]
    adopt_predictions(tmp_path / "m", later)
    assert capsys.readouterr().err.splitlines()[-1] == "m: these predictions are counted already; reused."


def test_masks_of_both_splits_live_in_one_run(dataset: Dataset, tmp_path: Path) -> None:
    """Validation beside test, each with its counts."""
    write_preds(tmp_path / "m", split=SPLIT.test + SPLIT.val)
    adopt_predictions(tmp_path / "m", dataset)
    run = adopt_predictions(tmp_path / "m", dataset, PredictionOptions(split="val"))
    assert sorted(run.card.evaluations) == ["test", "val"]
    assert read_counts(run.counts_path("val")).scenes.tolist() == ["b/1"]


def test_a_bad_mask_leaves_no_run(dataset: Dataset, tmp_path: Path) -> None:
    """The run's card is written when all masks are counted."""
    write_preds(tmp_path / "m")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "m/c/2.png")
    with pytest.raises(SceneError, match=r"2\.png: mask has 5 × 5 pixels, scene c/2 40 × 80"):
        adopt_predictions(tmp_path / "m", dataset)
    assert not list(dataset.folder.glob("runs/*/run.json"))
    assert not (dataset.folder / EVALUATION_LOG).exists()


@pytest.mark.parametrize("earlier", [True, False])
def test_a_bad_mask_leaves_what_was_there_before(dataset: Dataset, tmp_path: Path, earlier: bool) -> None:
    """No picture of the masks before it, nor a folder; an earlier adoption under the name stays whole."""
    write_preds(tmp_path / "m")
    if earlier:
        adopt_predictions(tmp_path / "m", dataset)
    before = {path: path.read_bytes() for path in dataset.folder.rglob("*") if path.is_file()}
    write_preds(tmp_path / "m", seed=8)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "m/c/2.png")
    with pytest.raises(SceneError, match=r"2\.png: mask has 5 × 5 pixels"):
        adopt_predictions(tmp_path / "m", dataset)
    assert {path: path.read_bytes() for path in dataset.folder.rglob("*") if path.is_file()} == before
    assert (dataset.folder / "runs").exists() == earlier


def test_probabilities_are_counted_like_a_networks(dataset: Dataset, tmp_path: Path) -> None:
    """What a run's network says of each scene, saved as an array, gives the run's counts, confidences and losses."""
    recipe = {"name": "default", "tile": 0, "halo": 0, "loss": "smp-dice"}
    run = evaluate_run(add_run(dataset, recipe=recipe), dataset, "test", runtime=RUNTIME)
    model = load_model(run)
    for scene in SPLIT.test:
        blocks = list(sliding_window_inference(model, dataset.open(scene).pixels, run_geometry(run), RUNTIME))
        probs = np.zeros((3, *SIZES[scene]), np.float32)
        for block in blocks:
            probs[(slice(None), *block.place)] = block.probs.numpy()
        (tmp_path / scene).parent.mkdir(exist_ok=True)
        np.save(tmp_path / f"{scene}.npy", probs)
    theirs = adopt_predictions(tmp_path, dataset)
    mine, other = (read_counts(each.counts_path("test")) for each in (run, theirs))
    for field in ("counts", "boundary", "conf_n", "conf_correct", "loss_pixels"):
        assert np.array_equal(getattr(mine, field), getattr(other, field)), field
    assert np.allclose(mine.loss_sum, other.loss_sum, rtol=1e-5)
    assert other.forward_s.sum() == 0
    ours, found = run.card.evaluations["test"], theirs.card.evaluations["test"]
    assert (found.loss, found.dice_loss) == pytest.approx((ours.loss, ours.dice_loss), rel=1e-5)


def test_classes_beside_probabilities_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    """Half of the scenes would have confidences."""
    write_preds(tmp_path / "m")
    (tmp_path / "m/c/2.png").unlink()
    np.save(tmp_path / "m/c/2.npy", np.full((4, *SIZES["c/2"]), 0.25, np.float32))
    with pytest.raises(SceneError, match=r"2\.npy: some files of the folder hold probabilities and others classes"):
        adopt_predictions(tmp_path / "m", dataset)
