"""Runs on another data set: brought into its study with their own normalisation, their classes matched by name.

The run there is a copy of weights and card whose outputs are numbered as the other legend does. It is evaluated,
compared and reported like the study's own runs; its card says what it was trained on.
"""

import dataclasses
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from levelground.console import say
from levelground.datasets.dataset import Dataset, SceneRecord, read_dataset
from levelground.datasets.splits import SplitName
from levelground.errors import MissingRecordError, ModelError, RecordError, UnlikeError, WeightsError
from levelground.imagery.class_maps import find_class, read_class_map
from levelground.imagery.geotiff import Window
from levelground.imagery.legend import Legend
from levelground.models.smp_backend import CONFIG_FILE
from levelground.models.spec import model_file, read_model_spec
from levelground.records import atomic_path, sha256_file, sha256_json
from levelground.runs import RUN_FILE, Run, RunCard, SpeedRecord, TransferRecord, read_run, runs_folder, write_card
from levelground.wording import decimal

FAR_GSD = 1.5
"""Ratio of ground sample distances from which on the same things look unlike to a network."""


def transfer_run(run: Run, dataset: Dataset, split: SplitName, *, class_map: Sequence[str] = ()) -> Run:
    """Bring a run into the study of another data set, to be evaluated there.

    Args:
        run: A finished or adopted run with a model.
        dataset: The other data set; the copy lies in the ``runs/`` beside it, as ``RUN-from-STUDY``.
        split: The scenes that it will be evaluated on.
        class_map: ``FROM=CLASS``: classes of the run, by name or number, that are classes of another name here.
            Several may become one: their probabilities are summed.
    Returns:
        The copy; the run itself where the data set is its own.
    Raises:
        UnlikeError: A class of the run has no counterpart here, or a scene of the split is one that it learnt from.
        ModelError: The run holds masks only, or reads other bands or another type of pixels.
        WeightsError: The run has no weights.
        ConfigError: ``class_map`` names no class.
        DiskError: The copy cannot be written.
    """
    if run.study == dataset.folder.resolve():
        return run
    outputs = match_outputs(run, dataset.legend, class_map)
    check_transferable(run, dataset, split)
    identity = sha256_json(["transfer", run.card.identity, str(run.study), list(outputs), dataset.legend.digest()])
    folder = _find_folder(run, dataset, identity)
    card = _transferred_card(run, dataset, folder.name, identity, outputs)
    weights = folder / "model" / model_file(run).name
    if weights.exists() and (folder / RUN_FILE).exists():
        old = read_run(folder).card
        card = dataclasses.replace(card, evaluations=old.evaluations, speed=old.speed)
    if not weights.exists() or sha256_file(weights) != sha256_file(model_file(run)):
        _copy_model(model_file(run), folder / "model")
    return write_card(folder, card)


def check_transferable(run: Run, dataset: Dataset, split: SplitName) -> None:
    """Refuse a run that cannot read these scenes or has learnt from some; say what may make it fail on them.

    Raises:
        ModelError: The run reads another number of bands or another type of pixels.
        WeightsError: The run has no weights.
        UnlikeError: A scene of the split is one that it learnt from.
    """
    spec = read_model_spec(run)
    if spec.bands != dataset.bands:
        raise ModelError(
            f"{run.name}: reads {spec.bands} bands, the scenes of {dataset.folder} have {dataset.bands}. "
            "Evaluate it on imagery with the same bands."
        )
    if (spec.dtype or "uint8") != dataset.dtype:
        raise ModelError(
            f"{run.name}: is normalised for {spec.dtype or 'uint8'} pixels, the scenes of {dataset.folder} hold "
            f"{dataset.dtype}. Scale them to {spec.dtype or 'uint8'} as its own were (gdal_translate -ot -scale), and "
            "prepare them again."
        )
    if not model_file(run).exists():
        raise WeightsError(f"{run.model_folder}: no weights. Train the run to its end first.")
    _refuse_learnt(run, dataset, split)
    if spec.gsd_m and dataset.gsd_m and not 1 / FAR_GSD < spec.gsd_m / dataset.gsd_m < FAR_GSD:
        say(
            "Warning: %(name)s: learnt at %(gsd_m)s m a pixel, the scenes of %(folder)s have "
            "%(gsd_m2)s m. It is run on them as they are.",
            name=run.name,
            gsd_m=decimal(f"{spec.gsd_m:g}"),
            folder=dataset.folder,
            gsd_m2=decimal(f"{dataset.gsd_m:g}"),
        )


