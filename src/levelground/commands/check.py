"""Verify every file of a study against its checksum, and say file by file what is damaged and what to redo."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

if TYPE_CHECKING:
    from levelground.integrity import CheckedFolder


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CheckConfig:
    """Options of ``check``."""

    study: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STUDY")]
    """Study folder, or a run, export, report or folder of maps; decoded scenes of a data set are checked with it."""


def check(config: CheckConfig) -> "CheckedFolder":
    """Verify every file below a folder. Nothing is changed.

    Args:
        config: Which folder.
    Returns:
        Each file with what is wrong with it and what to redo; the exit status is 2 where one is damaged or missing.
    Raises:
        RecordError: There is no such folder, or it holds nothing that levelground wrote.
    """
    from levelground.comparison.text import listing
    from levelground.console import say, say_counted
    from levelground.integrity import check_folder

    checked = check_folder(config.study)
    for file in checked.damaged:
        say("%(path)s: %(fault)s. %(redo)s", path=str(file.path), fault=file.fault, redo=file.redo)
    if checked.unhashed:
        paths = listing([str(file.path) for file in checked.unhashed], most=3)
        say_counted(
            "%(n)s file has no checksum: %(paths)s.",
            "%(n)s files have no checksum: %(paths)s.",
            len(checked.unhashed),
            paths=paths,
        )
    sound = len(checked.files) - len(checked.damaged) - len(checked.unhashed)
    if checked.damaged:
        say_counted(
            "%(study)s: %(n)s of %(total)s files is damaged or missing.",
            "%(study)s: %(n)s of %(total)s files are damaged or missing.",
            len(checked.damaged),
            study=config.study,
            total=len(checked.files),
        )
    else:
        say_counted(
            "%(study)s: %(n)s file is as it was written.",
            "%(study)s: %(n)s files are as they were written.",
            sound,
            study=config.study,
        )
    return checked
