"""What limits an answer.

Few groups, few groups of a class, few seeds, unlike protocols, groups that a split separates, identical counts,
repeated evaluations on the test scenes: each kind is a type of fact and a function that finds it;
:mod:`levelground.comparison.caveat_sentences` writes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from levelground.comparison.conditions import SeparatedGroup
from levelground.comparison.facts import Fact
from levelground.comparison.places import find_places, find_sizes
from levelground.comparison.record import Comparison
from levelground.comparison.results import Interval, block_json
from levelground.statistics.pairs import VerdictWord
from levelground.statistics.significance import ALPHA

FEW_GROUPS = 20
"""Below as many groups, intervals are not known to cover what they promise (docs/experiments.md)."""

RARE_GROUPS = 8
"""With a class in fewer groups, intervals of its scores covered .80 to .97, not .95 (docs/experiments.md)."""


@dataclass(frozen=True)
class CannotShow(Fact):
    """Even the largest difference could not have reached p ≤ .05.

    Attributes:
        p_min: The smallest p that could have been reached.
        groups: Groups that hold anything that the metric is computed from.
        pairs: Number of pairs.
        groups_for_p: The fewest such groups with which p ≤ .05 can be reached.
        all_groups: The number of all groups.
    """

    code = "cannot_show"
    severity = "warning"
    kept = ("p_min", "groups", "groups_for_p")
    p_min: float
    groups: int
    pairs: int
    groups_for_p: int
    all_groups: int


@dataclass(frozen=True)
class FewGroups(Fact):
    """Few groups: intervals are wide."""

    code = "few_groups"
    severity = "warning"
    kept = ("groups", "scenes")
    groups: int
    scenes: int
    split: str


@dataclass(frozen=True)
class OneGroup(FewGroups):
    """One group: no interval and no test."""

    code = "one_group"


@dataclass(frozen=True)
class RareClasses(Fact):
    """Counted classes in so few groups that another draw of test scenes might have missed them."""

    code = "rare_classes"
    severity = "warning"
    kept = ("classes", "groups")
    classes: Mapping[str, int]
    groups: int


@dataclass(frozen=True)
class LoneSeeds(Fact):
    """Architectures with one seed beside others with more: verdicts fall back to weights."""

    code = "lone_seeds"
    severity = "warning"
    kept = ("architectures",)
    architectures: tuple[str, ...]


class LoneSeedsBeside(LoneSeeds):
    """Architectures with one seed beside two or more with more: they are compared as trained weights."""


@dataclass(frozen=True)
class _Twins(Fact):
    code = "twins"
    twin: str
    original: str


@dataclass(frozen=True)
class ControlHolds(_Twins):
    """The negative control: an architecture was not told apart from its twin."""

    kept = ("twin", "original", "delta", "verdict")
    delta: float | None
    interval: Interval
    p: float | None
    verdict: VerdictWord
    controls: int = 1


@dataclass(frozen=True)
class ControlFailed(ControlHolds):
    """The negative control failed: an architecture was told apart from its twin."""

    severity = "warning"


@dataclass(frozen=True)
class TwinSeeds(_Twins):
    """How often an architecture's weights are told apart from its twin's, where only seeds differ."""

    severity = "warning"
    pairs: int
    apart: int
    largest: float | None

    @property
    def figures(self) -> dict[str, object]:
        """The two names, the pairs, those told apart and the largest difference."""
        names: dict[str, object] = {"twin": self.twin, "original": self.original}
        return names | {"pairs": self.pairs, "apart": self.apart, "largest": self.largest}


@dataclass(frozen=True)
class FieldValues:
    """A field of the training protocol: each value with the labels of the runs that have it."""

    field: str
    runs: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class UnlikeProtocol(Fact):
    """Fields of the training protocol in which the runs differ, as was allowed."""

    code = "unlike_protocol"
    severity = "warning"
    fields: tuple[FieldValues, ...]

    @property
    def figures(self) -> dict[str, object]:
        """The fields."""
        return {"fields": [entry.field for entry in self.fields]}


@dataclass(frozen=True)
class UnknownProtocol(Fact):
    """Adopted runs: how they were trained is not known."""

    code = "unknown_protocol"
    severity = "warning"
    kept = ("runs",)
    runs: tuple[str, ...]


@dataclass(frozen=True)
class SeparatedGroups(Fact):
    """Groups with scenes on both sides of the split, or in two folds: training may have seen a part of test scenes."""

    code = "split_separates_groups"
    severity = "warning"
    groups: tuple[SeparatedGroup, ...]
    split: str

    @property
    def figures(self) -> dict[str, object]:
        """The groups."""
        return {"groups": [block_json(entry) for entry in self.groups]}


@dataclass(frozen=True)
class _UnlikeScenes(Fact):
    severity = "warning"
    kept = ("scene",)
    scene: str


class UnlikeGroundDistances(_UnlikeScenes):
    """Scenes have unlike ground sample distances; one of the finest or coarsest."""

    code = "unlike_ground_distances"


class UnlikeBands(_UnlikeScenes):
    """Some files name other bands, scales or offsets than most; the first scene that does."""

    code = "unlike_bands"


@dataclass(frozen=True)
class IdenticalCounts(Fact):
    """Runs with bit-identical counts: one set of predictions under several names.

    Attributes:
        sets: Labels of the runs that share their counts, for each such set.
    """

    code = "identical_counts"
    severity = "warning"
    kept = ("sets",)
    sets: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Exploratory(Fact):
    """Metric or δ are others than the study named before its results were seen."""

    code = "exploratory"
    severity = "warning"
    kept = ("metric", "delta", "named_metric", "named_delta")
    metric: str
    delta: float
    named_metric: str
    named_delta: float


@dataclass(frozen=True)
class EvaluationsOnTest(Fact):
    """How often the test scenes were scored for each run, as far as the logs of the studies tell.

    Attributes:
        times: The number of evaluations by label of the run; empty where the record does not tell.
        total: All evaluations, those of runs that are not compared included.
        runs: The number of runs that are compared.
        views: Comparisons by another metric or δ than the study named.
    """

    code = "test_looks"
    kept: ClassVar[tuple[str, ...]] = ("total", "runs", "times", "views")
    times: Mapping[str, int]
    total: int
    runs: int
    views: int

    @property
    def others(self) -> int:
        """Evaluations of runs that are not compared here."""
        return self.total - sum(self.times.values()) if self.times else 0


class RepeatedEvaluationsOnTest(EvaluationsOnTest):
    """A run was scored more than once, or other questions were tried."""

    severity = "warning"


@dataclass(frozen=True)
class FailedRuns(Fact):
    """Runs of the study that failed on a cluster, with the reason of each."""

    code = "failed_runs"
    severity = "warning"
    kept = ("runs",)
    runs: Mapping[str, str]


class UnfinishedRuns(FailedRuns):
    """Runs of an interrupted study: ``not begun``, ``unfinished`` or ``unscored``."""

    code = "unfinished_runs"


def find_caveats(comparison: Comparison) -> list[Fact]:
    """Return all findings about what the answer rests on, in reading order."""
    return [
        *exploratory(comparison),
        *failed_runs(comparison),
        *cannot_show(comparison),
        *few_groups(comparison),
        *rare_classes(comparison),
        *lone_seeds(comparison),
        *twins(comparison),
        *identical_counts(comparison),
        *find_sizes(comparison),
        *unlike_protocol(comparison),
        *unknown_protocol(comparison),
        *separated_groups(comparison),
        *unlike_scenes(comparison),
        *find_places(comparison),
        *evaluations_on_test(comparison),
    ]


def cannot_show(comparison: Comparison) -> list[Fact]:
    """Find out whether even the largest difference could not have reached p ≤ .05."""
    asked, groups = [pair for pair in comparison.pairs if not pair.negative_control], comparison.n_groups
    if not asked or comparison.about_architectures or (least := min(pair.p_min for pair in asked)) <= ALPHA:
        return []
    most = max(groups if pair.deciding_groups is None else pair.deciding_groups for pair in asked)
    return [CannotShow(least, most, len(comparison.decisive_pairs), comparison.groups_for_p, groups)]


def few_groups(comparison: Comparison) -> list[Fact]:
    """Find out whether one group gives no interval, or few groups give wide ones."""
    groups = comparison.n_groups
    if groups >= FEW_GROUPS:
        return []
    fact = OneGroup if groups < 2 else FewGroups
    return [fact(groups, len(comparison.scenes), comparison.split)]


def rare_classes(comparison: Comparison) -> list[Fact]:
    """Find counted classes that lie in so few groups that another draw of test scenes might have missed them."""
    if not comparison.truth.groups:  # a record of 0.1.0
        return []
    present = zip(comparison.legend.classes, comparison.truth.groups, strict=True)
    rare = {entry.name: n for entry, n in present if entry.counted and 0 < n < RARE_GROUPS}
    return [RareClasses(rare, comparison.n_groups)] if rare and comparison.n_groups >= FEW_GROUPS else []


def lone_seeds(comparison: Comparison) -> list[Fact]:
    """Find architectures with one seed beside others with more: they are compared as trained weights."""
    alone = tuple(entry.name for entry in comparison.candidates if entry.seeds < 2)
    fact = LoneSeedsBeside if comparison.about_architectures else LoneSeeds
    return [fact(alone)] if 0 < len(alone) < len(comparison.candidates) else []


def twins(comparison: Comparison) -> list[Fact]:
    """Ask the negative control: one architecture under two names must not be told apart from itself."""
    twin_of = {entry.name: entry.twin_of for entry in comparison.architectures if entry.twin_of}
    found: list[Fact] = []
    for twin, original in twin_of.items():
        pair = next((p for p in comparison.architecture_pairs if {p.a, p.b} == {twin, original}), None)
        if pair is None:
            found.append(_twin_seeds(comparison, twin, original))
        else:
            fact = ControlFailed if pair.verdict in ("better", "worse") else ControlHolds
            found.append(fact(twin, original, pair.delta, pair.interval, pair.p, pair.verdict, len(twin_of)))
    return found


def _twin_seeds(comparison: Comparison, twin: str, original: str) -> TwinSeeds:
    """With one seed a side: how easily mere seeds are told apart among weights."""
    own = {entry.name: set(entry.runs) for entry in comparison.architectures}
    pairs = [
        pair
        for pair in comparison.pairs
        if (pair.a in own[twin] and pair.b in own[original]) or (pair.b in own[twin] and pair.a in own[original])
    ]
    apart = sum(pair.verdict in ("better", "worse") for pair in pairs)
    largest = max((abs(pair.delta) for pair in pairs if pair.delta is not None), default=None)
    return TwinSeeds(twin, original, len(pairs), apart, largest)


def unlike_protocol(comparison: Comparison) -> list[Fact]:
    """Find what was not alike and was allowed."""
    fields = []
    for entry in comparison.protocol_differences:
        runs: dict[str, list[str]] = {}
        for name, value in entry.values.items():
            runs.setdefault(str(value), []).append(comparison.labels[name])
        fields.append(FieldValues(entry.field, runs))
    return [UnlikeProtocol(tuple(fields))] if fields else []


def unknown_protocol(comparison: Comparison) -> list[Fact]:
    """Find adopted runs: how they were trained is not known."""
    adopted = tuple(run.label for run in comparison.runs if run.adopted)
    return [UnknownProtocol(adopted)] if adopted else []


def separated_groups(comparison: Comparison) -> list[Fact]:
    """Find groups with scenes on both sides of the split: test scenes that training may have seen a part of."""
    found = comparison.separated_groups
    return [SeparatedGroups(found, comparison.split)] if found else []


def identical_counts(comparison: Comparison) -> list[Fact]:
    """Find runs whose counts are the same to the pixel: two models practically never agree so."""
    same: dict[object, list[str]] = {}
    for run in comparison.runs:
        same.setdefault((run.counts, run.scene_miou), []).append(run.label)
    sets = tuple(tuple(labels) for labels in same.values() if len(labels) > 1)
    return [IdenticalCounts(sets)] if sets else []


def unlike_scenes(comparison: Comparison) -> list[Fact]:
    """Find out whether `prepare` saw unlike ground sample distances, or files that say unlike things of their bands."""
    seen = {one.code: one.scene or "" for one in reversed(comparison.dataset.findings)}
    bands = [seen[code] for code in ("unlike-band-names", "unlike-scales") if code in seen]
    distances = [UnlikeGroundDistances(seen["unlike-gsd"])] if "unlike-gsd" in seen else []
    return [*distances, *(UnlikeBands(scene) for scene in bands[:1])]


def failed_runs(comparison: Comparison) -> list[Fact]:
    """Find the runs that are not compared because they failed on a cluster, or the study was interrupted."""
    kinds = {FailedRuns: comparison.failed_runs, UnfinishedRuns: comparison.unfinished}
    return [kind({run.name: run.reason for run in runs}) for kind, runs in kinds.items() if runs]


def exploratory(comparison: Comparison) -> list[Fact]:
    """Find out whether the question is another one than the study named before its results were seen."""
    named = comparison.named
    if named is None or not comparison.exploratory:
        return []
    return [Exploratory(comparison.metric, comparison.delta, named.metric, named.delta)]


def evaluations_on_test(comparison: Comparison) -> list[Fact]:
    """Find how often the test scenes were scored, run by run, and how many other questions were tried on them."""
    log, runs = comparison.test_evaluations, len(comparison.runs)
    if comparison.split != "test" or not log.total:
        return []
    times = {comparison.labels[name]: n for name, n in log.runs.items() if name in comparison.labels}
    unknown = not times and log.total > runs  # of the earliest records, which count no run
    often = max(times.values(), default=0) > 1 or unknown or log.views
    return [(RepeatedEvaluationsOnTest if often else EvaluationsOnTest)(times, log.total, runs, len(log.views))]
