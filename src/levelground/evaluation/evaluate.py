"""Evaluation of a run: its model over the scenes of a split -> ``counts-<split>.npz`` and predicted masks.

An evaluation with the same weights, scenes and tile geometry is not done again. Each evaluation on the test scenes
leaves one line in the study's log, because models that are chosen by their test scores score too well.
"""

import dataclasses
import json
import statistics
from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from PIL import Image

from levelground.config import TileOptions
from levelground.console import progress_bar, say, say_counted
from levelground.datasets.dataset import DATASET_FILE, Dataset
from levelground.datasets.splits import SplitName
from levelground.errors import ModelError, RecordError, UnlikeError, WeightsError, first_line
from levelground.evaluation.score_scenes import BOUNDARY_PX, ScenePrediction, ScoringOptions, score_scenes
from levelground.files import append_text, command_line, copy_or_link, in_turn
from levelground.imagery.legend import LabelMap, Legend
from levelground.inference.parity import proof_tiles, proved
from levelground.metrics.counts import SceneCounts, join_counts, read_counts, write_counts
from levelground.metrics.scores import miou
from levelground.models.loading import choose_engine, open_model, open_run
from levelground.models.model import Engine, Model
from levelground.models.spec import choose_run_geometry, model_file, read_model_spec
from levelground.reading import read_text, seal
from levelground.records import HASHES_FILE, atomic_path, read_hashes, sha256_file, sha256_json, write_hashes
from levelground.runs import (
    EVALUATION_LOG,
    RUN_FILE,
    EvaluationRecord,
    Run,
    RunCard,
    SelectionRecord,
    SpeedRecord,
    read_run,
    runs_folder,
    write_card,
)
from levelground.runtime import Runtime
from levelground.tile_geometry import OWN_TILES, TileGeometry
from levelground.wording import decimal, gettext

COUNTING, BF16_COUNTING = 1, 2
"""The version of evaluation, in float32 and in bfloat16: raised when the same weights and scenes give other counts, so
that old ones are redone."""


def evaluate_run(
    run: Run,
    dataset: Dataset,
    split: SplitName,
    *,
    runtime: Runtime,
    tiles: TileOptions = OWN_TILES,
) -> Run:
    """Count true and predicted classes in each scene of a split, unless that is done already.

    Args:
        run: A finished or adopted run.
        dataset: The scenes; its folder is the study's.
        split: ``val`` or ``test``.
        runtime: Device and precision.
        tiles: Tile geometry and engine that are asked for; by default the run's own tiles, and torch.
    Returns:
        The run, with the evaluation's settings and speed on its card; counts and predicted masks lie in its folder.
    Raises:
        UnlikeError: The run learnt another legend, or from other scenes than those split off for training.
        ModelError: The run has no model, or not for these bands.
        SceneError: A scene's labels are not those that the data set records.
        DiskError: Nothing can be written.
    """
    geometry = choose_run_geometry(run, tiles, runtime.device_kind, shape=_largest_scene(dataset, split))
    check_evaluable(run, dataset, split)
    engine = choose_engine(run.folder, tiles.engine, tiles, runtime.device_kind)
    identity = partial(evaluation_identity, run, dataset, split, geometry, runtime.precision)
    model: Model | None = None
    if engine != "torch" and not is_evaluated(run, split, identity(engine)):
        model = _open_in(engine, run, dataset, split, geometry, runtime)
        engine = engine if model.engine == engine else "torch"
    path, made = run.counts_path(split), identity(engine)
    if is_evaluated(run, split, made):
        if split == "test":
            log_test_evaluation(run, dataset)
        say("%(name)s: %(split)s is evaluated already; reused.", name=run.name, split=split)
        return run
    _warn_of_newer_labels(dataset, split)
    run = remove_evaluation(run, split)
    counts, dice = _count(model or open_run(run, runtime), run, dataset, split, geometry, runtime)
    write_counts(path, counts)
    entry = EvaluationRecord(
        identity=made,
        counts_sha256=sha256_file(path),
        tile=geometry.tile,
        halo=geometry.halo,
        batch=geometry.batch,
        precision=runtime.precision,
        device=runtime.device_kind,
        engine=None if engine == "torch" else engine,
        hardware=runtime.describe()["hardware"],
        threads=runtime.threads,
        megapixels_per_s=counts.megapixels_per_s,
        loss=counts.loss,
        dice_loss=dice,
    )
    run = record_evaluation(run, dataset, split, entry)
    _say_score(run.name, split, counts, dataset)
    return run


