"""The setting of a comparison: runs with their counts, legend, data set, scenes, truth, looks at the test scenes."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from levelground.comparing.guards import Evaluated
from levelground.errors import ConfigError, RecordError
from levelground.imagery.legend import Legend
from levelground.records import Record, read_json
from levelground.runs import Run
from levelground.scores.counts import SceneCounts, read_counts

LOOKS_FILE = "test_looks.jsonl"
"""In a study folder: one line for each evaluation of a run on the test scenes, with time, run and command."""


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
        names = [f"{study_of(run).name}/{run.name}" for run in once]
    if len(set(names)) < len(names):
        raise ConfigError(f"two runs are called {max(names, key=names.count)}. Rename one of the folders.")
    found = [_sorted(read_counts(run.counts_path(split))) for run in once]
    for name, counts in zip(names, found, strict=True):
        if not len(counts.scenes):
            raise RecordError(f"{name}: counts of {split} hold no scene. Evaluate the run on a split with scenes.")
    return [Evaluated(name, run, counts) for name, run, counts in zip(names, once, found, strict=True)]


def study_of(run: Run) -> Path:
    """The study folder of a run, ``STUDY/runs/RUN``."""
    return run.folder.resolve().parent.parent


def _sorted(counts: SceneCounts) -> SceneCounts:
    """The same counts with scenes in the order of their ids, so that position means scene in all runs."""
    order = np.argsort(counts.scenes, kind="stable")
    per_scene = {name: value[order] for name, value in vars(counts).items() if isinstance(value, np.ndarray)}
    return SceneCounts(**(vars(counts) | per_scene))


def legend_of(evaluated: Sequence[Evaluated]) -> Legend:
    """The legend that the scenes were scored with, from the first card that holds it.

    Raises:
        RecordError: No card holds it, or it does not fit the counts.
    """
    wanted, n_classes = evaluated[0].counts.legend_sha256, evaluated[0].counts.n_classes
    for item in evaluated:
        content = item.run.card.get("legend")
        legend = Legend.from_json(content) if content else None
        if legend is not None and legend.digest() == wanted and legend.n_classes == n_classes:
            return legend
    raise RecordError(
        f"{evaluated[0].name}: its card does not hold the legend that its {n_classes} classes were counted with. "
        "Evaluate the run again."
    )


def find_dataset(evaluated: Sequence[Evaluated]) -> Record | None:
    """The ``dataset.json`` beside the first run whose split and legend are those of the counts, else ``None``.

    Raises:
        RecordError: One is damaged.
    """
    counts = evaluated[0].counts
    for item in evaluated:
        path = study_of(item.run) / "dataset.json"
        if path.is_file():
            record = read_json(path, kind="dataset")
            missing = [key for key in ("scenes", "split", "split_rule", "layout") if key not in record]
            if missing:
                raise RecordError(f"{path}: lacks {missing[0]!r}. Prepare the data again.")
            if (record.get("split_sha256"), record.get("legend_sha256")) == (counts.split_sha256, counts.legend_sha256):
                return record
    return None


def dataset_block(dataset: Record | None, evaluated: Sequence[Evaluated], split: str) -> Record:
    """Sizes and origin of the data set; ``None`` where no ``dataset.json`` tells."""
    counts = evaluated[0].counts
    sizes = {name: len(ids) for name, ids in (dataset or {}).get("split", {}).items() if isinstance(ids, list)}
    return {
        "scenes": len(dataset["scenes"]) if dataset else None,
        **{name: sizes.get(name) for name in ("train", "val", "test")},
        "layout": dataset["layout"] if dataset else None,
        "n_groups_test": len(set(counts.groups.tolist())) if split == "test" else None,
        "findings": dataset.get("findings", []) if dataset else [],
    }


def scene_rows(dataset: Record | None, counts: SceneCounts) -> list[Record]:
    """Each scene with its group, size, label hash and true pixels by class."""
    known = {scene["id"]: scene for scene in (dataset or {}).get("scenes", ())}
    return [
        {
            "id": scene,
            "group": group,
            "height": known.get(scene, {}).get("height"),
            "width": known.get(scene, {}).get("width"),
            "labels_sha256": labels,
            "class_pixels": pixels,
        }
        for scene, group, labels, pixels in zip(
            counts.scenes.tolist(),
            counts.groups.tolist(),
            counts.labels_sha256.tolist(),
            counts.counts.sum(axis=-1).tolist(),
            strict=True,
        )
    ]


def truth_block(counts: SceneCounts) -> Record:
    """True pixels of each class, their shares, which classes occur at all, and in how many groups."""
    by_scene = counts.counts.sum(axis=2)
    pixels = by_scene.sum(axis=0)
    names, members = np.unique(counts.groups, return_inverse=True)
    by_group = np.zeros((len(names), by_scene.shape[1]), np.int64)
    np.add.at(by_group, members, by_scene)
    return {
        "class_pixels": pixels,
        "class_share": pixels / max(1, int(pixels.sum())),
        "present": pixels > 0,
        "groups": (by_group > 0).sum(axis=0),
    }


def separated_groups(dataset: Record | None, split: str) -> list[Record]:
    """Groups with scenes in the split that is scored and in another one.

    Returns:
        ``{"group", "test": [ids], "other": [ids], "other_split"}``, where ``test`` stands for the split scored; the
        training split is named before the validation split.
    """
    if dataset is None:
        return []
    group_of = {scene["id"]: scene.get("group", scene["id"]) for scene in dataset["scenes"]}
    scored = set(dataset["split"].get(split, ()))
    found = []
    for group in sorted({group_of[scene] for scene in scored if scene in group_of}):
        for other in ("train", "val"):
            theirs = [scene for scene in dataset["split"].get(other, ()) if group_of.get(scene) == group]
            if other != split and theirs:
                mine = sorted(scene for scene in scored if group_of.get(scene) == group)
                found.append({"group": group, "test": mine, "other": theirs, "other_split": other})
                break
    return found


def looks_at_test(evaluated: Sequence[Evaluated]) -> Record:
    """How often the test scenes of these runs' studies were looked at, and by what.

    Raises:
        RecordError: A line of the file is no JSON object.
    """
    looks = []
    for folder in dict.fromkeys(study_of(item.run) for item in evaluated):
        path = folder / LOOKS_FILE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else (), start=1):
            try:
                looks.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise RecordError(f"{path}: line {number} is no JSON ({error}). Remove the line.") from error
    return {"total": len(looks), "by": looks}
