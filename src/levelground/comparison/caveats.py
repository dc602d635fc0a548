"""What limits a comparison's answer, and what would decide an open one.

Few groups, few groups of a class, few seeds, unlike protocols, groups that a split separates, repeated evaluations on
the test scenes.
Each function takes a comparison and returns findings.
"""

from levelground.comparison.record import Comparison
from levelground.comparison.results import Finding, OpenPairPower, PairResult, block_json
from levelground.comparison.text import (
    about,
    between,
    count_of,
    listing,
    p_value,
    per_cent,
    score,
    signed,
    whether,
)
from levelground.statistics.pairs import ALPHA


def twins(comparison: Comparison) -> list[Finding]:
    """The negative control: one architecture under two names must not be told apart from itself."""
    twin_of = {entry.name: entry.twin_of for entry in comparison.architectures if entry.twin_of}
    findings = []
    for twin, original in twin_of.items():
        pair = next((p for p in comparison.architecture_pairs if {p.a, p.b} == {twin, original}), None)
        findings.append(
            _twin_seeds(comparison, twin, original) if pair is None else _twin_verdict(pair, twin, original)
        )
    return findings


def _twin_verdict(pair: PairResult, twin: str, original: str) -> Finding:
    evidence = f"{signed(pair.delta)}, 95 % interval {between(pair.interval, sign=True)}, {p_value(pair.p)}"
    figures = {"twin": twin, "original": original, "delta": pair.delta, "verdict": pair.verdict}
    if pair.verdict in ("better", "worse"):
        text = (
            f"The negative control failed: {original} and {twin} are one architecture under two names, yet they are "
            f"told apart ({evidence}). One control in 20 fails by chance; trust no difference of this size."
        )
        return Finding("twins", "warning", text, figures)
    text = (
        f"The negative control holds: {original} and {twin} are one architecture under two names, and they are not "
        f"told apart ({evidence})."
    )
    return Finding("twins", "finding", text, figures)


def _twin_seeds(comparison: Comparison, twin: str, original: str) -> Finding:
    """With one seed a side: how easily mere seeds are told apart among weights."""
    own = {entry.name: set(entry.runs) for entry in comparison.architectures}
    pairs = [
        pair
        for pair in comparison.pairs
        if (pair.a in own[twin] and pair.b in own[original]) or (pair.b in own[twin] and pair.a in own[original])
    ]
    apart = [pair for pair in pairs if pair.verdict in ("better", "worse")]
    largest = max((abs(pair.delta) for pair in pairs if pair.delta is not None), default=None)
    text = (
        f"{original} and {twin} are one architecture under two names: only the seed differs. Of "
        f"{count_of(len(pairs), 'pair')} of their weights {len(apart)} {whether(len(apart), 'is', 'are')} told apart; "
        f"the largest difference is {score(largest)}. "
        "Differences of this size between weights say nothing about architectures."
    )
    figures = {"twin": twin, "original": original, "pairs": len(pairs), "apart": len(apart), "largest": largest}
    return Finding("twins", "warning", text, figures)


FEW_GROUPS = 20
"""Below as many groups, intervals are not known to cover what they promise (docs/experiments.md)."""

RARE_GROUPS = 5
"""With a class in as few groups, a run's own interval covered .84 to .92, not .95 (docs/experiments.md)."""


def find_caveats(comparison: Comparison) -> list[Finding]:
    """All findings about what the answer rests on.

    Args:
        comparison: The comparison.
    """
    return [
        *what_would_decide(comparison),
        *cannot_show(comparison),
        *few_groups(comparison),
        *rare_classes(comparison),
        *lone_seeds(comparison),
        *twins(comparison),
        *unlike_protocol(comparison),
        *unknown_protocol(comparison),
        *separated_groups(comparison),
        *one_raster(comparison),
        *evaluations_on_test(comparison),
    ]


