"""Benchmark of models on several data sets: verdicts within each as they are, and what holds across them.

Letters: D data sets, k models.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from levelground import __version__
from levelground.comparison.benchmark_record import (
    Benchmark,
    BenchmarkModel,
    BenchmarkPair,
    BenchmarkSet,
    SetDifference,
    SetScore,
    metric_of,
)
from levelground.comparison.record import Comparison
from levelground.comparison.results import OPPOSITE, ArchitectureResult, Finding, PairResult, negated
from levelground.comparison.text import listing, p_number, recorded, score
from levelground.errors import ConfigError, UnlikeError
from levelground.metrics.named import metric_range
from levelground.metrics.scores import Scores
from levelground.statistics.pairs import FEWEST_GROUPS, decide
from levelground.statistics.significance import Friedman, friedman, holm, mean_difference, mean_ranks, set_ranks
from levelground.wording import SOURCE, current_language, decimal, gettext, language, ngettext


def make_benchmark(comparisons: Mapping[Path, Comparison], out: Path) -> Benchmark:
    """Compare the models that several comparisons have in common, across their data sets.

    Args:
        comparisons: The comparison of each data set by its study folder, two or more.
        out: The folder that the benchmark will lie in.
    Returns:
        The benchmark, as ``benchmark.json`` holds it.
    Raises:
        ConfigError: Fewer than two sets, or fewer than two models in all of them.
        UnlikeError: The sets were compared by unlike metrics or margins.
    """
    _check_comparable(comparisons)
    names = _set_names(list(comparisons))
    found = dict(zip(names, comparisons.values(), strict=True))
    entries, left_out = _common_models(found)
    values = [[models[name].value for models in entries.values()] for name in names]
    ranks = set_ranks(np.array(values, np.float64))  # models without a value are left out above
    pairs, tests = _pairs(entries, found), friedman(ranks)
    models = _models(entries, names, ranks)
    place = {model.name: number for number, model in enumerate(models)}
    first = next(iter(found.values()))
    benchmark = Benchmark(
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        metric=first.metric,
        delta=first.delta,
        sets=tuple(
            _set(name, folder, one, out) for (folder, one), name in zip(comparisons.items(), names, strict=True)
        ),
        models=models,
        left_out=left_out,
        pairs=_with_nemenyi(_oriented(pairs, place), tests, list(entries)),
        friedman_statistic=None if tests is None else tests.statistic,
        friedman_p=None if tests is None else tests.p,
        critical_difference=None if tests is None else tests.critical_difference,
        sets_needed=None if tests is None else tests.sets_needed,
        findings=(),
    )
    with language(SOURCE):  # the record is English
        return replace(benchmark, findings=_findings(benchmark, found))


def in_current_language(benchmark: Benchmark) -> Benchmark:
    """Return a benchmark with its findings written in the current language; in English as it is."""
    if current_language() == SOURCE:
        return benchmark
    findings = describe_benchmark(benchmark)
    for finding in benchmark.findings:
        figures: Any = finding.figures
        if finding.code == "unlike_sets":
            findings.append(replace(finding, text=unlike_text(figures["fields"])))
        elif finding.code == "shared_scenes":
            first, second = figures["sets"]
            findings.append(replace(finding, text=shared_text(first, second, figures["scenes"])))
    return replace(benchmark, findings=tuple(findings))


def _check_comparable(comparisons: Mapping[Path, Comparison]) -> None:
    """Refuse sets that were not asked the same question."""
    if len(comparisons) < 2:
        raise ConfigError(f"{len(comparisons)} data set: a benchmark needs two or more. Give several study folders.")
    (first_folder, first), *others = comparisons.items()
    for folder, other in others:
        for what, mine, theirs in (("metric", first.metric, other.metric), ("delta", first.delta, other.delta)):
            if mine != theirs:
                raise UnlikeError(
                    f"{first_folder} was compared with {what} {mine}, {folder} with {theirs}. "
                    f"Run levelground compare {folder} --{what} {mine}."
                )


def _set_names(folders: Sequence[Path]) -> list[str]:
    """Name the data sets: by their folders, with as many parents as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    raise ConfigError(f"{folders[0]}: is given twice. Give each study once.")


