"""Ctrl-C and SIGTERM as a question, so that work is saved before the process ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIG_DFL, SIGINT, SIGTERM, Signals, getsignal, signal
from threading import current_thread, main_thread


@contextmanager
def stop_signals(ask: Callable[[], None]) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a call of ``ask``; a second one of SIGINT ends at once."""
    if current_thread() is not main_thread():
        yield  # only the main thread may handle signals
        return
    before = {number: getsignal(number) or SIG_DFL for number in (SIGINT, SIGTERM)}

    def handle(number: int, _frame: object) -> None:
        ask()
        signal(number, before[Signals(number)])

    for number in before:
        signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal(number, handler)