def _say_score(name: str, split: SplitName, found: SceneCounts, dataset: Dataset) -> None:
    score = float(miou(found.counts.sum(axis=0), dataset.legend.counted, "official"))
    say_counted(
        "%(name)s: %(split)s mIoU %(score)s over %(n)s scene, %(speed)s megapixels/s.",
        "%(name)s: %(split)s mIoU %(score)s over %(n)s scenes, %(speed)s megapixels/s.",
        len(found.scenes),
        name=name,
        split=split,
        score=decimal(f"{score:.4f}"),
        speed=decimal(f"{found.megapixels_per_s:.1f}"),
    )


def join_folds(runs: Sequence[Run], dataset: Dataset) -> Run:
    """Join the test counts of the runs of all folds, scene by scene, into one run of the study.

    Args:
        runs: The run of each fold, in order, evaluated on its test scenes.
        dataset: The data set that is in these folds; its folder is the study's.
    Returns:
        The joined run, ``runs/NAME``: counts and masks of every scene, each by the model that did not learn from it.
    Raises:
        RecordError: The counts of a fold are missing, damaged or of other scenes.
        DiskError: Nothing can be written.
    """
    counts = join_counts([read_counts(run.counts_path("test")) for run in runs], split_sha256=dataset.split_sha256)
    identity = sha256_json([dataset.split_sha256, [run.card.identity for run in runs]])
    folder = _joined_folder(runs_folder(dataset.folder), runs[0].name, identity)
    entries = [run.card.evaluations["test"] for run in runs]
    evaluation = sha256_json([identity, [entry.counts_sha256 for entry in entries]])
    if (folder / RUN_FILE).exists() and is_evaluated(read_run(folder), "test", evaluation):
        run = read_run(folder)
        log_test_evaluation(run, dataset)
        return run
    joined = Run(folder, _joined_card(runs, dataset, folder.name, identity))
    for run in runs:
        for mask in sorted(run.preds_folder("test").rglob("*.png")):
            copy_or_link(mask, joined.preds_folder("test") / mask.relative_to(run.preds_folder("test")))
    remove_other_masks(joined.preds_folder("test"), counts.scenes.tolist())
    hash_masks(joined.preds_folder("test"))
    write_counts(joined.counts_path("test"), counts)
    entry = dataclasses.replace(
        entries[0],
        identity=evaluation,
        counts_sha256=sha256_file(joined.counts_path("test")),
        megapixels_per_s=counts.megapixels_per_s,
        loss=counts.loss,
        dice_loss=None,
    )
    return record_evaluation(joined, dataset, "test", entry)


def _joined_folder(folder: Path, name: str, identity: str) -> Path:
    """Return the folder of a joined run; one of another identity is left alone, as in training."""
    for candidate in (name, f"{name}-{identity[:8]}"):
        path = folder / candidate
        if not (path / RUN_FILE).exists() or read_run(path).card.identity == identity:
            return path
    raise RecordError(f"{folder / name}: holds another run. Remove it or choose another --out.")


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _joined_card(runs: Sequence[Run], dataset: Dataset, name: str, identity: str) -> RunCard:
    """Make the card of a joined run: what its folds have in common, and means of what they took."""
    cards = [run.card for run in runs]
    steps, images = (_mean(getattr(card, name) for card in cards) for name in ("steps_done", "images_seen"))
    return dataclasses.replace(
        cards[0],
        name=name,
        status="joined",
        outputs=(),
        identity=identity,
        train_sha256=sha256_json([card.train_sha256 for card in cards]),
        split_sha256=dataset.split_sha256,
        weights_sha256=None,
        selection=SelectionRecord(rule=cards[0].selection.rule),
        speed=SpeedRecord(train_images_per_s=_mean(card.speed.train_images_per_s for card in cards)),
        evaluations={},
        folds=tuple(run.folder.resolve().relative_to(dataset.folder.resolve()).as_posix() for run in runs),
        steps_done=None if steps is None else round(steps),
        images_seen=None if images is None else round(images),
        megapixels_seen=_mean(card.megapixels_seen for card in cards),
        train_s=_mean(card.train_s for card in cards),
        wall_s=_mean(card.wall_s for card in cards),
    )


