"""Trackers: every step once, whatever was killed or resumed; real TensorBoard files and a real MLflow server."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders.study import add_run, build_study

from levelground import records
from levelground.cli import main
from levelground.comparison.compare import compare_runs, write_comparison
from levelground.config import DeviceOptions
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.evaluation.evaluate import evaluate_run
from levelground.history import HistoryLine, append_history, truncate_history
from levelground.runs import Run, read_run, write_card
from levelground.runtime import open_runtime
from levelground.scaling import tracking
from levelground.scaling.trackers import MlflowTracker, Sent, TensorBoardTracker
from levelground.scaling.tracking import read_entries, send_new, track_study

STEPS = 1200


def steps(first: int, last: int, *, loss: float = 1.0) -> list[HistoryLine]:
    """Return the lines of training steps, with a validation at each hundredth."""
    lines = []
    for step in range(first, last + 1):
        lines.append(HistoryLine(kind="step", step=step, train_loss=loss / step, lr=1e-3, images_per_s=8.0))
        if step % 100 == 0:
            lines.append(HistoryLine(kind="val", step=step, val_miou=step / 2000, val_loss=loss, time_s=step / 10))
    return lines


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A study of two evaluated and compared runs with histories."""
    dataset = build_study(tmp_path_factory.mktemp("study"))
    runtime = open_runtime(DeviceOptions(device="cpu", threads=1))
    begun = [add_run(dataset), add_run(dataset, "linknet-s1", seed=1, known_as="other")]
    runs = [evaluate_run(run, dataset, "test", runtime=runtime) for run in begun]
    for run in runs:
        append_history(run.folder, steps(1, STEPS))
    write_comparison(compare_runs(runs, metric="official.miou", delta=0.01), dataset.folder)
    (dataset.folder / "report.html").write_text("<p>page</p>")
    return read_dataset(dataset.folder)


@pytest.fixture
def begun(tmp_path: Path) -> Run:
    """A run that is being trained, up to its second validation."""
    dataset = build_study(tmp_path)
    run = add_run(dataset)
    run = write_card(run.folder, read_run(run.folder).card.__class__(**(vars(run.card) | {"status": "training"})))
    append_history(run.folder, steps(1, 200))
    return run


def event_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read event files with TensorBoard's own reader, every point that it has."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    return {tag: [(one.step, one.value) for one in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def test_tensorboard_gives_the_history_back_once(study: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own reader finds every step with its value once, though the command is given twice."""
    for _ in range(2):
        assert main(["track", str(study.folder), "--to", "tensorboard"]) == 0
    assert f"{study.folder}: 0 points were sent" in capsys.readouterr().err.splitlines()[-1]
    root = study.folder / "tracking" / "tensorboard"
    assert len(list(root.iterdir())) == 3
    curves = event_curves(next(root.glob("linknet-s0-*")))
    lines = steps(1, STEPS)
    losses = [(line.step, line.train_loss) for line in lines if line.kind == "step"]
    assert curves["train/loss"] == [(step, pytest.approx(value)) for step, value in losses]
    assert curves["val/miou"] == [(step, pytest.approx(step / 2000)) for step in range(100, STEPS + 1, 100)]
    assert {"test/official.miou", "test/official.miou/low", "test/official.miou/high"} <= set(curves)
    assert any(name.startswith("difference/") and name.endswith("/low") for name in event_curves(root / "comparison"))


def test_a_score_that_changed_is_sent_again_and_cut_files_are_read(study: Dataset, tmp_path: Path) -> None:
    """A later comparison's value gets a step of its own; a record that a kill cut short is sent again."""
    from dataclasses import replace

    (entry,) = (one for one in read_entries(study.folder) if one.title == "linknet-s0")
    tracker = TensorBoardTracker(tmp_path)
    send_new(tracker, [entry], {})
    tracker.close()
    (file,) = tmp_path.rglob("events*")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    changed = replace(entry, scores={"test/official.miou": 0.75})
    tracker = TensorBoardTracker(tmp_path)
    send_new(tracker, [changed], {})
    tracker.close()
    curves = event_curves(file.parent)
    assert [step for step, _ in curves["train/loss"]] == list(range(1, STEPS + 1))
    assert curves["test/official.miou"][-1][1] == 0.75


