"""Signals as a question."""

import os
import threading
from signal import SIG_DFL, SIGINT, SIGTERM, Signals, default_int_handler, getsignal, signal

import pytest
import torch

from levelground.signals import poll_between_layers, stop_signals


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


def test_the_second_ctrl_c_ends_at_once_though_the_first_raised() -> None:
    """As in a validation, whose answer to the first is an error, after which the state is saved."""

    def leave() -> None:
        raise KeyError("left")

    before = signal(SIGINT, default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), stop_signals(leave):
            with pytest.raises(KeyError, match="left"):
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
    monkeypatch.setattr("levelground.signals.getsignal", lambda _number: None)
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


def test_layers_are_looked_between_and_change_nothing() -> None:
    """Once for each layer forward and once backward; an error leaves the pass as it is."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(inplace=True), torch.nn.Linear(3, 1))
    values = torch.ones(4, 2)
    network(values).sum().backward()
    expected = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    looks: list[int] = []
    remove_hooks = poll_between_layers(network, lambda: looks.append(1))
    network.zero_grad()
    loss = network(values).sum()
    assert len(looks) == 3
    loss.backward()
    assert len(looks) == 6
    found = [parameter.grad for parameter in network.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True) if a is not None)

    def refuse() -> None:
        if len(looks) > 4:
            raise KeyError("no further")
        looks.append(1)

    looks.clear()
    remove_hooks()
    network(values).sum().backward()
    assert looks == []
    poll_between_layers(network, refuse)
    with pytest.raises(KeyError, match="no further"):
        network(values).sum().backward()
