"""Signals as a question."""

import os
import threading
from signal import SIG_DFL, SIGINT, SIGTERM, Signals, default_int_handler, getsignal, signal

import pytest

from levelground.learning.stopping import stop_signals


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_the_first_signal_asks(number: Signals) -> None:
    """Work goes on; the handlers of before are back afterwards."""
    before = getsignal(SIGINT), getsignal(SIGTERM)
    asked = []
    with stop_signals(lambda: asked.append(1)):
        os.kill(os.getpid(), number)
        assert asked == [1]
    assert (getsignal(SIGINT), getsignal(SIGTERM)) == before


def test_the_second_ctrl_c_ends_at_once() -> None:
    """Whoever presses twice does not want to wait."""
    before = signal(SIGINT, default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), stop_signals(lambda: None):
            os.kill(os.getpid(), SIGINT)
            os.kill(os.getpid(), SIGINT)
    finally:
        signal(SIGINT, before)


def test_handlers_come_back_after_an_error() -> None:
    """Whatever happens inside."""
    before = getsignal(SIGINT)
    with pytest.raises(ValueError, match="inside"), stop_signals(lambda: None):
        raise ValueError("inside")
    assert getsignal(SIGINT) is before


def test_a_handler_that_python_does_not_know_becomes_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program around us may have set one in C."""
    monkeypatch.setattr("levelground.learning.stopping.getsignal", lambda _number: None)
    before = getsignal(SIGTERM)
    try:
        with stop_signals(lambda: None):
            os.kill(os.getpid(), SIGTERM)
            assert getsignal(SIGTERM) == SIG_DFL
    finally:
        signal(SIGTERM, before)
        signal(SIGINT, default_int_handler)


def test_other_threads_leave_signals_alone() -> None:
    """Only the main thread may handle them."""
    before = getsignal(SIGINT)
    seen = []

    def work() -> None:
        with stop_signals(lambda: None):
            seen.append(getsignal(SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