def what_would_decide(comparison: Comparison) -> list[Finding]:
    """For open pairs: the difference this design detects, and the groups and seeds that it takes to detect δ."""
    power = comparison.power
    if power is None or not any(pair.verdict == "undecided" for pair in comparison.decisive_pairs):
        return []
    have = count_of(comparison.n_groups, "group")
    if power.seeds is not None:
        have += f" and {count_of(power.seeds, 'seed')} of each architecture"
    found = f"a difference of {score(power.detectable)} would be found in {per_cent(power.power)} of such studies"
    if power.detectable >= 1 or cannot_show(comparison):
        found = f"no possible difference would be found in {per_cent(power.power)} of such studies"
    text = f"What would decide it: with {have}, {found}. {_needs(power)}".strip()
    return [Finding("what_would_decide", "finding", text, block_json(power))]


def _needs(power: OpenPairPower) -> str:
    """Groups and seeds that settle a difference of δ: enough to find it and enough to show that there is none."""
    groups = _both(power.groups_needed, power.groups_for_equal)
    seeds = _both(power.seeds_needed, power.seeds_for_equal)
    lead = f"To settle a difference of {score(power.delta)}, to find it or to show that there is none, it takes"
    if power.groups_share is None:
        if groups is None:
            return ""
        more = "; to speak of architectures, at least 2 seeds of each as well"
        return f"{lead} {about(groups, 'group')}{more}."
    ways = []
    if groups is not None:
        ways.append(f"{about(groups, 'group')} with as many seeds")
    if seeds is not None:
        ways.append(f"{about(seeds, 'seed')} of each with as many groups")
    share = f"Seeds make up {per_cent(1 - power.groups_share)} of the variance."
    if not ways:
        return f"{lead} more groups and more seeds: neither is enough alone. {share}"
    return f"{lead} {listing(ways, last='or')}. {share}"


