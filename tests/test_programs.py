"""Whole networks, ONNX files and TorchScript programs, as runs: counts from their own pixels, cards, refusals."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.onnx_files import weights_of, write_onnx
from builders.study import add_run, build_study
from numpy.typing import NDArray
from torch import nn

from levelground.adoption.adopted_runs import UNNAMED, TrainingName
from levelground.adoption.weights import adopt_program
from levelground.cli import main
from levelground.comparison.compare import compare_runs
from levelground.config import WeightsOptions
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, LevelgroundError
from levelground.evaluation.evaluate import evaluate_run
from levelground.exporting.model_card import write_model_card
from levelground.imagery.legend import IGNORE
from levelground.metrics.counts import read_counts
from levelground.models.loading import load_model, open_model
from levelground.runs import Run, list_runs, read_run
from levelground.runtime import make_runtime

RUNTIME = make_runtime("cpu", "fp32", threads=1)
FLAGS = ["--device", "cpu", "--precision", "fp32", "--threads", "1"]


class Point(nn.Module):
    """The builders' 1 × 1 convolution, whose output needs no neighbours."""

    def __init__(self, n: int, end: str = "logits", *, half: bool = False) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.from_numpy(weights_of(n, 3)))
        self.end, self.half = end, half

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """A dictionary, as torchvision gives it."""
        found = torch.einsum("kc,nchw->nkhw", self.kernel, image)
        if self.end == "softmax":
            found = found.softmax(1)
        if self.end == "sigmoid":
            found = found.sigmoid()
        if self.end == "argmax":
            found = found.argmax(1)
        if self.half:
            found = found[:, :, ::2, ::2]
        return {"out": found}


def script(path: Path, n: int, end: str = "logits", *, half: bool = False) -> Path:
    """Save a TorchScript program."""
    torch.jit.script(Point(n, end, half=half)).save(str(path))
    return path


def adopt(path: Path, dataset: Dataset, name: str | None = None, **options: object) -> Run:
    """Adopt a whole network."""
    training = UNNAMED if name is None else TrainingName(name)
    return adopt_program(path, dataset, WeightsOptions(**options), training)  # type: ignore[arg-type]


def counted(
    dataset: Dataset, outputs: tuple[int, ...], scale: float = 255.0, kernel: NDArray[np.float32] | None = None
) -> NDArray[np.int64]:
    """Counts of the convolution by NumPy alone: pixels, labels and weights, ``(S, K, K)``."""
    weights = weights_of(len(outputs), 3) if kernel is None else kernel
    found = []
    for name in dataset.ids("test"):
        opened = dataset.open(name)
        labels = np.asarray(opened.labels)
        logits = np.asarray(opened.pixels).astype(np.float64) / scale @ weights.T.astype(np.float64)
        if len(weights) == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
        preds, counts = np.asarray(outputs)[logits.argmax(-1)], np.zeros((4, 4), np.int64)
        np.add.at(counts, (labels[labels != IGNORE], preds[labels != IGNORE]), 1)
        found.append(counts)
    return np.stack(found)


def counts_of(run: Run, dataset: Dataset) -> NDArray[np.int64]:
    """What an evaluation counts."""
    evaluated = evaluate_run(run, dataset, "test", runtime=RUNTIME)
    return read_counts(evaluated.counts_path("test")).counts


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"activation": "softmax"},
        {"layout": "NHWC"},
        {"out_layout": "NHWC"},
        {"sides": (32, 32), "batch": 1},
        {"sides": (40, 40), "batch": 2},
        {"kind": "uint8"},
    ],
    ids=str,
)
def test_an_onnx_file_is_counted_as_its_weights_say(dataset: Dataset, tmp_path: Path, form: dict[str, object]) -> None:
    """Every pixel of every test scene, whatever the file's layout, type, tile and activation."""
    path = write_onnx(tmp_path / "net.onnx", **form)  # type: ignore[arg-type]
    run = adopt(path, dataset)
    assert (run.name, run.arch, run.card.outputs) == ("net-adopted", "unknown", (0, 1, 2, 3))
    assert run.card.parameters.total == 12
    scale = 1.0 if form.get("kind") == "uint8" else 255.0
    assert np.array_equal(counts_of(run, dataset), counted(dataset, (0, 1, 2, 3), scale))


@pytest.mark.parametrize("end", ["logits", "softmax"])
def test_a_torchscript_program_is_counted_as_its_weights_say(dataset: Dataset, tmp_path: Path, end: str) -> None:
    """Its dictionary is opened; three outputs are the counted classes."""
    run = adopt(script(tmp_path / "net.pt", 3, end), dataset)
    assert run.card.outputs == (0, 2, 3)
    assert np.array_equal(counts_of(run, dataset), counted(dataset, (0, 2, 3)))
    assert run.card.parameters.total == 9


