"""Compatibility of runs: what must be the same before they are compared, and which differences are named instead.

Hard stops: test scenes, their groups and labels, the legend, by hash. Nothing overrides them. Named, and compared only
with ``--allow-unlike``: the training protocol (recipe, budget, weight source, split) and the tile geometry. What an
adopted run does not know is ``unknown``: it is named and stops nothing, because nobody can say that it differs. What is
alike decides too which runs are seeds of one architecture, and the shortest names that tell architectures apart.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import JsonValue

from levelground.comparison.conditions import ProtocolDifference
from levelground.comparison.text import listing
from levelground.errors import RecordError, UnlikeError
from levelground.metrics.counts import SceneCounts
from levelground.recipe_files import BudgetRecord
from levelground.records import to_json
from levelground.runs import Run, RunCard

UNKNOWN = "unknown"
"""The value of a field that a run cannot tell."""

_OF_THE_MODEL = frozenset({"name", "encoder", "encoder_weights", "tile", "halo", "epochs"})
"""Recipe fields that are not the recipe's here: the model, and what has a line of its own."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A run with its counts on the split that is compared, scenes in order of their ids, under a unique name."""

    name: str
    run: Run
    counts: SceneCounts


def check_alike(evaluated: Sequence[Evaluated]) -> None:
    """Stop where runs were scored on unlike ground truth.

    Args:
        evaluated: The runs; each is compared with the first.
    Raises:
        UnlikeError: Legend, test scenes, groups or labels differ; the message names the first that does.
        RecordError: Labels are alike by hash but the counts hold other numbers of true pixels: a damaged record.
    """
    first = evaluated[0]
    for other in evaluated[1:]:
        _check_legend(first, other)
        _check_scenes(first, other)
        _check_labels(first, other)
        _check_groups(first, other)
        _check_truth(first, other)


def _check_legend(first: Evaluated, other: Evaluated) -> None:
    if first.counts.legend_sha256 == other.counts.legend_sha256:
        return
    raise UnlikeError(
        f"{first.name} and {other.name} were scored with unlike legends{_legend_difference(first, other)}. "
        "Evaluate both on one dataset."
    )


def _legend_difference(first: Evaluated, other: Evaluated) -> str:
    """Name the first difference of two cards' legends, as far as the cards know."""
    mine, theirs = ({entry["index"]: entry for entry in _classes(each.run)} for each in (first, other))
    for index in sorted(mine | theirs):
        a, b = mine.get(index, {}), theirs.get(index, {})
        for key in ("name", "colour", "counted"):
            if a.get(key) != b.get(key):
                return f": class {index} has {key} {a.get(key)} in one and {b.get(key)} in the other"
    return ""


def _classes(run: Run) -> list[dict[str, Any]]:
    """Return the classes on a card, as far as it tells."""
    entries = run.card.legend.get("class")
    found = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [entry for entry in found if isinstance(entry.get("index"), int)]


def _check_scenes(first: Evaluated, other: Evaluated) -> None:
    mine, theirs = set(first.counts.scenes.tolist()), set(other.counts.scenes.tolist())
    if mine == theirs:
        return
    scene = min(mine ^ theirs)
    has, lacks = (first, other) if scene in mine else (other, first)
    raise UnlikeError(
        f"scene {scene} was scored for {has.name} and not for {lacks.name} "
        f"({len(mine & theirs)} scenes alike, {len(mine ^ theirs)} not). Evaluate both on one split."
    )


def _check_labels(first: Evaluated, other: Evaluated) -> None:
    unlike = np.flatnonzero(first.counts.labels_sha256 != other.counts.labels_sha256)
    if unlike.size:
        at = int(unlike[0])
        ours, theirs = str(first.counts.labels_sha256[at]), str(other.counts.labels_sha256[at])
        raise UnlikeError(
            f"scene {first.counts.scenes[at]}: labels of {first.name} ({ours[:8]}…) and {other.name} ({theirs[:8]}…) "
            f"differ, in {unlike.size} of {len(first.counts.scenes)} scenes. "
            "Evaluate both on the same masks."
        )


def _check_groups(first: Evaluated, other: Evaluated) -> None:
    unlike = np.flatnonzero(first.counts.groups != other.counts.groups)
    if unlike.size:
        scene, ours, theirs = (
            str(words[unlike[0]]) for words in (first.counts.scenes, first.counts.groups, other.counts.groups)
        )
        raise UnlikeError(
            f"scene {scene} is in group {ours!r} for {first.name} and in {theirs!r} for {other.name}. "
            "Evaluate both on one dataset."
        )


def _check_truth(first: Evaluated, other: Evaluated) -> None:
    ours, theirs = first.counts.counts.sum(axis=-1), other.counts.counts.sum(axis=-1)
    unlike = np.flatnonzero((ours != theirs).any(axis=-1))
    if unlike.size:
        raise RecordError(
            f"scene {first.counts.scenes[int(unlike[0])]}: labels of {first.name} and {other.name} are alike by hash "
            "but their counts hold unlike numbers of true pixels. Evaluate both runs again."
        )


