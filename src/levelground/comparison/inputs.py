"""Inputs of a comparison: runs with counts, legend, data set, scenes, log of test evaluations."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from levelground.comparison.compatibility import Evaluated
from levelground.comparison.conditions import (
    DatasetFinding,
    DatasetSummary,
    EvaluationLog,
    GroundTruth,
    LoggedEvaluation,
    LoggedView,
    NamedQuestion,
    SceneRow,
    SeparatedGroup,
    SplitRule,
)
from levelground.comparison.record import Comparison
from levelground.datasets import splits
from levelground.errors import ConfigError, RecordError, first_line, one_line
from levelground.files import append_text, command_line
from levelground.imagery.legend import Legend
from levelground.metrics.counts import SceneCounts, read_counts
from levelground.metrics.named import parse_metric
from levelground.reading import check_seal, parse_json, read_text, seal
from levelground.records import read_json, sha256_file
from levelground.runs import EVALUATION_LOG, STUDY_FILE, Run, StudyOptionsRecord, read_study


def gather(runs: Sequence[Run], split: str) -> list[Evaluated]:
    """Read the counts of runs, put scenes in order and give each run a name of its own.

    Args:
        runs: The runs; one given twice counts once.
        split: The split whose counts are read.
    Returns:
        The runs with their counts, in the order given.
    Raises:
        RecordError: A run was not evaluated on the split, or its counts are damaged.
        ConfigError: No run was given, or two cannot be told apart by name and study.
    """
    once = list({run.folder.resolve(): run for run in runs}.values())
    if not once:
        raise ConfigError("no run to compare. Give run folders, or a study folder with evaluated runs.")
    names = [run.name for run in once]
    if len(set(names)) < len(names):
        names = [f"{run.study.name}/{run.name}" for run in once]
    if len(set(names)) < len(names):  # a copy of a run's folder keeps the name on its card
        names = [f"{run.study.name}/{run.folder.resolve().name}" for run in once]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        folders = [str(run.study) for run, name in zip(once, names, strict=True) if name == twice]
        raise ConfigError(f"two runs are called {twice}. Rename the study's folder {folders[0]} or {folders[1]}.")
    found = [_sorted(_own_counts(run, split)) for run in once]
    for name, counts in zip(names, found, strict=True):
        if not len(counts.scenes):
            raise RecordError(f"{name}: counts of {split} hold no scene. Evaluate the run on a split with scenes.")
    return [Evaluated(name, run, counts) for name, run, counts in zip(names, once, found, strict=True)]


def _own_counts(run: Run, split: str) -> SceneCounts:
    """Read the counts of a run, after a check that they are those that its card knows.

    Raises:
        RecordError: They were changed, belong to another run, or are missing or damaged.
    """
    path, entry = run.counts_path(split), run.card.evaluations.get(split)
    again = "with levelground evaluate"
    if run.card.folds:
        again = "with levelground study and the flags that the study was begun with"
    elif not run.card.outputs:
        again = "with levelground adopt --predictions"
    if path.is_file():
        if entry is None and run.card.folds and split != "test":
            raise RecordError(
                f"{path}: the run joins the test scenes of folds and has no other counts. Remove the file."
            )
        if entry is None:
            raise RecordError(f"{path}: the run's card does not know of these counts. Count them anew {again}.")
        if sha256_file(path) != entry.counts_sha256:
            raise RecordError(
                f"{path}: is not what was counted for {run.name}: it was changed, or copied from another run. "
                f"Count the scenes anew {again}."
            )
    return read_counts(path)


def _sorted(counts: SceneCounts) -> SceneCounts:
    """Sort scenes by their ids, so that position means scene in all runs."""
    order = np.argsort(counts.scenes, kind="stable")
    per_scene = {name: value[order] for name, value in vars(counts).items() if isinstance(value, np.ndarray)}
    return SceneCounts(**(vars(counts) | per_scene))


def legend_of(evaluated: Sequence[Evaluated]) -> Legend:
    """Return the legend that the scenes were scored with, from the first card that holds it.

    Raises:
        RecordError: No card holds it, or it does not fit the counts.
    """
    wanted, n_classes = evaluated[0].counts.legend_sha256, evaluated[0].counts.n_classes
    for item in evaluated:
        content = item.run.card.legend
        legend = Legend.from_json(content) if content else None
        if legend is not None and legend.digest() == wanted and legend.n_classes == n_classes:
            return legend
    raise RecordError(
        f"{evaluated[0].name}: its card does not hold the legend that its {n_classes} classes were counted with. "
        "Evaluate the run again."
    )


@dataclass(frozen=True)
class DatasetScene:
    """A scene of ``dataset.json``, as far as a comparison reads it."""

    id: str
    group: str | None = None
    height: int | None = None
    width: int | None = None
    place: tuple[float, float] | None = None


@dataclass(frozen=True)
class DatasetContent:
    """``dataset.json``, as far as a comparison reads it: images and cache may be elsewhere."""

    scenes: tuple[DatasetScene, ...]
    split: Mapping[str, tuple[str, ...]]
    split_rule: SplitRule
    layout: str
    split_sha256: str | None = None
    legend_sha256: str | None = None
    groups_from: str | None = None
    data: str | None = None
    findings: tuple[DatasetFinding, ...] = field(default=())


_DATASET = TypeAdapter(DatasetContent)


def find_dataset(evaluated: Sequence[Evaluated]) -> DatasetContent | None:
    """Read the ``dataset.json`` beside the first run whose split and legend are those of the counts, if there is one.

    Raises:
        RecordError: One is damaged.
    """
    counts = evaluated[0].counts
    for item in evaluated:
        path = item.run.study / "dataset.json"
        if path.is_file():
            content = _read_dataset(path)
            if (content.split_sha256, content.legend_sha256) == (counts.split_sha256, counts.legend_sha256):
                return content
    return None


def _read_dataset(path: Path) -> DatasetContent:
    """Read and check what a comparison needs of a ``dataset.json``."""
    record = read_json(path, kind="dataset")
    missing = [key for key in ("scenes", "split", "split_rule", "layout") if key not in record]
    if missing:
        raise RecordError(f"{path}: lacks {missing[0]!r}. Prepare the data again.")
    try:
        return _DATASET.validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = one_line(".".join(str(part) for part in first["loc"]))
        raise RecordError(f"{path}: {where}: {first['msg']}. Prepare the data again.") from error


def dataset_summary(dataset: DatasetContent | None, counts: SceneCounts, split: str) -> DatasetSummary:
    """Return sizes and origin of the data set; ``None`` where no ``dataset.json`` tells."""
    sizes = {name: len(ids) for name, ids in dataset.split.items()} if dataset else {}
    if dataset is not None and dataset.split_rule.folds:  # every fold has training scenes of its own
        sizes = {"test": len(dataset.split["test"])}
    return DatasetSummary(
        scenes=len(dataset.scenes) if dataset else None,
        train=sizes.get("train"),
        val=sizes.get("val"),
        test=sizes.get("test"),
        layout=dataset.layout if dataset else None,
        n_test_groups=len(set(counts.groups.tolist())) if split == "test" else None,
        findings=dataset.findings if dataset else (),
        groups_from=dataset.groups_from if dataset else None,
        name=Path(dataset.data).name if dataset and dataset.data else None,
    )


def scene_rows(dataset: DatasetContent | None, counts: SceneCounts) -> tuple[SceneRow, ...]:
    """Return each scene with its group, size, label hash and true pixels by class."""
    known = {scene.id: scene for scene in dataset.scenes} if dataset else {}
    rows = []
    for scene, group, labels, pixels in zip(
        counts.scenes.tolist(),
        counts.groups.tolist(),
        counts.labels_sha256.tolist(),
        counts.counts.sum(axis=-1).tolist(),
        strict=True,
    ):
        size = known.get(scene, DatasetScene(scene))
        rows.append(SceneRow(scene, group, size.height, size.width, labels, tuple(pixels), size.place))
    return tuple(rows)


def ground_truth(counts: SceneCounts) -> GroundTruth:
    """Return true pixels of each class, their shares, which classes occur at all, and in how many groups."""
    by_scene = counts.counts.sum(axis=2)
    pixels = by_scene.sum(axis=0)
    names, members = np.unique(counts.groups, return_inverse=True)
    by_group = np.zeros((len(names), by_scene.shape[1]), np.int64)
    np.add.at(by_group, members, by_scene)
    return GroundTruth(
        class_pixels=tuple(pixels.tolist()),
        class_share=tuple((pixels / max(1, int(pixels.sum()))).tolist()),
        present=tuple((pixels > 0).tolist()),
        groups=tuple((by_group > 0).sum(axis=0).tolist()),
    )


def separated_groups(dataset: DatasetContent | None, split: str) -> tuple[SeparatedGroup, ...]:
    """Find groups with scenes in the split that is scored and in another one, training before validation, or in folds.

    Args:
        dataset: The data set, if it is known.
        split: The split that is scored; in a data set of folds every scene is one of it.
    Returns:
        The groups by name; of those in several folds with their scenes in the first two.
    """
    if dataset is None:
        return ()
    folds = {f"fold {number}": ids for number, ids in enumerate(dataset.split_rule.folds, start=1)}
    sets = folds or dataset.split
    known = {scene.id: scene.id if scene.group is None else scene.group for scene in dataset.scenes}
    groups = {scene: known.get(scene, scene) for ids in sets.values() for scene in ids}
    found = []
    for group, names in sorted(splits.separated_groups(sets, groups).items()):
        mine = names[0] if folds else split
        other = next((name for name in folds or ("train", "val") if name in names and name != mine), None)
        if mine in names and other:
            here, there = (tuple(one for one in sets[name] if groups[one] == group) for name in (mine, other))
            found.append(SeparatedGroup(group, tuple(sorted(here)), there, other))
    return tuple(found)


def named_question(evaluated: Sequence[Evaluated], legend: Legend) -> NamedQuestion | None:
    """Read the metric and δ that the studies of the runs named; ``None`` where none tells, or not all tell the same.

    Raises:
        RecordError: A ``study.json`` is damaged.
    """
    studies = dict.fromkeys(item.run.study for item in evaluated)
    asked = {(record.metric, record.delta) for folder in studies if (record := _options(folder)) is not None}
    if len(asked) != 1:
        return None
    metric, delta = asked.pop()
    with suppress(ConfigError):  # of a class that this legend does not have: it stays as it was written
        metric = parse_metric(metric, legend.names, legend.counted).name
    return NamedQuestion(metric, delta)


def with_question(comparison: Comparison, folder: Path) -> Comparison:
    """Add what the study in a folder named, where the comparison's record does not tell: the earliest ones did not."""
    options = None if comparison.named else _options(folder)
    return comparison if options is None else replace(comparison, named=NamedQuestion(options.metric, options.delta))