def _set(name: str, folder: Path, comparison: Comparison, out: Path) -> BenchmarkSet:
    counted = tuple(entry.name for entry in comparison.legend.classes if entry.counted)
    place = os.path.relpath(folder.resolve(), out.resolve())
    return BenchmarkSet(name, place, len(comparison.scenes), comparison.n_groups, counted)


Models = Mapping[str, Mapping[str, ArchitectureResult]]
"""By model's name, then by data set's."""


def _common_models(comparisons: Mapping[str, Comparison]) -> tuple[Models, dict[str, tuple[str, ...]]]:
    """Find the models that have a value in every set, and the sets of those that have not."""
    found: dict[tuple[str, str], dict[str, ArchitectureResult]] = {}
    for name, comparison in comparisons.items():
        kinds = [(entry.arch, entry.encoder) for entry in comparison.candidates]
        for entry in comparison.candidates:
            kind = (entry.arch, entry.encoder)
            known = entry.arch != "unknown" and kinds.count(kind) == 1
            if entry.value is not None:
                found.setdefault(kind if known else (entry.name, ""), {})[name] = entry
    one_encoder = len({encoder for _, encoder in found if encoder}) <= 1
    models = {
        arch if one_encoder or not encoder else f"{arch} {encoder.removeprefix('tu-')}": entries
        for (arch, encoder), entries in found.items()
    }
    common = {model: entries for model, entries in models.items() if len(entries) == len(comparisons)}
    left_out = {model: tuple(entries) for model, entries in models.items() if model not in common}
    if len(common) < 2:
        each = "; ".join(f"{name}: {', '.join(one.name for one in c.candidates)}" for name, c in comparisons.items())
        raise ConfigError(
            f"the data sets have {len(common)} model in common ({each}). Train two architectures or more on each, and "
            "compare them."
        )
    return common, left_out


def _models(entries: Models, names: Sequence[str], ranks: Scores) -> tuple[BenchmarkModel, ...]:
    """Put together what is said of each model alone, best mean first."""
    models = []
    for number, ((model, scores), rank) in enumerate(zip(entries.items(), mean_ranks(ranks), strict=True)):
        by_set = {
            name: SetScore(scores[name].value, scores[name].interval, float(ranks[at, number]), scores[name].seeds)
            for at, name in enumerate(names)
        }
        mean = float(np.mean([scores[name].value for name in names]))
        models.append(BenchmarkModel(model, by_set, mean, rank.value, rank.interval))
    return tuple(sorted(models, key=lambda model: (-model.mean, model.name)))


def _pairs(entries: Models, comparisons: Mapping[str, Comparison]) -> list[BenchmarkPair]:
    """Estimate the mean difference of each pair, and decide what it shows."""
    first = next(iter(comparisons.values()))
    low, high = metric_range(first.metric)
    pairs = []
    for a, b in combinations(entries, 2):
        within = {name: _within(one, entries[a][name], entries[b][name]) for name, one in comparisons.items()}
        found = mean_difference(
            [one.delta for one in within.values() if one.delta is not None],
            [one.se for one in within.values()],
            most=high - low,
        )
        pairs.append(
            BenchmarkPair(
                a, b, found.delta, found.se, found.interval, found.p, None, "undecided", found.detectable, None, within
            )
        )
    adjusted = holm(np.array([np.nan if pair.p is None else pair.p for pair in pairs]))
    judged = []
    for pair, p in zip(pairs, adjusted.tolist(), strict=True):
        p_holm = None if np.isnan(p) else p
        word = decide(pair.interval, p_holm, delta=first.delta, n_groups=len(comparisons)).word
        judged.append(replace(pair, p_holm=p_holm, verdict=word))
    return judged