def match_outputs(run: Run, legend: Legend, class_map: Sequence[str] = ()) -> tuple[int, ...]:
    """Return the index in another legend of each output of a run.

    Args:
        run: The run; its card holds its own legend.
        legend: The other legend.
        class_map: ``FROM=CLASS``, which go before equal names.
    Raises:
        UnlikeError: A class that the run predicts has no counterpart, or none is a counted one.
        ModelError: The run holds masks only.
        ConfigError: ``class_map`` names no class of the run or of the other legend.
    """
    own = read_model_spec(run).legend
    mapped = read_class_map(class_map, legend, own).classes
    found, missing = [], []
    for index in run.card.outputs:
        other = mapped.get(index, find_class(own.names[index], legend))
        if other is None:
            missing.append(own.names[index])
        else:
            found.append(other)
    if missing:
        raise UnlikeError(
            f"{run.name}: predicts {', '.join(missing)}, which {legend.name!r} does not have. Say what each becomes, "
            f'as in --class-map "{missing[0]}={legend.names[0]}"; the classes there are {", ".join(legend.names)}.'
        )
    if not any(legend.counted[index] for index in found):
        raise UnlikeError(f"{run.name}: predicts no class that {legend.name!r} counts. Map one with --class-map.")
    _say_matches(run, own, legend, found)
    return tuple(found)


def _say_matches(run: Run, own: Legend, legend: Legend, found: Sequence[int]) -> None:
    """Say which classes changed their names, and which can never be predicted."""
    pairs = zip(run.card.outputs, found, strict=True)
    renamed = [f"{own.names[a]} as {legend.names[b]}" for a, b in pairs if own.names[a] != legend.names[b]]
    if renamed:
        say("%(name)s: counts %(renamed)s.", name=run.name, renamed=", ".join(renamed))
    never = [entry.name for entry in legend.classes if entry.counted and entry.index not in found]
    if never:
        say(
            "Warning: %(name)s: has no output for %(never)s; these pixels count as wrong.",
            name=run.name,
            never=", ".join(never),
        )


def _refuse_learnt(run: Run, dataset: Dataset, split: SplitName) -> None:
    """Refuse scenes that the run learnt from, as far as its own study can still tell."""
    both = learnt_scenes(run, dataset, split)
    if both:
        raise UnlikeError(
            f"{run.name}: learnt from {len(both)} of the {len(dataset.ids(split))} {split} scenes of {dataset.folder} "
            f"({both[0][0]} is {both[0][1]} of {run.study}). Evaluate it on scenes that it has not seen."
        )
    if both is None or run.adopted or run.card.initial_weights is not None:
        say(
            "Warning: %(name)s: not all data that it learnt from are at hand, so nobody can tell "
            "whether scenes of %(folder)s are among them.",
            name=run.name,
            folder=dataset.folder,
        )
    warn_of_shared(run, dataset, split)


def learnt_scenes(run: Run, dataset: Dataset, split: SplitName) -> list[tuple[str, str]] | None:
    """Find scenes of another data set that a run learnt from.

    Args:
        run: The run.
        dataset: The other data set.
        split: Which of its scenes.
    Returns:
        Their ids there and, of scenes that show the same pixels of the same image file, in the run's own study;
        ``None`` where the run's own study cannot tell any more.
    """
    origin = _origin(run)
    if origin is None:
        return None
    return [(here.id, there.id) for here, there in _same_files(origin, dataset, split) if _shows_same(here, there)]


def warn_of_shared(run: Run, dataset: Dataset, split: SplitName) -> None:
    """Warn of scenes that are no training scenes of a run, but lie in image files that it learnt from.

    Args:
        run: The run.
        dataset: Another data set.
        split: Which of its scenes.
    """
    origin = _origin(run)
    pairs = [] if origin is None else _same_files(origin, dataset, split)
    shared = [here for here, there in pairs if not _shows_same(here, there)]
    if shared:
        say(
            "Warning: %(name)s: learnt from other parts, or another version, of the images of %(n)s of the %(n2)s "
            "%(split)s scenes of %(folder)s, such as %(image)s. What lies near is alike: the scores may be too good.",
            name=run.name,
            n=len(shared),
            n2=len(dataset.ids(split)),
            split=split,
            folder=dataset.folder,
            image=shared[0].image,
        )