def _options(folder: Path) -> StudyOptionsRecord | None:
    return read_study(folder).options if (folder / STUDY_FILE).is_file() else None


_LOG_LINE = TypeAdapter[LoggedView | LoggedEvaluation](LoggedView | LoggedEvaluation)


def read_evaluation_log(evaluated: Sequence[Evaluated]) -> EvaluationLog:
    """Read how often the test scenes of these runs' studies were scored, and by what.

    Raises:
        RecordError: A line of the log is not a JSON object of the log.
    """
    times = dict.fromkeys((item.name for item in evaluated), 0)
    evaluations: list[LoggedEvaluation] = []
    views: list[LoggedView] = []
    for folder in dict.fromkeys(item.run.study for item in evaluated):
        path = folder / EVALUATION_LOG
        names = {item.run.name: item.name for item in evaluated if item.run.study == folder}
        for entry in _log_entries(path) if path.is_file() else ():
            if isinstance(entry, LoggedView):
                views.append(entry)
                continue
            evaluations.append(entry)
            if entry.run in names:
                times[names[entry.run]] += 1
    return EvaluationLog(len(evaluations), tuple(evaluations), times if evaluations else {}, tuple(views))


def _log_entries(path: Path) -> Iterator[LoggedView | LoggedEvaluation]:
    """Read the lines of a study's log; a view names a metric, an evaluation a run."""
    for number, line in enumerate(_lines(path), start=1):
        try:
            content = parse_json(line)
            check_seal(line, "line")
            if isinstance(content, dict):
                content.pop("crc32", None)
            yield _LOG_LINE.validate_python(content)
        except ValueError as error:
            what = one_line(first_line(error))
            raise RecordError(f"{path}: line {number} is not JSON ({what}). Remove the line.") from error


def log_view(runs: Sequence[Run], metric: str, delta: float) -> None:
    """Write into the studies of runs that their test scores were compared by a metric or δ that was not named before.

    Args:
        runs: The runs that were compared.
        metric: The metric.
        delta: The difference that counted as none, δ.
    Raises:
        DiskError: A log cannot be written.
    """
    time = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"time": time, "metric": metric, "delta": delta, "command": command_line()}
    for folder in dict.fromkeys(run.study for run in runs):
        append_text(folder / EVALUATION_LOG, seal(json.dumps(line), "line") + "\n", durable=True)


def _lines(path: Path) -> list[str]:
    """Read the lines of a log.

    Raises:
        RecordError: It cannot be read, or is not UTF-8.
    """
    try:
        return read_text(path).removesuffix("\n").split("\n") if path.stat().st_size else []
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read ({first_line(error)}). Mend or remove it.") from error
