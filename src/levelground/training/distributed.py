"""Several processes on one run: the first one decides, writes and validates; the others take their part of each batch.

The others hold nothing that must be saved. So they end when the first one ends, whatever ends it, and are not asked.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Never

import torch

from levelground.errors import TrainingError
from levelground.runtime import Runtime
from levelground.training.batches import load_batches
from levelground.training.run_spec import Plan, make_stepper


@contextlib.contextmanager
def leading(runtime: Runtime) -> Iterator[None]:
    """Lead the other processes in the block; they end with it.

    Raises:
        TrainingError: One of them ended before.
    """
    if runtime.processes == 1:
        yield
        return
    try:
        yield
    except BaseException as error:
        _end_others(runtime)
        if _is_cut_off(error):
            raise TrainingError(
                "another process of this run ended. The last good state is kept: run the same command again."
            ) from error
        raise
    summon(runtime, None)
    torch.distributed.destroy_process_group()


def summon(runtime: Runtime, job: object) -> None:
    """Tell the other processes what to do next; ``None`` lets them go."""
    if runtime.processes > 1:
        runtime.fabric.broadcast(job)


def assist(runtime: Runtime, plan_of: Callable[[object, Runtime], Plan]) -> Never:
    """Take part in every run that the first process trains, then end this process.

    Args:
        runtime: Any but the first process's.
        plan_of: Makes a plan of what the first process told.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends them to all; the first process decides
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    nothing: object = None
    try:
        while (job := runtime.fabric.broadcast(nothing)) is not None:
            follow(plan_of(job, runtime))
    except RuntimeError as error:
        if not _is_cut_off(error):
            raise
        sys.exit(1)  # the first process is gone; what there was to say it has said
    torch.distributed.destroy_process_group()
    sys.exit(0)


def follow(plan: Plan) -> None:
    """Take every step of a run beside the first process."""
    stepper = make_stepper(plan)
    steps = range(stepper.align(), plan.steps)
    batches = load_batches(plan.source, steps, workers=plan.workers, pin=plan.runtime.device.type == "cuda")
    for step, batch in zip(steps, batches, strict=True):
        stepper.step(step, batch)


def _end_others(runtime: Runtime) -> None:
    """End the processes that this one started, wherever they wait; torchrun does the same with its own."""
    started = getattr(runtime.fabric.strategy.launcher, "procs", [])
    others = list(started)
    started.clear()  # Fabric watches them, and would end this process too
    for process in others:
        process.kill()
        process.wait()


def _is_cut_off(error: BaseException) -> bool:
    """Whether an error says that another process is gone; torch has no class of its own for that."""
    return isinstance(error, RuntimeError) and "onnection" in str(error) and "peer" in str(error)


def _end_with_parent(parent: int) -> None:
    """End this process when the first one is gone: killed, it tells nobody, and a GPU would wait for it for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
