"""Sentences of facts: :func:`write` writes any; here are those of the verdicts and of what would decide an open one.

A message is a whole sentence. Lists and numbers that stand in it are written by :mod:`levelground.comparison.text`;
a number with its noun is a message with a context, because other languages inflect it there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from levelground.comparison import facts
from levelground.comparison.caveat_sentences import WRITERS as CAVEATS
from levelground.comparison.description_sentences import WRITERS as DESCRIPTIONS
from levelground.comparison.facts import Fact, Opponent, PairVerdict
from levelground.comparison.findings import WRITERS as BUDGETS
from levelground.comparison.place_sentences import WRITERS as PLACES
from levelground.comparison.results import Finding, Interval
from levelground.comparison.text import (
    about,
    between,
    holm_p_value,
    listing,
    metric_words,
    per_cent,
    rounded_up,
    score,
    signed,
    split_words,
)
from levelground.wording import gettext, ngettext, npgettext, pgettext, whole


def write(fact: Fact) -> str:
    """Return a fact in sentences, in the current language (:func:`levelground.wording.language`)."""
    return WRITERS[type(fact)](fact)


def as_findings(found: Sequence[Fact]) -> tuple[Finding, ...]:
    """Return facts as ``comparison.json`` holds them: code, severity, sentences and figures."""
    return tuple(Finding(fact.code, fact.severity, write(fact), fact.figures) for fact in found)


def write_pair(pair: PairVerdict) -> str:
    """Return the verdict on a pair in a sentence: the winner first, then difference, interval and p."""
    if pair.verdict == "worse":
        pair = pair.flipped()
    names = {"a": pair.a, "b": pair.b, "metric": metric_words(pair.measure.name, pair.measure.scorings)}
    if pair.delta is None:
        return gettext("%(a)s and %(b)s cannot be compared: %(metric)s does not exist on these scenes.", **names)
    names["difference"] = signed(pair.delta)
    if pair.interval is None:
        return gettext("Undecided between %(a)s and %(b)s: %(difference)s %(metric)s, without an interval.", **names)
    figures = names | _evidence(pair.interval, pair.p_holm)
    if pair.verdict == "better":
        return gettext(
            "%(a)s is better than %(b)s: %(difference)s %(metric)s (95 %% interval %(interval)s, %(p)s).", **figures
        )
    if pair.verdict == "undecided":
        return gettext(
            "Undecided between %(a)s and %(b)s: %(difference)s %(metric)s (95 %% interval %(interval)s, %(p)s).",
            **figures,
        )
    figures["margin"] = score(pair.margin)
    if pair.excludes_zero:
        return gettext(
            "%(a)s and %(b)s are equal within %(margin)s, although measurably different: "
            "%(difference)s %(metric)s (95 %% interval %(interval)s, %(p)s).",
            **figures,
        )
    return gettext(
        "%(a)s and %(b)s are equal within %(margin)s: %(difference)s %(metric)s (95 %% interval %(interval)s, %(p)s).",
        **figures,
    )


def _evidence(interval: Interval, p_holm: float | None) -> dict[str, str]:
    return {"interval": between(interval, sign=True), "p": holm_p_value(p_holm)}


def _headline(fact: facts.Headline) -> str:
    lead, *others = [
        (writer, items)
        for writer, items in ((_undecided, fact.undecided), (_equal, fact.equal), (_better, fact.better))
        if items
    ]
    texts = [lead[0](fact, lead[1])]
    for writer, items in others:
        values = {"others": _named(items), "margin": score(fact.margin)}
        if writer is _equal:
            texts.append(gettext("It is equal to %(others)s within %(margin)s.", **values))
        else:
            texts.append(gettext("It is better than %(others)s.", **values))
    if fact.undecided and any(_above(item, fact.undecided) for item in fact.better):
        texts.append(
            gettext(
                "A higher score may be shown to be worse while a lower one is undecided: the lower one's differences "
                "scatter more."
            )
        )
    return " ".join([*texts, *_budget(fact), _applies_to(fact.scope)])


def _above(item: Opponent, others: Sequence[Opponent]) -> bool:
    """Whether a score is above one of the others'."""
    return item.value is not None and any(other.value is not None and other.value < item.value for other in others)


