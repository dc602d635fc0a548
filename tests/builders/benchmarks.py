"""Benchmarks whose findings together use every message of a benchmark."""

from collections.abc import Iterator

from levelground.comparison.benchmark import describe_benchmark, shared_text, unlike_text
from levelground.comparison.benchmark_record import Benchmark, BenchmarkModel, BenchmarkPair, BenchmarkSet
from levelground.statistics.pairs import VerdictWord


def build_benchmark(*words: VerdictWord, critical: float | None = 1.9) -> Benchmark:
    """A benchmark of three sets; the verdicts on the first model against each other one are given."""
    names = ["fpn", *(f"other{number}" for number in range(len(words)))]
    pairs = tuple(
        BenchmarkPair("fpn", name, 0.04, 0.01, (0.01, 0.07), 0.02, 0.02, word, 0.06, None, {})
        for name, word in zip(names[1:], words, strict=True)
    )
    return Benchmark(
        version="1",
        created="",
        metric="official.miou",
        delta=0.01,
        sets=tuple(BenchmarkSet(name, name, 4, 3, ("Water",)) for name in ("north", "south", "coast")),
        models=tuple(BenchmarkModel(name, {}, 0.6, 1.0, None) for name in names),
        left_out={"pan": ("north", "coast")},
        pairs=pairs,
        friedman_statistic=4.0,
        friedman_p=0.13,
        critical_difference=critical,
        sets_needed=11,
        findings=(),
    )


def benchmark_sentences() -> Iterator[str]:
    """Each finding with its code and severity."""
    for one in (build_benchmark("better", "equal", "undecided"), build_benchmark("better", critical=1.1)):
        for finding in describe_benchmark(one):
            yield f"{finding.code}: {finding.severity}\n{finding.text}\n"
    yield f"shared_scenes: warning\n{shared_text('north', 'south', 1)}\n"
    yield f"shared_scenes: warning\n{shared_text('north', 'south', 7)}\n"
    yield f"unlike_sets: warning\n{unlike_text({'budget': {'north': '2 minutes', 'south': '3 minutes'}})}\n"
