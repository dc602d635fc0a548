"""Interrupts: Ctrl-C, SIGTERM and SIGHUP ask a loop to stop, so that work is saved before the process ends.

Python looks at signals between its own instructions. The backward pass of a large image is one call of C++ that takes
half a minute on few cores, so :func:`poll_between_layers` puts an instruction of ours between its layers.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from signal import SIG_DFL, SIG_IGN, SIGINT, SIGTERM, Signals, getsignal, signal
from threading import Thread, current_thread, main_thread
from typing import TYPE_CHECKING

from levelground.errors import INTERRUPTED

if TYPE_CHECKING:
    import torch

_STOPPING = tuple(Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in Signals.__members__)
"""Signals that ask to stop; Windows has no SIGHUP."""

ABANDONED_S = 120.0
"""How long a process goes on after the one that started it is gone, if saving its state takes so long, seconds."""

GRACE_S = 1.0
"""Longest time that a step may take after a signal; a longer one is left, and done again when the run is resumed."""


@contextmanager
def stop_signals(on_stop: Callable[[], None]) -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a call of ``on_stop``; a second one of SIGINT ends at once.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    if current_thread() is not main_thread():
        yield  # only the main thread may handle signals
        return
    before = {number: getsignal(number) or SIG_DFL for number in _STOPPING}
    before = {
        number: handler for number, handler in before.items() if number in (SIGINT, SIGTERM) or handler != SIG_IGN
    }

    def handle(number: int, _frame: object) -> None:
        signal(number, before[Signals(number)])  # first: what is called may raise
        on_stop()

    for number in before:
        signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal(number, handler)


def on_input_end(call: Callable[[], None]) -> None:
    """Call a function, in a thread, when the standard input ends: its other end is the process that started this one.

    Args:
        call: What to do; the main thread goes on meanwhile.
    """

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 4096):  # a reader of sys.stdin would still hold it when Python ends
                pass
        call()

    Thread(target=watch, daemon=True).start()


def stop_with_starter() -> None:
    """Stop, as after SIGTERM, when the process that started this one is gone: its end of the standard input closes."""

    def stop() -> None:
        os.kill(os.getpid(), SIGTERM)
        time.sleep(ABANDONED_S)
        os._exit(INTERRUPTED)

    on_input_end(stop)


def poll_between_layers(network: "torch.nn.Module", poll: Callable[[], None]) -> Callable[[], None]:
    """Call ``poll`` after the forward pass of each layer and before its backward pass; what it raises ends the pass.

    On the CPU the backward pass runs in the thread that started it, so signals are seen there too. Neither values
    nor gradients change.

    Returns:
        A function that removes the hooks.
    """
    import torch
    from torch import nn

    def forward_hook(_layer: nn.Module, _inputs: object, output: object) -> None:
        poll()
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(lambda _gradient: poll())  # type: ignore[no-untyped-call]

    layers = [layer for layer in network.modules() if next(layer.children(), None) is None]
    handles = [layer.register_forward_hook(forward_hook) for layer in layers]

    def remove_hooks() -> None:
        for handle in handles:
            handle.remove()

    return remove_hooks
