"""Adoption of another tool's predictions: found by scene, read as classes or probabilities, and counted."""

import dataclasses
import re
import shutil
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from levelground.adoption.adopted_runs import (
    UNNAMED,
    TrainingName,
    adopted_card,
    clean_name,
    find_adopted,
    warn_of_twins,
)
from levelground.adoption.prediction_files import (
    ClassProbabilities,
    ReadingRules,
    read_prediction,
    tell_mask_codings,
)
from levelground.config import PredictionOptions
from levelground.console import say, say_counted, track
from levelground.datasets.dataset import Dataset, SceneRecord
from levelground.datasets.splits import SplitName
from levelground.errors import ConfigError, SceneError
from levelground.evaluation.evaluate import (
    counting_inputs,
    hash_masks,
    is_evaluated,
    record_evaluation,
    remove_evaluation,
    write_mask,
)
from levelground.evaluation.score_scenes import (
    ScenePrediction,
    check_labels,
    count_scene,
    gather_scores,
    postprocess_scene,
)
from levelground.imagery.class_maps import ClassMap, read_class_map
from levelground.imagery.image_pixels import ARRAY_SUFFIXES
from levelground.imagery.legend import IGNORE, LabelMap, Legend
from levelground.inference.sliding_window import Block
from levelground.metrics.counts import SceneCounts, read_counts, write_counts
from levelground.metrics.scores import miou
from levelground.records import sha256_file, sha256_json
from levelground.runs import AdoptionRecord, EvaluationRecord, Run, write_card
from levelground.wording import gettext

SUSPECT_RATIO = 2.0
"""How many times as high the mean IoU must be under another numbering for a warning."""

SUSPECT_GAIN = 0.1
"""How much higher it must be at least: by chance, a permutation of six columns of noise gains some hundredths."""

SHIFT_SHARE = 0.8
"""Share of the best permutation's mean IoU from which on a shift by one is the simpler explanation."""


