import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders.study import add_run, build_study

from levelground.cli import main
from levelground.commands.evaluate import EvaluateConfig, evaluate
from levelground.config import DeviceOptions, TileOptions
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, RecordError, UnlikeError
from levelground.metrics.counts import read_counts
from levelground.records import one_writer

CPU = DeviceOptions(device="cpu", precision="fp32", threads=1)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A study with two untrained networks."""
    dataset = build_study(tmp_path)
    add_run(dataset, "a-s0", seed=0)
    add_run(dataset, "b-s0", seed=1)
    return dataset


def config(dataset: Dataset, **more: object) -> EvaluateConfig:
    """Evaluate the study on one CPU thread."""
    return EvaluateConfig(study=dataset.folder, device_options=CPU, **more)  # type: ignore[arg-type]


def test_all_runs_of_a_study_are_evaluated(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """Each gets its counts; one line a run says score and speed, the last what comes next."""
    paths = evaluate(config(dataset))
    assert [path.parent.name for path in paths] == ["a-s0", "b-s0"]
    assert all(len(read_counts(path).scenes) == 3 for path in paths)
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    for line, name in zip(lines[-3:-1], ("a-s0", "b-s0"), strict=True):
        assert re.fullmatch(rf"{name}: test mIoU 0\.\d{{4}} over 3 scenes, \d+\.\d megapixels/s\.", line)
    assert lines[-1] == f"Next: levelground compare {dataset.folder}"


def test_a_named_run_or_a_run_folder_is_evaluated_alone(dataset: Dataset) -> None:
    """By name in the study, or by its own folder."""
    runs = dataset.folder / "runs"
    assert evaluate(config(dataset, runs=("b-s0",), split="val")) == [runs / "b-s0" / "counts-val.npz"]
    alone = EvaluateConfig(study=runs / "a-s0", split="val", tiles=TileOptions(tile=32), device_options=CPU)
    assert evaluate(alone) == [runs / "a-s0" / "counts-val.npz"]
    assert not list(runs.glob("*/counts-test.npz"))


def test_the_command_line_does_the_same(dataset: Dataset) -> None:
    """In this process: flags become the configuration."""
    status = main(
        ["evaluate", str(dataset.folder), "--runs", "a-s0", "--tile", "32", "--halo", "4", "--batch", "2",
         "--device", "cpu", "--precision", "fp32", "--threads", "1"]
    )  # fmt: skip
    assert status == 0
    assert read_counts(dataset.folder / "runs/a-s0/counts-test.npz").n_classes == 4


def test_one_bad_run_stops_before_any_is_evaluated(dataset: Dataset) -> None:
    """All runs are checked first; nothing is left half done."""
    add_run(dataset, "c-s0", legend_sha256="0" * 64)
    with pytest.raises(UnlikeError, match=r"^c-s0: learnt another legend"):
        evaluate(config(dataset))
    assert not list(dataset.folder.glob("runs/*/counts-test.npz"))


def test_masks_of_other_tools_are_left_out(dataset: Dataset) -> None:
    """They were counted when they were adopted."""
    add_run(dataset, "masks", outputs=[])
    assert [path.parent.name for path in evaluate(config(dataset, split="val"))] == ["a-s0", "b-s0"]


def test_an_unknown_run_is_named(dataset: Dataset) -> None:
    """With the card that is not there."""
    path = dataset.folder / "runs" / "nobody" / "run.json"
    text = f"{path}: no such record; expected a run written by levelground. Give the folder of a run."
    with pytest.raises(RecordError, match=f"^{re.escape(text)}$"):
        evaluate(config(dataset, runs=("nobody",)))


def test_a_study_without_runs_says_what_to_do(tmp_path: Path) -> None:
    """Prepared, and nothing trained yet."""
    dataset = build_study(tmp_path)
    text = f"{dataset.folder}: no run with a model in runs/. Train or adopt one first."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        evaluate(config(dataset))


def test_names_beside_a_run_folder_are_refused(dataset: Dataset) -> None:
    """One of the two is a mistake."""
    folder = dataset.folder / "runs" / "a-s0"
    text = f"{folder}: is one run, so --runs names none in it. Leave --runs away."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        evaluate(EvaluateConfig(study=folder, runs=("b-s0",)))


def test_a_study_that_is_being_written_is_left_alone(dataset: Dataset) -> None:
    """Two processes must not write one run; the second says who holds the study."""
    script = (
        "import sys; from pathlib import Path; from levelground.records import one_writer\n"
        "with one_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(dataset.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert main(["evaluate", str(dataset.folder), "--device", "cpu", "--threads", "1"]) == 2
        holder.communicate("done\n")
    with one_writer(dataset.folder):
        assert not list(dataset.folder.glob("runs/*/counts-test.npz"))


def test_help_names_units_and_loads_no_torch() -> None:
    """The command's own help is quick."""
    script = (
        "import sys; from levelground.cli import main\n"
        "status = main(['evaluate', '--help-all']); print(status, 'torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False False"
    for word in ("--tile", "px", "--halo", "--batch", "--split", "--device", "--precision"):
        assert word in done.stdout
