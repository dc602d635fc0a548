"""Data-parallel training: the main process plans, logs and saves; the others compute their share of each batch.

The others hold nothing that must be saved. They end when the main process ends, whatever the reason.
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
from levelground.training.run_spec import TrainingJob, make_course, make_stepper


@contextlib.contextmanager
def main_process(runtime: Runtime, make_job: Callable[[object, Runtime], TrainingJob]) -> Iterator[None]:
    """Run the block in the main process alone; the others take part in what it trains, and end with it.

    Args:
        runtime: Where to compute; in other processes than the main one the block is never entered.
        make_job: Makes a job of what the main process broadcasts.
    Raises:
        TrainingError: Another process ended before the block did.
    """
    if runtime.rank:
        run_worker(runtime, make_job)
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
    broadcast_job(runtime, None)
    torch.distributed.destroy_process_group()


def broadcast_job(runtime: Runtime, request: object) -> None:
    """Tell the other processes what to train next; ``None`` ends them."""
    if runtime.processes > 1:
        runtime.fabric.broadcast(request)


def run_worker(runtime: Runtime, make_job: Callable[[object, Runtime], TrainingJob]) -> Never:
    """Take part in every run that the main process trains, then end this process.

    Args:
        runtime: Any but the main process's.
        make_job: Makes a job of what the main process broadcasts.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends them to all; the main process decides
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    nothing: object = None
    try:
        while (request := runtime.fabric.broadcast(nothing)) is not None:
            train_share(make_job(request, runtime))
    except RuntimeError as error:
        if not _is_cut_off(error):
            raise
        sys.exit(1)  # the main process is gone and has said why
    torch.distributed.destroy_process_group()
    sys.exit(0)


def train_share(job: TrainingJob) -> None:
    """Take every step of a run beside the main process, on this process's share of each batch."""
    stepper, course = make_stepper(job), make_course(job)
    stepper.rate = course.factor
    step = stepper.synchronise()
    steps = course.steps_from(step)
    batches = load_batches(job.source, steps, workers=job.workers)
    with contextlib.closing(batches):
        while (stretch := course.advance(step)) is not None:
            for number in range(step, stretch.last):
                stepper.step(number, next(batches))
            step = stretch.last


def _end_others(runtime: Runtime) -> None:
    """End the processes that this one started, wherever they wait; torchrun does the same with its own."""
    started = getattr(runtime.fabric.strategy.launcher, "procs", [])
    others = list(started)
    started.clear()  # Fabric watches them, and would end this process too
    for process in others:
        process.kill()
        process.wait()


def _is_cut_off(error: BaseException) -> bool:
    """Tell whether an error says that another process is gone; torch has no class of its own for that."""
    return isinstance(error, RuntimeError) and "onnection" in str(error) and "peer" in str(error)


def _end_with_parent(parent: int) -> None:
    """End this process when the main one is gone: a killed process sends no message, and a GPU would wait for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