def doubt_class_numbers(counts: NDArray[np.int64], legend: Legend, *, mapped: bool = False) -> str | None:
    """Say in one sentence why predictions seem to number their classes otherwise than the legend.

    Args:
        counts: True by predicted class, ``(K, K)``, pixels of all scenes.
        legend: The classes.
        mapped: Whether ``--class-map`` was given.
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
    for step, meaning in ((-1, "from 1"), (1, "one too low")):
        shifted = _mean_iou(np.roll(judged, step, axis=1), counted)
        if _is_suspect(own, shifted) and shifted > SHIFT_SHARE * permuted:
            return (
                f"the classes seem to be numbered {meaning}: mean IoU is {own:.3f}, and {shifted:.3f} with every class "
                f"moved by one. {_remedy(np.roll(np.arange(len(counts)), step), mapped=mapped)}"
            )
    names = legend.names
    moved = [f"{names[old]} as {names[new]}" for new, old in enumerate(order) if new != old and judged[:, old].any()]
    return (
        f"the classes seem to be in another order: mean IoU is {own:.3f}, and {permuted:.3f} with "
        f"{', '.join(moved)}. {_remedy(order, mapped=mapped)}"
    )


def _remedy(order: NDArray[np.int64], *, mapped: bool) -> str:
    """Say by which flag the classes are put in order; ``order`` is the number that each class has now."""
    if mapped:
        return "Check --class-map."
    return f"If that is right, pass --class-map {' '.join(f'{old}={new}' for new, old in enumerate(order.tolist()))}"


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


NO_OPTIONS = PredictionOptions()
_SUFFIXES = {".png", ".tif", ".tiff", ".jpg", ".jpeg"} | ARRAY_SUFFIXES
_WORDS = "mask|masks|pred|preds|prediction|predictions|label|labels|seg|out|output|sat"
_ENDINGS = re.compile(rf"([_-]({_WORDS}))+$", re.IGNORECASE)
_STARTS = re.compile(rf"(^|(?<=/))(({_WORDS})[_-])+(?=[^/]+$)", re.IGNORECASE)


def adopt_predictions(
    folder: Path, dataset: Dataset, options: PredictionOptions = NO_OPTIONS, training: TrainingName = UNNAMED
) -> Run:
    """Adopt a folder of predictions as a run, and count them.

    Args:
        folder: Holds one file a scene of the split: a mask, or an array of classes or of probabilities.
        dataset: The scenes; the run lies in the ``runs/`` beside.
        options: How the files are found, read and counted.
        training: Names of the model that made them, and its seed, as far as they are known.
    Returns:
        The run, with counts and masks; with confidences and losses where there are probabilities.
    Raises:
        SceneError: A file is missing, doubled, of another size, or has pixels without a class.
        LabelColourError: A mask holds a colour of no class.
        ConfigError: The name is taken by another run, there is a seed without a name of the architecture, or a pattern
            or class map is wrong.
    """
    class_map, split = read_class_map(options.class_map, dataset.legend), options.split
    if training.seed is not None and training.known_as is None:
        raise ConfigError(f"--seed {training.seed}: masks do not tell of which architecture. Give --as NAME too.")
    files = find_predictions(folder, dataset, split, names=options.names)
    label = training.folder_name(clean_name(folder.resolve().name))
    identity = sha256_json(["predictions", label])
    target, old = find_adopted(dataset, label, identity)
    evaluation = _evaluation_identity(files, dataset, options)
    if old is not None and is_evaluated(old, split, evaluation):
        run = write_card(target, dataclasses.replace(old.card, known_as=training.known_as, seed=training.seed))
        _warn(run, split, dataset.legend, class_map)
        say("%(label)s: these predictions are counted already; reused.", label=label)
        return run
    card = adopted_card(dataset, label, identity, training)
    card = dataclasses.replace(card, adopted_from=AdoptionRecord(masks=folder.resolve().name))
    if old is not None:
        origin = dataclasses.replace(old.card.adopted_from or AdoptionRecord(), masks=folder.resolve().name)
        card = dataclasses.replace(old.card, known_as=training.known_as, seed=training.seed, adopted_from=origin)
    codings = tell_mask_codings(dict.fromkeys(files.values()), dataset.legend, class_map)
    rules = ReadingRules(codings, options.snap_colours, class_map, options.blue_first, options.align)
    run = Run(target, card)
    with _staged(run, split) as staging:
        counts, dice = _count(files, dataset, rules, staging, label)
        run = remove_evaluation(run, split)
    write_counts(run.counts_path(split), counts)
    entry = EvaluationRecord(
        identity=evaluation,
        counts_sha256=sha256_file(run.counts_path(split)),
        loss=float(counts.loss_sum.sum() / counts.loss_pixels.sum()) if counts.loss_pixels.any() else None,
        dice_loss=dice,
    )
    run = record_evaluation(run, dataset, split, entry)
    _warn(run, split, dataset.legend, class_map)
    say_counted(
        "%(label)s: %(n)s prediction counted on %(split)s.",
        "%(label)s: %(n)s predictions counted on %(split)s.",
        len(files),
        label=label,
        split=split,
    )
    return run


def _evaluation_identity(files: Mapping[str, Path], dataset: Dataset, options: PredictionOptions) -> str:
    """Hash everything that decides the counts."""
    by_path = {path: sha256_file(path) for path in dict.fromkeys(files.values())}  # blocks share their raster's map
    read = [options.snap_colours, options.class_map, options.blue_first, options.align]
    files_sha256 = {scene: by_path[path] for scene, path in files.items()}
    return sha256_json(counting_inputs(dataset, options.split) | {"files": files_sha256, "read": read})


@contextmanager
def _staged(run: Run, split: SplitName) -> Iterator[Path]:
    """Give a folder for masks, which takes the place of the run's masks when all are written, and goes otherwise."""
    staging, folder = run.folder / f".preds-{split}-new", run.preds_folder(split)
    made = [parent for parent in (run.folder, run.folder.parent) if not parent.exists()]
    shutil.rmtree(staging, ignore_errors=True)
    try:
        yield staging
        hash_masks(staging)
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # something else was put into it meanwhile
                parent.rmdir()
        raise


