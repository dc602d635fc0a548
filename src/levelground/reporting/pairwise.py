"""Verdicts of the report: the matrix of all pairs, and their differences with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from levelground.comparison.benchmark_record import Benchmark
from levelground.comparison.results import PairResult
from levelground.comparison.tables import delta_shares
from levelground.comparison.text import between, p_number, signed, verdict_word, whole_per_cent
from levelground.metrics.named import metric_range
from levelground.reporting.svg_charts import axis_strip, interval_strip, scale_over
from levelground.statistics.pairs import VerdictWord
from levelground.wording import gettext

SIGNS: dict[VerdictWord, str] = {"better": "▲", "worse": "▼", "equal": "=", "undecided": "?"}
"""A sign beside each verdict's word."""

OPEN_PAIRS = 15
"""Rows of a table of pairs that are not folded away."""


@dataclass(frozen=True)
class VerdictCell:
    """A cell of the verdict matrix; ``text`` is the verdict as a sentence."""

    verdict: VerdictWord
    sign: str
    delta: str
    text: str


@dataclass(frozen=True)
class PairRow:
    """A pair's difference; the verdict is about the first name, ``shares`` lie above δ, within ±δ and below −δ."""

    names: tuple[str, str]
    value: str
    interval: str
    p: str
    verdict: VerdictWord
    sign: str
    control: bool
    strip: Markup
    shares: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class PairForest:
    """A forest plot of differences; ``more`` are the rows that are folded away."""

    rows: tuple[PairRow, ...]
    more: tuple[PairRow, ...]
    axis: Markup


def oriented_pairs(pairs: Sequence[PairResult], names: Sequence[str]) -> list[PairResult]:
    """Return the pairs with the better-ranked one first, in the order of the ranking.

    Args:
        pairs: Pairs of runs or of architectures.
        names: Runs or architectures, best first.
    """
    place = {name: number for number, name in enumerate(names)}
    oriented = [pair if place[pair.a] <= place[pair.b] else pair.flipped() for pair in pairs]
    return sorted(oriented, key=lambda pair: (place[pair.a], place[pair.b]))


def verdict_matrix(pairs: Sequence[PairResult], names: Sequence[str]) -> list[list[VerdictCell | None]]:
    """Return all pairs as a square, row compared with column; ``None`` where there is no pair."""
    cells = {
        (seen.a, seen.b): VerdictCell(seen.verdict, SIGNS[seen.verdict], signed(seen.delta), seen.text)
        for pair in pairs
        for seen in (pair, pair.flipped())
    }
    return [[cells.get((row, column)) for column in names] for row in names]


def pair_forest(pairs: Sequence[PairResult], labels: Mapping[str, str], delta: float) -> PairForest | None:
    """Draw each pair's difference with its interval, zero and ±δ; ``None`` without pairs.

    Args:
        pairs: Pairs from :func:`oriented_pairs`.
        labels: Labels of the names that have another one.
        delta: The equivalence margin δ.
    """
    if not pairs:
        return None
    held = [end for pair in pairs for end in (pair.delta, *(pair.interval or ())) if end is not None]
    lowest, highest = metric_range(pairs[0].metric)
    scale = scale_over([*held, -delta, delta], within=(lowest - highest, highest - lowest))
    ticks = scale.ticks(4)
    rows = []
    for pair in pairs:
        names, value, interval = pair_labels(pair, labels), signed(pair.delta), between(pair.interval, sign=True)
        text = gettext(
            "%(a)s − %(b)s: %(value)s, 95 %% interval %(interval)s, %(verdict)s",
            a=names[0],
            b=names[1],
            value=value,
            interval=interval,
            verdict=verdict_word(pair.verdict),
        )
        rows.append(
            PairRow(
                names=names,
                value=value,
                interval=interval,
                p=p_number(pair.p_holm),
                shares=_shares(pair, delta),
                verdict=pair.verdict,
                sign=SIGNS[pair.verdict],
                control=pair.negative_control,
                strip=interval_strip(scale, pair.delta, pair.interval, ticks=ticks, text=text, zone=(-delta, delta)),
            )
        )
    return PairForest(tuple(rows[:OPEN_PAIRS]), tuple(rows[OPEN_PAIRS:]), axis_strip(scale, ticks))


def benchmark_forest(benchmark: Benchmark) -> PairForest:
    """Draw the mean differences over sets with their intervals."""
    delta = benchmark.delta
    held = [end for pair in benchmark.pairs for end in (pair.delta, *(pair.interval or ())) if end is not None]
    scale = scale_over([*held, -delta, delta], within=(-1, 1))
    ticks, rows = scale.ticks(4), []
    for pair in benchmark.pairs:
        value, interval = signed(pair.delta), between(pair.interval, sign=True)
        text = gettext(
            "%(a)s − %(b)s: %(value)s, 95 %% interval %(interval)s over sets, %(verdict)s",
            a=pair.a,
            b=pair.b,
            value=value,
            interval=interval,
            verdict=verdict_word(pair.verdict),
        )
        strip = interval_strip(scale, pair.delta, pair.interval, ticks=ticks, text=text, zone=(-delta, delta))
        sign, p = SIGNS[pair.verdict], p_number(pair.p_holm)
        rows.append(PairRow((pair.a, pair.b), value, interval, p, pair.verdict, sign, False, strip))
    return PairForest(tuple(rows[:OPEN_PAIRS]), tuple(rows[OPEN_PAIRS:]), axis_strip(scale, ticks))


def _shares(pair: PairResult, delta: float) -> tuple[str, str, str] | None:
    """Return the shares of the difference's t distribution above δ, within ±δ and below −δ, in per cent."""
    shares = delta_shares(pair, delta)
    if shares is None:
        return None
    above, within, below = map(whole_per_cent, shares)
    return above, within, below


def pair_labels(pair: PairResult, labels: Mapping[str, str]) -> tuple[str, str]:
    """Return the labels of both sides of a pair; a name without a label stands for itself."""
    return labels.get(pair.a, pair.a), labels.get(pair.b, pair.b)
