import dataclasses
import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.study import ENCODER, SIZES, SPLIT, add_run, draw_scene, small_model
from PIL import Image

from levelground.cli import main
from levelground.commands import compare as compare_command
from levelground.commands.adopt import AdoptConfig, adopt
from levelground.commands.compare import CompareConfig, compare
from levelground.commands.report import ReportConfig, report
from levelground.config import PredictionOptions, WeightsOptions
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, DataError, RecordError
from levelground.evaluation.evaluate import evaluate_run
from levelground.history import read_history
from levelground.imagery.legend import IGNORE
from levelground.metrics.counts import read_counts
from levelground.reporting.figures import _all_figures
from levelground.runs import read_run
from levelground.runtime import make_runtime


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A plain state dict with an output for every class."""
    path = tmp_path / "linknet_best.pth"
    torch.save(small_model((0, 1, 2, 3)).network.state_dict(), path)
    return path


def test_weights_with_their_history_are_adopted_evaluated_and_compared(
    dataset: Dataset, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands as a user gives them; the comparison says that the protocol is unknown."""
    history = tmp_path / "linknet_trainhist.json"
    history.write_text(json.dumps({"train_loss": [0.5], "val_loss": [0.4], "val_meanIoU": [0.7], "metadata": {}}))
    study = str(dataset.folder)
    flags = ["--arch", "linknet", "--encoder", ENCODER, "--classes", "4", "--history", str(history), "--name", "origin"]
    assert main(["adopt", str(weights), "--study", study, *flags]) == 0
    folder = dataset.folder / "runs" / "origin"
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"Adopted as {folder}. Next: levelground evaluate {study} --runs origin"
    assert [line.val_image_iou for line in read_history(folder)] == [0.7]
    assert main(["evaluate", study, "--device", "cpu", "--threads", "1"]) == 0
    evaluate_run(add_run(dataset), dataset, "test", runtime=make_runtime("cpu", "fp32", threads=1))
    assert main(["compare", study, "--allow-unlike"]) == 0
    record = json.loads((dataset.folder / "comparison.json").read_text(encoding="utf-8"))
    assert [run["adopted"] for run in record["runs"]].count(True) == 1
    assert "unknown_protocol" in [finding["code"] for finding in record["findings"]]


def test_predicted_masks_are_adopted_and_counted(dataset: Dataset, tmp_path: Path) -> None:
    """One command; the current folder is the study where none is named."""
    for scene in SPLIT.test:
        path = tmp_path / "masks" / f"{scene}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros(SIZES[scene], np.uint8)).save(path)
    done = subprocess.run(
        [sys.executable, "-m", "levelground", "adopt", "--predictions", str(tmp_path / "masks"), "--name", "fields"],
        cwd=dataset.folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.splitlines()[-2:] == ["fields: 3 predictions counted on test.", "Next: levelground compare ."]
    counts = read_counts(dataset.folder / "runs/fields/counts-test.npz").counts
    assert counts[:, :, 0].sum() == counts.sum() > 0
    assert read_run(dataset.folder / "runs/fields").adopted


def test_masks_are_counted_on_the_split_that_is_asked_for(dataset: Dataset, tmp_path: Path) -> None:
    """Validation is no look at test."""
    (tmp_path / "masks/b").mkdir(parents=True)
    Image.fromarray(np.full(SIZES["b/1"], 2, np.uint8)).save(tmp_path / "masks/b/1.png")
    run = adopt(
        AdoptConfig(study=dataset.folder, predictions=tmp_path / "masks", reading=PredictionOptions(split="val"))
    )
    assert read_counts(run.counts_path("val")).scenes.tolist() == ["b/1"]
    assert not (dataset.folder / "test_looks.jsonl").exists()


@pytest.mark.parametrize("both", [True, False])
def test_one_of_weights_masks_and_history_is_needed(dataset: Dataset, tmp_path: Path, both: bool) -> None:
    """None is nothing to adopt, weights and masks are two."""
    config = AdoptConfig(study=dataset.folder, **({"weights": tmp_path, "predictions": tmp_path} if both else {}))
    text = "nothing to adopt. Give a file of weights, --predictions FOLDER or --history FILE."
    text = "give either a file of weights or --predictions FOLDER, and not both." if both else text
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        adopt(config)


def test_a_history_is_adopted_alone_and_predictions_join_it(dataset: Dataset, tmp_path: Path) -> None:
    """In this order, and both at once; the curves are drawn with the compared run."""
    (tmp_path / "theirs.csv").write_text("epoch,loss,val_loss\n0,0.9,0.8\n1,0.5,0.6\n", encoding="utf-8")
    network = WeightsOptions(history=tmp_path / "theirs.csv")
    alone = adopt(AdoptConfig(study=dataset.folder, network=network))
    assert (alone.name, alone.adopted, alone.card.evaluations) == ("theirs", True, {})
    assert [line.val_own_loss for line in read_history(alone)] == [0.8, 0.6]
    masks = save_masks(tmp_path / "m", 0.2, 1)
    joined = adopt(AdoptConfig(study=dataset.folder, predictions=masks, name="theirs"))
    both = adopt(AdoptConfig(study=dataset.folder, predictions=masks, network=network, name="both"))
    for run in (joined, both):
        assert [line.train_loss for line in read_history(run)] == [0.9, 0.5]
        assert list(run.card.evaluations) == ["test"]
        assert run.card.adopted_from.masks == "m"
    assert main(["compare", str(dataset.folder)]) == 0


def test_weights_and_a_history_share_a_name_in_either_order(dataset: Dataset, weights: Path, tmp_path: Path) -> None:
    """One run with both, and with what the history says of itself; its seed and evaluations stay."""
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"train_loss": [0.9, 0.5], "val_meanIoU": [0.1, 0.2], "metadata": {"lr": 0.1}}))
    network, history = WeightsOptions(encoder=ENCODER), WeightsOptions(history=log)
    orders = (({"network": history}, {"weights": weights}), ({"weights": weights}, {"network": history}))
    for name, (first, second) in zip(("a", "b"), orders, strict=True):
        for given in (first, second):
            config = AdoptConfig(
                study=dataset.folder, name=name, seed=3, as_="Theirs", **({"network": network} | given)
            )
            run = adopt(config)
        assert [line.train_loss for line in read_history(run.folder)] == [0.9, 0.5]
        card = read_run(run.folder).card
        assert (card.arch, card.known_as, card.seed) == ("linknet", "Theirs", 3)
        assert card.adopted_from is not None
        assert (card.adopted_from.weights, card.adopted_from.metadata) == (weights.name, {"lr": 0.1})
    adopt(AdoptConfig(study=dataset.folder, name="b", network=history))
    assert read_run(dataset.folder / "runs/b").card.seed == 3


