"""Trackers: TensorBoard's event files and MLflow's runs, each asked for what it has and given what is new.

Engines are imported only when they are asked for.
"""

import importlib.util
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np

from levelground.datasets.dataset import read_dataset
from levelground.errors import ConfigError, DiskError
from levelground.files import reason
from levelground.records import sha256_json

TRACKING_FOLDER = "tracking"
"""In a study: event files of TensorBoard, and the log of a tracker that runs beside the study."""

_TARGETS = "tensorboard, tensorboard:FOLDER, mlflow, or mlflow:URI such as mlflow:http://127.0.0.1:5000"


@dataclass(frozen=True)
class Entry:
    """What a tracker is told of a run, or of the comparison.

    Attributes:
        title: The run, with its fold or share of the budget; ``comparison`` for the comparison.
        identity: Hash of all that decides it; another one is another entry.
        state: The run card's status.
        began: When it was begun, seconds since 1970.
        curves: Values by metric and step.
        scores: Values that a later comparison may change, by metric.
        parameters: What was asked for, by name.
        notes: Sentences and facts, by name.
        files: Files to keep beside it, by the place they get there.
    """

    title: str
    identity: str
    state: str
    began: float
    curves: Mapping[str, Mapping[int, float]]
    times: Mapping[int, float]
    scores: Mapping[str, float]
    parameters: Mapping[str, str]
    notes: Mapping[str, str]
    files: Mapping[str, Path]

    def time_of(self, step: int) -> float:
        """Return when a step was taken, seconds since 1970, as far as the validations tell."""
        known = sorted(self.times)
        after = float(np.interp(step, [0, *known], [0.0, *(self.times[one] for one in known)]))
        return self.began + after