def check_evaluable(run: Run, dataset: Dataset, split: SplitName) -> None:
    """Refuse a run that must not or cannot be evaluated on these scenes.

    Args:
        run: The run.
        dataset: The scenes.
        split: The split to evaluate it on.
    Raises:
        UnlikeError: The run learnt another legend, or from other scenes than those split off for training.
        ModelError: The run holds masks only, or reads another number of bands.
    """
    card = run.card
    if card.folds:
        read_model_spec(run)  # refuses it: it has no model of its own
    if card.legend_sha256 != dataset.legend.digest():
        raise UnlikeError(
            f"{run.name}: learnt another legend than {dataset.legend.name!r} of {dataset.folder}. "
            "Evaluate it on the data it was trained on, or train it anew."
        )
    if card.train_sha256 not in (None, dataset.train_sha256):
        raise UnlikeError(
            f"{run.name}: learnt from other scenes or labels than the training and validation scenes of "
            f"{dataset.folder}; they may be among the {split} scenes. Train it anew on this data set."
        )
    if not card.outputs:
        raise ModelError(
            f"{run.name}: holds predicted masks and no model. Count them anew with levelground adopt --predictions."
        )
    if card.in_channels != dataset.bands:
        raise ModelError(
            f"{run.name}: reads {card.in_channels} bands, the scenes have {dataset.bands}. "
            "Evaluate it on imagery with the same bands."
        )


def _largest_scene(dataset: Dataset, split: SplitName) -> tuple[int, int] | None:
    """Return rows and columns of the largest scene, which the tile may be fitted to for all of them."""
    shapes = [(scene.height, scene.width) for scene in map(dataset.scene, dataset.ids(split))]
    return max(shapes, key=lambda shape: shape[0] * shape[1], default=None)


def _open_in(
    engine: Engine, run: Run, dataset: Dataset, split: SplitName, geometry: TileGeometry, runtime: Runtime
) -> Model:
    """Open a run's model in another engine than torch, or in torch where the first scene's tiles come out otherwise."""
    scene = dataset.open(dataset.ids(split)[0])
    model = open_model(run.folder, runtime, engine=engine, tiles=TileOptions(geometry.tile))
    return proved(model, lambda: proof_tiles(scene.pixels, geometry), runtime)


def evaluation_identity(
    run: Run, dataset: Dataset, split: SplitName, geometry: TileGeometry, precision: str, engine: Engine = "torch"
) -> str:
    """Hash everything that decides an evaluation's counts: weights, scenes, labels, geometry, precision, engine.

    Raises:
        WeightsError: The run has no weights.
    """
    weights = model_file(run)
    if not weights.exists():
        raise WeightsError(f"{weights}: no weights. Train the run to its end first.")
    return sha256_json(
        counting_inputs(dataset, split)
        | {
            "weights": sha256_file(weights),
            "model": [run.arch, run.encoder, run.card.outputs, run.card.mean, run.card.std],
            "tile": geometry.tile,
            "halo": geometry.halo,
            "precision": precision,
        }
        | ({"version": BF16_COUNTING} if precision == "bf16" else {})
        | ({"engine": engine} if engine != "torch" else {})
    )


def counting_inputs(dataset: Dataset, split: SplitName) -> dict[str, object]:
    """Return what decides counts beside the predictions: scenes, legend, groups, split, and the way of counting."""
    return {
        "version": COUNTING,
        "scenes": dataset.digest((split,)),
        "groups": [dataset.scene(name).group for name in dataset.ids(split)],
        "split": dataset.split_sha256,
        "boundary_px": BOUNDARY_PX,
    }


def _count(
    model: Model, run: Run, dataset: Dataset, split: SplitName, geometry: TileGeometry, runtime: Runtime
) -> tuple[SceneCounts, float | None]:
    """Score the scenes and write their masks; also the mean Dice loss where it may be what was trained by."""
    ids = dataset.ids(split)
    by_dice = run.adopted if run.card.recipe is None else run.card.recipe.loss == "smp-dice"
    losses: dict[str, float] = {}

    def keep(name: str, found: ScenePrediction) -> None:
        write_mask(run.preds_folder(split) / f"{name}.png", found.preds, dataset.legend)
        losses[name] = found.smp_dice or 0.0

    with progress_bar(gettext("evaluate %(name)s on %(split)s", name=run.name, split=split), len(ids)) as bar:
        options = ScoringOptions(details=True, smp_dice=by_dice, keep=keep, progress=bar)
        counts = score_scenes(model, dataset, ids, geometry, runtime, options)
    remove_other_masks(run.preds_folder(split), losses)
    hash_masks(run.preds_folder(split))
    return counts, statistics.fmean(losses[name] for name in ids) if by_dice else None


