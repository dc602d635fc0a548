"""Exports in 8-bit integers: calibrated on training scenes, scored as runs of their own, kept or rejected."""

import dataclasses
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelground.adoption.adopted_runs import TrainingName, adopted_card, find_adopted
from levelground.config import DELTA, METRIC, DeviceOptions, ExportFormat, ExportOptions
from levelground.console import say
from levelground.datasets.dataset import Dataset, read_dataset
from levelground.errors import MissingRecordError, ModelError, RejectedError
from levelground.evaluation.evaluate import (
    evaluate_run,
    hash_masks,
    record_evaluation,
    remove_evaluation,
    remove_other_masks,
    write_mask,
)
from levelground.evaluation.score_scenes import ScenePrediction, ScoringOptions, score_scenes
from levelground.exporting.export import (
    chosen_spec,
    export_folder,
    export_path,
    keep_export,
    refuse_existing,
)
from levelground.exporting.onnx import INPUT, write_onnx
from levelground.files import writing
from levelground.inference.parity import cut_tiles
from levelground.inference.sliding_window import ArrayTiles
from levelground.metrics.counts import SceneCounts, read_counts, write_counts
from levelground.metrics.named import parse_metric
from levelground.models.loading import load_model
from levelground.models.model import Model, Overrides
from levelground.models.onnx_backend import exported_spec
from levelground.models.openvino_backend import open_openvino, read_graph, save_openvino
from levelground.models.spec import ModelSpec, read_model_spec
from levelground.records import HASHES_FILE, sha256_file, sha256_json, write_hashes
from levelground.runs import AdoptionRecord, EvaluationRecord, Run, read_study, write_card
from levelground.runtime import Runtime, make_runtime, open_array_runtime
from levelground.statistics.intervals import ends, t_interval
from levelground.statistics.pairs import PairEstimate, compare_pairs
from levelground.tile_geometry import TileGeometry, choose_geometry

N_CALIBRATION = 64
"""Tiles of training scenes that ranges of activations are taken from."""

REJECTED = "rejected"
"""Folder of exports that are worse than the network, in ``RUN/export/``."""


@dataclass(frozen=True)
class Int8Verdict:
    """What an 8-bit form of a network costs."""

    metric: str
    delta: float
    difference: PairEstimate
    value: float
    """The metric of the 8-bit form."""

    @property
    def rejected(self) -> bool:
        """Whether it is worse by δ or more, or shown to be worse."""
        return not self.difference.delta > -self.delta or self.difference.verdict.word == "worse"

    def text(self) -> str:
        """Return the verdict in one sentence."""
        gap, interval = self.difference.delta, self.difference.interval
        told = "no interval" if interval is None else f"interval {interval[0]:+.4f} to {interval[1]:+.4f}"
        if self.difference.verdict.word == "equal":
            return f"int8 equals fp32 within {self.delta:g}: {self.metric} {gap:+.4f} ({told})"
        if self.rejected:
            return f"int8 is worse by {-gap:.4f} {self.metric} ({told}), more than {self.delta:g}"
        return f"int8 differs by {gap:+.4f} {self.metric} ({told}), less than {self.delta:g}; equality is not shown"