def _count(
    files: Mapping[str, Path], dataset: Dataset, rules: ReadingRules, masks: Path, label: str
) -> tuple[SceneCounts, float | None]:
    """Read and count each scene's prediction and write its mask; also the mean Dice loss of probabilities."""
    scores, dice, certain = [], [], True
    for scene, path in track(files.items(), gettext("count %(label)s", label=label), len(files)):
        labels = np.asarray(dataset.open(scene).labels)
        check_labels(dataset.scene(scene), labels)
        read = read_prediction(path, dataset, scene, rules)
        if isinstance(read, ClassProbabilities):
            found = _judge(read, labels, dataset.legend)
            dice.append(found.smp_dice or 0.0)
            certain = certain and bool(((read.values == 0) | (read.values == 1)).all())
        else:
            found = ScenePrediction(read, None)
        scores.append(count_scene(found, labels, dataset.legend, details=True))
        write_mask(masks / f"{scene}.png", found.preds, dataset.legend)
        if 0 < len(dice) < len(scores):
            raise SceneError(
                f"{path}: some files of the folder hold probabilities and others classes. Save all in one form."
            )
    if dice and certain:
        say(
            "Warning: %(label)s: every probability is 0 or 1, so that confidences and loss say "
            "little. Save what softmax gave, or the classes alone.",
            label=label,
        )
    return gather_scores(scores, dataset, list(files)), statistics.fmean(dice) if dice else None


def _judge(read: ClassProbabilities, labels: LabelMap, legend: Legend) -> ScenePrediction:
    """Find classes, confidences and losses of probabilities, as of a network's; its time is not known."""
    block = Block(0, 0, torch.from_numpy(read.values))
    found = postprocess_scene(
        [block], labels, outputs=read.outputs, counted=legend.counted, device=torch.device("cpu"), smp_dice=True
    )
    preds = found.preds if read.missing is None else np.where(read.missing, np.uint8(IGNORE), found.preds)
    return dataclasses.replace(found, preds=preds, forward_s=0.0)


def _warn(run: Run, split: SplitName, legend: Legend, class_map: ClassMap) -> None:
    """Say where the predictions seem to number their classes otherwise, and where another run has the same seed."""
    counts = read_counts(run.counts_path(split)).counts.sum(axis=0)
    doubt = doubt_class_numbers(counts, legend, mapped=class_map != ClassMap())
    if doubt is not None:
        say("Warning: %(name)s: %(doubt)s", name=run.name, doubt=doubt)
    warn_of_twins(run)


