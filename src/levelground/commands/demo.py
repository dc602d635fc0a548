"""Generate land-cover scenes and run a whole study on them; needs no data and no network."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from levelground.config import OPTIONS_CONFIG, PNG, Budget, DeviceGroup, DeviceOptions, Figures, Recipe, Seed
from levelground.records import one_writer

STEPS = 48
"""Steps of each run where no budget is given: two to four minutes for three architectures on two cores."""

LADDER = (0.25, 1.0)
"""Shares of the budget: a short ladder, so that the page says whether the order of the models holds."""

if TYPE_CHECKING:
    from levelground.comparison.record import Comparison


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class DemoBudget(Budget):
    """How long each run trains; the recipe's own number of epochs is not used."""

    steps: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Optimiser steps of each run; 48 unless --steps, --epochs or --minutes is given."""


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class DemoConfig:
    """Options of ``demo``; by default small enough for two cores and five minutes."""

    out: Path = Path("demo")
    """Folder of the study; scenes and cache are in it too."""
    archs: Annotated[tuple[str, ...], Field(min_length=1)] = ("pspnet", "unet", "fpn")
    """Architectures to compare."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    """Seeds: each architecture is trained once with each."""
    scenes: Annotated[int, Field(ge=12, le=10_000)] = 80
    """How many scenes are generated; 24 of the default number are test scenes."""
    size: Annotated[int, Field(ge=64, le=4096)] = 448
    """Side of a scene, px; two tiles of 256 px that overlap cover the default."""
    scene_seed: Seed = 0
    """Seed of the scenes."""
    budgets: tuple[Annotated[float, Field(gt=0, le=1)], ...] = LADDER
    """Shares of the budget: every run is also trained at these, each with a full schedule of its own."""
    figures: Figures = PNG
    """Formats of the pictures in figures/, any of png, svg and pdf; without a format none is drawn."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = Recipe(tile=256, halo=32, validations=3)
    budget: tyro.conf.OmitArgPrefixes[DemoBudget] = DemoBudget()
    device_options: DeviceGroup = DeviceOptions()


def demo(config: DemoConfig) -> "Comparison":
    """Generate scenes and run a study on them.

    Args:
        config: How many scenes, which architectures, how long.
    Returns:
        The comparison, on disk beside its tables, figures and ``report.html``.
    Raises:
        LevelgroundError: Something cannot be done; what is finished stays.
    """
    from levelground.models.loading import check_names

    started = time.monotonic()
    check_names(config.archs, config.recipe.encoder, encoder_weights=config.recipe.encoder_weights)
    from levelground.config import PrepareOptions, StudyOptions
    from levelground.datasets.prepare import prepare_dataset
    from levelground.pipeline import check_study, run_study
    from levelground.runtime import open_runtime
    from levelground.synthetic.scenes import write_scenes

    asked = config.budget
    budget = Budget(asked.steps, asked.epochs, asked.minutes)
    budget = Budget(steps=STEPS) if budget == Budget() else budget
    options = StudyOptions(
        archs=config.archs,
        seeds=config.seeds,
        recipe=config.recipe,
        budget=budget,
        budgets=config.budgets,
        figures=config.figures,
    )
    check_study(options)
    scenes = config.out / "scenes"
    with one_writer(config.out):
        write_scenes(scenes, n=config.scenes, size=config.size, seed=config.scene_seed)
        dataset = prepare_dataset(PrepareOptions(data=scenes, out=config.out, cache=config.out / "cache"))
    return run_study(dataset, options, open_runtime(config.device_options), since=started)
