"""Runs to a comparison record: scores, intervals, verdicts and findings, computed from counts alone.

No torch and no pixels: each run's ``counts-<split>.npz`` and card are all that is read. docs/compare.md explains the
record's figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from levelground import __version__
from levelground.comparison.compatibility import Evaluated, check_alike, compare_protocols, refuse_unlike
from levelground.comparison.findings import find, pair_text
from levelground.comparison.inputs import (
    dataset_block,
    find_dataset,
    gather,
    legend_of,
    looks_at_test,
    name_architectures,
    run_labels,
    scene_rows,
    separated_groups,
    truth_block,
)
from levelground.comparison.pairs import architecture_pairs, architecture_rows, groups_for_p, open_question, run_pairs
from levelground.comparison.run_summaries import (
    boundary_blocks,
    calibration_block,
    has_boundaries,
    learning,
    mean_loss,
    metric_counts,
    multiverse_rows,
    pareto_front,
    scene_scores,
    score_blocks,
    throughput,
)
from levelground.comparison.tables import to_csv, to_latex, to_markdown
from levelground.comparison.text import metric_words
from levelground.errors import ConfigError
from levelground.imagery.legend import Legend
from levelground.metrics.named import Metric, parse_metric
from levelground.metrics.scores import scorings
from levelground.records import Record, atomic_path, plain, write_json
from levelground.runs import Run
from levelground.statistics.pairs import run_intervals


@dataclass(frozen=True)
class Contest:
    """Runs that are held against each other, and the architecture of each."""

    runs: tuple[Evaluated, ...]
    archs: tuple[str, ...]
    control: bool

    def crosses(self, pair: Record) -> bool:
        """Whether a pair of runs is of two architectures."""
        arch_of = {item.name: name for item, name in zip(self.runs, self.archs, strict=True)}
        return arch_of[pair["a"]] != arch_of[pair["b"]]


def verdict_blocks(
    evaluated: Sequence[Evaluated],
    archs: Sequence[str],
    twin_of: Mapping[str, str],
    legend: Legend,
    metric: Metric,
    *,
    delta: float,
) -> Record:
    """Pairs of runs, architectures and their pairs.

    Args:
        evaluated: The runs.
        archs: The architecture of each run.
        twin_of: For each twin its original.
        legend: The classes.
        metric: The primary metric.
        delta: The difference that counts as none, δ.
    Returns:
        ``pairs``, ``architectures`` and ``architecture_pairs``; a pair of a twin and its original is marked
        ``control``. ``groups_for_p`` is the fewest groups with which the pairs asked about can reach p ≤ .05.
    """
    pairs: list[Record] = []
    architectures: list[Record] = []
    between: list[Record] = []
    for contest in _contests(evaluated, archs, twin_of):
        found = run_pairs(contest.runs, legend.counted, metric, delta=delta)
        pairs += [_marked(pair, contest) for pair in found if not contest.control or contest.crosses(pair)]
        found = architecture_pairs(contest.runs, contest.archs, legend.counted, metric, delta=delta)
        between += [_marked(pair, contest) for pair in found]
        architectures += _architectures(contest, twin_of, legend, metric)
    asked = sum(not pair["control"] for pair in pairs)
    return {
        "pairs": pairs,
        "groups_for_p": groups_for_p(max(1, asked)),
        "architectures": architectures,
        "architecture_pairs": between,
    }


def _contests(evaluated: Sequence[Evaluated], archs: Sequence[str], twin_of: Mapping[str, str]) -> list[Contest]:
    """All runs but twins; then each twin and its original."""
    asked = tuple(arch for arch in archs if arch not in twin_of)
    return [_contest(evaluated, archs, asked, False)] + [
        _contest(evaluated, archs, pair, True) for pair in twin_of.items()
    ]


def _contest(evaluated: Sequence[Evaluated], archs: Sequence[str], members: Sequence[str], control: bool) -> Contest:
    numbers = [number for number, arch in enumerate(archs) if arch in members]
    return Contest(tuple(evaluated[i] for i in numbers), tuple(archs[i] for i in numbers), control)


def _marked(pair: Record, contest: Contest) -> Record:
    return pair | {"control": contest.control}


def _architectures(contest: Contest, twin_of: Mapping[str, str], legend: Legend, metric: Metric) -> list[Record]:
    """The contest's architectures; of a control only the twin, which has no rank."""
    scoring = metric.view if metric.view != "boundary" else "official"
    shown = parse_metric(f"{scoring}.miou", legend.names, legend.counted)
    rows = architecture_rows(contest.runs, contest.archs, legend.counted, metric, shown)
    if not contest.control:
        return [row | {"twin_of": None} for row in rows]
    return [row | {"twin_of": twin_of[row["name"]], "ranked_first": None} for row in rows if row["name"] in twin_of]


