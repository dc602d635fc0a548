"""Which runs are seeds of one architecture, and what architectures and runs are called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from levelground.comparing.guards import Evaluated, protocol_of
from levelground.records import Record


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