def _budget(fact: facts.Headline) -> list[str]:
    """Say what a longer training may change: of a rehearsal always, else where a winner's lead may not last."""
    if fact.rehearsal and fact.steps is not None:
        return [
            gettext(
                "This is a rehearsal of %(steps)s a model: a real comparison trains much longer, and its order may "
                "differ.",
                steps=_step_range(fact.steps),
            )
        ]
    if fact.still_rising and fact.better:
        return [
            gettext(
                "Validation scores were still rising by %(margin)s or more when the budget ended: with a longer one "
                "the order may change.",
                margin=score(fact.margin),
            )
        ]
    return []


def _step_range(steps: tuple[int, int]) -> str:
    low, high = steps
    if low == high:
        return npgettext("of", "%(n)s step", "%(n)s steps", high)
    return npgettext("of", "%(low)s to %(n)s step", "%(low)s to %(n)s steps", high, low=whole(low))


def _named(items: Sequence[Opponent]) -> str:
    return listing([_with_value(item) for item in items])


def _with_value(item: Opponent) -> str:
    return f"{item.label} ({score(item.value)})"


def _leader(fact: facts.Headline) -> dict[str, str]:
    words = metric_words(fact.measure.name, fact.measure.scorings)
    return {"best": fact.label, "value": score(fact.value), "metric": words}


def _undecided(fact: facts.Headline, items: Sequence[Opponent]) -> str:
    others = listing([_with_value(item) for item in items], last="or")
    lead = gettext(
        "No winner: %(best)s has the highest %(metric)s (%(value)s) but is not shown to be better than %(others)s.",
        others=others,
        **_leader(fact),
    )
    return f"{lead} {_difference(items[0])}"


def _difference(item: Opponent) -> str:
    if item.interval is None:
        return gettext(
            "The difference to %(name)s is %(difference)s, without an interval.",
            name=item.label,
            difference=score(item.delta),
        )
    return gettext(
        "The difference to %(name)s is %(difference)s (95 %% interval %(interval)s, %(p)s).",
        name=item.label,
        difference=score(item.delta),
        **_evidence(item.interval, item.p_holm),
    )


def _equal(fact: facts.Headline, items: Sequence[Opponent]) -> str:
    values = _leader(fact) | {"margin": score(fact.margin)}
    values["names"] = listing([f"{fact.label} ({score(fact.value)})", *(_with_value(item) for item in items)])
    if items[0].excludes_zero:
        lead = gettext(
            "A tie: %(names)s are equal in %(metric)s within %(margin)s, although measurably different.",
            **values,
        )
    else:
        lead = gettext("A tie: %(names)s are equal in %(metric)s within %(margin)s.", **values)
    return f"{lead} {_difference(items[0])}"


def _better(fact: facts.Headline, items: Sequence[Opponent]) -> str:
    values = _leader(fact)
    if fact.steps is not None and (fact.still_rising or fact.rehearsal):
        values["steps"] = npgettext("after", "%(n)s step", "%(n)s steps", fact.steps[1])
        lead = gettext("%(best)s leads after %(steps)s with %(value)s %(metric)s.", **values)
    else:
        lead = gettext("%(best)s wins with %(value)s %(metric)s.", **values)
    gaps = [
        gettext(
            "%(name)s (%(value)s) by %(difference)s (95 %% interval %(interval)s, %(p)s)",
            name=item.label,
            value=score(item.value),
            difference=score(item.delta),
            **_evidence(item.interval, item.p_holm),
        )
        for item in items
    ]
    beaten = gettext("It is better than %(others)s.", others=listing(gaps, most=3))
    return f"{lead} {beaten}"


def _applies_to(scope: facts.Scope) -> str:
    values = {"groups": npgettext("on", "%(n)s group", "%(n)s groups", scope.groups), "split": split_words(scope.split)}
    if scope.folds:
        return _applies_to_folds(scope, values)
    if scope.seeds is None:
        return gettext(
            "This result applies to these weights on %(groups)s of %(split)s scenes, not to architectures: "
            "the variance between seeds is unknown.",
            **values,
        )
    return gettext(
        "This result applies to architectures, each trained with %(seeds)s seeds, on %(groups)s of %(split)s scenes.",
        seeds=_seed_range(scope.seeds),
        **values,
    )


def _seed_range(seeds: tuple[int, int]) -> str:
    low, high = seeds
    return whole(low) if low == high else pgettext("range", "%(low)s to %(high)s", low=whole(low), high=whole(high))


