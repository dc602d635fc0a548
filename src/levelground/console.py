"""Print lines, tables and progress bars for a person, on stderr."""

import contextlib
import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
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
from levelground.wording import gettext, gettext_plain, ngettext, pgettext, translated

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


_events: ContextVar[bool] = ContextVar("events", default=False)


@contextmanager
def json_lines() -> Iterator[None]:
    """Print a JSON object on stdout, too, for each line, table and progress of the block: one a line, for machines."""
    token = _events.set(True)
    try:
        yield
    finally:
        _events.reset(token)


def say_event(event: str, **content: object) -> None:
    """Print a JSON object with its time on stdout, where somebody asked for :func:`json_lines`.

    Args:
        event: What kind it is: ``line``, ``table``, ``progress``, ``error`` or ``end``.
        content: Its other keys; those without a value are left out.
    """
    if not _events.get() or sys.stdout is None:
        return
    known = {
        key: value
        for key, value in content.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
    line = json.dumps({"event": event, "time": round(time.time(), 3)} | known, ensure_ascii=False)
    sys.stdout.write(line.encode("utf-8", "replace").decode() + "\n")
    sys.stdout.flush()


def say(message: str, /, **values: object) -> None:
    """Print one line for a person, on stderr, where progress bars live too; nothing in it is taken for markup.

    Args:
        message: A message of the catalogue (:mod:`levelground.wording`), or a text that was written from one.
        values: What is filled in for ``%(name)s``, texts of errors in the current language; without any, a per cent
            sign stands for itself.
    """
    shown = {name: translated(value) if isinstance(value, str) else value for name, value in values.items()}
    text = gettext(message, **shown) if values else translated(gettext_plain(message))
    say_event("line", text=text)
    _console.print(Text(visible(text)))


def say_counted(one: str, many: str, n: int, /, **values: object) -> None:
    """Print one line whose form agrees with a number, which it may show as ``%(n)s``; otherwise as :func:`say`."""
    shown = {name: translated(value) if isinstance(value, str) else value for name, value in values.items()}
    say(ngettext(one, many, n, **shown))


def say_table(title: str, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table for a person, on stderr; the first column is left aligned, the others right."""
    header, rows = list(header), [list(row) for row in rows]
    say_event("table", title=title, header=header, rows=rows)
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

EVENT_EVERY_S = 5.0
"""How often work in progress prints a JSON object where it is asked for, seconds."""


@dataclass(frozen=True)
class _Part:
    """Larger work that a bar belongs to."""

    whole: str = ""
    after: Callable[[float], float] | None = None


_ALONE = _Part()
_part: ContextVar[_Part] = ContextVar("part", default=_ALONE)


@contextmanager
def part_of(whole: str, after: Callable[[float], float] | None = None) -> Iterator[None]:
    """Name the larger work that bars inside the block belong to, such as ``run 2 of 6``, behind their titles.

    Args:
        whole: Its name, and which part this one is.
        after: Returns how long what comes after a bar takes, seconds, where the whole bar takes so many seconds;
            ``None`` where nobody knows.
    """
    token = _part.set(_Part(whole, after))
    try:
        yield
    finally:
        _part.reset(token)


class Forecast:
    """Time left of work in parts: those to come take what parts of their kind took, by their amounts.

    A part of a kind that none was of yet goes by the mean of those that share the kind's first word.
    """

    def __init__(self, plan: Sequence[tuple[tuple[str, str], float]]) -> None:
        """Begin the first part of a plan: kind and amount of each part; an amount of 0 is done already."""
        self._plan = list(plan)
        self._paces: dict[tuple[str, str], float] = {}
        self._began, self._whole_s = time.monotonic(), 0.0

    def next(self) -> None:
        """Note that the part under way has ended and that the one after it begins."""
        if self._plan:
            kind, amount = self._plan.pop(0)
            if amount:  # a part that went on from a saved state took less than the whole of it would
                self._paces[kind] = max(self._whole_s, time.monotonic() - self._began) / amount
        self._began, self._whole_s = time.monotonic(), 0.0

    def left_s(self) -> float | None:
        """Return the time left as the part under way begins, seconds; ``None`` before one has ended."""
        return sum(self._take(self._plan, self._paces)) if self._paces else None

    def after_s(self, whole_s: float) -> float:
        """Return the time left once the part under way has ended, seconds.

        Args:
            whole_s: How long the part under way takes from its beginning to its end, as far as can be seen.
        """
        self._whole_s = whole_s
        if not self._plan:
            return 0.0
        (kind, amount), *later = self._plan
        return sum(self._take(later, self._paces | ({kind: whole_s / amount} if amount else {})))

    @staticmethod
    def _take(plan: Sequence[tuple[tuple[str, str], float]], paces: Mapping[tuple[str, str], float]) -> Iterator[float]:
        """Yield how long each part of a plan takes."""
        for kind, amount in plan:
            alike = [paces[kind]] if kind in paces else [pace for other, pace in paces.items() if other[0] == kind[0]]
            yield amount * sum(alike) / len(alike) if alike else 0.0


class Bar:
    """One progress bar; made by :func:`progress_bar`. Without a terminal it prints a line each minute."""

    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress = progress
        self._title, self._part = title, _part.get()
        named = f"{title} ({self._part.whole})" if self._part.whole else title
        progress.add_task(visible(named), total=total, note="")
        (self._task,) = progress.tasks
        self._first = 0
        self._figures: dict[str, float] = {}
        self._started = self._said = self._told = time.monotonic()

    @property
    def shown(self) -> bool:
        """True where the bar is visible."""
        return not self._progress.disable

    def advance(self, n: int = 1, *, note: str | None = None, figures: Mapping[str, float] | None = None) -> None:
        """Move on by ``n`` and show ``note`` at the right; ``figures`` are for machines."""
        self._figures |= figures or {}
        if note is None:
            self._progress.advance(self._task.id, n)
        else:
            self._progress.update(self._task.id, advance=n, note=self._with_rest(note) if self.shown else note)
        if not self.shown and time.monotonic() - self._said >= LINE_EVERY_S:
            self.say_progress()
        if time.monotonic() - self._told >= EVENT_EVERY_S:
            self._tell()

    def _with_rest(self, note: str) -> str:
        """Return a note with the time left of the larger work behind it."""
        rest = self._rest_s()
        return note if rest is None else f"{note} · {duration(rest)} left of all"

    def _tell(self) -> None:
        """Print where the work is as a JSON object, where it is asked for."""
        self._told = time.monotonic()
        say_event(
            "progress",
            task=self._title,
            part=self._part.whole or None,
            done=int(self._task.completed),
            total=None if self._task.total is None else int(self._task.total),
            left_s=self._left_s(),
            all_left_s=self._rest_s(),
            **self._figures,
        )

    def start_at(self, done: int) -> None:
        """Count units that an earlier call did: they tell nothing about the time that is left."""
        self._first = done
        self.advance(done)

    def say_progress(self, note: str | None = None, *, figures: Mapping[str, float] | None = None) -> None:
        """Print where the work is as a plain line, where no terminal shows it, and for machines.

        Args:
            note: What the line says beside counts and time left; ``None`` takes the last note.
            figures: Numbers for machines.
        """
        if figures is not None:
            self._figures |= figures
            self._tell()
        if self.shown:
            return
        self._said = time.monotonic()
        done, total = int(self._task.completed), self._task.total
        count = f"{done}" if total is None else pgettext("done", "%(done)s of %(total)s", done=done, total=int(total))
        said = self._task.fields["note"] if note is None else note
        parts = [f"{self._task.description}: {count}", said, self._left()]
        _console.print(Text(visible(", ".join(part for part in parts if part))))

    def _left(self) -> str:
        """Return the times left of this work and of the larger one, in words; nothing where they are unknown."""
        left, rest = self._left_s(), self._rest_s()
        words = [pgettext("time", "%(time)s left", time=duration(left))] if left is not None else []
        return ", ".join(words + ([pgettext("time", "%(time)s left of all", time=duration(rest))] if rest else []))

    def _left_s(self) -> float | None:
        """Return the time left by the pace so far, seconds."""
        new, remaining = self._task.completed - self._first, self._task.remaining
        if remaining is None or remaining <= 0 or new <= 0:
            return None
        return (time.monotonic() - self._started) / new * remaining

    def _rest_s(self) -> float | None:
        """Return the time left of the larger work, seconds; ``None`` where this is the last of it."""
        after, new = self._part.after, self._task.completed - self._first
        left = self._left_s() if self._task.remaining else 0.0
        if left is None or after is None or new <= 0 or not self._task.total:
            return None
        rest = after((time.monotonic() - self._started + left) * self._task.total / (self._task.total - self._first))
        return left + rest if rest else None


def duration(seconds: float) -> str:
    """Return a duration in words, rounded up: ``40 s``, ``12 min``, ``3 h 5 min``.

    >>> duration(39.2), duration(700), duration(11_100)
    ('40 s', '12 min', '3 h 5 min')
    """
    if seconds <= 90:
        return gettext("%(seconds)s s", seconds=math.ceil(seconds))
    minutes = math.ceil(seconds / 60)
    if minutes < 120:
        return gettext("%(minutes)s min", minutes=minutes)
    return gettext("%(hours)s h %(minutes)s min", hours=minutes // 60, minutes=minutes % 60)


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
        TextColumn(pgettext("progress", "left"), markup=False),
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
