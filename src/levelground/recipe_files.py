"""Recipes as files and flags: those that are shipped, a user's own TOML, a run card's values.

A recipe is a TOML file whose keys are the fields of :class:`~levelground.config.Recipe`. Two are shipped (``default``
and ``origin``); a user's own file may name only what it changes, the rest is the default recipe's.
"""

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, StrictFloat, StrictInt, StrictStr, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from levelground.config import Recipe
from levelground.errors import ConfigError
from levelground.reading import parse_toml, read_text
from levelground.records import RECORD_CONFIG, OpenRecord
from levelground.wording import gettext, whole

TUNING_TABLE, BASE_TABLE = "tuning", "tuned_from"
"""Tables of a recipe file that tune wrote: how its fields were chosen, and what the other fields were."""


def shipped_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with levelground."""
    folder = resources.files("levelground") / "recipes"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_recipe(name: str = "default") -> Recipe:
    """Read a recipe by name or path.

    Args:
        name: A shipped recipe's name, or the path of a TOML file.
    Returns:
        The recipe, its ``name`` as given; fields that the file leaves out are the default recipe's.
    Raises:
        ConfigError: No such recipe, no TOML, an unknown key or a value out of range.
    Example:
        >>> load_recipe("origin").lr
        0.0002
    """
    if name in shipped_recipes():
        text = (resources.files("levelground") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    elif Path(name).suffix == ".toml" and Path(name).is_file():
        text = _read_text(Path(name))
    else:
        raise ConfigError(
            f"--recipe {name}: no such recipe. Give {', '.join(shipped_recipes())} or the path of a .toml."
        )
    try:
        fields = parse_toml(text)
    except ValueError as error:
        raise ConfigError(f"{name}: no TOML ({error}). Mend the file.") from error
    fields = {key: value for key, value in fields.items() if key not in (TUNING_TABLE, BASE_TABLE)}
    return check_recipe(fields | {"name": name}, source=name)


def _read_text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: unreadable recipe ({error}). Give a UTF-8 TOML file.") from error


def check_recipe(fields: dict[str, object], *, source: str) -> Recipe:
    """Make a recipe of plain values, such as a run card's.

    Args:
        fields: Values by field name.
        source: What to name in the error.
    Returns:
        The recipe.
    Raises:
        ConfigError: An unknown key or a value out of range; the message names the first.
    """
    unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(Recipe)})
    if unknown:
        known = ", ".join(field.name for field in dataclasses.fields(Recipe))
        raise ConfigError(f"{source}: unknown recipe key {unknown[0]!r}. Known keys: {known}.")
    try:
        return TypeAdapter(Recipe).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part} = {first['input']!r} " for part in first["loc"][-1:])
        reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise ConfigError(f"{source}: {where}{reason}. Mend the recipe.") from error


def recipe_flags(recipe: Recipe) -> list[str]:
    """Turn a recipe into command-line flags, so that TOML files and flags meet in one parser and later flags win.

    Example:
        >>> recipe_flags(load_recipe("origin"))[:2]
        ['--encoder=resnet18', '--encoder-weights=imagenet']
    """
    flags = []
    for field in dataclasses.fields(recipe):
        value, flag = getattr(recipe, field.name), field.name.replace("_", "-")
        if field.name == "name":
            continue
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags.append(f"--{flag}={value}")
    return flags


LATER_FIELDS = frozenset({"select_groups", "average", "validation_share"})
"""Fields that recipes of 0.1.0 do not have: where they hold their default they are neither written nor hashed."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class RecipeRecord(Recipe, OpenRecord):
    """Recipe that a run was started with."""

    ALWAYS_WRITTEN: ClassVar[frozenset[str]] = frozenset(
        field.name for field in dataclasses.fields(Recipe) if field.name not in LATER_FIELDS
    )

    @classmethod
    def of(cls, recipe: Recipe) -> "RecipeRecord":
        """Return a recipe as it is recorded."""
        return cls(**dataclasses.asdict(recipe))

    def recipe(self, source: str) -> Recipe:
        """Return the recipe itself, so that a run can be resumed with it.

        Args:
            source: What to name in the error.
        Raises:
            ConfigError: It has a key that this version does not know.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(Recipe)}
        return check_recipe(fields | dict(self.extra), source=source)


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class ValidationSampleRecord(OpenRecord):
    """Sample of the windows of validation scenes."""

    windows: StrictInt
    scenes: StrictInt
    """Number of scenes that have a window in it."""
    megapixels: StrictFloat
    of_megapixels: StrictFloat
    """Size of all validation scenes."""
    sha256: StrictStr
    """Hash of the windows' scenes and corners."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class BudgetRecord(OpenRecord):
    """Budget of a run, as it was asked for and in steps."""

    asked: StrictStr
    """The budget as it was asked for, such as ``2 minutes``."""
    steps: Annotated[StrictInt, Field(ge=1)] | None = None
    """Optimiser steps of the whole run; ``None`` under a budget of time, where ``steps_done`` tells."""
    validations: Annotated[StrictInt, Field(ge=0)] | None = None
    """How often validation scenes are scored, evenly over the run; 0 does it at the end of every epoch."""
    validation_s: StrictFloat | None = None
    """Estimated time of a validation, seconds."""
    validation_sample: ValidationSampleRecord | None = None
    """The sample of windows that validations score; ``None`` where they score whole scenes."""


