"""Folds: every scene is a test scene once. Whole groups are dealt out with like class shares; each fold is a split."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levelground.config import PrepareOptions
from levelground.datasets.blocks import describe_blocks
from levelground.datasets.dataset import Dataset, SceneRecord, read_dataset
from levelground.datasets.groups import Grouping
from levelground.datasets.splits import DRAWS, EMPTY, NEVER_TRAINED, Content, Split, draw_groups, group_table
from levelground.errors import ConfigError, RecordError, SplitError

PASSES = 8
"""How often all groups are tried in another fold, at most."""

Floats = NDArray[np.float64]


def fold_folder(study: Path, number: int) -> Path:
    """Return the folder of a fold, counted from 1: a data set and its runs."""
    return study / "folds" / str(number)


def read_folds(dataset: Dataset) -> tuple[Dataset, ...]:
    """Read the folds of a data set; empty where it has none.

    Raises:
        RecordError: A fold's ``dataset.json`` is missing, damaged, or does not belong to the data set.
    """
    folds = []
    for number, test in enumerate(dataset.split.folds, start=1):
        fold = read_dataset(fold_folder(dataset.folder, number))
        told = {*fold.ids("test")}
        same = [_judged(one, told) for one in fold.scenes] == [_judged(one, told) for one in dataset.scenes]
        if fold.ids("test") != test or not same or fold.legend.digest() != dataset.legend.digest():
            raise RecordError(
                f"{fold.folder}: is not fold {number} of {dataset.folder}. Run levelground prepare again."
            )
        folds.append(fold)
    return tuple(folds)


def choose_folds(
    options: PrepareOptions, scenes: Sequence[SceneRecord], grouping: Grouping, *, one_raster: bool
) -> tuple[Split, ...]:
    """Deal the scenes out to folds, if folds are asked for; scenes without a labelled pixel are left out.

    Args:
        options: Number of folds, rule and seed.
        scenes: The labelled scenes.
        grouping: Their groups; ``random`` keeps named groups together, any other rule also what touches or repeats.
        one_raster: Whether all scenes are blocks of one raster.
    Returns:
        The split of each fold; none where no folds are asked for.
    Raises:
        SplitError: There are too few groups.
        ConfigError: Blocks of one raster touch, so folds of them would share borders.
    """
    if options.folds is None:
        return ()
    if one_raster and options.split not in ("random", "blocks"):
        raise ConfigError(
            f"--folds {options.folds}: all scenes are blocks of one raster, and blocks that touch would be in unlike "
            f"folds. Pass --split blocks --block-px {4 * options.block} for blocks with a buffer, or --split random to "
            "accept that, or leave --folds away for strips."
        )
    usable = {scene.id: scene.class_pixels for scene in scenes if sum(scene.class_pixels)}
    groups = grouping.named if options.split == "random" else grouping.joined
    chosen = {scene: groups[scene] for scene in usable}
    seed, what = options.split_seed, describe_blocks(options)
    folds = fold_splits(chosen, usable, n_folds=options.folds, seed=seed, what=what)
    unlabelled = {scene.id for scene in scenes if scene.id not in usable}
    return tuple(replace(fold, left_out=tuple(sorted({*fold.left_out, *unlabelled}))) for fold in folds)


def _judged(scene: SceneRecord, test: Collection[str]) -> tuple[str, ...]:
    """Return what a fold has in common with its data set; near test blocks each fold leaves other labels out."""
    return (scene.id, scene.group, scene.image_sha256, scene.labels_sha256 if scene.id in test else "")


def fold_splits(
    groups: Mapping[str, str],
    class_pixels: Mapping[str, Sequence[int]],
    *,
    n_folds: int,
    seed: int = 0,
    what: str = "",
) -> tuple[Split, ...]:
    """Split scenes into folds of whole groups with like class shares, and each fold's other scenes into train and val.

    Args:
        groups: Group of each scene, by id.
        class_pixels: Pixels of each class, by id.
        n_folds: Number of folds K, at least 2.
        seed: From 0 to 2**32 - 1.
        what: What is dealt out, in words; by default scenes, or groups of them.
    Returns:
        One split a fold: its test scenes are the fold, a tenth of all groups validates, the others train.
    Raises:
        SplitError: There are too few groups.
    Example:
        >>> scenes = [f"s{number}" for number in range(6)]
        >>> folds = fold_splits(dict(zip(scenes, scenes)), dict.fromkeys(scenes, (5, 5)), n_folds=3)
        >>> [fold.sizes for fold in folds], sorted(scene for fold in folds for scene in fold.test) == scenes
        ([(3, 1, 2), (3, 1, 2), (3, 1, 2)], True)
    """
    table = group_table(groups, class_pixels)
    n_groups = len(table.members)
    what = what or ("scenes" if n_groups == len(groups) else "groups of scenes")
    if n_groups < max(3, n_folds):
        raise SplitError(
            f"{n_groups} {what} for {n_folds} folds, expected at least {max(3, n_folds)}. Lower --folds or add scenes."
        )
    fold_of = draw_folds(table.content, n_folds, seed=seed)
    splits = []
    for number in range(n_folds):
        rest, text = np.flatnonzero(fold_of != number), f"fold {number + 1} of {n_folds}"
        if len(rest) < 2:
            raise SplitError(
                f"{text} leaves {len(rest)} group of scenes to train and validate, expected at least 2. "
                "Add scenes, or choose other --groups."
            )
        n_val = min(max(1, round(0.1 * n_groups)), len(rest) - 1)
        train, val = (rest[part] for part in _draw_val(table.content[rest], n_val, seed=seed))
        test = table.scenes(np.flatnonzero(fold_of == number))
        text = f"{text}; {what} drawn at random, seed {seed}, by class shares"
        splits.append(Split(table.scenes(train), table.scenes(val), test, "fold", seed=seed, text=text))
    return tuple(splits)


def joined_split(folds: Sequence[Split]) -> Split:
    """Return the split of a data set in folds: every scene is a test scene, in its fold.

    Args:
        folds: The splits of the folds.
    """
    tested = tuple(sorted(scene for fold in folds for scene in fold.test))
    everywhere = set.intersection(*(set(fold.left_out) for fold in folds))
    text = f"{len(folds)} folds, every scene a test scene once; {folds[0].text.partition('; ')[2]}"
    return Split(
        (),
        (),
        tested,
        "folds",
        left_out=tuple(sorted(everywhere)),
        seed=folds[0].seed,
        text=text,
        folds=tuple(fold.test for fold in folds),
    )


def draw_folds(content: Content, n_folds: int, *, seed: int) -> NDArray[np.intp]:
    """Deal groups out to folds so that all have like shares of each class and like numbers of scenes.

    The best of :data:`DRAWS` random deals is improved by moving a group to another fold, or exchanging two, as long as
    that helps.

    Args:
        content: What each group holds, ``(groups, classes + 1)``: pixels of each class, then the number of scenes.
        n_folds: Number of folds K.
        seed: From 0 to 2**32 - 1.
    Returns:
        The fold of each group, from 0.
    """
    order = np.argsort(np.random.RandomState(seed).random_sample((DRAWS, len(content))), axis=1)
    dealt = np.empty_like(order)
    np.put_along_axis(dealt, order, np.arange(len(content))[None] % n_folds, axis=1)
    sums = np.stack([(dealt == number) @ content for number in range(n_folds)], axis=1)
    fold_of: NDArray[np.intp] = dealt[int(np.argmin(fold_unevenness(sums)))].copy()
    for _ in range(PASSES):
        if not sum(_improve(content, fold_of, n_folds, group) for group in range(len(content))):
            break
    return fold_of


def fold_unevenness(sums: NDArray[np.int64]) -> Floats:
    """Score how far folds are from like shares: for each class K Σ (share - 1/K)², for scenes that of K (share - 1/K).

    Args:
        sums: What each fold holds, ``(..., K, classes + 1)``.
    Returns:
        ``(...)``, 0 for equal folds; a class that lies in one fold only cannot be learnt there and outweighs shares.
    """
    n_folds, total = sums.shape[-2], sums.sum(axis=-2, keepdims=True)
    off = np.where(total > 0, sums / np.maximum(total, 1) - 1 / n_folds, 0.0)
    score = n_folds * (off[..., :-1] ** 2).sum(axis=(-2, -1))
    score += (sums.shape[-1] - 1) * ((n_folds * off[..., -1]) ** 2).sum(axis=-1)
    score += NEVER_TRAINED * ((sums == total) & (total > 0)).any(axis=-2).sum(axis=-1)
    score += EMPTY * (sums[..., -1] <= 0).sum(axis=-1)
    return np.asarray(np.round(score, 9))


def _improve(content: Content, fold_of: NDArray[np.intp], n_folds: int, group: int) -> bool:
    """Move a group to another fold or exchange it with another group, in place, if that makes folds more even."""
    own = fold_of[group]
    sums = np.zeros((n_folds, content.shape[1]), np.int64)
    np.add.at(sums, fold_of, content)
    partners = np.flatnonzero(fold_of != own)
    targets = np.concatenate((np.flatnonzero(np.arange(n_folds) != own), fold_of[partners]))
    given = np.zeros((len(targets), content.shape[1]), np.int64)
    given[n_folds - 1 :] = content[partners]
    trials = np.repeat(sums[None], len(targets), axis=0)
    rows = np.arange(len(targets))
    trials[rows, own] += given - content[group]
    trials[rows, targets] += content[group] - given
    scores = fold_unevenness(trials)
    best = int(scores.argmin())
    if scores[best] >= fold_unevenness(sums):
        return False
    fold_of[group] = targets[best]
    if best >= n_folds - 1:
        fold_of[partners[best - n_folds + 1]] = own
    return True


def _draw_val(content: Content, n_val: int, *, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Take the best of :data:`DRAWS` random draws of groups into train and val."""
    train, val = draw_groups(content, (len(content) - n_val, n_val), seed=seed)
    return train, val
