"""Adoption of masks that another tool predicted: found by scene, read as class indices, and counted."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from levelground.adoption.adopted_runs import (
    UNNAMED,
    TrainingName,
    adopted_card,
    clean_name,
    find_adopted,
    warn_of_same_seed,
)
from levelground.adoption.prediction_files import read_mask, tell_mask_codings
from levelground.console import say, track
from levelground.datasets.dataset import Dataset, SceneRecord
from levelground.datasets.splits import SplitName
from levelground.errors import ConfigError, SceneError
from levelground.evaluation.evaluate import (
    is_evaluated,
    record_evaluation,
    remove_evaluation,
    remove_other_masks,
    write_mask,
)
from levelground.evaluation.score_scenes import ScenePrediction, check_labels, count_scene, gather_scores
from levelground.imagery.legend import Legend
from levelground.metrics.counts import SceneCounts, read_counts, write_counts
from levelground.metrics.scores import miou
from levelground.records import sha256_file, sha256_json
from levelground.runs import AdoptionRecord, EvaluationRecord, Run, write_card

SUSPECT_RATIO = 2.0
"""How many times as high the mean IoU must be under another numbering for a warning."""

SUSPECT_GAIN = 0.1
"""How much higher it must be at least: by chance, a permutation of six columns of noise gains some hundredths."""

SHIFT_SHARE = 0.8
"""Share of the best permutation's mean IoU from which on a shift by one is the simpler explanation."""


def doubt_class_numbers(counts: NDArray[np.int64], legend: Legend) -> str | None:
    """Say in one sentence why predictions seem to number their classes otherwise than the legend.

    Args:
        counts: True by predicted class, ``(K, K)``, pixels of all scenes.
        legend: The classes.
    Returns:
        The sentence with what to do, or ``None`` where the legend's own numbering is as good as any.

    Example:
        >>> from levelground.imagery.legend import default_legend
        >>> doubt_class_numbers(np.array([[0, 8, 0], [0, 0, 8], [0, 0, 0]]), default_legend(3))[:57]
        'the classes seem to be numbered from 1: mean IoU is 0.000'
    """
    counted = legend.counted
    judged = counts * counted[:, None]
    if not judged[:, counted].any():
        seen = ", ".join(legend.names[index] for index in np.flatnonzero(judged.sum(axis=0))) or "nothing"
        return (
            f"no counted class of {legend.name!r} occurs in the predictions, only {seen}: every score is 0. "
            "Check how the masks number or colour their classes."
        )
    own, order = _mean_iou(judged, counted), _best_order(judged, counted)
    permuted = _mean_iou(judged[:, order], counted)
    if not _is_suspect(own, permuted):
        return None
    for step, meaning, remedy in ((-1, "from 1", "Subtract 1 from"), (1, "one too low", "Add 1 to")):
        shifted = _mean_iou(np.roll(judged, step, axis=1), counted)
        if _is_suspect(own, shifted) and shifted > SHIFT_SHARE * permuted:
            return (
                f"the classes seem to be numbered {meaning}: mean IoU is {own:.3f}, and {shifted:.3f} with every class "
                f"moved by one. {remedy} each pixel of the masks, and adopt them again."
            )
    names = legend.names
    moved = [f"{names[old]} as {names[new]}" for new, old in enumerate(order) if new != old and judged[:, old].any()]
    return (
        f"the classes seem to be in another order: mean IoU is {own:.3f}, and {permuted:.3f} with "
        f"{', '.join(moved)}. Check the order of classes and, in colours, of the channels (red first)."
    )


def _is_suspect(own: float, other: float) -> bool:
    """Tell whether another numbering scores several times as high."""
    return other >= SUSPECT_RATIO * own and other - own >= SUSPECT_GAIN


def _mean_iou(counts: NDArray[np.int64], counted: NDArray[np.bool_]) -> float:
    """Compute the official mean IoU, 0 where no class has any pixel."""
    return float(np.nan_to_num(miou(counts, counted, "official")))


