"""levelground doctor: what an installation can do, and how to get what is missing."""

import importlib.metadata
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from levelground import __version__
from levelground.cli import main
from levelground.commands import doctor as module
from levelground.commands.doctor import DoctorConfig, doctor


def test_it_says_versions_device_extras_and_cache(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On stdout, so that it can be put into a report; status 0."""
    (tmp_path / "scene.npy").write_bytes(bytes(1 << 20))
    assert main(["doctor", "--cache", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f"levelground {__version__}, Python {sys.version_info.major}.{sys.version_info.minor}" in shown
    assert f"torch {importlib.metadata.version('torch')}" in shown
    assert "Networks run on " in shown and " threads." in shown
    assert "extra export: onnx" in shown
    assert f"cache {tmp_path}: 0.00 GiB, " in shown


def test_what_is_missing_comes_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each extra by its name; extras of those who work on levelground are not listed."""
    installed = module._version
    needed = ["onnx>=1; extra == 'export'", 'nncf>=2 ; extra == "deploy"', "ruff; extra == 'dev'", "numpy>=2"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: needed)
    monkeypatch.setattr(module, "_version", lambda name: "missing" if name in ("nncf", "onnx") else installed(name))
    monkeypatch.setattr(module, "_devices", lambda: iter(()))
    lines = doctor(DoctorConfig())
    assert "extra deploy: nncf missing. pip install 'levelground[deploy]'" in lines
    assert "extra export: onnx missing. pip install 'levelground[export]'" in lines
    assert not [line for line in lines if line.startswith(("extra dev", "extra docs"))]


def test_a_torch_that_cannot_be_loaded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its reason and what to do; the rest is printed all the same."""

    def fail(_device: object) -> object:
        raise ImportError("libtorch_cpu.so: cannot open shared object file\nmore")

    monkeypatch.setattr("levelground.runtime.open_runtime", fail)
    lines = doctor(DoctorConfig())
    assert "torch cannot be loaded: ImportError: libtorch_cpu.so: cannot open shared object file" in lines
    assert any(line.startswith("  Install the pair: pip install") for line in lines)
    assert any(line.startswith("cache ") for line in lines)


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the flag that takes another folder; a cache that is not there yet is none to measure."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(1, 1, 2**30))
    monkeypatch.setattr(module, "_devices", lambda: iter(()))
    lines = doctor(DoctorConfig(cache=tmp_path / "new" / "cache"))
    assert f"cache {tmp_path / 'new' / 'cache'}: 0.00 GiB, 1.0 GiB free there" in lines
    assert "  Little room: give another folder with --cache, or remove what is in this one." in lines
