"""Where and how tensors are computed: device, precision, memory format, threads, processes (Lightning Fabric)."""

import logging
import os
import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from lightning_fabric import Fabric

from levelground.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
PrecisionName = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Runtime:
    """A device and how to compute on it."""

    fabric: Fabric
    precision: Literal["fp32", "bf16"]
    threads: int
    """Threads of the CPU that torch computes with."""
    deterministic: bool
    """Whether the device was asked for algorithms that give the same bits every time."""

    @property
    def device(self) -> torch.device:
        """The device that tensors go to."""
        return self.fabric.device

    @property
    def channels_last(self) -> bool:
        """Whether images lie in memory pixel by pixel; faster on CPUs and tensor cores, not offered on MPS."""
        return self.device.type != "mps"

    def autocast(self) -> AbstractContextManager[None]:
        """Compute in the chosen precision inside the block."""
        context: AbstractContextManager[None] = self.fabric.autocast()
        return context

    def place(self, network: torch.nn.Module) -> torch.nn.Module:
        """Move a network to the device in the memory format that suits it."""
        network = network.to(self.device)
        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)
        return network

    def describe(self) -> dict[str, object]:
        """Device, precision, threads and hardware, for the run card."""
        return {
            "device": self.device.type,
            "precision": self.precision,
            "threads": self.threads,
            "processes": self.fabric.world_size,
            "deterministic": self.deterministic,
            "hardware": hardware(self.device),
        }


def make_runtime(
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    *,
    threads: int | None = None,
    deterministic: bool = True,
) -> Runtime:
    """Choose device, precision and threads.

    Args:
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        precision: ``auto`` takes bf16 where the hardware multiplies it natively, else fp32.
        threads: CPU threads; ``None`` takes the cores this process may use.
        deterministic: Ask CUDA for algorithms that repeat to the bit.
    Returns:
        The runtime; torch's thread number is set.
    Raises:
        ConfigError: The device is not there.
    """
    name = _present_device(device)
    threads = threads or available_cores()
    torch.set_num_threads(threads)
    kind: Literal["fp32", "bf16"] = _native_precision(name) if precision == "auto" else precision
    if name == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = not deterministic
        torch.backends.cudnn.deterministic = deterministic
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # what it chose stands on the run card
    fabric = Fabric(accelerator=name, devices=1, precision="bf16-mixed" if kind == "bf16" else "32-true")
    return Runtime(fabric, kind, threads, deterministic)


def _present_device(device: DeviceName) -> str:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present[device]:
        names = ", ".join(name for name, there in present.items() if there)
        raise ConfigError(f"--device {device}: torch {torch.__version__} sees none here. Give one of: {names}, auto.")
    return device


def _native_precision(device: str) -> Literal["fp32", "bf16"]:
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device == "cpu":
        # AVX512_BF16 or AMX; without them bf16 is emulated and slower than fp32.
        flags = torch.backends.cpu.get_cpu_capability(), _cpu_flags()
        return "bf16" if flags[0].startswith("AVX512") and {"avx512_bf16", "amx_bf16"} & flags[1] else "fp32"
    return "fp32"


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a kernel file, not a user's path
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return set()
    return set(line.split())


def available_cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def hardware(device: torch.device) -> str:
    """A name for the processor, such as ``AMD EPYC, 2 cores`` or ``NVIDIA H100 80GB HBM3``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a kernel file, not a user's path
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        model = ""
    return f"{model or platform.processor() or platform.machine()}, {available_cores()} cores"


def versions() -> dict[str, str]:
    """The versions of the libraries that weights depend on, for the run card."""
    import numpy
    import segmentation_models_pytorch
    import timm

    from levelground import __version__

    return {
        "levelground": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "segmentation_models_pytorch": segmentation_models_pytorch.__version__,
        "timm": timm.__version__,
        "numpy": numpy.__version__,
    }


def peak_memory_mib(device: torch.device) -> float:
    """The most memory that was in use so far: the device's where it has its own, else the process's, MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