def _within(comparison: Comparison, a: ArchitectureResult, b: ArchitectureResult) -> SetDifference:
    """Return the difference of two models as a set's comparison has it: of architectures, else of their lone runs."""
    pairs: list[PairResult] = list(comparison.architecture_pairs)
    sides = {a.name: a.name, b.name: b.name}
    if len(a.runs) == len(b.runs) == 1:
        pairs += comparison.pairs
        sides |= {a.runs[0]: a.name, b.runs[0]: b.name}
    for pair in pairs:
        if pair.a in sides and pair.b in sides:
            seen = pair if sides[pair.a] == a.name else pair.flipped()
            return SetDifference(seen.delta, seen.se, seen.interval, seen.verdict, pair.text)
    assert a.value is not None  # models without a value are not compared
    assert b.value is not None
    return SetDifference(a.value - b.value, None, None, "undecided", "")


def _oriented(pairs: Sequence[BenchmarkPair], place: Mapping[str, int]) -> list[BenchmarkPair]:
    """Return the pairs with the better-placed model first, in the order of the models."""
    seen = [pair if place[pair.a] < place[pair.b] else _flipped(pair) for pair in pairs]
    return sorted(seen, key=lambda pair: (place[pair.a], place[pair.b]))


def _flipped(pair: BenchmarkPair) -> BenchmarkPair:
    def turned(one: SetDifference) -> SetDifference:
        delta = None if one.delta is None else -one.delta
        return replace(one, delta=delta, interval=negated(one.interval), verdict=OPPOSITE[one.verdict])

    return replace(
        pair,
        a=pair.b,
        b=pair.a,
        delta=None if pair.delta is None else -pair.delta,
        interval=negated(pair.interval),
        verdict=OPPOSITE[pair.verdict],
        within={name: turned(one) for name, one in pair.within.items()},
    )


def _with_nemenyi(
    pairs: Sequence[BenchmarkPair], tests: Friedman | None, order: Sequence[str]
) -> tuple[BenchmarkPair, ...]:
    if tests is None:
        return tuple(pairs)
    return tuple(
        replace(pair, nemenyi_p=float(tests.pairs[order.index(pair.a), order.index(pair.b)])) for pair in pairs
    )


def _findings(benchmark: Benchmark, comparisons: Mapping[str, Comparison]) -> tuple[Finding, ...]:
    """Say what holds across sets, what could not be shown, and what makes the sets unlike."""
    return (*describe_benchmark(benchmark), *_unlike_protocols(comparisons), *_shared_scenes(comparisons))


def describe_benchmark(benchmark: Benchmark) -> list[Finding]:
    """Say what its figures say: the headline, what could be shown, and the models that are left out."""
    found = [_headline(benchmark), *_power(benchmark), *_ranks_power(benchmark)]
    if benchmark.left_out:
        models = [f"{model} ({listing(list(sets))})" for model, sets in benchmark.left_out.items()]
        text = gettext("Not in every data set, and left out: %(models)s.", models=listing(models))
        found.append(Finding("left_out", "warning", text, {"models": benchmark.left_out}))
    return found


def _headline(benchmark: Benchmark) -> Finding:
    """Name the model with the highest mean, and those that it is shown to be better than."""
    best, n = benchmark.models[0], len(benchmark.sets)
    mine = [pair for pair in benchmark.pairs if pair.a == best.name]
    lead = gettext(
        "%(best)s has the highest mean %(metric)s over %(n)s data sets (%(value)s).",
        best=best.name,
        metric=metric_of(benchmark),
        n=str(n),
        value=score(best.mean),
    )
    texts = [lead]
    for word, names in ((w, [p.b for p in mine if p.verdict == w]) for w in ("better", "equal", "undecided")):
        if names and word == "better":
            texts.append(gettext("It is better than %(others)s across sets.", others=listing(names)))
        elif names and word == "equal":
            margin = score(benchmark.delta)
            texts.append(gettext("It is equal to %(others)s within %(margin)s.", others=listing(names), margin=margin))
        elif names:
            others = listing(names, last="or")
            texts.append(gettext("It is not shown to be better than %(others)s on other data sets.", others=others))
    return Finding("headline", "headline", " ".join(texts), {"best": best.name, "mean": best.mean, "sets": n})


