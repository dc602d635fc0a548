"""Who is held against whom: the question of a comparison, and beside it the negative control.

Twins are one architecture under two names. They are held against their originals only: they are no part of the
question, and must not make its answer harder to reach.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from levelground.comparing.guards import Evaluated
from levelground.comparing.pairings import architecture_pairs, architecture_rows, groups_for_p, run_pairs
from levelground.imagery.legend import Legend
from levelground.records import Record
from levelground.scores.metric_names import Metric, parse_metric


@dataclass(frozen=True)
class Contest:
    """Runs that are held against each other, and the architecture of each."""

    runs: tuple[Evaluated, ...]
    archs: tuple[str, ...]
    control: bool

    def crosses(self, pair: Record) -> bool:
        """Whether a pair of runs is of two architectures."""
        arch_of = {item.name: name for item, name in zip(self.runs, self.archs, strict=True)}
        return arch_of[pair["a"]] != arch_of[pair["b"]]


def verdict_blocks(
    evaluated: Sequence[Evaluated],
    archs: Sequence[str],
    twin_of: Mapping[str, str],
    legend: Legend,
    metric: Metric,
    *,
    delta: float,
) -> Record:
    """Pairs of runs, architectures and their pairs.

    Args:
        evaluated: The runs.
        archs: The architecture of each run.
        twin_of: For each twin its original.
        legend: The classes.
        metric: The primary metric.
        delta: The difference that counts as none, δ.
    Returns:
        ``pairs``, ``architectures`` and ``architecture_pairs``; a pair of a twin and its original is marked
        ``control``. ``groups_for_p`` is the fewest groups with which the pairs asked about can reach p ≤ .05.
    """
    pairs: list[Record] = []
    architectures: list[Record] = []
    between: list[Record] = []
    for contest in _contests(evaluated, archs, twin_of):
        found = run_pairs(contest.runs, legend.counted, metric, delta=delta)
        pairs += [_marked(pair, contest) for pair in found if not contest.control or contest.crosses(pair)]
        found = architecture_pairs(contest.runs, contest.archs, legend.counted, metric, delta=delta)
        between += [_marked(pair, contest) for pair in found]
        architectures += _architectures(contest, twin_of, legend, metric)
    asked = sum(not pair["control"] for pair in pairs)
    return {
        "pairs": pairs,
        "groups_for_p": groups_for_p(max(1, asked)),
        "architectures": architectures,
        "architecture_pairs": between,
    }


def _contests(evaluated: Sequence[Evaluated], archs: Sequence[str], twin_of: Mapping[str, str]) -> list[Contest]:
    """All runs but twins; then each twin and its original."""
    asked = tuple(arch for arch in archs if arch not in twin_of)
    return [_contest(evaluated, archs, asked, False)] + [
        _contest(evaluated, archs, pair, True) for pair in twin_of.items()
    ]


def _contest(evaluated: Sequence[Evaluated], archs: Sequence[str], members: Sequence[str], control: bool) -> Contest:
    numbers = [number for number, arch in enumerate(archs) if arch in members]
    return Contest(tuple(evaluated[i] for i in numbers), tuple(archs[i] for i in numbers), control)


def _marked(pair: Record, contest: Contest) -> Record:
    return pair | {"control": contest.control}


def _architectures(contest: Contest, twin_of: Mapping[str, str], legend: Legend, metric: Metric) -> list[Record]:
    """The contest's architectures; of a control only the twin, which has no rank."""
    scoring = metric.view if metric.view != "boundary" else "official"
    shown = parse_metric(f"{scoring}.miou", legend.names, legend.counted)
    rows = architecture_rows(contest.runs, contest.archs, legend.counted, metric, shown)
    if not contest.control:
        return [row | {"twin_of": None} for row in rows]
    return [row | {"twin_of": twin_of[row["name"]], "ranked_first": None} for row in rows if row["name"] in twin_of]
