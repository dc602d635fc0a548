"""Where to compute and how a run is kept going: the flags that several doors share, each typed once."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Computing:
    """Device, precision and threads."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes CUDA, then MPS, then the CPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of multiplications; auto takes bf16 where the hardware has it."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads; None takes all cores. Other numbers of threads give other last bits of the weights."""


@dataclass(frozen=True, config=_STRICT)
class Upkeep:
    """How a run is kept going: loading, processes, exactness, saving."""

    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    """Loader processes; None takes none on a CPU and up to 8 beside a GPU. They change no sample."""
    processes: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Processes that share each batch, one device each; None takes one, or as many as torchrun started."""
    deterministic: bool = False
    """On a GPU, only algorithms that give the same bits every time: slower. A CPU always does."""
    save_every: Annotated[float, Field(gt=0)] = 60.0
    """Longest time between two saved states, seconds."""
