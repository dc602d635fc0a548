"""Architectures of a comparison: which runs are seeds of one, and the shortest names that tell them apart."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from levelground.comparison.compatibility import Evaluated, protocol_of
from levelground.comparison.conditions import ProtocolDifference


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
