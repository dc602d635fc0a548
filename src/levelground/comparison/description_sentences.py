"""Sentences of what describes the models: learning, speed, classes and rankings.

Written as :mod:`levelground.comparison.sentences` says.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from levelground.comparison import descriptions, facts, speeds
from levelground.comparison.facts import Fact
from levelground.comparison.text import (
    class_word,
    listing,
    metric_words,
    per_cent,
    rate,
    ratio,
    recorded,
    score,
    signed,
    split_words,
)
from levelground.wording import decimal, gettext, ngettext, npgettext, pgettext


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
    models = [f"{name} ({signed(gain)})" for name, gain in sorted(fact.gains.items(), key=lambda item: -item[1])]
    return ngettext(
        "%(models)s was still improving when the budget ended: its validation score rose by %(margin)s or more in the "
        "last fifth of its steps. A longer budget may change the result.",
        "%(models)s were still improving when the budget ended: their validation scores rose by %(margin)s or more in "
        "the last fifth of their steps. A longer budget may change the result.",
        len(models),
        models=listing(models),
        margin=score(fact.margin),
    )


def _unlike_machines(fact: speeds.UnlikeMachines) -> str:
    return gettext(
        "Speeds of prediction are not compared, because %(runs)s were evaluated with different hardware, devices, "
        "engines, precisions or numbers of threads.",
        runs=listing(fact.runs),
    )


def _unlike_training_machines(fact: speeds.UnlikeTrainingMachines) -> str:
    return gettext(
        "Speeds of training are not compared, because %(runs)s were trained with different hardware, devices, "
        "precisions or numbers of threads or processes.",
        runs=listing(fact.runs),
    )


def _speeds(rates: Mapping[str, float]) -> tuple[list[str], dict[str, str]]:
    """The fastest models, and the values of a message about them."""
    order = sorted(rates, key=lambda name: (-rates[name], name))
    top = rates[order[0]]
    level = [name for name in order if top / rates[name] < speeds.SAME_SPEED]
    ratios = [
        gettext(
            "%(ratio)s times as fast as %(name)s (%(rate)s)",
            ratio=ratio(top / rates[name]),
            name=name,
            rate=rate(rates[name]),
        )
        for name in order
        if name not in level
    ]
    return level, {"names": listing(level), "rate": rate(top), "ratios": listing(ratios)}


def _faster(fact: speeds.Faster) -> str:
    level, values = _speeds(fact.speeds)
    unsure = sorted(set(fact.overlapping) - set(level))
    if len(level) == 1:
        text = gettext("%(names)s predicts fastest, %(rate)s megapixels a second: %(ratios)s.", **values)
    elif values["ratios"]:
        text = gettext("%(names)s predict about equally fast, %(rate)s megapixels a second: %(ratios)s.", **values)
    else:
        text = gettext("%(names)s predict about equally fast, %(rate)s megapixels a second.", **values)
    if not unsure:
        return text
    more = gettext(
        "The 95 %% intervals of %(names)s overlap: another measurement may order them otherwise.",
        names=listing([*level, *unsure]),
    )
    return f"{text} {more}"


def _faster_training(fact: speeds.FasterTraining) -> str:
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
    return gettext("In the same budget (%(budget)s), %(steps)s.", budget=recorded(fact.budget), steps=listing(steps))


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
        "predicted as this class count as misses of the true classes. Verdicts do not speak of it: scenes that hold it "
        "may give another order, and no interval allows for that.",
        "The %(split)s scenes have no true pixels of %(classes)s. These classes have no IoU and are in no mean; pixels "
        "predicted as these classes count as misses of the true classes. Verdicts do not speak of them: scenes that "
        "hold them may give another order, and no interval allows for that.",
        len(fact.classes),
        split=split_words(fact.split),
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


def _trained_elsewhere(fact: descriptions.TrainedElsewhere) -> str:
    lead = (
        gettext("All models were trained on another data set: these scenes show how they do elsewhere.")
        if fact.all_runs
        else gettext("Some models were trained on another data set, the others on scenes of this one.")
    )
    sources = [
        gettext("%(runs)s learnt from %(study)s.", runs=listing(list(runs)), study=study)
        if (n := fact.scenes[study]) is None
        else ngettext(
            "%(runs)s learnt from %(n)s scene of %(study)s.",
            "%(runs)s learnt from %(n)s scenes of %(study)s.",
            n,
            runs=listing(list(runs)),
            study=study,
        )
        for study, runs in fact.runs.items()
    ]
    return " ".join([lead, *sources])


WRITERS: dict[type[Fact], Callable[[Any], str]] = {
    speeds.UnlikeMachines: _unlike_machines,
    speeds.UnlikeTrainingMachines: _unlike_training_machines,
    descriptions.TrainedElsewhere: _trained_elsewhere,
    descriptions.ConvergesFirst: _converges_first,
    descriptions.StillLearning: _still_learning,
    speeds.Faster: _faster,
    speeds.FasterTraining: _faster_training,
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
"""What writes each type of fact that describes."""