def export_int8(run: Run, to: ExportFormat, options: ExportOptions) -> Path:
    """Export a run in 8-bit integers, and score it on the test scenes as a run of its own.

    Args:
        run: A finished or adopted run in its study.
        to: ``onnx-int8`` or ``openvino-int8``.
        options: Tile, ground sample distance, and whether an older export is replaced.
    Returns:
        The file or folder. The run ``NAME-onnx-int8`` or ``NAME-openvino-int8`` beside holds its counts.
    Raises:
        RejectedError: It is worse than the network by δ or more; it lies in ``RUN/export/rejected/``.
        ModelError: A library or the study is missing, or the network cannot be exported.
        ConfigError: There is an export already, or the tile cannot work.
    """
    for library in ("nncf", "openvino"):
        if importlib.util.find_spec(library) is None:
            raise ModelError(f"--to {to}: {library} is not installed. pip install 'levelground[deploy]'")
    spec, dataset = chosen_spec(read_model_spec(run), options), _study_of(run)
    if not options.overwrite:
        refuse_existing(run, [to])
    model = dataclasses.replace(load_model(run), spec=spec)
    runtime = make_runtime(threads=options.threads)
    run = evaluate_run(run, dataset, "test", runtime=runtime)
    with export_folder(run) as folder:
        made = folder / export_path(run, to).name
        write_onnx(model, folder / "fp32.onnx")
        _quantise(folder / "fp32.onnx", made, spec, calibration_tiles(dataset, spec))
        fast = open_array_runtime(DeviceOptions("cpu", threads=options.threads), engine="openvino")
        counts, scored = _score(run, to, _open(made, fast), dataset, fast, spec.geometry)
        verdict = _compare(run, dataset, counts)
        where = run.folder / "export" / REJECTED / made.name if verdict.rejected else export_path(run, to)
        entry = _entry(verdict, counts, made, folder / "fp32.onnx", scored)
        keep_export(run, to, made, where, spec, entry)
    size = f"{entry['bytes'] / 2**20:.1f} MiB for {entry['fp32_bytes'] / 2**20:.1f}"
    line = f"{verdict.text()}; {size}, {_speed_text(counts)} on this processor"
    if verdict.rejected:
        raise RejectedError(f"{run.name}: {line}. It is kept aside as {where}; use the fp32 form, --to {to[:-5]}.")
    say("Exported %(target)s: %(text)s.", target=where, text=line)
    return where


def _study_of(run: Run) -> Dataset:
    """Read the study of a run.

    Raises:
        ModelError: There is none, or it has no training or test scenes.
    """
    try:
        dataset = read_dataset(run.study)
    except MissingRecordError as error:
        raise ModelError(
            f"{run.name}: int8 is calibrated and scored on scenes of its study, and {run.study} is none. Leave int8 "
            "away, or export the run where it was trained."
        ) from error
    if not dataset.ids("train") or not dataset.ids("test"):
        raise ModelError(f"{run.study}: int8 needs training scenes and test scenes. Leave int8 away.")
    return dataset


def calibration_tiles(dataset: Dataset, spec: ModelSpec) -> list[NDArray[np.float32]]:
    """Cut tiles of the training scenes, spread evenly, as the exported network takes them.

    Args:
        dataset: The scenes.
        spec: Tile, and type of the pixels.
    Returns:
        Up to :data:`N_CALIBRATION` arrays ``(1, C, tile, tile)``, values 0 to 1.
    """
    side = spec.geometry.tile
    tiles = ArrayTiles(Model(exported_spec(spec, side, None), lambda image: image, engine="openvino"))
    return [tiles.normalise(tile[None]) for tile in cut_tiles(dataset, dataset.ids("train"), side, N_CALIBRATION)]


def _quantise(source: Path, made: Path, spec: ModelSpec, tiles: list[NDArray[np.float32]]) -> None:
    """Write an ONNX file in 8-bit integers: as ONNX, or as a folder of OpenVINO's files."""
    import logging

    logging.getLogger("nncf").setLevel(logging.ERROR)
    import nncf

    preset = nncf.QuantizationPreset.MIXED
    if made.suffix == ".onnx":
        import onnx

        data = nncf.Dataset([{INPUT: tile} for tile in tiles])
        quantised: Any = nncf.quantize(onnx.load(str(source)), data, subset_size=len(tiles), preset=preset)
        with writing(made):
            onnx.save_model(quantised, str(made))
        return
    quantised = nncf.quantize(read_graph(source), nncf.Dataset(tiles), subset_size=len(tiles), preset=preset)
    made.mkdir()
    save_openvino(quantised, made / "model.xml", spec)
    write_hashes(made / HASHES_FILE, made.glob("model.*"))


def _open(made: Path, runtime: Runtime) -> Model:
    return open_openvino(made if made.suffix == ".onnx" else made / "model.xml", runtime, Overrides())


