"""Where tensors are computed: choices, refusals, and what the card says."""

import os
import sys
from pathlib import Path

import pytest
import torch

from levelground import runtime as module
from levelground.errors import ConfigError
from levelground.runtime import available_cores, hardware, make_runtime, peak_memory_mib, versions

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _threads_stay_as_they_were() -> object:
    """Making a runtime sets torch's threads for the process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_multiplications(precision: str, dtype: torch.dtype) -> None:
    """Inside autocast products have the chosen type; weights stay float32."""
    runtime = make_runtime("cpu", precision)  # type: ignore[arg-type]
    layer = torch.nn.Linear(3, 2)
    with runtime.autocast():
        assert layer(torch.zeros(1, 3)).dtype == dtype
    assert layer.weight.dtype == torch.float32
    assert runtime.precision == precision


def test_auto_takes_what_the_machine_has() -> None:
    """A device that is there, and bf16 only where it is native."""
    runtime = make_runtime()
    assert runtime.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert runtime.precision in ("fp32", "bf16")


@pytest.mark.parametrize(
    ("capability", "flags", "expected"),
    [
        ("AVX512", {"avx512f", "amx_bf16"}, "bf16"),
        ("AVX512", {"avx512_bf16"}, "bf16"),
        ("AVX512", {"avx512f"}, "fp32"),
        ("AVX2", {"avx2"}, "fp32"),
        ("DEFAULT", set(), "fp32"),
    ],
)
def test_bf16_on_a_cpu_needs_its_instructions(
    monkeypatch: pytest.MonkeyPatch, capability: str, flags: set[str], expected: str
) -> None:
    """Without AVX512_BF16 or AMX it is emulated, and slower than fp32."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(module, "_cpu_flags", lambda: flags)
    assert make_runtime("cpu").precision == expected


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names what is there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^--device cuda: torch \S+ sees none here\. Give one of: cpu, auto\.$"):
        make_runtime("cuda")


def test_threads_are_set_and_said() -> None:
    """The card names them: other numbers of threads give other last bits."""
    runtime = make_runtime("cpu", threads=1)
    assert torch.get_num_threads() == runtime.threads == 1
    assert runtime.describe()["threads"] == 1


def test_all_cores_are_the_default() -> None:
    """Those that the process may use, not those that the machine has."""
    assert available_cores() == len(os.sched_getaffinity(0))
    assert make_runtime("cpu").threads == available_cores()


def test_the_card_says_where_a_run_was_made() -> None:
    """Every key that decides the last bits of the weights."""
    card = make_runtime("cpu", "fp32", threads=1).describe()
    assert card == {
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "processes": 1,
        "deterministic": True,
        "hardware": hardware(CPU),
    }
    assert str(card["hardware"]).endswith(f", {available_cores()} cores")


def test_versions_name_what_weights_depend_on() -> None:
    """Library by library."""
    expected = {"levelground", "python", "torch", "segmentation_models_pytorch", "timm", "numpy"}
    assert set(versions()) == expected
    assert versions()["torch"] == torch.__version__


def test_a_network_is_placed_channels_last() -> None:
    """Pixel by pixel in memory, the values unchanged."""
    network = torch.nn.Conv2d(3, 4, 3)
    before = network.weight.detach().clone()
    placed = make_runtime("cpu").place(network)
    assert isinstance(placed, torch.nn.Conv2d)
    assert placed.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(placed.weight, before)


def test_memory_is_measured() -> None:
    """This process has used some tens of MiB at least, and no terabyte."""
    memory = peak_memory_mib(CPU)
    assert memory is not None
    assert 20 < memory < 1e6


def test_memory_is_unknown_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no module ``resource``: the run card holds null, and training goes on."""
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory_mib(CPU) is None


@pytest.mark.parametrize(
    ("started", "asked", "expected"),
    [({}, None, (1, 1)), ({}, 3, (1, 3)), ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, None, (2, 2))],
)
def test_processes_of_our_own_or_of_torchrun(
    monkeypatch: pytest.MonkeyPatch, started: dict[str, str], asked: int | None, expected: tuple[int, int]
) -> None:
    """Machines, and processes on each."""
    for name, value in (started | {"TORCHELASTIC_RUN_ID": "x"} if started else {}).items():
        monkeypatch.setenv(name, value)
    assert module._machines(asked, "cpu") == expected
    if started:
        with pytest.raises(ConfigError, match=r"^--processes 3: torchrun started 4\. Drop the flag\.$"):
            module._machines(3, "cpu")


def test_more_processes_than_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each needs one of its own."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"^--processes 3: there are 2 devices of kind cuda\. Give at most 2\.$"):
        module._machines(3, "cuda")


def test_exact_repetition_is_asked_for_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no such algorithm is refused, not only warned of."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    try:
        module.require_determinism()
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("inside", [False, True])
def test_slurm_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inside: bool) -> None:
    """Where Slurm is installed nothing is said, and inside one of its jobs its tasks are not taken for processes."""
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    job = {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "study", "SLURM_NTASKS_PER_NODE": "4", "SLURM_PROCID": "3"}
    for name, value in (job if inside else {}).items():
        monkeypatch.setenv(name, value)
    runtime = make_runtime("cpu", "fp32", threads=1)  # a warning would be an error here
    assert (runtime.rank, runtime.processes) == (0, 1)
