"""How the models got there: who learns first, who is faster, what was trained, how many steps a budget bought.

Each function takes a comparison and returns findings that describe; nothing here is a verdict.
"""

from collections.abc import Mapping

from levelground.comparison.record import Comparison
from levelground.comparison.results import Finding
from levelground.comparison.text import count_of, listing, per_cent, times, whether

SAME_SPEED = 1.05
"""Throughputs within this ratio are called equal: repeated measurements differ by as much."""

LIKE_TRAINED = 0.05
"""Trained shares of the used parameters that lie within this are called alike."""


def find_training(comparison: Comparison) -> list[Finding]:
    """All findings about learning, speed and budget.

    Args:
        comparison: The comparison.
    """
    return [
        *converges_first(comparison),
        *still_learning(comparison),
        *fastest(comparison),
        *unlike_steps(comparison),
        *unlike_trainable(comparison),
    ]


def converges_first(comparison: Comparison) -> list[Finding]:
    """Who reached 95 % of its own best validation score first, by step and, where it differs, by the clock."""
    steps = _convergence_means(comparison, "step")
    if len(steps) < 2:
        return []
    epochs, seconds = _convergence_means(comparison, "epoch"), _convergence_means(comparison, "time_s")
    order = sorted(steps, key=lambda name: (steps[name], name))
    first = [name for name in order if steps[name] == steps[order[0]]]
    places = {
        name: f"after {count_of(round(steps[name]), 'step')}"
        + (f" (epoch {epochs[name]:.1f})" if name in epochs else "")
        for name in order
    }
    if len(first) == len(order):
        both = whether(len(first) - 1, "both", "all")
        text = f"{listing(first)} {both} reach 95 % of their own best validation score {places[order[0]]}."
    else:
        lead = f"{listing(first)} {whether(len(first), 'converges', 'converge')} first"
        when = listing([f"{name} {place}" for name, place in places.items()])
        text = f"{lead}. 95 % of a model's own best validation score is reached by {when}."
    if len(seconds) == len(steps):
        soonest = min(sorted(seconds), key=lambda name: seconds[name])
        if soonest not in first:
            text += f" By the clock {soonest} is first, after {seconds[soonest]:.0f} s."
    return [Finding("converges_first", "finding", text, {"steps": steps, "epochs": epochs, "time_s": seconds})]


def _convergence_means(comparison: Comparison, key: str) -> dict[str, float]:
    """The mean over seeds of when the target was reached, for models whose runs all know it."""
    means = {}
    metrics = {run.convergence.metric for run in comparison.runs if run.convergence}
    for name, runs in comparison.candidate_runs.items():
        values = [getattr(run.convergence, key) for run in runs if run.convergence and run.convergence.points >= 3]
        if len(values) == len(runs) and all(value is not None for value in values) and len(metrics) == 1:
            means[name] = sum(values) / len(values)
    return means


def still_learning(comparison: Comparison) -> list[Finding]:
    """Models whose last validation was their best: a longer budget may change the result."""
    names = [
        name
        for name, runs in comparison.candidate_runs.items()
        if all(run.convergence and run.convergence.points >= 3 and run.convergence.best_is_last for run in runs)
    ]
    if not names:
        return []
    text = (
        f"{listing(names)} {whether(len(names), 'was', 'were')} still improving when the budget ended: "
        f"the last validation score was the best. A longer budget may change the result."
    )
    return [Finding("still_learning", "finding", text, {"models": names})]


def fastest(comparison: Comparison) -> list[Finding]:
    """Who predicts and who trains faster, by measured throughput; nothing where machines differ."""
    machines: dict[tuple[str | None, str | None, str | None, int | None], str] = {}
    for run in comparison.runs:
        if not run.adopted:
            card = run.card
            machines.setdefault((card.hardware, card.device, card.precision, card.threads), run.label)
    if len(machines) > 1:
        text = (
            f"Speeds are not compared: {listing(list(machines.values()))} ran on unlike hardware, device, precision "
            "or number of threads."
        )
        return [Finding("unlike_machines", "warning", text, {"runs": list(machines.values())})]
    findings = []
    for key, code, verb, unit in (
        ("predict_megapixels_per_s", "faster", "predicts", "megapixels"),
        ("train_images_per_s", "faster_training", "trains", "images"),
    ):
        speeds = _speeds(comparison, key)
        if len(speeds) >= 2:
            findings.append(Finding(code, "finding", _speed_text(speeds, verb, unit), {key: speeds}))
    return findings


def _speeds(comparison: Comparison, key: str) -> dict[str, float]:
    speeds = {}
    for name, runs in comparison.candidate_runs.items():
        values = [getattr(run.throughput, key) for run in runs if getattr(run.throughput, key)]
        if values:
            # Runs take unequal times for the same work, so rates meet in their harmonic mean.
            speeds[name] = len(values) / sum(1 / value for value in values)
    return speeds


def _speed_text(speeds: Mapping[str, float], verb: str, unit: str) -> str:
    order = sorted(speeds, key=lambda name: (-speeds[name], name))
    top = speeds[order[0]]
    level = [name for name in order if top / speeds[name] < SAME_SPEED]
    rest = [
        f"{times(top / speeds[name])} as many as {name} ({_rate(speeds[name])})" for name in order if name not in level
    ]
    if len(level) == 1:
        return f"{order[0]} {verb} fastest: {_rate(top)} {unit} a second, {listing(rest)}."
    tie = f"{listing(level)} {verb.removesuffix('s')} about equally fast ({_rate(top)} {unit} a second)"
    return f"{tie}, {listing(rest)}." if rest else f"{tie}."


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def unlike_trainable(comparison: Comparison) -> list[Finding]:
    """Models of which unlike shares of the used parameters were trained, as by the origin's freeze."""
    shares = {}
    for name, runs in comparison.candidate_runs.items():
        parameters = runs[0].card.parameters
        if parameters.used and parameters.trainable is not None:
            shares[name] = parameters.trainable / parameters.used
    if len(shares) < 2 or max(shares.values()) - min(shares.values()) < LIKE_TRAINED:
        return []
    parts = [f"{name} {per_cent(min(1.0, share))}" for name, share in sorted(shares.items(), key=lambda item: item[1])]
    text = (
        f"Unlike parts of the models were trained: of the parameters that it uses, {listing(parts)}. "
        "What was frozen may explain part of the difference."
    )
    return [Finding("unlike_trainable", "warning", text, {"trainable_share": shares})]


def unlike_steps(comparison: Comparison) -> list[Finding]:
    """Models that took unlike numbers of steps in the same budget, as a budget in minutes gives."""
    budgets = {run.card.budget.asked if run.card.budget else None for run in comparison.runs}
    steps = {name: runs[0].card.steps_done for name, runs in comparison.candidate_runs.items()}
    known = {name: value for name, value in steps.items() if value}
    if len(known) < 2 or len(set(known.values())) == 1 or len(budgets) != 1:
        return []
    parts = [f"{name} took {count_of(value, 'step')}" for name, value in sorted(known.items(), key=lambda i: -i[1])]
    text = f"In the same budget ({budgets.pop()}) {listing(parts)}."
    return [Finding("unlike_steps", "finding", text, {"steps": known})]