def _score(
    run: Run, to: ExportFormat, model: Model, dataset: Dataset, runtime: Runtime, own: TileGeometry
) -> tuple[SceneCounts, Run]:
    """Score an 8-bit form on the test scenes, and write its counts and masks as a run beside that of the network."""
    name, ids = f"{run.name}-{to}", dataset.ids("test")
    identity = sha256_json([to, run.card.identity])
    folder, _ = find_adopted(dataset, name, identity)
    geometry = choose_geometry(own)
    known_as = f"{run.known_as} ({to})" if run.card.seed is not None else None
    card = adopted_card(dataset, name, identity, TrainingName(name, known_as, run.card.seed))
    card = dataclasses.replace(
        card,
        arch=run.card.arch,
        encoder=run.card.encoder,
        parameters=run.card.parameters,
        adopted_from=AdoptionRecord(weights=f"{run.name}/export/{export_path(run, to).name}"),
    )
    scored = Run(folder, card)
    folder.mkdir(parents=True, exist_ok=True)
    remove_evaluation(scored, "test")

    def keep(scene: str, found: ScenePrediction) -> None:
        write_mask(scored.preds_folder("test") / f"{scene}.png", found.preds, dataset.legend)

    counts = score_scenes(model, dataset, ids, geometry, runtime, ScoringOptions(details=True, keep=keep))
    remove_other_masks(scored.preds_folder("test"), ids)
    hash_masks(scored.preds_folder("test"))
    write_counts(scored.counts_path("test"), counts)
    digest = sha256_file(scored.counts_path("test"))
    entry = EvaluationRecord(
        identity=sha256_json([identity, model.digest, dataset.digest(("test",)), geometry.tile]),
        counts_sha256=digest,
        tile=geometry.tile,
        halo=geometry.halo,
        batch=geometry.batch,
        precision="int8",
        device=runtime.device_kind,
        engine=model.engine,
        hardware=runtime.describe()["hardware"],
        threads=runtime.threads,
        megapixels_per_s=counts.megapixels_per_s,
        loss=counts.loss,
    )
    return counts, record_evaluation(write_card(folder, card), dataset, "test", entry)


def _compare(run: Run, dataset: Dataset, counts: SceneCounts) -> Int8Verdict:
    """Compare an 8-bit form with the network by the metric and δ that the study named."""
    name, delta = METRIC, DELTA
    try:
        asked = read_study(dataset.folder).options
        name, delta = asked.metric, asked.delta
    except MissingRecordError:  # a data set with single runs asks the default question
        pass
    own, legend = read_counts(run.counts_path("test")), dataset.legend
    metric = parse_metric(name, legend.names, legend.counted)
    both = [one.boundary if metric.view == "boundary" else one.counts for one in (counts, own)]
    (pair,) = compare_pairs(np.stack(both), own.groups, metric, legend.counted, delta=delta)
    value = float(metric.score(metric.sums(both[0].sum(axis=0), legend.counted)))
    return Int8Verdict(metric.name, delta, pair, value)


def _entry(verdict: Int8Verdict, counts: SceneCounts, made: Path, source: Path, scored: Run) -> dict[str, Any]:
    """Return what the report says of an 8-bit form."""
    files = [made] if made.is_file() else list(made.glob("model.*"))
    pair = verdict.difference
    return {
        "run": scored.name,
        "verdict": "rejected" if verdict.rejected else "kept",
        "holds": not verdict.rejected,
        "text": verdict.text(),
        "metric": verdict.metric,
        "value": verdict.value,
        "difference": pair.delta,
        "interval": pair.interval,
        "word": pair.verdict.word,
        "delta": verdict.delta,
        "bytes": sum(file.stat().st_size for file in files),
        "fp32_bytes": source.stat().st_size,
        "megapixels_per_s": _speed(counts)[0],
        "megapixels_per_s_interval": _speed(counts)[1],
    }


def _speed(counts: SceneCounts) -> tuple[float, tuple[float, float] | None]:
    """Return megapixels a second with the 95 % interval of the mean over scenes; ``None`` with one scene."""
    rates = counts.megapixels / np.maximum(counts.forward_s, 1e-9)
    mean = counts.megapixels_per_s
    if len(rates) < 2:
        return mean, None
    se = np.std(rates, ddof=1) / math.sqrt(len(rates))
    return mean, ends(t_interval(np.array(mean), np.array(se), len(rates) - 1))


def _speed_text(counts: SceneCounts) -> str:
    mean, interval = _speed(counts)
    return f"{mean:.2f} megapixels/s" + ("" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})")