def protocol_of(item: Evaluated) -> dict[str, JsonValue]:
    """Return the training protocol and the tile geometry of a run by field; ``unknown`` where it cannot tell."""
    card = item.run.card
    recipe = to_json(card.recipe) if card.recipe else {}
    fields: dict[str, JsonValue] = {f"recipe.{key}": value for key, value in recipe.items() if key not in _OF_THE_MODEL}
    if card.tuning is not None:  # chosen in the same way, values may differ
        fields |= {f"recipe.{name}": "tuned" for name in card.tuning.fields}
        fields["tuning"] = card.tuning.describe()
    fields["budget"] = describe_budget(card.budget, card.steps_done)
    started = card.initial_weights
    if card.budget is not None and card.budget.validation_sample is not None:
        one = card.budget.validation_sample
        size = f"{one.megapixels:.3g} of {one.of_megapixels:.4g} megapixels"
        fields["validation"] = f"{one.windows} windows of {one.scenes} scenes ({size}, {one.sha256[:8]})"
    fields["weights"] = (card.encoder_weights or UNKNOWN) if started is None else started.describe()
    fields["training scenes"] = training_scenes(card)
    elsewhere = card.transferred_from
    fields["split"] = ((elsewhere.split_sha256 if elsewhere else card.split_sha256) or UNKNOWN)[:12]
    fields["tile"] = UNKNOWN if card.tile is None else card.tile
    fields["halo"] = UNKNOWN if card.halo is None else card.halo
    return fields


def training_scenes(card: RunCard) -> str:
    """Return the hash of a run's training and validation scenes, after the name of their study if it is another one."""
    if card.transferred_from is None:
        return (card.train_sha256 or UNKNOWN)[:12]
    return f"{card.transferred_from.study} ({(card.transferred_from.train_sha256 or UNKNOWN)[:12]})"


def describe_budget(budget: BudgetRecord | None, steps_done: int | None) -> str:
    """Describe the budget as it was asked for, and where training stopped short of it.

    Example:
        >>> describe_budget(BudgetRecord(asked="100 steps", steps=100), 40), describe_budget(None, None)
        ('100 steps, stopped after 40 of 100', 'unknown')
    """
    if budget is None or not budget.asked:
        return UNKNOWN
    if budget.steps is not None and steps_done is not None and steps_done < budget.steps:
        return f"{budget.asked}, stopped after {steps_done} of {budget.steps}"
    return budget.asked


def compare_protocols(evaluated: Sequence[Evaluated]) -> tuple[dict[str, JsonValue], list[ProtocolDifference]]:
    """Compare the protocols of all runs field by field.

    Args:
        evaluated: The runs.
    Returns:
        The protocol, by field (``None`` where runs differ, ``unknown`` where any cannot tell), and the fields that
        differ.
    """
    protocols = {item.name: protocol_of(item) for item in evaluated}
    fields = list(dict.fromkeys(field for protocol in protocols.values() for field in protocol))
    if "tuning" in fields:
        for item in evaluated:
            protocols[item.name].setdefault("tuning", UNKNOWN if item.run.adopted else "none")
    common: dict[str, JsonValue] = {}
    unlike = []
    for field in fields:
        values = {name: protocol.get(field, UNKNOWN) for name, protocol in protocols.items()}
        known = [value for value in values.values() if value != UNKNOWN]
        alike = all(value == known[0] for value in known)
        if not alike:
            unlike.append(ProtocolDifference(field, values))
        common[field] = None if not alike else UNKNOWN if len(known) < len(values) else known[0]
    return common, unlike


def refuse_unlike(unlike: Sequence[ProtocolDifference], *, allow_unlike: bool) -> None:
    """Stop where protocols differ and nobody said that they may.

    Args:
        unlike: The second part of what :func:`compare_protocols` gives.
        allow_unlike: Whether the user accepts it.
    Raises:
        UnlikeError: Protocols differ; the message names the first field and its values.
    """
    if not unlike or allow_unlike:
        return
    first = unlike[0]
    values = listing([f"{value!r} for {run}" for run, value in first.values.items()], most=3)
    others = listing([entry.field for entry in unlike[1:]], most=4)
    also = f" (also unlike: {others})" if others else ""
    raise UnlikeError(
        f"runs were not made alike: {first.field} is {values}{also}. "
        "Give runs of one protocol, or --allow-unlike to compare them with the difference named."
    )


@dataclass(frozen=True)
class ArchitectureKey:
    """What runs of one architecture have in common.

    Attributes:
        arch: Architecture.
        encoder: Encoder; empty where an adoption named the architecture.
        twin: Whether it was trained under a second name, as a negative control.
        protocol: Values of the protocol's fields that differ between the runs compared.
        alone: The run's own name where nobody knows of which architecture it is a seed.
        repetition: 0, else how often the same training came before: the same seed, weights or predictions once more are
            no second training.
    """

    arch: str
    encoder: str
    twin: bool
    protocol: tuple[str, ...]
    alone: str
    repetition: int = 0


