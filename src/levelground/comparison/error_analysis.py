"""What the models get wrong: classes confused, never predicted or absent, and rankings that depend on the metric.

Each function takes a comparison and returns findings that describe; nothing here is a verdict.
"""

from collections.abc import Iterable, Mapping, Sequence

from levelground.comparison.record import Comparison
from levelground.comparison.results import Finding, RunResult, Severity
from levelground.comparison.text import class_word, listing, metric_words, per_cent

CONFUSION_SHARE = 0.1
"""The smallest share of a true class, given to one other class, that is worth a sentence."""


def find_errors(comparison: Comparison) -> list[Finding]:
    """All findings about classes and rankings.

    Args:
        comparison: The comparison.
    """
    return [
        *confused_most(comparison),
        *never_predicted(comparison),
        *absent_classes(comparison),
        *rank_flips(comparison),
    ]


def class_words(comparison: Comparison, indices: Iterable[int]) -> list[str]:
    """Return class names as they stand inside a sentence."""
    return [class_word(comparison.legend.classes[index].name) for index in indices]


def confused_most(comparison: Comparison) -> list[Finding]:
    """For each model the one or two true classes that it most often takes for another."""
    findings = []
    for name, runs in comparison.candidate_runs.items():
        cells = _confusions(comparison, runs)[:2]
        if not cells:
            continue
        parts = []
        for share, row, column in cells:
            true, taken = class_words(comparison, (row, column))
            parts.append(f"{per_cent(share)} of true {true} for {taken}")
        figures = {"model": name, "cells": [{"share": s, "true": i, "pred": j} for s, i, j in cells]}
        findings.append(Finding("confused_most", "finding", f"{name} takes {listing(parts)}.", figures))
    return findings


def _confusions(comparison: Comparison, runs: Sequence[RunResult]) -> list[tuple[float, int, int]]:
    """Off-diagonal shares of true counted classes, largest first: ``(share, true, pred)``."""
    classes = comparison.legend.classes
    summed = [[sum(run.counts[i][j] for run in runs) for j in range(len(classes))] for i in range(len(classes))]
    cells = [
        (value / sum(row), i, j)
        for i, row in enumerate(summed)
        for j, value in enumerate(row)
        if i != j and classes[i].counted and value
    ]
    return sorted((cell for cell in cells if cell[0] >= CONFUSION_SHARE), key=lambda cell: (-cell[0], *cell[1:]))


def never_predicted(comparison: Comparison) -> list[Finding]:
    """Classes with true pixels that a model predicts nowhere."""
    findings = []
    models = comparison.candidate_runs
    for index, entry in enumerate(comparison.legend.classes):
        if not comparison.truth.present[index]:
            continue
        names = [name for name, runs in models.items() if not any(row[index] for run in runs for row in run.counts)]
        if not names:
            continue
        who = "No model ever predicts" if len(names) == len(models) > 1 else f"{listing(names)} never predicts"
        if 1 < len(names) < len(models):
            who = f"{listing(names)} never predict"
        share = per_cent(comparison.truth.class_share[index])
        text = f"{who} {class_words(comparison, [index])[0]}, which is {share} of the true pixels."
        if not entry.counted:
            text += " It is no counted class: only the scoring “all” scores it, as 0."
        severity: Severity = "warning" if entry.counted else "finding"
        findings.append(Finding("never_predicted", severity, text, {"class": index, "models": names}))
    return findings


def absent_classes(comparison: Comparison) -> list[Finding]:
    """Counted classes without true pixels: they have no IoU."""
    classes, present = comparison.legend.classes, comparison.truth.present
    absent = [index for index, entry in enumerate(classes) if entry.counted and not present[index]]
    if not absent:
        return []
    which = listing(class_words(comparison, absent))
    if len(absent) == 1:
        rest = "This class has no IoU and enters no mean; pixels predicted as it count as misses of the true classes."
    else:
        rest = "These classes have no IoU and enter no mean; pixels predicted as them count as misses of the true ones."
    text = f"The {comparison.split} scenes have no true pixels of {which}. {rest}"
    return [Finding("absent_classes", "warning", text, {"classes": absent})]


def rank_flips(comparison: Comparison) -> list[Finding]:
    """Whether another scoring, or another metric, would rank the runs otherwise."""
    owner = {run.name: name for name, runs in comparison.candidate_runs.items() for run in runs}
    if len(set(owner.values())) < 2:
        return []
    scorings = [f"{scoring}.miou" for scoring in comparison.scorings]
    # Seeds of one architecture, or its twin, that change places say nothing about metrics.
    flips = {
        entry.metric: [(a, b) for a, b in entry.flips if a in owner and b in owner and owner[a] != owner[b]]
        for entry in comparison.metric_sensitivity
    }
    of_scorings = {metric: found for metric, found in flips.items() if metric in scorings and found}
    others = {metric: found for metric, found in flips.items() if metric not in scorings and found}
    findings = []
    if len(scorings) > 1 and not of_scorings:
        names = listing(comparison.scorings)
        findings.append(Finding("same_ranking", "finding", f"The scorings ({names}) rank the runs alike.", {}))
    if of_scorings:
        text = f"The scoring changes the ranking: {_flip_text(of_scorings, comparison)}."
        findings.append(Finding("rank_flips", "warning", text, {"flips": of_scorings}))
    if others:
        tested = metric_words(comparison.metric, comparison.scorings)
        text = f"Other metrics rank the runs otherwise: {_flip_text(others, comparison)}. Only {tested} is tested."
        findings.append(Finding("rank_flips_metrics", "finding", text, {"flips": others}))
    return findings


def _flip_text(flips: Mapping[str, Sequence[tuple[str, str]]], comparison: Comparison) -> str:
    """Flips by metric in a sentence; each is ``(before, after)`` of runs that change places."""
    parts = []
    for metric, found in flips.items():
        pairs = [f"{comparison.labels[after]} passes {comparison.labels[before]}" for before, after in found]
        parts.append(f"under {metric_words(metric, comparison.scorings)} {listing(pairs, most=2)}")
    return listing(parts, most=3)