def _same_files(origin: Dataset, dataset: Dataset, split: SplitName) -> list[tuple[SceneRecord, SceneRecord]]:
    """Pair scenes of a split with training or validation scenes of the same image file, by its bytes or its place.

    Of several, the first that shows the same pixels is taken, else the first.
    """
    known: dict[str | Path, list[SceneRecord]] = defaultdict(list)
    here, there = dataset.data.resolve(), origin.data.resolve()
    for scene in map(origin.scene, (*origin.ids("train"), *origin.ids("val"))):
        known[scene.raster].append(scene)
        known[there / scene.image].append(scene)
    pairs = []
    for scene in map(dataset.scene, dataset.ids(split)):
        found = [*known.get(scene.raster, ()), *known.get(here / scene.image, ())]
        if found:
            pairs.append((scene, next((one for one in found if _shows_same(scene, one)), found[0])))
    return pairs


def _shows_same(one: SceneRecord, other: SceneRecord) -> bool:
    """Tell whether two scenes of image files of the same bytes or the same place have pixels in common.

    The earliest records do not hold the bytes of a file that blocks were cut from; then the place decides.
    """
    untold = any(scene.window is not None and scene.file_sha256 is None for scene in (one, other))
    return (one.raster == other.raster or untold) and _overlap(one.window, other.window)


def _overlap(one: Window | None, other: Window | None) -> bool:
    """Tell whether two windows of an image have pixels in common; ``None`` is the whole image."""
    if one is None or other is None:
        return True
    return all(
        max(one[axis], other[axis]) < min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) for axis in (0, 1)
    )


def _origin(run: Run) -> Dataset | None:
    """Return the data set that a run was trained on, where the study around it is still that one."""
    if run.card.transferred_from is not None:
        return None
    try:
        origin = read_dataset(run.study)
    except MissingRecordError:
        return None
    return origin if run.card.train_sha256 in (None, origin.train_sha256) else None


def _find_folder(run: Run, dataset: Dataset, identity: str) -> Path:
    """Find the folder of the copy: the one made before, else the first name that is free."""
    stem = f"{run.name}-from-{run.study.name}"
    for number in range(1, 1000):
        folder = runs_folder(dataset.folder) / (stem if number == 1 else f"{stem}-{number}")
        if not (folder / RUN_FILE).exists() or read_run(folder).card.identity == identity:
            return folder
    raise RecordError(f"{runs_folder(dataset.folder)}: 999 runs are called {stem}. Remove those of no use.")


def _transferred_card(run: Run, dataset: Dataset, name: str, identity: str, outputs: tuple[int, ...]) -> RunCard:
    """Return the card of the copy: what the run is, with the other legend and what it was trained on."""
    origin, spec = _origin(run), read_model_spec(run)
    classes, before = _class_names(spec.legend, dataset.legend, run.card.outputs, outputs), run.card.transferred_from
    record = TransferRecord(
        study=run.study.name,
        run=run.name,
        legend=spec.legend.name,
        scenes=None if origin is None or run.adopted else len(origin.ids("train")),
        train_sha256=run.card.train_sha256,
        split_sha256=run.card.split_sha256,
        classes=classes,
    )
    if before is not None:  # a copy of a copy learnt where the first one did
        record = dataclasses.replace(before, classes={name: classes[here] for name, here in before.classes.items()})
    return dataclasses.replace(
        run.card,
        name=name,
        identity=identity,
        outputs=outputs,
        legend=dataset.legend.to_json(),
        legend_sha256=dataset.legend.digest(),
        train_sha256=None,
        split_sha256=None,
        dtype=spec.dtype,
        evaluations={},
        speed=SpeedRecord(train_images_per_s=run.card.speed.train_images_per_s),
        transferred_from=record,
    )


def _class_names(own: Legend, other: Legend, outputs: Sequence[int], matched: Sequence[int]) -> Mapping[str, str]:
    """Return the name here of each class that the run predicts."""
    return {own.names[a]: other.names[b] for a, b in zip(outputs, matched, strict=True)}


def _copy_model(weights: Path, target: Path) -> None:
    """Copy configuration and, last, weights or the whole network; each file appears whole."""
    for path in (weights.with_name(CONFIG_FILE), weights):
        if path.exists():
            with atomic_path(target / path.name) as temporary:
                shutil.copyfile(path, temporary)
