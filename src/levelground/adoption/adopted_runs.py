"""Run folders of adopted runs: names, folders, cards and outputs, shared by adopted networks and adopted masks."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from levelground.config import Normalisation
from levelground.console import say
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError
from levelground.history import HistoryLine, append_history, truncate_history
from levelground.imagery.class_maps import find_class
from levelground.imagery.legend import Legend, default_legend
from levelground.models.spec import IMAGENET_MEAN, IMAGENET_STD, ModelSpec
from levelground.runs import RUN_FILE, AdoptionRecord, Run, RunCard, list_runs, read_run, runs_folder, write_card
from levelground.tile_geometry import TileGeometry


def clean_name(text: str) -> str:
    """Turn a text into a name for a folder.

    Example:
        >>> clean_name("GLNet (best) 71.6")
        'GLNet-best-71.6'
    """
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")


def find_adopted(dataset: Dataset, name: str, identity: str) -> tuple[Path, Run | None]:
    """Find the folder of a run to be adopted, and the run where the very same was adopted before.

    Args:
        dataset: The data set; runs lie in the ``runs/`` beside it.
        name: The run's name.
        identity: Hash of everything that is adopted.
    Raises:
        ConfigError: Another run has this name, or it cannot name a folder. A history without anything is joined.
    """
    if not name or name != clean_name(name):
        raise ConfigError(f"--name {name}: not a name for a folder. Use letters, digits, dot, minus and underscore.")
    folder = runs_folder(dataset.folder) / name
    if not (folder / "run.json").exists():
        return folder, None
    run = read_run(folder)
    if run.card.identity != identity and run.history_alone:
        return folder, None  # what it is the history of joins it
    if run.card.identity != identity:
        raise ConfigError(f"{folder}: holds another run. Pass another --name.")
    say("%(name)s: adopted already; its card is renewed.", name=name)
    return folder, run


def joined_history(folder: Path, history: JsonValue) -> JsonValue:
    """Return what a history says of itself: a new one, else the one that a run's folder has already."""
    if history is not None or not (folder / RUN_FILE).exists():
        return history
    origin = read_run(folder).card.adopted_from
    return None if origin is None else origin.metadata


def named_spec(names: Mapping[int, str] | Sequence[str], bands: int) -> ModelSpec:
    """Return a specification that knows the names of a network's classes, in the order of its outputs, and no more."""
    numbered, n, ones = default_legend(len(names)), len(names), (1.0,) * bands
    legend = Legend("model", tuple(dataclasses.replace(c, name=names[c.index]) for c in numbered.classes))
    return ModelSpec(
        "model", "unknown", "unknown", legend, tuple(range(n)), ones, ones, None, None, TileGeometry(0, 0)
    )  # fmt: skip


@dataclass(frozen=True)
class TrainingName:
    """Name of an adopted training, as far as it is known.

    Attributes:
        run: The run's name; ``None`` makes one.
        known_as: The architecture that it is a training of, for another tool's networks any name.
        seed: The seed of that training.
    """

    run: str | None = None
    known_as: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse a name of nothing, and a name without the seed that tells trainings apart."""
        if self.known_as is not None and (self.seed is None or not self.known_as.strip() or "\n" in self.known_as):
            raise ConfigError(
                f"--as {self.known_as}: give a name on one line and --seed N, the number that tells this training from "
                "others of the same architecture."
            )

    def folder_name(self, otherwise: str) -> str:
        """Return the name of the run's folder: the run's, else that of architecture and seed, else another one."""
        if self.run is not None or self.seed is None:
            return otherwise if self.run is None else self.run
        return f"{clean_name(self.known_as) if self.known_as else otherwise}-s{self.seed}"


UNNAMED = TrainingName()
"""Nothing is known."""


def warn_of_twins(run: Run) -> None:
    """Say that another run of the study has the same weights or predictions, or the same name and seed."""
    others = [other for other in list_runs(run.study) if other.name != run.name]
    for other in others:
        if (same := _in_common(run, other)) is not None:
            say(
                "Warning: %(name)s: has the %(same)s of %(name2)s, bit for bit: one training under two "
                "names, which says nothing of another seed.",
                name=run.name,
                same=same,
                name2=other.name,
            )
            break
    for other in others:
        mine, theirs = ((one.known_as, one.encoder, one.seed) for one in (run, other))
        if other.adopted and mine == theirs and not run.alone:
            say(
                "Warning: %(name)s: %(name2)s is %(known_as)s with seed %(seed)s too, and does not count "
                "as another training of it. Give each training a seed of its own with --seed.",
                name=run.name,
                name2=other.name,
                known_as=run.known_as,
                seed=run.seed,
            )
            return


def _in_common(run: Run, other: Run) -> str | None:
    """Name what two runs have in common: weights, or the counts of all their predictions; ``None`` nothing."""
    if run.card.weights_sha256 is not None and run.card.weights_sha256 == other.card.weights_sha256:
        return "weights"
    splits = run.card.evaluations.keys() & other.card.evaluations.keys()
    same = [run.card.evaluations[s].counts_sha256 == other.card.evaluations[s].counts_sha256 for s in splits]
    return "predictions" if same and all(same) else None


def adopted_card(dataset: Dataset, name: str, identity: str, training: TrainingName = UNNAMED) -> RunCard:
    """Make the card of an adopted run with what is known of all of them; how it was trained is not known."""
    return RunCard(
        name=name,
        status="adopted",
        arch="unknown",
        encoder="unknown",
        seed=training.seed,
        known_as=training.known_as,
        legend=dataset.legend.to_json(),
        legend_sha256=dataset.legend.digest(),
        identity=identity,
    )


def network_card(card: RunCard, spec: ModelSpec, origin: AdoptionRecord) -> RunCard:
    """Complete the card of an adopted run by what is known of its network's inputs and outputs."""
    return dataclasses.replace(
        card,
        arch=spec.arch,
        encoder=spec.encoder,
        outputs=spec.outputs,
        in_channels=spec.bands,
        mean=spec.mean,
        std=spec.std,
        adopted_from=origin,
    )