def find_predictions(folder: Path, dataset: Dataset, split: SplitName, *, names: str | None = None) -> dict[str, Path]:
    """Find the prediction of every scene of a split.

    Without a pattern a file belongs to a scene if its path below ``folder``, without suffix and without endings such as
    ``_sat_mask`` or beginnings such as ``pred_``, is the scene's id, or the path of its image or labels below the data
    folder; or if its bare file name is the last part of one of these and of no other image's. So the map of an image
    serves all blocks of it. Where no scene is found so, the one pattern that gives each scene one file is taken, and
    said.

    Args:
        folder: Where the files lie.
        dataset: The scenes.
        split: The scenes that need a prediction.
        names: A pattern of their names, such as ``DG_{id}.png``.
    Returns:
        File by scene id, in the order of the split.
    Raises:
        SceneError: There is no such folder, a scene has no file, or two files fit one.
        ConfigError: The pattern has neither ``{id}`` nor ``{n}``.
    """
    if not folder.is_dir():
        raise SceneError(f"{folder}: no such folder. Give the folder that holds the predictions.")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    files = {path.relative_to(folder).as_posix(): path for path in paths if not path.name.startswith(".")}
    ids = dataset.ids(split)
    found = _by_pattern(names, files, dataset, ids) if names else _by_id(files, dataset, ids)
    patterns = [] if names or any(found.values()) else _fitting_patterns(files, dataset, ids)
    if len(patterns) == 1:
        found = _by_pattern(patterns[0], files, dataset, ids)
        say("%(name)s: its names are read as --names '%(patterns)s'.", name=folder.name, patterns=patterns[0])
    for scene, fitting in found.items():
        if len(fitting) > 1:
            first, second = sorted(fitting)[:2]
            raise SceneError(
                f"{first}: {second.relative_to(folder)} fits scene {scene} too. Keep one file a scene, or tell which "
                "with --names."
            )
    missing = [scene for scene in ids if not found[scene]]
    if missing:
        raise SceneError(
            f"{folder}: no prediction for {len(missing)} of {len(ids)} {split} scenes, the first is {missing[0]!r}. "
            f"{_advise_on_names(folder, files, dataset.scene(missing[0]), ids)}"
        )
    if names and "{n" in names:
        ends = {"name": folder.name, "a": ids[0], "b": ids[-1]}
        ends |= {"first": found[ids[0]][0].name, "last": found[ids[-1]][0].name}
        if len(ids) == 1:
            say("%(name)s: reads %(first)s as scene %(a)s.", **ends)
        else:
            say("%(name)s: reads %(first)s as scene %(a)s and %(last)s as scene %(b)s.", **ends)
    return {scene: fitting[0] for scene, fitting in found.items()}


def _by_id(files: Mapping[str, Path], dataset: Dataset, ids: Sequence[str]) -> dict[str, list[Path]]:
    """Find files by path without suffix, ending and beginning, else by its last folders, bare name, or case aside."""
    keys = {scene: _keys(dataset.scene(scene)) for scene in ids}
    whole = {key for mine in keys.values() for key in mine}
    scenes = Counter(folded for mine in keys.values() for folded in {key.casefold() for key in mine})
    by_path, by_tail, by_name, by_folded = (defaultdict[str, list[Path]](list) for _ in range(4))
    for below, path in files.items():
        key = _bare(below)
        parts = PurePosixPath(key).parts
        by_path[key].append(path)
        by_name[parts[-1]].append(path)
        by_folded[key.casefold()].append(path)
        for start in range(1, len(parts) - 1) if key not in whole else ():
            by_tail["/".join(parts[start:])].append(path)
    names, found = _own_names(dataset, ids), {}
    for scene, mine in keys.items():
        folded = [one for key in mine if scenes[one := key.casefold()] == 1]
        ways = ((by_path, mine), (by_tail, mine), (by_name, names[scene]), (by_folded, folded))
        found[scene] = next((way[key] for way, those in ways for key in those if key in way), [])
    return found


def _by_pattern(pattern: str, files: Mapping[str, Path], dataset: Dataset, ids: Sequence[str]) -> dict[str, list[Path]]:
    """Find files by a pattern of their path below the folder, or of their name where the pattern has no slash."""
    if not re.search(r"\{(id|n|n\+1)\}", pattern):
        raise ConfigError(f"--names {pattern}: expected {{id}}, {{n}} or {{n+1}} in it, such as 'DG_{{id}}.png'.")
    names, found = _own_names(dataset, ids), {}
    pieces = re.split(r"(\{id\}|\{n\}|\{n\+1\}|\*)", pattern)
    ending = "" if PurePosixPath(pattern).suffix.lower() in _SUFFIXES else r"\.[^./]+"
    for place, scene in enumerate(ids):
        keys = {scene, scene.replace("/", "_"), *names[scene]}
        known = "|".join(map(re.escape, sorted(keys)))
        parts = {"{id}": f"(?:{known})", "{n}": f"0*{place}", "{n+1}": f"0*{place + 1}", "*": "[^/]*"}
        whole = re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces) + ending)
        found[scene] = [
            path
            for below, path in files.items()
            if whole.fullmatch(below) or ("/" not in pattern and whole.fullmatch(path.name))
        ]
    return found


