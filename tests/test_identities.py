"""What finished work is recognised by is what 0.1.0 wrote: digests of models and evaluations.

The values were computed with version 0.1.0; where one changes, users' finished work is done again.
"""

import shutil
from pathlib import Path

import pytest
from builders.onnx_files import write_onnx
from builders.study import add_run

from levelground.datasets.dataset import Dataset
from levelground.evaluation.evaluate import evaluation_identity
from levelground.exporting.model_card import write_model_card
from levelground.models.loading import open_model
from levelground.models.spec import read_model_spec, run_geometry
from levelground.runs import Run
from levelground.runtime import make_runtime

RUNTIME = make_runtime("cpu", "fp32", threads=1)


@pytest.fixture
def run(dataset: Dataset) -> Run:
    """A run with its specification beside the weights."""
    made = add_run(dataset, gsd_m=0.5)
    write_model_card(made)
    return made


def test_digests_of_models(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run, a folder of ours and of others, a file of ours and of others; weights themselves are left out."""
    for name in ("loading.sha256_stamped", "smp_backend.sha256_file", "onnx_backend.sha256_stamped"):
        monkeypatch.setattr(f"levelground.models.{name}", lambda _: "0" * 64)
    ours = shutil.copytree(run.model_folder, tmp_path / "moved")
    theirs = shutil.copytree(ours, tmp_path / "theirs")
    (theirs / "levelground.json").unlink()
    spec = {"levelground": read_model_spec(run).to_json()}
    paths = {
        "run": run.folder,
        "smp of ours": ours,
        "smp of others": theirs,
        "onnx of ours": write_onnx(tmp_path / "own.onnx", n_outputs=3, metadata=spec),
        "onnx of others": write_onnx(tmp_path / "m.onnx"),
    }
    assert {name: open_model(path, RUNTIME).digest for name, path in paths.items()} == {
        "run": "2e9e5cc6d903171fb1835128ec5064da6c802b6cc9795a5b2bead03f61651048",
        "smp of ours": "18f952e4ea1bcc50683b2dbb6a78b12003080d1963784580a0a6c3c2cc76ab73",
        "smp of others": "fd1daf2f6c9fb99af4be596beac24a7b8af90f176edf8f3eafc96763017ad187",
        "onnx of ours": "604eece10d53ff2143f5f346d08ee9b526199fe3bc5cfd151c43cfcd7c5e3dff",
        "onnx of others": "22ba785c469a0e57220e2fc279c94bf1ac404fc2d4f78bf79163e529dc41675e",
    }


def test_identities_of_evaluations(dataset: Dataset, run: Run) -> None:
    """Weights, model, scenes, groups, split, geometry and precision."""
    (run.model_folder / "model.safetensors").write_bytes(b"weights")
    geometry = run_geometry(run)
    assert evaluation_identity(run, dataset, "val", geometry, "fp32") == (
        "a128a57551e25b0f815ea7c686380ed43d57858d6ffea06e02d6a3a60e748c45"
    )
    assert evaluation_identity(run, dataset, "val", geometry, "bf16") == (
        "7b8222de99fbd59428af363b578bf3bbb9eada361abdf356332d53797a108895"
    )
    assert evaluation_identity(run, dataset, "test", geometry, "fp32") == (
        "35d815f184811df5254e60725ace8ace96347d409879c82ecf34b1b3d65b5acd"
    )
