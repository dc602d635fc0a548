"""Make runs of what other tools made: the weights of a segmentation_models_pytorch network, or its predicted masks."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from levelground.adoption.histories import read_origin_history
from levelground.adoption.predictions import find_masks, read_mask
from levelground.console import say, track
from levelground.datasets.dataset import Dataset
from levelground.datasets.splits import SplitName
from levelground.errors import ConfigError
from levelground.evaluation.evaluate import (
    forget_evaluation,
    is_evaluated,
    note_evaluation,
    remove_other_masks,
    write_mask,
)
from levelground.evaluation.score_scenes import ScenePrediction, check_labels, count_scene, gather_scores
from levelground.metrics.counts_file import write_counts
from levelground.records import sha256_file, sha256_json
from levelground.runs import (
    AdoptionRecord,
    EvaluationRecord,
    ParametersRecord,
    Run,
    RunCard,
    append_history,
    read_run,
    run_name,
    runs_folder,
    truncate_history,
    write_card,
)

if TYPE_CHECKING:
    from levelground.adoption.weights import Normalisation


def adopt_weights(
    weights: Path,
    dataset: Dataset,
    *,
    arch: str | None = None,
    encoder: str | None = None,
    classes: int | None = None,
    outputs: Sequence[int] = (),
    normalise: "Normalisation" = "none",
    history: Path | None = None,
    name: str | None = None,
) -> Run:
    """Make a run of a network's weights; it is evaluated afterwards like any other.

    Args:
        weights: A state dict (``.pth``, read without running code from it) or ``.safetensors``.
        dataset: The scenes it will be judged on; the run lies in the ``runs/`` beside.
        arch: Architecture; ``None`` tells it from the tensors.
        encoder: Encoder; ``None`` tells it from the tensors.
        classes: Number of outputs, checked against the weights; ``None`` takes theirs.
        outputs: Legend index of each output; empty takes all classes or all counted ones, whichever are as many.
        normalise: How inputs were normalised in training: values 0 to 1, ImageNet's means, or the training scenes'.
        history: The origin study's history file.
        name: The run's name; ``None`` makes one of architecture and encoder.
    Returns:
        The run.
    Raises:
        WeightsError: The weights do not fit; the message names the first tensor that differs.
        ModelError: Architecture or encoder are unknown, or cannot be told.
        ConfigError: The number of classes does not fit, or the name is taken.
        DataError: The history is unreadable.
    """
    # Networks and encoders are imported here: seconds that masks need not wait for.
    from levelground.adoption.weights import (
        count_outputs,
        fitted_model,
        guess_arch,
        guess_encoder,
        output_indices,
        unwrap,
    )
    from levelground.models.build import canonical_arch, measure_size
    from levelground.models.pretrained import read_state
    from levelground.models.smp_backend import save_model

    lines, metadata = read_origin_history(history) if history else ([], None)
    state = unwrap(read_state(weights))
    n = count_outputs(state, source=weights.name)
    if classes not in (None, n):
        raise ConfigError(f"--classes {classes}: {weights.name} has {n} outputs. Pass --classes {n}.")
    indices = output_indices(dataset, n, outputs, source=weights.name)
    if arch is None or encoder is None:
        arch = guess_arch(state, source=weights.name) if arch is None else canonical_arch(arch)
        encoder = guess_encoder(state, arch, source=weights.name) if encoder is None else encoder
        say(f"{weights.name}: taken for {arch} with encoder {encoder} and {n} outputs, by its tensors.")
    model = fitted_model(state, dataset, arch, encoder, indices, normalise, source=weights.name)
    spec = model.spec
    identity = sha256_json([sha256_file(weights), spec.arch, encoder, indices, spec.mean, spec.std])
    label = name or run_name(spec.arch, encoder, 0).removesuffix("-s0") + "-adopted"
    folder, found = place(dataset, label, identity)
    if found is None or not found.model_folder.exists():
        save_model(model, folder / "model")
    size = measure_size(model)
    card = dataclasses.replace(
        adopted_card(dataset, label, identity),
        arch=spec.arch,
        encoder=encoder,
        outputs=tuple(indices),
        in_channels=dataset.bands,
        mean=tuple(spec.mean),
        std=tuple(spec.std),
        parameters=ParametersRecord(total=size.total, used=size.used),
        macs_per_megapixel=size.macs_per_megapixel,
        adopted_from=AdoptionRecord(weights=weights.name, normalise=normalise, metadata=metadata),
    )
    if found is not None:  # the same weights: what evaluations wrote onto the card stays
        old = found.card
        card = dataclasses.replace(card, evaluations=old.evaluations, tile=old.tile, halo=old.halo, speed=old.speed)
    run = write_card(folder, card)
    if lines:
        truncate_history(folder, 0)
        append_history(folder, lines)
    return run


def adopt_predictions(
    masks: Path, dataset: Dataset, *, split: SplitName = "test", name: str | None = None, snap: int = 0
) -> Run:
    """Make a run of a folder of predicted masks and count them.

    Args:
        masks: Folder with one mask a scene, colours or class indices, found by scene id.
        dataset: The scenes; the run lies in the ``runs/`` beside.
        split: Scenes that the masks are counted on; each must have one.
        name: The run's name; ``None`` takes the folder's.
        snap: Colours that are no class become the nearest class up to this difference in each channel, grey levels.
    Returns:
        The run, with counts and masks.
    Raises:
        SceneError: A mask is missing, doubled, of another size, or has pixels without a class.
        LabelColourError: A mask holds a colour that is no class.
        ConfigError: The name is taken by another run.
    """
    found = find_masks(masks, dataset, split)
    label = name or clean_name(masks.resolve().name)
    identity = sha256_json(["predictions", label])
    folder, old = place(dataset, label, identity)
    hashes = {scene: sha256_file(path) for scene, path in found.items()}
    evaluation = sha256_json([hashes, snap, dataset.digest((split,)), dataset.split_sha256])
    if old is not None:
        if is_evaluated(old, split, evaluation):
            say(f"{label}: these masks are counted already; reused.")
            return old
        old = forget_evaluation(old, split)
    card = dataclasses.replace(
        adopted_card(dataset, label, identity), adopted_from=AdoptionRecord(masks=masks.resolve().name)
    )
    run, scores = old or Run(folder, card), []
    preds_folder = run.preds_folder(split)
    for scene, path in track(found.items(), f"count {label}", len(found)):
        labels = np.asarray(dataset.open(scene).labels)
        check_labels(dataset.scene(scene), labels)
        preds = read_mask(path, dataset, scene, snap=snap)
        scores.append(count_scene(ScenePrediction(preds, None), labels, dataset.legend, details=True))
        write_mask(preds_folder / f"{scene}.png", preds, dataset.legend)
    remove_other_masks(preds_folder, found)
    write_counts(run.counts_path(split), gather_scores(scores, dataset, list(found)))
    entry = EvaluationRecord(identity=evaluation, counts_sha256=sha256_file(run.counts_path(split)))
    run = note_evaluation(run, dataset, split, entry)
    say(f"{label}: {len(found)} masks counted on {split}.")
    return run


def clean_name(text: str) -> str:
    """What of a text can name a folder.

    Example:
        >>> clean_name("GLNet (best) 71.6")
        'GLNet-best-71.6'
    """
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")


def place(dataset: Dataset, name: str, identity: str) -> tuple[Path, Run | None]:
    """The folder of a run to be adopted, and the run where the very same was adopted before.

    Raises:
        ConfigError: Another run has this name, or it is no name for a folder.
    """
    if not name or name != clean_name(name):
        raise ConfigError(f"--name {name}: no name for a folder. Use letters, digits, dot, minus and underscore.")
    folder = runs_folder(dataset.folder) / name
    if not (folder / "run.json").exists():
        return folder, None
    run = read_run(folder)
    if run.card.identity != identity:
        raise ConfigError(f"{folder}: holds another run. Pass another --name.")
    say(f"{name}: adopted already; its card is renewed.")
    return folder, run


def adopted_card(dataset: Dataset, name: str, identity: str) -> RunCard:
    """Make what the card of every adopted run holds; how it was trained is not known."""
    return RunCard(
        name=name,
        status="adopted",
        arch="unknown",
        encoder="unknown",
        seed=None,
        legend=dataset.legend.to_json(),
        legend_sha256=dataset.legend.digest(),
        identity=identity,
    )
