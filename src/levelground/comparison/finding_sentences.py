"""Sentences of what limits a comparison's answer, and of what describes the models.

Written as :mod:`levelground.comparison.sentences` says.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from levelground.comparison import descriptions, facts
from levelground.comparison.facts import Fact
from levelground.comparison.text import (
    between,
    class_word,
    listing,
    metric_words,
    p_number,
    p_value,
    per_cent,
    rate,
    ratio,
    score,
    signed,
)
from levelground.statistics.pairs import ALPHA
from levelground.wording import decimal, gettext, ngettext, npgettext, pgettext, whole


def _cannot_show(fact: facts.CannotShow) -> str:
    shown = gettext(
        "No difference could have been shown with %(groups)s and %(pairs)s: the smallest Holm-adjusted p that can be "
        "reached is %(p)s, above %(alpha)s.",
        groups=npgettext("with", "%(n)s group", "%(n)s groups", fact.groups),
        pairs=npgettext("with", "%(n)s pair", "%(n)s pairs", fact.pairs),
        p=p_number(fact.p_min),
        alpha=decimal(str(ALPHA)),
    )
    needed = ngettext("At least %(n)s group is needed.", "At least %(n)s groups are needed.", fact.groups_for_p)
    return f"{shown} {needed}"


def _few_groups(fact: facts.FewGroups) -> str:
    return ngettext(
        "There is only %(n)s group (%(scenes)s). Intervals from fewer than %(least)s groups are wide, and they assume "
        "that groups are alike.",
        "There are only %(n)s groups (%(scenes)s). Intervals from fewer than %(least)s groups are wide, and they "
        "assume that groups are alike.",
        fact.groups,
        scenes=_scenes(fact),
        least=whole(facts.FEW_GROUPS),
    )


def _scenes(fact: facts.FewGroups) -> str:
    return npgettext("apposition", "%(n)s %(split)s scene", "%(n)s %(split)s scenes", fact.scenes, split=fact.split)


def _one_group(fact: facts.OneGroup) -> str:
    return ngettext(
        "There is no interval and no test, because there is only %(n)s %(split)s scene, and one group cannot show how "
        "much others would differ. The scores describe this scene only.",
        "There is no interval and no test, because all %(n)s %(split)s scenes are one group, and one group cannot show "
        "how much others would differ. The scores describe these scenes only.",
        fact.scenes,
        split=fact.split,
    )


def _rare_classes(fact: facts.RareClasses) -> str:
    classes = [
        ngettext("%(name)s (in %(n)s group)", "%(name)s (in %(n)s groups)", n, name=name)
        for name, n in fact.classes.items()
    ]
    return ngettext(
        "%(classes)s occurs in fewer than %(least)s of %(groups)s groups: each run's own interval is too narrow, "
        "because other scenes may not contain this class. Differences between runs are not affected.",
        "%(classes)s occur in fewer than %(least)s of %(groups)s groups: each run's own interval is too narrow, "
        "because other scenes may not contain these classes. Differences between runs are not affected.",
        len(classes),
        classes=listing(classes),
        least=whole(facts.RARE_GROUPS),
        groups=whole(fact.groups),
    )


def _lone_seeds(fact: facts.LoneSeeds) -> str:
    return ngettext(
        "The verdicts are about weights, not architectures, because %(names)s has only one run. Train at least 2 seeds "
        "of each architecture to compare architectures.",
        "The verdicts are about weights, not architectures, because %(names)s have only one run each. Train at least "
        "2 seeds of each architecture to compare architectures.",
        len(fact.architectures),
        names=listing(fact.architectures),
    )


def _lone_seeds_beside(fact: facts.LoneSeedsBeside) -> str:
    return ngettext(
        "%(names)s has only one run, so it is compared with the other runs as trained weights, not as an architecture. "
        "Train at least 2 seeds of each architecture to compare architectures.",
        "%(names)s have only one run each, so they are compared with the other runs as trained weights, not as "
        "architectures. Train at least 2 seeds of each architecture to compare architectures.",
        len(fact.architectures),
        names=listing(fact.architectures),
    )


def _control(fact: facts.ControlHolds) -> dict[str, str]:
    return {
        "original": fact.original,
        "twin": fact.twin,
        "difference": signed(fact.delta),
        "interval": between(fact.interval, sign=True),
        "p": p_value(fact.p),
    }


def _control_failed(fact: facts.ControlFailed) -> str:
    return gettext(
        "The negative control failed: %(original)s and %(twin)s are one architecture under two names, but they are "
        "told apart (%(difference)s, 95 %% interval %(interval)s, %(p)s). One control in 20 fails by chance; do not "
        "trust a difference of this size.",
        **_control(fact),
    )


def _control_holds(fact: facts.ControlHolds) -> str:
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


def _twin_seeds(fact: facts.TwinSeeds) -> str:
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


def _unlike_protocol(fact: facts.UnlikeProtocol) -> str:
    return gettext(
        "The runs were not made alike: %(fields)s. A difference may come from this, not from the models.",
        fields=listing([_field(entry) for entry in fact.fields], most=4),
    )


def _field(entry: facts.FieldValues) -> str:
    values = [
        pgettext("field of the protocol", "%(value)s for %(runs)s", value=value, runs=listing(runs))
        for value, runs in entry.runs.items()
    ]
    return f"{entry.field} ({'; '.join(values)})"


def _unknown_protocol(fact: facts.UnknownProtocol) -> str:
    return ngettext(
        "How %(runs)s was trained is unknown, because it was adopted: nobody can check whether the protocol was the "
        "same and whether training used these test scenes.",
        "How %(runs)s were trained is unknown, because they were adopted: nobody can check whether the protocol was "
        "the same and whether training used these test scenes.",
        len(fact.runs),
        runs=listing(fact.runs),
    )


def _separated_groups(fact: facts.SeparatedGroups) -> str:
    first = fact.groups[0]
    return ngettext(
        "The split separates %(n)s group of scenes that belong together, such as %(scored)s (%(split)s) and %(other)s "
        "(%(other_split)s): %(split)s scores may be too good. The split “grouped” keeps groups together.",
        "The split separates %(n)s groups of scenes that belong together, such as %(scored)s (%(split)s) and %(other)s "
        "(%(other_split)s): %(split)s scores may be too good. The split “grouped” keeps groups together.",
        len(fact.groups),
        scored=first.scored[0],
        split=fact.split,
        other=first.other[0],
        other_split=first.other_split,
    )


def _one_raster(fact: facts.OneRaster) -> str:
    return gettext(
        "All scenes are blocks of one raster: intervals and tests apply to this raster only, not to other places."
    )


def _evaluations(fact: facts.EvaluationsOnTest) -> dict[str, str]:
    return {
        "times": npgettext("evaluated", "%(n)s time", "%(n)s times", fact.total),
        "runs": npgettext("for", "%(n)s run", "%(n)s runs", fact.runs),
    }


def _evaluations_on_test(fact: facts.EvaluationsOnTest) -> str:
    return gettext("The test scenes were evaluated %(times)s for %(runs)s, no more than needed.", **_evaluations(fact))


def _repeated_evaluations(fact: facts.RepeatedEvaluationsOnTest) -> str:
    return gettext(
        "The test scenes were evaluated %(times)s for %(runs)s. Whatever was chosen by test scores has test scores "
        "that are too good; choose by validation scores.",
        **_evaluations(fact),
    )


def _converges_first(fact: descriptions.ConvergesFirst) -> str:
    order = sorted(fact.steps, key=lambda name: (fact.steps[name], name))
    first = [name for name in order if fact.steps[name] == fact.steps[order[0]]]
    if len(first) == len(order):
        texts = [
            gettext(
                "%(names)s reach 95 %% of their own best validation score at the same time, after %(steps)s.",
                names=listing(first),
                steps=_steps(fact, order[0]),
            )
        ]
    else:
        reached = [
            pgettext("convergence", "%(name)s after %(steps)s", name=name, steps=_steps(fact, name)) for name in order
        ]
        texts = [
            ngettext("%(names)s converges first.", "%(names)s converge first.", len(first), names=listing(first)),
            gettext(
                "Each model reaches 95 %% of its own best validation score: %(reached)s.", reached=listing(reached)
            ),
        ]
    soonest = min(sorted(fact.time_s), key=lambda name: fact.time_s[name], default="")
    if len(fact.time_s) == len(fact.steps) and soonest not in first:
        seconds = f"{fact.time_s[soonest]:.0f}"
        texts.append(gettext("By time, %(name)s is first, after %(seconds)s s.", name=soonest, seconds=seconds))
    return " ".join(texts)


def _steps(fact: descriptions.ConvergesFirst, name: str) -> str:
    steps = round(fact.steps[name])
    if name not in fact.epochs:
        return npgettext("after", "%(n)s step", "%(n)s steps", steps)
    epoch = decimal(f"{fact.epochs[name]:.1f}")
    return npgettext("after", "%(n)s step (epoch %(epoch)s)", "%(n)s steps (epoch %(epoch)s)", steps, epoch=epoch)


def _still_learning(fact: descriptions.StillLearning) -> str:
    return ngettext(
        "%(models)s was still improving when the budget ended: the last validation score was the best. A longer budget "
        "may change the result.",
        "%(models)s were still improving when the budget ended: their last validation scores were the best. A longer "
        "budget may change the result.",
        len(fact.models),
        models=listing(fact.models),
    )


def _unlike_machines(fact: facts.UnlikeMachines) -> str:
    return gettext(
        "Speeds are not compared, because %(runs)s ran with different hardware, devices, precisions or numbers of "
        "threads.",
        runs=listing(fact.runs),
    )


def _speeds(speeds: Mapping[str, float]) -> tuple[list[str], dict[str, str]]:
    """The fastest models, and the values of a message about them."""
    order = sorted(speeds, key=lambda name: (-speeds[name], name))
    top = speeds[order[0]]
    level = [name for name in order if top / speeds[name] < descriptions.SAME_SPEED]
    ratios = [
        gettext(
            "%(ratio)s times as fast as %(name)s (%(rate)s)",
            ratio=ratio(top / speeds[name]),
            name=name,
            rate=rate(speeds[name]),
        )
        for name in order
        if name not in level
    ]
    return level, {"names": listing(level), "rate": rate(top), "ratios": listing(ratios)}


def _faster(fact: descriptions.Faster) -> str:
    level, values = _speeds(fact.speeds)
    if len(level) == 1:
        return gettext("%(names)s predicts fastest, %(rate)s megapixels a second: %(ratios)s.", **values)
    if values["ratios"]:
        return gettext("%(names)s predict about equally fast, %(rate)s megapixels a second: %(ratios)s.", **values)
    return gettext("%(names)s predict about equally fast, %(rate)s megapixels a second.", **values)


def _faster_training(fact: descriptions.FasterTraining) -> str:
    level, values = _speeds(fact.speeds)
    if len(level) == 1:
        return gettext("%(names)s trains fastest, %(rate)s images a second: %(ratios)s.", **values)
    if values["ratios"]:
        return gettext("%(names)s train about equally fast, %(rate)s images a second: %(ratios)s.", **values)
    return gettext("%(names)s train about equally fast, %(rate)s images a second.", **values)


def _unlike_steps(fact: descriptions.UnlikeSteps) -> str:
    steps = [
        ngettext("%(name)s took %(n)s step", "%(name)s took %(n)s steps", n, name=name)
        for name, n in sorted(fact.steps.items(), key=lambda item: -item[1])
    ]
    return gettext("In the same budget (%(budget)s), %(steps)s.", budget=fact.budget, steps=listing(steps))


def _unlike_trainable(fact: descriptions.UnlikeTrainable) -> str:
    ordered = sorted(fact.shares.items(), key=lambda item: item[1])
    return gettext(
        "Different shares of the parameters in use were trained: %(shares)s. The frozen parameters may explain part of "
        "the difference.",
        shares=listing([f"{name} {per_cent(min(1.0, share))}" for name, share in ordered]),
    )


def _confused_most(fact: descriptions.ConfusedMost) -> str:
    cells = [
        gettext(
            "%(share)s of true %(true)s as %(predicted)s",
            share=per_cent(cell.share),
            true=class_word(cell.names[0]),
            predicted=class_word(cell.names[1]),
        )
        for cell in fact.cells
    ]
    return gettext("%(model)s predicts %(cells)s.", model=fact.model, cells=listing(cells))


def _never_predicted(fact: descriptions.NeverPredicted) -> str:
    values = {
        "models": listing(fact.models),
        "class_name": class_word(fact.class_name),
        "share": per_cent(fact.share),
    }
    if fact.all_models:
        return gettext("No model ever predicts %(class_name)s, which is %(share)s of the true pixels.", **values)
    return ngettext(
        "%(models)s never predicts %(class_name)s, which is %(share)s of the true pixels.",
        "%(models)s never predict %(class_name)s, which is %(share)s of the true pixels.",
        len(fact.models),
        **values,
    )


def _never_predicted_uncounted(fact: descriptions.NeverPredictedUncounted) -> str:
    scored = gettext("It is not a counted class: only the scoring “all” scores it, as 0.")
    return f"{_never_predicted(fact)} {scored}"


def _absent_classes(fact: descriptions.AbsentClasses) -> str:
    return ngettext(
        "The %(split)s scenes have no true pixels of %(classes)s. This class has no IoU and is in no mean; pixels "
        "predicted as this class count as misses of the true classes.",
        "The %(split)s scenes have no true pixels of %(classes)s. These classes have no IoU and are in no mean; pixels "
        "predicted as these classes count as misses of the true classes.",
        len(fact.classes),
        split=fact.split,
        classes=listing([class_word(name) for name in fact.classes.values()]),
    )


def _same_ranking(fact: descriptions.SameRanking) -> str:
    return gettext("The scorings (%(names)s) rank the runs in the same order.", names=listing(fact.scorings))


def _rank_flips(fact: descriptions.RankFlips) -> str:
    return gettext(
        "The ranking depends on the scoring: %(flips)s.", flips=_flips(fact.flips, fact.labels, fact.measure)
    )


def _rank_flips_of_metrics(fact: descriptions.RankFlipsOfMetrics) -> str:
    return gettext(
        "Other metrics rank the runs in another order: %(flips)s. Only %(tested)s is tested.",
        flips=_flips(fact.flips, fact.labels, fact.measure),
        tested=metric_words(fact.measure.name, fact.measure.scorings),
    )


def _flips(flips: Mapping[str, Sequence[tuple[str, str]]], labels: Mapping[str, str], measure: facts.Measure) -> str:
    """Flips by metric in a list; each is ``(before, after)`` of runs that change places."""
    parts = []
    for metric, found in flips.items():
        passed = [
            gettext("%(after)s ranks above %(before)s", before=labels[before], after=labels[after])
            for before, after in found
        ]
        parts.append(
            gettext(
                "by %(metric)s, %(flips)s",
                metric=metric_words(metric, measure.scorings),
                flips=listing(passed, most=2),
            )
        )
    if len(parts) > 3:
        parts[3:] = [ngettext("%(n)s more metric", "%(n)s more metrics", len(parts) - 3)]
    return "; ".join(parts)


WRITERS: dict[type[Fact], Callable[[Any], str]] = {
    facts.CannotShow: _cannot_show,
    facts.FewGroups: _few_groups,
    facts.OneGroup: _one_group,
    facts.RareClasses: _rare_classes,
    facts.LoneSeeds: _lone_seeds,
    facts.LoneSeedsBeside: _lone_seeds_beside,
    facts.ControlFailed: _control_failed,
    facts.ControlHolds: _control_holds,
    facts.TwinSeeds: _twin_seeds,
    facts.UnlikeProtocol: _unlike_protocol,
    facts.UnknownProtocol: _unknown_protocol,
    facts.SeparatedGroups: _separated_groups,
    facts.OneRaster: _one_raster,
    facts.EvaluationsOnTest: _evaluations_on_test,
    facts.RepeatedEvaluationsOnTest: _repeated_evaluations,
    facts.UnlikeMachines: _unlike_machines,
    descriptions.ConvergesFirst: _converges_first,
    descriptions.StillLearning: _still_learning,
    descriptions.Faster: _faster,
    descriptions.FasterTraining: _faster_training,
    descriptions.UnlikeSteps: _unlike_steps,
    descriptions.UnlikeTrainable: _unlike_trainable,
    descriptions.ConfusedMost: _confused_most,
    descriptions.NeverPredicted: _never_predicted,
    descriptions.NeverPredictedUncounted: _never_predicted_uncounted,
    descriptions.AbsentClasses: _absent_classes,
    descriptions.SameRanking: _same_ranking,
    descriptions.RankFlips: _rank_flips,
    descriptions.RankFlipsOfMetrics: _rank_flips_of_metrics,
}
"""What writes each type of fact that limits or describes."""