def _warn_of_newer_labels(dataset: Dataset, split: SplitName) -> None:
    """Warn of a label file that changed after the data were prepared: evaluation uses the prepared labels."""
    prepared = (dataset.folder / DATASET_FILE).stat().st_mtime
    for name in dataset.ids(split):
        path = dataset.data / dataset.scene(name).labels
        if path.exists() and path.stat().st_mtime > prepared:
            say(
                "Warning: %(path)s is newer than %(dataset_file)s. Run levelground prepare again to count against it.",
                path=path,
                dataset_file=DATASET_FILE,
            )
            return


def is_evaluated(run: Run, split: SplitName, identity: str) -> bool:
    """Tell whether the counts on disk are whole and come from exactly this evaluation, masks included."""
    entry, path = run.card.evaluations.get(split), run.counts_path(split)
    return (
        entry is not None
        and entry.identity == identity
        and path.exists()
        and masks_are_sound(run.preds_folder(split))
        and sha256_file(path) == entry.counts_sha256
    )


def remove_evaluation(run: Run, split: SplitName) -> Run:
    """Remove an older evaluation, so that it is not taken for a new one that is interrupted."""
    run.counts_path(split).unlink(missing_ok=True)
    (run.preds_folder(split) / HASHES_FILE).unlink(missing_ok=True)
    if split not in run.card.evaluations:
        return run
    others = {name: entry for name, entry in run.card.evaluations.items() if name != split}
    return write_card(run.folder, dataclasses.replace(run.card, evaluations=others))


def record_evaluation(run: Run, dataset: Dataset, split: SplitName, entry: EvaluationRecord) -> Run:
    """Write an evaluation's settings and speed onto the run card and, on test, a line into the study's log."""
    card = dataclasses.replace(run.card, evaluations={**run.card.evaluations, split: entry})
    if split == "test" or "test" not in card.evaluations:
        card = dataclasses.replace(card, tile=entry.tile, halo=entry.halo)
        if entry.megapixels_per_s:
            speed = dataclasses.replace(card.speed, infer_megapixels_per_s=entry.megapixels_per_s)
            card = dataclasses.replace(card, speed=speed)
    run = write_card(run.folder, card)
    if split == "test":
        log_test_evaluation(run, dataset)
    return run


def log_test_evaluation(run: Run, dataset: Dataset) -> None:
    """Write an evaluation on the test scenes into the study's log, once for each evaluation.

    It is called again where an evaluation is reused: a kill between card and log leaves the line to the next command.
    """
    path, counts = dataset.folder / EVALUATION_LOG, run.card.evaluations["test"].counts_sha256
    with in_turn(path.with_name(f".{path.name}.lock")):  # jobs of one study evaluate at the same time
        if path.exists() and f'"counts_sha256": "{counts}"' in _log_text(path):
            return
        time = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"time": time, "run": run.name, "command": command_line(), "counts_sha256": counts}
        append_text(path, seal(json.dumps(line), "line") + "\n", durable=True)


def _log_text(path: Path) -> str:
    """Read the study's log.

    Raises:
        RecordError: It cannot be read.
    """
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read ({first_line(error)}). Mend or remove it.") from error


def write_mask(path: Path, preds: LabelMap, legend: Legend) -> None:
    """Write a predicted mask as a palette PNG: legend indices, 255 where there is none, in the legend's colours.

    Raises:
        DiskError: It cannot be written.
    """
    image, colours = Image.fromarray(preds), legend.colours.tobytes()
    if (preds >= legend.n_classes).any():
        colours = colours.ljust(3 * 256, b"\0")  # else 255 is cut to the bits that the classes need
    image.putpalette(colours)
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG")


def hash_masks(folder: Path) -> None:
    """Write the hashes of the masks in a folder; their readers compare them."""
    write_hashes(folder / HASHES_FILE, folder.rglob("*.png"))


def masks_are_sound(folder: Path) -> bool:
    """Tell whether a folder of masks is there and none of those that it names was changed or lost."""
    path = folder / HASHES_FILE
    if not folder.is_dir() or not path.exists():  # version 0.1.0 wrote no hashes
        return folder.is_dir()
    try:
        return all(sha256_file(folder / name) == known for name, known in read_hashes(path).items())
    except (OSError, RecordError):
        return False


def remove_other_masks(folder: Path, names: Container[str]) -> None:
    """Remove the masks of an older split: those of scenes that are not among ``names``."""
    for path in folder.rglob("*.png"):
        if path.relative_to(folder).with_suffix("").as_posix() not in names:
            path.unlink()