@pytest.mark.parametrize("kind", ["onnx", "logits", "sigmoid"])
def test_one_output_is_two_classes(dataset: Dataset, tmp_path: Path, kind: str) -> None:
    """Below and from .5 up, which have to be named where the legend has more."""
    if kind == "onnx":
        path = write_onnx(tmp_path / "net.onnx", n_outputs=1, activation="sigmoid")
    else:
        path = script(tmp_path / "net.pt", 1, kind)
    with pytest.raises(ConfigError, match=r"has 1 output, .+ Say which class it is below \.5 .+: --outputs 0 1$"):
        adopt(path, dataset)
    run = adopt(path, dataset, outputs=(0, 3))
    assert np.array_equal(counts_of(run, dataset), counted(dataset, (0, 3), kernel=weights_of(1, 3)))


def test_outputs_of_one_class_are_summed(dataset: Dataset, tmp_path: Path) -> None:
    """Of logits as of probabilities: the same counts."""
    paths = [
        write_onnx(tmp_path / "a.onnx", n_outputs=5),
        write_onnx(tmp_path / "b.onnx", n_outputs=5, activation="softmax"),
        script(tmp_path / "c.pt", 5),
    ]
    runs = [adopt(path, dataset, outputs=(0, 2, 2, 3, 3)) for path in paths]
    first, *others = (counts_of(run, dataset) for run in runs)
    assert all(np.array_equal(first, other) for other in others)
    assert not np.array_equal(first, counted(dataset, (0, 2, 2, 3, 3)))
    assert [run.card.outputs for run in runs] == [(0, 2, 2, 3, 3)] * 3


def test_names_in_the_file_decide_over_numbers(dataset: Dataset, tmp_path: Path) -> None:
    """Classes in any order; one that the legend lacks is named with the flag that helps."""
    names = {"0": "water", "1": "Field", "2": "wood"}
    path = write_onnx(tmp_path / "net.onnx", n_outputs=3, metadata={"class_names": json.dumps(names)})
    assert adopt(path, dataset).card.outputs == (3, 0, 2)
    odd = write_onnx(tmp_path / "odd.onnx", n_outputs=2, metadata={"class_names": '{"0": "Snow", "1": "Field"}'})
    with pytest.raises(
        ConfigError, match=r"its outputs are Snow, Field; the legend 'land' has no Snow\. .+ --outputs 0 1"
    ):
        adopt(odd, dataset)
    assert adopt(odd, dataset, outputs=(1, 0)).card.outputs == (1, 0)


def test_an_exported_file_is_the_run_that_it_was_made_of(exported: Run, tmp_path: Path) -> None:
    """Classes, normalisation and tile come with it; the counts are the run's, and both are on one page."""
    study = tmp_path / "study"
    shutil.copytree(exported.study, study)
    run = read_run(study / "runs" / exported.name)
    copy = tmp_path / "shared.onnx"
    shutil.copyfile(run.folder / "export" / "model.onnx", copy)
    assert main(["adopt", str(copy), "--study", str(study)]) == 0
    assert main(["adopt", str(copy), "--study", str(study), "--normalise", "data"]) == 2
    assert main(["evaluate", str(study), *FLAGS]) == 0
    (adopted,) = [one for one in list_runs(study) if one.adopted]
    assert (adopted.name, adopted.arch, adopted.card.outputs) == ("linknet-test_resnet-adopted", "linknet", (0, 2, 3))
    first, second = (read_counts(one.counts_path("test")) for one in (run, adopted))
    assert np.abs(first.counts - second.counts).sum() <= 2e-3 * first.counts.sum()
    comparison = compare_runs([read_run(run.folder), read_run(adopted.folder)], allow_unlike=True)
    assert len(comparison.runs) == 2
    text = (adopted.model_folder / "README.md").read_text()
    assert "a whole network in ONNX" in text
    assert "onnxruntime runs it" in text
    assert "smp.from_pretrained" not in text
    assert "library_name" not in text


def test_seeds_of_an_onnx_file_are_an_architecture(dataset: Dataset, tmp_path: Path) -> None:
    """Two files under one name have a verdict of their own."""
    for seed in (0, 1):
        path = write_onnx(tmp_path / f"net{seed}.onnx", n_outputs=3, seed=seed)
        training = ["--as", "Point", "--seed", str(seed)]
        assert main(["adopt", str(path), "--study", str(dataset.folder), *training]) == 0
        add_run(dataset, f"linknet-s{seed}", seed=seed)
    assert main(["evaluate", str(dataset.folder), *FLAGS]) == 0
    comparison = compare_runs(list_runs(dataset.folder), allow_unlike=True)
    assert {result.name for result in comparison.architectures} == {"linknet", "Point"}
    assert len(comparison.architecture_pairs) == 1


