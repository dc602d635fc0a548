"""How much of the bare training step the real loop keeps, and how it compares with a plain fp32 loop.

Run from the project's root: ``python benchmarks/training.py [--quick] [--arch unet] [--encoder resnet18]``. Prints
images/s of the real loop as a share of the bare step on a batch that stays on the device (target .93), and as a
multiple of a plain fp32 loop on the same crops (target 3 for U-Net on a CPU with AMX; printed without a target
elsewhere), and what the bare step gains by float32 for the gradients of depthwise convolutions that oneDNN computes
slowly in bfloat16 (on a CPU; --encoder tu-tf_efficientnet_lite0 has such ones). All are timed in one process, in
turns; medians.
"""

import argparse
import contextlib
import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from levelground import Budget, Dataset, Recipe, load_recipe, read_history
from levelground.datasets.prepare import PrepareOptions, prepare_dataset
from levelground.runs import write_card
from levelground.runtime import Runtime, make_runtime
from levelground.synthetic.scenes import write_scenes
from levelground.training.loop import train
from levelground.training.losses import make_loss
from levelground.training.prepare_run import make_job, new_card
from levelground.training.run_spec import RunSpec, TrainingJob, fit_recipe, make_stepper
from levelground.training.step import fast_depthwise, to_device

SHARE_TARGET, MULTIPLE_TARGET = 0.93, 3.0


def prepared(folder: Path) -> Dataset:
    """A small generated study; the pixels' content does not change the speed."""
    write_scenes(folder / "data", n=6, size=1024, seed=0)
    return prepare_dataset(PrepareOptions(data=folder / "data", out=folder / "study", cache=folder / "cache"))


def planned(
    dataset: Dataset, arch: str, recipe: Recipe, steps: int, folder: Path, runtime: Runtime
) -> tuple[TrainingJob, RunSpec]:
    """A run that is ready to train ``steps`` steps."""
    spec = RunSpec(arch, 0, fit_recipe(recipe, dataset), Budget(steps=steps))
    return make_job(spec, dataset, folder, runtime, None), spec


def loop_rate(job: TrainingJob, spec: RunSpec) -> float:
    """Images a second of the real loop, history and checks included, validation not: the median of its steps."""
    job.folder.mkdir(parents=True)
    card = new_card(job, spec)
    write_card(job.folder, card)
    train(job, card)
    rates = [line.images_per_s or 0.0 for line in read_history(job.folder) if line.kind == "step"]
    return statistics.median(rates[len(rates) // 4 :])


def synchronise(runtime: Runtime) -> None:
    """Wait for the device."""
    if runtime.device.type == "cuda":
        torch.cuda.synchronize()


def bare_rate(job: TrainingJob, steps: int, *, fast: bool = True) -> float:
    """Images a second of the step alone, on one batch that stays where it is; ``fast`` as the loop does it."""
    stepper, batch = make_stepper(job), job.source[0]
    network, runtime = stepper.model.network.train(), job.runtime
    images, targets = to_device(batch, stepper.model, runtime)
    loss_function = make_loss(job.recipe.loss)
    times = []
    for _ in range(steps):
        started = time.perf_counter()
        with runtime.autocast(), fast_depthwise(runtime) if fast else contextlib.nullcontext():
            logits = network(images)
        loss = loss_function(logits, targets)
        stepper.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), job.recipe.clip)
        stepper.optimiser.step()
        synchronise(runtime)
        times.append(time.perf_counter() - started)
    return job.recipe.batch / statistics.median(times[len(times) // 4 :])


def plain_rate(job: TrainingJob, steps: int) -> float:
    """Images a second of a loop as one writes it first: fp32, channels first, crops made between the steps."""
    network = job.model.network.to(job.runtime.device, memory_format=torch.contiguous_format).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=job.recipe.lr)
    loss_function = make_loss(job.recipe.loss)
    times = []
    for number in range(steps):
        started = time.perf_counter()
        batch = job.source[number]
        images = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float().contiguous().to(job.runtime.device) / 255
        targets = torch.from_numpy(batch.targets).long().to(job.runtime.device)
        loss = loss_function(network(images), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        synchronise(job.runtime)
        times.append(time.perf_counter() - started)
    return job.recipe.batch / statistics.median(times[len(times) // 4 :])


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller tile, fewer steps")
    parser.add_argument("--arch", default="unet")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--batch", type=int, default=4)
    flags = parser.parse_args()
    tile, steps, rounds = (256, 8, 2) if flags.quick else (512, 12, 3)
    recipe = dataclasses.replace(
        load_recipe(), encoder=flags.encoder, encoder_weights="none", tile=tile, batch=flags.batch, validations=1
    )
    runtime = make_runtime()
    if runtime.device.type == "cuda":
        steps *= 20
    bare, slow, loop, plain = [], [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        dataset = prepared(Path(temporary))
        for number in range(rounds):
            job, spec = planned(dataset, flags.arch, recipe, steps, Path(temporary) / f"run-{number}", runtime)
            bare.append(bare_rate(job, steps))
            job, spec = planned(dataset, flags.arch, recipe, steps, Path(temporary) / f"run-{number}", runtime)
            slow.append(bare_rate(job, steps, fast=False))
            job, spec = planned(dataset, flags.arch, recipe, steps, Path(temporary) / f"run-{number}", runtime)
            loop.append(loop_rate(job, spec))
            job, _ = planned(dataset, flags.arch, recipe, steps, Path(temporary) / f"plain-{number}", runtime)
            plain.append(plain_rate(job, max(3, steps // 3)))
    share = statistics.median(a / b for a, b in zip(loop, bare, strict=True))
    multiple = statistics.median(a / b for a, b in zip(loop, plain, strict=True))
    amx = Path("/proc/cpuinfo").exists() and "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    judged = runtime.device.type == "cpu" and amx and flags.arch == "unet"
    settings = f"{flags.arch} {flags.encoder} {tile}x{tile} batch {flags.batch} {runtime.precision}"
    print(f"hardware: {runtime.describe()['hardware']}; {settings}")
    print(f"bare step on a resident batch: {statistics.median(bare):.2f} images/s")
    gain = statistics.median(a / b for a, b in zip(bare, slow, strict=True))
    print(
        f"the same with all gradients in {runtime.precision}: {statistics.median(slow):.2f} images/s; gain {gain:.2f}"
    )
    print(f"real loop: {statistics.median(loop):.2f} images/s = {share:.3f} of the bare step (target {SHARE_TARGET})")
    target = f"target {MULTIPLE_TARGET}" if judged else "no target: not a CPU with AMX"
    print(
        f"plain fp32 loop: {statistics.median(plain):.2f} images/s; the real loop is {multiple:.2f} times it ({target})"
    )
    met = share >= SHARE_TARGET and (not judged or multiple >= MULTIPLE_TARGET)
    print("verdict:", "met" if met else "short")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