def _best_order(counts: NDArray[np.int64], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Find the column that each class should take for the highest sum of IoUs over counted classes."""
    true, predicted = counts.sum(axis=1, keepdims=True), counts.sum(axis=0, keepdims=True)
    union = true + predicted - counts
    iou = np.where(union > 0, counts / np.maximum(union, 1), 0.0) * counted[:, None]
    iou += 1e-9 * np.eye(len(counts))  # classes that gain nothing stay where they are
    return np.asarray(linear_sum_assignment(iou, maximize=True)[1], np.int64)


_SUFFIXES = {".png", ".tif", ".tiff", ".jpg", ".jpeg"}
_WORDS = "mask|masks|pred|preds|prediction|predictions|label|labels|seg|out|output|sat"
_ENDINGS = re.compile(rf"([_-]({_WORDS}))+$", re.IGNORECASE)
_STARTS = re.compile(rf"(^|(?<=/))(({_WORDS})[_-])+(?=[^/]+$)", re.IGNORECASE)


def adopt_predictions(
    masks: Path,
    dataset: Dataset,
    training: TrainingName = UNNAMED,
    *,
    split: SplitName = "test",
    snap: int = 0,
) -> Run:
    """Adopt a folder of predicted masks as a run, and count them.

    Args:
        masks: Folder with one mask a scene, colours or class indices, found by scene id.
        dataset: The scenes; the run lies in the ``runs/`` beside.
        training: Names of the model that made them, and its seed, as far as they are known.
        split: Scenes that the masks are counted on; each must have one.
        snap: Colours that are not a class become the nearest class up to this difference in each channel, grey levels.
    Returns:
        The run, with counts and masks.
    Raises:
        SceneError: A mask is missing, doubled, of another size, or has pixels without a class.
        LabelColourError: A mask holds a colour of no class.
        ConfigError: The name is taken by another run, or there is a seed without a name of the architecture.
    """
    found = find_masks(masks, dataset, split)
    if training.seed is not None and training.known_as is None:
        raise ConfigError(f"--seed {training.seed}: masks do not tell of which architecture. Give --as NAME too.")
    label = training.folder_name(clean_name(masks.resolve().name))
    identity = sha256_json(["predictions", label])
    folder, old = find_adopted(dataset, label, identity)
    hashes = {scene: sha256_file(path) for scene, path in found.items()}
    evaluation = sha256_json([hashes, snap, dataset.digest((split,)), dataset.split_sha256])
    if old is not None:
        old = write_card(folder, dataclasses.replace(old.card, known_as=training.known_as, seed=training.seed))
        if is_evaluated(old, split, evaluation):
            _warn(label, read_counts(old.counts_path(split)), dataset.legend)
            say(f"{label}: these masks are counted already; reused.")
            return old
        old = remove_evaluation(old, split)
    card = dataclasses.replace(
        adopted_card(dataset, label, identity, training), adopted_from=AdoptionRecord(masks=masks.resolve().name)
    )
    run, scores = old or Run(folder, card), []
    preds_folder, codings = run.preds_folder(split), tell_mask_codings(found.values(), dataset.legend)
    for scene, path in track(found.items(), f"count {label}", len(found)):
        labels = np.asarray(dataset.open(scene).labels)
        check_labels(dataset.scene(scene), labels)
        preds = read_mask(path, dataset, scene, snap=snap, codings=codings)
        scores.append(count_scene(ScenePrediction(preds, None), labels, dataset.legend, details=True))
        write_mask(preds_folder / f"{scene}.png", preds, dataset.legend)
    remove_other_masks(preds_folder, found)
    counts = gather_scores(scores, dataset, list(found))
    write_counts(run.counts_path(split), counts)
    entry = EvaluationRecord(identity=evaluation, counts_sha256=sha256_file(run.counts_path(split)))
    run = record_evaluation(run, dataset, split, entry)
    _warn(label, counts, dataset.legend)
    warn_of_same_seed(run)
    say(f"{label}: {len(found)} masks counted on {split}.")
    return run


def _warn(label: str, counts: SceneCounts, legend: Legend) -> None:
    """Say where the masks seem to number their classes otherwise than the legend."""
    doubt = doubt_class_numbers(counts.counts.sum(axis=0), legend)
    if doubt is not None:
        say(f"Warning: {label}: {doubt}")


def find_masks(folder: Path, dataset: Dataset, split: SplitName) -> dict[str, Path]:
    """Find the mask of every scene of a split.

    A mask belongs to a scene if its path below ``folder``, without suffix and without endings such as ``_sat_mask`` or
    beginnings such as ``pred_``, is the scene's id, or the path of its image or labels below the data folder; or if its
    bare file name is the last part of one of these and of no other scene's.

    Args:
        folder: Where the masks lie.
        dataset: The scenes.
        split: The scenes that need a mask.
    Returns:
        File by scene id, in the order of the split.
    Raises:
        SceneError: There is no such folder, a scene has no mask, or two files fit one.
    """
    if not folder.is_dir():
        raise SceneError(f"{folder}: no such folder. Give the folder that holds the predicted masks.")
    by_path, by_name = _files(folder)
    ids = dataset.ids(split)
    names: Mapping[str, set[str]] = _last_parts(dataset, ids)
    found, missing = {}, []
    for scene in ids:
        record = dataset.scene(scene)
        fitting = next((by_path[key] for key in _keys(record) if key in by_path), [])
        if not fitting:
            mine = [PurePosixPath(key).name for key in _keys(record)]
            fitting = next((by_name[name] for name in mine if name in by_name and names[name] == {scene}), [])
        if len(fitting) > 1:
            first, second = sorted(fitting)[:2]
            raise SceneError(f"{first}: {second.name} fits scene {scene} too. Keep one mask a scene.")
        if fitting:
            found[scene] = fitting[0]
        else:
            missing.append(scene)
    if missing:
        raise SceneError(
            f"{folder}: no mask for {len(missing)} of {len(ids)} {split} scenes, the first is {missing[0]!r}. "
            f"Name its mask {missing[0]}.png."
        )
    return found


def _files(folder: Path) -> tuple[Mapping[str, list[Path]], Mapping[str, list[Path]]]:
    """Index image files by path without suffix and ending, and by bare name."""
    by_path, by_name = defaultdict(list), defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."):
            key = _bare(path.relative_to(folder).as_posix())
            by_path[key].append(path)
            by_name[PurePosixPath(key).name].append(path)
    return by_path, by_name


def _bare(path: str) -> str:
    """Strip suffix, endings and beginnings from a path, but never leave it empty."""
    stem = PurePosixPath(path).with_suffix("").as_posix()
    bare = _STARTS.sub("", _ENDINGS.sub("", stem))
    return bare if PurePosixPath(bare).name else stem


def _keys(record: SceneRecord) -> list[str]:
    """List the names that a mask of this scene may have."""
    return list(dict.fromkeys([record.id, _bare(record.labels), _bare(record.image)]))


def _last_parts(dataset: Dataset, ids: tuple[str, ...]) -> Mapping[str, set[str]]:
    """Index the scenes by the bare names that their masks may have."""
    names: dict[str, set[str]] = defaultdict(set)
    for scene in ids:
        for key in _keys(dataset.scene(scene)):
            names[PurePosixPath(key).name].add(scene)
    return names