def name_architectures(
    evaluated: Sequence[Evaluated], unlike: Sequence[ProtocolDifference]
) -> tuple[list[str], dict[str, str]]:
    """Find out which runs are seeds of one architecture, and name it.

    Args:
        evaluated: The runs.
        unlike: Fields of the protocol that differ, with their values by run.
    Returns:
        The architecture of each run, and for each twin (a second name of an architecture) the original.
    """
    keys = _architecture_keys(evaluated, unlike)
    names = _unique_names(evaluated, keys, unlike)
    twin_of = {}
    for key, name in names.items():
        original = names.get(replace(key, twin=False))
        if key.twin and original is not None:
            twin_of[name] = original
    return [names[key] for key in keys], twin_of


def run_labels(evaluated: Sequence[Evaluated], archs: Sequence[str]) -> list[str]:
    """Label each run for tables and sentences.

    An architecture that was trained once is its own label, one with several seeds has them behind it (``unet s0``), and
    a lone run has its name.
    """
    lone = {item.name for item in evaluated if item.run.alone}
    times = Counter(arch for item, arch in zip(evaluated, archs, strict=True) if not item.run.alone)
    return [
        item.name if item.run.alone else arch if times[arch] == 1 and arch not in lone else f"{arch} s{item.run.seed}"
        for item, arch in zip(evaluated, archs, strict=True)
    ]


def _architecture_keys(evaluated: Sequence[Evaluated], unlike: Sequence[ProtocolDifference]) -> list[ArchitectureKey]:
    """Return what makes each run a seed of its architecture."""
    keys: list[ArchitectureKey] = []
    trainings = defaultdict[ArchitectureKey, list[Evaluated]](list)
    for item in evaluated:
        run = item.run
        key = ArchitectureKey(
            arch=run.known_as,
            encoder="" if run.card.known_as else run.encoder,
            twin=run.card.twin,
            protocol=tuple(repr(entry.values[item.name]) for entry in unlike),
            alone=item.name if run.alone else "",
        )
        while any(_same_training(item, other) for other in trainings[key]):
            key = replace(key, repetition=key.repetition + 1)
        trainings[key].append(item)
        keys.append(key)
    return keys


def _same_training(one: Evaluated, other: Evaluated) -> bool:
    """Tell whether two runs of one architecture are one training: by seed, weights, or each count of each scene.

    Two that were trained here to unlike weights are two, even where both predict one class everywhere.
    """
    weights = (one.run.card.weights_sha256, other.run.card.weights_sha256)
    if one.run.seed == other.run.seed or (weights[0] is not None and weights[0] == weights[1]):
        return True
    trained = not (one.run.adopted or other.run.adopted) and None not in weights
    return not trained and np.array_equal(one.counts.counts, other.counts.counts)


def _unique_names(
    evaluated: Sequence[Evaluated], keys: Sequence[ArchitectureKey], unlike: Sequence[ProtocolDifference]
) -> Mapping[ArchitectureKey, str]:
    """Return the shortest name that tells each architecture from the others."""
    first: dict[ArchitectureKey, Evaluated] = {}
    for key, item in zip(keys, evaluated, strict=True):
        first.setdefault(key, item)
    one_encoder = len({key.encoder for key in keys if key.encoder and not key.alone}) <= 1
    names = {key: _plain_name(key, one_encoder=one_encoder) for key in first}
    for name in sorted(set(names.values())):
        same = [key for key, other in names.items() if other == name]
        if len(same) > 1:
            for key, suffix in zip(same, _suffixes([first[key] for key in same], unlike), strict=True):
                names[key] = f"{name} ({suffix})"
    return names


def _plain_name(key: ArchitectureKey, *, one_encoder: bool) -> str:
    whole = f"{key.arch} {key.encoder.removeprefix('tu-')}".rstrip()
    name = key.alone or (key.arch if one_encoder else whole)
    return f"{name} twin" if key.twin else name


def _suffixes(items: Sequence[Evaluated], unlike: Sequence[ProtocolDifference]) -> list[str]:
    """Return what tells architectures of one name apart: the recipe's name, a field of the protocol, else a number."""
    cards = [item.run.card for item in items]
    recipes = [
        card.recipe.name if card.recipe else "adopted" if item.run.adopted else "None"
        for item, card in zip(items, cards, strict=True)
    ]
    if len(set(recipes)) == len(items):
        return recipes
    for entry in unlike:
        values = [f"{entry.field} {protocol_of(item).get(entry.field)}" for item in items]
        if len(set(values)) == len(items):
            return values
    return [f"no. {number}" for number in range(1, len(items) + 1)]