def test_twins_are_named(dataset: Dataset, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same weights or predictions under another seed are no second training; others are not spoken of."""
    network = WeightsOptions(encoder=ENCODER)
    masks = save_masks(tmp_path / "masks", 0.2, 1)
    for seed in (0, 1):
        adopt(AdoptConfig(weights=weights, study=dataset.folder, network=network, seed=seed, as_="W"))
        adopt(AdoptConfig(study=dataset.folder, predictions=masks, seed=seed, as_="M"))
    adopt(AdoptConfig(study=dataset.folder, predictions=save_masks(tmp_path / "other", 0.2, 2), seed=2, as_="M"))
    said = [line for line in capsys.readouterr().err.splitlines() if "bit for bit" in line]
    text = "Warning: {} of {}, bit for bit: one training under two names, which says nothing of another seed."
    assert said == [text.format("W-s1: has the weights", "W-s0"), text.format("M-s1: has the predictions", "M-s0")]


def test_a_history_alone_is_drawn_beside_what_is_compared(dataset: Dataset, tmp_path: Path) -> None:
    """On the page and in the pictures, under its name and in a colour of its own."""
    (tmp_path / "theirs.csv").write_text("epoch,train_loss,val_loss\n1,0.9,0.8\n2,0.5,0.6\n")
    adopt(AdoptConfig(study=dataset.folder, network=WeightsOptions(history=tmp_path / "theirs.csv")))
    for seed in (0, 1):
        adopt(
            AdoptConfig(study=dataset.folder, predictions=save_masks(tmp_path / f"m{seed}", 0.2, seed), name=f"m{seed}")
        )
    comparison = compare(CompareConfig(runs=(dataset.folder,)))
    page = report(ReportConfig(dataset.folder, figures=())).read_text()
    assert "theirs ends at 0.500" in page
    assert ".r2{--run" in page
    curves = islice(_all_figures(comparison, dataset.folder, None), 6)
    assert [name for name, figure in curves if figure] == ["train_loss_epochs", "val_loss_steps", "val_loss_epochs"]


def test_a_history_that_is_refused_leaves_no_run(dataset: Dataset, tmp_path: Path) -> None:
    """Neither alone nor beside predictions."""
    (tmp_path / "log.csv").write_text("name,size\na,1\n", encoding="utf-8")
    for masks in (None, save_masks(tmp_path / "m", 0.2, 1)):
        with pytest.raises(DataError, match=r"log\.csv: no training history"):
            adopt(
                AdoptConfig(
                    study=dataset.folder, predictions=masks, network=WeightsOptions(history=tmp_path / "log.csv")
                )
            )
        assert not (dataset.folder / "runs").exists()


def test_flags_of_weights_beside_masks_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    """The flag is named."""
    text = "--arch describes weights, --predictions gives masks. Leave --arch away."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        adopt(AdoptConfig(study=dataset.folder, predictions=tmp_path, network=WeightsOptions(arch="unet")))


def test_a_folder_that_is_no_study_is_named(tmp_path: Path, weights: Path) -> None:
    """Scenes and legend have to be known first."""
    text = (
        f"{tmp_path / 'dataset.json'}: no such record; expected a dataset written by levelground. Give the folder of a "
        "study, or run levelground prepare first."
    )
    with pytest.raises(RecordError, match=f"^{re.escape(text)}$"):
        adopt(AdoptConfig(weights=weights, study=tmp_path))


def test_help_explains_every_flag_and_loads_no_torch() -> None:
    """The command's own help is quick."""
    script = (
        "import sys; from levelground.cli import main\n"
        "status = main(['adopt', '--help-all']); print(status, 'torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False False"
    for flag in ("--study", "--arch", "--encoder", "--classes", "--history", "--predictions", "--snap-colours"):
        assert flag in done.stdout


def save_masks(folder: Path, wrong: float, seed: int) -> Path:
    """Masks of the test scenes that agree with the labels but for a share of the pixels."""
    rng = np.random.default_rng(seed)
    for number, scene in enumerate(SIZES):
        if scene in SPLIT.test:
            labels = draw_scene(*SIZES[scene], number)[1]
            noisy = np.where((rng.random(labels.shape) < wrong) | (labels == IGNORE), rng.integers(0, 4), labels)
            path = folder / f"{scene}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noisy.astype(np.uint8)).save(path)
    return folder


def test_trainings_under_one_name_are_an_architecture(dataset: Dataset, tmp_path: Path) -> None:
    """Three sets of masks of two other tools each: verdicts speak of the tools; a lone run stays beside them."""
    study = str(dataset.folder)
    for arch, wrong in (("GLNet (ours)", 0.1), ("MagNet", 0.4)):
        for seed in range(3):
            masks = save_masks(tmp_path / f"{arch}{seed}", wrong, seed)
            flags = ["--as", arch, "--seed", str(seed)]
            assert main(["adopt", "--predictions", str(masks), "--study", study, *flags]) == 0
    assert main(["adopt", "--predictions", str(save_masks(tmp_path / "lone", 0.2, 9)), "--study", study]) == 0
    comparison = compare_command.compare(compare_command.CompareConfig(runs=(dataset.folder,)))
    assert sorted(run.label for run in comparison.runs) == [
        *(f"GLNet (ours) s{seed}" for seed in range(3)), *(f"MagNet s{seed}" for seed in range(3)), "lone",
    ]  # fmt: skip
    assert {one.name: len(one.runs) for one in comparison.architectures if len(one.runs) > 1} == {
        "GLNet (ours)": 3, "MagNet": 3,
    }  # fmt: skip
    assert ("GLNet (ours)", "MagNet") in [(pair.a, pair.b) for pair in comparison.architecture_pairs]
    assert read_run(dataset.folder / "runs/GLNet-ours-s2").card.known_as == "GLNet (ours)"


def test_weights_with_a_seed_are_a_training_of_their_own_network(
    dataset: Dataset, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The seed is enough; the same seed once more is told, and the name of another architecture wins."""
    study, network = dataset.folder, WeightsOptions(encoder=ENCODER)
    run = adopt(AdoptConfig(weights=weights, study=study, network=network, seed=4))
    assert (run.name, run.known_as, run.seed, run.alone) == (
        "linknet-mobilenetv3_small_050-adopted-s4",
        "linknet",
        4,
        False,
    )
    adopt(AdoptConfig(weights=weights, study=study, network=network, seed=4, name="again"))
    assert (
        "Warning: again: linknet-mobilenetv3_small_050-adopted-s4 is linknet with seed 4 too" in capsys.readouterr().err
    )
    run = adopt(AdoptConfig(weights=weights, study=study, network=network, seed=4, as_="theirs"))
    assert (run.name, run.arch, run.known_as) == ("theirs-s4", "linknet", "theirs")


def test_masks_counted_already_take_a_new_name_of_their_architecture(dataset: Dataset, tmp_path: Path) -> None:
    """The card is renewed, the counts stay."""
    config = AdoptConfig(study=dataset.folder, predictions=save_masks(tmp_path / "m", 0.2, 1), name="m")
    before = adopt(config)
    after = adopt(dataclasses.replace(config, as_="Theirs", seed=1))
    assert (before.alone, after.alone, after.known_as) == (True, False, "Theirs")
    assert after.card.evaluations == before.card.evaluations


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"as_": "GLNet"}, "--as GLNet: give a name on one line and --seed N, the number that tells this training"),
        ({"as_": " ", "seed": 1}, "--as  : give a name on one line and --seed N"),
        ({"seed": 3}, "--seed 3: masks do not tell of which architecture. Give --as NAME too."),
    ],
)
def test_half_a_name_is_refused(dataset: Dataset, tmp_path: Path, flags: dict[str, Any], text: str) -> None:
    """No run is made."""
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}"):
        adopt(AdoptConfig(study=dataset.folder, predictions=save_masks(tmp_path / "m", 0.2, 1), **flags))
    assert not (dataset.folder / "runs").exists()
