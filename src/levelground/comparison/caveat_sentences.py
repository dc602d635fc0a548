"""Sentences of what limits a comparison's answer.

Written as :mod:`levelground.comparison.sentences` says.
"""

from collections.abc import Callable, Sequence
from typing import Any

from levelground.comparison import caveats
from levelground.comparison.facts import Fact
from levelground.comparison.place_sentences import scenes_of
from levelground.comparison.text import (
    between,
    listing,
    p_number,
    p_value,
    recorded,
    score,
    signed,
    split_words,
)
from levelground.statistics.significance import ALPHA
from levelground.wording import decimal, gettext, ngettext, npgettext, pgettext, whole


def _failed_runs(fact: caveats.FailedRuns) -> str:
    runs = [f"{name} ({reason.rstrip('.')})" for name, reason in fact.runs.items()]
    return ngettext(
        "%(n)s run of this study failed and is not compared: %(runs)s. The same command trains it again.",
        "%(n)s runs of this study failed and are not compared: %(runs)s. The same command trains them again.",
        len(runs),
        runs=listing(runs),
    )


def _unfinished_runs(fact: caveats.UnfinishedRuns) -> str:
    words = {
        "not begun": gettext("not begun"),
        "unfinished": gettext("training not finished"),
        "unscored": gettext("trained, not scored"),
    }
    runs = [f"{name} ({words.get(reason, reason)})" for name, reason in fact.runs.items()]
    return ngettext(
        "The study was interrupted: %(n)s run is not compared, %(runs)s. Verdicts may change with it; the same "
        "command goes on.",
        "The study was interrupted: %(n)s runs are not compared, %(runs)s. Verdicts may change with them; the same "
        "command goes on.",
        len(runs),
        runs=listing(runs),
    )


def _cannot_show(fact: caveats.CannotShow) -> str:
    values = {
        "pairs": npgettext("with", "%(n)s pair", "%(n)s pairs", fact.pairs),
        "p": p_number(fact.p_min),
        "alpha": decimal(str(ALPHA)),
    }
    if fact.groups < fact.all_groups:
        return _few_decide(fact, values)
    shown = gettext(
        "No difference could have been shown with %(groups)s and %(pairs)s: the smallest Holm-adjusted p that can be "
        "reached is %(p)s, above %(alpha)s.",
        groups=npgettext("with", "%(n)s group", "%(n)s groups", fact.groups),
        **values,
    )
    needed = ngettext("At least %(n)s group is needed.", "At least %(n)s groups are needed.", fact.groups_for_p)
    return f"{shown} {needed}"


def _few_decide(fact: caveats.CannotShow, values: dict[str, str]) -> str:
    shown = ngettext(
        "No difference could have been shown: only %(n)s of all %(all)s groups holds what the metric is computed from. "
        "With %(pairs)s the smallest Holm-adjusted p that can be reached is then %(p)s, above %(alpha)s.",
        "No difference could have been shown: only %(n)s of all %(all)s groups hold what the metric is computed from. "
        "With %(pairs)s the smallest Holm-adjusted p that can be reached is then %(p)s, above %(alpha)s.",
        fact.groups,
        all=whole(fact.all_groups),
        **values,
    )
    needed = ngettext(
        "At least %(n)s such group is needed.", "At least %(n)s such groups are needed.", fact.groups_for_p
    )
    return f"{shown} {needed}"


def _few_groups(fact: caveats.FewGroups) -> str:
    return ngettext(
        "There is only %(n)s group (%(scenes)s). Intervals assume that groups are alike; where groups are unlike, "
        "those from fewer than %(least)s may be too narrow.",
        "There are only %(n)s groups (%(scenes)s). Intervals assume that groups are alike; where groups are unlike, "
        "those from fewer than %(least)s may be too narrow.",
        fact.groups,
        scenes=scenes_of(fact),
        least=whole(caveats.FEW_GROUPS),
    )


def _one_group(fact: caveats.OneGroup) -> str:
    return ngettext(
        "There is no interval and no test, because there is only %(n)s %(split)s scene, and one group cannot show how "
        "much others would differ. The scores describe this scene only.",
        "There is no interval and no test, because all %(n)s %(split)s scenes are one group, and one group cannot show "
        "how much others would differ. The scores describe these scenes only.",
        fact.scenes,
        split=split_words(fact.split),
    )


def _rare_classes(fact: caveats.RareClasses) -> str:
    classes = [
        ngettext("%(name)s (in %(n)s group)", "%(name)s (in %(n)s groups)", n, name=name)
        for name, n in fact.classes.items()
    ]
    return ngettext(
        "%(classes)s occurs in fewer than %(least)s of %(groups)s groups: intervals of this class, and each run's own, "
        "may be too narrow, because other scenes may hold less or more of it. Differences between runs that predict it "
        "unlike well rest on these few groups.",
        "%(classes)s occur in fewer than %(least)s of %(groups)s groups: intervals of these classes, and each run's "
        "own, may be too narrow, because other scenes may hold less or more of them. Differences between runs that "
        "predict them unlike well rest on these few groups.",
        len(classes),
        classes=listing(classes),
        least=whole(caveats.RARE_GROUPS),
        groups=whole(fact.groups),
    )


