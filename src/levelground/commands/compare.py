"""Compare evaluated runs by their counts: scores, intervals and verdicts; needs no torch and no pixels."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from levelground.config import OPTIONS_CONFIG
from levelground.metrics.named import metric_names
from levelground.runs import Run

if TYPE_CHECKING:
    from levelground.comparison.record import Comparison


@dataclass(frozen=True, config=OPTIONS_CONFIG)
class CompareConfig:
    """Options of ``compare``."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUNS ...")]
    """Run folders, or study folders, whose evaluated runs are all taken; one run alone gets its own scores."""
    out: Path | None = None
    """Folder for comparison.json, .csv, .md and .tex; without it, the study that all runs belong to."""
    split: Literal["val", "test"] = "test"
    """Split whose counts are compared."""
    metric: Annotated[
        str | None,
        tyro.conf.arg(
            help="Primary metric, the one that is tested; without it, the one the study named, else official.miou. "
            "Another one makes an exploratory view, labelled and logged. VIEW.KIND or VIEW.KIND:CLASS, with "
            f"views official, kept, all, boundary and kinds {metric_names()}."
        ),
    ] = None
    delta: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Differences below this do not matter, as a fraction; runs shown to lie closer are called equal. Without it, the
    one that the study named, else .01."""
    allow_unlike: bool = False
    """Compare runs of unlike recipe, budget, weight source, split or tile geometry; what differs is named. Runs with
    unlike labels, legends or test scenes are never compared."""


def compare(config: CompareConfig) -> "Comparison":
    """Compare runs, write the comparison and print the answer.

    Args:
        config: What to compare.
    Returns:
        The comparison.
    Raises:
        UnlikeError: The runs must not be compared; the message names what differs.
        LevelgroundError: A folder holds no run, or a run was not evaluated on the split.
    """
    from levelground.comparison.compare import compare_runs, in_current_language, log_exploratory, write_comparison
    from levelground.comparison.tables import scores_table
    from levelground.console import say, say_table
    from levelground.wording import gettext

    runs = [run for path in config.runs for run in _runs_in(path, config.split)]
    out = config.out or _common_study(runs)
    comparison = compare_runs(
        runs, split=config.split, metric=config.metric, delta=config.delta, allow_unlike=config.allow_unlike
    )
    once = dict.fromkeys(run.folder.resolve() for run in runs)
    placed = tuple(
        replace(run, folder=os.path.relpath(folder, out.resolve()))  # the page finds histories and masks by it
        for run, folder in zip(comparison.runs, once, strict=True)
    )
    comparison = replace(comparison, runs=placed)
    write_comparison(comparison, out)
    log_exploratory(comparison, runs)
    shown = in_current_language(comparison)
    table = scores_table(shown)
    say_table(table.title, table.header, table.rows)
    for finding in shown.findings:
        if finding.severity != "finding" or finding.code == "what_would_decide":
            warns = finding.severity == "warning"
            say(gettext("Warning: %(text)s", text=finding.text) if warns else finding.text)
    say("Written: %(path)s, .csv, .md, .tex", path=out / "comparison.json")
    return comparison


def _runs_in(path: Path, split: str) -> list[Run]:
    """Read the run of a run folder, or the evaluated runs of a study folder."""
    from levelground.console import say
    from levelground.errors import RecordError
    from levelground.files import folders_without
    from levelground.runs import RUN_FILE, list_runs, read_run, runs_folder

    if (path / "run.json").exists():
        return [read_run(path)]
    found, cardless = list_runs(path), folders_without(runs_folder(path), RUN_FILE)
    if cardless:
        say(
            "Warning: left out, without a card (%(run_file)s): %(cardless)s.",
            run_file=RUN_FILE,
            cardless=", ".join(map(str, cardless)),
        )
    if not found:
        raise RecordError(f"{path}: no run.json and no runs/ in it. Give a run folder or a study folder.")
    ready = [run for run in found if run.counts_path(split).exists()]
    if not ready:
        raise RecordError(f"{path}: none of its runs has counts of {split}. Run `levelground evaluate` first.")
    if len(ready) < len(found):
        left = ", ".join(run.name for run in found if run not in ready)
        say("Left out, not evaluated on %(split)s: %(left)s.", split=split, left=left)
    return ready


def _common_study(runs: list[Run]) -> Path:
    """Find the study folder that all runs are in."""
    from levelground.errors import ConfigError

    if not runs:
        raise ConfigError("no run to compare. Give run folders, or a study folder with evaluated runs.")
    studies = {run.folder.resolve().parent.parent for run in runs if run.folder.resolve().parent.name == "runs"}
    if len(studies) != 1:
        raise ConfigError("the runs are not of one study. Say where to write with --out DIR.")
    return next(iter(studies))
