"""The setting of a comparison: runs with their counts, legend, data set, scenes, truth, looks at the test scenes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from levelground.comparison.compatibility import Evaluated, protocol_of
from levelground.errors import ConfigError, RecordError
from levelground.imagery.legend import Legend
from levelground.metrics.counts_file import SceneCounts, read_counts
from levelground.records import Record, read_json
from levelground.runs import Run


@dataclass(frozen=True)
class Kinship:
    """What runs of one architecture share.

    Attributes:
        arch: Architecture.
        encoder: Encoder.
        twin: Whether it stands under a second name, as a negative control.
        protocol: Values of the protocol's fields that differ between the runs compared.
        alone: The run's own name where nobody knows that it was made as others were: adopted, or without a seed.
        again: How often the same seed stood before: the same seed once more is no second seed.
    """

    arch: str
    encoder: str
    twin: bool
    protocol: tuple[str, ...]
    alone: str
    again: int = 0


def name_architectures(evaluated: Sequence[Evaluated], unlike: Sequence[Record]) -> tuple[list[str], dict[str, str]]:
    """Say which runs are seeds of one architecture, and what it is called.

    Args:
        evaluated: The runs.
        unlike: Fields of the protocol that differ, with their values by run.
    Returns:
        The architecture of each run, and for each twin (a second name of an architecture) the original.
    """
    kin = _kinships(evaluated, unlike)
    names = _unique_names(evaluated, kin, unlike)
    twin_of = {}
    for key, name in names.items():
        original = names.get(replace(key, twin=False))
        if key.twin and original is not None:
            twin_of[name] = original
    return [names[key] for key in kin], twin_of


def run_labels(evaluated: Sequence[Evaluated], archs: Sequence[str]) -> list[str]:
    """What each run is called in tables and sentences: its architecture and seed, or the name of a lone run."""
    return [
        item.name if item.run.adopted or item.run.seed is None else f"{arch} s{item.run.seed}"
        for item, arch in zip(evaluated, archs, strict=True)
    ]


def _kinships(evaluated: Sequence[Evaluated], unlike: Sequence[Record]) -> list[Kinship]:
    seen: dict[tuple[Kinship, int | None], int] = {}
    kin = []
    for item in evaluated:
        run = item.run
        key = Kinship(
            arch=run.arch,
            encoder=run.encoder,
            twin=bool(run.card.get("twin")),
            protocol=tuple(repr(entry["values"][item.name]) for entry in unlike),
            alone=item.name if run.adopted or run.seed is None else "",
        )
        again = seen.get((key, run.seed), 0)
        seen[key, run.seed] = again + 1
        kin.append(replace(key, again=again))
    return kin


def _unique_names(
    evaluated: Sequence[Evaluated], kin: Sequence[Kinship], unlike: Sequence[Record]
) -> Mapping[Kinship, str]:
    """The shortest name that tells each architecture from the others."""
    first: dict[Kinship, Evaluated] = {}
    for key, item in zip(kin, evaluated, strict=True):
        first.setdefault(key, item)
    one_encoder = len({key.encoder for key in kin if not key.alone}) <= 1
    names = {key: _plain_name(key, one_encoder=one_encoder) for key in first}
    for name in sorted(set(names.values())):
        same = [key for key, other in names.items() if other == name]
        if len(same) > 1:
            for key, suffix in zip(same, _suffixes([first[key] for key in same], unlike), strict=True):
                names[key] = f"{name} ({suffix})"
    return names


def _plain_name(key: Kinship, *, one_encoder: bool) -> str:
    name = key.alone or (key.arch if one_encoder else f"{key.arch} {key.encoder.removeprefix('tu-')}")
    return f"{name} twin" if key.twin else name


def _suffixes(items: Sequence[Evaluated], unlike: Sequence[Record]) -> list[str]:
    """What tells architectures of one name apart: the recipe's name, a field of the protocol, else a number."""
    recipes = [str((item.run.card.get("recipe") or {}).get("name")) for item in items]
    if len(set(recipes)) == len(items):
        return recipes
    for entry in unlike:
        values = [f"{entry['field']} {protocol_of(item).get(entry['field'])}" for item in items]
        if len(set(values)) == len(items):
            return values
    return [f"no. {number}" for number in range(1, len(items) + 1)]


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