def test_files_are_hashed_when_they_change(study: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that is followed is read every few seconds; a file that is as it was is neither read nor sent."""
    from dataclasses import replace

    seen, whole, file = list[Path](), records.sha256_file, tmp_path / "report.html"
    monkeypatch.setattr(records, "sha256_file", lambda path: (seen.append(path), whole(path))[1])
    (entry,) = (replace(one, files={file.name: file}) for one in read_entries(study.folder) if not one.curves)
    tracker, known = TensorBoardTracker(tmp_path / "events"), dict[tuple[str, str], Sent]()
    for content in (b"one", b"", b"second"):
        if content:
            file.write_bytes(content)
        send_new(tracker, [entry], known)
        assert known[entry.title, entry.identity].texts[f"file/{file.name}"] == whole(file)
    tracker.close()
    assert seen == [file, file]


def test_a_run_is_followed_through_a_resume(begun: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that a resumed run takes again are not sent again; it ends when the run has."""
    monkeypatch.setattr(tracking, "POLL_S", 0.02)
    folder, results = begun.study, list[int]()
    thread = threading.Thread(
        target=lambda: results.append(track_study(folder, f"tensorboard:{tmp_path / 'events'}", follow=True))
    )
    thread.start()
    place = tmp_path / "events"
    wait_until(lambda: bool(list(place.rglob("events*"))), thread)
    truncate_history(begun.folder, 150)
    append_history(begun.folder, steps(151, 300))
    write_card(begun.folder, begun.card.__class__(**(vars(begun.card) | {"status": "finished"})))
    thread.join(60)
    assert not thread.is_alive() and results == [3 * 300 + 2 * 3]
    curves = event_curves(next(place.iterdir()))
    assert [step for step, _ in curves["train/loss"]] == list(range(1, 301))
    assert [step for step, _ in curves["val/miou"]] == [100, 200, 300]


def wait_until(there: Callable[[], bool], thread: threading.Thread | None = None) -> None:
    """Wait until something is there."""
    deadline = time.monotonic() + 300
    while not there():
        assert time.monotonic() < deadline
        assert thread is None or thread.is_alive()
        time.sleep(0.02)


def free_port() -> int:
    """Return a port of this machine that nobody has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on loopback over SQLite; its address."""
    pytest.importorskip("mlflow.server", reason="MLflow with its server is not installed")
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "files")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=folder,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is None and answers(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    """Tell whether somebody listens at a port."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def mlflow_runs(server: str) -> tuple[Any, dict[str, Any]]:
    """Return the server's client, and its runs by the name that they have in the study."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=server)
    experiments = [one.experiment_id for one in client.search_experiments() if one.name != "Default"]
    return client, {run.data.tags["levelground"]: run for run in client.search_runs(experiments)} if experiments else {}


def test_mlflow_has_every_step_once_though_the_sender_was_killed(
    study: Dataset, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL while steps are being sent, then the command again, and again: its client finds each step once."""
    command = [sys.executable, "-m", "levelground", "track", str(study.folder), "--to", f"mlflow:{server}"]
    sender = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(lambda: bool(mlflow_runs(server)[1]))
    sender.send_signal(signal.SIGKILL)
    sender.wait()
    for _ in range(2):
        assert main(command[3:]) == 0
    assert "0 points were sent" in capsys.readouterr().err.splitlines()[-1]
    client, runs = mlflow_runs(server)
    assert sorted(runs) == ["comparison", "linknet-s0", "linknet-s1"]
    for name in ("linknet-s0", "linknet-s1"):
        number = runs[name].info.run_id
        points = client.get_metric_history(number, "train/loss")
        assert sorted(one.step for one in points) == list(range(1, STEPS + 1))
        assert {one.step: one.value for one in points}[7] == 1 / 7
        assert sorted(one.step for one in client.get_metric_history(number, "val/miou")) == list(range(100, 1201, 100))
        assert runs[name].data.params["arch"] == "linknet" and runs[name].info.status == "FINISHED"
        assert {one.path for one in client.list_artifacts(number)} == {"model", "run.json"}
        assert "model/model.safetensors" in {one.path for one in client.list_artifacts(number, "model")}
    whole = runs["comparison"]
    assert "report.html" in {one.path for one in client.list_artifacts(whole.info.run_id)}
    assert any(name.startswith("verdict/") for name in whole.data.tags)
    assert any(name.endswith("/low") for name in whole.data.metrics)


def test_a_batch_that_fails_halfway_leaves_nothing_out(
    begun: Run, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes a part and then does not answer: the next look sends the rest, once."""
    tracker, known = MlflowTracker(server, begun.study), dict[Any, Any]()
    (entry,) = read_entries(begun.study)
    whole = tracker._client.log_batch

    def half(run: str, metrics: list[Any] = (), **other: Any) -> None:  # type: ignore[assignment]
        whole(run, metrics=metrics[: len(metrics) // 2])
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(tracker._client, "log_batch", half)
    with pytest.raises(ConnectionError):
        send_new(tracker, [entry], known)
    monkeypatch.setattr(tracker._client, "log_batch", whole)
    send_new(tracker, [entry], known)
    assert send_new(tracker, [entry], known) == 0
    found = tracker.sent(entry)
    assert found.steps["train/loss"] == set(range(1, 201)) and found.texts["state"] == "training"


def test_a_tracker_out_of_reach_is_one_line(
    study: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens; unknown trackers; no address; not installed; no study."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cases = {
        f"mlflow:http://127.0.0.1:{free_port()}": "the tracker does not answer (Connection refused). Nothing is lost",
        "wandb": "--to wandb: expected tensorboard, tensorboard:FOLDER, mlflow",
        "mlflow": "--to mlflow: no server is named. Say mlflow:http://HOST:PORT",
    }
    for to, expected in cases.items():
        assert main(["track", str(study.folder), "--to", to]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert expected in line
    assert main(["track", str(study.folder)]) == 2 and main(["track", "nowhere", "--to", "tensorboard"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "--to: not given" in first and "is not a study folder" in second
    monkeypatch.setattr(tracking.check_target.__globals__["importlib"].util, "find_spec", lambda name: None)
    assert main(["track", str(study.folder), "--to", "tensorboard"]) == 2
    assert "tensorboard is not installed. Say pip install 'levelground[track]'" in capsys.readouterr().err


def test_a_tracker_beside_a_study_ends_with_it_and_stops_nothing(
    begun: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was written last is sent after the study's end; a server that is gone is one line at the end."""
    place = tmp_path / "events"
    with tracking.tracked(begun.study, f"tensorboard:{place}"):
        append_history(begun.folder, steps(201, 300))
    assert "everything was sent" in capsys.readouterr().err
    curves = event_curves(next(place.iterdir()))
    assert [step for step, _ in curves["train/loss"]] == list(range(1, 301))
    with tracking.tracked(begun.study, f"mlflow:http://127.0.0.1:{free_port()}"):
        pass
    assert "the tracker does not answer (Connection refused). Nothing is lost" in capsys.readouterr().err