def write_adopted(folder: Path, card: RunCard, found: Run | None, lines: Sequence[HistoryLine]) -> Run:
    """Write the card and the history of an adopted network.

    Args:
        folder: The run's folder, with its weights.
        card: What is known of it.
        found: The run where the very same was adopted before; what evaluations wrote onto its card stays.
        lines: Its history; an older one stays where there are none.
    """
    if found is not None:
        old = found.card
        card = dataclasses.replace(card, evaluations=old.evaluations, tile=old.tile, halo=old.halo, speed=old.speed)
    run = write_card(folder, card)
    warn_of_twins(run)
    if lines:
        truncate_history(folder, 0)
        append_history(folder, lines)
    return run


def match_outputs(
    dataset: Dataset, own: ModelSpec | None, n: int, given: Sequence[int], *, source: str
) -> tuple[int, ...]:
    """Return the legend index of each output: as given, by the names of classes beside the weights, or by number.

    Args:
        dataset: Gives the legend.
        own: The specification that comes with the weights; ``None`` where there is none.
        n: Number of the network's outputs.
        given: Legend index of each output, as the user gives them.
        source: The file's name, for the error.
    Raises:
        ConfigError: Their number does not fit, or the legend lacks a class.
    """
    if given or own is None or (n != len(own.outputs)):
        return output_indices(dataset, n, given, source=source)
    names = [own.legend.names[index] for index in own.outputs]
    found = [find_class(name, dataset.legend) for name in names]
    if all(index is not None for index in found):
        return tuple(index for index in found if index is not None)
    missing = ", ".join(name for name, index in zip(names, found, strict=True) if index is None)
    raise ConfigError(
        f"{source}: its outputs are {', '.join(names)}; the legend {dataset.legend.name!r} has no {missing}. Say which "
        f"class each output is: --outputs {' '.join(str(index % dataset.legend.n_classes) for index in range(n))}"
    )


def output_indices(dataset: Dataset, n: int, outputs: Sequence[int], *, source: str) -> tuple[int, ...]:
    """Return the legend index of each of ``n`` outputs; of a single one, the classes below and above .5.

    Raises:
        ConfigError: Their number fits neither all classes nor the counted ones and none are given, or those given are
            not ``n`` classes.
    """
    k, counted = dataset.legend.n_classes, np.flatnonzero(dataset.legend.counted).tolist()
    single, n = n == 1, max(2, n)  # one output is the probability of the second of two classes
    if outputs:
        if len(outputs) != n or not all(0 <= index < k for index in outputs) or (single and len(set(outputs)) < 2):
            given = " ".join(map(str, outputs))
            raise ConfigError(
                f"--outputs {given}: expected {n} class indices from 0 to {k - 1}, "
                f"{'the class below .5 and the class above' if single else 'one an output'}."
            )
        chosen = tuple(outputs)
    elif n == k:
        chosen = tuple(range(k))
    elif n == len(counted):
        chosen = tuple(counted)
    elif single:
        raise ConfigError(
            f"{source}: has 1 output, the probability of one class, and the legend {dataset.legend.name!r} has {k} "
            "classes. Say which class it is below .5 and which above: --outputs 0 1"
        )
    else:
        example = " ".join(str(min(index, k - 1)) for index in range(n))
        raise ConfigError(
            f"{source}: has {n} outputs, the legend {dataset.legend.name!r} has {k} classes, "
            f"{len(counted)} of them counted. Say which class each output is, several may be one: --outputs {example}"
        )
    if single:
        below, above = (dataset.legend.names[index] for index in chosen)
        taken = {"source": source, "above": above, "below": below}
        say("%(source)s: its one output is %(above)s from .5 up, %(below)s below; or pass --outputs.", **taken)
    return chosen


def normalise_inputs(spec: ModelSpec, dataset: Dataset, normalise: Normalisation) -> ModelSpec:
    """Give a model of values 0 to 1 the mean and deviation that its inputs were normalised by.

    Raises:
        ConfigError: ``imagenet`` for other than three bands of 8 bits.
    """
    if normalise == "none":
        return spec
    if normalise == "data":
        return dataclasses.replace(spec, mean=dataset.mean, std=dataset.std)
    if dataset.bands != 3 or dataset.dtype != "uint8":
        raise ConfigError(
            f"--normalise imagenet: its means are for 3 bands of uint8, the scenes have {dataset.bands} of "
            f"{dataset.dtype}. Pass --normalise data or none."
        )
    mean, std = (tuple(255 * value for value in values) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return dataclasses.replace(spec, mean=mean, std=std)
