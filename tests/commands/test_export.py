"""The export command, end to end."""

import json
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from builders.study import add_run, small_model

from levelground.cli import main
from levelground.config import ExportOptions
from levelground.datasets.dataset import Dataset
from levelground.exporting import export
from levelground.models.loading import load_model, open_model
from levelground.models.model import Model
from levelground.models.smp_backend import save_model
from levelground.runs import Run
from levelground.runtime import make_runtime
from levelground.tile_geometry import TileGeometry


def refusal_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that is the user's fault."""
    capsys.readouterr()
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in lines if "Error: " in line]) == 1
    return lines[-1]


def folder_of(run: Run) -> set[str]:
    """What lies in the export folder, beside the lock and the hashes."""
    return {path.name for path in (run.folder / "export").iterdir()} - {".lock", "hashes.json"}


def test_an_smp_folder_loads_with_smp(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """The library's own loader gives the network to the bit; the folder has a card and a model specification."""
    run = add_run(dataset, "smp", dtype="uint8")
    assert main(["export", str(run.folder), "--to", "smp", "--gsd", "0.25"]) == 0
    folder = run.folder / "export" / "smp"
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "hashes.json",
        "model.safetensors",
        "README.md",
        "levelground.json",
    }
    assert folder_of(run) == {"smp", "parity.json"}
    capsys.readouterr()
    network, image = smp.from_pretrained(folder).eval(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network(image), load_model(run).network(image))
    found = open_model(folder, make_runtime("cpu", "fp32", threads=1))
    assert (found.spec.name, found.spec.outputs, found.spec.gsd_m) == ("smp", (0, 2, 3), 0.25)
    assert (found.spec.geometry, found.spec.dtype) == (TileGeometry(64, 8), "uint8")
    report = json.loads((run.folder / "export" / "parity.json").read_text())["smp"]
    assert (report["max_difference"], report["equal_classes"], report["holds"]) == (0.0, 1.0, True)
    assert "Ground sample distance: 0.25 m a pixel." in (folder / "README.md").read_text(encoding="utf-8")


def test_an_export_is_replaced_only_when_asked(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """The old one stays until the new one is checked; other forms in the report stay."""
    run = add_run(dataset, "again")
    assert main(["export", str(run.folder), "--to", "smp"]) == 0
    assert refusal_line(["export", str(run.folder), "--to", "onnx", "smp"], capsys).endswith(
        "smp: exists already. Pass --overwrite to replace it."
    )
    assert folder_of(run) == {"smp", "parity.json"}
    parity = run.folder / "export" / "parity.json"
    parity.write_text(json.dumps(json.loads(parity.read_text()) | {"onnx": {"holds": True}, "other": 1}))
    save_model(small_model(seed=9), run.model_folder)
    assert main(["export", str(run.folder), "--to", "smp", "--overwrite"]) == 0
    report = json.loads(parity.read_text())
    assert set(report) == {"schema", "kind", "onnx", "smp"}
    assert report["smp"]["equal_classes"] == 1.0


def test_an_export_that_says_something_else_is_not_left(
    dataset: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the exported network differs, one line says by how much, and what was there before stays."""
    run = add_run(dataset, "wrong")
    assert main(["export", str(run.folder), "--to", "smp"]) == 0
    before = (run.folder / "export" / "parity.json").read_bytes()

    def write_another(run: Run, model: Model, folder: Path) -> None:
        export._smp(run, model.with_forward(small_model(seed=3).network), folder)

    monkeypatch.setitem(export._WRITERS, "smp", write_another)
    line = refusal_line(["export", str(run.folder), "--to", "smp", "--overwrite"], capsys)
    assert line.startswith("ModelError: wrong: the exported model is not the network: probabilities differ by ")
    assert line.endswith(
        "0.001 at most and 99.9 % at least are allowed. Nothing was exported; try another --tile, or --to onnx."
    )
    assert folder_of(run) == {"smp", "parity.json"}
    assert (run.folder / "export" / "parity.json").read_bytes() == before


def test_a_killed_exports_leftovers_are_swept_up(dataset: Dataset) -> None:
    """The next export removes what one that was killed had begun."""
    run = add_run(dataset, "killed")
    begun = run.folder / "export" / ".unfinished-x"
    begun.mkdir(parents=True)
    (begun / "model.onnx").write_bytes(b"half")
    assert main(["export", str(run.folder), "--to", "smp"]) == 0
    assert not begun.exists()


def test_what_clients_cannot_know_is_said(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is exported: an unknown ground sample distance, 16 bits, whole scenes, a tile that cannot be."""
    card = {"dtype": "uint16", "tile": 0, "halo": 0, "recipe": {"tile": 0, "halo": 0}}
    run = add_run(dataset, "said", **card)
    run.model_folder.joinpath("model.safetensors").unlink()
    line = refusal_line(["export", str(run.folder)], capsys)
    assert line.endswith("no model.safetensors. Train the run to its end, or adopt the weights anew.")
    line = refusal_line(["export", str(run.folder), "--tile", "100"], capsys)
    assert line == "ConfigError: --tile 100: the network needs a multiple of 32. Pass --tile 96."


def test_notes_about_clients(capsys: pytest.CaptureFixture[str], dataset: Dataset) -> None:
    """Bands, type and ground sample distance that Deepness and geodeep treat in their own way."""
    import dataclasses

    from levelground.models.spec import read_model_spec

    spec = read_model_spec(add_run(dataset, "notes", dtype="uint16"))
    fitted = export.chosen_spec(dataclasses.replace(spec, geometry=TileGeometry(0, 0)), ExportOptions())
    assert (fitted.geometry.tile, fitted.geometry.halo) == (512, 64)
    export._warn_of_clients(dataclasses.replace(spec, mean=(1.0,) * 4, std=(1.0,) * 4))
    said = capsys.readouterr().err
    for line in (
        "notes: was trained on whole scenes; exported for tiles of 512 px. Or pass --tile.",
        "notes: ground sample distance unknown; the file says 10 cm a pixel, geodeep's default. Pass --gsd to name it.",
        "notes: reads 4 bands; geodeep runs models of 3 bands only.",
        "notes: learnt from uint16; Deepness and geodeep scale such rasters in their own way.",
    ):
        assert line in said


def test_masks_and_missing_runs_are_refused(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to export of a run of masks, or where there is no run."""
    run = add_run(dataset, "masks", outputs=[])
    assert "masks: holds predicted masks and no model." in refusal_line(["export", str(run.folder)], capsys)
    assert "no such record; expected a run" in refusal_line(["export", str(tmp_path)], capsys)
    assert refusal_line(["export", str(run.folder), "--gsd", "0"], capsys).startswith("ConfigError: --gsd 0")