def _power(benchmark: Benchmark) -> list[Finding]:
    """Say what mean difference as many sets show, and that few sets decide little."""
    n, known = len(benchmark.sets), [pair for pair in benchmark.pairs if pair.detectable is not None]
    found = []
    if known:
        first = known[0]
        text = gettext(
            "Between %(a)s and %(b)s, %(n)s data sets like these show a mean difference of %(difference)s or more in "
            "four of five repetitions.",
            a=first.a,
            b=first.b,
            n=str(n),
            difference=score(first.detectable),
        )
        found.append(Finding("power", "finding", text, {"detectable": first.detectable, "pair": [first.a, first.b]}))
    if n < FEWEST_GROUPS:
        text = gettext(
            "%(n)s data sets decide little about others: intervals over sets are wide, and nothing is called equal "
            "with fewer than %(fewest)s.",
            n=str(n),
            fewest=str(FEWEST_GROUPS),
        )
        found.append(Finding("few_sets", "warning", text, {"sets": n}))
    return found


def _ranks_power(benchmark: Benchmark) -> list[Finding]:
    """Say what Friedman's and Nemenyi's tests show, and what they could show."""
    critical, needed = benchmark.critical_difference, benchmark.sets_needed
    if critical is None or needed is None:
        return []
    most, n = len(benchmark.models) - 1, len(benchmark.sets)
    values = {
        "p": p_number(benchmark.friedman_p),
        "cd": decimal(f"{critical:.2f}"),
        "most": str(most),
        "needed": str(needed),
    }
    if critical > most:
        text = gettext(
            "Friedman's test of mean ranks has p %(p)s. Nemenyi's critical difference is %(cd)s ranks, and no two of "
            "these models can be more than %(most)s apart: with %(n)s data sets it cannot show any difference.",
            n=str(n),
            **values,
        )
    else:
        text = gettext(
            "Friedman's test of mean ranks has p %(p)s. Nemenyi's critical difference is %(cd)s of at most %(most)s "
            "ranks; models one rank apart in every set differ by it from %(needed)s sets on.",
            **values,
        )
    figures = {"p": benchmark.friedman_p, "critical_difference": critical, "sets_needed": needed}
    return [Finding("mean_ranks", "finding", text, figures)]


_OF_A_SET = frozenset({"training scenes", "split"})


def _unlike_protocols(comparisons: Mapping[str, Comparison]) -> list[Finding]:
    """Name the fields of the training protocol that differ between sets."""
    fields = {field for one in comparisons.values() for field in one.protocol} - _OF_A_SET
    unlike = {}
    for field in sorted(fields):
        values = {name: one.protocol.get(field) for name, one in comparisons.items()}
        if len({repr(value) for value in values.values()}) > 1:
            unlike[field] = values
    if not unlike:
        return []
    return [Finding("unlike_sets", "warning", unlike_text(unlike), {"fields": unlike})]


def unlike_text(fields: Mapping[str, Mapping[str, object]]) -> str:
    """Say that training differed between sets: each field's value in every set, ``None`` where its runs differ."""
    texts, unlike = [], gettext("unlike")
    for field, values in fields.items():
        shown = [f"{unlike if value is None else recorded(str(value))} ({name})" for name, value in values.items()]
        texts.append(f"{field} {listing(shown)}")
    return gettext("The data sets were not trained on alike: %(fields)s.", fields=listing(texts, most=3))


def _shared_scenes(comparisons: Mapping[str, Comparison]) -> list[Finding]:
    """Name two sets that were scored on the same labels, so that they are not two observations."""
    labels = {
        name: {scene.labels_sha256 for scene in one.scenes if sum(n > 0 for n in scene.class_pixels) > 1}
        for name, one in comparisons.items()
    }
    shared = [(a, b, len(labels[a] & labels[b])) for a, b in combinations(labels, 2) if labels[a] & labels[b]]
    return [
        Finding("shared_scenes", "warning", shared_text(a, b, n), {"sets": [a, b], "scenes": n}) for a, b, n in shared
    ]


def shared_text(a: str, b: str, n: int) -> str:
    """Say that two sets share scenes."""
    return ngettext(
        "%(a)s and %(b)s share %(n)s scene with the same labels, so they are not independent data sets.",
        "%(a)s and %(b)s share %(n)s scenes with the same labels, so they are not independent data sets.",
        n,
        a=a,
        b=b,
    )
