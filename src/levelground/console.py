"""Print lines, tables and progress bars for a person, on stderr."""

import contextlib
import io
import math
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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

from levelground.escaping import visible

T = TypeVar("T")


class _Stderr(io.TextIOBase):
    """The standard error stream, whichever it is at the time; a closed terminal or pipe takes nothing, harmlessly."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr is not None:
                sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr is not None:
                sys.stderr.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return sys.stderr is not None and sys.stderr.isatty()
        return False

    def fileno(self) -> int:
        return -1 if sys.stderr is None else sys.stderr.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(sys.stderr, "encoding", None) or "utf-8"


_console = Console(file=_Stderr(), soft_wrap=True, highlight=False)  # type: ignore[arg-type]


def say(text: str) -> None:
    """Print one line for a person, on stderr, where progress bars live too; nothing in it is taken for markup."""
    _console.print(Text(visible(text)))


def say_table(title: str, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table for a person, on stderr; the first column is left aligned, the others right."""
    table = Table(title=Text(visible(title)), title_justify="left", show_edge=False, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(Text(visible(name)), justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    _console.print(table)


class _Note(ProgressColumn):
    """Free text of a task (loss, images a second), never markup."""

    def render(self, task: Task) -> Text:
        return Text(visible(str(task.fields.get("note", ""))))


LINE_EVERY_S = 60.0
"""How often work in progress prints a line where no terminal shows a bar, seconds."""

_part: ContextVar[str] = ContextVar("part", default="")


@contextmanager
def part_of(whole: str) -> Iterator[None]:
    """Name the larger work that bars inside the block belong to, such as ``run 2 of 6``, behind their titles."""
    token = _part.set(whole)
    try:
        yield
    finally:
        _part.reset(token)


class Bar:
    """One progress bar; made by :func:`progress_bar`. Without a terminal it prints a line each minute."""

    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress = progress
        progress.add_task(visible(f"{title} ({_part.get()})" if _part.get() else title), total=total, note="")
        (self._task,) = progress.tasks
        self._first = 0
        self._started = self._said = time.monotonic()

    @property
    def shown(self) -> bool:
        """True where the bar is visible."""
        return not self._progress.disable

    def advance(self, n: int = 1, *, note: str | None = None) -> None:
        """Move on by ``n`` and show ``note`` at the right."""
        if note is None:
            self._progress.advance(self._task.id, n)
        else:
            self._progress.update(self._task.id, advance=n, note=note)
        if not self.shown and time.monotonic() - self._said >= LINE_EVERY_S:
            self.say_progress()

    def start_at(self, done: int) -> None:
        """Count units that an earlier call did: they tell nothing about the time that is left."""
        self._first = done
        self.advance(done)

    def say_progress(self, note: str | None = None) -> None:
        """Print where the work is as a plain line, where no terminal shows it.

        Args:
            note: What the line says beside counts and time left; ``None`` takes the last note.
        """
        if self.shown:
            return
        self._said = time.monotonic()
        done, total = int(self._task.completed), self._task.total
        count = f"{done}" if total is None else f"{done} of {int(total)}"
        said = self._task.fields["note"] if note is None else note
        parts = [f"{self._task.description}: {count}", said, self._left()]
        say(", ".join(part for part in parts if part))

    def _left(self) -> str:
        """Return the time left by the pace so far, in words; nothing where it is unknown."""
        new, remaining = self._task.completed - self._first, self._task.remaining
        if remaining is None or remaining <= 0 or new <= 0:
            return ""
        seconds = (time.monotonic() - self._started) / new * remaining
        return f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    """Return a duration in words, rounded up: ``40 s``, ``12 min``, ``3 h 5 min``.

    >>> duration(39.2), duration(700), duration(11_100)
    ('40 s', '12 min', '3 h 5 min')
    """
    if seconds <= 90:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Bar]:
    """Show a bar with count, time gone and time left while the block runs; without a terminal, a line each minute.

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