@dataclass
class Sent:
    """What a tracker has of an entry.

    Attributes:
        steps: Steps of each metric.
        scores: How often each score was sent, and its last value.
        texts: Parameters and notes, and hashes of files by their place.
    """

    steps: dict[str, set[int]] = field(default_factory=dict)
    scores: dict[str, tuple[int, float]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """A value of a metric at a step."""

    metric: str
    step: int
    value: float
    time: float


class Tracker(Protocol):
    """Something that keeps curves."""

    def sent(self, entry: Entry) -> Sent:
        """Return what the tracker has of an entry, which is made where it is missing."""

    def send(self, entry: Entry, points: Sequence[Point], texts: Mapping[str, str], files: Mapping[str, str]) -> None:
        """Send points, texts by name, and files by place with their hash."""

    def close(self) -> None:
        """Write what is still held back."""


class TensorBoardTracker:
    """Event files of TensorBoard, one folder a run."""

    def __init__(self, folder: Path) -> None:
        """Take a folder; it is made with the first event."""
        self._folder, self._writers = folder, dict[Path, Any]()

    def _place(self, entry: Entry) -> Path:
        return self._folder / (entry.title if entry.identity == entry.title else f"{entry.title}-{entry.identity[:8]}")

    def sent(self, entry: Entry) -> Sent:
        """Read the event files of an entry; a record that a kill cut short is left out, as TensorBoard does."""
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event

        found = Sent()
        for path in sorted(self._place(entry).glob("events.out.tfevents.*")):
            for record in RawEventFileLoader(str(path)).Load():
                event = Event.FromString(record)
                for value in event.summary.value:
                    if value.HasField("simple_value"):
                        found.steps.setdefault(value.tag, set()).add(event.step)
                        found.scores[value.tag] = event.step + 1, value.simple_value
                    elif value.HasField("tensor"):
                        found.texts[value.tag] = value.tensor.string_val[0].decode("utf-8", "replace")
        # Event files hold float32: a score is the one that was sent where it rounds to it.
        for name, score in entry.scores.items():
            if name in found.scores and found.scores[name][1] == float(np.float32(score)):
                found.scores[name] = found.scores[name][0], score
        return found

    def send(self, entry: Entry, points: Sequence[Point], texts: Mapping[str, str], files: Mapping[str, str]) -> None:
        """Append events; files stay where they are, their path is a text.

        Raises:
            DiskError: They cannot be written.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        place = self._place(entry)
        try:
            writer = self._writers.get(place) or self._open(place)
            for point in points:
                value = Summary.Value(tag=point.metric, simple_value=point.value)
                writer.add_event(Event(step=point.step, wall_time=point.time, summary=Summary(value=[value])))
            for name, text in (dict(texts) | {f"file/{one}": digest for one, digest in files.items()}).items():
                summary = Summary(value=[_text_value(name, text)])
                writer.add_event(Event(step=0, wall_time=time.time(), summary=summary))
            writer.flush()
        except OSError as error:
            raise DiskError(f"{place}: cannot be written ({error.strerror}). Choose tensorboard:FOLDER.") from error

    def _open(self, place: Path) -> Any:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writers[place] = EventFileWriter(str(place))
        return self._writers[place]

    def close(self) -> None:
        """Close all event files."""
        for writer in self._writers.values():
            writer.close()


def _text_value(name: str, text: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
    return Summary.Value(tag=name, metadata=metadata, tensor=tensor)


class MlflowTracker:
    """Runs of an MLflow server, in one experiment a study."""

    def __init__(self, uri: str, study: Path) -> None:
        """Take a server; it is asked when there is something to send.

        Args:
            uri: Its address; empty takes ``MLFLOW_TRACKING_URI``.
            study: The study's folder.
        """
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        digest = sha256_json([read_dataset(study).digest(), str(study.resolve())])
        self._experiment_name = f"{study.resolve().name} {digest[:8]}"
        self._experiment = ""
        self._numbers: dict[tuple[str, str], str] = {}
        self._known_client: Any = None

    @property
    def _client(self) -> Any:
        if self._known_client is None:
            _check_answers(self._uri)
            from mlflow.tracking import MlflowClient

            self._known_client = MlflowClient(tracking_uri=self._uri)
        return self._known_client

    def sent(self, entry: Entry) -> Sent:
        """Find or make the run of an entry, and ask for all that it holds."""
        self._experiment = self._experiment or self._find_experiment()
        where = f"tags.levelground = '{_sql(entry.title)}' and tags.levelground_identity = '{entry.identity}'"
        runs = self._client.search_runs([self._experiment], where, max_results=1, order_by=["attributes.start_time"])
        if not runs:
            tags = {"levelground": entry.title, "levelground_identity": entry.identity}
            began = round(1000 * entry.began)
            made = self._client.create_run(self._experiment, start_time=began, tags=tags, run_name=entry.title)
            self._numbers[entry.title, entry.identity] = made.info.run_id
            return Sent()
        run = runs[0]
        self._numbers[entry.title, entry.identity] = run.info.run_id
        own = {_name(name): name for name in (*entry.curves, *entry.scores)}
        found = Sent(texts=dict(run.data.tags) | {f"parameter/{name}": v for name, v in run.data.params.items()})
        for name in run.data.metrics:
            history = self._client.get_metric_history(run.info.run_id, name)
            metric = own.get(name, name)
            found.steps[metric] = {point.step for point in history}
            last = max(history, key=lambda point: point.step)
            found.scores[metric] = last.step + 1, last.value
        return found

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment_name)
        return str(found.experiment_id if found else self._client.create_experiment(self._experiment_name))

    def send(self, entry: Entry, points: Sequence[Point], texts: Mapping[str, str], files: Mapping[str, str]) -> None:
        """Send what is new, files last; each is noted by its hash once it is there."""
        from mlflow.entities import Metric, Param, RunTag

        client, number = self._client, self._numbers[entry.title, entry.identity]
        metrics = [Metric(_name(p.metric), p.value, round(1000 * p.time), p.step) for p in points]
        for first in range(0, len(metrics), 500):
            client.log_batch(number, metrics=metrics[first : first + 500])
        params = {n.removeprefix("parameter/"): text for n, text in texts.items() if n.startswith("parameter/")}
        client.log_batch(number, params=[Param(_name(name), text[:5000]) for name, text in params.items()])
        tags = {name: text for name, text in texts.items() if not name.startswith("parameter/")}
        client.log_batch(number, tags=[RunTag(_name(name), text[:5000]) for name, text in tags.items()])
        for place, digest in files.items():
            folder = place.rpartition("/")[0] or None
            client.log_artifact(number, str(entry.files[place]), folder)
            client.set_tag(number, f"file/{place}", digest)
        state = {"failed": "FAILED", "stopped": "KILLED", "training": "RUNNING"}.get(entry.state, "FINISHED")
        if state == "RUNNING":
            client.update_run(number, status=state)
        else:
            client.set_terminated(number, state, round(1000 * entry.time_of(max(entry.times, default=0))))

    def close(self) -> None:
        """Nothing is held back."""


def _name(text: str) -> str:
    """Return a name with no other signs than MLflow takes."""
    return re.sub(r"[^\w\-. /:]", "_", text)[:250]


def _sql(text: str) -> str:
    return text.replace("'", "")


def check_target(to: str, flag: str = "--to") -> None:
    """Refuse a tracker that does not exist, is not installed or has no address, before anything is read.

    Args:
        to: What was asked for.
        flag: How it was asked for.
    Raises:
        ConfigError: It is none of these.
    """
    kind, _, rest = to.partition(":")
    if kind not in ("tensorboard", "mlflow") or (":" in to and not rest):
        raise ConfigError(f"{flag} {to}: expected {_TARGETS}.")
    if importlib.util.find_spec(kind) is None:
        raise ConfigError(f"{flag} {to}: {kind} is not installed. Say pip install 'levelground[track]'.")
    if kind == "mlflow" and not (rest or os.environ.get("MLFLOW_TRACKING_URI")):
        raise ConfigError(f"{flag} mlflow: no server is named. Say mlflow:http://HOST:PORT or set MLFLOW_TRACKING_URI.")


def open_tracker(to: str, study: Path) -> Tracker:
    """Open a tracker; a server is asked when there is something to send."""
    kind, _, rest = to.partition(":")
    if kind == "mlflow":
        return MlflowTracker(rest, study)
    return TensorBoardTracker(Path(rest) if rest else study / TRACKING_FOLDER / "tensorboard")


def _check_answers(uri: str) -> None:
    """Refuse a server that does not answer, before its client tries for minutes.

    Raises:
        ConfigError: Nobody answers there.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), 5).close()
    except (OSError, ValueError) as error:
        raise unreachable(uri, reason(error)) from error


def unreachable(uri: str, why: str) -> ConfigError:
    """Return the error of a server that does not answer."""
    return ConfigError(
        f"{uri}: the tracker does not answer ({why}). Nothing is lost: once it does, levelground track STUDY --to … "
        "sends what is missing."
    )
