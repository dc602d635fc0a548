"""Where and how tensors are computed: device, precision, memory format, threads, processes (Lightning Fabric).

Torch is imported by what needs it, and Lightning Fabric by training alone: a model that another engine runs needs
neither (:func:`open_array_runtime`).
"""

import contextlib
import ctypes
import dataclasses
import logging
import os
import platform
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypedDict

from levelground.config import DeviceName, DeviceOptions, PrecisionName, RunOptions
from levelground.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

DeviceKind = Literal["cpu", "cuda", "mps"]

_FabricPrecision = Literal["32-true", "bf16-mixed"]
_PRECISION: dict[str, _FabricPrecision] = {"fp32": "32-true", "bf16": "bf16-mixed"}
"""Fabric's names."""

_MOST_STREAMS = 2


class RuntimeFacts(TypedDict):
    """Facts on a run card about its runtime, by their keys."""

    device: str
    precision: str
    threads: int
    processes: int
    deterministic: bool
    hardware: str


@dataclass(frozen=True)
class Runtime:
    """A device and how to compute on it."""

    device_kind: DeviceKind
    precision: Literal["fp32", "bf16"]
    threads: int
    """Threads of the CPU that are computed with."""
    deterministic: bool
    """Whether the same command gives the same bits every time: on a CPU, and on a GPU that was asked for it."""
    launched: "Fabric | None" = None
    """What started this process as one of several; ``None`` for a process alone."""

    @property
    def device(self) -> "torch.device":
        """The device that tensors go to."""
        import torch

        if self.launched is not None:
            return self.launched.device
        return torch.device("cuda", 0) if self.device_kind == "cuda" else torch.device(self.device_kind)

    @cached_property
    def fabric(self) -> "Fabric":
        """What sets up networks and optimisers for training, on this device alone or beside other processes."""
        if self.launched is not None:
            return self.launched
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.single_device import SingleDeviceStrategy

        _quiet_fabric()
        strategy = SingleDeviceStrategy(self.device)
        precision = _PRECISION[self.precision]
        return Fabric(
            accelerator=self.device_kind, devices=1, strategy=strategy, precision=precision, plugins=[_environment()]
        )

    @property
    def channels_last(self) -> bool:
        """Whether images lie in memory pixel by pixel; faster on CPUs and tensor cores, not offered on MPS."""
        return self.device_kind != "mps"

    @property
    def streams(self) -> int:
        """How many tiles OpenVINO runs at a time, each with its share of the threads; each takes memory of its own."""
        return min(self.threads, _MOST_STREAMS)

    @property
    def rank(self) -> int:
        """The number of this process among those of a run, from 0; the first alone writes."""
        return 0 if self.launched is None else int(self.launched.global_rank)

    @property
    def processes(self) -> int:
        """How many processes share each batch."""
        return 1 if self.launched is None else int(self.launched.world_size)

    def single_process(self) -> "Runtime":
        """Return the same runtime without the other processes, for work that only this one does."""
        if self.processes == 1:
            return self
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.single_device import SingleDeviceStrategy

        strategy = SingleDeviceStrategy(self.device)
        precision = _PRECISION[self.precision]
        fabric = Fabric(
            accelerator=self.device_kind, devices=1, strategy=strategy, precision=precision, plugins=[_environment()]
        )
        return dataclasses.replace(self, launched=fabric)

    def autocast(self) -> AbstractContextManager[None]:
        """Compute in the chosen precision inside the block."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        import torch

        return torch.autocast(self.device_kind, dtype=torch.bfloat16)

    def place(self, network: "torch.nn.Module") -> "torch.nn.Module":
        """Move a network to the device in the memory format that suits it."""
        import torch

        network = network.to(self.device)
        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)
        return network

    def describe(self) -> RuntimeFacts:
        """Return device, precision, threads and hardware, for the run card."""
        return {
            "device": self.device_kind,
            "precision": self.precision,
            "threads": self.threads,
            "processes": self.processes,
            "deterministic": self.deterministic,
            "hardware": hardware(self.device),
        }


def open_runtime(device: DeviceOptions, run: RunOptions | None = None) -> Runtime:
    """Make the runtime that a command's options ask for; ``run`` is given by commands that train."""
    if run is None:
        return make_runtime(device.device, device.precision, threads=device.threads)
    return make_runtime(
        device.device,
        device.precision,
        threads=device.threads,
        processes=run.processes,
        deterministic=run.deterministic,
    )


