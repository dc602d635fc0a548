"""Runs to a comparison record: scores, intervals, verdicts and findings, computed from counts alone.

No torch and no pixels: each run's ``counts-<split>.npz`` and card are all that is read. docs/compare.md explains the
record's figures.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from levelground import __version__
from levelground.comparing.contests import verdict_blocks
from levelground.comparing.findings import find, pair_text
from levelground.comparing.guards import Evaluated, check_alike, compare_protocols, refuse_unlike
from levelground.comparing.naming import name_architectures, run_labels
from levelground.comparing.pairings import open_question
from levelground.comparing.profiles import (
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
from levelground.comparing.prose import metric_words
from levelground.comparing.setting import (
    dataset_block,
    find_dataset,
    gather,
    legend_of,
    looks_at_test,
    scene_rows,
    separated_groups,
    truth_block,
)
from levelground.comparing.tables import to_csv, to_latex, to_markdown
from levelground.errors import ConfigError
from levelground.evidence.statistics import run_intervals
from levelground.imagery.legend import Legend
from levelground.records import Record, atomic_path, plain, write_json
from levelground.runs import Run
from levelground.scores.metric_names import Metric, parse_metric
from levelground.scores.metrics import scorings


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