def compare_runs(
    runs: Sequence[Run],
    *,
    split: str = "test",
    metric: str = "official.miou",
    delta: float = 0.01,
    allow_unlike: bool = False,
) -> Record:
    """Compare runs that were evaluated on the same scenes.

    Args:
        runs: One run or more.
        split: The split whose counts are compared.
        metric: The primary metric, named in advance: verdicts are about it, everything else describes.
        delta: Differences below this do not matter, δ.
        allow_unlike: Compare runs of unlike training protocol or tile geometry, and name what differs.
    Returns:
        The comparison record, as ``comparison.json`` holds it.
    Raises:
        UnlikeError: Labels, legend, test scenes or groups differ; or the protocol does and was not allowed to.
        RecordError: A run was not evaluated on the split, or a record is damaged.
        ConfigError: No such metric, or a δ that is no difference.
    """
    if not 0 <= delta < 1:
        raise ConfigError(f"delta is {delta}, expected a difference of scores from 0 to below 1. Give --delta 0.01.")
    evaluated = gather(runs, split)
    check_alike(evaluated)
    protocol, unlike = compare_protocols(evaluated)
    refuse_unlike(unlike, allow_unlike=allow_unlike)
    legend = legend_of(evaluated)
    primary = parse_metric(metric, legend.names, legend.counted)
    if primary.view == "boundary" and not has_boundaries(evaluated):
        raise ConfigError(f"metric {metric!r}: not all runs hold boundary counts at one distance. Evaluate them again.")
    archs, twin_of = name_architectures(evaluated, unlike)
    record = _setting(evaluated, legend, split) | {"metric": primary.name, "delta": delta}
    record |= {"protocol": protocol, "unlike": unlike}
    record["runs"] = _runs(evaluated, run_labels(evaluated, archs), legend, primary)
    record |= verdict_blocks(evaluated, archs, twin_of, legend, primary, delta=delta)
    record["multiverse"] = multiverse_rows(evaluated, legend.counted, legend.names, primary)
    return _finished(record)


def _setting(evaluated: Sequence[Evaluated], legend: Legend, split: str) -> Record:
    """What was scored: data set, scenes, truth."""
    dataset, counts = find_dataset(evaluated), evaluated[0].counts
    n_groups = len(set(counts.groups.tolist()))
    return {
        "schema": 1,
        "kind": "comparison",
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "split": split,
        "scorings": scorings(legend.counted),
        "legend": legend.to_json(),
        "legend_sha256": counts.legend_sha256,
        "split_sha256": counts.split_sha256,
        "split_rule": dataset["split_rule"] if dataset else None,
        "dataset": dataset_block(dataset, evaluated, split),
        "scenes": scene_rows(dataset, counts),
        "n_groups": n_groups,
        "truth": truth_block(counts),
        "separated": separated_groups(dataset, split),
        "test_looks": looks_at_test(evaluated),
    }


def _runs(evaluated: Sequence[Evaluated], labels: Sequence[str], legend: Legend, primary: Metric) -> list[Record]:
    """What is said of each run alone."""
    counted, names = legend.counted, legend.names
    estimates = run_intervals(metric_counts(evaluated, primary), evaluated[0].counts.groups, primary, counted)
    blocks = zip(
        evaluated,
        labels,
        estimates,
        score_blocks(evaluated, counted, names),
        boundary_blocks(evaluated, counted, names),
        strict=True,
    )
    return [
        {
            "name": item.name,
            "arch": item.run.arch,
            "encoder": item.run.encoder,
            "seed": item.run.seed,
            "label": label,
            "card": item.run.card,
            "adopted": item.run.adopted,
            "value": estimate.value,
            "interval": estimate.interval,
            "scores": scores,
            "boundary_iou": boundary,
            "calibration": calibration_block(item.counts),
            "loss": mean_loss(item.counts),
            "counts": item.counts.counts.sum(axis=0),
            "scene_miou": scene_scores(item.counts, counted, "official"),
            "learning": learning(item.run),
            "throughput": throughput(item.run, item.counts),
        }
        for item, label, estimate, scores, boundary in blocks
    ]


def _finished(record: Record) -> Record:
    """The record as JSON holds it, with its sentences."""
    done: Record = plain(record)
    words = metric_words(done["metric"], done["scorings"])
    labels = {run["name"]: run["label"] for run in done["runs"]}
    for pair in done["pairs"]:
        pair["text"] = pair_text(pair, labels, words, done["delta"])
    own = {entry["name"]: entry["name"] for entry in done["architectures"]}
    for pair in done["architecture_pairs"]:
        pair["text"] = pair_text(pair, own, words, done["delta"])
    done["pareto"] = pareto_front(done["runs"])
    done["power"] = open_question(done)
    done["findings"] = [finding.to_json() for finding in find(done)]
    return done


def write_comparison(record: Record, folder: Path) -> None:
    """Write ``comparison.csv``, ``.md``, ``.tex`` and, last, ``.json``, each atomically.

    Args:
        record: What :func:`compare_runs` gave.
        folder: Where to; made where it is missing.
    Raises:
        DiskError: A file cannot be written.
    """
    for suffix, text in (("csv", to_csv(record)), ("md", to_markdown(record)), ("tex", to_latex(record))):
        with atomic_path(folder / f"comparison.{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    content = {key: value for key, value in record.items() if key not in ("schema", "kind")}
    write_json(folder / "comparison.json", content, kind="comparison")
