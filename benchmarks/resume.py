"""What it costs to save a training state, and to go on from one.

Run from the project's root: ``python benchmarks/resume.py [--quick] [--arch unet] [--encoder resnet18]``. Prints the
seconds of a save as a share of the default interval between two (target .02), and the seconds from the loaded state to
the start of the first step, less those of the same start without a state (target 1 s). Medians.
"""

import argparse
import dataclasses
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from levelground import Budget, Dataset, load_recipe
from levelground.config import RunOptions
from levelground.datasets.prepare import PrepareOptions, prepare_dataset
from levelground.runtime import Runtime, make_runtime
from levelground.synthetic.scenes import write_scenes
from levelground.training import loop as training
from levelground.training.batches import Batch
from levelground.training.checkpoint import load_state, state_paths
from levelground.training.prepare_run import make_job, new_card, train_run
from levelground.training.run_spec import RunSpec, fit_recipe
from levelground.training.step import Stepper

SHARE_TARGET, RESUME_TARGET_S = 0.02, 1.0


def saves(spec: RunSpec, dataset: Dataset, study: Path, runtime: Runtime, rounds: int) -> tuple[list[float], float]:
    """Seconds of each save after a first step, and the size of a state in MiB."""
    folder = study / "saves"
    folder.mkdir(parents=True)
    job = make_job(spec, dataset, folder, runtime, None)
    loop = training._Loop(job, new_card(job, spec))
    loop.stepper.step(0, job.source[0])  # the optimiser has its moments from then on
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        loop._save()
        times.append(time.perf_counter() - started)
    return times[1:], state_paths(folder)[0].stat().st_size / 2**20


def first_step(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of loading the state, and from then to the start of the first step, where the run is stopped."""
    loading, loaded, begun = 0.0, 0.0, 0.0
    gradients = Stepper.gradients

    def timed_load(folder: Path) -> object:
        nonlocal loading, loaded
        started = time.perf_counter()
        state = load_state(folder)
        loaded = time.perf_counter()
        loading = loaded - started
        return state

    def timed_step(self: Stepper, number: int, batch: Batch) -> torch.Tensor:
        nonlocal begun
        begun = begun or time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)
        return gradients(self, number, batch)

    training.load_state, Stepper.gradients = timed_load, timed_step  # type: ignore[assignment, method-assign]
    try:
        run()
    except KeyboardInterrupt:
        return loading, begun - loaded
    finally:
        training.load_state, Stepper.gradients = load_state, gradients  # type: ignore[method-assign]
    raise AssertionError("the run was not stopped")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--arch", default="unet")
    parser.add_argument("--encoder", default="resnet18")
    flags = parser.parse_args()
    rounds, interval_s = 2 if flags.quick else 7, RunOptions().save_every
    recipe = dataclasses.replace(
        load_recipe(), encoder=flags.encoder, encoder_weights="none", tile=64, halo=8, batch=2, validations=1
    )
    runtime, anew, again, loading = make_runtime(), [], [], []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as temporary:  # the disk of the project, not one in memory
        folder = Path(temporary)
        write_scenes(folder / "data", n=6, size=128, seed=0)
        dataset = prepare_dataset(PrepareOptions(data=folder / "data", out=folder / "study", cache=folder / "cache"))
        spec = RunSpec(flags.arch, 0, fit_recipe(recipe, dataset), Budget(steps=1000))
        times, size_mib = saves(spec, dataset, folder, runtime, rounds)
        for number in range(rounds):
            study = folder / f"study-{number}"
            _, without = first_step(lambda study=study: train_run(spec, dataset, study, runtime))  # type: ignore[misc]
            read, after = first_step(lambda study=study: train_run(spec, dataset, study, runtime))  # type: ignore[misc]
            anew.append(without)
            again.append(after)
            loading.append(read)
    save_s = statistics.median(times)
    extra_s = statistics.median(again) - statistics.median(anew)
    print(f"hardware: {runtime.describe()['hardware']}; {flags.arch} {flags.encoder}, a state of {size_mib:.0f} MiB")
    print(f"saving: {save_s:.2f} s every {interval_s:g} s = {save_s / interval_s:.4f} (target {SHARE_TARGET})")
    print(f"loading a state: {statistics.median(loading):.2f} s")
    print(f"going on after loading: {extra_s:.3f} s more than starting anew (target {RESUME_TARGET_S:g})")
    met = save_s / interval_s <= SHARE_TARGET and extra_s <= RESUME_TARGET_S
    print("verdict:", "met" if met else "short")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