def _lone_seeds(fact: caveats.LoneSeeds) -> str:
    return ngettext(
        "The verdicts are about weights, not architectures, because %(names)s has only one run. Train at least 2 seeds "
        "of each architecture to compare architectures.",
        "The verdicts are about weights, not architectures, because %(names)s have only one run each. Train at least "
        "2 seeds of each architecture to compare architectures.",
        len(fact.architectures),
        names=listing(fact.architectures),
    )


def _lone_seeds_beside(fact: caveats.LoneSeedsBeside) -> str:
    return ngettext(
        "%(names)s has only one run, so it is compared with the other runs as trained weights, not as an architecture. "
        "Train at least 2 seeds of each architecture to compare architectures.",
        "%(names)s have only one run each, so they are compared with the other runs as trained weights, not as "
        "architectures. Train at least 2 seeds of each architecture to compare architectures.",
        len(fact.architectures),
        names=listing(fact.architectures),
    )


def _control(fact: caveats.ControlHolds) -> dict[str, str]:
    return {
        "original": fact.original,
        "twin": fact.twin,
        "difference": signed(fact.delta),
        "interval": between(fact.interval, sign=True),
        "p": p_value(fact.p),
    }


def _control_failed(fact: caveats.ControlFailed) -> str:
    failed = gettext(
        "The negative control failed: %(original)s and %(twin)s are one architecture under two names, but they are "
        "told apart (%(difference)s, 95 %% interval %(interval)s, %(p)s). Do not trust a difference of this size.",
        **_control(fact),
    )
    chance = ngettext(
        "By chance, one control in 20 fails; this study has %(n)s.",
        "By chance, one control in 20 fails; this study has %(n)s, so that one of them easily does.",
        fact.controls,
    )
    return f"{failed} {chance}"


def _control_holds(fact: caveats.ControlHolds) -> str:
    if fact.interval is None:
        return gettext(
            "The negative control holds: %(original)s and %(twin)s are one architecture under two names, and they are "
            "not told apart (%(difference)s, without an interval).",
            **_control(fact),
        )
    return gettext(
        "The negative control holds: %(original)s and %(twin)s are one architecture under two names, and they are not "
        "told apart (%(difference)s, 95 %% interval %(interval)s, %(p)s).",
        **_control(fact),
    )


def _twin_seeds(fact: caveats.TwinSeeds) -> str:
    texts = [
        gettext(
            "%(original)s and %(twin)s are one architecture under two names: only the seed differs.",
            original=fact.original,
            twin=fact.twin,
        ),
        ngettext(
            "Of %(pairs)s of their weights, %(n)s is told apart; the largest difference is %(largest)s.",
            "Of %(pairs)s of their weights, %(n)s are told apart; the largest difference is %(largest)s.",
            fact.apart,
            pairs=npgettext("of", "%(n)s pair", "%(n)s pairs", fact.pairs),
            largest=score(fact.largest),
        ),
        gettext("Differences of this size between weights say nothing about architectures."),
    ]
    return " ".join(texts)


def _unlike_protocol(fact: caveats.UnlikeProtocol) -> str:
    return gettext(
        "The runs were not made alike: %(fields)s. A difference may come from this, not from the models.",
        fields=listing([_field(entry) for entry in fact.fields], most=4),
    )


def _field(entry: caveats.FieldValues) -> str:
    values = [
        pgettext("field of the protocol", "%(value)s for %(runs)s", value=recorded(value), runs=listing(runs))
        for value, runs in entry.runs.items()
    ]
    return f"{entry.field} ({'; '.join(values)})"


def _unknown_protocol(fact: caveats.UnknownProtocol) -> str:
    return ngettext(
        "How %(runs)s was trained is unknown, because it was adopted: nobody can check whether the protocol was the "
        "same and whether training used these test scenes.",
        "How %(runs)s were trained is unknown, because they were adopted: nobody can check whether the protocol was "
        "the same and whether training used these test scenes.",
        len(fact.runs),
        runs=listing(fact.runs),
    )


def _separated_groups(fact: caveats.SeparatedGroups) -> str:
    first = fact.groups[0]
    if first.other_split.startswith("fold "):
        return ngettext(
            "The folds separate %(n)s group of scenes that belong together, such as %(scored)s and %(other)s: scores "
            "may be too good. The split “grouped” keeps groups together.",
            "The folds separate %(n)s groups of scenes that belong together, such as %(scored)s and %(other)s: scores "
            "may be too good. The split “grouped” keeps groups together.",
            len(fact.groups),
            scored=first.scored[0],
            other=first.other[0],
        )
    return ngettext(
        "The split separates %(n)s group of scenes that belong together, such as %(scored)s (%(split)s) and %(other)s "
        "(%(other_split)s): %(split)s scores may be too good. The split “grouped” keeps groups together.",
        "The split separates %(n)s groups of scenes that belong together, such as %(scored)s (%(split)s) and %(other)s "
        "(%(other_split)s): %(split)s scores may be too good. The split “grouped” keeps groups together.",
        len(fact.groups),
        scored=first.scored[0],
        split=split_words(fact.split),
        other=first.other[0],
        other_split=split_words(first.other_split),
    )


