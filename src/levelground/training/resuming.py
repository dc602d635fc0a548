"""``train --resume RUN``: what a run folder says about itself is enough to go on, and nothing may contradict it."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter

from levelground.config import Budget, DeviceOptions, Recipe, RunOptions
from levelground.datasets.dataset import Dataset
from levelground.errors import ConfigError, RecordError
from levelground.models.build import canonical_arch
from levelground.runs import Run, read_recipe
from levelground.training.prepare_run import Wish, identity


@dataclasses.dataclass(frozen=True)
class Given:
    """What was given beside ``--resume``; ``None``, ``Recipe()`` and ``Budget()`` are not given."""

    study: Path | None
    arch: str | None
    seed: int | None
    recipe: Recipe
    budget: Budget


def study_of(run: Run) -> Path:
    """The study folder that a run lies in, as ``STUDY/runs/NAME``."""
    return run.folder.resolve().parent.parent


def begun_wish(run: Run) -> Wish:
    """What was asked when a run was begun.

    Raises:
        RecordError: Another tool trained it, or its card lacks the budget.
        ConfigError: The card's recipe has a key or a value that this version does not know.
    """
    recipe = read_recipe(run)
    asked = run.card.budget.asked if run.card.budget else ""
    number, _, unit = asked.partition(" ")
    try:
        budget = TypeAdapter(Budget).validate_python({unit: number})
    except ValueError as error:
        raise RecordError(f"{run.folder / 'run.json'}: holds no budget to go on with. Make the run anew.") from error
    assert run.seed is not None
    return Wish(run.arch, run.seed, recipe, budget, twin=run.card.twin)


def check_given(run: Run, given: Given) -> None:
    """Refuse what contradicts the run card.

    Raises:
        ConfigError: A flag says something else than the card; the message names the first.
    """
    for flag, value, begun in _contradictions(begun_wish(run), study_of(run), given):
        raise ConfigError(
            f"{flag} {value}: {run.name} was begun with {begun} and goes on with it. "
            "Drop the flag, or train a new run without --resume."
        )


def _contradictions(wish: Wish, study: Path, given: Given) -> Iterator[tuple[str, object, object]]:
    """Flag, value given and value of the card."""
    if given.study is not None and given.study.resolve() != study:
        yield "STUDY", given.study, study
    if given.arch is not None and canonical_arch(given.arch) != wish.arch:
        yield "--arch", given.arch, wish.arch
    if given.seed is not None and given.seed != wish.seed:
        yield "--seed", given.seed, wish.seed
    asked = wish.budget.describe(wish.recipe)
    if given.budget != Budget() and given.budget.describe(wish.recipe) != asked:
        number, _, unit = given.budget.describe(wish.recipe).partition(" ")
        yield f"--{unit}", number, asked
    if given.recipe != Recipe():  # the command line fills in the card's recipe, so that only what was typed differs
        for field in dataclasses.fields(Recipe):
            value, begun = getattr(given.recipe, field.name), getattr(wish.recipe, field.name)
            if field.name != "name" and value != begun:
                yield f"--{field.name.replace('_', '-')}", value, begun


def check_data(run: Run, dataset: Dataset) -> None:
    """Refuse to go on with a run on other data than it was begun on.

    Raises:
        RecordError: Scenes, labels, split, legend or encoder weights are not what they were.
    """
    if identity(begun_wish(run), dataset) != run.card.identity:
        raise RecordError(
            f"{run.folder}: was begun with other scenes, labels, split or encoder weights than {dataset.folder} has "
            "now. Prepare the data as they were, or train a new run without --resume."
        )


def begun_computing(run: Run, asked: DeviceOptions) -> DeviceOptions:
    """Device, precision and threads as the card says where nothing is asked: they decide the last bits."""
    fields = ("device", "precision", "threads")
    begun = {name: value for name in fields if (value := getattr(run.card, name)) is not None}
    asked_for = {name: getattr(asked, name) for name in fields if getattr(asked, name) not in ("auto", None)}
    return TypeAdapter(DeviceOptions).validate_python(begun | asked_for)


def begun_upkeep(run: Run, asked: RunOptions) -> RunOptions:
    """Processes as the card says where nothing is asked and torchrun started none, and no less exact than it says."""
    processes = asked.processes
    if processes is None and "TORCHELASTIC_RUN_ID" not in os.environ:
        processes = run.card.processes
    exactly = asked.deterministic or bool(run.card.deterministic)
    return dataclasses.replace(asked, processes=processes, deterministic=exactly)