def _applies_to_folds(scope: facts.Scope, values: Mapping[str, str]) -> str:
    """Say that folds speak of the training procedure on data like these, and of nothing more."""
    folds = whole(scope.folds)
    if scope.seeds is None:
        return gettext(
            "This result applies to this training procedure with one seed, on data like these: every scene is scored "
            "once, by the model of its fold (%(folds)s folds, %(groups)s of %(split)s scenes). It does not apply to "
            "one set of weights, nor to architectures: the variance between seeds is unknown.",
            folds=folds,
            **values,
        )
    return gettext(
        "This result applies to this training procedure on data like these, each architecture with %(seeds)s seeds: "
        "every scene is scored once, by the model of its fold (%(folds)s folds, %(groups)s of %(split)s scenes). It "
        "does not apply to one set of weights.",
        folds=folds,
        seeds=_seed_range(scope.seeds),
        **values,
    )


def _lone_headline(fact: facts.LoneHeadline) -> str:
    values = {
        "name": fact.label,
        "value": score(fact.value),
        "metric": metric_words(fact.measure.name, fact.measure.scorings),
        "interval": between(fact.interval),
        "seeds": whole(fact.seeds),
        "scenes": npgettext(
            "on", "%(n)s %(split)s scene", "%(n)s %(split)s scenes", fact.scenes, split=split_words(fact.split)
        ),
    }
    if fact.seeds > 1 and fact.interval is not None:
        text = gettext(
            "%(name)s scores %(value)s %(metric)s on average over %(seeds)s seeds (95 %% interval %(interval)s) "
            "on %(scenes)s.",
            **values,
        )
    elif fact.seeds > 1:
        text = gettext("%(name)s scores %(value)s %(metric)s on average over %(seeds)s seeds on %(scenes)s.", **values)
    elif fact.interval is not None:
        text = gettext("%(name)s scores %(value)s %(metric)s (95 %% interval %(interval)s) on %(scenes)s.", **values)
    else:
        text = gettext("%(name)s scores %(value)s %(metric)s on %(scenes)s.", **values)
    alone = gettext("There is nothing to compare it with.")
    return f"{text} {alone}"


def _no_ranking(fact: facts.NoRanking) -> str:
    words = metric_words(fact.measure.name, fact.measure.scorings)
    return gettext(
        "No ranking: %(metric)s does not exist on these scenes, which have no true pixels to score.", metric=words
    )


def _one_group_decides(fact: facts.OneGroupDecides) -> str:
    texts = []
    for other, (delta, interval, verdict), was in zip(fact.others, fact.without, fact.was, strict=True):
        values = {
            "group": fact.group,
            "best": fact.leader,
            "name": other.label,
            "difference": signed(delta),
            "interval": between(interval, sign=True),
            "now": signed(other.delta),
        }
        if delta < 0:
            lead = gettext("Without group %(group)s, %(name)s is ahead of %(best)s", **values)
        elif was == "equal":
            lead = gettext("Without group %(group)s, %(best)s and %(name)s are not shown to be equal", **values)
        elif verdict == "equal":
            lead = gettext("Without group %(group)s, %(best)s and %(name)s are equal", **values)
        else:
            lead = gettext("Without group %(group)s, %(best)s is not shown to be better than %(name)s", **values)
        texts.append(
            gettext(
                "%(lead)s (difference %(difference)s, 95 %% interval %(interval)s; with it %(now)s).",
                lead=lead,
                **values,
            )
        )
    return " ".join([gettext("One group of scenes decides the verdict."), *texts[:3]])


def _ranked_first(fact: facts.RankedFirst) -> str:
    best, *others = sorted(fact.shares, key=lambda name: (-fact.shares[name], name))
    shares = [
        gettext("%(name)s in %(share)s of the resamples", name=best, share=per_cent(fact.shares[best])),
        *(gettext("%(name)s in %(share)s", name=name, share=per_cent(fact.shares[name])) for name in others[:3]),
    ]
    return gettext("When groups and seeds are resampled, first place goes to %(shares)s.", shares=listing(shares))


