import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.study import ENCODER, SIZES, SPLIT, add_run, small_model
from PIL import Image

from levelground.cli import main
from levelground.commands.adopt import AdoptConfig, adopt
from levelground.config import WeightsOptions
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, RecordError
from levelground.evaluation.evaluate import evaluate_run
from levelground.history import read_history
from levelground.metrics.counts import read_counts
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
    assert done.stderr.splitlines()[-2:] == ["fields: 3 masks counted on test.", "Next: levelground compare ."]
    counts = read_counts(dataset.folder / "runs/fields/counts-test.npz").counts
    assert counts[:, :, 0].sum() == counts.sum() > 0
    assert read_run(dataset.folder / "runs/fields").adopted


def test_masks_are_counted_on_the_split_that_is_asked_for(dataset: Dataset, tmp_path: Path) -> None:
    """Validation is no look at test."""
    (tmp_path / "masks/b").mkdir(parents=True)
    Image.fromarray(np.full(SIZES["b/1"], 2, np.uint8)).save(tmp_path / "masks/b/1.png")
    run = adopt(AdoptConfig(study=dataset.folder, predictions=tmp_path / "masks", split="val"))
    assert read_counts(run.counts_path("val")).scenes.tolist() == ["b/1"]
    assert not (dataset.folder / "test_looks.jsonl").exists()


@pytest.mark.parametrize("both", [True, False])
def test_one_of_weights_and_masks_is_needed(dataset: Dataset, tmp_path: Path, both: bool) -> None:
    """Neither is nothing to adopt, both are two."""
    config = AdoptConfig(study=dataset.folder, **({"weights": tmp_path, "predictions": tmp_path} if both else {}))
    text = "give either a file of weights or --predictions FOLDER, and not both."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        adopt(config)


def test_flags_of_weights_beside_masks_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    """The flag is named."""
    text = "--arch describes weights, --predictions gives masks. Leave --arch away."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        adopt(AdoptConfig(study=dataset.folder, predictions=tmp_path, network=WeightsOptions(arch="unet")))


def test_a_folder_that_is_no_study_is_named(tmp_path: Path, weights: Path) -> None:
    """Scenes and legend have to be known first."""
    text = f"{tmp_path / 'dataset.json'}: no such record; expected a dataset written by levelground."
    with pytest.raises(RecordError, match=f"^{re.escape(text)}$"):
        adopt(AdoptConfig(weights=weights, study=tmp_path))


def test_help_explains_every_flag_and_loads_no_torch() -> None:
    """The command's own help is quick."""
    script = (
        "import sys; from levelground.cli import main\n"
        "status = main(['adopt', '--help']); print(status, 'torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False False"
    for flag in ("--study", "--arch", "--encoder", "--classes", "--history", "--predictions", "--snap-colours"):
        assert flag in done.stdout