def make_runtime(
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    *,
    threads: int | None = None,
    deterministic: bool = False,
    processes: int | None = 1,
) -> Runtime:
    """Choose device, precision and threads.

    Args:
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        precision: ``auto`` takes bf16 where the hardware multiplies it natively, else fp32.
        threads: CPU threads; ``None`` takes the cores this process may use.
        deterministic: Let CUDA use only algorithms that repeat to the bit, and refuse what has none.
        processes: How many share each batch, one device each. More than one starts the others, which run the same
            command from its begin up to here; ``None`` takes as many as torchrun started, else one.
    Returns:
        The runtime; torch's thread number is set.
    Raises:
        ConfigError: The device is not there, or there are fewer than processes.
    """
    import torch

    name = _present_device(device)
    if name == "cpu":
        reuse_freed_memory()
    kind: Literal["fp32", "bf16"] = _native_precision(name) if precision == "auto" else precision
    if name == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = not deterministic
        if deterministic:
            require_determinism()
    nodes, devices = _machines(processes, name)
    launched = None if nodes * devices == 1 else _launch(name, nodes, devices, _PRECISION[kind])
    threads = threads or max(1, available_cores() // devices)
    torch.set_num_threads(threads)
    return Runtime(name, kind, threads, deterministic or name == "cpu", launched)


def open_array_runtime(device: DeviceOptions, *, engine: Literal["onnx", "openvino"] = "onnx") -> Runtime:
    """Make the runtime of a model that another engine than torch runs, without importing torch.

    Raises:
        ConfigError: The device or precision is not one of the engine's; ONNX files run on CUDA where onnxruntime can.
    """
    threads, kind = device.threads or available_cores(), device.device
    if kind == "mps":
        raise ConfigError("--device mps: only networks of torch run there. Give --device cpu, or --engine torch.")
    if engine == "openvino":
        kind = refuse_other_device(kind)
    elif kind != "cpu":
        can = onnxruntime_has_cuda()
        if kind == "cuda" and not can:
            raise ConfigError(
                "--device cuda: the installed onnxruntime runs on the CPU only. Install onnxruntime-gpu, or give "
                "--device cpu."
            )
        kind = "cuda" if can else "cpu"
    fast = device.precision == "bf16" or (
        engine == "openvino" and device.precision == "auto" and bool(_BF16_FLAGS & _cpu_flags())
    )
    return Runtime(kind, "bf16" if fast else "fp32", threads, deterministic=kind == "cpu")


def refuse_other_device(device: DeviceName) -> Literal["cpu"]:
    """Refuse devices that OpenVINO does not run on here.

    Raises:
        ConfigError: It is not the CPU.
    """
    if device not in ("auto", "cpu"):
        raise ConfigError(f"--device {device}: OpenVINO runs on the CPU here. Give --device cpu, or another --engine.")
    return "cpu"


def onnxruntime_has_cuda() -> bool:
    """Tell whether onnxruntime is there and has a provider for CUDA."""
    try:
        import onnxruntime
    except ImportError:
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _quiet_fabric() -> None:
    """Silence what Fabric tells of its choices, which stand on the run card."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""What Linux calls the multiplication of bfloat16 in hardware."""

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of glibc's ``mallopt``, by their numbers in ``malloc.h``."""


def reuse_freed_memory() -> bool:
    """Let glibc keep freed memory for the next allocation, where it would give large blocks back to the kernel at once.

    Each activation of a network is such a block, and the kernel maps and clears its pages anew in every step
    (``benchmarks/page_faults.py``). No value that is computed changes.

    Returns:
        Whether it was done: on Linux with glibc, unless the user set malloc's own variables or another allocator.
    """
    own = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "LD_PRELOAD"}
    if sys.platform != "linux" or own & os.environ.keys() or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None or platform.libc_ver()[0] != "glibc":
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 16 << 20))  # -1: never give back
    done: list[int] = [mallopt(parameter, value) for parameter, value in settings]
    return 0 not in done