def _equal_pairs(fact: facts.EqualPairs) -> str:
    texts = [write_pair(pair) for pair in fact.pairs[:3]]
    if len(fact.pairs) > 3:
        texts.append(
            ngettext(
                "%(n)s more pair is equal within %(margin)s.",
                "%(n)s more pairs are equal within %(margin)s.",
                len(fact.pairs) - 3,
                margin=score(fact.pairs[0].margin),
            )
        )
    return " ".join(texts)


def _what_would_decide(fact: facts.WhatWouldDecide) -> str:
    power = fact.power
    values = {
        "groups": npgettext("with", "%(n)s group", "%(n)s groups", fact.groups),
        "difference": score(power.detectable),
        "share": per_cent(power.power),
        "pair": listing(fact.labels),
    }
    if power.seeds is not None:
        values["seeds"] = npgettext("with", "%(n)s seed", "%(n)s seeds", power.seeds)
    if power.seeds is None and fact.detects:
        text = gettext(
            "With %(groups)s, a difference of %(difference)s between %(pair)s would be found in %(share)s of such "
            "studies.",
            **values,
        )
    elif power.seeds is None:
        text = gettext(
            "With %(groups)s, even the largest difference between %(pair)s would be found in fewer than %(share)s of "
            "such studies.",
            **values,
        )
    elif fact.detects:
        text = gettext(
            "With %(groups)s and %(seeds)s of each architecture, a difference of %(difference)s between %(pair)s would "
            "be found in %(share)s of such studies.",
            **values,
        )
    else:
        text = gettext(
            "With %(groups)s and %(seeds)s of each architecture, even the largest difference between %(pair)s would be "
            "found in fewer than %(share)s of such studies.",
            **values,
        )
    return " ".join([text, *_needs(power.delta, fact)])


def _needs(delta: float, fact: facts.WhatWouldDecide) -> list[str]:
    """What decides on a difference of δ: enough to find it and enough to show that there is none."""
    power = fact.power
    groups = _larger(power.groups_needed, power.groups_for_equal)
    seeds = _larger(power.seeds_needed, power.seeds_for_equal)
    values = {"delta": score(delta)}
    if groups is not None:
        values["groups"] = _about_groups(groups)
    if seeds is not None:
        values["seeds"] = _about_seeds(seeds)
    if power.groups_share is None:
        return [] if groups is None else [_needs_of_weights(values)]
    share = per_cent(1 - power.groups_share)
    return [_needs_of_architectures(values), gettext("Seeds contribute %(share)s of the variance.", share=share)]


def _needs_of_weights(values: dict[str, str]) -> str:
    return gettext(
        "Finding a difference of %(delta)s, or showing that there is none, takes %(groups)s; "
        "one seed of each cannot tell how many seeds a statement about architectures takes.",
        **values,
    )


def _needs_of_architectures(values: dict[str, str]) -> str:
    if "groups" in values and "seeds" in values:
        return gettext(
            "Finding a difference of %(delta)s, or showing that there is none, takes "
            "%(groups)s with the same number of seeds, or %(seeds)s of each architecture with the same groups.",
            **values,
        )
    if "groups" in values:
        return gettext(
            "Finding a difference of %(delta)s, or showing that there is none, takes "
            "%(groups)s with the same number of seeds.",
            **values,
        )
    if "seeds" in values:
        return gettext(
            "Finding a difference of %(delta)s, or showing that there is none, takes "
            "%(seeds)s of each architecture with the same groups.",
            **values,
        )
    return gettext(
        "Finding a difference of %(delta)s, or showing that there is none, takes more groups "
        "and more seeds: more of one alone is not enough.",
        **values,
    )


def _larger(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else max(first, second)


def _about_groups(n: int) -> str:
    return npgettext("takes", "%(n)s group", "%(n)s groups", rounded_up(n), n=about(n))


def _about_seeds(n: int) -> str:
    return npgettext("takes", "%(n)s seed", "%(n)s seeds", rounded_up(n), n=about(n))


WRITERS: dict[type[Fact], Callable[[Any], str]] = {
    facts.Headline: _headline,
    facts.LoneHeadline: _lone_headline,
    facts.NoRanking: _no_ranking,
    facts.OneGroupDecides: _one_group_decides,
    facts.RankedFirst: _ranked_first,
    facts.EqualPairs: _equal_pairs,
    facts.WhatWouldDecide: _what_would_decide,
    **CAVEATS,
    **DESCRIPTIONS,
    **PLACES,
    **BUDGETS,
}
"""What writes each type of fact."""