def _fitting_patterns(files: Mapping[str, Path], dataset: Dataset, ids: Sequence[str]) -> list[str]:
    """List the patterns that give each scene one file: what is around a name of the first scene in a file's name."""
    first = [PurePosixPath(ids[0]).name, *_own_names(dataset, ids)[ids[0]]]
    patterns = dict.fromkeys(
        f"{path.name[: at.start()]}{{id}}{path.name[at.end() :]}"
        for path in files.values()
        for name in dict.fromkeys(first)
        for at in re.finditer(re.escape(name), path.stem)
    )
    return [
        pattern
        for pattern in patterns
        if all(len(fitting) == 1 for fitting in _by_pattern(pattern, files, dataset, ids).values())
    ]


def _advise_on_names(folder: Path, files: Mapping[str, Path], record: SceneRecord, ids: Sequence[str]) -> str:
    """Say how the missing file should be called, or what the folder holds instead."""
    image = PurePosixPath(record.image)
    scene = record.id if record.window is None else image.stem
    others = Counter(path.suffix.lower() for path in folder.rglob("*") if path.is_file())
    if not files and others[".txt"]:
        return (
            "It holds .txt files, perhaps outlines of objects: draw each outline with its class's number into a mask "
            f"of the scene's size (PIL.ImageDraw.Draw(mask).polygon), and save that as {scene}.png."
        )
    if not files:
        held = ", ".join(f"{n} {suffix or 'without a suffix'}" for suffix, n in others.most_common(3)) or "none"
        return f"Its files: {held}. Give masks as .png or .tif, or arrays as .npy or .npz, such as {scene}.png."
    numbers = sorted(int(path.stem) for path in files.values() if path.stem.isdecimal())
    if len(set(numbers)) == len(files) >= len(ids) and numbers[0] in (0, 1):
        pattern = f"{'{n+1}' if numbers[0] else '{n}'}{next(iter(files.values())).suffix}"
        order = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
        return f"Its files are numbered: if they follow the order {order}, pass --names '{pattern}'"
    name = next(iter(files.values())).name
    inside = sorted((key for one in (scene, *ids) if (key := PurePosixPath(one).name) in name), key=len)
    pattern = name.replace(inside[-1], "{id}", 1) if inside else f"pred_{{id}}{PurePosixPath(name).suffix}"
    if record.window is None:
        return f"Name it {scene}.png, or give the pattern of the names, such as --names '{pattern}'"
    return (
        f"Name the map of the whole of {image} {scene}.png, or the block's own {record.id}.png, or give the pattern of "
        f"the names, such as --names '{pattern}'"
    )


def _bare(path: str) -> str:
    """Strip suffix, endings and beginnings from a path, but never leave it empty."""
    stem = PurePosixPath(path).with_suffix("").as_posix()
    bare = _STARTS.sub("", _ENDINGS.sub("", stem))
    return bare if PurePosixPath(bare).name else stem


def _keys(record: SceneRecord) -> list[str]:
    """List the names that a mask of this scene may have."""
    return list(dict.fromkeys([record.id, _bare(record.labels), _bare(record.image), record.id.replace("/", "_")]))


def _own_names(dataset: Dataset, ids: Sequence[str]) -> Mapping[str, list[str]]:
    """List for each scene the bare names that a mask of it, or of the image that it is a block of, alone may have."""
    images: dict[str, set[str]] = defaultdict(set)
    names = {scene: [PurePosixPath(key).name for key in _keys(dataset.scene(scene))] for scene in ids}
    for scene, own in names.items():
        for name in own:
            images[name].add(dataset.scene(scene).image)
    return {scene: [name for name in own if len(images[name]) == 1] for scene, own in names.items()}