def test_the_run_is_mapped_moved_and_kept(dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Predict runs it, another study evaluates it, export and train say what it is, a changed file is named."""
    run = adopt(script(tmp_path / "net.pt", 3), dataset)
    write_model_card(run)
    image = dataset.data / "b/2_sat.png"
    assert main(["predict", str(run.folder), str(image), "--out", str(tmp_path / "maps"), *FLAGS]) == 0
    assert list((tmp_path / "maps").rglob("*_mask.png"))
    assert open_model(run.folder, RUNTIME).spec.outputs == (0, 2, 3)
    other = build_study(tmp_path / "other", first_seed=40)
    assert main(["evaluate", str(run.folder), "--on", str(other.folder), *FLAGS]) == 0
    (moved,) = list_runs(other.folder)
    assert np.array_equal(read_counts(moved.counts_path("test")).counts, counted(other, (0, 2, 3)))
    capsys.readouterr()
    assert main(["export", str(run.folder)]) == 2
    said = capsys.readouterr().err
    assert "is a whole network, run as it was adopted" in " ".join(said.split())
    assert main(["train", str(other.folder), "--init", str(run.folder)]) == 2
    assert "is a TorchScript program, not weights" in " ".join(capsys.readouterr().err.split())
    with (run.model_folder / "model.torchscript").open("ab") as file:
        file.write(b"x")
    with pytest.raises(LevelgroundError, match="is not the file that was adopted as net-adopted"):
        open_model(run.folder, RUNTIME)
    with pytest.raises(LevelgroundError, match="there are no weights to take out of it"):
        load_model(run)


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_adoption_leaves_the_threads_as_they_are(dataset: Dataset, tmp_path: Path, kind: str) -> None:
    """Their number decides the last bits of what the same process trains afterwards."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        adopt(write_onnx(tmp_path / "a.onnx") if kind == "onnx" else script(tmp_path / "b.pt", 3), dataset)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_smaller_outputs_are_resized(dataset: Dataset, tmp_path: Path) -> None:
    """As in training: bilinear."""
    run = adopt(script(tmp_path / "net.pt", 3, half=True), dataset)
    assert counts_of(run, dataset).sum() == counted(dataset, (0, 2, 3)).sum()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ops.mylib.nms(x)", r"needs the operator mylib::nms, which torch does not bring\. .+--predictions\."),
        ("__torch__.torch.classes.mylib.Engine", r"needs the operator mylib::Engine"),
        (
            'torch.from_file("/etc/passwd")',
            r"its program calls torch\.from_file, which reaches for files; it is not run\.",
        ),
    ],
)
def test_programs_that_reach_out_are_refused(dataset: Dataset, tmp_path: Path, text: str, problem: str) -> None:
    """Before anything of them is run, by one line."""
    path = script(tmp_path / "net.pt", 3)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/code/__torch__/more.py", f"def f(x):\n  return {text}\n")
    with pytest.raises(LevelgroundError, match=problem) as raised:
        adopt(path, dataset)
    assert "\n" not in str(raised.value)
    assert not list_runs(dataset.folder)


def test_code_of_a_program_is_read_up_to_a_bound(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive may hold gigabytes of nothing under a name that ends in .py."""
    path = script(tmp_path / "net.pt", 3)
    monkeypatch.setattr("levelground.models.programs.MAX_CODE_BYTES", 1 << 16)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/code/__torch__/more.py", " " * (1 << 17))
    with pytest.raises(
        LevelgroundError, match=r"net\.pt: the archive is damaged \(\d+ bytes of code, at most 65536 are read"
    ):
        adopt(path, dataset)


def test_what_is_no_segmentation_network_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    """Masks in place of probabilities, other bands, flags of bare weights."""
    cases = [
        (script(tmp_path / "arg.pt", 3, "argmax"), {}, r"makes torch\.int64 \(1, 256, 256\) .+ without the argmax"),
        (write_onnx(tmp_path / "arg.onnx", activation="argmax"), {}, "without the argmax"),
        (write_onnx(tmp_path / "four.onnx", bands=4), {}, "reads 4 bands, the scenes of .+ have 3"),
        (script(tmp_path / "ok.pt", 3), {"arch": "unet"}, r"--arch: describes bare weights; ok\.pt is a whole network"),
        (script(tmp_path / "ok.pt", 3), {"classes": 5}, r"--classes 5: ok\.pt has 3 outputs\. Pass --classes 3"),
        (write_onnx(tmp_path / "u8.onnx", kind="uint8"), {"normalise": "imagenet"}, "normalises its inputs itself"),
    ]
    for path, options, text in cases:
        with pytest.raises(LevelgroundError, match=text) as raised:
            adopt(path, dataset, **options)
        assert "\n" not in str(raised.value)
    cut = tmp_path / "cut.pt"
    cut.write_bytes((tmp_path / "ok.pt").read_bytes()[:-200])
    assert main(["adopt", str(cut), "--study", str(dataset.folder)]) == 2
    assert not list_runs(dataset.folder)
