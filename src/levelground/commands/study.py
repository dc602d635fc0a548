"""Prepare, train every architecture and seed, evaluate, compare and report; finished parts are not repeated."""

from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from levelground.config import Budget, DeviceOptions, PrepareOptions, Recipe, RunOptions, Seed
from levelground.records import one_writer

if TYPE_CHECKING:
    from levelground.comparison.record import Comparison


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class StudyConfig:
    """Options of ``study``."""

    scenes: tyro.conf.OmitArgPrefixes[PrepareOptions]
    archs: Annotated[tuple[str, ...], Field(min_length=1)] = ("pspnet", "unet", "fpn")
    """Architectures: unet unetplusplus fpn pspnet deeplabv3 deeplabv3plus linknet manet pan upernet segformer dpt."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    """Seeds: each architecture is trained once with each. Two or more let verdicts speak of architectures."""
    twins: bool = False
    """Negative control: train each architecture under a second name too, with other seeds."""
    metric: str = "official.miou"
    """The metric that verdicts are about, named before results are seen: SCORING.MEASURE, such as kept.miou."""
    delta: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Differences smaller than this do not matter; verdicts of equality mean it."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = Recipe()
    budget: tyro.conf.OmitArgPrefixes[Budget] = Budget()
    computing: tyro.conf.OmitArgPrefixes[DeviceOptions] = DeviceOptions()
    upkeep: tyro.conf.OmitArgPrefixes[RunOptions] = RunOptions()


def study(config: StudyConfig) -> "Comparison":
    """Run a whole study: train, evaluate, compare and report.

    Args:
        config: What to compare, on what.
    Returns:
        The comparison, on disk in the study's folder beside its tables, figures and ``report.html``.
    Raises:
        LevelgroundError: Something cannot be done; what is finished stays.
    """
    from levelground.datasets.prepare import prepare_dataset
    from levelground.pipeline import StudyOptions, check_options, run_study
    from levelground.runtime import make_runtime
    from levelground.training.distributed import assist, leading
    from levelground.training.prepare_run import plan_of

    options = StudyOptions(
        archs=config.archs,
        seeds=config.seeds,
        recipe=config.recipe,
        budget=config.budget,
        metric=config.metric,
        delta=config.delta,
        twins=config.twins,
        workers=config.upkeep.workers,
        save_every_s=config.upkeep.save_every,
    )
    check_options(options, processes=config.upkeep.processes or 1)
    computing = config.computing
    runtime = make_runtime(
        computing.device,
        computing.precision,
        threads=computing.threads,
        processes=config.upkeep.processes,
        deterministic=config.upkeep.deterministic,
    )
    if runtime.rank:
        assist(runtime, plan_of)
    with leading(runtime):
        with one_writer(config.scenes.out):
            dataset = prepare_dataset(config.scenes)
        return run_study(dataset, options, runtime)
