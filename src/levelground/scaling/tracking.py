"""Tracking: send what a study's folders hold to a tracker, every step once; training knows nothing of it.

What a tracker has already is asked of the tracker itself, so that a call that was killed, or another one that ended
long ago, leaves nothing out and nothing twice.
"""

import contextlib
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from levelground.comparison.record import FILE as COMPARISON_FILE
from levelground.comparison.record import Comparison, read_comparison
from levelground.console import say
from levelground.datasets.dataset import DATASET_FILE
from levelground.errors import (
    INTERRUPTED,
    USER_FAULT,
    BusyError,
    DiskError,
    LevelgroundError,
    MissingRecordError,
    first_line,
    last_line,
    one_line,
)
from levelground.files import folder_holder, one_writer, open_to_append
from levelground.history import HISTORY_FILE, HistoryLine, read_history
from levelground.records import sha256_stamped, to_json
from levelground.runs import Run, list_runs
from levelground.scaling.jobs import check_study_folder, data_folders, run_title
from levelground.scaling.trackers import (
    TRACKING_FOLDER,
    Entry,
    Point,
    Sent,
    Tracker,
    check_target,
    open_tracker,
    unreachable,
)
from levelground.signals import on_input_end

POLL_S = 2.0
"""How often a study that is followed is read, seconds."""
RETRY_S = 30.0
"""How long to wait before a tracker that did not answer is asked again, seconds."""
FINISH_S = 120.0
"""How long the tracker beside a study may take for the rest when the study has ended, seconds."""

ENDED = ("finished", "failed", "adopted", "joined")


def read_entries(study: Path) -> list[Entry]:
    """Read what there is to track: the runs of a study, those of its folds and shorter budgets too, and its comparison.

    Args:
        study: A study's folder; what is being written there is read next time.
    Raises:
        RecordError: A record is damaged.
    """
    comparison = None
    with contextlib.suppress(MissingRecordError):  # removed since
        comparison = read_comparison(study) if (study / COMPARISON_FILE).exists() else None
    entries = []
    for folder in data_folders(study):
        with contextlib.suppress(MissingRecordError):
            for run in list_runs(folder):
                found = comparison if folder == study else None
                entries.append(_run_entry(run_title(study, folder, run.name), run, found))
    return entries + ([] if comparison is None else [_comparison_entry(study, comparison)])


def _run_entry(title: str, run: Run, comparison: Comparison | None) -> Entry:
    card, lines = run.card, read_history(run.folder)
    curves, times = _curves(lines)
    recipe = to_json(card.recipe) if card.recipe else {}
    parameters = {name: _text(value) for name, value in recipe.items()} | {
        "arch": card.arch,
        "encoder": card.encoder,
        "encoder_weights": card.encoder_weights or "unknown",
        "seed": _text(card.seed),
        "budget": card.budget.asked if card.budget else "unknown",
    }
    notes = {"hardware": card.hardware, "device": card.device, "precision": card.precision, "identity": card.identity}
    files = {"run.json": run.folder / "run.json"} if card.status in ENDED else {}
    if card.status in ENDED and run.model_folder.is_dir():
        models = sorted(path for path in run.model_folder.iterdir() if path.is_file() and path.name[0] != ".")
        files |= {f"model/{path.name}": path for path in models}
    history = run.folder / HISTORY_FILE
    last = (history if history.exists() else run.folder / "run.json").stat().st_mtime
    return Entry(
        title=title,
        identity=card.identity,
        state=card.status,
        began=last - max(times.values(), default=0.0),
        curves=curves,
        times=times,
        scores=_run_scores(run, comparison),
        parameters=parameters,
        notes={name: value for name, value in notes.items() if value},
        files=files,
    )


def _curves(lines: Sequence[HistoryLine]) -> tuple[dict[str, dict[int, float]], dict[int, float]]:
    """Return values by metric and step, and the time of validations by step."""
    curves: dict[str, dict[int, float]] = {}
    times: dict[int, float] = {}
    for line in lines:
        if line.kind not in ("step", "val"):
            continue
        group = "train" if line.kind == "step" else "val"
        for name, value in to_json(line).items():
            if name in ("step", "time_s", "train_s") or isinstance(value, bool):
                continue
            if isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(f"{group}/{name.removeprefix(f'{group}_')}", {})[line.step] = float(value)
        if line.kind == "val" and line.time_s is not None:
            times[line.step] = line.time_s
    return curves, times


def _run_scores(run: Run, comparison: Comparison | None) -> dict[str, float]:
    found = [] if comparison is None else [one for one in comparison.runs if one.name == run.name]
    for result in found:
        if result.value is not None and comparison is not None:
            return _with_interval(f"test/{comparison.metric}", result.value, result.interval)
    return {}


def _with_interval(name: str, value: float, interval: tuple[float, float] | None) -> dict[str, float]:
    ends = {} if interval is None else {f"{name}/low": interval[0], f"{name}/high": interval[1]}
    return {name: value} | ends


