"""List what runs where in a study, how far it is, and how long it will take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from levelground.wording import gettext, pgettext

if TYPE_CHECKING:
    from levelground.scaling.jobs import RunRow


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class JobsConfig:
    """Options of ``jobs``."""

    study: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STUDY")]
    """Study folder, of a study that runs, was stopped, or is finished; on a cluster or not."""


def jobs(config: JobsConfig) -> "list[RunRow]":
    """List the runs of a study, from their histories and the status files of their jobs; nothing is changed.

    Args:
        config: Which study.
    Returns:
        One row a run.
    Raises:
        RecordError: There is no study in the folder.
    """
    from levelground.console import duration, say, say_table
    from levelground.scaling.jobs import check_study_folder, study_rows

    check_study_folder(config.study)
    rows = study_rows(config.study)
    if not rows:
        say("%(study)s: no run has started yet.", study=config.study)
        return rows
    table = []
    for row in rows:
        progress = row.progress
        step = f"{progress.step} of {progress.steps}" if progress.steps else str(progress.step or "")
        left = "" if not progress.left_s or row.state in ("finished", "failed") else duration(progress.left_s)
        heard = "" if row.silent_s is None else f"{duration(row.silent_s)} ago" if row.silent_s < 1e9 else "never"
        table.append((row.name, row.state, row.where, step, left, heard))
    titles = (
        gettext("run"),
        gettext("state"),
        pgettext("a machine", "where"),
        gettext("step"),
        pgettext("progress", "left"),
        gettext("heard of"),
    )
    say_table(gettext("Runs of %(study)s", study=config.study), titles, table)
    for row in rows:
        if row.error:
            say("%(name)s: %(error)s", name=row.name, error=row.error)
    return rows
