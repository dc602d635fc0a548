"""Print lines, tables and progress bars for a person, on stderr."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

_console = Console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print one line for a person, on stderr, where progress bars live too; nothing in it is taken for markup."""
    _console.print(Text(text))


def say_table(title: str, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table for a person, on stderr; the first column is left aligned, the others right."""
    table = Table(title=Text(title), title_justify="left", show_edge=False, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(Text(name), justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _console.print(table)


class _Note(ProgressColumn):
    """Free text of a task (loss, images a second), never markup."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("note", "")))


class Bar:
    """One progress bar; made by :func:`progress_bar`."""

    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, note="")

    @property
    def shown(self) -> bool:
        """True where the bar is visible."""
        return not self._progress.disable

    def advance(self, n: int = 1, *, note: str | None = None) -> None:
        """Move on by ``n`` and show ``note`` at the right."""
        if note is None:
            self._progress.advance(self._task, n)
        else:
            self._progress.update(self._task, advance=n, note=note)


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Bar]:
    """Show a bar with count, time gone and time left while the block runs.

    Args:
        title: What is being done, such as ``train unet s0``.
        total: Number of units, or ``None`` where it is unknown.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(),
        _Note(),
    )
    # Where nobody watches, as in a log file, a bar would leave empty lines.
    with Progress(*columns, console=_console, transient=True, disable=not _console.is_terminal) as progress:
        yield Bar(progress, title, total)


def track(items: Iterable[T], title: str, total: int | None) -> Iterator[T]:
    """Yield ``items`` under a progress bar."""
    with progress_bar(title, total) as bar:
        for item in items:
            yield item
            bar.advance()
