"""Ctrl-C and SIGTERM as a question, so that work is saved before the process ends.

Python looks at signals between its own instructions. The backward pass of a large image is one call of C++ that takes
half a minute on few cores, so :func:`look_between_layers` puts an instruction of ours between its layers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIG_DFL, SIGINT, SIGTERM, Signals, getsignal, signal
from threading import current_thread, main_thread

import torch
from torch import nn

GRACE_S = 1.0
"""How long a step may go on after it was asked to stop; a longer one is left and done again when the run goes on."""


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


def look_between_layers(network: nn.Module, look: Callable[[], None]) -> Callable[[], None]:
    """Call ``look`` after each layer's forward and before its backward; what it raises leaves the pass.

    On the CPU the backward pass runs in the thread that asked for it, so signals are seen there too. Neither values
    nor gradients change.

    Returns:
        What to call to look no more.
    """

    def forward_hook(_layer: nn.Module, _inputs: object, output: object) -> None:
        look()
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(lambda _gradient: look())  # type: ignore[no-untyped-call]

    layers = [layer for layer in network.modules() if next(layer.children(), None) is None]
    handles = [layer.register_forward_hook(forward_hook) for layer in layers]

    def look_no_more() -> None:
        for handle in handles:
            handle.remove()

    return look_no_more