def _comparison_entry(study: Path, comparison: Comparison) -> Entry:
    scores: dict[str, float] = {}
    notes = {"headline": next((one.text for one in comparison.findings if one.severity == "headline"), "")}
    for pair in comparison.decisive_pairs:
        if pair.delta is not None:
            scores |= _with_interval(f"difference/{pair.a} - {pair.b}", pair.delta, pair.interval)
        notes[f"verdict/{pair.a} - {pair.b}"] = pair.text or pair.verdict
    names = ("report.html", COMPARISON_FILE, "comparison.csv", "comparison.md")
    began = (study / COMPARISON_FILE).stat().st_mtime
    parameters = {"metric": comparison.metric, "delta": f"{comparison.delta:g}", "split": comparison.split}
    return Entry(
        title="comparison",
        identity="comparison",
        state="finished",
        began=began,
        curves={},
        times={},
        scores=scores,
        parameters=parameters,
        notes={name: text for name, text in notes.items() if text},
        files={name: study / name for name in names if (study / name).exists()},
    )


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def send_new(tracker: Tracker, entries: Sequence[Entry], known: dict[tuple[str, str], Sent]) -> int:
    """Send what a tracker does not have.

    Args:
        tracker: The tracker.
        entries: All that there is.
        known: What the tracker has, by title and identity, as far as this process has asked; it is kept up to date.
    Returns:
        How many points were sent.
    """
    count = 0
    for entry in entries:
        key = entry.title, entry.identity
        has = known.pop(key, None) or tracker.sent(entry)  # asked anew where sending fails halfway
        points = [
            Point(metric, step, value, entry.time_of(step))
            for metric, curve in entry.curves.items()
            for step, value in curve.items()
            if step not in has.steps.get(metric, ())
        ]
        changed = {name: value for name, value in entry.scores.items() if has.scores.get(name, (0, None))[1] != value}
        points += [
            Point(name, has.scores.get(name, (0, 0.0))[0], value, time.time()) for name, value in changed.items()
        ]
        points.sort(key=lambda point: (point.step, point.metric))
        wanted = {f"parameter/{name}": text for name, text in entry.parameters.items()} | dict(entry.notes)
        texts = {name: text for name, text in (wanted | {"state": entry.state}).items() if has.texts.get(name) != text}
        # All files of a study are asked for every few seconds.
        hashes = {place: sha256_stamped(path) for place, path in entry.files.items() if path.is_file()}
        files = {place: digest for place, digest in hashes.items() if has.texts.get(f"file/{place}") != digest}
        if points or texts or files:
            tracker.send(entry, points, texts, files)
        for point in points:
            has.steps.setdefault(point.metric, set()).add(point.step)
        has.scores |= {name: (has.scores.get(name, (0, 0.0))[0] + 1, value) for name, value in changed.items()}
        has.texts |= texts | {f"file/{place}": digest for place, digest in files.items()}
        known[key], count = has, count + len(points)
    return count


def track_study(study: Path, to: str, *, follow: bool = False, over: threading.Event | None = None) -> int:
    """Send a study to a tracker.

    Args:
        study: The study's folder.
        to: Which tracker.
        follow: Go on until every run has ended and no command holds the study.
        over: Ends the following after one more look.
    Returns:
        How many points were sent.
    Raises:
        ConfigError: The tracker does not answer; while it follows, it is asked again instead.
        BusyError: Another process sends this study.
    """
    while follow and not (study / DATASET_FILE).exists():  # the study is being prepared
        if over is not None and over.wait(POLL_S):
            return 0
    check_study_folder(study)
    count, known, tracker = 0, dict[tuple[str, str], Sent](), open_tracker(to, study)
    with _alone(study / TRACKING_FOLDER), contextlib.closing(tracker):
        problem: Exception | None
        while True:
            last = not follow or _is_over(study) or (over is not None and over.is_set())
            wait_s, problem = POLL_S, None
            try:
                count += send_new(tracker, read_entries(study), known)
            except (LevelgroundError, OSError) as error:
                problem = error
            except Exception as error:
                if type(error).__module__.split(".")[0] not in ("mlflow", "requests", "urllib3"):
                    raise
                problem = unreachable(to.partition(":")[2], first_line(error))
            if problem is not None and last:
                raise problem
            if problem is not None:
                say(one_line(str(problem)))
                known.clear()
                wait_s = RETRY_S
            if last:
                return count
            time.sleep(wait_s) if over is None else over.wait(wait_s)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process send a study at a time, where its folder can be written."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(one_writer(folder))
        except BusyError:
            raise
        except DiskError:  # a study on storage that is only read
            pass
        yield


def _is_over(study: Path) -> bool:
    """Tell whether all runs have ended and no command holds the study."""
    if folder_holder(study):
        return False
    states = [run.card.status for folder in data_folders(study) for run in list_runs(folder)]
    return bool(states) and all(state in ENDED for state in states)


@contextlib.contextmanager
def tracked(study: Path, to: str) -> Iterator[None]:
    """Track a study by a process of its own while the block runs; what goes wrong there is said, and stops nothing.

    Args:
        study: The study's folder; it may not exist yet.
        to: Which tracker.
    Raises:
        ConfigError: There is no such tracker, or it is not installed.
    """
    check_target(to, "--track")
    log = study / TRACKING_FOLDER / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open_to_append(log) as words:
        process = subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-m", "levelground.scaling.tracking", str(study), to],
            stdin=subprocess.PIPE,  # its end tells the process that the study has ended
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            ended = process.wait(FINISH_S) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            ended = False
        text = last_line(log.read_text(encoding="utf-8", errors="replace"))
        say(f"--track {to}: everything was sent." if ended else f"--track {to}: {text or 'it did not end'}")


def main(arguments: Sequence[str]) -> int:
    """Follow a study until the standard input ends, then send the rest."""
    over = threading.Event()
    on_input_end(over.set)
    try:
        track_study(Path(arguments[0]), arguments[1], follow=True, over=over)
    except LevelgroundError as error:
        say(f"{type(error).__name__}: {one_line(str(error))}")
        return USER_FAULT
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