def _both(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else max(first, second)


def cannot_show(comparison: Comparison) -> list[Finding]:
    """Where even the largest difference could not have reached p ≤ .05."""
    pairs = comparison.decisive_pairs
    least = min((pair.p_min for pair in comparison.pairs if not pair.negative_control), default=0.0)
    if not pairs or comparison.about_architectures or least <= ALPHA:
        return []
    groups, needed = comparison.n_groups, comparison.groups_for_p
    text = (
        f"No difference could have been shown with {count_of(groups, 'group')} and {count_of(len(pairs), 'pair')}: "
        f"the smallest p that can be reached is {least:.2g}, above {ALPHA}. It takes at least {needed} groups."
    )
    return [Finding("cannot_show", "warning", text, {"p_min": least, "groups": groups, "groups_for_p": needed})]


def few_groups(comparison: Comparison) -> list[Finding]:
    """One group gives no interval; few groups decide little."""
    groups = comparison.n_groups
    if groups >= FEW_GROUPS:
        return []
    n_scenes = len(comparison.scenes)
    figures = {"groups": groups, "scenes": n_scenes}
    scenes = count_of(n_scenes, f"{comparison.split} scene")
    if groups < 2:
        which = f"there is only {scenes}" if n_scenes == 1 else f"all {scenes} are one group"
        text = (
            f"No interval and no test: {which}, and one group cannot tell what others would show. "
            f"Scores describe {whether(n_scenes, 'this scene', 'these scenes')} only."
        )
        return [Finding("one_group", "warning", text, figures)]
    text = (
        f"Few scenes decide little: there are {count_of(groups, 'group')} ({scenes}). "
        f"Intervals from fewer than {FEW_GROUPS} groups are wide and rest on their being alike."
    )
    return [Finding("few_groups", "warning", text, figures)]


def rare_classes(comparison: Comparison) -> list[Finding]:
    """Counted classes that lie in so few groups that another draw of test scenes might have missed them."""
    present = zip(comparison.legend.classes, comparison.truth.groups, strict=True)
    rare = {entry.name: n for entry, n in present if entry.counted and 0 < n < RARE_GROUPS}
    if comparison.n_groups < FEW_GROUPS or not rare:
        return []
    where = listing([f"{name} (in {n})" for name, n in rare.items()])
    text = (
        f"{where} {whether(len(rare), 'lies', 'lie')} in fewer than {RARE_GROUPS} of {comparison.n_groups} groups: "
        "each run's own interval is too narrow, because other scenes may hold no such class. "
        "Differences of runs are safe."
    )
    return [Finding("rare_classes", "warning", text, {"classes": rare, "groups": comparison.n_groups})]


def lone_seeds(comparison: Comparison) -> list[Finding]:
    """Warn of architectures with one seed beside others with more: they are compared as trained weights."""
    alone = [entry.name for entry in comparison.candidates if entry.seeds < 2]
    several = [entry.name for entry in comparison.candidates if entry.seeds >= 2]
    if not alone or not several:
        return []
    if comparison.about_architectures:
        has, are = whether(len(alone), "has", "have"), whether(len(alone), "is", "are")
        text = (
            f"{listing(alone)} {has} one run only and {are} "
            "compared with the other runs as trained weights, not as an architecture. Train at least 2 seeds of each "
            "architecture to compare architectures."
        )
        return [Finding("lone_seeds", "warning", text, {"architectures": alone})]
    text = (
        f"Verdicts speak of weights because {listing(alone)} {whether(len(alone), 'has', 'have')} one run only. "
        "Train at least 2 seeds of each architecture to compare architectures."
    )
    return [Finding("lone_seeds", "warning", text, {"architectures": alone})]


def unlike_protocol(comparison: Comparison) -> list[Finding]:
    """What was not alike and was allowed."""
    if not comparison.protocol_differences:
        return []
    parts = []
    for entry in comparison.protocol_differences[:4]:
        by_value: dict[str, list[str]] = {}
        for name, value in entry.values.items():
            by_value.setdefault(str(value), []).append(comparison.labels[name])
        parts.append(f"{entry.field} ({'; '.join(f'{value} for {listing(runs)}' for value, runs in by_value.items())})")
    if len(comparison.protocol_differences) > 4:
        parts.append(f"{len(comparison.protocol_differences) - 4} more")
    text = f"The runs were not made alike: {listing(parts)}. A difference may come from this, not from the models."
    return [
        Finding(
            "unlike_protocol", "warning", text, {"fields": [entry.field for entry in comparison.protocol_differences]}
        )
    ]


def unknown_protocol(comparison: Comparison) -> list[Finding]:
    """Adopted runs: how they were trained is not known."""
    adopted = [run.label for run in comparison.runs if run.adopted]
    if not adopted:
        return []
    text = (
        f"How {listing(adopted)} {whether(len(adopted), 'was', 'were')} trained is unknown (adopted): whether the "
        "protocol was the same, and whether these test scenes were seen in training, cannot be checked."
    )
    return [Finding("unknown_protocol", "warning", text, {"runs": adopted})]


def separated_groups(comparison: Comparison) -> list[Finding]:
    """Groups with scenes on both sides of the split: test scenes that training may have seen a part of."""
    separated = comparison.separated_groups
    if not separated:
        return []
    first = separated[0]
    text = (
        f"The split separates {count_of(len(separated), 'group')} of scenes that belong together, such as "
        f"{first.scored[0]} (test) and {first.other[0]} ({first.other_split}): test scores may be too good. "
        "The split “grouped” keeps groups together."
    )
    return [Finding("split_separates_groups", "warning", text, {"groups": [block_json(entry) for entry in separated]})]


def one_raster(comparison: Comparison) -> list[Finding]:
    """Blocks of one raster: intervals speak of this raster only."""
    if comparison.dataset.layout != "raster":
        return []
    text = "All scenes are blocks of one raster: intervals and tests speak of this raster only, not of other places."
    return [Finding("one_raster", "warning", text, {})]


def evaluations_on_test(comparison: Comparison) -> list[Finding]:
    """How often the test scenes were looked at."""
    total, runs = comparison.test_evaluations.total, len(comparison.runs)
    if comparison.split != "test" or not total:
        return []
    figures = {"total": total, "runs": runs}
    if total <= runs:
        text = (
            f"The test scenes were scored {count_of(total, 'time')} for {count_of(runs, 'run')}: no more than needed."
        )
        return [Finding("test_looks", "finding", text, figures)]
    text = (
        f"The test scenes were looked at {count_of(total, 'time')} for {count_of(runs, 'run')}. What was chosen after "
        "a look scores too well on them; choose on validation."
    )
    return [Finding("test_looks", "warning", text, figures)]
