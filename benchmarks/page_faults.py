"""What keeping freed memory saves in training steps on a CPU: page faults, CPU time and images a second.

Run from the project's root: ``python benchmarks/page_faults.py [--quick] [--nets unet:resnet18 …]``; about six minutes
on two cores. The old and the new setting run in processes of their own, in turns, on the same batches; weights must be
the same to the bit after the last step. Steps are counted after the first four, in which the memory that is kept is
taken for the first time; images a second are those of the median step. On a machine that others use, CPU seconds and
page faults are the figures to trust, not wall seconds. Ends with 0 where the new setting gives 1.35 times the old
one's images a second and the weights are equal. A process that takes longer than ``--limit`` seconds is ended and the
benchmark says so.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from levelground.cli import wait_passively_if_shared

TARGET = 1.35
WARM = 4
"""Steps before the clock starts."""


def measure(arch: str, encoder: str, tile: int, batch: int, steps: int, keep: bool) -> dict[str, float | str]:
    """Time steps of a network on random batches, in this process."""
    import segmentation_models_pytorch as smp
    import torch

    from levelground import runtime
    from levelground.training.step import fast_depthwise

    if not keep:
        runtime.reuse_freed_memory = lambda: False
    machine = runtime.make_runtime("cpu")
    torch.manual_seed(0)
    network = machine.place(smp.create_model(arch, encoder_name=encoder, encoder_weights=None, classes=6)).train()
    optimiser = torch.optim.AdamW(network.parameters())
    images = torch.randn(batch, 3, tile, tile).to(memory_format=torch.channels_last)
    targets = torch.randint(0, 6, (batch, tile, tile))
    before, times = resource.getrusage(resource.RUSAGE_SELF), []
    for step in range(steps + WARM):
        if step == WARM:  # the first ones make buffers, choose kernels and touch every page once
            before = resource.getrusage(resource.RUSAGE_SELF)
        started = time.perf_counter()
        with machine.autocast(), fast_depthwise(machine):
            loss = torch.nn.functional.cross_entropy(network(images).float(), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        times.append(time.perf_counter() - started)
    after = resource.getrusage(resource.RUSAGE_SELF)
    weights = b"".join(parameter.detach().numpy().tobytes() for parameter in network.parameters())
    return {
        "faults": (after.ru_minflt - before.ru_minflt) / steps,
        "user_s": (after.ru_utime - before.ru_utime) / steps,
        "system_s": (after.ru_stime - before.ru_stime) / steps,
        "images_per_s": batch / statistics.median(times[WARM:]),
        "peak_mib": after.ru_maxrss / 1024,
        "weights": hashlib.sha256(weights).hexdigest(),
    }


def main() -> int:
    """Measure in turns, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one turn of few steps")
    parser.add_argument("--nets", nargs="+", default=["unet:resnet18", "fpn:tu-tf_efficientnet_lite0"])
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds of one process at most")
    parser.add_argument("--setting", choices=("old", "new"), help=argparse.SUPPRESS)
    flags = parser.parse_args()
    steps, turns = (4, 1) if flags.quick else (12, 2)
    if flags.setting:
        arch, encoder = flags.nets[0].split(":")
        print(json.dumps(measure(arch, encoder, flags.tile, flags.batch, steps, flags.setting == "new")))
        return 0
    wait_passively_if_shared()  # as commands do; where nobody else computes, threads spin, which counts as CPU time
    met = [compare(net, flags, turns) for net in flags.nets]
    print("verdict:", "met" if all(met) else "short")
    return 0 if all(met) else 1


def compare(net: str, flags: argparse.Namespace, turns: int) -> bool:
    """Run one network with both settings in turns and print what each took; whether the target is met."""
    results: dict[str, list[dict[str, float | str]]] = {"old": [], "new": []}
    for _ in range(turns):
        for setting, found in results.items():
            asked = [f"--tile={flags.tile}", f"--batch={flags.batch}", *(["--quick"] if flags.quick else [])]
            command = [sys.executable, __file__, "--nets", net, *asked, "--setting", setting]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=flags.limit)
            except subprocess.TimeoutExpired:
                print(f"{net}, {setting}: not done after {flags.limit:g} s. Give --limit, or fewer steps with --quick.")
                return False
            found.append(json.loads(done.stdout.splitlines()[-1]))
    load = os.getloadavg()[0]
    print(f"{net}, tile {flags.tile}, batch {flags.batch}; load {load:.1f}; best of {turns}")
    least, rates = {}, {}
    for setting, found in results.items():
        cpu = min(float(one["user_s"]) + float(one["system_s"]) for one in found)
        system, faults = (min(float(one[key]) for one in found) for key in ("system_s", "faults"))
        rate, peak = (max(float(one[key]) for one in found) for key in ("images_per_s", "peak_mib"))
        least[setting], rates[setting] = cpu, rate
        print(
            f"{setting}: {cpu:.2f} CPU s a step ({system:.2f} in the kernel), {faults:,.0f} page faults a step, "
            f"{rate:.2f} images/s, peak {peak:.0f} MiB",
            flush=True,
        )
    equal = len({one["weights"] for found in results.values() for one in found}) == 1
    gain = rates["new"] / rates["old"]
    print(
        f"images/s {gain:.2f} times the old (target {TARGET}); CPU time {least['new'] / least['old']:.3f} of the old; "
        f"weights {'equal' if equal else 'UNLIKE'} to the bit",
        flush=True,
    )
    return equal and gain >= TARGET


if __name__ == "__main__":
    sys.exit(main())