def _identical_counts(fact: caveats.IdenticalCounts) -> str:
    sets = [pgettext("runs with the same counts", "%(runs)s", runs=listing(runs)) for runs in fact.sets]
    return gettext(
        "The same predictions under several names: %(runs)s agree in every count of every scene. Two models "
        "practically never do; check which files were evaluated.",
        runs="; ".join(sets),
    )


def _unlike_ground_distances(fact: caveats.UnlikeGroundDistances) -> str:
    return gettext(
        "The scenes have unlike ground sample distances (%(scene)s lies at one end): networks see the same objects at "
        "unlike sizes, and the scores mix them. Resample the scenes to one distance, or compare at each apart.",
        scene=fact.scene,
    )


def _unlike_bands(fact: caveats.UnlikeBands) -> str:
    return gettext(
        "Some files name other bands, scales or offsets than most (%(scene)s does), and pixels are read as they are "
        "stored: equal numbers may mean unlike things. Write all files alike.",
        scene=fact.scene,
    )


def _exploratory(fact: caveats.Exploratory) -> str:
    return gettext(
        "This view is exploratory: the study named %(named)s and δ = %(named_delta)s before its results were seen, and "
        "this is %(metric)s with δ = %(delta)s. A verdict that was looked for needs new test scenes to confirm it.",
        named=fact.named_metric,
        named_delta=score(fact.named_delta),
        metric=fact.metric,
        delta=score(fact.delta),
    )


def _evaluations(fact: caveats.EvaluationsOnTest) -> str:
    """Say how often each run was scored on the test scenes, by the logs of the studies."""
    if not fact.times:
        return gettext(
            "The test scenes were evaluated %(times)s for %(runs)s, by the log of this study.",
            times=npgettext("evaluated", "%(n)s time", "%(n)s times", fact.total),
            runs=npgettext("for", "%(n)s run", "%(n)s runs", fact.runs),
        )
    by_number: dict[int, list[str]] = {}
    for label, n in fact.times.items():
        by_number.setdefault(n, []).append(label)
    parts = [_scored(n, labels) for n, labels in sorted(by_number.items(), reverse=True)]
    if fact.others:
        parts.append(
            ngettext(
                "%(n)s evaluation was of a run that is not compared here.",
                "%(n)s evaluations were of runs that are not compared here.",
                fact.others,
            )
        )
    return " ".join([*parts, gettext("Only the log of this study is known.")])


def _scored(n: int, labels: Sequence[str]) -> str:
    runs = listing(labels)
    if n == 0:
        return ngettext(
            "No evaluation of %(runs)s is in the log.",
            "No evaluations of %(runs)s are in the log.",
            len(labels),
            runs=runs,
        )
    if n == 1:
        return ngettext(
            "%(runs)s was scored once on the test scenes.",
            "%(runs)s were scored once each on the test scenes.",
            len(labels),
            runs=runs,
        )
    times = npgettext("evaluated", "%(n)s time", "%(n)s times", n)
    return ngettext(
        "%(runs)s was scored %(times)s on the test scenes.",
        "%(runs)s were scored %(times)s each on the test scenes.",
        len(labels),
        runs=runs,
        times=times,
    )


def _repeated_evaluations(fact: caveats.RepeatedEvaluationsOnTest) -> str:
    texts = [_evaluations(fact)]
    if fact.views:
        texts.append(
            ngettext(
                "%(n)s exploratory view of these scores was made.",
                "%(n)s exploratory views of these scores were made.",
                fact.views,
            )
        )
    chosen = gettext(
        "Whatever was chosen by test scores has test scores that are too good; choose by validation scores."
    )
    return " ".join([*texts, chosen])


WRITERS: dict[type[Fact], Callable[[Any], str]] = {
    caveats.Exploratory: _exploratory,
    caveats.FailedRuns: _failed_runs,
    caveats.UnfinishedRuns: _unfinished_runs,
    caveats.CannotShow: _cannot_show,
    caveats.FewGroups: _few_groups,
    caveats.OneGroup: _one_group,
    caveats.RareClasses: _rare_classes,
    caveats.LoneSeeds: _lone_seeds,
    caveats.LoneSeedsBeside: _lone_seeds_beside,
    caveats.ControlFailed: _control_failed,
    caveats.ControlHolds: _control_holds,
    caveats.TwinSeeds: _twin_seeds,
    caveats.UnlikeProtocol: _unlike_protocol,
    caveats.UnknownProtocol: _unknown_protocol,
    caveats.SeparatedGroups: _separated_groups,
    caveats.UnlikeGroundDistances: _unlike_ground_distances,
    caveats.UnlikeBands: _unlike_bands,
    caveats.IdenticalCounts: _identical_counts,
    caveats.EvaluationsOnTest: _evaluations,
    caveats.RepeatedEvaluationsOnTest: _repeated_evaluations,
}
"""What writes each type of fact that limits the answer."""