def require_determinism() -> None:
    """Let torch use only algorithms that give the same bits every time; an operation without one raises an error."""
    import torch

    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(True)


def _machines(processes: int | None, device: str) -> tuple[int, int]:
    """Return the number of machines, and of processes on each."""
    import torch

    if processes != 1 and torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        world, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if processes not in (None, world):
            raise ConfigError(f"--processes {processes}: torchrun started {world}. Drop the flag.")
        return world // here, here
    processes = processes or 1
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, processes)
    if processes > there:
        raise ConfigError(f"--processes {processes}: there are {there} devices of kind {device}. Give at most {there}.")
    return 1, processes


def _environment() -> "ClusterEnvironment":
    """Return who starts the processes: torchrun or this one. Slurm never does, also where a job of it runs this."""
    import torch
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    launched = torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()
    return TorchElasticEnvironment() if launched else LightningEnvironment()


def _launch(device: str, nodes: int, devices: int, precision: _FabricPrecision) -> "Fabric":
    """Start the other processes, or join those that torchrun started."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    _quiet_fabric()
    strategy = DDPStrategy(
        # The first process validates and evaluates while the others wait.
        timeout=timedelta(days=7),
        # PSPNet leaves the last layers of its encoder unused. This also keeps the order in which gradients are summed
        # the same from the first step on, so that a run that is gone on with stays identical.
        find_unused_parameters=True,
    )
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        precision=precision,
        plugins=[_environment()],
    )
    fabric.launch()
    return fabric


def _present_device(device: DeviceName) -> DeviceKind:
    import torch

    order: tuple[DeviceKind, ...] = ("cuda", "mps", "cpu")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in order if present[name])
    if not present[device]:
        names = ", ".join(name for name, there in present.items() if there)
        raise ConfigError(f"--device {device}: torch {torch.__version__} sees none here. Give one of: {names}, auto.")
    return device


def _native_precision(device: str) -> Literal["fp32", "bf16"]:
    import torch

    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device == "cpu":
        # AVX512_BF16 or AMX; without them bf16 is emulated and slower than fp32.
        flags = torch.backends.cpu.get_cpu_capability(), _cpu_flags()
        return "bf16" if flags[0].startswith("AVX512") and _BF16_FLAGS & flags[1] else "fp32"
    return "fp32"


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a kernel file, not a user's path
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return set()
    return set(line.split())


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def busy_share(seconds: float = 0.2) -> float:
    """Measure how busy this machine's processors are while this process sleeps, from 0 to 1.

    Returns:
        The share; 1 where the system does not tell, as on any but Linux.
    """

    def read() -> tuple[int, int]:
        with open("/proc/stat", encoding="utf-8") as file:  # noqa: PTH123 - a kernel file, not a user's path
            times = [int(word) for word in file.readline().split()[1:9]]
        return sum(times), times[3] + times[4]  # idle, and waiting for a disk

    try:
        before = read()
        time.sleep(seconds)
        passed, idle = (after - was for after, was in zip(read(), before, strict=True))
    except (OSError, ValueError, IndexError):
        return 1.0
    return 1 - idle / passed if passed else 1.0


def hardware(device: "torch.device | None" = None) -> str:
    """Return a name for the processor, such as ``AMD EPYC, 2 cores`` or ``NVIDIA H100 80GB HBM3``.

    Args:
        device: The device; ``None`` names the CPU, without importing torch.
    """
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a kernel file, not a user's path
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        model = ""
    return f"{model or platform.processor() or platform.machine()}, {available_cores()} cores"


def versions() -> dict[str, str]:
    """Return the versions of the libraries that weights depend on, for the run card."""
    import numpy
    import segmentation_models_pytorch
    import timm
    import torch

    from levelground import __version__

    return {
        "levelground": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "segmentation_models_pytorch": segmentation_models_pytorch.__version__,
        "timm": timm.__version__,
        "numpy": numpy.__version__,
    }


def peak_memory_mib(device: "torch.device") -> float | None:
    """Return the most memory that was in use so far, MiB: the device's where it has its own, else the process's.

    ``None`` where the system does not say, as on Windows.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if platform.system() == "Darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
