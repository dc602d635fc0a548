"""Send the curves, scores and verdicts of a study to TensorBoard or MLflow, every step once."""

from pathlib import Path
from typing import Annotated

import tyro
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from levelground.errors import ConfigError


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrackConfig:
    """Options of ``track``."""

    study: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STUDY")]
    """Study folder, of a study that runs, was stopped or is finished, on a cluster or not."""
    to: Annotated[str | None, tyro.conf.arg(metavar="TRACKER")] = None
    """Where to: tensorboard (event files in STUDY/tracking/tensorboard), tensorboard:FOLDER, mlflow:URI (a server such
    as mlflow:http://127.0.0.1:5000), or mlflow (the server that MLFLOW_TRACKING_URI names)."""
    follow: bool = False
    """Go on until every run has ended and no command holds the study, through stops and resumes."""


def track(config: TrackConfig) -> int:
    """Send what a tracker does not have yet of a study; nothing in its runs is changed.

    Args:
        config: Which study, and where to.
    Returns:
        How many points of curves were sent.
    Raises:
        ConfigError: There is no such tracker, it is not installed, or it does not answer.
        RecordError: There is no study in the folder.
    """
    from levelground.console import say_counted
    from levelground.scaling.trackers import check_target
    from levelground.scaling.tracking import track_study

    if config.to is None:
        raise ConfigError("--to: not given. Say levelground track STUDY --to tensorboard, or --to mlflow:URI.")
    check_target(config.to)
    count = track_study(config.study, config.to, follow=config.follow)
    say_counted(
        "%(study)s: %(n)s point was sent to %(to)s; those that it had already were left alone.",
        "%(study)s: %(n)s points were sent to %(to)s; those that it had already were left alone.",
        count,
        study=config.study,
        to=config.to,
    )
    return count