@dataclass(frozen=True, kw_only=True, config=RECORD_CONFIG)
class TuningRecord(OpenRecord):
    """Tuning that chose fields of a recipe, on validation scenes."""

    fields: tuple[StrictStr, ...]
    """Fields that were chosen."""
    space: StrictStr
    """Hash of what they were chosen from."""
    trials: StrictInt
    steps: StrictInt
    """Training steps of each trial."""
    seed: StrictInt
    """Seed of the proposals and of the trials' training."""
    minutes: StrictFloat
    """Time of all trials."""
    trial: StrictInt
    """The chosen trial, from 1."""
    value: StrictFloat
    """Its validation mIoU."""
    reruns: tuple[StrictFloat, ...] = ()
    """Validation mIoU of the chosen trial with new seeds."""

    def describe(self) -> str:
        """Return what models that were tuned alike have in common."""
        fields = ", ".join(self.fields)
        return f"{self.trials} trials of {self.steps} steps, seed {self.seed}, {fields} (space {self.space[:8]})"

    @property
    def optimism(self) -> float | None:
        """By how much the chosen trial scored above the mean of its re-runs; ``None`` without any."""
        return self.value - sum(self.reruns) / len(self.reruns) if self.reruns else None

    def sentence(self) -> str:
        """Say which trial was chosen, what it scores with new seeds, and how optimistic its score is."""
        words = {
            "trial": whole(self.trial),
            "trials": whole(self.trials),
            "value": f"{self.value:.3f}",
            "reruns": ", ".join(f"{value:.3f}" for value in self.reruns),
            "more": f"{abs(self.optimism or 0.0):.3f}",
        }
        if self.optimism is None:
            return gettext(
                "Trial number %(trial)s of %(trials)s was chosen, with a validation mIoU of %(value)s. It was not "
                "trained again with new seeds, so nobody knows how optimistic that is.",
                **words,
            )
        if self.optimism < 0:
            return gettext(
                "Trial number %(trial)s of %(trials)s was chosen, with a validation mIoU of %(value)s. With new seeds "
                "it reaches %(reruns)s, %(more)s more in the mean.",
                **words,
            )
        return gettext(
            "Trial number %(trial)s of %(trials)s was chosen, with a validation mIoU of %(value)s. With new seeds it "
            "reaches %(reruns)s: as the best of many, its score is optimistic by %(more)s.",
            **words,
        )


@dataclasses.dataclass(frozen=True)
class RecipeChanges:
    """Fields that a file changes of a study's recipe, for one architecture.

    Attributes:
        fields: Values by recipe field.
        tuning: How they were chosen, if tune did.
        base: What the other fields were then.
    """

    fields: dict[str, object]
    tuning: TuningRecord | None
    base: dict[str, object]

    def apply(self, recipe: Recipe, source: str) -> Recipe:
        """Return a recipe with the fields changed.

        Raises:
            ConfigError: A field is unknown or a value out of range.
        """
        return check_recipe(dataclasses.asdict(recipe) | self.fields, source=source)


def load_changes(path: str, flag: str) -> RecipeChanges:
    """Read a recipe file as changes of another recipe.

    Args:
        path: The file.
        flag: How it was asked for, for the error.
    Raises:
        ConfigError: It cannot be read, is not TOML, or its table of the tuning is not one.
    """
    if not Path(path).is_file():
        raise ConfigError(f"{flag}: no such file. Give a recipe file, such as one that levelground tune wrote.")
    try:
        content = parse_toml(_read_text(Path(path)))
        told, base = content.pop(TUNING_TABLE, None), content.pop(BASE_TABLE, {})
        tuning: TuningRecord | None = None if told is None else TypeAdapter(TuningRecord).validate_python(told)
    except (ValueError, ValidationError) as error:
        raise ConfigError(f"{flag}: is not a recipe file ({str(error).splitlines()[0]}). Mend the file.") from error
    return RecipeChanges(content, tuning, base if isinstance(base, dict) else {})
